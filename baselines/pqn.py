"""PQN: Q-learning with lambda-returns on fresh rollouts, with no replay buffer or target network.

Gallici et al. (2024), "Simplifying Deep Temporal Difference Learning", arXiv:2407.04811: algorithm
1, in its version for recurrent networks, where one unroll gives both the values and the targets.

Deviations from the paper:

* The memory is carried over from one rollout to the next, instead of being warmed up on steps of
  the previous rollout.
* A minibatch holds all steps of some environments, with and without memory.
* A truncated episode bootstraps from the value of its last frame.
* Rewards are not scaled, because the games' returns are within [-1, 1].
"""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from popgym_arcade.baselines import rollout
from popgym_arcade.baselines.config import Config, check, with_defaults
from popgym_arcade.baselines.model.builder import network_of
from popgym_arcade.baselines.trainer import (
    Trainer,
    TrainState,
    gradient_step,
    init_state,
    make_trainer,
)
from popgym_arcade.wrappers import Environment

__all__ = [
    "FAST",
    "PQNConfig",
    "epsilon_greedy",
    "greedy",
    "lambda_targets",
    "loss",
    "make_train",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PQNConfig(Config):
    """PQN: Q-learning with lambda-returns, with no replay buffer or target network."""

    num_epochs: int = 4
    """Passes over each rollout."""
    num_minibatches: int = 16
    """Minibatches per pass; each holds all steps of some of the environments."""
    learning_rate: float = 5e-5
    """Initial RAdam learning rate."""
    final_learning_rate: float = 5e-7
    """Final learning rate; annealed linearly over the run."""
    trace_decay: float = 0.95
    """Lambda of the lambda-returns."""
    first_epsilon: float = 1.0
    """Initial epsilon: the probability of a random action."""
    final_epsilon: float = 0.05
    """Final epsilon; annealed linearly over epsilon_steps."""
    epsilon_steps: int = 500_000
    """Environment steps over which epsilon is annealed."""


FAST: dict[str, Any] = {
    "num_envs": 2048,
    "num_steps": 32,
    "num_epochs": 2,
    "num_minibatches": 16,
    "learning_rate": 2.5e-4,
    "final_learning_rate": 2.5e-6,
    "epsilon_steps": 2_000_000,
}
"""What the preset for one modern GPU changes."""


def make_train(config: PQNConfig, environment: tuple[Environment, Any] | None = None) -> Trainer:
    """Make the functions that train PQN.

    environment: (env, params) to train on instead of the one that config names. Raises ValueError
    for an invalid config.
    """
    check(config, environment)
    config = with_defaults(config)
    env, params = environment or rollout.make_environment(config)
    make_weights, static = rollout.partition(network_of("pqn", dataclasses.asdict(config)))
    rollout_steps = config.num_envs * config.num_steps
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.max_gradient_norm), optax.scale_by_radam()
    )
    assert config.total_steps is not None  # with_defaults sets it
    learning_rate = optax.linear_schedule(
        config.learning_rate, config.final_learning_rate, config.total_steps
    )
    epsilon = optax.linear_schedule(
        config.first_epsilon, config.final_epsilon, config.epsilon_steps
    )

    def learn(learner, batch, rate):
        weights, optimizer_state, metrics = gradient_step(
            lambda weights: loss(weights, static, batch, config), optimizer, rate, *learner
        )
        return (weights, optimizer_state), metrics

    def update(state):
        key, collect_key, order_key = jax.random.split(state.key, 3)
        rates = {"epsilon": epsilon(state.steps), "learning_rate": learning_rate(state.steps)}
        explore = functools.partial(epsilon_greedy, epsilon=rates["epsilon"])
        network = eqx.combine(state.weights, static)
        stream, transitions = rollout.collect(
            env, params, explore, network, state.stream, collect_key, config.num_steps
        )
        batch = rollout.Batch(state.stream.carry, transitions, stream)
        (weights, optimizer_state), metrics = rollout.train_on_minibatches(
            functools.partial(learn, rate=rates["learning_rate"]),
            (state.weights, state.optimizer),
            batch,
            order_key,
            config.num_epochs,
            config.num_minibatches,
        )
        episodes = rollout.episode_metrics(transitions)
        state = TrainState(weights, optimizer_state, stream, key, state.steps + rollout_steps)
        return state, {**episodes, **metrics, **rates}

    init = functools.partial(
        init_state, make_weights, static, optimizer, env, params, config.num_envs
    )
    return make_trainer("pqn", config, init, update, greedy, static, rollout_steps)


def epsilon_greedy(values: jax.Array, key: jax.Array, epsilon: ArrayLike) -> tuple[jax.Array, None]:
    """Choose the best actions, or uniform ones with probability epsilon: (int32[num_envs], None).

    values: float32[num_envs, 5].
    """
    explore_key, action_key = jax.random.split(key)
    uniform = jax.random.randint(action_key, values.shape[:1], 0, values.shape[1])
    explore = jax.random.bernoulli(explore_key, epsilon, values.shape[:1])
    return jnp.where(explore, uniform, values.argmax(axis=-1)), None


def greedy(values: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
    """Choose the best actions: (int32[num_envs], None). This is the policy that is evaluated."""
    return values.argmax(axis=-1), None


def loss(
    weights: Any, static: Any, batch: rollout.Batch, config: PQNConfig
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Half the mean squared error between the taken actions' values and their lambda-returns.

    Returns (float32[], metrics).
    """
    network = eqx.combine(weights, static)
    values = rollout.unroll(network, batch.carry, rollout.network_inputs(batch))
    targets = lambda_targets(jax.lax.stop_gradient(values), batch.transitions, config)
    chosen = jnp.take_along_axis(values[:-1], batch.transitions.action[..., None], axis=-1)[..., 0]
    mask = ~batch.transitions.ended
    return rollout.masked_mean(jnp.square(chosen - targets) / 2, mask), {
        "value_mean": rollout.masked_mean(chosen, mask)
    }


def lambda_targets(
    values: jax.Array, transitions: rollout.Transition, config: PQNConfig
) -> jax.Array:
    """Compute lambda-returns that bootstrap from the best actions: float32[num_steps, num_envs].

    values: float32[num_steps + 1, num_envs, 5].
    """
    return rollout.lambda_returns(
        transitions.reward,
        values.max(axis=-1),
        transitions.terminated,
        transitions.ended,
        config.discount,
        config.trace_decay,
    )
