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
_COLUMNS_OPEN = 0.1  # what it is worth that all columns stay open, as a probability of survival
_TRUST = 0.7  # the probability of a skittle in the player's column, as a share of others'
_DOUBT = 0.23  # of a player without memory, who will have forgotten what the plan was made for


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
    rows: Rows, chances: jax.Array, params: skittles.Params, doubt: float = 0.0
) -> jax.Array:
    """The first move of the way that most probably survives all rows of the field: int32[].

    chances: float32[10, 10], of a skittle in each cell. doubt: how likely each later move is not
    made as planned, but at random. Without doubt, the way among equally safe ones that leaves most
    columns open.
    """
    # Skittles out of view will mostly be seen, and dodged, before they arrive.
    unseen = jnp.where(rows.cols == HIDDEN, (1 - params.visible_share) ** (BOTTOM - _ROWS), 1)
    hit = jnp.pad(chances * unseen[:, None], ((1, 0), (0, 0)))  # an empty row above the field
    # [last column, present column]; with doubt, all last columns are the same
    survival = jnp.ones((1, SIZE)) if doubt else jnp.eye(SIZE)
    for lowest in range(1, SIZE):  # from the last step back to the second
        ways = _after_moves(hit[lowest], (1 - hit[lowest - 1]) * survival, params)
        survival = (1 - doubt) * jnp.max(ways, axis=0) + doubt * jnp.mean(ways, axis=0)
    ways = _after_moves(hit[SIZE], (1 - hit[SIZE - 1]) * survival, params)[:, :, rows.col]
    value = jnp.max(ways, axis=1) + _COLUMNS_OPEN * jnp.mean(ways, axis=1)
    return jnp.array(_MOVES)[jnp.argmax(value)]


def _after_moves(hit: jax.Array, survival: jax.Array, params: skittles.Params) -> jax.Array:
    """The probability of survival after each move from each column: float32[3, ..., 10].

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

_SIGHTS = 6  # rows 5 to 9 and none


def num_keys(params: skittles.Params) -> int:
    """The number of columns times moves times sights in three columns."""
    return (params.last_lane - params.first_lane + 1) * len(_MOVES) * _SIGHTS**3


def key(shown: Shown, params: skittles.Params) -> jax.Array:
    """The player's column, what a plan says, and the nearest skittles in view: int32[].

    They are the lowest ones in the player's column and in the two beside it, in rows 5 to 9.
    """
    number = shown.col - params.first_lane
    plan = _look_ahead(shown, params)
    number = number * len(_MOVES) + jnp.where(plan == LEFT, 1, jnp.where(plan == RIGHT, 2, 0))
    around = jax.lax.dynamic_slice(jnp.pad(shown.skittles, 1), (1, shown.col), (SIZE, 3))
    lowest = jnp.max(jnp.where(around == 1, _ROWS[:, None], 0), axis=0)
    for sight in jnp.maximum(lowest - (SIZE - _SIGHTS), 0):
        number = number * _SIGHTS + sight
    return number


def features(shown: Shown, params: skittles.Params) -> jax.Array:
    """The skittles in view as seen from the player, the column, and clocks: float32[f].

    The score tells the rows' colors.
    """
    around = jnp.pad(shown.skittles, ((0, 0), (SIZE, SIZE)))
    around = jax.lax.dynamic_slice(around, (0, shown.col + 3), (SIZE, 15))
    clocks = [shown.score % period == np.arange(period) for period in (2, len(COLORS))]
    parts = [around.ravel(), shown.col == _COLS, *clocks, shown.score[None] / 50 - 1]
    return jnp.concatenate([jnp.asarray(part, jnp.float32) for part in parts])


def _look_ahead(shown: Shown, params: skittles.Params) -> jax.Array:
    """Plan as recall does, but on what is in view."""
    rows = _rows_in_view(shown)
    return _safest_move(rows, _chances(rows, params), params, _DOUBT)


def _trust_the_column(shown: Shown, params: skittles.Params) -> jax.Array:
    """Plan the same, but take one's own column to be safer than others.

    One would have left it if a skittle had been seen there, so the player's place is a memory.
    """
    rows = _rows_in_view(shown)
    chances = _chances(rows, params)
    trusted = (rows.cols == HIDDEN)[:, None] & (rows.col == _COLS)
    return _safest_move(rows, jnp.where(trusted, _TRUST * chances, chances), params, _DOUBT)


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
    return _safest_move(memory, _chances(memory, params), params)


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
