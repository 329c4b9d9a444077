"""Figures: what they show, that they need neither display nor LaTeX, and the published snippet."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.testing import client

client("equinox")
client("memax")
client("matplotlib")


from matplotlib.text import Text  # noqa: E402, after the checks

from popgym_arcade import spaces  # noqa: E402, after the checks
from popgym_arcade.introspection import episode, figures, measures  # noqa: E402

CONFIG = {
    "ENV_NAME": "NavigatorEasy",
    "PARTIAL": True,
    "MEMORY_TYPE": "lru",
    "SEED": 0,
    "OBS_SIZE": 128,
}
SNIPPET = """
from popgym_arcade.baselines.model.builder import QNetworkRNN
from popgym_arcade.baselines.utils import get_saliency_maps, vis_fn
import equinox as eqx, jax
config = {"ENV_NAME": "NavigatorEasy", "PARTIAL": True, "MEMORY_TYPE": "lru", "SEED": 0,
          "OBS_SIZE": 128}
rng = jax.random.PRNGKey(config["SEED"])
network = QNetworkRNN(rng, rnn_type=config["MEMORY_TYPE"], obs_size=config["OBS_SIZE"])
model = eqx.tree_deserialise_leaves("PATH_TO_YOUR_MODEL_WEIGHTS.pkl", network)
grads, obs_seq, grad_accumulator = get_saliency_maps(rng, model, config)
vis_fn(grads, obs_seq, config, use_latex=False)
"""
CHECKS = """
assert len(grads) == len(obs_seq) == len(grad_accumulator) <= 64
assert grads[-1].shape == obs_seq.shape == grad_accumulator.shape
import sys
assert "matplotlib.pyplot" not in sys.modules
"""


def a_decision(length=12, size=16, seed=0):
    """Maps and frames of a decision: (float32[n, S, S, 3], uint8[n, S, S, 3])."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (length, size, size, 3)).astype(np.uint8)
    return rng.normal(size=frames.shape).astype(np.float32), frames


def texts(figure):
    """All text in a figure."""
    return [
        text.get_text()
        for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))
        if text.get_text()
    ]


def pictures(figure):
    """The arrays of a figure's images."""
    return [np.asarray(image.get_array()) for axis in figure.axes for image in axis.get_images()]


def test_the_snippet_runs_as_it_is_written(tmp_path):
    save = (
        "import equinox as eqx, jax\n"
        "from popgym_arcade.baselines.model.builder import QNetworkRNN\n"
        'network = QNetworkRNN(jax.random.PRNGKey(5), "lru")\n'
        'eqx.tree_serialise_leaves("PATH_TO_YOUR_MODEL_WEIGHTS.pkl", network)\n'
    )
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    done = subprocess.run(
        [sys.executable, "-c", save + SNIPPET + CHECKS],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "mode, length, shown", [("line", 12, 8), ("line", 3, 3), ("grid", 12, 12), ("grid", 90, 40)]
)
def test_frames_are_drawn_above_their_maps(mode, length, shown):
    maps, frames = a_decision(length)
    figure = figures.vis_fn(maps, frames, CONFIG, mode)
    drawn = pictures(figure)
    assert len(drawn) == 2 * shown
    chosen = spaces.evenly_spaced(length, shown)
    colored = [picture for picture in drawn if picture.ndim == 3]
    gray = [picture for picture in drawn if picture.ndim == 2]
    np.testing.assert_array_equal(colored, frames[chosen])
    darkest = (
        next(
            axis
            for axis in figure.axes
            if axis.get_images() and axis.get_images()[0].get_array().ndim == 2
        )
        .get_images()[0]
        .norm.vmin
    )
    np.testing.assert_allclose(gray, np.maximum(np.abs(maps[chosen]).sum(-1), darkest), rtol=1e-5)
    above, below = (
        next(
            axis
            for axis in figure.axes
            if axis.get_images() and axis.get_images()[0].get_array().ndim == n
        )
        for n in (3, 2)
    )
    assert above.get_position().y0 > below.get_position().y0
    assert "NavigatorEasy, POMDP, memory lru" in " ".join(texts(figure))


def test_below_each_map_is_its_share():
    maps, frames = np.zeros((3, 4, 4, 3)), np.zeros((3, 4, 4, 3), np.uint8)
    maps[1, 0, 0], maps[2, :2, :2] = -1, 0.25
    found = texts(figures.vis_fn(maps, frames, CONFIG))
    assert {"0", "50 %", "frame 2, now"} <= set(found) and found.count("50 %") == 2
    assert any(text.endswith("saliency of decision 2; 50 % of it in the past") for text in found)


def test_all_maps_have_one_brightness_unless_each_is_to_have_its_own():
    maps, frames = a_decision(3)
    maps[0] /= 100
    for each, same in ((False, True), (True, False)):
        figure = figures.vis_fn(maps, frames, CONFIG, each=each)
        limits = {
            image.norm.vmax
            for axis in figure.axes
            for image in axis.get_images()
            if image.get_array().ndim == 2
        }
        assert (len(limits) == 1) == same


def test_a_map_of_zeros_can_be_drawn(tmp_path):
    maps, frames = a_decision(2)
    figures.vis_fn(0 * maps, frames, CONFIG, path=tmp_path / "zero.png")
    with Image.open(tmp_path / "zero.png") as picture:
        assert picture.width > 300


def test_a_figure_is_written_as_png_and_pdf(tmp_path):
    written = figures.save(figures.vis_fn(*a_decision(2), CONFIG), tmp_path / "saliency")
    assert [path.name for path in written] == ["saliency.png", "saliency.pdf"]
    assert written[0].read_bytes()[1:4] == b"PNG" and written[1].read_bytes()[:4] == b"%PDF"


def test_wrong_arguments_are_told():
    maps, frames = a_decision(3)
    with pytest.raises(ValueError, match="no mode 'lines'; the nearest are: line"):
        figures.vis_fn(maps, frames, CONFIG, "lines")
    with pytest.raises(ValueError, match="with a frame for each"):
        figures.vis_fn(maps, frames[:2], CONFIG)


@pytest.mark.parametrize(
    "share, text",
    [
        (0, "0"),
        (1, "100 %"),
        (0.5, "50 %"),
        (0.996, "100 %"),
        (0.0123, "1.2 %"),
        (1e-6, "0.0001 %"),
    ],
)
def test_shares_are_written_short(share, text):
    assert figures._percent(share) == text


def played(policy=False, length=6):
    """A made-up Trajectory."""
    rng = np.random.default_rng(0)
    frames, values = (
        np.zeros((length, 4, 4, 3), np.uint8),
        rng.normal(size=(length, 5)).astype(np.float32),
    )
    output = (values, values[:, 0]) if policy else values
    numbers = np.arange(length)
    return episode.Trajectory(
        frames, numbers - 1, numbers == 0, values.argmax(1), values[:, 0], output, True, False
    )


@pytest.mark.parametrize("policy, lines", [(False, 6), (True, 1)])
def test_values_and_rewards_are_drawn(policy, lines):
    above, below = figures.draw_values(played(policy)).axes
    assert len(above.lines) == lines
    np.testing.assert_allclose([bar.get_height() for bar in below.patches], played().rewards)


def test_measures_are_drawn():
    recall = measures.recall_density([[[1, 2, 3, 4]], [[1, 1]]], bins=4)
    axis = figures.draw_recall({"lru": recall, "gru": recall}).axes[0]
    assert "lru: 55 % in the past" in texts(axis) and "gru: 55 % in the past" in texts(axis)
    contamination = measures.Contamination(
        np.arange(3), np.array([0]), *(np.array([[0.5, 0.2, 0.1]]),) * 3
    )
    left, right = figures.draw_contamination([contamination] * 2, [contamination], 0.1).axes
    np.testing.assert_allclose(left.lines[0].get_ydata(), [0.5, 0.2, 0.1])
    difference = measures.observability_gap(
        measures.returns_of([[0.1, 0.9]]), measures.returns_of([[0.1, 0.2]])
    )
    written = texts(figures.draw_differences({"observability gap": difference}))
    assert {"observability gap", "mean", "final", "best"} <= set(written)


def test_with_latex_no_text_holds_a_character_that_latex_would_swallow_or_refuse():
    recall = measures.recall_density([[[1, 2, 3, 4]]], bins=4)
    contamination = measures.Contamination(
        np.arange(3), np.array([0]), *(np.array([[0.5, 0.2, 0.1]]),) * 3
    )
    gap = measures.observability_gap(
        measures.returns_of([[0.1, 0.9]]), measures.returns_of([[0.1, 0.2]])
    )
    noisy = figures.draw_contamination([contamination] * 2, [contamination], 0.1, use_latex=True)
    drawn = [
        figures.vis_fn(*a_decision(), CONFIG, use_latex=True),
        figures.draw_recall({"attention-rope": recall}, use_latex=True),
        figures.draw_values(played(), use_latex=True),
        figures.draw_differences({"observability gap": gap}, use_latex=True),
        noisy,
    ]
    written = [text for figure in drawn for text in figure.findobj(Text) if text.get_text()]
    assert len(written) > 40 and all(text.get_usetex() for text in written)
    said = [text.get_text() for text in written] + [
        noisy.axes[1].yaxis.get_major_formatter()(0.25, 0)
    ]
    for text in said:
        assert text.isascii() and not re.search(r"(?<!\\)[%#&~^|<>]", text), text
    assert r"difference of returns, with its 95 \% interval" in said and r"25 \%" in said
