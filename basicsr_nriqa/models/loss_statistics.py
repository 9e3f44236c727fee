"""What the log says of the losses: values, gradient norms and how much they agree."""
import torch

from basicsr_nriqa.balancing.gradients import rank_count, summed_over_ranks

_MANY = 3  # pairs of losses; of more, the console shows the pair that disagrees most


class LossStatistics:
    """Values of the losses, and the inner products of their gradients at the output, of one iteration.

    Kept on the device, so that gathering them waits for nothing.

    Args:
        names (Sequence[str]): The losses.
    """

    def __init__(self, names):
        self.names = tuple(names)
        self._values = self._gramian = None

    def add(self, values, gradients):
        """Add a part of the batch.

        Args:
            values (dict[str, Tensor]): Loss name -> value, 0-d.
            gradients (Gradients): Of the same part.
        """
        values = torch.stack([values[name].float() for name in self.names]) * gradients.scale
        self._values = values if self._values is None else self._values + values
        # other parts, like other ranks, hold other elements of the output
        self._gramian = gradients.gramian if self._gramian is None else self._gramian + gradients.gramian

    def of_whole_batch(self):
        """Values (losses,) and Gramian (losses, losses) over all ranks, in which all must call; on the CPU."""
        ranks, count = rank_count(), len(self.names)
        summed = summed_over_ranks(torch.cat([self._values, self._gramian.flatten()]).double()).cpu()
        return summed[:count] / ranks, summed[count:].view(count, count) / ranks ** 2

    def not_finite(self):
        """Names of the losses with a value or gradient that is not finite, on any rank; all ranks must call."""
        values, gramian = self.of_whole_batch()
        finite = values.isfinite() & gramian.diagonal().isfinite()
        return [name for name, good in zip(self.names, finite.tolist()) if not good]

    def log(self):
        """Entries for the log: ``l_NAME`` values, ``g_NAME`` gradient norms at the output, ``cos_ONE~OTHER`` cosines
        of pairs of gradients; of more than three pairs ``cos_min`` for the console and ``cosines/ONE~OTHER`` for
        TensorBoard alone. On many ranks all must call."""
        values, gramian = self.of_whole_batch()
        norms = gramian.diagonal().clamp(min=0).sqrt()
        cosines = gramian / (norms[:, None] * norms).clamp(min=torch.finfo(torch.double).tiny)
        pairs = {f'{one}~{other}': cosines[i, j].item() for i, one in enumerate(self.names)
                 for j, other in enumerate(self.names[:i])}
        log = {f'l_{name}': value for name, value in zip(self.names, values.tolist())}
        log.update({f'g_{name}': norm for name, norm in zip(self.names, norms.tolist())})
        if len(pairs) > _MANY:
            log['cos_min'] = min(pairs.values())
        log.update({f"{'cosines/' if len(pairs) > _MANY else 'cos_'}{pair}": value for pair, value in pairs.items()})
        return log
