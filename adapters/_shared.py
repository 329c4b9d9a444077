"""What ArcadeEnv and ArcadeVectorEnv share: metadata, spaces, and the checks of arguments."""

import copy
import dataclasses
import operator
import os
from collections.abc import Sequence
from typing import Any, SupportsIndex

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from jax._src import xla_bridge  # nothing public says whether JAX has started

from popgym_arcade import spaces
from popgym_arcade.adapters._programs import Carry
from popgym_arcade.registry import NUM_ACTIONS, Environment

METADATA: dict[str, Any] = {"render_modes": ["human", "rgb_array"], "render_fps": 10}
"""The ``metadata`` of every environment."""

CPU = 1  # DLPack's code for the device


def to_gymnasium_space(space: Any) -> gymnasium.spaces.Space[Any]:
    """Convert one of our spaces to Gymnasium's Discrete, Box or Dict."""
    if isinstance(space, spaces.Dict):
        return gymnasium.spaces.Dict(
            {name: to_gymnasium_space(inner) for name, inner in space.spaces.items()}
        )
    if isinstance(space, spaces.Discrete):
        return gymnasium.spaces.Discrete(space.n)
    return gymnasium.spaces.Box(space.low, space.high, space.shape, np.dtype(space.dtype).type)


def spaces_of(
    env: Environment, params: Any
) -> tuple[gymnasium.spaces.Space[Any], gymnasium.spaces.Space[Any]]:
    """The action space and the observation space of one environment."""
    return (
        to_gymnasium_space(env.action_space(params)),
        to_gymnasium_space(env.observation_space(params)),
    )


class Resumable:
    """What both environments share: copies that play on, and a spec with the time limit."""

    _REBUILT: tuple[str, ...] = ()  # attributes that ``_build`` sets, so that no pickle needs them
    _carry: Carry | None = None
    _params: Any = None
    _spec: Any = None

    def _build(self) -> Environment:
        """Set what a pickle leaves out, from the arguments; return the wrapped environment."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        """Copies of the attributes, on the host."""
        kept = {name: value for name, value in vars(self).items() if name not in self._REBUILT}
        return copy.deepcopy({**kept, "_carry": jax.device_get(self._carry)})

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go on from what was pickled.

        What is carried gets memory of JAX's own: a step donates it, and its results must not be
        written to memory that belongs to NumPy.
        """
        vars(self).update({**state, "_carry": jax.tree.map(jnp.array, state["_carry"])})
        self._build()

    @property
    def spec(self) -> Any:
        """Gymnasium's spec, with the game's time limit; None for one that you did not register."""
        return self._spec

    @spec.setter
    def spec(self, spec: Any) -> None:
        if spec is not None and spec.max_episode_steps is None:
            limit = self._params.max_steps_in_episode
            spec = dataclasses.replace(spec, max_episode_steps=limit)
        self._spec = spec


def check_process() -> None:
    """Raise RuntimeError in a process that was forked after JAX had started.

    JAX's threads do not survive a fork, so the next computation would wait for them forever.
    """
    if _forked:
        raise RuntimeError(
            "this process was forked after JAX had started, so JAX cannot compute here; start "
            'processes with "spawn" (AsyncVectorEnv(..., context="spawn"), '
            'SubprocVecEnv(..., start_method="spawn")), or use gymnasium.make_vec or ArcadeVecEnv, '
            "which run all environments in one process"
        )


_forked = False


def _note_fork() -> None:
    """Remember in a forked process that JAX had started in its parent."""
    global _forked
    _forked = xla_bridge.backends_are_initialized()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_note_fork)


def warn_without_mode(render_mode: str | None) -> None:
    """Warn, as Gymnasium's environments do, that nothing is rendered without a render_mode."""
    if render_mode is None:
        gymnasium.logger.warn(
            "render was called without a render_mode; "
            'choose one when you make the environment, e.g. "rgb_array"'
        )


# --- checks --------------------------------------------------------------------------------------


def check_choice(what: str, value: object, allowed: Sequence[str]) -> None:
    """Raise ValueError unless value, of any type, is one of the allowed strings."""
    spaces.check_choice(what, value if isinstance(value, str) else str(value), allowed)


def check_render_mode(render_mode: object) -> None:
    """Raise ValueError unless render_mode is None or one of the metadata's."""
    if render_mode is not None:
        check_choice("render_mode, if given,", render_mode, METADATA["render_modes"])


def to_autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    """Convert a mode's value to the AutoresetMode. Raises ValueError for any other value."""
    value = mode.value if isinstance(mode, AutoresetMode) else mode
    check_choice("autoreset_mode", value, [known.value for known in AutoresetMode])
    return AutoresetMode(value)


def to_seeds(seed: SupportsIndex | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    """A list with a seed or None for each environment, from the ``seed`` of ``reset``."""
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, SupportsIndex):
        return [operator.index(seed) + i for i in range(num_envs)]
    if len(seed) != num_envs:
        raise ValueError(
            f"seed must have {num_envs} items, one for each environment, but it has {len(seed)}"
        )
    return list(seed)


def check_mask(mask: object, num_envs: int) -> None:
    """Raise ValueError unless the mask is a NumPy bool[num_envs] with at least one True."""
    if not isinstance(mask, np.ndarray) or mask.shape != (num_envs,) or mask.dtype != bool:
        raise ValueError(f"reset_mask must be a NumPy array bool[{num_envs}], but it is {mask!r}")
    if not mask.any():
        raise ValueError(
            "reset_mask must be True for at least one environment, but it is False everywhere"
        )


def check_none_done(carry: Carry) -> None:
    """Raise ResetNeeded if an episode of a vector is over."""
    done = np.flatnonzero(np.asarray(carry.done))
    if done.size:
        raise ResetNeeded(
            f"the episodes of {done.tolist()} are over; reset them before the next step"
        )


def to_action(action: Any) -> np.int32:
    """Convert an integer, or a NumPy, jax or torch scalar, to what a compiled program takes.

    Raises ValueError for anything but an integer in [0, 4].
    """
    try:
        number = operator.index(action)
    except TypeError:
        number = -1
    if not 0 <= number < NUM_ACTIONS:
        raise ValueError(
            f"the action must be an integer in [0, {NUM_ACTIONS - 1}], but it is {action!r}"
        )
    return np.int32(number)


def to_action_array(actions: Any, num_envs: int) -> np.ndarray | jax.Array:
    """Convert actions to an integer array [num_envs] that a compiled program takes.

    Raises ValueError for another shape or dtype and, for actions in a CPU's memory, for a value
    outside [0, 4]. Values on an accelerator are not read, since that would wait for the device.
    """
    if getattr(actions, "__dlpack_device__", lambda: (CPU, 0))()[0] != CPU:
        if not isinstance(actions, jax.Array):
            actions = jax.dlpack.from_dlpack(actions.int())
        _check_kind(actions, num_envs)
        return actions
    actions = np.asarray(actions)
    _check_kind(actions, num_envs)
    wrong = np.flatnonzero((actions < 0) | (actions >= NUM_ACTIONS))
    if wrong.size:
        what, action = f"the action of environment {wrong[0]}", actions[wrong[0]].item()
        spaces.check_range(what, action, 0, NUM_ACTIONS - 1)
    return actions.astype(np.int32)


def _check_kind(actions: np.ndarray | jax.Array, num_envs: int) -> None:
    """Raise ValueError unless there is one integer for each environment."""
    if actions.shape != (num_envs,) or not jnp.issubdtype(actions.dtype, jnp.integer):
        raise ValueError(
            f"actions must be integers [{num_envs}], one for each environment, "
            f"but they are {actions.dtype}{list(actions.shape)}"
        )
