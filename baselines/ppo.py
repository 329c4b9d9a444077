"""PPO: a policy gradient with a clipped probability ratio.

Schulman et al. (2017), "Proximal Policy Optimization Algorithms", arXiv:1707.06347: the clipped
objective (equation 7) with a value loss and an entropy bonus (equation 9), and generalized
advantage estimates (GAE).

Choices that the paper leaves open, and deviations from it:

* Advantages are normalized per minibatch; the value loss is not clipped.
* A minibatch holds all steps of some environments, with and without memory, so that the memory
  sees sequences.
* Advantages are computed once per rollout, with the values of the network that collected it.
* A truncated episode bootstraps from the value of its last frame.
* Rewards are not scaled, because the games' returns are within [-1, 1].
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

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
    "BehaviorOutput",
    "PPOConfig",
    "Targets",
    "act",
    "action_log_probability",
    "clipped_objective",
    "compute_targets",
    "loss",
    "make_train",
    "normalize",
    "sample",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PPOConfig(Config):
    """PPO: a policy gradient with a clipped probability ratio."""

    num_epochs: int = 4
    """Passes over each rollout."""
    num_minibatches: int = 16
    """Minibatches per pass; each holds all steps of some of the environments."""
    learning_rate: float = 1e-4
    """Initial Adam learning rate; annealed linearly to 0 over the run."""
    trace_decay: float = 0.95
    """Lambda of the generalized advantage estimates (GAE)."""
    clip: float = 0.2
    """Clip the probability ratio to [1 - clip, 1 + clip]."""
    entropy_coefficient: float = 0.01
    """Coefficient of the entropy bonus."""
    value_coefficient: float = 0.5
    """Coefficient of the value loss."""


FAST: dict[str, Any] = {
    "num_envs": 2048,
    "num_steps": 32,
    "num_epochs": 2,
    "num_minibatches": 16,
    "learning_rate": 2.5e-4,
}
"""What the preset for one modern GPU changes."""


class BehaviorOutput(NamedTuple):
    """Outputs of the policy that took a step. Leading axes [num_steps, num_envs]."""

    log_probability: jax.Array  # float32: of the action
    value: jax.Array  # float32: of the frame


class Targets(NamedTuple):
    """Targets of the policy and the value. Leading axes [num_steps, num_envs]."""

    advantage: jax.Array  # float32
    returns: jax.Array  # float32


def make_train(config: PPOConfig, environment: tuple[Environment, Any] | None = None) -> Trainer:
    """Make the functions that train PPO.

    environment: (env, params) to train on instead of the one that config names. Raises ValueError
    for an invalid config.
    """
    check(config, environment)
    config = with_defaults(config, always_short=True)
    env, params = environment or rollout.make_environment(config)
    make_weights, static = rollout.partition(network_of("ppo", dataclasses.asdict(config)))
    rollout_steps = config.num_envs * config.num_steps
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.max_gradient_norm), optax.scale_by_adam(eps=1e-5)
    )
    assert config.total_steps is not None  # with_defaults sets it
    learning_rate = optax.linear_schedule(config.learning_rate, 0.0, config.total_steps)

    def learn(learner, batch, rate):
        weights, optimizer_state, metrics = gradient_step(
            lambda weights: loss(weights, static, batch, config), optimizer, rate, *learner
        )
        return (weights, optimizer_state), metrics

    def update(state):
        key, collect_key, order_key = jax.random.split(state.key, 3)
        network, rate = eqx.combine(state.weights, static), learning_rate(state.steps)
        stream, transitions = rollout.collect(
            env, params, sample, network, state.stream, collect_key, config.num_steps
        )
        targets = compute_targets(transitions, rollout.apply(network, stream)[1], config)
        batch = rollout.Batch(
            state.stream.carry, transitions._replace(extras=(transitions.extras, targets)), stream
        )
        (weights, optimizer_state), metrics = rollout.train_on_minibatches(
            functools.partial(learn, rate=rate),
            (state.weights, state.optimizer),
            batch,
            order_key,
            config.num_epochs,
            config.num_minibatches,
        )
        episodes = rollout.episode_metrics(transitions)
        state = TrainState(weights, optimizer_state, stream, key, state.steps + rollout_steps)
        return state, {**episodes, **metrics, "learning_rate": rate}

    init = functools.partial(
        init_state, make_weights, static, optimizer, env, params, config.num_envs
    )
    return make_trainer("ppo", config, init, update, act, static, rollout_steps)


def sample(
    outputs: tuple[jax.Array, jax.Array], key: jax.Array
) -> tuple[jax.Array, BehaviorOutput]:
    """Sample actions from the policy: (int32[num_envs], BehaviorOutput).

    outputs: (logits float32[num_envs, 5], values float32[num_envs]).
    """
    logits, values = outputs
    actions = jax.random.categorical(key, logits)
    return actions, BehaviorOutput(action_log_probability(logits, actions), values)


def act(outputs: tuple[jax.Array, jax.Array], key: jax.Array) -> tuple[jax.Array, None]:
    """Sample actions from the policy, which is how it is evaluated: (int32[num_envs], None)."""
    return sample(outputs, key)[0], None


def action_log_probability(logits: jax.Array, actions: jax.Array) -> jax.Array:
    """Compute the actions' log-probabilities: float32[...]. logits: float32[..., 5]."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), actions[..., None], axis=-1)[..., 0]


def compute_targets(
    transitions: rollout.Transition,
    last_outputs: tuple[jax.Array, jax.Array],
    config: PPOConfig,
) -> Targets:
    """Compute the advantages and returns of a rollout.

    transitions: their extras are BehaviorOutput. last_outputs: the network's, for the frames after
    the last step.
    """
    values = jnp.concatenate([transitions.extras.value, last_outputs[1][None]])
    returns = rollout.lambda_returns(
        transitions.reward,
        values,
        transitions.terminated,
        transitions.ended,
        config.discount,
        config.trace_decay,
    )
    return Targets(returns - values[:-1], returns)


def loss(
    weights: Any, static: Any, batch: rollout.Batch, config: PPOConfig
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Combine the clipped objective, the value loss and the entropy bonus: (float32[], metrics).

    batch: its transitions' extras are (BehaviorOutput, Targets). The metric "divergence" estimates
    the KL divergence of the new policy from the one that collected the batch.
    """
    network = eqx.combine(weights, static)
    outputs = rollout.unroll(network, batch.carry, rollout.network_inputs(batch))
    logits, values = jax.tree.map(lambda leaf: leaf[:-1], outputs)
    (behavior, targets), mask = batch.transitions.extras, ~batch.transitions.ended
    mean = functools.partial(rollout.masked_mean, mask=mask)
    log_ratio = action_log_probability(logits, batch.transitions.action) - behavior.log_probability
    advantage = normalize(targets.advantage, mask)
    policy_loss = -mean(clipped_objective(jnp.exp(log_ratio), advantage, config.clip))
    value_loss = mean(jnp.square(values - targets.returns)) / 2
    entropy = -mean((jax.nn.softmax(logits) * jax.nn.log_softmax(logits)).sum(axis=-1))
    total = (
        policy_loss + config.value_coefficient * value_loss - config.entropy_coefficient * entropy
    )
    divergence = mean(jnp.exp(log_ratio) - 1 - log_ratio)
    return total, {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "divergence": divergence,
    }


def normalize(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Shift and scale values to mean 0 and standard deviation 1 where mask is true."""
    mean = rollout.masked_mean(values, mask)
    variance = rollout.masked_mean(jnp.square(values - mean), mask)
    return (values - mean) / (jnp.sqrt(variance) + 1e-8)


def clipped_objective(ratio: jax.Array, advantage: jax.Array, clip: float) -> jax.Array:
    """Compute the clipped surrogate objective, equation 7 of the paper."""
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)
