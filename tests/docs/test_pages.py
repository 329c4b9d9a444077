"""README.md and the pages in docs/ are true: snippets and commands run, and links lead somewhere.

Pages whose snippets need libraries of their own have a test module each.
"""

import contextlib
import importlib
import io
import os
import re
import tempfile
from functools import cache
from pathlib import Path

import jax
import pytest

from popgym_arcade.play import __main__ as play
from popgym_arcade.play import record
from tests.testing import README, ROOT, code_blocks, command_lines, page_text

PAGES = [README, *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
EVERY_FILE = [*PAGES, "CONTRIBUTING.md", "CHANGELOG.md"]
# They have test modules of their own.
OTHERS = {f"docs/{name}.md" for name in ("baselines", "integrations", "introspection", "tutorial")}
HERE = [page for page in PAGES if page not in OTHERS]
SNIPPETS = {(page, heading): code for page in HERE for heading, code in code_blocks(page, "python")}
ENVIRONMENTS = "docs/environments.md"


@cache
def run(code, page):
    """Run a snippet in its own namespace and folder: (the namespace, what it printed)."""
    namespace, printed, here = {"__name__": "snippet"}, io.StringIO(), Path.cwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(printed):
        os.chdir(folder)
        try:
            exec(compile(code, ROOT / page, "exec"), namespace)
        finally:
            os.chdir(here)
    return namespace, printed.getvalue()


@cache
def snippet(page, heading):
    """Run the snippet under a heading, once: (the namespace, what it printed)."""
    return run(SNIPPETS[page, heading], page)


# --- snippets ------------------------------------------------------------------------------------


def test_every_python_snippet_has_a_heading_of_its_own():
    assert len(SNIPPETS) == sum(page_text(page).count("```python\n") for page in HERE) >= 8


@pytest.mark.parametrize("page, heading", SNIPPETS)
def test_the_snippet_runs(page, heading):
    snippet(page, heading)


@pytest.mark.parametrize("name", ["CartPoleHard", "AutoEncodeMedium"])
def test_the_quickstart_runs_with_any_name_and_ends_with_the_mdps_view_of_the_pomdps_state(name):
    code = SNIPPETS[ENVIRONMENTS, "Quickstart"]
    assert code.count('"BattleShipEasy"') == 2
    space, _ = run(code.replace("BattleShipEasy", name), ENVIRONMENTS)
    assert space["mdp"].name == space["pomdp"].name == name
    state, observation = jax.tree.map(lambda leaf: leaf[0], (space["state"], space["observation"]))
    assert state.time == 11  # ten steps with the POMDP and one more with its twin
    assert (observation == space["mdp"].render(state, space["mdp_params"])).all()
    assert (observation != space["pomdp"].render(state, space["pomdp_params"])).any()


def test_the_log_of_episodes_counts_some():
    space, _ = snippet(ENVIRONMENTS, "Returns and lengths of episodes")
    assert space["ended"].any(axis=1).all()
    assert 0 < space["info"]["returned_episode_returns"].mean(where=space["ended"]) < 1


def test_the_sweep_gives_each_limit_its_own_end():
    space, _ = snippet(ENVIRONMENTS, "Sweeping parameters")
    assert space["info"]["truncated"].tolist() == [True, False, False]


def test_perfect_play_earns_more_than_the_worst():
    _, printed = snippet(ENVIRONMENTS, "Perfect and worst play")
    (best_name, best), (worst_name, worst) = (line.split() for line in printed.splitlines())
    assert (best_name, worst_name) == ("expert", "worst")
    assert float(worst) < 0 < float(best) <= 1


# --- commands ------------------------------------------------------------------------------------

RECORDINGS = [words for page in PAGES for words in command_lines(page, "popgym-arcade-record")]
GAMES_PLAYED = [words for page in PAGES for words in command_lines(page, "popgym-arcade-play")]


@pytest.mark.parametrize("words", RECORDINGS, ids=" ".join)
def test_the_recording_is_made(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record.main(words)
    assert (tmp_path / words[1]).stat().st_size > 0


@pytest.mark.parametrize("words", GAMES_PLAYED, ids=" ".join)
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


# --- links and names -----------------------------------------------------------------------------


def anchors(path):
    """The anchors of a Markdown file's headings, as GitHub makes them: a set of str."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", EVERY_FILE)
def test_links_lead_to_files_and_headings_that_exist(page):
    folder = (ROOT / page).parent
    for path, heading in re.findall(r"\]\((?!\w+:)([^)#\s]*)#?([^)\s]*)\)", page_text(page)):
        target = folder / path if path else ROOT / page
        assert target.exists(), f"{page} links to {path}"
        if heading and target.suffix == ".md":
            assert heading in anchors(target), f"{page} links to {path}#{heading}"


def test_contributing_lists_files_that_exist():
    text = page_text("CONTRIBUTING.md")
    listed = re.findall(r"^\| `([^`]+)` \|", text[text.index("## What is where") :], re.MULTILINE)
    assert len(listed) > 15
    assert [path for path in listed if not list(ROOT.glob(path.rstrip("/")))] == []


def resolve(name):
    """The object that a dotted name stands for; it imports modules on the way."""
    module, found = name.split(".")[0], None
    found = importlib.import_module(module)
    for part in name.split(".")[1:]:
        if not hasattr(found, part):
            importlib.import_module(f"{found.__name__}.{part}")
        found = getattr(found, part)
    return found


def names_for_those_who_come_from_the_release():
    """The names in the right column of the table in docs/paper.md."""
    cells = re.findall(r"^\|.*\|(.*)\|$", page_text("docs/paper.md"), re.MULTILINE)
    return sorted(set(re.findall(r"\b(?:popgym_arcade\.)[\w.]+", " ".join(cells))))


@pytest.mark.parametrize("name", names_for_those_who_come_from_the_release())
def test_the_new_names_of_the_release_exist(name):
    if ".baselines" in name:
        pytest.importorskip("memax")
    if ".gymnax" in name:
        pytest.importorskip("gymnax")
    assert resolve(name)
