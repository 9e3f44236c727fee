"""What `basicsr/train.py` and `basicsr/test.py` do: BasicSR's own pipelines, with errors a user can act on."""
from basicsr.test import test_pipeline
from basicsr.train import train_pipeline
from basicsr_nriqa import compat, distributed, rank_failure
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
        distributed.finish()
    except Exception as error:
        if not isinstance(error, _USER_ERRORS):
            rank_failure.announce(error)
            rank_failure.leave(1)
        message = str(error)
        if 'DataLoader worker' in message:  # it wraps the error in the worker's whole traceback
            message = message.rpartition(f'{type(error).__name__}: ')[2]
        rank_failure.announce(error, message.strip())
        rank_failure.leave(2)
