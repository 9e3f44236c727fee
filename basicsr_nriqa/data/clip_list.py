"""Lists of clips: one name a line, as Vimeo-90K has them, or BasicSR's meta_info files."""
import re
from pathlib import Path

from basicsr_nriqa.data.errors import DataError

_COLUMNS = re.compile(r'\s(?P<frames>\d+) \(\d+,\d+,\d+\)$')


def read_clip_list(path):
    """The clips that a list names: ``00001/0001`` or, in BasicSR's meta_info files, ``00001/0001 7 (256,448,3)``.

    Only columns of exactly that form are taken off a line; what is before them is the name, which may have spaces.

    Args:
        path (str | Path): A text file; empty lines are left out.

    Returns:
        dict: clip: its number of frames, or None where the list does not say; in the order of the list.

    Raises:
        DataError: no such file, no clip in it, a clip without frames, or a clip that is named twice.
    """
    try:
        text = Path(path).read_text(encoding='utf-8-sig')
    except FileNotFoundError:
        raise DataError(f'{path}: no such file. Expected a list of clips, one such as 00001/0001 a line.') from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f'{path}: cannot be read ({getattr(error, "strerror", None) or "not a text file"}). Expected a '
                        'list of clips, one such as 00001/0001 a line.') from error
    return parse_clip_list(text, path)


def parse_clip_list(text, path):
    """The clips that the text of a list names; as :func:`read_clip_list`, ``path`` being what messages call it."""
    clips = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line:
            continue
        columns = _COLUMNS.search(line)
        clip, frames = (line[:columns.start()].strip(), int(columns['frames'])) if columns else (line, None)
        if clip in clips:
            raise DataError(f"{path}, line {number}: clip '{clip}' is named a second time. Remove one of the lines.")
        if frames == 0 or not clip:
            raise DataError(f'{path}, line {number}: {line[:80]!r} is no clip with frames. Expected one such as '
                            '00001/0001 7 (256,448,3).')
        check_clip_name(clip, f'{path}, line {number}')
        clips[clip] = frames
    if not clips:
        raise DataError(f'{path}: the list names no clip. Expected one such as 00001/0001 a line.')
    return clips


def check_clip_name(name, place):
    """Raise a DataError, which begins with ``place``, where images of a clip could be written outside their folder."""
    if name.startswith('/') or '..' in name.split('/'):
        raise DataError(f"{place}: clip '{name}' has a name that leads out of its folder. Rename it.")
