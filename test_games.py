"""The games' tests: the contract that every game keeps, then each game's own rules on boards drawn here.

``python test_games.py --write-golden`` writes the hashes of golden frames anew. It refuses while a game whose frames have changed
still has the VERSION that the old hashes were made with.
"""

import ast
import dataclasses
import hashlib
import inspect
import json
import pathlib
import subprocess
import sys
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from popgym_arcade import GAMES, REGISTERED_ENVIRONMENTS, REGISTRY, experts, make
from popgym_arcade import render as draw
from popgym_arcade.games import autoencode, battleship, cartpole, navigator
from popgym_arcade.wrappers import log_episodes

UP, DOWN, LEFT, RIGHT, FIRE = range(5)
TWINS = [pytest.param(False, id="MDP"), pytest.param(True, id="POMDP")]
EASY = [game + "Easy" for game in GAMES]
MODULES = {module.__name__.split(".")[-1]: module for module, _ in GAMES.values()}
GOLDEN = pathlib.Path(__file__).parent / "golden.json"

every_environment = pytest.mark.parametrize("name", REGISTERED_ENVIRONMENTS)
every_game = pytest.mark.parametrize("name", EASY)
every_module = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES.keys())
both_twins = pytest.mark.parametrize("partial_obs", TWINS)


BATCH = 16


class Functions(NamedTuple):
    """An environment compiled for batches of BATCH keys, states and actions (another size would compile anew)."""

    env: object
    params: object
    reset: object
    step: object
    step_env: object
    render: object


@cache
def compiled(name, partial_obs=False, obs_size=128):
    env, params = make(name, partial_obs=partial_obs, obs_size=obs_size)
    reset = jax.jit(jax.vmap(env.reset, in_axes=(0, None)))
    step, step_env = (jax.jit(jax.vmap(step, in_axes=(0, 0, 0, None))) for step in (env.step, env.step_env))
    return Functions(env, params, reset, step, step_env, jax.jit(jax.vmap(env.render, in_axes=(0, None))))


def keys(seed, count=BATCH):
    return jax.random.split(jax.random.key(seed), count)


def assert_same(one, other, exact=True):
    """Two pytrees are alike: dtypes, shapes and values; floats only to rounding unless exact."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if exact or a.dtype.kind != "f":
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def chi_square_p(counts, expected=None):
    """The probability that counts this uneven come from the expected ones (equal ones by default)."""
    return stats.chisquare(counts, expected).pvalue


# --- the contract, for every environment ------------------------------------------------------------


@every_environment
@both_twins
@pytest.mark.parametrize("obs_size", draw.OBS_SIZES)
def test_shapes_and_dtypes_are_as_promised(name, partial_obs, obs_size):
    env, params = make(name, partial_obs=partial_obs, obs_size=obs_size)
    key = jax.random.key(0)
    obs, state = jax.eval_shape(env.reset, key, params)
    for step in (env.step, env.step_env):
        next_obs, next_state, reward, done, info = jax.eval_shape(step, key, state, jnp.int32(0), params)
        assert (next_obs.shape, next_obs.dtype) == (obs.shape, obs.dtype) == ((obs_size, obs_size, 3), jnp.uint8)
        assert jax.tree.map(lambda a: (a.shape, a.dtype, a.weak_type), next_state) == jax.tree.map(
            lambda a: (a.shape, a.dtype, a.weak_type), state
        )
        assert [(value.shape, value.dtype) for value in (reward, done)] == [((), jnp.float32), ((), jnp.bool_)]
        assert {k: (v.shape, v.dtype) for k, v in info.items()} == {
            "terminated": ((), jnp.bool_),
            "truncated": ((), jnp.bool_),
            "discount": ((), jnp.float32),
        }
    assert state.time.dtype == state.score.dtype == jnp.int32
    assert env.observation_space(params).shape == obs.shape and env.num_actions == env.action_space(params).n == 5
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    assert size < 1024


@every_game
@both_twins
@pytest.mark.parametrize("obs_size", draw.OBS_SIZES)
def test_observations_lie_in_the_observation_space(name, partial_obs, obs_size):
    functions = compiled(name, partial_obs, obs_size)
    obs, _ = functions.reset(keys(0), functions.params)
    assert all(functions.env.observation_space(functions.params).contains(frame) for frame in obs)
    assert len(np.unique(np.asarray(obs))) > 4


def one_of(batch, i):
    """Element i of a batched pytree."""
    return jax.tree.map(lambda leaf: leaf[i], batch)


def rendered(name, partial_obs, states):
    """The frames of any multiple of BATCH states, as NumPy."""
    functions = compiled(name, partial_obs)
    count = len(states.time)
    batches = (jax.tree.map(lambda leaf, i=i: leaf[i : i + BATCH], states) for i in range(0, count, BATCH))
    return np.concatenate([np.asarray(functions.render(batch, functions.params)) for batch in batches])


@every_environment
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
        actions, step_keys = (jnp.arange(BATCH) + shift) % 6, keys(shift)
        batch = functions.step_env(step_keys, state, actions, params)
        for i in (shift, 4 - shift, 5):
            eager = env.step_env(step_keys[i], one_of(state, i), actions[i], params)
            assert_same(eager[1:], one_of(batch[1:], i), exact=False)
            # The frame is a function of the state, whose floats differ by rounding, so each is held to its own state.
            assert_same(eager[0], env.render(eager[1], params))
            assert_same(batch[0][i], env.render(one_of(batch[1], i), params))
        state = batch[1]


@every_game
def test_jit_of_one_is_one_of_a_batch(name):
    functions = compiled(name)
    obs, state = jax.jit(functions.env.reset)(keys(1)[3], functions.params)
    batch = functions.reset(keys(1), functions.params)
    assert_same(state, one_of(batch[1], 3), exact=False)
    stepped = jax.jit(functions.env.step)(keys(2)[3], one_of(batch[1], 3), jnp.int32(FIRE), functions.params)
    in_batch = functions.step(keys(2), batch[1], jnp.full(BATCH, FIRE), functions.params)
    assert_same(stepped[1:], one_of(in_batch[1:], 3), exact=False)
    assert_same((obs, stepped[0]), (functions.env.render(state), functions.env.render(stepped[1])))


@every_game
def test_one_trace_per_static_configuration(name):
    env, params = make(name)
    step = jax.jit(env.step)
    _, state = jax.jit(env.reset)(jax.random.key(0), params)
    for i in range(3):
        _, state, *_ = step(jax.random.key(i), state, jnp.int32(i), params)
    step(jax.random.key(0), state, jnp.int32(0), dataclasses.replace(params, max_steps_in_episode=7))
    assert step._cache_size() == 1
    step(jax.random.key(0), state, jnp.int32(0), dataclasses.replace(params, partial_obs=True))
    assert step._cache_size() == 2


@every_game
@both_twins
def test_same_key_same_everything_and_other_key_another_episode(name, partial_obs):
    functions = compiled(name, partial_obs)
    first, again = (functions.reset(keys(3), functions.params) for _ in range(2))
    assert_same(first, again)
    actions = jnp.arange(BATCH) % 5
    assert_same(*(functions.step(keys(4), first[1], actions, functions.params) for _ in range(2)))
    other = functions.reset(keys(5), functions.params)
    assert any(not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(first[1]), jax.tree.leaves(other[1])))


@every_game
def test_typed_and_raw_keys_both_work(name):
    env, params = make(name)

    @jax.jit
    def two_steps(key):
        _, state = env.reset(key, params)
        return [state := env.step(key, state, action, params)[1] for action in (FIRE, LEFT)]

    assert_same(two_steps(jax.random.PRNGKey(7)), two_steps(jax.random.key(7)))


@every_environment
def test_twins_share_states(name):
    mdp, pomdp = compiled(name, False), compiled(name, True)
    _, state = pomdp.reset(keys(0), pomdp.params)
    assert_same(state, mdp.reset(keys(0), mdp.params)[1])
    for i in range(3):
        actions = (jnp.arange(BATCH) + i) % 5
        through_pomdp = pomdp.step_env(keys(i), state, actions, pomdp.params)
        through_mdp = mdp.step_env(keys(i), state, actions, mdp.params)
        assert_same(through_pomdp[1:], through_mdp[1:], exact=False)
        state = through_pomdp[1]


# --- returns, flags and limits ------------------------------------------------------------


def play(name, player, seed, episodes):
    """Play whole episodes without auto-reset: returns, lengths and the flags of the last step, as NumPy arrays."""
    env, params = make(name)

    def episode(key):
        all_keys = jax.random.split(key, params.max_steps_in_episode + 1)
        _, state = env.reset(all_keys[0], params)

        def body(carry, step_key):
            state, over, total, length, flags = carry
            _, next_state, reward, done, info = env.step_env(step_key, state, player(state, params), params)
            kept = jax.tree.map(lambda old, new: jnp.where(over, old, new), (state, flags), (next_state, info))
            return (kept[0], over | done, total + jnp.where(over, 0, reward), length + ~over, kept[1]), None

        flags = {"terminated": jnp.bool_(False), "truncated": jnp.bool_(False), "discount": jnp.float32(1)}
        start = (state, jnp.bool_(False), jnp.float32(0), jnp.int32(0), flags)
        return state, jax.lax.scan(body, start, all_keys[1:])[0]

    start, (last, over, total, length, flags) = jax.jit(jax.vmap(episode))(keys(seed, episodes))
    assert np.all(over)
    return jax.tree.map(np.asarray, (start, last, total, length, flags))


def manhattan(state):
    return abs(state.row - state.treasure_row) + abs(state.col - state.treasure_col)


BEST_RETURN = {
    "AutoEncode": lambda start, params: np.ones(start.time.shape),
    "BattleShip": lambda start, params: np.ones(start.time.shape),
    "CartPole": lambda start, params: np.ones(start.time.shape),
    "NoisyCartPole": lambda start, params: np.ones(start.time.shape),
    "Navigator": lambda start, params: 1 - 0.5 / params.board_size**2 * manhattan(start),
}
WORST_RETURN = {
    "AutoEncode": lambda start, params: np.zeros(start.time.shape),
    "BattleShip": lambda start, params: -np.ones(start.time.shape),
    "CartPole": lambda start, params: fewest_survived(start, params) / params.max_steps_in_episode,
    "NoisyCartPole": lambda start, params: fewest_survived(start, params) / params.max_steps_in_episode,
    "Navigator": lambda start, params: np.full(start.time.shape, -0.5 - 0.5 * (1 - 1 / params.board_size**2)),
}


def game_of(name):
    return next(game for game in sorted(GAMES, key=len, reverse=True) if name.startswith(game))


def fewest_survived(start, params, horizon=10):
    """The fewest steps that any sequence of pushes survives, by trying them all: int[episodes]."""
    sequences = np.stack(np.meshgrid(*[[LEFT, FIRE, RIGHT]] * horizon, indexing="ij"), -1).reshape(-1, horizon)

    def survived(state, actions):
        def push(carry, action):
            state, alive = carry
            state = cartpole.advance(state, cartpole.push(action, params), params)
            alive = alive & cartpole.in_range(state)
            return (state, alive), alive

        return jnp.sum(jax.lax.scan(push, (state, jnp.bool_(True)), actions)[1])

    fewest = jax.jit(lambda state: jnp.min(jax.vmap(survived, in_axes=(None, 0))(state, sequences)))
    some = [int(fewest(jax.tree.map(lambda leaf, i=i: leaf[i], start))) for i in range(16)]
    assert max(some) < horizon
    return np.array(some)


@every_environment
def test_the_expert_earns_exactly_the_maximum(name):
    params = REGISTRY[name].params
    start, last, total, length, flags = play(name, experts.expert, seed=0, episodes=256)
    np.testing.assert_allclose(total, BEST_RETURN[game_of(name)](start, params), atol=5e-6)
    ends_by_limit = "CartPole" in name
    assert np.all(flags["truncated"] == ends_by_limit) and np.all(flags["terminated"] != ends_by_limit)


@every_environment
def test_the_worst_player_earns_exactly_the_minimum(name):
    params = REGISTRY[name].params
    start, _, total, _, _ = play(name, experts.worst, seed=1, episodes=256)
    minimum = WORST_RETURN[game_of(name)](start, params)
    np.testing.assert_allclose(total[: len(minimum)], minimum, atol=5e-6)


@every_environment
def test_ten_thousand_random_steps_keep_to_the_rules(name):
    env, params = make(name, partial_obs=True)
    env = log_episodes(env)
    low = -1.0 if game_of(name) in ("BattleShip", "Navigator") else 0.0
    steps = max(200, params.max_steps_in_episode + 1)
    count = -(-10_000 // steps)

    @jax.jit
    def rollout(key):
        _, state = jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(key, count), params)

        def body(state, key):
            step_key, action_key = jax.random.split(key)
            actions = jax.random.randint(action_key, (count,), -2, 8)
            before = state.env_state.time
            _, state, reward, done, info = jax.vmap(env.step, in_axes=(0, 0, 0, None))(
                jax.random.split(step_key, count), state, actions, params
            )
            return state, (before, state.env_state, reward, done, info)

        return jax.lax.scan(body, state, jax.random.split(key, steps))[1]

    before, state, reward, done, info = jax.tree.map(np.asarray, rollout(jax.random.key(2)))
    assert np.array_equal(done, info["terminated"] | info["truncated"]) and done.any()
    assert np.array_equal(info["truncated"], before + 1 == params.max_steps_in_episode)
    assert np.array_equal(info["discount"], np.where(info["terminated"], 0, 1).astype(np.float32))
    assert np.array_equal(state.time, np.where(done, 0, before + 1))
    assert np.all(state.score[done] == 0) and np.all(state.score >= 0)
    returns = info["returned_episode_returns"][done]
    assert np.all(returns >= low - 1e-5) and np.all(returns <= 1 + 1e-5)
    assert np.all(np.isfinite(reward)) and np.all(np.abs(reward) <= 1)


@every_game
def test_flags_agree_at_the_limit(name):
    env, params = make(name, max_steps_in_episode=3)
    _, state = env.reset(jax.random.key(0), params)
    step = jax.jit(env.step_env)
    for time in (1, 2, 3):
        _, state, _, done, info = step(jax.random.key(time), state, jnp.int32(7), params)
        assert (int(state.time), bool(done), bool(info["truncated"])) == (time, time == 3, time == 3)
        assert not info["terminated"] and info["discount"] == 1


@every_game
def test_an_unknown_action_only_lets_time_pass(name):
    env, params = make(name)
    _, state = env.reset(jax.random.key(0), params)
    step = jax.jit(env.step_env)
    _, reference, *_ = step(jax.random.key(1), state, jnp.int32(5), params)
    for action in (-1, -4, 6, 99):
        assert_same(step(jax.random.key(1), state, jnp.int32(action), params)[1], reference)
    if "CartPole" not in name:
        assert_same(reference._replace(time=state.time), state)


# --- auto-reset, overrides, errors ---------------------------------------------------------------------------------------------


@every_game
@both_twins
def test_auto_reset_gives_a_fresh_state_and_keeps_the_finished_step(name, partial_obs):
    functions = compiled(name, partial_obs)
    params = dataclasses.replace(functions.params, max_steps_in_episode=1)
    _, state = functions.reset(keys(0), params)
    actions = jnp.full(BATCH, FIRE)
    obs, fresh, reward, done, info = functions.step(keys(1), state, actions, params)
    step_keys = jax.vmap(lambda key: jax.random.split(key)[0])(keys(1))
    last = functions.step_env(step_keys, state, actions, params)
    assert np.all(done)
    assert_same((reward, done, info), last[2:])
    assert np.all(fresh.time == 0) and np.all(fresh.score == 0)
    assert_same(obs, functions.render(fresh, params))
    assert len(np.unique(np.asarray(obs).reshape(BATCH, -1), axis=0)) > (1 if partial_obs or "AutoEncode" in name else 8)
    chance = [np.asarray(leaf).reshape(BATCH, -1) for leaf in jax.tree.leaves(fresh)]
    assert max(len(np.unique(leaf, axis=0)) for leaf in chance) == BATCH


@every_game
def test_the_final_observation_is_the_frame_before_the_reset(name):
    env, params = make(name, final_observation=True, max_steps_in_episode=2)
    step = jax.jit(env.step)
    _, state = env.reset(jax.random.key(0), params)
    for key, ends in ((jax.random.key(1), False), (jax.random.key(2), True)):
        last = env.step_env(jax.random.split(key)[0], state, DOWN, params)
        obs, state, reward, done, info = step(key, state, DOWN, params)
        assert bool(done) == ends
        assert_same(info.pop("final_observation"), last[0])
        assert_same((reward, done, info), last[2:])
        assert np.array_equal(obs, last[0]) != ends or "AutoEncode" in name


@every_game
def test_without_an_end_the_step_is_the_bare_transition(name):
    functions = compiled(name)
    _, state = functions.reset(keys(0), functions.params)
    actions = jnp.full(BATCH, 7)
    step_keys = jax.vmap(lambda key: jax.random.split(key)[0])(keys(1))
    stepped = functions.step(keys(1), state, actions, functions.params)
    bare = functions.step_env(step_keys, state, actions, functions.params)
    assert not np.any(bare[3]) and set(bare[4]) == {"terminated", "truncated", "discount"}
    assert_same(stepped, bare, exact=False)


@every_game
def test_params_may_be_left_out(name):
    env, params = make(name, max_steps_in_episode=9)
    key = jax.random.key(0)
    assert env.default_params == params
    for leave_out in (env.reset, env.step, env.step_env, env.render):
        arguments = {"key": key, "state": None, "action": jnp.int32(0)}
        wanted = [argument for argument in arguments if argument in inspect.signature(leave_out).parameters]
        arguments["state"] = jax.eval_shape(env.reset, key)[1]
        assert jax.tree.structure(jax.eval_shape(leave_out, *(arguments[argument] for argument in wanted)))
    assert env.observation_space() == env.observation_space(params) and env.action_space() == env.action_space(params)


@every_game
def test_params_can_be_swept_with_vmap(name):
    env, params = make(name)
    limits = jnp.array([1, 2, 50])
    swept = dataclasses.replace(params, max_steps_in_episode=limits)
    axes = dataclasses.replace(jax.tree.map(lambda leaf: None, params), max_steps_in_episode=0)
    _, state = env.reset(jax.random.key(0), params)
    *_, info = jax.vmap(env.step_env, in_axes=(None, None, None, axes))(jax.random.key(1), state, jnp.int32(UP), swept)
    assert info["truncated"].tolist() == [True, False, False]


@every_environment
def test_every_param_has_its_default_among_what_it_allows(name):
    params = REGISTRY[name].params
    for field in dataclasses.fields(params):
        assert make(name, **{field.name: getattr(params, field.name)})[1] == params
        static = field.metadata.get("static", False)
        assert static or isinstance(getattr(params, field.name), int | float)
    assert {"partial_obs", "obs_size", "max_steps_in_episode"} <= {field.name for field in dataclasses.fields(params)}


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, ["'NavigatrEasy'", "NavigatorEasy"], dict(name="NavigatrEasy")),
        (ValueError, ["navigatoreasy", "NavigatorEasy"], dict(name="navigatoreasy")),
        (ValueError, ["obs_size", "128", "256", "200"], dict(name="NavigatorEasy", obs_size=200)),
        (TypeError, ["obs_size", "int", "'128'"], dict(name="NavigatorEasy", obs_size="128")),
        (TypeError, ["partial_obs", "bool", "1"], dict(name="NavigatorEasy", partial_obs=1)),
        (TypeError, ["final_observation", "True or False"], dict(name="NavigatorEasy", final_observation="no")),
        (ValueError, ["'board_sise'", "board_size"], dict(name="BattleShipEasy", board_sise=8)),
        (ValueError, ["'speed'", "there are", "noise_sigma"], dict(name="CartPoleEasy", speed=1.0)),
        (ValueError, ["board_size", "6, 8, ... 20", "nearest is 6"], dict(name="BattleShipEasy", board_size=4)),
        (ValueError, ["board_size", "7", "nearest is 6"], dict(name="BattleShipEasy", board_size=7)),
        (ValueError, ["board_size", "4 ... 20", "nearest is 4"], dict(name="NavigatorEasy", board_size=2)),
        (TypeError, ["board_size", "8.0", "float"], dict(name="NavigatorEasy", board_size=8.0)),
        (ValueError, ["num_cards", "nearest is 1"], dict(name="AutoEncodeEasy", num_cards=0)),
        (ValueError, ["max_steps_in_episode", "-1"], dict(name="CartPoleEasy", max_steps_in_episode=-1)),
        (ValueError, ["noise_sigma", "nan"], dict(name="CartPoleEasy", noise_sigma=float("nan"))),
        (ValueError, ["noise_sigma", "-0.5", "nearest is 0"], dict(name="CartPoleEasy", noise_sigma=-0.5)),
        (TypeError, ["noise_sigma", "True"], dict(name="CartPoleEasy", noise_sigma=True)),
    ],
)
def test_bad_input_is_answered_at_make_in_one_sentence(error, words, arguments):
    with pytest.raises(error) as caught:
        make(**arguments)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message and len(message) < 250


@pytest.mark.parametrize("obs_size", (96, 192))
@every_game
def test_another_frame_size_needs_no_change_in_a_game(name, obs_size):
    entry = REGISTRY[name]
    obs, _ = entry.reset(jax.random.key(0), dataclasses.replace(entry.params, obs_size=obs_size))
    assert obs.shape == (obs_size, obs_size, 3) and len(np.unique(np.asarray(obs))) > 4


def test_importing_the_package_touches_no_device():
    code = "import popgym_arcade, popgym_arcade.experts, jax; assert not jax._src.xla_bridge._backends"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- golden frames ------------------------------------------------------------


def golden_hash(name, partial_obs):
    """A hash of the frames of 32 steps of BATCH episodes, half of them the expert's.

    Float state is rounded to 1 / 1024 before it is drawn, so that another device's last bit does not show.
    """
    functions = compiled(name, partial_obs)
    expert = jax.jit(jax.vmap(experts.expert, in_axes=(0, None)))
    _, state = functions.reset(keys(11), functions.params)
    digest = hashlib.sha256()
    for i in range(32):
        rounded = jax.tree.map(lambda leaf: jnp.round(leaf * 1024) / 1024 if leaf.dtype == jnp.float32 else leaf, state)
        digest.update(np.asarray(functions.render(rounded, functions.params)).tobytes())
        number = jnp.arange(BATCH)
        actions = jnp.where(number % 2 == 0, expert(state, functions.params), (7 * i + number) % 5)
        _, state, reward, done, _ = functions.step(keys(i), state, actions, functions.params)
        digest.update(np.asarray(done).tobytes() + np.round(np.asarray(reward) * 1e5).astype(np.int32).tobytes())
    return digest.hexdigest()


@every_environment
def test_frames_are_the_golden_ones(name):
    golden = json.loads(GOLDEN.read_text())[name]
    frames = [golden_hash(name, partial_obs) for partial_obs in (False, True)]
    if golden["version"] == REGISTRY[name].version:
        assert [golden["MDP"], golden["POMDP"]] == frames, "behaviour changed: raise the game's VERSION, then --write-golden"
    else:
        assert [golden["MDP"], golden["POMDP"]] == frames, "the VERSION moved: run python test_games.py --write-golden"


def write_golden():
    """Write the golden hashes, unless one changed while its game's VERSION stayed."""
    old = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    new = {
        name: {"version": entry.version, "MDP": golden_hash(name, False), "POMDP": golden_hash(name, True)}
        for name, entry in REGISTRY.items()
    }
    stale = [name for name in new if name in old and old[name] != new[name] and old[name]["version"] == new[name]["version"]]
    if stale:
        sys.exit(f"the frames of {', '.join(stale)} changed: raise the VERSION of their games first")
    GOLDEN.write_text(json.dumps(new, indent=2) + "\n")


# --- what the views show and hide ------------------------------------------------------------


@cache
def some_states(name, count=48, steps=64):
    """Reachable states from play that is half random and half the expert's: a State with a leading axis [count * steps]."""
    functions = compiled(name)
    params = functions.params

    @jax.jit
    def rollout(key):
        _, state = jax.vmap(functions.env.reset, in_axes=(0, None))(jax.random.split(key, count), params)

        def body(state, key):
            step_key, action_key, who_key = jax.random.split(key, 3)
            actions = jax.random.randint(action_key, (count,), 0, 5)
            by_expert = jax.random.bernoulli(who_key, 0.5, (count,))
            actions = jnp.where(by_expert, jax.vmap(experts.expert, in_axes=(0, None))(state, params), actions)
            step = jax.vmap(functions.env.step, in_axes=(0, 0, 0, None))
            return step(jax.random.split(step_key, count), state, actions, params)[1], state

        return jax.lax.scan(body, state, jax.random.split(key, steps))[1]

    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), rollout(jax.random.key(0)))


def scrambled(name, state, seed=0):
    """The same states with every field that the game's views may hide or show drawn anew at random."""
    rng, params = np.random.default_rng(seed), REGISTRY[name].params
    count, game = len(state.time), game_of(name)
    state = jax.tree.map(lambda leaf: np.array(leaf), state)
    if game == "AutoEncode":
        answered = np.where(state.time < params.num_cards, 0, rng.integers(0, params.num_cards, count))
        cards = rng.permuted(state.cards, axis=1)
        return state._replace(cards=cards, answered=answered.astype(np.int32), selected=rng.integers(0, 4, count).astype(np.int32))
    if game == "BattleShip":
        shots = rng.random(state.shots.shape) < rng.random((count, 1, 1))
        repeats = rng.integers(0, params.board_size**2 // 2, count).astype(np.int32)
        return state._replace(ships=rng.permuted(state.ships, axis=0), shots=shots, repeats=repeats)
    n = params.board_size
    treasure = rng.integers(0, n, (2, count)).astype(np.int32)
    tnt = rng.random(state.tnt.shape) < 0.1
    tnt[np.arange(count), treasure[0], treasure[1]] = False
    return state._replace(tnt=tnt, treasure_row=treasure[0], treasure_col=treasure[1])


def shown_by_autoencode(state, params, partial_obs):
    card = state.cards[state.time] if state.time < params.num_cards else None
    field = state.cards[: min(state.time, params.num_cards - state.answered)]
    return state.score, card, state.selected, None if partial_obs else field.tobytes()


def shown_by_battleship(state, params, partial_obs):
    marks = state.shots * (1 + state.ships)
    hidden_to_the_pomdp = marks[state.row, state.col] if partial_obs else (marks.tobytes(), state.repeats)
    return state.score, state.row, state.col, hidden_to_the_pomdp


def shown_by_navigator(state, params, partial_obs):
    everything = state.tnt.tobytes(), state.treasure_row, state.treasure_col
    return state.score, state.row, state.col, None if partial_obs and state.time > 0 else everything


SHOWN = {"AutoEncode": shown_by_autoencode, "BattleShip": shown_by_battleship, "Navigator": shown_by_navigator}
"""What the rulebook says each view shows, for the games whose state is discrete: everything else is hidden."""


@pytest.mark.parametrize("name", [name for name in REGISTERED_ENVIRONMENTS if game_of(name) in SHOWN])
@both_twins
def test_two_frames_are_equal_if_and_only_if_what_the_view_shows_is(name, partial_obs):
    functions = compiled(name, partial_obs)
    played = some_states(name)
    frame_of, shown_of, states = {}, {}, 0
    for state in (played, scrambled(name, played, 1), scrambled(name, played, 2)):
        frames = rendered(name, partial_obs, state)
        state = jax.tree.map(np.asarray, state)
        for i, frame in enumerate(frames):
            shown = SHOWN[game_of(name)](jax.tree.map(lambda leaf, i=i: leaf[i], state), functions.params, partial_obs)
            shown, frame = tuple(x if isinstance(x, bytes | tuple) else repr(x) for x in shown), frame.tobytes()
            assert frame_of.setdefault(shown, frame) == frame, f"the view leaks: {shown} is drawn in two ways"
            assert shown_of.setdefault(frame, shown) == shown, f"the view lacks: {shown} looks like {shown_of[frame]}"
            states += 1
    # Many states share a frame where much is hidden, so the search has had pairs to compare.
    assert len(frame_of) < states and (not partial_obs or len(frame_of) < states / 2)


@pytest.mark.parametrize("name", [name for name in REGISTERED_ENVIRONMENTS if "CartPole" in name])
@pytest.mark.parametrize(
    ("variable", "change", "hidden"), [("x", 3e-3, True), ("theta", 2e-3, True), ("x_dot", 0.03, False), ("theta_dot", 0.03, False)]
)
def test_a_small_change_of_the_cart_changes_some_pixel_where_it_is_shown(name, variable, change, hidden):
    state = some_states(name, count=16, steps=32)
    state = state._replace(time=jnp.maximum(state.time, 1))
    changed = state._replace(**{variable: getattr(state, variable) + change})

    def differs(partial_obs, one, other):
        frames = (rendered(name, partial_obs, states) for states in (one, other))
        return np.any(np.not_equal(*frames), axis=(1, 2, 3))

    in_view = np.abs(np.asarray(getattr(state, variable) + state.noise[:, "x x_dot theta theta_dot".split().index(variable)]))
    limit = {"x": cartpole.X_LIMIT, "theta": cartpole.THETA_LIMIT}.get(variable, np.inf) - change
    assert np.all(differs(False, state, changed)[in_view < limit]) and np.mean(in_view < limit) > 0.25
    assert np.all(differs(True, state, changed)) != hidden
    assert not hidden or not np.any(differs(True, state, changed))
    start = state._replace(time=jnp.zeros_like(state.time))
    assert np.array_equal(differs(True, start, changed._replace(time=start.time)), differs(False, state, changed))


@pytest.mark.parametrize("name", ["CartPoleEasy", "NoisyCartPoleEasy"])
def test_the_noise_is_drawn_and_does_not_move_the_cart(name):
    functions = compiled(name)
    state = some_states(name, count=4, steps=4)
    noisy = state._replace(noise=state.noise + jnp.array([0.5, 0.5, 0.05, 0.5]))
    assert not np.array_equal(*(rendered(name, False, states) for states in (state, noisy)))
    moved, noisy_moved = (functions.step_env(keys(0), s, jnp.full(BATCH, LEFT), functions.params)[1] for s in (state, noisy))
    assert_same(moved, noisy_moved)


@every_game
def test_both_twins_draw_the_same_score_and_name(name):
    state = some_states(name, count=8, steps=16)
    frames = [rendered(name, partial_obs, state) for partial_obs in (False, True)]
    edges = draw.SCORE_UNITS, draw.SCORE_UNITS + draw.FIELD_UNITS
    np.testing.assert_array_equal(frames[0][:, : edges[0]], frames[1][:, : edges[0]])
    np.testing.assert_array_equal(frames[0][:, edges[1] :], frames[1][:, edges[1] :])
    more = rendered(name, False, state._replace(score=state.score + 1))
    assert np.all(np.any(more[:, : edges[0]] != frames[0][:, : edges[0]], axis=(1, 2, 3)))


# --- chance ------------------------------------------------------------


def many_starts(name, count=20_000):
    """The first states of many episodes, without drawing them."""
    env, params = make(name)
    start = jax.jit(jax.vmap(lambda key: env.reset(key, params)[1]))(keys(9, count))
    return jax.tree.map(np.asarray, start)


def test_battleships_cursor_starts_on_every_cell_equally_often():
    start = many_starts("BattleShipEasy")
    assert chi_square_p(np.bincount(start.row * 8 + start.col, minlength=64)) > 1e-4


@pytest.mark.parametrize("name", ["BattleShipEasy", "BattleShipMedium", "BattleShipHard"])
def test_every_fleet_has_twelve_cells(name):
    start = many_starts(name, 2000)
    assert np.all(start.ships.sum(axis=(1, 2)) == 12)
    assert not start.shots.any() and np.all(start.repeats == 0)


@pytest.mark.parametrize("length", [2, 3, 4])
def test_a_ship_is_uniform_over_the_placements_that_fit(length):
    size, taken = 6, np.zeros((6, 6), bool)
    taken[1, 1:4] = taken[3:5, 5] = True
    sea = (taken << np.arange(size)).sum(axis=1).astype(np.uint32)
    rows = jax.jit(jax.vmap(lambda key: battleship.place_ship(key, jnp.asarray(sea), length, size)))(keys(1, 30_000))
    ships = (np.asarray(rows)[:, :, None] >> np.arange(size)) & 1 == 1
    allowed = set()
    for row, col in np.ndindex(size, size):
        for height, width in ((1, length), (length, 1)):
            ship = np.zeros((size, size), bool)
            ship[row : row + height, col : col + width] = True
            if ship.sum() == length and not (ship & taken).any():
                allowed.add(ship.tobytes())
    placed, counts = np.unique(ships.reshape(len(ships), -1), axis=0, return_counts=True)
    assert {ship.reshape(size, size).tobytes() for ship in placed} == allowed
    assert chi_square_p(counts) > 1e-4


@pytest.mark.parametrize("name", ["NavigatorEasy", "NavigatorMedium", "NavigatorHard"])
def test_navigator_starts_anywhere_but_on_a_hazard_and_the_treasure_can_be_reached(name):
    n, start = REGISTRY[name].params.board_size, many_starts(name)
    agent, treasure = start.row * n + start.col, start.treasure_row * n + start.treasure_col
    assert np.all(agent != treasure)
    pairs = np.bincount(agent * n * n + treasure, minlength=n**4).reshape(n * n, n * n)
    assert chi_square_p(pairs.sum(axis=0)) > 1e-4 and chi_square_p(pairs.sum(axis=1)) > 1e-4
    tnt = start.tnt.reshape(len(agent), -1)
    assert np.all(tnt.sum(axis=1) == 7)
    assert not tnt[np.arange(len(agent)), agent].any() and not tnt[np.arange(len(agent)), treasure].any()
    goal = np.arange(n * n) == treasure[:, None]
    distance = jax.jit(jax.vmap(experts.distances))(goal.reshape(start.tnt.shape), start.tnt)
    distance = np.asarray(distance).reshape(len(agent), -1)[np.arange(len(agent)), agent]
    np.testing.assert_array_equal(distance, manhattan(start))


def test_the_treasure_is_uniform_for_every_start_cell():
    start = many_starts("NavigatorEasy", 100_000)
    agent, treasure = start.row * 8 + start.col, start.treasure_row * 8 + start.treasure_col
    table = np.bincount(agent * 64 + treasure, minlength=64 * 64).reshape(64, 64)
    assert chi_square_p(table[~np.eye(64, dtype=bool)]) > 1e-4


@pytest.mark.parametrize(("start", "end"), [((0, 0), (2, 2)), ((4, 1), (2, 4)), ((3, 3), (3, 0)), ((1, 4), (4, 4))])
def test_a_path_is_uniform_over_the_shortest_ones(start, end):
    size, (row, col), (to_row, to_col) = 5, start, end
    path = jax.jit(jax.vmap(lambda key: navigator.random_path(key, *map(jnp.int32, (row, col, to_row, to_col)), size)))
    paths, counts = np.unique(np.asarray(path(keys(2, 20_000))).reshape(-1, size * size), axis=0, return_counts=True)
    rows, cols = abs(to_row - row), abs(to_col - col)
    assert len(paths) == round(stats.binom(rows + cols, 0.5).pmf(rows) * 2 ** (rows + cols))
    assert np.all(paths.sum(axis=1) == rows + cols + 1)
    assert len(counts) == 1 or chi_square_p(counts) > 1e-4
    grid = paths.reshape(-1, size, size)
    assert np.all(grid[:, row, col]) and np.all(grid[:, to_row, to_col])
    connected = jax.vmap(experts.distances, in_axes=(None, 0))(
        np.zeros((size, size), bool) | (np.indices((size, size)) == np.array([[[to_row]], [[to_col]]])).all(axis=0), ~grid
    )
    assert np.all(np.asarray(connected)[:, row, col] == rows + cols)


def test_tnt_takes_every_set_of_free_cells_equally_often():
    path = np.zeros((4, 4), bool)
    path[0], path[:, 3] = True, True  # nine cells are free
    tnt = np.asarray(jax.jit(jax.vmap(lambda key: navigator.place_tnt(key, jnp.asarray(path))))(keys(3, 20_000)))
    assert not (tnt & path).any() and np.all(tnt.sum(axis=(1, 2)) == 7)
    sets, counts = np.unique(tnt.reshape(len(tnt), -1), axis=0, return_counts=True)
    assert len(sets) == 36 and chi_square_p(counts) > 1e-4


@pytest.mark.parametrize("name", ["AutoEncodeEasy", "AutoEncodeMedium", "AutoEncodeHard"])
def test_a_deck_is_a_uniform_shuffle_of_the_suits(name):
    cards = many_starts(name).cards
    deck = np.arange(cards.shape[1]) % 4
    assert np.all(np.sort(cards, axis=1) == np.sort(deck))
    share = np.bincount(deck) / len(deck)
    for place in (0, 1, len(deck) // 2, len(deck) - 1):
        assert chi_square_p(np.bincount(cards[:, place], minlength=4), share * len(cards)) > 1e-4
    first_two = np.bincount(cards[:, 0] * 4 + cards[:, 1], minlength=16)
    count = np.bincount(deck)
    expected = (np.outer(count, count) - np.diag(count)) / (len(deck) * (len(deck) - 1))
    assert chi_square_p(first_two, expected.reshape(-1) * len(cards)) > 1e-4


@pytest.mark.parametrize("name", ["CartPoleEasy", "NoisyCartPoleEasy", "NoisyCartPoleMedium", "NoisyCartPoleHard"])
def test_the_cart_starts_uniformly_and_the_noise_is_normal_and_new_on_every_step(name):
    start, sigma = many_starts(name), REGISTRY[name].params.noise_sigma
    for value in start[:4]:
        assert stats.kstest(value, "uniform", (-0.05, 0.1)).pvalue > 1e-4
    functions = compiled(name)
    first = jax.tree.map(lambda leaf: leaf[:BATCH], start)
    stepped = functions.step_env(keys(8), first, jnp.full(BATCH, UP), functions.params)[1]
    if sigma == 0:
        assert not start.noise.any() and not np.asarray(stepped.noise).any()
        return
    assert all(stats.kstest(noise / np.float32(sigma), "norm").pvalue > 1e-4 for noise in start.noise.T)
    assert np.all(np.abs(np.corrcoef(start.noise.T) - np.eye(4)) < 0.05)
    assert not np.any(np.asarray(stepped.noise) == first.noise)


# --- scripted episodes: each rule, step by step ------------------------------------------------------------


def board_of(drawing, character):
    """Where a drawing has a character: bool[rows, columns]."""
    return np.array([[cell == character for cell in row] for row in drawing.split()])


def cell_of(drawing, character):
    """The one cell of a drawing that has a character: (row, column), int32[] each."""
    (row,), (col,) = np.nonzero(board_of(drawing, character))
    return jnp.int32(row), jnp.int32(col)


def run_script(module, state, params, script):
    """Step through (action, reward, what the new state and info must hold) and check each; returns the last state."""
    step = jax.jit(module.step)
    for number, (action, reward, expected) in enumerate(script):
        _, state, paid, done, info = step(jax.random.key(number), state, jnp.int32(action), params)
        assert paid == pytest.approx(reward, abs=1e-6), f"step {number}"
        values = {**{"terminated": False, "truncated": False}, **expected}
        got = {key: np.asarray(info[key] if key in info else getattr(state, key)).tolist() for key in values}
        assert got == values, f"step {number}"
        assert bool(done) == (values["terminated"] or values["truncated"]), f"step {number}"
    return state


def navigator_state(drawing, time=0):
    """A state from a drawing: A agent, X treasure, T TNT, B agent on the treasure."""
    agent = "B" if "B" in drawing else "A"
    row, col = cell_of(drawing, agent)
    treasure_row, treasure_col = (row, col) if agent == "B" else cell_of(drawing, "X")
    tnt = jnp.asarray(board_of(drawing, "T"))
    return navigator.State(tnt, treasure_row, treasure_col, row, col, time=jnp.int32(time), score=jnp.int32(0))


NAVIGATOR = navigator.Params(board_size=4, max_steps_in_episode=16)
IDLE = -0.5 / 16


def test_navigator_walks_stops_at_the_edge_and_digs_up_the_treasure():
    state = navigator_state("AT.. .... ..X. ....")
    script = [
        (UP, IDLE, dict(row=0, col=0, time=1)),
        (LEFT, IDLE, dict(row=0, col=0)),
        (FIRE, IDLE, dict(row=0, col=0, score=0)),
        (DOWN, IDLE, dict(row=1, col=0)),
        (9, IDLE, dict(row=1, col=0, time=5)),
        (DOWN, IDLE, dict(row=2, col=0)),
        (RIGHT, IDLE, dict(row=2, col=1)),
        (RIGHT, IDLE, dict(row=2, col=2, score=0)),
        (FIRE, 1.0, dict(row=2, col=2, score=100, terminated=True, time=9, discount=0.0)),
    ]
    run_script(navigator, state, NAVIGATOR, script)


def test_navigator_dies_on_tnt_and_stops_at_the_far_edges():
    state = navigator_state(".... .... X.T. ...A")
    script = [
        (RIGHT, IDLE, dict(row=3, col=3)),
        (DOWN, IDLE, dict(row=3, col=3)),
        (LEFT, IDLE, dict(row=3, col=2)),
        (UP, -0.5, dict(row=2, col=2, score=0, terminated=True, discount=0.0)),
    ]
    run_script(navigator, state, NAVIGATOR, script)


def test_navigator_pays_for_the_last_step_and_both_flags_may_be_true():
    limit = dict(truncated=True, time=16)
    run_script(navigator, navigator_state("A... .... .... ..XT", time=15), NAVIGATOR, [(UP, IDLE, dict(limit, discount=1.0))])
    run_script(navigator, navigator_state("AT.. .... .... ..X.", time=15), NAVIGATOR, [(RIGHT, -0.5, dict(limit, terminated=True))])
    found = dict(limit, terminated=True, score=100, discount=0.0)
    run_script(navigator, navigator_state("BT.. .... .... ....", time=15), NAVIGATOR, [(FIRE, 1.0, found)])


def battleship_state(drawing, time=0):
    """A state from a drawing of the fleet, S; the cursor is on C (sea) or D (a ship's cell)."""
    cursor = "D" if "D" in drawing else "C"
    row, col = cell_of(drawing, cursor)
    ships = jnp.asarray(board_of(drawing, "S") | board_of(drawing, "D"))
    zero = jnp.int32(0)
    return battleship.State(ships, jnp.zeros_like(ships), row, col, repeats=zero, time=jnp.int32(time), score=zero)


BATTLESHIP = battleship.Params(board_size=6, max_steps_in_episode=72)
FLEET = "CSS... ....S. SSS.S. ....S. ...... .SSSS."
REPEAT = -2 / 36


def test_battleship_pays_for_hits_once_and_charges_for_repeats():
    script = [
        (UP, 0, dict(row=0, col=0)),
        (LEFT, 0, dict(row=0, col=0)),
        (FIRE, 0, dict(score=0, repeats=0)),
        (FIRE, REPEAT, dict(score=0, repeats=1)),
        (RIGHT, 0, dict(row=0, col=1)),
        (FIRE, 1 / 12, dict(score=1, repeats=1)),
        (FIRE, REPEAT, dict(score=1, repeats=2)),
        (DOWN, 0, dict(row=1, col=1)),
        (5, 0, dict(row=1, col=1, repeats=2, time=9)),
    ]
    state = run_script(battleship, battleship_state(FLEET), BATTLESHIP, script)
    assert np.argwhere(state.shots).tolist() == [[0, 0], [0, 1]]


def test_battleship_ends_on_the_very_shot_that_uses_up_the_repeats():
    repeats = [(FIRE, REPEAT, dict(repeats=i)) for i in range(1, 18)]
    script = [(FIRE, 0, dict(repeats=0)), *repeats, (FIRE, REPEAT, dict(repeats=18, terminated=True, discount=0.0, time=19))]
    run_script(battleship, battleship_state(FLEET), BATTLESHIP, script)


def test_battleship_ends_when_the_last_ship_cell_is_hit():
    state = battleship_state("DSS... ....S. SSS.S. ....S. ...... ..SSS.", time=71)
    state = state._replace(shots=state.ships.at[state.row, state.col].set(False), score=jnp.int32(11))
    won = dict(score=12, terminated=True, truncated=True, discount=0.0)
    run_script(battleship, state, BATTLESHIP, [(FIRE, 1 / 12, won)])
    run_script(battleship, state, BATTLESHIP, [(RIGHT, 0, dict(score=11, truncated=True, discount=1.0))])


def test_battleships_cursor_stops_at_the_far_edges():
    state = battleship_state("SSSSSS SSSSSS ...... ...... ...... .....C")
    run_script(battleship, state, BATTLESHIP, [(DOWN, 0, dict(row=5)), (RIGHT, 0, dict(col=5)), (LEFT, 0, dict(row=5, col=4))])


def autoencode_state(cards, **fields):
    zero = jnp.int32(0)
    state = autoencode.State(jnp.array(cards, jnp.int32), answered=zero, selected=zero, time=zero, score=zero)
    return state._replace(**{key: jnp.int32(value) for key, value in fields.items()})


def test_autoencode_asks_the_deck_back_in_reverse():
    params = autoencode.Params(num_cards=3, max_steps_in_episode=30)
    script = [
        (FIRE, 0, dict(answered=0, time=1)),  # nothing can be submitted while watching
        (LEFT, 0, dict(selected=1)),
        (LEFT, 0, dict(selected=2, answered=0, time=3)),
        (FIRE, 1 / 3, dict(answered=1, score=1)),  # the last card, a club
        (UP, 0, dict(answered=1, selected=2)),
        (DOWN, 0, dict(answered=1, selected=2)),
        (FIRE, 0, dict(answered=2, score=1)),  # wrong: the card was a heart
        (RIGHT, 0, dict(selected=1)),
        (RIGHT, 0, dict(selected=0)),
        (RIGHT, 0, dict(selected=3)),
        (LEFT, 0, dict(selected=0)),
        (RIGHT, 0, dict(selected=3, answered=2)),
        (FIRE, 1 / 3, dict(answered=3, score=2, terminated=True, discount=0.0, time=13)),
    ]
    run_script(autoencode, autoencode_state([3, 0, 2]), params, script)


def test_autoencode_pays_for_an_answer_on_the_last_step():
    params = autoencode.Params(num_cards=3, max_steps_in_episode=30)
    state = autoencode_state([3, 0, 2], time=29, selected=0, answered=1)
    run_script(autoencode, state, params, [(FIRE, 1 / 3, dict(answered=2, truncated=True, discount=1.0))])
    state = state._replace(answered=jnp.int32(2), selected=jnp.int32(3))
    run_script(autoencode, state, params, [(FIRE, 1 / 3, dict(answered=3, truncated=True, terminated=True, discount=0.0))])


def cart_reference(state, force):
    """The physics once more, in float64 and in another form: the equations of motion solved as a linear system."""
    x, x_dot, theta, theta_dot = (float(value) for value in state[:4])
    gravity, cart, pole, half, tau = 9.8, 1.0, 0.1, 0.5, 0.02
    # (M + m) x'' + m l cos(theta) theta'' = F + m l theta'^2 sin(theta);  cos(theta) x'' + 4/3 l theta'' = g sin(theta)
    matrix = [[cart + pole, pole * half * np.cos(theta)], [np.cos(theta), 4 / 3 * half]]
    right = [force + pole * half * theta_dot**2 * np.sin(theta), gravity * np.sin(theta)]
    x_acceleration, theta_acceleration = np.linalg.solve(matrix, right)
    return x + tau * x_dot, x_dot + tau * x_acceleration, theta + tau * theta_dot, theta_dot + tau * theta_acceleration


def cart_state(x=0.0, x_dot=0.0, theta=0.0, theta_dot=0.0, time=0):
    values = map(jnp.float32, (x, x_dot, theta, theta_dot))
    return cartpole.State(*values, noise=jnp.zeros(4), time=jnp.int32(time), score=jnp.int32(time))


@pytest.mark.parametrize(("action", "force"), [(LEFT, -10), (RIGHT, 10), (UP, 0), (DOWN, 0), (FIRE, 0), (7, 0)])
def test_the_cart_follows_the_equations_of_motion(action, force):
    rng = np.random.default_rng(action)
    for _ in range(20):
        state = cart_state(*rng.uniform([-2, -2, -0.2, -2], [2, 2, 0.2, 2]))
        _, moved, *_ = cartpole.step(jax.random.key(0), state, action, cartpole.Params())
        np.testing.assert_allclose(moved[:4], cart_reference(state, force), rtol=1e-4, atol=1e-5)


def test_the_cart_is_paid_for_each_step_that_ends_in_range_and_not_for_the_fatal_one():
    params = cartpole.Params(max_steps_in_episode=200)
    alive, fatal = (1 / 200, dict(score=1, time=1, discount=1.0)), (0, dict(score=0, terminated=True, discount=0.0))
    limit_x, limit_theta = 2.4, 12 * np.pi / 180
    for start, outcome in [
        (cart_state(x=limit_x - 0.03, x_dot=1.0), alive),
        (cart_state(x=limit_x - 0.01, x_dot=1.0), fatal),
        (cart_state(x=-limit_x + 0.01, x_dot=-1.0), fatal),
        (cart_state(x=-limit_x - 0.01, x_dot=1.0), alive),  # only the state after the step counts
        (cart_state(theta=limit_theta - 0.03, theta_dot=1.0), alive),
        (cart_state(theta=limit_theta - 0.01, theta_dot=1.0), fatal),
        (cart_state(theta=-limit_theta + 0.01, theta_dot=-1.0), fatal),
    ]:
        run_script(cartpole, start, params, [(UP, *outcome)])
    last = dict(score=200, time=200, truncated=True, discount=1.0)
    run_script(cartpole, cart_state(time=199), params, [(UP, 1 / 200, last)])
    both = dict(score=199, truncated=True, terminated=True, discount=0.0)
    run_script(cartpole, cart_state(x=2.4, x_dot=1.0, time=199), params, [(UP, 0, both)])


# --- levels ------------------------------------------------------------


@pytest.mark.parametrize(
    ("game", "fields", "rows"),
    [
        ("AutoEncode", ("num_cards", "max_steps_in_episode"), [(26, 260), (52, 520), (78, 780)]),
        ("BattleShip", ("board_size", "max_steps_in_episode"), [(8, 128), (10, 200), (12, 288)]),
        ("CartPole", ("max_steps_in_episode", "noise_sigma"), [(200, 0.0), (400, 0.0), (600, 0.0)]),
        ("NoisyCartPole", ("max_steps_in_episode", "noise_sigma"), [(200, 0.1), (200, 0.2), (200, 0.3)]),
        ("Navigator", ("board_size", "max_steps_in_episode"), [(8, 64), (10, 100), (12, 144)]),
    ],
)
def test_levels_are_those_of_the_rulebook(game, fields, rows):
    levels = ("Easy", "Medium", "Hard")
    assert [tuple(getattr(REGISTRY[game + level].params, field) for field in fields) for level in levels] == rows


# --- the contract, by reflection ------------------------------------------------------------

SIGNATURES = {"reset": ["key", "params"], "step": ["key", "state", "action", "params"], "render": ["state", "params"]}
DOCSTRING_SECTIONS = ["Start:", "Actions:", "Rewards:", "Episode end:", "Views:", "Levels:", "Source:"]


def functions_of(module):
    members = inspect.getmembers(module, lambda member: inspect.isfunction(inspect.unwrap(member)))
    return {name: member for name, member in members if inspect.unwrap(member).__module__ == module.__name__}


@every_module
def test_a_game_has_the_functions_and_arguments_of_the_contract(module):
    functions = functions_of(module)
    assert {name: list(inspect.signature(functions[name]).parameters) for name in SIGNATURES} == SIGNATURES
    assert set(module.LEVELS) == {"Easy", "Medium", "Hard"}
    assert isinstance(module.NAME, str) and isinstance(module.VERSION, int)


@every_module
def test_a_games_docstring_is_its_rulebook(module):
    places = [module.__doc__.find("\n" + section) for section in DOCSTRING_SECTIONS]
    assert -1 not in places and places == sorted(places)
    for level, params in module.LEVELS.items():
        assert level in module.__doc__ and str(params.max_steps_in_episode) in module.__doc__


@every_module
def test_every_function_of_a_game_is_documented_and_says_shapes(module):
    for name, function in functions_of(module).items():
        doc = inspect.getdoc(function)
        assert doc, name
        if name in SIGNATURES:
            assert "uint8[S, S, 3]" in doc and all(argument in doc for argument in SIGNATURES[name] if name != "render")


@every_module
def test_a_game_imports_one_thing_of_this_project_and_defines_only_params_and_state(module):
    tree = ast.parse(inspect.getsource(module))
    imports = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [line for line in imports if "popgym_arcade" in line] == ["from popgym_arcade import render as draw"]
    assert {line.split()[1].split(".")[0] for line in imports} <= {"dataclasses", "typing", "jax", "numpy", "popgym_arcade"}
    assert [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)] == ["Params", "State"]
    lengths = [node.end_lineno - node.lineno + 1 for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert max(lengths) <= 40


@every_module
def test_every_field_of_a_state_is_described_and_used(module):
    source = inspect.getsource(module)
    state = inspect.getsource(module.State)
    for field in module.State._fields:
        line = next(line for line in state.splitlines() if line.strip().startswith(f"{field}:"))
        assert "  # " in line and any(dtype in line for dtype in ("bool[", "int32[", "float32["))
        described = line.split("#")[1].split("[")[0].strip()
        _, start = jax.eval_shape(module.reset, jax.random.key(0), module.LEVELS["Easy"])
        assert getattr(start, field).dtype == jnp.dtype(described)
        assert f"state.{field}" in source.replace(state, "") or field in ("x", "x_dot", "theta", "theta_dot")


@every_game
def test_every_game_has_players(name):
    assert type(REGISTRY[name].params) in experts.PLAYERS


if __name__ == "__main__":
    if sys.argv[1:] != ["--write-golden"]:
        sys.exit(__doc__)
    write_golden()
