"""A short soak is clean, and a broken game is found."""

import functools
import json
import shlex

import jax.numpy as jnp
import pytest

from popgym_arcade import registry
from popgym_arcade.soak import __main__ as soak
from popgym_arcade.soak import loop
from popgym_arcade.soak.players import player_of
from tests.mishaps import fill_disk

# --- a short soak --------------------------------------------------------------------------------


def test_a_short_soak_is_clean_and_says_what_it_covered(tmp_path, capsys):
    path = tmp_path / "report.json"
    report = soak.soak(
        ["--games", "NavigatorE", "--steps", "9599", "--num-envs", "32", "--json", str(path)]
    )
    assert json.loads(path.read_text()) == report and report["violations"] == []
    (row,) = report["rows"]
    low, high = row["returns"]
    assert row["environment"] == "NavigatorEasy" and row["steps"] == 9600
    assert row["frames"] == 2 * 300 * (32 // 17)
    assert row["episodes"] == row["terminated"] + row["truncated"] - row["both"] > 0
    assert min(row["terminated"], row["truncated"], *row["actions"].values()) > 0
    assert sum(row["actions"].values()) == 9600
    assert sum(player["steps"] for player in row["players"].values()) == 9600
    assert sum(player["episodes"] for player in row["players"].values()) == row["episodes"]
    assert -1 <= low < high == row["players"]["expert"]["returns"][1] <= 1
    printed = capsys.readouterr().out
    for words in ("violations: 0", "9,600 steps in 1 environments", "| NavigatorEasy "):
        assert words in printed


def test_a_full_disk_ends_the_soak_with_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(soak, "_soak_one", lambda name, options: {"violations": []})
    for name in ("header_text", "row_text", "total_text"):
        monkeypatch.setattr(soak.report, name, lambda *args: "")
    fill_disk(monkeypatch, "report.json")
    path = tmp_path / "report.json"
    with pytest.raises(SystemExit) as ended:
        soak.soak(["--games", "NavigatorE", "--json", str(path)])
    told = f"python -m popgym_arcade.soak: error: {path}: No space left on device\n"
    assert ended.value.code == 1 and capsys.readouterr().err == told
    assert list(tmp_path.iterdir()) == []


# --- a broken game -------------------------------------------------------------------------------


@pytest.fixture
def broken(monkeypatch):
    """BattleShip with a broken reward, flag, fleet, frame and twin, each at its own time step."""
    entry = registry.REGISTRY["BattleShipEasy"]

    def step(key, state, action, params):
        frame, after, reward, done, info = entry.step(key, state, action, params)
        thirteenth = (
            after.ships.ravel().at[jnp.argmin(after.ships)].set(True).reshape(after.ships.shape)
        )
        after = after._replace(ships=jnp.where(after.time == 9, thirteenth, after.ships))
        info = {**info, "truncated": info["truncated"] | (after.time == 7)}
        reward = reward + 2.0 * (after.time == 5) + 0.5 * (params.partial_obs & (after.time > 12))
        return frame, after, reward, done, info

    def render(state, params):
        frame = entry.render(state, params)
        return jnp.where((state.time == 20) & params.partial_obs, frame.at[60, 70].add(128), frame)

    prepare = functools.cache(loop.prepare)  # the compiled loop does not depend on these options
    monkeypatch.setattr(
        loop,
        "prepare",
        lambda name, options: prepare(name, options._replace(names=(), steps=1)),
    )
    monkeypatch.setitem(
        registry.REGISTRY, "BattleShipEasy", entry._replace(step=step, render=render)
    )


@pytest.mark.slow
def test_a_broken_game_is_found_and_the_printed_command_repeats_it(broken, capsys, monkeypatch):
    arguments = ["--games", "BattleShipEasy", "--seed", "3", "--num-envs", "32"]
    report = soak.soak([*arguments, "--steps", str(32 * 60)])
    found = {violation["check"]: violation for violation in report["violations"]}
    expected = {
        "the reward lies in [-1, 1]": 4,
        "the reward is the one that the rules give": 4,
        "done is terminated or truncated": 6,
        "truncated exactly in the step that reaches the limit": 6,
        "twelve ship cells": 8,
        "the twins take the same step": None,  # when its turn comes
        "POMDP frames show only legal colors": None,
    }
    assert {
        check: None if step is None else found[check]["step"] for check, step in expected.items()
    } == expected
    assert "MDP frames show only legal colors" not in found
    assert [violation["step"] for violation in report["violations"]] == sorted(
        v["step"] for v in report["violations"]
    )
    fleet = found["twelve ship cells"]
    assert fleet["seed"] == 3 and fleet["time"] == 8
    assert fleet["player"] == player_of(fleet["index"], 32).name
    printed = capsys.readouterr().out
    words = "BattleShipEasy: 'twelve ship cells' was first broken with seed 3 in environment"
    assert f"{words} {fleet['index']} " in printed and fleet["command"] in printed

    command = shlex.split(fleet["command"])
    assert command[:3] == ["python", "-m", "popgym_arcade.soak"] and command[
        command.index("--steps") + 1
    ] == str(32 * 9)
    again = {violation["check"]: violation for violation in soak.soak(command[3:])["violations"]}
    same = ("index", "step", "action", "time", "player")
    assert [again["twelve ship cells"][key] for key in same] == [fleet[key] for key in same]
    command[command.index("--steps") + 1] = str(32 * 8)
    before = soak.soak(command[3:])["violations"]
    assert before and "twelve ship cells" not in {violation["check"] for violation in before}

    monkeypatch.setattr("sys.argv", ["soak", *command[3:]])
    with pytest.raises(SystemExit) as ended:
        soak.main()
    assert ended.value.code == 1


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--games", "Navigater"], ["'Navigater'", "NavigatorEasy"]),
        (["--steps", "0"], ["at least 1"]),
        (["--num-envs", "3"], ["at least 16", "3"]),
        (["--seed", str(2**31)], [str(2**31)]),
        (["--obs-size", "100"], ["100", "128", "256"]),
        (
            ["--json", "/there/is/no/such/folder/report.json"],
            ["no folder", "/there/is/no/such/folder"],
        ),
    ],
)
def test_bad_options_are_answered_with_what_is_allowed(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        soak.soak(arguments)
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert all(word in printed for word in words), printed
