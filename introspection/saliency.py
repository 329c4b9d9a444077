"""Saliency: the gradient of what an agent decides with respect to every frame that it has seen.

Let y_n be what decision n is judged by, for example the value of the chosen action, and o_k the
frame that decision k saw last, with pixels 0 ... 1. The saliency of frame k for decision n is g[n,
k] = d y_n / d o_k, for k = 0 ... n. It has the unit of y_n for a pixel that changes over its full
range; its sign tells in which direction. Source: Simonyan et al. (2013), "Deep Inside Convolutional
Networks", section 3, for one image; Wang et al. (2025), "POPGym Arcade", arXiv:2503.01450, over the
past frames.

An episode of T frames has T (T + 1) / 2 of these maps, which at 200 frames of 128 pixels are 4 GB.
So they are not kept but computed when they are asked for, from what is small: the frames and their
features, which are encoded once. The chain rule makes it cheap: d y_n / d o_k is the encoder's own
gradient at frame k, applied to d y_n / d (feature k). The memory's part is one backward pass over
the episode, for many decisions at a time, in blocks of time which are computed anew on the way
back. So memory does not grow with T but for frames and features, and T is rounded up, so that few
lengths are compiled.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade.baselines.model.builder import scaled
from popgym_arcade.introspection import episode
from popgym_arcade.spaces import nearest_names

BLOCK = 32  # frames of a block of time
FRAMES_AT_ONCE = 8  # frames whose maps are computed side by side; divides BLOCK
DECISIONS_AT_ONCE = 4  # decisions that share a backward pass; more of them are slower on a CPU, whose caches they overflow

# --- what is differentiated ----------------------------------------------------------------------


def chosen_value(output, action):
    """The value of the chosen action, in returns of the game; of a network with a policy, which has
    none, the state's value."""
    return output[1] if isinstance(output, tuple) else output[action]


def all_values(output, action):
    """The sum over all actions of their squared values; of a network with a policy the state's
    value, squared."""
    return jnp.sum(jnp.square(output[1] if isinstance(output, tuple) else output))


def log_probability(output, action):
    """The logarithm of the probability of the chosen action. Raises ValueError for a network
    without a policy."""
    if not isinstance(output, tuple):
        raise ValueError(
            "log_probability needs a policy, but this network has action values; the nearest is chosen_value"
        )
    return jax.nn.log_softmax(output[0])[action]


TARGETS = {function.__name__: function for function in (chosen_value, all_values, log_probability)}
"""What can be differentiated, by name."""


def target_function(target):
    """A target as a function (output of one decision, action) -> float32[].

    target: a name in TARGETS, such a function, or None for "chosen_value". Raises ValueError for an
    unknown name.
    """
    if callable(target):
        return target
    target = chosen_value.__name__ if target is None else target
    if target not in TARGETS:
        raise ValueError(
            f"there is no target {target!r}; {nearest_names(target, TARGETS)}; or give a function"
        )
    return TARGETS[target]


# --- the maps ------------------------------------------------------------------------------------


class SaliencyMaps(Sequence):
    """The saliency of T decisions: ``maps[n]`` is float32[n + 1, S, S, 3], the gradient with
    respect to frames 0 ... n.

    Each is computed when it is asked for, by programs that are compiled once. ``frames`` are the
    frames as they were given. ``episode`` is the Episode, if they come from one.
    """

    def __init__(
        self, network, frames, last_actions, starts, actions, target=None, carry=None, episode=None
    ):
        """Encode the frames.

        network: as in ``baselines.model.builder``, or any callable with this signature. frames:
        uint8[T, S, S, 3], or floats that are scaled already. last_actions: int32[T]. starts:
        bool[T]; nothing before a start has an effect after it. actions: int32[T], the decisions.
        target: as in ``target_function``. carry: what the network knows before; the initial one by
        default. Raises ValueError for no frames and for arrays of different lengths.
        """
        _check_lengths(frames=frames, last_actions=last_actions, starts=starts, actions=actions)
        self.network, self.frames, self.episode, self.target = (
            network,
            np.asarray(frames),
            episode,
            target_function(target),
        )
        self.carry = network.initialize_carry() if carry is None else carry
        self.padded_frames = padded(self.frames, BLOCK)
        length = padded_length(len(self.frames))
        self.features = jnp.asarray(padded(encoded(network, self.padded_frames), length))
        self.sequence = tuple(
            padded(np.asarray(leaf), length) for leaf in (last_actions, starts, actions)
        )

    def __len__(self):
        """How many decisions there are."""
        return len(self.frames)

    def __getitem__(self, n):
        """The maps of decision n, float32[n + 1, S, S, 3]; a negative n counts from the end. Raises
        IndexError beyond it."""
        n = range(len(self))[n]
        return self._combined(np.arange(len(self.features)) == n, n + 1)

    def __array__(self, dtype=None, copy=None):
        """All maps: float32[T, T, S, S, 3], zero where a frame was not yet seen. They take 4 T^2
        S^2 3 bytes."""
        dense = np.zeros((len(self), *self.frames.shape), dtype or np.float32)
        for n, maps in enumerate(self):
            dense[n, : n + 1] = maps
        return dense

    def sum(self):
        """The maps summed over decisions: float32[T, S, S, 3], how each frame acts on all that is
        decided from it on."""
        return self._combined(np.arange(len(self.features)) < len(self), len(self))

    def targets(self):
        """What was differentiated, y_n: float32[T]."""
        return np.asarray(
            _targets(self.network, self.target, self.carry, self.sequence, self.features)
        )[: len(self)]

    def pooled(self, side, decisions=None, report=lambda done, total: None):
        """The sizes of the maps, shrunk: float32[decisions, T, side, side].

        Absolute values are summed over the colours and over squares of S / side pixels, so that
        nothing is lost from their sum. Zero where a frame was not yet seen. side: divides S; 1
        gives one number for each map. decisions: which ones, a sequence of ints; all by default.
        report: is told how many decisions of how many are done. Raises ValueError for another side.
        """
        size = self.frames.shape[1]
        if not 1 <= side <= size or size % side:
            raise ValueError(
                f"side must divide the frames' {size} pixels, but it is {side}; the nearest is {_divisor(size, side)}"
            )
        decisions = np.arange(len(self))[
            slice(None) if decisions is None else np.asarray(decisions, int)
        ]
        result = np.zeros((len(decisions), len(self.padded_frames), side, side), np.float32)
        for first in range(0, len(decisions), DECISIONS_AT_ONCE):
            some = decisions[first : first + DECISIONS_AT_ONCE]
            weights = np.arange(len(self.features)) == np.resize(some, DECISIONS_AT_ONCE)[:, None]
            for frames, maps in self._parts(weights, some.max() + 1, side):
                result[first : first + len(some), frames] = maps[: len(some)]
            report(first + len(some), len(decisions))
        return result[:, : len(self)]

    def magnitudes(self, decisions=None, report=lambda done, total: None):
        """The L1 norm of each map, its absolute values summed over pixels and colours:
        float32[decisions, T], as in ``pooled``."""
        return self.pooled(1, decisions, report)[..., 0, 0]

    def _combined(self, weights, count):
        """The gradient of a weighted sum of targets with respect to the first ``count`` frames:
        float32[count, S, S, 3]."""
        result = np.zeros(
            (len(self.padded_frames[:count]) + FRAMES_AT_ONCE, *self.frames.shape[1:]), np.float32
        )
        for frames, maps in self._parts(weights[None], count):
            result[frames] = maps[0]
        return result[:count]

    def _parts(self, weights, count, side=None):
        """The gradients of D weighted sums of targets, some frames at a time, until the first
        ``count`` frames are done.

        weights: [D, T]. Yields (slice of frames, float32[D, FRAMES_AT_ONCE, S, S, 3]), or as in
        ``pool`` where side is given.
        """
        weights = jnp.asarray(weights, jnp.float32)
        gradients = _feature_gradients(
            self.network, self.target, self.carry, self.sequence, self.features, weights
        )
        for first in range(0, count, FRAMES_AT_ONCE):
            part = slice(first, first + FRAMES_AT_ONCE)
            yield (
                part,
                np.asarray(
                    _frame_gradients(
                        self.network, self.padded_frames[part], gradients[:, part], side
                    )
                ),
            )


def get_saliency_maps(
    key, model, config, max_steps=None, initial_state_and_obs=None, *, target=None, sample=False
):
    """Play an episode and look which of its pixels matter to each decision: (maps, frames, sum).

    key: a PRNG key. model: a network of ``baselines.model.builder``. config: a dict with ENV_NAME,
    PARTIAL and OBS_SIZE; other keys do nothing here. max_steps: the most decisions; None plays to
    the end. initial_state_and_obs: (State, observation) to begin with. target: what is
    differentiated, "chosen_value", "all_values", "log_probability", or a function (output, action)
    -> scalar. sample: draw a policy's actions instead of taking the likeliest.

    Returns SaliencyMaps, of which maps[n] is float32[n + 1, S, S, 3], n = 0 ... T - 1; the frames
    uint8[T, S, S, 3]; and the sum of all decisions' maps, float32[T, S, S, 3]. ``maps.episode`` has
    the actions, rewards and values. Raises what ``episode.play`` and ``target_function`` raise.
    """
    target = target_function(target)
    played = episode.play(
        key, model, episode.setting_of(config), max_steps, initial_state_and_obs, sample
    )
    maps = maps_of_episode(model, played, target)
    return maps, played.frames, maps.sum()


def get_terminal_saliency_maps(
    key, model, config, max_steps=None, initial_state_and_obs=None, *, target=None, sample=False
):
    """The same for the last decision of the episode only: (maps float32[T, S, S, 3], frames
    uint8[T, S, S, 3], sum).

    The sum is over the one decision, so it equals the maps. The arguments are those of
    ``get_saliency_maps``.
    """
    target = target_function(target)
    played = episode.play(
        key, model, episode.setting_of(config), max_steps, initial_state_and_obs, sample
    )
    maps = maps_of_episode(model, played, target)[-1]
    return maps, played.frames, maps.copy()


def maps_of_episode(network, played, target=None):
    """The SaliencyMaps of an Episode that a network has played."""
    return SaliencyMaps(network, *played[:4], target=target, episode=played)


def encode(network, frames):
    """Features of scaled frames: float32[T, ...]. They are the frames themselves for a network that
    has no ``encode``."""
    return network.encode(frames) if hasattr(network, "encode") else frames


def decide(network, carry, features, last_actions, starts):
    """What a network says on features: (carry, its outputs with a leading axis [T])."""
    return (network.decide if hasattr(network, "encode") else network)(
        carry, features, last_actions, starts
    )


def padded(array, multiple):
    """An array whose first axis is rounded up to a multiple by repeating its last element."""
    return np.concatenate([array, np.repeat(array[-1:], -len(array) % multiple, axis=0)])


def padded_length(length):
    """A sequence's length rounded up to a power of two of blocks: 5 -> 32, 200 -> 256. So few
    lengths are compiled."""
    return BLOCK << max(0, -(-length // BLOCK) - 1).bit_length()


def encoded(network, frames):
    """The features of T frames, a multiple of BLOCK: [T, ...]."""
    blocks = [
        _encoded_block(network, frames[first : first + BLOCK])
        for first in range(0, len(frames), BLOCK)
    ]
    return np.concatenate(jax.tree.map(np.asarray, blocks))


def read(network, carry, features, last_actions, starts):
    """What a network says on a sequence, in blocks of time: its outputs, with a leading axis [T], a
    multiple of BLOCK.

    Reading in blocks changes nothing but the memory that a backward pass takes: of each block only
    the carry before it is kept.
    """
    blocks = jax.tree.map(
        lambda leaf: leaf.reshape(-1, BLOCK, *leaf.shape[1:]), (features, last_actions, starts)
    )
    _, outputs = jax.lax.scan(
        jax.checkpoint(lambda carry, block: decide(network, carry, *block)), carry, blocks
    )
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), outputs)


def pool(images, side):
    """Absolute values summed over colours and squares: float32[..., S, S, 3] -> float32[..., side,
    side]."""
    *before, height, width, colors = images.shape
    return (
        jnp.abs(images)
        .reshape(*before, side, height // side, side, width // side, colors)
        .sum((-1, -2, -4))
    )


def _check_lengths(**arrays):
    """Raise ValueError unless all arrays have one length, at least 1."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1 or not lengths["frames"]:
        raise ValueError(
            f"a sequence needs at least one frame and as much of all else, but the lengths are {lengths}"
        )


def _divisor(size, side):
    """The divisor of size that is nearest to side."""
    return min(
        (divisor for divisor in range(1, size + 1) if size % divisor == 0),
        key=lambda divisor: abs(divisor - side),
    )


# --- the programs --------------------------------------------------------------------------------

# Frames are encoded, and gradients taken back through the encoder, outside of any loop of jax:
# inside of one, XLA computes convolutions several times more slowly on a CPU (jax-ml/jax#12868).
#
# No gradient is a ``vmap`` over what is multiplied with the same derivatives: on a CPU, XLA of
# jaxlib 0.10.2 fuses the gradient of a normalisation so that all but the first of them are wrong.
# So decisions take turns, or have copies of the frames.


@eqx.filter_jit
def _encoded_block(network, frames):
    """The features of BLOCK frames."""
    return encode(network, scaled(frames))


@eqx.filter_jit
def _targets(network, target, carry, sequence, features):
    """What is differentiated at each decision: float32[T]. sequence: (last actions, starts,
    actions), each [T]."""
    last_actions, starts, actions = sequence
    return jax.vmap(target)(read(network, carry, features, last_actions, starts), actions)


@eqx.filter_jit
def _feature_gradients(network, target, carry, sequence, features, weights):
    """The gradients of weighted sums of targets with respect to the features: [D, T, ...] of
    weights float32[D, T]."""
    _, backward = jax.vjp(
        lambda features: _targets(network, target, carry, sequence, features), features
    )
    return jax.lax.map(lambda weights: backward(weights)[0], weights)


@eqx.filter_jit
def _frame_gradients(network, frames, gradients, side):
    """The gradients with respect to some scaled frames, float32[D, frames, S, S, 3], of those of
    their features; or pooled."""
    decisions, count = gradients.shape[:2]
    copies = jnp.tile(scaled(frames), (decisions, 1, 1, 1))
    _, backward = jax.vjp(lambda images: encode(network, images), copies)
    maps = backward(gradients.reshape(-1, *gradients.shape[2:]))[0].reshape(
        decisions, count, *frames.shape[1:]
    )
    return maps if side is None else pool(maps, side)
