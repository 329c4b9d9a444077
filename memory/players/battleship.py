"""BattleShip: where the cursor is.

Only the first frame shows the cursor's place. From then on it must be remembered and moved along
with one's own moves until the fleet is sunk, for up to 2 n^2 steps, and with it which cells have
been shot at. Recall needs no guess about the fleet: it walks along a loop through all cells and
shoots at every cell without a mark, which takes 2 n^2 - 1 steps at most.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from popgym_arcade.experts import loop_through
from popgym_arcade.games import battleship
from popgym_arcade.memory.player import HIDDEN, Player
from popgym_arcade.memory.players import cursor
from popgym_arcade.registry import Action

NUM_MARKS = 3
OPEN, MISS, HIT = range(NUM_MARKS)


class Shown(NamedTuple):
    """What a frame shows; n is params.board_size."""

    score: jax.Array  # int32[]
    # In the POMDP, hidden after time 0, unless params.cursor_hidden is False:
    row: jax.Array  # int32[]: the cursor's
    col: jax.Array  # int32[]
    # In the POMDP, hidden at time 0, unless params.cursor_hidden is False:
    mark: jax.Array  # int32[]: of the cursor's cell; OPEN, MISS or HIT
    # In the POMDP, always hidden:
    marks: jax.Array  # int32[n, n]: of all cells
    repeats: jax.Array  # int32[]


def shown(state: battleship.State, params: battleship.Params) -> Shown:
    """What the frame of a state shows."""
    marks = state.shots * (1 + state.ships.astype(jnp.int32))
    mark = marks[state.row, state.col]
    everything = Shown(state.score, state.row, state.col, mark, marks, state.repeats)
    return cursor.seen_by(everything, state, params)


# --- without memory ------------------------------------------------------------------------------


def num_keys(params: battleship.Params) -> int:
    """The number of marks times that of cells and, for a hidden cursor, of scores."""
    return NUM_MARKS * (params.board_size**2 + battleship.SHIP_CELLS + 1)


def key(shown: Shown, params: battleship.Params) -> jax.Array:
    """The mark and the cursor's cell or, if that is hidden, the mark and the score: int32[]."""
    cells = params.board_size**2
    cell = shown.row * params.board_size + shown.col
    place = jnp.where(shown.row == HIDDEN, cells + shown.score, cell)
    return place * NUM_MARKS + jnp.maximum(shown.mark, OPEN)


def walk_the_loop(shown: Shown, params: battleship.Params) -> jax.Array:
    """Shoot at an open cell, else go on along the loop through all cells: int32[].

    Where the cursor is in view this earns all there is. Where it is hidden, go on to the right.
    """
    go_on = jnp.where(
        shown.row == HIDDEN, Action.RIGHT, _along_the_loop(shown.row, shown.col, params)
    )
    return jnp.where(_is_open(shown), Action.FIRE, go_on)


def turn_with_the_score(shown: Shown, params: battleship.Params) -> jax.Array:
    """Shoot at an open cell, else go on in a direction that turns with every hit: int32[]."""
    way = jnp.array([Action.UP, Action.RIGHT, Action.DOWN, Action.LEFT])[shown.score % 4]
    return jnp.where(_is_open(shown), Action.FIRE, way)


def follow_the_ship(shown: Shown, params: battleship.Params) -> jax.Array:
    """Shoot at an open cell; go on to the right from a hit, and down from a miss: int32[]."""
    way = jnp.where(shown.mark == HIT, Action.RIGHT, Action.DOWN)
    return jnp.where(_is_open(shown), Action.FIRE, way)


def _is_open(shown: Shown) -> jax.Array:
    return (shown.mark == OPEN) | (shown.mark == HIDDEN)


def _along_the_loop(row: jax.Array, col: jax.Array, params: battleship.Params) -> jax.Array:
    """The action from a cell to the next one on the loop through all cells: int32[]."""
    order, moves = loop_through(params.board_size)
    return jnp.asarray(moves[0][order], jnp.int32)[row, col]


# --- with memory ---------------------------------------------------------------------------------


def begin(params: battleship.Params) -> battleship.State:
    """Believe that nothing has been shot at, and the cursor in the first cell."""
    nothing, zero = jnp.zeros((params.board_size, params.board_size), bool), jnp.int32(0)
    return battleship.State(nothing, nothing, zero, zero, zero, zero, zero)


def remember(
    memory: battleship.State, last_action: jax.Array, shown: Shown, params: battleship.Params
) -> battleship.State:
    """Keep track of the cursor, and of the marks under it."""
    memory = battleship.move(memory, last_action, params.board_size)
    row, col = (
        jnp.where(new == HIDDEN, old, new)
        for old, new in ((memory.row, shown.row), (memory.col, shown.col))
    )
    memory = memory._replace(row=row, col=col)
    marks = jnp.where(battleship.cursor_cell(memory), shown.mark, shown.marks)
    return memory._replace(
        ships=jnp.where(marks == HIDDEN, memory.ships, marks == HIT),
        shots=jnp.where(marks == HIDDEN, memory.shots, marks != OPEN),
    )


def act(memory: battleship.State, params: battleship.Params) -> jax.Array:
    """Shoot at a cell without a mark, else go on along the loop through all cells: int32[]."""
    shot = memory.shots[memory.row, memory.col]
    return jnp.where(shot, _along_the_loop(memory.row, memory.col, params), Action.FIRE)


PLAYER = Player(
    shown,
    num_keys,
    key,
    features=None,
    reflexes={
        "walk the loop": walk_the_loop,
        "turn with the score": turn_with_the_score,
        "follow the ship": follow_the_ship,
    },
    begin=begin,
    remember=remember,
    act=act,
)
