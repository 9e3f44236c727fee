"""Training in several processes: how they find each other and their devices, started by torchrun or by Slurm."""
import os
import random
import shutil
import subprocess
from datetime import timedelta

import torch
from basicsr.utils import get_root_logger, set_random_seed
from basicsr.utils.dist_util import get_dist_info
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from basicsr_nriqa import loader_workers, rank_failure
from basicsr_nriqa.option_definitions import option_problems
from basicsr_nriqa.option_definitions.known import DIST_PARAMS
from basicsr_nriqa.options import OptionsError

_DEFAULT_TIMEOUT = 1800  # seconds; torch's 600 for NCCL are too few where one rank validates a clip more than others
_LARGEST_SEED = 4_000_000_000  # numpy takes 32 bits, and each rank adds its number
_TORCHRUN = 'torchrun --nproc_per_node N basicsr/train.py -opt OPTIONS --launcher pytorch'
_TORCHRUN_VARIABLES = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')


def init(launcher, opt, source):
    """Join the other processes of the training, if there are others; in the place of BasicSR's ``init_dist``.

    Sets ``dist``, ``rank``, ``world_size`` and, the same on all ranks, ``manual_seed`` in ``opt`` (and, if it is drawn,
    ``seed_was_drawn``), this process's GPU,
    the way in which workers of data loaders start, and the seeds of all random numbers.

    Options under ``dist_params``, all of them optional:

    - ``backend`` (str): nccl or gloo; default: nccl where ``num_gpu`` is not 0 and there is CUDA, else gloo.
    - ``port`` (int): Where rank 0 listens, under Slurm; default: MASTER_PORT, else one made of the job's number. Under
      torchrun it must be the one that torchrun was given, which is what counts.
    - ``timeout`` (float): Seconds after which a rank that waits for another one gives up. Default: 1800.

    Args:
        launcher (str): ``none``, ``pytorch`` (torchrun) or ``slurm``, as ``--launcher`` says.
        opt (dict): The options.
        source (str): The file they came from, for messages.

    Raises:
        OptionsError: ``dist_params`` or ``manual_seed`` are not usable, the launcher did not start this process, or
            this machine has fewer GPUs than processes.
    """
    opt['dist'] = launcher != 'none'
    if opt['dist']:
        found = problems(opt.get('dist_params'))
        if found:
            raise OptionsError('\n- '.join([f'{source}:', *(f'{where}: {problem}' for where, problem in found)]))
        _join(launcher, opt.get('dist_params') or {}, opt['num_gpu'] != 0 and torch.cuda.is_available(),
              any(dataset.get('num_worker_per_gpu') for dataset in opt['datasets'].values()))
    else:
        _check_not_by_torchrun()
        print('Disable distributed.', flush=True)
    opt['rank'], opt['world_size'] = get_dist_info()
    if opt.get('manual_seed') is None:
        opt['manual_seed'], opt['seed_was_drawn'] = _from_rank_0(random.randint(1, 10000)), True
    if type(opt['manual_seed']) is not int or not 0 <= opt['manual_seed'] <= _LARGEST_SEED:
        raise OptionsError(f"{source}: manual_seed: expected a whole number from 0 to {_LARGEST_SEED}, got "
                           f"{opt['manual_seed']!r}.")
    set_random_seed(opt['manual_seed'] + opt['rank'])


def problems(params):
    """What is wrong with ``dist_params``: a list of (where, problem)."""
    if not isinstance(params or {}, dict):
        return [('dist_params', f'expected options (name: value), got {params!r}.')]
    return [(f'dist_params:{name}', problem) for name, problem in option_problems(params or {}, DIST_PARAMS)]


def _join(launcher, params, on_gpu, with_workers):
    backend = params.get('backend') or ('nccl' if on_gpu else 'gloo')
    if backend == 'nccl' and not (on_gpu and distributed.is_nccl_available()):
        raise OptionsError('dist_params:backend: nccl needs num_gpu other than 0 and a usable CUDA device; '
                           'use gloo for CPUs.')
    if launcher == 'pytorch':
        _check_torchrun(params)
    else:
        _read_slurm(params)
    device = _own_gpu(launcher) if on_gpu else None
    loader_workers.use_server(with_workers)
    timeout = timedelta(seconds=params.get('timeout') or _DEFAULT_TIMEOUT)
    try:
        # without device_id, NCCL guesses the device in a barrier
        distributed.init_process_group(backend, timeout=timeout, device_id=device if backend == 'nccl' else None)
    except distributed.DistError as error:
        reason = str(error).strip().partition('\n')[0]
        raise OptionsError(f"the processes did not find each other at {os.environ['MASTER_ADDR']}:"
                           f"{os.environ['MASTER_PORT']} ({reason}). Check that rank 0 runs there, and that all "
                           'machines can reach this port.') from None
    rank_failure.watch()


def _check_torchrun(params):
    missing = [name for name in _TORCHRUN_VARIABLES if name not in os.environ]
    if missing:
        raise OptionsError(f"--launcher pytorch: {', '.join(missing)} not set, so torchrun did not start this process. "
                           f'Start it by\n  {_TORCHRUN}\nor, for one process, leave --launcher out.')
    if params.get('port') and os.environ['MASTER_PORT'] != str(params['port']):
        raise OptionsError(f"dist_params:port: {params['port']}, but torchrun chose {os.environ['MASTER_PORT']}; give "
                           f"it --master_port {params['port']}, or leave the option out.")


def _check_not_by_torchrun():
    if 'TORCHELASTIC_RUN_ID' in os.environ and int(os.environ.get('WORLD_SIZE', 1)) > 1:
        raise OptionsError(f"torchrun started {os.environ['WORLD_SIZE']} processes, which without --launcher pytorch "
                           f'would all do the same. Start them by\n  {_TORCHRUN}')


def _read_slurm(params):
    """Give the environment the variables that torchrun would set."""
    environment = os.environ
    missing = [name for name in ('SLURM_PROCID', 'SLURM_LOCALID', 'SLURM_NTASKS') if name not in environment]
    if missing:
        raise OptionsError(f"--launcher slurm: {', '.join(missing)} not set, so srun did not start this process. Start "
                           'it by\n  srun --ntasks N python basicsr/train.py -opt OPTIONS --launcher slurm\n'
                           'or, for one process, leave --launcher out.')
    host = environment.get('MASTER_ADDR') or _first_host()
    environment['RANK'] = environment['SLURM_PROCID']
    environment['LOCAL_RANK'] = environment['SLURM_LOCALID']
    environment['WORLD_SIZE'] = environment['SLURM_NTASKS']
    environment['MASTER_ADDR'] = host
    if params.get('port'):
        environment['MASTER_PORT'] = str(params['port'])
    elif 'MASTER_PORT' not in environment:
        # below the ports that Linux gives to outgoing connections, and another one for each job
        environment['MASTER_PORT'] = str(12000 + int(environment.get('SLURM_JOB_ID', 0)) % 20000)


def _first_host():
    nodes = os.environ.get('SLURM_STEP_NODELIST') or os.environ.get('SLURM_NODELIST')
    advice = 'Set MASTER_ADDR to the host name of the first node.'
    if not nodes:
        raise OptionsError(f'--launcher slurm: neither SLURM_STEP_NODELIST nor SLURM_NODELIST is set. {advice}')
    if not set(nodes) & set('[,'):
        return nodes
    if shutil.which('scontrol') is None:
        raise OptionsError(f"--launcher slurm: the nodes are '{nodes}', and there is no `scontrol` here to read that. "
                           f'{advice}')
    done = subprocess.run(['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True)
    if done.returncode or not done.stdout.split():
        raise OptionsError(f"--launcher slurm: `scontrol show hostnames {nodes}` failed: {done.stderr.strip()} "
                           f'{advice}')
    return done.stdout.split()[0]


def _own_gpu(launcher):
    local_rank, count = int(os.environ['LOCAL_RANK']), torch.cuda.device_count()
    if launcher == 'slurm' and count == 1:
        local_rank = 0  # Slurm shows a task its own GPU only (--gpus-per-task)
    here = max(int(os.environ.get('LOCAL_WORLD_SIZE', 0)), local_rank + 1)  # the same message on all ranks
    if here > count:
        raise OptionsError(f'{here} or more processes on this machine, but only {count} usable GPUs: a process needs '
                           'one of its own. Start fewer (--nproc_per_node; under Slurm --ntasks-per-node), or set '
                           'num_gpu to 0 to use CPUs.')
    device = torch.device('cuda', local_rank)
    torch.cuda.set_device(device)
    return device


def _from_rank_0(value):
    if not distributed.is_initialized():
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def barrier():
    """Wait until all processes have come here; nothing if there is only one."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()


def agree(what, value):
    """Make sure that all processes have the same ``value``; all must call, and wait for each other here.

    Raises:
        OptionsError: they have not.
    """
    _, world_size = get_dist_info()
    values = [value] * world_size
    if world_size > 1:
        distributed.all_gather_object(values, value)
    others = [rank for rank, other in enumerate(values) if other != values[0]]
    if others:
        raise OptionsError(f'{what}: rank 0 has {values[0]}, rank {others[0]} has {values[others[0]]}. All processes '
                           'must see the same folder `experiments`: on several machines, use a shared file system.')


def finish():
    """Part from the other processes, when all have come to the end."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()  # where rank 0 holds the meeting point, it must be the last to leave
        rank_failure.unwatch()
        distributed.destroy_process_group()


def advise_torchrun(num_gpu):
    """Tell a user of several GPUs in one process, BasicSR's DataParallel, what is better."""
    get_root_logger().warning(
        f'num_gpu: {num_gpu} in one process copies the network to all GPUs in every step and keeps the losses on the '
        f'first. A process for each GPU is faster and uses their memory evenly: {_TORCHRUN}')


class Replica(DistributedDataParallel):
    """A network trained in several processes; without gradients each of them may use it on its own.

    DistributedDataParallel sends the buffers of rank 0 around in a forward pass. In a validation, which only some of
    the ranks do, or do more often than others, the others would be at another collective, and all would wait for ever.
    """

    def forward(self, *inputs, **kwargs):
        if torch.is_grad_enabled():
            return super().forward(*inputs, **kwargs)
        return self.module(*inputs, **kwargs)
