"""What the tests share: environments compiled once a process, rollouts, comparisons, scripted
episodes, and what a Case is.

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
    """What the tests in test_games.py need to be told of a game; ``CASES`` in the game's test
    module lists one for each game.

    States that come with a leading axis, [count], have NumPy leaves.
    """

    game: str  # its name in GAMES
    levels: dict  # fields of Params to their values in the rulebook: (Easy, Medium, Hard)
    # (first states [count], params) -> what perfect play earns: float[count]. None where what comes
    # after the start decides it
    best_return: Callable | None
    worst_return: Callable  # the same for the worst play; may be of the first few states only
    lowest_return: float  # no episode earns less
    # (state, params, partial_obs) -> a tuple of all that the view shows of one state, with NumPy
    # leaves. Two frames must be equal if and only if these tuples are. None where the state is not
    # discrete: such a game brings tests of its own for its views.
    shown: Callable | None = None
    # (rng, states [count], params) -> states [count] with whatever any view shows or hides drawn
    # anew, so that nearly equal states are compared too. They need not be reachable, but ``shown``
    # must be true of them.
    scramble: Callable | None = None
    perfect_play_lasts: bool = (
        False  # perfect play is to survive until the limit, not to end the game before
    )
    moves_by_itself: bool = (
        False  # time alone changes the state, so an unknown action is not a standstill
    )
    # fields that only make sense together, so that the test of what the views show never changes
    # one of them alone
    together: tuple = ()
    undealt: tuple = ()  # fields that hold what chance decides in the course of the game before any view shows it
    episodes: int = (
        256  # how many are played side by side to see what the players earn; a multiple of BATCH
    )
    different_starts: int = BATCH  # of BATCH first states, at least so many are different
    different_first_frames: int = 9  # of the MDP's frames of these, at least so many are different


@cache
def case_of(name):
    """The Case of an environment's game. Raises LookupError if the game's test module or its Case
    is missing."""
    entry = REGISTRY[name]
    module = "test_" + entry.module.__name__.rpartition(".")[2]
    if importlib.util.find_spec(f"tests.games.{module}") is None:
        raise LookupError(
            f"{entry.game} has no tests: write tests/games/{module}.py, with CASES as in tests/games/test_navigator.py"
        )
    cases = {case.game: case for case in importlib.import_module(f"tests.games.{module}").CASES}
    if entry.game not in cases:
        raise LookupError(
            f"CASES of tests/games/{module}.py has no Case of {entry.game}, only of {', '.join(cases)}"
        )
    return cases[entry.game]


def script(path):
    """A script of the clone as a module, e.g. ``script("docs/make_rules.py")``; its ``main`` is not
    run."""
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

# For programs that are to be as a user has them: XLA's defaults.
AS_FOR_USERS = {"xla_backend_optimization_level": 3}
if "xla_cpu_use_fusion_emitters" in os.environ.get(
    "XLA_FLAGS", ""
):  # then this version of XLA has it
    AS_FOR_USERS["xla_cpu_use_fusion_emitters"] = True
FOR_MANY_STEPS = {
    "xla_backend_optimization_level": 1
}  # for those that run for seconds, and need not be as a user has them


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


def rendered(name, partial_obs, states):
    """The frames of any multiple of BATCH states, as NumPy."""
    functions = compiled(name, partial_obs)
    count = len(states.time)
    batches = (
        jax.tree.map(lambda leaf, i=i: leaf[i : i + BATCH], states) for i in range(0, count, BATCH)
    )
    return np.concatenate(
        [np.asarray(functions.render(batch, functions.params)) for batch in batches]
    )


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
    """The probability that counts this uneven come from the expected ones (equal ones by
    default)."""
    return stats.chisquare(counts, expected).pvalue


# --- rollouts ------------------------------------------------------------------------------------


class Rollout(NamedTuple):
    """Steps of episodes that follow one another, [steps, count] unless another shape is given, as
    NumPy."""

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
    """Play for longer than the limit of an episode: a Rollout of the Case's number of episodes at a
    time.

    expert, worst: the shares of the steps in which these players act. In all others the action is
    uniform in -1 ... 5.
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
    """The one program of all rollouts: the players that have no share in the steps are not
    asked."""
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
    """Reachable states from play that is half random and half the expert's: a State with a leading
    axis [count], as NumPy."""
    states = rollout(name, expert=0.5).some_states
    every_state = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), states)
    chosen = np.random.default_rng(0).permutation(every_state.time.size)[:count]
    return jax.tree.map(lambda leaf: leaf[chosen], every_state)


def many_starts(name, count=STARTS_AT_A_TIME):
    """The first states of many episodes, without drawing them: a State with a leading axis [count],
    as NumPy."""
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
    """Where a drawing has a character: bool[rows, columns]. A drawing has a word for each row, a
    character for each column."""
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
    """Step through (action, reward, what the new state and info must hold) and check each; returns
    the last state."""
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
    """Import a library that is not among what the tests need, but a client of ours. Without it the
    test is skipped.

    Where REQUIRE_CLIENTS is set, as .ci/run does in an environment that has them, it fails instead.
    """
    if os.environ.get("REQUIRE_CLIENTS"):
        return importlib.import_module(name)
    return pytest.importorskip(name)


def program(*names):
    """The path of the first of these programs that the machine has. Without one the test is
    skipped.

    Where REQUIRE_PROGRAMS is set, as .ci/run does, it fails instead.
    """
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        give_up = pytest.fail if os.environ.get("REQUIRE_PROGRAMS") else pytest.skip
        give_up(f"this test needs {' or '.join(names)}, which is not installed")
    return found
