"""BasicSR's testing with the plugin loaded: `python basicsr/test.py -opt options/test_vimeo90k.yml`."""
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # was this folder, whose train.py and test.py are no modules for anyone

from basicsr_nriqa.launch import test  # noqa: E402

if __name__ == '__main__':
    test(ROOT)
