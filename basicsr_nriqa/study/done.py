"""What of a study is complete and of the present plan: each result is compared with what it would be made of now.

Snakemake judges by its own memory, which another folder, a removed ``.snakemake`` or a step by hand leave without a
word. So the results say themselves what they were made of: a training in its file, the others in a note
(``recipes/KIND_NAME.txt``) that is written before they are begun.
"""
import json
import os
import time
from pathlib import Path

from basicsr_nriqa.files import write_atomically

_LONG_AGO = 946684800  # the year 2000: older than any result


def trained_with(marker):
    """The recipe that a complete training was made by; None if it is not complete."""
    return _content(marker).get('recipe')


def weights(study, run):
    """The sha256 of the weights of a complete training, by whatever recipe; None if there are none."""
    return _content(study.trained(run)).get('sha256')


def start_of(study, run):
    """The sha256 of the weights that a training starts from now; None for a baseline."""
    return run.start and weights(study, run.start)


def is_trained(study, run):
    """Whether a training is complete, by its present recipe and from the present weights of its baseline."""
    content = _content(study.trained(run))
    return content.get('recipe') == run.recipe and content.get('start') == start_of(study, run)


def made_of_test(study, run, dataset):
    """What a test would be made of now, as text: options, data and weights."""
    return f'{study.test_recipe(run, dataset)} {study.fingerprint(dataset.key)} {weights(study, run)}'


def made_of_artifacts(study, run, dataset):
    """What a check for artifacts would be made of now, as text: two tests, and how many clips to look at."""
    return ' '.join([made_of_test(study, run, dataset), made_of_test(study, run.start, dataset),
                     str(study.report.get('artifact_clips'))])


def is_tested(study, run, dataset):
    """Whether there is a score file of the present options, data and weights."""
    return is_trained(study, run) and _is_of(study, study.scores(run, dataset), made_of_test(study, run, dataset))


def is_checked(study, run, dataset):
    """Whether there is an artifact file of the present tests."""
    return is_tested(study, run, dataset) and is_tested(study, run.start, dataset) \
        and _is_of(study, study.artifacts(run, dataset), made_of_artifacts(study, run, dataset))


def begin(study, result, made_of):
    """Note what a result will be made of, and remove the one before: what is there is always of the note."""
    Path(result).unlink(missing_ok=True)
    write_atomically(_note(study, result), made_of)


def mark_outdated(study):
    """Give every training, test and check a file (``outdated/NAME.mark`` beside it) that is newer if it is outdated.

    As inputs of the rules in workflow/Snakefile these make Snakemake do it again, whatever it remembers.
    """
    for run in study.runs.values():
        _mark(study.trained(run), is_trained(study, run))
        for dataset in study.datasets.values():
            _mark(study.scores(run, dataset), is_tested(study, run, dataset))
            if run.start:
                _mark(study.artifacts(run, dataset), is_checked(study, run, dataset))


def _mark(result, is_current):
    mark = result.parent / 'outdated' / f'{result.stem}.mark'
    if not mark.is_file():
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    when = time.time() if result.is_file() and not is_current else _LONG_AGO
    if mark.stat().st_mtime != when:
        mark.write_text(str(when))  # Snakemake does nothing for a file that is newer but says the same
        os.utime(mark, (when, when))


def _is_of(study, result, made_of):
    try:
        return result.is_file() and _note(study, result).read_text(encoding='utf-8') == made_of
    except OSError:
        return False


def _note(study, result):
    return study.output / 'recipes' / f'{result.parent.name}_{result.stem}.txt'


def _content(marker):
    try:
        content = json.loads(Path(marker).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
