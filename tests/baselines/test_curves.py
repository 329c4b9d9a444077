"""Tests of the curves: against numbers worked out by hand."""

import numpy as np
import pytest

from tests.testing import client

client("scipy")

from popgym_arcade.baselines import curves  # noqa: E402, because scipy may be missing
from tests.baselines.logs import both_twins, curves_of, evaluation, training, write_run  # noqa: E402


def refusal(*folders, **options):
    """What collecting the curves of runs says when it refuses."""
    with pytest.raises(ValueError) as refused:
        curves_of(*folders, **options)
    return str(refused.value)


# --- seeds ---------------------------------------------------------------------------------------


def test_seeds_at_different_steps_meet_by_interpolation_within_the_range_that_all_have(tmp_path):
    one = write_run(
        tmp_path / "one", [evaluation(steps, [steps / 100]) for steps in (0, 20, 40, 100)], seed=0
    )
    two = write_run(
        tmp_path / "two",
        [evaluation(steps, [0.0 if steps == 10 else 0.8], 1) for steps in (10, 50)],
        seed=1,
    )
    (curve,) = curves_of(one, two)
    assert curve.seeds == 2
    assert curve.x.tolist() == [10, 20, 40, 50]
    np.testing.assert_allclose(curve.values, [[0.1, 0.0], [0.2, 0.2], [0.4, 0.6], [0.5, 0.8]])
    assert curve.mean == pytest.approx([0.05, 0.2, 0.5, 0.65])


def test_a_curve_that_a_short_seed_cuts_is_told_of(tmp_path, capsys):
    lines = [
        evaluation(steps, [0.5], seed)
        for seed, last in ((0, 1000), (1, 500))
        for steps in (100, last)
    ]
    (curve,) = curves_of(write_run(tmp_path / "run", lines))
    assert curve.x[-1] == 500
    assert (
        "PQN LRU on NavigatorEasy: the curve ends at 500, with the shortest seed; "
        "the longest reaches 1k" in capsys.readouterr().err
    )


def test_seeds_without_a_common_range_are_refused(tmp_path, capsys):
    run = write_run(
        tmp_path / "run",
        [
            evaluation(steps, [0.5], seed)
            for seed in (0, 1)
            for steps in (10 + 90 * seed, 20 + 90 * seed)
        ],
    )
    assert "seeds do not overlap: one starts at 100, after another has ended at 20" in refusal(run)


def test_runs_that_differ_in_the_seed_only_are_one_curve_and_others_are_told_apart(tmp_path):
    lines = [evaluation(10, [0.5, 0.7])]
    runs = [
        write_run(
            tmp_path / f"{seed}",
            [evaluation(10, [0.5], seed)],
            seed=seed,
            seeds=2,
            folder=f"x{seed}",
        )
        for seed in (0, 1)
    ]
    runs.append(write_run(tmp_path / "rate", lines, learning_rate=0.001, seeds=2))
    runs.append(write_run(tmp_path / "gru", lines, memory="GRU"))
    runs.append(write_run(tmp_path / "ppo", lines, algorithm="ppo", memory="none"))
    curves = {curve.label: curve.seeds for curve in curves_of(*runs)}
    assert curves == {
        "PQN LRU, learning_rate None": 2,
        "PQN LRU, learning_rate 0.001": 1,
        "PQN GRU": 1,
        "PPO no memory": 1,
    }


def test_an_ignored_field_joins_what_differs_in_it(tmp_path):
    runs = [
        write_run(tmp_path / f"{rate}", [evaluation(10, [rate])], learning_rate=rate)
        for rate in (0.25, 0.75)
    ]
    assert [curve.mean.tolist() for curve in curves_of(*runs)] == [[0.25], [0.75]]
    (curve,) = curves_of(*runs, ignored=("learning_rate",))
    assert (curve.seeds, curve.mean.tolist(), curve.label) == (2, [0.5], "PQN LRU")


def test_the_same_seed_twice_is_refused(tmp_path, capsys):
    one, two = (write_run(tmp_path / name, [evaluation(10, [0.5])]) for name in ("one", "two"))
    assert f"{one} and {two} are both seed 0 of the same config" in refusal(one, two)
    assert [curve.seeds for curve in curves_of(one)] == [1]


def test_lines_that_a_run_wrote_again_after_going_back_to_a_checkpoint_count_once(tmp_path):
    lines = [
        evaluation(steps, [value])
        for steps, value in ((10, 0.1), (20, 0.2), (30, 0.3), (20, 0.6), (30, 0.7), (40, 0.8))
    ]
    (curve,) = curves_of(write_run(tmp_path / "run", lines))
    assert curve.x.tolist() == [10, 20, 30, 40]
    assert curve.mean.tolist() == [0.1, 0.6, 0.7, 0.8]


def test_a_long_curve_is_thinned_out_and_keeps_its_ends(tmp_path):
    (curve,) = curves_of(
        write_run(tmp_path / "run", [evaluation(steps, [steps / 1e4]) for steps in range(1, 1001)])
    )
    thin = curves.thinned(curve)
    assert len(curve.x) == 1000 and len(thin.x) == curves.MAX_POINTS == len(thin.values)
    assert (thin.x[0], thin.x[-1]) == (1, 1000)
    assert thin.mean == pytest.approx(thin.x / 1e4)
    assert np.diff(thin.x).max() <= 3


@pytest.mark.parametrize(
    "twin, expected",
    [
        ("trained", [("MDP", "MDP", 0.5), ("POMDP", "POMDP", 0.5)]),
        ("other", [("MDP", "POMDP", 0.25), ("POMDP", "MDP", 0.25)]),
        (
            "both",
            [
                ("MDP", "POMDP", 0.25),
                ("MDP", "MDP", 0.5),
                ("POMDP", "POMDP", 0.5),
                ("POMDP", "MDP", 0.25),
            ],
        ),
    ],
)
def test_the_twins_evaluated_are_those_asked_for(tmp_path, twin, expected):
    curves = curves_of(*both_twins(tmp_path), twin=twin)
    assert [(curve.evaluated_on, curve.trained_on, curve.mean[0]) for curve in curves] == expected


# --- metrics -------------------------------------------------------------------------------------


def test_a_smoothed_point_is_the_mean_over_the_episodes_within_half_a_window(tmp_path):
    lines = [
        training(10, 0.0, episodes=1),
        training(20, 0.6, episodes=3),
        training(30, None, episodes=0),
        training(40, 1.0, episodes=2),
    ]
    run = write_run(tmp_path / "run", lines)
    (curve,) = curves_of(run, metric="training-return", window=20)
    assert curve.x.tolist() == [10, 20, 40]
    assert curve.mean == pytest.approx([(1 * 0.0 + 3 * 0.6) / 4, (1 * 0.0 + 3 * 0.6) / 4, 1.0])
    (curve,) = curves_of(run, metric="training-return", window=40)
    assert curve.mean == pytest.approx([1.8 / 4, (0.0 + 1.8 + 2.0) / 6, (1.8 + 2.0) / 5])


def test_other_smoothed_metrics_are_means_over_lines(tmp_path):
    lines = [training(10, 0.0, episodes=1, loss=1.0), training(20, 0.0, episodes=9, loss=2.0)]
    (curve,) = curves_of(write_run(tmp_path / "run", lines), metric="loss", window=20)
    assert curve.mean.tolist() == [1.5, 1.5]


def test_lengths_of_evaluated_episodes_can_be_drawn(tmp_path):
    (curve,) = curves_of(
        write_run(tmp_path / "run", [evaluation(10, [0.5, 0.5, 0.5])]), metric="length"
    )
    assert curve.values[0].tolist() == [10, 11, 12]


def test_options_that_contradict_the_metric_are_refused(tmp_path, capsys):
    run = write_run(tmp_path / "run", [training(10, 0.1), evaluation(10, [0.5])])
    assert "the window must be 0 for returns, but it is 5" in refusal(run, window=5)
    assert "the twin must be 'trained', but it is 'other'" in refusal(
        run, metric="loss", twin="other"
    )
    assert "there is no config field 'sed'; the nearest are: seed" in refusal(run, ignored=("sed",))
    assert "twin must be one of 'trained', 'other', 'both', but it is 'MDP'" in refusal(
        run, twin="MDP"
    )
    assert (
        "x must be one of 'steps', 'seconds', but it is 'second'; the nearest is 'seconds'"
        in refusal(run, x="second")
    )


def test_time_that_goes_back_is_refused(tmp_path, capsys):
    run = write_run(
        tmp_path / "run", [evaluation(10, [0.5], seconds=9), evaluation(20, [0.5], seconds=1)]
    )
    assert "seconds decrease while steps increase" in refusal(run, x="seconds")


def test_runs_without_evaluations_are_refused_or_left_out(tmp_path, capsys):
    begun = write_run(tmp_path / "begun", [training(10, 0.1)])
    empty = write_run(tmp_path / "empty", [], seed=1)
    assert f"there are no evaluations yet in {begun} (POMDP), {empty} (POMDP)" in refusal(
        begun, empty
    )
    run = write_run(tmp_path / "run", [evaluation(10, [0.5], seed=2)], seed=2)
    assert [curve.seeds for curve in curves_of(begun, run)] == [1]
    assert (
        f"omitted, because there are no evaluations yet: {begun} (POMDP)" in capsys.readouterr().err
    )


def test_an_unknown_metric_is_refused_with_the_nearest_ones(tmp_path, capsys):
    run = write_run(tmp_path / "run", [training(10, 0.1), evaluation(10, [0.5])])
    assert "there is no metric 'los'; the nearest are: loss" in refusal(run, metric="los")
    everything = refusal(run, metric="xyzzy").split("there are: ")[1]
    assert everything.split(", ")[:4] == ["return", "length", "training-return", "training-length"]
    assert "length_mean" not in everything and "episodes" in everything  # no line has a length_mean


def test_numbers_are_written_in_few_characters():
    texts = [
        curves.compact(value) for value in (0, 0.05, -0.5, 999, 204_800, 20_000_000, 2.5e9, -1500)
    ]
    assert texts == ["0", "0.05", "−0.5", "999", "204.8k", "20M", "2.5G", "−1.5k"]
