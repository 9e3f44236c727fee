"""The guard of a training: watches its validations for what the paper saw with artifacts, and says when to end it."""
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from basicsr.utils import get_root_logger
from torch import Tensor, distributed, nn

from basicsr_nriqa.iqa import metric_info
from basicsr_nriqa.losses import IQAEnsembleLoss, metrics_of
from basicsr_nriqa.metrics.iqa_metric import cached_metric
from basicsr_nriqa.models.guard_findings import Look, compare_clips, compare_means
from basicsr_nriqa.models.guard_options import GuardOptions
from basicsr_nriqa.models.start_frames import StartFrames
from basicsr_nriqa.options import OptionsError
from basicsr_nriqa.study.artifact_flags import ArtifactRule
from basicsr_nriqa.study.gaming import score_perturbed
from basicsr_nriqa.study.spectrum import BLOCK, DifferenceSpectrum
from basicsr_nriqa.training.state import CheckpointError

_ANEW = 'start anew (without --auto_resume), or leave val:guard out.'
_NOT_OF_A_METRIC = ('type', 'metric', 'better', 'batch', 'crop_border', 'device')


class ScalarLog(Protocol):
    """TensorBoard's ``SummaryWriter``, as far as validations use it."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...


class Guard:
    """Compares each validation with that of the start network, and counts those that fail.

    A validation fails where, on any set, an anchor is worse than at the start by more than its percent, too little of
    the gain in an optimised no-reference metric survives what hardly alters the picture, or the difference to the
    output at the start holds a regular pattern (Kashkarov et al., Sec. IV; docs/artifacts.md).

    On many ranks all have one, and all call :meth:`take` and :meth:`judge` with the same numbers.

    Args:
        options (GuardOptions): What is checked, and what is done.
        lower_better (dict[str, bool]): Of the entries of ``val.metrics``.
        optimised (dict[str, dict]): No-reference metric that a loss optimises -> its options for measuring.
        no_reference (Collection[str]): Names of the losses that optimise them.
        folder (str | Path): Where the frames of the start are kept.

    Attributes:
        factor (float): What the gradients of the no-reference losses are multiplied with.
        good (int | None): Iteration of the last validation that passed; 0 is the start network.
        stopped (int | None): Iteration after which the training was ended.

    Raises:
        OptionsError: weights shall be lowered, and there is no loss to lower.
    """

    def __init__(self, options: GuardOptions, lower_better: dict[str, bool], optimised: dict[str, dict[str, Any]],
                 no_reference: Collection[str], folder: str | Path) -> None:
        if options.action == 'lower' and not no_reference:
            raise OptionsError('val:guard:action: lower is for losses that are no-reference metrics, and there is '
                               'none. Use stop.')
        self.options, self.lower_better, self.no_reference = options, lower_better, no_reference
        self.optimised = {} if options.least_kept is None else optimised
        self.rule = ArtifactRule() if options.least_kept is None else ArtifactRule(least_kept=options.least_kept)
        self.frames = StartFrames(folder)
        # set: {'means': {metric: mean}, 'clips': {clip: {'scores': and 'digest': of its Look}}}
        self.start: dict[str, dict[str, Any]] = {}
        self.factor, self.violations = 1.0, 0
        self.good: int | None = None
        self.stopped: int | None = None
        self._failed: list[str] = []  # of the running validation
        self._scalars: dict[str, float] = {}

    @classmethod
    def of(cls, opt: dict[str, Any], losses: dict[str, nn.Module], lower_better: dict[str, bool]) -> 'Guard | None':
        """The guard that complete training options ask for.

        Args:
            opt (dict): The options.
            losses (dict[str, nn.Module]): The losses by name.
            lower_better (dict[str, bool]): See above.

        Returns:
            Guard | None: None without ``val: guard``.
        """
        val = opt.get('val') or {}
        if val.get('guard') is None:
            return None
        measured = {entry['metric']: entry for entry in (val.get('metrics') or {}).values() if 'metric' in entry}
        loss_opts = {'pix': opt['train'].get('pixel_opt'), **(opt['train'].get('iqa_opt') or {})}
        optimised, no_reference = {}, []
        for name, loss in losses.items():
            found = _optimised(loss, loss_opts.get(name) or {})
            no_reference += [name] if found else []
            for metric, weights in found.items():  # as it is measured; how a loss draws crops is of training only
                optimised[metric] = {key: value for key, value in measured.get(metric, weights).items()
                                     if key not in _NOT_OF_A_METRIC}
        return cls(GuardOptions(**val['guard']), lower_better, optimised, no_reference,
                   Path(opt['path']['experiments_root'], 'guard'))

    def weigh(self, name: str, gradient: Tensor) -> Tensor:
        """The gradient of a loss at the output, lowered if it is to be."""
        return gradient if self.factor == 1 or name not in self.no_reference else gradient * self.factor

    def watched(self, iteration: int, dataset: str, clips: Sequence[str]) -> frozenset[str]:
        """The clips of a set to :meth:`look` at.

        Args:
            iteration (int): 0 for the start network.
            dataset (str): Name of the set.
            clips (Sequence[str]): Names of its clips.

        Returns:
            frozenset[str]

        Raises:
            OptionsError: at the start of the training there were others.
        """
        if iteration == 0:
            needed = self.optimised or self.options.spectrum
            count = min(self.options.clips, len(clips)) if needed else 0
            return frozenset(clips[index * len(clips) // count] for index in range(count))
        return self._watched_at_start(dataset, clips)

    def _watched_at_start(self, dataset: str, clips: Sequence[str]) -> frozenset[str]:
        if dataset not in self.start:
            raise OptionsError(f'val:guard: {dataset} was no validation set when this training started, so there is '
                               f'nothing to compare it with. Take it out, {_ANEW}')
        chosen = frozenset(self.start[dataset]['clips'])
        if not chosen <= set(clips):
            raise OptionsError(f'val:guard: the validation set {dataset} lacks clips that were looked at when the '
                               f"training started: {', '.join(sorted(chosen - set(clips)))}. Restore them, {_ANEW}")
        return chosen

    def look(self, iteration: int, dataset: str, item: dict[str, Any], result: Tensor) -> Look:
        """Measure a clip, on the rank that has it; at the start keep its frames.

        Args:
            iteration (int): 0 for the start network.
            dataset (str): Name of the set.
            item (dict): ``folder``, the clip's name, and ``frames``, those of its frames.
            result (Tensor): (t,3,h,w) in [0,1], multiples of 1/255.

        Returns:
            Look

        Raises:
            OptionsError: the frames are too small for a spectrum, or not as many or as large as at the start.
            CheckpointError: frames of the start cannot be written, or later are missing or damaged.
        """
        clip, spectrum, digest = item['folder'], None, None
        frames = torch.stack([frame.mul(255).round().to(torch.uint8) for frame in result])
        metrics = {name: cached_metric(name, frames.device, **options) for name, options in self.optimised.items()}
        scores = score_perturbed(metrics, frames) if metrics else {}
        if self.options.spectrum:
            if min(frames.shape[-2:]) < BLOCK:
                raise OptionsError(f'val:guard:spectrum: the frames of {dataset} have {frames.shape[-1]}x'
                                   f'{frames.shape[-2]} px, and {BLOCK} px a side are needed; set it to false.')
            if iteration == 0:
                self.frames.write(dataset, clip, item['frames'], frames)
                digest = self.frames.digest(dataset, clip)
            else:
                self._check_frames(dataset, clip)
            start = self.frames.read(dataset, clip)
            if start.shape != frames.shape:
                raise OptionsError(f'val:guard: the clip {clip} of {dataset} is now {tuple(frames.shape)} (frames, '
                                   f'channels, height, width), and was {tuple(start.shape)} when this training '
                                   f'started. Restore the set and its options, {_ANEW}')
            spectrum = DifferenceSpectrum()
            spectrum.add(frames, start.to(frames.device))
        return Look(scores, spectrum, digest)

    def take(self, iteration: int, dataset: str, scores: dict[str, dict[str, float]], looks: dict[str, Look]) -> None:
        """Note what the validation of a set has found, and log it.

        Args:
            iteration (int): 0 for the start network.
            dataset (str): Its name.
            scores (dict[str, dict[str, float]]): Clip -> its scores by entry of ``val.metrics``.
            looks (dict[str, Look]): Of the clips that are watched.
        """
        means = {metric: sum(clip[metric] for clip in scores.values()) / len(scores)
                 for metric in next(iter(scores.values()))}
        if iteration == 0:
            self.start[dataset] = {'means': means, 'clips': {
                clip: {'scores': look.scores, 'digest': look.digest} for clip, look in looks.items()}}
            spectra = [look.spectrum for look in looks.values() if look.spectrum]
            if spectra and DifferenceSpectrum.merged(spectra).result()['blocks'] < self.rule.least_blocks:
                get_root_logger().warning(f'val:guard:spectrum: the clips of {dataset} are too few or too small to '
                                          'tell a pattern from chance; look at more of them (val:guard:clips).')
            return
        start = self.start[dataset]
        directions = {metric: metric_info(metric).lower_better for metric in self.optimised}
        both = (compare_means(self.options.anchors, self.lower_better, start['means'], means),
                compare_clips(self.rule, directions, start['clips'], looks))
        failed = [text for findings in both for text in findings.failed]
        passed = [text for findings in both for text in findings.passed]
        self._scalars.update({f'guard/{dataset}/{name}': value for findings in both
                              for name, value in findings.scalars.items()})
        if failed:
            self._failed.append(dataset)
            get_root_logger().warning(f"Guard, {dataset}: failed. {' '.join(failed)}")
        else:
            get_root_logger().info(' '.join([f'Guard, {dataset}: passed.', *passed]))

    def judge(self, iteration: int, tb_logger: ScalarLog | None = None) -> bool:
        """All sets are validated: decide. All ranks call, and come to what rank 0 does.

        Args:
            iteration (int): 0 for the start network, which passes.
            tb_logger (SummaryWriter | None): Gets the numbers, under ``guard/``.

        Returns:
            bool: Whether this validation passed.

        Raises:
            OptionsError: at the start: an anchor was measured on no set, or a score is NaN.
        """
        if iteration == 0:
            self._check_comparable()
        failed, logger = _of_rank_0(bool(self._failed)), get_root_logger()
        scalars, self._failed, self._scalars = self._scalars, [], {}
        self.violations = self.violations + 1 if failed else 0
        if not failed:
            self.good = iteration
        elif self.violations < self.options.patience:
            logger.warning(f'Guard: {self.violations} of {self.options.patience} failures in a row '
                           '(val:guard:patience).')
        elif self.options.action == 'lower':
            self.factor, self.violations = self.factor * self.options.factor, 0
            logger.warning(f"Guard: from here on the weights of {', '.join(self.no_reference)} are {self.factor:g} "
                           'times those of the options.')
        else:
            self.stopped = iteration
            logger.warning(f'Guard: the training is stopped after iteration {iteration}.')
        if tb_logger:
            for name, value in {**scalars, 'guard/failures_in_a_row': self.violations,
                                'guard/factor': self.factor}.items():
                tb_logger.add_scalar(name, value, iteration)
        return not failed

    def _check_comparable(self) -> None:
        for name in self.options.anchors:
            if not any(name in start['means'] for start in self.start.values()):
                raise OptionsError(f'val:guard:anchors:{name}: it compares with GT, and no validation set has any. '
                                   'Give one a dataroot_gt, or leave this anchor out.')
        for dataset, start in self.start.items():
            scores = [(f'anchors:{name}', start['means'].get(name, 0)) for name in self.options.anchors]
            scores += [(f'least_kept (of {name})', score) for kept in start['clips'].values()
                       for name, perturbed in kept['scores'].items() for score in perturbed.values()]
            for check, score in scores:
                if math.isnan(score):
                    raise OptionsError(f'val:guard:{check}: the score of the start network on {dataset} is NaN, so '
                                       'there is nothing to compare with. Leave this check out, or the clips that have '
                                       'no score.')

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs to decide as the uninterrupted one, besides the frames."""
        return {name: getattr(self, name) for name in ('start', 'factor', 'violations', 'good', 'stopped')}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        for name, value in state.items():
            setattr(self, name, value)

    def check_start(self, sets: dict[str, Sequence[str]]) -> None:
        """Check, before a resumed training goes on, that all is there that the options ask to compare with.

        The start network itself is not, so that nothing of it could be made again.

        Args:
            sets (dict[str, Sequence[str]]): Validation set -> names of its clips.

        Raises:
            OptionsError: the start was not measured so.
            CheckpointError: frames of the start are missing or damaged.
        """
        if not self.start:
            raise _not_measured('the start network')
        watched = [(dataset, clip) for dataset, names in sets.items()
                   for clip in sorted(self._watched_at_start(dataset, names))]
        means = {name for dataset in sets for name in self.start[dataset]['means']}
        clips = [self.start[dataset]['clips'][clip] for dataset, clip in watched]
        missing = [f'anchors:{name}' for name in self.options.anchors if name not in means]
        missing += [f'least_kept (of {name})' for name in self.optimised
                    if not clips or any(name not in kept['scores'] for kept in clips)]
        if self.options.spectrum and not (clips and all(kept['digest'] for kept in clips)):
            missing.append('spectrum')
        if missing:
            raise _not_measured(f"what {', '.join(missing)} asks for")
        for dataset, clip in watched if self.options.spectrum else ():
            self._check_frames(dataset, clip)

    def _check_frames(self, dataset: str, clip: str) -> None:
        if self.frames.digest(dataset, clip) != self.start[dataset]['clips'][clip]['digest']:
            raise CheckpointError(f'{self.frames.folder / dataset / clip}: missing or damaged. It is the output of the '
                                  'start network, with which val:guard compares. Restore it, set val:guard:spectrum to '
                                  'false, or start anew (without --auto_resume).')


def _not_measured(what: str) -> OptionsError:
    return OptionsError(f'val:guard: {what} was not measured when this training started, so there is nothing to '
                        f'compare with. Leave it out, {_ANEW}')


def _optimised(loss: nn.Module, options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """No-reference metrics of a loss -> the option ``weights`` that it gives them, if any."""
    if isinstance(loss, IQAEnsembleLoss):
        members = zip(loss.members, loss.member_options(options).values())
        return {metric: weights for member, own in members for metric, weights in _optimised(member, own).items()}
    weights = {'weights': options['weights']} if 'weights' in options else {}
    return {info.name: weights for info in metrics_of(loss) if not info.full_reference}


def _of_rank_0(value: bool) -> bool:
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]
