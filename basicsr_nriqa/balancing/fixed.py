"""Many losses to one gradient: the fixed weights of the paper's Table I."""


class FixedBalancer:
    """Sums the gradients: each loss carries its fixed weight (``loss_weight``) already.

    A balancer is called with the gradients of all losses at the network's output and returns the one gradient that
    goes back through the network.
    """

    def __call__(self, gradients):
        """Combine.

        Args:
            gradients (dict[str, Tensor]): Loss name -> gradient, all of the output's shape; they may be changed.

        Returns:
            Tensor: Their sum.
        """
        first, *others = gradients.values()
        for gradient in others:
            first = first.add_(gradient)
        return first
