"""The whole main job on sample data: train a baseline, fine-tune it with a quality metric, test, compare.

Every step is a command that you can run yourself; it is printed before it runs.
"""
import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import cv2
from basicsr.metrics import calculate_psnr

from basicsr_nriqa.data.bicubic import imresize
from basicsr_nriqa.data.clip_store import ClipStore
from basicsr_nriqa.study.crops import amplified_difference, side_by_side
from basicsr_nriqa.study.scores import read_scores

ROOT = Path(__file__).resolve().parents[1]
DATA = Path('datasets/sample')
RUNS = {'demo_baseline': 'baseline', 'demo_tinyiqa': '+ tinyiqa', 'demo_tinyiqa_anchored': '+ tinyiqa, anchored'}
REPORT = Path('results/demo')


def run(*commands):
    """Run Python commands side by side, one core each; returns what the last one printed. A failure ends the demo."""
    for command in commands:
        print(f'\n$ python {" ".join(map(str, command))}', flush=True)
    logs = [REPORT / f'demo_{index}.log' for index in range(len(commands))]
    processes = []
    for command, log in zip(commands, logs):
        with log.open('w') as stream:
            # small networks gain nothing from a second thread, and lose much where the machine is shared
            processes.append(subprocess.Popen([sys.executable, *map(str, command)], cwd=ROOT, stdout=stream,
                                              stderr=subprocess.STDOUT, env={**os.environ, 'OMP_NUM_THREADS': '1'}))
    while sys.stdout.isatty() and any(process.poll() is None for process in processes):
        print(f'\r{" | ".join(map(_progress, logs)):78}', end='', flush=True)
        time.sleep(1)
    for process, log in zip(processes, logs):
        if process.wait():
            sys.exit(f'{log.read_text()[-2000:]}\nThis step failed with status {process.returncode}; its whole output '
                     f'is in {log}.')
    return logs[-1].read_text()


def _progress(log):
    """How far the step has come: the last iteration that it logged, or the end of its progress bar."""
    last = log.read_text().replace('\r', '\n').rstrip().rpartition('\n')[2]
    found = re.search(r'iter: *([\d,]+)', last)
    return f'iteration {found[1]}' if found else last[-35:]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='example:\n  python scripts/demo.py\n\nWrites datasets/sample, experiments/demo_*, results/demo_* and '
               'results/demo. Takes 4 to 15 minutes on 2 cores, by how busy they are.')
    parser.parse_args()
    os.chdir(ROOT)
    REPORT.mkdir(parents=True, exist_ok=True)
    started = time.time()
    run(('scripts/make_sample_data.py', '-o', DATA))
    train = [('basicsr/train.py', '-opt', f'options/demo/{name}.yml') for name in RUNS]
    test = [('basicsr/test.py', '-opt', 'options/demo/demo_test.yml', '--force_yml', f'name={name}',
             f'path:pretrain_network_g=experiments/{name}/models/net_g_latest.pth') for name in RUNS]
    run(train[0])
    run(*train[1:])
    run(*test)
    print(run(('scripts/relative_gain.py', *(f'results/{name}' for name in RUNS), '-o', REPORT)))
    print_psnr()
    draw_crops()
    print(f'\nDone in {(time.time() - started) / 60:.1f} minutes. Look at\n'
          f'  {REPORT}/report.html   the table and the figure\n'
          f'  {REPORT}/figure.png    what each loss did to every metric\n'
          f'  {REPORT}/crops.png     what it looks like, and what was added to the baseline\n'
          f'  results/demo_*/visualization   every frame')


def print_psnr():
    lr, gt = (ClipStore(DATA / f'vimeo90k_test_{kind}.lmdb', 'lmdb') for kind in ('LRx4', 'GT'))
    values = [sum(calculate_psnr(imresize(lr.image(key), 4), gt.image(key), crop_border=0) for key in keys) / len(keys)
              for keys in gt.clips().values()]
    print(f'\nPSNR on the held-out clips: bicubic {sum(values) / len(values):.2f} dB', end='')
    for name, label in RUNS.items():
        videos = read_scores(f'results/{name}/scores/sample_test.json')['videos'].values()
        print(f', {label} {sum(video["psnr"] for video in videos) / len(videos):.2f} dB', end='')
    print()


def draw_crops():
    lr, gt = (ClipStore(DATA / f'vimeo90k_test_{kind}.lmdb', 'lmdb') for kind in ('LRx4', 'GT'))
    rows = []
    for clip in list(gt.clips())[:2]:
        key = f'{clip}/im4'
        row = {'bicubic': imresize(lr.image(key), 4)}
        for name, label in RUNS.items():
            row[label] = cv2.imread(f'results/{name}/visualization/sample_test/{key}_{name}.png')
        row['GT'] = gt.image(key)
        row = {label: cv2.cvtColor(image, cv2.COLOR_BGR2RGB) for label, image in row.items()}
        added = {label: amplified_difference(image, row['baseline']) if label in RUNS.values() else image
                 for label, image in row.items()}
        rows += [(clip, row), (f'{clip}: what the fine-tuning added to the baseline, times 10', added)]
    side_by_side(rows, REPORT / 'crops.png')


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        sys.exit('\nInterrupted. Start it again; it begins anew.')
