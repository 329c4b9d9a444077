"""Tests of CartPole's player: its measurements, its filter and its key."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from popgym_arcade import REGISTRY
from popgym_arcade.games import cartpole
from popgym_arcade.memory.player import HIDDEN
from popgym_arcade.memory.players.cartpole import PLAYER, Belief, _measured, _within
from popgym_arcade.registry import NO_ACTION, Action

MDP = REGISTRY["NoisyCartPoleEasy"].params
POMDP = dataclasses.replace(MDP, partial_obs=True)


def cart_state(values, noise=(0.0, 0.0), time=1):
    time = jnp.int32(time)
    return cartpole.State(*map(jnp.float32, values), jnp.array(noise), time=time, score=time)


def test_the_mdp_tells_all_four_variables_and_the_pomdp_two_of_them_with_noise():
    values = (0.5, -1.5, 0.1, 0.7)
    x, theta, x_dot, theta_dot = _measured(PLAYER.shown(cart_state(values), MDP), MDP)
    np.testing.assert_allclose((x, x_dot, theta, theta_dot), values, atol=0.01)
    shown = PLAYER.shown(cart_state(values, (0.2, 9.0)), POMDP)
    np.testing.assert_allclose(
        _measured(shown, POMDP), (0.7, cartpole.THETA_LIMIT, 0, 0), atol=0.01
    )
    assert shown.cart_gauge == shown.pole_gauge == HIDDEN


def test_one_frame_of_the_mdp_tells_recall_the_state():
    values = np.array([-0.8, 1.2, -0.15, 0.9])
    shown = PLAYER.shown(cart_state(values), MDP)
    remember = jax.jit(PLAYER.remember)
    memory = remember(PLAYER.begin(MDP), jnp.int32(NO_ACTION), shown, MDP)
    np.testing.assert_allclose(memory.mean, values, atol=0.01)


def test_recall_infers_the_velocities_and_knows_how_well():
    def one_step(carry, key):
        state, memory, action = carry
        memory = PLAYER.remember(memory, action, PLAYER.shown(state, POMDP), POMDP)
        action = PLAYER.act(memory, POMDP)
        errors = (memory.mean - jnp.stack(state[:4])) / jnp.sqrt(jnp.diag(memory.covariance))
        state = cartpole.advance(state, cartpole.push(action, POMDP), POMDP)
        state = state._replace(noise=cartpole.draw_noise(key, POMDP))
        return (state, memory, action), errors

    def episode(key):
        start = cart_state(jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05))
        start = start._replace(noise=cartpole.draw_noise(key, POMDP))
        carry = start, PLAYER.begin(POMDP), jnp.int32(NO_ACTION)
        return jax.lax.scan(one_step, carry, jax.random.split(key, 60))[1]

    errors = jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(0), 64))
    spread = np.sqrt(np.mean(errors[:, 20:] ** 2, axis=(0, 1)))
    assert np.all(spread < 1.3) and np.all(spread > 0.7)


def test_knowing_only_that_a_measurement_lies_between_two_values():
    belief = Belief(jnp.array([0.1, 0.0, 0.0, 0.0]), 0.04 * jnp.eye(4))
    for low, high in [(-0.2, 0.2), (0.3, np.inf), (-np.inf, 0.0), (-9.0, 9.0)]:
        learned = _within(belief, 0, low, high, 0.0)
        expected = stats.truncnorm((low - 0.1) / 0.2, (high - 0.1) / 0.2, loc=0.1, scale=0.2)
        np.testing.assert_allclose(learned.mean[0], expected.mean(), atol=1e-4)
        np.testing.assert_allclose(learned.covariance[0, 0], expected.var(), atol=1e-4)


def test_the_key_is_in_range():
    rng = np.random.default_rng(0)
    scale = np.array([1.5, 1.0, 0.1, 1.0])
    for params in (POMDP, dataclasses.replace(POMDP, velocities_hidden=False)):
        noise = np.zeros(2 if params.velocities_hidden else 4, np.float32)
        values = (rng.normal(size=(500, 4)) * scale).astype(np.float32)

        def key_of(values, params=params, noise=noise):
            return PLAYER.key(PLAYER.shown(cart_state(values, noise), params), params)

        keys = np.asarray(jax.jit(jax.vmap(key_of))(values))
        assert keys.min() >= 0 and keys.max() < PLAYER.num_keys(params)
        assert len(np.unique(keys)) > 30


def test_the_clocked_reflex_pushes_to_the_side_of_the_lean_and_seldom_at_a_small_one():
    reflex = PLAYER.reflexes["by the clock"]

    def pushes(theta):
        shown = [PLAYER.shown(cart_state((0, 0, theta, 0), time=t), POMDP) for t in range(8)]
        return [int(reflex(one, POMDP)) for one in shown]

    small, large = pushes(0.05), pushes(0.19)
    assert 0 < small.count(Action.RIGHT) < large.count(Action.RIGHT)
    assert Action.LEFT not in small + large
