"""The frames of a clip, read when they are used, so that a long video need not fit into memory."""
import numpy as np
import torch

from basicsr_nriqa.data.frame_tensors import fill


class FrameSequence:
    """A clip like a tensor (t,3,h,w), float32 RGB in [0,1], of which a slice is read when it is taken.

    Args:
        store (ClipStore): Where the frames are.
        keys (list[str]): Of the frames.
        check (Callable): Called with key and (h,w) of each frame that is read; raises where the size is not right.
    """

    def __init__(self, store, keys, check):
        self.store, self.keys, self.check = store, keys, check

    def __len__(self):
        return len(self.keys)

    def __getitem__(self, place):
        """Frames ``[start:stop]`` as a tensor.

        Raises:
            DataError: a frame is missing, damaged or of the wrong size.
        """
        keys, values = self.keys[place], None
        for number, key in enumerate(keys):
            frame = self.store.image(key)
            self.check(key, frame.shape[:2])
            if values is None:
                values = np.empty((len(keys), 3, *frame.shape[:2]), np.float32)
            fill(values[number], frame)
        return torch.from_numpy(values)
