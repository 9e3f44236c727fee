import pickle
import shutil

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataset

from basicsr_nriqa.data import DataError
from basicsr_nriqa.data.bicubic import imresize


@pytest.fixture
def train_opt(train_options):
    return {**train_options['datasets']['train'], 'scale': 4, 'phase': 'train'}


@pytest.fixture
def test_opt(train_options):
    return {**train_options['datasets']['val'], 'scale': 4, 'phase': 'val', 'num_frame': 7}


def test_crops_of_lr_and_gt_belong_together(train_opt):
    dataset = build_dataset({**train_opt, 'num_frame': 7, 'gt_size': 32})
    for index in range(3):
        item = dataset[index]
        assert item['lq'].shape == (7, 3, 8, 8) and item['gt'].shape == (7, 3, 32, 32)
        shrunk = imresize(item['gt'], 0.25)
        inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))  # borders see other neighbours
        assert (shrunk[inside] - item['lq'][inside]).abs().max() < 1.5 / 255


def test_seed_decides_everything(train_opt):
    dataset = build_dataset(train_opt)
    torch.manual_seed(3)
    first = dataset[1]
    torch.manual_seed(3)
    assert torch.equal(first['gt'], dataset[1]['gt'])
    assert any(not torch.equal(first['gt'], dataset[1]['gt']) for _ in range(5))


def test_no_augmentation_gives_frames_in_order(train_opt, sample):
    dataset = build_dataset({**train_opt, 'num_frame': 7, 'use_hflip': False, 'use_rot': False,
                             'random_reverse': False, 'gt_size': 64})
    item = dataset[0]
    frame = cv2.imread(str(sample / f"vimeo_septuplet/sequences/{item['key']}/im3.png"))[..., ::-1]
    frame = torch.from_numpy(frame.copy()).permute(2, 0, 1) / 255
    assert any(torch.equal(item['gt'][2], frame[:, :, left:left + 64]) for left in range(33))


def test_flip_sequence(train_opt):
    item = build_dataset({**train_opt, 'flip_sequence': True})[0]
    assert item['lq'].shape[0] == 4 and torch.equal(item['lq'], item['lq'].flip(0))


def test_workers_and_pickling(train_opt):
    dataset = build_dataset(train_opt)
    dataset[0]
    assert len(pickle.loads(pickle.dumps(dataset))) == 3
    loader = torch.utils.data.DataLoader(dataset, batch_size=1, num_workers=2)
    assert len(list(loader)) == 3


def test_test_clips_from_lmdb_and_disk_are_equal(test_opt, sample, tmp_path):
    database = build_dataset(test_opt)
    assert database.names == ['00002/0001', '00002/0002']
    tree = tmp_path / 'tree'
    for clip in database.names:
        shutil.copytree(sample / 'vimeo_septuplet/sequences' / clip, tree / clip)
    disk = build_dataset({**test_opt, 'dataroot_gt': str(tree), 'dataroot_lq': str(tree), 'scale': 1,
                          'io_backend': {'type': 'disk'}})
    for index in range(2):
        assert torch.equal(database[index]['gt'], disk[index]['gt'])
        assert database[index]['frames'] == disk[index]['frames'] == [f'im{i}' for i in range(1, 8)]


def test_without_gt_and_with_a_list(test_opt, tmp_path):
    (tmp_path / 'list.txt').write_text('00002/0002 7 (64,96,3)\n')
    del test_opt['dataroot_gt']
    dataset = build_dataset({**test_opt, 'meta_info_file': str(tmp_path / 'list.txt')})
    assert dataset.names == ['00002/0002'] and 'gt' not in dataset[0]


def test_errors_name_the_thing(train_opt, test_opt, sample, tmp_path):
    with pytest.raises(DataError, match=r"frame '00001/0001/im\d': GT is 96x64 and LR 24x16.* scale 2"):
        build_dataset({**train_opt, 'scale': 2})[0]
    with pytest.raises(DataError, match='too small for gt_size 128'):
        build_dataset({**train_opt, 'gt_size': 128})[0]
    with pytest.raises(DataError, match='gt_size: 30 is not divisible'):
        build_dataset({**train_opt, 'gt_size': 30})
    with pytest.raises(DataError, match='8 frames do not fit into clips of 7'):
        build_dataset({**train_opt, 'num_frame': 8})
    (tmp_path / 'list.txt').write_text('00009/0009\n')
    with pytest.raises(DataError, match="the database has no key '00009/0009/im"):
        build_dataset({**train_opt, 'meta_info_file': str(tmp_path / 'list.txt')})[0]
    with pytest.raises(DataError, match="the first is '00009/0009'"):
        build_dataset({**test_opt, 'meta_info_file': str(tmp_path / 'list.txt')})
    with pytest.raises(DataError, match="type 'tape' is not known"):
        build_dataset({**test_opt, 'io_backend': {'type': 'tape'}})
    clip = tmp_path / 'disk' / 'clip'
    clip.mkdir(parents=True)
    (clip / 'im1.png').write_bytes(b'')
    disk = {**test_opt, 'dataroot_lq': str(tmp_path / 'disk'), 'dataroot_gt': None, 'io_backend': {'type': 'disk'}}
    with pytest.raises(DataError, match=r'clip/im1\.png: not a readable image'):
        build_dataset(disk)[0]
    cv2.imwrite(str(clip / 'im1.png'), np.zeros((8, 8, 3), np.uint8))
    assert build_dataset(disk)[0]['lq'].shape == (1, 3, 8, 8)
