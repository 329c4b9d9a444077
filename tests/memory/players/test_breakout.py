"""Tests of Breakout's player: what its frames show, its key and its recall."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import REGISTRY
from popgym_arcade.games import breakout
from popgym_arcade.memory.player import HIDDEN
from popgym_arcade.memory.players.breakout import PLAYER, _landing
from popgym_arcade.registry import NO_ACTION

MDP = REGISTRY["BreakoutEasy"].params
POMDP = dataclasses.replace(MDP, partial_obs=True)


def start_of(number):
    """The numberth of the 100 starts of an episode."""
    place, paddle = divmod(number, 5)
    direction, col = divmod(place, breakout.COLUMNS)
    row, zero = jnp.int32(breakout.START_ROW), jnp.int32(0)
    wall = np.isin(np.arange(breakout.ROWS), breakout.BRICK_ROWS)[:, None]
    bricks = jnp.asarray(wall & np.ones(breakout.COLUMNS, bool))
    return breakout.State(
        row, col, direction, row, col, paddle, bricks, jnp.bool_(False), time=zero, score=zero
    )


def advance(state, action):
    """The next state."""
    state, _ = breakout.fly(breakout.move_paddle(state, action, MDP))
    state, _ = breakout.meet_paddle(state, MDP)
    return state._replace(time=state.time + 1)


@cache
def some_states():
    """Starts, the states of 12 steps of random play from each, and the actions before these."""

    def episode(start, actions):
        def one_step(state, action):
            state = advance(state, action)
            return state, state

        return jax.lax.scan(one_step, start, actions)[1]

    starts = jax.vmap(start_of)(jnp.arange(100))
    actions = np.random.default_rng(0).integers(2, 4, (100, 12)).astype(np.int32)
    return starts, jax.jit(jax.vmap(episode))(starts, actions), actions


def test_recall_knows_the_ball_that_the_frames_hide():
    start, states, actions = some_states()

    def follow(start, states, actions):
        first = PLAYER.shown(start, POMDP)
        memory = PLAYER.remember(PLAYER.begin(POMDP), jnp.int32(NO_ACTION), first, POMDP)

        def one_step(memory, step):
            state, action = step
            memory = PLAYER.remember(memory, action, PLAYER.shown(state, POMDP), POMDP)
            return memory, memory._replace(time=state.time)

        return jax.lax.scan(one_step, memory, (states, actions))[1]

    believed = jax.jit(jax.vmap(follow))(start, states, actions)
    jax.tree.map(np.testing.assert_array_equal, believed, states)
    hidden = jax.vmap(jax.vmap(lambda state: PLAYER.shown(state, POMDP).row == HIDDEN))(states)
    assert 0.5 < np.mean(hidden) < 1


def test_the_tail_tells_where_the_ball_comes_down_after_its_first_brick():
    start = jax.vmap(start_of)(jnp.arange(0, 100, 5))

    def lands(state):
        def fly(carry, _):
            state, col = carry
            state, _ = breakout.fly(state)
            arrives = (state.ball_row == breakout.PADDLE_ROW - 1) & (col == HIDDEN)
            return (state, jnp.where(arrives, state.ball_col, col)), None

        return jax.lax.scan(fly, (state, jnp.int32(HIDDEN)), length=18)[0][1]

    told = jax.jit(jax.vmap(lambda state: _landing(PLAYER.shown(state, MDP))))(start)
    np.testing.assert_array_equal(told, jax.jit(jax.vmap(lands))(start))


def test_the_key_is_in_range():
    for params in (POMDP, dataclasses.replace(POMDP, flight_hidden=False)):
        _, states, _ = some_states()
        key = jax.vmap(jax.vmap(lambda state, p=params: PLAYER.key(PLAYER.shown(state, p), p)))
        keys = np.asarray(jax.jit(key)(states))
        assert keys.min() >= 0 and keys.max() < PLAYER.num_keys(params)
        assert len(np.unique(keys)) > 20
