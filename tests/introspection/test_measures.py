"""Measures, on cases with known results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.testing import client

client("equinox")
client("memax")

from popgym_arcade.baselines.model.builder import QNetworkRNN  # noqa: E402, after the checks
from popgym_arcade.introspection import measures  # noqa: E402
from popgym_arcade.introspection.saliency import SaliencyMaps  # noqa: E402
from tests.introspection.models import LinearRecurrence, linear_recurrence  # noqa: E402


def maps_of(model, length=12, size=4, starts=(0,), seed=0):
    """The SaliencyMaps of a model on random frames."""
    rng = np.random.default_rng(seed)
    actions = rng.integers(0, 5, length)
    frames = rng.integers(64, 192, (length, size, size, 3)).astype(np.uint8)
    return SaliencyMaps(
        model,
        frames,
        np.concatenate([[-1], actions[:-1]]),
        np.isin(np.arange(length), starts),
        actions,
    )


@pytest.fixture(scope="module")
def memoryless():
    """The maps of a real network without memory."""
    return maps_of(
        QNetworkRNN(jax.random.key(0), "none", obs_size=16, hidden_size=16, num_layers=1), size=16
    )


# --- returns -------------------------------------------------------------------------------------


def test_mean_final_and_best_are_kept_apart():
    returns = measures.returns_of([[0.0, 0.9, 0.3], [0.2, 0.2, 0.5]])
    np.testing.assert_allclose(returns.mean, [0.4, 0.3])
    np.testing.assert_allclose(returns.final, [0.3, 0.5])
    np.testing.assert_allclose(returns.best, [0.9, 0.5])


def test_gap_and_bias_are_differences_of_the_same_kind_of_returns():
    with_memory = measures.returns_of([[0.5, 1.0], [0.7, 0.8]])
    without = measures.returns_of([[0.1, 0.3], [0.1, 0.1]])
    for measure in (measures.observability_gap, measures.memory_bias):
        found = measure(with_memory, without)
        assert [one.value for one in found] == pytest.approx([0.75 - 0.15, 0.9 - 0.2, 0.9 - 0.2])
        assert all(one.low <= one.value <= one.high and one.count == 2 for one in found)
    assert measures.observability_gap([0.25], [0.75]) == (-0.5, -0.5, -0.5, 1)


def test_the_interval_of_a_difference_covers_the_truth_about_as_often_as_it_says():
    rng, covered = np.random.default_rng(0), 0
    for _ in range(200):
        low, high = measures.difference(rng.normal(0.3, 1, 40), rng.normal(0, 0.5, 30))[1:3]
        covered += low <= 0.3 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_pairs_have_a_narrower_interval_where_they_belong_together():
    rng = np.random.default_rng(1)
    episodes = rng.normal(0, 1, 50)
    first, second = episodes + 0.1 + rng.normal(0, 0.01, 50), episodes
    paired, apart = (
        measures.difference(first, second, paired=True),
        measures.difference(first, second),
    )
    assert paired.value == pytest.approx(apart.value)
    assert 10 * (paired.high - paired.low) < apart.high - apart.low


def test_returns_that_make_no_sense_are_refused():
    for curves, message in (
        ([0.1, 0.2], r"shape is \(2,\)"),
        ([[]], r"shape is \(1, 0\)"),
        ([[0.1, np.nan]], "1 of 2 are not"),
    ):
        with pytest.raises(ValueError, match=message):
            measures.returns_of(curves)
    with pytest.raises(ValueError, match="there are 0 and 1"):
        measures.difference([], [0.1])
    with pytest.raises(ValueError, match="there are 1 and 2"):
        measures.difference([0.1], [0.1, 0.2], paired=True)


# --- recall density ------------------------------------------------------------------------------


def test_a_memoryless_agents_recall_is_all_at_tau_1(memoryless):
    recall = measures.recall_density([measures.decisions_of(memoryless.magnitudes())], bins=20)
    assert recall.density.tolist() == [0.0] * 19 + [20.0]
    assert recall.past == (0, 0, 0, 1)


def test_the_bins_of_a_decision_are_those_of_its_own_length():
    # t / n = 1/4, 2/4, 3/4, 1 belong to the bins that end there
    recall = measures.recall_density([[[1, 2, 3, 4]]], bins=4)
    np.testing.assert_allclose(recall.density, [0.4, 0.8, 1.2, 1.6])
    np.testing.assert_allclose(recall.even, [1, 1, 1, 1])
    assert recall.past.value == pytest.approx(0.6)
    # 1/3, 2/3, 1: the second of four bins, the third and the fourth
    np.testing.assert_allclose(
        measures.recall_density([[[3, 2, 5]]], bins=4).density, [0, 1.2, 0.8, 2]
    )
    # a share of each decision's own past, independent of the scale of its gradient
    both = measures.recall_density([[[1, 2, 3, 4], [300, 200, 500]]], bins=4)
    np.testing.assert_allclose(both.density, [0.2, 1.0, 1.0, 1.8])


def test_episodes_count_alike_however_many_decisions_they_have():
    recall = measures.recall_density([[[1, 0]], [[0, 1], [0, 1], [0, 1]]], bins=2)
    np.testing.assert_allclose(recall.density, [1, 1])
    assert recall.past.count == 2 and recall.past.low < 0.5 < recall.past.high


def test_the_recall_of_a_linear_recurrence_is_its_decay():
    maps = maps_of(linear_recurrence(decay=0.5), length=40)
    recall = measures.recall_density([measures.decisions_of(maps.magnitudes([39]), [39])], bins=40)
    weights = 0.5 ** np.arange(39, -1, -1.0)
    np.testing.assert_allclose(recall.density, 40 * weights / weights.sum(), rtol=1e-4)


def test_even_recall_has_the_density_of_the_reference():
    maps = maps_of(linear_recurrence(decay=1.0), length=30)
    recall = measures.recall_density([measures.decisions_of(maps.magnitudes())], bins=7)
    np.testing.assert_allclose(recall.density, recall.even, rtol=1e-4)
    assert recall.density.mean() == pytest.approx(1)


def test_decisions_without_a_gradient_are_left_out():
    recall = measures.recall_density([[[0, 0], [1, 1]], [[0]]], bins=2)
    np.testing.assert_allclose(recall.density, [1, 1])
    with pytest.raises(ValueError, match="no decision has a nonzero gradient"):
        measures.recall_density([[[0, 0]]])
    with pytest.raises(ValueError, match="bins must be at least 1, but it is 0"):
        measures.recall_density([[[1]]], bins=0)
    with pytest.raises(ValueError, match="one is -1"):
        measures.recall_density([[[2, -1]]])


# --- contamination -------------------------------------------------------------------------------


def test_noise_on_one_frame_decays_as_the_memory_does():
    model = linear_recurrence(decay=0.5)
    maps = maps_of(model)
    found = measures.contamination(maps, jax.random.key(0), sigma=0.05, frames=[2, 7], samples=3)
    assert found.frames.tolist() == [2, 7] and found.values.shape == (2, 12)
    assert np.isnan(found.values[0, :2]).all() and np.isnan(found.actions[1, :7]).all()
    for row, k in enumerate((2, 7)):
        expected = found.values[row, k] * 0.5 ** np.arange(12 - k)
        np.testing.assert_allclose(found.values[row, k:], expected, rtol=1e-2, atol=1e-6)
    np.testing.assert_allclose(
        found.chosen[0, 2:] / found.values[0, 2:],
        np.abs(model.out)[maps.sequence[-1][2:12]] / np.abs(model.out).mean(),
        rtol=1e-2,
    )


def test_the_size_of_the_noise_is_a_share_of_the_pixels_range():
    model = linear_recurrence(size=8)  # pixels are mid-range, so nothing is clipped
    maps = maps_of(model, size=8)
    found = measures.contamination(maps, jax.random.key(1), sigma=0.02, frames=[0], samples=400)
    deviation = 0.02 * np.sqrt(
        np.sum(np.square(model.weights))
    )  # of the change of h, which is normal
    expected = np.sqrt(2 / np.pi) * deviation * np.abs(model.out).mean()
    assert found.values[0, 0] == pytest.approx(expected, rel=0.15)


def test_noise_is_clipped_to_what_a_pixel_can_be():
    model = linear_recurrence()
    white = SaliencyMaps(model, np.full((1, 4, 4, 3), 255, np.uint8), [-1], [True], [0])
    positive = jax.tree.map(lambda leaf: abs(leaf), model)
    white.network = positive
    loud = measures.contamination(white, jax.random.key(0), sigma=1.0, samples=50)
    most = np.sum(np.abs(model.weights)) * np.abs(model.out).mean()
    assert (
        0.2 * most < loud.values[0, 0] < 0.6 * most
    )  # half of the pixels stay white, the others darken


def test_a_memoryless_agent_is_contaminated_by_its_own_frame_only(memoryless):
    found = measures.contamination(
        memoryless, jax.random.key(0), sigma=0.3, frames=[0, 4], samples=2
    )
    assert found.values[1, 4] > 0
    assert found.values[0, 1:].tolist() == [0.0] * 11
    assert found.actions[1, 5:].tolist() == [0.0] * 7
    curve = found.by_age("values")
    assert len(curve) == 12 and curve[0] > 0 and not curve[1:].any()
    shuffled = measures.shuffled_past(memoryless, jax.random.key(0), samples=2)
    assert not shuffled.values.any() and not shuffled.actions.any() and not shuffled.chosen.any()


def test_a_shuffled_past_matters_to_a_memory_of_order_only():
    sums, decays = (
        measures.shuffled_past(
            maps_of(linear_recurrence(decay=decay)), jax.random.key(0), [0, 1, 2, 11], samples=4
        )
        for decay in (1.0, 0.5)
    )
    np.testing.assert_allclose(sums.values, 0, atol=1e-5)
    assert not decays.values[0, :2].any()  # one frame or none has a single order
    assert decays.values[0, 3] > 1e-3
    assert decays.frames.tolist() == [-1] and decays.decisions.tolist() == [0, 1, 2, 11]


def test_a_past_before_the_episode_stays_where_it_is():
    maps = maps_of(linear_recurrence(), starts=(0, 6))
    orders = measures._orders(maps, 9, jax.random.key(3), 50)
    assert (orders[:, :6] == np.arange(6)).all()
    assert (orders[:, 9:] == np.arange(9, 32)).all()
    assert (np.sort(orders[:, 6:9]) == [6, 7, 8]).all()
    assert len(np.unique(orders[:, 6:9], axis=0)) == 6


def test_the_best_action_of_a_policy_is_its_likeliest():
    weights = jnp.tile(jnp.array([1.0, -1.0])[:, None], (4, 2, 3))  # on a gray image h = 0
    model = LinearRecurrence(
        0.5, weights, jnp.arange(5.0), policy=True
    )  # fire is greedy if h > 0, otherwise up
    gray = SaliencyMaps(model, np.full((2, 4, 4, 3), 128, np.uint8), [-1, 0], [True, False], [0, 0])
    found = measures.contamination(gray, jax.random.key(0), sigma=0.2, frames=[0], samples=400)
    assert found.actions[0] == pytest.approx(
        [0.5, 0.5], abs=0.08
    )  # up becomes fire wherever h is now above 0
    assert found.values[0, 0] == found.chosen[0, 0] > 0  # the only value is that of the state


def test_numbers_out_of_range_are_refused():
    maps = maps_of(linear_recurrence())
    with pytest.raises(ValueError, match=r"sigma must be in \[1e-06, 1\], but it is 0;"):
        measures.contamination(maps, jax.random.key(0), sigma=0)
    with pytest.raises(ValueError, match="but it is 25.5; the nearest is 1$"):
        measures.contamination(maps, jax.random.key(0), sigma=25.5)
    for measure in (measures.contamination, measures.shuffled_past):
        with pytest.raises(ValueError, match="samples must be at least 1, but it is 0"):
            measure(maps, jax.random.key(0), samples=0)
