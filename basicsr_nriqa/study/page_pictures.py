"""Scenes on the report's page: a slider over two pictures, and the crops of all methods beside each other."""
import base64
import io

from PIL import Image

from basicsr_nriqa.study.grid import BASELINE
from basicsr_nriqa.study.markup import escape, panels


def pictures_section(scenes):
    """All scenes, of which the page's script shows one.

    Every picture is in the page once, without loss: its crop shows a part of it, and the slider takes it from there.

    Args:
        scenes (Sequence[basicsr_nriqa.study.scenes.Scene]): What to show.

    Returns:
        str: HTML; nothing without scenes.
    """
    if not scenes:
        return ''
    choice, parts = panels('scene', 'Scene', [(scene.title, _scene(scene, i)) for i, scene in enumerate(scenes)])
    return (f'<div class="controls" data-js hidden>{choice}</div>\n{parts}\n'
            '<noscript><p>The slider that compares two methods needs JavaScript.</p></noscript>')


def _scene(scene, number):
    height, width = scene.images[scene.reference].shape[:2]
    top, left, crop_height, crop_width = scene.window_in_images
    # lengths relative to the picture or the crop, so that both can have any size on the screen
    place = (f'--width:{width};--height:{height};--crop-width:{crop_width};--crop-height:{crop_height};'
             f'--left:{left};--top:{top}')
    crops = '\n'.join(
        f'<li><figure><div class="crop"><img src="{_webp(image)}" alt="Crop of {escape(label)}" '
        f'data-label="{escape(label)}"></div><figcaption>{escape(label)}</figcaption></figure></li>'
        for label, image in scene.images.items())
    return (f'<div class="scene" style="{place}">\n<h3>{escape(scene.title)}</h3>\n{_slider(scene, number)}\n'
            f'<ul class="crops">\n{crops}\n</ul></div>')


def _slider(scene, number):
    labels = list(scene.images)
    left = BASELINE if BASELINE in labels else labels[0]
    others = [label for label in labels[labels.index(left) + 1:] + labels if label != left]
    sides = ''
    for side, chosen in (('left', left), ('right', others[0] if others else left)):
        options = ''.join(f'<option{" selected" * (label == chosen)}>{escape(label)}</option>' for label in labels)
        sides += (f'<span class="choice"><label for="{side}-{number}">{side.capitalize()}</label> '
                  f'<select id="{side}-{number}" data-side="{side}" autocomplete="off">{options}</select></span>')
    return (f'<div class="compare" data-js hidden>\n<div class="controls">{sides}</div>\n'
            '<div class="stage"><img data-picture="right" alt=""><img data-picture="left" alt="">'
            '<span class="window" aria-hidden="true"></span><span class="edge" aria-hidden="true"></span>'
            '<span class="name" data-name="left"></span><span class="name" data-name="right"></span></div>\n'
            f'<label for="split-{number}">How much of the left picture is shown</label>\n'
            f'<input type="range" id="split-{number}" min="0" max="100" value="50" autocomplete="off"></div>')


def _webp(image):
    data = io.BytesIO()
    Image.fromarray(image).save(data, format='WEBP', lossless=True, method=4)
    return f'data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}'
