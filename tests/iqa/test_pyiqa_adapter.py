"""Metrics that are built by pyiqa: where their files come from, and that nothing is run that they bring."""
import importlib
from urllib.error import URLError

import pytest
import torch
from pyiqa.utils import download_util

from basicsr_nriqa import files
from basicsr_nriqa.iqa import MetricError, create_metric, metric_info
from basicsr_nriqa.iqa.pyiqa_adapter import _safe_loading, pyiqa_names


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty folder for downloads, and no network."""
    def fail(*_, **__):
        raise URLError('no route to host')

    monkeypatch.setattr(files, 'urlopen', fail)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    return tmp_path / 'hub'


def test_missing_files_are_named_with_source_and_place(hub):
    with pytest.raises(MetricError) as caught:
        create_metric('brisque')
    for words in ("metric 'brisque'", 'brisque_svm_weights.pth', 'https://', str(hub / 'pyiqa'), 'no route to host'):
        assert words in str(caught.value)


def test_pyiqas_own_loader_is_back_afterwards(hub):
    with pytest.raises(MetricError):
        create_metric('brisque')
    loader = download_util.load_file_from_url
    assert loader.__module__ == 'pyiqa.utils.download_util'
    assert importlib.import_module('pyiqa.archs.brisque_arch').load_file_from_url is loader
    assert torch.load.__module__ == 'torch.serialization'


def test_files_that_hold_objects_are_refused(hub):
    (hub / 'pyiqa').mkdir(parents=True)
    torch.save(pytest.raises, hub / 'pyiqa/brisque_svm_weights.pth')
    with pytest.raises(MetricError, match="'brisque': pyiqa could not build it"):
        create_metric('brisque')


def test_code_is_refused(hub, tmp_path):
    path = tmp_path / 'scripted.pt'
    torch.jit.script(torch.nn.ReLU()).save(str(path))
    with _safe_loading(), pytest.raises(MetricError, match='holds code of unknown origin'):
        torch.jit.load(str(path))
    assert torch.jit.load(str(path)) is not None
    for name in ('qalign', 'compare2score'):
        with pytest.raises(MetricError, match=f"'{name}' is not supported: pyiqa would run code"):
            create_metric(name)


def test_metrics_of_collections_are_no_metrics_of_images():
    assert 'musiq' in pyiqa_names() and not {'fid', 'inception_score'} & set(pyiqa_names())
    with pytest.raises(MetricError, match="unknown metric 'fid'"):
        metric_info('fid')


def test_too_small_images_are_said():
    with pytest.raises(MetricError, match='piqe: pyiqa cannot score images of 7x6 px'):
        create_metric('piqe')(torch.rand(1, 3, 6, 7))
