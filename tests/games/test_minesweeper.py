"""Tests of MineSweeper: rules and randomness, and its Case for the tests of every game."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade import REGISTRY, make
from popgym_arcade import render as draw
from popgym_arcade.games import minesweeper
from tests.testing import (
    DOWN,
    FIRE,
    LEFT,
    RIGHT,
    UP,
    Case,
    board_of,
    cell_of,
    chi_square_p,
    keys,
    many_starts,
    one_of,
    rendered,
    run_script,
    some_states,
)

LEVELS = [minesweeper.NAME + level for level in minesweeper.LEVELS]


def marks_of(mines):
    """What each cell shows once dug: the number of mines around it, or 9 for a mine; int[n, n]."""
    n, padded = len(mines), np.pad(mines, 1).astype(int)
    around = sum(padded[row : row + n, col : col + n] for row in range(3) for col in range(3))
    return np.where(mines, 9, around)


def scramble(rng, state, params):
    """Draw other mines, dug cells and repeats."""
    count, n = len(state.time), params.board_size
    mines = rng.random(state.mines.shape) < rng.random((count, 1, 1))
    dug = rng.random(state.dug.shape) < rng.random((count, 1, 1))
    return state._replace(
        mines=mines, dug=dug, repeats=rng.integers(0, n**2 // 2, count).astype(np.int32)
    )


def worst_return(start, params):
    """The reward for one safe cell, dug again until the budget is used up."""
    return np.full(start.time.shape, 1 / (params.board_size**2 - params.num_mines) - 1)


CASES = [
    Case(
        game=minesweeper.NAME,
        levels={
            "board_size": (4, 6, 8),
            "num_mines": (2, 6, 10),
            "max_steps_in_episode": (32, 72, 128),
        },
        best_return=lambda start, params: np.ones(start.time.shape),
        worst_return=worst_return,
        lowest_return=-1,
        scramble=scramble,
        different_first_frames=8,  # 16 cells for the cursor on the Easy level
    )
]


# --- views ---------------------------------------------------------------------------------------


def ten_marks_and_covered_cells(name):
    """16 states: cell (1, 1) is dug and shows 0 to 8 or a mine, and it is covered in the last 6."""
    n, state = (
        REGISTRY[name].params.board_size,
        jax.tree.map(lambda leaf: leaf[:16], many_starts(name, 2000)),
    )
    around = [(row, col) for row in (0, 1, 2) for col in (0, 1, 2) if (row, col) != (1, 1)]
    mines = np.zeros((16, n, n), bool)
    for number in range(9):
        for cell in around[:number]:
            mines[number][cell] = True
    mines[9, 1, 1] = True
    dug = np.zeros_like(mines)
    dug[:10, 1, 1] = True
    one = np.ones(16, np.int32)
    return state._replace(
        mines=mines, dug=dug, row=one, col=one, repeats=0 * one, time=one, score=0 * one
    )


@pytest.mark.parametrize("obs_size", [128, pytest.param(256, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", LEVELS)
def test_all_digits_and_the_mine_look_different_with_and_without_the_cursor(name, obs_size):
    state = ten_marks_and_covered_cells(name)
    away = state._replace(row=3 * state.row, col=3 * state.col)
    for partial_obs, states in ((False, state), (False, away), (True, state)):
        frames = rendered(name, partial_obs, states, obs_size=obs_size).reshape(16, -1)
        assert len(np.unique(frames, axis=0)) == 11


@pytest.mark.slow
@pytest.mark.parametrize("name", LEVELS)
def test_a_digit_under_the_cursor_leaves_a_margin_at_256_pixels(name):
    state, (_, params) = ten_marks_and_covered_cells(name), make(name, obs_size=256)

    def drawn(i):
        return np.asarray(minesweeper.render(one_of(state, i), params))

    paper = np.all(drawn(10) == draw.PALETTE["y"], axis=2)  # covered: nothing but the cursor
    rows, cols = (np.flatnonzero(paper.any(axis=axis)) for axis in (1, 0))
    assert paper[np.ix_(rows, cols)].all()
    edge = paper.copy()
    edge[rows[1] : rows[-1], cols[1] : cols[-1]] = False
    for mark in (0, 8, 9):  # a mine is as wide as it is high
        digit = drawn(mark)
        assert np.any(digit[paper] != draw.PALETTE["y"])
        assert np.all(digit[edge] == draw.PALETTE["y"])


@pytest.mark.parametrize("name", LEVELS)
def test_the_pomdp_enlarges_the_cursors_cell_and_hides_its_place_after_time_0(name):
    state = ten_marks_and_covered_cells(name)
    moved = state._replace(  # the whole field is one row lower, and the other cells are dug
        mines=np.roll(state.mines, 1, axis=1),
        dug=np.roll(~state.dug, 1, axis=1),
        row=state.row + 1,
    )
    moved.dug[:, 2, 1] = state.dug[:, 1, 1]
    np.testing.assert_array_equal(rendered(name, True, state), rendered(name, True, moved))
    start, moved_start = (states._replace(time=0 * states.time) for states in (state, moved))
    frames, moved_frames = (rendered(name, True, states) for states in (start, moved_start))
    assert np.all(frames == frames[0]) and np.all(np.any(frames != moved_frames, axis=(1, 2, 3)))
    covered = start._replace(dug=np.zeros_like(start.dug))
    board = slice(14, 114)  # below the score and above the bar, which the POMDP lacks
    np.testing.assert_array_equal(frames[:, board], rendered(name, False, covered)[:, board])


@pytest.mark.slow  # the view of edition 1
def test_with_the_cursor_visible_the_pomdp_is_the_mdp_with_one_cell_and_without_the_bar():
    name = "MineSweeperEasy"
    state = jax.tree.map(lambda leaf: leaf[:128], some_states(name))
    cell = np.arange(128), state.row, state.col
    only_here = np.zeros_like(state.dug)
    only_here[cell] = state.dug[cell]
    assert only_here.any() and not np.array_equal(only_here, state.dug)
    frames = rendered(name, True, state, cursor_hidden=False)
    one_cell = rendered(name, False, state._replace(dug=only_here))
    board = slice(0, 114)
    np.testing.assert_array_equal(frames[:, board], one_cell[:, board])
    no_time = state._replace(time=0 * state.time)
    np.testing.assert_array_equal(frames, rendered(name, True, no_time, cursor_hidden=False))
    np.testing.assert_array_equal(
        rendered(name, False, state), rendered(name, False, state, cursor_hidden=False)
    )


# --- randomness ----------------------------------------------------------------------------------


def test_minesweepers_cursor_starts_on_every_cell_equally_often_also_on_mines():
    start = many_starts("MineSweeperEasy")
    assert chi_square_p(np.bincount(start.row * 4 + start.col, minlength=16)) > 1e-4
    on_mine = start.mines[np.arange(len(start.row)), start.row, start.col]
    assert chi_square_p(np.bincount(on_mine), np.array([14, 2]) / 16 * len(on_mine)) > 1e-4


@pytest.mark.parametrize(("size", "count"), [(4, 2), (2, 1), (2, 3), (4, 14)])
def test_every_set_of_cells_is_as_likely_to_hold_the_mines(size, count):
    mines = np.asarray(
        jax.jit(jax.vmap(lambda key: minesweeper.place_mines(key, count, size)))(keys(3, 20_000))
    )
    assert np.all(mines.sum(axis=(1, 2)) == count)
    sets, counts = np.unique(mines.reshape(len(mines), -1), axis=0, return_counts=True)
    assert (
        len(sets) == len(list(itertools.combinations(range(size * size), count)))
        and chi_square_p(counts) > 1e-4
    )


@pytest.mark.parametrize("name", LEVELS)
def test_every_field_has_its_number_of_mines_and_nothing_is_dug(name):
    start, params = many_starts(name, 2000), REGISTRY[name].params
    assert np.all(start.mines.sum(axis=(1, 2)) == params.num_mines) and not start.dug.any()


# --- scripted episodes ---------------------------------------------------------------------------

PARAMS = minesweeper.Params(board_size=4, num_mines=2, max_steps_in_episode=32)
SAFE, REPEAT = 1 / 14, -1 / 8


def mine_field(drawing, time=0):
    """A state from a drawing: M mine, C cursor on a safe cell, D cursor on a mine."""
    row, col = cell_of(drawing, "D" if "D" in drawing else "C")
    mines = jnp.asarray(board_of(drawing, "M") | board_of(drawing, "D"))
    zero = jnp.int32(0)
    return minesweeper.State(
        mines, jnp.zeros_like(mines), row, col, repeats=zero, time=jnp.int32(time), score=zero
    )


def test_minesweeper_pays_for_safe_cells_once_and_ends_on_a_mine():
    script = [
        (UP, 0, dict(row=0, col=0)),
        (LEFT, 0, dict(row=0, col=0)),
        (FIRE, SAFE, dict(score=1, repeats=0)),
        (FIRE, REPEAT, dict(score=1, repeats=1)),
        (DOWN, 0, dict(row=1, col=0, score=1)),
        (7, 0, dict(row=1, col=0, score=1, time=6)),
        (FIRE, SAFE, dict(score=2)),
        (RIGHT, 0, dict(row=1, col=1)),
        (FIRE, 0, dict(score=2, repeats=1, terminated=True, discount=0.0)),
    ]
    state = run_script(minesweeper, mine_field("C... .M.. .... ...M"), PARAMS, script)
    assert np.argwhere(state.dug).tolist() == [[0, 0], [1, 0], [1, 1]]  # nothing opens by itself


def test_minesweeper_ends_on_the_very_dig_that_uses_up_the_repeats():
    repeats = [(FIRE, REPEAT, dict(repeats=i)) for i in range(1, 8)]
    last = (FIRE, REPEAT, dict(repeats=8, score=1, terminated=True, discount=0.0, time=9))
    run_script(
        minesweeper,
        mine_field("C... .M.. .... ...M"),
        PARAMS,
        [(FIRE, SAFE, dict(repeats=0)), *repeats, last],
    )


def test_minesweeper_ends_when_the_last_safe_cell_is_dug():
    state = mine_field("C... .M.. .... ...M", time=31)
    state = state._replace(dug=(~state.mines).at[0, 0].set(False), score=jnp.int32(13))
    run_script(
        minesweeper,
        state,
        PARAMS,
        [(FIRE, SAFE, dict(score=14, terminated=True, truncated=True, discount=0.0))],
    )
    run_script(
        minesweeper, state, PARAMS, [(RIGHT, 0, dict(score=13, truncated=True, discount=1.0))]
    )


def test_minesweepers_cursor_stops_at_the_far_edges_and_may_pass_over_mines():
    script = [
        (DOWN, 0, dict(row=3)),
        (RIGHT, 0, dict(col=3)),
        (UP, 0, dict(row=2, col=3)),
        (DOWN, 0, dict(row=3)),
    ]
    run_script(minesweeper, mine_field("M... .... .... ...D"), PARAMS, script)


# --- overrides -----------------------------------------------------------------------------------


def test_the_program_that_places_mines_does_not_grow_with_their_number():
    def size(count):
        place = jax.jit(minesweeper.place_mines, static_argnums=(1, 2))
        return len(place.lower(jax.random.key(0), count, 14).as_text().splitlines())

    assert size(195) < size(2) + size(16) and size(195) < 1.2 * size(40)


def test_a_field_without_a_safe_cell_is_refused_with_the_nearest_number_of_mines():
    with pytest.raises(
        ValueError,
        match=r"num_mines must be in \[1, 15\] .* board_size is 4, but it is 16; the nearest is 15",
    ):
        make("MineSweeperEasy", num_mines=16)
