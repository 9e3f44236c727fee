"""BasicSR's training with the plugin loaded: `python basicsr/train.py -opt options/finetune_maniqa.yml`."""
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # was this folder, whose train.py and test.py are no modules for anyone

from basicsr_nriqa.launch import train  # noqa: E402

if __name__ == '__main__':
    train(ROOT)
