"""Tests of the learning curves: curves, bands and tables against numbers worked out by hand, the
files, and what is refused."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.testing import client

client("matplotlib")

from popgym_arcade.baselines import plot  # noqa: E402, because matplotlib may be missing
from popgym_arcade.baselines.statistics import interval  # noqa: E402

RETURN = plot.NAMED_METRICS["return"]


def evaluation(steps, returns, seed=0, twin="POMDP", **others):
    """A line of an evaluation; it took a second for every 10 steps."""
    line = {"kind": "evaluation", "seed": seed, "steps": steps, "seconds": steps / 10, "twin": twin}
    return {**line, "returns": returns, "lengths": [10 + i for i in range(len(returns))], **others}


def training(steps, return_mean, seed=0, episodes=1, **others):
    """A line of training."""
    line = {
        "kind": "training",
        "seed": seed,
        "steps": steps,
        "seconds": steps / 10,
        "episodes": episodes,
    }
    return {**line, "return_mean": return_mean, "length_mean": None, "loss": 0.5, **others}


def write_run(path, lines, algorithm="pqn", **config):
    """Write a run's folder: its path. config: what differs from a run on NavigatorEasy's POMDP."""
    path.mkdir(parents=True, exist_ok=True)
    config = {
        "env": "NavigatorEasy",
        "partial": True,
        "memory": "lru",
        "seed": 0,
        "seeds": 1,
        "total_steps": 1000,
        **config,
    }
    (path / "config.json").write_text(json.dumps({"algorithm": algorithm, "config": config}))
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def curves_of(*folders, metric="return", **options):
    """The curves of runs in these folders."""
    runs = [plot.read_run(folder) for folder in folders]
    return plot.collect(runs, plot.find_metric(metric, runs), **options)


def drawn(axes):
    """The curves in a panel, (x, y) by label, as matplotlib holds them."""
    return {
        line.get_label(): line.get_data()
        for line in axes.get_lines()
        if not line.get_label().startswith("_")
    }


def drawn_bands(axes):
    """The bands in a panel: [{x: (low, high)}], from the outlines that matplotlib fills."""
    bands = []
    for area in axes.collections:
        heights = {}
        for x, y in area.get_paths()[0].vertices:
            heights.setdefault(float(x), []).append(float(y))
        bands.append({x: (min(values), max(values)) for x, values in heights.items()})
    return bands


def assert_bands(band, samples):
    """The band is the interval of the samples, {x: values}."""
    assert set(band) == set(samples)
    for x, values in samples.items():
        assert band[x] == pytest.approx(interval(values))


def panels(figure):
    """The panels of a figure that are seen."""
    return [axes for axes in figure.axes if axes.get_visible()]


def complaint(capsys, *arguments):
    """What the command says when it refuses its arguments."""
    with pytest.raises(SystemExit) as stopped:
        plot.main(list(map(str, arguments)))
    assert stopped.value.code == 2
    return capsys.readouterr().err


# --- curves --------------------------------------------------------------------------------------


def test_one_seed_is_drawn_as_the_mean_over_episodes_with_their_interval(tmp_path):
    samples = {100.0: [0.0, 0.5, 0.1], 200.0: [0.5, 1.0, 0.9], 400.0: [0.25, 0.25, 0.25]}
    run = write_run(
        tmp_path / "run", [evaluation(steps, returns) for steps, returns in samples.items()]
    )
    (axes,) = panels(plot.draw(curves_of(run), RETURN))
    ((x, y),) = drawn(axes).values()
    assert x.tolist() == [100, 200, 400]
    assert y == pytest.approx([0.2, 0.8, 0.25])
    assert_bands(*drawn_bands(axes), samples)


def test_several_seeds_are_drawn_as_their_mean_with_the_interval_over_seeds(tmp_path):
    lines = [
        evaluation(steps, [mean - 0.1, mean + 0.1], seed)
        for seed, mean in enumerate((0.0, 0.3, 0.9))
        for steps in (10, 20)
    ]
    (axes,) = panels(plot.draw(curves_of(write_run(tmp_path / "run", lines, seeds=3)), RETURN))
    ((x, y),) = drawn(axes).values()
    assert x.tolist() == [10, 20]
    assert y == pytest.approx([0.4, 0.4])
    assert_bands(*drawn_bands(axes), {10.0: [0.0, 0.3, 0.9], 20.0: [0.0, 0.3, 0.9]})


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
        "PQN LRU on NavigatorEasy: the curve ends at 500, with its shortest seed; the longest goes on to 1k"
        in capsys.readouterr().err
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
    assert "one seed begins at 100, where another has ended at 20" in complaint(capsys, run)


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
    assert f"{one} and {two} are both seed 0 of one setting" in complaint(capsys, one, two)
    assert [curve.seeds for curve in curves_of(one)] == [1]


def test_the_same_folder_twice_counts_once(tmp_path, capsys):
    run = write_run(tmp_path / "run", [evaluation(10, [0.5])])
    plot.main([str(run), f"{run}/", "--out", str(tmp_path / "figure")])
    assert "| 1 " in capsys.readouterr().out


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
    thin = plot.thinned(curve)
    assert len(curve.x) == 1000 and len(thin.x) == plot.POINTS == len(thin.values)
    assert (thin.x[0], thin.x[-1]) == (1, 1000)
    assert thin.mean == pytest.approx(thin.x / 1e4)
    assert np.diff(thin.x).max() <= 3


# --- twins ---------------------------------------------------------------------------------------


def both_twins(tmp_path):
    """An agent trained on the POMDP and one trained on the MDP, each evaluated on both."""
    runs = []
    for name, partial in (("POMDP", True), ("MDP", False)):
        lines = [
            evaluation(10, [0.5 if twin == name else 0.25], twin=twin) for twin in ("MDP", "POMDP")
        ]
        runs.append(write_run(tmp_path / name, lines, partial=partial))
    return runs


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


def test_there_is_a_panel_for_each_twin_evaluated(tmp_path):
    runs = both_twins(tmp_path)
    figure = plot.draw(curves_of(*runs, twin="both"), RETURN)
    assert [axes.get_title("left") for axes in panels(figure)] == [
        "NavigatorEasy, MDP",
        "NavigatorEasy, POMDP",
    ]
    names = ["PQN LRU, trained on POMDP", "PQN LRU, trained on MDP"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    for axes, of_pomdp, of_mdp in zip(panels(figure), (0.25, 0.5), (0.5, 0.25)):
        assert {name: y.tolist() for name, (_, y) in drawn(axes).items()} == dict(
            zip(names, ([of_pomdp], [of_mdp]))
        )
        assert [line.get_linestyle() for line in axes.get_lines()] == ["-", "--"]


def test_what_an_agent_was_trained_on_is_not_said_where_the_panel_says_it(tmp_path):
    figure = plot.draw(curves_of(*both_twins(tmp_path)), RETURN)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["PQN LRU"]
    assert [line.get_linestyle() for axes in panels(figure) for line in axes.get_lines()] == [
        "-",
        "-",
    ]


# --- other metrics -------------------------------------------------------------------------------


def test_training_returns_leave_out_lines_in_which_no_episode_ended(tmp_path):
    lines = [training(10, 0.1), training(20, None), training(30, 0.3), training(40, float("nan"))]
    run = write_run(tmp_path / "run", lines)
    (axes,) = panels(
        plot.draw(curves_of(run, metric="training-return"), plot.NAMED_METRICS["training-return"])
    )
    ((x, y),) = drawn(axes).values()
    assert (x.tolist(), y.tolist()) == ([10, 30], [0.1, 0.3])
    assert drawn_bands(axes) == []  # one number a line has no interval


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


def test_any_field_can_be_drawn_and_over_seconds_too(tmp_path):
    lines = [training(steps, None, epsilon=1 - steps / 1e6) for steps in (72_000, 144_000)]
    run = write_run(tmp_path / "run", lines)
    curves = curves_of(run, metric="epsilon", x="seconds")
    (axes,) = panels(plot.draw(curves, plot.Metric("training", "epsilon", "epsilon"), x="seconds"))
    ((x, y),) = drawn(axes).values()
    assert x.tolist() == [2, 4] and axes.get_xlabel() == "wall time in hours"
    assert y == pytest.approx([0.928, 0.856]) and axes.get_ylabel() == "epsilon"


def test_lengths_of_evaluated_episodes_can_be_drawn(tmp_path):
    (curve,) = curves_of(
        write_run(tmp_path / "run", [evaluation(10, [0.5, 0.5, 0.5])]), metric="length"
    )
    assert curve.values[0].tolist() == [10, 11, 12]


def test_options_that_contradict_the_metric_are_refused(tmp_path, capsys):
    run = write_run(tmp_path / "run", [training(10, 0.1), evaluation(10, [0.5])])
    assert "the window must be 0 for returns, but it is 5" in complaint(capsys, run, "--smooth", 5)
    assert "the twin must be 'trained', not 'other'" in complaint(
        capsys, run, "--metric", "loss", "--twin", "other"
    )
    assert "no run's config has a field 'sed' to ignore; the nearest are: seed" in complaint(
        capsys, run, "--ignore", "sed"
    )
    assert "must be a positive number of steps, but it is -5" in complaint(
        capsys, run, "--smooth=-5"
    )


def test_time_that_goes_back_is_refused(tmp_path, capsys):
    run = write_run(
        tmp_path / "run", [evaluation(10, [0.5], seconds=9), evaluation(20, [0.5], seconds=1)]
    )
    assert "the seconds go back" in complaint(capsys, run, "--x", "seconds")


# --- the figure ----------------------------------------------------------------------------------


def test_the_y_axis_shows_the_returns_that_the_rules_allow(tmp_path):
    lines = [evaluation(10, [0.5, 0.6])]
    runs = [
        write_run(tmp_path / env, lines, env=env)
        for env in ("NavigatorEasy", "AutoEncodeHard", "Probe")
    ]
    curves = curves_of(*runs)
    limits = [axes.get_ylim() for axes in panels(plot.draw(curves, RETURN))]
    assert limits[0] == pytest.approx((-0.03, 1.03))  # AutoEncode
    assert limits[1] == pytest.approx((-1.06, 1.06))
    for low, high in [
        limits[2],
        *(axes.get_ylim() for axes in panels(plot.draw(curves, RETURN, fit=True))),
    ]:
        assert 0.4 < low < 0.55 < high < 0.7


@pytest.mark.parametrize("returns", [[-3.0, 0.5], [0.5, 5.0]])
def test_no_curve_is_cut_off_by_the_range_of_the_rules(tmp_path, returns):
    (axes,) = panels(
        plot.draw(curves_of(write_run(tmp_path / "run", [evaluation(10, returns)])), RETURN)
    )
    ((low, high),) = drawn_bands(axes)[0].values()
    assert axes.get_ylim()[0] < low < high < axes.get_ylim()[1]


@pytest.mark.parametrize("count", [1, 10, 24])
def test_curves_can_be_told_apart_and_are_named_beside_the_panel(tmp_path, count):
    memories = [f"memory{i}" for i in range(count)]
    runs = [
        write_run(tmp_path / memory, [evaluation(10, [0.5]), evaluation(20, [0.6])], memory=memory)
        for memory in memories
    ]
    figure = plot.draw(curves_of(*runs), RETURN)
    (axes,) = panels(figure)
    lines = [line for line in axes.get_lines() if line.get_label() in drawn(axes)]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == count
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert [text.get_text() for text in axes.texts if text.get_text()] == [
        f"PQN {memory.upper()}" for memory in memories
    ]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    assert all(figure.bbox.contains(*corner) for box in boxes for corner in box.corners())


def test_many_panels_share_one_legend_and_keep_an_agents_colour(tmp_path):
    names = (
        "AutoEncodeEasy",
        "BattleShipEasy",
        "TetrisEasy",
        "SkittlesEasy",
        "MineSweeperEasy",
        "NavigatorEasy",
        "BreakoutEasy",
    )
    runs = [write_run(tmp_path / name, [evaluation(10, [0.5])], env=name) for name in names]
    runs.append(
        write_run(tmp_path / "gru", [evaluation(10, [0.5])], env="TetrisEasy", memory="gru")
    )
    figure = plot.draw(curves_of(*runs), RETURN, title="All of them")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["PQN LRU", "PQN GRU"]
    assert figure.legends[0].get_title().get_text() == "All of them"
    assert len(panels(figure)) == 7 and len(figure.axes) == 8
    assert {axes.get_lines()[0].get_color() for axes in panels(figure)} == {plot.COLORS[0]}
    labelled = [axes.get_title("left") for axes in panels(figure) if axes.get_xlabel()]
    assert len(labelled) == 4  # the lowest of each column
    assert panels(figure)[0].get_title("left") == "AutoEncodeEasy, POMDP"  # the registry's order


@pytest.mark.parametrize(
    "count, columns",
    [
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 2),
        (5, 3),
        (6, 3),
        (7, 4),
        (8, 4),
        (9, 3),
        (10, 5),
        (12, 4),
        (20, 4),
        (30, 3),
    ],
)
def test_panels_stand_in_rows_with_few_places_empty(count, columns):
    assert plot.columns_of(count) == columns


def test_names_are_moved_apart_as_little_as_possible():
    assert plot.spread([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])
    assert plot.spread([0.9, 0.2, 0.5], 0.1) == pytest.approx([0.9, 0.2, 0.5])
    assert plot.spread([1.0, 1.0, 0.0], 0.1) == pytest.approx([0.9, 1.0, 0.0])
    assert plot.spread([0.5, 0.52, 0.54], 0.1) == pytest.approx([0.42, 0.52, 0.62])
    assert plot.spread([0.3], 0.1) == pytest.approx([0.3])


def test_numbers_are_written_in_few_characters():
    texts = [
        plot.compact(value) for value in (0, 0.05, -0.5, 999, 204_800, 20_000_000, 2.5e9, -1500)
    ]
    assert texts == ["0", "0.05", "−0.5", "999", "204.8k", "20M", "2.5G", "−1.5k"]


@pytest.mark.parametrize(
    "seeds, metric, window, expected",
    [
        ((1,), "return", 0, "Lines: means over the episodes of an evaluation. Bands: 95%"),
        ((5, 5), "return", 0, "Lines: means over 5 seeds. Bands: 95%"),
        ((3, 5), "training-return", 1e5, "Lines: means over 3 to 5 seeds. Bands: 95%"),
        (
            (1, 5),
            "return",
            0,
            "Lines: means over 5 seeds at most, or the episodes of an evaluation where there is one seed.",
        ),
        ((1,), "training-return", 1e5, "One seed. Each point is a mean over 100k steps."),
    ],
)
def test_the_caption_says_what_lines_and_bands_are(seeds, metric, window, expected):
    curve = plot.Curve(
        "NavigatorEasy", "MDP", "MDP", "PQN LRU", 1, np.array([1.0]), [np.array([0.5])]
    )
    text = plot.caption(
        [curve._replace(seeds=count) for count in seeds], plot.NAMED_METRICS[metric], window
    )
    assert text.startswith(expected)
    assert text.endswith("Each point is a mean over 100k steps.") == bool(window)


def test_the_command_writes_a_png_and_a_pdf_that_are_valid_and_the_same_every_time(
    tmp_path, capsys, monkeypatch
):
    run = write_run(tmp_path / "run", [evaluation(10, [0.1, 0.5]), evaluation(20, [0.5, 0.9])])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    plot.main([str(run), "--title", "A title"])
    plot.main([str(run), "--title", "A title", "--out", "again.png"])
    assert "wrote learning-curves.png and learning-curves.pdf" in capsys.readouterr().out
    with Image.open("learning-curves.png") as image:
        image.load()
        assert image.format == "PNG" and image.width > 1000 and len(image.getcolors(1 << 20)) > 20
    pdf = (tmp_path / "learning-curves.pdf").read_bytes()
    start = int(re.search(rb"startxref\n(\d+)\n%%EOF\n$", pdf)[1])
    assert pdf.startswith(b"%PDF-") and pdf[start:].startswith(b"xref")
    assert pdf == (tmp_path / "again.pdf").read_bytes() and b"CreationDate" not in pdf
    assert (tmp_path / "learning-curves.png").read_bytes() == (tmp_path / "again.png").read_bytes()


# --- the table -----------------------------------------------------------------------------------


def cells(text):
    """The rows of a table in Markdown, each a dict."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    assert all(re.fullmatch("-+:?", cell) for cell in rows[1])
    return [dict(zip(rows[0], row)) for row in rows[2:]]


def shown(middle, bounds):
    """A figure of the table as it must be printed."""
    return f"{middle:.3f} [{bounds[0]:.3f}, {bounds[1]:.3f}]"


def test_the_table_of_one_seed_is_about_its_episodes(tmp_path, capsys):
    first, best, final = [0.0, 0.1, 0.5], [0.4, 0.9, 0.8], [0.1, 0.7, 0.85]
    run = write_run(
        tmp_path / "run",
        [evaluation(10, first), evaluation(2000, best), evaluation(4000, final), training(10, 0.1)],
    )
    plot.main([str(run), "--metric", "loss", "--out", str(tmp_path / "figure")])
    (row,) = cells(capsys.readouterr().out)
    by_place = [(0.0 + 0.4 + 0.1) / 3, (0.1 + 0.9 + 0.7) / 3, (0.5 + 0.8 + 0.85) / 3]
    assert row == {
        "environment": "NavigatorEasy",
        "agent": "PQN LRU",
        "trained on": "POMDP",
        "evaluated on": "POMDP",
        "seeds": "1",
        "final mean": shown(0.55, interval(final)),
        "final median": shown(0.7, interval(final, np.median)),
        "best mean": shown(0.7, interval(best)) + " at 2k",
        "mean of all": shown(0.483333, interval(by_place)),
    }


def test_the_table_of_several_seeds_is_about_seeds(tmp_path):
    finals, bests = (0.2, 0.4, 0.3), (0.6, 0.5, 0.7)
    lines = [evaluation(10, [value - 0.1, value + 0.1], seed) for seed, value in enumerate(bests)]
    lines += [evaluation(20, [value], seed) for seed, value in enumerate(finals)]
    (row,) = cells(plot.table(curves_of(write_run(tmp_path / "run", lines, seeds=3))))
    assert row["seeds"] == "3"
    assert row["final mean"] == shown(0.3, interval(finals))
    assert row["final median"] == shown(0.3, interval(finals, np.median))
    assert row["best mean"] == shown(0.6, interval(bests)) + " at 10"
    assert row["mean of all"] == shown(0.45, interval([0.4, 0.45, 0.5]))


def test_the_table_never_says_minus_zero():
    assert plot.with_interval(np.array([-0.0001, -0.0001])) == "0.000 [0.000, 0.000]"


def test_without_evaluations_there_is_a_figure_of_training_but_no_table(tmp_path, capsys):
    run = write_run(tmp_path / "run", [training(10, 0.1), training(20, 0.2)])
    plot.main([str(run), "--metric", "training-return", "--out", str(tmp_path / "figure")])
    output = capsys.readouterr()
    assert "|" not in output.out and (tmp_path / "figure.png").exists()
    assert "no table: there are no evaluations yet" in output.err


# --- what is refused, and what is told -----------------------------------------------------------


def test_a_folder_that_is_no_run_is_refused_with_the_nearest_runs(tmp_path, capsys):
    for name in ("pqn-lru", "pqn-gru", "something"):
        write_run(tmp_path / name, [evaluation(10, [0.5])])
    error = complaint(capsys, tmp_path / "pqn-lu")
    assert (
        f"{str(tmp_path / 'pqn-lu')!r} is no run, for it has no config.json; the nearest are: {tmp_path / 'pqn-lru'}"
        in error
    )
    assert f"runs in it: {tmp_path / 'pqn-gru'}, {tmp_path / 'pqn-lru'}" in complaint(
        capsys, tmp_path
    )
    assert "there are no runs in" in complaint(capsys, tmp_path / "nowhere" / "run")
    assert f"the nearest is {str(tmp_path / 'something')!r}" in complaint(
        capsys, tmp_path / "something" / "checkpoints"
    )


def test_a_run_without_metrics_is_refused(tmp_path, capsys):
    run = write_run(tmp_path / "run", [])
    (run / "metrics.jsonl").unlink()
    assert "it has no metrics.jsonl" in complaint(capsys, run)


def test_runs_without_evaluations_are_refused_or_left_out(tmp_path, capsys):
    begun = write_run(tmp_path / "begun", [training(10, 0.1)])
    empty = write_run(tmp_path / "empty", [], seed=1)
    assert f"there are no evaluations yet in {begun} (POMDP), {empty} (POMDP)" in complaint(
        capsys, begun, empty
    )
    run = write_run(tmp_path / "run", [evaluation(10, [0.5], seed=2)], seed=2)
    assert [curve.seeds for curve in curves_of(begun, run)] == [1]
    assert (
        f"left out, because there are no evaluations yet: {begun} (POMDP)"
        in capsys.readouterr().err
    )


def test_an_unknown_metric_is_refused_with_the_nearest_ones(tmp_path, capsys):
    run = write_run(tmp_path / "run", [training(10, 0.1), evaluation(10, [0.5])])
    assert "there is no metric 'los'; the nearest are: loss" in complaint(
        capsys, run, "--metric", "los"
    )
    everything = complaint(capsys, run, "--metric", "xyzzy").split("there are: ")[1]
    assert everything.split(", ")[:4] == ["return", "length", "training-return", "training-length"]
    assert "length_mean" not in everything and "episodes" in everything  # no line has a length_mean


def test_a_last_line_that_was_cut_is_left_out_and_told_of(tmp_path, capsys):
    run = write_run(tmp_path / "run", [evaluation(10, [0.5]), evaluation(20, [0.7])])
    path = run / "metrics.jsonl"
    path.write_text(path.read_text()[:-20])
    assert [line["steps"] for line in plot.read_run(run).lines] == [10]
    assert (
        f"{path}, line 2, is left out: the run was stopped while it wrote it"
        in capsys.readouterr().err
    )
    whole = path.read_text().splitlines()[0]
    path.write_text(whole)  # only the line's end is missing
    assert [line["steps"] for line in plot.read_run(run).lines] == [10]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "broken, expected",
    [
        ("{", "is not JSON: b'{'"),
        ("", "is not JSON: b''"),
        ("[1]", "must be an object of kind training or evaluation, but it is '[1]'"),
        ('{"kind": "test"}', "must be an object of kind training or evaluation"),
        ('{"kind": "training", "seed": 0}', "is of kind training and lacks seconds, steps"),
        (json.dumps(training(10, 0.1, seed=[0])), "must have a number as seed, but it has [0]"),
        (
            json.dumps({**training(10, 0.1), "steps": "10"}),
            "must have a number as steps, but it has '10'",
        ),
        (
            json.dumps(evaluation(10, [0.5], twin="mdp")),
            "has the twin 'mdp', but there are: MDP, POMDP",
        ),
        (
            json.dumps(evaluation(10, [])),
            "must have a list of one or more numbers as returns, but it has []",
        ),
        (
            json.dumps(evaluation(10, [0.5, None])),
            "must have a list of one or more numbers as returns, but it has [0.5, None]",
        ),
        (
            json.dumps(evaluation(10, [float("nan")])),
            "must have a list of one or more numbers as returns, but it has [nan]",
        ),
    ],
)
@pytest.mark.parametrize("is_last", [False, True])
def test_a_broken_line_is_refused_with_file_and_line(tmp_path, capsys, broken, expected, is_last):
    run = write_run(tmp_path / "run", [evaluation(10, [0.5])])
    path = run / "metrics.jsonl"
    path.write_text(
        path.read_text()
        + broken
        + "\n"
        + ("" if is_last else json.dumps(evaluation(20, [0.5])) + "\n")
    )
    assert f"{path}, line 2, {expected}" in complaint(capsys, run)


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
def test_a_broken_config_is_refused_with_its_file(tmp_path, capsys, content, expected):
    run = write_run(tmp_path / "run", [evaluation(10, [0.5])])
    (run / "config.json").write_text(content)
    error = complaint(capsys, run)
    assert str(run / "config.json") in error and expected in error


def test_a_figure_in_a_folder_that_is_not_there_is_refused(tmp_path, capsys):
    run = write_run(tmp_path / "run", [evaluation(10, [0.5])])
    assert f"there is no folder {str(tmp_path / 'no')!r} to write 'figure' into" in complaint(
        capsys, run, "--out", tmp_path / "no/figure.pdf"
    )
