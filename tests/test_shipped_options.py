"""The option files of the paper's study: complete, short, meaning what their names say; those of BasicVSR++ train.

That VRT's and iSeeBetter's mean the same but for the network and the schedule is checked by comparing what is read.
"""
import copy
import functools
import importlib
import json
import math
import sys
from pathlib import Path

import pytest
import torch
import yaml
from basicsr.models import build_model
from basicsr.utils.options import parse_options
from basicsr.utils.registry import LOSS_REGISTRY
from conftest import ROOT

from basicsr_nriqa.checkpoints import network_options
from basicsr_nriqa.data.packing import database_paths
from basicsr_nriqa.iqa import TABLE_1, create_metric, metric_info, random_weights
from basicsr_nriqa.losses import IQAEnsembleLoss
from basicsr_nriqa.options import OptionsError, read_options

OPTIONS = ROOT / 'options'
ROBUST = sorted(OPTIONS.glob('finetune_robust_*.yml'))
FILES = sorted({*OPTIONS.glob('finetune_*.yml')} - {*ROBUST})  # rows of Fig. 2
# rows of Fig. 2 by the names of their losses
ROWS = {*TABLE_1, 'lpips_nima_clipiqa', 'lpips_maniqa', 'lpips_hyperiqa', 'lpips_hyperiqa_pieapp', 'lpips_nima',
        'lpips_gradnorm'}
# model: (folder, start of its experiments' names, iterations of the baseline and of a fine-tune as in Sec. III.B)
MODELS = {'basicvsrpp': (OPTIONS, '', 5000, 15000), 'vrt': (OPTIONS / 'vrt', 'vrt_', 50000, 25000),
          'iseebetter': (OPTIONS / 'iseebetter', 'iseebetter_', 50000, 25000)}
TYPES = {'basicvsrpp': 'BasicVSRPP', 'vrt': 'VRT', 'iseebetter': 'ISeeBetter'}
# the columns of Fig. 2
METRICS = ['psnr', 'ssim', 'lpips', 'pieapp', 'dbcnn', 'nima', 'paq2piq', 'hyperiqa', 'mdtvsfa', 'maniqa', 'clipiqa']
# what is only inherited
PARTS = {OPTIONS / 'base_test.yml', OPTIONS / 'base_robust.yml', *(
    OPTIONS / model / f'{part}.yml' for model in ('vrt', 'iseebetter') for part in ('network', 'finetune'))}
COMPLETE = sorted({*OPTIONS.glob('*.yml'), *OPTIONS.glob('vrt/*.yml'), *OPTIONS.glob('iseebetter/*.yml')} - PARTS)
_built = {}


def _small(options):
    """The file's own losses and balancer around a small network and one clip of two frames."""
    options['network_g'] = {'type': 'BasicVSRPP', 'mid_channels': 8, 'num_blocks': 1}
    options['path'] = {'pretrain_network_g': None, 'resume_state': None}
    options['val']['metrics'] = None
    return options | {'num_gpu': 0, 'is_train': True, 'dist': False, 'rank': 0, 'world_size': 1}


@pytest.fixture
def built_once(monkeypatch):
    """Building MANIQA or PieAPP takes seconds, so files that name the same metric share it."""
    def create_once(name, **options):
        key = name, *sorted(options.items())
        if key not in _built:
            with random_weights():
                _built[key] = create_metric(name, **options)
        return _built[key]
    monkeypatch.setattr(importlib.import_module('basicsr_nriqa.losses.iqa_loss'), 'create_metric', create_once)


@functools.cache
def _read_once(path):
    return read_options(path)


def _read(path):
    return copy.deepcopy(_read_once(path))


def _baseline(model):
    return _read(OPTIONS / f'baseline_{model}.yml')


@pytest.mark.parametrize('model', MODELS)
def test_there_is_a_file_for_every_row_of_figure_2(model):
    files = {*MODELS[model][0].glob('finetune_*.yml')} - {*ROBUST}
    assert {path.stem.removeprefix('finetune_') for path in files} == ROWS and len(ROWS) == 15


def test_experiments_have_names_of_their_own():
    names = [_read(path)['name'] for path in COMPLETE]
    assert len(set(names)) == len(names) >= 3 * (1 + 15 + 3)
    for path, name in zip(COMPLETE, names):
        assert name == '_'.join(path.relative_to(OPTIONS).with_suffix('').parts)


@pytest.mark.parametrize('model', MODELS)
def test_baseline_is_charbonnier_alone(model):
    options = _baseline(model)
    train = options['train']
    assert options['model_type'] == 'VideoIQAModel' and options['network_g']['type'] == TYPES[model]
    assert options['path']['pretrain_network_g'] is None and 'spynet_path' in options['network_g']
    assert train['pixel_opt'] == {'type': 'CharbonnierLoss', 'loss_weight': 1.0, 'reduction': 'mean'}
    assert train['iqa_opt'] == {} and train['balance_opt'] == {'type': 'fixed'}
    assert train['total_iter'] == MODELS[model][2]


@pytest.mark.parametrize('path', [path for path in COMPLETE if path.stem.startswith(('baseline', 'finetune'))],
                         ids=lambda path: str(path.relative_to(OPTIONS)))
def test_trains_as_the_paper_says(path):
    options = _read(path)
    train, data = options['train'], options['datasets']['train']
    assert train['optim_g']['type'] == 'Adam' and train['optim_g']['lr'] == 4e-4
    scheduler = train['scheduler']
    assert scheduler['type'] == 'CosineAnnealingRestartLR' and train['warmup_iter'] > 0
    assert sum(scheduler['periods']) == train['total_iter']
    assert len(scheduler['periods']) == len(scheduler['restart_weights']) > 1
    assert data['name'] == 'Vimeo-90K' and data['io_backend'] == {'type': 'lmdb'} and data['num_frame'] == 7


@pytest.mark.parametrize('row', sorted(ROWS))
@pytest.mark.parametrize('model', MODELS)
def test_finetune_starts_from_its_baseline(model, row):
    folder, _, _, iterations = MODELS[model]
    path = folder / f'finetune_{row}.yml'
    options, baseline = _read(path), _baseline(model)
    assert options['path']['pretrain_network_g'] == f"experiments/{baseline['name']}/models/net_g_latest.pth"
    assert options['network_g'] == baseline['network_g'] and options['train']['total_iter'] == iterations
    if model != 'basicvsrpp':
        assert len(path.read_text().splitlines()) == 3
    reference = _read(OPTIONS / f'finetune_{row}.yml')
    for changed in (options, reference):
        for keys in (['name'], ['network_g'], ['path', 'pretrain_network_g'], ['train', 'total_iter'],
                     ['train', 'scheduler', 'periods'], ['train', 'scheduler', 'restart_weights']):
            *parents, last = keys
            place = changed
            for key in parents:
                place = place[key]
            del place[last]
    assert options == reference


@pytest.mark.parametrize('dataset, name', [('vimeo90k', 'Vimeo-90K'), ('reds', 'REDS'), ('videos', 'Videos')])
@pytest.mark.parametrize('model', MODELS)
def test_tests_with_the_metrics_of_figure_2(model, dataset, name):
    folder, prefix, _, _ = MODELS[model]
    options = _read(folder / f'test_{dataset}.yml')
    gt, lq = database_paths(Path('datasets', dataset), f'{dataset}_test', 4, 'BI')
    (data,) = options['datasets'].values()
    assert data.pop('num_frame', 7) == 7
    assert data == {'name': name, 'type': 'ClipTestDataset', 'dataroot_gt': str(gt), 'dataroot_lq': str(lq),
                    'io_backend': {'type': 'lmdb'}}
    assert options['path']['pretrain_network_g'] == f'experiments/{prefix}finetune_maniqa/models/net_g_latest.pth'
    network = {'spynet_path': None, **options['network_g']}
    assert network == _baseline(model)['network_g'] and options['val']['save_img']
    metrics = options['val']['metrics']
    assert list(metrics) == METRICS
    for metric, measured in metrics.items():
        assert measured.pop('better') == ('lower' if metric_info(metric).lower_better else 'higher')
        assert measured == ({'type': f'calculate_{metric}', 'crop_border': 0} if metric in ('psnr', 'ssim') else
                            {'type': 'calculate_iqa', 'metric': metric})


@pytest.mark.parametrize('model, published', [
    ('basicvsrpp', 'basicvsrpp_openmmlab_c64n7'), ('vrt', 'vrt_003_bicubic_vimeo_7_frames'),
    ('iseebetter', 'rbpn_x4_f7')])
def test_networks_have_the_published_sizes(model, published, shared):
    recorded = json.loads((shared / 'parity/published_keys' / f'{published}.json').read_text())
    found = network_options({name: torch.empty(shape, device='meta') for name, shape in recorded['state_dict'].items()})
    ours = _baseline(model)['network_g']
    both = found.keys() & ours.keys()
    assert {key: ours[key] for key in both} == {key: found[key] for key in both} and len(both) >= 3


@pytest.mark.parametrize('path', COMPLETE, ids=lambda path: str(path.relative_to(OPTIONS)))
def test_nothing_is_wrong_but_for_missing_files(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # without data, so that no weights are fetched
    monkeypatch.setattr(sys, 'argv', ['train.py', '-opt', str(path)])
    is_train = not path.stem.startswith('test_')
    with pytest.raises(OptionsError) as error:
        parse_options(str(tmp_path), is_train=is_train)
    problems = [line for line in str(error.value).splitlines() if line.startswith('- ')]
    missing = [problem for problem in problems if ': nothing is there in ' in problem]
    assert len(missing) == (5 if is_train else 2)
    for problem in problems:
        assert problem in missing or 'net_g_latest.pth: no such file' in problem or 'needs its trained w' in problem


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_is_short_and_says_what_it_is(path):
    assert len(path.read_text().splitlines()) < 15
    plain = yaml.safe_load(path.read_text())
    assert plain['_base_'] == 'base_vimeo90k.yml' and plain['name'] == path.stem
    options = read_options(path)
    metrics = [LOSS_REGISTRY.get(loss['type']).check(loss).name for loss in options['train']['iqa_opt'].values()]
    assert metrics == path.stem.removeprefix('finetune_').removesuffix('_gradnorm').split('_')
    assert options['train']['balance_opt']['type'] == ('gradnorm' if 'gradnorm' in path.stem else 'fixed')
    assert options['train']['pixel_opt'] == {'type': 'CharbonnierLoss', 'loss_weight': 1.0, 'reduction': 'mean'}
    for metric in metrics:
        measured = options['val']['metrics'][metric]
        assert measured['better'] == ('lower' if metric_info(metric).lower_better else 'higher')


@pytest.mark.parametrize('path', [
    pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * ('maniqa' in path.stem)) for path in FILES])
def test_trains_one_iteration(path, built_once):
    model = build_model(_small(read_options(path)))
    before = {name: value.clone() for name, value in model.net_g.state_dict().items()}
    model.feed_data({'lq': torch.rand(1, 2, 3, 16, 16), 'gt': torch.rand(1, 2, 3, 64, 64)})
    model.optimize_parameters(1)
    log = model.get_current_log()
    for loss in model.losses.values():
        if hasattr(loss, 'metric'):
            assert loss.loss_weight == metric_info(loss.metric.info.name).table1_weight
    names = set(read_options(path)['train']['iqa_opt'])
    assert {f'l_{name}' for name in names} | {'l_pix'} == {key for key in log if key[0] == 'l'}
    assert all(math.isfinite(value) for value in log.values())
    assert any(not torch.equal(value, before[name]) for name, value in model.net_g.state_dict().items())


def test_robust_files_are_there_for_the_no_reference_metrics_of_table_1():
    metrics = [path.stem.removeprefix('finetune_robust_') for path in ROBUST]
    assert sorted(metrics) == sorted(name for name in TABLE_1 if not metric_info(name).full_reference)


@pytest.mark.parametrize('path', ROBUST, ids=lambda path: path.stem)
def test_robust_files_optimise_their_metric_and_another_under_the_same_protection(path):
    metric = path.stem.removeprefix('finetune_robust_')
    options, base = read_options(path), read_options(OPTIONS / 'base_robust.yml')
    ensemble = options['train']['iqa_opt']['robust']
    members = IQAEnsembleLoss.member_options(ensemble)
    found = {name: LOSS_REGISTRY.get(member['type']).check(member).name for name, member in members.items()}
    assert list(found) == list(found.values()) and next(iter(found)) == metric and len(found) == 2
    weight = metric_info(metric).table1_weight
    assert members[metric]['loss_weight'] == pytest.approx(4 * weight)
    for member in members.values():
        assert member['transforms'] == base['train']['iqa_opt']['robust']['transforms']
    assert options['train']['balance_opt'] == {'type': 'anchored', 'anchors': ['pix', 'lpips'], 'per': 16,
                                               'trust': None}
    assert options['val']['guard'].keys() >= {'anchors', 'action'}
    assert options['val']['metrics'].keys() == {'psnr', 'ssim', 'lpips', 'niqe', *found}


@pytest.mark.parametrize('path', [
    pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem[16:] in ('maniqa', 'clipiqa', 'mdtvsfa')))
    for path in ROBUST])
def test_robust_files_train(path, built_once, tmp_path):
    options = _small(read_options(path))
    options['path']['experiments_root'] = str(tmp_path)
    model = build_model(options)
    for iteration in (1, 2):
        model.feed_data({'lq': torch.rand(1, 2, 3, 64, 64), 'gt': torch.rand(1, 2, 3, 256, 256)})
        model.optimize_parameters(iteration)
    log = model.get_current_log()
    assert model.skipped == 0 and {'l_pix', 'l_lpips', 'l_robust', 'w_robust'} <= log.keys()
    assert all(math.isfinite(value) for value in log.values())
