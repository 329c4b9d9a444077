"""Tests of bench.py: it measures what it reports, here with very short runs."""

import json
import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade import bench, make


@pytest.fixture(autouse=True)
def short_runs(monkeypatch):
    monkeypatch.setattr(bench, "RUN_SECONDS", 0.01)


def test_the_report_has_a_row_for_each_environment_and_twin(tmp_path, capsys):
    path = tmp_path / "report.json"
    report = bench.benchmark(
        [
            "--games",
            "navigatorE",
            "--num-envs",
            "4",
            "--turns",
            "1",
            "--json",
            str(path),
        ]
    )
    assert json.loads(path.read_text()) == report
    rows = [(row["environment"], row["twin"]) for row in report["rows"]]
    assert rows == [("NavigatorEasy", "MDP"), ("NavigatorEasy", "POMDP")]
    for row in report["rows"]:
        assert set(row) == set(bench.COLUMNS)
        assert all(
            row[column] > 0 for column in ("compile s", "frames/s", "fill", "steps/s", "ratio")
        )
    assert [row["state B"] for row in report["rows"]] == [88, 88]
    assert report["machine"]["environments"] == 4 and report["machine"]["jax"] == jax.__version__
    ratios = [row["ratio"] for row in report["rows"]]
    assert report["lowest ratio"] == min(ratios) and report["mean ratio"] == pytest.approx(
        math.prod(ratios) ** (1 / 2)
    )
    printed = capsys.readouterr().out
    assert all(f"| {name:<22} | {twin:<5} |" in printed for name, twin in rows)


def test_the_measured_loop_steps_resets_and_keeps_every_frame():
    env, params = make("NavigatorEasy", partial_obs=True, max_steps_in_episode=2)
    states = bench.first_states(env, params, 8)
    one_device = bench.over_devices(1)
    program = bench.step_program(env, params, states, with_frames=True, sharding=one_device)
    state, total, frames = bench.run(program, 3)[0].carry
    assert np.array_equal(frames, jax.vmap(env.render)(state))
    assert set(np.asarray(state.time).tolist()) <= {0, 1} and np.all(np.asarray(total) < 0)
    assert not np.array_equal(state.tnt, states.tnt)
    without = bench.step_program(env, params, states, with_frames=False, sharding=one_device)
    assert without.carry[2] is None
    assert "128,128,3" not in without.loop.as_text() and "128,128,3" in program.loop.as_text()


def test_the_limit_fills_every_frame_with_a_new_byte_in_each_round():
    program, _ = bench.run(bench.fill_program(3, 128, bench.over_devices(1)), 5)
    assert program.carry.shape == (3, 128, 128, 3) and program.carry.dtype == jnp.uint8
    assert np.array_equal(program.carry[:, 0, 0, 0], [4, 5, 6]) and np.all(
        program.carry == program.carry[:, :1, :1, :1]
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--games", "Navigater"], ["'Navigater'", "NavigatorEasy"]),
        (["--num-envs", "0"], ["must be at least 1, but it is 0"]),
        (["--turns", "0"], ["must be at least 1, but it is 0"]),
        (
            ["--devices", "99"],
            [
                "--devices must be in [1, 1]",
                "but it is 99; the nearest is 1",
                "XLA_FLAGS=--xla_force_host_platform_device_count=99",
            ],
        ),
        (["--obs-size", "100"], ["100", "128", "256"]),
        (["--partial", "maybe"], ["maybe", "both"]),
    ],
)
def test_bad_options_exit_with_what_is_allowed(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        bench.benchmark(arguments)
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert all(word in printed for word in words), printed


@pytest.mark.slow
def test_the_environments_are_sharded_over_several_devices():
    code = "import jax; from popgym_arcade import bench; bench.RUN_SECONDS = 0.01; bench.main()"
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
    env = {**os.environ, "XLA_FLAGS": flags}
    words = ["--games", "NavigatorEasy", "--num-envs", "8", "--turns", "1", "--partial", "no"]
    command = [sys.executable, "-c", code, *words]
    run = subprocess.run(
        [*command, "--devices", "4"], env=env, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0 and "devices 4" in run.stdout and "NavigatorEasy" in run.stdout, (
        run.stderr
    )
    run = subprocess.run(
        [*command, "--devices", "3"], env=env, capture_output=True, text=True, timeout=120
    )
    message = "--num-envs must be a multiple of --devices, 3, but it is 8; the nearest is 9"
    assert run.returncode == 2 and message in run.stderr
