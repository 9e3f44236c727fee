import pickle

import pytest
from clip_files import numbered, write_clips, write_database
from hypothesis import given
from hypothesis import strategies as st

from basicsr_nriqa.data import DataError
from basicsr_nriqa.data.clip_index import Clip, find_clips, numbering
from basicsr_nriqa.data.clip_store import ClipStore, natural


def _store(place, clips):
    return ClipStore(write_clips(place, clips, size=(4, 4)), 'disk')


def _list(tmp_path, text):
    (tmp_path / 'list.txt').write_text(text)
    return str(tmp_path / 'list.txt')


@given(prefix=st.text('ab{}_ x', max_size=4), digits=st.integers(1, 6), first=st.integers(0, 1200),
       count=st.integers(2, 30), suffix=st.text('ab{}_', max_size=3))
def test_numbering_finds_what_made_the_names(prefix, digits, first, count, suffix):
    names = [f'{prefix}{number:0{digits}d}{suffix}' for number in range(first, first + count)]
    template, found = numbering(names)
    assert found == first and [template.format(number) for number in range(first, first + count)] == names
    assert sorted(set(names), key=natural) == names


def test_other_numbers_in_names():
    assert numbering(['v2_im1_x4', 'v2_im2_x4', 'v2_im3_x4']) == ('v2_im{:01d}_x4', 1)
    assert numbering(['only{1}']) == ('only{{1}}', 1)


def test_all_that_are_there_as_they_are_called(tmp_path):
    clips = {'a b': numbered('im{}', 12), 'c/d': numbered('{:08d}', 3, 0), 'e': ['single']}
    for store in (_store(tmp_path / 'tree', clips), ClipStore(write_database(tmp_path / 'x.lmdb', clips), 'lmdb')):
        found = find_clips(store)
        assert [(clip.folder, clip.frames) for clip in found] == [('a b', 12), ('c/d', 3), ('e', 1)]
        assert [clip.key(index) for clip in found for index in range(clip.frames)] == [
            f'{clip}/{name}' for clip, names in clips.items() for name in names]


def test_a_list_with_numbers_of_frames_needs_no_look_at_the_store(tmp_path):
    clips = find_clips(None, _list(tmp_path, 'my clip 7 (4,4,3)\n000 100 (4,4,3)\n'))
    assert clips == [Clip('my clip', 7, 'im{}', 1), Clip('000', 100, 'im{}', 1)]
    some = find_clips(None, _list(tmp_path, 'a\nb 5 (4,4,3)\n'), 9)
    assert some == [Clip('a', 9, 'im{}', 1), Clip('b', 5, 'im{}', 1)]
    reds = find_clips(None, _list(tmp_path, '000 100 (4,4,3)\n'), None, '{:08d}', 0)[0]
    assert (reds.key(0), reds.key(99)) == ('000/00000000', '000/00000099')


def test_a_list_of_names_takes_lengths_from_the_store(tmp_path):
    store = _store(tmp_path / 'tree', {'a': numbered('{:03d}', 4, 0), 'b': numbered('im{}', 2), 'c': ['x1', 'x3']})
    assert find_clips(store, _list(tmp_path, 'b\na\n')) == [Clip('b', 2, 'im{:01d}', 1), Clip('a', 4, '{:03d}', 0)]
    with pytest.raises(DataError, match=r"list\.txt: clip 'd' is not in .*tree\. Take the list"):
        find_clips(store, _list(tmp_path, 'a\nd\n'))


def test_many_clips_are_small_to_send_to_workers(tmp_path):
    lines = ''.join(f'{part:05d}/{clip:04d} 7 (256,448,3)\n' for part in range(20) for clip in range(100))
    assert len(pickle.dumps(find_clips(None, _list(tmp_path, lines)))) < 2000 * 40


def test_errors_name_the_clip(tmp_path):
    store = _store(tmp_path / 'a', {'good': numbered('im{}', 3), 'gap': ['im1', 'im2', 'im4']})
    with pytest.raises(DataError, match=r"clip 'gap' has a frame 'im4' where 'im3' was expected"):
        find_clips(store)
    with pytest.raises(DataError, match=r"clip 'gap' has a frame 'im1' where '00000000' was expected.*filename_tmpl"):
        find_clips(store, filename_tmpl='{:08d}', first_frame=0)
    with pytest.raises(DataError, match=r"clip 'x' has a frame 'cat' beside 'bird'"):
        find_clips(_store(tmp_path / 'b', {'x': ['bird', 'cat']}))
    with pytest.raises(DataError, match="clip 'x' has 2 frames; clip_length says 5"):
        find_clips(_store(tmp_path / 'c', {'x': ['im1', 'im2']}), clip_length=5)
    for template in ('im', 'im{name}', '{', '{0.real.nothing}', '{:q}'):
        with pytest.raises(DataError, match='filename_tmpl: '):
            find_clips(store, filename_tmpl=template)
