"""BattleShip: sink the hidden fleet.

Four ships, of lengths 2, 3, 3 and 4, lie hidden on an n x n sea. Move the cursor, shoot, and waste
no shots.

Start: the ships are placed from the shortest to the longest, each uniformly over all placements
along a row or a column that fit and overlap no earlier ship; ships may touch. The cursor is on a
uniform cell.

Actions: 0 up, 1 down, 2 left, 3 right move the cursor by one cell and stop at the edge; 4 fire
shoots at the cursor's cell; any other integer does nothing.

Rewards: a new hit pays 1/12 and raises the score by 1. A new miss pays 0. Shooting at the same cell
again pays -2 / n^2. Returns lie in [-1, 1].

Episode end: terminated when all 12 ship cells are hit or after n^2 / 2 repeated shots; truncated at
2 n^2 steps.

Views: hits and misses have different marks. The MDP outlines the cursor's cell and shows the marks
of all shots and, as a bar below the sea, how much of the budget of repeated shots is used. The
POMDP shows the sea with the cursor at time 0. Afterwards it is a periscope: it shows only the
cursor's cell, enlarged and with its mark, and not where on the sea that cell is. Ships that are not
hit are never drawn.

Levels: Easy n = 8, Medium n = 10, Hard n = 12; limits 128, 200, 288.

Source: POPGym Arcade 0.0.7.

Differences from 0.0.7:
* The shot that uses up the budget of repeated shots ends the game. It took one more shot, so the
  return could fall below -1.
* The MDP shows how much of that budget is used. Two states with the same frame could end at
  different times.
* The cursor may start on any cell. It never started in the last row or column.
* The POMDP hides where the cursor is. It outlined the cursor's cell on the sea, so no memory was
  needed: a tour of the sea that shoots at every cell without a mark sinks the fleet within the
  limit. A policy that looks only at the current frame earned 1.000 at every level.

Versions:
* 1 (0.1.0): first version.
* 2 (0.2.0): the POMDP hides where the cursor is after time 0. With cursor_hidden=False it outlines
  the cursor's cell on the sea, as in version 1.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import render as draw

__all__ = [
    "DOWN",
    "FIRE",
    "LEFT",
    "LEVELS",
    "NAME",
    "RETURN_RANGE",
    "RIGHT",
    "SHIP_CELLS",
    "SHIP_LENGTHS",
    "UP",
    "VERSION",
    "Params",
    "State",
    "cursor_cell",
    "move",
    "place_fleet",
    "place_ship",
    "render",
    "repeat_budget",
    "reset",
    "shoot",
    "step",
]

NAME: str = "BattleShip"
VERSION: int = 2
RETURN_RANGE: tuple[float, float] = (-1.0, 1.0)  # at every level
UP, DOWN, LEFT, RIGHT, FIRE = range(5)
SHIP_LENGTHS = (2, 3, 3, 4)
SHIP_CELLS = sum(SHIP_LENGTHS)

_SEA = """
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
_HIT = """
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
_MISS = """
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
_CURSOR = """
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
_MARKS = ((_SEA,), (_SEA, _MISS), (_SEA, _HIT))
_TILES = _MARKS + tuple((*mark, _CURSOR) for mark in _MARKS)
_FIRST_TILES = (_SEA,), (_SEA, _CURSOR)  # nothing is shot at yet

_SEA_UNITS = 100  # height of the sea in layout units; the budget's bar is below it

# The periscope, layered from the water to the lens. Each art covers all of it.
_WATER = """
BBBBBBBBBBBBBBBBBBBBBBBB
BBBBBBBBBBBBBBBBBBBBBBBB
BBBBBBBBBBBBBBBBBBBBBBBB
BBBBBBBBBBBBBBBBBBBBBBBB
BBBBBbbBBBBBBBBBBBBBBBBB
BBBBbBBbBBbBBBbbBBBBBBBB
BBBBBBBBbbBBBbBBbBBbBBBB
BBBBBBBBBBBBBBBBBbbBBBBB
BBBbbBBBBBBBBBBBBBBBBBBB
BBbBBbBBBBBBBBBBBBBBBBBB
BBBBBBBBBBBBBBBBBBBBBBBB
BBBBBBBBBBBBBBBBBBBBBBBB
BBBBBBBBBBBBBBBBBBBBBBBB
BBBBBBBBBBBBBBBBBBBBBBBB
BBBBBBBBBBBBBBBBBBBbbBBB
BBBBBBBBBBBBBBBBBBbBBbBB
BBBBBbbBBBBBBBBBBBBBBBBB
BBBBbBBbBBbBBBbbBBBBBBBB
BBBBBBBBbbBBBbBBbBBbBBBB
BBBBBBBBBBBBBBBBBbbBBBBB
BBBBBBBBBBBBBBBBBBBBBBBB
BBBBBBBBBBBBBBBBBBBBBBBB
BBBBBBBBBBBBBBBBBBBBBBBB
BBBBBBBBBBBBBBBBBBBBBBBB
"""
_PERISCOPE_UNITS = 96  # its diameter in layout units


def _in_the_middle(art: draw.Art) -> draw.Art:
    """Surround square art by transparent pixels, so that it fills the middle quarter."""
    rows = art.split()
    margin = len(rows) // 2
    blank = ["." * 2 * len(rows)] * margin
    return "\n".join([*blank, *("." * margin + row + "." * margin for row in rows), *blank])


def _lens(side: int) -> draw.Art:
    """The periscope's rim and cross hairs, black outside and transparent inside."""
    across = np.abs(np.arange(side) - (side - 1) / 2)
    nearer, farther = (np.frompyfunc(pick, 2, 1).outer(across, across) for pick in (min, max))
    inside = side / 2 - np.hypot.outer(across, across)  # how far inside the rim
    hairs = (nearer < 1) & (farther > 0.3 * side)
    marks = [(inside < 0, "k"), (inside < 1, "D"), (inside < 3, "s"), (inside < 4, "k")]
    marks.append((hairs, "y"))
    pixels = np.select([where for where, _ in marks], [color for _, color in marks], ".")
    return "\n".join(map("".join, pixels))


_PERISCOPE_TILES = tuple(
    (_WATER, *map(_in_the_middle, mark), _lens(48)) for mark in ((), (_MISS,), (_HIT,))
)


@draw.register_params
@dataclass(frozen=True)
class Params:
    """The parameters of a level.

    Static fields set shapes and drawing; all others may be traced, e.g. swept with vmap.
    """

    # n: cells per side; even, so that n^2 / 2 repeated shots cost exactly 1, and large enough for
    # four ships to always fit
    board_size: int = field(default=8, metadata={"static": True, "allowed": range(6, 21, 2)})
    # whether to draw the POMDP view
    partial_obs: bool = field(default=False, metadata={"static": True, "allowed": (False, True)})
    # whether the POMDP hides where the cursor is after time 0
    cursor_hidden: bool = field(default=True, metadata={"static": True, "allowed": (False, True)})
    # side of a frame in pixels
    obs_size: int = field(default=128, metadata={"static": True, "allowed": draw.OBS_SIZES})
    # steps before truncation
    max_steps_in_episode: int = field(default=128, metadata={"allowed": draw.STEP_LIMITS})
    # shared by the 12 ship cells
    fleet_reward: float = field(default=1.0, metadata={"allowed": draw.ANY_REWARD})
    # shared by the n^2 / 2 repeated shots
    repeat_reward: float = field(default=-1.0, metadata={"allowed": draw.ANY_REWARD})


@draw.register_state
class State(NamedTuple):
    """One episode; n is params.board_size."""

    ships: jax.Array  # bool[n, n]: the cells of the fleet
    shots: jax.Array  # bool[n, n]: the cells shot at so far
    row: jax.Array  # int32[], in [0, n - 1]: the cursor's row
    col: jax.Array  # int32[], in [0, n - 1]: the cursor's column
    repeats: jax.Array  # int32[], in [0, n^2 / 2]: shots at cells shot at before
    time: jax.Array  # int32[]: steps taken
    score: jax.Array  # int32[], in [0, 12]: ship cells hit


def reset(key: jax.Array, params: Params) -> tuple[jax.Array, State]:
    """Begin an episode.

    key: a typed or raw PRNG key. params: Params. Returns (observation uint8[S, S, 3], State).
    """
    size = params.board_size
    cursor_key, fleet_key = jax.random.split(key)
    row, col = divmod(jax.random.randint(cursor_key, (), 0, size * size, jnp.int32), size)
    ships = place_fleet(fleet_key, size)
    repeats, time, score = (jnp.zeros_like(row) for _ in range(3))
    state = State(ships, jnp.zeros_like(ships), row, col, repeats, time, score)
    return render(state, params), state


def step(
    key: jax.Array, state: State, action: jax.Array, params: Params
) -> tuple[jax.Array, State, jax.Array, jax.Array, dict[str, jax.Array]]:
    """Play one step, which is deterministic: the key is unused.

    key: a PRNG key. state: State. action: int[]. params: Params.
    Returns (observation uint8[S, S, 3], State, reward float32[], done bool[], info).
    """
    state = move(state, action, params.board_size)
    state, hit, repeated = shoot(state, action == FIRE)
    state = state._replace(time=state.time + 1)
    budget = repeat_budget(params)
    reward = jnp.float32(hit) * (params.fleet_reward / SHIP_CELLS)
    reward = reward + jnp.float32(repeated) * (params.repeat_reward / budget)
    terminated = (state.score >= SHIP_CELLS) | (state.repeats >= budget)
    truncated = state.time >= params.max_steps_in_episode
    info = {
        "terminated": terminated,
        "truncated": truncated,
        "discount": (~terminated).astype(jnp.float32),
    }
    return render(state, params), state, reward.astype(jnp.float32), terminated | truncated, info


def place_fleet(key: jax.Array, size: int) -> jax.Array:
    """Place the ships one after another: bool[size, size].

    A row of the sea is an integer whose bit c stands for column c, which takes an eighth of the
    work of booleans.
    """
    sea = jnp.zeros(size, jnp.uint32)
    for ship_key, length in zip(jax.random.split(key, len(SHIP_LENGTHS)), SHIP_LENGTHS):
        sea = sea | place_ship(ship_key, sea, length, size)
    return (sea[:, None] >> np.arange(size, dtype=np.uint32)[None]) & 1 == 1


def place_ship(key: jax.Array, sea: jax.Array, length: int, size: int) -> jax.Array:
    """Place one ship, uniformly over the free placements, as rows of bits: uint32[size].

    A placement is identified by its left or top cell: bit c of word r for ships along row r,
    followed by as many words for ships down the columns.
    """
    along = _free_starts([sea >> i for i in range(length)], size - length + 1)
    down = _free_starts(
        [jnp.pad(sea[i:], (0, i), constant_values=~np.uint32(0)) for i in range(length)], size
    )
    word, bit = _pick_bit(key, jnp.concatenate([along, down]), size)
    rows = np.arange(size, dtype=np.int32)
    ship_along = jnp.where(rows == word, np.uint32((1 << length) - 1) << bit, 0)
    ship_down = jnp.where(
        (rows >= word - size) & (rows < word - size + length), np.uint32(1) << bit, 0
    )
    return jnp.where(word < size, ship_along, ship_down)


def _free_starts(cells_from_start: list[jax.Array], width: int) -> jax.Array:
    """The bits below ``width`` that are 0 in all of the given rows of bits: uint32[rows]."""
    taken = cells_from_start[0]
    for cells in cells_from_start[1:]:
        taken = taken | cells
    return ~taken & np.uint32((1 << width) - 1)


def _pick_bit(key: jax.Array, words: jax.Array, width: int) -> tuple[jax.Array, jax.Array]:
    """Pick a uniform set bit: (index of its word, int32[]; its position in it, uint32[])."""
    counts = jax.lax.population_count(words).astype(jnp.int32)
    up_to_here = jnp.cumsum(counts)
    pick = jax.random.randint(key, (), 0, up_to_here[-1], jnp.int32)
    word = jnp.sum(pick >= up_to_here, dtype=jnp.int32)
    here = np.arange(words.shape[0], dtype=np.int32) == word
    pick = pick - jnp.sum(jnp.where(here, up_to_here - counts, 0), dtype=jnp.int32)
    bits = jnp.sum(jnp.where(here, words, 0), dtype=jnp.uint32)
    places = np.arange(width, dtype=np.uint32)
    up_to_place = jax.lax.population_count(bits & ((np.uint32(2) << places) - 1)).astype(jnp.int32)
    return word, jnp.sum(pick >= up_to_place, dtype=jnp.int32).astype(jnp.uint32)


def move(state: State, action: jax.Array, size: int) -> State:
    """Move the cursor, which stops at the edge."""
    row = state.row + jnp.int32(action == DOWN) - jnp.int32(action == UP)
    col = state.col + jnp.int32(action == RIGHT) - jnp.int32(action == LEFT)
    return state._replace(row=jnp.clip(row, 0, size - 1), col=jnp.clip(col, 0, size - 1))


def shoot(state: State, fired: jax.Array) -> tuple[State, jax.Array, jax.Array]:
    """Shoot at the cursor's cell if ``fired``: (State, new hit bool[], repeated shot bool[])."""
    target = cursor_cell(state) & fired
    repeated = jnp.any(target & state.shots)
    hit = jnp.any(target & state.ships) & ~repeated
    state = state._replace(
        shots=state.shots | target,
        repeats=state.repeats + jnp.int32(repeated),
        score=state.score + jnp.int32(hit),
    )
    return state, hit, repeated


def cursor_cell(state: State) -> jax.Array:
    """The cursor's cell as a mask: bool[n, n]."""
    rows, cols = draw.grid(*state.ships.shape)
    return (rows == state.row) & (cols == state.col)


def repeat_budget(params: Params) -> int:
    """The number of repeated shots that ends the game, n^2 / 2."""
    return params.board_size**2 // 2


def render(state: State, params: Params) -> jax.Array:
    """Draw the state: uint8[S, S, 3], S = params.obs_size."""
    sea = draw.field(params.obs_size, bottom=_SEA_UNITS)
    bar = draw.field(params.obs_size, top=_SEA_UNITS)
    marks = jnp.where(state.shots, 1 + jnp.int32(state.ships), 0)
    cursor = cursor_cell(state)
    if not params.partial_obs:
        sea = draw.board(sea, jnp.where(cursor, marks + 3, marks), tiles=_TILES)
        bar = draw.bar(bar, filled=state.repeats, of=repeat_budget(params))
    elif not params.cursor_hidden:
        sea = draw.board(sea, jnp.where(cursor, marks + 3, 0), tiles=_TILES)
    else:
        start, mark = state.time == 0, jnp.sum(jnp.where(cursor, marks, 0), dtype=jnp.int32)
        # Choosing what to draw is much faster than choosing between two drawings.
        sea = draw.board(sea, jnp.where(start, jnp.int32(cursor), -1), tiles=_FIRST_TILES)
        sea = _draw_periscope(sea, jnp.where(start, -1, mark))
    return draw.frame((sea, bar), score=state.score, name=NAME)


def _draw_periscope(canvas: jax.Array, mark: jax.Array) -> jax.Array:
    """Draw the cursor's cell through the periscope.

    mark: int[], an index into _MARKS; any other value draws nothing.
    """
    size = draw.pixels(canvas.shape[1] // 3, _PERISCOPE_UNITS)
    return draw.board(canvas, mark[None, None], tiles=_PERISCOPE_TILES, size=size)


LEVELS: dict[str, Params] = {
    "Easy": Params(board_size=8, max_steps_in_episode=128),
    "Medium": Params(board_size=10, max_steps_in_episode=200),
    "Hard": Params(board_size=12, max_steps_in_episode=288),
}
