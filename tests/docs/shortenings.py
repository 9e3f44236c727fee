"""What makes documented commands short enough to test, or possible without a network: called before the command.

Each function is named in the entry of ``documented_commands.py`` that it is used for.
"""
import argparse
import os
import sys


def random_metrics():
    """Metrics have random weights and are not looked for: the published ones cannot be had here."""
    from basicsr_nriqa.iqa import random_weights, weights
    random_metrics.context = random_weights()  # kept: it ends when it is collected
    random_metrics.context.__enter__()
    find_weights = weights.find_weights
    for name, module in list(sys.modules.items()):
        if name.startswith('basicsr_nriqa') and getattr(module, 'find_weights', None) is find_weights:
            module.find_weights = lambda info, *options: []


def small_reds():
    """REDS is 6 and 2 clips of 7 frames instead of 240 and 30 of 100."""
    from basicsr_nriqa.data import reds
    reds.TRAIN_CLIPS, reds.VAL_CLIPS, reds.FRAMES, reds.REDS4 = 6, 2, 7, ('000', '001', '002', '003')


def arguments_only():
    """The script ends, well, as soon as its arguments are accepted."""
    parse_args = argparse.ArgumentParser.parse_args

    def parse_and_end(parser, *arguments, **options):
        parse_args(parser, *arguments, **options)
        print('arguments accepted')
        sys.stdout.flush()
        os._exit(0)
    argparse.ArgumentParser.parse_args = parse_and_end
