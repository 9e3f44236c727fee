import multiprocessing
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import cv2
import lmdb
import numpy as np
import pytest
from filesystems import in_child, mount_read_only

from basicsr_nriqa.data import DataError
from basicsr_nriqa.data.image_codec import encode_image
from basicsr_nriqa.data.lmdb_store import LmdbReader, close_databases
from basicsr_nriqa.data.lmdb_writer import LmdbWriter


def _image(seed=0, size=(20, 30)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.fixture(params=['png', 'raw'])
def database(request, tmp_path):
    """Three images."""
    with LmdbWriter(tmp_path / 'x.lmdb', {'scale': 4}) as writer:
        for index in range(3):
            writer.put(f'a/im{index}', encode_image(_image(index), request.param), (20, 30, 3))
    return tmp_path / 'x.lmdb'


def test_what_is_read(database):
    reader = pickle.loads(pickle.dumps(LmdbReader(database)))
    assert reader.listed() == {f'a/im{index}': (20, 30, 3) for index in range(3)}
    assert reader.listed_keys() == reader.stored_keys() == ['a/im0', 'a/im1', 'a/im2']
    assert (reader.image('a/im2') == _image(2)).all() and reader.size('a/im2') == (20, 30)
    crop = reader.crop('a/im1', 3, 5, 7, 11)
    assert crop.shape == (7, 11, 3) and (crop == _image(1)[3:10, 5:16]).all()
    assert reader.about() == {'scale': 4} and reader.record('a/im1').shape == (20, 30, 3)
    assert reader.record('a/im9') is None


def test_the_list_and_the_images_are_those_of_stock_basicsr(tmp_path):
    from basicsr.utils import FileClient, imfrombytes
    with LmdbWriter(tmp_path / 'x.lmdb') as writer:
        writer.put('a/im1', encode_image(_image()), (20, 30, 3))
    assert (tmp_path / 'x.lmdb' / 'meta_info.txt').read_text() == 'a/im1.png (20,30,3) 1\n'
    client = FileClient('lmdb', db_paths=[str(tmp_path / 'x.lmdb')], client_keys=['gt'])
    assert (imfrombytes(client.get('a/im1', 'gt')) == _image()).all()


def test_a_database_of_stock_basicsr(tmp_path):
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs
    for index in range(2):
        cv2.imwrite(str(tmp_path / f'{index}.png'), _image(index))
    make_lmdb_from_imgs(str(tmp_path), str(tmp_path / 'x.lmdb'), ['0.png', '1.png'], ['a b/im1', 'a b/im2'])
    reader = LmdbReader(tmp_path / 'x.lmdb')
    assert reader.listed() == {'a b/im1': (20, 30, 3), 'a b/im2': (20, 30, 3)}
    assert (reader.image('a b/im2') == _image(1)).all()
    assert reader.about() is None and reader.record('a b/im1') is None


def test_two_readers_threads_and_processes(database):
    readers = LmdbReader(database), LmdbReader(database)
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda index: readers[index % 2].image(f'a/im{index % 3}'), range(60)))
    assert all((image == _image(index % 3)).all() for index, image in enumerate(images))
    with multiprocessing.get_context('fork').Pool(2) as pool:  # while this process has the database open
        assert pool.map(readers[0].size, ['a/im0'] * 4) == [(20, 30)] * 4
    assert (readers[1].image('a/im0') == _image(0)).all()


def test_a_read_only_disk(database):

    def read():
        mount_read_only(database)
        return LmdbReader(database).crop('a/im2', 0, 0, 20, 30)

    assert (in_child(read) == _image(2)).all()


def test_what_another_reader_holds_is_not_called_damaged(database):
    close_databases()
    with lmdb.open(str(database), readonly=True, lock=False), pytest.raises(
            DataError, match=r'x\.lmdb: cannot be opened \(.*already open in this process.*LMDB opens a database once'):
        LmdbReader(database).image('a/im0')
    assert (LmdbReader(database).image('a/im0') == _image(0)).all()


def test_a_key_with_the_name_of_the_inner_database(tmp_path):
    with lmdb.open(str(tmp_path / 'x.lmdb')) as environment, environment.begin(write=True) as transaction:
        transaction.put(b'basicsr_nriqa', b'an image')
    with pytest.raises(DataError, match=r'x\.lmdb: cannot be opened'):
        LmdbReader(tmp_path / 'x.lmdb').stored_keys()


def test_a_damaged_record(database):
    close_databases()
    with lmdb.open(str(database), max_dbs=1) as environment:
        records = environment.open_db(b'basicsr_nriqa')
        with environment.begin(write=True) as transaction:
            transaction.put(b'a/im1', b'short', db=records)
    with pytest.raises(DataError, match=r'x\.lmdb: no whole LMDB database \(unpack'):
        LmdbReader(database).record('a/im1')


def test_a_database_that_is_packed_again_is_read_anew(database):
    reader = LmdbReader(database)
    assert (reader.image('a/im0') == _image(0)).all()
    shutil.rmtree(database)
    with LmdbWriter(database) as writer:
        writer.put('a/im0', encode_image(_image(9)), (20, 30, 3))
    assert (reader.image('a/im0') == _image(9)).all()


def test_errors_name_the_thing(tmp_path):
    with pytest.raises(DataError, match=r'nowhere\.lmdb: no LMDB database'):
        LmdbReader(tmp_path / 'nowhere.lmdb')
    (tmp_path / 'empty.lmdb').mkdir()
    (tmp_path / 'empty.lmdb/data.mdb').touch()
    with pytest.raises(DataError, match=r'empty\.lmdb: no whole LMDB database \(data\.mdb is empty\)'):
        LmdbReader(tmp_path / 'empty.lmdb')
    (tmp_path / 'begun.lmdb.partial').mkdir()
    with pytest.raises(DataError, match=r'begun\.lmdb\.partial is one that is not finished'):
        LmdbReader(tmp_path / 'begun.lmdb')
    with LmdbWriter(tmp_path / 'x.lmdb') as writer:
        writer.put('broken', b'\x89PNG nonsense', (4, 4, 3))
    reader = LmdbReader(tmp_path / 'x.lmdb')
    with pytest.raises(DataError, match=r"x\.lmdb: the database has no key 'a/im9'"):
        reader.get('a/im9')
    with pytest.raises(DataError, match="key 'broken': not a readable image"):
        reader.image('broken')
    (tmp_path / 'x.lmdb/meta_info.txt').write_text('a/im1.png (4,4,3) 1\na/im2.png 1\n')
    with pytest.raises(DataError, match=r"meta_info\.txt, line 2: expected 'KEY\.png .*found 'a/im2\.png 1'"):
        reader.listed()
    (tmp_path / 'x.lmdb/meta_info.txt').unlink()
    with pytest.raises(DataError, match=r'meta_info\.txt: missing'):
        reader.listed()
    shutil.copytree(tmp_path / 'x.lmdb', tmp_path / 'y.lmdb')
    (tmp_path / 'y.lmdb/data.mdb').write_bytes(b'no database at all' * 1000)
    with pytest.raises(DataError, match=r'y\.lmdb: no whole LMDB database'):
        LmdbReader(tmp_path / 'y.lmdb').get('broken')
