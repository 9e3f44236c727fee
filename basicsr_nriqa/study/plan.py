"""The plan of a study: which trainings and tests a ``study.yml`` asks for, each with its complete options.

A study is a grid: models x (a baseline and losses) x datasets. A training's options are the option files that the plan
names, merged; nothing else decides what is computed. ``workflow/Snakefile`` runs a plan, ``scripts/list_study.py``
shows it.
"""
import hashlib
import json
import re
from copy import deepcopy
from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from basicsr_nriqa.files import sha256, write_atomically
from basicsr_nriqa.options import OptionsError, load_yaml, read_options, set_option
from basicsr_nriqa.study.artifact_flags import ArtifactRule
from basicsr_nriqa.study.flags import ReferenceRule
from basicsr_nriqa.suggestion import suggest

BASELINE = 'baseline'
_KEYS = {'name': str, 'output': str, 'models': dict, 'losses': dict, 'datasets': dict, 'set': dict, 'flags': dict,
         'report': dict}
_REQUIRED = ('name', 'output', 'models', 'losses', 'datasets')
_MODEL_KEYS = {'label': str, 'baseline': (str, list), 'finetune': (str, list), 'gpus': int, 'cpus': int, 'set': dict}
_DATASET_KEYS = {'label': str, 'test': (str, list), 'set': dict}
_REPORT_KEYS = {'scenes': int, 'artifact_clips': int, 'mixed_versions': bool}
# what of a training's options has no influence on its weights
_INDIFFERENT = ('name', 'logger', 'val', 'path', 'num_gpu')
_INDIFFERENT_DATA = ('name', 'num_worker_per_gpu', 'prefetch_mode', 'num_prefetch_queue', 'pin_memory',
                     'persistent_workers')


@dataclass(frozen=True)
class Run:
    """One training of the grid, and what its tests need.

    Attributes:
        name (str): ``MODEL_LOSS``, the name of its experiment.
        model, loss (str): Keys of the plan.
        model_label, loss_label (str): What tables call them.
        options (dict): Complete options of the training.
        recipe (str): Digest of all that decides its weights, with those of its baseline.
        gpus (int): Processes, each with a GPU where there is one.
        cpus (int): CPU cores that it is worth giving it.
        start (Run | None): The baseline that it starts from.
    """

    name: str
    model: str
    loss: str
    model_label: str
    loss_label: str
    options: dict
    recipe: str
    gpus: int
    cpus: int
    start: object = None


@dataclass(frozen=True)
class Dataset:
    """One test set of the grid.

    Attributes:
        key (str): Key of the plan.
        label (str): What tables call it.
        options (dict): Those of a test on it, without a network.
        recipe (str): Digest of all that decides its scores.
    """

    key: str
    label: str
    options: dict
    recipe: str

    @property
    def data(self):
        """dict: Options of the data set itself."""
        return next(iter(self.options['datasets'].values()))


@dataclass(frozen=True)
class Study:
    """A plan that was read; :func:`read_study` makes it.

    Attributes:
        name (str): Title of the report.
        source (Path): The file.
        output (Path): All results lie under this folder.
        runs (dict[str, Run]): Baselines first.
        datasets (dict[str, Dataset]): By key.
        reference_rule (basicsr_nriqa.study.flags.ReferenceRule): From ``flags``.
        artifact_rule (basicsr_nriqa.study.artifact_flags.ArtifactRule): From ``flags``.
        report (dict): That part of the file.
    """

    name: str
    source: Path
    output: Path
    runs: dict
    datasets: dict
    reference_rule: ReferenceRule
    artifact_rule: ArtifactRule
    report: dict

    def options_file(self, name):
        """Where the complete options of a training, or of the test ``RUN__DATASET``, are written."""
        return self.output / 'options' / f'{name}.yml'

    def experiment(self, run):
        """The folder of a training: BasicSR's ``experiments/NAME``."""
        return self.output / 'experiments' / run.name

    def checkpoint(self, run):
        """The weights that a training ends with."""
        return self.experiment(run) / 'models' / 'net_g_latest.pth'

    def frames(self, run, dataset):
        """Where a test leaves its frames."""
        return self.output / 'results' / f'{run.name}__{dataset.key}' / 'visualization' / dataset.label

    def trained(self, run):
        """A file that is there when a training is complete, see :mod:`basicsr_nriqa.study.steps`."""
        return self.output / 'trained' / f'{run.name}.json'

    def scores(self, run, dataset):
        """The score file of a test."""
        return self.output / 'scores' / f'{run.name}__{dataset.key}.json'

    def artifacts(self, run, dataset):
        """The artifact file of a fine-tuned model on a dataset."""
        return self.output / 'artifacts' / f'{run.name}__{dataset.key}.json'

    def log(self, step, name):
        """What a step prints."""
        return self.output / 'logs' / f'{step}_{name}.log'

    def test_options(self, run, dataset):
        """Complete options of the test of a training on a dataset."""
        options = deepcopy(dataset.options)
        options['name'] = f'{run.name}__{dataset.key}'
        options['network_g'] = run.options['network_g']
        options['num_gpu'] = 1 if run.options.get('num_gpu') not in (0, 'auto') else run.options.get('num_gpu')
        options.setdefault('path', {})['pretrain_network_g'] = str(self.checkpoint(run))
        options['path']['param_key_g'] = 'params_ema' if run.options['train'].get('ema_decay') else 'params'
        options['val'] = {**(options.get('val') or {}), 'save_img': True, 'pbar': False,
                          'scores': {'model': run.model_label, 'loss': run.loss_label}}
        return options

    def training_data(self, run):
        """A name for the training set of a run, the same for runs that share it; :meth:`data` takes it."""
        return f"train_{_digest(self._train_data(run))[:8]}"

    def data(self, name):
        """Options of a data set: of a test set by its key, or of a training set by :meth:`training_data`.

        Raises:
            OptionsError: there is none of this name.
        """
        known = {self.training_data(run): self._train_data(run) for run in self.runs.values()}
        known.update({key: dataset.data for key, dataset in self.datasets.items()})
        if name not in known:
            raise OptionsError(f"{self.source}: no data set is called '{name}'; there are: {', '.join(known)}.")
        return known[name]

    def database_files(self, name):
        """The files of a data set's databases, as far as they are there."""
        return [str(place / 'data.mdb') for place in self._places(name) if (place / 'data.mdb').is_file()]

    def fingerprint(self, name):
        """Something that changes when a data set's databases are packed with other content; quick to have."""
        known = []
        for place in self._places(name):
            for file in (place / 'data.mdb', place / 'meta_info.txt'):  # the list has every frame with its size
                known.append(file.stat().st_size if file.is_file() else None)
            known.append(sha256(place / 'meta_info.txt') if (place / 'meta_info.txt').is_file() else None)
        return _digest(known)

    def _places(self, name):
        options = self.data(name)
        return [Path(options[key]).expanduser() for key in ('dataroot_gt', 'dataroot_lq') if options.get(key)]

    @staticmethod
    def _train_data(run):
        options = run.options['datasets'].get('train') or {}
        return {key: options.get(key) for key in ('dataroot_gt', 'dataroot_lq', 'meta_info_file', 'io_backend')}

    def write_options(self):
        """Write the option file of every training and test; a file that says the same already is left alone."""
        for run in self.runs.values():
            _write_options(self.options_file(run.name), run.options)
            for dataset in self.datasets.values():
                options = self.test_options(run, dataset)
                _write_options(self.options_file(options['name']), options)


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
                 *_rules(path, content.get('flags') or {}), content.get('report') or {})


def _run(path, output, content, model, loss, label, baseline):
    part = content['models'][model]
    which = 'finetune' if baseline else 'baseline'
    names = [part[which]] if isinstance(part[which], str) else part[which]
    if baseline and not any('{loss}' in name for name in names):
        raise OptionsError(f'{path}: models:{model}:finetune: expected an option file with {{loss}} in its name, got '
                           f'{part[which]!r}.')
    names = [name.replace('{loss}', loss) for name in names]
    options, source = read_options(*names), ' and '.join(names)
    for key in ('train', 'network_g', 'datasets'):
        if not isinstance(options.get(key), dict):
            raise OptionsError(f'{source}: {key} is missing; {path} names it for models:{model}:{which}.')
    for where, settings in (('set', content.get('set')), (f'models:{model}:set', part.get('set'))):
        for keys, value in (settings or {}).items():
            _set(path, where, options, keys, value)
    name = f'{model}_{loss}'
    options['name'] = name
    options.setdefault('path', {})
    if baseline:
        options['path']['pretrain_network_g'] = str(output / 'experiments' / baseline.name / 'models'
                                                    / 'net_g_latest.pth')
        if options['network_g'] != baseline.options['network_g']:
            raise OptionsError(f'{source}: network_g is another than the one of the baseline of {model}, which it '
                               'starts from and is compared with.')
    gpus = part.get('gpus', 1)
    return Run(name, model, loss, part.get('label', model), label, options, _recipe(options, gpus, baseline), gpus,
               part.get('cpus') or _useful_cores(options, gpus), baseline)


def _recipe(options, gpus, baseline):
    """A digest that changes if the weights could, and only then."""
    deciding = {key: value for key, value in options.items() if key not in _INDIFFERENT}
    deciding['datasets'] = {'train': {key: value for key, value in (options['datasets'].get('train') or {}).items()
                                      if key not in _INDIFFERENT_DATA}}
    path = {key: value for key, value in options['path'].items() if key.startswith(('param_key', 'strict_load'))}
    if baseline is None:
        path['pretrain_network_g'] = options['path'].get('pretrain_network_g')
    return _digest([deciding, path, gpus, baseline and baseline.recipe])


def _digest(content):
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _useful_cores(options, gpus):
    workers = (options['datasets'].get('train') or {}).get('num_worker_per_gpu') or 0
    return (workers + 1) * max(gpus, 1)


def _dataset(path, key, part):
    _check_keys(path, f'datasets:{key}:', part, _DATASET_KEYS, ('test',))
    names = [part['test']] if isinstance(part['test'], str) else part['test']
    options = read_options(*names)
    for keys, value in (part.get('set') or {}).items():
        _set(path, f'datasets:{key}:set', options, keys, value)
    sets = options.get('datasets')
    if not isinstance(sets, dict) or len(sets) != 1:
        raise OptionsError(f'{path}: datasets:{key}:test: expected an option file with one dataset, '
                           f"{' and '.join(names)} has {len(sets) if isinstance(sets, dict) else 'none'}.")
    label = part.get('label', key)
    next(iter(sets.values()))['name'] = label
    return Dataset(key, label, options, _digest(options))


def _set(path, where, options, keys, value):
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
        raise OptionsError(f'{path}: {what}: is empty.')
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
            raise OptionsError(f'{path}: {where}{key}: {value!r} cannot be used here.')
        if isinstance(value, list) and known[key] == (str, list) \
                and not (value and all(isinstance(name, str) for name in value)):
            raise OptionsError(f'{path}: {where}{key}: expected option files, got {value!r}.')
    for key in required:
        if part.get(key) is None:
            raise OptionsError(f'{path}: {where}{key} is missing.')


def _check_labels(path, what, labels):
    seen = {}
    for key, label in labels.items():
        if '/' in label or label in ('', '.', '..'):
            raise OptionsError(f'{path}: {what}:{key}: {label!r} cannot be a label: it becomes the name of a folder.')
        if label in seen:
            raise OptionsError(f'{path}: {what}:{key} and {what}:{seen[label]} have the same label, {label!r}.')
        seen[label] = key


def _write_options(path, options):
    text = yaml.safe_dump(options, sort_keys=False, allow_unicode=True)
    if not path.is_file() or path.read_text(encoding='utf-8') != text:
        write_atomically(path, text)
