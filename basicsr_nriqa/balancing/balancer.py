"""What a balancer is, and the registry of balancers."""
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import Tensor

from basicsr_nriqa.balancing.gradients import Gradients

BALANCERS: dict[str, Callable[..., 'Balancer']] = {}
_Maker = TypeVar('_Maker', bound=Callable[..., 'Balancer'])


def register_balancer(name: str) -> Callable[[_Maker], _Maker]:
    """Decorator of a :class:`Balancer`'s class, or a function that makes one: ``balance_opt: {type: NAME}`` finds it.

    Raises:
        ValueError: there is one of this name.
    """
    def register(balancer: _Maker) -> _Maker:
        if name in BALANCERS:
            raise ValueError(f"there is a balancer called '{name}' already, from {BALANCERS[name].__module__}. Choose "
                             'another name.')
        BALANCERS[name] = balancer
        return balancer
    return register


class Balancer:
    """Many losses to one gradient. An own one is a subclass with :func:`register_balancer`; its arguments are the other
    options of ``balance_opt``.

    In every iteration it is called once, or once for each part of the batch, and then, unless something was not finite,
    :meth:`step` follows. All ranks of a distributed training call at the same time and must come to the same weights.

    Attributes:
        weights (dict[str, float]): Loss name -> what its gradient was multiplied with last, for the log; may be empty.
        skipped (int): Steps that it could not balance, for the log.
        layer (str): ``output``: all that is needed are the gradients there. Else those at the weights of a layer
            are wanted too (``Gradients.at_layer``): ``last`` for the network's last convolution, or a module's name.
        measures (bool): Whether it looks at ``Gradients.at_layer`` in this iteration.
    """

    layer: str = 'output'
    measures: bool = True

    def __init__(self) -> None:
        self.weights: dict[str, float] = {}
        self.skipped = 0

    def check(self, losses: Sequence[str]) -> None:
        """Called before anything is built.

        Args:
            losses (Sequence[str]): Their names.

        Raises:
            ValueError: with these losses it cannot work.
        """
        if len(losses) < 2:
            raise ValueError(f"there is nothing to balance with the one loss '{''.join(losses)}': add another, or say "
                             '`type: fixed`.')

    def __call__(self, gradients: Gradients, deficits: dict[str, Tensor]) -> Tensor:
        """Combine.

        Args:
            gradients (Gradients): Of all losses.
            deficits (dict[str, Tensor]): Loss name -> its distance from the best it can be, 0-d; positive inside the
                nominal range of its metric.

        Returns:
            Tensor: One gradient, of the output's shape, float32.
        """
        raise NotImplementedError

    def step(self) -> None:
        """The network's weights have been changed with what the calls since the last step returned."""

    def discard(self) -> None:
        """They have not: something was not finite. Forget what was gathered for :meth:`step`."""

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs to go on with the same numbers: plain numbers, lists, dicts, tensors."""
        return {'skipped': self.skipped, 'weights': dict(self.weights)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        self.skipped, self.weights = state['skipped'], dict(state['weights'])
