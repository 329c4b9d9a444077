"""Skittles: dodge what you only half see.

Skittles fall down a lane of a 10 x 10 field, one more with every step. You stand at the bottom: do
not get hit.

Start: no skittles. The player is in a uniform column of the lane, in the lowest row, and stays in
both.

Actions: 2 left, 3 right move one column and stop at the lane's edge; 0 up, 1 down, 4 fire and any
other integer do nothing.

Step:
1. The player moves.
2. A skittle on the player's cell hits the player.
3. Every row moves down by one, the lowest leaves, and one skittle enters the highest in a uniform
   column of the lane. Its colour is the one after the colour of the row before it, of seven that go
   round.
4. A skittle on the player's cell now hits the player too.
5. Each cell of the field is drawn to be visible or not, with probability 1/2.

Rewards: each step survived pays 1 / 100, and the score rises by 1; the fatal step pays 0. Returns
lie in 0 ... 1.

Episode end: terminated when the player is hit; truncated at 100 steps.

Views: skittles in their row's colour, the player in white, the edges of the lane as walls. The MDP
shows all skittles, the POMDP only those on cells that this step's draw made visible.

Levels: Easy has a lane of columns 1 to 8, Medium 2 to 8, Hard 2 to 7; the limit is 100.

Source: POPGym Arcade 0.0.7.

Differences from 0.0.7:
* What is visible is drawn anew with every step and kept in the state; every episode had the same
  mask.
* The fatal step pays nothing, so that a return tells how many steps were survived.

Versions:
* 1 (0.1.0): the first.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import render as draw

NAME = "Skittles"
VERSION = 1
RETURN_RANGE = (0.0, 1.0)  # of every level
UP, DOWN, LEFT, RIGHT, FIRE = range(5)
SIZE = 10  # rows and columns of the field
BOTTOM = SIZE - 1  # the player's row

SKITTLE = """
...##...
..####..
...##...
..####..
.######.
.######.
.######.
..####..
"""
PLAYER = """
...##...
...##...
..####..
..####..
.######.
.##..##.
##.##.##
##....##
"""
CRASH = """
#..##..#
.#.##.#.
..####..
########
########
..####..
.#.##.#.
#..##..#
"""
GLYPHS = (SKITTLE, PLAYER, CRASH)
SKITTLE_GLYPH, PLAYER_GLYPH, CRASH_GLYPH, NO_GLYPH = 0, 1, 2, -1
COLORS = "roygcbp"
INKS = COLORS + "w"  # of the skittles of a row, and of the player
PLAYER_INK = len(COLORS)
WALL = 2  # how thick the lane's walls are, in 128ths of the frame


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """What a level sets. Fields marked static choose shapes and drawing; the others may be traced
    and swept with vmap."""

    first_lane: int = field(
        default=1, metadata={"static": True, "allowed": range(SIZE)}
    )  # the lane's leftmost column
    last_lane: int = field(
        default=8, metadata={"static": True, "allowed": range(SIZE)}
    )  # and its rightmost one
    partial_obs: bool = field(
        default=False, metadata={"static": True, "allowed": (False, True)}
    )  # the POMDP view
    obs_size: int = field(
        default=128, metadata={"static": True, "allowed": draw.OBS_SIZES}
    )  # pixels a side of a frame
    max_steps_in_episode: int = field(
        default=100, metadata={"allowed": draw.STEP_LIMITS}
    )  # steps before truncation
    visible_share: float = field(
        default=0.5, metadata={"allowed": (0.0, 1.0)}
    )  # probability that a cell is visible
    episode_reward: float = field(
        default=1.0, metadata={"allowed": draw.ANY_REWARD}
    )  # shared by the steps up to the limit

    def __post_init__(self):
        """Raise ValueError if the lane ends before it begins."""
        if self.last_lane < self.first_lane:
            raise ValueError(
                f"last_lane must be in {self.first_lane} ... {BOTTOM} where first_lane is {self.first_lane}, but it is "
                f"{self.last_lane}; the nearest is {self.first_lane}"
            )


class State(NamedTuple):
    """One episode."""

    enemies: jax.Array  # bool[10, 10]: where the skittles are
    row_colors: jax.Array  # int32[10], 0 ... 6: the colour of the skittles in each row
    col: jax.Array  # int32[], first_lane ... last_lane: the player
    visible: jax.Array  # bool[10, 10]: the cells whose skittles the POMDP view shows
    time: jax.Array  # int32[]: steps taken
    score: jax.Array  # int32[], 0 ... 100: steps survived


def reset(key, params):
    """Begin an episode.

    key: a typed or raw PRNG key. params: Params. Returns (observation uint8[S, S, 3], State).
    """
    column_key, visible_key = jax.random.split(key)
    state = State(
        enemies=jnp.zeros((SIZE, SIZE), bool),
        row_colors=jnp.zeros(SIZE, jnp.int32),
        col=lane_column(column_key, params),
        visible=draw_visible(visible_key, params),
        time=jnp.int32(0),
        score=jnp.int32(0),
    )
    return render(state, params), state


def step(key, state, action, params):
    """Play one step.

    key: a typed or raw PRNG key, for the new skittle and what is visible. state: State. action:
    int[]. params: Params. Returns (observation uint8[S, S, 3], State, reward float32[], done
    bool[], info).
    """
    enemy_key, visible_key = jax.random.split(key)
    state = move(state, action, params)
    ran_into = is_hit(state)
    state = fall(enemy_key, state, params)
    terminated = ran_into | is_hit(state)
    survived = ~terminated
    state = state._replace(
        visible=draw_visible(visible_key, params), time=state.time + 1, score=state.score + survived
    )
    reward = survived * (params.episode_reward / params.max_steps_in_episode)
    truncated = state.time >= params.max_steps_in_episode
    info = {
        "terminated": terminated,
        "truncated": truncated,
        "discount": (~terminated).astype(jnp.float32),
    }
    return render(state, params), state, reward.astype(jnp.float32), terminated | truncated, info


def lane_column(key, params):
    """A uniform column of the lane: int32[]."""
    return jax.random.randint(key, (), params.first_lane, params.last_lane + 1)


def draw_visible(key, params):
    """Which cells are visible until the next step: bool[10, 10]."""
    # Half a random word is enough for a cell, and random words are what this game spends most of
    # its time on.
    words = jax.random.bits(key, (SIZE * SIZE // 2,))
    halves = jnp.concatenate([words & np.uint32(0xFFFF), words >> 16]).reshape(SIZE, SIZE)
    return halves < jnp.float32(params.visible_share) * 2**16


def move(state, action, params):
    """Move the player, unless it stands at the lane's edge: State."""
    col = state.col + (action == RIGHT) - (action == LEFT)
    return state._replace(col=jnp.clip(col, params.first_lane, params.last_lane))


def is_hit(state):
    """Whether a skittle is on the player's cell: bool[]."""
    return state.enemies[BOTTOM, state.col]


def fall(key, state, params):
    """Move all rows down by one and let a skittle in at the top: State."""
    new_row = np.arange(SIZE) == lane_column(key, params)
    new_color = (state.row_colors[0] + 1) % len(COLORS)
    return state._replace(
        enemies=jnp.concatenate([new_row[None], state.enemies[:-1]]),
        row_colors=jnp.concatenate([new_color[None], state.row_colors[:-1]]),
    )


def render(state, params):
    """Draw the state: uint8[S, S, 3], S = params.obs_size."""
    shown = state.enemies & state.visible if params.partial_obs else state.enemies
    player = (np.arange(SIZE)[:, None] == BOTTOM) & (np.arange(SIZE) == state.col)
    canvas, top, left, (height, width) = draw_lane(params)
    canvas = draw.glyphs(
        canvas,
        jnp.where(
            shown,
            jnp.where(player, CRASH_GLYPH, SKITTLE_GLYPH),
            jnp.where(player, PLAYER_GLYPH, NO_GLYPH),
        ),
        glyphs=GLYPHS,
        inks=INKS,
        ink_ids=jnp.where(shown, state.row_colors[:, None], PLAYER_INK),
        size=(height, width),
        top=top,
        left=left,
    )
    return draw.frame(canvas, score=state.score, name=NAME)


def draw_lane(params):
    """The empty lane between its walls: (canvas, the field's top and left edge, the (height, width)
    of a cell), in pixels."""
    canvas = draw.field(params.obs_size)
    height, width = canvas.shape[0] // SIZE, params.obs_size // SIZE
    top, left = (canvas.shape[0] - SIZE * height) // 2, (params.obs_size - SIZE * width) // 2
    begin, end, wall = (
        left + params.first_lane * width,
        left + (params.last_lane + 1) * width,
        draw.pixels(params.obs_size, WALL),
    )
    canvas = draw.rectangle(canvas, left=0, right=begin, color="d")
    canvas = draw.rectangle(canvas, left=begin - wall, right=begin, color="s")
    canvas = draw.rectangle(canvas, left=end, right=params.obs_size, color="d")
    return draw.rectangle(canvas, left=end, right=end + wall, color="s"), top, left, (height, width)


LEVELS = {
    "Easy": Params(first_lane=1, last_lane=8),
    "Medium": Params(first_lane=2, last_lane=8),
    "Hard": Params(first_lane=2, last_lane=7),
}
