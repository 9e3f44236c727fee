"""Gradients at the weights of one layer, from those at the output and without the rest of the network."""
from collections import deque

import torch
from torch import Tensor, nn

from basicsr_nriqa.suggestion import suggest

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def weight_of(network: nn.Module, layer: str) -> nn.Parameter:
    """The weights of a layer.

    Args:
        network (nn.Module): The bare network.
        layer (str): The name of a module.

    Returns:
        nn.Parameter: Its weights.

    Raises:
        ValueError: there is no such layer, or it has no weights.
    """
    layers = {name: module.weight for name, module in network.named_modules()
              if isinstance(getattr(module, 'weight', None), nn.Parameter)}
    if layer not in layers:
        raise ValueError(f"layer: {type(network).__name__} has no layer with weights called '{layer}'"
                         f"{suggest(layer, layers)}; 'last' and 'output' are possible too.")
    return layers[layer]


def last_convolution(network: nn.Module, output: Tensor) -> tuple[str, nn.Parameter]:
    """The convolution that is nearest to the output, whatever the order in which the network made its layers.

    Args:
        network (nn.Module): The bare network.
        output (Tensor): What it returned, with its graph.

    Returns:
        tuple[str, nn.Parameter]: The module's name, and its weights.

    Raises:
        ValueError: there is none that gets a gradient.
    """
    convolutions = {module.weight: name for name, module in network.named_modules()
                    if isinstance(module, _CONVOLUTIONS)}
    nodes, seen = deque([] if output.grad_fn is None else [output.grad_fn]), set()
    while nodes:
        node = nodes.popleft()
        weight = getattr(node, 'variable', None)  # of the nodes that add to a parameter's gradient
        if weight in convolutions:
            return convolutions[weight], weight
        for before, _ in node.next_functions:  # in their order: all ranks, and a resumed training, find the same one
            if before is not None and before not in seen:
                seen.add(before)
                nodes.append(before)
    raise ValueError(f"layer: {type(network).__name__} has no convolution that is trained; name a layer, or say "
                     "'output'.")


def gradients_at(weight: nn.Parameter, output: Tensor, gradients: Tensor) -> Tensor:
    """Gradients of the losses at a layer's weights.

    Only what lies between the layer and the output is gone through, once for all losses, and the graph is kept.

    Args:
        weight (nn.Parameter): The layer's weights, which require a gradient.
        output (Tensor): What the network returned, with its graph.
        gradients (Tensor): (losses, elements of the output), float32 or as the output.

    Returns:
        Tensor: (losses, elements of the weights), of the gradients' type.

    Raises:
        RuntimeError: the output does not depend on the weights.
    """
    # each to a length of 1: those of quality metrics would vanish in half precision, and larger ones add up to infinity
    lengths = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
    lengths = torch.where(lengths > 0, lengths, torch.ones_like(lengths))
    scaled = (gradients / lengths).to(output.dtype).view(-1, *output.shape)
    at_weight, = torch.autograd.grad(output, weight, scaled, retain_graph=True, is_grads_batched=True)
    return at_weight.flatten(1).to(lengths) * lengths
