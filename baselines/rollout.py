"""Rollouts: step environments with an agent, and prepare what the algorithms learn from.

A stream of frames contains every frame of every episode, including the last. The step after an
episode's last frame ignores the action, has reward 0 and begins the next episode (Gymnasium calls
this next-step autoreset). So the value of the last frame, from which a truncated episode
bootstraps, is computed like any other: in the same forward pass and with the memory of its own
episode. The transition away from that frame, marked ``ended``, must be masked out of every loss.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from popgym_arcade.baselines.config import make_environment
from popgym_arcade.baselines.model.builder import Network
from popgym_arcade.baselines.precision import in_32_bits
from popgym_arcade.registry import NO_ACTION
from popgym_arcade.wrappers import Environment

__all__ = [
    "Act",
    "Batch",
    "Episodes",
    "Inputs",
    "Stream",
    "Transition",
    "advance_episodes",
    "apply",
    "collect",
    "episode_metrics",
    "initial_carry",
    "lambda_returns",
    "make_environment",
    "masked_mean",
    "network_inputs",
    "partition",
    "play_episodes",
    "reset",
    "start_episodes",
    "step",
    "train_on_minibatches",
    "unroll",
]

Act = Callable[[Any, jax.Array], tuple[jax.Array, Any]]
"""How an agent acts: (network outputs, key) -> (actions int32[num_envs], extras)."""


class Stream(NamedTuple):
    """The state of parallel environments and of the agent's memory.

    All leaves have a leading axis [num_envs].
    """

    env_state: Any
    observation: jax.Array  # uint8[num_envs, S, S, 3]
    last_action: jax.Array  # int32[num_envs]: before the observation; NO_ACTION at a start
    start: jax.Array  # bool[num_envs]: the observation is the first of an episode
    ended: jax.Array  # bool[num_envs]: the observation is the last of an episode
    carry: Any  # the network's memory, before it sees the observation
    episode_return: jax.Array  # float32[num_envs]: of the episode so far
    episode_length: jax.Array  # int32[num_envs]: actions in the episode so far


class Transition(NamedTuple):
    """Steps of parallel environments. All leaves have leading axes [num_steps, num_envs]."""

    env_state: Any  # that the observation shows
    observation: jax.Array  # uint8[..., S, S, 3]
    last_action: jax.Array  # int32
    start: jax.Array  # bool
    ended: jax.Array  # bool: last observation of an episode; mask out action and reward
    action: jax.Array  # int32
    reward: jax.Array  # float32
    terminated: jax.Array  # bool: the action terminated the episode
    finished: jax.Array  # bool: the action terminated or truncated the episode
    episode_return: jax.Array  # float32: of the episode so far, including this reward
    episode_length: jax.Array  # int32: actions in the episode so far, including this one
    extras: Any  # what the algorithm stores about its action


class Inputs(NamedTuple):
    """A network's inputs. All leaves have leading axes [T, num_envs]."""

    observation: jax.Array  # uint8[..., S, S, 3]
    last_action: jax.Array  # int32
    start: jax.Array  # bool


class Batch(NamedTuple):
    """A rollout to learn from."""

    carry: Any  # [num_envs, ...]: the network's memory before the first step
    transitions: Transition  # [num_steps, num_envs, ...]
    last: Stream  # [num_envs, ...]: after the last step


# --- networks ------------------------------------------------------------------------------------


def partition(make_network: Callable[[jax.Array], Any]) -> tuple[Callable[[jax.Array], Any], Any]:
    """Split a network into its trainable arrays and everything else: (init, static).

    make_network: (key) -> network. init: (key) -> the network's floating-point arrays.
    ``eqx.combine(arrays, static)`` is the network.
    """
    shapes = eqx.filter_eval_shape(make_network, jax.random.PRNGKey(0))
    static = jax.tree.map(lambda leaf: None if _is_float(leaf) else leaf, shapes)
    return lambda key: eqx.filter(make_network(key), eqx.is_inexact_array), static


def _is_float(leaf: Any) -> bool:
    """Whether a leaf is the shape of a floating-point array."""
    return isinstance(leaf, jax.ShapeDtypeStruct) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def initial_carry(network: Network, num_envs: int) -> Any:
    """Return the initial memory of many environments: a tree with a leading axis [num_envs]."""
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (num_envs, *jnp.shape(leaf))),
        network.initialize_carry(),
    )


def apply(network: Network, stream: Stream) -> tuple[Any, Any]:
    """Apply a network to the current frames: (carry, outputs), both [num_envs, ...]."""
    one_step = network.encode(stream.observation), stream.last_action, stream.start
    carry, outputs = jax.vmap(network.decide)(
        stream.carry, *jax.tree.map(lambda leaf: leaf[:, None], one_step)
    )
    return carry, jax.tree.map(lambda leaf: leaf[:, 0], outputs)


def unroll(network: Network, carry: Any, inputs: Inputs) -> Any:
    """Unroll a network over sequences: outputs [T, num_envs, ...].

    carry: [num_envs, ...]. inputs: [T, num_envs, ...].
    """
    decide = jax.vmap(network.decide, in_axes=(0, 1, 1, 1), out_axes=(0, 1))
    features = network.encode(inputs.observation)
    return decide(carry, features, inputs.last_action, inputs.start)[1]


def network_inputs(batch: Batch) -> Inputs:
    """Return the inputs of all frames, including those after the last step.

    Their leading axes are [num_steps + 1, num_envs].
    """
    return Inputs(
        *(
            jnp.concatenate([getattr(batch.transitions, name), getattr(batch.last, name)[None]])
            for name in Inputs._fields
        )
    )


# --- environments --------------------------------------------------------------------------------


def reset(env: Environment, params: Any, network: Network, key: jax.Array, num_envs: int) -> Stream:
    """Reset num_envs parallel environments."""
    observation, env_state = jax.vmap(env.reset, in_axes=(0, None))(
        jax.random.split(key, num_envs), params
    )
    return Stream(
        env_state=env_state,
        observation=observation,
        last_action=jnp.full(num_envs, NO_ACTION, jnp.int32),
        start=jnp.ones(num_envs, bool),
        ended=jnp.zeros(num_envs, bool),
        carry=initial_carry(network, num_envs),
        episode_return=jnp.zeros(num_envs, jnp.float32),
        episode_length=jnp.zeros(num_envs, jnp.int32),
    )


def step(
    env: Environment,
    params: Any,
    key: jax.Array,
    stream: Stream,
    carry: Any,
    action: jax.Array,
    extras: Any = None,
) -> tuple[Stream, Transition]:
    """Step every environment once: (Stream, Transition [num_envs, ...]).

    carry: the network's memory after it has seen the current frame. action: int32[num_envs].
    """
    keys = jax.random.split(key, stream.ended.shape[0])
    step_all = jax.vmap(functools.partial(_step_or_reset, env, params))
    env_state, observation, reward, terminated, done = step_all(
        keys, stream.env_state, stream.ended, action
    )
    episode_return = stream.episode_return + reward
    episode_length = stream.episode_length + ~stream.ended
    transition = Transition(
        env_state=stream.env_state,
        observation=stream.observation,
        last_action=stream.last_action,
        start=stream.start,
        ended=stream.ended,
        action=action,
        reward=reward,
        terminated=terminated,
        finished=done,
        episode_return=episode_return,
        episode_length=episode_length,
        extras=extras,
    )
    start = stream.ended
    stream = Stream(
        env_state=env_state,
        observation=observation,
        last_action=jnp.where(start, NO_ACTION, action),
        start=start,
        ended=done,
        carry=carry,
        episode_return=jnp.where(start, 0.0, episode_return),
        episode_length=jnp.where(start, 0, episode_length),
    )
    return stream, transition


def _step_or_reset(env, params, key, env_state, ended, action):
    """Step one environment, or reset it if its episode has ended; draw only one frame.

    Returns (state, observation, reward, terminated, done).
    """
    step_key, reset_key = jax.random.split(key)
    _, stepped, reward, done, info = env.step_env(step_key, env_state, action, params)
    _, first = env.reset(reset_key, params)
    env_state = jax.tree.map(lambda first, next_: jnp.where(ended, first, next_), first, stepped)
    reward = jnp.where(ended, 0.0, reward)
    return (
        env_state,
        env.render(env_state, params),
        reward,
        info["terminated"] & ~ended,
        done & ~ended,
    )


def collect(
    env: Environment,
    params: Any,
    act: Act,
    network: Network,
    stream: Stream,
    key: jax.Array,
    num_steps: int,
) -> tuple[Stream, Transition]:
    """Collect num_steps of every environment: (Stream, Transition [num_steps, num_envs, ...])."""

    def one_step(stream, key):
        act_key, step_key = jax.random.split(key)
        carry, outputs = apply(network, stream)
        action, extras = act(outputs, act_key)
        return step(env, params, step_key, stream, carry, action, extras)

    return jax.lax.scan(one_step, stream, jax.random.split(key, num_steps))


class Episodes(NamedTuple):
    """One whole episode in each of many parallel environments, as far as they are played."""

    stream: Stream
    returns: jax.Array  # float32[num_episodes]; 0 until an episode is over
    lengths: jax.Array  # int32[num_episodes]; 0 until an episode is over
    over: jax.Array  # bool[num_episodes]
    key: jax.Array  # of the steps to come


@in_32_bits
def play_episodes(
    env: Environment, params: Any, act: Act, network: Network, key: jax.Array, num_episodes: int
) -> tuple[jax.Array, jax.Array]:
    """Play one whole episode in each of num_episodes parallel environments.

    Returns (returns float32[num_episodes], lengths int32[num_episodes]).
    """
    episodes = start_episodes(env, params, network, key, num_episodes)
    episodes = advance_episodes(env, params, act, network, episodes)
    return episodes.returns, episodes.lengths


@in_32_bits
def start_episodes(
    env: Environment, params: Any, network: Network, key: jax.Array, num_episodes: int
) -> Episodes:
    """Start one episode in each of num_episodes parallel environments."""
    reset_key, key = jax.random.split(key)
    return Episodes(
        stream=reset(env, params, network, reset_key, num_episodes),
        returns=jnp.zeros(num_episodes, jnp.float32),
        lengths=jnp.zeros(num_episodes, jnp.int32),
        over=jnp.zeros(num_episodes, bool),
        key=key,
    )


@in_32_bits
def advance_episodes(
    env: Environment,
    params: Any,
    act: Act,
    network: Network,
    episodes: Episodes,
    max_steps: int | None = None,
) -> Episodes:
    """Play until all episodes are over or, if it is given, for max_steps."""

    def one_step(episodes):
        key, act_key, step_key = jax.random.split(episodes.key, 3)
        carry, outputs = apply(network, episodes.stream)
        action, _ = act(outputs, act_key)
        stream, transition = step(env, params, step_key, episodes.stream, carry, action)
        first = transition.finished & ~episodes.over
        returns = jnp.where(first, transition.episode_return, episodes.returns)
        lengths = jnp.where(first, transition.episode_length, episodes.lengths)
        return Episodes(stream, returns, lengths, episodes.over | first, key)

    def go_on(episodes):
        return ~episodes.over.all()

    if max_steps is None:
        return jax.lax.while_loop(go_on, one_step, episodes)
    return jax.lax.while_loop(
        lambda loop: go_on(loop[0]) & (loop[1] < max_steps),
        lambda loop: (one_step(loop[0]), loop[1] + 1),
        (episodes, jnp.int32(0)),
    )[0]


# --- learning ------------------------------------------------------------------------------------


def lambda_returns(
    reward: jax.Array,
    value: jax.Array,
    terminated: jax.Array,
    ended: jax.Array,
    discount: float,
    trace_decay: float,
) -> jax.Array:
    """Compute the lambda-return of each step: float32[T, ...].

    reward, terminated, ended: [T, ...], fields of transitions. value: float32[T + 1, ...], of their
    frames and of the frame after the last step.

    G_t = r_t + discount (1 - terminated_t) ((1 - lambda) V_{t+1} + lambda G_{t+1}), except that
    G_t = V_t where frame t is the last of an episode. So a terminated episode does not bootstrap,
    and a truncated one bootstraps from the value of its last frame. G - V is the generalized
    advantage estimate. Sources: Sutton and Barto (2018), section 12.1; Schulman et al. (2016),
    "High-Dimensional Continuous Control Using Generalized Advantage Estimation"; Gallici et al.
    (2024), arXiv:2407.04811.
    """

    def one_step(next_return, inputs):
        reward, value, next_value, terminated, ended = inputs
        ahead = (1 - trace_decay) * next_value + trace_decay * next_return
        here = jnp.where(ended, value, reward + discount * jnp.where(terminated, 0.0, ahead))
        return here, here

    inputs = (reward, value[:-1], value[1:], terminated, ended)
    return jax.lax.scan(one_step, value[-1], inputs, reverse=True)[1]


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Average values where mask is true: float32[]; 0 if it is true nowhere."""
    return jnp.sum(values * mask) / jnp.maximum(1, jnp.sum(mask))


def train_on_minibatches(
    learn: Callable[[Any, Batch], tuple[Any, dict[str, jax.Array]]],
    learner: Any,
    batch: Batch,
    key: jax.Array,
    num_epochs: int,
    num_minibatches: int,
) -> tuple[Any, dict[str, jax.Array]]:
    """Make several passes over a batch in minibatches: (learner, mean metrics).

    Each minibatch holds all steps of some environments; every pass shuffles the environments.
    learn: (learner, minibatch) -> (learner, metrics). learner: any tree.
    """
    num_envs = batch.last.ended.shape[0]

    def one_minibatch(learner, envs):
        minibatch = Batch(
            carry=jax.tree.map(lambda leaf: leaf[envs], batch.carry),
            transitions=jax.tree.map(lambda leaf: leaf[:, envs], batch.transitions),
            last=jax.tree.map(lambda leaf: leaf[envs], batch.last),
        )
        return learn(learner, minibatch)

    orders = jax.vmap(lambda key: jax.random.permutation(key, num_envs))(
        jax.random.split(key, num_epochs)
    )
    learner, metrics = jax.lax.scan(
        one_minibatch, learner, orders.reshape(num_epochs * num_minibatches, -1)
    )
    return learner, jax.tree.map(jnp.mean, metrics)


def episode_metrics(transitions: Transition) -> dict[str, jax.Array]:
    """Count the episodes that finished and average their returns and lengths; NaN without any."""
    count = transitions.finished.sum()

    def mean(values):
        return jnp.where(count > 0, masked_mean(values, transitions.finished), jnp.nan)

    return {
        "episodes": count,
        "return_mean": mean(transitions.episode_return),
        "length_mean": mean(transitions.episode_length),
    }
