"""Every environment of the soak's batch has one player, and the adversarial ones are thorough."""

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade.soak.loop import cut_limits
from popgym_arcade.soak.players import (
    NO_ACTIONS,
    SHARES,
    _alternating,
    _any_integer,
    _stuck,
    blocks,
)
from tests.testing import compiled


def test_every_player_has_environments_and_every_environment_one_player():
    for num_envs in (SHARES, 100, 256):
        parts = blocks(num_envs)
        assert [first for _, first, _ in parts] + [num_envs] == [0] + [end for _, _, end in parts]
        assert all(first < end for _, first, end in parts)


def test_adversarial_players_take_all_actions_and_numbers_that_are_none():
    bits, index = jax.random.bits(jax.random.key(0), (500, 2)), jnp.arange(500)
    any_integer = jax.vmap(_any_integer, in_axes=(0, 0, None, None, None))(
        bits, index, 0, None, None
    )
    assert {*range(5), *NO_ACTIONS} <= set(any_integer.tolist()) and len(
        set(any_integer.tolist())
    ) > 50
    rounds = jnp.arange(5000)
    stuck = jax.vmap(_stuck, in_axes=(None, None, 0, None, None))(None, 3, rounds, None, None)
    assert len(set(stuck[:997].tolist())) == 1 and len(set(stuck.tolist())) == 6
    alternating = jax.vmap(_alternating, in_axes=(None, None, 0, None, None))(
        None, 3, rounds, None, None
    )
    assert set(alternating.tolist()) == set(range(5)) and len(set(alternating[:101].tolist())) == 2


def test_hurried_players_have_short_limits_and_the_others_the_levels_own():
    params = compiled("NavigatorEasy").params
    limits = np.asarray(cut_limits(params, 320))
    for player, first, end in blocks(320):
        expected = np.arange(1, 21) if player.cut_limits else params.max_steps_in_episode
        assert np.all(limits[first:end] == expected)
