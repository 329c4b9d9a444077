"""What BattleShip and MineSweeper share: their POMDPs show the cursor's cell alone."""

from typing import Any

import jax.numpy as jnp

from popgym_arcade.memory.player import HIDDEN


def seen_by(everything: Any, state: Any, params: Any) -> Any:
    """What a frame shows of all that the MDP's frame does, for a view's params.

    everything: a NamedTuple with row and col of the cursor, the mark of its cell, the marks of all
    cells, and repeats. state, params: the game's.
    """
    if not params.partial_obs:
        return everything
    first, hides_cursor = state.time == 0, params.cursor_hidden
    return everything._replace(
        row=jnp.where(first | (not hides_cursor), state.row, HIDDEN),
        col=jnp.where(first | (not hides_cursor), state.col, HIDDEN),
        mark=jnp.where(first & hides_cursor, HIDDEN, everything.mark),
        marks=jnp.full_like(everything.marks, HIDDEN),
        repeats=jnp.full_like(everything.repeats, HIDDEN),
    )
