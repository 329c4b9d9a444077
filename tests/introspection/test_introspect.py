"""The command: what it writes, which checkpoints it refuses, and the runs that it compares."""

import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from tests.mishaps import fill_disk
from tests.testing import client

client("equinox")
client("memax")
client("matplotlib")

from matplotlib.figure import Figure  # noqa: E402

from popgym_arcade.baselines import checkpoint  # noqa: E402, after the checks
from popgym_arcade.baselines.model.builder import network_of  # noqa: E402
from popgym_arcade.commands.files import error_text  # noqa: E402
from popgym_arcade.introspection import introspect, measures, output  # noqa: E402


def saved(folder, algorithm="pqn", **changes):
    """Save a checkpoint of an untrained agent: its Path."""
    config = {
        "env": "NavigatorEasy",
        "partial": True,
        "memory": "mingru",
        "obs_size": 128,
        "hidden_size": 8,
        "patch_size": 4,
        "normalize_convolutions": False,
        "num_layers": 1,
    }
    config.update(changes)
    networks = {seed: network_of(algorithm, config)(jax.random.key(seed)) for seed in (3, 4)}
    return checkpoint.save(folder, algorithm, config, 1000, np.zeros(1), networks)


@pytest.fixture(scope="module")
def of_pqn(tmp_path_factory):
    """The folder of a PQN run."""
    folder = tmp_path_factory.mktemp("pqn")
    saved(folder)
    return folder


@pytest.mark.parametrize("algorithm", ["pqn", "ppo"])
def test_the_command_writes_everything(algorithm, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    saved("run", algorithm, partial=algorithm == "ppo")
    introspect.main(
        ["run", "--max-steps", "6", "--episodes", "2", "--samples", "2", "--twin", "mdp"]
    )
    folder = tmp_path / "introspection-NavigatorEasy-MDP-mingru"
    named = ("saliency_line", "saliency_grid", "values", "recall_density", "contamination")
    expected = {f"{name}.{suffix}" for name in named for suffix in ("png", "pdf")}
    assert {path.name for path in folder.iterdir()} == {
        *("report.html", "episode.npz", "measures.npz", "summary.json"),
        *expected,
    }
    arrays, numbers = np.load(folder / "episode.npz"), np.load(folder / "measures.npz")
    length = len(arrays["frames"])
    assert arrays["magnitudes"].shape == (length, length)
    assert arrays["sum"].shape == (length, 128, 128)
    np.testing.assert_allclose(
        arrays["maps"].sum((2, 3), dtype=np.float64), np.tril(np.ones((length, length))), rtol=0.01
    )
    assert ("probabilities" in arrays) == (algorithm == "ppo")
    assert numbers["recall_density"].mean() == pytest.approx(1)
    assert len(numbers["returns"]) == 2 and numbers["noise1_values"].shape[0] == len(
        numbers["noise1_frames"]
    )
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["target"] == ("log_probability" if algorithm == "ppo" else "chosen_value")
    assert summary["recall_past"]["value"] == pytest.approx(float(numbers["recall_past"][0]))
    out, _ = capsys.readouterr()
    assert "% of the gradient is on past frames" in out and f"wrote {folder.name}: open" in out


@pytest.mark.parametrize("file", ["values.pdf", "episode.npz", "summary.json", "report.html"])
def test_a_full_disk_leaves_no_folder(file, tmp_path, monkeypatch):
    study = SimpleNamespace(environment=SimpleNamespace(name="NavigatorEasy", partial_obs=True))
    drawn = {"values": ("Values", "", Figure())}
    for name, result in {
        "_figures": drawn,
        "_episode_arrays": {},
        "_measure_arrays": {},
        "_summary": {},
        "_report": "<html>",
    }.items():
        monkeypatch.setattr(output, name, lambda *args, result=result: result)
    output.write(tmp_path / "whole", study, 0.1)
    assert len(list((tmp_path / "whole").iterdir())) == 6
    fill_disk(monkeypatch, file)
    with pytest.raises(OSError) as caught:
        output.write(tmp_path / "new" / "out", study, 0.1)
    path = tmp_path / "new" / "out" / file
    assert error_text(caught.value) == f"{path}: No space left on device"
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_played(
    of_pqn, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(introspect, "study", None)
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as end:
        introspect.main([str(of_pqn), "--out", str(tmp_path / "file" / "out")])
    told = f"popgym-arcade-introspect: error: {tmp_path / 'file'} is a file; name a folder\n"
    assert end.value.code == 2 and capsys.readouterr().err == told


def test_a_checkpoint_of_another_game_size_or_rule_version_is_refused_unless_forced(tmp_path):
    agent = checkpoint.load_agent(saved(tmp_path))
    other_version = agent._replace(manifest={**agent.manifest, "rule_version": 99})
    cases = {
        "trained on NavigatorEasy, not on TetrisEasy": (agent, {"name": "TetrisEasy"}),
        "trained on frames of 128 pixels, not of 256": (agent, {"obs_size": 256}),
        "rule version 99 of NavigatorEasy, but this is version 1": (other_version, {}),
    }
    for message, (one, options) in cases.items():
        with pytest.raises(
            checkpoint.CheckpointError, match=f"{message}.*Use --force to go on anyway"
        ):
            introspect.setting_to_play(one, **options)
        told = []
        setting = introspect.setting_to_play(one, **options, force=True, warn=told.append)
        assert setting == (options.get("name", "NavigatorEasy"), True, 128, "")
        assert len(told) == 1 and message in told[0]
    setting = introspect.setting_to_play(agent, partial_obs=False)
    assert setting == ("NavigatorEasy", False, 128, "")


def test_an_agent_plays_its_own_game_with_the_parameters_it_was_trained_on(tmp_path):
    agent = checkpoint.load_agent(saved(tmp_path, params="board_size=4"))
    assert introspect.setting_to_play(agent).params == "board_size=4"
    other = introspect.setting_to_play(agent, name="TetrisEasy", force=True, warn=lambda text: None)
    assert other.params == ""


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--env", "TetrisEasy"], "the agent was trained on NavigatorEasy, not on TetrisEasy"),
        (["-o", "256"], "the agent was trained on frames of 128 pixels, not of 256"),
        (
            ["--env", "Tetris", "--force"],
            "there is no environment 'Tetris'; the nearest are: Tetris",
        ),
        (["--network-seed", "5"], "has no seed 5; it has 3, 4"),
        (["--episodes", "0"], "argument --episodes: must be at least 1, but it is 0"),
        (["--seed", str(10**23)], "argument --seed: must be in [0, 2147483647], but it is 1"),
        (["--sigma", "25"], "argument --sigma: must be in [1e-06, 1], but it is 25"),
        (["--pomdp", "nowhere"], "is not a run"),
    ],
)
def test_bad_input_exits_with_2_and_says_why(of_pqn, arguments, message, capsys, tmp_path):
    with pytest.raises(SystemExit) as end:
        introspect.main(
            [str(of_pqn), "--out", str(tmp_path / "out"), "--max-steps", "2", *arguments]
        )
    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def run_with(folder, returns, partial=False, memory="lru", env="NavigatorEasy"):
    """Write a run's folder with evaluations: its path as str.

    returns: {seed: [return at each evaluation]}.
    """
    folder.mkdir()
    config = {"env": env, "partial": partial, "memory": memory, "obs_size": 128}
    (folder / "config.json").write_text(json.dumps({"algorithm": "pqn", "config": config}))
    lines = [
        {
            "kind": "evaluation",
            "seed": seed,
            "steps": 10 * step,
            "seconds": 1.0,
            "twin": twin,
            "returns": [at - 1, at + 1],
            "lengths": [1, 1],
        }
        for seed, curve in returns.items()
        for step, value in enumerate(curve)
        for twin, at in (("MDP", value - 50 * partial), ("POMDP", value - 20 * (not partial)))
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


def test_gap_and_bias_come_from_the_evaluations_on_the_twin_trained_on(tmp_path):
    mdp = run_with(tmp_path / "a", {0: [0.1, 0.9], 1: [0.3, 0.5]})
    pomdp = run_with(tmp_path / "b", {0: [0.1, 0.2]}, partial=True)
    memoryless = run_with(tmp_path / "c", {0: [0.5, 0.6]}, memory="none")
    found = introspect.differences_of_runs([mdp], [pomdp], [memoryless])
    assert [one.value for one in found["observability gap"]] == pytest.approx(
        [0.45 - 0.15, 0.7 - 0.2, 0.7 - 0.2]
    )
    assert [one.value for one in found["memory bias"]] == pytest.approx(
        [0.45 - 0.55, 0.7 - 0.6, 0.7 - 0.6]
    )
    assert isinstance(found["memory bias"], measures.ReturnDifference)
    assert list(introspect.differences_of_runs([mdp], memoryless=[memoryless])) == ["memory bias"]
    assert introspect.differences_of_runs([mdp]) == {}


def test_runs_that_do_not_belong_together_are_refused_unless_forced(tmp_path):
    mdp = run_with(tmp_path / "a", {0: [0.1]})
    wrong = {
        "has partial False, but it must be True": {"pomdp": [run_with(tmp_path / "b", {0: [0.1]})]},
        "has memory 'gru', but it must be 'lru'": {
            "pomdp": [run_with(tmp_path / "c", {0: [0.1]}, True, "gru")]
        },
        "has memory 'lru', but it must be 'none'": {"memoryless": [mdp]},
        "has env 'TetrisEasy', but it must be 'NavigatorEasy'": {
            "pomdp": [run_with(tmp_path / "d", {0: [0]}, True, env="TetrisEasy")]
        },
    }
    for message, sides in wrong.items():
        with pytest.raises(ValueError, match=f"{message}.*--force"):
            introspect.differences_of_runs([mdp], **sides, name="NavigatorEasy", obs_size=128)
        told = []
        introspect.differences_of_runs(
            [mdp], **sides, name="NavigatorEasy", obs_size=128, force=True, warn=told.append
        )
        assert len(told) == 1
