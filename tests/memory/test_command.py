"""Tests of ``python -m popgym_arcade.memory``, with figures that are not computed."""

import json

import pytest

from popgym_arcade import REGISTRY
from popgym_arcade.memory import __main__ as command

ROW = {
    **{kind: [0.5, 0.4, 0.6] for kind in ("random", "memoryless", "recall", "expert")},
    "recall_on_mdp": [0.5, 0.4, 0.6],
    "memoryless_by": "table, sampled",
    "headroom": 0.5,
    "delay_share": 0.5,
    "delay_median": 2,
    "delay_max": 7,
}


@pytest.fixture
def certified(monkeypatch):
    """What was computed: a list of (name, effort)."""
    done = []

    def certify(name, effort, show):
        show(0.5, "half of it")
        done.append((name, effort))
        made_of = {"episodes": effort.episodes, "iterations": effort.table.iterations}
        return {**ROW, **made_of, "version": REGISTRY[name].version}

    monkeypatch.setattr(command, "certify", certify)
    return done


def test_it_prints_and_writes_the_figures_of_the_chosen_environments(certified, tmp_path, capsys):
    path = tmp_path / "figures.json"
    arguments = ["--games", "navigatore", "TetrisHard", "--json", str(path)]
    figures = command.run(arguments)
    assert [name for name, _ in certified] == ["NavigatorEasy", "TetrisHard"]
    assert json.loads(path.read_text()) == figures
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == [
        *"environment random memoryless recall expert headroom delay".split()
    ]
    assert table[1].split()[:7] == ["NavigatorEasy", *["0.500"] * 4, "0.50", "2"]


def test_it_computes_only_what_the_file_lacks(certified, tmp_path):
    path = str(tmp_path / "figures.json")
    command.run(["--games", "Navigator", "--json", path])
    command.run(["--games", "Navigator", "SkittlesEasy", "--json", path])
    assert [name for name, _ in certified][3:] == ["SkittlesEasy"]
    command.run(["--games", "NavigatorEasy", "--episodes", "2000", "--json", path])
    assert certified[-1][1].episodes == 2000
    old = json.loads((tmp_path / "figures.json").read_text())
    old["NavigatorHard"]["version"] -= 1  # of rules that no longer hold
    (tmp_path / "figures.json").write_text(json.dumps(old))
    command.run(["--games", "NavigatorHard", "--json", path])
    assert certified[-1][0] == "NavigatorHard"


def test_quick_searches_a_tenth(certified, tmp_path):
    command.run(["--games", "NavigatorEasy", "--quick", "--json", str(tmp_path / "figures.json")])
    (_, effort), standard = certified[0], command.STANDARD
    assert effort.table.iterations == standard.table.iterations // 10
    assert effort.network.iterations == standard.network.iterations // 10
    assert effort.by_heart.steps == standard.by_heart.steps // 10
    command.run(["--games", "NavigatorEasy", "--json", str(tmp_path / "figures.json")])
    assert certified[1][1] == standard  # the quick figures do not stand for the standard ones


def test_too_little_headroom_is_an_error(certified, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(ROW, "headroom", 0.29)
    path = str(tmp_path / "figures.json")
    monkeypatch.setattr("sys.argv", ["memory", "--games", "NavigatorEasy", "--json", path])
    with pytest.raises(SystemExit) as caught:
        command.main()
    assert caught.value.code == 1 and "NavigatorEasy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--games", "Navigatr"], "Navigator"),
        (["--episodes", "1"], "2"),
        (["--json", "nowhere/figures.json"], "argument --json: there is no folder 'nowhere'"),
    ],
)
def test_bad_arguments_are_explained(arguments, words, capsys):
    with pytest.raises(SystemExit) as caught:
        command.run(arguments)
    assert caught.value.code == 2 and words in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[]", '{"Chess": {}}', "{"])
def test_a_file_of_something_else_is_kept(content, tmp_path, capsys):
    path = tmp_path / "figures.json"
    path.write_text(content)
    with pytest.raises(SystemExit) as caught:
        command.run(["--games", "NavigatorEasy", "--json", str(path)])
    assert caught.value.code == 2 and str(path) in capsys.readouterr().err
    assert path.read_text() == content
