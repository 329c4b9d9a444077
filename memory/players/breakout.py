"""Breakout: where the ball is and which way it flies.

The first frame shows the bricks, the ball and its direction. Afterwards the ball is seen only when
it bounces off a brick or the paddle, and neither its direction nor any brick. But nothing is left
to chance: who remembers the first frame and counts steps and own moves knows the ball's whole
flight, for up to 2000 steps. For the same reason a policy may learn the course of a game by heart,
frame by frame, and have the paddle's place tell it where the ball is. That earns most among the
policies found here that have no memory.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import experts
from popgym_arcade.games import breakout
from popgym_arcade.games.breakout import (
    BRICK_ROWS,
    COLUMNS,
    DOWN_RIGHT,
    FIRE,
    LEFT,
    PADDLE_ROW,
    RIGHT,
    ROWS,
)
from popgym_arcade.memory.player import HIDDEN, Player

_TURN = 2 * COLUMNS  # steps from side to side and back
_NUM_DIRECTIONS = 4


class Shown(NamedTuple):
    """What a frame shows; w is params.paddle_width."""

    score: jax.Array  # int32[]
    paddle: jax.Array  # int32[], in [0, 10 - w]: its leftmost column
    # In the rows that can have bricks; hidden in the POMDP after time 0:
    bricks: jax.Array  # int32[6, 10]: 1 where a brick is, else 0
    # Hidden where the frame does not draw the ball:
    row: jax.Array  # int32[]: the ball's
    col: jax.Array  # int32[]
    # Hidden where the ball is plain, too:
    direction: jax.Array  # int32[], in [0, 3], as in breakout.State
    strike: jax.Array  # int32[]: 1 if the last step touched a brick, else 0
    # Hidden where no trail is drawn:
    last_row: jax.Array  # int32[]: the ball's row before the last step
    last_col: jax.Array  # int32[]: its column before the last step


def shown(state: breakout.State, params: breakout.Params) -> Shown:
    """What the frame of a state shows."""
    start, bounce = state.time == 0, breakout.bounced(state)
    bricks = jnp.bool_(True)
    if not params.partial_obs:
        ball = way = trail = jnp.bool_(True)
    elif params.flight_hidden:
        bricks, ball, way, trail = start, start | bounce, start, start
    else:
        ball = way = state.direction < DOWN_RIGHT
        trail = jnp.bool_(False)

    def where(seen, *values):
        return (jnp.where(seen, value.astype(jnp.int32), HIDDEN) for value in values)

    return Shown(
        state.score,
        state.paddle,
        *where(bricks, state.bricks[BRICK_ROWS.start : BRICK_ROWS.stop]),
        *where(ball, state.ball_row, state.ball_col),
        *where(way, state.direction, state.strike),
        *where(trail, state.last_row, state.last_col),
    )


# --- without memory ------------------------------------------------------------------------------


def _landing(shown: Shown) -> jax.Array:
    """The column in which a ball whose direction is shown comes down to row 18: int32[].

    It is right unless the ball meets another brick after its next turn.
    """
    rises = shown.direction < DOWN_RIGHT
    goes_right = (shown.direction % 3) > 0
    place = jnp.where(goes_right, shown.col, _TURN - 1 - shown.col)
    # The bricks on its way up, from the first that it meets.
    steps = shown.row - np.arange(BRICK_ROWS.start, BRICK_ROWS.stop)
    meets = shown.bricks[np.arange(len(BRICK_ROWS)), _column(place + steps)] == 1
    passes = (shown.strike == 1) & (steps == 1)
    # A brick takes one step, in which the ball stays on its row; so does the ceiling.
    turns = jnp.min(jnp.where(meets & (steps > 0) & ~passes, steps, shown.row + 1))
    up = jnp.where(rises, turns, 0)
    row = shown.row - jnp.maximum(up - 1, 0)
    return _column(place + up + PADDLE_ROW - 1 - row)


def _column(place: jax.Array) -> jax.Array:
    """The column of a place on the way from side to side and back, of 20 steps."""
    place = place % _TURN
    return jnp.minimum(place, _TURN - 1 - place)


def num_keys(params: breakout.Params) -> int:
    """The places of the paddle, times those of the ball, times the scores that the key tells apart.

    If the ball's flight is hidden, no two frames of the POMDP have the same key.
    """
    scores = 1 + breakout.NUM_BRICKS if params.flight_hidden else 1
    return (COLUMNS + 1 - params.paddle_width) * _NUM_BALLS * scores


_NUM_BALLS = 1 + 2 * COLUMNS + ROWS * COLUMNS


def key(shown: Shown, params: breakout.Params) -> jax.Array:
    """The paddle and the ball's cell or, if its direction is shown, where it lands: int32[].

    If the ball's flight is hidden, also the score. Its direction is shown only in the first frame
    then, and the key has its column and direction.
    """
    cell = 1 + 2 * COLUMNS + shown.row * COLUMNS + shown.col
    if not params.flight_hidden:
        score, moving = 0, 1 + _landing(shown)
    else:
        score, moving = shown.score, 1 + 2 * shown.col + shown.direction
    ball = jnp.where(shown.direction == HIDDEN, cell, moving)
    ball = jnp.where(shown.row == HIDDEN, 0, ball)
    places = COLUMNS + 1 - params.paddle_width
    return (score * places + shown.paddle) * _NUM_BALLS + ball


def features(shown: Shown, params: breakout.Params) -> jax.Array:
    """All that is shown, mostly one-hot: float32[f]."""
    parts = (
        jax.nn.one_hot(shown.paddle, COLUMNS),
        jax.nn.one_hot(shown.row, ROWS),
        jax.nn.one_hot(shown.col, COLUMNS),
        jax.nn.one_hot(shown.direction, _NUM_DIRECTIONS),
        jax.nn.one_hot(jnp.where(shown.direction == HIDDEN, HIDDEN, _landing(shown)), COLUMNS),
        jnp.stack([shown.strike == 1, shown.score % 2 == 1]),
        shown.bricks.ravel() == 1,
        shown.score[None] / breakout.NUM_BRICKS,
    )
    return jnp.concatenate(parts, dtype=jnp.float32)


def _go_below(col: jax.Array, shown: Shown, params: breakout.Params) -> jax.Array:
    """Move the middle of the paddle towards a column: int32[]."""
    wanted = jnp.clip(col - params.paddle_width // 2, 0, COLUMNS - params.paddle_width)
    return jnp.where(shown.paddle < wanted, RIGHT, jnp.where(shown.paddle > wanted, LEFT, FIRE))


def by_the_tail(shown: Shown, params: breakout.Params) -> jax.Array:
    """Go where the ball will land, while its tail tells; otherwise stand still: int32[]."""
    return jnp.where(
        shown.direction == HIDDEN, FIRE, _go_below(_landing(shown), shown, params)
    ).astype(jnp.int32)


def by_the_bounce(shown: Shown, params: breakout.Params) -> jax.Array:
    """Go to the mirror image of the column where the ball bounces; otherwise stand still: int32[].

    From the lowest bricks, the ball comes down near there, whichever way it flies.
    """
    mirrored = _go_below(COLUMNS - 1 - shown.col, shown, params)
    return jnp.where(shown.col == HIDDEN, by_the_tail(shown, params), mirrored).astype(jnp.int32)


def by_the_gaps(shown: Shown, params: breakout.Params) -> jax.Array:
    """Go to the mirror image of the middle of the gaps in the lowest row with any: int32[]."""
    gaps = jnp.where(shown.bricks == HIDDEN, 0, 1 - shown.bricks)
    lowest = jnp.max(jnp.where(jnp.any(gaps == 1, axis=1), np.arange(len(BRICK_ROWS)), 0))
    row = gaps[lowest]
    middle = jnp.sum(row * np.arange(COLUMNS)) // jnp.maximum(jnp.sum(row), 1)
    middle = jnp.where(jnp.any(row == 1), middle, COLUMNS // 2)
    return _go_below(COLUMNS - 1 - middle, shown, params).astype(jnp.int32)


# --- with memory ---------------------------------------------------------------------------------


def begin(params: breakout.Params) -> breakout.State:
    """Remember nothing: any state, for the first frame replaces all of it."""
    zero = jnp.int32(0)
    bricks = jnp.zeros((ROWS, COLUMNS), bool)
    return breakout.State(
        zero, zero, zero, zero, zero, zero, bricks, strike=jnp.bool_(False), time=zero, score=zero
    )


def remember(
    memory: breakout.State, last_action: jax.Array, shown: Shown, params: breakout.Params
) -> breakout.State:
    """Play the last action in the state as remembered, then believe what the frame shows."""
    memory, _ = breakout.fly(breakout.move_paddle(memory, last_action, params))
    memory, _ = breakout.meet_paddle(memory, params)
    in_wall = memory.bricks[BRICK_ROWS.start : BRICK_ROWS.stop]

    def latest(seen: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(seen == HIDDEN, old, seen.astype(old.dtype))

    return memory._replace(
        ball_row=latest(shown.row, memory.ball_row),
        ball_col=latest(shown.col, memory.ball_col),
        direction=latest(shown.direction, memory.direction),
        last_row=latest(shown.last_row, memory.last_row),
        last_col=latest(shown.last_col, memory.last_col),
        paddle=shown.paddle,
        bricks=memory.bricks.at[BRICK_ROWS.start : BRICK_ROWS.stop].set(
            latest(shown.bricks, in_wall)
        ),
        strike=latest(shown.strike, memory.strike),
        score=shown.score,
    )


def act(memory: breakout.State, params: breakout.Params) -> jax.Array:
    """Keep the middle of the paddle below the ball: int32[]."""
    return experts.expert(memory, params)


_REFLEXES: dict[str, Any] = {
    "by the tail": by_the_tail,
    "by the bounce": by_the_bounce,
    "by the gaps": by_the_gaps,
}
PLAYER = Player(shown, num_keys, key, features, _REFLEXES, begin, remember, act)
