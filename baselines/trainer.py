"""What the algorithms' ``make_train`` functions share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from popgym_arcade.baselines import rollout
from popgym_arcade.baselines.precision import in_32_bits
from popgym_arcade.wrappers import Environment

__all__ = ["TrainState", "Trainer", "gradient_step", "init_state", "make_trainer"]


class Trainer(NamedTuple):
    """An algorithm as pure functions that are not compiled yet.

    ``jit`` them, and ``vmap`` them over keys to train several seeds.
    """

    algorithm: str  # "pqn", "ppo" or "dqn"
    config: Any  # the algorithm's config, with every default filled in
    # (key uint32[2]) -> state: has the fields or properties weights, stream and steps
    init: Callable[[jax.Array], Any]
    # (state) -> (state, metrics): collect, then learn; metrics are scalars, "loss" among them
    update: Callable[[Any], tuple[Any, dict[str, jax.Array]]]
    act: rollout.Act  # the policy to evaluate; its extras are None
    static: Any  # ``equinox.combine(state.weights, static)`` is the network
    steps_per_update: int  # summed over environments


def make_trainer(
    algorithm: str,
    config: Any,
    init: Callable[[jax.Array], Any],
    update: Callable[[Any], tuple[Any, dict[str, jax.Array]]],
    act: rollout.Act,
    static: Any,
    steps_per_update: int,
) -> Trainer:
    """Make a Trainer whose functions compute in 32 bits. The arguments are its fields."""
    functions = in_32_bits(init), in_32_bits(update), in_32_bits(act)
    return Trainer(algorithm, config, *functions, static, steps_per_update)


class TrainState(NamedTuple):
    """The training state of an on-policy algorithm."""

    weights: Any  # the network's arrays
    optimizer: Any
    stream: rollout.Stream
    key: jax.Array  # uint32[2]
    steps: jax.Array  # int32[]


def init_state(
    make_weights: Callable[[jax.Array], Any],
    static: Any,
    optimizer: optax.GradientTransformation,
    env: Environment,
    params: Any,
    num_envs: int,
    key: jax.Array,
) -> TrainState:
    """Return the initial training state. make_weights, static: from ``rollout.partition``."""
    weights_key, stream_key, key = jax.random.split(key, 3)
    weights = make_weights(weights_key)
    stream = rollout.reset(env, params, eqx.combine(weights, static), stream_key, num_envs)
    return TrainState(weights, optimizer.init(weights), stream, key, jnp.int32(0))


def gradient_step(
    loss: Callable[[Any], tuple[jax.Array, dict[str, jax.Array]]],
    optimizer: optax.GradientTransformation,
    learning_rate: float | jax.Array,
    weights: Any,
    optimizer_state: Any,
) -> tuple[Any, Any, dict[str, jax.Array]]:
    """Take one optimizer step on the loss: (weights, optimizer_state, metrics with "loss").

    loss: (weights) -> (float32[], metrics). optimizer: does not scale by a learning rate itself.
    """
    (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(weights)
    change, optimizer_state = optimizer.update(gradient, optimizer_state, weights)
    weights = jax.tree.map(lambda weight, change: weight - learning_rate * change, weights, change)
    return weights, optimizer_state, {"loss": value, **metrics}
