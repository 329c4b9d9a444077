"""MineSweeper: all numbers dug up so far, and where the cursor is.

Only the first frame shows the cursor's place, and every later one only the number under the cursor.
To tell where the mines are, the numbers around a cell must be put together, so every number must be
remembered with its place until the field is cleared, for up to 2 n^2 steps. Recall infers how
likely each covered cell hides a mine, and digs where that is least likely, near cells first: on
Easy from all placements of the mines, on larger fields by loopy belief propagation.
"""

import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import experts
from popgym_arcade.games import minesweeper
from popgym_arcade.memory.player import HIDDEN, Player
from popgym_arcade.memory.players import cursor
from popgym_arcade.registry import Action

NUM_MARKS = 11
MINE, COVERED = 9, 10  # the marks that are not the number of mines next to a dug cell

_MOST_PLACEMENTS = 1000  # the mines' placements are counted out if there are no more than these
_ITERATIONS = 15  # of belief propagation; more of them play no better
_TRUST = 0.7  # how much of a new message is believed at once; less than 1 lets them settle
_HALVINGS = 12  # of the interval that holds the prior log-odds
_SURE = 30.0  # log-odds of what is certain
_TINY = 1e-30  # keeps logarithms finite
_NEIGHBORS = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
_RISK_OF_A_STEP = 1e-3  # the risk that is worth one step less


class Shown(NamedTuple):
    """What a frame shows; n is params.board_size."""

    score: jax.Array  # int32[]
    # In the POMDP, hidden after time 0, unless params.cursor_hidden is False:
    row: jax.Array  # int32[]: the cursor's
    col: jax.Array  # int32[]
    # In the POMDP, hidden at time 0, unless params.cursor_hidden is False:
    mark: jax.Array  # int32[]: of the cursor's cell; the number of mines around, MINE or COVERED
    # In the POMDP, always hidden:
    marks: jax.Array  # int32[n, n]: of all cells
    repeats: jax.Array  # int32[]


def shown(state: minesweeper.State, params: minesweeper.Params) -> Shown:
    """What the frame of a state shows."""
    numbers = jnp.where(state.mines, MINE, minesweeper.mines_around(state.mines).astype(jnp.int32))
    marks = jnp.where(state.dug, numbers, COVERED)
    mark = marks[state.row, state.col]
    everything = Shown(state.score, state.row, state.col, mark, marks, state.repeats)
    return cursor.seen_by(everything, state, params)


# --- without memory ------------------------------------------------------------------------------


def num_keys(params: minesweeper.Params) -> int:
    """The number of cells and one more, times that of scores, times that of marks."""
    return (params.board_size**2 + 1) * _num_scores(params) * NUM_MARKS


def key(shown: Shown, params: minesweeper.Params) -> jax.Array:
    """The cursor's cell or that it is hidden, the score, and the mark: int32[].

    Where the cursor is in view the score is worth knowing, for it tells how far a fixed order of
    digging has come, and so which cells have been dug up.
    """
    cell = shown.row * params.board_size + shown.col
    place = jnp.where(shown.row == HIDDEN, params.board_size**2, cell)
    mark = jnp.where(shown.mark == HIDDEN, COVERED, shown.mark)
    return (place * _num_scores(params) + shown.score) * NUM_MARKS + mark


def _num_scores(params: minesweeper.Params) -> int:
    return params.board_size**2 - params.num_mines + 1


def walk_the_loop(shown: Shown, params: minesweeper.Params) -> jax.Array:
    """Dig up every cell along the loop through all cells, if the cursor is in view: int32[]."""
    go_on = jnp.where(
        shown.row == HIDDEN, Action.RIGHT, _along_the_loop(shown.row, shown.col, params)
    )
    return jnp.where(_is_covered(shown), Action.FIRE, go_on)


def spiral(shown: Shown, params: minesweeper.Params) -> jax.Array:
    """Dig up every cell along a spiral, which the score tells like a clock: int32[]."""
    directions = (Action.RIGHT, Action.DOWN, Action.LEFT, Action.UP)
    legs = [[directions[leg % 4]] * (leg // 2 + 1) for leg in range(2 * params.board_size)]
    # The score is 1 after the first dig.
    way = jnp.asarray([Action.UP, *itertools.chain(*legs)])[shown.score]
    return jnp.where(_is_covered(shown), Action.FIRE, way)


def turn_with_the_number(shown: Shown, params: minesweeper.Params) -> jax.Array:
    """Dig up covered cells, and go on right from 0, down from 1, left from 2, else up: int32[]."""
    ways = jnp.array([Action.RIGHT, Action.DOWN, Action.LEFT, Action.UP])
    way = ways[jnp.clip(shown.mark, 0, 3)]
    return jnp.where(_is_covered(shown), Action.FIRE, way)


def _is_covered(shown: Shown) -> jax.Array:
    return (shown.mark == COVERED) | (shown.mark == HIDDEN)


def _along_the_loop(row: jax.Array, col: jax.Array, params: minesweeper.Params) -> jax.Array:
    """The action from a cell to the next one on the loop through all cells: int32[]."""
    order, moves = experts.loop_through(params.board_size)
    return jnp.asarray(moves[0][order], jnp.int32)[row, col]


# --- with memory ---------------------------------------------------------------------------------


class Memory(NamedTuple):
    """What recall remembers."""

    state: minesweeper.State  # with the cursor and the dug cells; all else is unknown
    numbers: jax.Array  # int32[n, n]: what the dug cells show


def begin(params: minesweeper.Params) -> Memory:
    """Believe that nothing has been dug up, and the cursor in the first cell."""
    nothing, zero = jnp.zeros((params.board_size, params.board_size), bool), jnp.int32(0)
    state = minesweeper.State(nothing, nothing, zero, zero, zero, zero, zero)
    return Memory(state, nothing.astype(jnp.int32))


def remember(
    memory: Memory, last_action: jax.Array, shown: Shown, params: minesweeper.Params
) -> Memory:
    """Keep track of the cursor, and of the numbers under it."""
    state = minesweeper.move(memory.state, last_action, params.board_size)
    row, col = (
        jnp.where(new == HIDDEN, old, new)
        for old, new in ((state.row, shown.row), (state.col, shown.col))
    )
    state = state._replace(row=row, col=col)
    marks = jnp.where(minesweeper.cursor_cell(state), shown.mark, shown.marks)
    dug = jnp.where(marks == HIDDEN, state.dug, marks < COVERED)
    return Memory(
        state._replace(dug=dug),
        jnp.where((marks != HIDDEN) & (marks < COVERED), marks, memory.numbers),
    )


def act(memory: Memory, params: minesweeper.Params) -> jax.Array:
    """Dig at the covered cell that is least likely a mine and, among equals, nearest: int32[]."""
    state = memory.state
    rows, cols = np.indices(state.dug.shape)
    distance = jnp.abs(rows - state.row) + jnp.abs(cols - state.col)
    risk = mine_probability(state.dug, memory.numbers, params.num_mines)
    cost = jnp.where(state.dug, jnp.inf, risk + _RISK_OF_A_STEP * distance)
    target = jnp.zeros(state.dug.size, bool).at[jnp.argmin(cost)].set(True)
    return experts.fire_at_nearest(state.row, state.col, target.reshape(state.dug.shape))


def mine_probability(dug: jax.Array, numbers: jax.Array, num_mines: int) -> jax.Array:
    """How likely each cell hides a mine: float32[n, n].

    dug: bool[n, n]. numbers: int[n, n], the number of mines around each dug cell. num_mines: the
    number of mines.
    """
    if math.comb(dug.size, num_mines) <= _MOST_PLACEMENTS:
        return _count_placements(dug, numbers, num_mines)
    return _propagate_beliefs(dug, numbers, num_mines)


def _count_placements(dug: jax.Array, numbers: jax.Array, num_mines: int) -> jax.Array:
    """Exact, from all placements of the mines that agree with the numbers."""
    mines, around = _placements(len(dug), num_mines)
    agrees = jnp.all(~dug | (~mines & (numbers == around)), axis=(1, 2))
    return jnp.einsum("p,prc->rc", agrees * 1.0, mines * 1.0) / jnp.maximum(jnp.sum(agrees), 1)


def _placements(size: int, num_mines: int) -> tuple[np.ndarray, np.ndarray]:
    """All placements of the mines, bool[p, n, n], and the numbers next to them, int[p, n, n]."""
    cells = np.array(list(itertools.combinations(range(size * size), num_mines)))
    on_line = np.zeros((len(cells), size * size), bool)
    np.put_along_axis(on_line, cells, True, axis=1)
    mines = on_line.reshape(-1, size, size)
    padded = np.pad(mines, ((0, 0), (1, 1), (1, 1))).astype(int)
    views = [padded[:, 1 + i :, 1 + j :][:, :size, :size] for i, j in _NEIGHBORS]
    return mines, np.sum(views, axis=0)


def _propagate_beliefs(dug: jax.Array, numbers: jax.Array, num_mines: int) -> jax.Array:
    """Approximate, by the sum-product algorithm.

    Messages are log-odds of a mine, float32[8, n, n], from each dug cell to its neighbors.
    """
    linked = dug & jnp.stack([_seen(~dug, way, False) for way in _NEIGHBORS])

    def belief(messages):
        heard = jnp.stack(
            [_seen(message, (-i, -j), 0) for message, (i, j) in zip(messages, _NEIGHBORS)]
        )
        evidence = jnp.clip(jnp.sum(heard, axis=0), -_SURE, _SURE)
        return evidence + _prior(evidence, ~dug, num_mines)

    def iterate(_, messages):
        believed = belief(messages)
        around = jnp.stack([_seen(believed, way, 0) for way in _NEIGHBORS])
        chance = jnp.where(linked, jax.nn.sigmoid(around - messages), 0)
        news = _messages(chance, numbers)
        return jnp.where(linked, messages + _TRUST * (news - messages), 0)

    messages = jax.lax.fori_loop(0, _ITERATIONS, iterate, jnp.zeros(linked.shape))
    return jnp.where(dug, 0, jax.nn.sigmoid(belief(messages)))


def _seen(board: jax.Array, way: tuple[int, int], outside: float) -> jax.Array:
    """What each cell of a board sees in its neighbor that way: [n, n]."""
    (i, j), (rows, cols) = way, board.shape
    padded = jnp.pad(board, 1, constant_values=outside)
    return padded[1 + i : 1 + i + rows, 1 + j : 1 + j + cols]


def _messages(chance: jax.Array, numbers: jax.Array) -> jax.Array:
    """What each number says of each neighbor, given how likely the others are mines.

    chance: float32[8, n, n]. numbers: int[n, n]. Returns log-odds, float32[8, n, n].
    """
    counts = jnp.arange(len(_NEIGHBORS) + 1)[:, None, None]

    def one_more(distribution, chance):
        """The distribution of the number of mines, float32[9, n, n], with one more neighbor."""
        with_mine = jnp.pad(distribution[:-1], ((1, 0), (0, 0), (0, 0)))
        return distribution * (1 - chance) + with_mine * chance, distribution

    def weigh(fits, neighbor):
        """The odds of a neighbor. fits[k]: how likely those after it are right, after k mines."""
        chance, before = neighbor
        with_mine = jnp.pad(fits[1:], ((0, 1), (0, 0), (0, 0)))
        mine, safe = (jnp.sum(before * after, axis=0) for after in (with_mine, fits))
        odds = jnp.log(mine + _TINY) - jnp.log(safe + _TINY)
        return fits * (1 - chance) + with_mine * chance, odds

    none = jnp.broadcast_to(1.0 * (counts == 0), (len(counts), *numbers.shape))
    _, before = jax.lax.scan(one_more, none, chance)
    _, odds = jax.lax.scan(weigh, 1.0 * (counts == numbers), (chance, before), reverse=True)
    return jnp.clip(odds, -_SURE, _SURE)


def _prior(evidence: jax.Array, covered: jax.Array, num_mines: int) -> jax.Array:
    """The log-odds of a mine before any number: with them num_mines are expected in all."""

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        expected = jnp.sum(jnp.where(covered, jax.nn.sigmoid(evidence + middle), 0))
        few = expected < num_mines
        return jnp.where(few, middle, low), jnp.where(few, high, middle)

    bounds = jnp.float32(-_SURE / 2), jnp.float32(_SURE / 2)
    low, high = jax.lax.fori_loop(0, _HALVINGS, halve, bounds)
    return (low + high) / 2


PLAYER = Player(
    shown,
    num_keys,
    key,
    features=None,
    reflexes={
        "walk the loop": walk_the_loop,
        "spiral": spiral,
        "turn with the number": turn_with_the_number,
    },
    begin=begin,
    remember=remember,
    act=act,
)
