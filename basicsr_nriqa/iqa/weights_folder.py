"""One folder with the trained weights of metrics, gathered where there is a network and carried to where there is none.

The folder's ``SHA256SUMS`` is what ``sha256sum -c`` reads. It matters: pyiqa publishes digests of most of its files
only as the first eight digits in their names, and of some none at all.
"""
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from os import PathLike
from pathlib import Path

from basicsr_nriqa.files import write_atomically
from basicsr_nriqa.iqa.catalogue import CATALOGUE
from basicsr_nriqa.iqa.interface import MetricError
from basicsr_nriqa.iqa.weights import SUMS, WeightsFile, fetch, locate, recorded_sums, sha256, verified


def needed_files(names: Iterable[str]) -> list[WeightsFile]:
    """The files of several metrics, each once.

    Args:
        names (Iterable[str]): Metrics of the catalogue.

    Returns:
        list[WeightsFile]: In order of the metrics.
    """
    return list(dict.fromkeys(file for name in names for file in CATALOGUE[name].files))


def fill_folder(files: Iterable[WeightsFile], folder: str | PathLike[str],
                report: Callable[[str], object] = print) -> list[str]:
    """Bring files into a folder and record their sha256 there, file by file, so that a second run goes on.

    A file that is there and right stays, one that is there and wrong is replaced. What this machine has already is
    copied rather than downloaded.

    Args:
        files (Iterable[WeightsFile]): The files.
        folder (str | PathLike): Where to; made where it does not exist.
        report (Callable[[str], None]): Gets a line on every file.

    Returns:
        list[str]: Names of the files that could not be had.

    Raises:
        MetricError: the folder's ``SHA256SUMS`` cannot be read.
        OSError: the folder cannot be written.
    """
    folder, failed = Path(folder), []
    for file in files:
        place, sums = folder / file.name, recorded_sums(folder)
        try:
            if place.is_file() and _is_right(place, file):
                done = 'already there'
            else:
                cached = _cached(file, folder)
                fetch(replace(file, sha256=sums.get(file.name, file.sha256)), folder, cached)
                done = f'copied from {cached}' if cached else 'fetched'
        except (OSError, MetricError) as error:
            failed.append(file.name)
            reason = error if file.url in str(error) else f'{file.url}: {error}'
            report(f'{file.name}: FAILED: {reason}')
            continue
        sums[file.name] = sha256(place)
        write_atomically(folder / SUMS, ''.join(f'{digest}  {name}\n' for name, digest in sorted(sums.items())))
        report(f'{file.name}: {done}')
    return failed


def check_folder(folder: str | PathLike[str], needed: Collection[WeightsFile] = ()) -> tuple[list[str], list[str]]:
    """Compare a folder with its ``SHA256SUMS`` and with the digests that are published.

    Args:
        folder (str | PathLike): The folder.
        needed (Collection[WeightsFile]): Files that must be there besides those in ``SHA256SUMS``.

    Returns:
        tuple[list[str], list[str]]: Names of the files that are right, and a line on each that is not.

    Raises:
        MetricError: ``SHA256SUMS`` cannot be read, or there is nothing to check.
    """
    folder, sums = Path(folder), recorded_sums(folder)
    known = {file.name: file for file in [*needed_files(CATALOGUE), *needed]}
    names = {*sums, *(file.name for file in needed), *(name for name in known if (folder / name).is_file())}
    if not names:
        raise MetricError(f'{folder}: no {SUMS} and no weights here. Give the folder that scripts/download_weights.py '
                          'filled.')
    right, problems = [], []
    for name in sorted(names):
        published = known[name].sha256 if name in known else ''
        try:
            if not (folder / name).is_file():
                origin = f', get it from {known[name].url}' if name in known else ''
                problems.append(f'{folder / name}: missing{origin}')
            elif not (published or name in sums):
                problems.append(f'{folder / name}: nothing to compare with, neither in {SUMS} nor published')
            else:
                right.append(verified(folder / name, published).name)
        except MetricError as error:
            problems.append(str(error))
    return right, problems


def _is_right(path: Path, file: WeightsFile) -> bool:
    try:
        return bool(verified(path, file.sha256))
    except MetricError:
        return False


def _cached(file: WeightsFile, folder: Path) -> Path | None:
    """A right copy elsewhere on this machine, or None."""
    try:
        path = locate(file)
    except MetricError:
        return None
    return None if path is None or path.parent.resolve() == folder.resolve() else path
