"""AutoEncode: play the deck back in reverse.

Watch N cards go by, one a step. Then name their suits, the last card first.

Start: the suits 0, 1, 2, 3, 0, 1, ... (N of them), uniformly shuffled.

Actions: 2 left selects the next suit, 3 right the one before (the order is heart, spade, club,
diamond, and round again), also while watching. 4 fire submits the selected suit, once all cards
were shown. 0 up, 1 down and any other integer do nothing.

Rewards: with t the time before the step, fire at t >= N answers for card N - 1 - answered: if the
selected suit is right it pays 1 / N and the score rises by 1; either way the next card is asked.
Fire while watching does nothing. Returns lie in 0 ... 1.

Episode end: terminated when N answers were given; truncated at 10 N steps.

Views: the card on show is at the top left while watching, the selected suit at the top right. The
MDP's field shows the cards dealt before now that are still to be answered, nine to a row, so the
last one is the one asked. The POMDP's field is blank.

Levels: Easy N = 26, Medium N = 52, Hard N = 78; limits 260, 520, 780.

Source: POPGym Arcade 0.0.7.

Differences from 0.0.7:
* There are five actions and only fire submits; there were four, so fire was never sampled, and
  whatever was done on the first step after the watching counted as an answer.
* The episode ends with the last answer; it ended one step later.
* An answered card leaves the MDP's field; all cards stayed, so nothing in the frame said which one
  was asked.

Versions:
* 1 (0.1.0): the first.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import render as draw

NAME = "AutoEncode"
VERSION = 1
RETURN_RANGE = (0.0, 1.0)  # of every level
UP, DOWN, LEFT, RIGHT, FIRE = range(5)
NUM_SUITS = 4
CARDS_PER_ROW = 9
EMPTY = -1  # no card in this place


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """What a level sets. Fields marked static choose shapes and drawing; the others may be traced
    and swept with vmap."""

    num_cards: int = field(default=26, metadata={"static": True, "allowed": range(1, 109)})  # N
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
    """One episode; N is params.num_cards. Suits: 0 heart, 1 spade, 2 club, 3 diamond."""

    cards: jax.Array  # int32[N], 0 ... 3: the suits in the order they are shown
    answered: jax.Array  # int32[], 0 ... N: answers given
    selected: jax.Array  # int32[], 0 ... 3: the suit that fire would submit
    time: jax.Array  # int32[]: steps taken
    score: jax.Array  # int32[], 0 ... N: right answers


def reset(key, params):
    """Begin an episode.

    key: a typed or raw PRNG key. params: Params. Returns (observation uint8[S, S, 3], State).
    """
    deck = shuffle_deck(key, params.num_cards)
    state = State(
        deck, answered=jnp.int32(0), selected=jnp.int32(0), time=jnp.int32(0), score=jnp.int32(0)
    )
    return render(state, params), state


def step(key, state, action, params):
    """Play one step; nothing is left to chance after the reset, so the key is not used.

    key: a PRNG key. state: State. action: int[]. params: Params.
    Returns (observation uint8[S, S, 3], State, reward float32[], done bool[], info).
    """
    state = select(state, action)
    state, right = answer(state, action == FIRE, params.num_cards)
    state = state._replace(time=state.time + 1)
    reward = right * (params.deck_reward / params.num_cards)
    terminated = state.answered >= params.num_cards
    truncated = state.time >= params.max_steps_in_episode
    info = {
        "terminated": terminated,
        "truncated": truncated,
        "discount": (~terminated).astype(jnp.float32),
    }
    return render(state, params), state, reward.astype(jnp.float32), terminated | truncated, info


def shuffle_deck(key, num_cards):
    """The suits 0, 1, 2, 3, 0, ... in uniformly random order: int32[num_cards].

    Card i gets the place that its random number has in the order of all of them. Places dealt at
    random to cards in order are as good as cards dealt at random to places in order, so the place
    modulo 4 is already the suit, and nothing is moved.
    """
    # Distinct random numbers: the lowest seven bits hold the card's index.
    bits = jax.random.bits(key, (num_cards,)) & ~np.uint32(127) | np.arange(
        num_cards, dtype=np.uint32
    )
    place = jnp.sum(
        bits[:, None] < bits[None, :], axis=0, dtype=jnp.uint8
    )  # bytes, along the longer runs: twice as fast
    return place.astype(jnp.int32) % NUM_SUITS


def select(state, action):
    """Turn to the next suit (left) or to the one before (right): State."""
    turned = state.selected + (action == LEFT) - (action == RIGHT)
    return state._replace(selected=turned % NUM_SUITS)


def answer(state, fired, num_cards):
    """Answer for the asked card if ``fired`` and all cards were shown: (State, whether the answer
    was right: bool[])."""
    submitted = fired & (state.time >= num_cards)
    right = submitted & (state.selected == asked_suit(state))
    return state._replace(answered=state.answered + submitted, score=state.score + right), right


def asked_suit(state):
    """The suit of the card that is asked now, that is the last one not yet answered: int32[]."""
    return state.cards[state.cards.shape[0] - 1 - state.answered]


def render(state, params):
    """Draw the state: uint8[S, S, 3], S = params.obs_size."""
    num_cards = params.num_cards
    on_show = jnp.where(
        state.time < num_cards, state.cards[jnp.minimum(state.time, num_cards - 1)], EMPTY
    )
    canvas = draw.field(params.obs_size)
    if not params.partial_obs:
        in_field = np.arange(num_cards) < jnp.minimum(state.time, num_cards - state.answered)
        cards = jnp.pad(
            jnp.where(in_field, state.cards, EMPTY),
            (0, -num_cards % CARDS_PER_ROW),
            constant_values=EMPTY,
        )
        canvas = draw.board(canvas, cards.reshape(-1, CARDS_PER_ROW), tiles=draw.CARDS)
    corners = jnp.stack([on_show, state.selected])
    return draw.frame(
        canvas, score=state.score, name=NAME, corner_ids=corners, corner_tiles=draw.CARDS
    )


LEVELS = {
    "Easy": Params(num_cards=26, max_steps_in_episode=260),
    "Medium": Params(num_cards=52, max_steps_in_episode=520),
    "Hard": Params(num_cards=78, max_steps_in_episode=780),
}
