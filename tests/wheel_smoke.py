"""What an installed plugin must be able to do where there is no checkout: one script, for any environment.

``python wheel_smoke.py``, copied into an empty folder; `test_packaging.py` does so.
"""
import sys
import tempfile
from importlib import metadata, resources
from pathlib import Path

import basicsr  # first: the start-up file alone makes this import possible

# isort: split
import numpy as np
import torch
from basicsr.losses import build_loss
from basicsr.metrics import calculate_metric
from basicsr.utils import registry
from packaging.requirements import Requirement

import basicsr_nriqa
from basicsr_nriqa.study.relative_gain import gain_table
from basicsr_nriqa.study.report import write_report
from basicsr_nriqa.study.scores import write_scores

REGISTERED = {
    'ARCH': ('BasicVSRPP', 'ISeeBetter', 'VRT', 'SRGANDiscriminator'),
    'DATASET': ('ClipTrainDataset', 'ClipMixtureDataset', 'ClipTestDataset'),
    'LOSS': ('IQALoss', 'IQAPerceptualLoss', 'IQAEnsembleLoss', 'MANIQALoss', 'VGGFeatureLoss', 'TotalVariationLoss'),
    'METRIC': ('calculate_iqa',),
    'MODEL': ('VideoIQAModel', 'GradNormModel', 'ISeeBetterModel')}


def check_installation():
    """It is this environment's own, whole, and what it asks for is there."""
    package = Path(basicsr_nriqa.__file__)
    assert package.is_relative_to(sys.prefix), f'{package} is not of {sys.prefix}'
    installed = metadata.distribution('basicsr-nriqa')
    assert package == Path(installed.locate_file('basicsr_nriqa/__init__.py'))
    assert installed.version == basicsr_nriqa.__version__
    assert not [file for file in installed.files if not file.locate().is_file()]
    assert resources.files('basicsr_nriqa').joinpath('py.typed').is_file()
    for requirement in map(Requirement, installed.requires):
        if requirement.marker is None or requirement.marker.evaluate({'extra': ''}):
            found = metadata.version(requirement.name)
            assert requirement.specifier.contains(found, prereleases=True), f'{requirement}: {found} is installed'


def check_registries():
    for kind, names in REGISTERED.items():
        known = getattr(registry, f'{kind}_REGISTRY')
        assert not [name for name in names if name not in known], f'{kind}: {sorted(known.keys())}'


def check_loss_and_metric():
    """The shipped weights are read: a step along the gradient raises the score, and the metric scores images."""
    torch.manual_seed(0)
    loss = build_loss({'type': 'IQALoss', 'metric': 'tinyiqa', 'loss_weight': -1.0})
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    before = loss(image)
    gradient, = torch.autograd.grad(before, image)
    assert gradient.norm() > 0
    assert loss(image - 0.01 * gradient / gradient.norm()) < before
    smooth = np.tile(np.arange(64, dtype=np.uint8)[:, None, None] * 3, (1, 64, 3))
    noisy = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    scores = [calculate_metric({'img': img}, {'type': 'calculate_iqa', 'metric': 'tinyiqa'}) for img in (smooth, noisy)]
    assert scores[0] > scores[1]


def check_report():
    """The page is made of the files that were installed with the package."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f'{loss}.json') for loss in ('baseline', 'tuned')]
        for path, gain in zip(files, (0, 1)):
            write_scores(path, model='BasicVSRPP', loss=path.stem, dataset='clips', checkpoint=None, versions={},
                         videos={name: {'tinyiqa': score + gain} for name, score in (('a', 1.0), ('b', 3.0))},
                         lower_better={'tinyiqa': False}, optimised=['tinyiqa'] if gain else [])
        page = next(path for path in write_report(gain_table(files), folder) if path.name == 'report.html').read_text()
    for name in ('report.css', 'report.js'):
        text = resources.files('basicsr_nriqa.study').joinpath('page_files', name).read_text()
        assert text in page, name
    assert '+50' in page


if __name__ == '__main__':
    check_installation()
    check_registries()
    check_loss_and_metric()
    check_report()
    versions = {'basicsr_nriqa': basicsr_nriqa.__version__, 'basicsr': basicsr.__version__, 'torch': torch.__version__,
                'Python': sys.version.split()[0]}
    print('ok:', ', '.join(f'{name} {version}' for name, version in versions.items()))
