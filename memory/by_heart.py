"""Learn the course of a game by heart, for games with few starts and without chance.

A policy without memory may know in advance which frames follow which action. Where every episode
takes one of a hundred courses, it can be right about the hidden state of many of them, frame by
frame. A policy gradient does not find such a policy: one other action early in an episode changes
hundreds of frames after it.

So this is a depth-first search for a table of actions by what a frame shows. It plays the starts
one after the other. At a frame that the table lacks it decides: at first for the expert's action,
and when the episode ends badly it goes back to the latest decision and takes another one. The best
decisions for one start are kept for the next, so the order of the starts matters: many orders are
searched side by side, at random and like the best so far with starts that failed moved to the
front.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import experts
from popgym_arcade.memory.player import Player, Policy, memoryless_policy
from popgym_arcade.registry import NUM_ACTIONS, Action, Entry

__all__ = ["MOST_STARTS", "Settings", "by_heart", "by_heart_policy", "distinct_starts"]

MOST_STARTS: int = 256
"""With more starts than this there is no learning by heart."""

_DRAWS = 4096  # of starts, to find the distinct ones
_UNDECIDED = -1
_NO_SLOT = np.iinfo(np.int32).max  # an index that a scatter drops
_JUMPS = 0.02  # how often a search goes back further than to the latest decision
_JUMP = 10  # and how many decisions further, on average
_CHANCES = 1009

Progress = Callable[[float, float], None]
"""Called after every start with the share of the work that is done and the mean return of this
round, over all orders and the starts that are done."""


class Settings(NamedTuple):
    """How long the search looks, and how."""

    orders: int = 16  # of the starts, searched side by side
    rounds: int = 3
    steps: int = 20_000  # for each start


class _Decisions(NamedTuple):
    """Actions by key, with leaves [orders, limit]: those of one episode, in their order."""

    key: jax.Array  # int32
    action: jax.Array  # int8


class _Stack(NamedTuple):
    """What is needed to go back to a decision, with leaves [orders, limit, ...]."""

    state: Any  # where it was taken
    total: jax.Array  # float32: the return before
    rank: jax.Array  # float32[..., 5]: the order in which to try the actions, inf if tried
    outcome: jax.Array  # uint32[..., 5]: fingerprints of the states after those tried
    left: jax.Array  # int32: the number of actions not yet tried


class _Search(NamedTuple):
    """Depth-first searches from one start each, with leaves [orders, ...]."""

    state: Any  # of the present episode
    total: jax.Array  # float32: its return so far
    depth: jax.Array  # int32: its number of decisions
    decisions: _Decisions
    stack: _Stack
    slot: jax.Array  # int32[..., num_keys]: where the decision about a key is, if there is one
    again: jax.Array  # bool: the latest decision is to be taken once more
    best_total: jax.Array  # float32: the highest return of an episode so far
    best_depth: jax.Array  # int32
    best: _Decisions
    over: jax.Array  # bool: perfect, or all is tried


def distinct_starts(entry: Entry, params: Any) -> Any | None:
    """All states in which episodes start, with leaves [starts, ...], or None if they are many."""
    begin = jax.jit(jax.vmap(lambda key, params: entry.reset(key, params)[1], in_axes=(0, None)))
    states = jax.device_get(begin(jax.random.split(jax.random.key(0), _DRAWS), params))
    rows = [leaf.reshape(_DRAWS, -1).astype(np.float64) for leaf in jax.tree.leaves(states)]
    _, first = np.unique(np.concatenate(rows, axis=1), axis=0, return_index=True)
    return jax.tree.map(lambda leaf: leaf[first], states) if len(first) <= MOST_STARTS else None


def by_heart(
    entry: Entry,
    params: Any,
    player: Player,
    settings: Settings,
    seed: int = 0,
    progress: Progress | None = None,
) -> jax.Array:
    """Search for the action of every key: int8[num_keys], FIRE for keys that never came up.

    entry: the game's functions. params: its Params. player: its Player. progress: see Progress.
    Raises ValueError if the game has more than MOST_STARTS starts.
    """
    starts = distinct_starts(entry, params)
    if starts is None:
        raise ValueError(
            f"{entry.game}{entry.level} has more than {MOST_STARTS} starts: search a table"
        )
    limit = int(params.max_steps_in_episode)
    learn = jax.jit(partial(_learn, entry, player, limit), donate_argnums=1)
    rng, count = np.random.default_rng(seed), len(jax.tree.leaves(starts)[0])
    orders = rng.permuted(np.tile(np.arange(count), (settings.orders, 1)), axis=1)
    every = np.arange(settings.orders)
    found: list[tuple[float, jax.Array, np.ndarray, np.ndarray]] = []
    for round_number in range(settings.rounds):
        table = jnp.full((settings.orders, player.num_keys(params)), _UNDECIDED, jnp.int8)
        returns = np.zeros(orders.shape)
        for place, chosen in enumerate(orders.T):
            start = jax.tree.map(lambda leaf, chosen=chosen: jnp.asarray(leaf[chosen]), starts)
            key = jax.random.key(seed * settings.rounds * count + round_number * count + place)
            table, returns[every, chosen] = learn(key, table, start, settings.steps, params)
            if progress:
                done = returns[every[:, None], orders[:, : place + 1]]
                progress((round_number + (place + 1) / count) / settings.rounds, done.mean())
        top = int(returns.mean(axis=1).argmax())
        failed = returns[top] < entry.return_range[1] - _SLACK
        found.append((float(returns[top].mean()), table[top], orders[top], failed))
        _, _, best_order, failed = max(found, key=_mean)
        orders = np.stack(
            [
                _failed_first(best_order, failed, rng) if number % 2 else rng.permutation(count)
                for number in every
            ]
        )
    best_table = max(found, key=_mean)[1]
    return jnp.where(best_table == _UNDECIDED, jnp.int8(Action.FIRE), best_table)


def by_heart_policy(player: Player, actions: jax.Array) -> Policy:
    """The policy of a table of actions, int8[num_keys]."""
    return memoryless_policy(player, lambda key, shown, params: actions[player.key(shown, params)])


def _mean(found: tuple[float, jax.Array, np.ndarray, np.ndarray]) -> float:
    return found[0]


def _failed_first(order: np.ndarray, failed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move some of the starts that failed to the front, in random order: int[starts]."""
    chosen = failed[order] & (rng.random(len(order)) < rng.random())
    return np.concatenate([rng.permutation(order[chosen]), order[~chosen]])


# --- one start -----------------------------------------------------------------------------------

_SLACK = 1e-4  # for rounding errors of returns


def _learn(
    entry: Entry,
    player: Player,
    limit: int,
    key: jax.Array,
    table: jax.Array,
    start: Any,
    steps: int,
    params: Any,
) -> tuple[jax.Array, jax.Array]:
    """Search from one start in each order: the table with the best decisions, and its returns.

    limit: an episode's greatest length. table: int8[orders, num_keys]. start: states with leaves
    [orders, ...].
    """
    every = jnp.arange(len(table))
    # Random numbers are drawn in advance and used over and over: drawing takes longer than a step.
    chance = jax.random.uniform(key, (_CHANCES, len(table), NUM_ACTIONS))

    def body(loop):
        number, search = loop
        numbers = chance[number % _CHANCES]
        search, action, is_new = _decide(numbers, player, table, search, params)
        after, reward, done = _outcome(entry, search.state, action, params)
        search, repeats = _note_outcome(search, action, is_new, after)
        search = search._replace(state=after, total=search.total + reward)
        search = _keep_best(search, done)
        perfect = done & (search.total >= entry.return_range[1] - _SLACK)
        search = search._replace(over=search.over | perfect)
        return number + 1, _go_back(numbers, search, (done | repeats) & ~search.over)

    _, found = jax.lax.while_loop(
        lambda loop: (loop[0] < steps) & ~jnp.all(loop[1].over),
        body,
        (jnp.int32(0), _begin(table, start, limit)),
    )
    kept = jnp.arange(found.best.key.shape[1]) < found.best_depth[:, None]
    keys = jnp.where(kept, found.best.key, _NO_SLOT)
    table = table.at[every[:, None], keys].set(found.best.action, mode="drop")
    return table, jnp.maximum(found.best_total, entry.return_range[0])


def _begin(table: jax.Array, start: Any, limit: int) -> _Search:
    """A search that has not taken a step. limit: the greatest number of decisions."""
    orders = len(table)

    def zeros(dtype, *shape):
        return jnp.zeros((orders, *shape), dtype)

    stack = _Stack(
        jax.tree.map(lambda leaf: zeros(leaf.dtype, limit, *leaf.shape[1:]), start),
        zeros(jnp.float32, limit),
        zeros(jnp.float32, limit, NUM_ACTIONS),
        zeros(jnp.uint32, limit, NUM_ACTIONS),
        zeros(jnp.int32, limit),
    )
    none = _Decisions(zeros(jnp.int32, limit), zeros(jnp.int8, limit))
    return _Search(
        start,
        zeros(jnp.float32),
        zeros(jnp.int32),
        none,
        stack,
        zeros(jnp.int32, table.shape[1]),
        zeros(jnp.bool_),
        jnp.full(orders, -jnp.inf, jnp.float32),
        zeros(jnp.int32),
        none,
        zeros(jnp.bool_),
    )


def _decide(
    chance: jax.Array, player: Player, table: jax.Array, search: _Search, params: Any
) -> tuple[_Search, jax.Array, jax.Array]:
    """Choose actions: the search with what is decided anew, actions int32[orders], bool[orders].

    The last says where something was decided.
    """
    every = jnp.arange(len(table))
    frame = jax.vmap(lambda state: player.key(player.shown(state, params), params))(search.state)
    slot = search.slot[every, frame]
    is_decided = (slot < search.depth) & (search.decisions.key[every, slot] == frame)
    known = table[every, frame]
    is_first = (known == _UNDECIDED) & ~is_decided & ~search.over
    is_new = is_first | (search.again & ~search.over)
    slot = jnp.where(is_first, search.depth, slot)

    # A decision about another frame: try the expert's action first, then the others at random.
    expert = jax.vmap(experts.expert, in_axes=(0, None))(search.state, params)
    is_expert = jnp.arange(NUM_ACTIONS) == expert[:, None]
    rank = jnp.where(is_expert, -1, chance)
    pushed = jnp.where(is_first, slot, _NO_SLOT)
    stack = search.stack._replace(
        state=jax.tree.map(
            lambda leaf, now: leaf.at[every, pushed].set(now, mode="drop"),
            search.stack.state,
            search.state,
        ),
        total=search.stack.total.at[every, pushed].set(search.total, mode="drop"),
        rank=search.stack.rank.at[every, pushed].set(rank, mode="drop"),
        left=search.stack.left.at[every, pushed].set(NUM_ACTIONS, mode="drop"),
    )

    choice = jnp.argmin(stack.rank[every, slot], axis=1).astype(jnp.int32)
    place = jnp.where(is_new, slot, _NO_SLOT)
    decisions = _Decisions(
        search.decisions.key.at[every, place].set(frame, mode="drop"),
        search.decisions.action.at[every, place].set(choice.astype(jnp.int8), mode="drop"),
    )
    action = jnp.where(known == _UNDECIDED, decisions.action[every, slot], known)
    search = search._replace(
        depth=search.depth + is_first,
        decisions=decisions,
        stack=stack._replace(
            rank=stack.rank.at[every, place, choice].set(jnp.inf, mode="drop"),
            left=stack.left.at[every, place].set(stack.left[every, slot] - 1, mode="drop"),
        ),
        slot=search.slot.at[every, jnp.where(is_first, frame, _NO_SLOT)].set(slot, mode="drop"),
    )
    return search, action.astype(jnp.int32), is_new


def _outcome(
    entry: Entry, states: Any, action: jax.Array, params: Any
) -> tuple[Any, jax.Array, jax.Array]:
    """Take one step in each state: the states after it, rewards and ends."""
    step = jax.vmap(entry.step, in_axes=(None, 0, 0, None))
    _, after, reward, done, _ = step(jax.random.key(0), states, action, params)
    return after, reward, done


def _note_outcome(
    search: _Search, action: jax.Array, is_new: jax.Array, after: Any
) -> tuple[_Search, jax.Array]:
    """Note what came of the latest decisions, and whether an earlier choice came to the same."""
    every, slot = jnp.arange(len(action)), search.depth - 1
    seen = _fingerprint(after)
    place = jnp.where(is_new, slot, _NO_SLOT)
    outcome = search.stack.outcome.at[every, place, action].set(seen, mode="drop")
    tried = jnp.isinf(search.stack.rank[every, slot]) & (jnp.arange(NUM_ACTIONS) != action[:, None])
    repeats = is_new & jnp.any(tried & (outcome[every, slot] == seen[:, None]), axis=1)
    return search._replace(stack=search.stack._replace(outcome=outcome)), repeats


def _fingerprint(states: Any) -> jax.Array:
    """A hash of each state: uint32[orders]."""
    rng, total = np.random.default_rng(0), jnp.uint32(0)
    for leaf in jax.tree.leaves(states):
        rows = leaf.reshape(len(leaf), -1).astype(jnp.uint32)
        factors = rng.integers(1, 2**32, rows.shape[1], dtype=np.uint32)
        total = total + jnp.sum(rows * factors, axis=1, dtype=jnp.uint32)
    return total


def _keep_best(search: _Search, done: jax.Array) -> _Search:
    """Keep the decisions of episodes that ended better than any before."""
    better = done & ~search.over & (search.total > search.best_total + _SLACK)

    def keep(best):
        new = search.total, search.depth, *search.decisions
        return tuple(
            jnp.where(better.reshape(-1, *(1,) * (old.ndim - 1)), value, old)
            for value, old in zip(new, best)
        )

    best = search.best_total, search.best_depth, *search.best
    total, depth, *decisions = jax.lax.cond(jnp.any(better), keep, lambda best: best, best)
    return search._replace(best_total=total, best_depth=depth, best=_Decisions(*decisions))


def _go_back(chance: jax.Array, search: _Search, ended: jax.Array) -> _Search:
    """Where an episode ended, go back to the latest decision that may be taken otherwise."""
    every, limit = jnp.arange(len(ended)), search.stack.total.shape[1]
    jump = jnp.where(chance[:, 0] < _JUMPS, -_JUMP * jnp.log(chance[:, 1]), 0).astype(jnp.int32)
    depth = jnp.maximum(search.depth - jump, jnp.minimum(search.depth, 1))
    numbers = jnp.arange(1, limit + 1)
    depth = jnp.max(
        jnp.where((search.stack.left > 0) & (numbers <= depth[:, None]), numbers, 0), axis=1
    )
    exhausted, slot = ended & (depth == 0), jnp.maximum(depth - 1, 0)

    def latest(saved, now):
        return jnp.where(ended.reshape(-1, *(1,) * (now.ndim - 1)), saved[every, slot], now)

    return search._replace(
        state=jax.tree.map(latest, search.stack.state, search.state),
        total=latest(search.stack.total, search.total),
        depth=jnp.where(ended, depth, search.depth),
        again=ended & ~exhausted,
        over=search.over | exhausted,
    )
