"""Zoomed crops of several results side by side: scores alone do not show the artifacts of an optimised metric."""
import io
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from basicsr_nriqa.files import write_atomically

REFERENCE = 'GT'
_MARGIN, _SPACE, _FRAME = 24, 12, 3  # pixels
_LABEL_SIZE, _TITLE_SIZE = 18, 21  # pixels
_BOX_COLOUR = (255, 196, 0)


def side_by_side(images, path, crop=None, zoom=4):
    """Write one labelled PNG of zoomed crops, one row per scene, with a small full frame that shows where the crop is.

    Args:
        images (dict[str, ndarray] | list[tuple[str, dict[str, ndarray]]]): One row, or several with their titles. A row
            is an ordered ``{label: image}`` of (h, w, 3) uint8 RGB images of equal size, e.g. bicubic, baseline, tuned,
            GT. The image labelled ``'GT'``, or else the last one, is the reference.
        path (str | Path): The PNG file.
        crop (tuple[int, int, int, int] | None): Top, left, height and width in pixels, for every row. None: the most
            textured 64 x 64 window of each row's reference, see :func:`most_textured_window`.
        zoom (int): Side in pixels of the square that shows one pixel; nearest neighbour, so nothing is smoothed.

    Returns:
        list[tuple[int, int, int, int]]: The crop of each row.

    Raises:
        ValueError: No image, images that differ in size or are not uint8 RGB, a crop outside of the image, or a zoom
            below 1. Names the row and the label.
    """
    rows = [('', images)] if isinstance(images, dict) else list(images)
    if not rows:
        raise ValueError('no images to show: expected at least one {label: image}')
    if zoom != int(zoom) or zoom < 1:
        raise ValueError(f'zoom should be a whole number from 1, got {zoom!r}')
    crops = []
    for title, row in rows:
        _check_row(title, row)
        reference = _reference(row)
        crops.append(most_textured_window(reference) if crop is None else tuple(map(int, crop)))
        _check_crop(crops[-1], reference.shape, title)

    tile_height = max(int(zoom) * height for _, _, height, _ in crops)
    slot = max(round(tile_height * _reference(row).shape[1] / _reference(row).shape[0]) for _, row in rows)
    # a panorama would push the crops out of sight
    slot = min(slot, 2 * tile_height)
    strips = [_draw_row(title, row, window, int(zoom), tile_height, slot) for (title, row), window in zip(rows, crops)]
    sheet = Image.new('RGB', (max(strip.width for strip in strips) + 2 * _MARGIN,
                              sum(strip.height for strip in strips) + (len(strips) + 1) * _MARGIN), 'white')
    top = _MARGIN
    for strip in strips:
        sheet.paste(strip, (_MARGIN, top))
        top += strip.height + _MARGIN
    png = io.BytesIO()
    sheet.save(png, format='PNG')
    write_atomically(path, png.getvalue())
    return crops


def amplified_difference(image, baseline, factor=10):
    """What an image has beside another one, made visible.

    Args:
        image (ndarray): uint8.
        baseline (ndarray): The same shape and type.
        factor (int): How many times as strong. Default: 10.

    Returns:
        ndarray: uint8, 128 where they are equal.
    """
    return np.clip(128 + factor * (image - baseline.astype(int)), 0, 255).astype(np.uint8)


def most_textured_window(image, size=64):
    """Find the window whose high-pass has the highest variance: fine structure, where methods differ most.

    Args:
        image (ndarray): (h, w, 3) uint8, RGB.
        size (int): Height and width of the window in pixels; less where the image is smaller.

    Returns:
        tuple[int, int, int, int]: Top, left, height, width; the topmost, then leftmost, of equal windows.
    """
    height, width = min(size, image.shape[0]), min(size, image.shape[1])
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
    high_pass = grey - cv2.GaussianBlur(grey, (0, 0), 2)
    mean, mean_square = _window_means(high_pass, height, width), _window_means(high_pass ** 2, height, width)
    # rounded, so that sums of another order of additions do not decide between equal windows
    variance = np.round(mean_square - mean ** 2, 6)
    top, left = np.unravel_index(np.argmax(variance), variance.shape)
    return int(top), int(left), height, width


def _window_means(values, height, width):
    """Mean of every window that lies inside of the image."""
    sums = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    totals = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    return totals / (height * width)


def _reference(row):
    return row[REFERENCE] if REFERENCE in row else list(row.values())[-1]


def _check_row(title, row):
    where = f'row {title!r}: ' if title else ''
    if not row:
        raise ValueError(f'{where}no images to show: expected at least one {{label: image}}')
    expected = _reference(row).shape
    for label, image in row.items():
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f'{where}image {label!r} should be (h, w, 3) uint8 RGB, got {image.shape} {image.dtype}')
        if image.shape != expected:
            raise ValueError(f'{where}image {label!r} has the size {image.shape[:2]}, the reference {expected[:2]}; '
                             'all images of a row need the same size')


def _check_crop(crop, shape, title):
    where = f'row {title!r}: ' if title else ''
    if len(crop) != 4:
        raise ValueError(f'{where}crop should be (top, left, height, width), got {crop}')
    top, left, height, width = crop
    if min(top, left) < 0 or min(height, width) < 1 or top + height > shape[0] or left + width > shape[1]:
        raise ValueError(f'{where}crop {crop} (top, left, height, width) is not inside of an image of {shape[:2]}')


def _draw_row(title, row, crop, zoom, tile_height, slot):
    """Title, thumbnail and tiles of one row, without any margin around."""
    top, left, height, width = crop
    tile_width = width * zoom
    font, bold = _font('DejaVuSans.ttf', _LABEL_SIZE), _font('DejaVuSans-Bold.ttf', _TITLE_SIZE)
    labels = [_wrap(text, font, room) for text, room in [('full frame', slot), *((label, tile_width) for label in row)]]
    head = round(1.7 * _TITLE_SIZE) if title else 0
    label_height = round(1.3 * _LABEL_SIZE)
    strip_width = max(slot + (tile_width + _SPACE) * len(row), int(bold.getlength(title)) + 1)
    strip = Image.new('RGB', (strip_width, head + tile_height + 8 + label_height * max(map(len, labels))), 'white')
    draw = ImageDraw.Draw(strip)
    draw.text((0, 0), title, font=bold, fill='black')

    thumbnail = _thumbnail(_reference(row), crop, tile_height, slot)
    pictures = [thumbnail, *(image[top:top + height, left:left + width].repeat(zoom, 0).repeat(zoom, 1)
                             for image in row.values())]
    x = 0
    for picture, lines, room in zip(pictures, labels, [slot, *[tile_width] * len(row)]):
        strip.paste(Image.fromarray(picture), (x + (room - picture.shape[1]) // 2,
                                               head + (tile_height - picture.shape[0]) // 2))
        for i, line in enumerate(lines):
            draw.text((x + room / 2, head + tile_height + 8 + label_height * i), line, font=font, fill='black',
                      anchor='ma')
        x += room + _SPACE
    return strip


def _thumbnail(image, crop, height, width):
    """The whole image, as large as fits, with the box of the crop."""
    scale = min(height / image.shape[0], width / image.shape[1])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = Image.fromarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC))
    y, x, box_height, box_width = (side * scale for side in crop)
    box = [round(x), round(y), max(round(x + box_width) - 1, round(x)), max(round(y + box_height) - 1, round(y))]
    draw = ImageDraw.Draw(small)
    # a dark line on both sides keeps the box visible on bright and yellow frames
    draw.rectangle([box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1], outline='black', width=_FRAME + 2)
    draw.rectangle(box, outline=_BOX_COLOUR, width=_FRAME)
    return np.asarray(small)


def _font(name, size):
    """Matplotlib's fonts look the same on every machine."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), 'fonts', 'ttf', name)), size)


def _wrap(text, font, room):
    """Lines of at most `room` pixels; a longer word is cut."""
    lines = ['']
    for word in text.split():
        longer = f'{lines[-1]} {word}'.strip()
        if font.getlength(longer) <= room:
            lines[-1] = longer
            continue
        while font.getlength(word) > room and len(word) > 1:
            word = word.rstrip('…')[:-1] + '…'
        lines = [*lines, word] if lines[-1] else [word]
    return lines
