"""Tests of AutoEncode's player: its keys, its stack of cards, and its memoryless play."""

from functools import partial

import jax
import numpy as np

from popgym_arcade.games import autoencode
from popgym_arcade.memory.player import HIDDEN
from popgym_arcade.memory.players.autoencode import PLAYER, Shown
from popgym_arcade.registry import NO_ACTION
from tests.testing import DOWN, FIRE, LEFT, RIGHT

PARAMS = autoencode.Params(num_cards=3, partial_obs=True, max_steps_in_episode=30)
REMEMBER, ACT = (jax.jit(partial(part, params=PARAMS)) for part in (PLAYER.remember, PLAYER.act))
BLANK = np.full(3, HIDDEN)


def frame(card=HIDDEN, selected=0, score=0, field=BLANK):
    return Shown(*map(np.int32, (score, card, selected)), np.array(field, np.int32))


def test_keys_tell_all_frames_of_the_pomdp_apart():
    params = autoencode.LEVELS["Hard"]
    every = np.meshgrid(np.arange(79), np.arange(HIDDEN, 4), np.arange(4), indexing="ij")
    keys = jax.vmap(lambda *parts: PLAYER.key(Shown(*parts, BLANK), params))(
        *(part.ravel() for part in every)
    )
    np.testing.assert_array_equal(np.sort(keys), np.arange(PLAYER.num_keys(params)))


def test_recall_puts_cards_on_a_stack_and_takes_them_off_in_reverse():
    memory = PLAYER.begin(PARAMS)
    script = [  # the last action, what is seen then, and the cards that are remembered
        (NO_ACTION, frame(card=3), [3]),
        (FIRE, frame(card=0), [3, 0]),  # while watching, fire answers nothing
        (LEFT, frame(card=2, selected=1), [3, 0, 2]),
        (LEFT, frame(selected=2), [3, 0, 2]),
        (DOWN, frame(selected=2), [3, 0, 2]),
        (FIRE, frame(selected=2, score=1), [3, 0]),
        (FIRE, frame(selected=2, score=1), [3]),  # wrong
        (LEFT, frame(selected=3, score=1), [3]),
    ]
    for last_action, seen, cards in script:
        memory = REMEMBER(memory, np.int32(last_action), seen)
        assert memory.cards[: memory.size].tolist() == cards
        turns = (cards[-1] - int(seen.selected)) % 4
        assert ACT(memory) == [FIRE, LEFT, LEFT, RIGHT][turns]


def test_recall_reads_the_mdps_field():
    for field, card, top in (([3, 0, HIDDEN], HIDDEN, 0), ([3, HIDDEN, HIDDEN], 1, 1)):
        seen = frame(card=card, selected=top, field=field)
        memory = REMEMBER(PLAYER.begin(PARAMS), np.int32(NO_ACTION), seen)
        assert memory.size == 2 and memory.cards[1] == top
        assert ACT(memory) == FIRE


def test_a_reflex_goes_on_to_the_next_suit_when_the_score_says_that_all_of_one_are_found():
    params = autoencode.LEVELS["Easy"]  # 7 hearts, 7 spades, 6 clubs, 6 diamonds
    act = jax.jit(partial(PLAYER.reflexes["suit after suit"], params=params))
    for score, suit in ((0, 0), (6, 0), (7, 1), (13, 1), (14, 2), (19, 2), (20, 3), (26, 3)):
        assert act(frame(selected=suit, score=score)) == FIRE
        assert act(frame(selected=suit - 1, score=score)) == LEFT
