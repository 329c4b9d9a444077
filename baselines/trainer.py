"""What the algorithms' ``make_train`` have in common."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from popgym_arcade.baselines import rollout


class Trainer(NamedTuple):
    """An algorithm as functions, pure and not compiled yet: ``jit`` them, and ``vmap`` them over
    keys for several seeds."""

    algorithm: str  # "pqn", "ppo" or "dqn"
    config: Any  # with every default filled in
    init: Callable  # (key uint32[2]) -> a state, which has the fields or properties weights, stream and steps
    update: Callable  # (state) -> (state, metrics): play for a while, then learn. metrics: a dict of scalars, "loss" among them
    act: Callable  # (outputs of the network, key) -> (actions int32[num_envs], None): what is evaluated
    static: Any  # ``equinox.combine(state.weights, static)`` is the network
    steps_per_update: int  # frames, of all environments together


class TrainState(NamedTuple):
    """All that training on fresh rollouts needs to go on."""

    weights: Any  # the network's arrays
    optimizer: Any
    stream: rollout.Stream
    key: jax.Array  # uint32[2]
    steps: jax.Array  # int32[]


def init_state(make_weights, static, optimizer, env, params, num_envs, key):
    """The state before training: TrainState."""
    weights_key, stream_key, key = jax.random.split(key, 3)
    weights = make_weights(weights_key)
    stream = rollout.reset(env, params, eqx.combine(weights, static), stream_key, num_envs)
    return TrainState(weights, optimizer.init(weights), stream, key, jnp.int32(0))


def gradient_step(loss, optimizer, learning_rate, weights, optimizer_state):
    """Change weights so that a loss falls: (weights, state of the optimizer, metrics with "loss").

    loss: (weights) -> (float32[], a dict of metrics). optimizer: an optax transformation that does
    not scale by a learning rate.
    """
    (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(weights)
    change, optimizer_state = optimizer.update(gradient, optimizer_state, weights)
    weights = jax.tree.map(lambda weight, change: weight - learning_rate * change, weights, change)
    return weights, optimizer_state, {"loss": value, **metrics}
