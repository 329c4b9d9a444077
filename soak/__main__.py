"""The soak: millions of steps under the rules' invariants, ``python -m popgym_arcade.soak``.

Every environment is stepped in one jitted loop by the auto-resetting step that a user gets from
``make``. All checks run in that loop, on the device; it returns counts and, for each check, the
first step that broke it. The batch is shared by the players in players.py: random, expert, worst
and adversarial ones, some with integers that are not actions or with step limits cut short.

Checked on every step are the flags, the reward, the return so far, time and score, the reset, and
the game's own invariants (invariants.py): value ranges, numbers of pieces, what may change and what
may not. A step is taken once, by the MDP's functions, and counted once. On every
``--check-frames-every``-th step of an environment, the POMDP's functions must take the same step,
and every pixel of both twins' frames must have a legal color (colors.py). The frames alternate
between the states before and after the auto-reset.

A violation is printed with the command that repeats it, and makes the exit code 1.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from popgym_arcade.bench import machine, progress
from popgym_arcade.commands.files import end_command, file_argument, output_may_be_cut, write_files
from popgym_arcade.registry import add_games_option, matching_names
from popgym_arcade.render import OBS_SIZES
from popgym_arcade.soak import loop, report
from popgym_arcade.soak.loop import Options
from popgym_arcade.soak.players import SHARES
from popgym_arcade.spaces import number_argument

__all__ = ["main", "parse", "soak"]


def parse(arguments: list[str]) -> tuple[Options, Path | None]:
    """Parse the command line: (Options, where to write the JSON report)."""
    default = Options(())
    parser = argparse.ArgumentParser(
        prog="python -m popgym_arcade.soak",
        description="Step every environment many times and check its invariants on each step.",
    )
    add_games_option(parser)
    parser.add_argument(
        "--steps",
        type=number_argument(1),
        default=default.steps,
        help="steps of each environment (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=number_argument(-(2**31), 2**31 - 1),
        default=default.seed,
        help="random seed (default: %(default)s)",
    )
    parser.add_argument(
        "--num-envs",
        type=number_argument(SHARES),
        default=default.num_envs,
        help=f"batch size, at least {SHARES} so that every player has an environment "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--obs-size",
        type=int,
        choices=OBS_SIZES,
        default=default.obs_size,
        help="width and height of a frame in pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--check-frames-every",
        type=number_argument(1),
        default=default.check_frames_every,
        metavar="N",
        help="check the frames of every Nth step of an environment (default: %(default)s)",
    )
    parser.add_argument(
        "--json", metavar="PATH", type=file_argument, help="also write the report here"
    )
    parsed = vars(parser.parse_args(arguments))
    games, path = parsed.pop("games"), parsed.pop("json")
    try:
        names = matching_names(games)
    except ValueError as error:
        parser.error(str(error))
    return Options(tuple(names), **parsed), path


def soak(arguments: list[str]) -> dict[str, Any]:
    """Run the soak with these command-line arguments and print what it covered.

    Returns the report that ``--json`` writes.
    """
    options, path = parse(arguments)
    hardware, rows = machine(options.num_envs, options.obs_size), []
    described = {**hardware, "seed": options.seed}
    print(", ".join(f"{key} {value}" for key, value in described.items()), flush=True)
    print(report.header_text(), flush=True)
    for name in options.names:
        rows.append(_soak_one(name, options))
        print(report.row_text(rows[-1]), flush=True)
        for violation in rows[-1]["violations"]:
            print(report.violation_text(violation), flush=True)
    violations = sum((row["violations"] for row in rows), [])
    print(report.total_text(rows), f"violations: {len(violations)}", sep="\n")
    result = {"machine": hardware, "rows": rows, "violations": violations}
    if path:
        try:
            write_files({path: json.dumps(result, indent=2).encode()})
        except OSError as error:
            end_command("python -m popgym_arcade.soak", error)
    return result


def _soak_one(name, options):
    """Soak one environment: report.report_on's dict."""
    before = options.names.index(name) * options.rounds

    def show(rounds, what=name):
        progress(before + rounds, len(options.names) * options.rounds, what)

    show(0, f"{name}, compiling")
    prepared = loop.prepare(name, options)
    return report.report_on(prepared, *loop.play(prepared, options, show), options)


@output_may_be_cut()
def main() -> None:
    """Run the soak from the command line."""
    sys.exit(1 if soak(sys.argv[1:])["violations"] else 0)


if __name__ == "__main__":
    main()
