"""README.md's tables say what is in the registries, the catalogue and setup.cfg."""
import re
from configparser import ConfigParser

import pytest
from basicsr.utils import registry
from conftest import ROOT

from basicsr_nriqa.balancing import BALANCERS
from basicsr_nriqa.iqa import CATALOGUE, metric_info
from basicsr_nriqa.losses.named_loss import NamedLoss

README = (ROOT / 'README.md').read_text(encoding='utf-8')


def section(title):
    return re.split(r'^## ', README.split(f'\n## {title}\n')[1], flags=re.MULTILINE)[0]


def codes(text):
    return set(re.findall(r'`([^`]+)`', text))


def ours(kind):
    classes = getattr(registry, f'{kind}_REGISTRY')
    return {name: classes.get(name) for name in sorted(classes.keys())
            if classes.get(name).__module__.startswith('basicsr_nriqa.')}


NAMED = {name: loss for name, loss in ours('LOSS').items() if issubclass(loss, NamedLoss)}


@pytest.mark.parametrize('label, kind', [('losses', 'LOSS'), ('metrics', 'METRIC'), ('archs', 'ARCH'),
                                         ('models', 'MODEL'), ('datasets', 'DATASET')])
def test_what_the_registries_get(label, kind):
    row, = re.findall(rf'^\| {label} \| (.*) \|$', section('In your own BasicSR project'), re.MULTILINE)
    expected = set(ours(kind)) - (set(NAMED) if 'the nine below' in row else set())
    assert codes(row) == expected


@pytest.mark.parametrize('name', NAMED)
def test_named_losses_with_their_weights(name):
    metrics, reference, better, weight = re.findall(
        rf'^\| `{name}` \| (.*) \| (yes|no) \| (higher|lower) \| (\S+) \|$', section('Losses'), re.MULTILINE)[0]
    assert codes(metrics) == set(NAMED[name].VARIANTS.values())
    for metric in codes(metrics):
        info = metric_info(metric)
        assert (info.full_reference, info.lower_better) == (reference == 'yes', better == 'lower')
        assert info.table1_weight == float(weight)


def test_all_metrics_of_the_catalogue():
    assert set(CATALOGUE) <= codes(section('Losses'))


def test_number_of_balancers():
    named = ('gradnorm', 'upgrad', 'pcgrad', 'mgda', 'anchored')
    assert set(named) <= set(BALANCERS)
    assert f'anchors and {len(BALANCERS) - len(named)} more' in ' '.join(README.split())


def test_licences_of_everything_depended_on():
    setup = ConfigParser()
    setup.read(ROOT / 'setup.cfg', encoding='utf-8')
    extras = setup['options.extras_require']
    lines = (setup['options']['install_requires'] + extras['balancers'] + extras['study']).splitlines()
    packages = {re.split(r'[\[<>=;! ]', line)[0] for line in lines if line and not line.startswith('#')}
    assert len(packages) > 20
    words = set(re.findall(r'[\w-]+', section('Licences')))
    assert packages <= words


def test_pictures_are_there():
    pictures = re.findall(r'!\[[^]]+\]\(([^)]+)\)', README)
    assert pictures and all((ROOT / picture).is_file() for picture in pictures)
