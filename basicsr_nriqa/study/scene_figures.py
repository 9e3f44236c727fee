"""Pictures of scenes as figures for papers, in the layouts of the paper's Fig. 1 and Fig. 3."""
import math
import textwrap

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Stroke

from basicsr_nriqa.study.crops import REFERENCE
from basicsr_nriqa.study.figures import figure_file
from basicsr_nriqa.study.grid import BASELINE
from basicsr_nriqa.study.scenes import BICUBIC

_DPI = 300  # one pixel of a crop becomes several, of equal size as far as the eye can tell
_FONT = 8  # points
_LINE = 0.14  # inches, of a label
_MARGIN, _SPACE = 0.06, 0.07  # inches
_CROP = 1.15  # inches, width of a crop in Fig. 1 and Fig. 3
_BOX = '#ffc400'


def draw_scene(scene, file_format='png'):
    """Draw one scene as in Fig. 1: the whole frame with the marked window, beside it the labelled crops.

    Args:
        scene (basicsr_nriqa.study.scenes.Scene): GT comes first; the others keep their order.
        file_format (str): ``'png'`` or ``'pdf'``.

    Returns:
        bytes: The file; the same for the same scene.
    """
    crops = scene.crops()
    crops = {label: crops[label] for label in [scene.reference, *(name for name in crops if name != scene.reference)]}
    overview = scene.images[scene.reference] if scene.overview is None else scene.overview
    labels = [_wrap(label, _CROP) for label in crops]
    crop_height = _CROP * scene.window[2] / scene.window[3]
    tile = crop_height + _LINE * max(text.count('\n') + 1 for text in labels) + _SPACE
    rows = 2 if len(crops) <= 8 else 3 if len(crops) <= 15 else 4
    columns = math.ceil(len(crops) / rows)
    rows = math.ceil(len(crops) / columns)
    title = _LINE + _SPACE
    frame_height = rows * tile - title
    frame_width = frame_height * overview.shape[1] / overview.shape[0]
    page = _Page(_MARGIN + frame_width + _SPACE + columns * (_CROP + _SPACE), rows * tile + _MARGIN)

    page.picture(overview, _MARGIN, _MARGIN, frame_width, frame_height, 'antialiased')
    scale = frame_height / overview.shape[0]
    top, left, height, width = (side * scale for side in scene.window)
    page.box(_MARGIN + left, _MARGIN + top, width, height)
    page.text(_MARGIN + frame_width / 2, _MARGIN + frame_height + 0.03, scene.title)
    for i, (text, crop) in enumerate(zip(labels, crops.values())):
        x = _MARGIN + frame_width + _SPACE + i % columns * (_CROP + _SPACE)
        y = _MARGIN + i // columns * tile
        page.picture(crop, x, y, _CROP, crop_height)
        page.text(x + _CROP / 2, y + crop_height + 0.03, text)
    return figure_file(page.figure, file_format)


def draw_grid(scenes, file_format='png'):
    """Draw crops of several scenes as in Fig. 3: a column for each scene, a row for each method, the baseline on top.

    Args:
        scenes (Sequence[basicsr_nriqa.study.scenes.Scene]): From one; a place stays empty where a scene lacks a method.
            GT is the last row; the bicubic enlargement is left out, as in the paper.
        file_format (str): ``'png'`` or ``'pdf'``.

    Returns:
        bytes: The file; the same for the same scenes.
    """
    labels = list(dict.fromkeys(label for scene in scenes for label in scene.images if label != BICUBIC))
    labels.sort(key=lambda label: (label == REFERENCE) - (label == BASELINE))
    crop_height = max(_CROP * scene.window[2] / scene.window[3] for scene in scenes)
    heads = [_wrap(scene.title, _CROP) for scene in scenes]
    head = _LINE * max(text.count('\n') + 1 for text in heads) + 0.03
    names = [_wrap(label, 1.2) for label in labels]
    side = 1.2 + _SPACE
    page = _Page(2 * _MARGIN + side + len(scenes) * (_CROP + _SPACE) - _SPACE,
                 2 * _MARGIN + head + len(labels) * (crop_height + _SPACE) - _SPACE)
    for i, (scene, title) in enumerate(zip(scenes, heads)):
        x = _MARGIN + side + i * (_CROP + _SPACE)
        page.text(x + _CROP / 2, _MARGIN, title)
        for label, crop in scene.crops().items():
            if label in labels:
                y = _MARGIN + head + labels.index(label) * (crop_height + _SPACE)
                page.picture(crop, x, y, _CROP, _CROP * crop.shape[0] / crop.shape[1])
    for i, name in enumerate(names):
        page.text(_MARGIN + side - _SPACE, _MARGIN + head + i * (crop_height + _SPACE) + crop_height / 2, name,
                  ha='right', va='center')
    return figure_file(page.figure, file_format)


class _Page:
    """A figure on which things are placed in inches from the upper left corner."""

    def __init__(self, width, height):
        self.figure = Figure(figsize=(width, height), dpi=_DPI, facecolor='white')
        FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.axis('off')
        self.axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)

    def picture(self, image, x, y, width, height, interpolation='nearest'):
        self.axes.imshow(image, interpolation=interpolation, aspect='auto', extent=(x, x + width, y + height, y))

    def box(self, x, y, width, height):
        box = self.axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=_BOX, linewidth=1.5))
        # a dark line on both sides keeps it visible on bright and yellow frames
        box.set_path_effects([Stroke(linewidth=3, foreground='black'), Stroke(linewidth=1.5, foreground=_BOX)])

    def text(self, x, y, text, ha='center', va='top'):
        self.axes.text(x, y, text.replace('$', r'\$'), ha=ha, va=va, fontsize=_FONT, linespacing=1.1)


def _wrap(text, width):
    """Lines that are about so many inches wide."""
    return textwrap.fill(text, max(4, round(width * 72 / _FONT * 1.65)))
