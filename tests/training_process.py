"""Processes that start at once, because they are forked from one that has imported everything."""
import multiprocessing
import os
import runpy
import sys

context = multiprocessing.get_context('forkserver')
context.set_forkserver_preload(['__main__', 'basicsr_nriqa.launch', __name__])  # there is one server for all tests


def start_training(root, log, *arguments):
    """Run ``ROOT/basicsr/train.py`` with these arguments in a process of its own.

    Args:
        root (Path): A checkout, see the fixture ``project``.
        log (Path): File that gets all output, appended.

    Returns:
        multiprocessing.Process: Started.
    """
    return start_process(_train, str(root), str(log), [str(argument) for argument in arguments])


def start_process(function, *arguments):
    """Run a function of a module in a process of its own; returns it, started."""
    process = context.Process(target=function, args=arguments)
    process.start()
    return process


def _train(root, log, arguments):
    import torch
    torch.set_num_threads(1)
    multiprocessing.set_start_method('fork', force=True)  # of loaders; else it would be how this process was started
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(root)
    script = os.path.join(root, 'basicsr', 'train.py')
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name='__main__')
