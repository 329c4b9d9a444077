"""Learning curves from the logs of runs.

Runs that differ only in the seed are the seeds of one curve: the mean over its seeds or, for a
single seed, over the episodes of each evaluation. ``collect`` turns runs into curves.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from popgym_arcade import spaces
from popgym_arcade.baselines.runs import LoggedRun, is_finite_number, warn
from popgym_arcade.registry import REGISTRY, TWINS, twin_name
from popgym_arcade.spaces import evenly_spaced

__all__ = [
    "NAMED_METRICS",
    "TWIN_CHOICES",
    "X_CHOICES",
    "Curve",
    "Metric",
    "collect",
    "compact",
    "find_metric",
    "smoothed",
    "thinned",
]

X_CHOICES: tuple[str, ...] = ("steps", "seconds")
TWIN_CHOICES: tuple[str, ...] = ("trained", "other", "both")
"""Evaluations on which twin, relative to the one that the agent was trained on."""

NOT_COMPARED = ("seed", "seeds", "folder")  # config fields in which seeds of one curve may differ
MAX_POINTS = 400  # of a curve that is drawn
CUT_SHARE = 0.1  # of the longest seed; warn if a shorter seed costs the curve more than that
MINUS = "\N{MINUS SIGN}"

MIXED_CASE = {
    "none": "no memory",
    "mingru": "MinGRU",
    "attention": "Attention",
    "attention-alibi": "Attention-ALiBi",
    "attention-rope": "Attention-RoPE",
    "deltanet": "DeltaNet",
    "deltaproduct": "DeltaProduct",
    "elman": "Elman",
    "elmanrelu": "ElmanReLU",
    "linearrnn": "LinearRNN",
    "nmax": "NMax",
    "pspherical": "PSpherical",
    "spherical": "Spherical",
    "stack": "Stack",
}
"""Display names of memories; the others are all capitals."""


class Metric(NamedTuple):
    """A field of the lines of metrics.jsonl."""

    kind: str  # of the lines: "training" or "evaluation"
    field: str
    label: str  # of the axis
    is_return: bool = False


class Curve(NamedTuple):
    """A metric of one group of seeds against x."""

    environment: str
    evaluated_on: str  # "MDP" or "POMDP"
    trained_on: str  # "MDP" or "POMDP"
    label: str
    seeds: int
    x: np.ndarray  # float[n], ascending
    values: list[np.ndarray]  # n samples: float[seeds], or, for a single seed, float[episodes or 1]

    @property
    def mean(self) -> np.ndarray:
        """The height of the curve: float[n]."""
        return np.array([values.mean() for values in self.values])

    @property
    def has_band(self) -> bool:
        """Whether any sample is large enough for a confidence interval."""
        return any(values.size > 1 for values in self.values)


class _CurveKey(NamedTuple):
    """What the seeds of one curve have in common."""

    algorithm: str
    memory: str  # in lower case
    environment: str
    trained_on: str
    others: tuple[tuple[str, str], ...]  # (name, JSON) of every other compared config field, sorted


class _SeedSeries(NamedTuple):
    """A metric of one seed."""

    x: np.ndarray  # float[n], ascending
    values: list[np.ndarray]  # n samples: float[episodes], or float[1]


NAMED_METRICS: dict[str, Metric] = {
    "return": Metric("evaluation", "returns", "return", True),
    "length": Metric("evaluation", "lengths", "episode length"),
    "training-return": Metric("training", "return_mean", "training return", True),
    "training-length": Metric("training", "length_mean", "training episode length"),
}
"""Metrics with a name of their own; any other is named by its field."""


def find_metric(name: str, runs: Iterable[LoggedRun]) -> Metric:
    """Find a metric by name: one of NAMED_METRICS, or any numeric field in the runs' lines.

    Raises ValueError, with the nearest names, if there is none.
    """
    if name in NAMED_METRICS:
        return NAMED_METRICS[name]
    kinds: dict[str, set[str]] = {}
    for line in (line for run in runs for line in run.lines):
        for field, value in line.items():
            if field not in ("kind", "seed", "twin", "steps") and _numbers(value).size:
                kinds.setdefault(field, set()).add(line["kind"])
    spaces.check_name("metric", name, [*NAMED_METRICS, *sorted(kinds)])
    kind = "training" if "training" in kinds[name] else "evaluation"
    return Metric(kind, name, name.replace("_", " "), name in ("returns", "return_mean"))


def collect(
    runs: Sequence[LoggedRun],
    metric: Metric,
    x: str = "steps",
    twin: str = "trained",
    window: float = 0,
    ignored: Collection[str] = (),
) -> list[Curve]:
    """Turn runs into curves, one per group of seeds and twin, ordered by panel.

    x: one of X_CHOICES. twin: one of TWIN_CHOICES. window: smooth a training metric over this many
    steps, as ``smoothed`` does; 0 does not smooth. ignored: further config fields in which the
    seeds of one curve may differ.

    Seeds that were logged at different x are linearly interpolated at every x of any of them,
    within the range that all of them cover. Raises ValueError if there is nothing to draw, if two
    runs are the same seed, and for invalid or contradictory options.
    """
    _check_options(runs, metric, x, twin, window, ignored)
    groups = _grouped(runs, ignored)
    curves, without = [], []
    for (key, members), label in zip(groups.items(), _labels(groups)):
        for evaluated_on in _evaluated_twins(key.trained_on, twin):
            seeds = _lines_by_seed(members, metric, evaluated_on, ignored)
            owners = [owner.path for owner, _ in seeds]
            without += [f"{run.path} ({evaluated_on})" for run in members if run.path not in owners]
            series = [_series(lines, metric, x, window, owner.path) for owner, lines in seeds]
            if series:
                curves.append(_curve(key, evaluated_on, label, series))
    what = "evaluations" if metric.kind == "evaluation" else f"values of {metric.field}"
    if not curves:
        raise ValueError(f"there are no {what} yet in {', '.join(without)}")
    if without:
        warn(f"omitted, because there are no {what} yet: {', '.join(without)}")
    return sorted(curves, key=_panel_order)


def _check_options(runs, metric, x, twin, window, ignored) -> None:
    """Raise ValueError for options that are invalid or contradict the metric or the runs."""
    spaces.check_choice("x", x, X_CHOICES)
    spaces.check_choice("twin", twin, TWIN_CHOICES)
    if metric.kind == "training" and twin != "trained":
        raise ValueError(
            f"{metric.field} is only logged on the twin that the agent was trained on, "
            f"so the twin must be 'trained', but it is {twin!r}"
        )
    if metric.kind == "evaluation" and window:
        raise ValueError(
            f"evaluations cannot be smoothed, so the window must be 0 for {metric.field}, "
            f"but it is {window}"
        )
    known = sorted({field for run in runs for field in run.config})
    for name in ignored:
        spaces.check_name("config field", name, known)


# --- groups of seeds -----------------------------------------------------------------------------


def _grouped(
    runs: Iterable[LoggedRun], ignored: Collection[str]
) -> dict[_CurveKey, list[LoggedRun]]:
    """Group runs whose configs differ only in the seed and in ignored fields."""
    groups: dict[_CurveKey, list[LoggedRun]] = {}
    for run in runs:
        values = {name: json.dumps(value, sort_keys=True) for name, value in run.config.items()}
        excluded = {"env", "partial", "memory", *NOT_COMPARED, *ignored}
        key = _CurveKey(
            run.algorithm,
            run.config["memory"].lower(),
            run.config["env"],
            twin_name(run.config["partial"]),
            tuple(sorted((name, value) for name, value in values.items() if name not in excluded)),
        )
        groups.setdefault(key, []).append(run)
    return groups


def _labels(keys: Collection[_CurveKey]) -> list[str]:
    """The label of each group: algorithm, memory, and the config fields that set it apart."""
    labels = []
    for key in keys:
        mine = dict(key.others)
        alike = [dict(other.others) for other in keys if other[:4] == key[:4]]
        different = {
            name for other in alike for name in {*mine, *other} if mine.get(name) != other.get(name)
        }
        memory = MIXED_CASE.get(key.memory, key.memory.upper())
        fields = [f"{name} {mine.get(name)}" for name in sorted(different)]
        labels.append(", ".join([f"{key.algorithm.upper()} {memory}", *fields]))
    return labels


def _evaluated_twins(trained_on: str, twin: str) -> list[str]:
    """The twins that an agent's evaluations are wanted on. twin: one of TWIN_CHOICES."""
    other = next(name for name in TWINS if name != trained_on)
    return {"trained": [trained_on], "other": [other], "both": [trained_on, other]}[twin]


def _panel_order(curve: Curve) -> tuple[int, str, str]:
    """A sort key: environments in the registry's order, then others by name; MDP before POMDP."""
    known = list(REGISTRY)
    place = known.index(curve.environment) if curve.environment in REGISTRY else len(known)
    return place, curve.environment, curve.evaluated_on


def _lines_by_seed(
    runs: Iterable[LoggedRun], metric: Metric, evaluated_on: str, ignored: Iterable[str]
) -> list[tuple[LoggedRun, list[dict[str, Any]]]]:
    """The lines with a metric of each seed in a group, by ascending steps, with the seed's run.

    Of several lines at the same steps, which a run writes that resumes from a checkpoint, the last
    one counts. Raises ValueError if two runs are the same seed.
    """
    owners: dict[tuple[int, str], LoggedRun] = {}
    by_steps: dict[tuple[int, str], dict[float, dict[str, Any]]] = {}
    for run in runs:
        varied = json.dumps([run.config.get(name) for name in ignored], sort_keys=True)
        for line in run.lines:
            if not _has_metric(line, metric, evaluated_on):
                continue
            seed = line["seed"], varied
            owner = owners.setdefault(seed, run)
            if owner is not run:
                raise ValueError(
                    f"{owner.path} and {run.path} are both seed {seed[0]} of the same config; "
                    "omit one of them"
                )
            by_steps.setdefault(seed, {})[line["steps"]] = line
    return [
        (owners[seed], [lines[steps] for steps in sorted(lines)])
        for seed, lines in by_steps.items()
    ]


def _has_metric(line: dict[str, Any], metric: Metric, evaluated_on: str) -> bool:
    """Whether a line holds a value of a metric on a twin."""
    right_twin = line.get("twin", evaluated_on) == evaluated_on
    return line["kind"] == metric.kind and right_twin and _numbers(line.get(metric.field)).size > 0


def _numbers(value: Any) -> np.ndarray:
    """The finite numbers in a field, which is a number or a list: float[n]; else float[0]."""
    values = value if isinstance(value, list) else [value]
    return np.array([one for one in values if is_finite_number(one)], np.float64)


# --- curves --------------------------------------------------------------------------------------


def _series(
    lines: list[dict[str, Any]], metric: Metric, x: str, window: float, path: Path
) -> _SeedSeries:
    """A metric of one seed. Raises ValueError if x decreases."""
    places = np.array([line[x] for line in lines], np.float64)
    if (np.diff(places) < 0).any():
        raise ValueError(f"{path}: {x} decrease while steps increase; use --x steps instead")
    values = [_numbers(line[metric.field]) for line in lines]
    if window:
        means = [one.mean() for one in values]
        per_episode = metric.field in ("return_mean", "length_mean")
        weights = [
            max([1, *_numbers(line.get("episodes"))]) if per_episode else 1 for line in lines
        ]
        values = list(smoothed([line["steps"] for line in lines], means, weights, window)[:, None])
    return _SeedSeries(places, values)


def smoothed(steps: ArrayLike, values: ArrayLike, weights: ArrayLike, window: float) -> np.ndarray:
    """Smooth values with a centered moving average, ``window`` steps wide: float[n].

    steps: [n], ascending. values, weights: float[n]; weights are positive. Windows are cut off at
    both ends. If weights are the numbers of episodes of each value, the result is a mean over
    episodes.
    """
    steps, values, weights = (np.asarray(array, np.float64) for array in (steps, values, weights))
    first = np.searchsorted(steps, steps - window / 2, "left")
    end = np.searchsorted(steps, steps + window / 2, "right")
    return np.array([np.average(values[i:j], weights=weights[i:j]) for i, j in zip(first, end)])


def _curve(key: _CurveKey, evaluated_on: str, label: str, series: list[_SeedSeries]) -> Curve:
    """The curve of one group of seeds."""
    if len(series) == 1:
        x, values = series[0]
    else:
        x, values = _interpolated(series, f"{label} on {key.environment}")
    return Curve(key.environment, evaluated_on, key.trained_on, label, len(series), x, values)


def _interpolated(series: list[_SeedSeries], place: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Interpolate seeds linearly at every x of any of them: (float[n], n arrays float[seeds]).

    Only x within the range of every seed are kept. place: what the seeds are, for messages. Raises
    ValueError if there are none.
    """
    low, high = max(one.x[0] for one in series), min(one.x[-1] for one in series)
    if low > high:
        raise ValueError(
            f"{place}: seeds do not overlap: one starts at {compact(low)}, "
            f"after another has ended at {compact(high)}"
        )
    longest = max(one.x[-1] for one in series)
    if longest - high > CUT_SHARE * longest:
        warn(
            f"{place}: the curve ends at {compact(high)}, with the shortest seed; "
            f"the longest reaches {compact(longest)}"
        )
    grid = np.unique(np.concatenate([one.x for one in series]))
    grid = grid[(grid >= low) & (grid <= high)]
    means = [[values.mean() for values in one.values] for one in series]
    columns = [np.interp(grid, one.x, mean) for one, mean in zip(series, means)]
    return grid, list(np.stack(columns, axis=1))


def thinned(curve: Curve) -> Curve:
    """A curve with at most MAX_POINTS evenly spaced points, the first and the last included."""
    chosen = evenly_spaced(len(curve.x), MAX_POINTS)
    return curve._replace(x=curve.x[chosen], values=[curve.values[i] for i in chosen])


def compact(value: float) -> str:
    """Format a number in few characters: 20000000 -> 20M, 204800 -> 204.8k, 0.05 -> 0.05."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}".replace("-", MINUS)
    return f"{value:.4g}".replace("-", MINUS)
