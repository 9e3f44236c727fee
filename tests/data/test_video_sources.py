from pathlib import Path

import pytest

from basicsr_nriqa.data import DataError
from basicsr_nriqa.data.video_sources import list_sources, split_sources


def test_no_video_is_drawn_for_both_and_the_order_does_not_matter(tmp_path):
    paths = [tmp_path / f'{number}.mp4' for number in range(20)]
    for path in paths:
        path.write_bytes(path.name.encode())
    parts = split_sources(list_sources(paths), test_share=0.1, seed=3)
    assert [len(parts[split]) for split in ('train', 'test')] == [18, 2]
    assert not {*parts['train']} & {*parts['test']}
    assert parts == split_sources(list_sources(paths[::-1]), test_share=0.1, seed=3)
    assert parts != split_sources(list_sources(paths), test_share=0.1, seed=4)
    for share in (0, 1, 1.5):
        with pytest.raises(DataError, match='test_share: expected a share above 0 and below 1'):
            split_sources(list_sources(paths), test_share=share)


def test_names_in_keys_are_safe_and_unique(tmp_path):
    for number, name in enumerate(['a b.mp4', 'a_b.mov', 'A.b.mkv', 'grün-1.mp4', f'{"x" * 150}.mp4', '..mp4']):
        (tmp_path / name).write_bytes(bytes([number]))
    names = [source.name for source in list_sources(tmp_path.iterdir())]
    assert sorted(names) == sorted(['A_b', 'a_b_2', 'a_b_3', 'grün-1', 'x' * 100, '_'])


def test_a_copy_under_another_name_is_refused(tmp_path):
    for name in ('cut.mkv', 'zcopy.mkv'):
        (tmp_path / name).write_bytes(b'the same')
    with pytest.raises(DataError, match=r'zcopy\.mkv: the same video as .*cut\.mkv'):
        list_sources([*tmp_path.iterdir()])
    with pytest.raises(DataError, match=r'absent\.mp4: no such file'):
        list_sources([tmp_path / 'absent.mp4'])
    for videos, message in (([], 'no video was given'), ('phone.mp4', "expected a list of files, got .* 'phone.mp4'")):
        with pytest.raises(DataError, match=message):
            list_sources(videos)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    memory = Path('/proc/self/mem')  # may not be read from its begin on, also by root
    if not memory.is_file():
        pytest.skip('needs Linux')
    (tmp_path / 'in.mp4').symlink_to(memory)
    with pytest.raises(DataError, match=r'in\.mp4: cannot be read \('):
        list_sources([tmp_path / 'in.mp4'])
