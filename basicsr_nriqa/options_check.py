"""Checks of the options before anything is built: names, types, files, metrics; all problems in one error."""
import inspect
from pathlib import Path

import torch
from basicsr.utils import registry

from basicsr_nriqa import distributed
from basicsr_nriqa.balancing import BALANCERS
from basicsr_nriqa.checkpoints import is_url
from basicsr_nriqa.iqa import MetricError
from basicsr_nriqa.iqa.weights import find_weights
from basicsr_nriqa.known_options import CLIPS, DATASET, LOGGER, NUMBER, PATH, SCHEDULERS, TOP, UNUSABLE, VALUES
from basicsr_nriqa.losses import IQAPerceptualLoss
from basicsr_nriqa.models.guard_options import guard_problems
from basicsr_nriqa.models.guarded_step import PRECISIONS
from basicsr_nriqa.options import OptionsError
from basicsr_nriqa.suggestion import suggest

_PREPARE = """To prepare data:
  Vimeo-90K, from its archive:           python scripts/prepare_vimeo90k.py VIMEO_SEPTUPLET -o datasets/vimeo90k
  REDS, from its archives:               python scripts/prepare_reds.py REDS -o datasets/reds
  your own videos:                       python scripts/prepare_videos.py VIDEO ... -o datasets/NAME
  a small sample without any download:   python scripts/make_sample_data.py -o datasets/sample"""


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
    is checked, since their options are their own.

    Args:
        opt (dict): The options.
        source (str): The file they came from, for the message.

    Raises:
        OptionsError: lists every problem found.
    """
    check = _Check()
    model = check.registered(registry.MODEL_REGISTRY, opt.get('model_type'), 'model_type')
    if hasattr(model, 'TRAIN_OPTIONS'):
        check.everything(opt, model)
    else:
        check.losses_and_metrics(opt)
    check.weights()
    check.report(source)


class _Check:

    def __init__(self):
        self.problems = []
        self.data_is_missing = False
        self.metrics = []  # (where, info, weights option)

    def add(self, where, problem):
        self.problems.append(f'{where}: {problem}')

    def report(self, source):
        if self.problems:
            message = '\n- '.join([f'{source}:', *self.problems])
            raise OptionsError(f'{message}\n{_PREPARE}' if self.data_is_missing else message)

    def keys(self, options, known, where, required=()):
        if not isinstance(options, dict):
            return  # it is a problem of the group that holds it
        for key, value in options.items():
            if key not in known:
                self.add(f'{where}{key}', f'unknown option{suggest(key, known)}.')
            elif isinstance(known, dict) and value is not None and not _is(value, known[key]):
                self.add(f'{where}{key}', f'expected {_type_name(known[key])}, got {value!r}.')
        for key in required:
            if options.get(key) is None:
                self.add(f'{where}{key}', 'is missing.')

    def registered(self, known, name, where):
        """The class or function registered as ``name``, or None with a problem noted."""
        if isinstance(name, str) and name in known:
            return known.get(name)
        self.add(where, f"no {known._name} is called '{name}'{suggest(name, known.keys())}.")
        return None

    def arguments(self, function, options, where, given=('type',)):
        """``options`` as keyword arguments of ``function``."""
        parameters = inspect.signature(function).parameters
        open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        named = [name for name, parameter in parameters.items()
                 if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)]
        for key in options:
            if key not in given and key not in named and not open_ended:
                self.add(f'{where}:{key}', f'unknown option{suggest(key, named)}.')
        for name in named:
            if parameters[name].default is inspect.Parameter.empty and name not in options and name not in given:
                self.add(f'{where}:{name}', 'is missing.')

    def everything(self, opt, model):
        adversarial = opt['is_train'] and 'gan_opt' in model.TRAIN_OPTIONS
        if opt['is_train'] and opt.get('network_d') and not adversarial:
            self.add('network_d', f"{opt['model_type']} has no discriminator; `model_type: ISeeBetterModel` has one.")
        networks = ('network_g', 'network_d') if adversarial else ('network_g',)
        self.keys(opt, TOP, '', ('name', 'model_type', 'num_gpu', 'datasets', *networks, 'path')
                  + (('train', 'logger') if opt['is_train'] else ('val',)))
        if opt['num_gpu'] and not torch.cuda.is_available():
            self.add('num_gpu', f"{opt['num_gpu']} asked for, but this machine has no usable CUDA device; set it to 0 "
                                'to use the CPU (or to auto).')
        for where, problem in distributed.problems(opt.get('dist_params')):
            self.add(where, problem)
        self.keys(opt['path'], PATH, 'path:')
        for key, value in opt['path'].items():
            fetched = key.startswith('pretrain_network') and is_url(value)
            if key.startswith(('pretrain_network', 'resume_state')) and value and not fetched \
                    and not Path(value).is_file():
                self.add(f'path:{key}', f'{value}: no such file.{_how_to_train(value)}')
        for name in networks:
            if isinstance(opt.get(name), dict):
                self.network(opt[name], name)
        for phase, dataset in opt['datasets'].items():
            self.dataset(dataset, f'datasets:{phase}', opt['is_train'])
        if opt['is_train'] and 'train' not in opt['datasets']:
            self.add('datasets:train', 'is missing.')
        if opt['is_train']:
            if isinstance(opt.get('train'), dict):
                self.training(opt['train'], model, opt)
                self.step(opt, opt['train'])
            self.keys(opt.get('logger') or {}, LOGGER, 'logger:',
                      ('print_freq', 'save_checkpoint_freq', 'use_tb_logger'))
        if isinstance(opt.get('val'), dict):
            required = ('val_freq', 'save_img') if opt['is_train'] else ('save_img',)
            self.keys(opt['val'], {key: VALUES.get(key, object) for key in model.VAL_OPTIONS}, 'val:', required)
            if isinstance(opt['val'].get('scores'), dict):
                self.keys(opt['val']['scores'], {'model': str, 'loss': str}, 'val:scores:')
            for where, problem in guard_problems(opt) if opt['is_train'] else ():
                self.add(where, problem)
        self.losses_and_metrics(opt)

    def network(self, options, where):
        network = self.registered(registry.ARCH_REGISTRY, options.get('type'), f'{where}:type')
        if network:
            self.arguments(network, options, where)
        flow = options.get('spynet_path')
        if flow and not is_url(flow) and not Path(str(flow)).expanduser().is_file():
            self.add(f'{where}:spynet_path', f'{flow}: no such file. Leave it out to train the optical flow from zero.')

    def dataset(self, options, where, is_train):
        dataset = self.registered(registry.DATASET_REGISTRY, options.get('type'), f'{where}:type')
        required = ('name', 'type')
        if is_train and options.get('phase') == 'train':
            required += ('batch_size_per_gpu', 'num_worker_per_gpu')
        if dataset and options.get('phase') != 'train' and not hasattr(dataset, 'lazily'):
            self.add(f'{where}:type', f"{options['type']} does not give whole clips, which validation here needs. Use "
                                      'ClipTestDataset.')
        if hasattr(dataset, 'OPTIONS'):
            self.keys(options, {**DATASET, **_clip_options(dataset)}, f'{where}:', required + dataset.REQUIRED)
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
                known = {'type': str, 'ratio': NUMBER, 'scale': int, **_clip_options(dataset)}
                self.keys(part, known, f'{where}:{name}:', ('ratio',))
                for key in dataset.REQUIRED:
                    if part.get(key, options.get(key)) is None:
                        self.add(f'{where}:{name}:{key}', 'is missing.')
            if _is(part.get('ratio'), NUMBER) and not part['ratio'] > 0:
                self.add(f'{where}:{name}:ratio', f"expected a number above 0, got {part['ratio']!r}.")
            self.data_paths(part, f'{where}:{name}')

    def data_paths(self, options, where):
        for key in ('dataroot_gt', 'dataroot_lq', 'meta_info_file'):
            value = options.get(key)
            if isinstance(value, str) and value and not Path(value).expanduser().exists():
                self.add(f'{where}:{key}', f'{value}: nothing is there.')
                self.data_is_missing = True

    def training(self, options, model, opt):
        self.keys(options, {key: VALUES.get(key, object) for key in model.TRAIN_OPTIONS}, 'train:',
                  model.REQUIRED_TRAIN_OPTIONS)
        if isinstance(options.get('gan_opt'), dict):
            self.keys(options['gan_opt'], {'loss_weight': NUMBER}, 'train:gan_opt:')
            if _is(options['gan_opt'].get('loss_weight'), NUMBER) and not options['gan_opt']['loss_weight'] > 0:
                self.add('train:gan_opt:loss_weight', 'must be above 0: the output shall look real.')
        for where, known, fixed in (('optim_g', vars(torch.optim), ('type', 'params')),
                                    ('optim_d', vars(torch.optim), ('type', 'params')),
                                    ('scheduler', SCHEDULERS, ('type', 'optimizer')),
                                    ('balance_opt', BALANCERS, ('type',))):
            part = options.get(where)
            if where == 'balance_opt' and 'balance_opt' in model.TRAIN_OPTIONS and isinstance(part or {}, dict):
                part = {'type': model.DEFAULT_BALANCER, **(part or {})}
            if not isinstance(part, dict):
                continue
            kind = known.get(str(part.get('type')))
            if where.startswith('optim') and kind and kind in UNUSABLE:
                self.add(f'train:{where}:type', f"'{part['type']}' cannot train networks here: it needs "
                                                f'{UNUSABLE[kind]}.')
            elif inspect.isclass(kind) or (known is BALANCERS and kind):
                before = len(self.problems)
                self.arguments(kind, part, f'train:{where}', fixed)
                if known is BALANCERS and len(self.problems) == before:
                    self.balancer(kind, part, self.loss_names(options, model), opt)
            else:
                names = [name for name, value in known.items() if inspect.isclass(value) and name[0] != '_']
                self.add(f'train:{where}:type', f"'{part.get('type')}' is not known"
                                                f"{suggest(part.get('type'), names)}.")

    def step(self, opt, options):
        """Options of one iteration that have to fit together."""
        for name, expected, valid in (
                ('precision', ' or '.join(PRECISIONS), lambda value: value in PRECISIONS),
                ('accumulate', '1 or more', lambda value: value >= 1),
                ('skip_limit', '1 or more', lambda value: value >= 1),
                ('clip_norm', 'a number above 0', lambda value: value > 0),
                ('compile', 'true, false or arguments of torch.compile', lambda value: isinstance(value, (bool, dict))),
                ('fix_flow', '0 or more', lambda value: value >= 0),
                ('flow_lr_mul', '0 or more', lambda value: value >= 0),
                ('ema_decay', '0 or more and less than 1', lambda value: 0 <= value < 1),
                ('total_iter', '1 or more', lambda value: value >= 1)):
            value = options.get(name)
            if value is not None and (name not in VALUES or _is(value, VALUES[name])) and not valid(value):
                self.add(f'train:{name}', f'expected {expected}, got {value!r}.')
        for name in ('optim_g', 'optim_d'):
            part = options.get(name)
            if isinstance(part, dict) and not (_is(part.get('lr'), NUMBER) and part['lr'] >= 0):
                self.add(f'train:{name}:lr', f"expected a number, 0 or more, got {part.get('lr')!r}.")
        for group, name in (('logger', 'print_freq'), ('logger', 'save_checkpoint_freq'), ('val', 'val_freq')):
            value = opt[group].get(name) if isinstance(opt.get(group), dict) else None
            if _is(value, NUMBER) and not value >= 1:
                self.add(f'{group}:{name}', f'expected 1 or more, got {value!r}.')
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
            elif metric:
                self.arguments(metric, options, where, ('type', 'better', 'img', 'img2'))
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

    def named(self, entries, where):
        """``{name: {type: ...}}`` as where -> options; what is not of that form is a problem."""
        if entries is not None and not isinstance(entries, dict):
            self.add(where, f'expected `name: {{type: ...}}`, got {entries!r}.')
            return {}
        for name, options in (entries or {}).items():
            if not isinstance(options, dict):
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

    def weights(self):
        """Last, because missing weights are fetched, which is worth while only if all else is well."""
        download = not self.problems
        seen = set()
        for where, info, path in self.metrics:
            if (info.files, path) in seen:
                continue
            seen.add((info.files, path))
            try:
                find_weights(info, path, download)
            except MetricError as error:
                self.add(where, error)


def _clip_options(dataset):
    return {key: CLIPS.get(key, object) for key in dataset.OPTIONS}


def _how_to_train(path):
    """A checkpoint in ``experiments/NAME/`` comes from ``options/NAME.yml``, if there is one."""
    parts = Path(path).parts
    if len(parts) == 4 and parts[0] == 'experiments':
        folder, _, rest = parts[1].partition('_')  # vrt_finetune_lpips is options/vrt/finetune_lpips.yml
        found = [*Path('options').rglob(f'{parts[1]}.yml'), *Path('options', folder).glob(f'{rest}.yml')]
        for options in sorted(found):
            return f' To train it: python basicsr/train.py -opt {options}'
    return ''


def _replicated(opt):
    """BasicSR's DataParallel: one process with several GPUs."""
    return not opt['dist'] and opt['num_gpu'] > 1


def _is(value, kind):
    return isinstance(value, kind) and not (isinstance(value, bool) and kind in (int, NUMBER))


def _type_name(kind):
    names = {int: 'a whole number', str: 'text', bool: 'true or false', dict: 'options (name: value)', list: 'a list',
             NUMBER: 'a number'}
    return names[kind]
