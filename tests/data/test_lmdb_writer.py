import os
import resource
import signal
import time
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from filesystems import in_child, mount_read_only, mount_small_disk, start_child
from hypothesis import given, settings
from hypothesis import strategies as st

from basicsr_nriqa.data import DataError, lmdb_writer
from basicsr_nriqa.data.image_codec import encode_image
from basicsr_nriqa.data.lmdb_store import LmdbReader
from basicsr_nriqa.data.lmdb_writer import LmdbWriter

SHAPE = (64, 64, 3)


def _data(seed):
    return encode_image(np.random.default_rng(seed).integers(0, 256, SHAPE, dtype=np.uint8))


def _put(writer, *seeds):
    for seed in seeds:
        writer.put(f'a/im{seed}', _data(seed), SHAPE)


def test_the_map_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(lmdb_writer, '_INITIAL_MAP', 2**16)
    black, noise = np.zeros((4, 4, 3), np.uint8), np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    with LmdbWriter(tmp_path / 'x.lmdb') as writer:
        writer.put('black', encode_image(black), black.shape)
        writer.put('noise', encode_image(noise), noise.shape)  # larger than the whole map
    assert (LmdbReader(tmp_path / 'x.lmdb').image('noise') == noise).all()


def test_large_images_do_not_wait_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(lmdb_writer, '_COMMIT_BYTES', 3 * len(_data(0)))
    with LmdbWriter(tmp_path / 'x.lmdb') as writer:
        for seed in range(20):
            _put(writer, seed)
            assert len(writer._pending) < 4
    assert len(LmdbReader(tmp_path / 'x.lmdb').stored_keys()) == 20


def test_an_interrupted_run_looks_partial_and_can_be_continued(tmp_path):
    path = tmp_path / 'x.lmdb'
    with pytest.raises(KeyboardInterrupt), LmdbWriter(path) as writer:
        _put(writer, 0)
        raise KeyboardInterrupt
    assert not path.exists()
    with LmdbWriter(path) as writer:
        assert writer.stored('a/im0').shape == SHAPE and writer.stored('a/im1') is None
        _put(writer, 1)
        assert writer.stored('a/im1')  # before it is committed, too
    assert LmdbReader(path).listed_keys() == ['a/im0', 'a/im1']
    assert sorted(file.name for file in path.iterdir()) == ['data.mdb', 'lock.mdb', 'meta_info.txt']
    assert [file.name for file in tmp_path.iterdir()] == ['x.lmdb']


def test_what_does_not_match_its_checksum_is_not_there(tmp_path):
    with pytest.raises(KeyboardInterrupt), LmdbWriter(tmp_path / 'x.lmdb') as writer:
        _put(writer, 0, 1)
        raise KeyboardInterrupt
    with lmdb.open(str(writer.partial), max_dbs=1) as environment, environment.begin(write=True) as transaction:
        transaction.put(b'a/im0', _data(7))  # a whole image, but another
    with LmdbWriter(tmp_path / 'x.lmdb') as writer:
        assert writer.stored('a/im0') is None and writer.stored('a/im1')
        _put(writer, 0)
    assert LmdbReader(tmp_path / 'x.lmdb').get('a/im0') == _data(0)


def test_killed_at_any_moment_it_goes_on(tmp_path):
    path = tmp_path / 'x.lmdb'
    rng = np.random.default_rng(0)

    def pack():
        with LmdbWriter(path, commit_every=3) as writer:
            for seed in range(60):
                if not writer.stored(f'a/im{seed}'):
                    _put(writer, seed)
                    time.sleep(0.002)

    kills = 0
    while not path.exists():
        pid = start_child(pack)
        time.sleep(rng.uniform(0.02, 0.08) * 1.1**kills)  # in the end any machine has the time to finish
        os.kill(pid, signal.SIGKILL)
        kills += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        assert kills < 50
    assert kills > 1
    reader = LmdbReader(path)
    assert len(reader.stored_keys()) == 60 and all(reader.get(f'a/im{seed}') == _data(seed) for seed in range(60))
    assert sorted(reader.listed_keys()) == sorted(reader.stored_keys())


def test_a_second_packer_is_refused(tmp_path):
    path = tmp_path / 'x.lmdb'
    with LmdbWriter(path) as writer:
        with pytest.raises(DataError, match=r'x\.lmdb: another process is packing'):
            in_child(lambda: LmdbWriter(path).__enter__())
        _put(writer, 0)
    with pytest.raises(DataError, match=r'exists already\. Remove it'):
        LmdbWriter(path).__enter__()
    assert not writer.partial.exists()


def test_a_partial_database_that_is_cut_off_is_told_instead_of_killing_the_process(tmp_path):
    with pytest.raises(KeyboardInterrupt), LmdbWriter(tmp_path / 'x.lmdb') as writer:
        _put(writer, *range(20))
        raise KeyboardInterrupt
    with (writer.partial / 'data.mdb').open('r+b') as file:
        file.truncate(3 * 4096)
    with pytest.raises(DataError, match=r'x\.lmdb\.partial: data\.mdb is cut off \(12288 of'):
        LmdbWriter(tmp_path / 'x.lmdb').__enter__()
    with pytest.raises(DataError, match='is cut off'):  # and the lock was given back
        LmdbWriter(tmp_path / 'x.lmdb').__enter__()


def test_a_full_disk_loses_nothing(tmp_path):
    """A real small disk, on which there is more room afterwards."""
    disk = tmp_path / 'disk'
    disk.mkdir()

    def pack():
        mount_small_disk(disk, 2**19)
        told = r'cannot be written \(.*; 0\.\d MB are free there\).*start again to go on'
        with pytest.raises(DataError, match=told), LmdbWriter(disk / 'x.lmdb', commit_every=4) as writer:
            _put(writer, *range(100))
        assert not (disk / 'x.lmdb').exists()
        os.system(f'mount -o remount,size=8m {disk}')
        with LmdbWriter(disk / 'x.lmdb', commit_every=4) as writer:
            kept = [seed for seed in range(100) if writer.stored(f'a/im{seed}')]
            _put(writer, *(seed for seed in range(100) if seed not in kept))
        reader = LmdbReader(disk / 'x.lmdb')
        return len(kept), all(reader.get(f'a/im{seed}') == _data(seed) for seed in range(100))

    kept, whole = in_child(pack)
    assert 4 <= kept < 100 and whole


def test_a_quota_loses_nothing(tmp_path):
    path = tmp_path / 'x.lmdb'

    def pack():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, 2**19))
        with LmdbWriter(path, commit_every=4) as writer:
            _put(writer, *range(100))

    with pytest.raises(DataError, match='cannot be written'):
        in_child(pack)
    with LmdbWriter(path) as writer:
        kept = [seed for seed in range(100) if writer.stored(f'a/im{seed}')]
        _put(writer, *(seed for seed in range(100) if seed not in kept))
    assert 4 <= len(kept) < 100 and len(LmdbReader(path).stored_keys()) == 100


def test_a_read_only_place(tmp_path):
    def pack():
        mount_read_only(tmp_path)
        with LmdbWriter(tmp_path / 'x.lmdb') as writer:
            _put(writer, 0)

    with pytest.raises(DataError, match=r'x\.lmdb\.partial: cannot be written \(Read-only file system; '):
        in_child(pack)


def test_other_settings_do_not_go_into_one_database(tmp_path):
    path = tmp_path / 'x.lmdb'
    with pytest.raises(KeyboardInterrupt), LmdbWriter(path, {'scale': 4, 'clips': ['a']}) as writer:
        raise KeyboardInterrupt
    with pytest.raises(DataError, match=r'x\.lmdb\.partial was begun with other settings: scale 4, now 2\.'):
        LmdbWriter(path, {'scale': 2, 'clips': ['a']}).__enter__()
    with LmdbWriter(path, {'scale': 4, 'clips': ['a']}) as writer:
        _put(writer, 0)
    assert LmdbReader(path).about() == {'scale': 4, 'clips': ['a']}


@settings(deadline=None, max_examples=15)
@given(keys=st.sets(st.text(st.characters(codec='utf-8', exclude_categories=['Cc', 'Zl', 'Zp', 'Cs']), min_size=1,
                            max_size=60), min_size=1, max_size=8))
def test_any_name_can_be_a_key(tmp_path_factory, keys):
    path = Path(tmp_path_factory.mktemp('keys'), 'x.lmdb')
    with LmdbWriter(path) as writer:
        for key in keys:
            writer.put(key, key.encode(), SHAPE)
    reader = LmdbReader(path)
    assert set(reader.listed_keys()) == set(reader.stored_keys()) == keys
    assert all(reader.get(key) == key.encode() for key in keys)


@pytest.mark.parametrize('key', ['', 'a\nb', 'x' * 512, '\0about', 'basicsr_nriqa'])
def test_what_cannot_be_a_key(tmp_path, key):
    with pytest.raises(DataError, match=r'x\.lmdb: .* cannot be a key'), LmdbWriter(tmp_path / 'x.lmdb') as writer:
        writer.put(key, b'x', SHAPE)


def test_the_name_must_end_in_lmdb(tmp_path):
    with pytest.raises(DataError, match=r'must end in \.lmdb'):
        LmdbWriter(tmp_path / 'x')


def test_stock_basicsr_does_not_see_the_records(tmp_path):
    with LmdbWriter(tmp_path / 'x.lmdb') as writer:
        _put(writer, 0)
    with lmdb.open(str(tmp_path / 'x.lmdb'), readonly=True, lock=False) as environment, \
            environment.begin() as transaction:
        assert cv2.imdecode(np.frombuffer(transaction.get(b'a/im0'), np.uint8), 1).shape == SHAPE
