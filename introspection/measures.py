"""Measures of an agent's memory: what it is worth, how far back it reaches, what disturbs it.

J is an agent's mean return. All J and their differences have the unit of the game's returns, which
lie in [0, 1], or in [-1, 1] for games with penalties. Source of the measures: Wang et al. (2025),
"Investigating Memory in Model-Free RL with POPGym Arcade", arXiv:2503.01450. Where the paper leaves
a choice, the docstring says which one is made.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, overload

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from popgym_arcade import spaces
from popgym_arcade.baselines.model.builder import scaled
from popgym_arcade.baselines.statistics import CONFIDENCE, RESAMPLES, interval
from popgym_arcade.introspection.saliency import SaliencyMaps, encode_frames, unroll

__all__ = [
    "SIGMA_RANGE",
    "Contamination",
    "Estimate",
    "RecallDensity",
    "ReturnDifference",
    "Returns",
    "contamination",
    "decisions_of",
    "difference",
    "estimate",
    "memory_bias",
    "observability_gap",
    "recall_density",
    "returns_of",
    "shuffled_past",
]

SIGMA_RANGE: tuple[float, float] = (1e-6, 1.0)
"""Allowed standard deviations of noise on pixels in [0, 1]; less is lost in float32."""


class Estimate(NamedTuple):
    """A mean with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]  # independent samples


def estimate(values: Sequence[float] | np.ndarray) -> Estimate:
    """The Estimate of the mean of independent samples, float[n]. Raises ValueError for none."""
    low, high = interval(values)
    return Estimate(float(np.mean(values)), low, high, len(values))


# --- what memory is worth ------------------------------------------------------------------------


class Returns(NamedTuple):
    """The returns of several seeds, each float64[seeds], in returns of the game.

    Comparisons depend on which of the three is meant.
    """

    mean: np.ndarray  # over all evaluations during training: reflects speed and quality of learning
    final: np.ndarray  # at the last evaluation
    best: np.ndarray  # at the best evaluation: a maximum over noise, so it favors noisy curves


class ReturnDifference(NamedTuple):
    """The differences between the Returns of two groups of agents."""

    mean: Estimate
    final: Estimate
    best: Estimate


def returns_of(curves: ArrayLike | Sequence[Any]) -> Returns:
    """The Returns of learning curves.

    curves: float[seeds, evaluations], the mean return at each evaluation, in training order. Raises
    ValueError for another shape, for an empty array, and for values that are not finite.
    """
    curves = np.asarray(curves, np.float64)
    if curves.ndim != 2 or not curves.size:
        raise ValueError(
            "curves must be float[seeds, evaluations] with at least one of each, "
            f"but their shape is {curves.shape}"
        )
    if not np.isfinite(curves).all():
        raise ValueError(
            f"returns must be finite, but {np.sum(~np.isfinite(curves))} of {curves.size} are not"
        )
    return Returns(curves.mean(axis=1), curves[:, -1], curves.max(axis=1))


@overload
def observability_gap(mdp: Returns, pomdp: Returns, paired: bool = False) -> ReturnDifference: ...


@overload
def observability_gap(
    mdp: Sequence[float] | np.ndarray, pomdp: Sequence[float] | np.ndarray, paired: bool = False
) -> Estimate: ...


def observability_gap(mdp: Any, pomdp: Any, paired: bool = False) -> ReturnDifference | Estimate:
    """The return lost to partial observability: J(memory, MDP) - J(memory, POMDP).

    0: the memory makes up for everything hidden. Negative values come from noise, or from an MDP
    view that shows more than helps. Each agent plays the twin it was trained on. Arguments and
    result are those of ``difference``.
    """
    return difference(mdp, pomdp, paired)


@overload
def memory_bias(mdp: Returns, memoryless: Returns, paired: bool = False) -> ReturnDifference: ...


@overload
def memory_bias(
    mdp: Sequence[float] | np.ndarray,
    memoryless: Sequence[float] | np.ndarray,
    paired: bool = False,
) -> Estimate: ...


def memory_bias(mdp: Any, memoryless: Any, paired: bool = False) -> ReturnDifference | Estimate:
    """The effect of a memory where none is needed: J(memory, MDP) - J(memoryless, MDP), in returns.

    MDP frames are fully observable, so any difference is a side effect of the memory: more weights,
    a different optimization problem. Returns on a POMDP compare how well two memories remember only
    if both biases are near 0. Arguments and result are those of ``difference``.
    """
    return difference(mdp, memoryless, paired)


@overload
def difference(first: Returns, second: Returns, paired: bool = False) -> ReturnDifference: ...


@overload
def difference(
    first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray, paired: bool = False
) -> Estimate: ...


def difference(first: Any, second: Any, paired: bool = False) -> ReturnDifference | Estimate:
    """The difference of two means: an Estimate, or a ReturnDifference if both are Returns.

    first, second: Returns, or independent samples float[n] and float[m], such as the results of
    seeds or the returns of episodes. paired: first[i] and second[i] belong together, such as two
    agents' returns in the same episode, and n = m. For pairs the interval is that of
    ``statistics.interval``; otherwise it is the percentile bootstrap with each side resampled
    independently: Efron and Tibshirani (1993), "An Introduction to the Bootstrap", section 8.3.
    Raises ValueError for an empty side, and for pairs of different lengths.
    """
    if isinstance(first, Returns) and isinstance(second, Returns):
        return ReturnDifference(
            *(_difference_of_means(*sides, paired) for sides in zip(first, second))
        )
    return _difference_of_means(first, second, paired)


def _difference_of_means(first, second, paired) -> Estimate:
    """The difference of the means of two samples."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if not first.size or not second.size:
        raise ValueError(
            f"a difference needs values on both sides, but there are {first.size} and {second.size}"
        )
    if not paired:
        low, high = _interval_of_difference(first, second)
        value = float(first.mean() - second.mean())
        return Estimate(value, low, high, min(first.size, second.size))
    if first.shape != second.shape:
        raise ValueError(
            "pairs need equally many values on both sides, "
            f"but there are {first.size} and {second.size}"
        )
    return estimate(first - second)


def _interval_of_difference(first, second):
    """The percentile bootstrap interval of mean(first) - mean(second): (low, high)."""
    rng = np.random.default_rng(0)
    means = [rng.choice(side, (RESAMPLES, side.size)).mean(axis=1) for side in (first, second)]
    low, high = np.quantile(means[0] - means[1], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


# --- how far back it reaches ---------------------------------------------------------------------


class RecallDensity(NamedTuple):
    """How the gradient of decisions is distributed over their past, in relative time."""

    edges: np.ndarray  # float64[bins + 1] in [0, 1]: bin i holds edges[i] < tau <= edges[i + 1]
    density: np.ndarray  # float64[bins]: its mean over the bins is 1
    low: np.ndarray  # float64[bins]: of the interval over episodes
    high: np.ndarray  # float64[bins]
    even: np.ndarray  # float64[bins]: the density if all frames had equal weight in these decisions
    past: Estimate  # the share of all frames before the decision's own (tau < 1), in [0, 1]


def recall_density(
    episodes: Iterable[Iterable[Sequence[float] | np.ndarray]], bins: int = 20
) -> RecallDensity:
    """The distribution of a decision's gradient over relative time.

    Decision n of an episode (n = 1, 2, ...) has seen frames t = 1 ... n. With m(n, t) the L1 norm
    of the gradient with respect to frame t, the frame's weight is w(n, t) = m(n, t) / sum over t of
    m(n, t), at tau = t / n. The decision's own frame is thus at tau = 1, and time is relative to
    the decision's own past, however long the episode is. The density of a bin is its weight over
    its width, averaged over the decisions of an episode, then over episodes. No unit; equal weights
    over a long past give 1 everywhere.

    episodes: per episode, per decision, the norms m, float[n], earliest first; their number is the
    decision's n. ``decisions_of`` makes them from ``SaliencyMaps.magnitudes``. bins: of tau, at
    least 1. Decisions with zero gradient are skipped. Frames are points in time, not intervals, so
    a short past fills some bins and not others: compare with ``even``, not with 1. Raises
    ValueError for bins below 1, for negative norms, and if no decision has a gradient.
    """
    spaces.check_range("bins", bins, 1)
    weights = [
        [_shares(norms) for norms in decisions if np.sum(norms) > 0] for decisions in episodes
    ]
    weights = [decisions for decisions in weights if decisions]
    if not weights:
        raise ValueError(
            "no decision has a nonzero gradient with respect to any frame, "
            "so the recall density is undefined"
        )
    equal = [[np.full(len(shares), 1 / len(shares)) for shares in one] for one in weights]
    densities, even = _densities(weights, bins), _densities(equal, bins)
    low, high = np.transpose([interval(column) for column in densities.T])
    return RecallDensity(
        edges=np.linspace(0, 1, bins + 1),
        density=densities.mean(axis=0),
        low=low,
        high=high,
        even=even.mean(axis=0),
        past=estimate(
            [float(np.mean([shares[:-1].sum() for shares in decisions])) for decisions in weights]
        ),
    )


def decisions_of(magnitudes: np.ndarray, decisions: Iterable[int] | None = None) -> list[Any]:
    """The norms of each decision over the frames it has seen: a list of float[n + 1].

    magnitudes: float[D, T], from ``SaliencyMaps.magnitudes``. decisions: the numbers n of its rows,
    from 0; 0 ... D - 1 by default.
    """
    numbers = range(len(magnitudes)) if decisions is None else decisions
    return [row[: n + 1] for n, row in zip(numbers, magnitudes)]


def _shares(norms):
    """Norms divided by their sum. Raises ValueError for negative ones."""
    norms = np.asarray(norms, np.float64)
    if (norms < 0).any():
        raise ValueError(f"norms cannot be negative, but one is {norms.min()}")
    return norms / norms.sum()


def _densities(weights, bins):
    """The density of each episode: float64[episodes, bins].

    weights: per episode and decision, float64[n].
    """
    return bins * np.array(
        [np.mean([_histogram(one, bins) for one in decisions], axis=0) for decisions in weights]
    )


def _histogram(shares, bins):
    """The shares of frames t = 1 ... n in bins of t / n: float64[bins].

    Bins are found in integers, so that rounding moves no frame to another bin.
    """
    n = len(shares)
    return np.bincount((np.arange(1, n + 1) * bins - 1) // n, shares, bins)


# --- what disturbs it ----------------------------------------------------------------------------


class Contamination(NamedTuple):
    """How a change of the past affects decisions.

    The numbers are means over samples of the noise or of the shuffle, and NaN for decisions that
    come before the change. For an agent with a policy, the value is that of the state.
    """

    decisions: np.ndarray  # int[D]: the numbers n of the decisions
    frames: np.ndarray  # int[F]: the numbers k of the changed frames; [-1] for a shuffled past
    values: np.ndarray  # float64[F, D]: mean over actions of |change of value|, in returns
    chosen: np.ndarray  # float64[F, D]: |change of the chosen action's value|, in returns
    actions: np.ndarray  # float64[F, D]: share of samples that change the greedy action, in [0, 1]

    def by_age(self, measure: str) -> np.ndarray:
        """A measure against the age n - k of the change, averaged over frames: float64[T].

        measure: "values", "chosen" or "actions". T is one more than the largest age. NaN for ages
        that do not occur.
        """
        ages = self.decisions[None] - self.frames[:, None]
        valid = ages >= 0
        sums = np.bincount(ages[valid], getattr(self, measure)[valid])
        counts = np.bincount(ages[valid])
        return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


def contamination(
    maps: SaliencyMaps,
    key: jax.Array,
    sigma: float = 0.1,
    frames: Sequence[int] | np.ndarray | None = None,
    samples: int = 8,
) -> Contamination:
    """How long one corrupted frame disturbs the agent: noise on frame k against decisions n >= k.

    Frame k becomes clip(o_k + sigma e, 0, 1), with independent standard normal e per pixel and
    color, and pixels in [0, 1]. All other frames and the actions stay the same, so only the
    memory's contents change. At n = k the effect is that of noise in the current frame; from
    n = k + 1 on it is what the memory keeps of it.

    maps: SaliencyMaps, which hold the network, the sequence and its features. key: a PRNG key.
    sigma: the standard deviation as a share of a pixel's full range, in SIGMA_RANGE; about 0.1 is
    visible noise. frames: their numbers; by default up to 16, evenly spaced. samples: noise samples
    per frame. Raises ValueError for sigma or samples out of range.
    """
    spaces.check_range("sigma", sigma, *SIGMA_RANGE)
    spaces.check_range("samples", samples, 1)
    numbers, decisions = _selected(len(maps), frames, 16), np.arange(len(maps))
    same = jnp.broadcast_to(maps.features[0], (samples, *maps.features.shape[1:]))
    before = _unroll_changed(maps, same, 0)
    changes = []
    for k, one_key in zip(numbers, jax.random.split(key, len(numbers))):
        noisy = _noisy_features(maps.network, maps.padded_frames[k], one_key, sigma, samples)
        changes.append(_changes(before, _unroll_changed(maps, noisy, k), maps))
    values, chosen, actions = (
        np.where(decisions >= numbers[:, None], np.stack(parts), np.nan) for parts in zip(*changes)
    )
    return Contamination(decisions, numbers, values, chosen, actions)


def shuffled_past(
    maps: SaliencyMaps,
    key: jax.Array,
    decisions: Sequence[int] | np.ndarray | None = None,
    samples: int = 8,
) -> Contamination:
    """The control for noise: shuffle the past, so that the encoder sees only frames it knows.

    For decision n the frames from the episode's start to n - 1 are shuffled uniformly; frame n, the
    actions and the start flags stay. An agent that does not use its memory, or not the order of
    what it remembers, is unaffected. If noise has an effect and shuffling has none, the noise
    disturbed the encoder; if both have one, the memory was disturbed.

    maps, key: as in ``contamination``. decisions: their numbers; by default up to 32, evenly
    spaced. samples: shuffles per decision. Raises ValueError for samples out of range.
    """
    spaces.check_range("samples", samples, 1)
    numbers = _selected(len(maps), decisions, 32)
    before = _unroll_shuffled(maps, np.tile(np.arange(len(maps.features)), (samples, 1)))
    changes = []
    for n, one_key in zip(numbers, jax.random.split(key, len(numbers))):
        after = _unroll_shuffled(maps, _orders(maps, n, one_key, samples))
        changes.append([part[n] for part in _changes(before, after, maps)])
    values, chosen, actions = np.array(changes).T[:, None]
    return Contamination(numbers, np.array([-1]), values, chosen, actions)


def _selected(length, numbers, most):
    """Resolve indices into 0 ... length - 1, negative ones too; None selects up to ``most``."""
    if numbers is None:
        return spaces.evenly_spaced(length, most)
    return np.arange(length)[np.asarray(numbers, int)]


# The outputs before and after a change come from the same compiled program, so that no change is
# exactly 0.


def _unroll_changed(maps, features, k):
    """The network's outputs with new features, [samples, ...], of frame k: outputs [samples, T]."""
    output = _unroll_changed_program(
        maps.network, maps.carry, maps.sequence, maps.features, features, jnp.int32(k)
    )
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:, : len(maps)], output)


def _unroll_shuffled(maps, orders):
    """The network's outputs for frames in other orders, int[samples, T]: outputs [samples, T]."""
    output = _unroll_shuffled_program(
        maps.network, maps.carry, maps.sequence, maps.features, orders
    )
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:, : len(maps)], output)


def _orders(maps, n, key, samples):
    """Random orders of the frames before decision n: int[samples, T]."""
    _, starts, _ = maps.sequence
    first = max(np.flatnonzero(starts[: n + 1]), default=0)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    orders = np.tile(np.arange(len(starts)), (samples, 1))
    orders[:, first:n] = rng.permuted(orders[:, first:n], axis=1)
    return orders


def _changes(before, after, maps):
    """The effects of a change on the values, the chosen action's value and the greedy action.

    Each is float64[T].
    """
    action = maps.sequence[-1][: len(maps)]
    old_values, old_greedy = _values_and_greedy(before)
    new_values, new_greedy = _values_and_greedy(after)
    changes = np.abs(new_values - old_values).mean(axis=0, dtype=np.float64)
    chosen = (
        changes[:, 0]
        if changes.shape[1] == 1
        else np.take_along_axis(changes, action[:, None], axis=1)[:, 0]
    )
    return changes.mean(axis=1), chosen, (new_greedy != old_greedy).mean(axis=0)


def _values_and_greedy(output):
    """Split outputs [..., T] into (values, greedy actions int[..., T]).

    The values are float32[..., T, 5], or float32[..., T, 1] for a network with a policy.
    """
    scores, values = (
        (output[0], output[1][..., None]) if isinstance(output, tuple) else (output, output)
    )
    return np.asarray(values), np.asarray(scores).argmax(axis=-1)


@eqx.filter_jit
def _noisy_features(network, frame, key, sigma, samples):
    """The features of a frame with noise added: [samples, ...]."""
    noise = jax.random.normal(key, (samples, *frame.shape))
    return encode_frames(network, jnp.clip(scaled(frame)[None] + jnp.float32(sigma) * noise, 0, 1))


@eqx.filter_jit
def _unroll_changed_program(network, carry, sequence, features, new, k):
    """The program of ``_unroll_changed``, over padded time."""
    return jax.lax.map(
        lambda new: unroll(network, carry, features.at[k].set(new), *sequence[:2]), new
    )


@eqx.filter_jit
def _unroll_shuffled_program(network, carry, sequence, features, orders):
    """The program of ``_unroll_shuffled``, over padded time."""
    return jax.lax.map(lambda order: unroll(network, carry, features[order], *sequence[:2]), orders)
