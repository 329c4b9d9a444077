"""Tests of AutoEncode: rules and randomness, and its Case for the tests of every game."""

import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade.games import autoencode
from tests.testing import DOWN, FIRE, LEFT, RIGHT, UP, Case, chi_square_p, many_starts, run_script

LEVELS = [autoencode.NAME + level for level in autoencode.LEVELS]


def scramble(rng, state, params):
    """Shuffle the deck, draw the selected suit and, after watching, the number of answers."""
    count = len(state.time)
    answered = np.where(
        state.time < params.num_cards, 0, rng.integers(0, params.num_cards, count)
    ).astype(np.int32)
    selected = rng.integers(0, 4, count).astype(np.int32)
    return state._replace(
        cards=rng.permuted(state.cards, axis=1), answered=answered, selected=selected
    )


CASES = [
    Case(
        game=autoencode.NAME,
        levels={"num_cards": (26, 52, 78), "max_steps_in_episode": (260, 520, 780)},
        best_return=lambda start, params: np.ones(start.time.shape),
        worst_return=lambda start, params: np.zeros(start.time.shape),
        lowest_return=0,
        scramble=scramble,
        different_first_frames=2,  # they show only the first card
    )
]


# --- randomness ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEVELS)
def test_a_deck_is_a_uniform_shuffle_of_the_suits(name):
    cards = many_starts(name).cards
    deck = np.arange(cards.shape[1]) % 4
    assert np.all(np.sort(cards, axis=1) == np.sort(deck))
    share = np.bincount(deck) / len(deck)
    for place in (0, 1, len(deck) // 2, len(deck) - 1):
        assert chi_square_p(np.bincount(cards[:, place], minlength=4), share * len(cards)) > 1e-4
    first_two = np.bincount(cards[:, 0] * 4 + cards[:, 1], minlength=16)
    count = np.bincount(deck)
    expected = (np.outer(count, count) - np.diag(count)) / (len(deck) * (len(deck) - 1))
    assert chi_square_p(first_two, expected.reshape(-1) * len(cards)) > 1e-4


# --- scripted episodes ---------------------------------------------------------------------------


def autoencode_state(cards, **fields):
    zero = jnp.int32(0)
    state = autoencode.State(
        jnp.array(cards, jnp.int32), answered=zero, selected=zero, time=zero, score=zero
    )
    return state._replace(**{key: jnp.int32(value) for key, value in fields.items()})


def test_autoencode_asks_the_deck_back_in_reverse():
    params = autoencode.Params(num_cards=3, max_steps_in_episode=30)
    script = [
        (FIRE, 0, dict(answered=0, time=1)),  # nothing can be submitted while watching
        (LEFT, 0, dict(selected=1)),
        (LEFT, 0, dict(selected=2, answered=0, time=3)),
        (FIRE, 1 / 3, dict(answered=1, score=1)),  # the last card, a club
        (UP, 0, dict(answered=1, selected=2)),
        (DOWN, 0, dict(answered=1, selected=2)),
        (FIRE, 0, dict(answered=2, score=1)),  # wrong: the card was a heart
        (RIGHT, 0, dict(selected=1)),
        (RIGHT, 0, dict(selected=0)),
        (RIGHT, 0, dict(selected=3)),
        (LEFT, 0, dict(selected=0)),
        (RIGHT, 0, dict(selected=3, answered=2)),
        (FIRE, 1 / 3, dict(answered=3, score=2, terminated=True, discount=0.0, time=13)),
    ]
    run_script(autoencode, autoencode_state([3, 0, 2]), params, script)


def test_autoencode_pays_for_an_answer_on_the_last_step():
    params = autoencode.Params(num_cards=3, max_steps_in_episode=30)
    state = autoencode_state([3, 0, 2], time=29, selected=0, answered=1)
    run_script(
        autoencode, state, params, [(FIRE, 1 / 3, dict(answered=2, truncated=True, discount=1.0))]
    )
    state = state._replace(answered=jnp.int32(2), selected=jnp.int32(3))
    run_script(
        autoencode,
        state,
        params,
        [(FIRE, 1 / 3, dict(answered=3, truncated=True, terminated=True, discount=0.0))],
    )
