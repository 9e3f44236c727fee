import sys

import pytest
from basicsr.utils.options import parse_options

from basicsr_nriqa.options import (
    OptionsError,
    copy_options,
    load_yaml,
    parse_value,
    read_options,
    set_option,
    split_assignment,
)


def _write(folder, **files):
    for name, text in files.items():
        (folder / f'{name}.yml').write_text(text)


def test_numbers_as_people_write_them(tmp_path):
    _write(tmp_path, a='a: 4e-4\nb: 1E5\nc: !!float 4e-4\nd: "4e-4"\ne: 1e\nf: -.5e+3\ng: 12\nh: 0x1e4\n')
    assert read_options(tmp_path / 'a.yml') == {'a': 4e-4, 'b': 1e5, 'c': 4e-4, 'd': '4e-4', 'e': '1e', 'f': -500.0,
                                                'g': 12, 'h': 0x1e4}


def test_inheritance(tmp_path):
    (tmp_path / 'base').mkdir()
    _write(tmp_path / 'base', a='x: 1\ntrain: {lr: 1, loss: {type: A, w: 2}}\n', b='x: 2\ny: 3\n')
    _write(tmp_path, middle='_base_: [base/a.yml, base/b.yml]\ntrain: {lr: 5}\n',
           child='_base_: middle.yml\ntrain: {loss: {_delete_: true, type: B}}\nz: [1, 2]\n')
    expected = {'x': 2, 'y': 3, 'z': [1, 2], 'train': {'lr': 5, 'loss': {'type': 'B'}}}
    assert read_options(tmp_path / 'child.yml') == expected
    copy_options(tmp_path / 'child.yml', tmp_path / 'elsewhere.yml')
    assert read_options(tmp_path / 'elsewhere.yml') == expected
    _write(tmp_path, plain='x: 1  # a comment\n')
    copy_options(tmp_path / 'plain.yml', tmp_path / 'copy.yml')
    assert (tmp_path / 'copy.yml').read_text() == 'x: 1  # a comment\n'


def test_what_drops_the_inherited_can_be_inherited(tmp_path):
    _write(tmp_path, first='network: {type: A, width: 1}\n', second='network: {_delete_: true, type: B}\n',
           third='_base_: second.yml\nnetwork: {depth: 2}\n', child='_base_: [first.yml, third.yml]\nx: 1\n',
           grandchild='_base_: child.yml\nnetwork: {height: 3}\n')
    assert read_options(tmp_path / 'child.yml') == {'network': {'type': 'B', 'depth': 2}, 'x': 1}
    assert read_options(tmp_path / 'grandchild.yml') == {'network': {'type': 'B', 'depth': 2, 'height': 3}, 'x': 1}


@pytest.mark.parametrize('text', [
    'a: !!python/object/apply:os.system [touch {marker}]', 'a: !!python/object/new:os.system [touch {marker}]',
    '? !!python/object/apply:os.system [touch {marker}]\n: 1', '_base_: evil.py', '_base_: evil.yml'])
def test_an_option_file_cannot_run_code(text, tmp_path, monkeypatch):
    marker = tmp_path / 'ran'
    (tmp_path / 'evil.py').write_text(f'open({str(marker)!r}, "w")')
    _write(tmp_path, evil=f'b: !!python/object/apply:os.system [touch {marker}]')
    _write(tmp_path, a=text.format(marker=marker))
    with pytest.raises(OptionsError, match='yml'):
        read_options(tmp_path / 'a.yml')
    monkeypatch.setattr(sys, 'argv', ['train.py', '-opt', str(tmp_path / 'a.yml')])
    with pytest.raises(OptionsError):  # BasicSR's own entrance
        parse_options(str(tmp_path))
    assert not marker.exists()


def test_errors_name_the_file(tmp_path):
    _write(tmp_path, twice='a: 1\nb: 2\na: 3\n', text='just words', open='a: [1', loop='_base_: loop.yml\n',
           clash='_base_: list.yml\na: {b: 1}\n', list='a: {_x: 1}\n')
    for name, words in {'twice': "key 'a' is given twice", 'text': 'expected options', 'open': 'not usable as YAML',
                        'loop': 'leads back to the file itself', 'nowhere': 'cannot read'}.items():
        with pytest.raises(OptionsError, match=rf'{name}\.yml.*{words}') as error:
            read_options(tmp_path / f'{name}.yml')
        assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(('text', 'message'), [
    ('', r'a\.yml: expected options .* got nothing: it is empty'), ('- x', 'expected options .* got a list'),
    ('5: x', r'a\.yml: 5: expected text'), ('[x, y]: 1', 'not usable as YAML'), ('a: \xe9', 'save it as UTF-8'),
    ('_base_: 5', '_base_: expected an option file or a list of them, got 5'), ('_base_: [5]', '_base_: .* got .5'),
    ('_base_: bse.yml', r"_base_: .*bse\.yml: no such file .did you mean 'base\.yml'"),
    ('_base_: base.yml\nname: {type: x}', r'a\.yml: name: cannot be merged: .*_delete_')])
def test_what_is_wrong_with_a_file_is_said_in_words_of_yaml(tmp_path, text, message):
    _write(tmp_path, base='name: x\n')
    (tmp_path / 'a.yml').write_bytes(text.encode('latin1'))
    with pytest.raises(OptionsError, match=message):
        read_options(tmp_path / 'a.yml')


def test_a_mistyped_file_name_gets_the_nearest(tmp_path):
    _write(tmp_path, finetune_maniqa='name: x\n')
    with pytest.raises(OptionsError, match=r"finetune_maniq\.yml: cannot read .*did you mean 'finetune_maniqa\.yml'"):
        read_options(tmp_path / 'finetune_maniq.yml')


def test_assignments_of_the_command_line():
    assert split_assignment('path:pretrain_network_g=a=b.pth') == ['path:pretrain_network_g', 'a=b.pth']
    for text in ('name', '=3', ' = 3'):
        with pytest.raises(OptionsError, match='--force_yml: expected OPTION=VALUE'):
            split_assignment(text)


def test_values_of_the_command_line():
    assert parse_value('4e-4') == 4e-4 and parse_value('!!float 4e-4') == 4e-4 and parse_value('[1, 2]') == [1, 2]
    assert parse_value('none') is parse_value('~') is None and parse_value('true') is True
    assert parse_value('experiments/x.pth') == 'experiments/x.pth'
    with pytest.raises(OptionsError, match='cannot read the value'):
        parse_value('!!python/object/apply:os.getcwd []')
    options = {'train': {'optim_g': {'lr': 1}}}
    set_option(options, 'train:optim_g:lr', 2)
    set_option(options, 'train:new', 3)
    assert options == {'train': {'optim_g': {'lr': 2}, 'new': 3}}
    with pytest.raises(OptionsError, match=r"no options 'trian' .did you mean 'train'"):
        set_option(options, 'trian:lr', 2)
    with pytest.raises(OptionsError, match="'train:new:lr' cannot be set, as 'train:new' is 3"):
        set_option(options, 'train:new:lr', 2)


def test_force_yml_runs_no_code(tmp_path, monkeypatch):
    _write(tmp_path, a='name: x\nmodel_type: VideoIQAModel\nnum_gpu: 0\ndatasets: {}\npath: {}\nmanual_seed: 0\n'
                       'network_g: {}\nlogger: {}\ntrain: {}\n')
    marker = tmp_path / 'ran'
    monkeypatch.setattr(sys, 'argv', ['train.py', '-opt', str(tmp_path / 'a.yml'), '--force_yml',
                                      f'name=[open({str(marker)!r},"w")]'])
    with pytest.raises(OptionsError, match=r'--force_yml|name: expected text'):
        parse_options(str(tmp_path))
    assert not marker.exists()


@pytest.mark.parametrize('text, hint', [
    ('train:\n\ttotal_iter: 3\n', 'Indent with spaces'), ('name: a: b\n', 'not in quotes'),
    ('name:a\nscale: 4\n', 'space after a colon'), ('a: 1\n b: 2\n', 'indented too far'),
    ('train:\n    a: 1\n  b: 2\n', 'indented differently')])
def test_errors_of_yaml_have_a_hint(tmp_path, text, hint):
    path = tmp_path / 'options.yml'
    path.write_text(text)
    with pytest.raises(OptionsError, match=hint):
        load_yaml(path)


def test_points_instead_of_colons_are_named():
    with pytest.raises(OptionsError, match='separated by `:`, so `train:total_iter`'):
        set_option({'train': {'total_iter': 1}}, 'train.total_iter', 3)
