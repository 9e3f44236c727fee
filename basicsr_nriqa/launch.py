"""What `basicsr/train.py` and `basicsr/test.py` do: BasicSR's own pipelines, with errors a user can act on."""
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from basicsr.utils import get_root_logger

from basicsr.test import test_pipeline
from basicsr.train import train_pipeline
from basicsr_nriqa import compat, distributed, out_of_memory, rank_failure
from basicsr_nriqa.data import DataError
from basicsr_nriqa.iqa import MetricError
from basicsr_nriqa.options import OptionsError

_handed_over: list[Callable[..., None]] = []  # what was begun and is done elsewhere
_USER_ERRORS = (OptionsError, DataError, MetricError, FloatingPointError)
_LESS_MEMORY = ('out of memory. A training needs less with a smaller datasets:train:batch_size_per_gpu, gt_size or '
                'num_frame, with train:accumulate or with train:precision; a test with a smaller num_frame.')


def train(root):
    """Train as the command line says (BasicSR's arguments), with results under ``root``."""
    compat.stop.install()
    _run(train_pipeline, root)


def test(root):
    """Test as the command line says (BasicSR's arguments), with results under ``root``."""
    _run(test_pipeline, root)


def hand_over(root, is_train):
    """Where BasicSR's own train.py or test.py was started as a script, go on in the module of the same code.

    What a script defines are functions of ``__main__``, which no repair reaches: the training loop, what looks for a
    checkpoint to resume. Called by ``parse_options``, with which both begin; does not return then.

    Args:
        root (str | Path): Where results go.
        is_train (bool): Whether options of a training are asked for.
    """
    pipeline = train_pipeline if is_train else test_pipeline
    script = getattr(sys.modules['__main__'], '__file__', None)
    began = getattr(sys.modules['__main__'], pipeline.__name__, pipeline)
    if script is None or began is pipeline or began in _handed_over:
        return
    _handed_over.append(began)
    if not _same(script, pipeline.__code__.co_filename):
        name = pipeline.__name__
        get_root_logger().warning(
            f'{script} is not that of BasicSR 1.4.2, so its {name} is not repaired: no exact resuming, no stop with a '
            f'checkpoint, no val:guard. Start it from a script that has `from {pipeline.__module__} import {name}` '
            '(docs/plugin.md).')
        return
    (train if is_train else test)(root)
    sys.exit(0)


def _same(*paths):
    contents = [Path(path).read_bytes().splitlines() for path in paths if Path(path).is_file()]
    return len(contents) == 2 and contents[0] == contents[1]


def _run(pipeline, root):
    try:
        pipeline(str(root))
        distributed.finish()
    except Exception as error:
        message = str(error)
        if isinstance(error, torch.OutOfMemoryError) or out_of_memory.of_machine(error):
            reason = (message.strip() or type(error).__name__).splitlines()[0]
            rank_failure.announce(error, f'{_LESS_MEMORY} ({reason})')
            rank_failure.leave(1)
        if not isinstance(error, _USER_ERRORS):
            rank_failure.announce(error)
            rank_failure.leave(1)
        if 'DataLoader worker' in message:  # it wraps the error in the worker's whole traceback
            message = message.rpartition(f'{type(error).__name__}: ')[2]
        rank_failure.announce(error, message.strip())
        rank_failure.leave(2)
