"""Make docs/rules.md from the games' docstrings and levels: ``python docs/make_rules.py``.

What is true of one game is said in that game's docstring, and nowhere else, so that a copied game
brings its rules along. What is true of all of them is said here, in INTRODUCTION. A test holds
docs/rules.md to what this makes. The form of a docstring is described in ``play/rules.py``, which
takes it apart.
"""

import argparse
import dataclasses
import re
from pathlib import Path

from popgym_arcade.play.rules import is_item, rules_of
from popgym_arcade.registry import GAMES

RULES = Path(__file__).parent / "rules.md"
RETURNS = re.compile(r"Returns lie in (-?\d+(?:\.\d+)?) \.\.\. (-?\d+(?:\.\d+)?)")

INTRODUCTION = """\
# The rules

<!-- Made by `python docs/make_rules.py` from the docstrings in games/ and the text in that script. Change those. -->

First what holds for every game, then the games one by one.

## All games

**Names.** An environment's name is the game's and the level's together: `BattleShipEasy`, `BattleShipMedium`, `BattleShipHard`.

**Actions.** There are five, the same everywhere: 0 up, 1 down, 2 left, 3 right, 4 fire. Any other integer is taken too. It does
nothing, but the step counts.

**Observations.** A frame is `uint8[S, S, 3]`: rows, columns, and red, green, blue. S is `obs_size`, 128 or 256. The score stands at
the top in the middle and the game's name at the bottom, in either view. Boards are indexed by row and column, and row 0 is the
uppermost.

**Twins.** With `partial_obs=False` a game draws its MDP view, with `partial_obs=True` its POMDP view. A state, and how it goes on,
does not depend on the view, so an episode begun in one may be finished in the other.

**Time and score.** `time` in the state is the number of steps taken in this episode, and `score` is the number that the frame
shows. Both are 0 at the start.

**Rewards and returns.** Rewards are float32. The range given for a game holds for the sum of an episode's rewards, undiscounted,
and also for the sum at any moment before its end; it is that of the levels as they are registered, not of rewards that you set
yourself. Perfect play earns the upper end unless luck or the length of the way forbids, which the game's section says then.

**The end of an episode.** All flags describe the state after the step, and the reward of the last step is paid like any other.

| what `step` returns | type | when |
|---|---|---|
| `info["terminated"]` | bool | the game came to its own end |
| `info["truncated"]` | bool | `time` has reached `max_steps_in_episode`; both may be true at once |
| `done` | bool | either of the two |
| `info["discount"]` | float32 | 0 if terminated, else 1: what follows a truncation is cut off, but it is not worthless |

**Chance.** All of it comes from the keys given to `reset` and `step`. A start cell is one draw among all cells that are
eligible, each as likely as the next.

**Drawing** takes a state and params, and nothing else: one state has one frame. Noise on what is seen and masks over what is hidden
are therefore drawn by `reset` and `step` and kept in the state.

**The MDP view is Markov.** If two states that can come up may go on differently, by what the same actions earn, by when they end or
by what is seen of them later, then their frames differ in some pixel. Two things are left out: the time, where a game does not show
it, and what only chance will decide or no action has uncovered yet (cards not dealt, pieces and enemies still to come, ships
not hit and mines not dug).

**The POMDP view does not leak.** Two states that differ in nothing but what the view hides have the very same frame.

**Differences from release 0.0.7.** The games are those of POPGym Arcade 0.0.7, put right where that release contradicted its own
description. Each game lists its own differences; these concern all or several of them.

* Flags and rewards belong to the state after the step, and what the last step earns is paid. Several games looked at the state
  before it, or paid nothing on the step that reached the time limit, so episodes ended a step late or lost their last reward.
* `terminated` is about the game alone; reaching the time limit sets `truncated`. CartPole, for one, set both.
* Every game takes the same five actions, and any other integer does nothing. AutoEncode took four, and where actions chose a
  branch, numbers out of range were taken for the nearest action.
* A start cell is drawn as one cell. Rows and columns used to be drawn apart, from too short a range in BattleShip and MineSweeper,
  and with a constant key for Navigator's treasure.
* What is random about a frame is part of the state and comes from the step's key. CartPole's noise was made while drawing, and
  Skittles made its mask from the time, the same in every episode.
* MDP frames show all that matters. In several games they left out something that rewards or the end depended on.
* Names of environments and sizes of boards and decks are as they were. The pictures are new.

**Versions.** Each game has a rule version, and the registry tells it: `popgym_arcade.REGISTRY["NavigatorEasy"].version`. It moves
when rules, random numbers or frames of the game change, and stays when it only becomes faster. Names of environments stay.
"""


# --- Markdown ------------------------------------------------------------------------------------


def rulebook():
    """The whole of docs/rules.md: a str."""
    return "\n".join(
        [INTRODUCTION, overview(), *(game_markdown(*case) for case in modules().items())]
    )


def modules():
    """Every module of games to the games in it: {module: {name: levels}}."""
    grouped = {}
    for name, (module, levels) in GAMES.items():
        grouped.setdefault(module, {})[name] = levels
    return grouped


def overview():
    """A table of all games."""
    rows = [("game", "returns", "limit of steps: Easy, Medium, Hard", "rule version"), ("---",) * 4]
    for name, (module, levels) in GAMES.items():
        limits = ", ".join(str(params.max_steps_in_episode) for params in levels.values())
        rows.append(
            (f"[{name}](#{anchor(module)})", returns_text(module), limits, str(module.VERSION))
        )
    return table(rows)


def anchor(module):
    """The name that a link to a module's heading uses."""
    return rules_of(module).title.lower().replace(" ", "-")


def returns_text(module):
    """A game's range of returns in words."""
    return "{:g} ... {:g}".format(*module.RETURN_RANGE)


def game_markdown(module, games):
    """A module's docstring and the levels of its games, as Markdown."""
    rules, returns = rules_of(module), returns_text(module)
    parts = [f"## {rules.title}\n", "\n\n".join(map(markdown, rules.lead)) + "\n"]
    for name, text in rules.sections.items():
        body = "\n\n".join(map(markdown, text)).lstrip()
        parts.append(f"**{name}:**" + ("\n\n" if is_item(body) else " ") + body + "\n")
        if name == "Rewards":
            parts.append(f"**Range of returns:** {returns}\n")
        if name == "Levels":
            parts += [levels_table(name, levels) for name, levels in games.items()]
    return "\n".join(parts)


def levels_table(game, levels):
    """All parameters of a game's levels, with what they may be set to."""
    first = next(iter(levels.values()))
    rows = [
        ("parameter", *(game + level for level in levels), "may be"),
        ("---",) * (len(levels) + 2),
    ]
    for field in dataclasses.fields(first):
        if field.name not in ("partial_obs", "obs_size"):
            values = (f"{getattr(params, field.name)}" for params in levels.values())
            rows.append((f"`{field.name}`", *values, allowed_text(field)))
    return table(rows)


def allowed_text(field):
    """What a parameter may be set to, in words."""
    allowed = field.metadata["allowed"]
    if isinstance(allowed, range):
        steps = "" if allowed.step == 1 else f" in steps of {allowed.step}"
        return f"{allowed[0]} ... {allowed[-1]}{steps}"
    if field.type is float:
        return "{:g} ... {:g}".format(*allowed)
    return ", ".join(map(str, allowed))


def table(rows):
    """Rows of text as a Markdown table."""
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def markdown(paragraph):
    """A paragraph of a docstring: a drawing that is indented by four spaces as a block of code,
    else escaped text and lists."""
    lines = paragraph.rstrip().split("\n")
    if all(line.startswith("    ") for line in lines):
        return "```text\n" + "\n".join(line[4:] for line in lines) + "\n```"
    blocks = [escaped(line) for line in lines]
    for i in range(len(lines) - 1, 0, -1):
        if is_item(lines[i]) and not is_item(lines[i - 1]) and not lines[i - 1].startswith("  "):
            blocks.insert(i, "")  # a list begins after an empty line
    return "\n".join(blocks)


def escaped(line):
    """A line of a docstring whose characters mean themselves in Markdown, but for the mark of a
    list's item."""
    mark = re.match(r"\* |\d+\. |", line)[0]
    text = re.sub(r"([*_`])", r"\\\1", line[len(mark) :])
    text = re.sub(r"<(?=[A-Za-z/!])", r"\\<", text)
    return mark + re.sub(r"^(?=[-+#>])", r"\\", text)


# --- the command ---------------------------------------------------------------------------------


def main(arguments=None):
    """Write the rulebook from the command line."""
    parser = argparse.ArgumentParser(
        description="Write docs/rules.md from the games' docstrings and levels."
    )
    parser.add_argument(
        "path",
        nargs="?",
        type=Path,
        default=RULES,
        help="the file to write (default: docs/rules.md of the clone)",
    )
    path = parser.parse_args(arguments).path
    if not path.parent.is_dir():
        parser.error(
            f"there is no folder {path.parent} to write into; in an installed package, name a file"
        )
    path.write_text(rulebook())
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
