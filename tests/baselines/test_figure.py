"""Tests of the figures: what matplotlib holds against numbers worked out by hand."""

import numpy as np
import pytest

from tests.testing import client

client("matplotlib")

from popgym_arcade.baselines.curves import NAMED_METRICS, Curve, Metric  # noqa: E402, because these need matplotlib
from popgym_arcade.baselines.figure import COLORS, _caption, _columns_of, _spread_apart, draw  # noqa: E402
from popgym_arcade.baselines.statistics import interval  # noqa: E402
from tests.baselines.logs import both_twins, curves_of, evaluation, training, write_run  # noqa: E402

RETURN = NAMED_METRICS["return"]


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


# --- lines and bands -----------------------------------------------------------------------------


def test_one_seed_is_drawn_as_the_mean_over_episodes_with_their_interval(tmp_path):
    samples = {100.0: [0.0, 0.5, 0.1], 200.0: [0.5, 1.0, 0.9], 400.0: [0.25, 0.25, 0.25]}
    run = write_run(
        tmp_path / "run", [evaluation(steps, returns) for steps, returns in samples.items()]
    )
    (axes,) = panels(draw(curves_of(run), RETURN))
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
    (axes,) = panels(draw(curves_of(write_run(tmp_path / "run", lines, seeds=3)), RETURN))
    ((x, y),) = drawn(axes).values()
    assert x.tolist() == [10, 20]
    assert y == pytest.approx([0.4, 0.4])
    assert_bands(*drawn_bands(axes), {10.0: [0.0, 0.3, 0.9], 20.0: [0.0, 0.3, 0.9]})


def test_training_returns_leave_out_lines_in_which_no_episode_ended(tmp_path):
    lines = [training(10, 0.1), training(20, None), training(30, 0.3), training(40, float("nan"))]
    run = write_run(tmp_path / "run", lines)
    (axes,) = panels(
        draw(curves_of(run, metric="training-return"), NAMED_METRICS["training-return"])
    )
    ((x, y),) = drawn(axes).values()
    assert (x.tolist(), y.tolist()) == ([10, 30], [0.1, 0.3])
    assert drawn_bands(axes) == []  # one number a line has no interval


def test_any_field_can_be_drawn_and_over_seconds_too(tmp_path):
    lines = [training(steps, None, epsilon=1 - steps / 1e6) for steps in (72_000, 144_000)]
    run = write_run(tmp_path / "run", lines)
    curves = curves_of(run, metric="epsilon", x="seconds")
    (axes,) = panels(draw(curves, Metric("training", "epsilon", "epsilon"), x="seconds"))
    ((x, y),) = drawn(axes).values()
    assert x.tolist() == [2, 4] and axes.get_xlabel() == "wall time in hours"
    assert y == pytest.approx([0.928, 0.856]) and axes.get_ylabel() == "epsilon"


# --- panels and labels ---------------------------------------------------------------------------


def test_there_is_a_panel_for_each_twin_evaluated(tmp_path):
    runs = both_twins(tmp_path)
    figure = draw(curves_of(*runs, twin="both"), RETURN)
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
    figure = draw(curves_of(*both_twins(tmp_path)), RETURN)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["PQN LRU"]
    assert [line.get_linestyle() for axes in panels(figure) for line in axes.get_lines()] == [
        "-",
        "-",
    ]


def test_the_y_axis_shows_the_returns_that_the_rules_allow(tmp_path):
    lines = [evaluation(10, [0.5, 0.6])]
    runs = [
        write_run(tmp_path / env, lines, env=env)
        for env in ("NavigatorEasy", "AutoEncodeHard", "Probe")
    ]
    curves = curves_of(*runs)
    limits = [axes.get_ylim() for axes in panels(draw(curves, RETURN))]
    assert limits[0] == pytest.approx((-0.03, 1.03))  # AutoEncode
    assert limits[1] == pytest.approx((-1.06, 1.06))
    for low, high in [
        limits[2],
        *(axes.get_ylim() for axes in panels(draw(curves, RETURN, fit=True))),
    ]:
        assert 0.4 < low < 0.55 < high < 0.7


@pytest.mark.parametrize("returns", [[-3.0, 0.5], [0.5, 5.0]])
def test_no_curve_is_cut_off_by_the_range_of_the_rules(tmp_path, returns):
    (axes,) = panels(
        draw(curves_of(write_run(tmp_path / "run", [evaluation(10, returns)])), RETURN)
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
    figure = draw(curves_of(*runs), RETURN)
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


def test_many_panels_share_one_legend_and_keep_an_agents_color(tmp_path):
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
    figure = draw(curves_of(*runs), RETURN, title="All of them")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["PQN LRU", "PQN GRU"]
    assert figure.legends[0].get_title().get_text() == "All of them"
    assert len(panels(figure)) == 7 and len(figure.axes) == 8
    assert {axes.get_lines()[0].get_color() for axes in panels(figure)} == {COLORS[0]}
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
    assert _columns_of(count) == columns


def test_names_are_moved_apart_as_little_as_possible():
    assert _spread_apart([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])
    assert _spread_apart([0.9, 0.2, 0.5], 0.1) == pytest.approx([0.9, 0.2, 0.5])
    assert _spread_apart([1.0, 1.0, 0.0], 0.1) == pytest.approx([0.9, 1.0, 0.0])
    assert _spread_apart([0.5, 0.52, 0.54], 0.1) == pytest.approx([0.42, 0.52, 0.62])
    assert _spread_apart([0.3], 0.1) == pytest.approx([0.3])


@pytest.mark.parametrize(
    "seeds, metric, window, expected",
    [
        ((1,), "return", 0, "Lines: mean over the episodes of an evaluation. Bands: 95%"),
        ((5, 5), "return", 0, "Lines: mean over 5 seeds. Bands: 95%"),
        ((3, 5), "training-return", 1e5, "Lines: mean over 3 to 5 seeds. Bands: 95%"),
        (
            (1, 5),
            "return",
            0,
            "Lines: mean over up to 5 seeds or, for a single seed, over the episodes of an "
            "evaluation. Bands: 95% bootstrap confidence interval of the mean.",
        ),
        ((1,), "training-return", 1e5, "One seed. Each point is a mean over 100k steps."),
    ],
)
def test_the_caption_says_what_lines_and_bands_are(seeds, metric, window, expected):
    curve = Curve("NavigatorEasy", "MDP", "MDP", "PQN LRU", 1, np.array([1.0]), [np.array([0.5])])
    text = _caption([curve._replace(seeds=count) for count in seeds], NAMED_METRICS[metric], window)
    assert text.startswith(expected)
    assert text.endswith("Each point is a mean over 100k steps.") == bool(window)
