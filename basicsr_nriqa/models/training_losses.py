"""The losses of a training by name, made as its options say and used such that what fails names its option."""
from contextlib import nullcontext
from typing import Any

from basicsr.losses import build_loss
from torch import Tensor, nn

from basicsr_nriqa.models.option_errors import made_from, used_on
from basicsr_nriqa.options import OptionsError

_EXPECTED = ('A loss here returns one number for (output, gt). For quality metrics there is IQALoss, for features of '
             'VGG there is VGGFeatureLoss.')

_EXPECTED_DISCRIMINATOR = 'A discriminator here takes images (n,3,h,w) of the size of GT, as SRGANDiscriminator does.'


def build_losses(train_opt: dict[str, Any]) -> dict[str, nn.Module]:
    """Make the losses of ``pixel_opt``, which is called ``pix``, and of ``iqa_opt``.

    Args:
        train_opt (dict[str, Any]): ``train`` of the options.

    Returns:
        dict[str, nn.Module]: By name.

    Raises:
        OptionsError: there is none, or one cannot be made; the message names its option.
        MetricError: a metric is unknown, its weights are missing, or it is none that a loss accepts.
    """
    options = {'pix': train_opt['pixel_opt']} if train_opt.get('pixel_opt') else {}
    options.update(train_opt.get('iqa_opt') or {})
    if not options:
        raise OptionsError('train: there is no loss. Give pixel_opt, iqa_opt or both.')
    losses = {}
    for name, loss_opt in options.items():
        with made_from(_option_of(name), loss_opt['type']):
            losses[name] = build_loss(loss_opt)
    return losses


def value_of(name: str, loss: nn.Module, output: Tensor, gt: Tensor, first: bool) -> Tensor:
    """The value of a loss.

    Args:
        name (str): What it is called.
        loss (nn.Module): It.
        output, gt (Tensor): Of one shape.
        first (bool): It has not worked before, so that its option is to blame if it fails.

    Returns:
        Tensor: 0-d.

    Raises:
        OptionsError: it fails at first, or does not return one number.
    """
    where, kind = _option_of(name), type(loss).__name__
    expected = _EXPECTED_DISCRIMINATOR if name == 'gan' else _EXPECTED
    with used_on(where, kind, f'output and GT of shape {tuple(gt.shape)}', expected) if first else nullcontext():
        value = loss(output, gt)
    if not isinstance(value, Tensor) or value.ndim:
        raise OptionsError(f'{where}: {kind} does not return one number. {_EXPECTED}')
    return value


def _option_of(name: str) -> str:
    return {'pix': 'train:pixel_opt', 'gan': 'network_d'}.get(name, f'train:iqa_opt:{name}')
