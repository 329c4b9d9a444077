"""Tests of the rules for a player: docs/rules.md and its form are tested in tests/docs."""

import dataclasses
import re

import pytest

from popgym_arcade.play import rules
from popgym_arcade.registry import GAMES, REGISTERED_ENVIRONMENTS, REGISTRY

every_game = pytest.mark.parametrize("game", GAMES)
every_environment = pytest.mark.parametrize("name", REGISTERED_ENVIRONMENTS)

VARIABLES = {
    "Breakout": {"r"},  # a brick's row
    "CartPole": {"x", "m", "N"},  # the cart's position, meters, newtons
    "NoisyCartPole": {"x", "m", "N"},
}
"""Single letters in the rules that are no level's number: they stay."""


def text_of(name):
    """An environment's rules for a player, without drawings: a str."""
    parts = [part for section in rules.player_rules(name) for part in section.parts]
    return "\n".join(part.text for part in parts if part.kind != "drawing")


def letters(text, game):
    """The single letters in a text that are not words, sizes' "x" or variables of the game."""
    text = re.sub(r"(?<=[\w)]) x (?=[\w(])", " ", " ".join(text.split()))
    text = re.sub(r"(?:^|(?<=[.:;*] ))A ", "", text)  # the article
    found = re.findall(r"(?<![\w'])[A-Za-z](?!\w)", text)
    return set(found) - {"a"} - VARIABLES.get(game, set())


# --- what a player reads -------------------------------------------------------------------------


@every_environment
def test_every_environment_has_rules_for_a_player(name):
    (title, lead), *sections = rules.player_rules(name)
    entry = REGISTRY[name]
    assert title == f"{entry.game} {entry.level}" and len(lead) >= 2
    assert {"Actions", "Rewards", "Episode end", "Views", "Start"} <= dict(sections).keys()
    assert all(part.text.strip() for _, parts in [("", lead), *sections] for part in parts)


@every_game
def test_every_symbol_of_the_rules_has_its_field(game):
    module, levels = GAMES[game]
    parsed, symbols = rules.rules_of(module), rules.SYMBOLS.get(game, {})
    shown = [*parsed.lead, *(p for s in rules.PLAYER_SECTIONS for p in parsed.sections.get(s, []))]
    text = "\n".join(paragraph for paragraph in shown if not rules._is_drawing(paragraph))
    assert letters(text, game) <= symbols.keys()
    told = " ".join(parsed.sections["Levels"])
    assert set(re.findall(r"\b([A-Za-z_]+) = -?\d", told)) <= symbols.keys()
    for field in symbols.values():
        assert hasattr(levels["Easy"], field)


@every_environment
def test_no_symbol_and_no_action_number_is_left(name):
    game, text = REGISTRY[name].game, text_of(name)
    assert letters(text, game) == set()
    assert not re.search(
        rf"\b({'|'.join(rules.SYMBOLS.get(game, {})) or '0^'})\b", text.replace("A ", "")
    )
    assert not re.search(r"\b[0-4] (up|down|left|right|fire)\b|\b[Ff]ire\b|integer|\^", text)


@every_environment
def test_the_rules_name_the_levels_own_limit(name):
    (end,) = dict(rules.player_rules(name))["Episode end"]
    assert re.search(rf"\b{REGISTRY[name].params.max_steps_in_episode}\b", end.text)


@every_game
def test_levels_that_differ_have_rules_that_differ(game):
    """All that a level sets is told: in place of a symbol, as the limit or in a note."""
    _, levels = GAMES[game]
    values = [dataclasses.asdict(params) for params in levels.values()]
    told = {*rules.SYMBOLS.get(game, {}).values(), "max_steps_in_episode"}
    told |= set(re.findall(r"\{0\.(\w+)\}", rules._LEVEL_NOTES.get(game, "")))
    assert {field for field in values[0] if len({level[field] for level in values}) > 1} <= told
    assert len({text_of(game + level) for level in levels}) == len(levels)


def test_keys_and_numbers_of_some_levels():
    def says(name, words):
        return words in " ".join(text_of(name).split())

    assert says("BattleShipHard", "on a 12 x 12 sea") and says("BattleShipEasy", "on an 8 x 8 sea")
    assert says("BattleShipEasy", "-1/32") and says("BattleShipMedium", "-0.02")
    assert says("MineSweeperHard", "1/54") and says("MineSweeperHard", "10 mines")
    assert says("CartPoleHard", "1/1000") and says("AutoEncodeHard", "78 cards")
    assert says("TetrisEasy", "falls by 1 row,") and says("TetrisHard", "falls by 2 rows,")
    assert says("SkittlesHard", "columns 2 to 7")
    actions = dict(rules.player_rules("BattleShipHard"))["Actions"]
    assert actions[0].text.startswith("The arrow keys move") and "space shoots" in actions[0].text


@pytest.mark.parametrize("level", ["Easy", "Medium", "Hard"])
def test_noise_is_told_where_there_is_noise_and_nowhere_else(level):
    assert "nois" not in text_of(f"CartPole{level}").lower()
    assert not any("nois" in text.lower() for text in rules.introduction("CartPole"))
    noisy = rules.player_rules(f"NoisyCartPole{level}")
    sigma = REGISTRY[f"NoisyCartPole{level}"].params.noise_sigma
    told = " ".join(part.text for part in dict(noisy)["Noise"])
    assert f"standard deviation {sigma:g} " in told
    assert "noise" in noisy[0].parts[0].text and "NoisyCartPole" in noisy[0].heading


def test_an_introduction_names_the_numbers_of_all_levels():
    text = " ".join(" ".join(rules.introduction("BattleShip")).split())
    assert "on an 8 x 8, 10 x 10 or 12 x 12 sea" in text
    assert all(letters("\n".join(rules.introduction(game)), game) == set() for game in GAMES)


# --- wording -------------------------------------------------------------------------------------

KEYS = {
    "0 up, 1 down, 2 left, 3 right move; 4 fire digs; any other integer does nothing.": (
        "the arrow keys move; space digs."
    ),
    "2 left, 3 right\nmove; 0 up, 1 down, 4\nfire and any other integer do nothing.": (
        "arrow left and arrow right\nmove; arrow up, arrow down and space do nothing."
    ),
    "Stay. 4 fire and any other integer do nothing.": "Stay. Space does nothing.",
    "2 left pushes, 3 right pulls. Any other integer does nothing. Fire burns.": (
        "arrow left pushes, arrow right pulls. Space burns."
    ),
    "1 down or 4 fire ends it, and any other integer does not.": "arrow down or space ends it.",
}


@pytest.mark.parametrize("text", KEYS)
def test_actions_become_keys(text):
    assert rules._with_keys(text) == KEYS[text]


NUMBERS = {
    "an n x n sea": "a 4 x 4 sea",
    "n": "4",
    "1 / (n^2 - m) is paid": "1/14 is paid",
    "-2 /\nn^2": "-1/8",
    "n^2 / 2 repeats, 2 n^2 steps": "8 repeats, 32 steps",
    "card n - 1 - answered": "card 3 - answered",
    "(n of them), 3 (not n)": "(4 of them), 3 (not 4)",
    "A piece falls by up to A rows. A row": "A piece falls by up to 1 row. A row",
    "* A row, the next A pieces": "* A row, the next piece",
    "sigma^2": "0.01",
    "from N(0, sigma^2)": "from a normal distribution with standard deviation 0.1",
    "a (3 - 0.4 (r - 1)) / 120 of 20 x 10": "a (3 - 0.4 (r - 1)) / 120 of 20 x 10",
    "n's and x_n": "4's and x_n",
}


@pytest.mark.parametrize("text", NUMBERS)
def test_formulas_become_numbers(text):
    numbers = {"n": 4, "m": 2, "A": 1, "sigma": rules.Fraction("0.1")}
    assert rules._with_numbers(text, [numbers]) == NUMBERS[text]


def test_the_numbers_of_several_levels_are_listed():
    levels = [{"n": rules.Fraction(number)} for number in (8, 10, 10, 12)]
    assert rules._with_numbers("a n x n sea", levels) == "an 8 x 8, 10 x 10 or 12 x 12 sea"


def test_a_sentence_is_about_the_first_game_it_names():
    text = "Both win.\nNoisyCartPole is CartPole by 0.5 m. CartPole is easy."
    assert rules._about(text, "CartPole") == "Both win.\nCartPole is easy."
    assert rules._about(text, "NoisyCartPole") == "Both win.\nNoisyCartPole is CartPole by 0.5 m."
    assert rules._about("1. Any.\n2. List.", "Tetris") == "1. Any.\n2. List."


def test_a_paragraph_is_taken_apart():
    assert rules._parts("Any\nof\n* one,\n  or\n* two") == [
        ("text", "Any of"),
        ("item", "* one, or"),
        ("item", "* two"),
    ]
    assert rules._parts("    ab\n      c") == [("drawing", "ab\n  c")]
