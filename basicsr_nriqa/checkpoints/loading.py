"""Loading a checkpoint of any known layout into a network."""
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from basicsr_nriqa.checkpoints.hyper_parameters import options_of
from basicsr_nriqa.checkpoints.layouts import CONSTANTS, NETWORKS, convert_state_dict, unwrap
from basicsr_nriqa.checkpoints.reading import load_checkpoint_file


def load_pretrained(network: nn.Module, path: str | Path, content: Mapping[str, Any] | None = None,
                    strict: bool = True) -> None:
    """Load a checkpoint of any known layout into a network, all of it or not at all.

    Args:
        network (nn.Module): its class name says which layouts are known
            (:func:`~basicsr_nriqa.checkpoints.convert_state_dict`).
        path (str | Path): checkpoint file or URL (:func:`~basicsr_nriqa.checkpoints.load_checkpoint_file`).
        content (Mapping[str, Any] | None): what the file holds, or the part of it to use, where it has been read
            already; default: the file is read.
        strict (bool): as in :func:`load_content`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, is of no known layout, or does not fit the network; the error names it.
    """
    if content is None:
        content = load_checkpoint_file(path)
    try:
        load_content(network, content, strict)
    except ValueError as error:
        raise ValueError(f'Checkpoint {path}: {error}') from None


def weights_under(content: Mapping[str, Any], key: str) -> tuple[Mapping[str, Any], str | None]:
    """What of a file is loaded: the weights under a key, else under ``params``, else all of it.

    Args:
        content (Mapping[str, Any]): as :func:`~basicsr_nriqa.checkpoints.load_checkpoint_file` returns it.
        key (str): ``param_key_g`` of BasicSR, such as ``params_ema``.

    Returns:
        tuple[Mapping[str, Any], str | None]: for :func:`load_content`, and the key that was found.
    """
    found = next((name for name in (key, 'params') if name in content), None)
    return ({found: content[found]} if found else content), found


def load_content(network: nn.Module, content: Mapping[str, Any], strict: bool = True) -> None:
    """Load what a checkpoint file holds into a network, all of it or not at all.

    Published files may leave constants out. A checkpoint of RBPN fits ISeeBetter and leaves its flow as it is.

    Args:
        network (nn.Module): its class name says which layouts are known; a network that is none of ours needs its own
            names, under a known wrapper or none.
        content (Mapping[str, Any]): as :func:`~basicsr_nriqa.checkpoints.load_checkpoint_file` returns it.
        strict (bool): False takes what fits, and the log says what does not. One name must be known at least.

    Raises:
        ValueError: of no known layout, or it does not fit; the error says what differs and which options to set.
    """
    arch = type(network).__name__
    state_dict = convert_state_dict(content, arch, strict) if arch in NETWORKS else unwrap(content)[0]
    own = network.state_dict()
    state_dict = {name: item for name, item in state_dict.items()
                  if isinstance(item, torch.Tensor) and (name in own or not _is_constant(name))}
    without_flow = arch == 'ISeeBetter' and not any(name.startswith('spynet.') for name in state_dict)
    missing = [name for name in own if name not in state_dict and not _is_constant(name)
               and not (without_flow and name.startswith('spynet.'))]
    surplus = [name for name in state_dict if name not in own]
    misfits = {name: f'{name} has shape {tuple(tensor.shape)} instead of {tuple(own[name].shape)}'
               for name, tensor in state_dict.items() if name in own and tensor.shape != own[name].shape}
    problems = [*(f'{name} is missing' for name in missing), *(f'{name} is not in this network' for name in surplus),
                *misfits.values()]
    if problems:
        listed = '; '.join(problems[:8]) + (f' and {len(problems) - 8} more.' if len(problems) > 8 else '.')
        if strict:
            raise ValueError(f'does not fit this {arch}, which was built with other options or is another network.'
                             f'{_options_to_set(arch, state_dict, own)} In detail: {listed}')
        logging.getLogger('basicsr').warning('Loaded in part, since strict loading is off: %s', listed)
        state_dict = {name: tensor for name, tensor in state_dict.items() if name in own and name not in misfits}
    if without_flow:
        logging.getLogger('basicsr').info('The checkpoint has no optical-flow network: the flow stays as it is.')
    network.load_state_dict(state_dict, strict=False)


def _is_constant(name: str) -> bool:
    return name.rpartition('.')[2] in CONSTANTS


def _options_to_set(arch: str, state_dict: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> str:
    """Where the checkpoint's network has other options than this one: which ones to set."""
    if arch not in NETWORKS:
        return ''
    try:
        needed, given = options_of(arch, state_dict), options_of(arch, own)
    except ValueError:  # weights are missing that tell them
        return ''
    differing = [name for name in {**given, **needed} if needed.get(name) != given.get(name)]
    if not differing:
        return ''
    return (f" To build the checkpoint's network, set {_written(needed, differing)} in its options; now it is "
            f'{_written(given, differing)}.')


def _written(options: Mapping[str, Any], names: Iterable[str]) -> str:
    return ', '.join(f'{name}: {options.get(name, "nothing")}' for name in names)
