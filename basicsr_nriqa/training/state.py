"""What a training needs to go on, as a file that ``torch.load(weights_only=True)`` reads back."""
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from basicsr.models.base_model import BaseModel
from basicsr.utils import get_root_logger

from basicsr_nriqa.files import written_beside
from basicsr_nriqa.options import OptionsError


class CheckpointError(OptionsError):
    """A checkpoint cannot be used or written; the message names the file and says why.

    It is an error of the options, which ask for this checkpoint or this place, and so reported in one line.
    """


def training_state(model: BaseModel, epoch: int, iteration: int, **extra: Any) -> dict[str, Any]:
    """The state of a training.

    Args:
        model (BaseModel): Any of BasicSR's or ours.
        epoch, iteration (int): Where it is.
        extra: What else this model needs, by name: numbers, text, lists, dicts, tensors.

    Returns:
        dict: ``epoch``, ``iter``, ``optimizers`` and ``schedulers`` as BasicSR has them, ``best_metric_results``,
        ``extra``, and, inside the training loop, its ``samples``, ``manual_seed`` and ``rng``.
    """
    return plain({
        'epoch': epoch, 'iter': iteration, **getattr(model, 'place_in_training', {}),
        'best_metric_results': getattr(model, 'best_metric_results', {}),
        'optimizers': [optimizer.state_dict() for optimizer in model.optimizers],
        'schedulers': [scheduler.state_dict() for scheduler in model.schedulers], **extra})


def save_training_state(model: BaseModel, epoch: int, iteration: int, **extra: Any) -> None:
    """Write the :func:`training_state` to ``training_states/ITERATION.state``; nothing for iteration -1, the latest.

    Only one rank calls it, after all networks of this iteration are written.

    Raises:
        CheckpointError: it cannot be written.
    """
    if iteration != -1:
        save_whole(training_state(model, epoch, iteration, **extra),
                   Path(model.opt['path']['training_states'], f'{iteration}.state'))


def save_whole(value: object, path: str | Path, attempts: int = 3) -> None:
    """torch.save to a file that is whole and on the disk, or not there.

    Args:
        value (object): What to save.
        path (str | Path): Where.
        attempts (int): How often to try; a shared file system may fail for a moment.

    Raises:
        CheckpointError: it cannot be written.
    """
    for remaining in reversed(range(attempts)):
        try:
            with written_beside(path, durable=True) as beside:
                torch.save(value, beside)
            return
        except (OSError, RuntimeError) as error:  # torch's own writer raises RuntimeError
            if not remaining:
                raise CheckpointError(f'{path}: cannot be written ({_first_line(error)}). Earlier checkpoints are '
                                      'whole: make room and go on with --auto_resume.') from error
            get_root_logger().warning(f'{path}: cannot be written ({_first_line(error)}), trying again.')
            time.sleep(1)


def load_whole(path: str | Path) -> Any:
    """What :func:`save_whole` wrote, on the CPU.

    Raises:
        CheckpointError: there is no such file, it is damaged, or it has more in it than plain data and tensors.
    """
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f'{path}: no such file') from None
    except Exception as error:  # damaged data can be any error of pickle, zip or torch
        raise CheckpointError(f'{path}: damaged, or not a file of plain data and tensors '
                              f'({type(error).__name__}: {_first_line(error)})') from None


def plain(value: Any) -> Any:
    """The same nesting with numpy's numbers and arrays as Python's numbers and lists, which torch.load reads back."""
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return (list if isinstance(value, list) else tuple)(plain(item) for item in value)
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value


def _first_line(error: Exception) -> str:
    return str(error).strip().partition('\n')[0]
