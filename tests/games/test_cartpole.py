"""Tests of CartPole and NoisyCartPole: physics, views and noise, and their Cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from popgym_arcade import REGISTRY
from popgym_arcade.games import cartpole
from tests.testing import (
    BATCH,
    DOWN,
    FIRE,
    LEFT,
    RIGHT,
    UP,
    Case,
    assert_same,
    compiled,
    keys,
    many_starts,
    rendered,
    run_script,
    some_states,
)

LEVELS = [cartpole.NAME + level for level in cartpole.LEVELS]
NOISY_LEVELS = [cartpole.NOISY_NAME + level for level in cartpole.NOISY_LEVELS]


def fewest_survived(start, params, horizon=10):
    """The fewest steps survived by any sequence of pushes, trying all: int[episodes]."""
    sequences = np.stack(np.meshgrid(*[[LEFT, FIRE, RIGHT]] * horizon, indexing="ij"), -1).reshape(
        -1, horizon
    )

    def survived(state, actions):
        def push(carry, action):
            state, alive = carry
            state = cartpole.advance(state, cartpole.push(action, params), params)
            alive = alive & cartpole.in_range(state)
            return (state, alive), alive

        return jnp.sum(jax.lax.scan(push, (state, jnp.bool_(True)), actions)[1])

    fewest = jax.jit(lambda state: jnp.min(jax.vmap(survived, in_axes=(None, 0))(state, sequences)))
    some = [int(fewest(jax.tree.map(lambda leaf, i=i: leaf[i], start))) for i in range(16)]
    assert max(some) < horizon
    return np.array(some)


def worst_return(start, params):
    """The reward for the steps that every sequence of pushes survives, for a few states."""
    return fewest_survived(start, params) / params.max_steps_in_episode


CASES = [
    Case(
        game=game,
        levels={"max_steps_in_episode": limits, "noise_sigma": sigmas},
        best_return=lambda start, params: np.ones(start.time.shape),
        worst_return=worst_return,
        lowest_return=0,
        perfect_play_lasts=True,
        moves_by_itself=True,
    )
    for game, limits, sigmas in [
        (cartpole.NAME, (200, 400, 600), (0.0, 0.0, 0.0)),
        (cartpole.NOISY_NAME, (200, 200, 200), (0.1, 0.2, 0.3)),
    ]
]


# --- views ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEVELS + NOISY_LEVELS)
@pytest.mark.parametrize(
    ("variable", "change", "hidden"),
    [("x", 3e-3, True), ("theta", 2e-3, True), ("x_dot", 0.03, False), ("theta_dot", 0.03, False)],
)
def test_a_small_change_of_the_cart_changes_some_pixel_where_it_is_shown(
    name, variable, change, hidden
):
    state = some_states(name, 512)
    state = state._replace(time=np.maximum(state.time, 1))
    changed = state._replace(**{variable: getattr(state, variable) + change})

    def differs(partial_obs, one, other):
        frames = (rendered(name, partial_obs, states) for states in (one, other))
        return np.any(np.not_equal(*frames), axis=(1, 2, 3))

    in_view = np.abs(
        np.asarray(
            getattr(state, variable)
            + state.noise[:, "x x_dot theta theta_dot".split().index(variable)]
        )
    )
    limit = {"x": cartpole.X_LIMIT, "theta": cartpole.THETA_LIMIT}.get(variable, np.inf) - change
    in_mdp, in_pomdp = differs(False, state, changed), differs(True, state, changed)
    assert np.all(in_mdp[in_view < limit]) and np.mean(in_view < limit) > 0.25
    assert not np.any(in_pomdp) if hidden else np.all(in_pomdp)
    start, changed_start = (
        states._replace(time=np.zeros_like(state.time)) for states in (state, changed)
    )
    assert np.array_equal(
        differs(True, start, changed_start), in_mdp
    )  # at time 0 the POMDP shows everything


@pytest.mark.parametrize("name", ["CartPoleEasy", "NoisyCartPoleEasy"])
def test_the_noise_is_drawn_and_does_not_move_the_cart(name):
    functions = compiled(name)
    state = some_states(name, BATCH)
    noisy = state._replace(noise=state.noise + jnp.array([0.5, 0.5, 0.05, 0.5]))
    assert not np.array_equal(*(rendered(name, False, states) for states in (state, noisy)))
    moved, noisy_moved = (
        functions.step_env(keys(0), s, jnp.full(BATCH, LEFT), functions.params)[1]
        for s in (state, noisy)
    )
    assert_same(moved, noisy_moved)


# --- randomness ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["CartPoleEasy", "NoisyCartPoleEasy", "NoisyCartPoleMedium", "NoisyCartPoleHard"]
)
def test_the_cart_starts_uniformly_and_the_noise_is_normal_and_new_on_every_step(name):
    start, sigma = many_starts(name), REGISTRY[name].params.noise_sigma
    for value in start[:4]:
        assert stats.kstest(value, "uniform", (-0.05, 0.1)).pvalue > 1e-4
    functions = compiled(name)
    first = jax.tree.map(lambda leaf: leaf[:BATCH], start)
    stepped = functions.step_env(keys(8), first, jnp.full(BATCH, UP), functions.params)[1]
    if sigma == 0:
        assert not start.noise.any() and not np.asarray(stepped.noise).any()
        return
    assert all(
        stats.kstest(noise / np.float32(sigma), "norm").pvalue > 1e-4 for noise in start.noise.T
    )
    assert np.all(np.abs(np.corrcoef(start.noise.T) - np.eye(4)) < 0.05)
    assert not np.any(np.asarray(stepped.noise) == first.noise)


# --- scripted episodes ---------------------------------------------------------------------------


def cart_reference(state, force):
    """The physics in another form: the equations of motion as a linear system, in float64."""
    x, x_dot, theta, theta_dot = (float(value) for value in state[:4])
    gravity, cart, pole, half, tau = 9.8, 1.0, 0.1, 0.5, 0.02
    # (M + m) x'' + m l cos(theta) theta'' = F + m l theta'^2 sin(theta);  cos(theta) x'' + 4/3 l
    # theta'' = g sin(theta)
    matrix = [[cart + pole, pole * half * np.cos(theta)], [np.cos(theta), 4 / 3 * half]]
    right = [force + pole * half * theta_dot**2 * np.sin(theta), gravity * np.sin(theta)]
    x_acceleration, theta_acceleration = np.linalg.solve(matrix, right)
    return (
        x + tau * x_dot,
        x_dot + tau * x_acceleration,
        theta + tau * theta_dot,
        theta_dot + tau * theta_acceleration,
    )


def cart_state(x=0.0, x_dot=0.0, theta=0.0, theta_dot=0.0, time=0):
    values = map(jnp.float32, (x, x_dot, theta, theta_dot))
    return cartpole.State(*values, noise=jnp.zeros(4), time=jnp.int32(time), score=jnp.int32(time))


@pytest.mark.parametrize(
    ("action", "force"), [(LEFT, -10), (RIGHT, 10), (UP, 0), (DOWN, 0), (FIRE, 0), (7, 0)]
)
def test_the_cart_follows_the_equations_of_motion(action, force):
    rng = np.random.default_rng(action)
    for _ in range(20):
        state = cart_state(*rng.uniform([-2, -2, -0.2, -2], [2, 2, 0.2, 2]))
        _, moved, *_ = cartpole.step(jax.random.key(0), state, action, cartpole.Params())
        np.testing.assert_allclose(moved[:4], cart_reference(state, force), rtol=1e-4, atol=1e-5)


def test_the_cart_is_paid_for_each_step_that_ends_in_range_and_not_for_the_fatal_one():
    params = cartpole.Params(max_steps_in_episode=200)
    alive, fatal = (
        (1 / 200, dict(score=1, time=1, discount=1.0)),
        (0, dict(score=0, terminated=True, discount=0.0)),
    )
    limit_x, limit_theta = 2.4, 12 * np.pi / 180
    for start, outcome in [
        (cart_state(x=limit_x - 0.03, x_dot=1.0), alive),
        (cart_state(x=limit_x - 0.01, x_dot=1.0), fatal),
        (cart_state(x=-limit_x + 0.01, x_dot=-1.0), fatal),
        (cart_state(x=-limit_x - 0.01, x_dot=1.0), alive),  # only the state after the step counts
        (cart_state(theta=limit_theta - 0.03, theta_dot=1.0), alive),
        (cart_state(theta=limit_theta - 0.01, theta_dot=1.0), fatal),
        (cart_state(theta=-limit_theta + 0.01, theta_dot=-1.0), fatal),
    ]:
        run_script(cartpole, start, params, [(UP, *outcome)])
    last = dict(score=200, time=200, truncated=True, discount=1.0)
    run_script(cartpole, cart_state(time=199), params, [(UP, 1 / 200, last)])
    both = dict(score=199, truncated=True, terminated=True, discount=0.0)
    run_script(cartpole, cart_state(x=2.4, x_dot=1.0, time=199), params, [(UP, 0, both)])
