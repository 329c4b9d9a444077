"""Play a game by hand: ``popgym-arcade-play NoisyCartPoleEasy``, or in a browser with ``--web``.

Keys: the arrows and space are the actions up, down, left, right and fire. R begins a new episode, P
swaps the view unless both are shown, H shows the rules, F11 fills the screen, Esc quits.
"""

import argparse
import functools
import random
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from popgym_arcade.commands.files import output_may_be_cut
from popgym_arcade.play import cabinet, record, rules, session
from popgym_arcade.registry import GAMES, REGISTRY, registered_name
from popgym_arcade.render import OBS_SIZES
from popgym_arcade.spaces import MAX_SEED, number_argument

__all__ = ["HOST", "PORT", "main", "parser"]

HOST: str = "127.0.0.1"
PORT: int = 8000

_INSTALL = 'pip install "popgym-arcade[human]"'
_CLOCKS = ", ".join(f"{fps:g} for {game}" for game, fps in session.CLOCKS.items())


def _listing() -> str:
    """All games, with their levels and a sentence about each."""
    lines = ["Pick an environment, e.g. popgym-arcade-play NavigatorEasy", ""]
    for game, (_, levels) in GAMES.items():
        lines += [f"{game}{'|'.join(levels)}", f"    {rules.introduction(game)[0]}"]
    return "\n".join([*lines, "", "popgym-arcade-play --help lists the options."])


def parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    options = argparse.ArgumentParser(
        prog="popgym-arcade-play",
        description="Play a game by hand. Without NAME, list the games.",
        epilog="Keys: arrows and space play, R begins a new episode, P swaps the view, "
        "H shows the rules, F11 fills the screen, Esc quits. With --both there is no P.",
    )
    options.add_argument(
        "name", nargs="?", metavar="NAME", help="an environment, e.g. NavigatorEasy"
    )
    options.add_argument("-p", "--partial", action="store_true", help="start with the POMDP")
    options.add_argument("--both", action="store_true", help="show both twins side by side")
    options.add_argument(
        "-o",
        "--obs-size",
        type=int,
        choices=OBS_SIZES,
        default=session.OBS_SIZE,
        help="frame size in pixels (default: %(default)s)",
    )
    options.add_argument(
        "--seed",
        type=number_argument(0, MAX_SEED),
        metavar="N",
        help="random seed (default: a random one, which is printed)",
    )
    options.add_argument(
        "--fps",
        type=number_argument(0, session.MAX_FPS, float),
        metavar="N",
        help=f"steps per second; 0: step when a key is pressed (default: {_CLOCKS}, otherwise 0)",
    )
    options.add_argument(
        "--scale",
        type=number_argument(1, session.MAX_SCALE),
        metavar="N",
        help="screen pixels per frame pixel, at first (default: what fits the screen)",
    )
    options.add_argument("--record", metavar="OUT.gif", help="save the frames shown as a GIF")
    options.add_argument(
        "--web", action="store_true", help="serve a web page on which all games can be played"
    )
    options.add_argument(
        "--host",
        default=HOST,
        help="with --web: the address to listen on (default: %(default)s, this machine only)",
    )
    options.add_argument(
        "--port",
        type=number_argument(0, 65535),
        default=PORT,
        help="with --web: the port to listen on, or 0 for any free one (default: %(default)s)",
    )
    return options


def _check(options: argparse.Namespace) -> None:
    """Check the options and replace the name by the registered one.

    Raises ValueError or OSError if there is no such environment or folder, or if options conflict.
    """
    if options.name is not None:
        options.name = registered_name(options.name)
    if options.record and options.web:
        raise ValueError("--record needs a window; with --web, use the page's Save GIF button")
    if options.record:
        record.check_path(options.record, (".gif",))


@output_may_be_cut()
def main(arguments: Sequence[str] | None = None) -> None:
    """Play from the command line.

    Bad input exits with 2, and a missing library, display or port with 1. If the output is cut off,
    as by ``| head``, it exits with 141.
    """
    command = parser()
    options = command.parse_args(arguments)
    try:
        _check(options)
    except (ValueError, OSError) as error:
        command.error(str(error))
    if options.web:
        _serve(options)
    elif options.name is None:
        print(_listing())
    else:
        _play_in_window(options)


def _exit_without_library(error: ModuleNotFoundError) -> NoReturn:
    """End the program because a library is missing."""
    sys.exit(f"popgym-arcade-play needs {error.name}, which is not installed: {_INSTALL}")


def _serve(options: argparse.Namespace) -> None:
    """Serve the web page until Ctrl-C."""
    try:
        from popgym_arcade.play import web
    except ModuleNotFoundError as error:
        _exit_without_library(error)
    web.run(options)


def _play_in_window(options: argparse.Namespace) -> None:
    """Compile the environment, open a window and play until it is closed."""
    try:
        from popgym_arcade.play import window
    except ModuleNotFoundError as error:
        _exit_without_library(error)
    with window.display():
        seed = random.randrange(MAX_SEED + 1) if options.seed is None else options.seed
        print(f"{options.name}, rule version {REGISTRY[options.name].version}, seed {seed}")
        frame = np.zeros((options.obs_size, options.obs_size, 3), np.uint8)
        blank = cabinet.side_by_side([frame] * (2 if options.both else 1))
        window.open_window(options.name, blank, options.scale)
        print("compiling ...", end=" ", flush=True)
        start = time.perf_counter()
        build = functools.partial(cabinet.build, options.name, options.obs_size)
        machine = window.wait_for(build, f"compiling {options.name}")
        print(f"done in {time.perf_counter() - start:.1f} s")
        game = session.Session(
            machine,
            seed=seed,
            fps=options.fps,
            partial_obs=options.partial,
            both=options.both,
            keep_all=options.record is not None,
        )
        window.run(game, gif_path=options.record)


if __name__ == "__main__":
    main()
