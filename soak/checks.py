"""The checks of every step: what holds in every game, and each game's own invariants.

Every check is {sentence: bool[]}, true as long as the sentence holds. They work under jit and vmap.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from popgym_arcade.registry import REGISTRY
from popgym_arcade.soak.invariants import INVARIANTS, Checks, PlayedStep

__all__ = ["common_checks", "game_checks", "same", "step_checks"]

TOLERANCE = 1e-5  # of returns, and of the floats of two states that should be equal


def step_checks(
    name: str,
    step: PlayedStep,
    done: jax.Array,
    info: dict[str, Any],
    total: jax.Array,
    next_state: Any,
    params: Any,
) -> Checks:
    """All checks of one step of an environment.

    name: the environment's. done, info: the step's. total: float32[], the return so far, this step
    included. next_state: the state after the auto-reset. params: the game's Params.
    """
    return {
        **_flag_checks(step, done, info, params),
        **common_checks(name, step, done, total, next_state),
        **game_checks(name, step, params),
    }


def game_checks(name: str, step: PlayedStep, params: Any) -> Checks:
    """The game's own invariants, of the state before a step, the state after it, and the step."""
    game = INVARIANTS[REGISTRY[name].game]
    before, after = game.state(step.before, params), game.state(step.after, params)
    fresh = step.before.time == 0
    return {
        **{sentence: after[sentence] & (before[sentence] | ~fresh) for sentence in after},
        **{sentence: kept | ~fresh for sentence, kept in game.start(step.before, params).items()},
        **game.step(step, params),
    }


def common_checks(
    name: str, step: PlayedStep, done: jax.Array, total: jax.Array, next_state: Any
) -> Checks:
    """What holds of rewards and states in every game. The arguments are those of step_checks."""
    low, high = REGISTRY[name].return_range
    return {
        "the reward is finite": jnp.isfinite(step.reward),
        "the reward lies in [-1, 1]": jnp.abs(step.reward) <= 1 + TOLERANCE,
        f"the return so far lies in [{low:g}, {high:g}]": (total >= low - TOLERANCE)
        & (total <= high + TOLERANCE),
        "time counts the steps": step.after.time == step.before.time + 1,
        "time is 0 after a reset": ~done | (next_state.time == 0),
        "the score is 0 after a reset": ~done | (next_state.score == 0),
        "without a reset the state is the transition's": done | same(step.after, next_state),
    }


def _flag_checks(step, done, info, params):
    """What holds of a step's flags in every game."""
    limit = params.max_steps_in_episode
    return {
        "done is terminated or truncated": done == (step.terminated | info["truncated"]),
        "truncated exactly in the step that reaches the limit": info["truncated"]
        == (step.before.time + 1 == limit),
        "no step is taken beyond the limit": step.before.time < limit,
        "discount is 0 if terminated, otherwise 1": info["discount"] == 1 - step.terminated,
    }


def same(one: Any, other: Any) -> jax.Array:
    """Whether two trees of arrays, such as states, are equal up to rounding: bool[]."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other))
    return functools.reduce(
        jnp.logical_and,
        (jnp.all(jnp.abs(a * 1 - b * 1) <= TOLERANCE * (1 + jnp.abs(b * 1))) for a, b in pairs),
    )
