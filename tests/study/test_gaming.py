import cv2
import numpy as np
import pytest
import torch
from torch import nn

from basicsr_nriqa.data.photographs import load_photograph
from basicsr_nriqa.iqa import MetricInfo, QualityMetric, create_metric
from basicsr_nriqa.study import gaming
from basicsr_nriqa.study.gaming import PERTURBATIONS, blur, jpeg, score_perturbed, shift


def photographs(size=(96, 128)):
    """(3,3,h,w) uint8."""
    images = [load_photograph(name)[100:100 + size[0], 100:100 + size[1]] for name in
              ('chelsea.png', 'motorcycle_left.png', 'grass.png')]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def blurred(frames, sigma):
    return torch.from_numpy(np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in
                                      frames.permute(0, 2, 3, 1).numpy()])).permute(0, 3, 1, 2)


def gamed(frames, metric, steps=4):
    """Frames whose score was pushed up by its gradient, by at most one grey level a pixel."""
    images = frames.float().div(255).requires_grad_()
    for _ in range(steps):
        gradient, = torch.autograd.grad(metric(images).sum(), images)
        images = (images + gradient.sign() / 255 / 4).detach().clamp(0, 1).requires_grad_()
    return images.detach().mul(255).round().to(torch.uint8)


def kept(metric, tuned, baseline):
    tuned, baseline = (score_perturbed({'metric': metric}, frames)['metric'] for frames in (tuned, baseline))
    return {name: (tuned[name] - baseline[name]) / (tuned['none'] - baseline['none']) for name in PERTURBATIONS}


@pytest.mark.parametrize('perturb', [jpeg, blur])
def test_perturbations_are_mild(perturb):
    frames = photographs()
    changed = perturb(frames)
    assert changed.dtype == torch.uint8 and changed.shape == frames.shape
    error = (changed.float() - frames.float()).square().mean((1, 2, 3))
    psnr = 10 * torch.log10(255**2 / error)
    assert ((psnr > 25) & (psnr < 50)).all()


def test_blur_is_gaussian():
    frames = photographs()
    expected = blurred(frames, gaming.BLUR_SIGMA)
    assert (blur(frames).int() - expected.int())[..., 4:-4, 4:-4].abs().max() <= 1


def test_jpeg_keeps_the_order_of_channels():
    red = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    red[:, 0] = 200
    assert (jpeg(red).int() - red.int()).abs().max() <= 4


def test_shift_cuts_the_first_row_and_column():
    frames = photographs()
    assert torch.equal(shift(frames)[..., 0, 0], frames[..., 1, 1])
    assert shift(frames).shape == (3, 3, 95, 127)


def test_a_gamed_gain_collapses_and_a_real_one_does_not():
    metric = create_metric('tinyiqa')
    sharp = photographs()
    soft = blurred(sharp, 1.5)
    real = kept(metric, sharp, soft)
    false = kept(metric, gamed(soft, metric), soft)
    assert min(real.values()) > 0.8
    assert min(false.values()) < 0.5


def test_batches_do_not_matter(monkeypatch):
    metrics = {'tinyiqa': create_metric('tinyiqa')}
    whole = score_perturbed(metrics, photographs())
    monkeypatch.setattr(gaming, '_PIXELS_AT_ONCE', 1)
    parts = score_perturbed(metrics, photographs())
    assert list(whole['tinyiqa']) == ['none', 'jpeg', 'blur', 'shift']
    assert parts['tinyiqa'] == pytest.approx(whole['tinyiqa'], rel=1e-5)


class Flicker(nn.Module):
    """The mean difference of successive frames."""

    def forward(self, clips):
        return clips.diff(dim=1).abs().mean((1, 2, 3, 4))


def test_metrics_of_clips_see_clips(monkeypatch):
    monkeypatch.setattr(gaming, '_PIXELS_AT_ONCE', 1)
    metric = QualityMetric(MetricInfo('flicker', False, True, None, 1, '', clip=True), Flicker())
    frames = torch.zeros(3, 3, 40, 40, dtype=torch.uint8)
    frames[1] = 51
    scores = score_perturbed({'flicker': metric}, frames)['flicker']
    assert scores['none'] == pytest.approx(0.2)
    assert scores['shift'] == pytest.approx(0.2)
