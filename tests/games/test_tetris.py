"""Tests of Tetris: rules and randomness, and its Case for the tests of every game.

The rules are implemented again in plain Python, from the rulebook and not from the game, and both
implementations are played side by side.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade import REGISTRY, experts
from popgym_arcade.games import tetris
from popgym_arcade.soak.invariants import TETRIS_CELLS
from tests.testing import (
    DOWN,
    FIRE,
    LEFT,
    RIGHT,
    UP,
    Case,
    as_numpy,
    board_of,
    chi_square_p,
    compiled_rules,
    keys,
    many_starts,
    run_script,
)

LEVELS = [tetris.NAME + level for level in tetris.LEVELS]
I, O, T, S, Z, J, L = range(7)  # noqa: E741
ROWS, COLUMNS = 20, 10

# --- the rules again, in plain Python ------------------------------------------------------------

SHAPES = (
    TETRIS_CELLS.tolist()
)  # the filled cells of each piece in its box, as row and column, in rotations 0 to 3


def cells_of(piece, row, col, rotation):
    """The cells that a piece fills: [(row, column)]."""
    return [(row + down, col + right) for down, right in SHAPES[piece][rotation]]


class Game:
    """Tetris in plain Python: a dict of locked cells and a falling piece."""

    def __init__(self, pieces, params):
        """pieces: the pieces in the order they come, an iterator."""
        self.pieces, self.params = pieces, params
        self.locked, self.lines, self.just_locked = {}, 0, False
        self.waiting = [next(pieces) for _ in range(params.num_previews + 1)]
        self.enter()

    def enter(self):
        """The next piece enters, and one more is drawn."""
        self.piece, self.row, self.col, self.rotation, self.fresh = (
            self.waiting.pop(0),
            0,
            3,
            0,
            True,
        )
        if len(self.waiting) < self.params.num_previews:
            self.waiting.append(next(self.pieces))

    def fits(self, row, col, rotation):
        """Whether the piece would be on empty cells of the board there."""
        cells = cells_of(self.piece, row, col, rotation)
        return all(
            row < ROWS and 0 <= col < COLUMNS and (row, col) not in self.locked
            for row, col in cells
        )

    def clear(self):
        """Remove the full rows and return their number."""
        full = [
            row for row in range(ROWS) if all((row, col) in self.locked for col in range(COLUMNS))
        ]
        self.locked = {
            (row + sum(row < gone for gone in full), col): kind
            for (row, col), kind in self.locked.items()
            if row not in full
        }
        return len(full)

    def step(self, action):
        """Play one step: (reward in tenths, whether it ended)."""
        reward = 0
        if self.just_locked:
            gone = self.clear()
            reward = min(self.lines + gone, 10) - min(self.lines, 10)
            self.lines += gone
            if self.lines >= 10:
                return reward, True
            self.enter()
            self.just_locked = False
            if not self.fits(self.row, self.col, self.rotation):
                return reward - 10, True
        turned = (
            self.row,
            self.col + (action == RIGHT) - (action == LEFT),
            (self.rotation + (action == UP)) % 4,
        )
        if self.fits(*turned):
            self.row, self.col, self.rotation = turned
        rows = (1 if self.fresh else self.params.drop) if action == DOWN else self.params.gravity
        for _ in range(rows):
            self.row += self.fits(self.row + 1, self.col, self.rotation)
        self.fresh = False
        if not self.fits(self.row + 1, self.col, self.rotation):
            self.locked |= dict.fromkeys(
                cells_of(self.piece, self.row, self.col, self.rotation), self.piece + 1
            )
            self.just_locked = True
        return reward, False


def pieces_from(bags):
    """The pieces of one bag after another; ``bags`` may grow while they are drawn."""
    number = 0
    while True:
        yield from bags[number]
        number += 1


@pytest.mark.parametrize("name", LEVELS)
def test_tetris_plays_like_the_rules_in_plain_python(name):
    params, rng, rules = REGISTRY[name].params, np.random.default_rng(1), compiled_rules(tetris)
    follow = jax.jit(experts.expert)
    start = as_numpy(many_starts(name, 100))
    ended, lines = [], 0
    for episode in range(6):
        state = jax.tree.map(lambda leaf, episode=episode: leaf[episode], start)
        bags = [state.bag.tolist()]
        game = Game(pieces_from(bags), params)
        for time in range(400):
            random = rng.random() < (1.0, 1.0, 0.15, 0.05, 0.0, 0.0)[episode]
            action = int(rng.integers(-1, 6)) if random else int(follow(state, params))
            state, reward, done, info = as_numpy(
                rules(jax.random.key(time), state, jnp.int32(action), params)
            )
            bags += [state.bag.tolist()] * (state.bag.tolist() != bags[-1])
            tenths, over = game.step(action)
            assert (
                reward == pytest.approx(tenths / 10, abs=1e-6)
                and bool(done) == bool(info["terminated"]) == over
            )
            board = np.zeros((ROWS, COLUMNS), int)
            for cell, kind in game.locked.items():
                board[cell] = kind
            assert np.array_equal(state.board, board)
            assert (state.piece, state.row, state.col, state.rotation) == (
                game.piece,
                game.row,
                game.col,
                game.rotation,
            )
            assert (
                state.next_pieces.tolist() == game.waiting
                and state.lines == state.score == game.lines
            )
            assert (bool(state.just_locked), bool(state.fresh)) == (
                game.just_locked,
                game.fresh,
            ) and state.time == time + 1
            lines += tenths > 0
            if over:
                ended.append(game.lines)
                break
    assert min(ended) < 10 <= max(ended) and lines > 10, "too little happened to compare the rules"


# --- the views -----------------------------------------------------------------------------------


def scramble(rng, state, params):
    """Draw other blocks, another falling piece anywhere, and other next pieces."""
    count = len(state.time)
    board = rng.integers(1, 8, state.board.shape) * (
        rng.random(state.board.shape) < rng.random((count, 1, 1))
    )
    board = np.where(
        rng.random((count, ROWS, 1)) < 0.1, np.maximum(board, 1), board
    )  # some full rows
    just_locked = rng.random(count) < 0.5
    board[~just_locked, :, 0] = 0  # while a piece falls, no row is full
    drawn = {"piece": 7, "row": 17, "col": 7, "rotation": 4}
    fields = {field: rng.integers(0, most, count).astype(np.int32) for field, most in drawn.items()}
    next_pieces = rng.integers(0, 7, state.next_pieces.shape).astype(np.int32)
    return state._replace(
        board=board.astype(np.int8), next_pieces=next_pieces, just_locked=just_locked, **fields
    )


CASES = [
    Case(
        game=tetris.NAME,
        levels={
            "num_previews": (3, 2, 1),
            "gravity": (1, 1, 2),
            "drop": (2, 2, 3),
            "max_steps_in_episode": (3000, 3000, 3000),
        },
        best_return=lambda start, params: np.ones(start.time.shape),
        worst_return=lambda start, params: -np.ones(start.time.shape),
        lowest_return=-1,
        scramble=scramble,
        together=("board", "just_locked"),  # while a piece falls, no row is full
        moves_by_itself=True,
        undealt=("bag",),
        episodes=32,
        different_first_frames=5,
    )
]


# --- randomness ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEVELS)
def test_the_first_pieces_come_from_one_uniformly_shuffled_bag(name):
    start, previews = many_starts(name), REGISTRY[name].params.num_previews
    assert np.all(np.sort(start.bag, axis=1) == np.arange(7))
    assert np.array_equal(np.c_[start.piece, start.next_pieces], start.bag[:, : previews + 1])
    for place in range(7):
        assert chi_square_p(np.bincount(start.bag[:, place], minlength=7)) > 1e-4
    pairs = np.bincount(start.bag[:, 0] * 7 + start.bag[:, 6], minlength=49).reshape(7, 7)
    assert np.all(np.diag(pairs) == 0) and chi_square_p(pairs[~np.eye(7, dtype=bool)]) > 1e-4


def test_a_new_bag_is_drawn_when_the_last_one_is_empty_and_not_before():
    state = jax.tree.map(lambda leaf: leaf[:16], many_starts("TetrisHard", 100))
    spawn = jax.jit(jax.vmap(tetris.spawn))
    dealt = [state.piece, *state.next_pieces.T]
    for number in range(26):
        state = spawn(keys(number), state)
        dealt.append(state.next_pieces[:, -1])
    dealt = np.stack(dealt, axis=1).reshape(16, 4, 7)
    assert np.all(np.sort(dealt, axis=2) == np.arange(7))
    assert len(np.unique(dealt.reshape(-1, 7), axis=0)) > 60


# --- scripted episodes ---------------------------------------------------------------------------

EASY, HARD = tetris.LEVELS["Easy"], tetris.LEVELS["Hard"]


def lying(drawing, piece, row=0, col=3, rotation=0, **fields):
    """A state from a drawing of the board's lowest rows, # for a block, with a falling piece."""
    lowest = board_of(drawing, "#")
    board = np.zeros((ROWS, COLUMNS), np.int8)
    board[ROWS - len(lowest) :] = lowest
    fields = {
        "bag_index": 4,
        "lines": 0,
        "time": 0,
        "score": 0,
        "just_locked": False,
        "fresh": False,
        **fields,
    }
    values = {
        name: jnp.bool_(value) if isinstance(value, bool) else jnp.int32(value)
        for name, value in fields.items()
    }
    place = dict(
        piece=jnp.int32(piece), row=jnp.int32(row), col=jnp.int32(col), rotation=jnp.int32(rotation)
    )
    return tetris.State(
        board=jnp.asarray(board),
        next_pieces=jnp.array([O, T, S], jnp.int32),
        bag=jnp.array([I, O, T, S, Z, J, L]),
        **place,
        **values,
    )


def test_a_piece_turns_shifts_and_falls():
    script = [
        (UP, 0, dict(rotation=1, row=1, col=3)),
        (UP, 0, dict(rotation=2, row=2, col=3)),
        (LEFT, 0, dict(rotation=2, row=3, col=2)),
        (FIRE, 0, dict(row=4, col=2)),
        (RIGHT, 0, dict(row=5, col=3)),
        (DOWN, 0, dict(row=7, col=3)),
        (6, 0, dict(row=8, col=3, rotation=2, time=7)),
    ]
    run_script(tetris, lying("..........", L), EASY, script)
    fast = [
        (FIRE, 0, dict(row=2)),
        (DOWN, 0, dict(row=5)),
        (UP, 0, dict(row=7, rotation=1)),
        (LEFT, 0, dict(row=9, col=2)),
    ]
    run_script(tetris, lying("..........", L), HARD, fast)


def test_a_new_piece_drops_by_one_row_only():
    run_script(
        tetris,
        lying("..........", T, fresh=True),
        HARD,
        [(DOWN, 0, dict(row=1, fresh=False)), (DOWN, 0, dict(row=4))],
    )


def test_moves_that_do_not_fit_are_refused():
    wall = [
        (LEFT, 0, dict(col=-2, row=6)),
        (UP, 0, dict(rotation=1, row=7)),
        (RIGHT, 0, dict(col=-1, row=8)),
    ]
    run_script(tetris, lying("..........", I, row=5, col=-2, rotation=1), EASY, wall)
    beside = "....#..... " * 6 + ".........."
    run_script(tetris, lying(beside, O, row=12, col=1), EASY, [(RIGHT, 0, dict(col=1, row=13))])


def test_nothing_falls_through_a_block_and_what_cannot_fall_locks_at_once():
    state = run_script(
        tetris,
        lying("...####... .......... ..........", O, row=13, col=3),
        HARD,
        [(DOWN, 0, dict(row=14, just_locked=True))],
    )
    assert state.board[15, 4] == state.board[16, 5] == O + 1 and state.board[15:17].sum() == 4 * (
        O + 1
    )
    floor = [(FIRE, 0, dict(row=16, just_locked=False)), (FIRE, 0, dict(row=17, just_locked=True))]
    run_script(tetris, lying("..........", O, row=15, col=0), EASY, floor)


def test_a_full_row_goes_in_the_step_after_its_lock_and_the_next_piece_takes_the_action():
    script = [
        (FIRE, 0, dict(just_locked=True, score=0)),
        (
            LEFT,
            0.2,
            dict(
                just_locked=False,
                score=2,
                lines=2,
                piece=O,
                col=2,
                row=1,
                next_pieces=[T, S, Z],
                bag_index=5,
                fresh=False,
            ),
        ),
    ]
    state = run_script(
        tetris, lying(".#........ #..####### #..#######", O, row=16, col=0), EASY, script
    )
    assert np.argwhere(state.board).tolist() == [[19, 1]]


def test_the_tenth_row_wins_and_pays_no_more_than_one_in_all():
    script = [
        (FIRE, 0, dict(just_locked=True)),
        (FIRE, 0.1, dict(lines=11, score=11, terminated=True, discount=0.0, time=2)),
    ]
    run_script(
        tetris, lying("#..####### #..#######", O, row=16, col=0, lines=9, score=9), EASY, script
    )
    last = [
        (FIRE, 0, dict(time=2999)),
        (FIRE, 0.1, dict(lines=11, terminated=True, truncated=True, time=3000)),
    ]
    run_script(
        tetris,
        lying("#..####### #..#######", O, row=16, col=0, lines=9, score=9, time=2998),
        EASY,
        last,
    )


def test_a_piece_that_does_not_fit_when_it_enters_loses():
    state = lying("...####... " * 20, I, row=0, col=6, just_locked=True)
    run_script(
        tetris,
        state,
        EASY,
        [(LEFT, -1, dict(piece=O, row=0, col=3, terminated=True, discount=0.0))],
    )


def test_a_row_and_a_loss_may_come_together():
    state = lying("...####... " * 19 + "##########", I, just_locked=True)
    run_script(tetris, state, EASY, [(FIRE, 0.1 - 1, dict(score=1, terminated=True, discount=0.0))])
