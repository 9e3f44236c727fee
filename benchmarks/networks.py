"""Side by side: our networks and the ones they are compared with, equal weights, forward and forward with backward.

BasicVSR++ against BasicSR's class with its alignment forced on; RBPN (iSeeBetter) and VRT against the straightforward
variants beside this file. Time: the two take turns in one process, and medians are compared. Memory: the rise of the
peak during the second pass of a process of its own, resident memory on a CPU, allocated memory on a GPU. Examples:

    python benchmarks/networks.py                                # all three at 64 x 64, some minutes a network
    python benchmarks/networks.py --networks vrt --threads 1
    python benchmarks/networks.py --networks vrt_003 --device cuda --precision bf16 --batch 8
    python benchmarks/networks.py --networks rbpn --checkpoint   # ours with recomputation
"""
import argparse
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from unittest import mock

import torch
from basicsr.archs.basicvsrpp_arch import BasicVSRPlusPlus
from straightforward_rbpn import StraightforwardRBPN
from straightforward_vrt import StraightforwardVRT
from torch import nn

from basicsr_nriqa.archs.basicvsrpp_arch import BasicVSRPP
from basicsr_nriqa.archs.iseebetter_arch import RBPN
from basicsr_nriqa.archs.vrt_arch import VRT
from basicsr_nriqa.peak_memory import PeakMemory

_VRT_003 = {'img_size': (8, 64, 64), 'window_size': (8, 8, 8), 'pa_frames': 4, 'deformable_groups': 16}
# name: (ours, theirs, options, frames, options for recomputation)
NETWORKS = {
    'basicvsrpp': (BasicVSRPP, BasicVSRPlusPlus, {'mid_channels': 64, 'num_blocks': 7}, 7, {'checkpoint': True}),
    'rbpn': (RBPN, StraightforwardRBPN, {'base_filter': 64, 'num_feat': 32}, 7, {'checkpoint': True}),
    'vrt': (VRT, StraightforwardVRT,
            {'window_size': (6, 8, 8), 'depths': (4,) * 7 + (2, 2), 'embed_dims': (60,) * 7 + (90, 90),
             'num_heads': (6,) * 9, 'indep_reconsts': (), 'pa_frames': 2, 'deformable_groups': 12}, 6,
            {'use_checkpoint_attn': True, 'use_checkpoint_ffn': True}),
    'vrt_003': (VRT, StraightforwardVRT, _VRT_003, 7, {'use_checkpoint_attn': True, 'use_checkpoint_ffn': True})}
PRECISIONS = {'fp32': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--networks', nargs='+', choices=NETWORKS, default=['basicvsrpp', 'rbpn', 'vrt'])
    parser.add_argument('--size', type=int, default=64, help="LR height and width in pixels; BasicSR's class needs 64")
    parser.add_argument('--frames', type=int, help="default: the network's own, 6 or 7; RBPN takes 7")
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--runs', type=int, default=5, help='turns of each, after one to warm up')
    parser.add_argument('--passes', nargs='+', choices=('forward', 'training'), default=['forward', 'training'],
                        help='training is forward with backward')
    parser.add_argument('--checkpoint', action='store_true', help='ours with recomputation in the backward pass')
    parser.add_argument('--precision', choices=PRECISIONS, default='fp32', help='of both, by autocast')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    return parser.parse_args()


class OfClip(nn.Module):
    """RBPN as a network of clips: the frame in the middle, its neighbours, and flows that are no motion."""

    def __init__(self, rbpn):
        super().__init__()
        self.rbpn = rbpn

    def forward(self, clip):
        frames = list(clip.unbind(1))
        centre = frames.pop(len(frames) // 2)
        return self.rbpn(centre, frames, [torch.zeros_like(frame[:, :2]) for frame in frames])


def build(name, which, args):
    """``'ours'`` or ``'theirs'``, with weights that are the same for both."""
    ours, theirs, options, _, recomputation = NETWORKS[name]
    torch.manual_seed(0)
    network = ours(**options, **(recomputation if args.checkpoint else {}))
    if which == 'theirs':
        weights = network.state_dict()
        # BasicSR leaves alignment out where it sees no GPU
        with mock.patch('torch.cuda.is_available', return_value=True):
            network = theirs(**options)
        network.load_state_dict(weights)
    return (OfClip(network) if name == 'rbpn' else network).to(args.device).eval()


def one_pass(network, clip, args, backward=True):
    """Output, seconds of the forward pass, seconds of both."""
    start = time.perf_counter()
    with torch.set_grad_enabled(backward), torch.autocast(clip.device.type, PRECISIONS[args.precision],
                                                          enabled=args.precision != 'fp32'):
        output = network(clip)
    if clip.is_cuda:
        torch.cuda.synchronize()
    forward = time.perf_counter() - start
    if backward:
        output.float().square().mean().backward()
        network.zero_grad(set_to_none=True)
        if clip.is_cuda:
            torch.cuda.synchronize()
    return output.detach(), forward, time.perf_counter() - start


def clip_for(name, args):
    generator = torch.Generator().manual_seed(0)
    frames = args.frames or NETWORKS[name][3]
    return torch.rand(args.batch, frames, 3, args.size, args.size, generator=generator).to(args.device)


def peak_memory(name, which, backward, args):
    torch.set_num_threads(args.threads)
    network, clip = build(name, which, args), clip_for(name, args)
    one_pass(network, clip, args, backward)
    memory = PeakMemory(args.device)
    one_pass(network, clip, args, backward)
    rise = memory.rise()
    return float('nan') if rise is None else rise / 1e6


def in_own_process(function, *arguments):
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as process:
        return process.submit(function, *arguments).result()


def main():
    args = parse_args()
    torch.set_num_threads(args.threads)
    print(f'{vars(args)}\n| network | pass | theirs, s | ours, s | time | theirs, MB | ours, MB | memory |\n'
          '|---|---|---|---|---|---|---|---|')
    for name in args.networks:
        networks, clip = {which: build(name, which, args) for which in ('theirs', 'ours')}, clip_for(name, args)
        passes = [name == 'training' for name in args.passes]
        taken = {(which, backward): [] for which in networks for backward in passes}
        for _ in range(args.runs + 1):
            outputs = {}
            for (which, backward), seconds in taken.items():
                outputs[which], forward, both = one_pass(networks[which], clip, args, backward)
                seconds.append(both if backward else forward)
        difference = (outputs['theirs'] - outputs['ours']).abs().max().item()
        del networks, outputs
        for backward in passes:
            before, now = (statistics.median(taken[which, backward][1:]) for which in ('theirs', 'ours'))
            memory = [in_own_process(peak_memory, name, which, backward, args) for which in ('theirs', 'ours')]
            print(f'| {name} | {"forward + backward" if backward else "forward"} | {before:.3f} | {now:.3f} | '
                  f'**{now / before:.2f}** | {memory[0]:.0f} | {memory[1]:.0f} | **{memory[1] / memory[0]:.2f}** |',
                  flush=True)
        print(f'{name}: outputs differ by {difference:.1e} at most', flush=True)


if __name__ == '__main__':
    main()
