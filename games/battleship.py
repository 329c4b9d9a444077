"""BattleShip: sink the hidden fleet.

Four ships, of lengths 2, 3, 3 and 4, lie hidden on an n x n sea. Move the cursor and shoot, and do
not waste shots.

Start: the ships are placed in that order, each uniformly over all placements, along a row or a
column, that fit and overlap no earlier ship; they may touch. The cursor is on a uniform cell.

Actions: 0 up, 1 down, 2 left, 3 right move the cursor one cell and stop at the edge; 4 fire shoots
at the cursor's cell; any other integer does nothing.

Rewards: a new hit pays 1/12, and the score rises by 1. A new miss pays 0. Shooting a cell again
pays -2 / n^2. Returns lie in -1 ... 1.

Episode end: terminated when all 12 ship cells are hit, or when n^2 / 2 shots were repeats;
truncated at 2 n^2 steps.

Views: the cursor's cell is framed; hits and misses have their own marks. The MDP shows all shots,
and as a bar below the sea the share of the repeats that are used up. The POMDP shows only the mark
of the cursor's cell. Ships not hit are never drawn.

Levels: Easy n = 8, Medium n = 10, Hard n = 12; limits 128, 200, 288.

Source: POPGym Arcade 0.0.7.

Differences from 0.0.7:
* The shot that uses up the budget of repeats ends the game; it took one more, so that the return
  could fall below -1.
* The MDP shows the share of the repeats that is used up; two states that were drawn alike could end
  at different times.
* The cursor may start on any cell; it never did in the last row or column.

Versions:
* 1 (0.1.0): the first.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import render as draw

NAME = "BattleShip"
VERSION = 1
RETURN_RANGE = (-1.0, 1.0)  # of every level
UP, DOWN, LEFT, RIGHT, FIRE = range(5)
SHIP_LENGTHS = (2, 3, 3, 4)
SHIP_CELLS = sum(SHIP_LENGTHS)

SEA = """
BBBBBBBBBBBk
BBBBBBBBBBBk
BBBBBBBBBBBk
BBBbbBBBBBBk
BBbBBbBBbBBk
BBBBBBbbBBBk
BBBBBBBBBBBk
BBBBBBBBBBBk
BBBBBBBBBBBk
BBBBBBBBBBBk
BBBBBBBBBBBk
kkkkkkkkkkkk
"""
HIT = """
............
.....r......
..r..rr.r...
..rrrooorr..
...rooyor...
..rooyyyorr.
.rroyyyoor..
...royyoor..
..rrooorrr..
...r.rr.r...
.....r......
............
"""
MISS = """
............
............
...wwwwww...
..ww....ww..
..w......w..
..w......w..
..w......w..
..w......w..
..ww....ww..
...wwwwww...
............
............
"""
CURSOR = """
yyyyyyyyyyyy
yyyyyyyyyyyy
yy........yy
yy........yy
yy........yy
yy........yy
yy........yy
yy........yy
yy........yy
yy........yy
yyyyyyyyyyyy
yyyyyyyyyyyy
"""
MARKS = ((SEA,), (SEA, MISS), (SEA, HIT))
TILES = MARKS + tuple((*mark, CURSOR) for mark in MARKS)

# The field from top to bottom, in 128ths of the frame: the sea, then the bar of used-up repeats.
SEA_UNITS = 100


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """What a level sets. Fields marked static choose shapes and drawing; the others may be traced
    and swept with vmap."""

    # n: cells a side; even, so that n^2 / 2 repeats cost exactly 1, and large enough that four
    # ships always fit
    board_size: int = field(default=8, metadata={"static": True, "allowed": range(6, 21, 2)})
    partial_obs: bool = field(
        default=False, metadata={"static": True, "allowed": (False, True)}
    )  # the POMDP view
    obs_size: int = field(
        default=128, metadata={"static": True, "allowed": draw.OBS_SIZES}
    )  # pixels a side of a frame
    max_steps_in_episode: int = field(
        default=128, metadata={"allowed": draw.STEP_LIMITS}
    )  # steps before truncation
    fleet_reward: float = field(
        default=1.0, metadata={"allowed": draw.ANY_REWARD}
    )  # shared by the 12 ship cells
    repeat_reward: float = field(
        default=-1.0, metadata={"allowed": draw.ANY_REWARD}
    )  # shared by the n^2 / 2 repeats


class State(NamedTuple):
    """One episode; n is params.board_size."""

    ships: jax.Array  # bool[n, n]: the cells of the fleet
    shots: jax.Array  # bool[n, n]: the cells shot at so far
    row: jax.Array  # int32[], 0 ... n - 1: the cursor
    col: jax.Array  # int32[], 0 ... n - 1
    repeats: jax.Array  # int32[], 0 ... n^2 / 2: shots at cells that had been shot at before
    time: jax.Array  # int32[]: steps taken
    score: jax.Array  # int32[], 0 ... 12: ship cells hit


def reset(key, params):
    """Begin an episode.

    key: a typed or raw PRNG key. params: Params. Returns (observation uint8[S, S, 3], State).
    """
    size = params.board_size
    cursor_key, fleet_key = jax.random.split(key)
    row, col = divmod(jax.random.randint(cursor_key, (), 0, size * size), size)
    ships, shots = place_fleet(fleet_key, size), jnp.zeros((size, size), bool)
    state = State(
        ships, shots, row, col, repeats=jnp.int32(0), time=jnp.int32(0), score=jnp.int32(0)
    )
    return render(state, params), state


def step(key, state, action, params):
    """Play one step; nothing is left to chance after the reset, so the key is not used.

    key: a PRNG key. state: State. action: int[]. params: Params.
    Returns (observation uint8[S, S, 3], State, reward float32[], done bool[], info).
    """
    state = move(state, action, params.board_size)
    state, hit, repeated = shoot(state, action == FIRE)
    state = state._replace(time=state.time + 1)
    budget = repeat_budget(params)
    reward = hit * (params.fleet_reward / SHIP_CELLS) + repeated * (params.repeat_reward / budget)
    terminated = (state.score >= SHIP_CELLS) | (state.repeats >= budget)
    truncated = state.time >= params.max_steps_in_episode
    info = {
        "terminated": terminated,
        "truncated": truncated,
        "discount": (~terminated).astype(jnp.float32),
    }
    return render(state, params), state, reward.astype(jnp.float32), terminated | truncated, info


def place_fleet(key, size):
    """Place the ships one after another: bool[size, size].

    The sea is one integer a row, bit c standing for column c: an eighth of the work of a board of
    booleans.
    """
    sea = jnp.zeros(size, jnp.uint32)
    for ship_key, length in zip(jax.random.split(key, len(SHIP_LENGTHS)), SHIP_LENGTHS):
        sea = sea | place_ship(ship_key, sea, length, size)
    return (sea[:, None] >> np.arange(size, dtype=np.uint32)) & 1 == 1


def place_ship(key, sea, length, size):
    """One ship, uniform over the placements that overlap nothing, as rows of bits: uint32[size].

    A placement is named by its first cell, the left or the top one: bit c of word r for the ships
    along row r, and the same again for those down the columns.
    """
    along = free_starts([sea >> i for i in range(length)], size - length + 1)
    down = free_starts(
        [jnp.pad(sea[i:], (0, i), constant_values=~np.uint32(0)) for i in range(length)], size
    )
    word, bit = pick_bit(key, jnp.concatenate([along, down]), size)
    rows = np.arange(size)
    ship_along = jnp.where(rows == word, np.uint32((1 << length) - 1) << bit, 0)
    ship_down = jnp.where(
        (rows >= word - size) & (rows < word - size + length), np.uint32(1) << bit, 0
    )
    return jnp.where(word < size, ship_along, ship_down)


def free_starts(cells_from_start, width):
    """The bits below ``width`` that are 0 in all of these rows of bits: uint32[rows]."""
    taken = cells_from_start[0]
    for cells in cells_from_start[1:]:
        taken = taken | cells
    return ~taken & np.uint32((1 << width) - 1)


def pick_bit(key, words, width):
    """A uniform choice among the set bits of some words: the word's index and the bit's place,
    int32[] and uint32[]."""
    counts = jax.lax.population_count(words).astype(jnp.int32)
    up_to_here = jnp.cumsum(counts)
    pick = jax.random.randint(key, (), 0, up_to_here[-1])
    word = jnp.sum(pick >= up_to_here)
    here = np.arange(words.shape[0]) == word
    pick = pick - jnp.sum(jnp.where(here, up_to_here - counts, 0))
    bits = jnp.sum(jnp.where(here, words, 0), dtype=jnp.uint32)
    places = np.arange(width, dtype=np.uint32)
    up_to_place = jax.lax.population_count(bits & ((np.uint32(2) << places) - 1)).astype(jnp.int32)
    return word, jnp.sum(pick >= up_to_place).astype(jnp.uint32)


def move(state, action, size):
    """Move the cursor, unless it stands at the edge: State."""
    row = state.row + (action == DOWN) - (action == UP)
    col = state.col + (action == RIGHT) - (action == LEFT)
    return state._replace(row=jnp.clip(row, 0, size - 1), col=jnp.clip(col, 0, size - 1))


def shoot(state, fired):
    """Shoot at the cursor's cell if ``fired``: (State, whether it was a new hit, whether it was a
    repeat), bool[] each."""
    target = cursor_cell(state) & fired
    repeated = jnp.any(target & state.shots)
    hit = jnp.any(target & state.ships) & ~repeated
    state = state._replace(
        shots=state.shots | target, repeats=state.repeats + repeated, score=state.score + hit
    )
    return state, hit, repeated


def cursor_cell(state):
    """Where the cursor is: bool[n, n], true in one cell."""
    rows, cols = (np.arange(length) for length in state.ships.shape)
    return (rows[:, None] == state.row) & (cols[None, :] == state.col)


def repeat_budget(params):
    """How many repeated shots end the game: n^2 / 2, an int."""
    return params.board_size**2 // 2


def render(state, params):
    """Draw the state: uint8[S, S, 3], S = params.obs_size."""
    cursor = cursor_cell(state)
    marked = state.shots & cursor if params.partial_obs else state.shots
    sea = draw.field(params.obs_size, bottom=SEA_UNITS)
    sea = draw.board(sea, marked * (1 + state.ships) + 3 * cursor, tiles=TILES)
    bar = draw.field(params.obs_size, top=SEA_UNITS)
    if not params.partial_obs:
        bar = draw.bar(bar, filled=state.repeats, of=repeat_budget(params))
    return draw.frame((sea, bar), score=state.score, name=NAME)


LEVELS = {
    "Easy": Params(board_size=8, max_steps_in_episode=128),
    "Medium": Params(board_size=10, max_steps_in_episode=200),
    "Hard": Params(board_size=12, max_steps_in_episode=288),
}
