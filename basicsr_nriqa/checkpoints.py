"""Published checkpoints: read the file, recognise the layout, convert the names, load.

===========  ============================================================================================
layout       how its files look
===========  ============================================================================================
BasicSR      the network's own names, often under ``params`` or ``params_ema``
OpenMMLab    under ``state_dict``; a whole model's names, the network's begin with ``generator.``;
             convolutions are called ``conv`` inside SPyNet and ``upsample_conv`` in the upsampler
===========  ============================================================================================

Either may come from a distributed run, where every name begins with ``module.``. Where a file has averaged weights
(``params_ema``, ``generator_ema.``) beside the last ones, the averaged ones are taken, as their authors do for testing.
"""
import pickle
import re
from pathlib import Path

import torch

# what OpenMMLab's training leaves in a file beside the network
_TRAINING_ONLY = re.compile(r'(step_counter$|discriminator\.|perceptual_loss\.|data_preprocessor\.)')
# constants that published SPyNet files leave out
_CONSTANTS = ('mean', 'std')

_WEIGHT = r'\.(weight|bias)'
_SPYNET_LEVEL = r'basic_module\.[0-5]\.basic_module\.'
_SPYNET_KEYS = rf'(mean|std|{_SPYNET_LEVEL}[02468]{_WEIGHT})'
_SPYNET_RENAMES = ((re.compile(rf'({_SPYNET_LEVEL})([0-4])\.conv\.'), lambda m: f'{m[1]}{2 * int(m[2])}.'),)

_BRANCH = r'(backward|forward)_[12]'
_RESIDUAL_BLOCKS = rf'main\.(0|2\.\d+\.conv[12]){_WEIGHT}'
_BASICVSRPP_KEYS = '|'.join((
    rf'spynet\.{_SPYNET_KEYS}',
    rf'feat_extract\.([02]{_WEIGHT}|(4\.)?{_RESIDUAL_BLOCKS})',
    rf'deform_align\.{_BRANCH}(\.conv_offset\.[0246])?{_WEIGHT}',
    rf'(backbone\.{_BRANCH}|reconstruction)\.{_RESIDUAL_BLOCKS}',
    rf'(upconv1|upconv2|conv_hr|conv_last){_WEIGHT}',
))

# registered name: (its own names, renames that lead there from other layouts)
_LAYOUTS = {
    'SpyNet': (re.compile(_SPYNET_KEYS), _SPYNET_RENAMES),
    'BasicVSRPP': (re.compile(_BASICVSRPP_KEYS),
                   (*_SPYNET_RENAMES, (re.compile(r'upsample([12])\.upsample_conv\.'), r'upconv\1.'))),
}


def convert_state_dict(state_dict, arch):
    """Bring a checkpoint of any known layout to our networks' own names.

    Args:
        state_dict (dict): what the checkpoint file holds, with or without its wrapper.
        arch (str): the network's registered name, ``'BasicVSRPP'`` or ``'SpyNet'``.

    Returns:
        dict[str, Tensor]: the network's state_dict; the tensors are the same objects.

    Raises:
        ValueError: a network without known layouts, or names of no known layout; the error lists them.
    """
    if arch not in _LAYOUTS:
        raise ValueError(f'No checkpoint layouts are known for the network {arch!r}; known are {sorted(_LAYOUTS)}.')
    own_keys, renames = _LAYOUTS[arch]
    converted, unknown = {}, []
    for name, tensor in _unwrap(state_dict).items():
        for pattern, replacement in renames:
            name = pattern.sub(replacement, name)
        if not own_keys.fullmatch(name) or not isinstance(tensor, torch.Tensor):
            unknown.append(name)
        converted[name] = tensor
    if unknown or not converted:
        shown = ', '.join(map(str, unknown[:20])) + (f' and {len(unknown) - 20} more' if len(unknown) > 20 else '')
        raise ValueError(f'Not a {arch} checkpoint: ' + (f'unknown names {shown}. ' if unknown else 'it is empty. ') +
                         "Understood are BasicSR's layout (plain, or under 'params' or 'params_ema') and OpenMMLab's "
                         "(under 'state_dict', names beginning with 'generator.').")
    return converted


def _unwrap(state_dict):
    """The network's own part of a checkpoint, without prefixes."""
    for wrapper in ('params_ema', 'params', 'state_dict'):
        if isinstance(state_dict.get(wrapper), dict):
            state_dict = state_dict[wrapper]
            break
    state_dict = {re.sub(r'^(module\.)+', '', str(name)): tensor for name, tensor in state_dict.items()}
    if not any(name.startswith('generator') for name in state_dict):
        return state_dict
    averaged = any(name.startswith('generator_ema.') for name in state_dict)
    chosen, other = ('generator_ema.', 'generator.') if averaged else ('generator.', 'generator_ema.')
    return {name.removeprefix(chosen): tensor for name, tensor in state_dict.items()
            if not name.startswith(other) and not _TRAINING_ONLY.match(name)}


def load_checkpoint_file(path):
    """Read a checkpoint file to main memory. Only tensors and plain values are read: no code in it is run.

    Args:
        path (str | Path): file written by `torch.save`.

    Returns:
        dict: its content.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or no checkpoint, holds other objects than tensors and plain values, or holds
            no dictionary.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'Checkpoint {path}: no such file. Give the path of a downloaded checkpoint.')
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        python_object = re.search(r'GLOBAL (\S+)', str(error))
        if python_object:
            raise ValueError(f'Checkpoint {path}: refused, since loading {python_object[1]} could run code. If you '
                             'trust the file, load it yourself and save only its state_dict of tensors.') from None
        raise ValueError(f'Checkpoint {path}: cannot be read, so it is damaged or was not written by torch.save. '
                         'Fetch it again.') from error
    if not isinstance(content, dict):
        raise ValueError(f'Checkpoint {path}: expected a dictionary of tensors, found {type(content).__name__}.')
    return content


def load_pretrained(network, path):
    """Load a checkpoint of any known layout into a network of ours, all of it or not at all.

    Args:
        network (nn.Module): its class name says which layouts are known (`convert_state_dict`).
        path (str | Path): checkpoint file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, is of no known layout, or does not fit the network; the error names it.
    """
    content = load_checkpoint_file(path)
    arch = type(network).__name__
    try:
        state_dict = convert_state_dict(content, arch)
    except ValueError as error:
        raise ValueError(f'Checkpoint {path}: {error}') from None
    own = network.state_dict()
    missing = [name for name in own if name not in state_dict and name.rpartition('.')[2] not in _CONSTANTS]
    surplus = [name for name in state_dict if name not in own]
    misfits = [f'{name} has shape {tuple(state_dict[name].shape)} instead of {tuple(own[name].shape)}'
               for name in own if name in state_dict and state_dict[name].shape != own[name].shape]
    if missing or surplus or misfits:
        problems = [f'{name} is missing' for name in missing] + [f'{name} is too much' for name in surplus] + misfits
        raise ValueError(f'Checkpoint {path}: does not fit this {arch}, which was built with other options or is '
                         f'another network: {"; ".join(problems[:8])}' +
                         (f' and {len(problems) - 8} more.' if len(problems) > 8 else '.'))
    network.load_state_dict(state_dict, strict=False)
