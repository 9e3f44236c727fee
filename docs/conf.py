"""How Sphinx builds the documentation: `make docs`. Nothing is fetched, neither by the build nor by the pages."""
import os
import re
from configparser import ConfigParser
from pathlib import Path

from basicsr_nriqa.version import __version__

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
_setup = ConfigParser()
_setup.read(ROOT / 'setup.cfg', encoding='utf-8')

project = _setup['metadata']['name']
version = release = __version__
html_title = f'{project} {release}'

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx_copybutton']
exclude_patterns = ['_*']
highlight_language = 'none'
smartquotes = False  # headings are words of messages, to be found by a search
# `-n` wants an entry for every name in a docstring or signature. Other packages' names have none, and their inventories
# are not fetched; private names (of type variables) are to have none.
nitpick_ignore = [('py:class', name) for name in ('Path', 'Tensor', 'ndarray')]
nitpick_ignore_regex = [
    ('py:class', r'(basicsr|collections|fractions|numpy|os|pathlib|torch)\..+'),
    ('py:class', r'basicsr_nriqa\..+\._\w+'),
]

# Markdown: headings get the anchors that a Git host gives them
myst_heading_anchors = 6
myst_enable_extensions = ['attrs_block']

# docstrings: types are those of the signatures, which mypy checks
autodoc_member_order = 'bysource'
autodoc_inherit_docstrings = False
autodoc_typehints_format = 'short'
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
toc_object_entries_show_parents = 'hide'
napoleon_numpy_docstring = False
napoleon_custom_sections = [('Attributes', 'params_style')]  # one entry may name several
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_preprocess_types = False

html_theme = 'furo'
html_static_path = ['_static']
html_css_files = ['site.css']
html_use_index = html_domain_indices = False  # the search finds as much
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
copybutton_prompt_text = r'>>> |\.\.\. |\$ '
copybutton_prompt_is_regexp = True

# files of the repository that are pages of the site; in docs/ lies a page that links to each, for readers on a Git host
BROUGHT_IN = {'results': 'benchmarks/RESULTS.md', 'changelog': 'CHANGELOG.md', 'contributing': 'CONTRIBUTING.md'}
_PAGES = {ROOT / file: DOCS / f'{page}.md' for page, file in BROUGHT_IN.items()}
_RELATIVE_LINK = re.compile(r'(?<=\]\()(?!\w+:|#)([^)#\s]+)')
_FILE_NAME_AS_TEXT = re.compile(r'\[[\w./]+\.md\](?=\()')


def bring_in(app, page, source):
    """Put a file of the repository in the place of its page, lead links to such files to the pages, and let a link that
    shows a file's name show the title of its page or section.

    Other relative links that lead out of docs/ become downloads, by MyST.
    """
    folder = (DOCS / page).parent
    if page in BROUGHT_IN:
        file = ROOT / BROUGHT_IN[page]
        app.env.note_dependency(file)
        source[0], folder = file.read_text(encoding='utf-8'), file.parent

    def from_the_page(link):
        target = Path(os.path.normpath(folder / link[1]))
        return os.path.relpath(_PAGES.get(target, target), (DOCS / page).parent) if target.exists() else link[1]

    source[0] = _FILE_NAME_AS_TEXT.sub('[]', _RELATIVE_LINK.sub(from_the_page, source[0]))


def parsable_signature(app, what, name, object_, options, signature, returns):
    """A dataclass's fields with a default factory; ``<factory>`` would keep Sphinx from reading the whole signature."""
    return signature and signature.replace('<factory>', '...'), returns


def setup(app):
    app.connect('source-read', bring_in)
    app.connect('autodoc-process-signature', parsable_signature)
