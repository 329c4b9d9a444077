"""PPO: a policy gradient that stays near the policy which played.

Schulman et al. (2017), "Proximal Policy Optimization Algorithms", arXiv:1707.06347: the clipped
objective, equation 7, with a value loss and an entropy bonus, equation 9, and generalised advantage
estimates.

Deviations:

* The advantages of a minibatch are normalized; the value loss is not clipped.
* A minibatch is all steps of some environments, with and without memory, so that a memory sees
  sequences.
* The values that advantages are made of are those of the network that played, also in the later
  epochs.
* A truncated episode bootstraps from the value of its last frame.
* Rewards are not scaled: they are small by the rules of the games.
"""

import dataclasses
import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from popgym_arcade.baselines import rollout
from popgym_arcade.baselines.config import Config, check, with_defaults
from popgym_arcade.baselines.model.builder import network_of
from popgym_arcade.baselines.trainer import Trainer, TrainState, gradient_step, init_state


@dataclasses.dataclass(frozen=True, kw_only=True)
class PPOConfig(Config):
    """A clipped policy gradient with a value function."""

    num_epochs: int = 4
    """How often each rollout is learned from."""
    num_minibatches: int = 16
    """Parts that a rollout is learned from in; each has all steps of some environments."""
    learning_rate: float = 1e-4
    """Of Adam, at first; it falls to 0 over the run."""
    trace_decay: float = 0.95
    """Lambda of the advantages."""
    clip: float = 0.2
    """How far the probability of an action may move from what it was, as a share of it."""
    entropy_coefficient: float = 0.01
    """Weight of the policy's entropy."""
    value_coefficient: float = 0.5
    """Weight of the value loss."""


FAST = {
    "num_envs": 2048,
    "num_steps": 32,
    "num_epochs": 2,
    "num_minibatches": 16,
    "learning_rate": 2.5e-4,
}
"""What is different for one modern GPU."""


class BehaviorOutput(NamedTuple):
    """What the policy that played thought of a step. Leading axes [num_steps, num_envs]."""

    log_probability: jax.Array  # float32: of the action
    value: jax.Array  # float32: of the frame


class Targets(NamedTuple):
    """What is learned from a step. Leading axes [num_steps, num_envs]."""

    advantage: jax.Array  # float32
    returns: jax.Array  # float32


def make_train(config, environment=None):
    """PPO on an environment: Trainer.

    config: PPOConfig. environment: (env, params) to train on instead of the one that config names.
    Raises ValueError for a config that makes no sense.
    """
    check(config, environment)
    config = with_defaults(config, always_short=True)
    env, params = environment or rollout.make_environment(config)
    make_weights, static = rollout.partition(network_of("ppo", dataclasses.asdict(config)))
    rollout_steps = config.num_envs * config.num_steps
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.max_gradient_norm), optax.scale_by_adam(eps=1e-5)
    )
    learning_rate = optax.linear_schedule(config.learning_rate, 0.0, config.total_steps)

    def learn(learner, batch, rate):
        *learner, metrics = gradient_step(
            lambda weights: loss(weights, static, batch, config), optimizer, rate, *learner
        )
        return tuple(learner), metrics

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
        learner, metrics = rollout.train_on_minibatches(
            functools.partial(learn, rate=rate),
            (state.weights, state.optimizer),
            batch,
            order_key,
            config.num_epochs,
            config.num_minibatches,
        )
        episodes = rollout.episode_metrics(transitions)
        state = TrainState(*learner, stream, key, state.steps + rollout_steps)
        return state, {**episodes, **metrics, "learning_rate": rate}

    init = functools.partial(
        init_state, make_weights, static, optimizer, env, params, config.num_envs
    )
    return Trainer("ppo", config, init, update, act, static, rollout_steps)


def sample(outputs, key):
    """Actions by their probabilities: (int32[num_envs], BehaviorOutput).

    outputs: (logits float32[num_envs, 5], values float32[num_envs]).
    """
    logits, values = outputs
    actions = jax.random.categorical(key, logits)
    return actions, BehaviorOutput(action_log_probability(logits, actions), values)


def act(outputs, key):
    """Actions by their probabilities: (int32[num_envs], None). How the agent is evaluated."""
    return sample(outputs, key)[0], None


def action_log_probability(logits, actions):
    """The logarithm of the actions' probabilities: float32[...]. logits: float32[..., 5]."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), actions[..., None], axis=-1)[..., 0]


def compute_targets(transitions, last_outputs, config):
    """What each action earned more than expected, and the returns: Targets. last_outputs: of the
    frames after the last step.
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


def loss(weights, static, batch, config):
    """The clipped objective, the value loss and the entropy, to be made small: (float32[],
    metrics).
    """
    logits, values = jax.tree.map(
        lambda leaf: leaf[:-1],
        rollout.unroll(eqx.combine(weights, static), batch.carry, rollout.network_inputs(batch)),
    )
    (before, targets), mask = batch.transitions.extras, ~batch.transitions.ended
    mean = functools.partial(rollout.masked_mean, mask=mask)
    log_ratio = action_log_probability(logits, batch.transitions.action) - before.log_probability
    policy_loss = -mean(
        clipped_objective(jnp.exp(log_ratio), normalize(targets.advantage, mask), config.clip)
    )
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


def normalize(values, mask):
    """Values with mean 0 and deviation 1 over those that count."""
    mean = rollout.masked_mean(values, mask)
    return (values - mean) / (jnp.sqrt(rollout.masked_mean(jnp.square(values - mean), mask)) + 1e-8)


def clipped_objective(ratio, advantage, clip):
    """The lesser of the gain with the ratio of probabilities as it is and with the ratio clipped:
    equation 7 of the paper.
    """
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)
