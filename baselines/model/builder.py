"""The agents' networks: an encoder of images, the previous action, a memory, and heads for what an
algorithm wants to know.

All networks read sequences: ``carry, values = network(carry, observations, last_actions, starts)``,
with a leading axis of T steps of one environment. What a network has read stays in its carry, so
reading a sequence in pieces gives what reading it at once gives. For a batch of environments,
``jax.vmap`` it, or, faster where gradients are wanted, call ``encode`` for all frames at once and
``jax.vmap`` only ``decide``: then the convolutions' gradients need not be computed for each
environment by itself.

* carry: what the memory knows. ``network.initialize_carry()`` is the one before anything.
* observations: uint8[T, S, S, 3], which the network divides by 255, or floats that are divided
  already, 0 ... 1.
* last_actions: int32[T]: the action before each observation, -1 where there is none.
* starts: bool[T]: whether an episode begins with this observation. All that was before is
  forgotten.

To load what training saved: ``equinox.tree_deserialise_leaves(path, network)`` with a network made
with the same arguments.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp

from popgym_arcade.baselines.model.memory import MEMORYLESS, canonical_memory_name, make_memory
from popgym_arcade.registry import NUM_ACTIONS

COLORS = 3
MIN_OBS_SIZE = 8
FIRST_WIDTH, WIDTH = 32, 64  # channels of the first convolution and of all others
COARSEST = 4  # pixels a side at which the convolutions end


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(images, kernel, stride):
    """Convolve images, float32[n, height, width, channels], with a kernel, float32[side, side,
    channels, width], zeros around them.

    It equals ``jax.lax.conv_general_dilated`` with padding "SAME". Only the gradient of the kernel
    is computed in another way on a CPU: there XLA takes a hundred times as long for it inside of a
    loop as outside (jax-ml/jax#12868).
    """
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), "SAME", dimension_numbers=layout
    )


def _convolve_forward(images, kernel, stride):
    return convolve.fun(images, kernel, stride), (images, kernel)


def _convolve_backward(stride, inputs, gradient):
    images, kernel = inputs
    _, of_images = jax.vjp(lambda images: convolve.fun(images, kernel, stride), images)
    of_kernel = jax.lax.platform_dependent(
        images,
        kernel,
        gradient,
        cpu=functools.partial(_kernel_gradient_by_columns, stride),
        default=functools.partial(_kernel_gradient, stride),
    )
    return *of_images(gradient), of_kernel


def _kernel_gradient(stride, images, kernel, gradient):
    """The gradient of the kernel, as jax computes it."""
    return jax.vjp(lambda kernel: convolve.fun(images, kernel, stride), kernel)[1](gradient)[0]


def _kernel_gradient_by_columns(stride, images, kernel, gradient):
    """The gradient of the kernel as one product of matrices: what each place of the kernel saw,
    times the gradient.
    """
    side, (height, width) = kernel.shape[0], gradient.shape[1:3]
    missing = [
        max((n - 1) * stride + side - size, 0)
        for n, size in zip((height, width), images.shape[1:3])
    ]
    padded = jnp.pad(images, ((0, 0), *((m // 2, m - m // 2) for m in missing), (0, 0)))
    seen = [
        padded[
            :,
            row : row + (height - 1) * stride + 1 : stride,
            column : column + (width - 1) * stride + 1 : stride,
        ]
        for row in range(side)
        for column in range(side)
    ]
    return jnp.einsum("nhwi,nhwo->io", jnp.concatenate(seen, axis=-1), gradient).reshape(
        kernel.shape
    )


convolve.defvjp(_convolve_forward, _convolve_backward)


class Convolution(eqx.Module):
    """A convolution, a normalisation of the channels at each place, and what is positive of it."""

    kernel: jax.Array  # float32[side, side, channels, width]
    norm: eqx.nn.LayerNorm
    stride: int = eqx.field(static=True)

    def __init__(self, channels, width, side, stride, key):
        """channels: in. width: channels out. side: of the kernel, pixels. stride: pixels."""
        limit = (channels * side * side) ** -0.5
        self.kernel = jax.random.uniform(
            key, (side, side, channels, width), minval=-limit, maxval=limit
        )
        self.norm = eqx.nn.LayerNorm(width)
        self.stride = stride

    def __call__(self, images):
        """float32[n, height, width, channels] -> float32[n, ceil(height / stride), ceil(width /
        stride), width].
        """
        return jax.nn.relu(_over_last_axis(self.norm, convolve(images, self.kernel, self.stride)))


def _over_last_axis(layer, values):
    """Apply a layer to the last axis, whatever axes there are before."""
    return jax.vmap(layer)(values.reshape(-1, values.shape[-1])).reshape(*values.shape[:-1], -1)


class Encoder(eqx.Module):
    """Convolutions over an image of any size, until it is 4 x 4 or less, and a dense layer.

    The first convolution takes patches of 4 x 4 pixels, each further one halves the sides. Layers
    are normalised, which is what keeps PQN stable without a target network: Gallici et al. (2024),
    "Simplifying Deep Temporal Difference Learning", section 4.
    """

    convolutions: list
    dense: eqx.nn.Linear
    norm: eqx.nn.LayerNorm

    def __init__(self, obs_size, size, key):
        """obs_size: pixels a side, at least 8. size: features."""
        if obs_size < MIN_OBS_SIZE:
            raise ValueError(
                f"obs_size must be at least {MIN_OBS_SIZE}, but it is {obs_size}; the nearest is {MIN_OBS_SIZE}"
            )
        self.convolutions, channels, width, side, kernel, stride = (
            [],
            COLORS,
            FIRST_WIDTH,
            obs_size,
            4,
            4,
        )
        while side > COARSEST:
            key, layer_key = jax.random.split(key)
            self.convolutions.append(Convolution(channels, width, kernel, stride, layer_key))
            channels, width, side, kernel, stride = width, WIDTH, -(-side // stride), 3, 2
        self.dense = eqx.nn.Linear(channels * side * side, size, key=key)
        self.norm = eqx.nn.LayerNorm(size)

    def __call__(self, images):
        """images: float32[n, S, S, 3], 0 ... 1. Returns float32[n, size]."""
        for convolution in self.convolutions:
            images = convolution(images)
        return jax.nn.relu(
            jax.vmap(self.norm)(jax.vmap(self.dense)(images.reshape(images.shape[0], -1)))
        )


class Trunk(eqx.Module):
    """What both networks share: from observations and previous actions to features that remember,
    float32[T, size].
    """

    encoder: Encoder
    actions: eqx.nn.Linear
    memory: eqx.Module
    norm: eqx.nn.LayerNorm
    memoryless: bool = eqx.field(static=True)

    def __init__(self, obs_size, rnn_type, size, num_layers, key):
        """As in QNetworkRNN."""
        encoder_key, action_key, memory_key = jax.random.split(key, 3)
        self.memoryless = canonical_memory_name(rnn_type) == MEMORYLESS
        self.encoder = Encoder(obs_size, size, encoder_key)
        self.actions = eqx.nn.Linear(NUM_ACTIONS, size, use_bias=False, key=action_key)
        self.memory = make_memory(rnn_type, size, num_layers, memory_key)
        self.norm = eqx.nn.LayerNorm(size)

    def encode(self, observations):
        """What each frame shows: float32[..., size] of observations [..., S, S, 3]."""
        images = scaled(observations).reshape(-1, *observations.shape[-3:])
        return self.encoder(images).reshape(*observations.shape[:-3], -1)

    def remember(self, carry, seen, last_actions, starts):
        """What is known at each step: (carry, float32[T, size]). seen: float32[T, size], from
        ``encode``.
        """
        if self.memoryless:
            last_actions = jnp.full_like(last_actions, -1)  # it would remember by what it does
        done = jax.vmap(self.actions)(jax.nn.one_hot(last_actions, NUM_ACTIONS))
        carry, remembered = self.memory(carry, (seen + done, starts))
        return carry, jax.vmap(self.norm)(seen + remembered)


def scaled(observations):
    """Bytes as floats, 0 ... 1; floats as they are. This is the only place where pixels are
    scaled.
    """
    return (
        observations.astype(jnp.float32) / 255 if observations.dtype == jnp.uint8 else observations
    )


class QNetworkRNN(eqx.Module):
    """The value of each action: float32[T, 5], in returns of the game."""

    trunk: Trunk
    head: eqx.nn.Linear

    def __init__(self, key, rnn_type="lru", obs_size=128, hidden_size=256, num_layers=2):
        """Make a network with random weights.

        key: of the weights. rnn_type: a memory's name, one of ``memory.memory_names()`` in any
        case. obs_size: pixels a side of an observation, at least 8. hidden_size: features.
        num_layers: of the memory.

        "none" is memoryless: it does not see the previous action either, for an agent can remember
        by what it does. Raises ValueError for an unknown memory or a size that is too small.
        """
        trunk_key, head_key = jax.random.split(key)
        self.trunk = Trunk(obs_size, rnn_type, hidden_size, num_layers, trunk_key)
        self.head = eqx.nn.Linear(hidden_size, NUM_ACTIONS, key=head_key)

    def initialize_carry(self):
        """What the memory knows before anything: a tree of arrays."""
        return self.trunk.memory.initialize_carry()

    def encode(self, observations):
        """The first half of a call, for frames with any leading axes: features float32[...,
        hidden_size].
        """
        return self.trunk.encode(observations)

    def decide(self, carry, seen, last_actions, starts):
        """The second half of a call: (carry, action values float32[T, 5]). seen: float32[T,
        hidden_size], from ``encode``.
        """
        carry, features = self.trunk.remember(carry, seen, last_actions, starts)
        return carry, jax.vmap(self.head)(features)

    def __call__(self, carry, observations, last_actions, starts):
        """Return (carry, action values float32[T, 5]). The arguments are described at the top of
        this file.
        """
        return self.decide(carry, self.encode(observations), last_actions, starts)


class ActorCriticRNN(eqx.Module):
    """A policy and the value of the state: (logits float32[T, 5], values float32[T])."""

    trunk: Trunk
    actor: eqx.nn.Linear
    critic: eqx.nn.Linear

    def __init__(self, key, rnn_type="lru", obs_size=128, hidden_size=256, num_layers=2):
        """The arguments and errors are those of QNetworkRNN. At first the policy is nearly
        uniform.
        """
        trunk_key, actor_key, critic_key = jax.random.split(key, 3)
        self.trunk = Trunk(obs_size, rnn_type, hidden_size, num_layers, trunk_key)
        self.actor = _damped(eqx.nn.Linear(hidden_size, NUM_ACTIONS, key=actor_key))
        self.critic = eqx.nn.Linear(hidden_size, "scalar", key=critic_key)

    def initialize_carry(self):
        """What the memory knows before anything: a tree of arrays."""
        return self.trunk.memory.initialize_carry()

    def encode(self, observations):
        """The first half of a call, for frames with any leading axes: features float32[...,
        hidden_size].
        """
        return self.trunk.encode(observations)

    def decide(self, carry, seen, last_actions, starts):
        """The second half of a call: (carry, (logits float32[T, 5], values float32[T])). seen:
        float32[T, hidden_size].
        """
        carry, features = self.trunk.remember(carry, seen, last_actions, starts)
        return carry, (jax.vmap(self.actor)(features), jax.vmap(self.critic)(features))

    def __call__(self, carry, observations, last_actions, starts):
        """Return (carry, (logits float32[T, 5], values float32[T])). The arguments are described at
        the top of this file.
        """
        return self.decide(carry, self.encode(observations), last_actions, starts)


def _damped(layer, factor=0.01):
    """A linear layer with small weights."""
    return eqx.tree_at(lambda linear: linear.weight, layer, layer.weight * factor)


NETWORKS: dict[str, type] = {"pqn": QNetworkRNN, "ppo": ActorCriticRNN, "dqn": QNetworkRNN}
"""The class of network that each algorithm trains."""


def network_of(algorithm, config):
    """Return a function that makes an algorithm's network from a PRNG key.

    algorithm: a key of NETWORKS. config: a dict with memory, obs_size, hidden_size and num_layers.
    """
    sizes = {name: config[name] for name in ("obs_size", "hidden_size", "num_layers")}
    return lambda key: NETWORKS[algorithm](key, rnn_type=config["memory"], **sizes)
