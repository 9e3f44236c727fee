from collections import OrderedDict

import pytest
import torch
from basicsr.models.video_recurrent_model import VideoRecurrentModel
from tiny_training import run, training
from torch.utils.data import DataLoader

from basicsr_nriqa.random_streams import all_streams, seed_cpu_streams
from basicsr_nriqa.training.loop import TrainingLoop
from basicsr_nriqa.training.state import save_whole


def _weights(loop):
    return loop.model.net_g.weight[0, 0].item()


def test_a_resumed_training_draws_what_the_uninterrupted_one_drew(tmp_path):
    (tmp_path / 'one').mkdir()
    (tmp_path / 'two').mkdir()
    seed_cpu_streams(1)
    drawn = run(training(tmp_path / 'one'), 1, 12)
    seed_cpu_streams(1)
    run(training(tmp_path / 'two'), 1, 7)
    seed_cpu_streams(2)
    loop = training(tmp_path / 'two')
    assert _weights(loop) == 5 and run(loop, 6, 12) == drawn[5:]


def test_validation_does_not_change_what_the_training_draws(tmp_path):
    drawn = []
    for name, freq in (('often', 1), ('never', 1000)):
        (tmp_path / name).mkdir()
        seed_cpu_streams(1)
        loop = training(tmp_path / name, val={'val_freq': freq, 'save_img': False, 'metrics': {'score': {}}})
        drawn.append(run(loop, 1, 5))
        assert loop.model.validated == [iteration for iteration in range(1, 6) if iteration % freq == 0]
    assert drawn[0] == drawn[1]


def test_each_validation_draws_the_same(tmp_path):
    loop, drawn = training(tmp_path), []
    loop.model.validation = lambda *arguments: drawn.append(torch.rand(()).item())
    loop.validate(10)
    torch.rand(3)
    loop.validate(20)
    assert drawn[0] == drawn[1]


def test_the_last_validation_is_done_once(tmp_path):
    loop = training(tmp_path)
    run(loop, 1, 15)
    loop.finish(15)
    assert loop.model.validated == [10, 15]
    again = training(tmp_path)
    again.finish(15)
    assert again.model.validated == []


def test_a_training_goes_on_inside_the_epoch(tmp_path):
    loop = training(tmp_path)
    loop.start_epoch(4)
    for _ in range(2):
        loop.before_step()
        loop.after_step()
    loop.save(4, 8)
    resumed = training(tmp_path)
    assert (resumed.sampler.epoch, resumed.sampler.start, resumed.samples) == (4, 4, 4)
    assert [position for _, position, _ in resumed.sampler] == [4, 5]
    resumed.start_epoch(5)
    assert (resumed.sampler.epoch, resumed.sampler.start, resumed.samples) == (5, 0, 0)


def test_a_validation_that_was_not_completed_is_done_on_resuming(tmp_path, log):
    loop = training(tmp_path)
    loop.save(0, 10)
    loop.model.validation = lambda *arguments: 1 / 0
    with pytest.raises(ZeroDivisionError):
        loop.validate(10)
    resumed = training(tmp_path)
    assert resumed.model.validated == [10] and 'validation of iteration 10 was not completed' in log.text
    assert resumed.model.best_metric_results['val']['score']['iter'] == 10
    again = training(tmp_path)
    assert again.model.validated == [] and again.model.best_metric_results['val']['score']['iter'] == 10


def test_the_best_results_are_those_of_the_checkpoint(tmp_path):
    run(training(tmp_path), 1, 20)
    for name in ('20.state', '20.sha256'):
        (tmp_path / 'training_states' / name).unlink()
    loop = training(tmp_path)
    assert loop.saved == 15 and loop.model.best_metric_results['val']['score']['iter'] == 10
    changed = training(tmp_path, val={'val_freq': 10, 'save_img': False, 'metrics': {
        'score': {'better': 'higher'}, 'niqe': {'better': 'lower'}}})
    assert changed.model.best_metric_results['val']['score']['iter'] == 10
    assert changed.model.best_metric_results['val']['niqe'] == {'better': 'lower', 'val': float('inf'), 'iter': -1}


def test_best_results_of_earlier_versions_are_read(tmp_path):
    loop = training(tmp_path)
    loop.save(0, 10)
    best = {'val': {'score': {'better': 'higher', 'val': 9.5, 'iter': 10}}}
    save_whole(best, tmp_path / 'training_states/10.validated')
    resumed = training(tmp_path)
    assert resumed.model.validated == [] and resumed.model.best_metric_results == best


def test_what_an_older_training_left_does_not_count_for_a_new_checkpoint(tmp_path):
    run(training(tmp_path), 1, 10)
    loop = training(tmp_path)
    loop.save(0, 10)
    assert not (tmp_path / 'training_states/10.validated').exists() and loop.checkpoints.load(
        tmp_path / 'training_states/10.state')['iter'] == 10


@pytest.mark.parametrize('saved, moves', [(3, [False, True, True]), (7, [True, True])])
def test_basicsrs_recurrent_model_fixes_its_flow_also_when_resumed(tmp_path, saved, moves):
    loop = training(tmp_path)
    loop.save(0, saved)
    model = VideoRecurrentModel.__new__(VideoRecurrentModel)
    model.net_g = torch.nn.Sequential(OrderedDict(spynet=torch.nn.Linear(2, 2), rest=torch.nn.Linear(2, 2)))
    model.optimizer_g = torch.optim.SGD(model.net_g.parameters(), 1.)
    model.lq, model.gt = torch.ones(1, 2), torch.zeros(1, 2)
    model.cri_pix, model.cri_perceptual = torch.nn.L1Loss(), None
    model.fix_flow_iter, model.ema_decay, model.opt = 5, 0, {'dist': False}
    TrainingLoop(loop.opt, model, DataLoader(range(6)), loop.sampler, [], None,
                 loop.checkpoints.load(loop.checkpoints.state_file(saved)))
    for iteration, moved in enumerate(moves, saved + 1):
        before = model.net_g.spynet.weight.clone()
        model.optimize_parameters(iteration)
        assert (not torch.equal(before, model.net_g.spynet.weight)) == moved


def test_a_state_of_basicsr_is_resumed_with_a_warning(tmp_path, log):
    loop = training(tmp_path)
    loop.model.save(2, 10)  # as without the loop: no place in the data, no random streams
    resumed = training(tmp_path)
    assert 'does not have manual_seed, rng, samples' in log.text
    assert (resumed.sampler.epoch, resumed.sampler.start, resumed.saved) == (2, 0, 10)
    run(resumed, 11, 12)


def test_other_numbers_of_processes_are_resumed_with_a_warning(tmp_path, log):
    loop = training(tmp_path)
    loop.world_size = 2
    loop._streams_of_all_ranks = lambda: [all_streams(), all_streams()]
    loop.save(0, 10)
    drawn = run(loop, 11, 11)
    assert run(training(tmp_path), 11, 11) == drawn, 'there is a rank 0 in both'
    assert 'that of 2 processes, and now there are 1' in log.text


def _end(root, last, total, **changes):
    """A training, or its continuation, whose loop has come to the last iteration; returns the loop."""
    loop = training(root, train={'total_iter': total}, **changes)
    run(loop, (loop.saved or 0) + 1, last)
    loop.finish(last)
    return loop


@pytest.mark.parametrize('val_freq', [10, 7, 1000])
def test_the_end_is_a_checkpoint_that_can_be_extended(tmp_path, log, val_freq):
    options = {'val': {'val_freq': val_freq, 'save_img': False, 'metrics': {'score': {'better': 'higher'}}},
               'logger': {'keep_last': 1}}
    seed_cpu_streams(1)
    loop = _end(tmp_path, 7, 7, **options)
    assert loop.checkpoints.iterations() == loop.checkpoints.iterations('sha256') == [7]
    assert loop.checkpoints.validated(7)['best_metric_results']['val']['score']['iter'] == 7
    assert loop.model.validated == [7] and log.text.count('Saving models') == 1
    again = _end(tmp_path, 7, 7, **options)
    assert again.model.validated == [] and log.messages[-1] == (
        'The training is complete: iteration 7 of 7. Raise train:total_iter to go on.')
    log.clear()
    longer = _end(tmp_path, 9, 9, **options)
    assert _weights(longer) == 9 and longer.checkpoints.iterations() == [9] and 'is complete' not in log.text


def test_a_regular_checkpoint_at_the_end_is_the_only_one(tmp_path, log):
    saved = []
    loop = training(tmp_path, train={'total_iter': 10}, val=None)
    loop.save = lambda epoch, iteration, save=loop.save: (saved.append(iteration), save(epoch, iteration))
    for iteration in range(1, 11):
        loop.after_step()
        if iteration % 5 == 0:
            loop.save(0, iteration)
    loop.finish(10)
    assert saved == [5, 10]
    _end(tmp_path, 10, 8)
    assert 'The training is complete: iteration 10 of 8.' in log.text
    assert loop.checkpoints.iterations() == [5, 10]
