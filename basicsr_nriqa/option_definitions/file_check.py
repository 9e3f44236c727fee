"""Check option files as training and testing do at their start, without starting."""
import contextlib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from basicsr.utils.options import parse_options
from basicsr.utils.registry import MODEL_REGISTRY

from basicsr_nriqa.option_definitions.check_mode import only_checking
from basicsr_nriqa.option_definitions.trial import trial_problems
from basicsr_nriqa.options import OptionsError, given_arguments, read_options


def check_file(path: str | Path, force: Sequence[str] = (), fetch: bool = False, here: bool = True,
               is_train: bool | None = None, trial: bool = True) -> list[str]:
    """Check an option file.

    Args:
        path (str | Path): The file.
        force (Sequence[str]): Options that are changed first, as for ``--force_yml``: ``train:total_iter=10``.
        fetch (bool): Fetch missing weights of metrics. Default: False.
        here (bool): Look for files, weights and GPUs on this machine. Default: True.
        is_train (bool | None): Whether it is for training, else for a test. Default: if it has ``train``.
        trial (bool): If ``here``, also read an item of each training set, build the network and load its weights.
            Default: True.

    Returns:
        list[str]: Weights of metrics that are not on this machine, each with its place and source.

    Raises:
        OptionsError: all problems of the file.
    """
    is_train = 'train' in read_options(path) if is_train is None else is_train
    forced = ('--force_yml', *force) if force else ()
    with TemporaryDirectory() as folder, given_arguments('-opt', path, *forced), contextlib.redirect_stdout(None), \
            only_checking(fetch, here) as missing:
        try:
            opt, _ = parse_options(folder, is_train)
            ours = hasattr(MODEL_REGISTRY.get(opt['model_type']), 'TRAIN_OPTIONS')
            found = trial_problems(opt) if here and trial and ours else []
            if found:
                raise OptionsError('\n- '.join([f'{path}:', *found]))
        except OptionsError as error:
            if missing:
                raise OptionsError('\n- '.join([f'{error}\nWeights that would be fetched:', *missing])) from None
            raise
    return missing
