"""Light and code values: the transfer functions and primaries of HDR and SDR video, and the way from HDR to SDR.

Sources: SMPTE ST 2084 and ITU-R BT.2100 (PQ, HLG), ITU-R BT.2390 (EETF), ITU-R BT.2408 (reference white), ITU-R BT.1886
(SDR displays), IEC 61966-2-1 (sRGB), SMPTE RP 177 (matrices from primaries), ITU-T H.273 (code numbers).
"""
import numpy as np

REFERENCE_WHITE = 203.0  # cd/m2 of HDR diffuse white, BT.2408; SDR white shows the same
HLG_PEAK = 1000.0  # cd/m2: the display for which BT.2100 gives the system gamma 1.2

# ST 2084
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
# BT.2100, HLG
_A = 0.17883277
_B = 1 - 4 * _A
_C = 0.5 - _A * np.log(4 * _A)

_D65 = (0.3127, 0.3290)
# chromaticities (x, y) of red, green, blue by the code of H.273; all have the white D65
BT709, BT2020, DISPLAY_P3 = 1, 9, 12
PRIMARIES = {BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
             BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
             DISPLAY_P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))}


def pq_eotf(signal):
    """PQ signal to light: ST 2084, equation of the EOTF.

    Args:
        signal (ndarray | float): In [0,1], full scale.

    Returns:
        ndarray: Display light in cd/m2, 0 to 10,000.
    """
    power = np.asarray(signal, np.float64)**(1 / _M2)
    return 10_000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power))**(1 / _M1)


def pq_inverse_eotf(luminance):
    """Light in cd/m2, 0 to 10,000, to PQ signal in [0,1]: the inverse of :func:`pq_eotf`."""
    power = (np.asarray(luminance, np.float64) / 10_000)**_M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power))**_M2


def hlg_inverse_oetf(signal):
    """HLG signal in [0,1] to scene light in [0,1]: BT.2100, also ARIB STD-B67."""
    signal = np.asarray(signal, np.float64)
    # each branch stays finite where the other holds
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((np.maximum(signal, 0.5) - _C) / _A) + _B) / 12)


def hlg_ootf(scene):
    """Scene light to display light of a display of 1000 cd/m2 with black at 0: BT.2100's reference OOTF.

    Args:
        scene (ndarray): (..., 3), RGB with the primaries of BT.2020, in [0,1].

    Returns:
        ndarray: Of the same shape and type, cd/m2.
    """
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593], scene.dtype)
    return HLG_PEAK * luminance[..., None]**scene.dtype.type(0.2) * scene


def eetf(luminance, source_peak, target_peak=REFERENCE_WHITE):
    """Compress highlights for a darker display: the EETF of BT.2390, for black at 0 on both sides.

    In the domain of PQ everything up to a knee stays as it is; above it a Hermite spline leads to the target's peak.

    Args:
        luminance (ndarray | float): cd/m2.
        source_peak, target_peak (float): cd/m2 of the brightest light before and after.

    Returns:
        ndarray: cd/m2, at most ``target_peak``; unchanged where the source is not brighter than the target.
    """
    luminance = np.minimum(np.asarray(luminance, np.float64), source_peak)
    if source_peak <= target_peak:
        return luminance
    whole = pq_inverse_eotf(source_peak)
    signal, peak = pq_inverse_eotf(luminance) / whole, pq_inverse_eotf(target_peak) / whole
    knee = 1.5 * peak - 0.5
    t = np.maximum(signal - knee, 0) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * peak
    return np.where(signal < knee, luminance, pq_eotf(spline * whole))


def srgb_encode(light):
    """Linear light in [0,1] to the sRGB signal in [0,1]: IEC 61966-2-1."""
    light = np.asarray(light, np.float64)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light**(1 / 2.4) - 0.055)


def to_bt709(primaries):
    """The matrix that takes linear RGB of other primaries to those of BT.709, which sRGB shares.

    Args:
        primaries (int): A key of :data:`PRIMARIES`.

    Returns:
        ndarray: (3, 3) float64; white stays white.
    """
    return np.linalg.solve(_to_xyz(PRIMARIES[BT709]), _to_xyz(PRIMARIES[primaries]))


def _to_xyz(chromaticities):
    """RP 177: columns are the primaries, scaled so that they add up to the white."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in (*chromaticities, _D65)]).T
    return columns[:, :3] * np.linalg.solve(columns[:, :3], columns[:, 3])
