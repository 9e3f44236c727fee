"""A user's checkout with miniature data under the names that the pages use, and smaller option files."""
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import av
import cv2
import torch
from basicsr.archs import build_network
from conftest import ROOT
from documentation import blocks

from basicsr_nriqa.data.photographs import load_photograph
from basicsr_nriqa.data.sample_clips import make_sample_vimeo90k
from basicsr_nriqa.data.vimeo90k import prepare_vimeo90k

COPIED = ('basicsr', 'options', 'scripts', 'workflow', 'benchmarks', 'docs', 'setup.cfg', 'setup.py', 'pyproject.toml',
          'Makefile', 'constraints.txt', 'README.md', 'LICENSE')
SIZE = 192, 192  # of a GT frame: NIQE needs as much, and MANIQA and HyperIQA take one crop of it
TINY = {
    'basicvsrpp': {'type': 'BasicVSRPP', 'mid_channels': 8, 'num_blocks': 1},
    'vrt': {'type': 'VRT', 'img_size': [2, 16, 16], 'window_size': [2, 8, 8], 'depths': [1] * 8, 'indep_reconsts': [],
            'embed_dims': [8] * 8, 'num_heads': [2] * 8, 'pa_frames': 2, 'deformable_groups': 2},
    'iseebetter': {'type': 'ISeeBetter', 'base_filter': 8, 'num_feat': 8, 'num_block': 1, 'num_frame': 3}}
# what is smaller in the copied option files, wherever it stands. Losses, metrics, models and names stay as they are
SMALLER = {
    **{name: value for network in TINY.values() for name, value in network.items() if name != 'type'},
    'gt_size': 64, 'batch_size_per_gpu': 1, 'num_worker_per_gpu': 0, 'dataset_enlarge_ratio': 2, 'total_iter': 2,
    'periods': [2], 'restart_weights': [1], 'warmup_iter': -1, 'print_freq': 1, 'save_checkpoint_freq': 2,
    'val_freq': 2, 'num_gpu': 0}
SMALLER_SCRIPTS = {
    'prepare_vimeo90k.py': [("'--test-clips', default=100", "'--test-clips', default=1")],
    'make_sample_data.py': [('default=32', 'default=2'), ('positive, default=4', 'positive, default=3'),
                            ('(256, 448)', str(SIZE))],
    'calibrate_weights.py': [('default=20', 'default=1'), ('default=256', 'default=64')]}


def make_checkout(root, data=(), small=True):
    """Copy what a user has after `git clone`, with smaller options and scripts, and add the data sets named."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns('__pycache__', '_build'))
        else:
            shutil.copy(source, root / name)
    if small:
        _make_smaller(root)
    for name in data:
        DATA[name](root)
    return root


def _make_smaller(root):
    for file in (root / 'options').rglob('*.yml'):
        file.write_text(smaller(file.read_text()))
    for name, changes in SMALLER_SCRIPTS.items():
        file = root / 'scripts' / name
        text = file.read_text()
        for before, after in changes:
            assert text.count(before) == 1, f'{name}: {before!r} is not there once'
            text = text.replace(before, after)
        file.write_text(text)


def smaller(text):
    """An option file with what :data:`SMALLER` says, tests of two frames, and one frame a step for MANIQA."""
    for name, value in SMALLER.items():
        text = re.sub(rf'(?m)^( *{name}: )(?:\[[^]]*\]|[^\s#~]+)', rf'\g<1>{value}', text)
    text = re.sub(r'(?m)^( *)dataroot_gt: datasets/vimeo90k/vimeo90k_test_.*$', r'\g<0>\n\1num_frame: 2', text)
    return text.replace('type: MANIQALoss', 'type: MANIQALoss, frames: 1')


def vimeo_archive(root):
    """``vimeo_septuplet.zip``, two training clips and a test clip."""
    make_sample_vimeo90k(root / 'unpacked/vimeo_septuplet', 2, 1, SIZE, progress=False)
    shutil.make_archive(str(root / 'vimeo_septuplet'), 'zip', root / 'unpacked', 'vimeo_septuplet')
    shutil.rmtree(root / 'unpacked')


def vimeo90k(root):
    """``datasets/vimeo90k``, packed."""
    vimeo_archive(root)
    prepare_vimeo90k(root / 'vimeo_septuplet.zip', root / 'datasets/vimeo90k', progress=False)


def reds_download(root):
    """``downloads/REDS`` as ``small_reds`` of shortenings.py expects it."""
    for part, clips in (('train_sharp', 6), ('val_sharp', 2)):
        for clip in range(clips):
            folder = root / f'downloads/REDS/{part}/{clip:03d}'
            folder.mkdir(parents=True)
            for number, frame in enumerate(_panned('coffee.png', 7, 32 + 8 * clip)):
                cv2.imwrite(str(folder / f'{number:08d}.png'), frame)


def phone_videos(root):
    """``phone/*.mp4``."""
    for name, photograph in (('one', 'astronaut.png'), ('two', 'coffee.png')):
        _write_video(root / f'phone/{name}.mp4', _panned(photograph, 12))


def old_video(root):
    """``old.mp4`` and ``frames/``."""
    frames = _panned('astronaut.png', 4)
    _write_video(root / 'old.mp4', frames)
    (root / 'frames').mkdir()
    for number, frame in enumerate(frames, 1):
        cv2.imwrite(str(root / f'frames/im{number}.png'), frame)


def _panned(photograph, count, start=0):
    """A camera that moves over a photograph; 32 x 48 px."""
    image = load_photograph(photograph)
    return [image[80:112, 60 + start + 2 * number:108 + start + 2 * number] for number in range(count)]


def _write_video(path, frames):
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), 'w') as output:
        stream = output.add_stream('libx264', rate=25, options={'crf': '4'})
        stream.height, stream.width = frames[0].shape[:2]
        for frame in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame.copy(), format='rgb24')))
        output.mux(stream.encode())


def first_file(root):
    """``options/first.yml``, as docs/quickstart.md shows it."""
    text, = (block.text for block in blocks('docs/quickstart.md') if 'name: first\n' in block.text)
    (root / 'options/first.yml').write_text(smaller(text))


def study_data(root):
    """Databases of all data sets of the paper, and the lists of REDS; all but those of Vimeo-90K are copies."""
    vimeo90k(root)
    ours = root / 'datasets/vimeo90k'
    for name in ('reds', 'videos'):
        for kind in ('GT', 'LRx4'):
            for split in ('train', 'test'):
                shutil.copytree(ours / f'vimeo90k_{split}_{kind}.lmdb',
                                root / f'datasets/{name}/{name}_{split}_{kind}.lmdb')
    for partition in ('REDS', 'REDS4'):
        shutil.copy(ours / 'meta_info_Vimeo90K_train_GT.txt',
                    root / f'datasets/reds/meta_info_{partition}_train_GT.txt')


def checkpoints(root):
    """``basicvsrpp.pth``, ``vrt.pth`` and ``iseebetter.pth``: networks as the smaller option files have them."""
    for name, options in TINY.items():
        torch.save({'params': build_network(options).state_dict()}, root / f'{name}.pth')


def baselines(root):
    """The trained baselines that fine-tunes start from."""
    checkpoints(root)
    for name in TINY:
        folder = root / f'experiments/baseline_{name}/models'
        folder.mkdir(parents=True)
        shutil.copy(root / f'{name}.pth', folder / 'net_g_latest.pth')


DATA = {function.__name__: function for function in (
    vimeo_archive, vimeo90k, reds_download, phone_videos, old_video, first_file, study_data, checkpoints, baselines)}


def run_in_shell(command, root, seconds=300):
    """Run a command as a user does, in a shell; ``python`` is this one, metrics without weights have random ones.

    Returns:
        tuple[int, str]: The exit status and all that was printed.
    """
    tools = root / 'bin'
    if not tools.is_dir():
        tools.mkdir()
        (tools / 'python').write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        (tools / 'python').chmod(0o755)
        (tools / 'sitecustomize.py').write_text(
            f'import sys\nsys.path.append({str(Path(__file__).parent)!r})\n'
            'import shortenings\nshortenings.random_metrics()\n')
    environment = {**os.environ, 'PATH': f'{tools}:{os.path.dirname(sys.executable)}:{os.environ["PATH"]}',
                   'PYTHONPATH': str(tools), 'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'agg'}
    done = subprocess.run(['bash', '-c', command], cwd=root, env=environment, text=True, timeout=seconds,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout
