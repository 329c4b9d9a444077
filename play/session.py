"""A game being played: its episodes, its clock, the keys held down and the view on show.

``window`` shows a Session in a window and ``web`` on a web page; neither knows any rules.
"""

import collections

import jax
import numpy as np

from popgym_arcade.play import cabinet, record
from popgym_arcade.registry import NO_ACTION, REGISTRY, Action, twin_name
from popgym_arcade.render import OBS_SIZES

__all__ = ["CLOCKS", "MAX_FPS", "MAX_SCALE", "OBS_SIZE", "Session"]

MAX_FPS: int = 60
MAX_SCALE: int = 32  # the most screen pixels per frame pixel when a window opens
OBS_SIZE: int = OBS_SIZES[-1]
"""The size of the frames on which a person plays, unless asked otherwise."""

CLOCKS: dict[str, float] = {
    "Breakout": 10,
    "CartPole": 12,
    "NoisyCartPole": 12,
    "Skittles": 4,
    "Tetris": 5,
}
"""The games that run on a clock, to their steps per second. The others step when a key is
pressed."""


class Session:
    """A game being played.

    Times are seconds of any monotonic clock. The clock of an episode starts with the first key.
    """

    def __init__(
        self,
        machine: cabinet.Cabinet,
        *,
        seed: int,
        partial_obs: bool = False,
        both: bool = False,
        fps: float | None = None,
        keep_all: bool = False,
    ) -> None:
        """Begin the first episode.

        seed: in [0, spaces.MAX_SEED]; determines all episodes of the session. partial_obs: show the
        POMDP. both: show the twins side by side. fps: steps per second, or 0 to step when a key is
        pressed; by default the game's own. keep_all: keep the frames of all episodes, not only of
        the current one.
        """
        self.machine: cabinet.Cabinet = machine
        self.seed: int = seed
        self.partial_obs: bool = partial_obs
        self.both: bool = both
        self.game: str = REGISTRY[machine.name].game
        self.level: str = REGISTRY[machine.name].level
        self.fps: float = CLOCKS.get(self.game, 0) if fps is None else fps
        self.keep_all: bool = keep_all
        self.pictures: record.PackedFrames = record.PackedFrames()  # what was shown
        self.number: int = -1  # of the episode
        self.restart()

    def restart(self) -> None:
        """Begin the next episode. The seed and the episode's number determine its randomness."""
        self.number += 1
        key = jax.random.fold_in(cabinet.key_of(self.seed), self.number)
        self.episode: cabinet.Episode = cabinet.begin(self.machine, key)
        self.due: float | None = None  # when the clock's next step is; None while it is stopped
        self.held: list[int] = []  # actions whose keys are down
        self.pressed: collections.deque[int] = collections.deque(maxlen=2)  # not played yet
        if not self.keep_all:
            self.pictures = record.PackedFrames()
        self.pictures.append(self.picture())

    def press(self, action: int, now: float, repeated: bool = False) -> bool:
        """Handle an action's key going down: play it at once or with the clock's next step.

        repeated: whether this is auto-repeat. Arrows repeat in games that step when a key is
        pressed; fire, which may be costly, never does. Returns whether a step was played.
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

    def release(self, action: int | None) -> None:
        """Handle an action's key going up."""
        self.held = [other for other in self.held if other != action]

    def tick(self, now: float) -> bool:
        """Play the clock's next step if it is due.

        Its action is the next key pressed since the last step, or else the latest key held, or else
        none. Missed steps are skipped. Returns whether a step was played.
        """
        if self.due is None or now < self.due:
            return False
        if self.pressed:
            action = self.pressed.popleft()
        else:
            action = self.held[-1] if self.held else NO_ACTION
        period, on_time = 1 / self.fps, self.due + 1 / self.fps
        self.step(action)
        self.due = None if self.episode.done else on_time if on_time > now else now + period
        return True

    def pause(self) -> None:
        """Stop the clock until the next key, and forget the keys that are down."""
        self.due = None
        self.held.clear()
        self.pressed.clear()

    def step(self, action: int) -> None:
        """Play one step."""
        self.episode = cabinet.advance(self.machine, self.episode, action)
        self.pictures.append(self.picture())

    def swap(self) -> None:
        """Switch to the twin's view, unless both are shown. Nothing else changes."""
        if not self.both:
            self.partial_obs = not self.partial_obs

    def picture(self) -> np.ndarray:
        """What is shown now: an observation, or both twins', the MDP first. uint8[S, width, 3]."""
        views = (False, True) if self.both else (self.partial_obs,)
        return cabinet.side_by_side(
            [cabinet.observe(self.machine, self.episode, partial_obs) for partial_obs in views]
        )

    def recording_rate(self) -> float:
        """Frames per second of a recording: the clock's, as far as a GIF allows it."""
        low, high = record.RATES
        return min(max(self.fps, low), high) if self.fps else record.FRAMES_PER_SECOND

    def status(self) -> dict[str, str]:
        """What is shown outside the frame."""
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

    def message(self) -> str:
        """What the player should know now; empty if there is nothing."""
        total = f"{self.episode.episode_return:.3f}"
        if self.episode.terminated:
            return f"Game over. Return: {total}. Press R to play again"
        if self.episode.truncated:
            return f"Out of steps. Return: {total}. Press R to play again"
        if self.fps and self.due is None:
            action = "resume" if self.episode.time else "start"
            return f"{'Paused. ' * (action == 'resume')}Press an arrow or space to {action}"
        return "" if self.fps or self.episode.time else "The game moves when you press a key"
