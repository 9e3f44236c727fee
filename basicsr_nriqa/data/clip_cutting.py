"""The frames of chosen clips, cut out of their videos into a tree of PNG files."""
import os
import threading

import cv2
import numpy as np
from tqdm import tqdm

from basicsr_nriqa.data.bicubic import imresize
from basicsr_nriqa.data.degradation import degrade
from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.image_codec import encode_image
from basicsr_nriqa.data.stoppable_threads import advance, in_threads
from basicsr_nriqa.data.video_colour import ToRgb
from basicsr_nriqa.data.video_file import decoded_frames
from basicsr_nriqa.files import free_space, gigabytes, written_beside

_PROBES = 16  # frames after which the room on the disk is looked at, again and again: the first ones may be black
_LR_BYTES = 1.3  # of a pixel of LR as PNG, by those of a pixel of GT


def cut_out(part, plan, pixels, tree, settings, workers, progress, check_space):
    """Write the frames of all clips, ``GT/VIDEO/CLIP/im1.png`` and for the format ``png`` those of LR. What is there is
    left alone.

    Args:
        part (list[Source]): The videos.
        plan (dict): ``VIDEO/CLIP``: a dict with its ``first_frame``.
        pixels (dict): ``VIDEO``: pixels of a GT frame.
        tree (Path): Where to write.
        settings (dict): ``frames``, ``scale``, ``degradation``, ``codec``, ``format``, ``resize_height`` of
            :func:`~basicsr_nriqa.data.videos.prepare_videos`.
        workers (int): Threads.
        progress (bool): Show a progress bar.
        check_space (bool): Stop early where the disk has too little room for all, with the databases that are to be
            made.

    Raises:
        DataError: a video is damaged or shorter than it was, or there is too little room. What is written is kept.
    """
    missing = _missing(part, plan, tree, settings)
    todo = [source for source in part if missing[source.name]]
    threads = max(1, workers // max(1, len(todo)))
    room = _Room(tree, pixels, plan, missing, settings) if check_space else None
    total = len(plan) * settings['frames']
    with tqdm(total=total, initial=total - sum(map(len, missing.values())), desc='cutting out', unit='frame',
              disable=not progress) as bar:
        def cut(source, go_on):
            left, to_rgb = missing[source.name], None
            for number, frame in enumerate(decoded_frames(source.path, threads)):
                go_on()
                to_rgb = to_rgb or ToRgb(frame, source.path)
                if number in left:
                    size = _write_pair(to_rgb(frame), left.pop(number), tree, settings)
                    if room:
                        room.taken(pixels[source.name], size)
                    advance(bar)
                if not left:
                    return
            raise DataError(f'{source.path}: ended before frame {min(left)}, which was there when it was measured. Has '
                            'the file changed? Start again to measure and cut it anew.')

        in_threads(cut, todo, workers)


def trees(tree, settings):
    """The folders GT and, if there are to be files of LR, LRxS."""
    return [tree / 'GT'] + ([tree / f'LRx{settings["scale"]}'] if settings['format'] == 'png' else [])


def crop_to_multiple(image, scale):
    """The middle of (h, w, 3) whose sides are the largest that ``scale`` divides."""
    height, width = (side // scale * scale for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return np.ascontiguousarray(image[top:top + height, left:left + width])


class _Room:
    """Sees to it that what is still to be written fits on the disk, going by the bytes per pixel written so far."""

    def __init__(self, tree, pixels, plan, missing, settings):
        self.tree = tree
        self.left = sum(pixels[name] * len(images) for name, images in missing.items())
        self.database = 0
        if settings['format'] == 'lmdb':
            self.database = sum(pixels[clip.rpartition('/')[0]] for clip in plan) * settings['frames']
        self.raw, self.lr_share = settings['codec'] == 'raw', settings['scale']**-2
        self.frames = self.pixels = self.bytes = 0
        self.lock = threading.Lock()

    def taken(self, pixels, size):
        """Count a frame, perhaps look.

        Raises:
            DataError: there is too little room.
        """
        with self.lock:
            self.frames += 1
            self.pixels += pixels
            self.bytes += size
            self.left -= pixels
            if self.frames % _PROBES:
                return
            rate = self.bytes / self.pixels
            stored = 3 * (1 + self.lr_share) if self.raw else rate * (1 + _LR_BYTES * self.lr_share)
            wanted = 1.05 * (rate * self.left + stored * self.database)
        free = free_space(self.tree)
        if wanted > free:
            raise DataError(f'{self.tree.parent.parent}: about {gigabytes(wanted)} are still to be written and '
                            f'{gigabytes(free)} are free. What is done so far is kept: make room and start again to go '
                            'on, or write to another disk.')


def _missing(part, plan, tree, settings):
    """VIDEO: {number of a frame in it: its image below the trees}, of images that are not there and whole."""
    missing = {source.name: {} for source in part}
    for clip, record in plan.items():
        for number in range(settings['frames']):
            image = f'{clip}/im{number + 1}.png'
            if not all(_is_whole(folder / image) for folder in trees(tree, settings)):
                missing[clip.rpartition('/')[0]][record['first_frame'] + number] = image
    return missing


def _write_pair(rgb, name, tree, settings):
    """Returns the number of bytes."""
    gt = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    height = settings['resize_height']
    if height and height < len(gt):
        gt = imresize(gt, height / len(gt))[:height]
    gt = crop_to_multiple(gt, settings['scale'])
    gt_tree, *lr_tree = trees(tree, settings)
    size = _write_image(gt_tree / name, gt)
    if lr_tree:
        size += _write_image(lr_tree[0] / name, degrade(gt, settings['scale'], settings['degradation']))
    return size


def _write_image(path, image):
    data = encode_image(image)
    with written_beside(path) as beside:  # waiting for the disk each time would take longer than all else
        beside.write_bytes(data)
    return len(data)


def _is_whole(path):
    """Whether an image is there up to its end, which it may not be after a loss of power."""
    try:
        with path.open('rb') as file:
            file.seek(-8, os.SEEK_END)
            return file.read(4) == b'IEND'
    except OSError:  # absent, shorter than that, or not readable: it is made again
        return False
