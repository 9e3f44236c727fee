"""What a balancer is, and the registry of balancers."""
BALANCERS = {}


def register_balancer(name):
    """Decorator of a :class:`Balancer`'s class, or a function that makes one: ``balance_opt: {type: NAME}`` finds it.

    Raises:
        ValueError: there is one of this name.
    """
    def register(balancer):
        if name in BALANCERS:
            raise ValueError(f"there is a balancer called '{name}' already: {BALANCERS[name].__module__}.")
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
        layer (str | None): ``output``: all that is needed are the gradients there. Else those at the weights of a layer
            are wanted too (``Gradients.at_layer``): ``last`` for the network's last convolution, or a module's name.
        measures (bool): Whether it looks at ``Gradients.at_layer`` in this iteration.
    """

    layer, measures = 'output', True

    def __init__(self):
        self.weights, self.skipped = {}, 0

    def check(self, losses):
        """Called before anything is built.

        Args:
            losses (Sequence[str]): Their names.

        Raises:
            ValueError: with these losses it cannot work.
        """
        if len(losses) < 2:
            raise ValueError(f"there is nothing to balance with the one loss '{''.join(losses)}': add another, or say "
                             '`type: fixed`.')

    def __call__(self, gradients, deficits):
        """Combine.

        Args:
            gradients (Gradients): Of all losses.
            deficits (dict[str, Tensor]): Loss name -> its distance from the best it can be, 0-d; positive inside the
                nominal range of its metric.

        Returns:
            Tensor: One gradient, of the output's shape, float32.
        """
        raise NotImplementedError

    def step(self):
        """The network's weights have been changed with what the calls since the last step returned."""

    def discard(self):
        """They have not: something was not finite. Forget what was gathered for :meth:`step`."""

    def state_dict(self):
        """All that a resumed training needs to go on with the same numbers: plain numbers, lists, dicts, tensors."""
        return {'skipped': self.skipped, 'weights': dict(self.weights)}

    def load_state_dict(self, state):
        """Go on from a :meth:`state_dict`."""
        self.skipped, self.weights = state['skipped'], dict(state['weights'])
