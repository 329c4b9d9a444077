"""The certificate that every POMDP needs memory: ``python -m popgym_arcade.memory``.

For each environment it plays the POMDP with four players and prints their mean returns: random
actions, the best policy found that knows only the present frame, recall, which remembers all frames
and its own actions, and the expert, which sees the whole state. An environment passes if memory is
worth enough: its headroom, (recall - memoryless) / (recall - random), must be at least 0.3.

Results are written after every environment. Those that the file already holds, of the same rules
and with as many episodes and iterations, are not computed again.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from popgym_arcade.bench import progress
from popgym_arcade.commands.files import end_command, file_argument, output_may_be_cut, write_files
from popgym_arcade.memory.certificate import REQUIRED_HEADROOM, STANDARD, Effort, certify
from popgym_arcade.registry import REGISTRY, add_games_option, matching_names
from popgym_arcade.spaces import MAX_SEED, number_argument

__all__ = ["main", "run"]

_QUICK = 10  # times as few iterations
_COLUMNS = ("random", "memoryless", "recall", "expert")


def _parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m popgym_arcade.memory",
        description="Measure how much memory is worth in each POMDP.",
    )
    add_games_option(parser)
    parser.add_argument(
        "--episodes",
        type=number_argument(2),
        default=STANDARD.episodes,
        metavar="N",
        help="episodes for each mean return (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=number_argument(0, MAX_SEED),
        default=STANDARD.seed,
        help="random seed (default: %(default)s)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"search with {_QUICK} times fewer iterations: a minute per environment or less",
    )
    parser.add_argument(
        "--json",
        type=file_argument,
        default=Path("memory.json"),
        metavar="PATH",
        help="file of the figures, those that it holds included (default: %(default)s)",
    )
    return parser


def run(arguments: list[str]) -> dict[str, dict[str, Any]]:
    """Run the command: the figures of the chosen environments, by name.

    arguments: as on the command line. Bad ones exit with 2.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        names = matching_names(options.games)
        figures = _read(options.json)
    except ValueError as error:
        parser.error(str(error))
    print(_row_text("environment", [*_COLUMNS, "headroom", "delay"]), flush=True)
    for number, name in enumerate(names):
        if not _is_done(name, figures.get(name), options):
            figures[name] = certify(
                name,
                _effort(options),
                lambda share, what, number=number, name=name: progress(
                    int(1000 * (number + share)), 1000 * len(names), f"{name}, {what}"
                ),
            )
            _write(options.json, figures)
        print(_figures_text(name, figures[name]), flush=True)
    return {name: figures[name] for name in names}


@output_may_be_cut()
def main() -> None:
    """Run the command line; the exit code is 1 if an environment lacks headroom."""
    figures = run(sys.argv[1:])
    lacking = [name for name, row in figures.items() if row["headroom"] < REQUIRED_HEADROOM]
    if lacking:
        print(f"headroom below {REQUIRED_HEADROOM}: {', '.join(lacking)}", file=sys.stderr)
    sys.exit(bool(lacking))


def _effort(options: argparse.Namespace) -> Effort:
    """How much work the options ask for."""
    effort = STANDARD._replace(episodes=options.episodes, seed=options.seed)
    if not options.quick:
        return effort
    return effort._replace(
        **{
            kind: settings._replace(iterations=settings.iterations // _QUICK)
            for kind, settings in (("table", effort.table), ("network", effort.network))
        },
        by_heart=effort.by_heart._replace(rounds=1, steps=effort.by_heart.steps // _QUICK),
        delays=effort.delays // 4,
    )


def _is_done(name: str, row: dict[str, Any] | None, options: argparse.Namespace) -> bool:
    """Whether these figures need not be computed again."""
    wanted = {
        "version": REGISTRY[name].version,
        "episodes": options.episodes,
        "iterations": _effort(options).table.iterations,
    }
    return row is not None and all(row.get(key) == value for key, value in wanted.items())


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """The figures in a file, if there is one. Raises ValueError if it is not the command's."""
    if not path.exists():
        return {}
    try:
        figures = json.loads(path.read_text())
    except json.JSONDecodeError:
        figures = None
    if not isinstance(figures, dict) or not figures.keys() <= REGISTRY.keys():
        raise ValueError(
            f"--json: {path} holds something else than this command's figures; name another file"
        )
    return figures


def _write(path: Path, figures: dict[str, dict[str, Any]]) -> None:
    """Write the figures in the registry's order; end the command if that fails."""
    ordered = {name: figures[name] for name in REGISTRY if name in figures}
    lines = (f"{json.dumps(name)}: {json.dumps(row)}" for name, row in ordered.items())
    try:
        write_files({path: ("{\n" + ",\n".join(lines) + "\n}\n").encode()})
    except OSError as error:
        end_command("python -m popgym_arcade.memory", error)


def _figures_text(name: str, row: dict[str, Any]) -> str:
    """The figures of one environment as a row of the table."""
    means = [f"{row[column][0]:.3f}" for column in _COLUMNS]
    delay = f"{row['delay_median']} ({row['delay_max']})"
    return _row_text(name, [*means, f"{row['headroom']:.2f}", delay]) + f"  {row['memoryless_by']}"


def _row_text(name: str, values: list[str]) -> str:
    """A row of the printed table, aligned."""
    return f"{name:<20}" + "".join(f"{value:>12}" for value in values)


if __name__ == "__main__":
    main()
