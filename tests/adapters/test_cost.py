"""Tests of the benchmark of the adapters, on a very small scale."""

import re
import weakref

import numpy as np
import pytest

from popgym_arcade import bench
from popgym_arcade.adapters import cost
from tests.testing import client


@pytest.fixture(autouse=True)
def short_runs(monkeypatch):
    monkeypatch.setattr(bench, "RUN_SECONDS", 0.01)


def test_every_adapter_is_measured_against_the_native_step(capsys):
    for library in ("gymnax", "gymnasium", "torch", "stable_baselines3"):
        client(library)
    figures = cost.cost(["--environment", "AutoEncodeEasy", "--num-envs", "4", "--turns", "1"])
    assert len(figures) == 5 + 1 + 9 + 1
    assert all(rate > 0 and ratio > 0 for rate, ratio in figures.values())
    printed = capsys.readouterr().out
    rows = re.findall(r"^\| (.*?) \| [\d,]+ \| [\d.]+ \| (.*?) \|$", printed, re.MULTILINE)
    assert [name for name, _ in rows] == list(figures) and {
        reference for _, reference in rows
    } <= set(figures)


@pytest.mark.slow
def test_what_is_not_installed_is_left_out(monkeypatch):
    monkeypatch.setattr(cost, "_installed", lambda library: False)
    assert list(cost._all_rows("AutoEncodeEasy", 2)) == [
        cost._LOOP,
        *(name + final for name in cost._CALLED.values() for final in ("", cost._FINAL)),
    ]


@pytest.mark.parametrize("reuse", [False, True])
def test_the_native_call_takes_the_memory_of_old_frames_only_if_told_to(reuse):
    env, params = cost.make("AutoEncodeEasy", partial_obs=True, final_observation=True)
    play, carry = cost._native_step(env, params, 2, reuse)
    first = carry[2]
    carry = play(carry)
    assert [frames.is_deleted() for frames in first] == [reuse, reuse]
    assert [frames.shape for frames in carry[2]] == [(2, 128, 128, 3)] * 2


def test_calls_are_timed_when_warm_and_nothing_holds_on_to_old_frames():
    made, alive = [], []

    def play(carry):
        alive.append(sum(frames() is not None for frames in made))
        frames = np.zeros(1)
        made.append(weakref.ref(frames))
        return frames

    program = cost._calls(play, play(None))
    assert len(made) == 1 + cost._WARM_UP
    bench.run(program, 4)
    # A step finds only the frames of the step before. (Python 3.10 keeps the first of all until it
    # is warm.)
    assert alive[-4:] == [1] * 4
