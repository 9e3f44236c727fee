import shutil

import cv2
import lmdb
import numpy as np
import pytest
from conftest import ROOT, run_python

from basicsr_nriqa.data import DataError
from basicsr_nriqa.data.database_check import check_database
from basicsr_nriqa.data.image_codec import encode_image
from basicsr_nriqa.data.lmdb_store import LmdbReader, close_databases
from basicsr_nriqa.data.lmdb_writer import LmdbWriter
from basicsr_nriqa.data.packing import Frame, pack_pairs


def _image(seed):
    return np.random.default_rng(seed).integers(0, 256, (16, 24, 3), dtype=np.uint8)


@pytest.fixture(params=['png', 'raw'])
def pair(request, tmp_path):
    frames = [Frame(f'a/im{number}', lambda number=number: _image(number)) for number in range(1, 4)]
    paths = tmp_path / 'GT.lmdb', tmp_path / 'LRx4.lmdb'
    pack_pairs(frames, *paths, scale=4, codec=request.param, progress=False)
    return paths


def _change(path, change):
    """Change a database behind its back."""
    close_databases()
    with lmdb.open(str(path), max_dbs=1) as environment, environment.begin(write=True) as transaction:
        change(transaction)


def _problems(*arguments, **options):
    return [problem for report in check_database(*arguments, progress=False, **options) for problem in report.problems]


@pytest.mark.parametrize('decode', [True, False])
def test_a_whole_pair(pair, decode):
    gt, lr = check_database(*pair, decode=decode, progress=False)
    assert not gt.problems and not lr.problems
    assert (gt.images, gt.checksums, gt.sizes) == (3, 3, {(16, 24): 3}) and lr.sizes == {(4, 6): 3}
    assert gt.raw in (0, 3) and lr.about['scale'] == 4


@pytest.mark.parametrize('decode', [True, False])
def test_each_damage_is_named(pair, decode):
    gt = pair[0]
    data = bytearray(LmdbReader(gt).get('a/im2'))
    data[-60] ^= 1
    _change(gt, lambda transaction: transaction.put(b'a/im2', bytes(data)))
    problems = _problems(*pair, decode=decode)
    assert any("GT.lmdb, key 'a/im2': its checksum is" in problem for problem in problems)
    _change(gt, lambda transaction: transaction.put(b'a/im2', b'\x89PNG'))
    assert any("key 'a/im2': not a readable image (4 bytes)" in problem for problem in _problems(gt, decode=decode))
    _change(gt, lambda transaction: transaction.put(b'a/im2', encode_image(_image(0)[:12])))
    problems = _problems(*pair, decode=decode)
    assert any("'a/im2': 24x12 pixels, but meta_info.txt says 24x16" in problem for problem in problems)
    assert any("'a/im2': 6x4 pixels, which times 4 is not the 24x12 of GT" in problem for problem in problems)


def test_missing_and_unlisted_keys(pair):
    _change(pair[0], lambda transaction: transaction.delete(b'a/im3'))
    _change(pair[1], lambda transaction: transaction.put(b'b/im1', encode_image(_image(0))))
    gt, lr = pair
    assert _problems(*pair) == [
        f"{gt}, key 'a/im3': listed in meta_info.txt, but not stored",
        f'{gt}: 2 images, but it was made with 3',
        f"{lr}, key 'b/im1': stored, but not listed in meta_info.txt",
        f'{lr}: 4 images, but it was made with 3',
        f"{gt}, key 'a/im3': no whole image, but {lr} has one",
        f"{gt}, key 'b/im1': no whole image, but {lr} has one"]


def test_sizes_within_a_clip(tmp_path):
    with LmdbWriter(tmp_path / 'x.lmdb') as writer:
        for number, height in enumerate((16, 16, 8)):
            writer.put(f'a/im{number}', encode_image(_image(0)[:height]), (height, 24, 3))
    assert _problems(tmp_path / 'x.lmdb') == [
        f"{tmp_path / 'x.lmdb'}, key 'a/im2': 24x8 pixels, but 'a/im0' of the same clip 24x16"]
    with LmdbWriter(tmp_path / 'y.lmdb') as writer:
        for number, height in enumerate((16, 8)):  # single images, of any sizes
            writer.put(f'im{number}', encode_image(_image(0)[:height]), (height, 24, 3))
    assert not _problems(tmp_path / 'y.lmdb')


def test_any_damaged_page_is_told(pair, tmp_path):
    """LMDB aborts the process, reports an error or does not notice; nothing may end in a traceback."""
    gt = pair[0]
    whole = (gt / 'data.mdb').read_bytes()
    told = 0
    for page in range(2, len(whole) // 4096):
        close_databases()
        (gt / 'data.mdb').write_bytes(whole[:4096 * page] + bytes(4096) + whole[4096 * (page + 1):])
        try:
            told += bool(_problems(gt))
        except DataError as error:
            told += 'damaged inside' in str(error) or 'no whole LMDB database' in str(error)
    assert told >= 2  # the pages of the two trees; of the others some are free


def test_another_scale_and_a_list(pair, tmp_path):
    assert len(_problems(*pair, scale=2)) == 3
    (tmp_path / 'list.txt').write_text('a 3 (16,24,3)\n')
    assert not _problems(pair[0], clip_list=tmp_path / 'list.txt')
    (tmp_path / 'list.txt').write_text('a 4 (16,24,3)\nb 3 (16,24,3)\n')
    problems = _problems(pair[0], clip_list=tmp_path / 'list.txt')
    assert 'has 3 whole frames' in problems[0] and "clip 'b' of" in problems[1] and len(problems) == 2


def test_a_database_of_stock_basicsr(tmp_path):
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs
    for index in range(2):
        cv2.imwrite(str(tmp_path / f'{index}.png'), _image(index))
    make_lmdb_from_imgs(str(tmp_path), str(tmp_path / 'x.lmdb'), ['0.png', '1.png'], ['a/im1', 'a/im2'])
    report, = check_database(tmp_path / 'x.lmdb', decode=False, progress=False)
    assert (report.images, report.checksums, report.problems, report.about) == (2, 0, [], None)
    _change(tmp_path / 'x.lmdb', lambda transaction: transaction.put(b'a/im1', encode_image(_image(0))[:200]))
    assert ['not a readable image (200 bytes)' in problem for problem in
            _problems(tmp_path / 'x.lmdb', decode=False)] == [True]  # decoded, as it has no checksum


def test_a_file_that_is_cut_off_is_told_instead_of_killing_the_process(pair):
    close_databases()
    with (pair[0] / 'data.mdb').open('r+b') as file:
        file.truncate(8192 + 100)
    with pytest.raises(DataError, match=r'GT\.lmdb: data\.mdb is cut off \(8292 of \d+ bytes\)'):
        check_database(pair[0])
    with pytest.raises(DataError, match='is cut off'):
        LmdbReader(pair[0]).image('a/im1')


def test_the_script(sample, tmp_path):
    script, gt, lr = ROOT / 'scripts/check_lmdb.py', tmp_path / 'GT.lmdb', sample / 'vimeo90k_train_LRx4.lmdb'
    shutil.copytree(sample / 'vimeo90k_train_GT.lmdb', gt)
    done = run_python(script, gt, lr, '--list', sample / 'meta_info_Vimeo90K_train_GT.txt')
    assert done.returncode == 0 and 'All is well.' in done.stdout, done.stderr
    assert '21 images, 0 of them raw, 21 with checksum; 96x64 (21)' in done.stdout
    for key in LmdbReader(gt).stored_keys():
        _change(gt, lambda transaction, key=key: transaction.put(key.encode(), b'x'))
    close_databases()
    done = run_python(script, gt)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert '22 more; --all shows them' in done.stderr and '\n42 problems. Copy or make' in done.stderr
