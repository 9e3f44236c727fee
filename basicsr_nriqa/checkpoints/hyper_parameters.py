"""The options that a checkpoint's network was built with, read off the shapes of its weights."""
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from basicsr_nriqa.checkpoints.layouts import identify

Shapes = Mapping[str, tuple[int, ...]]  # of weights by their names

_RBPN_SCALES = {6: 2, 8: 4, 12: 8}  # size of the projections' kernels -> scale


def network_options(content: Mapping[str, Any]) -> dict[str, Any]:
    """Options with which BasicSR's ``build_network`` builds the network of a checkpoint.

    What leaves no trace in the weights is left out and so has its default: what a network does about memory, dropout,
    ``max_residue_magnitude``, ``qk_scale`` and VRT's ``img_size``, which matters only where ``pa_frames`` is 0.

    Args:
        content (Mapping[str, Any]): what the checkpoint file holds, of any layout that
            :func:`~basicsr_nriqa.checkpoints.recognise` knows.

    Returns:
        dict[str, Any]: ``type`` and the hyper-parameters. VRT's ``window_size`` is left out where its windows are not
        square, since their shape cannot be read. A checkpoint of RBPN alone gives the options of ISeeBetter.

    Raises:
        ValueError: no network known here.
    """
    arch, _, _, state_dict = identify(content)
    return options_of(arch, state_dict)


def options_of(arch: str, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """:func:`network_options` of a state_dict with the network's own names.

    Raises:
        ValueError: weights are missing, so the options cannot be read.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in state_dict.items()}
    try:
        return _READERS[arch](shapes)
    except (KeyError, IndexError, StopIteration, ValueError, ZeroDivisionError) as error:
        missing = error.args[0] if isinstance(error, KeyError) else None
        what = f'{missing} is missing' if isinstance(missing, str) else 'some are missing, or have no usual shape'
        raise ValueError(f'The options of this {arch} cannot be read off its weights: {what}. The file may be '
                         'incomplete.') from error


def _basicvsrpp(shapes: Shapes) -> dict[str, Any]:
    return {'type': 'BasicVSRPP', 'mid_channels': shapes['upconv1.weight'][1],
            'num_blocks': _count(r'backbone\.backward_1\.main\.2\.(\d+)\.', shapes),
            'is_low_res_input': 'feat_extract.main.0.weight' in shapes}


def _rbpn(shapes: Shapes, prefix: str = '') -> dict[str, Any]:
    num_feat, base_filter = shapes[f'{prefix}DBPN.feat1.conv.weight'][:2]
    return {'type': 'ISeeBetter', 'base_filter': base_filter, 'num_feat': num_feat,
            'num_stages': shapes[f'{prefix}DBPN.output.conv.weight'][1] // num_feat,
            'num_block': _count(re.escape(prefix) + r'res_feat1\.(\d+)\.conv1\.', shapes),
            'num_frame': shapes[f'{prefix}output.conv.weight'][1] // num_feat + 1,
            'scale': _RBPN_SCALES[shapes[f'{prefix}DBPN.up1.up_conv1.deconv.weight'][2]], 'frames': 'all'}


def _vrt(shapes: Shapes) -> dict[str, Any]:
    stages = [f'stage{number}' for number in range(1, 8)]
    tail = [f'stage8.{number}' for number in range(1, 1 + _count(r'stage8\.(\d+)\.linear\.', shapes, first=1))]
    mutual = [_count(rf'{stage}\.residual_group1\.blocks\.(\d+)\.', shapes) for stage in stages]
    depths = [count + _count(rf'{stage}\.residual_group2\.blocks\.(\d+)\.', shapes)
              for stage, count in zip(stages, mutual)]
    depths += [_count(rf'{re.escape(stage)}\.residual_group\.blocks\.(\d+)\.', shapes) for stage in tail]
    dims = [shapes[f'{stage}.linear1.weight'][0] for stage in stages]
    dims += [shapes[f'{stage}.linear.weight'][0] for stage in tail]

    # every block of a group has tables of one size, so the first is enough
    tables = {name.removesuffix('.blocks.0.attn.relative_position_bias_table'): shape
              for name, shape in shapes.items() if name.endswith('.blocks.0.attn.relative_position_bias_table')}
    heads = [next(shape[1] for group, shape in tables.items() if group.startswith(f'{stage}.'))
             for stage in (*stages, *tail)]
    hidden = [(dim, next(shape[0] for name, shape in shapes.items()
                         if name.startswith(f'{stage}.residual_group') and name.endswith('.mlp.fc11.weight')))
              for stage, dim in zip((*stages, *tail), dims)]
    windows = _vrt_windows(tables, tail, shapes)
    return {'type': 'VRT', 'upscale': _vrt_upscale(shapes), 'out_chans': shapes['conv_last.weight'][0],
            **_vrt_frames(shapes, windows.get('window_size')), **windows, 'depths': depths, 'embed_dims': dims,
            'num_heads': heads, 'mlp_ratio': _ratio(hidden, 2), 'mul_attn_ratio': _ratio([*zip(depths, mutual)], 0.75),
            'qkv_bias': any(name.endswith('attn.qkv_self.bias') for name in shapes)}


def _vrt_upscale(shapes: Shapes) -> int:
    """One convolution for each step, and a last one: (x2)*, or x3."""
    steps = sorted(name for name in shapes if re.fullmatch(r'upsample\.\d+\.weight', name))
    if not steps:
        return 1
    out_channels, in_channels = shapes['upsample.0.weight'][:2]
    return 3 if out_channels == 9 * in_channels else 2 ** (len(steps) - 1)


def _vrt_windows(tables: Shapes, tail: Sequence[str], shapes: Shapes) -> dict[str, Any]:
    """The window, and the tail's stages whose window is one frame, from tables of (2t-1) * (2h-1) * (2w-1) rows."""
    sides = {_side_of_mutual(shape) for group, shape in tables.items() if group.endswith('residual_group1')}
    full = {group: shape[0] for group, shape in tables.items() if not group.endswith('residual_group1')}
    if not sides:  # no mutual attention, so the number of tokens in a window is needed too
        sides = {_side_of_any(rows, shapes.get(f'{group}.blocks.0.attn.relative_position_index'))
                 for group, rows in full.items()}
    side = sides.pop()
    if side is None or sides:
        return {}
    frames = {group: (rows // (2 * side - 1) ** 2 + 1) // 2 for group, rows in full.items()}
    deepest = max(frames.values(), default=1)
    single = [7 + number for number, stage in enumerate(tail) if frames[f'{stage}.residual_group'] == 1 < deepest]
    return {'window_size': [deepest, side, side], 'indep_reconsts': single}


def _side_of_mutual(table: Sequence[int]) -> int | None:
    """Mutual attention's windows have two frames: 3 * (2s-1)**2 rows."""
    root = math.isqrt(table[0] // 3)
    return (root + 1) // 2 if 3 * root ** 2 == table[0] and root % 2 else None


def _side_of_any(rows: int, index: Sequence[int] | None) -> int | None:
    """The side of a square window of index[0] tokens with a table of so many rows."""
    tokens = index[0] if index else 0
    for side in range(1, math.isqrt(tokens) + 1):
        if tokens % side ** 2 == 0 and (2 * tokens // side ** 2 - 1) * (2 * side - 1) ** 2 == rows:
            return side
    return None


def _vrt_frames(shapes: Shapes, window_size: Sequence[int] | None) -> dict[str, Any]:
    """How many frames are warped, and what the first convolution takes."""
    in_channels = shapes['conv_first.weight'][1]
    dim = shapes['stage1.linear1.weight'][0]
    if 'linear_fuse.weight' in shapes:
        size = 8 * window_size[1] if window_size else 64  # any multiple of the window will do
        return {'in_chans': in_channels, 'pa_frames': 0,
                'img_size': [shapes['linear_fuse.weight'][1] // dim, size, size]}
    # the input, and for both directions the four pixels that each pixel's flow points at; then the noise level
    in_chans, noise_level = divmod(in_channels, 9)
    condition = shapes['stage1.pa_deform.conv_offset.0.weight'][1]  # frame, k warped frames, k flows
    return {'in_chans': in_chans, 'pa_frames': 2 * ((condition - dim) // (dim + 2)),
            'deformable_groups': shapes['stage1.pa_deform.conv_offset.6.weight'][0] // 27,
            'nonblind_denoising': bool(noise_level)}


def _count(pattern: str, names: Iterable[str], first: int = 0) -> int:
    """How many numbers, counted up from ``first``, the names have at the pattern's group."""
    found = {int(match[1]) for match in (re.match(pattern, name) for name in names) if match}
    if found != set(range(first, first + len(found))):
        raise ValueError(f'numbers {sorted(found)} at {pattern}')
    return len(found)


def _ratio(pairs: Sequence[tuple[int, int]], usual: float) -> float:
    """A short number r with int(whole * r) == part for every pair (whole, part); ``usual`` where that is one."""
    lowest = max(part / whole for whole, part in pairs)
    for digits in range(17):
        candidate = usual if not digits else math.ceil(lowest * 10 ** (digits - 1)) / 10 ** (digits - 1)
        if all(int(whole * candidate) == part for whole, part in pairs):
            return candidate
    raise ValueError(f'no ratio gives {pairs}')


_READERS = {
    'SpyNet': lambda shapes: {'type': 'SpyNet'},
    'BasicVSRPP': _basicvsrpp,
    'VRT': _vrt,
    'RBPN': _rbpn,
    'ISeeBetter': lambda shapes: _rbpn(shapes, 'rbpn.'),
    'SRGANDiscriminator': lambda shapes: {'type': 'SRGANDiscriminator'},
}
