"""Windows along time, rows and columns, and how their results are blended into one."""
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Windows(NamedTuple):
    """Windows of one size that cover one axis."""
    starts: list[int]  # rising; the first is 0
    size: int
    fade: int  # neighbours cross-fade over this many samples, in the middle of what they share
    length: int  # of the axis

    def scaled(self, scale: int) -> 'Windows':
        """The same windows on an axis sampled ``scale`` times as finely."""
        return Windows([start * scale for start in self.starts], self.size * scale, self.fade * scale,
                       self.length * scale)

    def slices(self) -> list[slice]:
        """The samples of each window."""
        return [slice(start, start + self.size) for start in self.starts]


def windows(length: int, size: int, overlap: int) -> Windows:
    """Cover an axis with windows that overlap.

    The last window is moved inwards instead of being cut, so all have one size, and neighbours share ``overlap``
    samples or more. What lies near the border of a window was computed with little context: cross-fades leave out a
    quarter of the overlap on either side.

    Args:
        length (int): Samples on the axis, from 1.
        size (int): Of a window, from 1; one that is no shorter than the axis covers it alone, as 0 does.
        overlap (int): From 0, below ``size``.

    Returns:
        Windows: In order.

    Raises:
        ValueError: an argument is out of its range.
    """
    if length < 1 or size < 0 or overlap < 0 or (size and overlap >= size):
        raise ValueError(f'No windows of {size} that overlap by {overlap} on an axis of {length}.')
    if not size or size >= length:
        return Windows([0], length, 0, length)
    starts = [*range(0, length - size, size - overlap), length - size]
    return Windows(starts, size, overlap - 2 * (overlap // 4), length)


def blend_weights(axis: Windows) -> list[Tensor]:
    """Weights with which the windows' results are added: from 0 to 1, their sum is 1 everywhere.

    A window fades in as the one before it fades out, linearly. The axis' ends are not faded.

    Args:
        axis (Windows): The windows.

    Returns:
        list[Tensor]: One for each window, shape (size,).
    """
    position = torch.arange(axis.length, dtype=torch.float32)
    shares = [torch.ones(axis.length)]  # of each window and all that follow it
    for start, following in zip(axis.starts, axis.starts[1:]):
        begin = (following + start + axis.size - axis.fade) // 2
        shares.append(((position - begin + 1) / (axis.fade + 1)).clamp(0, 1))
    shares.append(torch.zeros(axis.length))
    return [(share - after)[part] for share, after, part in zip(shares, shares[1:], axis.slices())]


def reflected(length: int, minimum: int) -> Tensor:
    """Indices that lengthen an axis to ``minimum`` by mirroring it at its ends, to and fro where it is short.

    Args:
        length (int): Samples there are, from 1.
        minimum (int): Samples wanted.

    Returns:
        Tensor: int64, shape (max(length, minimum),): 0, 1, ..., length - 1, length - 2, ...
    """
    index = torch.arange(max(length, minimum)) % max(2 * length - 2, 1)
    return torch.minimum(index, 2 * length - 2 - index)


def restore_tiles(restore: Callable[[Tensor], Tensor], frames: Tensor, tile: int, overlap: int, scale: int) -> Tensor:
    """Restore a clip tile by tile.

    Args:
        restore (Callable[[Tensor], Tensor]): (t, c, h, w) -> (t, 3, scale*h, scale*w), on any device. What it returns
            is overwritten.
        frames (Tensor): Shape (t, c, h, w).
        tile (int): Side of a tile in pixels of ``frames``; 0 takes whole frames.
        overlap (int): Pixels that neighbouring tiles share at least.
        scale (int): Of ``restore``.

    Returns:
        Tensor: float32 in main memory, shape (t, 3, scale*h, scale*w). One tile that covers the frames gives what
        ``restore`` gives, bit for bit.
    """
    t, _, h, w = frames.shape
    rows, columns = windows(h, tile, overlap), windows(w, tile, overlap)
    if len(rows.starts) == len(columns.starts) == 1:
        return restore(frames).cpu().float()
    large_rows, large_columns = rows.scaled(scale), columns.scaled(scale)
    output = torch.zeros(t, 3, scale * h, scale * w)
    for row, large_row, down in zip(rows.slices(), large_rows.slices(), blend_weights(large_rows)):
        for column, large_column, across in zip(columns.slices(), large_columns.slices(), blend_weights(large_columns)):
            part = restore(frames[..., row, column]).cpu().float()
            output[..., large_row, large_column] += part.mul_(down[:, None] * across)
    return output
