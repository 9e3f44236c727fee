import runpy

import cv2
import numpy as np
import pytest
from conftest import ROOT

from basicsr_nriqa.data.photographs import TEST_PHOTOGRAPHS, TRAIN_PHOTOGRAPHS, load_photograph
from basicsr_nriqa.data.sample_clips import make_sample_vimeo90k, render_clip


def test_layout_and_determinism(tmp_path):
    for name in ('a', 'b'):
        make_sample_vimeo90k(tmp_path / name, 2, 1, size=(64, 96), progress=False)
    files = sorted(path.relative_to(tmp_path / 'a') for path in (tmp_path / 'a').rglob('*') if path.is_file())
    assert len(files) == 3 * 7 + 2
    assert (tmp_path / 'a/sep_trainlist.txt').read_text().split() == ['00001/0001', '00001/0002']
    assert (tmp_path / 'a/sep_testlist.txt').read_text().split() == ['00002/0001']
    for file in files:
        assert (tmp_path / 'a' / file).read_bytes() == (tmp_path / 'b' / file).read_bytes()
    assert cv2.imread(str(tmp_path / 'a/sequences/00001/0001/im7.png')).shape == (64, 96, 3)


@pytest.mark.parametrize(('changed', 'message'), [
    (('--size', '66', '96'), '^error: --size 66 96: expected two numbers divisible by 4'),
    (('--train-clips', '2'), '^error: .* was made with other settings: frames 7, now 14, other frames. Remove it'),
    (('-o', '/proc/1/out'), '^error: /proc/1/out.*: cannot be written .*, or choose another folder')])
def test_errors_of_the_script(tmp_path, monkeypatch, changed, message):
    script = str(ROOT / 'scripts/make_sample_data.py')

    def run(*arguments):
        monkeypatch.setattr('sys.argv', [script, '-o', str(tmp_path), '--train-clips', '1', '--test-clips', '1',
                                         '--size', '64', '96', *arguments])
        runpy.run_path(script, run_name='__main__')

    if '--train-clips' in changed:
        run()
    with pytest.raises(SystemExit, match=message):
        run(*changed)


def test_training_and_test_photographs_are_different_and_there():
    assert not set(TRAIN_PHOTOGRAPHS) & set(TEST_PHOTOGRAPHS)
    for name in TRAIN_PHOTOGRAPHS + TEST_PHOTOGRAPHS:
        photograph = load_photograph(name)
        assert photograph.ndim == 3 and photograph.shape[2] == 3 and photograph.std() > 5


def test_camera_and_foreground_move():
    background, foreground = load_photograph('brick.png'), load_photograph('coffee.png')
    clip = np.stack(render_clip(background, foreground, np.random.default_rng(1), (128, 128))).astype(float)
    difference = np.abs(np.diff(clip, axis=0)).mean((1, 2, 3))
    assert (difference > 1).all() and (difference < 60).all()
    # the corners show the background, the moving piece passes near the centre
    assert np.abs(clip[0] - clip[-1])[40:88, 40:88].mean() > 1
