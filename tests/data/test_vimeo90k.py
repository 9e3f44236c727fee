import shutil
from pathlib import Path

import cv2
import pytest
from conftest import ROOT, run_python

from basicsr_nriqa.data import DataError
from basicsr_nriqa.data.bicubic import imresize
from basicsr_nriqa.data.degradation import degrade
from basicsr_nriqa.data.lmdb_store import LmdbReader
from basicsr_nriqa.data.vimeo90k import LISTS, prepare_vimeo90k


def test_what_is_packed(sample):
    gt, lr = LmdbReader(sample / 'vimeo90k_train_GT.lmdb'), LmdbReader(sample / 'vimeo90k_train_LRx4.lmdb')
    keys = [f'00001/000{clip}/im{frame}' for clip in (1, 2, 3) for frame in range(1, 8)]
    assert gt.listed_keys() == lr.listed_keys() == keys
    source = cv2.imread(str(sample / 'vimeo_septuplet/sequences/00001/0002/im5.png'))
    assert (gt.image('00001/0002/im5') == source).all()
    assert (lr.image('00001/0002/im5') == imresize(source, 0.25)).all()
    assert (sample / 'meta_info_Vimeo90K_train_GT.txt').read_text().splitlines()[0] == '00001/0001 7 (64,96,3)'
    assert not list(sample.glob('*.partial'))


def test_stock_vimeo90k_dataset_reads_it(sample, tmp_path):
    from basicsr.data import build_dataset
    copies = {}
    for kind in ('GT', 'LRx4'):  # copies: lmdb opens one path once in a process, and other tests hold it
        copies[kind] = tmp_path / f'{kind}.lmdb'
        shutil.copytree(sample / f'vimeo90k_train_{kind}.lmdb', copies[kind])
    item = build_dataset({
        'name': 'stock', 'type': 'Vimeo90KRecurrentDataset', 'dataroot_gt': str(copies['GT']),
        'dataroot_lq': str(copies['LRx4']), 'meta_info_file': str(sample / 'meta_info_Vimeo90K_train_GT.txt'),
        'io_backend': {'type': 'lmdb'}, 'num_frame': 7, 'gt_size': 32, 'random_reverse': False, 'use_hflip': True,
        'use_rot': True, 'flip_sequence': False, 'scale': 4})[0]
    assert item['lq'].shape == (7, 3, 8, 8) and item['gt'].shape == (7, 3, 32, 32)


def test_drawn_test_clips_and_second_run(sample, tmp_path):
    root = sample / 'vimeo_septuplet'
    prepare_vimeo90k(root, tmp_path, test_clips=1, seed=3, progress=False)
    chosen = (tmp_path / 'meta_info_Vimeo90K_test_GT.txt').read_text()
    before = (tmp_path / 'vimeo90k_train_GT.lmdb/data.mdb').stat().st_mtime_ns
    prepare_vimeo90k(root, tmp_path, test_clips=1, seed=3, progress=False)
    assert (tmp_path / 'vimeo90k_train_GT.lmdb/data.mdb').stat().st_mtime_ns == before
    assert len(chosen.splitlines()) == 1 and (tmp_path / 'meta_info_Vimeo90K_test_GT.txt').read_text() == chosen
    with pytest.raises(DataError, match='made with other settings: drawn 1, now None'):
        prepare_vimeo90k(root, tmp_path, progress=False)


def test_continues_after_a_damaged_frame_was_mended(sample, tmp_path):
    root = tmp_path / 'septuplet'
    shutil.copytree(sample / 'vimeo_septuplet', root)
    frame = root / 'sequences/00001/0003/im4.png'
    whole = frame.read_bytes()
    frame.write_bytes(whole[:50])
    with pytest.raises(DataError, match=r'00001/0003/im4\.png: not a readable image'):
        prepare_vimeo90k(root, tmp_path / 'out', progress=False)
    assert not list((tmp_path / 'out').glob('*.lmdb')) and list((tmp_path / 'out').glob('*.lmdb.partial'))
    frame.write_bytes(whole)
    prepare_vimeo90k(root, tmp_path / 'out', progress=False)
    assert (LmdbReader(tmp_path / 'out/vimeo90k_train_GT.lmdb').listed_keys()
            == LmdbReader(sample / 'vimeo90k_train_GT.lmdb').listed_keys())


def test_script_with_workers_and_its_error(sample, tmp_path):
    script = ROOT / 'scripts/prepare_vimeo90k.py'
    done = run_python(script, sample / 'vimeo_septuplet', '-o', tmp_path / 'out', '--workers', 2, '--test-clips', 'all')
    assert done.returncode == 0, done.stderr
    assert len(LmdbReader(tmp_path / 'out/vimeo90k_test_LRx4.lmdb').listed_keys()) == 14
    failed = run_python(script, tmp_path / 'nothing', '-o', tmp_path / 'out2')
    assert failed.returncode == 1 and 'nothing: no such folder or archive' in failed.stderr
    assert 'Traceback' not in failed.stderr


def test_the_archive_gives_what_its_folder_gives(sample, tmp_path):
    archive = shutil.make_archive(str(tmp_path / 'vimeo_septuplet'), 'zip', sample, 'vimeo_septuplet')
    prepare_vimeo90k(archive, tmp_path / 'out', progress=False)
    for name in ('vimeo90k_train_GT', 'vimeo90k_test_LRx4'):
        made, wanted = LmdbReader(tmp_path / f'out/{name}.lmdb'), LmdbReader(sample / f'{name}.lmdb')
        assert made.stored_keys() == wanted.stored_keys()
        assert all(made.get(key) == wanted.get(key) for key in made.stored_keys())


def test_a_truncated_archive_and_a_missing_frame(sample, tmp_path):
    archive = shutil.make_archive(str(tmp_path / 'vimeo_septuplet'), 'zip', sample, 'vimeo_septuplet')
    whole = Path(archive).read_bytes()
    Path(archive).write_bytes(whole[:len(whole) // 2])
    with pytest.raises(DataError, match=r'vimeo_septuplet\.zip: not a whole zip archive'):
        prepare_vimeo90k(archive, tmp_path / 'out', progress=False)
    root = tmp_path / 'septuplet'
    shutil.copytree(sample / 'vimeo_septuplet', root)
    (root / 'sequences/00001/0002/im6.png').unlink()
    with pytest.raises(DataError, match=r'sequences/00001/0002/im6\.png: this frame is missing, 1 in all'):
        prepare_vimeo90k(root, tmp_path / 'out', progress=False)
    (root / 'sep_testlist.txt').unlink()
    with pytest.raises(DataError, match=r'sep_testlist\.txt: cannot be read'):
        prepare_vimeo90k(root, tmp_path / 'out', splits=('test',), progress=False)
    for splits in ('test', (), ('train', 'val')):
        with pytest.raises(DataError, match='splits: expected some of train, test, got '):
            prepare_vimeo90k(root, tmp_path / 'out', splits=splits, progress=False)
    with pytest.raises(DataError, match='test_clips: cannot draw 5 of the 2 clips'):  # before train is packed
        prepare_vimeo90k(sample / 'vimeo_septuplet', tmp_path / 'out', test_clips=5, progress=False)
    (root / 'sep_testlist.txt').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(DataError, match=r'sep_testlist\.txt: cannot be read'):
        prepare_vimeo90k(root, tmp_path / 'out', splits=('test',), progress=False)
    assert not (tmp_path / 'out').exists()


def test_one_split_and_other_kinds(sample, tmp_path):
    prepare_vimeo90k(sample / 'vimeo_septuplet', tmp_path, scale=2, degradation='BD', codec='raw', splits=('test',),
                     progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'meta_info_Vimeo90K_test_GT.txt', 'vimeo90k_test_GT.lmdb', 'vimeo90k_test_LRx2_BD.lmdb']
    lr = LmdbReader(tmp_path / 'vimeo90k_test_LRx2_BD.lmdb')
    source = cv2.imread(str(sample / 'vimeo_septuplet/sequences/00002/0001/im1.png'))
    assert lr.record('00002/0001/im1').raw and (lr.image('00002/0001/im1') == degrade(source, 2, 'BD')).all()
    about = lr.about()
    assert (about['source'], about['split'], about['scale'], about['degradation'], about['codec']) == (
        'Vimeo-90K septuplets', 'test', 2, 'BD', 'raw')


def test_a_real_septuplet(shared, tmp_path):
    source = shared / 'data/BasicVSR_PlusPlus/tests/data/vimeo90k'
    if not source.is_dir():
        pytest.skip('no septuplet in shared/')
    shutil.copytree(source, tmp_path / 'septuplet/sequences')
    for name in LISTS.values():
        (tmp_path / 'septuplet' / name).write_text('00001/0266\n')
    prepare_vimeo90k(tmp_path / 'septuplet', tmp_path / 'out', progress=False)
    gt, lr = (LmdbReader(tmp_path / f'out/vimeo90k_train_{kind}.lmdb') for kind in ('GT', 'LRx4'))
    assert gt.listed() == {f'00001/0266/im{number}': (64, 112, 3) for number in range(1, 8)}
    for key in gt.stored_keys():
        frame = cv2.imread(str(source / f'{key}.png'))
        assert (gt.image(key) == frame).all() and (lr.image(key) == imresize(frame, 1 / 4)).all()
