"""Figures of learning curves, drawn by matplotlib, which only this module of the baselines imports.

``draw`` makes a figure of curves, one panel per environment and twin, without needing a display,
and ``save_figure`` writes it to files. ``picture`` is any figure as the content of a file.
"""

import io
import textwrap
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from popgym_arcade.baselines.curves import Curve, Metric, compact, thinned
from popgym_arcade.baselines.statistics import CONFIDENCE, interval
from popgym_arcade.commands.files import unwritten, write_files
from popgym_arcade.registry import REGISTRY

__all__ = ["COLORS", "FAINT", "INK", "STYLE", "draw", "picture", "save_figure"]

# The palette of Okabe and Ito, which is safe for all kinds of color vision; without yellow, which
# is too faint on white.
COLORS: tuple[str, ...] = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)
INK: str = "#222222"
FAINT: str = "#666666"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so figures look the same everywhere
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
    "pdf.fonttype": 42,  # embed fonts, so that text in the PDF stays text
}
"""matplotlib's rcParams for all figures."""

MARKERS = (None, "o", "s", "^", "D")  # the next one each time the colors are used up
LINE: dict[str, Any] = {
    "linewidth": 1.8,
    "markersize": 5.5,
    "markeredgecolor": "white",
    "markeredgewidth": 0.7,
    "solid_capstyle": "round",
}
TITLE_SIZE = 13
LABEL_HEIGHT = 0.055  # of a label beside the panel, as a fraction of the panel's height


@matplotlib.rc_context(STYLE)
def draw(
    curves: Iterable[Curve],
    metric: Metric,
    x: str = "steps",
    window: float = 0,
    title: str | None = None,
    fit: bool = False,
) -> Figure:
    """Draw curves with confidence bands: a matplotlib Figure on the Agg backend.

    curves, metric, x, window: as in ``curves.collect``. fit: fit the y axis of returns to the
    curves, instead of showing the game's whole range of returns. A single panel has the labels
    beside it, several share a legend.
    """
    curves = [thinned(curve) for curve in curves]
    panels: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        panels.setdefault((curve.environment, curve.evaluated_on), []).append(curve)
    styles, mixed, (unit, x_label) = _styles(curves), _is_mixed(curves), _unit(curves, x)
    figure, grid = _canvas(len(panels), list(styles))
    for axes, ((environment, twin), members) in zip(grid.flat, panels.items()):
        axes.set_title(f"{environment}, {twin}")
        opacity = 0.18 if len(members) < 5 else 0.1
        for curve in members:
            name = _name(curve, mixed)
            _draw_curve(axes, curve, unit, {"label": name, **styles[name]}, opacity)
        _set_limits(axes, members, unit, environment if metric.is_return and not fit else None)
    _label_axes(grid, len(panels), x_label, metric.label)
    if len(panels) == 1:
        figure.suptitle(title or "", fontsize=TITLE_SIZE)
        _label_ends(grid[0, 0], curves, unit, styles, mixed)
    else:
        _add_legend(figure, styles, title)
    letters = int(figure.get_figwidth() * 15)  # that fit into the width of the figure
    caption = textwrap.fill(_caption(curves, metric, window), letters)
    figure.supxlabel(caption, fontsize=8, color=FAINT)
    return figure


def save_figure(figure: Figure, name: str | PathLike[str], force: bool = True) -> list[Path]:
    """Write a figure to ``name``.png and ``name``.pdf, reproducible byte for byte: their paths.

    force: overwrite files with other content. Both files are written or, if OSError is raised, with
    the path, none.
    """
    undated = {"CreationDate": None, "Creator": None, "Producer": None}
    with matplotlib.rc_context(STYLE):
        contents = {
            Path(f"{name}.png"): picture(figure, "png", dpi=200, metadata={"Software": None}),
            Path(f"{name}.pdf"): picture(figure, "pdf", metadata=undated),
        }
    write_files(unwritten(contents, force))
    return list(contents)


def picture(figure: Figure, format: str, **options: Any) -> bytes:
    """A figure as the content of a file. format, options: as ``Figure.savefig`` takes them."""
    content = io.BytesIO()
    figure.savefig(content, format=format, **options)
    return content.getvalue()


# --- panels --------------------------------------------------------------------------------------


def _columns_of(count: int) -> int:
    """The panels per row that leave few places empty: up to 3 in one row, else 2 to 5 per row."""
    if count <= 4:
        return (1, 2, 3, 2)[count - 1]
    return min((4, 3) if count < 10 else (4, 3, 5), key=lambda columns: -count % columns)


def _canvas(count: int, names: Sequence[str]) -> tuple[Figure, np.ndarray]:
    """A figure with this many panels: (Figure, Axes[rows, columns]); the other axes are hidden.

    names: the labels of the curves, for which a single panel leaves room on its right.
    """
    columns = _columns_of(count)
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


def _is_mixed(curves: Iterable[Curve]) -> bool:
    """Whether any agent is shown on a twin it was not trained on, so that labels must say so."""
    return any(curve.trained_on != curve.evaluated_on for curve in curves)


def _name(curve: Curve, mixed: bool) -> str:
    """The label of a curve in a figure."""
    return f"{curve.label}, trained on {curve.trained_on}" if mixed else curve.label


def _styles(curves: Sequence[Curve]) -> dict[str, dict[str, Any]]:
    """The line style of each label, as matplotlib's keyword arguments.

    An agent has the same color in all panels and, where there are more agents than colors, the same
    marker. In a mixed figure, curves of agents that were trained on the MDP are dashed.
    """
    mixed = _is_mixed(curves)
    labels = list(dict.fromkeys(curve.label for curve in curves))
    styles = {}
    for curve in curves:
        round_, color = divmod(labels.index(curve.label), len(COLORS))
        styles[_name(curve, mixed)] = {
            "color": COLORS[color],
            "marker": MARKERS[round_ % len(MARKERS)],
            "linestyle": "--" if mixed and curve.trained_on == "MDP" else "-",
        }
    return styles


def _unit(curves: Iterable[Curve], x: str) -> tuple[int, str]:
    """What x is divided by, and the label of its axis."""
    if x == "steps":
        return 1, "environment steps"
    longest = max(curve.x[-1] for curve in curves)
    for name, seconds in (("hours", 3600), ("minutes", 60)):
        if longest >= 2 * seconds:
            return seconds, f"wall time in {name}"
    return 1, "wall time in seconds"


def _band(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """The confidence interval at each x: (low float[n], high float[n])."""
    low, high = np.array([interval(values) for values in curve.values]).T
    return low, high


def _draw_curve(
    axes: Axes, curve: Curve, unit: float, style: dict[str, Any], opacity: float
) -> None:
    """Draw a curve and its band, of this opacity. A single point is a dot with an error bar."""
    single = len(curve.x) == 1
    if curve.has_band:
        width = 4 if single else 0
        low, high = _band(curve)
        axes.fill_between(
            curve.x / unit, low, high, color=style["color"], alpha=opacity, linewidth=width
        )
    options = {**LINE, **style, "markevery": max(1, len(curve.x) // 8)}
    if single:
        options["marker"] = "o"
    axes.plot(curve.x / unit, curve.mean, **options)


def _set_limits(axes: Axes, curves: Sequence[Curve], unit: float, environment: str | None) -> None:
    """Set a panel's limits.

    environment: show its range of returns on the y axis, if it is registered and no value lies
    outside; otherwise the axis fits the curves.
    """
    axes.set_xlim(0, 1.02 * max(curve.x[-1] for curve in curves) / unit or 1)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    if environment not in REGISTRY:
        return
    lowest, highest = REGISTRY[environment].return_range
    margin = 0.03 * (highest - lowest)
    low, high = lowest - margin, highest + margin
    samples = [values for curve in curves for values in curve.values]
    if all(low <= values.min() and values.max() <= high for values in samples):
        axes.set_ylim(low, high)


def _label_axes(grid: np.ndarray, count: int, x_label: str, y_label: str) -> None:
    """Label the x axis of the lowest panel per column and the y axis of the first panel per row."""
    columns = grid.shape[1]
    for number in range(count):
        if number + columns >= count:
            grid.flat[number].set_xlabel(x_label)
        if number % columns == 0:
            grid.flat[number].set_ylabel(y_label)


# --- labels --------------------------------------------------------------------------------------


def _add_legend(figure: Figure, styles: dict[str, dict[str, Any]], title: str | None) -> None:
    """Add a legend above all panels, with the figure's title above it."""
    handles = [Line2D([], [], label=name, **LINE, **style) for name, style in styles.items()]
    letters = max(map(len, styles)) + 8  # of a label, and room for its line
    columns = int(figure.get_figwidth() * 13 / letters)  # 13 letters per inch
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=min(max(columns, 1), len(handles)),
        frameon=False,
        handlelength=2.4,
        fontsize=9,
        title=title,
        title_fontsize=TITLE_SIZE,
    )


def _label_ends(
    axes: Axes, curves: Sequence[Curve], unit: float, styles: dict[str, dict], mixed: bool
) -> None:
    """Label each curve on the right of the panel, as close to its end as the others allow."""
    low, high = axes.get_ylim()
    heights = _spread_apart(
        [(curve.mean[-1] - low) / (high - low) for curve in curves],
        min(LABEL_HEIGHT, 1 / len(curves)),
    )
    for curve, height in zip(curves, heights):
        name = _name(curve, mixed)
        line: dict[str, Any] = {**LINE, **styles[name], "markevery": [1]}
        leader = {
            "arrowstyle": "-",
            "color": line["color"],
            "linewidth": 0.8,
            "shrinkA": 0,
            "shrinkB": 2,
        }
        axes.annotate(
            "",
            (curve.x[-1] / unit, curve.mean[-1]),
            (1.05, height),
            textcoords="axes fraction",
            annotation_clip=False,
            arrowprops=leader,
        )
        place: dict[str, Any] = {"transform": axes.transAxes}
        axes.plot([1.05, 1.075, 1.1], [height] * 3, clip_on=False, **place, **line)
        axes.text(1.115, height, name, verticalalignment="center_baseline", **place)


def _spread_apart(heights: ArrayLike, gap: float) -> np.ndarray:
    """Move heights in [0, 1] as little as possible, so that any two are at least gap apart.

    Returns float[n], in the same order; they stay in [0, 1] if there is room.
    [0.5, 0.5], 0.1 -> [0.45, 0.55].
    """
    heights = np.asarray(heights)
    order = np.argsort(heights, kind="stable")
    steps = gap * np.arange(len(order))
    lowest = isotonic_regression(heights[order] - steps).x
    moved = np.empty(len(order))
    moved[order] = np.clip(lowest, 0, max(0, 1 - steps[-1])) + steps
    return moved


def _caption(curves: Sequence[Curve], metric: Metric, window: float) -> str:
    """Say what lines and bands are."""
    least, most = min(curve.seeds for curve in curves), max(curve.seeds for curve in curves)
    if least > 1:
        over = f"{most} seeds" if least == most else f"{least} to {most} seeds"
    elif most > 1:
        over = f"up to {most} seeds or, for a single seed, over the episodes of an evaluation"
    else:
        over = "the episodes of an evaluation"
    if most == 1 and metric.kind == "training":
        text = "One seed."
    else:
        text = (
            f"Lines: mean over {over}. Bands: {CONFIDENCE:.0%} bootstrap confidence interval "
            "of the mean."
        )
    return text + (f" Each point is a mean over {compact(window)} steps." if window else "")
