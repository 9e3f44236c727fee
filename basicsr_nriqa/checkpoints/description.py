"""What a checkpoint file is, for people and programs."""
from pathlib import Path
from typing import Any

from basicsr_nriqa.checkpoints.hyper_parameters import options_of
from basicsr_nriqa.checkpoints.layouts import CONSTANTS, WRAPPERS, identify, is_training_state
from basicsr_nriqa.checkpoints.reading import load_checkpoint_file, local_file
from basicsr_nriqa.files import sha256

_NOT_LEARNED = CONSTANTS | {'running_mean', 'running_var', 'num_batches_tracked'}


def describe(path: str | Path) -> dict[str, Any]:
    """Say what a checkpoint file is.

    Args:
        path (str | Path): file or URL, as for :func:`~basicsr_nriqa.checkpoints.load_checkpoint_file`.

    Returns:
        dict[str, Any]: ``path``, ``sha256``, ``kind``. For a ``'network'`` also ``network`` (as
        :func:`~basicsr_nriqa.checkpoints.recognise`), ``layout``, ``wrapper`` (None where there is none),
        ``other_wrappers`` (weights in the file that are not used), ``parameters`` (how many numbers were learned),
        ``options`` (as :func:`~basicsr_nriqa.checkpoints.network_options`), ``trained_with`` (our note, or None) and
        ``keys`` (own name: shape). For a ``'training state'`` of BasicSR ``iter`` and ``epoch``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or belongs to no network known here; the error names it.
    """
    content = load_checkpoint_file(path)
    found = {'path': str(path), 'sha256': sha256(local_file(path))}
    if is_training_state(content):
        return {**found, 'kind': 'training state', 'iter': content['iter'], 'epoch': content.get('epoch')}
    try:
        arch, layout, wrapper, state_dict = identify(content)
        options = options_of(arch, state_dict)
    except ValueError as error:
        raise ValueError(f'Checkpoint {path}: {error}') from None
    learned = [tensor.numel() for name, tensor in state_dict.items() if name.rpartition('.')[2] not in _NOT_LEARNED]
    return {**found, 'kind': 'network', 'network': arch, 'layout': layout, 'wrapper': wrapper,
            'other_wrappers': [key for key in WRAPPERS if isinstance(content.get(key), dict) and key != wrapper],
            'parameters': sum(learned), 'options': options, 'trained_with': content.get('trained_with'),
            'keys': {name: list(tensor.shape) for name, tensor in state_dict.items()}}
