"""Evaluation: the trained agent plays with its memory, and the command reports its returns."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.mishaps import fill_disk
from tests.testing import client

for library in ("memax", "flashbax", "scipy"):
    client(library)
eqx = client("equinox")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from popgym_arcade.baselines import checkpoint, evaluate, rollout  # noqa: E402
from popgym_arcade.baselines.model.builder import network_of  # noqa: E402
from popgym_arcade.play import record  # noqa: E402
from popgym_arcade.registry import NO_ACTION, make  # noqa: E402

CONFIG = {
    "env": "NavigatorEasy",
    "partial": True,
    "memory": "gru",
    "obs_size": 128,
    "hidden_size": 8,
    "patch_size": 4,
    "normalize_convolutions": False,
    "num_layers": 1,
}
RIGHT = 3


def saved(folder, algorithm="pqn", change=lambda network: network, **config):
    """A checkpoint of an untrained network, changed: the run's folder."""
    config = {**CONFIG, **config}
    network = change(network_of(algorithm, config)(jax.random.key(3)))
    checkpoint.save(folder, algorithm, config, 100, {}, {0: network})
    return folder


def always_right(network):
    """A Q-network that finds going right the best, whatever it sees."""
    return eqx.tree_at(lambda network: network.head.bias, network, 1000 * jax.nn.one_hot(RIGHT, 5))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run with an agent that has learned nothing."""
    return saved(tmp_path_factory.mktemp("run"))


def test_the_returns_are_those_of_the_agents_play(tmp_path):
    agent = checkpoint.load_agent(saved(tmp_path, change=always_right))
    returns, lengths = evaluate.evaluate_agent(agent, episodes=16, seed=5)
    # To the right there is TNT, or the wall until the time is up; the treasure has to be dug up.
    assert set(lengths[lengths < 64]) <= set(range(1, 8)) and (lengths == 64).any()
    np.testing.assert_allclose(returns[lengths == 64], -0.5, atol=1e-5)
    short = lengths < 64
    np.testing.assert_allclose(returns[short], -0.5 - (lengths[short] - 1) * 0.5 / 64, atol=1e-5)


def test_the_same_seed_plays_the_same_episodes_and_another_plays_others(run):
    agent = checkpoint.load_agent(run)
    first, again, other = (
        evaluate.evaluate_agent(agent, episodes=16, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first[0] != other[0]).any() or (first[1] != other[1]).any()


def test_by_default_the_twin_is_the_one_that_the_agent_was_trained_on(run, monkeypatch):
    shown, start = [], rollout.start_episodes

    def watched(env, params, *arguments):
        shown.append(params.partial_obs)
        return start(env, params, *arguments)

    monkeypatch.setattr(rollout, "start_episodes", watched)
    agent = checkpoint.load_agent(run)
    for twin in (None, "POMDP", "MDP"):
        evaluate.evaluate_agent(agent, twin, episodes=1)
    evaluate.evaluate_agent(agent._replace(config={**agent.config, "partial": False}), episodes=1)
    assert shown == [True, True, False, False]


@pytest.mark.parametrize("memory", ["gru", "lru", "none"])
def test_the_policy_remembers_what_the_network_would_remember(memory, tmp_path):
    agent = checkpoint.load_agent(saved(tmp_path, memory=memory))
    frames = np.random.default_rng(0).integers(0, 256, (12, 128, 128, 3), np.uint8)
    play = evaluate.policy(agent)
    actions = [play(frame) for frame in frames]
    assert all(type(action) is int for action in actions)
    last_actions = jnp.array([NO_ACTION, *actions[:-1]])
    starts = jnp.arange(12) == 0
    _, values = agent.network(agent.network.initialize_carry(), frames, last_actions, starts)
    assert actions == values.argmax(axis=1).tolist()


def test_a_policy_of_ppo_draws_its_actions_by_its_seed(tmp_path):
    agent = checkpoint.load_agent(saved(tmp_path, "ppo"))
    frame = np.zeros((128, 128, 3), np.uint8)
    drawn = []
    for seed in (0, 0, 1):
        play = evaluate.policy(agent, seed)
        drawn.append([play(frame) for _ in range(40)])
    assert drawn[0] == drawn[1] != drawn[2]
    assert set(drawn[0]) == set(range(5))  # the first policy is nearly uniform


def test_the_command_prints_a_table_and_writes_returns_and_a_recording(run, tmp_path, capsys):
    gif, numbers = tmp_path / "agent.gif", tmp_path / "returns.json"
    evaluate.main(
        [str(run), "--episodes", "8", "--gif", str(gif), "--json", str(numbers), "--seed", "4"]
    )
    said = capsys.readouterr()
    printed = said.out
    assert said.err.splitlines() == [
        *(
            f"{what} the {twin} ..."
            for twin in ("MDP", "POMDP")
            for what in ("compiling", "playing")
        ),
        "compiling NavigatorEasy ...",
        "playing ...",
        f"writing {gif} ...",
    ]
    assert "pqn, memory gru, trained on the POMDP of NavigatorEasy" in printed
    content = json.loads(numbers.read_text())
    for twin in ("MDP", "POMDP"):
        row = next(line for line in printed.splitlines() if line.startswith(f"| {twin} |"))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        returns = content[twin]["returns"]
        assert cells[1] == "8" == str(len(returns))
        assert cells[2].startswith(f"{np.mean(returns):.3f} [") and cells[3].startswith(
            f"{np.median(returns):.3f} ["
        )
        assert (
            cells[4] == f"{max(returns):.3f}"
            and cells[5] == f"{np.mean(content[twin]['lengths']):.1f}"
        )
    assert f"wrote {gif}: " in printed


def test_the_recording_shows_the_observations_of_the_twin(run, tmp_path):
    evaluate.main(
        [str(run), "--episodes", "1", "--twin", "POMDP", "--gif", str(tmp_path / "agent.gif")]
    )
    played = record.rollout(
        "NavigatorEasy", evaluate.policy(checkpoint.load_agent(run)), partial_obs=True
    )
    with Image.open(tmp_path / "agent.gif") as recording:
        for number in (0, -1):
            recording.seek(number % recording.n_frames)
            np.testing.assert_array_equal(
                np.asarray(recording.convert("RGB")), played.frames[number]
            )


def test_the_returns_do_not_depend_on_the_parts_in_which_they_are_played(run, monkeypatch):
    agent, done = checkpoint.load_agent(run), []
    evaluated = evaluate.evaluate_agent(
        agent, episodes=8, seed=4, progress=lambda *args: done.append(args)
    )
    assert done[2:] == [(part, 50, "playing the POMDP") for part in range(51)]
    env, params = make("NavigatorEasy", partial_obs=True)
    act = evaluate.ALGORITHMS["pqn"].act
    whole = jax.jit(
        lambda key: rollout.play_episodes(env, params, act, agent.network, key, num_episodes=8)
    )(jax.random.PRNGKey(4))
    np.testing.assert_array_equal(evaluated, jax.device_get(whole))


def test_files_that_cannot_be_written_are_refused_before_anything_is_played(
    run, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(evaluate, "load_agent", None)
    for option, path, told in (
        ("--gif", tmp_path / "no" / "a.gif", "there is no folder"),
        ("--gif", tmp_path / "a.txt", ".gif or .png"),
        ("--json", tmp_path / "no" / "a.json", "there is no folder"),
        ("--json", tmp_path, "is a folder; name a file"),
    ):
        assert told in refused([str(run), option, str(path)], capsys)


def test_a_full_disk_ends_the_command_with_one_line(run, tmp_path, capsys, monkeypatch):
    results = np.zeros(2, np.float32), np.ones(2, np.int32)
    monkeypatch.setattr(evaluate, "evaluate_agent", lambda *args: results)
    fill_disk(monkeypatch, "a.json")
    with pytest.raises(SystemExit) as exit_:
        evaluate.main([str(run), "--json", str(tmp_path / "a.json")])
    path = tmp_path / "a.json"
    assert (
        capsys.readouterr().err == f"popgym-arcade-eval: error: {path}: No space left on device\n"
    )
    assert exit_.value.code == 1 and list(tmp_path.iterdir()) == []


def refused(arguments, capsys):
    """What the command says as it ends with 2."""
    with pytest.raises(SystemExit) as exit_:
        evaluate.main(arguments)
    assert exit_.value.code == 2
    return capsys.readouterr().err


def test_bad_input_is_refused(run, tmp_path, capsys, monkeypatch):
    assert "is not a checkpoint" in refused([str(tmp_path / "nowhere")], capsys)
    assert "argument --episodes: must be at least 1, but it is 0; the nearest is 1" in refused(
        [str(run), "--episodes", "0"], capsys
    )
    assert "argument --seed: must be in [0, 2147483647], but it is 1" in refused(
        [str(run), "--seed", str(10**23)], capsys
    )
    assert "has no seed 9; it has 0" in refused([str(run), "--agent-seed", "9"], capsys)
    monkeypatch.setattr(checkpoint, "rule_version", lambda name: 2)
    assert "version 1 of the rules of NavigatorEasy, but the installed version is" in refused(
        [str(run)], capsys
    )
