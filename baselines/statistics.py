"""Statistics with bootstrap confidence intervals."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

__all__ = ["CONFIDENCE", "RESAMPLES", "interval"]

CONFIDENCE: float = 0.95
RESAMPLES: int = 2000


def interval(values: ArrayLike, statistic: Callable[..., Any] = np.mean) -> tuple[float, float]:
    """The 95% bootstrap confidence interval of a statistic: (low, high).

    values: float[n], independent samples, e.g. the returns of episodes or the means of seeds.
    statistic: a function of an array and an axis, e.g. ``np.mean`` or ``np.median``.

    The interval is bias-corrected and accelerated (Efron, 1987, "Better Bootstrap Confidence
    Intervals"), computed by scipy, or the percentile interval where BCa degenerates because values
    are too similar. Resampling has a fixed seed, so equal values give equal intervals. Constant
    values give an interval of width 0. Raises ValueError for no values.
    """
    values = np.asarray(values, np.float64)
    if values.size == 0:
        raise ValueError("an interval needs at least one value, but there is none")
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a degenerate BCa interval is NaN, too
            found = scipy.stats.bootstrap(
                (values,),
                statistic,
                rng=np.random.default_rng(0),
                n_resamples=RESAMPLES,
                confidence_level=CONFIDENCE,
                method=method,
            ).confidence_interval
        if np.isfinite(found).all():
            return float(found.low), float(found.high)
    raise ValueError(f"the statistic has no finite value on resamples of {values}")
