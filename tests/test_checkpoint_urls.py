import hashlib
import io
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from basicsr.models import build_model
from basicsr.utils.options import parse_options
from test_checkpoints import LAYOUTS, RunsCode

from basicsr_nriqa.archs.basicvsrpp_arch import BasicVSRPP
from basicsr_nriqa.archs.spynet_arch import SpyNet
from basicsr_nriqa.checkpoints import is_url, load_checkpoint_file
from basicsr_nriqa.options import OptionsError


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A web server on this machine: set ``contents[path]``, and read in ``asked`` what was asked for."""
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.asked.append(self.path)
            if self.path not in server.contents:
                return self.send_error(404)
            self.send_response(200)
            self.send_header('Content-Length', str(len(server.contents[self.path]) + server.withheld))
            self.end_headers()
            return self.wfile.write(server.contents[self.path])

        def log_message(self, *args):
            pass

    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setattr(torch.hub, '_hub_dir', None)
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.contents, server.asked, server.withheld = {}, [], 0
    server.url = f'http://127.0.0.1:{server.server_port}'
    server.cache = tmp_path / 'torch' / 'hub' / 'checkpoints'
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


CHECKPOINT = saved({'params': {'weight': torch.arange(3.)}})
DIGITS = hashlib.sha256(CHECKPOINT).hexdigest()[:8]


def cached(server):
    return sorted(path.name for path in server.cache.iterdir() if path.suffix != '.lock')


def test_what_a_url_is(tmp_path):
    assert is_url('https://a/b.pth') and is_url('http://a/b.pth')
    assert not is_url(tmp_path) and not is_url('b.pth') and not is_url(None)


@pytest.mark.parametrize('name', ['net.pth', f'net_2021-{DIGITS}.pth', 'net%20a.pth?download=1'])
def test_a_url_is_fetched_once(server, name):
    server.contents[f'/a/{name}'] = CHECKPOINT
    for _ in range(2):
        content = load_checkpoint_file(f'{server.url}/a/{name}')
        assert torch.equal(content['params']['weight'], torch.arange(3.))
        server.contents.clear()  # what is not asked for need not be there
    assert server.asked == [f'/a/{name}']
    assert cached(server) == [name.replace('%20', ' ').partition('?')[0]]


def test_networks_take_a_url(server):
    weights = {name: torch.rand_like(tensor) for name, tensor in SpyNet().state_dict().items()}
    server.contents['/spynet.pth'] = saved({'params': weights})
    loaded = SpyNet(f'{server.url}/spynet.pth').state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize('path, words', [
    ('/gone.pth', r'gone\.pth: cannot be fetched: .*404.*put the file at .*gone\.pth'),
    ('/cut.pth', r'cut\.pth: cannot be fetched: the connection ended 5 bytes too early'),
    ('/net-01234567.pth', rf'net-01234567\.pth: its sha256 begins with {DIGITS}, but its name says 01234567.*not kept'),
    ('/page.pth', r'page\.pth: cannot be read\. It is damaged'),
    ('/code.pth', r'code\.pth: refused, since loading \S+\.mkdir could run code'),
    ('/', r'names no file'),
    ('/a/%2e%2e', r'names no file'),
])
def test_a_failed_download_is_named_and_leaves_nothing(server, tmp_path, path, words):
    server.contents.update({'/net-01234567.pth': CHECKPOINT, '/cut.pth': CHECKPOINT, '/page.pth': b'<html></html>',
                            '/code.pth': saved({'params': RunsCode(tmp_path / 'made')})})
    server.withheld = 5 if path == '/cut.pth' else 0
    with pytest.raises((FileNotFoundError, ValueError), match=words):
        load_checkpoint_file(server.url + path)
    assert not (tmp_path / 'made').exists()
    assert not server.cache.exists() or cached(server) == []


def test_no_server_at_all(server):
    with pytest.raises(FileNotFoundError, match=r'cannot be fetched: \[Errno \d+\] Connection refused\. Where'):
        load_checkpoint_file('http://127.0.0.1:9/net.pth')


def test_no_place_to_keep_it(server, tmp_path):
    server.cache.parent.mkdir(parents=True, exist_ok=True)
    server.cache.write_text('')
    with pytest.raises(FileNotFoundError, match=r'there is no place to keep it: .*File exists.*TORCH_HOME'):
        load_checkpoint_file(f'{server.url}/net.pth')


def test_a_damaged_copy_is_named(server):
    name = f'net-{DIGITS}.pth'
    server.contents[f'/{name}'] = CHECKPOINT
    load_checkpoint_file(f'{server.url}/{name}')
    (server.cache / name).write_bytes(CHECKPOINT[:-1])
    with pytest.raises(ValueError, match=rf'its copy {server.cache / name}: its sha256 begins with .*Remove the copy'):
        load_checkpoint_file(f'{server.url}/{name}')


@pytest.fixture
def train_from(train_options, write_options, monkeypatch, tmp_path):
    """A model whose training starts from a checkpoint."""
    def build(checkpoint, **path_options):
        train_options['path'].update(pretrain_network_g=checkpoint, **path_options)
        monkeypatch.setattr(sys, 'argv', ['train.py', '-opt', str(write_options(train_options))])
        return build_model(parse_options(str(tmp_path))[0])
    return build


@pytest.mark.parametrize('layout', ['params', 'openmmlab'])
def test_training_starts_from_a_url_of_any_layout(server, train_from, layout):
    weights = BasicVSRPP(mid_channels=8, num_blocks=1).state_dict()
    server.contents['/net.pth'] = saved({**LAYOUTS[layout](weights), 'trained_with': {'loss': 'pieapp'}})
    model = train_from(f'{server.url}/net.pth')
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.net_g.state_dict().items())


def test_training_from_a_url_that_fails_or_does_not_fit(server, train_from):
    with pytest.raises(OptionsError, match=r'path:pretrain_network_g: Checkpoint http://.*/gone\.pth: cannot be f'):
        train_from(f'{server.url}/gone.pth')
    server.contents['/net.pth'] = saved({'params': BasicVSRPP(mid_channels=16, num_blocks=1).state_dict()})
    with pytest.raises(OptionsError, match=r'net\.pth: does not fit this .* set mid_channels: 16 in its options'):
        train_from(f'{server.url}/net.pth')
    assert train_from(f'{server.url}/net.pth', strict_load_g=False).net_g.spynet
