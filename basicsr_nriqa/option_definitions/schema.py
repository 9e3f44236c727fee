"""The JSON schema (draft 7) of option files, for editors: they complete, explain and underline while one types.

It is made of the definitions that the check of options itself uses. A file may be a part that others inherit, so
nothing is required, and what needs more than the file is not checked: other files, the machine, options together.
`scripts/check_options.py` does that.
"""
from collections.abc import Callable, Mapping
from typing import Any, Literal

from basicsr.utils import registry

from basicsr_nriqa.balancing import BALANCERS
from basicsr_nriqa.iqa import CATALOGUE
from basicsr_nriqa.losses import IQAEnsembleLoss, IQALoss
from basicsr_nriqa.losses.named_loss import NamedLoss
from basicsr_nriqa.metrics import calculate_iqa
from basicsr_nriqa.option_definitions import known
from basicsr_nriqa.option_definitions.arguments import arguments, takes_any
from basicsr_nriqa.option_definitions.classes import (
    SCHEDULERS,
    loss_arguments,
    metric_arguments,
    optimisers,
    stock_metric_arguments,
)
from basicsr_nriqa.option_definitions.option import Option

Schema = dict[str, Any]
Cases = dict[str, tuple[Schema, bool]]  # type -> schemas of its options, whether there may be more

_BASE = Option(str | list[str], 'Option files that this one inherits, relative to it; later ones win, and the file '
                                'wins over all.')
_DELETE = Option(bool, 'Drop what is inherited here.', nullable=False)


def option_schema() -> Schema:
    """The JSON schema of option files.

    Returns:
        dict: For ``json.dump``; equal on every machine with the same versions of BasicSR, PyTorch and the plugin.
    """
    models = {name: registry.MODEL_REGISTRY.get(name) for name in sorted(registry.MODEL_REGISTRY.keys())}
    ours = [name for name, model in models.items() if hasattr(model, 'TRAIN_OPTIONS')]
    return {
        '$schema': 'http://json-schema.org/draft-07/schema#',
        'title': 'Option file of BasicSR with basicsr_nriqa',
        'type': 'object',
        'properties': {'model_type': {'enum': list(models), 'description': known.TOP['model_type'].description()}},
        'if': {'properties': {'model_type': {'enum': [*ours, None]}}},  # also where it is inherited
        'then': _of_our_models(),
        'else': _of_other_models(),
        'definitions': _definitions()}


def _of_our_models() -> Schema:
    """The model may be inherited, so all options of ours are there."""
    refined = {
        'network_g': _reference('network'), 'network_d': _reference('network'),
        'datasets': _mapping({}, patterns={'^train': _reference('training_set'),
                                           '^(val|test)': _reference('test_set')}),
        'path': _group(known.PATH), 'logger': _group(known.LOGGER), 'dist_params': _group(known.DIST_PARAMS),
        'train': _reference('train'), 'val': _reference('val')}
    return {'properties': {'_base_': _BASE.schema(), **_with_meanings(known.TOP, refined)},
            'additionalProperties': False}


def _of_other_models() -> Schema:
    """BasicSR's own options and other people's: what names a registered class is known, all else is theirs."""
    loss = _reference('loss')
    train = {'type': 'object', 'properties': {'pixel_opt': loss, 'perceptual_opt': loss}}
    val = {'type': 'object', 'properties': {'metrics': _named(_reference('metric'))}}
    refined = {'network_g': _reference('network'), 'network_d': _reference('network'), 'train': train, 'val': val}
    return {'properties': {'_base_': _BASE.schema(), **_with_meanings(known.TOP, refined)}}


def _definitions() -> Schema:
    refined = {
        'pixel_opt': _reference('loss'), 'iqa_opt': _named(_reference('loss')),
        'gan_opt': _group(known.GAN), 'optim_g': _reference('optimiser'), 'optim_d': _reference('optimiser'),
        'scheduler': _reference('scheduler'), 'balance_opt': _reference('balancer')}
    validation = {'metrics': _named(_reference('metric')), 'scores': _group(known.SCORES), 'guard': _group(known.GUARD)}
    return {
        'train': _mapping(_with_meanings(known.TRAIN, refined)),
        'val': _mapping(_with_meanings(known.VAL, validation)),
        'network': _typed(_arguments_of_all(registry.ARCH_REGISTRY)),
        'loss': _typed(_losses()),
        'metric': _typed(_metrics()),
        'optimiser': _typed({name: (_arguments(kind, 'params'), False) for name, kind in optimisers().items()}),
        'scheduler': _typed({name: (_arguments(kind, 'optimizer'), False) for name, kind in SCHEDULERS.items()}),
        'balancer': _typed({name: (_arguments(kind), takes_any(kind)) for name, kind in BALANCERS.items()}),
        'training_set': _typed(_datasets(training=True)),
        'test_set': _typed(_datasets(training=False)),
        'mixture_part': _typed(_datasets(training=True, part=True))}


def _losses() -> Cases:
    found: Cases = {}
    for name in sorted(registry.LOSS_REGISTRY.keys()):
        loss = registry.LOSS_REGISTRY.get(name)
        ours = issubclass(loss, (IQALoss, IQAEnsembleLoss))
        options = _schemas(loss_arguments(loss))
        for name_of_group, group in (('transforms', known.TRANSFORMS), ('purify', known.PURIFY)):
            if ours and name_of_group in options:
                options[name_of_group] = _strengths(options[name_of_group], group)
        if ours and 'metric' in options:
            options['metric'] = _metric_name(options['metric'])
        if issubclass(loss, IQAEnsembleLoss):
            options['metrics'] = _named({'type': ['object', 'null']}, options['metrics'].get('description'))
        # any metric of pyiqa has its options
        found[name] = options, not issubclass(loss, (NamedLoss, IQAEnsembleLoss)) if ours else takes_any(loss)
    return found


def _metrics() -> Cases:
    found: Cases = {}
    for name in sorted(registry.METRIC_REGISTRY.keys()):
        metric = registry.METRIC_REGISTRY.get(name)
        if metric is calculate_iqa:
            options = {**_arguments(metric, 'img', 'img2'), **_schemas(metric_arguments(CATALOGUE))}
            options['metric'] = _metric_name(options['metric'])
        else:
            options = _schemas(stock_metric_arguments(metric))
        better = Option(Literal['higher', 'lower'], 'Which scores are better, for the best one so far.')
        found[name] = {**options, 'better': better.schema()}, True
    return found


def _datasets(training: bool, part: bool = False) -> Cases:
    found: Cases = {}
    for name in sorted(registry.DATASET_REGISTRY.keys()):
        dataset = registry.DATASET_REGISTRY.get(name)
        general = known.PART if part else {**known.DATASET, **(known.LOADER if training else {})}
        if not hasattr(dataset, 'OPTIONS'):
            found[name] = _schemas(general), True
            continue
        own = {option: known.CLIPS.get(option, Option()) for option in sorted(dataset.OPTIONS)}
        # files may say more than a test set reads, where both inherit from one
        options = _schemas({**general, **known.LOADER, **own})
        if 'datasets' in options:
            options['datasets'] = _named(_reference('mixture_part'), options['datasets'].get('description'))
        if 'io_backend' in options:
            options['io_backend'] = {'type': 'object', 'properties': {'type': {'enum': ['lmdb', 'disk']}},
                                     'description': own['io_backend'].description()}
        found[name] = options, False
    return found


def _typed(classes: Cases) -> Schema:
    """Options whose ``type`` says which others there are: name -> (schemas, whether there may be more)."""
    cases = [{'if': {'properties': {'type': {'const': name}}, 'required': ['type']},
              'then': {'properties': {'type': {}, '_delete_': _DELETE.schema(), **options},
                       **({} if more else {'additionalProperties': False})}}
             for name, (options, more) in classes.items()]
    return {'type': ['object', 'null'], 'properties': {'type': {'enum': list(classes)}}, 'allOf': cases}


def _arguments_of_all(classes: Any) -> Cases:
    kinds = {name: classes.get(name) for name in sorted(classes.keys())}
    return {name: (_arguments(kind), takes_any(kind)) for name, kind in kinds.items()}


def _arguments(function: Callable[..., Any], *given: str) -> Schema:
    return _schemas({name: option for name, option in arguments(function).items() if name not in given})


def _schemas(options: Mapping[str, Option]) -> Schema:
    return {name: option.schema() for name, option in options.items() if not option.set_by_basicsr}


def _with_meanings(options: Mapping[str, Option], refined: Schema) -> Schema:
    """The schemas of options, some of them said more exactly."""
    found = _schemas(options)
    for name, schema in refined.items():
        meaning = {'description': found[name]['description']} if 'description' in found[name] else {}
        # draft 7 passes over all that stands beside a reference
        found[name] = {'allOf': [schema], **meaning} if '$ref' in schema else {**schema, **meaning}
    return found


def _metric_name(schema: Schema) -> Schema:
    """Names of the catalogue for completion; any other may be pyiqa's."""
    return {'anyOf': [{'enum': list(CATALOGUE)}, {'type': 'string'}], 'description': schema.get('description', '')}


def _strengths(schema: Schema, group: Mapping[str, Option]) -> Schema:
    """An option that takes strengths by name, or something else; of that, what its own schema says."""
    others = [choice for choice in schema['anyOf'] if choice.get('type') != 'object']
    return {'anyOf': [_group(group), *others], 'description': schema['description']}


def _group(options: Mapping[str, Option]) -> Schema:
    return _mapping(_schemas(options))


def _mapping(properties: Schema, patterns: Schema | None = None) -> Schema:
    return {'type': ['object', 'null'], 'properties': {'_delete_': _DELETE.schema(), **properties},
            **({'patternProperties': patterns} if patterns else {}), 'additionalProperties': False}


def _named(schema: Schema, description: str | None = None) -> Schema:
    """``name: options`` with names of the user's choice."""
    return {'type': ['object', 'null'], 'properties': {'_delete_': _DELETE.schema()}, 'additionalProperties': schema,
            **({'description': description} if description else {})}


def _reference(name: str) -> Schema:
    return {'$ref': f'#/definitions/{name}'}
