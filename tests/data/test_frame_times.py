import random

import numpy as np
import pytest

from basicsr_nriqa.data.frame_times import in_display_order, uneven_steps


@pytest.fixture
def times():
    """20 at 25 frames a second, the last eleven 16 ms late."""
    return [number / 25 + (0.016 if number >= 9 else 0) for number in range(20)]


def test_uneven_steps(times):
    assert np.flatnonzero(uneven_steps(times)).tolist() == [9]
    jitter = [time + 0.004 * (number % 2) for number, time in enumerate(times)]
    assert np.flatnonzero(uneven_steps(jitter)).tolist() == [9]
    backward = [*times[:5], times[3], *times[6:]]
    assert uneven_steps(backward)[5] and uneven_steps([0.0, None, 0.08, 0.12])[1:3].all()


def test_even_times_in_another_order_are_sorted():
    even = [0.04 + number / 25 for number in range(20)]
    assert in_display_order(random.Random(0).sample(even, 20)) == even


def test_other_times_are_left_as_they_are(times):
    """One that is told twice or is missing, and uneven ones in another order: what is wrong with them must be seen."""
    even = [number / 25 for number in range(20)]
    twice = [*even[:5], even[3], *even[6:]]
    unknown = [even[1], None, even[0], *even[3:]]
    for some in (times, twice, unknown, times[::-1], [], [1.0]):
        assert in_display_order(some) == some
