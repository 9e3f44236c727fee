"""What docs/troubleshooting.md quotes is what the plugin says."""
import re
from copy import deepcopy

import pytest
import torch
from conftest import ROOT
from documentation import read_page

from basicsr_nriqa import compat, distributed
from basicsr_nriqa.data.clip_store import ClipStore
from basicsr_nriqa.options import read_options
from basicsr_nriqa.options_check import check_options
from basicsr_nriqa.training.checkpoints import Checkpoints


def _quoted(heading):
    """The words under a heading in a block of output, in pieces where the page leaves something out."""
    section = re.split(r'^##+ ', read_page('docs/troubleshooting.md').split(f'### {heading}', 1)[1], flags=re.M)[0]
    text = re.search(r'```text\n(.*?)```', section, re.S)[1]
    pieces = re.split(r'\.\.\.|\n(?=- )', text.removeprefix('error: '))
    return [piece.strip(' \n/') for piece in pieces if piece.strip(' \n/')]


def _checked(options, source='my_options.yml'):
    check_options({**options, 'is_train': True, 'dist': False}, source)


def _misspelt(options):
    options['train']['clipnorm'] = 1
    _checked(options)


def _wrong_sign(options):
    options['train']['iqa_opt']['tinyiqa']['loss_weight'] = 0.05
    _checked(options)


def _no_gpu(options):
    options['num_gpu'] = 1
    _checked(options)


def _small_crops(options):
    options['train']['iqa_opt']['tinyiqa'] = {'type': 'IQALoss', 'metric': 'niqe', 'loss_weight': 0.01}
    _checked(options)


def _nothing_prepared(options):
    file = 'options/finetune_maniqa.yml'
    _checked({**read_options(file), 'num_gpu': 0}, file)


def _small_data_set(options):
    loader = torch.utils.data.DataLoader(range(32), batch_size=100000, drop_last=True)
    compat.check_not_empty(loader, {'name': 'sample', 'dataset_enlarge_ratio': 100})


def _other_list(options):
    ClipStore('datasets/sample/vimeo90k_train_LRx4.lmdb', 'lmdb').image('00009/0001/im4')


def _damaged(options):
    checkpoints = Checkpoints({'path': {'training_states': 'training_states', 'models': 'models'}})
    checkpoints.states.mkdir()
    checkpoints.state_file(6).write_bytes(b'half of it')
    checkpoints.state_file(6).with_suffix('.sha256').write_text(f'{"0" * 64}  6.state\n')
    checkpoints.newest()


def _without_torchrun(options):
    distributed.init('pytorch', options, 'my_options.yml')


@pytest.mark.parametrize('heading, provoke', [
    ('unknown option', _misspelt), ('would train for worse images', _wrong_sign), ('asked for, but', _no_gpu),
    ('needs images of at least', _small_crops), ('nothing is there', _nothing_prepared),
    ('no such file. To train it:', _nothing_prepared), ('items are fewer', _small_data_set),
    ('the database has no key', _other_list), ('none of the checkpoints', _damaged),
    ('torchrun did not start this process', _without_torchrun)])
def test_quoted_errors_are_real(heading, provoke, sample, train_options, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'options').symlink_to(ROOT / 'options')
    (tmp_path / 'datasets').mkdir()
    (tmp_path / 'datasets/sample').symlink_to(sample)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    for name in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Exception) as error:
        provoke(deepcopy(train_options))
    pieces = _quoted(heading)
    assert pieces
    for piece in pieces:
        assert piece in str(error.value)
