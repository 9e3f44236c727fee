"""Scenes that show how methods differ: which clips, frames and windows, and their pictures."""
from dataclasses import dataclass

import cv2
import numpy as np
from tqdm import tqdm

from basicsr_nriqa.data.bicubic import imresize
from basicsr_nriqa.data.clip_store import frame_key
from basicsr_nriqa.study.crops import REFERENCE, most_textured_window
from basicsr_nriqa.study.saved_frames import SavedFrames

BICUBIC = 'bicubic'
REGION = 128, 192  # pixels, height and width: what the report embeds of every method
_CLIPS, _FRAMES = 30, 7  # how many are looked at, at most


@dataclass(frozen=True, eq=False)
class Scene:
    """One window of one frame, as every method restored it.

    Attributes:
        model (str): Network, as in the table.
        dataset (str): What was restored.
        clip (str): The clip, such as ``'00001/0266'``.
        frame (str): Its frame, such as ``'im4'``.
        window (tuple[int, int, int, int]): Top, left, height and width in the frame, in pixels: what crops show.
        images (dict[str, ndarray]): ``{label: (h, w, 3)}`` uint8, RGB, all of one size, in the order to show: the part
            ``region`` of each method's frame.
        region (tuple[int, int, int, int] | None): Top, left, height and width in the frame, in pixels, around the
            window. None: ``images`` are whole frames.
        overview (ndarray | None): The whole frame of the reference, uint8, RGB. None: the reference among ``images``.
    """

    model: str
    dataset: str
    clip: str
    frame: str
    window: tuple
    images: dict
    region: tuple | None = None
    overview: np.ndarray | None = None

    @property
    def title(self):
        """str: Where it is from, for people."""
        return f'{self.model}, {self.dataset} {frame_key(self.clip, self.frame)}'

    @property
    def reference(self):
        """str: Label of the image to compare with: GT, or else the last one."""
        return REFERENCE if REFERENCE in self.images else list(self.images)[-1]

    @property
    def window_in_images(self):
        """tuple: ``window`` with top and left counted from the corner of ``images``."""
        top, left, height, width = self.window
        return (top - self.region[0], left - self.region[1], height, width) if self.region else self.window

    def crops(self):
        """The windows of all methods, ``{label: (height, width, 3)}``."""
        top, left, height, width = self.window_in_images
        return {label: image[top:top + height, left:left + width] for label, image in self.images.items()}


def find_scenes(folders, *, model, dataset, gt=None, lr=None, count=3, window=64, progress=False):
    """Choose the clips, and in each the frame and the window, where methods differ most.

    A window is worth ``(mean over methods of sqrt(d))**2``, with d the mean over the window of a method's absolute
    difference in luma to the median of all methods. The root gives more to a window where many methods depart than to
    one where a single method does, however strongly. Where all are equal, the most textured window is taken.

    First the middle frames of at most 30 clips, evenly spread, are compared, then at most 7 frames, evenly spread, of
    the best clips. One frame of every method is in memory at a time.

    Args:
        folders (dict[str, str | Path]): ``{label: results/NAME/visualization/DATASET}`` as the test loop saves frames,
            in the order to show.
        model, dataset (str): See :class:`Scene`.
        gt (ClipStore | None): GT with the clips' names; shown last, as ``'GT'``.
        lr (ClipStore | None): LR with the same names; its bicubic enlargement is shown first. Needs ``gt``.
        count (int): How many clips, at most.
        window (int): Height and width in pixels; less where frames are smaller.
        progress (bool): Show a progress bar.

    Returns:
        list[Scene]: Best first, with regions of at most :data:`REGION` pixels; the same for the same frames.

    Raises:
        ValueError: Folders without frames, that do not have the same clips and frames, or frames of different sizes.
            Names the folder and the clip or frame.
    """
    if not folders:
        raise ValueError('no folder of saved frames: expected at least one {label: folder}')
    runs = {label: SavedFrames(folder) for label, folder in folders.items()}
    first = next(iter(runs.values()))
    for run in runs.values():
        run.check_same(first)
    clips = _spread(list(first.clips), _CLIPS)
    worth = {}
    for clip in tqdm(clips, desc=f'scenes of {model} on {dataset}', unit='clip', disable=not progress):
        frames = list(first.clips[clip])
        worth[clip] = _best_window(runs, clip, frames[len(frames) // 2], window)[0]
    scenes = []
    for clip in sorted(clips, key=lambda clip: -worth[clip])[:count]:
        found = {frame: _best_window(runs, clip, frame, window) for frame in _spread(list(first.clips[clip]), _FRAMES)}
        frame = max(found, key=lambda frame: found[frame][0])
        images = {label: _image(run, clip, frame) for label, run in runs.items()}
        images = _with_references(images, frame_key(clip, frame), gt, lr)
        overview = images[REFERENCE if gt else next(iter(runs))].copy()
        place = found[frame][1]
        region = _around(place, overview.shape, REGION)
        top, left, height, width = region
        images = {label: image[top:top + height, left:left + width].copy() for label, image in images.items()}
        scenes.append(Scene(model, dataset, clip, frame, place, images, region, overview))
    return scenes


def _image(run, clip, frame):
    return cv2.cvtColor(run.store.image(run.clips[clip][frame]), cv2.COLOR_BGR2RGB)


def _best_window(runs, clip, frame, size):
    """What the best window of a frame is worth, and top, left, height, width of it."""
    lumas, expected = [], None
    for run in runs.values():
        image = _image(run, clip, frame)
        expected = expected or image.shape
        if image.shape != expected:
            raise ValueError(f'{run.store.root / clip}: frame {frame!r} has the size {image.shape[:2]}, that of the '
                             f'other methods {expected[:2]}; test all with the same scale')
        lumas.append(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    lumas = np.stack(lumas)
    middle = np.median(lumas, axis=0)
    height, width = min(size, expected[0]), min(size, expected[1])
    # box means of the windows that lie inside of the frame, each at its middle pixel
    inside = (slice(height // 2, expected[0] - (height - 1) // 2), slice(width // 2, expected[1] - (width - 1) // 2))
    worth = sum(np.sqrt(np.maximum(cv2.boxFilter(np.abs(luma - middle), cv2.CV_64F, (width, height))[inside], 0))
                for luma in lumas) / len(lumas)
    # rounded, so that sums of another order of additions do not decide between equal windows
    worth = np.round(worth ** 2, 6)
    if not worth.any():
        return 0.0, most_textured_window(image, size)
    top, left = np.unravel_index(np.argmax(worth), worth.shape)
    return float(worth[top, left]), (int(top), int(left), height, width)


def _with_references(images, key, gt, lr):
    """The frames of all methods, after the bicubic enlargement of LR and before GT."""
    if gt is None:
        return images
    reference = cv2.cvtColor(gt.image(key), cv2.COLOR_BGR2RGB)
    bicubic = {}
    if lr is not None:
        low = cv2.cvtColor(lr.image(key), cv2.COLOR_BGR2RGB)
        bicubic = {BICUBIC: imresize(low, reference.shape[0] / low.shape[0])}
    images = {**bicubic, **images, REFERENCE: reference}
    for label, image in images.items():
        if image.shape != reference.shape:
            raise ValueError(f'{gt.root}: frame {key!r} has the size {reference.shape[:2]}, that of {label!r} '
                             f'{image.shape[:2]}; give the GT that this was tested with')
    return images


def _around(window, shape, size):
    """Top, left, height, width of a part of this size, inside of the frame, with the window in its middle if it can."""
    top, left, height, width = window
    region_height, region_width = (min(side, whole) for side, whole in zip(size, shape))
    place = [min(max(0, start + length // 2 - side // 2), whole - side)
             for start, length, side, whole in zip((top, left), (height, width), (region_height, region_width), shape)]
    return (*place, region_height, region_width)


def _spread(items, count):
    """At most so many items, evenly spread."""
    if len(items) <= count:
        return items
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]
