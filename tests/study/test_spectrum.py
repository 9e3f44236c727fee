import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from basicsr_nriqa.data.photographs import load_photograph
from basicsr_nriqa.study.spectrum import DifferenceSpectrum


def photograph(name='chelsea.png', size=(192, 256)):
    """(1,3,h,w) uint8, away from black and white, so that what is added is not cut off."""
    image = torch.from_numpy(load_photograph(name)).permute(2, 0, 1)[None, :, :size[0], :size[1]]
    return (image // 2 + 64).to(torch.uint8)


def added(image, pattern):
    return (image + torch.as_tensor(pattern)).round().clamp(0, 255).to(torch.uint8)


def positions(image):
    return np.mgrid[:image.shape[-2], :image.shape[-1]]


def found(*clips):
    spectrum = DifferenceSpectrum()
    for tuned, baseline in clips:
        spectrum.add(tuned, baseline)
    return spectrum.result()


def test_white_noise_has_its_variance_as_power_and_no_peaks():
    image = photograph(size=(256, 384))
    noise = 6 * np.random.default_rng(0).standard_normal(image.shape)
    result = found((added(image, noise), image))
    assert result['rms'] == pytest.approx(6, rel=0.03)
    log_power = np.array(result['log_power'])
    assert log_power.shape == (64, 33)
    inside = np.delete(np.delete(log_power, [31, 32, 33], axis=0), [0, 1], axis=1)  # without the lowest frequencies
    assert inside.mean() == pytest.approx(10 * math.log10(36), abs=0.4)
    assert result['peaks'][0]['ratio'] < 2
    assert result['blocks'] == 24


@settings(max_examples=25, deadline=None)
@given(st.integers(-31, 31), st.integers(1, 31), st.floats(4, 20), st.floats(0, 6.3))
def test_a_sine_wave_is_found_with_its_frequency_and_amplitude(ky, kx, amplitude, phase):
    if math.hypot(ky, kx) < 9:
        return
    image = photograph()
    y, x = positions(image)
    peak = found((added(image, amplitude * np.sin(2 * np.pi * (ky * y + kx * x) / 64 + phase)), image))['peaks'][0]
    assert peak['frequency'] == [ky / 64, kx / 64]
    assert peak['period'] == pytest.approx(64 / math.hypot(ky, kx))
    assert peak['amplitude'] == pytest.approx(amplitude, rel=0.1)
    assert peak['ratio'] > 100


def test_a_checkerboard_of_single_pixels_is_a_wave_at_the_corner_of_the_spectrum():
    image = photograph()
    y, x = positions(image)
    peak = found((added(image, 3 * ((y + x) % 2 * 2 - 1)), image))['peaks'][0]
    assert peak['frequency'] == [0.5, 0.5]
    assert peak['period'] == pytest.approx(math.sqrt(2))
    assert peak['amplitude'] == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize('colour', [(1, 1, 1), (-0.7, 0.5, -0.7)])
def test_dots_are_peaks_at_the_multiples_of_their_frequency(colour):
    image = photograph()
    y, x = positions(image)
    dots = 12 * ((y % 4 == 0) & (x % 4 == 0)) * np.array(colour)[:, None, None]
    peaks = found((added(image, dots), image))['peaks']
    places = [tuple(peak['frequency']) for peak in peaks if peak['ratio'] > 10]
    assert sorted(places) == sorted([(0, 0.25), (0, 0.5), (0.25, 0), (0.5, 0), (0.25, 0.25), (-0.25, 0.25), (0.25, 0.5),
                                     (0.5, 0.25), (0.5, 0.5)]), 'once each, not with its mirror image'


def test_texture_of_one_clip_is_no_pattern():
    clips = [photograph(name) for name in ('chelsea.png', 'camera.png', 'grass.png')]
    noise = [np.random.default_rng(seed).normal(0, 2, clips[0].shape) for seed in range(3)]
    y, x = positions(clips[0])
    wave = 10 * np.sin(2 * np.pi * (16 * y + 8 * x) / 64)
    one = found(*((added(clip, noise[index] + wave * (index == 1)), clip) for index, clip in enumerate(clips)))
    all_three = found(*((added(clip, noise[index] + wave), clip) for index, clip in enumerate(clips)))
    assert one['peaks'][0]['ratio'] < 2
    assert all_three['peaks'][0]['frequency'] == [0.25, 0.125]


def test_frames_of_a_clip_are_averaged():
    image = photograph()
    noise = np.random.default_rng(0).normal(0, 4, image.shape)
    result = found((torch.cat([added(image, noise), image]), torch.cat([image, image])))
    assert result['rms'] == pytest.approx(4 / math.sqrt(2), rel=0.05)


def test_identical_frames():
    image = photograph()
    result = found((image, image))
    assert result['identical'] and result['rms'] == 0 and result['peaks'] == []
    json.dumps(result, allow_nan=False)


def test_another_brightness_is_no_pattern():
    image = photograph()
    result = found((image + 5, image))
    assert not result['identical']
    assert result['peaks'][0]['ratio'] == pytest.approx(1)
    json.dumps(result, allow_nan=False)
