import numpy as np
import pytest

from basicsr_nriqa.data.photographs import load_photograph
from basicsr_nriqa.iqa.distortions import DISTORTIONS, UNGRADED

ALL = DISTORTIONS | UNGRADED


@pytest.fixture(scope='module')
def image():
    return load_photograph('motorcycle_left.png')[200:296, 300:412]


@pytest.mark.parametrize('name', ALL)
def test_graded_and_deterministic(name, image):
    series = [ALL[name](image, strength, np.random.default_rng(3)) for strength in (0, 0.25, 0.5, 0.75, 1)]
    assert (series[0] == image).all() and series[0] is not image
    assert all(frame.dtype == np.uint8 and frame.shape == image.shape for frame in series)
    errors = [np.square(frame.astype(float) - image).mean() for frame in series]
    assert errors == sorted(errors) and errors[-1] > 50
    assert (series[2] == ALL[name](image, 0.5, np.random.default_rng(3))).all()


@pytest.mark.parametrize('strength', [-0.1, 1.1])
def test_strength_outside_is_an_error(strength, image):
    with pytest.raises(ValueError, match='blur: strength'):
        DISTORTIONS['blur'](image, strength, np.random.default_rng(0))


def test_jpeg_keeps_the_order_of_the_channels():
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    assert (DISTORTIONS['jpeg'](red, 0.3, np.random.default_rng(0)).mean((0, 1)).argmax()) == 0
