"""Tetris: where the blocks lie.

No frame shows the blocks on the board, only the falling piece, the next ones, and full rows as they
vanish. Every block must be remembered until its row is full, for hundreds of steps. Recall plays
along: it moves the falling piece by its own actions on the board that it believes in, so that it
knows where each piece locks and which rows vanish.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import experts
from popgym_arcade.games import tetris
from popgym_arcade.games.tetris import BOX, COLUMNS, FIRE, LEFT, NUM_PIECES, RIGHT, ROWS, UP
from popgym_arcade.memory.player import HIDDEN, Player
from popgym_arcade.registry import NO_ACTION

_FULL = 1 << 3 * COLUMNS  # a full row
_LEFTMOST = -2  # column that a box can be in; 0 in what is shown, where -1 is hidden


class Shown(NamedTuple):
    """What a frame shows; P is params.num_previews."""

    score: jax.Array  # int32[]
    next_pieces: jax.Array  # int32[P]
    # The falling piece, hidden in the frame of its lock:
    piece: jax.Array  # int32[]
    row: jax.Array  # int32[]: its box's
    col: jax.Array  # int32[], in [0, 10]: its box's, 0 for two columns left of the board
    rotation: jax.Array  # int32[]
    # int32[20]: the blocks of each row, three bits a column, 1 + the kind of the block's piece or
    # 0. 2^30 if the row is full, which hides the kinds. In the POMDP, hidden if it is not.
    rows: jax.Array


def shown(state: tetris.State, params: tetris.Params) -> Shown:
    """What the frame of a state shows."""
    falling = (state.piece, state.row, state.col - _LEFTMOST, state.rotation)
    piece, row, col, rotation = (jnp.where(state.just_locked, HIDDEN, part) for part in falling)
    # Blocks behind the falling piece are hidden; there are some when the game is lost.
    behind = tetris.on_board(state, tetris.BOX_ROWS) & ~state.just_locked
    blocks = jnp.where(behind, 0, state.board.astype(jnp.int32))
    rows = jnp.sum(blocks << 3 * np.arange(COLUMNS), axis=1)
    rows = jnp.where(params.partial_obs, HIDDEN, rows)
    rows = jnp.where(jnp.all(state.board > 0, axis=1), _FULL, rows)
    return Shown(state.score, state.next_pieces, piece, row, col, rotation, rows)


# --- without memory ------------------------------------------------------------------------------

_BOX_COLS, _BOX_ROWS = 11, 19  # how many columns and rows a box can be in
_PLACES = BOX * _BOX_COLS * _BOX_ROWS


def num_keys(params: tetris.Params) -> int:
    """The numbers of lines times pieces times places."""
    return tetris.LINES_TO_WIN * NUM_PIECES * _PLACES


def key(shown: Shown, params: tetris.Params) -> jax.Array:
    """The lines, the piece and its place: int32[].

    The lines are those that have vanished and those that are about to. In the frame of a lock, the
    piece is the one that is about to enter, and its place where it will enter.
    """
    place = (_rotation(shown) * _BOX_COLS + _col(shown)) * _BOX_ROWS + _row(shown)
    lines = jnp.minimum(_lines(shown), tetris.LINES_TO_WIN - 1)
    return (lines * NUM_PIECES + _piece(shown)) * _PLACES + place


def _lines(shown: Shown) -> jax.Array:
    return shown.score + jnp.sum(shown.rows == _FULL)


def _piece(shown: Shown) -> jax.Array:
    return jnp.where(shown.piece == HIDDEN, shown.next_pieces[0], shown.piece)


def _row(shown: Shown) -> jax.Array:
    return jnp.maximum(shown.row, 0)


def _col(shown: Shown) -> jax.Array:
    return jnp.where(shown.col == HIDDEN, tetris.START_COL - _LEFTMOST, shown.col)


def _rotation(shown: Shown) -> jax.Array:
    return jnp.maximum(shown.rotation, 0)


def features(shown: Shown, params: tetris.Params) -> jax.Array:
    """All that a POMDP's frame shows, one-hot: float32[f]."""
    parts = [
        shown.piece == np.arange(HIDDEN, NUM_PIECES),
        _rotation(shown) == np.arange(BOX),
        _col(shown) == np.arange(_BOX_COLS),
        _row(shown) == np.arange(_BOX_ROWS),
        (shown.next_pieces[:, None] == np.arange(NUM_PIECES)).ravel(),
        shown.score == np.arange(tetris.LINES_TO_WIN),
        shown.rows == _FULL,
    ]
    return jnp.concatenate(parts).astype(jnp.float32)


# After 0, 1, 2, 3 and more lines, for each kind of piece: the rotation in which it falls, its box's
# column at first, the row from which on it moves to another column, and that one. Blocks may stop
# it on its way there, so where it ends depends on the board. Found by hill climbing on Easy.
_PLANS_OF_IOTSZJL = [
    "0 6 17 4, 0 3 18 5, 1 7 1 -2, 1 -2 15 5, 1 3 3 1, 0 6 14 6, 0 8 17 1",
    "0 6 17 2, 0 3 18 5, 3 -2 2 -2, 1 -2 18 1, 1 3 3 1, 0 6 10 6, 0 8 15 1",
    "0 6 17 2, 0 3 18 5, 1 3 3 -2, 1 -2 14 1, 1 1 0 1, 0 6 11 6, 0 8 18 1",
    "0 7 17 2, 0 3 17 5, 2 8 3 7, 3 -2 16 6, 3 2 15 1, 0 7 11 6, 2 3 18 1",
    "0 6 11 2, 0 0 6 5, 0 3 11 3, 3 -2 2 1, 0 3 15 1, 0 -1 11 6, 0 3 17 1",
]
_PLANS = np.array(
    [[plan.split() for plan in plans.split(",")] for plans in _PLANS_OF_IOTSZJL]
).astype(int)  # [lines, piece, 4]


def _columns_by_lines(shown: Shown, params: tetris.Params) -> jax.Array:
    """Let every kind of piece fall in columns of its own, other ones after every line.

    The lines are a memory of what was filled.
    """
    plans = jnp.asarray(_PLANS)[jnp.minimum(_lines(shown), len(_PLANS) - 1)]
    rotation, first_col, turning_row, then_col = plans[_piece(shown)]
    wanted = jnp.where(_row(shown) < turning_row, first_col, then_col) - _LEFTMOST
    shift = wanted - _col(shown)
    sideways = jnp.where(shift < 0, LEFT, jnp.where(shift > 0, RIGHT, FIRE))
    return jnp.where(rotation == _rotation(shown), sideways, UP)


# --- with memory ---------------------------------------------------------------------------------


def begin(params: tetris.Params) -> tetris.State:
    """Believe in an empty board."""
    zero = jnp.int32(0)
    return tetris.State(
        board=jnp.zeros((ROWS, COLUMNS), jnp.int8),
        piece=zero,
        row=zero,
        col=jnp.int32(tetris.START_COL),
        rotation=zero,
        next_pieces=jnp.zeros(params.num_previews, jnp.int32),
        bag=jnp.arange(NUM_PIECES),
        bag_index=zero,
        lines=zero,
        just_locked=jnp.bool_(False),
        fresh=jnp.bool_(True),
        time=zero,
        score=zero,
    )


def remember(
    memory: tetris.State, last_action: jax.Array, shown: Shown, params: tetris.Params
) -> tetris.State:
    """Play the last action on the believed board, then believe what the frame shows."""
    any_key = jax.random.key(0)  # draws only pieces that are not on show yet
    played = tetris.step(any_key, memory, last_action, params)[1]
    believed = tetris.choose(last_action == NO_ACTION, memory, played)
    blocks = (shown.rows[:, None] >> 3 * np.arange(COLUMNS)) & 7
    blocks = jnp.where((shown.rows == HIDDEN)[:, None], believed.board, blocks)
    blocks = jnp.where((shown.rows == _FULL)[:, None], 1, blocks)

    def seen(new, old):
        return jnp.where(new == HIDDEN, old, new)

    return believed._replace(
        board=blocks.astype(jnp.int8),
        piece=seen(shown.piece, believed.piece),
        row=seen(shown.row, believed.row),
        col=seen(shown.col, believed.col - _LEFTMOST) + _LEFTMOST,
        rotation=seen(shown.rotation, believed.rotation),
        next_pieces=shown.next_pieces,
        lines=shown.score,
        just_locked=shown.piece == HIDDEN,
        fresh=shown.row == 0,  # by the next frame, every piece has fallen
        score=shown.score,
    )


def act(memory: tetris.State, params: tetris.Params) -> jax.Array:
    """Turn, shift and drop the piece to the best place on the believed board: int32[]."""
    return experts.expert(memory, params)


PLAYER = Player(
    shown,
    num_keys,
    key,
    features,
    reflexes={"columns by lines": _columns_by_lines},
    begin=begin,
    remember=remember,
    act=act,
)
