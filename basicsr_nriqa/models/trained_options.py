"""The options that a training state was made with, so that a resumed training says what is other now."""
from typing import Any

import torch
from basicsr.models.base_model import BaseModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only

from basicsr_nriqa.training.state import save_training_state

# how long a training lasts, and how it is fed on this machine, do not change what is trained
_LENGTH = ('total_iter', 'skip_limit')
_FEEDING = ('name', 'phase', 'dataroot_gt', 'dataroot_lq', 'io_backend', 'use_shuffle', 'num_worker_per_gpu',
            'prefetch_mode', 'num_prefetch_queue', 'pin_memory', 'persistent_workers')


class TrainedOptions(BaseModel):
    """The half of a model that saves its options in the training state, and compares them when it resumes.

    A model calls :meth:`note_options` before it builds anything of them, and has ``own_state()``: what its state holds
    besides BasicSR's.
    """

    trained_options: dict[str, Any]

    def note_options(self) -> None:
        self.trained_options = options_of_training(self.opt)

    @master_only
    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """As BasicSR, and with :meth:`own_state` and the options."""
        save_training_state(self, epoch, current_iter, options=self.trained_options, **self.own_state())

    def own_state(self) -> dict[str, Any]:
        raise NotImplementedError

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """As BasicSR, and with one warning that names each option that is another than that of the state."""
        super().resume_training(resume_state)
        present = self.trained_options
        saved: dict[str, Any] = resume_state.get('options', present)  # BasicSR's states and older ones have none
        changed = [place for place in {**saved, **present} if saved.get(place) != present.get(place)]
        fixed = [place for place in changed if self._is_fixed(place, saved, resume_state)]
        lines = [f'{place}: {_shown(saved, place)} -> {_shown(present, place)}'
                 + (' (without effect: the state has it)' if place in fixed else '') for place in changed]
        seed = resume_state.get('manual_seed')
        asked = resume_state.get('manual_seed_of_options', seed)
        if asked != seed:
            lines.append(f'manual_seed: {seed} -> {asked} (without effect: the seed is that of the state)')
        if lines:
            advice = ('\nWhat the state has can be changed by a new training that starts from the weights (path:'
                      'pretrain_network_g).' if fixed else '')
            get_root_logger().warning('\n- '.join(['The training goes on with other options than those of its state:',
                                                   *lines]) + advice)
        # the next state has what it was trained with, so that the next one that resumes is told as well
        self.trained_options = {place: value for place, value in present.items() if place not in fixed} | {
            place: saved[place] for place in fixed if place in saved}

    def _is_fixed(self, place: str, saved: dict[str, Any], state: dict[str, Any]) -> bool:
        """Whether what was loaded of the state, its optimisers and schedulers, overrules the option."""
        if place == 'train:flow_lr_mul':
            return True
        section, _, name = place.rpartition(':')
        if section == 'train:scheduler':
            # the class is that of the options; of its attributes those count that the state's scheduler has, too
            kind = 'train:scheduler:type'
            same = saved.get(kind) == self.trained_options.get(kind)
            return same or (place in self.trained_options and name in state['schedulers'][0])
        if section in ('train:optim_g', 'train:optim_d'):
            # the class is that of the options, all settings are those of the state
            optimizer = getattr(self, section.replace('train:optim', 'optimizer'))
            return name != 'type' or _keeps_its_weight_decay(optimizer)
        return False


def options_of_training(opt: dict[str, Any]) -> dict[str, Any]:
    """The options that decide what is trained, as ``{'train:optim_g:lr': 0.0004, ...}``.

    They are those of ``train``, ``datasets:train`` and the networks, without null, which is as good as not given, the
    length of the training, paths of databases and the loading of data. Of ``meta_info_file`` the file's name counts.

    Args:
        opt (dict[str, Any]): Complete options.

    Returns:
        dict[str, Any]: Numbers, texts, booleans and lists of them by their place.
    """
    datasets = opt.get('datasets') or {}
    found = {f'train:{place}': value for place, value in _leaves(opt.get('train') or {}) if place not in _LENGTH}
    for place, value in _leaves(datasets.get('train') or {}):
        *_, name = parts = place.split(':')
        if not set(parts) & set(_FEEDING):
            found[f'datasets:train:{place}'] = value.rpartition('/')[2] if name == 'meta_info_file' else value
    for network in ('network_g', 'network_d'):
        found |= {f'{network}:{place}': value for place, value in _leaves(opt.get(network) or {})}
    return found


def _leaves(options: dict[str, Any], start: str = '') -> list[tuple[str, Any]]:
    leaves = []
    for key, value in options.items():
        if isinstance(value, dict):
            leaves += _leaves(value, f'{start}{key}:')
        elif value is not None:
            leaves.append((f'{start}{key}', _plain(value)))
    return leaves


def _plain(value: Any) -> Any:
    """What ``torch.load(weights_only=True)`` reads back, and compares as equal then."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def _shown(options: dict[str, Any], place: str) -> str:
    return str(options[place]) if place in options else 'not given'


def _keeps_its_weight_decay(optimizer: torch.optim.Optimizer) -> bool:
    """Adam that goes on from AdamW's state is AdamW: in newer versions of PyTorch they differ in a setting only."""
    decoupled = optimizer.defaults.get('decoupled_weight_decay')
    return decoupled is not None and optimizer.param_groups[0]['decoupled_weight_decay'] != decoupled
