"""Cutting clips out of videos: interruptions, changed files, full disks."""
import json
import os
import re
import signal
import threading
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from filesystems import in_child, mount_small_disk
from video_making import killed, panned, prepare, write_two_videos, write_video

from basicsr_nriqa.data import DataError, clip_cutting, packing
from basicsr_nriqa.data import videos as videos_module
from basicsr_nriqa.data.clip_cutting import crop_to_multiple
from basicsr_nriqa.data.lmdb_store import LmdbReader
from basicsr_nriqa.data.videos import prepare_videos


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    return write_two_videos(tmp_path_factory.mktemp('videos'))


@pytest.fixture
def spoilt(tmp_path):
    """A video whose middle can be lost without its size, begin and end: 120 frames of noise."""
    texture = panned('coffee.png', 120, speed=1, size=(128, 192), shrink=2) // 2
    noise = np.random.default_rng(0).integers(0, 128, texture.shape, np.uint8)
    path = write_video(tmp_path / 'noisy.mkv', texture + noise, 'ffv1', 'yuv444p', options={'g': '1'})

    def lose(count):
        data = bytearray(path.read_bytes())
        with av.open(str(path)) as container:
            positions = [packet.pos for packet in container.demux(video=0) if packet.size]
        inner = [position for position in positions if 2**20 < position < len(data) - 2**20]
        for position in inner[:count]:  # Matroska's SimpleBlock becomes Void
            data[data.rindex(b'\xa3', position - 16, position + 1)] = 0xec
        path.write_bytes(data)
        return len(inner)

    return path, lose


@pytest.mark.parametrize('output', ['lmdb', 'png'])
def test_a_video_that_got_shorter_is_told_and_can_be_measured_anew(spoilt, tmp_path, output):
    path, lose = spoilt
    options = {'clips': 60, 'frames': 2, 'output': output}
    killed(lambda: prepare([path], tmp_path / 'out', **options), videos_module, 'cut_out')
    changed = path.stat().st_mtime_ns
    lost = lose(2)
    os.utime(path, ns=(changed, changed))  # a change that cannot be seen
    with pytest.raises(DataError, match=r'noisy\.mkv: ended before frame 11\d, which was there when it was measured'):
        prepare([path], tmp_path / 'out', **options)
    assert [child.name for child in (tmp_path / 'out').iterdir()] == ['.videos']
    os.utime(path, ns=(changed + 1, changed + 1))
    prepare([path], tmp_path / 'out', **options)
    told = json.loads((tmp_path / 'out/videos_test.json').read_text())['clips']
    assert lost > 2 and max(record['first_frame'] for record in told.values()) < 118


@pytest.mark.parametrize('output', ['lmdb', 'png'])
def test_ctrl_c_leaves_nothing_that_looks_whole_and_the_next_run_goes_on(tmp_path, output, monkeypatch):
    path = write_video(tmp_path / 'long.mp4', panned('astronaut.png', 140, size=(96, 144), shrink=2))
    out, written, noticed = tmp_path / 'out', [], threading.Event()
    write = clip_cutting._write_image

    def interrupting(*args):
        size = write(*args)
        written.append(size)
        if len(written) == 10:  # a real Ctrl-C
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            assert noticed.wait(60)
        return size

    def notice(*_):
        noticed.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(clip_cutting, '_write_image', interrupting)
    usual = signal.signal(signal.SIGINT, notice)
    try:
        with pytest.raises(KeyboardInterrupt):
            prepare([path], out, clips=16, output=output)
    finally:
        signal.signal(signal.SIGINT, usual)
    assert [child.name for child in out.iterdir()] == ['.videos']
    done = {file: file.stat().st_mtime_ns for file in out.rglob('im*.png')}
    cut_off = next(iter(done))
    cut_off.write_bytes(cut_off.read_bytes()[:-30])  # as a loss of power may leave it
    del done[cut_off]
    prepare([path], out, clips=16, output=output)
    if output == 'png':
        kept = [(out / 'videos_test').joinpath(*file.relative_to(out).parts[2:]) for file in done]
        same = [file.stat().st_mtime_ns == changed for file, changed in zip(kept, done.values())]
        assert len(same) - sum(same) <= 2  # GT and LR are written together: the partners of what was not whole
    prepare([path], tmp_path / 'whole', clips=16, output='lmdb')
    database = LmdbReader(tmp_path / 'whole/videos_test_GT.lmdb')
    keys = database.listed_keys()
    assert len(keys) == 112 and not (out / '.videos').exists()
    for key in keys[::20]:
        image = cv2.imread(str(out / f'videos_test/GT/{key}.png')) if output == 'png' else (
            LmdbReader(out / 'videos_test_GT.lmdb').image(key))
        assert np.array_equal(image, database.image(key))


@pytest.mark.parametrize('output', ['lmdb', 'png'])
def test_what_a_killed_run_leaves_is_removed(videos, tmp_path, output):
    def run():
        prepare(videos[:1], tmp_path, output=output, clips=2, workers=1)

    def replace(name):
        """Killed when all of a file is written but its name."""
        killed(run, Path, 'replace', name)

    replace(3)  # the first is the measures
    assert list(tmp_path.rglob('.im*.png.*.part'))
    replace({'png': 26, 'lmdb': 15}[output])
    killed(run, videos_module.shutil, 'rmtree')
    assert (tmp_path / 'videos_test.json').is_file() and (tmp_path / '.videos').is_dir()
    run()
    assert not [path for path in tmp_path.rglob('*') if path.name.startswith('.') or path.suffix == '.part']


@pytest.mark.parametrize('name', ['videos_test.json', 'meta_info_videos_test_GT.txt'])
def test_lists_that_a_killed_run_has_not_named_are_removed(videos, tmp_path, name):
    (tmp_path / f'.{name}.123.part').write_text('half')
    prepare(videos[:1], tmp_path)
    assert not list(tmp_path.glob('.*'))


def test_other_settings_after_an_interrupted_packing_are_named(videos, tmp_path):
    killed(lambda: prepare(videos[:1], tmp_path), packing.LmdbWriter, 'put', 9)
    with pytest.raises(DataError, match=r'clips 1, now 2, cropped_to 4, now 2, other choice of clips'):
        prepare(videos[:1], tmp_path, clips=2, scale=2)
    prepare(videos[:1], tmp_path)


@pytest.mark.parametrize('options', [{'output': 'png'}, {}, {'codec': 'raw'}])
def test_a_disk_too_small_is_told_while_frames_are_cut_out(tmp_path, options):
    path = write_video(tmp_path / 'long.mp4', panned('astronaut.png', 140, size=(96, 144), shrink=2))
    disk = tmp_path / 'disk'
    disk.mkdir()

    def run():
        mount_small_disk(disk, 1_500_000)  # 112 frames of about 29 kB
        told = r'disk: about \d\.\d MB are still to be written and \d\.\d MB are free\. What is done so far is kept'
        with pytest.raises(DataError, match=told):
            prepare([path], disk, clips=16, workers=1, **options)
        assert len(list(disk.rglob('GT/*/*/*.png'))) == 16
        with pytest.raises(DataError, match='No space left on device'):
            prepare([path], disk, clips=16, workers=1, check_space=False, **options)
        os.system(f'mount -o remount,size=20m {disk}')
        prepare([path], disk, clips=16, workers=1, **options)
        assert (disk / 'videos_test.json').is_file()
    in_child(run)


def test_measures_that_were_damaged_are_made_again(videos, tmp_path):
    killed(lambda: prepare(videos[:1], tmp_path), videos_module, 'cut_out')
    kept, = tmp_path.glob('.videos/measured_*.json')
    kept.write_text('{')
    prepare(videos[:1], tmp_path)


def test_decoders_share_the_threads(videos, tmp_path, monkeypatch):
    seen, decode = [], clip_cutting.decoded_frames

    def decoding(path, threads=0):
        seen.append(threads)
        return decode(path, threads)

    monkeypatch.setattr(clip_cutting, 'decoded_frames', decoding)
    prepare(videos, tmp_path / 'two', workers=6)
    prepare(videos[:1], tmp_path / 'one', workers=6)
    prepare(videos, tmp_path / 'few', workers=1)
    assert seen == [3, 3, 6, 1, 1]


def test_the_bar_counts_what_is_kept(videos, tmp_path, capsys):
    killed(lambda: prepare(videos[:1], tmp_path), videos_module, '_finish')
    prepare_videos(videos[:1], tmp_path, workers=1)
    bars = capsys.readouterr().err
    assert re.search(r'looking for clips: 100%.* 16/16', bars) and re.search(r'cutting out: 100%.* 7/7', bars)


def test_the_middle_is_taken():
    image = np.arange(10 * 7 * 3, dtype=np.uint8).reshape(10, 7, 3)
    assert np.array_equal(crop_to_multiple(image, 4), image[1:9, 1:5])
    assert np.array_equal(crop_to_multiple(image, 1), image)
