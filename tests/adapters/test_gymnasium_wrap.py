"""Tests of ``wrap``: our wrappers, compiled into the environments of every adapter."""

import jax
import numpy as np
import pytest

from tests.testing import FIRE, client

gymnasium = client("gymnasium")

from gymnasium.vector import AutoresetMode, SyncVectorEnv  # noqa: E402

from popgym_arcade import make  # noqa: E402
from popgym_arcade.adapters.gymnasium import ArcadeEnv  # noqa: E402
from popgym_arcade.wrappers import (  # noqa: E402
    both_views,
    channels_first,
    frame_stack,
    grayscale,
    log_episodes,
    normalize,
    resize,
    sticky_actions,
)
from tests.adapters.short_navigator import (  # noqa: E402
    NUM_ENVS,
    OUTPUTS,
    RESETTING,
    SHORT,
    as_numpy,
    play,
    play_all,
    same,
    short_env,
    short_envs,
    some_actions,
)


def atari(env):
    """What agents for Atari see, for PyTorch: uint8[2, 16, 16]."""
    return channels_first(frame_stack(resize(grayscale(env), 16, 16), 2))


WRAPS = {
    "atari": atari,
    "normalize": lambda env: normalize(sticky_actions(env)),
    "both views": lambda env: resize(both_views(log_episodes(env)), 8, 8),
}
every_wrap = pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(wrap, id=name, marks=() if name == "atari" else pytest.mark.slow)
        for name, wrap in WRAPS.items()
    ],
)


@every_wrap
def test_observations_are_those_of_the_wrapped_environment(wrap):
    env = short_env(wrap=wrap)
    wrapped, space = wrap(make("NavigatorEasy", **SHORT)[0]), env.observation_space
    observation, _ = env.reset(seed=0)
    expected = jax.jit(wrapped.render)(env._carry.state)
    assert same(observation, jax.tree.map(np.array, expected))
    for transition in play(env, 0, some_actions()[:8, 0]):
        assert transition[0] in space


def test_render_shows_the_frame_before_the_wrappers():
    env, bare = (short_env(wrap=wrap, render_mode="rgb_array") for wrap in (atari, None))
    frame, _ = bare.reset(seed=0)
    env.reset(seed=0)
    np.testing.assert_array_equal(env.render(), frame)
    envs = short_envs(wrap=atari, render_mode="rgb_array")
    envs.reset(seed=0)
    np.testing.assert_array_equal(envs.render()[0], frame)


@pytest.mark.slow
@every_wrap
@pytest.mark.parametrize("mode", RESETTING)
def test_a_vector_plays_what_gymnasiums_own_vector_plays(wrap, mode):
    sync = SyncVectorEnv([lambda: short_env(wrap=wrap)] * NUM_ENVS, autoreset_mode=mode)
    envs = short_envs(wrap=wrap, autoreset_mode=mode)
    assert envs.observation_space == sync.observation_space
    for one, other in zip(*(play_all(vector, 11, some_actions()) for vector in (sync, envs))):
        assert same(as_numpy(one), as_numpy(other))


@pytest.mark.slow
@pytest.mark.parametrize("output", OUTPUTS)
def test_wrapped_observations_come_in_every_output(output):
    envs = short_envs(wrap=atari, output=output, autoreset_mode=AutoresetMode.SAME_STEP)
    plain = short_envs(wrap=atari, autoreset_mode=AutoresetMode.SAME_STEP)
    for one, other in zip(*(play_all(each, 0, some_actions()[:9]) for each in (envs, plain))):
        assert same(np.asarray(one[0]), np.asarray(other[0]))


def test_a_wrap_must_return_an_environment():
    with pytest.raises(TypeError, match="wrap must return an Environment, but it returned 1"):
        ArcadeEnv("NavigatorEasy", wrap=lambda env: 1)


def test_make_vec_takes_gymnasiums_name_of_the_time_limit():
    envs = gymnasium.make_vec("popgym_arcade/NavigatorEasy-v1", 2, max_episode_steps=2)
    envs.reset(seed=0)
    envs.step([FIRE] * 2)
    assert envs.step([FIRE] * 2)[3].all()
    assert envs.spec.max_episode_steps == 2


def test_gymnasiums_wrapper_finds_the_games_time_limit():
    env = gymnasium.make("popgym_arcade/NavigatorEasy-v1", max_steps_in_episode=7)
    env = gymnasium.wrappers.TimeAwareObservation(env, flatten=False, normalize_time=True)
    env.reset(seed=0)
    assert env.step(FIRE)[0]["time"] == pytest.approx(1 / 7)
