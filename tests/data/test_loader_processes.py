import multiprocessing

import pytest
import torch
from clip_files import numbered, write_database
from torch.utils.data import DataLoader
from training_process import context

from basicsr_nriqa.data import ClipTrainDataset, lmdb_store
from basicsr_nriqa.data.resumable import ItemStreams, ResumableSampler, prepare_loader


@pytest.fixture
def streams(tmp_path):
    clips = {f'clip{number}': numbered('im{}', 3) for number in range(4)}
    dataset = ClipTrainDataset({
        **{f'dataroot_{kind}': str(write_database(tmp_path / f'{kind}.lmdb', clips, size, codec))
           for kind, size, codec in (('gt', (32, 48), 'raw'), ('lq', (8, 12), 'png'))},
        'io_backend': {'type': 'lmdb'}, 'scale': 4, 'gt_size': 16, 'num_frame': 2, 'interval_list': [1, 2]})
    return ItemStreams(dataset, 3)


def _items(streams, workers=0, how=None):
    loader = DataLoader(streams, batch_size=1, sampler=ResumableSampler(streams, 1, 0), num_workers=workers,
                        multiprocessing_context=how)
    prepare_loader(loader, 3)
    return list(loader)


@pytest.mark.parametrize('how', ['fork', 'forkserver', pytest.param('spawn', marks=pytest.mark.slow)])
def test_workers_of_any_kind_read_the_same_bits(streams, how):
    alone = _items(streams)  # so that this process has opened the databases, which its forks must not use
    assert lmdb_store._environments
    context_of = {'fork': multiprocessing.get_context('fork'), 'forkserver': context, 'spawn': 'spawn'}
    for workers in ((2,) if how != 'spawn' else (1,)):
        items = _items(streams, workers, context_of[how])
        assert [item['key'] for item in items] == [item['key'] for item in alone]
        for item, expected in zip(items, alone):
            assert torch.equal(item['gt'], expected['gt']) and torch.equal(item['lq'], expected['lq'])
    assert torch.equal(_items(streams)[0]['gt'], alone[0]['gt'])  # and this process goes on reading
