"""Tests of the gymnax adapter against the installed gymnax, its own wrappers, and rejax.

The installed gymnax is 1.x or stable-gymnax.
"""

import copy
import pickle
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade import REGISTERED_ENVIRONMENTS, make, wrappers
from tests.testing import client

client("gymnax")

from gymnax import wrappers as gymnax_wrappers  # noqa: E402, because gymnax may be missing
from gymnax.environments import environment, spaces  # noqa: E402

from popgym_arcade.adapters import gymnax as adapter  # noqa: E402
from popgym_arcade.adapters.gymnax import SIX_VALUES, to_gymnax  # noqa: E402

LIMIT, STEPS, NUM_ENVS = 5, 24, 4
needs_six_values = pytest.mark.skipif(not SIX_VALUES, reason="stable-gymnax has no such wrapper")


@cache
def short_game():
    """A Navigator whose episodes last at most LIMIT steps, often fewer."""
    return make("NavigatorEasy", board_size=4, max_steps_in_episode=LIMIT, final_observation=True)


@cache
def adapted():
    """The short game as gymnax sees it, and its params."""
    env, params = short_game()
    return to_gymnax(env, params), params


def rollout(env, params):
    """Play randomly: (what reset returned, what the steps returned), NumPy leaves [STEPS, ...]."""

    @jax.jit
    def play(key):
        reset_key, actions_key, steps_key = jax.random.split(key, 3)
        first = env.reset(reset_key, params)
        actions = jax.random.randint(actions_key, (STEPS,), 0, 5)

        def body(state, key_and_action):
            transition = env.step(key_and_action[0], state, key_and_action[1], params)
            return transition[1], transition

        return first, jax.lax.scan(body, first[1], (jax.random.split(steps_key, STEPS), actions))[1]

    return jax.tree.map(np.asarray, play(jax.random.key(1)))


@cache
def native():
    """Random play of the environment of ``make``: (observation, state, reward, done, info)."""
    return rollout(*short_game())[1]


def assert_same(first, second):
    """Compare the leaves of two trees, bit by bit."""
    first, second = jax.tree.leaves(first), jax.tree.leaves(second)
    assert len(first) == len(second) > 0
    for a, b in zip(first, second):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def done_of(transition):
    """Whether each step of a rollout ended an episode, with either gymnax."""
    return transition[3] | transition[4] if SIX_VALUES else transition[3]


def test_it_is_an_environment_of_gymnax_with_spaces_of_gymnax():
    env, params = adapted()
    assert isinstance(env, environment.Environment)
    assert (env.name, env.num_actions, env.default_params) == ("NavigatorEasy", 5, params)
    action_space, observation_space = env.action_space(params), env.observation_space()
    assert isinstance(action_space, spaces.Discrete) and action_space.n == 5
    assert isinstance(observation_space, spaces.Box)
    assert (observation_space.low, observation_space.high) == (0, 255)
    assert (observation_space.shape, observation_space.dtype) == ((128, 128, 3), jnp.uint8)


def test_it_plays_as_the_environment_inside_with_the_same_keys():
    _, transition = rollout(*adapted())
    observation, state, reward, done, info = native()
    assert_same(transition[:3], (observation, state, reward))
    flags = (info["terminated"], info["truncated"]) if SIX_VALUES else (done,)
    assert_same(transition[3:-1], flags)
    assert_same(
        [
            transition[-1][name]
            for name in sorted(info)
            if SIX_VALUES or name != "final_observation"
        ],
        [info[name] for name in sorted(info) if SIX_VALUES or name != "final_observation"],
    )
    assert info["terminated"].any() and info["truncated"].any()


def test_an_episode_begins_as_that_of_the_environment_inside():
    assert_same(rollout(*adapted())[0], rollout(*short_game())[0])


@needs_six_values
def test_the_final_observation_is_drawn_only_where_it_is_used():
    env, params = adapted()
    plain, _ = make("NavigatorEasy", board_size=4, max_steps_in_episode=LIMIT)

    def flops(step, pick):
        """The arithmetic of a compiled step of which only picked results are kept."""
        key, (_, state) = jax.random.key(0), plain.reset(jax.random.key(0), params)
        picked = jax.jit(lambda key, state: pick(step(key, state, jnp.int32(0), params)))
        return picked.lower(key, state).compile().cost_analysis()["flops"]

    without = flops(env.step, lambda transition: transition[:5])
    with_it = flops(
        env.step, lambda transition: (transition[:5], transition[5]["final_observation"])
    )
    assert without <= 1.01 * flops(plain.step, lambda transition: transition[:4]) < 0.8 * with_it


def test_the_parts_that_gymnax_calls_are_those_of_the_environment():
    env, params = adapted()
    inner, _ = short_game()
    key = jax.random.key(2)
    observation, state = env.reset_env(key, params)
    assert_same((observation, state), inner.reset(key, params))
    assert_same(env.get_obs(state, params), observation)
    assert_same(env.render(state), observation)
    transition = env.step_env(key, state, jnp.int32(1), params)
    expected = inner.step_env(key, state, jnp.int32(1), params)
    assert_same(transition[:3], expected[:3])
    assert bool(transition[3]) == bool(expected[4]["terminated"] if SIX_VALUES else expected[3])
    assert not env.is_truncated(state, params) and env.is_truncated(
        state._replace(time=jnp.int32(LIMIT)), params
    )


@pytest.mark.parametrize("name", REGISTERED_ENVIRONMENTS)
@pytest.mark.parametrize("partial_obs", [False, True])
def test_every_environment_has_the_shapes_that_its_spaces_say(name, partial_obs):
    env, params = make(name, partial_obs=partial_obs)
    env = to_gymnax(env, params)
    key = jax.random.key(0)
    observation, state = jax.eval_shape(env.reset, key)
    transition = jax.eval_shape(env.step, key, state, jnp.int32(0))
    space = env.observation_space()
    for seen in (observation, transition[0]):
        assert (seen.shape, seen.dtype) == (space.shape, space.dtype)
    assert transition[1] == state and len(transition) == (6 if SIX_VALUES else 5)


def test_our_wrappers_may_be_inside():
    env, params = short_game()
    inner = wrappers.frame_stack(wrappers.both_views(wrappers.log_episodes(env)), 2)
    env = to_gymnax(inner, params)
    (first, _), transition = rollout(env, params)
    assert first["full"].shape == (128, 128, 6) and done_of(transition).any()
    assert transition[0]["partial"].shape == (STEPS, 128, 128, 6)
    begun = transition[0]["full"][done_of(transition)]
    np.testing.assert_array_equal(begun[..., :3], begun[..., 3:])
    space = env.observation_space(params)
    assert isinstance(space, spaces.Dict) and space.spaces["full"].shape == (128, 128, 6)


def test_the_old_form_can_be_asked_for():
    env, params = short_game()
    _, transition = rollout(to_gymnax(env, params, six_values=False), params)
    assert_same(transition[:4], native()[:4])


# --- gymnax's own wrappers -----------------------------------------------------------------------


def test_gymnaxs_log_counts_as_ours_does():
    env, params = adapted()
    _, transition = rollout(gymnax_wrappers.LogWrapper(env), params)
    ours = rollout(wrappers.log_episodes(short_game()[0]), params)[1][4]
    for name in ("returned_episode", "returned_episode_returns", "returned_episode_lengths"):
        np.testing.assert_allclose(transition[-1][name], ours[name], rtol=1e-6)
    assert ours["returned_episode"].any()


def test_gymnax_flattens_the_observations():
    env, params = adapted()
    flat = gymnax_wrappers.FlattenObservationWrapper(env)
    (first, _), transition = rollout(flat, params)
    assert first.shape == flat.observation_space(params).shape == (128 * 128 * 3,)
    assert_same(transition[0].reshape(native()[0].shape), native()[0])


@needs_six_values
def test_gymnaxs_sticky_actions_stick():
    env, params = adapted()
    _, always = rollout(gymnax_wrappers.StickyActionWrapper(env, 1.0), params)
    _, never = rollout(gymnax_wrappers.StickyActionWrapper(env, 0.0), params)
    assert_same(never[0], native()[0])
    assert (always[1].last_action == 0).all()


def test_gymnaxs_gym_environment_plays():
    env, params = adapted()
    gym_env = gymnax_wrappers.GymnaxToGymWrapper(env, params, seed=3)
    observation, _ = gym_env.reset(seed=3)
    ends = 0
    for step in range(3 * LIMIT):
        assert gym_env.observation_space.contains(np.asarray(observation))
        observation, reward, *flags, info = gym_env.step(step % 5)
        ends += bool(np.any(flags[:2]))
        assert np.asarray(gym_env.render()).shape == (128, 128, 3)
    assert ends >= 3 and gym_env.action_space.n == 5


def test_gymnaxs_vector_environment_plays():
    env, params = adapted()
    vector = gymnax_wrappers.GymnaxToVectorGymWrapper(env, num_envs=NUM_ENVS, params=params, seed=3)
    observations, _ = vector.reset(seed=3)
    for step in range(2 * LIMIT):
        observations, rewards, *flags, _ = vector.step(jnp.full(NUM_ENVS, step % 5))
    assert observations.shape == vector.observation_space.shape == (NUM_ENVS, 128, 128, 3)
    assert rewards.shape == flags[0].shape == (NUM_ENVS,)


def test_make_takes_the_options_of_ours_and_a_wrap():
    env, params = adapter.make(
        "NavigatorEasy", partial_obs=True, board_size=4, wrap=lambda env: wrappers.resize(env, 8, 8)
    )
    expected, expected_params = make("NavigatorEasy", partial_obs=True, board_size=4)
    assert env == to_gymnax(wrappers.resize(expected, 8, 8), expected_params)
    assert params == expected_params == env.default_params
    space = env.observation_space(params)
    assert isinstance(space, spaces.Box) and space.shape == (8, 8, 3)
    _, state = env.reset(jax.random.key(0), params)
    five_values, _ = adapter.make("NavigatorEasy", six_values=False)
    for made, values in ((env, 6 if SIX_VALUES else 5), (five_values, 5)):
        stepped = jax.eval_shape(made.step, jax.random.key(0), state, 0, params)
        assert len(stepped) == values


def test_equal_environments_are_equal_and_can_be_copied_and_pickled():
    env, params = make("NavigatorEasy", partial_obs=True, max_steps_in_episode=9)
    adapted = to_gymnax(wrappers.log_episodes(env), params)
    same = to_gymnax(wrappers.log_episodes(env), params)
    for other in (same, copy.copy(adapted), pickle.loads(pickle.dumps(adapted))):
        assert other == adapted and hash(other) == hash(adapted)
        assert other.default_params == params
    assert adapted != to_gymnax(env, params)
    assert adapted != to_gymnax(wrappers.log_episodes(env), params, not SIX_VALUES)


@needs_six_values
def test_gymnaxs_old_form_returns_five_values():
    env, params = adapted()
    legacy = gymnax_wrappers.LegacyStepAPIWrapper(env)
    _, transition = rollout(legacy, params)
    observation, state, reward, done, _ = native()
    assert_same(transition[:4], (observation, state, reward, done))


# --- rejax ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["PPO", "PQN"])
def test_rejax_trains_on_a_game(algorithm):
    if not SIX_VALUES:
        pytest.skip("one gymnax with rejax is enough")
    rejax = client("rejax")
    env, params = make("NavigatorEasy", partial_obs=True)
    env = to_gymnax(
        wrappers.normalize(wrappers.resize(wrappers.grayscale(env), 16, 16)),
        params,
        six_values=False,
    )
    config = dict(
        num_envs=4,
        num_steps=8,
        num_epochs=1,
        num_minibatches=2,
        total_timesteps=4 * 32,
        eval_freq=4 * 32,
    )
    train = getattr(rejax, algorithm).create(
        env=env, env_params=params, skip_initial_evaluation=True, **config
    )
    train = train.replace(eval_callback=lambda *_: ())
    before = train.init_state(jax.random.key(0))
    after, _ = jax.jit(train.train)(jax.random.key(0))
    assert int(after.global_step) == 4 * 32
    parameters = "actor_ts" if algorithm == "PPO" else "q_ts"
    changed = jax.tree.map(
        lambda a, b: bool((a != b).any()),
        getattr(before, parameters).params,
        getattr(after, parameters).params,
    )
    assert any(jax.tree.leaves(changed))
