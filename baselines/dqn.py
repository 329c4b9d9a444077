"""DQN: Q-learning from a replay buffer, with a target network.

Mnih et al. (2015), "Human-level control through deep reinforcement learning"; with memory,
sequences are replayed as in Hausknecht and Stone (2015), "Deep Recurrent Q-Learning for Partially
Observable MDPs", and warmed up as in Kapturowski et al. (2019), "Recurrent Experience Replay in
Distributed Reinforcement Learning".

Deviations:

* The buffer holds the games' states, of a few hundred bytes, and the frames are drawn again when
  they are sampled: drawing is a pure function of the state. A frame has 49,152 bytes, so this
  buffer is some hundred times as long in the same memory.
* Many environments play at once. The memory of a replayed sequence begins with nothing, burn_in
  steps before what is learned, and gradients reach back into these steps.
* Adam instead of RMSProp, the squared error instead of Huber's, the norm of the gradient clipped.
* A truncated episode bootstraps from the value of its last frame.
* Rewards are neither clipped nor scaled: they are small by the rules of the games.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import equinox as eqx
import flashbax
import jax
import jax.numpy as jnp
import optax

from popgym_arcade.baselines import rollout
from popgym_arcade.baselines.config import Config, check, with_defaults
from popgym_arcade.baselines.model.builder import network_of
from popgym_arcade.baselines.pqn import epsilon_greedy, greedy
from popgym_arcade.baselines.trainer import Trainer, gradient_step


@dataclasses.dataclass(frozen=True, kw_only=True)
class DQNConfig(Config):
    """Q-learning from a replay buffer, with a target network."""

    buffer_steps: int = 500_000
    """Steps in the replay buffer, of all environments together."""
    warmup_steps: int = 10_000
    """Steps that are played at random before anything is learned."""
    steps_per_gradient: int = 128
    """Steps that are played for each gradient, of all environments together."""
    batch_size: int = 32
    """Sequences that a gradient is made of."""
    sequence_length: int = 32
    """Steps of a sequence that are learned from."""
    burn_in: int = 16
    """Steps of a sequence before these, which only the memory sees."""
    target_period: int = 100
    """Gradients after which the target network is renewed."""
    learning_rate: float = 1e-4
    """Of Adam."""
    first_epsilon: float = 1.0
    """Share of random actions at first."""
    final_epsilon: float = 0.05
    """Share of random actions after epsilon_steps; linear between."""
    epsilon_steps: int = 500_000
    """Steps over which the share falls."""


FAST = {
    "num_envs": 1024,
    "num_steps": 16,
    "buffer_steps": 2_000_000,
    "warmup_steps": 100_000,
    "steps_per_gradient": 2048,
    "batch_size": 128,
    "learning_rate": 2.5e-4,
    "epsilon_steps": 2_000_000,
}
"""What is different for one modern GPU."""


class ReplayStep(NamedTuple):
    """What the buffer holds of a step."""

    env_state: Any  # of which the frame is drawn
    last_action: jax.Array  # int32
    start: jax.Array  # bool
    ended: jax.Array  # bool
    action: jax.Array  # int32
    reward: jax.Array  # float32
    terminated: jax.Array  # bool


class Learner(NamedTuple):
    """What a gradient changes."""

    weights: Any  # the network's arrays
    optimizer: Any
    target: Any  # the target network's arrays
    gradients: jax.Array  # int32[]: so far


class TrainState(NamedTuple):
    """All that training needs to go on."""

    learner: Learner
    buffer: Any  # of ReplayStep, [num_envs, time, ...]
    stream: rollout.Stream
    key: jax.Array  # uint32[2]
    steps: jax.Array  # int32[]

    @property
    def weights(self):
        """The network's arrays."""
        return self.learner.weights


def make_train(config, environment=None):
    """DQN on an environment: Trainer.

    config: DQNConfig. environment: (env, params) to train on instead of the one that config names.
    Raises ValueError for a config that makes no sense.
    """
    check(config, environment)
    check_buffer(config)
    config = with_defaults(config)
    env, params = environment or rollout.make_environment(config)
    make_weights, static = rollout.partition(network_of("dqn", dataclasses.asdict(config)))
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.max_gradient_norm), optax.scale_by_adam()
    )
    epsilon = optax.linear_schedule(
        config.first_epsilon, config.final_epsilon, config.epsilon_steps
    )
    buffer = make_buffer(config)
    round_steps = config.steps_per_gradient // config.num_envs  # of each environment
    rounds = config.num_steps // round_steps

    def play(state, num_steps, epsilon):
        """Play and remember: (TrainState, Transition)."""
        key, collect_key = jax.random.split(state.key)
        network = eqx.combine(state.weights, static)
        explore = functools.partial(epsilon_greedy, epsilon=epsilon)
        stream, transitions = rollout.collect(
            env, params, explore, network, state.stream, collect_key, num_steps
        )
        memories = buffer.add(
            state.buffer,
            jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), replay_steps(transitions)),
        )
        steps = state.steps + num_steps * config.num_envs
        return state._replace(buffer=memories, stream=stream, key=key, steps=steps), transitions

    def init(key):
        weights_key, stream_key, key = jax.random.split(key, 3)
        weights = make_weights(weights_key)
        stream = rollout.reset(
            env, params, eqx.combine(weights, static), stream_key, config.num_envs
        )
        learner = Learner(weights, optimizer.init(weights), weights, jnp.int32(0))
        state = TrainState(learner, buffer.init(_example_step(stream)), stream, key, jnp.int32(0))
        return play(state, -(-config.warmup_steps // config.num_envs), epsilon=1.0)[0]

    def learn(learner, sequences):
        frames = render_inputs(env, params, sequences)
        error = functools.partial(
            loss,
            target=learner.target,
            static=static,
            frames=frames,
            sequences=sequences,
            config=config,
        )
        weights, optimizer_state, metrics = gradient_step(
            error, optimizer, config.learning_rate, learner.weights, learner.optimizer
        )
        gradients = learner.gradients + 1
        target = update_target(learner.target, weights, gradients, config.target_period)
        return Learner(weights, optimizer_state, target, gradients), metrics

    def one_round(state, _):
        state, transitions = play(state, round_steps, epsilon(state.steps))
        key, sample_key = jax.random.split(state.key)
        sequences = jax.tree.map(
            lambda leaf: jnp.swapaxes(leaf, 0, 1),
            buffer.sample(state.buffer, sample_key).experience,
        )
        learner, metrics = learn(state.learner, sequences)
        return state._replace(learner=learner, key=key), (transitions, metrics)

    def update(state):
        state, (transitions, metrics) = jax.lax.scan(one_round, state, length=rounds)
        rates = {"epsilon": epsilon(state.steps)}
        return state, {
            **rollout.episode_metrics(transitions),
            **jax.tree.map(jnp.mean, metrics),
            **rates,
        }

    return Trainer(
        "dqn", config, init, update, greedy, static, rounds * round_steps * config.num_envs
    )


def check_buffer(config):
    """Raise a ValueError that names the value and the nearest valid one, if the numbers of steps do
    not fit together.
    """
    sequence = sequence_steps(config)
    _check_multiple("steps_per_gradient", config.steps_per_gradient, "num_envs", config.num_envs)
    _check_multiple(
        "num_steps",
        config.num_steps,
        "steps_per_gradient / num_envs",
        config.steps_per_gradient // config.num_envs,
    )
    _check_least(
        "warmup_steps",
        config.warmup_steps,
        "num_envs * (burn_in + sequence_length + 1)",
        config.num_envs * sequence,
    )
    _check_least("buffer_steps", config.buffer_steps, "warmup_steps", config.warmup_steps)
    _check_least(
        "buffer_steps", config.buffer_steps, "steps_per_gradient", config.steps_per_gradient
    )


def _check_multiple(name, value, of_name, of):
    """Raise ValueError unless a value is a multiple of another."""
    if value % of:
        nearest = max(1, round(value / of)) * of
        raise ValueError(
            f"{name} must be a multiple of {of_name}, {of}, but it is {value}; the nearest is {nearest}"
        )


def _check_least(name, value, least_name, least):
    """Raise ValueError for a value that is less than another."""
    if value < least:
        raise ValueError(
            f"{name} must be at least {least_name}, {least}, but it is {value}; the nearest is {least}"
        )


def sequence_steps(config):
    """Frames of a replayed sequence: those the memory warms up on, those that are learned from, and
    the one after them.
    """
    return config.burn_in + config.sequence_length + 1


def make_buffer(config):
    """A replay buffer of sequences, by flashbax."""
    return flashbax.make_trajectory_buffer(
        add_batch_size=config.num_envs,
        sample_batch_size=config.batch_size,
        sample_sequence_length=sequence_steps(config),
        period=1,
        min_length_time_axis=sequence_steps(config),
        max_length_time_axis=-(-config.buffer_steps // config.num_envs),
    )


def replay_steps(transitions):
    """What the buffer holds of transitions: ReplayStep."""
    return ReplayStep(*(getattr(transitions, name) for name in ReplayStep._fields))


def _example_step(stream):
    """One step as the buffer holds it, which tells it shapes and dtypes: ReplayStep."""
    flag, action = jnp.bool_(False), jnp.int32(0)
    return ReplayStep(
        jax.tree.map(lambda leaf: leaf[0], stream.env_state),
        action,
        flag,
        flag,
        action,
        jnp.float32(0),
        flag,
    )


def render_inputs(env, params, sequences):
    """The frames of sequences: Frames [T, batch_size, ...]. sequences: ReplayStep [T, batch_size,
    ...].
    """
    draw = jax.vmap(jax.vmap(env.render, in_axes=(0, None)), in_axes=(0, None))
    return rollout.Inputs(draw(sequences.env_state, params), sequences.last_action, sequences.start)


def update_target(target, weights, gradients, period):
    """The target network's arrays after so many gradients, which are after each whole period those
    of the network itself.
    """
    return jax.tree.map(
        lambda old, new: jnp.where(gradients % period == 0, new, old), target, weights
    )


def loss(weights, target, static, frames, sequences, config):
    """Half the squared distance of the chosen actions' values from a reward and the next frame's
    best value: (float32[], metrics).

    The latter is the target network's. frames, sequences: [T, batch_size, ...].
    """
    values, target_values = (
        rollout.unroll(network, rollout.initial_carry(network, config.batch_size), frames)
        for network in (eqx.combine(weights, static), eqx.combine(target, static))
    )
    steps = jax.tree.map(lambda leaf: leaf[:-1], sequences)
    targets = rollout.lambda_returns(
        steps.reward,
        target_values.max(axis=-1),
        steps.terminated,
        steps.ended,
        config.discount,
        trace_decay=0.0,
    )
    chosen = jnp.take_along_axis(values[:-1], steps.action[..., None], axis=-1)[..., 0]
    mask = ~steps.ended & (jnp.arange(steps.ended.shape[0]) >= config.burn_in)[:, None]
    return rollout.masked_mean(jnp.square(chosen - targets) / 2, mask), {
        "value_mean": rollout.masked_mean(chosen, mask)
    }
