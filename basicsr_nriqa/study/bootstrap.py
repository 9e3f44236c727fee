"""How sure a relative gain is: percentile bootstrap over the videos.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13. The videos of a dataset are drawn again with
replacement, as often as there are, and everything that follows is computed from the drawn ones: means over videos,
equation 1, averages over models, datasets and metrics. A draw is a weight for every video, so that all of it is one
product of matrices.
"""
import numpy as np

from basicsr_nriqa.study.equation_1 import relative_gain


def draw_weights(dataset, videos, resamples=2000, seed=0):
    """Draw the videos of a dataset again and again.

    The draws depend on the dataset's name and not on what else is in the study, so that a part of a study has the same
    intervals as the whole. All models and losses are to be compared on the same draws.

    Args:
        dataset (str): Its name.
        videos (int): How many videos it has.
        resamples (int): How many draws.
        seed (int): Another seed gives other draws, 0 or more.

    Returns:
        ndarray: (resamples, videos), each row adds up to 1. NaN for a single video: it says nothing of others.
    """
    if videos < 2:
        return np.full((resamples, videos), np.nan)
    rng = np.random.default_rng([seed, *dataset.encode()])
    return rng.multinomial(videos, np.full(videos, 1 / videos), size=resamples) / videos


def resampled_gains(weights, baseline, tuned, lower_better):
    """Relative gains over the baseline on every draw, baseline and tuned model on the same videos.

    Args:
        weights (ndarray): (resamples, videos), see :func:`draw_weights`.
        baseline (ndarray): (videos, metrics) scores of the baseline model.
        tuned (ndarray): (videos, metrics) scores of the tuned model.
        lower_better (list[bool]): (metrics,) direction.

    Returns:
        ndarray: (resamples, metrics), percent. NaN where a score is missing, and where the baseline's mean is zero or
        has another sign than over all videos: a gain relative to that means nothing.
    """
    baseline_means = weights @ baseline
    baseline_means[np.sign(baseline_means) != np.sign(baseline.mean(axis=0))] = np.nan
    # the difference first: equal scores shall give exactly 0 whatever the order of additions
    return relative_gain(baseline_means, baseline_means + weights @ (tuned - baseline), lower_better)


def interval(samples, level=0.95):
    """Ends of the percentile interval.

    Args:
        samples (ndarray): (resamples, ...).
        level (float): The share of the samples that lies inside.

    Returns:
        tuple[ndarray, ndarray]: Low and high ends, each (...); NaN where a sample is.
    """
    tail = (1 - level) / 2
    low, high = np.percentile(samples, [100 * tail, 100 * (1 - tail)], axis=0)
    return low, high
