import os
import signal
import time
import tracemalloc
from functools import partial

import lmdb
import numpy as np
import pytest
from filesystems import in_child, mount_small_disk, start_child

from basicsr_nriqa.data import DataError, lmdb_writer
from basicsr_nriqa.data.degradation import degrade
from basicsr_nriqa.data.image_codec import encode_image
from basicsr_nriqa.data.lmdb_store import LmdbReader, close_databases
from basicsr_nriqa.data.lmdb_writer import LmdbWriter
from basicsr_nriqa.data.packing import Frame, pack_pairs, write_meta_info


def _image(seed, size=(32, 48)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def _frames(count, load=_image, **options):
    return [Frame(f'clip {index // 3}/im{index % 3 + 1}', partial(load, index, **options), f'place of {index}')
            for index in range(count)]


def _pack(folder, frames, **options):
    pack_pairs(frames, folder / 'GT.lmdb', folder / 'LR.lmdb', **{'scale': 4, 'progress': False, **options})
    return LmdbReader(folder / 'GT.lmdb'), LmdbReader(folder / 'LR.lmdb')


@pytest.mark.parametrize('degradation', ['BI', 'BD'])
@pytest.mark.parametrize('codec', ['png', 'raw'])
@pytest.mark.parametrize('encoded', [False, True])
@pytest.mark.parametrize('workers', [1, 3])
def test_what_is_packed(tmp_path, codec, degradation, encoded, workers):
    frames = _frames(9, (lambda seed: encode_image(_image(seed))) if encoded else _image)
    gt, lr = _pack(tmp_path, frames, codec=codec, degradation=degradation, workers=workers)
    assert gt.listed_keys() == lr.listed_keys() == [frame.key for frame in frames]
    for index, frame in enumerate(frames):
        assert (gt.image(frame.key) == _image(index)).all()
        assert (lr.image(frame.key) == degrade(_image(index), 4, degradation)).all()
        assert gt.record(frame.key).raw == lr.record(frame.key).raw == (codec == 'raw')
    write_meta_info(tmp_path / 'meta.txt', gt.path)
    assert (tmp_path / 'meta.txt').read_text() == ''.join(f'clip {clip} 3 (32,48,3)\n' for clip in range(3))


def test_encoded_frames_are_stored_as_they_are(tmp_path):
    data = encode_image(_image(0), compress_level=9)
    gt, _ = _pack(tmp_path, [Frame('a/im1', lambda: data)])
    assert gt.get('a/im1') == data


def test_a_second_run_leaves_it_alone_and_other_settings_are_refused(tmp_path):
    _pack(tmp_path, _frames(3))
    before = [(file, file.stat().st_mtime_ns) for file in sorted(tmp_path.rglob('*'))]

    def never(seed):
        raise AssertionError('was read again')

    _pack(tmp_path, _frames(3, never))
    assert [(file, file.stat().st_mtime_ns) for file in sorted(tmp_path.rglob('*'))] == before
    with pytest.raises(DataError, match=r"LR\.lmdb is there and was made with other settings: degradation 'BI', now "
                                        r"'BD'\. Remove it"):
        _pack(tmp_path, _frames(3), degradation='BD')
    with pytest.raises(DataError, match='frames 3, now 6'):
        _pack(tmp_path, _frames(6))


def test_what_is_packed_is_verified_and_not_read_again(tmp_path):
    loaded = []

    def load(seed):
        if seed == 7 and len(loaded) < 100:
            raise OSError(5, 'disk trouble')
        loaded.append(seed)
        return _image(seed)

    with pytest.raises(DataError, match=r'place of 7: cannot read this frame \(disk trouble\)'):
        _pack(tmp_path, _frames(9, load), workers=1, check_space=False)
    partial_gt = tmp_path / 'GT.lmdb.partial'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['GT.lmdb.partial', 'LR.lmdb.partial']
    with lmdb.open(str(partial_gt), max_dbs=1) as environment, environment.begin(write=True) as transaction:
        assert transaction.get(b'clip 1/im1')
        transaction.put(b'clip 1/im1', b'damaged')
    loaded[:] = range(100)
    gt, _ = _pack(tmp_path, _frames(9, load), workers=1, check_space=False)
    assert 3 in loaded[100:] and len(loaded[100:]) < 9
    assert all((gt.image(frame.key) == _image(index)).all() for index, frame in enumerate(_frames(9)))


def test_killed_while_packing_then_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(lmdb_writer, '_COMMIT_SECONDS', 0.1)
    rng = np.random.default_rng(0)

    def load(seed):
        time.sleep(0.004)
        return _image(seed)

    kills = 0
    while not ((tmp_path / 'GT.lmdb').exists() and (tmp_path / 'LR.lmdb').exists()):
        pid = start_child(lambda: _pack(tmp_path, _frames(600, load), workers=2, check_space=False))
        time.sleep(rng.uniform(0.3, 0.8))
        os.kill(pid, signal.SIGKILL)
        kills += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        assert kills < 20
    assert kills > 1
    gt, lr = _pack(tmp_path, _frames(600, load))
    for index, frame in enumerate(_frames(600)):
        assert (gt.image(frame.key) == _image(index)).all()
        assert (lr.image(frame.key) == degrade(_image(index), 4)).all()


@pytest.mark.parametrize('first', ['GT', 'LR'])
def test_one_of_the_two_was_named_before_the_end(tmp_path, first):
    _pack(tmp_path, _frames(3))
    close_databases()
    other = {'GT': 'LR', 'LR': 'GT'}[first]
    (tmp_path / f'{other}.lmdb').rename(tmp_path / f'{other}.lmdb.partial')
    before = (tmp_path / f'{first}.lmdb/data.mdb').stat().st_mtime_ns
    gt, lr = _pack(tmp_path, _frames(3))
    assert len(gt.stored_keys()) == len(lr.stored_keys()) == 3 and not list(tmp_path.glob('*.partial'))
    assert (tmp_path / f'{first}.lmdb/data.mdb').stat().st_mtime_ns == before


def test_gt_serves_for_lr_of_several_kinds(tmp_path):
    _pack(tmp_path, _frames(3))
    before = (tmp_path / 'GT.lmdb/data.mdb').stat().st_mtime_ns
    pack_pairs(_frames(3), tmp_path / 'GT.lmdb', tmp_path / 'BD.lmdb', scale=2, degradation='BD', progress=False)
    reader = LmdbReader(tmp_path / 'BD.lmdb')
    assert all((reader.image(frame.key) == degrade(_image(index), 2, 'BD')).all()
               for index, frame in enumerate(_frames(3)))
    assert (tmp_path / 'GT.lmdb/data.mdb').stat().st_mtime_ns == before
    with pytest.raises(DataError, match=r'GT\.lmdb is there and was made with other settings: frames 3, now 6'):
        pack_pairs(_frames(6), tmp_path / 'GT.lmdb', tmp_path / 'X.lmdb', scale=4, progress=False)
    with pytest.raises(DataError, match='there is no frame to pack'):
        _pack(tmp_path / 'none', [])


def test_a_frame_that_was_mended_to_another_size_does_not_get_in(tmp_path):
    """It is packed when the frames behind it, of other clips too, have been seen already."""
    _pack(tmp_path, _frames(30))
    close_databases()
    for kind in ('GT', 'LR'):
        (tmp_path / f'{kind}.lmdb').rename(tmp_path / f'{kind}.lmdb.partial')
        with lmdb.open(str(tmp_path / f'{kind}.lmdb.partial'), max_dbs=1) as environment, \
                environment.begin(write=True) as transaction:
            transaction.put(b'clip 1/im2', b'damaged')
    with pytest.raises(DataError, match="'clip 1/im2' has 48x16 pixels, but 'clip 1/im1' of the same clip 48x32"):
        _pack(tmp_path, _frames(30, lambda seed: _image(seed)[:16]))


def test_a_second_process_cannot_break_the_end_of_the_first(tmp_path, monkeypatch):
    """It comes when LR has its name and GT has not."""
    seen = []
    finish = LmdbWriter._finish

    def slowly(writer):
        if writer.path.name == 'GT.lmdb':
            assert (tmp_path / 'LR.lmdb').exists()
            with pytest.raises(DataError, match='another process is packing'):
                in_child(lambda: _pack(tmp_path, _frames(3)))
            seen.append(writer)
        finish(writer)

    monkeypatch.setattr(LmdbWriter, '_finish', slowly)
    gt, lr = _pack(tmp_path, _frames(3))
    assert seen and len(gt.stored_keys()) == len(lr.stored_keys()) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ['GT.lmdb', 'LR.lmdb']


@pytest.mark.parametrize('damage, message', [
    (lambda image: b'', r'place of 4: not a readable image \(0 bytes\)'),
    (lambda image: encode_image(image)[:300], r'place of 4: not a readable image \(300 bytes\)'),
    (lambda image: image[:30], r'place of 4: the size 48x30 is not divisible by the scale 4'),
    (lambda image: image[:28], r"frame 'clip 1/im2' has 48x28 pixels, but 'clip 1/im1' of the same clip 48x32"),
])
def test_damaged_frames_and_mixed_sizes(tmp_path, damage, message):
    with pytest.raises(DataError, match=message):
        _pack(tmp_path, _frames(9, lambda seed: damage(_image(seed)) if seed == 4 else _image(seed)), check_space=False)
    assert not list(tmp_path.glob('*.lmdb'))
    gt, _ = _pack(tmp_path, _frames(9))  # mended
    assert len(gt.stored_keys()) == 9


def test_clips_may_differ_in_size(tmp_path):
    gt, _ = _pack(tmp_path, _frames(6, lambda seed: _image(seed, (32, 48) if seed < 3 else (16, 20))))
    assert gt.listed()['clip 1/im1'] == (16, 20, 3)


def test_a_disk_too_small_is_told_before(tmp_path):
    def pack():
        mount_small_disk(tmp_path, 2**18)
        _pack(tmp_path, _frames(300))

    with pytest.raises(DataError, match=r'about 1\.\d MB are still to be written and 0\.\d MB are free'):
        in_child(pack)


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path):
    class Many(list):
        """Frames that are made when asked for."""

        def __init__(self, count):
            self.count = count

        def __len__(self):
            return self.count

        def __getitem__(self, index):
            return Frame(f'a/im{index:05d}', lambda: _image(0, (64, 64)))

        def __iter__(self):
            return map(self.__getitem__, range(self.count))

    def peak(count):
        tracemalloc.start()
        _pack(tmp_path / str(count), Many(count), workers=2, codec='raw')
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(600)
    assert peak(3000) < 1.2 * peak(1200)  # 12 kB a frame: they would be 22 MB more


def test_bad_arguments(tmp_path):
    (tmp_path / 'list').mkdir()
    gt, _ = _pack(tmp_path / 'whole', _frames(3))
    with pytest.raises(DataError, match=r'list: cannot be written .*databases are complete'):
        write_meta_info(tmp_path / 'list', gt.path)
    with pytest.raises(DataError, match="codec: 'jpeg' is not known; expected one of png, raw"):
        _pack(tmp_path, _frames(3), codec='jpeg')
    with pytest.raises(DataError, match="degradation: expected one of BI, BD, got 'XY'"):
        _pack(tmp_path, _frames(3), degradation='XY')
