"""Roll out an agent for one episode and record what it saw, chose and predicted.

Decision n of an episode, n = 0 ... T - 1, is the agent's choice on seeing frame n, after frames
0 ... n - 1.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from popgym_arcade import spaces
from popgym_arcade.registry import NO_ACTION, Action, make, overrides_from
from popgym_arcade.render import OBS_SIZES
from popgym_arcade.wrappers import Environment, Step

__all__ = [
    "ACTION_NAMES",
    "EnvironmentConfig",
    "Network",
    "Trajectory",
    "environment_config",
    "make_environment",
    "rollout",
]

ACTION_NAMES: tuple[str, ...] = tuple(action.name.lower() for action in Action)
"""The names of the five actions: "up", "down", "left", "right", "fire"."""

BLOCK = 32  # steps per call of the compiled program
CONFIG_KEYS = {
    "name": ("ENV_NAME", "env"),
    "partial_obs": ("PARTIAL", "partial"),
    "obs_size": ("OBS_SIZE", "obs_size"),
}


class Network(Protocol):
    """A recurrent network over sequences, such as those of ``baselines.model.builder``.

    A network may also split its call in two: ``encode(observations)`` and ``decide(carry, features,
    last_actions, starts)``. Saliency is then much cheaper.
    """

    def initialize_carry(self) -> Any:
        """The carry before the first frame."""
        ...

    def __call__(
        self, carry: Any, observations: jax.Array, last_actions: jax.Array, starts: jax.Array
    ) -> tuple[Any, Any]:
        """Unroll over T steps: (carry, output).

        The output is the action values, float32[T, 5], or (logits float32[T, 5], state values
        float32[T]).
        """
        ...


class EnvironmentConfig(NamedTuple):
    """The environment an agent plays: the arguments of ``make``."""

    name: str  # e.g. "NavigatorEasy"
    partial_obs: bool
    obs_size: int
    params: str = ""  # other parameters than the level's, e.g. "board_size=4"


class Trajectory(NamedTuple):
    """T decisions: one episode or its first part, without the frame after the last step."""

    frames: np.ndarray  # uint8[T, S, S, 3]: the latest frame at each decision
    last_actions: np.ndarray  # int32[T]: the action before each frame, NO_ACTION before the first
    starts: np.ndarray  # bool[T]: whether an episode starts with this frame, so true at 0 only
    actions: np.ndarray  # int32[T]: the chosen actions
    rewards: np.ndarray  # float32[T]
    output: Any  # the network's: values float32[T, 5], or (logits float32[T, 5], values float32[T])
    terminated: bool
    truncated: bool  # by the game's step limit, not by max_steps

    @property
    def values(self) -> np.ndarray:
        """The predicted returns of the actions, float32[T, 5].

        For an agent with a policy, those of the state: float32[T, 1].
        """
        return self.output[1][:, None] if isinstance(self.output, tuple) else self.output

    @property
    def probabilities(self) -> np.ndarray | None:
        """The policy's action probabilities, float32[T, 5]; None for an agent without a policy."""
        if not isinstance(self.output, tuple):
            return None
        return np.asarray(jax.nn.softmax(self.output[0]))


class _RolloutState(NamedTuple):
    """The scan carry of a rollout."""

    key: jax.Array
    carry: Any  # the network's
    env_state: Any
    frame: jax.Array  # uint8[S, S, 3]
    last_action: jax.Array  # int32[]
    start: jax.Array  # bool[]


def environment_config(config: Mapping[str, Any]) -> EnvironmentConfig:
    """Extract the EnvironmentConfig from a training config.

    config: a dict with ENV_NAME, PARTIAL and OBS_SIZE, or with env, partial and obs_size as in a
    checkpoint, which may also have params; OBS_SIZE defaults to 128. Raises ValueError if one of
    the others is missing.
    """
    values: dict[str, Any] = {"obs_size": OBS_SIZES[0]}
    for field, keys in CONFIG_KEYS.items():
        for key in keys:
            if key in config:
                values[field] = config[key]
        if field not in values:
            raise ValueError(
                f"the config needs {' or '.join(keys)}, but it has only "
                f"{', '.join(map(str, config)) or 'nothing'}"
            )
    return EnvironmentConfig(**values, params=config.get("params", ""))


@cache
def make_environment(config: EnvironmentConfig) -> tuple[Environment, Any]:
    """Make the (Environment, params) of a config; cached, so that compiled programs are reused."""
    return make(
        config.name, bool(config.partial_obs), config.obs_size, **overrides_from(config.params)
    )


def rollout(
    key: jax.Array,
    network: Network,
    config: EnvironmentConfig,
    max_steps: int | None = None,
    initial_state_and_obs: tuple[Any, ArrayLike] | None = None,
    sample: bool = False,
) -> Trajectory:
    """Play one episode and return its Trajectory.

    key: a PRNG key for the environment and for sampled actions. network: as in
    ``baselines.model.builder``. config: EnvironmentConfig. max_steps: stop after this many
    decisions; None plays to the end. initial_state_and_obs: a (State, uint8[S, S, 3]) to start from
    instead of a random reset; either twin's, since twins share their states. sample: sample actions
    from the policy instead of taking the greedy one.

    Raises what ``make`` raises, and ValueError for max_steps below 1, for a network that was built
    for another frame size, and for sample=True without a policy.
    """
    if max_steps is not None:
        spaces.check_range("max_steps", max_steps, 1)
    env, params = make_environment(config)
    output = _output_shape(network, config.obs_size)
    if sample and not isinstance(output, tuple):
        raise ValueError(
            "sample=True needs a policy, but this network has action values only; use sample=False"
        )
    key, reset_key = jax.random.split(jnp.asarray(key))
    env_state, frame = initial_state_and_obs or jax.jit(env.reset)(reset_key)[::-1]
    state = _RolloutState(
        key,
        network.initialize_carry(),
        env_state,
        _checked_frame(frame, config.obs_size),
        jnp.int32(NO_ACTION),
        jnp.array(True),
    )
    blocks: list[Trajectory] = []
    while not (blocks and _finished(blocks, max_steps)):
        state, block = _rollout_block(network, env.step_env, params, state, sample)
        blocks.append(Trajectory(*jax.tree.map(np.asarray, block)))
    return _joined(blocks, max_steps)


def _output_shape(network: Network, obs_size: int) -> Any:
    """The shapes of a network's output for one frame. Raises ValueError for a wrong frame size."""
    frames = jax.ShapeDtypeStruct((1, obs_size, obs_size, 3), jnp.uint8)
    action, start = jax.ShapeDtypeStruct((1,), jnp.int32), jax.ShapeDtypeStruct((1,), bool)
    try:
        return eqx.filter_eval_shape(
            lambda net, *inputs: net(net.initialize_carry(), *inputs)[1],
            network,
            frames,
            action,
            start,
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the network does not accept frames of {obs_size} x {obs_size} pixels; "
            "was it built for another obs_size?"
        ) from error


def _checked_frame(frame: ArrayLike, obs_size: int) -> jax.Array:
    """The initial frame as an array. Raises ValueError for a wrong shape."""
    frame = jnp.asarray(frame)
    if frame.shape != (obs_size, obs_size, 3):
        raise ValueError(
            f"the initial observation must be uint8[{obs_size}, {obs_size}, 3], "
            f"but its shape is {frame.shape}"
        )
    return frame


@eqx.filter_jit
def _rollout_block(
    network: Network, step_env: Step, params: Any, state: _RolloutState, sample: bool
) -> tuple[_RolloutState, tuple[Any, ...]]:
    """Play BLOCK steps: (state, the fields of a Trajectory with a leading axis [BLOCK] everywhere).

    Steps after the end of the episode are meaningless.
    """

    def one_step(state, _):
        key, action_key, step_key = jax.random.split(state.key, 3)
        carry, output = network(
            state.carry, state.frame[None], state.last_action[None], state.start[None]
        )
        output = jax.tree.map(lambda leaf: leaf[0], output)
        action = _select_action(action_key, output, sample)
        frame, env_state, reward, _, info = step_env(step_key, state.env_state, action, params)
        inputs = (state.frame, state.last_action, state.start)
        step = (*inputs, action, reward, output, info["terminated"], info["truncated"])
        return _RolloutState(key, carry, env_state, frame, action, jnp.array(False)), step

    return jax.lax.scan(one_step, state, length=BLOCK)


def _select_action(key, output, sample):
    """The action with the greatest value or logit, or a sample from the policy: int32[]."""
    scores = output[0] if isinstance(output, tuple) else output
    return (jax.random.categorical(key, scores) if sample else jnp.argmax(scores)).astype(jnp.int32)


def _finished(blocks, max_steps):
    """Whether the episode ended in the last block, or max_steps are played."""
    ended = blocks[-1].terminated | blocks[-1].truncated
    return bool(ended.any()) or (max_steps is not None and len(blocks) * BLOCK >= max_steps)


def _joined(blocks, max_steps):
    """Concatenate blocks and cut them at the episode's end or at max_steps: Trajectory."""
    steps = jax.tree.map(lambda *leaves: np.concatenate(leaves), *blocks)
    ends = np.flatnonzero(steps.terminated | steps.truncated)
    length = min(ends[0] + 1 if len(ends) else len(steps.actions), max_steps or len(steps.actions))
    steps = jax.tree.map(lambda leaf: leaf[:length], steps)
    return steps._replace(
        terminated=bool(steps.terminated[-1]), truncated=bool(steps.truncated[-1])
    )
