"""Navigator: remember where the TNT is.

A treasure and seven sticks of TNT lie on an n x n grid. Walk to the treasure and dig it up, but do
not step on TNT.

Start: the agent and the treasure are on two distinct cells, each pair equally likely. A uniformly
random shortest path between them is kept free. The TNT lies on distinct uniform cells off this
path, so the treasure can always be reached.

Actions: 0 up, 1 down, 2 left, 3 right move by one cell and stop at the edge; 4 fire digs; any other
integer does nothing.

Rewards: entering TNT pays -0.5. Digging on the treasure's cell pays +1 and raises the score by 100.
Every other step pays -0.5 / n^2. Returns lie in [-1, 1]. The highest return is 1 minus the step
cost of the shortest path.

Episode end: terminated when the agent enters TNT or digs up the treasure; truncated at n^2 steps.

Views: the MDP shows everything. The POMDP shows everything at time 0, and only the agent on the
empty grid afterwards. What lies under the agent stays visible.

Levels: Easy n = 8, Medium n = 10, Hard n = 12; limits 64, 100, 144.

Source: POPGym Arcade 0.0.7.

Differences from 0.0.7:
* The agent and the treasure start on distinct uniform cells without TNT. Rows and columns were
  drawn separately, so either could be on TNT, and a constant key put the treasure almost always in
  the same place.
* A path to the treasure is kept free of TNT. TNT could block every path.
* After the first frame, the POMDP shows nothing but the agent. It still showed the treasure when
  the agent stood on it.

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
    "DOWN",
    "FIRE",
    "LEFT",
    "LEVELS",
    "NAME",
    "NUM_TNT",
    "RETURN_RANGE",
    "RIGHT",
    "TREASURE_SCORE",
    "UP",
    "VERSION",
    "Params",
    "State",
    "move",
    "on_tnt",
    "on_treasure",
    "place_agent_and_treasure",
    "place_tnt",
    "random_path",
    "render",
    "reset",
    "step",
]

NAME: str = "Navigator"
VERSION: int = 1
RETURN_RANGE: tuple[float, float] = (-1.0, 1.0)  # at every level
UP, DOWN, LEFT, RIGHT, FIRE = range(5)
NUM_TNT = 7
TREASURE_SCORE = 100

_FLOOR = """
dddddddddddk
dddddddddddk
dddddddddddk
dddddddddddk
dddddddddddk
dddddddddddk
dddddddddddk
dddddddddddk
dddddddddddk
dddddddddddk
dddddddddddk
kkkkkkkkkkkk
"""
_TNT = """
.......yo...
......y..o..
......s.....
.....ss.....
..rrRrrRrr..
..rrRrrRrr..
..rrRrrRrr..
..wwwwwwww..
..wwwwwwww..
..rrRrrRrr..
..rrRrrRrr..
............
"""
_TREASURE = """
............
............
..oooooooo..
.oyyyyyyyyo.
.oyyyyyyyyo.
.oooowwoooo.
.ommmwwmmmo.
.ommmmmmmmo.
.ommmmmmmmo.
.oooooooooo.
............
............
"""
_AGENT = """
..cccccccc..
.cccccccccc.
.cckkcckkcc.
.cccccccccc.
cc........cc
cc........cc
cc........cc
cc........cc
cc........cc
ccc......ccc
ccc......ccc
............
"""
_THINGS = ((_FLOOR,), (_FLOOR, _TNT), (_FLOOR, _TREASURE))
_TILES = _THINGS + tuple((*thing, _AGENT) for thing in _THINGS)


@draw.register_params
@dataclass(frozen=True)
class Params:
    """The parameters of a level.

    Static fields set shapes and drawing; all others may be traced, e.g. swept with vmap.
    """

    # n: cells per side
    board_size: int = field(default=8, metadata={"static": True, "allowed": range(4, 21)})
    # whether to draw the POMDP view
    partial_obs: bool = field(default=False, metadata={"static": True, "allowed": (False, True)})
    # side of a frame in pixels
    obs_size: int = field(default=128, metadata={"static": True, "allowed": draw.OBS_SIZES})
    # steps before truncation
    max_steps_in_episode: int = field(default=64, metadata={"allowed": draw.STEP_LIMITS})
    treasure_reward: float = field(default=1.0, metadata={"allowed": draw.ANY_REWARD})
    tnt_reward: float = field(default=-0.5, metadata={"allowed": draw.ANY_REWARD})
    # shared by n^2 steps that do neither
    idle_reward: float = field(default=-0.5, metadata={"allowed": draw.ANY_REWARD})


@draw.register_state
class State(NamedTuple):
    """One episode; n is params.board_size."""

    tnt: jax.Array  # bool[n, n]: the cells with TNT
    treasure_row: jax.Array  # int32[], in [0, n - 1]
    treasure_col: jax.Array  # int32[], in [0, n - 1]
    row: jax.Array  # int32[], in [0, n - 1]: the agent's row
    col: jax.Array  # int32[], in [0, n - 1]: the agent's column
    time: jax.Array  # int32[]: steps taken
    score: jax.Array  # int32[]: 100 once the treasure is dug up, else 0


def reset(key: jax.Array, params: Params) -> tuple[jax.Array, State]:
    """Begin an episode.

    key: a typed or raw PRNG key. params: Params. Returns (observation uint8[S, S, 3], State).
    """
    cells_key, path_key, tnt_key = jax.random.split(key, 3)
    (row, col), (treasure_row, treasure_col) = place_agent_and_treasure(
        cells_key, params.board_size
    )
    path = random_path(path_key, row, col, treasure_row, treasure_col, params.board_size)
    tnt = place_tnt(tnt_key, *path)
    time, score = (jnp.zeros_like(row) for _ in range(2))
    state = State(tnt, treasure_row, treasure_col, row, col, time, score)
    return render(state, params), state


def step(
    key: jax.Array, state: State, action: jax.Array, params: Params
) -> tuple[jax.Array, State, jax.Array, jax.Array, dict[str, jax.Array]]:
    """Play one step, which is deterministic: the key is unused.

    key: a PRNG key. state: State. action: int[]. params: Params.
    Returns (observation uint8[S, S, 3], State, reward float32[], done bool[], info).
    """
    row, col = move(state, action, params.board_size)
    found = (action == FIRE) & on_treasure(state)
    state = state._replace(
        row=row, col=col, time=state.time + 1, score=state.score + TREASURE_SCORE * jnp.int32(found)
    )
    idle_reward = params.idle_reward / params.board_size**2
    reward = jnp.where(
        found, params.treasure_reward, jnp.where(on_tnt(state), params.tnt_reward, idle_reward)
    )
    terminated = on_tnt(state) | (state.score > 0)
    truncated = state.time >= params.max_steps_in_episode
    info = {
        "terminated": terminated,
        "truncated": truncated,
        "discount": (~terminated).astype(jnp.float32),
    }
    return render(state, params), state, reward.astype(jnp.float32), terminated | truncated, info


def place_agent_and_treasure(
    key: jax.Array, size: int
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """Two distinct uniform cells: ((row, column), (row, column)), int32[] each."""
    first_key, second_key = jax.random.split(key)
    first = jax.random.randint(first_key, (), 0, size * size, jnp.int32)
    second = jax.random.randint(second_key, (), 0, size * size - 1, jnp.int32)
    second = second + jnp.int32(second >= first)  # skip the first cell
    return divmod(first, size), divmod(second, size)


def random_path(
    key: jax.Array,
    row: jax.Array,
    col: jax.Array,
    to_row: jax.Array,
    to_col: jax.Array,
    size: int,
) -> tuple[jax.Array, jax.Array]:
    """A uniformly random shortest path between two cells, both included.

    Returns (path uint32[size], above int32[size]): bit c of path[r] is set if the path goes through
    column c of row r, and above[r] is the number of its cells in the rows above row r.

    Any of the remaining steps is equally likely to come next, so the next step changes the row with
    probability (rows to go) / (steps to go). Every row of the grid follows the whole walk and keeps
    its own part of the result. So no row needs anything from another one, and with the loop
    unrolled the walk is one kernel on a GPU.
    """
    most_steps = 2 * size - 2
    draws = jax.random.uniform(key, (most_steps,), jnp.float32)
    rows = np.arange(size, dtype=np.int32)
    row, col, to_row, to_col = (jnp.broadcast_to(x, size) for x in (row, col, to_row, to_col))
    length = jnp.abs(to_row - row) + jnp.abs(to_col - col)

    def bit(row, col):
        return jnp.where(rows == row, jnp.uint32(1) << col.astype(jnp.uint32), 0)

    path, above = bit(row, col), jnp.int32(row < rows)
    for step in range(most_steps):
        draw = draws[step] * jnp.float32(length - step)
        change_row = draw < jnp.float32(jnp.abs(to_row - row))
        row = row + jnp.where(change_row, jnp.sign(to_row - row), 0)
        col = col + jnp.where(change_row, 0, jnp.sign(to_col - col))
        path, above = path | bit(row, col), above + jnp.int32((step < length) & (row < rows))
    return path, above


def place_tnt(key: jax.Array, path: jax.Array, above: jax.Array) -> jax.Array:
    """TNT on NUM_TNT distinct uniform cells off the path: bool[size, size].

    path: uint32[size], above: int32[size], as returned by random_path.
    """
    size = path.shape[0]
    rows, columns = draw.grid(size, size)
    left = path[:, None] & ((np.uint32(1) << columns.astype(np.uint32)) - 1)  # the path's cells
    before = above[:, None] + jax.lax.population_count(left).astype(jnp.int32)
    number = rows * size + columns - before  # of each free cell, from 0
    num_free = size * size - above[-1] - jax.lax.population_count(path[-1]).astype(jnp.int32)
    tnt = jnp.zeros(number.shape, bool)
    for chosen in _distinct_numbers(key, num_free):
        tnt = tnt | (number == chosen)
    return tnt & ((path[:, None] >> columns.astype(np.uint32)) & 1 == 0)


def _distinct_numbers(key: jax.Array, count: jax.Array) -> list[jax.Array]:
    """NUM_TNT distinct numbers in [0, count - 1], every set equally likely: int32[] each.

    Floyd's sampling: the range of the draws grows by one number per draw. A draw that hits a number
    taken already takes that new number instead (Bentley and Floyd, 1987).
    """
    uniform = jax.random.uniform(key, (NUM_TNT,), jnp.float32)
    chosen: list[jax.Array] = []
    for index in range(NUM_TNT):
        highest = count - NUM_TNT + index
        number = jnp.floor(uniform[index] * jnp.float32(highest + 1)).astype(jnp.int32)
        taken = jnp.bool_(False)
        for earlier in chosen:
            taken = taken | (number == earlier)
        chosen.append(jnp.where(taken, highest, number))
    return chosen


def move(state: State, action: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """The agent's cell after the action: (row, column), int32[] each."""
    row = state.row + jnp.int32(action == DOWN) - jnp.int32(action == UP)
    col = state.col + jnp.int32(action == RIGHT) - jnp.int32(action == LEFT)
    return jnp.clip(row, 0, size - 1), jnp.clip(col, 0, size - 1)


def on_treasure(state: State) -> jax.Array:
    """Whether the agent stands on the treasure's cell: bool[]."""
    return (state.row == state.treasure_row) & (state.col == state.treasure_col)


def on_tnt(state: State) -> jax.Array:
    """Whether the agent stands on TNT: bool[]."""
    return state.tnt[state.row, state.col]


def render(state: State, params: Params) -> jax.Array:
    """Draw the state: uint8[S, S, 3], S = params.obs_size."""
    rows, cols = draw.grid(params.board_size, params.board_size)
    treasure = (rows == state.treasure_row) & (cols == state.treasure_col)
    agent = (rows == state.row) & (cols == state.col)
    things = jnp.where(treasure, 2, jnp.int32(state.tnt))
    if params.partial_obs:
        things = jnp.where(state.time == 0, things, 0)
    canvas = draw.board(
        draw.field(params.obs_size), jnp.where(agent, things + 3, things), tiles=_TILES
    )
    return draw.frame(canvas, score=state.score, name=NAME)


LEVELS: dict[str, Params] = {
    "Easy": Params(board_size=8, max_steps_in_episode=64),
    "Medium": Params(board_size=10, max_steps_in_episode=100),
    "Hard": Params(board_size=12, max_steps_in_episode=144),
}
