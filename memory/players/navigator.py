"""Navigator: where the treasure and the TNT are.

The first frame shows the whole field, every later one only the agent. So the first frame must be
remembered until the treasure is dug up, for as many steps as the way to it takes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from popgym_arcade import experts
from popgym_arcade.games import navigator
from popgym_arcade.memory.player import HIDDEN, Player
from popgym_arcade.registry import NUM_ACTIONS


class Shown(NamedTuple):
    """What a frame shows; n is params.board_size."""

    score: jax.Array  # int32[]
    row: jax.Array  # int32[]: the agent's
    col: jax.Array  # int32[]
    # In the POMDP, hidden after time 0:
    tnt: jax.Array  # int32[n, n]: 1 where TNT is, else 0
    treasure_row: jax.Array  # int32[]
    treasure_col: jax.Array  # int32[]


def shown(state: navigator.State, params: navigator.Params) -> Shown:
    """What the frame of a state shows."""
    in_view = (state.time == 0) | (not params.partial_obs)
    field = state.tnt.astype(jnp.int32), state.treasure_row, state.treasure_col
    return Shown(
        state.score, state.row, state.col, *(jnp.where(in_view, part, HIDDEN) for part in field)
    )


# --- without memory ------------------------------------------------------------------------------


def num_keys(params: navigator.Params) -> int:
    """The number of cells times that of actions and one more."""
    return params.board_size**2 * (NUM_ACTIONS + 1)


def key(shown: Shown, params: navigator.Params) -> jax.Array:
    """The agent's cell and, while the field is in view, the best action: int32[]."""
    cell = shown.row * params.board_size + shown.col
    best = experts.expert(_believed(shown), params)
    return cell * (NUM_ACTIONS + 1) + jnp.where(shown.treasure_row == HIDDEN, NUM_ACTIONS, best)


# --- with memory ---------------------------------------------------------------------------------


def begin(params: navigator.Params) -> Shown:
    """Remember nothing."""
    nothing = jnp.int32(HIDDEN)
    tnt = jnp.full((params.board_size, params.board_size), nothing)
    return Shown(nothing, nothing, nothing, tnt, nothing, nothing)


def remember(
    memory: Shown, last_action: jax.Array, shown: Shown, params: navigator.Params
) -> Shown:
    """Keep the field as it was last seen."""
    return jax.tree.map(lambda old, new: jnp.where(new == HIDDEN, old, new), memory, shown)


def act(memory: Shown, params: navigator.Params) -> jax.Array:
    """Take the shortest way to the treasure, and dig there: int32[]."""
    return experts.expert(_believed(memory), params)


def _believed(memory: Shown) -> navigator.State:
    """The state that the memory describes, as far as the expert looks at it."""
    return navigator.State(
        tnt=memory.tnt == 1,
        treasure_row=memory.treasure_row,
        treasure_col=memory.treasure_col,
        row=memory.row,
        col=memory.col,
        time=jnp.int32(0),
        score=memory.score,
    )


PLAYER = Player(
    shown, num_keys, key, features=None, reflexes={}, begin=begin, remember=remember, act=act
)
