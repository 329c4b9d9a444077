"""CountRecall: say how often you have seen a suit.

Cards go by. With each card comes a question about a suit: how many cards of it were dealt before
the current card?

Start: a deck of N cards with the first K of the suits heart, spade, club and diamond, in turn,
uniformly shuffled. The questions are an independent shuffle of the same deck. The counter is at 0.

Actions: 0 up adds 1 to the counter, 1 down subtracts 1; it stays within [0, 99]. 4 fire submits it.
2 left, 3 right and any other integer do nothing.

Rewards: fire is right if the counter equals the number of cards of the asked suit that were dealt
before the current card. A right answer pays 1 / N and raises the score by 1. Right or wrong, the
current card is then counted as dealt, and the next card and question come up. The counter keeps its
value. Returns lie in [0, 1].

Episode end: terminated after N answers; truncated at 10 N steps.

Views: the current card is at the top left, the asked suit at the top right, with the counter before
it. The MDP's field shows all cards dealt before, nine per row. The POMDP's field is blank.

Levels: Easy N = 26 with K = 2 suits, Medium N = 52 with K = 2, Hard N = 78 with K = 4; limits 260,
520, 780.

Source: POPGym Arcade 0.0.7.

Differences from 0.0.7:
* The counter stops at 0 and at 99. It went below zero, and only its last digit was drawn.
* The limit is 10 N steps. With 100 + N steps, most decks of the Hard level could not be won.

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
    "MOST",
    "NAME",
    "RETURN_RANGE",
    "RIGHT",
    "UP",
    "VERSION",
    "Params",
    "State",
    "answer",
    "count",
    "deal",
    "render",
    "reset",
    "step",
    "true_count",
]

NAME: str = "CountRecall"
VERSION: int = 1
RETURN_RANGE: tuple[float, float] = (0.0, 1.0)  # at every level
UP, DOWN, LEFT, RIGHT, FIRE = range(5)
MOST = 99  # the highest value of the counter
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
    # K
    num_suits: int = field(default=2, metadata={"static": True, "allowed": range(2, 5)})
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
    """One episode; N is params.num_cards, K is params.num_suits.

    Suits: 0 heart, 1 spade, 2 club, 3 diamond.
    """

    values: jax.Array  # int32[N], in [0, K - 1]: the suits of the cards in the order of dealing
    queries: jax.Array  # int32[N], in [0, K - 1]: the suits asked for
    # answers given; also the position of the current card and question
    index: jax.Array  # int32[], in [0, N]  # pyright: ignore[reportIncompatibleMethodOverride]
    seen: jax.Array  # int32[K], in [0, N]: cards of each suit dealt before the current one
    counter: jax.Array  # int32[], in [0, 99]: the number that fire would submit
    time: jax.Array  # int32[]: steps taken
    score: jax.Array  # int32[], in [0, N]: right answers


def reset(key: jax.Array, params: Params) -> tuple[jax.Array, State]:
    """Begin an episode.

    key: a typed or raw PRNG key. params: Params. Returns (observation uint8[S, S, 3], State).
    """
    values, queries = (
        deal(key, params.num_cards, params.num_suits) for key in jax.random.split(key)
    )
    zero, seen = (jnp.zeros_like(values, shape=shape) for shape in ((), params.num_suits))
    state = State(values, queries, index=zero, seen=seen, counter=zero, time=zero, score=zero)
    return render(state, params), state


def step(
    key: jax.Array, state: State, action: jax.Array, params: Params
) -> tuple[jax.Array, State, jax.Array, jax.Array, dict[str, jax.Array]]:
    """Play one step, which is deterministic: the key is unused.

    key: a PRNG key. state: State. action: int[]. params: Params.
    Returns (observation uint8[S, S, 3], State, reward float32[], done bool[], info).
    """
    state = count(state, action)
    state, right = answer(state, action == FIRE)
    state = state._replace(time=state.time + 1)
    reward = jnp.float32(right) * (params.deck_reward / params.num_cards)
    terminated = state.index >= params.num_cards
    truncated = state.time >= params.max_steps_in_episode
    info = {
        "terminated": terminated,
        "truncated": truncated,
        "discount": (~terminated).astype(jnp.float32),
    }
    return render(state, params), state, reward.astype(jnp.float32), terminated | truncated, info


def deal(key: jax.Array, num_cards: int, num_suits: int) -> jax.Array:
    """The suits 0, 1, ..., num_suits - 1, 0, ... in uniformly random order: int32[num_cards].

    Each position draws a random number. The ranks of these numbers are a uniform permutation, so
    rank modulo num_suits is the suit, and nothing has to be gathered.
    """
    # The lowest seven bits hold the position, which makes the numbers distinct.
    positions = np.arange(num_cards, dtype=np.uint32)
    bits = jax.random.bits(key, (num_cards,), jnp.uint32) & ~np.uint32(127) | positions
    # In bytes and along this axis, the comparison is twice as fast.
    rank = jnp.sum(bits[:, None] < bits[None, :], axis=0, dtype=jnp.uint8)
    return rank.astype(jnp.int32) % num_suits


def count(state: State, action: jax.Array) -> State:
    """Count one up or down, within [0, MOST]."""
    counter = state.counter + jnp.int32(action == UP) - jnp.int32(action == DOWN)
    return state._replace(counter=jnp.clip(counter, 0, MOST))


def answer(state: State, fired: jax.Array) -> tuple[State, jax.Array]:
    """If ``fired``, submit the counter and deal the next card: (State, whether right, bool[])."""
    num_cards, num_suits = state.values.shape[0], state.seen.shape[0]
    fired = fired & (state.index < num_cards)
    right = fired & (state.counter == true_count(state))
    suits = np.arange(num_suits, dtype=np.int32)
    dealt = fired & (suits == state.values[jnp.minimum(state.index, num_cards - 1)])
    return state._replace(
        index=state.index + jnp.int32(fired),
        seen=state.seen + jnp.int32(dealt),
        score=state.score + jnp.int32(right),
    ), right


def true_count(state: State) -> jax.Array:
    """The number of cards of the asked suit dealt before the current card: int32[]."""
    return state.seen[state.queries[jnp.minimum(state.index, state.queries.shape[0] - 1)]]


def render(state: State, params: Params) -> jax.Array:
    """Draw the state: uint8[S, S, 3], S = params.obs_size."""
    num_cards = params.num_cards
    canvas = draw.field(params.obs_size)
    if not params.partial_obs:
        dealt = jnp.where(np.arange(num_cards, dtype=np.int32) < state.index, state.values, _EMPTY)
        dealt = jnp.pad(dealt, (0, -num_cards % _CARDS_PER_ROW), constant_values=_EMPTY)
        canvas = draw.board(
            canvas, dealt.reshape(-1, _CARDS_PER_ROW), tiles=draw.CARDS[: params.num_suits]
        )
    place = jnp.minimum(state.index, num_cards - 1)
    corners = jnp.where(
        state.index < num_cards, jnp.stack([state.values[place], state.queries[place]]), _EMPTY
    )
    return draw.frame(
        canvas,
        score=state.score,
        name=NAME,
        counter=state.counter,
        corner_ids=corners,
        corner_tiles=draw.CARDS[: params.num_suits],
    )


LEVELS: dict[str, Params] = {
    "Easy": Params(num_cards=26, num_suits=2, max_steps_in_episode=260),
    "Medium": Params(num_cards=52, num_suits=2, max_steps_in_episode=520),
    "Hard": Params(num_cards=78, num_suits=4, max_steps_in_episode=780),
}
