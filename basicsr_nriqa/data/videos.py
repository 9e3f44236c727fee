"""From your own videos to clips that the options files read: chosen, cropped, shrunk and packed."""
import hashlib
import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from basicsr.utils import get_root_logger
from filelock import FileLock, Timeout
from tqdm import tqdm

from basicsr_nriqa.data.bicubic import imresize
from basicsr_nriqa.data.clip_choice import Measures, choose_clips, measure_video, repeated_frames, uneven_steps
from basicsr_nriqa.data.degradation import check_degradation, degrade
from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.image_codec import encode_image, image_size
from basicsr_nriqa.data.packing import Frame, database_paths, pack_pairs, usable_cores, write_meta_info
from basicsr_nriqa.data.video_colour import ToRgb
from basicsr_nriqa.data.video_file import declared_frames, decoded_frames, opened_video
from basicsr_nriqa.data.video_sources import list_sources, split_sources
from basicsr_nriqa.files import write_atomically, written_beside

FORMATS = ('lmdb', 'png')


def prepare_videos(videos, out, split='test', test_share=None, seed=0, clips=1, frames=7, scale=4, degradation='BI',
                   codec='png', output='lmdb', resize_height=None, start=0.0, workers=None, progress=True,
                   check_space=True):
    """Cut the sharpest clips out of videos and pack them: GT, and their LR.

    Written to ``out``, with keys ``VIDEO/CLIP/im1`` such as ``bikes/0001/im1``: ``videos_SPLIT_GT.lmdb``,
    ``videos_SPLIT_LRxS.lmdb``, ``meta_info_videos_SPLIT_GT.txt`` (BasicSR's format) and ``videos_SPLIT.json``, which
    tells where each clip is from. As ``png`` the frames are files, ``videos_SPLIT/GT/VIDEO/CLIP/im1.png`` and the same
    in ``videos_SPLIT/LRxS``. What is complete is left alone; an interrupted run is continued.

    Args:
        videos (Sequence[Path]): Video files; a clip never spans a cut, see
            :func:`~basicsr_nriqa.data.clip_choice.choose_clips`.
        out (Path): Where to write.
        split (str): ``train`` or ``test``: what all videos are for.
        test_share (float | None): Instead of ``split``: this share of the videos, drawn with ``seed``, is for testing,
            at least one, the others for training. So no video is in both.
        seed (int): For drawing them.
        clips (int): At most so many of each video.
        frames (int): Of a clip, 2 or more.
        scale (int): LR is ``1/scale`` of GT, of which the middle is taken whose sides are divisible by it.
        degradation (str): How LR is made: see :func:`~basicsr_nriqa.data.degradation.degrade`.
        codec (str): Of the databases: ``png`` or ``raw``.
        output (str): ``lmdb`` or ``png``.
        resize_height (int | None): Shrink GT to this height first, by bicubic; lower videos stay as they are.
        start (float): Take clips from this time on, in seconds.
        workers (int | None): Threads; default: as many as there are cores.
        progress (bool): Show progress bars.
        check_space (bool): Refuse to pack where the disk has too little room.

    Raises:
        DataError: a file is no video, damaged, interlaced or given twice, there is no clip in one, an argument cannot
            be, ``out`` holds other clips or is written by another process, or the disk is full.
    """
    out = Path(out)
    settings = {'clips': clips, 'frames': frames, 'scale': scale, 'degradation': degradation, 'codec': codec,
                'format': output, 'resize_height': resize_height, 'start': start}
    _check(settings)
    workers = workers or usable_cores()
    parts = split_sources(list_sources(videos), split, test_share, seed)
    parts = {name: part for name, part in parts.items() if not _is_made(out, name, _described(part, settings))}
    if not parts:
        return
    with _work_folder(out) as work:
        chosen = _choose([source for part in parts.values() for source in part], work, settings, workers, progress)
        for name, part in parts.items():
            plan = _plan(part, chosen, settings)
            tree = work / f'{name}_{_digest(json.dumps([settings, plan], sort_keys=True).encode())}'
            _cut_out(part, plan, tree, settings, workers, progress)
            _finish(out, name, tree, plan, _described(part, settings), workers, progress, check_space)


def _check(settings):
    for name, least in (('clips', 1), ('frames', 2), ('scale', 1), ('start', 0)):
        if settings[name] < least:
            raise DataError(f'{name}: {settings[name]} is too few; expected {least} or more.')
    if settings['format'] not in FORMATS:
        raise DataError(f"format: '{settings['format']}' is not known; expected one of {', '.join(FORMATS)}.")
    check_degradation(settings['scale'], settings['degradation'])
    if settings['resize_height'] is not None and settings['resize_height'] < settings['scale']:
        raise DataError(f"resize_height: {settings['resize_height']} is less than the scale {settings['scale']}.")


def _described(part, settings):
    return {**settings, 'sources': [[source.path.name, source.size] for source in part]}


def _data_paths(out, split, settings):
    if settings['format'] == 'png':
        return [out / f'videos_{split}']
    return database_paths(out, f'videos_{split}', settings['scale'], settings['degradation'])


def _is_made(out, split, settings):
    """Whether these clips are there; other ones are an error."""
    record = out / f'videos_{split}.json'
    paths = _data_paths(out, split, settings)
    if not any(path.exists() for path in paths):
        return False
    try:
        made = json.loads(record.read_text())['settings']
    except (OSError, ValueError, KeyError, TypeError):
        if settings['format'] == 'lmdb':
            return False  # packed, and stopped before this was told: packing will look at it
        made = {}
    if made != settings:
        differing = ', '.join(name for name in settings if made.get(name) != settings[name])
        raise DataError(f'{paths[0]} is there and was made with other settings ({differing}; {record.name} tells '
                        'them). Remove it, or write to another folder.')
    if all(path.exists() for path in paths):
        get_root_logger().info(f'{paths[0]} is there already.')
        return True
    return False


@contextmanager
def _work_folder(out):
    """Where measures and frames are kept until all is done; it is gone after success."""
    work = out / '.videos'
    try:
        work.mkdir(parents=True, exist_ok=True)
        with FileLock(work / 'lock', timeout=0):
            yield work
            shutil.rmtree(work)  # while the lock is held: it may be another run's afterwards
    except Timeout:
        raise DataError(f'{out}: another run is cutting clips into this folder. Wait for it, or write to another '
                        'folder.') from None
    except OSError as error:
        raise DataError(f'{error.filename or work}: cannot be written ({error.strerror or error}). What is done so far '
                        'is kept: make room, or allow writing there, and start again to go on.') from error


def _choose(sources, work, settings, workers, progress):
    """{name: (Measures, clips)} of all sources; what is done is logged, and videos without a clip are an error."""
    declared = [_declared(source.path) for source in sources]
    threads = max(1, workers // len(sources))
    with tqdm(total=sum(declared) or None, desc='looking for clips', unit='frame', disable=not progress) as bar:
        def measure(source, stop):
            def seen():
                _go_on(stop)
                _advance(bar)
            return _measured(source, work, settings, threads, seen)

        measures = _in_threads(measure, sources, workers)
    chosen, without = {}, []
    for source, measured, count in zip(sources, measures, declared):
        if len(measured.times) < 0.9 * count:
            get_root_logger().warning(f'{source.path.name}: {len(measured.times)} frames, where the file says {count}. '
                                      'It may be cut off.')
        clips = choose_clips(measured, settings['frames'], settings['clips'], settings['start'])
        summary = _summary(measured)
        where = ', '.join(f'frame {clip.first} ({clip.time:.2f} s)' for clip in clips)
        get_root_logger().info(f'{source.path.name}: {measured.colour}; {summary}; clips from {where or "nowhere"}')
        if not clips:
            without.append(f'{source.path}: no clip ({summary})')
        elif len(clips) < settings['clips']:
            get_root_logger().warning(f'{source.path.name}: {len(clips)} clips, not {settings["clips"]}: there are no '
                                      'more.')
        chosen[source.name] = measured, clips
    if without:
        raise DataError('\n'.join(without) + f'\nExpected {settings["frames"]} frames one after the other, from '
                        f'{settings["start"]} s on, that move, without a cut, an uneven step in time or a repeated '
                        'frame among them. Leave such videos out.')
    return chosen


def _measured(source, work, settings, threads, seen):
    height = settings['resize_height']
    kept = work / f'measured_{source.digest}_{settings["frames"]}_{height}.json'
    if kept.is_file():
        return Measures(**json.loads(kept.read_text()))
    measured = measure_video(source.path, settings['frames'], height, threads, seen)
    write_atomically(kept, json.dumps(measured._asdict()))
    return measured


def _summary(measured):
    uneven, repeated = uneven_steps(measured.times).sum(), repeated_frames(measured.change).sum()
    return (f'{len(measured.times)} frames, {sum(measured.cut)} cuts, {uneven} uneven steps in time, '
            f'{repeated} repeated frames')


def _plan(part, chosen, settings):
    """What videos_SPLIT.json tells: clip: where it is from."""
    plan = {}
    for source in part:
        measured, clips = chosen[source.name]
        factor = min(1, (settings['resize_height'] or measured.height) / measured.height)
        if min(measured.height, measured.width) * factor < settings['scale']:
            raise DataError(f'{source.path}: {measured.width}x{measured.height} pixels are too few for the scale '
                            f'{settings["scale"]}.')
        for number, clip in enumerate(clips, 1):
            plan[f'{source.name}/{number:04d}'] = {
                'source': source.path.name, 'size': source.size, 'first_frame': clip.first, 'time': clip.time,
                'sharpness': round(clip.sharpness, 3), 'colour': measured.colour}
    return plan


def _cut_out(part, plan, tree, settings, workers, progress):
    """Write the frames of all clips as PNG below ``tree``; those that are there are whole."""
    with tqdm(total=len(plan) * settings['frames'], desc='cutting out', unit='frame', disable=not progress) as bar:
        def cut(source, stop):
            wanted = {}
            for clip, record in plan.items():
                if clip.rpartition('/')[0] == source.name:
                    for number in range(settings['frames']):
                        wanted[record['first_frame'] + number] = f'{clip}/im{number + 1}.png'
            missing = {number: name for number, name in wanted.items()
                       if not all(_is_whole(folder / name) for folder in _trees(tree, settings))}
            for _ in range(len(wanted) - len(missing)):
                _advance(bar)
            to_rgb = None
            for number, frame in enumerate(decoded_frames(source.path) if missing else ()):
                _go_on(stop)
                to_rgb = to_rgb or ToRgb(frame, source.path)
                if number in missing:
                    _write_pair(to_rgb(frame), missing.pop(number), tree, settings)
                    _advance(bar)
                if not missing:
                    break

        _in_threads(cut, part, workers)


def _trees(tree, settings):
    return [tree / 'GT'] + ([tree / f'LRx{settings["scale"]}'] if settings['format'] == 'png' else [])


def _write_pair(rgb, name, tree, settings):
    gt = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    height = settings['resize_height']
    if height and height < len(gt):
        gt = imresize(gt, height / len(gt))[:height]
    gt = crop_to_multiple(gt, settings['scale'])
    gt_tree, *lr_tree = _trees(tree, settings)
    _write_image(gt_tree / name, gt)
    if lr_tree:
        _write_image(lr_tree[0] / name, degrade(gt, settings['scale'], settings['degradation']))


def _write_image(path, image):
    with written_beside(path) as beside:  # waiting for the disk each time would take longer than all else
        beside.write_bytes(encode_image(image))


def _is_whole(path):
    """Whether an image is there up to its end, which it may not be after a loss of power."""
    return path.is_file() and path.read_bytes()[-8:-4] == b'IEND'


def crop_to_multiple(image, scale):
    """The middle of (h, w, 3) whose sides are the largest that ``scale`` divides."""
    height, width = (side // scale * scale for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return np.ascontiguousarray(image[top:top + height, left:left + width])


def _finish(out, split, tree, plan, settings, workers, progress, check_space):
    """Put what was cut out in its place, and write the lists."""
    record = json.dumps({'settings': settings, 'clips': plan}, indent=1, ensure_ascii=False) + '\n'
    meta_info = out / f'meta_info_videos_{split}_GT.txt'
    if settings['format'] == 'png':
        lines = []
        for clip in plan:
            first = tree / 'GT' / clip / 'im1.png'
            height, width = image_size(first.read_bytes(), str(first))
            lines.append(f'{clip} {settings["frames"]} ({height},{width},3)\n')
        write_atomically(meta_info, ''.join(lines))
        write_atomically(out / f'videos_{split}.json', record)
        os.sync()
        tree.rename(_data_paths(out, split, settings)[0])  # last, and at once: the sign that all is there
        return
    frames = [Frame(f'{clip}/im{number}', partial((tree / 'GT' / clip / f'im{number}.png').read_bytes),
                    f'{plan[clip]["source"]}, frame {plan[clip]["first_frame"] + number - 1}')
              for clip in plan for number in range(1, settings['frames'] + 1)]
    gt_path, lr_path = _data_paths(out, split, settings)
    about = {'source': 'videos', 'split': split, 'clip_length': settings['frames'], 'chosen': _digest(record.encode())}
    pack_pairs(frames, gt_path, lr_path, scale=settings['scale'], degradation=settings['degradation'],
               codec=settings['codec'], workers=workers, progress=progress, description=f'packing {split}', about=about,
               check_space=check_space)
    write_meta_info(meta_info, gt_path)
    write_atomically(out / f'videos_{split}.json', record)


class _Stopped(Exception):
    """Another thread has failed, or the user has stopped all."""


def _go_on(stop):
    if stop.is_set():
        raise _Stopped


def _in_threads(function, items, workers):
    """``function(item, stop)`` of all items, in order; after an error or Ctrl-C ``stop`` is set and the others end."""
    stop = threading.Event()
    with ThreadPoolExecutor(workers) as pool:  # decoding and filters run outside Python's lock
        try:
            futures = [pool.submit(function, item, stop) for item in items]
            for future in as_completed(futures):
                future.result()
            return [future.result() for future in futures]
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _advance(bar):
    with bar.get_lock():  # several threads count
        bar.update()


def _declared(path):
    with opened_video(path) as (container, stream):
        return declared_frames(container, stream)


def _digest(data):
    return hashlib.sha256(data).hexdigest()[:16]
