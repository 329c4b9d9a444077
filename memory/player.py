"""What the certificate must know of a game, and the policies made of it.

A policy here is a pair of functions over a carry, so that one with memory and one without have the
same form and both work under jit, vmap and scan.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from popgym_arcade import experts
from popgym_arcade.registry import NUM_ACTIONS

__all__ = [
    "Player",
    "Policy",
    "expert_policy",
    "mdp_policy",
    "memoryless_policy",
    "random_policy",
    "recall_policy",
]

Shown = Any
"""What one frame shows: a game's own NamedTuple of integers, the same for two states exactly if
their frames are equal. What a view hides has a fixed value in it."""

Memory = Any
"""What recall remembers: a game's own pytree."""


class Player(NamedTuple):
    """A game as one sees it who plays it.

    All functions work under jit and vmap. params: the game's Params; its ``partial_obs`` says which
    view is meant.
    """

    shown: Callable[[Any, Any], Shown]  # (state, params) -> what the frame shows
    # Memoryless play: a table over keys, and a network over features. A key is int32[], in
    # [0, num_keys(params)).
    num_keys: Callable[[Any], int]  # (params) -> the size of the table
    key: Callable[[Shown, Any], jax.Array]  # (shown, params) -> the key of what is shown
    # (shown, params) -> float32[f] in about [-1, 1]; None if keys tell apart all that is shown
    features: Callable[[Shown, Any], jax.Array] | None
    reflexes: Mapping[str, Callable[[Shown, Any], jax.Array]]  # name -> (shown, params) -> action
    # Play with perfect memory of the POMDP's frames and of one's own actions.
    begin: Callable[[Any], Memory]  # (params) -> the memory before the first frame
    # (memory, last action or NO_ACTION, shown, params) -> the memory with one more frame
    remember: Callable[[Memory, jax.Array, Shown, Any], Memory]
    recall: Callable[[Memory, Any], jax.Array]  # (memory, params) -> action
    # The same play without memory, from the MDP's frames: (shown, params) -> action
    on_mdp: Callable[[Shown, Any], jax.Array]


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


def mdp_policy(player: Player) -> Policy:
    """Recall's play without memory. It must get the MDP's params."""
    return memoryless_policy(player, lambda key, shown, params: player.on_mdp(shown, params))


def recall_policy(player: Player) -> Policy:
    """Play with perfect memory of the frames so far, and of one's own actions."""

    def act(key, memory, last_action, state, params):
        memory = player.remember(memory, last_action, player.shown(state, params), params)
        return memory, player.recall(memory, params).astype(jnp.int32)

    return Policy(player.begin, act)
