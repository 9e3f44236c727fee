"""The checkpoints of a training on disk: complete or not counted.

=======================================  ===============================================================================
``models/net_*_ITERATION.pth``           networks, written first
``training_states/ITERATION.state``      everything else
``training_states/ITERATION.sha256``     written last: the checkpoint is complete. Its lines are those of ``sha256sum``
``training_states/ITERATION.validated``  the validation of this iteration is done: the best results with it, and what
                                         the guard made of it
=======================================  ===============================================================================

A sum without a state belongs to networks that are kept for their metrics only.
"""
import os
import re
from pathlib import Path

from basicsr.utils import get_root_logger, set_random_seed
from basicsr.utils.misc import check_resume
from torch import distributed

from basicsr_nriqa.files import sha256, write_atomically
from basicsr_nriqa.option_definitions.known import LOGGER
from basicsr_nriqa.options import OptionsError
from basicsr_nriqa.training.state import CheckpointError, load_whole, plain, save_whole


class Checkpoints:
    """Those of one experiment. Only one rank changes them.

    Args:
        opt (dict): Complete options: ``path:training_states``, ``path:models``, ``path:ignore_resume_networks`` and the
            names of networks are used.
    """

    def __init__(self, opt):
        self.states, self.models = Path(opt['path']['training_states']), Path(opt['path']['models'])
        ignored = opt['path'].get('ignore_resume_networks') or []
        self.labels = [f"net_{key.removeprefix('network_')}" for key in opt
                       if key.startswith('network_') and key not in ignored]

    def iterations(self, suffix='state'):
        """Iterations that have a file of this suffix, ascending; that it is there does not make it complete."""
        names = [path.stem for path in self.states.glob(f'*.{suffix}')]
        return sorted(int(name) for name in names if name.isdigit())

    def state_file(self, iteration):
        return self._file(iteration, 'state')

    def _file(self, iteration, suffix):
        return self.states / f'{iteration}.{suffix}'

    def _networks(self, iteration):
        return sorted(self.models.glob(f'*_{iteration}.pth'))

    def remove_partial_files(self):
        """Those that a killed process was writing."""
        for folder in (self.states, self.models):
            for path in (*folder.glob('.*.part'), *folder.glob('*.partial')):
                path.unlink(missing_ok=True)

    def withdraw(self, iteration):
        """Before a checkpoint is written: nothing that was left of one of this iteration may complete the new one."""
        for suffix in ('sha256', 'state', 'validated'):
            self._file(iteration, suffix).unlink(missing_ok=True)

    def commit(self, iteration):
        """After all files of a checkpoint are written: it is complete."""
        self._write_sums(iteration, [*self._networks(iteration), self.state_file(iteration)])

    def _write_sums(self, iteration, files):
        lines = [f'{sha256(path)}  {os.path.relpath(path, self.states)}\n' for path in files]
        write_atomically(self._file(iteration, 'sha256'), ''.join(lines))

    def prune(self, newest, keep_last, best):
        """Remove older checkpoints.

        Args:
            newest (int): An iteration whose checkpoint is complete; what is beyond it is left alone.
            keep_last (int): How many to keep, this one included.
            best (Iterable[int]): Iterations whose networks stay, because they hold the best result of a metric.
        """
        older = [iteration for iteration in self.iterations() if iteration <= newest][:-keep_last]
        apart = set(self.iterations('sha256')) - set(self.iterations())
        for iteration in sorted({*older, *(iteration for iteration in apart if iteration < newest)}):
            networks = self._networks(iteration)
            if iteration in best:
                self._write_sums(iteration, networks)
            else:
                for path in networks:
                    path.unlink()
                self._file(iteration, 'sha256').unlink(missing_ok=True)
            self._file(iteration, 'validated').unlink(missing_ok=True)
            self.state_file(iteration).unlink(missing_ok=True)  # last: until then it is found here again

    def set_validated(self, iteration, best_metric_results, guard=None):
        """The validation after a checkpoint is done; ``guard`` is the state of the model's guard, if it has one."""
        done = {'best_metric_results': best_metric_results, 'guard': guard}
        save_whole(plain(done), self._file(iteration, 'validated'))

    def validated(self, iteration):
        """``best_metric_results`` and ``guard`` after the validation of this iteration; None if it was not completed.
        """
        try:
            done = load_whole(self._file(iteration, 'validated'))
        except CheckpointError:
            return None
        # earlier trainings wrote the best results alone
        return done if 'best_metric_results' in done else {'best_metric_results': done, 'guard': None}

    def load(self, state_file):
        """The state of a complete checkpoint.

        The networks are verified, too. Without sums, as BasicSR writes checkpoints, files count as complete if they can
        be read.

        Args:
            state_file (str | Path): ``ITERATION.state``, in any folder; the networks are those of this experiment.

        Raises:
            CheckpointError: the checkpoint is incomplete or damaged; the message names the file and says why.
        """
        state_file = Path(state_file)
        sums = _read_sums(state_file.with_suffix('.sha256'))
        _verify(state_file, sums)
        state = load_whole(state_file)
        if not isinstance(state, dict) or not {'epoch', 'iter', 'optimizers', 'schedulers'} <= set(state):
            raise CheckpointError(f'{state_file}: not a training state; those are experiments/NAME/training_states/'
                                  'ITERATION.state')
        for label in self.labels:
            network = self.models / f"{label}_{state['iter']}.pth"
            if not _verify(network, sums):
                load_whole(network)
        return state

    def newest(self):
        """The newest complete checkpoint; the ones beyond it are named in a warning.

        Returns:
            tuple[Path, dict] | None: Its state file and the state; None where there are no states at all.

        Raises:
            CheckpointError: there are states, but none is complete.
        """
        problems = []
        for iteration in reversed(self.iterations()):
            try:
                found = self.state_file(iteration), self.load(self.state_file(iteration))
            except CheckpointError as error:
                problems.append(str(error))
                continue
            for problem in problems:
                # no logger yet: BasicSR makes its own, with a file, after it has looked for a state
                print(f'warning: {problem}. This checkpoint is skipped for the one before.', flush=True)
            return found
        if problems:
            raise CheckpointError('\n- '.join([f'{self.states}: none of the checkpoints can be resumed.', *problems])
                                  + '\nTo start again from iteration 0, leave --auto_resume out; this experiment is '
                                    'then renamed, not lost.')
        return None


def _verify(path, sums):
    """Whether there was a sum to compare with."""
    if not path.is_file():
        raise CheckpointError(f'{path}: no such file')
    if path.name in sums and sha256(path) != sums[path.name]:
        raise CheckpointError(f'{path}: damaged, its sha256 is not the one noted when it was written')
    return path.name in sums


def _read_sums(path):
    """File name -> digest, of the lines that are readable."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding='utf-8', errors='replace').splitlines()
    found = [re.fullmatch(r'([0-9a-f]{64}) [ *](.+)', line) for line in lines]
    if not all(found) or not found:
        raise CheckpointError(f'{path}: damaged, not a list of sha256 sums')
    return {Path(match[2]).name: match[1] for match in found}


def load_resume_state(opt):
    """Find the state that a training shall go on from; in the place of BasicSR's function of this name.

    With ``--auto_resume`` it is the newest complete one of the experiment, else, or if there is none yet, that of
    ``path:resume_state``. The options are changed such that the model loads the networks of the same iteration, and
    that the seed is that of the state. All ranks call this; rank 0 chooses.

    Returns:
        dict | None: The state, with ``manual_seed_of_options`` if the options asked for a seed; None to start at
        iteration 0.

    Raises:
        OptionsError: ``logger:keep_last`` is not usable.
        CheckpointError: the state that was asked for, or every one, is incomplete or damaged.
    """
    keep_last = (opt.get('logger') or {}).get('keep_last')
    problem = LOGGER['keep_last'].problem(keep_last)
    if problem:
        raise OptionsError(f'logger:keep_last: {problem} Leave it out to keep all.')
    path, state = _chosen_on_rank_0(opt)
    if path is None:
        return None
    opt['path']['resume_state'] = str(path)
    state = state or load_whole(path)
    check_resume(opt, state['iter'])
    if 'manual_seed' in state:
        if not opt.get('seed_was_drawn'):
            state['manual_seed_of_options'] = opt['manual_seed']
        opt['manual_seed'] = state['manual_seed']
        set_random_seed(opt['manual_seed'] + opt['rank'])
    return state


def _chosen_on_rank_0(opt):
    """(path, state), state only on rank 0, or (None, None)."""
    chosen, path, error = None, None, None
    if opt['rank'] == 0:
        try:
            chosen = _choose(opt)
            path = chosen and str(chosen[0])
        except CheckpointError as problem:
            error = str(problem)
    if opt['world_size'] > 1:
        shared = [path, error]
        distributed.broadcast_object_list(shared)
        path, error = shared
    if error:
        raise CheckpointError(error)
    return path, chosen and chosen[1]


def _choose(opt):
    checkpoints = Checkpoints(opt)
    checkpoints.remove_partial_files()
    found = checkpoints.newest() if opt['auto_resume'] else None
    given = opt['path'].get('resume_state')
    if opt['auto_resume'] and not found and not given:
        _warn_of_start(opt)
    if found or not given:
        return found
    try:
        return given, checkpoints.load(given)
    except CheckpointError as error:
        raise CheckpointError(f'path:resume_state: {error}. Give another state, or none to start at iteration '
                              '0.') from None


def _warn_of_start(opt):
    """BasicSR is about to set aside what is there."""
    experiment = Path(opt['path']['experiments_root'])
    if experiment.exists():
        place = f'{experiment.parent.name}/{experiment.name}'
        print(f'warning: --auto_resume: {place} has no training state, so the training starts at iteration 0; what is '
              f'there is kept as {experiment.name}_archived_TIME.', flush=True)


def log_exactness(state, world_size):
    """Say in the log if a resumed training will not be, to the bit, the one that was not interrupted."""
    missing = {'samples', 'manual_seed', 'rng'} - set(state)
    if missing:
        get_root_logger().warning(
            f"The training state does not have {', '.join(sorted(missing))}: it is BasicSR's own, or an older one. The "
            'training goes on at the beginning of the epoch, with other random numbers than without the interruption.')
    elif len(state['rng']) != world_size:
        get_root_logger().warning(
            f"The training state is that of {len(state['rng'])} processes, and now there are {world_size}: the samples "
            'go on where they were, other random numbers do not.')
