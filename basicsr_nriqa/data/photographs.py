"""The photographs that the installed scikit-image carries: real texture for demos and tests without any download.

They are split once, here, for the whole project: what is trained (the small metric, the demo's networks) never sees a
photograph of :data:`TEST_PHOTOGRAPHS`.
"""
from pathlib import Path

import cv2
import skimage.data

TRAIN_PHOTOGRAPHS = ('astronaut.png', 'coffee.png', 'rocket.jpg', 'ihc.png', 'hubble_deep_field.jpg', 'brick.png',
                     'gravel.png', 'coins.png')
TEST_PHOTOGRAPHS = ('chelsea.png', 'motorcycle_left.png', 'camera.png', 'grass.png')


def load_photograph(name):
    """Read one photograph.

    Args:
        name (str): A file name out of :data:`TRAIN_PHOTOGRAPHS` or :data:`TEST_PHOTOGRAPHS`.

    Returns:
        ndarray: (h, w, 3) uint8, RGB; grey photographs have three equal channels.

    Raises:
        FileNotFoundError: scikit-image does not carry the file.
    """
    path = Path(skimage.data.__file__).with_name(name)
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise FileNotFoundError(f'{path}: scikit-image should carry this photograph and does not. '
                                'Install the tested version: see constraints.txt.')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
