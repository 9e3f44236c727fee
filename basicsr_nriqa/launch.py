"""What `basicsr/train.py` and `basicsr/test.py` do: BasicSR's own pipelines, with errors a user can act on."""
import sys

from basicsr.test import test_pipeline
from basicsr.train import train_pipeline
from basicsr_nriqa import compat
from basicsr_nriqa.data import DataError
from basicsr_nriqa.iqa import MetricError
from basicsr_nriqa.options import OptionsError

_USER_ERRORS = (OptionsError, DataError, MetricError, FloatingPointError)


def train(root):
    """Train as the command line says (BasicSR's arguments), with results under ``root``."""
    compat.stop.install()
    _run(train_pipeline, root)


def test(root):
    """Test as the command line says (BasicSR's arguments), with results under ``root``."""
    _run(test_pipeline, root)


def _run(pipeline, root):
    try:
        pipeline(str(root))
    except _USER_ERRORS as error:
        message = str(error)
        if 'DataLoader worker' in message:  # it wraps the error in the worker's whole traceback
            message = message.rpartition(f'{type(error).__name__}: ')[2]
        print(f'error: {message.strip()}', file=sys.stderr, flush=True)
        sys.exit(2)
