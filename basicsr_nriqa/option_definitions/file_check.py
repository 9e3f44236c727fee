"""Check option files as training and testing do at their start, without starting."""
import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from basicsr.utils.options import parse_options

from basicsr_nriqa.option_definitions.check_mode import only_checking
from basicsr_nriqa.options import read_options


def check_file(path: str | Path, force: Sequence[str] = (), fetch: bool = False, here: bool = True) -> list[str]:
    """Check an option file; of a training if it has ``train``, else of a test.

    Args:
        path (str | Path): The file.
        force (Sequence[str]): Options that are changed first, as for ``--force_yml``: ``train:total_iter=10``.
        fetch (bool): Fetch missing weights of metrics. Default: False.
        here (bool): Look for files, weights and GPUs on this machine. Default: True.

    Returns:
        list[str]: Weights of metrics that are not on this machine, each with its place and source.

    Raises:
        OptionsError: all problems of the file.
    """
    is_train = 'train' in read_options(path)
    forced = ('--force_yml', *force) if force else ()
    with TemporaryDirectory() as folder, _arguments('-opt', str(path), *forced), contextlib.redirect_stdout(None), \
            only_checking(fetch, here) as missing:
        parse_options(folder, is_train)
    return missing


@contextlib.contextmanager
def _arguments(*arguments: str) -> Iterator[None]:
    before = sys.argv
    sys.argv = [before[0], *arguments]
    try:
        yield
    finally:
        sys.argv = before
