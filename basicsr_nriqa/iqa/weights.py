"""Trained weights of metrics: where they are looked for, how they come there, and how they are loaded safely."""
import logging
import os
import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import torch
from filelock import FileLock

from basicsr_nriqa.files import download_file, published_digits, sha256, written_beside
from basicsr_nriqa.iqa.interface import MetricError

FOLDER_VARIABLE = 'BASICSR_NRIQA_WEIGHTS'
SUMS = 'SHA256SUMS'
_PYIQA_REPOSITORY = 'chaofengc/IQA-PyTorch-Weights'
_random_seed = None


@dataclass(frozen=True)
class WeightsFile:
    """A published file.

    Attributes:
        name (str): File name.
        url (str): Where it is published.
        home (str): The folder below torch's hub directory into which it is downloaded: ``pyiqa``, ``checkpoints``
            (torchvision's) or ``clip``.
        sha256 (str): The digest, or the digits of its beginning that are published; empty where none are.
    """

    name: str
    url: str
    home: str
    sha256: str = ''


def pyiqa_file(name):
    """A file of pyiqa's repository, whose names often end in the start of their sha256."""
    host = os.environ.get('HF_ENDPOINT', 'https://huggingface.co').rstrip('/')  # a mirror, as huggingface_hub has it
    url = f'{host}/{_PYIQA_REPOSITORY}/resolve/main/{quote(name)}'
    return WeightsFile(name, url, 'pyiqa', published_digits(name))


def torchvision_file(name):
    """A backbone as torchvision publishes it."""
    return WeightsFile(name, f'https://download.pytorch.org/models/{name}', 'checkpoints', published_digits(name))


def clip_file(name, sha256):
    """A model of OpenAI's CLIP."""
    return WeightsFile(name, f'https://openaipublic.azureedge.net/clip/models/{sha256}/{name}', 'clip', sha256)


def weights_path(file):
    """Where a file belongs: the place from which pyiqa, torchvision and CLIP themselves would load it."""
    return Path(torch.hub.get_dir()) / file.home / file.name


def locate(file, weights=None):
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
            raise MetricError(f'{FOLDER_VARIABLE}={folders[0]}: no such folder.')
    if weights is not None:
        given = Path(weights).expanduser()
        folders.insert(0, given if given.is_dir() else given.parent)
    for folder in folders:
        if (folder / file.name).is_file():
            return verified(folder / file.name, file.sha256)
    return _in_hugging_face_cache(file)


def _in_hugging_face_cache(file):
    if file.home != 'pyiqa':
        return None
    from huggingface_hub import try_to_load_from_cache
    found = try_to_load_from_cache(_PYIQA_REPOSITORY, file.name)
    return verified(Path(found), file.sha256) if isinstance(found, str) else None


def verified(path, digits):
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


def _differs(found, expected):
    return f'its sha256 starts with {found[:len(expected)][:16]}, expected {expected[:16]}'


def recorded_sums(folder):
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
            raise MetricError(f'{path}: not a line of sha256sum: {line[:100]!r}.')
        sums[found[2]] = found[1]
    return sums


def find_weights(info, weights=None, download=True):
    """Find all files that a metric needs, and fetch those that are missing.

    Args:
        info (MetricInfo): The metric.
        weights (str | None): The metric's own file, whatever its name, or a folder in which that file must be; for
            backbones it is the first place to look.
        download (bool): Fetch what is missing.

    Returns:
        list[Path]: One for each of ``info.files``.

    Raises:
        MetricError: files are missing and could not be fetched; lists every one with its source and its place.
    """
    if weights is not None and not Path(weights).expanduser().exists():
        raise MetricError(f"metric '{info.name}': weights: {weights}: no such file or folder.")
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


def fetch_once(file, place):
    """Fetch, or wait for another process of this machine or cluster that is fetching the same file."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f'{place}.lock'):
        return verified(place, file.sha256) if place.is_file() else fetch(file, place.parent)


def fetch(file, folder, cached=None):
    """Bring a file into a folder, where it appears only when it is whole and its digest right.

    Args:
        file (WeightsFile): Which.
        folder (str | Path): Where to; made where it does not exist.
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


def load_file(path):
    """Read a file of weights, bare or with a ``params`` key, ``module.`` prefixes or not.

    Returns:
        dict[str, Tensor] | Tensor: The contents, on the CPU.

    Raises:
        MetricError: the file is damaged or holds more than tensors.
    """
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:
        raise MetricError(f'{path}: cannot be read as plain weights: {error}') from None
    if isinstance(content, dict):
        content = content.get('params', content)
    if isinstance(content, torch.Tensor):
        return content
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise MetricError(f'{path}: expected weights by name, got {type(content).__name__}.')
    return {key.removeprefix('module.'): value for key, value in content.items()}


def load_weights(network, state, path, ignore=()):
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
    except (RuntimeError, AttributeError) as error:  # AttributeError: no mapping at all
        raise MetricError(f'{path}: cannot be used as weights of {type(network).__name__}: {error}') from None


def load_trained(network, info, weights=None):
    """Find the one file of a metric and load it; nothing inside :func:`random_weights`.

    Args:
        network (nn.Module): With the keys of the published file.
        info (MetricInfo): A metric with one file.
        weights (str | None): As in :func:`find_weights`.

    Raises:
        MetricError: as :func:`find_weights`, :func:`load_file` and :func:`load_weights`.
    """
    if _random_seed is None:
        path, = find_weights(info, weights)
        load_weights(network, load_file(path), path)


@contextmanager
def random_weights(seed=0):
    """Inside, metrics are built with random weights: for tests and benchmarks where no trained ones can be had.

    The scores mean nothing. The same seed gives the same weights.
    """
    global _random_seed
    before, _random_seed = _random_seed, seed
    try:
        yield
    finally:
        _random_seed = before


def random_seed():
    """The seed of :func:`random_weights`, None outside of it."""
    return _random_seed
