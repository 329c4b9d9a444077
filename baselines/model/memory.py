"""Memory models by name: those of memax, MinGRU, and none.

A memory maps a sequence of features to a sequence of features of the same size. At each step it
reads a flag that says whether an episode begins there; nothing before the flag affects anything
after it. ``Memory.initialize_carry()`` is its initial state, and ``carry, outputs = memory(carry,
(features, starts))`` continues from a state: features float32[T, size], starts bool[T].
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from memax.equinox.gras import GRAS
from memax.equinox.groups import BinaryAlgebra, Resettable, Semigroup
from memax.equinox.models.residual import ResidualModel
from memax.equinox.scans import semigroup_scan
from memax.equinox.train_utils import get_residual_memory_model, get_residual_memory_models

from popgym_arcade import spaces

__all__ = [
    "MEMORYLESS",
    "MINGRU",
    "Memory",
    "MinGRU",
    "MinGRUSemigroup",
    "canonical_memory_name",
    "make_memory",
    "memory_names",
]

MEMORYLESS: str = "none"
MINGRU: str = "mingru"


@functools.cache
def _memax_names() -> dict[str, str]:
    """Map the names of memax's models in lower case to the names themselves."""
    shapes = eqx.filter_eval_shape(
        lambda key: get_residual_memory_models(input=4, hidden=4, output=4, num_layers=1, key=key),
        jax.random.key(0),
    )
    return {name.lower(): name for name in shapes}


def memory_names() -> tuple[str, ...]:
    """Return the names that ``make_memory`` takes, in lower case.

    They are "none", "mingru" and the names of memax's models.
    """
    return MEMORYLESS, MINGRU, *_memax_names()


def canonical_memory_name(name: str) -> str:
    """Return a memory's name in lower case.

    Raises ValueError for an unknown name; the message names the nearest ones.
    """
    if str(name).lower() not in memory_names():
        spaces.check_name("memory", name, memory_names())
    return name.lower()


def make_memory(name: str, size: int, num_layers: int, key: jax.Array) -> "Memory":
    """Make a memory by name.

    name: one of ``memory_names()``, in upper or lower case. "none" is a multilayer perceptron of
    the same depth. size: number of features of the inputs, the hidden layers and the outputs.
    num_layers: memory layers, each followed by a dense layer and a nonlinearity. Raises ValueError
    for an unknown name.
    """
    name = canonical_memory_name(name)
    if name == MINGRU:
        model = ResidualModel(MinGRU, size, size, size, num_layers, key=key)
    else:
        memax_name = "MLP" if name == MEMORYLESS else _memax_names()[name]
        model = get_residual_memory_model(memax_name, size, size, size, num_layers, key=key)
    return Memory(model)


class Memory(eqx.Module):
    """A memax model that returns only its last state, in the form in which it takes it."""

    model: Any  # a ResidualModel of memax, whose own annotations are too wide

    def initialize_carry(self) -> Any:
        """Return the initial state: a tree of arrays."""
        return self.model.initialize_carry()

    def __call__(self, carry: Any, inputs: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
        """Unroll the memory over T steps: (carry, outputs float32[T, size]).

        inputs: (features float32[T, size], starts bool[T]).
        """
        states, outputs = self.model(carry, inputs)
        return self.model.latest_recurrent_state(states), outputs


class MinGRUSemigroup(Semigroup):
    """Composition of the steps h -> keep * h + new.

    (keep, new) followed by (keep', new') is (keep' keep, keep' new + new').
    """

    recurrent_size: int

    def initialize_carry(self, key: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """Return the identity step, which is also the state 0."""
        return jnp.ones(self.recurrent_size), jnp.zeros(self.recurrent_size)

    def __call__(
        self, carry: tuple[jax.Array, jax.Array], input: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        """Compose two steps: carry, then input."""
        kept, old = carry
        keep, new = input
        return keep * kept, keep * old + new


class MinGRU(GRAS):
    """A gated recurrent unit whose gate and candidate ignore its state: it is a parallel scan.

    h_t = (1 - z_t) h_{t-1} + z_t (W x_t), z_t = sigmoid(V x_t). Source: Feng et al. (2024), "Were
    RNNs All We Needed?", arXiv:2410.01201, section 3.1. This is the plain version, without the
    log-space arithmetic of the paper's appendix, which float32 does not need here.
    """

    algebra: BinaryAlgebra
    scan: Callable
    gate: eqx.nn.Linear
    candidate: eqx.nn.Linear

    def __init__(self, recurrent_size: int, key: jax.Array):
        """Initialize random weights. recurrent_size: number of features and size of the state."""
        gate_key, candidate_key = jax.random.split(key)
        self.algebra = Resettable(MinGRUSemigroup(recurrent_size))
        self.scan = semigroup_scan
        self.gate = eqx.nn.Linear(recurrent_size, recurrent_size, key=gate_key)
        self.candidate = eqx.nn.Linear(recurrent_size, recurrent_size, key=candidate_key)

    def forward_map(self, x: tuple[jax.Array, jax.Array], key: jax.Array | None = None) -> Any:
        """Map an input, (features, start), to the step of the state."""
        features, start = x
        gate = jax.nn.sigmoid(self.gate(features))
        return (1 - gate, gate * self.candidate(features)), start

    def backward_map(self, h: Any, x: Any, key: jax.Array | None = None) -> jax.Array:
        """Map the state to the output: they are the same."""
        (_, state), _ = h
        return state
