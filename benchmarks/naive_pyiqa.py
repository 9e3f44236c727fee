"""pyiqa's metrics as a user would naively take them as losses, and ours with the same random weights: no download."""
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from unittest.mock import patch

import torch

from basicsr_nriqa.iqa import create_metric, metric_info, weights
from basicsr_nriqa.iqa.clipiqa import CLIP_ARGUMENTS
from basicsr_nriqa.iqa.network_tools import no_downloads


def naive_metric(name, device='cpu', seed=0):
    """``pyiqa.create_metric(name, as_loss=True)`` with random weights.

    Args:
        name (str): One of pyiqa's eight metrics of Table I, or a variant of one.
        device (str): Where it computes.
        seed (int): Of the weights.

    Returns:
        nn.Module: pyiqa's own loss.
    """
    import pyiqa
    from pyiqa.archs import (
        clip_model,
        clipiqa_arch,
        dbcnn_arch,
        hypernet_arch,
        lpips_arch,
        maniqa_arch,
        nima_arch,
        paq2piq_arch,
        pieapp_arch,
    )
    from torchvision import models

    clip = None

    def load_clip(kind, *_):
        nonlocal clip
        clip = clip_model.CLIP(*CLIP_ARGUMENTS[kind]).eval()
        return clip

    with ExitStack() as stack, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stack.enter_context(no_downloads())
        for module in (dbcnn_arch, hypernet_arch, lpips_arch, maniqa_arch, nima_arch, paq2piq_arch, pieapp_arch,
                       clipiqa_arch):
            stack.enter_context(patch.object(module, 'load_pretrained_network', lambda *_, **__: None))
        for backbone in ('alexnet', 'vgg16', 'resnet18'):
            build = getattr(models, backbone)
            stack.enter_context(patch.object(models, backbone, lambda *_, build=build, **__: build(weights=None)))
        stack.enter_context(patch.object(clipiqa_arch, 'load', load_clip))
        if name == 'clipiqa+':
            stack.enter_context(patch.object(clipiqa_arch, 'load_file_from_url', lambda *_: None))
            stack.enter_context(patch.object(torch, 'load', lambda *_, **__: 0.02 * torch.randn(2, 16, 512)))
        metric = pyiqa.create_metric(name, as_loss=True, device=device, **_parameters(name))
        if name.startswith('lpips'):
            for head in metric.net.lins:
                head.model[1].weight.data.abs_()  # as trained ones are
        if clip is not None:
            clip.logit_scale.data.fill_(4.6052)
    return metric


def _parameters(name):
    """NIQE's pristine model from BasicSR in the format that pyiqa reads, for NIQE; else nothing."""
    if name != 'niqe':
        return {}
    import basicsr.metrics
    import numpy as np
    from scipy.io import savemat
    with np.load(Path(basicsr.metrics.__file__).with_name('niqe_pris_params.npz')) as model:
        content = {'mu_prisparam': model['mu_pris_param'], 'cov_prisparam': model['cov_pris_param']}
    path = Path(mkdtemp(), 'niqe.mat')
    savemat(path, content)
    return {'pretrained_model_path': str(path)}


def published_states(metric, name):
    """The weights of a naive metric under the keys of the published files, in the order of ``MetricInfo.files``."""
    network = metric.net
    state = {key: value.clone() for key, value in network.state_dict().items()}
    if name.startswith('lpips'):
        layers = [layer for index in range(5) for layer in getattr(network.net, f'slice{index + 1}')]
        return [{key: value for key, value in state.items() if key.startswith('lin') and not key.startswith('lins')},
                {f'features.{key}': value for key, value in torch.nn.Sequential(*layers).state_dict().items()}]
    if name.startswith('clipiqa'):
        prompts = {'clipiqa': [], 'clipiqa+': [state.get('prompt_learner.ctx')]}.get(name, [{'params': state}])
        return [*prompts, network.clip_model[0].state_dict()]
    bare = name in ('pieapp', 'paq2piq') or (name.startswith('maniqa'))
    return [state if bare else {'params': state}]


@contextmanager
def unverified():
    """Random weights cannot have the published digests."""
    with patch.object(weights, 'verified', lambda path, digits: path):
        yield


def same_weights(name, metric, **options):
    """Our metric with the weights of a naive one, which go through files as published ones do."""
    with TemporaryDirectory() as folder, unverified():
        for file, state in zip(metric_info(name).files, published_states(metric, name), strict=True):
            torch.save(state, Path(folder, file.name))
        return create_metric(name, weights=folder, **options)
