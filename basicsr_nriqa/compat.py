"""Repairs of BasicSR 1.4.2: the only place of the plugin that touches BasicSR's own code.

What newer libraries no longer have is supplied by `basicsr_nriqa_startup`. Everything else is a :class:`Repair`: a few
words of one function's source replaced, the result compiled and put into the very same function object, so that it
does not matter who imported the function before. A repair whose words are not found, once, means that this BasicSR is
not the one the repair was written for: that is an error, never a guess.
"""
import ast
import importlib
import inspect
import logging
import os
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
        definition = tree.body[0]
        # they have been applied and evaluated; only the code is replaced
        definition.decorator_list, definition.args.defaults = [], []
        definition.args.kw_defaults = [None] * len(definition.args.kwonlyargs)
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
        'option files can run code, and `4e-4` is read as text (defects 19, 21a); options are used unchecked; '
        'processes need CUDA, and fail on a second machine (26); without manual_seed each draws its own',
        'utils/options.py:94', 'basicsr.utils.options:parse_options',
        (("with open(args.opt, mode='r') as f:\n        opt = yaml.load(f, Loader=ordered_yaml()[0])",
          'opt = _nriqa.read_options(args.opt)\n    _nriqa.check_skeleton(opt, args.opt)'),
         ("    # distributed settings\n"
          "    if args.launcher == 'none':\n        opt['dist'] = False\n"
          "        print('Disable distributed.', flush=True)\n"
          "    else:\n        opt['dist'] = True\n"
          "        if args.launcher == 'slurm' and 'dist_params' in opt:\n"
          "            init_dist(args.launcher, **opt['dist_params'])\n"
          "        else:\n            init_dist(args.launcher)\n"
          "    opt['rank'], opt['world_size'] = get_dist_info()\n\n", ''),
         ("    # random seed\n    seed = opt.get('manual_seed')\n    if seed is None:\n"
          "        seed = random.randint(1, 10000)\n        opt['manual_seed'] = seed\n"
          "    set_random_seed(seed + opt['rank'])\n\n", ''),
         ('parser = argparse.ArgumentParser()', '_nriqa.hand_over(root_path, is_train)\n'
          '    parser = argparse.ArgumentParser()'),
         # last, as --force_yml may change what it needs
         ("opt['auto_resume'] = args.auto_resume",
          "_nriqa.distributed.init(args.launcher, opt, args.opt)\n    opt['auto_resume'] = args.auto_resume"),
         ("keys, value = entry.split('=')", 'keys, value = _nriqa.split_assignment(entry)'),
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
        '--auto_resume looks in the current folder and else starts again (15), and takes a damaged state; resuming '
        'needs CUDA (9)', 'train.py:69', 'basicsr.train:load_resume_state',
        (('resume_state_path = None\n', 'return _nriqa.load_resume_state(opt)\n'),)),
    Repair(
        'a training set smaller than one batch trains nothing, for ever; the samples and augmentations depend on where '
        'a training was interrupted (16) and on the numbers of workers and processes', 'train.py:45',
        'basicsr.train:create_train_val_dataloader',
        (('num_iter_per_epoch = math.ceil(', '_nriqa.check_not_empty(train_loader, dataset_opt)\n'
          '            _nriqa.loader_workers.end_with_us(train_loader)\n'
          "            _nriqa.prepare_loader(train_loader, opt['manual_seed'])\n"
          '            num_iter_per_epoch = math.ceil('),
         ('train_set = build_dataset(dataset_opt)',
          "train_set = _nriqa.ItemStreams(build_dataset(dataset_opt), opt['manual_seed'])"),
         ('EnlargedSampler(', '_nriqa.ResumableSampler('),
         ('train_set,\n                dataset_opt,', 'train_set, _nriqa.loader_options(dataset_opt),'))),
    Repair(
        'after the last iteration the loop goes on: the final validation has a wrong number and runs twice (17); '
        'incomplete batches shorten training; prefetch_mode cuda needs CUDA (9); a signal loses the work since the '
        'last checkpoint; a resumed training is another one (14, 16); workers are started twice', 'train.py:141',
        'basicsr.train:train_pipeline',
        (("elif prefetch_mode == 'cuda':",
          "elif prefetch_mode == 'cuda' and not torch.cuda.is_available():\n"
          '        prefetcher = CPUPrefetcher(train_loader)\n'
          "        logger.warning('prefetch_mode cuda: there is no CUDA here, batches are loaded as on a CPU.')\n"
          "    elif prefetch_mode == 'cuda':"),
         ('msg_logger = MessageLogger(opt, current_iter, tb_logger)\n',
          'msg_logger = MessageLogger(opt, current_iter, tb_logger)\n'
          '    loop = _nriqa.TrainingLoop(opt, model, train_loader, train_sampler, val_loaders, tb_logger,\n'
          '                               resume_state)\n'),
         ('for epoch in range(start_epoch, total_epochs + 1):\n',
          'epoch = start_epoch - 1\n    while current_iter < total_iters and not loop.ended:\n        epoch += 1\n'),
         ('train_sampler.set_epoch(epoch)\n        prefetcher.reset()\n',  # the first epoch is already being read
          'if epoch > start_epoch:\n            loop.start_epoch(epoch)\n            prefetcher.reset()\n'),
         ('data_timer.record()\n', 'data_timer.record()\n            loop.before_step()\n'),
         ('iter_timer.record()\n', 'iter_timer.record()\n            loop.after_step()\n'),
         ('while train_data is not None:\n',
          'while train_data is not None and current_iter < total_iters and not loop.ended:\n'),
         ("if current_iter % opt['logger']['save_checkpoint_freq'] == 0:",
          "if current_iter % opt['logger']['save_checkpoint_freq'] == 0 or _nriqa.stop.agreed:"),
         ('model.save(epoch, current_iter)\n', 'loop.save(epoch, current_iter)\n'),
         ("for val_loader in val_loaders:\n"
          "                    model.validation(val_loader, current_iter, tb_logger, opt['val']['save_img'])\n\n",
          'loop.validate(current_iter)\n\n'),
         ('# validation\n            if opt.get', '_nriqa.stop.leave(logger, current_iter)\n            if opt.get'),
         ("if opt.get('val') is not None:\n        for val_loader in val_loaders:\n"
          "            model.validation(val_loader, current_iter, tb_logger, opt['val']['save_img'])\n",
          'loop.finish(current_iter)\n'),
         # other ranks wait until rank 0 has renamed the old folder and made the new one
         ('# mkdir for experiments and logger\n',
          "_nriqa.distributed.agree('The training state to resume from', resume_state and resume_state['iter'])\n"),
         ("copy_opt_file(args.opt, opt['path']['experiments_root'])\n",
          "copy_opt_file(args.opt, opt['path']['experiments_root'])\n    _nriqa.distributed.barrier()\n"))),
    Repair(
        'two starts within one second stop at the name of the folder that they set aside', 'utils/misc.py:31',
        'basicsr.utils.misc:mkdir_and_rename',
        (("path + '_archived_' + get_time_str()", '_nriqa.archive_name(path)'),)),
    Repair(
        'other ranks go on before rank 0 has made the folders', 'test.py:19', 'basicsr.test:test_pipeline',
        (('make_exp_dirs(opt)\n', 'make_exp_dirs(opt)\n    _nriqa.distributed.barrier()\n'),)),
    Repair(
        'DistributedDataParallel needs CUDA (26), and hangs where only some ranks validate a network with buffers',
        'models/base_model.py:97', 'basicsr.models.base_model:BaseModel.model_to_device',
        (('net = DistributedDataParallel(\n', 'net = _nriqa.distributed.Replica(\n'),
         ('device_ids=[torch.cuda.current_device()]',
          "device_ids=None if self.device.type == 'cpu' else [torch.cuda.current_device()]"),
         ('net = DataParallel(net)', "_nriqa.distributed.advise_torchrun(self.opt['num_gpu'])\n"
          '        net = DataParallel(net)'))),
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
        'every entry of the log is printed, so that those of many losses fill the screen; at the last iteration -1 day '
        'is left', 'utils/logger.py:108', 'basicsr.utils.logger:MessageLogger.__call__',
        (("message += f'{k}: {v:.4e} '", "message += '' if '/' in k else f'{k}: {v:.4e} '"),
         ('(self.max_iters - current_iter - 1)', 'max(0, self.max_iters - current_iter - 1)'))),
    Repair(
        'after any message before the training, such as that of a loss that is built, the training has no log file',
        'utils/logger.py:166', 'basicsr.utils.logger:get_root_logger',
        (('if logger_name in initialized_logger:\n        return logger\n',
          'if logger_name in initialized_logger:\n        return _nriqa.with_log_file(logger, log_file, log_level)\n'),
         ('logging.FileHandler(', '_nriqa.LogFile('))),
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
        'torch.load refuses training states with numpy numbers (21); a stop while writing leaves half a state; one '
        'that cannot be written is ignored', 'models/base_model.py:314',
        'basicsr.models.base_model:BaseModel.save_training_state',
        (('if current_iter != -1:\n',
          'return _nriqa.save_training_state(self, epoch, current_iter)\n    if current_iter != -1:\n'),)),
    Repair(
        'a stop while writing leaves half a network; one that cannot be written is ignored', 'models/base_model.py:225',
        'basicsr.models.base_model:BaseModel.save_network',
        (('# avoid occasional writing errors\n', 'return _nriqa.save_whole(save_dict, save_path)\n'),)),
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
def check_not_empty(loader, dataset_opt):
    from basicsr.utils.dist_util import get_dist_info

    from basicsr_nriqa.options import OptionsError
    _, world_size = get_dist_info()
    items = int(len(loader.dataset) * dataset_opt.get('dataset_enlarge_ratio', 1))
    if len(loader) == 0 or items < world_size * loader.batch_size:
        processes = f' in each of {world_size} processes' if world_size > 1 else ''
        raise OptionsError(f"datasets: {dataset_opt['name']}: {items} items are fewer than one batch of "
                           f'{loader.batch_size}{processes}. Lower batch_size_per_gpu, '
                           f"{'start fewer processes, ' if processes else ''}or raise dataset_enlarge_ratio.")


class LogFile(logging.FileHandler):
    """The log file of a training; other files that a logger writes to are its user's."""


def with_log_file(logger, path, level):
    """The logger, which writes to the file from now on, in the place of an earlier one, if one is given."""
    from basicsr.utils.dist_util import get_dist_info
    if path is None:
        return logger
    if get_dist_info()[0] != 0:  # what was logged before the processes had met, each did as the first
        logger.setLevel('ERROR')
        return logger
    earlier = [handler for handler in logger.handlers if isinstance(handler, LogFile)]
    if any(handler.baseFilename == os.path.abspath(path) for handler in earlier):
        return logger
    for handler in earlier:
        logger.removeHandler(handler)
        handler.close()
    handler = LogFile(path, 'w')
    handler.setFormatter(logging.Formatter('%(asctime)s %(levelname)s: %(message)s'))
    handler.setLevel(level)
    logger.addHandler(handler)
    logger.setLevel(level)
    return logger


_ELSEWHERE = {  # found when called: these modules need the filled registries, which need this module first
    'files': ('archive_name',),
    'launch': ('hand_over',),
    'options': ('read_options', 'parse_value', 'split_assignment', 'set_option', 'copy_options'),
    'options_check': ('check_skeleton', 'check_options'),
    'data.resumable': ('ItemStreams', 'ResumableSampler', 'loader_options', 'prepare_loader'),
    'training.checkpoints': ('load_resume_state',),
    'training.loop': ('TrainingLoop',),
    'training.state': ('save_training_state', 'save_whole', 'plain'),
    'training.stop': ('stop',)}


def __getattr__(name):
    if name in ('distributed', 'loader_workers'):
        return importlib.import_module(f'basicsr_nriqa.{name}')
    for module, names in _ELSEWHERE.items():
        if name in names:
            return getattr(importlib.import_module(f'basicsr_nriqa.{module}'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
