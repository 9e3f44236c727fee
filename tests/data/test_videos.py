import json
import logging
import runpy
import shutil
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from conftest import ROOT, run_python
from filesystems import in_child, mount_read_only
from video_making import TURNED_LEFT, panned, prepare, set_display_matrix, write_two_videos, write_video

from basicsr_nriqa.data import DataError
from basicsr_nriqa.data import videos as videos_module
from basicsr_nriqa.data.clip_cutting import crop_to_multiple
from basicsr_nriqa.data.degradation import degrade
from basicsr_nriqa.data.lmdb_store import LmdbReader
from basicsr_nriqa.data.video_colour import ToRgb
from basicsr_nriqa.data.video_file import decoded_frames
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
    return write_two_videos(tmp_path_factory.mktemp('videos'))


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
    assert 'in.mp4: 20 frames, where the file says 60. It may be cut off: fetch it again' in log.text


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
    ({'clips': 0}, 'clips: expected a whole number, 1 or more, got 0'), ({'clips': '2'}, "clips: .*got '2'"),
    ({'frames': 1}, 'frames: expected a whole number, 2 or more, got 1'),
    ({'scale': 0}, 'scale: expected a whole number, 1 or more, got 0'),
    ({'start': -1.0}, 'start: expected a number, 0 or more, got -1'), ({'start': float('nan')}, 'start: .*got nan'),
    ({'resize_height': 3}, 'resize_height: expected a whole number, 4 or more, got 3'),
    ({'resize_height': 48.5}, r'resize_height: .*got 48\.5'), ({'output': 'tiff'}, "format: 'tiff'"),
    ({'scale': 80}, r'cut\.mkv: 97x71 pixels are too few for the scale 80')])
def test_what_cannot_be_is_an_error(videos, tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        prepare(videos[:1], tmp_path, **options)


def test_another_run_at_the_same_place_is_refused(videos, tmp_path):
    with exclusive(tmp_path / '.videos.lock'), pytest.raises(DataError, match='another run is cutting clips into this'):
        prepare(videos, tmp_path)
    prepare(videos, tmp_path)


def test_a_folder_that_may_not_be_written(videos, tmp_path):
    def run():
        mount_read_only(tmp_path)
        with pytest.raises(DataError, match=r'out: cannot be written \(Read-only file system\)'):
            prepare(videos[:1], tmp_path / 'out')
    in_child(run)


def test_pixels_that_are_not_square_are_told(tmp_path, log):
    path = write_video(tmp_path / 'in.mp4', panned('chelsea.png', 9), pixel_shape=Fraction(4, 3))
    prepare([path], tmp_path / 'out')
    assert 'in.mp4: pixels are not square (4:3)' in log.text


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
