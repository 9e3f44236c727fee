import hashlib
import json
import os
import runpy
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from conftest import ROOT, run_python
from huggingface_hub import constants
from torch import nn

from basicsr_nriqa import files
from basicsr_nriqa.iqa import CATALOGUE, MetricError, create_metric, find_weights, metric_info, random_weights
from basicsr_nriqa.iqa.weights import (
    FOLDER_VARIABLE,
    SUMS,
    WeightsFile,
    fetch,
    load_file,
    load_weights,
    locate,
    pyiqa_file,
    random_seed,
    weights_path,
)
from basicsr_nriqa.iqa.weights_folder import check_folder, fill_folder, needed_files

MANIQA, = metric_info('maniqa').files  # published without any digest


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """The folders in which a file of pyiqa's is looked for, in this order; nothing is in them."""
    cache = tmp_path / 'hf' / 'models--chaofengc--IQA-PyTorch-Weights'
    (cache / 'refs').mkdir(parents=True)
    (cache / 'refs' / 'main').write_text('abc')
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'hf'))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setattr(torch.hub, '_hub_dir', None)
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / 'variable'))
    folders = [tmp_path / 'given', tmp_path / 'variable',
               *(tmp_path / 'torch' / 'hub' / home for home in ('pyiqa', 'checkpoints', 'clip')),
               tmp_path / 'home' / '.cache' / 'clip', cache / 'snapshots' / 'abc']
    for folder in folders:
        folder.mkdir(parents=True)
    return folders


@pytest.fixture
def offline(monkeypatch):
    def refuse(request, **options):
        raise URLError('no route to host')
    monkeypatch.setattr(files, 'urlopen', refuse)


@pytest.fixture
def server(monkeypatch):
    """A web server on this machine: set ``contents[name]``, and read in ``asked`` what was asked for."""
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path[1:]
            server.asked.append(name)
            if name not in server.contents:
                return self.send_error(404)
            self.send_response(200)
            self.send_header('Content-Length', str(len(server.contents[name]) + server.withheld))
            self.end_headers()
            return self.wfile.write(server.contents[name])

        def log_message(self, *args):
            pass

    monkeypatch.setenv('no_proxy', '*')
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.contents, server.asked, server.withheld = {}, [], 0
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def _served(server, name, content=None, home='pyiqa', digest=''):
    if content is not None:
        server.contents[name] = content
    return WeightsFile(name, f'http://127.0.0.1:{server.server_port}/{name}', home, digest)


def _digest(content):
    return hashlib.sha256(content).hexdigest()


def _names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


# where files are looked for

def test_search_order(places):
    for folder in places:
        (folder / MANIQA.name).write_bytes(b'weights')
    for folder in places:
        assert locate(MANIQA, places[0]) == locate(MANIQA, places[0] / 'own.pth') == folder / MANIQA.name
        (folder / MANIQA.name).unlink()
    assert locate(MANIQA, places[0]) is None


def test_hub_folders_belong_to_their_projects(places):
    _, backbone = metric_info('mdtvsfa').files
    clip, = metric_info('clipiqa').files
    assert [weights_path(file).parent for file in (MANIQA, backbone, clip)] == places[2:5]
    plain = replace(backbone, sha256='')
    for folder in places[2:4]:
        (folder / backbone.name).write_bytes(b'weights')
    assert locate(plain) == weights_path(backbone)
    weights_path(backbone).unlink()
    (places[2] / backbone.name).unlink()
    (places[-1] / backbone.name).write_bytes(b'of another repository')
    assert locate(plain) is None


def test_published_digits_are_compared(places):
    content = b'weights'
    file = pyiqa_file(f'LPIPS_v0.1_alex-{_digest(content)[:8]}.pth')
    path = weights_path(file)
    path.write_bytes(content)
    assert locate(file) == path
    path.write_bytes(b'damaged')
    with pytest.raises(MetricError, match=f'{path}: its sha256 starts with {_digest(b"damaged")[:8]}, '
                                          f'expected {file.sha256}: .* Remove it'):
        locate(file)


@pytest.mark.parametrize('line', ['{}  {}\n', '{} *./{}\n'])
def test_recorded_digests_are_compared(places, line):
    path, digits = weights_path(MANIQA), _digest(b'weights')
    sums = path.with_name(SUMS)
    path.write_bytes(b'weights')
    sums.write_text(line.format('0' * 64, 'another.pth') + line.format(digits, MANIQA.name))
    assert locate(MANIQA) == path
    sums.write_text(line.format('0' * 64, MANIQA.name))
    for file in (MANIQA, replace(MANIQA, sha256=digits[:8])):
        with pytest.raises(MetricError, match=f'{path}: .* expected 0000000000000000'):
            locate(file)
    with pytest.raises(MetricError, match=f'{path}: .* expected 0000000000000000'):
        find_weights(metric_info('maniqa'), path)
    sums.write_text(f'{digits} {MANIQA.name}\n')
    with pytest.raises(MetricError, match=f'{sums}: not a line of sha256sum'):
        locate(MANIQA)


# what a metric needs

def test_every_missing_file_is_listed(offline):
    info = metric_info('clipiqa+_vitL14_512')
    for download, reason in ((False, 'they are fetched when nothing else is wrong'),
                             (True, 'fetching failed: .*no route to host')):
        with pytest.raises(MetricError, match=reason) as caught:
            find_weights(info, download=download)
        message = str(caught.value)
        for file in info.files:
            assert f'  {file.name}  from {file.url}\n    to {weights_path(file)}\n' in message
        assert 'python scripts/download_weights.py clipiqa+_vitL14_512 -o FOLDER' in message
        assert f'set {FOLDER_VARIABLE}=FOLDER' in message
    weights_path(info.files[0]).write_bytes(b'')
    with pytest.raises(MetricError, match='sha256'):
        find_weights(info)


def test_only_what_is_missing_is_listed(places):
    head, backbone = metric_info('mdtvsfa').files
    info = replace(metric_info('mdtvsfa'), files=(replace(head, sha256=''), backbone))
    weights_path(head).write_bytes(b'weights')
    with pytest.raises(MetricError, match=f'(?s)Put\n  {backbone.name}') as caught:
        find_weights(info, download=False)
    assert head.name not in str(caught.value)


def test_own_file_comes_first_and_brings_the_others(places):
    info = replace(metric_info('lpips'), files=tuple(WeightsFile(name, 'http://x', 'pyiqa') for name in 'ab'))
    for name in ('a', 'b', 'mine.pth'):
        (places[0] / name).write_bytes(b'weights')
    assert find_weights(info, places[0]) == [places[0] / 'a', places[0] / 'b']
    assert find_weights(info, str(places[0] / 'mine.pth')) == [places[0] / 'mine.pth', places[0] / 'b']
    with pytest.raises(MetricError, match=r'lpips.*nowhere: no such file or folder'):
        find_weights(info, places[0] / 'nowhere')


def test_missing_files_are_fetched_once(server, places):
    files = (_served(server, 'head.pth', b'head'), _served(server, 'backbone.pth', b'backbone', 'checkpoints'))
    info = replace(metric_info('lpips'), files=files)
    for _ in range(2):
        assert find_weights(info) == [places[2] / 'head.pth', places[3] / 'backbone.pth']
    assert server.asked == ['head.pth', 'backbone.pth']


# downloads

def test_fetched_whole(server, tmp_path):
    content = bytes(range(256)) * 10000
    file = _served(server, 'some.pth', content, digest=_digest(content)[:8])
    assert fetch(file, tmp_path / 'new' / 'folder').read_bytes() == content
    assert _names(tmp_path / 'new' / 'folder') == ['some.pth']


def test_failed_downloads_leave_what_was_there(server, tmp_path):
    folder = tmp_path / 'folder'
    file = _served(server, 'some.pth', b'new')
    for before in ([], ['some.pth']):
        with pytest.raises(MetricError, match=rf'{file.url}: its sha256 starts with {_digest(b"new")[:8]}, expected 0'):
            fetch(replace(file, sha256='00000000'), folder)
        with pytest.raises(OSError, match='404'):
            fetch(replace(file, url=f'{file.url}.old'), folder)
        server.withheld = 5
        with pytest.raises(OSError, match='ended 5 bytes too early'):
            fetch(file, folder)
        server.withheld = 0
        assert _names(folder) == before
        (folder / 'some.pth').write_bytes(b'old')
    assert (folder / 'some.pth').read_bytes() == b'old'


# loading

@pytest.mark.parametrize('wrap', [
    lambda state: state, lambda state: {'params': state},
    lambda state: {f'module.{key}': value for key, value in state.items()},
    lambda state: {'params': {f'module.{key}': value for key, value in state.items()}, 'epoch': 3}],
    ids=['bare', 'params', 'module.', 'params and module.'])
def test_forms_of_files(tmp_path, wrap):
    saved, loaded = nn.Linear(3, 2), nn.Linear(3, 2)
    torch.save(wrap(saved.state_dict()), tmp_path / 'some.pth')
    load_weights(loaded, load_file(tmp_path / 'some.pth'), tmp_path / 'some.pth')
    assert torch.equal(loaded.weight, saved.weight) and torch.equal(loaded.bias, saved.bias)


class _Trap:
    def __reduce__(self):
        return os.mkdir, ('sprung',)


def test_files_that_hold_more_than_tensors_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'some.pth'
    for content in (_Trap(), {'params': nn.Linear(2, 2)}):
        torch.save(content, path)
        with pytest.raises(MetricError, match=f'{path}: cannot be read as plain weights'):
            load_file(path)
    assert not (tmp_path / 'sprung').exists()
    for content in (b'<html>404</html>', b''):
        path.write_bytes(content)
        # PyTorch's own words propose to run what the file holds
        with pytest.raises(MetricError, match=rf'{path}: cannot be read .*\(.+\)\. Give the published file') as caught:
            load_file(path)
        assert 'weights_only' not in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('content, words', [
    ({'weight': torch.zeros(2)}, 'cannot be used as weights of PaQ2PiQ'),
    ({'state_dict': {}, 'epoch': 3}, "expected weights by name, .*; 'state_dict' holds a dict"),
    ([1, 2], 'expected weights by name, got list'),
    (torch.zeros(3), r'expected weights by name, got one tensor .*\(3,\)')])
def test_weights_of_another_network_are_refused(tmp_path, content, words):
    path = tmp_path / 'some.pth'
    torch.save(content, path)
    with pytest.raises(MetricError, match=f'{path}: {words}.*Give the published file') as caught:
        create_metric('paq2piq', weights=path)
    assert len(str(caught.value)) < 1500


def test_random_weights(offline):
    image, state = torch.rand(1, 3, 64, 64), torch.get_rng_state()

    def score(seed):
        with random_weights(seed):
            return create_metric('paq2piq')(image).item()

    assert score(1) == score(1) != score(2)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(KeyError), random_weights(3):
        with random_weights(4):
            assert random_seed() == 4
        assert random_seed() == 3
        raise KeyError
    assert random_seed() is None
    with pytest.raises(MetricError, match='needs its trained weights'):
        create_metric('paq2piq')


# a folder for a machine without network

def test_needed_files_come_once():
    files = needed_files(CATALOGUE)
    assert len(files) == len({file.name for file in files}) > len(needed_files(['clipiqa', 'clipiqa+'])) == 2
    assert not needed_files(['psnr', 'tinyiqa'])


def test_filling_a_folder(server, places, tmp_path):
    folder, lines = tmp_path / 'out', []
    fetched = _served(server, 'fetched.pth', b'fetched', digest=_digest(b'fetched')[:8])
    copied, lost = _served(server, 'copied.pth'), _served(server, 'lost.pth')
    damaged_here = _served(server, 'damaged.pth', b'right', digest=_digest(b'right'))
    (places[2] / 'copied.pth').write_bytes(b'copied')
    (places[2] / 'damaged.pth').write_bytes(b'wrong')
    files = [fetched, lost, copied, damaged_here]
    assert fill_folder(files, folder, lines.append) == ['lost.pth']
    assert lines == ['fetched.pth: fetched', f'lost.pth: FAILED: {lost.url}: HTTP Error 404: Not Found',
                     f'copied.pth: copied from {places[2] / "copied.pth"}', 'damaged.pth: fetched']
    contents = {'copied.pth': b'copied', 'damaged.pth': b'right', 'fetched.pth': b'fetched'}
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != SUMS} == contents
    assert (folder / SUMS).read_text() == ''.join(f'{_digest(data)}  {name}\n' for name, data in contents.items())
    if shutil.which('sha256sum'):
        subprocess.run(['sha256sum', '-c', SUMS], cwd=folder, check=True, capture_output=True)

    server.asked.clear()
    server.contents['lost.pth'] = b'lost no more'
    assert not fill_folder([fetched, lost], folder, lines.append)
    assert server.asked == ['lost.pth'] and lines[4:] == ['fetched.pth: already there', 'lost.pth: fetched']
    assert [line.split()[1] for line in (folder / SUMS).read_text().splitlines()] == [*contents, 'lost.pth']


def test_damaged_files_of_a_folder_are_replaced(server, tmp_path):
    file, lines = _served(server, 'some.pth', b'right'), []
    fill_folder([file], tmp_path, lines.append)
    (tmp_path / 'some.pth').write_bytes(b'wrong')
    server.contents['some.pth'] = b'published anew'
    assert fill_folder([file], tmp_path, lines.append) == ['some.pth']
    assert lines[-1].startswith(f'some.pth: FAILED: {file.url}: its sha256 starts with')
    server.contents['some.pth'] = b'right'
    assert not fill_folder([file], tmp_path, lines.append)
    assert (tmp_path / 'some.pth').read_bytes() == b'right'
    assert check_folder(tmp_path) == (['some.pth'], [])


def test_checking_a_folder(tmp_path):
    lpips = metric_info('lpips').files[0]
    contents = {'right.pth': b'right', 'changed.pth': b'before', 'gone.pth': b'gone', lpips.name: b'wrong'}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / SUMS).write_text(''.join(f'{_digest(data)}  {name}\n' for name, data in contents.items()))
    (tmp_path / 'changed.pth').write_bytes(b'after')
    (tmp_path / 'gone.pth').unlink()
    (tmp_path / MANIQA.name).write_bytes(b'unknown')
    (tmp_path / 'notes.txt').write_text('not one of ours')
    dbcnn = metric_info('dbcnn').files
    right, problems = check_folder(tmp_path, dbcnn)
    assert right == ['right.pth']
    found = dict(problem.removeprefix(f'{tmp_path}/').split(': ', 1) for problem in problems)
    assert found.keys() == {'changed.pth', 'gone.pth', lpips.name, MANIQA.name, dbcnn[0].name}
    assert found['gone.pth'] == 'missing' and found[dbcnn[0].name] == f'missing, get it from {dbcnn[0].url}'
    assert 'nothing to compare with' in found[MANIQA.name]
    assert 'expected df73285e' in found[lpips.name] and _digest(b'before')[:16] in found['changed.pth']
    with pytest.raises(MetricError, match='no SHA256SUMS and no weights here'):
        check_folder(tmp_path / 'nowhere')


# the scripts

@pytest.fixture
def script(monkeypatch, capsys):
    """Run a script within this process; returns its exit status, its output and its errors."""
    def run(name, *arguments):
        monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
        status = 0
        try:
            runpy.run_path(str(ROOT / 'scripts' / name), run_name='__main__')
        except SystemExit as error:
            status = error.code
        return status, *capsys.readouterr()
    return run


def test_list_metrics(places):
    (places[2] / MANIQA.name).write_bytes(b'weights')
    damaged, = metric_info('dbcnn').files
    (places[2] / damaged.name).write_bytes(b'damaged')
    done = run_python(ROOT / 'scripts' / 'list_metrics.py', env={**os.environ, 'HF_HUB_CACHE': constants.HF_HUB_CACHE})
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 120
    rows = {line.split()[0]: line for line in lines[1:lines.index('')]}
    assert rows.keys() == CATALOGUE.keys()
    assert rows['paq2piq'].split()[:6] == ['paq2piq', 'NR', 'higher', '0..100', '32', '-0.00005']
    for name in ('maniqa', 'psnr', 'tinyiqa'):
        assert ' yes ' in rows[name] + ' '
    assert rows['mdtvsfa'].split()[1:3] == ['NR', 'clip']
    number = rows['clipiqa'].split(' no: ')[1].split()[0]
    assert f'{number:>3}  RN50.pt' in lines and f', {number} ' in rows['clipiqa+']
    number = rows['dbcnn'].split(' no: ')[1].split()[0]
    below = ' '.join(line.strip() for line in lines[lines.index(''):])
    assert f'{number}  {places[2] / damaged.name}: its sha256 starts with' in below


def test_list_metrics_in_detail(script, places, monkeypatch):
    monkeypatch.setattr('torch.nn.Module.__init__', lambda *args, **options: pytest.fail('a network is built'))
    status, output, _ = script('list_metrics.py', 'nima', 'mdtvsfa', 'musiq')
    assert status == 0 and output.count('\n\n') == 2
    for text in ('nima: NIMA, Talebi and Milanfar 2018\n', 'loss_weight: -0.005', 'fit, weights, checkpoint',
                 'PolyForm', f'from {metric_info("mdtvsfa").files[0].url}\n', str(places[3] / 'resnet50-0676ba61.pth'),
                 'scores whole clips', 'if pyiqa finds its files'):
        assert text in output
    status, output, _ = script('list_metrics.py', '--all')
    assert status == 0 and max(map(len, output.splitlines())) <= 120 and 'topiq_nr-face,' in output
    status, output, errors = script('list_metrics.py', 'lpisp')
    assert (status, output) == (2, '')
    assert errors.startswith("error: unknown metric 'lpisp': did you mean lpips") and errors.count('\n') == 1


def test_list_metrics_for_programs(script, places):
    (places[2] / MANIQA.name).write_bytes(b'weights')
    _, output, _ = script('list_metrics.py', '--json', '--all')
    metrics = {metric['name']: metric for metric in json.loads(output)}
    assert metrics.keys() > CATALOGUE.keys()
    assert metrics['maniqa']['offline'] is True and metrics['maniqa']['training'] == {'num_crops': 1}
    assert metrics['maniqa']['files'][0]['path'] == str(places[2] / MANIQA.name)
    assert metrics['lpips']['offline'] is False and metrics['musiq']['offline'] is None
    assert metrics['pieapp']['table1_weight'] == 0.00005


def test_download_weights(places, tmp_path):
    (places[2] / MANIQA.name).write_bytes(b'weights')
    done = run_python(ROOT / 'scripts' / 'download_weights.py', 'maniqa', 'psnr', '-o', 'out', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'out' / MANIQA.name).read_bytes() == b'weights'
    assert (tmp_path / 'out' / SUMS).read_text() == f'{_digest(b"weights")}  {MANIQA.name}\n'
    assert 'psnr: needs no files' in done.stdout
    assert done.stdout.endswith(f'  export {FOLDER_VARIABLE}={tmp_path / "out"}\n')


def test_download_weights_in_other_cases(script, offline, tmp_path):
    out = tmp_path / 'out'
    status, output, _ = script('download_weights.py', 'tinyiqa', '-o', out)
    assert (status, output) == (0, 'tinyiqa: needs no files\n') and not out.exists()

    status, output, _ = script('download_weights.py', 'lpips', '-o', out)
    assert status.startswith('error: 2 of 2 files could not be had') and _names(out) == []
    for line, file in zip(output.splitlines(), metric_info('lpips').files, strict=True):
        assert line.startswith(f'{file.name}: FAILED: {file.url}: ') and 'no route to host' in line

    (out / MANIQA.name).write_bytes(b'weights')
    status, output, _ = script('download_weights.py', 'maniqa', '-o', out)
    assert status == 0 and 'already there' in output
    assert script('download_weights.py', '--check', '-o', out)[0] == 0
    status, output, _ = script('download_weights.py', '--check', 'maniqa', 'nima', '-o', out)
    assert status == 1 and 'NIMA_InceptionV2_ava-b0c77c00.pth: missing' in output and '1 files are right' in output
    (out / MANIQA.name).write_bytes(b'changed')
    assert script('download_weights.py', '--check', '-o', out)[0] == 1
    assert script('download_weights.py', '--check', '-o', tmp_path / 'nowhere')[0].startswith('error: ')

    for arguments, reason in ((['lpisp'], "unknown metric 'lpisp' (did you mean 'lpips'?)"),
                              (['musiq'], "'musiq': pyiqa alone knows its files")):
        status, _, errors = script('download_weights.py', *arguments, '-o', out)
        assert status == 2 and errors.startswith(f'error: {reason}') and errors.count('\n') == 1
    assert script('download_weights.py', '-o', out)[0] == 2


def test_the_log_says_which_files_were_used(tmp_path, caplog):
    info = metric_info('paq2piq')
    path = tmp_path / info.files[0].name
    path.write_bytes(b'')
    with caplog.at_level('INFO', 'basicsr'):
        find_weights(info, path)
    assert f'Metric paq2piq: weights from {path}' in caplog.text
