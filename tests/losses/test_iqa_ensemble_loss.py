import copy
import math
import sys
from itertools import combinations

import pytest
import torch
from basicsr.data import build_dataset
from basicsr.losses import build_loss
from basicsr.models import build_model
from basicsr.utils.options import parse_options

from basicsr_nriqa.iqa import MetricError
from basicsr_nriqa.losses import metrics_of
from basicsr_nriqa.options import OptionsError

MEMBERS = {'tinyiqa': {'loss_weight': -0.5}, 'ssim': {'loss_weight': -0.2},
           'edges': {'metric': 'gmsd', 'loss_weight': 2}, 'smooth': {'type': 'TotalVariationLoss', 'loss_weight': 0.1}}
ALONE = [{'type': 'IQALoss', 'metric': 'tinyiqa', 'loss_weight': -0.5},
         {'type': 'IQALoss', 'metric': 'ssim', 'loss_weight': -0.2},
         {'type': 'IQALoss', 'metric': 'gmsd', 'loss_weight': 2}, MEMBERS['smooth']]


def _ensemble(metrics=MEMBERS, **options):
    return build_loss({'type': 'IQAEnsembleLoss', 'metrics': copy.deepcopy(metrics), **options})


def _clips():
    return torch.rand(1, 2, 3, 40, 48, requires_grad=True), torch.rand(1, 2, 3, 40, 48)


def _value_and_gradient(loss, output, target):
    value = loss(output, target)
    return value.detach(), torch.autograd.grad(value, output)[0]


def test_all_of_them_are_the_sum_and_nothing_is_drawn():
    (output, target), loss = _clips(), _ensemble(per_step=4)
    generator = torch.get_rng_state()
    value, gradient = _value_and_gradient(loss, output, target)
    assert torch.equal(torch.get_rng_state(), generator)
    expected = sum(build_loss(options)(output, target) for options in ALONE)
    assert torch.equal(value, expected.detach())
    assert torch.equal(gradient, torch.autograd.grad(expected, output)[0])


@pytest.mark.parametrize('per_step', [1, 2, 3])
def test_the_mean_over_all_draws_is_the_sum(per_step):
    output, target = _clips()
    whole, loss = _value_and_gradient(_ensemble(per_step=4), output, target), _ensemble(per_step=per_step)
    found = {}
    for _ in range(80):  # each of the 4 or 6 draws comes up, and its value tells it
        value, gradient = _value_and_gradient(loss, output, target)
        found[value.item()] = value, gradient
    assert len(found) == math.comb(4, per_step)
    for expected, each in zip(whole, zip(*found.values())):
        torch.testing.assert_close(sum(each) / len(each), expected, rtol=1e-5, atol=1e-7)


def test_members_are_drawn_without_replacement_and_equally_often():
    loss, counts = _ensemble({'a': {'type': 'TotalVariationLoss', 'loss_weight': 1},
                              'b': {'type': 'TotalVariationLoss', 'loss_weight': 100},
                              'c': {'type': 'TotalVariationLoss', 'loss_weight': 10000}}, per_step=2), {}
    image = torch.rand(1, 3, 4, 4)
    unit = build_loss({'type': 'TotalVariationLoss', 'loss_weight': 1})(image)
    for _ in range(300):
        drawn = round((loss(image) / unit).item() * 2 / 3)
        counts[drawn] = counts.get(drawn, 0) + 1
    assert set(counts) == {101, 10001, 10100} and min(counts.values()) > 70


def test_the_seed_repeats_value_and_gradient():
    output, target = _clips()
    loss, runs = _ensemble(frames=1), []
    for _ in range(2):
        torch.manual_seed(3)
        runs.append([_value_and_gradient(loss, output, target) for _ in range(8)])
    for one, other in zip(*runs):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    assert len({value.item() for value, _ in runs[0]}) > 3


def test_the_distance_from_the_best_is_that_of_the_drawn():
    output, target = _clips()
    loss = _ensemble(per_step=2)
    alone = [build_loss(options) for options in ALONE]
    distances = [one.deficit(one(output, target)).item() if hasattr(one, 'deficit') else one(output, target).item()
                 for one in alone]
    pairs = {round(2 * (one + other), 5) for one, other in combinations(distances, 2)}
    seen = {round(loss.deficit(loss(output, target)).item(), 5) for _ in range(60)}
    assert seen <= pairs and len(seen) == len(pairs) and min(seen) > 0
    loss = _ensemble(per_step=4)
    assert loss.deficit(loss(output, target)).item() == pytest.approx(sum(distances), rel=1e-5)


def test_defaults_reach_the_members_that_have_them():
    loss = _ensemble({'tinyiqa': None, 'ssim': {'frames': 'all', 'loss_weight': -0.3},
                      'smooth': {'type': 'TotalVariationLoss'}}, frames=2, chunk=1, loss_weight=-0.7)
    tiny, ssim, smooth = loss.members
    assert (tiny.frames, tiny.chunk, tiny.loss_weight) == (2, 1, -0.7)
    assert (ssim.frames, ssim.chunk, ssim.loss_weight) == ('all', 1, -0.3)
    assert smooth.loss_weight == 2e-8


def test_metrics_of_losses():
    names = [info.name for info in metrics_of(_ensemble())]
    assert names == ['tinyiqa', 'ssim', 'gmsd']
    nested = _ensemble({'all': {'type': 'IQAEnsembleLoss', 'metrics': MEMBERS}, 'ssim': {'loss_weight': -1}})
    assert [info.name for info in metrics_of(nested)] == [*names, 'ssim']
    assert [info.name for info in metrics_of(build_loss(ALONE[0]))] == ['tinyiqa']
    assert metrics_of(build_loss(MEMBERS['smooth'])) == []


def test_members_stay_frozen_and_in_no_state():
    loss = _ensemble().train()
    assert not loss.state_dict() and not list(loss.parameters())
    assert loss.double().members[0](torch.rand(1, 3, 32, 32).double()).dtype == torch.float64


WRONG = [
    ({'metrics': None}, 'metrics must be the members'),
    ({'metrics': {}}, 'metrics must be the members'),
    ({'metrics': ['tinyiqa']}, 'metrics must be the members'),
    ({'metrics': {'tinyiqa': -0.5}}, r'metrics:tinyiqa: expected options such as \{metric: maniqa'),
    ({'per_step': 0}, 'per_step must be a whole number from 1 to the number of members, 4, got 0'),
    ({'per_step': 5}, 'per_step must be'),
    ({'per_step': True}, 'per_step must be'),
    ({'per_step': 1.0}, 'per_step must be'),
    ({'per_stpe': 2}, r"IQAEnsembleLoss has no option 'per_stpe' \(did you mean 'per_step'\?\)"),
    ({'metric': 'tinyiqa'}, "IQAEnsembleLoss has no option 'metric'"),
    ({'frames': 0}, 'metrics:tinyiqa: IQALoss: frames must be'),
    ({'metrics': {'best': {'loss_weight': -1}}}, "metrics:best: unknown metric 'best'"),
    ({'metrics': {'tinyiqa': {'loss_weight': 1}}}, 'metrics:tinyiqa: .*would train for worse images'),
    ({'metrics': {'tinyiqa': None}}, 'metrics:tinyiqa: .*no weight in Table I'),
    ({'metrics': {'tinyiqa': {'loss_weight': -1, 'framse': 2}}}, "metrics:tinyiqa: .*no option 'framse'"),
]


@pytest.mark.parametrize('options, message', [
    *WRONG, ({'metrics': {'x': {'type': 'IQALos'}}}, r"metrics:x: no loss is called 'IQALos' \(did you mean 'IQALoss'"),
    ({'metrics': {'x': {'type': ['IQALoss']}}}, 'metrics:x: no loss is called'),
    ({'metrics': {'x': {'type': 'TotalVariationLoss', 'weight': 2}}}, "metrics:x: .*'weight'")])
def test_bad_options_are_refused(options, message):
    with pytest.raises(MetricError, match=message):
        _ensemble(**options)


def test_a_member_that_is_no_loss_of_one_number_is_named():
    loss = _ensemble({'pair': {'type': 'IQAPerceptualLoss', 'metric': 'tinyiqa', 'loss_weight': -1}})
    with pytest.raises(MetricError, match='metrics:pair does not return one number'):
        loss(torch.rand(1, 3, 32, 32))


@pytest.fixture
def parsed(train_options, write_options, monkeypatch, tmp_path):
    """Options of a tiny training with this ensemble, as BasicSR hands them to a model."""
    def parse(ensemble, **train):
        options = copy.deepcopy(train_options)
        options['train'].update(iqa_opt={'some': {'type': 'IQAEnsembleLoss', **ensemble}}, **train)
        monkeypatch.setattr(sys, 'argv', ['train.py', '-opt', str(write_options(options))])
        opt, _ = parse_options(str(tmp_path))
        (tmp_path / 'experiments/tiny/models').mkdir(parents=True)
        return opt
    return parse


@pytest.mark.parametrize('options, message', WRONG)
def test_the_check_of_options_finds_the_same(parsed, options, message):
    with pytest.raises(OptionsError, match=f'train:iqa_opt:some:.*{message}'):
        parsed({'metrics': MEMBERS, **options})


def test_the_check_of_options_sees_each_member(parsed, monkeypatch, tmp_path):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    with pytest.raises(OptionsError) as found:
        parsed({'metrics': {'a': {'type': 'IQALos'}, 'b': {'type': 'IQAPerceptualLoss', 'metric': 'tinyiqa'},
                            'c': {'metric': 'ms_ssim', 'loss_weight': -1}, 'd': {'type': 'TotalVariationLoss', 'w': 1},
                            'e': {'type': 'IQAEnsembleLoss', 'metrics': {'tinyiqa': {'loss_weight': 1}}}}})
    for words in ("metrics:a:type: no loss is called 'IQALos' (did you mean",
                  'metrics:b:type: IQAPerceptualLoss is for', "metrics:c: 'ms_ssim' needs images of at least 176 px",
                  'metrics:d:w: unknown option',
                  'metrics:e:metrics:tinyiqa: IQALoss: loss_weight 1 would'):
        assert f'- train:iqa_opt:some:{words}' in str(found.value)
    with pytest.raises(OptionsError, match=r'some:metrics:maniqa: (.|\n)*ckpt_koniq10k\.pt'):
        parsed({'metrics': {'maniqa': None, **MEMBERS}})


def test_a_training_notes_all_members(parsed):
    opt = parsed({'metrics': MEMBERS, 'per_step': 2, 'frames': 1},
                 balance_opt={'type': 'anchored', 'per': 16, 'trust': 0.5})
    model = build_model(opt)
    batch = next(iter(torch.utils.data.DataLoader(build_dataset(opt['datasets']['train']))))
    before = copy.deepcopy(model.net_g.state_dict())
    for iteration in (1, 2):
        model.feed_data(batch)
        model.optimize_parameters(iteration)
        log = model.get_current_log()
        assert {'l_pix', 'l_some', 'w_pix', 'w_some', 'grad_norm'} <= set(log) and 'skipped' not in log
        assert log['w_pix'] == 1 and 0 < log['w_some'] <= 1
    assert any(not torch.equal(before[name], value) for name, value in model.net_g.state_dict().items())
    model.save(0, 2)
    content = torch.load(f"{opt['path']['models']}/net_g_2.pth", weights_only=True)
    assert content['trained_with']['optimised'] == ['tinyiqa', 'ssim', 'gmsd']
    assert content['trained_with']['loss'] == 'tinyiqa & ssim & gmsd (with anchored)'


@pytest.mark.parametrize('options, words', [
    ({'anchors': ['pxi']}, "train:balance_opt: anchors: there is no loss 'pxi' (did you mean 'pix'?)"),
    ({'anchor': ['pix']}, "train:balance_opt:anchor: unknown option (did you mean 'anchors'?)"),
    ({'per': 'shot'}, 'train:balance_opt:per: expected clip or frame or')])
def test_the_check_of_options_knows_anchors(parsed, options, words):
    with pytest.raises(OptionsError) as found:
        parsed({'metrics': MEMBERS}, balance_opt={'type': 'anchored', **options})
    assert words in str(found.value)
