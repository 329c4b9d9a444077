"""Tests of the table: its figures against intervals of the logged returns."""

import re

import numpy as np

from tests.testing import client

client("matplotlib")  # as a sign of the baselines extra: intervals need its version of scipy

from popgym_arcade.baselines.statistics import interval  # noqa: E402, because scipy may be too old
from popgym_arcade.baselines.table import table, with_interval  # noqa: E402
from tests.baselines.logs import curves_of, evaluation, training, write_run  # noqa: E402


def cells(text):
    """The rows of a table in Markdown, each a dict."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    assert all(re.fullmatch("-+:?", cell) for cell in rows[1])
    return [dict(zip(rows[0], row)) for row in rows[2:]]


def shown(middle, bounds):
    """A figure of the table as it must be printed."""
    return f"{middle:.3f} [{bounds[0]:.3f}, {bounds[1]:.3f}]"


def test_the_table_of_one_seed_is_about_its_episodes(tmp_path):
    first, best, final = [0.0, 0.1, 0.5], [0.4, 0.9, 0.8], [0.1, 0.7, 0.85]
    run = write_run(
        tmp_path / "run",
        [evaluation(10, first), evaluation(2000, best), evaluation(4000, final), training(10, 0.1)],
    )
    (row,) = cells(table(curves_of(run)))
    by_place = [(0.0 + 0.4 + 0.1) / 3, (0.1 + 0.9 + 0.7) / 3, (0.5 + 0.8 + 0.85) / 3]
    assert row == {
        "environment": "NavigatorEasy",
        "agent": "PQN LRU",
        "trained on": "POMDP",
        "evaluated on": "POMDP",
        "seeds": "1",
        "final mean": shown(0.55, interval(final)),
        "final median": shown(0.7, interval(final, np.median)),
        "best mean": shown(0.7, interval(best)) + " at 2k",
        "overall mean": shown(0.483333, interval(by_place)),
    }


def test_the_table_of_several_seeds_is_about_seeds(tmp_path):
    finals, bests = (0.2, 0.4, 0.3), (0.6, 0.5, 0.7)
    lines = [evaluation(10, [value - 0.1, value + 0.1], seed) for seed, value in enumerate(bests)]
    lines += [evaluation(20, [value], seed) for seed, value in enumerate(finals)]
    (row,) = cells(table(curves_of(write_run(tmp_path / "run", lines, seeds=3))))
    assert row["seeds"] == "3"
    assert row["final mean"] == shown(0.3, interval(finals))
    assert row["final median"] == shown(0.3, interval(finals, np.median))
    assert row["best mean"] == shown(0.6, interval(bests)) + " at 10"
    assert row["overall mean"] == shown(0.45, interval([0.4, 0.45, 0.5]))


def test_the_table_never_says_minus_zero():
    assert with_interval(np.array([-0.0001, -0.0001])) == "0.000 [0.000, 0.000]"
