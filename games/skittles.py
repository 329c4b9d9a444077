"""Skittles: dodge what you only half see.

Skittles fall down a lane of a 10 x 10 field, one more with every step. You stand at the bottom. Do
not get hit.

Start: no skittles. The player is in a uniform column of the lane, in the lowest row, and never
leaves that row.

Actions: 2 left, 3 right move by one column and stop at the edge of the lane; 0 up, 1 down, 4 fire
and any other integer do nothing.

Step:
1. The player moves.
2. A skittle on the player's cell hits the player.
3. Every row moves down by one, the lowest row leaves, and one skittle enters the highest row in a
   uniform column of the lane. Each new row takes the next of seven colors, in rotation.
4. A skittle on the player's cell now hits the player, too.
5. Each cell of the field is independently drawn to be visible or hidden, with probability 1/2.

Rewards: each step survived pays 1 / 100 and raises the score by 1; the fatal step pays 0. Returns
lie in [0, 1].

Episode end: terminated when the player is hit; truncated at 100 steps.

Views: skittles in the color of their row, the player in white, and the edges of the lane as walls.
The MDP shows all skittles, the POMDP only those on the cells drawn as visible in this step.

Levels: Easy has a lane of columns 1 to 8, Medium 2 to 8, Hard 2 to 7; the limit is 100.

Source: POPGym Arcade 0.0.7.

Differences from 0.0.7:
* The visible cells are redrawn in every step and kept in the state. Every episode had the same
  masks.
* The fatal step pays nothing, so a return tells how many steps were survived.

Versions:
* 1 (0.1.0): first version.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import render as draw

__all__ = [
    "BOTTOM",
    "COLORS",
    "DOWN",
    "FIRE",
    "LEFT",
    "LEVELS",
    "NAME",
    "RETURN_RANGE",
    "RIGHT",
    "SIZE",
    "UP",
    "VERSION",
    "Params",
    "State",
    "draw_visible",
    "fall",
    "is_hit",
    "lane_column",
    "move",
    "render",
    "reset",
    "step",
]

NAME: str = "Skittles"
VERSION: int = 1
RETURN_RANGE: tuple[float, float] = (0.0, 1.0)  # at every level
UP, DOWN, LEFT, RIGHT, FIRE = range(5)
SIZE = 10  # rows and columns of the field
BOTTOM = SIZE - 1  # the player's row

_SKITTLE = """
...##...
..####..
...##...
..####..
.######.
.######.
.######.
..####..
"""
_PLAYER = """
...##...
...##...
..####..
..####..
.######.
.##..##.
##.##.##
##....##
"""
_CRASH = """
#..##..#
.#.##.#.
..####..
########
########
..####..
.#.##.#.
#..##..#
"""
_GLYPHS = (_SKITTLE, _PLAYER, _CRASH)
_SKITTLE_GLYPH, _PLAYER_GLYPH, _CRASH_GLYPH, _NO_GLYPH = 0, 1, 2, -1
COLORS = "roygcbp"  # of the rows of skittles, in rotation
_INKS = COLORS + "w"  # the skittles of a row, the player
_PLAYER_INK = len(COLORS)
_WALL = 2  # thickness of the lane's walls in layout units


@draw.register_params
@dataclass(frozen=True)
class Params:
    """The parameters of a level.

    Static fields set shapes and drawing; all others may be traced, e.g. swept with vmap.
    """

    # leftmost column of the lane
    first_lane: int = field(default=1, metadata={"static": True, "allowed": range(SIZE)})
    # rightmost column of the lane
    last_lane: int = field(default=8, metadata={"static": True, "allowed": range(SIZE)})
    # whether to draw the POMDP view
    partial_obs: bool = field(default=False, metadata={"static": True, "allowed": (False, True)})
    # side of a frame in pixels
    obs_size: int = field(default=128, metadata={"static": True, "allowed": draw.OBS_SIZES})
    # steps before truncation
    max_steps_in_episode: int = field(default=100, metadata={"allowed": draw.STEP_LIMITS})
    # probability that a cell is visible
    visible_share: float = field(default=0.5, metadata={"allowed": (0.0, 1.0)})
    # shared by the steps up to the limit
    episode_reward: float = field(default=1.0, metadata={"allowed": draw.ANY_REWARD})

    def __post_init__(self) -> None:
        """Raise ValueError if the lane ends before it begins."""
        if self.last_lane < self.first_lane:
            raise ValueError(
                f"last_lane must be in [{self.first_lane}, {SIZE - 1}] where first_lane is "
                f"{self.first_lane}, but it is {self.last_lane}; the nearest is {self.first_lane}"
            )


@draw.register_state
class State(NamedTuple):
    """One episode."""

    enemies: jax.Array  # bool[10, 10]: the cells with a skittle
    row_colors: jax.Array  # int32[10], in [0, 6]: the color of the skittles in each row
    col: jax.Array  # int32[], in [first_lane, last_lane]: the player's column
    visible: jax.Array  # bool[10, 10]: the cells whose skittles the POMDP view shows
    time: jax.Array  # int32[]: steps taken
    score: jax.Array  # int32[], in [0, 100]: steps survived


def reset(key: jax.Array, params: Params) -> tuple[jax.Array, State]:
    """Begin an episode.

    key: a typed or raw PRNG key. params: Params. Returns (observation uint8[S, S, 3], State).
    """
    column_key, visible_key = jax.random.split(key)
    col = lane_column(column_key, params)
    state = State(
        enemies=jnp.zeros_like(col, bool, (SIZE, SIZE)),
        row_colors=jnp.zeros_like(col, shape=SIZE),
        col=col,
        visible=draw_visible(visible_key, params),
        time=jnp.zeros_like(col),
        score=jnp.zeros_like(col),
    )
    return render(state, params), state


def step(
    key: jax.Array, state: State, action: jax.Array, params: Params
) -> tuple[jax.Array, State, jax.Array, jax.Array, dict[str, jax.Array]]:
    """Play one step.

    key: a typed or raw PRNG key, for the new skittle and the visible cells. state: State. action:
    int[]. params: Params.
    Returns (observation uint8[S, S, 3], State, reward float32[], done bool[], info).
    """
    enemy_key, visible_key = jax.random.split(key)
    state = move(state, action, params)
    ran_into = is_hit(state)
    state = fall(enemy_key, state, params)
    terminated = ran_into | is_hit(state)
    survived = ~terminated
    state = state._replace(
        visible=draw_visible(visible_key, params),
        time=state.time + 1,
        score=state.score + jnp.int32(survived),
    )
    reward = jnp.float32(survived) * (params.episode_reward / params.max_steps_in_episode)
    truncated = state.time >= params.max_steps_in_episode
    info = {
        "terminated": terminated,
        "truncated": truncated,
        "discount": (~terminated).astype(jnp.float32),
    }
    return render(state, params), state, reward.astype(jnp.float32), terminated | truncated, info


def lane_column(key: jax.Array, params: Params) -> jax.Array:
    """A uniform column of the lane: int32[]."""
    return jax.random.randint(key, (), params.first_lane, params.last_lane + 1, jnp.int32)


def draw_visible(key: jax.Array, params: Params) -> jax.Array:
    """Draw which cells are visible until the next step: bool[10, 10]."""
    # Half a random word per cell is enough, and most of this game's time goes into random words.
    words = jax.random.bits(key, (SIZE * SIZE // 2,), jnp.uint32)
    halves = jnp.concatenate([words & np.uint32(0xFFFF), words >> 16]).reshape(SIZE, SIZE)
    return halves.astype(jnp.float32) < jnp.float32(params.visible_share) * 2**16


def move(state: State, action: jax.Array | int, params: Params) -> State:
    """Move the player, who stops at the edge of the lane."""
    col = state.col + jnp.int32(action == RIGHT) - jnp.int32(action == LEFT)
    return state._replace(col=jnp.clip(col, params.first_lane, params.last_lane))


def is_hit(state: State) -> jax.Array:
    """Whether a skittle is on the player's cell: bool[]."""
    return state.enemies[BOTTOM, state.col]


def fall(key: jax.Array, state: State, params: Params) -> State:
    """Move all rows down by one and add a skittle at the top."""
    new_row = np.arange(SIZE, dtype=np.int32) == lane_column(key, params)
    new_color = (state.row_colors[0] + 1) % len(COLORS)
    return state._replace(
        enemies=jnp.concatenate([new_row[None], state.enemies[:-1]]),
        row_colors=jnp.concatenate([new_color[None], state.row_colors[:-1]]),
    )


def render(state: State, params: Params) -> jax.Array:
    """Draw the state: uint8[S, S, 3], S = params.obs_size."""
    shown = state.enemies & state.visible if params.partial_obs else state.enemies
    rows, cols = draw.grid(SIZE, SIZE)
    player = (rows == BOTTOM) & (cols == state.col)
    canvas, top, left, (height, width) = _draw_lane(params)
    canvas = draw.glyphs(
        canvas,
        jnp.where(
            shown,
            jnp.where(player, _CRASH_GLYPH, _SKITTLE_GLYPH),
            jnp.where(player, _PLAYER_GLYPH, _NO_GLYPH),
        ),
        glyphs=_GLYPHS,
        inks=_INKS,
        ink_ids=jnp.where(shown, state.row_colors[:, None], _PLAYER_INK),
        size=(height, width),
        top=top,
        left=left,
    )
    return draw.frame(canvas, score=state.score, name=NAME)


def _draw_lane(params: Params) -> tuple[jax.Array, int, int, tuple[int, int]]:
    """Draw the empty lane between its walls.

    Returns (canvas, the field's top and left edge, a cell's (height, width)), in pixels.
    """
    canvas = draw.field(params.obs_size)
    height, width = canvas.shape[0] // SIZE, params.obs_size // SIZE
    top, left = (canvas.shape[0] - SIZE * height) // 2, (params.obs_size - SIZE * width) // 2
    begin, end, wall = (
        left + params.first_lane * width,
        left + (params.last_lane + 1) * width,
        draw.pixels(params.obs_size, _WALL),
    )
    canvas = draw.rectangle(canvas, left=0, right=begin, color="d")
    canvas = draw.rectangle(canvas, left=begin - wall, right=begin, color="s")
    canvas = draw.rectangle(canvas, left=end, right=params.obs_size, color="d")
    return draw.rectangle(canvas, left=end, right=end + wall, color="s"), top, left, (height, width)


LEVELS: dict[str, Params] = {
    "Easy": Params(first_lane=1, last_lane=8),
    "Medium": Params(first_lane=2, last_lane=8),
    "Hard": Params(first_lane=2, last_lane=7),
}
