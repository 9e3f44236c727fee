"""How TinyIQA's weights are made and judged.

**Target.** Strengths of different distortions cannot be compared, so they are brought to one scale: a cell of a
distorted crop should get the structural similarity it has to its undistorted reference (:func:`visible_quality`), a
number the network must guess without the reference. Crops come in graded series of one distortion, half of them on
top of another one, and within a series the differences of the scores are learned too.

**Adversaries.** A metric used as a loss meets images made to please it. A pool of images climbs the gradient of the
score throughout the training, a few steps at a time, each for about a hundred steps before it starts anew; the target
of such an image is its similarity to its reference like that of any other, so junk that raises the score is unlearned
while it arises. The pool plays the part of the persistent Markov chains of energy-based models (Tieleman, "Training
restricted Boltzmann machines using approximations to the likelihood gradient", ICML 2008).
"""
import numpy as np
import torch
from scipy.stats import spearmanr
from torch.nn import functional as F

from basicsr_nriqa.data.photographs import TEST_PHOTOGRAPHS, TRAIN_PHOTOGRAPHS, load_photograph
from basicsr_nriqa.iqa.distortions import DISTORTIONS
from basicsr_nriqa.iqa.tinyiqa import TinyIQA

import cv2  # isort: skip

CROP = 64
SERIES, GRADES = 6, 4
POOL, CLIMBERS, CLIMB_STEPS = 256, 8, 2
W_RANK = 0.
W_ORD = .5
ADV = 1.
POWER = 1.
FLOOR = .2
STEP_LO, STEP_HI = 1., 4.
RESTART = CLIMB_STEPS / 100
STRENGTHS = np.linspace(0, 1, 11)


def visible_quality(distorted, reference, cell=8):
    """How much of the reference's structure is visible in each cell of a distorted image.

    The contrast and structure terms of SSIM (Wang et al., "Image quality assessment: from error visibility to
    structural similarity", IEEE TIP 2004, equations 9 and 10 with C3 = C2/2), for each channel, in windows of 8 x 8 px
    of the image and of the image reduced to 1/2, averaged. Luminance is left out: without a reference nobody can tell
    whether a photograph was meant to be brighter.

    Args:
        distorted (Tensor): (n, 3, h, w), [0, 1], h and w multiples of ``cell``.
        reference (Tensor): The same shape.
        cell (int): Side of a cell in pixels.

    Returns:
        Tensor: (n, 1, h/cell, w/cell), in [0, 1]; 1 for equal images.
    """
    c2 = 0.03**2
    total = weights = 0
    for scale in (1, 2):
        x, y = (F.pad(F.avg_pool2d(image, scale), (3, 4, 3, 4), mode='reflect') for image in (distorted, reference))
        mean_x, mean_y, mean_xx, mean_yy, mean_xy = (F.avg_pool2d(z, 8, stride=2) for z in (x, y, x * x, y * y, x * y))
        var_x, var_y, cov = mean_xx - mean_x**2, mean_yy - mean_y**2, mean_xy - mean_x * mean_y
        weight = torch.log((1 + var_x.clamp(min=0) / c2) * (1 + var_y.clamp(min=0) / c2)) + FLOOR
        similarity = (2 * cov + c2) / (var_x + var_y + c2)
        total = total + F.avg_pool2d((weight * similarity).mean(1, keepdim=True), cell // scale // 2)
        weights = weights + F.avg_pool2d(weight.mean(1, keepdim=True), cell // scale // 2)
    return (total / weights).clamp(0, 1), weights


def random_reference(photographs, rng):
    """Cut a crop of CROP px out of a random photograph: reduced by up to 2.5, flipped, turned, with other colours."""
    photograph = photographs[rng.integers(len(photographs))]
    side = round(CROP * rng.uniform(1, 2.5))
    top, left = (rng.integers(size - side + 1) for size in photograph.shape[:2])
    crop = cv2.resize(photograph[top:top + side, left:left + side], (CROP, CROP), interpolation=cv2.INTER_AREA)
    crop = np.rot90(crop, rng.integers(4))[:, ::rng.choice([-1, 1]), rng.permutation(3)] / 255
    crop = crop.mean(2, keepdims=True) + rng.uniform(0, 1.3) * (crop - crop.mean(2, keepdims=True))
    crop = np.clip(crop, 0, 1) ** rng.uniform(0.6, 1.5)
    black, white = rng.uniform(0, 0.2), rng.uniform(0.7, 1)
    return np.rint((black + (white - black) * crop) * 255).astype(np.uint8)


def random_series(reference, rng):
    """Distort a reference in GRADES strengths of one distortion, half of the time on top of another: list of images."""
    names = list(DISTORTIONS)
    if rng.random() < 0.5:
        reference = DISTORTIONS[rng.choice(names)](reference, rng.uniform(0, 0.7), rng)
    name, seed = rng.choice(names), rng.integers(2**32)
    strengths = np.sort(rng.uniform(size=GRADES)) - 0.05
    return [DISTORTIONS[name](reference, max(strength, 0), np.random.default_rng(seed)) for strength in strengths]


def to_tensor(images):
    """Turn uint8 images (h, w, 3) into a float tensor (n, 3, h, w) in [0, 1]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().div(255)


class Adversaries:
    """A pool of images that climb the gradient of the score; see the module's docstring."""

    def __init__(self, draw):
        """Args: draw (callable): Returns a distorted image and its reference, (3, h, w) each."""
        self.draw = draw
        self.pairs = [draw() for _ in range(POOL)]

    def climb(self, network, rng):
        """Let CLIMBERS random images climb CLIMB_STEPS steps of 1/255 to 4/255; return them and their references."""
        chosen = rng.choice(POOL, CLIMBERS, replace=False)
        for index in chosen:
            if rng.random() < RESTART:
                self.pairs[index] = self.draw()
        distorted, reference = (torch.stack(images) for images in zip(*(self.pairs[index] for index in chosen)))
        step = torch.from_numpy(rng.uniform(STEP_LO, STEP_HI, (CLIMBERS, 1, 1, 1))).float() / 255
        for _ in range(CLIMB_STEPS):
            distorted.requires_grad_()
            gradient, = torch.autograd.grad(network(distorted).sum(), distorted)
            distorted = (distorted.detach() + step * gradient.sign()).clamp(0, 1)
        for index, image in zip(chosen, distorted):
            self.pairs[index] = image, self.pairs[index][1]
        return distorted, reference


def train(steps, seed, progress=iter, learning_rate=2e-3):
    """Train a network on the photographs for training.

    Args:
        steps (int): Number of updates.
        seed (int): Seed of the weights and of every crop.
        progress (callable): Wraps the iterable of steps, such as ``tqdm``.
        learning_rate (float): Where the cosine schedule starts.

    Returns:
        TinyIQA: The trained network.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    photographs = [load_photograph(name) for name in TRAIN_PHOTOGRAPHS]
    network = TinyIQA().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=.15)

    def draw_pair():
        reference = random_reference(photographs, rng)
        return to_tensor([random_series(reference, rng)[0]])[0], to_tensor([reference])[0]

    adversaries = Adversaries(draw_pair)
    bar = progress(range(steps))
    run = {}
    for step in bar:
        references = [random_reference(photographs, rng) for _ in range(SERIES)]
        series = [image for reference in references for image in random_series(reference, rng)]
        climbed, climbed_references = adversaries.climb(network, rng)
        distorted = torch.cat([to_tensor(series), climbed])
        reference = torch.cat([to_tensor(references).repeat_interleave(GRADES, 0), climbed_references])
        target, weight = visible_quality(distorted, reference)
        logits = network.quality_logits(distorted)
        quality = logits.sigmoid()
        score, aim = (x[:SERIES * GRADES].view(SERIES, GRADES) for x in (quality.mean((1, 2, 3)), (target * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))))
        diff = lambda x: x[:, :, None] - x[:, None]
        l_cell = F.binary_cross_entropy_with_logits(logits, target ** POWER, weight / weight.mean())
        l_rank = (diff(score) - diff(aim)).abs().mean()
        sl = logits[:SERIES * GRADES].mean((1, 2, 3)).view(SERIES, GRADES)
        l_ord = F.softplus((sl[:, 1:] - sl[:, :-1]) * 4).mean()
        loss = l_cell + W_RANK * l_rank + W_ORD * l_ord
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        for k, v in dict(mae=(quality - target).abs()[:24].mean(), mae_adv=(quality - target).abs()[24:].mean(), rank=l_rank, adv_q=quality[24:].mean(), adv_t=target[24:].mean()).items():
            run[k] = run.get(k, float(v.detach())) * .98 + .02 * float(v.detach())
        if step % 200 == 199 and step % 600 == 599:
            print({k: round(float(v[0]), 3) for k, v in held_out_correlations(network).items()})
        if step % 200 == 199:
            print(step + 1, {k: round(v, 4) for k, v in run.items()}, flush=True)
    return network


def held_out_correlations(network, crop=128):
    """Judge a network on the photographs that no training saw.

    Of each of TEST_PHOTOGRAPHS five crops (the corners and the centre) are distorted at the strengths 0, 0.1, ..., 1
    with one seed for each series. Spearman's rank correlation of the score with the negative strength is computed
    inside each series of 11 images, then averaged over the 20 series of a distortion.

    Args:
        network (callable): (n, 3, h, w) in [0, 1] -> (n,) scores, higher is better.
        crop (int): Side of a crop in pixels.

    Returns:
        dict[str, tuple[float, float]]: For each distortion the mean and the smallest correlation.
    """
    crops = []
    for photograph in map(load_photograph, TEST_PHOTOGRAPHS):
        h, w = (size - crop for size in photograph.shape[:2])
        for top, left in ((0, 0), (0, w), (h, 0), (h, w), (h // 2, w // 2)):
            crops.append(photograph[top:top + crop, left:left + crop])
    correlations = {}
    for name, distort in DISTORTIONS.items():
        values = []
        for seed, image in enumerate(crops):
            images = to_tensor([distort(image, strength, np.random.default_rng(seed)) for strength in STRENGTHS])
            with torch.no_grad():
                values.append(spearmanr(network(images).numpy(), -STRENGTHS).statistic)
        correlations[name] = np.mean(values), np.min(values)
    return correlations
