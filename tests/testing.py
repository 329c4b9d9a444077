"""What the tests share: compiled environments, rollouts, comparisons and scripted episodes.

The tests of a game are in ``tests/games/test_<game>.py``; those that hold for every game are in
``test_games.py`` at the root.
"""

import dataclasses
import importlib.util
import os
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from popgym_arcade import REGISTRY, experts, make

UP, DOWN, LEFT, RIGHT, FIRE = range(5)
BATCH = 16
ROOT = Path(__file__).parent.parent  # of the clone


class Case(NamedTuple):
    """What test_games.py needs to know about a game; CASES in the game's test module lists them.

    States with a leading axis, [count], have NumPy leaves.
    """

    game: str  # its name in GAMES
    levels: dict  # fields of Params to their values in the rulebook: (Easy, Medium, Hard)
    # (first states [count], params) -> the return of perfect play: float[count]. None if that
    # depends on chance after the start.
    best_return: Callable | None
    # (first states [count], params) -> the return of the worst play, perhaps of fewer states
    worst_return: Callable
    lowest_return: float  # no episode returns less
    # (state, params, partial_obs) -> a tuple of all that the view shows of one state, with NumPy
    # leaves. Two frames must be equal if and only if these tuples are. None where the state is not
    # discrete: such a game brings tests of its own for its views.
    shown: Callable | None = None
    # (rng, states [count], params) -> states [count] in which all that any view shows or hides is
    # random, so that nearly equal states are compared too. They need not be reachable, but
    # ``shown`` must be true of them.
    scramble: Callable | None = None
    perfect_play_lasts: bool = False  # perfect play survives until the limit
    moves_by_itself: bool = False  # the state changes with time alone, whatever the action
    together: tuple = ()  # fields that only make sense together and are never changed one by one
    undealt: tuple = ()  # fields that hold what chance has decided but no view shows yet
    episodes: int = 256  # played side by side to measure returns; a multiple of BATCH
    different_starts: int = BATCH  # of BATCH first states, at least so many differ
    different_first_frames: int = 9  # of their frames in the MDP, at least so many differ


@cache
def case_of(name):
    """The Case of an environment's game; LookupError if its test module or its Case is missing."""
    entry = REGISTRY[name]
    module = "test_" + entry.module.__name__.rpartition(".")[2]
    if importlib.util.find_spec(f"tests.games.{module}") is None:
        raise LookupError(
            f"{entry.game} has no tests: write tests/games/{module}.py, "
            "with CASES as in tests/games/test_navigator.py"
        )
    cases = {case.game: case for case in importlib.import_module(f"tests.games.{module}").CASES}
    if entry.game not in cases:
        raise LookupError(
            f"CASES of tests/games/{module}.py has no Case of {entry.game}, "
            f"only of {', '.join(cases)}"
        )
    return cases[entry.game]


def script(path):
    """Import a script of the clone, e.g. ``script("docs/make_rules.py")``, without running it."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- compiled functions --------------------------------------------------------------------------

# Compiling is what the tests spend their time on. So there are few programs, all for BATCH states
# at once (another number would compile again). One program steps both twins, and draws nothing:
# frames are drawn from the states. That the frames which reset and step return are the drawings of
# their states is tested for each game and twin, at one level. What is compiled without the options
# below is compiled quickly, as conftest.py says.

# What a user gets: XLA's defaults.
AS_FOR_USERS = {"xla_backend_optimization_level": 3}
if "xla_cpu_use_fusion_emitters" in os.environ.get("XLA_FLAGS", ""):  # only if XLA has the flag
    AS_FOR_USERS["xla_cpu_use_fusion_emitters"] = True
# For programs that run for seconds and need not be what a user gets.
FOR_MANY_STEPS = {"xla_backend_optimization_level": 1}


class Functions(NamedTuple):
    """An environment compiled for batches of BATCH keys, states and actions."""

    env: object
    params: object
    reset: object
    step: object
    step_env: object
    render: object


@cache
def compiled(name, partial_obs=False, obs_size=128):
    """The Functions of an environment, the same ones for the same arguments."""
    env, params = make(name, partial_obs=partial_obs, obs_size=obs_size)
    compiled_reset, compiled_step, compiled_render = compiled_twins(name)

    def of_mdp(params):
        return dataclasses.replace(params, partial_obs=False)

    def render(states, params):
        return compiled_render(states, dataclasses.replace(params, partial_obs=partial_obs))

    def reset(keys, params):
        states = compiled_reset(keys, of_mdp(params))[partial_obs]
        return render(states, params), states

    def step(keys, states, actions, params):
        states, *outcome = compiled_step(keys, states, actions, of_mdp(params))[partial_obs]
        return render(states, params), states, *outcome

    step_env = jax.jit(jax.vmap(env.step_env, in_axes=(0, 0, 0, None)))
    return Functions(env, params, reset, step, step_env, render)


@cache
def compiled_twins(name):
    """An environment's reset and step, without their frames, and its render.

    Reset and step take the MDP's params and return a pair: what the MDP returns, and the POMDP.
    """
    env, _ = make(name)

    def of_both(function, in_axes):
        def both(*arguments):
            *others, params = arguments
            return function(*others, params), function(
                *others, dataclasses.replace(params, partial_obs=True)
            )

        return jax.jit(jax.vmap(both, in_axes=in_axes), compiler_options=AS_FOR_USERS)

    return (
        of_both(lambda *arguments: env.reset(*arguments)[1], (0, None)),
        of_both(lambda *arguments: env.step(*arguments)[1:], (0, 0, 0, None)),
        jax.jit(jax.vmap(env.render, in_axes=(0, None)), compiler_options=AS_FOR_USERS),
    )


def keys(seed, count=BATCH):
    """Typed PRNG keys: key[count]."""
    return jax.random.split(jax.random.key(seed), count)


def as_numpy(batch):
    """The same pytree with NumPy leaves."""
    return jax.tree.map(np.asarray, batch)


def one_of(batch, i):
    """Element i of a batched pytree."""
    return jax.tree.map(lambda leaf: leaf[i], batch)


def each_of(states):
    """The elements of a batched State with NumPy leaves, one after another."""
    return [type(states)(*fields) for fields in zip(*states)]


def rendered(name, partial_obs, states, **overrides):
    """The frames of any multiple of BATCH states, as NumPy. overrides: fields of Params."""
    functions = compiled(name, partial_obs)
    params = dataclasses.replace(functions.params, **overrides)
    count = len(states.time)
    batches = (
        jax.tree.map(lambda leaf, i=i: leaf[i : i + BATCH], states) for i in range(0, count, BATCH)
    )
    return np.concatenate([np.asarray(functions.render(batch, params)) for batch in batches])


# --- comparisons ---------------------------------------------------------------------------------


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
    """The p-value of the chi-square test of counts against the expected ones, by default equal."""
    return stats.chisquare(counts, expected).pvalue


# --- rollouts ------------------------------------------------------------------------------------


class Rollout(NamedTuple):
    """Consecutive episodes: NumPy arrays [steps, count], unless another shape is given."""

    start: NamedTuple  # State [count]
    time_before: np.ndarray
    time: np.ndarray  # after the step and, where done, the reset; so is the score
    score: np.ndarray
    reward: np.ndarray
    done: np.ndarray
    info: dict
    some_states: NamedTuple  # State [SAMPLES, count]: the states at regular intervals

    def first_returns(self):
        """What the first episodes earned: float64[count]."""
        ended_before = np.cumsum(self.done, axis=0) - self.done > 0
        return np.sum(self.reward, axis=0, where=~ended_before, dtype=np.float64)

    def all_returns(self):
        """What each finished episode earned, in no order: float64[episodes]."""
        earned = np.cumsum(self.reward, axis=0, dtype=np.float64)
        return np.concatenate(
            [np.diff(column[done], prepend=0) for column, done in zip(earned.T, self.done.T)]
        )

    def at_first_end(self, values):
        """The values, [steps, count], of the steps that end the first episodes: [count]."""
        return values[np.argmax(self.done, axis=0), np.arange(values.shape[1])]


SAMPLES = 64
STARTS_AT_A_TIME = 20_000


def rollout(name, expert=0.0, worst=0.0, seed=0):
    """Play longer than an episode may last, in as many environments as the Case says: Rollout.

    expert, worst: the shares of the steps in which these policies act. All other actions are
    uniform in [-1, 5].
    """
    episodes = case_of(name).episodes
    functions = compiled(name)
    starts = [
        functions.reset(batch, functions.params)[1]
        for batch in keys(seed, episodes).reshape(-1, BATCH)
    ]
    start = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *starts)
    steps, states = compiled_rollout(name)(jax.random.key(seed), start, expert, worst)
    played = as_numpy(Rollout(start, *steps, states))
    assert np.all(np.any(played.done, axis=0))
    return played


@cache
def compiled_rollout(name):
    """The program of all rollouts of an environment; a policy without a share is not computed."""
    env, params = make(name)
    interval = -(-(params.max_steps_in_episode + 1) // SAMPLES)
    step = jax.vmap(env.step, in_axes=(0, 0, 0, None))

    @partial(jax.jit, compiler_options=FOR_MANY_STEPS)
    def run(key, start, expert, worst):
        count = len(start.time)

        def asked(player, share, state):
            every_action = jax.vmap(player, in_axes=(0, None))
            return jax.lax.cond(
                share > 0,
                lambda state: every_action(state, params),
                lambda _: jnp.zeros(count, jnp.int32),
                state,
            )

        def one_step(state, key):
            who_key, action_key, step_key = jax.random.split(key, 3)
            who = jax.random.uniform(who_key, (count,))
            action = jax.random.randint(action_key, (count,), -1, 6)
            action = jnp.where(who < expert + worst, asked(experts.worst, worst, state), action)
            action = jnp.where(who < expert, asked(experts.expert, expert, state), action)
            _, next_state, reward, done, info = step(
                jax.random.split(step_key, count), state, action, params
            )
            return next_state, (state.time, next_state.time, next_state.score, reward, done, info)

        def some_steps(state, key):
            last, steps = jax.lax.scan(one_step, state, jax.random.split(key, interval))
            return last, (steps, state)

        steps, states = jax.lax.scan(some_steps, start, jax.random.split(key, SAMPLES))[1]
        return jax.tree.map(lambda leaf: leaf.reshape(-1, count), steps), states

    return run


@cache
def some_states(name, count=3072):
    """Reachable states from half random, half expert play: a State [count] with NumPy leaves."""
    states = rollout(name, expert=0.5).some_states
    every_state = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), states)
    chosen = np.random.default_rng(0).permutation(every_state.time.size)[:count]
    return jax.tree.map(lambda leaf: leaf[chosen], every_state)


def many_starts(name, count=STARTS_AT_A_TIME):
    """The first states of many episodes: a State [count] with NumPy leaves."""
    every_key = keys(9, -(-count // STARTS_AT_A_TIME) * STARTS_AT_A_TIME).reshape(
        -1, STARTS_AT_A_TIME
    )
    parts = [as_numpy(compiled_starts(name)(some_keys)) for some_keys in every_key]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *parts)


@cache
def compiled_starts(name):
    """The reset of an environment without drawing, compiled for STARTS_AT_A_TIME keys."""
    env, params = make(name)
    return jax.jit(jax.vmap(lambda key: env.reset(key, params)[1]), compiler_options=FOR_MANY_STEPS)


# --- scripted episodes: each rule, step by step --------------------------------------------------


def board_of(drawing, character):
    """Where a drawing, one word a row, has a character: bool[rows, columns]."""
    return np.array([[cell == character for cell in row] for row in drawing.split()])


def cell_of(drawing, character):
    """The one cell of a drawing that has a character: (row, column), int32[] each."""
    (row,), (col,) = np.nonzero(board_of(drawing, character))
    return jnp.int32(row), jnp.int32(col)


@cache
def compiled_rules(module):
    """A game's step without the frame, compiled: it returns (state, reward, done, info)."""
    return jax.jit(lambda key, state, action, params: module.step(key, state, action, params)[1:])


def run_script(module, state, params, script):
    """Play and check steps (action, reward, expected fields of state and info); the last state."""
    step = compiled_rules(module)
    for number, (action, reward, expected) in enumerate(script):
        state, paid, done, info = step(jax.random.key(number), state, jnp.int32(action), params)
        assert paid == pytest.approx(reward, abs=1e-6), f"step {number}"
        values = {**{"terminated": False, "truncated": False}, **expected}
        got = {
            key: np.asarray(info[key] if key in info else getattr(state, key)).tolist()
            for key in values
        }
        assert got == values, f"step {number}"
        assert bool(done) == (values["terminated"] or values["truncated"]), f"step {number}"
    return state


# --- what a test needs besides -------------------------------------------------------------------


def client(name):
    """Import an optional library, or skip the test if it is missing.

    With REQUIRE_CLIENTS set, as in .ci/run, the test fails instead.
    """
    if os.environ.get("REQUIRE_CLIENTS"):
        return importlib.import_module(name)
    return pytest.importorskip(name)


def program(*names):
    """The path of the first of these programs that is installed, or skip the test.

    With REQUIRE_PROGRAMS set, as in .ci/run, the test fails instead.
    """
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        give_up = pytest.fail if os.environ.get("REQUIRE_PROGRAMS") else pytest.skip
        give_up(f"this test needs {' or '.join(names)}, which is not installed")
    return found
