import gc

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from video_making import panned, write_video

from basicsr_nriqa.data import DataError
from basicsr_nriqa.data.clip_choice import Measures, choose_clips, measure_video, repeated_frames, sharpness
from basicsr_nriqa.data.frame_times import uneven_steps
from basicsr_nriqa.data.photographs import TEST_PHOTOGRAPHS, TRAIN_PHOTOGRAPHS, load_photograph
from basicsr_nriqa.data.video_file import decoded_frames


def noise(sigma, shape):
    return np.random.default_rng(0).normal(0, sigma, shape)


def noisy(luma, sigma):
    return np.clip(luma + noise(sigma, luma.shape) + 0.5, 0, 255).astype(np.uint8)


def luma_of(name):
    return cv2.cvtColor(load_photograph(name), cv2.COLOR_RGB2GRAY)


def test_sharpness_of_a_ramp_is_its_slope():
    ramp = np.tile(np.arange(0, 200, 2, dtype=np.uint8), (60, 1))
    assert sharpness(ramp) == pytest.approx(2, abs=0.05)  # the mirrored border has none


@pytest.mark.parametrize('sigma', [2, 5, 15])
def test_noise_alone_is_not_sharp(sigma):
    flat = np.full((240, 320), 128, np.uint8)
    assert sharpness(flat) == 0
    raw = np.sqrt(24) * sigma / 8  # what the gradient of this noise is
    assert sharpness(noisy(flat, sigma)) < 0.25 * raw


@pytest.mark.parametrize('name', [*TRAIN_PHOTOGRAPHS, *TEST_PHOTOGRAPHS])
def test_blur_is_seen_through_noise(name):
    sharp = luma_of(name)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 1.5)
    assert sharpness(noisy(blurred, 5)) < 0.9 * sharpness(sharp)
    assert sharpness(noisy(blurred, 5)) < sharpness(noisy(sharp, 5))


def measures(count=20, **changed):
    """Of a video in which all is even."""
    values = {'colour': '', 'height': 64, 'width': 96, 'times': [number / 25 for number in range(count)],
              'sharpness': [5.0] * count, 'change': [0.0] + [4.0] * (count - 1), 'moved': [3.0] * count,
              'cut': [False] * count}
    return Measures(**{**values, **changed})


def firsts(*args, **options):
    return [clip.first for clip in choose_clips(*args, **options)]


def test_the_sharpest_frames_are_chosen():
    sharp = [5.0] * 20
    sharp[8:15] = [9.0, 8.0, 9.0, 9.0, 9.0, 9.0, 9.0]
    clip, = choose_clips(measures(sharpness=sharp), 7, 1)
    assert clip == (8, 0.32, 8.0)
    assert firsts(measures(sharpness=sharp), 7, 5) == [0, 8]  # 15 to 19 are too few
    assert firsts(measures(), 7, 5) == [0, 7]  # of equal ones the earlier
    assert firsts(measures(), 7, 1, start=0.3) == [8]
    assert firsts(measures(6), 7, 1) == []


def test_no_clip_spans_a_cut_but_one_may_begin_there():
    cut = [number == 9 for number in range(20)]
    assert firsts(measures(cut=cut), 7, 9) == [0, 9]


def test_no_clip_has_an_uneven_step():
    times = [number / 25 for number in range(20)]
    for later in range(9, 20):
        times[later] += 0.4 / 25
    assert firsts(measures(times=times), 7, 9) == [0, 9]


def test_no_clip_repeats_a_frame():
    change = [0.0] + [4.0] * 19
    change[9] = 0.2
    assert np.flatnonzero(repeated_frames(change)).tolist() == [9]
    assert firsts(measures(change=change), 7, 9) == [0, 9]


def test_something_moves():
    assert firsts(measures(moved=[0.1] * 20), 7, 9) == []
    assert firsts(measures(moved=[0.1] * 10 + [3.0] * 10), 7, 9) == [4, 11]


@settings(deadline=None)
@given(st.data())
def test_clips_never_overlap_nor_hold_what_is_broken(data):
    count = data.draw(st.integers(1, 40))
    flags = st.lists(st.booleans(), min_size=count, max_size=count)
    numbers = st.lists(st.integers(0, 9).map(float), min_size=count, max_size=count)
    cut = [data.draw(st.integers(0, 5)) == 0 for _ in range(count)]
    steps = [0.04 if even else 0.08 for even in data.draw(flags)]
    some = measures(count, cut=cut, sharpness=data.draw(numbers), times=np.cumsum(steps).tolist())
    frames, wanted = data.draw(st.integers(2, 8)), data.draw(st.integers(1, 6))
    clips = choose_clips(some, frames, wanted)
    uneven = uneven_steps(some.times)
    taken = [number for clip in clips for number in range(clip.first, clip.first + frames)]
    assert len(clips) <= wanted and len(set(taken)) == len(taken) and max(taken, default=0) < count
    for clip in clips:
        inside = range(clip.first + 1, clip.first + frames)
        assert not any(cut[number] or uneven[number] for number in inside)
        assert clip.sharpness == min(some.sharpness[clip.first:clip.first + frames])


@pytest.fixture(scope='module')
def eventful(tmp_path_factory):
    """25 frames: a cut at 10, the 15th shown twice, a gap before the 20th, sharp ones from 2 to 8; H.264."""
    first, second = panned('chelsea.png', 10, 2), panned('coffee.png', 15, 2)
    frames = np.concatenate([first, second])
    frames[15] = frames[14]
    blurred = [frame if 2 <= number <= 8 else cv2.GaussianBlur(frame, (0, 0), 1) for number, frame in enumerate(frames)]
    times = [number + 3 * (number >= 20) for number in range(25)]
    return write_video(tmp_path_factory.mktemp('eventful') / 'in.mkv', blurred, times=times, options={'crf': '16'})


def test_a_video_is_measured(eventful):
    seen = []
    measured = measure_video(eventful, 7, seen=lambda: seen.append(1))
    assert len(seen) == len(measured.times) == 25 and (measured.height, measured.width) == (64, 96)
    assert np.flatnonzero(measured.cut).tolist() == [10]
    assert np.flatnonzero(repeated_frames(measured.change)).tolist() == [15]
    assert np.flatnonzero(uneven_steps(measured.times)).tolist() == [20]
    assert measured == measure_video(eventful, 7, threads=1)
    clip, = choose_clips(measured, 7, 5)
    assert clip.first == 2 and clip.time == pytest.approx(0.08, abs=2e-3)


def test_frames_that_were_measured_are_let_go(eventful):
    """At once, not when the garbage collector comes: a frame can be tens of megabytes."""
    gc.collect()
    gc.disable()
    try:
        measure_video(eventful, 7)
        assert sum(type(thing) is av.VideoFrame for thing in gc.get_objects()) < 3
    finally:
        gc.enable()


def test_sharpness_is_that_of_the_clips_size(eventful):
    whole, shrunk = measure_video(eventful, 7), measure_video(eventful, 7, resize_height=32)
    assert shrunk.cut == whole.cut and all(np.greater(shrunk.sharpness, whole.sharpness))
    assert measure_video(eventful, 7, resize_height=640) == whole


def test_a_stream_without_times_has_those_of_its_rate(tmp_path):
    path = write_video(tmp_path / 'in.h264', panned('chelsea.png', 9))
    assert measure_video(path, 7).times == pytest.approx([number / 25 for number in range(9)])


def test_avi_does_not_store_when_frames_are_shown(tmp_path):
    """Of H.264 with B-frames decoders are told times that go to and fro."""
    path = write_video(tmp_path / 'in.avi', panned('chelsea.png', 20), options={'bf': '3'})
    times = [frame.time for frame in decoded_frames(path)]
    assert times != sorted(times)
    measured = measure_video(path, 7)
    assert np.diff(measured.times) == pytest.approx(1 / 25) and len(choose_clips(measured, 7, 9)) == 2


def test_a_video_of_hardly_any_width(tmp_path):
    frames = [np.random.default_rng(number).integers(0, 255, (400, 2, 3), np.uint8) for number in range(3)]
    path = write_video(tmp_path / 'in.mkv', frames, 'ffv1', 'yuv444p')
    assert len(measure_video(path, 2, resize_height=8).sharpness) == 3


def test_a_size_that_changes_is_an_error(tmp_path):
    parts = [write_video(tmp_path / f'{number}.h264', panned('chelsea.png', 3, size=size))
             for number, size in enumerate([(64, 96), (48, 64)])]
    path = tmp_path / 'in.h264'
    path.write_bytes(b''.join(part.read_bytes() for part in parts))
    with pytest.raises(DataError, match=r'in\.h264: frame 3 has 64x48 pixels, but the frames before it have 96x64'):
        measure_video(path, 2)
