"""The output of the network that a training started from, kept as PNG to compare later outputs with."""
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from basicsr_nriqa.data.clip_store import natural
from basicsr_nriqa.data.image_codec import decode_image, encode_image
from basicsr_nriqa.files import sha256, write_atomically
from basicsr_nriqa.training.state import CheckpointError


class StartFrames:
    """Frames as ``DATASET/CLIP/FRAME.png``, which ``scripts/check_artifacts.py`` reads, too.

    Args:
        folder (str | Path): Where.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def write(self, dataset: str, clip: str, names: Sequence[str], frames: Tensor) -> None:
        """Keep a clip.

        Args:
            dataset, clip (str): What it is called.
            names (Sequence[str]): Of its t frames.
            frames (Tensor): (t,3,h,w) uint8, RGB.

        Raises:
            CheckpointError: it cannot be written.
        """
        folder = self.folder / dataset / clip
        try:
            for name, frame in zip(names, frames):
                image = np.ascontiguousarray(frame.permute(1, 2, 0).flip(-1).cpu().numpy())
                write_atomically(folder / f'{name}.png', encode_image(image))
        except OSError as error:
            raise CheckpointError(f'{folder}: cannot be written ({error.strerror or error}). val:guard keeps the '
                                  'output of the start network there. Make room, or set val:guard:clips lower or '
                                  'val:guard:spectrum to false, and start again.') from error

    def read(self, dataset: str, clip: str) -> Tensor:
        """A clip as it was written, on the CPU.

        Raises:
            DataError: a frame is damaged; names the file.
        """
        frames = [decode_image(path.read_bytes(), str(path)) for path in self._files(dataset, clip)]
        return torch.from_numpy(np.stack(frames)).flip(-1).permute(0, 3, 1, 2).contiguous()

    def digest(self, dataset: str, clip: str) -> str:
        """Names and content of a clip's files as one sha256; of a clip that is not there, that of nothing."""
        digests = [f'{path.name} {sha256(path)}\n' for path in self._files(dataset, clip)]
        return hashlib.sha256(''.join(digests).encode()).hexdigest()

    def _files(self, dataset: str, clip: str) -> list[Path]:
        return sorted((self.folder / dataset / clip).glob('*.png'), key=lambda path: natural(path.stem))
