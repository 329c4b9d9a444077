"""Tests of CountRecall: rules and randomness, and its Case for the tests of every game."""

import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade import REGISTRY
from popgym_arcade.games import count_recall
from tests.testing import DOWN, FIRE, LEFT, RIGHT, UP, Case, chi_square_p, many_starts, run_script

LEVELS = [count_recall.NAME + level for level in count_recall.LEVELS]


def scramble(rng, state, params):
    """Draw other cards, questions and counters."""
    values, queries = rng.permuted(state.values, axis=1), rng.permuted(state.queries, axis=1)
    counter = rng.integers(0, count_recall.MOST + 1, len(state.time)).astype(np.int32)
    return state._replace(values=values, queries=queries, counter=counter)


CASES = [
    Case(
        game=count_recall.NAME,
        levels={
            "num_cards": (26, 52, 78),
            "num_suits": (2, 2, 4),
            "max_steps_in_episode": (260, 520, 780),
        },
        best_return=lambda start, params: np.ones(start.time.shape),
        worst_return=lambda start, params: np.zeros(start.time.shape),
        lowest_return=0,
        scramble=scramble,
        different_first_frames=4,  # two cards and two questions on the Easy level
    )
]


# --- randomness ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEVELS)
def test_cards_and_questions_are_uniform_shuffles_that_know_nothing_of_each_other(name):
    start, params = many_starts(name), REGISTRY[name].params
    deck = np.arange(params.num_cards) % params.num_suits
    share = np.bincount(deck) / len(deck)
    for cards in (start.values, start.queries):
        assert np.all(np.sort(cards, axis=1) == np.sort(deck))
        for place in (0, 1, len(deck) // 2, len(deck) - 1):
            assert (
                chi_square_p(np.bincount(cards[:, place], minlength=len(share)), share * len(cards))
                > 1e-4
            )
        first_two = np.bincount(
            cards[:, 0] * params.num_suits + cards[:, 1], minlength=params.num_suits**2
        )
        count = np.bincount(deck)
        expected = (np.outer(count, count) - np.diag(count)) / (len(deck) * (len(deck) - 1))
        assert chi_square_p(first_two, expected.reshape(-1) * len(cards)) > 1e-4
    both = np.bincount(
        start.values[:, 0] * params.num_suits + start.queries[:, 0], minlength=params.num_suits**2
    )
    assert chi_square_p(both, np.outer(share, share).reshape(-1) * len(start.time)) > 1e-4


# --- scripted episodes ---------------------------------------------------------------------------

PARAMS = count_recall.Params(num_cards=3, num_suits=2, max_steps_in_episode=30)


def dealt(values, queries, **fields):
    """A state with these cards and questions; the cards before ``index`` are counted."""
    fields = {"index": 0, "counter": 0, "time": 0, "score": 0, **fields}
    seen = np.bincount(values[: fields["index"]], minlength=2)
    numbers = {name: jnp.int32(value) for name, value in fields.items()}
    return count_recall.State(
        *(jnp.array(cards, jnp.int32) for cards in (values, queries)),
        seen=jnp.array(seen, jnp.int32),
        **numbers,
    )


def test_count_recall_asks_for_what_was_dealt_before_the_card_on_show():
    script = [
        (
            FIRE,
            1 / 3,
            dict(index=1, score=1, seen=[0, 1]),
        ),  # the current card, a spade, does not count yet
        (
            FIRE,
            0,
            dict(index=2, score=1, seen=[1, 1]),
        ),  # one spade was dealt, not none; the next card is a heart
        (UP, 0, dict(counter=1, index=2)),
        (UP, 0, dict(counter=2)),
        (LEFT, 0, dict(counter=2, index=2)),
        (RIGHT, 0, dict(counter=2, index=2)),
        (DOWN, 0, dict(counter=1)),
        (9, 0, dict(counter=1, index=2, time=8)),
        (
            FIRE,
            1 / 3,
            dict(counter=1, index=3, score=2, seen=[2, 1], terminated=True, discount=0.0),
        ),
    ]
    run_script(count_recall, dealt([1, 0, 0], [1, 1, 0]), PARAMS, script)


def test_count_recalls_counter_keeps_to_its_two_digits():
    script = [
        (DOWN, 0, dict(counter=0)),
        (UP, 0, dict(counter=1)),
        (DOWN, 0, dict(counter=0)),
        (DOWN, 0, dict(counter=0)),
    ]
    run_script(count_recall, dealt([1, 0, 0], [1, 1, 0]), PARAMS, script)
    script = [(UP, 0, dict(counter=99)), (UP, 0, dict(counter=99)), (DOWN, 0, dict(counter=98))]
    run_script(count_recall, dealt([1, 0, 0], [1, 1, 0], counter=98), PARAMS, script)


def test_count_recall_pays_for_an_answer_on_the_last_step():
    state = dealt([1, 0, 0], [1, 1, 0], index=1, counter=1, time=29)
    run_script(
        count_recall, state, PARAMS, [(FIRE, 1 / 3, dict(index=2, truncated=True, discount=1.0))]
    )
    state = dealt([1, 0, 0], [1, 1, 0], index=2, counter=1, time=29)
    run_script(
        count_recall,
        state,
        PARAMS,
        [(FIRE, 1 / 3, dict(index=3, truncated=True, terminated=True, discount=0.0))],
    )
