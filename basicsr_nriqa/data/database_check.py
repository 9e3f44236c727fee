"""Whether a database is whole: all keys, checksums, sizes, decodable, LR and GT belonging together."""
import multiprocessing
import os
import signal
import zlib
from contextlib import suppress
from typing import NamedTuple

from tqdm import tqdm

from basicsr_nriqa.data.clip_list import read_clip_list
from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.image_codec import decode_image, image_size, is_raw
from basicsr_nriqa.data.lmdb_store import LmdbReader, close_databases
from basicsr_nriqa.data.packing import bounded_map


class Report(NamedTuple):
    """What a check has found.

    Attributes:
        images (int): How many images the database has.
        raw (int): How many of them are pixels.
        checksums (int): For how many a checksum is known.
        sizes (dict): (h,w): number of images.
        about (dict | None): The note of its making.
        problems (list[str]): What is wrong, one line each; empty if nothing is.
    """
    images: int
    raw: int
    checksums: int
    sizes: dict
    about: object
    problems: list


def check_database(path, lr=None, scale=None, clip_list=None, decode=True, workers=None, progress=True):
    """Check one database, or GT and LR together.

    Args:
        path (str | Path): The database; GT if ``lr`` is given.
        lr (str | Path | None): The database of the LR frames.
        scale (int | None): GT size over LR size; default: as the database notes, else as the first frame has it.
        clip_list (str | Path | None): Clips that must be there, with as many frames as the list says.
        decode (bool): Decode every image; without, those with a checksum are believed when it is right.
        workers (int | None): Threads; default: one a core.
        progress (bool): Show a progress bar.

    Returns:
        tuple[Report, ...]: Of the database, and of the LR one.

    Raises:
        DataError: one of them is no readable database at all, or the list cannot be read.
    """
    paths = (path, lr) if lr else (path,)
    readers = [LmdbReader(place) for place in paths]
    for reader in readers:
        _walk(reader)
    reports, sizes = [], []
    for reader in readers:
        report, by_key = _check(reader, decode, workers, progress)
        reports.append(report)
        sizes.append(by_key)
    if clip_list:
        reports[0].problems.extend(_check_list(read_clip_list(clip_list), readers[0], sizes[0], clip_list))
    if lr:
        about = reports[1].about or {}
        reports[1].problems.extend(_check_pair(*readers, *sizes, scale or about.get('scale')))
    return tuple(reports)


def _walk(reader):
    """Go through a database in a process of its own: LMDB aborts where it meets damaged pages."""
    close_databases()
    process = multiprocessing.get_context('fork').Process(target=_touch, args=(reader,))
    process.start()
    process.join()
    if process.exitcode < 0:
        raise DataError(f'{reader.path}: damaged inside: reading it ends the process '
                        f'({signal.strsignal(-process.exitcode)}). Copy or make it again.')


def _touch(reader):
    with suppress(DataError):  # which is told later
        for key in reader.stored_keys():
            reader.size(key)
            reader.record(key)


def _check(reader, decode, workers, progress):
    problems = []
    try:
        listed = reader.listed()
    except DataError as error:
        listed = {}
        problems.append(str(error))
    stored = reader.stored_keys()
    problems += [f'{reader.name(key)}: listed in meta_info.txt, but not stored'
                 for key in sorted({*listed} - {*stored})]
    if listed:
        problems += [f'{reader.name(key)}: stored, but not listed in meta_info.txt' for key in stored
                     if key not in listed]

    def examine(key):
        return key, *_examine(reader, key, listed.get(key), decode)

    raw = checksums = 0
    by_key, sizes = {}, {}
    name = os.path.basename(reader.path)
    with tqdm(total=len(stored), desc=f'checking {name}', unit='image', disable=not progress) as bar:
        for key, size, is_pixels, has_checksum, found in bounded_map(examine, stored, workers):
            problems += [f'{reader.name(key)}: {what}' for what in found]
            raw += is_pixels
            checksums += has_checksum
            if size:
                by_key[key] = size
                sizes[size] = sizes.get(size, 0) + 1
            bar.update()
    about = reader.about()
    if not stored:
        problems.append(f'{reader.path}: there is no image in it')
    elif about and about.get('frames', len(stored)) != len(stored):
        problems.append(f"{reader.path}: {len(stored)} images, but it was made with {about['frames']}")
    problems += _check_clips(by_key, reader)
    return Report(len(stored), raw, checksums, sizes, about, problems), by_key


def _examine(reader, key, listed, decode):
    data, record = reader.get(key), reader.record(key)
    found = []
    matches = record is not None and zlib.crc32(data) == record.crc32
    if record is not None and not matches:
        found.append(f'its checksum is {zlib.crc32(data):08x}, not {record.crc32:08x} as when it was stored')
    size = None
    try:
        size = image_size(data, reader.name(key)) if matches and not decode else \
            decode_image(data, reader.name(key)).shape[:2]
    except DataError as error:
        found.append(str(error).removeprefix(f'{reader.name(key)}: '))
    else:
        for source, shape in (('meta_info.txt', listed), ('its record', record and record.shape)):
            if shape and tuple(shape[:2]) != tuple(size):
                found.append(f'{size[1]}x{size[0]} pixels, but {source} says {shape[1]}x{shape[0]}')
    return size, is_raw(data), record is not None, found


def _check_clips(sizes, reader):
    first = {}
    for key, size in sizes.items():
        clip = key.rpartition('/')[0]  # none in databases of single images
        other, wanted = first.setdefault(clip, (key, size))
        if clip and tuple(size) != tuple(wanted):
            yield (f'{reader.name(key)}: {size[1]}x{size[0]} pixels, but {other!r} of the same clip '
                   f'{wanted[1]}x{wanted[0]}')


def _check_list(clips, reader, sizes, path):
    counts = {}
    for key in sizes:
        clip = key.rpartition('/')[0]
        counts[clip] = counts.get(clip, 0) + 1
    for clip, frames in clips.items():
        if clip not in counts:
            yield f"{reader.path}: clip '{clip}' of {path} is not there"
        elif frames is not None and counts[clip] < frames:
            yield f"{reader.path}: clip '{clip}' has {counts[clip]} whole frames, {path} says {frames}"


def _check_pair(gt, lr, gt_sizes, lr_sizes, scale):
    for one, other, sizes, others in ((gt, lr, gt_sizes, lr_sizes), (lr, gt, lr_sizes, gt_sizes)):
        for key in sizes:
            if key not in others:
                yield f"{other.name(key)}: no whole image, but {one.path} has one"
    for key, (height, width) in gt_sizes.items():
        if key in lr_sizes:
            small = lr_sizes[key]
            scale = scale or max(1, round(height / small[0]))
            if (small[0] * scale, small[1] * scale) != (height, width):
                yield (f'{lr.name(key)}: {small[1]}x{small[0]} pixels, which times {scale} is not the {width}x{height} '
                       'of GT')
