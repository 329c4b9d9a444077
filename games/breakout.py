"""Breakout: keep an eye on a ball you cannot see.

A ball flies diagonally over a field of 20 x 10 cells. Keep it up with the paddle until it has
broken every brick.

Start: bricks fill rows 1 to 6. The ball is on row 13 in a uniform column and flies up to the left
or up to the right with equal probability. The paddle, w columns wide, is on uniform columns of
row 19.

Actions: 2 left, 3 right move the paddle by one column and stop at the wall; 0 up, 1 down, 4 fire
and any other integer do nothing.

Step:
1. The paddle moves.
2. The ball moves one cell along its diagonal.
3. At a side wall, it stays in the outermost column and reverses sideways.
4. At the ceiling, it stays on row 0 and turns downwards.
5. Otherwise, on a brick: if the previous step touched no brick, this one breaks, and the ball
   stays on its old row and reverses vertically. If it did touch one, the ball passes and the brick
   stays.
6. Otherwise, on row 19: if the paddle covers the column that the ball comes from, the ball turns
   upwards. If it only covers the column that the ball moves to, the ball goes back the way it came.
   In both cases it is then on row 18. If the paddle covers neither, the ball is lost.

Rewards: a brick in row r pays (3 - 0.4 (r - 1)) / 120 and raises the score by 1; all bricks
together pay 1. Losing the ball pays -1/60 for each remaining brick. Returns lie in [-1, 1]. The
ball always hits one brick before it can fall, so the lowest return is -0.975.

Episode end: terminated when the ball is lost or the last brick is broken; truncated at 2000 steps.

Views: the MDP shows the bricks, the paddle, the ball, and a trail where the ball was before. The
ball's tail points back along its path. The ball is hollow if it has just touched a brick, because
it then does not break the next one. The POMDP shows the same at time 0. Afterwards it shows the
paddle, no bricks, and the ball only in the frame of a bounce off a brick or off the paddle, as a
plain ball without tail or trail. Bounces off walls and ceiling are not shown.

Levels: Easy w = 6, Medium w = 5, Hard w = 4; the limit is 2000.

Source: POPGym Arcade 0.0.7, after Breakout of MinAtar (Young and Tian, 2019).

Differences from 0.0.7:
* The ball and the paddle start anywhere. There were two starts, and the Easy paddle began partly
  off the field.
* A brick that the ball passes right after another one stays. It was destroyed without pay.
* The MDP shows the ball's direction and whether it may break a brick. A single frame did not tell.
* The POMDP hides the ball's flight. It showed the ball while it rose, which tells where the ball
  will come down: a policy that looks only at the current frame, moves below that place and then
  stands still earned 1.000 at every level.
* The POMDP hides the bricks. There are 140 starts or fewer and no chance, so the remaining bricks
  alone tell a policy that has learned the whole course of a game by heart where the ball is: with
  the ball hidden and the bricks in view, it earned 1.000 / 0.74 / 0.76 (Easy / Medium / Hard).

Versions:
* 1 (0.1.0): first version.
* 2 (0.2.0): the POMDP shows the bricks only at time 0, and the ball only then and when it bounces
  off a brick or the paddle. With flight_hidden=False it shows the bricks and the rising ball with
  its tail, as in version 1.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import render as draw

__all__ = [
    "BRICK_ROWS",
    "COLUMNS",
    "COLUMN_STEP",
    "DOWN",
    "DOWN_LEFT",
    "DOWN_RIGHT",
    "FIRE",
    "LEFT",
    "LEVELS",
    "MIRROR_SIDEWAYS",
    "MIRROR_VERTICALLY",
    "NAME",
    "NUM_BRICKS",
    "PADDLE_ROW",
    "RETURN_RANGE",
    "REVERSE",
    "RIGHT",
    "ROWS",
    "ROW_STEP",
    "START_ROW",
    "UP",
    "UP_LEFT",
    "UP_RIGHT",
    "VERSION",
    "Params",
    "State",
    "bounced",
    "brick_reward",
    "fly",
    "meet_paddle",
    "move_paddle",
    "render",
    "reset",
    "step",
]

NAME: str = "Breakout"
VERSION: int = 2
RETURN_RANGE: tuple[float, float] = (-1.0, 1.0)  # at every level
UP, DOWN, LEFT, RIGHT, FIRE = range(5)
ROWS, COLUMNS = 20, 10
BRICK_ROWS = range(1, 7)
NUM_BRICKS = len(BRICK_ROWS) * COLUMNS
START_ROW, PADDLE_ROW = 13, ROWS - 1

# Directions of the ball, and tables over them.
UP_LEFT, UP_RIGHT, DOWN_RIGHT, DOWN_LEFT = range(4)
ROW_STEP, COLUMN_STEP = np.array([[-1, -1, 1, 1], [-1, 1, 1, -1]], np.int32)
MIRROR_SIDEWAYS = np.array([UP_RIGHT, UP_LEFT, DOWN_LEFT, DOWN_RIGHT], np.int32)
MIRROR_VERTICALLY = np.array([DOWN_LEFT, DOWN_RIGHT, UP_RIGHT, UP_LEFT], np.int32)
REVERSE = np.array([DOWN_RIGHT, DOWN_LEFT, UP_LEFT, UP_RIGHT], np.int32)

_BALL = """
.....####..
....######.
....######.
..##.####..
##.........
"""
_STRUCK_BALL = """
.....####..
....##..##.
....##..##.
..##.####..
##.........
"""
_PLAIN_BALL = """
....###....
...#####...
...#####...
...#####...
....###....
"""
_TRAIL = """
...........
....###....
....###....
....###....
...........
"""


def _facing_all_ways(art: draw.Art) -> tuple[draw.Art, ...]:
    """Mirror the art of a ball that flies up to the right into all four directions."""
    rows = art.split()
    mirrored = [row[::-1] for row in rows]
    return tuple("\n".join(turned) for turned in (mirrored, rows, rows[::-1], mirrored[::-1]))


_BALLS = (*_facing_all_ways(_BALL), *_facing_all_ways(_STRUCK_BALL), _PLAIN_BALL)
_STRUCK_LOOK, _PLAIN_LOOK, _NO_LOOK = 4, 8, -1
_COLORS = "k" + "roygbp" + "c"  # the empty field, the bricks in rows 1 to 6, the paddle
_PADDLE_COLOR = 7
# The field is drawn in three bands of rows: bricks, nothing but the ball, and the paddle.
_BANDS = (0, BRICK_ROWS[-1] + 1), (BRICK_ROWS[-1] + 1, PADDLE_ROW), (PADDLE_ROW, ROWS)
_FREE_BAND = _BANDS[1]


@draw.register_params
@dataclass(frozen=True)
class Params:
    """The parameters of a level.

    Static fields set shapes and drawing; all others may be traced, e.g. swept with vmap.
    """

    # whether to draw the POMDP view
    partial_obs: bool = field(default=False, metadata={"static": True, "allowed": (False, True)})
    # whether the POMDP hides, after time 0, the bricks and, but for bounces, the ball
    flight_hidden: bool = field(default=True, metadata={"static": True, "allowed": (False, True)})
    # side of a frame in pixels
    obs_size: int = field(default=128, metadata={"static": True, "allowed": draw.OBS_SIZES})
    # steps before truncation
    max_steps_in_episode: int = field(default=2000, metadata={"allowed": draw.STEP_LIMITS})
    # w: the paddle's width in columns
    paddle_width: int = field(default=6, metadata={"allowed": range(1, COLUMNS + 1)})
    # for all bricks together
    bricks_reward: float = field(default=1.0, metadata={"allowed": draw.ANY_REWARD})
    # for losing the ball with all bricks left
    lost_reward: float = field(default=-1.0, metadata={"allowed": draw.ANY_REWARD})


@draw.register_state
class State(NamedTuple):
    """One episode."""

    ball_row: jax.Array  # int32[], in [0, 19]
    ball_col: jax.Array  # int32[], in [0, 9]
    direction: jax.Array  # int32[]: 0 up-left, 1 up-right, 2 down-right, 3 down-left
    last_row: jax.Array  # int32[], in [0, 19]: the ball's row before the last step
    last_col: jax.Array  # int32[], in [0, 9]: its column before the last step
    paddle: jax.Array  # int32[], in [0, 10 - w]: the paddle's leftmost column
    bricks: jax.Array  # bool[20, 10]: the remaining bricks
    strike: jax.Array  # bool[]: whether the last step touched a brick
    time: jax.Array  # int32[]: steps taken
    score: jax.Array  # int32[], in [0, 60]: bricks broken


def reset(key: jax.Array, params: Params) -> tuple[jax.Array, State]:
    """Begin an episode.

    key: a typed or raw PRNG key. params: Params. Returns (observation uint8[S, S, 3], State).
    """
    ball_key, paddle_key = jax.random.split(key)
    direction, column = divmod(jax.random.randint(ball_key, (), 0, 2 * COLUMNS, jnp.int32), COLUMNS)
    row, zero = jnp.full_like(column, START_ROW), jnp.zeros_like(column)
    paddle = jax.random.randint(paddle_key, (), 0, COLUMNS + 1 - params.paddle_width, jnp.int32)
    strike, no_bricks = (jnp.zeros_like(zero, bool, shape) for shape in ((), (ROWS, COLUMNS)))
    bricks = no_bricks | np.isin(np.arange(ROWS), BRICK_ROWS)[:, None]
    state = State(
        row,
        column,
        direction,
        row,
        column,
        paddle,
        bricks,
        strike,
        time=zero,
        score=zero,
    )
    return render(state, params), state


def step(
    key: jax.Array, state: State, action: jax.Array, params: Params
) -> tuple[jax.Array, State, jax.Array, jax.Array, dict[str, jax.Array]]:
    """Play one step, which is deterministic: the key is unused.

    key: a PRNG key. state: State. action: int[]. params: Params.
    Returns (observation uint8[S, S, 3], State, reward float32[], done bool[], info).
    """
    state = move_paddle(state, action, params)
    # Counted before the ball flies, so that nothing has to wait for the sum.
    bricks_before = jnp.sum(state.bricks, dtype=jnp.int32)
    state, brick_row = fly(state)
    state, lost = meet_paddle(state, params)
    state = state._replace(time=state.time + 1)
    bricks_left = bricks_before - jnp.int32(brick_row > 0)
    bricks_missed = jnp.float32(jnp.where(lost, bricks_left, 0))
    reward = brick_reward(brick_row, params) + bricks_missed * (params.lost_reward / NUM_BRICKS)
    terminated = lost | (bricks_left == 0)
    truncated = state.time >= params.max_steps_in_episode
    info = {
        "terminated": terminated,
        "truncated": truncated,
        "discount": (~terminated).astype(jnp.float32),
    }
    return render(state, params), state, reward.astype(jnp.float32), terminated | truncated, info


def move_paddle(state: State, action: jax.Array, params: Params) -> State:
    """Move the paddle, which stops at the wall."""
    paddle = state.paddle + jnp.int32(action == RIGHT) - jnp.int32(action == LEFT)
    return state._replace(paddle=jnp.clip(paddle, 0, COLUMNS - params.paddle_width))


def fly(state: State) -> tuple[State, jax.Array]:
    """Move the ball and reflect it at walls, ceiling and bricks.

    Returns (State, the row of the brick that broke, or 0: int32[]).
    """
    row = state.ball_row + _look_up(ROW_STEP, state.direction)
    col = state.ball_col + _look_up(COLUMN_STEP, state.direction)
    at_side, at_ceiling = (col < 0) | (col >= COLUMNS), row < 0
    direction = jnp.where(at_side, _look_up(MIRROR_SIDEWAYS, state.direction), state.direction)
    row, col = jnp.maximum(row, 0), jnp.clip(col, 0, COLUMNS - 1)

    rows, columns = draw.grid(ROWS, COLUMNS)
    cell = (rows == row) & (columns == col)
    touched = ~at_ceiling & jnp.any(state.bricks & cell)
    broken = touched & ~state.strike
    flown = state._replace(
        ball_row=jnp.where(broken, state.ball_row, row),
        ball_col=col,
        direction=jnp.where(at_ceiling | broken, _look_up(MIRROR_VERTICALLY, direction), direction),
        last_row=state.ball_row,
        last_col=state.ball_col,
        bricks=state.bricks & ~(cell & broken),
        strike=touched,
        score=state.score + jnp.int32(broken),
    )
    return flown, jnp.where(broken, row, 0)


def meet_paddle(state: State, params: Params) -> tuple[State, jax.Array]:
    """Reflect a ball on the lowest row if the paddle is there: (State, ball lost bool[])."""

    def over_paddle(col):
        return (col >= state.paddle) & (col < state.paddle + params.paddle_width)

    at_bottom = state.ball_row == PADDLE_ROW
    came_from, goes_to = over_paddle(state.last_col), over_paddle(state.ball_col)
    turned = jnp.where(
        came_from, _look_up(MIRROR_VERTICALLY, state.direction), _look_up(REVERSE, state.direction)
    )
    saved = at_bottom & (came_from | goes_to)
    state = state._replace(
        ball_row=jnp.where(saved, PADDLE_ROW - 1, state.ball_row),
        direction=jnp.where(saved, turned, state.direction),
    )
    return state, at_bottom & ~saved


def _look_up(table: np.ndarray, direction: jax.Array) -> jax.Array:
    """An entry of a table over the four directions: int32[].

    By comparisons, which XLA fuses with what is around them on a GPU, unlike a gather.
    """
    entry = jnp.int32(table[0])
    for index in range(1, len(table)):
        entry = jnp.where(direction == index, table[index], entry)
    return entry


def bounced(state: State) -> jax.Array:
    """Whether the last step turned the ball at a brick or at the paddle: bool[].

    The ball then stays on its row. It also does so at the ceiling, and at the start of an episode.
    """
    stays = state.ball_row == state.last_row
    return stays & (state.strike | (state.ball_row == PADDLE_ROW - 1))


def brick_reward(row: jax.Array, params: Params) -> jax.Array:
    """The reward for breaking a brick in this row, 0 for row 0: float32[]."""
    return jnp.where(row > 0, 3 - 0.4 * jnp.float32(row - 1), 0.0) * (params.bricks_reward / 120)


def render(state: State, params: Params) -> jax.Array:
    """Draw the state: uint8[S, S, 3], S = params.obs_size."""
    rows, columns = draw.grid(ROWS, COLUMNS)
    paddle = (
        (rows == PADDLE_ROW)
        & (columns >= state.paddle)
        & (columns < state.paddle + params.paddle_width)
    )
    bricks = state.bricks
    if params.partial_obs and params.flight_hidden:
        bricks &= state.time == 0
    colors = jnp.where(paddle, _PADDLE_COLOR, jnp.where(bricks, rows, 0))
    bands = tuple(
        _draw_ball(_draw_band(colors, band, params), band, state, params) for band in _BANDS
    )
    return draw.frame(bands, score=state.score, name=NAME)


def _cell_size(obs_size: int) -> tuple[tuple[int, int], int]:
    """A cell's (height, width) and the left edge of the first column, in pixels."""
    height, width = draw.field_row(obs_size, draw.FIELD_UNITS) // ROWS, obs_size // COLUMNS
    return (height, width), (obs_size - COLUMNS * width) // 2


def _draw_band(colors: jax.Array, band: tuple[int, int], params: Params) -> jax.Array:
    """Draw some rows of the field: walls, bricks and paddle, and the ceiling above row 0.

    colors: int[20, 10], indices into _COLORS. band: the first row and the end, exclusive.
    """
    (height, width), left = _cell_size(params.obs_size)
    ceiling = (
        draw.field_row(params.obs_size, draw.FIELD_UNITS) - ROWS * height if band[0] == 0 else 0
    )
    canvas = draw.blank(ceiling + (band[1] - band[0]) * height, params.obs_size, color="D")
    canvas = draw.rectangle(canvas, top=ceiling, left=left, right=left + COLUMNS * width, color="k")
    if band == _FREE_BAND:
        return canvas
    gap = draw.pixels(params.obs_size, 1)
    return draw.cells(
        canvas,
        colors[slice(*band)],
        colors=_COLORS,
        size=(height, width),
        top=ceiling,
        left=left,
        gap=gap,
    )


def _draw_ball(canvas: jax.Array, band: tuple[int, int], state: State, params: Params) -> jax.Array:
    """Draw the ball and its trail on the canvas of some rows."""
    size, left = _cell_size(params.obs_size)
    grid: dict[str, Any] = dict(
        columns=COLUMNS, size=size, top=canvas.shape[0] - band[1] * size[0], left=left
    )
    look, trail = _looks(state, params)
    canvas = draw.glyph(
        canvas, trail, glyphs=(_TRAIL,), row=state.last_row, column=state.last_col, ink="s", **grid
    )
    return draw.glyph(
        canvas, look, glyphs=_BALLS, row=state.ball_row, column=state.ball_col, ink="w", **grid
    )


def _looks(state: State, params: Params) -> tuple[jax.Array, jax.Array]:
    """How the view draws the ball, and whether it draws the trail.

    Returns (an index into _BALLS; 0 for a trail), each _NO_LOOK for nothing: int32[].
    """
    look = state.direction + _STRUCK_LOOK * jnp.int32(state.strike)
    trail, nothing = jnp.int32(0), _NO_LOOK
    if not params.partial_obs:
        return look, trail
    if not params.flight_hidden:
        return jnp.where(state.direction >= DOWN_RIGHT, nothing, look), jnp.int32(nothing)
    later = jnp.where(bounced(state), _PLAIN_LOOK, nothing)
    start = state.time == 0
    return jnp.where(start, look, later), jnp.where(start, trail, nothing)


LEVELS: dict[str, Params] = {
    "Easy": Params(paddle_width=6),
    "Medium": Params(paddle_width=5),
    "Hard": Params(paddle_width=4),
}
