"""What the certificate must know of a game, and the policies made of it.

A policy here is a pair of functions over a carry, so that one with memory and one without have the
same form and both work under jit, vmap and scan.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from popgym_arcade import experts
from popgym_arcade.registry import NO_ACTION, NUM_ACTIONS

__all__ = [
    "HIDDEN",
    "Memory",
    "Player",
    "Policy",
    "Shown",
    "expert_policy",
    "forgetful_policy",
    "memoryless_policy",
    "random_policy",
    "recall_policy",
]

HIDDEN = -1
"""What stands for a number that a frame does not show."""

Shown = Any
"""What one frame shows: a game's own NamedTuple of int32 arrays. Two frames are equal if and only
if these are. What the frame does not show is HIDDEN, so that both twins' have the same shapes."""

Memory = Any
"""What recall remembers: a game's own pytree."""


class Player(NamedTuple):
    """A game as those see it who play it, with memory and without.

    All functions work under jit and vmap, with frames of both twins. params: the game's Params,
    whose ``partial_obs`` says which twin's.
    """

    # (state, params) -> what the frame shows
    shown: Callable[[Any, Any], Shown]
    # Memoryless play: what a table and a network go by, and policies written by hand.
    num_keys: Callable[[Any], int]  # (params) -> the size of the table
    key: Callable[[Shown, Any], jax.Array]  # (shown, params) -> int32[], in [0, num_keys(params))
    # (shown, params) -> float32[f], about in [-1, 1]; None if the key tells all frames apart
    features: Callable[[Shown, Any], jax.Array] | None
    # name -> ((shown, params) -> action)
    reflexes: Mapping[str, Callable[[Shown, Any], jax.Array]]
    # Recall: play with perfect memory of the frames so far and of one's own actions.
    begin: Callable[[Any], Memory]  # (params) -> the memory before the first frame
    # (memory, last action or NO_ACTION, shown, params) -> the memory with this frame
    remember: Callable[[Memory, jax.Array, Shown, Any], Memory]
    act: Callable[[Memory, Any], jax.Array]  # (memory, params) -> action


class Policy(NamedTuple):
    """How to choose actions in one environment."""

    begin: Callable[[Any], Any]  # (params) -> carry
    # (key, carry, last action or NO_ACTION, state, params) -> (carry, action int32[])
    act: Callable[[jax.Array, Any, jax.Array, Any, Any], tuple[Any, jax.Array]]


def _without_memory(choose: Callable[[jax.Array, Any, Any], jax.Array]) -> Policy:
    """The policy of a function (key, state, params) -> action."""
    return Policy(
        lambda params: (),
        lambda key, carry, last_action, state, params: (
            carry,
            choose(key, state, params).astype(jnp.int32),
        ),
    )


def random_policy() -> Policy:
    """Uniformly random actions."""
    return _without_memory(lambda key, state, params: jax.random.randint(key, (), 0, NUM_ACTIONS))


def expert_policy() -> Policy:
    """The expert, which sees the whole state."""
    return _without_memory(lambda key, state, params: experts.expert(state, params))


def memoryless_policy(
    player: Player, choose: Callable[[jax.Array, Shown, Any], jax.Array]
) -> Policy:
    """A policy that knows only what the present frame shows: (key, shown, params) -> action."""
    return _without_memory(
        lambda key, state, params: choose(key, player.shown(state, params), params)
    )


def recall_policy(player: Player) -> Policy:
    """Play with perfect memory of the frames so far, and of one's own actions."""

    def act(key, memory, last_action, state, params):
        memory = player.remember(memory, last_action, player.shown(state, params), params)
        return memory, player.act(memory, params).astype(jnp.int32)

    return Policy(player.begin, act)


def forgetful_policy(player: Player) -> Policy:
    """Recall with its memory wiped before every frame. On the MDP it must lose nothing by that."""

    def choose(key, shown, params):
        memory = player.remember(player.begin(params), jnp.int32(NO_ACTION), shown, params)
        return player.act(memory, params)

    return memoryless_policy(player, choose)
