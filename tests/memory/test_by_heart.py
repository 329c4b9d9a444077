"""Tests of the search that learns the course of a game by heart."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade import REGISTRY
from popgym_arcade.memory import by_heart as module
from popgym_arcade.memory.by_heart import Settings, by_heart, by_heart_policy, distinct_starts
from popgym_arcade.memory.episodes import returns
from popgym_arcade.memory.players import PLAYERS

LEFT, RIGHT, FIRE = 2, 3, 4


# --- a game of two steps -------------------------------------------------------------------------
# At time 0 the frame shows a number. 2 and 3 move to the left and right, and only where one is is
# shown afterwards. Then 2, 3 or 4 pays 1 if it is the action that belongs to the number.


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """As those of a game."""

    max_steps_in_episode: int = 2


class State(NamedTuple):
    """One episode."""

    number: jax.Array
    place: jax.Array
    time: jax.Array


def reset(key, params, numbers):
    state = State(jax.random.randint(key, (), 0, numbers), jnp.int32(0), jnp.int32(0))
    return None, state


def step(key, state, action, params):
    wanted = LEFT + state.number % 3
    reward = ((state.time == 1) & (action == wanted)).astype(jnp.float32)
    place = state.place + (action == RIGHT) - (action == LEFT)
    state = State(state.number, place, state.time + 1)
    return None, state, reward, state.time == 2, {}


def shown(state, params):
    return jnp.where(state.time == 0, 10 + state.number, 1 + state.place)


@pytest.fixture
def game(monkeypatch):
    """A function: the number of numbers -> (entry, params, player). Its expert only goes left."""
    monkeypatch.setattr(module.experts, "expert", lambda state, params: jnp.int32(LEFT))

    def with_numbers(numbers):
        entry = REGISTRY["NavigatorEasy"]._replace(
            reset=lambda key, params: reset(key, params, numbers), step=step, return_range=(0, 1)
        )
        player = PLAYERS["Navigator"]._replace(
            shown=shown, key=lambda shown, params: shown, num_keys=lambda params: 20
        )
        return entry, Params(), player

    return with_numbers


@pytest.mark.parametrize("numbers", [3, 6])
def test_it_finds_the_policy_that_tells_itself_what_it_saw(game, numbers):
    entry, params, player = game(numbers)
    progress = []
    actions = by_heart(
        entry,
        params,
        player,
        Settings(orders=8, rounds=1, steps=60),
        progress=lambda share, mean: progress.append(share),
    )
    policy = by_heart_policy(player, actions)
    assert returns(entry, params, {"": policy}, episodes=64)[""].min() == 1
    assert progress == pytest.approx(np.arange(1, numbers + 1) / numbers)


def test_where_it_cannot_win_it_keeps_the_best_it_found(game):
    entry, params, player = game(3)
    player = player._replace(shown=lambda state, params: state.time)  # hides the number, too
    actions = by_heart(entry, params, player, Settings(orders=2, rounds=2, steps=60))
    mean = returns(entry, params, {"": by_heart_policy(player, actions)}, episodes=3000)[""].mean()
    assert mean == pytest.approx(1 / 3, abs=0.05)
    assert actions[5] == FIRE  # for a key that never comes up


@pytest.mark.parametrize("name, places", [("Easy", 5), ("Medium", 6), ("Hard", 7)])
def test_breakout_has_few_starts(name, places):
    entry = REGISTRY["Breakout" + name]
    assert len(distinct_starts(entry, entry.params).time) == 20 * places


def test_other_games_cannot_be_learned_by_heart():
    entry = REGISTRY["NavigatorEasy"]
    assert distinct_starts(entry, entry.params) is None
    with pytest.raises(ValueError, match="NavigatorEasy has more than 256 starts"):
        by_heart(entry, entry.params, PLAYERS["Navigator"], Settings())
