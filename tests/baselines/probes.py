"""Probe environments with known optimal values, which test whether an algorithm learns.

Each isolates one ability of an agent, after Andy Jones (2021), "Debugging RL, Without the Agonizing
Pain". All are one environment, and ``Params.probe`` selects the probe. It is data, not static, so
one compiled program can train on all of them in parallel. ``make_train`` takes the result of
``make`` as its environment.

A frame is uint8[8, 8, 3] of a single color. What it shows, the reward and the end of an episode
depend on the probe.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import spaces
from popgym_arcade.registry import NUM_ACTIONS, Action
from popgym_arcade.wrappers import Environment, auto_reset

SIZE = 8

CONSTANT = 0
"""One step with reward 1. The value is 1."""
OBSERVATION = 1
"""One step with reward 1 if the frame is light, -1 if it is dark. The value is the reward."""
CREDIT = 2
"""Two steps; the second has reward 1. The value is the discount on the first frame, then 1."""
POLICY = 3
"""One step with reward 1 for RIGHT on a light frame or LEFT on a dark one, else -1. The value is
1."""
CUE = 4
"""The first frame is light or dark, then come ``delay`` gray frames. The last action is
rewarded as in POLICY for the first frame. The best return is 1 with a memory, else 0 on average."""
LIMIT = 5
"""Every step has reward 1 - discount, and one in four truncates. The value is 1, because truncated
episodes bootstrap."""
END = 6
"""As LIMIT, but one step in four terminates. The value is (1 - discount) / (1 - 3/4 discount)."""

NAMES = ("constant", "observation", "credit", "policy", "cue", "limit", "end")
LIGHT, GRAY, DARK = 255, 128, 0
RIGHT, LEFT = int(Action.RIGHT), int(Action.LEFT)
END_PROBABILITY = 1 / 4  # of a step of LIMIT and END
# Whether all frames of a probe are light or dark; with CUE only the first one is.
HAS_SHADE = np.array([1, 1, 0, 1, 0, 0, 0], bool)
HAS_CLOCK = np.array([0, 0, 1, 0, 1, 0, 0], bool)  # whether frames show the time


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Params:
    """The probe and its parameters."""

    probe: int = CONSTANT
    delay: int = 3  # gray frames of CUE
    discount: float = 0.9  # of the agent; scales the rewards of LIMIT and END


class State(NamedTuple):
    """The state of an episode."""

    light: jax.Array  # bool[]
    time: jax.Array  # int32[]


def reset(key, params):
    """Begin an episode: (observation, State)."""
    state = State(jax.random.bernoulli(key), jnp.int32(0))
    return render(state, params), state


def last_time(params):
    """The time of an episode's last action, in the probes where it is fixed."""
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
    """Draw the frame: uint8[8, 8, 3].

    Red and blue are light, dark or gray, depending on the probe; green is the time or 0.
    """
    shown = jnp.asarray(HAS_SHADE)[params.probe] | (params.probe == CUE) & (state.time == 0)
    shade = jnp.where(shown, jnp.where(state.light, LIGHT, DARK), GRAY)
    clock = jnp.where(jnp.asarray(HAS_CLOCK)[params.probe], 40 * state.time, 0)
    color = jnp.stack([shade, clock, shade]).astype(jnp.uint8)
    return jnp.broadcast_to(color, (SIZE, SIZE, 3))


def best_value(state, params):
    """Return the optimal value of a state, float32[...]; for CUE, that with a memory."""
    later = params.discount ** (last_time(params) - state.time)
    sign = jnp.where(state.light, 1.0, -1.0)
    until_the_end = (1 - params.discount) / (1 - (1 - END_PROBABILITY) * params.discount)
    return jnp.stack([later, sign, later, later, later, 1.0, until_the_end])[params.probe]


def make(params=None):
    """Make the probe environment, as ``popgym_arcade.make`` does: (Environment, Params)."""
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
