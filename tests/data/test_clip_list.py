import string

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from basicsr_nriqa.data import DataError
from basicsr_nriqa.data.clip_list import read_clip_list

_NAMES = st.text(string.ascii_letters + string.digits + ' _-/.()', min_size=1, max_size=12).map(str.strip).filter(bool)


def _read(tmp_path, text):
    (tmp_path / 'list.txt').write_bytes(text.encode())
    return read_clip_list(tmp_path / 'list.txt')


def test_names_alone_and_meta_info(tmp_path):
    text = '00001/0002\n\n00001/0001 7 (256,448,3)\r\n000 100 (720,1280,3)\n'
    clips = _read(tmp_path, text)
    assert list(clips.items()) == [('00001/0002', None), ('00001/0001', 7), ('000', 100)]


def test_only_the_columns_of_basicsr_are_taken_off(tmp_path):
    clips = _read(tmp_path, 'my clip 7\nmy clip 8 7 (4,6,3)\nholiday (720,1280,3)\na b 3 (4,6)\nc 3 (4,6,3) more\n')
    assert clips == {'my clip 7': None, 'my clip 8': 7, 'holiday (720,1280,3)': None, 'a b 3 (4,6)': None,
                     'c 3 (4,6,3) more': None}


@settings(max_examples=50, deadline=None)
@given(clips=st.dictionaries(_NAMES, st.integers(1, 500), min_size=1))
def test_any_name_comes_back(tmp_path_factory, clips):
    folder = tmp_path_factory.getbasetemp()
    assume(not any(_leads_out(clip) for clip in clips))
    assert _read(folder, ''.join(f'{clip} {frames} (4,6,3)\n' for clip, frames in clips.items())) == clips


def _leads_out(clip):
    return clip.startswith('/') or '..' in clip.split('/')


@pytest.mark.parametrize('clip', ['/etc/clip', '../clip', 'a/../../clip', '..'])
def test_names_that_lead_out_of_the_folder(tmp_path, clip):
    with pytest.raises(DataError, match=r"list\.txt, line 2: clip '.*' has a name that leads out of its folder"):
        _read(tmp_path, f'a..b/..c 7 (4,6,3)\n{clip} 7 (4,6,3)\n')


def test_windows_line_ends_and_marks(tmp_path):
    (tmp_path / 'list.txt').write_bytes('\ufeff00001/0001 7 (4,6,3)\r\n\r\nb\r\n'.encode())
    assert read_clip_list(tmp_path / 'list.txt') == {'00001/0001': 7, 'b': None}


def test_errors_name_the_line(tmp_path):
    with pytest.raises(DataError, match=r'list\.txt: no such file'):
        read_clip_list(tmp_path / 'list.txt')
    with pytest.raises(DataError, match=r'list\.txt: the list names no clip'):
        _read(tmp_path, '\n \n')
    with pytest.raises(DataError, match=r"list\.txt, line 4: clip 'a b' is named a second time"):
        _read(tmp_path, 'a b 7 (4,6,3)\n\nc\na b\n')
    with pytest.raises(DataError, match=r'list\.txt, line 2: .*is no clip with frames'):
        _read(tmp_path, 'a\nb 0 (4,6,3)\n')
    (tmp_path / 'list.txt').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(DataError, match=r'list\.txt: cannot be read'):
        read_clip_list(tmp_path / 'list.txt')
    with pytest.raises(DataError, match='cannot be read'):
        read_clip_list(tmp_path)
