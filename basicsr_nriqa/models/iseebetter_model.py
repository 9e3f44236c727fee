"""Training of a video network against a discriminator, as iSeeBetter's (Chadha et al., "iSeeBetter: Spatio-temporal
video super-resolution using recurrent generative back-projection networks", 2020)."""
import contextlib
import math
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
from basicsr.archs import build_network
from basicsr.utils import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn

from basicsr_nriqa.balancing.gradients import rank_count, summed_over_ranks
from basicsr_nriqa.distributed import Replica
from basicsr_nriqa.models.guarded_step import GuardedStep
from basicsr_nriqa.models.option_errors import made_from
from basicsr_nriqa.models.video_iqa_model import VideoIQAModel
from basicsr_nriqa.training.stop import stop

GAN = 'gan'


def frames_of(clips: Tensor) -> Tensor:
    """(n,t,3,h,w) or (n,3,h,w) -> images (n*t,3,h,w), float32."""
    return (clips.flatten(0, 1) if clips.ndim == 5 else clips).float()


class AdversarialLoss(nn.Module):
    """``-loss_weight`` times the mean probability that the discriminator takes frames for real ones.

    The discriminator is used as in its own training, with the statistics of this batch, but nothing of it is changed:
    its weights get no gradient and its running statistics stay.

    Args:
        discriminator (nn.Module): (n,3,h,w) -> (n,) in (0,1).
        loss_weight (float): Above 0.
    """

    def __init__(self, discriminator: nn.Module, loss_weight: float) -> None:
        super().__init__()
        self._hidden = (discriminator,)  # its weights are not this loss's
        self.loss_weight = loss_weight

    def forward(self, output: Tensor, target: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Args:
            output (Tensor): (n,3,h,w) or (n,t,3,h,w), RGB in [0,1]; gradients flow to it.
            target (Tensor | None): Not used.

        Returns:
            Tensor: Scalar.
        """
        discriminator, = self._hidden
        with _untouched(discriminator):
            return -self.loss_weight * discriminator(frames_of(output)).mean()

    def deficit(self, value: Tensor) -> Tensor:
        """How far a value is from the best, which is a probability of 1."""
        return value + self.loss_weight


@contextlib.contextmanager
def _untouched(network: nn.Module) -> Iterator[None]:
    norms: list[Any] = [module for module in network.modules() if getattr(module, 'track_running_stats', False)]
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for norm in norms:
        norm.track_running_stats = False  # in training mode: the batch's statistics, kept nowhere
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
        for parameter in parameters:
            parameter.requires_grad_()


@MODEL_REGISTRY.register()
class ISeeBetterModel(VideoIQAModel):
    """:class:`VideoIQAModel` with a discriminator, which learns to tell the output's frames from real ones.

    The generator has one loss more, ``gan``: ``-loss_weight`` times the mean probability D(output). It is balanced and
    logged like any other; ``VGGFeatureLoss`` and ``TotalVariationLoss`` go into ``iqa_opt``. After each of the
    generator's steps the discriminator makes one on 1 - mean D(real) + mean D(output). Real and restored frames go
    through it one after the other, each with the batch statistics of its own, as published. Where the generator's
    iteration was skipped the discriminator's is, too.

    The log has ``l_d``, the discriminator's loss, and ``d_real`` and ``d_fake``, its mean probabilities. It is saved as
    ``net_d_ITERATION.pth``.

    With several processes on GPUs batch statistics are those of all, as in one; with gloo on CPUs, where PyTorch has no
    such layer, each process takes its own.

    Options besides those of :class:`VideoIQAModel`:

    - ``network_d`` (dict): The discriminator, ``{type: SRGANDiscriminator}``.
    - ``path:pretrain_network_d``, ``path:param_key_d``, ``path:strict_load_d``: As those of the generator.
    - ``train:optim_d`` (dict): Its optimiser, as ``optim_g``. Its learning rate follows ``train:scheduler``, too.
    - ``train:gan_opt`` (dict): ``loss_weight``, above 0; default: 0.001, as published.
    """

    TRAIN_OPTIONS = VideoIQAModel.TRAIN_OPTIONS | {'optim_d', 'gan_opt'}
    REQUIRED_TRAIN_OPTIONS = (*VideoIQAModel.REQUIRED_TRAIN_OPTIONS, 'optim_d')
    net_d: Any  # nn.Module, in several processes inside of a Replica

    def init_training_settings(self) -> None:
        with made_from('network_d', self.opt['network_d']['type']):
            net = build_network(self.opt['network_d'])
        self.net_d = self._discriminator_to_device(net)
        self.print_network(self.net_d)
        path_opt = self.opt['path']
        if path_opt.get('pretrain_network_d') is not None:
            self.load_network(self.net_d, path_opt['pretrain_network_d'], path_opt.get('strict_load_d', True),
                              path_opt.get('param_key_d', 'params'))
        self.net_d.train()
        super().init_training_settings()
        self.step_d = GuardedStep(self.optimizer_d, self.device, self.opt['train'].get('precision'))
        self._discriminator_means: Tensor | None = None
        self._d_skipped = 0

    def _discriminator_to_device(self, net: nn.Module) -> nn.Module:
        net = net.to(self.device)
        if not self.opt['dist']:
            return net
        on_cpu = self.device.type == 'cpu'
        if not on_cpu:
            net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
        # it runs twice for one step: buffers sent round in between would be those that its backward pass needs
        return Replica(net, device_ids=None if on_cpu else [torch.cuda.current_device()], broadcast_buffers=False)

    def _build_losses(self, train_opt: dict[str, Any]) -> dict[str, nn.Module]:
        losses = super()._build_losses(train_opt)
        weight = (train_opt.get('gan_opt') or {}).get('loss_weight', 0.001)
        losses[GAN] = AdversarialLoss(self.get_bare_model(self.net_d), weight)
        return losses

    def setup_optimizers(self) -> None:
        super().setup_optimizers()
        optim_opt = deepcopy(self.opt['train']['optim_d'])
        with made_from('train:optim_d', optim_opt['type']):
            self.optimizer_d = self.get_optimizer(optim_opt.pop('type'), self.net_d.parameters(), **optim_opt)
        self.optimizers.append(self.optimizer_d)

    def optimize_parameters(self, current_iter: int) -> None:
        super().optimize_parameters(current_iter)
        self._discriminator_means = None
        if not self._skipped_in_a_row:
            self._train_discriminator(current_iter)

    def _train_discriminator(self, current_iter: int) -> None:
        self.optimizer_d.zero_grad()
        means = {name: torch.zeros((), device=self.device) for name in ('d_real', 'd_fake')}
        passes = [(name, clips) for pair in zip(self.gt.chunk(self.parts), self.output.chunk(self.parts))
                  for name, clips in zip(means, pair)]
        for index, (name, clips) in enumerate(passes):
            last = index == len(passes) - 1
            with contextlib.nullcontext() if last or not self.opt['dist'] else self.net_d.no_sync():
                with self.step_d.autocast():
                    probabilities = self.net_d(frames_of(clips))
                mean = probabilities.float().mean() * (len(clips) / len(self.gt))
                self.step_d.scale(-mean if name == 'd_real' else mean).backward()
            means[name] += mean.detach()
        self._discriminator_means = torch.stack(list(means.values()))
        self._d_skipped = 0 if math.isfinite(self.step_d()) else self._d_skipped + 1
        if self._d_skipped:
            get_root_logger().warning(f'Iteration {current_iter}: the gradient of the discriminator is not finite; its '
                                      f'step is skipped ({self._d_skipped} in a row).')
        if self._d_skipped == self.skip_limit:
            stop.fail(FloatingPointError(
                f'Iteration {current_iter}: {self.skip_limit} steps of the discriminator in a row had to be skipped '
                '(train:skip_limit); its gradient was not finite. Lower train:optim_d:lr.'))

    def get_current_log(self) -> dict[str, float]:
        """As :class:`VideoIQAModel`, with ``l_d``, ``d_real`` and ``d_fake`` where the discriminator was trained."""
        super().get_current_log()
        if self._discriminator_means is not None:
            real, fake = (summed_over_ranks(self._discriminator_means) / rank_count()).tolist()
            self.log_dict.update(l_d=1 - real + fake, d_real=real, d_fake=fake)
        return self.log_dict

    def own_state(self) -> dict[str, Any]:
        """As :class:`VideoIQAModel`, and the scale of the discriminator's gradients."""
        return {**super().own_state(), 'step_d': self.step_d.state_dict(), 'd_skipped': self._d_skipped}

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        super().resume_training(resume_state)
        self.step_d.load_state_dict(resume_state.get('step_d'))
        self._d_skipped = resume_state.get('d_skipped', 0)

    def save(self, epoch: int, current_iter: int) -> None:
        """Networks, then the training state."""
        self.save_network(self.net_d, 'net_d', current_iter)
        super().save(epoch, current_iter)
