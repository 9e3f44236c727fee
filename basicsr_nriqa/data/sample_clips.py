"""A small Vimeo-90K made of the photographs that scikit-image carries, in the true layout of the septuplet set.

Each clip is a camera that pans, zooms and turns over a photograph by fractions of a pixel, in front of it a piece of
another photograph that moves on its own. So there is real texture, sub-pixel motion, occlusion and two motions to
tell apart, and training and test clips show different photographs.
"""
import math

import cv2
import numpy as np
from tqdm import tqdm

from basicsr_nriqa.data.image_codec import encode_image
from basicsr_nriqa.data.photographs import TEST_PHOTOGRAPHS, TRAIN_PHOTOGRAPHS, load_photograph

FRAMES = 7


def render_clip(background, foreground, rng, size=(256, 448)):
    """Render one clip of seven frames.

    Args:
        background, foreground (ndarray): (h,w,3) uint8 photographs.
        rng (numpy.random.Generator): Draws every motion.
        size (tuple): (h,w) of the frames in pixels.

    Returns:
        list[ndarray]: Seven (h,w,3) uint8 frames, channels in the order of the photographs.
    """
    height, width = size
    back_camera = _camera(background.shape, size, rng, speed=2.5)
    front_camera = _camera(foreground.shape, size, rng, speed=2.5)
    centre = rng.uniform(0.3, 0.7, 2) * (width, height)
    heading = rng.uniform(0, 2 * math.pi)
    velocity = rng.uniform(1.0, 4.0) * np.array([math.cos(heading), math.sin(heading)])
    axes = rng.uniform(0.16, 0.26, 2) * height
    y, x = np.mgrid[:height, :width].astype(np.float32)
    frames = []
    for t in range(FRAMES):
        back = _view(background, back_camera, t, size)
        front = _view(foreground, front_camera, t, size)
        position = centre + velocity * (t - FRAMES // 2)
        distance = np.sqrt(((x - position[0]) / axes[0])**2 + ((y - position[1]) / axes[1])**2)
        alpha = np.clip((1 - distance) * axes.min() + 0.5, 0, 1)[..., None]  # an edge one pixel wide, antialiased
        frames.append(np.clip(alpha * front + (1 - alpha) * back + 0.5, 0, 255).astype(np.uint8))
    return frames


def _camera(shape, size, rng, speed):
    """A smooth path over a photograph: what `_view` needs for any t."""
    zoom = rng.uniform(0.75, 1.0)  # source pixels per output pixel: never above 1, so that nothing aliases in the GT
    zoom = min(zoom, shape[0] / size[0], shape[1] / size[1])
    slack = np.maximum(0, np.array(shape[1::-1]) - zoom * np.array(size[::-1])) / 2
    heading = rng.uniform(0, 2 * math.pi)
    return {
        'centre': np.array(shape[1::-1]) / 2 + rng.uniform(-0.8, 0.8, 2) * slack,
        'velocity': rng.uniform(0.3, speed) * zoom * np.array([math.cos(heading), math.sin(heading)]),
        'zoom': zoom, 'zoom_rate': rng.uniform(-0.006, 0.006),
        'angle': rng.uniform(-0.05, 0.05), 'angle_rate': rng.uniform(-0.004, 0.004)}


def _view(photograph, camera, t, size):
    t = t - FRAMES // 2
    zoom = camera['zoom'] * (1 + camera['zoom_rate'] * t)
    angle = camera['angle'] + camera['angle_rate'] * t
    rotation = zoom * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    middle = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    shift = camera['centre'] + camera['velocity'] * t - rotation @ middle
    return cv2.warpAffine(photograph, np.column_stack([rotation, shift]), size[::-1],
                          flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT_101)


def make_sample_vimeo90k(root, train_clips=32, test_clips=4, size=(256, 448), seed=0, progress=True):
    """Write ``sequences/00001/0001/im1..im7.png`` and the two lists, as the Vimeo-90K septuplet archive has them.

    Args:
        root (Path): A folder; files that are there already are written anew. The lists come last, so that a tree
            without them is incomplete.
        train_clips, test_clips (int): Number of clips; the photographs are used in turn.
        size (tuple): (h,w) of a frame; Vimeo-90K has (256,448).
        seed (int): The same seed gives the same bytes.
        progress (bool): Show a progress bar.
    """
    splits = [('sep_trainlist.txt', '00001', TRAIN_PHOTOGRAPHS, train_clips),
              ('sep_testlist.txt', '00002', TEST_PHOTOGRAPHS, test_clips)]
    bar = tqdm(total=train_clips + test_clips, desc='sample clips', unit='clip', disable=not progress)
    lists = {}
    for part, (list_name, folder, names, count) in enumerate(splits):
        photographs = [load_photograph(name) for name in names]
        lists[list_name] = [f'{folder}/{index + 1:04d}' for index in range(count)]
        for index, clip in enumerate(lists[list_name]):
            rng = np.random.default_rng([seed, part, index])
            other = (index + 1 + rng.integers(len(names) - 1)) % len(names)
            frames = render_clip(photographs[index % len(names)], photographs[other], rng, size)
            target = root / 'sequences' / clip
            target.mkdir(parents=True, exist_ok=True)
            for number, frame in enumerate(frames, 1):
                (target / f'im{number}.png').write_bytes(encode_image(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)))
            bar.update()
    bar.close()
    for list_name, clips in lists.items():
        (root / list_name).write_text(''.join(f'{clip}\n' for clip in clips))
