import json
import logging
import math

import numpy as np
import pytest
import torch

from basicsr_nriqa.study.scores import find_scores, join_names, read_scores, write_atomically, write_scores

CONTENT = {'model': 'VRT', 'loss': 'LPIPS', 'dataset': 'REDS', 'checkpoint': 'net_g_10.pth',
           'videos': {'000': {'psnr': 30.5, 'lpips': 0.25}, '011': {'psnr': 28.0, 'lpips': 0.5}},
           'versions': {'pyiqa': '0.1.16'}, 'lower_better': {'psnr': False, 'lpips': True}, 'optimised': ['lpips'],
           'checkpoint_sha256': '0123456789abcdef' * 4, 'device': 'cpu'}


def write_json(path, **changes):
    """A score file with some keys replaced, or left out where the new value is None."""
    content = {key: value for key, value in {**CONTENT, **changes}.items() if value is not None}
    path.write_text(json.dumps(content))
    return path


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / 'results' / 'scores' / 'vrt.json'
    write_scores(path, **CONTENT)
    assert read_scores(path) == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ['vrt.json'], 'the file beside was left'


def test_scores_become_plain_floats(tmp_path):
    path = tmp_path / 'a.json'
    write_scores(path, **{**CONTENT, 'videos': {'v': {'a': np.float32(0.5), 'b': torch.tensor(2.0), 'c': 3}}})
    scores = read_scores(path)['videos']['v']
    assert scores == {'a': 0.5, 'b': 2.0, 'c': 3.0}
    assert {type(score) for score in scores.values()} == {float}


@pytest.mark.parametrize('score', [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_null_and_reported(tmp_path, caplog, score):
    path = tmp_path / 'a.json'
    write_scores(path, **{**CONTENT, 'videos': {'000': {'psnr': score, 'lpips': 0.0}}})
    assert json.loads(path.read_text())['videos']['000'] == {'psnr': None, 'lpips': 0.0}
    with caplog.at_level(logging.WARNING):
        scores = read_scores(path)['videos']['000']
    assert math.isnan(scores['psnr'])
    assert scores['lpips'] == 0.0
    assert str(path) in caplog.text
    assert 'psnr of 000' in caplog.text


@pytest.mark.parametrize('number', ['1e999', '9' * 5000, '1e308', '-1e101'])
def test_a_number_too_large_to_compute_with_counts_as_missing(tmp_path, caplog, number):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(CONTENT).replace('30.5', number))
    assert math.isnan(read_scores(path)['videos']['000']['psnr'])
    assert 'psnr of 000' in caplog.text
    write_scores(path, **{**CONTENT, 'videos': {'v': {'psnr': float(number), 'lpips': 1e99}}})
    assert json.loads(path.read_text())['videos']['v'] == {'psnr': None, 'lpips': 1e99}


@pytest.mark.parametrize('name', ['\N{CJK UNIFIED IDEOGRAPH-6771}\N{IDEOGRAPHIC SPACE}\N{CJK UNIFIED IDEOGRAPH-4EAC}',
                                  'a\N{NO-BREAK SPACE}b', '\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}'])
def test_names_of_any_script_are_kept(tmp_path, name):
    content = {**CONTENT, 'model': name, 'loss': name, 'dataset': name, 'videos': {name: {name: 1.0}}}
    write_scores(tmp_path / 'a.json', **content)
    assert read_scores(tmp_path / 'a.json') == content


def test_the_last_four_keys_are_optional(tmp_path, caplog):
    optional = ('lower_better', 'optimised', 'checkpoint_sha256', 'device')
    scores = read_scores(write_json(tmp_path / 'a.json', **dict.fromkeys(optional)))
    assert [scores[key] for key in optional] == [{}, None, None, None]
    assert not caplog.records, 'nothing is missing here'


@pytest.mark.parametrize('key', ['model', 'loss', 'dataset', 'checkpoint', 'videos', 'versions'])
def test_a_missing_key_is_named(tmp_path, key):
    path = write_json(tmp_path / 'broken.json', **{key: None})
    with pytest.raises(ValueError, match=rf"broken\.json: key '{key}' is missing"):
        read_scores(path)


@pytest.mark.parametrize(('key', 'value', 'named'), [
    ('model', 3, "'model'"),
    ('checkpoint', 3, "'checkpoint'"),
    ('videos', ['000'], "'videos'"),
    ('videos', {}, "'videos'"),
    ('videos', {'000': {}}, 'videos.000'),
    ('videos', {'000': 3}, 'videos.000'),
    ('videos', {'000': {'psnr': '30'}}, 'videos.000.psnr'),
    ('videos', {'000': {'psnr': True}}, 'videos.000.psnr'),
    ('videos', {'000': {'psnr': 1}, '011': {'lpips': 1}}, 'videos.011.*lpips, psnr'),
    ('lower_better', {'psnr': 'no'}, 'lower_better.psnr'),
    ('optimised', 'lpips', "'optimised'"),
    ('optimised', [1], "'optimised'"),
    ('versions', {'torch': 2.6}, r'versions\.torch'),
    ('versions', {'torch': '2.6\n'}, r'versions\.torch'),
    ('checkpoint_sha256', 'abc', "'checkpoint_sha256'"),
    ('checkpoint_sha256', 'A' * 64, "'checkpoint_sha256'.*lower case"),
    ('device', 3, "'device'"),
    ('model', ' ', "'model'"),
    ('loss', 'NIMA\n', "'loss'"),
    ('dataset', '\x1b[2J', "'dataset'"),
    ('dataset', 'a\u2028b', "'dataset'"),
    ('dataset', '\ud800', "'dataset'"),
    ('videos', {'\x1b[2J': {'psnr': 1}}, 'videos'),
    ('videos', {'\x1b[2J': 3}, 'videos'),
    ('videos', {'000': {'\n': 1}}, 'videos'),
    ('videos', {'000': {'psnr': 1}, '001': {'\x1b[2J': 1}}, 'videos.001'),
    ('versions', {'\x1b[2J': '1'}, 'versions'),
    ('lower_better', {'\x1b[2J': 3}, 'lower_better'),
])
def test_a_wrong_value_is_named(tmp_path, key, value, named):
    path = write_json(tmp_path / 'broken.json', **{key: value})
    with pytest.raises(ValueError, match=rf'broken\.json: .*key .*{named}') as error:
        read_scores(path)
    assert str(error.value).isprintable(), 'a file must not write to the terminal as it likes'


@pytest.mark.parametrize(('text', 'named'), [('{"model": ', 'not valid JSON'), ('[]', 'JSON object'),
                                             ('{"model": NaN}', 'not valid JSON.*NaN'), ('\xff', 'not valid JSON'),
                                             ('{"videos": {"a": {}, "a": {}}}', "key 'a' is there twice"),
                                             ('[' * 100000, 'not valid JSON')])
def test_a_file_that_is_no_score_file_is_named(tmp_path, text, named):
    path = tmp_path / 'broken.json'
    path.write_bytes(text.encode('latin-1'))
    with pytest.raises(ValueError, match=rf'broken\.json: .*{named}'):
        read_scores(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'absent\.json'):
        read_scores(tmp_path / 'absent.json')


def test_nothing_is_written_for_wrong_content(tmp_path):
    with pytest.raises(ValueError, match=r"a\.json: key 'videos'"):
        write_scores(tmp_path / 'a.json', **{**CONTENT, 'videos': {}})
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / 'a.json'
    write_atomically(path, 'old')
    with pytest.raises(TypeError):
        write_atomically(path, 3)
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]


def test_score_files_are_found_in_folders_once(tmp_path):
    wanted = [tmp_path / 'a' / 'scores' / 'x.json', tmp_path / 'b' / 'c' / 'scores' / 'y.json']
    for path in [*wanted, tmp_path / 'a' / 'other.json', tmp_path / 'scores' / 'notes.txt']:
        write_atomically(path, '{}')
    assert find_scores([tmp_path]) == wanted
    assert find_scores([tmp_path / 'a' / 'scores']) == wanted[:1]
    assert find_scores([wanted[1], tmp_path, str(wanted[1])]) == wanted
    assert len(find_scores([tmp_path, tmp_path / 'a' / '..' / 'b'])) == 2
    assert find_scores([tmp_path / 'a' / 'other.json']) == [tmp_path / 'a' / 'other.json'], 'a named file is taken'


def test_the_folder_of_scores_can_be_the_current_one(tmp_path, monkeypatch):
    write_atomically(tmp_path / 'scores' / 'x.json', '{}')
    monkeypatch.chdir(tmp_path / 'scores')
    assert [path.name for path in find_scores(['.'])] == ['x.json']


def test_folders_without_score_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no scores/\*\.json'):
        find_scores([tmp_path])
    with pytest.raises(FileNotFoundError, match='absent: no such file or folder'):
        find_scores([tmp_path / 'absent'])


def test_join_names_counts_the_rest():
    assert join_names(list('ab')) == 'a, b'
    assert join_names(list('abcdefg')) == 'a, b, c, d, e and 2 more'
