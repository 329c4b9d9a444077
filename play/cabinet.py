"""A cabinet: a compiled environment that is stepped from Python, one action at a time.

``session`` and ``record`` build on it. A training loop does not need it: compile ``reset`` and
``step`` together with the agent instead.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade.registry import make
from popgym_arcade.render import PALETTE
from popgym_arcade.spaces import check_seed

__all__ = [
    "Cabinet",
    "Episode",
    "advance",
    "begin",
    "build",
    "key_of",
    "observe",
    "side_by_side",
]


class Cabinet(NamedTuple):
    """A compiled environment. Its twins share everything but the drawing."""

    name: str  # e.g. "NavigatorEasy"
    params: Any  # the MDP's; the POMDP's differ only in partial_obs
    reset: Callable[..., Any]  # (key) -> (key, state)
    step: Callable[..., Any]  # (key, state, action) -> (key, state, reward, terminated, truncated)
    draw: dict[bool, Callable[..., jax.Array]]  # partial_obs to (state) -> observation


class Episode(NamedTuple):
    """An episode up to now: its current state, not its history."""

    key: jax.Array  # for the steps to come
    state: Any  # the game's State
    reward: float  # of the last step, 0 before the first
    episode_return: float  # the sum of the rewards so far
    terminated: bool  # the game has ended by its own rules
    truncated: bool  # the step limit is reached

    @property
    def done(self) -> bool:
        """Whether the episode is over."""
        return self.terminated or self.truncated

    @property
    def time(self) -> int:
        """The number of steps taken."""
        return int(self.state.time)


def build(name: str, obs_size: int = 128, **overrides: Any) -> Cabinet:
    """Compile an environment with both of its views, which takes a few seconds the first time.

    name, obs_size and overrides are passed to ``make``, which may raise an error. The last few
    cabinets are cached.
    """
    return _compiled(name, make(name, obs_size=obs_size, **overrides)[1])


@lru_cache(maxsize=8)
def _compiled(name: str, params: Any) -> Cabinet:
    """Compile an environment. params: those of its MDP."""
    env, _ = make(name)

    def reset(key):
        key, reset_key = jax.random.split(key)
        return key, env.reset(reset_key, params)[1]

    def step(key, state, action):
        key, step_key = jax.random.split(key)
        _, state, reward, _, info = env.step_env(step_key, state, action, params)
        return key, state, reward, info["terminated"], info["truncated"]

    key = key_of(0)
    _, state = jax.eval_shape(reset, key)
    draw = {}
    for partial_obs in (False, True):
        twin_params = dataclasses.replace(params, partial_obs=partial_obs)
        render = partial(env.render, params=twin_params)
        draw[partial_obs] = _ahead_of_time(render, state)
    compiled_step = _ahead_of_time(step, key, state, jnp.int32(0))
    return Cabinet(name, params, _ahead_of_time(reset, key), compiled_step, draw)


def _ahead_of_time(function, *arguments):
    """Compile a function for arguments like these, unless JAX is told not to compile."""
    if jax.config.jax_disable_jit:  # pyright: ignore[reportAttributeAccessIssue]
        return function
    return jax.jit(function).lower(*arguments).compile()


def key_of(seed: int) -> jax.Array:
    """A typed PRNG key, the same whatever ``jax_default_prng_impl`` is.

    seed: in [0, spaces.MAX_SEED]. Raises TypeError or ValueError for anything else.
    """
    check_seed("seed", seed)
    return jax.random.key(seed, impl="threefry2x32")


def begin(cabinet: Cabinet, key: jax.Array) -> Episode:
    """Begin an episode. key: of the type of ``key_of``, the source of all its randomness."""
    key, state = cabinet.reset(key)
    return Episode(key, state, reward=0.0, episode_return=0.0, terminated=False, truncated=False)


def advance(cabinet: Cabinet, episode: Episode, action: int) -> Episode:
    """Play one step, unless the episode is over: then it is returned unchanged.

    action: 0 to 4; any other integer only lets time pass.
    """
    if episode.done:
        return episode
    key, state, reward, terminated, truncated = cabinet.step(
        episode.key, episode.state, np.int32(action)
    )
    reward = float(reward)
    return Episode(
        key, state, reward, episode.episode_return + reward, bool(terminated), bool(truncated)
    )


def observe(cabinet: Cabinet, episode: Episode, partial_obs: bool) -> np.ndarray:
    """What a twin shows now: uint8[S, S, 3]."""
    return np.asarray(cabinet.draw[bool(partial_obs)](episode.state))


def side_by_side(observations: Sequence[np.ndarray]) -> np.ndarray:
    """Join observations of one size into a row, with lines of S / 32 pixels between them.

    observations: uint8[S, S, 3] each. Returns uint8[S, width, 3]; a single observation is returned
    unchanged.
    """
    size = observations[0].shape[0]
    line = np.full((size, max(1, size // 32), 3), PALETTE["D"], np.uint8)
    parts = [part for observation in observations for part in (line, observation)][1:]
    return np.concatenate(parts, axis=1)
