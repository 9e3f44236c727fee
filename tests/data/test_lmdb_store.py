import pickle

import cv2
import numpy as np
import pytest

from basicsr_nriqa.data import DataError, lmdb_store
from basicsr_nriqa.data.lmdb_store import LmdbReader, LmdbWriter


def _png(value, size=(4, 6)):
    image = np.full((*size, 3), value, np.uint8)
    return cv2.imencode('.png', image)[1].tobytes(), image


def _pack(path, count=3):
    with LmdbWriter(path, commit_every=2) as writer:
        for index in range(count):
            data, image = _png(index)
            writer.put(f'a/im{index}', data, image.shape)


def test_round_trip_and_stock_basicsr_reads_it(tmp_path):
    from basicsr.utils import FileClient, imfrombytes
    _pack(tmp_path / 'x.lmdb')
    reader = pickle.loads(pickle.dumps(LmdbReader(tmp_path / 'x.lmdb')))
    assert reader.listed_keys() == ['a/im0', 'a/im1', 'a/im2']
    assert (reader.image('a/im2') == 2).all()
    assert (tmp_path / 'x.lmdb' / 'meta_info.txt').read_text().splitlines()[0] == 'a/im0.png (4,6,3) 1'
    lmdb_store._environments.clear()  # lmdb allows one environment of a path in a process
    client = FileClient('lmdb', db_paths=[str(tmp_path / 'x.lmdb')], client_keys=['gt'])
    assert (imfrombytes(client.get('a/im1', 'gt')) == 1).all()


def test_two_readers_of_one_database(tmp_path):
    _pack(tmp_path / 'x.lmdb')
    first, second = LmdbReader(tmp_path / 'x.lmdb'), LmdbReader(tmp_path / 'x.lmdb')
    assert first.get('a/im0') == second.get('a/im0')


def test_the_map_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(lmdb_store, '_INITIAL_MAP', 2**16)
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    data = cv2.imencode('.png', noise)[1].tobytes()  # larger than the whole map
    with LmdbWriter(tmp_path / 'x.lmdb') as writer:
        writer.put('black', *(lambda d, i: (d, i.shape))(*_png(0)))
        writer.put('noise', data, noise.shape)
    assert (LmdbReader(tmp_path / 'x.lmdb').image('noise') == noise).all()


def test_an_interrupted_run_looks_partial_and_can_be_continued(tmp_path):
    path = tmp_path / 'x.lmdb'
    data, image = _png(5)
    with pytest.raises(KeyboardInterrupt), LmdbWriter(path) as writer:
        writer.put('a/im0', data, image.shape)
        raise KeyboardInterrupt
    assert not path.exists()
    with LmdbWriter(path) as writer:
        assert 'a/im0' in writer and 'a/im1' not in writer
        writer.adopt('a/im0')
        writer.put('a/im1', data, image.shape)
    assert LmdbReader(path).listed_keys() == ['a/im0', 'a/im1']
    assert (LmdbReader(path).image('a/im0') == 5).all()


def test_errors_name_the_thing(tmp_path):
    with pytest.raises(DataError, match=r'nowhere\.lmdb: no LMDB database'):
        LmdbReader(tmp_path / 'nowhere.lmdb')
    with LmdbWriter(tmp_path / 'x.lmdb') as writer:
        writer.put('broken', b'\x89PNG nonsense', (4, 4, 3))
    reader = LmdbReader(tmp_path / 'x.lmdb')
    with pytest.raises(DataError, match=r"x\.lmdb: the database has no key 'a/im9'"):
        reader.get('a/im9')
    with pytest.raises(DataError, match="key 'broken': not a readable image"):
        reader.image('broken')
    with pytest.raises(DataError, match='exists already'):
        LmdbWriter(tmp_path / 'x.lmdb')
    with pytest.raises(DataError, match=r'must end in \.lmdb'):
        LmdbWriter(tmp_path / 'x')
