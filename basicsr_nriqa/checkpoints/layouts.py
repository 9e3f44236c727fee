"""The names in published checkpoints: which network they belong to, and how they become our networks' own."""
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# a layout, what is replaced in a name of it, and by what
Rename = tuple[str, re.Pattern[str], str | Callable[[re.Match[str]], str]]

OWN, OPENMMLAB, PYTORCH_SPYNET, BARE_RBPN = 'own names', 'OpenMMLab', 'pytorch-spynet', 'RBPN'
WRAPPERS = ('params_ema', 'params', 'state_dict')
# follow from the options; published files may leave them out
CONSTANTS = frozenset({'mean', 'std', 'relative_position_index', 'position_bias'})

# what OpenMMLab's training leaves in a file beside the network
_TRAINING_ONLY = re.compile(r'(step_counter$|discriminator\.|perceptual_loss\.|data_preprocessor\.)')
# depends on the input's size, so a network that keeps it has computed it for one
_PER_SIZE = re.compile(r'(.+\.)?attn_mask')

_WEIGHT = r'\.(weight|bias)'
_SPYNET_LEVEL = r'basic_module\.[0-5]\.basic_module\.'
_SPYNET_KEYS = rf'(mean|std|{_SPYNET_LEVEL}[02468]{_WEIGHT})'
_SPYNET_RENAMES: tuple[Rename, ...] = (
    (OPENMMLAB, re.compile(rf'({_SPYNET_LEVEL})([0-4])\.conv\.'), lambda m: f'{m[1]}{2 * int(m[2])}.'),
    (PYTORCH_SPYNET, re.compile(r'^(module|net)Basic\.([0-5])\.(module|net)Basic\.'), r'basic_module.\2.basic_module.'))

_BRANCH = r'(backward|forward)_[12]'
_RESIDUAL_BLOCKS = rf'main\.(0|2\.\d+\.conv[12]){_WEIGHT}'
_BASICVSRPP_KEYS = '|'.join((
    rf'spynet\.{_SPYNET_KEYS}',
    rf'feat_extract\.([02]{_WEIGHT}|(4\.)?{_RESIDUAL_BLOCKS})',
    rf'deform_align\.{_BRANCH}(\.conv_offset\.[0246])?{_WEIGHT}',
    rf'(backbone\.{_BRANCH}|reconstruction)\.{_RESIDUAL_BLOCKS}',
    rf'(upconv1|upconv2|conv_hr|conv_last){_WEIGHT}',
))

_ATTENTION = '|'.join(('relative_position_bias_table', 'relative_position_index', 'position_bias',
                       rf'(qkv_self|qkv_mut|proj){_WEIGHT}'))
_VRT_BLOCK = rf'blocks\.\d+\.(norm[12]{_WEIGHT}|attn\.({_ATTENTION})|mlp\.(fc11|fc12|fc2){_WEIGHT})'
_VRT_KEYS = '|'.join((
    rf'spynet\.{_SPYNET_KEYS}',
    rf'(conv_first|norm|conv_after_body|conv_before_upsample\.0|upsample\.\d+|linear_fuse|conv_last){_WEIGHT}',
    rf'stage[1-7]\.((reshape\.[12]|linear[12]|pa_deform(\.conv_offset\.[0246])?|pa_fuse\.(fc11|fc12|fc2)){_WEIGHT}'
    rf'|residual_group[12]\.{_VRT_BLOCK})',
    rf'stage8\.(0\.[12]{_WEIGHT}|[1-9]\d*\.(linear{_WEIGHT}|residual_group\.{_VRT_BLOCK}))',
))

_PROJECTION = r'(up|down)\d+\.(up|down)_conv[123]\.(conv|deconv|act)'
_RBPN_KEYS = '|'.join((
    rf'(feat[01]|output)\.(conv|act){_WEIGHT}',
    rf'DBPN\.((feat1|output)\.(conv|act)|{_PROJECTION}){_WEIGHT}',
    rf'res_feat[123]\.\d+\.(conv1|conv2|conv|deconv|act){_WEIGHT}',
))
_DISCRIMINATOR_KEYS = '|'.join((
    rf'net\.([0258]|11|14|17|20|24|26){_WEIGHT}',
    r'net\.([369]|12|15|18|21)\.(weight|bias|running_mean|running_var|num_batches_tracked)',
))


@dataclass(frozen=True)
class _Network:
    """What checkpoints of a network look like.

    Attributes:
        keys (re.Pattern[str]): The network's own names.
        characteristic (str): A name that each of its checkpoints has and no other network's.
        renames (tuple[Rename, ...]): What leads from other layouts to its own names.
        advice (str): What a checkpoint of it is for.
    """

    keys: re.Pattern[str]
    characteristic: str
    renames: tuple[Rename, ...] = ()
    advice: str = 'use network_g: {{type: {}, ...}}'


NETWORKS = {
    'SpyNet': _Network(re.compile(_SPYNET_KEYS), 'basic_module.5.basic_module.8.weight', _SPYNET_RENAMES,
                       "use it as a video network's spynet_path"),
    'BasicVSRPP': _Network(
        re.compile(_BASICVSRPP_KEYS), 'backbone.backward_1.main.0.weight',
        (*_SPYNET_RENAMES[:1], (OPENMMLAB, re.compile(r'upsample([12])\.upsample_conv\.'), r'upconv\1.'))),
    'VRT': _Network(re.compile(_VRT_KEYS), 'stage1.linear1.weight', _SPYNET_RENAMES[:1]),
    'RBPN': _Network(re.compile(_RBPN_KEYS), 'DBPN.feat1.conv.weight',
                     advice='use network_g: {{type: ISeeBetter, ...}}'),
    'ISeeBetter': _Network(
        re.compile(rf'spynet\.{_SPYNET_KEYS}|rbpn\.({_RBPN_KEYS})'), 'rbpn.DBPN.feat1.conv.weight',
        (*_SPYNET_RENAMES[:1], (BARE_RBPN, re.compile(r'^(?=(feat[01]|DBPN|res_feat[123]|output)\.)'), 'rbpn.'))),
    'SRGANDiscriminator': _Network(re.compile(_DISCRIMINATOR_KEYS), 'net.24.weight',
                                   advice='use network_d: {{type: {}}}'),
}


def convert_state_dict(state_dict: Mapping[str, Any], arch: str, strict: bool = True) -> dict[str, Tensor]:
    """Bring a checkpoint of any known layout to our networks' own names.

    Args:
        state_dict (Mapping[str, Any]): what the checkpoint file holds, with or without its wrapper.
        arch (str): the network's class name: ``'BasicVSRPP'``, ``'VRT'``, ``'ISeeBetter'``, ``'SRGANDiscriminator'``,
            or the parts ``'SpyNet'`` and ``'RBPN'``.
        strict (bool): False leaves unknown names as they are, if there are known ones beside them.

    Returns:
        dict[str, Tensor]: the network's state_dict; the tensors are the same objects.

    Raises:
        ValueError: a network without known layouts, or names of no known layout; the error lists them and says which
            network the checkpoint is for, if that is known.
    """
    if arch not in NETWORKS:
        raise ValueError(f'No checkpoint layouts are known for the network {arch!r}; known are {sorted(NETWORKS)}.')
    converted, unknown, _ = _converted(unwrap(state_dict)[0], NETWORKS[arch])
    if len(unknown) == len(converted) or (strict and unknown):
        raise ValueError(f'Not a {arch} checkpoint: ' + (f'unknown names {_listed(unknown)}. ' if unknown else
                                                         'it is empty. ') + _what_it_is(state_dict))
    return converted


def recognise(content: Mapping[str, Any]) -> str:
    """Which network a checkpoint belongs to.

    Args:
        content (Mapping[str, Any]): what the checkpoint file holds, with or without its wrapper.

    Returns:
        str: a name for :func:`convert_state_dict`. Checkpoints without a flow network that fit ISeeBetter are
        ``'RBPN'``.

    Raises:
        ValueError: none of the known ones; the error lists some names.
    """
    return identify(content)[0]


def identify(content: Mapping[str, Any]) -> tuple[str, str, str | None, dict[str, Tensor]]:
    """The network's name, the layout, the wrapper (None where there is none) and the converted state_dict.

    Raises:
        ValueError: as :func:`recognise`.
    """
    state_dict, wrapper = unwrap(content)
    for arch, network in NETWORKS.items():
        converted, unknown, layouts = _converted(state_dict, network)
        if network.characteristic in converted and not unknown and not (arch == 'ISeeBetter' and BARE_RBPN in layouts):
            if any(name.startswith('generator') for name in _inside(content, wrapper)):
                layouts.add(OPENMMLAB)
            return arch, next(iter(layouts), BARE_RBPN if arch == 'RBPN' else OWN), wrapper, converted
    if is_training_state(content):
        raise ValueError('It is a training state, not a network: give it as path: resume_state. The network of this '
                         f"iteration is net_g_{content['iter']}.pth in the folder models beside training_states.")
    raise ValueError(f"None of the known networks ({', '.join(NETWORKS)}) has these names: "
                     f'{_listed(list(state_dict), 8) or "there are none"}.{_wrapped(content)}')


def is_training_state(content: Any) -> bool:
    """Whether a file's content is what BasicSR writes to ``training_states``."""
    return isinstance(content, dict) and {'iter', 'optimizers', 'schedulers'} <= content.keys()


def unwrap(content: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """The network's own part of a checkpoint without prefixes, and the wrapper it was under (or None)."""
    wrapper = next((key for key in WRAPPERS if isinstance(content.get(key), dict)), None)
    state_dict = _inside(content, wrapper)
    if not any(name.startswith('generator') for name in state_dict):
        return state_dict, wrapper
    averaged = any(name.startswith('generator_ema.') for name in state_dict)
    chosen, other = ('generator_ema.', 'generator.') if averaged else ('generator.', 'generator_ema.')
    return {name.removeprefix(chosen): tensor for name, tensor in state_dict.items()
            if not name.startswith(other) and not _TRAINING_ONLY.match(name)}, wrapper


def _inside(content: Mapping[str, Any], wrapper: str | None) -> dict[str, Any]:
    return {re.sub(r'^(module\.)+', '', str(name)): tensor
            for name, tensor in (content if wrapper is None else content[wrapper]).items()}


def _converted(state_dict: Mapping[str, Any], network: _Network) -> tuple[dict[str, Any], list[str], set[str]]:
    """The state_dict under the network's own names, the names that it has not, and the layouts they were of."""
    converted: dict[str, Any] = {}
    unknown: list[str] = []
    layouts: set[str] = set()
    for name, tensor in state_dict.items():
        if _PER_SIZE.fullmatch(name):
            continue
        for layout, pattern, replacement in network.renames:
            name, count = pattern.subn(replacement, name)
            if count:
                layouts.add(layout)
        if not network.keys.fullmatch(name) or not isinstance(tensor, torch.Tensor):
            unknown.append(name)
        converted[name] = tensor
    return converted, unknown, layouts


def _what_it_is(content: Mapping[str, Any]) -> str:
    try:
        arch = recognise(content)
    except ValueError as error:
        if is_training_state(content):
            return str(error)
        return _wrapped(content).lstrip() or (
            "Understood are BasicSR's layout (plain, or under 'params' or 'params_ema') and OpenMMLab's (under "
            "'state_dict', names beginning with 'generator.').")
    return f'It is a checkpoint of {arch}: {NETWORKS[arch].advice.format(arch)}.'


def _wrapped(content: Mapping[str, Any]) -> str:
    """What to do where the file holds weights under a name that is not known."""
    found = [name for name, item in content.items() if isinstance(item, Mapping)
             and any(isinstance(part, torch.Tensor) for part in item.values())]
    if not found or unwrap(content)[1]:
        return ''
    return (f" It holds weights under '{found[0]}'. Save them alone: torch.save({{'params': "
            f"torch.load(FILE)['{found[0]}']}}, NEW_FILE).")


def _listed(names: Sequence[str], count: int = 20) -> str:
    more = f' and {len(names) - count} more' if len(names) > count else ''
    return ', '.join(map(str, names[:count])) + more
