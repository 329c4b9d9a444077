"""The agents' networks: an image encoder, a memory, and linear heads.

All networks map sequences to sequences: ``carry, outputs = network(carry, observations,
last_actions, starts)``, with a leading axis of T steps of one environment. The memory is in the
carry, so processing a sequence in pieces gives the same outputs as processing it at once. For a
batch of environments, ``jax.vmap`` the network. It is faster, where you need gradients, to call
``encode`` once for all frames and ``jax.vmap`` only ``decide``, because then the gradients of the
convolutions are not computed for each environment separately.

* carry: the memory's state. ``network.initialize_carry()`` is the initial one.
* observations: uint8[T, S, S, 3], which the network divides by 255, or floats in [0, 1].
* last_actions: int32[T]: the action before each observation, or -1 if there is none.
* starts: bool[T]: whether an episode begins with this observation. The memory is reset there.

To load saved weights: ``equinox.tree_deserialise_leaves(path, network)``, with a network made with
the same arguments.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp

from popgym_arcade import spaces
from popgym_arcade.baselines.model.memory import (
    MEMORYLESS,
    Memory,
    canonical_memory_name,
    make_memory,
)
from popgym_arcade.baselines.precision import in_32_bits
from popgym_arcade.registry import NO_ACTION, NUM_ACTIONS

__all__ = [
    "MIN_OBS_SIZE",
    "NETWORKS",
    "ActorCriticRNN",
    "Convolution",
    "Encoder",
    "Network",
    "QNetworkRNN",
    "Trunk",
    "convolve",
    "network_of",
    "scaled",
]

MIN_OBS_SIZE: int = 8
_COLORS = 3
_FIRST_WIDTH, _WIDTH = 32, 64  # channels of the first convolution and of all others
_COARSEST = 4  # the convolutions end at this many pixels a side, or fewer


class Network(Protocol):
    """What the algorithms need of a network. The top of this file describes the arguments."""

    def initialize_carry(self) -> Any:
        """Return the initial carry of one environment."""
        ...

    def encode(self, observations: jax.Array, /) -> jax.Array:
        """Encode frames with any leading axes: float32[..., features]."""
        ...

    def decide(
        self, carry: Any, features: jax.Array, last_actions: jax.Array, starts: jax.Array, /
    ) -> tuple[Any, Any]:
        """Unroll the memory over encoded frames of one environment: (carry, outputs [T, ...])."""
        ...


# --- convolutions --------------------------------------------------------------------------------


def _same_convolution(images: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolve as ``convolve`` does, with the gradients of JAX."""
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), "SAME", dimension_numbers=layout
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(images: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolve images with a kernel and "SAME" zero padding.

    images: float32[n, height, width, channels]. kernel: float32[side, side, channels, width].
    Returns float32[n, ceil(height / stride), ceil(width / stride), width].

    Only the gradient of the kernel differs from ``jax.lax.conv_general_dilated``, and only on a
    CPU, where XLA takes a hundred times as long for it inside a loop as outside
    (jax-ml/jax#12868).
    """
    return _same_convolution(images, kernel, stride)


def _convolve_forward(images, kernel, stride):
    return _same_convolution(images, kernel, stride), (images, kernel)


def _convolve_backward(stride, inputs, gradient):
    images, kernel = inputs
    _, images_vjp = jax.vjp(lambda images: _same_convolution(images, kernel, stride), images)
    kernel_gradient = jax.lax.platform_dependent(
        images,
        kernel,
        gradient,
        cpu=functools.partial(_kernel_gradient_by_columns, stride),
        default=functools.partial(_kernel_gradient, stride),
    )
    return *images_vjp(gradient), kernel_gradient


def _kernel_gradient(stride, images, kernel, gradient):
    """Compute the gradient of the kernel as JAX does."""
    return jax.vjp(lambda kernel: _same_convolution(images, kernel, stride), kernel)[1](gradient)[0]


def _kernel_gradient_by_columns(stride, images, kernel, gradient):
    """Compute the gradient of the kernel as one matrix product of image columns and gradient."""
    side, (height, width) = kernel.shape[0], gradient.shape[1:3]
    padding = [
        max((n - 1) * stride + side - size, 0)
        for n, size in zip((height, width), images.shape[1:3])
    ]
    padded = jnp.pad(images, ((0, 0), *((n // 2, n - n // 2) for n in padding), (0, 0)))
    columns = [
        padded[
            :,
            row : row + (height - 1) * stride + 1 : stride,
            column : column + (width - 1) * stride + 1 : stride,
        ]
        for row in range(side)
        for column in range(side)
    ]
    product = jnp.einsum("nhwi,nhwo->io", jnp.concatenate(columns, axis=-1), gradient)
    return product.reshape(kernel.shape)


convolve.defvjp(_convolve_forward, _convolve_backward)


class Convolution(eqx.Module):
    """Convolution and ReLU, with LayerNorm over channels between them if it is asked for."""

    kernel: jax.Array  # float32[side, side, channels, width]
    bias: jax.Array | None  # float32[width]; LayerNorm has its own
    norm: eqx.nn.LayerNorm | None
    stride: int = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        width: int,
        side: int,
        stride: int,
        key: jax.Array,
        normalized: bool = False,
    ):
        """Initialize random weights, by He et al. (2015) unless they are normalized.

        channels, width: channels in and out. side: of the kernel, pixels. stride: pixels.
        normalized: whether to use LayerNorm.
        """
        fan_in, shape = channels * side * side, (side, side, channels, width)
        if normalized:
            limit = fan_in**-0.5
            self.kernel = jax.random.uniform(key, shape, minval=-limit, maxval=limit)
        else:
            self.kernel = jax.random.normal(key, shape) * (2 / fan_in) ** 0.5
        self.norm = eqx.nn.LayerNorm(width) if normalized else None
        self.bias = None if normalized else jnp.zeros(width)
        self.stride = stride

    def __call__(self, images: jax.Array) -> jax.Array:
        """Apply the layer to images. Shapes are those of ``convolve``."""
        images = convolve(images, self.kernel, self.stride)
        if self.norm is not None:
            images = _over_last_axis(self.norm, images)
        return jax.nn.relu(images if self.bias is None else images + self.bias[None, None, None])


def _over_last_axis(layer, values):
    """Apply a layer to the last axis, with any leading axes."""
    return jax.vmap(layer)(values.reshape(-1, values.shape[-1])).reshape(*values.shape[:-1], -1)


# --- networks ------------------------------------------------------------------------------------


class Encoder(eqx.Module):
    """Convolutions over an image of any size until it is 4 x 4 or less, then a dense layer.

    The first convolution takes square patches of pixels, which do not overlap; each further one
    halves height and width.

    LayerNorm keeps PQN stable without a target network: Gallici et al. (2024), "Simplifying Deep
    Temporal Difference Learning", section 4. It is used on the features and, unlike there, not in
    the convolutions: with it there, most of a frame being empty, the agents learned far slower.
    """

    convolutions: list[Convolution]
    dense: eqx.nn.Linear
    norm: eqx.nn.LayerNorm

    def __init__(
        self,
        obs_size: int,
        size: int,
        key: jax.Array,
        patch_size: int = 4,
        normalize_convolutions: bool = False,
    ):
        """Initialize random weights.

        obs_size: height and width of the images, at least 8. size: features. patch_size: side of a
        patch in pixels, 1 to obs_size. normalize_convolutions: whether to use LayerNorm in the
        convolutions, too. Raises ValueError for a size out of range.
        """
        spaces.check_range("obs_size", obs_size, MIN_OBS_SIZE)
        spaces.check_range("patch_size", patch_size, 1, obs_size)
        self.convolutions = []
        channels, width, side = _COLORS, _FIRST_WIDTH, obs_size
        kernel, stride = patch_size, patch_size
        while not self.convolutions or side > _COARSEST:
            key, layer_key = jax.random.split(key)
            self.convolutions.append(
                Convolution(channels, width, kernel, stride, layer_key, normalize_convolutions)
            )
            channels, width, side, kernel, stride = width, _WIDTH, -(-side // stride), 3, 2
        self.dense = eqx.nn.Linear(channels * side * side, size, key=key)
        self.norm = eqx.nn.LayerNorm(size)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Encode images, float32[n, S, S, 3] in [0, 1]: float32[n, size]."""
        for convolution in self.convolutions:
            images = convolution(images)
        return jax.nn.relu(
            jax.vmap(self.norm)(jax.vmap(self.dense)(images.reshape(images.shape[0], -1)))
        )


class Trunk(eqx.Module):
    """What all networks share: encoder, projection of the previous action, and memory."""

    encoder: Encoder
    actions: eqx.nn.Linear
    memory: Memory
    norm: eqx.nn.LayerNorm
    memoryless: bool = eqx.field(static=True)

    def __init__(
        self,
        obs_size: int,
        rnn_type: str,
        size: int,
        num_layers: int,
        key: jax.Array,
        patch_size: int,
        normalize_convolutions: bool,
    ):
        """Initialize random weights. Arguments and errors are those of QNetworkRNN."""
        encoder_key, action_key, memory_key = jax.random.split(key, 3)
        self.memoryless = canonical_memory_name(rnn_type) == MEMORYLESS
        self.encoder = Encoder(obs_size, size, encoder_key, patch_size, normalize_convolutions)
        self.actions = eqx.nn.Linear(NUM_ACTIONS, size, use_bias=False, key=action_key)
        self.memory = make_memory(rnn_type, size, num_layers, memory_key)
        self.norm = eqx.nn.LayerNorm(size)

    def encode(self, observations: jax.Array) -> jax.Array:
        """Encode frames [..., S, S, 3]: float32[..., size]."""
        images = scaled(observations).reshape(-1, *observations.shape[-3:])
        return self.encoder(images).reshape(*observations.shape[:-3], -1)

    def unroll(
        self, carry: Any, features: jax.Array, last_actions: jax.Array, starts: jax.Array
    ) -> tuple[Any, jax.Array]:
        """Unroll the memory: (carry, float32[T, size]).

        features: float32[T, size], from ``encode``.
        """
        if self.memoryless:  # hide the previous action: an agent can use it as a memory
            last_actions = jnp.full_like(last_actions, NO_ACTION)
        actions = jax.vmap(self.actions)(jax.nn.one_hot(last_actions, NUM_ACTIONS))
        carry, remembered = self.memory(carry, (features + actions, starts))
        return carry, jax.vmap(self.norm)(features + remembered)


def scaled(observations: jax.Array) -> jax.Array:
    """Scale uint8 pixels to floats in [0, 1]; return floats as they are.

    This is the only place where the networks scale pixels.
    """
    return (
        observations.astype(jnp.float32) / 255 if observations.dtype == jnp.uint8 else observations
    )


class QNetworkRNN(eqx.Module):
    """A Q-network: action values float32[T, 5], in units of the game's return."""

    trunk: Trunk
    head: eqx.nn.Linear

    def __init__(
        self,
        key: jax.Array,
        rnn_type: str = "lru",
        obs_size: int = 128,
        hidden_size: int = 256,
        num_layers: int = 2,
        patch_size: int = 4,
        normalize_convolutions: bool = False,
    ):
        """Initialize random weights.

        rnn_type: a memory, one of ``memory.memory_names()`` in upper or lower case. obs_size:
        height and width of an observation, at least 8. hidden_size: features. num_layers: layers of
        the memory. patch_size: side of the patches of pixels that the encoder starts from, 1 to
        obs_size. normalize_convolutions: whether to use LayerNorm in the convolutions, too.

        With "none", the network ignores the previous action too, because an agent can use its own
        actions as a memory. Raises ValueError for an unknown memory or a size out of range.
        """
        trunk_key, head_key = jax.random.split(key)
        self.trunk = Trunk(
            obs_size,
            rnn_type,
            hidden_size,
            num_layers,
            trunk_key,
            patch_size,
            normalize_convolutions,
        )
        self.head = eqx.nn.Linear(hidden_size, NUM_ACTIONS, key=head_key)

    def initialize_carry(self) -> Any:
        """Return the initial state of the memory: a tree of arrays."""
        return self.trunk.memory.initialize_carry()

    def encode(self, observations: jax.Array) -> jax.Array:
        """Encode frames with any leading axes: features float32[..., hidden_size].

        This is the first half of a call.
        """
        return self.trunk.encode(observations)

    def decide(
        self, carry: Any, features: jax.Array, last_actions: jax.Array, starts: jax.Array
    ) -> tuple[Any, jax.Array]:
        """Unroll the memory over encoded frames: (carry, action values float32[T, 5]).

        This is the second half of a call. features: float32[T, hidden_size], from ``encode``.
        """
        carry, hidden = self.trunk.unroll(carry, features, last_actions, starts)
        return carry, jax.vmap(self.head)(hidden)

    def __call__(
        self, carry: Any, observations: jax.Array, last_actions: jax.Array, starts: jax.Array
    ) -> tuple[Any, jax.Array]:
        """Return (carry, action values float32[T, 5]).

        The top of this file describes the arguments.
        """
        return self.decide(carry, self.encode(observations), last_actions, starts)


class ActorCriticRNN(eqx.Module):
    """An actor-critic network: (logits float32[T, 5], values float32[T])."""

    trunk: Trunk
    actor: eqx.nn.Linear
    critic: eqx.nn.Linear

    def __init__(
        self,
        key: jax.Array,
        rnn_type: str = "lru",
        obs_size: int = 128,
        hidden_size: int = 256,
        num_layers: int = 2,
        patch_size: int = 4,
        normalize_convolutions: bool = False,
    ):
        """Initialize random weights, with a nearly uniform policy.

        Arguments and errors are those of QNetworkRNN.
        """
        trunk_key, actor_key, critic_key = jax.random.split(key, 3)
        self.trunk = Trunk(
            obs_size,
            rnn_type,
            hidden_size,
            num_layers,
            trunk_key,
            patch_size,
            normalize_convolutions,
        )
        self.actor = _scale_weights(eqx.nn.Linear(hidden_size, NUM_ACTIONS, key=actor_key), 0.01)
        self.critic = eqx.nn.Linear(hidden_size, "scalar", key=critic_key)

    def initialize_carry(self) -> Any:
        """Return the initial state of the memory: a tree of arrays."""
        return self.trunk.memory.initialize_carry()

    def encode(self, observations: jax.Array) -> jax.Array:
        """Encode frames with any leading axes: features float32[..., hidden_size].

        This is the first half of a call.
        """
        return self.trunk.encode(observations)

    def decide(
        self, carry: Any, features: jax.Array, last_actions: jax.Array, starts: jax.Array
    ) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        """Unroll the memory over encoded frames: (carry, (logits [T, 5], values [T])), float32.

        This is the second half of a call. features: float32[T, hidden_size], from ``encode``.
        """
        carry, hidden = self.trunk.unroll(carry, features, last_actions, starts)
        return carry, (jax.vmap(self.actor)(hidden), jax.vmap(self.critic)(hidden))

    def __call__(
        self, carry: Any, observations: jax.Array, last_actions: jax.Array, starts: jax.Array
    ) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        """Return (carry, (logits float32[T, 5], values float32[T])).

        The top of this file describes the arguments.
        """
        return self.decide(carry, self.encode(observations), last_actions, starts)


def _scale_weights(layer, factor):
    """Scale the weights of a linear layer."""
    return eqx.tree_at(lambda linear: linear.weight, layer, layer.weight * factor)


NETWORKS: dict[str, type[QNetworkRNN] | type[ActorCriticRNN]] = {
    "pqn": QNetworkRNN,
    "ppo": ActorCriticRNN,
    "dqn": QNetworkRNN,
}
"""The class of network that each algorithm trains."""


def network_of(
    algorithm: str, config: Mapping[str, Any]
) -> Callable[[jax.Array], QNetworkRNN | ActorCriticRNN]:
    """Return a function that makes an algorithm's network from a PRNG key.

    algorithm: a key of NETWORKS. config: has memory, obs_size, hidden_size,
    num_layers, patch_size and normalize_convolutions.
    """
    names = ("obs_size", "hidden_size", "num_layers", "patch_size", "normalize_convolutions")
    sizes = {name: config[name] for name in names}
    return in_32_bits(lambda key: NETWORKS[algorithm](key, rnn_type=config["memory"], **sizes))
