"""benchmarks/artifacts.py, the table of what keeps a metric from being gamed."""
import re
import sys

import pytest
from conftest import ROOT, run_python

from basicsr_nriqa.study.artifacts import perturbed_gains
from basicsr_nriqa.study.gaming import PERTURBATIONS


@pytest.fixture
def runs(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'benchmarks')
    import artifacts_runs
    yield artifacts_runs
    for name in ('artifacts_runs', 'artifacts_metrics'):
        sys.modules.pop(name, None)


@pytest.mark.parametrize('lower_better', [False, True])
def test_what_is_lost_is_what_the_check_for_artifacts_does_not_find_kept(runs, lower_better):
    sign = -1 if lower_better else 1
    before = {'a': {'none': 0.5, 'jpeg': 0.4, 'blur': 0.6, 'shift': 0.5, 'webp': 0.3},
              'b': {'none': 0.3, 'jpeg': 0.3, 'blur': 0.2, 'shift': 0.3, 'webp': 0.3}}
    after = {clip: {name: score + sign * 0.1 * index for index, (name, score) in enumerate(scores.items(), 1)}
             for clip, scores in before.items()}
    found = runs.gains(before, after, lower_better)
    expected = perturbed_gains({clip: {'tuned': after[clip], 'baseline': before[clip]} for clip in before},
                               lower_better)
    assert found['gain'] == pytest.approx(expected['gain']) == pytest.approx(0.1)
    for name in PERTURBATIONS:
        kept = expected['perturbations'][name]['kept']
        assert found['lost'][name] == pytest.approx(found['gain'] * (1 - kept))
    assert found['lost'].keys() == {*PERTURBATIONS, 'webp'}


@pytest.mark.slow
def test_command_makes_table_and_picture_and_goes_on_where_it_was(tmp_path):
    arguments = ['benchmarks/artifacts.py', '--baseline-iterations', '2', '--iterations', '2', '--network', '8', '1',
                 '--metrics', 'tinyiqa', '--methods', 'smooth', 'robust', '--workers', '1', '--shared', tmp_path / 'no',
                 '--work', tmp_path / 'work', '--out', tmp_path / 'out']
    done = run_python(*arguments, '--seeds', '0', cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    first = (tmp_path / 'work/runs/tinyiqa/plain_0.json').stat().st_mtime_ns
    done = run_python(*arguments, '--seeds', '0', '1', cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / 'work/runs/tinyiqa/plain_0.json').stat().st_mtime_ns == first
    head, _, plain, smooth = (tmp_path / 'out/tinyiqa.md').read_text().splitlines()  # the ensembles need other networks
    assert head.startswith('| method | tinyiqa, % | of plain | psnr | ssim |') and plain.startswith('| plain |')
    assert smooth.startswith('| smooth gradient, 1 px |') and re.search(r'\d\.\d\d \|$', smooth)
    assert ' ± ' in plain and (tmp_path / 'out/tinyiqa.png').stat().st_size > 10000
    done = run_python(*arguments, '--seeds', '0', '--iterations', '3', cwd=ROOT)
    assert done.returncode != 0 and 'holds runs with other settings' in done.stderr
