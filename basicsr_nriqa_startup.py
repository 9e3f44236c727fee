"""Supplies the modules that BasicSR 1.4.2 imports and that newer libraries no longer have.

`basicsr_nriqa.pth` imports this file whenever Python starts in an environment that has the plugin, so that
``import basicsr`` works in any order and in any project, also where the plugin comes in through one file dropped into
a BasicSR checkout. Therefore it is tiny, uses the standard library only and imports nothing until BasicSR asks.

=====================================  ==========================================================================
module                                 who needs it, since when it is gone
=====================================  ==========================================================================
torchvision.transforms.functional_tensor   basicsr/data/degradations.py:8, torchvision 0.17
scipy.ndimage.filters                  basicsr/metrics/niqe.py:5 and data/data_util.py:273, SciPy 2
distutils, distutils.version           basicsr/archs/arch_util.py:6, Python 3.12 without setuptools
=====================================  ==========================================================================
"""
import importlib
import sys
from importlib.machinery import ModuleSpec

_STAND_INS = {
    'torchvision.transforms.functional_tensor': 'torchvision.transforms.functional',
    'scipy.ndimage.filters': 'scipy.ndimage',
    'distutils': None,
    'distutils.version': 'packaging.version',
}


class _RemovedModules:
    """A finder of last resort: it is asked only after every real module was looked for."""

    def find_spec(self, name, path=None, target=None):
        if name in _STAND_INS:
            return ModuleSpec(name, self, is_package=name == 'distutils')
        return None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        stand_in = _STAND_INS[module.__name__]
        if stand_in is None:
            return
        successor = importlib.import_module(stand_in)
        module.__getattr__ = lambda name: getattr(successor, 'Version' if name == 'LooseVersion' else name)


def install():
    """Add the finder to ``sys.meta_path`` once."""
    if not any(isinstance(finder, _RemovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_RemovedModules())


install()
