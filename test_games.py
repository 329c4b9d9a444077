"""Tests of the contract that every game keeps.

Rules of a single game are tested in ``tests/games/test_<game>.py``. What the tests here need to
know about a game is its Case in that file, found by the game's name in GAMES.

``python test_games.py --write-golden`` rewrites the hashes of the golden frames. It refuses if the
frames of a game changed while its VERSION did not.
"""

import ast
import dataclasses
import hashlib
import inspect
import json
import os
import pathlib
import re
import subprocess
import sys
import typing
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify

from popgym_arcade import GAMES, REGISTERED_ENVIRONMENTS, REGISTRY, Action, experts, make, registry
from popgym_arcade import render as draw
from popgym_arcade.play.rules import rules_of
from popgym_arcade.wrappers import auto_reset
from tests.testing import (
    BATCH,
    DOWN,
    FIRE,
    UP,
    as_numpy,
    assert_same,
    case_of,
    client,
    compiled,
    compiled_programs,
    drawn_in_words,
    keys,
    many_starts,
    on_one_device,
    one_of,
    rendered,
    rollout,
    shown_by,
    some_states,
    switched,
)

TWINS = [pytest.param(False, id="MDP"), pytest.param(True, id="POMDP")]
EASY = [game + "Easy" for game in GAMES]
MODULES = {module.__name__.split(".")[-1]: module for module, _ in GAMES.values()}
GOLDEN = pathlib.Path(__file__).parent / "tests" / "golden.json"


def is_discrete(name):
    """Whether the tests of a game's views apply to this one; without a Case they apply and fail."""
    try:
        return case_of(name).is_discrete
    except LookupError:
        return True


every_environment = pytest.mark.parametrize("name", REGISTERED_ENVIRONMENTS)
every_discrete_environment = pytest.mark.parametrize(
    "name", list(filter(is_discrete, REGISTERED_ENVIRONMENTS))
)
every_game = pytest.mark.parametrize("name", EASY)
every_discrete_game = pytest.mark.parametrize("name", list(filter(is_discrete, EASY)))
every_module = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES.keys())
both_twins = pytest.mark.parametrize("partial_obs", TWINS)


# --- the contract, for every environment ---------------------------------------------------------


@every_environment
@both_twins
@pytest.mark.parametrize("obs_size", draw.OBS_SIZES)
def test_shapes_and_dtypes_are_as_promised(name, partial_obs, obs_size):
    env, params = make(name, partial_obs=partial_obs, obs_size=obs_size)
    key = jax.random.key(0)
    obs, state = jax.eval_shape(env.reset, key, params)
    for step in (env.step, env.step_env):
        next_obs, next_state, reward, done, info = jax.eval_shape(
            step, key, state, jnp.int32(0), params
        )
        assert (
            (next_obs.shape, next_obs.dtype)
            == (obs.shape, obs.dtype)
            == ((obs_size, obs_size, 3), jnp.uint8)
        )
        assert jax.tree.map(lambda a: (a.shape, a.dtype, a.weak_type), next_state) == jax.tree.map(
            lambda a: (a.shape, a.dtype, a.weak_type), state
        )
        assert [(value.shape, value.dtype) for value in (reward, done)] == [
            ((), jnp.float32),
            ((), jnp.bool_),
        ]
        assert {k: (v.shape, v.dtype) for k, v in info.items()} == {
            "terminated": ((), jnp.bool_),
            "truncated": ((), jnp.bool_),
            "discount": ((), jnp.float32),
        }
    assert state.time.dtype == state.score.dtype == jnp.int32
    assert (
        env.observation_space(params).shape == obs.shape
        and env.num_actions == env.action_space(params).n == 5
    )
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    assert size < 1024


@every_game
@both_twins
@pytest.mark.parametrize("obs_size", [128, pytest.param(256, marks=pytest.mark.slow)])
def test_observations_lie_in_the_observation_space(name, partial_obs, obs_size):
    env, params = make(name, partial_obs=partial_obs, obs_size=obs_size)
    _, state = compiled(name).reset(keys(0), compiled(name).params)
    obs = np.asarray(compiled(name, partial_obs, obs_size).render(state, params))
    assert all(env.observation_space(params).contains(frame) for frame in obs)
    assert len(np.unique(obs)) > 4


@pytest.mark.slow
@every_game
@both_twins
def test_jit_vmap_a_loop_and_eager_agree(name, partial_obs):
    functions = compiled(name, partial_obs)
    env, params = functions.env, functions.params
    obs, state = functions.reset(keys(1), params)
    for i in range(2):
        eager_obs, eager_state = env.reset(keys(1)[i], params)
        assert_same(eager_state, one_of(state, i), exact=False)
        assert_same(obs[i], env.render(one_of(state, i), params))
        assert_same(eager_obs, env.render(eager_state, params))
    for shift in range(3):
        actions = (np.arange(BATCH, dtype=np.int32) + shift) % 6
        batch = functions.step(keys(shift), state, actions, params)
        for i in (shift, 4 - shift, 5):
            eager = env.step(keys(shift)[i], one_of(state, i), actions[i], params)
            assert_same(eager[1:], one_of(batch[1:], i), exact=False)
            # Floats in the states differ by rounding, so each frame is compared with a drawing of
            # its own state.
            assert_same(eager[0], env.render(eager[1], params))
            assert_same(batch[0][i], env.render(one_of(batch[1], i), params))
        state = batch[1]


@cache
def compiled_for_one(name):
    """An environment with final_observation=True, and its reset and step, compiled without vmap."""
    env, params = make(name, final_observation=True)
    return env, params, jax.jit(env.reset), jax.jit(env.step)


@pytest.mark.slow
@every_game
def test_jit_of_one_is_one_of_a_batch(name):
    functions = compiled(name)
    env, params, reset, step = compiled_for_one(name)
    batch = functions.reset(keys(1), params)
    obs, state = reset(keys(1)[3], params)
    assert_same(state, one_of(batch[1], 3), exact=False)
    assert_same(obs, env.render(state))
    in_batch = functions.step(keys(2), batch[1], np.full(BATCH, FIRE, np.int32), params)
    obs, state, *outcome, info = step(keys(2)[3], one_of(batch[1], 3), np.int32(FIRE), params)
    info.pop("final_observation")
    assert_same((state, *outcome, info), one_of(in_batch[1:], 3), exact=False)
    assert_same(obs, env.render(state))


@every_game
def test_one_trace_per_static_configuration(name):
    env, params = make(name)
    traced = []

    @jax.jit
    def step(key, state, action, params):
        traced.append(params.partial_obs)
        return env.step(key, state, action, params)

    state = jax.eval_shape(env.reset, jax.random.key(0), params)[1]
    for limit in (5, 7):  # lowered, not compiled, which takes much longer
        step.lower(
            jax.random.key(limit),
            state,
            np.int32(limit),
            dataclasses.replace(params, max_steps_in_episode=limit),
        )
        state = jax.eval_shape(step, jax.random.key(limit), state, np.int32(limit), params)[1]
    assert traced == [False]
    step.lower(jax.random.key(0), state, np.int32(0), dataclasses.replace(params, partial_obs=True))
    assert traced == [False, True]


@every_game
@both_twins
def test_same_key_same_everything_and_other_key_another_episode(name, partial_obs):
    functions = compiled(name, partial_obs)
    first, again = (functions.reset(keys(3), functions.params) for _ in range(2))
    assert_same(first, again)
    actions = np.arange(BATCH, dtype=np.int32) % 5
    assert_same(*(functions.step(keys(4), first[1], actions, functions.params) for _ in range(2)))
    other = functions.reset(keys(5), functions.params)
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(first[1]), jax.tree.leaves(other[1]))
    )


@every_game
def test_raw_keys_work(name):
    env, params = make(name)
    raw, typed = jax.random.PRNGKey(7), jax.random.key(7)
    (_, state), (_, same_state) = (jax.eval_shape(env.reset, key, params) for key in (raw, typed))
    assert state == same_state
    stepped = [jax.eval_shape(env.step, key, state, 4, params) for key in (raw, typed)]
    assert stepped[0] == stepped[1]


@pytest.mark.slow
@every_game
def test_typed_and_raw_keys_give_the_same_episode(name):
    functions = compiled(name)
    env, params = functions.env, functions.params

    @jax.jit
    def reset_and_step(key):
        _, state = env.reset(key, params)
        return state, *env.step_env(key, state, np.int32(FIRE), params)[1:]

    typed = jax.random.key(7)[None]
    _, start = functions.reset(typed, params)
    stepped = functions.step_env(typed, start, np.array([FIRE], np.int32), params)
    raw = reset_and_step(jax.random.PRNGKey(7))
    assert_same(raw, one_of((start, *stepped[1:]), 0), exact=False)


@every_environment
def test_twins_share_states(name):
    mdp, pomdp = compiled(name, False), compiled(name, True)
    _, state = pomdp.reset(keys(0), pomdp.params)
    assert_same(state, mdp.reset(keys(0), mdp.params)[1])
    for i in range(3):
        actions = (np.arange(BATCH, dtype=np.int32) + i) % 5
        through_pomdp = pomdp.step(keys(i), state, actions, pomdp.params)
        through_mdp = mdp.step(keys(i), state, actions, mdp.params)
        assert_same(through_pomdp[1:], through_mdp[1:])
        state = through_pomdp[1]


# --- returns, flags and limits -------------------------------------------------------------------


@every_environment
def test_the_expert_earns_exactly_the_maximum(name):
    case, played = case_of(name), rollout(name, expert=1.0)
    if case.best_return is None:  # depends on chance after the start; the game's own tests cover it
        assert (
            np.all(played.first_returns() <= 1 + 5e-6)
            and np.median(played.first_returns()) > 1 - 5e-6
        )
        return
    np.testing.assert_allclose(
        played.first_returns(), case.best_return(played.start, REGISTRY[name].params), atol=5e-6
    )
    truncated, terminated = (
        played.at_first_end(played.info[flag]) for flag in ("truncated", "terminated")
    )
    assert np.all(truncated == case.perfect_play_lasts) and np.all(
        terminated != case.perfect_play_lasts
    )


@every_environment
def test_the_worst_player_earns_exactly_the_minimum(name):
    played = rollout(name, worst=1.0)
    minimum = case_of(name).worst_return(played.start, REGISTRY[name].params)
    np.testing.assert_allclose(played.first_returns()[: len(minimum)], minimum, atol=5e-6)


@every_environment
def test_ten_thousand_random_steps_keep_to_the_rules(name):
    played, limit = rollout(name), REGISTRY[name].params.max_steps_in_episode
    done, info = played.done, played.info
    assert done.size > 10_000
    assert np.array_equal(done, info["terminated"] | info["truncated"])
    assert np.array_equal(info["truncated"], played.time_before + 1 == limit)
    assert np.array_equal(info["discount"], np.where(info["terminated"], 0, 1).astype(np.float32))
    assert np.array_equal(played.time, np.where(done, 0, played.time_before + 1))
    assert np.all(played.score[done] == 0) and np.all(played.score >= 0)
    returns = played.all_returns()
    assert np.all(returns >= case_of(name).lowest_return - 1e-5) and np.all(returns <= 1 + 1e-5)
    assert np.all(np.isfinite(played.reward)) and np.all(np.abs(played.reward) <= 1)


@every_game
def test_flags_agree_at_the_limit(name):
    functions = compiled(name)
    params = dataclasses.replace(functions.params, max_steps_in_episode=3)
    _, state = functions.reset(keys(0), params)
    for time in (1, 2, 3):
        _, next_state, _, done, info = functions.step(
            keys(time), state, np.full(BATCH, 7, np.int32), params
        )
        assert (
            np.all(state.time == time - 1)
            and np.all(done == (time == 3))
            and np.all(info["truncated"] == (time == 3))
        )
        assert not np.any(info["terminated"]) and np.all(info["discount"] == 1)
        state = next_state


@every_game
def test_an_unknown_action_only_lets_time_pass(name):
    functions = compiled(name)
    _, start = functions.reset(keys(0), functions.params)
    actions = np.resize(np.array([-1, -4, 5, 6, 99, 2**31 - 1, -(2**31)], np.int32), BATCH)
    same_key, same_start = (
        keys(1)[np.zeros(BATCH, int)],
        jax.tree.map(lambda leaf: leaf[np.zeros(BATCH, int)], start),
    )
    _, state, _, done, _ = functions.step(same_key, same_start, actions, functions.params)
    assert not np.any(done)
    assert_same(
        state, jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf)[:1], BATCH, axis=0), state)
    )
    if not case_of(name).moves_by_itself:
        assert_same(state._replace(time=state.time - 1), same_start)


# --- the switches of JAX -------------------------------------------------------------------------


def bare_play(env, params, key, steps):
    """Play in one scan without looking: the last state and what ``step`` paid, float32[steps]."""

    def body(state, key_and_action):
        step_key, action = key_and_action
        _, state, reward, _, _ = env.step(step_key, state, action, params)
        return state, reward

    reset_key, steps_key = jax.random.split(key)
    actions = np.arange(steps, dtype=np.int32) % 5
    _, start = env.reset(reset_key, params)
    return jax.lax.scan(body, start, (jax.random.split(steps_key, steps), actions))


def types_of(tree):
    """The shape and dtype of every leaf."""
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def half_expert(env, params, key, steps):
    """Play in one scan, every other action by the expert: what ``step`` returns, [steps, ...]."""
    _, start = env.reset(key, params)

    def body(state, number):
        by_expert = experts.expert(state, params)
        action = jnp.where(number % 2 == 0, by_expert, jnp.int32(number % 5))
        transition = env.step(jax.random.fold_in(key, number), state, action, params)
        return transition[1], (transition, by_expert, experts.worst(state, params))

    return jax.lax.scan(body, start, jnp.arange(steps, dtype=jnp.int32))[1]


@every_game
@pytest.mark.parametrize(
    "partial_obs",
    [pytest.param(False, id="MDP", marks=pytest.mark.slow), pytest.param(True, id="POMDP")],
)
def test_x64_changes_no_dtype(name, partial_obs):
    env, params = make(name, partial_obs=partial_obs)

    def types():
        played = jax.eval_shape(partial(half_expert, env, params, steps=2), jax.random.key(0))
        return types_of(played)

    expected = types()
    with switched(jax_enable_x64=True):
        assert types() == expected


@pytest.mark.slow
@every_game
def test_x64_changes_no_episode(name):
    env, params = make(name, partial_obs=True)

    def played():
        play = jax.jit(jax.vmap(partial(half_expert, env, params, steps=40)))
        return as_numpy(play(keys(0)))

    expected = played()
    with switched(jax_enable_x64=True):
        assert_same(played(), expected, exact=False)


@every_environment
@both_twins
def test_no_shape_or_dtype_is_promoted_implicitly(name, partial_obs):
    env, params = make(name, partial_obs=partial_obs)
    # NumPy's tables of 64-bit integers meet a state's 32 bits only under x64.
    strict = {"jax_numpy_rank_promotion": "raise", "jax_numpy_dtype_promotion": "strict"}
    with switched(**strict, jax_enable_x64=True):
        played = jax.eval_shape(partial(half_expert, env, params, steps=2), jax.random.key(0))
        state = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), played[0][1]
        )
        jax.eval_shape(env.step, jax.random.key(0), state, np.int32(0), params)


@pytest.mark.slow
@every_game
@both_twins
def test_debug_switches_find_no_fault_in_play(name, partial_obs):
    env, params = make(name, partial_obs=partial_obs)
    with switched(jax_debug_nans=True, jax_debug_key_reuse=True):
        played = jax.jit(partial(bare_play, env, params, steps=8))(jax.random.key(0))
    assert np.isfinite(played[1]).all()


@pytest.mark.slow
@every_game
@both_twins
@pytest.mark.parametrize(
    "switches",
    [
        {"jax_check_tracer_leaks": True},
        {"jax_threefry_partitionable": False},
        {"jax_threefry_partitionable": True},
        {"jax_default_prng_impl": "rbg"},
    ],
    ids=str,
)
def test_play_has_the_same_types_under_every_switch(name, partial_obs, switches):
    env, params = make(name, partial_obs=partial_obs)
    expected = jax.eval_shape(partial(half_expert, env, params, steps=2), jax.random.key(0))
    with switched(**switches):
        for key in (jax.random.key(0), jax.random.PRNGKey(0)):
            assert jax.eval_shape(partial(half_expert, env, params, steps=2), key) == expected


@pytest.mark.slow
@every_game
def test_an_episode_is_the_same_without_jit(name):
    env, params = make(name)
    functions = compiled(name)
    with switched(jax_disable_jit=True):
        _, state = env.reset(keys(0)[0], params)
        after = env.step(keys(1)[0], state, Action.FIRE, params)
    _, batch = functions.reset(keys(0), functions.params)
    expected = functions.step(keys(1), batch, np.full(BATCH, FIRE, np.int32), functions.params)
    assert_same(state, one_of(batch, 0), exact=False)
    assert_same(after[1:], one_of(expected[1:], 0), exact=False)


@pytest.mark.slow
@every_game
@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_typed_keys_of_another_generator_work(name, impl):
    env, params = make(name)
    key = jax.random.key(0, impl=impl)
    _, state = jax.eval_shape(env.reset, key, params)
    _, expected = jax.eval_shape(env.reset, jax.random.key(0), params)
    assert state == expected
    assert jax.eval_shape(env.step, key, state, 4, params)[1] == expected


ACTIONS = [FIRE, np.int64(FIRE), np.uint8(FIRE), np.array(FIRE), Action.FIRE]


def test_any_integer_scalar_is_an_action_under_jit():
    env, params = make("NavigatorEasy")
    key, step = jax.random.key(0), jax.jit(env.step)
    _, state = jax.eval_shape(env.reset, key, params)
    expected = jax.eval_shape(step, key, state, jnp.int32(FIRE), params)
    for action in ACTIONS:
        assert jax.eval_shape(step, key, state, action, params) == expected


@pytest.mark.slow
@every_game
def test_any_integer_scalar_is_an_action(name):
    functions = compiled(name)
    env, params = functions.env, functions.params
    _, start = functions.reset(keys(0), params)
    expected = functions.step_env(keys(1), start, np.full(BATCH, FIRE, np.int32), params)
    for action in ACTIONS:
        played = env.step_env(keys(1)[0], one_of(start, 0), action, params)
        assert_same(played[1:], one_of(expected[1:], 0), exact=False)


# --- several devices, checks, exported programs --------------------------------------------------


@every_game
def test_the_rules_of_a_game_run_in_a_scan_under_shard_map(name, monkeypatch):
    env, params = make(name)
    module = REGISTRY[name].module
    monkeypatch.setattr(module, "render", lambda state, params: state.time)  # drawing takes longest
    step = auto_reset(module.reset, module.step, module.render)
    env = env._replace(reset=module.reset, step=step)
    jax.eval_shape(on_one_device(jax.vmap(partial(bare_play, env, params, steps=2))), keys(0))


@pytest.mark.slow
@every_environment
@both_twins
def test_games_and_experts_run_under_shard_map(name, partial_obs):
    env, params = make(name, partial_obs=partial_obs)
    play = jax.vmap(partial(half_expert, env, params, steps=2))
    jax.eval_shape(on_one_device(play), keys(0))


def run_in_new_process(code, *arguments, **environment):
    """Run code with arguments, in the clone's folder, and pass on what it prints if it fails."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=GOLDEN.parent.parent,
        env={**os.environ, **environment},
    )
    assert not done.returncode, done.stderr


ON_FOUR_DEVICES = """
import sys
import jax, numpy as np
from functools import partial
from popgym_arcade import make
from test_games import bare_play
from tests.testing import PartitionSpec, shard_map

assert jax.device_count() == 4
mesh, spec = jax.sharding.Mesh(np.array(jax.devices()), ("device",)), PartitionSpec("device")
keys = jax.random.split(jax.random.key(0), 8)
for name in sys.argv[1:]:
    env, params = make(name, partial_obs=True)
    play = jax.vmap(partial(bare_play, env, params, steps=20))
    expected = jax.jit(play)(keys)
    sharded = jax.jit(shard_map(play, mesh=mesh, in_specs=spec, out_specs=spec))(keys)
    mapped = jax.pmap(play)(keys.reshape(4, 2))
    for one, other, third in zip(*map(jax.tree.leaves, (expected, sharded, mapped))):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(one, third.reshape(one.shape), rtol=1e-4, atol=1e-6)
"""


@pytest.mark.slow
def test_four_devices_play_the_episodes_of_one():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    names = "BreakoutEasy", "NoisyCartPoleEasy", "MineSweeperEasy"
    run_in_new_process(ON_FOUR_DEVICES, *names, XLA_FLAGS=flags, JAX_PLATFORMS="cpu")


@pytest.mark.slow
@every_game
def test_checkify_finds_no_fault(name):
    env, params = make(name)
    checks = checkify.index_checks | checkify.float_checks
    play = checkify.checkify(partial(bare_play, env, params, steps=8), errors=checks)
    error, _ = jax.jit(play)(jax.random.key(0))
    error.throw()


@every_game
def test_states_and_params_keep_their_types_in_an_exported_program(name):
    client("flatbuffers")
    export = pytest.importorskip("jax.export")
    _, params = make(name, partial_obs=True)
    state = jax.tree.unflatten(  # of scalars, which are enough here
        jax.tree.structure(jax.eval_shape(REGISTRY[name].reset, jax.random.key(0), params)[1]),
        [jnp.int32(i) for i in range(len(REGISTRY[name].module.State._fields))],
    )
    program = export.export(jax.jit(lambda *arguments: arguments))(state, params)
    read = export.deserialize(program.serialize())
    assert (read.in_tree, read.out_tree) == (program.in_tree, program.out_tree)


PLAY_EXPORTED = """
import sys
import jax, numpy as np
from jax import export
from pathlib import Path
from popgym_arcade import make

folder = Path(sys.argv[1])
for name in sys.argv[2:]:
    _, params = make(name, partial_obs=True, max_steps_in_episode=3)
    reset, step = (
        export.deserialize(bytearray((folder / f"{name}.{part}").read_bytes()))
        for part in ("reset", "step")
    )
    key = jax.random.PRNGKey(0)
    frame, state = reset.call(key, params)
    np.save(folder / f"{name}.npy", frame)
    for done in (False, False, True):
        frame, state, reward, is_done, info = step.call(key, state, np.int32(7), params)
        assert is_done == done, (name, done)
"""


@pytest.mark.slow
def test_exported_programs_play_in_a_new_process(tmp_path):
    client("flatbuffers")
    export = pytest.importorskip("jax.export")
    key = jax.random.PRNGKey(0)  # jax 0.5 cannot write typed keys
    for name in EASY:
        env, params = make(name, partial_obs=True)
        _, state = jax.eval_shape(env.reset, key, params)
        programs = {
            "reset": export.export(jax.jit(env.reset))(key, params),
            "step": export.export(jax.jit(env.step))(key, state, jnp.int32(0), params),
        }
        for part, program in programs.items():
            (tmp_path / f"{name}.{part}").write_bytes(program.serialize())
    run_in_new_process(PLAY_EXPORTED, str(tmp_path), *EASY)
    for name in EASY:
        functions = compiled(name, True)
        frames, _ = functions.reset(key[None], functions.params)
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), frames[0])


@every_module
def test_params_have_replace(module):
    params = module.Params().replace(obs_size=256)
    assert params == dataclasses.replace(module.Params(), obs_size=256) != module.Params()
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        params.replace(obs_sise=256)


@pytest.mark.slow
@every_game
def test_flax_keeps_params_and_states(name):
    serialization = client("flax.serialization")
    functions = compiled(name)
    state, params = functions.reset(keys(0), functions.params)[1], functions.params
    restored = serialization.from_bytes(state, serialization.to_bytes(state))
    assert type(restored) is type(state)
    assert_same(restored, state)
    fields = dataclasses.asdict(params)
    assert params == params.replace(
        **serialization.from_bytes(fields, serialization.to_bytes(fields))
    )


@pytest.mark.slow
@every_game
def test_orbax_keeps_params_and_states(name, tmp_path):
    checkpoint = client("orbax.checkpoint")
    functions = compiled(name)
    kept = {"params": functions.params, "state": functions.reset(keys(0), functions.params)[1]}
    with checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "kept", kept)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "kept", kept)
    assert restored["params"] == kept["params"]
    assert type(restored["state"]) is type(kept["state"])
    assert_same(restored["state"], kept["state"])


# --- auto-reset, overrides, errors ---------------------------------------------------------------


def step_keys(seed):
    """The keys that ``step`` passes to ``step_env`` when given keys(seed): key[BATCH]."""
    return jax.vmap(lambda key: jax.random.split(key)[0])(keys(seed))


def number_of_different(batch):
    """The number of distinct elements of a batched pytree."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(batch)]
    return len({tuple(leaf[i].tobytes() for leaf in leaves) for i in range(len(leaves[0]))})


@every_game
@both_twins
def test_auto_reset_gives_a_fresh_state_and_keeps_the_finished_step(name, partial_obs):
    functions = compiled(name, partial_obs)
    params = dataclasses.replace(functions.params, max_steps_in_episode=1)
    _, state = functions.reset(keys(0), params)
    actions = np.full(BATCH, FIRE, np.int32)
    obs, fresh, reward, done, info = functions.step(keys(1), state, actions, params)
    last = compiled(name).step_env(
        step_keys(1), state, actions, dataclasses.replace(params, partial_obs=False)
    )
    assert np.all(done)
    assert_same((reward, done, info), last[2:])
    assert np.all(fresh.time == 0) and np.all(fresh.score == 0)
    assert_same(obs, functions.render(fresh, params))
    assert number_of_different(obs) >= (2 if partial_obs else case_of(name).different_first_frames)
    assert number_of_different(fresh) >= case_of(name).different_starts
    for used_key in (keys(1), step_keys(1)):  # the reset has a key of its own
        from_used_key = functions.reset(used_key, params)[1]
        assert any(not np.array_equal(one, other) for one, other in zip(fresh, from_used_key))


@pytest.mark.slow
@every_game
def test_the_final_observation_is_the_frame_before_the_reset(name):
    env, params, reset, step = compiled_for_one(name)
    params = dataclasses.replace(params, max_steps_in_episode=2)
    _, state = reset(jax.random.key(0), params)
    for key, action, ends in (
        (jax.random.key(1), np.int32(7), False),
        (jax.random.key(2), np.int32(DOWN), True),
    ):
        last = env.step_env(jax.random.split(key)[0], state, action, params)
        obs, state, reward, done, info = step(key, state, action, params)
        assert bool(done) == ends
        assert_same(info.pop("final_observation"), last[0])
        assert_same((reward, done, info), last[2:])
        assert_same(obs, env.render(state, params))
        assert np.array_equal(obs, last[0]) != ends


@every_game
def test_without_an_end_the_step_is_the_bare_transition(name):
    functions = compiled(name)
    _, state = functions.reset(keys(0), functions.params)
    actions = np.full(BATCH, 7, np.int32)
    stepped = functions.step(keys(1), state, actions, functions.params)
    bare = functions.step_env(step_keys(1), state, actions, functions.params)
    assert not np.any(bare[3]) and set(bare[4]) == {"terminated", "truncated", "discount"}
    assert_same(stepped, bare, exact=False)


@every_game
def test_params_may_be_left_out(name):
    env, params = make(name, max_steps_in_episode=9)
    key = jax.random.key(0)
    assert env.default_params == params
    for leave_out in (env.reset, env.step, env.step_env, env.render):
        arguments = {"key": key, "state": None, "action": jnp.int32(0)}
        wanted = [
            argument
            for argument in arguments
            if argument in inspect.signature(leave_out).parameters
        ]
        arguments["state"] = jax.eval_shape(env.reset, key)[1]
        assert jax.tree.structure(
            jax.eval_shape(leave_out, *(arguments[argument] for argument in wanted))
        )
    assert env.observation_space() == env.observation_space(
        params
    ) and env.action_space() == env.action_space(params)


@every_game
def test_params_can_be_swept_with_vmap(name):
    env, params = make(name)
    limits = jnp.array([1, 2, 50])
    swept = dataclasses.replace(params, max_steps_in_episode=limits)
    axes = dataclasses.replace(jax.tree.map(lambda leaf: None, params), max_steps_in_episode=0)
    state = one_of(compiled(name).reset(keys(0), params)[1], 0)

    @jax.jit
    @partial(jax.vmap, in_axes=(None, None, None, axes))
    def flags(key, state, action, params):
        return env.step_env(key, state, action, params)[4]

    info = flags(jax.random.key(1), state, np.int32(UP), swept)
    assert info["truncated"].tolist() == [True, False, False]


@every_environment
def test_make_accepts_every_value_of_a_level(name):
    params = REGISTRY[name].params
    for field in dataclasses.fields(params):
        assert make(name, **{field.name: getattr(params, field.name)})[1] == params


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, ["'NavigatrEasy'", "NavigatorEasy"], dict(name="NavigatrEasy")),
        (ValueError, ["navigatoreasy", "NavigatorEasy"], dict(name="navigatoreasy")),
        (ValueError, ["obs_size", "128", "256", "200"], dict(name="NavigatorEasy", obs_size=200)),
        (TypeError, ["obs_size", "int", "'128'"], dict(name="NavigatorEasy", obs_size="128")),
        (TypeError, ["partial_obs", "bool", "1"], dict(name="NavigatorEasy", partial_obs=1)),
        (
            TypeError,
            ["final_observation", "True or False"],
            dict(name="NavigatorEasy", final_observation="no"),
        ),
        (ValueError, ["'board_sise'", "board_size"], dict(name="BattleShipEasy", board_sise=8)),
        (ValueError, ["'speed'", "there are", "noise_sigma"], dict(name="CartPoleEasy", speed=1.0)),
        (
            ValueError,
            ["board_size", "one of 6, 8, ..., 20", "is 4;", "nearest is 6"],
            dict(name="BattleShipEasy", board_size=4),
        ),
        (
            ValueError,
            ["board_size", "7", "nearest is 6"],
            dict(name="BattleShipEasy", board_size=7),
        ),
        (
            ValueError,
            ["board_size", "in [4, 20]", "is 2;", "nearest is 4"],
            dict(name="NavigatorEasy", board_size=2),
        ),
        (TypeError, ["board_size", "8.0", "float"], dict(name="NavigatorEasy", board_size=8.0)),
        (ValueError, ["num_cards", "nearest is 1"], dict(name="AutoEncodeEasy", num_cards=0)),
        (
            ValueError,
            ["max_steps_in_episode", "in [1, 2147483646]", "-1", "nearest is 1"],
            dict(name="CartPoleEasy", max_steps_in_episode=-1),
        ),
        (ValueError, ["noise_sigma", "nan"], dict(name="CartPoleEasy", noise_sigma=float("nan"))),
        (
            ValueError,
            ["noise_sigma", "in [0, 1000000]", "-0.5", "nearest is 0"],
            dict(name="CartPoleEasy", noise_sigma=-0.5),
        ),
        (TypeError, ["noise_sigma", "True"], dict(name="CartPoleEasy", noise_sigma=True)),
    ],
)
def test_bad_input_is_answered_at_make_in_one_sentence(error, words, arguments):
    with pytest.raises(error) as caught:
        make(**arguments)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message and len(message) < 250


@pytest.mark.parametrize("error", [TypeError, ValueError])
def test_an_unknown_override_is_an_unexpected_keyword_argument(error):
    with pytest.raises(error, match="unexpected keyword argument 'frameskip' for TetrisEasy"):
        make("TetrisEasy", frameskip=4)


@pytest.mark.parametrize("name", [3, None, ["TetrisEasy"], b"TetrisEasy"])
def test_a_name_that_is_not_a_str_is_a_type_error(name):
    with pytest.raises(TypeError, match="name is a str, e.g. 'NavigatorEasy', but it is"):
        make(name)


def test_numpy_scalars_are_as_good_as_pythons():
    as_numpy = dict(partial_obs=np.bool_(True), obs_size=np.int64(256), board_size=np.uint8(6))
    env, params = make("NavigatorEasy", final_observation=np.bool_(True), **as_numpy)
    assert params == make("NavigatorEasy", partial_obs=True, obs_size=256, board_size=6)[1]
    assert all(type(getattr(params, name)) in (bool, int) for name in as_numpy)
    sigma = make("CartPoleEasy", noise_sigma=np.float64(0.125))[1].noise_sigma
    assert sigma == 0.125 and type(sigma) is float


@pytest.mark.slow
@pytest.mark.parametrize("obs_size", [96, 192])
@every_game
def test_another_frame_size_needs_no_change_in_a_game(name, obs_size):
    entry = REGISTRY[name]
    state = one_of(compiled(name).reset(keys(0), entry.params)[1], 0)
    obs = jax.jit(entry.render)(state, dataclasses.replace(entry.params, obs_size=obs_size))
    assert obs.shape == (obs_size, obs_size, 3) and len(np.unique(np.asarray(obs))) > 4


def test_importing_the_package_touches_no_device():
    code = (
        "import popgym_arcade, popgym_arcade.experts, jax; assert not jax._src.xla_bridge._backends"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- golden frames -------------------------------------------------------------------------------


def golden_hash(name, partial_obs, for_users=False):
    """Hash the frames of 32 steps of BATCH episodes, half of them played by the expert.

    Float state is rounded to 1 / 1024 before it is drawn, so that last-bit differences between
    devices do not matter.
    """
    programs, params = compiled_programs(name, for_users), REGISTRY[name].params
    state = programs.reset(keys(11), params)[partial_obs]
    states, outcomes, number = [], [], np.arange(BATCH, dtype=np.int32)
    for i in range(32):
        states.append(
            jax.tree.map(
                lambda leaf: np.round(leaf * 1024) / 1024 if leaf.dtype == np.float32 else leaf,
                as_numpy(state),
            )
        )
        actions = programs.expert(state, number % 2 == 0, (7 * i + number) % 5, params)
        state, reward, done, _ = programs.step(keys(i), state, actions, params)[partial_obs]
        outcomes.append((np.asarray(reward), np.asarray(done)))
    every_state = jax.tree.map(lambda *leaves: np.concatenate(leaves), *states)
    view = dataclasses.replace(params, partial_obs=partial_obs)
    frames = np.asarray(programs.render(every_state, view))
    digest = hashlib.sha256()
    for some_frames, (reward, done) in zip(np.split(frames, len(states)), outcomes):
        digest.update(some_frames.tobytes())
        digest.update(done.tobytes() + np.round(reward * 1e5).astype(np.int32).tobytes())
    return digest.hexdigest()


@every_environment
def test_frames_are_the_golden_ones(name):
    golden = json.loads(GOLDEN.read_text())[name]
    frames = [golden_hash(name, partial_obs) for partial_obs in (False, True)]
    if golden["version"] == REGISTRY[name].version:
        assert [golden["MDP"], golden["POMDP"]] == frames, (
            "behavior changed: increase the game's VERSION, then run "
            "python test_games.py --write-golden"
        )
    else:
        assert [golden["MDP"], golden["POMDP"]] == frames, (
            "the VERSION changed: run python test_games.py --write-golden"
        )


@pytest.mark.slow
@every_game
def test_frames_as_users_compile_them_are_the_golden_ones(name):
    golden = json.loads(GOLDEN.read_text())[name]
    for twin, partial_obs in registry.TWINS.items():
        assert golden_hash(name, partial_obs, for_users=True) == golden[twin]


def assert_the_same_in_words(name, states, obs_size):
    """Check that both views of some states look the same if drawn as on a GPU."""
    for partial_obs in (False, True):
        env, params = make(name, partial_obs=partial_obs, obs_size=obs_size)
        draw_all = jax.jit(jax.vmap(env.render, in_axes=(0, None)))
        with drawn_in_words():
            frames = draw_all(states, params)
        np.testing.assert_array_equal(frames, rendered(name, partial_obs, states, obs_size))


@pytest.mark.slow
@every_environment
def test_frames_drawn_in_words_as_on_a_gpu_are_the_same(name):
    assert_the_same_in_words(name, as_numpy(some_states(name, count=128)), 128)


@pytest.mark.slow
@every_game
def test_large_frames_drawn_in_words_as_on_a_gpu_are_the_same(name):
    assert_the_same_in_words(name, as_numpy(some_states(name, count=32)), 256)


def write_golden():
    """Write the golden hashes, unless one changed while its game's VERSION did not."""
    old = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    new = {
        name: {
            "version": entry.version,
            "MDP": golden_hash(name, False),
            "POMDP": golden_hash(name, True),
        }
        for name, entry in REGISTRY.items()
    }
    stale = [
        name
        for name in new
        if name in old and old[name] != new[name] and old[name]["version"] == new[name]["version"]
    ]
    if stale:
        sys.exit(
            f"the frames of {', '.join(stale)} changed: increase the VERSION of their games first"
        )
    GOLDEN.write_text(json.dumps(new, indent=2) + "\n")


# --- what the views show and hide ----------------------------------------------------------------


def fingerprints(frames):
    """A number for each frame, equal for equal frames and very rarely for others: list of int."""
    words = frames.reshape(len(frames), -1).view(np.uint64)
    weights = np.random.default_rng(0).integers(0, 2**64, words.shape[1], np.uint64) | np.uint64(1)
    return (words @ weights).tolist()


@every_discrete_environment
@both_twins
def test_two_frames_are_equal_if_and_only_if_what_the_view_shows_is(name, partial_obs):
    case, params, played = case_of(name), REGISTRY[name].params, some_states(name)
    frame_of, shown_of, count = {}, {}, 0
    scrambled = [case.scramble(np.random.default_rng(seed), played, params) for seed in (1, 2)]
    undealt = {field: getattr(scrambled[0], field) for field in case.undealt}
    otherwise_dealt = jax.tree.map(lambda leaf: leaf[:256], played._replace(**undealt))
    other_score = jax.tree.map(lambda leaf: leaf[:256], played._replace(score=played.score + 1))
    for states in (played, otherwise_dealt, other_score, *scrambled):
        all_shown = shown_by(name, partial_obs)(states)
        for shown, frame in zip(all_shown, fingerprints(rendered(name, partial_obs, states))):
            assert frame_of.setdefault(shown.tobytes(), frame) == frame, (
                f"the view leaks: {shown} is drawn in two ways"
            )
            assert np.array_equal(shown_of.setdefault(frame, shown), shown), (
                f"the view lacks: {shown} looks like {shown_of[frame]}"
            )
            count += 1
    assert len(frame_of) < count  # some states share a frame, so there were pairs to compare


@every_discrete_environment
@both_twins
def test_a_change_of_one_field_changes_the_frame_if_and_only_if_the_view_shows_it(
    name, partial_obs
):
    case, params = case_of(name), REGISTRY[name].params
    played = jax.tree.map(lambda leaf: leaf[:256], some_states(name))
    one, other = (case.scramble(np.random.default_rng(seed), played, params) for seed in (3, 4))

    def seen(states):
        return shown_by(name, partial_obs)(states), rendered(name, partial_obs, states)

    shown, frames = seen(one)
    for fields in [
        case.together,
        *((field,) for field in one._fields if field not in case.together),
    ]:
        changed = {field: getattr(other, field) for field in fields}
        if all(np.array_equal(value, getattr(one, field)) for field, value in changed.items()):
            continue
        changed_shown, changed_frames = seen(one._replace(**changed))
        differ = np.any(shown != changed_shown, axis=1)
        np.testing.assert_array_equal(
            np.any(frames != changed_frames, axis=(1, 2, 3)), differ, err_msg=f"change of {fields}"
        )


@every_game
def test_both_twins_draw_the_same_score_and_name(name):
    state = some_states(name, 512)
    frames = [rendered(name, partial_obs, state) for partial_obs in (False, True)]
    edges = draw.SCORE_UNITS, draw.SCORE_UNITS + draw.FIELD_UNITS
    np.testing.assert_array_equal(frames[0][:, : edges[0]], frames[1][:, : edges[0]])
    np.testing.assert_array_equal(frames[0][:, edges[1] :], frames[1][:, edges[1] :])
    more = rendered(name, False, state._replace(score=state.score + 1))
    assert np.all(np.any(more[:, : edges[0]] != frames[0][:, : edges[0]], axis=(1, 2, 3)))


# --- the MDP's view is Markov --------------------------------------------------------------------

ROLLOUTS, EXPLORED_STEPS = 128, 64
PAIRS, SEQUENCES, FUTURE_STEPS = 32, 8, 12


def explore(name, seed):
    """Play many rollouts from one start with shared chance: (states, what frames show, over).

    All have leaves [steps * ROLLOUTS, ...]. over: the episode had ended. Nothing is drawn here:
    that frames are equal if and only if what they show is equal is tested above.
    """
    programs, params = compiled_programs(name), REGISTRY[name].params
    rng = np.random.default_rng(seed)
    start = one_of(many_starts(name), seed)
    state = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (ROLLOUTS, *leaf.shape)), start)
    over, explored = np.zeros(ROLLOUTS, bool), []
    for key in keys(seed, EXPLORED_STEPS):
        by_expert, others = rng.random(ROLLOUTS) < 0.3, rng.integers(0, 5, ROLLOUTS, np.int32)
        action = programs.expert(state, by_expert, others, params)
        same_key = np.broadcast_to(jax.random.key_data(key), (ROLLOUTS, 2))
        state, _, done, _ = programs.step_env(same_key, state, action, params)
        over = over | np.asarray(done)
        explored.append((as_numpy(state), over))
    states, over = jax.tree.map(lambda *leaves: np.concatenate(leaves), *explored)
    return states, shown_by(name, False)(states), over


def futures_differ(name, seed, one, other, actions):
    """Whether pairs of states differ in later rewards, terminations or views: bool[pairs].

    Both are played with the same actions, int32[pairs, steps], and the same chance.
    """
    programs, params = compiled_programs(name), REGISTRY[name].params
    pairs, steps = actions.shape
    states, over, differ = [one, other], np.zeros(pairs, bool), np.zeros(pairs, bool)
    for key, action in zip(keys(seed, steps), actions.T):
        same_key = np.broadcast_to(jax.random.key_data(key), (pairs, 2))
        played = [programs.step_env(same_key, state, action, params) for state in states]
        states = [state for state, *_ in played]
        seen = [
            (shown_by(name, False)(state), np.asarray(reward), np.asarray(info["terminated"]))
            for state, reward, _, info in played
        ]
        unlike = [np.any((a != b).reshape(pairs, -1), axis=1) for a, b in zip(*seen)]
        differ |= np.any(unlike, axis=0) & ~over
        over = over | np.asarray(played[0][2]) | np.asarray(played[1][2])
    return differ


def bytes_of(states, fields):
    """The bytes of some fields of a batch of states: uint8[count, bytes]."""
    count = len(states.time)
    leaves = [np.ascontiguousarray(getattr(states, field)).reshape(count, -1) for field in fields]
    return np.concatenate(
        [np.zeros((count, 0), np.uint8), *(leaf.view(np.uint8) for leaf in leaves)], axis=1
    )


@every_discrete_game  # the floats of CartPole are finer than any pixel can show
@pytest.mark.parametrize("seeds", [[0, 1], pytest.param([2, 3], marks=pytest.mark.slow)], ids=str)
def test_states_that_look_alike_in_the_mdp_have_the_same_future(name, seeds):
    """Search for two reachable states with equal frames and different futures.

    What chance has decided but not shown yet (undealt cards, ships not hit) is the same in all
    rollouts from one start, and later random numbers are the same for both states. The elapsed time
    may differ.
    """
    rng, explored = np.random.default_rng(seeds), 0
    for seed in seeds:
        states, looks, over = explore(name, seed)
        alike = {}
        unlike_of = bytes_of(states, [field for field in states._fields if field != "time"])
        chance_of = bytes_of(states, case_of(name).undealt)
        for i in np.flatnonzero(~over):
            unlike, chance = unlike_of[i].tobytes(), chance_of[i].tobytes()
            alike.setdefault((looks[i].tobytes(), chance), {}).setdefault(unlike, i)
        pairs = [
            (first, other)
            for first, *others in (list(group.values()) for group in alike.values())
            for other in others
        ]
        explored += sum(map(len, alike.values()))
        if pairs:
            pairs = np.array(pairs)[rng.integers(0, len(pairs), PAIRS)].repeat(SEQUENCES, axis=0)
            one, other = (
                jax.tree.map(lambda leaf, side=side: leaf[side], states) for side in pairs.T
            )
            actions = rng.integers(0, 5, (len(pairs), FUTURE_STEPS)).astype(np.int32)
            differ = futures_differ(name, seed, one, other, actions)
            assert not differ.any(), (
                "same frame, different futures: "
                f"{one_of(one, differ.argmax())} and {one_of(other, differ.argmax())}"
            )
    assert explored > 50  # if no two states look alike, nothing is compared, which is fine


# --- levels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("game", GAMES)
def test_levels_are_those_of_the_rulebook(game):
    for field, values in case_of(game + "Easy").levels.items():
        assert (
            tuple(
                getattr(REGISTRY[game + level].params, field)
                for level in ("Easy", "Medium", "Hard")
            )
            == values
        )


# --- the contract, by reflection -----------------------------------------------------------------

SIGNATURES = {
    "reset": ["key", "params"],
    "step": ["key", "state", "action", "params"],
    "render": ["state", "params"],
}
CONSTANTS = {"NAME", "VERSION", "RETURN_RANGE", "LEVELS"}
PARAMS_CONTRACT = (
    "Params is a frozen dataclass, registered with draw.register_params, with the "
    "fields partial_obs, obs_size and max_steps_in_episode. Each field is an int, float, bool or "
    "str with a default and with metadata: 'allowed' gives the values that make takes, a range or "
    "a tuple for an int, a tuple for a bool or str, and (low, high) for a float; 'static': True "
    "marks what sets a shape or picks a branch, which includes every bool and str"
)
SHARED_FIELDS = {  # what every Params has: type, allowed values, whether it is static
    "partial_obs": (bool, (False, True), True),
    "obs_size": (int, draw.OBS_SIZES, True),
    "max_steps_in_episode": (int, draw.STEP_LIMITS, False),
}


def params_faults(params_type):
    """What is wrong with a game's Params under PARAMS_CONTRACT: a list of sentences."""
    if not (dataclasses.is_dataclass(params_type) and params_type.__dataclass_params__.frozen):
        return ["it is not a frozen dataclass"]
    fields = {field.name: field for field in dataclasses.fields(params_type)}
    faults = [f"there is no field {name}" for name in SHARED_FIELDS if name not in fields]
    for name, field in fields.items():
        faults += [f"{name}: {fault}" for fault in field_faults(field)]
    if not faults:
        dynamic = [field for field in fields.values() if not field.metadata.get("static")]
        leaves = jax.tree.leaves(params_type())
        if len(leaves) != len(dynamic):
            faults.append("it is not registered with jax, or not with these static fields")
    return faults


def field_faults(field):
    """What is wrong with a field of a Params: a list of sentences."""
    allowed, static = field.metadata.get("allowed"), field.metadata.get("static", False)
    expected = SHARED_FIELDS.get(field.name)
    if expected and (field.type, allowed, static) != expected:
        found = (field.type, allowed, static)
        return [f"(type, allowed, static) must be {expected}, but is {found}"]
    if field.type not in (int, float, bool, str):
        return [f"its type is {field.type}"]
    if field.default is dataclasses.MISSING:
        return ["it has no default"]
    if not field.metadata.keys() <= {"allowed", "static"} or static not in (True, False):
        return [f"its metadata is {dict(field.metadata)}"]
    if field.type in (bool, str) and not static:
        return ["it is not static"]
    if field.type is float:
        return float_faults(field.name, field.default, allowed)
    if not (
        (isinstance(allowed, range) and field.type is int)
        or (isinstance(allowed, tuple) and all(type(value) is field.type for value in allowed))
    ):
        return [f"'allowed' is {allowed}"]
    return [] if field.default in allowed else [f"its default, {field.default}, is not allowed"]


def float_faults(name, default, allowed):
    """What is wrong with the allowed values of a float: a list of sentences."""
    if not (isinstance(allowed, tuple) and list(map(type, allowed)) == [float, float]):
        return [f"'allowed' is {allowed}"]
    if name.endswith("_reward") and allowed is not draw.ANY_REWARD:
        return ["the bounds of a reward must be draw.ANY_REWARD"]
    return (
        [] if allowed[0] <= default <= allowed[1] else [f"its default, {default}, is not allowed"]
    )


def functions_of(module):
    """The functions defined in a module, by name."""
    members = inspect.getmembers(module, lambda member: inspect.isfunction(inspect.unwrap(member)))
    return {
        name: member
        for name, member in members
        if inspect.unwrap(member).__module__ == module.__name__
    }


@every_module
def test_a_game_has_the_functions_and_arguments_of_the_contract(module):
    functions = functions_of(module)
    assert {
        name: list(inspect.signature(functions[name]).parameters) for name in SIGNATURES
    } == SIGNATURES
    assert set(module.LEVELS) == {"Easy", "Medium", "Hard"}
    assert all(isinstance(params, module.Params) for params in module.LEVELS.values())
    assert isinstance(module.NAME, str) and isinstance(module.VERSION, int)
    low, high = module.RETURN_RANGE
    assert low < high


@every_module
def test_a_games_params_keep_the_contract(module):
    faults = params_faults(module.Params)
    assert not faults, f"{PARAMS_CONTRACT}.\nIn {module.__name__}: {'; '.join(faults)}."


def test_params_that_break_the_contract_are_told_what_is_wrong():
    good = {"metadata": {"static": True, "allowed": (False, True)}}

    def fault_of(type_, default, **options):
        field = dataclasses.field(default=default, **options)
        made = dataclasses.make_dataclass("Params", [("field", type_, field)], frozen=True)
        return params_faults(made)[-1]

    assert params_faults(int) == ["it is not a frozen dataclass"]
    assert fault_of(bool, False, **good) == "there is no field max_steps_in_episode"
    assert fault_of(int, 3) == "field: 'allowed' is None"
    assert fault_of(int, 3, metadata={"allowed": (1.0, 4.0)}).startswith("field: 'allowed' is")
    assert (
        fault_of(int, 3, metadata={"allowed": range(3)}) == "field: its default, 3, is not allowed"
    )
    assert fault_of(int, 3, metadata={"alowed": range(9)}).startswith("field: its metadata is")
    assert fault_of(float, 3.0, metadata={"allowed": range(9)}).startswith("field: 'allowed' is")
    assert fault_of(bool, False, metadata={"allowed": (False, True)}) == "field: it is not static"
    assert fault_of(list, None).startswith("field: its type is")


@every_module
def test_a_games_public_names_are_in_all_and_its_functions_are_annotated(module):
    names = set(module.__all__)
    assert len(names) == len(module.__all__) and all(hasattr(module, name) for name in names)
    assert {*CONSTANTS, *SIGNATURES, "Params", "State"} <= names
    for name, function in functions_of(module).items():
        assert (name in names) != name.startswith("_"), f"{name} must be in __all__ or begin with _"
        hints = typing.get_type_hints(function)
        missing = {*inspect.signature(function).parameters, "return"} - set(hints)
        assert not missing, f"{module.__name__}.{name} lacks annotations of {sorted(missing)}"


@every_module
def test_a_games_docstring_is_its_rulebook(module):
    rules_of(module)  # raises unless it has the form described in play/rules.py
    for level, params in module.LEVELS.items():
        assert level in module.__doc__ and str(params.max_steps_in_episode) in module.__doc__


@every_module
def test_every_function_of_a_game_is_documented_and_says_shapes(module):
    for name, function in functions_of(module).items():
        doc = inspect.getdoc(function)
        assert doc, name
        if name in SIGNATURES:
            assert "uint8[S, S, 3]" in doc and all(
                argument in doc for argument in SIGNATURES[name] if name != "render"
            )


@every_module
def test_a_game_imports_one_thing_of_this_project_and_defines_only_params_and_state(module):
    tree = ast.parse(inspect.getsource(module))
    imports = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert [line for line in imports if "popgym_arcade" in line] == [
        "from popgym_arcade import render as draw"
    ]
    assert {line.split()[1].split(".")[0] for line in imports} <= {
        "dataclasses",
        "typing",
        "jax",
        "numpy",
        "popgym_arcade",
    }
    assert [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)] == [
        "Params",
        "State",
    ]
    lengths = [
        node.end_lineno - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    ]
    assert max(lengths) <= 40


@every_module
def test_every_field_of_a_state_is_described_and_used(module):
    source = inspect.getsource(module)
    state = inspect.getsource(module.State)
    for field in module.State._fields:
        line = next(line for line in state.splitlines() if line.strip().startswith(f"{field}: "))
        assert "  # " in line and any(
            dtype in line for dtype in ("bool[", "int8[", "int32[", "float32[")
        )
        described = line.split("#")[1].split("[")[0].strip()
        _, start = jax.eval_shape(module.reset, jax.random.key(0), module.LEVELS["Easy"])
        assert getattr(start, field).dtype == jnp.dtype(described)
        assert re.search(rf"\bstate\.{field}\b", source.replace(state, ""))


@every_game
def test_every_game_has_players(name):
    assert type(REGISTRY[name].params) in experts.GAME_POLICIES


if __name__ == "__main__":
    if sys.argv[1:] != ["--write-golden"]:
        sys.exit(__doc__)
    write_golden()
