"""Players that see the whole state: the best and the worst that can be done, for tests, pictures
and upper bounds.

``expert(state, params)`` earns the most that the episode allows and ``worst(state, params)`` the
least. Both return an action, int32[], and work under jit and vmap, in every view, at every level:
with the level's own limit of steps they reach the very maximum and minimum, but for rare episodes
of three games: Skittles, where one would have to know what is not on the field yet, CountRecall,
where a few decks need more steps than there are, and Tetris Hard (one in ten thousand). A much
smaller ``max_steps_in_episode`` may leave the experts of BattleShip and MineSweeper on a detour.
"""

from typing import NamedTuple

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

UP, DOWN, LEFT, RIGHT, FIRE = range(5)
MOVES = np.array([[-1, 0], [1, 0], [0, -1], [0, 1]])  # (rows, columns) of up, down, left, right
FAR = np.int32(1 << 20)  # a distance longer than any path


def expert(state, params):
    """The action of the best player: int32[]. state: a game's State. params: the same game's
    Params."""
    return PLAYERS[type(params)].expert(state, params).astype(jnp.int32)


def worst(state, params):
    """The action of the worst player: int32[]. state: a game's State. params: the same game's
    Params."""
    return PLAYERS[type(params)].worst(state, params).astype(jnp.int32)


# --- AutoEncode ----------------------------------------------------------------------------------


def autoencode_expert(state, params):
    """Turn to the asked suit the short way, then submit it."""
    turns = (autoencode.asked_suit(state) - state.selected) % autoencode.NUM_SUITS
    return jnp.array([FIRE, LEFT, LEFT, RIGHT])[turns]


def autoencode_worst(state, params):
    """Submit whatever is wrong: a return of 0."""
    return jnp.where(state.selected == autoencode.asked_suit(state), LEFT, FIRE)


# --- BattleShip ----------------------------------------------------------------------------------


def battleship_expert(state, params):
    """Sail to the nearest ship cell that is not hit, and shoot: a return of 1."""
    return fire_at_nearest(state.row, state.col, state.ships & ~state.shots)


def battleship_worst(state, params):
    """Miss once, then shoot the same cell until the budget of repeats is used up: a return of
    -1."""
    return fire_at_nearest(state.row, state.col, state.shots | ~state.ships)


def fire_at_nearest(row, col, targets):
    """The action that walks to the nearest target of a board, bool[n, n], or fires if it stands on
    one: int[]."""
    rows, cols = np.indices(targets.shape)
    distance = jnp.where(targets, jnp.abs(rows - row) + jnp.abs(cols - col), FAR)
    target_row, target_col = divmod(jnp.argmin(distance), targets.shape[1])
    sideways = jnp.where(target_col < col, LEFT, jnp.where(target_col > col, RIGHT, FIRE))
    return jnp.where(target_row < row, UP, jnp.where(target_row > row, DOWN, sideways))


# --- Breakout ------------------------------------------------------------------------------------


def breakout_expert(state, params):
    """Hold the middle of the paddle under the ball until no brick is left, which takes 1718 steps:
    a return of 1.

    The ball then always turns around as from a mirror, so it breaks a brick at least every tenth
    time, wherever that is: up and down is 38 steps, left and right is 20, and each brick lies on
    both the odd and the even diagonals of that 38 x 20 board.
    """
    comes_from, _ = breakout_landing(state)
    return breakout_slide(
        state,
        jnp.clip(comes_from - params.paddle_width // 2, 0, breakout.COLUMNS - params.paddle_width),
    )


def breakout_worst(state, params):
    """Dodge the ball: a return of -0.975. Where the paddle is too wide for that, turn the ball as
    from a mirror first: -0.95."""
    comes_from, goes_to = breakout_landing(state)
    right_wall = breakout.COLUMNS - params.paddle_width
    falls_on_left = jnp.maximum(comes_from, goes_to) < right_wall
    falls_on_right = jnp.minimum(comes_from, goes_to) >= params.paddle_width
    mirrored_on_left = comes_from < params.paddle_width
    return breakout_slide(
        state, jnp.where(~falls_on_left & (falls_on_right | mirrored_on_left), 0, right_wall)
    )


def breakout_slide(state, wanted):
    """The action that brings the paddle's leftmost column to the wanted one: int[]."""
    return jnp.where(state.paddle < wanted, RIGHT, jnp.where(state.paddle > wanted, LEFT, FIRE))


def breakout_landing(state):
    """The columns in which a falling ball will be on the row above the paddle's and on the
    paddle's: (int32[], int32[])."""
    # A rising ball is taken for a falling one: where that sends the paddle does not matter, for the
    # fall leaves enough time.
    turns = 2 * breakout.COLUMNS  # steps from side to side and back
    goes_right = jnp.take(breakout.COLUMN_STEP, state.direction) > 0
    travelled = (
        jnp.where(goes_right, state.ball_col, turns - 1 - state.ball_col)
        + breakout.PADDLE_ROW
        - 1
        - state.ball_row
    )
    return tuple(
        jnp.minimum(steps % turns, turns - 1 - steps % turns)
        for steps in (travelled, travelled + 1)
    )


# --- CartPole and NoisyCartPole ------------------------------------------------------------------

# Newtons per metre, metre a second, radian and radian a second: the linear-quadratic regulator of
# the cart-pole at rest, with state weights (1, 1, 10, 1) and a force weight of 0.01, rounded. It
# keeps the cart within 0.6 m and the pole within 5 degrees.
CARTPOLE_GAINS = np.array([8.0, 14.0, 90.0, 24.0], np.float32)
CARTPOLE_FALL_STEPS = 64  # a constant push always ends the episode sooner


def cartpole_expert(state, params):
    """Push with whichever of -10, 0 and 10 N is nearest to what a linear regulator asks for: a
    return of 1."""
    wanted = jnp.stack(state[:4]) @ CARTPOLE_GAINS
    return jnp.where(
        wanted > params.force / 2, RIGHT, jnp.where(wanted < -params.force / 2, LEFT, FIRE)
    )


def cartpole_worst(state, params):
    """Push to the side on which a constant push ends the episode first."""
    return jnp.where(
        steps_to_fall(state, LEFT, params) <= steps_to_fall(state, RIGHT, params), LEFT, RIGHT
    )


def steps_to_fall(state, action, params):
    """How many steps of one action the cart survives: int32[]."""

    def push(carry, _):
        state, survived, alive = carry
        state = cartpole.advance(state, cartpole.push(action, params), params)
        alive = alive & cartpole.in_range(state)
        return (state, survived + alive, alive), None

    (_, survived, _), _ = jax.lax.scan(
        push, (state, jnp.int32(0), jnp.bool_(True)), length=CARTPOLE_FALL_STEPS
    )
    return survived


# --- CountRecall ---------------------------------------------------------------------------------


def count_recall_expert(state, params):
    """Count to the true number, then submit it: a return of 1.

    Ten steps an answer are enough for any deck but a few where the suits come far apart and are
    asked in turns.
    """
    wanted = count_recall.true_count(state)
    return jnp.where(state.counter < wanted, UP, jnp.where(state.counter > wanted, DOWN, FIRE))


def count_recall_worst(state, params):
    """Submit whatever is wrong: a return of 0."""
    return jnp.where(state.counter == count_recall.true_count(state), UP, FIRE)


# --- MineSweeper ---------------------------------------------------------------------------------


def minesweeper_expert(state, params):
    """Walk around a loop through all cells and dig up the safe ones: a return of 1.

    The loop has as many cells as the field, so the walk and the digs fit into the limit of 2 n^2
    steps from any cell. It goes around in the direction in which the last safe cell comes sooner.
    """
    size = params.board_size
    order, moves = loop_through(size)
    here = jnp.asarray(order)[state.row, state.col]
    safe = ~state.mines & ~state.dug
    ahead = jnp.max(jnp.where(safe, (order - here) % size**2, 0))
    behind = jnp.max(jnp.where(safe, (here - order) % size**2, 0))
    walk = jnp.where(ahead <= behind, jnp.asarray(moves[0])[here], jnp.asarray(moves[1])[here])
    return jnp.where(safe[state.row, state.col], FIRE, walk)


def loop_through(size):
    """A loop through all cells of a board with an even side: the place of each cell in it, and the
    moves from each place.

    Along the first row, back and forth through the other rows without their first column, and up
    along that column. Returns NumPy int[size, size] and int[2, size^2]: the action that leads to
    the next place, and the one that leads to the place before.
    """
    rows = [(0, col) for col in range(size)]
    for row in range(1, size):
        columns = range(1, size) if row % 2 == 0 else range(size - 1, 0, -1)
        rows += [(row, col) for col in columns]
    cells = np.array(rows + [(row, 0) for row in range(size - 1, 0, -1)])
    order = np.zeros((size, size), int)
    order[tuple(cells.T)] = np.arange(size * size)
    steps = [np.roll(cells, shift, axis=0) - cells for shift in (-1, 1)]
    return order, np.array([[MOVES.tolist().index(step) for step in way.tolist()] for way in steps])


def minesweeper_worst(state, params):
    """Dig up the nearest safe cell, for a mine would end the game, then dig there until the budget
    of repeats is used up."""
    return fire_at_nearest(
        state.row, state.col, jnp.where(jnp.any(state.dug), state.dug, ~state.mines)
    )


# --- Navigator -----------------------------------------------------------------------------------


def navigator_expert(state, params):
    """Walk the shortest way around the TNT, then dig: a return of 1 less the step cost of that
    way."""
    treasure = jnp.zeros(state.tnt.shape, bool).at[state.treasure_row, state.treasure_col].set(True)
    distance = distances(treasure, state.tnt)
    return jnp.where(navigator.on_treasure(state), FIRE, jnp.argmin(after_moves(distance, state)))


def navigator_worst(state, params):
    """Dig where there is nothing until just enough steps are left to walk into TNT with the very
    last one."""
    distance = distances(state.tnt, jnp.zeros(state.tnt.shape, bool))
    reached = after_moves(distance, state)
    hurry = distance[state.row, state.col] >= params.max_steps_in_episode - state.time
    # On the treasure, where digging would win, step aside instead: towards the TNT, but not into it
    # yet.
    aside = jnp.where(jnp.min(reached) > 0, jnp.argmin(reached), jnp.argmax(reached))
    waste = jnp.where(navigator.on_treasure(state), aside, FIRE)
    return jnp.where(hurry, jnp.argmin(reached), waste)


def distances(targets, walls):
    """Steps from every cell to the nearest target without entering a wall, FAR where there is no
    way: int32[n, n].

    targets, walls: bool[n, n]. Spreads from the targets by one step a round until nothing changes.
    """

    def spread(carry):
        distance, _ = carry
        around = jnp.pad(distance, 1, constant_values=FAR)
        nearest = jnp.minimum(
            jnp.minimum(around[:-2, 1:-1], around[2:, 1:-1]),
            jnp.minimum(around[1:-1, :-2], around[1:-1, 2:]),
        )
        closer = jnp.where(walls, FAR, jnp.minimum(distance, jnp.minimum(nearest + 1, FAR)))
        return closer, jnp.any(closer != distance)

    start = jnp.where(targets & ~walls, 0, FAR).astype(jnp.int32)
    return jax.lax.while_loop(lambda carry: carry[1], spread, (start, jnp.bool_(True)))[0]


def after_moves(distance, state):
    """The distance of the cell that each of the four moves leads to: int32[4]."""
    size = distance.shape[0]
    cells = jnp.clip(jnp.stack([state.row, state.col]) + MOVES, 0, size - 1)
    return distance[cells[:, 0], cells[:, 1]]


# --- Skittles ------------------------------------------------------------------------------------


def skittles_expert(state, params):
    """Survive as long as the skittles on the field allow, with room to go on: a return of 1 but for
    a few walls of skittles."""
    actions = (FIRE, LEFT, RIGHT)
    prospects = [
        skittles_prospect(skittles.move(state, action, params), params) for action in actions
    ]
    return jnp.array(actions)[jnp.argmax(jnp.stack(prospects))]


def skittles_prospect(state, params):
    """How good it is to have moved to this column, more is better: int32[].

    First counts how many steps can be survived, then how many columns can be reached alive when the
    last skittle that is on the field now has gone by, and one step later.
    """
    lane = (2 << params.last_lane) - (1 << params.first_lane)  # sets of columns as bits
    rows = jnp.concatenate(
        [jnp.zeros((2, skittles.SIZE), bool), state.enemies]
    )  # what comes after them is not known
    hits = jnp.sum(
        (rows[1:] | rows[:-1]) << np.arange(skittles.SIZE), axis=1
    )  # where one stands or falls, the lowest row last
    alive, prospect = 1 << state.col, 0
    for row in reversed(range(skittles.SIZE + 1)):
        alive &= lane & ~hits[row]
        prospect += jnp.where(alive > 0, 64, 0) + (row < 2) * jax.lax.population_count(alive)
        alive |= alive << 1 | alive >> 1
    return prospect


def skittles_worst(state, params):
    """Walk into the lowest skittle in reach: 9 steps survived, a return of 0.09."""
    rows, cols = np.indices(state.enemies.shape)
    in_reach = state.enemies & (jnp.abs(cols - state.col) <= skittles.SIZE - rows)
    col = jnp.argmax(jnp.where(in_reach, rows, -1)) % skittles.SIZE
    return jnp.where(col < state.col, LEFT, jnp.where(col > state.col, RIGHT, FIRE))


# --- Tetris --------------------------------------------------------------------------------------

# A place is a rotation and a column of the piece's box; there are [4, 11] or, numbered in that
# order, [44].
TURNS = np.arange(4)
BOX_COLS = np.arange(-2, tetris.COLUMNS - 1)
LOOKS = np.array([2, 1, 4, 2, 2, 4, 4])  # how many rotations of each piece look different
PLACES_TO_TRY = 3  # together with the next piece
# The rows of a board are integers as in tetris.py: bit c + WALL for column c, and walls beside it.
# In the following, an edge between two cells of a row is the bit of the left one.
FULL_ROW = ~np.uint32(0)
COLUMN_BITS = ~tetris.WALLS
INNER_EDGES = COLUMN_BITS & COLUMN_BITS >> 1
ALL_EDGES = COLUMN_BITS | COLUMN_BITS >> 1
# What a board costs: each cell at or below the top block of its column (18, and 1 for each row of
# its height above the floor), each hole, each row by which neighbouring columns differ in height,
# each edge between an empty and a filled cell of a row. All but the last are features of Yiyuan
# Lee's "Tetris AI - The (Near) Perfect Bot" (2013), edges are Pierre Dellacherie's row transitions;
# the numbers were found by trial on Hard.
BLOCK_COST, HEIGHT_COST, HOLE_COST, STEP_COST, EDGE_COST = 18, 1, 13, 5, 3


class Falling(NamedTuple):
    """A piece that falls on a board."""

    rows: jax.Array  # uint32[20]: the board
    piece: jax.Array  # int32[]; so are the others, which are as in tetris.State
    row: jax.Array
    col: jax.Array
    rotation: jax.Array


def tetris_expert(state, params):
    """Turn, shift, then drop the piece to the place that is best for it and the next one: nearly
    always a return of 1."""
    columns = np.uint32(1) << np.arange(tetris.WALL, tetris.WALL + tetris.COLUMNS, dtype=np.uint32)
    rows = jnp.sum((state.board > 0) * columns, axis=1, dtype=jnp.uint32) | tetris.WALLS
    following = state.next_pieces[jnp.minimum(state.just_locked, state.next_pieces.size - 1)]
    known = ~state.just_locked | (state.next_pieces.size > 1)
    current = Falling(rows, state.piece, state.row, state.col, state.rotation)
    current = tetris.choose(state.just_locked, enter(rows, state.next_pieces[0]), current)
    boards, costs = outcomes(current, params)
    minus_costs, places = jax.lax.top_k(-costs.ravel(), PLACES_TO_TRY)

    def next_cost(place):
        return jnp.min(
            outcomes(enter(boards.reshape(tetris.ROWS, -1)[:, place], following), params)[1]
        )

    next_costs = jnp.where(known & (minus_costs > -FAR), jax.vmap(next_cost)(places), -minus_costs)
    rotation, col = divmod(places[jnp.argmin(next_costs)], BOX_COLS.size)
    shift = BOX_COLS[0] + col - current.col
    sideways = jnp.where(shift < 0, LEFT, jnp.where(shift > 0, RIGHT, DOWN))
    return jnp.where(rotation != current.rotation, UP, sideways)


def tetris_worst(state, params):
    """Let every piece fall where it enters, in the columns 3 ... 6: no row gets full, and the pile
    ends the game with -1."""
    return jnp.int32(DOWN)


def enter(rows, piece):
    """Full rows go and a piece enters: Falling."""
    rows = without_full_rows(rows)
    return Falling(rows, piece, jnp.int32(0), jnp.int32(tetris.START_COL), jnp.int32(0))


def without_full_rows(rows):
    """Take the full rows away and let what is above them fall: uint32[20]."""
    numbers, full = np.arange(tetris.ROWS), rows == FULL_ROW
    falls = jnp.sum(full & (numbers > numbers[:, None]), axis=1)  # by how many rows each row does
    stays = (numbers + falls == numbers[:, None]) & ~full  # [new row, old row]
    return jnp.sum(jnp.where(stays, rows, 0), axis=1, dtype=jnp.uint32) | tetris.WALLS


def outcomes(falling, params):
    """The board with the piece in each place, uint32[20, 4, 11], and its cost, int32[4, 11], FAR if
    it does not get there."""
    blocks = jnp.asarray(tetris.BOX_ROWS)[falling.piece].T[:, :, None] << (
        BOX_COLS + tetris.WALL
    ).astype(np.uint32)
    landing = landing_rows(falling, blocks)
    boards = falling.rows[:, None, None]
    for box_row in range(tetris.BOX):
        boards = boards | jnp.where(
            np.arange(tetris.ROWS)[:, None, None] == landing + box_row, blocks[box_row], 0
        )
    return boards, jnp.where(reachable(falling, landing, params), board_costs(boards), FAR)


def landing_rows(falling, blocks):
    """Down to which row the piece falls in every place from its row, row - 1 where it does not fit:
    int32[4, 11].

    blocks: uint32[4, 4, 11], the rows of the piece's box in every place, as rows of the board.
    """
    board = jnp.pad(falling.rows, (0, tetris.BOX), constant_values=FULL_ROW)
    overlaps = [
        board[row : row + tetris.ROWS + 1] & blocks[row, ..., None] for row in range(tetris.BOX)
    ]
    numbers = np.arange(tetris.ROWS + 1)
    blocked = ((overlaps[0] | overlaps[1] | overlaps[2] | overlaps[3]) != 0) & (
        numbers >= falling.row
    )
    return jnp.min(jnp.where(blocked, numbers, tetris.ROWS + 1), axis=-1) - 1


def reachable(falling, landing, params):
    """Whether the piece, first turned, then shifted, gets to every place before it locks on the
    way: bool[4, 11].

    landing: int32[4, 11], see landing_rows. Of rotations that look alike, the one with the fewest
    turns counts. Places under a roof that is beside the piece now are taken for out of reach.
    """
    turns, shifts = (TURNS - falling.rotation) % 4, BOX_COLS - falling.col
    actions = turns[:, None] + jnp.abs(shifts)
    arrives = landing >= falling.row + params.gravity * jnp.maximum(actions - 1, 0)
    locks = (
        landing <= falling.row + params.gravity * actions
    )  # too early, if another action is to follow
    # Sets of columns and sets of numbers of turns are integers, too; the way to a column is without
    # the column itself.
    column = np.uint32(1) << np.arange(BOX_COLS.size, dtype=np.uint32)
    here = np.uint32(1) << (falling.col - BOX_COLS[0]).astype(jnp.uint32)
    way = jnp.where(shifts > 0, column - here, 2 * here - 2 * column)
    locked = jnp.sum(jnp.where(locks, column, 0), axis=1, dtype=jnp.uint32)
    turn = np.uint32(1) << turns.astype(jnp.uint32)
    locked_turns = jnp.sum(jnp.where(locked & here, turn, 0), dtype=jnp.uint32)
    turnable = (turns < jnp.asarray(LOOKS)[falling.piece]) & (locked_turns & (turn - 1) == 0)
    return arrives & turnable[:, None] & (locked[:, None] & way == 0)


def board_costs(boards):
    """What boards, uint32[20, ...], cost once their full rows have gone: int32[...]."""
    covered, cost = jnp.zeros_like(boards[0]), 0
    for height, row in zip(range(tetris.ROWS, 0, -1), boards):
        full = row == FULL_ROW
        covered = jnp.where(
            full, covered, covered | row
        )  # the columns that have a block here or above
        row_cost = (BLOCK_COST + HEIGHT_COST * height) * bits(
            covered & COLUMN_BITS
        ) + HOLE_COST * bits(covered & ~row)
        row_cost += STEP_COST * bits((covered ^ covered >> 1) & INNER_EDGES) + EDGE_COST * bits(
            (row ^ row >> 1) & ALL_EDGES
        )
        cost = cost + jnp.where(full, 0, row_cost)
    return cost


def bits(numbers):
    """How many bits are set in each number, uint32[...]: int32[...]."""
    return jax.lax.population_count(numbers).astype(jnp.int32)


class Players(NamedTuple):
    """A game's best and worst player: functions of (state, params) that return an action, int[]."""

    expert: object
    worst: object


PLAYERS = {
    autoencode.Params: Players(autoencode_expert, autoencode_worst),
    battleship.Params: Players(battleship_expert, battleship_worst),
    breakout.Params: Players(breakout_expert, breakout_worst),
    cartpole.Params: Players(cartpole_expert, cartpole_worst),
    count_recall.Params: Players(count_recall_expert, count_recall_worst),
    minesweeper.Params: Players(minesweeper_expert, minesweeper_worst),
    navigator.Params: Players(navigator_expert, navigator_worst),
    skittles.Params: Players(skittles_expert, skittles_worst),
    tetris.Params: Players(tetris_expert, tetris_worst),
}
"""Every game's players, by the type of its Params."""
