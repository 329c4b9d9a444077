"""Drawing: jit-compiled primitives that blit tiles, sprites, digits and anti-aliased shapes.

The contract of every primitive here:

* A **canvas** is ``uint8[height, 3 * width]``: one row a scanline, its bytes R, G, B, R, G, B, ...
  Canvases are values: a primitive takes one as its first argument and returns a new one of the same
  shape. What is drawn comes second, where there is such a thing, and every option is a keyword.
* The origin is the top left corner. ``top`` and ``left`` count pixels down and to the right.
* What sticks out of the canvas on a side is cut off. It never wraps around and never raises.
* Arguments named in a primitive's ``static_argnames`` (sizes, places, art, colours) are Python
  values known when the function is traced; the rest (tile ids, numbers, sub-pixel edges) are traced
  and may differ between environments.
* Positions that come from floats are first quantised with :func:`fixed_point`, and all arithmetic
  after that is on integers. A frame therefore has the same bytes under ``jit``, under ``vmap``,
  eagerly, and on every device.

Art is text: one character a pixel, ``.`` for transparent, any other character a key of
:data:`PALETTE`. Art has no size in pixels; it is scaled by area averaging to whatever size it is
drawn at. A **tile** is a tuple of arts, drawn one over another.

Why scanlines of bytes: on a CPU a frame is written at the memory's speed only if the innermost loop
runs along a whole row of bytes and is nothing but selects; gathers and per-pixel channel loops are
several times slower. ``docs/performance.md`` has the measurements.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np

OBS_SIZES = (128, 256)
"""The frame sizes, in pixels, that the games offer. All layout is computed from the size, so adding
one here is enough."""

STEP_LIMITS = range(1, 2**31 - 1)
"""What a game's ``max_steps_in_episode`` may be: ``time`` is an int32, and no step may overflow
it."""

ANY_REWARD = (-1e6, 1e6)
"""The lowest and the highest value that a game's Params takes for a reward."""

PALETTE = {
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
"""The colours art may use: a character to its (red, green, blue), each 0 to 255."""

BACKGROUND = "k"
"""The colour of a blank canvas and of what shows through transparent art."""

# The frame from top to bottom, in 128ths of its side: the score, the playing field, the game's
# name.
FRAME_UNITS = 128
SCORE_UNITS = 14
FIELD_UNITS = 104

SUBPIXEL = 32
"""Sub-pixel positions are integers in units of 1 / SUBPIXEL of a pixel."""

ANGLE_UNIT = 1 << 14
"""Angles are integers in units of 1 / ANGLE_UNIT radian."""

GLYPH_HEIGHT, GLYPH_WIDTH = 7, 5
GLYPH_ADVANCE = GLYPH_WIDTH + 1
SCORE_DIGITS = 3
COUNTER_DIGITS = 2
BAR_MARGIN = 4  # between a bar and the frame's sides, in 128ths of the frame


def _font(characters, art):
    """Cut side-by-side glyphs, each 7 rows of 5 columns with one blank column between, into
    {character: bool[7, 5]}."""
    rows = np.array([[pixel == "#" for pixel in row] for row in art.strip("\n").split("\n")])
    return {c: rows[:, i * GLYPH_ADVANCE :][:, :GLYPH_WIDTH] for i, c in enumerate(characters)}


FONT = {
    " ": np.zeros((GLYPH_HEIGHT, GLYPH_WIDTH), bool),
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

CARD = """
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
HEART = """
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
SPADE = """
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
CLUB = """
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
DIAMOND = """
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
CARDS = tuple((CARD, suit) for suit in (HEART, SPADE, CLUB, DIAMOND))
"""A playing card of each suit, as tiles: heart, spade, club, diamond. They differ in shape and in
hue."""


# --- layout --------------------------------------------------------------------------------------


def field_row(obs_size, units):
    """The field's pixel row that lies ``units`` 128ths of the frame below the field's top edge; an
    int.

    Differences of this are the heights of bands, so that bands which share an edge leave no gap at
    any size.
    """
    return round((SCORE_UNITS + units) * obs_size / FRAME_UNITS) - round(
        SCORE_UNITS * obs_size / FRAME_UNITS
    )


def field(obs_size, *, top=0, bottom=FIELD_UNITS, color=BACKGROUND):
    """A blank canvas for a horizontal band of the field: from ``top`` to ``bottom``, in 128ths of
    the frame from the field's top.

    Returns ``uint8[band height, 3 * obs_size]``. With the defaults it is the whole field.
    """
    height = field_row(obs_size, bottom) - field_row(obs_size, top)
    return blank(height, obs_size, color=color)


def pixels(obs_size, units):
    """128ths of the frame to whole pixels: an int, at least 1."""
    return max(1, round(units * obs_size / FRAME_UNITS))


def blank(height, width, *, color=BACKGROUND):
    """A canvas of one colour: ``uint8[height, 3 * width]``."""
    return jnp.broadcast_to(jnp.asarray(_bytes(color, width)), (height, 3 * width))


def text_scale(obs_size):
    """Pixels a side of one pixel of the font, at this frame size; an int."""
    return max(1, obs_size // FRAME_UNITS)


def text_width(characters, scale):
    """Pixels that so many characters take in a row, with no gap behind the last; an int."""
    return (characters * GLYPH_ADVANCE - 1) * scale


# --- art, turned into NumPy constants while tracing ----------------------------------------------


def _bytes(color, width):
    """A scanline of one colour: uint8[3 * width]."""
    return np.tile(np.array(PALETTE[color], np.uint8), width)


@cache
def parse_art(art):
    """Text art to ``uint8[rows, columns, 4]``: red, green, blue and opacity (0 or 255) of each of
    its pixels.

    Raises ValueError where the rows differ in length or a character is neither ``.`` nor in
    PALETTE.
    """
    rows = art.strip().split()
    if len({len(row) for row in rows}) != 1:
        raise ValueError(
            f"art must have rows of one length, but they have {[len(row) for row in rows]} characters:\n{art}"
        )
    unknown = sorted(set("".join(rows)) - set(PALETTE) - {"."})
    if unknown:
        raise ValueError(
            f"art uses {unknown}, which are not colours; there are '.' (transparent) and {sorted(PALETTE)}"
        )
    colors = {key: (*rgb, 255) for key, rgb in PALETTE.items()} | {".": (0, 0, 0, 0)}
    return np.array([[colors[pixel] for pixel in row] for row in rows], np.uint8)


def _area_average(pixels, size):
    """Resize [rows, columns, channels] to [size, size, channels] by exact area averages;
    float64."""
    for axis in (0, 1):
        length = pixels.shape[axis]
        fine = np.repeat(np.asarray(pixels, np.float64), size, axis=axis)
        shape = fine.shape[:axis] + (size, length) + fine.shape[axis + 1 :]
        pixels = fine.reshape(shape).mean(axis=axis + 1)
    return pixels


@cache
def tile_texture(tile, size, color=BACKGROUND):
    """The pixels of a tile, ``uint8[size, size, 3]``: its arts scaled to ``size`` and laid one over
    another on ``color``."""
    image = np.broadcast_to(np.array(PALETTE[color], np.float64), (size, size, 3))
    for art in tile:
        pixels = parse_art(art).astype(np.float64)
        opacity = _area_average(pixels[..., 3:] / 255, size)
        image = image * (1 - opacity) + _area_average(
            pixels[..., :3] * (pixels[..., 3:] / 255), size
        )
    return np.floor(image + 0.5).astype(np.uint8)


def _ink(characters, scale):
    """Rows and columns where a string has ink, scaled: bool[7 * scale, text_width]."""
    glyphs = [np.pad(FONT[c], ((0, 0), (0, 1))) for c in characters]
    return np.repeat(np.repeat(np.concatenate(glyphs, axis=1), scale, 0), scale, 1)[
        :, : text_width(len(characters), scale)
    ]


def _place(ink, height, width, top, left):
    """Put a mask on an empty canvas of so many pixels, cutting off what sticks out: bool[height, 3
    * width]."""
    mask = np.zeros((height, width), bool)
    rows, columns = (
        slice(max(top, 0), max(top + ink.shape[0], 0)),
        slice(max(left, 0), max(left + ink.shape[1], 0)),
    )
    part = ink[max(-top, 0) :, max(-left, 0) :][: mask[rows].shape[0], : mask[:, columns].shape[1]]
    mask[rows, columns][: part.shape[0], : part.shape[1]] = part
    return np.repeat(mask, 3, axis=1)


# --- primitives ----------------------------------------------------------------------------------


@partial(jax.jit, static_argnames=("tiles", "size", "top", "left", "step"))
def board(canvas, ids, *, tiles, size=None, top=None, left=None, step=None):
    """Draw a board of square tiles.

    canvas: uint8[height, 3 * width]. ids: int[rows, columns], the index into ``tiles`` of each
    cell; a cell whose id is not an index of ``tiles`` (-1, say) is left as it is. tiles: a tuple of
    at most 255 tiles. size: pixels a side of a tile; by default the largest that fits the canvas.
    top, left: pixels to the board's corner; by default it is centred. step: pixels from one column
    to the next; by default ``size``.
    """
    height, width = canvas.shape[0], canvas.shape[1] // 3
    rows, columns = ids.shape
    size = min(height // rows, width // columns) if size is None else size
    step = size if step is None else step
    top = (height - rows * size) // 2 if top is None else top
    left = (width - (columns - 1) * step - size) // 2 if left is None else left

    where_columns = [(left + column * step, size) for column in range(columns)]
    row_ids = _spread(ids, where_columns, width)
    textures = np.stack(
        [_scanlines(tile_texture(tile, size), where_columns, width) for tile in tiles]
    )

    def paint(shown):
        for index in range(len(tiles)):
            shown = jnp.where(row_ids[:, None, :] == index, textures[index], shown)
        return shown

    return _paint_rows(canvas, top, (rows, size), paint)


def _spread(ids, where_columns, width):
    """Spread tile ids over the bytes of scanlines, 255 off the board: int[rows, columns] ->
    uint8[rows, 3 * width]."""
    rows, ids = ids.shape[0], _computed_once(ids.astype(jnp.uint8))
    pieces, edge = [], 0
    for column, (start, size) in enumerate(where_columns):
        begin, end = np.clip([start, start + size], edge, width)
        pieces.append(jnp.full((rows, 3 * (begin - edge)), 255, jnp.uint8))
        pieces.append(jnp.broadcast_to(ids[:, column, None], (rows, 3 * (end - begin))))
        edge = end
    return jnp.concatenate([*pieces, jnp.full((rows, 3 * (width - edge)), 255, jnp.uint8)], axis=1)


def _computed_once(values):
    """The same values, but computed here: XLA would otherwise compute them anew for each byte that
    they are spread over.

    It never repeats a sum, so this is one: of the values and of a zero for each.
    """
    return jnp.sum(
        jnp.where(np.array([True, False])[:, None, None], values, values.dtype.type(0)),
        axis=0,
        dtype=values.dtype,
    )


def _scanlines(texture, where_columns, width):
    """Repeat a texture at every column of a board: uint8[size, size, 3] -> uint8[size, 3 *
    width]."""
    size = texture.shape[0]
    lines = np.zeros((size, width, 3), np.uint8)
    for start, _ in where_columns:
        begin, end = np.clip([start, start + size], 0, width)
        lines[:, begin:end] = texture[:, begin - start : end - start]
    return lines.reshape(size, 3 * width)


@partial(jax.jit, static_argnames=("colors", "size", "top", "left", "gap"))
def cells(canvas, ids, *, colors, size, top=0, left=0, gap=0):
    """Draw a board of cells of one colour each.

    canvas: uint8[height, 3 * width]. ids: int[rows, columns], the index into ``colors`` of each
    cell; all must be one. colors: keys of PALETTE. size: pixels of a cell, (height, width). top,
    left: pixels to the board's corner. gap: pixels that each cell leaves free at its bottom and its
    right.

    Like that of ``glyphs``, the cost of a pixel does not depend on the number of colours: the
    choices are made once for each row of cells and column of bytes.
    """
    height, width = size
    line = _lines(
        ids,
        np.stack([_bytes(color, width) for color in colors]),
        ids.shape[1],
        left,
        canvas.shape[1] // 3,
    )
    sheet = np.pad(np.ones((height - gap, width - gap), bool), ((0, gap), (0, gap)))
    covered = _place(np.tile(sheet, ids.shape[1]), height, canvas.shape[1] // 3, 0, left)
    return _paint_rows(
        canvas, top, (len(ids), height), lambda shown: jnp.where(covered, line[:, None], shown)
    )


@partial(jax.jit, static_argnames=("glyphs", "inks", "size", "top", "left"))
def glyphs(canvas, ids, *, glyphs, inks, size, ink_ids=None, top=0, left=0):
    """Draw a board of glyphs of one ink each, and leave the canvas as it is around them, as on a
    text screen.

    canvas: uint8[height, 3 * width]. ids: int[rows, columns], the index into ``glyphs`` of each
    cell; a cell whose id is none (-1, say) is left as it is. glyphs: a tuple of characters of FONT,
    or of text art with ``#`` for ink, at most 8 rows high and all of one height; each is drawn as
    large as whole multiples of its pixels allow, in the cell's middle. inks: keys of PALETTE, the
    ink of each glyph, or one for all; with ``ink_ids``, int[rows, columns], the ink of each cell is
    chosen from ``inks`` by that. size: pixels of a cell, (height, width). top, left: pixels to the
    board's corner.

    Unlike in ``board``, a pixel costs the same however many glyphs and inks there are: the choices
    are made once for each row of cells and column of bytes, where the rows of a glyph are the bits
    of one byte.
    """
    width, columns = canvas.shape[1] // 3, ids.shape[1]
    line_bits, row_bits = _glyph_bits(glyphs, *size)
    line_inks = np.stack([_bytes(color, size[1]) for color in inks])
    if ink_ids is not None:
        bits, ink = (
            _lines(ids, line_bits, columns, left, width),
            _lines(ink_ids, line_inks, columns, left, width),
        )
    elif len(inks) > 1:
        bits, ink = _lines(ids, (line_bits, line_inks), columns, left, width)
    else:
        bits, ink = (
            _lines(ids, line_bits, columns, left, width),
            jnp.asarray(_bytes(inks, width))[None],
        )
    return _paint_rows(
        canvas,
        top,
        (len(ids), size[0]),
        lambda shown: jnp.where((bits[:, None] & row_bits[:, None]) != 0, ink[:, None], shown),
    )


@partial(jax.jit, static_argnames=("glyphs", "columns", "size", "top", "left", "ink"))
def glyph(canvas, index, *, glyphs, row, column, columns, size, ink, top=0, left=0):
    """Draw one glyph in a cell of a board that may be another one in each environment.

    canvas: uint8[height, 3 * width]. index: int[], the index into ``glyphs``, a tuple as in
    :func:`glyphs`; nothing is drawn where it is none. row, column: int[], the cell. columns: how
    many the board has; rows go on above and below as far as there is room. size: pixels of a cell,
    (height, width). ink: a key of PALETTE. top, left: pixels to the board's corner.
    """
    height, width = canvas.shape[0], canvas.shape[1] // 3
    line_bits, row_bits = _glyph_bits(glyphs, *size)
    bits = _lines(
        jnp.where(np.arange(columns) == column, index, -1)[None], line_bits, columns, left, width
    )
    in_row, in_cell = np.divmod(np.arange(height) - top, size[0])
    row_bits = jnp.where(in_row == row, row_bits[in_cell], 0)
    return jnp.where((bits & row_bits[:, None]) != 0, _bytes(ink, width), canvas)


def _paint_rows(canvas, top, board, paint):
    """Change the canvas's part under a board of (rows, cell height) with ``paint``: uint8[rows,
    cell height, bytes] -> the same."""
    first, last = (min(max(edge, 0), canvas.shape[0]) for edge in (top, top + board[0] * board[1]))
    if first == last:
        return canvas
    shown = jnp.broadcast_to(canvas[first:last], (last - first, canvas.shape[1]))
    shown = jnp.pad(shown, ((first - top, top + board[0] * board[1] - last), (0, 0)))
    painted = paint(shown.reshape(*board, -1)).reshape(shown.shape)[first - top : last - top]
    return jnp.concatenate([canvas[:first], painted, canvas[last:]])


def _glyph_art(glyph):
    """A character of FONT or text art of ``#`` and ``.``: bool[rows, columns]."""
    if glyph in FONT:
        return FONT[glyph]
    art = np.array([[pixel == "#" for pixel in row] for row in glyph.split()])
    if len(art) > 8:
        raise ValueError(f"a glyph has at most 8 rows, but this one has {len(art)}:\n{glyph}")
    return art


def _glyph_bits(glyphs, height, width):
    """Glyphs in cells of so many pixels: the bits of each byte along them, uint8[glyphs, 3 *
    width], and those of each row."""
    arts = [_glyph_art(glyph) for glyph in glyphs]
    rows = len(arts[0])
    if any(len(art) != rows for art in arts):
        raise ValueError(
            f"the glyphs of a board must have one height, but they have {[len(art) for art in arts]} rows"
        )
    scale = min(min(height // rows, width // art.shape[1]) for art in arts)
    lines = []
    for art in arts:
        packed = np.packbits(np.pad(art, ((0, 0), (0, 1))), axis=0, bitorder="little")[
            0
        ]  # the last column is what is beside it
        lines.append(np.repeat(packed[_fit(art.shape[1], width, scale)], 3))
    bit = np.append(1 << np.arange(rows), 0).astype(np.uint8)
    return np.stack(lines), bit[_fit(rows, height, scale)]


def _fit(length, cell, scale):
    """Which of a glyph's rows (or columns) each pixel of a cell shows, -1 for none: a NumPy
    int[cell]."""
    pixel = np.arange(cell)
    if scale == 0:  # the cell is too small for whole pixels
        return pixel * length // cell
    place = (pixel - (cell - scale * length) // 2) // scale
    return np.where((place >= 0) & (place < length), place, -1)


def _lines(ids, values, columns, left, width):
    """One line of bytes for each row of a board: uint8[rows, 3 * width], or a tuple of two.

    ids: int[rows, columns]. values: uint8[choices, 3 * cell width], what a cell contributes; 0
    where its id is no choice. Or a tuple of two, which are looked up as one number of 16 bits for
    not much more than one costs. A sum, because XLA computes a sum once and keeps it, but would
    repeat selects for every pixel below.
    """
    pair = isinstance(values, tuple)
    values = values[0] | values[1].astype(np.uint16) << 8 if pair else values
    cell = values.shape[1] // 3
    spread = _spread(ids, [(column * cell, cell) for column in range(columns)], columns * cell)
    chosen = (
        spread.astype(values.dtype) == np.arange(len(values), dtype=values.dtype)[:, None, None]
    )
    line = jnp.sum(
        jnp.where(chosen, np.tile(values, columns)[:, None], values.dtype.type(0)),
        axis=0,
        dtype=values.dtype,
    )
    begin, end = np.clip([left, left + columns * cell], 0, width)
    before, behind = (
        jnp.zeros((len(ids), 3 * margin), jnp.uint8) for margin in (begin, width - end)
    )
    lines = tuple(
        jnp.concatenate(
            [before, part[:, 3 * (begin - left) : 3 * (end - left)].astype(jnp.uint8), behind],
            axis=1,
        )
        for part in ((line, line >> 8) if pair else (line,))
    )
    return lines if pair else lines[0]


@partial(jax.jit, static_argnames=("top", "left", "scale", "count", "color"))
def digits(canvas, number, *, top, left, scale=1, count=SCORE_DIGITS, color="w"):
    """Draw a number in fixed-width digits, with leading zeros.

    canvas: uint8[height, 3 * width]. number: int[], clipped to 0 ... 10**count - 1. top, left:
    pixels to the first digit's corner. scale: pixels a side of one pixel of the font. count: how
    many digits. color: a key of PALETTE.
    """
    height, width = canvas.shape[0], canvas.shape[1] // 3
    number = jnp.clip(number, 0, 10**count - 1)
    values = jnp.stack([number // 10**place % 10 for place in reversed(range(count))])
    glyphs = np.stack(
        [np.packbits(FONT[str(value)], axis=0, bitorder="little")[0] for value in range(10)]
    )
    columns = np.repeat(
        np.pad(glyphs, ((0, 0), (0, GLYPH_ADVANCE - GLYPH_WIDTH))), 3 * scale, axis=1
    )
    bits = _lines(values[None], columns, count, left, width)
    row_bit = _place_line(
        np.repeat(1 << np.arange(GLYPH_HEIGHT), scale).astype(np.uint8), height, top
    )
    return jnp.where((bits & row_bit[:, None]) != 0, _bytes(color, width), canvas)


def _place_line(values, length, start):
    """Put a line of values at ``start`` on a line of zeros, cutting off what sticks out."""
    line = np.zeros(length, values.dtype)
    begin, end = np.clip([start, start + len(values)], 0, length)
    line[begin:end] = values[begin - start : end - start]
    return line


@partial(jax.jit, static_argnames=("string", "top", "left", "scale", "color"))
def text(canvas, string, *, top, left=None, scale=1, color="w"):
    """Draw a string that is known when tracing.

    canvas: uint8[height, 3 * width]. string: digits, letters (drawn as capitals) and spaces. top,
    left: pixels to the first character's corner; by default the text is centred between left and
    right. scale: pixels a side of one pixel of the font. color: a key of PALETTE.
    """
    height, width = canvas.shape[0], canvas.shape[1] // 3
    left = (width - text_width(len(string), scale)) // 2 if left is None else left
    mask = _place(_ink(string.upper(), scale), height, width, top, left)
    return jnp.where(mask, _bytes(color, width), canvas)


@partial(jax.jit, static_argnames=("top", "bottom", "left", "right", "color"))
def rectangle(canvas, *, top=0, bottom=None, left=0, right=None, color):
    """Fill a rectangle that is known when tracing.

    canvas: uint8[height, 3 * width]. top, bottom, left, right: pixels, the second of each pair
    behind the last one filled; by default the canvas's edges. color: a key of PALETTE.
    """
    height, width = canvas.shape[0], canvas.shape[1] // 3
    bottom, right = height if bottom is None else bottom, width if right is None else right
    mask = _place(
        np.ones((max(bottom - top, 0), max(right - left, 0)), bool), height, width, top, left
    )
    return jnp.where(mask, _bytes(color, width), canvas)


@partial(jax.jit, static_argnames=("art", "size", "top"))
def sprite(canvas, art, *, size, top, left):
    """Draw one art of ``size`` x ``size`` pixels that may move from side to side; what is
    transparent keeps the canvas.

    canvas: uint8[height, 3 * width]. art: text art. size, top: pixels. left: int[], pixels to the
    sprite's left side, any number. A pixel that the art covers less than half is transparent.
    """
    height, width = canvas.shape[0], canvas.shape[1] // 3
    ink = _area_average(parse_art(art)[..., 3:] / 255, size) >= 0.5
    # The sprite in the middle of a strip so wide that some window of the canvas's width shows it
    # anywhere, or not at all.
    colors, opaque = (
        np.pad(pixels, ((0, 0), (width, width), (0, 0))).reshape(size, -1)
        for pixels in (tile_texture((art,), size), np.repeat(ink, 3, axis=2))
    )
    start = 3 * (width - jnp.clip(left, -size, width))
    colors, opaque = (
        jax.lax.dynamic_slice(strip, (0, start), (size, 3 * width)) for strip in (colors, opaque)
    )
    first, last = max(top, 0), max(min(top + size, height), max(top, 0))
    shown = slice(first - top, last - top)
    painted = jnp.where(opaque[shown], colors[shown], canvas[first:last])
    return jnp.concatenate([canvas[:first], painted, canvas[last:]])


def fixed_point(value, *, scale):
    """Quantise ``value * scale`` to the nearest integer: float -> int32. Halves go to the even
    neighbour."""
    return jnp.round(value * jnp.float32(scale)).astype(jnp.int32)


@partial(jax.jit, static_argnames=("colors",))
def spans(canvas, *, left, right, colors):
    """Fill every scanline between two sub-pixel edges, with anti-aliased ends.

    canvas: uint8[height, 3 * width], width below 1024. left, right: int32[] or int32[height], in 1
    / SUBPIXEL of a pixel from the canvas's left side; a pixel is mixed with the colour in
    proportion to the part of it that lies between them. A scanline whose right edge is not beyond
    its left edge stays as it is. colors: a key of PALETTE, or a string of one for each scanline.
    """
    height, width = canvas.shape[0], canvas.shape[1] // 3
    # 16 bits hold every intermediate value, and a vector register holds twice as many of them as of
    # 32.
    starts = np.repeat(np.arange(width) * SUBPIXEL, 3).astype(np.int16)
    left, right = (
        jnp.clip(jnp.asarray(edge), 0, width * SUBPIXEL).astype(jnp.int16)[..., None]
        for edge in (left, right)
    )
    before_right = jnp.clip(jnp.maximum(right, left) - starts, 0, SUBPIXEL)
    coverage = before_right - jnp.clip(left - starts, 0, SUBPIXEL)
    base = canvas.astype(jnp.int16)
    ink = np.stack([_bytes(color, width) for color in colors]).astype(np.int16)
    mixed = base + (((ink - base) * coverage) >> (SUBPIXEL.bit_length() - 1))
    return jnp.broadcast_to(mixed.astype(jnp.uint8), (height, 3 * width))


@partial(jax.jit, static_argnames=("of",))
def bar(canvas, *, filled, of):
    """Fill a band with a bar that grows from the left: red over the part that is filled, grey over
    the rest.

    canvas: uint8[height, 3 * width]. filled: int32[], 0 ... ``of``. of: an int, below 1000.
    """
    width = canvas.shape[1] // 3
    left, right = (
        edge * width * SUBPIXEL // FRAME_UNITS for edge in (BAR_MARGIN, FRAME_UNITS - BAR_MARGIN)
    )
    canvas = spans(canvas, left=left, right=right, colors="D")
    return spans(canvas, left=left, right=left + (right - left) * filled // of, colors="r")


def disc_half_widths(height, *, top, diameter):
    """Half the width of a disc on each of ``height`` scanlines, in sub-pixels, 0 above and below
    it: NumPy int32[height].

    top: the scanline at the disc's upper edge. diameter: pixels. For spans around the disc's moving
    centre.
    """
    rows = np.arange(height) - top + 0.5 - diameter / 2
    return np.round(np.sqrt(np.maximum((diameter / 2) ** 2 - rows**2, 0)) * SUBPIXEL).astype(
        np.int32
    )


@partial(jax.jit, static_argnames=("y", "length", "thickness", "color"))
def beam(canvas, *, x, y, angle, length, thickness, color):
    """Draw a straight beam that stands on a pivot and leans.

    canvas: uint8[height, 3 * width]. x: int32[], the pivot in 1 / SUBPIXEL of a pixel. y: the row
    whose upper edge holds the pivot. angle: int32[] in 1 / ANGLE_UNIT radian, 0 upright, positive
    to the right, at most 0.6 radian either way. length, thickness: pixels. color: a key of PALETTE.

    Sine and cosine are Taylor polynomials of the fifth degree in integers (error below 1e-4 in that
    range), so that no device's floating point shows in the picture.
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
    above = (
        y - np.arange(canvas.shape[0])
    ) * 2 - 1  # twice the height of each scanline's middle over the pivot, in pixels
    center = x + (above * (SUBPIXEL // 2)) * tangent // ANGLE_UNIT
    tip = 2 * length * cosine // ANGLE_UNIT
    half = jnp.where((above > 0) & (above <= tip), half, 0)
    return spans(canvas, left=center - half, right=center + half, colors=color)


# --- the frame -----------------------------------------------------------------------------------


@partial(jax.jit, static_argnames=("name", "corner_tiles"))
def frame(bands, *, score, name, counter=None, corner_ids=None, corner_tiles=()):
    """Put the score above the field and the game's name below it, and make the observation.

    bands: the field, as one canvas or as a tuple of canvases from top to bottom; together they are
    as high as ``field(obs_size)``. A CPU writes up to about five bands in one go, and more of them
    at half the speed. score: int[], drawn with three digits. name: the text at the bottom. counter:
    int[], a second number, drawn with two digits before the top right corner. corner_ids: int[2],
    indices into ``corner_tiles`` of the tiles in the top left and top right corners, -1 for none.

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
    left = (obs_size - text_width(SCORE_DIGITS, scale)) // 2
    digits_top = (height - GLYPH_HEIGHT * scale + 1) // 2
    top = digits(top, score, top=digits_top, left=left, scale=scale)
    if counter is not None:
        left = obs_size - height - text_width(COUNTER_DIGITS, scale) - 4 * scale
        top = digits(
            top, counter, top=digits_top, left=left, scale=scale, count=COUNTER_DIGITS, color="y"
        )
    rest = obs_size - height - sum(band.shape[0] for band in bands)
    bottom = text(
        blank(rest, obs_size), name, top=(rest - GLYPH_HEIGHT * scale) // 2, scale=scale, color="s"
    )
    return jnp.concatenate([top, *bands, bottom]).reshape(obs_size, obs_size, 3)


PRIMITIVES = (
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
"""Every drawing primitive: what takes a canvas, or bands of canvases, and returns a new one."""
