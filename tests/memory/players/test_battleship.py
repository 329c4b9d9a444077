"""Tests of BattleShip's player."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade.games import battleship
from popgym_arcade.memory.players.battleship import HIT, MISS, OPEN, PLAYER, Shown, shown
from popgym_arcade.registry import NO_ACTION, Action
from tests.testing import board_of

MDP = battleship.LEVELS["Easy"]
POMDP = dataclasses.replace(MDP, partial_obs=True)
EDITION_1 = dataclasses.replace(POMDP, cursor_hidden=False)


def states():
    """Every cell with every mark under the cursor, after and before the first step."""
    size = MDP.board_size
    row, col, mark, time = (axis.ravel() for axis in np.indices((size, size, 3, 2), np.int32))
    cursor = np.zeros((len(row), size, size), bool)
    cursor[np.arange(len(row)), row, col] = True
    ships, shots = (cursor & which[:, None, None] for which in (mark == HIT, mark != OPEN))
    return battleship.State(ships, shots, row, col, repeats=0 * row, time=time, score=1 * time)


def keys(params):
    """The keys of the frames of states(), and what the frames show, a row each."""
    seen = jax.vmap(shown, in_axes=(0, None))(states(), params)
    key = np.asarray(jax.vmap(PLAYER.key, in_axes=(0, None))(seen, params))
    assert key.min() >= 0 and key.max() < PLAYER.num_keys(params)
    return key, np.stack([seen.score, seen.row, seen.col, seen.mark], axis=1)


@pytest.mark.parametrize("params", [POMDP, EDITION_1], ids=["edition 2", "edition 1"])
def test_the_key_tells_frames_apart(params):
    key, frames = keys(params)
    if params is EDITION_1:
        frames = frames[:, 1:]  # all but the score
    assert len(np.unique(key)) == len(np.unique(frames, axis=0))
    assert len(np.unique(np.column_stack([key, frames]), axis=0)) == len(np.unique(key))


def test_recall_follows_its_own_moves_and_keeps_the_marks():
    script = [  # (last action, the mark under the cursor, which the first frame hides)
        (NO_ACTION, None),
        (Action.FIRE, HIT),
        (Action.UP, HIT),  # against the edge
        (Action.RIGHT, OPEN),
        (Action.FIRE, MISS),
        (Action.DOWN, OPEN),
    ]
    size, hidden = MDP.board_size, jnp.int32(-1)
    remember, memory = jax.jit(PLAYER.remember), PLAYER.begin(POMDP)
    for action, mark in script:
        place, mark = ((0, 2), -1) if mark is None else ((hidden, hidden), mark)
        frame = Shown(0, *map(jnp.int32, (*place, mark)), jnp.full((size, size), hidden), hidden)
        memory = remember(memory, jnp.int32(action), frame, POMDP)
    assert (memory.row, memory.col) == (1, 3)
    np.testing.assert_array_equal(np.argwhere(memory.shots), [[0, 2], [0, 3]])
    np.testing.assert_array_equal(np.argwhere(memory.ships), [[0, 2]])
    assert PLAYER.act(memory, POMDP) == Action.FIRE


def test_recall_walks_past_marks_along_the_loop():
    sea = board_of("........ .xxxxxxx .xx..... ........ ........ ........ ........ ........", "x")
    memory = PLAYER.begin(POMDP)._replace(shots=jnp.asarray(sea), row=jnp.int32(1))
    act = jax.jit(lambda col: PLAYER.act(memory._replace(col=col), POMDP))
    actions = [int(act(jnp.int32(col))) for col in range(8)]
    assert actions == [Action.FIRE, Action.DOWN, *[Action.LEFT] * 6]
