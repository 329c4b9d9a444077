"""Tests of the Stable-Baselines3 adapter against DummyVecEnv, algorithms, and VecEnv's contract."""

import pickle

import numpy as np
import pytest

from tests.testing import client

client("stable_baselines3")

from stable_baselines3 import DQN, PPO  # noqa: E402, because it may be missing
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor  # noqa: E402

from popgym_arcade.adapters.gymnasium import ArcadeEnv  # noqa: E402
from popgym_arcade.adapters.stable_baselines3 import ArcadeVecEnv  # noqa: E402
from popgym_arcade.wrappers import channels_first, grayscale, resize  # noqa: E402

NUM_ENVS, LIMIT = 4, 5
SHORT = dict(board_size=4, max_steps_in_episode=LIMIT)


def small_and_gray(env):
    """Small, gray frames, with the channels first as PyTorch has them: uint8[1, 36, 36]."""
    return channels_first(resize(grayscale(env), 36, 36))


def played(envs, steps=24):
    """What every step of random play returned, a list of tuples, for any VecEnv."""
    rng = np.random.default_rng(0)
    envs.seed(7)
    observations = envs.reset()
    return [(observations, None, None, None)] + [
        envs.step(rng.integers(0, 5, NUM_ENVS)) for _ in range(steps)
    ]


def test_it_plays_as_a_dummy_vec_env_of_single_environments_does():
    ours = played(ArcadeVecEnv("NavigatorEasy", NUM_ENVS, **SHORT))
    theirs = played(DummyVecEnv([lambda: ArcadeEnv("NavigatorEasy", **SHORT)] * NUM_ENVS))
    cut = ended = 0
    for (observations, rewards, dones, infos), (
        others,
        their_rewards,
        their_dones,
        their_infos,
    ) in zip(ours, theirs):
        np.testing.assert_array_equal(observations, others)
        if rewards is None:
            continue
        assert rewards.dtype == their_rewards.dtype == np.float32
        np.testing.assert_array_equal(rewards, their_rewards)
        np.testing.assert_array_equal(dones, their_dones)
        for info, their_info in zip(infos, their_infos):
            assert info["TimeLimit.truncated"] == their_info["TimeLimit.truncated"]
            assert ("terminal_observation" in info) == ("terminal_observation" in their_info)
            if "terminal_observation" in info:
                np.testing.assert_array_equal(
                    info["terminal_observation"], their_info["terminal_observation"]
                )
                cut, ended = cut + info["TimeLimit.truncated"], ended + 1
    assert 0 < cut < ended


@pytest.mark.parametrize(
    "algorithm, options",
    [(PPO, dict(n_steps=8, batch_size=16, n_epochs=1)), (DQN, dict(learning_starts=8))],
)
def test_it_trains_an_agent(algorithm, options):
    envs = VecMonitor(ArcadeVecEnv("NavigatorEasy", NUM_ENVS, partial_obs=True, **SHORT))
    if algorithm is DQN:
        options = {**options, "buffer_size": 64}
    agent = algorithm("CnnPolicy", envs, seed=0, **options)
    before = [parameter.detach().clone() for parameter in agent.policy.parameters()]
    agent.learn(64)
    assert any((a != b).any() for a, b in zip(before, agent.policy.parameters()))
    assert len(agent.ep_info_buffer) > 3 and all(
        1 <= episode["l"] <= LIMIT for episode in agent.ep_info_buffer
    )


def test_wrapped_observations_train_an_agent_and_a_pickle_plays_on():
    envs = ArcadeVecEnv("NavigatorEasy", NUM_ENVS, wrap=small_and_gray, **SHORT)
    agent = PPO("CnnPolicy", envs, n_steps=4, batch_size=16, n_epochs=1, seed=0)
    assert agent.observation_space.shape == (1, 36, 36)
    agent.learn(16)
    envs.reset()
    other = pickle.loads(pickle.dumps(envs))
    for one, same in zip(*(each.step(np.zeros(NUM_ENVS, int))[:3] for each in (envs, other))):
        np.testing.assert_array_equal(one, same)


def test_an_agent_with_memory_trains():
    recurrent = client("sb3_contrib").RecurrentPPO
    envs = ArcadeVecEnv("NavigatorEasy", NUM_ENVS, partial_obs=True, wrap=small_and_gray, **SHORT)
    agent = recurrent(
        "CnnLstmPolicy",
        VecMonitor(envs),
        n_steps=8,
        batch_size=16,
        n_epochs=1,
        policy_kwargs={"lstm_hidden_size": 8},
    )
    agent.learn(32)
    assert len(agent.ep_info_buffer) > 3


def test_frames_can_be_rendered_and_attributes_read():
    envs = ArcadeVecEnv("NavigatorEasy", NUM_ENVS, render_mode="rgb_array", **SHORT)
    observations = envs.reset()
    np.testing.assert_array_equal(np.stack(envs.get_images()), observations)
    assert envs.get_attr("num_envs", [0, 1]) == [NUM_ENVS] * 2
    assert envs.env_is_wrapped(VecMonitor) == [False] * NUM_ENVS
    with pytest.raises(ValueError, match="all 4 environments"):
        envs.set_attr("render_mode", None, indices=[0])
    with pytest.raises(AttributeError, match="one program"):
        envs.env_method("reset")
    envs.close()
