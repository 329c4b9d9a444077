"""The rules of a game: its docstring taken apart, and what of it a player reads.

The form of a game's docstring: its first paragraph is ``<Game>: <what you do>.``, the next ones
lead in. Then come sections, each of which begins a paragraph with its name and a colon. Those in
SECTIONS are needed, in that order; a game may have others before Source. Lines that begin with ``*
`` are a list, and a paragraph indented by four spaces is shown as it is.
"""

import ast
import inspect
import re
from types import ModuleType
from typing import NamedTuple

from popgym_arcade.registry import REGISTRY

SECTIONS = (
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
HEADING = re.compile(r"([A-Z][A-Za-z0-9. ]{2,30}):(?:[ \n]|$)")
PLAYER_SECTIONS = (
    "Actions",
    "Step",
    "Rewards",
    "Episode end",
    "Views",
    "Start",
    "Pieces",
    "Levels",
)
"""The sections that a player reads, in this order."""


class Rules(NamedTuple):
    """A game's docstring, taken apart. A text is a list of paragraphs."""

    title: str
    lead: list  # the paragraphs before the first section
    sections: dict  # a section's name to its text


def parse(docstring):
    """Take a game's docstring apart: Rules. Raises ValueError, saying what is wrong, unless it has
    the form described above."""
    first, *paragraphs = re.split(r"\n\s*\n", docstring.strip("\n").rstrip())
    title, colon, aim = " ".join(first.split()).partition(": ")
    if not (colon and aim):
        raise ValueError(
            f"the docstring must begin with '<Game>: <what you do>.', but it begins with {first!r}"
        )
    lead, sections = [aim[0].upper() + aim[1:]], {}
    text = lead
    for paragraph in paragraphs:
        heading = HEADING.match(paragraph)
        if heading:
            if heading[1] in sections:
                raise ValueError(f"{title} has two sections {heading[1]!r}")
            text = sections[heading[1]] = []
            paragraph = paragraph[heading.end() :]
        text.append(paragraph)
    check_sections(title, list(sections))
    return Rules(title, lead, sections)


def check_sections(title, names):
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


def rules_of(module: ModuleType) -> Rules:
    """The rules of a game's module. Raises what ``parse`` raises, with the module's name."""
    try:
        return parse(docstring_of(module))
    except ValueError as error:
        raise ValueError(f"{module.__name__}: {error}") from error


def is_item(line):
    """Whether a line begins an item of a list."""
    return re.match(r"\* |\d+\. ", line) is not None


# --- for a player --------------------------------------------------------------------------------


def rules(name):
    """An environment's rules for a player: [(heading, [paragraph, ...]), ...], the aim first. name:
    of an environment."""
    game, parsed = REGISTRY[name].game, rules_of(REGISTRY[name].module)
    sections = [
        (heading, parsed.sections[heading])
        for heading in PLAYER_SECTIONS
        if heading in parsed.sections
    ]
    return [
        (game, parsed.lead),
        *((heading, [first[0].upper() + first[1:], *rest]) for heading, (first, *rest) in sections),
    ]


def paragraph_parts(paragraph):
    """A paragraph of the rules taken apart: [("text", "item" or "drawing", str), ...]; only a
    drawing has several lines."""
    lines = paragraph.split("\n")
    if all(line.startswith("    ") for line in lines):
        return [("drawing", "\n".join(line[4:] for line in lines))]
    parts = []
    for line in lines:
        if parts and not is_item(line):
            kind, text = parts.pop()
            parts.append((kind, f"{text} {line.strip()}"))
        else:
            parts.append(("item" if is_item(line) else "text", line.strip()))
    return parts
