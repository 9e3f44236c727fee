"""Many losses to one gradient: the fixed weights of the paper's Table I."""


class FixedBalancer:
    """Sums the gradients: each loss carries its fixed weight (``loss_weight``) already.

    A balancer is called with the gradients of all losses at the network's output and their values, and returns the one
    gradient that goes back through the network. For the log, ``weights`` is what it multiplies each loss
    with, and ``skipped`` counts the steps that it could not balance.
    """

    weights = {}  # noqa: RUF012  never changed
    skipped = 0

    def __call__(self, gradients, values=None):
        """Combine.

        Args:
            gradients (dict[str, Tensor]): Loss name -> gradient, all of the output's shape; they may be changed.
            values (dict[str, Tensor] | None): Loss name -> its distance from the best it can be; not used here.

        Returns:
            Tensor: Their sum.
        """
        first, *others = gradients.values()
        total = first.contiguous()  # the gradient of a plain sum is one expanded number: not writable
        for gradient in others:
            total.add_(gradient)
        return total

    def state_dict(self):
        """What a resumed training needs: nothing."""
        return {}

    def load_state_dict(self, state):
        """Go on from a :meth:`state_dict`."""
