"""Jit-compiled drawing primitives: tiles, sprites, glyphs, digits and anti-aliased shapes.

``PRIMITIVES`` lists them. They share one contract:

* A **canvas** is ``uint8[height, 3 * width]``: one row per scanline, of bytes R, G, B, R, G, B, ...
  Canvases are immutable: a primitive takes one as its first argument and returns a new one of the
  same shape. A second positional argument, if any, is what to draw; all options are keyword-only.
  ``frame`` differs: it takes the finished bands of the field and returns the observation.
* The origin is the top left corner. ``top`` and ``left`` count pixels down and to the right.
* Drawing is clipped to the canvas. It never wraps around and never raises.
* Static arguments (sizes, positions, art, colors) are Python values known at trace time. All others
  (tile ids, numbers, sub-pixel edges) are traced and may differ between environments.
* Float positions are quantized with ``fixed_point`` first; everything after that is integer
  arithmetic. A frame therefore has the same bytes under ``jit``, under ``vmap``, eagerly, and on
  every device.
* Choose what to draw, not between two drawings: pass an id of -1, or edges without anything between
  them, instead of selecting one of two canvases.

Art is text: one character per pixel, ``.`` for transparent, any other character a key of
``PALETTE``. Art has no size of its own; area averaging scales it to the size it is drawn at. A
**tile** is a tuple of arts, layered from bottom to top.

Each primitive draws in two ways that yield the same bytes, and the platform that a program is
compiled for chooses one (``_draw``):

* **Scanlines**, on a CPU and wherever nothing else is known: a CPU writes frames at memory
  bandwidth only if the innermost loop runs along a whole row of bytes and consists of selects
  alone.
* **Words**, on a GPU: each of its threads writes whole words of four bytes, and looks up in a table
  what they are.

On the other platform each way is several times slower; ``docs/performance.md`` has the measurements
and explains both.
"""

import contextlib
import dataclasses
import importlib
import json
from collections.abc import Callable, Iterable
from functools import cache, partial, reduce
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

__all__ = [
    "ANGLE_UNIT",
    "ANY_REWARD",
    "BACKGROUND",
    "CARDS",
    "FIELD_UNITS",
    "FONT",
    "FRAME_UNITS",
    "OBS_SIZES",
    "PALETTE",
    "PRIMITIVES",
    "SCORE_UNITS",
    "STEP_LIMITS",
    "SUBPIXEL",
    "WORD_PLATFORMS",
    "Art",
    "Tile",
    "bar",
    "beam",
    "blank",
    "board",
    "cells",
    "choose_way",
    "digits",
    "disc_half_widths",
    "field",
    "field_row",
    "fixed_point",
    "frame",
    "glyph",
    "glyphs",
    "grid",
    "parse_art",
    "pixels",
    "rectangle",
    "register_params",
    "register_state",
    "spans",
    "sprite",
    "text",
    "text_scale",
    "text_width",
    "tile_texture",
]

Art = str
"""Text art: rows of characters, ``.`` for transparent, any other a key of PALETTE."""

Tile = tuple[Art, ...]
"""Layers of art, from bottom to top."""

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")

OBS_SIZES: tuple[int, ...] = (128, 256)
"""Frame sizes in pixels that the games offer. All layout is computed from the size, so adding a
size here is enough."""

STEP_LIMITS: range = range(1, 2**31 - 1)
"""Allowed values of a game's ``max_steps_in_episode``: ``time`` is an int32 and must not
overflow."""

ANY_REWARD: tuple[float, float] = (-1e6, 1e6)
"""Bounds (low, high) of every reward in a game's Params."""

PALETTE: dict[str, tuple[int, int, int]] = {
    "k": (14, 16, 30),  # background: near black
    "d": (34, 40, 66),  # dim
    "D": (56, 64, 100),  # dim, lighter
    "s": (152, 160, 184),  # silver
    "w": (246, 246, 240),  # white
    "r": (232, 70, 74),  # red
    "R": (132, 32, 52),  # dark red
    "o": (242, 150, 48),  # orange
    "y": (252, 216, 84),  # yellow
    "g": (86, 200, 122),  # green
    "G": (30, 100, 76),  # dark green
    "c": (112, 218, 244),  # cyan
    "b": (66, 128, 228),  # blue
    "B": (26, 56, 122),  # dark blue
    "p": (190, 122, 232),  # purple
    "m": (156, 100, 58),  # brown
}
"""The colors of all art: a character to its (red, green, blue), each in [1, 255].

A byte of 0 stands for transparent where frames are drawn in words.
"""

BACKGROUND: str = "k"
"""The color of a blank canvas, which also shows through transparent art."""

FRAME_UNITS: int = 128
"""Layout is given in units of 1 / FRAME_UNITS of the frame's side, independent of its size."""

SCORE_UNITS: int = 14
"""The height of the score line at the top of the frame, in layout units."""

FIELD_UNITS: int = 104
"""The height of the playing field below the score, in layout units. The rest is the game's name."""

SUBPIXEL: int = 32
"""Sub-pixel positions are integers in units of 1 / SUBPIXEL of a pixel."""

ANGLE_UNIT: int = 1 << 14
"""Angles are integers in units of 1 / ANGLE_UNIT radian."""

WORD_PLATFORMS: tuple[str, ...] = ("cuda", "rocm")
"""The platforms on which frames are drawn in words, by JAX's names."""

_GLYPH_HEIGHT, _GLYPH_WIDTH = 7, 5
_GLYPH_ADVANCE = _GLYPH_WIDTH + 1
_SCORE_DIGITS = 3
_COUNTER_DIGITS = 2
_BAR_MARGIN = 4  # between a bar and the sides of the frame, in layout units

_SUBPIXEL_BITS = SUBPIXEL.bit_length() - 1
_MOST_BANDS = 4  # that a GPU joins at full speed
_MOST_PAIRED = 15  # up to so many choices, pairs of neighbors in a board are looked up at once
_EVERY_BYTE = 0x01010101  # times a byte: a word of four of it
_FULL, _EMPTY = np.uint8(255), np.uint8(0)  # a byte of a mask


def _font(characters, art):
    """Cut a line of 7 x 5 glyphs, one blank column apart, into {character: bool[7, 5]}."""
    rows = np.array([[pixel == "#" for pixel in row] for row in art.strip("\n").split("\n")])
    return {c: rows[:, i * _GLYPH_ADVANCE :][:, :_GLYPH_WIDTH] for i, c in enumerate(characters)}


FONT: dict[str, np.ndarray] = {
    " ": np.zeros((_GLYPH_HEIGHT, _GLYPH_WIDTH), bool),
    **_font(
        "0123456789",
        """
.###....#....###..#####....#..#####...##..#####..###...###.
#...#..##...#...#....#....##..#......#........#.#...#.#...#
#..##...#.......#...#....#.#..####..#........#..#...#.#...#
#.#.#...#.....##....##..#..#......#.####....#....###...####
##..#...#....#........#.#####.....#.#...#..#....#...#.....#
#...#...#...#.....#...#....#..#...#.#...#..#....#...#....#.
.###...###..#####..###.....#...###...###...#.....###...##..
""",
    ),
    **_font(
        "ABCDEFGHIJKLM",
        """
.###..####...###..####..#####.#####..###..#...#.#####...###.#...#.#.....#...#.
#...#.#...#.#...#.#...#.#.....#.....#...#.#...#...#......#..#..#..#.....##.##.
#...#.#...#.#.....#...#.#.....#.....#.....#...#...#......#..#.#...#.....#.#.#.
#####.####..#.....#...#.####..####..#.###.#####...#......#..##....#.....#.#.#.
#...#.#...#.#.....#...#.#.....#.....#...#.#...#...#......#..#.#...#.....#...#.
#...#.#...#.#...#.#...#.#.....#.....#...#.#...#...#...#..#..#..#..#.....#...#.
#...#.####...###..####..#####.#......####.#...#.#####..##...#...#.#####.#...#.
""",
    ),
    **_font(
        "NOPQRSTUVWXYZ",
        """
#...#..###..####...###..####...####.#####.#...#.#...#.#...#.#...#.#...#.#####.
##..#.#...#.#...#.#...#.#...#.#.......#...#...#.#...#.#...#.#...#.#...#.....#.
#.#.#.#...#.#...#.#...#.#...#.#.......#...#...#.#...#.#...#..#.#...#.#.....#..
#.#.#.#...#.####..#...#.####...###....#...#...#.#...#.#.#.#...#.....#.....#...
#..##.#...#.#.....#.#.#.#.#.......#...#...#...#.#...#.#.#.#..#.#....#....#....
#..##.#...#.#.....#..#..#..#......#...#...#...#..#.#..##.##.#...#...#...#.....
#...#..###..#......##.#.#...#.####....#....###....#...#...#.#...#...#...#####.
""",
    ),
}
"""Digits, capitals and the space: {character: bool[7, 5]}, true where the glyph has ink."""


# --- art that several games use ------------------------------------------------------------------

_CARD = """
..wwwwwwww..
.wwwwwwwwww.
.wwwwwwwwww.
.wwwwwwwwww.
.wwwwwwwwww.
.wwwwwwwwww.
.wwwwwwwwww.
.wwwwwwwwww.
.wwwwwwwwww.
.wwwwwwwwww.
..wwwwwwww..
............
"""
_HEART = """
............
............
...rr..rr...
..rrrrrrrr..
..rrrrrrrr..
..rrrrrrrr..
...rrrrrr...
....rrrr....
.....rr.....
............
............
............
"""
_SPADE = """
............
............
.....kk.....
....kkkk....
...kkkkkk...
..kkkkkkkk..
..kkkkkkkk..
..kk.kk.kk..
.....kk.....
....kkkk....
............
............
"""
_CLUB = """
............
............
....GGGG....
....GGGG....
....GGGG....
..GGG..GGG..
..GGGGGGGG..
..GGGGGGGG..
.....GG.....
....GGGG....
............
............
"""
_DIAMOND = """
............
............
.....oo.....
....oooo....
...oooooo...
..oooooooo..
..oooooooo..
...oooooo...
....oooo....
.....oo.....
............
............
"""
CARDS: tuple[Tile, ...] = tuple((_CARD, suit) for suit in (_HEART, _SPADE, _CLUB, _DIAMOND))
"""One playing card per suit, as tiles: heart, spade, club, diamond. They differ in shape and
hue."""


# --- types of params and states ------------------------------------------------------------------


def register_params(params: type[_T]) -> type[_T]:
    """Make a game's Params a pytree of JAX that ``jax.export`` can write, and add ``replace``.

    params: a frozen dataclass. Fields whose metadata has ``"static": True`` are part of the
    pytree's structure; each is an int, float, bool or str. ``params.replace(name=value, ...)`` is
    ``dataclasses.replace``, as for the dataclasses of flax. Returns params.
    """
    jax.tree_util.register_dataclass(params)
    setattr(params, "replace", dataclasses.replace)  # noqa: B010
    fields = dataclasses.fields(params)  # pyright: ignore[reportArgumentType]
    static = [field.name for field in fields if field.metadata.get("static")]
    data = [field.name for field in fields if not field.metadata.get("static")]

    def unflatten(values: Iterable[Any], children: Iterable[Any]) -> _T:
        return params(**dict(zip([*static, *data], [*values, *children])))

    _register_for_export(
        "register_pytree_node_serialization",
        params,
        serialize_auxdata=lambda values: json.dumps(values).encode(),
        deserialize_auxdata=json.loads,
        from_children=unflatten,
    )
    return params


def register_state(state: type[_T]) -> type[_T]:
    """Let ``jax.export`` write a NamedTuple, e.g. a game's State. Returns it."""
    _register_for_export("register_namedtuple_serialization", state)
    return state


def _register_for_export(function: str, class_: type, **how: Any) -> None:
    """Call a function of ``jax.export`` to register a class by its full name.

    Does nothing where that is not possible: jax 0.5 does not install absl, which its export
    imports, and a module that is loaded twice has registered the name already.
    """
    with contextlib.suppress(ImportError, ValueError):
        register = getattr(importlib.import_module("jax.export"), function)
        register(class_, serialized_name=f"{class_.__module__}.{class_.__qualname__}", **how)


# --- layout --------------------------------------------------------------------------------------


def grid(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The row and the column of every cell: int32[rows, 1] and int32[1, columns].

    Compared with a cell's row and column they make a mask. NumPy's own ``ogrid`` counts in int64,
    which would spread through a game under ``jax_enable_x64``.
    """
    return np.arange(rows, dtype=np.int32)[:, None], np.arange(columns, dtype=np.int32)[None]


def field_row(obs_size: int, units: float) -> int:
    """The pixel row of the field that lies ``units`` layout units below the field's top edge.

    Compute the height of a band as a difference of two such rows: bands that share an edge then
    leave no gap at any frame size.
    """
    return round((SCORE_UNITS + units) * obs_size / FRAME_UNITS) - round(
        SCORE_UNITS * obs_size / FRAME_UNITS
    )


def field(
    obs_size: int, *, top: float = 0, bottom: float = FIELD_UNITS, color: str = BACKGROUND
) -> jax.Array:
    """A blank canvas for a horizontal band of the field, the whole field by default.

    top, bottom: the band's edges, in layout units below the field's top edge. color: a key of
    PALETTE. Returns ``uint8[band height, 3 * obs_size]``.
    """
    height = field_row(obs_size, bottom) - field_row(obs_size, top)
    return blank(height, obs_size, color=color)


def pixels(obs_size: int, units: float) -> int:
    """Convert layout units to whole pixels, at least 1."""
    return max(1, round(units * obs_size / FRAME_UNITS))


def blank(height: int, width: int, *, color: str = BACKGROUND) -> jax.Array:
    """A canvas of one color, a key of PALETTE: ``uint8[height, 3 * width]``."""
    line = _bytes(color, width)
    if line.size % 4:
        return jnp.broadcast_to(jnp.asarray(line), (height, line.size))
    # A GPU's compiler folds what is drawn on a constant, but not on a constant that is spread.
    words = np.tile(_static_words(line), (height, 1))
    return choose_way(
        lambda: jnp.broadcast_to(jnp.asarray(line), (height, line.size)),
        lambda: _to_bytes(jnp.asarray(words)),
    )


def text_scale(obs_size: int) -> int:
    """The font's scale at this frame size: the side of one font pixel in pixels."""
    return max(1, obs_size // FRAME_UNITS)


def text_width(characters: int, scale: int) -> int:
    """The width in pixels of a line of that many characters, without a gap after the last."""
    return (characters * _GLYPH_ADVANCE - 1) * scale


# --- art, turned into NumPy constants at trace time ----------------------------------------------


def _bytes(color: str, width: int) -> np.ndarray:
    """A scanline of one color: uint8[3 * width]."""
    return np.tile(np.array(PALETTE[color], np.uint8), width)


@cache
def parse_art(art: Art) -> np.ndarray:
    """Convert text art to ``uint8[rows, columns, 4]``: red, green, blue and opacity (0 or 255).

    Raises ValueError if the rows differ in length or a character is neither ``.`` nor in PALETTE.
    """
    rows = art.strip().split()
    if len({len(row) for row in rows}) != 1:
        raise ValueError(
            "the rows of an art must all have one length, but they have "
            f"{[len(row) for row in rows]} characters:\n{art}"
        )
    unknown = sorted(set("".join(rows)) - set(PALETTE) - {"."})
    if unknown:
        raise ValueError(
            f"an art uses {unknown}, which are not colors; there are '.' (transparent) and "
            f"{sorted(PALETTE)}"
        )
    colors = {key: (*rgb, 255) for key, rgb in PALETTE.items()} | {".": (0, 0, 0, 0)}
    return np.array([[colors[pixel] for pixel in row] for row in rows], np.uint8)


def _area_average(pixels, size):
    """Resize [rows, columns, channels] to float64[size, size, channels] by area averaging."""
    for axis in (0, 1):
        length = pixels.shape[axis]
        fine = np.repeat(np.asarray(pixels, np.float64), size, axis=axis)
        shape = fine.shape[:axis] + (size, length) + fine.shape[axis + 1 :]
        pixels = fine.reshape(shape).mean(axis=axis + 1)
    return pixels


@cache
def tile_texture(tile: Tile, size: int, color: str = BACKGROUND) -> np.ndarray:
    """Render a tile's layers over a background color: ``uint8[size, size, 3]``."""
    image = np.broadcast_to(np.array(PALETTE[color], np.float64), (size, size, 3))
    for art in tile:
        pixels = parse_art(art).astype(np.float64)
        opacity = _area_average(pixels[..., 3:] / 255, size)
        image = image * (1 - opacity) + _area_average(
            pixels[..., :3] * (pixels[..., 3:] / 255), size
        )
    return np.floor(image + 0.5).astype(np.uint8)


def _ink(characters, scale):
    """The mask of a string's ink, scaled: bool[7 * scale, text_width]."""
    glyphs = [np.pad(FONT[c], ((0, 0), (0, 1))) for c in characters]
    return np.repeat(np.repeat(np.concatenate(glyphs, axis=1), scale, 0), scale, 1)[
        :, : text_width(len(characters), scale)
    ]


def _place(ink, height, width, top, left):
    """Place a mask of pixels on an empty canvas, clipped to it: bool[height, 3 * width]."""
    mask = np.zeros((height, width), bool)
    rows, columns = (
        slice(max(top, 0), max(top + ink.shape[0], 0)),
        slice(max(left, 0), max(left + ink.shape[1], 0)),
    )
    part = ink[max(-top, 0) :, max(-left, 0) :][: mask[rows].shape[0], : mask[:, columns].shape[1]]
    mask[rows, columns][: part.shape[0], : part.shape[1]] = part
    return np.repeat(mask, 3, axis=1)


# --- primitives ----------------------------------------------------------------------------------


def _jit(*static: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Compile a function with these static arguments, keeping its signature for type checkers."""
    return partial(jax.jit, static_argnames=static)


@_jit("tiles", "size", "top", "left", "step")
def board(
    canvas: jax.Array,
    ids: jax.Array,
    *,
    tiles: tuple[Tile, ...],
    size: int | None = None,
    top: int | None = None,
    left: int | None = None,
    step: int | None = None,
) -> jax.Array:
    """Draw a board of square tiles.

    canvas: uint8[height, 3 * width]. ids: int[rows, columns], an index into ``tiles`` per cell;
    cells with any other id (e.g. -1) keep the canvas. tiles: at most 255 tiles. size: the side of a
    tile in pixels; by default the largest that fits the canvas. top, left: the board's corner in
    pixels; centered by default. step: pixels from one column to the next; ``size`` by default.
    """
    height, width = canvas.shape[0], canvas.shape[1] // 3
    rows, columns = ids.shape
    size = min(height // rows, width // columns) if size is None else size
    step = size if step is None else step
    top = (height - rows * size) // 2 if top is None else top
    left = (width - (columns - 1) * step - size) // 2 if left is None else left

    where_columns = [(left + column * step, size) for column in range(columns)]
    textures = np.stack(
        [_scanlines(tile_texture(tile, size), where_columns, width) for tile in tiles]
    )

    def scanlines(canvas, ids):
        row_ids = _spread(ids, where_columns, width)

        def paint(shown):
            for index in range(len(tiles)):
                shown = jnp.where(row_ids[:, None, :] == index, textures[index], shown)
            return shown

        return _paint_rows(canvas, top, (rows, size), paint)

    def words(canvas, ids):
        return _over(
            canvas, _board_words(canvas, ids, textures, where_columns, cell_height=size, top=top)
        )

    return _draw(canvas, scanlines, words, ids)


def _spread(ids, where_columns, width):
    """Spread ids, int[rows, columns], over scanlines, uint8[rows, 3 * width]; 255 off the board."""
    rows, ids = ids.shape[0], _computed_once(ids.astype(jnp.uint8))
    pieces, edge = [], 0
    for column, (start, size) in enumerate(where_columns):
        begin, end = np.clip([start, start + size], edge, width)
        pieces.append(jnp.full((rows, 3 * (begin - edge)), 255, jnp.uint8))
        pieces.append(jnp.broadcast_to(ids[:, column, None], (rows, 3 * (end - begin))))
        edge = end
    return jnp.concatenate([*pieces, jnp.full((rows, 3 * (width - edge)), 255, jnp.uint8)], axis=1)


def _computed_once(values):
    """Force XLA to materialize the values, by a reduction that adds a zero to each.

    XLA recomputes cheap operations in every consumer, but never a reduction.
    """
    return jnp.sum(
        jnp.where(np.array([True, False])[:, None, None], values, values.dtype.type(0)),
        axis=0,
        dtype=values.dtype,
    )


def _scanlines(texture, where_columns, width):
    """Repeat a texture, uint8[height, size, 3], in every column: uint8[height, 3 * width]."""
    lines = np.zeros((len(texture), width, 3), np.uint8)
    for start, size in where_columns:
        begin, end = np.clip([start, start + size], 0, width)
        lines[:, begin:end] = texture[:, begin - start : end - start]
    return lines.reshape(len(texture), 3 * width)


@_jit("colors", "size", "top", "left", "gap")
def cells(
    canvas: jax.Array,
    ids: jax.Array,
    *,
    colors: str,
    size: tuple[int, int],
    top: int = 0,
    left: int = 0,
    gap: int = 0,
) -> jax.Array:
    """Draw a board of cells, each in one color.

    canvas: uint8[height, 3 * width]. ids: int[rows, columns], an index into ``colors`` per cell;
    every id must be valid. colors: keys of PALETTE. size: a cell's (height, width) in pixels. top,
    left: the board's corner in pixels. gap: pixels left free at the bottom and right of each cell.

    As with ``glyphs``, the cost per pixel does not depend on the number of colors: the choice is
    made once per row of cells and column of bytes.
    """
    height, width = size
    board = len(ids), height
    table = np.stack([_bytes(color, width) for color in colors])
    sheet = np.pad(np.ones((height - gap, width - gap), bool), ((0, gap), (0, gap)))
    covered = _place(np.tile(sheet, ids.shape[1]), height, canvas.shape[1] // 3, 0, left)

    def scanlines(canvas, ids):
        line = _lines(ids, table, left, canvas.shape[1] // 3)
        return _paint_rows(
            canvas, top, board, lambda shown: jnp.where(covered, line[:, None], shown)
        )

    def words(canvas, ids):
        cells = np.where(np.repeat(sheet, 3, axis=1), table[:, None], _EMPTY)
        return _over(
            canvas, _cell_words(canvas, ids, cells, cell_height=height, top=top, left=left)
        )

    return _draw(canvas, scanlines, words, ids)


@_jit("glyphs", "inks", "size", "top", "left", "gap")
def glyphs(
    canvas: jax.Array,
    ids: jax.Array,
    *,
    glyphs: tuple[str, ...],
    inks: str,
    size: tuple[int, int],
    ink_ids: jax.Array | None = None,
    top: int = 0,
    left: int = 0,
    gap: int = 0,
) -> jax.Array:
    """Draw a board of glyphs, each in one ink, and keep the canvas around the ink.

    canvas: uint8[height, 3 * width]. ids: int[rows, columns], an index into ``glyphs`` per cell;
    cells with any other id (e.g. -1) keep the canvas. glyphs: characters of FONT, or text art with
    ``#`` for ink, at most 8 rows high and all of one height; each is centered in its cell at the
    largest whole multiple of its size that fits. inks: keys of PALETTE, one per glyph or a single
    one for all; with ``ink_ids``, int[rows, columns], an index into ``inks`` per cell. size: a
    cell's (height, width) in pixels. top, left: the board's corner in pixels. gap: pixels left free
    at the bottom and right of each cell, as in :func:`cells`; a glyph for which there is no other
    room extends over them.

    Unlike in ``board``, the cost per pixel does not depend on the number of glyphs and inks: the
    choice is made once per row of cells and column of bytes, with a glyph's rows as the bits of one
    byte.
    """
    width, board = canvas.shape[1] // 3, (len(ids), size[0])
    line_bits, row_bits = _glyph_bits(glyphs, *size, gap)
    line_inks = np.stack([_bytes(color, size[1]) for color in inks])

    def scanlines(canvas, ids, ink_ids):
        if ink_ids is not None:
            bits = _lines(ids, line_bits, left, width)
            ink = _lines(ink_ids, line_inks, left, width)
        elif len(inks) > 1:
            bits, ink = _line_pairs(ids, line_bits, line_inks, left, width)
        else:
            bits = _lines(ids, line_bits, left, width)
            ink = jnp.asarray(_bytes(inks, width))[None]
        return _paint_rows(
            canvas,
            top,
            board,
            lambda shown: jnp.where(
                (bits[:, None] & row_bits[None, :, None]) != 0, ink[:, None], shown
            ),
        )

    def words(canvas, ids, ink_ids):
        masks = np.where(line_bits[:, None] & row_bits[:, None], _FULL, _EMPTY)
        look_up = partial(_cell_words, canvas, cell_height=size[0], top=top, left=left)
        if ink_ids is None:
            return _over(canvas, look_up(ids, masks & line_inks[:, None]))
        return _blend(canvas, look_up(ink_ids, line_inks[:, None]), look_up(ids, masks))

    return _draw(canvas, scanlines, words, ids, ink_ids)


@_jit("glyphs", "columns", "size", "top", "left", "ink")
def glyph(
    canvas: jax.Array,
    index: ArrayLike,
    *,
    glyphs: tuple[str, ...],
    row: jax.Array,
    column: jax.Array,
    columns: int,
    size: tuple[int, int],
    ink: str,
    top: int = 0,
    left: int = 0,
) -> jax.Array:
    """Draw one glyph in a cell of a board; glyph and cell may differ between environments.

    canvas: uint8[height, 3 * width]. index: int[], an index into ``glyphs``, a tuple as in
    ``glyphs``; any other value draws nothing. row, column: int[], the cell; the board's rows
    extend above and below to the canvas's edges. columns: the number of columns of the board. size:
    a cell's (height, width) in pixels. ink: a key of PALETTE. top, left: the board's corner in
    pixels.
    """
    height, width = canvas.shape[0], canvas.shape[1] // 3
    line_bits, row_bits = _glyph_bits(glyphs, *size)
    in_row, in_cell = np.divmod(np.arange(height, dtype=np.int32) - top, size[0])

    def scanlines(canvas, index, row, column):
        ids = jnp.where(np.arange(columns, dtype=np.int32) == column, index, -1)[None]
        bits = _lines(ids, line_bits, left, width)
        row_bit = jnp.where(in_row == row, row_bits[in_cell], 0)
        return jnp.where((bits & row_bit[:, None]) != 0, _bytes(ink, width), canvas)

    def words(canvas, index, row, column):
        where_columns = _adjoining(columns, size[1], left)
        masks = np.where(line_bits[:, None] & row_bits[:, None], _FULL, _EMPTY)
        lines = np.stack(
            [_scanlines(mask.reshape(*size, 3), where_columns, width) for mask in masks]
        )
        ids = jnp.where(np.arange(columns, dtype=np.int32) == column, index, -1)[None]
        packs = [
            jnp.where(in_row == row, pack[0], _nothing(len(glyphs)))
            for pack in _packed(ids, len(glyphs))
        ]
        mask = _look_up_words(_stored(packs), lines, where_columns, in_cell)
        return _blend(canvas, _static_words(_bytes(ink, width)), mask)

    return _draw(canvas, scanlines, words, index, row, column)


def _paint_rows(canvas, top, board, paint):
    """Apply ``paint`` to the scanlines under a board of (rows, cell height).

    paint: uint8[rows, cell height, 3 * width] -> the same shape.
    """
    first, last = (min(max(edge, 0), canvas.shape[0]) for edge in (top, top + board[0] * board[1]))
    if first == last:
        return canvas
    shown = jnp.broadcast_to(canvas[first:last], (last - first, canvas.shape[1]))
    shown = jnp.pad(shown, ((first - top, top + board[0] * board[1] - last), (0, 0)))
    painted = paint(shown.reshape(*board, -1)).reshape(shown.shape)[first - top : last - top]
    return jnp.concatenate([canvas[:first], painted, canvas[last:]])


def _glyph_art(glyph):
    """The ink of a character of FONT or of text art of ``#`` and ``.``: bool[rows, columns]."""
    if glyph in FONT:
        return FONT[glyph]
    art = np.array([[pixel == "#" for pixel in row] for row in glyph.split()])
    if len(art) > 8:
        raise ValueError(f"a glyph must have at most 8 rows, but it has {len(art)}:\n{glyph}")
    return art


def _glyph_bits(glyphs, height, width, gap=0):
    """Glyphs as bits, in cells of height x width pixels.

    Returns (uint8[glyphs, 3 * width], the ink of each byte column, one bit per glyph row;
    uint8[height], the bit of each pixel row).
    """
    arts = [_glyph_art(glyph) for glyph in glyphs]
    rows = len(arts[0])
    if any(len(art) != rows for art in arts):
        raise ValueError(
            "the glyphs of a board must all have one height, but they have "
            f"{[len(art) for art in arts]} rows"
        )
    scale = _glyph_scale(arts, height - gap, width - gap) or _glyph_scale(arts, height, width)
    lines = []
    for art in arts:
        padded = np.pad(art, ((0, 0), (0, 1)))  # the last column is the blank beside the glyph
        packed = np.packbits(padded, axis=0, bitorder="little")[0]
        lines.append(np.repeat(packed[_fit(art.shape[1], width, scale, gap)], 3))
    bit = np.append(1 << np.arange(rows), 0).astype(np.uint8)
    return np.stack(lines), bit[_fit(rows, height, scale, gap)]


def _glyph_scale(arts, height, width):
    """The largest whole multiple at which every glyph fits, 0 if there is none."""
    return min(min(height // art.shape[0], width // art.shape[1]) for art in arts)


def _fit(length, cell, scale, gap):
    """The glyph row (or column) shown by each pixel of a cell, -1 for none: NumPy int[cell].

    An odd pixel of the gap is not taken into account, so that its place is a margin.
    """
    pixel = np.arange(cell)
    if scale == 0:  # the cell is too small for whole pixels
        return pixel * length // cell
    place = (pixel - max((cell - scale * length) // 2 - gap // 2, 0)) // scale
    return np.where((place >= 0) & (place < length), place, -1)


def _lines(ids: jax.Array, table: np.ndarray, left: int, width: int) -> jax.Array:
    """Look up one scanline per board row: uint8[rows, 3 * width].

    ids: int[rows, columns]. table: uint8[choices, 3 * cell width], the bytes of a cell for each id;
    any other id gives zeros. left: the board's left edge in pixels.
    """
    return _clipped(_look_up(ids, table), left, width)


def _line_pairs(ids, table, other, left, width) -> tuple[jax.Array, jax.Array]:
    """Look up two tables like ``_lines``, as 16-bit numbers: little more work than one."""
    both = _look_up(ids, table | other.astype(np.uint16) << 8)
    return _clipped(both, left, width), _clipped(both >> 8, left, width)


def _look_up(ids: jax.Array, table: np.ndarray) -> jax.Array:
    """The entries of a table side by side for each row of ids: its dtype[rows, columns * bytes].

    A sum, because XLA materializes a reduction, but would recompute selects for every pixel that
    uses them.
    """
    columns, cell, dtype = ids.shape[1], table.shape[1] // 3, table.dtype
    spread = _spread(ids, [(column * cell, cell) for column in range(columns)], columns * cell)
    chosen = spread.astype(dtype)[None] == np.arange(len(table), dtype=dtype)[:, None, None]
    values = jnp.where(chosen, np.tile(table, columns)[:, None], dtype.type(0))
    return jnp.sum(values, axis=0, dtype=dtype)


def _clipped(lines: jax.Array, left: int, width: int) -> jax.Array:
    """The low byte of each number, at ``left`` pixels on zeros: uint8[rows, 3 * width]."""
    begin, end = np.clip([left, left + lines.shape[1] // 3], 0, width)
    before, after = (
        jnp.zeros((len(lines), 3 * margin), jnp.uint8) for margin in (begin, width - end)
    )
    shown = lines[:, 3 * (begin - left) : 3 * (end - left)].astype(jnp.uint8)
    return jnp.concatenate([before, shown, after], axis=1)


@_jit("top", "left", "scale", "count", "color")
def digits(
    canvas: jax.Array,
    number: ArrayLike,
    *,
    top: int,
    left: int,
    scale: int = 1,
    count: int = _SCORE_DIGITS,
    color: str = "w",
) -> jax.Array:
    """Draw a number in fixed-width digits, with leading zeros.

    canvas: uint8[height, 3 * width]. number: int[], clipped to [0, 10**count - 1]. top, left: the
    first digit's corner in pixels. scale: the side of one font pixel in pixels. count: the number
    of digits. color: a key of PALETTE.
    """
    height, width = canvas.shape[0], canvas.shape[1] // 3
    glyphs = np.stack(
        [np.packbits(FONT[str(value)], axis=0, bitorder="little")[0] for value in range(10)]
    )
    columns = np.repeat(
        np.pad(glyphs, ((0, 0), (0, _GLYPH_ADVANCE - _GLYPH_WIDTH))), 3 * scale, axis=1
    )
    row_bit = _place_line(
        np.repeat(1 << np.arange(_GLYPH_HEIGHT), scale).astype(np.uint8), height, top
    )

    def scanlines(canvas, number):
        values = jnp.stack([number // 10**place % 10 for place in reversed(range(count))])
        bits = _lines(values[None], columns, left, width)
        return jnp.where((bits & row_bit[:, None]) != 0, _bytes(color, width), canvas)

    def words(canvas, number):
        bits = _number_words(number, columns, count, left, canvas.shape[1])
        mask = _filled_bytes(bits & (row_bit * np.uint32(_EVERY_BYTE))[:, None])
        return _blend(canvas, _static_words(_bytes(color, width)), mask)

    return _draw(canvas, scanlines, words, jnp.clip(number, 0, 10**count - 1))


def _place_line(values, length, start):
    """Place a line of values at ``start`` on a line of zeros, clipped to its length."""
    line = np.zeros(length, values.dtype)
    begin, end = np.clip([start, start + len(values)], 0, length)
    line[begin:end] = values[begin - start : end - start]
    return line


@_jit("string", "top", "left", "scale", "color")
def text(
    canvas: jax.Array,
    string: str,
    *,
    top: int,
    left: int | None = None,
    scale: int = 1,
    color: str = "w",
) -> jax.Array:
    """Draw a static string.

    canvas: uint8[height, 3 * width]. string: digits, letters (drawn as capitals) and spaces. top,
    left: the first character's corner in pixels; by default the text is centered horizontally.
    scale: the side of one font pixel in pixels. color: a key of PALETTE.
    """
    height, width = canvas.shape[0], canvas.shape[1] // 3
    left = (width - text_width(len(string), scale)) // 2 if left is None else left
    mask = _place(_ink(string.upper(), scale), height, width, top, left)
    return _fill(canvas, mask, _bytes(color, width))


@_jit("top", "bottom", "left", "right", "color")
def rectangle(
    canvas: jax.Array,
    *,
    top: int = 0,
    bottom: int | None = None,
    left: int = 0,
    right: int | None = None,
    color: str,
) -> jax.Array:
    """Fill a static rectangle.

    canvas: uint8[height, 3 * width]. top, bottom, left, right: its edges in pixels, ``bottom`` and
    ``right`` exclusive; by default the canvas's edges. color: a key of PALETTE.
    """
    height, width = canvas.shape[0], canvas.shape[1] // 3
    bottom, right = height if bottom is None else bottom, width if right is None else right
    mask = _place(
        np.ones((max(bottom - top, 0), max(right - left, 0)), bool), height, width, top, left
    )
    return _fill(canvas, mask, _bytes(color, width))


def _fill(canvas, mask, ink):
    """Paint the bytes of a static mask, bool[height, 3 * width], with a scanline of ink."""
    chosen = np.where(mask, _FULL, _EMPTY)
    return _draw(
        canvas,
        lambda canvas: jnp.where(mask, ink, canvas),
        lambda canvas: _blend(canvas, _static_words(ink), _static_words(chosen)),
    )


@_jit("art", "size", "top")
def sprite(canvas: jax.Array, art: Art, *, size: int, top: int, left: ArrayLike) -> jax.Array:
    """Draw one art at a traced horizontal position; its transparent pixels keep the canvas.

    canvas: uint8[height, 3 * width]. art: text art. size: the sprite's side in pixels. top: its
    upper edge in pixels. left: int[], its left edge in pixels, any number. A pixel is transparent
    if the art covers less than half of it.
    """
    height, width = canvas.shape[0], canvas.shape[1] // 3
    ink = _area_average(parse_art(art)[..., 3:] / 255, size) >= 0.5
    # The sprite stands in the middle of a strip three canvases wide. A window as wide as the canvas
    # slides over the strip to show the sprite anywhere, or not at all. Transparent pixels are 0.
    first, last = np.clip([top, top + size], 0, height)
    strip = np.pad(np.where(ink, tile_texture((art,), size), 0), ((0, 0), (width, width), (0, 0)))
    strip = strip.astype(np.uint8).reshape(size, -1)[first - top : last - top]

    def scanlines(canvas, start):
        shown = jax.lax.dynamic_slice(strip, (0, start), (len(strip), 3 * width))
        painted = jnp.where(shown != 0, shown, canvas[first:last])
        return jnp.concatenate([canvas[:first], painted, canvas[last:]])

    def words(canvas, start):
        drawn = _window_words(strip, start, canvas.shape[1])
        return _over(canvas, jnp.pad(drawn, ((first, height - last), (0, 0))))

    return _draw(canvas, scanlines, words, 3 * (width - jnp.clip(left, -size, width)))


def fixed_point(value: jax.Array, *, scale: float) -> jax.Array:
    """Quantize ``value * scale``: float[...] -> int32[...], the nearest integer, halves to even."""
    return jnp.round(value * jnp.float32(scale)).astype(jnp.int32)


@_jit("colors")
def spans(canvas: jax.Array, *, left: ArrayLike, right: ArrayLike, colors: str) -> jax.Array:
    """Fill every scanline between two sub-pixel edges, with anti-aliased ends.

    canvas: uint8[height, 3 * width], of width below 1024. left, right: int32[] or int32[height], in
    1 / SUBPIXEL of a pixel from the canvas's left side; each pixel is blended with the color in
    proportion to its part between the edges. A scanline keeps the canvas if right <= left. colors:
    a key of PALETTE, or a string with one key per scanline.
    """
    height, width = canvas.shape[0], canvas.shape[1] // 3
    inks = np.stack([_bytes(color, width) for color in colors])
    # Every intermediate value fits in 16 bits, which doubles the number per vector register.
    left, right = (
        jnp.clip(jnp.atleast_1d(edge), 0, width * SUBPIXEL).astype(jnp.int16)[:, None]
        for edge in (left, right)
    )

    def scanlines(canvas, left, right):
        starts = np.repeat(np.arange(width) * SUBPIXEL, 3).astype(np.int16)[None]
        base, ink = canvas.astype(jnp.int16), inks.astype(np.int16)
        mixed = base + (((ink - base) * _coverage(starts, left, right)) >> _SUBPIXEL_BITS)
        return jnp.broadcast_to(mixed.astype(jnp.uint8), (height, 3 * width))

    def words(canvas, left, right):
        first_pixels = (np.arange(canvas.shape[1]) * 4 // 3).astype(np.int32)[None]
        in_first, ink = _static_words(_bytes_of_first_pixel(width)), _static_words(inks)
        left, right = (edge.astype(jnp.int32) for edge in (left, right))
        mixed = [
            _mix_words(canvas, ink, _coverage(pixels * SUBPIXEL, left, right).astype(jnp.uint32))
            for pixels in (first_pixels, first_pixels + 1)
        ]
        return _blend(mixed[1], mixed[0], in_first)

    return _draw(canvas, scanlines, words, left, jnp.maximum(right, left))


def _coverage(starts, left, right):
    """How much of each pixel lies between two edges, in [0, SUBPIXEL].

    starts: the left edge of each pixel. All in 1 / SUBPIXEL of a pixel.
    """
    before_right, before_left = (jnp.clip(edge - starts, 0, SUBPIXEL) for edge in (right, left))
    return before_right - before_left


@_jit("of")
def bar(canvas: jax.Array, *, filled: jax.Array | int, of: int) -> jax.Array:
    """Fill a band with a progress bar: red from the left over the filled part, gray over the rest.

    canvas: uint8[height, 3 * width]. filled: int32[], in [0, of]. of: an int below 1000.
    """
    width = canvas.shape[1] // 3
    left, right = (
        edge * width * SUBPIXEL // FRAME_UNITS for edge in (_BAR_MARGIN, FRAME_UNITS - _BAR_MARGIN)
    )
    canvas = spans(canvas, left=left, right=right, colors="D")
    return spans(canvas, left=left, right=left + (right - left) * filled // of, colors="r")


def disc_half_widths(height: int, *, top: int, diameter: int) -> np.ndarray:
    """Half the width of a disc on each scanline, in sub-pixels: NumPy int32[height].

    It is 0 above and below the disc. top: the scanline at the disc's upper edge. diameter: in
    pixels. Use it with ``spans`` around the disc's moving center.
    """
    rows = np.arange(height) - top + 0.5 - diameter / 2
    return np.round(np.sqrt(np.maximum((diameter / 2) ** 2 - rows**2, 0)) * SUBPIXEL).astype(
        np.int32
    )


@_jit("y", "length", "thickness", "color")
def beam(
    canvas: jax.Array,
    *,
    x: jax.Array,
    y: int,
    angle: jax.Array,
    length: int,
    thickness: int,
    color: str,
) -> jax.Array:
    """Draw a straight beam that stands on a pivot and leans.

    canvas: uint8[height, 3 * width]. x: int32[], the pivot in 1 / SUBPIXEL of a pixel. y: the row
    whose upper edge holds the pivot. angle: int32[], in 1 / ANGLE_UNIT radian, 0 upright, positive
    to the right, within 0.6 radian. length, thickness: in pixels. color: a key of PALETTE.

    Sine and cosine are fifth-degree Taylor polynomials in integers (error below 1e-4 in that
    range), so the frame does not depend on a device's floating point.
    """
    square = angle * angle // ANGLE_UNIT
    sine = (
        angle
        - angle * square // ANGLE_UNIT // 6
        + angle * (square * square // ANGLE_UNIT) // ANGLE_UNIT // 120
    )
    cosine = ANGLE_UNIT - square // 2 + square * square // ANGLE_UNIT // 24
    tangent = sine * ANGLE_UNIT // cosine
    half = thickness * SUBPIXEL * ANGLE_UNIT // (2 * cosine)
    # Twice the height of each scanline's middle above the pivot, in pixels.
    above = (y - np.arange(canvas.shape[0], dtype=np.int32)) * 2 - 1
    center = x + (above * (SUBPIXEL // 2)) * tangent // ANGLE_UNIT
    tip = 2 * length * cosine // ANGLE_UNIT
    half = jnp.where((above > 0) & (above <= tip), half, 0)
    return spans(canvas, left=center - half, right=center + half, colors=color)


# --- words: how a GPU draws ----------------------------------------------------------------------


def _draw(
    canvas: jax.Array, scanlines: Callable[..., jax.Array], words: Callable[..., jax.Array], *traced
) -> jax.Array:
    """Draw on a canvas in the way of the platform that the program is compiled for.

    scanlines: (uint8[height, 3 * width], *traced) -> the same. words: (uint32[height, 3 * width /
    4], *traced) -> the same, for GPUs. Both yield the same bytes.
    """
    if canvas.shape[1] % 4:
        return scanlines(canvas, *traced)
    return choose_way(
        scanlines,
        lambda canvas, *traced: _to_bytes(words(_to_words(canvas), *traced)),
        canvas,
        *traced,
    )


def choose_way(
    scanlines: Callable[..., jax.Array], words: Callable[..., jax.Array], *operands: Any
) -> jax.Array:
    """Call ``words`` in programs for the WORD_PLATFORMS, and ``scanlines`` in those for others.

    operands: arguments of both. Which one it is, is known when a program is compiled, and the other
    one costs nothing.
    """
    ways = dict.fromkeys(WORD_PLATFORMS, words)
    return jax.lax.platform_dependent(*operands, default=scanlines, **ways)


def _to_words(canvas):
    """uint8[height, 4 * words] -> uint32[height, words]."""
    return jax.lax.bitcast_convert_type(canvas.reshape(len(canvas), -1, 4), jnp.uint32)


def _to_bytes(words):
    """uint32[height, words] -> uint8[height, 4 * words]."""
    return jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(len(words), -1)


def _static_words(lines):
    """NumPy uint8[..., 4 * words] -> NumPy uint32[..., words], of one line [1, words]."""
    return np.ascontiguousarray(np.atleast_2d(lines)).view(np.uint32)


def _stored(values):
    """Have small arrays computed once and stored, instead of anew for every word that uses them."""
    return jax.lax.optimization_barrier(values)


def _filled_bytes(words):
    """Turn every byte that is not 0 into 255, in words."""
    low = np.uint32(0x7F * _EVERY_BYTE)
    return (((words & low) + low | words) >> 7 & np.uint32(_EVERY_BYTE)) * np.uint32(255)


def _blend(canvas, drawn, mask):
    """The drawn bytes where the mask has 255, the canvas's where it has 0. All are words."""
    return canvas ^ (canvas ^ drawn) & mask


def _over(canvas, drawn):
    """The drawn bytes where they are not 0, otherwise the canvas's. Both are words."""
    return _blend(canvas, drawn, _filled_bytes(drawn))


def _join_words(bands):
    """Put bands of words one below another.

    XLA draws up to four bands best, so that others are laid over each other first.
    """
    while len(bands) > _MOST_BANDS:
        *bands, upper, lower = bands
        upper = jnp.pad(upper, ((0, len(lower)), (0, 0)))
        bands.append(upper | jnp.pad(lower, ((len(upper) - len(lower), 0), (0, 0))))
    return jnp.concatenate(bands)


def _mix_words(canvas, ink, coverage):
    """Mix ink into words in proportion to coverage / SUBPIXEL, rounded down like in bytes.

    Two bytes of a word are computed at once, as two numbers of 16 bits in one multiplication.
    """
    mixed = []
    for shift in (0, 8):
        base, color = (words >> shift & np.uint32(0x00FF00FF) for words in (canvas, ink))
        both = (base << _SUBPIXEL_BITS) + (color - base) * coverage
        mixed.append((both >> _SUBPIXEL_BITS & np.uint32(0x00FF00FF)) << shift)
    return mixed[0] | mixed[1]


def _bytes_of_first_pixel(width):
    """255 at each byte that belongs to the same pixel as the first byte of its word, else 0."""
    byte = np.arange(3 * width)
    return np.where(byte // 3 == byte // 4 * 4 // 3, _FULL, _EMPTY)


def _board_words(canvas, ids, lines, where_columns, *, cell_height, top):
    """Look up a board of cells on a canvas: uint32[height, words], 0 where there is none.

    canvas: uint32[height, words], for its size. ids: int[rows, columns]. lines: NumPy
    uint8[choices, 1 or cell height, 3 * width], the scanlines of a row whose cells all have the
    same id, 0 outside of the cells. where_columns: each column's left edge and width. top: the
    upper edge in pixels.
    """
    height, end = len(canvas), top + len(ids) * cell_height
    first, last = np.clip([top, end], 0, height)
    row, in_cell = np.divmod(np.arange(first, last) - top, cell_height)
    packs = [
        jnp.pad(
            jnp.repeat(pack, cell_height, total_repeat_length=end - top)[first - top : last - top],
            (first, height - last),
            constant_values=_nothing(len(lines)),
        )
        for pack in _packed(ids, len(lines))
    ]
    rows = np.pad(in_cell, (first, height - last)) if lines.shape[1] > 1 else np.zeros(height, int)
    return _look_up_words(_stored(packs), lines, where_columns, rows)


def _packed(ids, choices):
    """Pack the ids of each row of a board into words: a list of uint32[rows].

    ids: int[rows, columns]; those not in [0, choices - 1] become ``choices``. A word holds as many
    ids as fit. Its last one is also the first one of the next word, so that any two neighbors are
    in one word.
    """
    bits = choices.bit_length()
    columns, fit = ids.shape[1], 32 // bits
    ids = jnp.where((ids >= 0) & (ids < choices), ids, choices).astype(jnp.uint32)
    packs = []
    for first in range(0, max(columns - 1, 1), fit - 1):
        places = range(min(fit, columns - first))
        parts = [ids[:, first + place] << np.uint32(bits * place) for place in places]
        packs.append(reduce(jnp.bitwise_or, parts))
    return packs


def _nothing(choices):
    """A word of ``_packed`` without any id below ``choices``."""
    bits = choices.bit_length()
    return np.uint32(sum(choices << bits * place for place in range(32 // bits)))


def _look_up_words(packs, lines, where_columns, rows):
    """Look up scanlines by packed ids: uint32[height, words].

    packs: uint32[height] each, from ``_packed``. lines, where_columns: as in ``_board_words``.
    rows: NumPy int[height], the index of the line for each row of pixels.

    A word covers two pixels, and so at most two cells. There is an entry for each pair of ids in a
    table; with many choices that would be large, and each cell is looked up by itself.
    """
    width = lines.shape[2] // 3
    column_of = np.full(width, -1)
    for column, (start, size) in enumerate(where_columns):
        column_of[slice(*np.clip([start, start + size], 0, width))] = column
    byte = 4 * np.arange(3 * width // 4)
    left, right = column_of[byte // 3], column_of[(byte + 3) // 3]
    if len(lines) <= _MOST_PAIRED:
        return _look_up_pairs(packs, lines, left, right, rows)
    in_left = _bytes_of_first_pixel(width) | np.repeat(np.where(left == right, _FULL, _EMPTY), 4)
    return _look_up_pairs(packs, lines & in_left, left, left, rows) | _look_up_pairs(
        packs, lines & ~in_left, right, right, rows
    )


def _look_up_pairs(packs, lines, left, right, rows):
    """Look up scanlines by the ids in two neighboring columns, or in one: uint32[height, words].

    left, right: NumPy int[words], the column of each word's first and last pixel, -1 for none.
    """
    choices, bits, fit = len(lines), len(lines).bit_length(), 32 // len(lines).bit_length()
    column = np.where(left >= 0, left, right)
    paired = (left >= 0) & (right >= 0) & (left != right)
    single = (column >= 0) & ~paired
    lines = _static_words(np.pad(lines, ((0, 1), (0, 0), (0, 0))))
    pair = np.arange((choices << bits) + choices + 1)
    first, second = np.minimum(pair & (1 << bits) - 1, choices), pair >> bits
    in_first = _static_words(_bytes_of_first_pixel(len(left) * 4 // 3))[0]
    pairs = lines[first][..., paired], lines[second][..., paired], in_first[paired]
    pairs = pairs[0] & pairs[2] | pairs[1] & ~pairs[2]
    # An entry is at a place, and as many steps from there as the id or the pair of ids says.
    place = np.zeros((lines.shape[1], len(left)), np.uint32)
    mask, step, table = np.zeros_like(place[:1]), np.zeros_like(place[:1]), [np.zeros(1, np.uint32)]
    for here, entries, of in ((single, lines[..., single], bits), (paired, pairs, 2 * bits)):
        place[:, here] = sum(map(len, table)) + np.arange(entries[0].size).reshape(entries[0].shape)
        mask[:, here], step[:, here] = (1 << of) - 1, entries[0].size
        table.append(entries.reshape(-1))
    pack = np.clip(column // (fit - 1), 0, len(packs) - 1)[None]
    shift = np.maximum(bits * (column - pack * (fit - 1)), 0).astype(np.uint32)
    # The ids of a row are taken apart for each of its words. What is the same for several rows of
    # pixels XLA would store, which takes longer to write and to read.
    spread = [jnp.broadcast_to(some[:, None], (len(rows), len(left))) for some in packs]
    chosen = spread[0]
    for index in range(1, len(packs)):
        chosen = jnp.where(pack == index, spread[index], chosen)
    ids = chosen >> shift & mask
    return _take(np.concatenate(table), place[rows] + ids * step)


def _cell_words(canvas, ids, table, *, cell_height, top, left):
    """Look up a board of adjoining cells, like ``_board_words``.

    table: NumPy uint8[choices, 1 or cell height, 3 * cell width]. left: in pixels.
    """
    where_columns = _adjoining(ids.shape[1], table.shape[2] // 3, left)
    width = canvas.shape[1] * 4 // 3
    lines = [_scanlines(cell.reshape(len(cell), -1, 3), where_columns, width) for cell in table]
    return _board_words(
        canvas, ids, np.stack(lines), where_columns, cell_height=cell_height, top=top
    )


def _adjoining(columns, width, left):
    """The left edge and the width of columns side by side, in pixels."""
    return [(left + column * width, width) for column in range(columns)]


def _take(table, at):
    """Take the entries of a static table, one-dimensional, that are known to be there."""
    if 0 in at.shape:
        return jnp.zeros(at.shape, table.dtype)  # the oldest versions take nothing from no table
    where = jax.lax.GatherDimensionNumbers((), (0,), (0,))
    return jax.lax.gather(jnp.asarray(table), at[..., None], where, (1,), mode="promise_in_bounds")


def _number_words(number, columns, count, left, words):
    """The ink of a number's digits along a scanline: uint32[1, words].

    number: int[], in [0, 10**count - 1]. columns: uint8[10, bytes of a digit], the ink of each
    digit. There is a table of all numbers of up to three digits; others take several.
    """
    if count > _SCORE_DIGITS:
        rest = count - _SCORE_DIGITS
        after = left + rest * columns.shape[1] // 3
        return _number_words(number // 10**_SCORE_DIGITS, columns, rest, left, words) | (
            _number_words(number % 10**_SCORE_DIGITS, columns, _SCORE_DIGITS, after, words)
        )
    numbers = np.arange(10**count)[:, None] // 10 ** np.arange(count)[::-1] % 10
    inks = columns[numbers].reshape(len(numbers), -1)
    line = np.zeros((len(numbers), 4 * words), np.uint8)
    begin, end = np.clip([3 * left, 3 * left + inks.shape[1]], 0, 4 * words)
    line[:, begin:end] = inks[:, begin - 3 * left : end - 3 * left]
    first, last = begin // 4, -(-end // 4)
    table = _static_words(line)[:, first:last]
    place = np.arange(last - first, dtype=np.int32)
    found = _take(table.reshape(-1), number.astype(jnp.int32)[None] * len(place) + place)
    return jnp.pad(found, (first, words - last))[None]


def _window_words(strip, start, words):
    """The window of a static strip that begins at byte ``start``: uint32[height, words].

    strip: NumPy uint8[height, bytes]. start: int[]. There is a table of the strip's words for each
    of the four places in a word where the window can begin.
    """
    height, length = strip.shape[0], strip.shape[1] // 4 + 1
    padded = np.pad(strip, ((0, 0), (0, 8)))
    table = np.stack([_static_words(padded[:, shift : shift + 4 * length]) for shift in range(4)])
    first = start % 4 * (height * length) + start // 4
    row, word = grid(height, words)
    return _take(table.reshape(-1), first + (row * length + word))


# --- the frame -----------------------------------------------------------------------------------


@_jit("name", "corner_tiles")
def frame(
    bands: jax.Array | tuple[jax.Array, ...],
    *,
    score: ArrayLike,
    name: str,
    counter: ArrayLike | None = None,
    corner_ids: jax.Array | None = None,
    corner_tiles: tuple[Tile, ...] = (),
) -> jax.Array:
    """Assemble the observation: the score above the field and the game's name below it.

    bands: the field, as one canvas or a tuple of canvases from top to bottom; together they are as
    high as ``field(obs_size)``. A CPU writes up to about five bands at full speed and more at half.
    score: int[], drawn with three digits. name: the text at the bottom. counter: int[], a second
    number, drawn with two digits left of the top right corner. corner_ids: int[2], indices into
    ``corner_tiles`` for the top left and top right corners, -1 for none. corner_tiles: tiles.

    Returns the observation, uint8[obs_size, obs_size, 3]: rows, columns, RGB.
    """
    bands = bands if isinstance(bands, tuple) else (bands,)
    obs_size = bands[0].shape[1] // 3
    scale = text_scale(obs_size)
    height = round(SCORE_UNITS * obs_size / FRAME_UNITS)
    top = blank(height, obs_size)
    if corner_ids is not None:
        size = height - 2 * scale
        step = obs_size - size - 4 * scale
        top = board(top, corner_ids[None], tiles=corner_tiles, size=size, step=step)
    left = (obs_size - text_width(_SCORE_DIGITS, scale)) // 2
    digits_top = (height - _GLYPH_HEIGHT * scale + 1) // 2
    top = digits(top, score, top=digits_top, left=left, scale=scale)
    if counter is not None:
        left = obs_size - height - text_width(_COUNTER_DIGITS, scale) - 4 * scale
        top = digits(
            top, counter, top=digits_top, left=left, scale=scale, count=_COUNTER_DIGITS, color="y"
        )
    rest = obs_size - height - sum(band.shape[0] for band in bands)
    bottom = text(
        blank(rest, obs_size), name, top=(rest - _GLYPH_HEIGHT * scale) // 2, scale=scale, color="s"
    )
    joined = _draw(
        top,
        lambda *bands: jnp.concatenate(bands),
        lambda top, *rest: _join_words([top, *map(_to_words, rest)]),
        *bands,
        bottom,
    )
    return joined.reshape(obs_size, obs_size, 3)


PRIMITIVES: tuple[Callable[..., jax.Array], ...] = (
    board,
    cells,
    glyphs,
    glyph,
    digits,
    text,
    rectangle,
    sprite,
    spans,
    bar,
    beam,
    frame,
)
"""Every drawing primitive: the compiled functions that take a canvas, or bands, and return one."""
