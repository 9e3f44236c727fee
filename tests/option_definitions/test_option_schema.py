"""The schema that editors use: it takes all that is shipped, and underlines what the check would refuse."""
import json
import re
import subprocess
import sys
from dataclasses import fields
from importlib.metadata import version

import jsonschema
import pytest
import torch
import yaml
from basicsr.utils import registry
from conftest import ROOT
from test_options_check import problems  # noqa: F401  a fixture

from basicsr_nriqa.iqa import MetricError
from basicsr_nriqa.losses.purifier import Purifier
from basicsr_nriqa.losses.random_transforms import RandomTransforms
from basicsr_nriqa.models.guard_options import GuardOptions
from basicsr_nriqa.option_definitions import known
from basicsr_nriqa.option_definitions.reference import option_reference
from basicsr_nriqa.option_definitions.schema import option_schema
from basicsr_nriqa.options import load_yaml

FILES = sorted((ROOT / 'options').rglob('*.yml'))


@pytest.fixture(scope='module')
def validator():
    schema = json.loads(json.dumps(option_schema()))
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT / 'options')))
def test_takes_every_file_that_is_shipped(validator, path):
    assert [error.message for error in validator.iter_errors(load_yaml(path))] == []


@pytest.mark.parametrize('place, value', [
    ('trian', {}), ('name', 3), ('num_gpu', 'all'), ('scale', 0), ('model_type', 'VideoIQAModle'),
    ('network_g:type', 'BasicVSRP'), ('network_g:num_block', 3), ('network_g:num_blocks', 'many'),
    ('path:pretrained_g', 'x.pth'), ('logger:print_freq', 0), ('dist_params', {'backend': 'mpi'}),
    ('datasets:train:gt_sise', 3), ('datasets:train:gt_size', '64'), ('datasets:val:type', 'ClipTestDatset'),
    ('train:iqa_otp', {}), ('train:total_iter', 'many'), ('train:total_iter', True), ('train:precision', 'fp8'),
    ('train:ema_decay', 1.0), ('train:optim_g:type', 'Adm'), ('train:optim_g:type', 'LBFGS'),
    ('train:optim_g:beta', 1), ('train:scheduler:period', [1]), ('train:balance_opt', {'type': 'fixd'}),
    ('train:balance_opt', {'type': 'gradnorm', 'alhpa': 1}), ('train:pixel_opt:weight', 1),
    ('train:balance_opt', {'type': 'gradnorm', 'rule': 'sum'}),
    ('train:iqa_opt:tinyiqa:type', 'IQALos'), ('train:iqa_opt', {'a': {'type': 'MANIQALoss', 'variant': 'konik'}}),
    ('train:iqa_opt', {'a': {'type': 'NIMALoss', 'fitt': 'tiles'}}),
    ('train:iqa_opt', {'a': {'type': 'MANIQALoss', 'num_crops': 'some'}}),
    ('val:freq', 1), ('val:metrics:psnr:type', 'calculate_pnsr'), ('val:metrics:psnr:better', 'more'),
    ('val:scores', {'lose': 'LPIPS'}), ('val:guard', {'action': 'halt'}), ('val:guard', {'spectrum': None}),
    ('val:guard', {'factor': 1}),
])
def test_underlines_what_the_check_refuses(validator, problems, place, value):  # noqa: F811
    assert problems(**{place.replace(':', '__'): value})
    options = value
    for key in reversed(place.split(':')):
        options = {key: options}
    if ':type' not in place:  # what a group may hold depends on its type
        types = {'network_g': {'type': 'BasicVSRPP'}, 'datasets:train': {'type': 'ClipTrainDataset'},
                 'train:optim_g': {'type': 'Adam'}, 'train:scheduler': {'type': 'CosineAnnealingRestartLR'},
                 'train:pixel_opt': {'type': 'CharbonnierLoss'}, 'val:metrics:psnr': {'type': 'calculate_psnr'}}
        for group, kind in types.items():
            if place.startswith(f'{group}:'):
                target = options
                for key in group.split(':'):
                    target = target[key]
                target.update(kind)
    found = list(validator.iter_errors(options))
    assert found and any([*error.absolute_path] == place.split(':')[:len(error.absolute_path)] or error.absolute_path
                         for error in found)


@pytest.mark.parametrize('text', [
    '{model_type: SRModel, anything: 1, train: {own: 3}}',
    '{_base_: [a.yml, b.yml], train: {iqa_opt: {maniqa: {chunk: 4}}}}',  # the type is inherited
    '{train: {optim_g: {_delete_: true, type: SGD, lr: 0.1, momentum: 0.9}, compile: {mode: default}, clip_norm: ~}}',
    '{train: {iqa_opt: {a: {type: IQALoss, metric: topiq_nr, loss_weight: -1, of_pyiqa: 1}}}}',
    '{num_gpu: auto, network_g: {type: VRT, img_size: [6, 64, 64]}, val: {guard: {least_kept: ~}}}',
    '{datasets: {train: {type: ClipMixtureDataset, datasets: {a: {type: ClipTrainDataset, ratio: 1}}}}}'])
def test_takes_what_may_be(validator, text):
    assert [error.message for error in validator.iter_errors(yaml.safe_load(text))] == []


def test_every_option_that_our_classes_name_is_defined():
    for name in sorted(registry.MODEL_REGISTRY.keys()):
        model = registry.MODEL_REGISTRY.get(name)
        assert getattr(model, 'TRAIN_OPTIONS', set()) <= set(known.TRAIN), name
        assert getattr(model, 'VAL_OPTIONS', set()) <= set(known.VAL), name
    for name in sorted(registry.DATASET_REGISTRY.keys()):
        assert getattr(registry.DATASET_REGISTRY.get(name), 'OPTIONS', set()) <= set(known.CLIPS), name
    guard = GuardOptions()
    assert {field.name: str(getattr(guard, field.name)).lower() for field in fields(GuardOptions)} \
        == {name: option.default for name, option in known.GUARD.items()}


def test_the_files_in_the_checkout_are_up_to_date():
    locked = dict(re.findall(r'^(torch|torchjd)==([\w.]+)', (ROOT / 'constraints.txt').read_text(), re.MULTILINE))
    if not torch.__version__.startswith(locked['torch']) or version('torchjd') != locked['torchjd']:
        pytest.skip('the arguments of optimisers are those of the versions in constraints.txt')
    if sys.version_info[:2] != (3, 11):
        pytest.skip('made by Python 3.11')
    done = subprocess.run([sys.executable, ROOT / 'scripts/describe_options.py', '--check'], text=True,
                          capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_reference_names_every_option():
    page = option_reference()
    for options in (known.TOP, known.PATH, known.LOGGER, known.TRAIN, known.VAL, known.CLIPS, known.GUARD):
        for name, option in options.items():
            assert f'`{name}`' in page or option.set_by_basicsr, name
    assert page.count('| option | value |') > 30 and 'object' not in page and 'None' not in page


@pytest.mark.parametrize('group, build', [(known.TRANSFORMS, RandomTransforms), (known.PURIFY, Purifier)])
def test_strengths_are_those_that_losses_take(group, build):
    for name, option in group.items():
        for value in (False, 0, 1, option.most, *(() if option.most is None else (option.most + 1, -1, 'x'))):
            try:
                build({name: value})
                taken = True
            except MetricError:
                taken = False
            assert taken == (not option.problem(value)) or value is None, (name, value)
    with pytest.raises(MetricError, match=f"It takes: {', '.join(sorted(group))}"):
        build({'nothing': 1})


@pytest.mark.parametrize('text, fine', [
    ('transforms: true', True), ('transforms: {shift: 2, flip: true}', True), ('transforms: {shifts: 2}', False),
    ('transforms: {shift: much}', False), ('purify: [blur: 1, jpeg: 75]', True), ('purify: {blur: 99}', False)])
def test_strengths_are_completed_and_underlined(validator, text, fine):
    loss = yaml.safe_load(text) | {'type': 'MANIQALoss'}
    assert validator.is_valid({'train': {'iqa_opt': {'a': loss}}}) == fine
