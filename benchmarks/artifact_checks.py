"""What the check for artifacts says of the demo's models, of honest improvements, and of patterns laid over frames.

The thresholds of basicsr_nriqa/study/artifact_flags.py lie between these numbers; docs/artifacts.md has the table.
"""
import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np

from basicsr_nriqa.data.bicubic import imresize
from basicsr_nriqa.data.clip_store import ClipStore
from basicsr_nriqa.study.artifact_flags import artifact_flags, strongest_peak
from basicsr_nriqa.study.artifacts import check_artifacts
from basicsr_nriqa.study.gaming import PERTURBATIONS

HONEST = [('bicubic', 'baseline'), ('baseline', 'GT'), ('bicubic', 'GT'), ('blur 0.8', 'GT'), ('blur 1.2', 'GT'),
          ('noise 5', 'GT'), ('jpeg 30', 'GT'), ('bicubic', 'sharpened')]
PATTERNS = ['dots 4 by 8', 'dots 4 by 2', 'green dots 4 by 8', 'grid 8 by 2', 'checkerboard 1 by 1',
            'checkerboard 2 by 1']


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog='example, after scripts/demo.py:\n  python benchmarks/artifact_checks.py')
    parser.add_argument('--data', type=Path, default='datasets/sample', help='default: %(default)s')
    parser.add_argument('--results', type=Path, default='results', help='of the demo; default: %(default)s')
    parser.add_argument('--metrics', nargs='*', default=['tinyiqa'], help='default: tinyiqa')
    parser.add_argument('--frames', type=int, default=2, help='of each clip; default: %(default)s')
    parser.add_argument('--others', nargs='*', default=[], metavar='NAME',
                        help='more folders of RESULTS, compared as fine-tunes of the baseline; those called '
                             'demo_baseline_* as its earlier checkpoints')
    args = parser.parse_args()
    lr, gt = (ClipStore(args.data / f'vimeo90k_test_{kind}.lmdb', 'lmdb') for kind in ('LRx4', 'GT'))
    keys = [key for clip in gt.clips().values() for key in np.array(clip)[np.linspace(1, len(clip) - 2, args.frames,
                                                                                       dtype=int)]]
    truth = {key: gt.image(key) for key in keys}
    frames = {'GT': truth, 'bicubic': {key: imresize(lr.image(key), 4) for key in keys}}
    names = ['demo_baseline', 'demo_tinyiqa', 'demo_tinyiqa_anchored', *args.others]
    for name in names:
        store = ClipStore(args.results / name / 'visualization' / 'sample_test', 'disk')
        frames[name.removeprefix('demo_')] = {key: store.image(f'{key}_{name}') for key in keys}
    baseline = frames['baseline']
    frames['sharpened'] = {key: rounded(2.0 * image - blur(1.5)(image))
                           for key, image in frames['bicubic'].items()}
    frames['baseline jpeg 80'] = changed(baseline, jpeg(80))
    frames |= {'blur 0.8': changed(truth, blur(0.8)), 'blur 1.2': changed(truth, blur(1.2)),
               'noise 5': changed(truth, noise(5)), 'jpeg 30': changed(truth, jpeg(30))}
    for pattern in PATTERNS:
        frames[f'baseline + {pattern}'] = changed(baseline, laid_over(pattern))
        frames[f'GT + {pattern}'] = changed(truth, laid_over(pattern))

    tuned = [name.removeprefix('demo_') for name in names[1:]]
    cases = [(name, 'baseline') if name.startswith('baseline_') else ('baseline', name) for name in tuned]
    cases += [*HONEST, ('baseline', 'baseline jpeg 80')]
    cases += [('baseline', f'{under} + {pattern}') for under in ('baseline', 'GT') for pattern in PATTERNS]
    header = ['from', 'to', 'change', *('strongest peak', 'amplitude')]
    header += [f'{metric}{what}' for metric in args.metrics for what in ('', *(f', {name}' for name in PERTURBATIONS))]
    print('', *[*header, 'flags'], '', sep=' | ')
    print('|' + '---|' * (len(header) + 1), flush=True)
    with tempfile.TemporaryDirectory() as root:
        for name, images in frames.items():
            for key, image in images.items():
                path = Path(root, name, f'{key}.png')
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), image)
        for before, after in cases:
            content = check_artifacts(Path(root, after), Path(root, before), args.metrics, model='', loss=after,
                                      dataset='', progress=False)
            print('', before, after, *row(content), ', '.join(flag.rule for flag in artifact_flags([content])), '',
                  sep=' | ', flush=True)


def row(content):
    spectrum = content['spectrum']
    peak = strongest_peak(spectrum)
    cells = [f'{spectrum["rms"]:.1f}', f'{peak["ratio"]:.1f}', f'{peak["amplitude"]:.2f}']
    for entry in content['gaming'].values():
        cells.append(f'{entry["baseline"]:.3f} to {entry["tuned"]:.3f}')
        cells += ['' if perturbed['kept'] is None else f'{100 * perturbed["kept"]:.0f} %'
                  for perturbed in entry['perturbations'].values()]
    return cells


def changed(images, change):
    return {key: rounded(change(image)) for key, image in images.items()}


def rounded(image):
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def blur(sigma):
    return lambda image: cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma)


def noise(sigma):
    rng = np.random.default_rng(0)
    return lambda image: image + sigma * rng.standard_normal(image.shape)


def jpeg(quality):
    return lambda image: cv2.imdecode(cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)


def laid_over(pattern):
    """A pattern by its words: ``[green] KIND PERIOD by LEVELS``."""
    *kind, period, _, levels = pattern.split()
    period, levels = int(period), int(levels)

    def change(image):
        y, x = np.mgrid[:image.shape[0], :image.shape[1]]
        shape = {'dots': lambda: (y % period == 0) & (x % period == 0),
                 'grid': lambda: (y % period == 0) | (x % period == 0),
                 'checkerboard': lambda: (y // period + x // period) % 2 * 2 - 1}[kind[-1]]()
        return image + levels * shape[..., None] * np.array([-0.5, 1, -0.5] if 'green' in kind else [1, 1, 1])
    return change


if __name__ == '__main__':
    main()
