"""Fixed operations that take from an image what an artificial pattern usually lives in, before a metric sees it."""
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, Literal

from torch import Tensor

from basicsr_nriqa.iqa import MetricError, refuse_unknown
from basicsr_nriqa.losses.image_operations import blur, jpeg, resize
from basicsr_nriqa.losses.option_values import check_number

# what may stand in an option file
Operations = dict[str, float | bool] | Sequence[dict[str, float | bool]] | Literal[False] | None


class Purifier:
    """Operations in a given order.

    Args:
        operations (dict | Sequence[dict] | False | None): The value of each operation, in order; a list of dicts of one
            entry each where one comes twice. 0 or false: not at all. Default: none.

            * ``blur``: Gaussian, standard deviation in px.
            * ``resize``: a factor between 0.1 and 1: bicubic and antialiased. The metric sees the smaller image.
              Enlarged again it would only be blurred, which metrics take for a fault.
            * ``jpeg``: quality, 1 to 100.

    Raises:
        MetricError: unknown operation, or a value that cannot be used.
    """

    def __init__(self, operations: Operations = None) -> None:
        entries: Any = [] if operations is None or operations is False else operations
        entries = [{name: value} for name, value in entries.items()] if isinstance(entries, Mapping) else entries
        if not isinstance(entries, (list, tuple)) or not all(isinstance(entry, Mapping) and len(entry) == 1
                                                             for entry in entries):
            raise MetricError('IQALoss: purify must be operations such as {blur: 1, jpeg: 75}, or a list of them such '
                              f'as [blur: 1, jpeg: 75], got {operations!r}.')
        steps = [step for entry in entries for step in entry.items()]
        refuse_unknown('IQALoss: purify', [name for name, _ in steps], sorted(_OPERATIONS))
        self.steps = [(name, value) for name, value in steps if not (value is False or value == 0)]
        for name, value in self.steps:
            check_number(f"purify's {name}", value, *_RANGES[name])

    def __bool__(self) -> bool:
        return bool(self.steps)

    def __call__(self, images: Tensor) -> Tensor:
        """(..., 3, h, w) -> (..., 3, new h, new w); the images themselves if there is nothing to do."""
        for name, value in self.steps:
            images = _OPERATIONS[name](images, value)
        return images

    def smallest(self, side: int) -> int:
        """The shortest side in px of which at least ``side`` px are left."""
        for name, value in reversed(self.steps):
            if name == 'resize':
                side = next(before for before in count(side) if _resized(before, value) >= side)
        return side


def _resized(length: int, factor: float) -> int:
    return max(round(length * factor), 1)


def _resize(images: Tensor, factor: float) -> Tensor:
    height, width = images.shape[-2:]
    return resize(images, _resized(height, factor), _resized(width, factor))


_OPERATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {'blur': blur, 'resize': _resize, 'jpeg': jpeg}
_RANGES: dict[str, tuple[float, float, str]] = {'blur': (0, 16, ' px'), 'resize': (0.1, 1, ''), 'jpeg': (1, 100, '')}
