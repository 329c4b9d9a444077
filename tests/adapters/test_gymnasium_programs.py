"""Tests of what the Gymnasium environments compile, share, pickle, and refuse after a fork."""

import copy
import gc
import multiprocessing
import pickle
import sys
import weakref

import numpy as np
import pytest

from tests.testing import FIRE, UP, client, switched

gymnasium = client("gymnasium")

from gymnasium.vector import AsyncVectorEnv  # noqa: E402

from popgym_arcade.adapters import _programs  # noqa: E402
from popgym_arcade.adapters.gymnasium import ArcadeEnv  # noqa: E402
from popgym_arcade.wrappers import frame_stack, grayscale, resize  # noqa: E402
from tests.adapters.short_navigator import (  # noqa: E402
    SHORT,
    as_numpy,
    play,
    play_all,
    same,
    short_env,
    short_envs,
    some_actions,
)


def small_stack(env):
    """A wrap that a pickle can name."""
    return frame_stack(resize(grayscale(env), 8, 8), 2)


# --- programs ------------------------------------------------------------------------------------


def test_values_that_are_data_share_one_program():
    env, other = (ArcadeEnv("NavigatorEasy", max_steps_in_episode=limit) for limit in (2, 3))
    assert env._program is other._program
    for each, limit in ((env, 2), (other, 3)):
        each.reset(seed=0)
        assert [each.step(FIRE)[3] for _ in range(limit)] == [False] * (limit - 1) + [True]
    assert env._program.step._cache_size() == 1
    assert ArcadeEnv("NavigatorEasy", board_size=4)._program is not env._program


def test_environments_wrapped_alike_share_one_program():
    wraps = (lambda env: frame_stack(grayscale(env), 2) for _ in range(2))
    one, other = (short_env(wrap=wrap) for wrap in wraps)
    assert one._program is other._program


def test_programs_that_are_no_longer_kept_are_freed(monkeypatch):
    setting, params = _programs.Setting.make("NavigatorEasy", False, 128, None, board_size=5)
    program = _programs.single_program(setting)
    program.reset(params, np.zeros(2, np.uint32))
    freed = weakref.ref(program.reset)
    del program
    _programs.single_program.cache_clear()  # as when KEPT_PROGRAMS others have come since
    gc.collect()
    assert freed() is None
    for cached in (_programs.single_program, _programs.vector_program):
        assert cached.cache_info().maxsize == _programs.KEPT_PROGRAMS


SWITCHES = {
    "64 bits": {"jax_enable_x64": True},
    "strict promotion": {
        "jax_numpy_rank_promotion": "raise",
        "jax_numpy_dtype_promotion": "strict",
    },
    "checks": {
        "jax_debug_nans": True,
        "jax_check_tracer_leaks": True,
        "jax_debug_key_reuse": True,
    },
    "other keys": {"jax_default_prng_impl": "rbg"},
}


@pytest.mark.slow
@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_a_switch_of_jax_changes_no_episode_and_compiles_each_step_once(switches):
    def played():
        for program in (_programs.single_program, _programs.vector_program):
            program.cache_clear()
        env, envs = short_env(wrap=small_stack), short_envs(autoreset_mode="SameStep")
        actions = some_actions()[:8]
        returned = play(env, 0, actions[:, 0]), play_all(envs, 0, actions)
        compiled = [each._program.step._cache_size() for each in (env, envs)]
        return [as_numpy(list(each)) for each in returned], compiled

    expected = played()
    assert expected[1][0] == 1
    with switched(**switches):
        assert same(played(), expected)


# --- pickles and copies --------------------------------------------------------------------------


def by_pickle(env):
    return pickle.loads(pickle.dumps(env))


every_way = pytest.mark.parametrize(
    "duplicate",
    [by_pickle, *(pytest.param(way, marks=pytest.mark.slow) for way in (copy.copy, copy.deepcopy))],
)


@every_way
def test_a_duplicate_of_an_environment_plays_on_by_itself(duplicate):
    env, actions = short_env(wrap=small_stack, render_mode="rgb_array"), some_actions()[:, 0]
    fresh = duplicate(env)
    assert same(play(env, 0, actions), play(fresh, 0, actions))
    env.reset(seed=3)
    env.action_space.seed(0)
    started = duplicate(env)
    assert same(env.step(UP), started.step(UP)) and same(env.render(), started.render())
    assert same(env.reset(), started.reset())  # the random stream continues too
    assert started.np_random is not env.np_random
    assert started.action_space.sample() == env.action_space.sample()


@every_way
def test_a_duplicate_of_a_vector_plays_on_by_itself(duplicate):
    envs = short_envs(autoreset_mode="SameStep")
    duplicate(envs)
    envs.reset(seed=0)
    started = duplicate(envs)
    for actions in some_actions()[:12]:
        assert same(as_numpy(envs.step(actions)), as_numpy(started.step(actions)))
    assert same(envs.reset(seed=[1, None, 2, None]), started.reset(seed=[1, None, 2, None]))


def test_a_registered_environment_can_be_pickled_with_gymnasiums_wrappers():
    env = gymnasium.make("popgym_arcade/NavigatorEasy-v1", **SHORT)
    other = by_pickle(env)
    assert same(env.reset(seed=0), other.reset(seed=0)) and same(env.step(UP), other.step(UP))
    assert other.spec == env.spec


# --- processes -----------------------------------------------------------------------------------


def forked_error(queue):
    """What a forked process is told."""
    try:
        short_env()
    except RuntimeError as error:
        queue.put(str(error))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_a_process_forked_after_jax_started_is_told_to_spawn():
    short_env().reset()
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=forked_error, args=(queue,), daemon=True)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert 'start processes with "spawn"' in queue.get()


@pytest.mark.slow
def test_spawned_processes_play():
    envs = AsyncVectorEnv([short_env] * 2, context="spawn")
    observations, _ = envs.reset(seed=0)
    assert same(observations[0], short_env().reset(seed=0)[0])
    envs.close()
