"""What to do about an option that cannot be used."""
from difflib import get_close_matches
from pathlib import Path

_PREPARE = """To prepare data:
  Vimeo-90K, from its archive:           python scripts/prepare_vimeo90k.py VIMEO_SEPTUPLET -o {vimeo}
  REDS, from its archives:               python scripts/prepare_reds.py REDS -o datasets/reds
  your own videos:                       python scripts/prepare_videos.py VIDEO ... -o datasets/NAME
  a small sample without any download:   python scripts/make_sample_data.py -o {sample}"""


def prepare_data(missing):
    """How data come to where nothing is; databases called as those of Vimeo-90K into that folder.

    Args:
        missing (str): A path of the options.

    Returns:
        str: Several lines.
    """
    folder = Path(missing).parent if Path(missing).name.startswith(('vimeo90k_', 'meta_info_Vimeo90K_')) else None
    return _PREPARE.format(vimeo=folder or 'datasets/vimeo90k', sample=folder or 'datasets/sample')


def suggest(name, known):
    """`` (did you mean 'X'?)``, or nothing where no known name is near."""
    names = {str(item).lower(): str(item) for item in known}
    close = get_close_matches(str(name).lower(), names, 1)
    return f" (did you mean '{names[close[0]]}'?)" if close else ''


def how_to_train(path):
    """A checkpoint in ``experiments/NAME/`` comes from ``options/NAME.yml``, if there is one."""
    parts = Path(path).parts
    if len(parts) == 4 and parts[0] == 'experiments':
        folder, _, rest = parts[1].partition('_')  # vrt_finetune_lpips is options/vrt/finetune_lpips.yml
        found = [*Path('options').rglob(f'{parts[1]}.yml'), *Path('options', folder).glob(f'{rest}.yml')]
        for options in sorted(found):
            return f' To train it: python basicsr/train.py -opt {options}'
    return ''
