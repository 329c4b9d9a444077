"""Saliency: the gradient of an agent's decisions with respect to every frame it has seen.

Let y_n be the scalar target of decision n, for example the value of the chosen action, and o_k the
latest frame at decision k, with pixels in [0, 1]. The saliency of frame k for decision n is
g[n, k] = d y_n / d o_k, for k = 0 ... n. Its unit is that of y_n per full range of a pixel; its
sign is the direction of the change. Sources: Simonyan et al. (2013), "Deep Inside Convolutional
Networks", section 3, for one image; Wang et al. (2025), "POPGym Arcade", arXiv:2503.01450, for past
frames.

An episode of T frames has T (T + 1) / 2 of these maps: 4 GB for 200 frames of 128 pixels. They are
therefore not stored but computed on demand from the frames and their features, which are encoded
once. The chain rule makes this cheap: d y_n / d o_k is the encoder's vector-Jacobian product at
frame k, applied to d y_n / d (feature k). The memory's part is one backward pass over the episode,
for several decisions at a time, rematerialized in blocks of time, so only frames and features take
memory proportional to T. T is padded, so that few lengths are compiled.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from popgym_arcade import spaces
from popgym_arcade.baselines.model.builder import scaled
from popgym_arcade.introspection.episode import Network, Trajectory, environment_config, rollout

__all__ = [
    "TARGETS",
    "SaliencyMaps",
    "Target",
    "all_values",
    "chosen_value",
    "encode_frames",
    "get_saliency_maps",
    "get_terminal_saliency_maps",
    "log_probability",
    "saliency_of",
    "target_function",
    "unroll",
]

BLOCK = 32  # frames per block of time
FRAMES_AT_ONCE = 8  # frames whose maps are computed side by side; divides BLOCK
DECISIONS_AT_ONCE = 4  # decisions per backward pass; more overflow a CPU's caches and are slower

Target = Callable[[Any, jax.Array], jax.Array]
"""A scalar to differentiate: (network output of one decision, action int32[]) -> float32[]."""

# --- targets -------------------------------------------------------------------------------------


def chosen_value(output: Any, action: jax.Array) -> jax.Array:
    """The value of the chosen action, in returns; the state value for a network with a policy."""
    return output[1] if isinstance(output, tuple) else output[action]


def all_values(output: Any, action: jax.Array) -> jax.Array:
    """The sum of squared action values; the squared state value for a network with a policy."""
    return jnp.sum(jnp.square(output[1] if isinstance(output, tuple) else output))


def log_probability(output: Any, action: jax.Array) -> jax.Array:
    """The log-probability of the chosen action. Raises ValueError without a policy."""
    if not isinstance(output, tuple):
        raise ValueError(
            "log_probability needs a policy, but this network has action values only; "
            "use chosen_value"
        )
    return jax.nn.log_softmax(output[0])[action]


TARGETS: dict[str, Target] = {
    function.__name__: function for function in (chosen_value, all_values, log_probability)
}
"""The built-in targets by name."""


def target_function(target: str | Target | None) -> Target:
    """Resolve a target to its function.

    target: a name in TARGETS, a function (output of one decision, action) -> float32[], or None for
    "chosen_value". Raises ValueError for an unknown name.
    """
    if callable(target):
        return target
    name = chosen_value.__name__ if target is None else target
    spaces.check_name("target", name, TARGETS, "; or pass a function")
    return TARGETS[name]


# --- maps ----------------------------------------------------------------------------------------


def _ignore_progress(done: int, total: int) -> None:
    """A progress callback that does nothing."""


class SaliencyMaps(Sequence[np.ndarray]):
    """The saliency of T decisions, a sequence of arrays.

    ``maps[n]`` is float32[n + 1, S, S, 3], the gradient of decision n with respect to frames
    0 ... n. Maps are computed on access, by programs that are compiled once.
    """

    network: Network
    target: Target
    episode: Trajectory | None  # where the frames come from, if known
    frames: np.ndarray  # as given
    padded_frames: np.ndarray  # the same, padded to whole blocks
    features: jax.Array  # [padded T, ...], from ``encode_frames``
    carry: Any  # the network's before the first frame
    sequence: tuple[np.ndarray, np.ndarray, np.ndarray]  # (last_actions, starts, actions), padded

    def __init__(
        self,
        network: Network,
        frames: ArrayLike,
        last_actions: ArrayLike,
        starts: ArrayLike,
        actions: ArrayLike,
        target: str | Target | None = None,
        carry: Any = None,
        episode: Trajectory | None = None,
    ) -> None:
        """Encode the frames.

        network: as in ``baselines.model.builder``, or any callable with that signature. frames:
        uint8[T, S, S, 3], or floats in [0, 1]. last_actions: int32[T]. starts: bool[T]; nothing
        before a start affects what follows it. actions: int32[T], the decisions. target: as in
        ``target_function``. carry: the network's carry before the first frame; its initial carry by
        default. episode: the Trajectory that the arrays come from, kept as an attribute. Raises
        ValueError for no frames and for arrays of different lengths.
        """
        self.frames = np.asarray(frames)
        sequence = tuple(np.asarray(leaf) for leaf in (last_actions, starts, actions))
        _check_lengths(self.frames, *sequence)
        self.network, self.target, self.episode = network, target_function(target), episode
        self.carry = network.initialize_carry() if carry is None else carry
        self.padded_frames = _padded(self.frames, BLOCK)
        length = _padded_length(len(self.frames))
        features = _encode_in_blocks(network, self.padded_frames)
        self.features = jnp.asarray(_padded(features, length))
        last_actions, starts, actions = (_padded(leaf, length) for leaf in sequence)
        self.sequence = (last_actions, starts, actions)

    def __len__(self) -> int:
        """The number of decisions."""
        return len(self.frames)

    @overload
    def __getitem__(self, n: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, n: slice) -> list[np.ndarray]: ...

    def __getitem__(self, n: int | slice) -> np.ndarray | list[np.ndarray]:
        """The maps of decision n, float32[n + 1, S, S, 3]; a list of them for a slice.

        Negative n count from the end. Raises IndexError for an n out of range.
        """
        if isinstance(n, slice):
            return [self[i] for i in range(len(self))[n]]
        n = range(len(self))[n]
        return self._gradient(np.arange(len(self.features)) == n, n + 1)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All maps: float32[T, T, S, S, 3], 12 T^2 S^2 bytes. Zero for frames not yet seen."""
        dense = np.zeros((len(self), *self.frames.shape), dtype or np.float32)
        for n, maps in enumerate(self):
            dense[n, : n + 1] = maps
        return dense

    def sum(self) -> np.ndarray:
        """The maps summed over decisions: float32[T, S, S, 3].

        This is the effect of each frame on all decisions from it on.
        """
        return self._gradient(np.arange(len(self.features)) < len(self), len(self))

    def targets(self) -> np.ndarray:
        """The values of the target, y_n: float32[T]."""
        targets = _targets(self.network, self.target, self.carry, self.sequence, self.features)
        return np.asarray(targets)[: len(self)]

    def pooled(
        self,
        side: int,
        decisions: Sequence[int] | np.ndarray | None = None,
        report: Callable[[int, int], None] = _ignore_progress,
    ) -> np.ndarray:
        """Downsampled magnitudes of the maps: float32[decisions, T, side, side].

        Absolute values are summed over colors and over squares of S / side pixels, so the total is
        preserved. Zero for frames not yet seen. side: a divisor of S; 1 gives one number per map.
        decisions: their numbers; all by default. report: a progress callback, called with
        (decisions done, decisions in total). Raises ValueError if side does not divide S.
        """
        size = self.frames.shape[1]
        spaces.check_choice("side", side, [n for n in range(1, size + 1) if size % n == 0])
        rows = np.arange(len(self))
        rows = rows if decisions is None else rows[np.asarray(decisions, int)]
        result = np.zeros((len(rows), len(self.padded_frames), side, side), np.float32)
        for first in range(0, len(rows), DECISIONS_AT_ONCE):
            some = rows[first : first + DECISIONS_AT_ONCE]
            weights = np.arange(len(self.features)) == np.resize(some, DECISIONS_AT_ONCE)[:, None]
            for frames, maps in self._gradients(weights, some.max() + 1, side):
                result[first : first + len(some), frames] = maps[: len(some)]
            report(first + len(some), len(rows))
        return result[:, : len(self)]

    def magnitudes(
        self,
        decisions: Sequence[int] | np.ndarray | None = None,
        report: Callable[[int, int], None] = _ignore_progress,
    ) -> np.ndarray:
        """The L1 norm of each map over pixels and colors: float32[decisions, T].

        The arguments are those of ``pooled``.
        """
        return self.pooled(1, decisions, report)[..., 0, 0]

    def _gradient(self, weights, count):
        """The gradient of a weighted sum of targets with respect to the first ``count`` frames.

        weights: [T]. Returns float32[count, S, S, 3].
        """
        result = np.zeros(
            (len(self.padded_frames[:count]) + FRAMES_AT_ONCE, *self.frames.shape[1:]), np.float32
        )
        for frames, maps in self._gradients(weights[None], count):
            result[frames] = maps[0]
        return result[:count]

    def _gradients(self, weights, count, side=None) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the gradients of D weighted sums of targets, FRAMES_AT_ONCE frames at a time.

        weights: [D, T]. count: the first frames, after which to stop. Yields (slice of frames,
        float32[D, FRAMES_AT_ONCE, S, S, 3]), downsampled as in ``pooled`` if side is given.
        """
        weights = jnp.asarray(weights, jnp.float32)
        gradients = _feature_gradients(
            self.network, self.target, self.carry, self.sequence, self.features, weights
        )
        for first in range(0, count, FRAMES_AT_ONCE):
            part = slice(first, first + FRAMES_AT_ONCE)
            maps = _frame_gradients(
                self.network, self.padded_frames[part], gradients[:, part], side
            )
            yield part, np.asarray(maps)


def get_saliency_maps(
    key: jax.Array,
    model: Network,
    config: Mapping[str, Any],
    max_steps: int | None = None,
    initial_state_and_obs: tuple[Any, ArrayLike] | None = None,
    *,
    target: str | Target | None = None,
    sample: bool = False,
) -> tuple[SaliencyMaps, np.ndarray, np.ndarray]:
    """Play an episode and compute the saliency of its frames: (maps, frames, sum).

    key: a PRNG key. model: a network of ``baselines.model.builder``. config: a dict with ENV_NAME,
    PARTIAL and OBS_SIZE; other keys are ignored. max_steps: the maximum number of decisions; None
    plays to the end. initial_state_and_obs: (State, observation) to start from. target: what to
    differentiate: "chosen_value" (the default), "all_values", "log_probability", or a function
    (output, action) -> scalar. sample: sample actions from the policy instead of taking the
    greedy one.

    Returns SaliencyMaps, of which maps[n] is float32[n + 1, S, S, 3], n = 0 ... T - 1; the frames
    uint8[T, S, S, 3]; and the maps summed over decisions, float32[T, S, S, 3]. ``maps.episode``
    holds the actions, rewards and values. Raises what ``episode.rollout`` and ``target_function``
    raise.
    """
    maps = _rollout_maps(key, model, config, max_steps, initial_state_and_obs, target, sample)
    return maps, maps.frames, maps.sum()


def get_terminal_saliency_maps(
    key: jax.Array,
    model: Network,
    config: Mapping[str, Any],
    max_steps: int | None = None,
    initial_state_and_obs: tuple[Any, ArrayLike] | None = None,
    *,
    target: str | Target | None = None,
    sample: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Play an episode and compute the saliency of its last decision: (maps, frames, sum).

    The arguments are those of ``get_saliency_maps``. Returns the maps float32[T, S, S, 3], the
    frames uint8[T, S, S, 3], and the sum over this single decision, which equals the maps.
    """
    maps = _rollout_maps(key, model, config, max_steps, initial_state_and_obs, target, sample)
    last = maps[-1]
    return last, maps.frames, last.copy()


def _rollout_maps(key, model, config, max_steps, initial_state_and_obs, target, sample):
    """Play an episode: its SaliencyMaps. The arguments are those of ``get_saliency_maps``."""
    target = target_function(target)
    environment = environment_config(config)
    played = rollout(key, model, environment, max_steps, initial_state_and_obs, sample)
    return saliency_of(model, played, target)


def saliency_of(
    network: Network, trajectory: Trajectory, target: str | Target | None = None
) -> SaliencyMaps:
    """The SaliencyMaps of a Trajectory that the network has played."""
    return SaliencyMaps(
        network,
        trajectory.frames,
        trajectory.last_actions,
        trajectory.starts,
        trajectory.actions,
        target=target,
        episode=trajectory,
    )


def encode_frames(network: Network, frames: jax.Array) -> jax.Array:
    """The features of frames in [0, 1]: float32[T, ...].

    They are the frames themselves for a network without ``encode``.
    """
    encode = getattr(network, "encode", None)
    return frames if encode is None else encode(frames)


def unroll(
    network: Network,
    carry: Any,
    features: jax.Array,
    last_actions: jax.Array,
    starts: jax.Array,
) -> Any:
    """Unroll a network over a sequence of features: its outputs, with a leading axis [T].

    T: a multiple of BLOCK. Each block is rematerialized in the backward pass, so only the carry
    before it is stored.
    """
    decide = getattr(network, "decide", network)
    blocks = jax.tree.map(
        lambda leaf: leaf.reshape(-1, BLOCK, *leaf.shape[1:]), (features, last_actions, starts)
    )
    _, outputs = jax.lax.scan(
        jax.checkpoint(lambda carry, block: decide(carry, *block)), carry, blocks
    )
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), outputs)


def _encode_in_blocks(network, frames):
    """The features of T frames, a multiple of BLOCK: [T, ...]."""
    blocks = [
        _encoded_block(network, frames[first : first + BLOCK])
        for first in range(0, len(frames), BLOCK)
    ]
    return np.concatenate(jax.tree.map(np.asarray, blocks))


def _padded(array, multiple):
    """Pad the first axis to a multiple by repeating the last element."""
    return np.concatenate([array, np.repeat(array[-1:], -len(array) % multiple, axis=0)])


def _padded_length(length):
    """Round a length up to BLOCK times a power of two: 5 -> 32, 200 -> 256.

    So only a few lengths are compiled.
    """
    return BLOCK << max(0, -(-length // BLOCK) - 1).bit_length()


def _pool(images, side):
    """Sum magnitudes over colors and squares: [..., S, S, 3] -> float32[..., side, side]."""
    *before, height, width, colors = images.shape
    return (
        jnp.abs(images)
        .reshape(*before, side, height // side, side, width // side, colors)
        .sum((-1, -2, -4))
    )


def _check_lengths(frames, last_actions, starts, actions):
    """Raise ValueError unless all arrays have the same length, at least 1."""
    arrays = {
        "frames": frames,
        "last_actions": last_actions,
        "starts": starts,
        "actions": actions,
    }
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1 or not lengths["frames"]:
        raise ValueError(
            "a sequence needs at least one frame and all arrays must have the same length, "
            f"but the lengths are {lengths}"
        )


# --- compiled programs ---------------------------------------------------------------------------

# Frames are encoded, and gradients propagated through the encoder, outside of any JAX loop: inside
# one, XLA's convolutions are several times slower on a CPU (jax-ml/jax#12868).
#
# No gradient is a ``vmap`` over cotangents of the same derivatives: on a CPU, XLA of jaxlib 0.10.2
# fuses the gradient of a normalization so that all but the first of them are wrong. Decisions
# therefore run one after the other, or get copies of the frames.


@eqx.filter_jit
def _encoded_block(network, frames):
    """The features of BLOCK frames."""
    return encode_frames(network, scaled(frames))


@eqx.filter_jit
def _targets(network, target, carry, sequence, features):
    """The target at each decision: float32[T].

    sequence: (last actions, starts, actions), each [T].
    """
    last_actions, starts, actions = sequence
    return jax.vmap(target)(unroll(network, carry, features, last_actions, starts), actions)


@eqx.filter_jit
def _feature_gradients(network, target, carry, sequence, features, weights):
    """The gradients of D weighted sums of targets with respect to the features: [D, T, ...].

    weights: float32[D, T].
    """
    _, backward = jax.vjp(
        lambda features: _targets(network, target, carry, sequence, features), features
    )
    return jax.lax.map(lambda weights: backward(weights)[0], weights)


@eqx.filter_jit
def _frame_gradients(network, frames, gradients, side):
    """Propagate feature gradients to scaled frames: float32[D, frames, S, S, 3].

    side: downsample the maps as in ``SaliencyMaps.pooled``, or None.
    """
    decisions, count = gradients.shape[:2]
    copies = jnp.tile(scaled(frames), (decisions, 1, 1, 1))
    _, backward = jax.vjp(lambda images: encode_frames(network, images), copies)
    maps = backward(gradients.reshape(-1, *gradients.shape[2:]))[0].reshape(
        decisions, count, *frames.shape[1:]
    )
    return maps if side is None else _pool(maps, side)
