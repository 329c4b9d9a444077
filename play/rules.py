"""The rules of a game: its docstring taken apart, and reworded for a player.

A game's docstring has this form: the first paragraph is ``<Game>: <what you do>.``, and more
introductory paragraphs may follow. Then come sections, each a paragraph that begins with the
section's name and a colon, and the paragraphs after it. Those in SECTIONS are required, in that
order; a game may add others before Source. Lines that begin with ``* `` or ``1. `` are list items,
and a paragraph indented by four spaces is a drawing.

A player reads PLAYER_SECTIONS, with keys instead of actions and the level's own numbers instead of
the letters in SYMBOLS.
"""

import ast
import inspect
import operator
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from types import ModuleType
from typing import Any, Literal, NamedTuple

from popgym_arcade.registry import GAMES, REGISTRY, Action

__all__ = [
    "KEY_NAMES",
    "PLAYER_SECTIONS",
    "SECTIONS",
    "SYMBOLS",
    "Part",
    "Rules",
    "Section",
    "docstring_of",
    "introduction",
    "is_item",
    "parse",
    "player_rules",
    "rules_of",
]

SECTIONS: tuple[str, ...] = (
    "Start",
    "Actions",
    "Rewards",
    "Episode end",
    "Views",
    "Levels",
    "Source",
    "Differences from 0.0.7",
    "Versions",
)
"""The sections that every docstring has, in order."""

PLAYER_SECTIONS: tuple[str, ...] = (
    "Actions",
    "Step",
    "Rewards",
    "Episode end",
    "Views",
    "Noise",
    "Start",
    "Pieces",
)
"""The sections that a player reads, in order."""

SYMBOLS: dict[str, dict[str, str]] = {
    "AutoEncode": {"N": "num_cards"},
    "BattleShip": {"n": "board_size"},
    "Breakout": {"w": "paddle_width"},
    "CartPole": {"T": "max_steps_in_episode", "sigma": "noise_sigma"},
    "NoisyCartPole": {"T": "max_steps_in_episode", "sigma": "noise_sigma"},
    "CountRecall": {"N": "num_cards", "K": "num_suits"},
    "MineSweeper": {"n": "board_size", "m": "num_mines"},
    "Navigator": {"n": "board_size"},
    "Tetris": {"P": "num_previews", "A": "gravity", "D": "drop"},
}
"""Each game's symbols for a level's numbers in its docstring, to fields of its Params."""

KEY_NAMES: dict[Action, str] = {
    Action.UP: "arrow up",
    Action.DOWN: "arrow down",
    Action.LEFT: "arrow left",
    Action.RIGHT: "arrow right",
    Action.FIRE: "space",
}
"""What a player reads in place of each action."""

_AIMS = {"NoisyCartPole": "Balance a pole that you see through noise."}
"""For a game that shares its docstring with another: what you do in it."""

_LEVEL_NOTES = {"Skittles": "The lane spans columns {0.first_lane} to {0.last_lane}."}
"""What a level sets that has no symbol: a template for str.format, which gets the Params."""

_SHOWN_UNLESS_ZERO = {"Noise": "noise_sigma"}
"""Sections that do not concern levels where a field of Params is 0."""

_HEADING = re.compile(r"([A-Z][A-Za-z0-9. ]{2,30}):(?:[ \n]|$)")


class Rules(NamedTuple):
    """A game's docstring, taken apart. A text is a list of paragraphs."""

    title: str
    lead: list[str]  # the paragraphs before the first section
    sections: dict[str, list[str]]  # a section's name to its text


class Part(NamedTuple):
    """A piece of a section. Only a drawing has several lines."""

    kind: Literal["text", "item", "drawing"]
    text: str  # an item's includes its mark, "* " or "1. "


class Section(NamedTuple):
    """A section of the rules for a player."""

    heading: str
    parts: list[Part]


# --- docstrings ----------------------------------------------------------------------------------


def parse(docstring: str) -> Rules:
    """Take a game's docstring apart.

    Raises ValueError, saying what is wrong, unless it has the form described above.
    """
    first, *paragraphs = re.split(r"\n\s*\n", docstring.strip("\n").rstrip())
    title, colon, aim = " ".join(first.split()).partition(": ")
    if not (colon and aim):
        raise ValueError(
            f"the docstring must begin with '<Game>: <what you do>.', but it begins with {first!r}"
        )
    lead, sections = [_capitalized(aim)], {}
    text = lead
    for paragraph in paragraphs:
        heading = _HEADING.match(paragraph)
        if heading:
            if heading[1] in sections:
                raise ValueError(f"{title} has two sections {heading[1]!r}")
            text = sections[heading[1]] = []
            paragraph = paragraph[heading.end() :]
        text.append(paragraph)
    _check_sections(title, list(sections))
    return Rules(title, lead, sections)


def _check_sections(title: str, names: list[str]) -> None:
    """Raise ValueError if a game lacks a section or has them in another order."""
    missing = [name for name in SECTIONS if name not in names]
    if missing:
        raise ValueError(f"{title}'s docstring lacks the sections {missing}; it has {names}")
    known = [name for name in names if name in SECTIONS]
    if known != list(SECTIONS) or names[-3:] != list(SECTIONS[-3:]):
        raise ValueError(
            f"{title}'s sections must come in the order {list(SECTIONS)}, but they come as {names}"
        )


def docstring_of(module: ModuleType) -> str:
    """A module's docstring, read from its source: ``python -OO`` leaves ``__doc__`` empty."""
    return ast.get_docstring(ast.parse(inspect.getsource(module)), clean=False) or ""


@cache
def rules_of(module: ModuleType) -> Rules:
    """The rules of a game's module. Raises what ``parse`` raises, with the module's name."""
    try:
        return parse(docstring_of(module))
    except ValueError as error:
        raise ValueError(f"{module.__name__}: {error}") from error


def is_item(line: str) -> bool:
    """Whether a line begins a list item."""
    return re.match(r"\* |\d+\. ", line) is not None


def _is_drawing(paragraph: str) -> bool:
    """Whether a paragraph is indented by four spaces."""
    return all(line.startswith("    ") for line in paragraph.split("\n"))


def _parts(paragraph: str) -> list[Part]:
    """Take a paragraph apart into text and list items, each on one line, or a drawing."""
    lines = paragraph.split("\n")
    if _is_drawing(paragraph):
        return [Part("drawing", "\n".join(line[4:] for line in lines))]
    parts = []
    for line in lines:
        if parts and not is_item(line):
            kind, text = parts.pop()
            parts.append(Part(kind, f"{text} {line.strip()}"))
        else:
            parts.append(Part("item" if is_item(line) else "text", line.strip()))
    return parts


# --- for a player --------------------------------------------------------------------------------


def player_rules(name: str) -> list[Section]:
    """An environment's rules for a player, the introduction first. name: a registered name."""
    entry = REGISTRY[name]
    sections = rules_of(entry.module).sections
    texts = {f"{entry.game} {entry.level}": introduction(entry.game, [entry.level])}
    if entry.game in _LEVEL_NOTES:
        texts["Level"] = [_LEVEL_NOTES[entry.game].format(entry.params)]
    for heading in PLAYER_SECTIONS:
        if heading in sections and _concerns(heading, entry.params):
            first, *rest = _reworded(sections[heading], entry.game, [entry.params])
            texts[heading] = [_capitalized(first), *rest]
    return [
        Section(heading, [part for paragraph in text for part in _parts(paragraph)])
        for heading, text in texts.items()
    ]


def _concerns(heading: str, params: Any) -> bool:
    """Whether a section is about a level."""
    field = _SHOWN_UNLESS_ZERO.get(heading)
    return field is None or getattr(params, field) != 0


def introduction(game: str, levels: Sequence[str] | None = None) -> list[str]:
    """What you do in a game, in a few paragraphs; the first is a short sentence.

    levels: those whose numbers are named, by default all.
    """
    module, params_of = GAMES[game]
    aim, *more = rules_of(module).lead
    params = [params_of[level] for level in levels or params_of]
    return _reworded([_AIMS.get(game, aim), *more], game, params)


def _reworded(text: list[str], game: str, params: list[Any]) -> list[str]:
    """A text of a docstring in a player's terms. params: of the levels that it is to describe."""
    fields = SYMBOLS.get(game, {})
    numbers = [
        {symbol: Fraction(str(getattr(level, field))) for symbol, field in fields.items()}
        for level in params
    ]
    return [
        paragraph
        if _is_drawing(paragraph)
        else _with_keys(_with_numbers(_about(paragraph, game), numbers))
        for paragraph in text
    ]


def _about(paragraph: str, game: str) -> str:
    """A paragraph without the sentences about the other game of the same docstring.

    A sentence is about the first game that it names.
    """
    namesakes = [other for other, (module, _) in GAMES.items() if module is GAMES[game][0]]
    first_name = re.compile(rf"\b({'|'.join(namesakes)})\b")
    sentences = re.findall(r"\S.*?(?:[.!?](?=\s)|\Z)\s*", paragraph, re.DOTALL)
    return "".join(
        sentence
        for sentence in sentences
        if not (named := first_name.search(sentence)) or named[1] == game
    ).rstrip()


def _capitalized(text: str) -> str:
    """Text with a capital first letter, unless that is a variable such as x."""
    return text if re.match(r"[b-z]\b", text) else text[:1].upper() + text[1:]


# --- keys ----------------------------------------------------------------------------------------

_ACTION = rf"[0-4]\s+(?:{'|'.join(action.name.lower() for action in Action)})\b"
_OTHER = r"(?:any|every|all)\s+other\s+integers?\b"  # which no key sends
_ACTIONS = re.compile(
    rf"{_ACTION}(?:(?:,|,?\s+and|,?\s+or)\s+{_ACTION})*(?P<other>,?\s+(?:and|or)\s+{_OTHER}(?:\s+do\b)?)?"
)


def _with_keys(paragraph: str) -> str:
    """A paragraph with keys in place of actions such as "0 up, 1 down".

    Clauses about other integers are left out.
    """
    text = _ACTIONS.sub(_keys, paragraph)
    text = re.sub(rf"[;,]\s+(?:and\s+)?{_OTHER}[^.;]*", "", text)
    text = re.sub(rf"{_OTHER}[^.]*\.(?:\s+|$)", "", text, flags=re.IGNORECASE).rstrip()
    text = re.sub(r"\bfire\b", KEY_NAMES[Action.FIRE], text)
    return re.sub(r"\bFire\b", _capitalized(KEY_NAMES[Action.FIRE]), text)


def _keys(match: re.Match) -> str:
    """The keys of a list of actions, in words."""
    words = re.findall(r"[0-4]\s+([a-z]+)", match[0])
    actions = [Action[word.upper()] for word in words]
    listed = match[0].removesuffix(match["other"] or "")
    conjunction = "or" if re.search(r"\sor\s", listed) else "and"
    keys = _listed([KEY_NAMES[action] for action in actions], conjunction)
    if set(actions) == set(Action) - {Action.FIRE}:
        keys = "the arrow keys"
    if (match["other"] or "").endswith("do"):
        keys += " do" if len(actions) > 1 else " does"
    return _capitalized(keys) if re.search(r"[.!?]\s+$", match.string[: match.start()]) else keys


def _listed(words: Sequence[str], conjunction: str) -> str:
    """Words as an English list: "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last


# --- numbers -------------------------------------------------------------------------------------

_NOUNS = r"cards|cells|columns|mines|pieces|rows|steps|suits"  # made singular after 1
_OPERATORS: dict[type, Callable[[Fraction, Fraction], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def _with_numbers(paragraph: str, numbers: list[dict[str, Fraction]]) -> str:
    """A paragraph with numbers in place of formulas such as "1 / (n^2 - m)" or "n x n".

    numbers: the value of each symbol, one dict for each level to be described; where levels differ,
    their values are listed: "26, 52 or 78".
    """
    if not numbers[0]:
        return paragraph
    symbol = "|".join(map(_symbol_pattern, numbers[0]))

    def number_for(match):
        before, formula, noun = match["before"] or "", match["formula"], match["noun"] or ""
        if not re.search(symbol, f" {formula}"):
            return match[0]
        values = list(dict.fromkeys(_evaluated(formula, level) for level in numbers))
        if values == ["1"] and noun:
            noun = noun[:-1]
            if before.startswith("next"):
                return before.rstrip() + noun
        if before[:1] in ("a", "A"):
            before = before[0] + ("n " if re.match(r"8|11\b|18\b", values[0]) else " ")
        return before + _listed(values, "or") + noun

    normal = r"a normal distribution with standard deviation \1"
    paragraph = re.sub(rf"\bN\(0,\s+({symbol})\^2\)", normal, paragraph)
    return _formula_pattern(symbol).sub(number_for, paragraph)


def _symbol_pattern(symbol: str) -> str:
    """A regular expression for a symbol. "A" that begins a sentence or an item is the article."""
    return rf"(?<!^)(?<![.:;*]\s)\b{symbol}\b" if symbol == "A" else rf"\b{symbol}\b"


def _formula_pattern(symbol: str) -> re.Pattern:
    """A regular expression for a formula of numbers and symbols.

    It also matches the words next to a formula that depend on its value.
    """

    def formula_of(atom):
        term = rf"-?(?:{number}\s+(?!\d))?{atom}(?:\^\d)?"
        return rf"{term}(?:\s*/\s*{term}|\s+[-+]\s+{term})*"

    number = r"\d+(?:\.\d+)?"
    in_brackets = formula_of(rf"(?:{number}|{symbol})")
    formula = formula_of(rf"(?:{number}|{symbol}|\({in_brackets}\))")
    return re.compile(
        rf"(?P<before>\b(?:[Aa]n?|next)\s+)?(?<![\w.])(?P<formula>{formula}(?:\s+x\s+{formula})*)"
        rf"(?P<noun>\s+(?:{_NOUNS})\b)?"
    )


def _evaluated(formula: str, numbers: dict[str, Fraction]) -> str:
    """A formula's value as text; that of "n x n" is like "8 x 8"."""

    def value(node: ast.AST) -> Fraction:
        match node:
            case ast.Constant():
                return Fraction(str(node.value))
            case ast.Name():
                return numbers[node.id]
            case ast.UnaryOp():
                return -value(node.operand)
            case ast.BinOp():
                return _OPERATORS[type(node.op)](value(node.left), value(node.right))
        raise ValueError(f"cannot evaluate {formula!r}")

    factors = [
        re.sub(r"(\d)\s+(?=[A-Za-z(])", r"\1 * ", " ".join(factor.split())).replace("^", "**")
        for factor in re.split(r"\s+x\s+", formula)
    ]
    return " x ".join(_written(value(ast.parse(factor, mode="eval").body)) for factor in factors)


def _written(number: Fraction) -> str:
    """A number as a player reads it: "64", "-0.02" or "1/12"."""
    return f"{float(number):g}" if 100 % number.denominator == 0 else str(number)
