"""Tests that Gymnasium's own wrappers work with the Gymnasium adapter."""

import warnings

import numpy as np
import pytest

from tests.testing import FIRE, UP, client

gymnasium = client("gymnasium")

from gymnasium import wrappers  # noqa: E402, because gymnasium may be missing
from gymnasium.vector import AutoresetMode, SyncVectorEnv  # noqa: E402

from tests.adapters.short_navigator import (  # noqa: E402
    LIMIT,
    NUM_ENVS,
    RESTLESS,
    STEPS,
    as_numpy,
    play,
    play_all,
    same,
    short_env,
    short_envs,
    some_actions,
)


def test_statistics_of_episodes_are_those_of_the_rewards():
    env = wrappers.RecordEpisodeStatistics(short_env())
    happened = play(env, 0, some_actions()[:, 0])
    rewards, episodes = [], []
    for transition in happened:
        if len(transition) == 2:
            rewards = []
            continue
        rewards.append(transition[1])
        if "episode" in transition[-1]:
            episodes.append((transition[-1]["episode"]["r"], transition[-1]["episode"]["l"]))
            assert episodes[-1] == (pytest.approx(sum(rewards)), len(rewards))
    assert len(episodes) >= STEPS // LIMIT


def test_a_time_limit_and_a_stack_of_frames_work():
    env, single = wrappers.FrameStackObservation(wrappers.TimeLimit(short_env(), 2), 3), short_env()
    stack, _ = env.reset(seed=RESTLESS)
    assert stack in env.observation_space
    first = single.reset(seed=RESTLESS)[0]
    second, _, terminated, _, _ = single.step(UP)
    assert not terminated and not np.array_equal(first, second)
    np.testing.assert_array_equal(env.step(UP)[0], [first, first, second])
    assert env.step(FIRE)[3]  # truncated, three steps before the game's own limit


def test_a_video_is_recorded(tmp_path):
    client("moviepy")
    env = wrappers.RecordVideo(
        short_env(render_mode="rgb_array"), str(tmp_path / "video"), disable_logger=True
    )
    play(env, 0, [FIRE] * LIMIT)
    env.close()
    video = tmp_path / "video" / "rl-video-episode-0.mp4"
    assert video.stat().st_size > 1000


def test_a_video_of_a_vector_is_recorded(tmp_path):
    client("moviepy")
    envs = wrappers.vector.RecordVideo(short_envs(render_mode="rgb_array"), str(tmp_path / "video"))
    seen = [envs.reset(seed=0)[0], *(envs.step([FIRE] * NUM_ENVS)[0] for _ in range(LIMIT - 1))]
    for recorded, (one, two, three, four) in zip(envs.recorded_frames, seen, strict=True):
        np.testing.assert_array_equal(recorded, np.block([[[one], [two]], [[three], [four]]]))
    envs.close()
    (video,) = (tmp_path / "video").iterdir()
    assert video.suffix == ".mp4" and video.stat().st_size > 1000


@pytest.mark.parametrize(
    "mode",
    [AutoresetMode.NEXT_STEP, pytest.param(AutoresetMode.SAME_STEP, marks=pytest.mark.slow)],
)
def test_statistics_of_a_vector_are_those_of_gymnasiums_own(mode):
    sync = SyncVectorEnv([short_env] * NUM_ENVS, autoreset_mode=mode)
    both = [
        wrappers.vector.RecordEpisodeStatistics(envs)
        for envs in (sync, short_envs(autoreset_mode=mode))
    ]
    for envs in both:
        play_all(envs, 0, some_actions())
    assert list(both[0].return_queue) == list(both[1].return_queue)
    assert list(both[0].length_queue) == list(both[1].length_queue)
    assert len(both[0].length_queue) >= NUM_ENVS


def test_gymnasium_converts_numpy_to_torch():
    torch = client("torch")
    client("array_api_compat")  # Gymnasium's wrappers that convert arrays need it
    envs = wrappers.vector.NumpyToTorch(short_envs())
    expected = play_all(short_envs(), 3, some_actions()[:6])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of arrays that are read-only
        got = play_all(envs, 3, torch.as_tensor(some_actions()[:6]))
    assert all(isinstance(value, torch.Tensor) for value in got[-1][:4])
    assert same(as_numpy(got[-1][0]), expected[-1][0])
