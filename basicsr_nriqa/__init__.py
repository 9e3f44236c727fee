"""No-reference image-quality metrics as perceptual losses for video super-resolution, a BasicSR plugin.

Importing the package repairs BasicSR (`compat`) and fills its registries; importing it twice, before or after BasicSR,
is fine. From a file that BasicSR itself imports (one dropped into ``basicsr/losses/``, say) the losses and metrics are
there at once, the rest as soon as BasicSR is complete.
"""
import importlib
import sys

import basicsr_nriqa_startup  # noqa: F401  BasicSR cannot be imported without it on today's torchvision
from basicsr_nriqa.version import __version__

__all__ = ['__version__']


def _fill(*packages):
    for package in packages:
        importlib.import_module(f'basicsr_nriqa.{package}')


def _complete():
    from basicsr_nriqa import compat
    compat.apply()
    _fill('archs', 'data', 'losses', 'metrics', 'models')


class _WhenComplete:
    """Waits for ``basicsr.version``, the last thing that ``basicsr/__init__.py`` imports."""

    def find_spec(self, name, path=None, target=None):
        if name == 'basicsr.version':
            sys.meta_path.remove(self)
            _complete()


def _basicsr_is_importing():
    module = sys.modules.get('basicsr')
    return module is not None and getattr(module.__spec__, '_initializing', False)


if _basicsr_is_importing():
    sys.meta_path.insert(0, _WhenComplete())
    _fill('losses', 'metrics')
else:
    import basicsr  # noqa: F401
    _complete()
