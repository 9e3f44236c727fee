import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basicsr_nriqa.study.saved_frames import pair_clips

NAMES = st.text('a1_', min_size=1, max_size=4)


def save(folder, frames, value=0, size=(64, 80)):
    """Write plain frames under these names; each is one grey level lighter than the one before."""
    for index, name in enumerate(frames):
        path = Path(folder, f'{name}.png')
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((*size, 3), value + index, dtype=np.uint8))


def test_frames_of_two_models_are_paired_in_natural_order(tmp_path):
    save(tmp_path / 'tuned', ['a/b/im2_tuned_x', 'a/b/im10_tuned_x', 'c/im1_tuned_x'])
    save(tmp_path / 'baseline', ['a/b/im2_base', 'a/b/im10_base', 'c/im1_base'], 100)
    pairs = pair_clips(tmp_path / 'tuned', tmp_path / 'baseline')
    assert [pair.name for pair in pairs] == ['a/b', 'c']
    assert pairs[0].tuned.keys == ('a/b/im2_tuned_x', 'a/b/im10_tuned_x')
    assert pairs[0].baseline.keys == ('a/b/im2_base', 'a/b/im10_base')
    tuned, baseline = pairs[0].load()
    assert tuned.shape == baseline.shape == (2, 3, 64, 80)
    assert tuned[:, 0, 0, 0].tolist() == [0, 1] and baseline[:, 0, 0, 0].tolist() == [100, 101]


def test_frames_are_rgb(tmp_path):
    for name in ('tuned', 'baseline'):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / '1.png'), np.full((64, 64, 3), (1, 2, 3), dtype=np.uint8))  # BGR
    tuned, _ = pair_clips(tmp_path / 'tuned', tmp_path / 'baseline')[0].load()
    assert tuned[0, :, 0, 0].tolist() == [3, 2, 1]


@settings(max_examples=30, deadline=None)
@given(st.sets(NAMES, min_size=1, max_size=4), st.none() | NAMES, st.none() | NAMES)
def test_any_names_and_suffixes_are_paired(frames, tuned_suffix, baseline_suffix):
    suffixes = tuned_suffix, baseline_suffix
    with tempfile.TemporaryDirectory() as root:
        for side, suffix in zip('tb', suffixes):
            for frame in frames:
                path = Path(root, side, 'clip', f'{frame}{"" if suffix is None else f"_{suffix}"}.png')
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        pair = pair_clips(Path(root, 't'), Path(root, 'b'))[0]
        plain = [[key.removesuffix('' if suffix is None else f'_{suffix}') for key in clip.keys]
                 for clip, suffix in zip((pair.tuned, pair.baseline), suffixes)]
    assert plain[0] == plain[1]
    assert set(plain[0]) == {f'clip/{frame}' for frame in frames}


def test_limited_clips_are_spread(tmp_path):
    for name in ('tuned', 'baseline'):
        save(tmp_path / name, [f'{clip}/1_{name}' for clip in range(10)])
    names = [pair.name for pair in pair_clips(tmp_path / 'tuned', tmp_path / 'baseline', limit=4)]
    assert names == ['0', '2', '5', '7']
    assert len(pair_clips(tmp_path / 'tuned', tmp_path / 'baseline', limit=99)) == 10


@pytest.mark.parametrize(('baseline', 'message'), [
    ([], 'baseline: no such folder'),
    (['a/1_b', 'a/2_b'], r"tuned and .*baseline do not have the same clips: only the first has c; only the second has "
                         'none'),
    (['a/1_b', 'c/1_b', 'd/1_b'], 'only the second has d'),
    (['a/1_b', 'c/1_b'], r"same frames of the clip 'a': only the first has 2"),
])
def test_folders_that_do_not_match(tmp_path, baseline, message):
    save(tmp_path / 'tuned', ['a/1_t', 'a/2_t', 'c/1_t'])
    save(tmp_path / 'baseline', baseline)
    with pytest.raises(ValueError, match=message):
        pair_clips(tmp_path / 'tuned', tmp_path / 'baseline')


def test_folder_without_frames(tmp_path):
    (tmp_path / 'tuned').mkdir()
    with pytest.raises(ValueError, match='tuned: no image'):
        pair_clips(tmp_path / 'tuned', tmp_path / 'tuned')


def test_other_sizes_and_damaged_frames_are_named(tmp_path):
    save(tmp_path / 'tuned', ['a/1_t'], size=(64, 64))
    save(tmp_path / 'baseline', ['a/1_b'])
    pair = pair_clips(tmp_path / 'tuned', tmp_path / 'baseline')[0]
    with pytest.raises(ValueError, match=r'tuned/a/1_t: 64x64 px, expected 80x64'):
        pair.load()
    (tmp_path / 'tuned' / 'a' / '1_t.png').write_bytes(b'')
    with pytest.raises(ValueError, match=r'1_t.png: not a readable image'):
        pair.load()
