"""The guard's decisions on numbers; trainings with it are in test_guarded_training.py."""
import math
from types import SimpleNamespace

import cv2
import pytest
import torch
from basicsr.losses import build_loss

from basicsr_nriqa.models.guard import Guard
from basicsr_nriqa.models.guard_findings import Look
from basicsr_nriqa.models.guard_options import GuardOptions, guard_problems
from basicsr_nriqa.options import OptionsError
from basicsr_nriqa.training.state import CheckpointError


def _guard(folder='.', no_reference=('nima',), **options):
    """One that knows the start: a PSNR of 30 on two sets."""
    guard = Guard(GuardOptions(**{'anchors': {'psnr': 1}, 'least_kept': None, 'spectrum': False, **options}),
                  {'psnr': False}, {}, no_reference, folder)
    assert _judged(guard, 0, 30, 30)
    return guard


def _judged(guard, iteration, *psnrs, tb_logger=None):
    for index, psnr in enumerate(psnrs):
        guard.take(iteration, f'set_{index}', {'a': {'psnr': psnr - 1}, 'b': {'psnr': psnr + 1}}, {})
    return guard.judge(iteration, tb_logger)


def test_one_failed_set_is_a_failed_validation_and_stops():
    guard = _guard()
    assert _judged(guard, 10, 29.8, 35) and (guard.good, guard.stopped) == (10, None)
    assert not _judged(guard, 20, 31, 29.6)
    assert (guard.good, guard.stopped, guard.factor) == (10, 20, 1)


def test_patience_counts_failures_in_a_row():
    guard = _guard(patience=2)
    for iteration, psnr in enumerate((29, 30, 29, 30, 29), 1):
        _judged(guard, iteration, psnr, 30)
        assert guard.stopped is None
    _judged(guard, 6, 29, 30)
    assert guard.stopped == 6 and guard.good == 4


def test_lowering_goes_on_and_is_patient_again():
    guard = _guard(patience=2, action='lower', factor=0.25)
    factors = []
    for iteration in range(1, 6):
        _judged(guard, iteration, 29, 29)
        factors.append(guard.factor)
    assert factors == [1, 0.25, 0.25, 0.0625, 0.0625] and guard.stopped is None and guard.good == 0
    gradient = torch.ones(2)
    assert guard.weigh('nima', gradient).tolist() == [0.0625, 0.0625] and guard.weigh('pix', gradient) is gradient


def test_a_restored_guard_decides_as_the_one_that_was_saved(tmp_path):
    options = {'patience': 3, 'action': 'lower', 'factor': 0.5}
    guard = _guard(**options)
    _judged(guard, 1, 29, 29)
    torch.save(guard.state_dict(), tmp_path / 'state')
    restored = Guard(guard.options, guard.lower_better, {}, ('nima',), '.')
    restored.load_state_dict(torch.load(tmp_path / 'state', weights_only=True))
    restored.check_start({'set_0': ['a', 'b']})
    for iteration, psnr in enumerate((29, 29, 30, 29, 29, 29), 2):
        assert _judged(guard, iteration, psnr) == _judged(restored, iteration, psnr)
        assert restored.state_dict() == guard.state_dict()
    assert guard.factor == 0.25


def test_the_log_and_tensorboard_tell_the_numbers(log):
    scalars = {}
    writer = SimpleNamespace(add_scalar=lambda name, value, iteration: scalars.update({name: (value, iteration)}))
    _judged(_guard(action='lower'), 7, 27, 33, tb_logger=writer)
    assert scalars == {'guard/set_0/psnr_worse': (pytest.approx(10), 7), 'guard/factor': (0.5, 7),
                       'guard/set_1/psnr_worse': (pytest.approx(-10), 7), 'guard/failures_in_a_row': (0, 7)}
    assert 'Guard, set_0: failed. psnr is 10.00 % worse than at the start, 27 after 30 (may be 1 % worse).' in log.text
    assert 'Guard, set_1: passed. psnr is 10.00 % better' in log.text
    assert 'the weights of nima are 0.5 times those of the options' in log.text


def test_clips_are_spread_evenly_and_stay_those_of_the_start():
    guard = _guard(spectrum=True, clips=3)
    clips = [f'{number:02}' for number in range(10)]
    assert guard.watched(0, 'set_0', clips) == {'00', '03', '06'} and guard.watched(0, 'set_0', ['a']) == {'a'}
    guard.start['set_0']['clips'] = {'01': {}}
    assert guard.watched(5, 'set_0', clips) == {'01'}
    with pytest.raises(OptionsError, match=r'set_0 lacks clips that .* when the training started: 01'):
        guard.watched(5, 'set_0', clips[2:])
    with pytest.raises(OptionsError, match='new was no validation set when this training started'):
        guard.watched(5, 'new', clips)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(OptionsError, match='lower is for losses that are no-reference metrics'):
        _guard(action='lower', no_reference=())
    guard = _guard()
    guard.options = GuardOptions(anchors={'ssim': 1})
    with pytest.raises(OptionsError, match='what anchors:ssim, spectrum asks for was not measured'):
        guard.check_start({'set_0': ['a', 'b']})
    with pytest.raises(OptionsError, match='val:guard:anchors:ssim: it compares with GT, and no validation'):
        guard.judge(0)
    small = {'folder': 'a', 'frames': ['im1']}
    with pytest.raises(OptionsError, match='the frames of set_0 have 100x63 px, and 64 px a side are needed'):
        _guard(spectrum=True).look(0, 'set_0', small, torch.zeros(1, 3, 63, 100))


def test_frames_of_the_start_are_kept_to_the_bit(tmp_path):
    guard = _guard(tmp_path, spectrum=True)
    frames = torch.randint(0, 256, (11, 3, 64, 80))
    names = ['im', *(f'im-{number}' for number in range(1, 11))]  # with the suffix, im.png would come last
    look = guard.look(0, 'set_0', {'folder': '00001/0266', 'frames': names}, frames / 255)
    guard.start['set_0']['clips']['00001/0266'] = {'scores': {}, 'digest': look.digest}
    assert torch.equal(guard.frames.read('set_0', '00001/0266'), frames)
    saved = cv2.imread(str(tmp_path / 'set_0/00001/0266/im-10.png'))
    assert torch.equal(torch.from_numpy(saved).flip(-1).permute(2, 0, 1), frames[10])
    with pytest.raises(OptionsError, match=r'00001/0266 of set_0 is now \(9, 3, 64, 80\) .* was \(11, 3, 64, 80\)'):
        guard.look(1, 'set_0', {'folder': '00001/0266', 'frames': names}, frames[:9] / 255)
    assert look.spectrum.result()['identical'] and look.digest == guard.frames.digest('set_0', '00001/0266')
    (tmp_path / 'set_0/00001/0266/im-3.png').unlink()
    with pytest.raises(CheckpointError, match='00001/0266: missing or damaged'):
        guard.look(1, 'set_0', {'folder': '00001/0266', 'frames': names}, frames / 255)


def test_frames_that_cannot_be_written_are_one_clear_error(tmp_path):
    (tmp_path / 'set_0').write_text('in the way')
    with pytest.raises(CheckpointError, match=r'set_0/a: cannot be written \(Not a directory\)\. .* Make room'):
        _guard(tmp_path, spectrum=True).look(0, 'set_0', {'folder': 'a', 'frames': ['im1']}, torch.zeros(1, 3, 64, 64))


def test_a_start_without_a_score_is_refused():
    guard = Guard(GuardOptions(anchors={'psnr': 1}, spectrum=False), {'psnr': False}, {'nima': {}}, ('nima',), '.')
    guard.take(0, 'set_0', {'a': {'psnr': math.nan}}, {})
    with pytest.raises(OptionsError, match='val:guard:anchors:psnr: the score of the start network on set_0 is NaN'):
        guard.judge(0)
    guard.take(0, 'set_0', {'a': {'psnr': math.inf}}, {'a': Look({'nima': {'none': 5., 'jpeg': math.nan}})})
    with pytest.raises(OptionsError, match=r'val:guard:least_kept \(of nima\): .* on set_0 is NaN'):
        guard.judge(0)


def test_sets_that_are_not_those_of_the_start_are_missed_before_a_resumed_training_goes_on():
    guard = _guard()
    guard.check_start({'set_1': ['a', 'b']})
    with pytest.raises(OptionsError, match='new was no validation set when this training started'):
        guard.check_start({'set_0': ['a', 'b'], 'new': ['a']})
    guard.start['set_1']['means'] = {}  # without GT
    with pytest.raises(OptionsError, match='what anchors:psnr asks for was not measured'):
        guard.check_start({'set_1': ['a', 'b']})


@pytest.mark.parametrize('guard, words', [
    (True, 'val:guard: expected options such as'),
    ({'anchor': {}}, "val:guard:anchor: unknown option (did you mean 'anchors'?)."),
    ({'anchors': ['psnr']}, "val:guard:anchors: expected numbers by name, such as {psnr: 1}, got ["),
    ({'anchors': {'pnsr': 1}}, "val:guard:anchors:pnsr: val:metrics has no such entry (did you mean 'psnr'?)."),
    ({'anchors': {'psnr': -1}}, 'val:guard:anchors:psnr: in percent, expected a number, 0 or more, got -1.'),
    ({'anchors': {'psnr': math.nan}}, 'val:guard:anchors:psnr: in percent, expected a number, 0 or more, got nan.'),
    ({'least_kept': 55}, 'val:guard:least_kept: expected a number from 0 to 1, got 55.'),
    ({'spectrum': None}, 'val:guard:spectrum: expected true or false, got None.'),
    ({'clips': 0}, 'val:guard:clips: expected a whole number, 1 or more, got 0.'),
    ({'patience': True}, 'val:guard:patience: expected a whole number, 1 or more, got True.'),
    ({'action': 'halt'}, "val:guard:action: expected stop or lower, got 'halt'."),
    ({'action': ['stop']}, "val:guard:action: expected stop or lower, got ['stop']."),
    ({'factor': 1}, 'val:guard:factor: expected a number above 0 and below 1, got 1.'),
    ({'least_kept': None, 'spectrum': False}, 'val:guard: there is nothing to check'),
])
def test_problems_of_the_options_are_named(guard, words):
    opt = {'val': {'guard': guard, 'metrics': {'psnr': {}}}, 'datasets': {'val': {}}}
    assert any(f'{where}: {problem}'.startswith(words) for where, problem in guard_problems(opt)), guard_problems(opt)


def test_options_that_are_fine():
    opt = {'val': {'guard': {'anchors': {'psnr': 0}, 'least_kept': None, 'spectrum': False, 'action': 'lower'},
                   'metrics': {'psnr': {}}}, 'datasets': {'val_2': {}}}
    assert guard_problems(opt) == [] and guard_problems({**opt, 'val': None}) == []
    assert guard_problems({**opt, 'datasets': {}}) == [('val:guard', 'needs a validation set (datasets:val).')]
    same = {phase: {'name': 'one'} for phase in ('train', 'val', 'val_2')}
    (where, problem), = guard_problems({**opt, 'datasets': same})
    assert where == 'datasets:val_2:name' and "another validation set is called 'one', too" in problem


def test_optimised_metrics_are_measured_as_val_metrics_says(tmp_path):
    losses = {'pix': build_loss({'type': 'CharbonnierLoss'}),
              'a': build_loss({'type': 'IQALoss', 'metric': 'tinyiqa', 'loss_weight': -1}),
              'b': build_loss({'type': 'IQALoss', 'metric': 'gmsd', 'loss_weight': 1})}
    opt = {'val': {'guard': {}, 'metrics': {'own': {'type': 'calculate_iqa', 'metric': 'tinyiqa', 'batch': 2,
                                                    'better': 'higher', 'weights': 'w'}}},
           'train': {'iqa_opt': {}}, 'path': {'experiments_root': str(tmp_path)}}
    guard = Guard.of(opt, losses, {'own': False})
    assert guard.optimised == {'tinyiqa': {'weights': 'w'}} and list(guard.no_reference) == ['a']
    opt['val'] |= {'metrics': None}
    opt['train']['iqa_opt'] = {'a': {'weights': 'of the loss'}}
    assert Guard.of(opt, losses, {}).optimised == {'tinyiqa': {'weights': 'of the loss'}}
    members = {'tinyiqa': {'weights': 'of the member'}, 'gmsd': {'loss_weight': 1}}
    opt['train']['iqa_opt'] = {'a': {'type': 'IQAEnsembleLoss', 'metrics': members, 'loss_weight': -1}}
    ensemble = build_loss({'type': 'IQAEnsembleLoss', 'metrics': {'tinyiqa': {}, 'gmsd': {'loss_weight': 1}},
                           'loss_weight': -1})
    assert Guard.of(opt, {'a': ensemble}, {}).optimised == {'tinyiqa': {'weights': 'of the member'}}
    opt['train'] = {'pixel_opt': {'weights': 'of the loss'}}
    assert Guard.of(opt, {'pix': losses['a']}, {}).optimised == {'tinyiqa': {'weights': 'of the loss'}}
    opt['val']['guard'] = {'least_kept': None}
    assert Guard.of(opt, losses, {}).optimised == {}
    assert Guard.of({'val': None}, losses, {}) is None
