import math
import runpy

import pytest
import torch
from basicsr.losses import build_loss
from conftest import ROOT, run_python

from basicsr_nriqa.archs import BasicVSRPP
from basicsr_nriqa.data import DataError
from basicsr_nriqa.data.lmdb_store import LmdbReader
from basicsr_nriqa.iqa import MetricError, create_metric, random_weights
from basicsr_nriqa.models.calibration import (
    PIXEL,
    RULES,
    Crops,
    Measurement,
    bicubic,
    console_table,
    measure,
    options_block,
    trained_network,
    unit_losses,
)
from basicsr_nriqa.options import OptionsError, load_yaml

METRICS = ('tinyiqa', 'gmsd', 'psnr')
SCRIPT = ROOT / 'scripts/calibrate_weights.py'
NETWORK = {'type': 'BasicVSRPP', 'mid_channels': 8, 'num_blocks': 1}


def _crops(sample, **options):
    return Crops(sample / 'vimeo90k_train_GT.lmdb', sample / 'vimeo90k_train_LRx4.lmdb', **{'crop': 48, **options})


@pytest.fixture(scope='module')
def measured(sample):
    return measure(unit_losses(METRICS), _crops(sample), bicubic(4), progress=False)


def _item(name='m', scores=(0.6,), norms=(0.02,), sign=-1):
    return Measurement(name, sign, True, scores, norms)


def test_measures_scores_and_gradient_norms(sample, measured):
    assert list(measured) == [PIXEL, *METRICS]
    for index, (lq, gt) in enumerate(_crops(sample)):
        output = bicubic(4)(lq)
        for name in METRICS:
            metric = create_metric(name)
            frames = output[0].clone().requires_grad_()
            score = metric(frames, gt[0]).mean()
            norm = torch.autograd.grad(score, frames)[0].square().sum().sqrt()
            typical = metric(gt[0]).mean() if name == 'tinyiqa' else score
            assert measured[name].scores[index] == pytest.approx(typical.item(), rel=1e-4)
            assert measured[name].norms[index] == pytest.approx(norm.item(), rel=1e-4)
        assert measured[PIXEL].scores[index] == pytest.approx((output - gt).abs().mean().item(), rel=1e-3)
        assert measured[PIXEL].norms[index] == pytest.approx(output.numel()**-0.5, rel=1e-2)  # of signs / count
    assert [measured[name].sign for name in METRICS] == [-1, 1, -1]
    assert [measured[name].on_gt for name in (PIXEL, *METRICS)] == [False, True, False, False]


def test_medians_and_quartiles():
    item = _item(scores=(4.0, 1.0, 2.0, 3.0, 100.0), norms=(5.0, 1.0, 30.0))
    assert (item.typical, item.quartiles, item.norm) == (3, (2, 4), 5)


def test_rules():
    pixel = _item(PIXEL, (0.03,), (0.004,), 1)
    assert _item(scores=(0.6,)).weight(pixel, 0.1, 'value') == pytest.approx(-0.005)  # Table I, scores to 1
    assert _item(scores=(60.0,)).weight(pixel, 0.1, 'value') == pytest.approx(-0.00005)  # and to 100
    assert _item(scores=(-0.6,), sign=1).weight(pixel, 0.1, 'value') == pytest.approx(0.005)
    assert _item(norms=(0.02,)).weight(pixel, 0.1, 'gradient') == pytest.approx(-0.02)


def test_a_weight_has_its_share_of_the_pixel_loss(measured):
    pixel = measured[PIXEL]
    for name in METRICS:
        item = measured[name]
        assert abs(item.weight(pixel, 0.2, 'gradient')) * item.norm == pytest.approx(0.2 * pixel.norm)
        assert abs(item.weight(pixel, 0.2, 'value') * item.typical) == pytest.approx(0.2 * pixel.typical)
        for rule in RULES:
            assert item.weight(pixel, 0.6, rule) == pytest.approx(3 * item.weight(pixel, 0.2, rule))


@pytest.mark.parametrize('rule, other', [RULES, RULES[::-1]])
def test_options_block_builds_losses(measured, tmp_path, rule, other):
    text = options_block(measured, 1e-3, rule, 'python scripts/calibrate_weights.py --gt "a: b" {')
    for path, content in ((tmp_path / 'alone.yml', text), (tmp_path / 'pasted.yml', f'train:\n  ema_decay: 0\n{text}')):
        path.write_text(content)
        options = load_yaml(path)
        block = options.get('train', options)['iqa_opt']
        assert list(block) == list(METRICS)
        for name, loss_opt in block.items():
            weight = measured[name].weight(measured[PIXEL], 1e-3, rule)
            assert loss_opt == {'type': 'IQALoss', 'metric': name, 'loss_weight': float(f'{weight:.1e}')}
            assert build_loss(loss_opt).loss_weight == loss_opt['loss_weight']
            assert f'by {other}: {measured[name].weight(measured[PIXEL], 1e-3, other):#.2g}\n' in text


@pytest.mark.parametrize('scores, norms, problem', [
    ((1.0, 1.0), (0.0, 0.0), 'its gradient is zero on 2 of 2 clips'),
    ((1.0, 1.0), (1.0, math.nan), 'its gradient is not finite on 1 of 2 clips'),
    ((math.inf, 1.0), (1.0, 1.0), 'its score is not finite on 1 of 2 clips'),
    ((0.0, 0.0), (1.0, 1.0), 'its typical score is zero')])
def test_what_gives_no_weight_is_left_out(measured, tmp_path, scores, norms, problem):
    everything = {**measured, 'broken': _item('broken', scores, norms)}
    assert problem in next(line for line in console_table(everything, 0.1).splitlines() if line.startswith('broken'))
    path = tmp_path / 'weights.yml'
    path.write_text(options_block(everything, 0.1, 'value'))
    assert f'# broken: left out, {problem}\n' in path.read_text() and list(load_yaml(path)['iqa_opt']) == list(METRICS)


def test_one_usable_metric_is_measured_beside_one_without_gradient(sample):
    losses = unit_losses(['psnr', 'tinyiqa'])
    forward = losses['tinyiqa'].metric.score
    losses['tinyiqa'].metric.score = lambda images: forward(images).clamp(min=1e3)
    flat = measure(losses, _crops(sample, clips=1), bicubic(4), progress=False)
    assert flat['tinyiqa'].problem == 'its gradient is zero on 1 of 1 clips' and not flat['psnr'].problem


def test_deterministic_and_independent_of_other_metrics(sample, measured):
    with random_weights():
        losses = unit_losses(['paq2piq', 'tinyiqa', 'paq2piq'])
    assert list(losses) == [PIXEL, 'paq2piq', 'tinyiqa']
    first, again = (measure(losses, _crops(sample, clips=2, crop=64), bicubic(4), progress=False) for _ in range(2))
    assert first == again and not first['paq2piq'].problem
    torch.manual_seed(7)
    alone = measure(unit_losses(['tinyiqa']), _crops(sample), bicubic(4), progress=False)
    assert alone['tinyiqa'] == measured['tinyiqa'] and torch.initial_seed() == 7


def test_draws_of_a_metric_follow_the_seed(sample):
    losses = unit_losses(['gmsd', 'tinyiqa'])
    losses['tinyiqa'].frames = losses['gmsd'].frames = 1  # as metrics that look at random crops
    both = measure(losses, _crops(sample), bicubic(4), progress=False)
    del losses['gmsd']
    alone, other = (measure(losses, _crops(sample), bicubic(4), seed, progress=False) for seed in (0, 5))
    assert alone['tinyiqa'] == both['tinyiqa'] != other['tinyiqa']


def test_crops_are_those_of_the_data(sample):
    crops = _crops(sample, clips=2)
    pairs = list(crops)
    assert len(pairs) == len(crops) == 2 and len(_crops(sample)) == 3
    assert all(torch.equal(a, b) for once, again in zip(pairs, crops) for a, b in zip(once, again))
    assert any(not torch.equal(a[1], b[1]) for a, b in zip(pairs, _crops(sample, clips=2, seed=1)))
    for lq, gt in pairs:
        assert lq.shape == (1, 7, 3, 12, 12) and gt.shape == (1, 7, 3, 48, 48)
        assert (bicubic(4)(lq) - gt).abs().mean() < (bicubic(4)(lq) - gt.roll(8, -1)).abs().mean()  # the same place


def test_crops_from_folders(sample, tmp_path):
    for kind in ('GT', 'LRx4'):
        reader = LmdbReader(sample / f'vimeo90k_train_{kind}.lmdb')
        for key in reader.listed_keys():
            path = tmp_path / kind / f'{key}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(reader.get(key))
    for ours, theirs in zip(Crops(tmp_path / 'GT', tmp_path / 'LRx4', crop=48), _crops(sample)):
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])
    with pytest.raises(DataError, match=r'two databases .* or two folders'):
        Crops(tmp_path / 'GT', sample / 'vimeo90k_train_LRx4.lmdb')


def test_output_of_a_trained_network(sample, write_options, tmp_path):
    network = BasicVSRPP(8, 1)
    torch.nn.init.normal_(network.conv_last.bias, std=0.1)  # so that it is not the one just built
    torch.save({'params': network.state_dict()}, tmp_path / 'net.pth')
    options = {'network_g': NETWORK, 'path': {'pretrain_network_g': str(tmp_path / 'net.pth')}}
    write_options(options, 'base.yml')
    (tmp_path / 'options.yml').write_text('_base_: base.yml\nname: other\n')
    restore = trained_network(tmp_path / 'options.yml')
    crops = _crops(sample, clips=1, crop=64)
    (lq, gt), = crops
    with torch.no_grad():
        assert torch.equal(restore(lq), network.eval()(lq))
        error = (network(lq) - gt).abs().mean().item()
    pixel = measure(unit_losses([]), crops, restore, progress=False)[PIXEL]
    assert pixel.typical == pytest.approx(error, rel=1e-4)

    options['network_g'] = {**NETWORK, 'num_blocks': 2}
    with pytest.raises(ValueError, match='does not fit this BasicVSRPP'):
        trained_network(write_options(options))
    for change, message in (({'network_g': {**NETWORK, 'blocks': 1}}, "unexpected keyword argument 'blocks'"),
                            ({'network_g': {'type': 'BasicVSRQQ'}}, "network_g:type: .* called 'BasicVSRQQ'"),
                            ({'path': {}}, 'path:pretrain_network_g')):
        with pytest.raises(OptionsError, match=message):
            trained_network(write_options({**options, **change}))


def test_bad_input(sample):
    with pytest.raises(MetricError, match=r"unknown metric 'gsmd' .did you mean 'gmsd'"):
        unit_losses(['psnr', 'gsmd'])
    with pytest.raises(DataError, match='no LMDB database is there'):
        Crops(sample / 'no.lmdb', sample / 'vimeo90k_train_LRx4.lmdb')
    with pytest.raises(DataError, match='LR frames are 24x16, too small for a crop of 96 px at scale 4; 64 fits'):
        list(_crops(sample, crop=96))
    with pytest.raises(DataError, match='50 is not divisible by the scale 4'):
        _crops(sample, crop=50)
    with pytest.raises(ValueError, match='the network does not enlarge by the scale'):
        measure(unit_losses([]), _crops(sample), bicubic(2), progress=False)
    gt = sample / 'vimeo90k_train_GT.lmdb'
    with pytest.raises(ValueError, match=r'gradient is zero on 3 of 3 clips\. Check that the output is not GT'):
        measure(unit_losses([]), Crops(gt, gt, scale=1, crop=48), lambda lq: lq, progress=False)


def test_script(sample, measured, tmp_path):
    done = run_python(SCRIPT, *METRICS, '--gt', sample / 'vimeo90k_train_GT.lmdb', '--lq',
                      sample / 'vimeo90k_train_LRx4.lmdb', '--crop', 48, '--share', 0.2, '--rule', 'gradient',
                      '--device', 'cpu', '-o', tmp_path / 'new' / 'weights.yml', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = (tmp_path / 'new/weights.yml').read_text()
    assert done.stdout == f'{console_table(measured, 0.2)}\n\n{written}'
    origin, _, rest = written.partition('\n')
    assert origin.startswith('  # python scripts/calibrate_weights.py tinyiqa gmsd psnr --gt ')
    assert rest == options_block(measured, 0.2, 'gradient')
    assert '12/12' in done.stderr  # the progress bar


@pytest.mark.parametrize('arguments, message', [
    (['gsmd'], "error: unknown metric 'gsmd' (did you mean 'gmsd'?)"),
    (['gmsd', '--lq', 'no.lmdb'], 'error: no.lmdb: no LMDB database is there'),
    (['gmsd', '--opt', 'options.yml'], 'error: Checkpoint net.pth: does not fit this BasicVSRPP'),
    (['gmsd', '--opt', 'no.yml'], 'error: no.yml: cannot read this option file'),
    (['entropy'], "error: IQALoss: metric 'entropy' cannot be a loss"),
    (['niqe'], 'error: niqe: images must be at least 192 px a side, got 64x64.'),
    (['gmsd', '--share', '0'], 'argument --share: expected a positive number, got 0'),
    (['gmsd', '--device', 'gpu'], 'argument --device: ')])
def test_script_says_what_is_wrong(sample, write_options, tmp_path, monkeypatch, capsys, arguments, message):
    torch.save({'params': {'conv_last.bias': torch.zeros(3)}}, tmp_path / 'net.pth')
    write_options({'network_g': NETWORK, 'path': {'pretrain_network_g': 'net.pth'}})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', [str(SCRIPT), '--gt', str(sample / 'vimeo90k_train_GT.lmdb'), '--lq',
                                     str(sample / 'vimeo90k_train_LRx4.lmdb'), '--crop', '64', *arguments])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPT), run_name='__main__')
    captured = capsys.readouterr()
    assert stop.value.code == 2 and not captured.out
    assert captured.err.rstrip().rpartition('\n')[2].removeprefix(f'{SCRIPT.name}: error: ').startswith(message)
