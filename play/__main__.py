"""Play the games by hand: ``popgym-arcade-play NoisyCartPoleEasy``, or with ``--web`` in a browser.

Keys: the arrows and space are the actions up, down, left, right and fire. R begins a new episode, P
changes to the twin's view, H shows the rules, Esc leaves.
"""

import argparse
import random
import sys
import time

from popgym_arcade.play import cabinet, record, session
from popgym_arcade.play.rules import rules_of
from popgym_arcade.registry import GAMES, REGISTRY, registered_name
from popgym_arcade.render import OBS_SIZES
from popgym_arcade.spaces import number_argument

INSTALL = 'pip install "popgym-arcade[human]"'
HOST, PORT = "127.0.0.1", 8000


def listing():
    """All games, with their levels and what one does in them: a str."""
    lines = ["Play one of these, e.g.: popgym-arcade-play NavigatorEasy", ""]
    for game, (module, levels) in GAMES.items():
        aim = " ".join(rules_of(module).lead[0].split())
        lines += [f"{game}{'|'.join(levels)}", f"    {aim}"]
    return "\n".join([*lines, "", "popgym-arcade-play --help lists the options."])


def parser():
    """The command line's parser."""
    options = argparse.ArgumentParser(
        prog="popgym-arcade-play",
        description="Play a game by hand. Without a name, list the games.",
        epilog="Keys: arrows and space play, R begins a new episode, P changes the view, H shows the rules, Esc leaves.",
    )
    options.add_argument(
        "name", nargs="?", metavar="NAME", help="an environment, e.g. NavigatorEasy"
    )
    options.add_argument("-p", "--partial", action="store_true", help="begin with the POMDP's view")
    options.add_argument("--both", action="store_true", help="show both views side by side")
    options.add_argument(
        "-o",
        "--obs-size",
        type=int,
        choices=OBS_SIZES,
        default=OBS_SIZES[0],
        help="pixels a side of a frame (default 128)",
    )
    options.add_argument(
        "--seed",
        type=number_argument(0, session.MAX_SEED),
        metavar="N",
        help="decides all chance (default: random, and printed)",
    )
    options.add_argument(
        "--fps",
        type=number_argument(0, session.MAX_FPS, float),
        metavar="N",
        help="steps a second, 0 to step on a key (default: "
        + ", ".join(f"{game} {fps}" for game, fps in session.CLOCKS.items())
        + ", others 0)",
    )
    options.add_argument(
        "--scale",
        type=number_argument(1, 32),
        metavar="N",
        help="screen pixels a side of a frame's pixel (default: what fits)",
    )
    options.add_argument("--record", metavar="OUT.gif", help="write what was played to this file")
    options.add_argument(
        "--web", action="store_true", help="serve a web page to play on, with all games"
    )
    options.add_argument(
        "--host",
        default=HOST,
        help=f"with --web: the address to listen on (default {HOST}: this machine only)",
    )
    options.add_argument(
        "--port",
        type=number_argument(0, 65535),
        default=PORT,
        help=f"with --web (default {PORT}; 0: any free one)",
    )
    return options


def check(options):
    """Raise ValueError or OSError if options do not go together or name what is not there; give the
    name its true case."""
    if options.name is not None:
        options.name = registered_name(options.name)
    if options.record and options.web:
        raise ValueError(
            "--record goes with a window; with --web, use the page's button to save a GIF"
        )
    if options.record:
        record.check_path(options.record, (".gif",))


def main(arguments=None):
    """Play from the command line. Bad input exits with 2, and a lack of pygame, a display or a free
    port with 1."""
    command = parser()
    options = command.parse_args(arguments)
    try:
        check(options)
    except (ValueError, OSError) as error:
        command.error(str(error))
    if options.web:
        serve(options)
    elif options.name is None:
        print(listing())
    else:
        play_in_window(options)


def missing(error):
    """End the program because a library is missing."""
    sys.exit(f"popgym-arcade-play needs {error.name}, which is not installed: {INSTALL}")


def serve(options):
    """Serve the web page until Ctrl-C."""
    try:
        from popgym_arcade.play import web
    except ModuleNotFoundError as error:
        missing(error)
    web.run(options)


def play_in_window(options):
    """Compile the environment, open a window and play until it is closed."""
    try:
        from popgym_arcade.play import window
    except ModuleNotFoundError as error:
        missing(error)
    with window.display():
        seed = random.randrange(session.MAX_SEED + 1) if options.seed is None else options.seed
        print(f"{options.name}, rule version {REGISTRY[options.name].version}, seed {seed}")
        print("compiling ...", end=" ", flush=True)
        start = time.perf_counter()
        machine = cabinet.build(options.name, options.obs_size)
        print(f"done in {time.perf_counter() - start:.1f} s")
        views = dict(partial_obs=options.partial, both=options.both)
        game = session.Session(
            machine, seed=seed, fps=options.fps, keep_all=options.record is not None, **views
        )
        window.run(game, scale=options.scale, recording=options.record)


if __name__ == "__main__":
    main()
