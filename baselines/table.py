"""Tables of evaluation returns in Markdown."""

from collections.abc import Callable, Iterable
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from popgym_arcade.baselines.curves import NAMED_METRICS, Curve, collect, compact
from popgym_arcade.baselines.runs import read_run
from popgym_arcade.baselines.statistics import CONFIDENCE, interval

__all__ = ["COLUMNS", "table", "table_of", "with_interval"]

COLUMNS: tuple[str, ...] = (
    "environment",
    "agent",
    "trained on",
    "evaluated on",
    "seeds",
    "final mean",
    "final median",
    "best mean",
    "overall mean",
)
NOTE = (
    f"Returns with {CONFIDENCE:.0%} bootstrap confidence intervals over seeds or, for a single "
    "seed, over episodes.\nFinal: the last evaluation. Best: the evaluation with the highest mean, "
    "which is biased upward.\nOverall: the mean over all evaluations."
)


def table(curves: Iterable[Curve]) -> str:
    """A Markdown table of evaluation returns, with one row per curve and a note below.

    Each figure comes with its ``interval`` over seeds or, for a single seed, over episodes. For the
    overall mean of a single seed, the i-th episodes of all evaluations are averaged first; surplus
    episodes of longer evaluations are ignored.
    """
    rows = [COLUMNS, ("---",) * 4 + ("---:",) * 5, *(_row(curve) for curve in curves)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
        for row in rows
    ]
    return "\n".join([*lines, "", NOTE])


def table_of(paths: Iterable[str | PathLike[str]]) -> str:
    """The table of runs on both twins. paths: the folders of the runs."""
    return table(collect([read_run(path) for path in paths], NAMED_METRICS["return"], twin="both"))


def _row(curve: Curve) -> tuple[str, ...]:
    """The row of a curve."""
    final, best = curve.values[-1], int(np.argmax(curve.mean))
    count = min(values.size for values in curve.values)
    overall = np.mean([values[:count] for values in curve.values], axis=0)
    return (
        curve.environment,
        curve.label,
        curve.trained_on,
        curve.evaluated_on,
        str(curve.seeds),
        with_interval(final),
        with_interval(final, np.median),
        f"{with_interval(curve.values[best])} at {compact(curve.x[best])}",
        with_interval(overall),
    )


def with_interval(values: ArrayLike, statistic: Callable[..., Any] = np.mean) -> str:
    """Format a statistic with its interval: [0.5, 0.5] -> '0.500 [0.500, 0.500]'."""
    numbers = statistic(values), *interval(values, statistic)
    middle, low, high = (round(float(number), 3) + 0.0 for number in numbers)  # + 0.0: no "-0.000"
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]"
