"""Tests of Skittles' player: what it infers about skittles that are out of view."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade.games import skittles
from popgym_arcade.memory.player import HIDDEN
from popgym_arcade.memory.players.skittles import PLAYER, _chances
from popgym_arcade.registry import NO_ACTION
from tests.testing import FIRE, LEFT, RIGHT, board_of

MDP = skittles.LEVELS["Easy"]
POMDP = dataclasses.replace(MDP, partial_obs=True)

_remember = jax.jit(
    lambda memory, action, state: PLAYER.remember(memory, action, PLAYER.shown(state, POMDP), POMDP)
)
_act = jax.jit(lambda memory: PLAYER.act(memory, POMDP))


def frame_of(drawing, col, score=20):
    """A state from a drawing of the lowest rows: E a skittle in view, H a hidden one."""
    in_view, hidden = board_of(drawing, "E"), board_of(drawing, "H")
    above = ((skittles.SIZE - len(in_view), 0), (0, 0))
    enemies, visible = np.pad(in_view | hidden, above), np.pad(in_view, above)
    return skittles.State(
        enemies=jnp.asarray(enemies),
        row_colors=jnp.arange(skittles.SIZE, dtype=jnp.int32) % 7,
        col=jnp.int32(col),
        visible=jnp.asarray(visible),
        time=jnp.int32(score),
        score=jnp.int32(score),
    )


def memory_after(states):
    """What recall remembers of these states' frames."""
    memory, last_action = PLAYER.begin(POMDP), NO_ACTION
    for state in states:
        memory, last_action = _remember(memory, jnp.int32(last_action), state), FIRE
    return memory


def test_a_skittle_that_was_seen_is_remembered_while_it_falls():
    seen = frame_of("...E...... .......... ..........", 6)
    hidden = frame_of(".......... ...H...... ..........", 6, score=21)
    assert memory_after([hidden]).cols[8] == HIDDEN
    assert memory_after([seen, hidden]).cols.tolist() == [HIDDEN] * 8 + [3, HIDDEN]


def test_a_skittle_not_seen_so_far_may_be_in_any_column_of_the_lane():
    memory = memory_after([frame_of("...E...... .......... ..........", 6, score=9)])
    chances = np.asarray(jax.jit(lambda memory: _chances(memory, POMDP))(memory))
    assert not chances[9].any(), "the tenth row has not entered"
    assert chances[7].tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(chances[8], [0, *[1 / 8] * 8, 0])


@pytest.mark.parametrize("beside, away", [(3, RIGHT), (5, LEFT)])
def test_recall_dodges_what_it_has_seen_and_stays_where_it_has_not(beside, away):
    above = "....E....."  # will fall on the player
    beside = "".join("E" if col == beside else "." for col in range(10))
    seen = frame_of(f"{above} {beside} ..........", 4)
    hidden = frame_of(f"{above} {beside}".replace("E", "H"), 4, score=21)
    assert _act(memory_after([hidden])) == FIRE
    assert _act(memory_after([seen, hidden])) == away


def test_keys_are_in_range_and_tell_columns_apart():
    corner = frame_of("........E. " * 3, 8)._replace(score=jnp.int32(100))
    states = [frame_of("..........", col) for col in range(1, 9)] + [corner]
    key = jax.jit(lambda state: PLAYER.key(PLAYER.shown(state, POMDP), POMDP))
    keys = [int(key(state)) for state in states]
    assert len(set(keys)) == 9 and 0 <= min(keys) and max(keys) < PLAYER.num_keys(POMDP)
