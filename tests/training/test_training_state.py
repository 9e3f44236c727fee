import random

import numpy as np
import pytest
import torch
from tiny_training import TinyModel, options

from basicsr_nriqa.training.state import CheckpointError, load_whole, plain, save_training_state, save_whole


def test_a_state_holds_what_belongs_to_every_model_and_what_a_model_adds(tmp_path):
    opt = options(tmp_path)
    model = TinyModel(opt)
    model.place_in_training = {'samples': 4}
    model.best_metric_results = {'val': {'psnr': {'val': np.float64('-inf'), 'iter': -1}}}
    save_training_state(model, 2, 7, balancer={'weights': [0.5, 1.5]})
    state = torch.load(tmp_path / 'training_states/7.state', weights_only=True)
    assert set(state) == {'epoch', 'iter', 'samples', 'best_metric_results', 'optimizers', 'schedulers', 'balancer'}
    assert (state['epoch'], state['iter'], state['samples']) == (2, 7, 4)
    assert state['best_metric_results']['val']['psnr'] == {'val': float('-inf'), 'iter': -1}
    assert state['balancer'] == {'weights': [0.5, 1.5]}
    save_training_state(model, -1, -1)
    assert len(list((tmp_path / 'training_states').iterdir())) == 1


def test_numbers_of_numpy_become_plain():
    state = plain({'lr': np.float64(4e-4), 'betas': (np.float32(0.5), 1), 'x': [torch.ones(1)], 'i': np.int64(3),
                   'history': np.arange(3), 'on': np.bool_(True)})
    assert type(state['lr']) is float and type(state['i']) is int and type(state['betas'][0]) is float
    assert state['history'] == [0, 1, 2] and state['on'] is True and torch.equal(state['x'][0], torch.ones(1))


def test_files_are_whole_or_not_there(tmp_path):
    path = tmp_path / '1.state'
    save_whole({'lr': 4e-4}, path)
    with pytest.raises(AttributeError):  # cannot be pickled
        save_whole({'x': lambda: 0}, path)
    assert load_whole(path) == {'lr': 4e-4} and [file.name for file in tmp_path.iterdir()] == ['1.state']


def test_a_file_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(CheckpointError, match=r'1\.state: cannot be written \(.*\)\. Earlier checkpoints are whole'):
        save_whole({}, tmp_path / 'file/1.state', attempts=1)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match=r'2\.state: no such file'):
        load_whole(tmp_path / '2.state')
    (tmp_path / '2.state').write_bytes(b'')
    with pytest.raises(CheckpointError, match=r'2\.state: damaged'):
        load_whole(tmp_path / '2.state')
    torch.save(random.Random(0), tmp_path / '2.state')
    with pytest.raises(CheckpointError, match=r'2\.state: damaged, or not a file of plain data'):
        load_whole(tmp_path / '2.state')
