"""Synthetic distortions of graded strength: what the small metric learns from and is judged on.

Every function of :data:`DISTORTIONS` takes ``(image, strength, rng)``:

* ``image``: (h, w, 3) uint8, RGB.
* ``strength``: 0 returns the image unchanged, 1 is severe; between them the visible damage grows steadily.
* ``rng``: a ``numpy.random.Generator`` that draws what is not graded: the noise, the period, phase, angle and colour of
  a pattern. The same state gives the same result, and at another strength the same pattern with another contrast, so
  a graded series is made with one fresh generator of one seed for each strength.

and returns a new (h, w, 3) uint8 image.

Blur, noise, JPEG, resampling, ringing, over-sharpening and banding are the failures of cameras, codecs and
restoration. Dots, grids, checkerboards and stripes are those of networks trained on a quality metric: regular texture
that a careless metric takes for detail.
"""
import functools
from collections.abc import Callable

import cv2
import numpy as np
from scipy import fft

Distortion = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
DISTORTIONS: dict[str, Distortion] = {}
UNGRADED: dict[str, Distortion] = {}  # learnt from, but not judged on


def _distortion(function: Distortion, registry: dict[str, Distortion] = DISTORTIONS) -> Distortion:
    """Register under the function's name; check the strength, keep strength 0 exact and round once, here."""

    @functools.wraps(function)
    def distort(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
        if not 0 <= strength <= 1:
            raise ValueError(f'{function.__name__}: strength is {strength}, expected a number from 0 (unchanged) to 1.')
        if strength == 0:
            return image.copy()
        return np.clip(np.rint(function(image, strength, rng)), 0, 255).astype(np.uint8)

    registry[function.__name__] = distort
    return distort


def _geometric(strength: float, first: float, last: float) -> float:
    """From ``first`` (just above strength 0) to ``last`` in equal ratios, which the eye takes for equal steps."""
    return first * (last / first) ** strength


@_distortion
def blur(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur, standard deviation up to 4 px."""
    return cv2.GaussianBlur(image.astype(np.float32), (0, 0), 4 * strength, borderType=cv2.BORDER_REFLECT_101)


@_distortion
def noise(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """White Gaussian noise, standard deviation up to 50 grey levels; equal in the three channels or independent."""
    channels = rng.choice([1, 3])
    return image + 50 * strength * rng.standard_normal((*image.shape[:2], channels))


@_distortion
def jpeg(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """JPEG compression, quality from 95 down to 4."""
    quality = round(_geometric(strength, 95, 4))
    _, stream = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(stream, cv2.IMREAD_COLOR)[..., ::-1]  # type: ignore[index]  # None if it cannot be decoded


@_distortion
def upscaling(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Reduced (area average), then enlarged again (bicubic), by a factor of up to 8; x4 is strength 2/3."""
    h, w = image.shape[:2]
    factor = _geometric(strength, 1, 8)
    small = cv2.resize(image, (max(round(w / factor), 1), max(round(h / factor), 1)), interpolation=cv2.INTER_AREA)
    return cv2.resize(small.astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)


@_distortion
def ringing(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Ideal low-pass filter (a disc of cosine frequencies), cut-off down to 1/10 of the highest: Gibbs oscillations."""
    h, w = image.shape[:2]
    radius = np.hypot(np.arange(h)[:, None] / h, np.arange(w) / w)[..., None]
    spectrum = fft.dctn(image.astype(np.float32), axes=(0, 1), norm='ortho')
    return fft.idctn(spectrum * (radius <= _geometric(strength, 1, 0.1)), axes=(0, 1), norm='ortho')


@functools.partial(_distortion, registry=UNGRADED)
def oversharpening(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Unsharp masking, amount up to 6, with a radius of 1 to 2 px: halos and amplified grain.

    Ungraded, because a little of it improves a soft photograph.
    """
    image = image.astype(np.float32)
    return image + 6 * strength * (image - cv2.GaussianBlur(image, (0, 0), rng.uniform(1, 2)))


@_distortion
def banding(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Uniform quantisation of each channel, from 48 levels down to 3."""
    steps = _geometric(strength, 48, 3) - 1
    return np.rint(image / 255 * steps) * (255 / steps)


def _add_pattern(image: np.ndarray, pattern: np.ndarray, levels: float, rng: np.random.Generator) -> np.ndarray:
    """Add an (h, w) pattern within [-1, 1], ``levels`` grey levels high, in grey or in a random colour."""
    colour = rng.uniform(-1, 1, 3) if rng.random() < 0.5 else rng.choice([-1, 1]) * np.ones(3)
    return image + levels * pattern[..., None] * colour / np.abs(colour).max()


def _positions(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The row (h, 1) and column (1, w) of every pixel, counted from a random origin."""
    rows, columns = (np.arange(size) + rng.integers(1000) for size in image.shape[:2])
    return rows[:, None], columns[None]


@_distortion
def dots(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Single bright, dark or coloured pixels every 2 to 8 px, up to 80 grey levels."""
    rows, columns = _positions(image, rng)
    period = rng.integers(2, 9)
    return _add_pattern(image, (rows % period == 0) & (columns % period == 0), 80 * strength, rng)


@_distortion
def grid(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Lines one pixel wide every 3 to 16 px in both directions, up to 60 grey levels."""
    rows, columns = _positions(image, rng)
    period = rng.integers(3, 17)
    return _add_pattern(image, (rows % period == 0) | (columns % period == 0), 60 * strength, rng)


@_distortion
def checkerboard(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Squares with sides of 1 to 4 px, up to 40 grey levels to either side."""
    rows, columns = _positions(image, rng)
    side = rng.integers(1, 5)
    return _add_pattern(image, (rows // side + columns // side) % 2 * 2 - 1, 40 * strength, rng)


@_distortion
def stripes(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A sine wave of any direction, 2 to 8 px long, up to 40 grey levels to either side."""
    rows, columns = _positions(image, rng)
    angle, wavelength = rng.uniform(0, np.pi), rng.uniform(2, 8)
    phase = 2 * np.pi / wavelength * (np.cos(angle) * columns + np.sin(angle) * rows)
    return _add_pattern(image, np.sin(phase), 40 * strength, rng)
