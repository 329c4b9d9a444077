"""Tests of Navigator: rules and randomness, and its Case for the tests of every game."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from popgym_arcade import REGISTRY, experts
from popgym_arcade.games import navigator
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
    run_script,
)

LEVELS = [navigator.NAME + level for level in navigator.LEVELS]


def manhattan(state):
    return abs(state.row - state.treasure_row) + abs(state.col - state.treasure_col)


def best_return(start, params):
    """The reward for the treasure minus the step cost of the shortest path."""
    return 1 - 0.5 / params.board_size**2 * manhattan(start)


def worst_return(start, params):
    """The step cost of all but the last step, which enters TNT."""
    return np.full(start.time.shape, -0.5 - 0.5 * (1 - 1 / params.board_size**2))


def scramble(rng, state, params):
    """Draw another treasure and other TNT."""
    count, n = len(state.time), params.board_size
    treasure = rng.integers(0, n, (2, count)).astype(np.int32)
    tnt = rng.random(state.tnt.shape) < 0.1
    tnt[np.arange(count), treasure[0], treasure[1]] = False
    return state._replace(tnt=tnt, treasure_row=treasure[0], treasure_col=treasure[1])


CASES = [
    Case(
        game=navigator.NAME,
        levels={"board_size": (8, 10, 12), "max_steps_in_episode": (64, 100, 144)},
        best_return=best_return,
        worst_return=worst_return,
        lowest_return=-1,
        scramble=scramble,
        together=("tnt", "treasure_row", "treasure_col"),  # no TNT lies on the treasure
    )
]


# --- randomness ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEVELS)
def test_navigator_starts_anywhere_but_on_a_hazard_and_the_treasure_can_be_reached(name):
    n, start = REGISTRY[name].params.board_size, many_starts(name)
    agent, treasure = start.row * n + start.col, start.treasure_row * n + start.treasure_col
    assert np.all(agent != treasure)
    pairs = np.bincount(agent * n * n + treasure, minlength=n**4).reshape(n * n, n * n)
    assert chi_square_p(pairs.sum(axis=0)) > 1e-4 and chi_square_p(pairs.sum(axis=1)) > 1e-4
    tnt = start.tnt.reshape(len(agent), -1)
    assert np.all(tnt.sum(axis=1) == 7)
    assert (
        not tnt[np.arange(len(agent)), agent].any()
        and not tnt[np.arange(len(agent)), treasure].any()
    )
    goal = np.arange(n * n) == treasure[:, None]
    distance = jax.jit(jax.vmap(experts.distances))(goal.reshape(start.tnt.shape), start.tnt)
    distance = np.asarray(distance).reshape(len(agent), -1)[np.arange(len(agent)), agent]
    np.testing.assert_array_equal(distance, manhattan(start))


def test_the_treasure_is_uniform_for_every_start_cell():
    start = many_starts("NavigatorEasy", 100_000)
    agent, treasure = start.row * 8 + start.col, start.treasure_row * 8 + start.treasure_col
    table = np.bincount(agent * 64 + treasure, minlength=64 * 64).reshape(64, 64)
    assert chi_square_p(table[~np.eye(64, dtype=bool)]) > 1e-4


@pytest.mark.parametrize(
    ("start", "end"), [((0, 0), (2, 2)), ((4, 1), (2, 4)), ((3, 3), (3, 0)), ((1, 4), (4, 4))]
)
def test_a_path_is_uniform_over_the_shortest_ones(start, end):
    size, (row, col), (to_row, to_col) = 5, start, end
    walk = jax.jit(
        jax.vmap(
            lambda key: navigator.random_path(
                key, *map(jnp.int32, (row, col, to_row, to_col)), size
            )
        )
    )
    rows_of_bits, above = map(np.asarray, walk(keys(2, 20_000)))
    cells = rows_of_bits[..., None] >> np.arange(size, dtype=np.uint32) & 1 == 1
    assert np.array_equal(above, np.cumsum(cells.sum(axis=2), axis=1) - cells.sum(axis=2))
    paths, counts = np.unique(cells.reshape(-1, size * size), axis=0, return_counts=True)
    rows, cols = abs(to_row - row), abs(to_col - col)
    assert len(paths) == round(stats.binom(rows + cols, 0.5).pmf(rows) * 2 ** (rows + cols))
    assert np.all(paths.sum(axis=1) == rows + cols + 1)
    assert len(counts) == 1 or chi_square_p(counts) > 1e-4
    grid = paths.reshape(-1, size, size)
    assert np.all(grid[:, row, col]) and np.all(grid[:, to_row, to_col])
    connected = jax.vmap(experts.distances, in_axes=(None, 0))(
        np.zeros((size, size), bool)
        | (np.indices((size, size)) == np.array([[[to_row]], [[to_col]]])).all(axis=0),
        ~grid,
    )
    assert np.all(np.asarray(connected)[:, row, col] == rows + cols)


def test_tnt_takes_every_set_of_free_cells_equally_often():
    path = np.zeros((4, 4), bool)
    path[0], path[:, 3] = True, True  # nine cells are free
    rows_of_bits, above = jnp.uint32([0b1111, 0b1000, 0b1000, 0b1000]), jnp.int32([0, 4, 5, 6])
    tnt = np.asarray(
        jax.jit(jax.vmap(lambda key: navigator.place_tnt(key, rows_of_bits, above)))(
            keys(3, 20_000)
        )
    )
    assert not (tnt & path).any() and np.all(tnt.sum(axis=(1, 2)) == 7)
    sets, counts = np.unique(tnt.reshape(len(tnt), -1), axis=0, return_counts=True)
    assert len(sets) == 36 and chi_square_p(counts) > 1e-4


# --- scripted episodes ---------------------------------------------------------------------------


def navigator_state(drawing, time=0):
    """A state from a drawing: A agent, X treasure, T TNT, B agent on the treasure."""
    agent = "B" if "B" in drawing else "A"
    row, col = cell_of(drawing, agent)
    treasure_row, treasure_col = (row, col) if agent == "B" else cell_of(drawing, "X")
    tnt = jnp.asarray(board_of(drawing, "T"))
    return navigator.State(
        tnt, treasure_row, treasure_col, row, col, time=jnp.int32(time), score=jnp.int32(0)
    )


NAVIGATOR = navigator.Params(board_size=4, max_steps_in_episode=16)
IDLE = -0.5 / 16


def test_navigator_walks_stops_at_the_edge_and_digs_up_the_treasure():
    state = navigator_state("AT.. .... ..X. ....")
    script = [
        (UP, IDLE, dict(row=0, col=0, time=1)),
        (LEFT, IDLE, dict(row=0, col=0)),
        (FIRE, IDLE, dict(row=0, col=0, score=0)),
        (DOWN, IDLE, dict(row=1, col=0)),
        (9, IDLE, dict(row=1, col=0, time=5)),
        (DOWN, IDLE, dict(row=2, col=0)),
        (RIGHT, IDLE, dict(row=2, col=1)),
        (RIGHT, IDLE, dict(row=2, col=2, score=0)),
        (FIRE, 1.0, dict(row=2, col=2, score=100, terminated=True, time=9, discount=0.0)),
    ]
    run_script(navigator, state, NAVIGATOR, script)


def test_navigator_dies_on_tnt_and_stops_at_the_far_edges():
    state = navigator_state(".... .... X.T. ...A")
    script = [
        (RIGHT, IDLE, dict(row=3, col=3)),
        (DOWN, IDLE, dict(row=3, col=3)),
        (LEFT, IDLE, dict(row=3, col=2)),
        (UP, -0.5, dict(row=2, col=2, score=0, terminated=True, discount=0.0)),
    ]
    run_script(navigator, state, NAVIGATOR, script)


def test_navigator_pays_for_the_last_step_and_both_flags_may_be_true():
    limit = dict(truncated=True, time=16)
    run_script(
        navigator,
        navigator_state("A... .... .... ..XT", time=15),
        NAVIGATOR,
        [(UP, IDLE, dict(limit, discount=1.0))],
    )
    run_script(
        navigator,
        navigator_state("AT.. .... .... ..X.", time=15),
        NAVIGATOR,
        [(RIGHT, -0.5, dict(limit, terminated=True))],
    )
    found = dict(limit, terminated=True, score=100, discount=0.0)
    run_script(
        navigator, navigator_state("BT.. .... .... ....", time=15), NAVIGATOR, [(FIRE, 1.0, found)]
    )
