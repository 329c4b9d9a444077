"""Play episodes with a policy, and estimate its mean return."""

import math
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
    entry: Entry, params: Any, policy: Policy, *, episodes: int, seed: int = 0
) -> np.ndarray:
    """Play whole episodes side by side: their undiscounted returns, float32[episodes].

    entry: the game's functions. params: its Params. policy: a Policy. seed: of the episodes, which
    are the same for every policy.
    """
    return np.asarray(_play(entry.reset, entry.step, policy, episodes, seed, params))


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _play(
    reset: Any, step: Any, policy: Policy, episodes: int, seed: jax.Array, params: Any
) -> jax.Array:
    """Play until every episode has ended: the returns, float32[episodes]."""
    start_key, key = jax.random.split(jax.random.key(seed))
    _, states = jax.vmap(reset, in_axes=(0, None))(jax.random.split(start_key, episodes), params)
    carry = jax.vmap(lambda _: policy.begin(params))(jnp.arange(episodes))
    last = jnp.full(episodes, NO_ACTION, jnp.int32)

    def body(loop):
        time, carry, last, states, over, total = loop
        step_key, act_key = jax.random.split(jax.random.fold_in(key, time))
        carry, action = jax.vmap(policy.act, in_axes=(0, 0, 0, 0, None))(
            jax.random.split(act_key, episodes), carry, last, states, params
        )
        _, states, reward, done, _ = jax.vmap(step, in_axes=(0, 0, 0, None))(
            jax.random.split(step_key, episodes), states, action, params
        )
        return time + 1, carry, action, states, over | done, total + jnp.where(over, 0, reward)

    loop = (jnp.int32(0), carry, last, states, jnp.zeros(episodes, bool), jnp.zeros(episodes))
    return jax.lax.while_loop(lambda loop: ~jnp.all(loop[4]), body, loop)[-1]
