"""Runs: what they write, that they resume bit for bit, and what the command refuses."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from tests.mishaps import fill_disk
from tests.testing import AS_FOR_USERS, FOR_MANY_STEPS, client

for library in ("memax", "flashbax", "tyro", "tqdm"):
    client(library)

import equinox as eqx  # noqa: E402
import jax  # noqa: E402

from popgym_arcade.baselines import checkpoint, evaluate, pqn, rollout, train  # noqa: E402
from popgym_arcade.baselines.algorithms import ALGORITHMS  # noqa: E402
from popgym_arcade.baselines.runs import (  # noqa: E402
    default_folder,
    read_metrics,
    to_json_line,
)
from popgym_arcade.baselines.train import RunOptions  # noqa: E402
from popgym_arcade.introspection import episode  # noqa: E402

TINY = {
    "env": "NavigatorEasy",
    "partial": True,
    "memory": "mingru",
    "hidden_size": 8,
    "num_layers": 1,
    "num_envs": 4,
    "num_steps": 8,
    "total_steps": 32 * 5,
}
OWN = {
    "pqn": {"num_minibatches": 2, "num_epochs": 1},
    "ppo": {"num_minibatches": 2, "num_epochs": 1},
    "dqn": {
        "buffer_steps": 64,
        "warmup_steps": 32,
        "steps_per_gradient": 16,
        "batch_size": 2,
        "sequence_length": 4,
        "burn_in": 2,
        "target_period": 3,
    },
}
OPTIONS = {"evaluation_episodes": 2, "evaluate_every": 64, "checkpoint_minutes": 0.0}


def config(algorithm, **changes):
    """A config for a run of a few seconds."""
    return ALGORITHMS[algorithm].config(**{**TINY, **OWN[algorithm], **changes})


PROGRAMS = {}  # what training compiles, by what makes it differ


def run(folder, algorithm="pqn", resume=False, options=(), **changes):
    """Train in this process: the folder. Runs with the same sizes share their compiled programs.

    Thousands of frames pass the network, too many for a program that compiles quickly.
    """
    numbers = config(algorithm, **changes)
    options = RunOptions(folder=folder, resume=resume, **{**OPTIONS, **dict(options)})
    sizes = options.seeds, options.devices, options.evaluation_episodes
    names = Counter()

    def jit(function, **settings):
        names[function.__name__] += 1  # one play for each twin
        number = names[function.__name__]
        make_train = ALGORITHMS[algorithm].make_train
        which = make_train, numbers, *sizes, function.__name__, number
        if which not in PROGRAMS:
            PROGRAMS[which] = jax.jit(function, compiler_options=FOR_MANY_STEPS, **settings)
        return PROGRAMS[which]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "jax", SimpleNamespace(**{**vars(jax), "jit": jit}))
        return train.train(algorithm, numbers, options)


def without_time(lines):
    """Lines of metrics without what depends on how fast the machine was."""
    return [
        {
            name: value
            for name, value in line.items()
            if name not in ("seconds", "frames_per_second")
        }
        for line in lines
    ]


def left(folder):
    """What a run left that does not depend on time: (metrics, hashes of the last checkpoint)."""
    lines = without_time(read_metrics(folder))
    return lines, checkpoint.manifest(checkpoint.checkpoints(folder)[-1])["files"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A function from an algorithm to the folder of a run of it without a break."""
    folders = {}

    def folder_of(algorithm):
        if algorithm not in folders:
            folders[algorithm] = run(tmp_path_factory.mktemp(algorithm), algorithm)
        return folders[algorithm]

    return folder_of


@pytest.fixture
def finished(whole, tmp_path):
    """The folder of a finished run of PQN, which a test may change."""
    return shutil.copytree(whole("pqn"), tmp_path / "finished")


TWO_SEEDS = {"options": {"seeds": 2}, "total_steps": 96}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The folder of a run of TWO_SEEDS."""
    return run(tmp_path_factory.mktemp("both"), **TWO_SEEDS)


# --- what a run leaves ---------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_run_writes_a_line_for_each_update_and_evaluates_both_twins(algorithm, whole):
    lines = read_metrics(whole(algorithm))
    warmup = OWN[algorithm].get("warmup_steps", 0)
    updates = [line["steps"] for line in lines if line["kind"] == "training"]
    assert updates == list(range(warmup + 32, 161, 32))
    evaluated = [(line["steps"], line["twin"]) for line in lines if line["kind"] == "evaluation"]
    steps = [warmup] + [step for step in updates if step % 64 == 0 or step == 160]
    assert evaluated == [(step, twin) for step in steps for twin in ("MDP", "POMDP")]
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds) and seconds[-1] > 0
    for line in lines:
        assert line["seed"] == 0
        if line["kind"] == "evaluation":
            assert len(line["returns"]) == len(line["lengths"]) == 2 and max(line["lengths"]) <= 64
        else:
            assert line["frames_per_second"] > 0 and np.isfinite(line["loss"])
            assert (line["episodes"] > 0) == (line["return_mean"] is not None)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_run_leaves_its_config_and_an_agent(algorithm, whole):
    content = json.loads((whole(algorithm) / "config.json").read_text())
    assert content["algorithm"] == algorithm and content["config"]["env"] == "NavigatorEasy"
    assert content["config"]["total_steps"] == 160 and content["seeds"] == 1
    agent = checkpoint.load_agent(whole(algorithm))
    assert agent.manifest["steps"] == 160 and agent.manifest["rule_version"] == 1
    assert agent.config == content["config"]
    assert len(checkpoint.checkpoints(whole(algorithm))) == checkpoint.KEPT


def test_the_folder_has_a_name_that_says_what_is_in_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = run(None, options={"seed": 7})
    assert folder == Path("runs/NavigatorEasy-POMDP-pqn-mingru-seed7")
    assert {line["seed"] for line in read_metrics(folder)} == {7}
    assert checkpoint.load_agent(folder).manifest["seeds"] == [7]


def test_seeds_side_by_side_are_those_that_run_alone(both, whole):
    lines = without_time(read_metrics(both))
    alone = without_time(read_metrics(whole("pqn")))

    def pick(lines, seed):
        return [line for line in lines if line["seed"] == seed and line["steps"] == 32]

    (first,), (second,), (same,) = pick(lines, 0), pick(lines, 1), pick(alone, 0)
    # The learning rate falls over a shorter run, so only the first update is the same.
    assert first["episodes"] == same["episodes"] and first["return_mean"] == same["return_mean"]
    assert first["loss"] == pytest.approx(same["loss"], rel=1e-4)
    assert second["loss"] != pytest.approx(first["loss"], rel=1e-4)
    agents = [checkpoint.load_agent(both, seed=seed) for seed in (0, 1)]
    assert agents[0].manifest["seeds"] == [0, 1]
    start = ALGORITHMS["pqn"].make_train(config("pqn")).init
    for seed, agent in enumerate(
        agents
    ):  # a few small updates leave each network nearest to its own first one
        apart = [
            distance(agent.network, jax.jit(start)(jax.random.PRNGKey(other)).weights)
            for other in (0, 1)
        ]
        assert apart[seed] < 0.1 * apart[1 - seed]


def distance(one, other):
    """How far apart the arrays of two networks are."""
    arrays = (
        jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array)) for network in (one, other)
    )
    return float(np.sqrt(sum(np.sum(np.abs(a - b) ** 2) for a, b in zip(*arrays))))


def test_the_gradients_of_seeds_side_by_side_are_those_that_each_has_alone():
    # With frames of a game and the compiler's own options: XLA may fuse gradients under vmap
    # otherwise than alone.
    numbers = config("pqn", memory="lru", hidden_size=32)
    trainer = ALGORITHMS["pqn"].make_train(numbers)
    env, params = rollout.make_environment(numbers)

    def gradient(key):
        state = trainer.init(key)
        network = eqx.combine(state.weights, trainer.static)
        stream, transitions = rollout.collect(
            env, params, trainer.act, network, state.stream, key, numbers.num_steps
        )
        batch = rollout.Batch(state.stream.carry, transitions, stream)
        return jax.grad(lambda weights: pqn.loss(weights, trainer.static, batch, numbers)[0])(
            state.weights
        )

    keys = jax.vmap(jax.random.PRNGKey)(np.arange(2))
    together = jax.jit(jax.vmap(gradient))(keys)
    for number, key in enumerate(keys):
        for one, many in zip(jax.tree.leaves(jax.jit(gradient)(key)), jax.tree.leaves(together)):
            np.testing.assert_allclose(many[number], one, atol=1e-4 * abs(one).max() + 1e-9)


# --- going on ------------------------------------------------------------------------------------


def stop_after(monkeypatch, updates, number=signal.SIGTERM):
    """Have a signal come after so many updates of the next run."""
    write, count = train._log_update, iter(range(1, 1000))

    def write_and_stop(*arguments):
        write(*arguments)
        if next(count) == updates:
            signal.raise_signal(number)

    monkeypatch.setattr(train, "_log_update", write_and_stop)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_a_signal_stopped_goes_on_bit_for_bit(
    algorithm, number, whole, tmp_path, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        stop_after(patch, 2, number)
        handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        with pytest.raises(train.Stopped) as stopped:
            run(tmp_path, algorithm)
    assert stopped.value.args == (number,)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    assert "with --resume to continue" in capsys.readouterr().err
    assert checkpoint.load_agent(tmp_path).manifest["steps"] == 64 + OWN[algorithm].get(
        "warmup_steps", 0
    )
    run(tmp_path, algorithm, resume=True)
    assert left(tmp_path) == left(whole(algorithm))


def test_several_seeds_go_on_bit_for_bit(both, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 2 * 1)
        with pytest.raises(train.Stopped):
            run(tmp_path, **TWO_SEEDS)
    run(tmp_path, resume=True, **TWO_SEEDS)
    assert left(tmp_path) == left(both)


def start(folder, *more, flags=""):
    """Start a tiny run in its own process, compiled as in this one: a Popen. flags: of XLA."""
    words = [
        sys.executable,
        "-m",
        "popgym_arcade.baselines.train",
        "pqn",
        "--folder",
        str(folder),
        "--partial",
    ]
    for name, value in {**TINY, **OWN["pqn"], **OPTIONS}.items():
        if name != "partial":
            words += ["--" + name.replace("_", "-"), str(value)]
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=1 {flags}"
    environment = {**os.environ, "XLA_FLAGS": flags}
    return subprocess.Popen(
        [*words, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_a_run_that_was_killed_at_any_moment_goes_on_bit_for_bit(tmp_path, whole):
    for updates in (1, 3):
        process = start(tmp_path, "--resume")
        wait_for(lambda updates=updates: count_updates(tmp_path) >= updates, process)
        process.kill()
        process.communicate()
    process = start(tmp_path, "--resume")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert left(tmp_path) == left(whole("pqn"))


def count_updates(folder):
    """How many updates a run has written down."""
    return sum(line["kind"] == "training" for line in read_metrics(folder))


def wait_for(condition, process):
    """Wait until a condition holds, a minute at most, or the process has ended."""
    deadline = time.monotonic() + 120
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_ctrl_c_saves_and_exits_with_its_code(tmp_path):
    process = start(tmp_path)
    wait_for(lambda: count_updates(tmp_path) >= 1, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    if process.returncode:  # else the run was over before the signal came
        assert process.returncode == 128 + signal.SIGINT and "with --resume to continue" in errors
    assert checkpoint.last_whole(tmp_path)


def test_a_damaged_checkpoint_is_refused_and_the_one_before_is_used(finished, whole, capsys):
    *_, before, last = checkpoint.checkpoints(finished)
    with open(last / "state.eqx", "r+b") as file:
        file.truncate(1000)
    run(finished, resume=True)
    errors = capsys.readouterr().err
    assert (
        f"{last} is damaged: state.eqx has 1000 bytes instead of" in errors
        and "trying the previous one" in errors
    )
    assert left(finished) == left(whole("pqn"))


def test_a_finished_run_that_is_resumed_stays_as_it_is(finished, whole):
    run(finished, resume=True)
    assert left(finished) == left(whole("pqn"))


def test_resuming_what_never_began_begins_and_says_so(tmp_path, whole, capsys):
    run(tmp_path, resume=True)
    assert f"{tmp_path} holds no run to resume; starting a new one" in capsys.readouterr().err
    assert left(tmp_path) == left(whole("pqn"))


# --- when what is done ---------------------------------------------------------------------------

SEEDS = (3, 4)


class Steps(NamedTuple):
    """A state of training that is only steps."""

    steps: np.ndarray  # int[2], one a seed
    weights: None = None


@pytest.fixture
def slow_run(monkeypatch):
    """A run of five updates of a minute and 32 steps each.

    Returns (a function that makes it, what was saved, what was written).
    """
    now, saved, lines = [50.0], [], []
    monkeypatch.setattr(train.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(
        train,
        "_write_checkpoint",
        lambda run, state, steps, seconds: saved.append((steps, seconds)),
    )

    def update(state):
        now[0] += 60
        figures = {
            "loss": [0.5, 0.25],
            "episodes": [1, 3],
            "return_mean": [1.0, 0.0],
            "length_mean": [10.0, 20.0],
        }
        return Steps(state.steps + 32), {name: np.array(values) for name, values in figures.items()}

    def evaluator(weights, keys):
        return np.array(keys, np.float64), np.zeros(keys.shape, int)

    def make(**options):
        trainer = SimpleNamespace(steps_per_update=32, config=SimpleNamespace(total_steps=160))
        options = RunOptions(**{"evaluate_every": 64, **options})
        metrics = SimpleNamespace(write=lines.append)
        return train.TrainingRun(
            trainer,
            {},
            options,
            Path(),
            SEEDS,
            update,
            {"MDP": evaluator, "POMDP": evaluator},
            metrics,
        )

    return make, saved, lines


def at(steps):
    """The state after so many steps."""
    return Steps(np.full(2, steps))


def test_a_checkpoint_is_written_whenever_so_many_minutes_are_over_and_at_the_end(slow_run):
    make, saved, _ = slow_run
    train._training_loop(make(checkpoint_minutes=1.5), at(0), 0.0, [])
    assert saved == [(64, 120.0), (128, 240.0), (160, 300.0)]
    saved.clear()
    train._training_loop(make(checkpoint_minutes=60), at(0), 0.0, [])
    assert saved == [(160, 300.0)]


def test_a_signal_ends_a_run_with_a_checkpoint_and_not_if_that_was_its_last_update(slow_run):
    make, saved, lines = slow_run
    with pytest.raises(train.Stopped) as stopped:
        train._training_loop(make(), at(0), 0.0, [signal.SIGTERM])
    assert stopped.value.args == (signal.SIGTERM,) and saved == [(32, 60.0)]
    train._training_loop(make(), at(128), 0.0, [signal.SIGTERM])
    assert saved[1:] == [(160, 60.0)] and {
        line["steps"] for line in lines if line["kind"] == "evaluation"
    } == {160}


def test_the_time_of_a_run_goes_on_where_it_was_and_frames_are_those_of_all_seeds(slow_run):
    make, saved, lines = slow_run
    train._training_loop(make(), at(64), 1000.0, [])
    training = [line for line in lines if line["kind"] == "training"]
    assert [(line["steps"], line["seed"], line["seconds"]) for line in training] == [
        (steps, seed, 1000.0 + 60 * (steps - 64) / 32) for steps in (96, 128, 160) for seed in SEEDS
    ]
    assert {line["frames_per_second"] for line in training} == {2 * 32 / 60}
    assert [line["loss"] for line in training] == [0.5, 0.25] * 3
    evaluations = [
        (line["steps"], line["seconds"]) for line in lines if line["kind"] == "evaluation"
    ]
    assert evaluations == [(128, 1120.0)] * 4 + [(160, 1180.0)] * 4


def test_evaluations_differ_in_their_chance_by_seed_and_time_but_not_by_twin(slow_run):
    make, _, lines = slow_run
    train._training_loop(make(), at(64), 0.0, [])
    keys = {
        (line["steps"], line["seed"], line["twin"]): tuple(line["returns"])
        for line in lines
        if line["kind"] == "evaluation"
    }
    assert len(keys) == 8 and len(set(keys.values())) == 4
    assert all(
        keys[steps, seed, "MDP"] == keys[steps, seed, "POMDP"]
        for steps in (128, 160)
        for seed in SEEDS
    )


def test_each_twin_is_evaluated_on_its_own_frames(monkeypatch):
    monkeypatch.setattr(
        rollout,
        "play_episodes",
        lambda env, params, act, network, key, episodes: jax.numpy.array(
            [params.partial_obs, episodes]
        ),
    )
    trainer = SimpleNamespace(config=config("pqn"), static=None, act=None)
    evaluators = train._make_evaluators(trainer, RunOptions(evaluation_episodes=7))
    assert {twin: run(np.zeros(1), np.zeros(1)).tolist() for twin, run in evaluators.items()} == {
        "MDP": [[0, 7]],
        "POMDP": [[1, 7]],
    }


def test_the_progress_bar_shows_the_mean_over_all_episodes_that_ended():
    told, moved = [], []
    bar = SimpleNamespace(
        set_postfix_str=lambda text, refresh: told.append(text), update=moved.append
    )
    means = {
        "return_mean": np.array([1.0, 0.0, np.nan]),
        "length_mean": np.array([10.0, 20.0, np.nan]),
    }
    train._advance_bar(bar, {"episodes": np.array([1, 3, 0]), **means}, 32)
    train._advance_bar(bar, {"episodes": np.zeros(3, int), **means}, 32)
    assert told == ["return 0.250, length 18"] and moved == [32, 32]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_noted_and_the_second_does_what_it_always_does(number):
    came = []
    before = signal.signal(number, lambda number, frame: came.append(number))
    try:
        with train._StopSignals() as noted:
            signal.raise_signal(number)
            assert noted == [number] and came == []
            signal.raise_signal(number)
            assert noted == [number] and came == [number]
        with train._StopSignals():
            pass
        signal.raise_signal(number)
        assert came == [number, number]
    finally:
        signal.signal(number, before)


# --- mishaps -------------------------------------------------------------------------------------


def everything_in(folder):
    """The paths of all files and folders in a folder, relative to it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("lines", [[], [{"kind": "evaluation", "steps": 0}]])
def test_a_run_that_fails_before_its_first_update_does_not_block_the_next(tmp_path, error, lines):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "notes.txt").touch()
    for folder in (tmp_path / "theirs", tmp_path / "new" / "run"):
        with pytest.raises(error), train._run_folder(folder, {}):
            (folder / "metrics.jsonl").write_text("".join(map(to_json_line, lines)))
            raise error
    assert everything_in(tmp_path) == ["theirs", "theirs/notes.txt"]


def test_a_run_that_has_learned_something_stays(tmp_path):
    with pytest.raises(MemoryError), train._run_folder(tmp_path, {}):
        (tmp_path / "metrics.jsonl").write_text(to_json_line({"kind": "training", "steps": 32}))
        raise MemoryError
    assert everything_in(tmp_path) == ["config.json", "metrics.jsonl"]


def test_a_run_that_fails_when_it_is_resumed_stays(tmp_path):
    (tmp_path / "config.json").touch()
    with pytest.raises(MemoryError), train._run_folder(tmp_path, {}):
        raise MemoryError
    assert everything_in(tmp_path) == ["config.json"]


@pytest.mark.parametrize("file", ["config.json", "metrics.jsonl"])
def test_a_full_disk_ends_the_command_with_one_line_and_no_folder(
    file, tmp_path, monkeypatch, capsys
):
    def start(trainer, config, options, folder, start):
        train.MetricsWriter(folder, config)

    monkeypatch.setattr(train, "_run", start)
    fill_disk(monkeypatch, file)
    folder = tmp_path / "runs" / "new"
    code, text = said(["pqn", "--env", "NavigatorEasy", "--folder", str(folder)], capsys)
    path = folder / file
    assert (code, text) == (1, f"popgym-arcade-train: error: {path}: No space left on device\n")
    assert everything_in(tmp_path) == []


def test_a_folder_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "run").touch()
    code, text = said(["pqn", "--env", "NavigatorEasy", "--folder", str(tmp_path / "run")], capsys)
    told = f"{tmp_path / 'run'} is a file; name a folder"
    assert (code, text) == (2, f"popgym-arcade-train: error: {told}\n")


# --- what is refused -----------------------------------------------------------------------------


def test_a_folder_with_a_run_is_not_overwritten(finished, whole):
    with pytest.raises(FileExistsError, match="already holds a run; add --resume"):
        run(finished)
    assert left(finished) == left(whole("pqn"))


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"num_steps": 16}, "cannot be resumed with num_steps 16: its run has 8"),
        ({"memory": "gru"}, "with memory gru: its run has mingru"),
    ],
)
def test_another_run_is_not_resumed(finished, changes, told):
    with pytest.raises(checkpoint.CheckpointError, match=told):
        run(finished, resume=True, **changes)


def test_a_run_under_other_rules_is_not_resumed(finished, monkeypatch):
    monkeypatch.setattr(checkpoint, "rule_version", lambda name: 2)
    with pytest.raises(
        checkpoint.CheckpointError,
        match="version 1 of the rules of NavigatorEasy, but the installed version is 2",
    ):
        run(finished, resume=True)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_is_told_with_its_seed_and_steps(tmp_path, number):
    run = SimpleNamespace(folder=tmp_path, seeds=SEEDS)
    with pytest.raises(
        train.Diverged,
        match=f"the loss of seed 4 is {number} after 96 steps; there is no checkpoint yet",
    ):
        train._check_finite(run, np.array([0.5, number]), 96)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_last_good_checkpoint(
    tmp_path, monkeypatch
):
    make_train = ALGORITHMS["pqn"].make_train

    def breaking(config, environment=None):
        trainer = make_train(config, environment)

        def update(state):
            state, metrics = trainer.update(state)
            return state, {
                **metrics,
                "loss": jax.numpy.where(state.steps > 64, jax.numpy.nan, metrics["loss"]),
            }

        return trainer._replace(update=update)

    monkeypatch.setitem(train.ALGORITHMS, "pqn", ALGORITHMS["pqn"]._replace(make_train=breaking))
    with pytest.raises(
        train.Diverged,
        match=r"the loss of seed 0 is nan after 96 steps; "
        r"the last good checkpoint is .*step-000000000064",
    ):
        run(tmp_path)
    assert checkpoint.load_agent(tmp_path).manifest["steps"] == 64


@pytest.mark.parametrize(
    "options, told",
    [
        ({"seeds": 0}, "seeds must be at least 1, but it is 0; the nearest is 1"),
        (
            {"devices": 99},
            "devices must be in [1, 1], the devices of this machine, but it is 99; "
            "the nearest is 1",
        ),
        ({"evaluate_every": 0}, "evaluate_every must be at least 1"),
        ({"seed": -1}, "seed must be in [0, 2147483647], but it is -1; the nearest is 0"),
        ({"seed": 2**31 - 1, "seeds": 2}, "the last seed must be in [0, 2147483647], but"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_made(tmp_path, options, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        run(tmp_path / "run", options=options)
    assert not (tmp_path / "run").exists()


def test_the_environments_must_fit_the_devices(monkeypatch):
    monkeypatch.setattr(train.jax, "device_count", lambda: 4)
    told = "num_envs must be a multiple of devices, 4, but it is 6; the nearest is 8"
    with pytest.raises(ValueError, match=told):
        train._check_options(config("pqn", num_envs=6), RunOptions(devices=4))
    train._check_options(config("pqn", num_envs=8), RunOptions(devices=4))


# --- the command ---------------------------------------------------------------------------------


def said(arguments, capsys):
    """What the command prints as it refuses: (exit code, text)."""
    with pytest.raises(SystemExit) as exit_:
        train.main(arguments)
    captured = capsys.readouterr()
    return exit_.value.code, captured.out + captured.err


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["pqn", "--env", "NavigatorEsy"], "NavigatorEasy"),
        (
            ["pqn", "--env", "NavigatorEasy", "--memory", "lrv"],
            "there is no memory 'lrv'; the nearest are: lru",
        ),
        (
            ["ppo", "--env", "NavigatorEasy", "--num-envs", "17"],
            "num_envs must be a multiple of num_minibatches, 16, but it is 17",
        ),
        (
            ["dqn", "--env", "NavigatorEasy", "--discount", "1.5"],
            "discount must be in [0, 1], but it is 1.5; the nearest is 1",
        ),
        (["pqn", "--env", "NavigatorEasy", "--obs-size", "64"], "one of 128, 256"),
        (["pqn", "--env", "NavigatorEasy", "--params", "bord_size=4"], "nearest are: board_size"),
        (["pqn", "--env", "NavigatorEasy", "--params", "board_size=99"], "the nearest is 20"),
        (["pqn", "--env", "NavigatorEasy", "--params", "board_size=4.5"], "must be of type int"),
        (["pqn", "--env", "NavigatorEasy", "--params", "board_size"], "NAME=VALUE"),
        (["pqn"], "--env"),
        (["sarsa"], "pqn"),
    ],
)
def test_bad_input_is_refused_with_the_nearest_valid_choice(
    arguments, told, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, text = said(arguments, capsys)
    assert code == 2 and told in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (train.Stopped(signal.SIGTERM), 128 + signal.SIGTERM, ""),
        (
            train.Diverged("the loss is nan"),
            "popgym-arcade-train: the loss is nan",
            "",
        ),  # text: it is printed, and the code is 1
        (FileExistsError("there is a run"), 2, "popgym-arcade-train: error: there is a run"),
        (
            checkpoint.CheckpointError("it is damaged"),
            2,
            "popgym-arcade-train: error: it is damaged",
        ),
        (ModuleNotFoundError("no wandb"), 2, "popgym-arcade-train: error: no wandb"),
        (OSError(28, "No space left", "run"), 1, "popgym-arcade-train: error: run: No space left"),
    ],
)
def test_how_a_run_ended_is_told_by_the_exit_code(error, code, told, capsys, monkeypatch):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(train, "train", fail)
    said_code, text = said(["pqn", "--env", "NavigatorEasy"], capsys)
    assert said_code == code and told in text


def test_an_agent_keeps_the_parameters_that_it_was_trained_on(tmp_path):
    text = "board_size=4,max_steps_in_episode=5"
    agent = checkpoint.load_agent(run(tmp_path / "run", params=text))
    assert agent.config["params"] == text
    returns, lengths = evaluate.evaluate_agent(agent, episodes=8)
    assert lengths.max() <= 5
    setting = episode.environment_config(agent.config)
    assert episode.make_environment(setting)[1].board_size == 4


def test_the_folder_of_a_run_names_its_parameters():
    options = {"env": "NavigatorEasy", "partial": True, "memory": "lru"}
    assert default_folder("pqn", options, 3) == Path("runs/NavigatorEasy-POMDP-pqn-lru-seed3")
    options["params"] = "board_size=4, max_steps_in_episode=5"
    name = "NavigatorEasy-board_size=4,max_steps_in_episode=5-POMDP-pqn-lru-seed3"
    assert default_folder("pqn", options, 3) == Path("runs") / name


def test_training_imports_no_matplotlib():
    code = "import sys; sys.modules['matplotlib'] = None; import popgym_arcade.baselines.train"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def parsed(arguments, monkeypatch):
    """What the command would train: (algorithm, config, RunOptions)."""
    asked = []
    monkeypatch.setattr(train, "train", lambda *given: asked.append(given))
    monkeypatch.setattr(train, "table_of", lambda folders: "")
    train.main(arguments)
    return asked[0]


def test_booleans_mean_what_they_say(monkeypatch):
    base = ["pqn", "--env", "TetrisHard"]
    assert parsed(base, monkeypatch)[1].partial is False
    assert parsed([*base, "--partial"], monkeypatch)[1].partial is True
    assert parsed([*base, "--no-partial"], monkeypatch)[1].partial is False
    assert parsed([*base, "--resume", "--seed", "7"], monkeypatch)[2] == RunOptions(
        resume=True, seed=7
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_fast_preset_differs_from_the_plain_one_in_what_it_says(algorithm, monkeypatch):
    plain = parsed([algorithm, "--env", "TetrisHard"], monkeypatch)
    fast = parsed([f"{algorithm}-fast", "--env", "TetrisHard"], monkeypatch)
    assert plain[0] == fast[0] == algorithm
    assert plain[1] == ALGORITHMS[algorithm].config(env="TetrisHard")
    assert (
        fast[1] == dataclasses.replace(plain[1], **ALGORITHMS[algorithm].fast)
        and fast[1].num_envs >= 1000
    )
    ALGORITHMS[algorithm].make_train(fast[1])  # its numbers fit together


def test_every_flag_is_read_somewhere():
    folder = Path(train.__file__).parent
    source = "".join(
        path.read_text() for path in folder.rglob("*.py") if not path.name.startswith("test_")
    )
    for kind in (RunOptions, *(algorithm.config for algorithm in ALGORITHMS.values())):
        for field in dataclasses.fields(kind):
            assert re.search(
                rf'(config|options)\.{field.name}\b|config\["{field.name}"\]|"{field.name}"', source
            ), field.name


# --- speed ---------------------------------------------------------------------------------------


def test_the_environment_takes_a_tenth_of_the_time_of_training_at_most():
    trainer = ALGORITHMS["pqn"].make_train(
        ALGORITHMS["pqn"].config(env="NavigatorEasy", num_envs=16, num_steps=8, num_epochs=1)
    )
    env, params = rollout.make_environment(trainer.config)

    def only_play(stream, key):
        def step(stream, key):
            return rollout.step(env, params, key, stream, stream.carry, stream.last_action)

        return jax.lax.scan(step, stream, jax.random.split(key, 8))

    state = jax.jit(trainer.init)(jax.random.PRNGKey(0))
    update = jax.jit(trainer.update, compiler_options=AS_FOR_USERS).lower(state).compile()
    play = (
        jax.jit(only_play, compiler_options=AS_FOR_USERS).lower(state.stream, state.key).compile()
    )
    playing, training = [], []
    for _ in range(5):  # in turn, so that a busy machine slows both down
        playing.append(seconds(play, state.stream, state.key))
        training.append(seconds(update, state))
    assert np.median(playing) < 0.1 * np.median(training)


def seconds(program, *arguments):
    """How long a program takes."""
    start = time.perf_counter()
    jax.block_until_ready(program(*arguments))
    return time.perf_counter() - start


# --- several devices -----------------------------------------------------------------------------


def test_four_devices_train_as_one_does(tmp_path, whole):
    process = start(tmp_path, "--devices", "4", flags="--xla_force_host_platform_device_count=4")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    spread, alone = (without_time(read_metrics(folder)) for folder in (tmp_path, whole("pqn")))
    assert len(spread) == len(alone)
    for one, other in zip(spread, alone):
        assert one["kind"] == other["kind"] and one["steps"] == other["steps"]
        if (
            one["steps"] <= 64 and one["kind"] == "training"
        ):  # later, a last bit may have changed an action
            assert one["episodes"] == other["episodes"]
            assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)


def test_the_environments_are_spread_and_all_else_is_on_each_device():
    code = """
import jax
from popgym_arcade.baselines import pqn, train
sizes = {"num_envs": 8, "num_steps": 2, "num_minibatches": 2, "hidden_size": 8}
trainer = pqn.make_train(pqn.PQNConfig(env="NavigatorEasy", **sizes))
state = jax.eval_shape(jax.vmap(trainer.init), jax.ShapeDtypeStruct((3, 2), "uint32"))
shardings = train._state_sharding(state, 4)
here = lambda leaf, sharding: sharding.shard_shape(leaf.shape)
jax.tree.map(lambda *pair: print("stream", here(*pair)[:2]), state.stream, shardings.stream)
whole = state._replace(stream=None), shardings._replace(stream=None)
jax.tree.map(lambda *pair: print("whole", here(*pair) == pair[0].shape), *whole)
"""
    flags = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=flags
    )
    assert finished.returncode == 0, finished.stderr
    assert set(finished.stdout.splitlines()) == {"stream (3, 2)", "whole True"}
