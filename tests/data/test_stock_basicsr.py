"""Databases made here train in stock BasicSR, and the other way round."""
import re

import cv2
import pytest
from basicsr.utils.lmdb_util import make_lmdb_from_imgs
from clip_files import numbered, write_database
from training_process import start_training

from basicsr_nriqa.data.bicubic import imresize


def _trained(project, tmp_path, options):
    """The log of a training."""
    log = tmp_path / 'log'
    process = start_training(project, log, '-opt', options)
    process.join(300)
    assert process.exitcode == 0, log.read_text()[-3000:]
    return log.read_text()


@pytest.fixture
def stock_options(train_options):
    """BasicSR's own model and loss, the dataset is to be filled in. Its BasicVSR would need LR of more than 32 px."""
    opt = {key: train_options[key] for key in ('name', 'scale', 'num_gpu', 'manual_seed', 'path', 'logger')}
    opt |= {'model_type': 'VideoRecurrentModel', 'network_g': train_options['network_g']}
    opt['train'] = {'optim_g': {'type': 'Adam', 'lr': 1e-4}, 'total_iter': 2, 'warmup_iter': -1, 'fix_flow': 1,
                    'scheduler': {'type': 'MultiStepLR', 'milestones': [100]},
                    'pixel_opt': {'type': 'CharbonnierLoss', 'loss_weight': 1.0, 'reduction': 'mean'}}
    common = {'name': 'train', 'io_backend': {'type': 'lmdb'}, 'gt_size': 64, 'random_reverse': True, 'use_hflip': True,
              'use_rot': True, 'batch_size_per_gpu': 1, 'num_worker_per_gpu': 1, 'dataset_enlarge_ratio': 1}

    def fill(**dataset):
        return {**opt, 'datasets': {'train': {**common, **dataset}}}
    return fill


def test_our_databases_train_in_stock_basicsr(project, sample, train_options, stock_options, write_options, tmp_path):
    """And its model validates on our test dataset."""
    options = stock_options(
        type='Vimeo90KRecurrentDataset', dataroot_gt=str(sample / 'vimeo90k_train_GT.lmdb'),
        dataroot_lq=str(sample / 'vimeo90k_train_LRx4.lmdb'),
        meta_info_file=str(sample / 'meta_info_Vimeo90K_train_GT.txt'), num_frame=7, flip_sequence=True)
    options['datasets']['val'] = train_options['datasets']['val']
    options['val'] = {'val_freq': 2, 'save_img': False,
                      'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 0}}}
    log = _trained(project, tmp_path, write_options(options))
    assert len(re.findall(r'l_pix: \d', log)) == 2
    assert re.search(r'Validation held_out\n.*# psnr: \d+\.\d+.*# 00002/0002: \d', log)


def test_our_databases_with_the_keys_of_reds_train_in_stock_basicsr(project, stock_options, write_options, tmp_path):
    clips = {'001': numbered('{:08d}', 100, 0)}  # REDS' length is written into BasicSR
    (tmp_path / 'list.txt').write_text('001 100 (64,64,3)\n')
    roots = {f'dataroot_{kind}': str(write_database(tmp_path / f'{kind}.lmdb', clips, (side, side)))
             for kind, side in (('gt', 64), ('lq', 16))}
    log = _trained(project, tmp_path, write_options(stock_options(
        type='REDSRecurrentDataset', **roots, meta_info_file=str(tmp_path / 'list.txt'), val_partition='REDS4',
        test_mode=False, num_frame=3, interval_list=[1, 2])))
    assert len(re.findall(r'l_pix: \d', log)) == 2


def test_databases_of_stock_basicsr_train_here(project, sample, train_options, write_options, tmp_path):
    tree = sample / 'vimeo_septuplet/sequences'
    keys = [f'00001/{clip:04d}/im{number}' for clip in (1, 2) for number in range(1, 8)]
    for key in keys:
        small = tmp_path / 'lr' / f'{key}.png'
        small.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(small), imresize(cv2.imread(str(tree / f'{key}.png')), 1 / 4))
    train = train_options['datasets']['train']
    for option, folder in (('dataroot_gt', tree), ('dataroot_lq', tmp_path / 'lr')):
        train[option] = str(tmp_path / f'{option}.lmdb')
        make_lmdb_from_imgs(str(folder), train[option], [f'{key}.png' for key in keys], keys)
    del train['meta_info_file']  # all that are there
    train |= {'num_worker_per_gpu': 1, 'num_frame': 3}
    train_options['train']['total_iter'] = 2
    train_options['datasets']['val'] |= {name: train[name] for name in ('dataroot_gt', 'dataroot_lq')}
    train_options['val']['val_freq'] = 2
    log = _trained(project, tmp_path, write_options(train_options))
    assert len(re.findall(r'l_pix: \d', log)) == 2 and 'Validation held_out' in log
