"""Tests of docs/rules.md: it is up to date, and says what must be said of every game."""

import dataclasses
import re

import pytest

from popgym_arcade import GAMES, REGISTRY
from popgym_arcade.play.rules import SECTIONS, parse, rules_of
from tests.testing import ROOT, script

make_rules = script("docs/make_rules.py")
RULES = ROOT / "docs" / "rules.md"
MODULES = {module.__name__.split(".")[-1]: module for module, _ in GAMES.values()}
every_module = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES.keys())
DOCSTRING = """Chess: mate the king.

Two sides move in turn.

Start: all pieces on the board:

    rnbqkbnr
    pppppppp

The clock_time is 0.

Actions: any of
1. a move of a piece, which is
   a step
2. to resign.

Rewards: 1 for a win, *not* less. Returns lie in [-0.5, 1]; a draw
- if any - is worth 0.

Moves: as in <the> rules.

Episode end: terminated by mate.

Views: the board.

Levels: Easy n = 1.

Source: India.

Differences from 0.0.7:
* One.
* Two, which
  goes on.

Versions:
* 1 (0.1.0): the first.
* 2 (0.2.0): castling, and
  more.
"""


def section(title):
    """The section of docs/rules.md under a second-level heading."""
    return re.search(
        rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", RULES.read_text(), re.MULTILINE | re.DOTALL
    )[1]


# --- docs/rules.md -------------------------------------------------------------------------------


def test_the_rules_are_what_the_docstrings_and_levels_make_them():
    assert RULES.read_text() == make_rules.rulebook(), (
        "run python docs/make_rules.py, and look at the difference"
    )


def return_range(docstring):
    """The range of returns stated in a game's docstring: (low, high)."""
    (found,) = re.findall(
        r"Returns lie in \[(-?\d+(?:\.\d+)?), (-?\d+(?:\.\d+)?)\]", " ".join(docstring.split())
    )
    return tuple(map(float, found))


def versions(rules):
    """A game's version history: [(version, release, what changed)], oldest first."""
    items = re.findall(
        r"^\* (\d+) \(([\d.]+)\): ((?:.|\n  )+)$",
        "\n".join(rules.sections["Versions"]),
        re.MULTILINE,
    )
    return [(int(version), release, " ".join(change.split())) for version, release, change in items]


@every_module
def test_every_sentence_of_a_docstring_is_in_the_rules(module):
    rules = rules_of(module)
    words = re.sub(r"[\\*_`|]", "", section(rules.title)).split()
    text = " ".join(words)
    for name, paragraphs in rules.sections.items():
        assert f"{name}:" in text
        for line in "\n".join(paragraphs).splitlines():
            assert " ".join(re.sub(r"[\\*_`|]", "", line).split()) in text


@pytest.mark.parametrize("game", GAMES)
def test_every_environment_is_in_the_rules_with_its_limit_and_range_of_returns(game):
    module, levels = GAMES[game]
    text = section(rules_of(module).title)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    begin = next(i for i, row in enumerate(rows) if row[1] == game + "Easy")
    assert rows[begin][1:-1] == [game + level for level in levels]
    (limits,) = (row for row in rows[begin : begin + 15] if row[0] == "`max_steps_in_episode`")
    assert limits[1:-1] == [
        str(REGISTRY[game + level].params.max_steps_in_episode) for level in levels
    ]
    low, high = module.RETURN_RANGE
    assert f"**Range of returns:** [{low:g}, {high:g}]\n" in text and -1 <= low < high <= 1
    assert f"[{game}](#{make_rules.anchor(module)})" in RULES.read_text()


@pytest.mark.parametrize("game", GAMES)
def test_the_levels_that_a_docstring_tells_are_those_of_its_params(game):
    module, levels = GAMES[game]
    text = " ".join(rules_of(module).sections["Levels"])
    numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text)]
    for field in dataclasses.fields(levels["Easy"]):
        values = [getattr(params, field.name) for params in levels.values()]
        if len(set(values)) > 1:
            told = iter(numbers)
            assert all(value in told for value in values), (
                f"{field.name} is {values}, but the levels are told as: {text}"
            )
    assert {params.max_steps_in_episode for params in levels.values()} <= set(numbers)


@every_module
def test_numbered_lists_count_from_one(module):
    """A line of prose that begins with a number and a period would be taken for a list item."""
    for name, paragraphs in rules_of(module).sections.items():
        numbers = re.findall(r"^(\d+)\. ", "\n".join(paragraphs), re.MULTILINE)
        assert numbers == [str(i + 1) for i in range(len(numbers))], name
        assert len(numbers) != 1, name


@every_module
def test_a_games_history_ends_with_its_version(module):
    history = versions(rules_of(module))
    assert [version for version, _, _ in history] == list(range(1, module.VERSION + 1))
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", release) for _, release, _ in history)


def test_links_lead_to_headings_and_tables_are_even():
    text = RULES.read_text()
    anchors = {
        heading.lower().replace(" ", "-")
        for heading in re.findall(r"^## (.*)$", text, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#(.*?)\)", text)) <= anchors
    for lines in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.replace(r"\|", "").count("|") for line in lines.splitlines()}) == 1, lines


# --- docstrings and Markdown ---------------------------------------------------------------------


def test_a_docstring_is_taken_apart():
    rules = parse(DOCSTRING)
    assert rules.title == "Chess" and rules.lead == ["Mate the king.", "Two sides move in turn."]
    assert list(rules.sections) == [*SECTIONS[:3], "Moves", *SECTIONS[3:]]
    assert rules.sections["Start"] == [
        "all pieces on the board:",
        "    rnbqkbnr\n    pppppppp",
        "The clock_time is 0.",
    ]
    assert return_range(DOCSTRING) == (-0.5, 1.0)
    assert versions(rules) == [(1, "0.1.0", "the first."), (2, "0.2.0", "castling, and more.")]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("Views:", "Looks:", ["Chess", "lacks", "Views"]),
        ("Source: India.\n\n", "", ["lacks", "Source"]),
        (
            "Views: the board.\n\nLevels: Easy n = 1.",
            "Levels: Easy n = 1.\n\nViews: the board.",
            ["order"],
        ),
        ("Moves:", "Start:", ["two sections", "Start"]),
        ("Chess: mate the king.", "Chess", ["begin", "Chess"]),
        ("Versions:", "Colors: two.\n\nVersions:", ["order", "Colors"]),
    ],
)
def test_a_docstring_of_another_form_is_refused(old, new, words):
    assert old in DOCSTRING
    with pytest.raises(ValueError) as error:
        parse(DOCSTRING.replace(old, new))
    assert all(word in str(error.value) for word in words), error.value


@every_module
def test_a_docstring_tells_the_range_of_returns_that_the_module_states(module):
    assert return_range(module.__doc__) == module.RETURN_RANGE


def test_what_has_a_meaning_in_markdown_is_escaped_and_lists_and_drawings_are_kept():
    rules = parse(DOCSTRING)
    made = {
        name: "\n\n".join(map(make_rules.markdown, text)) for name, text in rules.sections.items()
    }
    assert (
        made["Start"]
        == "all pieces on the board:\n\n```text\nrnbqkbnr\npppppppp\n```\n\nThe clock\\_time is 0."
    )
    assert made["Actions"] == "any of\n\n1. a move of a piece, which is\n   a step\n2. to resign."
    assert (
        made["Rewards"]
        == "1 for a win, \\*not\\* less. Returns lie in [-0.5, 1]; a draw\n\\- if any - is worth 0."
    )
    assert made["Moves"] == "as in \\<the> rules."
    assert made["Differences from 0.0.7"] == "* One.\n* Two, which\n  goes on."


# --- the command ---------------------------------------------------------------------------------


def test_the_command_writes_the_rules(tmp_path, capsys):
    path = tmp_path / "rules.md"
    make_rules.main([str(path)])
    assert (
        path.read_text() == make_rules.rulebook() and capsys.readouterr().out == f"wrote {path}\n"
    )


def test_a_place_that_does_not_exist_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        make_rules.main([str(tmp_path / "nowhere" / "rules.md")])
    assert ended.value.code == 2 and "nowhere" in capsys.readouterr().err
