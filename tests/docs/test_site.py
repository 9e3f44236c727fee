"""The documentation site, built as `make docs` builds it."""
import importlib
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ('archs', 'balancing', 'checkpoints', 'data', 'inference', 'iqa', 'losses', 'metrics', 'models')
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """The built pages."""
    folder = tmp_path_factory.mktemp('site')
    built = subprocess.run([sys.executable, '-m', 'sphinx', '-W', '--keep-going', '-n', '-E', '-q', '-d',
                            folder / 'doctrees', '-b', 'html', 'docs', folder / 'html'],
                           cwd=ROOT, text=True, capture_output=True, timeout=600)
    assert not built.returncode, built.stderr
    return folder / 'html'


@pytest.fixture(scope='module')
def documented(site):
    """Every Python name that has an entry on a page."""
    *_, entries = (site / 'objects.inv').read_bytes().split(b'\n', 4)  # after a head of four lines
    return {entry.split()[0] for entry in zlib.decompress(entries).decode().splitlines() if ' py:' in entry}


@pytest.mark.parametrize('package', PACKAGES)
def test_every_exported_name_is_documented(documented, package):
    module = importlib.import_module(f'basicsr_nriqa.{package}')
    assert [name for name in module.__all__ if f'{module.__name__}.{name}' not in documented] == []


def test_files_of_the_repository_are_pages_whose_links_lead_to_pages(site):
    results = (site / 'results.html').read_text(encoding='utf-8')
    assert 'Ratios of medians' in results
    assert re.search(r'href="losses\.html#crops-hyperiqa-and-maniqa"', results)
    assert re.search(r'href="results\.html#data"', (site / 'data.html').read_text(encoding='utf-8'))


def test_other_files_of_the_repository_are_downloads(site):
    file, = re.findall(r'href="(_downloads/[^"]*study\.yml)"', (site / 'study.html').read_text(encoding='utf-8'))
    assert (site / file).read_bytes() == (ROOT / 'workflow/study.yml').read_bytes()


def test_pages_load_nothing_from_elsewhere(site):
    loading = re.compile(r'<(?:script|img|iframe|source)[^>]*\ssrc="(?:https?:)?//|'
                         r'<link(?![^>]*rel="canonical")[^>]*\shref="(?:https?:)?//|'
                         r'(?:@import|url\()\s*["\']?(?:https?:)?//')
    pages = [*site.rglob('*.html'), *site.rglob('*.css')]
    assert len(pages) > 20
    assert [page.name for page in pages if loading.search(page.read_text(encoding='utf-8'))] == []
