"""The agents' networks: an encoder of images, the previous action, a memory, and heads for what an algorithm wants to know.

All networks read sequences: ``carry, values = network(carry, observations, last_actions, starts)``, with a leading axis of T steps
of one environment. Use ``jax.vmap`` for a batch of them. What a network has read stays in its carry, so reading a sequence in
pieces gives what reading it at once gives.

* carry: what the memory knows. ``network.initialize_carry()`` is the one before anything.
* observations: uint8[T, S, S, 3], which the network divides by 255, or floats that are divided already, 0 ... 1.
* last_actions: int32[T]: the action before each observation, -1 where there is none.
* starts: bool[T]: whether an episode begins with this observation. All that was before is forgotten.

To load what training saved: ``equinox.tree_deserialise_leaves(path, network)`` with a network made with the same arguments.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from popgym_arcade.baselines.model.memory import MEMORYLESS, checked_memory_name, make_memory
from popgym_arcade.registry import NUM_ACTIONS

COLORS = 3
MIN_OBS_SIZE = 8
WIDTHS = (32, 64)  # channels of the first convolution and of all others
COARSEST = 4  # pixels a side at which the convolutions end


class Encoder(eqx.Module):
    """Convolutions over an image of any size, until it is 4 x 4 or less, and a dense layer: float32[S, S, 3] -> float32[size].

    The first convolution takes patches of 4 x 4 pixels, each further one halves the sides. Layers are normalised, which is what
    keeps PQN stable without a target network: Gallici et al. (2024), "Simplifying Deep Temporal Difference Learning", section 4.
    """

    convolutions: list
    norms: list
    dense: eqx.nn.Linear
    norm: eqx.nn.LayerNorm

    def __init__(self, obs_size, size, key):
        """obs_size: pixels a side, at least 8. size: features."""
        if obs_size < MIN_OBS_SIZE:
            raise ValueError(f"obs_size must be at least {MIN_OBS_SIZE}, but it is {obs_size}; the nearest is {MIN_OBS_SIZE}")
        self.convolutions, self.norms, channels, side, stride = [], [], COLORS, obs_size, 4
        while side > COARSEST:
            key, layer_key = jax.random.split(key)
            width = WIDTHS[bool(self.convolutions)]
            self.convolutions.append(eqx.nn.Conv2d(channels, width, 4, stride, padding="SAME", key=layer_key))
            self.norms.append(eqx.nn.LayerNorm(width))
            channels, side, stride = width, -(-side // stride), 2
        self.dense = eqx.nn.Linear(channels * side * side, size, key=key)
        self.norm = eqx.nn.LayerNorm(size)

    def __call__(self, image):
        """image: float32[S, S, 3], 0 ... 1. Returns float32[size]."""
        image = jnp.moveaxis(image, -1, 0)
        for convolution, norm in zip(self.convolutions, self.norms):
            over_channels = jax.vmap(jax.vmap(norm, in_axes=1, out_axes=1), in_axes=2, out_axes=2)
            image = jax.nn.relu(over_channels(convolution(image)))
        return jax.nn.relu(self.norm(self.dense(image.ravel())))


class Trunk(eqx.Module):
    """What both networks share: from observations and previous actions to features that remember, float32[T, size]."""

    encoder: Encoder
    actions: eqx.nn.Linear
    memory: eqx.Module
    norm: eqx.nn.LayerNorm
    memoryless: bool = eqx.field(static=True)

    def __init__(self, obs_size, rnn_type, size, num_layers, key):
        """As in QNetworkRNN."""
        encoder_key, action_key, memory_key = jax.random.split(key, 3)
        self.memoryless = checked_memory_name(rnn_type) == MEMORYLESS
        self.encoder = Encoder(obs_size, size, encoder_key)
        self.actions = eqx.nn.Linear(NUM_ACTIONS, size, use_bias=False, key=action_key)
        self.memory = make_memory(rnn_type, size, num_layers, memory_key)
        self.norm = eqx.nn.LayerNorm(size)

    def __call__(self, carry, observations, last_actions, starts):
        """Return (carry, features float32[T, size])."""
        if self.memoryless:
            last_actions = jnp.full_like(last_actions, -1)  # it would remember by what it does
        seen = jax.vmap(self.encoder)(scaled(observations))
        done = jax.vmap(self.actions)(jax.nn.one_hot(last_actions, NUM_ACTIONS))
        carry, remembered = self.memory(carry, (seen + done, starts))
        return carry, jax.vmap(self.norm)(seen + remembered)


def scaled(observations):
    """Bytes as floats, 0 ... 1; floats as they are. This is the only place where pixels are scaled."""
    return observations.astype(jnp.float32) / 255 if observations.dtype == jnp.uint8 else observations


class QNetworkRNN(eqx.Module):
    """The value of each action: float32[T, 5], in returns of the game."""

    trunk: Trunk
    head: eqx.nn.Linear

    def __init__(self, key, rnn_type="lru", obs_size=128, hidden_size=256, num_layers=2):
        """Make a network with random weights.

        key: of the weights. rnn_type: a memory's name, one of ``memory.memory_names()`` in any case. obs_size: pixels a side of an
        observation, at least 8. hidden_size: features. num_layers: of the memory.

        "none" is memoryless: it does not see the previous action either, for an agent can remember by what it does. Raises
        ValueError for an unknown memory or a size that is too small.
        """
        trunk_key, head_key = jax.random.split(key)
        self.trunk = Trunk(obs_size, rnn_type, hidden_size, num_layers, trunk_key)
        self.head = eqx.nn.Linear(hidden_size, NUM_ACTIONS, key=head_key)

    def initialize_carry(self):
        """What the memory knows before anything: a tree of arrays."""
        return self.trunk.memory.initialize_carry()

    def __call__(self, carry, observations, last_actions, starts):
        """Return (carry, action values float32[T, 5]). The arguments are described at the top of this file."""
        carry, features = self.trunk(carry, observations, last_actions, starts)
        return carry, jax.vmap(self.head)(features)


class ActorCriticRNN(eqx.Module):
    """A policy and the value of the state: (logits float32[T, 5], values float32[T])."""

    trunk: Trunk
    actor: eqx.nn.Linear
    critic: eqx.nn.Linear

    def __init__(self, key, rnn_type="lru", obs_size=128, hidden_size=256, num_layers=2):
        """The arguments and errors are those of QNetworkRNN. At first the policy is nearly uniform."""
        trunk_key, actor_key, critic_key = jax.random.split(key, 3)
        self.trunk = Trunk(obs_size, rnn_type, hidden_size, num_layers, trunk_key)
        self.actor = _damped(eqx.nn.Linear(hidden_size, NUM_ACTIONS, key=actor_key))
        self.critic = eqx.nn.Linear(hidden_size, "scalar", key=critic_key)

    def initialize_carry(self):
        """What the memory knows before anything: a tree of arrays."""
        return self.trunk.memory.initialize_carry()

    def __call__(self, carry, observations, last_actions, starts):
        """Return (carry, (logits float32[T, 5], values float32[T])). The arguments are described at the top of this file."""
        carry, features = self.trunk(carry, observations, last_actions, starts)
        return carry, (jax.vmap(self.actor)(features), jax.vmap(self.critic)(features))


def _damped(layer, factor=0.01):
    """A linear layer with small weights."""
    return eqx.tree_at(lambda linear: linear.weight, layer, layer.weight * factor)
