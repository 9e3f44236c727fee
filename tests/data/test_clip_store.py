import cv2
import numpy as np
import pytest
from clip_files import frame, numbered, write_clips, write_database

from basicsr_nriqa.data import DataError
from basicsr_nriqa.data.clip_store import ClipStore, frame_key, natural

CLIPS = {'b 10': numbered('im{}', 11), 'b 9': ['im1']}


@pytest.mark.parametrize('backend', ['disk', 'lmdb'])
def test_clips_and_frames_in_natural_order(tmp_path, backend):
    write = write_clips if backend == 'disk' else write_database
    store = ClipStore(write(tmp_path / 'x.lmdb', CLIPS), backend)
    assert list(store.clips().items()) == [('b 9', ['b 9/im1']), ('b 10', numbered('b 10/im{}', 11))]
    np.testing.assert_array_equal(store.image('b 10/im10'), frame(32, 48, (0, 0, 9)))
    assert store.size('b 9/im1') == (32, 48)


@pytest.mark.parametrize('codec', ['png', 'raw', 'disk'])
def test_a_window_is_that_of_the_frame(tmp_path, codec):
    place = tmp_path / 'x.lmdb'
    if codec == 'disk':
        store = ClipStore(write_clips(place, CLIPS), 'disk')
    else:
        store = ClipStore(write_database(place, CLIPS, codec=codec), 'lmdb')
    pixels, size = store.window('b 10/im3', 5, 7, 8, 9)
    assert size == (32, 48)
    np.testing.assert_array_equal(pixels, frame(32, 48, (0, 0, 2))[5:13, 7:16])


def test_frames_at_the_top_hidden_files_and_capitals(tmp_path):
    write_clips(tmp_path, {'': ['f2', 'f10']}, suffix='.PNG')
    write_clips(tmp_path, {'': ['._f2'], '.trash': ['f1']})
    (tmp_path / 'notes.txt').write_text('no image')
    store = ClipStore(tmp_path, 'disk')
    assert store.clips() == {'': ['f2', 'f10']} and frame_key('', 'f2') == 'f2' and frame_key('a', 'f2') == 'a/f2'
    assert store.image('f10').shape == (32, 48, 3)


def test_links_to_clips_are_followed(tmp_path):
    write_clips(tmp_path / 'all', CLIPS)
    (tmp_path / 'subset').mkdir()
    (tmp_path / 'subset/one').symlink_to(tmp_path / 'all/b 9')
    assert ClipStore(tmp_path / 'subset', 'disk').clips() == {'one': ['one/im1']}


def test_a_folder_of_several_formats(tmp_path):
    write_clips(tmp_path, {'a': ['im1']})
    write_clips(tmp_path, {'a': ['im2']}, suffix='.bmp')
    store = ClipStore(tmp_path, 'disk')
    assert [store.image(f'a/im{number}').shape for number in (1, 2, 1)] == [(32, 48, 3)] * 3
    write_clips(tmp_path, {'a': ['im2']}, suffix='.png')
    with pytest.raises(DataError, match='a/im2: two images have this name'):
        store.clips()


def test_natural_order():
    names = ['im10', 'im2', 'im1', 'im1b', 'a', 'im02', '10', '9']
    assert sorted(names, key=natural) == ['9', '10', 'a', 'im1', 'im1b', 'im02', 'im2', 'im10']


def test_errors_name_the_thing(tmp_path):
    with pytest.raises(DataError, match='no such folder'):
        ClipStore(tmp_path / 'nowhere', 'disk')
    with pytest.raises(DataError, match=r'a folder, but no LMDB database.* io_backend to \{type: disk\}'):
        ClipStore(tmp_path, 'lmdb')
    with pytest.raises(DataError, match=r'no LMDB database is there.* Correct the path'):
        ClipStore(tmp_path / 'nowhere.lmdb', 'lmdb')
    with pytest.raises(DataError, match="type 'tape' is not known"):
        ClipStore(tmp_path, 'tape')
    with pytest.raises(DataError, match='no image is in there'):
        ClipStore(tmp_path, 'disk').clips()
    write_clips(tmp_path, {'a': ['im1']})
    with pytest.raises(DataError, match='a/im2: no such frame'):
        ClipStore(tmp_path, 'disk').image('a/im2')
    (tmp_path / 'a/im1.png').write_bytes(cv2.imencode('.png', frame(8, 8, 0))[1].tobytes()[:60])
    with pytest.raises(DataError, match=r'a/im1\.png: not a readable image'):
        ClipStore(tmp_path, 'disk').window('a/im1', 0, 0, 4, 4)
