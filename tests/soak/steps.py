"""Steps for the soak's tests to check."""

import functools

import jax.numpy as jnp
import numpy as np

from popgym_arcade.soak.invariants import PlayedStep
from tests.testing import BATCH, compiled, keys


@functools.cache
def played(name):
    """A batch of steps some way into an episode, and from its start."""
    functions = compiled(name)
    _, state = functions.reset(keys(0), functions.params)
    steps = []
    for i in range(6):
        actions = jnp.asarray((np.arange(BATCH) + i) % 6, jnp.int32)
        _, after, reward, _, info = functions.step_env(keys(i), state, actions, functions.params)
        steps.append(PlayedStep(state, actions, after, reward, info["terminated"]))
        _, state, *_ = functions.step(keys(i), state, actions, functions.params)
    return steps[0], steps[-1]
