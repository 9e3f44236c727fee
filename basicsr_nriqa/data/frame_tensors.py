"""From the pixels of frames to the tensors that networks take, to the bit what BasicSR makes of them."""
import cv2
import numpy as np
import torch


def frames_to_tensor(frames, mirrored=False):
    """Make one tensor of the frames of a clip; they are converted once and copied nowhere else.

    Args:
        frames (list[ndarray]): Each (h,w,3) uint8, BGR.
        mirrored (bool): Append the frames in reverse order.

    Returns:
        Tensor: (t,3,h,w), or (2t,3,h,w) if ``mirrored``, float32, RGB in [0,1], contiguous.
    """
    count = len(frames)
    values = np.empty((2 * count if mirrored else count, 3, *frames[0].shape[:2]), np.float32)
    for planes, frame in zip(values, frames):
        fill(planes, frame)
    if mirrored:
        values[count:] = values[count - 1::-1]
    return torch.from_numpy(values)


def fill(planes, frame):
    """Write a frame, (h,w,3) uint8 BGR, to ``planes``, (3,h,w) float32, as RGB in [0,1]."""
    for plane, channel in zip(planes, reversed(cv2.split(frame))):
        plane[...] = channel  # and the division afterwards: numpy is slow at both at once
    np.divide(planes, np.float32(255), out=planes)


def turned(frame, hflip, vflip, transpose):
    """Flip a frame (h,w,3) left to right and upside down, then exchange its sides."""
    if hflip or vflip:
        frame = cv2.flip(frame, -1 if hflip and vflip else int(hflip))
    return cv2.transpose(frame) if transpose else frame
