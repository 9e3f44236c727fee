"""All that a report can be made of, small, and with names that try to break out of their place."""
import numpy as np

from basicsr_nriqa.study.curves import Curves
from basicsr_nriqa.study.flags import Flag
from basicsr_nriqa.study.relative_gain import GainTable, View
from basicsr_nriqa.study.scenes import Scene

HOSTILE = '</script><!--<b>"\'&\u2028'
LOSSES = ['LPIPS & NIMA', f'a|b {HOSTILE}$x$', 'HyperIQA']
GAINS = ((3.2, 18.0, -0.01), (0.0, -111.0, 4.0), (-12.0, -80.0, np.nan))
METRICS = ('psnr', 'lpips', 'nima')
MODELS, DATASETS = ['VRT', 'iSeeBetter'], ['RE<DS>', 'Vimeo']


def make_view(gains, losses=LOSSES, judges=()):
    """A view whose intervals reach 1 % to both sides, those of its means a half and a quarter of it."""
    gains = np.asarray(gains, dtype=float)
    means = [(mean, mean - reach, mean + reach) for mean, reach in (
        (gains[:, :count or None].mean(axis=1), reach) for count, reach in ((0, 0.5), (len(judges), 0.25)))]
    return View(list(losses), gains, gains - 1, gains + 1, *means[0], *(means[1] if judges else ()))


def make_table(gains=GAINS, metrics=METRICS, models=MODELS, datasets=DATASETS, judges=()):
    """A table; gains grow by 1 % from each model to the next and by 10 % from each dataset to the next, and the last
    of them lacks the last loss. Judges are to be the first of the metrics."""
    assert list(judges) == list(metrics[:len(judges)])
    metrics, gains = list(metrics), np.array(gains, dtype=float)
    losses = LOSSES[:len(gains)]
    optimised = np.zeros(gains.shape, dtype=bool)
    optimised[0, 1:] = True
    groups = {(model, dataset): gains + i + 10 * j for i, model in enumerate(models)
              for j, dataset in enumerate(datasets)}
    views = {(None, None): make_view(gains, losses, judges)}
    views.update({(model, None): make_view(gains + i, losses, judges) for i, model in enumerate(models)})
    views.update({(None, dataset): make_view(gains + 10 * j, losses, judges) for j, dataset in enumerate(datasets)})
    last = list(groups)[-1]
    views.update({group: make_view(own[:2] if group == last else own, losses[:2] if group == last else losses, judges)
                  for group, own in groups.items()})
    scores = {'model': models[0], 'loss': losses[0], 'dataset': datasets[0], 'checkpoint': 'net_g_"5".pth',
              'videos': {'000': {}}, 'versions': {'pyiqa': '0.1.16', 'torch': HOSTILE}}
    return GainTable(losses=losses, metrics=metrics, gains=gains, optimised=optimised, judges=list(judges),
                     lower_better={metric: metric == 'lpips' for metric in metrics},
                     baselines={group: dict.fromkeys(metrics, 27.123456) for group in groups},
                     group_gains={group: dict(zip(losses, own)) for group, own in groups.items()},
                     sources={'results/scores/vrt.json': scores}, notes=['Something & more.'], views=views)


def make_scene(colours=None, **changes):
    """Frames of one colour for each method, with a texture in the window."""
    colours = colours or {'bicubic': (200, 0, 0), 'baseline': (0, 200, 0), LOSSES[1]: (0, 0, 200), 'GT': (90, 90, 90)}
    images = {}
    for label, colour in colours.items():
        images[label] = np.full((60, 80, 3), colour, dtype=np.uint8)
        images[label][20:36:2, 40:60:2] //= 2
    return Scene(**{'model': 'VRT', 'dataset': 'RE<DS>', 'clip': '00001/0266', 'frame': 'im4',
                    'window': (20, 40, 16, 20), 'images': images, **changes})


def make_parts():
    """Everything besides the table, as keyword arguments of `write_report`."""
    steps = np.arange(0, 100, 10)
    series = {'losses/l_pix': (steps, 0.1 / (1 + steps)), f'losses/l_{HOSTILE}': (steps, -0.5 - steps / 1000),
              'w_pix': (steps, np.where(steps == 30, np.nan, 1.0)), 'g_pix': (steps, steps + 1.0),
              'metrics/RE<DS>/psnr': (steps[-1:], np.array([30.0]))}
    spectrum = np.add.outer(np.linspace(-20, 0, 64), np.linspace(10, 0, 33)).tolist()
    entry = {'tuned': 0.6, 'baseline': 0.5, 'gain': 0.1, 'lower_better': False, 'perturbations': {
        'jpeg': {'tuned': 0.5, 'baseline': 0.49, 'gain': 0.01, 'kept': 0.1, 'drop': 0.1},
        'shift': {'tuned': 0.6, 'baseline': 0.5, 'gain': 0.1, 'kept': None, 'drop': 0.0}}}
    checks = [{'model': 'VRT', 'loss': loss, 'dataset': 'RE<DS>', 'videos': 4, 'gaming': gaming,
               'settings': {'jpeg_quality': 90, 'blur_sigma': 0.6, 'shift': 1},
               'spectrum': {'identical': False, 'rms': 1.0, 'blocks': 99, 'log_power': spectrum, 'peaks': peaks}}
              for loss, gaming, peaks in ((LOSSES[1], {'nima': entry}, [{'ratio': 38.2, 'frequency': [0.25, 0.125],
                                                                         'period': 3.58, 'amplitude': 1.3},
                                                                        {'ratio': 7.0, 'frequency': [0.5, 0.25],
                                                                         'period': 1.79, 'amplitude': 0.2}]),
                                          (LOSSES[2], {}, []))]
    flags = [Flag('reference', LOSSES[1], f'LPIPS is worse by 111 % {HOSTILE}.'),
             Flag('reference', LOSSES[1], 'LPIPS is worse by 101 %.', 'VRT', 'Vimeo'),
             Flag('spectrum', LOSSES[1], 'a peak at 4 px.', 'VRT', 'RE<DS>'),
             Flag('gaming', LOSSES[2], 'only 12 % are left.', 'iSeeBetter', 'RE<DS>')]
    return {
        'flags': flags,
        'curves': [Curves('VRT', LOSSES[1], series), Curves('VRT', LOSSES[2], {'w_pix': series['w_pix']})],
        'scenes': [make_scene(), make_scene(dataset='Vimeo', clip='2')], 'artifacts': checks,
        'options': [('options/<b>.yml', f'name: {HOSTILE}\n')],
        'missing': [('VRT, <i>NIMA</i>', 'The training ended with status 1.', f'iter 3 {HOSTILE}\nRuntimeError: NaN')],
        'title': f'Study {HOSTILE}'}
