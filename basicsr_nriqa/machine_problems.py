"""What complete options need of this machine, and what BasicSR or PyTorch would stop at later, in their own words."""
from importlib.util import find_spec
from pathlib import Path

import torch

from basicsr_nriqa.checkpoints import is_url
from basicsr_nriqa.suggestion import how_to_train


def machine_problems(opt):
    """GPUs, packages and files to start from that are not here.

    Args:
        opt (dict): The options.

    Yields:
        tuple[str, str]: (where, problem) of each.
    """
    gpus = opt['num_gpu']
    if isinstance(gpus, int) and gpus and not torch.cuda.is_available():
        yield 'num_gpu', (f'{gpus} asked for, but this machine has no usable CUDA device; set it to 0 to use the CPU '
                          '(or to auto).')
    for key, value in opt['path'].items():
        starts = key.startswith('pretrain_network')
        if (starts or key == 'resume_state') and value and not (starts and is_url(value)) \
                and not Path(str(value)).is_file():
            yield f'path:{key}', f"{value}: no such file.{how_to_train(value) if starts else ''}"
    wandb = opt['logger'].get('wandb') if isinstance(opt.get('logger'), dict) else None
    if isinstance(wandb, dict) and wandb.get('project') and not find_spec('wandb'):
        yield 'logger:wandb', 'the package wandb is not installed: pip install wandb, or leave it out.'


def pitfalls(opt):
    """Names and data loaders that cannot be made.

    Args:
        opt (dict): The options.

    Yields:
        tuple[str, str]: (where, problem) of each.
    """
    if isinstance(opt.get('name'), str) and Path(opt['name']).name != opt['name']:
        yield 'name', f"'{opt['name']}' cannot be the name of a folder; leave out `/`."
    for phase, dataset in opt['datasets'].items():
        where = f'datasets:{phase}:persistent_workers'
        if dataset.get('persistent_workers') and dataset.get('phase') != 'train':
            yield where, 'is for training; other sets have no workers.'
        elif dataset.get('persistent_workers') and not dataset.get('num_worker_per_gpu'):
            yield where, 'needs workers: set num_worker_per_gpu above 0.'
