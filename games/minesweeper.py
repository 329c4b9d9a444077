"""MineSweeper: dig around the mines.

Mines lie hidden under an n x n field. Move the cursor, dig up every cell that is safe, and waste no
digs. A dug cell tells how many mines lie around it.

Start: m mines on distinct uniform cells. The cursor is on a uniform cell, which may hold a mine:
the first dig is not made safe.

Actions: 0 up, 1 down, 2 left, 3 right move the cursor one cell and stop at the edge; 4 fire digs at
the cursor's cell; any other integer does nothing. A dig opens one cell and never its neighbours.

Rewards: digging a safe cell for the first time pays 1 / (n^2 - m), and the score rises by 1.
Digging a mine pays 0. Digging a cell again pays -2 / n^2. Returns lie in -1 ... 1; the worst is -1
and the pay of one safe cell, for only a dug cell can be dug again.

Episode end: terminated when a mine was dug, when all safe cells are dug, or when n^2 / 2 digs were
repeats; truncated at 2 n^2 steps.

Views: the cursor's cell is bright. A dug cell shows the number of mines among its eight neighbours,
0 included; a dug mine is drawn as a mine. The MDP shows all dug cells, and as a bar below the field
the share of the repeats that are used up. The POMDP shows only what is on the cursor's cell. Mines
not dug are never drawn.

Levels: Easy n = 4 with m = 2 mines, Medium n = 6 with m = 6, Hard n = 8 with m = 10; limits 32, 72,
128.

Source: POPGym Arcade 0.0.7.

Differences from 0.0.7:
* The cursor starts on any cell, chosen uniformly.
* The end by repeats comes with the dig that uses them up; it came one late, and the MDP view did
  not show how many were left.
* Moves and digs have the same limit.
* All nine digits can be told apart, at every level and size.

Versions:
* 1 (0.1.0): the first.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import render as draw

NAME = "MineSweeper"
VERSION = 1
RETURN_RANGE = (-1.0, 1.0)  # of every level
UP, DOWN, LEFT, RIGHT, FIRE = range(5)

MINE = """
.#...#.
..###..
.##.##.
##.####
.#####.
..###..
.#...#.
"""
GLYPHS = (*"012345678", MINE)  # a glyph's index is the number of mines it stands for
MINE_GLYPH, NO_GLYPH = 9, -1
INKS = "scgrpoywwr" + "k"  # of each glyph, and of any glyph under the cursor
CURSOR_INK = 10
PAPERS = "BdyD"  # of a covered cell, a dug one, the cursor's, and a dug mine
COVERED_PAPER, DUG_PAPER, CURSOR_PAPER, MINE_PAPER = range(4)

# The field from top to bottom, in 128ths of the frame: the mine field, then the bar of used-up
# repeats.
BOARD_UNITS = 100


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """What a level sets. Fields marked static choose shapes and drawing; the others may be traced
    and swept with vmap."""

    # n: cells a side; even, so that n^2 / 2 repeats cost exactly 1
    board_size: int = field(default=4, metadata={"static": True, "allowed": range(2, 15, 2)})
    num_mines: int = field(
        default=2, metadata={"static": True, "allowed": range(1, 14 * 14)}
    )  # m: fewer than cells
    partial_obs: bool = field(
        default=False, metadata={"static": True, "allowed": (False, True)}
    )  # the POMDP view
    obs_size: int = field(
        default=128, metadata={"static": True, "allowed": draw.OBS_SIZES}
    )  # pixels a side of a frame
    max_steps_in_episode: int = field(
        default=32, metadata={"allowed": draw.STEP_LIMITS}
    )  # steps before truncation
    field_reward: float = field(
        default=1.0, metadata={"allowed": draw.ANY_REWARD}
    )  # shared by the n^2 - m safe cells
    repeat_reward: float = field(
        default=-1.0, metadata={"allowed": draw.ANY_REWARD}
    )  # shared by the n^2 / 2 repeats

    def __post_init__(self):
        """Raise ValueError if there is no cell without a mine."""
        most = self.board_size**2 - 1
        if self.num_mines > most:
            raise ValueError(
                f"num_mines must be in 1 ... {most} where board_size is {self.board_size}, but it is {self.num_mines}; "
                f"the nearest is {most}"
            )


class State(NamedTuple):
    """One episode; n is params.board_size."""

    mines: jax.Array  # bool[n, n]: where the mines lie
    dug: jax.Array  # bool[n, n]: the cells dug so far
    row: jax.Array  # int32[], 0 ... n - 1: the cursor
    col: jax.Array  # int32[], 0 ... n - 1
    repeats: jax.Array  # int32[], 0 ... n^2 / 2: digs at cells that had been dug before
    time: jax.Array  # int32[]: steps taken
    score: jax.Array  # int32[], 0 ... n^2 - m: safe cells dug


def reset(key, params):
    """Begin an episode.

    key: a typed or raw PRNG key. params: Params. Returns (observation uint8[S, S, 3], State).
    """
    size = params.board_size
    cursor_key, mines_key = jax.random.split(key)
    row, col = divmod(jax.random.randint(cursor_key, (), 0, size * size), size)
    mines, dug = place_mines(mines_key, params.num_mines, size), jnp.zeros((size, size), bool)
    state = State(mines, dug, row, col, repeats=jnp.int32(0), time=jnp.int32(0), score=jnp.int32(0))
    return render(state, params), state


def step(key, state, action, params):
    """Play one step; nothing is left to chance after the reset, so the key is not used.

    key: a PRNG key. state: State. action: int[]. params: Params.
    Returns (observation uint8[S, S, 3], State, reward float32[], done bool[], info).
    """
    state = move(state, action, params.board_size)
    state, found, repeated = dig(state, action == FIRE)
    state = state._replace(time=state.time + 1)
    safe_cells, budget = params.board_size**2 - params.num_mines, repeat_budget(params)
    reward = found * (params.field_reward / safe_cells) + repeated * (params.repeat_reward / budget)
    terminated = (
        jnp.any(state.dug & state.mines) | (state.score >= safe_cells) | (state.repeats >= budget)
    )
    truncated = state.time >= params.max_steps_in_episode
    info = {
        "terminated": terminated,
        "truncated": truncated,
        "discount": (~terminated).astype(jnp.float32),
    }
    return render(state, params), state, reward.astype(jnp.float32), terminated | truncated, info


def place_mines(key, count, size):
    """``count`` mines on distinct uniform cells, every set of cells equally likely: bool[size,
    size].

    Each draw is from the cells up to a last one that moves on by one a draw, and where it meets a
    mine, that last cell gets the mine instead (Bentley and Floyd, 1987).
    """
    cells, last = np.arange(size * size), size * size - count + np.arange(count)
    drawn = jnp.floor(jax.random.uniform(key, (count,)) * (last + 1)).astype(jnp.int32)
    mines = jnp.zeros(size * size, bool)
    for number in range(count):
        cell = cells == drawn[number]
        mines = mines | jnp.where(jnp.any(mines & cell), cells == last[number], cell)
    return mines.reshape(size, size)


def move(state, action, size):
    """Move the cursor, unless it stands at the edge: State."""
    row = state.row + (action == DOWN) - (action == UP)
    col = state.col + (action == RIGHT) - (action == LEFT)
    return state._replace(row=jnp.clip(row, 0, size - 1), col=jnp.clip(col, 0, size - 1))


def dig(state, fired):
    """Dig at the cursor's cell if ``fired``: (State, whether it was a new safe cell, whether it was
    a repeat), bool[] each."""
    target = cursor_cell(state) & fired
    repeated = jnp.any(target & state.dug)
    found = jnp.any(target & ~state.dug & ~state.mines)
    return (
        state._replace(
            dug=state.dug | target, repeats=state.repeats + repeated, score=state.score + found
        ),
        found,
        repeated,
    )


def cursor_cell(state):
    """Where the cursor is: bool[n, n], true in one cell."""
    rows, cols = (np.arange(length) for length in state.mines.shape)
    return (rows[:, None] == state.row) & (cols[None, :] == state.col)


def repeat_budget(params):
    """How many repeated digs end the game: n^2 / 2, an int."""
    return params.board_size**2 // 2


def mines_around(mines):
    """The number of mines among the eight neighbours of each cell: int8[n, n], 0 ... 8."""
    size = mines.shape[0]
    padded = jnp.pad(mines, 1).astype(jnp.int8)
    in_columns = padded[:-2] + padded[1:-1] + padded[2:]
    in_squares = in_columns[:, :size] + in_columns[:, 1 : size + 1] + in_columns[:, 2:]
    return in_squares - mines


def render(state, params):
    """Draw the state: uint8[S, S, 3], S = params.obs_size."""
    cursor = cursor_cell(state)
    shown = state.dug & cursor if params.partial_obs else state.dug
    glyph = jnp.where(
        shown, jnp.where(state.mines, MINE_GLYPH, mines_around(state.mines)), NO_GLYPH
    )
    paper = jnp.where(shown, jnp.where(state.mines, MINE_PAPER, DUG_PAPER), COVERED_PAPER)
    board = draw.field(params.obs_size, bottom=BOARD_UNITS)
    side = board.shape[0] // params.board_size
    place = dict(
        size=(side, side),
        top=(board.shape[0] - side * params.board_size) // 2,
        left=(params.obs_size - side * params.board_size) // 2,
    )
    paper = jnp.where(cursor, CURSOR_PAPER, paper)
    board = draw.cells(board, paper, colors=PAPERS, gap=draw.pixels(params.obs_size, 1), **place)
    board = draw.glyphs(
        board,
        glyph,
        glyphs=GLYPHS,
        inks=INKS,
        ink_ids=jnp.where(cursor, CURSOR_INK, glyph),
        **place,
    )
    bar = draw.field(params.obs_size, top=BOARD_UNITS)
    if not params.partial_obs:
        bar = draw.bar(bar, filled=state.repeats, of=repeat_budget(params))
    return draw.frame((board, bar), score=state.score, name=NAME)


LEVELS = {
    "Easy": Params(board_size=4, num_mines=2, max_steps_in_episode=32),
    "Medium": Params(board_size=6, num_mines=6, max_steps_in_episode=72),
    "Hard": Params(board_size=8, num_mines=10, max_steps_in_episode=128),
}
