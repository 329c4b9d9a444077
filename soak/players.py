"""The players of the soak: policies that share a batch of environments.

Some play well, some badly, and some send actions that no agent should send.
"""

import itertools
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from popgym_arcade import experts
from popgym_arcade.registry import NUM_ACTIONS

__all__ = [
    "LONGEST_CUT",
    "NO_ACTIONS",
    "PLAYERS",
    "SHARES",
    "BatchPlayer",
    "Policy",
    "blocks",
    "player_of",
]

NO_ACTIONS: tuple[int, ...] = (-1, 5, 7, -5, 255, 256, 2**31 - 1, -(2**31))
"""Some integers that are not actions; a game must ignore them."""

LONGEST_CUT: int = 40
"""Players with cut limits play episodes of at most 1 to LONGEST_CUT steps."""


class Policy(Protocol):
    """Chooses the action of one environment."""

    def __call__(
        self, bits: jax.Array, index: jax.Array, round_: jax.Array, state: Any, params: Any
    ) -> jax.Array:
        """Choose an action: int[].

        bits: uint32[2], random. index: int[], of the environment in the batch. round_: int[], steps
        since the soak began. state: the game's State. params: the game's Params.
        """
        ...


# --- policies ------------------------------------------------------------------------------------


def _random(bits, index, round_, state, params):
    """Play a uniformly random action."""
    return bits[0] % NUM_ACTIONS


def _any_integer(bits, index, round_, state, params):
    """Send one of NO_ACTIONS half of the time, otherwise a random int32 or one of the actions."""
    number = bits[1].astype(jnp.int32)
    actions = jnp.stack(
        [jnp.array(NO_ACTIONS)[number % len(NO_ACTIONS)], number, number % NUM_ACTIONS]
    )
    return actions[jnp.maximum(bits[0] % 4, 1) - 1]


def _expert(bits, index, round_, state, params):
    """Play the expert's action."""
    return experts.expert(state, params)


def _worst(bits, index, round_, state, params):
    """Play the worst action."""
    return experts.worst(state, params)


def _changing(bits, index, round_, state, params):
    """Repeat 16 steps of worst play, 16 of random play and 32 of expert play."""
    moves = (
        experts.worst(state, params),
        _random(bits, index, round_, state, params),
        experts.expert(state, params),
    )
    phase = jnp.minimum((index + round_ // 16) % 4, 2)
    return jnp.stack([move.astype(jnp.int32) for move in moves])[phase]


def _stuck(bits, index, round_, state, params):
    """Hold one action, or one of NO_ACTIONS, for 997 steps, then the next one."""
    choices = jnp.array([*range(NUM_ACTIONS), *NO_ACTIONS])
    return choices[(index + round_ // 997) % len(choices)]


def _alternating(bits, index, round_, state, params):
    """Alternate between two actions for 101 steps, then between two others.

    Each is held for one to three steps.
    """
    spell = round_ // 101
    pair = jnp.stack([(index + spell) % 5, (index // 5 + spell // 5) % 5])
    return pair[round_ // (1 + spell % 3) % 2]


# --- the batch -----------------------------------------------------------------------------------


class BatchPlayer(NamedTuple):
    """A policy and its share of the batch."""

    name: str
    share: int  # of the batch, in units of 1 / SHARES
    policy: Policy
    cut_limits: bool = False  # whether its episodes are truncated early


PLAYERS: tuple[BatchPlayer, ...] = (
    BatchPlayer("random", 5, _random),
    BatchPlayer("any integer", 2, _any_integer),
    BatchPlayer("expert", 2, _expert),
    BatchPlayer("worst", 1, _worst),
    BatchPlayer("changing", 1, _changing),
    BatchPlayer("stuck", 2, _stuck),
    BatchPlayer("alternating", 2, _alternating),
    BatchPlayer("hurried", 1, _random, cut_limits=True),
)
SHARES: int = sum(player.share for player in PLAYERS)


def blocks(num_envs: int) -> list[tuple[BatchPlayer, int, int]]:
    """Each player's block of a batch: (player, its first environment, the first after it)."""
    shares = itertools.accumulate((player.share for player in PLAYERS), initial=0)
    edges = [num_envs * share // SHARES for share in shares]
    return list(zip(PLAYERS, edges, edges[1:]))


def player_of(env: int, num_envs: int) -> BatchPlayer:
    """The player of one environment of a batch."""
    return next(player for player, first, end in blocks(num_envs) if first <= env < end)
