"""How options are checked: to start at once, or only to know."""
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass
class CheckMode:
    """What a check does.

    Attributes:
        fetch (bool): Fetch missing weights of metrics, as training and testing do at their start.
        here (bool): Look for files, weights and GPUs on this machine.
        missing (list[str]): Gets the weights that are missing and not fetched, each with its place and source.
    """

    fetch: bool = True
    here: bool = True
    missing: list[str] = field(default_factory=list)


_mode: ContextVar[CheckMode | None] = ContextVar('mode', default=None)


def current_mode() -> CheckMode:
    """The mode of :func:`only_checking`, or that of a start."""
    return _mode.get() or CheckMode()


@contextmanager
def only_checking(fetch: bool, here: bool) -> Iterator[list[str]]:
    """Check options in another mode inside; yields its list ``missing``."""
    mode = CheckMode(fetch, here)
    token = _mode.set(mode)
    try:
        yield mode.missing
    finally:
        _mode.reset(token)
