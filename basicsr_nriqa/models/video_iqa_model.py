"""Training of a video network with any number of losses, each computed on its own at the network's output."""
import contextlib
import math
import os
from collections.abc import Iterable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from basicsr.archs import build_network
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn

from basicsr_nriqa.balancing import BALANCERS, Gradients
from basicsr_nriqa.balancing.balancer import Balancer
from basicsr_nriqa.balancing.gradients import summed_over_ranks
from basicsr_nriqa.balancing.shared_layer import gradients_at, last_convolution, weight_of
from basicsr_nriqa.checkpoints import load_checkpoint_file, load_content, weights_under
from basicsr_nriqa.losses import metrics_of
from basicsr_nriqa.models.clip_validation import ClipValidation, lower_better
from basicsr_nriqa.models.guard import Guard
from basicsr_nriqa.models.guarded_step import GuardedStep
from basicsr_nriqa.models.guarded_training import GuardedTraining
from basicsr_nriqa.models.loss_statistics import LossStatistics
from basicsr_nriqa.models.option_errors import made_from, used_on
from basicsr_nriqa.models.trained_options import TrainedOptions
from basicsr_nriqa.models.training_losses import build_losses, value_of
from basicsr_nriqa.options import OptionsError
from basicsr_nriqa.training.state import save_whole
from basicsr_nriqa.training.stop import stop
from basicsr_nriqa.version import __version__

BASELINE = 'baseline'


@MODEL_REGISTRY.register()
class VideoIQAModel(ClipValidation, GuardedTraining, TrainedOptions, SRModel):
    """A video network (n,t,3,h,w) -> (n,t,3,s*h,s*w), trained with a pixel loss and quality metrics.

    The output is detached, every loss gives its gradient there and frees its graph, the balancer makes one gradient
    of them, and that goes back through the network once. The result is the gradient of the weighted sum, but only one
    loss's graph is in memory at a time.

    An iteration whose losses or gradients are not finite changes nothing: it is reported and skipped.

    Options under ``train`` (besides ``total_iter``, ``warmup_iter`` and ``scheduler``, which are BasicSR's):

    - ``optim_g`` (dict): ``type``: Adam or another optimiser of torch.optim; the rest are its arguments.
    - ``pixel_opt`` (dict): A loss of (output, gt), usually CharbonnierLoss.
    - ``iqa_opt`` (dict): name: {type: ...} of further losses, usually IQALoss; the names are in the log, ``l_NAME``.
    - ``balance_opt`` (dict): {type: fixed}, the default, {type: gradnorm, alpha: 1.5, ...} or another balancer of
      :mod:`basicsr_nriqa.balancing`; its weights appear in the log as ``w_NAME``.
    - ``precision`` (str): ``bf16`` or ``fp16``: autocast of the network; losses stay in float32. Default: float32.
    - ``accumulate`` (int): The batch goes through the network in so many parts, one after the other; the step is that
      of the whole batch, for less memory. Must divide batch_size_per_gpu. Default: 1.
    - ``clip_norm`` (float): Largest norm of the gradient of all weights together. Default: no limit.
    - ``skip_limit`` (int): After so many skipped iterations in a row training ends with a checkpoint. Default: 50.
    - ``channels_last`` (bool): Keep the weights of 2-D convolutions, and so their images, in that memory format.
    - ``compile`` (bool | dict): torch.compile the network for training; a dict has its arguments, such as ``mode``.
    - ``ema_decay`` (float): Keep an exponential moving average, which is validated and saved too. Default: 0, none.
    - ``fix_flow`` (int): Iterations in which the optical-flow network is not trained. Default: 0.
    - ``flow_lr_mul`` (float): Learning rate of the optical-flow network relative to the others'. Default: 1.

    Options at the top: ``deterministic: true`` asks PyTorch for algorithms that repeat to the bit, where there are any.

    Options under ``val``: see :class:`~basicsr_nriqa.models.clip_validation.ClipValidation`.

    Args:
        opt (dict[str, Any]): Complete options, as BasicSR's ``parse_options`` returns them.

    Raises:
        OptionsError: no loss is given, a layer to balance at is not there, or a checkpoint does not belong to the
            network.
    """

    TRAIN_OPTIONS = frozenset({'optim_g', 'scheduler', 'total_iter', 'warmup_iter', 'pixel_opt', 'iqa_opt',
                               'balance_opt', 'ema_decay', 'fix_flow', 'flow_lr_mul', 'precision', 'accumulate',
                               'clip_norm', 'skip_limit', 'channels_last', 'compile'})
    REQUIRED_TRAIN_OPTIONS: tuple[str, ...] = ('optim_g', 'scheduler', 'total_iter')
    DEFAULT_BALANCER = 'fixed'
    net_g: Any  # nn.Module, in several processes inside of a Replica
    optimizer_g: torch.optim.Optimizer

    def __init__(self, opt: dict[str, Any]) -> None:
        self.trained_with = {'loss': opt['name'], 'optimised': []}  # a checkpoint of ours says it itself
        if opt.get('deterministic'):
            os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
            torch.backends.cudnn.benchmark = False
            torch.use_deterministic_algorithms(True, warn_only=True)
        super(SRModel, self).__init__(opt)  # SRModel's own would not say which option it cannot use
        with made_from('network_g', opt['network_g']['type']):
            net = build_network(opt['network_g'])
        self.net_g = self.model_to_device(net)
        self.print_network(self.net_g)
        path_opt = opt['path']
        if path_opt.get('pretrain_network_g') is not None:
            self.load_network(self.net_g, path_opt['pretrain_network_g'], path_opt.get('strict_load_g', True),
                              path_opt.get('param_key_g', 'params'))
        if self.is_train:
            self.init_training_settings()

    def init_training_settings(self) -> None:
        train_opt = self.opt['train']
        self.note_options()
        self.net_g.train()
        self.ema_decay = train_opt.get('ema_decay') or 0
        if self.ema_decay > 0:
            self._init_ema()
        self.losses = {name: loss.to(self.device) for name, loss in self._build_losses(train_opt).items()}
        self.balancer, self.shared_weight = self._build_balancer(train_opt.get('balance_opt'))
        optimised = [info.name for loss in self.losses.values() for info in metrics_of(loss)]
        balancer = (train_opt.get('balance_opt') or {}).get('type', self.DEFAULT_BALANCER)
        balanced = '' if balancer == 'fixed' else f" (with {'GradNorm' if balancer == 'gradnorm' else balancer})"
        self.trained_with = {'loss': (' & '.join(optimised) or BASELINE) + balanced, 'optimised': optimised}
        self.guard = Guard.of(self.opt, self.losses, {
            name: lower_better(metric_opt) for name, metric_opt in
            ((self.opt.get('val') or {}).get('metrics') or {}).items()})
        self.fix_flow_iter = train_opt.get('fix_flow') or 0
        self.parts = train_opt.get('accumulate') or 1
        self.skip_limit = train_opt.get('skip_limit') or 50
        self.skipped, self._skipped_in_a_row = 0, 0
        self.statistics: LossStatistics | None = None
        self._log: dict[str, float] = {}
        self._flow_is_fixed = False
        # an error of the first iteration is one of options, or, of several processes, of another one
        self._is_first = not self.opt['dist']
        self.setup_optimizers()
        self.setup_schedulers()
        self.step_g = GuardedStep(self.optimizer_g, self.device, train_opt.get('precision'),
                                  train_opt.get('clip_norm'))

    def _init_ema(self) -> None:
        get_root_logger().info(f'Use Exponential Moving Average with decay: {self.ema_decay}')
        self.net_g_ema = build_network(self.opt['network_g']).to(self.device)
        load_path = self.opt['path'].get('pretrain_network_g')
        if load_path is not None:
            self.load_network(self.net_g_ema, load_path, self.opt['path'].get('strict_load_g', True), 'params_ema')
        else:
            self.net_g_ema.load_state_dict(self.get_bare_model(self.net_g).state_dict())
        self.net_g_ema.eval().requires_grad_(False)

    def _build_losses(self, train_opt: dict[str, Any]) -> dict[str, nn.Module]:
        return build_losses(train_opt)

    def _build_balancer(self, options: dict[str, Any] | None) -> tuple[Balancer, nn.Parameter | None]:
        """The balancer, and the weights of the layer at which it wants gradients, if it names one."""
        options = {'type': self.DEFAULT_BALANCER, **(options or {})}
        try:
            balancer = BALANCERS[options.pop('type')](**options)
            if balancer.layer in ('output', 'last'):  # the last one shows when there is an output
                return balancer, None
            return balancer, weight_of(self.get_bare_model(self.net_g), balancer.layer)
        except ValueError as error:
            raise OptionsError(f'train:balance_opt: {error}') from None

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """As BasicSR, and in the memory format and compiled as the options want it for training."""
        train_opt = (self.opt.get('train') or {}) if self.is_train else {}
        if train_opt.get('channels_last'):
            for parameter in net.parameters():
                if parameter.ndim == 4:
                    parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        if train_opt.get('compile') and net._compiled_call_impl is None:
            with made_from('train:compile', 'a compiled network'):
                net.compile(**(train_opt['compile'] if isinstance(train_opt['compile'], dict) else {}))
        return super().model_to_device(net)

    def setup_optimizers(self) -> None:
        optim_opt = deepcopy(self.opt['train']['optim_g'])
        flow_factor = self.opt['train'].get('flow_lr_mul')
        flow: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in self.get_bare_model(self.net_g).named_parameters():
            (flow if 'spynet' in name else others).append(parameter)
        groups: list[dict[str, Any]] = [{'params': others}]
        if flow:
            groups.append({'params': flow, 'lr': optim_opt['lr'] * (1 if flow_factor is None else flow_factor)})
        elif self.fix_flow_iter:
            get_root_logger().warning('train:fix_flow does nothing: the network has no parameters named spynet.')
        with made_from('train:optim_g', optim_opt['type']):
            self.optimizer_g = self.get_optimizer(optim_opt.pop('type'), groups, **optim_opt)
        self.optimizers.append(self.optimizer_g)

    def setup_schedulers(self) -> None:
        with made_from('train:scheduler', self.opt['train']['scheduler']['type']):
            super().setup_schedulers()

    def get_optimizer(self, optim_type: str, params: Iterable[Any], lr: float, **kwargs: Any) -> torch.optim.Optimizer:
        return getattr(torch.optim, optim_type)(params, lr, **kwargs)

    def optimize_parameters(self, current_iter: int) -> None:
        self._fix_flow(current_iter < self.fix_flow_iter)
        self.optimizer_g.zero_grad()
        self.statistics, self._log = None, {}
        statistics, outputs = LossStatistics(self.losses), []
        balancer_before = deepcopy(self.balancer.state_dict())
        batches, references = self.lq.chunk(self.parts), self.gt.chunk(self.parts)
        for number, (lq, gt) in enumerate(zip(batches, references), 1):
            # only the last part's backward pass exchanges gradients with the other ranks
            alone = self.opt['dist'] and number < len(batches)
            with self.net_g.no_sync() if alone else contextlib.nullcontext():
                output = self._restored(lq, gt)
                if not self._finite_on_all_ranks(output):
                    # nor would its gradient be, which crashes the samplers of warped frames
                    self._skip(current_iter, "the network's output is not finite", balancer_before)
                    return
                combined = self._gradient_at_output(output, gt, len(lq) / len(self.lq), statistics)
                output.backward(self.step_g.scale(combined).to(output.dtype))
            # a compiled network may write its next output to the same memory
            outputs.append(output.detach() if len(batches) == 1 else output.detach().clone())
        self.output = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        self.statistics, self._is_first = statistics, False
        self._step(current_iter, statistics, balancer_before)

    def _restored(self, lq: Tensor, gt: Tensor) -> Tensor:
        kind, given = self.opt['network_g']['type'], f'LR of shape {tuple(lq.shape)}'
        told = used_on('network_g', kind, given, 'A network here takes clips (n,t,3,h,w) and returns (n,t,3,s*h,s*w), '
                                                 'as those in docs/networks.md.')
        with told if self._is_first else contextlib.nullcontext(), self.step_g.autocast():
            output = self.net_g(lq)
        if output.shape != gt.shape:
            raise OptionsError(f'network_g: {kind} makes {tuple(output.shape)} of {given}, but GT is '
                               f'{tuple(gt.shape)}. Its scale has to be that of the data, and it has to restore all '
                               'frames of a clip.')
        return output

    def _step(self, current_iter: int, statistics: LossStatistics, balancer_before: dict[str, Any]) -> None:
        norm = self.step_g()
        self._log = {**{f'w_{name}': weight for name, weight in self.balancer.weights.items()}, 'grad_norm': norm}
        if not math.isfinite(norm):
            self._skip(current_iter, self._what_is_not_finite(statistics), balancer_before)
            return
        self._skipped_in_a_row = 0
        self.balancer.step()
        if self.ema_decay > 0:
            self.model_ema(self.ema_decay)

    @staticmethod
    def _finite_on_all_ranks(output: Tensor) -> bool:
        """All ranks go on, or none does: they meet in the backward pass."""
        broken = summed_over_ranks((~output.detach().isfinite()).any().float())
        return not broken.item()

    def _gradient_at_output(self, output: Tensor, gt: Tensor, share: float, statistics: LossStatistics) -> Tensor:
        """The balanced gradient of a part of the batch, times its share, of the output's shape."""
        leaf = output.detach().to(torch.promote_types(output.dtype, torch.float32)).requires_grad_()
        gradients, values, deficits = Gradients(list(self.losses), output, share), {}, {}
        for name, loss in self.losses.items():
            value = value_of(name, loss, leaf, gt, self._is_first)
            gradient = torch.autograd.grad(value, leaf)[0]
            gradients.put(name, self.guard.weigh(name, gradient) if self.guard else gradient)
            values[name] = value.detach()
            deficit = getattr(loss, 'deficit', None)
            deficits[name] = deficit(values[name]) if deficit else values[name]
        statistics.add(values, gradients)
        if self.balancer.layer != 'output' and self.balancer.measures:
            gradients.at_layer = self._gradients_at_layer(output, gradients.matrix)
        return self.balancer(gradients, deficits)

    def _gradients_at_layer(self, output: Tensor, gradients: Tensor) -> Tensor:
        layer = self.balancer.layer
        try:
            if self.shared_weight is None:
                layer, self.shared_weight = last_convolution(self.get_bare_model(self.net_g), output)
                get_root_logger().info(f'The losses are balanced at the weights of {layer}.')
            if not self.shared_weight.requires_grad:
                raise ValueError(f"layer: '{layer}' is not trained (train:fix_flow?), so it has no gradient.")
            return gradients_at(self.shared_weight, output, gradients)
        except ValueError as error:
            raise OptionsError(f'train:balance_opt: {error}') from None

    def _what_is_not_finite(self, statistics: LossStatistics) -> str:
        losses = statistics.not_finite()
        if losses:
            return f"not finite: value or gradient of {', '.join(losses)}"
        if self.step_g.scaler.is_enabled():
            return (f'fp16 overflowed in the backward pass, gradients are scaled by {self.step_g.scaler.get_scale():g}'
                    ' from now on')
        return "the gradient of the network's weights is not finite, though those of the losses are"

    def _skip(self, current_iter: int, reason: str, balancer_before: dict[str, Any]) -> None:
        """Report an iteration that changes nothing; after too many in a row end the training."""
        self.balancer.discard()
        self.balancer.load_state_dict(balancer_before)
        self.skipped += 1
        self._skipped_in_a_row += 1
        get_root_logger().warning(f'Iteration {current_iter} is skipped: {reason} '
                                  f'({self._skipped_in_a_row} in a row, {self.skipped} in all).')
        if self._skipped_in_a_row == self.skip_limit:
            stop.fail(FloatingPointError(
                f'Iteration {current_iter}: {self.skip_limit} iterations in a row had to be skipped (train:skip_limit);'
                f' the last because {reason}. The checkpoint holds the weights from before them. Lower the learning '
                'rate or the weight of the loss, or set train:clip_norm.'))

    def get_current_log(self) -> dict[str, float]:
        """Entries for the log, see :class:`~basicsr_nriqa.models.loss_statistics.LossStatistics`; besides ``w_NAME``
        weights of the balancer, ``grad_norm`` of all weights together, and, where there were any, ``w_skipped`` steps
        that were not balanced, ``skipped`` iterations, and ``w_guard``, to which the guard has lowered the no-reference
        losses. On many ranks all must call."""
        self.log_dict = {**(self.statistics.log() if self.statistics else {}), **self._log}
        if self.balancer.skipped:
            self.log_dict['w_skipped'] = self.balancer.skipped
        if self.skipped:
            self.log_dict['skipped'] = self.skipped
        if self.guard and self.guard.factor != 1:
            self.log_dict['w_guard'] = self.guard.factor
        return self.log_dict

    @torch.no_grad()
    def model_ema(self, decay: float = 0.999) -> None:
        """Move the average towards the weights; buffers are copied."""
        net = self.get_bare_model(self.net_g)
        torch._foreach_lerp_(list(self.net_g_ema.parameters()), list(net.parameters()), 1 - decay)
        for average, buffer in zip(self.net_g_ema.buffers(), net.buffers()):
            average.copy_(buffer)

    def _fix_flow(self, fix: bool) -> None:
        if fix == self._flow_is_fixed:
            return
        get_root_logger().info(f'The optical-flow network is {"not " if fix else ""}trained from now on.')
        net = self.get_bare_model(self.net_g)
        for name, parameter in net.named_parameters():
            if 'spynet' in name:
                parameter.requires_grad_(not fix)
        if self.opt['dist']:
            self.net_g = self.model_to_device(net)  # DistributedDataParallel notes at its start what is trained
        self._flow_is_fixed = fix

    @torch.no_grad()
    def test(self) -> None:
        """Run the network, its moving average where there is one, on the clips in ``self.lq``."""
        net = getattr(self, 'net_g_ema', None) or self.get_bare_model(self.net_g)
        training = net.training
        net.eval()
        with torch.compiler.set_stance('force_eager'):  # clips of any size; a compiled network is for training's
            self.output = net(self.lq)
        net.train(training)

    def load_network(self, net: nn.Module, load_path: str | Path, strict: bool = True,
                     param_key: str = 'params') -> None:
        """Load a checkpoint of any known layout, from a file or a URL; see :mod:`basicsr_nriqa.checkpoints`.

        Raises:
            OptionsError: there is no such file, it cannot be read, or it does not fit the network.
        """
        net = self.get_bare_model(net)
        label = 'network_d' if net is self.get_bare_model(getattr(self, 'net_d', None)) else 'network_g'
        try:
            content = load_checkpoint_file(load_path)
        except (FileNotFoundError, ValueError) as error:
            raise OptionsError(f'path:pretrain_{label}: {error}') from None
        wanted, key = weights_under(content, param_key)
        get_root_logger().info(f'Loading {type(net).__name__} from {load_path}, with param key: [{key}].')
        try:
            load_content(net, wanted, strict)
        except ValueError as error:
            raise OptionsError(f'path:pretrain_{label}: {load_path}: {error}') from None
        self.trained_with = content.get('trained_with', self.trained_with)

    def own_state(self) -> dict[str, Any]:
        """What resuming needs besides networks, optimisers and schedulers; by name."""
        guard = {'guard': self.guard.state_dict()} if self.guard else {}
        return {'balancer': self.balancer.state_dict(), 'balancer_class': type(self.balancer).__name__,
                'step_g': self.step_g.state_dict(), 'skipped': [self.skipped, self._skipped_in_a_row], **guard}

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        super().resume_training(resume_state)
        saved, own = resume_state.get('balancer_class'), type(self.balancer).__name__
        if saved == own:
            self.balancer.load_state_dict(resume_state['balancer'])
        elif saved:
            get_root_logger().warning(f'train:balance_opt was {saved} and is {own} now, which starts afresh.')
        self.step_g.load_state_dict(resume_state.get('step_g'))
        self.skipped, self._skipped_in_a_row = resume_state.get('skipped', (0, 0))
        if self.guard:
            self.guard.load_state_dict(resume_state.get('guard', {}))

    @master_only
    def save_network(self, net: nn.Module | list[nn.Module], net_label: str, current_iter: int,
                     param_key: str | list[str] = 'params') -> None:
        """As BasicSR, and with :meth:`networks_content`."""
        nets = net if isinstance(net, list) else [net]
        keys = param_key if isinstance(param_key, list) else [param_key]
        name = 'latest' if current_iter == -1 else current_iter
        save_whole(self.networks_content(nets, keys, current_iter),
                   Path(self.opt['path']['models'], f'{net_label}_{name}.pth'))

    def networks_content(self, nets: Sequence[nn.Module], keys: Sequence[str], iteration: int) -> dict[str, Any]:
        """What a file of networks holds: the state of each under its key, and a note of the losses."""
        content = {key: {name: value.cpu() for name, value in self.get_bare_model(net).state_dict().items()}
                   for net, key in zip(nets, keys)}
        return {**content, 'trained_with': {**self.trained_with, 'iteration': iteration, 'basicsr_nriqa': __version__}}
