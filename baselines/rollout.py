"""Playing: a stream of frames for each environment, what the agent does in it, and what the
algorithms learn from it.

A stream shows every frame of every episode, the last ones too: the step after an episode's last
frame ignores the action, pays nothing, and begins the next episode (Gymnasium calls this resetting
on the next step). So the value of the last frame, which a truncated episode bootstraps from, is
computed like that of any other frame, by the same pass of the network and with the memory of its
episode; only the transition away from it, which is marked ``ended``, must be left out of what is
learned.
"""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

import popgym_arcade
from popgym_arcade.registry import NO_ACTION


class Stream(NamedTuple):
    """Where environments and the agent's memory of them stand. All leaves have a leading axis
    [num_envs]."""

    env_state: Any
    observation: jax.Array  # uint8[num_envs, S, S, 3]
    last_action: (
        jax.Array
    )  # int32[num_envs]: the one before the observation; NO_ACTION at the start of an episode
    start: jax.Array  # bool[num_envs]: the observation is the first of an episode
    ended: jax.Array  # bool[num_envs]: the observation is the last of an episode
    carry: Any  # what the network remembers from before the observation
    episode_return: jax.Array  # float32[num_envs]: of the episode so far
    episode_length: jax.Array  # int32[num_envs]: actions so far


class Transition(NamedTuple):
    """What happened in steps of environments. All leaves have leading axes [num_steps,
    num_envs]."""

    env_state: Any  # that the observation shows
    observation: jax.Array  # uint8[..., S, S, 3]
    last_action: jax.Array  # int32
    start: jax.Array  # bool
    ended: (
        jax.Array
    )  # bool: the observation is the last of an episode, so action and reward mean nothing
    action: jax.Array  # int32
    reward: jax.Array  # float32
    terminated: jax.Array  # bool: the action brought the game to its own end
    finished: jax.Array  # bool: the action ended the episode
    episode_return: jax.Array  # float32: of the episode up to here, this reward included
    episode_length: jax.Array  # int32: its actions up to here
    extras: Any  # what the algorithm wants to remember of its choice


class Inputs(NamedTuple):
    """What a network reads. All leaves have leading axes [T, num_envs]."""

    observation: jax.Array  # uint8[..., S, S, 3]
    last_action: jax.Array  # int32
    start: jax.Array  # bool


class Batch(NamedTuple):
    """Streams to learn from."""

    carry: Any  # [num_envs, ...]: what the network remembered before the first step
    transitions: Transition  # [num_steps, num_envs, ...]
    last: Stream  # [num_envs, ...]: after the last step


def make_environment(config):
    """The environment that a config names: (env, params)."""
    return popgym_arcade.make(config.env, config.partial, config.obs_size)


def partition(make_network):
    """Take a network apart into what is trained and the rest: (init, static).

    make_network: (key) -> network. init: (key) -> its floating-point arrays. ``eqx.combine(arrays,
    static)`` is the network.
    """
    shapes = eqx.filter_eval_shape(make_network, jax.random.PRNGKey(0))
    static = jax.tree.map(lambda leaf: None if _is_float(leaf) else leaf, shapes)
    return lambda key: eqx.filter(make_network(key), eqx.is_inexact_array), static


def _is_float(leaf):
    """Whether a leaf is an array of floats, or the shape of one."""
    return isinstance(leaf, jax.ShapeDtypeStruct) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def reset(env, params, network, key, num_envs):
    """The first frames of environments: Stream."""
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


def initial_carry(network, num_envs):
    """What the network remembers before anything, for many environments: a tree with a leading axis
    [num_envs]."""
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (num_envs, *jnp.shape(leaf))),
        network.initialize_carry(),
    )


def apply(network, stream):
    """Let the network read the current frames: (carry, outputs), both [num_envs, ...]."""
    one_step = network.encode(stream.observation), stream.last_action, stream.start
    carry, outputs = jax.vmap(network.decide)(
        stream.carry, *jax.tree.map(lambda leaf: leaf[:, None], one_step)
    )
    return carry, jax.tree.map(lambda leaf: leaf[:, 0], outputs)


def network_inputs(batch):
    """All frames of a batch, those after the last step too: Frames [num_steps + 1, num_envs,
    ...]."""
    return Inputs(
        *(
            jnp.concatenate([getattr(batch.transitions, name), getattr(batch.last, name)[None]])
            for name in ("observation", "last_action", "start")
        )
    )


def unroll(network, carry, frames):
    """Let the network read streams: outputs [T, num_envs, ...]. carry: [num_envs, ...]. frames:
    Frames [T, num_envs, ...]."""
    decide = jax.vmap(network.decide, in_axes=(0, 1, 1, 1), out_axes=(0, 1))
    return decide(carry, network.encode(frames.observation), frames.last_action, frames.start)[1]


def step(env, params, key, stream, carry, action, extras=None):
    """One step of every environment: (Stream, Transition [num_envs, ...]).

    carry: what the network remembers once it has seen the current frame. action: int32[num_envs].
    """
    keys = jax.random.split(key, stream.ended.shape[0])
    play = jax.vmap(functools.partial(_step_or_reset, env, params))
    env_state, observation, reward, terminated, done = play(
        keys, stream.env_state, stream.ended, action
    )
    episode_return, episode_length = (
        stream.episode_return + reward,
        stream.episode_length + ~stream.ended,
    )
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
    begun = stream.ended
    stream = Stream(
        env_state=env_state,
        observation=observation,
        last_action=jnp.where(begun, NO_ACTION, action),
        start=begun,
        ended=done,
        carry=carry,
        episode_return=jnp.where(begun, 0.0, episode_return),
        episode_length=jnp.where(begun, 0, episode_length),
    )
    return stream, transition


def _step_or_reset(env, params, key, env_state, ended, action):
    """One step of one environment, or the reset: (state, observation, reward, terminated, done).
    Only one frame is drawn."""
    step_key, reset_key = jax.random.split(key)
    _, stepped, reward, done, info = env.step_env(step_key, env_state, action, params)
    _, begun = env.reset(reset_key, params)
    env_state = jax.tree.map(lambda first, next_: jnp.where(ended, first, next_), begun, stepped)
    reward = jnp.where(ended, 0.0, reward)
    return (
        env_state,
        env.render(env_state, params),
        reward,
        info["terminated"] & ~ended,
        done & ~ended,
    )


def collect(env, params, act, network, stream, key, num_steps):
    """Play num_steps of every environment: (Stream, Transition [num_steps, num_envs, ...]).

    act: (outputs of the network, key) -> (actions int32[num_envs], extras).
    """

    def one_step(stream, key):
        act_key, step_key = jax.random.split(key)
        carry, outputs = apply(network, stream)
        action, extras = act(outputs, act_key)
        return step(env, params, step_key, stream, carry, action, extras)

    return jax.lax.scan(one_step, stream, jax.random.split(key, num_steps))


def lambda_returns(reward, value, terminated, ended, discount, trace_decay):
    r"""The lambda-return from each step: float32[T, ...].

    reward, terminated, ended: [T, ...] of the transitions. value: float32[T + 1, ...] of the
    frames, the one after the last too.

    G_t = r_t + discount (1 - terminated_t) ((1 - lambda) V_{t+1} + lambda G_{t+1}), and G_t = V_t
    where frame t is the last of an episode. So a terminated episode bootstraps from nothing and a
    truncated one from the value of its last frame. G - V is the generalised advantage estimate.
    Sources: Sutton and Barto (2018), section 12.1; Schulman et al. (2016), "High-Dimensional
    Continuous Control Using Generalized Advantage Estimation"; Gallici et al. (2024),
    arXiv:2407.04811.
    """

    def one_step(next_return, step):
        reward, value, next_value, terminated, ended = step
        ahead = (1 - trace_decay) * next_value + trace_decay * next_return
        here = jnp.where(ended, value, reward + discount * jnp.where(terminated, 0.0, ahead))
        return here, here

    steps = (reward, value[:-1], value[1:], terminated, ended)
    return jax.lax.scan(one_step, value[-1], steps, reverse=True)[1]


def masked_mean(values, mask):
    """The mean of values where a mask is true; 0 where it is nowhere."""
    return jnp.sum(values * mask) / jnp.maximum(1, jnp.sum(mask))


def train_on_minibatches(learn, learner, batch, key, num_epochs, num_minibatches):
    """Learn from a batch several times, some environments at a time, in a new order each time:
    (learner, mean metrics).

    learn: (learner, Batch of some environments) -> (learner, metrics). learner: any tree.
    """
    num_envs = batch.last.ended.shape[0]

    def one_minibatch(learner, chosen):
        some = Batch(
            carry=jax.tree.map(lambda leaf: leaf[chosen], batch.carry),
            transitions=jax.tree.map(lambda leaf: leaf[:, chosen], batch.transitions),
            last=jax.tree.map(lambda leaf: leaf[chosen], batch.last),
        )
        return learn(learner, some)

    orders = jax.vmap(lambda key: jax.random.permutation(key, num_envs))(
        jax.random.split(key, num_epochs)
    )
    learner, metrics = jax.lax.scan(
        one_minibatch, learner, orders.reshape(num_epochs * num_minibatches, -1)
    )
    return learner, jax.tree.map(jnp.mean, metrics)


def episode_metrics(transitions):
    """The episodes that ended in transitions [...]: how many, and their mean return and length, NaN
    if there are none."""
    count = transitions.finished.sum()
    mean = lambda values: jnp.where(count > 0, masked_mean(values, transitions.finished), jnp.nan)  # noqa: E731
    return {
        "episodes": count,
        "return_mean": mean(transitions.episode_return),
        "length_mean": mean(transitions.episode_length),
    }


def play_episodes(env, params, act, network, key, num_episodes):
    """Play one episode in each of num_episodes environments: (returns float32[num_episodes],
    lengths int32[num_episodes]).

    act: as in ``collect``.
    """
    begin_key, key = jax.random.split(key)
    nothing = (
        jnp.zeros(num_episodes, jnp.float32),
        jnp.zeros(num_episodes, jnp.int32),
        jnp.zeros(num_episodes, bool),
    )

    def one_step(loop):
        stream, (returns, lengths, over), key = loop
        key, act_key, step_key = jax.random.split(key, 3)
        carry, outputs = apply(network, stream)
        action, _ = act(outputs, act_key)
        stream, transition = step(env, params, step_key, stream, carry, action)
        first = transition.finished & ~over
        returns = jnp.where(first, transition.episode_return, returns)
        lengths = jnp.where(first, transition.episode_length, lengths)
        return stream, (returns, lengths, over | first), key

    start = reset(env, params, network, begin_key, num_episodes), nothing, key
    _, (returns, lengths, _), _ = jax.lax.while_loop(
        lambda loop: ~loop[1][2].all(), one_step, start
    )
    return returns, lengths
