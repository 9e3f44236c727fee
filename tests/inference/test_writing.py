import logging
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from videos import NTSC, halves, moving_frames, write_video

from basicsr_nriqa.inference import InferenceError
from basicsr_nriqa.inference.reading import open_source
from basicsr_nriqa.inference.writing import check_encoding, encode_video, frame_rate, write_frame


def test_a_frame_is_written_as_it_is(tmp_path):
    frame = moving_frames(1)[0]
    write_frame(tmp_path / 'im.png', frame)
    assert np.array_equal(cv2.imread(str(tmp_path / 'im.png'))[..., ::-1], frame)
    assert [file.name for file in tmp_path.iterdir()] == ['im.png']


@pytest.mark.parametrize('suffix', ['.mp4', '.mkv', '.mov'])
def test_a_video_has_the_colours_tags_and_rate(tmp_path, suffix):
    path = tmp_path / f'out{suffix}'
    encode_video(path, halves(48, 64, 30), NTSC, 1)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ('h264', 'yuv420p')
        context = stream.codec_context
        assert (context.colorspace, context.color_range, context.color_primaries, context.color_trc) == (1, 1, 1, 1)
    source = open_source(path)
    # Matroska keeps times in milliseconds
    assert source.rate == NTSC or (suffix == '.mkv' and abs(source.rate - NTSC) < 0.01)
    decoded = np.stack([*source.frames()])
    assert decoded.shape == (30, 48, 64, 3)
    assert np.abs(decoded.astype(int) - halves(48, 64, 30))[:, 4::8, 4::8].max() <= 3


@pytest.mark.parametrize(('value', 'rate'), [
    (29.97, Fraction(2997, 100)), ('30000/1001', NTSC), (25, 25), ('0.01', Fraction(1, 100)), (1000, 1000),
    ('29.970029970029970029', NTSC), (59.940059940059942, 2 * NTSC), (np.pi, None)])
def test_frame_rates_can_be_encoded(tmp_path, value, rate):
    found = frame_rate(value)
    assert found == (rate or found) and abs(found - Fraction(value)) < 1e-5
    encode_video(tmp_path / 'out.mp4', halves(), found, 40)
    assert open_source(tmp_path / 'out.mp4').survey(progress=False)[0] == 3


@pytest.mark.parametrize('value', [0, -25, 1e9, 1e-9, float('nan'), float('inf'), '1/0', 'fast', [25]])
def test_frame_rates_that_cannot_be(value):
    with pytest.raises(InferenceError, match=r'--fps .*: expected frames a second from 0.01 to 1000'):
        frame_rate(value)


@pytest.mark.parametrize(('values', 'message'), [
    ((16386, 16, 18), r'out\.mp4: H\.264 has 16384 pixels a side at most, .* 16386x16\. Give a folder'),
    ((16, 16, 52), '--crf 52: expected a number from 0'), ((16, 16, float('nan')), '--crf nan: expected')])
def test_videos_that_cannot_be(tmp_path, values, message):
    with pytest.raises(InferenceError, match=message):
        check_encoding(tmp_path / 'out.mp4', *values)


@pytest.mark.parametrize('width', [16384, 16386])
def test_the_encoder_has_the_limit_that_is_checked(tmp_path, width):
    frames = np.zeros((1, 2, width, 3), np.uint8)
    if width == 16384:
        encode_video(tmp_path / 'out.mp4', frames, Fraction(25), 40)
        return
    with pytest.raises(InferenceError, match=r'out\.mp4: cannot be encoded \(.*\)\. Give a folder'):
        encode_video(tmp_path / 'out.mp4', frames, Fraction(25), 40)


def test_a_frame_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'im.png').mkdir()
    with pytest.raises(OSError, match=r"directory: '.*im\.png'"):
        write_frame(tmp_path / 'im.png', moving_frames(1)[0])


@pytest.mark.parametrize('size', [(33, 40), (32, 41), (33, 41)])
def test_odd_sizes_are_kept(tmp_path, size):
    frames = moving_frames(3, *size)
    encode_video(tmp_path / 'out.mp4', frames, Fraction(25), 0)
    decoded = np.stack([*open_source(tmp_path / 'out.mp4').frames()])
    assert decoded.shape == frames.shape
    assert np.abs(decoded.astype(int) - frames).max() <= 2


def test_a_higher_crf_makes_a_smaller_file(tmp_path):
    sizes = []
    for crf in (10, 40):
        encode_video(tmp_path / 'out.mp4', moving_frames(10, 96, 128), Fraction(25), crf)
        sizes.append((tmp_path / 'out.mp4').stat().st_size)
    assert sizes[1] < sizes[0] / 2


def test_pixel_shape_is_kept(tmp_path):
    encode_video(tmp_path / 'out.mp4', halves(), NTSC, 18, pixel_shape=Fraction(16, 15))
    assert open_source(tmp_path / 'out.mp4').pixel_shape == Fraction(16, 15)


def sound_of(path):
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.dts is not None]
        return [bytes(packet) for packet in packets], float(packets[0].pts * packets[0].time_base)


@pytest.mark.parametrize('start', [0, 0.5])
@pytest.mark.parametrize('suffix', ['.mp4', '.mkv'])
def test_sound_is_copied_in_step(tmp_path, suffix, start):
    frames = moving_frames(30, 48, 64)
    source = write_video(tmp_path / f'in{suffix}', frames, sound=('aac', 1.5, start))
    encode_video(tmp_path / 'out.mp4', frames, NTSC, 18, sound_of=source)
    (before, time_before), (after, time_after) = sound_of(source), sound_of(tmp_path / 'out.mp4')
    assert after == before
    assert abs(time_after - time_before) < 0.04
    assert open_source(tmp_path / 'out.mp4').survey(progress=False) == (30, 48, 64)


def test_sound_that_the_file_cannot_hold_is_left_out(tmp_path, caplog):
    source = write_video(tmp_path / 'in.mkv', halves(), sound=('pcm_u8', 0.5, 0))
    logger = logging.getLogger('basicsr')
    logger.addHandler(caplog.handler)
    encode_video(tmp_path / 'out.mp4', halves(), NTSC, 18, sound_of=source)
    logger.removeHandler(caplog.handler)
    assert 'sound of the kind pcm_u8 does not go into this kind of file' in caplog.text
    with av.open(str(tmp_path / 'out.mp4')) as container:
        assert len(container.streams.video) == 1 and not container.streams.audio
