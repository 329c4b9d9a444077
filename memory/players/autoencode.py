"""AutoEncode: the whole deck, card by card.

Each card is shown once, for one step, and asked for again in reverse order, so the first card must
be remembered throughout the episode. Recall keeps the cards as a stack: it puts every card that it
sees on top, and takes the top one off with every answer.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import experts
from popgym_arcade.games import autoencode
from popgym_arcade.memory.player import HIDDEN, Player
from popgym_arcade.registry import Action


class Shown(NamedTuple):
    """What a frame shows; N is params.num_cards. Suits are in [0, 3]."""

    score: jax.Array  # int32[], in [0, N]
    card: jax.Array  # int32[]: the suit of the card on show, hidden after watching
    selected: jax.Array  # int32[]: the suit that fire would submit
    # int32[N]: the suits of the cards dealt before and not answered yet, hidden elsewhere; in the
    # POMDP hidden everywhere
    field: jax.Array


def shown(state: autoencode.State, params: autoencode.Params) -> Shown:
    """What the frame of a state shows."""
    num_cards = params.num_cards
    card = state.cards[jnp.minimum(state.time, num_cards - 1)]
    in_field = np.arange(num_cards) < jnp.minimum(state.time, num_cards - state.answered)
    return Shown(
        state.score,
        jnp.where(state.time < num_cards, card, HIDDEN),
        state.selected,
        jnp.where(in_field & (not params.partial_obs), state.cards, HIDDEN),
    )


# --- without memory ------------------------------------------------------------------------------


def num_keys(params: autoencode.Params) -> int:
    """The number of frames of the POMDP: scores times cards on show, or none, times suits."""
    return (params.num_cards + 1) * (autoencode.NUM_SUITS + 1) * autoencode.NUM_SUITS


def key(shown: Shown, params: autoencode.Params) -> jax.Array:
    """The whole frame of the POMDP: int32[]."""
    score_and_card = shown.score * (autoencode.NUM_SUITS + 1) + shown.card - HIDDEN
    return score_and_card * autoencode.NUM_SUITS + shown.selected


def suit_after_suit(shown: Shown, params: autoencode.Params) -> jax.Array:
    """Submit hearts until the score says that none is left, then spades, and so on: int32[]."""
    suit = jnp.sum(shown.score >= np.cumsum(_suit_counts(params.num_cards))[:-1])
    return _submit(suit, shown.selected)


def last_card_first(shown: Shown, params: autoencode.Params) -> jax.Array:
    """Follow the cards on show, submit what is selected until right once, then suit after suit.

    One turn per card is enough to have the last card selected in three of four decks.
    """
    watch = _submit(shown.card, shown.selected)
    first = jnp.where(shown.score == 0, autoencode.FIRE, suit_after_suit(shown, params))
    return jnp.where(shown.card == HIDDEN, first, watch)


def _suit_counts(num_cards: int) -> np.ndarray:
    """How many cards of each suit a deck has: int[4]."""
    return np.bincount(np.arange(num_cards) % autoencode.NUM_SUITS, minlength=autoencode.NUM_SUITS)


def _submit(suit: jax.Array, selected: jax.Array) -> jax.Array:
    """Turn to a suit in as few turns as possible, then submit it: int32[]."""
    turns = (suit - selected) % autoencode.NUM_SUITS
    return jnp.array([Action.FIRE, Action.LEFT, Action.LEFT, Action.RIGHT])[turns]


# --- with memory ---------------------------------------------------------------------------------


class Memory(NamedTuple):
    """The cards seen and not answered yet."""

    cards: jax.Array  # int32[N]: the first ``size`` are their suits in the order of dealing
    size: jax.Array  # int32[], in [0, N]
    watching: jax.Array  # bool[]: whether the last frame showed a card
    selected: jax.Array  # int32[]: the suit that fire would submit


def begin(params: autoencode.Params) -> Memory:
    """Remember nothing."""
    cards = jnp.full(params.num_cards, HIDDEN, jnp.int32)
    return Memory(cards, jnp.int32(0), jnp.bool_(True), jnp.int32(0))


def remember(
    memory: Memory, last_action: jax.Array, shown: Shown, params: autoencode.Params
) -> Memory:
    """Take off the card that was answered, and put the card on show on top."""
    answered = ~memory.watching & (last_action == autoencode.FIRE)
    cards = jnp.where(shown.field == HIDDEN, memory.cards, shown.field)
    size = jnp.maximum(memory.size - answered, jnp.sum(shown.field != HIDDEN))
    watching = shown.card != HIDDEN
    cards = jnp.where(watching & (np.arange(params.num_cards) == size), shown.card, cards)
    return Memory(cards, (size + watching).astype(jnp.int32), watching, shown.selected)


def act(memory: Memory, params: autoencode.Params) -> jax.Array:
    """Submit the suit of the top card; while watching, that only selects the suit: int32[]."""
    return experts.expert(_believed(memory, params), params)


def _believed(memory: Memory, params: autoencode.Params) -> autoencode.State:
    """The state that the memory describes, as far as the expert looks at it."""
    return autoencode.State(
        memory.cards,
        answered=params.num_cards - memory.size,
        selected=memory.selected,
        time=jnp.int32(0),
        score=jnp.int32(0),
    )


PLAYER = Player(
    shown,
    num_keys,
    key,
    features=None,
    reflexes={"suit after suit": suit_after_suit, "last card first": last_card_first},
    begin=begin,
    remember=remember,
    act=act,
)
