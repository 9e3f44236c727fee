"""Reading the plan of a study: which trainings and tests a ``study.yml`` asks for, each with its complete options.

A study is a grid: models x (a baseline and losses) x datasets. A training's options are the option files that the plan
names, merged; nothing else decides what is computed. ``workflow/Snakefile`` runs a plan, ``scripts/list_study.py``
shows it.
"""
import re
from dataclasses import fields
from pathlib import Path

from basicsr_nriqa.options import OptionsError, load_yaml, read_options, set_option
from basicsr_nriqa.study.artifact_flags import ArtifactRule
from basicsr_nriqa.study.flags import ReferenceRule
from basicsr_nriqa.study.grid import BASELINE, Dataset, Run, Study, digest, tested_weights
from basicsr_nriqa.suggestion import suggest

_KEYS = {'name': str, 'output': str, 'models': dict, 'losses': dict, 'datasets': dict, 'set': dict, 'flags': dict,
         'report': dict}
_REQUIRED = ('name', 'output', 'models', 'losses', 'datasets')
_MODEL_KEYS = {'label': str, 'baseline': (str, list), 'finetune': (str, list), 'gpus': int, 'cpus': int, 'set': dict}
_DATASET_KEYS = {'label': str, 'test': (str, list), 'set': dict}
_REPORT_KEYS = {'scenes': int, 'artifact_clips': int, 'mixed_versions': bool}
_IN_WORDS = {str: 'text', dict: 'options (name: value)', int: 'a whole number', bool: 'true or false',
             (str, list): 'an option file or a list of them'}
_TAKEN = ('GT', 'bicubic')
# what of a training's options has no influence on its weights
_INDIFFERENT = ('name', 'logger', 'val', 'path', 'num_gpu')
_INDIFFERENT_DATA = ('name', 'num_worker_per_gpu', 'prefetch_mode', 'num_prefetch_queue', 'pin_memory',
                     'persistent_workers')


def read_study(path, models=None, losses=None, datasets=None):
    """Read a plan.

    Args:
        path (str | Path): ``study.yml``; see ``workflow/study.yml`` for its form. Option files in it are relative to
            the current folder, as on BasicSR's command line.
        models, losses, datasets (str | list[str] | None): Only these keys of the plan, a list or separated by commas;
            None: all. The baseline belongs to every choice of losses.

    Returns:
        Study

    Raises:
        OptionsError: the file or an option file in it cannot be used; names the file and the key.
    """
    path = Path(path)
    content = load_yaml(path)
    _check_keys(path, '', content, _KEYS, _REQUIRED)
    output = Path(content['output'])
    chosen = {'models': _choose(path, 'models', content['models'], models),
              'losses': _choose(path, 'losses', content['losses'], losses),
              'datasets': _choose(path, 'datasets', content['datasets'], datasets)}
    choice = ' '.join(f"{what}={','.join(keys)}" for what, keys in chosen.items() if len(keys) < len(content[what]))
    for key, label in content['losses'].items():
        if not isinstance(label, str) or key == BASELINE:
            raise OptionsError(f'{path}: losses:{key}: expected `KEY: LABEL`, where `{BASELINE}` is not a key, got '
                               f'{label!r}.')
    _check_labels(path, 'losses', {**content['losses'], BASELINE: BASELINE})
    test_sets = {key: _dataset(path, key, part) for key, part in chosen['datasets'].items()}
    _check_labels(path, 'datasets', {key: dataset.label for key, dataset in test_sets.items()})
    runs = {}
    for key, part in chosen['models'].items():
        _check_keys(path, f'models:{key}:', part, _MODEL_KEYS, ('baseline', 'finetune'))
        baseline = _run(path, output, content, key, BASELINE, BASELINE, None)
        tuned = [_run(path, output, content, key, loss, label, baseline) for loss, label in chosen['losses'].items()]
        for run in (baseline, *tuned):
            if run.name in runs:
                raise OptionsError(f'{path}: two trainings would be called {run.name}; change a key.')
            runs[run.name] = run
    _check_labels(path, 'models', {run.model: run.model_label for run in runs.values()})
    _check_keys(path, 'report:', content.get('report') or {}, _REPORT_KEYS)
    order = sorted(runs.values(), key=lambda run: run.loss != BASELINE)
    return Study(content['name'], path, output, {run.name: run for run in order}, test_sets,
                 *_rules(path, content.get('flags') or {}), content.get('report') or {}, choice)


def _run(path, output, content, model, loss, label, baseline):
    part = content['models'][model]
    which = 'finetune' if baseline else 'baseline'
    names = [part[which]] if isinstance(part[which], str) else part[which]
    if baseline and not any('{loss}' in name for name in names):
        raise OptionsError(f'{path}: models:{model}:finetune: expected an option file with {{loss}} in its name, got '
                           f'{part[which]!r}.')
    names = [name.replace('{loss}', loss) for name in names]
    options, source = _read(path, f'models:{model}:{which}', names), ' and '.join(names)
    for key in ('train', 'network_g', 'datasets'):
        if not isinstance(options.get(key), dict):
            raise OptionsError(f'{source}: {key} is missing; {path} names it for models:{model}:{which}.')
    for where, settings in (('set', content.get('set')), (f'models:{model}:set', part.get('set'))):
        for keys, value in (settings or {}).items():
            _set(path, where, options, keys, value)
    total = options['train'].get('total_iter')
    if type(total) is not int or total < 1:
        raise OptionsError(f'{path}: models:{model}:{which}: train:total_iter: expected a whole number, 1 or more, got '
                           f'{total!r}.')
    name = f'{model}_{loss}'
    options['name'] = name
    # of what its processes are given; in one process a number of GPUs would multiply the batch
    options['num_gpu'] = 0 if options.get('num_gpu') == 0 else 'auto'
    options.setdefault('path', {})
    if baseline:
        options['path']['pretrain_network_g'] = str(output / 'experiments' / baseline.name / 'models'
                                                    / 'net_g_latest.pth')
        options['path']['param_key_g'] = tested_weights(baseline)  # what it is compared with
        if options['network_g'] != baseline.options['network_g']:
            raise OptionsError(f'{source}: network_g is another than the one of the baseline of {model}, which it '
                               'starts from and is compared with.')
    gpus = part.get('gpus', 1)
    return Run(name, model, loss, part.get('label', model), label, options, _recipe(options, gpus, baseline),
               gpus if options['num_gpu'] else 0, part.get('cpus') or _useful_cores(options, gpus), baseline)


def _recipe(options, gpus, baseline):
    """A digest that changes if the weights could, and only then."""
    deciding = {key: value for key, value in options.items() if key not in _INDIFFERENT}
    deciding['datasets'] = {'train': {key: value for key, value in (options['datasets'].get('train') or {}).items()
                                      if key not in _INDIFFERENT_DATA}}
    path = {key: value for key, value in options['path'].items() if key.startswith(('param_key', 'strict_load'))}
    if baseline is None:
        path['pretrain_network_g'] = options['path'].get('pretrain_network_g')
    return digest([deciding, path, gpus, baseline and baseline.recipe])


def _useful_cores(options, gpus):
    workers = (options['datasets'].get('train') or {}).get('num_worker_per_gpu') or 0
    return (workers + 1) * max(gpus, 1)


def _dataset(path, key, part):
    _check_keys(path, f'datasets:{key}:', part, _DATASET_KEYS, ('test',))
    names = [part['test']] if isinstance(part['test'], str) else part['test']
    options = _read(path, f'datasets:{key}:test', names)
    for keys, value in (part.get('set') or {}).items():
        _set(path, f'datasets:{key}:set', options, keys, value)
    sets = options.get('datasets')
    if not isinstance(sets, dict) or len(sets) != 1:
        raise OptionsError(f'{path}: datasets:{key}:test: expected an option file with one dataset, '
                           f"{' and '.join(names)} has {len(sets) if isinstance(sets, dict) else 'none'}.")
    label = part.get('label', key)
    next(iter(sets.values()))['name'] = label
    return Dataset(key, label, options, digest(options))


def _read(path, where, names):
    try:
        return read_options(*names)
    except OptionsError as error:
        raise OptionsError(f'{path}: {where}: {error}') from None


def _set(path, where, options, keys, value):
    if not isinstance(keys, str):
        raise OptionsError(f'{path}: {where}: expected the name of an option such as train:total_iter, got {keys!r}.')
    try:
        set_option(options, keys, value)
    except OptionsError as error:
        raise OptionsError(f'{path}: {where}: {str(error).removeprefix("--force_yml: ")}') from None


def _rules(path, flags):
    """The thresholds of the flags; each key of the plan belongs to one of the two rules."""
    owners = {field.name: kind for kind in (ReferenceRule, ArtifactRule) for field in fields(kind)}
    for key in flags:
        if key not in owners:
            raise OptionsError(f'{path}: flags:{key}: unknown{suggest(key, owners)}; expected some of '
                               f'{", ".join(owners)}.')
    try:
        return [kind(**{key: value for key, value in flags.items() if owners[key] is kind})
                for kind in (ReferenceRule, ArtifactRule)]
    except (TypeError, ValueError) as error:
        raise OptionsError(f'{path}: flags: {error}') from None


def _choose(path, what, known, wanted):
    """The wanted part of a mapping of the plan, in the plan's order."""
    if not known:
        raise OptionsError(f'{path}: {what} is empty; give at least one.')
    for key in known:
        if not re.fullmatch(r'[A-Za-z0-9][A-Za-z0-9._+-]*', str(key)):
            raise OptionsError(f'{path}: {what}:{key}: keys become file names; use letters, digits and . _ + - only.')
    if wanted is None:
        return dict(known)
    wanted = [name.strip() for name in wanted.split(',')] if isinstance(wanted, str) else list(map(str, wanted))
    for name in wanted:
        if name not in known and not (what == 'losses' and name == BASELINE):
            raise OptionsError(f"{what}={name}: {path} has no such key{suggest(name, known)}; it has: "
                               f"{', '.join(map(str, known))}.")
    return {key: value for key, value in known.items() if key in wanted}


def _check_keys(path, where, part, known, required=()):
    if not isinstance(part, dict):
        raise OptionsError(f'{path}: {where.rstrip(":")}: expected options (name: value), got {part!r}.')
    for key, value in part.items():
        if key not in known:
            raise OptionsError(f'{path}: {where}{key}: unknown{suggest(key, known)}; expected one of '
                               f'{", ".join(known)}.')
        if value is not None and (not isinstance(value, known[key])
                                  or (isinstance(value, bool) and known[key] is not bool)):
            raise OptionsError(f'{path}: {where}{key}: expected {_IN_WORDS[known[key]]}, got {value!r}.')
        if type(value) is int and value < 0:
            raise OptionsError(f'{path}: {where}{key}: expected 0 or more, got {value}.')
        if isinstance(value, list) and known[key] == (str, list) \
                and not (value and all(isinstance(name, str) for name in value)):
            raise OptionsError(f'{path}: {where}{key}: expected option files, got {value!r}.')
    for key in required:
        if part.get(key) is None:
            raise OptionsError(f'{path}: {where}{key} is missing; expected {_IN_WORDS[known[key]]}.')


def _check_labels(path, what, labels):
    seen = {}
    for key, label in labels.items():
        if '/' in label or label in ('', '.', '..'):
            raise OptionsError(f'{path}: {what}:{key}: {label!r} cannot be a label: it becomes the name of a folder.')
        if label in _TAKEN:
            raise OptionsError(f'{path}: {what}:{key}: {label!r} is what pictures call something else; choose another '
                               'label.')
        if label in seen:
            raise OptionsError(f'{path}: {what}:{key} and {what}:{seen[label]} have the same label, {label!r}; give '
                               'each its own.')
        seen[label] = key


