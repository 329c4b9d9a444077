"""A cabinet: one environment, compiled, that is stepped from Python one action at a time.

``session`` and ``record`` stand on it. A training loop does not need it: compile ``reset`` and
``step`` together with the agent instead.
"""

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade.registry import make
from popgym_arcade.render import PALETTE


class Cabinet(NamedTuple):
    """A compiled environment. Its twins share everything but what is drawn."""

    name: str  # e.g. "NavigatorEasy"
    params: Any  # of the MDP; those of the POMDP differ in partial_obs only
    reset: Callable  # (key) -> (key, state)
    step: Callable  # (key, state, action) -> (key, state, reward, terminated, truncated)
    draw: dict[bool, Callable]  # whether it is the POMDP's view, to (state) -> observation


class Episode(NamedTuple):
    """An episode, as far as it has been played."""

    key: jax.Array  # for the steps still to come
    state: Any  # the game's State
    reward: float  # of the last step, 0 before the first
    episode_return: float  # the sum of the rewards so far
    terminated: bool  # the game came to its own end
    truncated: bool  # the limit of steps is reached

    @property
    def done(self):
        """Whether the episode is over: a bool."""
        return self.terminated or self.truncated

    @property
    def time(self):
        """How many steps have been taken: an int."""
        return int(self.state.time)


def build(name, obs_size=128, **overrides):
    """Compile an environment and both its views, which takes a few seconds the first time: Cabinet.

    name, obs_size and overrides are those of ``make``, and so are the errors. The last few that
    were built are kept.
    """
    return _compiled(name, make(name, obs_size=obs_size, **overrides)[1])


@lru_cache(maxsize=8)
def _compiled(name, params):
    """The Cabinet of an environment with these Params of its MDP."""
    env, _ = make(name)

    def reset(key):
        key, reset_key = jax.random.split(key)
        return key, env.reset(reset_key, params)[1]

    def step(key, state, action):
        key, step_key = jax.random.split(key)
        _, state, reward, _, info = env.step_env(step_key, state, action, params)
        return key, state, reward, info["terminated"], info["truncated"]

    key = jax.random.key(0)
    _, state = jax.eval_shape(reset, key)
    draw = {}
    for partial_obs in (False, True):
        of_twin = dataclasses.replace(params, partial_obs=partial_obs)
        draw[partial_obs] = (
            jax.jit(lambda state, of_twin=of_twin: env.render(state, of_twin))
            .lower(state)
            .compile()
        )
    compiled_step = jax.jit(step).lower(key, state, jnp.int32(0)).compile()
    return Cabinet(name, params, jax.jit(reset).lower(key).compile(), compiled_step, draw)


def begin(cabinet, key):
    """Begin an episode. key: a typed PRNG key, which decides all that chance does in it. Returns
    Episode."""
    key, state = cabinet.reset(key)
    return Episode(key, state, reward=0.0, episode_return=0.0, terminated=False, truncated=False)


def advance(cabinet, episode, action):
    """Play one step. action: an int, 0 to 4, or any other to let time pass. Returns Episode; one
    that is over stays as it is."""
    if episode.done:
        return episode
    key, state, reward, terminated, truncated = cabinet.step(
        episode.key, episode.state, np.int32(action)
    )
    reward = float(reward)
    return Episode(
        key, state, reward, episode.episode_return + reward, bool(terminated), bool(truncated)
    )


def observe(cabinet, episode, partial_obs):
    """What a twin shows now: a NumPy uint8[S, S, 3]."""
    return np.asarray(cabinet.draw[bool(partial_obs)](episode.state))


def side_by_side(observations):
    """Observations of one size in a row, with a line of S / 32 pixels between them: uint8[S, width,
    3].

    observations: a sequence of uint8[S, S, 3]. One observation comes back as it is.
    """
    size = observations[0].shape[0]
    line = np.full((size, max(1, size // 32), 3), PALETTE["D"], np.uint8)
    parts = [part for observation in observations for part in (line, observation)][1:]
    return np.concatenate(parts, axis=1)
