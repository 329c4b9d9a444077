"""Saliency against closed forms, finite differences, the whole gradient and exact zeros."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.testing import client

eqx = client("equinox")
client("memax")

from popgym_arcade.baselines.model.builder import ActorCriticRNN, QNetworkRNN, scaled  # noqa: E402, after the checks
from popgym_arcade.baselines.model.memory import make_memory, memory_names  # noqa: E402
from popgym_arcade.introspection import episode, saliency  # noqa: E402
from popgym_arcade.introspection.saliency import SaliencyMaps  # noqa: E402
from tests.introspection.models import linear_recurrence  # noqa: E402

SIZE = 16  # pixels a side of hand-made frames
KINDS = {"q": QNetworkRNN, "policy": ActorCriticRNN}


def sequence(length, size=4, seed=0, starts=(0,)):
    """Random frames and actions: (frames uint8[T, S, S, 3], last_actions, starts, actions)."""
    rng = np.random.default_rng(seed)
    actions = rng.integers(0, 5, length)
    frames = rng.integers(0, 256, (length, size, size, 3)).astype(np.uint8)
    return frames, np.concatenate([[-1], actions[:-1]]), np.isin(np.arange(length), starts), actions


def network(memory, kind="q", seed=0):
    """A small real network for frames of SIZE pixels."""
    return KINDS[kind](jax.random.key(seed), memory, obs_size=SIZE, hidden_size=16, num_layers=2)


def powers(decay, n, starts=(0,)):
    """decay^(n - k) for k = 0 ... n, and 0 before the last start: float64[n + 1]."""
    ages = n - np.arange(n + 1)
    return np.where(
        np.arange(n + 1) >= max(start for start in starts if start <= n), decay**ages, 0.0
    )


# --- closed forms --------------------------------------------------------------------------------


def test_the_gradient_of_a_linear_recurrence_is_its_closed_form():
    model, (frames, last, starts, actions) = linear_recurrence(), sequence(70)
    maps = SaliencyMaps(model, frames, last, starts, actions)
    assert len(maps) == 70
    for n in (0, 1, 31, 32, 69):
        expected = model.out[actions[n]] * np.einsum("k,rcx->krcx", powers(0.8, n), model.weights)
        assert maps[n].shape == (n + 1, 4, 4, 3)
        np.testing.assert_allclose(maps[n], expected, rtol=1e-4, atol=1e-7)


def test_a_start_inside_of_the_sequence_blocks_the_closed_form_exactly():
    model, starts = linear_recurrence(), (0, 5, 33)
    frames, last, flags, actions = sequence(40, starts=starts)
    maps = SaliencyMaps(model, frames, last, flags, actions)
    for n in (4, 5, 20, 32, 33, 39):
        expected = model.out[actions[n]] * np.einsum(
            "k,rcx->krcx", powers(0.8, n, starts), model.weights
        )
        np.testing.assert_allclose(maps[n], expected, rtol=1e-4, atol=1e-7)
        first = max(start for start in starts if start <= n)
        assert not maps[n][:first].any()


def test_all_values_are_squared_and_summed():
    model, (frames, last, starts, actions) = linear_recurrence(), sequence(20)
    maps = SaliencyMaps(model, frames, last, starts, actions, "all_values")
    state = (
        np.cumsum(np.einsum("trcx,rcx->t", frames / 255, model.weights) * 0.8 ** -np.arange(20.0))[
            11
        ]
        * 0.8**11
    )
    expected = (
        2
        * state
        * np.sum(np.square(model.out))
        * np.einsum("k,rcx->krcx", powers(0.8, 11), model.weights)
    )
    np.testing.assert_allclose(maps[11], expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(
        maps.targets()[11], np.sum(np.square(model.out)) * state**2, rtol=1e-4
    )


def test_the_log_probability_of_a_linear_policy_has_its_closed_form():
    model, (frames, last, starts, actions) = linear_recurrence(policy=True), sequence(20)
    maps = SaliencyMaps(model, frames, last, starts, actions, "log_probability")
    _, (logits, _) = model(model.initialize_carry(), frames, last, starts)
    slope = model.out[actions[9]] - jnp.sum(jax.nn.softmax(logits[9]) * model.out)
    np.testing.assert_allclose(
        maps[9],
        slope * np.einsum("k,rcx->krcx", powers(0.8, 9), model.weights),
        rtol=1e-3,
        atol=1e-6,
    )
    values = SaliencyMaps(
        model, frames, last, starts, actions
    )  # for a network with a policy: the state value, h
    np.testing.assert_allclose(
        values[9], np.einsum("k,rcx->krcx", powers(0.8, 9), model.weights), rtol=1e-4, atol=1e-7
    )


def test_bytes_are_scaled_once_and_the_gradient_is_that_of_the_scaled_frames():
    model, (frames, *rest) = linear_recurrence(), sequence(6)
    floats = np.asarray(scaled(jnp.asarray(frames)))
    of_bytes, of_floats = (
        SaliencyMaps(model, some, *rest, "all_values") for some in (frames, floats)
    )
    np.testing.assert_array_equal(of_bytes[5], of_floats[5])
    assert of_bytes.frames.dtype == np.uint8


def test_the_carry_before_the_sequence_counts():
    model, (frames, last, _, actions) = linear_recurrence(), sequence(5)
    going_on = np.zeros(5, bool)
    maps = SaliencyMaps(model, frames, last, going_on, actions, carry=jnp.float32(100.0))
    plain = SaliencyMaps(model, frames, last, going_on, actions)
    np.testing.assert_allclose(
        maps.targets() - plain.targets(),
        100 * 0.8 ** np.arange(1, 6) * model.out[actions],
        rtol=1e-4,
    )


def test_the_sum_is_that_of_the_maps():
    maps = SaliencyMaps(linear_recurrence(), *sequence(37))
    expected = np.zeros((37, 4, 4, 3))
    for n, one in enumerate(maps):
        expected[: n + 1] += one
    np.testing.assert_allclose(maps.sum(), expected, rtol=1e-4, atol=1e-6)


def test_pooled_maps_lose_nothing():
    maps = SaliencyMaps(linear_recurrence(size=8), *sequence(35, size=8))
    dense = np.abs(np.asarray(maps)).sum(-1)
    pooled = maps.pooled(4)
    assert pooled.shape == (35, 35, 4, 4)
    np.testing.assert_allclose(
        pooled[:, :, 1, 2], dense[:, :, 2:4, 4:6].sum((2, 3)), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(maps.magnitudes(), dense.sum((2, 3)), rtol=1e-4, atol=1e-6)
    assert not np.triu(maps.magnitudes(), 1).any()


def test_some_decisions_can_be_chosen_and_progress_is_reported():
    maps, told = SaliencyMaps(linear_recurrence(), *sequence(40)), []
    some = maps.magnitudes([3, -1, 20], report=lambda *progress: told.append(progress))
    np.testing.assert_array_equal(some, maps.magnitudes()[[3, 39, 20]])
    assert told == [(3, 3)]


# --- real networks -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_memoryless_network_has_exactly_no_saliency_on_earlier_frames(kind):
    maps = SaliencyMaps(network("none", kind), *sequence(12, SIZE))
    for n in (0, 5, 11):
        assert not maps[n][:n].any()
        assert np.abs(maps[n][n]).max() > 1e-4
    norms = maps.magnitudes()
    assert not (norms - np.diag(np.diag(norms))).any()


@pytest.mark.parametrize(
    "memory, kind, target", [("lru", "q", "chosen_value"), ("gru", "policy", "log_probability")]
)
def test_finite_differences_agree(memory, kind, target):
    net, (frames, last, starts, actions) = network(memory, kind), sequence(9, SIZE, seed=1)
    floats = np.asarray(scaled(jnp.asarray(frames)))
    maps, rng, step = (
        SaliencyMaps(net, floats, last, starts, actions, target),
        np.random.default_rng(0),
        1e-2,
    )

    def value(frames, n):
        return float(SaliencyMaps(net, frames, last, starts, actions, target).targets()[n])

    for n, k in ((8, 8), (8, 7), (8, 2), (5, 0)):
        direction = rng.normal(size=floats[k].shape).astype(np.float32) / SIZE
        ahead, back = floats.copy(), floats.copy()
        ahead[k] += step * direction
        back[k] -= step * direction
        slope = (value(ahead, n) - value(back, n)) / (2 * step)
        scale = np.sqrt(np.sum(np.square(maps[n][k])) * np.sum(np.square(direction)))
        assert abs(slope - np.sum(maps[n][k] * direction)) < 0.03 * scale


@pytest.mark.parametrize("memory", ["lru", "gru"])
def test_the_maps_are_the_gradient_of_the_whole_network_over_the_whole_sequence(memory):
    length, net = 7, network(memory)
    frames, last, starts, actions = sequence(length, SIZE, starts=(0, 4))
    maps = SaliencyMaps(net, frames, last, starts, actions)
    images, last, actions = scaled(jnp.asarray(frames)), jnp.asarray(last), jnp.asarray(actions)

    @jax.jit
    def whole(images):
        _, backward = jax.vjp(
            lambda images: net(net.initialize_carry(), images, last, jnp.asarray(starts))[1], images
        )
        return jax.vmap(lambda n: backward(jnp.zeros((length, 5)).at[n, actions[n]].set(1))[0])(
            jnp.arange(length)
        )

    expected = whole(images)
    for n in (3, 4, length - 1):
        np.testing.assert_allclose(maps[n], expected[n, : n + 1], rtol=1e-3, atol=1e-5)
        assert maps[n][:4].any() == (n < 4)


class MemoryAlone(eqx.Module):
    """A memory that reads the first pixels, which compiles faster than a whole network."""

    memory: eqx.Module

    def initialize_carry(self):
        """The memory's initial carry."""
        return self.memory.initialize_carry()

    def __call__(self, carry, observations, last_actions, starts):
        """As a network, with five of the memory's outputs as values."""
        carry, outputs = self.memory(
            carry, (observations.reshape(len(observations), -1)[:, :16], starts)
        )
        return carry, outputs[:, :5]


@pytest.mark.parametrize("memory", memory_names())
def test_every_memory_has_finite_gradients_that_a_start_blocks_exactly(memory, monkeypatch):
    # compiles faster, and a sequence of 7 still has two blocks
    monkeypatch.setattr(saliency, "BLOCK", 4)
    monkeypatch.setattr(saliency, "FRAMES_AT_ONCE", 4)
    maps = SaliencyMaps(
        MemoryAlone(make_memory(memory, 16, 1, jax.random.key(1))), *sequence(7, starts=(0, 2))
    )
    maps = maps[6]
    assert np.isfinite(maps).all()
    assert not maps[:2].any()
    assert maps[6].any()
    assert maps[5].any() == (memory not in ("none", "mlp"))


@pytest.mark.parametrize("decisions", [[3, 4, 5, 9], [9, 3]])
def test_decisions_that_share_a_pass_do_not_mix(decisions):
    # frames as large as a game's: how XLA fuses a normalization's gradient depends on the size
    net = QNetworkRNN(jax.random.key(0), "lru", obs_size=128, hidden_size=16, num_layers=1)
    maps = SaliencyMaps(net, *sequence(10, 128))
    pooled = maps.pooled(8, decisions)
    for row, n in zip(pooled, decisions):
        alone = np.asarray(saliency._pool(jnp.asarray(maps[n]), 8))
        np.testing.assert_allclose(row[: n + 1], alone, rtol=1e-3, atol=1e-5 * alone.max())
        assert not row[n + 1 :].any()


def test_a_map_is_the_gradient_without_any_compiled_program():
    net = QNetworkRNN(jax.random.key(0), "lru", obs_size=128, hidden_size=16, num_layers=1)
    frames, last, starts, actions = sequence(3, 128)
    images = scaled(jnp.asarray(frames))

    def value(images):
        _, values = net(net.initialize_carry(), images, jnp.asarray(last), jnp.asarray(starts))
        return values[2, actions[2]]

    expected = jax.grad(value)(images)
    np.testing.assert_allclose(
        SaliencyMaps(net, frames, last, starts, actions)[2], expected, rtol=1e-2, atol=1e-6
    )


def test_other_decisions_and_sequences_of_similar_length_reuse_the_compiled_programs():
    traced = []

    def target(output, action):
        traced.append(1)
        return output[action]

    net = network("gru")
    for length in (40, 64):
        maps = SaliencyMaps(net, *sequence(length, SIZE), target)
        for n in (0, 17, length - 1):
            maps[n]
        maps.sum()
        maps.targets()
        maps.magnitudes([1, 2])
    assert len(traced) == 1


def test_few_lengths_are_compiled():
    assert [
        saliency._padded_length(length) for length in (1, 32, 33, 64, 65, 200, 256, 257, 3000)
    ] == [*(32, 32, 64, 64, 128, 256, 256, 512, 4096)]


# --- episodes ------------------------------------------------------------------------------------

CONFIG = {
    "ENV_NAME": "NavigatorEasy",
    "PARTIAL": True,
    "MEMORY_TYPE": "mingru",
    "SEED": 0,
    "OBS_SIZE": 128,
}


@pytest.fixture(scope="module")
def agent():
    """A small network for the games' frames."""
    return QNetworkRNN(jax.random.key(3), "mingru", hidden_size=8, num_layers=1)


@pytest.fixture(scope="module")
def looked(agent):
    """What get_saliency_maps returns for a whole episode."""
    return saliency.get_saliency_maps(jax.random.key(0), agent, CONFIG)


def test_an_episode_is_played_to_its_end(looked, agent):
    maps, frames, total = looked
    played = maps.episode
    assert frames.dtype == np.uint8 and frames.shape == (len(maps), 128, 128, 3) == total.shape
    assert played.terminated or played.truncated
    assert len(maps) == 64 or played.terminated
    assert played.starts.tolist() == [True] + [False] * (len(maps) - 1)
    assert played.last_actions.tolist() == [-1, *played.actions[:-1]]
    np.testing.assert_array_equal(played.actions, played.values.argmax(1))


def test_the_frames_of_an_episode_are_the_environments_own(looked):
    env, params = episode.make_environment(episode.environment_config(CONFIG))
    played = looked[0].episode
    _, reset_key = jax.random.split(jax.random.key(0))
    frame, state = env.reset(reset_key, params)
    step = jax.jit(env.step_env)
    for n in range(5):
        np.testing.assert_array_equal(played.frames[n], frame)
        frame, state, reward, *_ = step(
            jax.random.key(9), state, played.actions[n], params
        )  # the key does not matter here
        assert played.rewards[n] == reward


def test_what_was_differentiated_is_what_the_agent_said_while_it_played(looked):
    maps = looked[0]
    chosen = np.take_along_axis(maps.episode.values, maps.episode.actions[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(maps.targets(), chosen, rtol=1e-3, atol=1e-5)


def test_max_steps_cuts_an_episode(looked, agent):
    maps, frames, total = saliency.get_saliency_maps(jax.random.key(0), agent, CONFIG, max_steps=5)
    assert len(maps) == len(frames) == len(total) == 5
    assert not maps.episode.terminated and not maps.episode.truncated
    np.testing.assert_array_equal(frames, looked[1][:5])


def test_the_terminal_maps_are_those_of_the_last_decision(agent):
    maps, frames, total = saliency.get_terminal_saliency_maps(
        jax.random.key(0), agent, CONFIG, max_steps=5
    )
    expected = saliency.get_saliency_maps(jax.random.key(0), agent, CONFIG, max_steps=5)[0][-1]
    np.testing.assert_array_equal(maps, expected)
    np.testing.assert_array_equal(total, expected)
    assert frames.shape == maps.shape


def test_an_episode_can_begin_with_a_given_state_and_the_other_twins_frame(agent):
    mdp, params = episode.make_environment(episode.EnvironmentConfig("NavigatorEasy", False, 128))
    frame, state = mdp.reset(jax.random.key(8), params)
    frame, state, *_ = mdp.step_env(
        jax.random.key(0), state, 4, params
    )  # after the first step, where the twins differ
    maps, frames, _ = saliency.get_saliency_maps(
        jax.random.key(0), agent, CONFIG, 3, (state, frame)
    )
    np.testing.assert_array_equal(frames[0], frame)
    assert maps.episode.starts[0]
    assert (frames[1] != np.asarray(frame)).any(
        axis=-1
    ).sum() > 100  # the POMDP hides the TNT again


def test_both_twins_and_a_policy_are_looked_at():
    network = ActorCriticRNN(jax.random.key(3), "gru", hidden_size=8, num_layers=1)
    for partial_obs in (False, True):
        config = {"env": "NavigatorEasy", "partial": partial_obs}
        maps, frames, _ = saliency.get_saliency_maps(
            jax.random.key(1), network, config, 6, target="log_probability", sample=True
        )
        tnt = (frames[-1] == frames[0]).all()
        assert maps[-1].shape == (len(frames), 128, 128, 3)
        assert maps[-1].any() and tnt != partial_obs or len(frames) > 1
        np.testing.assert_allclose(maps.episode.probabilities.sum(1), 1, rtol=1e-5)
        assert maps.episode.values.shape == (len(frames), 1)


# --- errors --------------------------------------------------------------------------------------


def test_errors_name_what_is_allowed(agent):

    def play(**changes):
        saliency.get_saliency_maps(jax.random.key(0), agent, {**CONFIG, **changes})

    with pytest.raises(ValueError, match="no target 'chosen_valu'; the nearest are: chosen_value"):
        saliency.get_saliency_maps(jax.random.key(0), agent, CONFIG, target="chosen_valu")
    with pytest.raises(ValueError, match="log_probability needs a policy"):
        SaliencyMaps(network("gru"), *sequence(3, SIZE), "log_probability")[0]
    with pytest.raises(ValueError, match="nearest are: NavigatorEasy"):
        play(ENV_NAME="NavigatorEasyy")
    with pytest.raises(ValueError, match="does not accept frames of 256 x 256 pixels"):
        play(OBS_SIZE=256)
    with pytest.raises(ValueError, match="needs PARTIAL or partial, but it has only ENV_NAME"):
        saliency.get_saliency_maps(jax.random.key(0), agent, {"ENV_NAME": "NavigatorEasy"})
    with pytest.raises(
        ValueError, match="max_steps must be at least 1, but it is 0; the nearest is 1"
    ):
        saliency.get_saliency_maps(jax.random.key(0), agent, CONFIG, max_steps=0)
    with pytest.raises(ValueError, match="sample=True needs a policy"):
        saliency.get_saliency_maps(jax.random.key(0), agent, CONFIG, sample=True)
    with pytest.raises(
        ValueError, match=r"must be uint8\[128, 128, 3\], but its shape is \(4, 4, 3\)"
    ):
        saliency.get_saliency_maps(
            jax.random.key(0), agent, CONFIG, None, (None, np.zeros((4, 4, 3)))
        )


def test_a_sequence_must_be_one():
    model, (frames, last, starts, actions) = linear_recurrence(), sequence(4)
    with pytest.raises(ValueError, match="the lengths are .*'actions': 3"):
        SaliencyMaps(model, frames, last, starts, actions[:3])
    with pytest.raises(ValueError, match="at least one frame"):
        SaliencyMaps(model, frames[:0], last[:0], starts[:0], actions[:0])
    with pytest.raises(
        ValueError, match="side must be one of 1, 2, 4, but it is 3; the nearest is 2"
    ):
        SaliencyMaps(model, frames, last, starts, actions).pooled(3)
    with pytest.raises(IndexError):
        SaliencyMaps(model, frames, last, starts, actions)[4]
