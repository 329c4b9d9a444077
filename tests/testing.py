"""What the tests share: compiled environments, rollouts, comparisons and scripted episodes.

The tests of a game are in ``tests/games/test_<game>.py``; those that hold for every game are in
``test_games.py`` at the root.
"""

import dataclasses
import importlib.util
import os
import re
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from scipy import stats

from popgym_arcade import REGISTRY, experts, make, render
from popgym_arcade.commands import gpu_program
from popgym_arcade.memory.players import PLAYERS
from popgym_arcade.render import OBS_SIZES

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
    # Whether no two states differ by less than a frame can show. Otherwise the game brings tests of
    # its own for its views.
    is_discrete: bool = True
    # (rng, states [count], params) -> states [count] in which all that any view shows or hides is
    # random, so that nearly equal states are compared too. They need not be reachable, but what the
    # game's Player says that their frames show must be true. None for a game that is not discrete.
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


@contextmanager
def switched(**values):
    """JAX with other values of its options, e.g. jax_enable_x64=True."""
    before = {name: getattr(jax.config, name) for name in values}
    try:
        for name, value in values.items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


shard_map = getattr(jax, "shard_map", None)
if shard_map is None:  # an old version, whose check lacks rules for loops
    from jax.experimental.shard_map import shard_map

    shard_map = partial(shard_map, check_rep=False)


def on_one_device(function):
    """A function of keys under shard_map. Its types are as strict as those of several devices."""
    mesh, spec = (
        jax.sharding.Mesh(np.array(jax.devices()[:1]), ("device",)),
        PartitionSpec("device"),
    )
    return shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec)


# --- compiled functions --------------------------------------------------------------------------

# Compiling is what the tests spend their time on. So there are few programs for an environment, and
# everything is done with them: a reset and a step of both twins, which draw nothing; a render of
# each twin; the expert and the worst policy. A rollout is a loop in Python around them. That the
# frames which reset and step return are the drawings of their states is tested for each game and
# twin, at one level. What is compiled without the options below is compiled quickly, as conftest.py
# says.

# What a user gets: XLA's defaults.
AS_FOR_USERS = {"xla_backend_optimization_level": 3}
if "xla_cpu_use_fusion_emitters" in os.environ.get("XLA_FLAGS", ""):  # only if XLA has the flag
    AS_FOR_USERS["xla_cpu_use_fusion_emitters"] = True
# The same code from XLA, optimized less by LLVM: three quarters of the work.
NEARLY_AS_FOR_USERS = {**AS_FOR_USERS, "xla_backend_optimization_level": 1}
# For programs that run for seconds and need not be what a user gets.
FOR_MANY_STEPS = {"xla_backend_optimization_level": 1}


class Functions(NamedTuple):
    """An environment's functions for batches of keys, states and actions of any size."""

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
    programs = compiled_programs(name)
    draw = programs.render
    if obs_size != OBS_SIZES[0]:
        draw = in_full_batches(env.render, BATCH, NEARLY_AS_FOR_USERS)

    def of_mdp(params):
        return dataclasses.replace(params, partial_obs=False)

    def render(states, params):
        return draw(states, dataclasses.replace(params, partial_obs=partial_obs))

    def reset(keys, params):
        states = programs.reset(keys, of_mdp(params))[partial_obs]
        return render(states, params), states

    def step(keys, states, actions, params):
        states, *outcome = programs.step(keys, states, actions, of_mdp(params))[partial_obs]
        return render(states, params), states, *outcome

    def step_env(keys, states, actions, params):
        states, *outcome = programs.step_env(keys, states, actions, of_mdp(params))
        return render(states, params), states, *outcome

    return Functions(env, params, reset, step, step_env, render)


class Programs(NamedTuple):
    """The programs of an environment, for batches of any size. ``params`` comes last, unbatched.

    They take the MDP's params, but for render's. reset and step return a pair: what the MDP
    returns, and the POMDP.
    """

    reset: object  # (keys) -> states
    step: object  # (keys, states, actions) -> (states, reward, done, info)
    step_env: object  # the same, of the MDP only
    render: object  # (states) -> frames
    # (states, chosen bool, actions) -> the policy's actions where chosen, the others elsewhere
    expert: object
    worst: object


@cache
def compiled_programs(name, for_users=False):
    """The Programs of an environment, compiled for as many environments as its rollouts have.

    for_users: whether to compile them as users do. It takes longer, so only a slow test does it.
    """
    env, _ = make(name)
    options = AS_FOR_USERS if for_users else NEARLY_AS_FOR_USERS

    def program(function):
        return in_full_batches(function, episodes_of(name), options)

    def of_both(function):
        def both(*arguments):
            *others, params = arguments
            return function(*others, params), function(
                *others, dataclasses.replace(params, partial_obs=True)
            )

        return program(both)

    def where_chosen(policy):
        return program(
            lambda state, chosen, action, params: jnp.where(chosen, policy(state, params), action)
        )

    return Programs(
        reset=of_both(lambda *arguments: env.reset(*arguments)[1]),
        step=of_both(lambda *arguments: env.step(*arguments)[1:]),
        step_env=program(lambda *arguments: env.step_env(*arguments)[1:]),
        render=program(env.render),
        expert=where_chosen(experts.expert),
        worst=where_chosen(experts.worst),
    )


@contextmanager
def drawn_in_words():
    """Trace programs here whose frames are drawn in words on a CPU, as they are on a GPU.

    The precision has no other effect than that JAX keeps these traces apart from others.
    """
    with (
        mock.patch.object(render, "WORD_PLATFORMS", ("cpu",)),
        jax.default_matmul_precision("highest"),
    ):
        yield


def episodes_of(name):
    """How many episodes of an environment are played side by side."""
    try:
        return case_of(name).episodes
    except LookupError:
        return Case.episodes


def in_full_batches(function, width, options):
    """Compile (*batches, params) -> batch for ``width`` elements, and use that for any number.

    A smaller batch is filled up with copies of its elements; a larger one is cut into pieces. Keys
    are passed as raw data, which costs less to fill up.
    """

    def with_keys(*arguments):
        *batches, params = arguments
        typed = (
            jax.random.wrap_key_data(batch) if is_raw_keys(batch) else batch for batch in batches
        )
        return jax.vmap(function, in_axes=(*(0 for _ in batches), None))(*typed, params)

    compiled_function = jax.jit(with_keys, compiler_options=options)

    def call(*arguments):
        *batches, params = arguments
        batches = [
            jax.random.key_data(batch) if is_typed_keys(batch) else batch for batch in batches
        ]
        count = len(jax.tree.leaves(batches)[0])
        if count == width:
            return compiled_function(*batches, params)
        parts = []
        for start in range(0, count, width):
            chosen = np.resize(np.arange(start, min(start + width, count)), width)
            filled = jax.tree.map(lambda leaf, chosen=chosen: np.asarray(leaf)[chosen], batches)
            parts.append(as_numpy(compiled_function(*filled, params)))
        return jax.tree.map(lambda *leaves: jnp.asarray(np.concatenate(leaves)[:count]), *parts)

    return call


def is_typed_keys(batch):
    """Whether this is an array of typed keys."""
    return isinstance(batch, jax.Array) and jnp.issubdtype(batch.dtype, jax.dtypes.prng_key)


def is_raw_keys(batch):
    """Whether this is an array of raw keys: the only uint32[count, 2] among what programs take."""
    return not isinstance(batch, tuple) and batch.dtype == np.uint32 and batch.ndim == 2


def keys(seed, count=BATCH):
    """Typed PRNG keys: key[count]."""
    return jax.random.split(jax.random.key(seed), count)


def as_numpy(batch):
    """The same pytree with NumPy leaves."""
    return jax.tree.map(np.asarray, batch)


def one_of(batch, i):
    """Element i of a batched pytree."""
    return jax.tree.map(lambda leaf: leaf[i], batch)


def rendered(name, partial_obs, states, obs_size=128, **overrides):
    """The frames of a batch of states, as NumPy. overrides: fields of Params."""
    functions = compiled(name, partial_obs, obs_size)
    params = dataclasses.replace(functions.params, **overrides)
    return np.asarray(functions.render(states, params))


@cache
def shown_by(name, partial_obs):
    """A function: states [count] -> what a view's frames show, by the Player: int32[count, f]."""
    player = PLAYERS[REGISTRY[name].game]
    shown = in_full_batches(player.shown, 4 * BATCH, None)
    params = dataclasses.replace(REGISTRY[name].params, partial_obs=partial_obs)
    return lambda states: numbers(shown(states, params))


def numbers(shown):
    """What frames show, one row of numbers for each: int32[count, f]."""
    leaves = (np.asarray(leaf) for leaf in jax.tree.leaves(shown))
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


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


@cache
def rollout(name, expert=0.0, worst=0.0, seed=0):
    """Play longer than an episode may last, in as many environments as the Case says: Rollout.

    expert, worst: the shares of the steps in which these policies act. All other actions are
    uniform in [-1, 5]. If one of them always acts, play ends with the first episodes.
    """
    count, programs, params = episodes_of(name), compiled_programs(name), REGISTRY[name].params
    interval = -(-(params.max_steps_in_episode + 1) // SAMPLES)
    rng, steps = np.random.default_rng(seed), interval * SAMPLES
    who = rng.random((steps, count))
    actions = rng.integers(-1, 6, (steps, count), np.int32)
    step_keys = np.asarray(jax.random.key_data(keys(seed + 1, steps * count)))
    step_keys = step_keys.reshape(steps, count, -1)

    start = state = programs.reset(keys(seed, count), params)[False]
    played, some_states, ended = [], [], np.zeros(count, bool)
    for number in range(steps):
        if number % interval == 0:
            some_states.append(state)
            if max(expert, worst) == 1 and np.all(ended):
                break
        action = actions[number]
        if worst:
            action = programs.worst(state, who[number] < expert + worst, action, params)
        if expert:
            action = programs.expert(state, who[number] < expert, action, params)
        before = state
        state, reward, done, info = programs.step(step_keys[number], before, action, params)[False]
        played.append((before.time, state.time, state.score, reward, done, info))
        if number % interval == interval - 1:
            ended |= np.any([np.asarray(step[4]) for step in played[-interval:]], axis=0)
    assert np.all(ended)
    stack = partial(jax.tree.map, lambda *leaves: np.stack(list(map(np.asarray, leaves))))
    return Rollout(as_numpy(start), *stack(*played), stack(*some_states))


@cache
def some_states(name, count=3072):
    """Reachable states from half random, half expert play: a State [count] with NumPy leaves."""
    states = rollout(name, expert=0.5).some_states
    every_state = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), states)
    chosen = np.random.default_rng(0).permutation(every_state.time.size)[:count]
    return jax.tree.map(lambda leaf: leaf[chosen], every_state)


def many_starts(name, count=20_000):
    """The first states of many episodes: a State [count] with NumPy leaves."""
    return as_numpy(compiled_programs(name).reset(keys(9, count), REGISTRY[name].params)[False])


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


# --- Markdown pages ------------------------------------------------------------------------------

README = "README.md"


@cache
def page_text(page):
    """A page of the clone, named by its path, e.g. "docs/play.md"."""
    return (ROOT / page).read_text()


def code_blocks(page, language):
    """A page's code blocks in a language: [(heading above, code)].

    Blank lines before the code make an error's line number that of the page.
    """
    blocks, heading, start = [], None, None
    lines = page_text(page).splitlines()
    for number, line in enumerate(lines):
        if start is not None and line == "```":
            blocks.append((heading, "\n" * start + "\n".join(lines[start:number])))
            start = None
        elif start is None and line.startswith("#"):
            heading = line.lstrip("# ")
        elif line == f"```{language}":
            start = number + 1
    return blocks


def command_lines(page, program):
    """The arguments in each line of a page's sh blocks that calls a program, without comments."""
    code = "\n".join(code for _, code in code_blocks(page, "sh"))
    lines = re.findall(rf"^(?:.*/)?{program}\b(.*)$", code, re.MULTILINE)
    return [line.split("#")[0].split() for line in lines]


# --- what a test needs besides -------------------------------------------------------------------


def client(name):
    """Import an optional library, or skip the test if it is missing.

    With REQUIRE_CLIENTS set, as in .ci/run, the test fails instead.
    """
    if os.environ.get("REQUIRE_CLIENTS"):
        return importlib.import_module(name)
    return pytest.importorskip(name)


def gpu_compiler():
    """Skip the test if XLA's compiler for NVIDIA GPUs is missing.

    With REQUIRE_GPU_COMPILER set, as in .ci/run, the test fails instead.
    """
    try:
        gpu_program.check_compiler()
    except RuntimeError as error:
        give_up = pytest.fail if os.environ.get("REQUIRE_GPU_COMPILER") else pytest.skip
        give_up(str(error))


def program(*names):
    """The path of the first of these programs that is installed, or skip the test.

    With REQUIRE_PROGRAMS set, as in .ci/run, the test fails instead.
    """
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        give_up = pytest.fail if os.environ.get("REQUIRE_PROGRAMS") else pytest.skip
        give_up(f"this test needs {' or '.join(names)}, which is not installed")
    return found
