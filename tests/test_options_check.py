import copy
import sys
from pathlib import Path

import pytest
from basicsr.utils import registry
from basicsr.utils.options import parse_options

from basicsr_nriqa.losses import IQAPerceptualLoss
from basicsr_nriqa.options import OptionsError


@pytest.fixture
def problems(train_options, write_options, monkeypatch, tmp_path):
    """The message for the tiny training's options with some of them changed; '' if they are accepted."""
    def check(**changes):
        options = copy.deepcopy(train_options)
        for place, value in changes.items():
            *parents, last = place.split('__')
            target = options
            for key in parents:
                target = target[key]
            if value is ...:
                del target[last]
            else:
                target[last] = value
        monkeypatch.setattr(sys, 'argv', ['train.py', '-opt', str(write_options(options))])
        try:
            parse_options(str(tmp_path))
        except OptionsError as error:
            assert not (tmp_path / 'experiments').exists()
            return str(error)
        return ''
    return check


def test_the_tiny_training_is_accepted(problems):
    assert problems() == ''


@pytest.mark.parametrize('place, value, words', [
    ('trian', {}, "trian: unknown option (did you mean 'train'?)"),
    ('train__iqa_opt__tinyiqa__loss_weight', 0.1, 'iqa_opt:tinyiqa: IQALoss: loss_weight 0.1 would train for worse'),
    ('train__iqa_opt__tinyiqa', {'type': 'NIMALoss', 'fitt': 'tiles'}, "no option 'fitt' (did you mean 'fit'?)"),
    ('train__iqa_opt__tinyiqa', {'type': 'LPIPSLoss', 'variant': 'squeeze'}, 'variant must be one of alex, vgg'),
    ('train__balance_opt', {'type': 'gradnorm', 'alhpa': 1}, "train:balance_opt:alhpa: unknown option (did you mean"),
    ('val__metrics__tinyiqa', {'type': 'calculate_iqa', 'metric': 'nima', 'fti': 'tiles'}, "no option 'fti'"),
    ('train__iqa_opt__tinyiqa__metric', 'ms_ssim',
     "'ms_ssim' needs images of at least 176 px a side; datasets:train:gt_size is 64"),
    ('train__iqa_opt__tinyiqa', 'LPIPSLoss', "train:iqa_opt:tinyiqa: expected options such as"),
    ('train__iqa_opt', 'LPIPSLoss', 'train:iqa_opt: expected'),
    ('val__metrics__psnr', 'calculate_psnr', 'val:metrics:psnr: expected options such as'),
    ('train__iqa_opt__pix', {'type': 'IQALoss', 'metric': 'ssim', 'loss_weight': -1}, "train:iqa_opt:pix: is the name"),
    ('train__iqa_opt__tinyiqa__type', 'IQAPerceptualLoss', 'IQAPerceptualLoss is for perceptual_opt'),
    ('train__iqa_opt__tinyiqa__metric', ['maniqa'], "expected a name, such as maniqa, got ['maniqa']"),
    ('train__iqa_opt__tinyiqa', {'type': 'MANIQALoss', 'variant': ['kadid']}, 'variant must be one of koniq'),
    ('train__iqa_opt__tinyiqa', {'type': 'MANIQALoss', 'weights': 3}, 'weights must be the path'),
    ('train__iqa_opt__tinyiqa', {'type': 'MANIQALoss', 'num_crops': 0}, 'num_crops must be a positive'),
    ('train__iqa_opt__tinyiqa', {'type': 'MANIQALoss', 'num_crops': 1, 'crops': 'uniform'}, 'top left corner'),
    ('train__iqa_opt__tinyiqa', {'type': 'NIMALoss', 'fit': 'x'}, 'fit must be one of'),
    ('train__iqa_opt__tinyiqa', {'type': 'NIMALoss', 'loss_weight': float('nan')}, 'loss_weight must be a number'),
    ('train__iqa_opt__tinyiqa__frames', -3, 'frames must be'),
    ('train__iqa_opt__tinyiqa__allow_worsening', 'no', "allow_worsening must be true or false, got 'no'"),
    ('train__iqa_opt__tinyiqa__type', ['IQALoss'], "iqa_opt:tinyiqa:type: no loss is called '['IQALoss']' (did you"),
    ('train__iqa_opt__some', {'type': 'IQAEnsembleLoss', 'metrics': {'x': {'type': ['IQALoss']}}},
     "iqa_opt:some:metrics:x:type: no loss is called '['IQALoss']'"),
    ('train__pixel_opt', 'CharbonnierLoss', "train:pixel_opt: expected options such as {type: ..., metric: ssim}, got"),
    ('train__pixel_opt', {'type': 'IQAPerceptualLoss', 'metric': 'tinyiqa', 'loss_weight': -1},
     'train:pixel_opt:type: IQAPerceptualLoss is for perceptual_opt'),
    ('val', ['metrics'], "val: expected options (name: value), got ['metrics']"),
    ('logger', 'tensorboard', "logger: expected options (name: value), got 'tensorboard'"),
    ('network_g__spynet_path', 3, 'network_g:spynet_path: 3: no such file'),
    ('train__balance_opt', {'type': 'gradnrom'}, "train:balance_opt:type: 'gradnrom' is not known (did you mean"),
    ('train__accumulate', 2, 'train:accumulate: 2 parts of equal size cannot be made of'),
    ('train__accumulate', 0, 'train:accumulate: expected a whole number, 1 or more, got 0'),
    ('train__precision', 'fp8', 'train:precision: expected bf16 or fp16'),
    ('train__clip_norm', 0, 'train:clip_norm: expected a number above 0'),
    ('train__skip_limit', 0, 'train:skip_limit: expected a whole number, 1 or more'),
    ('train__ema_decay', 1.0, 'train:ema_decay: expected a number, 0 or more and below 1'),
    ('train__compile', 'fast', 'train:compile: expected true or false or options (name: value), got'),
    ('train__compile', {'mod': 'default'}, "train:compile:mod: unknown option (did you mean 'mode'?)"),
    ('train__optim_g', {'type': 'LBFGS', 'lr': 1}, "'LBFGS' cannot train networks here"),
    ('train__optim_g', {'type': 'Adan', 'lr': 1}, "'Adan' is not known (did you mean 'Adam'?)"),
    ('train__optim_g', {'type': 'Adam'}, 'train:optim_g:lr: expected a number, 0 or more, got None'),
    ('train__optim_g', {'type': 'Muon', 'lr': 1}, "'Muon' "),
    ('train__scheduler', {'type': 'Counter'}, "train:scheduler:type: 'Counter' is not known"),
    ('train__balance_opt', {'type': ['upgrad']}, "train:balance_opt:type: '['upgrad']' is not known"),
    ('train__fix_flow', -3, 'train:fix_flow: expected a whole number, 0 or more'),
    ('train', [1], 'train: expected options (name: value)'),
    ('val__val_freq', 0, 'val:val_freq: expected a number, 1 or more'),
    ('val__scores', {'lose': 'LPIPS'}, "val:scores:lose: unknown option (did you mean 'loss'?)"),
    ('logger__print_freq', 0, 'logger:print_freq: expected a whole number, 1 or more'),
    ('network_d', {'type': 'SRGANDiscriminator'}, 'network_d: VideoIQAModel has no discriminator'),
    ('deterministic', 'yes please', 'deterministic: expected true or false'),
    ('train__balance_opt', {'type': 'gradnorm', 'alpha': -1}, 'train:balance_opt: gradnorm: alpha must be'),
    ('train__iqa_otp', {}, "train:iqa_otp: unknown option (did you mean 'iqa_opt'?)"),
    ('train__total_iter', 'many', "train:total_iter: expected a whole number, 1 or more, got 'many'"),
    ('train__total_iter', True, 'train:total_iter: expected a whole number, 1 or more, got True'),
    ('train__total_iter', ..., 'train:total_iter: is missing'),
    ('train__optim_g__type', 'Adm', "train:optim_g:type: 'Adm' is not known (did you mean 'Adam'?)"),
    ('train__optim_g__beta', 1, "train:optim_g:beta: unknown option (did you mean 'betas'?)"),
    ('train__scheduler__period', [1], "train:scheduler:period: unknown option (did you mean 'periods'?)"),
    ('train__balance_opt', {'type': 'fixd'}, "'fixd' is not known (did you mean 'fixed'?)"),
    ('network_g__type', 'BasicVSRP', "network_g:type: no network is called 'BasicVSRP' (did you mean 'BasicVSRPP'?)"),
    ('network_g__num_block', 3, "network_g:num_block: unknown option (did you mean 'num_blocks'?)"),
    ('network_g__spynet_path', 'spynet.pth', 'network_g:spynet_path: spynet.pth: no such file'),
    ('model_type', 'VideoIQAModle', "no model is called 'VideoIQAModle' (did you mean 'VideoIQAModel'?)"),
    ('datasets__val', {'name': 'x', 'type': 'VideoRecurrentTestDataset', 'phase': 'val', 'dataroot_gt': '.',
                       'dataroot_lq': '.'}, 'datasets:val:type: VideoRecurrentTestDataset does not give whole clips'),
    ('datasets__train__gt_sise', 3, "datasets:train:gt_sise: unknown option (did you mean 'gt_size'?)"),
    ('datasets__train__gt_size', '64', "datasets:train:gt_size: expected a whole number, 1 or more, got '64'"),
    ('datasets__train__batch_size_per_gpu', ..., 'datasets:train:batch_size_per_gpu: is missing'),
    ('datasets__train__dataroot_gt', 'no/x.lmdb', 'datasets:train:dataroot_gt: no/x.lmdb: nothing is there'),
    ('datasets__train__dataroot_gt', 'no/x.lmdb', 'scripts/prepare_vimeo90k.py'),
    ('datasets__val__type', 'ClipTestDatset', "did you mean 'ClipTestDataset'?"),
    ('train__iqa_opt__tinyiqa__metric', 'tinyqa', "unknown metric 'tinyqa' (did you mean 'tinyiqa'?)"),
    ('train__iqa_opt__tinyiqa__type', 'IQALos', "did you mean 'IQALoss'?"),
    ('train__iqa_opt', {'a': {'type': 'MANIQALoss', 'variant': 'konik'}}, 'variant must be one of koniq, pipal, kadid'),
    ('train__pixel_opt__weight', 1, 'train:pixel_opt:weight: unknown option'),
    ('val__metrics__psnr__better', 'more', "expected higher or lower, got 'more'"),
    ('val__metrics__psnr', {'type': 'calculate_pnsr'}, "did you mean 'calculate_psnr'?"),
    ('val__metrics__psnr', {'type': 'calculate_psnr'}, 'val:metrics:psnr:crop_border: is missing'),
    ('val__metrics__tinyiqa__metric', 'ssmi', "unknown metric 'ssmi' (did you mean 'ssim"),
    ('path__pretrain_network_g', 'no.pth', 'path:pretrain_network_g: no.pth: no such file'),
    ('path__pretrained_g', 'no.pth', 'path:pretrained_g: unknown option'),
    ('name', 'my/../exp', "name: 'my/../exp' cannot be the name of a folder"),
    ('datasets__train__persistent_workers', True, 'datasets:train:persistent_workers: needs workers'),
    ('datasets__val__persistent_workers', True, 'datasets:val:persistent_workers: is for training'),
    ('network_g__mid_channels', None, 'network_g:mid_channels: expected a whole number, got None'),
    ('logger__wandb', {'project': 'x'}, 'logger:wandb: the package wandb is not installed'),
    ('val__metrics__psnr__crop_border', 'four', 'val:metrics:psnr:crop_border: expected a whole number, 0 or more'),
    ('val__metrics__psnr__input_order', 'BHWC', 'val:metrics:psnr:input_order: expected HWC or CHW'),
    ('train__perceptual_opt', {'type': 'MANIQALoss'},
     "train:perceptual_opt: is read by BasicSR's models only. Here metrics stand under iqa_opt"),
    ('train__iqa_opt', {'type': 'MANIQALoss'}, 'train:iqa_opt: expected a name for each entry, with its options below'),
    ('train__iqa_opt__tinyiqa', None, 'train:iqa_opt:tinyiqa: is empty. Its options belong below it'),
    ('train__iqa_opt__tinyiqa', {'metric': 'tinyiqa'}, 'train:iqa_opt:tinyiqa:type: is missing.'),
    ('val__metrics__tinyiqa__better', 'lower', "val:metrics:tinyiqa:better: of 'tinyiqa' higher is better"),
    ('val__metrics__tinyiqa', {'type': 'calculate_iqa', 'metric': 'gmsd'},
     "val:metrics:tinyiqa:better: of 'gmsd' lower is better; say `better: lower`"),
    ('train__iqa_opt__tinyiqa', {'type': 'MANIQALoss', 'weights': '/not/there.pt'}, '/not/there.pt'),
    ('num_gpu', 1, 'num_gpu: 1 asked for, but this machine has no usable CUDA device'),
    ('logger__print_freq', ..., 'logger:print_freq: is missing'),
])
def test_problems_are_named(problems, place, value, words, monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    message = problems(**{place: value})
    assert words in message and 'options.yml' in message


def test_all_problems_at_once(problems):
    message = problems(train__total_iter='x', network_g__type='Nothing', val__freq=1)
    assert all(words in message for words in ('train:total_iter', 'Nothing', 'val:freq'))


def test_what_basicsr_reads_first_is_checked_first(problems):
    message = problems(name=..., path=None, datasets__train=3)
    for words in ('name: is missing', 'path: is missing', 'datasets:train: expected options'):
        assert words in message


def test_missing_weights_say_where_they_belong(problems, monkeypatch, tmp_path):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    message = problems(train__iqa_opt__maniqa={'type': 'MANIQALoss'}, num_gpu='none')
    assert 'ckpt_koniq10k.pt' in message and str(tmp_path / 'hub/pyiqa/ckpt_koniq10k.pt') in message


@pytest.mark.parametrize('place, value, words', [
    ('train__iqa_opt', {'x': {'type': 'IQALoss', 'metric': 'tinyiqa', 'loss_weight': -1}}, 'train:iqa_opt: SRModel of'),
    ('train__balance_opt', {'type': 'upgrad'}, 'train:balance_opt: SRModel of BasicSR does not read this'),
    ('train__perceptual_opt', {'type': 'IQALoss', 'metric': 'tinyiqa', 'loss_weight': -1},
     'say `type: IQAPerceptualLoss` and `metric: tinyiqa`'),
    ('train__perceptual_opt', {'type': 'IQAEnsembleLoss', 'metrics': {'tinyiqa': {'loss_weight': -1}}},
     'say `type: IQAPerceptualLoss` and `metric: NAME`'),
    ('val__guard', {'clips': 1}, 'val:guard: SRModel of BasicSR does not read this. `model_type: VideoIQAModel` has')])
def test_what_a_stock_model_would_ignore_in_silence_is_refused(problems, place, value, words):
    message = problems(**{'model_type': 'SRModel', 'train__iqa_opt': ..., place: value})
    assert words in message and message.count('\n-') == 1


def test_a_stock_model_is_told_what_is_not_here(problems, monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    message = problems(model_type='SRModel', train__iqa_opt=..., num_gpu=1, path__pretrain_network_g='no.pth',
                       datasets__train__dataroot_gt='no/x.lmdb')
    for words in ('num_gpu: 1 asked for', 'path:pretrain_network_g: no.pth: no such file',
                  f'datasets:train:dataroot_gt: no/x.lmdb: nothing is there in {Path.cwd()}.'):
        assert words in message


def test_the_sample_is_made_where_the_options_look_for_it(problems):
    message = problems(datasets__val__dataroot_lq='there/vimeo90k_test_LRx4.lmdb')
    assert 'make_sample_data.py -o there' in message


def test_a_file_for_training_is_no_test(train_options, write_options, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, 'argv', ['test.py', '-opt', str(write_options(train_options))])
    with pytest.raises(OptionsError, match='datasets:train: is for training, and a test restores every set'):
        parse_options(str(tmp_path), is_train=False)


def test_options_of_other_peoples_models_are_left_alone(problems):
    assert problems(model_type='SRModel', anything={'goes': 1}, train__own=3, train__iqa_opt=...) == ''
    assert "unknown metric 'nonsense'" in problems(
        model_type='SRModel', train__perceptual_opt={'type': 'IQAPerceptualLoss', 'metric': 'nonsense'})


@pytest.fixture
def theirs():
    """A model, a loss and metrics of another project, registered for a test."""
    class TheirModel:
        pass

    class TheirPerceptualLoss(IQAPerceptualLoss):
        pass

    def their_metric(img, img2):
        return 0.0

    def their_open_metric(img, img2, **options):
        return 0.0
    made = [(registry.MODEL_REGISTRY, TheirModel), (registry.LOSS_REGISTRY, TheirPerceptualLoss),
            (registry.METRIC_REGISTRY, their_metric), (registry.METRIC_REGISTRY, their_open_metric)]
    for classes, one in made:
        classes.register(one)
    yield
    for classes, one in made:
        del classes._obj_map[one.__name__]


def test_what_other_projects_register_is_accepted(problems, theirs):
    loss = {'metric': 'tinyiqa', 'loss_weight': -1}
    assert problems(val__metrics={'one': {'type': 'their_metric', 'better': 'lower'},
                                  'other': {'type': 'their_open_metric', 'window': 3}}) == ''
    assert 'val:metrics:one:window: unknown option' in problems(
        val__metrics={'one': {'type': 'their_metric', 'window': 3}})
    assert problems(model_type='TheirModel', train__iqa_opt=...,
                    train__perceptual_opt={'type': 'IQALoss', **loss}) == ''
    assert problems(model_type='SRModel', train__iqa_opt=...,
                    train__perceptual_opt={'type': 'TheirPerceptualLoss', **loss}) == ''


def test_a_wrong_variant_of_a_perceptual_loss_is_one_of_all_problems(problems):
    message = problems(model_type='SRModel', train__iqa_opt=..., network_g__type='Nothing',
                       train__perceptual_opt={'type': 'MANIQALoss', 'variant': 'konik'})
    assert 'variant must be one of koniq' in message and 'say `type: IQAPerceptualLoss`' in message


def test_a_device_of_another_machine_is_no_error_of_the_file(problems):
    metric = {'type': 'calculate_iqa', 'metric': 'tinyiqa'}
    assert problems(val__metrics={'one': {**metric, 'device': 'cuda:63'}}) == ''
    assert 'device must be one' in problems(val__metrics={'one': {**metric, 'device': 'gpu'}})


def test_options_of_the_step_are_accepted(problems):
    assert problems(train__precision='bf16', train__accumulate=2, datasets__train__batch_size_per_gpu=2,
                    train__clip_norm=0.5, train__skip_limit=3, train__channels_last=True, deterministic=True,
                    train__compile={'mode': 'default'}, train__balance_opt={'type': 'gradnorm', 'layer': 'output'},
                    logger__keep_last=2) == ''


@pytest.mark.parametrize('model', ['VideoIQAModel', 'GradNormModel'])
def test_one_loss_cannot_be_balanced(problems, model):
    message = problems(model_type=model, train__iqa_opt={}, train__balance_opt={'type': 'gradnorm'})
    assert "train:balance_opt: there is nothing to balance with the one loss 'pix'" in message
    assert problems(model_type=model, train__iqa_opt={}, train__balance_opt={'type': 'fixed'}) == ''
    assert bool(problems(model_type=model, train__iqa_opt={})) == (model == 'GradNormModel')


def test_a_compiled_network_has_no_layers(problems):
    message = problems(train__compile=True, train__balance_opt={'type': 'gradnorm'})
    assert 'train:balance_opt:layer: a compiled network has no layers' in message
