"""An artifact file as text for the console."""
from basicsr_nriqa.study.artifact_flags import describe_perturbation


def artifacts_text(content):
    """What was measured, as aligned plain text.

    Args:
        content (dict): Of an artifact file, see :mod:`basicsr_nriqa.study.artifacts`.

    Returns:
        str: Several lines.
    """
    parts = []
    for metric, entry in content['gaming'].items():
        rows = [('after', 'baseline', 'tuned', 'gain', 'kept')]
        for name, scores in {'nothing': entry, **entry['perturbations']}.items():
            kept = scores.get('kept')
            rows.append((describe_perturbation(name, content['settings']),
                         *(f'{scores[key]:.4g}' for key in ('baseline', 'tuned', 'gain')),
                         'n/a' if kept is None else f'{100 * kept:.0f} %'))
        parts.append(f'{metric}, {"lower" if entry["lower_better"] else "higher"} is better:\n{_aligned(rows)}')
    spectrum = content['spectrum']
    if spectrum['identical']:
        parts.append('The frames are identical.')
    else:
        rows = [('peak', 'vertical', 'horizontal', 'period', 'amplitude'),
                ('times', 'cycles/px', 'cycles/px', 'px', 'grey levels')]
        rows += [(f'{peak["ratio"]:.1f}', *(f'{frequency:.3f}' for frequency in peak['frequency']),
                  f'{peak["period"]:.2f}', f'{peak["amplitude"]:.2f}') for peak in spectrum['peaks']]
        parts.append(f'Difference to the baseline, {spectrum["rms"]:.2f} grey levels; peaks of its spectrum:\n'
                     f'{_aligned(rows)}')
    return '\n\n'.join(parts)


def _aligned(rows):
    widths = [max(map(len, column)) for column in zip(*rows)]
    return '\n'.join('  ' + '  '.join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in
                                                                  zip(row[1:], widths[1:]))]).rstrip() for row in rows)
