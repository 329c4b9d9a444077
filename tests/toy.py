"""A game that compiles in a moment, for tests of what is around a game: the wrappers.

On a line of 4 cells one starts on a random cell. 2 left and 3 right move by one cell and pay a
random reward in [0, 1); the episode ends beyond either end of the line, or at the limit.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import Environment, spaces
from popgym_arcade.wrappers import auto_reset

CELLS = 4


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    """As those of a game. The POMDP hides where one is after time 0."""

    partial_obs: bool = field(default=False, metadata={"static": True})
    obs_size: int = field(default=128, metadata={"static": True})
    max_steps_in_episode: int = 5


class State(NamedTuple):
    """One episode."""

    position: jax.Array  # int32[], in [-1, CELLS]
    time: jax.Array  # int32[]


def reset(key, params):
    """Begin an episode."""
    position = jax.random.randint(key, (), 0, CELLS, jnp.int32)
    state = State(position, time=jnp.zeros_like(position))
    return render(state, params), state


def step(key, state, action, params):
    """Play one step."""
    moved = jnp.int32(action == 3) - jnp.int32(action == 2)
    state = State(state.position + moved, state.time + 1)
    terminated = (state.position < 0) | (state.position >= CELLS)
    truncated = state.time >= params.max_steps_in_episode
    reward = jnp.where(moved == 0, 0, jax.random.uniform(key, dtype=jnp.float32))
    info = {
        "terminated": terminated,
        "truncated": truncated,
        "discount": 1 - terminated.astype(jnp.float32),
    }
    return render(state, params), state, reward, terminated | truncated, info


def render(state, params):
    """Draw a bar at the position, of a colour that tells the time."""
    hidden = params.partial_obs & (state.time > 0)
    columns = np.arange(params.obs_size, dtype=np.int32) * CELLS // params.obs_size
    bar = (columns == state.position) & ~hidden
    color = jnp.stack([jnp.int32(255), 20 * state.time % 256, jnp.int32(90)])
    frame = jnp.where(bar[:, None], color, 30).astype(jnp.uint8)
    return jnp.broadcast_to(frame, (params.obs_size, params.obs_size, 3))


def make(final_observation=False, **overrides):
    """(Environment, params), as from popgym_arcade.make. overrides: fields of Params."""
    params = replace(Params(), **overrides)

    def with_params(function):
        return lambda *arguments: function(
            *arguments[:-1], params if arguments[-1] is None else arguments[-1]
        )

    reset_, step_, render_ = map(with_params, (reset, step, render))
    environment = Environment(
        name="Toy",
        default_params=params,
        num_actions=5,
        reset=lambda key, params=None: reset_(key, params),
        step=auto_reset(reset_, step_, render_, final_observation),
        step_env=lambda key, state, action, params=None: step_(key, state, action, params),
        render=lambda state, params=None: render_(state, params),
        action_space=lambda params=None: spaces.Discrete(5),
        observation_space=partial(_observation_space, params),
    )
    return environment, params


def _observation_space(default_params, params=None):
    size = (params or default_params).obs_size
    return spaces.Box(0, 255, (size, size, 3), jnp.uint8)
