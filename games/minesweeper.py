"""MineSweeper: dig around the mines.

Mines lie hidden under an n x n field. Move the cursor, dig up every safe cell, and waste no digs. A
dug cell shows how many mines are next to it.

Start: m mines lie on distinct uniform cells. The cursor is on a uniform cell, which may hold a
mine: the first dig is not made safe.

Actions: 0 up, 1 down, 2 left, 3 right move the cursor by one cell and stop at the edge; 4 fire digs
at the cursor's cell; any other integer does nothing. A dig opens one cell and never its neighbors.

Rewards: digging a new safe cell pays 1 / (n^2 - m) and raises the score by 1. Digging a mine pays
nothing. Digging the same cell again pays -2 / n^2. Returns lie in [-1, 1]. The lowest return is -1
plus the pay for one safe cell, because only a dug cell can be dug again.

Episode end: terminated when a mine is dug, when all safe cells are dug, or after n^2 / 2 repeated
digs; truncated at 2 n^2 steps.

Views: a dug cell shows the number of mines among its eight neighbors, including 0; a dug mine is
drawn as a mine. The MDP shows all dug cells, a bright cell under the cursor and, as a bar below the
field, how much of the budget of repeated digs is used. The POMDP shows the field with the cursor at
time 0. Afterwards it shows only the cursor's cell, enlarged, and not where on the field that cell
is. Mines that are not dug are never drawn.

Levels: Easy n = 4 with m = 2 mines, Medium n = 6 with m = 6, Hard n = 8 with m = 10; limits 32, 72,
128.

Source: POPGym Arcade 0.0.7.

Differences from 0.0.7:
* The cursor starts on any cell, chosen uniformly.
* The dig that uses up the budget of repeated digs ends the game. It took one more dig, and the MDP
  view did not show how many were left.
* Moves and digs share one step limit.
* All nine digits can be told apart, at every level and size.
* The POMDP hides where the cursor is. It drew the cursor's cell in its place on the field, so a
  policy that looks only at the current frame earned 0.67 on Easy, where a player with perfect
  memory who infers the mines earns 0.81.

Versions:
* 1 (0.1.0): first version.
* 2 (0.2.0): the POMDP hides where the cursor is after time 0. With cursor_hidden=False it draws
  the cursor's cell in its place on the field, as in version 1. In frames of 256 pixels, digits and
  mines leave a margin in their cells.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

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
    "UP",
    "VERSION",
    "Params",
    "State",
    "cursor_cell",
    "dig",
    "mines_around",
    "move",
    "place_mines",
    "render",
    "repeat_budget",
    "reset",
    "step",
]

NAME: str = "MineSweeper"
VERSION: int = 2
RETURN_RANGE: tuple[float, float] = (-1.0, 1.0)  # at every level
UP, DOWN, LEFT, RIGHT, FIRE = range(5)

_UNROLLED = 16  # up to so many mines are placed without a loop

_MINE = """
.#...#.
..###..
.##.##.
##.####
.#####.
..###..
.#...#.
"""
_GLYPHS = (*"012345678", _MINE)  # a glyph's index is the number of mines it stands for
_MINE_GLYPH, _NO_GLYPH = 9, -1
_INKS = "scgrpoywwr" + "k"  # one per glyph, and one for any glyph under the cursor
_CURSOR_INK = 10
_PAPERS = "BdDyk"  # a covered cell, a dug cell, a dug mine, the cursor's cell, the background
_COVERED_PAPER, _DUG_PAPER, _MINE_PAPER, _CURSOR_PAPER, _NO_PAPER = range(5)

_BOARD_UNITS = 100  # height of the mine field in layout units; the budget's bar is below it

# In layout units, the sides of the one cell that the POMDP shows after time 0, and of its digit.
_ENLARGED_UNITS, _DIGIT_UNITS = 96, 72


def _enlarged(ground: str, *, lit: str, shaded: str) -> draw.Art:
    """A large square cell with a bevel in a silver frame. ground, lit, shaded: keys of PALETTE.

    The bevel is lit at the top and left, so that the cell looks raised, if ``lit`` is the lighter
    of its two colors; otherwise the cell looks sunken.
    """
    side, frame, bevel = 48, 1, 4
    rows, cols = np.ogrid[:side, :side]
    from_top_left, from_bottom_right = np.minimum(rows, cols), side - 1 - np.maximum(rows, cols)
    from_edge = np.minimum(from_top_left, from_bottom_right)
    pixels = np.where(from_top_left < from_bottom_right, lit, shaded)
    pixels = np.where(from_edge < bevel, pixels, ground)
    pixels = np.where(from_edge < frame, "s", pixels)
    return "\n".join(map("".join, pixels))


_ENLARGED_TILES = (  # one per paper, except the cursor's
    (_enlarged("B", lit="b", shaded="d"),),
    (_enlarged("d", lit="k", shaded="D"),),
    (_enlarged("D", lit="k", shaded="R"),),
)


@draw.register_params
@dataclass(frozen=True)
class Params:
    """The parameters of a level.

    Static fields set shapes and drawing; all others may be traced, e.g. swept with vmap.
    """

    # n: cells per side; even, so that n^2 / 2 repeated digs cost exactly 1
    board_size: int = field(default=4, metadata={"static": True, "allowed": range(2, 15, 2)})
    # m: fewer than cells
    num_mines: int = field(default=2, metadata={"static": True, "allowed": range(1, 14 * 14)})
    # whether to draw the POMDP view
    partial_obs: bool = field(default=False, metadata={"static": True, "allowed": (False, True)})
    # whether the POMDP hides where the cursor is after time 0
    cursor_hidden: bool = field(default=True, metadata={"static": True, "allowed": (False, True)})
    # side of a frame in pixels
    obs_size: int = field(default=128, metadata={"static": True, "allowed": draw.OBS_SIZES})
    # steps before truncation
    max_steps_in_episode: int = field(default=32, metadata={"allowed": draw.STEP_LIMITS})
    # shared by the n^2 - m safe cells
    field_reward: float = field(default=1.0, metadata={"allowed": draw.ANY_REWARD})
    # shared by the n^2 / 2 repeated digs
    repeat_reward: float = field(default=-1.0, metadata={"allowed": draw.ANY_REWARD})

    def __post_init__(self) -> None:
        """Raise ValueError if no cell is left without a mine."""
        most = self.board_size**2 - 1
        if self.num_mines > most:
            raise ValueError(
                f"num_mines must be in [1, {most}] where board_size is {self.board_size}, "
                f"but it is {self.num_mines}; the nearest is {most}"
            )


@draw.register_state
class State(NamedTuple):
    """One episode; n is params.board_size."""

    mines: jax.Array  # bool[n, n]: the cells with a mine
    dug: jax.Array  # bool[n, n]: the cells dug so far
    row: jax.Array  # int32[], in [0, n - 1]: the cursor's row
    col: jax.Array  # int32[], in [0, n - 1]: the cursor's column
    repeats: jax.Array  # int32[], in [0, n^2 / 2]: digs at cells dug before
    time: jax.Array  # int32[]: steps taken
    score: jax.Array  # int32[], in [0, n^2 - m]: safe cells dug


def reset(key: jax.Array, params: Params) -> tuple[jax.Array, State]:
    """Begin an episode.

    key: a typed or raw PRNG key. params: Params. Returns (observation uint8[S, S, 3], State).
    """
    size = params.board_size
    cursor_key, mines_key = jax.random.split(key)
    row, col = divmod(jax.random.randint(cursor_key, (), 0, size * size, jnp.int32), size)
    mines = place_mines(mines_key, params.num_mines, size)
    repeats, time, score = (jnp.zeros_like(row) for _ in range(3))
    state = State(mines, jnp.zeros_like(mines), row, col, repeats, time, score)
    return render(state, params), state


def step(
    key: jax.Array, state: State, action: jax.Array, params: Params
) -> tuple[jax.Array, State, jax.Array, jax.Array, dict[str, jax.Array]]:
    """Play one step, which is deterministic: the key is unused.

    key: a PRNG key. state: State. action: int[]. params: Params.
    Returns (observation uint8[S, S, 3], State, reward float32[], done bool[], info).
    """
    state = move(state, action, params.board_size)
    state, found, repeated = dig(state, action == FIRE)
    state = state._replace(time=state.time + 1)
    safe_cells, budget = params.board_size**2 - params.num_mines, repeat_budget(params)
    reward = jnp.float32(found) * (params.field_reward / safe_cells)
    reward = reward + jnp.float32(repeated) * (params.repeat_reward / budget)
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


def place_mines(key: jax.Array, count: int, size: int) -> jax.Array:
    """Place mines, every set of ``count`` cells equally likely: bool[size, size].

    Floyd's sampling: each draw is from the cells up to a last one, which moves on by one per draw.
    If the drawn cell has a mine already, that last cell gets the mine instead (Bentley and Floyd,
    1987).
    """
    cells = np.arange(size * size, dtype=np.int32)
    last = size * size - count + np.arange(count, dtype=np.int32)
    uniform = jax.random.uniform(key, (count,), jnp.float32)
    drawn = jnp.floor(uniform * (last + 1).astype(np.float32)).astype(jnp.int32)
    mines = jnp.zeros_like(drawn, bool, cells.shape)
    if count <= _UNROLLED:
        for mine in _distinct(drawn, last):
            mines = mines | (cells == mine)
        return mines.reshape(size, size)

    def place(mines, draw):
        cell, last_cell = (cells == number for number in draw)
        return mines | jnp.where(jnp.any(mines & cell), last_cell, cell), None

    mines, _ = jax.lax.scan(place, mines, (drawn, last), unroll=_UNROLLED)
    return mines.reshape(size, size)


def _distinct(drawn: jax.Array, last: np.ndarray) -> list[jax.Array]:
    """The mines' cells, int32[] each: those drawn, or the last one if a cell is drawn again.

    Few mines are faster compared with each other than looked up on the board. On a GPU, each
    look-up would also be a kernel of its own.
    """
    chosen: list[jax.Array] = []
    for cell, last_cell in zip(drawn, last):
        again = jnp.bool_(False)
        for earlier in chosen:
            again = again | (cell == earlier)
        chosen.append(jnp.where(again, last_cell, cell))
    return chosen


def move(state: State, action: jax.Array, size: int) -> State:
    """Move the cursor, which stops at the edge."""
    row = state.row + jnp.int32(action == DOWN) - jnp.int32(action == UP)
    col = state.col + jnp.int32(action == RIGHT) - jnp.int32(action == LEFT)
    return state._replace(row=jnp.clip(row, 0, size - 1), col=jnp.clip(col, 0, size - 1))


def dig(state: State, fired: jax.Array) -> tuple[State, jax.Array, jax.Array]:
    """Dig at the cursor's cell if ``fired``: (State, new safe cell bool[], repeated dig bool[])."""
    target = cursor_cell(state) & fired
    repeated = jnp.any(target & state.dug)
    found = jnp.any(target & ~state.dug & ~state.mines)
    return (
        state._replace(
            dug=state.dug | target,
            repeats=state.repeats + jnp.int32(repeated),
            score=state.score + jnp.int32(found),
        ),
        found,
        repeated,
    )


def cursor_cell(state: State) -> jax.Array:
    """The cursor's cell as a mask: bool[n, n]."""
    rows, cols = draw.grid(*state.mines.shape)
    return (rows == state.row) & (cols == state.col)


def repeat_budget(params: Params) -> int:
    """The number of repeated digs that ends the game, n^2 / 2."""
    return params.board_size**2 // 2


def mines_around(mines: jax.Array) -> jax.Array:
    """The number of mines among the eight neighbors of each cell: int8[n, n], in [0, 8]."""
    size = mines.shape[0]
    padded = jnp.pad(mines, 1).astype(jnp.int8)
    in_columns = padded[:-2] + padded[1:-1] + padded[2:]
    in_squares = in_columns[:, :size] + in_columns[:, 1 : size + 1] + in_columns[:, 2:]
    return in_squares - mines.astype(jnp.int8)


def render(state: State, params: Params) -> jax.Array:
    """Draw the state: uint8[S, S, 3], S = params.obs_size."""
    board = draw.field(params.obs_size, bottom=_BOARD_UNITS)
    bar = draw.field(params.obs_size, top=_BOARD_UNITS)
    cursor = cursor_cell(state)
    glyph = jnp.where(
        state.dug, jnp.where(state.mines, _MINE_GLYPH, mines_around(state.mines)), _NO_GLYPH
    )
    if not params.partial_obs:
        board = _draw_board(board, glyph, cursor)
        bar = draw.bar(bar, filled=state.repeats, of=repeat_budget(params))
    elif not params.cursor_hidden:
        board = _draw_board(board, jnp.where(cursor, glyph, _NO_GLYPH), cursor)
    else:
        start = state.time == 0
        covered = jnp.where(cursor, _CURSOR_PAPER, _COVERED_PAPER)
        board = _draw_papers(board, jnp.where(start, covered, _NO_PAPER))
        board = _draw_enlarged(board, jnp.sum(jnp.where(cursor, glyph, 0)), shown=~start)
    return draw.frame((board, bar), score=state.score, name=NAME)


def _draw_board(canvas: jax.Array, glyph: jax.Array, cursor: jax.Array) -> jax.Array:
    """Draw the field. glyph: int[n, n], indices into _GLYPHS. cursor: bool[n, n]."""
    canvas = _draw_papers(canvas, jnp.where(cursor, _CURSOR_PAPER, _paper_of(glyph)))
    ink_ids = jnp.where(cursor, _CURSOR_INK, glyph)
    place = _place_of(canvas, len(glyph))
    return draw.glyphs(canvas, glyph, glyphs=_GLYPHS, inks=_INKS, ink_ids=ink_ids, **place)


def _draw_papers(canvas: jax.Array, paper: jax.Array) -> jax.Array:
    """Draw the field without what is on its cells. paper: int[n, n], indices into _PAPERS."""
    return draw.cells(canvas, paper, colors=_PAPERS, **_place_of(canvas, len(paper)))


def _draw_enlarged(canvas: jax.Array, glyph: jax.Array, *, shown: jax.Array) -> jax.Array:
    """Draw one large cell, if shown: bool[]. glyph: int[], an index into _GLYPHS.

    Choosing what to draw is much faster than choosing between two drawings.
    """
    height, width = canvas.shape[0], canvas.shape[1] // 3
    paper = jnp.where(shown, _paper_of(glyph), -1)[None, None]
    glyph = jnp.where(shown, glyph, _NO_GLYPH)[None, None]
    size = draw.pixels(width, _ENLARGED_UNITS)
    canvas = draw.board(canvas, paper, tiles=_ENLARGED_TILES, size=size)
    size = draw.pixels(width, _DIGIT_UNITS)
    place: dict[str, Any] = dict(
        size=(size, size), top=(height - size) // 2, left=(width - size) // 2
    )
    return draw.glyphs(canvas, glyph, glyphs=_GLYPHS, inks=_INKS[:-1], **place)


def _paper_of(glyph: jax.Array) -> jax.Array:
    """The paper of cells with these glyphs, indices into _PAPERS: int[...]."""
    dug = jnp.where(glyph == _MINE_GLYPH, _MINE_PAPER, _DUG_PAPER)
    return jnp.where(glyph == _NO_GLYPH, _COVERED_PAPER, dug)


def _place_of(canvas: jax.Array, size: int) -> dict[str, Any]:
    """Where the field of size x size cells lies on its canvas, for the primitives that draw it."""
    height, width = canvas.shape[0], canvas.shape[1] // 3
    side = height // size
    top, left = ((length - side * size) // 2 for length in (height, width))
    return dict(size=(side, side), top=top, left=left, gap=draw.pixels(width, 1))


LEVELS: dict[str, Params] = {
    "Easy": Params(board_size=4, num_mines=2, max_steps_in_episode=32),
    "Medium": Params(board_size=6, num_mines=6, max_steps_in_episode=72),
    "Hard": Params(board_size=8, num_mines=10, max_steps_in_episode=128),
}
