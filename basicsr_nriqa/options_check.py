"""Checks of the options before anything is built: names, types, files, metrics; all problems in one error."""
import inspect
import os
from pathlib import Path

import torch
from basicsr.utils import registry

from basicsr_nriqa import distributed
from basicsr_nriqa.balancing import BALANCERS
from basicsr_nriqa.checkpoints import is_url
from basicsr_nriqa.iqa import CATALOGUE, MetricError
from basicsr_nriqa.iqa.weights import FOLDER_VARIABLE, find_weights
from basicsr_nriqa.losses import IQAPerceptualLoss
from basicsr_nriqa.machine_problems import machine_problems, pitfalls
from basicsr_nriqa.models.guard_options import guard_problems
from basicsr_nriqa.network_problems import network_problems
from basicsr_nriqa.option_definitions import known
from basicsr_nriqa.option_definitions.arguments import argument_problems
from basicsr_nriqa.option_definitions.check_mode import current_mode
from basicsr_nriqa.option_definitions.classes import SCHEDULERS, UNUSABLE, stock_metric_arguments
from basicsr_nriqa.option_definitions.option import Option, option_problems
from basicsr_nriqa.options import OptionsError
from basicsr_nriqa.stock_model_options import stock_model_problems
from basicsr_nriqa.suggestion import prepare_data, suggest


def check_skeleton(opt, source):
    """Check what BasicSR's ``parse_options`` itself reads, before it does.

    Raises:
        OptionsError: one of these options is missing or of another type.
    """
    check = _Check()
    for name, kind in (('name', str), ('num_gpu', (int, str)), ('datasets', dict), ('path', dict)):
        if opt.get(name) is None:
            check.add(name, 'is missing.' + (' Give at least `path: {}`.' if name == 'path' else ''))
        elif not isinstance(opt[name], kind):
            check.add(name, f'not usable: {opt[name]!r}.')
    for phase, dataset in (opt['datasets'] if isinstance(opt.get('datasets'), dict) else {}).items():
        if not isinstance(dataset, dict):
            check.add(f'datasets:{phase}', f'expected options (name: value), got {dataset!r}.')
    check.report(source)


def check_options(opt, source):
    """Check complete options, as BasicSR's ``parse_options`` returns them.

    Everything that a model of this plugin will read is checked: unknown names (with the nearest valid one), types,
    missing options, files and databases, weights of metrics. For other models only what names a registered class
    is checked, since their options are their own, and that BasicSR's are given none that only ours read.

    Args:
        opt (dict): The options.
        source (str): The file they came from, for the message.

    Raises:
        OptionsError: lists every problem found.
    """
    mode = current_mode()
    check = _Check(mode.here)
    model = check.registered(registry.MODEL_REGISTRY, opt.get('model_type'), 'model_type')
    if hasattr(model, 'TRAIN_OPTIONS'):
        check.everything(opt, model)
    else:
        if model and model.__module__.startswith('basicsr.'):
            check.all(stock_model_problems(opt))
            check.all(machine_problems(opt) if mode.here else ())
            for phase, dataset in opt['datasets'].items():
                check.data_paths(dataset, f'datasets:{phase}')
        check.losses_and_metrics(opt)
    if mode.here:
        mode.missing += check.weights(mode.fetch)
    check.report(source)


_LEARNING_RATE = Option(float, least=0, nullable=False)


class _Check:

    def __init__(self, here=True):
        self.problems, self.here = [], here
        self.missing_data = None  # the first path where nothing is
        self.metrics = []  # (where, info, weights option)

    def add(self, where, problem):
        self.problems.append(f'{where}: {problem}')

    def all(self, problems):
        for where, problem in problems:
            self.add(where, problem)

    def report(self, source):
        if self.problems:
            message = '\n- '.join([f'{source}:', *self.problems])
            raise OptionsError(f'{message}\n{prepare_data(self.missing_data)}' if self.missing_data else message)

    def keys(self, options, definitions, where, required=()):
        if not isinstance(options, dict):
            return  # it is a problem of the group that holds it
        for key, problem in option_problems(options, definitions):
            self.add(f'{where}{key}', problem)
        for key in required:
            if options.get(key) is None:
                self.add(f'{where}{key}', 'is missing.')

    def registered(self, classes, name, where):
        """The class or function registered as ``name``, or None with a problem noted."""
        if name is None:
            self.add(where, 'is missing.')
            return None
        if isinstance(name, str) and name in classes:
            return classes.get(name)
        self.add(where, f"no {classes._name} is called '{name}'{suggest(name, classes.keys())}.")
        return None

    def arguments(self, function, options, where, given=('type',), definitions=None):
        """``options`` as keyword arguments of ``function``."""
        for key, problem in argument_problems(function, options, given, definitions):
            self.add(f'{where}:{key}', problem)

    def everything(self, opt, model):
        adversarial = opt['is_train'] and 'gan_opt' in model.TRAIN_OPTIONS
        if opt['is_train'] and opt.get('network_d') and not adversarial:
            self.add('network_d', f"{opt['model_type']} has no discriminator; `model_type: ISeeBetterModel` has one.")
        networks = ('network_g', 'network_d') if adversarial else ('network_g',)
        self.keys(opt, known.TOP, '', ('name', 'model_type', 'num_gpu', 'datasets', *networks, 'path')
                  + (('train', 'logger') if opt['is_train'] else ('val',)))
        self.all(distributed.problems(opt.get('dist_params')))
        self.keys(opt['path'], known.PATH, 'path:')
        self.all(machine_problems(opt) if self.here else ())
        for name in networks:
            if isinstance(opt.get(name), dict):
                self.network(opt[name], name)
        for phase, dataset in opt['datasets'].items():
            self.dataset(dataset, f'datasets:{phase}', opt['is_train'])
        self.all(pitfalls(opt))
        if opt['is_train'] and 'train' not in opt['datasets']:
            self.add('datasets:train', 'is missing.')
        if opt['is_train']:
            if isinstance(opt.get('train'), dict):
                self.training(opt['train'], model, opt)
                self.step(opt, opt['train'])
            self.keys(opt.get('logger') or {}, known.LOGGER, 'logger:',
                      ('print_freq', 'save_checkpoint_freq', 'use_tb_logger'))
        if isinstance(opt.get('val'), dict):
            required = ('val_freq', 'save_img') if opt['is_train'] else ('save_img',)
            self.keys(opt['val'], {key: known.VAL.get(key, Option()) for key in model.VAL_OPTIONS}, 'val:', required)
            if isinstance(opt['val'].get('scores'), dict):
                self.keys(opt['val']['scores'], known.SCORES, 'val:scores:')
            self.all(guard_problems(opt) if opt['is_train'] else ())
        self.losses_and_metrics(opt)

    def network(self, options, where):
        self.all((f'{where}:{key}', problem) for key, problem in network_problems(options).items())
        flow = options.get('spynet_path')
        if self.here and flow and not is_url(flow) and not Path(str(flow)).expanduser().is_file():
            self.add(f'{where}:spynet_path', f'{flow}: no such file. Leave it out to train the optical flow from zero.')

    def dataset(self, options, where, is_train):
        dataset = self.registered(registry.DATASET_REGISTRY, options.get('type'), f'{where}:type')
        required = ('name', 'type')
        if is_train and options.get('phase') == 'train':
            required += ('batch_size_per_gpu', 'num_worker_per_gpu')
        if not is_train and options.get('phase') == 'train':
            self.add(where, 'is for training, and a test restores every set of its file. Take a file for tests, such '
                            'as options/test_vimeo90k.yml, or give train.py this one.')
        elif dataset and options.get('phase') != 'train' and not hasattr(dataset, 'lazily'):
            self.add(f'{where}:type', f"{options['type']} does not give whole clips, which validation here needs. Use "
                                      'ClipTestDataset.')
        if hasattr(dataset, 'OPTIONS'):
            self.keys(options, {**known.DATASET, **known.LOADER, **_clip_options(dataset)}, f'{where}:',
                      required + dataset.REQUIRED)
            if 'datasets' in dataset.OPTIONS and isinstance(options.get('datasets'), dict):
                self.mixture(options, f'{where}:datasets')
        self.data_paths(options, where)

    def mixture(self, options, where):
        """The parts of a mixture, which inherit options of the whole."""
        for name, part in options['datasets'].items():
            if not isinstance(part, dict):
                self.add(f'{where}:{name}', 'expected options such as {type: ClipTrainDataset, ratio: 0.5, ...}, got '
                                            f'{part!r}.')
                continue
            dataset = self.registered(registry.DATASET_REGISTRY, part.get('type'), f'{where}:{name}:type')
            if hasattr(dataset, 'OPTIONS'):
                self.keys(part, {**known.PART, **_clip_options(dataset)}, f'{where}:{name}:', ('ratio',))
                for key in dataset.REQUIRED:
                    if part.get(key, options.get(key)) is None:
                        self.add(f'{where}:{name}:{key}', 'is missing.')
            self.data_paths(part, f'{where}:{name}')

    def data_paths(self, options, where):
        for key in ('dataroot_gt', 'dataroot_lq', 'meta_info_file'):
            value = options.get(key)
            if self.here and isinstance(value, str) and value and not Path(value).expanduser().exists():
                here = '' if Path(value).expanduser().is_absolute() else f' in {Path.cwd()}'
                self.add(f'{where}:{key}', f'{value}: nothing is there{here}.')
                self.missing_data = self.missing_data or value

    def training(self, options, model, opt):
        if 'perceptual_opt' in options and 'perceptual_opt' not in model.TRAIN_OPTIONS:
            self.add('train:perceptual_opt', "is read by BasicSR's models only. Here metrics stand under iqa_opt, each "
                                             'with a name: `iqa_opt: {maniqa: {type: MANIQALoss}}`.')
        self.keys({key: value for key, value in options.items() if key != 'perceptual_opt'},
                  {key: known.TRAIN.get(key, Option()) for key in model.TRAIN_OPTIONS}, 'train:',
                  model.REQUIRED_TRAIN_OPTIONS)
        if isinstance(options.get('gan_opt'), dict):
            self.keys(options['gan_opt'], known.GAN, 'train:gan_opt:')
        for where, classes, fixed in (('optim_g', vars(torch.optim), ('type', 'params')),
                                    ('optim_d', vars(torch.optim), ('type', 'params')),
                                    ('scheduler', SCHEDULERS, ('type', 'optimizer')),
                                    ('balance_opt', BALANCERS, ('type',))):
            part = options.get(where)
            if where == 'balance_opt' and 'balance_opt' in model.TRAIN_OPTIONS and isinstance(part or {}, dict):
                part = {'type': model.DEFAULT_BALANCER, **(part or {})}
            if not isinstance(part, dict):
                continue
            kind = classes.get(str(part.get('type')))
            if where.startswith('optim') and kind and kind in UNUSABLE:
                self.add(f'train:{where}:type', f"'{part['type']}' cannot train networks here: it needs "
                                                f'{UNUSABLE[kind]}.')
            elif inspect.isclass(kind) or (classes is BALANCERS and kind):
                before = len(self.problems)
                self.arguments(kind, part, f'train:{where}', fixed)
                if classes is BALANCERS and len(self.problems) == before:
                    self.balancer(kind, part, self.loss_names(options, model), opt)
            else:
                names = [name for name, value in classes.items() if inspect.isclass(value) and name[0] != '_']
                self.add(f'train:{where}:type', f"'{part.get('type')}' is not known"
                                                f"{suggest(part.get('type'), names)}.")

    def step(self, opt, options):
        """Options of one iteration that have to fit together."""
        for name in ('optim_g', 'optim_d'):
            part = options.get(name)
            if isinstance(part, dict) and _LEARNING_RATE.problem(part.get('lr')):
                self.add(f'train:{name}:lr', _LEARNING_RATE.problem(part.get('lr')))
        if options.get('compile') and _replicated(opt):
            self.add('train:compile', 'needs a process for each GPU: torchrun and --launcher pytorch.')
        if isinstance(options.get('compile'), dict):
            self.arguments(torch.compile, options['compile'], 'train:compile', ('model',))
        parts, data = options.get('accumulate'), opt['datasets'].get('train') or {}
        batch = data.get('batch_size_per_gpu')
        if _is(parts, int) and _is(batch, int) and parts > 1 and batch % parts:
            self.add('train:accumulate', f'{parts} parts of equal size cannot be made of datasets:train:'
                                         f'batch_size_per_gpu {batch}: the batch is what one step is made with, and '
                                         'accumulate must divide it.')

    @staticmethod
    def loss_names(options, model):
        names = ['pix'] if options.get('pixel_opt') else []
        names += options['iqa_opt'] if isinstance(options.get('iqa_opt'), dict) else []
        return [*names, 'gan'] if 'gan_opt' in model.TRAIN_OPTIONS else names

    def balancer(self, kind, part, losses, opt):
        try:
            balancer = kind(**{option: value for option, value in part.items() if option != 'type'})
            balancer.check(losses)
        except ValueError as error:
            self.add('train:balance_opt', error)
            return
        if balancer.layer != 'output' and _replicated(opt):
            self.add('train:balance_opt:layer', 'several GPUs in one process have copies of a layer: start a process '
                                                'for each (torchrun, --launcher pytorch), or say `layer: output`.')
        if balancer.layer != 'output' and opt['train'].get('compile'):
            self.add('train:balance_opt:layer', 'a compiled network has no layers to look at; say `layer: output`, or '
                                                'leave train:compile out.')

    def losses_and_metrics(self, opt):
        train = opt['train'] if isinstance(opt.get('train'), dict) else {}
        train_size = (opt['datasets'].get('train') or {}).get('gt_size')
        losses = self.named({name: train[name] for name in ('pixel_opt', 'perceptual_opt') if train.get(name)}, 'train')
        losses.update(self.named(train.get('iqa_opt'), 'train:iqa_opt'))
        if 'train:iqa_opt:pix' in losses:
            self.add('train:iqa_opt:pix', "is the name of train:pixel_opt's loss; choose another.")
        if 'train:iqa_opt:gan' in losses:
            self.add('train:iqa_opt:gan', "is the name of train:gan_opt's loss; choose another.")
        for where, options in losses.items():
            self.loss(options, where, train_size)
        val = opt['val'] if isinstance(opt.get('val'), dict) else {}
        for where, options in self.named(val.get('metrics'), 'val:metrics').items():
            metric = self.registered(registry.METRIC_REGISTRY, options.get('type'), f'{where}:type')
            if hasattr(metric, 'check'):
                self.metric(metric.check, options, where)
                self.better(options, where)
            elif metric:
                self.arguments(metric, options, where, ('type', 'better'), stock_metric_arguments(metric))
            if options.get('better') not in (None, 'higher', 'lower'):
                self.add(f'{where}:better', f"expected higher or lower, got '{options['better']}'.")

    def loss(self, options, where, size):
        loss = self.registered(registry.LOSS_REGISTRY, options.get('type'), f'{where}:type')
        if loss is IQAPerceptualLoss and where != 'train:perceptual_opt':
            self.add(f'{where}:type', "IQAPerceptualLoss is for perceptual_opt of BasicSR's models; use IQALoss.")
        if hasattr(loss, 'member_options'):
            try:
                members = loss.member_options(options)
            except MetricError as error:
                self.add(where, error)
                return
            for name, member in members.items():
                self.loss(member, f'{where}:metrics:{name}', size)
        elif hasattr(loss, 'metric_name'):
            self.metric(loss.check, options, where, size)
        elif loss:
            self.arguments(loss, options, where)

    def better(self, options, where):
        """The best network is chosen by this, and BasicSR takes ``higher`` where nothing is said."""
        lower = isinstance(options.get('metric'), str) and options['metric'] in CATALOGUE \
            and CATALOGUE[options['metric']].lower_better
        if options.get('better') in (None, 'higher') and lower:
            self.add(f'{where}:better', f"of '{options['metric']}' lower is better; say `better: lower`.")
        elif options.get('better') == 'lower' and options.get('metric') in CATALOGUE and not lower:
            self.add(f'{where}:better', f"of '{options['metric']}' higher is better; say `better: higher`.")

    def named(self, entries, where):
        """``{name: {type: ...}}`` as where -> options; what is not of that form is a problem."""
        if entries is not None and (not isinstance(entries, dict) or 'type' in entries):
            self.add(where, 'expected a name for each entry, with its options below it and further to the right, '
                            f'`name: {{type: ...}}`, got {entries!r}.')
            return {}
        for name, options in (entries or {}).items():
            if options is None:
                self.add(f'{where}:{name}', 'is empty. Its options belong below it, further to the right.')
            elif not isinstance(options, dict):
                self.add(f'{where}:{name}', f'expected options such as {{type: ..., metric: ssim}}, got {options!r}.')
        return {f'{where}:{name}': options for name, options in (entries or {}).items() if isinstance(options, dict)}

    def metric(self, check, options, where, size=None):
        try:
            info = check(options)
        except MetricError as error:
            self.add(where, error)
            return
        if isinstance(size, int) and size < info.min_size:
            self.add(where, f"'{info.name}' needs images of at least {info.min_size} px a side; datasets:train:gt_size "
                            f'is {size}.')
        if info.files:
            self.metrics.append((where, info, options.get('weights')))

    def weights(self, fetch):
        """Last, because missing weights are fetched, which is worth while only if all else is well."""
        download = fetch and not self.problems
        seen, missing = set(), []
        for where, info, path in self.metrics:
            if (info.files, path) in seen:
                continue
            seen.add((info.files, path))
            try:
                find_weights(info, path, download)
            except MetricError as error:
                if fetch or path or not Path(os.environ.get(FOLDER_VARIABLE) or '.').is_dir():  # no fetch can mend it
                    self.add(where, error)
                else:
                    missing.append(f'{where}: {error}')
        return missing


def _clip_options(dataset):
    return {key: known.CLIPS.get(key, Option()) for key in dataset.OPTIONS}


def _replicated(opt):
    """BasicSR's DataParallel: one process with several GPUs."""
    return not opt['dist'] and opt['num_gpu'] > 1


def _is(value, kind):
    return value is not None and not Option(kind).problem(value)
