import logging

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from videos import COLOURS, NTSC, halves, moving_frames, write_folder, write_sound, write_video

from basicsr_nriqa.inference import InferenceError
from basicsr_nriqa.inference.reading import open_source


@pytest.fixture
def warnings(caplog):
    """What is logged; BasicSR's logger does not hand on once it was set up."""
    logger = logging.getLogger('basicsr')
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def test_a_folder_in_natural_order_without_other_files(tmp_path):
    frames = moving_frames(12)
    folder = write_folder(tmp_path / 'in', frames)
    (folder / 'notes.txt').write_text('no frame')
    (folder / '.im3.png').write_bytes(b'hidden')
    (folder / 'more').mkdir()
    source = open_source(folder)
    assert source.names == [f'im{number}' for number in range(1, 13)]
    assert source.survey(progress=False) == (12, 20, 24)
    assert np.array_equal(np.stack([*source.frames()]), frames)
    assert np.array_equal(np.stack([*source.frames(9)]), frames[9:])


def test_a_name_of_digits_that_are_no_number(tmp_path):
    folder = write_folder(tmp_path / 'in', moving_frames(2))
    (folder / 'im1.png').rename(folder / '².png')
    assert sorted(open_source(folder).names) == ['im2', '²']


def test_identity_changes_with_the_frames(tmp_path):
    folder = write_folder(tmp_path / 'in', moving_frames(2))
    before = open_source(folder).identity()
    assert open_source(folder).identity() == before
    (folder / 'im2.png').rename(folder / 'im3.png')
    assert open_source(folder).identity() != before


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(InferenceError, match=r'there are no frames in this folder'):
        open_source(tmp_path)


def test_two_frames_of_one_name_are_an_error(tmp_path):
    folder = write_folder(tmp_path / 'in', moving_frames(2))
    (folder / 'im2.jpg').write_bytes((folder / 'im2.png').read_bytes())
    with pytest.raises(InferenceError, match=r'im2\.png: im2\.jpg has this name too'):
        open_source(folder)


def test_another_size_and_a_damaged_frame_are_named(tmp_path):
    folder = write_folder(tmp_path / 'in', moving_frames(3))
    write_folder(tmp_path / 'large', moving_frames(1, 24, 28))
    whole = (folder / 'im2.png').read_bytes()
    (folder / 'im2.png').write_bytes((tmp_path / 'large/im1.png').read_bytes())
    with pytest.raises(InferenceError, match=r'im2\.png has 28x24 pixels, but the frames before it have 24x20'):
        open_source(folder).survey(progress=False)
    (folder / 'im2.png').write_bytes(whole[:60])
    with pytest.raises(InferenceError, match=r'im2\.png: this frame cannot be read'):
        open_source(folder).survey(progress=False)


def test_a_video(tmp_path):
    frames = moving_frames(9, 48, 64)
    source = open_source(write_video(tmp_path / 'in.mp4', frames, pix_fmt='yuv444p', options={'crf': '0'}))
    assert (source.rate, source.names) == (NTSC, None)
    assert source.survey(progress=False) == (9, 48, 64)
    decoded = np.stack([*source.frames()])
    assert np.abs(decoded.astype(int) - frames).max() <= 2
    assert np.array_equal(np.stack([*source.frames(4)]), decoded[4:])


@pytest.mark.parametrize(('matrix', 'colour_range', 'pix_fmt', 'size', 'tagged'), [
    (Colorspace.ITU709, ColorRange.MPEG, 'yuv420p', (48, 64), True),
    (Colorspace.ITU601, ColorRange.MPEG, 'yuv420p', (48, 64), True),
    (Colorspace.ITU601, ColorRange.JPEG, 'yuvj420p', (48, 64), True),
    (Colorspace.ITU709, ColorRange.JPEG, 'yuvj420p', (48, 64), True),
    (Colorspace.ITU601, ColorRange.MPEG, 'yuv420p', (48, 64), False),
    (Colorspace.ITU709, ColorRange.MPEG, 'yuv420p', (48, 1280), False)])
def test_colours_by_matrix_and_range(tmp_path, matrix, colour_range, pix_fmt, size, tagged):
    path = write_video(tmp_path / 'in.mp4', halves(*size), matrix=matrix, colour_range=colour_range, pix_fmt=pix_fmt,
                       tagged=tagged)
    frame = next(open_source(path).frames())
    found = frame[24, [size[1] // 4, size[1] * 3 // 4]]
    assert np.abs(found.astype(int) - COLOURS).max() <= 3


def test_a_video_in_rgb(tmp_path):
    frames = moving_frames(2, 48, 64)
    path = tmp_path / 'in.mov'
    with av.open(str(path), 'w') as output:
        stream = output.add_stream('png', rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, 'rgb24'
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format='rgb24')
            picture.pts = number
            output.mux(stream.encode(picture))
        output.mux(stream.encode())
    assert np.array_equal(np.stack([*open_source(path).frames()]), frames)


@pytest.mark.skipif(not hasattr(av.video.stream.VideoStream, 'set_display_rotation'), reason='needs PyAV 18')
@pytest.mark.parametrize('rotation', [90, -90, 180])
def test_rotation_is_applied(tmp_path, rotation):
    source = open_source(write_video(tmp_path / 'in.mp4', halves(), rotation=rotation))
    expected = np.rot90(halves(), rotation // 90, axes=(1, 2))
    assert source.survey(progress=False) == expected.shape[:3]
    assert np.abs(next(source.frames()).astype(int) - expected[0])[4::8, 4::8].max() <= 2


def test_a_damaged_video_is_named(tmp_path):
    path = write_video(tmp_path / 'in.mp4', moving_frames(40, 48, 64), options={'crf': '1', 'g': '10'})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle:middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(data)
    with pytest.raises(InferenceError, match=r'in\.mp4: .*frame \d+.*Fetch or make the file again'):
        open_source(path).survey(progress=False)


def test_a_video_that_was_cut_off_is_told(tmp_path, warnings):
    path = write_video(tmp_path / 'in.mp4', moving_frames(90, 48, 64), options={'crf': '1', 'g': '10'})
    data = path.read_bytes()
    path.write_bytes(data[:len(data) // 3])
    try:
        open_source(path).survey(progress=False)
    except InferenceError as error:
        assert 'cannot be decoded from frame' in str(error)
    else:
        assert 'where the file says 90' in warnings.text


def test_a_varying_frame_rate_is_told(tmp_path, warnings):
    path = write_video(tmp_path / 'in.mkv', moving_frames(4, 48, 64), rate=25, times=[0, 1, 5, 6])
    assert open_source(path).survey(progress=False) == (4, 48, 64)
    assert 'the frame rate varies' in warnings.text


@pytest.mark.parametrize('content', [b'', b'no video at all', b'#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/a.ts\n'])
def test_other_files_are_an_error(tmp_path, content):
    path = tmp_path / 'in.m3u8'
    path.write_bytes(content)
    with pytest.raises(InferenceError, match=r'in\.m3u8: not a readable video file'):
        open_source(path)


def test_sound_alone_is_an_error(tmp_path):
    path = tmp_path / 'in.mka'
    with av.open(str(path), 'w', format='matroska') as output:
        write_sound(output, output.add_stream('aac', rate=44100, layout='mono'), 0.1, 0)
    with pytest.raises(InferenceError, match=r'in\.mka: there is no video in this file'):
        open_source(path)


def test_nothing_is_an_error(tmp_path):
    with pytest.raises(InferenceError, match=r'absent: no such file or folder'):
        open_source(tmp_path / 'absent')
