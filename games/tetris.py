"""Tetris: build on a board you cannot see.

Pieces of four blocks fall on a board of 20 x 10 cells. Turn and shift them so that they fill rows,
ten rows in all.

Pieces: they live in a box of 4 x 4 cells and have four rotations. The first block of each (@) is
marked when it falls, so that the rotation can be seen:

    I  .... ..@. .... .#..   T  .... .... .... ....   J  .... .... .... ....
       @### ..#. .... .#..      .@.. .#.. .... .#..      @... .#@. .... .#..
       .... ..#. ###@ .#..      ###. .#@. ###. @#..      ###. .#.. ###. .#..
       .... ..#. .... .@..      .... .#.. .@.. .#..      .... .#.. ..@. @#..

    O  .... .... .... ....   S  .... .... .... ....   Z  .... .... .... ....   L  .... .... .... ....
       .@#. .#@. .##. .##.      .#@. .#.. .... @...      @#.. ..@. .... .#..      ..@. .#.. .... @#..
       .##. .##. .#@. .@#.      ##.. .##. .##. ##..      .##. .##. ##.. ##..      ###. .#.. ###. .#..
       .... .... .... ....      .... ..@. @#.. .#..      .... .#.. .#@. @...      .... .#@. @... .#..

They come from an endless row of bags, each holding one of every kind in uniformly random order.

Start: an empty board, the first piece with its box at row 0, column 3 and in rotation 0, as every
new piece, and the next P pieces on show.

Actions: 0 up turns the piece by one rotation, 2 left and 3 right shift it one column; each is
refused if the piece would not fit. 1 down drops it by up to D rows, by one if it is new. 4 fire and
any other integer do nothing.

Step:
1. If the piece has just locked: full rows go and what is above them falls. With ten rows the game
   is won and ends here. Otherwise the next piece enters; if it does not fit, the game is lost and
   ends here.
2. The action.
3. If the action was not down, the piece falls by up to A rows. No fall, by this or by down, goes
   through a block.
4. If the piece cannot fall further, it locks at once: its blocks become part of the board.

Rewards: each row that goes pays 0.1, up to ten rows, and raises the score by 1. Losing pays -1.
Returns lie in -1 ... 1.

Episode end: terminated when the game is won or lost; truncated at 3000 steps.

Views: the score is the number of rows that went. The falling piece is drawn solid, its first block
in white, and the next pieces at the side. When a piece locks, a full row is drawn solid and white.
The MDP shows the blocks on the board, those of every kind of piece in its own colour and pattern.
The POMDP never shows them.

Levels: Easy P = 3, A = 1, D = 2, Medium P = 2, A = 1, D = 2, Hard P = 1, A = 2, D = 3; the limit is
3000.

Source: POPGym Arcade 0.0.7.

Differences from 0.0.7:
* More than ten rows pay no more than ten; returns reached 1.3.
* Pieces fall row by row; on Hard they went through blocks.
* The first bag holds one of every kind at every level.
* The MDP shows the rotation, which I, S and Z hid: they look the same in two rotations and turn
  differently.

Versions:
* 1 (0.1.0): the first.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import render as draw

NAME = "Tetris"
VERSION = 1
RETURN_RANGE = (-1.0, 1.0)  # of every level
UP, DOWN, LEFT, RIGHT, FIRE = range(5)
ROWS, COLUMNS, BOX = 20, 10, 4
NUM_PIECES = 7
START_COL = 3
LINES_TO_WIN = 10

# The pieces in all rotations: @ is a piece's first block, # the others.
PIECES = (
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
BOXES = np.array(
    [
        [[".#@".index(c) for c in cells.replace(" ", "")] for cells in piece.strip().split("\n")]
        for piece in PIECES
    ]
)
BOXES = BOXES.reshape(NUM_PIECES, BOX, 4, BOX).swapaxes(1, 2).astype(np.int8)
# A row of the board as one integer: bit c + WALL stands for column c, and the bits beside the board
# are walls.
WALL = 3
COLUMN_BITS = np.arange(WALL, WALL + COLUMNS, dtype=np.uint32)
WALLS = np.uint32(~(((1 << COLUMNS) - 1) << WALL) & 0xFFFFFFFF)
# uint32[piece, rotation, box row]: the rows of a box in the same way, of all blocks and of the
# first alone
BOX_ROWS, FIRST_ROWS = (
    (blocks << np.arange(BOX)).sum(axis=-1).astype(np.uint32) for blocks in (BOXES > 0, BOXES == 2)
)

# How a block looks: one pattern for each kind of piece that lies on the board, then that of falling
# pieces and full rows. What falls must not look like what lies, or one could not tell which blocks
# belong to it.
GLYPHS = (
    "####. ####. ####. ####. .....",
    "####. #..#. #..#. ####. .....",
    ".##.. ####. ####. .##.. .....",
    "####. ##.#. #.##. ####. .....",
    "####. #.##. ##.#. ####. .....",
    "####. #..#. ####. ####. .....",
    "####. #.##. #.##. ####. .....",
    "##### ##### ##### ##### #####",
)
INKS = (
    "cypgrbo" + "w"
)  # of each kind of piece; of full rows and of the first block of the falling piece
NO_GLYPH, SOLID_GLYPH, WHITE_INK = -1, 7, 7
# The glyphs of each piece as a preview, the two rows that it fills and an empty one: int8[piece, 3,
# 4]
PREVIEWS = np.where(BOXES[:, 0, 1:4] > 0, np.arange(NUM_PIECES)[:, None, None], NO_GLYPH).astype(
    np.int8
)
NEXT_GAP, NEXT_TOP = 3, 3  # from the board's right side and top to the previews, in blocks
BOARD_LEFT, BORDER = (
    24,
    2,
)  # from the frame's left side to the board, and its border's thickness, in 128ths of the frame


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """What a level sets. Fields marked static choose shapes and drawing; the others may be traced
    and swept with vmap."""

    num_previews: int = field(
        default=3, metadata={"static": True, "allowed": range(1, 5)}
    )  # P: next pieces on show
    partial_obs: bool = field(
        default=False, metadata={"static": True, "allowed": (False, True)}
    )  # the POMDP view
    obs_size: int = field(
        default=128, metadata={"static": True, "allowed": draw.OBS_SIZES}
    )  # pixels a side of a frame
    max_steps_in_episode: int = field(
        default=3000, metadata={"allowed": draw.STEP_LIMITS}
    )  # steps before truncation
    gravity: int = field(default=1, metadata={"allowed": range(1, ROWS + 1)})  # A: rows a step
    drop: int = field(
        default=2, metadata={"allowed": range(1, ROWS + 1)}
    )  # D: rows a step with down
    win_reward: float = field(
        default=1.0, metadata={"allowed": draw.ANY_REWARD}
    )  # shared by the ten rows
    lost_reward: float = field(default=-1.0, metadata={"allowed": draw.ANY_REWARD})


class State(NamedTuple):
    """One episode; P is params.num_previews. Kinds of pieces: 0 I, 1 O, 2 T, 3 S, 4 Z, 5 J, 6 L."""

    board: (
        jax.Array
    )  # int8[20, 10]: 0 where it is empty, else 1 + the kind of piece that the block is from
    piece: jax.Array  # int32[], 0 ... 6: the falling piece
    row: jax.Array  # int32[], 0 ... 18: the top of its box
    col: jax.Array  # int32[], -2 ... 8: the left side of its box
    rotation: jax.Array  # int32[], 0 ... 3
    next_pieces: jax.Array  # int32[P], 0 ... 6: the pieces to come
    bag: jax.Array  # int32[7]: the bag that pieces are drawn from, in order
    bag_index: jax.Array  # int32[], 0 ... 7: how many were drawn from it
    lines: jax.Array  # int32[], 0 ... 13: full rows that went
    just_locked: jax.Array  # bool[]: whether the piece is part of the board now
    fresh: jax.Array  # bool[]: whether the piece is new, so that it has not been stepped
    time: jax.Array  # int32[]: steps taken
    score: jax.Array  # int32[], 0 ... 13: the same as lines


def reset(key, params):
    """Begin an episode.

    key: a typed or raw PRNG key. params: Params. Returns (observation uint8[S, S, 3], State).
    """
    bag, zero = shuffle_bag(key), jnp.int32(0)
    state = State(
        board=jnp.zeros((ROWS, COLUMNS), jnp.int8),
        piece=bag[0],
        row=zero,
        col=jnp.int32(START_COL),
        rotation=zero,
        next_pieces=bag[1 : params.num_previews + 1],
        bag=bag,
        bag_index=jnp.int32(params.num_previews + 1),
        lines=zero,
        just_locked=jnp.bool_(False),
        fresh=jnp.bool_(True),
        time=zero,
        score=zero,
    )
    return render(state, params), state


def step(key, state, action, params):
    """Play one step.

    key: a typed or raw PRNG key, for the next bag. state: State. action: int[]. params: Params.
    Returns (observation uint8[S, S, 3], State, reward float32[], done bool[], info).
    """
    lines_before = state.lines
    locked = state.just_locked
    state = choose(locked, clear_full_rows(state), state)
    won = state.lines >= LINES_TO_WIN
    enters = locked & ~won
    state = choose(enters, spawn(key, state), state)
    lost = enters & ~fits(state)
    played = lock(fall(act(state, action), action, params))
    state = choose(won | lost, state, played)._replace(time=state.time + 1)
    paid_lines = jnp.minimum(state.lines, LINES_TO_WIN) - jnp.minimum(lines_before, LINES_TO_WIN)
    reward = paid_lines * (params.win_reward / LINES_TO_WIN) + lost * params.lost_reward
    terminated = won | lost
    truncated = state.time >= params.max_steps_in_episode
    info = {
        "terminated": terminated,
        "truncated": truncated,
        "discount": (~terminated).astype(jnp.float32),
    }
    return render(state, params), state, reward.astype(jnp.float32), terminated | truncated, info


def choose(condition, one, other):
    """One state if the condition holds, else the other: State."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)


def shuffle_bag(key):
    """One of every kind of piece in uniformly random order: int32[7]."""
    # Distinct random numbers, because their lowest three bits are; the rank of each is its piece.
    numbers = jax.random.bits(key, (NUM_PIECES,)) & ~np.uint32(7) | np.arange(
        NUM_PIECES, dtype=np.uint32
    )
    return jnp.sum(numbers[None, :] < numbers[:, None], axis=1, dtype=jnp.int32)


def clear_full_rows(state):
    """Take full rows away and let what is above them fall: State."""
    board, lines = state.board, state.lines
    for _ in range(BOX):  # a piece fills at most so many rows
        full = jnp.all(board > 0, axis=1)
        above = jnp.any(full) & (np.arange(ROWS) <= jnp.argmax(full))
        board = jnp.where(above[:, None], jnp.pad(board[:-1], ((1, 0), (0, 0))), board)
        lines = lines + jnp.any(full)
    return state._replace(board=board, lines=lines, score=lines)


def spawn(key, state):
    """Let the next piece enter, and draw another one for the preview: State."""
    empty = state.bag_index == NUM_PIECES
    bag, index = jnp.where(empty, shuffle_bag(key), state.bag), jnp.where(empty, 0, state.bag_index)
    return state._replace(
        piece=state.next_pieces[0],
        row=jnp.int32(0),
        col=jnp.int32(START_COL),
        rotation=jnp.int32(0),
        next_pieces=jnp.concatenate([state.next_pieces[1:], bag[index][None]]),
        bag=bag,
        bag_index=index + 1,
        just_locked=jnp.bool_(False),
        fresh=jnp.bool_(True),
    )


def piece_rows(state, table):
    """The rows of the piece's box, from BOX_ROWS or FIRST_ROWS, moved to its columns: uint32[4]."""
    return jnp.asarray(table)[state.piece, state.rotation] << (state.col + WALL).astype(jnp.uint32)


def blocked_rows(state):
    """For each row, whether the piece would not fit with its box there: bool[21], the last one for
    a box below the board."""
    occupied = jnp.sum(
        jnp.where(state.board > 0, np.uint32(1) << COLUMN_BITS, 0), axis=1, dtype=jnp.uint32
    )
    board = jnp.pad(occupied | WALLS, (0, BOX), constant_values=np.uint32(0xFFFFFFFF))
    piece = piece_rows(state, BOX_ROWS)
    overlaps = [board[row : row + ROWS + 1] & piece[row] for row in range(BOX)]
    return (overlaps[0] | overlaps[1] | overlaps[2] | overlaps[3]) != 0


def fits(state):
    """Whether the piece is on empty cells of the board: bool[]."""
    return ~blocked_rows(state)[state.row]


def landing_row(state):
    """The row down to which the piece could fall from where it is: int32[]."""
    rows = np.arange(ROWS + 1)
    return jnp.min(jnp.where(blocked_rows(state) & (rows > state.row), rows, ROWS + 1)) - 1


def act(state, action):
    """Turn or shift the piece, if it fits then: State."""
    col = state.col + (action == RIGHT) - (action == LEFT)
    moved = state._replace(col=col, rotation=(state.rotation + (action == UP)) % 4)
    return choose(fits(moved), moved, state)


def fall(state, action, params):
    """Let the piece fall by what the action and gravity allow, but through nothing: State."""
    rows = jnp.where(action == DOWN, jnp.where(state.fresh, 1, params.drop), params.gravity)
    return state._replace(
        row=jnp.minimum(state.row + rows, landing_row(state)), fresh=jnp.bool_(False)
    )


def lock(state):
    """Make the piece part of the board if it cannot fall further: State."""
    locks = landing_row(state) == state.row
    block = (1 + state.piece).astype(jnp.int8)
    return state._replace(
        board=jnp.where(locks & on_board(state, BOX_ROWS), block, state.board), just_locked=locks
    )


def on_board(state, table):
    """Where the piece's blocks are, those in BOX_ROWS or in FIRST_ROWS: bool[20, 10]."""
    piece, box_row = piece_rows(state, table), np.arange(ROWS) - state.row
    rows = [jnp.where(box_row == row, piece[row], 0) for row in range(BOX)]
    return ((rows[0] | rows[1] | rows[2] | rows[3])[:, None] >> COLUMN_BITS) & 1 == 1


def render(state, params):
    """Draw the state: uint8[S, S, 3], S = params.obs_size."""
    full, falls = jnp.all(state.board > 0, axis=1)[:, None], ~state.just_locked
    falling, first = falls & on_board(state, BOX_ROWS), falls & on_board(state, FIRST_ROWS)
    locked = jnp.int8(NO_GLYPH) if params.partial_obs else state.board - 1
    glyphs = jnp.where(falling | full, jnp.int8(SOLID_GLYPH), locked)
    inks = jnp.where(
        first | full, jnp.int8(WHITE_INK), jnp.where(falling, state.piece.astype(jnp.int8), locked)
    )
    canvas, block, top, (board_left, next_left) = draw_frame(params)
    place = dict(glyphs=GLYPHS, inks=INKS, size=(block, block))
    canvas = draw.glyphs(canvas, glyphs, ink_ids=inks, top=top, left=board_left, **place)
    previews = jnp.take(PREVIEWS, state.next_pieces, axis=0).reshape(-1, BOX)
    canvas = draw.glyphs(canvas, previews, top=top + NEXT_TOP * block, left=next_left, **place)
    return draw.frame(canvas, score=state.score, name=NAME)


def draw_frame(params):
    """The empty board in its frame: (canvas, pixels a side of a block, the board's top, the left of
    the board and the previews)."""
    canvas = draw.field(params.obs_size)
    block = canvas.shape[0] // ROWS
    top, left, border = (
        (canvas.shape[0] - ROWS * block) // 2,
        *(draw.pixels(params.obs_size, part) for part in (BOARD_LEFT, BORDER)),
    )
    right, bottom = left + COLUMNS * block, top + ROWS * block
    canvas = draw.rectangle(
        canvas, top=0, bottom=bottom + border, left=left - border, right=right + border, color="D"
    )
    canvas = draw.rectangle(canvas, top=0, bottom=bottom, left=left, right=right, color="k")
    next_left = right + NEXT_GAP * block
    canvas = draw.text(
        canvas, "NEXT", top=top, left=next_left, scale=draw.text_scale(params.obs_size), color="s"
    )
    return canvas, block, top, (left, next_left)


LEVELS = {
    "Easy": Params(num_previews=3, gravity=1, drop=2),
    "Medium": Params(num_previews=2, gravity=1, drop=2),
    "Hard": Params(num_previews=1, gravity=2, drop=3),
}
