"""Every relative link of the documentation leads to a file, and to a heading of it, as a Git host resolves them."""
import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob('*.md'), *sorted((ROOT / 'docs').rglob('*.md')), *(ROOT / 'benchmarks').glob('*.md')]


@cache
def read(path):
    """The inline tokens of a Markdown file, each with the tag of the block it stands in."""
    tokens = MarkdownIt('gfm-like', {'linkify': False}).parse(path.read_text(encoding='utf-8'))
    return [(tokens[index - 1].tag, token) for index, token in enumerate(tokens) if token.type == 'inline']


def slugs(path):
    """The anchors that GitHub gives to a file's headings."""
    found = []
    for tag, token in read(path):
        if tag in ('h1', 'h2', 'h3', 'h4', 'h5', 'h6'):
            text = ''.join(child.content for child in token.children if child.type in ('text', 'code_inline'))
            slug = re.sub(r'[^\w\- ]', '', text.strip().lower()).replace(' ', '-')
            found.append(slug if slug not in found else f'{slug}-{sum(slug == other for other in found)}')
    return found


def links(path):
    """The targets of a file's links and pictures."""
    for _, token in read(path):
        for child in token.children:
            target = child.attrs.get('href') or child.attrs.get('src')
            if target:
                yield target


def broken_links(path):
    """Those that are relative and lead nowhere."""
    broken = []
    for link in links(path):
        if re.match(r'\w+:', link):
            continue
        file, _, anchor = unquote(link).partition('#')
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and (target.suffix != '.md' or anchor not in slugs(target))):
            broken.append(link)
    return broken


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    assert not broken_links(page)


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    (tmp_path / 'other.md').write_text('# A `code` & *more*: 2 x 3\n\n## Again\n\n## Again\n')
    page = tmp_path / 'page.md'
    page.write_text('# Here\n\n[a](other.md#a-code--more-2-x-3) [b](other.md#again-1) [c](#here) [d](https://x.org/y)\n\n'
                    '| t |\n|---|\n| [e](other.md#again-2) |\n\n[f](none.md) ![g](none.png) [h](#there)\n\n'
                    '```\n[i](none.md)\n```\n')
    assert broken_links(page) == ['other.md#again-2', 'none.md', 'none.png', '#there']


def test_every_page_can_be_reached_from_the_front_page():
    front = (ROOT / 'docs/index.md').read_text(encoding='utf-8')
    listed = re.findall(r'^[\w/]+$', ''.join(re.findall(r'```\{toctree\}(.*?)```', front, re.DOTALL)), re.MULTILINE)
    pages = {path.relative_to(ROOT / 'docs').with_suffix('').as_posix() for path in PAGES
             if path.is_relative_to(ROOT / 'docs')}
    assert pages - {'index'} <= set(listed)
    assert len(listed) == len(set(listed))
