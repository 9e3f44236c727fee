"""Loss weights of quality metrics from measurements on a data set (Kashkarov et al., Sec. II.B and Conclusion).

On random crops of clips, as training would see them, every metric is measured as the loss that it would be, with the
options of the catalogue for training:

- its typical score s, the median over clips of the mean score of the frames: of no-reference metrics on GT, since the
  paper weights by "typical values for real images"; of full-reference ones at the output, because of GT compared with
  itself it says nothing;
- the norm of the gradient of that mean score at the output, the median over clips.

The same of the Charbonnier loss at the output, value P and gradient g_pixel, is the yardstick. Two rules give weights:

=============  =======================================================================================================
``value``      abs(w) * abs(s) = share * P. Sec. II.B: each term starts at the same share of the pixel loss. Weights
               are inverse to scores, so a metric that scores to 100 gets a hundredth of the weight of one that scores
               to 1, as in Table I: 0.00005 and 0.005, which is share * P = 0.003 for scores of 60 and 0.6. (Table I's
               PieAPP, and NIMA if its scores go to 10, do not follow the rule.)
``gradient``   abs(w) * norm(g_metric) = share * norm(g_pixel). The future work of the paper's Conclusion: each term
               starts with the same share of the pixel loss's pull.
=============  =======================================================================================================

A larger batch shrinks all norms alike, so the weights hold for any. They depend on the size of the crops, which should
be that of the training (``gt_size``).
"""
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from basicsr.archs import build_network
from basicsr.losses.basic_loss import CharbonnierLoss
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from tqdm import tqdm

from basicsr_nriqa.checkpoints import load_pretrained
from basicsr_nriqa.data.bicubic import imresize
from basicsr_nriqa.data.clip_dataset import ClipTestDataset
from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.iqa import metric_info
from basicsr_nriqa.losses.iqa_loss import IQALoss
from basicsr_nriqa.models.option_errors import made_from
from basicsr_nriqa.options import OptionsError, read_options
from basicsr_nriqa.suggestion import suggest

Rule = Literal['value', 'gradient']
RULES: tuple[Rule, Rule] = ('value', 'gradient')
PIXEL = 'charbonnier'
Loss: TypeAlias = IQALoss | CharbonnierLoss
_FRAMES = 7  # of a clip: those of Vimeo-90K, and the paper's limit for all videos


class Crops:
    """Random crops of random clips, the same ones each time they are read.

    Iterating gives pairs of LR (1,t,3,crop/scale,crop/scale) and GT (1,t,3,crop,crop), float32 RGB in [0,1], t at
    most 7.

    Args:
        gt, lq (str | Path): Both ``NAME.lmdb``, or both folder trees whose innermost folders are clips.
        scale (int): Size of GT over size of LR.
        clips (int): How many; all where there are fewer.
        crop (int): Side of a GT crop in pixels, divisible by ``scale``.
        seed (int): For the choice of clips and of places.

    Raises:
        DataError: the data are missing, damaged or of the wrong size, or the crops do not fit; now or when read.
    """

    def __init__(self, gt: str | Path, lq: str | Path, scale: int = 4, clips: int = 20, crop: int = 256,
                 seed: int = 0) -> None:
        kinds = ['lmdb' if Path(root).suffix == '.lmdb' else 'disk' for root in (gt, lq)]
        if kinds[0] != kinds[1]:
            raise DataError(f'GT {gt} and LR {lq}: give two databases (.lmdb) or two folders.')
        if crop % scale:
            raise DataError(f'crop: {crop} is not divisible by the scale {scale}; '
                            f'{max(1, crop // scale) * scale} is.')
        self.dataset = ClipTestDataset({'dataroot_gt': gt, 'dataroot_lq': lq, 'io_backend': {'type': kinds[0]},
                                        'scale': scale, 'num_frame': _FRAMES})
        self.scale, self.crop, self.seed = scale, crop, seed
        order = torch.randperm(len(self.dataset), generator=torch.Generator().manual_seed(seed))
        self.chosen = order[:clips].tolist()

    def __len__(self) -> int:
        return len(self.chosen)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self.seed)
        side = self.crop // self.scale
        for index in self.chosen:
            item = self.dataset[index]
            height, width = item['lq'].shape[-2:]
            if min(height, width) < side:
                raise DataError(f"clip '{item['folder']}': LR frames are {width}x{height}, too small for a crop of "
                                f'{self.crop} px at scale {self.scale}; {min(height, width) * self.scale} fits.')
            top, left = (int(torch.randint(size - side + 1, (), generator=generator)) for size in (height, width))
            yield tuple(item[kind][None, ..., factor * top:factor * (top + side), factor * left:factor * (left + side)]
                        for kind, factor in (('lq', 1), ('gt', self.scale)))


def bicubic(scale: int) -> Callable[[Tensor], Tensor]:
    """A function that enlarges clips (n,t,3,h,w) -> (n,t,3,s*h,s*w) as :func:`imresize`; not clipped."""
    return lambda lq: imresize(lq.flatten(0, 1), scale).unflatten(0, lq.shape[:2])


def trained_network(path: str | Path) -> nn.Module:
    """The network that training with an option file would start from.

    Args:
        path (str | Path): Options; ``network_g`` and ``path:pretrain_network_g`` are used. Averaged weights are taken
            where the checkpoint has them.

    Returns:
        nn.Module: (n,t,3,h,w) -> (n,t,3,s*h,s*w), frozen, in eval mode, on the CPU.

    Raises:
        OptionsError: the options cannot be read, name no network or no checkpoint, or the network cannot be built.
        FileNotFoundError: the checkpoint is not there.
        ValueError: the checkpoint is damaged or does not fit the network.
    """
    options = read_options(path)
    network_opt, checkpoint = options.get('network_g'), (options.get('path') or {}).get('pretrain_network_g')
    if not isinstance(network_opt, dict) or not isinstance(network_opt.get('type'), str):
        raise OptionsError(f'{path}: network_g is missing, or its type; that network makes the output.')
    if not checkpoint:
        raise OptionsError(f'{path}: path:pretrain_network_g is missing; it names the weights that make the output.')
    if network_opt['type'] not in ARCH_REGISTRY:
        raise OptionsError(f"{path}: network_g:type: no network is called '{network_opt['type']}'"
                           f"{suggest(network_opt['type'], ARCH_REGISTRY.keys())}.")
    with made_from(f'{path}: network_g', network_opt['type']):
        network = build_network(network_opt)
    load_pretrained(network, checkpoint)
    return network.eval().requires_grad_(False)


def unit_losses(metrics: Iterable[str]) -> dict[str, Loss]:
    """The Charbonnier loss and one loss for each metric, all with the weight 1 or, where higher is better, -1.

    Returns:
        dict[str, nn.Module]: Under ``PIXEL`` and the metrics' names.

    Raises:
        MetricError: a metric is unknown, its weights are missing, or it is none that a loss accepts.
    """
    infos = [metric_info(metric) for metric in dict.fromkeys(metrics)]  # all names, before the first is built
    return {PIXEL: CharbonnierLoss(), **{info.name: IQALoss(info.name, 1 if info.lower_better else -1)
                                         for info in infos}}


@dataclass(frozen=True)
class Measurement:
    """What one loss is on a data set.

    Attributes:
        name (str): The metric, or ``PIXEL``.
        sign (int): Of a weight that trains for better images.
        on_gt (bool): The scores are those of GT, not of the output.
        scores (tuple[float]): Mean score of each clip.
        norms (tuple[float]): Norm of the gradient of the mean score at the output, for each clip.
    """

    name: str
    sign: int
    on_gt: bool
    scores: tuple[float, ...]
    norms: tuple[float, ...]

    @property
    def typical(self) -> float:
        return float(np.median(self.scores))

    @property
    def quartiles(self) -> tuple[float, float]:
        return tuple(np.quantile(self.scores, (0.25, 0.75)).tolist())

    @property
    def norm(self) -> float:
        return float(np.median(self.norms))

    @property
    def problem(self) -> str:
        """Why no weight follows from this, or nothing. One clip without a finite gradient would end a training."""
        for what, values in (('score', self.scores), ('gradient', self.norms)):
            bad = sum(not math.isfinite(value) for value in values)
            if bad:
                return f'its {what} is not finite on {bad} of {len(values)} clips'
        if not self.norm:
            return f'its gradient is zero on {self.norms.count(0)} of {len(self.norms)} clips'
        return '' if self.typical else 'its typical score is zero'

    def weight(self, pixel: 'Measurement', share: float, rule: Rule) -> float:
        """The ``loss_weight`` that a rule proposes, with its sign.

        Args:
            pixel (Measurement): Of the Charbonnier loss.
            share (float): Of the pixel loss, positive.
            rule (str): One of ``RULES``.
        """
        if rule == 'value':
            return self.sign * share * pixel.typical / abs(self.typical)
        return self.sign * share * pixel.norm / self.norm


def measure(losses: dict[str, Loss], crops: Crops, restore: Callable[[Tensor], Tensor], seed: int = 0,
            device: str | torch.device = 'cpu', progress: bool = True) -> dict[str, Measurement]:
    """Measure losses.

    Args:
        losses (dict[str, nn.Module]): As :func:`unit_losses` returns them.
        crops (Crops): Or any other sized iterable of pairs of LR and GT clips.
        restore (Callable): LR (1,t,3,h,w) -> output (1,t,3,s*h,s*w).
        seed (int): For metrics that draw random crops; a metric's draws do not depend on the others.
        device (str | torch.device): Where the losses and, if it is one, the network are.
        progress (bool): Show a progress bar.

    Returns:
        dict[str, Measurement]: One for each loss.

    Raises:
        ValueError: the output is not of GT's size, is too small for a metric or not finite; or it equals GT, so that
            there is no pixel loss to compare with.
    """
    measured: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in losses}
    bar = tqdm(total=len(crops) * len(losses), desc='measuring', disable=not progress)
    with bar, torch.random.fork_rng(devices=[]):
        for index, (lq, gt) in enumerate(crops):
            lq, gt = lq.to(device), gt.to(device)
            with torch.no_grad():
                output = restore(lq)
            if output.shape != gt.shape:
                raise ValueError(f'the output is {tuple(output.shape)} and GT {tuple(gt.shape)}: the network does not '
                                 'enlarge by the scale of the data. Give LR and GT of its scale.')
            for name, loss in losses.items():
                bar.set_postfix_str(name)
                torch.manual_seed(seed + index)
                for values, value in zip(measured[name], _score_and_norm(loss, output, gt)):
                    values.append(value)
                bar.update()
    measurements = {name: Measurement(name, int(losses[name].loss_weight), _on_gt(losses[name]), *map(tuple, values))
                    for name, values in measured.items()}
    if measurements[PIXEL].problem:
        raise ValueError('Nothing can be compared with the Charbonnier loss of the output: '
                         f'{measurements[PIXEL].problem}. Check that the output is not GT itself, and that the '
                         'checkpoint is sound.')
    return measurements


def _on_gt(loss: Loss) -> bool:
    return isinstance(loss, IQALoss) and not loss.metric.info.full_reference


def _score_and_norm(loss: Loss, output: Tensor, gt: Tensor) -> tuple[float, float]:
    """The gradient as VideoIQAModel takes it."""
    leaf = output.detach().requires_grad_()
    value = loss(leaf, gt)
    gradient, = torch.autograd.grad(value, leaf)
    if _on_gt(loss):
        with torch.no_grad():
            value = loss(gt)
    return value.item() / loss.loss_weight, torch.linalg.vector_norm(gradient.double()).item()


def console_table(measurements: dict[str, Measurement], share: float) -> str:
    """Measurements and the weights by both rules as aligned plain text."""
    rows = [('', 'measured on', 'typical', 'quartiles', 'gradient norm', *(f'by {rule}' for rule in RULES))]
    for name, item in measurements.items():
        low, high = item.quartiles
        weights = ([] if name == PIXEL else [item.problem] if item.problem else
                   [_two_digits(item.weight(measurements[PIXEL], share, rule)) for rule in RULES])
        rows.append((name, 'GT' if item.on_gt else 'output', f'{item.typical:.3g}', f'{low:.3g} .. {high:.3g}',
                     f'{item.norm:.3g}', *weights))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ['  '.join([row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:5], widths[1:])),
                        *(text.rjust(11) for text in row[5:])]).rstrip() for row in rows]
    lines.insert(1, '-' * max(map(len, lines)))
    return '\n'.join([*lines, f'Medians over {len(measurements[PIXEL].scores)} clips; weights for a share of {share:g}'
                              ' of the Charbonnier loss.'])


def options_block(measurements: dict[str, Measurement], share: float, rule: Rule, origin: str = '') -> str:
    """``iqa_opt`` with a loss for each metric, as YAML to paste under ``train:`` (or to load as it is).

    Args:
        measurements (dict[str, Measurement]): As :func:`measure` returns them; those with a problem become a comment.
        share (float): Of the pixel loss.
        rule (str): One of ``RULES``, for the weights; the other's are comments.
        origin (str): One line for a comment: how to make this again.

    Returns:
        str: YAML, the weights rounded to two significant digits.
    """
    other = RULES[1 - RULES.index(rule)]
    lines = [f'# {origin}'] * bool(origin) + [f'# weights by {rule}: a share of {share:g} of CharbonnierLoss',
                                              'iqa_opt:']
    for name, item in measurements.items():
        if name == PIXEL:
            continue
        if item.problem:
            lines.append(f'  # {name}: left out, {item.problem}')
            continue
        weight, alternative = (_two_digits(item.weight(measurements[PIXEL], share, by)) for by in (rule, other))
        lines += [f'  {name}:', '    type: IQALoss', f'    metric: {name}',
                  f'    loss_weight: {weight}  # by {other}: {alternative}']
    return ''.join(f'  {line}\n' for line in lines)


def _two_digits(number: float) -> str:
    return f'{number:#.2g}'  # '#' keeps the point, without which YAML 1.1 reads 5e-05 as text
