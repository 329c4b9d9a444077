"""Tetris: build on a board you cannot see.

Pieces of four blocks fall on a board of 20 x 10 cells. Turn and shift them to fill ten rows.

Pieces: each lives in a box of 4 x 4 cells and has four rotations. Its first block (@) is marked
while it falls, so that its rotation is visible:

    I  .... ..@. .... .#..  T  .... .... .... ....  J  .... .... .... ....
       @### ..#. .... .#..     .@.. .#.. .... .#..     @... .#@. .... .#..
       .... ..#. ###@ .#..     ###. .#@. ###. @#..     ###. .#.. ###. .#..
       .... ..#. .... .@..     .... .#.. .@.. .#..     .... .#.. ..@. @#..

    O  .... .... .... ....  S  .... .... .... ....  Z  .... .... .... ....  L  .... .... .... ....
       .@#. .#@. .##. .##.     .#@. .#.. .... @...     @#.. ..@. .... .#..     ..@. .#.. .... @#..
       .##. .##. .#@. .@#.     ##.. .##. .##. ##..     .##. .##. ##.. ##..     ###. .#.. ###. .#..
       .... .... .... ....     .... ..@. @#.. .#..     .... .#.. .#@. @...     .... .#@. @... .#..

They come from an endless sequence of bags, each with one piece of every kind in uniformly random
order.

Start: an empty board and the first piece. Like every new piece, it enters with its box at row 0 and
column 3, in rotation 0. The frame also shows the next P pieces.

Actions: 0 up turns the piece by one rotation, 2 left and 3 right shift it by one column; a move is
refused if the piece would not fit. 1 down drops the piece by D rows, or by one if it is new; if
fewer are free, as far as it can fall. 4 fire and any other integer do nothing.

Step:
1. If the piece has just locked, full rows vanish and the blocks above them fall. After ten rows in
   all, the game is won and the step ends here. Otherwise the next piece enters. If it does not fit,
   the game is lost and the step ends here.
2. The action takes effect.
3. If the action was not down, the piece falls by A rows, or as far as it can if fewer are free.
   Neither this nor down moves a piece through a block.
4. If the piece cannot fall further, it locks at once: its blocks become part of the board.

Rewards: each full row that vanishes raises the score by 1, and the first ten pay 0.1 each. Losing
pays -1. Returns lie in [-1, 1].

Episode end: terminated when the game is won or lost; truncated at 3000 steps. A won game ends with
its full rows removed and without a new piece. A lost one ends with the new piece drawn where it
entered, over the blocks that it does not fit on; they stay as they were.

Views: the score is the number of rows that vanished. The falling piece is solid, with its first
block in white, and the next pieces are at the side. When a piece locks, full rows are solid and
white. The MDP shows the blocks on the board, with a color and a pattern for every kind of piece.
The POMDP never shows them.

Levels: Easy P = 3, A = 1, D = 2, Medium P = 2, A = 1, D = 2, Hard P = 1, A = 2, D = 3; the limit is
3000.

Source: POPGym Arcade 0.0.7.

Differences from 0.0.7:
* More than ten rows pay no more than ten. Returns reached 1.3.
* Pieces fall row by row. On Hard, they went through blocks.
* The first bag holds one piece of every kind at every level.
* The MDP shows the rotation. I, S and Z look the same in two rotations but turn differently, so the
  frame did not tell.

Versions:
* 1 (0.1.0): first version.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import render as draw

__all__ = [
    "BOX",
    "BOXES",
    "BOX_ROWS",
    "COLUMNS",
    "COLUMN_BITS",
    "DOWN",
    "FIRE",
    "FIRST_ROWS",
    "FLOOR",
    "LEFT",
    "LEVELS",
    "LINES_TO_WIN",
    "NAME",
    "NUM_PIECES",
    "RETURN_RANGE",
    "RIGHT",
    "ROWS",
    "START_COL",
    "UP",
    "VERSION",
    "WALL",
    "WALLS",
    "Params",
    "State",
    "act",
    "blocked_rows",
    "choose",
    "clear_full_rows",
    "fall",
    "fits",
    "full_rows",
    "landing_row",
    "lock",
    "occupied_columns",
    "on_board",
    "piece_bits",
    "render",
    "reset",
    "shuffle_bag",
    "spawn",
    "step",
]

NAME: str = "Tetris"
VERSION: int = 1
RETURN_RANGE: tuple[float, float] = (-1.0, 1.0)  # at every level
UP, DOWN, LEFT, RIGHT, FIRE = range(5)
ROWS, COLUMNS, BOX = 20, 10, 4
NUM_PIECES = 7
START_COL = 3
LINES_TO_WIN = 10

# The pieces in all rotations: @ is a piece's first block, # are the others.
_PIECES = (
    """
.... ..@. .... .#..
@### ..#. .... .#..
.... ..#. ###@ .#..
.... ..#. .... .@..
""",
    """
.... .... .... ....
.@#. .#@. .##. .##.
.##. .##. .#@. .@#.
.... .... .... ....
""",
    """
.... .... .... ....
.@.. .#.. .... .#..
###. .#@. ###. @#..
.... .#.. .@.. .#..
""",
    """
.... .... .... ....
.#@. .#.. .... @...
##.. .##. .##. ##..
.... ..@. @#.. .#..
""",
    """
.... .... .... ....
@#.. ..@. .... .#..
.##. .##. ##.. ##..
.... .#.. .#@. @...
""",
    """
.... .... .... ....
@... .#@. .... .#..
###. .#.. ###. .#..
.... .#.. ..@. @#..
""",
    """
.... .... .... ....
..@. .#.. .... @#..
###. .#.. ###. .#..
.... .#@. @... .#..
""",
)
# int8[piece, rotation, box row, box column]: 0 nothing, 1 a block, 2 the first block
BOXES = (
    np.array([[".#@".index(c) for c in "".join(piece.split())] for piece in _PIECES])
    .reshape(NUM_PIECES, BOX, 4, BOX)
    .swapaxes(1, 2)
    .astype(np.int8)
)
# A row of the board may be written as an integer: bit c + WALL stands for column c, and the bits
# beside the board are walls.
WALL = 3
COLUMN_BITS = np.arange(WALL, WALL + COLUMNS, dtype=np.uint32)
WALLS = np.uint32(~(((1 << COLUMNS) - 1) << WALL) & 0xFFFFFFFF)
# uint32[piece, rotation, box row]: the rows of a box as integers, for all blocks and for the first
# block alone
BOX_ROWS, FIRST_ROWS = (
    (blocks << np.arange(BOX)).sum(axis=-1).astype(np.uint32) for blocks in (BOXES > 0, BOXES == 2)
)

# A column as an integer: bit r stands for row r, and the bits below the board are its floor.
FLOOR = np.uint32(0xFFFFFFFF << ROWS & 0xFFFFFFFF)

# The patterns of blocks: one per kind of piece for locked blocks, then one for falling pieces and
# full rows. Falling blocks must not look like locked ones, or the falling piece could not be told
# from them.
_GLYPHS = (
    "####. ####. ####. ####. .....",
    "####. #..#. #..#. ####. .....",
    ".##.. ####. ####. .##.. .....",
    "####. ##.#. #.##. ####. .....",
    "####. #.##. ##.#. ####. .....",
    "####. #..#. ####. ####. .....",
    "####. #.##. #.##. ####. .....",
    "##### ##### ##### ##### #####",
)
_INKS = "cypgrbo" + "w"  # one per kind of piece; one for full rows and the falling first block
_NO_GLYPH, _SOLID_GLYPH, _WHITE_INK = -1, 7, 7
# int8[piece, 3, 4]: the glyphs of a piece's preview, the two rows that it fills and an empty one
_PREVIEWS = np.where(BOXES[:, 0, 1:4] > 0, np.arange(NUM_PIECES)[:, None, None], _NO_GLYPH).astype(
    np.int8
)
_NEXT_GAP, _NEXT_TOP = 3, 3  # from the board's right side and top to the previews, in blocks
_BOARD_LEFT, _BORDER = 24, 2  # the board's left side and its border's thickness, in layout units

_Tree = TypeVar("_Tree")


@draw.register_params
@dataclass(frozen=True)
class Params:
    """The parameters of a level.

    Static fields set shapes and drawing; all others may be traced, e.g. swept with vmap.
    """

    # P: next pieces shown
    num_previews: int = field(default=3, metadata={"static": True, "allowed": range(1, 5)})
    # whether to draw the POMDP view
    partial_obs: bool = field(default=False, metadata={"static": True, "allowed": (False, True)})
    # side of a frame in pixels
    obs_size: int = field(default=128, metadata={"static": True, "allowed": draw.OBS_SIZES})
    # steps before truncation
    max_steps_in_episode: int = field(default=3000, metadata={"allowed": draw.STEP_LIMITS})
    # A: rows per step
    gravity: int = field(default=1, metadata={"allowed": range(1, ROWS + 1)})
    # D: rows per step with down
    drop: int = field(default=2, metadata={"allowed": range(1, ROWS + 1)})
    # shared by the ten rows
    win_reward: float = field(default=1.0, metadata={"allowed": draw.ANY_REWARD})
    lost_reward: float = field(default=-1.0, metadata={"allowed": draw.ANY_REWARD})


@draw.register_state
class State(NamedTuple):
    """One episode; P is params.num_previews. Kinds of pieces: 0 I, 1 O, 2 T, 3 S, 4 Z, 5 J, 6 L."""

    board: jax.Array  # int8[20, 10]: 0 for empty, otherwise 1 + the kind of the block's piece
    piece: jax.Array  # int32[], in [0, 6]: the kind of the falling piece
    row: jax.Array  # int32[], in [0, 18]: the top row of its box
    col: jax.Array  # int32[], in [-2, 8]: the left column of its box
    rotation: jax.Array  # int32[], in [0, 3]
    next_pieces: jax.Array  # int32[P], in [0, 6]: the pieces to come
    bag: jax.Array  # int32[7]: the current bag, in the order of drawing
    bag_index: jax.Array  # int32[], in [0, 7]: the number of pieces drawn from it
    lines: jax.Array  # int32[], in [0, 13]: full rows that vanished
    just_locked: jax.Array  # bool[]: whether the piece is part of the board now
    fresh: jax.Array  # bool[]: whether the piece is new and has not been stepped
    time: jax.Array  # int32[]: steps taken
    score: jax.Array  # int32[], in [0, 13]: the same as lines


def reset(key: jax.Array, params: Params) -> tuple[jax.Array, State]:
    """Begin an episode.

    key: a typed or raw PRNG key. params: Params. Returns (observation uint8[S, S, 3], State).
    """
    bag = shuffle_bag(key)
    zero = jnp.zeros_like(bag[0])
    state = State(
        board=jnp.zeros_like(bag, jnp.int8, (ROWS, COLUMNS)),
        piece=bag[0],
        row=zero,
        col=jnp.full_like(zero, START_COL),
        rotation=zero,
        next_pieces=bag[1 : params.num_previews + 1],
        bag=bag,
        bag_index=jnp.full_like(zero, params.num_previews + 1),
        lines=zero,
        just_locked=jnp.zeros_like(zero, bool),
        fresh=jnp.ones_like(zero, bool),
        time=zero,
        score=zero,
    )
    return render(state, params), state


def step(
    key: jax.Array, state: State, action: jax.Array, params: Params
) -> tuple[jax.Array, State, jax.Array, jax.Array, dict[str, jax.Array]]:
    """Play one step.

    key: a typed or raw PRNG key, for the next bag. state: State. action: int[]. params: Params.
    Returns (observation uint8[S, S, 3], State, reward float32[], done bool[], info).
    """
    state_before = state
    locked, columns = state.just_locked, occupied_columns(state.board)
    state, columns = choose(locked, clear_full_rows(state, columns), (state, columns))
    won = state.lines >= LINES_TO_WIN
    enters = locked & ~won
    state = choose(enters, spawn(key, state), state)
    blocked = blocked_rows(state, columns)
    lost = enters & ~fits(state, blocked)
    acted, blocked = act(state, action, columns, blocked)
    played = lock(fall(acted, action, blocked, params), blocked)
    state = choose(won | lost, state, played)
    paid_lines = jnp.minimum(state.lines, LINES_TO_WIN) - jnp.minimum(
        state_before.lines, LINES_TO_WIN
    )
    reward = jnp.float32(paid_lines) * (params.win_reward / LINES_TO_WIN)
    reward = reward + jnp.float32(lost) * params.lost_reward
    terminated = won | lost
    state, terminated = _computed_once(state, terminated)
    state = state._replace(time=state_before.time + 1)
    truncated = state.time >= params.max_steps_in_episode
    info = {
        "terminated": terminated,
        "truncated": truncated,
        "discount": (~terminated).astype(jnp.float32),
    }
    return render(state, params), state, reward.astype(jnp.float32), terminated | truncated, info


def _computed_once(state: State, terminated: jax.Array) -> tuple[State, jax.Array]:
    """Keep XLA from computing most of the step again for each array of the next state.

    On a GPU, these would read the state before the step, of which every part would be copied first.
    The bag alone can be replaced in place.
    """
    once = jax.lax.optimization_barrier((state._replace(bag=None), terminated))
    return once[0]._replace(bag=state.bag), once[1]


def choose(condition: jax.Array, one: _Tree, other: _Tree) -> _Tree:
    """One state (or other pytree) if the condition holds, otherwise the other."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)


def shuffle_bag(key: jax.Array) -> jax.Array:
    """One piece of every kind in uniformly random order: int32[7]."""
    # The lowest three bits hold the position, which makes the numbers distinct; ranks are pieces.
    positions = np.arange(NUM_PIECES, dtype=np.uint32)
    bits = jax.random.bits(key, (NUM_PIECES,), jnp.uint32) & ~np.uint32(7) | positions
    return jnp.sum(bits[None, :] < bits[:, None], axis=1, dtype=jnp.int32)


def occupied_columns(board: jax.Array) -> jax.Array:
    """The columns of a board, int8[20, 10], as integers with bit r for row r: uint32[10]."""
    bits = np.uint32(1) << np.arange(ROWS, dtype=np.uint32)[:, None]
    return jnp.sum(jnp.where(board > 0, bits, 0), axis=0, dtype=jnp.uint32) | FLOOR


def full_rows(columns: jax.Array) -> jax.Array:
    """The rows that are full, as an integer with bit r for row r: uint32[].

    columns: as returned by occupied_columns.
    """
    return jax.lax.reduce(columns, ~np.uint32(0), jax.lax.bitwise_and, (0,)) & ~FLOOR


def clear_full_rows(state: State, columns: jax.Array) -> tuple[State, jax.Array]:
    """Remove full rows and let the blocks above them fall: (State, its occupied columns).

    columns: uint32[10], those of the state before, as returned by occupied_columns.
    """
    full, rows = full_rows(columns), np.arange(ROWS, dtype=np.int32)
    lines = state.lines + jax.lax.population_count(full).astype(jnp.int32)
    # A row takes its blocks from as many rows above as there are full rows from there downwards.
    full_for_each_row, falls = jnp.broadcast_to(full, ROWS), jnp.zeros_like(rows)
    for _ in range(BOX):  # a piece fills no more rows than its box has
        source = jnp.maximum(rows - falls, 0).astype(jnp.uint32)
        falls = jax.lax.population_count(full_for_each_row >> source).astype(jnp.int32)
    board = state.board
    for distance in range(1, BOX + 1):
        fallen = jnp.pad(state.board[:-distance], ((distance, 0), (0, 0)))
        board = jnp.where((falls == distance)[:, None], fallen, board)
    state = state._replace(board=board, lines=lines, score=lines)
    return state, _without_rows(columns, full)


def _without_rows(columns: jax.Array, full: jax.Array) -> jax.Array:
    """Remove full rows from the columns, the highest first: uint32[10].

    columns: as returned by occupied_columns. full: as returned by full_rows.
    """
    full = jnp.broadcast_to(full, columns.shape)
    for _ in range(BOX):
        row = full & (~full + 1)  # the lowest bit, 0 if no row is left
        above = jnp.where(row == 0, 0, row - 1)
        columns = columns & ~(above | row) | (columns & above) << 1
        full = full ^ row
    return columns


def spawn(key: jax.Array, state: State) -> State:
    """Let the next piece enter, and draw another one for the preview."""
    empty = state.bag_index == NUM_PIECES
    bag, index = jnp.where(empty, shuffle_bag(key), state.bag), jnp.where(empty, 0, state.bag_index)
    drawn = jnp.sum(
        jnp.where(np.arange(NUM_PIECES, dtype=np.int32) == index, bag, 0), dtype=jnp.int32
    )
    num_previews = state.next_pieces.shape[0]
    last = np.arange(num_previews, dtype=np.int32) == num_previews - 1
    return state._replace(
        piece=state.next_pieces[0],
        row=jnp.int32(0),
        col=jnp.int32(START_COL),
        rotation=jnp.int32(0),
        next_pieces=jnp.where(last, drawn, jnp.pad(state.next_pieces[1:], (0, 1))),
        bag=bag,
        bag_index=index + 1,
        just_locked=jnp.bool_(False),
        fresh=jnp.bool_(True),
    )


def piece_bits(state: State, table: np.ndarray) -> jax.Array:
    """The piece's box as an integer whose bit 4 r + c stands for row r and column c: uint32[].

    table: BOX_ROWS or FIRST_ROWS.
    """
    boxes = (table << BOX * np.arange(BOX, dtype=np.uint32)).sum(axis=-1, dtype=np.uint32)
    return jnp.asarray(boxes.reshape(-1))[state.piece * BOX + state.rotation]


def blocked_rows(state: State, columns: jax.Array) -> jax.Array:
    """The rows at which the piece's box would overlap something, one bit per row: uint32[].

    columns: as returned by occupied_columns.
    """
    walled = jnp.pad(columns, WALL, constant_values=np.uint32(0xFFFFFFFF))
    box_col = np.arange(-WALL, COLUMNS + WALL, dtype=np.int32) - state.col
    piece = piece_bits(state, BOX_ROWS) >> jnp.clip(box_col, 0, BOX - 1).astype(jnp.uint32)
    blocked = jnp.zeros_like(walled)
    for row in range(BOX):
        blocked = blocked | jnp.where((piece >> BOX * row) & 1 == 1, walled >> row, 0)
    in_box = (box_col >= 0) & (box_col < BOX)
    return jax.lax.reduce(jnp.where(in_box, blocked, 0), np.uint32(0), jax.lax.bitwise_or, (0,))


def fits(state: State, blocked: jax.Array) -> jax.Array:
    """Whether the piece is on empty cells: bool[]. blocked: as returned by blocked_rows."""
    return (blocked >> state.row.astype(jnp.uint32)) & 1 == 0


def landing_row(state: State, blocked: jax.Array) -> jax.Array:
    """The lowest row that the piece can fall to from its position: int32[].

    blocked: as returned by blocked_rows.
    """
    below = blocked & (~np.uint32(1) << state.row.astype(jnp.uint32))
    # The number of zeros below the lowest bit is the first row that is blocked.
    return jax.lax.population_count(~below & (below - 1)).astype(jnp.int32) - 1


def act(
    state: State, action: jax.Array, columns: jax.Array, blocked: jax.Array
) -> tuple[State, jax.Array]:
    """Turn or shift the piece, unless it would not fit: (State, its blocked rows).

    columns: as returned by occupied_columns. blocked: the blocked rows of the state before.
    """
    col = state.col + jnp.int32(action == RIGHT) - jnp.int32(action == LEFT)
    moved = state._replace(col=col, rotation=(state.rotation + jnp.int32(action == UP)) % 4)
    moved_blocked = blocked_rows(moved, columns)
    return choose(fits(moved, moved_blocked), (moved, moved_blocked), (state, blocked))


def fall(state: State, action: jax.Array, blocked: jax.Array, params: Params) -> State:
    """Let the piece fall by the rows of down or of gravity, but not through blocks.

    blocked: as returned by blocked_rows.
    """
    rows = jnp.where(action == DOWN, jnp.where(state.fresh, 1, params.drop), params.gravity)
    return state._replace(
        row=jnp.minimum(state.row + rows, landing_row(state, blocked)), fresh=jnp.bool_(False)
    )


def lock(state: State, blocked: jax.Array) -> State:
    """Make the piece part of the board if it cannot fall further.

    blocked: as returned by blocked_rows.
    """
    locks = landing_row(state, blocked) == state.row
    block = (1 + state.piece).astype(jnp.int8)
    return state._replace(
        board=jnp.where(locks & on_board(state, BOX_ROWS), block, state.board), just_locked=locks
    )


def on_board(state: State, table: np.ndarray) -> jax.Array:
    """The piece's blocks as a mask: bool[20, 10]. table: BOX_ROWS or FIRST_ROWS."""
    box_row = np.arange(ROWS, dtype=np.int32) - state.row
    bits = piece_bits(state, table) >> jnp.clip(BOX * box_row, 0, BOX * BOX).astype(jnp.uint32)
    bits = jnp.where(box_row >= 0, bits & ((1 << BOX) - 1), 0)
    bits = bits << (state.col + WALL).astype(jnp.uint32)
    return (bits[:, None] >> COLUMN_BITS[None]) & 1 == 1


def render(state: State, params: Params) -> jax.Array:
    """Draw the state: uint8[S, S, 3], S = params.obs_size."""
    full, falls = jnp.all(state.board > 0, axis=1)[:, None], ~state.just_locked
    falling, first = falls & on_board(state, BOX_ROWS), falls & on_board(state, FIRST_ROWS)
    locked = jnp.int8(_NO_GLYPH) if params.partial_obs else state.board - 1
    glyphs = jnp.where(falling | full, jnp.int8(_SOLID_GLYPH), locked)
    inks = jnp.where(
        first | full, jnp.int8(_WHITE_INK), jnp.where(falling, state.piece.astype(jnp.int8), locked)
    )
    canvas, block, top, (board_left, next_left) = _draw_frame(params)
    place: dict[str, Any] = dict(glyphs=_GLYPHS, inks=_INKS, size=(block, block))
    canvas = draw.glyphs(canvas, glyphs, ink_ids=inks, top=top, left=board_left, **place)
    previews = jnp.take(_PREVIEWS, state.next_pieces, axis=0).reshape(-1, BOX)
    canvas = draw.glyphs(canvas, previews, top=top + _NEXT_TOP * block, left=next_left, **place)
    return draw.frame(canvas, score=state.score, name=NAME)


def _draw_frame(params: Params) -> tuple[jax.Array, int, int, tuple[int, int]]:
    """Draw the empty board in its border.

    Returns (canvas, the side of a block, the board's top, (the left edges of the board and of the
    previews)), in pixels.
    """
    canvas = draw.field(params.obs_size)
    block = canvas.shape[0] // ROWS
    top, left, border = (
        (canvas.shape[0] - ROWS * block) // 2,
        *(draw.pixels(params.obs_size, part) for part in (_BOARD_LEFT, _BORDER)),
    )
    right, bottom = left + COLUMNS * block, top + ROWS * block
    canvas = draw.rectangle(
        canvas, top=0, bottom=bottom + border, left=left - border, right=right + border, color="D"
    )
    canvas = draw.rectangle(canvas, top=0, bottom=bottom, left=left, right=right, color="k")
    next_left = right + _NEXT_GAP * block
    canvas = draw.text(
        canvas, "NEXT", top=top, left=next_left, scale=draw.text_scale(params.obs_size), color="s"
    )
    return canvas, block, top, (left, next_left)


LEVELS: dict[str, Params] = {
    "Easy": Params(num_previews=3, gravity=1, drop=2),
    "Medium": Params(num_previews=2, gravity=1, drop=2),
    "Hard": Params(num_previews=1, gravity=2, drop=3),
}
