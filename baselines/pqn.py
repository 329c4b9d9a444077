"""PQN: Q-learning with lambda-returns on fresh rollouts, without a replay buffer and without a
target network.

Gallici et al. (2024), "Simplifying Deep Temporal Difference Learning", arXiv:2407.04811: algorithm
1, in its form for recurrent networks, where the targets come from the same pass over the sequence
as the values.

Deviations:

* The memory goes on from one rollout to the next instead of being warmed up on steps of the rollout
  before.
* A minibatch is all steps of some environments, with and without memory.
* A truncated episode bootstraps from the value of its last frame.
* Rewards are not scaled: they are small by the rules of the games.
"""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from popgym_arcade.baselines import rollout
from popgym_arcade.baselines.config import Config, check, with_defaults
from popgym_arcade.baselines.model.builder import network_of
from popgym_arcade.baselines.trainer import Trainer, TrainState, gradient_step, init_state


@dataclasses.dataclass(frozen=True, kw_only=True)
class PQNConfig(Config):
    """Q-learning with lambda-returns, without replay and target network."""

    num_epochs: int = 4
    """How often each rollout is learned from."""
    num_minibatches: int = 16
    """Parts that a rollout is learned from in; each has all steps of some environments."""
    learning_rate: float = 5e-5
    """Of RAdam, at first."""
    final_learning_rate: float = 5e-7
    """At the end; linear between."""
    trace_decay: float = 0.95
    """Lambda of the returns."""
    first_epsilon: float = 1.0
    """Share of random actions at first."""
    final_epsilon: float = 0.05
    """Share of random actions after epsilon_steps; linear between."""
    epsilon_steps: int = 500_000
    """Steps over which the share falls: a quarter of 2,000,000."""


FAST = {
    "num_envs": 2048,
    "num_steps": 32,
    "num_epochs": 2,
    "num_minibatches": 16,
    "learning_rate": 2.5e-4,
    "final_learning_rate": 2.5e-6,
    "epsilon_steps": 2_000_000,
}
"""What is different for one modern GPU."""


def make_train(config, environment=None):
    """PQN on an environment: Trainer.

    config: PQNConfig. environment: (env, params) to train on instead of the one that config names.
    Raises ValueError for a config that makes no sense.
    """
    check(config, environment)
    config = with_defaults(config)
    env, params = environment or rollout.make_environment(config)
    make_weights, static = rollout.partition(network_of("pqn", dataclasses.asdict(config)))
    rollout_steps = config.num_envs * config.num_steps
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.max_gradient_norm), optax.scale_by_radam()
    )
    learning_rate = optax.linear_schedule(
        config.learning_rate, config.final_learning_rate, config.total_steps
    )
    epsilon = optax.linear_schedule(
        config.first_epsilon, config.final_epsilon, config.epsilon_steps
    )

    def learn(learner, batch, rate):
        *learner, metrics = gradient_step(
            lambda weights: loss(weights, static, batch, config), optimizer, rate, *learner
        )
        return tuple(learner), metrics

    def update(state):
        key, collect_key, order_key = jax.random.split(state.key, 3)
        rates = {"epsilon": epsilon(state.steps), "learning_rate": learning_rate(state.steps)}
        explore = functools.partial(epsilon_greedy, epsilon=rates["epsilon"])
        network = eqx.combine(state.weights, static)
        stream, transitions = rollout.collect(
            env, params, explore, network, state.stream, collect_key, config.num_steps
        )
        batch = rollout.Batch(state.stream.carry, transitions, stream)
        learner, metrics = rollout.train_on_minibatches(
            functools.partial(learn, rate=rates["learning_rate"]),
            (state.weights, state.optimizer),
            batch,
            order_key,
            config.num_epochs,
            config.num_minibatches,
        )
        episodes = rollout.episode_metrics(transitions)
        state = TrainState(*learner, stream, key, state.steps + rollout_steps)
        return state, {**episodes, **metrics, **rates}

    init = functools.partial(
        init_state, make_weights, static, optimizer, env, params, config.num_envs
    )
    return Trainer("pqn", config, init, update, greedy, static, rollout_steps)


def epsilon_greedy(values, key, epsilon):
    """The best actions, or with probability epsilon any: (int32[num_envs], None). values:
    float32[num_envs, 5].
    """
    explore_key, action_key = jax.random.split(key)
    anything = jax.random.randint(action_key, values.shape[:1], 0, values.shape[1])
    explores = jax.random.bernoulli(explore_key, epsilon, values.shape[:1])
    return jnp.where(explores, anything, values.argmax(axis=-1)), None


def greedy(values, key):
    """The best actions: (int32[num_envs], None). How the agent is evaluated."""
    return values.argmax(axis=-1), None


def loss(weights, static, batch, config):
    """Half the squared distance of the chosen actions' values from their lambda-returns:
    (float32[], metrics).
    """
    values = rollout.unroll(
        eqx.combine(weights, static), batch.carry, rollout.network_inputs(batch)
    )
    targets = lambda_targets(jax.lax.stop_gradient(values), batch.transitions, config)
    chosen = jnp.take_along_axis(values[:-1], batch.transitions.action[..., None], axis=-1)[..., 0]
    mask = ~batch.transitions.ended
    return rollout.masked_mean(jnp.square(chosen - targets) / 2, mask), {
        "value_mean": rollout.masked_mean(chosen, mask)
    }


def lambda_targets(values, transitions, config):
    """The lambda-return of each step, with the best action's value as the value of a frame:
    float32[num_steps, num_envs].
    """
    return rollout.lambda_returns(
        transitions.reward,
        values.max(axis=-1),
        transitions.terminated,
        transitions.ended,
        config.discount,
        config.trace_decay,
    )
