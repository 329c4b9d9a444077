"""A game in play: an episode, what is shown of it, and when its next step is due.

``window.py`` shows a Session in a window and ``web.py`` in a web page; neither knows any rules.
"""

import collections

import jax

from popgym_arcade.play import cabinet, record
from popgym_arcade.registry import NO_ACTION, REGISTRY, Action, twin_name

MAX_FPS = 60
MAX_SEED = 2**31 - 1

CLOCKS = {"Breakout": 10, "CartPole": 12, "NoisyCartPole": 12, "Skittles": 4, "Tetris": 5}
"""The games that run on a clock, to their steps a second. The others step on a key."""


class Session:
    """A game in play: an episode, what is shown of it, and when its next step is due.

    Times are seconds of any clock that does not go backwards. An episode on a clock waits for its
    first key.
    """

    def __init__(self, machine, *, seed, partial_obs=False, both=False, fps=None, keep_all=False):
        """Begin the first episode.

        machine: a Cabinet. seed: an int, 0 ... MAX_SEED, which decides all episodes of the session.
        partial_obs: show the POMDP's view. both: show the twins side by side. fps: steps a second,
        0 to step on a key; by default the game's own. keep_all: keep the pictures of all episodes,
        not only of the last.
        """
        self.machine, self.seed, self.partial_obs, self.both = machine, seed, partial_obs, both
        entry = REGISTRY[machine.name]
        self.game, self.level = entry.game, entry.level
        self.fps = CLOCKS.get(self.game, 0) if fps is None else fps
        self.number = -1  # of the episode
        self.keep_all, self.pictures = keep_all, record.PackedFrames()
        self.restart()

    def restart(self):
        """Begin the next episode. The first one of a seed is always the same, and so is the second,
        ..."""
        self.number += 1
        self.episode = cabinet.begin(
            self.machine, jax.random.fold_in(jax.random.key(self.seed), self.number)
        )
        self.due = None  # when the clock's next step is; None while no clock runs
        self.held, self.pressed = (
            [],
            collections.deque(maxlen=2),
        )  # actions whose keys are down; those to be played yet
        if not self.keep_all:
            self.pictures = record.PackedFrames()
        self.pictures.append(self.picture())

    def press(self, action, now, repeated=False):
        """A key for an action goes down: it is played at once, or with the clock's next step.
        Returns whether it was played.

        repeated: whether the key has been down for a while. Arrows repeat where steps wait for
        keys; fire, which may cost, never.
        """
        if self.episode.done or (repeated and (self.fps or action == Action.FIRE)):
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
        """Play the clock's next step if it is due: a key pressed since the last one, else one that
        is held, else nothing.

        Returns whether a step was played. Steps that were missed are not made up for.
        """
        if self.due is None or now < self.due:
            return False
        self.step(
            self.pressed.popleft() if self.pressed else self.held[-1] if self.held else NO_ACTION
        )
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
        """What is shown now: uint8[S, width, 3], an observation, or both twins' side by side, the
        MDP's first."""
        views = (False, True) if self.both else (self.partial_obs,)
        return cabinet.side_by_side(
            [cabinet.observe(self.machine, self.episode, partial_obs) for partial_obs in views]
        )

    def recording_rate(self):
        """Frames a second of a recording of the session: those of its clock, as far as a GIF can
        have them."""
        low, high = record.RATES
        return min(max(self.fps, low), high) if self.fps else record.FRAMES_PER_SECOND

    def status(self):
        """What stands outside the frame: a dict of str to str."""
        limit = self.machine.params.max_steps_in_episode
        return {
            "game": self.game,
            "level": self.level,
            "view": "MDP and POMDP" if self.both else twin_name(self.partial_obs),
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
            return (
                "Paused. An arrow or space goes on"
                if self.episode.time
                else "An arrow or space starts the clock"
            )
        return "" if self.fps or self.episode.time else "It moves when you press a key"
