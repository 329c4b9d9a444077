"""Skittles: where skittles stand that are out of view.

Every frame shows about half of the skittles, another half each time. A skittle that was seen once
must be remembered until it leaves the field, for up to ten steps, and its row moved down with every
step. Recall infers that a skittle not seen so far is in any column of the lane with the same
probability, and takes the way down the field on which it most probably survives.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade.games import skittles
from popgym_arcade.games.skittles import BOTTOM, COLORS, FIRE, LEFT, RIGHT, SIZE
from popgym_arcade.memory.player import HIDDEN, Player
from popgym_arcade.registry import NO_ACTION

_ROWS, _COLS = np.arange(SIZE), np.arange(SIZE)
_MOVES = (FIRE, LEFT, RIGHT)


class Shown(NamedTuple):
    """What a frame shows."""

    score: jax.Array  # int32[]: also the number of rows that have entered
    col: jax.Array  # int32[]: the player's
    skittles: jax.Array  # int32[10, 10]: 1 where a skittle is in view, else 0
    row_colors: jax.Array  # int32[10]: hidden where no skittle of the row is in view


def shown(state: skittles.State, params: skittles.Params) -> Shown:
    """What the frame of a state shows."""
    in_view = state.enemies & state.visible if params.partial_obs else state.enemies
    row_colors = jnp.where(jnp.any(in_view, axis=1), state.row_colors, HIDDEN)
    return Shown(state.score, state.col, in_view.astype(jnp.int32), row_colors)


# --- how to survive ------------------------------------------------------------------------------


class Rows(NamedTuple):
    """What is known of the skittles, and where the player is."""

    score: jax.Array  # int32[]: the number of rows that have entered
    col: jax.Array  # int32[]: the player's
    cols: jax.Array  # int32[10]: each row's skittle's, hidden if unknown


def _rows_in_view(shown: Shown) -> Rows:
    cols = jnp.argmax(shown.skittles, axis=1)
    return Rows(shown.score, shown.col, jnp.where(jnp.any(shown.skittles, axis=1), cols, HIDDEN))


def _chances(rows: Rows, params: skittles.Params) -> jax.Array:
    """The probability of a skittle in each cell: float32[10, 10].

    An unknown one may be in any column of the lane. Rows that have not entered are empty.
    """
    in_lane = (params.first_lane <= _COLS) & (params.last_lane >= _COLS)
    known = (rows.cols[:, None] == _COLS).astype(jnp.float32)
    chances = jnp.where(rows.cols[:, None] == HIDDEN, in_lane / np.sum(in_lane), known)
    return jnp.where(_ROWS[:, None] < rows.score, chances, 0)


def _safest_move(
    chances: jax.Array, col: jax.Array, unseen: jax.Array, params: skittles.Params
) -> jax.Array:
    """The first move of the way that most probably survives all rows of the field: int32[].

    chances: float32[10, 10], of a skittle in each cell. col: the player's. unseen: float32[], the
    share of unknown skittles that are still so one frame later. Those of higher rows will mostly be
    seen, and dodged, before they arrive. Of ways as safe, the one that leaves more columns open.
    """
    nearness = jnp.where((chances > 0) & (chances < 1), unseen ** (BOTTOM - _ROWS)[:, None], 1)
    hit = jnp.pad(chances * nearness, ((1, 0), (0, 0)))  # with an empty row above the field
    survival = jnp.eye(SIZE)  # [last column, present column]
    for lowest in range(1, SIZE + 1):  # from the last step back to the first
        ways = _after_move(hit[lowest], (1 - hit[lowest - 1]) * survival, params)
        survival = jnp.max(ways, axis=0)
    ways = ways[:, :, col]
    return jnp.array(_MOVES)[jnp.argmax(jnp.max(ways, axis=1) + _ROOM * jnp.mean(ways, axis=1))]


_ROOM = 0.1  # what it is worth that all columns can be reached, in survival


def _after_move(hit: jax.Array, survival: jax.Array, params: skittles.Params) -> jax.Array:
    """The probability to survive each move in each column: float32[3, ..., 10].

    hit: float32[10], of a skittle in the lowest row, which is not where the player stands.
    survival: float32[..., 10], of what follows the move.
    """
    moved = survival * (1 - hit)
    return jnp.stack(
        [
            survival,
            jnp.where(_COLS == params.first_lane, survival, jnp.roll(moved, 1, axis=-1)),
            jnp.where(_COLS == params.last_lane, survival, jnp.roll(moved, -1, axis=-1)),
        ]
    )


# --- without memory ------------------------------------------------------------------------------

# From which row downwards the lowest skittle in view counts, for the columns beside the player.
_BESIDE = {0: 0, -1: 5, 1: 5, -2: 7, 2: 7}


def num_keys(params: skittles.Params) -> int:
    """The number of columns times the sights in those around the player."""
    width = params.last_lane - params.first_lane + 1
    return width * int(np.prod([SIZE - first + 1 for first in _BESIDE.values()]))


def key(shown: Shown, params: skittles.Params) -> jax.Array:
    """The column, and the lowest skittle in view in each of those around it: int32[]."""
    number = shown.col - params.first_lane
    in_view = jnp.pad(shown.skittles, ((0, 0), (2, 2)))
    for beside, first in _BESIDE.items():
        rows = jnp.where(in_view[:, shown.col + 2 + beside] == 1, _ROWS, -1)
        number = number * (SIZE - first + 1) + jnp.maximum(jnp.max(rows) - first + 1, 0)
    return number


def features(shown: Shown, params: skittles.Params) -> jax.Array:
    """The skittles in view from where the player is, the column, the score, the color to come."""
    around = jnp.pad(shown.skittles, ((0, 0), (SIZE, SIZE)))
    around = jax.lax.dynamic_slice(around, (0, shown.col + 3), (SIZE, 15))
    clocks = [shown.score % period == np.arange(period) for period in (2, len(COLORS))]
    parts = [around.ravel(), _COLS == shown.col, *clocks, shown.score[None] / 50 - 1]
    return jnp.concatenate([jnp.asarray(part, jnp.float32) for part in parts])


def _look_ahead(shown: Shown, params: skittles.Params) -> jax.Array:
    """Plan as recall does, on what is in view."""
    rows = _rows_in_view(shown)
    return _safest_move(_chances(rows, params), rows.col, 1 - params.visible_share, params)


def _trust_the_column(shown: Shown, params: skittles.Params) -> jax.Array:
    """Plan the same, but rely on one's column: there, one would have left a skittle seen before.

    So the player's place remembers.
    """
    rows = _rows_in_view(shown)
    chances = _chances(rows, params)
    unseen = 1 - params.visible_share
    trust = jnp.where(rows.cols == HIDDEN, unseen**_ROWS, 1)[:, None]
    chances = jnp.where(_COLS == rows.col, chances * trust, chances)
    return _safest_move(chances, rows.col, unseen, params)


# --- with memory ---------------------------------------------------------------------------------


def begin(params: skittles.Params) -> Rows:
    """Know of no skittle."""
    return Rows(jnp.int32(0), jnp.int32(HIDDEN), jnp.full(SIZE, HIDDEN, jnp.int32))


def remember(memory: Rows, last_action: jax.Array, shown: Shown, params: skittles.Params) -> Rows:
    """Move all rows down with every step, and add the skittles in view."""
    fallen = jnp.roll(memory.cols, 1).at[0].set(HIDDEN)
    cols = jnp.where(last_action == NO_ACTION, memory.cols, fallen)
    seen = _rows_in_view(shown)
    return seen._replace(cols=jnp.where(seen.cols == HIDDEN, cols, seen.cols))


def act(memory: Rows, params: skittles.Params) -> jax.Array:
    """Take the way that most probably survives: int32[]."""
    return _safest_move(_chances(memory, params), memory.col, 1 - params.visible_share, params)


PLAYER = Player(
    shown,
    num_keys,
    key,
    features,
    reflexes={"look ahead": _look_ahead, "trust the column": _trust_the_column},
    begin=begin,
    remember=remember,
    act=act,
)
