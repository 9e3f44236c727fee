"""Small clips on disk and in databases, and draws of random numbers that BasicSR's datasets and ours share."""
import cv2
import numpy as np

from basicsr_nriqa.data.clip_dataset import draw
from basicsr_nriqa.data.image_codec import encode_image
from basicsr_nriqa.data.lmdb_writer import LmdbWriter


def frame(height, width, seed):
    """(h,w,3) uint8 noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_clips(root, clips, size=(32, 48), suffix='.png', seed=0):
    """Write ``root/CLIP/FRAME.png`` for ``{clip: [frame, ...]}``; a clip '' lies at the top."""
    for number, (clip, names) in enumerate(clips.items()):
        (root / clip).mkdir(parents=True, exist_ok=True)
        for place, name in enumerate(names):
            cv2.imwrite(str(root / clip / f'{name}{suffix}'), frame(*size, (seed, number, place)))
    return root


def write_database(path, clips, size=(32, 48), codec='png', seed=0):
    """The same frames as a database."""
    with LmdbWriter(path) as writer:
        for number, (clip, names) in enumerate(clips.items()):
            for place, name in enumerate(names):
                image = frame(*size, (seed, number, place))
                writer.put(f'{clip}/{name}', encode_image(image, codec), image.shape)
    return path


def numbered(template, count, first=1):
    return [template.format(number) for number in range(first, first + count)]


class OurDraws:
    """Stands in for the module ``random`` in BasicSR's files: what ours draws from torch's generator."""

    @staticmethod
    def random():
        return 0.0 if draw(2) else 1.0

    @staticmethod
    def randint(low, high):
        return low + draw(high - low + 1)

    @staticmethod
    def choice(values):
        return values[draw(len(values)) if len(values) > 1 else 0]
