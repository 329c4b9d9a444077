"""The environments for Gymnasium: ArcadeEnv and, as one compiled program, ArcadeVectorEnv.

Importing this module registers every environment::

    import gymnasium
    import popgym_arcade.adapters.gymnasium

    env = gymnasium.make("popgym_arcade/NavigatorEasy-v1", partial_obs=True)
    envs = gymnasium.make_vec("popgym_arcade/NavigatorEasy-v1", num_envs=1024, output="torch")

Gymnasium also imports it for an id that begins with this module's name and a colon. Since version
1.0, Gymnasium no longer discovers installed environments: it ignores the entry-point group
``gymnasium.envs``.

The version in an id is the version of the game's rules, ``VERSION`` in its module.

Random numbers: Gymnasium turns a seed into a NumPy generator, the generator gives one JAX key, and
everything that follows comes from that key, on the device. So environment i of
``envs.reset(seed=s)`` plays exactly as ``env.reset(seed=s + i)`` does, through all later episodes,
and a reset without a seed continues the same random stream.
"""

from typing import Any

import jax
import numpy as np

try:
    import gymnasium
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"popgym_arcade.adapters.gymnasium needs {missing.name}: "
        'pip install "popgym-arcade[gymnasium]"',
        name=missing.name,
    ) from missing

if not hasattr(gymnasium.vector, "AutoresetMode"):
    raise ImportError(
        "popgym_arcade.adapters.gymnasium needs gymnasium 1.1 or newer, "
        f"but {gymnasium.__version__} is installed"
    )

from gymnasium.error import ResetNeeded

from popgym_arcade.adapters import _frames, _programs, _shared
from popgym_arcade.adapters._shared import METADATA
from popgym_arcade.adapters._vector import ArcadeVectorEnv
from popgym_arcade.adapters._window import Window
from popgym_arcade.registry import REGISTRY, Action, Environment

__all__ = ["METADATA", "ArcadeEnv", "ArcadeVectorEnv", "register"]

_NAMESPACE = "popgym_arcade"


def register() -> None:
    """Register every environment with Gymnasium as "popgym_arcade/NAME-vVERSION".

    Ids that exist already stay as they are. The registration sets no time limit: the games truncate
    by themselves, at max_steps_in_episode.
    """
    for name, entry in REGISTRY.items():
        identifier = f"{_NAMESPACE}/{name}-v{entry.version}"
        if identifier not in gymnasium.registry:
            gymnasium.register(
                identifier,
                entry_point="popgym_arcade.adapters.gymnasium:ArcadeEnv",
                vector_entry_point="popgym_arcade.adapters.gymnasium:ArcadeVectorEnv",
                kwargs={"name": name},
            )


class ArcadeEnv(_shared.Resumable, gymnasium.Env[Any, Any]):  # pyright: ignore[reportIncompatibleVariableOverride]
    """One environment.

    Observations are NumPy arrays that belong to the caller: uint8[obs_size, obs_size, 3], or as
    ``wrap`` makes them. Actions are integers in [0, 4]. A pickle or a copy goes on from the same
    state, and shares nothing with the original.
    """

    metadata: dict[str, Any] = METADATA
    _REBUILT = ("_program", "_params", "_window")

    def __init__(
        self,
        name: str,
        partial_obs: bool = False,
        obs_size: int = 128,
        render_mode: str | None = None,
        wrap: _programs.Wrap | None = None,
        **overrides: Any,
    ) -> None:
        """Make an environment; the arguments are those of ``popgym_arcade.make``, and two more.

        render_mode: None; "rgb_array", so that ``render`` returns the current frame; or "human", to
        show the frame in a window after every reset and step. wrap: a function from an Environment
        to an Environment, e.g. ``lambda env: frame_stack(resize(grayscale(env)), 4)``: compiled
        with the game, it is faster than a wrapper of Gymnasium. ``render`` shows what people see,
        the frame before it. Raises what ``make`` raises, ValueError for any other render_mode,
        DependencyNotInstalled for "human" without pygame, and RuntimeError in a process that was
        forked after JAX had started.
        """
        if "final_observation" in overrides:
            raise ValueError(
                "ArcadeEnv takes no final_observation: "
                "its step always returns the last frame of an episode"
            )
        _shared.check_process()
        _shared.check_render_mode(render_mode)
        self.render_mode: str | None = render_mode
        self._arguments = (name, partial_obs, obs_size, wrap), overrides
        self._generator: np.random.Generator | None = None  # the source of the current key
        self._key_data: Any = None
        self._carry: _programs.Carry | None = None
        self._done = False
        actions, observations = _shared.spaces_of(self._build(), self._params)
        self.action_space: gymnasium.spaces.Space[Any] = actions
        self.observation_space: gymnasium.spaces.Space[Any] = observations

    def _build(self) -> Environment:
        """Set what a pickle leaves out, from the arguments; return the wrapped environment."""
        positional, overrides = self._arguments
        setting, self._params = _programs.Setting.make(*positional, **overrides)
        self._program = _programs.single_program(setting)
        self._window = None
        if self.render_mode == "human":
            self._window = Window(setting.env.name, METADATA["render_fps"])
        return setting.env

    def get_action_meanings(self) -> list[str]:
        """The names of the actions 0 to 4."""
        return [action.name for action in Action]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode: (observation, info).

        seed: determines everything until the next seed; without one, the current random stream
        continues, and the first starts from entropy. options: ignored. info: as in ``step``, with
        a discount of 1.
        """
        _shared.check_process()
        super().reset(seed=seed)
        if self._generator is not self.np_random:  # a new seed, or the user's own generator
            self._generator = self.np_random
            self._key_data = _programs.draw_key_data(self.np_random)
        elif self._carry is not None:
            self._key_data = self._carry.key_data
        self._carry, observation = self._program.reset(self._params, self._key_data)
        self._done = False
        self._show()
        return _frames.observation_to_numpy(observation), {"discount": 1.0}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step: (observation, reward, terminated, truncated, info).

        action: an integer in [0, 4], or a NumPy, jax or torch scalar. info: ``discount``, a float:
        0 on termination, otherwise 1. Raises ValueError for any other action, ResetNeeded before
        the first reset and after the end of an episode.
        """
        if self._carry is None:
            raise ResetNeeded("there is no episode yet; call reset before step")
        if self._done:
            raise ResetNeeded("the episode is over; call reset before the next step")
        number = _shared.to_action(action)
        self._carry, outcome = self._program.step(self._params, self._carry, number)
        observation = _frames.observation_to_numpy(outcome.observation)
        outcome = jax.device_get(outcome._replace(observation=None))
        terminated, truncated = bool(outcome.terminated), bool(outcome.truncated)
        self._done = terminated or truncated
        self._show()
        info = {"discount": float(outcome.discount)}
        return observation, float(outcome.reward), terminated, truncated, info

    def render(self) -> np.ndarray | None:
        """Return the current frame, uint8[obs_size, obs_size, 3]; None unless "rgb_array"."""
        _shared.warn_without_mode(self.render_mode)
        if self.render_mode is None:
            return None
        if self._carry is None:
            raise ResetNeeded("there is nothing to show yet; call reset before render")
        return self._draw() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window:
            self._window.close()

    def _show(self) -> None:
        """Show the current frame in the window."""
        if self._window:
            self._window.show(self._draw())

    def _draw(self) -> np.ndarray:
        """Draw the current frame."""
        assert self._carry is not None
        return np.array(self._program.draw(self._params, self._carry.state))


register()
