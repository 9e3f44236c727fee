import copy
import json
import runpy
import sys

import cv2
import numpy as np
import pytest
from conftest import ROOT, run_python

from basicsr_nriqa.data.photographs import load_photograph
from basicsr_nriqa.study import artifacts
from basicsr_nriqa.study.artifact_flags import artifact_flags
from basicsr_nriqa.study.artifacts import check_artifacts, read_artifacts, write_artifacts

LABELS = {'model': 'VRT', 'loss': 'Tiny', 'dataset': 'Photographs', 'progress': False}


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    """Frames of a soft baseline, of an honest fine-tune that is sharp, and of one that lays dots over the baseline."""
    root = tmp_path_factory.mktemp('results')
    for clip, name in enumerate(('chelsea.png', 'motorcycle_left.png')):
        for index in range(2):
            image = load_photograph(name)[100:292, 100 + index:292 + index, ::-1]
            soft = cv2.GaussianBlur(image, (0, 0), 1.5)
            dots = np.zeros(image.shape)
            dots[::4, ::4] = 12
            versions = {'baseline': soft, 'sharp': image, 'dots': np.clip(soft + dots, 0, 255).astype(np.uint8)}
            for version, frame in versions.items():
                path = root / version / f'clip{clip}' / f'im{index}_{version}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), frame)
    return root


@pytest.fixture(scope='module')
def sharp(saved):
    return check_artifacts(saved / 'sharp', saved / 'baseline', ['tinyiqa', 'niqe', 'psnr'], **LABELS)


def test_an_honest_improvement_has_no_flag(sharp):
    assert artifact_flags([sharp]) == []
    assert {key: sharp[key] for key in ('model', 'loss', 'dataset', 'videos')} == {
        'model': 'VRT', 'loss': 'Tiny', 'dataset': 'Photographs', 'videos': 2}
    assert sharp['versions']['basicsr-nriqa']
    assert list(sharp['gaming']) == ['tinyiqa', 'niqe'], 'a full-reference metric is left out'
    assert list(sharp['gaming']['tinyiqa']['perturbations']) == ['jpeg', 'blur', 'shift']
    assert list(sharp['gaming']['niqe']['perturbations']) == ['jpeg', 'blur'], '191 px are too small for it'


def test_gains_follow_their_definition(sharp):
    for metric, sign in (('tinyiqa', 1), ('niqe', -1)):
        entry = sharp['gaming'][metric]
        assert entry['lower_better'] == (sign == -1)
        assert entry['gain'] == pytest.approx(sign * (entry['tuned'] - entry['baseline'])) and entry['gain'] > 0
        scores = [video['tuned']['none'] for video in entry['videos'].values()]
        assert entry['tuned'] == pytest.approx(sum(scores) / 2)
        for perturbed in entry['perturbations'].values():
            assert perturbed['gain'] == pytest.approx(sign * (perturbed['tuned'] - perturbed['baseline']))
            assert perturbed['drop'] == pytest.approx(sign * (entry['tuned'] - perturbed['tuned']))
            from_worse = min(sign * entry['baseline'], sign * perturbed['baseline'])
            assert perturbed['kept'] == pytest.approx((sign * perturbed['tuned'] - from_worse) / entry['gain'])


def test_a_loss_of_quality_keeps_nothing_defined(saved):
    content = check_artifacts(saved / 'baseline', saved / 'sharp', ['tinyiqa'], **LABELS)
    assert {perturbed['kept'] for perturbed in content['gaming']['tinyiqa']['perturbations'].values()} == {None}


def test_a_package_that_is_not_installed_costs_no_result(saved, monkeypatch):
    monkeypatch.setattr(artifacts, '_PACKAGES', ('numpy', 'opencv-of-another-name'))
    assert list(check_artifacts(saved / 'dots', saved / 'baseline', [], **LABELS)['versions']) == ['numpy']


def test_dots_are_flagged(saved):
    content = check_artifacts(saved / 'dots', saved / 'baseline', [], **LABELS)
    flag, = artifact_flags([content])
    assert (flag.rule, flag.model, flag.loss, flag.dataset) == ('spectrum', 'VRT', 'Tiny', 'Photographs')


def test_identical_outputs_have_no_flag(saved):
    content = check_artifacts(saved / 'sharp', saved / 'sharp', ['tinyiqa'], limit=1, **LABELS)
    assert content['spectrum']['identical'] and content['videos'] == 1
    assert content['gaming']['tinyiqa']['gain'] == 0
    assert artifact_flags([content]) == []


def test_checking_twice_gives_the_same(saved):
    first, second = (check_artifacts(saved / 'dots', saved / 'baseline', ['tinyiqa'], limit=1, **LABELS)
                     for _ in range(2))
    assert first == second


def test_written_files_are_read_again(sharp, tmp_path):
    path = tmp_path / 'artifacts' / 'sharp.json'
    write_artifacts(path, sharp)
    assert read_artifacts(path) == sharp
    assert [file.name for file in path.parent.iterdir()] == ['sharp.json']


@pytest.mark.parametrize(('place', 'value', 'message'), [
    (['loss'], None, "key 'loss' is missing, expected a string"),
    (['videos'], 'two', "key 'videos' should be the number of videos, got 'two'"),
    (['videos'], 0, "key 'videos' should be a positive number, got 0"),
    (['gaming', 'tinyiqa'], 3, "expected an object at 'gaming.tinyiqa' with the keys lower_better, tuned"),
    (['gaming', 'tinyiqa', 'gain'], True, "key 'gaming.tinyiqa.gain' should be a number, got True"),
    (['gaming', 'tinyiqa', 'perturbations', 'jpeg', 'kept'], None,
     "key 'gaming.tinyiqa.perturbations.jpeg.kept' is missing, expected a number, or null"),
    (['spectrum', 'rms'], float('nan'), "key 'spectrum.rms' should be a number, got nan"),
    (['spectrum', 'peaks', 0, 'ratio'], 'high', r"key 'spectrum.peaks.0.ratio' should be a number, got 'high'"),
    (['spectrum', 'peaks', 0, 'frequency'], [1], r"key 'spectrum.peaks.0.frequency' should be two numbers, got \[1\]"),
    (['spectrum', 'log_power'], [[0, 'a']], "key 'spectrum.log_power' should be rows of numbers"),
])
def test_damaged_files_are_named(sharp, tmp_path, place, value, message):
    content = copy.deepcopy(sharp)
    parent = content
    for key in place[:-1]:
        parent = parent[key]
    if value is None:
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    path = tmp_path / 'bad.json'
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f'bad.json: {message}'):
        read_artifacts(path)
    with pytest.raises(ValueError, match=message):
        write_artifacts(tmp_path / 'other.json', content)
    assert not (tmp_path / 'other.json').exists()


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none\.json: no such artifact file'):
        read_artifacts(tmp_path / 'none.json')
    (tmp_path / 'half.json').write_text('{"model": ')
    with pytest.raises(ValueError, match=r'half.json: not valid JSON'):
        read_artifacts(tmp_path / 'half.json')
    (tmp_path / 'list.json').write_text('[]')
    with pytest.raises(ValueError, match=r'list.json: expected a JSON object with the keys model'):
        read_artifacts(tmp_path / 'list.json')


def test_bad_metrics_and_frames(saved, tmp_path):
    with pytest.raises(ValueError, match=r"unknown metric 'tinyqia' \(did you mean 'tinyiqa'"):
        check_artifacts(saved / 'sharp', saved / 'baseline', ['tinyqia'], **LABELS)
    with pytest.raises(ValueError, match='nowhere: no such folder'):
        check_artifacts(tmp_path / 'nowhere', saved / 'baseline', [], **LABELS)
    cv2.imwrite(str(tmp_path / '1.png'), np.zeros((63, 80, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match='80x63 px, expected at least 64'):
        check_artifacts(tmp_path, tmp_path, [], **LABELS)


def test_script(saved, tmp_path):
    out = tmp_path / 'dots.json'
    done = run_python(ROOT / 'scripts' / 'check_artifacts.py', saved / 'dots', saved / 'baseline', '--metric',
                      'tinyiqa', '--metric', 'psnr', '-o', out, '--limit', 1)
    assert done.returncode == 0, done.stderr
    assert 'FLAG spectrum: The difference to the baseline holds a regular pattern' in done.stdout
    assert 'a blur of 0.6 px' in done.stdout and 'compare with a reference: psnr' in done.stdout
    content = read_artifacts(out)
    assert (content['dataset'], content['loss'], content['videos']) == ('dots', 'tinyiqa & psnr', 1)


def test_script_says_what_is_wrong(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['check_artifacts.py', str(tmp_path / 'none'), str(saved / 'baseline'), '-o',
                                      str(tmp_path / 'out.json')])
    with pytest.raises(SystemExit, match=r'^error: .*none: no such folder'):
        runpy.run_path(str(ROOT / 'scripts' / 'check_artifacts.py'), run_name='__main__')
    assert not (tmp_path / 'out.json').exists()
