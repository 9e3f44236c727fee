import numpy as np
import pytest
from PIL import Image

from basicsr_nriqa.data.photographs import load_photograph
from basicsr_nriqa.study.crops import most_textured_window, side_by_side


def flat(height=90, width=120, value=200):
    return np.full((height, width, 3), value, dtype=np.uint8)


def textured(top, left, size=32, **shape):
    """A flat image with one patch of noise."""
    image = flat(**shape)
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    image[top:top + size, left:left + size] = noise
    return image


def contains(sheet, tile):
    """How often the sheet shows exactly this tile."""
    places = np.argwhere((sheet == tile[0, 0]).all(axis=2))
    height, width = tile.shape[:2]
    return sum(np.array_equal(sheet[y:y + height, x:x + width], tile) for y, x in places)


@pytest.mark.parametrize(('top', 'left'), [(0, 0), (20, 50), (58, 88)])
def test_the_textured_window_is_found(top, left):
    found = most_textured_window(textured(top, left), size=32)
    assert found[2:] == (32, 32)
    assert abs(found[0] - top) <= 2 and abs(found[1] - left) <= 2


def test_smooth_shading_is_no_texture():
    image = textured(50, 10, 16, height=80, width=200)
    image[:30, 60:] = np.linspace(0, 255, 140).astype(np.uint8)[None, :, None]
    top, left, _, _ = most_textured_window(image, size=16)
    assert abs(top - 50) <= 2 and abs(left - 10) <= 2


def test_window_of_plain_and_of_small_images():
    assert most_textured_window(flat()) == (0, 0, 64, 64)
    assert most_textured_window(flat(40, 50)) == (0, 0, 40, 50)
    assert most_textured_window(np.random.default_rng(0).integers(0, 256, (1, 1, 3), dtype=np.uint8)) == (0, 0, 1, 1)


def test_sheet_shows_every_crop_unsmoothed(tmp_path):
    truth = load_photograph('chelsea.png')
    images = {'baseline': truth // 2, 'tuned': 255 - truth, 'GT': truth}
    path = tmp_path / 'folder' / 'crops.png'
    crop = (100, 120, 20, 30)
    assert side_by_side(images, path, crop, zoom=5) == [crop]
    sheet = np.asarray(Image.open(path))
    assert [file.name for file in path.parent.iterdir()] == ['crops.png']
    for image in images.values():
        assert contains(sheet, np.kron(image[100:120, 120:150], np.ones((5, 5, 1), dtype=np.uint8))) == 1
    border = np.concatenate([sheet[:20].ravel(), sheet[-5:].ravel(), sheet[:, :20].ravel(), sheet[:, -20:].ravel()])
    assert (border == 255).all(), 'a white margin on all sides'


def test_rows_share_a_sheet_and_choose_their_own_crop(tmp_path):
    rows = [('first', {'tuned': flat(), 'GT': textured(5, 10, 64)}),
            ('second', {'GT': 255 - textured(20, 50, 64), 'tuned': flat()})]
    path = tmp_path / 'crops.png'
    crops = side_by_side(rows, path, zoom=2)
    assert np.abs(np.array(crops)[:, :2] - [[5, 10], [20, 50]]).max() <= 2, 'GT decides, wherever it stands'
    sheet = np.asarray(Image.open(path))
    for (_, row), (top, left, height, width) in zip(rows, crops):
        tile = row['GT'][top:top + height, left:left + width].repeat(2, 0).repeat(2, 1)
        assert contains(sheet, tile) == 1


def test_box_is_drawn_where_the_crop_is(tmp_path):
    path = tmp_path / 'crops.png'
    side_by_side({'GT': flat(100, 100, 128)}, path, crop=(25, 50, 50, 25), zoom=4)
    sheet = np.asarray(Image.open(path)).astype(int)
    ys, xs = np.nonzero((sheet == [255, 196, 0]).all(axis=2))
    # the thumbnail begins behind the margin of 24 and is 200 pixels wide, twice the frame
    assert (ys.min(), ys.max()) == (24 + 50, 24 + 149)
    assert (xs.min(), xs.max()) == (24 + 100, 24 + 149)


def test_without_gt_the_last_image_is_the_reference(tmp_path):
    size = {'height': 100, 'width': 200}
    crops = side_by_side({'a': textured(0, 0, 64, **size), 'b': textured(30, 120, 64, **size)}, tmp_path / 'crops.png',
                         zoom=1)
    assert np.abs(np.array(crops[0][:2]) - [30, 120]).max() <= 2


def test_long_labels_are_wrapped_and_the_file_is_deterministic(tmp_path):
    images = {'LPIPS & HyperIQA & PieAPP after many iterations': flat(), 'averyveryverylongwordwithoutanyspace': flat(),
              'GT': flat()}
    side_by_side(images, tmp_path / 'a.png', zoom=2)
    side_by_side(images, tmp_path / 'b.png', zoom=2)
    side_by_side({'a': flat(), 'b': flat(), 'GT': flat()}, tmp_path / 'short.png', zoom=2)
    assert (tmp_path / 'a.png').read_bytes() == (tmp_path / 'b.png').read_bytes()
    long, short = (Image.open(tmp_path / name) for name in ('a.png', 'short.png'))
    assert long.width == short.width
    assert long.height > short.height
    # between the columns of tiles, the labels leave the gap white
    label_rows = np.asarray(long)[24 + 128:]
    gaps = (label_rows == 255).all(axis=(0, 2))
    tiles = range(24 + 171 + 12, long.width - 24, 128 + 12)
    assert len(tiles) == 3
    assert all(gaps[left - 12:left].all() for left in tiles)


@pytest.mark.parametrize(('images', 'options', 'message'), [
    ({}, {}, 'no images'),
    ([], {}, 'no images'),
    ([('night', {})], {}, "row 'night': no images"),
    ([('night', {'a': flat(90, 100), 'GT': flat()})], {}, r"row 'night': image 'a' has the size \(90, 100\)"),
    ({'a': flat().astype(np.float32), 'GT': flat()}, {}, "image 'a' should be .* uint8 RGB, got .*float32"),
    ({'GT': flat()[..., 0]}, {}, r"image 'GT' should be .* got \(90, 120\)"),
    ({'GT': flat()}, {'crop': (80, 0, 20, 20)}, r'crop \(80, 0, 20, 20\)'),
    ({'GT': flat()}, {'crop': (-1, 0, 20, 20)}, r'crop \(-1, 0, 20, 20\)'),
    ({'GT': flat()}, {'crop': (0, 0, 0, 20)}, r'crop \(0, 0, 0, 20\)'),
    ({'GT': flat()}, {'crop': (0, 0)}, r'crop should be \(top, left, height, width\)'),
    ({'GT': flat()}, {'zoom': 0}, 'zoom'),
    ({'GT': flat()}, {'zoom': 1.5}, 'zoom'),
])
def test_bad_input_is_named(tmp_path, images, options, message):
    with pytest.raises(ValueError, match=message):
        side_by_side(images, tmp_path / 'crops.png', **options)
    assert not list(tmp_path.iterdir())
