"""The compiled programs behind the Gymnasium environments.

An environment carries its PRNG key on the device and splits it in every reset and step, so its
first key decides everything that follows.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode

from popgym_arcade.registry import Environment, make

FINAL_FRAMES = 32  # final frames drawn per call
# Fixed, so that a seed gives the same episodes whatever jax_default_prng_impl is.
KEY_TYPE = "threefry2x32"

Overrides = tuple[tuple[str, Any], ...]  # the overrides of ``make``, hashable


class Carry(NamedTuple):
    """What an environment carries from step to step."""

    key_data: jax.Array  # uint32[2]: the key of all random numbers to come
    state: Any  # the game's State
    done: jax.Array  # bool[]: the last step ended the episode, and no reset has followed


class Outcome(NamedTuple):
    """What a step returns to the user."""

    observation: jax.Array  # uint8[S, S, 3]
    reward: jax.Array  # float32[]
    terminated: jax.Array  # bool[]
    truncated: jax.Array  # bool[]
    discount: jax.Array  # float32[]
    has_discount: jax.Array  # bool[]: True, the mask that Gymnasium's vector infos need


class Final(NamedTuple):
    """The end of an episode, if this step ended one."""

    done: jax.Array  # bool[]
    state: Any  # the game's State after the step, before the reset
    discount: jax.Array  # float32[]: of the step; 0 if no episode ended


class SingleProgram(NamedTuple):
    """The functions of one environment, each compiled on its first call."""

    reset: Callable[..., Any]  # (key_data) -> (carry, observation)
    step: Callable[..., Any]  # (carry, action) -> (carry, outcome); donates the carry


class VectorProgram(NamedTuple):
    """The functions of a vector of environments, each compiled on its first call.

    All arrays have a leading axis [num_envs].
    """

    reset: Callable[..., Any]  # (key_data) -> (carry, observation)
    # (carry, key_data, mask bool) -> (carry, observation); donates the carry
    reset_masked: Callable[..., Any]
    # (carry, action, memory) -> (carry, outcome, Final with SAME_STEP, otherwise None). Donates the
    # carry and memory: None, or unused observations that the new ones overwrite.
    step: Callable[..., Any]
    # (state, count) -> the observations of the first environments, [count, S, S, 3]
    draw_first: Callable[..., Any]
    # (state, indices int[count]) -> a tuple of the observations of these environments
    draw_selected: Callable[..., Any]


def hashable(overrides: Mapping[str, Any]) -> Overrides:
    """The overrides of ``make`` as a sorted tuple of (name, value)."""
    return tuple(sorted(overrides.items()))


def draw_key_data(generator: np.random.Generator) -> np.ndarray:
    """Draw the data of a key, uint32[2], from a NumPy generator."""
    return generator.integers(2**32, size=2, dtype=np.uint32)


@functools.cache
def single_program(
    name: str, partial_obs: bool, obs_size: int, overrides: Overrides
) -> SingleProgram:
    """The SingleProgram of an environment; equal arguments, those of ``make``, share one."""
    env, _ = make(name, partial_obs, obs_size, **dict(overrides))
    reset, step = _reset_and_step(env)
    return SingleProgram(jax.jit(reset), jax.jit(step, donate_argnums=0))


@functools.cache
def vector_program(
    name: str, partial_obs: bool, obs_size: int, overrides: Overrides, mode: AutoresetMode
) -> VectorProgram:
    """The VectorProgram of an environment in an autoreset mode; equal arguments share one."""
    env, _ = make(name, partial_obs, obs_size, **dict(overrides))
    reset, bare_step = _reset_and_step(env)
    step = jax.vmap(_STEPS[mode](env, reset, bare_step))

    def reset_masked(carry, key_data, mask):
        first, _ = reset(key_data)
        carry = _choose(mask, first, carry)
        return carry, env.render(carry.state)

    def draw_first(state, count):
        return jax.vmap(env.render)(jax.tree.map(lambda leaf: leaf[:count], state))

    def draw_selected(state, indices):
        return tuple(jax.vmap(env.render)(jax.tree.map(lambda leaf: leaf[indices], state)))

    return VectorProgram(
        jax.jit(jax.vmap(reset)),
        jax.jit(jax.vmap(reset_masked), donate_argnums=0),
        jax.jit(
            lambda carry, action, memory: step(carry, action),
            donate_argnums=(0, 2),
            keep_unused=True,
        ),
        jax.jit(draw_first, static_argnums=1),
        jax.jit(draw_selected),
    )


def draw_frames(
    program: VectorProgram, state: Any, indices: np.ndarray, num_envs: int
) -> Iterator[tuple[int, jax.Array]]:
    """Draw the environments at indices, int[count]; yield (index, frame uint8[S, S, 3]).

    They are drawn in batches of one size, so that one compiled program serves any number of them.
    """
    size = min(num_envs, FINAL_FRAMES)
    for batch in np.split(indices, list(range(size, indices.size, size))):
        padded = np.pad(batch, (0, size - batch.size), mode="edge")
        yield from zip(batch.tolist(), program.draw_selected(state, padded))


# --- the step of each autoreset mode, from the functions of a SingleProgram ----------------------


def _next_step(env, reset, step):
    """NEXT_STEP: the step after the end of an episode resets instead.

    The state is chosen first and drawn once: the compiler drops the frames that nothing uses.
    """

    def step_or_reset(carry, action):
        first, _ = reset(carry.key_data)
        following, outcome = step(carry, action)
        after_reset = Outcome(
            outcome.observation,
            reward=jnp.float32(0),
            terminated=jnp.bool_(False),
            truncated=jnp.bool_(False),
            discount=jnp.float32(1),
            has_discount=jnp.bool_(True),
        )
        outcome = _choose(carry.done, after_reset, outcome)
        carry = _choose(carry.done, first, following)
        return carry, outcome._replace(observation=env.render(carry.state)), None

    return step_or_reset


def _same_step(env, reset, step):
    """SAME_STEP: the step that ends an episode also resets.

    It draws no final frames: draw_selected does, for the few episodes that ended.
    """

    def step_and_reset(carry, action):
        following, outcome = step(carry, action)
        first, _ = reset(following.key_data)
        discount = outcome.discount
        final = Final(following.done, following.state, jnp.where(following.done, discount, 0.0))
        carry = _choose(following.done, first, following)
        outcome = outcome._replace(
            observation=env.render(carry.state),
            discount=jnp.where(following.done, 1.0, discount),
        )
        return carry, outcome, final

    return step_and_reset


def _disabled(env, reset, step):
    """DISABLED: the user resets."""
    return lambda carry, action: (*step(carry, action), None)


_STEPS = {
    AutoresetMode.NEXT_STEP: _next_step,
    AutoresetMode.SAME_STEP: _same_step,
    AutoresetMode.DISABLED: _disabled,
}


def _reset_and_step(env: Environment):
    """The functions of a SingleProgram before compilation; each call consumes one key."""

    def reset(key_data):
        key_data, key = _next_key(key_data)
        observation, state = env.reset(key)
        return Carry(key_data, state, jnp.bool_(False)), observation

    def step(carry, action):
        key_data, key = _next_key(carry.key_data)
        observation, state, reward, done, info = env.step_env(key, carry.state, action)
        flags = info["terminated"], info["truncated"]
        outcome = Outcome(observation, reward, *flags, info["discount"], jnp.bool_(True))
        return Carry(key_data, state, done), outcome

    return reset, step


def _next_key(key_data):
    """Split a key: (the data of the key to carry on, the key to use now)."""
    carried, now = jax.random.split(jax.random.wrap_key_data(key_data, impl=KEY_TYPE))
    return jax.random.key_data(carried), now


def _choose(flag, if_true, if_false):
    """Choose one of two pytrees by a bool[]."""
    return jax.tree.map(lambda one, other: jnp.where(flag, one, other), if_true, if_false)
