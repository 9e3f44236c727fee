"""The report of a plan: of all that is done by it, naming what is not; nothing that is lost keeps the rest from it."""
import json

import cv2
import numpy as np
import pytest
from test_done import plan, put_trained  # noqa: F401 a fixture

from basicsr_nriqa.study import done
from basicsr_nriqa.study.artifacts import check_artifacts, write_artifacts
from basicsr_nriqa.study.gather import report
from basicsr_nriqa.study.scores import write_scores


def put_tested(study, run, psnr, frames=True):
    """A score file, and frames of two clips that differ by run."""
    dataset = study.datasets['set']
    path = study.scores(run, dataset)
    done.begin(study, path, done.made_of_test(study, run, dataset))
    write_scores(path, model=run.model_label, loss=run.loss_label, dataset=dataset.label, checkpoint=None,
                 videos={clip: {'psnr': psnr + index} for index, clip in enumerate('xy')}, versions={},
                 lower_better={'psnr': False}, optimised=[])
    for clip in 'xy' if frames else ():
        folder = study.frames(run, dataset) / clip
        folder.mkdir(parents=True)
        picture = np.random.default_rng(int(psnr)).integers(0, 255, (64, 96, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f'im1_{run.name}__set.png'), picture)


def put_artifacts(study, run):
    dataset = study.datasets['set']
    path = study.artifacts(run, dataset)
    done.begin(study, path, done.made_of_artifacts(study, run, dataset))
    write_artifacts(path, check_artifacts(study.frames(run, dataset), study.frames(run.start, dataset), [],
                                          model=run.model_label, loss=run.loss_label, dataset=dataset.label,
                                          progress=False))


@pytest.fixture
def study(plan):  # noqa: F811
    """Trained and tested is the baseline and one of two losses."""
    test = {'datasets': {'test': {'name': 'there'}}, 'val': {'metrics': {}}}
    study = plan({'report': {'scenes': 1}, 'flags': {'metric': 'psnr', 'worsened': 5}}, test=test)
    for name in ('net_baseline', 'net_a'):
        put_trained(study, study.runs[name])
        put_tested(study, study.runs[name], {'net_baseline': 30, 'net_a': 27}[name])
    return study


def test_a_report_of_what_is_done_names_what_is_not(study):
    with pytest.raises(ValueError, match=r"out: not done yet: 'net, A & B', 'net, B'\. Run snakemake .*--partial"):
        report(study)
    written = {path.name for path in report(study, partial=True)}
    page = (study.output / 'report' / 'report.html').read_text()
    assert {'report.html', 'table.csv', 'figure.pdf', 'figure3.png', 'flags.json'} <= written
    assert not (study.output / 'report' / 'complete.txt').exists()
    assert 'not begun' in page and 'A &amp; B' in page and 'data:image/webp' in page
    flags = json.loads((study.output / 'report' / 'flags.json').read_text())
    assert [flag['rule'] for flag in flags] == ['reference'] and flags[0]['loss'] == 'A & B'


def test_results_of_other_options_are_in_no_report(study):
    put_trained(study, study.runs['net_baseline'], 'other weights')
    assert report(study, partial=True) == [] and not (study.output / 'report' / 'report.html').exists()


def test_lost_frames_and_curves_are_a_note(study):
    for path in study.frames(study.runs['net_a'], study.datasets['set']).glob('y/*'):
        path.unlink()
    (study.output / 'tb_logger' / 'net_a').mkdir(parents=True)
    report(study, partial=True)
    page = (study.output / 'report' / 'report.html').read_text()
    assert 'No pictures of net on Set: ' in page and 'No curves of net, A &amp; B: ' in page
    assert not (study.output / 'report' / 'figure3.png').exists()


def test_nothing_to_compare_leaves_no_page_of_before(study):
    report(study, partial=True)
    study.scores(study.runs['net_a'], study.datasets['set']).unlink()
    assert report(study, partial=True) == []
    assert not (study.output / 'report' / 'report.html').exists()


def test_the_whole_plan_is_marked_as_complete(study):
    put_trained(study, study.runs['net_b'])
    put_tested(study, study.runs['net_b'], 33)
    for name in ('net_a', 'net_b'):
        put_artifacts(study, study.runs[name])
    report(study)
    assert (study.output / 'report' / 'complete.txt').is_file()
    table = (study.output / 'report' / 'table.csv').read_text().splitlines()
    assert [line.split(',')[0] for line in table] == ['loss', 'B', 'A & B']
