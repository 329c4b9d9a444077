"""DQN: Q-learning from a replay buffer, with a target network.

Mnih et al. (2015), "Human-level control through deep reinforcement learning". For agents with
memory, it replays sequences as in Hausknecht and Stone (2015), "Deep Recurrent Q-Learning for
Partially Observable MDPs", with a burn-in as in Kapturowski et al. (2019), "Recurrent Experience
Replay in Distributed Reinforcement Learning".

Deviations from these papers:

* The buffer stores environment states instead of frames, and renders the frames again when it is
  sampled; rendering is a pure function of the state. A state has a few hundred bytes and a frame
  49,152, so the buffer holds about a hundred times as many steps in the same memory.
* Many environments run in parallel. The memory of a replayed sequence starts from its initial
  carry, burn_in steps before the first step in the loss, and gradients flow through these steps.
* Adam instead of RMSProp, squared error instead of the Huber loss, and gradient-norm clipping.
* A truncated episode bootstraps from the value of its last frame.
* Rewards are neither clipped nor scaled, because the games' returns are within [-1, 1].
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import equinox as eqx
import flashbax
import jax
import jax.numpy as jnp
import optax
from flashbax.buffers.trajectory_buffer import TrajectoryBuffer
from jax.typing import ArrayLike

from popgym_arcade import spaces
from popgym_arcade.baselines import rollout
from popgym_arcade.baselines.config import Config, check, with_defaults
from popgym_arcade.baselines.model.builder import network_of
from popgym_arcade.baselines.pqn import epsilon_greedy, greedy
from popgym_arcade.baselines.trainer import Trainer, gradient_step, make_trainer
from popgym_arcade.wrappers import Environment

__all__ = [
    "FAST",
    "DQNConfig",
    "Learner",
    "ReplayStep",
    "TrainState",
    "check_buffer",
    "loss",
    "make_buffer",
    "make_train",
    "render_inputs",
    "replay_steps",
    "sequence_steps",
    "update_target",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DQNConfig(Config):
    """DQN: Q-learning from a replay buffer, with a target network."""

    buffer_steps: int = 500_000
    """Capacity of the replay buffer in steps, summed over environments."""
    warmup_steps: int = 10_000
    """Environment steps of random play before learning starts."""
    steps_per_gradient: int = 128
    """Environment steps per gradient step."""
    batch_size: int = 32
    """Sequences per gradient step."""
    sequence_length: int = 32
    """Steps of each sequence that enter the loss."""
    burn_in: int = 16
    """Steps of each sequence before these, which only warm up the memory."""
    target_period: int = 100
    """Gradient steps between target-network updates."""
    learning_rate: float = 1e-4
    """Adam learning rate."""
    first_epsilon: float = 1.0
    """Initial epsilon: the probability of a random action."""
    final_epsilon: float = 0.05
    """Final epsilon; annealed linearly over epsilon_steps."""
    epsilon_steps: int = 500_000
    """Environment steps over which epsilon is annealed."""


FAST: dict[str, Any] = {
    "num_envs": 1024,
    "num_steps": 16,
    "buffer_steps": 2_000_000,
    "warmup_steps": 100_000,
    "steps_per_gradient": 2048,
    "batch_size": 128,
    "learning_rate": 2.5e-4,
    "epsilon_steps": 2_000_000,
}
"""What the preset for one modern GPU changes."""


class ReplayStep(NamedTuple):
    """A step in the replay buffer."""

    env_state: Any  # renders to the frame
    last_action: jax.Array  # int32
    start: jax.Array  # bool
    ended: jax.Array  # bool
    action: jax.Array  # int32
    reward: jax.Array  # float32
    terminated: jax.Array  # bool


class Learner(NamedTuple):
    """What a gradient step changes."""

    weights: Any  # the network's arrays
    optimizer: Any
    target: Any  # the target network's arrays
    gradient_steps: jax.Array  # int32[]: so far


class TrainState(NamedTuple):
    """The training state."""

    learner: Learner
    buffer: Any  # of ReplayStep, [num_envs, time, ...]
    stream: rollout.Stream
    key: jax.Array  # uint32[2]
    steps: jax.Array  # int32[]

    @property
    def weights(self) -> Any:
        """The network's arrays."""
        return self.learner.weights


class _Setup(NamedTuple):
    """What stays the same during training."""

    config: DQNConfig
    env: Environment
    params: Any
    static: Any  # ``equinox.combine(weights, static)`` is the network
    optimizer: optax.GradientTransformation
    buffer: TrajectoryBuffer


def make_train(config: DQNConfig, environment: tuple[Environment, Any] | None = None) -> Trainer:
    """Make the functions that train DQN.

    environment: (env, params) to train on instead of the one that config names. Raises ValueError
    for an invalid config.
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
    setup = _Setup(config, env, params, static, optimizer, make_buffer(config))
    steps_per_round = config.steps_per_gradient // config.num_envs  # of each environment
    rounds = config.num_steps // steps_per_round

    def init(key):
        weights_key, stream_key, key = jax.random.split(key, 3)
        weights = make_weights(weights_key)
        network = eqx.combine(weights, static)
        stream = rollout.reset(env, params, network, stream_key, config.num_envs)
        learner = Learner(weights, optimizer.init(weights), weights, jnp.int32(0))
        buffer_state = setup.buffer.init(_example_step(stream))
        state = TrainState(learner, buffer_state, stream, key, jnp.int32(0))
        return _play(setup, state, -(-config.warmup_steps // config.num_envs), epsilon=1.0)[0]

    def one_round(state, _):
        state, transitions = _play(setup, state, steps_per_round, epsilon(state.steps))
        key, sample_key = jax.random.split(state.key)
        with jax.numpy_rank_promotion("allow"):  # flashbax relies on it
            sequences = setup.buffer.sample(state.buffer, sample_key).experience
        learner, metrics = _learn(setup, state.learner, _swap_time_and_batch(sequences))
        return state._replace(learner=learner, key=key), (transitions, metrics)

    def update(state):
        state, (transitions, metrics) = jax.lax.scan(one_round, state, length=rounds)
        episodes = rollout.episode_metrics(transitions)
        means = jax.tree.map(jnp.mean, metrics)
        return state, {**episodes, **means, "epsilon": epsilon(state.steps)}

    steps_per_update = rounds * steps_per_round * config.num_envs
    return make_trainer("dqn", config, init, update, greedy, static, steps_per_update)


def _play(
    setup: _Setup, state: TrainState, num_steps: int, epsilon: ArrayLike
) -> tuple[TrainState, rollout.Transition]:
    """Collect steps and add them to the buffer."""
    key, collect_key = jax.random.split(state.key)
    network = eqx.combine(state.weights, setup.static)
    explore = functools.partial(epsilon_greedy, epsilon=epsilon)
    stream, transitions = rollout.collect(
        setup.env, setup.params, explore, network, state.stream, collect_key, num_steps
    )
    new_steps = _swap_time_and_batch(replay_steps(transitions))
    buffer_state = setup.buffer.add(state.buffer, new_steps)
    steps = state.steps + num_steps * setup.config.num_envs
    return state._replace(buffer=buffer_state, stream=stream, key=key, steps=steps), transitions


def _learn(
    setup: _Setup, learner: Learner, sequences: ReplayStep
) -> tuple[Learner, dict[str, jax.Array]]:
    """Take a gradient step on replayed sequences, [T, batch_size, ...]: (Learner, metrics)."""
    config = setup.config
    loss_of_weights = functools.partial(
        loss,
        target=learner.target,
        static=setup.static,
        inputs=render_inputs(setup.env, setup.params, sequences),
        sequences=sequences,
        config=config,
    )
    weights, optimizer_state, metrics = gradient_step(
        loss_of_weights, setup.optimizer, config.learning_rate, learner.weights, learner.optimizer
    )
    gradient_steps = learner.gradient_steps + 1
    target = update_target(learner.target, weights, gradient_steps, config.target_period)
    return Learner(weights, optimizer_state, target, gradient_steps), metrics


def _swap_time_and_batch(tree: Any) -> Any:
    """Swap the two leading axes of all leaves: [T, N] in rollouts, [N, T] in the buffer."""
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), tree)


def check_buffer(config: DQNConfig) -> None:
    """Raise ValueError unless the numbers of steps fit together.

    The message names the value, what is allowed and the nearest valid choice.
    """
    num_envs, steps_per_gradient = config.num_envs, config.steps_per_gradient
    spaces.check_multiple("steps_per_gradient", steps_per_gradient, "num_envs", num_envs)
    spaces.check_multiple(
        "num_steps",
        config.num_steps,
        "steps_per_gradient / num_envs",
        steps_per_gradient // num_envs,
    )
    spaces.check_range(
        "warmup_steps",
        config.warmup_steps,
        num_envs * sequence_steps(config),
        hint=", num_envs * (burn_in + sequence_length + 1)",
    )
    for name in ("warmup_steps", "steps_per_gradient"):
        least = getattr(config, name)
        spaces.check_range("buffer_steps", config.buffer_steps, least, hint=f", {name}")


def sequence_steps(config: DQNConfig) -> int:
    """Return the length of a replayed sequence, including the frame after its last step."""
    return config.burn_in + config.sequence_length + 1


def make_buffer(config: DQNConfig) -> TrajectoryBuffer:
    """Make a replay buffer of sequences, by flashbax."""
    return flashbax.make_trajectory_buffer(
        add_batch_size=config.num_envs,
        sample_batch_size=config.batch_size,
        sample_sequence_length=sequence_steps(config),
        period=1,
        min_length_time_axis=sequence_steps(config),
        max_length_time_axis=-(-config.buffer_steps // config.num_envs),
    )


def replay_steps(transitions: rollout.Transition) -> ReplayStep:
    """Return what the buffer stores of transitions."""
    return ReplayStep(*(getattr(transitions, name) for name in ReplayStep._fields))


def _example_step(stream: rollout.Stream) -> ReplayStep:
    """One step, from which the buffer takes shapes and dtypes."""
    flag, action = jnp.bool_(False), jnp.int32(0)
    return ReplayStep(
        env_state=jax.tree.map(lambda leaf: leaf[0], stream.env_state),
        last_action=action,
        start=flag,
        ended=flag,
        action=action,
        reward=jnp.float32(0),
        terminated=flag,
    )


def render_inputs(env: Environment, params: Any, sequences: ReplayStep) -> rollout.Inputs:
    """Render the frames of sequences: Inputs [T, batch_size, ...].

    sequences: [T, batch_size, ...].
    """
    draw = jax.vmap(jax.vmap(env.render, in_axes=(0, None)), in_axes=(0, None))
    return rollout.Inputs(draw(sequences.env_state, params), sequences.last_action, sequences.start)


def update_target(target: Any, weights: Any, gradient_steps: jax.Array, period: int) -> Any:
    """Copy the network's arrays to the target network every period gradient steps."""
    return jax.tree.map(
        lambda old, new: jnp.where(gradient_steps % period == 0, new, old), target, weights
    )


def loss(
    weights: Any,
    target: Any,
    static: Any,
    inputs: rollout.Inputs,
    sequences: ReplayStep,
    config: DQNConfig,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Half the mean squared temporal-difference error: (float32[], metrics).

    It bootstraps from the target network's best action and leaves out the burn-in. target: the
    target network's arrays. inputs, sequences: [T, batch_size, ...].
    """
    values, target_values = (
        rollout.unroll(network, rollout.initial_carry(network, config.batch_size), inputs)
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
