import pytest
import torch

from basicsr_nriqa.iqa import MetricError
from basicsr_nriqa.losses.image_operations import blur, jpeg, resize
from basicsr_nriqa.losses.purifier import Purifier


@pytest.mark.parametrize('nothing', [None, False, {}, [], {'blur': 0, 'jpeg': False}, [{'resize': 0}]])
def test_nothing_is_the_identity(nothing):
    images = torch.rand(2, 3, 20, 24)
    assert Purifier(nothing)(images) is images and not Purifier(nothing)


def test_operations_follow_each_other_in_the_given_order():
    images = torch.rand(2, 2, 3, 30, 41)
    smaller = resize(blur(images, 1.5), 15, 20)
    assert torch.equal(Purifier({'blur': 1.5, 'resize': 0.5})(images), smaller)
    assert torch.equal(Purifier([{'blur': 1.5}, {'resize': 0.5}, {'jpeg': 60}, {'blur': 1}])(images),
                       blur(jpeg(smaller, 60), 1))
    assert torch.equal(Purifier({'resize': 0.5, 'blur': 1.5})(images), blur(resize(images, 15, 20), 1.5))


@pytest.mark.parametrize('operations', [{'resize': 0.5}, {'resize': 0.3},
                                        [{'resize': 0.7}, {'blur': 1}, {'resize': 0.9}]])
@pytest.mark.parametrize('side', [1, 32, 33, 176])
def test_smallest_is_the_shortest_side_of_which_enough_is_left(operations, side):
    purifier = Purifier(operations)
    smallest = purifier.smallest(side)
    assert purifier(torch.rand(1, 3, smallest, 300)).shape[-2] >= side
    assert smallest == 1 or purifier(torch.rand(1, 3, smallest - 1, 300)).shape[-2] < side


@pytest.mark.parametrize('operations, words', [
    ({'blurr': 1}, r"purify has no option 'blurr' \(did you mean 'blur'\?\)"),
    ({'blur': -1}, "purify's blur must be a number from 0 to 16 px, got -1"), ({'blur': True}, 'got True'),
    ({'resize': 2}, "purify's resize must be a number from 0.1 to 1, got 2"), ({'jpeg': 101}, 'from 1 to 100, got 101'),
    ('blur', "purify must be operations such as .* got 'blur'"), ([{'blur': 1, 'jpeg': 50}], 'purify must be'),
    (True, 'purify must be'), ([1], 'purify must be'), ({'jpeg': None}, 'got None')])
def test_bad_operations(operations, words):
    with pytest.raises(MetricError, match=words):
        Purifier(operations)
