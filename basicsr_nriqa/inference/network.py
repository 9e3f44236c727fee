"""From a checkpoint to a network that restores clips of any size."""
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from basicsr.archs import build_network
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from basicsr_nriqa import out_of_memory
from basicsr_nriqa.checkpoints import load_checkpoint_file, load_pretrained, network_options, recognise
from basicsr_nriqa.checkpoints.layouts import is_training_state
from basicsr_nriqa.inference.errors import InferenceError
from basicsr_nriqa.inference.tiling import reflected, restore_tiles
from basicsr_nriqa.network_problems import network_problems
from basicsr_nriqa.options import parse_value, read_options

Precision = Literal['fp32', 'fp16', 'bf16']
PRECISIONS: dict[Precision, torch.dtype | None] = {'fp32': None, 'fp16': torch.float16, 'bf16': torch.bfloat16}
_NO_RESTORERS = ('SpyNet', 'SRGANDiscriminator')
_FEWEST_PIXELS = 32  # of a tile that is halved when memory runs out
_MAIN_MEMORY = 4 * 2**30


class Cut(NamedTuple):
    """How a video is cut into pieces that fit memory: frames, and pixels of the input. 0 means whole."""
    clip_length: int
    clip_overlap: int
    tile: int
    tile_overlap: int


# Estimated from the sizes of the tensors that live at once in float32, to stay below 16 of the 24 GB of a large desktop
# GPU; not measured. BasicVSR++ keeps 5 feature maps a frame and computes all flows at once; RBPN works frame by frame,
# 4 times as fine as its input; VRT's attention maps take 24 KB a pixel and frame. Overlaps in time are the frames
# that a network looks around (RBPN: 3 on either side), or a few where it looks through the whole clip.
_CUTS: dict[str | tuple[str, int], Cut] = {
    ('BasicVSRPP', 4): Cut(60, 8, 256, 32), ('BasicVSRPP', 1): Cut(60, 8, 640, 64),
    'ISeeBetter': Cut(24, 6, 192, 32), 'VRT': Cut(16, 4, 128, 24)}
_OTHERS = Cut(16, 4, 128, 24)


def default_cut(network: str, scale: int, height: int, width: int) -> Cut:
    """How to cut a video for a network so that it should fit a GPU of 24 GB, and main memory.

    Args:
        network (str): Registered name.
        scale (int): Of the network.
        height, width (int): Of the video's frames.

    Returns:
        Cut: The clip's length leaves its output below 4 GB, if that can be.
    """
    cut = _CUTS.get((network, scale)) or _CUTS.get(network, _OTHERS)
    frames = _MAIN_MEMORY // (3 * 4 * scale**2 * height * width)
    length = max(min(cut.clip_length, frames), 4)
    return cut._replace(clip_length=length, clip_overlap=min(cut.clip_overlap, length // 2))


def load_network(weights: str | Path, model: str | None = None, options: str | Path | None = None,
                 overrides: Iterable[str] = ()) -> tuple[nn.Module, dict[str, Any]]:
    """Build the network of a checkpoint and load it.

    Args:
        weights (str | Path): Checkpoint file or URL.
        model (str | None): Registered name that it must be of.
        options (str | Path | None): YAML file whose ``network_g`` tells how to build it; default: the weights do.
        overrides (Iterable[str]): ``name=value``, options that win over those.

    Returns:
        tuple[nn.Module, dict[str, Any]]: The network, and the options that it was built with.

    Raises:
        InferenceError: the options do not fit, or the network is another one or for another purpose.
        FileNotFoundError: there is no such checkpoint.
        ValueError: it cannot be read or does not fit, see :func:`~basicsr_nriqa.checkpoints.load_pretrained`.
    """
    content = load_checkpoint_file(weights)
    if options is None:
        try:
            network_g, origin = network_options(content), weights
        except ValueError as error:
            advice = '' if is_training_state(content) else ' If you know the network, give its options: --options.'
            raise InferenceError(f'{weights}: {error}{advice}') from None
    else:
        network_g, origin = read_options(options).get('network_g', {}), options
        if not isinstance(network_g, dict) or 'type' not in network_g:
            raise InferenceError(f'{options}: expected options with a block network_g that has a type, such as '
                                 'network_g: {type: BasicVSRPP}.')
    if model not in (None, network_g['type']):
        raise InferenceError(f"{origin}: this is the network {network_g['type']}, not {model}. Give --model "
                             f"{network_g['type']}, or leave it out.")
    given = dict(map(_override, overrides))
    network_g.update(given)
    if network_g['type'] in _NO_RESTORERS:
        raise InferenceError(f"{origin}: a {network_g['type']} does not restore videos. Give the weights of a network "
                             'that does, such as BasicVSRPP, ISeeBetter or VRT.')
    if network_g['type'] == 'ISeeBetter':
        network_g['frames'] = 'all'  # a training may have used the centre of each clip
    if network_g['type'] == 'VRT' and network_g.get('pa_frames') == 0:
        raise InferenceError(f'{origin}: this VRT makes frames between frames (pa_frames: 0). Only networks that give '
                             'one frame for each are run here.')
    place = f'{weights}: ' if options is None else f'{options}: network_g:'
    problems = [f'--network {name}: {problem}' if name in given else f'{place}{name}: {problem}'
                for name, problem in network_problems(network_g).items()]
    if problems:
        raise InferenceError(' '.join(problems))
    if _recognised(content) == 'RBPN' and not network_g.get('spynet_path'):
        logging.getLogger('basicsr').warning(f'{weights}: there is no flow network in this file, so neighbours are not '
                                             'aligned. Give one: --network spynet_path=FILE')
    try:
        network = build_network(network_g)
    except (KeyError, TypeError, ValueError) as error:
        raise InferenceError(f"{origin}: {network_g['type']} cannot be built with these options: {error}") from error
    load_pretrained(network, weights, content)
    return network.requires_grad_(False).eval(), network_g


def _recognised(content: Mapping[str, Any]) -> str | None:
    try:
        return recognise(content)
    except ValueError:  # a network of somebody else, built with --options
        return None


def _override(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition('=')
    if not name or not equals:
        raise InferenceError(f'--network {text}: expected name=value, such as num_blocks=7.')
    return name, parse_value(value, given_as=f'--network {text}')


class Restorer:
    """A network that restores clips of any size, tile by tile.

    Frames and sides that are too few for the network are mirrored for it, and the surplus is cut off again. Where the
    GPU's memory does not suffice, tiles are halved, for this clip and all that follow.

    Args:
        network (nn.Module): (n, t, c, h, w) -> (n, t, 3, scale*h, scale*w). Its attributes ``scale``, ``min_frames``
            and ``min_side`` are heeded (default: 4, 1 and 16).
        tile (int): Side of a tile in pixels of the input; 0, the default, takes whole frames.
        tile_overlap (int): Pixels that neighbouring tiles share at least; default: 0.
        device (str | torch.device): Where to run it; default: ``cpu``.
        precision (Literal['fp32', 'fp16', 'bf16']): ``fp32``, the default, or autocast to another type.
        noise_level (float | None): Standard deviation of the noise, in grey levels of 255, for networks that are told;
            default: none.

    Raises:
        InferenceError: the tile is too small, or there is no such precision.
    """

    def __init__(self, network: nn.Module, tile: int = 0, tile_overlap: int = 0, device: str | torch.device = 'cpu',
                 precision: Precision = 'fp32', noise_level: float | None = None) -> None:
        if precision not in PRECISIONS:
            raise InferenceError(f"--precision {precision}: expected one of {', '.join(PRECISIONS)}.")
        self.network = network.to(device)
        self.device = torch.device(device)
        self.scale: int = getattr(network, 'scale', 4)
        self.min_frames: int = getattr(network, 'min_frames', 1)
        self.min_side: int = getattr(network, 'min_side', 16)
        if tile and tile < self.min_side:
            raise InferenceError(f'--tile {tile}: this network needs {self.min_side} pixels or more.')
        self.tile, self.tile_overlap = tile, tile_overlap
        self._dtype = PRECISIONS[precision]
        self._noise_level = noise_level

    @torch.inference_mode()
    def __call__(self, frames: NDArray[np.uint8]) -> Tensor:
        """Restore a clip.

        Args:
            frames (NDArray[np.uint8]): Shape (t, h, w, 3), RGB.

        Returns:
            Tensor: float32 in main memory, shape (t, 3, scale*h, scale*w), nominally in [0, 1]; made in inference mode.

        Raises:
            InferenceError: memory does not suffice for the smallest tiles either, or the output is not finite.
        """
        clip = torch.from_numpy(frames).permute(0, 3, 1, 2)
        output = None
        while output is None:
            try:
                output = restore_tiles(self._restore, clip, self.tile, self.tile_overlap, self.scale)
            except (RuntimeError, MemoryError) as error:
                if out_of_memory.of_machine(error):
                    raise InferenceError(f'Main memory is too little for {len(clip)} frames of {clip.shape[3]}x'
                                         f'{clip.shape[2]} pixels. Give a smaller --clip-length or --tile.') from error
                if not out_of_memory.of_gpu(error):
                    raise
                reason = str(error).splitlines()[0].split('. ')[0]  # the error itself would keep the tensors
            if output is None:
                self._halve(max(clip.shape[2:]), len(clip), reason)
        if not all(frame.isfinite().all() for frame in output):  # one by one, since this takes memory
            raise InferenceError('The network gives values that are not finite. If --precision is not fp32, try that; '
                                 'else the weights are damaged.')
        return output

    def _restore(self, part: Tensor) -> Tensor:
        """(t, 3, h, w) uint8 -> (t, 3, scale*h, scale*w)."""
        t, _, h, w = part.shape
        for axis, minimum in ((0, self.min_frames), (2, self.min_side), (3, self.min_side)):
            if part.shape[axis] < minimum:
                part = part.index_select(axis, reflected(part.shape[axis], minimum))
        part = part.to(self.device).float() / 255
        if self._noise_level is not None:
            part = F.pad(part, (0, 0, 0, 0, 0, 1), value=self._noise_level / 255)
        with torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None):
            return self.network(part.unsqueeze(0))[0, :t, :, :self.scale * h, :self.scale * w]

    def _halve(self, side: int, frames: int, reason: str) -> None:
        torch.cuda.empty_cache()
        tile = -(-min(self.tile or side, side) // 2)
        if tile < max(self.min_side, _FEWEST_PIXELS):
            raise InferenceError(f'The GPU has too little memory for {frames} frames of {2 * tile} pixels a side '
                                 f'({reason}). Give a smaller --clip-length.')
        self.tile, self.tile_overlap = tile, min(self.tile_overlap, tile // 4)
        logging.getLogger('basicsr').warning(f'The GPU has too little memory ({reason}): on with tiles of {tile} '
                                             f'pixels that overlap by {self.tile_overlap}.')
