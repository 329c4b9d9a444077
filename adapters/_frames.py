"""The outputs of the Gymnasium environments: jax arrays to NumPy arrays or torch tensors.

With as few copies and as little fresh memory as possible.
"""

import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.error import DependencyNotInstalled

OUTPUTS = ("numpy", "jax", "torch")


def to_numpy(array: jax.Array) -> np.ndarray:
    """Convert a jax array to a writable NumPy array; floating-point arrays become float64."""
    if jnp.issubdtype(array.dtype, jnp.floating):
        return np.asarray(array).astype(np.float64)
    return np.array(array)


def observation_to_numpy(observation: Any) -> Any:
    """Convert an observation's jax arrays to writable NumPy arrays; on a CPU without a copy."""
    return jax.tree.map(
        lambda array: np.asarray(_SharedMemory(array)) if _is_on_cpu(array) else np.array(array),
        observation,
    )


def converter(output: str) -> Callable[[jax.Array], Any]:
    """The function that converts a jax array to an output: "numpy", "jax" or "torch".

    Raises DependencyNotInstalled for "torch" without PyTorch.
    """
    if output == "jax":
        return lambda array: array
    return to_numpy if output == "numpy" else _torch().from_dlpack


class FrameDelivery:
    """Convert each step's observations, and reuse their memory once the user has dropped them.

    It matters on a CPU, where the operating system maps and clears fresh memory page by page: for
    1,024 frames, that takes longer than to step and draw them. With output="jax" nothing is reused,
    since there is no way to know when the user drops an array, nor are observations of two frames.
    """

    def __init__(self, output: str) -> None:
        """output: "numpy", "jax" or "torch"."""
        self._convert = observation_to_numpy if output == "numpy" else converter(output)
        self._from_numpy: Callable[[np.ndarray], Any] | None = {
            "numpy": lambda array: array,
            "torch": lambda array: _torch().from_numpy(array),
        }.get(output)
        self._free: deque[jax.Array] = deque(maxlen=1)

    def convert(self, observation: Any) -> Any:
        """Convert an observation to the output, without the reuse of its memory."""
        return jax.tree.map(self._convert, observation)

    def deliver(self, observation: Any) -> Any:
        """Convert an observation to the output.

        The memory of a single array is free once nothing refers to the result.
        """
        if self._from_numpy is None or not self._is_reused(observation):
            return self.convert(observation)
        memory = _SharedMemory(observation)
        weakref.finalize(memory, self._free.append, observation)
        return self._from_numpy(np.asarray(memory))

    def prepare(self, observation: Any) -> None:
        """Allocate memory for the second observation, as the user still holds this, the first."""
        if self._is_reused(observation):
            self._free.append(jnp.zeros_like(observation))

    def _is_reused(self, observation: Any) -> bool:
        """Whether the memory of an observation may serve for a later one."""
        is_array = isinstance(observation, jax.Array)
        return self._from_numpy is not None and is_array and _is_on_cpu(observation)

    def take_free(self) -> jax.Array | None:
        """Take an observation whose memory is free, or None."""
        return self._free.pop() if self._free else None


class _SharedMemory:
    """A jax array on the CPU as memory that NumPy shares: np.asarray of this is writable.

    jax itself offers a read-only view or a copy, which for 1,024 frames takes a quarter of the time
    of the step that drew them. Writing is safe because nothing else uses this memory: the program
    that wrote it has finished, and only we hold the jax array.
    """

    def __init__(self, array: jax.Array) -> None:
        self.array = array.block_until_ready()  # keeps the memory alive
        self.__array_interface__ = {
            "version": 3,
            "data": (array.unsafe_buffer_pointer(), False),  # False: writable
            "shape": array.shape,
            "typestr": array.dtype.str,
        }


def _is_on_cpu(array: jax.Array) -> bool:
    """Whether an array is in a CPU's memory."""
    return all(device.platform == "cpu" for device in array.devices())


def _torch() -> Any:
    """Import PyTorch, only when tensors are asked for."""
    try:
        import torch
    except ModuleNotFoundError as missing:
        raise DependencyNotInstalled('output="torch" needs PyTorch: pip install torch') from missing
    return torch
