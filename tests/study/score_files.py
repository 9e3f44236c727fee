"""Score files for the tests of the study, among them a whole grid that has the numbers of the paper's Fig. 2."""
import re
from pathlib import Path

import numpy as np
import pytest

from basicsr_nriqa.study.scores import write_scores

PAPER = Path(__file__).resolve().parents[3] / 'shared' / 'paper' / 'paper.txt'
MODELS = ('BasicVSR++', 'VRT', 'iSeeBetter')
DATASETS = ('REDS', 'Vimeo-90K', 'phones')
KEYS = {'PSNR': 'psnr', 'SSIM': 'ssim', 'LPIPS': 'lpips', 'PieAPP': 'pieapp', 'DBCNN': 'dbcnn', 'NIMA': 'nima',
        'PaQ-2-PiQ': 'paq2piq', 'HyperIQA': 'hyperiqa', 'MDTVSFA': 'mdtvsfa', 'MANIQA': 'maniqa', 'CLIP-IQA': 'clipiqa'}
LOWER_BETTER = ('lpips', 'pieapp')


def write(folder, loss, videos, model='VRT', dataset='REDS', **changes):
    """A score file for `{video: {metric: score}}`; returns its path."""
    path = folder / f'{model}_{dataset}_{loss}.json'.replace(' ', '')
    write_scores(path, **{'model': model, 'loss': loss, 'dataset': dataset, 'checkpoint': None, 'videos': videos,
                          'versions': {'pyiqa': '0.1.16'}, 'optimised': [], **changes})
    return path


def printed_table():
    """Fig. 2 as printed: the header, and lists of loss, gains and average, as text with their signs."""
    if not PAPER.is_file():
        pytest.skip('the paper is not beside the repository')
    lines = PAPER.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith('Additional Loss\t'))
    header, *rows = [line.split('\t') for line in lines[first:first + 16]]
    return header[1:], rows


def write_fig_2(folder):
    """Score files of three models on three datasets whose gains round to Fig. 2's; returns their paths.

    The averages were taken before rounding: in two rows the rounded cells have another mean, so that all cells of a row
    are moved, within their rounding, until the mean is what is printed. Zeros keep the sign that is printed.
    """
    header, rows = printed_table()
    metrics = [KEYS[name] for name in header[:-1]]
    rng = np.random.default_rng(0)
    videos = {f'{video:03d}': {metric: 1 + rng.random() for metric in metrics} for video in range(6)}
    groups = [(model, dataset) for model in MODELS for dataset in DATASETS]
    # models and datasets differ a little, and agree on average
    deviations = np.linspace(-0.02, 0.02, len(groups))
    paths = [write(folder, 'baseline', videos, *group) for group in groups]
    for loss, *texts in rows:
        signs = np.array([-1 if text.startswith('-') else 1 for text in texts])
        gains = np.array(texts, dtype=float) + 0.05 * signs
        excess = gains[:-1].mean() - float(texts[-1])
        move = -np.sign(excess) * max(0, abs(excess) - 0.44)
        gains = np.where(gains[:-1].round() == 0, gains[:-1], gains[:-1] + move)
        optimised = [KEYS[name] for name in re.split(r' & | \(', loss) if name in KEYS]
        for group, deviation in zip(groups, deviations):
            factors = {metric: 1 + (-1 if metric in LOWER_BETTER else 1) * (gain + deviation) / 100
                       for metric, gain in zip(metrics, gains)}
            tuned = {video: {metric: score * factors[metric] for metric, score in scores.items()}
                     for video, scores in videos.items()}
            paths.append(write(folder, loss, tuned, *group, optimised=optimised))
    return paths
