"""The report: one HTML file with an agent's episode as a film strip, which needs no other file and
no network.

For each decision it shows the frame, what each earlier frame means to it, and what the agent
expects of its actions; below are the figures of the measures. Pictures are PNGs inside of the file.
A decision's maps are one picture of grey squares in LEVELS steps, each square as bright as the root
of its share of the map's largest; the page multiplies them with these largest values again.
"""

import base64
import html
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from popgym_arcade.introspection.figures import ACTIONS

TEMPLATE = Path(__file__).parent / "report.html"
SIDES = (64, 32, 16, 8)  # squares a side of a map, the finest first
BYTES = 16_000_000  # that the maps of a report may take; what is finer is not chosen
BYTES_OF_A_SQUARE = 0.7  # about, in the file
LEVELS = 32  # of brightness
COLUMNS = 16  # maps in a row of a picture


def side_of_maps(decisions, size):
    """Squares a side of a map, so that a report of these decisions, ints, of frames of so many
    pixels stays below BYTES: an int."""
    maps = sum(n + 1 for n in decisions)
    fitting = [
        side
        for side in SIDES
        if size % side == 0 and maps * side * side * BYTES_OF_A_SQUARE <= BYTES
    ]
    return fitting[0] if fitting else SIDES[-1]


def write(path, title, facts, played, decisions, pooled, figures):
    """Write a report.

    path: of the file, .html. title: str. facts: [(name, text)] about the agent. played: Episode.
    decisions: int[D], ascending: those that have maps. pooled: float32[D, T, side, side], their
    maps, from ``SaliencyMaps.pooled``. figures: [(title, explanation, Figure)].
    """
    data = {
        "actions": ACTIONS,
        "frames": [_uri(Image.fromarray(frame)) for frame in played.frames],
        "taken": played.actions.tolist(),
        "rewards": _rounded(played.rewards),
        "values": _rounded(played.values),
        "probabilities": None if played.probabilities is None else _rounded(played.probabilities),
        "decisions": [int(n) for n in decisions],
        "side": pooled.shape[-1],
        "columns": COLUMNS,
        "levels": LEVELS,
        "maps": [_atlas(maps[: n + 1]) for n, maps in zip(decisions, pooled)],
        "peaks": [_rounded(maps[: n + 1].max((1, 2))) for n, maps in zip(decisions, pooled)],
        "sums": [_rounded(maps[: n + 1].sum((1, 2))) for n, maps in zip(decisions, pooled)],
    }
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
    Path(path).write_text(page, encoding="utf-8")


def _figure(title, explanation, figure):
    """The HTML of a figure."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    title, explanation = html.escape(title), html.escape(explanation)
    uri = _data_uri(picture.getvalue())
    return f'<figure><h3>{title}</h3><img src="{uri}" alt="{title}"><figcaption>{explanation}</figcaption></figure>'


def _atlas(maps):
    """Maps, float32[n, side, side], as one grey picture, each as a share of its own largest
    square."""
    count, side, _ = maps.shape
    peaks = maps.max((1, 2), keepdims=True)
    shares = np.sqrt(np.divide(maps, peaks, out=np.zeros_like(maps), where=peaks > 0))
    levels = np.round(shares * (LEVELS - 1)).astype(np.uint8) * (255 // (LEVELS - 1))
    rows = -(-count // COLUMNS)
    padded = np.zeros((rows * COLUMNS, side, side), np.uint8)
    padded[:count] = levels
    tiled = (
        padded.reshape(rows, COLUMNS, side, side)
        .transpose(0, 2, 1, 3)
        .reshape(rows * side, COLUMNS * side)
    )
    return _uri(Image.fromarray(tiled))


def _uri(image):
    """An image as a PNG inside of an address."""
    picture = io.BytesIO()
    image.save(picture, "PNG", optimize=True)
    return _data_uri(picture.getvalue())


def _data_uri(png):
    """A PNG's bytes as an address."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _rounded(values):
    """Floats with five digits, as nested lists, so that the file stays small."""
    if np.ndim(values):
        return [_rounded(value) for value in values]
    return float(f"{values:.5g}")
