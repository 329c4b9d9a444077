"""Tests of MineSweeper's player."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade.games import minesweeper
from popgym_arcade.memory.player import HIDDEN
from popgym_arcade.memory.players import minesweeper as player
from popgym_arcade.memory.players.minesweeper import COVERED, PLAYER, Shown
from popgym_arcade.registry import NO_ACTION, Action
from tests.testing import board_of

PARAMS = dataclasses.replace(minesweeper.LEVELS["Easy"], partial_obs=True)
EDITION_1 = dataclasses.replace(PARAMS, cursor_hidden=False)


def read(drawing):
    """The dug cells of a drawing, bool[n, n], and their numbers, int[n, n]; dots are covered."""
    numbers = [[int(cell) if cell.isdigit() else 0 for cell in row] for row in drawing.split()]
    return ~board_of(drawing, "."), np.array(numbers)


def infer(drawing, num_mines, function=player.mine_probability):
    """How likely each cell of a drawing hides a mine: float[n, n]."""
    return np.asarray(jax.jit(function, static_argnums=2)(*read(drawing), num_mines))


# --- inference -----------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [player.mine_probability, player._propagate_beliefs])
def test_a_number_shares_its_mines_among_its_neighbors_and_the_rest_share_the_others(function):
    chance = infer("1... .... .... ....", 2, function)
    np.testing.assert_allclose(chance[[0, 1, 1], [1, 0, 1]], 1 / 3, atol=0.01)
    np.testing.assert_allclose(chance[2:], 1 / 12, atol=0.01)
    assert chance[0, 0] == 0 and chance.sum() == pytest.approx(2, abs=0.01)


def test_easy_counts_the_placements_that_agree_with_all_numbers():
    chance = infer("11.. .... .... ....", 2)
    # One mine below the two numbers, the other anywhere else but next to them.
    expected = [[0, 0, 0, 0.1], [0.5, 0.5, 0, 0.1], [0.1] * 4, [0.1] * 4]
    np.testing.assert_allclose(chance, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("numbers", "mines"), [("111111", ".X..X."), ("122221", "X.XX.X"), ("011222", "..X.XX")]
)
def test_beliefs_find_what_follows_from_several_numbers_together(numbers, mines):
    chance = infer(f"000000 000000 {numbers} ...... ...... ......", 6)
    np.testing.assert_allclose(chance[3], board_of(mines, "X")[0], atol=0.03)


def test_beliefs_know_that_no_more_mines_are_left():
    chance = infer("1..... ...... ...... ...... ...... ......", 1)
    np.testing.assert_allclose(chance[[0, 1, 1], [1, 0, 1]], 1 / 3, atol=0.01)
    assert np.all(chance[2:] < 0.001)


# --- play ----------------------------------------------------------------------------------------


def frame(row, col, mark):
    """A frame of the POMDP."""
    size = PARAMS.board_size
    marks = jnp.full((size, size), HIDDEN)
    return Shown(*map(jnp.int32, (0, row, col, mark)), marks, jnp.int32(HIDDEN))


def test_recall_follows_its_own_moves_and_keeps_the_numbers():
    script = [
        (NO_ACTION, frame(0, 2, HIDDEN)),
        (Action.FIRE, frame(HIDDEN, HIDDEN, 1)),
        (Action.UP, frame(HIDDEN, HIDDEN, 1)),  # against the edge
        (Action.LEFT, frame(HIDDEN, HIDDEN, COVERED)),
        (Action.FIRE, frame(HIDDEN, HIDDEN, 1)),
        (Action.DOWN, frame(HIDDEN, HIDDEN, COVERED)),
    ]
    remember, memory = jax.jit(PLAYER.remember), PLAYER.begin(PARAMS)
    for action, seen in script:
        memory = remember(memory, jnp.int32(action), seen, PARAMS)
    assert (memory.state.row, memory.state.col) == (1, 1)
    np.testing.assert_array_equal(np.argwhere(memory.state.dug), [[0, 1], [0, 2]])
    assert memory.numbers[0].tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("cell", "action"),
    [((3, 2), Action.FIRE), ((1, 2), Action.UP), ((2, 3), Action.LEFT), ((3, 0), Action.RIGHT)],
)
def test_recall_digs_at_the_nearest_cell_that_must_be_safe(cell, action):
    # One mine is at (1, 2), the other in the last column.
    dug, numbers = map(jnp.asarray, read("01.. 01.. 01.. 00.."))
    row, col = map(jnp.int32, cell)
    state = PLAYER.begin(PARAMS).state._replace(dug=dug, row=row, col=col)
    memory = player.Memory(state, numbers)
    assert jax.jit(PLAYER.act)(memory, PARAMS) == action


# --- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [PARAMS, EDITION_1], ids=["edition 2", "edition 1"])
def test_the_key_tells_frames_apart(params):
    size = params.board_size
    cells = [(row, col) for row in range(size) for col in range(size)]
    places = [(HIDDEN, HIDDEN)] if params.cursor_hidden else cells
    frames = [
        (score, *place, mark) for score in range(15) for place in places for mark in range(11)
    ]
    firsts = [(0, *cell, HIDDEN) for cell in cells] if params.cursor_hidden else []
    fields = np.array(frames + firsts, np.int32).T
    boards = np.full((fields.shape[1], size, size), HIDDEN)
    seen = Shown(*fields, boards, fields[0])
    key = np.asarray(jax.vmap(PLAYER.key, in_axes=(0, None))(seen, params))
    assert len(np.unique(key)) == len(key)
    assert key.min() >= 0 and key.max() < PLAYER.num_keys(params)
