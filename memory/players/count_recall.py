"""CountRecall: how many cards of each suit were dealt.

Each card is on show until its question is answered, and counts for the rest of the episode, so one
number a suit must be remembered and kept up to date. Recall adds the card on show to the count of
its suit whenever it submits an answer.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import experts
from popgym_arcade.games import count_recall
from popgym_arcade.memory.player import HIDDEN, Player

_AHEAD, _BEHIND = 6, 2  # how far the clock of keep_a_clock may be from the score


class Shown(NamedTuple):
    """What a frame shows; N is params.num_cards, K is params.num_suits. Suits are in [0, K - 1]."""

    score: jax.Array  # int32[], in [0, N]
    counter: jax.Array  # int32[], in [0, 99]: the number that fire would submit
    card: jax.Array  # int32[]: the suit of the card on show, hidden after the last answer
    asked: jax.Array  # int32[]: the suit asked for, hidden after the last answer
    # int32[N]: the suits of the cards dealt before, hidden elsewhere; in the POMDP hidden
    # everywhere
    field: jax.Array


def shown(state: count_recall.State, params: count_recall.Params) -> Shown:
    """What the frame of a state shows."""
    num_cards = params.num_cards
    place, playing = jnp.minimum(state.index, num_cards - 1), state.index < num_cards
    in_field = np.arange(num_cards) < state.index
    return Shown(
        state.score,
        state.counter,
        jnp.where(playing, state.values[place], HIDDEN),
        jnp.where(playing, state.queries[place], HIDDEN),
        jnp.where(in_field & (not params.partial_obs), state.values, HIDDEN),
    )


# --- without memory ------------------------------------------------------------------------------


def num_keys(params: count_recall.Params) -> int:
    """The number of frames of the POMDP: scores times counters times pairs of suits, or none."""
    return (params.num_cards + 1) * (count_recall.MOST + 1) * (params.num_suits**2 + 1)


def key(shown: Shown, params: count_recall.Params) -> jax.Array:
    """The whole frame of the POMDP: int32[]."""
    pair = jnp.where(shown.card == HIDDEN, params.num_suits**2, _pair(shown, params))
    score_and_counter = shown.score * (count_recall.MOST + 1) + shown.counter
    return score_and_counter * (params.num_suits**2 + 1) + pair


def _pair(shown: Shown, params: count_recall.Params) -> jax.Array:
    """The number of the pair of suits on show: int32[], in [0, K^2 - 1]."""
    return shown.asked * params.num_suits + shown.card


def keep_to_score(shown: Shown, params: count_recall.Params) -> jax.Array:
    """Keep the counter at the score: int32[].

    A count is right for K cards on average, and one of them asks for its suit. So one right answer
    per count is what a player can expect who submits every number until it was right once.
    """
    return _count_to(shown.score, shown.counter)


def keep_a_clock(shown: Shown, params: count_recall.Params) -> jax.Array:
    """Let the counter be a clock that ticks about once in K cards, as the true counts do: int32[].

    While the pair of suits on show is one of a few, the counter is to be odd, otherwise even. So it
    goes up by one whenever the pairs change from the few to the others or back. It waits when it is
    far above the score, and catches up when it is below.
    """
    # With p the share of the few, 2 p (1 - p) = 1 / K is how often one pair in a row is of them.
    few = math.ceil(params.num_suits**2 * (1 - math.sqrt(1 - 2 / params.num_suits)) / 2)
    ticks = (shown.counter % 2 == 1) != (_pair(shown, params) < few)
    ticks = ticks & (shown.counter < shown.score + _AHEAD)
    return jnp.where(
        ticks | (shown.counter < shown.score - _BEHIND), count_recall.UP, count_recall.FIRE
    )


def _count_to(number: jax.Array, counter: jax.Array) -> jax.Array:
    """Count to a number, then submit it: int32[]."""
    move = jnp.where(counter < number, count_recall.UP, count_recall.DOWN)
    return jnp.where(counter == number, count_recall.FIRE, move)


# --- with memory ---------------------------------------------------------------------------------


class Memory(NamedTuple):
    """The cards counted, and what the last frame showed besides."""

    seen: jax.Array  # int32[K]: cards of each suit dealt before the one on show
    card: jax.Array  # int32[]: the suit of the card on show
    asked: jax.Array  # int32[]: the suit asked for
    counter: jax.Array  # int32[]: the number that fire would submit


def begin(params: count_recall.Params) -> Memory:
    """Remember nothing."""
    nothing = jnp.int32(HIDDEN)
    return Memory(jnp.zeros(params.num_suits, jnp.int32), nothing, nothing, jnp.int32(0))


def remember(
    memory: Memory, last_action: jax.Array, shown: Shown, params: count_recall.Params
) -> Memory:
    """Count the card that was on show, if its question was answered."""
    suits = np.arange(params.num_suits)
    counted = memory.seen + ((last_action == count_recall.FIRE) & (memory.card == suits))
    in_field = jnp.sum(shown.field[:, None] == suits, axis=0, dtype=jnp.int32)
    return Memory(jnp.maximum(counted, in_field), shown.card, shown.asked, shown.counter)


def act(memory: Memory, params: count_recall.Params) -> jax.Array:
    """Count to the number of cards seen of the suit asked for, then submit it: int32[]."""
    return experts.expert(_believed(memory, params), params)


def _believed(memory: Memory, params: count_recall.Params) -> count_recall.State:
    """The state that the memory describes, as far as the expert looks at it."""
    zero, cards = jnp.int32(0), jnp.zeros(params.num_cards, jnp.int32)
    return count_recall.State(
        values=cards,
        queries=cards + memory.asked,
        index=zero,
        seen=memory.seen,
        counter=memory.counter,
        time=zero,
        score=zero,
    )


PLAYER = Player(
    shown,
    num_keys,
    key,
    features=None,
    reflexes={"keep to the score": keep_to_score, "keep a clock": keep_a_clock},
    begin=begin,
    remember=remember,
    act=act,
)
