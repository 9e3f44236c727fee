"""Reading checkpoint files, on this machine or from the web, without running what may be in them."""
import re
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import unquote, urlsplit

import torch
from filelock import FileLock

from basicsr_nriqa.files import download_file, published_digits, sha256, written_beside


def is_url(path: str | Path) -> bool:
    """Whether a checkpoint is to be fetched from the web.

    Args:
        path (str | Path): as it was given.

    Returns:
        bool: whether it begins with ``http://`` or ``https://``.
    """
    return str(path).startswith(('http://', 'https://'))


def load_checkpoint_file(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint file to main memory. Only tensors and plain values are read: no code in it is run.

    Args:
        path (str | Path): file written by ``torch.save``, or its http(s) URL. What is at a URL is fetched once
            (:func:`local_file`).

    Returns:
        dict[str, Any]: its content.

    Raises:
        FileNotFoundError: there is no such file, or it could not be fetched.
        ValueError: the file is damaged or no checkpoint, holds other objects than tensors and plain values, holds no
            dictionary, or its sha256 is not the one that its name says.
    """
    return _read(local_file(path), path)


def local_file(path: str | Path) -> Path:
    """Where a checkpoint is on this machine.

    A file at a URL is fetched to ``checkpoints`` in torch's hub folder, from which torch.hub and mmengine take it too.
    It appears there only when it is whole, can be read, and has the sha256 that its name ends in, if it does
    (``NAME-0123abcd.pth``). Processes that want the same file wait for the one that fetches it.

    Args:
        path (str | Path): path or http(s) URL.

    Returns:
        Path: the file.

    Raises:
        FileNotFoundError: there is no such file, or it could not be fetched.
        ValueError: what was fetched before or now cannot be read, or has another sha256 than its name says.
    """
    # mmengine's loader fetches too, but it reads with torch.hub, which runs code that a file may hold, and does not see
    # that a connection broke; its short names (open-mmlab://) know no network for video
    if not is_url(path):
        file = Path(path).expanduser()
        if str(path) and file.is_dir():
            raise FileNotFoundError(f'Checkpoint {path}: this is a folder. Give the file in it, such as '
                                    'net_g_latest.pth.')
        if not file.is_file():
            raise FileNotFoundError(f'Checkpoint {path}: no such file. Give the path or the URL of a checkpoint.')
        return file
    name = Path(unquote(urlsplit(str(path)).path)).name
    if name in ('', '..'):
        raise ValueError(f'Checkpoint {path}: this URL names no file. Give one that ends in a name, such as net_g.pth.')
    place = Path(torch.hub.get_dir(), 'checkpoints', name)
    copy = f'{path}: its copy {place}', 'Remove the copy, and it is fetched again.'
    if place.is_file():  # whole, and perhaps in a folder that cannot be written
        _verify(place, name, *copy)
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileNotFoundError(f'Checkpoint {path}: there is no place to keep it: {place.parent} cannot be made '
                                f'({error.strerror}). Set the environment variable TORCH_HOME to a folder that can be '
                                'written.') from error
    with FileLock(f'{place}.lock'):
        if place.is_file():
            _verify(place, name, *copy)
        else:
            _fetch(str(path), place)
    return place


def _fetch(url: str, place: Path) -> None:
    try:
        with written_beside(place) as beside:
            download_file(url, beside, place.name)
            _verify(beside, place.name, url, 'It is not kept.')
            _read(beside, url)  # such as a page that says why there is no file
    except OSError as error:
        reason = error.reason if type(error) is URLError else error  # without the names of Python's classes
        raise FileNotFoundError(f'Checkpoint {url}: cannot be fetched: {reason}. Where there is no network, put the '
                                f'file at {place}.') from error


def _verify(file: Path, name: str, what: str, remedy: str) -> None:
    expected = published_digits(name)
    found = sha256(file)[:len(expected)]
    if found != expected:
        raise ValueError(f'Checkpoint {what}: its sha256 begins with {found}, but its name says {expected}, so it is '
                         f'damaged or another file. {remedy}')


def _read(file: Path, path: str | Path) -> dict[str, Any]:
    try:
        content = torch.load(file, map_location='cpu', weights_only=True)
    except OSError as error:
        raise ValueError(f'Checkpoint {path}: cannot be read ({error.strerror or error}). See to its permissions and '
                         'its disk, or fetch it again.') from error
    except Exception as error:  # damaged pickles fail in every way there is
        python_object = re.search(r'GLOBAL (\S+)', str(error))
        if python_object:
            raise ValueError(f'Checkpoint {path}: refused, since loading {python_object[1]} could run code. If you '
                             'trust the file, load it yourself and save only its state_dict of tensors.') from None
        raise ValueError(f'Checkpoint {path}: cannot be read. It is damaged, or was not written by torch.save: '
                         'safetensors, TorchScript and web pages are not. Fetch it again, or convert it.') from error
    if not isinstance(content, dict):
        raise ValueError(f'Checkpoint {path}: expected a dictionary of tensors, found {type(content).__name__}. Save '
                         "the network's state_dict() instead.")
    return content
