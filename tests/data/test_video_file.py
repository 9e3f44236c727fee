import struct

import av
import numpy as np
import pytest
from video_making import MATRICES, filled, panned, set_display_matrix, shown, write_video

from basicsr_nriqa.data import DataError
from basicsr_nriqa.data.video_file import (
    Orientation,
    declared_frames,
    decoded_frames,
    opened_video,
    progressive_frames,
)


def test_frames_in_the_order_they_are_shown_with_their_times(tmp_path):
    frames = panned('chelsea.png', 9)
    path = write_video(tmp_path / 'in.mkv', frames, times=[0, 1, 2, 3, 7, 8, 9, 10, 11])  # H.264 reorders
    decoded = list(decoded_frames(path, threads=1))
    assert [round(frame.time * 25) for frame in decoded] == [0, 1, 2, 3, 7, 8, 9, 10, 11]
    for frame, original in zip(decoded, frames):
        assert np.abs(frame.to_ndarray(format='rgb24').astype(int) - original).mean() < 5
    assert len(list(progressive_frames(path))) == 9


def test_what_a_header_declares(tmp_path):
    with opened_video(write_video(tmp_path / 'in.mp4', panned('chelsea.png', 9))) as (container, stream):
        assert declared_frames(container, stream) == 9
    with opened_video(write_video(tmp_path / 'in.mkv', panned('chelsea.png', 9))) as (container, stream):
        assert declared_frames(container, stream) == 9  # from its duration


def test_what_the_header_of_a_trimmed_video_declares(tmp_path):
    """A phone trims by an edit list: it shows 10 of the 60 frames that are in the file."""
    path = write_video(tmp_path / 'in.mp4', panned('chelsea.png', 60), options={'g': '30'})
    data = bytearray(path.read_bytes())
    start, timescale = data.index(b'elst') + 12, struct.unpack_from('>I', data, data.index(b'mdhd') + 16)[0]
    first = struct.unpack_from('>i', data, start + 4)[0]
    struct.pack_into('>Ii', data, start, 400, first + timescale)  # 400 ms, from the first second on
    path.write_bytes(data)
    with opened_video(path) as (container, stream):
        assert declared_frames(container, stream) == 10 == len(list(decoded_frames(path)))


@pytest.mark.parametrize('matrix', MATRICES.values(), ids=MATRICES)
def test_frames_as_they_are_shown(tmp_path, matrix):
    path = set_display_matrix(write_video(tmp_path / 'in.mp4', panned('chelsea.png', 1)), matrix)
    frame = next(decoded_frames(path))
    pixels = frame.to_ndarray(format='rgb24')
    expected = shown(pixels, matrix)
    orientation = Orientation(frame)
    assert np.array_equal(orientation.upright(pixels), expected)
    assert orientation.shape(frame) == expected.shape[:2] and orientation.turned == (expected.shape[0] == 96)


def test_names_that_look_like_protocols(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('12:30.mp4', 'http:a.mp4', '-x.mp4', 'clip%03d.mp4'):
        write_video(tmp_path / 'in.mp4', panned('chelsea.png', 1)).rename(name)
        assert len(list(decoded_frames(name))) == 1


@pytest.mark.parametrize('content', [b'', b'no video at all', b'#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/a.ts\n'])
def test_other_files_are_an_error(tmp_path, content):
    path = tmp_path / 'in.m3u8'
    path.write_bytes(content)
    with pytest.raises(DataError, match=r'in\.m3u8: not a readable video file'):
        next(decoded_frames(path))


def test_sound_alone_is_an_error(tmp_path):
    path = tmp_path / 'in.mka'
    with av.open(str(path), 'w', format='matroska') as output:
        track = output.add_stream('aac', rate=44100, layout='mono')
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format='fltp', layout='mono')
        sound.sample_rate = 44100
        output.mux([*track.encode(sound), *track.encode()])
    with pytest.raises(DataError, match=r'in\.mka: there is no video in this file'):
        next(decoded_frames(path))


def test_a_codec_without_a_decoder_is_an_error(tmp_path):
    path = write_video(tmp_path / 'in.mkv', panned('chelsea.png', 3))
    path.write_bytes(path.read_bytes().replace(b'V_MPEG4/ISO/AVC', b'V_MPEG4/ISO/XYZ'))
    with pytest.raises(DataError, match=r'in\.mkv: its video is coded in a way that FFmpeg cannot decode'):
        next(progressive_frames(path))


def test_a_truncated_file(tmp_path):
    """What is left of it are the frames before, exact; that there should be more is told by the header alone."""
    path = write_video(tmp_path / 'in.mp4', panned('chelsea.png', 60), options={'g': '10', 'bf': '0'})
    data, whole = path.read_bytes(), [frame.to_ndarray() for frame in decoded_frames(path)]
    with av.open(str(path)) as container:
        position, size = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size][20]
    for end in (position, position + size // 2):
        path.write_bytes(data[:end])
        left = [frame.to_ndarray() for frame in decoded_frames(path)]
        assert len(left) == 20 and np.array_equal(left, whole[:20])
        with opened_video(path) as (container, stream):
            assert declared_frames(container, stream) == 60
    path.write_bytes(data[:200])
    with pytest.raises(DataError, match=r'in\.mp4: there is no video in this file'):
        list(decoded_frames(path))


def test_a_damaged_file_is_named_with_the_frame(tmp_path):
    path = write_video(tmp_path / 'in.mp4', panned('chelsea.png', 40), options={'g': '10'})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle:middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r'in\.mp4: .*frame \d+.*Fetch or make the file again'):
        list(decoded_frames(path))


@pytest.mark.parametrize(('name', 'codec', 'options'), [
    ('in.mp4', 'libx264', {'x264-params': 'tff=1'}), ('in.mkv', 'libx264', {'x264-params': 'interlaced=1'}),
    ('in.mpg', 'mpeg2video', {'flags': '+ildct+ilme'})])
def test_interlaced_video_is_refused(tmp_path, name, codec, options):
    path = write_video(tmp_path / name, panned('chelsea.png', 3), codec, options=options)
    assert len(list(decoded_frames(path))) == 3
    with pytest.raises(DataError, match=rf'{name}: this video is interlaced.* ffmpeg -i {path} -vf bwdif'):
        next(progressive_frames(path))
    spaced = path.rename(tmp_path / 'my video')
    with pytest.raises(DataError, match=f"ffmpeg -i '{spaced}' -vf bwdif"):
        next(progressive_frames(spaced))


@pytest.mark.parametrize(('order', 'interlaced'), [('tt', True), ('progressive', False)])
def test_interlaced_only_by_the_container(tmp_path, order, interlaced):
    path = write_video(tmp_path / 'in.mkv', [filled((100, 128, 128), 'yuv420p', (48, 64))] * 3, 'ffv1',
                       options={'field_order': order})
    with opened_video(path) as (_, stream):
        if not hasattr(stream.codec_context, 'field_order'):
            pytest.skip('PyAV 17.1 does not tell it')
    if interlaced:
        with pytest.raises(DataError, match='this video is interlaced'):
            next(progressive_frames(path))
    else:
        assert len(list(progressive_frames(path))) == 3
