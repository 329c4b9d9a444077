"""Tests of ArcadeVectorEnv, the vector of the Gymnasium adapter, against SyncVectorEnv."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.testing import FIRE, UP, client

gymnasium = client("gymnasium")

from gymnasium.error import ResetNeeded  # noqa: E402, because gymnasium may be missing
from gymnasium.vector import AutoresetMode, SyncVectorEnv  # noqa: E402

from popgym_arcade.adapters import _programs  # noqa: E402
from tests.adapters.short_navigator import (  # noqa: E402
    LIMIT,
    NUM_ENVS,
    OUTPUTS,
    RESETTING,
    STEPS,
    as_numpy,
    play,
    play_all,
    same,
    short_env,
    short_envs,
    some_actions,
)


@pytest.mark.slow
@pytest.mark.parametrize("mode", RESETTING)
def test_a_vector_plays_what_gymnasiums_own_vector_of_single_environments_plays(mode):
    sync = SyncVectorEnv([short_env] * NUM_ENVS, autoreset_mode=mode)
    envs = short_envs(autoreset_mode=mode)
    expected, got = (play_all(vector, 11, some_actions()) for vector in (sync, envs))
    for step, (one, other) in enumerate(zip(expected, got)):
        assert same(one, other), f"step {step}"
    terminations, truncations = (np.array([step[i] for step in got[1:]]) for i in (2, 3))
    assert terminations.sum() >= NUM_ENVS and truncations.sum() >= 1
    assert any("final_obs" in step[-1] for step in got) == (mode == AutoresetMode.SAME_STEP)
    # Seeds left out go on with the streams; lists of seeds leave some out.
    for seed in (None, [5, None, 7, None], [None] * NUM_ENVS):
        assert same(sync.reset(seed=seed), envs.reset(seed=seed))
    assert envs.np_random_seed == sync.np_random_seed
    assert same(sync.step([FIRE] * NUM_ENVS), envs.step([FIRE] * NUM_ENVS))


@pytest.mark.slow
@pytest.mark.parametrize("mode", [*RESETTING, AutoresetMode.DISABLED])
def test_a_reset_mask_resets_what_gymnasiums_own_vector_would(mode):
    sync, envs = (
        SyncVectorEnv([short_env] * NUM_ENVS, autoreset_mode=mode),
        short_envs(autoreset_mode=mode),
    )
    for vector in (sync, envs):
        vector.reset(seed=2)
    for number, actions in enumerate(some_actions(1)):
        expected, got = sync.step(actions), envs.step(actions)
        assert same(expected, got), f"step {number}"
        mask = (
            expected[2] | expected[3]
            if mode == AutoresetMode.DISABLED
            else np.arange(NUM_ENVS) == number % 7
        )
        if mask.any():
            seed = [number] * NUM_ENVS if number % 2 else None
            options = {"reset_mask": mask}
            assert same(
                sync.reset(seed=seed, options=dict(options)), envs.reset(seed=seed, options=options)
            )
            assert envs.np_random_seed == sync.np_random_seed
            assert (
                "reset_mask" in options
            )  # Gymnasium's vector wrappers look there after they have called this


def test_without_autoreset_an_episode_that_is_over_needs_a_reset():
    envs = short_envs(autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=2)
    while not (ended := np.logical_or(*envs.step([UP] * NUM_ENVS)[2:4])).any():
        pass
    number = np.flatnonzero(ended).tolist()
    with pytest.raises(ResetNeeded, match=f"the episodes of \\[{number[0]}.*\\] are over"):
        envs.step([UP] * NUM_ENVS)
    envs.reset(options={"reset_mask": ended})
    envs.step([UP] * NUM_ENVS)


def test_any_number_of_episodes_may_end_at_once(monkeypatch):
    monkeypatch.setattr(_programs, "FINAL_FRAMES", NUM_ENVS - 1)
    envs, single = short_envs(autoreset_mode="SameStep"), short_env()
    envs.reset(seed=0)
    for _ in range(LIMIT):  # who digs where no treasure is stays alive until the limit
        infos = envs.step([FIRE] * NUM_ENVS)[-1]
    assert infos["_final_obs"].all()
    for i, frame in enumerate(infos["final_obs"]):
        np.testing.assert_array_equal(frame, play(single, i, [FIRE] * LIMIT)[LIMIT][0])


def test_final_frames_can_be_left_out():
    envs = short_envs(autoreset_mode="SameStep", final_observation=False)
    full = short_envs(autoreset_mode="SameStep")
    for one, other in zip(play_all(envs, 0, some_actions()), play_all(full, 0, some_actions())):
        kept = {name: value for name, value in other[-1].items() if "final" not in name}
        assert same(one, (*other[:-1], kept))


@pytest.mark.parametrize("mode", RESETTING)
@pytest.mark.parametrize("output", ["jax", "torch"])
def test_all_outputs_hold_the_same_values(output, mode):
    expected = play_all(short_envs(autoreset_mode=mode), 11, some_actions())
    got = play_all(short_envs(autoreset_mode=mode, output=output), 11, some_actions())
    for step, (one, other) in enumerate(zip(expected, got)):
        one, other = as_numpy(one), as_numpy(other)
        assert jax.tree.structure(one) == jax.tree.structure(other), f"step {step}"
        for value, other_value in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
            np.testing.assert_array_equal(value, other_value, err_msg=f"step {step}")
    kind = {"jax": jax.Array, "torch": getattr(sys.modules.get("torch"), "Tensor", None)}[output]
    observations, rewards, terminations, truncations, infos = got[-1]
    arrays = [
        observations,
        rewards,
        terminations,
        truncations,
        *infos["discount"],
        *infos["_discount"],
    ]
    assert all(isinstance(array, kind) for array in arrays)
    names = [
        str(array.dtype).removeprefix("torch.")
        for array in (*arrays[:4], infos["discount"], infos["_discount"])
    ]
    assert names == ["uint8", "float32", "bool", "bool", "float32", "bool"]
    finals = [frame for step in got for frame in step[-1].get("final_obs", []) if frame is not None]
    assert all(isinstance(frame, kind) and frame.shape == (128, 128, 3) for frame in finals)
    assert bool(finals) == (mode == AutoresetMode.SAME_STEP)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("output", OUTPUTS)
def test_what_a_step_returned_does_not_change_later(output, mode):
    envs = short_envs(autoreset_mode=mode, output=output)
    kept, copies = [], []
    kept.append(envs.reset(seed=0))
    copies.append(as_numpy(kept[-1]))
    for actions in some_actions()[:12]:
        kept.append(envs.step(actions))
        copies.append(as_numpy(kept[-1]))
        ended = copies[-1][2] | copies[-1][3]
        if mode == AutoresetMode.DISABLED and ended.any():
            kept.append(envs.reset(options={"reset_mask": ended}))
            copies.append(as_numpy(kept[-1]))
    for step, expected in zip(kept, copies):
        for value, expected_value in zip(
            jax.tree.leaves(as_numpy(step)), jax.tree.leaves(expected)
        ):
            np.testing.assert_array_equal(value, expected_value)


@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_what_a_step_returned_may_be_written_to(output):
    envs, untouched = (
        short_envs(autoreset_mode="SameStep", output=output, render_mode="rgb_array")
        for _ in range(2)
    )
    untouched.reset(seed=0)
    observation, infos = envs.reset(seed=0)
    for actions in some_actions():
        observation[:] = 7
        for array in infos.values():
            if array.dtype != object and not isinstance(array, dict):
                array[:] = 0
        assert same(envs.render(), untouched.render())
        observation, *rest, infos = envs.step(actions)
        expected, *expected_rest, _ = untouched.step(actions)
        assert same(as_numpy([observation, *rest]), as_numpy([expected, *expected_rest]))
        for array in rest:
            array[:] = 1
        infos = {name: value for name, value in infos.items() if not isinstance(value, dict)}


def test_torch_tensors_and_frames_share_the_memory_that_jax_wrote(monkeypatch):
    client("torch")
    delivered = []
    envs = {output: short_envs(output=output) for output in ("numpy", "torch")}
    for output, vector in envs.items():
        for owner, name in [(vector, "_convert"), (vector._frames, "deliver")]:
            deliver = getattr(owner, name)
            monkeypatch.setattr(
                owner,
                name,
                lambda array, deliver=deliver: delivered.append(array) or deliver(array),
            )
        vector.reset(seed=0)
        delivered.clear()
        observations, *rest, infos = vector.step([UP] * NUM_ENVS)
        pointers = [array.unsafe_buffer_pointer() for array in delivered]
        address = observations.ctypes.data if output == "numpy" else observations.data_ptr()
        assert address in pointers
        if output == "torch":
            assert all(array.data_ptr() in pointers for array in (*rest, *infos.values()))


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_frames_that_the_user_has_let_go_of_lend_their_memory_to_later_ones(output, mode):
    envs = short_envs(autoreset_mode=mode, output=output)
    address = {
        "numpy": lambda frames: frames.ctypes.data,
        "torch": lambda frames: frames.data_ptr(),
    }[output]
    observations, _ = envs.reset(seed=0)
    addresses = set()
    for _ in range(LIMIT - 1):  # who digs where no treasure is stays alive until the limit
        observations = envs.step([FIRE] * NUM_ENVS)[0]
        addresses.add(address(observations))
    assert len(addresses) == 2


@pytest.mark.parametrize(
    "output, look",
    [
        ("numpy", lambda frames: frames[1:, ::2]),
        ("numpy", memoryview),
        ("numpy", lambda frames: client("torch").from_numpy(frames)),
        ("numpy", jnp.asarray),
        ("torch", lambda frames: frames[1:, ::2]),
        ("torch", lambda frames: frames.numpy()),
        ("torch", lambda frames: jnp.from_dlpack(frames)),
    ],
    ids=["slice", "memoryview", "torch", "jax", "torch-slice", "torch-numpy", "torch-jax"],
)
def test_frames_that_something_still_looks_at_are_not_drawn_over(output, look):
    envs = short_envs(output=output)
    envs.reset(seed=0)
    kept, copies = [], []
    for actions in some_actions():
        kept.append(look(envs.step(actions)[0]))
        copies.append(np.asarray(kept[-1]).copy())
    assert len({frames.tobytes() for frames in copies}) > STEPS / 2
    for frames, expected in zip(kept, copies):
        np.testing.assert_array_equal(frames, expected)


@pytest.mark.parametrize("kind", ["list", "uint8", "int64", "jax", "torch"])
def test_actions_may_be_of_any_library(kind):
    actions = some_actions()[0]
    if kind == "torch":
        given = client("torch").as_tensor(actions)
    else:
        given = {"list": list, "jax": jnp.asarray}.get(kind, lambda actions: actions.astype(kind))(
            actions
        )
    envs, expected = short_envs(), short_envs()
    envs.reset(seed=1)
    expected.reset(seed=1)
    assert same(envs.step(given), expected.step(actions))


@pytest.mark.parametrize(
    "actions, message",
    [
        (
            [0, 1, 5, 0],
            r"the action of environment 2 must be in \[0, 4\], but it is 5; the nearest is 4",
        ),
        (
            jnp.array([0, -1, 0, 0]),
            r"the action of environment 1 must be in \[0, 4\], but it is -1; the nearest is 0",
        ),
        ([0, 1], r"integers \[4\], one for each environment, but they are int64\[2\]"),
        (np.zeros(4), r"they are float64\[4\]"),
        (3, r"they are int64\[\]"),
    ],
)
def test_actions_outside_the_space_are_refused_and_change_nothing(actions, message):
    envs, untouched = short_envs(), short_envs()
    for vector in (envs, untouched):
        vector.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        envs.step(actions)
    assert same(envs.step([UP] * NUM_ENVS), untouched.step([UP] * NUM_ENVS))


def test_a_vector_says_what_is_wrong_with_a_reset():
    envs = short_envs(render_mode="rgb_array")
    for call in (lambda: envs.step([UP] * NUM_ENVS), envs.render):
        with pytest.raises(ResetNeeded, match="call reset before"):
            call()
    with pytest.raises(ResetNeeded, match="without a reset_mask first"):
        envs.reset(options={"reset_mask": np.ones(NUM_ENVS, bool)})
    with pytest.raises(
        ValueError, match="seed must have 4 items, one for each environment, but it has 3"
    ):
        envs.reset(seed=[1, 2, 3])
    with pytest.raises(gymnasium.error.Error, match="greater or equal to zero"):
        envs.reset(seed=-1)
    envs.reset(seed=0)
    masks = [
        (np.ones(2, bool), r"bool\[4\]"),
        ([True] * NUM_ENVS, "NumPy"),
        (np.zeros(NUM_ENVS, bool), "everywhere"),
    ]
    for mask, message in masks:
        with pytest.raises(ValueError, match=message):
            envs.reset(options={"reset_mask": mask})
