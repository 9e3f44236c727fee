"""Trained weights of metrics: where they are looked for, how they come there, and how they are loaded safely."""
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from pickle import UnpicklingError
from urllib.parse import quote

import torch
from filelock import FileLock
from torch import Tensor, nn

from basicsr_nriqa.files import download_file, published_digits, sha256, written_beside
from basicsr_nriqa.iqa.interface import MetricError, MetricInfo, WeightsFile

FOLDER_VARIABLE = 'BASICSR_NRIQA_WEIGHTS'
SUMS = 'SHA256SUMS'
_PYIQA_REPOSITORY = 'chaofengc/IQA-PyTorch-Weights'
_PUBLISHED = 'Give the published file, or weights with the same names.'
_LONGEST = 1000  # characters of PyTorch's list of keys
_random_seed: int | None = None


def pyiqa_file(name: str) -> WeightsFile:
    """A file of pyiqa's repository, whose names often end in the start of their sha256."""
    host = os.environ.get('HF_ENDPOINT', 'https://huggingface.co').rstrip('/')  # a mirror, as huggingface_hub has it
    url = f'{host}/{_PYIQA_REPOSITORY}/resolve/main/{quote(name)}'
    return WeightsFile(name, url, 'pyiqa', published_digits(name))


def torchvision_file(name: str) -> WeightsFile:
    """A backbone as torchvision publishes it."""
    return WeightsFile(name, f'https://download.pytorch.org/models/{name}', 'checkpoints', published_digits(name))


def clip_file(name: str, sha256: str) -> WeightsFile:
    """A model of OpenAI's CLIP."""
    return WeightsFile(name, f'https://openaipublic.azureedge.net/clip/models/{sha256}/{name}', 'clip', sha256)


def weights_path(file: WeightsFile) -> Path:
    """Where a file belongs: the place from which pyiqa, torchvision and CLIP themselves would load it."""
    return Path(torch.hub.get_dir()) / file.home / file.name


def locate(file: WeightsFile, weights: str | PathLike[str] | None = None) -> Path | None:
    """Find a file without any download.

    Looked for in: ``weights`` (a folder, or the folder of a file), the folder named by the environment variable
    ``BASICSR_NRIQA_WEIGHTS``, torch's hub folders of pyiqa, torchvision and CLIP, the Hugging Face cache, CLIP's own.

    Returns:
        Path | None: The first that exists, :func:`verified`.

    Raises:
        MetricError: a file is there but its sha256 is another.
    """
    hub = Path(torch.hub.get_dir())
    folders = [hub / home for home in (file.home, 'pyiqa', 'checkpoints', 'clip')]
    folders.append(Path('~/.cache/clip').expanduser())
    if os.environ.get(FOLDER_VARIABLE):
        folders.insert(0, Path(os.environ[FOLDER_VARIABLE]).expanduser())
        if not folders[0].is_dir():
            raise MetricError(f'{FOLDER_VARIABLE}={folders[0]}: no such folder. Set it to the folder that holds the '
                              'trained weights, or unset it.')
    if weights is not None:
        given = Path(weights).expanduser()
        folders.insert(0, given if given.is_dir() else given.parent)
    for folder in folders:
        if (folder / file.name).is_file():
            return verified(folder / file.name, file.sha256)
    return _in_hugging_face_cache(file)


def _in_hugging_face_cache(file: WeightsFile) -> Path | None:
    if file.home != 'pyiqa':
        return None
    from huggingface_hub import try_to_load_from_cache
    found = try_to_load_from_cache(_PYIQA_REPOSITORY, file.name)
    return verified(Path(found), file.sha256) if isinstance(found, str) else None


def verified(path: Path, digits: str) -> Path:
    """A file's path, after its sha256 was compared with what is known of it.

    Args:
        path (Path): The file.
        digits (str): How its published sha256 begins; may be empty. A line in ``SHA256SUMS`` beside it counts too.

    Raises:
        MetricError: its sha256 is another.
    """
    for expected in filter(None, (digits, recorded_sums(path.parent).get(path.name))):
        found = sha256(path)
        if not found.startswith(expected):
            raise MetricError(f'{path}: {_differs(found, expected)}: the file is damaged or another. Remove it, or '
                              'replace it by the published one.')
    return path


def _differs(found: str, expected: str) -> str:
    return f'its sha256 starts with {found[:len(expected)][:16]}, expected {expected[:16]}'


def recorded_sums(folder: str | PathLike[str]) -> dict[str, str]:
    """The digests in a folder's ``SHA256SUMS``.

    Returns:
        dict[str, str]: File name -> sha256; empty where there is no such file.

    Raises:
        MetricError: a line is not one of ``sha256sum``.
    """
    path, sums = Path(folder, SUMS), {}
    for line in path.read_text().splitlines() if path.is_file() else []:
        found = re.fullmatch(r'([0-9a-f]{64}) [ *](?:\./)?(.+)', line)
        if not found:
            raise MetricError(f'{path}: not a line of sha256sum: {line[:100]!r}. Expected 64 hexadecimal digits, two '
                              'spaces and a file name; remove the line, or the file.')
        sums[found[2]] = found[1]
    return sums


def find_weights(info: MetricInfo, weights: str | PathLike[str] | None = None,
                 download: bool = True) -> list[Path]:
    """Find all files that a metric needs, and fetch those that are missing.

    Args:
        info (MetricInfo): The metric.
        weights (str | PathLike | None): The metric's own file, whatever its name, or a folder in which that file must
            be; for backbones it is the first place to look.
        download (bool): Fetch what is missing.

    Returns:
        list[Path]: One for each of ``info.files``.

    Raises:
        MetricError: files are missing and could not be fetched; lists every one with its source and its place.
    """
    if weights is not None and not Path(weights).expanduser().exists():
        raise MetricError(f"metric '{info.name}': weights: {weights}: no such file or folder. Leave the option "
                          'out to have the published file found or fetched.')
    found, missing, reasons = [], [], []
    for index, file in enumerate(info.files):
        place = weights_path(file)
        if weights is not None and index == 0:
            given = Path(weights).expanduser()
            place = given / file.name if given.is_dir() else given
            path = verified(place, file.sha256 if given.is_dir() else '') if place.is_file() else None
        else:
            path = locate(file, weights)
            if path is None and download:
                try:
                    path = fetch_once(file, place)
                except OSError as error:
                    reasons.append(str(error))
        if path is None:
            missing.append((file, place))
        else:
            found.append(path)
    if missing:
        reason = f'fetching failed: {reasons[0]}' if reasons else 'not fetched' if download else \
            'they are fetched when nothing else is wrong'
        listed = '\n'.join(f'  {file.name}  from {file.url}\n    to {place}' for file, place in missing)
        raise MetricError(
            f"metric '{info.name}' needs its trained weights and they are not here ({reason}).\nPut\n{listed}\n"
            f'or, on a machine with network, run `python scripts/download_weights.py {info.name} -o FOLDER`, copy '
            f'FOLDER here and set {FOLDER_VARIABLE}=FOLDER.')
    # BasicSR's logger: a training's log says which weights a metric had, and so which variant it was
    logging.getLogger('basicsr').info('Metric %s: weights from %s', info.name, ', '.join(map(str, found)))
    return found


def fetch_once(file: WeightsFile, place: Path) -> Path:
    """Fetch, or wait for another process of this machine or cluster that is fetching the same file."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f'{place}.lock'):
        return verified(place, file.sha256) if place.is_file() else fetch(file, place.parent)


def fetch(file: WeightsFile, folder: str | PathLike[str], cached: Path | None = None) -> Path:
    """Bring a file into a folder, where it appears only when it is whole and its digest right.

    Args:
        file (WeightsFile): Which.
        folder (str | PathLike): Where to; made where it does not exist.
        cached (Path | None): A copy on this machine that is taken instead of a download.

    Returns:
        Path: The file.

    Raises:
        OSError: it could not be had whole.
        MetricError: what came has another sha256; nothing is kept.
    """
    place = Path(folder, file.name)
    with written_beside(place) as beside:
        if cached is None:
            download_file(file.url, beside, file.name)
        else:
            shutil.copyfile(cached, beside)
        found = sha256(beside)
        if not found.startswith(file.sha256):
            raise MetricError(f'{cached or file.url}: {_differs(found, file.sha256)}: it is not kept.')
    return place


def load_file(path: Path) -> dict[str, Tensor] | Tensor:
    """Read a file of weights, bare or with a ``params`` key, ``module.`` prefixes or not.

    Returns:
        dict[str, Tensor] | Tensor: The contents, on the CPU.

    Raises:
        MetricError: the file is damaged or holds more than tensors.
    """
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:
        # of a file that cannot be unpickled PyTorch says how to run the code in it, which nobody should
        reason = 'more than tensors, or no PyTorch file' if isinstance(error, UnpicklingError) else \
            (str(error) or type(error).__name__).splitlines()[0]
        raise MetricError(f'{path}: cannot be read as plain weights ({reason[:200]}). {_PUBLISHED}') from None
    if isinstance(content, dict):
        content = content.get('params', content)
    if isinstance(content, torch.Tensor):
        return content
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise MetricError(f'{path}: expected weights by name, got {type(content).__name__}. {_PUBLISHED}')
    return {key.removeprefix('module.'): value for key, value in content.items()}


def load_state(path: Path) -> dict[str, Tensor]:
    """Read a file of weights by name, as :func:`load_file` does.

    Raises:
        MetricError: the file cannot be read, or holds something else.
    """
    content = load_file(path)
    if isinstance(content, Tensor):
        raise MetricError(f'{path}: expected weights by name, got one tensor of shape {tuple(content.shape)}. '
                          f'{_PUBLISHED}')
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise MetricError(f"{path}: expected weights by name, or such under the key 'params'; '{key}' holds a "
                              f'{type(value).__name__}. {_PUBLISHED}')
    return content


def load_weights(network: nn.Module, state: dict[str, Tensor], path: Path, ignore: tuple[str, ...] = ()) -> None:
    """Load a state into a network strictly.

    Args:
        network (nn.Module): The network.
        state (dict[str, Tensor]): Its weights.
        path (Path): Where they come from, for the message.
        ignore (tuple[str]): Beginnings of keys that are not used.

    Raises:
        MetricError: the weights belong to another network.
    """
    try:
        network.load_state_dict({key: value for key, value in state.items() if not key.startswith(ignore or ('\0',))})
    except RuntimeError as error:
        differences = str(error) if len(str(error)) < _LONGEST else f'{str(error)[:_LONGEST]}...'
        raise MetricError(f'{path}: cannot be used as weights of {type(network).__name__}. {_PUBLISHED}\n'
                          f'{differences}') from None


def load_trained(network: nn.Module, info: MetricInfo, weights: str | PathLike[str] | None = None) -> None:
    """Find the one file of a metric and load it; nothing inside :func:`random_weights`.

    Args:
        network (nn.Module): With the keys of the published file.
        info (MetricInfo): A metric with one file.
        weights (str | PathLike | None): As in :func:`find_weights`.

    Raises:
        MetricError: as :func:`find_weights`, :func:`load_state` and :func:`load_weights`.
    """
    if _random_seed is None:
        path, = find_weights(info, weights)
        load_weights(network, load_state(path), path)


@contextmanager
def random_weights(seed: int = 0) -> Iterator[None]:
    """Inside, metrics are built with random weights: for tests and benchmarks where no trained ones can be had.

    The scores mean nothing. The same seed gives the same weights.
    """
    global _random_seed
    before, _random_seed = _random_seed, seed
    try:
        yield
    finally:
        _random_seed = before


def random_seed() -> int | None:
    """The seed of :func:`random_weights`, None outside of it."""
    return _random_seed
