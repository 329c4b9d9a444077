"""The registry of games and environments, and ``make``, which builds an environment by name.

To add a game, import its module and add it to GAMES: every level is then registered.
"""

import argparse
import ast
import dataclasses
import enum
import typing
from collections.abc import Iterable
from types import ModuleType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from popgym_arcade import spaces
from popgym_arcade.games import (
    autoencode,
    battleship,
    breakout,
    cartpole,
    count_recall,
    minesweeper,
    navigator,
    skittles,
    tetris,
)
from popgym_arcade.wrappers import (
    NO_ACTION,
    BareRender,
    BareReset,
    BareStep,
    Environment,
    auto_reset,
    made_by,
)

__all__ = [
    "GAMES",
    "NO_ACTION",
    "NUM_ACTIONS",
    "REGISTERED_ENVIRONMENTS",
    "REGISTRY",
    "TWINS",
    "Action",
    "Entry",
    "Environment",
    "UnknownParameterError",
    "add_games_option",
    "make",
    "matching_names",
    "overrides_from",
    "registered_game",
    "registered_name",
    "twin_name",
]


class Action(enum.IntEnum):
    """The five actions of every game.

    They are integers, so ``env.step(key, state, Action.FIRE, params)`` works eagerly and under jit.
    Games accept any other integer too, such as NO_ACTION: only time passes then.
    """

    UP = 0
    DOWN = 1
    LEFT = 2
    RIGHT = 3
    FIRE = 4


NUM_ACTIONS: int = len(Action)
"""Number of actions: 5 in every game."""

TWINS: dict[str, bool] = {"MDP": False, "POMDP": True}
"""The twins of every environment: name -> ``partial_obs``."""

_TWIN_NAMES = {partial_obs: name for name, partial_obs in TWINS.items()}

GAMES: dict[str, tuple[ModuleType, dict[str, Any]]] = {
    autoencode.NAME: (autoencode, autoencode.LEVELS),
    battleship.NAME: (battleship, battleship.LEVELS),
    breakout.NAME: (breakout, breakout.LEVELS),
    cartpole.NAME: (cartpole, cartpole.LEVELS),
    cartpole.NOISY_NAME: (cartpole, cartpole.NOISY_LEVELS),
    count_recall.NAME: (count_recall, count_recall.LEVELS),
    minesweeper.NAME: (minesweeper, minesweeper.LEVELS),
    navigator.NAME: (navigator, navigator.LEVELS),
    skittles.NAME: (skittles, skittles.LEVELS),
    tetris.NAME: (tetris, tetris.LEVELS),
}
"""Every game: name -> (its module, {level: Params})."""


class Entry(NamedTuple):
    """A registered environment: one level of a game."""

    reset: BareReset
    step: BareStep  # no auto-reset
    render: BareRender
    params: Any  # the level's Params
    version: int  # of the rules; changes whenever behavior does
    game: str  # e.g. "BattleShip"
    level: str  # "Easy", "Medium" or "Hard"
    module: ModuleType  # the game's
    return_range: tuple[float, float]  # lowest and highest return of an episode


REGISTRY: dict[str, Entry] = {
    game + level: Entry(
        module.reset,
        module.step,
        module.render,
        params,
        module.VERSION,
        game,
        level,
        module,
        module.RETURN_RANGE,
    )
    for game, (module, levels) in GAMES.items()
    for level, params in levels.items()
}
"""Every environment: name (game + level, e.g. "BattleShipEasy") -> Entry."""

REGISTERED_ENVIRONMENTS: tuple[str, ...] = tuple(REGISTRY)
"""The names that ``make`` accepts."""


# --- names ---------------------------------------------------------------------------------------


def twin_name(partial_obs: bool) -> str:
    """The name of a twin, for output and file names: "POMDP" if partial_obs, otherwise "MDP"."""
    return _TWIN_NAMES[bool(partial_obs)]


def registered_name(text: str) -> str:
    """The environment that a user's text names, in its registered spelling; case is ignored.

    Raises ValueError with the nearest names if there is none.
    """
    by_lower_case = {name.lower(): name for name in REGISTRY}
    name = by_lower_case.get(text.lower(), text)
    spaces.check_name("environment", name, REGISTRY)
    return name


def registered_game(text: str) -> str:
    """The game that a user's text names, itself or by one of its environments; case is ignored.

    E.g. "navigator" and "NavigatorEasy" both give "Navigator". Raises ValueError with the nearest
    names of games if there is none.
    """
    by_lower_case = {name.lower(): entry.game for name, entry in REGISTRY.items()}
    by_lower_case |= {game.lower(): game for game in GAMES}
    game = by_lower_case.get(text.lower(), text)
    spaces.check_name("game", game, GAMES)
    return game


def matching_names(words: Iterable[str]) -> list[str]:
    """The environments that start with one of a user's words, e.g. a game's name; case is ignored.

    Without words, all environments. They come in the registry's order. Raises ValueError with the
    nearest names for a word that matches nothing.
    """
    prefixes = {word.lower(): word for word in words}
    for prefix, word in prefixes.items():
        if not any(name.lower().startswith(prefix) for name in REGISTRY):
            spaces.check_name("environment", word, REGISTRY)
    return [name for name in REGISTRY if not prefixes or name.lower().startswith(tuple(prefixes))]


def add_games_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--games`` to a command line: words for ``matching_names``, by default none."""
    parser.add_argument(
        "--games",
        nargs="+",
        default=[],
        metavar="NAME",
        help="games or environments, e.g. Navigator BattleShipEasy (default: all)",
    )


# --- make ----------------------------------------------------------------------------------------


def make(
    name: str,
    partial_obs: bool = False,
    obs_size: int = 128,
    final_observation: bool = False,
    **overrides: Any,
) -> tuple[Environment, Any]:
    """Make an environment.

    name: one of REGISTERED_ENVIRONMENTS, e.g. "NavigatorEasy". partial_obs: whether frames show
    the POMDP's partial view or the MDP's full view; the twins share their states, so an episode can
    switch between them. obs_size: height and width of a frame in pixels, 128 or 256.
    final_observation: whether ``step`` also returns the last frame before an auto-reset, as
    ``info["final_observation"]``, at the cost of drawing a second frame. overrides: other fields of
    the game's Params, e.g. max_steps_in_episode=50.

    Returns (Environment, params). Observations are uint8[obs_size, obs_size, 3]: rows, columns,
    RGB.

    NumPy's scalars count as Python's. Raises ValueError for an unknown name or an invalid value,
    TypeError for a value of the wrong type, and UnknownParameterError for an unknown override; the
    message names what is allowed and the nearest valid choice.
    """
    if not isinstance(name, str):
        raise TypeError(f"an environment's name is a str, e.g. 'NavigatorEasy', but it is {name!r}")
    spaces.check_name("environment", name, REGISTRY)
    final_observation = _plain(final_observation)
    if not isinstance(final_observation, bool):
        raise TypeError(f"final_observation must be True or False, but it is {final_observation!r}")
    entry = REGISTRY[name]
    values = {"partial_obs": partial_obs, "obs_size": obs_size, **overrides}
    values = {field_name: _plain(value) for field_name, value in values.items()}
    for field_name, value in values.items():
        _check_override(name, entry.params, field_name, value)
    params = dataclasses.replace(entry.params, **values)
    return _environment(name, params, final_observation), params


def overrides_from(text: str) -> dict[str, Any]:
    """Read overrides for ``make`` from text, as on a command line: name -> bool, int, float or str.

    text: e.g. "board_size=4,max_steps_in_episode=50"; "" has none. Raises ValueError if it is
    written otherwise. ``make`` checks names and values.
    """
    overrides: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not (name and equals and value):
            raise ValueError(
                f"parameters are written NAME=VALUE,NAME=VALUE, e.g. board_size=4, not {part!r}"
            )
        if name in overrides:
            raise ValueError(f"the parameter {name} is given twice")
        try:
            overrides[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            overrides[name] = value
    return overrides


class UnknownParameterError(TypeError, ValueError):
    """An override that is not a field of the game's Params.

    It is a TypeError, as for any unexpected keyword argument, because some libraries try one and
    leave it out only after that error.
    """


def _plain(value: Any) -> Any:
    """The Python value of a NumPy scalar; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def _check_override(name: str, params: Any, field_name: str, value: Any) -> None:
    """Raise ValueError or TypeError unless the environment's Params allow a field's new value.

    What is allowed is in the field's metadata: a range or a tuple of values, for a float its lowest
    and highest value.
    """
    fields = {field.name: field for field in dataclasses.fields(params)}
    if field_name not in fields:
        raise UnknownParameterError(
            f"unexpected keyword argument {field_name!r} for {name}; "
            f"{spaces.nearest_names(field_name, fields)}"
        )
    expected = typing.get_type_hints(type(params))[field_name]
    int_for_float = expected is float and isinstance(value, int) and not isinstance(value, bool)
    if type(value) is not expected and not int_for_float:
        raise TypeError(
            f"{name}'s {field_name} must be of type {expected.__name__}, "
            f"but {value!r} is of type {type(value).__name__}"
        )
    allowed = fields[field_name].metadata["allowed"]
    if expected is float:
        spaces.check_range(f"{name}'s {field_name}", value, *allowed)
    else:
        spaces.check_choice(f"{name}'s {field_name}", value, allowed)


def _environment(name: str, default_params: Any, final_observation: bool) -> Environment:
    """Build a registered Environment with default params."""
    entry = REGISTRY[name]

    def reset(key, params=None):
        return entry.reset(key, default_params if params is None else params)

    def step_env(key, state, action, params=None):
        return entry.step(key, state, action, default_params if params is None else params)

    def render(state, params=None):
        return entry.render(state, default_params if params is None else params)

    def action_space(params=None):
        return spaces.Discrete(NUM_ACTIONS)

    def observation_space(params=None):
        size = (default_params if params is None else params).obs_size
        return spaces.Box(0, 255, (size, size, 3), jnp.uint8)

    step = auto_reset(reset, step_env, render, final_observation)
    env = Environment(
        name,
        default_params,
        NUM_ACTIONS,
        reset,
        step,
        step_env,
        render,
        action_space,
        observation_space,
    )
    return made_by(env, _environment, name, default_params, final_observation)
