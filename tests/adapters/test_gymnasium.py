"""Tests of the Gymnasium adapter: against Gymnasium's checks, wrappers and SyncVectorEnv, and the
functions of make."""

import copy
import os
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade import REGISTERED_ENVIRONMENTS, REGISTRY, make
from tests.testing import client

gymnasium = client("gymnasium")

from gymnasium import wrappers  # noqa: E402, because gymnasium may be missing
from gymnasium.error import DependencyNotInstalled, ResetNeeded  # noqa: E402
from gymnasium.utils import seeding  # noqa: E402
from gymnasium.utils.env_checker import check_env, data_equivalence  # noqa: E402
from gymnasium.vector import AutoresetMode, SyncVectorEnv  # noqa: E402

from popgym_arcade.adapters import gymnasium as adapter  # noqa: E402
from popgym_arcade.adapters.gymnasium import ArcadeEnv, ArcadeVectorEnv  # noqa: E402

LIMIT, NUM_ENVS, STEPS = 5, 4, 30
SHORT = {"board_size": 4, "max_steps_in_episode": LIMIT}
UP, FIRE = 0, 4
RESTLESS = 2  # a seed whose first step up moves the agent, and not onto TNT
OUTPUTS = ["numpy", "jax", "torch"]
RESETTING = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]


def short_env(**options):
    """A Navigator whose episodes end after at most LIMIT steps, and often before: it is full of
    TNT."""
    return ArcadeEnv("NavigatorEasy", **SHORT, **options)


def short_envs(**options):
    """NUM_ENVS short Navigators."""
    if options.get("output") == "torch":
        client("torch")
    return ArcadeVectorEnv("NavigatorEasy", NUM_ENVS, **SHORT, **options)


def some_actions(seed=0):
    """Random actions for every environment and step: int64[STEPS, NUM_ENVS]."""
    return np.random.default_rng(seed).integers(0, 5, (STEPS, NUM_ENVS))


def play(env, seed, actions, seeded_again=None):
    """Everything that one environment returns, as a list of tuples; it is reset whenever an episode
    is over."""
    happened = [env.reset(seed=seed)]
    for action in actions:
        happened.append(env.step(action))
        if happened[-1][2] or happened[-1][3]:
            happened.append(env.reset(seed=seeded_again))
    return happened


def play_all(envs, seed, actions):
    """Everything that a vector of environments returns, as a list of tuples."""
    return [envs.reset(seed=seed), *map(envs.step, actions)]


def as_numpy(tree):
    """Jax arrays and torch tensors in dicts, tuples, lists and object arrays as NumPy arrays."""
    if isinstance(tree, dict):
        return {name: as_numpy(value) for name, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        return type(tree)(map(as_numpy, tree))
    if isinstance(tree, np.ndarray) and tree.dtype == object:
        return [None if value is None else as_numpy(value) for value in tree]
    return np.asarray(tree).copy()


def same(one, other):
    """Whether two trees of arrays and numbers are the same, types and all."""
    return data_equivalence(one, other, exact=True)


@pytest.fixture
def hidden_window(monkeypatch):
    """Windows open, but on no screen."""
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setitem(adapter.METADATA, "render_fps", 10_000)


# --- the registration ----------------------------------------------------------------------------


def test_every_environment_is_registered_under_the_version_of_its_rules():
    identifiers = {name for name in gymnasium.registry if name.startswith("popgym_arcade/")}
    assert identifiers == {
        f"popgym_arcade/{name}-v{REGISTRY[name].version}" for name in REGISTERED_ENVIRONMENTS
    }
    for identifier in identifiers:
        spec = gymnasium.spec(identifier)
        assert identifier == f"popgym_arcade/{spec.kwargs['name']}-v{spec.version}"
        assert spec.max_episode_steps is None


def test_to_register_again_changes_nothing():
    before = dict(gymnasium.registry)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adapter.register()
    assert all(gymnasium.registry[identifier] is spec for identifier, spec in before.items())


def test_an_id_that_names_the_module_needs_no_import():
    identifier = "popgym_arcade.adapters.gymnasium:popgym_arcade/TetrisHard-v1"
    program = f"import gymnasium; print(gymnasium.make({identifier!r}).unwrapped)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ}
    )
    assert "ArcadeEnv" in done.stdout, done.stderr


def test_make_passes_its_keywords_on():
    env = gymnasium.make("popgym_arcade/NavigatorEasy-v1", partial_obs=True, **SHORT)
    assert isinstance(env.unwrapped, ArcadeEnv)
    first, _ = env.reset(seed=1)
    later, _, _, truncated, _ = env.step(UP)
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > len(
        np.unique(later.reshape(-1, 3), axis=0)
    )  # less to see
    large = gymnasium.make("popgym_arcade/NavigatorEasy-v1", obs_size=256)
    assert large.observation_space == gymnasium.spaces.Box(0, 255, (256, 256, 3), np.uint8)


def test_make_vec_makes_one_program_of_all_environments():
    envs = gymnasium.make_vec(
        "popgym_arcade/NavigatorEasy-v1", num_envs=NUM_ENVS, **SHORT, autoreset_mode="SameStep"
    )
    assert type(envs) is ArcadeVectorEnv
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert envs.spec.id == "popgym_arcade/NavigatorEasy-v1"
    assert envs.action_space == gymnasium.spaces.MultiDiscrete([5] * NUM_ENVS)
    assert envs.single_action_space == gymnasium.spaces.Discrete(5)
    observations, infos = envs.reset(seed=0)
    assert observations in envs.observation_space
    assert observations[0] in envs.single_observation_space
    assert same(infos, {"discount": np.ones(NUM_ENVS), "_discount": np.ones(NUM_ENVS, bool)})


# --- one environment -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, partial_obs",
    [("NavigatorEasy", False), ("NavigatorEasy", True), ("NoisyCartPoleHard", True)],
)
def test_gymnasiums_check_has_nothing_to_complain_about(name, partial_obs, hidden_window):
    options = {"board_size": 4} if name == "NavigatorEasy" else {}
    env = gymnasium.make(
        f"popgym_arcade/{name}-v1", partial_obs=partial_obs, render_mode="rgb_array", **options
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


def test_one_environment_plays_what_the_functions_of_make_play():
    env, params = make("NavigatorEasy", **SHORT)
    reset, step = jax.jit(env.reset), jax.jit(env.step_env)
    words = seeding.np_random(7)[0].integers(2**32, size=2, dtype=np.uint32)
    key, now = jax.random.split(jax.random.wrap_key_data(words))
    expected, state = reset(now, params)
    adapted = short_env()
    observation, info = adapted.reset(seed=7)
    np.testing.assert_array_equal(observation, expected)
    endings = set()
    for action in some_actions()[:, 0]:
        key, now = jax.random.split(key)
        expected, state, reward, done, expected_info = step(now, state, jnp.int32(action), params)
        observation, *rest = adapted.step(action)
        np.testing.assert_array_equal(observation, expected)
        flags = bool(expected_info["terminated"]), bool(expected_info["truncated"])
        assert same(rest, [float(reward), *flags, {"discount": float(expected_info["discount"])}])
        if done:
            endings.add(flags)
            key, now = jax.random.split(key)
            expected, state = reset(now, params)
            np.testing.assert_array_equal(adapted.reset()[0], expected)
    assert endings == {(True, False), (False, True)}


def test_a_seed_decides_all_that_follows():
    actions = some_actions()[:, 0]
    first = play(short_env(), 3, actions)
    assert same(first, play(short_env(), 3, actions))
    again = short_env()
    play(again, 4, actions[:7])
    assert same(first, play(again, 3, actions))
    assert not same(first[0], again.reset(seed=4))


def test_without_a_seed_episodes_differ_and_so_do_environments():
    one, other = short_env(), short_env()
    frames = [env.reset()[0].tobytes() for env in (one, other) for _ in range(6)]
    assert len(set(frames)) > 8
    assert one.np_random_seed != other.np_random_seed


def test_a_generator_of_the_users_own_decides_what_follows():
    frames = []
    for _ in range(2):
        env = short_env()
        env.reset(seed=1)
        env.np_random = np.random.default_rng(5)
        frames.append([env.reset()[0], env.reset()[0]])
    assert same(*frames)


def test_an_observation_belongs_to_the_caller():
    env = short_env(render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    shown = env.render()
    observation[:] = 77
    shown[:] = 78
    np.testing.assert_array_equal(env.render(), short_env().reset(seed=0)[0])
    following = env.step(UP)[0]
    assert (observation == 77).all()
    assert not (following == 77).all()


def test_a_copy_of_an_environment_plays_on_by_itself():
    env = short_env()
    env.reset(seed=2)
    copied = copy.deepcopy(env)
    assert same(env.step(UP), copied.step(UP))
    assert same(env.reset(), copied.reset())


def test_an_episode_must_begin_before_it_goes_on():
    env = short_env(render_mode="rgb_array")
    for call in (lambda: env.step(UP), env.render):
        with pytest.raises(ResetNeeded, match="call reset before"):
            call()
    play_on = [env.reset(seed=0)]
    while not any(play_on[-1][2:4]):
        play_on.append(env.step(UP))
    with pytest.raises(ResetNeeded, match="the episode is over"):
        env.step(UP)


@pytest.mark.parametrize("action", [5, -1, 1.0, "up", None, np.array([1])])
def test_an_action_outside_the_space_is_refused(action):
    env = short_env()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="the action must be an integer in 0 ... 4, but it is"):
        env.step(action)


def test_arguments_are_checked():
    with pytest.raises(
        ValueError, match="NavigatorEasy has no parameter 'bord_size'; the nearest are: board_size"
    ):
        ArcadeEnv("NavigatorEasy", bord_size=4)
    with pytest.raises(
        ValueError, match="render_mode must be one of None, 'human', 'rgb_array', but it is 'rgb'"
    ):
        ArcadeEnv("NavigatorEasy", render_mode="rgb")
    with pytest.raises(ValueError, match="ArcadeEnv takes no final_observation"):
        ArcadeEnv("NavigatorEasy", final_observation=True)
    with pytest.raises(
        ValueError,
        match="output must be one of 'numpy', 'jax', 'torch', but it is 'nunpy'; .*numpy",
    ):
        ArcadeVectorEnv("NavigatorEasy", output="nunpy")
    with pytest.raises(
        ValueError,
        match="autoreset_mode must be one of 'NextStep', 'SameStep', 'Disabled', but it is 'Same'",
    ):
        ArcadeVectorEnv("NavigatorEasy", autoreset_mode="Same")
    with pytest.raises(ValueError, match="num_envs must be at least 1, but it is 0"):
        ArcadeVectorEnv("NavigatorEasy", num_envs=0)
    with pytest.raises(TypeError):
        ArcadeVectorEnv("NavigatorEasy", num_envs=1.5)
    with pytest.raises(TypeError, match="final_observation must be True or False"):
        ArcadeVectorEnv("NavigatorEasy", final_observation=1)


def test_what_was_refused_can_be_closed():
    ArcadeVectorEnv.__new__(ArcadeVectorEnv).close()


@pytest.mark.parametrize(
    "wrong, options, line",
    [
        ("pygame", {"render_mode": "human"}, r'pip install "popgym-arcade\[human\]"'),
        ("torch", {"output": "torch"}, "pip install torch"),
    ],
)
def test_what_is_missing_is_named_with_the_line_that_installs_it(wrong, options, line, monkeypatch):
    monkeypatch.setitem(sys.modules, wrong, None)
    with pytest.raises(DependencyNotInstalled, match=line):
        ArcadeVectorEnv("NavigatorEasy", **options)


# --- many environments ---------------------------------------------------------------------------


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


@pytest.mark.parametrize("mode", list(AutoresetMode))
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
    monkeypatch.setattr(adapter, "FINAL_FRAMES", NUM_ENVS - 1)
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
        for owner, name in [(vector, "_deliver"), (vector._frames, "deliver")]:
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
        ([0, 1, 5, 0], "the action of environment 2 must be an integer in 0 ... 4, but it is 5"),
        (
            jnp.array([0, -1, 0, 0]),
            "the action of environment 1 must be an integer in 0 ... 4, but it is -1",
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
    with pytest.raises(ValueError, match="one for each of the 4 environments, but it has 3"):
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


# --- frames to look at ---------------------------------------------------------------------------


def test_render_returns_the_frames_of_all_environments():
    envs = short_envs(render_mode="rgb_array", output="jax")
    observations, _ = envs.reset(seed=0)
    for actions in some_actions()[:8]:
        frames = envs.render()
        assert isinstance(frames, tuple) and len(frames) == NUM_ENVS
        np.testing.assert_array_equal(np.stack(frames), observations)
        observations = envs.step(actions)[0]


@pytest.mark.parametrize("build", [short_env, short_envs])
def test_without_a_render_mode_render_warns(build):
    env = build()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="without a render_mode"):
        assert env.render() is None


def test_the_window_shows_every_frame_in_whole_pixels(hidden_window):
    import pygame

    env = short_env(render_mode="human")
    observation, _ = env.reset(seed=0)
    for action in [None, 1, 2]:
        if action is not None:
            observation = env.step(action)[0]
        screen = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
        np.testing.assert_array_equal(screen, observation.repeat(5, axis=0).repeat(5, axis=1))
        assert env.render() is None
    env.close()
    assert not pygame.display.get_init()
    env.close()


def test_the_window_of_a_vector_shows_its_environments_side_by_side(hidden_window):
    import pygame

    envs = short_envs(render_mode="human")
    observations, _ = envs.reset(seed=0)
    observations = envs.step([UP] * NUM_ENVS)[0]
    screen = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    line, side = 4 * 2, (128 + 8) * 2  # two screen pixels for each of the frame's
    assert screen.shape == (2 * side, 2 * side, 3)
    for number, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        cell = screen[row * side : (row + 1) * side, column * side : (column + 1) * side]
        np.testing.assert_array_equal(cell[line:-line:2, line:-line:2], observations[number])
        assert not cell[:line].any() and not cell[:, -line:].any()
    assert envs.render() is None
    envs.close()
    assert envs.closed and not pygame.display.get_init()


# --- Gymnasium's own wrappers --------------------------------------------------------------------


def test_statistics_of_episodes_are_those_of_the_rewards():
    env = wrappers.RecordEpisodeStatistics(short_env())
    happened = play(env, 0, some_actions()[:, 0])
    rewards, episodes = [], []
    for transition in happened:
        if len(transition) == 2:
            rewards = []
            continue
        rewards.append(transition[1])
        if "episode" in transition[-1]:
            episodes.append((transition[-1]["episode"]["r"], transition[-1]["episode"]["l"]))
            assert episodes[-1] == (pytest.approx(sum(rewards)), len(rewards))
    assert len(episodes) >= STEPS // LIMIT


def test_a_time_limit_and_a_stack_of_frames_work():
    env, single = wrappers.FrameStackObservation(wrappers.TimeLimit(short_env(), 2), 3), short_env()
    stack, _ = env.reset(seed=RESTLESS)
    assert stack in env.observation_space
    first = single.reset(seed=RESTLESS)[0]
    second, _, terminated, _, _ = single.step(UP)
    assert not terminated and not np.array_equal(first, second)
    np.testing.assert_array_equal(env.step(UP)[0], [first, first, second])
    assert env.step(FIRE)[3]  # truncated, three steps before the game's own limit


def test_a_video_is_recorded(tmp_path):
    client("moviepy")
    env = wrappers.RecordVideo(
        short_env(render_mode="rgb_array"), str(tmp_path / "video"), disable_logger=True
    )
    play(env, 0, [FIRE] * LIMIT)
    env.close()
    video = tmp_path / "video" / "rl-video-episode-0.mp4"
    assert video.stat().st_size > 1000


def test_a_video_of_a_vector_is_recorded(tmp_path):
    client("moviepy")
    envs = wrappers.vector.RecordVideo(short_envs(render_mode="rgb_array"), str(tmp_path / "video"))
    seen = [envs.reset(seed=0)[0], *(envs.step([FIRE] * NUM_ENVS)[0] for _ in range(LIMIT - 1))]
    for recorded, (one, two, three, four) in zip(envs.recorded_frames, seen, strict=True):
        np.testing.assert_array_equal(recorded, np.block([[[one], [two]], [[three], [four]]]))
    envs.close()
    (video,) = (tmp_path / "video").iterdir()
    assert video.suffix == ".mp4" and video.stat().st_size > 1000


@pytest.mark.parametrize("mode", RESETTING)
def test_statistics_of_a_vector_are_those_of_gymnasiums_own(mode):
    sync = SyncVectorEnv([short_env] * NUM_ENVS, autoreset_mode=mode)
    both = [
        wrappers.vector.RecordEpisodeStatistics(envs)
        for envs in (sync, short_envs(autoreset_mode=mode))
    ]
    for envs in both:
        play_all(envs, 0, some_actions())
    assert list(both[0].return_queue) == list(both[1].return_queue)
    assert list(both[0].length_queue) == list(both[1].length_queue)
    assert len(both[0].length_queue) >= NUM_ENVS


def test_gymnasium_converts_numpy_to_torch():
    torch = client("torch")
    client("array_api_compat")  # Gymnasium's wrappers that convert arrays need it
    envs = wrappers.vector.NumpyToTorch(short_envs())
    expected = play_all(short_envs(), 3, some_actions()[:6])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of arrays that are read-only
        got = play_all(envs, 3, torch.as_tensor(some_actions()[:6]))
    assert all(isinstance(value, torch.Tensor) for value in got[-1][:4])
    assert same(as_numpy(got[-1][0]), expected[-1][0])
