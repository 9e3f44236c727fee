"""The option files for the paper's Fig. 2: each is short, means what its name says, builds and trains an iteration."""
import importlib
import math

import pytest
import torch
import yaml
from basicsr.models import build_model
from basicsr.utils.registry import LOSS_REGISTRY
from conftest import ROOT

from basicsr_nriqa.iqa import TABLE_1, create_metric, metric_info, random_weights
from basicsr_nriqa.options import read_options

FILES = sorted((ROOT / 'options').glob('finetune_*.yml'))
# rows of Fig. 2 by the names of their losses
ROWS = {*TABLE_1, 'lpips_nima_clipiqa', 'lpips_maniqa', 'lpips_hyperiqa', 'lpips_hyperiqa_pieapp', 'lpips_nima',
        'lpips_gradnorm'}
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


def test_there_is_a_file_for_every_row_of_figure_2():
    assert {path.stem.removeprefix('finetune_') for path in FILES} == ROWS and len(ROWS) == 15


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
