"""Tests of CartPole and NoisyCartPole: physics, views and noise, and their Cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from popgym_arcade import REGISTRY, make
from popgym_arcade import render as draw
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
        is_discrete=False,
        perfect_play_lasts=True,
        moves_by_itself=True,
    )
    for game, limits, sigmas in [
        (cartpole.NAME, (600, 800, 1000), (0.0, 0.0, 0.0)),
        (cartpole.NOISY_NAME, (200, 200, 200), (0.1, 0.2, 0.3)),
    ]
]


# --- views ---------------------------------------------------------------------------------------

SMALL_CHANGES = {"x": 3e-3, "theta": 2e-3, "x_dot": 0.03, "theta_dot": 0.03}
RANGES = {"x": cartpole.X_LIMIT, "theta": cartpole.THETA_LIMIT}
EVERY_NAME = pytest.mark.parametrize("name", LEVELS + NOISY_LEVELS)
EVERY_VARIABLE = pytest.mark.parametrize(("variable", "change"), SMALL_CHANGES.items())


def changes(name, partial_obs, state, changed, **overrides):
    """Which of the frames of two batches of states differ: bool[count]."""
    frames = (rendered(name, partial_obs, states, **overrides) for states in (state, changed))
    return np.any(np.not_equal(*frames), axis=(1, 2, 3))


def with_visible_velocities(state, noise=0.0):
    """The states of an environment with velocities_hidden=False; noise: a number, or float[4]."""
    return state._replace(noise=np.full((len(state.time), 4), noise, np.float32))


@EVERY_NAME
@EVERY_VARIABLE
def test_a_small_change_of_the_cart_changes_some_pixel_where_it_is_shown(name, variable, change):
    state = some_states(name, 512)
    state = state._replace(time=np.arange(512, dtype=np.int32) % 2)  # time 0 is no exception
    changed = state._replace(**{variable: getattr(state, variable) + change})
    limit = RANGES.get(variable, np.inf) - change
    in_range = np.abs(getattr(state, variable)) < limit
    assert np.all(changes(name, False, state, changed)[in_range]) and np.mean(in_range) > 0.9
    in_pomdp = changes(name, True, state, changed)
    if variable in ("x_dot", "theta_dot"):
        assert not np.any(in_pomdp)
    else:
        noise = state.noise[:, ["x", "theta"].index(variable)]
        in_range = np.abs(getattr(state, variable) + noise) < limit
        assert np.all(in_pomdp[in_range]) and np.mean(in_range) > 0.25


@pytest.mark.slow  # the view of edition 1
@pytest.mark.parametrize("name", ["CartPoleEasy", "NoisyCartPoleEasy"])
@EVERY_VARIABLE
def test_with_visible_velocities_the_pomdp_shows_only_the_gauges_after_time_0(
    name, variable, change
):
    old = {"velocities_hidden": False}
    start = with_visible_velocities(some_states(name, BATCH))
    start = start._replace(time=np.zeros_like(start.time))
    changed = start._replace(**{variable: getattr(start, variable) + change})
    np.testing.assert_array_equal(
        rendered(name, True, start, **old), rendered(name, False, start, **old)
    )
    assert np.all(changes(name, True, start, changed, **old))
    later, later_changed = (states._replace(time=1 + states.time) for states in (start, changed))
    gauges = slice(0, 14 + 21)
    np.testing.assert_array_equal(
        rendered(name, True, later, **old)[:, gauges],
        rendered(name, False, later, **old)[:, gauges],
    )
    shown = variable in ("x_dot", "theta_dot")
    assert np.all(changes(name, True, later, later_changed, **old) == shown)


@EVERY_NAME
def test_the_pomdp_has_no_gauges_and_otherwise_the_pixels_of_the_mdp(name):
    state = some_states(name, 64)
    silent = state._replace(noise=np.zeros_like(state.noise))
    frames, in_mdp = rendered(name, True, silent), rendered(name, False, silent)
    gauges, rest = slice(14, 14 + 21), slice(14 + 21, 128)
    assert np.all(frames[:, gauges] == np.array(draw.PALETTE[draw.BACKGROUND]))
    np.testing.assert_array_equal(frames[:, rest], in_mdp[:, rest])


@pytest.mark.parametrize("name", ["CartPoleEasy", "NoisyCartPoleEasy"])
def test_the_noise_moves_the_drawing_of_the_pomdp_alone_and_within_the_range(name):
    functions, state = compiled(name), some_states(name, BATCH)
    silent = state._replace(noise=np.zeros_like(state.noise))
    noisy = state._replace(noise=np.full_like(state.noise, [0.5, 0.05]))
    assert not np.any(changes(name, False, silent, noisy))
    assert np.all(changes(name, True, silent, noisy))
    moved = silent._replace(x=state.x + np.float32(0.5), theta=state.theta + np.float32(0.05))
    np.testing.assert_array_equal(rendered(name, True, noisy), rendered(name, True, moved))
    outside = state._replace(noise=np.full_like(state.noise, [-9, 9]))
    at_limit = silent._replace(
        x=np.full_like(state.x, -cartpole.X_LIMIT),
        theta=np.full_like(state.theta, cartpole.THETA_LIMIT),
    )
    np.testing.assert_array_equal(rendered(name, True, outside), rendered(name, True, at_limit))
    stepped, noisy_stepped = (
        functions.step_env(keys(0), s, jnp.full(BATCH, LEFT), functions.params)[1]
        for s in (silent, noisy)
    )
    assert_same(stepped, noisy_stepped)


def test_with_visible_velocities_the_noise_moves_all_four_variables():
    name, old = "NoisyCartPoleEasy", {"velocities_hidden": False}
    for time in (0, 1):
        state = with_visible_velocities(some_states(name, BATCH))
        state = state._replace(time=np.full_like(state.time, time))
        noise = np.array([0.5, 0.3, 0.05, -0.4], np.float32)
        moved = state._replace(
            **{
                variable: getattr(state, variable) + by
                for variable, by in zip(("x", "x_dot", "theta", "theta_dot"), noise)
            }
        )
        noisy = with_visible_velocities(state, noise)
        frames, moved_frames = (rendered(name, True, s, **old) for s in (noisy, moved))
        np.testing.assert_array_equal(frames, moved_frames)
        assert np.all(changes(name, True, state, noisy, **old))
        assert not np.any(changes(name, False, state, noisy, **old))


@pytest.mark.parametrize(("hidden", "shape"), [(True, (2,)), (False, (4,))])
def test_the_noise_has_one_number_for_each_variable_that_can_be_drawn(hidden, shape):
    env, params = make("NoisyCartPoleEasy", velocities_hidden=hidden)
    _, start = jax.eval_shape(env.reset, jax.random.key(0), params)
    _, state, *_ = jax.eval_shape(env.step, jax.random.key(0), start, jnp.int32(0), params)
    assert start.noise.shape == state.noise.shape == shape
    noise = np.asarray(jax.vmap(cartpole.draw_noise, in_axes=(0, None))(keys(0, 10_000), params))
    assert all(stats.kstest(one / np.float32(0.1), "norm").pvalue > 1e-4 for one in noise.T)
    assert np.all(np.abs(np.corrcoef(noise.T) - np.eye(*shape * 2)) < 0.05)


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
    assert np.all(np.abs(np.corrcoef(start.noise.T) - np.eye(2)) < 0.05)
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
    return cartpole.State(*values, noise=jnp.zeros(2), time=jnp.int32(time), score=jnp.int32(time))


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
