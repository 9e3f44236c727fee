"""Training curves from TensorBoard's event files: loss values, weights, gradient norms, validation."""
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

POINTS = 300
OTHER = 'Other'
# what BasicSR's MessageLogger, models/loss_statistics.py and models/clip_validation.py call their tags
_GROUPS = {'losses/': 'Loss values', 'l_': 'Loss values', 'w_': 'Weights of the losses',
           'g_': 'Gradient norms', 'grad_norm': 'Gradient norms', 'metrics/': 'Validation scores',
           'cos_': 'Cosines of gradients', 'cosines/': 'Cosines of gradients', 'lr': 'Learning rate'}


@dataclass(frozen=True, eq=False)
class Curves:
    """What one training logged.

    Attributes:
        model (str): Network, as in the table.
        loss (str): Label of the loss, as in the table.
        series (dict[str, tuple[ndarray, ndarray]]): ``{tag: (iterations, values)}``, both (points,), at most 300 each;
            a value that is not finite is kept.
    """

    model: str
    loss: str
    series: dict


def read_curves(folder, *, model, loss):
    """Read the scalars that a training wrote for TensorBoard.

    Every start of a training writes a file of its own. A later start goes on from a checkpoint, so what earlier files
    say of iterations after its first is of a past that was given up, and left out; of its first, the later value wins.

    Args:
        folder (str | Path): ``tb_logger/NAME``.
        model, loss (str): See :class:`Curves`.

    Returns:
        Curves: Tags sorted, each thinned by :func:`thin_out`; none of a training that ended before it logged anything.

    Raises:
        ValueError: No event file is in the folder.
    """
    files = list(Path(folder).glob('events.out.tfevents.*'))
    if not files:
        raise ValueError(f'{folder}: no TensorBoard event file; name the folder tb_logger/NAME of a training with '
                         'logger: use_tb_logger: true')
    sessions = []
    for file in files:
        # a step is dropped here and not by TensorBoard, which goes by single tags
        events = EventAccumulator(str(file), size_guidance={'scalars': 0}, purge_orphaned_data=False).Reload()
        session = {tag: [(event.step, event.value) for event in events.Scalars(tag)]
                   for tag in events.Tags()['scalars']}
        if session:
            sessions.append((events.FirstEventTimestamp(), file.name, session))
    merged = {}
    for _, _, session in sorted(sessions, key=lambda item: item[:2]):
        resumed = min(step for events in session.values() for step, _ in events)
        merged = {tag: {step: value for step, value in values.items() if step <= resumed}
                  for tag, values in merged.items()}
        for tag, events in session.items():
            merged.setdefault(tag, {}).update(events)
    series = {}
    for tag, values in sorted(merged.items()):
        if values:
            steps = np.array(sorted(values))
            series[tag] = thin_out(steps, np.array([values[step] for step in steps.tolist()]))
    return Curves(model, loss, series)


def thin_out(iterations, values, points=POINTS):
    """Leave out points of a curve so that it looks the same: the first, the last and all extremes stay.

    The points between the ends are cut into equal runs, of each of which the lowest and the highest are kept.

    Args:
        iterations, values (ndarray): (n,).
        points (int): How many to keep at most, from 4.

    Returns:
        tuple[ndarray, ndarray]: At most ``points`` of each, in their order.
    """
    if len(values) <= points:
        return iterations, values
    kept = {0, len(values) - 1}
    for run in np.array_split(np.arange(1, len(values) - 1), (points - 2) // 2):
        of_run = values[run]
        if np.isnan(of_run).all():
            kept.add(int(run[0]))
        else:
            kept.update((int(run[np.nanargmin(of_run)]), int(run[np.nanargmax(of_run)])))
    kept = sorted(kept)
    return iterations[kept], values[kept]


def grouped(series):
    """Sort series into charts whose values can be compared.

    Args:
        series (dict[str, tuple]): Of :class:`Curves`.

    Returns:
        dict[str, dict[str, tuple]]: ``{title: {name: (iterations, values)}}``; a name is the tag without what the title
        says already.
    """
    groups = {title: {} for title in (*_GROUPS.values(), OTHER)}
    for tag, points in series.items():
        prefix = next((prefix for prefix in _GROUPS if tag.startswith(prefix)), '')
        name = tag.removeprefix(prefix).removeprefix('l_') if prefix.endswith(('_', '/')) else tag
        groups[_GROUPS.get(prefix, OTHER)][name or tag] = points
    return {title: members for title, members in groups.items() if members}
