"""The best and the worst policy of every game, which see the whole state.

They serve as upper and lower bounds on the return, and in tests and pictures.
``expert(state, params)`` and ``worst(state, params)`` return an action, int32[], and work under jit
and vmap, for both twins and at every level. With the level's own step limit they reach the highest
and the lowest return, except in rare episodes of three games: Skittles, whose next skittles are
unknown; CountRecall, where a few decks need more steps than there are; and Tetris Hard (one episode
in 10,000). With a much smaller ``max_steps_in_episode``, the experts of BattleShip and MineSweeper
may take detours.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade.games import (
    autoencode,
    battleship,
    breakout,
    cartpole,
    count_recall,
    minesweeper,
    navigator,
    skittles,
    tetris,
)
from popgym_arcade.registry import Action
from popgym_arcade.render import grid

__all__ = [
    "GAME_POLICIES",
    "GamePolicies",
    "StatePolicy",
    "distances",
    "expert",
    "fire_at_nearest",
    "loop_through",
    "worst",
]

UP, DOWN, LEFT, RIGHT, FIRE = map(int, Action)
# Rows and columns of up, down, left, right: int32[4, 2].
_MOVES = np.array([[-1, 0], [1, 0], [0, -1], [0, 1]], np.int32)
_FAR = np.int32(1 << 20)  # longer than any path, higher than any cost


def expert(state: Any, params: Any) -> jax.Array:
    """The action of the best policy: int32[]. state, params: a game's State and Params."""
    return GAME_POLICIES[type(params)].expert(state, params).astype(jnp.int32)


def worst(state: Any, params: Any) -> jax.Array:
    """The action of the worst policy: int32[]. state, params: a game's State and Params."""
    return GAME_POLICIES[type(params)].worst(state, params).astype(jnp.int32)


# --- AutoEncode ----------------------------------------------------------------------------------


def _autoencode_expert(state: autoencode.State, params: autoencode.Params) -> jax.Array:
    """Select the asked suit in as few turns as possible, then submit it: a return of 1."""
    turns = (autoencode.asked_suit(state) - state.selected) % autoencode.NUM_SUITS
    return jnp.array([FIRE, LEFT, LEFT, RIGHT], jnp.int32)[turns]


def _autoencode_worst(state: autoencode.State, params: autoencode.Params) -> jax.Array:
    """Submit a wrong suit: a return of 0."""
    return jnp.where(state.selected == autoencode.asked_suit(state), LEFT, FIRE)


# --- BattleShip ----------------------------------------------------------------------------------


def _battleship_expert(state: battleship.State, params: battleship.Params) -> jax.Array:
    """Move to the nearest unhit ship cell and fire: a return of 1."""
    return fire_at_nearest(state.row, state.col, state.ships & ~state.shots)


def _battleship_worst(state: battleship.State, params: battleship.Params) -> jax.Array:
    """Miss once, then fire at that cell until the repeat budget is used up: a return of -1."""
    return fire_at_nearest(state.row, state.col, state.shots | ~state.ships)


def fire_at_nearest(row: jax.Array, col: jax.Array, targets: jax.Array) -> jax.Array:
    """Move to the nearest target on a board and fire there: int32[]. targets: bool[n, n]."""
    rows, cols = grid(*targets.shape)
    distance = jnp.where(targets, jnp.abs(rows - row) + jnp.abs(cols - col), _FAR)
    target_row, target_col = divmod(jnp.argmin(distance).astype(jnp.int32), targets.shape[1])
    sideways = jnp.where(target_col < col, LEFT, jnp.where(target_col > col, RIGHT, FIRE))
    return jnp.where(target_row < row, UP, jnp.where(target_row > row, DOWN, sideways))


# --- Breakout ------------------------------------------------------------------------------------


def _breakout_expert(state: breakout.State, params: breakout.Params) -> jax.Array:
    """Keep the middle of the paddle under the ball: a return of 1 in 1718 steps.

    Every bounce off the paddle then mirrors the ball. A trip up and down takes 38 steps, one left
    and right 20, and every brick lies on both the odd and the even diagonals of that 38 x 20 board,
    so at least every tenth trip breaks a brick, wherever the last ones are.
    """
    comes_from, _ = _breakout_landing(state)
    return _breakout_slide(
        state,
        jnp.clip(comes_from - params.paddle_width // 2, 0, breakout.COLUMNS - params.paddle_width),
    )


def _breakout_worst(state: breakout.State, params: breakout.Params) -> jax.Array:
    """Dodge the ball: a return of -0.975.

    If the paddle is too wide for that, it first mirrors the ball's direction: -0.95.
    """
    comes_from, goes_to = _breakout_landing(state)
    right_wall = breakout.COLUMNS - params.paddle_width
    falls_on_left = jnp.maximum(comes_from, goes_to) < right_wall
    falls_on_right = jnp.minimum(comes_from, goes_to) >= params.paddle_width
    mirrored_on_left = comes_from < params.paddle_width
    return _breakout_slide(
        state, jnp.where(~falls_on_left & (falls_on_right | mirrored_on_left), 0, right_wall)
    )


def _breakout_slide(state: breakout.State, wanted: jax.Array | int) -> jax.Array:
    """Move the paddle's leftmost column to the wanted one: int[]."""
    return jnp.where(state.paddle < wanted, RIGHT, jnp.where(state.paddle > wanted, LEFT, FIRE))


def _breakout_landing(state: breakout.State) -> tuple[jax.Array, jax.Array]:
    """Predict the ball's columns: on the row above the paddle, and on the paddle's row.

    Returns (int32[], int32[]).
    """
    # A rising ball is treated as a falling one: wherever that sends the paddle, the fall leaves
    # enough time to correct it.
    turns = 2 * breakout.COLUMNS  # steps from side to side and back
    goes_right = jnp.take(breakout.COLUMN_STEP, state.direction) > 0
    travelled = (
        jnp.where(goes_right, state.ball_col, turns - 1 - state.ball_col)
        + breakout.PADDLE_ROW
        - 1
        - state.ball_row
    )

    def column_after(steps):
        return jnp.minimum(steps % turns, turns - 1 - steps % turns)

    return column_after(travelled), column_after(travelled + 1)


# --- CartPole and NoisyCartPole ------------------------------------------------------------------

# In N per m, m/s, rad and rad/s: the linear-quadratic regulator of the cart-pole at rest, with
# state weights (1, 1, 10, 1) and a force weight of 0.01, rounded. It keeps the cart within 0.6 m
# and the pole within 5 degrees.
_CARTPOLE_GAINS = np.array([8.0, 14.0, 90.0, 24.0], np.float32)
_CARTPOLE_FALL_STEPS = 64  # a constant push always ends the episode sooner


def _cartpole_expert(state: cartpole.State, params: cartpole.Params) -> jax.Array:
    """Apply -10, 0 or 10 N, whichever is nearest to a linear regulator's force: a return of 1."""
    wanted = jnp.stack(state[:4]) @ _CARTPOLE_GAINS
    return jnp.where(
        wanted > params.force / 2, RIGHT, jnp.where(wanted < -params.force / 2, LEFT, FIRE)
    )


def _cartpole_worst(state: cartpole.State, params: cartpole.Params) -> jax.Array:
    """Push to the side where a constant push ends the episode sooner."""
    return jnp.where(
        _steps_to_fall(state, LEFT, params) <= _steps_to_fall(state, RIGHT, params), LEFT, RIGHT
    )


def _steps_to_fall(state: cartpole.State, action: int, params: cartpole.Params) -> jax.Array:
    """How many steps the cart survives when one action is repeated: int32[]."""

    def push(carry, _):
        state, survived, alive = carry
        state = cartpole.advance(state, cartpole.push(action, params), params)
        alive = alive & cartpole.in_range(state)
        return (state, survived + jnp.int32(alive), alive), None

    none, alive = jnp.zeros_like(state.x, jnp.int32), jnp.ones_like(state.x, bool)
    (_, survived, _), _ = jax.lax.scan(push, (state, none, alive), length=_CARTPOLE_FALL_STEPS)
    return survived


# --- CountRecall ---------------------------------------------------------------------------------


def _count_recall_expert(state: count_recall.State, params: count_recall.Params) -> jax.Array:
    """Count to the correct number, then submit it: a return of 1.

    Ten steps per answer are enough, except for a few decks whose suits come far apart and are asked
    alternately.
    """
    wanted = count_recall.true_count(state)
    return jnp.where(state.counter < wanted, UP, jnp.where(state.counter > wanted, DOWN, FIRE))


def _count_recall_worst(state: count_recall.State, params: count_recall.Params) -> jax.Array:
    """Submit a wrong number: a return of 0."""
    return jnp.where(state.counter == count_recall.true_count(state), UP, FIRE)


# --- MineSweeper ---------------------------------------------------------------------------------


def _minesweeper_expert(state: minesweeper.State, params: minesweeper.Params) -> jax.Array:
    """Walk along a loop through all cells and dig up the safe ones: a return of 1.

    The loop has n^2 cells, so the walk and the digs fit into the limit of 2 n^2 steps from any
    cell. The direction is the one in which the last safe cell comes sooner.
    """
    size = params.board_size
    order, moves = loop_through(size)
    here = jnp.asarray(order)[state.row, state.col]
    safe = ~state.mines & ~state.dug
    ahead = jnp.max(jnp.where(safe, (order - here) % size**2, 0))
    behind = jnp.max(jnp.where(safe, (here - order) % size**2, 0))
    walk = jnp.where(ahead <= behind, jnp.asarray(moves[0])[here], jnp.asarray(moves[1])[here])
    return jnp.where(safe[state.row, state.col], FIRE, walk)


def loop_through(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Build a loop through all cells of a board with an even side, as NumPy arrays.

    It runs along the first row, back and forth through the other rows without their first column,
    and back up along that column. Returns (order int[size, size], each cell's place in the loop,
    moves int[2, size^2], the actions from each place to the next and to the previous one).
    """
    rows = [(0, col) for col in range(size)]
    for row in range(1, size):
        columns = range(1, size) if row % 2 == 0 else range(size - 1, 0, -1)
        rows += [(row, col) for col in columns]
    cells = np.array(rows + [(row, 0) for row in range(size - 1, 0, -1)])
    order = np.zeros((size, size), int)
    order[tuple(cells.T)] = np.arange(size * size)
    steps = [np.roll(cells, shift, axis=0) - cells for shift in (-1, 1)]
    actions = [[_MOVES.tolist().index(step) for step in way.tolist()] for way in steps]
    return order, np.array(actions)


def _minesweeper_worst(state: minesweeper.State, params: minesweeper.Params) -> jax.Array:
    """Dig up the nearest safe cell, then dig there until the repeat budget is used up.

    Digging up a mine would end the game before that.
    """
    return fire_at_nearest(
        state.row, state.col, jnp.where(jnp.any(state.dug), state.dug, ~state.mines)
    )


# --- Navigator -----------------------------------------------------------------------------------


def _navigator_expert(state: navigator.State, params: navigator.Params) -> jax.Array:
    """Take the shortest path around the TNT, then dig: a return of 1 minus its step cost."""
    treasure = jnp.zeros(state.tnt.shape, bool).at[state.treasure_row, state.treasure_col].set(True)
    distance = distances(treasure, state.tnt)
    return jnp.where(navigator.on_treasure(state), FIRE, jnp.argmin(_after_moves(distance, state)))


def _navigator_worst(state: navigator.State, params: navigator.Params) -> jax.Array:
    """Waste steps by digging where nothing is, and walk into TNT at the very last step."""
    distance = distances(state.tnt, jnp.zeros(state.tnt.shape, bool))
    reached = _after_moves(distance, state)
    hurry = distance[state.row, state.col] >= params.max_steps_in_episode - state.time
    # Digging on the treasure would win, so step aside: towards the TNT, but not into it yet.
    aside = jnp.where(jnp.min(reached) > 0, jnp.argmin(reached), jnp.argmax(reached))
    waste = jnp.where(navigator.on_treasure(state), aside, FIRE)
    return jnp.where(hurry, jnp.argmin(reached), waste)


def distances(targets: jax.Array, walls: jax.Array) -> jax.Array:
    """Steps from every cell to the nearest target without entering a wall: int32[n, n].

    targets, walls: bool[n, n]. The distance is 2^20 where no path exists. Distances spread from the
    targets by one step per iteration until nothing changes.
    """

    def spread(carry):
        distance, _ = carry
        around = jnp.pad(distance, 1, constant_values=_FAR)
        nearest = jnp.minimum(
            jnp.minimum(around[:-2, 1:-1], around[2:, 1:-1]),
            jnp.minimum(around[1:-1, :-2], around[1:-1, 2:]),
        )
        closer = jnp.where(walls, _FAR, jnp.minimum(distance, jnp.minimum(nearest + 1, _FAR)))
        return closer, jnp.any(closer != distance)

    start = jnp.where(targets & ~walls, 0, _FAR).astype(jnp.int32)
    changed = jnp.ones_like(start, bool, ())
    return jax.lax.while_loop(lambda carry: carry[1], spread, (start, changed))[0]


def _after_moves(distance: jax.Array, state: navigator.State) -> jax.Array:
    """The distances of the cells that the four moves lead to: int32[4]."""
    size = distance.shape[0]
    cells = jnp.clip(jnp.stack([state.row, state.col])[None] + _MOVES, 0, size - 1)
    return distance[cells[:, 0], cells[:, 1]]


# --- Skittles ------------------------------------------------------------------------------------


def _skittles_expert(state: skittles.State, params: skittles.Params) -> jax.Array:
    """Survive the visible skittles for as long as possible: nearly always a return of 1.

    It fails only against a few walls of skittles.
    """
    actions = (FIRE, LEFT, RIGHT)
    prospects = [
        _skittles_prospect(skittles.move(state, action, params), params) for action in actions
    ]
    return jnp.array(actions)[jnp.argmax(jnp.stack(prospects))]


def _skittles_prospect(state: skittles.State, params: skittles.Params) -> jax.Array:
    """How good this column is after a move, higher is better: int32[].

    Compares first the number of steps that can be survived, then the number of columns that can be
    reached alive when the last visible skittle has passed, and one step later.
    """
    # Sets of columns are bit masks.
    lane = (2 << params.last_lane) - (1 << params.first_lane)
    # The rows above the field, which enter next, are unknown and count as empty.
    rows = jnp.concatenate([jnp.zeros((2, skittles.SIZE), bool), state.enemies])
    # Columns where the player is hit, before or after the skittles fall; the lowest row is last.
    bits = np.int32(1) << np.arange(skittles.SIZE, dtype=np.int32)[None]
    hits = jnp.sum(jnp.where(rows[1:] | rows[:-1], bits, 0), axis=1, dtype=jnp.int32)
    alive, prospect = 1 << state.col, jnp.int32(0)
    for row in reversed(range(skittles.SIZE + 1)):
        alive &= lane & ~hits[row]
        prospect += jnp.where(alive > 0, 64, 0) + int(row < 2) * jax.lax.population_count(alive)
        alive |= alive << 1 | alive >> 1
    return prospect


def _skittles_worst(state: skittles.State, params: skittles.Params) -> jax.Array:
    """Walk into the lowest skittle in reach: 9 steps survived, a return of 0.09."""
    rows, cols = grid(*state.enemies.shape)
    in_reach = state.enemies & (jnp.abs(cols - state.col) <= skittles.SIZE - rows)
    col = jnp.argmax(jnp.where(in_reach, rows, -1)).astype(jnp.int32) % skittles.SIZE
    return jnp.where(col < state.col, LEFT, jnp.where(col > state.col, RIGHT, FIRE))


# --- Tetris --------------------------------------------------------------------------------------

# A place is a rotation and a column of the piece's box: [4, 11], or flattened [44].
_TURNS = np.arange(4, dtype=np.int32)
_BOX_COLS = np.arange(-2, tetris.COLUMNS - 1, dtype=np.int32)
_LOOKS = np.array([2, 1, 4, 2, 2, 4, 4], np.int32)  # distinct rotations of each piece
_PLACES_TO_TRY = 3  # best places tried together with the next piece
# Rows of a board are bit masks as in tetris.py: bit c + WALL for column c, with walls on both
# sides. An edge between two cells of a row is the bit of the left one.
_FULL_ROW = ~np.uint32(0)
_COLUMN_BITS = ~tetris.WALLS
_INNER_EDGES = _COLUMN_BITS & _COLUMN_BITS >> np.uint32(1)
_ALL_EDGES = _COLUMN_BITS | _COLUMN_BITS >> np.uint32(1)
# Costs of a board, tuned by hand on Hard: for each cell at or below the top block of its column
# (18, plus 1 per row of its height above the floor), each hole, each row of height difference
# between neighboring columns, and each edge between an empty and a filled cell of a row. The first
# three are features of Yiyuan Lee, "Tetris AI - The (Near) Perfect Bot" (2013); edges are Pierre
# Dellacherie's row transitions.
_BLOCK_COST, _HEIGHT_COST, _HOLE_COST, _STEP_COST, _EDGE_COST = 18, 1, 13, 5, 3


class _Falling(NamedTuple):
    """A falling piece and the board below it."""

    rows: jax.Array  # uint32[20]: the board
    piece: jax.Array  # int32[]; this and the fields below are as in tetris.State
    row: jax.Array
    col: jax.Array
    rotation: jax.Array


def _tetris_expert(state: tetris.State, params: tetris.Params) -> jax.Array:
    """Turn, shift and drop the piece to the best place for it and the next piece.

    The return is nearly always 1.
    """
    columns = np.uint32(1) << np.arange(tetris.WALL, tetris.WALL + tetris.COLUMNS, dtype=np.uint32)
    rows = jnp.sum(jnp.where(state.board > 0, columns[None], 0), axis=1, dtype=jnp.uint32)
    rows = rows | tetris.WALLS
    following = state.next_pieces[
        jnp.where(state.just_locked, min(1, state.next_pieces.size - 1), 0)
    ]
    known = ~state.just_locked | (state.next_pieces.size > 1)
    current = _Falling(rows, state.piece, state.row, state.col, state.rotation)
    current = tetris.choose(state.just_locked, _enter(rows, state.next_pieces[0]), current)
    boards, costs = _outcomes(current, params)
    minus_costs, places = jax.lax.top_k(-costs.ravel(), _PLACES_TO_TRY)

    def next_cost(place):
        return jnp.min(
            _outcomes(_enter(boards.reshape(tetris.ROWS, -1)[:, place], following), params)[1]
        )

    next_costs = jnp.where(known & (minus_costs > -_FAR), jax.vmap(next_cost)(places), -minus_costs)
    rotation, col = divmod(places[jnp.argmin(next_costs)], _BOX_COLS.size)
    shift = _BOX_COLS[0] + col - current.col
    sideways = jnp.where(shift < 0, LEFT, jnp.where(shift > 0, RIGHT, DOWN))
    return jnp.where(rotation != current.rotation, UP, sideways)


def _tetris_worst(state: tetris.State, params: tetris.Params) -> jax.Array:
    """Drop every piece in columns 3 to 6, so that no row fills up: a return of -1."""
    return jnp.int32(DOWN)


def _enter(rows: jax.Array, piece: jax.Array) -> _Falling:
    """Clear full rows and let a piece enter the board."""
    rows = _without_full_rows(rows)
    return _Falling(rows, piece, jnp.int32(0), jnp.int32(tetris.START_COL), jnp.int32(0))


def _without_full_rows(rows: jax.Array) -> jax.Array:
    """Clear full rows and let the rows above them fall: uint32[20]."""
    numbers, full = np.arange(tetris.ROWS, dtype=np.int32), rows == _FULL_ROW
    below = numbers[None] > numbers[:, None]
    falls = jnp.sum(full[None] & below, axis=1, dtype=jnp.int32)  # of each row, in rows
    stays = ((numbers + falls)[None] == numbers[:, None]) & ~full[None]  # [new row, old row]
    return jnp.sum(jnp.where(stays, rows[None], 0), axis=1, dtype=jnp.uint32) | tetris.WALLS


def _outcomes(falling: _Falling, params: tetris.Params) -> tuple[jax.Array, jax.Array]:
    """Drop a piece in every place: the boards uint32[20, 4, 11] and their costs int32[4, 11].

    The cost is _FAR where the piece cannot get to the place.
    """
    columns = (_BOX_COLS + tetris.WALL).astype(np.uint32)
    blocks = jnp.asarray(tetris.BOX_ROWS)[falling.piece].T[:, :, None] << columns[None, None]
    landing = _landing_rows(falling, blocks)
    boards = falling.rows[:, None, None]
    for box_row in range(tetris.BOX):
        here = np.arange(tetris.ROWS, dtype=np.int32)[:, None, None] == landing[None] + box_row
        boards = boards | jnp.where(here, blocks[box_row][None], 0)
    return boards, jnp.where(_reachable(falling, landing, params), _board_costs(boards), _FAR)


def _landing_rows(falling: _Falling, blocks: jax.Array) -> jax.Array:
    """The row on which the piece lands if dropped from its row in every place: int32[4, 11].

    It is the piece's row - 1 where the piece does not fit. blocks: uint32[4, 4, 11], the rows of
    the piece's box in every place, as rows of the board.
    """
    board = jnp.pad(falling.rows, (0, tetris.BOX), constant_values=_FULL_ROW)
    overlaps = [
        board[None, None, row : row + tetris.ROWS + 1] & blocks[row, ..., None]
        for row in range(tetris.BOX)
    ]
    numbers = np.arange(tetris.ROWS + 1, dtype=np.int32)[None, None]
    blocked = ((overlaps[0] | overlaps[1] | overlaps[2] | overlaps[3]) != 0) & (
        numbers >= falling.row
    )
    return jnp.min(jnp.where(blocked, numbers, tetris.ROWS + 1), axis=-1) - 1


def _reachable(falling: _Falling, landing: jax.Array, params: tetris.Params) -> jax.Array:
    """Whether the piece, first turned, then shifted, reaches a place before it locks: bool[4, 11].

    landing: int32[4, 11], from _landing_rows. Of rotations that look alike, only the one with the
    fewest turns counts. Places under an overhang beside the piece count as unreachable.
    """
    turns = ((_TURNS - falling.rotation) % 4)[:, None]
    shifts = (_BOX_COLS - falling.col)[None]
    actions = turns + jnp.abs(shifts)
    arrives = landing >= falling.row + params.gravity * jnp.maximum(actions - 1, 0)
    locks = landing <= falling.row + params.gravity * actions  # too early if actions are to follow
    # Sets of columns and sets of numbers of turns are bit masks too. The way to a column excludes
    # the column itself.
    column = np.uint32(1) << np.arange(_BOX_COLS.size, dtype=np.uint32)[None]
    here = np.uint32(1) << (falling.col - _BOX_COLS[0]).astype(jnp.uint32)
    way = jnp.where(shifts > 0, column - here, 2 * here - 2 * column)
    locked = jnp.sum(jnp.where(locks, column, 0), axis=1, keepdims=True, dtype=jnp.uint32)
    turn = np.uint32(1) << turns.astype(jnp.uint32)
    locked_turns = jnp.sum(jnp.where(locked & here, turn, 0), dtype=jnp.uint32)
    turnable = (turns < jnp.asarray(_LOOKS)[falling.piece]) & (locked_turns & (turn - 1) == 0)
    return arrives & turnable & (locked & way == 0)


def _board_costs(boards: jax.Array) -> jax.Array:
    """The costs of boards, uint32[20, ...], after full rows are cleared: int32[...]."""
    covered, cost = jnp.zeros_like(boards[0]), jnp.int32(0)
    for height, row in zip(range(tetris.ROWS, 0, -1), boards):
        full = row == _FULL_ROW
        covered = jnp.where(full, covered, covered | row)  # columns with a block here or above
        row_cost = (_BLOCK_COST + _HEIGHT_COST * height) * _bits(covered & _COLUMN_BITS)
        row_cost += _HOLE_COST * _bits(covered & ~row)
        row_cost += _STEP_COST * _bits((covered ^ covered >> 1) & _INNER_EDGES)
        row_cost += _EDGE_COST * _bits((row ^ row >> 1) & _ALL_EDGES)
        cost = cost + jnp.where(full, 0, row_cost)
    return cost


def _bits(numbers: jax.Array) -> jax.Array:
    """Count the set bits of each number, uint32[...]: int32[...]."""
    return jax.lax.population_count(numbers).astype(jnp.int32)


# --- all games -----------------------------------------------------------------------------------


class StatePolicy(Protocol):
    """A policy that sees the state instead of the frame."""

    def __call__(self, state: Any, params: Any) -> jax.Array:
        """Choose an action: int[]. state, params: the game's State and Params."""
        ...


class GamePolicies(NamedTuple):
    """A game's best and worst policy."""

    expert: StatePolicy
    worst: StatePolicy


GAME_POLICIES: dict[type, GamePolicies] = {
    autoencode.Params: GamePolicies(_autoencode_expert, _autoencode_worst),
    battleship.Params: GamePolicies(_battleship_expert, _battleship_worst),
    breakout.Params: GamePolicies(_breakout_expert, _breakout_worst),
    cartpole.Params: GamePolicies(_cartpole_expert, _cartpole_worst),
    count_recall.Params: GamePolicies(_count_recall_expert, _count_recall_worst),
    minesweeper.Params: GamePolicies(_minesweeper_expert, _minesweeper_worst),
    navigator.Params: GamePolicies(_navigator_expert, _navigator_worst),
    skittles.Params: GamePolicies(_skittles_expert, _skittles_worst),
    tetris.Params: GamePolicies(_tetris_expert, _tetris_worst),
}
"""Every game's policies, by the type of its Params."""
