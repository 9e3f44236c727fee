"""Side by side: a training iteration here and written plainly, with 1, 3 and 9 quality metrics of the paper's Table I.

*Naive* is the iteration of BasicSR's own models: all losses of the output are added up and one backward pass goes
through all of them and the network. *Ours* is ``VideoIQAModel`` with fixed weights, *gradnorm* the same with GradNorm
at the last convolution, measuring in each iteration; by default it does in every fourth, for a quarter of the cost.
All three have the same network, losses (with random weights), optimiser and batch; they take turns, and medians are
compared. *Parts* is the time of the network's two passes and the step, and of each loss at the output, on its own;
*largest* the memory of our iteration with the one loss that takes most. Memory is the rise of the peak during an
iteration (resident memory on a CPU, allocated memory on a GPU). Examples:

    python benchmarks/training_step.py                          # about 20 minutes on 2 cores
    python benchmarks/training_step.py --losses 3 --runs 7 --threads 1
    python benchmarks/training_step.py --device cuda --batch 8 --frames 7 --precision bf16
    python benchmarks/training_step.py --losses 3 --balancers gradnorm upgrad pcgrad mgda
"""
import argparse
import gc
import logging
import statistics
import time

import torch
from basicsr.models import build_model

from basicsr_nriqa.iqa import random_weights
from basicsr_nriqa.peak_memory import PeakMemory

# one of the cheap ones, three, all
METRICS = {1: ['nima'], 3: ['lpips', 'nima', 'dbcnn'],
           9: ['lpips', 'pieapp', 'dbcnn', 'nima', 'paq2piq', 'hyperiqa', 'mdtvsfa', 'maniqa', 'clipiqa']}


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--losses', nargs='+', type=int, choices=METRICS, default=list(METRICS))
    parser.add_argument('--runs', type=int, default=5, help='turns of each, after one to warm up')
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--frames', type=int, default=3)
    parser.add_argument('--size', type=int, default=64, help='LR height and width in pixels')
    parser.add_argument('--channels', type=int, default=64, help='of BasicVSR++')
    parser.add_argument('--blocks', type=int, default=7, help='of BasicVSR++, a branch')
    parser.add_argument('--balancers', nargs='+', default=['gradnorm'], metavar='TYPE', help='beside the fixed weights')
    parser.add_argument('--precision', choices=('bf16', 'fp16'), help='of the network; default: float32')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    return parser.parse_args()


def training(args, metrics, balancer='fixed'):
    """A VideoIQAModel without data."""
    losses = {name: {'type': 'IQALoss', 'metric': name} for name in metrics}  # weights of Table I
    torch.manual_seed(0)
    with random_weights():
        return build_model({
            'name': 'benchmark', 'model_type': 'VideoIQAModel', 'scale': 4, 'is_train': True, 'dist': False,
            'num_gpu': int(args.device != 'cpu'), 'path': {},
            'network_g': {'type': 'BasicVSRPP', 'mid_channels': args.channels, 'num_blocks': args.blocks},
            'train': {'optim_g': {'type': 'Adam', 'lr': 1e-4}, 'precision': args.precision,
                      'scheduler': {'type': 'MultiStepLR', 'milestones': [10**6]},
                      'pixel_opt': {'type': 'CharbonnierLoss'}, 'iqa_opt': losses,
                      'balance_opt': {'type': balancer, **({'every': 1} if balancer == 'gradnorm' else {})}}})


class NaiveTraining:
    """The iteration of BasicSR's own models with the parts of one of ours."""

    def __init__(self, model):
        self.net, self.losses = model.net_g, model.losses
        self.optimizer, self.autocast = torch.optim.Adam(self.net.parameters(), 1e-4), model.step_g.autocast

    def __call__(self, lq, gt):
        self.optimizer.zero_grad()
        with self.autocast():
            output = self.net(lq)
        output = output.float()
        sum(loss(output, gt) for loss in self.losses.values()).backward()
        self.optimizer.step()


class OurTraining:
    """An iteration of our model."""

    def __init__(self, model):
        self.model, self.iteration = model, 0

    def __call__(self, lq, gt):
        self.iteration += 1
        self.model.feed_data({'lq': lq, 'gt': gt})
        self.model.optimize_parameters(self.iteration)


class NetworkAlone:
    """Both passes of the network and the step."""

    def __init__(self, model):
        self.model = model

    def __call__(self, lq, gt):
        self.model.optimizer_g.zero_grad()
        with self.model.step_g.autocast():
            output = self.model.net_g(lq)
        output.backward(torch.full_like(output, 1e-6))
        self.model.step_g()


class LossAlone:
    """A loss and its gradient at the output."""

    def __init__(self, loss, output):
        self.loss, self.output = loss, output

    def __call__(self, lq, gt):
        leaf = self.output.detach().requires_grad_()
        torch.autograd.grad(self.loss(leaf, gt), leaf)


def measured(work, data, device):
    """Seconds, and the rise of the peak in MB."""
    gc.collect()
    memory = PeakMemory(device)
    start = time.perf_counter()
    work(*data)
    if device != 'cpu':
        torch.cuda.synchronize()
    return time.perf_counter() - start, memory.rise() / 1e6


def taking_turns(works, data, args):
    """Median seconds and MB of each, by name."""
    results = {name: [] for name in works}
    for _ in range(args.runs + 1):
        for name, work in works.items():
            results[name].append(measured(work, data, args.device))
    return {name: [statistics.median(column) for column in zip(*rows[1:])] for name, rows in results.items()}


def clips(args):
    generator = torch.Generator().manual_seed(0)
    lq = torch.rand(args.batch, args.frames, 3, args.size, args.size, generator=generator)
    gt = torch.nn.functional.interpolate(lq.flatten(0, 1), scale_factor=4, mode='bicubic').clamp(0, 1)
    return lq.to(args.device), gt.unflatten(0, lq.shape[:2]).to(args.device)


def compare(args, metrics):
    data = clips(args)
    model = training(args, metrics)
    works = {'naive': NaiveTraining(model), 'ours': OurTraining(model), 'network': NetworkAlone(model)}
    for balancer in args.balancers:
        other = training(args, metrics, balancer)
        other.losses = model.losses
        works[balancer] = OurTraining(other)
    with torch.no_grad():
        output = model.net_g(data[0])
    losses = {name: LossAlone(loss, output) for name, loss in model.losses.items()}
    results = taking_turns({**works, **losses}, data, args)
    parts = sum(results[name][0] for name in ('network', *losses))
    heaviest = max(losses, key=lambda name: results[name][1])
    single = training(args, [])
    single.losses = {heaviest: model.losses[heaviest]}
    largest = taking_turns({'single': OurTraining(single)}, data, args)['single'][1]
    seconds, memory = ({name: results[name][i] for name in works} for i in (0, 1))
    print(f"| {len(metrics)} | {seconds['naive']:.2f} | {seconds['ours']:.2f} | "
          f"**{seconds['ours'] / seconds['naive']:.2f}** | **{seconds['ours'] / parts:.2f}** | "
          + ''.join(f"**{seconds[name] / seconds['ours']:.3f}** | " for name in args.balancers)
          + f"{memory['naive']:.0f} | {memory['ours']:.0f} | **{memory['ours'] / memory['naive']:.2f}** | "
          f"**{memory['ours'] / largest:.2f}** ({heaviest}) |"
          + ''.join(f" {memory[name] / memory['ours']:.2f} |" for name in args.balancers), flush=True)


def main():
    args = parse_args()
    torch.set_num_threads(args.threads)
    logging.getLogger('basicsr').setLevel(logging.ERROR)
    device = torch.cuda.get_device_name() if args.device != 'cpu' else f'CPU, {args.threads} threads'
    print(f'{device}, torch {torch.__version__}; BasicVSR++ of {args.channels} channels and {args.blocks} blocks, '
          f'batch {args.batch}, {args.frames} frames, LR {args.size} x {args.size}, {args.precision or "float32"}\n')
    columns = ['metrics', 'naive s', 'ours s', 'ours / naive', 'ours / parts',
               *(f'{name} / ours' for name in args.balancers), 'naive MB', 'ours MB', 'ours / naive', 'ours / largest',
               *(f'{name} / ours' for name in args.balancers)]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|", flush=True)
    for count in args.losses:
        compare(args, METRICS[count])


if __name__ == '__main__':
    main()
