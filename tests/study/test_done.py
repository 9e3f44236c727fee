"""What counts as done: only results of the present plan, data and weights, and Snakemake is told of the others."""
import json
from pathlib import Path

import pytest
import yaml
from test_plan import BASE, PLAN, TEST, TUNED

from basicsr_nriqa.study import done, steps
from basicsr_nriqa.study.plan import read_study


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Write a plan with its files, changed by the arguments, and read it."""
    monkeypatch.chdir(tmp_path)

    def plan(changes=None, **files):
        contents = {'base': BASE, 'tuned_a': TUNED, 'tuned_b': TUNED, 'test': TEST, **files}
        for name, content in {**contents, 'study': {**PLAN, **(changes or {})}}.items():
            Path(f'{name}.yml').write_text(yaml.safe_dump(content))
        return read_study('study.yml')
    return plan


def put(path, content=''):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def put_trained(study, run, sha256='0'):
    put(study.trained(run), json.dumps({'recipe': run.recipe, 'start': done.start_of(study, run), 'sha256': sha256}))


def finish(study):
    """All results of a plan, empty as they are."""
    for run in study.runs.values():
        put_trained(study, run)
        for dataset in study.datasets.values():
            done.begin(study, study.scores(run, dataset), done.made_of_test(study, run, dataset))
            put(study.scores(run, dataset))
            if run.start:
                done.begin(study, study.artifacts(run, dataset), done.made_of_artifacts(study, run, dataset))
                put(study.artifacts(run, dataset))


def outdated(study):
    """What Snakemake would do again because of its mark: results that are older than it."""
    done.mark_outdated(study)
    marks = list(study.output.glob('*/outdated/*.mark'))
    assert len(marks) == 8
    return sorted(f'{result.parent.name}/{result.stem}' for mark in marks
                  for result in mark.parents[1].glob(f'{mark.stem}.json')
                  if mark.stat().st_mtime > result.stat().st_mtime)


def test_nothing_is_outdated_where_nothing_is_there_or_nothing_changed(plan):
    study = plan()
    assert outdated(study) == []
    finish(study)
    assert outdated(study) == outdated(plan({'set': {'logger:print_freq': 9}})) == []


@pytest.mark.parametrize(('changes', 'files', 'expected'), [
    ({}, {'tuned_b': {**TUNED, 'train': {'total_iter': 9}}},
     ['artifacts/net_b__set', 'scores/net_b__set', 'trained/net_b']),
    ({'losses': {'a': 'New label', 'b': 'B'}}, {}, ['artifacts/net_a__set', 'scores/net_a__set']),
    ({'report': {'artifact_clips': 3}}, {}, ['artifacts/net_a__set', 'artifacts/net_b__set']),
    ({}, {'test': {**TEST, 'val': {'metrics': {'x': {}}}}},
     [f'artifacts/net_{loss}__set' for loss in 'ab'] + [f'scores/net_{loss}__set' for loss in ('a', 'b', 'baseline')])])
def test_a_change_makes_what_depends_on_it_outdated_and_back_again(plan, changes, files, expected):
    finish(plan())
    assert outdated(plan(changes, **files)) == expected
    assert outdated(plan()) == []


def test_other_weights_of_the_same_recipe_make_all_that_was_made_of_them_outdated(plan):
    study = plan()
    finish(study)
    put_trained(study, study.runs['net_baseline'], 'trained again on another GPU')
    assert [name for name in outdated(study) if 'net_a' in name] == [
        'artifacts/net_a__set', 'scores/net_a__set', 'trained/net_a']
    assert 'scores/net_baseline__set' in outdated(study) and 'trained/net_baseline' not in outdated(study)


def test_other_data_make_scores_outdated(plan):
    finish(plan())
    put(Path('test.lmdb', 'meta_info.txt'), 'other/frames.png (64,96,3) 1')
    assert 'scores/net_a__set' in outdated(plan())


def test_a_result_that_was_begun_is_not_there(plan):
    study = plan()
    finish(study)
    run, dataset = study.runs['net_a'], study.datasets['set']
    done.begin(study, study.scores(run, dataset), done.made_of_test(study, run, dataset))
    assert not done.is_tested(study, run, dataset) and not done.is_checked(study, run, dataset)


@pytest.mark.parametrize('content', ['', '{"recipe"', '[1]', None])
def test_a_training_without_a_whole_file_is_not_complete(plan, content):
    study = plan()
    if content is not None:
        put(study.trained(study.runs['net_baseline']), content)
    assert not done.is_trained(study, study.runs['net_baseline'])


def test_a_step_refuses_to_work_on_what_is_outdated(plan):
    study = plan()
    run, dataset = study.runs['net_a'], study.datasets['set']
    with pytest.raises(ValueError, match='net_baseline is not trained by the present options'):
        steps.train(study, run)
    put_trained(study, study.runs['net_baseline'])
    put_trained(study, run)
    with pytest.raises(ValueError, match='net_a is not trained by the present options'):
        later = plan({}, tuned_a={**TUNED, 'train': {'total_iter': 9}})
        steps.test(later, later.runs['net_a'], dataset)
    with pytest.raises(ValueError, match='net_baseline is not tested on Set by the present options'):
        steps.measure_artifacts(study, run, dataset)
    assert not list(study.output.glob('locks/*'))
