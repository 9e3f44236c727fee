"""The smallest model that BasicSR's training loop could train, and a loop around it."""
import random

import numpy as np
import torch
from basicsr.models.base_model import BaseModel
from torch.utils.data import DataLoader

from basicsr_nriqa.data.resumable import ItemStreams, ResumableSampler
from basicsr_nriqa.training.checkpoints import load_resume_state
from basicsr_nriqa.training.loop import TrainingLoop


class TinyModel(BaseModel):

    def __init__(self, opt):
        super().__init__(opt)
        self.net_g = torch.nn.Linear(2, 1)
        if opt['path'].get('pretrain_network_g'):
            self.net_g.load_state_dict(torch.load(opt['path']['pretrain_network_g'], weights_only=True)['params'])
        self.optimizers = [torch.optim.Adam(self.net_g.parameters(), 1e-2)]
        self.validated = []

    def step(self, value):
        """Set the weights to a value, and draw from every stream."""
        with torch.no_grad():
            self.net_g.weight.fill_(value)
        return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002

    def save(self, epoch, current_iter):
        self.save_network(self.net_g, 'net_g', current_iter)
        self.save_training_state(epoch, current_iter)

    def validation(self, dataloader, current_iter, tb_logger, save_img=False):
        self.validated.append(current_iter)
        self.step(self.net_g.weight[0, 0].item())
        self._initialize_best_metric_results(dataloader)
        self._update_best_metric_result(dataloader, 'score', np.float64(current_iter), current_iter)


def options(root, **changes):
    for name in ('models', 'training_states'):
        (root / name).mkdir(exist_ok=True)
    return {'num_gpu': 0, 'is_train': True, 'dist': False, 'rank': 0, 'world_size': 1, 'manual_seed': 3,
            'auto_resume': True, 'network_g': {}, 'logger': {}, 'train': {'total_iter': 1000}, 'val': {
                'val_freq': 10, 'save_img': False, 'metrics': {'score': {'better': 'higher'}}},
            'path': {'experiments_root': str(root), 'models': str(root / 'models'),
                     'training_states': str(root / 'training_states')}, **changes}


def training(root, **changes):
    """A loop, resumed if there is something to resume, with its model; the validation set is called ``val``."""
    opt = options(root, **changes)
    state = load_resume_state(opt)
    model = TinyModel(opt)
    if state:
        model.resume_training(state)
    dataset = ItemStreams(range(6), opt['manual_seed'])
    sampler = ResumableSampler(dataset, opt['world_size'], opt['rank'])
    loader = DataLoader(dataset, batch_size=2, sampler=sampler)
    return TrainingLoop(opt, model, loader, sampler, ['val'], None, state)


def run(loop, first, last, save_freq=5):
    """Iterations of a loop as ``train_pipeline`` does them, one epoch; returns what each of them drew."""
    drawn = []
    for iteration in range(first, last + 1):
        loop.before_step()
        drawn.append(loop.model.step(iteration))
        loop.after_step()
        if iteration % save_freq == 0:
            loop.save(0, iteration)
        if iteration % loop.opt['val']['val_freq'] == 0:
            loop.validate(iteration)
    return drawn
