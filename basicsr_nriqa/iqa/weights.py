"""Trained weights of metrics: where they are looked for, and how they come there."""
import hashlib
import os
import re
from pathlib import Path

import torch

from basicsr_nriqa.iqa.interface import MetricError


def weights_path(info):
    """Where the weights of a metric belong: pyiqa's own folder in torch's hub directory (``$TORCH_HOME/hub``)."""
    return Path(torch.hub.get_dir()) / 'pyiqa' / info.weights_file


def find_weights(info, path=None, download=True):
    """Find the weights of a metric, or fetch them from where pyiqa publishes them.

    Args:
        info (MetricInfo): A metric with a ``weights_file``.
        path (str | None): A file to use instead.
        download (bool): Fetch the file if it is not there.

    Returns:
        Path: An existing file.

    Raises:
        MetricError: there is no file and none could be fetched; says where to put which file.
    """
    if path is not None:
        if not Path(path).expanduser().is_file():
            raise MetricError(f"metric '{info.name}': weights: {path}: no such file.")
        return Path(path).expanduser()
    place = weights_path(info)
    if place.is_file():
        return place
    from pyiqa.archs.arch_util import get_url_from_name
    url = get_url_from_name(info.weights_file)
    reason = 'not fetched yet'
    if download:
        try:
            return _download(url, place)
        except (OSError, RuntimeError) as error:
            reason = f'fetching them failed: {getattr(error, "reason", error)}'
    raise MetricError(
        f"metric '{info.name}' needs its trained weights and they are not here ({reason}).\n"
        f'Put the file {info.weights_file} (from {url})\n'
        f'at {place}\nor name a file with the option `weights` of the loss or metric.')


def _download(url, place):
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f'{place.name}.{os.getpid()}.partial')
    try:
        torch.hub.download_url_to_file(url, str(partial))
        wanted = re.search(r'-([0-9a-f]{8,})\.', place.name)  # published names may end in the start of the sha256
        if wanted:
            digest = hashlib.sha256(partial.read_bytes()).hexdigest()
            if not digest.startswith(wanted[1]):
                raise MetricError(f'{url}: sha256 {digest[:8]}... is not {wanted[1]}...: the file was not kept.')
        partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)
    return place


def load_weights(network, path):
    """Load a metric's file strictly; ``params`` key and ``module.`` prefixes as published.

    Raises:
        MetricError: the file is damaged, holds more than tensors, or belongs to another network.
    """
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
        state = state.get('params', state)
        network.load_state_dict({key.removeprefix('module.'): value for key, value in state.items()}, strict=True)
    except Exception as error:
        raise MetricError(f'{path}: cannot be used as weights of {type(network).__name__}: {error}') from None
