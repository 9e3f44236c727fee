"""Trainings and measurements of benchmarks/artifacts.py: a small BasicVSR++, fine-tuned with one method and seed."""
import json
import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from artifacts_metrics import register_deep_metrics
from basicsr.data import build_dataset
from basicsr.models import build_model
from basicsr.utils import set_random_seed
from torch.utils.data import DataLoader

from basicsr_nriqa.files import write_atomically, written_beside
from basicsr_nriqa.iqa import CATALOGUE, create_metric
from basicsr_nriqa.study import gaming
from basicsr_nriqa.study.artifact_flags import strongest_peak
from basicsr_nriqa.study.spectrum import DifferenceSpectrum

FULL_REFERENCE = ('psnr', 'ssim', 'gmsd', 'fsim', 'vif', 'nlpd')
NO_REFERENCE = ('niqe', 'tinyiqa', 'scnn', 'squeezenet')
FRAMES = 5  # of a test clip; its second and fourth are measured
MEASURED = (1, 3)


@dataclass(frozen=True)
class Setting:
    """What all runs share.

    Attributes:
        work (Path): Data, networks and results.
        shared (Path): Published networks and videos, where they are at hand.
        device (str): Where all computes.
        baseline_iterations, iterations (int): Of the baseline, and of a fine-tune.
        network (tuple): mid_channels and num_blocks of BasicVSR++.
    """

    work: Path
    shared: Path
    device: str
    baseline_iterations: int
    iterations: int
    network: tuple

    @property
    def baseline(self):
        """The network that all fine-tunes start from."""
        return self.work / 'baseline.pth'

    def result(self, metric, method, seed):
        return self.work / 'runs' / metric / f'{method}_{seed}.json'

    def frames_of(self, metric, method, seed):
        return self.work / 'frames' / metric / f'{method}_{seed}.npz'


def prepare_worker(setting):
    """Once in each process: few threads, quiet logs, and the metrics."""
    if setting.device == 'cpu':
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
    logging.getLogger('basicsr').setLevel(logging.WARNING)
    register_deep_metrics(setting.shared, setting.work / 'heads')


def build_training(setting, train, iterations, pretrained=None):
    """A VideoIQAModel whose data are fed by :func:`train`."""
    path = {} if pretrained is None else {'pretrain_network_g': str(pretrained), 'param_key_g': 'params_ema'}
    channels, blocks = setting.network
    return build_model({
        'name': 'artifacts', 'model_type': 'VideoIQAModel', 'scale': 4, 'is_train': True, 'dist': False,
        'num_gpu': int(setting.device != 'cpu'), 'path': path,
        'network_g': {'type': 'BasicVSRPP', 'mid_channels': channels, 'num_blocks': blocks},
        'train': {
            'optim_g': {'type': 'Adam', 'lr': 2e-4, 'betas': [0.9, 0.99]}, 'ema_decay': 0.99,
            'scheduler': {'type': 'CosineAnnealingRestartLR', 'periods': [iterations], 'restart_weights': [1],
                          'eta_min': 1e-6},
            'total_iter': iterations, 'warmup_iter': -1,
            'fix_flow': 10**9,  # no pretrained flow here: it stays zero
            'pixel_opt': {'type': 'CharbonnierLoss'}, **train}})


def batches(setting, seed):
    """Training batches without end; the same for the same seed."""
    dataset = build_dataset({
        'name': 'sample', 'type': 'ClipTrainDataset', 'phase': 'train', 'scale': 4, 'io_backend': {'type': 'lmdb'},
        'dataroot_gt': str(setting.work / 'sample/vimeo90k_train_GT.lmdb'),
        'dataroot_lq': str(setting.work / 'sample/vimeo90k_train_LRx4.lmdb'),
        'meta_info_file': str(setting.work / 'sample/meta_info_Vimeo90K_train_GT.txt'),
        'num_frame': 3, 'gt_size': 96})
    set_random_seed(seed)
    loader = DataLoader(dataset, 2, shuffle=True, drop_last=True)
    while True:
        yield from loader


def train(setting, model, iterations, seed, progress=iter):
    """Train; data, losses and their draws follow the seed."""
    for iteration, batch in zip(progress(range(1, iterations + 1)), batches(setting, seed)):
        model.update_learning_rate(iteration, -1)
        model.feed_data(batch)
        model.optimize_parameters(iteration)


@cache
def test_clips(setting):
    """``{clip: (LR, GT)}``, (t,3,h,w) in [0,1]."""
    clips = {}
    for name, prefix in (('sample', 'vimeo90k_test'), ('videos', 'videos_test')):
        root = setting.work / name
        if not root.is_dir():
            continue
        dataset = build_dataset({
            'name': name, 'type': 'ClipTestDataset', 'phase': 'test', 'scale': 4, 'io_backend': {'type': 'lmdb'},
            'dataroot_gt': str(root / f'{prefix}_GT.lmdb'), 'dataroot_lq': str(root / f'{prefix}_LRx4.lmdb')})
        for item in (dataset[index] for index in range(len(dataset))):
            clips[f"{name}/{item['folder']}"] = (item['lq'][:FRAMES], item['gt'][:FRAMES])
    return clips


@torch.no_grad()
def restored(setting, model):
    """``{clip: frames}`` that are measured, (2,3,4h,4w) uint8."""
    found = {}
    for name, (lq, _) in test_clips(setting).items():
        model.feed_data({'lq': lq[None]})
        model.test()
        found[name] = (model.output[0].clamp(0, 1) * 255).round().to(torch.uint8)[list(MEASURED)]
    return found


@cache
def judges(setting):
    """All metrics that are at hand, by name."""
    names = [name for name in FULL_REFERENCE + NO_REFERENCE if name in CATALOGUE]
    return {name: create_metric(name).to(setting.device) for name in names}


@torch.no_grad()
def scores(setting, frames):
    """``{metric: {clip: mean score}}``."""
    found = {}
    for name, metric in judges(setting).items():
        found[name] = {}
        for clip, (_, gt) in test_clips(setting).items():
            reference = gt[list(MEASURED)].to(setting.device) if metric.info.full_reference else None
            found[name][clip] = metric(frames[clip].float() / 255, reference).mean().item()
    return found


def bilateral(frames):
    """What no method was trained against: a bilateral filter, which takes faint patterns away and keeps edges."""
    return _each(frames, lambda image: cv2.bilateralFilter(image, 5, 12, 1.5))


def webp(frames):
    """The same: WebP of quality 80."""
    return _each(frames, lambda image: cv2.imdecode(
        cv2.imencode('.webp', image, [cv2.IMWRITE_WEBP_QUALITY, 80])[1], cv2.IMREAD_COLOR))


UNSEEN = {'bilateral': bilateral, 'webp': webp}


def _each(frames, change):
    images = [change(np.ascontiguousarray(frame)) for frame in frames.permute(0, 2, 3, 1).flip(-1).cpu().numpy()]
    return torch.from_numpy(np.stack(images)).to(frames.device).flip(-1).permute(0, 3, 1, 2).contiguous()


@torch.no_grad()
def perturbed_scores(setting, frames, names):
    """``{metric: {clip: {perturbation: score}}}`` for no-reference metrics."""
    metrics = {name: judges(setting)[name] for name in names}
    found = {name: {} for name in names}
    for clip, images in frames.items():
        seen = gaming.score_perturbed(metrics, images)
        for name, metric in metrics.items():
            unseen = {label: metric(change(images).float() / 255).mean().item() for label, change in UNSEEN.items()}
            found[name][clip] = {**seen[name], **unseen}
    return found


def gains(before, after, lower_better):
    """The gain of a metric and, for each perturbation, what of it does not survive; see docs/artifacts.md.

    Args:
        before, after (dict): ``{clip: {perturbation: score}}`` of the baseline and the tuned network; ``'none'`` for
            frames as they are.
        lower_better (bool): The metric's direction.

    Returns:
        dict: ``gain``, and ``lost``: perturbation -> gain that is lost, both in the metric's units.
    """
    sign = -1 if lower_better else 1

    def mean(of_clips, perturbation):
        return sign * sum(scores[perturbation] for scores in of_clips.values()) / len(of_clips)

    gain = mean(after, 'none') - mean(before, 'none')
    names = [name for name in next(iter(after.values())) if name != 'none']
    return {'gain': gain, 'lost': {
        name: gain - (mean(after, name) - min(mean(before, 'none'), mean(before, name))) for name in names}}


def compare_spectra(frames, baseline):
    """Of the spectrum of the difference: RMS, times above the background, amplitude of the peak that counts."""
    spectrum = DifferenceSpectrum()
    for clip, images in frames.items():
        spectrum.add(images, baseline[clip])
    result = spectrum.result()
    peak = strongest_peak(result) or {'ratio': 0.0, 'amplitude': 0.0}
    return {'rms': result['rms'], 'ratio': peak['ratio'], 'amplitude': peak['amplitude']}


def measure_baseline(setting):
    """Frames, scores and perturbed scores of the baseline, which all runs are compared with."""
    model = build_training(setting, {}, 1, setting.baseline)
    frames = restored(setting, model)
    names = [name for name in judges(setting) if name in NO_REFERENCE]
    save_frames(setting.work / 'frames/baseline.npz', frames)
    write_atomically(setting.work / 'runs/baseline.json', json.dumps({
        'scores': scores(setting, frames), 'perturbed': perturbed_scores(setting, frames, names)}, indent=1))


def run(setting, metric, optimised, method, options, seed):
    """Fine-tune with one method and one seed, and write what it did.

    Args:
        setting (Setting): What all runs share.
        metric (str): The metric that stands in the method's options; names the folder.
        optimised (list[str]): All metrics that the method optimises.
        method (str): Its name.
        options (dict): Of ``train``.
        seed (int): Of data and draws.
    """
    model = build_training(setting, options, setting.iterations, setting.baseline)
    train(setting, model, setting.iterations, seed)
    frames = restored(setting, model)
    with np.load(setting.work / 'frames/baseline.npz') as kept:
        baseline = {clip: torch.from_numpy(kept[clip]).to(setting.device) for clip in kept}
    before = json.loads((setting.work / 'runs/baseline.json').read_text())['perturbed'][metric]
    after = perturbed_scores(setting, frames, [metric])[metric]
    save_frames(setting.frames_of(metric, method, seed), frames)
    write_atomically(setting.result(metric, method, seed), json.dumps({
        'metric': metric, 'method': method, 'seed': seed, 'optimised': optimised, 'options': options,
        'scores': scores(setting, frames), 'gaming': gains(before, after, create_metric(metric).info.lower_better),
        'spectrum': compare_spectra(frames, baseline)}, indent=1))


def save_frames(path, frames):
    with written_beside(path) as beside, beside.open('wb') as file:
        np.savez(file, **{clip: images.cpu().numpy() for clip, images in frames.items()})
