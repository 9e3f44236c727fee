"""A training or a test of BasicSR with results under a folder of choice.

    python -m basicsr_nriqa.study.worker train ROOT -opt OPTIONS [...]

is `python basicsr/train.py -opt OPTIONS [...]` with ROOT/experiments, ROOT/results and ROOT/tb_logger.
"""
import sys

from basicsr_nriqa import launch


def main():
    what, root = sys.argv[1:3]
    del sys.argv[1:3]
    {'train': launch.train, 'test': launch.test}[what](root)


if __name__ == '__main__':
    main()
