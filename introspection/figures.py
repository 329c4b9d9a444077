"""Figures of what an agent remembers. They need no display, and LaTeX only with use_latex=True.

Every function returns a ``matplotlib.figure.Figure``, which a notebook displays and ``save`` writes
to files.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from os import PathLike
from os.path import splitext
from pathlib import Path
from typing import Any

import numpy as np

from popgym_arcade import spaces
from popgym_arcade.commands.files import write_files
from popgym_arcade.registry import twin_name

try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm, Normalize, PowerNorm
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.ticker import MaxNLocator

    from popgym_arcade.baselines.figure import COLORS, FAINT, INK, STYLE, picture
    from popgym_arcade.baselines.statistics import CONFIDENCE, interval
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"popgym_arcade.introspection.figures needs {missing.name}: "
        'pip install "popgym-arcade[baselines]"',
        name=missing.name,
    ) from missing

from popgym_arcade.introspection.episode import ACTION_NAMES, Trajectory, environment_config
from popgym_arcade.introspection.measures import (
    Contamination,
    Estimate,
    RecallDensity,
    ReturnDifference,
)
from popgym_arcade.introspection.saliency import SaliencyMaps

__all__ = [
    "MODES",
    "contents_of",
    "draw_contamination",
    "draw_differences",
    "draw_recall",
    "draw_values",
    "save",
    "vis_fn",
]

MODES: dict[str, int] = {"line": 8, "grid": 40}
"""The modes of ``vis_fn``, each with the maximum number of frames it shows."""

COLUMNS = 8
COLORMAP = "inferno"
BRIGHTEST = 99.5  # percentile of pixels at full brightness, so that one outlier does not dim a map
DARKEST = 1000  # the common, logarithmic scale spans this factor; anything darker is black
DOTS_PER_INCH = 150
MAX_AGE_GROUPS = 25  # points of a contamination curve
RELATIVE_TIME = r"relative time $\tau$: 0 is the episode's start, 1 the decision"
RETURN_KINDS = ReturnDifference._fields


def save(
    figure: Figure, path: str | PathLike[str], suffixes: Sequence[str] = (".png", ".pdf")
) -> list[Path]:
    """Write a figure to one file per suffix and return their Paths. path: without a suffix."""
    contents = contents_of(figure, path, suffixes)
    write_files(contents)
    return list(contents)


def contents_of(
    figure: Figure, path: str | PathLike[str], suffixes: Sequence[str] = (".png", ".pdf")
) -> dict[Path, bytes]:
    """What ``save`` writes: path -> content."""
    # no creation date, so that the same figure gives the same bytes
    metadata = {".pdf": {"CreationDate": None}}
    return {
        Path(f"{path}{suffix}"): picture(figure, suffix[1:], metadata=metadata.get(suffix))
        for suffix in suffixes
    }


def _style(use_latex: bool) -> AbstractContextManager[None]:
    """The project's figure style as a context, with all text set by LaTeX if asked for."""
    style: dict[Any, Any] = {**STYLE, "text.usetex": bool(use_latex)}
    return matplotlib.rc_context(style)


def _new_figure(width: float, height: float) -> Figure:
    """An empty Figure with automatic layout, which needs no display. width, height: inches."""
    figure = Figure((width, height), layout="constrained", dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    return figure


def _percent(share: float, use_latex: bool = False) -> str:
    """A share as text: 0.1234 -> "12 %", 0.00123 -> "0.12 %", 0 -> "0"."""
    if share == 0:
        return "0"
    sign = r"\%" if use_latex else "%"
    return f"{100 * share:.2g} {sign}" if share < 0.995 else f"{100 * share:.0f} {sign}"


# --- saliency ------------------------------------------------------------------------------------


def vis_fn(
    grads: SaliencyMaps | np.ndarray,
    obs_seq: np.ndarray,
    config: Mapping[str, Any],
    mode: str = "line",
    use_latex: bool = False,
    *,
    decision: int = -1,
    path: str | PathLike[str] | None = None,
    each: bool = False,
) -> Figure:
    """Draw an agent's frames, each above its saliency map.

    grads: what ``get_saliency_maps`` returns, of which one decision is drawn, or one decision's
    maps, float[n, S, S, 3]. obs_seq: the frames, uint8[T, S, S, 3], T >= n. config: a dict with
    ENV_NAME and PARTIAL, for the title. mode: "line" for a row of up to 8 frames, "grid" for up to
    40; longer sequences are subsampled evenly, keeping the first and the last frame. use_latex: set
    all text with LaTeX, which must be installed. decision: its number, from 0; -1 is the last.
    path: also write the figure there, in the format of its suffix, such as .png or .pdf. each:
    scale every map by itself instead of all on a common scale.

    A map is |gradient| summed over colors. Full brightness is at the 99.5th percentile of pixels of
    the brightest map. The common scale is logarithmic down to a thousandth of that; with ``each``
    it is a square root down to 0. Below each map is its share of the decision's total. Raises
    ValueError for an unknown mode and for fewer frames than maps.
    """
    spaces.check_name("mode", mode, MODES)
    maps = np.asarray(grads[decision] if isinstance(grads, SaliencyMaps) else grads)
    if maps.ndim != 4 or len(obs_seq) < len(maps):
        raise ValueError(
            "the maps must be float[n, S, S, 3] with a frame for each, "
            f"but the shapes are {maps.shape} for maps and {np.shape(obs_seq)} for frames"
        )
    with _style(use_latex):
        figure = _saliency(maps, obs_seq, config, mode, each, use_latex)
    if path is not None:
        stem, suffix = splitext(path)
        save(figure, stem, [suffix or ".png"])
    return figure


def _saliency(maps, frames, config, mode, each, use_latex) -> Figure:
    """Draw one decision's maps as ``vis_fn`` describes."""
    magnitudes = np.abs(maps).sum(axis=-1)
    shares = magnitudes.sum((1, 2)) / (magnitudes.sum() or 1)
    norms = _norms(magnitudes, each)
    shown = spaces.evenly_spaced(len(maps), MODES[mode])
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = _new_figure(1.45 * columns + 1.1, 3.15 * rows + 0.3)
    figure.set_layout_engine("constrained", w_pad=0.03, h_pad=0.03, hspace=0.02, wspace=0.02)
    axes = figure.subplots(2 * rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    image = None
    for place, n in enumerate(shown):
        above, below = (axes[2 * (place // columns) + row, place % columns] for row in (0, 1))
        _draw_frame(above, frames[n], f"frame {n}, now" if n == len(maps) - 1 else f"frame {n}")
        image = _draw_map(below, magnitudes[n], norms[n], _percent(shares[n], use_latex))
    title = _saliency_title(config, len(maps) - 1, _percent(1 - shares[-1], use_latex))
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    if not each and image is not None:
        label = "absolute gradient, summed over colors"
        figure.colorbar(image, ax=axes, label=label, fraction=0.03, aspect=30, extend="both")
    return figure


def _norms(magnitudes, each) -> list[Normalize]:
    """The color scale of each map, float[n, S, S]."""
    brightest = np.array([np.percentile(one, BRIGHTEST) or one.max() or 1 for one in magnitudes])
    if each:
        return [PowerNorm(0.5, 0, of_map, clip=True) for of_map in brightest]
    most = brightest.max(where=magnitudes.any((1, 2)), initial=0) or 1
    return [LogNorm(most / DARKEST, most, clip=True)] * len(magnitudes)


def _draw_frame(axis: Axes, frame, title) -> None:
    """Draw a frame."""
    axis.imshow(frame, interpolation="nearest")
    axis.set_title(title, fontsize=8.5, pad=3)


def _draw_map(axis: Axes, magnitudes, norm, label) -> AxesImage:
    """Draw a map with a label below, and return its image."""
    image = axis.imshow(
        np.maximum(magnitudes, norm.vmin), cmap=COLORMAP, norm=norm, interpolation="nearest"
    )
    place = {"transform": axis.transAxes, "ha": "center", "va": "top"}
    axis.text(0.5, -0.04, label, fontsize=8.5, color=INK, **place)
    return image


def _saliency_title(config, decision, past) -> str:
    """The title of ``vis_fn``. past: the share of the gradient on past frames, as text."""
    environment = environment_config(config)
    memory = config.get("MEMORY_TYPE", config.get("memory"))
    parts = [environment.name, twin_name(environment.partial_obs)]
    parts += [f"memory {memory}"] if memory else []
    return f"{', '.join(parts)}: saliency of decision {decision}; {past} of it in the past"


# --- values --------------------------------------------------------------------------------------


def draw_values(trajectory: Trajectory, *, use_latex: bool = False) -> Figure:
    """Draw the predicted returns, chosen actions and rewards of a Trajectory."""
    with _style(use_latex):
        figure = _new_figure(8, 4.2)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        (_plot_action_values if trajectory.probabilities is None else _plot_state_value)(
            above, trajectory
        )
        above.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        steps = len(trajectory.actions)
        colors = np.where(trajectory.rewards < 0, COLORS[1], COLORS[2])
        below.bar(np.arange(steps), trajectory.rewards, width=0.8, color=colors)
        below.axhline(0, color=FAINT, linewidth=0.8)
        below.set(xlabel="decision", ylabel="reward", xlim=(-0.6, steps - 0.4))
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
        above.set_title(
            f"Predicted returns; actual return {trajectory.rewards.sum():.3f} in {steps} decisions"
        )
    return figure


def _plot_action_values(axis: Axes, trajectory: Trajectory) -> None:
    """Plot the value of each action, and mark the chosen ones."""
    for action, name in enumerate(ACTION_NAMES):
        axis.plot(trajectory.values[:, action], color=COLORS[action], label=name, linewidth=1.3)
    chosen = np.take_along_axis(trajectory.values, trajectory.actions[:, None], axis=1)[:, 0]
    marker = {"markersize": 3, "markerfacecolor": "none", "markeredgewidth": 0.8}
    axis.plot(chosen, "o", color=INK, label="chosen", **marker)
    axis.set_ylabel("action value (return)")


def _plot_state_value(axis: Axes, trajectory: Trajectory) -> None:
    """Plot the value of the state."""
    axis.plot(trajectory.values[:, 0], color=COLORS[0], label="state value", linewidth=1.3)
    axis.set_ylabel("state value (return)")


# --- measures ------------------------------------------------------------------------------------


def draw_recall(
    recall: RecallDensity | Mapping[str, RecallDensity],
    title: str = "How far back the agent looks",
    *,
    use_latex: bool = False,
) -> Figure:
    """Draw a RecallDensity with its interval and the density of equal weights.

    recall: a RecallDensity, or a dict by name to draw several on the same axes.
    """
    recalls = {"the agent": recall} if isinstance(recall, RecallDensity) else recall
    with _style(use_latex):
        figure = _new_figure(7, 4)
        axis = figure.subplots()
        for (name, one), color in zip(recalls.items(), COLORS):
            past = _percent(one.past.value, use_latex)
            _plot_density(axis, one, color, f"{name}: {past} in the past")
        one = next(iter(recalls.values()))
        dashes = {"color": FAINT, "linewidth": 1.2, "linestyle": (0, (4, 3))}
        axis.stairs(one.even, one.edges, baseline=None, label="all frames equal", **dashes)
        axis.set_yscale("symlog", linthresh=0.1)
        axis.set_ylim(0, None)
        axis.set_yticks([0, 0.1, 1, 10], ["0", "0.1", "1", "10"])
        axis.set(xlim=(0, 1), xlabel=RELATIVE_TIME, ylabel="recall density", title=title)
        axis.legend(loc="upper left", frameon=False)
    return figure


def _plot_density(axis: Axes, recall: RecallDensity, color, label) -> None:
    """Plot a density and the band of its interval."""
    axis.stairs(
        recall.density, recall.edges, baseline=None, color=color, linewidth=1.8, label=label
    )
    low, high = (np.append(side, side[-1]) for side in (recall.low, recall.high))
    axis.fill_between(recall.edges, low, high, step="post", color=color, alpha=0.2, lw=0)


def draw_contamination(
    noise: Sequence[Contamination],
    shuffled: Sequence[Contamination],
    sigma: float,
    *,
    use_latex: bool = False,
) -> Figure:
    """Draw the effect of noise on one frame against its age, and that of a shuffled past.

    noise: what ``contamination`` found, one per episode. shuffled: the same of ``shuffled_past``.
    sigma: of the noise. Ages are grouped into at most 25 points, with age 0 by itself. The band is
    the interval over episodes, if there are several. The left axis is logarithmic above a
    thousandth of the largest change and linear below.
    """
    with _style(use_latex):
        figure = _new_figure(9, 3.8)
        left, right = figure.subplots(1, 2)
        label = rf"noise on one frame, $\sigma$ = {sigma:g}"
        bounds = _plot_by_age(left, "values", noise, shuffled, COLORS[0], label)
        left.set_title("mean absolute change of the values (return)")
        if bounds.max() > 0:
            left.set_yscale("symlog", linthresh=bounds.max() / 1000)
        left.set_ylim(0, None)
        left.legend(loc="upper right", frameon=False)
        _plot_by_age(right, "actions", noise, shuffled, COLORS[1], label)
        right.set_title("decisions that change")
        right.set_ylim(0, None)
        right.yaxis.set_major_formatter(lambda share, _: _percent(share, use_latex))
    return figure


def _plot_by_age(axis: Axes, measure, noise, shuffled, color, label) -> np.ndarray:
    """Plot a measure against age, and its control as a line: the interval's bounds float[n, 2]."""
    ages, curves = _grouped(_stacked([one.by_age(measure) for one in noise]))
    bounds = np.array([interval(column[~np.isnan(column)]) for column in curves.T])
    means = np.nanmean(curves, axis=0)
    axis.plot(ages, means, "o-", color=color, linewidth=1.6, markersize=3.5, label=label)
    axis.fill_between(ages, *bounds.T, color=color, alpha=0.2, linewidth=0)
    control = np.mean([np.mean(getattr(one, measure)) for one in shuffled])
    dashes = {"color": FAINT, "linewidth": 1.2, "linestyle": (0, (4, 3))}
    axis.axhline(float(control), label="past shuffled", **dashes)
    axis.set_xlabel("age of the frame in steps; 0 is the current frame")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return bounds


def _grouped(curves, most=MAX_AGE_GROUPS):
    """Average curves over ages 0, 1, ..., float[curves, ages], within groups of ages.

    Age 0 is a group by itself. Returns (mean ages float[n], curves float[curves, n]), without
    groups in which no curve has a value.
    """
    ages = np.arange(curves.shape[1])
    groups = np.where(ages == 0, 0, 1 + (ages - 1) // max(1, -(-(len(ages) - 1) // (most - 1))))
    kept = [group for group in np.unique(groups) if not np.isnan(curves[:, groups == group]).all()]
    means = [_row_means(curves[:, groups == group]) for group in kept]
    return np.array([ages[groups == group].mean() for group in kept]), np.stack(means, axis=1)


def _row_means(values):
    """The means of rows, ignoring NaN: float[rows, n] -> float[rows]; NaN where a row is all NaN.

    Unlike np.nanmean, it does not warn about such rows.
    """
    numbers = ~np.isnan(values)
    sums, counts = np.sum(values, axis=1, where=numbers), numbers.sum(axis=1)
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)


def _stacked(curves):
    """Stack curves of different lengths, padded with NaN: float[curves, longest]."""
    longest = max(map(len, curves))
    return np.stack(
        [np.pad(curve, (0, longest - len(curve)), constant_values=np.nan) for curve in curves]
    )


def draw_differences(
    differences: Mapping[str, ReturnDifference | Estimate], *, use_latex: bool = False
) -> Figure:
    """Draw observability gaps and memory biases with their intervals.

    differences: a dict by name; an Estimate is drawn as the final return.
    """
    with _style(use_latex):
        figure = _new_figure(7, 1.1 + 0.75 * len(differences))
        axis = figure.subplots()
        for row, found in enumerate(differences.values()):
            estimates = {"final": found} if isinstance(found, Estimate) else found._asdict()
            for kind, one in estimates.items():
                _plot_estimate(axis, row, kind, one)
        axis.axvline(0, color=FAINT, linewidth=0.8)
        axis.set_yticks(range(len(differences)), list(differences))
        confidence = _percent(CONFIDENCE, use_latex)
        axis.set(
            ylim=(len(differences) - 0.5, -0.5),
            xlabel=f"difference of returns, with its {confidence} interval",
        )
        axis.grid(True, axis="x")
        axis.grid(False, axis="y")
        axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, title="returns")
    return figure


def _plot_estimate(axis: Axes, row: int, kind: str, found: Estimate) -> None:
    """Plot an Estimate with its interval in a row, labeled in the first row only."""
    index = RETURN_KINDS.index(kind)
    error = [[max(0, found.value - found.low)], [max(0, found.high - found.value)]]
    axis.errorbar(
        found.value,
        row + 0.22 * (index - 1),
        xerr=error,
        fmt="o",
        color=COLORS[index],
        capsize=3,
        label=kind if row == 0 else None,
    )
