"""BattleShip: where the cursor is.

The circuit through all cells finds every ship within the step limit. To walk it one must know the
cursor's cell, which the first frame shows and then only one's own moves tell.
"""
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade.experts import _loop_through
from popgym_arcade.games.battleship import SHIP_CELLS
from popgym_arcade.memory.player import Player
from popgym_arcade.registry import Action

HIDDEN = -1
MARKS = 3

class Shown(NamedTuple):
    score: jax.Array
    row: jax.Array
    col: jax.Array
    mark: jax.Array  # of the cursor's cell: 0 sea, 1 miss, 2 hit
    marks: jax.Array  # int32[n, n]
    repeats: jax.Array


def shown(state, params):
    marks = state.shots * (1 + state.ships)
    mark = marks[state.row, state.col]
    row, col, repeats = state.row, state.col, state.repeats
    if params.partial_obs:
        marks, repeats = jnp.full_like(marks, HIDDEN), HIDDEN
        if getattr(params, "cursor_hidden", False):
            first = state.time == 0
            row, col = jnp.where(first, row, HIDDEN), jnp.where(first, col, HIDDEN)
    return Shown(state.score, row, col, mark, marks, jnp.int32(repeats))


def num_keys(params):
    return (params.board_size**2 + 1) * MARKS * (1 if not getattr(params, "cursor_hidden", False) else SHIP_CELLS + 1)

def key(shown, params):
    n = params.board_size
    cell = jnp.where(shown.row < 0, n * n, shown.row * n + shown.col)
    if getattr(params, "cursor_hidden", False):
        return (cell * (SHIP_CELLS + 1) + shown.score) * MARKS + shown.mark
    return cell * MARKS + shown.mark

PLAYER = Player(shown, num_keys, key, None, {}, None, None, None, None)
