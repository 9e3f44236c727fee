import io
import re
import zlib

import numpy as np
import pytest
from PIL import Image
from report_parts import make_scene, make_table

from basicsr_nriqa.study.figures import colour_limit, draw_figure
from basicsr_nriqa.study.scene_figures import draw_grid, draw_scene

RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)


def pixels(png):
    image = Image.open(io.BytesIO(png))
    assert image.format == 'PNG'
    return np.asarray(image.convert('RGB')).astype(int)


def places(image, colour):
    """Rows and columns of all pixels of this colour."""
    found = np.nonzero((image == colour).all(axis=2))
    assert found[0].size, f'{colour} is not in the picture'
    return found


def test_figure_shows_the_signs_of_the_gains():
    image = pixels(draw_figure(make_table()))
    green = (image[..., 1] - image[..., 0] > 20).sum()
    red = (image[..., 0] - image[..., 1] > 20).sum()
    flipped = pixels(draw_figure(make_table([[-3.2, -18.0, 0.01], [0.0, 111.0, -4.0], [12.0, 80.0, np.nan]])))
    assert image.shape == flipped.shape
    assert (flipped[..., 1] - flipped[..., 0] > 20).sum() > green > 1000
    assert red > (flipped[..., 0] - flipped[..., 1] > 20).sum() > 1000
    assert (image[[0, -1]] == 255).all() and (image[:, [0, -1]] == 255).all(), 'something touches the border'


def test_figure_frames_what_was_optimised():
    table = make_table()
    framed = pixels(draw_figure(table))
    table.optimised[:] = False
    plain = pixels(draw_figure(table))
    assert (framed.sum(axis=2) < 100).sum() > (plain.sum(axis=2) < 100).sum() + 1000


def test_figure_grows_with_the_table():
    small = pixels(draw_figure(make_table([[1.0, 2.0, 3.0]] * 2)))
    tall = pixels(draw_figure(make_table([[1.0, 2.0, 3.0]] * 3)))
    wide = pixels(draw_figure(make_table([[1.0] * 11] * 3, [f'metric {i}' for i in range(11)])))
    # 0.34 inches a row at 150 dpi; the longest label is in both
    assert tall.shape[0] - small.shape[0] == pytest.approx(0.34 * 150, abs=2)
    assert wide.shape[1] > tall.shape[1] + 7 * 0.62 * 150


def test_judges_stand_apart_and_their_mean_is_a_column_more():
    plain, judged = make_table(), make_table(judges=['psnr'])
    # 0.62 to 0.95 inches a column, and a tenth of one between judges and others
    wider = pixels(draw_figure(judged)).shape[1] - pixels(draw_figure(plain)).shape[1]
    assert 0.62 * 1.1 * 150 - 1 < wider < 0.95 * 1.1 * 150 + 1
    assert colour_limit(judged) == colour_limit(plain)


def test_one_extreme_gain_does_not_wash_out_the_others():
    gains = np.full((3, 10), 4.0)
    metrics = [f'm{i}' for i in range(10)]
    quiet = pixels(draw_figure(make_table(gains, metrics)))
    gains[2, 9] = 830.0
    extreme = pixels(draw_figure(make_table(gains, metrics)))
    # the upper rows do not change; the average of the last row does
    half = quiet.shape[0] // 3
    assert (quiet[:half] == extreme[:half]).all()
    assert (quiet != extreme).any()


def test_figure_accepts_long_names_and_a_table_without_numbers():
    long = pixels(draw_figure(make_table(metrics=('clipiqa+_vitL14_512', 'qualiclip+-clive', 'psnr'))))
    assert long.shape[0] > pixels(draw_figure(make_table())).shape[0], 'slanted labels need height'
    assert (long[0] == 255).all() and (long[:, -1] == 255).all(), 'a label is cut'
    assert pixels(draw_figure(make_table([[np.nan] * 3]))).std() > 10


def test_decimals_change_what_is_printed():
    table = make_table()
    assert draw_figure(table) == draw_figure(table, 'png', None) != draw_figure(table, 'png', 0)


@pytest.mark.parametrize('draw', [
    lambda file_format: draw_figure(make_table(), file_format),
    lambda file_format: draw_scene(make_scene(), file_format),
    lambda file_format: draw_grid([make_scene()], file_format)])
def test_files_are_the_same_each_time_and_pdf_fonts_are_embedded(draw):
    assert draw('png') == draw('png')
    pdf = draw('pdf')
    assert pdf == draw('pdf')
    assert pdf.startswith(b'%PDF')
    assert b'Date' not in pdf
    # Type 42: outlines as TrueType, not as drawings (Type 3)
    assert b'/FontFile2' in pdf and b'/Type3' not in pdf


def test_text_of_the_figure_stays_text_in_the_pdf():
    streams = re.findall(rb'stream\n(.*?)\nendstream', draw_figure(make_table(), 'pdf'), re.DOTALL)
    text = b''.join(zlib.decompress(stream) for stream in streams if stream[:1] == b'x')
    assert b'HyperIQA' in b''.join(re.findall(rb'\(\x00(.)\)', text)), 'letters, one by one with their distances'
    assert b' l\n' in text, 'cells are lines and areas'


def test_scene_shows_the_frame_with_the_window_and_a_crop_of_each_method():
    scene = make_scene({'baseline': RED, 'a $ b': GREEN, 'GT': BLUE})
    image = pixels(draw_scene(scene))
    rows, columns = places(image, BLUE)
    box_rows, box_columns = places(image, (255, 196, 0))
    # GT fills the left; its crops and those of the others are at the right
    large = columns[rows == image.shape[0] // 2].min(), columns[rows == image.shape[0] // 2].max()
    scale = (rows.max() - rows.min()) / 60
    assert (box_columns.min() - columns.min()) / scale == pytest.approx(40, abs=1)
    assert (box_columns.max() - columns.min()) / scale == pytest.approx(60, abs=1)
    assert (box_rows.min() - rows.min()) / scale == pytest.approx(20, abs=1)
    assert places(image, RED)[1].min() > box_columns.max()
    assert places(image, GREEN)[1].min() > box_columns.max()
    assert large[0] < image.shape[1] / 20
    assert (image[[0, -1]] == 255).all() and (image[:, [0, -1]] == 255).all(), 'something touches the border'


def test_scene_of_a_region_marks_the_window_in_the_whole_frame():
    overview = np.full((120, 160, 3), BLUE, dtype=np.uint8)
    whole = make_scene({'GT': BLUE}, window=(50, 90, 16, 20), region=(30, 50, 60, 80), overview=overview)
    image = pixels(draw_scene(whole))
    rows, columns = places(image, BLUE)
    box_rows, box_columns = places(image, (255, 196, 0))
    scale = (rows.max() - rows.min()) / 120
    assert (box_columns.min() - columns.min()) / scale == pytest.approx(90, abs=1.5)
    assert (box_rows.min() - rows.min()) / scale == pytest.approx(50, abs=1.5)
    assert whole.window_in_images == (20, 40, 16, 20)


def test_crops_show_equal_squares_for_pixels():
    image = pixels(draw_scene(make_scene({'baseline': RED, 'GT': BLUE})))
    rows, columns = places(image, RED)
    crop = image[rows.min():rows.max() + 1, columns.min():columns.max() + 1]
    assert {tuple(colour) for colour in crop.reshape(-1, 3)} == {RED, (100, 0, 0)}, 'nothing is smoothed'


def test_grid_has_the_baseline_on_top_and_gt_at_the_bottom():
    first = make_scene({'bicubic': (9, 50, 9), 'NIMA': GREEN, 'baseline': RED, 'GT': BLUE})
    second = make_scene({'baseline': RED, 'GT': BLUE}, clip='another')
    image = pixels(draw_grid([first, second]))
    red, green, blue = (places(image, colour) for colour in (RED, GREEN, BLUE))
    assert red[0].max() < green[0].min() < green[0].max() < blue[0].min()
    half = (red[1].min() + red[1].max()) / 2
    assert green[1].max() < half < blue[1].max(), 'the second scene lacks NIMA, and its place stays empty'
    assert not (image == (9, 50, 9)).all(axis=2).any(), 'bicubic is not shown'


def test_each_crop_is_a_picture_of_its_own_in_the_pdf():
    """To make one of all takes a time that grows with the square of their number: minutes for Fig. 3 of the study."""
    scene = make_scene({'baseline': RED, 'NIMA': GREEN, 'GT': BLUE})
    assert draw_grid([scene, scene], 'pdf').count(b'/Subtype /Image') == 6


def test_many_methods_fit_beside_the_frame():
    colours = {f'method number {i}': (i, 255 - i, 128) for i in range(17)}
    image = pixels(draw_scene(make_scene(colours)))
    assert all(places(image, colour)[0].size for colour in colours.values())
    assert image.shape[1] < 6 * image.shape[0]
