"""Repairs of BasicSR 1.4.2: the only place of the plugin that touches BasicSR's own code.

What newer libraries no longer have is supplied by `basicsr_nriqa_startup`. Everything else is a :class:`Repair`: a few
words of one function's source replaced, the result compiled and put into the very same function object, so that it
does not matter who imported the function before. A repair whose words are not found, once, means that this BasicSR is
not the one the repair was written for: that is an error, never a guess.
"""
import ast
import importlib
import inspect
import os
import signal
import sys
import textwrap
from dataclasses import dataclass

import basicsr_nriqa_startup

_ACCEPT = 'BASICSR_NRIQA_UNREPAIRED'


class CompatError(ImportError):
    """BasicSR's code is not what a repair expects."""


@dataclass(frozen=True)
class Repair:
    """One defect of BasicSR and its cure.

    Attributes:
        defect (str): What goes wrong without the repair.
        where (str): File and line in BasicSR 1.4.2, for readers.
        target (str): ``module:qualified.name`` of the function.
        edits (tuple): Pairs (source as it is, source as it should be); each must be there exactly once.
    """

    defect: str
    where: str
    target: str
    edits: tuple

    def apply(self):
        module_name, _, name = self.target.partition(':')
        function = importlib.import_module(module_name)
        for part in name.split('.'):
            function = inspect.getattr_static(function, part)
        function = inspect.unwrap(function)
        if function.__dict__.get('_nriqa_repaired'):
            return
        source = self._repaired_source(function)
        tree = ast.parse(source)
        tree.body[0].decorator_list = []  # they have been applied; only the code is replaced
        ast.increment_lineno(tree, function.__code__.co_firstlineno - 1)
        namespace = {}
        exec(compile(tree, function.__code__.co_filename, 'exec'), {}, namespace)  # BasicSR's own source, edited
        function.__code__ = namespace[function.__name__].__code__
        function.__globals__['_nriqa'] = sys.modules[__name__]
        function.__dict__['_nriqa_repaired'] = True

    def _repaired_source(self, function):
        try:
            source = textwrap.dedent(inspect.getsource(function))
        except OSError as error:
            raise self._refusal(f'its source cannot be read ({error})') from None
        for old, new in self.edits:
            if source.count(old) != 1:
                raise self._refusal(f'the repair expects to find, once:\n{textwrap.indent(old, "    ")}')
            source = source.replace(old, new)
        return source

    def _refusal(self, reason):
        return CompatError(
            f'{self.target} is not the code of BasicSR 1.4.2, so this defect cannot be repaired: {self.defect}.\n'
            f'{reason}\nInstall basicsr==1.4.2, or, if your BasicSR is free of this defect, set '
            f'{_ACCEPT}={self.target} (several: separated by commas).')


REPAIRS = (
    Repair(
        'option files can run code, and `4e-4` is read as text (defects 19, 21a); options are used unchecked',
        'utils/options.py:94', 'basicsr.utils.options:parse_options',
        (("with open(args.opt, mode='r') as f:\n        opt = yaml.load(f, Loader=ordered_yaml()[0])",
          'opt = _nriqa.read_options(args.opt)\n    _nriqa.check_skeleton(opt, args.opt)'),
         ('value = _postprocess_yml_value(value)', 'value = _nriqa.parse_value(value)'),
         ("eval_str = 'opt'\n            for key in keys.split(':'):\n                eval_str += f'[\"{key}\"]'\n"
          "            eval_str += '=value'\n            # using exec function\n            exec(eval_str)",
          '_nriqa.set_option(opt, keys, value)'),
         ('return opt, args', '_nriqa.check_options(opt, args.opt)\n    return opt, args'))),
    Repair(
        'the copy of an option file with `_base_` in the experiment folder cannot be used again',
        'utils/options.py:188', 'basicsr.utils.options:copy_opt_file',
        (('copyfile(opt_file, filename)', '_nriqa.copy_options(opt_file, filename)'),
         ('from shutil import copyfile\n', '\n'))),
    Repair(
        '--auto_resume looks in the current folder and else starts again (15); resuming needs CUDA (9)',
        'train.py:71', 'basicsr.train:load_resume_state',
        (("osp.join('experiments', opt['name'], 'training_states')", "opt['path']['training_states']"),
         ('device_id = torch.cuda.current_device()\n', '\n'),
         ('map_location=lambda storage, loc: storage.cuda(device_id)', "map_location='cpu'"))),
    Repair(
        'a training set smaller than one batch trains nothing, for ever', 'train.py:45',
        'basicsr.train:create_train_val_dataloader',
        (('num_iter_per_epoch = math.ceil(', '_nriqa.check_not_empty(train_loader, dataset_opt)\n'
          '            num_iter_per_epoch = math.ceil('),)),
    Repair(
        'after the last iteration the loop goes on: the final validation has a wrong number and runs twice (17); '
        'incomplete batches shorten training; prefetch_mode cuda needs CUDA (9); a signal loses the work since the '
        'last checkpoint', 'train.py:141', 'basicsr.train:train_pipeline',
        (("elif prefetch_mode == 'cuda':",
          "elif prefetch_mode == 'cuda' and not torch.cuda.is_available():\n"
          '        prefetcher = CPUPrefetcher(train_loader)\n'
          "        logger.warning('prefetch_mode cuda: there is no CUDA here, batches are loaded as on a CPU.')\n"
          "    elif prefetch_mode == 'cuda':"),
         ('for epoch in range(start_epoch, total_epochs + 1):\n',
          'epoch = start_epoch - 1\n    while current_iter < total_iters:\n        epoch += 1\n'),
         ('while train_data is not None:\n', 'while train_data is not None and current_iter < total_iters:\n'),
         ("if current_iter % opt['logger']['save_checkpoint_freq'] == 0:",
          "if current_iter % opt['logger']['save_checkpoint_freq'] == 0 or _nriqa.stop.requested:"),
         ('# validation\n            if opt.get', '_nriqa.stop.leave(logger, current_iter)\n            if opt.get'),
         ("if opt.get('val') is not None:\n        for val_loader",
          "if opt.get('val') is not None and current_iter % opt['val']['val_freq'] != 0:\n        for val_loader"))),
    Repair(
        'an error while loading data hangs training for ever with prefetch_mode cpu (18)',
        'data/prefetch_dataloader.py:26', 'basicsr.data.prefetch_dataloader:PrefetchGenerator.run',
        (('for item in self.generator:\n        self.queue.put(item)\n    self.queue.put(None)',
          'try:\n        for item in self.generator:\n            self.queue.put(item)\n        self.queue.put(None)\n'
          '    except Exception as error:\n        self.queue.put(error)'),)),
    Repair(
        'the other half of it (18)', 'data/prefetch_dataloader.py:32',
        'basicsr.data.prefetch_dataloader:PrefetchGenerator.__next__',
        (('if next_item is None:', 'if isinstance(next_item, Exception):\n        raise next_item\n'
          '    if next_item is None:'),)),
    Repair(
        'beyond sum(periods) the cosine scheduler is a TypeError (19)', 'models/lr_scheduler.py:53',
        'basicsr.models.lr_scheduler:get_position_from_periods',
        (('        if iteration <= period:\n            return i',
          '        if iteration <= period:\n            return i\n    return len(cumulative_period) - 1'),)),
    Repair(
        'beyond sum(periods) the learning rate would rise again (19)', 'models/lr_scheduler.py:94',
        'basicsr.models.lr_scheduler:CosineAnnealingRestartLR.get_lr',
        (('((self.last_epoch - nearest_restart) / current_period)',
          'min(1, (self.last_epoch - nearest_restart) / current_period)'),)),
    Repair(
        'torch.load refuses training states with numpy numbers (21); a stop while writing leaves half a state',
        'models/base_model.py:327', 'basicsr.models.base_model:BaseModel.save_training_state',
        (('torch.save(state, save_path)', '_nriqa.save_atomically(_nriqa.plain(state), save_path)'),)),
    Repair(
        'a stop while writing leaves half a network', 'models/base_model.py:229',
        'basicsr.models.base_model:BaseModel.save_network',
        (('torch.save(save_dict, save_path)', '_nriqa.save_atomically(save_dict, save_path)'),)),
    Repair(
        'validation of video models needs CUDA (7)', 'models/video_base_model.py:33',
        'basicsr.models.video_base_model:VideoBaseModel.dist_validation',
        (("device='cuda'", 'device=self.device'),)),
    Repair(
        'validation of recurrent models needs CUDA (7) and on a CPU reshapes the input of the network (8)',
        'models/video_recurrent_model.py:81',
        'basicsr.models.video_recurrent_model:VideoRecurrentModel.dist_validation',
        (("device='cuda'", 'device=self.device'),
         ("        val_data['lq'].squeeze_(0)\n        val_data['gt'].squeeze_(0)\n", ''))),
)


def apply():
    """Repair BasicSR; further calls do nothing.

    Raises:
        CompatError: a function is not the code of BasicSR 1.4.2; the message names it and the defect.
    """
    basicsr_nriqa_startup.install()
    accepted = os.environ.get(_ACCEPT, '').split(',')
    for repair in REPAIRS:
        if repair.target not in accepted:
            repair.apply()


# ---------------------------------------------------------------- what the repaired functions call, as `_nriqa.NAME`
class _Stop:
    """Turns a signal into a stop at the end of the running iteration, with a checkpoint."""

    requested = None

    def install(self):
        """Listen to SIGINT, SIGTERM and SIGUSR1 (Slurm's ``--signal``); a second signal stops at once."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._request)

    def _request(self, number, frame):
        self.requested = number
        for other in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(other, signal.SIG_DFL)

    def leave(self, logger, iteration):
        if self.requested:
            logger.info(f'Stopped by {signal.Signals(self.requested).name} after iteration {iteration}; the state is '
                        'saved. Continue with the same command and --auto_resume.')
            sys.exit(128 + self.requested)


stop = _Stop()


def check_not_empty(loader, dataset_opt):
    if len(loader) == 0:
        raise ValueError(f"datasets: {dataset_opt['name']}: {len(loader.dataset)} items are fewer than one batch of "
                         f'{loader.batch_size}. Lower batch_size_per_gpu, or raise dataset_enlarge_ratio.')


def plain(value):
    """The same nesting with numpy's numbers as Python's, which is all that torch.load reads back."""
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    return value.item() if type(value).__module__ == 'numpy' and hasattr(value, 'item') and value.ndim == 0 else value


def save_atomically(value, path):
    """torch.save beside ``path``, then rename: the file is whole or not there."""
    import torch
    partial = f'{path}.partial'
    torch.save(value, partial)
    os.replace(partial, path)


def __getattr__(name):
    # the option functions need the filled registries, which need this module first
    if name in ('read_options', 'parse_value', 'set_option', 'copy_options'):
        return getattr(importlib.import_module('basicsr_nriqa.options'), name)
    if name in ('check_skeleton', 'check_options'):
        return getattr(importlib.import_module('basicsr_nriqa.options_check'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
