"""What makes the metrics' networks cheap as losses: fused normalisation, recomputation, crops taken once."""
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, TypeVar
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from basicsr_nriqa.recompute import recomputed

_Network = TypeVar('_Network', bound=nn.Module)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def channels_last(images: Tensor) -> Tensor:
    """The same images in the memory layout in which convolutions are fastest (10 to 25 % on CPUs)."""
    return images.contiguous(memory_format=torch.channels_last)


class Normalize(nn.Module):
    """(x - mean) / std by channel, in channels-last layout; the constants follow the device, in no state_dict."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> None:
        super().__init__()
        self.register_buffer('mean', torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return channels_last((images - self.mean) / self.std)


def adopt_tensors(network: _Network) -> _Network:
    """Make buffers of tensors that are plain attributes, so that they are not copied to the device at every call."""
    for module in network.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, torch.Tensor):
                delattr(module, name)
                module.register_buffer(name, value, persistent=False)
    return network


def speed_up(network: _Network) -> _Network:
    """The same function in less time and memory: channels-last weights, BatchNorm2d folded into the convolution before.

    Pairs are neighbours in an nn.Sequential, and attributes ``conv*`` and ``bn*`` of one module. An activation that
    timm keeps inside its normalisation stays.
    """
    network.eval()
    for module in list(network.modules()):
        children = dict(module.named_children())
        if isinstance(module, nn.Sequential):
            names = list(children)
            pairs = list(pairwise(names))
        else:
            pairs = [(name, name.replace('conv', 'bn', 1)) for name in children if name.startswith('conv')]
        for conv_name, norm_name in pairs:
            conv, norm = children[conv_name], children.get(norm_name)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, getattr(norm, 'act', nn.Identity()))
    return network.to(memory_format=torch.channels_last)


class Recomputed(nn.Module):
    """A part of a network that keeps nothing for the backward pass and runs again in it."""

    def __init__(self, module: Callable[..., Any]) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Any:
        return recomputed(self.module, *inputs)


def blocks(network: nn.Module) -> list[tuple[nn.Module, str]]:
    """The smallest parts worth recomputing: children that are neither single layers nor nn.Sequential.

    Returns:
        list[tuple[nn.Module, str]]: Parent and name of each.
    """
    found = []
    for name, child in network.named_children():
        if isinstance(child, nn.Sequential):
            found += blocks(child)
        elif any(True for _ in child.children()):
            found.append((network, name))
    return found


def recompute(parts: Sequence[tuple[nn.Module, str]]) -> None:
    """Wrap children in :class:`Recomputed`. The smaller the parts, the lower the peak of memory.

    Args:
        parts (list[tuple[nn.Module, str]]): Parent and name of the child.
    """
    for parent, name in parts:
        parent._modules[name] = Recomputed(parent.get_submodule(name))


def enlarge(images: Tensor, window: int) -> Tensor:
    """Images whose shorter side is not larger than the window, enlarged until it is ``window + 1``, as pyiqa does."""
    shorter = min(images.shape[-2:])
    if shorter > window:
        return images
    return F.interpolate(images, scale_factor=(window + 1) / shorter, mode='bilinear')


def uniform_crops(images: Tensor, window: int, count: int) -> tuple[Tensor, Tensor]:
    """pyiqa's grid of crops, each different place only once.

    Args:
        images (Tensor): (n,3,h,w).
        window (int): Side of a crop.
        count (int): Crops of pyiqa's grid.

    Returns:
        tuple[Tensor, Tensor]: (n*k,3,window,window), the crops of an image side by side, and (k,): how many of the
        ``count`` crops each stands for.
    """
    images = enlarge(images, window)
    side, spaces = int((count - 1)**0.5) + 1, int(count**0.5)
    step = [(size - window) // spaces for size in images.shape[-2:]]
    places = Counter([(row * step[0], column * step[1]) for row in range(side) for column in range(side)][:count])
    crops = [images[..., top:top + window, left:left + window] for top, left in places]
    return torch.stack(crops, 1).flatten(0, 1), images.new_tensor(list(places.values()))


def random_crops(images: Tensor, window: int, count: int) -> tuple[Tensor, Tensor]:
    """Crops at places drawn for each image with torch's generator; an enlarged axis has one place only.

    Returns:
        tuple[Tensor, Tensor]: As :func:`uniform_crops`, each crop standing for one.
    """
    enlarged = min(images.shape[-2:]) <= window
    images = enlarge(images, window)
    room = [0 if enlarged and size == window + 1 else size - window for size in images.shape[-2:]]
    if not any(room):
        count = 1
    places = [torch.randint(space + 1, (len(images), count)).tolist() for space in room]
    crops = [image[:, top:top + window, left:left + window]
             for image, tops, lefts in zip(images, *places) for top, left in zip(tops, lefts)]
    return torch.stack(crops), images.new_ones(count)


@contextmanager
def no_downloads() -> Iterator[None]:
    """pyiqa asks timm for ImageNet weights even if the metric's own weights, which hold all of it, are loaded next."""
    import timm
    create_model = timm.create_model

    def without_weights(name: str, pretrained: bool = False, **options: Any) -> nn.Module:
        return create_model(name, pretrained=False, **options)

    with patch.object(timm, 'create_model', without_weights):
        yield
