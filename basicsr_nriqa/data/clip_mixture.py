"""Several training sets as one, in fixed shares."""
from copy import deepcopy
from fractions import Fraction
from math import ceil
from typing import Any

from basicsr.utils.registry import DATASET_REGISTRY
from torch.utils.data import Dataset

from basicsr_nriqa.data.clip_dataset import ClipTrainDataset
from basicsr_nriqa.data.errors import DataError
from basicsr_nriqa.suggestion import suggest

_OWN = ('name', 'type', 'datasets', 'ratio')
_OF_ONE_PART = ('dataroot_gt', 'dataroot_lq', 'meta_info_file')
_OF_A_BATCH = {'scale': 4, 'gt_size': None, 'num_frame': 7, 'flip_sequence': False}  # and their defaults


@DATASET_REGISTRY.register()
class ClipMixtureDataset(Dataset):
    """Training sets mixed in fixed shares.

    The index alone decides which part an item comes from and which of the part's items it is, so that stops, workers
    and ranks change nothing. Of any first n indices each part has its share of n, but for rounding: its items in turn,
    over and over. An epoch is as long as it takes to see each part at least once as a whole. Shuffling is the
    sampler's.

    An item is that of the part, its ``key`` with the part's name before it, ``NAME/KEY``.

    Args:
        opt (dict): The options: BasicSR's of every dataset, those of
            :class:`~basicsr_nriqa.data.clip_dataset.ClipTrainDataset` but where the data are, for parts that do not
            say it themselves, and this one.

            - ``datasets`` (dict): ``name: {type: ClipTrainDataset, ratio: 0.7, ...}`` of each part: options of its
              type, and ``ratio``, a number above 0; the share is the ratio over the sum of all.

    Raises:
        DataError: no parts, a ratio that is none, parts whose items do not fit into one batch, or as the parts do.
    """

    OPTIONS = ClipTrainDataset.OPTIONS.difference(_OF_ONE_PART) | {'datasets'}
    REQUIRED = ('datasets',)

    def __init__(self, opt: dict[str, Any]) -> None:
        self.opt = opt
        parts = opt.get('datasets')
        if not isinstance(parts, dict) or not parts:
            raise DataError('datasets: expected the parts of the mixture, such as '
                            f'{{reds: {{type: ClipTrainDataset, ratio: 0.3, ...}}, ...}}, got {parts!r}.')
        for name, part in parts.items():
            if not isinstance(part, dict):
                raise DataError(f'datasets:{name}: expected options such as {{type: ClipTrainDataset, ratio: 0.3, '
                                f'...}}, got {part!r}.')
        ratios = [_ratio(name, part.get('ratio')) for name, part in parts.items()]
        options = part_options(opt)
        _check_batch(options)
        self.parts = {name: _built(name, part) for name, part in options.items()}
        # what a part takes of what the parts before it leave
        self.shares = [ratio / sum(ratios[number:]) for number, ratio in enumerate(ratios)]
        lengths = [len(part) for part in self.parts.values()]
        self.length: int = max(ceil(length * sum(ratios) / ratio) for length, ratio in zip(lengths, ratios))
        while any(count < length for count, length in zip(self.counts(self.length), lengths)):
            self.length += 1  # by rounding

    def counts(self, indices: int) -> list[int]:
        """How many of the first so many indices each part has, in order."""
        counts = []
        for share in self.shares:
            counts.append(indices * share.numerator // share.denominator)
            indices -= counts[-1]
        return counts

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.length:
            raise IndexError(index)  # this ends iteration
        name, place = self._place(index)
        part = self.parts[name]
        item = part[place % len(part)]
        if 'key' not in item:
            raise DataError(f'datasets:{name}:type: {type(part).__name__} is no dataset of clips for training. Use '
                            'ClipTrainDataset.')
        return {**item, 'key': f"{name}/{item['key']}"}

    def _place(self, index: int) -> tuple[str, int]:
        """The part, and how many of its items have smaller indices."""
        for name, before, after in zip(self.parts, self.counts(index), self.counts(index + 1)):
            if after > before:
                return name, before
        raise AssertionError  # the counts of index + 1 have the sum index + 1


def part_options(opt: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Complete options of each part of a mixture: its own, and those of the mixture that it does not have."""
    shared = {name: value for name, value in opt.items() if name not in (*_OWN, *_OF_ONE_PART)}
    return {name: {'name': name, **deepcopy(shared), **{key: value for key, value in part.items() if key != 'ratio'}}
            for name, part in opt['datasets'].items()}


def _ratio(name: str, ratio: object) -> Fraction:
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 < ratio < float('inf'):
        raise DataError(f'datasets:{name}:ratio: expected a number above 0, got {ratio!r}.')
    return Fraction(str(ratio))  # exactly what was written


def _check_batch(options: dict[str, dict[str, Any]]) -> None:
    for option, default in _OF_A_BATCH.items():
        values = {name: part.get(option, default) for name, part in options.items()}
        if len(set(values.values())) > 1:
            given = ', '.join(f'{name}: {value}' for name, value in values.items())
            raise DataError(f'datasets: the parts must agree in {option} to fit into one batch; got {given}.')


def _built(name: str, options: dict[str, Any]) -> Any:  # a dataset of any class with a length
    if options.get('type') is None:
        raise DataError(f'datasets:{name}:type: is missing; usually it is ClipTrainDataset.')
    if options['type'] not in DATASET_REGISTRY:
        raise DataError(f"datasets:{name}:type: no dataset is called '{options['type']}'"
                        f"{suggest(options['type'], DATASET_REGISTRY.keys())}.")
    try:
        return DATASET_REGISTRY.get(options['type'])(options)
    except DataError as error:
        raise DataError(f'datasets:{name}: {error}') from None
