"""Training of a video network with any number of losses, each computed on its own at the network's output."""
from collections import OrderedDict
from copy import deepcopy
from pathlib import Path

import torch
from basicsr.archs import build_network
from basicsr.losses import build_loss
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only
from basicsr.utils.registry import MODEL_REGISTRY

from basicsr_nriqa import compat
from basicsr_nriqa.balancing import BALANCERS
from basicsr_nriqa.checkpoints import load_checkpoint_file, load_content
from basicsr_nriqa.models.clip_validation import ClipValidation
from basicsr_nriqa.options import OptionsError
from basicsr_nriqa.version import __version__

BASELINE = 'baseline'


@MODEL_REGISTRY.register()
class VideoIQAModel(ClipValidation, SRModel):
    """A video network (n,t,3,h,w) -> (n,t,3,s*h,s*w), trained with a pixel loss and quality metrics.

    The output is detached, every loss gives its gradient there and frees its graph, the balancer makes one gradient
    of them, and that goes back through the network once. The result is the gradient of the weighted sum, but only one
    loss's graph is in memory at a time.

    Options under ``train`` (besides ``total_iter``, ``warmup_iter`` and ``scheduler``, which are BasicSR's):
        optim_g (dict): ``type``: Adam or another optimiser of torch.optim; the rest are its arguments.
        pixel_opt (dict): A loss of (output, gt), usually CharbonnierLoss.
        iqa_opt (dict): name: {type: ...} of further losses, usually IQALoss; the names appear in the log as ``l_NAME``.
        balance_opt (dict): {type: fixed}, the default, or {type: gradnorm, alpha: 1.5, ...}, whose weights appear in
            the log as ``w_NAME``.
        ema_decay (float): Keep an exponential moving average, which is validated and saved too. Default: 0, none.
        fix_flow (int): Iterations in which the optical-flow network is not trained. Default: 0.
        flow_lr_mul (float): Learning rate of the optical-flow network relative to the others'. Default: 1.

    Options under ``val``: see :class:`~basicsr_nriqa.models.clip_validation.ClipValidation`.

    Raises:
        OptionsError: no loss is given, or a checkpoint does not belong to the network.
        FloatingPointError: a loss is not finite; the message names it.
    """

    TRAIN_OPTIONS = frozenset({'optim_g', 'scheduler', 'total_iter', 'warmup_iter', 'pixel_opt', 'iqa_opt',
                               'balance_opt', 'ema_decay', 'fix_flow', 'flow_lr_mul'})
    REQUIRED_TRAIN_OPTIONS = ('optim_g', 'scheduler', 'total_iter')

    def __init__(self, opt):
        self.trained_with = {'loss': opt['name'], 'optimised': []}  # a checkpoint of ours says it itself
        super().__init__(opt)

    def init_training_settings(self):
        train_opt = self.opt['train']
        self.net_g.train()
        self.ema_decay = train_opt.get('ema_decay', 0)
        if self.ema_decay > 0:
            self._init_ema()
        self.losses = {name: loss.to(self.device) for name, loss in self._build_losses(train_opt).items()}
        balance_opt = {'type': 'fixed', **(train_opt.get('balance_opt') or {})}
        try:
            self.balancer = BALANCERS[balance_opt.pop('type')](**balance_opt)
        except ValueError as error:
            raise OptionsError(f'train:balance_opt: {error}') from None
        optimised = [loss.metric.info.name for loss in self.losses.values() if hasattr(loss, 'metric')]
        self.trained_with = {'loss': ' & '.join(optimised) or BASELINE, 'optimised': optimised}
        self.fix_flow_iter = train_opt.get('fix_flow') or 0
        self._flow_is_fixed = False
        self.setup_optimizers()
        self.setup_schedulers()

    def _init_ema(self):
        get_root_logger().info(f'Use Exponential Moving Average with decay: {self.ema_decay}')
        self.net_g_ema = build_network(self.opt['network_g']).to(self.device)
        load_path = self.opt['path'].get('pretrain_network_g')
        if load_path is not None:
            self.load_network(self.net_g_ema, load_path, self.opt['path'].get('strict_load_g', True), 'params_ema')
        else:
            self.net_g_ema.load_state_dict(self.get_bare_model(self.net_g).state_dict())
        self.net_g_ema.eval().requires_grad_(False)

    @staticmethod
    def _build_losses(train_opt):
        losses = OrderedDict()
        if train_opt.get('pixel_opt'):
            losses['pix'] = build_loss(train_opt['pixel_opt'])
        for name, loss_opt in (train_opt.get('iqa_opt') or {}).items():
            losses[name] = build_loss(loss_opt)
        if not losses:
            raise OptionsError('train: give a loss: pixel_opt, iqa_opt or both.')
        return losses

    def setup_optimizers(self):
        optim_opt = deepcopy(self.opt['train']['optim_g'])
        flow_factor = self.opt['train'].get('flow_lr_mul', 1)
        flow, others = [], []
        for name, parameter in self.net_g.named_parameters():
            (flow if 'spynet' in name else others).append(parameter)
        groups = [{'params': others}]
        if flow:
            groups.append({'params': flow, 'lr': optim_opt['lr'] * flow_factor})
        self.optimizer_g = self.get_optimizer(optim_opt.pop('type'), groups, **optim_opt)
        self.optimizers.append(self.optimizer_g)

    def get_optimizer(self, optim_type, params, lr, **kwargs):
        return getattr(torch.optim, optim_type)(params, lr, **kwargs)

    def optimize_parameters(self, current_iter):
        self._fix_flow(current_iter < self.fix_flow_iter)
        self.optimizer_g.zero_grad()
        self.output = self.net_g(self.lq)
        if not self.output.isfinite().all():
            raise FloatingPointError(f"Iteration {current_iter}: the network's output is not finite. Its last "
                                     'checkpoint is whole; lower the learning rate or the weights of the losses.')
        gradients, values, deficits = self._gradients_at_output()
        for name, value in values.items():
            if not value.isfinite():
                raise FloatingPointError(f'Iteration {current_iter}: the loss {name} is {value.item()}. Its last '
                                         'checkpoint is whole; lower the learning rate or the weight of this loss.')
        self.output.backward(self.balancer(gradients, deficits))
        self.optimizer_g.step()
        self.log_dict = self.reduce_loss_dict(values)
        self.log_dict.update({f'w_{name}': weight for name, weight in self.balancer.weights.items()})
        if self.balancer.skipped:  # steps in which losses or gradients could not be balanced
            self.log_dict['w_skipped'] = self.balancer.skipped
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    def _gradients_at_output(self):
        leaf = self.output.detach().requires_grad_()
        gradients, values, deficits = OrderedDict(), OrderedDict(), OrderedDict()
        for name, loss in self.losses.items():
            value = loss(leaf, self.gt)
            gradients[name], = torch.autograd.grad(value, leaf)
            values[f'l_{name}'] = value.detach()
            deficits[name] = loss.deficit(value.detach()) if hasattr(loss, 'deficit') else value.detach()
        return gradients, values, deficits

    def _fix_flow(self, fix):
        if fix != self._flow_is_fixed:
            get_root_logger().info(f'The optical-flow network is {"not " if fix else ""}trained from now on.')
            for name, parameter in self.net_g.named_parameters():
                if 'spynet' in name:
                    parameter.requires_grad_(not fix)
            self._flow_is_fixed = fix

    @torch.no_grad()
    def test(self):
        """Run the network, its moving average where there is one, on the clips in ``self.lq``."""
        net = getattr(self, 'net_g_ema', None) or self.get_bare_model(self.net_g)
        training = net.training
        net.eval()
        self.output = net(self.lq)
        net.train(training)

    def load_network(self, net, load_path, strict=True, param_key='params'):
        """Load a checkpoint of any known layout, from a file or a URL; see :mod:`basicsr_nriqa.checkpoints`.

        Raises:
            OptionsError: there is no such file, it cannot be read, or it does not fit the network.
        """
        try:
            content = load_checkpoint_file(load_path)
        except (FileNotFoundError, ValueError) as error:
            raise OptionsError(f'path: {error}') from None
        wanted = next((key for key in (param_key, 'params') if key in content), None)
        net = self.get_bare_model(net)
        get_root_logger().info(f'Loading {type(net).__name__} from {load_path}, with param key: [{wanted}].')
        try:
            load_content(net, {wanted: content[wanted]} if wanted else content, strict)
        except ValueError as error:
            raise OptionsError(f'path: {load_path} does not fit network_g: {error}') from None
        self.trained_with = content.get('trained_with', self.trained_with)

    @master_only
    def save_training_state(self, epoch, current_iter):
        """As BasicSR, and with the balancer's state."""
        if current_iter == -1:
            return
        state = {'epoch': epoch, 'iter': current_iter, 'balancer': self.balancer.state_dict(),
                 'optimizers': [optimizer.state_dict() for optimizer in self.optimizers],
                 'schedulers': [scheduler.state_dict() for scheduler in self.schedulers]}
        compat.save_atomically(compat.plain(state), Path(self.opt['path']['training_states'], f'{current_iter}.state'))

    def resume_training(self, resume_state):
        super().resume_training(resume_state)
        self.balancer.load_state_dict(resume_state.get('balancer') or self.balancer.state_dict())

    @master_only
    def save_network(self, net, net_label, current_iter, param_key='params'):
        """As BasicSR, and with a note of the losses in the file."""
        nets, keys = (item if isinstance(item, list) else [item] for item in (net, param_key))
        state = {key: {name: value.cpu() for name, value in self.get_bare_model(one).state_dict().items()}
                 for one, key in zip(nets, keys)}
        state['trained_with'] = {**self.trained_with, 'iteration': current_iter, 'basicsr_nriqa': __version__}
        name = 'latest' if current_iter == -1 else current_iter
        compat.save_atomically(state, Path(self.opt['path']['models'], f'{net_label}_{name}.pth'))
