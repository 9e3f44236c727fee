"""Side by side: every metric as a loss here and naively, ``pyiqa.create_metric(NAME, as_loss=True)``.

The same random weights and images; ours as ``IQALoss`` uses it by default. Each pass is forward and backward to the
image; the two take turns, and medians are compared. Memory is the rise of the peak during a pass (resident memory on a
CPU, allocated memory on a GPU). Value differences are relative, for the same crops, patches or resize. Examples:

    python benchmarks/iqa_losses.py                                   # everything that is quick enough, about an hour
    python benchmarks/iqa_losses.py --metrics clipiqa nima --sizes 256x256 --batches 1
    python benchmarks/iqa_losses.py --metrics hyperiqa --crops 1 2 3 5   # how few crops will do
    python benchmarks/iqa_losses.py --metrics nima clipiqa --recompute   # what the option `checkpoint` saves and costs
"""
import argparse
import gc
import statistics
import sys
import time

import torch
from naive_pyiqa import naive_metric, same_weights
from torch.nn import functional as F

from basicsr_nriqa.iqa import CATALOGUE, create_metric, metric_info
from basicsr_nriqa.peak_memory import PeakMemory

METRICS = ('lpips', 'lpips-vgg', 'pieapp', 'dbcnn', 'nima', 'nima-vgg16-ava', 'paq2piq', 'hyperiqa', 'maniqa',
           'clipiqa', 'clipiqa+', 'niqe', 'psnr', 'ssim', 'ms_ssim', 'cw_ssim', 'gmsd', 'vsi', 'fsim', 'nlpd', 'vif')
CROPS = {'hyperiqa': 25, 'maniqa': 20}


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--metrics', nargs='+', default=METRICS, metavar='NAME')
    parser.add_argument('--sizes', nargs='+', default=('128x128', '256x256', '448x256'), metavar='WxH')
    parser.add_argument('--batches', nargs='+', type=int, default=(1, 4), metavar='N')
    parser.add_argument('--runs', type=int, default=5, help='turns of each, after one to warm up')
    parser.add_argument('--naive-crops', type=int,
                        help="crops of the naive HyperIQA and MANIQA (a square number), whose time and memory are then "
                             "scaled up to pyiqa's 25 and 20: for machines where these do not fit")
    parser.add_argument('--crops', nargs='+', type=int, metavar='K',
                        help="instead: the gradient of K random crops against that of pyiqa's grid (HyperIQA, MANIQA)")
    parser.add_argument('--recompute', action='store_true',
                        help='instead: our metrics with the option `checkpoint` against those without')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    return parser.parse_args()


def photographs(count, size, device):
    """(count,3,h,w): pieces of the photographs that the demo is made of, and noisy copies of them."""
    from basicsr_nriqa.data.photographs import TEST_PHOTOGRAPHS, load_photograph
    width, height = map(int, size.split('x'))
    pieces = []
    for index in range(count):
        image = load_photograph(TEST_PHOTOGRAPHS[index % len(TEST_PHOTOGRAPHS)])
        image = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
        scale = max(height / image.shape[2], width / image.shape[3], 0.5)
        image = F.interpolate(image, scale_factor=scale * 1.01, mode='bilinear', antialias=True)
        pieces.append(image[..., :height, :width])
    reference = torch.cat(pieces).to(device)
    generator = torch.Generator().manual_seed(0)
    noise = 0.05 * torch.randn(reference.shape, generator=generator).to(device)
    return (reference + noise).clamp(0, 1), reference


def one_pass(metric, distorted, reference):
    """Value, gradient, seconds and peak memory in MB of one forward and backward pass."""
    image = distorted.clone().requires_grad_()
    gc.collect()
    memory = PeakMemory(image.device)
    start = time.perf_counter()
    value = metric(image, reference).mean()
    value.backward()
    if image.is_cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    peak = memory.rise() / 1e6
    if hasattr(metric, 'net'):
        metric.net.zero_grad(set_to_none=True)
    return value.item(), image.grad, seconds, peak


def build_pair(name, device):
    """The naive metric and ours with the same weights."""
    naive = naive_metric(name, device)
    options = dict(CATALOGUE[name].training)
    if not metric_info(name).files:
        return naive, create_metric(name, **options).to(device), options
    return naive, same_weights(name, naive, **options).to(device), options


def compare(name, naive, ours, size, batch, args):
    info = CATALOGUE[name]
    distorted, reference = photographs(batch, size, args.device)
    target = reference if info.full_reference else None
    taken = {naive: [], ours: []}
    factor = 1
    if name in CROPS and args.naive_crops:
        naive.net.num_crop = naive.net.test_sample = args.naive_crops
        factor = CROPS[name] / args.naive_crops
    for _ in range(args.runs + 1):
        for metric, results in taken.items():
            torch.manual_seed(0)
            results.append(one_pass(metric, distorted, target))
    before, now = ([statistics.median(column) for column in list(zip(*results[1:]))[2:]] for results in taken.values())
    # fewer crops are another value by intention, unless all crops are at the same place
    same = name not in CROPS or max(distorted.shape[2:]) <= 224
    values = [results[-1][0] for results in taken.values()]
    difference = f'{abs(values[0] - values[1]) / max(abs(values[0]), 1e-12):.0e}' if same else 'other crops'
    note = f' (naive: {args.naive_crops} crops measured, scaled)' if factor > 1 else ''
    print(f'| {name} | {size} | {batch} | {difference} | {before[0] * factor:.2f} | {now[0]:.2f} | '
          f'**{before[0] * factor / now[0]:.1f}** | {before[1] * factor:.0f} | {now[1]:.0f} |{note}', flush=True)


def compare_crops(name, counts, size, device):
    """How near what 1, 4 and 16 steps on random crops add up to is to the gradient of the whole grid."""
    from basicsr_nriqa.iqa import random_weights
    distorted, _ = photographs(2, size, device)

    def gradient(**options):
        metric = metric_for(**options)
        return torch.cat([torch.autograd.grad(metric(image), image)[0].flatten() for image in
                          distorted.clone().requires_grad_().split(1)])

    built = {}

    def metric_for(num_crops, crops):
        if (num_crops, crops) not in built:
            with random_weights():
                built[num_crops, crops] = create_metric(name, num_crops=num_crops, crops=crops,
                                                        checkpoint=True).to(device)
        return built[num_crops, crops]

    whole = gradient(num_crops=CROPS[name], crops='uniform')
    print(f'{name}, {size}: cosine with the gradient of all {CROPS[name]} crops; pixels without gradient there: '
          f'{(whole == 0).float().mean():.0%}')
    for count in counts:
        steps, cosines = torch.zeros_like(whole), []
        start = time.perf_counter()
        for _ in range(16):
            steps += gradient(num_crops=count, crops='random')
            cosines.append(F.cosine_similarity(steps, whole, dim=0).item())
        seconds = (time.perf_counter() - start) / 16
        print(f'| {count} | {seconds:.2f} | {cosines[0]:.2f} | {cosines[3]:.2f} | {cosines[15]:.2f} | '
              f'{(steps == 0).float().mean():.0%} |', flush=True)


def compare_recomputed(name, size, batch, args):
    from basicsr_nriqa.iqa import random_weights
    pair = photographs(batch, size, args.device)
    with random_weights():
        taken = {create_metric(name, **CATALOGUE[name].training, checkpoint=checkpoint).to(args.device): []
                 for checkpoint in (False, True)}
    for _ in range(args.runs + 1):
        for metric, results in taken.items():
            inputs = [part.unsqueeze(1) for part in pair] if metric.info.clip else pair
            results.append(one_pass(metric, *inputs)[2:])
    kept, again = ([statistics.median(column) for column in zip(*results[1:])] for results in taken.values())
    print(f'| {name} | {size} | {batch} | {again[0] / kept[0]:.2f} | {again[1] / kept[1]:.2f} | {kept[1]:.0f} |',
          flush=True)


def main():
    args = parse_args()
    torch.set_num_threads(args.threads)
    print(vars(args), file=sys.stderr)
    if args.crops:
        print('| crops | s | 1 step | 4 steps | 16 steps | pixels never reached |\n|---|---|---|---|---|---|')
        for name in args.metrics:
            for size in args.sizes:
                compare_crops(name, args.crops, size, args.device)
        return
    if args.recompute:
        print('| metric | size | batch | time, recomputed / kept | memory, recomputed / kept | MB kept |\n'
              '|---|---|---|---|---|---|')
        for name in args.metrics:
            for size in args.sizes:
                for batch in args.batches:
                    compare_recomputed(name, size, batch, args)
        return
    print('| metric | size | batch | value differs by | naive s | ours s | times faster | naive MB | ours MB |\n'
          '|---|---|---|---|---|---|---|---|---|')
    for name in args.metrics:
        naive, ours, _ = build_pair(name, args.device)
        for size in args.sizes:
            for batch in args.batches:
                if min(map(int, size.split('x'))) >= CATALOGUE[name].min_size:
                    compare(name, naive, ours, size, batch, args)
        del naive, ours


if __name__ == '__main__':
    main()
