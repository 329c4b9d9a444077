"""Wrappers: functions from an environment to an environment.

A wrapper takes a ``registry.Environment`` and returns one whose functions have the same signatures, so wrappers compose, and the
result works under jit, vmap and scan like any other environment. What a wrapper has to remember, it keeps in a state of its own
around the environment's. Wrap first and vmap after: a wrapper expects the functions of a single environment.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class LogState(NamedTuple):
    """What ``log_episodes`` keeps: the environment's state, and the sums over the running and the last finished episode."""

    env_state: Any  # the state of the environment inside; its time and score are env_state.time and env_state.score
    episode_returns: jax.Array  # float32[]: rewards of the running episode so far, added up
    episode_lengths: jax.Array  # int32[]: steps of the running episode so far
    returned_episode_returns: jax.Array  # float32[]: the return of the last finished episode, 0 before there is one
    returned_episode_lengths: jax.Array  # int32[]: its length in steps, 0 before there is one


def log_episodes(env):
    """Report the return and the length of every finished episode in ``info``.

    env: an Environment. Returns an Environment with the same functions over a LogState. The info of ``step`` and of ``step_env``
    gets, besides what it held:

    * ``returned_episode``, bool[]: whether this step ended an episode; it equals done.
    * ``returned_episode_returns``, float32[]: the undiscounted return of the last finished episode, this one included.
    * ``returned_episode_lengths``, int32[]: its length in steps.

    Both numbers are 0 until the first episode after ``reset`` is over, and then keep their values until the next is, so take
    means over the steps where ``returned_episode`` is true.

    ``step`` begins to count anew when done, as it begins a new episode. ``step_env`` does not: the state it returns is the last
    of the finished episode, and so are the sums in it. Steps taken on from there belong to the same episode, each of them done
    again with a larger sum. To end one by hand, call ``reset``, which sets all four numbers to 0.

    The names in ``info`` are those of the LogWrapper of purejaxrl and gymnax.
    """

    def reset(key, params=None):
        observation, env_state = env.reset(key, params)
        return observation, LogState(env_state, jnp.float32(0), jnp.int32(0), jnp.float32(0), jnp.int32(0))

    def step_env(key, state, action, params=None):
        return _count(state, *env.step_env(key, state.env_state, action, params))

    def step(key, state, action, params=None):
        observation, state, reward, done, info = _count(state, *env.step(key, state.env_state, action, params))
        return observation, _count_anew(state, done), reward, done, info

    def render(state, params=None):
        return env.render(state.env_state, params)

    return env._replace(reset=reset, step=step, step_env=step_env, render=render)


def _count(state, observation, env_state, reward, done, info):
    """Add one transition of the environment inside to the sums: (observation, LogState, reward, done, info)."""
    returns, lengths = state.episode_returns + reward, state.episode_lengths + 1
    last_returns = jnp.where(done, returns, state.returned_episode_returns)
    last_lengths = jnp.where(done, lengths, state.returned_episode_lengths)
    info = {
        **info,
        "returned_episode": done,
        "returned_episode_returns": last_returns,
        "returned_episode_lengths": last_lengths,
    }
    return observation, LogState(env_state, returns, lengths, last_returns, last_lengths), reward, done, info


def _count_anew(state, done):
    """Set the sums of the running episode to 0 if done: LogState."""
    return state._replace(
        episode_returns=jnp.where(done, 0, state.episode_returns),
        episode_lengths=jnp.where(done, 0, state.episode_lengths),
    )
