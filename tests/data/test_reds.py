import shutil

import cv2
import numpy as np
import pytest
from conftest import ROOT, run_python

from basicsr_nriqa.data import DataError, reds
from basicsr_nriqa.data.degradation import degrade
from basicsr_nriqa.data.image_codec import encode_image
from basicsr_nriqa.data.lmdb_store import LmdbReader
from basicsr_nriqa.data.reds import prepare_reds


def _image(part, clip, frame):
    return np.random.default_rng([part, clip, frame]).integers(0, 256, (8, 12, 3), dtype=np.uint8)


def _write(root, train, val, frames):
    for part, (name, clips) in enumerate((('train_sharp', train), ('val_sharp', val))):
        for clip in range(clips):
            folder = root / name / f'{clip:03d}'
            folder.mkdir(parents=True)
            for frame in range(frames):
                (folder / f'{frame:08d}.png').write_bytes(encode_image(_image(part, clip, frame)))


@pytest.fixture
def small(tmp_path, monkeypatch):
    """REDS with 12 and 2 clips of 5 frames."""
    monkeypatch.setattr(reds, 'TRAIN_CLIPS', 12)
    monkeypatch.setattr(reds, 'VAL_CLIPS', 2)
    monkeypatch.setattr(reds, 'FRAMES', 5)
    monkeypatch.setattr(reds, 'REDS4', ('000', '011'))
    _write(tmp_path / 'REDS', 12, 2, 5)
    return tmp_path / 'REDS'


def _prepare(root, out, **options):
    prepare_reds(root, out, **{'test_frames': 3, 'progress': False, **options})


def _clips(path):
    return [line.split()[0] for line in path.read_text().splitlines()]


@pytest.mark.parametrize('archived', [False, True])
def test_both_partitions(small, tmp_path, archived):
    out = tmp_path / 'out'
    if archived:
        for part in ('train', 'val'):
            shutil.make_archive(str(tmp_path / f'downloads/{part}_sharp'), 'zip', small, f'{part}_sharp')
        small = tmp_path / 'downloads'
    _prepare(small, out)
    gt, lr = LmdbReader(out / 'reds_train_GT.lmdb'), LmdbReader(out / 'reds_train_LRx4.lmdb')
    assert len(gt.stored_keys()) == len(lr.stored_keys()) == 14 * 5
    assert (gt.image('011/00000004') == _image(0, 11, 4)).all() and (gt.image('013/00000002') == _image(1, 1, 2)).all()
    assert (lr.image('013/00000002') == degrade(_image(1, 1, 2), 4)).all()
    every = [f'{clip:03d}' for clip in range(14)]
    assert _clips(out / 'meta_info_REDS_GT.txt') == every
    assert (out / 'meta_info_REDS_GT.txt').read_text().splitlines()[0] == '000 5 (8,12,3)'
    assert _clips(out / 'meta_info_REDS_train_GT.txt') == every[:12]
    assert _clips(out / 'meta_info_REDS4_train_GT.txt') == [clip for clip in every if clip not in ('000', '011')]
    assert LmdbReader(out / 'reds_test_GT.lmdb').stored_keys() == [
        f'{clip}/{frame:08d}' for clip in ('012', '013') for frame in range(3)]
    assert (LmdbReader(out / 'reds_test_GT.lmdb').image('012/00000001') == _image(1, 0, 1)).all()
    assert LmdbReader(out / 'reds4_test_LRx4.lmdb').stored_keys() == [
        f'{clip}/{frame:08d}' for clip in ('000', '011') for frame in range(5)]
    assert (out / 'meta_info_REDS_test_GT.txt').read_text().splitlines() == ['012 3 (8,12,3)', '013 3 (8,12,3)']


def test_the_papers_test_set_needs_val_sharp_alone(small, tmp_path):
    shutil.rmtree(small / 'train_sharp')
    _prepare(small, tmp_path / 'out', splits=('test',), test_frames=None)
    assert len(LmdbReader(tmp_path / 'out/reds_test_GT.lmdb').stored_keys()) == 10
    assert not list((tmp_path / 'out').glob('reds4*')) and not list((tmp_path / 'out').glob('reds_train*'))
    with pytest.raises(DataError, match="no 'train_sharp' in this folder"):
        _prepare(small, tmp_path / 'out')


def test_what_is_missing_is_named(small, tmp_path):
    (small / 'train_sharp/003/00000002.png').unlink()
    with pytest.raises(DataError, match=r'train_sharp/003/00000002\.png: this frame is missing, 1 in all'):
        _prepare(small, tmp_path / 'out')
    shutil.rmtree(small / 'train_sharp/005')
    with pytest.raises(DataError, match='train_sharp/005: this clip is missing, 1 of 12 in all'):
        _prepare(small, tmp_path / 'out')
    with pytest.raises(DataError, match=r"splits: expected some of train, test, got 'train'"):
        _prepare(small, tmp_path / 'out', splits='train')
    with pytest.raises(DataError, match=r'test_frames: expected 1 to 5, .*got 6'):
        _prepare(small, tmp_path / 'out', test_frames=6)


def test_stock_reds_dataset_reads_it(small, tmp_path):
    from basicsr.data import build_dataset
    _prepare(small, tmp_path / 'out')
    dataset = build_dataset({
        'name': 'stock', 'type': 'REDSRecurrentDataset', 'dataroot_gt': str(tmp_path / 'out/reds_train_GT.lmdb'),
        'dataroot_lq': str(tmp_path / 'out/reds_train_LRx4.lmdb'), 'val_partition': 'REDS4', 'test_mode': False,
        'meta_info_file': str(tmp_path / 'out/meta_info_REDS_GT.txt'), 'io_backend': {'type': 'lmdb'}, 'num_frame': 3,
        'gt_size': 8, 'interval_list': [1], 'random_reverse': False, 'use_hflip': False, 'use_rot': False, 'scale': 4})
    item = dataset[0]  # frames 0 to 2 of the first clip that is not one of its four
    assert len(dataset) == 12 * 5 and item['key'] == '001/00000000'
    left = [left for left in range(0, 5, 4) if np.allclose(
        item['gt'][1].permute(1, 2, 0).numpy(), _image(0, 1, 1)[:, left:left + 8, ::-1] / 255, atol=1e-6)]
    assert left and item['lq'].shape == (3, 3, 2, 2)


@pytest.mark.slow
def test_the_script_on_the_real_layout(tmp_path):
    """All 270 clips of 100 frames, tiny ones, from one archive and one folder."""
    _write(tmp_path / 'REDS', 240, 30, 100)
    shutil.make_archive(str(tmp_path / 'REDS/train_sharp'), 'zip', tmp_path / 'REDS', 'train_sharp')
    shutil.rmtree(tmp_path / 'REDS/train_sharp')
    done = run_python(ROOT / 'scripts/prepare_reds.py', tmp_path / 'REDS', '-o', tmp_path / 'out')
    assert done.returncode == 0, done.stderr
    counts = {path.name: len(LmdbReader(path).stored_keys()) for path in (tmp_path / 'out').glob('*_GT.lmdb')}
    assert counts == {'reds_train_GT.lmdb': 27000, 'reds_test_GT.lmdb': 210, 'reds4_test_GT.lmdb': 400}
    assert _clips(tmp_path / 'out/meta_info_REDS_test_GT.txt') == [f'{clip}' for clip in range(240, 270)]
    assert len(_clips(tmp_path / 'out/meta_info_REDS4_train_GT.txt')) == 266


def test_real_frames(shared, tmp_path, monkeypatch):
    source = shared / 'data/BasicVSR_PlusPlus/data/demo_000'
    if not source.is_dir():
        pytest.skip('no REDS frames in shared/')
    for name, value in (('TRAIN_CLIPS', 1), ('VAL_CLIPS', 1), ('FRAMES', 21)):
        monkeypatch.setattr(reds, name, value)
    for part in ('train_sharp', 'val_sharp'):
        shutil.copytree(source, tmp_path / 'REDS' / part / '000')
    _prepare(tmp_path / 'REDS', tmp_path / 'out')
    test = LmdbReader(tmp_path / 'out/reds_test_LRx4.lmdb')
    assert test.listed() == {f'001/0000000{frame}': (45, 80, 3) for frame in range(3)}
    gt = LmdbReader(tmp_path / 'out/reds_train_GT.lmdb')
    for frame in range(21):
        assert (gt.image(f'000/{frame:08d}') == cv2.imread(str(source / f'{frame:08d}.png'))).all()
