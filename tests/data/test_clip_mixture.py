import pickle
from collections import Counter

import pytest
import torch
from basicsr.data import build_dataset
from basicsr.utils.registry import DATASET_REGISTRY
from clip_files import numbered, write_clips
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from basicsr_nriqa.data import ClipMixtureDataset, DataError
from basicsr_nriqa.data.resumable import ItemStreams, ResumableSampler, prepare_loader
from basicsr_nriqa.options import OptionsError
from basicsr_nriqa.options_check import check_options


@pytest.fixture
def options(tmp_path):
    """A mixture of 2 clips of 3 frames and of 1 clip of 9; LR and GT are the same files."""
    parts = {}
    for name, count, clips, more in (('short', 3, 2, {}), ('long', 9, 1, {'interval_list': [1, 2],
                                                                         'samples_per_clip': 'windows'})):
        tree = str(write_clips(tmp_path / name, {f'{name}{clip}': numbered('im{}', count) for clip in range(clips)}))
        parts[name] = {'type': 'ClipTrainDataset', 'ratio': 0.7 if name == 'long' else 0.3, 'dataroot_gt': tree,
                       'dataroot_lq': tree, **more}
    return {'type': 'ClipMixtureDataset', 'name': 'mixed', 'io_backend': {'type': 'disk'}, 'gt_size': 8, 'scale': 1,
            'num_frame': 2, 'datasets': parts}


@DATASET_REGISTRY.register()
class NumbersDataset(Dataset):

    def __init__(self, opt):
        self.length = opt['length']

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return {'key': str(index)}


def _mixture(lengths, ratios):
    """A mixture of parts of some lengths, whose items are their numbers."""
    return ClipMixtureDataset({'datasets': {
        str(number): {'type': 'NumbersDataset', 'length': length, 'ratio': ratio}
        for number, (length, ratio) in enumerate(zip(lengths, ratios))}})


_PARTS = st.lists(st.tuples(st.integers(1, 40), st.sampled_from([0.1, 0.3, 0.5, 0.7, 1, 2, 5])), min_size=1, max_size=4)


@given(_PARTS)
def test_shares_hold_everywhere_and_each_part_is_seen_as_a_whole(parts):
    lengths, ratios = zip(*parts)
    mixture = _mixture(lengths, ratios)
    seen = [Counter() for _ in parts]
    for index in range(len(mixture)):
        name, key = mixture[index]['key'].split('/')
        seen[int(name)][int(key)] += 1
        for counter, ratio in zip(seen, ratios):
            assert abs(sum(counter.values()) - (index + 1) * ratio / sum(ratios)) < len(parts)
    for counter, length in zip(seen, lengths):
        assert len(counter) == length and max(counter.values()) - min(counter.values()) <= 1
    # the epoch is no longer than that needs, but for rounding
    assert len(mixture) <= max(length * sum(ratios) / ratio for length, ratio in parts) + len(parts) / min(
        ratio / sum(ratios) for ratio in ratios) + 1


def test_items_are_those_of_the_parts_with_inherited_options(options):
    mixture = build_dataset(options)
    assert len(mixture) == 12 and len(mixture.parts['long']) == 8  # windows; 8 / 0.7
    items = list(mixture)
    assert Counter(item['key'].split('/')[0] for item in items) == {'long': 9, 'short': 3}
    assert {item['key'] for item in items} == {'short/short0', 'short/short1', 'long/long0'}
    assert all(item['gt'].shape == (2, 3, 8, 8) for item in items)


def _epoch(dataset, workers=0, start=0):
    streams = ItemStreams(dataset, 5)
    sampler = ResumableSampler(streams, 1, 0)
    sampler.set_epoch(1, start)
    loader = DataLoader(streams, batch_size=2, sampler=sampler, num_workers=workers)
    prepare_loader(loader, 5)
    return [(key, clip) for batch in loader for key, clip in zip(batch['key'], batch['gt'])]


def test_workers_stops_and_pickling_change_nothing(options):
    mixture = build_dataset(options)
    one = _epoch(mixture)
    for other in (_epoch(mixture, 2), one[:4] + _epoch(build_dataset(options), start=4),
                  _epoch(pickle.loads(pickle.dumps(mixture)))):
        assert [key for key, _ in other] == [key for key, _ in one]
        assert all(torch.equal(first, second) for (_, first), (_, second) in zip(one, other))


def test_errors_name_the_part(options):
    part = options['datasets']['long']
    for ratio in (0, -1, '0.5', None, True, float('nan')):
        part['ratio'] = ratio
        with pytest.raises(DataError, match='datasets:long:ratio: expected a number above 0'):
            build_dataset(options)
    part.update(ratio=1, gt_size=16)
    with pytest.raises(DataError, match=r'must agree in gt_size .*short: 8, long: 16'):
        build_dataset(options)
    part.update(gt_size=8, type='ClipTrainDatset')
    with pytest.raises(DataError, match=r"datasets:long:type: .*did you mean 'ClipTrainDataset'\?"):
        build_dataset(options)
    part['type'] = None
    with pytest.raises(DataError, match='datasets:long:type: is missing'):
        build_dataset(options)
    part.update(type='ClipTrainDataset', dataroot_gt='nowhere')
    with pytest.raises(DataError, match=r'^datasets:long: nowhere: no '):
        build_dataset(options)
    part.update(type='ClipTestDataset', dataroot_gt=part['dataroot_lq'])
    mixture = build_dataset(options)
    with pytest.raises(DataError, match='datasets:long:type: ClipTestDataset is no dataset of clips for training'):
        for index in range(len(mixture)):
            mixture[index]
    for parts in ({}, None, ['long']):
        with pytest.raises(DataError, match='datasets: expected the parts'):
            build_dataset({**options, 'datasets': parts})
    with pytest.raises(DataError, match=r"datasets:short: expected options such as .*, got 'long'"):
        build_dataset({**options, 'datasets': {'short': 'long'}})


@pytest.fixture
def problems(options, train_options):
    """The message for a training with the mixture, one of its options changed; '' if it is accepted."""
    def check(place=None, value=None):
        opt = {**train_options, 'is_train': True, 'dist': False, 'auto_resume': False}
        opt['datasets'] = {'train': {**options, 'phase': 'train', 'batch_size_per_gpu': 1, 'num_worker_per_gpu': 0}}
        opt['train'] = {**opt['train'], 'iqa_opt': {}}
        opt['val'] = None
        if place:
            *parents, last = place.split(':')
            target = opt['datasets']['train']
            for key in parents:
                target = target[key]
            target[last] = value
        try:
            check_options(opt, 'options.yml')
        except OptionsError as error:
            return str(error)
        return ''
    return check


@pytest.mark.parametrize('place, value, words', [
    (None, None, ''),
    ('datasets:long:num_frmae', 3, "datasets:train:datasets:long:num_frmae: unknown option (did you mean 'num_frame'"),
    ('datasets:long:interval_list', 2, 'datasets:train:datasets:long:interval_list: expected a list'),
    ('datasets:long:type', 'ClipTrainDatset', "datasets:long:type: no dataset is called 'ClipTrainDatset' (did"),
    ('datasets:long:ratio', None, 'datasets:train:datasets:long:ratio: is missing'),
    ('datasets:long:ratio', -1, 'datasets:train:datasets:long:ratio: expected a number above 0'),
    ('datasets:long:dataroot_gt', None, 'datasets:train:datasets:long:dataroot_gt: is missing'),
    ('datasets:long:dataroot_gt', 'no/x', 'datasets:train:datasets:long:dataroot_gt: no/x: nothing is there'),
    ('datasets:long', 'reds', "datasets:train:datasets:long: expected options such as"),
    ('datasets', ['reds'], 'datasets:train:datasets: expected options'),
    ('datasets', None, 'datasets:train:datasets: is missing'),
    ('gt_size', None, 'datasets:train:datasets:long:gt_size: is missing'),
    ('dataroot_gt', '.', 'datasets:train:dataroot_gt: unknown option'),
    ('random_reverse', 'no', "datasets:train:random_reverse: expected true or false, got 'no'"),
])
def test_options_are_checked_in_the_parts_too(problems, place, value, words):
    message = problems(place, value)
    assert words in message and bool(message) == bool(words)
