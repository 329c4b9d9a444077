"""Play the games by hand: ``popgym-arcade-play NoisyCartPoleEasy``, or with ``--web`` in a browser.

This file holds what a game in play is, a Session, and the command line. ``window.py`` shows a session in a window, ``web.py`` in a
web page; neither knows any rules.

Keys: the arrows and space are the actions up, down, left, right and fire. R begins a new episode, P changes to the twin's view, H
shows the rules, Esc leaves.
"""

import argparse
import collections
import random
import sys
import time

import jax

from popgym_arcade import cabinet, record, rulebook
from popgym_arcade.registry import GAMES, REGISTERED_ENVIRONMENTS, REGISTRY, nearest_names
from popgym_arcade.render import OBS_SIZES

INSTALL = 'pip install "popgym-arcade[human]"'
FIRE = 4
HOST, PORT = "127.0.0.1", 8000
MAX_FPS = 60
MAX_SEED = 2**31 - 1
RULE_SECTIONS = (
    "Actions",
    "Step",
    "Rewards",
    "Episode end",
    "Views",
    "Start",
    "Pieces",
    "Levels",
)  # what a player reads, in this order

CLOCKS = {"Breakout": 10, "CartPole": 12, "NoisyCartPole": 12, "Skittles": 4, "Tetris": 5}
"""The games that run on a clock, to their steps a second. The others step on a key."""


class Session:
    """A game in play: an episode, what is shown of it, and when its next step is due.

    Times are seconds of any clock that does not go backwards. An episode on a clock waits for its first key.
    """

    def __init__(self, machine, *, seed, partial_obs=False, both=False, fps=None, keep_all=False):
        """Begin the first episode.

        machine: a Cabinet. seed: an int, 0 ... MAX_SEED, which decides all episodes of the session. partial_obs: show the POMDP's
        view. both: show the twins side by side. fps: steps a second, 0 to step on a key; by default the game's own. keep_all: keep
        the pictures of all episodes, not only of the last.
        """
        self.machine, self.seed, self.partial_obs, self.both = machine, seed, partial_obs, both
        self.game, self.level = game_and_level(machine.name)
        self.fps = CLOCKS.get(self.game, 0) if fps is None else fps
        self.number = -1  # of the episode
        self.keep_all, self.pictures = keep_all, record.PackedFrames()
        self.restart()

    def restart(self):
        """Begin the next episode. The first one of a seed is always the same, and so is the second, ..."""
        self.number += 1
        self.episode = cabinet.begin(self.machine, jax.random.fold_in(jax.random.key(self.seed), self.number))
        self.due = None  # when the clock's next step is; None while no clock runs
        self.held, self.pressed = [], collections.deque(maxlen=2)  # actions whose keys are down; those to be played yet
        if not self.keep_all:
            self.pictures = record.PackedFrames()
        self.pictures.append(self.picture())

    def press(self, action, now, repeated=False):
        """A key for an action goes down: it is played at once, or with the clock's next step. Returns whether it was played.

        repeated: whether the key has been down for a while. Arrows repeat where steps wait for keys; fire, which may cost, never.
        """
        if self.episode.done or (repeated and (self.fps or action == FIRE)):
            return False
        if not self.fps:
            self.step(action)
            return True
        self.release(action)  # in case it never went up
        self.held.append(action)
        self.pressed.append(action)
        if self.due is None:
            self.due = now + 1 / self.fps
        return False

    def release(self, action):
        """A key for an action goes up."""
        self.held = [other for other in self.held if other != action]

    def tick(self, now):
        """Play the clock's next step if it is due: a key pressed since the last one, else one that is held, else nothing.

        Returns whether a step was played. Steps that were missed are not made up for.
        """
        if self.due is None or now < self.due:
            return False
        self.step(self.pressed.popleft() if self.pressed else self.held[-1] if self.held else cabinet.NOTHING)
        period = 1 / self.fps
        on_time = self.due + period
        self.due = None if self.episode.done else on_time if on_time > now else now + period
        return True

    def pause(self):
        """Stop the clock until the next key, and forget the keys that are down."""
        self.due = None
        self.held.clear()
        self.pressed.clear()

    def step(self, action):
        """Play one step."""
        self.episode = cabinet.advance(self.machine, self.episode, action)
        self.pictures.append(self.picture())

    def swap(self):
        """Show the twin's view from now on. Nothing else changes."""
        self.partial_obs = not self.partial_obs

    def picture(self):
        """What is shown now: uint8[S, width, 3], an observation, or both twins' side by side, the MDP's first."""
        views = (False, True) if self.both else (self.partial_obs,)
        return cabinet.side_by_side([cabinet.observe(self.machine, self.episode, partial_obs) for partial_obs in views])

    def recording_rate(self):
        """Frames a second of a recording of the session: those of its clock, as far as a GIF can have them."""
        low, high = record.RATES
        return min(max(self.fps, low), high) if self.fps else record.FRAMES_PER_SECOND

    def status(self):
        """What stands outside the frame: a dict of str to str."""
        limit = self.machine.params.max_steps_in_episode
        return {
            "game": self.game,
            "level": self.level,
            "view": "MDP and POMDP" if self.both else "POMDP" if self.partial_obs else "MDP",
            "return": f"{self.episode.episode_return:+.3f}",
            "step": f"{self.episode.time} of {limit}",
            "seed": str(self.seed),
            "episode": str(self.number + 1),
            "message": self.message(),
        }

    def message(self):
        """What the player should know now: a str, empty while there is nothing."""
        total = f"{self.episode.episode_return:.3f}"
        if self.episode.terminated:
            return f"The game is over. Return {total}. R: play again"
        if self.episode.truncated:
            return f"The time is up. Return {total}. R: play again"
        if self.fps and self.due is None:
            return "Paused. An arrow or space goes on" if self.episode.time else "An arrow or space starts the clock"
        return "" if self.fps or self.episode.time else "It moves when you press a key"


def game_and_level(name):
    """An environment's name taken apart: ("NoisyCartPole", "Easy")."""
    return next((game, name[len(game) :]) for game, (_, levels) in GAMES.items() if name in {game + level for level in levels})


def rules(name):
    """An environment's rules for a player: [(heading, [paragraph, ...]), ...], the aim first. name: of an environment."""
    game, _ = game_and_level(name)
    parsed = rulebook.parse(GAMES[game][0].__doc__)
    sections = [(heading, parsed.sections[heading]) for heading in RULE_SECTIONS if heading in parsed.sections]
    return [(game, parsed.lead), *((heading, [first[0].upper() + first[1:], *rest]) for heading, (first, *rest) in sections)]


def paragraph_parts(paragraph):
    """A paragraph of the rules taken apart: [("text", "item" or "drawing", str), ...]; only a drawing has several lines."""
    lines = paragraph.split("\n")
    if all(line.startswith("    ") for line in lines):
        return [("drawing", "\n".join(line[4:] for line in lines))]
    parts = []
    for line in lines:
        if parts and not rulebook.is_item(line):
            kind, text = parts.pop()
            parts.append((kind, f"{text} {line.strip()}"))
        else:
            parts.append(("item" if rulebook.is_item(line) else "text", line.strip()))
    return parts


def environment_name(text):
    """A registered name, written in upper or lower case. Raises ValueError with the nearest names if there is no such one."""
    by_lower_case = {name.lower(): name for name in REGISTERED_ENVIRONMENTS}
    if text.lower() not in by_lower_case:
        raise ValueError(f"there is no environment {text!r}; {nearest_names(text, REGISTERED_ENVIRONMENTS)}")
    return by_lower_case[text.lower()]


def listing():
    """All games, with their levels and what one does in them: a str."""
    lines = ["Play one of these, e.g.: popgym-arcade-play NavigatorEasy", ""]
    for game, (module, levels) in GAMES.items():
        aim = " ".join(rulebook.parse(module.__doc__).lead[0].split())
        lines += [f"{game}{'|'.join(levels)}", f"    {aim}"]
    return "\n".join([*lines, "", "popgym-arcade-play --help lists the options."])


# --- the command ------------------------------------------------------------------------------------------------------------


def number_between(low, high, type_=int):
    """A type for argparse: a number in low ... high."""

    def parse_number(text):
        value = type_(text)
        if not low <= value <= high:
            nearest = low if value < low else high
            raise argparse.ArgumentTypeError(f"must be in {low} ... {high}, but it is {text}; the nearest is {nearest}")
        return value

    parse_number.__name__ = type_.__name__
    return parse_number


def parser():
    """The command line's parser."""
    options = argparse.ArgumentParser(
        prog="popgym-arcade-play",
        description="Play a game by hand. Without a name, list the games.",
        epilog="Keys: arrows and space play, R begins a new episode, P changes the view, H shows the rules, Esc leaves.",
    )
    options.add_argument("name", nargs="?", metavar="NAME", help="an environment, e.g. NavigatorEasy")
    options.add_argument("-p", "--partial", action="store_true", help="begin with the POMDP's view")
    options.add_argument("--both", action="store_true", help="show both views side by side")
    options.add_argument(
        "-o", "--obs-size", type=int, choices=OBS_SIZES, default=OBS_SIZES[0], help="pixels a side of a frame (default 128)"
    )
    options.add_argument(
        "--seed", type=number_between(0, MAX_SEED), metavar="N", help="decides all chance (default: random, and printed)"
    )
    options.add_argument(
        "--fps",
        type=number_between(0, MAX_FPS, float),
        metavar="N",
        help="steps a second, 0 to step on a key (default: "
        + ", ".join(f"{game} {fps}" for game, fps in CLOCKS.items())
        + ", others 0)",
    )
    options.add_argument(
        "--scale", type=number_between(1, 32), metavar="N", help="screen pixels a side of a frame's pixel (default: what fits)"
    )
    options.add_argument("--record", metavar="OUT.gif", help="write what was played to this file")
    options.add_argument("--web", action="store_true", help="serve a web page to play on, with all games")
    options.add_argument("--host", default=HOST, help=f"with --web: the address to listen on (default {HOST}: this machine only)")
    options.add_argument(
        "--port", type=number_between(0, 65535), default=PORT, help=f"with --web (default {PORT}; 0: any free one)"
    )
    return options


def check(options):
    """Raise ValueError or OSError if options do not go together or name what is not there; give the name its true case."""
    if options.name is not None:
        options.name = environment_name(options.name)
    if options.record and options.web:
        raise ValueError("--record goes with a window; with --web, use the page's button to save a GIF")
    if options.record:
        record.check_path(options.record, (".gif",))


def main(arguments=None):
    """Play from the command line. Bad input exits with 2, and a lack of pygame, a display or a free port with 1."""
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
        from popgym_arcade import web
    except ModuleNotFoundError as error:
        missing(error)
    web.run(options)


def play_in_window(options):
    """Compile the environment, open a window and play until it is closed."""
    try:
        from popgym_arcade import window
    except ModuleNotFoundError as error:
        missing(error)
    with window.display():
        seed = random.randrange(MAX_SEED + 1) if options.seed is None else options.seed
        print(f"{options.name}, rule version {REGISTRY[options.name].version}, seed {seed}")
        print("compiling ...", end=" ", flush=True)
        start = time.perf_counter()
        machine = cabinet.build(options.name, options.obs_size)
        print(f"done in {time.perf_counter() - start:.1f} s")
        views = dict(partial_obs=options.partial, both=options.both)
        session = Session(machine, seed=seed, fps=options.fps, keep_all=options.record is not None, **views)
        window.run(session, scale=options.scale, recording=options.record)


if __name__ == "__main__":
    main()
