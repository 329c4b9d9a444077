"""The compiled programs behind the Gymnasium environments.

An environment carries its PRNG key on the device and splits it in every reset and step, so its
first key decides everything that follows. Params are an argument of every program: one program
serves all values of the fields that are data, and only static fields, wrappers and the autoreset
mode need programs of their own.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode

from popgym_arcade.registry import Environment, make
from popgym_arcade.wrappers import game_state, holds_frames

FINAL_FRAMES = 32  # final frames drawn per call
KEPT_PROGRAMS = 32  # environments whose programs are kept for the next that is made in the same way
# Fixed, so that a seed gives the same episodes whatever jax_default_prng_impl is.
KEY_TYPE = "threefry2x32"

Wrap = Callable[[Environment], Environment]


class Carry(NamedTuple):
    """What an environment carries from step to step."""

    key_data: jax.Array  # uint32[2]: the key of all random numbers to come
    state: Any  # the environment's state
    done: jax.Array  # bool[]: the last step ended the episode, and no reset has followed


class Outcome(NamedTuple):
    """What a step returns to the user."""

    observation: Any  # uint8[S, S, 3], or as wrappers made it
    reward: jax.Array  # float32[]
    terminated: jax.Array  # bool[]
    truncated: jax.Array  # bool[]
    discount: jax.Array  # float32[]
    has_discount: jax.Array  # bool[]: True, the mask that Gymnasium's vector infos need


class Final(NamedTuple):
    """The end of an episode, if this step ended one."""

    done: jax.Array  # bool[]
    state: Any  # the environment's state after the step, before the reset
    discount: jax.Array  # float32[]: of the step; 0 if no episode ended


class SingleProgram(NamedTuple):
    """The functions of one environment, each compiled on its first call."""

    reset: Callable[..., Any]  # (params, key_data) -> (carry, observation)
    step: Callable[..., Any]  # (params, carry, action) -> (carry, outcome); donates the carry
    draw: Callable[..., Any]  # (params, state) -> the frame that people see, uint8[S, S, 3]


class VectorProgram(NamedTuple):
    """The functions of a vector of environments, each compiled on its first call.

    All arrays but those of params have a leading axis [num_envs].
    """

    reset: Callable[..., Any]  # (params, key_data) -> (carry, observation)
    # (params, carry, key_data, mask bool) -> (carry, observation); donates the carry
    reset_masked: Callable[..., Any]
    # (params, carry, action, memory) -> (carry, outcome, Final with SAME_STEP, otherwise None).
    # Donates the carry and memory: None, or unused observations that the new ones overwrite.
    step: Callable[..., Any]
    # (params, state, count) -> the frames of the first environments, uint8[count, S, S, 3]
    draw_first: Callable[..., Any]
    # (params, state, indices int[count]) -> a tuple of the observations of these environments
    observe_selected: Callable[..., Any]


# --- what to compile -----------------------------------------------------------------------------


class Setting(NamedTuple):
    """What programs are compiled for; equal settings share them."""

    plain: Environment  # without wrappers
    env: Environment  # with them

    @classmethod
    def make(
        cls, name: str, partial_obs: bool, obs_size: int, wrap: Wrap | None, **overrides: Any
    ) -> tuple["Setting", Any]:
        """Make an environment: (Setting, its Params).

        Arguments and errors are those of ``popgym_arcade.make``; wrap: None, or a function from an
        Environment to an Environment.
        """
        _, params = make(name, partial_obs, obs_size, **overrides)
        plain, _ = make(name, **_static_fields(params))
        env = plain if wrap is None else wrap(plain)
        if not isinstance(env, Environment):
            raise TypeError(f"wrap must return an Environment, but it returned {env!r}")
        return cls(plain, env), params


def _static_fields(params: Any) -> dict[str, Any]:
    """The fields of Params that determine programs: name -> value."""
    fields = (field for field in dataclasses.fields(params) if field.metadata.get("static"))
    return {field.name: getattr(params, field.name) for field in fields}


def draw_key_data(generator: np.random.Generator) -> np.ndarray:
    """Draw the data of a key, uint32[2], from a NumPy generator."""
    return generator.integers(2**32, size=2, dtype=np.uint32)


@functools.lru_cache(KEPT_PROGRAMS)
def single_program(setting: Setting) -> SingleProgram:
    """The SingleProgram of a setting."""
    plain, env = setting
    return SingleProgram(
        jax.jit(partial(_reset, env)),
        jax.jit(partial(_step, env), donate_argnums=1),
        jax.jit(lambda params, state: plain.render(game_state(state), params)),
    )


@functools.lru_cache(KEPT_PROGRAMS)
def vector_program(setting: Setting, mode: AutoresetMode) -> VectorProgram:
    """The VectorProgram of a setting in an autoreset mode."""
    plain, env = setting

    def reset(params, key_data):
        return jax.vmap(partial(_reset, env, params))(key_data)

    def reset_masked(params, carry, key_data, mask):
        return jax.vmap(partial(_reset_masked, env, params))(carry, key_data, mask)

    def step(params, carry, action, memory):
        return jax.vmap(partial(_STEPS[mode], env, params))(carry, action)

    def draw_first(params, state, count):
        first = jax.tree.map(lambda leaf: leaf[:count], game_state(state))
        return jax.vmap(lambda one: plain.render(one, params))(first)

    def observe_selected(params, state, indices):
        selected = jax.tree.map(lambda leaf: leaf[indices], state)
        observations = jax.vmap(lambda one: env.render(one, params))(selected)
        return tuple(
            jax.tree.map(lambda leaf, i=i: leaf[i], observations) for i in range(indices.size)
        )

    return VectorProgram(
        jax.jit(reset),
        jax.jit(reset_masked, donate_argnums=1),
        jax.jit(step, donate_argnums=(1, 3), keep_unused=True),
        jax.jit(draw_first, static_argnums=2),
        jax.jit(observe_selected),
    )


def observe_at(
    program: VectorProgram, params: Any, state: Any, indices: np.ndarray, num_envs: int
) -> Iterator[tuple[int, Any]]:
    """Observe the environments at indices, int[count]; yield (index, observation).

    They are drawn in batches of one size, so that one compiled program serves any number of them.
    """
    size = min(num_envs, FINAL_FRAMES)
    for batch in np.split(indices, list(range(size, indices.size, size))):
        padded = np.pad(batch, (0, size - batch.size), mode="edge")
        yield from zip(batch.tolist(), program.observe_selected(params, state, padded))


# --- one environment -----------------------------------------------------------------------------


def _reset(env: Environment, params: Any, key_data: jax.Array) -> tuple[Carry, Any]:
    """Start an episode: (carry, observation). Consumes one key."""
    key_data, key = _next_key(key_data)
    observation, state = env.reset(key, params)
    return Carry(key_data, state, jnp.bool_(False)), observation


def _step(env: Environment, params: Any, carry: Carry, action: jax.Array) -> tuple[Carry, Outcome]:
    """Take one step, without a reset: (carry, outcome). Consumes one key."""
    key_data, key = _next_key(carry.key_data)
    observation, state, reward, done, info = env.step_env(key, carry.state, action, params)
    flags = info["terminated"], info["truncated"]
    outcome = Outcome(observation, reward, *flags, info["discount"], jnp.bool_(True))
    return Carry(key_data, state, done), outcome


def _reset_masked(
    env: Environment, params: Any, carry: Carry, key_data: jax.Array, mask: jax.Array
) -> tuple[Carry, Any]:
    """Start an episode where mask, bool[], is true: (carry, observation)."""
    first, _ = _reset(env, params, key_data)
    carry = _choose(mask, first, carry)
    return carry, env.render(carry.state, params)


# --- one step in each autoreset mode: (carry, outcome, Final with SAME_STEP, otherwise None) -----


def _next_step(env, params, carry, action):
    """NEXT_STEP: the step after the end of an episode resets instead."""
    first, observation = _reset(env, params, carry.key_data)
    following, outcome = _step(env, params, carry, action)
    after_reset = Outcome(
        observation,
        reward=jnp.float32(0),
        terminated=jnp.bool_(False),
        truncated=jnp.bool_(False),
        discount=jnp.float32(1),
        has_discount=jnp.bool_(True),
    )
    chosen, outcome = _choose(carry.done, (first, after_reset), (following, outcome))
    return chosen, _drawn_once(env, params, chosen, outcome), None


def _same_step(env, params, carry, action):
    """SAME_STEP: the step that ends an episode also resets.

    It draws no final frames: observe_selected does, for the few episodes that ended.
    """
    following, outcome = _step(env, params, carry, action)
    first, observation = _reset(env, params, following.key_data)
    discount = outcome.discount
    final = Final(following.done, following.state, jnp.where(following.done, discount, 0.0))
    after_reset = outcome._replace(observation=observation, discount=jnp.ones_like(discount))
    chosen, outcome = _choose(following.done, (first, after_reset), (following, outcome))
    return chosen, _drawn_once(env, params, chosen, outcome), final


def _disabled(env, params, carry, action):
    """DISABLED: the user resets."""
    return *_step(env, params, carry, action), None


_STEPS = {
    AutoresetMode.NEXT_STEP: _next_step,
    AutoresetMode.SAME_STEP: _same_step,
    AutoresetMode.DISABLED: _disabled,
}


def _drawn_once(env: Environment, params: Any, carry: Carry, outcome: Outcome) -> Outcome:
    """Replace the chosen one of two observations by a drawing of the chosen state.

    The compiler then drops both frames from which it was chosen. Wrappers that keep frames in their
    state need these frames anyway.
    """
    if holds_frames(carry.state):
        return outcome
    return outcome._replace(observation=env.render(carry.state, params))


def _next_key(key_data):
    """Split a key: (the data of the key to carry on, the key to use now)."""
    carried, now = jax.random.split(jax.random.wrap_key_data(key_data, impl=KEY_TYPE))
    return jax.random.key_data(carried), now


def _choose(flag, if_true, if_false):
    """Choose one of two pytrees by a bool[]."""
    return jax.tree.map(lambda one, other: jnp.where(flag, one, other), if_true, if_false)
