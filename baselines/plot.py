"""Learning curves: ``popgym-arcade-plot RUN...`` draws what runs have logged and prints a table of
their returns.

A run is a folder with ``config.json`` and ``metrics.jsonl``, as ``popgym-arcade-train`` writes it.
Runs that differ in nothing but the seed are seeds of one setting, and a setting has one curve: the
mean over its seeds. Its band is the 95 % bootstrap confidence interval of ``statistics.interval``,
over the seeds if there are several, or else over the episodes of each evaluation. There is a panel
for each environment and each twin that agents were evaluated on.

In Python, ``read_run`` reads a run, ``collect`` makes curves of runs, ``draw`` makes a figure of
curves, and ``table`` the table.
"""

import argparse
import json
import math
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np

try:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator
    from scipy.optimize import isotonic_regression

    from popgym_arcade.baselines.statistics import CONFIDENCE, interval
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f'popgym-arcade-plot needs {missing.name}: pip install "popgym-arcade[baselines]"',
        name=missing.name,
    ) from missing

from popgym_arcade.registry import REGISTRY
from popgym_arcade.spaces import nearest_names

CONFIG, METRICS = "config.json", "metrics.jsonl"
TWINS = ("MDP", "POMDP")
NOT_SETTING = (
    "seed",
    "seeds",
    "folder",
)  # fields of a config in which the seeds of one setting may differ
POINTS = 400  # of a curve that are drawn; a longer one is thinned out
CUT_SHARE = 0.1  # of the longest seed's range; if a curve loses more than that because another seed is shorter, the user is told

REQUIRED = {
    "training": {"seed", "steps", "seconds"},
    "evaluation": {"seed", "steps", "seconds", "twin", "returns", "lengths"},
}
"""The kinds of lines in a metrics file, and what each must have."""

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
"""Memories as a legend writes them, where that is not all in capitals."""

# Okabe and Ito's colours, which people with any kind of colour vision can tell apart; without
# yellow, which is too faint on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = (None, "o", "s", "^", "D")  # the next one for each further round through the colours
LINE = {
    "linewidth": 1.8,
    "markersize": 5.5,
    "markeredgecolor": "white",
    "markeredgewidth": 0.7,
    "solid_capstyle": "round",
}
TITLE_SIZE = 13
NAME_HEIGHT = 0.055  # of a curve's name beside the panel, as a share of the panel's height
MINUS = "\N{MINUS SIGN}"
INK, FAINT = "#222222", "#666666"
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that a figure looks the same everywhere
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "pdf.fonttype": 42,  # text in the PDF stays text
}


class Run(NamedTuple):
    """What a run's folder holds."""

    path: Path
    algorithm: str  # in lower case
    config: dict  # of the algorithm, with env, partial, memory and others
    lines: list  # the lines of its metrics, each a dict


class Setting(NamedTuple):
    """What the seeds of one curve have in common."""

    algorithm: str
    memory: str  # in lower case
    environment: str
    trained_on: str  # "MDP" or "POMDP"
    others: tuple  # (name, value as JSON) of every other field of the config that counts, sorted by name


class Metric(NamedTuple):
    """Something that metrics hold."""

    kind: str  # of the lines: "training" or "evaluation"
    field: str  # of such a line
    label: str  # for the axis
    is_return: bool = False


class Series(NamedTuple):
    """A metric of one seed."""

    x: np.ndarray  # float[n], ascending
    values: list  # n arrays float[episodes], or float[1] where there is one value


class Curve(NamedTuple):
    """A metric of one setting against x."""

    environment: str
    evaluated_on: str  # "MDP" or "POMDP"
    trained_on: str
    label: str
    seeds: int
    x: np.ndarray  # float[n], ascending
    values: list  # n arrays: float[seeds], or, if there is one seed, float[episodes]; float[1] where there is but one value

    @property
    def mean(self):
        """The height of the curve: float[n]."""
        return np.array([values.mean() for values in self.values])

    @property
    def has_band(self):
        """Whether there is anything to have an interval over."""
        return any(values.size > 1 for values in self.values)


NAMED_METRICS = {
    "return": Metric("evaluation", "returns", "return", True),
    "length": Metric("evaluation", "lengths", "episode length"),
    "training-return": Metric("training", "return_mean", "return while training", True),
    "training-length": Metric("training", "length_mean", "episode length while training"),
}
"""Metrics that have a name of their own; any other is named by its field in the lines."""


def note(message):
    """Tell the user something on the error stream."""
    print(f"popgym-arcade-plot: {message}", file=sys.stderr)


# --- reading runs --------------------------------------------------------------------------------


def read_run(path):
    """Read a run's folder: Run.

    A last line of its metrics that has no end was cut when the run was killed: it is left out, and
    the user is told. Raises FileNotFoundError for a folder that is no run, naming the nearest runs,
    and ValueError, with the file and the line, for anything else that is broken.
    """
    path = Path(path)
    for name in (CONFIG, METRICS):
        if not (path / name).is_file():
            raise FileNotFoundError(
                f"{str(path)!r} is no run, for it has no {name}; {_runs_nearby(path)}"
            )
    algorithm, config = _read_config(path / CONFIG)
    return Run(path, algorithm, config, _read_lines(path / METRICS))


def _runs_nearby(path):
    """The end of a message about a folder that is no run: the runs in it, or else those beside it
    with the nearest names."""
    inside, beside = (
        [str(file.parent) for file in sorted(folder.glob(f"*/{CONFIG}"))]
        for folder in (path, path.parent)
    )
    if inside:
        return f"runs in it: {', '.join(inside[:3])}" + (
            f" and {len(inside) - 3} more" if len(inside) > 3 else ""
        )
    if (path.parent / CONFIG).is_file():
        return f"the nearest is {str(path.parent)!r}"
    beside = [run for run in beside if Path(run) != path]
    return (
        nearest_names(str(path), beside)
        if beside
        else f"there are no runs in {str(path.parent)!r} either"
    )


def _read_config(path):
    """A config file's algorithm and config: (str, dict). Raises ValueError if something is missing
    or of the wrong type."""
    try:
        content = json.loads(path.read_text())
        algorithm, config = content["algorithm"].lower(), dict(content["config"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{path} must be {{"algorithm": "...", "config": {{...}}}}, but it is not: {error!r}'
        ) from error
    for name, expected in {"env": str, "partial": bool, "memory": str}.items():
        if type(config.get(name)) is not expected:
            raise ValueError(
                f"{path}: the config's {name} must be of type {expected.__name__}, but it is {config.get(name)!r}"
            )
    return algorithm, config


def _read_lines(path):
    """The lines of a metrics file: [dict]."""
    texts, lines = path.read_bytes().split(b"\n"), []
    for number, text in enumerate(texts, 1):
        is_last = number == len(texts)
        if is_last and not text:
            break
        try:
            line = json.loads(text.decode())
        except ValueError as error:
            if not is_last:
                raise ValueError(f"{path}, line {number}, is not JSON: {text[:60]!r}") from error
            note(f"{path}, line {number}, is left out: the run was stopped while it wrote it")
            break
        _check_line(line, f"{path}, line {number},")
        lines.append(line)
    return lines


def _check_line(line, place):
    """Raise ValueError, which begins with the place, unless a line has what its kind must have."""
    kind = line.get("kind") if isinstance(line, dict) else None
    if kind not in REQUIRED:
        raise ValueError(
            f"{place} must be an object of kind {' or '.join(REQUIRED)}, but it is {str(line)[:60]!r}"
        )
    lacking = sorted(REQUIRED[kind] - set(line))
    if lacking:
        raise ValueError(f"{place} is of kind {kind} and lacks {', '.join(lacking)}")
    for name in ("seed", "steps", "seconds"):
        if not _is_number(line[name]):
            raise ValueError(f"{place} must have a number as {name}, but it has {line[name]!r}")
    if kind == "evaluation":
        _check_evaluation(line, place)


def _check_evaluation(line, place):
    """Raise ValueError unless an evaluation's twin and episodes are what they must be."""
    if line["twin"] not in TWINS:
        raise ValueError(
            f"{place} has the twin {line['twin']!r}, but there are: {', '.join(TWINS)}"
        )
    for name in ("returns", "lengths"):
        values = line[name]
        if not isinstance(values, list) or not values or not all(map(_is_number, values)):
            raise ValueError(
                f"{place} must have a list of one or more numbers as {name}, but it has {str(values)[:60]}"
            )


def _is_number(value):
    """Whether a value of JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# --- from runs to curves -------------------------------------------------------------------------


def find_metric(name, runs):
    """A metric by name: one of NAMED_METRICS, or a field that lines of the runs have. Raises
    ValueError, with the nearest names."""
    if name in NAMED_METRICS:
        return NAMED_METRICS[name]
    fields = {}
    for line in (line for run in runs for line in run.lines):
        for field, value in line.items():
            if field not in ("kind", "seed", "twin", "steps") and _values(value).size:
                fields.setdefault(field, set()).add(line["kind"])
    if name not in fields:
        raise ValueError(
            f"there is no metric {name!r}; {nearest_names(name, [*NAMED_METRICS, *sorted(fields)])}"
        )
    kind = "training" if "training" in fields[name] else "evaluation"
    return Metric(kind, name, name.replace("_", " "), name in ("returns", "return_mean"))


def collect(runs, metric, x="steps", twin="trained", window=0, ignored=()):
    """Make curves of runs: a Curve for each setting and twin, those of a panel one after the other.

    metric: a Metric. x: "steps" or "seconds". twin: evaluations on which twin, seen from the one
    that the agent was trained on: "trained", "other" or "both". window: smooth a training metric
    over so many steps, as ``smoothed`` does; 0 does not. ignored: fields of configs in which the
    seeds of one setting may differ too.

    Seeds that were logged at different x are brought together by linear interpolation, at every x
    of any of them within the range that all of them have. Raises ValueError if there is nothing to
    draw, if a setting has the same seed twice, and for options that contradict each other.
    """
    _check_options(runs, metric, twin, window, ignored)
    groups = _grouped(runs, ignored)
    curves, without = [], []
    for (setting, members), label in zip(groups.items(), _labels(groups)):
        for evaluated_on in _evaluated_twins(setting.trained_on, twin):
            owners = _lines_of_seeds(members, metric, evaluated_on, ignored)
            without += [
                f"{run.path} ({evaluated_on})"
                for run in members
                if not any(run is owner for owner, _ in owners)
            ]
            series = [_series(lines, metric, x, window, owner.path) for owner, lines in owners]
            if series:
                curves.append(_curve(setting, evaluated_on, label, series))
    what = "evaluations" if metric.kind == "evaluation" else f"values of {metric.field}"
    if not curves:
        raise ValueError(f"there are no {what} yet in {', '.join(without)}")
    if without:
        note(f"left out, because there are no {what} yet: {', '.join(without)}")
    return sorted(curves, key=_panel_order)


def _check_options(runs, metric, twin, window, ignored):
    """Raise ValueError for options that contradict the metric or the runs."""
    if metric.kind == "training" and twin != "trained":
        raise ValueError(
            f"{metric.field} is logged on the twin trained on only, so the twin must be 'trained', not {twin!r}"
        )
    if metric.kind == "evaluation" and window:
        raise ValueError(
            f"evaluations are not smoothed, so the window must be 0 for {metric.field}, but it is {window}"
        )
    for name in ignored:
        if not any(name in run.config for run in runs):
            known = sorted({field for run in runs for field in run.config})
            raise ValueError(
                f"no run's config has a field {name!r} to ignore; {nearest_names(name, known)}"
            )


def _grouped(runs, ignored):
    """Runs by their setting, in the order given: {Setting: [Run]}."""
    groups = {}
    for run in runs:
        values = {name: json.dumps(value, sort_keys=True) for name, value in run.config.items()}
        apart = {"env", "partial", "memory", *NOT_SETTING, *ignored}
        others = tuple(sorted((name, value) for name, value in values.items() if name not in apart))
        trained_on = TWINS[run.config["partial"]]
        setting = Setting(
            run.algorithm, run.config["memory"].lower(), run.config["env"], trained_on, others
        )
        groups.setdefault(setting, []).append(run)
    return groups


def _labels(settings):
    """What the legend calls each setting: algorithm, memory, and the fields that tell it from
    others with the same of these."""
    labels = []
    for setting in settings:
        alike = [dict(other.others) for other in settings if other[:4] == setting[:4]]
        mine = dict(setting.others)
        different = sorted(
            {
                name
                for other in alike
                for name in {*mine, *other}
                if mine.get(name) != other.get(name)
            }
        )
        memory = MIXED_CASE.get(setting.memory, setting.memory.upper())
        labels.append(
            ", ".join(
                [
                    f"{setting.algorithm.upper()} {memory}",
                    *(f"{name} {mine.get(name)}" for name in different),
                ]
            )
        )
    return labels


def _evaluated_twins(trained_on, twin):
    """The twins whose evaluations are wanted of an agent: a list."""
    other = next(name for name in TWINS if name != trained_on)
    return {"trained": [trained_on], "other": [other], "both": [trained_on, other]}[twin]


def _panel_order(curve):
    """A key that sorts curves by panel: the registry's environments in its order, then others by
    name; MDP before POMDP."""
    known = list(REGISTRY)
    place = known.index(curve.environment) if curve.environment in REGISTRY else len(known)
    return place, curve.environment, curve.evaluated_on


def _lines_of_seeds(runs, metric, evaluated_on, ignored):
    """The seeds of one setting that have a metric: [(Run, lines by ascending steps)].

    If a seed has several lines for the same steps, because its run went back to a checkpoint, the
    last of them counts. Raises ValueError if two runs are the same seed, which would count as two.
    """
    owners, seeds = {}, {}
    for run in runs:
        varied = json.dumps([run.config.get(name) for name in ignored], sort_keys=True)
        for line in run.lines:
            wanted = line["kind"] == metric.kind and line.get("twin", evaluated_on) == evaluated_on
            if wanted and _values(line.get(metric.field)).size:
                seed = line["seed"], varied
                owner = owners.setdefault(seed, run)
                if owner is not run:
                    raise ValueError(
                        f"{owner.path} and {run.path} are both seed {seed[0]} of one setting; leave one of them out"
                    )
                seeds.setdefault(seed, {})[line["steps"]] = line
    return [
        (owners[seed], [lines[steps] for steps in sorted(lines)]) for seed, lines in seeds.items()
    ]


def _values(value):
    """The finite numbers in a field of a line, which is a number or a list of them: float[n].
    Anything else has none."""
    return np.array(
        [one for one in (value if isinstance(value, list) else [value]) if _is_number(one)],
        np.float64,
    )


def _series(lines, metric, x, window, path):
    """A metric of one seed: Series. Raises ValueError if x goes back."""
    places = np.array([line[x] for line in lines], np.float64)
    if (np.diff(places) < 0).any():
        raise ValueError(
            f"{path}: the {x} go back between lines of more steps, so there is no curve over {x}; take --x steps"
        )
    values = [_values(line[metric.field]) for line in lines]
    if window:
        means = [one.mean() for one in values]
        per_episode = metric.field in ("return_mean", "length_mean")
        weights = [max([1, *_values(line.get("episodes"))]) if per_episode else 1 for line in lines]
        values = list(smoothed([line["steps"] for line in lines], means, weights, window)[:, None])
    return Series(places, values)


def smoothed(steps, values, weights, window):
    """The weighted mean of the values at most half a window of steps away from each: float[n].

    steps: [n], ascending. values, weights: float[n]; weights are positive. At the ends a window
    reaches over what there is. Means over the episodes that ended between two lines are weighted
    with the number of these, so the result is a mean over episodes.
    """
    steps, values, weights = (np.asarray(array, np.float64) for array in (steps, values, weights))
    first = np.searchsorted(steps, steps - window / 2, "left")
    end = np.searchsorted(steps, steps + window / 2, "right")
    return np.array([np.average(values[i:j], weights=weights[i:j]) for i, j in zip(first, end)])


def _curve(setting, evaluated_on, label, series):
    """The curve of one setting: Curve."""
    x, values = (
        series[0] if len(series) == 1 else together(series, f"{label} on {setting.environment}")
    )
    return Curve(
        setting.environment, evaluated_on, setting.trained_on, label, len(series), x, values
    )


def together(series, place):
    """Seeds at common x: (float[n], n arrays float[seeds]).

    The x are those of all seeds that lie within the range which every seed has; between its own x a
    seed is interpolated linearly. place: what the seeds are, for messages. Raises ValueError if
    there is no x that all have.
    """
    low, high = max(one.x[0] for one in series), min(one.x[-1] for one in series)
    if low > high:
        raise ValueError(
            f"{place}: one seed begins at {compact(low)}, where another has ended at {compact(high)}"
        )
    longest = max(one.x[-1] for one in series)
    if longest - high > CUT_SHARE * longest:
        note(
            f"{place}: the curve ends at {compact(high)}, with its shortest seed; the longest goes on to {compact(longest)}"
        )
    grid = np.unique(np.concatenate([one.x for one in series]))
    grid = grid[(grid >= low) & (grid <= high)]
    means = [[values.mean() for values in one.values] for one in series]
    return grid, list(
        np.stack([np.interp(grid, one.x, mean) for one, mean in zip(series, means)], axis=1)
    )


# --- the figure ----------------------------------------------------------------------------------


def band(curve):
    """A curve's band: the ``interval`` at each x, (float[n], float[n])."""
    return tuple(np.array([interval(values) for values in curve.values]).T)


def thinned(curve):
    """A curve with at most POINTS points: spread evenly over its own, the first and the last among
    them."""
    chosen = np.unique(
        np.linspace(0, len(curve.x) - 1, min(len(curve.x), POINTS)).round().astype(int)
    )
    return curve._replace(x=curve.x[chosen], values=[curve.values[i] for i in chosen])


@matplotlib.rc_context(STYLE)
def draw(curves, metric, x="steps", window=0, title=None, fit=False):
    """Draw curves: a matplotlib Figure on the Agg backend, which needs no display.

    curves: from ``collect``. metric, x and window: as there. title: above it all. fit: fit the y
    axis of returns to the curves, instead of showing all returns that the game's rules allow. One
    panel has its curves' names beside them, several have a legend.
    """
    curves = [thinned(curve) for curve in curves]
    panels = {}
    for curve in curves:
        panels.setdefault((curve.environment, curve.evaluated_on), []).append(curve)
    styles, mixed, (unit, x_label) = _styles(curves), _is_mixed(curves), _unit(curves, x)
    figure, grid = _canvas(len(panels), list(styles))
    for axes, ((environment, twin), members) in zip(grid.flat, panels.items()):
        axes.set_title(f"{environment}, {twin}")
        for curve in members:
            name = _name(curve, mixed)
            _draw_curve(
                axes,
                curve,
                unit,
                {"label": name, **styles[name]},
                0.18 if len(members) < 5 else 0.1,
            )
        _set_limits(axes, members, unit, environment if metric.is_return and not fit else None)
    _label_axes(grid, len(panels), x_label, metric.label)
    if len(panels) == 1:
        figure.suptitle(title or "", fontsize=TITLE_SIZE)
        _name_ends(grid[0, 0], curves, unit, styles, mixed)
    else:
        _add_legend(figure, styles, title)
    letters = int(figure.get_figwidth() * 15)  # that fit into the width of the figure
    figure.supxlabel(
        textwrap.fill(caption(curves, metric, window), letters), fontsize=8, color=FAINT
    )
    return figure


def columns_of(count):
    """How many panels stand in a row, so that few places stay empty: up to 3 panels in one row,
    others in rows of 2 to 5."""
    if count <= 4:
        return (1, 2, 3, 2)[count - 1]
    return min((4, 3) if count < 10 else (4, 3, 5), key=lambda columns: -count % columns)


def _canvas(count, names):
    """A figure for so many panels: (Figure, Axes[rows, columns]). Places without a panel are empty.

    names: of the curves, for which a single panel leaves room at its right.
    """
    columns = columns_of(count)
    rows = -(-count // columns)
    size = max(6.6, 3.1 * columns), 2.5 * rows + 0.9
    if count == 1:
        size = 6.8 + 0.08 * max(map(len, names)), max(4.6, 1.2 + 0.22 * len(names))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    return figure, grid


def _is_mixed(curves):
    """Whether agents are shown on a twin that they were not trained on, so that what they were
    trained on must be said."""
    return any(curve.trained_on != curve.evaluated_on for curve in curves)


def _name(curve, mixed):
    """A curve's name in a figure."""
    return f"{curve.label}, trained on {curve.trained_on}" if mixed else curve.label


def _styles(curves):
    """How the curves are drawn, by name: a dict of matplotlib's options for a line.

    An agent has a colour and, where there are more agents than colours, a marker, the same in all
    panels. In a figure that is mixed the curves of agents that were trained on the MDP are dashed.
    """
    mixed = _is_mixed(curves)
    labels = list(dict.fromkeys(curve.label for curve in curves))
    styles = {}
    for curve in curves:
        round_, color = divmod(labels.index(curve.label), len(COLORS))
        dashes = "--" if mixed and curve.trained_on == "MDP" else "-"
        styles[_name(curve, mixed)] = {
            "color": COLORS[color],
            "marker": MARKERS[round_ % len(MARKERS)],
            "linestyle": dashes,
        }
    return styles


def _unit(curves, x):
    """What x is divided by, and the label of its axis."""
    if x == "steps":
        return 1, "environment steps"
    longest = max(curve.x[-1] for curve in curves)
    for name, seconds in (("hours", 3600), ("minutes", 60)):
        if longest >= 2 * seconds:
            return seconds, f"wall time in {name}"
    return 1, "wall time in seconds"


def _draw_curve(axes, curve, unit, style, opacity):
    """Draw a curve and its band, of this opacity, into a panel. A curve of one point is a dot, and
    its band a bar."""
    lonely = len(curve.x) == 1
    if curve.has_band:
        axes.fill_between(
            curve.x / unit,
            *band(curve),
            color=style["color"],
            alpha=opacity,
            linewidth=4 if lonely else 0,
        )
    every = max(1, len(curve.x) // 8)
    axes.plot(
        curve.x / unit,
        curve.mean,
        markevery=every,
        **{**LINE, **style, **({"marker": "o"} if lonely else {})},
    )


def _set_limits(axes, curves, unit, environment):
    """Set a panel's limits. environment: the one whose range of returns the y axis shows, or None
    to fit it to the curves."""
    axes.set_xlim(0, 1.02 * max(curve.x[-1] for curve in curves) / unit or 1)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    limits = _return_range(environment)
    if limits:
        margin = 0.03 * (limits[1] - limits[0])
        low, high = limits[0] - margin, limits[1] + margin
        if all(
            low <= values.min() and values.max() <= high
            for curve in curves
            for values in curve.values
        ):
            axes.set_ylim(low, high)


def _return_range(environment):
    """The least and the greatest return of an environment, from its rulebook, or None if it is not
    registered."""
    return REGISTRY[environment].return_range if environment in REGISTRY else None


def compact(value):
    """A number in few characters: 20000000 -> 20M, 204800 -> 204.8k, 0.05 -> 0.05."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}".replace("-", MINUS)
    return f"{value:.4g}".replace("-", MINUS)


def _label_axes(grid, count, x_label, y_label):
    """Label the lowest panel of each column, and the first panel of each row."""
    columns = grid.shape[1]
    for number in range(count):
        if number + columns >= count:
            grid.flat[number].set_xlabel(x_label)
        if number % columns == 0:
            grid.flat[number].set_ylabel(y_label)


def _add_legend(figure, styles, title):
    """Name the curves in a legend above all panels, with the figure's title above that."""
    handles = [
        matplotlib.lines.Line2D([], [], label=name, **LINE, **style)
        for name, style in styles.items()
    ]
    columns = int(
        figure.get_figwidth() * 13 / (max(map(len, styles)) + 8)
    )  # 13 letters an inch, and the room of 8 for a line
    columns = min(max(columns, 1), len(handles))
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=columns,
        frameon=False,
        handlelength=2.4,
        fontsize=9,
        title=title,
        title_fontsize=TITLE_SIZE,
    )


def _name_ends(axes, curves, unit, styles, mixed):
    """Write each curve's name to the right of the panel, as near to the height of its end as the
    other names allow."""
    low, high = axes.get_ylim()
    heights = spread(
        [(curve.mean[-1] - low) / (high - low) for curve in curves],
        min(NAME_HEIGHT, 1 / len(curves)),
    )
    for curve, height in zip(curves, heights):
        name = _name(curve, mixed)
        line = {**LINE, **styles[name]}
        leader = {
            "arrowstyle": "-",
            "color": line["color"],
            "linewidth": 0.8,
            "shrinkA": 0,
            "shrinkB": 2,
        }
        end = curve.x[-1] / unit, curve.mean[-1]
        axes.annotate(
            "",
            end,
            (1.05, height),
            textcoords="axes fraction",
            annotation_clip=False,
            arrowprops=leader,
        )
        axes.plot(
            [1.05, 1.075, 1.1],
            [height] * 3,
            transform=axes.transAxes,
            clip_on=False,
            markevery=[1],
            **line,
        )
        axes.text(
            1.115, height, name, transform=axes.transAxes, verticalalignment="center_baseline"
        )


def spread(heights, gap):
    """Move heights, in 0 ... 1, apart: float[n], in the same order, any two at least a gap apart,
    and moved as little as possible.

    Where they find room, they stay in 0 ... 1. [0.5, 0.5], 0.1 -> [0.45, 0.55].
    """
    order = np.argsort(heights, kind="stable")
    steps = gap * np.arange(len(order))
    lowest = isotonic_regression(np.asarray(heights)[order] - steps).x
    moved = np.empty(len(order))
    moved[order] = np.clip(lowest, 0, max(0, 1 - steps[-1])) + steps
    return moved


def caption(curves, metric, window):
    """What lines and bands are, in a sentence or two."""
    least, most = min(curve.seeds for curve in curves), max(curve.seeds for curve in curves)
    seeds, episodes = f"{most} seeds", "the episodes of an evaluation"
    if least > 1:
        over = seeds if least == most else f"{least} to {seeds}"
    else:
        over = episodes if most == 1 else f"{seeds} at most, or {episodes} where there is one seed"
    if most == 1 and metric.kind == "training":
        text = "One seed."
    else:
        text = f"Lines: means over {over}. Bands: {CONFIDENCE:.0%} bootstrap confidence intervals of these means."
    return text + (f" Each point is a mean over {compact(window)} steps." if window else "")


# --- the table -----------------------------------------------------------------------------------


TABLE_COLUMNS = (
    "environment",
    "agent",
    "trained on",
    "evaluated on",
    "seeds",
    "final mean",
    "final median",
    "best mean",
    "mean of all",
)
TABLE_NOTE = """\
Returns, and in brackets their {confidence:.0%} bootstrap confidence intervals: over the seeds, or over the episodes where there is
one seed. Final is the last evaluation, best the one with the highest mean, which chance favours; mean of all is the mean over all
evaluations."""


def table(curves):
    """Curves of evaluation returns as a table in Markdown: a str, with a row for each curve and a
    note below.

    Each figure comes with its ``interval``, over seeds or, if there is one seed, over episodes. For
    the mean of all evaluations of one seed, episodes are averaged first with those in the same
    place of the other evaluations, whose number is the least of any.
    """
    rows = [TABLE_COLUMNS, ("---",) * 4 + ("---:",) * 5, *(_table_row(curve) for curve in curves)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
        for row in rows
    ]
    return "\n".join([*lines, "", TABLE_NOTE.format(confidence=CONFIDENCE)])


def table_of(paths):
    """The table of the returns of runs, on both twins. paths: their folders."""
    return table(collect([read_run(path) for path in paths], NAMED_METRICS["return"], twin="both"))


def _table_row(curve):
    """A curve's row: a tuple of str."""
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


def with_interval(values, statistic=np.mean):
    """A statistic of values and its interval as text: [0.5, 0.5] -> '0.500 [0.500, 0.500]'."""
    low, high = interval(values, statistic)
    middle, low, high = (
        round(float(number), 3) + 0.0 for number in (statistic(values), low, high)
    )  # + 0.0: no "-0.000"
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]"


# --- the command ---------------------------------------------------------------------------------


def save(figure, name):
    """Write a figure to ``name``.png and ``name``.pdf: their paths. The same figure gives the same
    bytes."""
    paths = [Path(f"{name}.png"), Path(f"{name}.pdf")]
    with matplotlib.rc_context(STYLE):
        figure.savefig(paths[0], dpi=200, metadata={"Software": None})
        figure.savefig(paths[1], metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return paths


def _out(text):
    """The name of the figure's files without their suffix. Raises ValueError if there is no such
    folder."""
    path = Path(text)
    name = path.stem if path.suffix.lower() in (".png", ".pdf") else path.name
    if not name or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(
            f"there is no folder {str(path.parent)!r} to write {name!r} into"
        )
    return path.parent / name


def _window(text):
    """A window in steps. Raises ValueError for what is no number and argparse's error for one that
    is not positive."""
    steps = float(text)
    if not 0 < steps < math.inf:
        raise argparse.ArgumentTypeError(
            f"a window must be a positive number of steps, but it is {text}"
        )
    return steps


def _parser():
    """The command line's parser."""
    parser = argparse.ArgumentParser(
        prog="popgym-arcade-plot", description="Draw learning curves of runs, and print a table."
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="folders of runs; those that differ in the seed only are one curve",
    )
    parser.add_argument(
        "--metric",
        default="return",
        help=f"{', '.join(NAMED_METRICS)} (default return), or any field of the metrics, e.g. loss",
    )
    parser.add_argument(
        "--x",
        choices=("steps", "seconds"),
        default="steps",
        help="what the x axis shows (default steps)",
    )
    parser.add_argument(
        "--twin",
        choices=("trained", "other", "both"),
        default="trained",
        help="evaluations on the twin trained on (default), on the other one, or on both",
    )
    parser.add_argument(
        "--smooth",
        type=_window,
        default=0,
        metavar="STEPS",
        help="average a training metric over so many steps",
    )
    parser.add_argument(
        "--fit",
        action="store_true",
        help="fit the y axis of returns to the curves, not to the game's rules",
    )
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="FIELD",
        help="take runs for seeds of one setting that differ in this too",
    )
    parser.add_argument(
        "--out",
        type=_out,
        default="learning-curves",
        metavar="NAME",
        help="writes NAME.png and NAME.pdf",
    )
    parser.add_argument("--title", help="a line above the figure")
    return parser


def main(arguments=None):
    """Draw learning curves from the command line. Bad input exits with 2."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        runs = [read_run(path) for path in dict.fromkeys(map(Path, options.runs))]
        metric = find_metric(options.metric, runs)
        curves = collect(runs, metric, options.x, options.twin, options.smooth, options.ignore)
        figure = draw(curves, metric, options.x, options.smooth, options.title, options.fit)
        paths = save(figure, options.out)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if (metric, options.x) != (NAMED_METRICS["return"], "steps"):
        curves = _returns(runs, options)
    if curves:
        print(table(curves) + "\n")
    print(f"wrote {paths[0]} and {paths[1]}")


def _returns(runs, options):
    """The curves of evaluation returns, for the table below a figure of something else; [] if there
    are no evaluations yet."""
    try:
        return collect(runs, NAMED_METRICS["return"], "steps", options.twin, 0, options.ignore)
    except ValueError as error:
        note(f"no table: {error}")
        return []


if __name__ == "__main__":
    main()
