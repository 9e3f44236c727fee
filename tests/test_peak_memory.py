import torch

from basicsr_nriqa.peak_memory import PeakMemory


def test_the_rise_is_that_since_the_start():
    """64 MB that are held in between are seen; what is held all the time is not."""
    kept = torch.ones(2 ** 23)  # noqa: F841
    peak = PeakMemory('cpu')
    held = torch.ones(2 ** 24)
    del held
    assert 60e6 < peak.rise() < 80e6
