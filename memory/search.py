"""Search for the best policy that knows only the present frame.

Both searches follow the policy gradient with Monte Carlo returns (REINFORCE; Williams, 1992). The
return from a step onwards is compared with its mean over all steps at which the frame had the same
key, an entropy bonus that falls to zero keeps the policy from settling early, and Adam takes the
steps. Nothing is drawn: a policy gets the key, or the features, of what a frame shows.

* ``table``: a softmax policy with its own logits for every key.
* ``network``: a softmax policy from a small network over features, for games whose frames are too
  many for a table. It takes several clipped steps per batch of episodes (PPO; Schulman et al.,
  2017).

A search finds a lower bound on what a memoryless policy can earn.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from popgym_arcade.memory.player import Player, Policy, memoryless_policy
from popgym_arcade.registry import NUM_ACTIONS, Entry

__all__ = ["Settings", "network", "network_policy", "table", "table_policy"]


class Settings(NamedTuple):
    """How long and how a search looks."""

    iterations: int = 400
    episodes: int = 1024  # per iteration
    learning_rate: float = 0.1
    entropy: float = 0.1  # initial weight of the entropy, whose advantages have variance 1
    # of the network:
    width: int = 64
    samples: int = 1 << 16  # steps per iteration that it learns from
    passes: int = 4  # gradient steps per iteration
    network_learning_rate: float = 0.002


class Batch(NamedTuple):
    """Whole episodes, with leaves [steps, episodes]."""

    shown: Any
    key: jax.Array  # int32
    action: jax.Array  # int32
    reward: jax.Array  # float32, 0 after the end
    valid: jax.Array  # bool: before the end


def collect(
    entry: Entry,
    player: Player,
    choose: Callable[..., jax.Array],
    key: jax.Array,
    params: Any,
    limit: int,
    episodes: int,
) -> Batch:
    """Play whole episodes. choose: (key, shown, params) -> action. limit: their greatest length."""
    start_key, key = jax.random.split(key)
    _, states = jax.vmap(entry.reset, in_axes=(0, None))(
        jax.random.split(start_key, episodes), params
    )

    def one_step(key, state):
        act_key, step_key = jax.random.split(key)
        shown = player.shown(state, params)
        action = choose(act_key, shown, params).astype(jnp.int32)
        _, state, reward, done, _ = entry.step(step_key, state, action, params)
        return state, done, Batch(shown, player.key(shown, params), action, reward, ~done)

    shapes = jax.eval_shape(jax.vmap(one_step), jax.random.split(key, episodes), states)[2]
    batch = jax.tree.map(lambda leaf: jnp.zeros((limit, *leaf.shape), leaf.dtype), shapes)

    def body(loop):
        time, states, over, batch = loop
        keys = jax.random.split(jax.random.fold_in(key, time), episodes)
        states, done, step = jax.vmap(one_step)(keys, states)
        step = step._replace(valid=~over, reward=jnp.where(over, 0, step.reward))
        batch = jax.tree.map(lambda leaf, new: leaf.at[time].set(new), batch, step)
        return time + 1, states, over | done, batch

    loop = (jnp.int32(0), states, jnp.zeros(episodes, bool), batch)
    return jax.lax.while_loop(lambda loop: ~jnp.all(loop[2]), body, loop)[3]


def advantages(batch: Batch, num_keys: int) -> jax.Array:
    """How much more than expected each step brought, in standard deviations: [steps, episodes].

    That is the return from the step onwards, minus its mean at the same key, minus what a linear
    fit makes of the step's time and of the rewards so far. A policy knows neither of these, but a
    baseline may: it only takes noise away.
    """
    past = jnp.cumsum(batch.reward, axis=0)
    to_go = past[-1] - past + batch.reward
    past = past - batch.reward
    time = jnp.linspace(0, 1, len(past))[:, None] + jnp.zeros_like(past)
    keys, valid = batch.key.ravel(), batch.valid.ravel().astype(jnp.float32)
    count = jnp.maximum(_sum_by(keys, valid, num_keys), 1)

    def unlike_its_key(values):
        values = values.ravel() * valid
        return (values - (_sum_by(keys, values, num_keys) / count)[keys]) * valid

    target, *known = map(
        unlike_its_key, (to_go, time, time**2, past, past**2, past * time, past * time**2)
    )
    known = jnp.stack(known)
    known = known / (jnp.sqrt(jnp.sum(known**2, axis=1, keepdims=True)) + 1e-6)
    weights = jnp.linalg.solve(known @ known.T + 1e-3 * jnp.eye(len(known)), known @ target)
    advantage = target - weights @ known
    advantage = advantage / (jnp.sqrt(jnp.sum(advantage**2) / jnp.sum(valid)) + 1e-6)
    return advantage.reshape(batch.valid.shape)


def _sum_by(keys: jax.Array, values: jax.Array, num_keys: int) -> jax.Array:
    return jnp.zeros(num_keys).at[keys].add(values.ravel())


# --- a table -------------------------------------------------------------------------------------


def table_policy(player: Player, logits: jax.Array, *, greedy: bool) -> Policy:
    """The policy of a table of logits, float32[num_keys, 5]."""

    def choose(key, shown, params):
        row = logits[player.key(shown, params)]
        return jnp.argmax(row) if greedy else jax.random.categorical(key, row)

    return memoryless_policy(player, choose)


def table(entry: Entry, params: Any, player: Player, settings: Settings, seed: int = 0):
    """Search with a table: (logits float32[num_keys, 5], mean returns float32[iterations])."""
    num_keys = player.num_keys(params)
    optimizer = optax.adam(settings.learning_rate)
    limit = int(params.max_steps_in_episode)

    @jax.jit
    def iterate(carry, number, params):
        logits, moments, best, best_mean = carry
        batch = collect(
            entry,
            player,
            lambda key, shown, params: jax.random.categorical(
                key, logits[player.key(shown, params)]
            ),
            jax.random.fold_in(jax.random.key(seed), number),
            params,
            limit,
            settings.episodes,
        )
        mean = jnp.sum(batch.reward) / settings.episodes
        better = mean > best_mean
        best = jnp.where(better, logits, best)
        progress = number / settings.iterations
        gradient = _table_gradient(
            logits, batch, advantages(batch, num_keys), settings.entropy * (1 - progress)
        )
        updates, moments = optimizer.update(gradient, moments)
        return (logits + updates, moments, best, jnp.maximum(mean, best_mean)), mean

    logits = jnp.zeros((num_keys, NUM_ACTIONS))
    carry, means = (logits, optimizer.init(logits), logits, jnp.float32(-jnp.inf)), []
    for number in range(settings.iterations):
        carry, mean = iterate(carry, number, params)
        means.append(mean)
    return carry, jnp.stack(means)


def _table_gradient(logits, batch, advantage, entropy):
    """The gradient of minus (advantage times log-probability, plus entropy), by steps."""
    num_keys, steps = len(logits), jnp.sum(batch.valid)
    log_policy = jax.nn.log_softmax(logits)
    policy = jnp.exp(log_policy)
    taken = _sum_by(
        (batch.key * NUM_ACTIONS + batch.action).ravel(), advantage, num_keys * NUM_ACTIONS
    ).reshape(num_keys, NUM_ACTIONS)
    gain = taken - policy * jnp.sum(taken, axis=1, keepdims=True)
    visits = _sum_by(batch.key.ravel(), batch.valid.astype(jnp.float32), num_keys)
    doubt = -jnp.sum(policy * log_policy, axis=1, keepdims=True)
    spread = -policy * (log_policy + doubt) * visits[:, None]
    return -(gain + entropy * spread) / steps


# --- a network -----------------------------------------------------------------------------------


def network_policy(player: Player, weights: Any, *, greedy: bool) -> Policy:
    """The policy of a network's weights."""

    def choose(key, shown, params):
        row = _logits(weights, _features(player, shown, params))
        return jnp.argmax(row) if greedy else jax.random.categorical(key, row)

    return memoryless_policy(player, choose)


def _features(player: Player, shown: Any, params: Any) -> jax.Array:
    if player.features is None:
        raise ValueError("this game has no features: search with a table")
    return player.features(shown, params)


def _init(key: jax.Array, sizes: tuple[int, ...]) -> list[tuple[jax.Array, jax.Array]]:
    """Weights of a multilayer perceptron; the last layer begins at zero: a uniform policy."""
    keys = jax.random.split(key, len(sizes) - 1)
    layers = [
        (jax.random.normal(key, (inputs, outputs)) / jnp.sqrt(inputs), jnp.zeros(outputs))
        for key, inputs, outputs in zip(keys, sizes, sizes[1:])
    ]
    return [*layers[:-1], jax.tree.map(jnp.zeros_like, layers[-1])]


def _logits(weights: Any, features: jax.Array) -> jax.Array:
    *hidden, (matrix, bias) = weights
    for inner, offset in hidden:
        features = jnp.tanh(features @ inner + offset)
    return features @ matrix + bias


def network(entry: Entry, params: Any, player: Player, settings: Settings, seed: int = 0):
    """Search with a network: (weights, mean returns float32[iterations])."""
    num_keys, limit = player.num_keys(params), int(params.max_steps_in_episode)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(settings.network_learning_rate)
    )

    def surrogate(weights, features, action, advantage, old, entropy):
        log_policy = jax.nn.log_softmax(_logits(weights, features))
        taken = jnp.take_along_axis(log_policy, action[:, None], axis=1)[:, 0]
        ratio = jnp.exp(taken - old)
        gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 0.8, 1.2) * advantage)
        doubt = -jnp.sum(jnp.exp(log_policy) * log_policy, axis=1)
        return -jnp.mean(gain + entropy * doubt)

    @jax.jit
    def iterate(carry, number, params):
        weights, moments, best, best_mean = carry
        play_key, sample_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), number))
        batch = collect(
            entry,
            player,
            lambda key, shown, params: jax.random.categorical(
                key, _logits(weights, _features(player, shown, params))
            ),
            play_key,
            params,
            limit,
            settings.episodes,
        )
        mean = jnp.sum(batch.reward) / settings.episodes
        better = mean > best_mean
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), weights, best)
        entropy = settings.entropy * (1 - number / settings.iterations)
        advantage = advantages(batch, num_keys)

        # A sample of the steps before the ends of their episodes.
        upto = jnp.cumsum(batch.valid.ravel())
        picks = jax.random.randint(sample_key, (settings.samples,), 0, upto[-1])
        chosen = jnp.searchsorted(upto, picks, side="right")
        shown, action, advantage = jax.tree.map(
            lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[chosen],
            (batch.shown, batch.action, advantage),
        )
        features = jax.vmap(lambda shown: _features(player, shown, params))(shown)
        old = jnp.take_along_axis(
            jax.nn.log_softmax(_logits(weights, features)), action[:, None], axis=1
        )[:, 0]
        for part in range(settings.passes):
            part = slice(part, None, settings.passes)
            gradient = jax.grad(surrogate)(
                weights, features[part], action[part], advantage[part], old[part], entropy
            )
            updates, moments = optimizer.update(gradient, moments, weights)
            weights = optax.apply_updates(weights, updates)
        return (weights, moments, best, jnp.maximum(mean, best_mean)), mean

    size = jax.eval_shape(
        lambda key: _features(player, player.shown(entry.reset(key, params)[1], params), params),
        jax.random.key(0),
    ).size
    weights = _init(jax.random.key(seed), (size, settings.width, settings.width, NUM_ACTIONS))
    carry, means = (weights, optimizer.init(weights), weights, jnp.float32(-jnp.inf)), []
    for number in range(settings.iterations):
        carry, mean = iterate(carry, number, params)
        means.append(mean)
    return carry, jnp.stack(means)
