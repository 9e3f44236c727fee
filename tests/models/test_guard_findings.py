import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from basicsr_nriqa.models.guard_findings import Look, compare_clips, compare_means, worsening
from basicsr_nriqa.study.artifact_flags import ArtifactRule
from basicsr_nriqa.study.spectrum import DifferenceSpectrum

scores = st.floats(-1e6, 1e6).filter(lambda value: abs(value) > 1e-6)
BETTER = {'psnr': False, 'lpips': True}


@given(start=scores, now=scores, lower=st.booleans())
def test_worsening_is_positive_where_a_score_is_worse(start, now, lower):
    worse = worsening(start, now, lower)
    assert worse == -worsening(start, now, not lower)
    assert (worse > 0) == ((now > start) == lower and now != start)
    assert worse == pytest.approx(100 * (now - start) / abs(start) * (1 if lower else -1))


@pytest.mark.parametrize('start, now, lower, expected', [
    (0, 0, True, 0), (0, 0.1, True, math.inf), (0, 0.1, False, -math.inf), (0, -0.1, False, math.inf),
    (math.inf, math.inf, False, 0), (math.inf, 40, False, math.inf), (40, math.inf, False, -math.inf)])
def test_worsening_where_nothing_is_relative(start, now, lower, expected):
    assert worsening(start, now, lower) == expected


def test_means_are_held_to_their_limits_exactly():
    start = {'psnr': 40, 'lpips': 0.25, 'other': 1}
    found = compare_means({'psnr': 2.5, 'lpips': 50}, BETTER, start, {'psnr': 39, 'lpips': 0.375, 'other': 9})
    assert found.failed == [] and len(found.passed) == 2
    assert found.scalars == {'psnr_worse': 2.5, 'lpips_worse': 50}
    found = compare_means({'psnr': 2.4, 'lpips': 50}, BETTER, start, {'psnr': 39, 'lpips': 0.125})
    assert found.failed == ['psnr is 2.50 % worse than at the start, 39 after 40 (may be 2.4 % worse).']
    assert found.passed == ['lpips is 50.00 % better than at the start, 0.125 after 0.25 (may be 50 % worse).']


def test_a_mean_that_is_no_number_fails_and_a_missing_one_does_not():
    found = compare_means({'psnr': 100}, BETTER, {'psnr': 40}, {'psnr': math.nan})
    assert len(found.failed) == 1 and not found.passed
    assert not compare_means({'psnr': 1}, BETTER, {}, {'lpips': 1}).failed


def _gaming(tuned, least_kept=0.55):
    """What is found for scores of a metric after a perturbation, where it had 0.4 at the start, always."""
    start = {'clip': {'scores': {'maniqa': {'none': 0.4, 'jpeg': 0.4}}}}
    return compare_clips(ArtifactRule(least_kept), {'maniqa': False}, start, {'clip': Look({'maniqa': tuned})})


def test_a_gain_that_does_not_survive_fails():
    found = _gaming({'none': 0.5, 'jpeg': 0.45})
    assert len(found.failed) == 1 and not found.passed and found.scalars == {'maniqa_kept': pytest.approx(0.5)}
    for words in ('MANIQA, from 0.4 to 0.5', '50 % after JPEG of quality 90', 'flagged below 55 %'):
        assert words in found.failed[0]
    found = _gaming({'none': 0.5, 'jpeg': 0.46})
    assert not found.failed and found.passed == ['60 % of the gain in MANIQA are kept (at least 55 %).']
    assert _gaming({'none': 0.5, 'jpeg': 0.46}, least_kept=0.7).failed
    assert _gaming({'none': 0.405, 'jpeg': 0.3}).scalars == {}, 'of a gain of 1 % nothing can be said to be kept'


def test_a_score_that_cannot_be_compared_fails():
    found = _gaming({'none': math.nan, 'jpeg': 0.5})
    assert len(found.failed) == 1 and 'nan, cannot be compared with that of the start, 0.4' in found.failed[0]


def _spectrum(pattern, height=128):
    torch.manual_seed(1)
    start = torch.randint(60, 190, (2, 3, height, 256), dtype=torch.uint8)
    change = torch.randn(start.shape) * 3 + pattern * 4 * (torch.arange(256) % 4 == 0)
    spectrum = DifferenceSpectrum()
    spectrum.add((start + change).round().to(torch.uint8), start)
    return compare_clips(ArtifactRule(), {}, {'clip': {}}, {'clip': Look({}, spectrum)})


def test_a_pattern_fails_where_there_is_enough_to_tell_it_from_chance():
    found = _spectrum(pattern=1)
    assert len(found.failed) == 1 and 'period of 4.0 px' in found.failed[0] and found.scalars['peak_ratio'] > 6
    found = _spectrum(pattern=0)
    assert not found.failed and 'strongest peak' in found.passed[0] and found.scalars['peak_ratio'] < 6
    found = _spectrum(pattern=1, height=64)
    assert not found.failed and not found.passed and not found.scalars, 'four blocks'


def test_spectra_of_several_processes_are_that_of_one():
    clips = torch.randint(0, 256, (3, 2, 2, 3, 64, 128), dtype=torch.uint8)
    whole, parts = DifferenceSpectrum(), []
    for clip in clips:
        whole.add(*clip)
        parts.append(DifferenceSpectrum())
        parts[-1].add(*clip)
    assert DifferenceSpectrum.merged(parts).result() == whole.result()
