"""The last step of a study: everything that its runs left behind becomes one report."""
import json
from dataclasses import asdict, replace

import yaml

from basicsr_nriqa.data.clip_store import ClipStore
from basicsr_nriqa.files import write_atomically
from basicsr_nriqa.study.artifact_flags import artifact_flags
from basicsr_nriqa.study.artifacts import read_artifacts
from basicsr_nriqa.study.curves import read_curves
from basicsr_nriqa.study.done import is_checked, is_tested
from basicsr_nriqa.study.flags import reference_flags, reference_notes
from basicsr_nriqa.study.grid import BASELINE
from basicsr_nriqa.study.progress import log_tail, status
from basicsr_nriqa.study.relative_gain import gain_table
from basicsr_nriqa.study.report import write_report
from basicsr_nriqa.study.scenes import find_scenes
from basicsr_nriqa.study.scores import join_names
from basicsr_nriqa.study.table_text import console_table

SCENES = 3  # for each model and data set


def report(study, partial=False):
    """Write the report's folder: tables, figures, ``flags.json`` and ``report.html``.

    Args:
        study (basicsr_nriqa.study.grid.Study): The plan.
        partial (bool): Leave out what is not done, and say so in the report.

    Returns:
        list[Path]: What was written; empty if ``partial`` and nothing can be compared yet.

    Raises:
        ValueError: something is not done and ``partial`` is not set, or the score files do not belong together.
    """
    done, missing = _sort_out(study)
    folder = study.report_folder
    complete = folder / 'complete.txt'  # report.html is there for what is done, too
    complete.unlink(missing_ok=True)
    if missing and not partial:
        names = join_names([repr(name) for name, _, _ in missing])
        raise ValueError(f'{study.output}: not done yet: {names}. Run snakemake to go on, or make a report of what '
                         'is done with --partial.')
    if not any(run.loss != BASELINE for run, _ in done):
        print('Nothing to compare yet: no fine-tuned model and its baseline are both tested.')
        (folder / 'report.html').unlink(missing_ok=True)  # of something else
        return []
    table = gain_table([study.scores(run, dataset) for run, dataset in done], BASELINE,
                       mixed_versions=bool(study.report.get('mixed_versions')))
    curves, notes = _curves(study)
    scenes, more_notes = _scenes(study, done)
    table = replace(table, notes=[*table.notes, *reference_notes(table, study.reference_rule), *notes, *more_notes])
    contents = [read_artifacts(study.artifacts(run, dataset)) for run, dataset in done
                if run.start and is_checked(study, run, dataset)]
    flags = [*reference_flags(table, study.reference_rule), *artifact_flags(contents, study.artifact_rule)]
    print(console_table(table))
    runs = list(dict.fromkeys(run.name for run, _ in done))
    written = write_report(
        table, folder, flags=flags, curves=curves, scenes=scenes,
        options=[(f'{run.model_label}, {run.loss_label}: training', _yaml(run.options))
                 for run in study.runs.values() if run.name in runs]
        + [(f'{dataset.label}: test', _yaml(dataset.options)) for dataset in study.datasets.values()],
        artifacts=contents, missing=missing, title=f'{study.name} ({study.part})' if study.part else study.name)
    path = folder / 'flags.json'
    write_atomically(path, json.dumps([asdict(flag) for flag in flags], indent=1, ensure_ascii=False) + '\n')
    if not missing:
        write_atomically(complete, f'report.html is of {len(study.runs)} trainings, {len(study.datasets)} data sets\n')
    return [*written, path]


def _sort_out(study):
    """What is tested together with its baseline, and what is not done, with the reason and the end of its log."""
    done, missing = [], []
    for run in study.runs.values():
        state = status(study, run)
        if not state.complete:
            missing.append((f'{run.model_label}, {run.loss_label}', state.text, log_tail(state.log)))
        done += [(run, dataset) for dataset in study.datasets.values()
                 if is_tested(study, run, dataset)
                 and (run.start is None or is_tested(study, run.start, dataset))]
    compared = {(run.model, dataset.key) for run, dataset in done if run.start}
    return [(run, dataset) for run, dataset in done if (run.model, dataset.key) in compared], missing


def _curves(study):
    """Curves of all trainings, and notes on those that cannot be had: a report without them is better than none."""
    curves, notes = [], []
    for run in study.runs.values():
        folder = study.output / 'tb_logger' / run.name
        try:
            if folder.is_dir():
                curves.append(read_curves(folder, model=run.model_label, loss=run.loss_label))
        except ValueError as error:
            notes.append(f'No curves of {run.model_label}, {run.loss_label}: {error}')
    return curves, notes


def _scenes(study, done):
    """Scenes of each model and data set, and notes on those that cannot be had, as frames were removed."""
    scenes, notes = [], []
    for model in dict.fromkeys(run.model for run, _ in done):
        for dataset in study.datasets.values():
            runs = [run for run, tested in done if run.model == model and tested is dataset]
            if len(runs) < 2:
                continue
            try:
                gt, lr = (_store(dataset.data, key) for key in ('dataroot_gt', 'dataroot_lq'))
                scenes += find_scenes({run.loss_label: study.frames(run, dataset) for run in runs},
                                      model=runs[0].model_label, dataset=dataset.label, gt=gt, lr=lr if gt else None,
                                      count=study.report.get('scenes', SCENES))
            except ValueError as error:
                notes.append(f'No pictures of {runs[0].model_label} on {dataset.label}: {error}')
    return scenes, notes


def _store(options, key):
    return ClipStore(options[key], (options.get('io_backend') or {}).get('type', 'disk')) if options.get(key) else None


def _yaml(options):
    return yaml.safe_dump(options, sort_keys=False, allow_unicode=True)
