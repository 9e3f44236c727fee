"""Side by side: our BasicVSRPP and BasicSR's BasicVSRPlusPlus with equal weights, forward and forward with backward.

The two take turns, and the medians are compared. Run for example

    python benchmarks/basicvsrpp.py --mid-channels 16 --num-blocks 1 --size 64 --frames 5
"""
import argparse
import statistics
import time
from unittest import mock

import torch
from basicsr.archs.basicvsrpp_arch import BasicVSRPlusPlus

from basicsr_nriqa.archs.basicvsrpp_arch import BasicVSRPP


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--mid-channels', type=int, default=16)
    parser.add_argument('--num-blocks', type=int, default=1)
    parser.add_argument('--size', type=int, default=64, help='LR height and width in pixels; BasicSR needs 64')
    parser.add_argument('--frames', type=int, default=5)
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--runs', type=int, default=5, help='alternating runs of each, after one to warm up')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    return parser.parse_args()


def seconds(network, clip, backward):
    """Time of one pass through the network."""
    start = time.perf_counter()
    with torch.set_grad_enabled(backward):
        output = network(clip)
    if backward:
        output.square().mean().backward()
        network.zero_grad(set_to_none=True)
    if clip.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main():
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    options = {'mid_channels': args.mid_channels, 'num_blocks': args.num_blocks}
    # BasicSR leaves alignment out where it sees no GPU
    with mock.patch('torch.cuda.is_available', return_value=True):
        theirs = BasicVSRPlusPlus(**options).to(args.device)
    ours = BasicVSRPP(**options).to(args.device)
    ours.load_state_dict(theirs.state_dict())
    clip = torch.rand(args.batch, args.frames, 3, args.size, args.size, device=args.device)
    with torch.no_grad():
        difference = (ours(clip) - theirs(clip)).abs().max().item()
    print(f'{vars(args)}\nlargest difference of the outputs: {difference:.1e}')
    for backward in (False, True):
        times = {network: [] for network in (theirs, ours)}
        for _ in range(args.runs + 1):
            for network, taken in times.items():
                taken.append(seconds(network, clip, backward))
        before, now = (statistics.median(taken[1:]) for taken in times.values())
        print(f'{"forward + backward" if backward else "forward":18}  BasicSR {before:7.3f} s  ours {now:7.3f} s  '
              f'ratio {now / before:.3f}')


if __name__ == '__main__':
    main()
