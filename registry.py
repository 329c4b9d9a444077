"""The registry: every environment by name, and ``make``, which turns a name into the functions a
user calls.

To add a game, import its module and add it to GAMES; the loop below registers its levels.
"""

import dataclasses
import enum
import typing
from collections.abc import Iterable
from types import ModuleType
from typing import Any, NamedTuple

import jax.numpy as jnp

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
    "make",
    "matching_names",
    "registered_name",
    "twin_name",
]


class Action(enum.IntEnum):
    """The five actions of every game. Any other integer, such as NO_ACTION, only lets time pass."""

    UP = 0
    DOWN = 1
    LEFT = 2
    RIGHT = 3
    FIRE = 4


NUM_ACTIONS: int = len(Action)

TWINS: dict[str, bool] = {"MDP": False, "POMDP": True}
"""The names of a game's twins, each with its ``partial_obs``."""

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
"""Every game: its name to its module and its levels."""


class Entry(NamedTuple):
    """What the registry holds of an environment."""

    reset: BareReset
    step: BareStep  # does not reset
    render: BareRender
    params: Any  # the level's Params
    version: int  # of the rules: moves when behaviour does
    game: str  # e.g. "BattleShip"
    level: str  # "Easy", "Medium" or "Hard"
    module: ModuleType  # of the game
    return_range: tuple[float, float]  # the lowest and the highest return of an episode


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
"""Every environment: the game's name and the level's, e.g. ``BattleShipEasy``, to its Entry."""

REGISTERED_ENVIRONMENTS: tuple[str, ...] = tuple(REGISTRY)
"""The names that ``make`` takes."""


# --- names ---------------------------------------------------------------------------------------


def twin_name(partial_obs: bool) -> str:
    """The name of a twin: "POMDP" if partial_obs, else "MDP"."""
    return "POMDP" if partial_obs else "MDP"


def registered_name(text: str) -> str:
    """The name of an environment as it is registered, for text in upper or lower case.

    Raises ValueError with the nearest names if there is no such environment.
    """
    by_lower_case = {name.lower(): name for name in REGISTRY}
    if text.lower() not in by_lower_case:
        raise ValueError(
            f"there is no environment {text!r}; {spaces.nearest_names(text, REGISTRY)}"
        )
    return by_lower_case[text.lower()]


def matching_names(words: Iterable[str]) -> list[str]:
    """The environments that begin with one of the words, in the registry's order; all without
    words.

    Upper and lower case are the same. Raises ValueError for a word that no environment begins with.
    """
    prefixes = {word.lower(): word for word in words}
    for prefix, word in prefixes.items():
        if not any(name.lower().startswith(prefix) for name in REGISTRY):
            spaces.check_name("environment", word, REGISTRY)
    return [name for name in REGISTRY if not prefixes or name.lower().startswith(tuple(prefixes))]


# --- make ----------------------------------------------------------------------------------------


def make(
    name: str,
    partial_obs: bool = False,
    obs_size: int = 128,
    final_observation: bool = False,
    **overrides: Any,
) -> tuple[Environment, Any]:
    """Make an environment.

    name: one of REGISTERED_ENVIRONMENTS, e.g. "NavigatorEasy". partial_obs: False for the MDP view,
    True for the POMDP view; the twins share states, so a state of one may be continued in the
    other. obs_size: pixels a side of a frame, 128 or 256. final_observation: have ``step`` put the
    frame before the reset into ``info["final_observation"]`` (a second drawing). overrides: other
    fields of the game's Params, e.g. max_steps_in_episode=50.

    Returns (Environment, params). Observations are uint8[obs_size, obs_size, 3]: rows, columns,
    RGB.

    Raises ValueError for an unknown name, override or value, and TypeError for a value of the wrong
    type; the message names what is allowed and the nearest valid choice.
    """
    spaces.check_name("environment", name, REGISTRY)
    if not isinstance(final_observation, bool):
        raise TypeError(f"final_observation must be True or False, but it is {final_observation!r}")
    entry = REGISTRY[name]
    values = {"partial_obs": partial_obs, "obs_size": obs_size, **overrides}
    for field_name, value in values.items():
        _check_override(name, entry.params, field_name, value)
    params = dataclasses.replace(entry.params, **values)
    return _environment(name, entry, params, final_observation), params


def _check_override(name, params, field_name, value):
    """Raise an error that says what is allowed, if the environment has no such field or cannot have
    it set to this value."""
    fields = {field.name: field for field in dataclasses.fields(params)}
    if field_name not in fields:
        raise ValueError(
            f"{name} has no parameter {field_name!r}; {spaces.nearest_names(field_name, fields)}"
        )
    expected = typing.get_type_hints(type(params))[field_name]
    whole = expected is float and isinstance(value, int) and not isinstance(value, bool)
    if type(value) is not expected and not whole:
        raise TypeError(
            f"{name}'s {field_name} must be of type {expected.__name__}, "
            f"but {value!r} is of type {type(value).__name__}"
        )
    allowed = fields[field_name].metadata["allowed"]
    if expected is float:
        spaces.check_range(f"{name}'s {field_name}", value, *allowed)
    else:
        spaces.check_choice(f"{name}'s {field_name}", value, allowed)


def _environment(name, entry, default_params, final_observation):
    """Bind a registry entry to its default params: an Environment."""

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
    return Environment(
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
