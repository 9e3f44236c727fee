"""The reference of all options as a page in Markdown, made of the definitions that the check of options uses."""
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

from basicsr.utils import registry

from basicsr_nriqa.balancing import BALANCERS
from basicsr_nriqa.iqa import CATALOGUE, class_of_metric
from basicsr_nriqa.losses import IQAEnsembleLoss, IQALoss
from basicsr_nriqa.losses.named_loss import NamedLoss
from basicsr_nriqa.metrics import calculate_iqa
from basicsr_nriqa.option_definitions import known
from basicsr_nriqa.option_definitions.arguments import arguments, summary
from basicsr_nriqa.option_definitions.classes import SCHEDULERS, optimisers
from basicsr_nriqa.option_definitions.option import Option

_HEAD = """# Option reference

<!-- made by scripts/describe_options.py; to change it, change basicsr_nriqa/option_definitions or the docstrings -->

Every option that the plugin reads, made of the definitions that check them. [options.md](options.md) explains how they
belong together. `python scripts/check_options.py FILE` checks a file; `options/schema.json` makes editors complete and
underline ([how](options.md#in-the-editor)). What is **bold** must be given. Null (`~`) is as good as left out, unless
it is said what it means; an argument of a class (network, optimiser, balancer, loss, metric) can be null only where
null is its default.
"""
_OURS = 'basicsr_nriqa'


def option_reference() -> str:
    """The page.

    Returns:
        str: Markdown; equal on every machine with the same versions of BasicSR and the plugin.
    """
    sections = [
        _HEAD,
        _section(2, 'The top', known.TOP),
        _section(2, 'path', known.PATH), _section(2, 'logger', known.LOGGER),
        _section(2, 'dist_params', known.DIST_PARAMS, 'Several processes: [distributed.md](distributed.md).'),
        *_datasets(), *_networks(), *_training(), *_balancers(), *_losses(), *_validation()]
    return '\n'.join(sections)


def _datasets() -> Iterator[str]:
    yield '## datasets\n'
    yield 'What the sets are and how they are made: [data.md](data.md).\n'
    yield _section(3, 'All datasets', known.DATASET)
    yield _section(3, 'Those of training, also', known.LOADER)
    for name, dataset in _ours(registry.DATASET_REGISTRY):
        options = {option: known.CLIPS[option] for option in known.CLIPS if option in dataset.OPTIONS}
        yield _section(3, name, options, summary(dataset), dataset.REQUIRED)
    yield _section(3, 'Parts of a ClipMixtureDataset, also', known.PART)


def _networks() -> Iterator[str]:
    yield '## network_g, network_d\n'
    yield "`type`, and the arguments of that class; BasicSR's networks are there, too. [networks.md](networks.md)\n"
    for name, network in _ours(registry.ARCH_REGISTRY):
        yield _section(3, name, arguments(network), summary(network))


def _training() -> Iterator[str]:
    yield _section(2, 'train', known.TRAIN)
    yield '### optim_g, optim_d\n'
    yield (f"`type` is one of {_codes(optimisers())}; the others are arguments of that class of `torch.optim`. `lr` is "
           'required.\n')
    yield '### scheduler\n'
    for name, scheduler in SCHEDULERS.items():
        yield f"- `{name}`: {_codes(key for key in arguments(scheduler) if key != 'optimizer')}"
    yield ''
    yield _section(3, 'gan_opt', known.GAN)


def _balancers() -> Iterator[str]:
    yield '### balance_opt\n'
    yield '`type`, and its arguments. [balancing.md](balancing.md) says what each does.\n'
    bare = [name for name, balancer in BALANCERS.items() if not arguments(balancer)]
    yield f'Without arguments: {_codes(bare)}.\n'
    for name, balancer in BALANCERS.items():
        if arguments(balancer):
            yield _section(4, name, arguments(balancer))


def _losses() -> Iterator[str]:
    yield '## Losses: pixel_opt, iqa_opt, perceptual_opt\n'
    yield ("`type`, and the arguments of that class; BasicSR's losses are there, too. [losses.md](losses.md) explains "
           'them, `python scripts/list_metrics.py NAME` has more about a metric.\n')
    losses = dict(_ours(registry.LOSS_REGISTRY))
    yield _section(3, 'IQALoss', arguments(IQALoss), summary(IQALoss))
    yield _section(4, 'transforms', known.TRANSFORMS, '`true`, or strengths; `0` and `false` are off. '
                   '[losses.md](losses.md#losses-that-are-harder-to-game)')
    yield _section(4, 'purify', known.PURIFY, 'In the order that is given; a list of such where one comes twice.')
    yield _section(3, 'IQAEnsembleLoss', arguments(IQAEnsembleLoss), summary(IQAEnsembleLoss))
    yield 'And the options of `IQALoss` but `metric` and `loss_weight`, for the members that do not give them.\n'
    yield '`IQAPerceptualLoss` takes the same as `IQALoss`, for `perceptual_opt` of BasicSR\'s own models.\n'
    yield '### The named losses\n'
    yield 'They take the options of `IQALoss` but `metric`, those of their metric below, and `variant`:\n'
    yield '| loss | variant | metric |\n|---|---|---|'
    for name, loss in losses.items():
        if issubclass(loss, NamedLoss):
            for variant, metric in loss.VARIANTS.items():
                yield f'| `{name}` | `{variant}` | `{metric}` |'
    yield ''
    for name, loss in losses.items():
        if not issubclass(loss, (IQALoss, IQAEnsembleLoss)):
            yield _section(3, name, arguments(loss), summary(loss))
    yield '### Options of the metrics\n'
    yield 'For losses, and for `val: metrics`.\n'
    for metrics, options in _by_options().items():
        yield f'{_codes(metrics)}:\n'
        yield _table(dict(options)) if options else 'none.\n'


def _by_options() -> dict[tuple[str, ...], tuple[tuple[str, Option], ...]]:
    """Metrics that take the same options, together: names -> options."""
    groups: dict[tuple[tuple[str, Option], ...], list[str]] = {}
    for name in CATALOGUE:
        options = tuple((option, definition) for option, definition in arguments(class_of_metric(name)).items()
                        if option != 'info')
        groups.setdefault(options, []).append(name)
    return {tuple(names): options for options, names in groups.items()}


def _validation() -> Iterator[str]:
    yield _section(2, 'val', known.VAL)
    yield _section(3, 'metrics', {name: option for name, option in arguments(calculate_iqa).items()
                                  if name not in ('img', 'img2')},
                   "`type: calculate_iqa` with these and the metric's own options, or `calculate_psnr` and "
                   '`calculate_ssim` of BasicSR with `crop_border`, `input_order`, `test_y_channel`.', ('metric',))
    yield _section(3, 'scores', known.SCORES)
    yield _section(3, 'guard', known.GUARD, '[artifacts.md](artifacts.md#stopping-a-training-that-turns)')


def _ours(classes: Any) -> list[tuple[str, Any]]:
    return [(name, classes.get(name)) for name in sorted(classes.keys())
            if classes.get(name).__module__.startswith(_OURS)]


def _section(level: int, title: str, options: Mapping[str, Option], text: str = '',
             required: Container[str] = ()) -> str:
    return f"{'#' * level} {title}\n\n" + (f'{text}\n\n' if text else '') + _table(options, required)


def _table(options: Mapping[str, Option], required: Container[str] = ()) -> str:
    rows = ['| option | value | meaning | default |', '|---|---|---|---|']
    for name, option in options.items():
        if option.set_by_basicsr:
            continue
        needed = option.required or name in required
        shown = f'**`{name}`**' if needed else f'`{name}`'
        rows.append(f'| {shown} | {_value(option)} | {_cell(option.meaning)} | {_cell(option.default)} |')
    return '\n'.join(rows) + '\n' if len(rows) > 2 else 'Without options.\n'


def _value(option: Option) -> str:
    expected = option.expected()
    return '' if expected == 'anything' else _cell(expected)


def _cell(text: str) -> str:
    return text.replace('|', '\\|').replace('\n', ' ')


def _codes(names: Iterable[str]) -> str:
    return ', '.join(f'`{name}`' for name in names)
