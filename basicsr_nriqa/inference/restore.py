"""A whole video, from its frames to the restored ones, with bounded memory and from where an earlier run stopped."""
import logging
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from basicsr_nriqa.checkpoints import local_file
from basicsr_nriqa.files import sha256
from basicsr_nriqa.inference.errors import InferenceError
from basicsr_nriqa.inference.network import Cut, Precision, Restorer, default_cut, load_network
from basicsr_nriqa.inference.partial import Partial, check_output, is_video
from basicsr_nriqa.inference.reading import FolderSource, VideoSource, open_source, read_frame
from basicsr_nriqa.inference.tiling import Windows, blend_weights, windows
from basicsr_nriqa.inference.writing import check_encoding, encode_video, frame_rate, write_frame

Item = TypeVar('Item')

_OUT_OF_STEP = 0.04  # seconds at the end; rates differ in the last digits from one kind of file to another


def restore_video(source: str | Path, output: str | Path, weights: str | Path, *, model: str | None = None,
                  options: str | Path | None = None, overrides: Iterable[str] = (), clip_length: int | None = None,
                  clip_overlap: int | None = None, tile: int | None = None, tile_overlap: int | None = None,
                  device: str | torch.device = 'cpu', precision: Precision = 'fp32', noise_level: float | None = None,
                  fps: float | Fraction | str | None = None, crf: float = 18, overwrite: bool = False,
                  progress: bool = True) -> None:
    """Restore a video or a folder of frames.

    The work is done in ``OUTPUT.partial``. A run that was stopped goes on there when it is started again in the same
    way, and gives what it would have given without a stop.

    Args:
        source (str | Path): A folder of frames, or a video file.
        output (str | Path): A video file (.mp4, .mkv, .mov), else a folder: frames as PNG, with the names of the
            input's frames, or numbered from 00000000 where the input is a video.
        weights (str | Path): Checkpoint file or URL.
        model (str | None): Registered name that the network must be of; default: any.
        options (str | Path | None): YAML file whose ``network_g`` tells how to build the network; default: the weights
            do.
        overrides (Iterable[str]): ``name=value``, options of the network that win over those; default: none.
        clip_length (int | None): Frames that the network sees at once; 0: all. Default: what should fit a GPU of 24 GB
            (:func:`~basicsr_nriqa.inference.network.default_cut`), here and in the next three.
        clip_overlap (int | None): Frames that clips share, below ``clip_length``.
        tile (int | None): Side of a tile in pixels of the input; 0: whole frames.
        tile_overlap (int | None): Pixels that tiles share, below ``tile``.
        device (str | torch.device): Where the network runs; default: ``cpu``.
        precision (Literal['fp32', 'fp16', 'bf16']): What the network computes in; default: ``fp32``.
        noise_level (float | None): For VRT's denoising: the standard deviation in grey levels of 255.
        fps (float | Fraction | str | None): Frame rate of a video that is written, from 0.01 to 1000, such as 25,
            ``'29.97'`` or ``'30000/1001'``; default: the input's, 25 for a folder. Another than the input's leaves its
            sound out.
        crf (float): Quality of a video that is written: x264's constant rate factor, from 0 (no loss) to 51; default:
            18, which is hard to tell from no loss.
        overwrite (bool): Replace an output that is there, and drop what was begun with other settings; default: False.
        progress (bool): Show progress bars; default: True.

    Raises:
        InferenceError: something cannot be used; the message names it.
        FileNotFoundError: there is no such checkpoint.
        ValueError: the checkpoint cannot be read or does not fit the network.
        OSError: the output cannot be written.
    """
    output = Path(output).expanduser()
    rate = None if fps is None else frame_rate(fps)
    frames_in = open_source(source)
    check_output(frames_in.path, output, overwrite)
    network, network_g = load_network(weights, model, options, overrides)
    _check_noise_level(network_g, noise_level)
    with Partial(output) as partial:
        identity = frames_in.identity()
        count, height, width = survey = partial.surveyed(identity) or frames_in.survey(progress)
        given = {'clip_length': clip_length, 'clip_overlap': clip_overlap, 'tile': tile, 'tile_overlap': tile_overlap}
        cut = _cut(network, network_g['type'], given, height, width)
        restorer = Restorer(network, cut.tile, cut.tile_overlap, device, precision, noise_level)
        settings = {'input': identity, 'weights': sha256(local_file(weights)), 'network': network_g, **cut._asdict(),
                    'precision': precision, 'noise_level': noise_level}
        if network_g.get('spynet_path'):
            settings['flow_weights'] = sha256(local_file(network_g['spynet_path']))
        rate = rate or frames_in.rate or Fraction(25)
        sound_of = None
        if is_video(output):
            check_encoding(output, restorer.scale * width, restorer.scale * height, crf)
            sound_of = _sound_of(frames_in, rate, count)
        partial.begin(settings, survey, overwrite)
        names = frames_in.names or [f'{number:08d}' for number in range(count)]
        files = [partial.frames / f'{name}.png' for name in names]
        _restore_frames(frames_in, files, restorer, cut, partial, progress)
        result = partial.frames
        if is_video(output):
            result = partial.folder / f'video{output.suffix.lower()}'
            remedy = 'Remove it, and the same command makes it again.'
            frames = tqdm((read_frame(file, remedy) for file in files), 'encoding', count, unit='frame',
                          disable=not progress)
            encode_video(result, frames, rate, crf, frames_in.pixel_shape, sound_of)
        check_output(frames_in.path, output, overwrite)  # much time has passed
        partial.finish(result)


def _check_noise_level(network_g: Mapping[str, Any], noise_level: float | None) -> None:
    told = bool(network_g.get('nonblind_denoising'))
    if told and noise_level is None:
        raise InferenceError('This network is told how noisy the video is. Give --noise-level, such as 10: the '
                             'standard deviation in grey levels of 255.')
    if noise_level is not None and not told:
        raise InferenceError('--noise-level: this network is not told how noisy the video is. Leave it out.')


def _sound_of(source: FolderSource | VideoSource, rate: Fraction, count: int) -> Path | None:
    """The file whose sound stays in step with so many frames at this rate, if there is one."""
    if not source.has_sound:
        return None
    if source.rate and count * abs(1 / rate - 1 / source.rate) < _OUT_OF_STEP:
        return source.path
    logging.getLogger('basicsr').warning(f'{source.path}: at {float(rate):.3f} frames/s the sound would be out of step '
                                         'and is left out. Leave --fps out to keep it.')
    return None


def _cut(network: nn.Module, name: str, given: Mapping[str, int | None], height: int, width: int) -> Cut:
    """The cut that was given, and the default of what was not."""
    usual = default_cut(name, getattr(network, 'scale', 4), height, width)
    cut = Cut(**{field: value if value is not None else getattr(usual, field) for field, value in given.items()})
    for field, value in cut._asdict().items():
        if value < 0:
            raise InferenceError(f"--{field.replace('_', '-')} {value}: expected 0 or more.")
    smallest = getattr(network, 'min_frames', 1)
    if cut.clip_length and cut.clip_length < smallest:
        raise InferenceError(f'--clip-length {cut.clip_length}: this network needs {smallest} frames or more.')
    for size, overlap in (('clip_length', 'clip_overlap'), ('tile', 'tile_overlap')):
        if given[overlap] is None and getattr(cut, size):
            cut = cut._replace(**{overlap: min(getattr(cut, overlap), getattr(cut, size) // 4)})
        if getattr(cut, size) and getattr(cut, overlap) >= getattr(cut, size):
            raise InferenceError(f'--{overlap} {getattr(cut, overlap)} must be below --{size} {getattr(cut, size)}.'
                                 .replace('_', '-'))
    return cut


def _restore_frames(source: FolderSource | VideoSource, files: Sequence[Path], restorer: Restorer, cut: Cut,
                    partial: Partial, progress: bool) -> None:
    """Make the files that are missing, in order."""
    done = next((number for number, file in enumerate(files) if not file.is_file()), len(files))
    if done == len(files):
        return
    axis = windows(len(files), cut.clip_length, cut.clip_overlap)
    clips = [(start, weights) for start, weights in zip(axis.starts, blend_weights(axis)) if start + axis.size > done]
    restorer.tile, restorer.tile_overlap = partial.record.get('tiles', (cut.tile, cut.tile_overlap))
    logging.getLogger('basicsr').info(
        f'{len(files)} frames in clips of {axis.size}, '
        + (f'tiles of {restorer.tile} pixels' if restorer.tile else 'whole frames')
        + (f'; {done} are done, on from there.' if done else '.'))
    writers = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    # smoothing 0: frames come in bursts of a clip
    bar = tqdm(total=len(files), initial=done, desc='restoring', unit='frame', smoothing=0, disable=not progress)
    try:
        for start, frames in _restored(source, clips, axis, restorer, partial):
            known = max(done - start, 0)
            for _ in writers.map(write_frame, files[start + known:], frames[known:]):
                bar.update()
    finally:
        writers.shutdown(cancel_futures=True)
        bar.close()


@torch.inference_mode()  # as the restorer, whose output is changed in place
def _restored(source: FolderSource | VideoSource, clips: Sequence[tuple[int, Tensor]], axis: Windows,
              restorer: Restorer, partial: Partial) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(number of the first, frames (t, h, w, 3) uint8), piece by piece without gaps.

    A piece is what no later clip adds to. Of what a clip shares with the next, its share is held until then.
    """
    held = None
    starts = [start for start, _ in clips]
    with closing(_prefetched(_clips(source, starts, axis.size))) as arrays:
        for (start, weights), following, array in zip(clips, [*starts[1:], axis.length], arrays):
            output = restorer(array).mul_(weights[:, None, None, None])
            partial.note(tiles=[restorer.tile, restorer.tile_overlap])
            if held is not None:
                output[:len(held)] += held
                held = None
            whole, held = output[:following - start], output[following - start:].clone()
            frames = whole.clamp_(0, 1).mul_(255).round_().byte().permute(0, 2, 3, 1).numpy()
            del output, whole  # before the next clip's are made
            yield start, frames


def _clips(source: FolderSource | VideoSource, starts: Sequence[int], size: int) -> Iterator[NDArray[np.uint8]]:
    """The clips (size, h, w, 3) that start at these frames."""
    frames, at = source.frames(starts[0]), starts[0]
    held: list[NDArray[np.uint8]] = []
    for start in starts:
        held = held[start - at:]
        held += islice(frames, size - len(held))
        at = start
        if len(held) < size:
            raise InferenceError(f'{source.path}: ends at frame {start + len(held)} now. It has changed meanwhile.')
        yield np.stack(held)


def _prefetched(items: Iterator[Item]) -> Generator[Item, None, None]:
    """The same items, each made in another thread while the one before is in use."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item
