import copy

import pytest

from basicsr_nriqa.study.artifact_flags import ArtifactRule, artifact_flags, describe_perturbation


def content(kept=(1.0, 1.0, 1.0), ratio=1.0, amplitude=1.0, blocks=100, metric='nima'):
    """An artifact file, as far as the rules look at it."""
    entry = {'lower_better': False, 'tuned': 5.5, 'baseline': 5.0, 'gain': 0.5, 'perturbations': {
        name: {'tuned': 0.0, 'baseline': 0.0, 'gain': 0.0, 'drop': 0.0, 'kept': share}
        for name, share in zip(('jpeg', 'blur', 'shift'), kept)}}
    peak = {'ratio': ratio, 'frequency': [0.25, 0.5], 'period': 1.79, 'amplitude': amplitude}
    return {'model': 'VRT', 'loss': 'NIMA', 'dataset': 'REDS', 'videos': 4, 'gaming': {metric: entry},
            'spectrum': {'identical': False, 'rms': 1.0, 'blocks': blocks, 'peaks': [peak], 'log_power': []},
            'versions': {}, 'settings': {'jpeg_quality': 90, 'blur_sigma': 0.6, 'shift': 1}}


@pytest.mark.parametrize(('measured', 'rules'), [
    ({}, []),
    ({'kept': (1.0, 0.54, 1.0)}, ['gaming']),
    ({'kept': (1.0, 0.56, 1.0)}, []),
    ({'kept': (-2.0, 3.0, 3.0)}, ['gaming']),
    ({'kept': (None, None, None)}, []),
    ({'ratio': 6.1, 'amplitude': 0.16}, ['spectrum']),
    ({'ratio': 5.9, 'amplitude': 9.0}, []),
    ({'ratio': 900.0, 'amplitude': 0.14}, []),
    ({'ratio': 900.0, 'blocks': 7}, []),
    ({'kept': (0.1, 0.1, 0.1), 'ratio': 900.0}, ['gaming', 'spectrum']),
])
def test_thresholds(measured, rules):
    assert [flag.rule for flag in artifact_flags([content(**measured)])] == rules


def test_reasons_have_the_numbers_and_the_threshold():
    gaming, spectrum = artifact_flags([content(kept=(0.4, 0.12, 0.97), ratio=31.26, amplitude=0.7)])
    assert gaming.reason == (
        'Of its gain in NIMA, from 5 to 5.5, there are left only 12 % after a blur of 0.6 px, which hardly alters the '
        'picture (40 % after JPEG of quality 90, 97 % after a shift by 1 px); flagged below 55 %.')
    assert spectrum.reason == (
        'The difference to the baseline holds a regular pattern: in its spectrum there is a peak 31.3 times above its '
        'surroundings (flagged from 6 on) with an amplitude of 0.70 grey levels (flagged from 0.15 on), at 0.25 '
        '(vertical) and 0.5 (horizontal) cycles a pixel, which is a period of 1.8 px.')
    assert (gaming.model, gaming.loss, gaming.dataset) == ('VRT', 'NIMA', 'REDS')


def test_the_first_peak_that_is_strong_enough_is_named():
    measured = content(ratio=900.0, amplitude=0.01)
    measured['spectrum']['peaks'].append({**measured['spectrum']['peaks'][0], 'ratio': 8.0, 'amplitude': 2.0})
    flag, = artifact_flags([measured])
    assert '8.0 times' in flag.reason


def test_own_thresholds_and_several_files():
    files = [content(kept=(0.7, 0.7, 0.7)), content(ratio=3.0)]
    assert artifact_flags(files) == []
    flags = artifact_flags(files, ArtifactRule(least_kept=0.8, least_ratio=2))
    assert [flag.rule for flag in flags] == ['gaming', 'spectrum']


def test_each_metric_of_a_loss_is_judged():
    measured = content()
    measured['gaming']['maniqa'] = copy.deepcopy(content(kept=(0.1, 1.0, 1.0))['gaming']['nima'])
    flag, = artifact_flags([measured])
    assert 'gain in MANIQA' in flag.reason


@pytest.mark.parametrize('value', [-1, float('nan'), True, 'much'])
def test_bad_thresholds(value):
    with pytest.raises(ValueError, match='artifact rule: least_ratio should be a number from 0'):
        ArtifactRule(least_ratio=value)


def test_unknown_perturbations_keep_their_name():
    assert describe_perturbation('resize', {}) == 'resize'
