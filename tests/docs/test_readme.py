"""README.md is true: its snippets run, CI runs its commands, and the files it points to exist."""

import configparser
import contextlib
import io
import os
import re
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import jax
import pytest

import popgym_arcade
from popgym_arcade.play import __main__ as play
from popgym_arcade.play import record

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
CI_RUN = (ROOT / ".ci" / "run").read_text()


def fenced(language):
    """README.md's code blocks in a language: [(heading above, code, number of lines before)]."""
    blocks, heading, start = [], None, None
    lines = README.splitlines()
    for number, line in enumerate(lines):
        if start is not None and line == "```":
            blocks.append((heading, "\n".join(lines[start:number]), start))
            start = None
        elif start is None and line.startswith("#"):
            heading = line.lstrip("# ")
        elif line == f"```{language}":
            start = number + 1
    return blocks


# Blank lines before the code, so that an error's line number is the README's.
SNIPPETS = {heading: "\n" * lines_before + code for heading, code, lines_before in fenced("python")}
SETUP_COMMANDS = [code for heading, code, _ in fenced("sh") if heading == "Set up"]


@cache
def run(code):
    """Run a snippet in its own namespace and folder: (the namespace, what it printed)."""
    namespace, printed, here = {"__name__": "snippet"}, io.StringIO(), Path.cwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(printed):
        os.chdir(folder)
        try:
            exec(compile(code, ROOT / "README.md", "exec"), namespace)
        finally:
            os.chdir(here)
    return namespace, printed.getvalue()


def test_every_python_snippet_has_a_heading_of_its_own():
    assert len(SNIPPETS) == README.count("```python\n") >= 6


@pytest.mark.parametrize("heading", SNIPPETS)
def test_the_snippet_runs(heading):
    run(SNIPPETS[heading])


@pytest.mark.parametrize("name", ["CartPoleHard", "AutoEncodeMedium"])
def test_the_quickstart_runs_with_any_name_and_ends_with_the_mdps_view_of_the_pomdps_state(name):
    assert SNIPPETS["Quickstart"].count('"BattleShipEasy"') == 2
    space, _ = run(SNIPPETS["Quickstart"].replace("BattleShipEasy", name))
    assert space["mdp"].name == space["pomdp"].name == name
    state, observation = jax.tree.map(lambda leaf: leaf[0], (space["state"], space["observation"]))
    assert state.time == 11  # ten steps with the POMDP and one more with its twin
    assert (observation == space["mdp"].render(state, space["mdp_params"])).all()
    assert (observation != space["pomdp"].render(state, space["pomdp_params"])).any()


def test_the_log_of_episodes_counts_some():
    space, _ = run(SNIPPETS["Returns and lengths of episodes"])
    assert space["ended"].any(axis=1).all()
    assert 0 < space["info"]["returned_episode_returns"].mean(where=space["ended"]) < 1


def test_the_sweep_gives_each_limit_its_own_end():
    space, _ = run(SNIPPETS["Sweeping parameters"])
    assert space["info"]["truncated"].tolist() == [True, False, False]


def test_perfect_play_earns_more_than_the_worst():
    _, printed = run(SNIPPETS["Perfect and worst play"])
    (best_name, best), (worst_name, worst) = (line.split() for line in printed.splitlines())
    assert (best_name, worst_name) == ("expert", "worst")
    assert float(worst) < 0 < float(best) <= 1


def test_the_set_up_is_two_commands_of_one_line_near_the_top():
    benchmark, tests = SETUP_COMMANDS
    assert README.index(tests) < README.index("## The games")
    for command in (benchmark, tests):
        assert "\n" not in command
        assert command.startswith("python3 -m venv .venv && .venv/bin/python -m pip install -e ")
    assert benchmark.endswith(" && .venv/bin/python bench.py")
    assert tests.endswith(" && .venv/bin/python -m pytest")


def test_ci_takes_the_commands_from_the_readme_as_they_stand():
    printed = subprocess.run(
        [ROOT / ".ci" / "run", "--commands"], capture_output=True, text=True, check=True
    ).stdout
    assert printed.splitlines() == SETUP_COMMANDS
    assert 'bash -c "$test_command"' in CI_RUN


def test_ci_installs_only_into_its_own_virtual_environments_except_browser_and_screen():
    lines = [line.strip() for line in CI_RUN.splitlines() if not line.strip().startswith("#")]
    installs = [
        line
        for line in lines
        if re.search(r"\b(install|wheel --)\b", line) and not line.startswith("echo")
    ]
    debian = [line for line in installs if line.startswith("apt-get ")]
    assert debian == [
        "apt-get install -q -y --no-install-recommends chromium fonts-liberation xvfb xdotool"
    ]
    installs = [line for line in installs if line not in debian]
    assert installs
    assert all(
        re.match(r'("\$name/|\.venv(-oldest)?/)bin/python"? -m pip ', line) for line in installs
    )
    assert not re.search(
        r"(?<![./])\b(apt|dnf|yum|apk|brew|conda|uv|sudo|curl|wget|git) ", "\n".join(lines)
    )


def command_lines(program):
    """The arguments in each of README.md's lines that call a program, without comments."""
    code = "\n".join(code for _, code, _ in fenced("sh"))
    return [
        line.split("#")[0].split() for line in re.findall(rf"^{program}\b(.*)$", code, re.MULTILINE)
    ]


@pytest.mark.parametrize("words", command_lines("popgym-arcade-record"), ids=" ".join)
def test_the_recording_is_made(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record.main(words)
    assert (tmp_path / words[1]).stat().st_size > 0


@pytest.mark.parametrize("words", command_lines("popgym-arcade-play"), ids=" ".join)
def test_the_game_can_be_played(words, tmp_path, monkeypatch, capsys):
    pygame = pytest.importorskip("pygame")
    from popgym_arcade.play import web, window

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr(window, "_next_event", lambda session: pygame.event.Event(pygame.QUIT))
    monkeypatch.setattr(
        web, "run", lambda options: print(f"a page at {options.host}")
    )  # test_web.py runs it
    play.main(words)
    printed = capsys.readouterr().out
    assert (
        "a page at 127.0.0.1" if "--web" in words else words[0] if words else "NavigatorEasy"
    ) in printed
    assert "--record" not in words or (tmp_path / words[-1]).exists()


def test_the_readme_points_to_files_that_exist():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    table = README[README.index("## What is where") :]
    listed = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert links and listed
    assert [path for path in links + listed if not list(ROOT.glob(path.rstrip("/")))] == []


def test_the_citation_is_of_this_version_and_license():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {popgym_arcade.__version__}\n" in citation
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert f"\nlicense: {config['metadata']['license']}\n" in citation
    assert config["metadata"]["author"] in citation


def test_the_oldest_versions_in_ci_are_the_lower_bounds_of_all_that_is_installed_there():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = config["options.extras_require"]
    brought = re.search(r"^popgym-arcade\[(.*)\]$", extras["test"], re.MULTILINE)[1].split(",")
    lines = "\n".join(
        [config["options"]["install_requires"], extras["test"], *(extras[name] for name in brought)]
    )
    bounds = dict(re.findall(r"^(\S+) >= (\S+)$", lines, re.MULTILINE))
    pins = dict(
        re.findall(r"^(\S+)==(\S+)$", (ROOT / ".ci" / "oldest.txt").read_text(), re.MULTILINE)
    )
    assert {"jax", "gymnasium", "aiohttp", "pytest"} <= bounds.keys() == pins.keys()
    for name, bound in bounds.items():
        assert (pins[name] + ".").startswith(bound + "."), name
