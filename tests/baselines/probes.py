"""Tiny environments with known optimal values, to find out whether an algorithm learns: what
``make_train`` takes as environment.

Each isolates one thing that an agent must be able to do, after Andy Jones (2021), "Debugging RL,
Without the Agonizing Pain". All are one environment, whose ``Params.probe`` says which; it is data,
so one compiled program can train on all of them side by side.

A frame is uint8[8, 8, 3] of one colour. What the frames show, what is paid and when an episode ends
depends on the probe.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import spaces
from popgym_arcade.registry import NUM_ACTIONS
from popgym_arcade.wrappers import Environment, auto_reset

SIZE = 8

CONSTANT = 0
"""One step, which pays 1. The value is 1."""
OBSERVATION = 1
"""One step, which pays 1 if the frame is light and -1 if it is dark. The value is the pay."""
CREDIT = 2
"""Two steps, and the second pays 1. The value is the discount on the first frame and 1 on the
second."""
POLICY = 3
"""One step, which pays 1 for action 3 on a light frame or action 2 on a dark one, and else -1. The
value is 1."""
CUE = 4
"""The first frame is light or dark, ``delay`` grey frames follow, and the last action is paid as in
POLICY by the first frame. With a memory the return is 1, without one it is 0 on average."""
LIMIT = 5
"""Every step pays 1 - discount, and one in four truncates the episode. The value is 1: time that
runs out ends no game."""
END = 6
"""The same, but one step in four ends the game itself. The value is (1 - discount) / (1 - 3/4
discount)."""

NAMES = ("constant", "observation", "credit", "policy", "cue", "limit", "end")
LIGHT, GREY, DARK = 255, 128, 0
RIGHT, LEFT = 3, 2
END_PROBABILITY = 1 / 4  # of a step of LIMIT and END
HAS_SHADE = np.array(
    [1, 1, 0, 1, 0, 0, 0], bool
)  # whether all frames are light or dark; those of CUE are only at first
HAS_CLOCK = np.array([0, 0, 1, 0, 1, 0, 0], bool)  # whether a frame tells the time


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Params:
    """Which probe it is."""

    probe: int = CONSTANT
    delay: int = 3  # grey frames of CUE
    discount: float = 0.9  # the agent's, which LIMIT and END are made for


class State(NamedTuple):
    """Where an episode stands."""

    light: jax.Array  # bool[]
    time: jax.Array  # int32[]


def reset(key, params):
    """A new episode: (observation, State)."""
    state = State(jax.random.bernoulli(key), jnp.int32(0))
    return render(state, params), state


def last_time(params):
    """The time of an episode's last action, where chance does not decide it."""
    return jnp.where(params.probe == CREDIT, 1, jnp.where(params.probe == CUE, params.delay + 1, 0))


def step_env(key, state, action, params):
    """One step without a reset: (observation, State, reward, done, info)."""
    by_chance = jax.random.bernoulli(key, END_PROBABILITY)
    last = jnp.where(params.probe >= LIMIT, by_chance, state.time >= last_time(params))
    guess = jnp.where(action == jnp.where(state.light, RIGHT, LEFT), 1.0, -1.0)
    sign = jnp.where(state.light, 1.0, -1.0)
    each = 1 - params.discount
    pay = jnp.stack([1.0, sign, 1.0, guess, guess, each, each])[params.probe]
    reward = jnp.where(last | (params.probe >= LIMIT), pay, 0.0)
    truncated = last & (params.probe == LIMIT)
    state = state._replace(time=state.time + 1)
    info = {
        "terminated": last & ~truncated,
        "truncated": truncated,
        "discount": jnp.where(last & ~truncated, 0.0, 1.0),
    }
    return render(state, params), state, reward.astype(jnp.float32), last, info


def render(state, params):
    """The frame: uint8[8, 8, 3]. Red and blue are light or dark where the probe says so, else grey;
    green is the time or 0."""
    shown = jnp.asarray(HAS_SHADE)[params.probe] | (params.probe == CUE) & (state.time == 0)
    shade = jnp.where(shown, jnp.where(state.light, LIGHT, DARK), GREY)
    clock = jnp.where(jnp.asarray(HAS_CLOCK)[params.probe], 40 * state.time, 0)
    color = jnp.stack([shade, clock, shade]).astype(jnp.uint8)
    return jnp.broadcast_to(color, (SIZE, SIZE, 3))


def best_value(state, params):
    """What the best play earns from a state on, discounted: float32[...]. In CUE, what an agent
    with a memory earns."""
    later = params.discount ** (last_time(params) - state.time)
    sign = jnp.where(state.light, 1.0, -1.0)
    until_the_end = (1 - params.discount) / (1 - (1 - END_PROBABILITY) * params.discount)
    return jnp.stack([later, sign, later, later, later, 1.0, until_the_end])[params.probe]


def make(params=None):
    """The probes as an environment, like one of ``popgym_arcade.make``: (Environment, Params)."""
    params = Params() if params is None else params
    env = Environment(
        name="Probe",
        default_params=params,
        num_actions=NUM_ACTIONS,
        reset=reset,
        step=auto_reset(reset, step_env, render),
        step_env=step_env,
        render=render,
        action_space=lambda params=None: spaces.Discrete(NUM_ACTIONS),
        observation_space=lambda params=None: spaces.Box(0, 255, (SIZE, SIZE, 3), jnp.uint8),
    )
    return env, params
