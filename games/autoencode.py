"""AutoEncode: play the deck back in reverse.

Watch N cards, one per step. Then name their suits, from the last card to the first.

Start: a deck of N cards with the suits heart, spade, club, diamond, heart, ..., uniformly shuffled.

Actions: 2 left selects the next suit, 3 right the previous one (in the order heart, spade, club,
diamond, heart, ...), also while watching. 4 fire submits the selected suit once all cards have been
shown. 0 up, 1 down and any other integer do nothing.

Rewards: for the first N steps you watch, and fire does nothing. After that, fire answers for the
last card that is not answered yet. The right suit pays 1 / N and raises the score by 1. Right or
wrong, the card before it is asked next. Returns lie in [0, 1].

Episode end: terminated after N answers; truncated at 10 N steps.

Views: while you watch, the current card is at the top left. The selected suit is at the top right.
The MDP's field shows the earlier cards that are not answered yet, nine per row, so the last one is
the card asked for. The POMDP's field is blank.

Levels: Easy N = 26, Medium N = 52, Hard N = 78; limits 260, 520, 780.

Source: POPGym Arcade 0.0.7.

Differences from 0.0.7:
* There are five actions, and only fire submits. There were four, so fire was never sampled, and any
  action on the first step after watching counted as an answer.
* The episode ends with the last answer instead of one step later.
* An answered card leaves the MDP's field. All cards used to stay, so no frame showed which card was
  asked for.

Versions:
* 1 (0.1.0): first version.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import render as draw

__all__ = [
    "DOWN",
    "FIRE",
    "LEFT",
    "LEVELS",
    "NAME",
    "NUM_SUITS",
    "RETURN_RANGE",
    "RIGHT",
    "UP",
    "VERSION",
    "Params",
    "State",
    "answer",
    "asked_suit",
    "render",
    "reset",
    "select",
    "shuffle_deck",
    "step",
]

NAME: str = "AutoEncode"
VERSION: int = 1
RETURN_RANGE: tuple[float, float] = (0.0, 1.0)  # at every level
UP, DOWN, LEFT, RIGHT, FIRE = range(5)
NUM_SUITS = 4
_CARDS_PER_ROW = 9
_EMPTY = -1  # no card here


@draw.register_params
@dataclass(frozen=True)
class Params:
    """The parameters of a level.

    Static fields set shapes and drawing; all others may be traced, e.g. swept with vmap.
    """

    # N
    num_cards: int = field(default=26, metadata={"static": True, "allowed": range(1, 109)})
    # whether to draw the POMDP view
    partial_obs: bool = field(default=False, metadata={"static": True, "allowed": (False, True)})
    # side of a frame in pixels
    obs_size: int = field(default=128, metadata={"static": True, "allowed": draw.OBS_SIZES})
    # steps before truncation
    max_steps_in_episode: int = field(default=260, metadata={"allowed": draw.STEP_LIMITS})
    # shared by the N answers
    deck_reward: float = field(default=1.0, metadata={"allowed": draw.ANY_REWARD})


@draw.register_state
class State(NamedTuple):
    """One episode; N is params.num_cards. Suits: 0 heart, 1 spade, 2 club, 3 diamond."""

    cards: jax.Array  # int32[N], in [0, 3]: the suits in the order they are shown
    answered: jax.Array  # int32[], in [0, N]: answers given
    selected: jax.Array  # int32[], in [0, 3]: the suit that fire would submit
    time: jax.Array  # int32[]: steps taken
    score: jax.Array  # int32[], in [0, N]: right answers


def reset(key: jax.Array, params: Params) -> tuple[jax.Array, State]:
    """Begin an episode.

    key: a typed or raw PRNG key. params: Params. Returns (observation uint8[S, S, 3], State).
    """
    deck = shuffle_deck(key, params.num_cards)
    answered, selected, time, score = (jnp.zeros_like(deck[0]) for _ in range(4))
    state = State(deck, answered, selected, time, score)
    return render(state, params), state


def step(
    key: jax.Array, state: State, action: jax.Array, params: Params
) -> tuple[jax.Array, State, jax.Array, jax.Array, dict[str, jax.Array]]:
    """Play one step, which is deterministic: the key is unused.

    key: a PRNG key. state: State. action: int[]. params: Params.
    Returns (observation uint8[S, S, 3], State, reward float32[], done bool[], info).
    """
    state = select(state, action)
    state, right = answer(state, action == FIRE, params.num_cards)
    state = state._replace(time=state.time + 1)
    reward = jnp.float32(right) * (params.deck_reward / params.num_cards)
    terminated = state.answered >= params.num_cards
    truncated = state.time >= params.max_steps_in_episode
    info = {
        "terminated": terminated,
        "truncated": truncated,
        "discount": (~terminated).astype(jnp.float32),
    }
    return render(state, params), state, reward.astype(jnp.float32), terminated | truncated, info


def shuffle_deck(key: jax.Array, num_cards: int) -> jax.Array:
    """The suits 0, 1, 2, 3, 0, ... in uniformly random order: int32[num_cards].

    Each position draws a random number. The ranks of these numbers are a uniform permutation, so
    rank modulo 4 is the suit, and nothing has to be gathered.
    """
    # The lowest seven bits hold the position, which makes the numbers distinct.
    positions = np.arange(num_cards, dtype=np.uint32)
    bits = jax.random.bits(key, (num_cards,), jnp.uint32) & ~np.uint32(127) | positions
    # In bytes and along this axis, the comparison is twice as fast.
    rank = jnp.sum(bits[:, None] < bits[None, :], axis=0, dtype=jnp.uint8)
    return rank.astype(jnp.int32) % NUM_SUITS


def select(state: State, action: jax.Array) -> State:
    """Select the next suit (left) or the previous one (right)."""
    turned = state.selected + jnp.int32(action == LEFT) - jnp.int32(action == RIGHT)
    return state._replace(selected=turned % NUM_SUITS)


def answer(state: State, fired: jax.Array, num_cards: int) -> tuple[State, jax.Array]:
    """Answer for the asked card, if ``fired`` after watching: (State, whether right, bool[])."""
    submitted = fired & (state.time >= num_cards)
    right = submitted & (state.selected == asked_suit(state))
    answered, score = state.answered + jnp.int32(submitted), state.score + jnp.int32(right)
    return state._replace(answered=answered, score=score), right


def asked_suit(state: State) -> jax.Array:
    """The suit of the card asked for, the last one not answered yet: int32[]."""
    return state.cards[state.cards.shape[0] - 1 - state.answered]


def render(state: State, params: Params) -> jax.Array:
    """Draw the state: uint8[S, S, 3], S = params.obs_size."""
    num_cards = params.num_cards
    on_show = jnp.where(
        state.time < num_cards, state.cards[jnp.minimum(state.time, num_cards - 1)], _EMPTY
    )
    canvas = draw.field(params.obs_size)
    if not params.partial_obs:
        numbers = np.arange(num_cards, dtype=np.int32)
        in_field = numbers < jnp.minimum(state.time, num_cards - state.answered)
        cards = jnp.pad(
            jnp.where(in_field, state.cards, _EMPTY),
            (0, -num_cards % _CARDS_PER_ROW),
            constant_values=_EMPTY,
        )
        canvas = draw.board(canvas, cards.reshape(-1, _CARDS_PER_ROW), tiles=draw.CARDS)
    corners = jnp.stack([on_show, state.selected])
    return draw.frame(
        canvas, score=state.score, name=NAME, corner_ids=corners, corner_tiles=draw.CARDS
    )


LEVELS: dict[str, Params] = {
    "Easy": Params(num_cards=26, max_steps_in_episode=260),
    "Medium": Params(num_cards=52, max_steps_in_episode=520),
    "Hard": Params(num_cards=78, max_steps_in_episode=780),
}
