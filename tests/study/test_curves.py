import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch.utils.tensorboard import SummaryWriter

from basicsr_nriqa.study.curves import grouped, read_curves, thin_out


def log(folder, events, suffix=''):
    """One session of a training: `{tag: {iteration: value}}`; returns its file."""
    before = set(folder.glob('*'))
    with SummaryWriter(str(folder), filename_suffix=suffix) as writer:
        for tag, values in events.items():
            for iteration, value in values.items():
                writer.add_scalar(tag, value, iteration)
    return (set(folder.glob('*')) - before).pop()


def read(folder):
    series = read_curves(folder, model='VRT', loss='NIMA').series
    return {tag: dict(zip(iterations.tolist(), values.tolist())) for tag, (iterations, values) in series.items()}


def test_what_was_logged_is_read(tmp_path):
    log(tmp_path, {'losses/l_pix': {10: 0.5, 20: 0.25}, 'metrics/REDS/psnr': {20: 30.0}, 'grad_norm': {10: np.inf}})
    curves = read_curves(tmp_path, model='VRT', loss='NIMA')
    assert (curves.model, curves.loss) == ('VRT', 'NIMA')
    assert read(tmp_path) == {'losses/l_pix': {10: 0.5, 20: 0.25}, 'metrics/REDS/psnr': {20: 30.0},
                              'grad_norm': {10: np.inf}}


def test_after_a_resume_the_past_that_was_given_up_is_gone(tmp_path):
    first = {'losses/l_pix': {10: 1.0, 20: 2.0, 30: 3.0, 40: 4.0}, 'metrics/REDS/psnr': {20: 20.0, 40: 40.0}}
    log(tmp_path, first)
    # it goes on from a checkpoint of iteration 20, whose validation is done again
    log(tmp_path, {'metrics/REDS/psnr': {20: 21.0}, 'losses/l_pix': {30: 33.0}}, '.resumed')
    assert read(tmp_path) == {'losses/l_pix': {10: 1.0, 20: 2.0, 30: 33.0}, 'metrics/REDS/psnr': {20: 21.0}}


def test_the_end_of_a_file_may_be_torn(tmp_path):
    file = log(tmp_path, {'l_pix': {i: float(i) for i in range(20)}})
    file.write_bytes(file.read_bytes()[:-7])
    assert read(tmp_path) == {'l_pix': {i: float(i) for i in range(19)}}


def test_a_training_that_logged_nothing_has_no_curves(tmp_path):
    SummaryWriter(str(tmp_path)).close()
    assert read(tmp_path) == {}


def test_a_folder_without_event_files_is_named(tmp_path):
    with pytest.raises(ValueError, match=rf'{tmp_path}.*no TensorBoard event file'):
        read_curves(tmp_path, model='VRT', loss='NIMA')


@given(arrays.arrays(np.float64, st.integers(1, 2000), elements=st.floats(allow_infinity=False, width=32)),
       st.integers(4, 400))
def test_thinning_keeps_the_ends_and_the_extremes(values, points):
    iterations = np.arange(len(values)) * 3
    kept, kept_values = thin_out(iterations, values, points)
    assert len(kept) <= points
    assert (np.diff(kept) > 0).all()
    np.testing.assert_array_equal(values[kept // 3], kept_values)
    assert {0, iterations[-1]} <= set(kept.tolist())
    if len(values) <= points:
        assert len(kept) == len(values)
    elif not np.isnan(values).all():
        assert np.nanmin(kept_values) == np.nanmin(values)
        assert np.nanmax(kept_values) == np.nanmax(values)


def test_a_long_training_is_thinned(tmp_path):
    log(tmp_path, {'l_pix': {i: float(i == 617) for i in range(1000)}})
    curve = read(tmp_path)['l_pix']
    assert len(curve) <= 300
    assert curve[617] == 1


def test_tags_are_grouped_into_charts():
    tags = ['losses/l_pix', 'losses/l_total', 'w_pix', 'g_pix', 'grad_norm', 'cos_a~b', 'cosines/c~d', 'cos_min',
            'metrics/REDS/psnr', 'skipped', 'lr']
    groups = {title: list(members) for title, members in grouped(dict.fromkeys(tags)).items()}
    assert groups == {'Loss values': ['pix', 'total'], 'Weights of the losses': ['pix'],
                      'Gradient norms': ['pix', 'grad_norm'], 'Validation scores': ['REDS/psnr'],
                      'Cosines of gradients': ['a~b', 'c~d', 'min'], 'Learning rate': ['lr'], 'Other': ['skipped']}
