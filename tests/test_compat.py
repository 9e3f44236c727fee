"""Each repair of BasicSR: what was broken works now, and foreign code is refused."""
import re
import sys
import threading
from pathlib import Path

import pytest
import torch
from basicsr.data.prefetch_dataloader import PrefetchDataLoader
from basicsr.models.lr_scheduler import CosineAnnealingRestartLR
from basicsr.utils import mkdir_and_rename
from conftest import run_python

import basicsr
from basicsr_nriqa import compat


@pytest.mark.parametrize('code', [
    'import basicsr, basicsr_nriqa',
    'import basicsr_nriqa, basicsr; import basicsr_nriqa.compat as c; c.apply(); c.apply()',
    'from basicsr.train import train_pipeline as t; import basicsr_nriqa; '
    'assert "_nriqa" in t.__code__.co_names, "imported before, not repaired"'])
def test_import_in_any_order(code, tmp_path):
    done = run_python('-c', code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_removed_modules_have_stand_ins():
    from torchvision.transforms.functional_tensor import rgb_to_grayscale

    import basicsr_nriqa_startup
    assert rgb_to_grayscale(torch.ones(3, 2, 2)).shape == (1, 2, 2)
    finder = basicsr_nriqa_startup._RemovedModules()
    assert finder.find_spec('torchvision.transforms.something_else') is None
    before = len(sys.meta_path)
    basicsr_nriqa_startup.install()
    assert len(sys.meta_path) == before


def test_stand_in_for_distutils():
    """As on Python 3.12, where arch_util.py would not find LooseVersion."""
    from importlib.util import module_from_spec

    import basicsr_nriqa_startup
    spec = basicsr_nriqa_startup._RemovedModules().find_spec('distutils.version')
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.LooseVersion('0.29.2+cu132') >= module.LooseVersion('0.9.0')


@pytest.mark.parametrize('repair', compat.REPAIRS, ids=lambda repair: repair.target)
def test_every_repair_is_done_and_names_its_line(repair):
    file, line = repair.where.split(':')
    source = (Path(basicsr.__file__).parent / file).read_text().splitlines()
    first_words = repair.edits[0][0].splitlines()[0].strip()
    assert first_words in source[int(line) - 1]
    module, _, name = repair.target.partition(':')
    function = sys.modules[module]
    for part in name.split('.'):
        function = getattr(function, part)
    assert getattr(function, '__wrapped__', function).__dict__['_nriqa_repaired']


def test_foreign_code_is_refused(monkeypatch):
    repair = compat.Repair('demonstration', 'x.py:1', f'{__name__}:_foreign', (('return 1', 'return 2'),))
    with pytest.raises(compat.CompatError, match=r'test_compat:_foreign is not the code of BasicSR 1\.4\.2'):
        repair.apply()
    assert _foreign() == 3
    monkeypatch.setenv('BASICSR_NRIQA_UNREPAIRED', repair.target)
    monkeypatch.setattr(compat, 'REPAIRS', (repair,))
    compat.apply()  # accepted by the user: left as it is


def _foreign():
    return 3


def test_cosine_beyond_its_periods_stays_at_the_minimum():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = CosineAnnealingRestartLR(optimizer, periods=[4, 4], restart_weights=[1, 0.5], eta_min=0.01)
    rates = []
    for _ in range(12):
        optimizer.step()
        scheduler.step()
        rates.append(scheduler.get_last_lr()[0])
    assert rates[3] == pytest.approx(0.01) and rates[4] > 0.3 and rates[7:] == pytest.approx([0.01] * 5)


class _Broken(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index == 2:
            raise ValueError('frame 2 is damaged')
        return index


def test_an_error_in_the_prefetch_thread_reaches_the_loop():
    seen, errors = [], []

    def read():
        try:
            seen.extend(int(batch) for batch in PrefetchDataLoader(num_prefetch_queue=1, dataset=_Broken()))
        except ValueError as error:
            errors.append(str(error))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive() and seen == [0, 1] and 'frame 2 is damaged' in errors[0]


def test_tiny_training_set_is_an_error():
    loader = torch.utils.data.DataLoader(_Broken(), batch_size=8, drop_last=True)
    with pytest.raises(ValueError, match=re.escape('train: 4 items are fewer than one batch of 8')):
        compat.check_not_empty(loader, {'name': 'train'})


def test_folders_set_aside_within_one_second_keep_names_of_their_own(tmp_path):
    """A training that is stopped and started three times before its first checkpoint."""
    folder = tmp_path / 'tiny'
    for start in range(4):
        mkdir_and_rename(str(folder))
        (folder / f'log_{start}').touch()
    kept = sorted(path.name for path in tmp_path.glob('tiny_archived_*/log_*'))
    assert kept == ['log_0', 'log_1', 'log_2'] and [path.name for path in folder.iterdir()] == ['log_3']
