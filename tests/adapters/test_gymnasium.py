"""Tests of the Gymnasium adapter: registration, ArcadeEnv, arguments, and what is rendered.

Those of ArcadeVectorEnv are in test_gymnasium_vector.py.
"""

import os
import runpy
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade import REGISTERED_ENVIRONMENTS, REGISTRY, make
from tests.testing import UP, client

gymnasium = client("gymnasium")

from gymnasium.error import DependencyNotInstalled, ResetNeeded  # noqa: E402
from gymnasium.utils import seeding  # noqa: E402
from gymnasium.utils.env_checker import check_env  # noqa: E402
from gymnasium.vector import AutoresetMode  # noqa: E402

from popgym_arcade.adapters import gymnasium as adapter  # noqa: E402
from popgym_arcade.adapters.gymnasium import ArcadeEnv, ArcadeVectorEnv  # noqa: E402
from tests.adapters.short_navigator import (  # noqa: E402
    NUM_ENVS,
    RESTLESS,
    SHORT,
    play,
    same,
    short_env,
    short_envs,
    some_actions,
)


@pytest.fixture
def hidden_window(monkeypatch):
    """Windows open, but on no screen."""
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setitem(adapter.METADATA, "render_fps", 10_000)


# --- the registration ----------------------------------------------------------------------------


def test_every_environment_is_registered_under_the_version_of_its_rules():
    identifiers = {name for name in gymnasium.registry if name.startswith("popgym_arcade/")}
    assert identifiers == {
        f"popgym_arcade/{name}-v{REGISTRY[name].version}" for name in REGISTERED_ENVIRONMENTS
    }
    for identifier in identifiers:
        spec = gymnasium.spec(identifier)
        assert identifier == f"popgym_arcade/{spec.kwargs['name']}-v{spec.version}"
        assert spec.max_episode_steps is None


def test_to_register_again_changes_nothing():
    before = dict(gymnasium.registry)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adapter.register()
    assert all(gymnasium.registry[identifier] is spec for identifier, spec in before.items())


def test_an_id_that_names_the_module_needs_no_import():
    identifier = "popgym_arcade.adapters.gymnasium:popgym_arcade/TetrisHard-v1"
    program = f"import gymnasium; print(gymnasium.make({identifier!r}).unwrapped)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ}
    )
    assert "ArcadeEnv" in done.stdout, done.stderr


def test_make_passes_its_keywords_on():
    env = gymnasium.make("popgym_arcade/NavigatorEasy-v1", partial_obs=True, **SHORT)
    assert isinstance(env.unwrapped, ArcadeEnv)
    first, _ = env.reset(seed=1)
    later, _, _, truncated, _ = env.step(UP)
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > len(
        np.unique(later.reshape(-1, 3), axis=0)
    )  # less to see
    large = gymnasium.make("popgym_arcade/NavigatorEasy-v1", obs_size=256)
    assert large.observation_space == gymnasium.spaces.Box(0, 255, (256, 256, 3), np.uint8)


def test_make_vec_makes_one_program_of_all_environments():
    envs = gymnasium.make_vec(
        "popgym_arcade/NavigatorEasy-v1", num_envs=NUM_ENVS, **SHORT, autoreset_mode="SameStep"
    )
    assert type(envs) is ArcadeVectorEnv
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert envs.spec.id == "popgym_arcade/NavigatorEasy-v1"
    assert envs.action_space == gymnasium.spaces.MultiDiscrete([5] * NUM_ENVS)
    assert envs.single_action_space == gymnasium.spaces.Discrete(5)
    observations, infos = envs.reset(seed=0)
    assert observations in envs.observation_space
    assert observations[0] in envs.single_observation_space
    assert same(infos, {"discount": np.ones(NUM_ENVS), "_discount": np.ones(NUM_ENVS, bool)})


# --- one environment -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, partial_obs",
    [("NavigatorEasy", False), ("NavigatorEasy", True), ("NoisyCartPoleHard", True)],
)
def test_gymnasiums_check_has_nothing_to_complain_about(name, partial_obs, hidden_window):
    options = {"board_size": 4} if name == "NavigatorEasy" else {}
    env = gymnasium.make(
        f"popgym_arcade/{name}-v{REGISTRY[name].version}",
        partial_obs=partial_obs,
        render_mode="rgb_array",
        **options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


def test_one_environment_plays_what_the_functions_of_make_play():
    env, params = make("NavigatorEasy", **SHORT)
    reset, step = jax.jit(env.reset), jax.jit(env.step_env)
    words = seeding.np_random(7)[0].integers(2**32, size=2, dtype=np.uint32)
    key, now = jax.random.split(jax.random.wrap_key_data(words))
    expected, state = reset(now, params)
    adapted = short_env()
    observation, info = adapted.reset(seed=7)
    np.testing.assert_array_equal(observation, expected)
    endings = set()
    for action in some_actions()[:, 0]:
        key, now = jax.random.split(key)
        expected, state, reward, done, expected_info = step(now, state, jnp.int32(action), params)
        observation, *rest = adapted.step(action)
        np.testing.assert_array_equal(observation, expected)
        flags = bool(expected_info["terminated"]), bool(expected_info["truncated"])
        assert same(rest, [float(reward), *flags, {"discount": float(expected_info["discount"])}])
        if done:
            endings.add(flags)
            key, now = jax.random.split(key)
            expected, state = reset(now, params)
            np.testing.assert_array_equal(adapted.reset()[0], expected)
    assert endings == {(True, False), (False, True)}


def test_a_seed_decides_all_that_follows():
    actions = some_actions()[:, 0]
    first = play(short_env(), 3, actions)
    assert same(first, play(short_env(), 3, actions))
    again = short_env()
    play(again, 4, actions[:7])
    assert same(first, play(again, 3, actions))
    assert not same(first[0], again.reset(seed=4))


def test_without_a_seed_episodes_differ_and_so_do_environments():
    one, other = short_env(), short_env()
    frames = [env.reset()[0].tobytes() for env in (one, other) for _ in range(6)]
    assert len(set(frames)) > 8
    assert one.np_random_seed != other.np_random_seed


def test_a_generator_of_the_users_own_decides_what_follows():
    frames = []
    for _ in range(2):
        env = short_env()
        env.reset(seed=1)
        env.np_random = np.random.default_rng(5)
        frames.append([env.reset()[0], env.reset()[0]])
    assert same(*frames)


def test_an_observation_belongs_to_the_caller():
    env = short_env(render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    shown = env.render()
    observation[:] = 77
    shown[:] = 78
    np.testing.assert_array_equal(env.render(), short_env().reset(seed=0)[0])
    following = env.step(UP)[0]
    assert (observation == 77).all()
    assert not (following == 77).all()


def test_an_episode_must_begin_before_it_goes_on():
    env = short_env(render_mode="rgb_array")
    for call in (lambda: env.step(UP), env.render):
        with pytest.raises(ResetNeeded, match="call reset before"):
            call()
    play_on = [env.reset(seed=0)]
    while not any(play_on[-1][2:4]):
        play_on.append(env.step(UP))
    with pytest.raises(ResetNeeded, match="the episode is over"):
        env.step(UP)


@pytest.mark.parametrize("library", [int, np.int64, np.array, jnp.int32, "torch"])
def test_an_action_may_be_a_scalar_of_any_library(library):
    convert = client("torch").tensor if library == "torch" else library
    one, other = short_env(), short_env()
    assert same(one.reset(seed=RESTLESS), other.reset(seed=RESTLESS))
    assert same(one.step(UP), other.step(convert(UP)))


def test_actions_have_names():
    assert short_env().get_action_meanings() == ["UP", "DOWN", "LEFT", "RIGHT", "FIRE"]


@pytest.mark.parametrize("action", [5, -1, 1.0, "up", None, np.array([1])])
def test_an_action_outside_the_space_is_refused(action):
    env = short_env()
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"the action must be an integer in \[0, 4\], but it is"):
        env.step(action)


def test_arguments_are_checked():
    with pytest.raises(
        TypeError,
        match="unexpected keyword argument 'bord_size' for NavigatorEasy; the nearest are: board_",
    ):
        ArcadeEnv("NavigatorEasy", bord_size=4)
    with pytest.raises(
        ValueError,
        match="render_mode, if given, must be one of 'human', 'rgb_array', but it is 'rgb'; "
        "the nearest is 'rgb_array'",
    ):
        ArcadeEnv("NavigatorEasy", render_mode="rgb")
    with pytest.raises(ValueError, match="ArcadeEnv takes no final_observation"):
        ArcadeEnv("NavigatorEasy", final_observation=True)
    with pytest.raises(
        ValueError,
        match="output must be one of 'numpy', 'jax', 'torch', but it is 'nunpy'; "
        "the nearest is 'numpy'",
    ):
        ArcadeVectorEnv("NavigatorEasy", output="nunpy")
    with pytest.raises(ValueError, match="output must be one of 'numpy', 'jax', 'torch'"):
        ArcadeVectorEnv("NavigatorEasy", output=None)
    with pytest.raises(
        ValueError,
        match="autoreset_mode must be one of 'NextStep', 'SameStep', 'Disabled', but it is 'Same'; "
        "the nearest is 'SameStep'",
    ):
        ArcadeVectorEnv("NavigatorEasy", autoreset_mode="Same")
    with pytest.raises(
        ValueError, match="num_envs must be at least 1, but it is 0; the nearest is 1"
    ):
        ArcadeVectorEnv("NavigatorEasy", num_envs=0)
    with pytest.raises(TypeError):
        ArcadeVectorEnv("NavigatorEasy", num_envs=1.5)
    with pytest.raises(TypeError, match="final_observation must be True or False"):
        ArcadeVectorEnv("NavigatorEasy", final_observation=1)


def test_what_was_refused_can_be_closed():
    ArcadeVectorEnv.__new__(ArcadeVectorEnv).close()


@pytest.mark.parametrize(
    "wrong, options, line",
    [
        ("pygame", {"render_mode": "human"}, r'pip install "popgym-arcade\[human\]"'),
        ("torch", {"output": "torch"}, "pip install torch"),
    ],
)
def test_what_is_missing_is_named_with_the_line_that_installs_it(wrong, options, line, monkeypatch):
    monkeypatch.setitem(sys.modules, wrong, None)
    with pytest.raises(DependencyNotInstalled, match=line):
        ArcadeVectorEnv("NavigatorEasy", **options)


def test_a_gymnasium_that_is_too_old_is_named(monkeypatch):
    monkeypatch.delattr(gymnasium.vector, "AutoresetMode")
    monkeypatch.setattr(gymnasium, "__version__", "1.0.0")
    with pytest.raises(ImportError, match=r"needs gymnasium 1\.1 or newer, but 1\.0\.0 is"):
        runpy.run_path(adapter.__file__)


# --- frames to look at ---------------------------------------------------------------------------


def test_render_returns_the_frames_of_all_environments():
    envs = short_envs(render_mode="rgb_array", output="jax")
    observations, _ = envs.reset(seed=0)
    for actions in some_actions()[:8]:
        frames = envs.render()
        assert isinstance(frames, tuple) and len(frames) == NUM_ENVS
        np.testing.assert_array_equal(np.stack(frames), observations)
        observations = envs.step(actions)[0]


@pytest.mark.parametrize("build", [short_env, short_envs])
def test_without_a_render_mode_render_warns(build):
    env = build()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="without a render_mode"):
        assert env.render() is None


def test_the_window_shows_every_frame_in_whole_pixels(hidden_window):
    import pygame

    env = short_env(render_mode="human")
    observation, _ = env.reset(seed=0)
    for action in [None, 1, 2]:
        if action is not None:
            observation = env.step(action)[0]
        screen = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
        np.testing.assert_array_equal(screen, observation.repeat(5, axis=0).repeat(5, axis=1))
        assert env.render() is None
    env.close()
    assert not pygame.display.get_init()
    env.close()


def test_the_window_of_a_vector_shows_its_environments_side_by_side(hidden_window):
    import pygame

    envs = short_envs(render_mode="human")
    observations, _ = envs.reset(seed=0)
    observations = envs.step([UP] * NUM_ENVS)[0]
    screen = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    line, side = 4 * 2, (128 + 8) * 2  # two screen pixels for each of the frame's
    assert screen.shape == (2 * side, 2 * side, 3)
    for number, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        cell = screen[row * side : (row + 1) * side, column * side : (column + 1) * side]
        np.testing.assert_array_equal(cell[line:-line:2, line:-line:2], observations[number])
        assert not cell[:line].any() and not cell[:, -line:].any()
    assert envs.render() is None
    envs.close()
    assert envs.closed and not pygame.display.get_init()
