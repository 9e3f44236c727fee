"""Two no-reference metrics with real networks, for benchmarks/artifacts.py; they are not shipped.

Pooled features of a published network and a linear head, which is fitted here on graded synthetic distortions of
scikit-image's photographs, as deep metrics are on the opinions of people. ``squeezenet`` has ImageNet's SqueezeNet 1.0
(Iandola et al. 2016), ``scnn`` the branch of DBCNN that tells synthetic distortions apart (Zhang et al. 2018).
"""
import numpy as np
import torch
from torch import nn
from torchvision.models import squeezenet1_0

from basicsr_nriqa.data.photographs import TRAIN_PHOTOGRAPHS, load_photograph
from basicsr_nriqa.iqa import MetricInfo, QualityMetric, register_metric
from basicsr_nriqa.iqa.dbcnn import scnn_features
from basicsr_nriqa.iqa.distortions import DISTORTIONS
from basicsr_nriqa.iqa.tinyiqa_training import random_reference, to_tensor

_STRENGTHS = (0, 0.15, 0.35, 0.6, 1)
_RIDGE = 1.0  # of the standardised features' energy: less fits the eight photographs rather than the distortions
_BGR_MEANS = (104, 117, 123)


class FeatureHead(nn.Module):
    """Means and deviations of the features of several layers, standardised, then a linear head.

    Args:
        layers (nn.Sequential): Fed with images (n,3,h,w), RGB in [0,1].
        taken (Sequence[int]): Indices of the layers whose output is pooled.
    """

    def __init__(self, layers, taken):
        super().__init__()
        self.layers, self.taken = layers[:max(taken) + 1], frozenset(taken)
        self.register_buffer('mean', torch.zeros(1))
        self.register_buffer('std', torch.ones(1))
        self.register_buffer('head', torch.zeros(1))
        self.register_buffer('offset', torch.zeros(()))

    def statistics(self, images):
        """(n,3,h,w) -> (n, statistics)."""
        found = []
        for index, layer in enumerate(self.layers):
            images = layer(images)
            if index in self.taken:
                found += [images.mean((2, 3)), (images.var((2, 3)) + 1e-6).sqrt()]
        return torch.log(torch.cat(found, 1).abs() + 1e-2)

    def forward(self, images):
        """(n,3,h,w) -> (n,), about 1 for pristine images and 0 for severe distortions."""
        return (self.statistics(images) - self.mean) / self.std @ self.head + self.offset

    @torch.no_grad()
    def fit(self, references, seed):
        """Fit the head by ridge regression of 1 - strength.

        Args:
            references (int): Crops of photographs; each is distorted in all ways and strengths.
            seed (int): Draws crops and distortions.
        """
        rng = np.random.default_rng(seed)
        photographs = [load_photograph(name) for name in TRAIN_PHOTOGRAPHS]
        found, strengths = [], []
        for _ in range(references):
            reference = random_reference(photographs, rng)
            images = [distort(reference, strength, rng) for distort in DISTORTIONS.values() for strength in _STRENGTHS]
            found.append(self.statistics(to_tensor(images)))
            strengths += len(DISTORTIONS) * _STRENGTHS
        found, target = torch.cat(found).double(), 1 - torch.tensor(strengths, dtype=torch.float64)
        self.mean, self.std = found.mean(0).float(), (found.std(0) + 1e-3).float()
        x = (found - self.mean) / self.std
        gramian = x.T @ x / len(x) + _RIDGE * torch.eye(x.shape[1], dtype=torch.float64)
        self.head = torch.linalg.solve(gramian, x.T @ (target - target.mean()) / len(x)).float()
        self.offset = target.mean().float()


class _ToCaffe(nn.Module):
    def forward(self, images):
        return 255 * images.flip(1) - images.new_tensor(_BGR_MEANS).view(3, 1, 1)


def _squeezenet(path):
    network = squeezenet1_0(weights=None)
    network.load_state_dict(torch.load(path, map_location='cpu', weights_only=True))
    # not in place: a layer's output is pooled, too
    layers = [nn.ReLU() if isinstance(layer, nn.ReLU) else layer for layer in network.features]
    return FeatureHead(nn.Sequential(_ToCaffe(), *layers), (2, 4, 5, 7, 8, 11))


class _Normalise(nn.Module):
    def forward(self, images):
        means, stds = (images.new_tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406),
                                                                              (0.229, 0.224, 0.225)))
        return (images - means) / stds


def _scnn(path):
    weights = torch.load(path, map_location='cpu', weights_only=True)
    layers = scnn_features()
    layers.load_state_dict({key.removeprefix('module.features.'): value for key, value in weights.items()
                            if key.startswith('module.features.')})
    return FeatureHead(nn.Sequential(_Normalise(), *(nn.ReLU() if isinstance(layer, nn.ReLU) else layer
                                                     for layer in layers)), (6, 12, 21, 27))


_NETWORKS = {'squeezenet': (_squeezenet, 'squeezenet1_0/squeezenet1_0_caffe_deepcompression.pth',
                            'SqueezeNet 1.0, Iandola et al. 2016, ImageNet', 'BSD-2-Clause'),
             'scnn': (_scnn, 'DBCNN/pretrained_scnn/scnn.pkl', 'S-CNN of DBCNN, Zhang et al. 2018', 'MIT')}


def register_deep_metrics(folder, cache, references=40):
    """Make ``squeezenet`` and ``scnn`` known to the plugin where their networks are at hand.

    Args:
        folder (Path): Holds the published networks.
        cache (Path): Where fitted heads are kept.
        references (int): See :meth:`FeatureHead.fit`.

    Returns:
        list[str]: The names that are there.
    """
    names = []
    for name, (build, file, source, licence) in _NETWORKS.items():
        if not (folder / file).is_file():
            continue
        network = build(folder / file).eval()
        kept = cache / f'{name}_{references}.pth'
        if not kept.is_file():
            network.fit(references, seed=0)
            kept.parent.mkdir(parents=True, exist_ok=True)
            torch.save({key: getattr(network, key) for key in ('mean', 'std', 'head', 'offset')}, kept)
        for key, value in torch.load(kept, weights_only=True).items():
            setattr(network, key, value)
        info = MetricInfo(name, False, False, (0, 1), 64, f'{source}, and a head for benchmarks',
                          'synthetic distortions of eight photographs', licence)
        register_metric(info, _metric_class(network))
        names.append(name)
    return names


def _metric_class(network):
    class DeepMetric(QualityMetric):
        def __init__(self, info):
            super().__init__(info, network)
    return DeepMetric
