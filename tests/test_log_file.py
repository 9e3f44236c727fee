"""BasicSR's log goes to the training's file whatever was logged before."""
import logging

import pytest
from basicsr.utils import get_root_logger
from basicsr.utils import logger as basicsr_logger


@pytest.fixture
def name():
    name = 'basicsr_of_a_test'
    yield name
    for handler in list(logging.getLogger(name).handlers):
        logging.getLogger(name).removeHandler(handler)
        handler.close()
    basicsr_logger.initialized_logger.pop(name, None)


def test_a_message_before_the_training_does_not_cost_the_file(name, tmp_path):
    get_root_logger(name).warning('a loss is built')
    get_root_logger(name, log_file=tmp_path / 'train.log').info('iteration 1')
    get_root_logger(name).info('iteration 2')
    text = (tmp_path / 'train.log').read_text()
    assert 'INFO: iteration 1' in text and 'INFO: iteration 2' in text and 'built' not in text


def test_the_next_training_in_a_process_has_its_own_file(name, tmp_path):
    for number in (1, 2):
        get_root_logger(name, log_file=tmp_path / f'{number}.log').info(f'training {number}')
    assert 'training 2' not in (tmp_path / '1.log').read_text()
    assert 'training 2' in (tmp_path / '2.log').read_text() and 'training 1' not in (tmp_path / '2.log').read_text()


def test_the_same_file_again_is_not_emptied(name, tmp_path):
    for number in (1, 2):
        get_root_logger(name, log_file=tmp_path / 'train.log').info(f'message {number}')
    text = (tmp_path / 'train.log').read_text()
    assert 'message 1' in text and text.count('message 2') == 1


def test_files_of_others_are_left_alone(name, tmp_path):
    logging.getLogger(name).addHandler(logging.FileHandler(tmp_path / 'mine.log'))
    for number in (1, 2):
        get_root_logger(name, log_file=tmp_path / f'{number}.log').info(f'training {number}')
    assert (tmp_path / 'mine.log').read_text() == 'training 1\ntraining 2\n'


def test_the_level_is_the_one_that_is_asked_for(name, tmp_path):
    get_root_logger(name).warning('a loss is built')
    get_root_logger(name, logging.WARNING, tmp_path / 'train.log').info('iteration 1')
    assert (tmp_path / 'train.log').read_text() == ''


@pytest.mark.parametrize('before', [True, False], ids=['logged before the processes met', 'not before'])
def test_other_ranks_write_none(name, tmp_path, monkeypatch, before):
    if before:
        get_root_logger(name)
    monkeypatch.setattr('basicsr.utils.dist_util.get_dist_info', lambda: (1, 2))
    monkeypatch.setattr('basicsr.utils.logger.get_dist_info', lambda: (1, 2))
    get_root_logger(name, log_file=tmp_path / 'train.log').info('iteration 1')
    assert not (tmp_path / 'train.log').exists() and logging.getLogger(name).level == logging.ERROR
