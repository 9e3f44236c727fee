"""What options make fails: the error is one of these options, whoever raised it."""
import logging

import pytest
import torch
from basicsr.models import build_model
from test_training_step import batch, step
from test_video_iqa_model import prepared  # noqa: F401

from basicsr_nriqa import launch
from basicsr_nriqa.models.option_errors import made_from, used_on
from basicsr_nriqa.options import OptionsError


@pytest.mark.parametrize('changes, words', [
    ({'network_g': {'type': 'BasicVSRPP', 'mid_channels': 12}}, 'network_g: .*multiple of 8'),
    ({'train__pixel_opt': {'type': 'CharbonnierLoss', 'reduction': 'average'}}, 'train:pixel_opt: .*average'),
    ({'train__optim_g': {'type': 'Adam', 'lr': 1e-4, 'betas': [0.9, 2]}}, 'train:optim_g: .*beta'),
    ({'train__scheduler': {'type': 'CosineAnnealingRestartLR', 'periods': [4], 'restart_weights': [1, 1]}},
     'train:scheduler: .*restart_weights'),
    ({'model_type': 'ISeeBetterModel', 'train__optim_d': {'type': 'Adam', 'lr': 1e-4},
      'network_d': {'type': 'VGGStyleDiscriminator', 'num_in_ch': 3, 'num_feat': 8, 'input_size': 64}},
     'network_d: .*input size must be 128 or 256')])
def test_what_a_constructor_refuses_is_named_with_its_option(prepared, changes, words):  # noqa: F811
    changes.setdefault('network_g', {'type': 'BasicVSRPP', 'mid_channels': 8, 'num_blocks': 1})
    with pytest.raises(OptionsError, match=words):
        build_model(prepared(**changes))


@pytest.mark.parametrize('error, kept', [
    (TypeError("unsupported operand type(s) for +: 'int' and 'NoneType'"), True), (AssertionError(), True),
    (ValueError('num_feat must be even'), False)], ids=['a defect', 'says nothing', 'says what is wrong'])
def test_a_defect_of_a_constructor_keeps_its_traceback(monkeypatch, caplog, error, kept):
    monkeypatch.setattr(logging.getLogger('basicsr'), 'propagate', True)
    with pytest.raises(OptionsError, match='network_g: Theirs cannot be made'), made_from('network_g', 'Theirs'):
        raise error
    assert ('Traceback' in caplog.text) == kept


def test_too_little_memory_is_no_error_of_options():
    with pytest.raises(RuntimeError, match='allocate'), made_from('network_g', 'Theirs'):
        torch.empty(2**50)
    with pytest.raises(MemoryError), used_on('network_g', 'Theirs', 'LR', 'Less.'):
        raise MemoryError


def test_a_network_of_images_is_refused_and_its_traceback_kept(prepared, monkeypatch, caplog):  # noqa: F811
    monkeypatch.setattr(logging.getLogger('basicsr'), 'propagate', True)
    model = build_model(prepared(network_g={'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 4,
                                            'num_block': 1, 'num_grow_ch': 4}))
    with pytest.raises(OptionsError, match=r'network_g: RRDBNet fails on LR of shape \(2, 2, 3, 16, 16\): .* clips'):
        step(model, batch())
    assert 'rrdbnet_arch.py' in caplog.text


def test_an_output_of_another_size_than_gt_is_refused(prepared):  # noqa: F811
    model, data = build_model(prepared()), batch()
    data['gt'] = data['gt'][..., ::2, ::2]
    with pytest.raises(OptionsError, match=r'network_g: BasicVSRPP makes \(2, 2, 3, 64, 64\) of LR .* scale has to be'):
        step(model, data)


def test_a_loss_of_other_arguments_is_refused(prepared):  # noqa: F811
    model = build_model(prepared(train__iqa_opt={'real': {'type': 'GANLoss', 'gan_type': 'vanilla'}}))
    with pytest.raises(OptionsError, match=r'train:iqa_opt:real: GANLoss fails on output and GT .* one number'):
        step(model, batch())


def test_a_metric_that_fails_is_named(prepared):  # noqa: F811
    model = build_model(prepared())
    metric = {'type': 'calculate_psnr', 'crop_border': 0, 'input_order': 'CWH'}  # the check of options would refuse it
    frames = batch()['gt'][0]
    with pytest.raises(OptionsError, match='val:metrics:sharp: calculate_psnr fails on a frame: Wrong input_o'):
        model._scores({'sharp': metric}, frames, frames)


@pytest.mark.parametrize('seed', ['five', -1, 2**32, True])
def test_a_bad_seed_is_refused(prepared, seed):  # noqa: F811
    with pytest.raises(OptionsError, match='manual_seed: expected a whole number'):
        prepared(manual_seed=seed)


def test_what_fails_later_is_no_error_of_options(prepared):  # noqa: F811
    model = step(build_model(prepared()), batch())
    model.losses['pix'].forward = None
    with pytest.raises(TypeError):
        step(model, batch(), 2)


@pytest.mark.parametrize('error', [None, torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 GiB.'),
                                   MemoryError('Unable to allocate 9 GiB'), MemoryError()])
def test_too_little_memory_says_what_needs_less(capfd, error):
    def pipeline(root):
        if error:
            raise error
        torch.empty(2**50)

    with pytest.raises(SystemExit) as left:
        launch._run(pipeline, '.')
    told = capfd.readouterr().err
    assert left.value.code == 1 and 'Traceback' not in told
    assert told.startswith('error: out of memory') and 'batch_size_per_gpu' in told
    assert 'allocate' in told or '(MemoryError)' in told
