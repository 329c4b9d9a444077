"""Tests of the networks: every memory, convolutions, image sizes, MinGRU, and saved weights."""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.testing import assert_same, client

eqx = client("equinox")
client("memax")

from memax.equinox.train_utils import get_residual_memory_models  # noqa: E402, because memax may be missing

from popgym_arcade.baselines.model import builder, memory  # noqa: E402

SIZE, STEPS, BATCH = 8, 24, 3  # STEPS: longer than any memory's window
CUT = 7  # an episode begins here, in some of the tests
every_memory = pytest.mark.parametrize("name", memory.memory_names())
FORGETFUL = ("none", "mlp")


def make(name, seed=0, network=builder.QNetworkRNN, size=SIZE):
    """A tiny network."""
    return network(jax.random.key(seed), name, 8, size, 1)


class Programs(NamedTuple):
    """The compiled programs that the tests run on a memory."""

    network: Any
    # (carry, features, last_actions, starts, of=network) -> (carry, values): ``decide``
    unroll: Any
    step_by_step: Any  # the same, one step at a time
    batched: Any  # the same for a batch
    # (carry, features, last_actions, starts, weights) -> gradient of (carry, features)
    gradient: Any


@cache
def programs(name):
    """The Programs of a memory."""
    network = make(name)
    static = eqx.filter(network, eqx.is_array, inverse=True)

    def compiled(function):
        on_arrays = lambda arrays, *inputs: function(eqx.combine(arrays, static), *inputs)  # noqa: E731
        jitted = jax.jit(on_arrays)
        return lambda *inputs, of=network: jax.tree.map(
            np.asarray, jitted(eqx.filter(of, eqx.is_array), *inputs)
        )

    def unroll(network, carry, *sequence):
        return network.decide(carry, *sequence)

    def step_by_step(network, carry, *sequence):
        def one_step(carry, step):
            carry, values = network.decide(carry, *jax.tree.map(lambda leaf: leaf[None], step))
            return carry, values[0]

        return jax.lax.scan(one_step, carry, sequence)

    def gradient(network, carry, features, last_actions, starts, weights):
        floats, others = eqx.partition(carry, eqx.is_inexact_array)
        values, back = jax.vjp(
            lambda floats, features: network.decide(
                eqx.combine(floats, others), features, last_actions, starts
            )[1],
            floats,
            features,
        )
        return back(weights * jnp.ones_like(values))

    batched = jax.vmap(unroll, in_axes=(None, 0, 0, 0, 0))
    return Programs(network, *map(compiled, (unroll, step_by_step, batched, gradient)))


def sequence(seed=0, starts=(0,), shape=(STEPS,)):
    """Random inputs of ``decide``: (features, last_actions, starts)."""
    rng = np.random.default_rng(seed)
    flags = np.zeros(shape, bool)
    flags[..., list(starts)] = True
    return (
        rng.normal(size=(*shape, SIZE)).astype(np.float32),
        rng.integers(-1, 5, shape).astype(np.int32),
        flags,
    )


def spliced(before, after, cut=CUT):
    """Splice the inputs of two sequences: one before a step, the other from there on."""
    return tuple(np.concatenate([one[:cut], other[cut:]]) for one, other in zip(before, after))


def initial_carry(name):
    """The initial carry of a memory."""
    return jax.tree.map(np.asarray, programs(name).network.initialize_carry())


def garbage_carry(name):
    """A carry from some other sequence, with its signs flipped."""
    carry, _ = programs(name).unroll(initial_carry(name), *sequence(seed=9))
    return jax.tree.map(lambda leaf: -3 * leaf + 2 if leaf.dtype.kind in "fc" else leaf, carry)


def assert_close(one, other):
    """Two trees of arrays are equal to rounding."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, other)


# --- what holds for every memory -----------------------------------------------------------------


@every_memory
def test_a_sequence_read_at_once_gives_what_reading_it_step_by_step_gives(name):
    inputs = sequence(starts=(0, 5, 6, 15))
    carry, values = programs(name).unroll(initial_carry(name), *inputs)
    carry_of_steps, values_of_steps = programs(name).step_by_step(initial_carry(name), *inputs)
    assert_close(values, values_of_steps)
    assert_close(carry, carry_of_steps)
    _, later = programs(name).unroll(carry, *sequence(seed=1, starts=()))
    _, later_of_steps = programs(name).step_by_step(carry_of_steps, *sequence(seed=1, starts=()))
    assert_close(later, later_of_steps)


@every_memory
def test_reading_in_pieces_gives_what_reading_at_once_gives(name):
    whole = sequence(starts=(0,), shape=(2 * STEPS,))
    _, values = programs(name).step_by_step(initial_carry(name), *whole)
    carry, first = programs(name).unroll(initial_carry(name), *(leaf[:STEPS] for leaf in whole))
    _, second = programs(name).unroll(carry, *(leaf[STEPS:] for leaf in whole))
    assert_close(np.concatenate([first, second]), values)


@every_memory
def test_nothing_before_a_start_flag_changes_what_comes_after_it(name):
    inputs = sequence(starts=(CUT,))
    _, values = programs(name).unroll(initial_carry(name), *inputs)
    _, others = programs(name).unroll(garbage_carry(name), *spliced(sequence(seed=1), inputs))
    assert_close(values[CUT:], others[CUT:])


@every_memory
def test_after_a_start_flag_a_memory_is_as_it_was_at_first(name):
    inputs = sequence(starts=(CUT,))
    _, values = programs(name).unroll(garbage_carry(name), *inputs)
    shifted = tuple(np.roll(leaf, -CUT, axis=0) for leaf in inputs)
    for fresh in (
        shifted,
        (*shifted[:2], np.zeros(STEPS, bool)),
    ):  # a flag on the first frame has no effect
        _, alone = programs(name).unroll(initial_carry(name), *fresh)
        assert_close(values[CUT:], alone[: STEPS - CUT])


@every_memory
def test_a_start_flag_in_the_middle_makes_a_difference_to_those_that_remember(name):
    features, last_actions, _ = sequence()
    _, with_flag = programs(name).unroll(
        initial_carry(name), features, last_actions, sequence(starts=(CUT,))[2]
    )
    _, without = programs(name).unroll(
        initial_carry(name), features, last_actions, np.zeros(STEPS, bool)
    )
    assert np.allclose(with_flag[CUT:], without[CUT:], atol=1e-5) == (name in FORGETFUL)


@every_memory
def test_no_gradient_crosses_a_start_flag(name):
    weights = (np.arange(STEPS) >= CUT).astype(np.float32)[:, None]
    of_carry, of_features = programs(name).gradient(
        garbage_carry(name), *sequence(starts=(CUT,)), weights
    )
    assert not of_features[:CUT].any() and of_features[CUT:].any()
    assert not any(leaf.any() for leaf in jax.tree.leaves(of_carry))


@every_memory
def test_without_a_start_flag_the_gradient_reaches_the_past_if_there_is_a_memory(name):
    steps = np.arange(STEPS)
    weights = ((steps >= CUT) & (steps < CUT + 5)).astype(np.float32)[:, None]
    of_carry, of_features = programs(name).gradient(
        initial_carry(name), *sequence(starts=()), weights
    )
    assert of_features[CUT : CUT + 5].any() and not of_features[CUT + 5 :].any()
    assert of_features[:CUT].any() == (name not in FORGETFUL)
    assert np.isfinite(of_features).all() and all(
        np.isfinite(leaf).all() for leaf in jax.tree.leaves(of_carry)
    )


@every_memory
def test_no_output_depends_on_later_frames_or_actions(name):
    inputs = sequence(starts=(0,))
    _, values = programs(name).unroll(initial_carry(name), *inputs)
    _, others = programs(name).unroll(
        initial_carry(name), *spliced(inputs, sequence(seed=1, starts=(CUT + 2,)))
    )
    assert_close(values[:CUT], others[:CUT])
    assert not np.allclose(values[CUT], others[CUT], atol=1e-5)


@every_memory
def test_outputs_depend_on_earlier_frames_unless_there_is_no_memory(name):
    inputs = sequence(starts=(0,))
    _, values = programs(name).unroll(initial_carry(name), *inputs)
    earlier_frame = inputs[0].copy()
    earlier_frame[CUT - 2] += 1
    _, others = programs(name).unroll(initial_carry(name), earlier_frame, *inputs[1:])
    assert np.allclose(values[CUT:], others[CUT:], atol=1e-5) == (name in FORGETFUL)


@every_memory
def test_the_previous_action_is_seen_by_all_but_the_memoryless(name):
    features, last_actions, starts = sequence()
    _, values = programs(name).unroll(initial_carry(name), features, last_actions, starts)
    _, others = programs(name).unroll(initial_carry(name), features, (last_actions + 2) % 5, starts)
    if name == "none":
        np.testing.assert_array_equal(values, others)
    else:
        assert (np.abs(values - others) > 1e-4).any(
            axis=-1
        ).mean() > 0.5  # in so small a network some gates are closed


@every_memory
def test_a_batch_gives_what_its_sequences_give_one_by_one(name):
    inputs = sequence(starts=(0, 5), shape=(BATCH, STEPS))
    carries = jax.tree.map(
        lambda *leaves: np.stack(leaves), *[initial_carry(name)] * (BATCH - 1), garbage_carry(name)
    )
    carry, values = programs(name).batched(carries, *inputs)
    for i in range(BATCH):
        carry_of_one, of_one = programs(name).unroll(
            *jax.tree.map(lambda leaf, i=i: leaf[i], (carries, *inputs))
        )
        assert_close(values[i], of_one)
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], carry), carry_of_one)


@every_memory
def test_a_name_is_taken_in_any_case(name):
    for spelt in (name.upper(), name.title()):
        assert_same(eqx.filter(make(spelt), eqx.is_array), eqx.filter(make(name), eqx.is_array))


@every_memory
def test_saved_weights_loaded_into_a_fresh_network_give_the_same_outputs(name, tmp_path):
    eqx.tree_serialise_leaves(tmp_path / "network.eqx", make(name))
    loaded = eqx.tree_deserialise_leaves(tmp_path / "network.eqx", make(name, seed=1))
    carry = jax.tree.map(np.asarray, loaded.initialize_carry())
    assert_same(
        programs(name).unroll(carry, *sequence(), of=loaded),
        programs(name).unroll(initial_carry(name), *sequence()),
    )


# --- names ---------------------------------------------------------------------------------------


def test_the_names_are_those_of_memax_and_none_and_mingru():
    models = eqx.filter_eval_shape(
        lambda key: get_residual_memory_models(8, 8, 8, key=key), jax.random.key(0)
    )
    assert sorted(memory.memory_names()) == sorted(
        ["none", "mingru", *(name.lower() for name in models)]
    )
    assert {"lru", "gru", "lstm", "ffm", "s6", "attention"} <= set(memory.memory_names())
    assert all(name == name.lower() for name in memory.memory_names())


@pytest.mark.parametrize("make_network", [builder.QNetworkRNN, builder.ActorCriticRNN])
@pytest.mark.parametrize(
    ("name", "nearest"), [("lur", "lru"), ("GRUU", "gru"), ("nnoe", "none"), ("min-gru", "mingru")]
)
def test_an_unknown_name_is_refused_with_the_nearest(make_network, name, nearest):
    with pytest.raises(
        ValueError, match=f"there is no memory '{name}'; the nearest are: .*\\b{nearest}\\b"
    ):
        make(name, network=make_network)


# --- the networks --------------------------------------------------------------------------------


def frames(count, size=8, seed=0):
    """Frames of noise: uint8[count, size, size, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


@pytest.mark.parametrize("make_network", [builder.QNetworkRNN, builder.ActorCriticRNN])
def test_a_call_is_encode_and_then_decide(make_network):
    network = make("gru", network=make_network)
    _, last_actions, starts = sequence(starts=(0, 5))
    carry, outputs = eqx.filter_jit(network)(
        network.initialize_carry(), frames(STEPS), last_actions, starts
    )
    features = network.encode(frames(STEPS))
    assert features.shape == (STEPS, SIZE)
    assert_close(
        eqx.filter_jit(network.decide)(network.initialize_carry(), features, last_actions, starts),
        (carry, outputs),
    )


@pytest.mark.parametrize("make_network", [builder.QNetworkRNN, builder.ActorCriticRNN])
def test_outputs_are_a_number_for_each_action_and_the_value(make_network):
    network = make("gru", network=make_network)
    _, outputs = network.decide(network.initialize_carry(), *sequence())
    shapes = [(STEPS, 5)] if make_network is builder.QNetworkRNN else [(STEPS, 5), (STEPS,)]
    assert [leaf.shape for leaf in jax.tree.leaves(outputs)] == shapes
    assert all(leaf.dtype == jnp.float32 and np.ptp(leaf) > 0 for leaf in jax.tree.leaves(outputs))


def test_an_actor_critic_forgets_at_a_start_flag_too():
    network = make("gru", network=builder.ActorCriticRNN)
    inputs, read = sequence(starts=(CUT,)), eqx.filter_jit(network.decide)
    _, outputs = read(network.initialize_carry(), *inputs)
    _, others = read(network.initialize_carry(), *spliced(sequence(seed=1), inputs))
    for one, other in zip(outputs, others):
        assert_close(one[CUT:], other[CUT:])
        assert not np.allclose(one[:CUT], other[:CUT])


def test_bytes_and_floats_that_are_scaled_already_give_the_same():
    network, observations = make("none"), frames(4)
    assert_close(
        network.encode(observations), network.encode(observations.astype(np.float32) / 255)
    )
    assert builder.scaled(jnp.uint8(255)) == 1 and builder.scaled(jnp.float32(0.5)) == 0.5


def test_frames_may_have_any_leading_axes():
    network, observations = make("none"), frames(6)
    assert_close(
        network.encode(observations.reshape(2, 3, 8, 8, 3)).reshape(6, SIZE),
        network.encode(observations),
    )


def test_the_first_policy_is_nearly_uniform():
    network = make("lru", network=builder.ActorCriticRNN, size=256)
    features = 3 * np.random.default_rng(0).normal(size=(STEPS, 256)).astype(np.float32)
    read = eqx.filter_jit(network.decide)
    _, (logits, _) = read(network.initialize_carry(), features, *sequence()[1:])
    assert np.abs(jax.nn.softmax(logits) - 0.2).max() < 0.04


# --- the encoder ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 9, 16, 84, 96, 128, 192, 256])
def test_frames_of_any_size_give_features_and_are_halved_down_to_four_pixels(size):
    encoder = eqx.filter_eval_shape(lambda key: builder.Encoder(size, 32, key), jax.random.key(0))
    features = eqx.filter_eval_shape(
        lambda encoder, images: encoder(images), encoder, jnp.zeros((2, size, size, 3))
    )
    assert features.shape == (2, 32)
    side = int(np.sqrt(encoder.dense.in_features / encoder.convolutions[-1].kernel.shape[-1]))
    assert 2 <= side <= 4


def test_a_frame_that_is_too_small_is_refused_with_the_least_size():
    with pytest.raises(
        ValueError, match="obs_size must be at least 8, but it is 7; the nearest is 8"
    ):
        builder.QNetworkRNN(jax.random.key(0), "none", obs_size=7)


@pytest.mark.parametrize(
    ("patch_size", "sides"), [(1, [128, 64, 32, 16, 8, 4]), (8, [16, 8, 4]), (128, [1])]
)
def test_the_encoder_starts_from_patches(patch_size, sides):
    encoder = eqx.filter_eval_shape(
        lambda key: builder.Encoder(128, 32, key, patch_size), jax.random.key(0)
    )
    assert encoder.convolutions[0].kernel.shape[:2] == (patch_size, patch_size)
    strides = [convolution.stride for convolution in encoder.convolutions]
    assert [128 // int(np.prod(strides[: n + 1])) for n in range(len(strides))] == sides
    assert encoder.dense.in_features == sides[-1] ** 2 * (32 if len(sides) == 1 else 64)


@pytest.mark.parametrize(("patch_size", "nearest"), [(0, 1), (9, 8)])
def test_a_patch_is_a_pixel_or_more_and_not_larger_than_the_frame(patch_size, nearest):
    message = rf"patch_size must be in \[1, 8\], but it is {patch_size}; the nearest is {nearest}"
    with pytest.raises(ValueError, match=message):
        builder.QNetworkRNN(jax.random.key(0), "none", obs_size=8, patch_size=patch_size)


@pytest.mark.parametrize(("size", "patch_size"), [(8, 4), (9, 4), (18, 4), (18, 8), (9, 9)])
def test_every_pixel_and_color_matters(size, patch_size):
    encoder = builder.Encoder(size, 16, jax.random.key(0), patch_size)
    images, weights = (
        jnp.asarray(frames(3, size)) / 255,
        jax.random.normal(jax.random.key(1), (3, 16)),
    )
    gradient = eqx.filter_jit(jax.grad(lambda images: (encoder(images) * weights).sum()))(images)
    assert gradient.any(axis=0).all()


@pytest.mark.parametrize("normalized", [False, True])
def test_convolutions_keep_the_contrast_unless_they_are_normalized(normalized):
    convolution = builder.Convolution(3, 32, 4, 4, jax.random.key(0), normalized)
    images = jnp.asarray(frames(2)) / 255
    expected = (1 if normalized else 2) * convolution(images)
    np.testing.assert_allclose(convolution(2 * images), expected, rtol=1e-2, atol=1e-2)


def test_frames_do_not_see_each_other_in_the_encoder():
    encoder, images = builder.Encoder(8, 16, jax.random.key(0)), jnp.asarray(frames(4)) / 255
    together = encoder(images)
    assert_close(together, jnp.concatenate([encoder(image[None]) for image in images]))


# --- convolutions --------------------------------------------------------------------------------

# sides of the image, side of the kernel, stride
SHAPES = [((9, 7), 4, 4), ((7, 4), 3, 2), ((3, 5), 3, 1), ((5, 2), 4, 2)]
every_shape = pytest.mark.parametrize(("sides", "side", "stride"), SHAPES)


def images_and_kernel(sides, side, *leading):
    """Noise: (images [*leading, 2, height, width, 2], kernel [*leading, side, side, 2, 3])."""
    rng = np.random.default_rng(0)
    shapes = (*leading, 2, *sides, 2), (*leading, side, side, 2, 3)
    return tuple(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)


def convolved_by_hand(images, kernel, stride):
    """A convolution in plain loops, with "SAME" padding."""
    images, kernel = np.asarray(images, np.float64), np.asarray(kernel, np.float64)
    side, sizes = kernel.shape[0], [-(-size // stride) for size in images.shape[1:3]]
    before = [
        max((n - 1) * stride + side - size, 0) // 2 for n, size in zip(sizes, images.shape[1:3])
    ]
    result = np.zeros((images.shape[0], *sizes, kernel.shape[-1]))
    for row, column, i, j in np.ndindex(*sizes, side, side):
        y, x = row * stride + i - before[0], column * stride + j - before[1]
        if 0 <= y < images.shape[1] and 0 <= x < images.shape[2]:
            result[:, row, column] += images[:, y, x] @ kernel[i, j]
    return result


def score(images, kernel, stride, convolve=builder.convolve):
    """A scalar that depends on every element of a convolution."""
    result = convolve(images, kernel, stride)
    return (result * np.random.default_rng(1).normal(size=result.shape)).sum()


def slopes(images, kernel, stride):
    """The gradients of the score by finite differences, which are exact: it is linear in each."""
    by_hand = lambda *both: score(*both, stride, convolved_by_hand)  # noqa: E731
    of_images, of_kernel = np.zeros(images.shape), np.zeros(kernel.shape)
    for where in np.ndindex(*images.shape):
        of_images[where] = by_hand(
            np.eye(images.size)[np.ravel_multi_index(where, images.shape)].reshape(images.shape),
            kernel,
        )
    for where in np.ndindex(*kernel.shape):
        of_kernel[where] = by_hand(
            images,
            np.eye(kernel.size)[np.ravel_multi_index(where, kernel.shape)].reshape(kernel.shape),
        )
    return of_images, of_kernel


@every_shape
def test_a_convolution_is_that_of_jax_and_that_of_plain_loops(sides, side, stride):
    images, kernel = images_and_kernel(sides, side)
    found = builder.convolve(images, kernel, stride)
    of_jax = jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert_close(found, of_jax)
    assert_close(found, convolved_by_hand(images, kernel, stride))


@every_shape
def test_the_gradients_of_a_convolution_are_what_numerical_differentiation_gives(
    sides, side, stride
):
    images, kernel = images_and_kernel(sides, side)
    of_images, of_kernel = slopes(images, kernel, stride)
    assert_close(jax.grad(score, (0, 1))(images, kernel, stride), (of_images, of_kernel))
    gradient = jnp.asarray(
        np.random.default_rng(1).normal(size=builder.convolve(images, kernel, stride).shape),
        jnp.float32,
    )
    assert_close(builder._kernel_gradient(stride, images, kernel, gradient), of_kernel)
    assert_close(builder._kernel_gradient_by_columns(stride, images, kernel, gradient), of_kernel)


@pytest.mark.parametrize(("sides", "side", "stride"), SHAPES[:2])
def test_the_gradients_are_the_same_inside_of_jit_vmap_and_scan(sides, side, stride):
    images, kernels = images_and_kernel(sides, side, 2)
    gradient = jax.grad(lambda images, kernel: score(images, kernel, stride), (0, 1))
    expected = [gradient(*both) for both in zip(images, kernels)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *expected)
    assert_close(jax.jit(gradient)(images[0], kernels[0]), expected[0])
    assert_close(jax.jit(jax.vmap(gradient))(images, kernels), stacked)
    assert_close(
        jax.jit(lambda *both: jax.lax.scan(lambda _, both: (None, gradient(*both)), None, both)[1])(
            images, kernels
        ),
        stacked,
    )
    assert_close(
        jax.vmap(gradient, (0, None))(images, kernels[0])[1][0], expected[0][1]
    )  # a kernel for all images


# --- MinGRU --------------------------------------------------------------------------------------


def test_mingru_is_the_recurrence_of_its_paper():
    layer, (features, _, starts) = (
        memory.MinGRU(SIZE, jax.random.key(0)),
        sequence(starts=(0, 5, 6)),
    )
    _, outputs = eqx.filter_jit(layer)(layer.initialize_carry(), (features, starts))
    gate_weights, gate_bias, weights, bias = map(
        np.asarray,
        (layer.gate.weight, layer.gate.bias, layer.candidate.weight, layer.candidate.bias),
    )
    state = np.zeros(SIZE)
    for x, start, output in zip(features, starts, outputs):
        gate = 1 / (1 + np.exp(-(gate_weights @ x + gate_bias)))
        state = (1 - gate) * (0 if start else state) + gate * (weights @ x + bias)
        assert_close(output, state)


def test_the_memory_by_the_name_of_mingru_is_made_of_it():
    layers = builder.QNetworkRNN(
        jax.random.key(0), "MinGRU", 8, SIZE, num_layers=3
    ).trunk.memory.model.layers
    assert [type(layer) for layer in layers] == [memory.MinGRU] * 3
