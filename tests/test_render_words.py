"""Tests that drawing in words, as on a GPU, yields the bytes of drawing along scanlines.

Both ways run on the CPU here. ``test_games.py`` compares them on the games' frames.
"""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade import render as draw
from tests.testing import drawn_in_words

INPUTS = 256  # random inputs per case
HEIGHT, WIDTH = 26, 44  # of most canvases, in pixels
SUB = draw.SUBPIXEL
TILES = tuple((color,) for color in draw.PALETTE)
CORNERS = """
rr..
....
...g
.b.g
"""


def numbers(low, high, *shape):
    """How to draw one int32 input: random integers in [low, high]."""
    return lambda random: random.integers(low, high + 1, (INPUTS, *shape)).astype(np.int32)


def board(rows, columns, choices, **options):
    """A case of ``board``, with ids that are no index, too."""
    return (
        lambda canvas, ids: draw.board(canvas, ids, tiles=TILES[:choices], **options),
        numbers(-2, choices + 1, rows, columns),
    )


# Each primitive's cases: (canvas, *inputs) -> canvas, and how each input is drawn.
CASES = {
    "board": [
        board(3, 5, 4),
        board(2, 3, 1, size=12, top=-5, left=-7),  # cut off at the top and the left
        board(3, 4, 6, size=11, top=7, left=9),  # and at the bottom and the right
        board(4, 3, 3, size=5, step=13),  # columns with gaps
        board(20, 40, 2, size=1),  # a word covers two cells of one pixel
        board(2, 4, 16),  # too many choices for a table of pairs
        board(1, 1, 15, size=26),
        board(2, 2, 3, size=4, top=99),
        board(2, 2, 3, size=4, left=-99),
    ],
    "cells": [
        (
            lambda canvas, ids, options=options: draw.cells(canvas, ids, **options),
            numbers(0, len(options["colors"]) - 1, 4, 6),
        )
        for options in (
            dict(colors="rgbw", size=(5, 6), top=3, left=2, gap=1),
            dict(colors="rg", size=(7, 9), top=-4, left=-3),
            dict(colors="r", size=(6, 7), top=3, left=5, gap=2),
        )
    ],
    "glyphs": [
        (
            lambda canvas, ids, inks: draw.glyphs(
                canvas,
                ids,
                glyphs=tuple("0123456789"),
                inks="rgbcyw",
                ink_ids=inks,
                size=(9, 8),
                top=-2,
                left=3,
                gap=1,
            ),
            numbers(-1, 10, 3, 5),
            numbers(0, 5, 3, 5),
        ),
        (
            lambda canvas, ids: draw.glyphs(
                canvas, ids, glyphs=tuple("ABC"), inks="rgb", size=(8, 6), top=1, left=-4
            ),
            numbers(-1, 3, 3, 9),
        ),
        (
            lambda canvas, ids: draw.glyphs(
                canvas, ids, glyphs=("##. #.#", "... .##"), inks="y", size=(5, 7), top=2
            ),
            numbers(-1, 2, 4, 6),
        ),
    ],
    "glyph": [
        (
            lambda canvas, index, row, column: draw.glyph(
                canvas,
                index,
                glyphs=tuple("XYZ"),
                row=row,
                column=column,
                columns=6,
                size=(7, 7),
                ink="o",
                top=-3,
                left=4,
            ),
            numbers(-1, 3),
            numbers(-1, 5),
            numbers(-1, 6),
        )
    ],
    "digits": [
        (
            lambda canvas, number, options=options: draw.digits(canvas, number, **options),
            numbers(-9, 10 ** min(options.get("count", 3) + 1, 9)),
        )
        for options in (
            dict(top=2, left=5),
            dict(top=-3, left=-8, scale=2),
            dict(top=15, left=30, scale=2, count=2, color="y"),
            dict(top=8, left=1, count=5),
            dict(top=1, left=-70),
        )
    ],
    "text": [(lambda canvas: draw.text(canvas, "HI 7", top=4, left=-3, scale=2, color="p"),)],
    "rectangle": [
        (lambda canvas: draw.rectangle(canvas, top=-2, bottom=9, left=5, right=99, color="m"),),
        (lambda canvas: draw.rectangle(canvas, left=7, right=7, color="m"),),
    ],
    "sprite": [
        (
            lambda canvas, left, top=top: draw.sprite(canvas, CORNERS, size=9, top=top, left=left),
            numbers(-60, 60),
        )
        for top in (3, -4, 20, 30)
    ],
    "spans": [
        (
            lambda canvas, left, right: draw.spans(
                canvas, left=left, right=right, colors="rg" * (HEIGHT // 2)
            ),
            numbers(-9 * SUB, (WIDTH + 9) * SUB, HEIGHT),
            numbers(-9 * SUB, (WIDTH + 9) * SUB, HEIGHT),
        ),
        (
            lambda canvas, left: draw.spans(canvas, left=left, right=left + 40, colors="k"),
            numbers(-2 * SUB, WIDTH * SUB),
        ),
    ],
    "bar": [(lambda canvas, filled: draw.bar(canvas, filled=filled, of=17), numbers(0, 17))],
    "beam": [
        (
            lambda canvas, x, angle: draw.beam(
                canvas, x=x, y=24, angle=angle, length=20, thickness=3, color="o"
            ),
            numbers(-5 * SUB, (WIDTH + 5) * SUB),
            numbers(-9000, 9000),
        )
    ],
}


def in_both_ways(function, *inputs):
    """What a function draws on a batch of inputs, along scanlines and in words: NumPy arrays."""
    ways = jax.jit(jax.vmap(function))(*inputs), None
    with drawn_in_words():
        # A new function, so that nothing of the other way is in JAX's caches.
        ways = ways[0], jax.jit(jax.vmap(lambda *some: function(*some)))(*inputs)
    return tuple(map(np.asarray, ways))


@pytest.mark.parametrize("primitive", [p.__name__ for p in draw.PRIMITIVES if p is not draw.frame])
def test_a_primitive_draws_the_same_in_words_as_along_scanlines(primitive):
    random = np.random.default_rng(len(primitive))
    for function, *inputs in CASES[primitive]:
        canvas = random.integers(0, 256, (INPUTS, HEIGHT, 3 * WIDTH)).astype(np.uint8)
        scanlines, words = in_both_ways(function, canvas, *(draws(random) for draws in inputs))
        assert words.dtype == np.uint8
        np.testing.assert_array_equal(words, scanlines)


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_a_frame_is_the_same_in_words_as_along_scanlines(bands):
    def assembled(field, score, counter, corners):
        return draw.frame(
            field if bands == 1 else tuple(jnp.array_split(field, bands)),
            score=score,
            counter=counter,
            name="NAME",
            corner_ids=corners,
            corner_tiles=draw.CARDS,
        )

    random = np.random.default_rng(bands)
    field = random.integers(0, 256, (8, draw.field_row(128, draw.FIELD_UNITS), 384))
    scanlines, words = in_both_ways(
        assembled,
        field.astype(np.uint8),
        *(numbers(*edges)(random)[:8] for edges in ((0, 1200), (0, 120), (-1, 4, 2))),
    )
    np.testing.assert_array_equal(words, scanlines)


def test_there_are_no_words_for_canvases_of_a_width_that_is_no_multiple_of_four():
    canvas = np.zeros((2, 9, 3 * 7), np.uint8)
    scanlines, words = in_both_ways(lambda some: draw.text(some, "A", top=0, left=0), canvas)
    np.testing.assert_array_equal(words, scanlines)
    assert words.any()


def test_a_program_has_one_of_the_two_ways():
    def compiled():
        square = inspect.unwrap(draw.rectangle)
        drawn = jax.jit(lambda canvas: square(canvas, right=3, color="r"))
        return drawn.lower(np.zeros((9, 24), np.uint8)).compile().as_text()

    assert "u32" not in compiled()
    with drawn_in_words():
        assert "u32" in compiled()


def test_no_color_has_a_channel_of_zero_which_stands_for_transparent_in_words():
    assert all(min(rgb) > 0 for rgb in draw.PALETTE.values())
