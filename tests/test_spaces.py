"""Tests of spaces.py: sampling, membership and the checks of arguments."""

import argparse
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade import make, spaces
from popgym_arcade.spaces import Box, Dict, Discrete

KEYS = {"typed": jax.random.key, "raw": jax.random.PRNGKey}


def samples(space, count, make_key=jax.random.key, seed=0):
    """Sample under jit and vmap: NumPy dtype[count, *shape]."""
    return np.asarray(jax.jit(jax.vmap(space.sample))(jax.random.split(make_key(seed), count)))


def eagerly_and_jitted(space, x):
    """Whether a space contains a jax array; eager and jitted must agree and return bool[]."""
    answers = space.contains(x), jax.jit(space.contains)(x)
    for answer in answers:
        assert isinstance(answer, jax.Array) and answer.shape == () and answer.dtype == bool
    assert bool(answers[0]) == bool(answers[1])
    return bool(answers[0])


# --- Discrete ------------------------------------------------------------------------------------


@pytest.mark.parametrize("make_key", KEYS.values(), ids=KEYS)
def test_discrete_samples_uniformly(make_key):
    drawn = samples(Discrete(5), 5000, make_key)
    assert drawn.dtype == np.int32 and drawn.shape == (5000,)
    counts = np.bincount(drawn, minlength=5)
    assert len(counts) == 5 and np.all(np.abs(counts - 1000) < 150)  # five standard deviations


def test_discrete_samples_up_to_the_maximum_of_its_dtype():
    drawn = samples(Discrete(256, jnp.uint8), 5000)
    assert drawn.dtype == np.uint8
    assert set(drawn.tolist()) == set(range(256))


def test_discrete_of_one_element_samples_only_zero():
    assert set(samples(Discrete(1), 20).tolist()) == {0}


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.int16, jnp.int32, jnp.uint32])
@pytest.mark.parametrize("value, inside", [(0, True), (4, True), (5, False), (100, False)])
def test_discrete_contains_integers_of_any_dtype_below_n(dtype, value, inside):
    assert eagerly_and_jitted(Discrete(5), jnp.asarray(value, dtype)) is inside


def test_discrete_does_not_contain_a_negative_number():
    assert not eagerly_and_jitted(Discrete(5), jnp.int32(-1))
    assert not eagerly_and_jitted(Discrete(5), jnp.int8(-128))


@pytest.mark.parametrize(
    "n, dtype, value",
    [(256, jnp.uint8, 255), (300, jnp.uint8, 3), (200, jnp.int8, 127), (2**31, jnp.int32, 7)],
)
def test_discrete_contains_a_number_whose_dtype_cannot_hold_n(n, dtype, value):
    # jnp.int8(3) < 200 is false: jax wraps 200 to -56.
    assert eagerly_and_jitted(Discrete(n), jnp.asarray(value, dtype))


@pytest.mark.parametrize(
    "value, inside",
    [(0, True), (4, True), (5, False), (-1, False), (2**32 + 1, False), (2**70, False)],
)
def test_discrete_accepts_python_integers_of_any_size(value, inside):
    answer = Discrete(5).contains(value)
    assert isinstance(answer, jax.Array) and answer.dtype == bool and bool(answer) is inside


@pytest.mark.parametrize("value", [2**32, 2**32 + 1, -(2**32)])
def test_discrete_does_not_truncate_a_numpy_integer(value):
    assert not Discrete(5).contains(np.int64(value))
    assert Discrete(5).contains(np.int64(3))


@pytest.mark.parametrize(
    "value",
    [True, False, np.True_, 1.0, np.float32(1), jnp.bool_(True), jnp.float32(1), float("nan")],
)
def test_discrete_contains_neither_bools_nor_floats(value):
    assert not Discrete(5).contains(value)
    assert not jax.jit(Discrete(5).contains)(value)


@pytest.mark.parametrize("shape", [(1,), (0,), (2, 3)])
def test_discrete_contains_no_array(shape):
    assert not eagerly_and_jitted(Discrete(5), jnp.zeros(shape, jnp.int32))
    assert not Discrete(5).contains(np.zeros(shape, np.int32))


def test_spaces_contain_no_prng_key():
    assert not Discrete(5).contains(jax.random.key(0))
    assert not Box(0, 255, (), jnp.uint8).contains(jax.random.key(0))


def test_discrete_checks_each_element_of_a_batch_under_vmap():
    answers = jax.jit(jax.vmap(Discrete(5).contains))(jnp.arange(-2, 7))
    np.testing.assert_array_equal(
        answers, [False, False, True, True, True, True, True, False, False]
    )


def test_the_shape_of_discrete_is_that_of_its_samples():
    assert Discrete(5).shape == Discrete(5).sample(jax.random.key(0)).shape == ()


# --- Box -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make_key", KEYS.values(), ids=KEYS)
def test_a_byte_box_samples_every_byte(make_key):
    drawn = samples(Box(0, 255, (8, 8, 3), jnp.uint8), 100, make_key)
    assert drawn.dtype == np.uint8 and drawn.shape == (100, 8, 8, 3)
    counts = np.bincount(drawn.ravel(), minlength=256)
    assert np.all(np.abs(counts - 75) < 50)


@pytest.mark.parametrize("make_key", KEYS.values(), ids=KEYS)
def test_a_float_box_samples_its_range_uniformly(make_key):
    drawn = samples(Box(-2.0, 6.0, (3,)), 2000, make_key)
    assert drawn.dtype == np.float32 and drawn.shape == (2000, 3)
    counts, _ = np.histogram(drawn, bins=8, range=(-2, 6))
    assert counts.sum() == 6000 and np.all(np.abs(counts - 750) < 130)


@pytest.mark.parametrize(
    "low, high, dtype, expected",
    [
        (-2, 2, jnp.int32, {-2, -1, 0, 1, 2}),
        (-1.5, 1.5, jnp.int8, {-1, 0, 1}),  # the integers in between, not truncated bounds
        (0.5, 2.5, jnp.uint8, {1, 2}),
        (-3.5, -2.5, jnp.int32, {-3}),
        (-5, 1, jnp.uint8, {0, 1}),
        (253, 1000, jnp.uint8, {253, 254, 255}),
        (2**31 - 3, 2**31 - 1, jnp.int32, {2**31 - 3, 2**31 - 2, 2**31 - 1}),
        (2**32 - 3, 2**32 - 1, jnp.uint32, {2**32 - 3, 2**32 - 2, 2**32 - 1}),
        (0, 1, bool, {False, True}),
        (1, 1, bool, {True}),
    ],
)
def test_an_integer_box_samples_every_integer_between_its_bounds(low, high, dtype, expected):
    drawn = samples(Box(low, high, (), dtype), 200)
    assert drawn.dtype == np.dtype(dtype)
    assert set(drawn.tolist()) == expected


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.int32, jnp.uint32])
def test_an_unbounded_integer_box_samples_the_range_of_its_dtype(dtype):
    limits = np.iinfo(np.dtype(dtype))
    drawn = samples(Box(-np.inf, np.inf, (), dtype), 2000).astype(np.float64)
    quarters, _ = np.histogram(drawn, bins=4, range=(limits.min, limits.max))
    assert np.all(np.abs(quarters - 500) < 110)


@pytest.mark.parametrize(
    "low, high", [(-np.inf, np.inf), (0, np.inf), (-3e38, 3e38), (1.0, 0.0), (0.0, np.nan)]
)
def test_a_float_box_with_invalid_bounds_cannot_be_sampled(low, high):
    message = f"cannot sample float32 in [{low}, {high}]: the bounds must be finite"
    with pytest.raises(ValueError, match=re.escape(message)):
        Box(low, high, (2,)).sample(jax.random.key(0))


def test_an_empty_integer_box_cannot_be_sampled():
    with pytest.raises(
        ValueError, match=re.escape("cannot sample uint8 in [300, 400]: it holds no uint8")
    ):
        Box(300, 400, (2,), jnp.uint8).sample(jax.random.key(0))


@pytest.mark.parametrize(
    "space",
    [
        Discrete(5),
        Discrete(256, jnp.uint8),
        Discrete(2**31),
        Box(0, 255, (4, 4, 3), jnp.uint8),
        Box(-1.0, 1.0, (7,)),
        Box(0.1, 0.2, (7,), jnp.float16),
        Box(-128, 127, (7,), jnp.int8),
        Box(-(2**31), 2**31 - 1, (7,), jnp.int32),
        Box(0, 2**31 - 1, (7,), jnp.int32),
        Box(0, 1, (7,), bool),
    ],
    ids=str,
)
def test_a_space_contains_what_it_samples(space):
    drawn = samples(space, 100)
    assert np.all(jax.jit(jax.vmap(space.contains))(drawn))
    assert len(np.unique(drawn, axis=0)) > 1
    assert space.contains(drawn[0])


@pytest.mark.parametrize("low, high", [(-1.0, 1.0), (-0.25, 0.75)])
def test_a_box_includes_its_bounds_and_nothing_beyond(low, high):
    box = Box(low, high, (2,))
    assert eagerly_and_jitted(box, jnp.float32([low, high]))
    below, above = (
        np.nextafter(np.float32(low), np.float32(-9)),
        np.nextafter(np.float32(high), np.float32(9)),
    )
    assert not eagerly_and_jitted(box, jnp.float32([below, high]))
    assert not eagerly_and_jitted(box, jnp.float32([low, above]))


@pytest.mark.parametrize("values, inside", [([0, 255], True), ([1, 200], True), ([0, 0], True)])
def test_a_byte_box_contains_every_byte(values, inside):
    assert eagerly_and_jitted(Box(0, 255, (2,), jnp.uint8), jnp.uint8(values)) is inside


@pytest.mark.parametrize("values, inside", [([10, 20], True), ([9, 20], False), ([10, 21], False)])
def test_a_narrower_byte_box_checks_its_bounds(values, inside):
    assert eagerly_and_jitted(Box(10, 20, (2,), jnp.uint8), jnp.uint8(values)) is inside
    assert eagerly_and_jitted(Box(9.5, 20.5, (2,), jnp.uint8), jnp.uint8(values)) is inside


@pytest.mark.parametrize(
    "low, high, inside",
    [(-1, 300, True), (-np.inf, np.inf, True), (300, 400, False), (-5, -1, False)],
)
def test_the_bounds_of_an_integer_box_may_exceed_its_dtype(low, high, inside):
    # jnp.uint8(3) >= -1 is false: jax wraps -1 to 255.
    assert eagerly_and_jitted(Box(low, high, (2,), jnp.uint8), jnp.uint8([3, 255])) is inside


def test_large_integers_are_compared_exactly():
    assert not eagerly_and_jitted(Box(0, float(2**24), (), jnp.int32), jnp.int32(2**24 + 1))
    assert eagerly_and_jitted(Box(0, float(2**24), (), jnp.int32), jnp.int32(2**24))


@pytest.mark.parametrize("other", [jnp.int8, jnp.uint32, jnp.int32, jnp.float32, bool])
def test_a_box_contains_no_array_of_another_dtype(other):
    box = Box(0, 255, (2,), jnp.uint8)
    assert eagerly_and_jitted(box, jnp.zeros(2, jnp.uint8))
    assert not eagerly_and_jitted(box, jnp.zeros(2, other))


def test_a_64_bit_numpy_array_is_not_an_element_of_a_32_bit_box():
    assert not Box(-1, 1, (2,)).contains(np.zeros(2, np.float64))
    assert not Box(-1, 1, (2,), jnp.int32).contains(np.full(2, 2**32))
    assert Box(-1, 1, (2,)).contains(np.zeros(2, np.float32))


def test_python_numbers_are_converted_to_jax_arrays():
    assert Box(-1, 1, (2,)).contains([0.5, -0.5])
    assert not Box(-1, 1, (2,)).contains([0.5, 1.5])
    assert not Box(-1, 1, (2,)).contains([0, 1])  # integers
    assert not Box(0, 1, (), jnp.int32).contains(2**40)


@pytest.mark.parametrize("shape", [(), (3,), (1, 2), (2, 1), (0,)])
def test_a_box_contains_no_array_of_another_shape(shape):
    box = Box(0, 255, (2,), jnp.uint8)
    assert not eagerly_and_jitted(box, jnp.zeros(shape, jnp.uint8))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bounded_box_contains_neither_nan_nor_infinity(bad):
    assert not eagerly_and_jitted(Box(-1.0, 1.0, (3,)), jnp.float32([0.0, bad, 0.0]))


def test_an_unbounded_box_contains_infinity_but_not_nan():
    assert eagerly_and_jitted(Box(-np.inf, np.inf, (2,)), jnp.float32([np.inf, -np.inf]))
    assert not eagerly_and_jitted(Box(-np.inf, np.inf, (2,)), jnp.float32([0.0, np.nan]))


def test_a_box_checks_each_element_of_a_batch_under_vmap():
    batch = jnp.float32([[0.0, 0.5], [0.0, 1.5], [-2.0, 0.0], [1.0, -1.0]])
    np.testing.assert_array_equal(
        jax.jit(jax.vmap(Box(-1.0, 1.0, (2,)).contains))(batch), [True, False, False, True]
    )


# --- the spaces of an environment ----------------------------------------------------------------


@pytest.mark.parametrize("obs_size", [128, pytest.param(256, marks=pytest.mark.slow)])
def test_an_environments_spaces_contain_its_actions_and_frames(obs_size):
    env, params = make("NavigatorEasy", obs_size=obs_size)
    observation, _ = jax.jit(env.reset)(jax.random.key(0), params)
    assert env.observation_space(params).shape == (obs_size, obs_size, 3)
    assert env.observation_space(params).contains(observation)
    assert not env.observation_space(params).contains(observation[:-1])
    assert not env.observation_space(params).contains(observation.astype(jnp.int32))
    actions = samples(env.action_space(params), 200)
    assert set(actions.tolist()) == set(range(env.num_actions))


def test_a_dict_contains_one_element_of_each_space():
    space = Dict({"a": Discrete(3), "b": Box(0, 255, (2, 2), np.uint8)})
    sample = jax.jit(space.sample)(jax.random.key(0))
    assert space.contains(sample) and set(sample) == {"a", "b"}
    assert not space.contains({"a": sample["a"]}) and not space.contains(sample["a"])
    assert not space.contains({**sample, "a": jnp.int32(3)}) and not space.contains(
        {**sample, "b": sample["b"][0]}
    )


# --- arguments -----------------------------------------------------------------------------------

NAMES = ("NavigatorEasy", "NavigatorHard", "TetrisEasy")


@pytest.mark.parametrize("name", NAMES)
def test_a_known_name_is_accepted(name):
    spaces.check_name("environment", name, NAMES)
    spaces.check_name("environment", name, iter(NAMES))


@pytest.mark.parametrize(
    "name, message",
    [
        (
            "NavigatorHrd",
            "there is no environment 'NavigatorHrd'; the nearest are: "
            "NavigatorHard, NavigatorEasy; or pass a function",
        ),
        (
            "tetriseasy",  # upper and lower case differ
            "there is no environment 'tetriseasy'; the nearest are: TetrisEasy; or pass a function",
        ),
        (
            "?",
            "there is no environment '?'; there are: NavigatorEasy, NavigatorHard, TetrisEasy; "
            "or pass a function",
        ),
        (
            None,
            "there is no environment None; there are: NavigatorEasy, NavigatorHard, TetrisEasy; "
            "or pass a function",
        ),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, message):
    with pytest.raises(ValueError, match=re.escape(message) + "$"):
        spaces.check_name("environment", name, iter(NAMES), "; or pass a function")


@pytest.mark.parametrize("value", [0, 0.5, 1, np.float32(1), jnp.float32(0.25)])
def test_a_value_in_range_is_accepted(value):
    spaces.check_range("probability", value, 0, 1)


@pytest.mark.parametrize(
    "value, low, high, message",
    [
        (1.5, 0, 1, "p must be in [0, 1], but it is 1.5; the nearest is 1"),
        (-3, 0, 0.75, "p must be in [0, 0.75], but it is -3; the nearest is 0"),
        (0, 1, math.inf, "p must be at least 1, but it is 0; the nearest is 1"),
        (
            math.inf,
            0,
            10**9,
            "p must be in [0, 1000000000], but it is inf; the nearest is 1000000000",
        ),
        (math.nan, 0, 1, "p must be in [0, 1], but it is nan; the nearest is 0"),
    ],
)
def test_a_value_out_of_range_is_answered_with_the_nearest_bound(value, low, high, message):
    with pytest.raises(ValueError, match=re.escape(message) + "$"):
        spaces.check_range("p", value, low, high)


def test_a_hint_follows_the_allowed_range():
    with pytest.raises(ValueError, match=re.escape("must be in [1, 2], the devices here, but")):
        spaces.check_range("devices", 3, 1, 2, ", the devices here")


@pytest.mark.parametrize(
    "value, nearest", [(9, 8), (10, 8), (11, 12), (1, 4), (0, None), (8, None)]
)
def test_a_multiple_is_accepted_and_anything_else_answered_with_the_nearest(value, nearest):
    if nearest is None:
        spaces.check_multiple("num_envs", value, "devices", 4)
        return
    message = (
        f"num_envs must be a multiple of devices, 4, but it is {value}; the nearest is {nearest}"
    )
    with pytest.raises(ValueError, match=re.escape(message) + "$"):
        spaces.check_multiple("num_envs", value, "devices", 4)


@pytest.mark.parametrize(
    "value, allowed, message",
    [
        (200, (128, 256), "must be one of 128, 256, but it is 200; the nearest is 256"),
        (
            "ful",
            ("full", "cut"),
            "must be one of 'full', 'cut', but it is 'ful'; the nearest is 'full'",
        ),
        ("???", ("full", "cut"), "must be one of 'full', 'cut', but it is '???'; the nearest is '"),
        (3, range(4, 21), "must be in [4, 20], but it is 3; the nearest is 4"),
        (21, range(4, 21), "must be in [4, 20], but it is 21; the nearest is 20"),
        (5, range(6, 21, 2), "must be one of 6, 8, ..., 20, but it is 5; the nearest is 6"),
        (9, range(6, 21, 2), "must be one of 6, 8, ..., 20, but it is 9; the nearest is 8"),
        (99, range(6, 21, 2), "must be one of 6, 8, ..., 20, but it is 99; the nearest is 20"),
    ],
)
def test_a_choice_that_is_not_allowed_is_answered_with_the_nearest(value, allowed, message):
    with pytest.raises(ValueError, match=re.escape(f"size {message}")):
        spaces.check_choice("size", value, allowed)
    for choice in allowed:
        spaces.check_choice("size", choice, allowed)


@pytest.mark.parametrize(
    "value, allowed", [(3, ("full", "cut")), ("full", (128, 256)), (None, range(4)), ([], ("a",))]
)
def test_a_choice_of_another_type_is_a_type_error(value, allowed):
    with pytest.raises(TypeError, match=re.escape(f"but it is {value!r}")):
        spaces.check_choice("size", value, allowed)


def test_a_number_on_the_command_line_is_checked(capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=spaces.number_argument(1, 8))
    parser.add_argument("--sigma", type=spaces.number_argument(0.5, type_=float))
    options = parser.parse_args(["--count", "8", "--sigma", "2.5"])
    assert options.count == 8 and isinstance(options.count, int) and options.sigma == 2.5
    for arguments, message in (
        (["--count", "9"], "argument --count: must be in [1, 8], but it is 9; the nearest is 8"),
        (["--count", "1.5"], "argument --count: invalid int value: '1.5'"),
        (["--sigma", "0"], "argument --sigma: must be at least 0.5, but it is 0.0; the nearest is"),
        (["--sigma", "wide"], "argument --sigma: invalid float value: 'wide'"),
    ):
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(arguments)
        assert ended.value.code == 2 and message in capsys.readouterr().err


def test_evenly_spaced_indices_hold_the_first_and_the_last():
    assert spaces.evenly_spaced(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert spaces.evenly_spaced(100, 3).tolist() == [0, 50, 99]
    assert spaces.evenly_spaced(1, 3).tolist() == [0]
