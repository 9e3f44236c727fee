"""Weights and clips that are equal on every machine, and the comparison with recorded outputs.

The random numbers come from numpy's legacy generator, which numpy promises never to change, seeded by the weight's
name; so nothing needs to be stored but a few output values. The same rule made the parity data beside the repository.
"""
import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

PARITY = Path(__file__).resolve().parents[3] / 'shared' / 'parity'
CONSTANTS = ('mean', 'std', 'position_bias', 'attn_mask')


def filled(shapes, gain=1.0):
    """State_dict {name: float32 tensor} for {name: shape}, without the constants."""
    state_dict = {}
    for name, shape in shapes.items():
        if name.rpartition('.')[2] in CONSTANTS:
            continue
        numel = math.prod(shape)
        noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(numel)
        if name.endswith('running_var'):
            values = 1 + 0.2 * np.tanh(noise)
        elif name.endswith('running_mean'):
            values = 0.1 * noise
        elif len(shape) >= 2:
            values = gain * noise / math.sqrt(numel / shape[0])
        elif name.endswith('weight'):
            values = 1 + 0.1 * noise if numel > 1 else 0.25 + 0.05 * noise
        else:
            values = 0.02 * noise
        state_dict[name] = torch.from_numpy(values).reshape(shape).float()
    return state_dict


def fill(network, gain=1.0):
    """The network, with every floating-point weight filled."""
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items() if tensor.is_floating_point()}
    network.load_state_dict(filled(shapes, gain), strict=False)
    return network


def clip(n, t, c, h, w, seed=0):
    """(n, t, c, h, w) float32 in [0, 1]: waves that move from frame to frame and differ from clip to clip."""
    n, t, c, y, x = torch.meshgrid(*(torch.arange(size).double() for size in (n, t, c, h, w)), indexing='ij')
    across = torch.sin(0.31 * x + 0.17 * t + c + seed + 0.4 * n)
    down = torch.cos(0.23 * y - 0.13 * t + 0.5 * c)
    return (0.5 + 0.25 * across + 0.2 * down).float()


def assert_recorded(output, recorded, tolerance=2e-4):
    """Compare an output with {shape, mean, std, index, value}; index, where absent, means evenly spaced positions."""
    flat = output.detach().double().flatten()
    value = torch.tensor(recorded['value'], dtype=torch.float64)
    index = recorded.get('index', torch.linspace(0, flat.numel() - 1, len(value)).round().long())
    limit = tolerance * max(1, recorded['std'])
    assert list(output.shape) == recorded['shape']
    assert (flat[index] - value).abs().max() <= limit
    assert abs(flat.mean() - recorded['mean']) <= limit
    assert abs(flat.std() - recorded['std']) <= limit


def parity(name):
    """The parity data of that name; the test is skipped where it is not there."""
    path = PARITY / f'{name}.json'
    if not path.is_file():
        pytest.skip(f'no parity data {path.name}')
    return json.loads(path.read_text())
