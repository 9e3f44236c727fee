"""Colours by hand-made code values; what they must become is computed from the numbers of the standards."""
import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace
from video_making import (
    BT709,
    BT2020,
    HLG,
    JPEG,
    MATRICES,
    MPEG,
    PQ,
    UNSPECIFIED,
    X265,
    filled,
    panned,
    set_display_matrix,
    shown,
    write_video,
)

from basicsr_nriqa.data import DataError
from basicsr_nriqa.data.video_colour import ACCURATE, ToRgb
from basicsr_nriqa.data.video_file import decoded_frames

LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}


def tagged(planes, pix_fmt, size, matrix=BT2020, primaries=BT2020, transfer=UNSPECIFIED, colour_range=MPEG):
    frame = filled(planes, pix_fmt, size)
    frame.colorspace, frame.color_primaries, frame.color_trc = matrix, primaries, transfer
    frame.color_range = colour_range
    return frame


def codes(rgb, matrix, bits, colour_range):
    """Y'CbCr of R'G'B' in [0,1], rounded: ITU-T H.273, equations of 8.3."""
    red, blue = LUMA[matrix]
    luma = rgb @ [red, 1 - red - blue, blue]
    differences = (rgb[..., 2] - luma) / (2 - 2 * blue), (rgb[..., 0] - luma) / (2 - 2 * red)
    if colour_range == JPEG:
        levels = luma * (2**bits - 1), *(value * (2**bits - 1) + 2**(bits - 1) for value in differences)
    else:
        levels = 16 + 219 * luma, *(128 + 224 * value for value in differences)
        levels = [2**(bits - 8) * value for value in levels]
    return [np.rint(value).clip(0, 2**bits - 1) for value in levels]


def decoded(planes, matrix, bits, colour_range):
    """R'G'B' that rounded codes stand for, in floating point."""
    red, blue = LUMA[matrix]
    luma, *differences = planes
    if colour_range == JPEG:
        luma, differences = luma / (2**bits - 1), [(value - 2**(bits - 1)) / (2**bits - 1) for value in differences]
    else:
        step = 2**(bits - 8)
        luma, differences = (luma / step - 16) / 219, [(value / step - 128) / 224 for value in differences]
    r, b = luma + (2 - 2 * red) * differences[1], luma + (2 - 2 * blue) * differences[0]
    return np.stack([r, (luma - red * r - blue * b) / (1 - red - blue), b], -1).clip(0, 1)


@pytest.mark.parametrize('colour_range', [MPEG, JPEG])
@pytest.mark.parametrize('matrix', [1, 5, 9])
@pytest.mark.parametrize('bits', [10, 12])
def test_more_bits_are_rounded(bits, matrix, colour_range):
    rgb = np.random.default_rng(0).uniform(0, 1, (40, 64, 3))
    planes = codes(rgb, matrix, bits, colour_range)
    frame = tagged(planes, f'yuv444p{bits}le', (40, 64), matrix, BT709, BT709, colour_range)
    to_rgb = ToRgb(frame, 'in.mkv')
    error = to_rgb(frame) - 255 * decoded(planes, matrix, bits, colour_range)
    assert np.abs(error).max() < 0.501 and np.abs(error.mean()) < 0.02  # cutting bits off would give -0.5 on average
    assert to_rgb.description == f'SDR, BT.709, {bits} bit: rounded to 8 bit' and not to_rgb.plain


def test_more_bits_in_rgb():
    values = [np.random.default_rng(0).integers(0, 1024, (20, 32)) for _ in range(3)]  # green, blue, red
    frame = tagged(values, 'gbrp10le', (20, 32), 0, BT709)
    expected = np.stack([values[2], values[0], values[1]], -1) * 255 / 1023
    assert np.abs(ToRgb(frame, 'in.mkv')(frame) - expected).max() < 0.52


@pytest.mark.parametrize('size', [(98, 170), (97, 171), (720, 1280)])
@pytest.mark.parametrize(('matrix', 'colour_range'), [(1, MPEG), (5, JPEG), (None, None)])
def test_8_bits_are_what_swscale_makes_of_them(tmp_path, size, matrix, colour_range):
    frames = [np.pad(panned('coffee.png', 1)[0], ((0, size[0] - 64), (0, size[1] - 96), (0, 0)), 'symmetric')]
    path = write_video(tmp_path / 'in.mkv', frames, 'ffv1', matrix=matrix, colour_range=colour_range)
    frame = next(decoded_frames(path))
    large = frame.width >= 1280 or frame.height > 576
    used = matrix or (Colorspace.ITU709 if large else Colorspace.ITU601)
    expected = frame.reformat(format='rgb24', src_colorspace=used, src_color_range=frame.color_range,
                              dst_color_range=JPEG, interpolation=ACCURATE).to_ndarray()
    to_rgb = ToRgb(frame, path)
    assert to_rgb.plain and np.array_equal(to_rgb(frame), expected) and expected.shape == (*size, 3)


@pytest.mark.parametrize('matrix', MATRICES.values(), ids=MATRICES)
def test_the_display_matrix_is_applied(tmp_path, matrix):
    frames = panned('chelsea.png', 1)
    pix_fmt = 'yuv420p' if matrix[0] else 'yuv420p10le'
    path = set_display_matrix(write_video(tmp_path / 'in.mp4', frames, 'libx264', pix_fmt), matrix)
    frame = next(decoded_frames(path))
    upright, expected = ToRgb(frame, path)(frame), shown(frames[0], matrix)
    assert upright.shape == expected.shape and np.abs(upright.astype(int) - expected).mean() < 10


@pytest.mark.parametrize('colour_range', [MPEG, JPEG, 0])
@pytest.mark.parametrize(('pix_fmt', 'bits'), [('gray', 8), ('gray10le', 10), ('gray16le', 16), ('ya8', 8)])
def test_grey_formats_by_their_range(pix_fmt, bits, colour_range):
    """Without a range it is full, as FFmpeg has it."""
    codes = np.random.default_rng(0).integers(0, 2**bits, (20, 33))
    stored = np.stack([codes, np.full_like(codes, 77)], -1).reshape(20, -1) if pix_fmt == 'ya8' else codes
    frame = av.VideoFrame(33, 20, pix_fmt)
    rows = np.zeros((20, frame.planes[0].line_size // (1 if bits == 8 else 2)), np.uint8 if bits == 8 else np.uint16)
    rows[:, :stored.shape[1]] = stored
    frame.planes[0].update(rows)
    frame.color_range = colour_range
    expected = codes * 255 / (2**bits - 1)
    if colour_range == MPEG:
        expected = ((codes / 2**(bits - 8) - 16) * 255 / 219).clip(0, 255)
    to_rgb = ToRgb(frame, '')
    assert np.abs(to_rgb(frame) - expected[..., None]).max() < 0.501
    assert to_rgb.plain == (bits == 8)


def test_grey_in_floating_point_is_an_error():
    frame = av.VideoFrame.from_ndarray(panned('chelsea.png', 1)[0], format='rgb24').reformat(format='grayf32le')
    with pytest.raises(DataError, match=r'in\.mkv: cannot be converted to RGB from grayf32le'):
        ToRgb(frame, 'in.mkv')


def test_fewer_bits():
    frame = av.VideoFrame.from_ndarray(panned('chelsea.png', 1)[0], format='rgb24').reformat(format='rgb565le')
    to_rgb = ToRgb(frame, '')
    assert to_rgb.plain and to_rgb.description == 'SDR, ordinary primaries, 6 bit: taken as it is'
    assert np.abs(to_rgb(frame).astype(int) - panned('chelsea.png', 1)[0]).mean() < 4


def grey(level):
    """Plain 10-bit Y'CbCr of a grey signal in [0,1]."""
    return round(64 + 876 * level), 512, 512


def pq(light):
    """SMPTE ST 2084, inverse EOTF, with its printed constants."""
    power = (np.asarray(light) / 10_000)**0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power))**78.84375


# 20.3 cd/m2 is a tenth of reference white, below the knee: sRGB of 0.1 is 0.3492.
# HLG 1/2 is 1/12 of scene light, 1000 * (1/12)**1.2 = 50.7 cd/m2 on the display, 0.2497 of white: sRGB 0.5369.
# Reference white is 0.5807 PQ, and 0.75 HLG; BT.2390 makes 159 cd/m2 of it (test_transfer.py), 0.783: sRGB 0.8976.
@pytest.mark.parametrize(('transfer', 'signal', 'srgb'), [
    (PQ, 0, 0), (PQ, pq(20.3), 0.3492), (PQ, 0.5807, 0.8976), (PQ, 0.7518, 1), (PQ, 1, 1),
    (HLG, 0, 0), (HLG, 0.5, 0.5369), (HLG, 0.75, 0.8976), (HLG, 1, 1)])
def test_hdr_greys(transfer, signal, srgb):
    frame = tagged(grey(signal), 'yuv420p10le', (16, 32), transfer=transfer)
    to_rgb = ToRgb(frame, 'in.mov')
    # one code of 10 bits is up to 0.7 grey levels there
    assert np.abs(to_rgb(frame) - 255 * srgb).max() < 1.01
    assert to_rgb.hdr and not to_rgb.plain


def test_hdr_says_what_it_does():
    frame = tagged(grey(0.5), 'yuv420p10le', (16, 32), transfer=HLG)
    assert ToRgb(frame, 'in.mov').description == (
        'HLG, BT.2020, 10 bit: tone-mapped to 8-bit sRGB (BT.2390 EETF from 1000 to 203 cd/m2, the white of BT.2408; '
        'gamut clipped to BT.709)')


def test_hdr_without_tags_of_primaries_and_matrix_is_bt2020():
    rgb = np.full((16, 32, 3), (0.45, 0.3, 0.2))
    planes = codes(rgb, 9, 10, MPEG)
    told, untold = (tagged(planes, 'yuv444p10le', (16, 32), *tags, transfer=PQ) for tags in ((9, 9), (2, 2)))
    assert np.array_equal(ToRgb(told, '')(told), ToRgb(untold, '')(untold))


@pytest.mark.parametrize('transfer', [PQ, HLG])
def test_hdr_colours_stay_within_srgb_and_keep_their_hue(transfer):
    """Below the knee nothing but primaries change: linear BT.2020 of BT.709's red is the column of BT.2087."""
    light = 60 * np.array([0.6274, 0.0691, 0.0164])  # cd/m2
    if transfer == PQ:
        signal = pq(light)
    else:
        scene = light / 1000
        luminance = (scene @ [0.2627, 0.6780, 0.0593])**(1 / 1.2)  # the OOTF, backwards
        scene = scene * luminance**-0.2
        signal = np.sqrt(3 * scene)
    planes = codes(np.full((8, 8, 3), signal), 9, 12, MPEG)
    frame = tagged(planes, 'yuv444p12le', (8, 8), transfer=transfer)
    expected = 255 * (1.055 * (60 / 203)**(1 / 2.4) - 0.055)
    assert ToRgb(frame, '')(frame)[0, 0].astype(int) == pytest.approx([expected, 0, 0], abs=2)
    pure = tagged(codes(np.full((8, 8, 3), (1.0, 0, 0)), 9, 10, MPEG), 'yuv444p10le', (8, 8), transfer=transfer)
    assert ToRgb(pure, '')(pure)[0, 0, 1:].tolist() == [0, 0]


def test_the_peak_of_pq_by_metadata(tmp_path):
    frames = [tagged(grey(0.6), 'yuv420p10le', (64, 64))] * 2
    mastering = 'master-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(40000000,50)'
    peaks = []
    for number, parameters in enumerate(('', f':{mastering}', f':{mastering}:max-cll=1600,400')):
        path = write_video(tmp_path / f'{number}.mp4', frames, 'libx265', 'yuv420p10le', matrix=9, primaries=9,
                           transfer=PQ, options={'x265-params': X265 + parameters})
        peaks.append(ToRgb(next(decoded_frames(path)), path).peak)
    assert peaks == [1000, 4000, 1600]


def dolby_vision():
    """A NAL unit with the metadata of Dolby Vision (RPU, ETSI TS 103 572), as short as a decoder takes it."""
    def exp_golomb(value):
        code = f'{value + 1:b}'
        return '0' * (len(code) - 1) + code

    zero = exp_golomb(0)
    bits = ''.join([
        '000010', '0' * 11, '0000', '0001', '1',  # type 2, format, profile, level; the sequence is told:
        '0', '00', exp_golomb(23), '01', '1',  # chroma filter, coefficients: fixed point, their digits; full range
        exp_golomb(2), exp_golomb(2), exp_golomb(4), '0', '000', '0', '1',  # 10, 10 and 12 bits, filters, no residual
        '0', '0', 3 * zero,  # no display metadata, a mapping of its own
        3 * (zero + '0' * 10 + '1' * 10), 2 * zero,  # from the first to the last code, one partition
        3 * (2 * zero + '0' + 2 * ('1' + '0' * 23))])  # polynomials of order 1
    payload = int(bits.ljust(-len(bits) // 8 * -8, '0'), 2).to_bytes(-(-len(bits) // 8), 'big') + bytes(4) + b'\x80'
    escaped = b''
    for byte in payload:  # no start code may be within
        escaped += b'\3' * (byte < 4 and escaped.endswith(b'\0\0')) + bytes([byte])
    return b'\0\0\0\1\x7c\1\x19' + escaped


@pytest.mark.parametrize('transfer', [None, HLG])
def test_dolby_vision_without_a_picture_for_others_is_an_error(tmp_path, transfer):
    matrix = transfer and BT2020
    path = write_video(tmp_path / 'in.h265', panned('chelsea.png', 1), 'libx265', 'yuv420p10le', matrix=matrix,
                       primaries=matrix, transfer=transfer)
    path.write_bytes(path.read_bytes() + dolby_vision())
    frame = next(decoded_frames(path))
    assert 'DOVI_RPU_BUFFER' in frame.side_data
    if transfer:
        assert ToRgb(frame, path).description.startswith('HLG, BT.2020, 10 bit')  # profile 8.4, as phones record it
    else:
        with pytest.raises(DataError, match=r'in\.h265: Dolby Vision in colours of its own \(profile 5\)'):
            ToRgb(frame, path)


def test_tags_of_a_file_reach_the_frames(tmp_path):
    frames = [tagged(grey(0.5), 'yuv420p10le', (48, 64))] * 2
    for name, codec in (('a.mkv', 'ffv1'), ('a.mp4', 'libx265')):  # in the container alone, in the stream too
        path = write_video(tmp_path / name, frames, codec, 'yuv420p10le', matrix=9, primaries=9, transfer=HLG)
        assert ToRgb(next(decoded_frames(path)), path).description.startswith('HLG, BT.2020, 10 bit: tone-mapped')


@pytest.mark.parametrize(('primaries', 'name'), [(9, 'BT.2020'), (12, 'Display P3')])
def test_wide_primaries(primaries, name):
    ramp = np.repeat(np.linspace(0, 1, 256)[None, :, None], 3, axis=2).repeat(16, axis=0)
    frame = tagged(codes(ramp, 1, 10, MPEG), 'yuv444p10le', (16, 256), 1, primaries, 1)
    to_rgb = ToRgb(frame, '')
    assert np.abs(to_rgb(frame) - 255 * ramp).max() < 0.8  # greys stay; 10 bits are half a level off
    assert to_rgb.description.startswith(f'SDR, {name}, 10 bit: primaries mapped')
    # BT.709's red in linear BT.2020 (BT.2087) and Display P3 (the inverse of CSS Color 4's matrix)
    light = np.array([[0.6274, 0.0691, 0.0164], [0.8225, 0.0332, 0.0171]][primaries == 12])
    red = tagged(codes(np.full((8, 8, 3), light**(1 / 2.4)), 1, 10, MPEG), 'yuv444p10le', (8, 8), 1, primaries, 1)
    converted = ToRgb(red, '')(red)[0, 0].astype(int)
    assert converted[0] >= 253 and converted[1:].max() < 12  # near black the printed digits are many levels of light


def test_wide_primaries_in_8_bits():
    frame = tagged((145, 128, 128), 'yuv420p', (16, 32))
    to_rgb = ToRgb(frame, '')
    assert not to_rgb.plain and (to_rgb(frame) == 150).all()


def test_what_cannot_be_converted_is_an_error():
    with pytest.raises(DataError, match=r'in\.mov: cannot be converted to RGB with the matrix 14 of ITU-T H\.273'):
        ToRgb(tagged(grey(0.5), 'yuv420p10le', (16, 32), matrix=14), 'in.mov')
    with pytest.raises(DataError, match=r'in\.mov: HDR with the colour primaries 8'):
        ToRgb(tagged(grey(0.5), 'yuv420p10le', (16, 32), primaries=8, transfer=PQ), 'in.mov')
