"""The grid of a study: its trainings, its data sets, and where everything of them lies."""
import hashlib
import json
import re
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import yaml

from basicsr_nriqa.files import sha256, write_atomically
from basicsr_nriqa.options import OptionsError
from basicsr_nriqa.study.artifact_flags import ArtifactRule
from basicsr_nriqa.study.flags import ReferenceRule

BASELINE = 'baseline'


@dataclass(frozen=True)
class Run:
    """One training of the grid, and what its tests need.

    Attributes:
        name (str): ``MODEL_LOSS``, the name of its experiment.
        model, loss (str): Keys of the plan.
        model_label, loss_label (str): What tables call them.
        options (dict): Complete options of the training.
        recipe (str): Digest of all that decides its weights, with those of its baseline.
        gpus (int): Processes, each with a GPU where there is one; 0 if the options say that there is none.
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
        part (str): Which part of the plan this is, such as ``models=vrt``; empty for the whole.
    """

    name: str
    source: Path
    output: Path
    runs: dict
    datasets: dict
    reference_rule: ReferenceRule
    artifact_rule: ArtifactRule
    report: dict
    part: str = ''

    def options_file(self, name):
        """Where the complete options of a training, or of the test ``RUN__DATASET``, are written."""
        return self.output / 'options' / f'{name}.yml'

    def experiment(self, run):
        """The folder of a training: BasicSR's ``experiments/NAME``."""
        return self.output / 'experiments' / run.name

    def checkpoint(self, run):
        """The weights that a training ends with."""
        return self.experiment(run) / 'models' / 'net_g_latest.pth'

    @staticmethod
    def test_name(run, dataset):
        """What the test of a training on a dataset is called, ``RUN__DATASET``; so are its files."""
        return f'{run.name}__{dataset.key}'

    def frames(self, run, dataset):
        """Where a test leaves its frames."""
        return self.output / 'results' / self.test_name(run, dataset) / 'visualization' / dataset.label

    def trained(self, run):
        """A file that is there when a training is complete, see :mod:`basicsr_nriqa.study.steps`."""
        return self.output / 'trained' / f'{run.name}.json'

    def scores(self, run, dataset):
        """The score file of a test."""
        return self.output / 'scores' / f'{self.test_name(run, dataset)}.json'

    def artifacts(self, run, dataset):
        """The artifact file of a fine-tuned model on a dataset."""
        return self.output / 'artifacts' / f'{self.test_name(run, dataset)}.json'

    @property
    def report_folder(self):
        """Where the report is: ``report``, or for a part of the plan a folder of its own."""
        if not self.part:
            return self.output / 'report'
        name = re.sub('[^A-Za-z0-9]+', '-', self.part)[:80]
        return self.output / 'reports_of_parts' / f'{name}_{digest(self.part)[:4]}'

    def lock(self, name):
        """A file that a process holds locked as long as it works on a training or test of this name."""
        return self.output / 'locks' / f'{name}.lock'

    def log(self, step, name):
        """What a step prints."""
        return self.output / 'logs' / f'{step}_{name}.log'

    def test_options(self, run, dataset):
        """Complete options of the test of a training on a dataset."""
        options = deepcopy(dataset.options)
        options['name'] = self.test_name(run, dataset)
        options['network_g'] = run.options['network_g']
        options['num_gpu'] = run.options['num_gpu']
        options.setdefault('path', {})['pretrain_network_g'] = str(self.checkpoint(run))
        options['path']['param_key_g'] = tested_weights(run)
        options['val'] = {**(options.get('val') or {}), 'save_img': True, 'pbar': False,
                          'scores': {'model': run.model_label, 'loss': run.loss_label}}
        return options

    def test_recipe(self, run, dataset):
        """Digest of all that decides the score file of a test, but for its data and weights."""
        return digest([dataset.recipe, run.recipe, run.model_label, run.loss_label])

    def training_data(self, run):
        """A name for the training set of a run, the same for runs that share it; :meth:`data` takes it."""
        return f"train_{digest(self._train_data(run))[:8]}"

    def data(self, name):
        """Options of a data set: of a test set by its key, or of a training set by :meth:`training_data`.

        Raises:
            OptionsError: there is none of this name.
        """
        if name in self.datasets:
            return self.datasets[name].data
        known = {self.training_data(run): self._train_data(run) for run in self.runs.values()}
        if name not in known:
            raise OptionsError(f"{self.source}: no data set is called '{name}'; there are: "
                               f"{', '.join([*known, *self.datasets])}.")
        return known[name]

    def database_files(self, name):
        """The files of a data set's databases, as far as they are there."""
        return [str(place / 'data.mdb') for place in self._places(name) if (place / 'data.mdb').is_file()]

    def fingerprint(self, name):
        """Something that changes when a data set's databases are packed with other content; quick to have."""
        known = []
        for place in self._places(name):
            database = place / 'data.mdb'
            known.append(database.stat().st_size if database.is_file() else None)
            known.append(_digest_of(place / 'meta_info.txt'))  # has every frame with its size
        clips = self.data(name).get('meta_info_file')
        return digest([*known, _digest_of(Path(clips).expanduser())] if clips else known)

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
            self.write_training(run)
            for dataset in self.datasets.values():
                self.write_test(run, dataset)

    def write_training(self, run):
        """Write the option file of one training."""
        _write_options(self.options_file(run.name), run.options)

    def write_test(self, run, dataset):
        """Write the option file of one test."""
        options = self.test_options(run, dataset)
        _write_options(self.options_file(options['name']), options)


def tested_weights(run):
    """The key of the weights that a test of a training takes: the moving average where there is one."""
    return 'params_ema' if run.options['train'].get('ema_decay') else 'params'


def digest(content):
    """A short name for plain data, the same for equal data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _digest_of(path):
    return sha256(path) if path.is_file() else None


def _write_options(path, options):
    text = yaml.safe_dump(options, sort_keys=False, allow_unicode=True)
    if not path.is_file() or path.read_text(encoding='utf-8') != text:
        write_atomically(path, text)
