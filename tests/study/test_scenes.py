import cv2
import numpy as np
import pytest

from basicsr_nriqa.data.bicubic import imresize
from basicsr_nriqa.data.clip_store import ClipStore
from basicsr_nriqa.study.scenes import REGION, find_scenes

SIZE = 96, 160


def noise(seed, size=SIZE, strength=20):
    return np.random.default_rng(seed).integers(100 - strength, 100 + strength, (*size, 3), dtype=np.uint8)


def save(folder, clips, suffix=''):
    """`{clip: {frame: image}}` (RGB) as the test loop saves it."""
    for clip, frames in clips.items():
        (folder / clip).mkdir(parents=True, exist_ok=True)
        for frame, image in frames.items():
            cv2.imwrite(str(folder / clip / f'{frame}{suffix}.png'), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return folder


def changed(clips, places, amount=60):
    """A copy in which squares of 24 px are brighter: `{(clip, frame): (top, left)}`."""
    result = {clip: {frame: image.copy() for frame, image in frames.items()} for clip, frames in clips.items()}
    for (clip, frame), (top, left) in places.items():
        result[clip][frame][top:top + 24, left:left + 24] += amount
    return result


@pytest.fixture
def clips():
    return {clip: {f'im{i}': noise([number, i]) for i in (1, 2, 10)} for number, clip in enumerate(('a/1', 'a/2', 'b'))}


def find(folders, **options):
    return find_scenes(folders, **{'model': 'VRT', 'dataset': 'REDS', 'window': 24, **options})


def test_clip_frame_and_window_are_those_where_methods_differ(tmp_path, clips):
    # the middle frames choose the clip, then all frames of it are looked at
    baseline = save(tmp_path / 'baseline', clips, '_base_line')
    first = save(tmp_path / 'first', changed(clips, {('a/2', 'im2'): (40, 90), ('b', 'im2'): (0, 0)}, 20), '_first')
    second = save(tmp_path / 'second', changed(clips, {('a/2', 'im2'): (40, 90), ('a/2', 'im10'): (8, 16)}), '_1000')
    third = save(tmp_path / 'third', changed(clips, {('a/2', 'im10'): (8, 16)}, 80), '_third')
    folders = {'baseline': baseline, 'first': first, 'second': second, 'third': third}
    scene, = find(folders, count=1)
    assert (scene.model, scene.dataset, scene.clip, scene.frame) == ('VRT', 'REDS', 'a/2', 'im10')
    assert scene.window == (8, 16, 24, 24)
    assert list(scene.images) == ['baseline', 'first', 'second', 'third']
    assert scene.title == 'VRT, REDS a/2/im10'
    np.testing.assert_array_equal(scene.overview, clips['a/2']['im10'])
    for label, crop in scene.crops().items():
        expected = clips['a/2']['im10'][8:32, 16:40] + {'second': 60, 'third': 80}.get(label, 0)
        np.testing.assert_array_equal(crop, expected)
    assert [found.clip for found in find(folders, count=9)] == ['a/2', 'b', 'a/1'], 'best first'


def test_one_noisy_method_does_not_decide(tmp_path, clips):
    """A single method departs by 100 in one window, all the others, each by its own amount, in another."""
    clips = {'a/1': clips['a/1']}
    folders = {'baseline': save(tmp_path / 'baseline', clips)}
    for i in range(8):
        folders[f'm{i}'] = save(tmp_path / f'm{i}', changed(clips, {('a/1', 'im2'): (60, 120)}, 10 + 3 * i))
    noisy = changed(clips, {('a/1', 'im2'): (0, 0)}, 100)
    folders['noisy'] = save(tmp_path / 'noisy', noisy)
    scene, = find(folders)
    assert scene.window[:2] == (60, 120)


def test_references_and_the_region(tmp_path):
    size = 240, 320
    truth = {'a': {'000': noise(0, size), '001': noise(1, size)}}
    folders = {'baseline': save(tmp_path / 'baseline', truth, '_x'),
               'NIMA': save(tmp_path / 'NIMA', changed(truth, {('a', '001'): (200, 4)}), '_y')}
    low = {'a': {frame: imresize(image, 1 / 4) for frame, image in truth['a'].items()}}
    gt, lr = (ClipStore(save(tmp_path / name, frames), 'disk') for name, frames in (('gt', truth), ('lr', low)))
    scene, = find(folders, gt=gt, lr=lr)
    assert list(scene.images) == ['bicubic', 'baseline', 'NIMA', 'GT']
    assert scene.reference == 'GT'
    assert scene.window == (200, 4, 24, 24)
    assert scene.region == (112, 0, *REGION), 'at the border, it stays inside'
    assert {image.shape for image in scene.images.values()} == {(*REGION, 3)}
    np.testing.assert_array_equal(scene.images['bicubic'], imresize(low['a']['001'], 4)[112:, :192])
    np.testing.assert_array_equal(scene.overview, truth['a']['001'])
    assert scene.images['GT'].base is None, 'whole frames are not held by their parts'


def test_equal_methods_show_the_most_textured_window(tmp_path):
    image = np.full((*SIZE, 3), 50, dtype=np.uint8)
    image[30:54, 70:94] = noise(0, (24, 24), 90)
    folders = {label: save(tmp_path / label, {'a': {'1': image}}, f'_{label}') for label in ('baseline', 'NIMA')}
    scene, = find(folders)
    assert np.abs(np.array(scene.window[:2]) - (30, 70)).max() <= 2


def test_few_of_many_clips_are_looked_at(tmp_path):
    frames = {f'{i:03d}': {'1': noise(i, (16, 16))} for i in range(70)}
    folders = {'baseline': save(tmp_path / 'baseline', frames), 'NIMA': save(tmp_path / 'NIMA', frames)}
    for clip in range(70):
        if clip % 7 in (1, 3, 5):  # those in the middle of 30 equal parts
            continue
        (tmp_path / 'NIMA' / f'{clip:03d}' / '1.png').write_bytes(b'not looked at')
    assert len(find(folders, count=5)) == 5


def test_frames_smaller_than_the_window_are_shown_whole(tmp_path):
    frames = {'a': {'1': noise(0, (16, 20))}}
    folders = {'baseline': save(tmp_path / 'baseline', frames),
               'NIMA': save(tmp_path / 'NIMA', {'a': {'1': noise(1, (16, 20))}})}
    scene, = find(folders)
    assert scene.window == scene.region == (0, 0, 16, 20)


def test_bad_folders_are_named(tmp_path, clips):
    baseline = save(tmp_path / 'baseline', clips)
    with pytest.raises(ValueError, match='no folder'):
        find({})
    with pytest.raises(ValueError, match='absent'):
        find({'baseline': baseline, 'NIMA': tmp_path / 'absent'})
    fewer = save(tmp_path / 'fewer', {clip: clips[clip] for clip in ('a/1', 'b')}, '_x')
    with pytest.raises(ValueError, match=r'fewer and .*baseline do not .* the same clips: .*second has a/2'):
        find({'baseline': baseline, 'NIMA': fewer})
    small = save(tmp_path / 'small', {clip: {frame: image[:48] for frame, image in frames.items()}
                                      for clip, frames in clips.items()})
    with pytest.raises(ValueError, match=r"small/a/1: frame 'im2' has the size \(48, 160\)"):
        find({'baseline': baseline, 'NIMA': small})
    gt = ClipStore(save(tmp_path / 'gt', {clip: {frame: image[:, :80] for frame, image in frames.items()}
                                          for clip, frames in clips.items()}), 'disk')
    with pytest.raises(ValueError, match=r"gt: frame 'a/1/im1' has the size \(96, 80\)"):
        find({'baseline': baseline}, gt=gt)
