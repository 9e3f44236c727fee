"""Numbers are those that the standards print, not what this code gives."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basicsr_nriqa.data import transfer


# ITU-R BT.2408: 203 cd/m2 is 58 % PQ, 100 is 51 %, 1000 is 75 %; SMPTE ST 2084: full signal is 10,000 cd/m2
@pytest.mark.parametrize(('luminance', 'signal'), [(0, 0.0), (100, 0.508), (203, 0.581), (1000, 0.752), (10_000, 1.0)])
def test_pq(luminance, signal):
    assert transfer.pq_inverse_eotf(luminance) == pytest.approx(signal, abs=5e-4)
    assert transfer.pq_eotf(transfer.pq_inverse_eotf(luminance)) == pytest.approx(luminance, abs=1e-6)


# BT.2100, table 5: the branches meet at signal 1/2, light 1/12; BT.2408: 75 % is 26.5 % of scene light
@pytest.mark.parametrize(('signal', 'light'), [(0, 0), (0.25, 1 / 48), (0.5, 1 / 12), (0.75, 0.265), (1, 1)])
def test_hlg(signal, light):
    assert transfer.hlg_inverse_oetf(signal) == pytest.approx(light, abs=5e-5)


def test_hlg_on_a_display():
    white = np.full((1, 3), transfer.hlg_inverse_oetf(0.75))
    # BT.2408: reference white, 75 % HLG, is 203 cd/m2 on a display of 1000
    assert transfer.hlg_ootf(white) == pytest.approx(203, abs=0.5)
    # BT.2100: each component is scaled by the luminance to the power of 0.2; red alone has 0.2627
    assert transfer.hlg_ootf(np.eye(3)[:1])[0] == pytest.approx([1000 * 0.2627**0.2, 0, 0], rel=1e-6)


def test_eetf_by_hand():
    # BT.2390 with PQ(1000) = 0.7518, PQ(203) = 0.5807: maxLum 0.7724, knee 0.6586 (88 cd/m2). Reference white is at
    # T = 1/3: 0.7407 KS + 0.1481 (1 - KS) + 0.2593 maxLum = 0.7387, which is 0.5553 PQ
    assert transfer.eetf(203, 1000) == pytest.approx(159, abs=0.5)
    assert transfer.pq_inverse_eotf(transfer.eetf(203, 1000)) == pytest.approx(0.5553, abs=2e-4)
    assert transfer.eetf([0, 50, 85, 1000, 4000], 1000) == pytest.approx([0, 50, 85, 203, 203])
    assert transfer.eetf([0, 50, 203], 203) == pytest.approx([0, 50, 203])


@settings(deadline=None)
@given(st.floats(204, 10_000), st.lists(st.floats(0, 10_000), min_size=2, max_size=9))
def test_eetf_keeps_the_order_and_ends_at_the_target(peak, luminances):
    ordered = np.sort(luminances)
    mapped = transfer.eetf(ordered, peak)
    assert (np.diff(mapped) >= -1e-6).all() and (mapped <= ordered + 1e-6).all()
    assert mapped.max() <= 203 + 1e-6 and transfer.eetf(peak, peak) == pytest.approx(203)


def test_primaries():
    # ITU-R BT.2407, and its inverse in BT.2087
    assert transfer.to_bt709(transfer.BT2020) == pytest.approx(np.array([
        [1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]), abs=6e-5)
    assert np.linalg.inv(transfer.to_bt709(transfer.BT2020)) == pytest.approx(np.array([
        [0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]), abs=6e-5)
    # CSS Color 4, from linear Display P3 to linear sRGB
    assert transfer.to_bt709(transfer.DISPLAY_P3) == pytest.approx(np.array([
        [1.22494, -0.22494, 0], [-0.04206, 1.04206, 0], [-0.01964, -0.07864, 1.09827]]), abs=2e-5)
    for primaries in transfer.PRIMARIES:
        assert transfer.to_bt709(primaries).sum(axis=1) == pytest.approx(1)


# IEC 61966-2-1: 0.0031308 is where the branches meet; 18 % of light is grey 118, 50 % is 188
@pytest.mark.parametrize(('light', 'grey'), [(0, 0), (0.0031308, 0.04045 * 255), (0.18, 118), (0.5, 188), (1, 255)])
def test_srgb(light, grey):
    assert 255 * transfer.srgb_encode(light) == pytest.approx(grey, abs=0.5)
