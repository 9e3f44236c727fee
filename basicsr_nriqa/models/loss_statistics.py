"""What the log says of the losses: values, gradient norms and how much they agree."""
from collections.abc import Iterable
from functools import reduce

import torch
from torch import Tensor

from basicsr_nriqa.balancing.gradients import Gradients, rank_count, summed_over_ranks

_MANY = 3  # pairs of losses; of more, the console shows the pair that disagrees most


class LossStatistics:
    """Values of the losses, and the inner products of their gradients at the output, of one iteration.

    Kept on the device, so that gathering them waits for nothing.

    Args:
        names (Iterable[str]): The losses.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._parts: list[tuple[Tensor, Tensor]] = []  # of the batch: values and Gramian

    def add(self, values: dict[str, Tensor], gradients: Gradients) -> None:
        """Add a part of the batch.

        Args:
            values (dict[str, Tensor]): Loss name -> value, 0-d.
            gradients (Gradients): Of the same part.
        """
        stacked = torch.stack([values[name].float() for name in self.names])
        self._parts.append((stacked * gradients.scale, gradients.gramian))

    def of_whole_batch(self) -> tuple[Tensor, Tensor]:
        """Values (losses,) and Gramian (losses, losses) over all ranks, in which all must call; on the CPU."""
        ranks, count = rank_count(), len(self.names)
        # other parts, like other ranks, hold other elements of the output, so their Gramians add up
        values, gramian = (reduce(torch.add, of_parts) for of_parts in zip(*self._parts))
        summed = summed_over_ranks(torch.cat([values, gramian.flatten()]).double()).cpu()
        return summed[:count] / ranks, summed[count:].view(count, count) / ranks ** 2

    def not_finite(self) -> list[str]:
        """Names of the losses with a value or gradient that is not finite, on any rank; all ranks must call."""
        values, gramian = self.of_whole_batch()
        finite = values.isfinite() & gramian.diagonal().isfinite()
        return [name for name, good in zip(self.names, finite.tolist()) if not good]

    def log(self) -> dict[str, float]:
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
