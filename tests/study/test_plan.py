"""What a plan asks for: the paper's grid, parts of it, options that are complete, and recipes that say what changed."""
import os
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from basicsr_nriqa.options import OptionsError, load_yaml
from basicsr_nriqa.study.grid import BASELINE
from basicsr_nriqa.study.plan import read_study

BASE = {'model_type': 'VideoIQAModel', 'network_g': {'type': 'BasicVSRPP', 'mid_channels': 8},
        'datasets': {'train': {'dataroot_gt': 'gt.lmdb', 'dataroot_lq': 'lq.lmdb', 'batch_size_per_gpu': 2,
                               'num_worker_per_gpu': 3}},
        'train': {'total_iter': 4, 'optim_g': {'type': 'Adam', 'lr': 1e-4}}, 'logger': {'print_freq': 1}}
TUNED = {'_base_': 'base.yml', 'train': {'iqa_opt': {'x': {'type': 'IQALoss', 'metric': 'tinyiqa'}}}}
TEST = {'datasets': {'test': {'name': 'there', 'dataroot_gt': 'test.lmdb'}}, 'val': {'metrics': {}}}
PLAN = {'name': 'A study', 'output': 'out', 'models': {'net': {'baseline': 'base.yml', 'finetune': 'tuned_{loss}.yml'}},
        'losses': {'a': 'A & B', 'b': 'B'}, 'datasets': {'set': {'label': 'Set', 'test': 'test.yml'}}}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write files of options into the current folder and read the plan among them."""
    monkeypatch.chdir(tmp_path)

    def write(plan=None, choice=None, **files):
        contents = {'base': BASE, 'tuned_a': TUNED, 'tuned_b': TUNED, 'test': TEST, 'study': {**PLAN, **(plan or {})}}
        for name, content in {**contents, **files}.items():
            Path(f'{name}.yml').write_text(yaml.safe_dump(content))
        return read_study('study.yml', **(choice or {}))
    return write


def test_the_papers_study(monkeypatch):
    monkeypatch.chdir(ROOT)
    study = read_study('workflow/study.yml')
    assert len(study.runs) == 48 and list(study.datasets) == ['vimeo90k', 'reds', 'videos']
    assert len({run.recipe for run in study.runs.values()}) == 48
    assert [run.loss for run in study.runs.values()][:4] == [BASELINE] * 3 + ['lpips_nima_clipiqa']
    iterations = {(run.model, run.loss == BASELINE): run.options['train']['total_iter'] for run in study.runs.values()}
    assert iterations == {('basicvsrpp', True): 5000, ('iseebetter', True): 50000, ('vrt', True): 50000,
                          ('basicvsrpp', False): 15000, ('iseebetter', False): 25000, ('vrt', False): 25000}
    for run in study.runs.values():
        losses = run.options['train']['iqa_opt']
        assert run.loss == BASELINE or '_'.join(losses) == run.loss.removesuffix('_gradnorm')
        assert run.cpus == 7
        for dataset in study.datasets.values():
            options = study.test_options(run, dataset)
            assert options['network_g'] == run.options['network_g'] and len(options['val']['metrics']) == 11
            assert options['path']['pretrain_network_g'] == str(study.checkpoint(run))
            assert options['path']['param_key_g'] == 'params'
        if run.start:
            assert run.options['path']['pretrain_network_g'] == str(study.checkpoint(run.start))
    labels = [run.loss_label for run in study.runs.values() if run.model == 'vrt'][1:]
    paper = (ROOT.parent / 'shared' / 'paper' / 'fig2_relative_gain.csv')
    if paper.is_file():
        assert labels == [line.split(',')[0] for line in paper.read_text().splitlines()[1:]]


def test_the_mini_study_has_what_the_paper_has_in_small(monkeypatch):
    monkeypatch.chdir(ROOT)
    study = read_study('workflow/mini_study.yml')
    assert {run.options['network_g']['type'] for run in study.runs.values()} == {'BasicVSRPP', 'ISeeBetter', 'VRT'}
    assert len(study.runs) == 15 and len(study.datasets) == 2
    balancers = {run.loss: (run.options['train'].get('balance_opt') or {}).get('type') for run in study.runs.values()}
    assert 'gradnorm' in balancers.values() and study.reference_rule.metric == 'gmsd'
    assert all(study.test_options(run, dataset)['path']['param_key_g'] == 'params_ema'
               for run in study.runs.values() for dataset in study.datasets.values())


@pytest.mark.parametrize(('models', 'losses', 'datasets', 'runs', 'sets'), [
    ('vrt', 'lpips,maniqa', 'reds', ['vrt_baseline', 'vrt_lpips', 'vrt_maniqa'], ['reds']),
    (['iseebetter'], ['baseline'], None, ['iseebetter_baseline'], ['vimeo90k', 'reds', 'videos']),
    ('vrt, basicvsrpp', 'maniqa , lpips', ['videos'],
     ['basicvsrpp_baseline', 'vrt_baseline', 'basicvsrpp_lpips', 'basicvsrpp_maniqa', 'vrt_lpips', 'vrt_maniqa'],
     ['videos'])])
def test_a_part_keeps_the_plans_order(monkeypatch, models, losses, datasets, runs, sets):
    monkeypatch.chdir(ROOT)
    whole = read_study('workflow/study.yml')
    part = read_study('workflow/study.yml', models, losses, datasets)
    assert list(part.runs) == runs and list(part.datasets) == sets
    assert all(part.runs[name] == whole.runs[name] for name in runs)
    assert whole.part == '' and whole.report_folder == whole.output / 'report'
    assert part.part.startswith('models=') and part.report_folder.parent == whole.output / 'reports_of_parts'
    assert part.report_folder == read_study('workflow/study.yml', models, losses, datasets).report_folder


def test_written_options_are_complete_and_change_only_with_their_content(write):
    study = write()
    study.write_options()
    path = study.options_file('net_a')
    assert load_yaml(path) == study.runs['net_a'].options and '_base_' not in path.read_text()
    assert load_yaml(study.options_file('net_a__set'))['val']['scores'] == {'model': 'net', 'loss': 'A & B'}
    os.utime(path, (1, 1))
    study.write_options()
    assert path.stat().st_mtime == 1
    write({'set': {'logger:print_freq': 7}}).write_options()
    assert path.stat().st_mtime > 1 and load_yaml(path)['logger'] == {'print_freq': 7}


@pytest.mark.parametrize(('settings', 'changes'), [
    ({'train:total_iter': 5}, True), ({'datasets:train:batch_size_per_gpu': 4}, True),
    ({'network_g:num_blocks': 2}, True), ({'path:param_key_g': 'params_ema'}, True),
    ({'path:pretrain_network_g': 'x.pth'}, True),
    ({'logger:print_freq': 9}, False), ({'datasets:train:num_worker_per_gpu': 9}, False), ({'num_gpu': 0}, False),
    ({'datasets:train:pin_memory': True}, False), ({'path:resume_state': None}, False)])
def test_a_recipe_changes_with_what_decides_the_weights(write, settings, changes):
    base = {**BASE, 'path': {}}
    before, after = write(base=base).runs, write({'set': settings}, base=base).runs
    assert all((before[name].recipe != after[name].recipe) == changes for name in before)


def test_a_recipe_holds_that_of_the_baseline_and_the_number_of_gpus(write):
    before = write().runs
    tuned = {**TUNED, 'train': {**TUNED['train'], 'total_iter': 8}}
    after = write(tuned_b=tuned).runs
    assert [name for name in before if before[name].recipe != after[name].recipe] == ['net_b']
    longer = write(base={**BASE, 'train': {**BASE['train'], 'total_iter': 9}}, tuned_a={**tuned, '_base_': 'base.yml'})
    assert not {run.recipe for run in before.values()} & {run.recipe for run in longer.runs.values()}
    two = write({'models': {'net': {**PLAN['models']['net'], 'gpus': 2}}}).runs
    assert two['net_a'].recipe != before['net_a'].recipe and two['net_a'].cpus == 8


@pytest.mark.parametrize(('num_gpu', 'of_one', 'gpus'), [(0, 0, 0), ('auto', 'auto', 2), (4, 'auto', 2)])
def test_gpus_are_the_plans_to_give(write, num_gpu, of_one, gpus):
    # 4 in one process would be a batch four times as large
    study = write({'models': {'net': {**PLAN['models']['net'], 'gpus': 2}}}, base={**BASE, 'num_gpu': num_gpu})
    run = study.runs['net_a']
    assert (run.options['num_gpu'], run.gpus) == (of_one, gpus)
    assert study.test_options(run, study.datasets['set'])['num_gpu'] == of_one


def test_a_test_is_another_one_with_other_options_or_labels(write):
    def recipes(*arguments, **files):
        study = write(*arguments, **files)
        return {run.name: study.test_recipe(run, study.datasets['set']) for run in study.runs.values()}

    def changed(*arguments, **files):
        return [name for name, recipe in recipes(*arguments, **files).items() if recipe != before[name]]
    before = recipes()
    assert changed({'losses': {'a': 'Another label', 'b': 'B'}}) == ['net_a']
    assert changed({'models': {'net': {**PLAN['models']['net'], 'label': 'Net'}}}) == list(before)
    assert changed(test={**TEST, 'val': {'metrics': {'psnr': {'type': 'calculate_psnr'}}}}) == list(before)
    assert changed(tuned_b={**TUNED, 'train': {'total_iter': 9}}) == ['net_b']
    assert changed({'set': {'logger:print_freq': 7}}) == []


def test_training_sets_are_named_by_what_they_are(write):
    study = write()
    name = study.training_data(study.runs['net_a'])
    assert {study.training_data(run) for run in study.runs.values()} == {name}
    assert study.data(name)['dataroot_gt'] == 'gt.lmdb' and study.data('set')['dataroot_gt'] == 'test.lmdb'
    assert study.database_files(name) == []
    Path('gt.lmdb').mkdir()
    Path('gt.lmdb', 'data.mdb').touch()
    assert study.database_files(name) == ['gt.lmdb/data.mdb']
    before = study.fingerprint(name)
    assert before == study.fingerprint(name)
    Path('gt.lmdb', 'meta_info.txt').write_text('000/im1.png (64,96,3) 1\n')
    assert study.fingerprint(name) != before
    with pytest.raises(OptionsError, match="no data set is called 'nothing'"):
        study.data('nothing')


@pytest.mark.parametrize(('plan', 'message'), [
    ({'modells': {}}, r"study\.yml: modells: unknown \(did you mean 'models'\?\)"),
    ({'name': None}, r'study\.yml: name is missing'),
    ({'losses': {}}, r'study\.yml: losses is empty'),
    ({'losses': {'baseline': 'B'}}, r'losses:baseline: expected `KEY: LABEL`'),
    ({'losses': {'a': 3}}, r'losses:a: expected `KEY: LABEL`.*got 3'),
    ({'losses': {'a': 'A', 'b': 'A'}}, r"losses:b and losses:a have the same label, 'A'"),
    ({'losses': {'a': 'GT'}}, r"losses:a: 'GT' is what pictures call something else"),
    ({'losses': {'a/b': 'A'}}, r'losses:a/b: keys become file names'),
    ({'datasets': {'set': {'test': 'test.yml', 'label': 'a/b'}}}, r"datasets:set: 'a/b' cannot be a label"),
    ({'datasets': {'set': {'test': 'base.yml', 'lable': 'x'}}}, r"datasets:set:lable: unknown \(did you mean 'label'"),
    ({'datasets': {'set': {'test': []}}}, r'datasets:set:test: expected option files'),
    ({'models': {'net': {'baseline': 'base.yml'}}}, r'models:net:finetune is missing'),
    ({'models': {'net': 'base.yml'}}, r'models:net: expected options'),
    ({'models': {'net': {'baseline': 'base.yml', 'finetune': 'tuned_a.yml'}}}, r'an option file with \{loss\} in its'),
    ({'models': {'net': {**PLAN['models']['net'], 'gpus': True}}}, 'models:net:gpus: expected a whole number, got T'),
    ({'models': {'net': {'baseline': 'none.yml', 'finetune': 'tuned_{loss}.yml'}}}, r'none\.yml: cannot read'),
    ({'models': {'net': {'baseline': 'test.yml', 'finetune': 'tuned_{loss}.yml'}}}, r'test\.yml: train is missing'),
    ({'models': {'a': PLAN['models']['net'], 'a_b': PLAN['models']['net']}, 'losses': {'b_b': 'X', 'b': 'Y'}},
     r'two trainings would be called a_b_b; change a key'),
    ({'set': {'trian:total_iter': 5}}, r"study\.yml: set: there are no options 'trian' \(did you mean 'train'"),
    ({'flags': {'worsend': 5}}, r"flags:worsend: unknown \(did you mean 'worsened'"),
    ({'flags': {'worsened': -5}}, r'flags: reference rule: worsened should be 0 or more'),
    ({'report': {'scenes': 'many'}}, r"report:scenes: expected a whole number, got 'many'"),
    ({'report': {'scenes': -1}}, 'report:scenes: expected 0 or more, got -1'),
    ({'set': {5: 3}}, 'set: expected the name of an option .* got 5'),
    ({'set': {'train:total_iter': 'many'}}, "train:total_iter: expected a whole number, 1 or more, got 'many'")])
def test_a_bad_plan_is_one_clear_error(write, plan, message):
    files = {f'tuned_{loss}': TUNED for loss in ('b_b', 'b')}
    with pytest.raises(OptionsError, match=message):
        write(plan, **files)


@pytest.mark.parametrize(('choice', 'message'), [
    ({'models': 'nets'}, r"models=nets: study\.yml has no such key \(did you mean 'net'\?\); it has: net"),
    ({'losses': ['a', 'c']}, r'losses=c: study\.yml has no such key'),
    ({'datasets': ''}, r'datasets=: study\.yml has no such key')])
def test_a_bad_choice_names_what_there_is(write, choice, message):
    with pytest.raises(OptionsError, match=message):
        write(choice=choice)


def test_a_fine_tune_of_another_network_is_refused(write):
    with pytest.raises(OptionsError, match=r'tuned_b\.yml: network_g is another than the one of the baseline of net'):
        write(tuned_b={**TUNED, 'network_g': {'mid_channels': 16}})
