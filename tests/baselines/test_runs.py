"""Tests of the folder of a run: what is written is read back, and what is broken is refused."""

import json
import math

import numpy as np
import pytest

from tests.testing import client

client("scipy")

from popgym_arcade.baselines import runs  # noqa: E402, because scipy may be missing
from tests.baselines.logs import evaluation, training, write_run  # noqa: E402


def refusal(folder, error=ValueError):
    """What reading a run's folder says when it refuses."""
    with pytest.raises(error) as refused:
        runs.read_run(folder)
    return str(refused.value)


def write_metrics(folder, *lines):
    """Write metrics.jsonl."""
    (folder / runs.METRICS).write_text("".join(map(runs.to_json_line, lines)))


# --- metrics.jsonl -------------------------------------------------------------------------------


def strictly_parsed(text):
    """Text as JSON, which has no NaN."""

    def refuse(word):
        raise ValueError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_a_line_is_a_json_object_of_one_line_with_all_its_fields():
    for line in (training(10, 0.1), evaluation(10, [0.5, 1.0])):
        text = runs.to_json_line(line)
        assert text.endswith("\n") and text.count("\n") == 1
        assert strictly_parsed(text) == line


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_finite_number_is_null_in_lists_too(value):
    line = strictly_parsed(runs.to_json_line(training(10, 0.1, loss=value)))
    assert line["loss"] is None and line["episodes"] == 1
    line = strictly_parsed(runs.to_json_line(evaluation(10, [0.5, value])))
    assert line["returns"] == [0.5, None]


def test_numpy_numbers_are_refused_rather_than_written_as_words():
    with pytest.raises(TypeError):
        runs.to_json_line(training(10, 0.1, loss=np.float32(1)))


def test_a_last_line_that_was_cut_off_is_skipped_wherever_it_was_cut(tmp_path, capsys):
    write_metrics(tmp_path, training(10, 0.1), training(20, 0.2))
    text = (tmp_path / runs.METRICS).read_text()
    first = len(text.splitlines()[0]) + 1
    for end in range(first + 1, len(text) - 1):
        (tmp_path / runs.METRICS).write_text(text[:end])
        assert runs.read_metrics(tmp_path) == [training(10, 0.1)]
        assert "line 2: skipped" in capsys.readouterr().err
    (tmp_path / runs.METRICS).write_text(text[:-1])  # only the line's end is missing
    assert runs.read_metrics(tmp_path) == [training(10, 0.1), training(20, 0.2)]
    (tmp_path / runs.METRICS).write_text(text[:first])
    assert runs.read_metrics(tmp_path) == [training(10, 0.1)]
    assert capsys.readouterr().err == ""


def test_a_missing_file_has_no_lines(tmp_path):
    assert runs.read_metrics(tmp_path) == []


# --- other files ---------------------------------------------------------------------------------


def test_a_config_is_read_as_it_was_written(tmp_path):
    config = {"env": "NavigatorEasy", "partial": True, "memory": "lru"}
    config |= {"params": "board_size=4", "patch_size": 8, "normalize_convolutions": False}
    content = {"algorithm": "pqn", "config": config, "seed": 3, "seeds": 2}
    assert not runs.has_run(tmp_path)
    runs.write_config(tmp_path, content)
    assert runs.has_run(tmp_path) and runs.read_config(tmp_path) == content


def test_options_that_an_older_config_lacks_are_as_they_were_then(tmp_path):
    config = {"env": "NavigatorEasy", "partial": True, "memory": "lru"}
    runs.write_config(tmp_path, {"algorithm": "pqn", "config": config, "seed": 3, "seeds": 2})
    added = {"params": "", "patch_size": 4, "normalize_convolutions": True}
    assert runs.read_config(tmp_path)["config"] == {**config, **added}


@pytest.mark.parametrize("operation", ["builtins.open", "os.replace"])
def test_a_crash_while_the_config_is_written_leaves_the_old_one(tmp_path, monkeypatch, operation):
    runs.write_config(tmp_path, {"algorithm": "pqn", "config": {}})
    old = (tmp_path / runs.CONFIG).read_text()

    def crash(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(operation, crash)
        with pytest.raises(KeyboardInterrupt):
            runs.write_config(tmp_path, {"algorithm": "dqn", "config": {}})
    assert (tmp_path / runs.CONFIG).read_text() == old
    assert [path.name for path in tmp_path.iterdir()] == [runs.CONFIG]


def test_checkpoints_are_listed_by_steps_without_unfinished_ones(tmp_path):
    paths = [runs.checkpoint_path(tmp_path, steps) for steps in (5, 30, 200, 10**9)]
    unfinished = runs.unfinished_path(runs.checkpoint_path(tmp_path, 400))
    for path in (*reversed(paths), unfinished, tmp_path / runs.CHECKPOINTS / "step-old"):
        path.mkdir(parents=True)
    assert runs.checkpoints(tmp_path) == runs.checkpoints(str(tmp_path)) == paths
    assert runs.unfinished_checkpoints(tmp_path) == [unfinished]
    assert runs.checkpoints(tmp_path / "nowhere") == []


# --- reading a run -------------------------------------------------------------------------------


def test_a_folder_that_is_no_run_is_refused_with_the_nearest_runs(tmp_path):
    for name in ("pqn-lru", "pqn-gru", "something"):
        write_run(tmp_path / name, [evaluation(10, [0.5])])
    missing = tmp_path / "pqn-lu"
    text = refusal(missing, FileNotFoundError)
    assert text.startswith(f"{str(missing)!r} is not a run: it has no config.json; ")
    assert f"; the nearest are: {tmp_path / 'pqn-lru'}" in text
    assert f"runs in it: {tmp_path / 'pqn-gru'}, {tmp_path / 'pqn-lru'}" in refusal(
        tmp_path, FileNotFoundError
    )
    assert "there are no runs in" in refusal(tmp_path / "nowhere" / "run", FileNotFoundError)
    assert f"the nearest is {str(tmp_path / 'something')!r}" in refusal(
        tmp_path / "something" / "checkpoints", FileNotFoundError
    )


def test_a_run_without_metrics_is_refused(tmp_path):
    run = write_run(tmp_path / "run", [])
    (run / "metrics.jsonl").unlink()
    assert "it has no metrics.jsonl" in refusal(run, FileNotFoundError)


def test_a_last_line_that_was_cut_is_left_out_and_told_of(tmp_path, capsys):
    run = write_run(tmp_path / "run", [evaluation(10, [0.5]), evaluation(20, [0.7])])
    path = run / "metrics.jsonl"
    path.write_text(path.read_text()[:-20])
    assert [line["steps"] for line in runs.read_run(run).lines] == [10]
    assert (
        f"{path}, line 2: skipped, because the run was killed while writing it"
        in capsys.readouterr().err
    )
    whole = path.read_text().splitlines()[0]
    path.write_text(whole)  # only the line's end is missing
    assert [line["steps"] for line in runs.read_run(run).lines] == [10]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "broken, expected",
    [
        ("{", "not JSON: b'{'"),
        ("", "not JSON: b''"),
        ("[1]", "it must be a JSON object, but it is '[1]'"),
        ('{"kind": "test"}', "there is no kind 'test'; there are: training, evaluation"),
        ('{"kind": "trainin"}', "there is no kind 'trainin'; the nearest are: training"),
        ("{}", "there is no kind None; there are: training, evaluation"),
        ('{"kind": ["training"]}', "there is no kind ['training']; the nearest are: training"),
        ('{"kind": "training", "seed": 0}', "a line of kind 'training' must have seconds, steps"),
        (
            json.dumps(training(10, 0.1, seed=[0])),
            "seed must be a finite number, but it is [0]",
        ),
        (
            json.dumps({**training(10, 0.1), "steps": "10"}),
            "steps must be a finite number, but it is '10'",
        ),
        (
            json.dumps(evaluation(10, [0.5], twin="mdp")),
            "there is no twin 'mdp'; the nearest are: MDP, POMDP",
        ),
        (
            json.dumps(evaluation(10, [])),
            "returns must be a list of one or more finite numbers, but it is []",
        ),
        (
            json.dumps(evaluation(10, [0.5, None])),
            "returns must be a list of one or more finite numbers, but it is [0.5, None]",
        ),
        (
            json.dumps(evaluation(10, [float("nan")])),
            "returns must be a list of one or more finite numbers, but it is [nan]",
        ),
    ],
)
@pytest.mark.parametrize("is_last", [False, True])
def test_a_broken_line_is_refused_with_file_and_line(tmp_path, broken, expected, is_last):
    run = write_run(tmp_path / "run", [evaluation(10, [0.5])])
    path = run / "metrics.jsonl"
    path.write_text(
        path.read_text()
        + broken
        + "\n"
        + ("" if is_last else json.dumps(evaluation(20, [0.5])) + "\n")
    )
    assert f"{path}, line 2: {expected}" in refusal(run)


@pytest.mark.parametrize(
    "content, expected",
    [
        ("{", 'must be {"algorithm": "...", "config": {...}}, but it is not'),
        ('{"algorithm": "pqn"}', "but it is not: KeyError('config')"),
        (
            '{"algorithm": "pqn", "config": {"env": "NavigatorEasy", "memory": "lru"}}',
            "partial must be of type bool, but it is None",
        ),
    ],
)
def test_a_broken_config_is_refused_with_its_file(tmp_path, content, expected):
    run = write_run(tmp_path / "run", [evaluation(10, [0.5])])
    (run / "config.json").write_text(content)
    error = refusal(run)
    assert str(run / "config.json") in error and expected in error
