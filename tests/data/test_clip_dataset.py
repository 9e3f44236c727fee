import pickle
import random
import shutil

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataset, reds_dataset, transforms, vimeo90k_dataset
from clip_files import OurDraws, numbered, write_clips, write_database

from basicsr_nriqa.data import DataError
from basicsr_nriqa.data.bicubic import imresize
from basicsr_nriqa.data.clip_dataset import draw
from basicsr_nriqa.data.clip_store import ClipStore
from basicsr_nriqa.data.image_codec import encode_image
from basicsr_nriqa.data.lmdb_writer import LmdbWriter
from basicsr_nriqa.data.resumable import ItemStreams


@pytest.fixture
def train_opt(train_options):
    return {**train_options['datasets']['train'], 'scale': 4, 'phase': 'train'}


@pytest.fixture
def our_draws(monkeypatch):
    """BasicSR's datasets draw what ours do."""
    for module in (transforms, vimeo90k_dataset, reds_dataset):
        monkeypatch.setattr(module, 'random', OurDraws)


@pytest.fixture
def of_lengths(tmp_path):
    """Options of clips of 3, 5 and 9 frames on disk; LR and GT are the same files."""
    clips = {f'clip {count}': numbered('{:08d}', count, 0) for count in (3, 5, 9)}
    tree = str(write_clips(tmp_path / 'tree', clips))
    return {'type': 'ClipTrainDataset', 'name': 'lengths', 'dataroot_gt': tree, 'dataroot_lq': tree, 'scale': 1,
            'io_backend': {'type': 'disk'}, 'gt_size': 16, 'num_frame': 3}


PLAIN = {'use_hflip': False, 'use_rot': False, 'random_reverse': False}


def test_crops_of_lr_and_gt_belong_together(train_opt):
    dataset = build_dataset({**train_opt, 'num_frame': 7, 'gt_size': 32})
    for index in range(3):
        item = dataset[index]
        assert item['lq'].shape == (7, 3, 8, 8) and item['gt'].shape == (7, 3, 32, 32)
        shrunk = imresize(item['gt'], 0.25)
        inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))  # borders see other neighbours
        assert (shrunk[inside] - item['lq'][inside]).abs().max() < 1.5 / 255


def _copied(sample, folder, opt):
    """Options of the same databases at another place: LMDB opens a database once in a process."""
    for name in ('vimeo90k_train_GT.lmdb', 'vimeo90k_train_LRx4.lmdb'):
        shutil.copytree(sample / name, folder / name)
    return {**opt, 'dataroot_gt': str(folder / 'vimeo90k_train_GT.lmdb'), 'io_backend': {'type': 'lmdb'},
            'dataroot_lq': str(folder / 'vimeo90k_train_LRx4.lmdb')}


def _raw(sample, folder, opt):
    for option, name in (('dataroot_gt', 'vimeo90k_train_GT.lmdb'), ('dataroot_lq', 'vimeo90k_train_LRx4.lmdb')):
        store = ClipStore(sample / name, 'lmdb')
        with LmdbWriter(folder / f'raw_{name}') as writer:
            for keys in store.clips().values():
                for key in keys:
                    image = store.image(key)
                    writer.put(key, encode_image(image, 'raw'), image.shape)
        opt = {**opt, option: str(folder / f'raw_{name}')}
    return opt


@pytest.mark.parametrize('flip_sequence', [False, True])
def test_the_bits_of_basicsr(train_opt, sample, tmp_path, our_draws, flip_sequence):
    opt = {**train_opt, 'num_frame': 7, 'gt_size': 32, 'flip_sequence': flip_sequence, 'use_hflip': True,
           'use_rot': True, 'random_reverse': True}
    stock = vimeo90k_dataset.Vimeo90KRecurrentDataset(_copied(sample, tmp_path, opt))
    ours = [build_dataset(opt), build_dataset(_raw(sample, tmp_path, opt))]
    for seed in range(16):
        torch.manual_seed(seed)
        draw(1)  # ours draws the first of seven frames from seven
        stock.neighbor_list = [*range(1, 8)]  # which else stays reversed
        expected = stock[seed % 3]
        for dataset in ours:
            torch.manual_seed(seed)
            item = dataset[seed % 3]
            assert item['key'] == expected['key']
            assert torch.equal(item['lq'], expected['lq']) and torch.equal(item['gt'], expected['gt'])


def test_the_bits_of_basicsr_on_reds(tmp_path, our_draws):
    clips = {'001': numbered('{:08d}', 8, 0), '002': numbered('{:08d}', 6, 0)}
    opt = {'io_backend': {'type': 'lmdb'}, 'scale': 4, 'num_frame': 3, 'gt_size': 16, 'random_reverse': True,
           'interval_list': [1], 'use_hflip': True, 'use_rot': True, 'meta_info_file': str(tmp_path / 'list.txt')}
    (tmp_path / 'list.txt').write_text('001 8 (32,48,3)\n002 6 (32,48,3)\n')
    ours, stock = ({**opt, **{f'dataroot_{kind}': str(write_database(
        tmp_path / f'{whose}_{kind}.lmdb', clips, size, seed=seed))
        for seed, (kind, size) in enumerate((('gt', (32, 48)), ('lq', (8, 12))))}} for whose in ('ours', 'stock'))
    stock = reds_dataset.REDSRecurrentDataset({**stock, 'val_partition': 'REDS4', 'test_mode': False})
    ours = build_dataset({**ours, 'type': 'ClipTrainDataset', 'name': 'reds', 'filename_tmpl': '{:08d}',
                          'first_frame': 0, 'samples_per_clip': 'windows'})
    windows = [('001', start) for start in range(6)] + [('002', start) for start in range(4)]
    assert len(ours) == len(windows)
    for index, (clip, start) in enumerate(windows):
        items = []
        for dataset, place in ((stock, stock.keys.index(f'{clip}/{start:08d}')), (ours, index)):
            torch.manual_seed(index)
            items.append(dataset[place])
        assert torch.equal(items[0]['lq'], items[1]['lq']) and torch.equal(items[0]['gt'], items[1]['gt'])


def test_seed_decides_everything(train_opt):
    dataset = build_dataset(train_opt)
    torch.manual_seed(3)
    first = dataset[1]
    torch.manual_seed(3)
    assert torch.equal(first['gt'], dataset[1]['gt'])
    assert any(not torch.equal(first['gt'], dataset[1]['gt']) for _ in range(5))


def test_only_torchs_generator_is_used(train_opt):
    dataset = build_dataset({**train_opt, 'interval_list': [1, 2]})
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    dataset[0]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002


def test_no_augmentation_gives_frames_in_order(train_opt, sample):
    dataset = build_dataset({**train_opt, **PLAIN, 'num_frame': 7, 'gt_size': 64})
    item = dataset[0]
    frame = cv2.imread(str(sample / f"vimeo_septuplet/sequences/{item['key']}/im3.png"))[..., ::-1]
    frame = torch.from_numpy(frame.copy()).permute(2, 0, 1) / 255
    assert any(torch.equal(item['gt'][2], frame[:, :, left:left + 64]) for left in range(33))


def test_flip_sequence(train_opt):
    item = build_dataset({**train_opt, 'flip_sequence': True})[0]
    assert item['lq'].shape[0] == 4 and torch.equal(item['lq'], item['lq'].flip(0))


def _start(dataset, index, count):
    """Number of the first frame, and the interval, of an item: the frames of a clip are all different."""
    item = dataset[index]
    store, (clip,) = dataset.gt, [clip for clip in dataset.clips if clip.folder == item['key']]
    frames = [torch.from_numpy(store.image(clip.key(number))[..., ::-1].copy()).permute(2, 0, 1) / 255
              for number in range(clip.frames)]
    numbers = [next(number for number, frame in enumerate(frames) if torch.equal(frame, part)) for part in item['gt']]
    assert len(numbers) == count and len(set(np.diff(numbers))) == 1
    return clip.folder, numbers[0], numbers[1] - numbers[0]


def test_clips_of_any_lengths_without_a_list(of_lengths):
    dataset = build_dataset({**of_lengths, 'samples_per_clip': 20})
    assert len(dataset) == 60
    assert {dataset[index]['key'] for index in range(3)} == {'clip 3', 'clip 5', 'clip 9'}


@pytest.fixture
def whole_frames(of_lengths, tmp_path):
    """As ``of_lengths``, with frames that are one crop, so that items show their numbers."""
    clips = {f'clip {count}': numbered('{:08d}', count, 0) for count in (3, 5, 9)}
    tree = str(write_clips(tmp_path / 'square', clips, (16, 16)))
    return {**of_lengths, **PLAIN, 'dataroot_gt': tree, 'dataroot_lq': tree}


def test_windows_are_passed_each_once(whole_frames):
    dataset = build_dataset({**whole_frames, 'samples_per_clip': 'windows'})
    assert len(dataset) == 1 + 3 + 7
    seen = [_start(dataset, index, 3) for index in range(len(dataset))]
    assert seen == [(f'clip {count}', start, 1) for count in (3, 5, 9) for start in range(count - 2)]
    assert len(list(dataset)) == len(dataset)


def test_a_random_window_can_be_any(whole_frames):
    dataset = build_dataset({**whole_frames, 'samples_per_clip': 30})
    assert {_start(dataset, index, 3) for index in range(len(dataset))} == {
        (f'clip {count}', start, 1) for count in (3, 5, 9) for start in range(count - 2)}


@pytest.mark.parametrize('samples', [40, 'windows'])
def test_intervals(whole_frames, tmp_path, samples):
    (tmp_path / 'list.txt').write_text('clip 9\n')
    dataset = build_dataset({**whole_frames, 'interval_list': [1, 3], 'meta_info_file': str(tmp_path / 'list.txt'),
                             'samples_per_clip': samples})
    seen = {_start(dataset, index, 3) for _ in range(10) for index in range(len(dataset))}
    assert seen == {('clip 9', start, 1) for start in range(7)} | {('clip 9', start, 3) for start in range(3)}


def test_order_pickling_and_earlier_items_change_nothing(of_lengths):
    options = {**of_lengths, 'samples_per_clip': 'windows', 'num_frame': 2, 'interval_list': [1, 2]}
    streams = ItemStreams(build_dataset(options), 7)
    places = [(2, position, position) for position in range(len(streams))]
    forwards = [streams[place] for place in places]
    backwards = [streams[place] for place in places[::-1]][::-1]
    fresh = ItemStreams(build_dataset(options), 7)
    single = [pickle.loads(pickle.dumps(fresh))[place] for place in places]
    for items in zip(forwards, backwards, single):
        for item in items[1:]:
            assert item['key'] == items[0]['key']
            assert torch.equal(item['gt'], items[0]['gt']) and torch.equal(item['lq'], items[0]['lq'])
    assert not torch.equal(streams[3, 0, 0]['gt'], forwards[0]['gt'])  # another epoch


def test_errors_name_the_thing(train_opt, of_lengths, sample, tmp_path):
    with pytest.raises(DataError, match=r"frame '00001/0001/im\d': GT is 96x64 and LR 24x16.* scale 2"):
        build_dataset({**train_opt, 'scale': 2})[0]
    with pytest.raises(DataError, match='exchange dataroot_gt and dataroot_lq'):
        build_dataset({**train_opt, 'dataroot_gt': train_opt['dataroot_lq'],
                       'dataroot_lq': train_opt['dataroot_gt']})[0]
    with pytest.raises(DataError, match=r'too small for gt_size 128\. Set it to 64 or less'):
        build_dataset({**train_opt, 'gt_size': 128})[0]
    with pytest.raises(DataError, match='gt_size: 30 is not divisible'):
        build_dataset({**train_opt, 'gt_size': 30})
    with pytest.raises(DataError, match="8 frames do not fit into clip '00001/0001' of 7, nor into 2 others"):
        build_dataset({**train_opt, 'num_frame': 8})
    with pytest.raises(DataError, match=r"3 frames in steps of 2 do not fit into clip 'clip 3' of 3\. "):
        build_dataset({**of_lengths, 'interval_list': [1, 2]})
    for option in ('num_frame', 'gt_size', 'scale', 'clip_length'):
        for value in (0, -4, 4.0, True):
            with pytest.raises(DataError, match=rf'{option}: expected a whole number above 0, got {value}\.'):
                build_dataset({**train_opt, option: value})
    for value in ({}, 'lmdb', {'typ': 'lmdb'}):
        with pytest.raises(DataError, match=r'io_backend: expected \{type: lmdb\} or \{type: disk\}, got '):
            build_dataset({**train_opt, 'io_backend': value})
    for option, value in (('interval_list', [0]), ('interval_list', ['1']), ('interval_list', 2),
                          ('samples_per_clip', 0), ('samples_per_clip', 'all'), ('filename_tmpl', 'im'),
                          ('first_frame', '1')):
        with pytest.raises(DataError, match=f'{option}: '):
            build_dataset({**train_opt, option: value})
    for option in ('dataroot_gt', 'dataroot_lq', 'meta_info_file'):
        with pytest.raises(DataError, match=rf"{option}: expected one path, got \['a', 'b'\]\. ClipMixtureDataset"):
            build_dataset({**train_opt, option: ['a', 'b']})
    with pytest.raises(DataError, match=r'_LRx4\.lmdb: an LMDB database\. Set io_backend to \{type: lmdb\}'):
        build_dataset({**train_opt, 'io_backend': {'type': 'disk'}})
    (tmp_path / 'list.txt').write_text('00009/0009 7 (64,96,3)\n')
    with pytest.raises(DataError, match="the database has no key '00009/0009/im"):
        build_dataset({**train_opt, 'meta_info_file': str(tmp_path / 'list.txt')})[0]


@pytest.mark.parametrize('missing', ['dataroot_gt', 'dataroot_lq', 'io_backend', 'gt_size'])
def test_a_stock_model_without_an_option_that_is_needed(train_opt, missing):
    left_out = {name: value for name, value in train_opt.items() if name != missing}
    for opt in (left_out, {**train_opt, missing: None}, {**train_opt, missing: ''}):
        with pytest.raises(DataError, match=f'^{missing}: is missing'):
            build_dataset(opt)


def test_null_is_as_good_as_left_out(train_opt):
    left_out = {name: value for name, value in train_opt.items() if name not in ('scale', 'num_frame')}
    null = dict.fromkeys(('scale', 'num_frame', 'interval_list', 'samples_per_clip', 'clip_length', 'first_frame',
                          'filename_tmpl'))
    with_null, without = build_dataset({**train_opt, **null}), build_dataset(left_out)
    torch.manual_seed(0)
    item = with_null[0]
    torch.manual_seed(0)
    assert len(with_null) == len(without) and torch.equal(item['gt'], without[0]['gt'])


def test_frames_of_several_sizes(of_lengths, tmp_path):
    tree = write_clips(tmp_path / 'mixed', {'a': ['im1', 'im2', 'im3']})
    cv2.imwrite(str(tree / 'a/im2.png'), np.zeros((40, 48, 3), np.uint8))
    dataset = build_dataset({**of_lengths, 'dataroot_gt': str(tree), 'dataroot_lq': str(tree)})
    with pytest.raises(DataError, match="frame 'a/im2' has 48x40 pixels, the first of its clip 48x32"):
        for _ in range(9):
            dataset[0]
