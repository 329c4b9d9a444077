"""Tests of BattleShip: rules and randomness, and its Case for the tests of every game."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade.games import battleship
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

LEVELS = [battleship.NAME + level for level in battleship.LEVELS]


def shown(state, params, partial_obs):
    """Score, cursor and its mark or, in the MDP view, all marks and the number of repeats."""
    marks = state.shots * (1 + state.ships)
    field = marks[state.row, state.col] if partial_obs else (marks.tobytes(), state.repeats)
    return state.score, state.row, state.col, field


def scramble(rng, state, params):
    """Exchange the fleets, and draw other shots and repeats."""
    count = len(state.time)
    shots = rng.random(state.shots.shape) < rng.random((count, 1, 1))
    repeats = rng.integers(0, params.board_size**2 // 2, count).astype(np.int32)
    return state._replace(ships=rng.permuted(state.ships, axis=0), shots=shots, repeats=repeats)


CASES = [
    Case(
        game=battleship.NAME,
        levels={"board_size": (8, 10, 12), "max_steps_in_episode": (128, 200, 288)},
        best_return=lambda start, params: np.ones(start.time.shape),
        worst_return=lambda start, params: -np.ones(start.time.shape),
        lowest_return=-1,
        shown=shown,
        scramble=scramble,
    )
]


# --- randomness ----------------------------------------------------------------------------------


def test_battleships_cursor_starts_on_every_cell_equally_often():
    start = many_starts("BattleShipEasy")
    assert chi_square_p(np.bincount(start.row * 8 + start.col, minlength=64)) > 1e-4


@pytest.mark.parametrize("name", LEVELS)
def test_every_fleet_has_twelve_cells(name):
    start = many_starts(name, 2000)
    assert np.all(start.ships.sum(axis=(1, 2)) == 12)
    assert not start.shots.any() and np.all(start.repeats == 0)


@pytest.mark.parametrize("length", [2, 3, 4])
def test_a_ship_is_uniform_over_the_placements_that_fit(length):
    size, taken = 6, np.zeros((6, 6), bool)
    taken[1, 1:4] = taken[3:5, 5] = True
    sea = (taken << np.arange(size)).sum(axis=1).astype(np.uint32)
    rows = jax.jit(
        jax.vmap(lambda key: battleship.place_ship(key, jnp.asarray(sea), length, size))
    )(keys(1, 30_000))
    ships = (np.asarray(rows)[:, :, None] >> np.arange(size)) & 1 == 1
    allowed = set()
    for row, col in np.ndindex(size, size):
        for height, width in ((1, length), (length, 1)):
            ship = np.zeros((size, size), bool)
            ship[row : row + height, col : col + width] = True
            if ship.sum() == length and not (ship & taken).any():
                allowed.add(ship.tobytes())
    placed, counts = np.unique(ships.reshape(len(ships), -1), axis=0, return_counts=True)
    assert {ship.reshape(size, size).tobytes() for ship in placed} == allowed
    assert chi_square_p(counts) > 1e-4


# --- scripted episodes ---------------------------------------------------------------------------


def battleship_state(drawing, time=0):
    """A state from a drawing: S ship, C cursor on the sea, D cursor on a ship."""
    cursor = "D" if "D" in drawing else "C"
    row, col = cell_of(drawing, cursor)
    ships = jnp.asarray(board_of(drawing, "S") | board_of(drawing, "D"))
    zero = jnp.int32(0)
    return battleship.State(
        ships, jnp.zeros_like(ships), row, col, repeats=zero, time=jnp.int32(time), score=zero
    )


BATTLESHIP = battleship.Params(board_size=6, max_steps_in_episode=72)
FLEET = "CSS... ....S. SSS.S. ....S. ...... .SSSS."
REPEAT = -2 / 36


def test_battleship_pays_for_hits_once_and_charges_for_repeats():
    script = [
        (UP, 0, dict(row=0, col=0)),
        (LEFT, 0, dict(row=0, col=0)),
        (FIRE, 0, dict(score=0, repeats=0)),
        (FIRE, REPEAT, dict(score=0, repeats=1)),
        (RIGHT, 0, dict(row=0, col=1)),
        (FIRE, 1 / 12, dict(score=1, repeats=1)),
        (FIRE, REPEAT, dict(score=1, repeats=2)),
        (DOWN, 0, dict(row=1, col=1)),
        (5, 0, dict(row=1, col=1, repeats=2, time=9)),
    ]
    state = run_script(battleship, battleship_state(FLEET), BATTLESHIP, script)
    assert np.argwhere(state.shots).tolist() == [[0, 0], [0, 1]]


def test_battleship_ends_on_the_very_shot_that_uses_up_the_repeats():
    repeats = [(FIRE, REPEAT, dict(repeats=i)) for i in range(1, 18)]
    script = [
        (FIRE, 0, dict(repeats=0)),
        *repeats,
        (FIRE, REPEAT, dict(repeats=18, terminated=True, discount=0.0, time=19)),
    ]
    run_script(battleship, battleship_state(FLEET), BATTLESHIP, script)


def test_battleship_ends_when_the_last_ship_cell_is_hit():
    state = battleship_state("DSS... ....S. SSS.S. ....S. ...... ..SSS.", time=71)
    state = state._replace(
        shots=state.ships.at[state.row, state.col].set(False), score=jnp.int32(11)
    )
    won = dict(score=12, terminated=True, truncated=True, discount=0.0)
    run_script(battleship, state, BATTLESHIP, [(FIRE, 1 / 12, won)])
    run_script(
        battleship, state, BATTLESHIP, [(RIGHT, 0, dict(score=11, truncated=True, discount=1.0))]
    )


def test_battleships_cursor_stops_at_the_far_edges():
    state = battleship_state("SSSSSS SSSSSS ...... ...... ...... .....C")
    run_script(
        battleship,
        state,
        BATTLESHIP,
        [(DOWN, 0, dict(row=5)), (RIGHT, 0, dict(col=5)), (LEFT, 0, dict(row=5, col=4))],
    )
