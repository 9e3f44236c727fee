"""From the colours of a video's stream to 8-bit sRGB, as ITU-T H.273's codes in the stream say.

SDR of 8 bits with ordinary primaries passes with its matrix and range alone, as every player does it. More bits are
rounded. Wide primaries (BT.2020, Display P3) are mapped to sRGB's in linear light, and HDR (PQ, HLG) is tone-mapped.
Grey formats without a range are of full range, as FFmpeg takes them.
"""
import struct
from functools import lru_cache

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from basicsr_nriqa.data import transfer
from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.data.video_file import Orientation

# swscale's fast path rounds down and repeats chroma; PyAV before 18 cannot leave it
ACCURATE = (Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
            if hasattr(Interpolation, 'ACCURATE_RND') else Interpolation.BICUBIC)
_UNSPECIFIED = 2  # in H.273, of matrix, primaries and transfer alike
_PQ, _HLG = 16, 18
_BT2020_MATRIX = 9
# weights of red and blue in luma by the code of the matrix, H.273 table 4
_LUMA = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087),
         _BT2020_MATRIX: (0.2627, 0.0593)}
_NAMES = {transfer.BT709: 'BT.709', transfer.BT2020: 'BT.2020', transfer.DISPLAY_P3: 'Display P3'}
_USUAL_PEAK = 1000.0  # cd/m2, of PQ that does not tell its own
_SDR_GAMMA = 2.4  # BT.1886
_BAND = 64  # rows converted at a time: what is between fits into the cache


class ToRgb:
    """Turns the frames of one video into upright 8-bit sRGB; what is done is decided by its first frame.

    Where the stream does not say its matrix it is BT.2020's for HDR and BT.2020 primaries, else BT.709 for a width of
    1280 or a height over 576, else BT.601, as video players take it.

    HDR goes to the light of a display by the transfer function (PQ: ST 2084; HLG: BT.2100 with a peak of 1000 cd/m2).
    The EETF of BT.2390 takes its peak (of PQ: MaxCLL, else that of the mastering display, else 1000 cd/m2) to BT.2408's
    reference white of 203 cd/m2, which is sRGB's white. It acts on the largest of R, G and B and scales all three, so
    hues stay. Then primaries are mapped, what is outside sRGB's gamut is clipped, and sRGB's transfer function applied.

    Args:
        first (VideoFrame): The first frame of the video.
        path (str | Path): Of the file, for errors.

    Attributes:
        description (str): What is done, for the log.
        orientation (Orientation): How it is shown.
        plain (bool): Whether this is nothing beyond the usual 8-bit conversion.

    Raises:
        DataError: these colours are not known.
    """

    def __init__(self, first, path):
        self.path = path
        self.reformatter = VideoReformatter()  # a frame's own would make its tables and threads anew for each
        self.orientation = Orientation(first)
        components = first.format.components
        self.bits = max(component.bits for component in components)
        self.grey = components[0].is_luma and len(components) < 3 and self.bits > 1  # with or without alpha
        self.transfer = int(first.color_trc)
        self.hdr = self.transfer in (_PQ, _HLG)
        self.primaries = int(first.color_primaries)
        if self.primaries == _UNSPECIFIED and (self.hdr or int(first.colorspace) == _BT2020_MATRIX):
            self.primaries = transfer.BT2020
        self.peak = pq_peak(first) if self.transfer == _PQ else transfer.HLG_PEAK
        self.wide = not self.hdr and self.primaries in (transfer.BT2020, transfer.DISPLAY_P3)
        if self.hdr and self.primaries not in transfer.PRIMARIES:
            raise DataError(f'{path}: HDR with the colour primaries {self.primaries} of ITU-T H.273 is not known here. '
                            'Convert the file to SDR with FFmpeg first.')
        if 'DOVI_RPU_BUFFER' in first.side_data and self.transfer == int(first.colorspace) == _UNSPECIFIED:
            raise DataError(f'{path}: Dolby Vision in colours of its own (profile 5), which are not read here. Record '
                            'or export it as HLG, HDR10 or SDR.')
        self.plain = self.bits <= 8 and not self.hdr and not self.wide
        self.description = self._describe()
        self(first)  # tells now what cannot be converted

    def _describe(self):
        kind = {_PQ: 'PQ', _HLG: 'HLG'}.get(self.transfer, 'SDR')
        start = f'{kind}, {_NAMES.get(self.primaries, "ordinary primaries")}, {self.bits} bit'
        if self.hdr:
            return (f'{start}: tone-mapped to 8-bit sRGB (BT.2390 EETF from {self.peak:.0f} to '
                    f'{transfer.REFERENCE_WHITE:.0f} cd/m2, the white of BT.2408; gamut clipped to BT.709)')
        if self.wide:
            return f'{start}: primaries mapped to those of 8-bit sRGB in linear light, gamut clipped'
        return f'{start}: taken as it is' if self.bits <= 8 else f'{start}: rounded to 8 bit'

    def __call__(self, frame):
        """One frame of the video.

        Args:
            frame (VideoFrame): As decoded.

        Returns:
            ndarray: (h, w, 3) uint8, RGB, upright.

        Raises:
            DataError: it cannot be converted.
        """
        if self.grey:
            pixels, to_signal = self._grey(frame)
        elif self.bits <= 8 or frame.format.is_rgb:
            name, largest = ('rgb24', 255) if self.bits <= 8 else ('rgb48le', 65535)
            pixels = self._reformatted(frame, name, frame.color_range, ColorRange.JPEG)
            to_signal = np.eye(3) / largest
        else:
            # only chroma is brought to the size of luma: on its way to RGB swscale would drop bits. It is told one
            # range and matrix twice, for nothing to convert: of full range it would stretch luma, but not chroma
            to_signal = self._yuv_to_rgb(frame)
            pixels = self._reformatted(frame, 'yuv444p16le', ColorRange.MPEG, ColorRange.MPEG)
        if self.grey or not self.plain:
            pixels = np.concatenate([self._convert(cv2.transform(pixels[top:top + _BAND].astype(np.float32), to_signal))
                                     for top in range(0, len(pixels), _BAND)])
        return np.ascontiguousarray(self.orientation.upright(pixels))

    def _matrix(self, frame):
        if int(frame.colorspace) != _UNSPECIFIED:
            return frame.colorspace
        if self.primaries == transfer.BT2020:
            return _BT2020_MATRIX
        return Colorspace.ITU709 if frame.width >= 1280 or frame.height > 576 else Colorspace.ITU601

    def _reformatted(self, frame, name, src_range, dst_range):
        matrix = self._matrix(frame)
        try:
            return self.reformatter.reformat(
                frame, format=name, src_colorspace=matrix, dst_colorspace=matrix, src_color_range=src_range,
                dst_color_range=dst_range, interpolation=ACCURATE).to_ndarray()
        except (av.FFmpegError, ValueError) as error:
            raise DataError(f'{self.path}: cannot be converted to RGB from {frame.format.name}, matrix {matrix} '
                            f'({error}). Convert the file with FFmpeg first.') from error

    def _grey(self, frame):
        """Codes of luma thrice, and the (3, 4) matrix from them to R'G'B' in [0,1].

        swscale would take them as full range whatever the stream says.
        """
        if self.bits > 16:
            raise DataError(f'{self.path}: cannot be converted to RGB from {frame.format.name}. Convert the file with '
                            'FFmpeg first.')
        plane, parts = frame.planes[0], len(frame.format.components)
        kind = np.dtype('u1' if self.bits == 8 else '>u2' if frame.format.name.endswith('be') else '<u2')
        luma = np.frombuffer(plane, kind).reshape(frame.height, -1)[:, :parts * frame.width:parts, None]
        limited = frame.color_range == ColorRange.MPEG
        offset, span = (16, 219) if limited else (0, 255)
        scale = 2.0**(self.bits - 8) if limited else (2**self.bits - 1) / 255
        to_signal = np.column_stack([np.eye(3), np.full(3, -offset * scale)]) / (span * scale)
        return np.repeat(luma, 3, axis=2), to_signal

    def _yuv_to_rgb(self, frame):
        """(3, 4) matrix from codes of Y'CbCr, moved up to 16 bits, to R'G'B' in [0,1]: H.273, section 8.3."""
        matrix = int(self._matrix(frame))
        if matrix not in _LUMA:
            raise DataError(f'{self.path}: cannot be converted to RGB with the matrix {matrix} of ITU-T H.273. Convert '
                            'the file with FFmpeg first.')
        red, blue = _LUMA[matrix]
        green = 1 - red - blue
        to_rgb = np.array([[1, 0, 2 * (1 - red)],
                           [1, -2 * blue * (1 - blue) / green, -2 * red * (1 - red) / green],
                           [1, 2 * (1 - blue), 0]])
        step = 2.0**(16 - self.bits)
        middle = 2.0**15
        if frame.color_range == ColorRange.JPEG:
            offset, span = np.array([0, middle, middle]), np.full(3, (2**self.bits - 1) * step)
        else:
            offset, span = np.array([2.0**12, middle, middle]), np.array([219, 224, 224]) * 2.0**8
        to_rgb = to_rgb / span
        return np.column_stack([to_rgb, -to_rgb @ offset])

    def _convert(self, signal):
        """R'G'B' (rows, w, 3) float32, about [0,1], to uint8."""
        if self.hdr:
            light = _light(self.transfer, self.peak)[_codes(signal)]
            if self.transfer == _HLG:
                light = transfer.hlg_ootf(light)
            largest = np.maximum(np.maximum(light[..., 0], light[..., 1]), light[..., 2])
            light *= _tone_gain(self.peak)[_codes(np.sqrt(largest / np.float32(self.peak)))][..., None]
        elif self.wide:
            light = _sdr_light()[_codes(signal)]
        else:
            return (np.clip(signal, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)
        light = cv2.transform(light, transfer.to_bt709(self.primaries))
        return _encoded(self.hdr)[_codes(np.sqrt(np.maximum(light, 0)))]


def pq_peak(frame):
    """The brightest light of a video in PQ, from the metadata of one frame.

    Returns:
        float: cd/m2, of MaxCLL where it is told, else of the mastering display, else 1000; 203 to 10,000.
    """
    level = bytes(frame.side_data.get('CONTENT_LIGHT_LEVEL', b''))
    display = bytes(frame.side_data.get('MASTERING_DISPLAY_METADATA', b''))
    peak = struct.unpack('2I', level)[0] if len(level) == 8 else 0
    if not peak and len(display) == 88:  # FFmpeg's AVMasteringDisplayMetadata: fractions, the last one is the peak
        *_, numerator, denominator, _, known = struct.unpack('22i', display)
        peak = numerator / denominator if known and denominator else 0
    return min(max(float(peak), transfer.REFERENCE_WHITE), 10_000.0) if peak else _USUAL_PEAK


# Tables by code values of 16 bits. Light is looked up by its square root, which is fine enough for the dark.

def _codes(signal):
    return (np.clip(signal, 0, 1) * np.float32(65535) + np.float32(0.5)).astype(np.uint16)


def _all_codes():
    return np.arange(65536) / 65535


@lru_cache
def _light(code, peak):
    """PQ: cd/m2, at most ``peak``. HLG: scene light in [0,1]."""
    light = np.minimum(transfer.pq_eotf(_all_codes()), peak) if code == _PQ else transfer.hlg_inverse_oetf(_all_codes())
    return light.astype(np.float32)


@lru_cache
def _sdr_light():
    return (_all_codes()**_SDR_GAMMA).astype(np.float32)


@lru_cache
def _tone_gain(peak):
    """By the square root of light over its peak: what takes cd/m2 to [0,1] of SDR."""
    light = _all_codes()**2 * peak
    light[0] = light[1]
    return (transfer.eetf(light, peak) / light / transfer.REFERENCE_WHITE).astype(np.float32)


@lru_cache
def _encoded(srgb):
    """8-bit signal by the square root of light."""
    light = _all_codes()**2
    return np.floor(255 * (transfer.srgb_encode(light) if srgb else light**(1 / _SDR_GAMMA)) + 0.5).astype(np.uint8)
