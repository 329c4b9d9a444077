"""The environments for gymnax: ``to_gymnax(*popgym_arcade.make("NavigatorEasy"))``.

Works with gymnax 1.x, whose step returns six values, and with stable-gymnax 0.0.1, whose step
returns five, as older releases of gymnax did; whichever is installed. Where a library takes any
object with gymnax's functions, the environment of ``make`` does as it is: its step returns five
values.
"""

from functools import partial

import jax

try:
    from gymnax.environments import environment
    from gymnax.environments import spaces as gymnax_spaces
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f'popgym_arcade.adapters.gymnax needs {error.name}: pip install "popgym-arcade[gymnax]"',
        name=error.name,
    ) from error

from popgym_arcade import spaces
from popgym_arcade.wrappers import auto_reset

SIX_VALUES = hasattr(environment.Environment, "is_truncated")
"""Whether the installed gymnax's step returns terminated and truncated apart."""


def to_gymnax(env, params, six_values=SIX_VALUES):
    """An environment of ``make``, wrapped or not, as an instance of gymnax's own class:
    GymnaxArcade.

    env: a popgym_arcade Environment. params: its Params, which become ``default_params``.
    six_values: whether step returns terminated and truncated apart, as gymnax 1.x does, or done; by
    default like the installed gymnax. False is for libraries that still take five values, like
    rejax 0.1.3. The frames, states, rewards and random numbers are those of ``env.step`` with the
    same keys.
    """
    return GymnaxArcade(env, params, six_values)


class GymnaxArcade(environment.Environment):
    """A gymnax environment. States are the game's NamedTuples, or those of our wrappers, and params
    the game's Params."""

    def __init__(self, env, params, six_values):
        """env, params, six_values: as in ``to_gymnax``."""
        super().__init__()
        self._env, self._params, self._six_values = env, params, six_values
        self._step = auto_reset(env.reset, env.step_env, env.render, final_observation=six_values)

    @partial(jax.jit, static_argnames=("self",))
    def step(self, key, state, action, params=None):
        """One step, and the first state of a new episode if it ended one.

        key: a PRNG key. state: of ``reset`` or ``step``. action: int[], 0 ... 4; any other does
        nothing. params: default_params if left out. Returns (observation, state, reward,
        terminated, truncated, info), or without six_values (observation, state, reward, done,
        info). info holds terminated, truncated and discount and, with six values,
        final_observation: the frame before the reset. That is a second drawing, which the compiler
        leaves out where nobody reads it.
        """
        observation, state, reward, done, info = self._step(
            key, state, action, self._or_default(params)
        )
        flags = (info["terminated"], info["truncated"]) if self._six_values else (done,)
        return observation, state, reward, *flags, info

    @partial(jax.jit, static_argnames=("self",))
    def reset(self, key, params=None):
        """Begin an episode: (observation, state)."""
        return self._env.reset(key, self._or_default(params))

    def reset_env(self, key, params):
        """The same as ``reset``; params have to be given."""
        return self._env.reset(key, params)

    def step_env(self, key, state, action, params):
        """One step without the reset: (observation, state, reward, terminated or, without
        six_values, done, info)."""
        observation, state, reward, done, info = self._env.step_env(key, state, action, params)
        return observation, state, reward, info["terminated"] if self._six_values else done, info

    def observe(self, key, state, action, params):
        """The frame of a state; key and action are not used. gymnax 1.x's name for get_obs."""
        return self.get_obs(state, params)

    def get_obs(self, state, params=None, key=None):
        """The frame of a state; key is not used."""
        return self._env.render(state, self._or_default(params))

    def render(self, state, params=None):
        """The same as ``get_obs``; gymnax's wrappers for Gymnasium look for it."""
        return self.get_obs(state, params)

    def is_truncated(self, state, params):
        """Whether the limit of steps is reached: bool[]."""
        while hasattr(state, "env_state"):
            state = state.env_state
        return state.time >= params.max_steps_in_episode

    @property
    def default_params(self):
        """The params given to ``to_gymnax``."""
        return self._params

    @property
    def name(self):
        """The environment's registered name."""
        return self._env.name

    @property
    def num_actions(self):
        """5."""
        return self._env.num_actions

    def action_space(self, params=None):
        """gymnax's Discrete(5)."""
        return to_gymnax_space(self._env.action_space(self._or_default(params)))

    def observation_space(self, params=None):
        """gymnax's Box, or Dict with ``wrappers.both_views``."""
        return to_gymnax_space(self._env.observation_space(self._or_default(params)))

    def _or_default(self, params):
        """The params, or the default ones if they are None."""
        return self._params if params is None else params


def to_gymnax_space(space):
    """A space of ours as one of gymnax's: Discrete, Box or Dict."""
    if isinstance(space, spaces.Dict):
        return gymnax_spaces.Dict(
            {name: to_gymnax_space(inner) for name, inner in space.spaces.items()}
        )
    if isinstance(space, spaces.Discrete):
        return gymnax_spaces.Discrete(space.n)
    return gymnax_spaces.Box(space.low, space.high, space.shape, space.dtype)
