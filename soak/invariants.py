"""Each game's invariants: its rules once more, as conditions on states and on single steps.

Every function returns {sentence: bool[]}, true as long as the sentence holds. They work under jit
and vmap.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade.registry import Action

__all__ = ["INVARIANTS", "TETRIS_CELLS", "Checks", "Invariants", "PlayedStep"]

UP, DOWN, LEFT, RIGHT, FIRE = map(int, Action)

Checks = dict[str, jax.Array]
"""{sentence: bool[]}, true as long as the sentence holds."""


class PlayedStep(NamedTuple):
    """One step of one environment, before any reset."""

    before: Any  # the State
    action: jax.Array  # int32[]
    after: Any  # the State
    reward: jax.Array  # float32[]
    terminated: jax.Array  # bool[]


def _within(state, **ranges):
    """Whether fields of a state lie in ranges, each given as (low, high), both inclusive."""
    return {
        f"{name} lies in [{low}, {high}]": jnp.all(
            (getattr(state, name) >= low) & (getattr(state, name) <= high)
        )
        for name, (low, high) in ranges.items()
    }


def _unchanged(step, *names):
    """Whether fields of the state stay as they were."""
    return {
        f"{name} does not change": jnp.all(getattr(step.before, name) == getattr(step.after, name))
        for name in names
    }


def _close(one, other):
    """Whether two floats are equal up to rounding: bool[]."""
    return jnp.abs(one - other) < 1e-6


def _pays(step, reward):
    """Whether the reward is the one given."""
    return {"the reward is the one that the rules give": _close(step.reward, reward)}


def _ends(step, terminated):
    """Whether the game ended when it should."""
    return {"terminated exactly when the rules say so": step.terminated == terminated}


def _rise(step, name):
    """By how much a field of the state grew, or how many of its booleans became true: int32[]."""
    before, after = (
        jnp.sum(getattr(state, name).astype(jnp.int32)) for state in (step.before, step.after)
    )
    return after - before


def _walks(step, size):
    """Whether row and col move one cell in the direction of the action, and stop at the edges."""
    row, col, action = step.before.row, step.before.col, step.action
    row = jnp.clip(row + (action == DOWN) - (action == UP), 0, size - 1)
    col = jnp.clip(col + (action == RIGHT) - (action == LEFT), 0, size - 1)
    return {
        "row and col move one cell in the action's direction": (step.after.row == row)
        & (step.after.col == col)
    }


def _is_deck(cards, kinds):
    """Whether cards are a permutation of 0, 1, ..., kinds - 1, 0, 1, ...: bool[]."""
    wanted = np.bincount(np.arange(cards.shape[0]) % kinds, minlength=kinds)
    return jnp.all(jnp.sum(cards[:, None] == np.arange(kinds), axis=0) == wanted)


def _only_at_cursor(step, name):
    """Whether a board gained at most the cursor's cell and lost none: bool[]."""
    before, after = getattr(step.before, name), getattr(step.after, name)
    changed = before != after
    return jnp.all(after | ~before) & (
        jnp.sum(changed) == (changed & after)[step.after.row, step.after.col]
    )


def _autoencode_state(state: Any, params: Any) -> Checks:
    """AutoEncode: the deck and the answers."""
    number = params.num_cards
    return {
        **_within(state, cards=(0, 3), answered=(0, number), selected=(0, 3), score=(0, number)),
        "the deck holds the right number of each suit": _is_deck(state.cards, 4),
        "no more answers than steps after the deck was shown": state.answered
        <= jnp.maximum(state.time - number, 0),
        "no more correct answers than answers": state.score <= state.answered,
    }


def _autoencode_start(state: Any, params: Any) -> Checks:
    """AutoEncode: nothing answered, the first suit selected."""
    return {
        "no answer, and the first suit selected, at the start": (state.answered == 0)
        & (state.selected == 0)
    }


def _autoencode_step(step: PlayedStep, params: Any) -> Checks:
    """AutoEncode: only fire answers, and only once all cards were shown."""
    before, after = step.before, step.after
    submitted = (step.action == FIRE) & (before.time >= params.num_cards)
    asked = before.cards[jnp.clip(params.num_cards - 1 - before.answered, 0)]
    turned = (before.selected + (step.action == LEFT) - (step.action == RIGHT)) % 4
    return {
        **_unchanged(step, "cards"),
        **_pays(step, _rise(step, "score") / params.num_cards),
        **_ends(step, after.answered == params.num_cards),
        "fire answers once the deck was shown, and nothing else does": _rise(step, "answered")
        == submitted,
        "the score counts the correct answers": _rise(step, "score")
        == (submitted & (before.selected == asked)),
        "left and right cycle through the suits": after.selected == turned,
    }


def _battleship_state(state: Any, params: Any) -> Checks:
    """BattleShip: the fleet and the shots."""
    size = params.board_size
    around = jnp.pad(state.ships, 1)
    company = around[:-2, 1:-1] | around[2:, 1:-1] | around[1:-1, :-2] | around[1:-1, 2:]
    return {
        **_within(
            state, row=(0, size - 1), col=(0, size - 1), repeats=(0, size**2 // 2), score=(0, 12)
        ),
        "twelve ship cells": jnp.sum(state.ships) == 12,
        "no ship cell is alone": jnp.all(company | ~state.ships),
        "the score is the number of hits": state.score == jnp.sum(state.ships & state.shots),
        "no more shots than steps": jnp.sum(state.shots) + state.repeats <= state.time,
    }


def _battleship_start(state: Any, params: Any) -> Checks:
    """BattleShip: no shots."""
    return {"no shots at the start": ~jnp.any(state.shots) & (state.repeats == 0)}


def _battleship_step(step: PlayedStep, params: Any) -> Checks:
    """BattleShip: each fire is one shot, new or repeated."""
    size, after = params.board_size, step.after
    return {
        **_unchanged(step, "ships"),
        **_walks(step, size),
        **_pays(step, _rise(step, "score") / 12 - _rise(step, "repeats") * 2 / size**2),
        **_ends(step, (after.score == 12) | (after.repeats == size**2 // 2)),
        "fire takes one shot, new or repeated": _rise(step, "shots") + _rise(step, "repeats")
        == (step.action == FIRE),
        "only the cursor's cell is shot at": _only_at_cursor(step, "shots"),
    }


def _minesweeper_state(state: Any, params: Any) -> Checks:
    """MineSweeper: the mines and the digs."""
    size = params.board_size
    return {
        **_within(
            state,
            row=(0, size - 1),
            col=(0, size - 1),
            repeats=(0, size**2 // 2),
            score=(0, size**2 - params.num_mines),
        ),
        "the field holds its number of mines": jnp.sum(state.mines) == params.num_mines,
        "the score is the number of safe cells dug": state.score
        == jnp.sum(state.dug & ~state.mines),
        "no more digs than steps": jnp.sum(state.dug) + state.repeats <= state.time,
        "at most one mine is dug": jnp.sum(state.dug & state.mines) <= 1,
    }


def _minesweeper_start(state: Any, params: Any) -> Checks:
    """MineSweeper: no digs."""
    return {"no digs at the start": ~jnp.any(state.dug) & (state.repeats == 0)}


def _minesweeper_step(step: PlayedStep, params: Any) -> Checks:
    """MineSweeper: each fire is one dig, new or repeated."""
    size, after = params.board_size, step.after
    safe = size**2 - params.num_mines
    return {
        **_unchanged(step, "mines"),
        **_walks(step, size),
        **_pays(step, _rise(step, "score") / safe - _rise(step, "repeats") * 2 / size**2),
        **_ends(
            step,
            jnp.any(after.dug & after.mines)
            | (after.score == safe)
            | (after.repeats == size**2 // 2),
        ),
        "fire digs once, new or repeated": _rise(step, "dug") + _rise(step, "repeats")
        == (step.action == FIRE),
        "only the cursor's cell is dug": _only_at_cursor(step, "dug"),
    }


def _navigator_state(state: Any, params: Any) -> Checks:
    """Navigator: the TNT and the treasure."""
    last = params.board_size - 1
    return {
        **_within(
            state, row=(0, last), col=(0, last), treasure_row=(0, last), treasure_col=(0, last)
        ),
        "seven cells of TNT": jnp.sum(state.tnt) == 7,
        "no TNT on the treasure": ~state.tnt[state.treasure_row, state.treasure_col],
        "the score is 0 or 100": (state.score == 0) | (state.score == 100),
    }


def _navigator_start(state: Any, params: Any) -> Checks:
    """Navigator: the agent starts on neither TNT nor treasure."""
    on_treasure = (state.row == state.treasure_row) & (state.col == state.treasure_col)
    return {"the agent starts on an empty cell": ~state.tnt[state.row, state.col] & ~on_treasure}


def _navigator_step(step: PlayedStep, params: Any) -> Checks:
    """Navigator: stepping on TNT or digging up the treasure ends the game."""
    size, after = params.board_size, step.after
    found = (
        (step.action == FIRE)
        & (after.row == after.treasure_row)
        & (after.col == after.treasure_col)
    )
    dead = after.tnt[after.row, after.col]
    return {
        **_unchanged(step, "tnt", "treasure_row", "treasure_col"),
        **_walks(step, size),
        **_pays(step, jnp.where(found, 1.0, jnp.where(dead, -0.5, -0.5 / size**2))),
        **_ends(step, found | dead),
        "the treasure scores 100": _rise(step, "score") == 100 * found,
    }


def _cartpole_state(state: Any, params: Any) -> Checks:
    """CartPole and NoisyCartPole: at most one step out of range, and noise of the right size."""
    return {
        **_within(state, x=(-2.8, 2.8), theta=(-0.32, 0.32), x_dot=(-12, 12), theta_dot=(-6, 6)),
        "the noise lies within seven sigma": jnp.all(
            jnp.abs(state.noise) <= 7 * params.noise_sigma
        ),
        "the score counts the steps survived": (state.score == state.time)
        | (state.score == state.time - 1),
    }


def _cartpole_start(state: Any, params: Any) -> Checks:
    """CartPole and NoisyCartPole: upright and almost at rest."""
    return _within(
        state, x=(-0.05, 0.05), x_dot=(-0.05, 0.05), theta=(-0.05, 0.05), theta_dot=(-0.05, 0.05)
    )


def _cartpole_step(step: PlayedStep, params: Any) -> Checks:
    """CartPole and NoisyCartPole: a reward for each step in range, and Euler integration."""
    before, after = step.before, step.after
    # Exactly at the limit, the rounding of pi / 180 decides.
    beyond, inside = (
        (jnp.abs(after.x) > 2.4 + by) | (jnp.abs(after.theta) > np.pi / 15 + by)
        for by in (1e-6, -1e-6)
    )
    force = 10 * ((step.action == RIGHT) * 1.0 - (step.action == LEFT))
    pushed = after.x_dot - before.x_dot - 0.02 * force / 1.1
    return {
        **_pays(step, _rise(step, "score") / params.max_steps_in_episode),
        "terminated exactly when the rules say so": (step.terminated | ~beyond)
        & (~step.terminated | inside),
        "a step in range is worth one point": _rise(step, "score") == ~step.terminated,
        "the cart moves with its velocity": jnp.abs(after.x - before.x - 0.02 * before.x_dot)
        < 1e-5,
        "the pole turns with its angular velocity": jnp.abs(
            after.theta - before.theta - 0.02 * before.theta_dot
        )
        < 1e-5,
        "the cart is pushed in the action's direction": jnp.abs(pushed) < 0.02 * 3,
    }


def _count_recall_state(state: Any, params: Any) -> Checks:
    """CountRecall: both decks, and the counts of the cards seen."""
    number, kinds = params.num_cards, params.num_suits
    dealt = np.arange(number) < state.index
    seen = jnp.sum((state.values[:, None] == np.arange(kinds)) & dealt[:, None], axis=0)
    return {
        **_within(
            state,
            index=(0, number),
            counter=(0, 99),
            score=(0, number),
            values=(0, kinds - 1),
            queries=(0, kinds - 1),
        ),
        "the cards hold the right number of each suit": _is_deck(state.values, kinds),
        "the queries hold the right number of each suit": _is_deck(state.queries, kinds),
        "seen counts the cards dealt so far": jnp.all(state.seen == seen),
        "no more answers than steps": state.index <= state.time,
        "no more correct answers than answers": state.score <= state.index,
    }


def _count_recall_start(state: Any, params: Any) -> Checks:
    """CountRecall: nothing answered, the counter at 0."""
    return {
        "no answer, and the counter at 0, at the start": (state.index == 0) & (state.counter == 0)
    }


def _count_recall_step(step: PlayedStep, params: Any) -> Checks:
    """CountRecall: only fire answers."""
    before, fired = step.before, step.action == FIRE
    asked = before.queries[jnp.minimum(before.index, params.num_cards - 1)]
    counter = jnp.clip(before.counter + (step.action == UP) - (step.action == DOWN), 0, 99)
    return {
        **_unchanged(step, "values", "queries"),
        **_pays(step, _rise(step, "score") / params.num_cards),
        **_ends(step, step.after.index == params.num_cards),
        "fire answers, and nothing else does": _rise(step, "index") == fired,
        "the score counts the correct answers": _rise(step, "score")
        == (fired & (before.counter == before.seen[asked])),
        "up and down change the counter": step.after.counter == counter,
    }


_BRICK_REWARDS = (3 - 0.4 * np.maximum(np.arange(20) - 1, 0)[:, None]) / 120


def _breakout_state(state: Any, params: Any) -> Checks:
    """Breakout: bricks, ball and paddle."""
    rows = np.arange(20)[:, None]
    return {
        **_within(
            state,
            ball_row=(0, 19),
            ball_col=(0, 9),
            last_row=(0, 19),
            last_col=(0, 9),
            direction=(0, 3),
            score=(0, 60),
        ),
        **_within(state, paddle=(0, 10 - params.paddle_width)),
        "bricks only in rows 1 to 6": ~jnp.any(state.bricks & ((rows < 1) | (rows > 6))),
        "the score and the bricks left add up to 60": state.score + jnp.sum(state.bricks) == 60,
    }


def _breakout_start(state: Any, params: Any) -> Checks:
    """Breakout: all bricks, and the ball moving up from row 13."""
    return {
        "the ball starts in row 13 and moves up": (state.ball_row == 13) & (state.direction <= 1),
        "every brick is intact at the start": (state.score == 0) & ~state.strike,
    }


def _breakout_step(step: PlayedStep, params: Any) -> Checks:
    """Breakout: bricks break one at a time, and a ball in row 19 is lost."""
    before, after = step.before, step.after
    gone, lost = before.bricks & ~after.bricks, after.ball_row == 19
    paddle = jnp.clip(
        before.paddle + (step.action == RIGHT) - (step.action == LEFT), 0, 10 - params.paddle_width
    )
    return {
        **_pays(step, jnp.sum(gone * _BRICK_REWARDS) - lost * jnp.sum(after.bricks) / 60),
        **_ends(step, lost | ~jnp.any(after.bricks)),
        "at most one brick breaks and none comes back": ~jnp.any(after.bricks & ~before.bricks)
        & (jnp.sum(gone) <= 1),
        "no brick breaks in the step after a touch": ~jnp.any(gone) | ~before.strike,
        "strike tells whether a brick was touched": after.strike
        == (jnp.any(gone) | after.bricks[after.ball_row, after.ball_col]),
        "last_row and last_col are where the ball was": (after.last_row == before.ball_row)
        & (after.last_col == before.ball_col),
        "the ball moves at most one cell": jnp.maximum(
            jnp.abs(after.ball_row - before.ball_row), jnp.abs(after.ball_col - before.ball_col)
        )
        <= 1,
        "left and right move the paddle": after.paddle == paddle,
    }


def _skittles_state(state: Any, params: Any) -> Checks:
    """Skittles: one skittle in each row that has entered, inside the lane."""
    cols = np.arange(10)
    outside = (cols < params.first_lane) | (cols > params.last_lane)
    return {
        **_within(state, col=(params.first_lane, params.last_lane), row_colors=(0, 6)),
        "one skittle in each row that has entered": jnp.all(
            jnp.sum(state.enemies, axis=1) == (cols < state.time)
        ),
        "no skittle is outside the lane": ~jnp.any(state.enemies & outside),
        "the score counts the steps survived": (state.score == state.time)
        | (state.score == state.time - 1),
    }


def _skittles_start(state: Any, params: Any) -> Checks:
    """Skittles: nothing that _skittles_state does not check."""
    return {}


def _skittles_step(step: PlayedStep, params: Any) -> Checks:
    """Skittles: all rows move down, and a collision ends the game."""
    before, after = step.before, step.after
    col = jnp.clip(
        before.col + (step.action == RIGHT) - (step.action == LEFT),
        params.first_lane,
        params.last_lane,
    )
    return {
        **_pays(step, _rise(step, "score") / params.max_steps_in_episode),
        **_ends(step, before.enemies[9, col] | after.enemies[9, col]),
        "a step survived is worth one point": _rise(step, "score") == ~step.terminated,
        "left and right move the player": after.col == col,
        "every row moves down": jnp.all(after.enemies[1:] == before.enemies[:-1]),
        "colors move with their rows": jnp.all(after.row_colors[1:] == before.row_colors[:-1]),
        "a new row has the next color": after.row_colors[0] == (before.row_colors[0] + 1) % 7,
    }


# The cells of each piece in its box of 4 x 4, as (row, column) pairs, in rotations 0 to 3.
_TETRIS_PIECES = """
10 11 12 13 | 02 12 22 32 | 20 21 22 23 | 01 11 21 31
11 12 21 22 | 11 12 21 22 | 11 12 21 22 | 11 12 21 22
11 20 21 22 | 11 21 22 31 | 20 21 22 31 | 11 20 21 31
11 12 20 21 | 11 21 22 32 | 21 22 30 31 | 10 20 21 31
10 11 21 22 | 12 21 22 31 | 20 21 31 32 | 11 20 21 30
10 20 21 22 | 11 12 21 31 | 20 21 22 32 | 11 21 30 31
12 20 21 22 | 11 21 31 32 | 20 21 22 30 | 10 11 21 31
"""
TETRIS_CELLS: np.ndarray = np.array(
    [
        [
            [[int(digit) for digit in cell] for cell in rotation.split()]
            for rotation in piece.split("|")
        ]
        for piece in _TETRIS_PIECES.strip().split("\n")
    ]
)
"""The cells of each piece: int[piece, rotation, 4 cells, (row, column)]."""


def _tetris_cells(state):
    """Rows and columns of the four cells of the current piece: int[4] each."""
    cells = jnp.asarray(TETRIS_CELLS)[state.piece, state.rotation]
    return state.row + cells[:, 0], state.col + cells[:, 1]


def _tetris_state(state: Any, params: Any) -> Checks:
    """Tetris: the board, the bag and the piece."""
    rows, cols = _tetris_cells(state)
    blocks, full = jnp.sum(state.board > 0), jnp.sum(jnp.all(state.board > 0, axis=1))
    return {
        **_within(
            state,
            board=(0, 7),
            piece=(0, 6),
            row=(0, 18),
            col=(-2, 8),
            rotation=(0, 3),
            next_pieces=(0, 6),
        ),
        **_within(state, bag=(0, 6), bag_index=(1, 7), lines=(0, 13)),
        "the score is the number of lines": state.score == state.lines,
        "the bag holds each piece once": _is_deck(state.bag, 7),
        "the last preview is the last piece drawn from the bag": state.next_pieces[-1]
        == state.bag[state.bag_index - 1],
        "the piece is on the board": jnp.all((rows < 20) & (cols >= 0) & (cols < 10)),
        "a full row stays only until the step after a lock": (full == 0)
        | (state.just_locked & (full <= 4)),
        "blocks are added in fours and removed in tens": (blocks + 10 * state.lines) % 4 == 0,
    }


def _tetris_start(state: Any, params: Any) -> Checks:
    """Tetris: an empty board and a piece at the top."""
    pieces = jnp.append(state.next_pieces, state.piece)
    return {
        "the board is empty at the start": ~jnp.any(state.board)
        & (state.lines == 0)
        & ~state.just_locked,
        "the piece starts at the top": (state.row == 0)
        & (state.col == 3)
        & (state.rotation == 0)
        & state.fresh,
        "the first pieces are all different": jnp.all(
            jnp.sum(pieces[:, None] == np.arange(7), axis=0) <= 1
        ),
    }


def _tetris_step(step: PlayedStep, params: Any) -> Checks:
    """Tetris: rows are cleared in the step after a lock, and a piece falls or locks."""
    before, after = step.before, step.after
    won = after.lines >= 10
    lost, spawned, ended = step.terminated & ~won, before.just_locked & ~won, step.terminated
    rows, cols = _tetris_cells(after)
    own = jnp.any((np.arange(20)[:, None, None] == rows) & (np.arange(10)[:, None] == cols), axis=2)
    blocks = after.board * own
    below = jnp.append(after.board[1:] > 0, jnp.ones((1, 10), bool), axis=0)
    room = ~jnp.any(own & below & ~jnp.append(own[1:], jnp.zeros((1, 10), bool), axis=0))
    lines = _rise(step, "lines")
    cells = jnp.sum(after.board > 0) - jnp.sum(before.board > 0)
    queue, on_show = (jnp.append(state.piece, state.next_pieces) for state in (before, after))
    taken = jnp.all(after.bag == before.bag) & (after.bag_index == before.bag_index + spawned)
    return {
        **_pays(step, 0.1 * (jnp.minimum(after.lines, 10) - jnp.minimum(before.lines, 10)) - lost),
        "ten lines end the game": ended | ~won,
        "the game is lost exactly when a new piece has no room": lost
        == (spawned & after.fresh & jnp.any(blocks > 0)),
        "after a step only a piece without room is still fresh": after.fresh == lost,
        "full rows are cleared in the step after a lock": lines
        == jnp.sum(jnp.all(before.board > 0, axis=1)) * before.just_locked,
        "a lock adds four blocks and a cleared row removes ten": cells
        == 4 * (after.just_locked & ~ended) - 10 * lines,
        "the next piece is the first preview": jnp.where(
            spawned, jnp.all(on_show[:-1] == queue[1:]), jnp.all(on_show == queue)
        ),
        "pieces come from the bag, and from a new one when it is empty": taken
        | (spawned & (before.bag_index == 7) & (after.bag_index == 1)),
        "a locked piece is part of the board": ended
        | (jnp.sum(blocks == after.piece + 1) == 4 * after.just_locked),
        "a falling piece covers only empty cells": ended | after.just_locked | ~jnp.any(blocks > 0),
        "a piece locks as soon as it cannot fall": ended | (after.just_locked == ~room),
        "a piece never rises": spawned | (after.row >= before.row),
        "a piece moves at most one column": spawned | (jnp.abs(after.col - before.col) <= 1),
    }


class Invariants(NamedTuple):
    """The invariants of a game: functions that return Checks."""

    state: Callable[[Any, Any], Checks]  # (state, params), for every state
    start: Callable[[Any, Any], Checks]  # (state, params), for states at time 0
    step: Callable[[PlayedStep, Any], Checks]  # (step, params), for every step


INVARIANTS: dict[str, Invariants] = {
    "AutoEncode": Invariants(_autoencode_state, _autoencode_start, _autoencode_step),
    "BattleShip": Invariants(_battleship_state, _battleship_start, _battleship_step),
    "Breakout": Invariants(_breakout_state, _breakout_start, _breakout_step),
    "CartPole": Invariants(_cartpole_state, _cartpole_start, _cartpole_step),
    "CountRecall": Invariants(_count_recall_state, _count_recall_start, _count_recall_step),
    "MineSweeper": Invariants(_minesweeper_state, _minesweeper_start, _minesweeper_step),
    "Navigator": Invariants(_navigator_state, _navigator_start, _navigator_step),
    "NoisyCartPole": Invariants(_cartpole_state, _cartpole_start, _cartpole_step),
    "Skittles": Invariants(_skittles_state, _skittles_start, _skittles_step),
    "Tetris": Invariants(_tetris_state, _tetris_start, _tetris_step),
}
"""The invariants of every game, by its name."""
