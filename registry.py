"""The registry: every environment by name, and ``make``, which turns a name into the functions a user calls.

To add a game, import its module and add it to GAMES; the loop below does the rest.
"""

import dataclasses
import difflib
import typing
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
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

NUM_ACTIONS = 5

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

    reset: Callable  # (key, params) -> (observation, state)
    step: Callable  # (key, state, action, params) -> (observation, state, reward, done, info); does not reset
    render: Callable  # (state, params) -> observation
    params: Any  # the level's Params
    version: int  # of the rules: moves when behaviour does


REGISTRY: dict[str, Entry] = {
    game + level: Entry(module.reset, module.step, module.render, params, module.VERSION)
    for game, (module, levels) in GAMES.items()
    for level, params in levels.items()
}
"""Every environment: the game's name and the level's, e.g. ``BattleShipEasy``, to its Entry."""

REGISTERED_ENVIRONMENTS: tuple[str, ...] = tuple(REGISTRY)
"""The names that ``make`` takes."""


class Environment(NamedTuple):
    """An environment as functions. Wherever params is taken it may be left out; ``default_params`` is used then."""

    name: str
    default_params: Any
    num_actions: int
    reset: Callable  # (key, params) -> (observation, state)
    step: Callable  # (key, state, action, params) -> (observation, state, reward, done, info); resets itself when done
    step_env: Callable  # the same, but without the reset
    render: Callable  # (state, params) -> observation
    action_space: Callable  # (params) -> spaces.Discrete
    observation_space: Callable  # (params) -> spaces.Box


def make(name, partial_obs=False, obs_size=128, final_observation=False, **overrides):
    """Make an environment.

    name: one of REGISTERED_ENVIRONMENTS, e.g. "NavigatorEasy". partial_obs: False for the MDP view, True for the POMDP view;
    the twins share states, so a state of one may be continued in the other. obs_size: pixels a side of a frame, 128 or 256.
    final_observation: have ``step`` put the frame before the reset into ``info["final_observation"]`` (a second drawing).
    overrides: other fields of the game's Params, e.g. max_steps_in_episode=50.

    Returns (Environment, params). Observations are uint8[obs_size, obs_size, 3]: rows, columns, RGB.

    Raises ValueError for an unknown name, override or value, and TypeError for a value of the wrong type; the message names what
    is allowed and the nearest valid choice.
    """
    if name not in REGISTRY:
        raise ValueError(f"there is no environment {name!r}; {nearest_names(name, REGISTRY)}")
    if not isinstance(final_observation, bool):
        raise TypeError(f"final_observation must be True or False, but it is {final_observation!r}")
    entry = REGISTRY[name]
    values = {"partial_obs": partial_obs, "obs_size": obs_size, **overrides}
    for field_name, value in values.items():
        check_override(name, entry.params, field_name, value)
    params = dataclasses.replace(entry.params, **values)
    return _environment(name, entry, params, final_observation), params


def check_override(name, params, field_name, value):
    """Raise an error that says what is allowed, if the environment has no such field or cannot have it set to this value."""
    fields = {field.name: field for field in dataclasses.fields(params)}
    if field_name not in fields:
        raise ValueError(f"{name} has no parameter {field_name!r}; {nearest_names(field_name, fields)}")
    expected = typing.get_type_hints(type(params))[field_name]
    number = expected is float and isinstance(value, int) and not isinstance(value, bool)
    if type(value) is not expected and not number:
        raise TypeError(
            f"{name}'s {field_name} must be of type {expected.__name__}, but {value!r} is of type {type(value).__name__}"
        )
    allowed = fields[field_name].metadata["allowed"]
    if expected is float:
        low, high = allowed
        if not low <= value <= high:  # false for NaN too
            nearest = high if value > high else low
            raise ValueError(
                f"{name}'s {field_name} must lie in {low:g} ... {high:g}, but it is {value}; the nearest is {nearest:g}"
            )
    elif value not in allowed:
        raise ValueError(
            f"{name}'s {field_name} must be {_listed(allowed)}, but it is {value!r}; the nearest is {_closest(value, allowed)!r}"
        )


def nearest_names(word, words):
    """The end of a message about an unknown word: the closest known ones, or all of them."""
    by_lower_case = {known.lower(): known for known in words}
    close = difflib.get_close_matches(str(word).lower(), by_lower_case, n=3, cutoff=0.5)
    if close:
        return f"the nearest are: {', '.join(by_lower_case[lower] for lower in close)}"
    return f"there are: {', '.join(words)}"


def _listed(allowed):
    """What is allowed, in words: 'one of 128, 256' or '4 ... 20' or '6, 8, ... 20'."""
    if not isinstance(allowed, range):
        return "one of " + ", ".join(map(repr, allowed))
    if allowed.step == 1:
        return f"in {allowed[0]} ... {allowed[-1]}"
    return f"one of {allowed[0]}, {allowed[1]}, ... {allowed[-1]}"


def _closest(value, allowed):
    """The allowed choice nearest to a value of the right type."""
    if isinstance(value, str):
        return (difflib.get_close_matches(value, allowed, n=1, cutoff=0) or allowed)[0]
    if isinstance(allowed, range):
        low, high = allowed[0], allowed[-1]
        return low if value < low else high if value > high else allowed[(value - low) // allowed.step]
    return min(allowed, key=lambda choice: abs(choice - value))


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
    return Environment(name, default_params, NUM_ACTIONS, reset, step, step_env, render, action_space, observation_space)


def auto_reset(reset, step_env, render, final_observation=False):
    """A ``step`` that begins a new episode by itself, made of an environment's other functions.

    reset, step_env, render: as in Environment. final_observation: put the last frame before a reset into
    ``info["final_observation"]`` of every step. Returns the function that Environment describes.
    """

    def step(key, state, action, params=None):
        """One transition and, if it ended the episode, the first state of a new one.

        The observation and the state are the new episode's then; reward, done and info are the finished step's. The state is
        chosen first and drawn once: under jit the frames that ``step_env`` and ``reset`` return here are never computed.
        """
        step_key, reset_key = jax.random.split(key)
        last_observation, last_state, reward, done, info = step_env(step_key, state, action, params)
        _, first_state = reset(reset_key, params)
        state = jax.tree.map(lambda first, last: jnp.where(done, first, last), first_state, last_state)
        if final_observation:
            info = {**info, "final_observation": last_observation}
        return render(state, params), state, reward, done, info

    return step
