import gc
import json
import logging
import os
import re
import runpy
import shutil
import signal
import threading
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from conftest import ROOT, run_python
from filesystems import in_child, mount_read_only, mount_small_disk
from video_making import HLG, TURNED_LEFT, panned, set_display_matrix, write_video

from basicsr_nriqa.data import DataError, clip_cutting, packing
from basicsr_nriqa.data import videos as videos_module
from basicsr_nriqa.data.clip_cutting import crop_to_multiple
from basicsr_nriqa.data.degradation import degrade
from basicsr_nriqa.data.lmdb_store import LmdbReader
from basicsr_nriqa.data.video_colour import ToRgb
from basicsr_nriqa.data.video_file import decoded_frames
from basicsr_nriqa.data.video_sources import list_sources, split_sources
from basicsr_nriqa.data.videos import prepare_videos
from basicsr_nriqa.files import exclusive


@pytest.fixture
def log(caplog):
    """What is logged; BasicSR's logger does not hand on once it was set up."""
    logger = logging.getLogger('basicsr')
    level = logger.level
    logger.addHandler(caplog.handler)
    logger.setLevel('INFO')
    yield caplog
    logger.removeHandler(caplog.handler)
    logger.setLevel(level)


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    """Two of 16 frames: one of odd size with a cut at 9, one in HLG with a space and a dot in its name."""
    folder = tmp_path_factory.mktemp('videos')
    cut = np.concatenate([panned('chelsea.png', 9, size=(71, 97)), panned('coffee.png', 7, size=(71, 97))])
    return [write_video(folder / 'cut.mkv', cut, 'ffv1'),
            write_video(folder / 'my phone.v2.mp4', panned('astronaut.png', 16), 'libx265', 'yuv420p10le', matrix=9,
                        primaries=9, transfer=HLG)]


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


def prepare(videos, out, **options):
    prepare_videos(videos, out, progress=False, **{'workers': 2, **options})
    return out


def forked(function):
    """Run a function in a process of its own."""
    gc.collect()  # of this process's frames: the other one would wait for threads of theirs that it does not have
    return in_child(function)


def killed(function, module, name, call=1):
    """Run ``function`` in a process that is killed at the ``call``-th call of ``module.name``."""
    def run():
        original, calls = getattr(module, name), []

        def dying(*args, **options):
            calls.append(1)
            if len(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **options)
        setattr(module, name, dying)
        function()

    with pytest.raises(EOFError):  # the child said nothing
        forked(run)


def test_what_is_packed(videos, tmp_path, log):
    out = prepare(videos, tmp_path, clips=2)
    gt, lr = LmdbReader(tmp_path / 'videos_test_GT.lmdb'), LmdbReader(tmp_path / 'videos_test_LRx4.lmdb')
    clips = ['cut/0001', 'cut/0002', 'my_phone_v2/0001', 'my_phone_v2/0002']
    keys = [f'{clip}/im{number}' for clip in clips for number in range(1, 8)]
    assert sorted(gt.listed_keys()) == sorted(lr.listed_keys()) == keys
    assert (tmp_path / 'meta_info_videos_test_GT.txt').read_text().splitlines() == [
        'cut/0001 7 (68,96,3)', 'cut/0002 7 (68,96,3)', 'my_phone_v2/0001 7 (64,96,3)', 'my_phone_v2/0002 7 (64,96,3)']
    told = json.loads((tmp_path / 'videos_test.json').read_text())['clips']
    assert list(told) == clips and told['cut/0002']['first_frame'] == 9
    for clip, record in told.items():
        path = next(path for path in videos if path.name == record['source'])
        assert record['size'] == path.stat().st_size
        assert record['time'] == pytest.approx(record['first_frame'] / 25, abs=2e-3)
        frames = list(decoded_frames(path))
        to_rgb = ToRgb(frames[0], path)
        for number in (1, 7):
            image = crop_to_multiple(to_rgb(frames[record['first_frame'] + number - 1])[..., ::-1], 4)
            assert np.array_equal(gt.image(f'{clip}/im{number}'), image)
            assert np.array_equal(lr.image(f'{clip}/im{number}'), degrade(image, 4))
    assert 'HLG, BT.2020, 10 bit: tone-mapped' in told['my_phone_v2/0001']['colour']
    assert 'my phone.v2.mp4: HLG, BT.2020, 10 bit: tone-mapped to 8-bit sRGB (BT.2390' in log.text
    assert 'cut.mkv: SDR, ordinary primaries, 8 bit: taken as it is; 16 frames, 1 cuts' in log.text
    assert sorted(path.name for path in out.iterdir()) == [
        'meta_info_videos_test_GT.txt', 'videos_test.json', 'videos_test_GT.lmdb', 'videos_test_LRx4.lmdb']


def test_stock_basicsr_trains_with_it(videos, tmp_path):
    from basicsr.data import build_dataset
    prepare(videos, tmp_path, split='train')
    item = build_dataset({
        'name': 'stock', 'type': 'Vimeo90KRecurrentDataset', 'dataroot_gt': str(tmp_path / 'videos_train_GT.lmdb'),
        'dataroot_lq': str(tmp_path / 'videos_train_LRx4.lmdb'),
        'meta_info_file': str(tmp_path / 'meta_info_videos_train_GT.txt'), 'io_backend': {'type': 'lmdb'},
        'num_frame': 7, 'gt_size': 32, 'random_reverse': False, 'use_hflip': True, 'use_rot': True,
        'flip_sequence': False, 'scale': 4})[1]
    assert item['lq'].shape == (7, 3, 8, 8) and item['gt'].shape == (7, 3, 32, 32)


def test_files_have_the_same_frames(videos, tmp_path):
    prepare(videos[:1], tmp_path, clips=2)
    prepare(videos[:1], tmp_path / 'files', clips=2, output='png')
    assert sorted(path.name for path in (tmp_path / 'files').iterdir()) == [
        'meta_info_videos_test_GT.txt', 'videos_test', 'videos_test.json']
    for kind in ('GT', 'LRx4'):
        database = LmdbReader(tmp_path / f'videos_test_{kind}.lmdb')
        tree = tmp_path / 'files/videos_test' / kind
        assert len(list(tree.rglob('*.*'))) == 14
        for key in database.listed_keys():
            assert np.array_equal(cv2.imread(str(tree / f'{key}.png')), database.image(key))
    meta_info = 'meta_info_videos_test_GT.txt'
    assert (tmp_path / 'files' / meta_info).read_text() == (tmp_path / meta_info).read_text()


def test_a_second_run_leaves_all_alone_and_other_settings_are_refused(videos, tmp_path, log):
    for output, name in (('lmdb', 'videos_test_GT.lmdb'), ('png', 'videos_test')):
        out = prepare(videos, tmp_path / output, output=output)
        before = {path: path.stat().st_mtime_ns for path in out.rglob('*.*') if path.name != 'lock.mdb'}
        prepare(videos, out, output=output)
        assert before == {path: path.stat().st_mtime_ns for path in before} and f'{name} is there already' in log.text
        with pytest.raises(DataError, match=rf'{name} is there and was made with other settings \(clips; videos_test'):
            prepare(videos, out, output=output, clips=2)
        with pytest.raises(DataError, match=r'other settings \(sources; '):
            prepare(videos[:1], out, output=output)


def test_a_record_that_was_not_written_any_more(videos, tmp_path):
    out = prepare(videos, tmp_path)
    record = (out / 'videos_test.json').read_text()
    (out / 'videos_test.json').unlink()
    prepare(videos, out)
    assert (out / 'videos_test.json').read_text() == record and not (out / '.videos').exists()


def test_shrunk_first_and_another_degradation(videos, tmp_path):
    prepare(videos[1:], tmp_path, resize_height=32, scale=2, frames=3, start=0.2)
    gt, lr = LmdbReader(tmp_path / 'videos_test_GT.lmdb'), LmdbReader(tmp_path / 'videos_test_LRx2.lmdb')
    assert gt.image('my_phone_v2/0001/im3').shape == (32, 48, 3)
    assert lr.image('my_phone_v2/0001/im3').shape == (16, 24, 3)
    record = json.loads((tmp_path / 'videos_test.json').read_text())['clips']['my_phone_v2/0001']
    assert record['first_frame'] >= 5


def test_a_turned_phone_and_a_file_that_was_cut_off(tmp_path, log):
    path = write_video(tmp_path / 'in.mp4', panned('chelsea.png', 60), options={'g': '10', 'bf': '0'})
    set_display_matrix(path, TURNED_LEFT)
    data = path.read_bytes()
    with av.open(str(path)) as container:  # up to the end of a frame: the decoder sees no damage
        end = [packet.pos for packet in container.demux(video=0) if packet.size][20]
    path.write_bytes(data[:end])
    prepare([path], tmp_path / 'out')
    assert LmdbReader(tmp_path / 'out/videos_test_GT.lmdb').image('in/0001/im1').shape == (96, 64, 3)
    assert 'in.mp4: 20 frames, where the file says 60. It may be cut off.' in log.text


def test_a_video_is_not_for_training_in_one_run_and_for_testing_in_another(videos, tmp_path):
    prepare(videos[:1], tmp_path, split='train')
    renamed = shutil.copy(videos[0], tmp_path / 'renamed.mkv')
    for some in (videos, [renamed]):
        with pytest.raises(DataError, match=r'(cut|renamed)\.mkv: this video is in videos_train\.json already'):
            prepare(some, tmp_path)
    prepare(videos[1:], tmp_path)
    with pytest.raises(DataError, match=r'my phone\.v2\.mp4: this video is in videos_test\.json already'):
        prepare(videos, tmp_path, split='train')


@pytest.mark.parametrize(('first', 'second'), [('lmdb', 'png'), ('png', 'lmdb')])
def test_one_folder_holds_one_format_and_the_list_of_one_choice(videos, tmp_path, first, second):
    prepare(videos[:1], tmp_path, output=first)
    lists = tmp_path / 'videos_test.json', tmp_path / 'meta_info_videos_test_GT.txt'
    told = [path.read_text() for path in lists]
    for options in ({'output': second}, {'output': second, 'clips': 2}, {'output': first, 'scale': 2}):
        with pytest.raises(DataError, match=r'is there and was made with other settings \((clips, )?(format|scale); '):
            prepare(videos[:1], tmp_path, **options)
    assert told == [path.read_text() for path in lists]
    (tmp_path / 'videos_test.json').unlink()
    with pytest.raises(DataError, match=r'is there, but videos_test\.json does not tell how it was made'):
        prepare(videos[:1], tmp_path, output=second)
    for path in (*tmp_path.glob('*.lmdb'), *tmp_path.glob('videos_test')):
        shutil.rmtree(path)
    prepare(videos[:1], tmp_path, output=second)


def test_training_and_test_videos(videos, tmp_path):
    prepare(videos, tmp_path, test_share=0.1)
    parts = {split: json.loads((tmp_path / f'videos_{split}.json').read_text())['clips'] for split in ('train', 'test')}
    assert {len(part) for part in parts.values()} == {1}
    assert sorted(record['source'] for part in parts.values() for record in part.values()) == [
        path.name for path in videos]


def test_no_video_is_drawn_for_both_and_the_order_does_not_matter(tmp_path):
    paths = [tmp_path / f'{number}.mp4' for number in range(20)]
    for path in paths:
        path.write_bytes(path.name.encode())
    parts = split_sources(list_sources(paths), test_share=0.1, seed=3)
    assert [len(parts[split]) for split in ('train', 'test')] == [18, 2]
    assert not {*parts['train']} & {*parts['test']}
    assert parts == split_sources(list_sources(paths[::-1]), test_share=0.1, seed=3)
    assert parts != split_sources(list_sources(paths), test_share=0.1, seed=4)
    for share in (0, 1, 1.5):
        with pytest.raises(DataError, match='expected above 0 and below 1'):
            split_sources(list_sources(paths), test_share=share)


def test_names_in_keys_are_safe_and_unique(tmp_path):
    for number, name in enumerate(['a b.mp4', 'a_b.mov', 'A.b.mkv', 'grün-1.mp4', f'{"x" * 150}.mp4', '..mp4']):
        (tmp_path / name).write_bytes(bytes([number]))
    names = [source.name for source in list_sources(tmp_path.iterdir())]
    assert sorted(names) == sorted(['A_b', 'a_b_2', 'a_b_3', 'grün-1', 'x' * 100, '_'])


def test_a_copy_under_another_name_is_refused(videos, tmp_path):
    shutil.copy(videos[0], tmp_path / 'zcopy.mkv')
    with pytest.raises(DataError, match=r'zcopy\.mkv: the same video as .*cut\.mkv'):
        prepare([videos[0], tmp_path / 'zcopy.mkv'], tmp_path)
    with pytest.raises(DataError, match=r'absent\.mp4: no such file'):
        prepare([tmp_path / 'absent.mp4'], tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    memory = Path('/proc/self/mem')  # may not be read from its begin on, also by root
    if not memory.is_file():
        pytest.skip('needs Linux')
    (tmp_path / 'in.mp4').symlink_to(memory)
    with pytest.raises(DataError, match=r'in\.mp4: cannot be read \('):
        prepare([tmp_path / 'in.mp4'], tmp_path)


def test_videos_without_a_clip_are_named(videos, tmp_path, monkeypatch):
    short = write_video(tmp_path / 'short.mp4', panned('chelsea.png', 5))
    still = write_video(tmp_path / 'still.mp4', panned('chelsea.png', 12, speed=0))
    with pytest.raises(DataError, match=r'short\.mp4: no clip \(5 frames, .*\n.*still\.mp4: no clip .* 11 repeated'):
        prepare([videos[0], short, still], tmp_path / 'out')
    assert not list((tmp_path / 'out').glob('*'))[1:]
    monkeypatch.setattr(videos_module, 'measure_video', None)  # what was measured is used
    prepare([videos[0]], tmp_path / 'out')
    assert (tmp_path / 'out/videos_test.json').is_file()


def test_damaged_and_interlaced_videos_are_named(videos, tmp_path):
    (tmp_path / 'noise.mp4').write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(DataError, match=r'noise\.mp4: not a readable video file'):
        prepare([videos[0], tmp_path / 'noise.mp4'], tmp_path / 'out')
    path = write_video(tmp_path / 'tv.mp4', panned('chelsea.png', 9), options={'x264-params': 'tff=1'})
    with pytest.raises(DataError, match=r'tv\.mp4: this video is interlaced'):
        prepare([videos[0], path], tmp_path / 'out')


@pytest.mark.parametrize(('options', 'message'), [
    ({'split': 'val'}, "split: 'val' is not known"),
    ({'clips': 0}, 'clips: 0'), ({'frames': 1}, 'frames: 1'), ({'scale': 0}, 'scale: 0'),
    ({'start': -1.0}, 'start: -1'), ({'output': 'tiff'}, "format: 'tiff'"), ({'resize_height': 3}, 'resize_height: 3'),
    ({'scale': 80}, r'cut\.mkv: 97x71 pixels are too few for the scale 80')])
def test_what_cannot_be_is_an_error(videos, tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        prepare(videos[:1], tmp_path, **options)


def test_another_run_at_the_same_place_is_refused(videos, tmp_path):
    with exclusive(tmp_path / '.videos.lock'), pytest.raises(DataError, match='another run is cutting clips into this'):
        prepare(videos, tmp_path)
    prepare(videos, tmp_path)


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
    with pytest.raises(DataError, match=r'begun with other settings: clips 1, now 2, cropped_to 4, now 2, chosen'):
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
    forked(run)


def test_a_folder_that_may_not_be_written(videos, tmp_path):
    def run():
        mount_read_only(tmp_path)
        with pytest.raises(DataError, match=r'out: cannot be written \(Read-only file system\)'):
            prepare(videos[:1], tmp_path / 'out')
    forked(run)


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


def test_pixels_that_are_not_square_are_told(tmp_path, log):
    path = write_video(tmp_path / 'in.mp4', panned('chelsea.png', 9), pixel_shape=Fraction(4, 3))
    prepare([path], tmp_path / 'out')
    assert 'in.mp4: pixels are not square (4:3)' in log.text


def test_the_bar_counts_what_is_kept(videos, tmp_path, capsys):
    killed(lambda: prepare(videos[:1], tmp_path), videos_module, '_finish')
    prepare_videos(videos[:1], tmp_path, workers=1)
    bars = capsys.readouterr().err
    assert re.search(r'looking for clips: 100%.* 16/16', bars) and re.search(r'cutting out: 100%.* 7/7', bars)


def test_the_middle_is_taken():
    image = np.arange(10 * 7 * 3, dtype=np.uint8).reshape(10, 7, 3)
    assert np.array_equal(crop_to_multiple(image, 4), image[1:9, 1:5])
    assert np.array_equal(crop_to_multiple(image, 1), image)


def test_real_videos(shared, tmp_path):
    found = [path for path in (shared / 'data').rglob('*.mp4') if path.stem in ('bikes', 'carphone_pristine')]
    if len(found) < 2:
        pytest.skip('no videos in shared/')
    prepare(found, tmp_path, clips=2, resize_height=136)
    told = json.loads((tmp_path / 'videos_test.json').read_text())['clips']
    assert list(told) == ['bikes/0001', 'bikes/0002', 'carphone_pristine/0001', 'carphone_pristine/0002']
    for record in told.values():
        inside = range(record['first_frame'] + 1, record['first_frame'] + 7)
        assert record['source'] != 'bikes.mp4' or not {30, 76, 137, 187, 242} & {*inside}
    assert (tmp_path / 'meta_info_videos_test_GT.txt').read_text().splitlines()[0] == 'bikes/0001 7 (136,320,3)'


def test_script(videos, tmp_path):
    done = run_python(ROOT / 'scripts/prepare_videos.py', videos[0], '-o', tmp_path, '--clips', 2, '--split', 'train',
                      '--codec', 'raw')
    assert done.returncode == 0, done.stderr
    assert 'cut.mkv: SDR, ordinary primaries, 8 bit: taken as it is' in done.stdout + done.stderr
    assert len(LmdbReader(tmp_path / 'videos_train_LRx4.lmdb').listed_keys()) == 14


def test_error_of_the_script(tmp_path, monkeypatch):
    script = str(ROOT / 'scripts/prepare_videos.py')
    monkeypatch.setattr('sys.argv', [script, str(tmp_path / 'nothing.mp4'), '-o', str(tmp_path)])
    with pytest.raises(SystemExit, match=r'^error: .*nothing\.mp4: no such file'):
        runpy.run_path(script, run_name='__main__')
