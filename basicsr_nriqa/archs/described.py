"""How messages say what a network was given."""
from torch import Tensor


def described(x: Tensor) -> str:
    """Shape and type of a tensor, such as ``(1, 7, 3, 64, 64) of torch.uint8``."""
    # plain numbers also where the call is traced
    return f'{tuple(map(int, x.shape))} of {x.dtype}'
