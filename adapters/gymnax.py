"""The environments for gymnax: ``env, params = make("NavigatorEasy", partial_obs=True)``.

It works with gymnax 1.x, whose step returns six values, and with stable-gymnax 0.0.1, whose step
returns five like older gymnax, whichever is installed. A library that takes any object with
gymnax's functions can use the environment of ``make`` directly: its step returns five values.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax.typing import ArrayLike

try:
    from gymnax.environments import environment
    from gymnax.environments import spaces as gymnax_spaces
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f'popgym_arcade.adapters.gymnax needs {error.name}: pip install "popgym-arcade[gymnax]"',
        name=error.name,
    ) from error

from popgym_arcade import registry, spaces
from popgym_arcade.wrappers import Environment, auto_reset, game_state

__all__ = ["SIX_VALUES", "GymnaxArcade", "make", "to_gymnax", "to_gymnax_space"]

SIX_VALUES: bool = hasattr(environment.Environment, "is_truncated")
"""Whether the step of the installed gymnax returns terminated and truncated separately."""


def make(
    name: str,
    *,
    six_values: bool = SIX_VALUES,
    wrap: Callable[[Environment], Environment] | None = None,
    **options: Any,
) -> tuple["GymnaxArcade", Any]:
    """Make an environment as ``gymnax.make`` does: (environment, params).

    name, options: as in ``popgym_arcade.make``. six_values: as in ``to_gymnax``. wrap: a function
    from an Environment to an Environment, e.g. one of our wrappers. Raises what
    ``popgym_arcade.make`` raises.
    """
    env, params = registry.make(name, **options)
    return to_gymnax(env if wrap is None else wrap(env), params, six_values), params


def to_gymnax(env: Environment, params: Any, six_values: bool = SIX_VALUES) -> "GymnaxArcade":
    """Convert an environment of ``make``, wrapped or not, to an instance of gymnax's own class.

    env: a popgym_arcade Environment. params: its Params, which become ``default_params``.
    six_values: whether step returns terminated and truncated, as in gymnax 1.x, or done; by default
    as in the installed gymnax. Use False for libraries that still expect five values, such as rejax
    0.1.3. Frames, states, rewards and random numbers equal those of ``env.step`` with the same
    keys.
    """
    return GymnaxArcade(env, params, six_values)


class GymnaxArcade(environment.Environment):
    """A gymnax environment.

    States are the game's NamedTuples, or those of our wrappers; params are the game's Params. Two
    of them are equal if what ``to_gymnax`` was given is, so they share compiled programs, and they
    can be copied and pickled if the Environment can.
    """

    def __init__(self, env: Environment, params: Any, six_values: bool) -> None:
        """env, params, six_values: as in ``to_gymnax``."""
        super().__init__()
        self._env, self._params, self._six_values = env, params, six_values
        self._step = auto_reset(env.reset, env.step_env, env.render, final_observation=six_values)

    @partial(jax.jit, static_argnames=("self",))
    def step(
        self, key: jax.Array, state: Any, action: ArrayLike, params: Any = None
    ) -> tuple[Any, ...]:
        """Take one step, and reset if it ended the episode.

        key: a PRNG key. state: from ``reset`` or ``step``. action: int[] in [0, 4]; any other
        integer does nothing. params: by default ``default_params``. Returns (observation, state,
        reward, terminated, truncated, info) or, without six_values, (observation, state, reward,
        done, info). info holds terminated, truncated and discount and, with six_values,
        final_observation: the frame before the reset. That frame is a second drawing, which the
        compiler drops if nothing uses it.
        """
        observation, state, reward, done, info = self._step(
            key, state, action, self._or_default(params)
        )
        flags = (info["terminated"], info["truncated"]) if self._six_values else (done,)
        return observation, state, reward, *flags, info

    @partial(jax.jit, static_argnames=("self",))
    def reset(self, key: jax.Array, params: Any = None) -> tuple[Any, Any]:
        """Start an episode: (observation, state)."""
        return self._env.reset(key, self._or_default(params))

    def reset_env(self, key: jax.Array, params: Any) -> tuple[Any, Any]:
        """Start an episode like ``reset``, but not jitted, and params are required."""
        return self._env.reset(key, params)

    def step_env(
        self, key: jax.Array, state: Any, action: ArrayLike, params: Any
    ) -> tuple[Any, Any, jax.Array, jax.Array, dict[str, Any]]:
        """Take one step without a reset: (observation, state, reward, flag, info).

        flag: terminated or, without six_values, done.
        """
        observation, state, reward, done, info = self._env.step_env(key, state, action, params)
        return observation, state, reward, info["terminated"] if self._six_values else done, info

    def observe(self, key: Any, state: Any, action: Any, params: Any) -> Any:
        """Draw a state, as ``get_obs`` does; this is gymnax 1.x's name. Ignores key and action."""
        return self.get_obs(state, params)

    def get_obs(self, state: Any, params: Any = None, key: Any = None) -> Any:
        """Draw a state; key is ignored."""
        return self._env.render(state, self._or_default(params))

    def render(self, state: Any, params: Any = None) -> Any:
        """Draw a state, as ``get_obs`` does; gymnax's wrappers for Gymnasium call this."""
        return self.get_obs(state, params)

    def is_truncated(self, state: Any, params: Any) -> jax.Array:
        """Whether the time limit is reached: bool[]."""
        return game_state(state).time >= params.max_steps_in_episode

    @property
    def default_params(self) -> Any:
        """The params given to ``to_gymnax``."""
        return self._params

    @property
    def name(self) -> str:
        """The environment's registered name."""
        return self._env.name

    @property
    def num_actions(self) -> int:
        """The number of actions, 5."""
        return self._env.num_actions

    def action_space(self, params: Any = None) -> gymnax_spaces.Discrete:
        """The action space, gymnax's Discrete(5)."""
        return to_gymnax_space(self._env.action_space(self._or_default(params)))

    def observation_space(self, params: Any = None) -> Any:
        """The observation space: gymnax's Box or, with ``wrappers.both_views``, its Dict."""
        return to_gymnax_space(self._env.observation_space(self._or_default(params)))

    def __eq__(self, other: object) -> bool:
        """Whether both were made of the same."""
        return isinstance(other, GymnaxArcade) and self._made_of() == other._made_of()

    def __hash__(self) -> int:
        """Hash what it was made of, but for the params, which may be arrays."""
        return hash((self._env, self._six_values))

    def __reduce__(self) -> tuple[Any, ...]:
        """What to call to get a copy, for ``pickle`` and ``copy``."""
        return to_gymnax, self._made_of()

    def _made_of(self) -> tuple[Environment, Any, bool]:
        """The arguments of ``to_gymnax``."""
        return self._env, self._params, self._six_values

    def _or_default(self, params: Any) -> Any:
        """params, or the default ones for None."""
        return self._params if params is None else params


def to_gymnax_space(space: spaces.Discrete | spaces.Box | spaces.Dict) -> Any:
    """Convert one of our spaces to gymnax's Discrete, Box or Dict."""
    if isinstance(space, spaces.Dict):
        return gymnax_spaces.Dict(
            {name: to_gymnax_space(inner) for name, inner in space.spaces.items()}
        )
    if isinstance(space, spaces.Discrete):
        return gymnax_spaces.Discrete(space.n)
    return gymnax_spaces.Box(space.low, space.high, space.shape, space.dtype)
