"""Tests of BattleShip: rules and randomness, and its Case for the tests of every game."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade import REGISTRY
from popgym_arcade.games import battleship
from tests.testing import (
    BATCH,
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
    rendered,
    run_script,
    some_states,
)

LEVELS = [battleship.NAME + level for level in battleship.LEVELS]


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
        scramble=scramble,
    )
]


# --- views ---------------------------------------------------------------------------------------


def everywhere(name, **fields):
    """BATCH states with the cursor on different cells of one sea: nothing is shot at, time is 1."""
    size, start = REGISTRY[name].params.board_size, many_starts(name, 2000)
    state = jax.tree.map(lambda leaf: np.repeat(leaf[:1], BATCH, axis=0), start)
    row, col = np.divmod(np.arange(BATCH, dtype=np.int32) * 3 % size**2, size)
    return state._replace(row=row, col=col, time=np.ones_like(row), **fields)


@pytest.mark.parametrize("name", LEVELS)
def test_the_periscope_shows_the_mark_of_the_cursors_cell_and_not_its_place(name):
    state = everywhere(name)
    cell = np.arange(BATCH), state.row, state.col
    fleet = np.zeros_like(state.ships)
    ships, shots = fleet.copy(), fleet.copy()
    ships[cell] = np.arange(BATCH) % 3 == 2
    shots[cell] = np.arange(BATCH) % 3 > 0
    elsewhere = ~shots & (np.random.default_rng(0).random(shots.shape) < 0.5)
    elsewhere[cell] = False
    state = state._replace(ships=ships | elsewhere, shots=shots | elsewhere)
    frames = rendered(name, True, state)
    for mark in range(3):  # none, a miss, a hit
        assert np.all(frames[mark::3] == frames[mark])
    assert len(np.unique(frames, axis=0)) == 3


@pytest.mark.parametrize("name", LEVELS)
def test_the_pomdp_shows_the_sea_with_the_cursor_at_time_0_only(name):
    state = everywhere(name)
    start = state._replace(time=np.zeros_like(state.time))
    frames, in_mdp = rendered(name, True, start), rendered(name, False, start)
    sea = slice(14, 114)  # below the score and above the bar, which the POMDP lacks
    np.testing.assert_array_equal(frames[:, sea], in_mdp[:, sea])
    assert len(np.unique(frames, axis=0)) == len(np.unique(state.row * 99 + state.col))
    assert len(np.unique(rendered(name, True, state), axis=0)) == 1


@pytest.mark.slow  # the view of edition 1
def test_with_the_cursor_visible_the_pomdp_is_the_mdp_with_one_mark_and_without_the_bar():
    name = "BattleShipEasy"
    state = jax.tree.map(lambda leaf: leaf[:128], some_states(name))
    cell = np.arange(128), state.row, state.col
    only_here = np.zeros_like(state.shots)
    only_here[cell] = state.shots[cell]
    assert only_here.any() and not np.array_equal(only_here, state.shots)
    frames = rendered(name, True, state, cursor_hidden=False)
    one_mark = rendered(name, False, state._replace(shots=only_here))
    sea = slice(0, 114)
    np.testing.assert_array_equal(frames[:, sea], one_mark[:, sea])
    no_time = state._replace(time=0 * state.time)
    np.testing.assert_array_equal(frames, rendered(name, True, no_time, cursor_hidden=False))
    np.testing.assert_array_equal(
        rendered(name, False, state), rendered(name, False, state, cursor_hidden=False)
    )


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
