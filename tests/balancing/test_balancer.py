"""The sum, and balancers of the user's own."""
import re
from pathlib import Path

import pytest
import torch

from basicsr_nriqa.balancing import BALANCERS, Balancer, FixedBalancer, Gradients, register_balancer

DOCS = Path(__file__).resolve().parents[2] / 'docs/balancing.md'


def _gradients(scale=1.0):
    gradients = Gradients(['a', 'b'], torch.empty(2, 3), scale)
    gradients.put('a', torch.arange(6.0).view(2, 3))
    gradients.put('b', torch.tensor(2.0).expand(2, 3))  # of a plain sum: one expanded number
    return gradients


def test_the_sum():
    combined = FixedBalancer()(_gradients(), {})
    assert torch.equal(combined, torch.arange(6.0).view(2, 3) + 2)
    assert torch.equal(FixedBalancer()(_gradients(0.5), {}), combined / 2)
    FixedBalancer().check(['a'])


def test_rows_products_and_combinations():
    gradients = _gradients()
    assert torch.equal(gradients.row('b'), torch.full((2, 3), 2.0))
    assert gradients.gramian.tolist() == [[55, 30], [30, 24]]
    assert torch.equal(gradients.combined([1, -0.5]), torch.arange(6.0).view(2, 3) - 1)
    assert Gradients(['a'], torch.empty(1, dtype=torch.half)).matrix.dtype == torch.float32


def test_the_own_balancer_of_the_docs(monkeypatch):
    monkeypatch.setattr('basicsr_nriqa.balancing.balancer.BALANCERS', dict(BALANCERS))
    code = re.search(r'## Own balancers\n\n```python\n(.*?)```', DOCS.read_text(), re.DOTALL)[1]
    names = {}
    exec(compile(code, str(DOCS), 'exec'), names)
    own = names['Shortest']()
    assert torch.equal(own(_gradients(), {}), torch.full((2, 3), 2.0))
    own.step()
    with pytest.raises(ValueError, match="nothing to balance with the one loss 'a'"):
        own.check(['a'])


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="a balancer called 'fixed' already"):
        register_balancer('fixed')(Balancer)
    assert {'fixed', 'gradnorm', 'upgrad', 'pcgrad', 'mgda', 'cagrad', 'imtl_g', 'aligned_mtl'} <= set(BALANCERS)
