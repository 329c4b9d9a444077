"""CountRecall: say how often you have seen a suit.

Cards go by. For each of them a suit is asked: say how many cards of it were dealt before the one
now on show.

Start: the cards are the suits 0, 1, ..., K - 1, 0, 1, ... (N of them), uniformly shuffled; the
asked suits are as many, shuffled on their own. The counter is at 0.

Actions: 0 up adds 1 to the counter, 1 down takes 1 away; it stays within 0 ... 99. 4 fire submits
it. 2 left, 3 right and any other integer do nothing.

Rewards: fire is right if the counter equals the number of cards of the asked suit that were dealt
before the card on show; it then pays 1 / N and the score rises by 1. Right or wrong, the card on
show is counted, and the next card and question come up. The counter keeps its value. Returns lie in
0 ... 1.

Episode end: terminated when N answers were given; truncated at 10 N steps.

Views: the card on show is at the top left, the asked suit at the top right with the counter before
it. The MDP's field shows all cards dealt before, nine to a row. The POMDP's field is blank.

Levels: Easy N = 26 with K = 2 suits, Medium N = 52 with K = 2, Hard N = 78 with K = 4; limits 260,
520, 780.

Source: POPGym Arcade 0.0.7.

Differences from 0.0.7:
* The counter stops at 0 and at 99; it went below zero, and only its last digit was drawn.
* The limit is 10 N steps; with 100 + N most decks of the Hard level could not be won.

Versions:
* 1 (0.1.0): the first.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import render as draw

NAME = "CountRecall"
VERSION = 1
RETURN_RANGE = (0.0, 1.0)  # of every level
UP, DOWN, LEFT, RIGHT, FIRE = range(5)
MOST = 99  # the highest number that the counter shows
CARDS_PER_ROW = 9
EMPTY = -1  # no card in this place


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """What a level sets. Fields marked static choose shapes and drawing; the others may be traced
    and swept with vmap."""

    num_cards: int = field(default=26, metadata={"static": True, "allowed": range(1, 109)})  # N
    num_suits: int = field(default=2, metadata={"static": True, "allowed": range(2, 5)})  # K
    partial_obs: bool = field(
        default=False, metadata={"static": True, "allowed": (False, True)}
    )  # the POMDP view
    obs_size: int = field(
        default=128, metadata={"static": True, "allowed": draw.OBS_SIZES}
    )  # pixels a side of a frame
    max_steps_in_episode: int = field(
        default=260, metadata={"allowed": draw.STEP_LIMITS}
    )  # steps before truncation
    deck_reward: float = field(
        default=1.0, metadata={"allowed": draw.ANY_REWARD}
    )  # shared by the N answers


class State(NamedTuple):
    """One episode; N is params.num_cards, K is params.num_suits. Suits: 0 heart, 1 spade, 2 club, 3
    diamond."""

    values: jax.Array  # int32[N], 0 ... K - 1: the suits of the cards, in the order they are dealt
    queries: jax.Array  # int32[N], 0 ... K - 1: the suits asked for
    index: (
        jax.Array
    )  # int32[], 0 ... N: answers given, and the place of the card on show and of the question
    seen: jax.Array  # int32[K], 0 ... N: cards of each suit dealt before the one on show
    counter: jax.Array  # int32[], 0 ... 99: the number that fire would submit
    time: jax.Array  # int32[]: steps taken
    score: jax.Array  # int32[], 0 ... N: right answers


def reset(key, params):
    """Begin an episode.

    key: a typed or raw PRNG key. params: Params. Returns (observation uint8[S, S, 3], State).
    """
    values, queries = (
        deal(key, params.num_cards, params.num_suits) for key in jax.random.split(key)
    )
    zero, seen = jnp.int32(0), jnp.zeros(params.num_suits, jnp.int32)
    state = State(values, queries, index=zero, seen=seen, counter=zero, time=zero, score=zero)
    return render(state, params), state


def step(key, state, action, params):
    """Play one step; nothing is left to chance after the reset, so the key is not used.

    key: a PRNG key. state: State. action: int[]. params: Params.
    Returns (observation uint8[S, S, 3], State, reward float32[], done bool[], info).
    """
    state = count(state, action)
    state, right = answer(state, action == FIRE)
    state = state._replace(time=state.time + 1)
    reward = right * (params.deck_reward / params.num_cards)
    terminated = state.index >= params.num_cards
    truncated = state.time >= params.max_steps_in_episode
    info = {
        "terminated": terminated,
        "truncated": truncated,
        "discount": (~terminated).astype(jnp.float32),
    }
    return render(state, params), state, reward.astype(jnp.float32), terminated | truncated, info


def deal(key, num_cards, num_suits):
    """The suits 0, 1, ..., num_suits - 1, 0, ... in uniformly random order: int32[num_cards].

    Each place draws a random number and takes the suit of the card whose number in the unshuffled
    deck is this one's rank.
    """
    # Distinct random numbers: the lowest seven bits hold the place itself.
    drawn = jax.random.bits(key, (num_cards,)) & ~np.uint32(127) | np.arange(
        num_cards, dtype=np.uint32
    )
    rank = jnp.sum(
        drawn[:, None] < drawn[None, :], axis=0, dtype=jnp.uint8
    )  # bytes, along the longer runs: twice as fast
    return rank.astype(jnp.int32) % num_suits


def count(state, action):
    """Count one up or one down, within 0 ... MOST: State."""
    counter = state.counter + (action == UP) - (action == DOWN)
    return state._replace(counter=jnp.clip(counter, 0, MOST))


def answer(state, fired):
    """If ``fired``, submit the counter and go on to the next card: (State, whether the answer was
    right: bool[])."""
    num_cards, num_suits = state.values.shape[0], state.seen.shape[0]
    fired = fired & (state.index < num_cards)
    right = fired & (state.counter == true_count(state))
    dealt = fired & (np.arange(num_suits) == state.values[jnp.minimum(state.index, num_cards - 1)])
    return state._replace(
        index=state.index + fired, seen=state.seen + dealt, score=state.score + right
    ), right


def true_count(state):
    """How many cards of the asked suit were dealt before the one on show: int32[]."""
    return state.seen[state.queries[jnp.minimum(state.index, state.queries.shape[0] - 1)]]


def render(state, params):
    """Draw the state: uint8[S, S, 3], S = params.obs_size."""
    num_cards = params.num_cards
    canvas = draw.field(params.obs_size)
    if not params.partial_obs:
        dealt = jnp.where(np.arange(num_cards) < state.index, state.values, EMPTY)
        dealt = jnp.pad(dealt, (0, -num_cards % CARDS_PER_ROW), constant_values=EMPTY)
        canvas = draw.board(
            canvas, dealt.reshape(-1, CARDS_PER_ROW), tiles=draw.CARDS[: params.num_suits]
        )
    place = jnp.minimum(state.index, num_cards - 1)
    corners = jnp.where(
        state.index < num_cards, jnp.stack([state.values[place], state.queries[place]]), EMPTY
    )
    return draw.frame(
        canvas,
        score=state.score,
        name=NAME,
        counter=state.counter,
        corner_ids=corners,
        corner_tiles=draw.CARDS[: params.num_suits],
    )


LEVELS = {
    "Easy": Params(num_cards=26, num_suits=2, max_steps_in_episode=260),
    "Medium": Params(num_cards=52, num_suits=2, max_steps_in_episode=520),
    "Hard": Params(num_cards=78, num_suits=4, max_steps_in_episode=780),
}
