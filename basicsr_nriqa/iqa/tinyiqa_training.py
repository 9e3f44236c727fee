"""How TinyIQA's weights are made and judged.

**Series.** A crop of a photograph is distorted in several strengths of one distortion. The network learns the strength
(1 - strength is the target) and, within a series, the order.

**Adversaries.** A metric used as a loss meets images made to please it. After a first training, images climb the
gradient of the score; they are added with targets that fall with the distance they went, and the network is trained
anew. This is repeated once.

The statistics are fixed, so they are computed once for all images, and training the perceptrons takes seconds.
"""
import io
from collections.abc import Callable, Iterable, Sequence

import cv2
import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from basicsr_nriqa.data.photographs import TEST_PHOTOGRAPHS, TRAIN_PHOTOGRAPHS, load_photograph
from basicsr_nriqa.iqa.distortions import DISTORTIONS, UNGRADED, Distortion
from basicsr_nriqa.iqa.tinyiqa import TinyIQA

GRADES = 6
STRENGTHS = np.linspace(0, 1, 11)
Progress = Callable[[Iterable[int]], Iterable[int]]
_CLIMB = (2, 3, 4, 6)  # gradient steps between the images that are kept of a climb
_REACH = 20  # root-mean-square change, in grey levels, after which nothing is left of an adversary's quality


def random_reference(photographs: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Cut a crop of 64 to 128 px out of a random photograph: flipped, turned, with other colours, perhaps reduced."""
    photograph, side = photographs[int(rng.integers(len(photographs)))], int(rng.choice((64, 96, 128)))
    reduction = 1 if rng.random() < 0.5 else min(rng.uniform(1, 1.6), min(photograph.shape[:2]) / side)
    taken = round(side * reduction)
    top, left = (rng.integers(size - taken + 1) for size in photograph.shape[:2])
    crop = photograph[top:top + taken, left:left + taken]
    if taken != side:
        crop = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    crop = np.rot90(crop, int(rng.integers(4)))[:, ::rng.choice([-1, 1]), rng.permutation(3)] / 255
    return np.rint(255 * rng.uniform(0.7, 1) * crop**rng.uniform(0.7, 1.4)).astype(np.uint8)


def to_tensor(images: Sequence[np.ndarray]) -> Tensor:
    """Turn uint8 images (h, w, 3) into a float tensor (n, 3, h, w) in [0, 1]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def _collect_series(photographs: Sequence[np.ndarray], count: int, rng: np.random.Generator,
                    progress: Progress) -> tuple[Tensor, Tensor]:
    """Statistics (count, GRADES, features) and strengths (count, GRADES) of graded series."""
    network, statistics, strengths = TinyIQA(), [], []
    distortions = [*DISTORTIONS.values(), *UNGRADED.values()]
    for _ in progress(range(count // len(distortions))):
        reference = random_reference(photographs, rng)
        for distort in distortions:
            grades = np.sort(rng.uniform(size=GRADES))
            grades[0] *= rng.random() < 0.5  # half of the series begin with the reference itself
            seed = rng.integers(2**32)
            images = [distort(reference, grade, np.random.default_rng(seed)) for grade in grades]
            with torch.no_grad():
                statistics.append(network.statistics(to_tensor(images)))
            strengths.append(torch.from_numpy(grades).float())
    return torch.stack(statistics), torch.stack(strengths)


def _collect_adversaries(network: TinyIQA, photographs: Sequence[np.ndarray], count: int, rng: np.random.Generator,
                         progress: Progress) -> tuple[Tensor, Tensor]:
    """Statistics (n, features) and targets (n,) of images that climbed the network's score."""
    statistics, targets = [], []
    distortions = list(DISTORTIONS.values())
    for _ in progress(range(count)):
        strength = rng.uniform(0, 0.8)
        start = to_tensor([distortions[rng.integers(len(distortions))](
            random_reference(photographs, rng), strength, rng)])
        image, step, by_sign = start, rng.uniform(0.5, 3) / 255, rng.random() < 0.5
        for steps in _CLIMB:
            for _ in range(steps):
                image.requires_grad_()
                gradient, = torch.autograd.grad(network(image).sum(), image)
                direction = gradient.sign() if by_sign else (gradient / gradient.std().clamp(min=1e-12)).clamp(-3, 3)
                image = (image.detach() + step * direction).clamp(0, 1)
            with torch.no_grad():
                distance = 255 * (image - start).square().mean().sqrt()
                statistics.append(network.statistics(image))
            targets.append(((1 - strength) - distance / _REACH).clamp(0, 1))
    return torch.cat(statistics), torch.stack(targets)


def _fit(statistics: Tensor, strengths: Tensor, adversaries: tuple[Tensor, Tensor] | None, steps: int,
         seed: int) -> TinyIQA:
    """Train the perceptrons of a new network on collected statistics."""
    torch.manual_seed(seed)
    network = TinyIQA()
    flat = statistics.flatten(0, 1)
    network.mean.copy_(flat.mean(0))
    network.std.copy_(flat.std(0) + 1e-3)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    for _ in range(steps):
        losses = []
        for member in network.members:
            chosen = torch.randint(len(statistics), (96,))
            seen, strength = statistics[chosen], strengths[chosen]
            # the same shift for a whole series is other content, which the order must not depend on
            shift = torch.randn(len(seen), 1, seen.shape[2]) + 0.3 * torch.randn(seen.shape)
            logits = _member(network, member, seen + 0.15 * network.std * shift)
            weaker = (strength[:, None] - strength[:, :, None] > 0.02).float()
            disorder = F.softplus(2 * (logits[:, None] - logits[:, :, None])) * weaker
            losses.append(3 * (logits.sigmoid() - (1 - strength)).square().mean() + disorder.sum() / weaker.sum())
            if adversaries:
                chosen = torch.randint(len(adversaries[0]), (192,))
                logits = _member(network, member, adversaries[0][chosen])
                losses.append(3 * (logits.sigmoid() - adversaries[1][chosen]).square().mean())
        optimizer.zero_grad()
        sum(losses[1:], losses[0]).backward()
        optimizer.step()
        schedule.step()
    return network.eval().requires_grad_(False)


def _member(network: TinyIQA, member: nn.Module, statistics: Tensor) -> Tensor:
    return member(3 * torch.tanh((statistics - network.mean) / network.std / 3))[..., 0]


def train(series: int, adversaries: int, seed: int, steps: int = 2000, progress: Progress = iter) -> TinyIQA:
    """Train a network on the photographs for training.

    Args:
        series (int): Number of graded series.
        adversaries (int): Number of climbs, in each of two rounds.
        seed (int): Seed of the weights and of every crop.
        steps (int): Updates of the perceptrons.
        progress (Callable): Wraps the iterables, such as ``tqdm``.

    Returns:
        TinyIQA: The trained network.
    """
    rng = np.random.default_rng(seed)
    photographs = [load_photograph(name) for name in TRAIN_PHOTOGRAPHS]
    statistics, strengths = _collect_series(photographs, series, rng, progress)
    network, found = _fit(statistics, strengths, None, steps, seed), None
    for _ in range(2):
        more = _collect_adversaries(network, photographs, adversaries, rng, progress)
        found = more if found is None else (torch.cat([found[0], more[0]]), torch.cat([found[1], more[1]]))
        network = _fit(statistics, strengths, found, steps, seed)
    return network


def weights_file(network: nn.Module) -> bytes:
    """The bytes of the weights file; the same network gives the same bytes."""
    buffer = io.BytesIO()
    torch.save({'params': network.state_dict()}, buffer)
    return buffer.getvalue()


def held_out_correlations(network: Callable[[Tensor], Tensor], crop: int = 128,
                          distortions: dict[str, Distortion] | None = None) -> dict[str, float]:
    """Judge a network on the photographs that no training saw.

    Of each of TEST_PHOTOGRAPHS five crops (the corners and the centre) are distorted at the strengths 0, 0.1, ..., 1
    with one seed for each series. Spearman's rank correlation of the score with the negative strength is computed
    inside each series of 11 images, then averaged over the 20 series of a distortion.

    Args:
        network (Callable): (n, 3, h, w) in [0, 1] -> (n,) scores, higher is better.
        crop (int): Side of a crop in pixels.
        distortions (dict | None): Name -> distortion; default: DISTORTIONS.

    Returns:
        dict[str, float]: For each distortion the mean correlation.
    """
    crops = []
    for photograph in map(load_photograph, TEST_PHOTOGRAPHS):
        h, w = (size - crop for size in photograph.shape[:2])
        for top, left in ((0, 0), (0, w), (h, 0), (h, w), (h // 2, w // 2)):
            crops.append(photograph[top:top + crop, left:left + crop])
    correlations = {}
    for name, distort in (distortions or DISTORTIONS).items():
        values = []
        for seed, image in enumerate(crops):
            images = to_tensor([distort(image, strength, np.random.default_rng(seed)) for strength in STRENGTHS])
            with torch.no_grad():
                values.append(spearmanr(network(images).numpy(), -STRENGTHS).statistic)
        correlations[name] = float(np.mean(values))
    return correlations
