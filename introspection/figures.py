"""Pictures of what an agent remembers. They need no display, and no LaTeX unless it is asked for.

Every function returns a ``matplotlib.figure.Figure``, which a notebook shows and ``save`` writes to
files.
"""

from pathlib import Path

import numpy as np

try:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm, PowerNorm
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from popgym_arcade.baselines.plot import COLORS, FAINT, INK, STYLE
    from popgym_arcade.baselines.statistics import CONFIDENCE, interval
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f'pictures of an agent\'s memory need {missing.name}: pip install "popgym-arcade[baselines]"',
        name=missing.name,
    ) from missing

from popgym_arcade.introspection.episode import setting_of
from popgym_arcade.introspection.measures import spread
from popgym_arcade.introspection.saliency import SaliencyMaps
from popgym_arcade.spaces import nearest_names

ACTIONS = ("up", "down", "left", "right", "fire")
MODES = {"line": 8, "grid": 40}  # how many frames each mode shows at most
COLUMNS = 8
COLORMAP = "inferno"
BRIGHTEST = 99.5  # the percentile of a map's pixels that is drawn in the brightest colour, lest one pixel makes all others black
DARKEST = 1000  # what is less than the brightest by this factor is black; between them the scale is logarithmic
DOTS_PER_INCH = 150
RELATIVE_TIME = r"relative time $\tau$: 0 the episode's start, 1 the decision"


def styled(draw):
    """Give a function that draws a figure this project's style, and LaTeX if it is called with
    use_latex=True."""

    def drawing(*arguments, use_latex=False, **options):
        with matplotlib.rc_context({**STYLE, "text.usetex": bool(use_latex)}):
            return draw(*arguments, **options)

    drawing.__doc__, drawing.__name__, drawing.__wrapped__ = draw.__doc__, draw.__name__, draw
    return drawing


def new_figure(width, height):
    """An empty Figure, in inches, that lays itself out and needs no display."""
    figure = Figure((width, height), layout="constrained", dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    return figure


def save(figure, path, suffixes=(".png", ".pdf")):
    """Write a figure to files: the list of their Paths. path: without suffix."""
    paths = [Path(f"{path}{suffix}") for suffix in suffixes]
    for file in paths:
        # without dates, so that the same figure is the same file
        figure.savefig(file, metadata={"CreationDate": None} if file.suffix == ".pdf" else None)
    return paths


# --- saliency ------------------------------------------------------------------------------------


def vis_fn(
    grads, obs_seq, config, mode="line", use_latex=False, *, decision=-1, path=None, each=False
):
    """Draw an agent's frames above what it looks at in them: a Figure.

    grads: what ``get_saliency_maps`` returns, of which one decision is drawn, or one decision's
    maps, float[n, S, S, 3]. obs_seq: the frames, uint8[T, S, S, 3], T >= n. config: a dict with
    ENV_NAME and PARTIAL, for the title. mode: "line" for a row of up to 8 frames, "grid" for up to
    40; more are thinned out evenly, and the first and the last are kept. use_latex: set all text
    with LaTeX, which must be installed. decision: which one, from 0; -1 is the last. path: also
    write the figure there; its suffix, such as .png or .pdf, decides the kind of file. each: give
    every map a scale of its own, instead of one for all.

    A map is the sum over colours of |gradient|. The brightest colour is at the 99.5th percentile of
    the pixels of the brightest map. The scale for all is logarithmic and goes down to a thousandth
    of that; one of its own goes down to 0 by the square root. Below each map is its share of the
    sum of all of this decision. Raises ValueError for an unknown mode and for fewer frames than
    maps.
    """
    figure = _saliency(grads, obs_seq, config, mode, decision, each, use_latex=use_latex)
    if path is not None:
        figure.savefig(path)
    return figure


@styled
def _saliency(grads, frames, config, mode, decision, each):
    """As vis_fn."""
    if mode not in MODES:
        raise ValueError(f"there is no mode {mode!r}; {nearest_names(mode, MODES)}")
    maps = np.asarray(grads[decision] if isinstance(grads, SaliencyMaps) else grads)
    if maps.ndim != 4 or len(frames) < len(maps):
        raise ValueError(
            f"there must be a frame for each of the maps float[n, S, S, 3], but they are {maps.shape}, {np.shape(frames)}"
        )
    sizes = np.abs(maps).sum(axis=-1)
    norms = _norms(sizes, each)
    shown = spread(len(maps), MODES[mode])
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(1.45 * columns + 1.1, 3.15 * rows + 0.3)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, hspace=0.02, wspace=0.02)
    axes = figure.subplots(2 * rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    picture = None
    for place, frame in enumerate(shown):
        above, below = (axes[2 * (place // columns) + row, place % columns] for row in (0, 1))
        picture = _frame_and_map(above, below, frames[frame], sizes, frame, norms[frame])
    _name_decision(figure, len(maps) - 1, config, sizes)
    if not each:
        label = "absolute gradient, summed over colours"
        figure.colorbar(picture, ax=axes, label=label, fraction=0.03, aspect=30, extend="both")
    return figure


def _norms(sizes, each):
    """From the size of a pixel's gradient to a colour: a norm for each of the maps float[n, S,
    S]."""
    brightest = np.array([np.percentile(one, BRIGHTEST) or one.max() or 1 for one in sizes])
    if each:
        return [PowerNorm(0.5, 0, of_map, clip=True) for of_map in brightest]
    most = brightest.max(where=sizes.any((1, 2)), initial=0) or 1
    return [LogNorm(most / DARKEST, most, clip=True)] * len(sizes)


def _frame_and_map(above, below, frame, sizes, number, norm):
    """Draw a frame and below it its map; the map's image is returned."""
    above.imshow(frame, interpolation="nearest")
    above.set_title(
        f"frame {number}" if number < len(sizes) - 1 else f"frame {number}, now",
        fontsize=8.5,
        pad=3,
    )
    picture = below.imshow(
        np.maximum(sizes[number], norm.vmin), cmap=COLORMAP, norm=norm, interpolation="nearest"
    )
    share = sizes[number].sum() / (sizes.sum() or 1)
    below.text(
        0.5,
        -0.04,
        percent(share),
        transform=below.transAxes,
        ha="center",
        va="top",
        fontsize=8.5,
        color=INK,
    )
    return picture


def _name_decision(figure, decision, config, sizes):
    """Write the title."""
    setting = setting_of(config)
    memory = config.get("MEMORY_TYPE", config.get("memory"))
    parts = [
        setting.name,
        "POMDP" if setting.partial_obs else "MDP",
        *([f"memory {memory}"] if memory else []),
    ]
    past = 1 - sizes[-1].sum() / (sizes.sum() or 1)
    title = (
        f"{', '.join(parts)}: what decision {decision} looks at; {percent(past)} of it in the past"
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)


def percent(share, use_latex=None):
    """A share as text: 0.1234 -> "12 %", 0.00123 -> "0.12 %", 0 -> "0".

    use_latex: escape the % for LaTeX; by default if a figure is being drawn with it.
    """
    sign = (
        r"\%" if (matplotlib.rcParams["text.usetex"] if use_latex is None else use_latex) else "%"
    )
    return (
        "0"
        if share == 0
        else f"{100 * share:.2g} {sign}"
        if share < 0.995
        else f"{100 * share:.0f} {sign}"
    )


@styled
def draw_values(played):
    """Draw what an agent expects at each decision of an Episode, what it does, and what it is paid:
    a Figure."""
    figure = new_figure(8, 4.2)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    steps = np.arange(len(played.actions))
    if played.probabilities is None:
        for action, name in enumerate(ACTIONS):
            above.plot(
                steps, played.values[:, action], color=COLORS[action], label=name, linewidth=1.3
            )
        chosen = np.take_along_axis(played.values, played.actions[:, None], axis=1)[:, 0]
        above.plot(
            steps,
            chosen,
            "o",
            color=INK,
            markersize=3,
            markerfacecolor="none",
            markeredgewidth=0.8,
            label="chosen",
        )
        above.set_ylabel("action value (return)")
    else:
        above.plot(
            steps, played.values[:, 0], color=COLORS[0], label="value of the state", linewidth=1.3
        )
        above.set_ylabel("value (return)")
    above.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    colors = np.where(played.rewards < 0, COLORS[1], COLORS[2])
    below.bar(steps, played.rewards, width=0.8, color=colors)
    below.axhline(0, color=FAINT, linewidth=0.8)
    below.set(xlabel="decision", ylabel="reward", xlim=(-0.6, len(steps) - 0.4))
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    above.set_title(
        f"What the agent expects; return {played.rewards.sum():.3f} in {len(steps)} decisions"
    )
    return figure


# --- measures ------------------------------------------------------------------------------------


@styled
def draw_recall(recall, title="Where in its past the agent looks"):
    """Draw a RecallDensity with its interval and with even recall: a Figure. Several, as a dict by
    name, share the axes."""
    recalls = recall if isinstance(recall, dict) else {"the agent": recall}
    figure = new_figure(7, 4)
    axis = figure.subplots()
    for (name, one), color in zip(recalls.items(), COLORS):
        label = f"{name}: {percent(one.past.value)} in the past"
        axis.stairs(one.density, one.edges, baseline=None, color=color, linewidth=1.8, label=label)
        axis.fill_between(
            one.edges,
            *(np.append(side, side[-1]) for side in (one.low, one.high)),
            step="post",
            color=color,
            alpha=0.2,
            lw=0,
        )
    one = next(iter(recalls.values()))
    axis.stairs(
        one.even,
        one.edges,
        baseline=None,
        color=FAINT,
        linewidth=1.2,
        linestyle=(0, (4, 3)),
        label="all frames alike",
    )
    axis.set_yscale("symlog", linthresh=0.1)
    axis.set_ylim(0, None)
    axis.set_yticks([0, 0.1, 1, 10], ["0", "0.1", "1", "10"])
    axis.set(xlim=(0, 1), xlabel=RELATIVE_TIME, ylabel="recall density", title=title)
    axis.legend(loc="upper left", frameon=False)
    return figure


@styled
def draw_contamination(noise, shuffled, sigma):
    """Draw what noise on one frame does to later decisions, and what a shuffled past does: a
    Figure.

    noise: list of Contamination by ``contamination``, one of each episode. shuffled: the same by
    ``shuffled_past``. sigma: of the noise. Ages are grouped, so that there are at most 25 points,
    but 0 stays by itself. The band is the interval over episodes where there are several. The left
    axis is logarithmic, but for what is below a thousandth of the largest change.
    """
    figure = new_figure(9, 3.8)
    labels = {
        "values": "mean absolute change of the values (return)",
        "actions": "decisions that change",
    }
    for axis, (measure, label), color in zip(
        figure.subplots(1, 2), labels.items(), (COLORS[0], COLORS[1])
    ):
        ages, curves = _grouped(_together([one.by_age(measure) for one in noise]))
        bounds = np.array([interval(column[~np.isnan(column)]) for column in curves.T])
        name = rf"noise on one frame, $\sigma$ = {sigma:g}"
        means = np.nanmean(curves, axis=0)
        axis.plot(ages, means, "o-", color=color, linewidth=1.6, markersize=3.5, label=name)
        axis.fill_between(ages, *bounds.T, color=color, alpha=0.2, linewidth=0)
        control = np.mean([np.mean(getattr(one, measure)) for one in shuffled])
        axis.axhline(
            control,
            color=FAINT,
            linestyle=(0, (4, 3)),
            linewidth=1.2,
            label="all of the past shuffled",
        )
        axis.set(xlabel="age of the frame, in steps; 0 is the decision's own", title=label)
        if measure == "values" and bounds.max() > 0:
            axis.set_yscale("symlog", linthresh=bounds.max() / 1000)
        axis.set_ylim(0, None)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.axes[0].legend(loc="upper right", frameon=False)
    use_latex = matplotlib.rcParams["text.usetex"]  # now; ticks are written when the figure is
    figure.axes[1].yaxis.set_major_formatter(lambda share, _: percent(share, use_latex))
    return figure


def _grouped(curves, most=25):
    """Curves over ages 0, 1, ..., float[curves, ages], with ages from 1 on in groups: (mean ages
    float[n], float[curves, n]).

    Groups that no curve has a value in are left out.
    """
    ages = np.arange(curves.shape[1])
    groups = np.where(ages == 0, 0, 1 + (ages - 1) // max(1, -(-(len(ages) - 1) // (most - 1))))
    there = [group for group in np.unique(groups) if not np.isnan(curves[:, groups == group]).all()]
    means = [_mean_of_numbers(curves[:, groups == group]) for group in there]
    return np.array([ages[groups == group].mean() for group in there]), np.stack(means, axis=1)


def _mean_of_numbers(values):
    """The means of rows without their NaN; NaN where a row has nothing else: float[rows, n] ->
    float[rows]."""
    numbers = ~np.isnan(values)
    sums, counts = np.sum(values, axis=1, where=numbers), numbers.sum(axis=1)
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)


def _together(curves):
    """Curves of different lengths in one array, with NaN where they have ended: float[curves,
    longest]."""
    longest = max(map(len, curves))
    return np.stack(
        [np.pad(curve, (0, longest - len(curve)), constant_values=np.nan) for curve in curves]
    )


@styled
def draw_differences(differences):
    """Draw observability gap and memory bias: a Figure. differences: a dict, name -> Returns of
    Estimates, or an Estimate."""
    figure = new_figure(7, 1.1 + 0.75 * len(differences))
    axis = figure.subplots()
    kinds = ("mean", "final", "best")
    for row, estimates in enumerate(differences.values()):
        estimates = (
            estimates._asdict()
            if hasattr(estimates, "_asdict") and hasattr(estimates, "best")
            else {"final": estimates}
        )
        for kind, one in estimates.items():
            place, color = row + 0.22 * (kinds.index(kind) - 1), COLORS[kinds.index(kind)]
            error = [[max(0, one.value - one.low)], [max(0, one.high - one.value)]]
            axis.errorbar(
                one.value,
                place,
                xerr=error,
                fmt="o",
                color=color,
                capsize=3,
                label=kind if row == 0 else None,
            )
    axis.axvline(0, color=FAINT, linewidth=0.8)
    axis.set_yticks(range(len(differences)), list(differences))
    axis.set(
        ylim=(len(differences) - 0.5, -0.5),
        xlabel=f"difference of returns, with its {percent(CONFIDENCE)} interval",
    )
    axis.grid(True, axis="x")
    axis.grid(False, axis="y")
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, title="returns")
    return figure
