import numpy as np
import pytest
import torch
from basicsr.data.transforms import augment
from basicsr.utils import img2tensor
from clip_files import frame

from basicsr_nriqa.data.frame_tensors import frames_to_tensor, turned


def test_the_bits_of_basicsr():
    every_value = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    frames = [every_value, every_value[::-1, ::-1], frame(40, 16, 0)[4:20]]
    expected = torch.stack(img2tensor([image.astype(np.float32) / 255. for image in frames]))
    tensor = frames_to_tensor(frames)
    assert tensor.is_contiguous() and tensor.dtype == torch.float32 and torch.equal(tensor, expected)
    assert torch.equal(frames_to_tensor(frames, mirrored=True), torch.cat([expected, expected.flip(0)]))


@pytest.mark.parametrize('turn', [(h, v, t) for h in (False, True) for v in (False, True) for t in (False, True)])
def test_turned_as_basicsr_does(turn, monkeypatch):
    draws = [0.0 if one else 1.0 for one in turn]
    monkeypatch.setattr('basicsr.data.transforms.random.random', lambda: draws.pop(0))
    image = frame(12, 20, 1)
    window = image[2:8, 3:13]  # not contiguous
    before = image.copy()
    np.testing.assert_array_equal(turned(window, *turn), augment(window.copy()))
    np.testing.assert_array_equal(image, before)
    read_only = np.frombuffer(window.tobytes(), np.uint8).reshape(window.shape)
    assert frames_to_tensor([turned(read_only, *turn)]).shape == (1, 3, *((10, 6) if turn[2] else (6, 10)))
