"""What networks say of input that they do not take."""
import pytest
import torch

from basicsr_nriqa.archs import VRT, BasicVSRPP, ISeeBetter, SRGANDiscriminator
from basicsr_nriqa.archs.described import described

NETWORKS = {
    'BasicVSRPP': lambda: BasicVSRPP(mid_channels=8, num_blocks=1),
    'ISeeBetter': lambda: ISeeBetter(base_filter=8, num_feat=4, num_block=1, num_frame=3),
    'VRT': lambda: VRT(window_size=(2, 4, 4), depths=(2,) * 8, embed_dims=(8,) * 8, num_heads=(2,) * 8,
                       indep_reconsts=(), deformable_groups=2),
    'SRGANDiscriminator': SRGANDiscriminator}


@pytest.mark.parametrize('name', NETWORKS)
def test_bytes_are_an_error(name):
    shape = (2, 3, 16, 16) if name == 'SRGANDiscriminator' else (1, 2, 3, 16, 16)
    with pytest.raises(ValueError, match=rf'^{name}: .*floats in \[0, 1\].*; got \({shape[0]}, .* of torch\.uint8'):
        NETWORKS[name]()(torch.zeros(shape, dtype=torch.uint8))


def test_a_shape_is_numbers_where_the_call_is_traced():
    seen = []

    def note(x):
        seen.append(described(x))
        return x + 1
    torch.jit.trace(note, torch.zeros(2, 3))
    assert seen[0] == '(2, 3) of torch.float32'
