"""Search for the best policy that knows only the present frame.

Both searches follow the policy gradient with Monte Carlo returns (REINFORCE; Williams, 1992). The
return from a step onwards is compared with its mean over all steps whose frames had the same key,
an entropy bonus that falls to zero keeps the policy from settling early, and Adam takes the
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

__all__ = [
    "NetworkSettings",
    "Progress",
    "Settings",
    "network",
    "network_policy",
    "table",
    "table_policy",
]

Progress = Callable[[int, float], None]
"""Called after every iteration with the number of iterations so far and the mean return."""


class Settings(NamedTuple):
    """How long a search looks, and how."""

    iterations: int = 400
    episodes: int = 256  # played per iteration
    learning_rate: float = 0.1
    entropy: float = 0.01  # initial weight of the entropy bonus; advantages have unit variance


class NetworkSettings(NamedTuple):
    """How long a search with a network looks, and how."""

    iterations: int = 400
    episodes: int = 256  # played per iteration
    learning_rate: float = 0.002
    entropy: float = 0.01  # initial weight of the entropy bonus; advantages have unit variance
    width: int = 64  # units in each of two hidden layers
    samples: int = 1 << 15  # steps that an iteration learns from
    passes: int = 8  # gradient steps per iteration, on equal parts of the samples
    clip: float = 0.2  # by how much the ratio of probabilities may differ from 1


class _Batch(NamedTuple):
    """Whole episodes, with leaves [steps, episodes]."""

    key: jax.Array  # int32
    features: Any  # float32[..., f], or None for a table
    action: jax.Array  # int32
    reward: jax.Array  # float32, 0 after the end
    valid: jax.Array  # bool: before the end


class _Samples(NamedTuple):
    """Steps to learn from, with leaves [samples]."""

    features: jax.Array  # float32[samples, f]
    action: jax.Array  # int32
    advantage: jax.Array  # float32
    log_probability: jax.Array  # float32, of the action, when it was chosen


# --- a table -------------------------------------------------------------------------------------


def table(
    entry: Entry,
    params: Any,
    player: Player,
    settings: Settings,
    seed: int = 0,
    progress: Progress | None = None,
) -> jax.Array:
    """Search with a table: the logits of every key, float32[num_keys, 5].

    entry: the game's functions. params: its Params. player: its Player. progress: see Progress.
    """
    num_keys, limit = player.num_keys(params), int(params.max_steps_in_episode)
    optimizer = optax.adam(settings.learning_rate)

    def iterate(carry, number, params):
        logits, moments = carry

        def choose(key, shown, params):
            return jax.random.categorical(key, logits[player.key(shown, params)])

        batch = _play(entry, player, choose, _key(seed, number), params, limit, settings.episodes)
        gradient = _table_gradient(
            logits, batch, _advantages(batch, num_keys), _annealed_entropy(settings, number)
        )
        updates, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(logits, updates), moments), _mean_return(batch)

    logits = jnp.zeros((num_keys, NUM_ACTIONS))
    return _iterated(iterate, (logits, optimizer.init(logits)), params, settings, progress)[0]


def table_policy(player: Player, logits: jax.Array, *, greedy: bool = False) -> Policy:
    """The policy of a table of logits, float32[num_keys, 5]: sampled, or the likeliest action."""

    def choose(key, shown, params):
        row = logits[player.key(shown, params)]
        return jnp.argmax(row) if greedy else jax.random.categorical(key, row)

    return memoryless_policy(player, choose)


def _table_gradient(
    logits: jax.Array, batch: _Batch, advantage: jax.Array, entropy: jax.Array
) -> jax.Array:
    """The gradient of minus the mean of (advantage * log-probability + entropy bonus)."""
    num_keys = len(logits)
    log_policy = jax.nn.log_softmax(logits)
    policy = jnp.exp(log_policy)
    pairs = (batch.key * NUM_ACTIONS + batch.action).ravel()
    taken = _sum_by(pairs, advantage, num_keys * NUM_ACTIONS).reshape(num_keys, NUM_ACTIONS)
    gain = taken - policy * jnp.sum(taken, axis=1, keepdims=True)
    visits = _sum_by(batch.key.ravel(), batch.valid, num_keys)[:, None]
    uncertainty = -jnp.sum(policy * log_policy, axis=1, keepdims=True)
    spread = -policy * (log_policy + uncertainty) * visits
    return -(gain + entropy * spread) / jnp.sum(batch.valid)


# --- a network -----------------------------------------------------------------------------------


def network(
    entry: Entry,
    params: Any,
    player: Player,
    settings: NetworkSettings,
    seed: int = 0,
    progress: Progress | None = None,
) -> Any:
    """Search with a network: its weights, a list of (matrix, bias).

    Arguments as those of ``table``. Raises ValueError if the player has no features.
    """
    num_keys, limit = player.num_keys(params), int(params.max_steps_in_episode)
    features = _features_of(player)
    weights = _initial_weights(entry, params, player, settings.width, jax.random.key(seed))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(settings.learning_rate))

    def iterate(carry, number, params):
        weights, moments = carry

        def choose(key, shown, params):
            return jax.random.categorical(key, _logits(weights, features(shown, params)))

        play_key, sample_key = jax.random.split(_key(seed, number))
        batch = _play(
            entry, player, choose, play_key, params, limit, settings.episodes, with_features=True
        )
        advantage = _advantages(batch, num_keys)
        samples = _sampled(sample_key, batch, advantage, weights, settings.samples)
        entropy = _annealed_entropy(settings, number)
        for part in range(settings.passes):
            some = jax.tree.map(lambda leaf, part=part: leaf[part :: settings.passes], samples)
            gradient = jax.grad(_clipped_loss)(weights, some, entropy, settings.clip)
            updates, moments = optimizer.update(gradient, moments)
            weights = optax.apply_updates(weights, updates)
        return (weights, moments), _mean_return(batch)

    return _iterated(iterate, (weights, optimizer.init(weights)), params, settings, progress)[0]


def network_policy(player: Player, weights: Any, *, greedy: bool = False) -> Policy:
    """The policy of a network's weights: sampled, or the likeliest action."""
    features = _features_of(player)

    def choose(key, shown, params):
        row = _logits(weights, features(shown, params))
        return jnp.argmax(row) if greedy else jax.random.categorical(key, row)

    return memoryless_policy(player, choose)


def _features_of(player: Player) -> Callable[[Any, Any], jax.Array]:
    """The player's features. Raises ValueError if it has none."""
    if player.features is None:
        raise ValueError("this player has no features, since its keys tell all: search a table")
    return player.features


def _initial_weights(
    entry: Entry, params: Any, player: Player, width: int, key: jax.Array
) -> list[tuple[jax.Array, jax.Array]]:
    """Random weights of two hidden layers; those of the last are zero: a uniform policy."""
    features = jax.eval_shape(
        lambda key: _features_of(player)(player.shown(entry.reset(key, params)[1], params), params),
        key,
    )
    sizes = (features.size, width, width)
    hidden = [
        (jax.random.normal(key, (inputs, outputs)) / jnp.sqrt(inputs), jnp.zeros(outputs))
        for key, inputs, outputs in zip(jax.random.split(key), sizes, sizes[1:])
    ]
    return [*hidden, (jnp.zeros((width, NUM_ACTIONS)), jnp.zeros(NUM_ACTIONS))]


def _logits(weights: Any, features: jax.Array) -> jax.Array:
    """The logits of the actions: float32[..., 5]."""
    *hidden, (matrix, bias) = weights
    for inner, offset in hidden:
        features = jnp.tanh(features @ inner + offset)
    return features @ matrix + bias


def _log_probability(weights: Any, features: jax.Array, action: jax.Array) -> jax.Array:
    """The log-probability of an action: float32[samples]."""
    log_policy = jax.nn.log_softmax(_logits(weights, features))
    return jnp.take_along_axis(log_policy, action[:, None], axis=1)[:, 0]


def _sampled(
    key: jax.Array, batch: _Batch, advantage: jax.Array, weights: Any, count: int
) -> _Samples:
    """Draw steps before the ends of their episodes, with replacement."""
    valid_so_far = jnp.cumsum(batch.valid.ravel())
    chosen = jnp.searchsorted(
        valid_so_far, jax.random.randint(key, (count,), 0, valid_so_far[-1]), side="right"
    )
    features, action, advantage = (
        leaf.reshape(-1, *leaf.shape[2:])[chosen]
        for leaf in (batch.features, batch.action, advantage)
    )
    return _Samples(features, action, advantage, _log_probability(weights, features, action))


def _clipped_loss(weights: Any, samples: _Samples, entropy: jax.Array, clip: float) -> jax.Array:
    """PPO's clipped loss, without a value function: float32[]."""
    log_policy = jax.nn.log_softmax(_logits(weights, samples.features))
    log_probability = jnp.take_along_axis(log_policy, samples.action[:, None], axis=1)[:, 0]
    ratio = jnp.exp(log_probability - samples.log_probability)
    clipped = jnp.clip(ratio, 1 - clip, 1 + clip)
    gain = jnp.minimum(ratio * samples.advantage, clipped * samples.advantage)
    uncertainty = -jnp.sum(jnp.exp(log_policy) * log_policy, axis=1)
    return -jnp.mean(gain + entropy * uncertainty)


# --- both ----------------------------------------------------------------------------------------


def _iterated(
    iterate: Callable[..., tuple[Any, jax.Array]],
    carry: Any,
    params: Any,
    settings: Settings | NetworkSettings,
    progress: Progress | None,
) -> Any:
    """Iterate (carry, number, params) -> (carry, mean return): the last carry."""
    iterate = jax.jit(iterate, donate_argnums=0)
    for number in range(settings.iterations):
        carry, mean = iterate(carry, number, params)
        if progress:
            progress(number + 1, float(mean))
    return carry


def _key(seed: int, number: jax.Array) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed), number)


def _annealed_entropy(settings: Settings | NetworkSettings, number: jax.Array) -> jax.Array:
    return settings.entropy * (1 - number / settings.iterations)


def _mean_return(batch: _Batch) -> jax.Array:
    return jnp.sum(batch.reward) / batch.reward.shape[1]


def _play(
    entry: Entry,
    player: Player,
    choose: Callable[..., jax.Array],
    key: jax.Array,
    params: Any,
    limit: int,
    episodes: int,
    with_features: bool = False,
) -> _Batch:
    """Play whole episodes. choose: (key, shown, params) -> action. limit: their greatest length."""
    start_key, key = jax.random.split(key)
    start_keys = jax.random.split(start_key, episodes)
    _, states = jax.vmap(entry.reset, in_axes=(0, None))(start_keys, params)

    def step(key, state):
        act_key, step_key = jax.random.split(key)
        shown = player.shown(state, params)
        action = choose(act_key, shown, params).astype(jnp.int32)
        _, state, reward, done, _ = entry.step(step_key, state, action, params)
        features = _features_of(player)(shown, params) if with_features else None
        return state, done, _Batch(player.key(shown, params), features, action, reward, ~done)

    shapes = jax.eval_shape(jax.vmap(step), start_keys, states)[2]
    batch = jax.tree.map(lambda leaf: jnp.zeros((limit, *leaf.shape), leaf.dtype), shapes)

    def body(loop):
        time, states, over, batch = loop
        keys = jax.random.split(jax.random.fold_in(key, time), episodes)
        states, done, new = jax.vmap(step)(keys, states)
        new = new._replace(valid=~over, reward=jnp.where(over, 0, new.reward))
        batch = jax.tree.map(lambda leaf, row: leaf.at[time].set(row), batch, new)
        return time + 1, states, over | done, batch

    loop = (jnp.int32(0), states, jnp.zeros(episodes, bool), batch)
    return jax.lax.while_loop(lambda loop: ~jnp.all(loop[2]), body, loop)[3]


def _advantages(batch: _Batch, num_keys: int) -> jax.Array:
    """How much more than expected each step brought, in standard deviations: [steps, episodes].

    That is the return from the step onwards, minus its mean at the same key, minus a linear fit to
    the step's time and the rewards so far. A policy knows neither of these, but a baseline may: it
    only takes noise away.
    """
    past = jnp.cumsum(batch.reward, axis=0)
    to_go = past[-1] - past + batch.reward
    past = past - batch.reward
    time = jnp.linspace(0, 1, len(past))[:, None] + jnp.zeros_like(past)
    keys, valid = batch.key.ravel(), batch.valid.ravel().astype(jnp.float32)
    count = jnp.maximum(_sum_by(keys, valid, num_keys), 1)

    def without_mean_at_key(values):
        values = values.ravel() * valid
        return (values - (_sum_by(keys, values, num_keys) / count)[keys]) * valid

    known = (time, time**2, past, past**2, past * time, past * time**2)
    target, *known = map(without_mean_at_key, (to_go, *known))
    known = jnp.stack([values / (jnp.linalg.norm(values) + 1e-6) for values in known])
    weights = jnp.linalg.solve(known @ known.T + 1e-3 * jnp.eye(len(known)), known @ target)
    advantage = target - weights @ known
    advantage = advantage / (jnp.sqrt(jnp.sum(advantage**2) / jnp.sum(valid)) + 1e-6)
    return advantage.reshape(batch.valid.shape)


def _sum_by(keys: jax.Array, values: jax.Array, num_keys: int) -> jax.Array:
    """The sum of the values at each key: float32[num_keys]."""
    return jnp.zeros(num_keys).at[keys].add(values.ravel())
