"""Play an agent through one episode, and keep all that it saw, did and said.

Decision n of an episode, n = 0 ... T - 1, is what the agent does on seeing frame n, after frames 0
... n - 1.
"""

from functools import cache
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade.registry import make

NO_ACTION = -1  # what networks read as the action before the first frame
BLOCK = 32  # steps that one call of the compiled program plays
KEYS_OF_CONFIG = {
    "name": ("ENV_NAME", "env"),
    "partial_obs": ("PARTIAL", "partial"),
    "obs_size": ("OBS_SIZE", "obs_size"),
}


class Setting(NamedTuple):
    """Which environment an agent plays."""

    name: str  # e.g. "NavigatorEasy"
    partial_obs: bool
    obs_size: int


class Episode(NamedTuple):
    """T decisions of one episode, or of its first part. The frame after the last step is not among
    the frames."""

    frames: np.ndarray  # uint8[T, S, S, 3]: what each decision saw last
    last_actions: np.ndarray  # int32[T]: the action before each frame, NO_ACTION before the first
    starts: np.ndarray  # bool[T]: whether an episode begins with this frame, so true at 0 only
    actions: np.ndarray  # int32[T]: what was decided
    rewards: np.ndarray  # float32[T]: what each decision was paid
    output: Any  # what the network said: action values float32[T, 5], or (logits float32[T, 5], values float32[T])
    terminated: bool
    truncated: bool  # at the game's limit, not at max_steps

    @property
    def values(self):
        """The values that the agent expects: float32[T, 5] of the actions, or float32[T, 1] of the
        state if it has a policy."""
        return self.output[1][:, None] if isinstance(self.output, tuple) else self.output

    @property
    def probabilities(self):
        """What a policy gives to each action, float32[T, 5], or None for an agent with action
        values."""
        return (
            np.asarray(jax.nn.softmax(self.output[0])) if isinstance(self.output, tuple) else None
        )


class Situation(NamedTuple):
    """What is between two steps."""

    key: jax.Array
    carry: Any  # of the network
    state: Any  # of the game
    frame: jax.Array  # uint8[S, S, 3]
    last_action: jax.Array  # int32[]
    start: jax.Array  # bool[]


def setting_of(config):
    """The Setting of a config.

    config: a dict with ENV_NAME, PARTIAL and OBS_SIZE, or with env, partial and obs_size as in a
    checkpoint; OBS_SIZE may be left out and is 128 then. Raises ValueError for a config without one
    of the others.
    """
    values = {"obs_size": 128}
    for field, names in KEYS_OF_CONFIG.items():
        for name in names:
            if name in config:
                values[field] = config[name]
        if field not in values:
            raise ValueError(
                f"the config needs {' or '.join(names)}, but it has only {', '.join(map(str, config)) or 'nothing'}"
            )
    return Setting(**values)


@cache
def environment(setting):
    """(Environment, params) of a Setting, the same ones each time, so that what is compiled for
    them is found again."""
    return make(setting.name, partial_obs=bool(setting.partial_obs), obs_size=setting.obs_size)


def play(key, network, setting, max_steps=None, initial_state_and_obs=None, sample=False):
    """Play one episode: Episode.

    key: a PRNG key, which decides all chance. network: as in ``baselines.model.builder``. setting:
    Setting. max_steps: stop after so many decisions; None plays to the end. initial_state_and_obs:
    a (State, uint8[S, S, 3]) to begin with instead of a random first state; either twin's, for they
    share their states. sample: draw the actions from the policy's probabilities instead of taking
    the best one. Raises what ``make`` raises, and ValueError for max_steps below 1, a network that
    cannot read such frames, and sample without a policy.
    """
    if max_steps is not None and max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, but it is {max_steps}; the nearest is 1")
    env, params = environment(setting)
    check_frames(network, setting.obs_size)
    key, reset_key = jax.random.split(jnp.asarray(key))
    state, frame = initial_state_and_obs or jax.jit(env.reset)(reset_key)[::-1]
    frame = _checked_frame(frame, setting.obs_size)
    situation = Situation(
        key, network.initialize_carry(), state, frame, jnp.int32(NO_ACTION), jnp.array(True)
    )
    if sample and not isinstance(_output_shapes(network, setting.obs_size), tuple):
        raise ValueError(
            "sample=True needs a policy, but this network has action values only; leave sample out"
        )
    steps = []
    while not steps or not (_over(steps[-1]) or _enough(steps, max_steps)):
        situation, block = _play_block(network, env.step_env, params, situation, sample)
        steps.append(jax.tree.map(np.asarray, block))
    return _episode(steps, max_steps)


def check_frames(network, obs_size):
    """Raise ValueError unless a network reads frames of so many pixels a side."""
    try:
        _output_shapes(network, obs_size)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the network does not read frames of {obs_size} pixels a side; was it made for another one?"
        ) from error


def _output_shapes(network, obs_size):
    """The shapes of what a network says on one frame."""
    frames, action = (
        jax.ShapeDtypeStruct((1, obs_size, obs_size, 3), jnp.uint8),
        jax.ShapeDtypeStruct((1,), jnp.int32),
    )
    start = jax.ShapeDtypeStruct((1,), bool)
    return eqx.filter_eval_shape(
        lambda net, *rest: net(net.initialize_carry(), *rest)[1], network, frames, action, start
    )


def _checked_frame(frame, obs_size):
    """A first frame as an array. Raises ValueError for a wrong shape."""
    frame = jnp.asarray(frame)
    if frame.shape != (obs_size, obs_size, 3):
        raise ValueError(
            f"the initial observation must be uint8[{obs_size}, {obs_size}, 3], but its shape is {frame.shape}"
        )
    return frame


@eqx.filter_jit
def _play_block(network, step_env, params, situation, sample):
    """BLOCK steps: (Situation, what happened, each with a leading axis [BLOCK]). Those after the
    end mean nothing."""

    def one_step(situation, _):
        key, action_key, step_key = jax.random.split(situation.key, 3)
        seen = (situation.frame[None], situation.last_action[None], situation.start[None])
        carry, output = network(situation.carry, *seen)
        output = jax.tree.map(lambda leaf: leaf[0], output)
        action = _choose(action_key, output, sample)
        frame, state, reward, _, info = step_env(step_key, situation.state, action, params)
        step = Episode(
            *(leaf[0] for leaf in seen),
            action,
            reward,
            output,
            info["terminated"],
            info["truncated"],
        )
        return Situation(key, carry, state, frame, action, jnp.array(False)), step

    return jax.lax.scan(one_step, situation, length=BLOCK)


def _choose(key, output, sample):
    """The action: the one with the greatest value or logit, or one drawn with the policy's
    probabilities."""
    scores = output[0] if isinstance(output, tuple) else output
    return (jax.random.categorical(key, scores) if sample else jnp.argmax(scores)).astype(jnp.int32)


def _over(block):
    """Whether the episode ended in a block."""
    return bool((block.terminated | block.truncated).any())


def _enough(blocks, max_steps):
    """Whether as many steps are played as were asked for."""
    return max_steps is not None and len(blocks) * BLOCK >= max_steps


def _episode(blocks, max_steps):
    """Blocks put together, up to the episode's end or to max_steps: Episode."""
    steps = jax.tree.map(lambda *leaves: np.concatenate(leaves), *blocks)
    ends = np.flatnonzero(steps.terminated | steps.truncated)
    length = min(ends[0] + 1 if len(ends) else len(steps.actions), max_steps or len(steps.actions))
    steps = jax.tree.map(lambda leaf: leaf[:length], steps)
    return steps._replace(
        terminated=bool(steps.terminated[-1]), truncated=bool(steps.truncated[-1])
    )
