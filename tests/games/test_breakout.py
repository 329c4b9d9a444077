"""Tests of Breakout: rules and randomness, and its Case for the tests of every game.

The rules are implemented again in plain Python, from the rulebook and not from the game, and both
implementations are played side by side. Points are integers, 600ths of the return, so that nothing
is rounded.
"""

from collections import Counter
from functools import cache
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade import REGISTRY, experts
from popgym_arcade import render as draw
from popgym_arcade.games import breakout
from tests.testing import (
    BATCH,
    FIRE,
    LEFT,
    RIGHT,
    UP,
    Case,
    as_numpy,
    chi_square_p,
    compiled_rules,
    many_starts,
    rendered,
    run_script,
)

LEVELS = [breakout.NAME + level for level in breakout.LEVELS]

# --- the rules again, in plain Python ------------------------------------------------------------

ROWS, COLUMNS = 20, 10
WALL = frozenset((row, col) for row in range(1, 7) for col in range(COLUMNS))
UNIT = 1 / 600  # of the return
DIRECTIONS = (-1, -1), (-1, 1), (1, 1), (1, -1)  # (down, right) of directions 0 to 3


class Ball(NamedTuple):
    """The state of an episode, as far as the rules read it."""

    row: int
    col: int
    down: int  # rows that the ball moves in a step: 1 or -1
    right: int  # columns, likewise
    paddle: int  # its leftmost column
    bricks: frozenset = WALL  # of (row, column)
    strike: bool = False  # whether the last step touched a brick


def starts(width):
    """Every possible start of an episode."""
    paddles = range(COLUMNS - width + 1)
    return [
        Ball(13, col, -1, right, paddle)
        for col in range(COLUMNS)
        for right in (-1, 1)
        for paddle in paddles
    ]


def step(ball, action, width):
    """Play one step: (Ball, points, whether the ball is lost)."""
    paddle = min(max(ball.paddle + (action == RIGHT) - (action == LEFT), 0), COLUMNS - width)
    covered = range(paddle, paddle + width)
    row, col, down, right, bricks = (
        ball.row + ball.down,
        ball.col + ball.right,
        ball.down,
        ball.right,
        ball.bricks,
    )
    points, lost = 0, False
    if col not in range(COLUMNS):
        col, right = ball.col, -right
    touched = (row, col) in bricks
    if row < 0:
        row, down = 0, 1
    elif touched and not ball.strike:
        bricks = bricks - {(row, col)}
        points = brick_points(row)
        row, down = ball.row, -down
    elif row == ROWS - 1 and ball.col in covered:
        row, down = ROWS - 2, -1
    elif row == ROWS - 1 and col in covered:
        row, down, right = ROWS - 2, -1, -right
    elif row == ROWS - 1:
        points, lost = -10 * len(bricks), True
    return Ball(row, col, down, right, paddle, bricks, touched), points, lost


def brick_points(row):
    """The reward for a brick in this row, (3 - 0.4 (row - 1)) / 120, in 600ths."""
    return 17 - 2 * row


def if_lost_now(bricks):
    """The return, in 600ths, of losing the ball with these bricks left.

    It grows with every brick that breaks.
    """
    return sum(brick_points(row) for row, _ in WALL - bricks) - 10 * len(bricks)


def least_return(start, width):
    """The lowest return of any player, by best-first search over all actions.

    The return of losing the ball now is a lower bound on the final return and never falls. The
    search expands states in the order of this bound, so the first lost ball has the lowest return.
    """
    order = count()  # ties: the newest state first
    frontier, seen = [(if_lost_now(start.bricks), 0, start, False)], {start}
    while True:
        bound, _, ball, over = heappop(frontier)
        if over:
            return bound * UNIT
        for action in (LEFT, RIGHT, None):
            after, _, lost = step(ball, action, width)
            if lost or after not in seen:
                seen.add(after)
                heappush(frontier, (if_lost_now(after.bricks), -next(order), after, lost))


@cache
def least_of(col, right, width):
    """The lowest return from a start with the ball there; the paddle has time to go anywhere."""
    return least_return(Ball(13, col, -1, right, 0), width)


def worst_return(start, params):
    """The lowest returns, found by search."""
    right = np.where(start.direction == breakout.UP_RIGHT, 1, -1)
    return np.array(
        [
            least_of(int(col), int(way), params.paddle_width)
            for col, way in zip(start.ball_col, right)
        ]
    )


def scramble(rng, state, params):
    """Draw other bricks, and the ball, its previous cell and the paddle anywhere."""
    number = len(state.time)
    bricks = state.bricks & (rng.random(state.bricks.shape) < rng.random((number, 1, 1)))
    drawn = {
        "ball_row": ROWS,
        "ball_col": COLUMNS,
        "direction": 4,
        "last_row": ROWS,
        "last_col": COLUMNS,
    }
    drawn["paddle"] = COLUMNS + 1 - params.paddle_width
    fields = {
        field: rng.integers(0, most, number).astype(np.int32) for field, most in drawn.items()
    }
    return state._replace(bricks=bricks, strike=rng.random(number) < 0.5, **fields)


CASES = [
    Case(
        game=breakout.NAME,
        levels={"paddle_width": (6, 5, 4), "max_steps_in_episode": (2000, 2000, 2000)},
        best_return=lambda start, params: np.ones(start.time.shape),
        worst_return=worst_return,
        lowest_return=-0.975,
        scramble=scramble,
        moves_by_itself=True,
        episodes=64,
        different_starts=10,  # ball and paddle have few starting positions
    )
]


def game_state(ball, last=None, score=0, time=0):
    """The game's State of a Ball."""
    direction = DIRECTIONS.index((ball.down, ball.right))
    bricks = np.zeros((ROWS, COLUMNS), bool)
    bricks[tuple(np.array(sorted(ball.bricks), int).reshape(-1, 2).T)] = True
    numbers = (ball.row, ball.col, direction, *(last or (ball.row, ball.col)), ball.paddle)
    numbers = map(jnp.int32, numbers)
    return breakout.State(
        *numbers, jnp.asarray(bricks), jnp.bool_(ball.strike), jnp.int32(time), jnp.int32(score)
    )


@pytest.mark.parametrize("name", LEVELS)
def test_breakout_plays_like_the_rules_in_plain_python(name):
    params, rng, rules = REGISTRY[name].params, np.random.default_rng(0), compiled_rules(breakout)
    follow = jax.jit(experts.expert)
    broken = passed = reversed_ = 0
    for _ in range(8):
        first = starts(params.paddle_width)[rng.integers(len(starts(params.paddle_width)))]
        ball = first._replace(
            bricks=frozenset(cell for cell in sorted(WALL) if rng.random() < rng.random())
        )
        state = game_state(ball, score=60 - len(ball.bricks))
        for time in range(150):
            action = int(rng.integers(-1, 6)) if rng.random() < 0.3 else int(follow(state, params))
            before, (ball, points, lost) = ball, step(ball, action, params.paddle_width)
            state, reward, done, info = as_numpy(
                rules(jax.random.key(0), state, jnp.int32(action), params)
            )
            assert game_state(
                ball, (before.row, before.col), 60 - len(ball.bricks), time + 1
            )._replace(bricks=None) == (state._replace(bricks=None))
            assert {tuple(cell) for cell in np.argwhere(state.bricks).tolist()} == ball.bricks
            assert reward == pytest.approx(points * UNIT, abs=1e-6)
            assert bool(info["terminated"]) == (lost or not ball.bricks) == bool(done)
            broken += len(ball.bricks) < len(before.bricks)
            passed += ball.strike and before.strike
            reversed_ += (
                ball.row == ROWS - 2
                and ball.down < 0
                and ball.right != before.right
                and 0 < ball.col < COLUMNS - 1
            )
            if done:
                break
    assert broken > 20 and passed > 0, "too little happened to compare the rules"


@pytest.mark.parametrize("name", LEVELS)
def test_the_expert_clears_the_board_from_every_start(name):
    params = REGISTRY[name].params
    start = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *map(game_state, starts(params.paddle_width))
    )

    def one_step(carry, _):
        state, total, alive = carry
        state, reward, done, _ = breakout.step(
            jax.random.key(0), state, experts.expert(state, params), params
        )[1:]
        return (state, total + alive * reward, alive & ~done), None

    def episode(state):
        return jax.lax.scan(
            one_step, (state, jnp.float32(0), jnp.bool_(True)), length=params.max_steps_in_episode
        )[0]

    _, total, alive = jax.jit(jax.vmap(episode))(start)
    assert not np.any(alive)
    np.testing.assert_allclose(total, 1, atol=5e-6)


# --- views ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEVELS)
def test_a_bounce_off_a_brick_or_the_paddle_can_be_told_from_the_state(name):
    """The rules tell it otherwise: the ball turned and a brick broke, or it turned above row 19."""
    width, rng, happened = REGISTRY[name].params.paddle_width, np.random.default_rng(1), Counter()
    states, expected = [], []
    for _ in range(24):
        ball = starts(width)[rng.integers(len(starts(width)))]
        ball = ball._replace(bricks=frozenset(cell for cell in sorted(WALL) if rng.random() < 0.3))
        sloth = rng.random()
        for time in range(100):
            # Follow the ball with any part of the paddle, at times too slowly.
            off = ball.col + ball.right - ball.paddle - rng.integers(-1, width + 1)
            action = UP if rng.random() < sloth else RIGHT if off > 0 else LEFT
            before, (ball, _, lost) = ball, step(ball, action, width)
            broke, turned = len(ball.bricks) < len(before.bricks), ball.down != before.down
            saved = turned and not broke and before.row == ROWS - 2 and not lost
            happened["brick"] += broke
            happened["paddle"] += saved
            happened["ceiling"] += turned and ball.row == 0 and not broke
            happened["wall"] += ball.right != before.right and not saved
            happened["passed"] += ball.strike and before.strike
            happened["lost"] += lost
            states.append(game_state(ball, (before.row, before.col), time=time + 1))
            expected.append(broke or saved)
            if lost or not ball.bricks:
                break
    states = jax.tree.map(lambda *leaves: np.stack(leaves), *as_numpy(states))
    np.testing.assert_array_equal(jax.vmap(breakout.bounced)(states), expected)
    assert min(happened[what] for what in "brick paddle ceiling wall passed lost".split()) > 5


def frames_of(balls, partial_obs, **overrides):
    """The frames of (Ball, its previous cell, time), on the Hard level."""
    states = [game_state(ball, last, time=time) for ball, last, time in balls]
    states += states[:1] * (BATCH - len(states))
    states = jax.tree.map(lambda *leaves: np.stack(leaves), *as_numpy(states))
    return rendered("BreakoutHard", partial_obs, states, **overrides)[: len(balls)]


def test_the_pomdp_shows_the_ball_only_when_it_bounces_off_a_brick_or_the_paddle():
    ball = Ball(9, 4, -1, 1, paddle=3, bricks=frozenset({(1, 0), (6, 5)}))
    gone = ball._replace(row=19, col=9), (18, 8), 1  # in another place, and lost
    hidden = [
        (ball, (10, 3), 1),  # rising
        (ball._replace(down=1), (8, 3), 1),  # falling
        (ball._replace(row=0), (0, 3), 1),  # at the ceiling
        (ball._replace(col=9, right=-1), (10, 9), 1),  # at a wall
        (ball._replace(row=5, strike=True), (6, 3), 1),  # it passed a brick
        (ball._replace(row=18, down=1), (17, 3), 1),  # above the paddle, before it bounces
    ]
    frames = frames_of([gone, *hidden], True)
    np.testing.assert_array_equal(frames[1:], frames[:1].repeat(len(hidden), axis=0))
    off_brick, off_paddle = (
        ball._replace(row=7, strike=True, down=1),
        ball._replace(row=18),
    )
    shown_balls = [(off_brick, (7, 3), 1), (off_paddle, (18, 3), 1)]
    bounces = frames_of(shown_balls, True)
    assert np.all(np.any(bounces != frames[0], axis=(1, 2, 3)))
    white = np.all(bounces == np.array(draw.PALETTE["w"]), axis=-1).sum(axis=(1, 2))
    assert white[0] == white[1]  # the ball is not hollow, though it has just touched a brick
    # Nothing tells where the ball came from or where it goes.
    other_ways = [
        (ball._replace(right=-1, down=-ball.down), (ball.row, 5), 9) for ball, _, _ in shown_balls
    ]
    np.testing.assert_array_equal(frames_of(other_ways, True), bounces)


def test_the_pomdp_hides_the_bricks_after_time_0():
    ball = Ball(9, 4, -1, 1, paddle=3, bricks=frozenset({(1, 0), (6, 5)}))
    other = ball._replace(bricks=frozenset({(2, 0)}))
    frames = frames_of([(one, (10, 3), time) for time in (1, 0) for one in (ball, other)], True)
    np.testing.assert_array_equal(frames[0], frames[1])
    assert np.any(frames[2] != frames[3])


def test_the_pomdp_shows_everything_at_time_0():
    balls = [(Ball(13, 4, -1, right, paddle), (13, 4), 0) for right in (-1, 1) for paddle in (0, 5)]
    frames = frames_of(balls, True)
    np.testing.assert_array_equal(frames, frames_of(balls, False))
    later = frames_of([(ball, last, 1) for ball, last, _ in balls], True)
    assert np.all(np.any(frames != later, axis=(1, 2, 3)))


@pytest.mark.slow  # the view of edition 1
def test_with_the_flight_visible_the_pomdp_shows_the_rising_ball_with_its_tail_and_no_trail():
    rising = [Ball(9, 4, -1, right, 3, strike=strike) for right in (-1, 1) for strike in (0, 1)]
    falling = [ball._replace(down=1) for ball in rising]
    for time in (0, 1):
        frames = frames_of([(ball, (9, 4), time) for ball in rising], True, flight_hidden=False)
        no_trail = [(ball, (19, 0), time) for ball in rising]
        in_mdp = frames_of([(ball, (9, 4), time) for ball in rising], False)
        trail_color, ball_color = (np.array(draw.PALETTE[color]) for color in "sw")
        assert not np.any(np.all(frames[:, 14:110] == trail_color, axis=-1))
        np.testing.assert_array_equal(
            np.all(frames == ball_color, axis=-1), np.all(in_mdp == ball_color, axis=-1)
        )
        np.testing.assert_array_equal(frames, frames_of(no_trail, True, flight_hidden=False))
        unseen = frames_of([(ball, (9, 4), time) for ball in falling], True, flight_hidden=False)
        assert np.all(unseen == unseen[0]) and len(np.unique(frames, axis=0)) == 4
        assert not np.any(np.all(unseen[:, 14:110] == ball_color, axis=-1))
    same_mdp = frames_of([(ball, (9, 4), 1) for ball in rising], False, flight_hidden=False)
    np.testing.assert_array_equal(in_mdp, same_mdp)


# --- randomness ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEVELS)
def test_ball_direction_and_paddle_start_uniformly_and_independently(name):
    start, places = many_starts(name), 11 - REGISTRY[name].params.paddle_width
    assert np.all(start.ball_row == 13) and start.paddle.min() >= 0 and start.paddle.max() < places
    assert (
        chi_square_p(
            np.bincount(
                (start.ball_col * 2 + start.direction) * places + start.paddle,
                minlength=20 * places,
            )
        )
        > 1e-4
    )
    assert np.all(start.bricks == np.isin(np.arange(20), range(1, 7))[:, None])


# --- scripted episodes ---------------------------------------------------------------------------

HARD = breakout.Params(paddle_width=4)


def test_a_struck_brick_pays_by_its_row_and_the_next_one_is_passed():
    ball = Ball(5, 3, -1, 1, paddle=0, bricks=frozenset({(4, 4), (3, 5), (5, 5), (1, 9)}))
    script = [
        (
            UP,
            (3 - 0.4 * 3) / 120,
            dict(ball_row=5, ball_col=4, direction=breakout.DOWN_RIGHT, strike=True, score=57),
        ),
        (UP, 0, dict(ball_row=6, ball_col=5, strike=False, score=57)),
    ]
    run_script(breakout, game_state(ball, score=56), HARD, script)
    passing = ball._replace(strike=True)
    script = [
        (UP, 0, dict(ball_row=4, ball_col=4, direction=breakout.UP_RIGHT, strike=True, score=56)),
        (UP, 0, dict(ball_row=3, ball_col=5, direction=breakout.UP_RIGHT, strike=True, score=56)),
        (UP, 0, dict(ball_row=2, ball_col=6, strike=False, score=56)),
    ]
    run_script(breakout, game_state(passing, score=56), HARD, script)


def test_the_ball_turns_at_walls_and_ceiling():
    ball = Ball(1, 9, -1, 1, paddle=0, bricks=frozenset({(6, 0)}))
    script = [
        (UP, 0, dict(ball_row=0, ball_col=9, direction=breakout.UP_LEFT)),
        (UP, 0, dict(ball_row=0, ball_col=8, direction=breakout.DOWN_LEFT, last_row=0, last_col=9)),
        (UP, 0, dict(ball_row=1, ball_col=7, direction=breakout.DOWN_LEFT)),
    ]
    run_script(breakout, game_state(ball), HARD, script)


def test_bricks_are_not_touched_at_the_ceiling():
    ball = Ball(0, 8, -1, 1, paddle=0, bricks=frozenset({(0, 9), (6, 0)}))  # not reachable by play
    script = [
        (UP, 0, dict(ball_row=0, ball_col=9, direction=breakout.DOWN_RIGHT, strike=False, score=58))
    ]
    run_script(breakout, game_state(ball, score=58), HARD, script)


def test_the_paddle_mirrors_reverses_or_loses_the_ball():
    ball = Ball(18, 5, 1, 1, paddle=3, bricks=frozenset({(1, 0), (1, 1)}))
    saved = dict(ball_row=18, ball_col=6, direction=breakout.UP_RIGHT)
    run_script(breakout, game_state(ball), HARD, [(FIRE, 0, saved)])
    run_script(
        breakout, game_state(ball._replace(paddle=6)), HARD, [(LEFT, 0, saved)]
    )  # the paddle moves first
    turned = dict(ball_row=18, ball_col=6, direction=breakout.UP_LEFT)
    run_script(breakout, game_state(ball._replace(paddle=6)), HARD, [(FIRE, 0, turned)])
    lost = dict(ball_row=19, ball_col=6, terminated=True, discount=0.0)
    run_script(breakout, game_state(ball._replace(paddle=0)), HARD, [(FIRE, -2 / 60, lost)])


def test_the_last_brick_ends_the_game_also_on_the_last_step():
    ball = Ball(5, 3, -1, 1, paddle=0, bricks=frozenset({(4, 4)}))
    won = dict(score=60, terminated=True, discount=0.0)
    run_script(breakout, game_state(ball, score=59), HARD, [(UP, (3 - 0.4 * 3) / 120, won)])
    last = dict(won, truncated=True, time=2000)
    run_script(
        breakout, game_state(ball, score=59, time=1999), HARD, [(UP, (3 - 0.4 * 3) / 120, last)]
    )


def test_the_paddle_stops_at_both_walls():
    ball = Ball(13, 5, -1, 1, paddle=1)
    script = [
        (LEFT, 0, dict(paddle=0)),
        (LEFT, 0, dict(paddle=0)),
        (RIGHT, 0, dict(paddle=1)),
        (-3, 0, dict(paddle=1)),
    ]
    run_script(breakout, game_state(ball), HARD, script)
    run_script(
        breakout,
        game_state(ball._replace(paddle=6)),
        HARD,
        [(RIGHT, 0, dict(paddle=6)), (LEFT, 0, dict(paddle=5))],
    )
