import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from basicsr_nriqa.archs import window_attention
from basicsr_nriqa.archs.window_attention import (
    WindowAttention,
    attention,
    cut_windows,
    from_windows,
    relative_position_index,
    sine_position,
    to_windows,
)

CPU = torch.device('cpu')
EXTENTS = st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9))
WINDOWS = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))


def naive(qkv, bias, scale, mutual):
    """The definition, window by window."""
    output = torch.empty(qkv.shape[0], qkv.shape[1], *qkv.shape[3:], dtype=qkv.dtype)
    half = qkv.shape[1] // 2
    sides = [(slice(half), slice(half, None)), (slice(half, None), slice(half))] if mutual else [(slice(None),) * 2]
    for window, head, (asked, asking) in product(range(len(qkv)), range(qkv.shape[3]), sides):
        q, k, v = qkv[window, asking, 0, head], qkv[window, asked, 1, head], qkv[window, asked, 2, head]
        scores = scale * q @ k.T
        if bias is not None:
            scores = scores + bias[head if len(bias) > 1 else 0]
        output[window, asked, head] = scores.softmax(1) @ v
    return output.flatten(2)


@settings(deadline=None, max_examples=60)
@given(EXTENTS, WINDOWS, st.booleans())
def test_windows_hold_every_token_once_and_give_the_clip_back(extent, window, shifted):
    windows = cut_windows(extent, window, shifted, CPU)
    x = torch.rand(2, *extent, 3)
    tokens = to_windows(x, windows)
    assert tokens.shape[1] == sum(windows.counts) * math.prod(windows.size)
    assert tokens.count_nonzero() == x.count_nonzero()
    assert torch.equal(from_windows(tokens, windows, extent), x)


@settings(deadline=None, max_examples=60)
@given(EXTENTS, WINDOWS, st.booleans())
def test_masks_part_what_is_no_neighbour_in_the_clip(extent, window, shifted):
    """Two tokens of a window see each other exactly where their distance in the clip is that in the window."""
    windows = cut_windows(extent, window, shifted, CPU)
    padded = [whole + more for whole, more in zip(extent, windows.padding)]
    place = torch.stack(torch.meshgrid(*(torch.arange(side) for side in padded), indexing='ij'), dim=3)
    in_clip = place.flatten(0, 2)[windows.order].view(-1, math.prod(windows.size), 3)
    within = torch.cartesian_prod(*(torch.arange(side) for side in windows.size)).view(-1, 3)
    masks = [mask for count, mask in zip(windows.counts, windows.masks) for _ in range(count)]
    for places, mask in zip(in_clip, masks, strict=True):
        together = ((places[:, None] - places[None]) == (within[:, None] - within[None])).all(2)
        masked = torch.zeros(together.shape, dtype=torch.bool) if mask is None else mask == -100
        assert torch.equal(masked, ~together)


def test_windows_planned_in_inference_mode_serve_training_too():
    with torch.inference_mode():
        windows = cut_windows((3, 5, 6), (2, 3, 3), True, CPU)
    x = torch.rand(1, 3, 5, 6, 2, requires_grad=True)
    to_windows(x, windows).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_windows_are_moved_by_half_their_size_but_not_where_there_is_one_only():
    windows = cut_windows((2, 8, 4), (2, 4, 4), True, CPU)
    first = windows.order[:math.prod(windows.size)]
    assert first.tolist() == [frame * 32 + row * 4 + column for frame in (0, 1) for row in (2, 3, 4, 5)
                              for column in range(4)]


@pytest.mark.parametrize('mutual', [False, True])
@pytest.mark.parametrize('heads_of_bias', [3, 1, None])
@pytest.mark.parametrize('how', ['cpu', 'fused'])
def test_attention_is_its_definition_in_value_and_gradient(mutual, heads_of_bias, how):
    qkv = torch.randn(5, 6, 3, 3, 5, dtype=torch.double, requires_grad=True)
    tokens = 3 if mutual else 6
    inputs = [qkv]
    if heads_of_bias:
        inputs.append(torch.randn(heads_of_bias, tokens, tokens, dtype=torch.double, requires_grad=True))
    bias = inputs[1] if heads_of_bias else None
    compute = attention if how == 'cpu' else window_attention._fused_attention
    output, expected = compute(qkv, bias, 0.3, mutual), naive(qkv, bias, 0.3, mutual)
    torch.testing.assert_close(output, expected)
    direction = torch.randn_like(output)
    torch.testing.assert_close(torch.autograd.grad(output, inputs, direction),
                               torch.autograd.grad(expected, inputs, direction))


@pytest.mark.parametrize('together', [1, 10 ** 6])
def test_how_many_windows_are_handled_at_once_changes_nothing(monkeypatch, together):
    qkv, bias = torch.randn(5, 6, 3, 2, 4, requires_grad=True), torch.randn(2, 6, 6, requires_grad=True)
    direction = torch.randn(5, 6, 8)
    expected = torch.autograd.grad(naive(qkv, bias, 1.0, False), (qkv, bias), direction)
    monkeypatch.setattr(window_attention, 'CACHED_NUMBERS', together)
    torch.testing.assert_close(torch.autograd.grad(attention(qkv, bias), (qkv, bias), direction), expected)


def test_the_custom_operator_keeps_torchs_rules():
    qkv = torch.randn(3, 4, 3, 2, 4, requires_grad=True)
    bias = torch.randn(2, 4, 4, requires_grad=True)
    torch.library.opcheck(window_attention._cpu_attention, (qkv, bias, 0.5, False))
    torch.library.opcheck(window_attention._cpu_attention, (qkv, None, 0.5, True))


def test_half_precision_stays_close():
    qkv, bias = torch.randn(5, 6, 3, 2, 4, requires_grad=True), torch.randn(2, 6, 6, requires_grad=True)
    direction = torch.randn(5, 6, 8)
    expected = attention(qkv, bias)
    gradients = torch.autograd.grad(expected, (qkv, bias), direction)
    output = attention(qkv.bfloat16(), bias)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), expected, rtol=0, atol=0.05)
    mixed = torch.autograd.grad(output, (qkv, bias), direction.bfloat16())
    torch.testing.assert_close(mixed, gradients, rtol=0, atol=0.1)


def test_index_names_one_row_for_one_displacement():
    window = (2, 3, 2)
    index = relative_position_index(window)
    places = torch.cartesian_prod(*(torch.arange(side) for side in window))
    rows = {}
    for i, j in product(range(12), repeat=2):
        rows.setdefault(tuple((places[i] - places[j]).tolist()), set()).add(index[i, j].item())
    assert all(len(row) == 1 for row in rows.values())
    assert sorted(row.pop() for row in rows.values()) == list(range(3 * 5 * 3))
    assert index[0, -1] == 0  # the first token is as far before the last as can be


def test_sine_position_is_rows_then_columns():
    position = sine_position((3, 2), 4).view(3, 2, 8)
    assert torch.equal(position[:, 0, :4], position[:, 1, :4])
    assert torch.equal(position[0, :, 4:], position[2, :, 4:])
    torch.testing.assert_close(position[0, 0, :2], torch.tensor([2 * math.pi / 3, 2 * math.pi / 3]).add_(
        torch.tensor([0, math.pi / 2])).sin(), atol=1e-5, rtol=0)


def test_bias_follows_a_moving_average_of_the_table():
    """BasicSR updates it through ``.data``, which changes neither the tensor nor its version."""
    module = WindowAttention(4, (2, 2, 2), 2).eval()
    windows = cut_windows((2, 4, 4), (2, 2, 2), True, CPU)
    tokens = torch.rand(1, 32, 4)
    with torch.no_grad():
        before = module(tokens, windows)
        module.relative_position_bias_table.data.mul_(0.5).add_(torch.randn(27, 2))
        after = module(tokens, windows)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, module(tokens, windows).detach())


def test_bias_of_a_smaller_window_is_that_of_its_tokens():
    module = WindowAttention(4, (2, 3, 2), 2)
    full, part = module._bias((2, 3, 2)).view(2, 2, 3, 2, 2, 3, 2), module._bias((1, 2, 2)).view(2, 1, 2, 2, 1, 2, 2)
    assert torch.equal(full[:, :1, :2, :2, :1, :2, :2], part)
