"""From your own videos to clips that the options files read: chosen, cropped, shrunk and packed."""
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

from basicsr.utils import get_root_logger
from tqdm import tqdm

from basicsr_nriqa.data.clip_choice import Clip, Measures, choose_clips, measure_video, repeated_frames
from basicsr_nriqa.data.clip_cutting import cut_out
from basicsr_nriqa.data.degradation import check_degradation
from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.frame_times import uneven_steps
from basicsr_nriqa.data.image_codec import image_size
from basicsr_nriqa.data.packing import (
    Frame,
    bounded_map,
    database_paths,
    pack_pairs,
    usable_cores,
    write_meta_info,
)
from basicsr_nriqa.data.stoppable_threads import advance, in_threads
from basicsr_nriqa.data.video_file import declared_frames, opened_video
from basicsr_nriqa.data.video_sources import Source, list_sources, split_sources
from basicsr_nriqa.files import exclusive, flush, write_atomically

FORMATS = ('lmdb', 'png')
_WORK = '.videos'  # in the folder to write: measures and frames until all is done


def prepare_videos(videos: Sequence[str | Path], out: str | Path, split: Literal['train', 'test'] = 'test',
                   test_share: float | None = None, seed: int = 0, clips: int = 1, frames: int = 7, scale: int = 4,
                   degradation: Literal['BI', 'BD'] = 'BI', codec: Literal['png', 'raw'] = 'png',
                   output: Literal['lmdb', 'png'] = 'lmdb', resize_height: int | None = None, start: float = 0.0,
                   workers: int | None = None, progress: bool = True, check_space: bool = True) -> None:
    """Cut the sharpest clips out of videos and pack them: GT, and their LR.

    Written to ``out``, with keys ``VIDEO/CLIP/im1`` such as ``bikes/0001/im1``: ``videos_SPLIT_GT.lmdb``,
    ``videos_SPLIT_LRxS.lmdb``, ``meta_info_videos_SPLIT_GT.txt`` (BasicSR's format) and ``videos_SPLIT.json``, which
    tells where each clip is from. As ``png`` the frames are files, ``videos_SPLIT/GT/VIDEO/CLIP/im1.png`` and the same
    in ``videos_SPLIT/LRxS``. What is complete is left alone; an interrupted run is continued.

    Args:
        videos (Sequence[str | Path]): Video files; a clip never spans a cut, see
            ``basicsr_nriqa.data.clip_choice.choose_clips``.
        out (str | Path): The folder to write to.
        split (str): ``train`` or ``test``, the default: what all videos are for.
        test_share (float | None): Above 0 and below 1. Instead of ``split``: this share of the videos, drawn with
            ``seed``, is for testing, at least one, the others for training. So no video is in both. Default: none.
        seed (int): For drawing them, 0 or more; default 0.
        clips (int): At most so many of each video, 1 or more; default 1.
        frames (int): Of a clip, 2 or more; default 7.
        scale (int): LR is ``1/scale`` of GT, of which the middle is taken whose sides are divisible by it. Default 4.
        degradation (str): How LR is made, ``BI``, the default, or ``BD``: see
            :func:`~basicsr_nriqa.data.degradation.degrade`.
        codec (str): ``png``, the default, or ``raw``: of the databases.
        output (str): ``lmdb``, the default, or ``png``.
        resize_height (int | None): Shrink GT to this height in pixels first, by bicubic; lower videos stay as they are.
            Default: none is shrunk.
        start (float): Take clips from this time on, in seconds, 0 or more; default 0.
        workers (int | None): Threads; default: as many as there are cores.
        progress (bool): Show progress bars; default on.
        check_space (bool): Stop before or early where the disk has too little room; default on.

    Raises:
        DataError: a file is no video, damaged, interlaced or given twice, there is no clip in one, an argument cannot
            be, ``out`` holds other clips, or the same videos for another split, or is written by another process, or
            the disk is full.
    """
    out = Path(out)
    settings: dict[str, Any] = {
        'clips': clips, 'frames': frames, 'scale': scale, 'degradation': degradation, 'codec': codec, 'format': output,
        'resize_height': resize_height, 'start': start}
    _check(settings)
    workers = workers or usable_cores()
    parts = split_sources(list_sources(videos), split, test_share, seed)
    if not _todo(out, parts, settings) and not (out / _WORK).exists():
        return
    with _work_folder(out) as work:
        parts = _todo(out, parts, settings)  # again: another run may just have ended
        if not parts:
            return
        chosen = _choose([source for part in parts.values() for source in part], work, settings, workers, progress)
        for name, part in parts.items():
            plan, pixels = _plan(part, chosen, settings)
            known = [settings, plan, [(source.digest, source.changed) for source in part]]
            tree = work / f'{name}_{_digest(json.dumps(known, sort_keys=True).encode())}'
            cut_out(part, plan, pixels, tree, settings, workers, progress, check_space)
            _finish(out, name, tree, plan, _described(part, settings), workers, progress, check_space)


def _check(settings: dict[str, Any]) -> None:
    for name, least in (('clips', 1), ('frames', 2), ('scale', 1), ('start', 0), ('resize_height', settings['scale'])):
        value, kind = settings[name], (int, float) if name == 'start' else int
        if name == 'resize_height' and value is None:
            continue
        if not isinstance(value, kind) or not least <= value < math.inf:
            raise DataError(f'{name}: expected a {"" if name == "start" else "whole "}number, {least} or more, got '
                            f'{value!r}.')
    if settings['format'] not in FORMATS:
        raise DataError(f"format: '{settings['format']}' is not known; expected one of {', '.join(FORMATS)}.")
    check_degradation(settings['scale'], settings['degradation'])


def _described(part: list[Source], settings: dict[str, Any]) -> dict[str, Any]:
    return {**settings, 'sources': [[source.path.name, source.size, source.digest] for source in part]}


def _todo(out: Path, parts: dict[str, list[Source]], settings: dict[str, Any]) -> dict[str, list[Source]]:
    """The parts that are not there yet."""
    todo = {}
    for split, part in parts.items():
        described = _described(part, settings)
        _check_other_splits(out, split, described['sources'])
        if _is_made(out, split, described):
            get_root_logger().info(f'{_data_paths(out, split, settings)[0]} is there already.')
        else:
            todo[split] = part
    return todo


def _check_other_splits(out: Path, split: str, sources: list[list[Any]]) -> None:
    """No video is for training in one run and for testing in another."""
    for record in sorted(out.glob('videos_*.json')):
        if record != _record_path(out, split):
            digests = {digest for *_, digest in _recorded(record).get('sources', ())}
            shared = [name for name, _, digest in sources if digest in digests]
            if shared:
                raise DataError(f'{shared[0]}: this video is in {record.name} already: training and test clips must '
                                'not be of one video. Leave it out, or write to another folder.')


def _record_path(out: Path, split: str) -> Path:
    return out / f'videos_{split}.json'


def _recorded(record: Path) -> dict[str, Any]:
    """The settings that a record tells; empty where there is none, or none that can be read."""
    try:
        settings = json.loads(record.read_text())['settings']
        return settings if {'format', 'scale', 'degradation', 'sources'} <= settings.keys() else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _data_paths(out: Path, split: str, settings: dict[str, Any]) -> Sequence[Path]:
    if settings['format'] == 'png':
        return [out / f'videos_{split}']
    return database_paths(out, f'videos_{split}', settings['scale'], settings['degradation'])


def _is_made(out: Path, split: str, settings: dict[str, Any]) -> bool:
    """Whether these clips are there; other ones are an error."""
    record = _record_path(out, split)
    made = _recorded(record)
    paths = _data_paths(out, split, settings)
    if made == settings:
        return all(path.exists() for path in paths)
    for path in _data_paths(out, split, made) if made else ():
        if path.exists():
            differing = ', '.join(name for name in settings if made.get(name) != settings[name])
            raise DataError(f'{path} is there and was made with other settings ({differing}; {record.name} tells '
                            'them). Remove it, or write to another folder.')
    for path in (*out.glob(f'videos_{split}_*.lmdb'), out / f'videos_{split}'):
        # databases of these names may be packed, and stopped before this was told: packing looks at them
        if path.exists() and (settings['format'] == 'png' or path not in paths):
            raise DataError(f'{path} is there, but {record.name} does not tell how it was made. Remove it, or write to '
                            'another folder.')
    return False


@contextmanager
def _work_folder(out: Path) -> Iterator[Path]:
    """Where measures and frames are kept until all is done; it is gone after success."""
    work = out / _WORK
    try:
        out.mkdir(parents=True, exist_ok=True)
        with exclusive(out / f'{_WORK}.lock'):
            work.mkdir(exist_ok=True)
            for part in (*work.rglob('.*.part'), *out.glob('.*videos_*.part')):  # of a run that was killed
                part.unlink()
            yield work
            shutil.rmtree(work)  # while the lock is held: it may be another run's afterwards
    except BlockingIOError:
        raise DataError(f'{out}: another run is cutting clips into this folder. Wait for it, or write to another '
                        'folder.') from None
    except OSError as error:
        raise DataError(f'{error.filename or work}: cannot be written ({error.strerror or error}). What is done so far '
                        'is kept: make room, or allow writing there, and start again to go on.') from error


def _choose(sources: list[Source], work: Path, settings: dict[str, Any], workers: int,
            progress: bool) -> dict[str, tuple[Measures, list[Clip]]]:
    """{name: (Measures, clips)} of all sources; what is done is logged, and videos without a clip are an error."""
    declared = [_declared(source.path) for source in sources]  # may tell now that a file is none
    threads = max(1, workers // len(sources))
    with tqdm(total=sum(declared) or None, desc='looking for clips', unit='frame', disable=not progress) as bar:
        def measure(source: Source, go_on: Callable[[], None]) -> Measures:
            def seen(count: int = 1) -> None:
                go_on()
                advance(bar, count)
            return _measured(source, work, settings, threads, seen)

        measures = in_threads(measure, sources, workers)
    chosen, without = {}, []
    for source, measured, count in zip(sources, measures, declared):
        if len(measured.times) < 0.9 * count:
            get_root_logger().warning(f'{source.path.name}: {len(measured.times)} frames, where the file says {count}. '
                                      'It may be cut off: fetch it again if clips from its end are missing.')
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


def _measured(source: Source, work: Path, settings: dict[str, Any], threads: int,
              seen: Callable[..., None]) -> Measures:
    height = settings['resize_height']
    kept = work / f'measured_{source.digest}_{source.changed}_{settings["frames"]}_{height}.json'
    measured = None
    with suppress(OSError, ValueError, TypeError):  # absent, or not as it was written
        measured = Measures(**json.loads(kept.read_text()))
    if measured:
        seen(len(measured.times))
        return measured
    measured = measure_video(source.path, settings['frames'], height, threads, seen)
    write_atomically(kept, json.dumps(measured._asdict()))
    return measured


def _summary(measured: Measures) -> str:
    uneven, repeated = uneven_steps(measured.times).sum(), repeated_frames(measured.change).sum()
    return (f'{len(measured.times)} frames, {sum(measured.cut)} cuts, {uneven} uneven steps in time, '
            f'{repeated} repeated frames')


def _plan(part: list[Source], chosen: dict[str, tuple[Measures, list[Clip]]],
          settings: dict[str, Any]) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
    """What videos_SPLIT.json tells: clip: where it is from; and of each video the pixels of a GT frame."""
    plan: dict[str, dict[str, Any]] = {}
    pixels: dict[str, float] = {}
    for source in part:
        measured, clips = chosen[source.name]
        factor = min(1, (settings['resize_height'] or measured.height) / measured.height)
        if min(measured.height, measured.width) * factor < settings['scale']:
            raise DataError(f'{source.path}: {measured.width}x{measured.height} pixels are too few for the scale '
                            f'{settings["scale"]}. Lower the scale, or leave this video out.')
        pixels[source.name] = measured.height * measured.width * factor**2
        for number, clip in enumerate(clips, 1):
            plan[f'{source.name}/{number:04d}'] = {
                'source': source.path.name, 'size': source.size, 'first_frame': clip.first, 'time': clip.time,
                'sharpness': round(clip.sharpness, 3), 'colour': measured.colour}
    return plan, pixels


def _finish(out: Path, split: str, tree: Path, plan: dict[str, dict[str, Any]], settings: dict[str, Any],
            workers: int, progress: bool, check_space: bool) -> None:
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
        write_atomically(_record_path(out, split), record)
        for _ in bounded_map(flush, [*tree.rglob('*'), tree], workers):
            pass
        tree.rename(_data_paths(out, split, settings)[0])  # last, and at once: the sign that all is there
        return
    frames = [Frame(f'{clip}/im{number}', partial((tree / 'GT' / clip / f'im{number}.png').read_bytes),
                    f'{plan[clip]["source"]}, frame {plan[clip]["first_frame"] + number - 1}')
              for clip in plan for number in range(1, settings['frames'] + 1)]
    gt_path, lr_path = _data_paths(out, split, settings)
    # the digest tells two choices apart; what a message about them can say comes first
    about = {'source': 'videos', 'split': split, 'clip_length': settings['frames'], 'clips': settings['clips'],
             'start': settings['start'], 'resize_height': settings['resize_height'], 'cropped_to': settings['scale'],
             'videos': len(settings['sources']), 'chosen': _digest(record.encode())}
    pack_pairs(frames, gt_path, lr_path, scale=settings['scale'], degradation=settings['degradation'],
               codec=settings['codec'], workers=workers, progress=progress, description=f'packing {split}', about=about,
               check_space=check_space)
    write_meta_info(meta_info, gt_path)
    write_atomically(_record_path(out, split), record)


def _declared(path: Path) -> int:
    with opened_video(path) as (container, stream):
        shape = stream.sample_aspect_ratio
        if shape and shape != 1:
            get_root_logger().warning(f'{path.name}: pixels are not square ({shape.numerator}:{shape.denominator}). '
                                      'They are taken as if they were.')
        return declared_frames(container, stream)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
