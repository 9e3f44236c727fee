"""Validation and testing clip by clip, on any number of datasets: log report, TensorBoard, images, score files."""
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import torch
from basicsr.metrics import calculate_metric
from basicsr.models.base_model import BaseModel
from basicsr.utils import get_root_logger, imwrite, tensor2img
from basicsr.utils.dist_util import get_dist_info
from basicsr.utils.registry import METRIC_REGISTRY
from torch import Tensor, distributed
from torch.utils.data import DataLoader
from tqdm import tqdm

from basicsr_nriqa.data.clip_dataset import ClipTestDataset
from basicsr_nriqa.data.frame_sequence import FrameSequence
from basicsr_nriqa.iqa import metric_info
from basicsr_nriqa.metrics.iqa_metric import score_frames
from basicsr_nriqa.models.guard import Guard, ScalarLog
from basicsr_nriqa.models.guard_findings import Look
from basicsr_nriqa.models.option_errors import used_on
from basicsr_nriqa.models.provenance import checkpoint_digest, device_name, score_versions
from basicsr_nriqa.study.scores import write_scores
from basicsr_nriqa.training.stop import stop


class ClipValidation(BaseModel):
    """The validation half of our models.

    The output is rounded to 8 bits, as a saved image would be, before anything is measured. A score is averaged over
    the frames of a clip, then over the clips. Each of N processes takes every N-th clip; rank 0 reports, to the same
    digits as one process.

    Options under ``val``:

    - ``val_freq`` (int): Iterations between validations in training.
    - ``metrics`` (dict): ``name: {type: calculate_iqa, metric: NAME, better: higher | lower}``, or one of
      BasicSR's metrics. Those that need GT are left out, with a warning, for datasets without it.
    - ``save_img`` (bool): Write frames to ``visualization/DATASET/CLIP/``.
    - ``suffix`` (str): End of their names; default: the experiment's name, in training the iteration.
    - ``pbar`` (bool): Show a progress bar; default: yes.
    - ``scores`` (dict): ``model`` and ``loss`` that the score files shall name; default: the network's type, and the
      losses that the checkpoint was trained with.
    - ``guard`` (dict): In training: stop it, or lower weights, when it turns; see
      :class:`~basicsr_nriqa.models.guard_options.GuardOptions`.

    Attributes:
        guard (Guard | None): Gets what each validation in training finds.
    """

    VAL_OPTIONS = frozenset({'val_freq', 'metrics', 'save_img', 'suffix', 'pbar', 'scores', 'guard'})
    guard: Guard | None = None

    def dist_validation(self, dataloader: DataLoader, current_iter: int, tb_logger: ScalarLog | None,
                        save_img: bool) -> None:
        self.nondist_validation(dataloader, current_iter, tb_logger, save_img)

    def nondist_validation(self, dataloader: DataLoader, current_iter: int, tb_logger: ScalarLog | None,
                           save_img: bool) -> None:
        dataset: Any = dataloader.dataset  # a ClipTestDataset
        name = dataset.opt['name']
        metrics = self._usable_metrics(dataset)
        rank, world_size = get_dist_info()
        watched = self.guard.watched(current_iter, name, dataset.names) if self.guard else ()
        scores: dict[str, dict[str, float]] = {}
        looks: dict[str, Look] = {}
        show = rank == 0 and self.opt['val'].get('pbar', True)
        # all ranks go round equally often, and the last time some have no clip
        for start in tqdm(range(0, len(dataset), world_size), desc=f'{name}', unit='clip', disable=not show):
            stop.leave_validation(get_root_logger(), current_iter)
            if start + rank >= len(dataset):
                break
            item = dataset.lazily(start + rank)  # GT of a long video need not fit into memory
            result = self._restore(item)
            scores[item['folder']] = self._scores(metrics, result, item.get('gt'))
            if self.guard and item['folder'] in watched:
                looks[item['folder']] = self.guard.look(current_iter, name, item, result)
            if save_img:
                self._save_frames(name, item, result, current_iter)
        if self.opt['dist']:  # an error on one rank ends the others, too (rank_failure): none waits here for ever
            parts: list[Any] = [None] * world_size
            distributed.all_gather_object(parts, (scores, looks))
            scores, looks = ({clip: found for part in of_ranks for clip, found in part.items()}
                             for of_ranks in zip(*parts))
        scores, looks = dict(sorted(scores.items())), dict(sorted(looks.items()))
        if rank == 0 and metrics:
            self._report(name, metrics, scores, current_iter, tb_logger)
        if self.guard:
            self.guard.take(current_iter, name, scores, looks)

    def _usable_metrics(self, dataset: ClipTestDataset) -> dict[str, dict[str, Any]]:
        metrics = self.opt['val'].get('metrics') or {}
        if dataset.gt is None:
            needing = [name for name, metric_opt in metrics.items() if _needs_reference(metric_opt)]
            if needing:
                get_root_logger().warning(f"{dataset.opt['name']} has no GT (dataroot_gt) to compare with: "
                                          f"{', '.join(needing)} left out.")
            metrics = {name: metric_opt for name, metric_opt in metrics.items() if name not in needing}
        return metrics

    def _restore(self, item: dict[str, Any]) -> Tensor:
        """The frames as 8-bit images would hold them, (t,3,h,w) in [0,1] on the device."""
        self.feed_data({'lq': item['lq'].unsqueeze(0)})
        self.test()
        result = self.output[0]
        del self.lq, self.output
        return result.clamp_(0, 1).mul_(255).round_().div_(255)  # in place: it is the largest of all tensors

    def _scores(self, metrics: dict[str, dict[str, Any]], result: Tensor, gt: FrameSequence | None) -> dict[str, float]:
        """The mean over the frames of a clip of each metric.

        Args:
            metrics (dict): Their options, by name.
            result (Tensor): (t,3,h,w) in [0,1].
            gt (FrameSequence | None): As long as ``result``; read once, a few frames at a time.

        Returns:
            dict: name: score.
        """
        ours = {name: {key: value for key, value in metric_opt.items() if key not in ('better', 'type')}
                for name, metric_opt in metrics.items() if metric_opt['type'] == 'calculate_iqa'}
        of_clips = [name for name, options in ours.items() if metric_info(options['metric']).clip]
        scores = {name: [score_frames(result, None, **ours[name])] for name in of_clips}
        of_frames = {name: metric_opt for name, metric_opt in metrics.items() if name not in of_clips}
        if not any(name not in ours or _needs_reference(metric_opt) for name, metric_opt in of_frames.items()):
            gt = None  # not read for nothing
        step = max((options.get('batch', 1) for options in ours.values()), default=1)
        for start in range(0, len(result) if of_frames else 0, step):
            frames = result[start:start + step]
            references = None if gt is None else gt[start:start + step].to(self.device)
            images = None
            for name, metric_opt in of_frames.items():
                if name in ours:
                    values = score_frames(frames, references, **ours[name])
                else:
                    images = images or _as_images(frames, references)
                    with used_on(f'val:metrics:{name}', metric_opt['type'], 'a frame', 'Check its options.'):
                        values = torch.tensor([calculate_metric(image, metric_opt) for image in images],
                                              dtype=torch.double)
                scores.setdefault(name, []).append(values)
        return {name: torch.cat(scores[name]).double().mean().item() for name in metrics}

    def _save_frames(self, dataset_name: str, item: dict[str, Any], result: Tensor, current_iter: int) -> None:
        suffix = str(current_iter) if self.is_train else self.opt['val'].get('suffix') or self.opt['name']
        folder = Path(self.opt['path']['visualization'], dataset_name, item['folder'])
        for frame_name, frame in zip(item['frames'], result):
            imwrite(tensor2img(frame), str(folder / f'{frame_name}_{suffix}.png'))

    def _report(self, dataset_name: str, metrics: dict[str, dict[str, Any]], scores: dict[str, dict[str, float]],
                current_iter: int, tb_logger: ScalarLog | None) -> None:
        self._initialize_best_metric_results(dataset_name)
        lines = [f'Validation {dataset_name}']
        for metric in metrics:
            value = sum(clip[metric] for clip in scores.values()) / len(scores)
            self._update_best_metric_result(dataset_name, metric, value, current_iter)
            best = self.best_metric_results[dataset_name][metric]
            lines.append(f'\t # {metric}: {value:.4f}\tBest: {best["val"]:.4f} @ {best["iter"]} iter')
            if tb_logger:
                tb_logger.add_scalar(f'metrics/{dataset_name}/{metric}', value, current_iter)
        get_root_logger().info('\n'.join(lines) + '\n')
        labels = self.opt['val'].get('scores') or {}
        checkpoint = None if self.is_train else self.opt['path'].get('pretrain_network_g')
        # a checkpoint that was not written here does not say what it was trained with
        optimised = self.trained_with['optimised'] if self.is_train or 'iteration' in self.trained_with else None
        # a training writes one file a validation, a test one a dataset
        folder = Path(self.opt['path']['experiments_root' if self.is_train else 'results_root'], 'scores')
        write_scores(
            folder / (f'{dataset_name}_{current_iter}.json' if self.is_train else f'{dataset_name}.json'),
            model=labels.get('model', self.opt['network_g']['type']),
            loss=labels.get('loss', self.trained_with['loss']), dataset=dataset_name,
            checkpoint=checkpoint, checkpoint_sha256=checkpoint_digest(checkpoint), videos=scores,
            versions=score_versions(metrics), device=device_name(self.device),
            lower_better={metric: lower_better(metric_opt) for metric, metric_opt in metrics.items()},
            optimised=None if optimised is None else [metric for metric, metric_opt in metrics.items()
                                                      if _metric_name(metric_opt) in optimised])


def _as_images(frames: Tensor, references: Tensor | None) -> list[dict[str, np.ndarray]]:
    """What BasicSR's metrics take, of each frame."""
    images = [{'img': tensor2img(frame)} for frame in frames]
    for image, reference in zip(images, () if references is None else references):
        image['img2'] = tensor2img(reference)
    return images


def _needs_reference(metric_opt: dict[str, Any]) -> bool:
    if metric_opt['type'] == 'calculate_iqa':
        return metric_info(metric_opt['metric']).full_reference
    reference = inspect.signature(METRIC_REGISTRY.get(metric_opt['type'])).parameters.get('img2')
    return reference is not None and reference.default is inspect.Parameter.empty


def _metric_name(metric_opt: dict[str, Any]) -> str:
    """The metric behind an entry of ``val.metrics``: ``ssim`` is BasicSR's ``calculate_ssim``, too."""
    return metric_opt.get('metric', metric_opt['type'].removeprefix('calculate_'))


def lower_better(metric_opt: dict[str, Any]) -> bool:
    """The direction of an entry of ``val.metrics``."""
    if 'better' in metric_opt:
        return metric_opt['better'] == 'lower'
    if metric_opt['type'] == 'calculate_iqa':
        return metric_info(metric_opt['metric']).lower_better
    return metric_opt['type'] == 'calculate_niqe'  # BasicSR's others, psnr and ssim, are better when higher
