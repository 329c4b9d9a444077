"""What each check of a step is worth: it holds in real play, and wrong values break it."""

import functools

import jax
import numpy as np
import pytest

from popgym_arcade import GAMES
from popgym_arcade.soak.checks import game_checks
from tests.soak.steps import played
from tests.testing import compiled

RANDOM_FIELDS = {"Skittles": {"visible"}}  # fields in which any value is valid
every_game = pytest.mark.parametrize("name", [game + "Easy" for game in GAMES])


@functools.cache
def checker(name):
    """The game's own checks of a batch, compiled: PlayedStep -> {sentence: bool[BATCH]}."""
    params = compiled(name).params
    return jax.jit(jax.vmap(lambda step: game_checks(name, step, params)))


def broken_by(name, step):
    """The sentences that are false for every step of a batch."""
    return {sentence for sentence, kept in checker(name)(step).items() if not np.any(kept)}


@every_game
def test_every_game_has_invariants_and_they_hold(name):
    for step in played(name):
        checks = checker(name)(step)
        assert len(checks) > 8
        assert all(np.all(kept) for kept in checks.values()), {
            sentence for sentence, kept in checks.items() if not np.all(kept)
        }


def out_of_range(leaf):
    """Wrong values of a field: far below and far above; for booleans, the first element negated."""
    if leaf.dtype == bool:
        return [
            leaf.at[(slice(None), *[0] * (leaf.ndim - 1))].set(
                ~leaf[(slice(None), *[0] * (leaf.ndim - 1))]
            )
        ]
    return [leaf - np.asarray(100, leaf.dtype), leaf + np.asarray(100, leaf.dtype)]


@every_game
def test_every_field_of_a_state_is_held_to_something(name):
    step = played(name)[1]
    game = name.removesuffix("Easy")
    for field in step.after._fields:
        if field != "time" and field not in RANDOM_FIELDS.get(game, ()):
            for wrong in out_of_range(getattr(step.after, field)):
                checks = checker(name)(step._replace(after=step.after._replace(**{field: wrong})))
                assert not np.any(np.all(np.stack(list(checks.values())), axis=0)), (
                    f"{field} may have any value"
                )


@every_game
def test_a_wrong_reward_and_a_wrong_end_are_noticed(name):
    step = played(name)[1]
    assert "the reward is the one that the rules give" in broken_by(
        name, step._replace(reward=step.reward + 1e-4)
    )
    wrong_end = checker(name)(step._replace(terminated=~step.terminated))
    assert not np.any(np.all(np.stack(list(wrong_end.values())), axis=0))
