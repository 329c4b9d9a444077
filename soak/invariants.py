"""What always holds in each game, for the soak: the rules once more, as conditions on states and on
single steps.

Every function returns {sentence: bool[]}, each true as long as all is well. They work under jit and
vmap.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

UP, DOWN, LEFT, RIGHT, FIRE = range(5)


class Transition(NamedTuple):
    """One step of one environment, before any reset."""

    before: Any  # the State
    action: jax.Array  # int32[]
    after: Any  # the State
    reward: jax.Array  # float32[]
    terminated: jax.Array  # bool[]


def within(state, **ranges):
    """Whether fields of a state lie in ranges, each given as (low, high), both included."""
    return {
        f"{name} lies in {low} ... {high}": jnp.all(
            (getattr(state, name) >= low) & (getattr(state, name) <= high)
        )
        for name, (low, high) in ranges.items()
    }


def unchanged(step, *names):
    """Whether fields of the state are as they were."""
    return {
        f"{name} stays as it is": jnp.all(getattr(step.before, name) == getattr(step.after, name))
        for name in names
    }


def close(one, other):
    """Whether two floats are the same but for rounding: bool[]."""
    return jnp.abs(one - other) < 1e-6


def pays(step, reward):
    """Whether the reward is the one given."""
    return {"the reward is what the rules pay for this step": close(step.reward, reward)}


def ends(step, terminated):
    """Whether the game ended when it should."""
    return {"terminated just when the rules say so": step.terminated == terminated}


def rise(step, name):
    """By how much a field of the state rose, its booleans counted: int32[]."""
    before, after = (
        jnp.sum(getattr(state, name).astype(jnp.int32)) for state in (step.before, step.after)
    )
    return after - before


def walks(step, size):
    """Whether row and col move by one cell in the direction of the action, and not over an edge."""
    row, col, action = step.before.row, step.before.col, step.action
    row = jnp.clip(row + (action == DOWN) - (action == UP), 0, size - 1)
    col = jnp.clip(col + (action == RIGHT) - (action == LEFT), 0, size - 1)
    return {
        "row and col move one cell as the action says": (step.after.row == row)
        & (step.after.col == col)
    }


def is_deck(cards, kinds):
    """Whether cards are 0, 1, ..., kinds - 1, 0, 1, ... in some order: bool[]."""
    wanted = np.bincount(np.arange(cards.shape[0]) % kinds, minlength=kinds)
    return jnp.all(jnp.sum(cards[:, None] == np.arange(kinds), axis=0) == wanted)


def only_at_cursor(step, name):
    """Whether a board gained at most the cursor's cell and lost none: bool[]."""
    before, after = getattr(step.before, name), getattr(step.after, name)
    changed = before != after
    return jnp.all(after | ~before) & (
        jnp.sum(changed) == (changed & after)[step.after.row, step.after.col]
    )


def autoencode_state(state, params):
    """AutoEncode: the deck and the answers."""
    number = params.num_cards
    return {
        **within(state, cards=(0, 3), answered=(0, number), selected=(0, 3), score=(0, number)),
        "the deck has its number of each suit": is_deck(state.cards, 4),
        "no more answers than steps after the watching": state.answered
        <= jnp.maximum(state.time - number, 0),
        "no more right answers than answers": state.score <= state.answered,
    }


def autoencode_start(state, params):
    """AutoEncode: nothing answered, the first suit selected."""
    return {
        "nothing is answered or selected at the start": (state.answered == 0)
        & (state.selected == 0)
    }


def autoencode_step(step, params):
    """AutoEncode: answers are given by fire alone, once all cards were shown."""
    before, after = step.before, step.after
    submitted = (step.action == FIRE) & (before.time >= params.num_cards)
    asked = before.cards[jnp.clip(params.num_cards - 1 - before.answered, 0)]
    turned = (before.selected + (step.action == LEFT) - (step.action == RIGHT)) % 4
    return {
        **unchanged(step, "cards"),
        **pays(step, rise(step, "score") / params.num_cards),
        **ends(step, after.answered == params.num_cards),
        "fire after the watching answers and nothing else does": rise(step, "answered")
        == submitted,
        "the score rises with the right answers": rise(step, "score")
        == (submitted & (before.selected == asked)),
        "left and right turn the suits": after.selected == turned,
    }


def battleship_state(state, params):
    """BattleShip: the fleet and the shots."""
    size = params.board_size
    around = jnp.pad(state.ships, 1)
    company = around[:-2, 1:-1] | around[2:, 1:-1] | around[1:-1, :-2] | around[1:-1, 2:]
    return {
        **within(
            state, row=(0, size - 1), col=(0, size - 1), repeats=(0, size**2 // 2), score=(0, 12)
        ),
        "twelve ship cells": jnp.sum(state.ships) == 12,
        "no ship cell is alone": jnp.all(company | ~state.ships),
        "the score is the number of hits": state.score == jnp.sum(state.ships & state.shots),
        "no more shots than steps": jnp.sum(state.shots) + state.repeats <= state.time,
    }


def battleship_start(state, params):
    """BattleShip: no shots."""
    return {"no shots at the start": ~jnp.any(state.shots) & (state.repeats == 0)}


def battleship_step(step, params):
    """BattleShip: each fire is one shot, new or repeated."""
    size, after = params.board_size, step.after
    return {
        **unchanged(step, "ships"),
        **walks(step, size),
        **pays(step, rise(step, "score") / 12 - rise(step, "repeats") * 2 / size**2),
        **ends(step, (after.score == 12) | (after.repeats == size**2 // 2)),
        "fire shoots once, new or again": rise(step, "shots") + rise(step, "repeats")
        == (step.action == FIRE),
        "shots fall on the cursor's cell": only_at_cursor(step, "shots"),
    }


def minesweeper_state(state, params):
    """MineSweeper: the mines and the digs."""
    size = params.board_size
    return {
        **within(
            state,
            row=(0, size - 1),
            col=(0, size - 1),
            repeats=(0, size**2 // 2),
            score=(0, size**2 - params.num_mines),
        ),
        "the number of mines": jnp.sum(state.mines) == params.num_mines,
        "the score is the number of safe cells dug": state.score
        == jnp.sum(state.dug & ~state.mines),
        "no more digs than steps": jnp.sum(state.dug) + state.repeats <= state.time,
        "at most one mine is dug": jnp.sum(state.dug & state.mines) <= 1,
    }


def minesweeper_start(state, params):
    """MineSweeper: no digs."""
    return {"no digs at the start": ~jnp.any(state.dug) & (state.repeats == 0)}


def minesweeper_step(step, params):
    """MineSweeper: each fire is one dig, new or repeated."""
    size, after = params.board_size, step.after
    safe = size**2 - params.num_mines
    return {
        **unchanged(step, "mines"),
        **walks(step, size),
        **pays(step, rise(step, "score") / safe - rise(step, "repeats") * 2 / size**2),
        **ends(
            step,
            jnp.any(after.dug & after.mines)
            | (after.score == safe)
            | (after.repeats == size**2 // 2),
        ),
        "fire digs once, new or again": rise(step, "dug") + rise(step, "repeats")
        == (step.action == FIRE),
        "digs fall on the cursor's cell": only_at_cursor(step, "dug"),
    }


def navigator_state(state, params):
    """Navigator: the TNT and the treasure."""
    last = params.board_size - 1
    return {
        **within(
            state, row=(0, last), col=(0, last), treasure_row=(0, last), treasure_col=(0, last)
        ),
        "seven TNT": jnp.sum(state.tnt) == 7,
        "no TNT on the treasure": ~state.tnt[state.treasure_row, state.treasure_col],
        "the score is 0 or 100": (state.score == 0) | (state.score == 100),
    }


def navigator_start(state, params):
    """Navigator: the agent is clear of TNT and treasure."""
    on_treasure = (state.row == state.treasure_row) & (state.col == state.treasure_col)
    return {"the agent starts on an empty cell": ~state.tnt[state.row, state.col] & ~on_treasure}


def navigator_step(step, params):
    """Navigator: TNT and a dug-up treasure end the game."""
    size, after = params.board_size, step.after
    found = (
        (step.action == FIRE)
        & (after.row == after.treasure_row)
        & (after.col == after.treasure_col)
    )
    dead = after.tnt[after.row, after.col]
    return {
        **unchanged(step, "tnt", "treasure_row", "treasure_col"),
        **walks(step, size),
        **pays(step, jnp.where(found, 1.0, jnp.where(dead, -0.5, -0.5 / size**2))),
        **ends(step, found | dead),
        "the score rises with the treasure": rise(step, "score") == 100 * found,
    }


def cartpole_state(state, params):
    """CartPole and NoisyCartPole: a cart that was in range one step before, and noise that its
    sigma allows."""
    return {
        **within(state, x=(-2.8, 2.8), theta=(-0.32, 0.32), x_dot=(-12, 12), theta_dot=(-6, 6)),
        "no noise is beyond seven sigma": jnp.all(jnp.abs(state.noise) <= 7 * params.noise_sigma),
        "the score is the number of steps, but for a fatal one": (state.score == state.time)
        | (state.score == state.time - 1),
    }


def cartpole_start(state, params):
    """CartPole and NoisyCartPole: nearly at rest."""
    return within(
        state, x=(-0.05, 0.05), x_dot=(-0.05, 0.05), theta=(-0.05, 0.05), theta_dot=(-0.05, 0.05)
    )


def cartpole_step(step, params):
    """CartPole and NoisyCartPole: paid as long as it is in range; the velocities move what they
    belong to."""
    before, after = step.before, step.after
    # Just at the limit another rounding of pi / 180 may decide otherwise.
    beyond, inside = (
        (jnp.abs(after.x) > 2.4 + by) | (jnp.abs(after.theta) > np.pi / 15 + by)
        for by in (1e-6, -1e-6)
    )
    force = 10 * ((step.action == RIGHT) * 1.0 - (step.action == LEFT))
    pushed = after.x_dot - before.x_dot - 0.02 * force / 1.1
    return {
        **pays(step, rise(step, "score") / params.max_steps_in_episode),
        "terminated just when the rules say so": (step.terminated | ~beyond)
        & (~step.terminated | inside),
        "a step in range is worth one point": rise(step, "score") == ~step.terminated,
        "the cart moves as fast as it says": jnp.abs(after.x - before.x - 0.02 * before.x_dot)
        < 1e-5,
        "the pole turns as fast as it says": jnp.abs(
            after.theta - before.theta - 0.02 * before.theta_dot
        )
        < 1e-5,
        "the push goes the way of the action": jnp.abs(pushed) < 0.02 * 3,
    }


def count_recall_state(state, params):
    """CountRecall: both decks, and what was seen."""
    number, kinds = params.num_cards, params.num_suits
    dealt = np.arange(number) < state.index
    seen = jnp.sum((state.values[:, None] == np.arange(kinds)) & dealt[:, None], axis=0)
    return {
        **within(
            state,
            index=(0, number),
            counter=(0, 99),
            score=(0, number),
            values=(0, kinds - 1),
            queries=(0, kinds - 1),
        ),
        "the cards are their number of each suit": is_deck(state.values, kinds),
        "the questions are their number of each suit": is_deck(state.queries, kinds),
        "seen counts the cards dealt before": jnp.all(state.seen == seen),
        "no more answers than steps": state.index <= state.time,
        "no more right answers than answers": state.score <= state.index,
    }


def count_recall_start(state, params):
    """CountRecall: nothing answered, the counter at 0."""
    return {
        "nothing is counted or answered at the start": (state.index == 0) & (state.counter == 0)
    }


def count_recall_step(step, params):
    """CountRecall: answers are given by fire alone."""
    before, fired = step.before, step.action == FIRE
    asked = before.queries[jnp.minimum(before.index, params.num_cards - 1)]
    counter = jnp.clip(before.counter + (step.action == UP) - (step.action == DOWN), 0, 99)
    return {
        **unchanged(step, "values", "queries"),
        **pays(step, rise(step, "score") / params.num_cards),
        **ends(step, step.after.index == params.num_cards),
        "fire answers and nothing else does": rise(step, "index") == fired,
        "the score rises with the right answers": rise(step, "score")
        == (fired & (before.counter == before.seen[asked])),
        "up and down move the counter": step.after.counter == counter,
    }


BRICK_REWARDS = (3 - 0.4 * np.maximum(np.arange(20) - 1, 0)[:, None]) / 120


def breakout_state(state, params):
    """Breakout: bricks, ball and paddle."""
    rows = np.arange(20)[:, None]
    return {
        **within(
            state,
            ball_row=(0, 19),
            ball_col=(0, 9),
            last_row=(0, 19),
            last_col=(0, 9),
            direction=(0, 3),
            score=(0, 60),
        ),
        **within(state, paddle=(0, 10 - params.paddle_width)),
        "bricks only in rows 1 to 6": ~jnp.any(state.bricks & ((rows < 1) | (rows > 6))),
        "score and bricks are sixty": state.score + jnp.sum(state.bricks) == 60,
    }


def breakout_start(state, params):
    """Breakout: the ball on its way up from row 13."""
    return {
        "the ball starts upwards from row 13": (state.ball_row == 13) & (state.direction <= 1),
        "no brick is gone and none was touched at the start": (state.score == 0) & ~state.strike,
    }


def breakout_step(step, params):
    """Breakout: bricks go one at a time, and a ball on row 19 is lost."""
    before, after = step.before, step.after
    gone, lost = before.bricks & ~after.bricks, after.ball_row == 19
    paddle = jnp.clip(
        before.paddle + (step.action == RIGHT) - (step.action == LEFT), 0, 10 - params.paddle_width
    )
    return {
        **pays(step, jnp.sum(gone * BRICK_REWARDS) - lost * jnp.sum(after.bricks) / 60),
        **ends(step, lost | ~jnp.any(after.bricks)),
        "no brick comes back and one goes at most": ~jnp.any(after.bricks & ~before.bricks)
        & (jnp.sum(gone) <= 1),
        "no brick goes in the step after one was touched": ~jnp.any(gone) | ~before.strike,
        "strike tells whether a brick was touched": after.strike
        == (jnp.any(gone) | after.bricks[after.ball_row, after.ball_col]),
        "the last cell is where the ball was": (after.last_row == before.ball_row)
        & (after.last_col == before.ball_col),
        "the ball moves one cell at most": jnp.maximum(
            jnp.abs(after.ball_row - before.ball_row), jnp.abs(after.ball_col - before.ball_col)
        )
        <= 1,
        "left and right move the paddle": after.paddle == paddle,
    }


def skittles_state(state, params):
    """Skittles: one of them in each row that has entered, and in the lane."""
    cols = np.arange(10)
    outside = (cols < params.first_lane) | (cols > params.last_lane)
    return {
        **within(state, col=(params.first_lane, params.last_lane), row_colors=(0, 6)),
        "one skittle in each row that has entered": jnp.all(
            jnp.sum(state.enemies, axis=1) == (cols < state.time)
        ),
        "no skittle is outside the lane": ~jnp.any(state.enemies & outside),
        "the score is the number of steps, but for a fatal one": (state.score == state.time)
        | (state.score == state.time - 1),
    }


def skittles_start(state, params):
    """Skittles: nothing that skittles_state does not say, at time 0."""
    return {}


def skittles_step(step, params):
    """Skittles: all rows move down, and a collision ends it."""
    before, after = step.before, step.after
    col = jnp.clip(
        before.col + (step.action == RIGHT) - (step.action == LEFT),
        params.first_lane,
        params.last_lane,
    )
    return {
        **pays(step, rise(step, "score") / params.max_steps_in_episode),
        **ends(step, before.enemies[9, col] | after.enemies[9, col]),
        "a step survived is worth one point": rise(step, "score") == ~step.terminated,
        "left and right move the player": after.col == col,
        "every row moves down": jnp.all(after.enemies[1:] == before.enemies[:-1]),
        "colours move with their rows": jnp.all(after.row_colors[1:] == before.row_colors[:-1]),
        "a new row has the next colour": after.row_colors[0] == (before.row_colors[0] + 1) % 7,
    }


# The cells of each piece in its box of 4 x 4, as (row, column) pairs, in rotations 0 to 3.
TETRIS_PIECES = """
10 11 12 13 | 02 12 22 32 | 20 21 22 23 | 01 11 21 31
11 12 21 22 | 11 12 21 22 | 11 12 21 22 | 11 12 21 22
11 20 21 22 | 11 21 22 31 | 20 21 22 31 | 11 20 21 31
11 12 20 21 | 11 21 22 32 | 21 22 30 31 | 10 20 21 31
10 11 21 22 | 12 21 22 31 | 20 21 31 32 | 11 20 21 30
10 20 21 22 | 11 12 21 31 | 20 21 22 32 | 11 21 30 31
12 20 21 22 | 11 21 31 32 | 20 21 22 30 | 10 11 21 31
"""
TETRIS_CELLS = np.array(
    [
        [
            [[int(digit) for digit in cell] for cell in rotation.split()]
            for rotation in piece.split("|")
        ]
        for piece in TETRIS_PIECES.strip().split("\n")
    ]
)  # int[piece, rotation, 4 cells, (row, column)]


def tetris_cells(state):
    """Rows and columns of the four cells of the current piece: int[4] each."""
    cells = jnp.asarray(TETRIS_CELLS)[state.piece, state.rotation]
    return state.row + cells[:, 0], state.col + cells[:, 1]


def tetris_state(state, params):
    """Tetris: the board, the bag and the piece."""
    rows, cols = tetris_cells(state)
    full = jnp.sum(jnp.all(state.board > 0, axis=1))
    return {
        **within(
            state,
            board=(0, 7),
            piece=(0, 6),
            row=(0, 18),
            col=(-2, 8),
            rotation=(0, 3),
            next_pieces=(0, 6),
        ),
        **within(state, bag=(0, 6), bag_index=(1, 7), lines=(0, 13)),
        "the score is the number of lines": state.score == state.lines,
        "the bag holds each piece once": is_deck(state.bag, 7),
        "the last piece on show is the last from the bag": state.next_pieces[-1]
        == state.bag[state.bag_index - 1],
        "the piece is on the board": jnp.all((rows < 20) & (cols >= 0) & (cols < 10)),
        "a full row lasts until the step after its lock": (full == 0)
        | (state.just_locked & (full <= 4)),
        "blocks come in fours and go in tens": (jnp.sum(state.board > 0) + 10 * state.lines) % 4
        == 0,
    }


def tetris_start(state, params):
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


def tetris_step(step, params):
    """Tetris: rows go in the step after a lock, the next piece is the one on show, and a piece
    falls or locks."""
    before, after = step.before, step.after
    won = after.lines >= 10
    lost, spawned, ended = step.terminated & ~won, before.just_locked & ~won, step.terminated
    rows, cols = tetris_cells(after)
    own = jnp.any((np.arange(20)[:, None, None] == rows) & (np.arange(10)[:, None] == cols), axis=2)
    blocks = after.board * own
    below = jnp.append(after.board[1:] > 0, jnp.ones((1, 10), bool), axis=0)
    room = ~jnp.any(own & below & ~jnp.append(own[1:], jnp.zeros((1, 10), bool), axis=0))
    lines = rise(step, "lines")
    cells = jnp.sum(after.board > 0) - jnp.sum(before.board > 0)
    queue, on_show = (jnp.append(state.piece, state.next_pieces) for state in (before, after))
    taken = jnp.all(after.bag == before.bag) & (after.bag_index == before.bag_index + spawned)
    return {
        **pays(step, 0.1 * (jnp.minimum(after.lines, 10) - jnp.minimum(before.lines, 10)) - lost),
        "a game with ten lines has ended": ended | ~won,
        "a game is lost just when a new piece has no room": lost
        == (spawned & after.fresh & jnp.any(blocks > 0)),
        "no piece is new after a step, but for one that lost": after.fresh == lost,
        "full rows go in the step after a lock": lines
        == jnp.sum(jnp.all(before.board > 0, axis=1)) * before.just_locked,
        "a lock adds four blocks and a row takes ten": cells
        == 4 * (after.just_locked & ~ended) - 10 * lines,
        "the next piece is the first on show": jnp.where(
            spawned, jnp.all(on_show[:-1] == queue[1:]), jnp.all(on_show == queue)
        ),
        "pieces are taken from the bag, and from a new one when it is empty": taken
        | (spawned & (before.bag_index == 7) & (after.bag_index == 1)),
        "a locked piece is part of the board": ended
        | (jnp.sum(blocks == after.piece + 1) == 4 * after.just_locked),
        "a piece that has not locked is on empty cells": ended
        | after.just_locked
        | ~jnp.any(blocks > 0),
        "a piece locks as soon as it cannot fall": ended | (after.just_locked == ~room),
        "a piece never rises": spawned | (after.row >= before.row),
        "a piece moves one column at most": spawned | (jnp.abs(after.col - before.col) <= 1),
    }


class Invariants(NamedTuple):
    """What always holds in a game: functions that return {sentence: bool[]}, each true as long as
    all is well."""

    state: Callable  # (state, params), of every state
    start: Callable  # (state, params), of a state at time 0
    step: Callable  # (Transition, params), of every step


INVARIANTS = {
    "AutoEncode": Invariants(autoencode_state, autoencode_start, autoencode_step),
    "BattleShip": Invariants(battleship_state, battleship_start, battleship_step),
    "Breakout": Invariants(breakout_state, breakout_start, breakout_step),
    "CartPole": Invariants(cartpole_state, cartpole_start, cartpole_step),
    "CountRecall": Invariants(count_recall_state, count_recall_start, count_recall_step),
    "MineSweeper": Invariants(minesweeper_state, minesweeper_start, minesweeper_step),
    "Navigator": Invariants(navigator_state, navigator_start, navigator_step),
    "NoisyCartPole": Invariants(cartpole_state, cartpole_start, cartpole_step),
    "Skittles": Invariants(skittles_state, skittles_start, skittles_step),
    "Tetris": Invariants(tetris_state, tetris_start, tetris_step),
}
"""Every game's own invariants, by its name."""
