"""Tests of the command ``popgym-arcade-play``."""

import os
import subprocess
import sys

import pytest

from popgym_arcade import GAMES, REGISTERED_ENVIRONMENTS
from popgym_arcade.play import __main__ as command
from popgym_arcade.play import rules
from popgym_arcade.registry import REGISTRY, registered_name


def test_without_arguments_the_games_are_listed(capsys):
    command.main([])
    listed = capsys.readouterr().out
    for game in GAMES:
        assert f"{game}Easy|Medium|Hard\n    {rules.introduction(game)[0]}\n" in listed


BAD_COMMANDS = [
    (["NavigatorEsay"], "the nearest are: NavigatorEasy"),
    (["Tetris"], "TetrisEasy"),
    (["NavigatorEasy", "--fps", "100"], "must be in [0, 60], but it is 100.0; the nearest is 60"),
    (
        ["NavigatorEasy", "--seed", "-1"],
        "must be in [0, 2147483647], but it is -1; the nearest is 0",
    ),
    (["NavigatorEasy", "--scale", "0"], "must be in [1, 32], but it is 0; the nearest is 1"),
    (["NavigatorEasy", "-o", "64"], "128"),
    (["NavigatorEasy", "--record", "a.mp4"], "must end with .gif"),
    (["NavigatorEasy", "--record", "no/such/folder/a.gif"], "there is no folder"),
    (["--web", "--record", "a.gif"], "--record needs a window"),
]


@pytest.mark.parametrize(
    "words, message",
    BAD_COMMANDS,
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_exits_with_2_and_says_what_is_allowed(words, message, capsys):
    with pytest.raises(SystemExit) as caught:
        command.main(words)
    assert caught.value.code == 2 and message in capsys.readouterr().err


def test_names_may_be_written_in_any_case():
    assert [registered_name(name.lower()) for name in REGISTERED_ENVIRONMENTS] == list(
        REGISTERED_ENVIRONMENTS
    )
    entries = REGISTRY["CartPoleHard"], REGISTRY["NoisyCartPoleEasy"]
    assert [(entry.game, entry.level) for entry in entries] == [
        ("CartPole", "Hard"),
        ("NoisyCartPole", "Easy"),
    ]


@pytest.mark.parametrize(
    "library, module, words",
    [("pygame", "window", ["NavigatorEasy"]), ("aiohttp", "web", ["--web"])],
)
def test_a_missing_library_is_named_with_the_line_that_installs_it(
    library, module, words, monkeypatch
):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"popgym_arcade.play.{module}", raising=False)
    monkeypatch.delattr(f"popgym_arcade.play.{module}", raising=False)
    with pytest.raises(SystemExit) as caught:
        command.main(words)
    assert (
        library in caught.value.code and 'pip install "popgym-arcade[human]"' in caught.value.code
    )


def test_without_a_display_it_says_what_to_do_instead():
    pytest.importorskip("pygame")
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-m", "popgym_arcade.play", "NavigatorEasy"]
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert (
        "there is no display" in run.stderr
        and "--web" in run.stderr
        and "popgym-arcade-record" in run.stderr
    )
    assert "Traceback" not in run.stderr and "compiling" not in run.stdout


def test_the_core_imports_none_of_the_extras():
    code = (
        "import sys, popgym_arcade.play.__main__;"
        "assert 'popgym_arcade.play.session' in sys.modules;"
        "sys.exit(bool({'pygame', 'aiohttp'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_without_docstrings_the_games_are_listed_too():
    run = subprocess.run(
        [sys.executable, "-OO", "-m", "popgym_arcade.play"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert all(rules.introduction(game)[0] in run.stdout for game in GAMES)
