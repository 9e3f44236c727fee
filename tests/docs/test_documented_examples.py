"""Every Python and YAML example of the pages, and what tells them and the commands apart."""
import pytest
from conftest import ROOT
from documentation import Place, blocks, commands, pages
from documented_examples import AFTERWARDS, CHECKS, GIVEN
from user_checkout import make_checkout
from warm_python import warm_python


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    return make_checkout(tmp_path_factory.mktemp('user') / 'basicsr-nriqa', ('study_data', 'baselines'), small=False)


@pytest.fixture
def warm():
    return warm_python()


@pytest.mark.parametrize('page', [page for page in pages() if any(block.language in CHECKS for block in blocks(page))])
def test_examples_work(page, warm, checkout):
    status, output = warm.run([ROOT / 'tests/docs/documented_examples.py', page], checkout, ('random_metrics',))
    assert status == 0, output


def test_pages_that_are_given_something_have_examples():
    for page in {*GIVEN, *AFTERWARDS}:
        assert any(block.language == 'python' for block in blocks(page))


PAGE = """\
Text with `make` and `make this`, ``python that.py
-x``, `python_thing` and `git`.

```
# a comment
python one.py 'a # b' c#d  \\
    --more    # said about it
some output
OMP_NUM_THREADS=1 python two.py && make three
```

* a list

  ```yaml
  a: 1
  ```

```console
$ anything at all
what it prints
```

```sh
anything --else
```
"""


def test_what_is_a_command():
    assert commands('page.md', PAGE) == [
        ("python one.py 'a # b' c#d --more", Place('page.md', 6)),
        ('OMP_NUM_THREADS=1 python two.py', Place('page.md', 9)), ('make three', Place('page.md', 9)),
        ('anything at all', Place('page.md', 19)), ('anything --else', Place('page.md', 24)),
        ('make this', Place('page.md', 1)), ('python that.py -x', Place('page.md', 1))]


def test_what_is_a_block():
    assert [(block.language, block.place.line) for block in blocks('page.md', PAGE)] == [
        ('', 5), ('yaml', 15), ('console', 19), ('sh', 24)]
    assert blocks('page.md', PAGE)[1].text == 'a: 1'
