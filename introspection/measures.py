"""What an agent's memory is worth, how far back it reaches, and what harms it: the formulas, with
their units.

J is what an agent earns: the mean return of its episodes. All J and their differences have the unit
of the game's returns, which lie in 0 ... 1, or -1 ... 1 where there are penalties. Source of the
measures: Wang et al. (2025), "POPGym Arcade: Parallel Pixelated POMDPs", arXiv:2503.01450. Where
theirs leaves a choice, the docstring says which one this is.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade.baselines.model.builder import scaled
from popgym_arcade.baselines.statistics import CONFIDENCE, RESAMPLES, interval
from popgym_arcade.introspection import saliency


class Estimate(NamedTuple):
    """A mean with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    count: int  # independent values that it comes from


def estimate(values):
    """The Estimate of the mean of independent values, float[n]. Raises ValueError for none."""
    low, high = interval(values)
    return Estimate(float(np.mean(values)), low, high, len(values))


# --- what memory is worth ------------------------------------------------------------------------


class Returns(NamedTuple):
    """What seeds earned, each float64[seeds], in returns of the game. Which one is meant decides
    what is compared."""

    mean: np.ndarray  # over all evaluations of the training: how fast it learned, and how well
    final: np.ndarray  # at the last evaluation
    best: (
        np.ndarray
    )  # at the best evaluation; the maximum of noisy figures, so it flatters noisy ones


def returns_of(curves):
    """The Returns of learning curves.

    curves: float[seeds, evaluations], the mean return at each evaluation, in the order of training.
    Raises ValueError for another shape, for none, and for values that are not finite.
    """
    curves = np.asarray(curves, np.float64)
    if curves.ndim != 2 or not curves.size:
        raise ValueError(
            f"curves must be float[seeds, evaluations] with at least one of each, but their shape is {curves.shape}"
        )
    if not np.isfinite(curves).all():
        raise ValueError(
            f"returns must be finite, but {np.sum(~np.isfinite(curves))} of {curves.size} are not"
        )
    return Returns(curves.mean(axis=1), curves[:, -1], curves.max(axis=1))


def observability_gap(mdp, pomdp, paired=False):
    """What an agent with a memory loses by not seeing everything: J(memory, MDP) - J(memory,
    POMDP), in returns.

    0: the memory makes up for all that is hidden. Negative values can come from noise only, or from
    a view that shows more than helps. Each agent was trained on the twin on which it plays. The
    arguments and what is returned are those of ``difference``.
    """
    return difference(mdp, pomdp, paired)


def memory_bias(mdp, memoryless, paired=False):
    """What a memory changes where none is needed: J(memory, MDP) - J(memoryless, MDP), in returns.

    The MDP's frames show all that matters, so any difference is a side effect of the memory: more
    weights, another optimisation problem. Only where it is near 0 are two memories' returns on a
    POMDP a comparison of how well they remember. The arguments and what is returned are those of
    ``difference``.
    """
    return difference(mdp, memoryless, paired)


def difference(first, second, paired=False):
    """The difference of two means: an Estimate, or Returns of Estimates if both are Returns.

    first, second: float[n] and float[m], independent of each other, such as the figures of seeds or
    the returns of episodes, or Returns. paired: first[i] and second[i] belong together, such as two
    agents' returns in one episode, and n = m. The interval is that of ``statistics.interval`` for
    pairs, and otherwise the percentile bootstrap with both sides resampled by themselves: Efron and
    Tibshirani (1993), "An Introduction to the Bootstrap", section 8.3. Raises ValueError for no
    values, and for pairs of different lengths.
    """
    if isinstance(first, Returns) and isinstance(second, Returns):
        return Returns(*(difference(*sides, paired) for sides in zip(first, second)))
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if not first.size or not second.size:
        raise ValueError(
            f"a difference needs values on both sides, but there are {first.size} and {second.size}"
        )
    if not paired:
        low, high = _interval_of_difference(first, second)
        return Estimate(
            float(first.mean() - second.mean()), low, high, min(first.size, second.size)
        )
    if first.shape != second.shape:
        raise ValueError(
            f"pairs need as many values on both sides, but there are {first.size} and {second.size}"
        )
    return estimate(first - second)


def _interval_of_difference(first, second):
    """The percentile bootstrap's interval of mean(first) - mean(second): (low, high)."""
    rng = np.random.default_rng(0)
    means = (rng.choice(side, (RESAMPLES, side.size)).mean(axis=1) for side in (first, second))
    low, high = np.quantile(np.subtract(*means), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


# --- how far back it reaches ---------------------------------------------------------------------


class RecallDensity(NamedTuple):
    """Where in its own past an agent looks, over relative time."""

    edges: np.ndarray  # float64[bins + 1], 0 ... 1: bin i holds edges[i] < tau <= edges[i + 1]
    density: np.ndarray  # float64[bins]: its mean over the bins is 1
    low: np.ndarray  # float64[bins]: of the interval over episodes
    high: np.ndarray  # float64[bins]
    even: np.ndarray  # float64[bins]: what an agent would have that recalls all frames alike in these very decisions
    past: Estimate  # the share of all frames before the decision's own, 0 ... 1: what is not at tau = 1


def recall_density(episodes, bins=20):
    """The distribution of a decision's gradient over relative time, a RecallDensity.

    Decision n of an episode (n = 1, 2, ...) has seen frames t = 1 ... n. With m(n, t) the L1 norm
    of the gradient with respect to frame t, its weight is w(n, t) = m(n, t) / sum over t of m(n,
    t), at tau = t / n. So the decision's own frame is at tau = 1, and time is relative to what this
    very decision has behind it, however long the episode is. The density of a bin is the weight in
    it over its width, averaged over the decisions of an episode, then over episodes. No unit; 1
    everywhere is even recall over a long past.

    episodes: for each episode the decisions, and for each of these the norms m, float[n], the
    earliest first; a decision's n is the length. ``decisions_of`` makes them of
    ``SaliencyMaps.magnitudes``. bins: of tau, at least 1. Decisions without any gradient are left
    out. Frames are points in time, not intervals, so a short past fills some bins and not others:
    compare with ``even``, not with 1. Raises ValueError for bins below 1, negative norms, and if no
    decision has a gradient.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, but it is {bins}; the nearest is 1")
    weights = [
        [_shares(norms) for norms in decisions if np.sum(norms) > 0] for decisions in episodes
    ]
    weights = [decisions for decisions in weights if decisions]
    if not weights:
        raise ValueError(
            "no decision has a gradient with respect to any frame, so there is nothing to make a density of"
        )
    densities = (
        np.array(
            [
                np.mean([_histogram(shares, bins) for shares in decisions], axis=0)
                for decisions in weights
            ]
        )
        * bins
    )
    even = [
        [_histogram(np.full(len(shares), 1 / len(shares)), bins) for shares in decisions]
        for decisions in weights
    ]
    low, high = np.transpose([interval(column) for column in densities.T])
    return RecallDensity(
        edges=np.linspace(0, 1, bins + 1),
        density=densities.mean(axis=0),
        low=low,
        high=high,
        even=np.mean([np.mean(decisions, axis=0) for decisions in even], axis=0) * bins,
        past=estimate(
            [np.mean([shares[:-1].sum() for shares in decisions]) for decisions in weights]
        ),
    )


def decisions_of(magnitudes, decisions=None):
    """The norms of each decision: a list of float[n + 1].

    magnitudes: float[D, T], from ``SaliencyMaps.magnitudes``. decisions: the numbers n of its rows,
    from 0; by default 0 ... D - 1.
    """
    return [
        row[: n + 1]
        for n, row in zip(range(len(magnitudes)) if decisions is None else decisions, magnitudes)
    ]


def _shares(norms):
    """Norms as shares of their sum. Raises ValueError for negative ones."""
    norms = np.asarray(norms, np.float64)
    if (norms < 0).any():
        raise ValueError(f"norms cannot be negative, but one is {norms.min()}")
    return norms / norms.sum()


def _histogram(shares, bins):
    """The shares of frames t = 1 ... n in bins of t / n, in whole numbers, so that no frame is in
    the wrong bin: float64[bins]."""
    n = len(shares)
    return np.bincount((np.arange(1, n + 1) * bins - 1) // n, shares, bins)


# --- what harms it -------------------------------------------------------------------------------


class Contamination(NamedTuple):
    """What a change of the past does to decisions. The numbers are means over the samples of noise
    or of shuffles.

    Where a decision does not come after the change they are NaN.
    """

    decisions: np.ndarray  # int[D]: the decisions, n
    frames: np.ndarray  # int[F]: the frames that were changed, k; for a shuffled past one row, -1
    values: np.ndarray  # float64[F, D]: the mean over actions of |change of the value|, in returns; of a policy, the state's value
    chosen: (
        np.ndarray
    )  # float64[F, D]: |change of the value of the action that was chosen|, in returns
    actions: (
        np.ndarray
    )  # float64[F, D]: the share of samples in which another action is now the best, 0 ... 1

    def by_age(self, measure):
        """A measure, "values", "chosen" or "actions", over the age n - k of the change, averaged
        over frames: float64[T].

        T is one more than the largest age; NaN for ages that there are none of.
        """
        ages = self.decisions[None] - self.frames[:, None]
        there = ages >= 0
        sums = np.bincount(ages[there], getattr(self, measure)[there])
        counts = np.bincount(ages[there])
        return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


def contamination(maps, key, sigma=0.1, frames=None, samples=8):
    """How long one spoilt frame disturbs: noise on frame k, and its effect on decisions n >= k. A
    Contamination.

    Frame k becomes clip(o_k + sigma e, 0, 1), with independent standard normal e for each pixel and
    colour and pixels of 0 ... 1. All other frames and the actions in between stay as they were, so
    what changes is only what the memory makes of them. At n = k it is the noise in what the agent
    sees, from n = k + 1 on it is what the memory keeps of it.

    maps: SaliencyMaps, which hold the network, the sequence and its features. key: a PRNG key, of
    the noise. sigma: the noise, as a share of a pixel's full range, above 0; about 0.1 is visible
    noise. frames: which ones, a sequence of ints; by default up to 16, evenly spaced. samples: of
    noise, for each frame. Raises ValueError for sigma or samples out of range.
    """
    check_noise(sigma)
    check_samples(samples)
    frames = (
        spread(len(maps), 16) if frames is None else np.arange(len(maps))[np.asarray(frames, int)]
    )
    same = jnp.broadcast_to(maps.features[0], (samples, *maps.features.shape[1:]))
    before, decisions = _read_changed(maps, same, 0), np.arange(len(maps))
    changes = []
    for k, one_key in zip(frames, jax.random.split(key, len(frames))):
        spoilt = _noisy_features(maps.network, maps.padded_frames[k], one_key, sigma, samples)
        changes.append(_changes(before, _read_changed(maps, spoilt, k), maps))
    values, chosen, actions = (
        np.where(decisions >= frames[:, None], np.stack(parts), np.nan) for parts in zip(*changes)
    )
    return Contamination(decisions, frames, values, chosen, actions)


def shuffled_past(maps, key, decisions=None, samples=8):
    """The control for noise: the past in another order, so that the encoder sees nothing that it
    does not know. A Contamination.

    For decision n the frames from the episode's start to n - 1 are put into a uniformly random
    order; frame n, the actions and the start flags stay. An agent that does not use its memory, or
    not the order of what it remembers, does not change. Where the noise disturbs and this does not,
    the encoder was disturbed by a strange picture. Where both do, the memory was.

    maps, key, samples: as in ``contamination``. decisions: which ones, a sequence of ints; by
    default up to 32, evenly spaced.
    """
    check_samples(samples)
    decisions = (
        spread(len(maps), 32)
        if decisions is None
        else np.arange(len(maps))[np.asarray(decisions, int)]
    )
    before = _read_shuffled(maps, np.tile(np.arange(len(maps.features)), (samples, 1)))
    changes = []
    for n, one_key in zip(decisions, jax.random.split(key, len(decisions))):
        after = _read_shuffled(maps, _orders(maps, n, one_key, samples))
        changes.append([part[n] for part in _changes(before, after, maps)])
    values, chosen, actions = np.array(changes).T[:, None]
    return Contamination(decisions, np.array([-1]), values, chosen, actions)


def spread(length, most):
    """At most so many of the numbers 0 ... length - 1, evenly spaced, the first and the last among
    them: int[count]."""
    return np.unique(np.linspace(0, length - 1, min(length, most)).round().astype(int))


def check_noise(sigma):
    """Raise ValueError for noise that is no share of a pixel's range."""
    if not 0 < sigma <= 1:
        raise ValueError(
            f"sigma must lie in 0 ... 1 and be above 0, but it is {sigma}; the nearest is {1.0 if sigma > 1 else 0.01}"
        )


def check_samples(samples):
    """Raise ValueError for less than one sample."""
    if samples < 1:
        raise ValueError(f"samples must be at least 1, but it is {samples}; the nearest is 1")


# What a network says before and after a change is computed by the same program, so that no change
# is exactly 0.


def _read_changed(maps, new, k):
    """What the network says if the features of frame k are new, [samples, ...]: outputs [samples,
    T]."""
    said = _changed_program(
        maps.network, maps.carry, maps.sequence, maps.features, new, jnp.int32(k)
    )
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:, : len(maps)], said)


def _read_shuffled(maps, orders):
    """What the network says on the frames in other orders, int[samples, T]: outputs [samples,
    T]."""
    said = _shuffled_program(maps.network, maps.carry, maps.sequence, maps.features, orders)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:, : len(maps)], said)


def _orders(maps, n, key, samples):
    """Orders of the frames for decision n: int[samples, T]."""
    _, starts, _ = maps.sequence
    first = max(np.flatnonzero(starts[: n + 1]), default=0)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    orders = np.tile(np.arange(len(starts)), (samples, 1))
    orders[:, first:n] = rng.permuted(orders[:, first:n], axis=1)
    return orders


def _changes(before, after, maps):
    """What a change did, each float64[T]: to the values, to that of the chosen action, and to the
    best action."""
    action = maps.sequence[-1][: len(maps)]
    (old_values, old_best), (new_values, new_best) = (
        _values_and_best(before),
        _values_and_best(after),
    )
    changes = np.abs(new_values - old_values).mean(axis=0, dtype=np.float64)
    chosen = (
        changes[:, 0]
        if changes.shape[1] == 1
        else np.take_along_axis(changes, action[:, None], axis=1)[:, 0]
    )
    return changes.mean(axis=1), chosen, (new_best != old_best).mean(axis=0)


def _values_and_best(output):
    """Outputs [..., T] as (values float32[..., T, 5], or [..., T, 1] beside a policy, and the best
    action int[..., T])."""
    scores, values = (
        (output[0], output[1][..., None]) if isinstance(output, tuple) else (output, output)
    )
    return np.asarray(values), np.asarray(scores).argmax(axis=-1)


@eqx.filter_jit
def _noisy_features(network, frame, key, sigma, samples):
    """The features of a frame with noise on it: [samples, ...]."""
    noise = jax.random.normal(key, (samples, *frame.shape))
    return saliency.encode(network, jnp.clip(scaled(frame) + jnp.float32(sigma) * noise, 0, 1))


@eqx.filter_jit
def _changed_program(network, carry, sequence, features, new, k):
    """The program of ``_read_changed``, over padded time."""
    return jax.lax.map(
        lambda new: saliency.read(network, carry, features.at[k].set(new), *sequence[:2]), new
    )


@eqx.filter_jit
def _shuffled_program(network, carry, sequence, features, orders):
    """The program of ``_read_shuffled``, over padded time."""
    return jax.lax.map(
        lambda order: saliency.read(network, carry, features[order], *sequence[:2]), orders
    )
