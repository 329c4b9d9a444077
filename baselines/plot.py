"""The command ``popgym-arcade-plot RUN...``, which draws learning curves and prints a table.

A run is a folder that ``popgym-arcade-train`` wrote. Runs that differ only in the seed are the
seeds of one curve: the mean over seeds, with a 95% bootstrap confidence interval as its band. The
interval of a single seed is over the episodes of each evaluation. There is one panel per
environment and twin that agents were evaluated on.

In Python, ``read_run`` reads a run, ``collect`` turns runs into curves, ``draw`` draws curves, and
``table`` makes the table.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

try:
    from popgym_arcade.baselines.curves import (
        NAMED_METRICS,
        TWIN_CHOICES,
        X_CHOICES,
        Curve,
        Metric,
        collect,
        find_metric,
    )
    from popgym_arcade.baselines.figure import COLORS, FAINT, INK, STYLE, draw, save_figure
    from popgym_arcade.baselines.table import table, table_of
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f'popgym-arcade-plot needs {missing.name}: pip install "popgym-arcade[baselines]"',
        name=missing.name,
    ) from missing

from popgym_arcade.baselines.runs import LoggedRun, read_run, warn
from popgym_arcade.commands.files import end_command, file_argument, output_may_be_cut
from popgym_arcade.spaces import number_argument

__all__ = [
    "COLORS",
    "FAINT",
    "INK",
    "NAMED_METRICS",
    "STYLE",
    "Curve",
    "LoggedRun",
    "Metric",
    "collect",
    "draw",
    "find_metric",
    "main",
    "read_run",
    "save_figure",
    "table",
    "table_of",
]

MAX_WINDOW = 1e12  # steps; more than any run has


@output_may_be_cut()
def main(arguments: Sequence[str] | None = None) -> None:
    """Draw learning curves from the command line.

    Invalid input exits with 2, and a file that cannot be read or written with 1.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        runs = [read_run(path) for path in dict.fromkeys(map(Path, options.runs))]
        metric = find_metric(options.metric, runs)
        curves = collect(runs, metric, options.x, options.twin, options.smooth, options.ignore)
        print(f"drawing {len(curves)} curves of {len(runs)} runs ...", file=sys.stderr, flush=True)
        figure = draw(curves, metric, options.x, options.smooth, options.title, options.fit)
        paths = save_figure(figure, options.out, options.force)
    except (ValueError, OSError) as error:
        end_command(parser.prog, error)
    if (metric, options.x) != (NAMED_METRICS["return"], "steps"):
        curves = _return_curves(runs, options)
    if curves:
        print(table(curves) + "\n")
    print(f"wrote {paths[0]} and {paths[1]}")


def _return_curves(runs: list[LoggedRun], options: argparse.Namespace) -> list[Curve]:
    """The curves of evaluation returns, for the table; none if there are no evaluations yet."""
    try:
        return collect(runs, NAMED_METRICS["return"], "steps", options.twin, 0, options.ignore)
    except ValueError as error:
        warn(f"no table: {error}")
        return []


def _figure_name(text: str) -> Path:
    """The path of the figure's files without suffix; its folder must exist."""
    path = Path(text)
    name = path.stem if path.suffix.lower() in (".png", ".pdf") else path.name
    return file_argument(str(path.parent / f"{name}.png")).with_suffix("")


def _parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    parser = argparse.ArgumentParser(
        prog="popgym-arcade-plot", description="Draw learning curves of runs and print a table."
    )
    add = parser.add_argument
    add(
        "runs",
        nargs="+",
        metavar="RUN",
        help="folders of runs; runs that differ only in the seed share a curve",
    )
    add(
        "--metric",
        default="return",
        help=f"{', '.join(NAMED_METRICS)}, or a field of metrics.jsonl, e.g. loss "
        "(default: %(default)s)",
    )
    add("--x", choices=X_CHOICES, default="steps", help="the x axis (default: %(default)s)")
    add(
        "--twin",
        choices=TWIN_CHOICES,
        default="trained",
        help="use evaluations on the twin that the agent was trained on, the other one, or both "
        "(default: %(default)s)",
    )
    add(
        "--smooth",
        type=number_argument(0, MAX_WINDOW, float),
        default=0,
        metavar="STEPS",
        help="width of a moving average over a training metric (default: no smoothing)",
    )
    add(
        "--fit",
        action="store_true",
        help="fit the y axis to the curves, not to the game's range of returns",
    )
    add(
        "--ignore",
        action="append",
        default=[],
        metavar="FIELD",
        help="treat runs that differ in this config field as seeds of one curve; may be repeated",
    )
    add(
        "--out",
        type=_figure_name,
        default="learning-curves",
        metavar="NAME",
        help="write NAME.png and NAME.pdf (default: %(default)s)",
    )
    add("--force", action="store_true", help="overwrite files with other content")
    add("--title", help="title of the figure")
    return parser


if __name__ == "__main__":
    main()
