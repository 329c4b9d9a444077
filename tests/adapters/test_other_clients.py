"""Tests that libraries of others take the Gymnasium environments as they are."""

from functools import partial

import numpy as np
import pytest

from tests.testing import client

gymnasium = client("gymnasium")

from popgym_arcade.adapters.gymnasium import ArcadeEnv  # noqa: E402
from tests.adapters.short_navigator import LIMIT, SHORT, short_env  # noqa: E402

NAME = "popgym_arcade/NavigatorEasy-v1"
NAME_WITH_MODULE = f"popgym_arcade.adapters.gymnasium:{NAME}"  # for processes that import nothing


def test_torchrl_rolls_out():
    envs = client("torchrl.envs")
    env = envs.GymEnv(NAME, partial_obs=True, frame_skip=2, **SHORT)  # an option that is not ours
    rollout = env.rollout(LIMIT, break_when_any_done=False)
    assert rollout["pixels"].shape == (LIMIT, 128, 128, 3)
    assert rollout["next", "done"].any()


@pytest.mark.slow
def test_torchrl_rolls_out_in_other_processes():
    envs = client("torchrl.envs")
    make = partial(envs.GymEnv, NAME_WITH_MODULE, **SHORT)
    env = envs.ParallelEnv(2, make, mp_start_method="spawn")
    try:
        rollout = env.rollout(2, break_when_any_done=False)
        assert rollout["next", "reward"].shape == (2, 2, 1)
    finally:
        env.close()


def test_skrl_wraps_one_environment_and_a_vector():
    wrap_env = client("skrl.envs.wrappers.torch").wrap_env
    torch = client("torch")
    for env, num_envs in (
        (gymnasium.make(NAME, **SHORT), 1),
        (gymnasium.make_vec(NAME, num_envs=3, **SHORT), 3),
    ):
        wrapped = wrap_env(env)
        observations, _ = wrapped.reset()
        assert observations.shape == (num_envs, 128 * 128 * 3)
        stepped = wrapped.step(torch.ones((num_envs, 1), dtype=torch.int64))
        assert stepped[1].shape == (num_envs, 1)


def test_tianshou_steps_a_vector():
    envs = client("tianshou.env").DummyVectorEnv([short_env] * 2)
    observations, _ = envs.reset()
    assert observations.shape == (2, 128, 128, 3)
    observations, rewards, *_ = envs.step(np.array([0, 4]))
    assert observations.shape == (2, 128, 128, 3) and rewards.shape == (2,)
    envs.close()


@pytest.mark.slow
def test_tianshou_steps_other_processes():
    make = partial(ArcadeEnv, "NavigatorEasy", **SHORT)
    envs = client("tianshou.env").SubprocVectorEnv([make] * 2, context="spawn")
    assert envs.reset()[0].shape == (2, 128, 128, 3)
    envs.close()


def test_minari_collects_episodes_and_makes_the_environment_again(tmp_path, monkeypatch):
    minari = client("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env = minari.DataCollector(gymnasium.make(NAME, **SHORT))
    env.reset(seed=0)
    over = False
    while not over:
        *_, terminated, truncated, _ = env.step(0)
        over = terminated or truncated
    dataset = env.create_dataset("arcade/navigator-v0")
    assert dataset.total_episodes == 1 and dataset.total_steps <= LIMIT
    assert dataset.recover_environment().reset(seed=0)[0].shape == (128, 128, 3)
