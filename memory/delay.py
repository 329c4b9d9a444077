"""Measure how far back the frame lies that an action needs.

The delay of an action is the smallest d for which recall acts the same whenever it remembers the
last d frames before the present one, or more. So 0 means that the present frame was enough. It is
measured for actions that led to a reward, that is, at or before the last reward of an episode.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade.memory.player import Player
from popgym_arcade.registry import NO_ACTION, Entry

__all__ = ["delays"]

_EPISODES = 32  # to draw actions from


class History(NamedTuple):
    """Episodes of recall, with leaves [steps, episodes]."""

    shown: Any
    last_action: jax.Array  # int32
    action: jax.Array  # int32
    counts: jax.Array  # bool: a positive reward was still to come


def delays(entry: Entry, params: Any, player: Player, *, samples: int, seed: int = 0) -> np.ndarray:
    """The delays of random actions that led to a reward, in steps: int[samples].

    entry: the game's functions. params: the POMDP's Params. player: the game's Player. Delays up to
    32 are exact; longer ones are tried in steps of a tenth and so rounded up by as much.
    """
    limit = int(params.max_steps_in_episode)
    history = jax.jit(partial(_histories, entry, player, limit, seed))(params)
    times, episodes = np.nonzero(history.counts)
    if not len(times):
        raise ValueError(f"recall earned no reward in {_EPISODES} episodes of {entry.game}")
    chosen = np.random.default_rng(seed).choice(len(times), samples)
    times, episodes = times[chosen], episodes[chosen]
    lengths = _lengths(int(times.max()))
    same = np.asarray(
        jax.jit(partial(_acts_the_same, player))(lengths, history, times, episodes, params)
    )
    # The longest one that acts differently, and one more.
    different = np.where(same, -1, np.arange(len(lengths))).max(axis=1)
    return np.minimum(np.append(lengths, lengths[-1])[different + 1], times)


def _lengths(longest: int) -> np.ndarray:
    """Numbers of remembered frames to try, increasing: int[lengths], from 0 to the longest."""
    lengths = list(range(33))
    while lengths[-1] < longest:
        lengths.append(-(-lengths[-1] * 11 // 10))
    return np.array(lengths)


def _histories(entry: Entry, player: Player, limit: int, seed: int, params: Any) -> History:
    """Play episodes with recall."""
    start_key, key = jax.random.split(jax.random.key(seed))
    states = jax.vmap(entry.reset, in_axes=(0, None))(
        jax.random.split(start_key, _EPISODES), params
    )[1]

    def play(carry, key):
        memory, last_action, state, over = carry
        shown = player.shown(state, params)
        memory = player.remember(memory, last_action, shown, params)
        action = player.act(memory, params).astype(jnp.int32)
        _, state, reward, done, _ = entry.step(key, state, action, params)
        record = History(shown, last_action, action, (reward > 0) & ~over)
        return (memory, action, state, over | done), record

    def play_all(carry, time):
        keys = jax.random.split(jax.random.fold_in(key, time), _EPISODES)
        return jax.vmap(play)(carry, keys)

    begun = player.begin(params), jnp.int32(NO_ACTION)
    carry = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (_EPISODES, *jnp.shape(leaf))), begun)
    carry = (*carry, states, jnp.zeros(_EPISODES, bool))
    history = jax.lax.scan(play_all, carry, jnp.arange(limit))[1]
    return history._replace(counts=jax.lax.cummax(history.counts.astype(int), reverse=True) > 0)


def _acts_the_same(
    player: Player,
    lengths: jax.Array,
    history: History,
    times: jax.Array,
    episodes: jax.Array,
    params: Any,
) -> jax.Array:
    """Whether recall acts the same with so many earlier frames: bool[samples, lengths]."""

    def of_length(history, time, length):
        first = jnp.maximum(time - length, 0)

        def frame(number, memory):
            shown, last_action = jax.tree.map(
                lambda leaf: leaf[number], (history.shown, history.last_action)
            )
            last_action = jnp.where(number == first, NO_ACTION, last_action)
            seen = (number >= first) & (number <= time)
            new = player.remember(memory, last_action, shown, params)
            return jax.tree.map(lambda old, new: jnp.where(seen, new, old), memory, new)

        begun = jax.tree.map(jnp.asarray, player.begin(params))
        memory = jax.lax.fori_loop(0, jnp.max(times) + 1, frame, begun)
        return player.act(memory, params) == history.action[time]

    def of_sample(sample):
        time, episode = sample
        one = jax.tree.map(lambda leaf: leaf[:, episode], history)
        return jax.vmap(of_length, in_axes=(None, None, 0))(one, time, lengths)

    return jax.lax.map(of_sample, (times, episodes), batch_size=16)
