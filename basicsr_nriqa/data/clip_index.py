"""Which clips there are to train with, and what their frames are called, without a list of all frames."""
import re
from pathlib import Path
from typing import NamedTuple

from basicsr_nriqa.data.clip_list import read_clip_list
from basicsr_nriqa.data.clip_store import frame_key
from basicsr_nriqa.data.errors import DataError


class Clip(NamedTuple):
    """A clip whose frames are numbered one after the other.

    Attributes:
        folder (str): Where it is in its store.
        frames (int): How many it has.
        template (str): Name of a frame, a format of its number.
        first (int): Number of the first frame.
    """
    folder: str
    frames: int
    template: str
    first: int

    def key(self, index):
        """Key of a frame, counted from 0."""
        return frame_key(self.folder, self.template.format(self.first + index))


def find_clips(store, meta_info_file=None, clip_length=None, filename_tmpl=None, first_frame=None):
    """The clips of a store, or those of a list.

    Args:
        store (ClipStore): Is looked through only where the list does not say how many frames the clips have.
        meta_info_file (str | None): The clips to use, as :func:`~basicsr_nriqa.data.clip_list.read_clip_list` reads it;
            default: all that are there.
        clip_length (int | None): Frames of clips of which the list does not say it; default: all that are there.
        filename_tmpl (str | None): Format of a frame's name; default: ``im{}``, or if the store is looked through, what
            is found there.
        first_frame (int | None): Number of the first frame; default: 1, or as found.

    Returns:
        list[Clip]: In the order of the list, or in natural order.

    Raises:
        DataError: the list, a clip or a frame is missing, or an option makes no sense.
    """
    if filename_tmpl is not None:
        _check_template(filename_tmpl)
    if first_frame is not None and (not isinstance(first_frame, int) or first_frame < 0):
        raise DataError(f'first_frame: expected a whole number, 0 or more, got {first_frame!r}.')
    listed = read_clip_list(Path(meta_info_file).expanduser()) if meta_info_file else None
    stored = None
    if listed is None or (clip_length is None and None in listed.values()):
        stored = store.clips()
        if listed is None:
            listed = dict.fromkeys(stored)
    clips, templates = [], {}
    for folder, frames in listed.items():
        template, first = filename_tmpl or 'im{}', 1 if first_frame is None else first_frame
        if frames is None and stored is None:
            frames = clip_length
        elif frames is None:
            if folder not in stored:
                raise DataError(f"{meta_info_file}: clip '{folder}' is not in {store.root}. Take the list that belongs "
                                'to these data, or leave meta_info_file out to use all.')
            names = [key.rpartition('/')[2] for key in stored[folder]]
            if filename_tmpl is None:
                template, found = numbering(names)
                first = found if first_frame is None else first_frame
            _check_names(store, folder, names, template, first)
            frames = clip_length or len(names)
            if frames > len(names):
                raise DataError(f"{store.root}: clip '{folder}' has {len(names)} frames; clip_length says {frames}. "
                                'Lower it, or leave such clips out of meta_info_file.')
        clips.append(Clip(folder, frames, templates.setdefault(template, template), first))  # one object of each
    return clips


def numbering(names):
    """Template and first number of the names of frames: ``('im{:01d}', 1)`` for im1, im2, ..., im10.

    Args:
        names (list[str]): In natural order.

    Returns:
        tuple[str, int]: What fits the first and the last name. A name alone is its own template.
    """
    start, end = (re.split(r'(\d+)', name) for name in (names[0], names[-1]))
    differing = [place for place, parts in enumerate(zip(start, end)) if len(set(parts)) == 2]
    literal = [part.replace('{', '{{').replace('}', '}}') for part in start]
    if len(differing) != 1 or differing[0] % 2 == 0:
        return ''.join(literal), 1
    digits = start[differing[0]]
    literal[differing[0]] = f'{{:0{len(digits)}d}}'
    return ''.join(literal), int(digits)


def _counts(template):
    return template.format(1) != template.format(2)


def _check_template(template):
    try:
        usable = _counts(template)
    except (IndexError, KeyError, ValueError, AttributeError):
        usable = False
    if not usable:
        raise DataError(f"filename_tmpl: '{template}' does not give each number its name; expected a format such as "
                        "'im{}' or '{:08d}'.")


def _check_names(store, folder, names, template, first):
    for number, name in enumerate(names, first):
        wanted = template.format(number)
        if name != wanted:
            instead = f"where '{wanted}' was expected" if _counts(template) else f"beside '{wanted}'"
            raise DataError(f"{store.root}: clip '{folder}' has a frame '{name}' {instead}. Frames must be numbered "
                            'without gaps. Is one missing? Else set filename_tmpl and first_frame to what they are.')
