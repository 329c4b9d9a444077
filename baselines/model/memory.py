"""Memory models by name: all that memax offers, a MinGRU of our own, and none at all.

A memory maps a sequence of features to a sequence of features of the same size, and reads a flag at
each step that says whether an episode begins there; nothing before the flag reaches anything after
it. ``Memory.initialize_carry()`` is what it knows at first, and ``carry, outputs = memory(carry,
(features, starts))`` goes on from there: features float32[T, size], starts bool[T].
"""

import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from memax.equinox.gras import GRAS
from memax.equinox.groups import BinaryAlgebra, Resettable, Semigroup
from memax.equinox.models.residual import ResidualModel
from memax.equinox.scans import semigroup_scan
from memax.equinox.train_utils import get_residual_memory_model, get_residual_memory_models

from popgym_arcade.spaces import nearest_names

MEMORYLESS = "none"
MINGRU = "mingru"


@functools.cache
def _memax_names():
    """memax's names of its models, by their lower case."""
    shapes = eqx.filter_eval_shape(
        lambda key: get_residual_memory_models(input=4, hidden=4, output=4, num_layers=1, key=key),
        jax.random.key(0),
    )
    return {name.lower(): name for name in shapes}


def memory_names():
    """The names that ``make_memory`` takes, in lower case: "none", "mingru", and those of memax's
    models.
    """
    return MEMORYLESS, MINGRU, *_memax_names()


def canonical_memory_name(name):
    """A memory's name in lower case. Raises ValueError, which names the nearest ones, for a name
    that there is not.
    """
    if str(name).lower() not in memory_names():
        raise ValueError(f"there is no memory {name!r}; {nearest_names(name, memory_names())}")
    return name.lower()


def make_memory(name, size, num_layers, key):
    """A memory by name: a Memory over features of the given size.

    name: one of ``memory_names()``, in any case. "none" is a multilayer perceptron of the same
    depth. size: features in, inside and out. num_layers: of memory, each followed by a dense layer
    and a nonlinearity. Raises ValueError for an unknown name.
    """
    name = canonical_memory_name(name)
    if name == MINGRU:
        model = ResidualModel(MinGRU, size, size, size, num_layers, key=key)
    else:
        memax_name = "MLP" if name == MEMORYLESS else _memax_names()[name]
        model = get_residual_memory_model(memax_name, size, size, size, num_layers, key=key)
    return Memory(model)


class Memory(eqx.Module):
    """A memax model that keeps only its last state, so that what it returns is what it takes."""

    model: ResidualModel

    def initialize_carry(self):
        """What the memory knows at first: a tree of arrays."""
        return self.model.initialize_carry()

    def __call__(self, carry, inputs):
        """Go on over T steps. inputs: (features float32[T, size], starts bool[T]). Returns (carry,
        outputs float32[T, size]).
        """
        states, outputs = self.model(carry, inputs)
        return self.model.latest_recurrent_state(states), outputs


class MinGRUSemigroup(Semigroup):
    """Steps h -> keep * h + new, composed: (keep, new) then (keep', new') is (keep' keep, keep' new
    + new').
    """

    recurrent_size: int

    def initialize_carry(self, key=None):
        """The step that changes nothing, which is also the state 0."""
        return jnp.ones(self.recurrent_size), jnp.zeros(self.recurrent_size)

    def __call__(self, carry, input):
        """Both steps, one after the other."""
        kept, old = carry
        keep, new = input
        return keep * kept, keep * old + new


class MinGRU(GRAS):
    """A gated recurrent unit whose gate and candidate do not look at its state, so that it runs as
    a parallel scan.

    h_t = (1 - z_t) h_{t-1} + z_t (W x_t), z_t = sigmoid(V x_t). Source: Feng et al. (2024), "Were
    RNNs All We Needed?", arXiv:2410.01201, section 3.1; its plain form, without the logarithms of
    its appendix, which 32 bits do not need here.
    """

    algebra: BinaryAlgebra
    scan: Callable
    gate: eqx.nn.Linear
    candidate: eqx.nn.Linear

    def __init__(self, recurrent_size, key):
        """recurrent_size: of features and state."""
        gate_key, candidate_key = jax.random.split(key)
        self.algebra = Resettable(MinGRUSemigroup(recurrent_size))
        self.scan = semigroup_scan
        self.gate = eqx.nn.Linear(recurrent_size, recurrent_size, key=gate_key)
        self.candidate = eqx.nn.Linear(recurrent_size, recurrent_size, key=candidate_key)

    def forward_map(self, x, key=None):
        """The step that an input asks for."""
        features, start = x
        gate = jax.nn.sigmoid(self.gate(features))
        return (1 - gate, gate * self.candidate(features)), start

    def backward_map(self, h, x, key=None):
        """The state is the output."""
        (_, state), _ = h
        return state
