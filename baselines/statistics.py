"""Figures with the intervals that belong to them."""

import warnings

import numpy as np
import scipy.stats

CONFIDENCE = 0.95
RESAMPLES = 2000


def interval(values, statistic=np.mean):
    """A bootstrap confidence interval of a statistic, with 95 % confidence: (low, high), floats.

    values: float[n], independent of each other, such as the returns of different episodes or the
    figures of different seeds. statistic: a function of an array and an axis, such as ``np.mean``
    or ``np.median``. The interval is the bias-corrected and accelerated one of Efron (1987),
    "Better Bootstrap Confidence Intervals", by scipy, or the percentile one where values are too
    alike for it. The resampling has a fixed seed, so the same values give the same interval. One
    value, or equal ones, give an interval of no width. Raises ValueError for no values.
    """
    values = np.asarray(values, np.float64)
    if values.size == 0:
        raise ValueError("an interval needs at least one value, but there is none")
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # that BCa does not work for these values is told by NaN as well
            options = {"n_resamples": RESAMPLES, "confidence_level": CONFIDENCE, "method": method}
            found = scipy.stats.bootstrap(
                (values,), statistic, rng=np.random.default_rng(0), **options
            ).confidence_interval
        if np.isfinite(found).all():
            return float(found.low), float(found.high)
    raise ValueError(f"the statistic has no finite value on resamples of {values}")


def summary(values):
    """Mean and median of values with their intervals: {"mean", "mean_interval", "median",
    "median_interval", "count"}."""
    values = np.asarray(values, np.float64)
    return {
        "mean": float(values.mean()),
        "mean_interval": interval(values, np.mean),
        "median": float(np.median(values)),
        "median_interval": interval(values, np.median),
        "count": int(values.size),
    }
