import shutil

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataset
from clip_files import frame, numbered, write_clips, write_database

from basicsr_nriqa.data import DataError


@pytest.fixture
def test_opt(train_options):
    return {**train_options['datasets']['val'], 'scale': 4, 'phase': 'val', 'num_frame': 7}


def _options(lq, gt=None, **more):
    return {'type': 'ClipTestDataset', 'name': 'any', 'dataroot_lq': str(lq), 'dataroot_gt': gt and str(gt), 'scale': 4,
            'io_backend': {'type': 'lmdb' if str(lq).endswith('.lmdb') else 'disk'}, **more}


def _pair(tmp_path, clips, write=write_clips, suffix=''):
    return (write(tmp_path / f'lq{suffix}', clips, (8, 12), seed=1), write(tmp_path / f'gt{suffix}', clips, (32, 48)))


def test_clips_from_lmdb_and_disk_are_equal(test_opt, sample, tmp_path):
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


@pytest.mark.parametrize('backend', ['disk', 'lmdb'])
def test_clips_of_any_names_and_lengths(tmp_path, backend):
    clips = {'000': numbered('{:08d}', 3, 0), 'part 2/clip 1': numbered('im{}', 12), 'part 10/clip 1': ['x']}
    write, suffix = (write_clips, '') if backend == 'disk' else (write_database, '.lmdb')
    dataset = build_dataset(_options(*_pair(tmp_path, clips, write, suffix)))
    assert dataset.names == list(clips)
    for index, (clip, frames) in enumerate(clips.items()):
        item = dataset[index]
        assert item['folder'] == clip and item['frames'] == frames
        assert item['lq'].shape == (len(frames), 3, 8, 12) and item['gt'].shape == (len(frames), 3, 32, 48)
    last = torch.from_numpy(frame(32, 48, (0, 1, 11))[..., ::-1].copy()).permute(2, 0, 1) / 255
    assert torch.equal(dataset[1]['gt'][-1], last)  # im12 comes last
    assert dataset.data_info['folder'].count('part 2/clip 1') == 12


def test_the_first_seven_frames(tmp_path):
    lq, gt = _pair(tmp_path, {'000': numbered('{:08d}', 10, 0), '001': numbered('{:08d}', 5, 0)})
    for number in range(8, 10):
        (gt / f'000/{number:08d}.png').unlink()  # what is not asked for need not be there
    dataset = build_dataset(_options(lq, gt, num_frame=7))
    assert [len(dataset[index]['gt']) for index in range(2)] == [7, 5]


def test_a_folder_of_frames_is_one_clip(tmp_path):
    lq, gt = _pair(tmp_path, {'': numbered('f{:03d}', 4)})
    dataset = build_dataset(_options(lq, gt))
    item = dataset[0]
    assert dataset.names == ['lq'] and item['folder'] == 'lq' and item['frames'] == numbered('f{:03d}', 4)
    assert item['gt'].shape == (4, 3, 32, 48)


def test_without_gt_and_with_a_list(test_opt, tmp_path):
    (tmp_path / 'list.txt').write_text('00002/0002 7 (64,96,3)\n')
    del test_opt['dataroot_gt']
    dataset = build_dataset({**test_opt, 'meta_info_file': str(tmp_path / 'list.txt')})
    assert dataset.names == ['00002/0002'] and 'gt' not in dataset[0] and 'gt' not in dataset.lazily(0)


def test_gt_is_read_when_it_is_used(tmp_path):
    lq, gt = _pair(tmp_path, {'a': numbered('im{}', 6)})
    dataset = build_dataset(_options(lq, gt))
    whole = dataset[0]['gt']
    (gt / 'a/im4.png').write_bytes(b'')
    lazy = dataset.lazily(0)['gt']
    assert len(lazy) == 6 and torch.equal(lazy[1:3], whole[1:3]) and torch.equal(lazy[4:9], whole[4:])
    with pytest.raises(DataError, match=r'a/im4\.png: not a readable image'):
        lazy[3:4]


def test_errors_name_the_thing(test_opt, tmp_path):
    (tmp_path / 'list.txt').write_text('00009/0009\n')
    with pytest.raises(DataError, match=r"list\.txt: clip '00009/0009' is not in .*LRx4\.lmdb\. Take"):
        build_dataset({**test_opt, 'meta_info_file': str(tmp_path / 'list.txt')})
    with pytest.raises(DataError, match="type 'tape' is not known"):
        build_dataset({**test_opt, 'io_backend': {'type': 'tape'}})
    with pytest.raises(DataError, match=r"frame '00002/0001/im1': GT is 96x64 and LR 24x16.* scale 2"):
        build_dataset({**test_opt, 'scale': 2})[0]
    lq, gt = _pair(tmp_path, {'a': numbered('im{}', 3), 'b': numbered('im{}', 3)})
    cv2.imwrite(str(lq / 'b/im2.png'), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match="frame 'b/im2' has 8x8 pixels, the first of its clip 12x8"):
        build_dataset(_options(lq, gt))[1]
    (gt / 'b/im3.png').rename(gt / 'b/im4.png')
    with pytest.raises(DataError, match="clip 'b': LR has 3 frames, GT 3, and 'b/im4' where LR has 'b/im3'"):
        build_dataset(_options(lq, gt))
    (gt / 'b/im4.png').unlink()
    with pytest.raises(DataError, match=r"clip 'b': LR has 3 frames, GT 2\. "):
        build_dataset(_options(lq, gt))
    shutil.rmtree(gt / 'b')
    with pytest.raises(DataError, match=r"clip 'b': LR has 3 frames, GT 0\. "):
        build_dataset(_options(lq, gt))
    assert len(build_dataset(_options(lq))) == 2
