"""What a model does for its guard: keep the weights that passed, and take them back at the end."""
from collections.abc import Iterable
from pathlib import Path

from basicsr.models.base_model import BaseModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import get_dist_info
from torch import nn

from basicsr_nriqa.data.clip_dataset import ClipTestDataset
from basicsr_nriqa.models.guard import ScalarLog
from basicsr_nriqa.training.state import CheckpointError, load_whole, save_whole


class GuardedTraining(BaseModel):
    """The half of a model that the training loop calls where there is a ``guard``; all ranks do.

    ``models/net_g_good.pth`` holds the weights of the last validation that passed, and their moving average.
    """

    def judge(self, iteration: int, tb_logger: ScalarLog | None) -> None:
        """All sets are validated: let the guard decide, see :meth:`~basicsr_nriqa.models.guard.Guard.judge`."""
        if self.guard.judge(iteration, tb_logger) and get_dist_info()[0] == 0:
            save_whole(self.networks_content(*self._guarded(), iteration), self._good_file)

    def check_guard(self, datasets: Iterable[ClipTestDataset]) -> None:
        """Check, before a resumed training goes on, that all is there with which the guard compares.

        Args:
            datasets (Iterable[ClipTestDataset]): The validation sets.

        Raises:
            OptionsError: it is not; the message says what to do.
        """
        self.guard.check_start({dataset.opt['name']: dataset.names for dataset in datasets})
        try:
            kept = load_whole(self._good_file)['trained_with']['iteration']
        except CheckpointError as error:
            raise CheckpointError(f'{error}. It held the last weights that passed val:guard, those of iteration '
                                  f'{self.guard.good}. Restore it, or leave val:guard out.') from None
        if kept != self.guard.good:
            get_root_logger().warning(f'{self._good_file} is of iteration {kept}, later than the checkpoint that is '
                                      'resumed. The next validation that passes replaces it.')

    def load_good(self) -> None:
        """Take the last weights that passed for those of the network, and of its average."""
        iteration = load_whole(self._good_file)['trained_with']['iteration']
        for net, key in zip(*self._guarded()):
            self.load_network(net, self._good_file, True, key)
        get_root_logger().info('The last weights that passed val:guard are those '
                               + (f'of iteration {iteration}' if iteration else 'that the training started from')
                               + '; net_g_latest.pth gets them.')

    @property
    def _good_file(self) -> Path:
        return Path(self.opt['path']['models'], 'net_g_good.pth')

    def _guarded(self) -> tuple[list[nn.Module], list[str]]:
        """Networks and their keys in the file."""
        if self.ema_decay > 0:
            return [self.net_g, self.net_g_ema], ['params', 'params_ema']
        return [self.net_g], ['params']
