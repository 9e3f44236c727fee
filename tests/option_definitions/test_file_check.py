import pytest
import torch
import yaml
from conftest import ROOT, run_python

from basicsr_nriqa.archs import BasicVSRPP
from basicsr_nriqa.option_definitions.file_check import check_file
from basicsr_nriqa.options import OptionsError


def test_a_file_that_is_fine(train_options, write_options):
    assert check_file(write_options(train_options)) == []


def test_changed_first(train_options, write_options):
    with pytest.raises(OptionsError, match='train:total_iter: expected a whole number'):
        check_file(write_options(train_options), ['train:total_iter=soon'])


def test_without_train_it_is_a_test(train_options, write_options):
    options = {key: value for key, value in train_options.items() if key not in ('train', 'logger')}
    options['datasets'] = {'test': options['datasets']['val']}
    assert check_file(write_options(options)) == []
    del options['val']
    with pytest.raises(OptionsError, match='val: is missing'):
        check_file(write_options(options))


def test_a_test_may_inherit_from_a_training(train_options, write_options):
    train_options['datasets'] = {'test': train_options['datasets']['val']}
    assert check_file(write_options(train_options), is_train=False) == []
    with pytest.raises(OptionsError, match='datasets:train: is missing'):
        check_file(write_options(train_options))


def test_missing_weights_are_told_and_not_fetched(train_options, write_options, monkeypatch, tmp_path):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr('urllib.request.urlopen', lambda *_, **__: pytest.fail('it must not look for them'))
    train_options['train']['iqa_opt'] = {'maniqa': {'type': 'MANIQALoss'}}
    missing, = check_file(write_options(train_options))
    assert missing.startswith('train:iqa_opt:maniqa: ') and 'ckpt_koniq10k.pt' in missing


def test_for_another_machine(train_options, write_options, monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    train_options['datasets']['train']['dataroot_gt'] = 'there/only.lmdb'
    train_options['path']['pretrain_network_g'] = 'there/too.pth'
    train_options['network_g']['spynet_path'] = 'there/as_well.pth'
    train_options['num_gpu'] = 8
    path = write_options(train_options)
    assert check_file(path, here=False) == []
    with pytest.raises(OptionsError) as error:
        check_file(path)
    assert str(error.value).count('\n- ') == 4


def test_the_script(train_options, write_options, tmp_path):
    good = write_options(train_options, 'good.yml')
    bad = write_options({**train_options, 'trian': {}}, 'bad.yml')
    worse = tmp_path / 'worse.yml'
    worse.write_text('name: [')
    done = run_python(ROOT / 'scripts/check_options.py', good, bad, worse, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.strip() == 'error: 2 of 3 cannot be used.'
    assert f'{good}: fine\n{bad}:\n- trian: unknown option (did you mean \'train\'?).' in done.stdout
    assert f'{worse}: not usable as YAML' in done.stdout
    assert yaml.safe_load(good.read_text()) == train_options and sorted(path.name for path in tmp_path.iterdir()) == [
        'bad.yml', 'good.yml', 'worse.yml']


@pytest.mark.parametrize('place, value, words', [
    ('datasets:train:num_frame', 9, 'datasets:train: '), ('datasets:train:gt_size', 62, 'datasets:train: '),
    ('datasets:train:gt_size', 512, 'too small for gt_size 512'),
    ('datasets:val:io_backend', {'type': 'disk'}, 'datasets:val: '),
    ('network_g', {'type': 'VRT', 'num_heads': [7] * 13}, 'network_g: '),
    ('path:pretrain_network_g', 'other.pth', 'path:pretrain_network_g: ')])
def test_what_a_trial_shows(train_options, write_options, tmp_path, monkeypatch, place, value, words):
    monkeypatch.chdir(tmp_path)
    torch.save({'params': BasicVSRPP(mid_channels=16, num_blocks=1).state_dict()}, 'other.pth')
    *parents, last = place.split(':')
    target = train_options
    for key in parents:
        target = target[key]
    target[last] = value
    path = write_options(train_options)
    with pytest.raises(OptionsError, match=r'(?s)options\.yml:\n- .*' + words) as error:
        check_file(path)
    assert str(error.value).count('\n- ') == 1
    assert check_file(path, here=False) == []


def test_problems_and_missing_weights_are_told_together(train_options, write_options, monkeypatch, tmp_path):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    train_options['train']['iqa_opt'] = {'maniqa': {'type': 'MANIQALoss'}, 'a': {'type': 'LPIPSLos'}}
    with pytest.raises(OptionsError, match=r"(?s)did you mean 'LPIPSLoss'.*would be fetched:\n- .*ckpt_koniq10k"):
        check_file(write_options(train_options))


def test_the_script_knows_imported_classes(train_options, write_options, tmp_path):
    (tmp_path / 'my_losses.py').write_text(
        'import torch\nfrom basicsr.utils.registry import LOSS_REGISTRY\n\n\n'
        '@LOSS_REGISTRY.register()\nclass MyLoss(torch.nn.Module):\n    def __init__(self, gain=1):\n        pass\n')
    train_options['train']['iqa_opt'] = {'mine': {'type': 'MyLoss', 'gain': 2}}
    path = write_options(train_options)
    done = run_python(ROOT / 'scripts/check_options.py', path, '--import', 'my_losses', cwd=tmp_path)
    assert done.returncode == 0 and f'{path}: fine' in done.stdout, done.stderr
    with pytest.raises(OptionsError, match="no loss is called 'MyLoss'"):
        check_file(path)
