"""Scores before and after changes that hardly alter a picture: real gains survive them, gamed ones collapse."""
import cv2
import numpy as np
import torch
import torch.nn.functional as F

JPEG_QUALITY = 90
BLUR_SIGMA = 0.6  # pixels
_BLUR_RADIUS = 3  # pixels: five standard deviations
_PIXELS_AT_ONCE = 2**21  # scored in one batch: 18 frames of Vimeo-90K, 2 of REDS


def jpeg(frames):
    """JPEG at quality :data:`JPEG_QUALITY`, with OpenCV's defaults (4:2:0 chroma)."""
    images = []
    for frame in frames.permute(0, 2, 3, 1).flip(-1).cpu().numpy():  # BGR
        stream = cv2.imencode('.jpg', frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        images.append(cv2.imdecode(stream, cv2.IMREAD_COLOR))
    return torch.from_numpy(np.stack(images)).to(frames.device).flip(-1).permute(0, 3, 1, 2)


def blur(frames):
    """Gaussian blur with a standard deviation of :data:`BLUR_SIGMA` px, rounded to 8 bits; borders are mirrored."""
    kernel = np.exp(-0.5 * (np.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1) / BLUR_SIGMA)**2)
    kernel /= kernel.sum()
    images = F.pad(frames.float(), 4 * [_BLUR_RADIUS], mode='reflect')
    for dim in (-2, -1):
        length = frames.shape[dim]
        # not by a convolution, which on GPUs may round to ten bits (TF32)
        images = sum(float(weight) * images.narrow(dim, start, length) for start, weight in enumerate(kernel))
    return images.round().clamp(0, 255).to(torch.uint8)


def shift(frames):
    """Shift by one pixel to the left and upwards: the first row and column are cut off, and no border is invented."""
    return frames[..., 1:, 1:]


PERTURBATIONS = {'jpeg': jpeg, 'blur': blur, 'shift': shift}


@torch.no_grad()
def score_perturbed(metrics, clip):
    """Score a clip as it is and after each of :data:`PERTURBATIONS`.

    Args:
        metrics (dict[str, QualityMetric]): ``{name: metric}``, no-reference, on the device of the clip.
        clip (Tensor): (t,3,h,w) uint8, RGB.

    Returns:
        dict[str, dict[str, float]]: ``{metric: {perturbation: score}}``, a mean over the frames, with ``'none'`` for
        the clip as it is, and without the shift where it leaves less than the metric's smallest size.
    """
    batch = max(1, _PIXELS_AT_ONCE // (clip.shape[-2] * clip.shape[-1]))
    scores = {name: {} for name in metrics}
    for perturbation, perturb in {'none': None, **PERTURBATIONS}.items():
        frames = clip if perturb is None else torch.cat([perturb(part) for part in clip.split(batch)])
        for name, metric in metrics.items():
            if perturb is not None and min(frames.shape[-2:]) < metric.info.min_size:
                continue
            if metric.info.clip:
                values = metric(_in_range(frames).unsqueeze(0))
            else:
                values = torch.cat([metric(_in_range(part)) for part in frames.split(batch)])
            scores[name][perturbation] = values.double().mean().item()
    return scores


def _in_range(frames):
    return frames.float().div_(255)
