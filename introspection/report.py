"""The report: one self-contained HTML file that shows an episode as a film strip with saliency.

For each decision it shows the frame, the saliency of each earlier frame, and the predicted values
of the actions; below are the figures of the measures. All images are embedded as PNGs. The maps of
a decision are one grayscale image, quantized to LEVELS: each square's brightness is the square root
of its share of the map's maximum, and the page scales it back by these maxima.
"""

import base64
import html
import io
import json
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from popgym_arcade.commands.files import write_files
from popgym_arcade.introspection.episode import ACTION_NAMES, Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["map_side", "report_page", "write_report"]

TEMPLATE = Path(__file__).parent / "report.html"
MAP_SIDES = (64, 32, 16, 8)  # squares per side of a map, finest first
MAX_BYTES = 16_000_000  # of all maps in a report; coarser maps are chosen beyond that
BYTES_PER_SQUARE = 0.7  # approximate size in the file
LEVELS = 32  # of brightness
LEVEL_STEP = 255 // (LEVELS - 1)  # between two levels, in bytes
COLUMNS = 16  # maps in a row of an image


def map_side(decisions: Iterable[int], size: int) -> int:
    """The finest resolution, squares per side of a map, that keeps a report below MAX_BYTES.

    decisions: their numbers. size: pixels per side of a frame.
    """
    maps = sum(n + 1 for n in decisions)
    fitting = [
        side
        for side in MAP_SIDES
        if size % side == 0 and maps * side * side * BYTES_PER_SQUARE <= MAX_BYTES
    ]
    return fitting[0] if fitting else MAP_SIDES[-1]


def write_report(
    path: str | PathLike[str],
    title: str,
    facts: Iterable[tuple[str, Any]],
    trajectory: Trajectory,
    decisions: Sequence[int] | np.ndarray,
    pooled: np.ndarray,
    figures: Iterable[tuple[str, str, "Figure"]],
) -> None:
    """Write a report. path: of the .html file. The other arguments are those of report_page."""
    page = report_page(title, facts, trajectory, decisions, pooled, figures)
    write_files({Path(path): page.encode()})


def report_page(
    title: str,
    facts: Iterable[tuple[str, Any]],
    trajectory: Trajectory,
    decisions: Sequence[int] | np.ndarray,
    pooled: np.ndarray,
    figures: Iterable[tuple[str, str, "Figure"]],
) -> str:
    """Make a report: its HTML.

    facts: (name, text) pairs about the agent. decisions: int[D], ascending: those with maps.
    pooled: float32[D, T, side, side], their maps, from ``SaliencyMaps.pooled``. figures: (title,
    explanation, Figure) triples.
    """
    data = _data(trajectory, decisions, pooled)
    page = TEMPLATE.read_text(encoding="utf-8")
    parts = {
        "TITLE": html.escape(title),
        "FACTS": "".join(
            f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(str(text))}</dd></div>"
            for name, text in facts
        ),
        "FIGURES": "".join(_figure(*figure) for figure in figures),
        "DATA": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
    }
    for name, text in parts.items():
        page = page.replace(f"<!--{name}-->", text)
    return page


def _data(trajectory, decisions, pooled):
    """What the page's script reads, as JSON can hold it."""
    probabilities = trajectory.probabilities
    maps = [maps[: n + 1] for n, maps in zip(decisions, pooled)]
    return {
        "actions": ACTION_NAMES,
        "frames": [_image_uri(Image.fromarray(frame)) for frame in trajectory.frames],
        "taken": trajectory.actions.tolist(),
        "rewards": _rounded(trajectory.rewards),
        "values": _rounded(trajectory.values),
        "probabilities": None if probabilities is None else _rounded(probabilities),
        "decisions": [int(n) for n in decisions],
        "side": pooled.shape[-1],
        "columns": COLUMNS,
        "brightest": LEVEL_STEP * (LEVELS - 1),
        "maps": [_atlas(one) for one in maps],
        "peaks": [_rounded(one.max((1, 2))) for one in maps],
        "sums": [_rounded(one.sum((1, 2))) for one in maps],
    }


def _figure(title, explanation, figure):
    """The HTML of a figure."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    title, explanation = html.escape(title), html.escape(explanation)
    uri = _data_uri(picture.getvalue())
    return (
        f'<figure><h3>{title}</h3><img src="{uri}" alt="{title}">'
        f"<figcaption>{explanation}</figcaption></figure>"
    )


def _atlas(maps):
    """Tile maps, float32[n, side, side], into one grayscale image, each scaled by its maximum."""
    count, side, _ = maps.shape
    peaks = maps.max((1, 2), keepdims=True)
    shares = np.sqrt(np.divide(maps, peaks, out=np.zeros_like(maps), where=peaks > 0))
    levels = np.round(shares * (LEVELS - 1)).astype(np.uint8) * LEVEL_STEP
    rows = -(-count // COLUMNS)
    padded = np.zeros((rows * COLUMNS, side, side), np.uint8)
    padded[:count] = levels
    tiled = (
        padded.reshape(rows, COLUMNS, side, side)
        .transpose(0, 2, 1, 3)
        .reshape(rows * side, COLUMNS * side)
    )
    return _image_uri(Image.fromarray(tiled))


def _image_uri(image):
    """An image as the data URI of a PNG."""
    picture = io.BytesIO()
    image.save(picture, "PNG", optimize=True)
    return _data_uri(picture.getvalue())


def _data_uri(png):
    """The data URI of a PNG's bytes."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _rounded(values):
    """Floats rounded to five significant digits, as nested lists, to keep the file small."""
    if np.ndim(values):
        return [_rounded(value) for value in values]
    return float(f"{values:.5g}")
