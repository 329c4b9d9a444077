"""Tests of registry.py: names and actions. ``make`` is tested in test_games.py."""

import re

import jax
import jax.numpy as jnp
import pytest

import popgym_arcade
from popgym_arcade import GAMES, REGISTERED_ENVIRONMENTS, REGISTRY, Action, make
from popgym_arcade.registry import (
    NO_ACTION,
    NUM_ACTIONS,
    TWINS,
    matching_names,
    overrides_from,
    registered_game,
    registered_name,
    twin_name,
)

LEVELS = ("Easy", "Medium", "Hard")


def spellings(name):
    """A name in three spellings that differ in case only."""
    return name, name.lower(), name.upper()


# --- the tables ----------------------------------------------------------------------------------


def test_an_environments_name_is_its_game_and_level():
    for name, entry in REGISTRY.items():
        assert name == entry.game + entry.level and entry.level in LEVELS
        module, levels = GAMES[entry.game]
        assert entry.module is module and entry.params is levels[entry.level]
    assert len(REGISTRY) == len(LEVELS) * len(GAMES)
    assert REGISTERED_ENVIRONMENTS == tuple(REGISTRY)


def test_the_lowest_return_is_below_the_highest():
    for entry in REGISTRY.values():
        lowest, highest = entry.return_range
        assert lowest < highest


# --- overrides as text ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, overrides",
    [
        ("", {}),
        ("board_size=4", {"board_size": 4}),
        (" board_size = 4 , max_steps_in_episode=50,", dict(board_size=4, max_steps_in_episode=50)),
        ("noise_sigma=0.5,cursor_hidden=False", dict(noise_sigma=0.5, cursor_hidden=False)),
        ("title=x", {"title": "x"}),
    ],
)
def test_overrides_are_read_from_text(text, overrides):
    read = overrides_from(text)
    assert read == overrides
    assert list(map(type, read.values())) == list(map(type, overrides.values()))


@pytest.mark.parametrize(
    "text, message",
    [
        ("board_size", "not 'board_size'"),
        ("board_size=", "NAME=VALUE,NAME=VALUE, e.g. board_size=4"),
        ("=4", "not '=4'"),
        ("board_size=4,board_size=5", "board_size is given twice"),
    ],
)
def test_text_that_holds_no_overrides_is_answered_with_an_example(text, message):
    with pytest.raises(ValueError, match=message):
        overrides_from(text)


# --- names ---------------------------------------------------------------------------------------


def test_twins_are_named_by_their_view():
    assert TWINS == {"MDP": False, "POMDP": True}
    for name, partial_obs in TWINS.items():
        assert twin_name(partial_obs) == name
        assert make("NavigatorEasy", partial_obs=partial_obs)[1].partial_obs is partial_obs


@pytest.mark.parametrize("name", REGISTRY)
def test_an_environment_is_found_in_any_case(name):
    assert {registered_name(text) for text in spellings(name)} == {name}


@pytest.mark.parametrize(
    "text, nearest",
    [
        ("navigatoresy", "the nearest are: NavigatorEasy"),
        ("Navigator", "the nearest are: Navigator"),
        ("cartpole easy", "the nearest are: CartPoleEasy"),
        ("", "there are: AutoEncodeEasy, "),
    ],
)
def test_an_unknown_environment_is_answered_with_the_nearest(text, nearest):
    with pytest.raises(ValueError, match=re.escape(f"no environment {text!r}; {nearest}")):
        registered_name(text)
    with pytest.raises(ValueError, match=re.escape(f"no environment {text!r}; {nearest}")):
        make(text)


@pytest.mark.parametrize("game", GAMES)
def test_a_game_is_found_by_its_own_name_and_by_its_environments(game):
    for name in (game, *(game + level for level in LEVELS)):
        assert {registered_game(text) for text in spellings(name)} == {game}


@pytest.mark.parametrize(
    "text, nearest",
    [("Navigatr", "Navigator"), ("CartPoleEsy", "CartPole"), ("battleshp", "BattleShip")],
)
def test_an_unknown_game_is_answered_with_the_nearest_games(text, nearest):
    with pytest.raises(
        ValueError, match=f"no game '{text}'; the nearest are: .*{nearest}"
    ) as error:
        registered_game(text)
    assert not any(name in str(error.value) for name in REGISTRY)


def test_environments_are_chosen_by_how_their_names_start():
    assert matching_names([]) == list(REGISTERED_ENVIRONMENTS)
    assert matching_names(["navigatorhard", "NavigatorE"]) == ["NavigatorEasy", "NavigatorHard"]
    # in the registry's order, and each once
    assert matching_names(iter(["CARTPOLE", "BattleShipHard", "cart"])) == [
        "BattleShipHard",
        "CartPoleEasy",
        "CartPoleMedium",
        "CartPoleHard",
    ]


@pytest.mark.parametrize("words", [["Navigater"], ["Tetris", "navigater"]])
def test_a_word_that_no_environment_starts_with_is_answered_with_the_nearest(words):
    with pytest.raises(ValueError, match=f"no environment '{words[-1]}'; .*NavigatorEasy"):
        matching_names(words)


# --- actions -------------------------------------------------------------------------------------


def test_the_actions_count_from_0():
    assert popgym_arcade.Action is Action
    assert [action.name for action in Action] == ["UP", "DOWN", "LEFT", "RIGHT", "FIRE"]
    assert [int(action) for action in Action] == list(range(NUM_ACTIONS))
    assert NO_ACTION not in list(Action)
    for module, _ in GAMES.values():
        assert (module.UP, module.DOWN, module.LEFT, module.RIGHT, module.FIRE) == tuple(Action)


@pytest.mark.parametrize("action", Action)
def test_an_action_can_be_played_eagerly_and_under_jit(action):
    env, params = make("NavigatorEasy")
    _, state = jax.jit(env.reset)(jax.random.key(0), params)
    assert env.action_space(params).contains(action)
    expected = env.step_env(jax.random.key(1), state, jnp.int32(action), params)[1]
    as_argument = jax.jit(lambda action: env.step_env(jax.random.key(1), state, action, params)[1])
    as_constant = jax.jit(lambda: env.step_env(jax.random.key(1), state, action, params)[1])
    for played in (
        env.step_env(jax.random.key(1), state, action, params)[1],
        as_argument(action),
        as_constant(),
    ):
        assert jax.tree.all(jax.tree.map(jnp.array_equal, played, expected))


def test_actions_can_be_batched():
    env, params = make("NavigatorEasy")
    reset = jax.jit(jax.vmap(env.reset, (0, None)))
    _, states = reset(jax.random.split(jax.random.key(0), 5), params)
    step = jax.jit(jax.vmap(env.step, (0, 0, 0, None)))
    keys = jax.random.split(jax.random.key(1), 5)
    frames, *_ = step(keys, states, jnp.array(list(Action)), params)
    assert jnp.array_equal(frames, step(keys, states, jnp.arange(5), params)[0])
