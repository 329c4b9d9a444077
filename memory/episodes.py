"""Play episodes with a policy, and estimate its mean return."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade.memory.player import Policy
from popgym_arcade.registry import NO_ACTION, Entry

__all__ = ["Estimate", "estimate", "returns"]

_Z = 1.959964  # the standard normal distribution's 97.5th percentile


class Estimate(NamedTuple):
    """A mean return with its 95 % confidence interval."""

    mean: float
    low: float
    high: float


def estimate(values: np.ndarray) -> Estimate:
    """Estimate the mean of independent values, float[n], by the normal approximation."""
    mean, error = values.mean(), values.std(ddof=1) / math.sqrt(len(values))
    return Estimate(*(float(value) for value in (mean, mean - _Z * error, mean + _Z * error)))


def returns(
    entry: Entry, params: Any, policies: Mapping[str, Policy], *, episodes: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Play whole episodes with each policy: their undiscounted returns, {name: float32[episodes]}.

    entry: the game's functions. params: its Params. policies: by name. seed: of the episodes, which
    begin alike for all policies.
    """
    play = jax.jit(partial(_play, entry, tuple(policies.values()), episodes))
    return {name: np.asarray(play(i, seed, params)) for i, name in enumerate(policies)}


def _play(
    entry: Entry,
    policies: tuple[Policy, ...],
    episodes: int,
    chosen: jax.Array,
    seed: jax.Array,
    params: Any,
) -> jax.Array:
    """Play with the chosen policy until every episode has ended: the returns, float32[episodes].

    All policies are in one program, which compiles the game only once.
    """
    start_key, key = jax.random.split(jax.random.key(seed))
    start_keys = jax.random.split(start_key, episodes)
    _, states = jax.vmap(entry.reset, in_axes=(0, None))(start_keys, params)
    step = jax.vmap(entry.step, in_axes=(0, 0, 0, None))

    def with_policy(number):
        def act(keys, carries, *arguments):
            carry, action = jax.vmap(policies[number].act, in_axes=(0, 0, 0, 0, None))(
                keys, carries[number], *arguments, params
            )
            return (*carries[:number], carry, *carries[number + 1 :]), action

        return act

    def body(loop):
        time, carries, last, states, over, total = loop
        step_key, act_key = jax.random.split(jax.random.fold_in(key, time))
        carries, action = jax.lax.switch(
            chosen,
            [with_policy(number) for number in range(len(policies))],
            jax.random.split(act_key, episodes),
            carries,
            last,
            states,
        )
        step_keys = jax.random.split(step_key, episodes)
        _, states, reward, done, _ = step(step_keys, states, action, params)
        return time + 1, carries, action, states, over | done, total + jnp.where(over, 0, reward)

    begun = jax.vmap(lambda _: tuple(policy.begin(params) for policy in policies))(start_keys)
    nothing = jnp.full(episodes, NO_ACTION, jnp.int32)
    loop = jnp.int32(0), begun, nothing, states, jnp.zeros(episodes, bool), jnp.zeros(episodes)
    return jax.lax.while_loop(lambda loop: ~jnp.all(loop[4]), body, loop)[-1]
