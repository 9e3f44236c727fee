"""What reading the first frames and building the network shows of options, without building losses or a model."""
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from basicsr.archs import build_network
from basicsr.data import build_dataset
from basicsr.utils.registry import DATASET_REGISTRY

from basicsr_nriqa.checkpoints import is_url, load_checkpoint_file, load_content, weights_under
from basicsr_nriqa.data import DataError


def trial_problems(opt: dict[str, Any]) -> list[str]:
    """Make the datasets of this plugin and read an item of those for training, make the network and load its weights.

    Args:
        opt (dict[str, Any]): Complete options that have been checked.

    Returns:
        list[str]: What is wrong, each with the option that it is about.
    """
    return [*_of_datasets(opt['datasets']), *_of_network(opt)]


def _of_datasets(sets: dict[str, Any]) -> Iterator[str]:
    for phase, options in sets.items():
        if hasattr(DATASET_REGISTRY.get(options['type']), 'OPTIONS'):
            try:
                dataset = build_dataset(deepcopy(options))
                if options['phase'] == 'train' and len(dataset):
                    dataset[0]
            except DataError as error:
                yield f'datasets:{phase}: {error}'


def _of_network(opt: dict[str, Any]) -> Iterator[str]:
    try:
        network = build_network(deepcopy(opt['network_g']))
    except (AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        yield f'network_g: {error}'
        return
    path = opt['path'].get('pretrain_network_g')
    if not path or is_url(path) or not Path(path).is_file():
        return
    try:
        wanted, _ = weights_under(load_checkpoint_file(path), opt['path'].get('param_key_g', 'params'))
        load_content(network, wanted, opt['path'].get('strict_load_g', True))
    except (OSError, ValueError) as error:
        yield f'path:pretrain_network_g: {error}'
