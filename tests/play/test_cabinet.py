"""Tests of cabinets: environments that are compiled once and stepped from Python."""

import jax
import numpy as np
import pytest

from popgym_arcade import make
from popgym_arcade.play import cabinet
from popgym_arcade.registry import NO_ACTION
from tests.testing import switched

UP, DOWN, LEFT, RIGHT, FIRE = range(5)


@pytest.mark.parametrize("name", ["NavigatorEasy", "SkittlesEasy"])
def test_a_cabinet_plays_as_the_environment_does(name):
    env, params = make(name)
    machine = cabinet.build(name)
    episode = cabinet.begin(machine, jax.random.key(3))
    key, reset_key = jax.random.split(jax.random.key(3))
    _, state = env.reset(reset_key, params)
    total = 0.0
    for action in (LEFT, UP, NO_ACTION, DOWN, RIGHT):
        for partial_obs in (False, True):
            frame = env.render(state, make(name, partial_obs)[1])
            assert (cabinet.observe(machine, episode, partial_obs) == frame).all()
        key, step_key = jax.random.split(key)
        _, state, reward, done, info = env.step_env(step_key, state, action, params)
        episode = cabinet.advance(machine, episode, action)
        total += float(reward)
        assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), state, episode.state))
        assert (episode.reward, episode.terminated, episode.truncated) == (
            float(reward),
            *map(bool, list(info.values())[:2]),
        )
        assert episode.episode_return == total and episode.done == bool(done)


def test_an_episode_that_is_over_stays_as_it_is():
    machine = cabinet.build("NavigatorEasy")
    episode = cabinet.begin(machine, jax.random.key(3))
    while not episode.done:
        episode = cabinet.advance(machine, episode, UP)
    assert cabinet.advance(machine, episode, DOWN) is episode


def test_a_cabinet_is_built_once():
    machine = cabinet.build("NavigatorEasy", max_steps_in_episode=2)
    assert cabinet.build("NavigatorEasy", 128, max_steps_in_episode=2) is machine
    assert cabinet.build("NavigatorEasy", max_steps_in_episode=3).params.max_steps_in_episode == 3
    assert cabinet.build("NavigatorEasy", 256, max_steps_in_episode=2).params.obs_size == 256


@pytest.mark.slow
@pytest.mark.parametrize(
    "switches", [{"jax_default_prng_impl": "rbg"}, {"jax_disable_jit": True}], ids=str
)
def test_a_seed_plays_the_same_episode_under_other_switches(switches):
    def played():
        machine = cabinet.build("NavigatorEasy", max_steps_in_episode=3)
        episode = cabinet.advance(machine, cabinet.begin(machine, cabinet.key_of(1)), UP)
        return cabinet.observe(machine, episode, True)

    expected = played()
    cabinet._compiled.cache_clear()
    with switched(**switches):
        np.testing.assert_array_equal(played(), expected)
    cabinet._compiled.cache_clear()


@pytest.mark.parametrize("seed, error", [(2**32, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_a_key_needs_a_seed(seed, error):
    with pytest.raises(error, match="seed must be"):
        cabinet.key_of(seed)


def test_observations_side_by_side_have_lines_between_them():
    observations = [np.full((64, 64, 3), value, np.uint8) for value in (1, 2)]
    joined = cabinet.side_by_side(observations)
    assert joined.shape == (64, 64 + 2 + 64, 3)
    assert (joined[:, :64] == 1).all() and (joined[:, 66:] == 2).all()
    assert cabinet.side_by_side(observations[:1]) is not None
    assert (cabinet.side_by_side(observations[:1]) == observations[0]).all()
