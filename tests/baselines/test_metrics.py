"""Metrics: metrics.jsonl, TensorBoard's files, and Weights & Biases without a network."""

import math
import os
import struct
import subprocess
import sys

import pytest

from popgym_arcade.baselines import metrics
from popgym_arcade.baselines.metrics import MetricsWriter
from popgym_arcade.baselines.runs import METRICS, read_metrics, to_json_line
from popgym_arcade.commands import files
from popgym_arcade.commands.files import error_text
from tests.mishaps import largest_file
from tests.testing import client

TRAINING = {
    "kind": "training",
    "seed": 0,
    "steps": 64,
    "seconds": 1.5,
    "loss": 0.25,
    "return_mean": math.nan,
    "episodes": 3,
}
EVALUATION = {
    "kind": "evaluation",
    "seed": 1,
    "steps": 64,
    "seconds": 2.5,
    "twin": "POMDP",
    "returns": [0.5, 1.0],
    "lengths": [3, 4],
}


def write(folder, *lines, **options):
    """Write lines down and close."""
    written = MetricsWriter(folder, {"memory": "lru"}, **options)
    for line in lines:
        written.write(line)
    written.close()


def at(steps, **others):
    """A line of training after so many steps."""
    return {**TRAINING, "steps": steps, "return_mean": 0.5, **others}


# --- lines ---------------------------------------------------------------------------------------


def test_the_file_holds_every_line_as_runs_describes_them(tmp_path):
    write(tmp_path, TRAINING, EVALUATION)
    text = (tmp_path / METRICS).read_text()
    assert text == to_json_line(TRAINING) + to_json_line(EVALUATION)
    assert read_metrics(tmp_path) == [{**TRAINING, "return_mean": None}, EVALUATION]


def test_a_line_that_does_not_fit_on_the_disk_is_left_out(tmp_path):
    written = MetricsWriter(tmp_path, {})
    written.write(at(64))
    path = tmp_path / METRICS
    with largest_file(path.stat().st_size + 10), pytest.raises(OSError) as caught:
        written.write(at(128))
    assert error_text(caught.value) == f"{path}: File too large"
    written.close()
    assert path.read_text() == to_json_line(at(64))


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be deleted")
def test_a_file_that_vanished_is_told(tmp_path):
    written = MetricsWriter(tmp_path, {})
    (tmp_path / METRICS).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        written.write(at(64))
    assert error_text(caught.value) == f"{tmp_path / METRICS}: No such file or directory"
    written.close()


def test_a_line_can_be_read_as_soon_as_it_is_written(tmp_path):
    written = MetricsWriter(tmp_path, {})
    written.write(at(64))
    assert read_metrics(tmp_path) == [at(64)]
    written.close()


# --- resuming ------------------------------------------------------------------------------------


def test_a_resumed_run_drops_the_lines_of_later_steps_and_keeps_the_others(tmp_path):
    write(tmp_path, at(64), EVALUATION, at(128), at(192))
    write(tmp_path, at(192, loss=7.0), steps=128)
    assert read_metrics(tmp_path) == [at(64), EVALUATION, at(128), at(192, loss=7.0)]


def test_a_resumed_run_drops_a_line_that_was_cut_off(tmp_path):
    write(tmp_path, at(64), at(128))
    (tmp_path / METRICS).write_text((tmp_path / METRICS).read_text()[:-9])
    write(tmp_path, at(128, loss=7.0), steps=128)
    assert read_metrics(tmp_path) == [at(64), at(128, loss=7.0)]


def test_a_run_that_begins_anew_drops_all_lines(tmp_path):
    write(tmp_path, at(64), at(128))
    write(tmp_path, at(64, loss=7.0))
    assert read_metrics(tmp_path) == [at(64, loss=7.0)]


def test_a_crash_while_a_run_is_resumed_loses_no_lines(tmp_path, monkeypatch):
    write(tmp_path, at(64), at(128))

    def crash(*arguments):
        raise KeyboardInterrupt

    for module, name in ((files, "open"), (os, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, crash, raising=False)
            with pytest.raises(KeyboardInterrupt):
                MetricsWriter(tmp_path, {}, steps=64)
        assert read_metrics(tmp_path) == [at(64), at(128)]


# --- TensorBoard ---------------------------------------------------------------------------------


def events(folder):
    """All events that TensorBoard would read, in the order they were written."""
    event_type = client("tensorboardX").proto.event_pb2.Event
    found = []
    for path in sorted(
        (folder / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns
    ):
        content = path.read_bytes()
        while content:
            (size,) = struct.unpack(
                "<Q", content[:8]
            )  # then 4 bytes of sum, the event, and 4 bytes of sum
            found.append(event_type.FromString(content[12 : 12 + size]))
            content = content[16 + size :]
    return found


def scalars(folder):
    """The figures in TensorBoard's files: {(tag, steps): value}."""
    return {
        (value.tag, event.step): value.simple_value
        for event in events(folder)
        for value in event.summary.value
    }


def test_tensorboard_gets_every_finite_figure_under_its_steps_and_of_lists_the_mean(tmp_path):
    client("tensorboardX")
    write(tmp_path, TRAINING, {**EVALUATION, "steps": 128}, trackers=("tensorboard",))
    assert scalars(tmp_path) == {
        ("seed0/training/seconds", 64): 1.5,
        ("seed0/training/loss", 64): 0.25,
        ("seed0/training/episodes", 64): 3,
        ("seed1/evaluation-POMDP/seconds", 128): 2.5,
        ("seed1/evaluation-POMDP/returns", 128): 0.75,
        ("seed1/evaluation-POMDP/lengths", 128): 3.5,
    }


def test_tensorboard_is_told_to_forget_the_later_steps_of_a_run_that_is_resumed_and_no_others(
    tmp_path,
):
    client("tensorboardX")
    write(tmp_path, at(64), at(128), at(192), trackers=("tensorboard",))
    write(tmp_path, at(192, loss=7.0), trackers=("tensorboard",), steps=128)
    start = type(events(tmp_path)[0].session_log).START
    (forget_from,) = [event.step for event in events(tmp_path) if event.session_log.status == start]
    assert 128 < forget_from <= 192
    assert scalars(tmp_path)[("seed0/training/loss", 192)] == 7.0


def test_without_trackers_there_is_no_other_file_than_the_lines(tmp_path):
    write(tmp_path, at(64), EVALUATION)
    assert [path.name for path in tmp_path.iterdir()] == [METRICS]


# --- Weights & Biases ----------------------------------------------------------------------------


def test_weights_and_biases_works_without_a_network_and_a_resumed_run_keeps_its_name(
    tmp_path, monkeypatch
):
    wandb = client("wandb")
    for name, value in (
        ("WANDB_MODE", "offline"),
        ("WANDB_SILENT", "true"),
        ("HTTPS_PROXY", "http://127.0.0.1:9"),
    ):
        monkeypatch.setenv(name, value)
    logged, started, init = [], [], wandb.init

    def recorded(**options):
        run = init(**options)
        started.append(
            (
                run.id,
                dict(run.config),
                run.offline if hasattr(run, "offline") else run.settings._offline,
            )
        )
        log = run.log
        monkeypatch.setattr(run, "log", lambda figures: (logged.append(figures), log(figures)))
        return run

    monkeypatch.setattr(wandb, "init", recorded)
    write(tmp_path, TRAINING, EVALUATION, trackers=("wandb",))
    write(tmp_path, at(128), trackers=("wandb",), steps=64)
    assert started[0] == started[1] and started[0][1:] == ({"memory": "lru"}, True)
    assert list((tmp_path / "wandb").glob("offline-run-*"))
    figures = {
        "seed0/training/seconds": 1.5,
        "seed0/training/loss": 0.25,
        "seed0/training/episodes": 3,
    }
    assert logged[0] == {"steps": 64, **figures}
    assert logged[1]["seed1/evaluation-POMDP/returns"] == 0.75
    assert logged[2]["steps"] == 128 and len(logged) == 3


# --- missing libraries ---------------------------------------------------------------------------


@pytest.mark.parametrize(("tracker", "library"), metrics.TRACKERS.items())
def test_a_missing_library_is_told_with_what_to_install_before_any_line_is_lost(
    tmp_path, monkeypatch, tracker, library
):
    write(tmp_path, at(64))
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    with pytest.raises(
        ModuleNotFoundError,
        match=f"--track {tracker} needs {library}: python -m pip install {library}",
    ):
        MetricsWriter(tmp_path, {}, trackers=(tracker,))
    assert read_metrics(tmp_path) == [at(64)]


def test_without_trackers_their_libraries_are_not_imported():
    code = (
        "import sys; import popgym_arcade.baselines.metrics; "
        f"assert not {set(metrics.TRACKERS.values())} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_tracker_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(
        ValueError, match="there is no tracker 'tensorbord'; the nearest are: tensorboard"
    ):
        MetricsWriter(tmp_path, {}, trackers=("tensorbord",))
