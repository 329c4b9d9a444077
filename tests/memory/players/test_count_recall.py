"""Tests of CountRecall's player: its keys, its counts, and its memoryless play."""

from functools import partial

import jax
import numpy as np

from popgym_arcade.games import count_recall
from popgym_arcade.memory.player import HIDDEN
from popgym_arcade.memory.players.count_recall import PLAYER, Shown
from popgym_arcade.registry import NO_ACTION
from tests.testing import DOWN, FIRE, UP

PARAMS = count_recall.Params(num_cards=4, num_suits=2, partial_obs=True, max_steps_in_episode=40)
REMEMBER, ACT = (jax.jit(partial(part, params=PARAMS)) for part in (PLAYER.remember, PLAYER.act))
BLANK = np.full(4, HIDDEN)


def frame(card, asked, counter=0, score=0, field=BLANK):
    return Shown(*map(np.int32, (score, counter, card, asked)), np.array(field, np.int32))


def test_keys_tell_all_frames_of_the_pomdp_apart():
    params = count_recall.LEVELS["Hard"]
    pairs = np.array([[HIDDEN, HIDDEN], *np.ndindex(4, 4)]).T
    score, counter, pair = (part.ravel() for part in np.indices((79, 100, 17)))
    keys = jax.vmap(lambda *parts: PLAYER.key(Shown(*parts, BLANK), params))(
        score, counter, *pairs[:, pair]
    )
    np.testing.assert_array_equal(np.sort(keys), np.arange(PLAYER.num_keys(params)))


def test_recall_counts_a_card_when_its_question_is_answered():
    memory = PLAYER.begin(PARAMS)
    script = [  # the last action, what is seen then, the counts, and the next action
        (NO_ACTION, frame(1, 1), [0, 0], FIRE),
        (FIRE, frame(1, 1), [0, 1], UP),  # the next pair of suits happens to be the same
        (UP, frame(1, 1, counter=1), [0, 1], FIRE),
        (FIRE, frame(0, 1, counter=1), [0, 2], UP),
        (FIRE, frame(0, 0, counter=1), [1, 2], FIRE),  # submitted too early
        (UP, frame(0, 0, counter=2), [1, 2], DOWN),
        (FIRE, frame(HIDDEN, HIDDEN, counter=2), [2, 2], None),  # the last answer
    ]
    for last_action, seen, counts, action in script:
        memory = REMEMBER(memory, np.int32(last_action), seen)
        assert memory.seen.tolist() == counts
        assert action is None or ACT(memory) == action


def test_recall_reads_the_mdps_field():
    seen = frame(1, 0, counter=2, field=[0, 1, 0, HIDDEN])
    memory = REMEMBER(PLAYER.begin(PARAMS), np.int32(NO_ACTION), seen)
    assert memory.seen.tolist() == [2, 1] and ACT(memory) == FIRE


def test_the_reflex_with_a_clock_counts_changes_of_the_pair_of_suits():
    params = count_recall.LEVELS["Easy"]
    act = jax.jit(partial(PLAYER.reflexes["keep a clock"], params=params))
    for asked, counter, score, action in (
        (0, 0, 0, UP),
        (0, 1, 0, FIRE),
        (1, 1, 0, UP),
        (1, 2, 0, FIRE),
        (0, 6, 0, FIRE),  # far ahead: it waits
        (0, 6, 1, UP),
        (0, 3, 6, UP),  # far behind: it catches up
    ):
        assert act(frame(1, asked, counter, score)) == action
