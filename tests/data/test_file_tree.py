import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from basicsr_nriqa.data import DataError
from basicsr_nriqa.data.file_tree import open_tree


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / 'download' / 'set'
    for number in range(3):
        (root / f'sequences/{number}').mkdir(parents=True)
        (root / f'sequences/{number}/im1.png').write_bytes(bytes([number]) * 1000)
    (root / 'list.txt').write_text('0\n1\n2\n')
    return root


@pytest.fixture
def archive(folder, tmp_path):
    return shutil.make_archive(str(tmp_path / 'set'), 'zip', folder.parent)


@pytest.mark.parametrize('marker', ['list.txt', 'sequences'])
@pytest.mark.parametrize('kind', ['the folder', 'one above it', 'the archive', 'a folder with the archive'])
def test_it_is_found_and_read(folder, archive, tmp_path, kind, marker):
    (tmp_path / 'archives').mkdir()
    shutil.copy(archive, tmp_path / 'archives/a.zip')
    path = {'the folder': folder, 'one above it': folder.parent, 'the archive': archive,
            'a folder with the archive': tmp_path / 'archives'}[kind]
    tree = open_tree(path, marker)
    assert tree.read('list.txt') == b'0\n1\n2\n'
    assert tree.names('sequences/1') == {'im1.png'} and tree.names('sequences') == {'0', '1', '2'}
    assert tree.names('sequences/9') == set()
    assert tree.place('sequences/1/im1.png').endswith('set/sequences/1/im1.png')
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(tree.read, [f'sequences/{index % 3}/im1.png' for index in range(60)]))
    assert parts == [bytes([index % 3]) * 1000 for index in range(60)]
    with pytest.raises(OSError):
        tree.read('sequences/1/im2.png')


def test_an_archive_without_entries_of_folders(tmp_path):
    with zipfile.ZipFile(tmp_path / 'x.zip', 'w') as archive:
        archive.writestr('__MACOSX/train/train_sharp/000/._a', 'x')
        archive.writestr('train/train_sharp/000/a.png', 'x')
        archive.writestr('train/train_sharp/001/a.png', 'y')
    tree = open_tree(tmp_path / 'x.zip', 'train_sharp')
    assert tree.names('train_sharp') == {'000', '001'} and tree.names('train_sharp/001') == {'a.png'}
    assert tree.read('train_sharp/001/a.png') == b'y'


def test_a_damaged_archive_beside_the_one_that_is_wanted(tmp_path, archive):
    (tmp_path / 'both').mkdir()
    (tmp_path / 'both/a.zip').write_bytes(b'PK nothing')
    with pytest.raises(DataError, match=r"no 'list\.txt' in this folder(.|\n)*a\.zip: not a whole zip archive"):
        open_tree(tmp_path / 'both', 'list.txt')
    shutil.copy(archive, tmp_path / 'both/b.ZIP')
    assert open_tree(tmp_path / 'both', 'list.txt').read('list.txt') == b'0\n1\n2\n'


def test_a_truncated_archive(archive):
    with open(archive, 'r+b') as file:
        file.truncate(700)
    with pytest.raises(DataError, match=r'set\.zip: not a whole zip archive .*Fetch it again'):
        open_tree(archive, 'list.txt')


@pytest.mark.parametrize('compression', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member(tmp_path, compression):
    with zipfile.ZipFile(tmp_path / 'x.zip', 'w', compression) as archive:
        archive.writestr('list.txt', 'a')
        archive.writestr('frame', b'0123456789' * 50)
        offset = archive.getinfo('frame').header_offset + 30 + len('frame')
    data = bytearray((tmp_path / 'x.zip').read_bytes())
    data[offset + 4] ^= 255
    (tmp_path / 'x.zip').write_bytes(data)
    with pytest.raises(OSError, match='the archive is damaged there'):
        open_tree(tmp_path / 'x.zip', 'list.txt').read('frame')


def test_errors_name_the_thing(folder, archive, tmp_path):
    with pytest.raises(DataError, match='nothing: no such folder or archive'):
        open_tree(tmp_path / 'nothing', 'list.txt')
    with pytest.raises(DataError, match="set: there is no 'train_sharp' in this folder, nor in a zip"):
        open_tree(folder, 'train_sharp')
    with pytest.raises(DataError, match=r"set\.zip: there is no 'train_sharp' in this archive"):
        open_tree(archive, 'train_sharp')
    with pytest.raises(DataError, match=r"set\.zip: there is no 'ist\.txt'"):  # whole names only
        open_tree(archive, 'ist.txt')
