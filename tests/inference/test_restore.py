import errno
import json
import logging
import runpy
import shutil
import signal
import subprocess
import sys
import time

import av
import numpy as np
import pytest
import torch
from conftest import ROOT, run_python
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_pre_hook
from videos import NTSC, moving_frames, read_folder, write_folder, write_video

from basicsr_nriqa.archs.basicvsrpp_arch import BasicVSRPP
from basicsr_nriqa.archs.spynet_arch import SpyNet
from basicsr_nriqa.inference import InferenceError, restore_video
from basicsr_nriqa.inference import restore as restore_module
from basicsr_nriqa.inference.partial import Partial
from basicsr_nriqa.inference.reading import FolderSource, open_source
from basicsr_nriqa.inference.tiling import restore_tiles, windows
from basicsr_nriqa.inference.writing import write_frame

SCRIPT = ROOT / 'scripts/inference_video.py'
CUT = {'clip_length': 3, 'clip_overlap': 1, 'tile': 0}


@pytest.fixture(autouse=True, scope='module')
def _ctrl_c_is_heard():
    """Where the tests run in the background, the shell has them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'tiny.pth'
    torch.save({'params': BasicVSRPP(mid_channels=8, num_blocks=1).state_dict()}, path)
    return path


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp('frames') / 'in', moving_frames(7, 16, 18))


@pytest.fixture(scope='module')
def restored(folder, weights, tmp_path_factory):
    """What an uninterrupted run with CUT makes of the folder."""
    output = tmp_path_factory.mktemp('restored') / 'out'
    restore_video(folder, output, weights, **CUT, progress=False)
    return read_folder(output)


def run_script(monkeypatch, *arguments):
    """The script in this process; returns its exit code or its message."""
    monkeypatch.setattr(sys, 'argv', [str(SCRIPT), *map(str, arguments)])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        runpy.run_path(str(SCRIPT), run_name='__main__')
    except SystemExit as stop:
        return stop.code
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return 0


def on_call_of_the_network(count, action):
    """A context in which the network's call of this number, from 1, does something first."""
    calls = iter(range(1, 1000))

    def hook(module, _):
        if isinstance(module, BasicVSRPP) and next(calls) == count:
            action()
    return register_module_forward_pre_hook(hook)


def assert_same(frames, expected):
    assert frames.keys() == expected.keys()
    assert all(np.array_equal(frames[name], expected[name]) for name in frames)


def test_a_folder_equals_one_call_of_the_network(folder, weights, tmp_path):
    restore_video(folder, tmp_path / 'out', weights, clip_length=0, tile=0, progress=False)
    network = BasicVSRPP(mid_channels=8, num_blocks=1).eval()
    network.load_state_dict(torch.load(weights)['params'])
    with torch.no_grad():
        clip = network(torch.from_numpy(moving_frames(7, 16, 18)).permute(0, 3, 1, 2)[None].float() / 255)[0]
    expected = (clip.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    assert_same(read_folder(tmp_path / 'out'), {f'im{number}.png': frame for number, frame in enumerate(expected, 1)})
    assert [file.name for file in tmp_path.iterdir()] == ['out']


def test_clips_are_cross_faded(folder, weights, restored):
    network = BasicVSRPP(mid_channels=8, num_blocks=1).eval()
    network.load_state_dict(torch.load(weights)['params'])
    frames = torch.from_numpy(moving_frames(7, 16, 18)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        first, second = network(frames[None, :3])[0], network(frames[None, 2:5])[0]
    for number, expected in ((1, first[1]), (2, (first[2] + second[0]) / 2), (3, second[1])):
        found = torch.from_numpy(restored[f'im{number + 1}.png'].copy()).permute(2, 0, 1) / 255
        torch.testing.assert_close(found, expected.clamp(0, 1), rtol=0, atol=0.51 / 255)


@pytest.mark.parametrize('clip', [(0, 0), (1, 0), (3, 1), (4, 3), (5, 2), (7, 3), (20, 5)])
def test_a_network_without_memory_gives_the_same_however_clips_are_cut(clip):
    """The clips' way through the reader and the fade, in time alone; one clip at most is read ahead."""
    frames = moving_frames(11)
    axis = windows(11, *clip)
    starts = iter(axis.starts)

    class Source:
        path = 'frames'

        read = 0

        def frames(self, start=0):
            for self.read in range(start, 11):
                yield frames[self.read]

    class Partial:
        def note(self, **_):
            pass

    class Restorer:
        tile = tile_overlap = 0

        def __call__(self, array):
            assert source.read < next(starts) + 2 * axis.size

            def enlarge(part):
                return F.interpolate(part.float() / 255, scale_factor=2)
            return restore_tiles(enlarge, torch.from_numpy(array).permute(0, 3, 1, 2), 0, 0, 2)

    clips = [*zip(axis.starts, restore_module.blend_weights(axis))]
    source = Source()
    pieces = [*restore_module._restored(source, clips, axis, Restorer(), Partial())]
    assert [start for start, _ in pieces] == axis.starts
    assert np.array_equal(np.concatenate([piece for _, piece in pieces]), frames.repeat(2, 1).repeat(2, 2))


def test_a_video_with_sound(weights, tmp_path):
    source = write_video(tmp_path / 'in.mp4', moving_frames(4, 16, 20), sound=('aac', 0.3, 0))
    restore_video(source, tmp_path / 'out.mkv', weights, **CUT, fps=29.97, crf=5, progress=False)
    with av.open(str(tmp_path / 'out.mkv')) as container:
        assert len(container.streams.audio) == 1
    restore_video(source, tmp_path / 'out.mp4', weights, **CUT, crf=0, progress=False)
    restore_video(source, tmp_path / 'out', weights, **CUT, progress=False)
    video = open_source(tmp_path / 'out.mp4')
    assert video.rate == NTSC
    assert video.survey(progress=False) == (4, 64, 80)
    frames = read_folder(tmp_path / 'out')
    assert [*frames] == [f'0000000{number}.png' for number in range(4)]
    difference = np.abs(np.stack([*video.frames()]).astype(int) - np.stack([*frames.values()]))
    assert difference.mean() < 6  # colour has half the resolution
    assert not [*tmp_path.glob('*.partial')]


def test_sound_that_would_be_out_of_step_is_left_out(weights, tmp_path, caplog):
    source = write_video(tmp_path / 'in.mp4', moving_frames(4, 16, 20), sound=('aac', 0.3, 0))
    logger = logging.getLogger('basicsr')
    logger.addHandler(caplog.handler)
    restore_video(source, tmp_path / 'out.mkv', weights, **CUT, fps=10, progress=False)
    logger.removeHandler(caplog.handler)
    assert 'in.mp4: at 10.000 frames/s the sound would be out of step' in caplog.text
    with av.open(str(tmp_path / 'out.mkv')) as container:
        assert not container.streams.audio
        assert container.streams.video[0].average_rate == 10


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize('call', [1, 3])
def test_stopped_and_started_again_gives_the_same(monkeypatch, capsys, folder, weights, restored, tmp_path, number,
                                                  code, call):
    arguments = [folder, '-o', tmp_path / 'out', '--weights', weights, '--clip-length', 3, '--clip-overlap', 1,
                 '--tile', 0]
    with on_call_of_the_network(call, lambda: signal.raise_signal(number)):
        assert run_script(monkeypatch, *arguments) == code
    assert 'out.partial; the same command goes on from there' in capsys.readouterr().err
    done = read_folder(tmp_path / 'out.partial/frames')
    assert len(done) == {1: 0, 3: 4}[call] and not (tmp_path / 'out').exists()
    assert_same(done, {name: restored[name] for name in done})
    (tmp_path / 'out.partial/frames/.im5.png.123.part').write_bytes(b'half a frame')
    calls = []
    with register_module_forward_pre_hook(lambda module, _: calls.append(module) if isinstance(module, BasicVSRPP)
                                          else None):
        assert run_script(monkeypatch, *arguments) == 0
    assert len(calls) == {1: 3, 3: 2}[call]  # the clip before is made again for what it shares
    assert_same(read_folder(tmp_path / 'out'), restored)
    assert [file.name for file in tmp_path.iterdir()] == ['out']


def test_goes_on_from_any_frame(folder, weights, restored, tmp_path):
    with on_call_of_the_network(1, lambda: signal.raise_signal(signal.SIGINT)), pytest.raises(KeyboardInterrupt):
        restore_video(folder, tmp_path / 'out', weights, **CUT, progress=False)
    for count in range(1, 8):
        shutil.copytree(tmp_path / 'out.partial', tmp_path / f'out{count}.partial')
        names = [*restored][:count]
        for name in names:
            (tmp_path / f'out{count}.partial/frames' / name).write_bytes(b'is left as it is')
        restore_video(folder, tmp_path / f'out{count}', weights, **CUT, progress=False)
        for name in names:
            assert (tmp_path / f'out{count}' / name).read_bytes() == b'is left as it is'
            (tmp_path / f'out{count}' / name).unlink()
        assert_same(read_folder(tmp_path / f'out{count}'),
                    {name: frame for name, frame in restored.items() if name not in names})


@pytest.fixture
def begun(folder, weights, tmp_path):
    """The output of a run that was stopped."""
    output = tmp_path / 'out'
    with on_call_of_the_network(2, lambda: signal.raise_signal(signal.SIGINT)), pytest.raises(KeyboardInterrupt):
        restore_video(folder, output, weights, **CUT, progress=False)
    return output


def test_other_settings_are_an_error_that_says_what_differs(folder, weights, restored, begun, tmp_path):
    other = tmp_path / 'other.pth'
    torch.save({'params': BasicVSRPP(mid_channels=8, num_blocks=1, max_residue_magnitude=5).state_dict()}, other)
    with pytest.raises(InferenceError, match='the weights changed, clip_length was 3, is 4'):
        restore_video(folder, begun, other, clip_length=4, clip_overlap=1, tile=0, progress=False)
    with pytest.raises(InferenceError, match='cpu_cache_length was None, is 5'):
        restore_video(folder, begun, weights, **CUT, overrides=['cpu_cache_length=5'], progress=False)
    restore_video(folder, begun, weights, clip_length=0, tile=0, overwrite=True, progress=False)
    assert not np.array_equal(read_folder(begun)['im7.png'], restored['im7.png'])


def test_another_flow_network_is_an_error(folder, weights, tmp_path):
    flow = tmp_path / 'flow.pth'
    torch.save(SpyNet().state_dict(), flow)
    arguments = {**CUT, 'overrides': [f'spynet_path={flow}'], 'progress': False}
    with on_call_of_the_network(2, lambda: signal.raise_signal(signal.SIGINT)), pytest.raises(KeyboardInterrupt):
        restore_video(folder, tmp_path / 'out', weights, **arguments)
    torch.save(SpyNet().state_dict(), flow)
    with pytest.raises(InferenceError, match='other settings: the flow weights changed'):
        restore_video(folder, tmp_path / 'out', weights, **arguments)


def test_another_input_is_an_error(folder, weights, begun, tmp_path):
    other = shutil.copytree(folder, tmp_path / 'in')
    (other / 'im7.png').unlink()
    with pytest.raises(InferenceError, match='the input changed'):
        restore_video(other, begun, weights, **CUT, progress=False)


def test_a_damaged_record_is_an_error(folder, weights, begun):
    record = begun.with_name('out.partial') / 'run.json'
    record.write_text(record.read_text()[:20])
    with pytest.raises(InferenceError, match=r'run\.json: damaged'):
        restore_video(folder, begun, weights, **CUT, progress=False)


def test_two_runs_at_once_are_an_error(folder, weights, begun):
    def second():
        with pytest.raises(InferenceError, match='another run is making it'):
            restore_video(folder, begun, weights, **CUT, progress=False)
        met.append(True)
    met = []
    with on_call_of_the_network(1, second):
        restore_video(folder, begun, weights, **CUT, progress=False)
    assert met


def test_smaller_tiles_after_too_little_memory_are_kept(weights, tmp_path):
    """A GPU that runs out of memory at the first call, and a stop after that."""
    source = write_folder(tmp_path / 'in', moving_frames(2, 16, 70))

    def fail():
        raise torch.cuda.OutOfMemoryError('CUDA out of memory.')
    arguments = {'clip_length': 1, 'clip_overlap': 0, 'tile': 0, 'progress': False}
    with on_call_of_the_network(1, fail), on_call_of_the_network(4, lambda: signal.raise_signal(signal.SIGINT)), \
            pytest.raises(KeyboardInterrupt):
        restore_video(source, tmp_path / 'out', weights, **arguments)
    assert json.loads((tmp_path / 'out.partial/run.json').read_text())['tiles'] == [35, 8]
    restore_video(source, tmp_path / 'out', weights, **arguments)
    with on_call_of_the_network(1, fail):
        restore_video(source, tmp_path / 'at_once', weights, **arguments)
    assert_same(read_folder(tmp_path / 'out'), read_folder(tmp_path / 'at_once'))


def test_an_output_is_replaced_only_when_asked(folder, weights, restored, tmp_path):
    output = write_folder(tmp_path / 'out', moving_frames(1), name='old{}.png')
    with pytest.raises(InferenceError, match=r'out: there is an output already.*--overwrite'):
        restore_video(folder, output, weights, **CUT, progress=False)
    restore_video(folder, output, weights, **CUT, overwrite=True, progress=False)
    assert_same(read_folder(output), restored)


def test_places_where_no_output_goes(folder, weights, tmp_path):
    (tmp_path / 'holds').mkdir()
    (tmp_path / 'holds/thesis.txt').write_text('the only copy')
    (tmp_path / 'file').write_text('')
    (tmp_path / 'folder.mp4').mkdir()
    (tmp_path / 'taken.partial').mkdir()
    (tmp_path / 'taken.partial/thesis.txt').write_text('the only copy')
    for output, message in ((folder, 'neither the input'), (folder / 'out', 'neither the input'),
                            (folder.parent, 'neither the input'), (tmp_path / 'out.avi', "'.avi' is no kind of video"),
                            (tmp_path / 'holds', r'holds more than frames \(thesis\.txt\)'),
                            (tmp_path / 'file', 'there is a file of this name'),
                            (tmp_path / 'folder.mp4', 'there is a folder of this name'),
                            (tmp_path / 'taken', 'not of an earlier run'),
                            (tmp_path / 'file/out', r'cannot be made there \(Not a directory\)')):
        with pytest.raises(InferenceError, match=message):
            restore_video(folder, output, weights, **CUT, overwrite=True, progress=False)
    assert (tmp_path / 'holds/thesis.txt').exists() and (tmp_path / 'taken.partial/thesis.txt').exists()


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--tile', 8], r'--tile 8: this network needs 16 pixels or more'),
    (['--tile', 16, '--tile-overlap', 16], '--tile-overlap 16 must be below --tile 16'),
    (['--clip-length', 2, '--clip-overlap', 3], '--clip-overlap 3 must be below --clip-length 2'),
    (['--network', 'num_blocks=x'], "--network num_blocks: expected a whole number, got 'x'"),
    (['--fps', '1/0'], '--fps 1/0: expected frames a second from 0.01 to 1000'),
    (['--noise-level', 10], 'this network is not told how noisy'),
    (['--model', 'VRT'], 'this is the network BasicVSRPP, not VRT')])
def test_the_script_refuses(monkeypatch, folder, weights, tmp_path, arguments, message):
    result = run_script(monkeypatch, folder, '-o', tmp_path / 'out', '--weights', weights, *arguments)
    assert str(result).startswith('error: ') and message in result
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize('arguments', [{'tile_overlap': -2}, {'clip_overlap': -1}, {'tile': -16},
                                       {'precision': 'int8'}, {'fps': 1e9}])
def test_values_that_cannot_be_leave_nothing_behind(folder, weights, tmp_path, arguments):
    with pytest.raises(InferenceError, match=f"--{next(iter(arguments)).replace('_', '-')} .*: expected"):
        restore_video(folder, tmp_path / 'out', weights, **arguments, progress=False)
    assert not [*tmp_path.iterdir()]


def test_the_script_says_nothing_of_what_is_not_there(monkeypatch, capsys, folder, weights, tmp_path):
    monkeypatch.setattr(FolderSource, 'survey', lambda *_: signal.raise_signal(signal.SIGINT))
    assert run_script(monkeypatch, folder, '-o', tmp_path / 'out', '--weights', weights) == 130
    assert capsys.readouterr().err.endswith('Stopped.\n') and not [*tmp_path.iterdir()]


def test_a_frame_damaged_before_it_is_encoded_is_made_again(monkeypatch, folder, weights, restored, tmp_path):
    output = tmp_path / 'out.mkv'
    frame = tmp_path / 'out.mkv.partial/frames/im2.png'
    encode = restore_module.encode_video

    def damage_and_encode(*arguments):
        frame.write_bytes(frame.read_bytes()[:50])
        encode(*arguments)
    with monkeypatch.context() as patch:
        patch.setattr(restore_module, 'encode_video', damage_and_encode)
        with pytest.raises(InferenceError, match=r'im2\.png: this frame cannot be read .* makes it again'):
            restore_video(folder, output, weights, **CUT, progress=False)
    frame.unlink()
    restore_video(folder, output, weights, **CUT, crf=0, progress=False)
    assert open_source(output).survey(progress=False)[0] == len(restored)


def test_a_full_disk_keeps_what_is_done(monkeypatch, folder, weights, tmp_path):
    written = []

    def fill_up(path, frame):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, 'No space left on device', str(path))
        written.append(path)
        write_frame(path, frame)
    monkeypatch.setattr(restore_module, 'write_frame', fill_up)
    result = run_script(monkeypatch, folder, '-o', tmp_path / 'out', '--weights', weights)
    assert 'No space left on device' in result and 'out.partial; the same command goes on from there.' in result


def test_weights_that_are_not_there_are_no_reason_to_start_it_again(monkeypatch, folder, begun, tmp_path):
    result = run_script(monkeypatch, folder, '-o', begun, '--weights', tmp_path / 'none.pth')
    assert 'none.pth: no such file' in result and 'goes on' not in result
    assert (tmp_path / 'out.partial/run.json').exists()


def test_a_folder_of_the_next_run_is_left_alone(tmp_path):
    """It may be there as soon as the one before is gone."""
    with Partial(tmp_path / 'out') as partial:
        partial.begin({}, (1, 16, 16), False)
        partial.finish(partial.frames)
        partial.folder.mkdir()
        (partial.folder / 'lock').touch()
    assert (partial.folder / 'lock').exists()


@pytest.mark.parametrize('arguments', [['--tile', -1], ['--tile', 'x'], ['--crf', 60], ['--crf', 'good'],
                                       ['--device', 'gpu']])
def test_the_script_refuses_values(monkeypatch, capsys, folder, weights, tmp_path, arguments):
    assert run_script(monkeypatch, folder, '-o', tmp_path / 'out', '--weights', weights, *arguments) == 2
    assert f'argument {arguments[0]}' in capsys.readouterr().err


def test_a_frame_that_was_removed_meanwhile_is_an_error(folder, weights, restored, tmp_path):
    source = shutil.copytree(folder, tmp_path / 'in')
    with on_call_of_the_network(1, (source / 'im7.png').unlink), \
            pytest.raises(InferenceError, match=r'im7\.png: this frame cannot be read'):
        restore_video(source, tmp_path / 'out', weights, **CUT, progress=False)
    done = read_folder(tmp_path / 'out.partial/frames')
    assert_same(done, {name: restored[name] for name in [*restored][:4]})


@pytest.mark.slow
def test_a_killed_process_goes_on(folder, weights, restored, tmp_path):
    command = [SCRIPT, folder, '-o', tmp_path / 'out', '--weights', weights, '--clip-length', 3, '--clip-overlap', 1,
               '--tile', 0]
    process = subprocess.Popen([sys.executable, *map(str, command)], stderr=subprocess.DEVNULL)
    while process.poll() is None and not (tmp_path / 'out.partial/frames/im1.png').exists():
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert (tmp_path / 'out.partial').is_dir() and not (tmp_path / 'out').exists()
    again = run_python(*command)
    assert again.returncode == 0, again.stderr
    assert 'on from there' in again.stderr
    assert_same(read_folder(tmp_path / 'out'), restored)
