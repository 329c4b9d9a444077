"""Tests of the drawing primitives: their pixels, and their contract by reflection."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade import render as draw

SUB = draw.SUBPIXEL
DOT = "w"
CORNERS = """
r.g
...
b.y
"""
every_primitive = pytest.mark.parametrize(
    "primitive", draw.PRIMITIVES, ids=[primitive.__name__ for primitive in draw.PRIMITIVES]
)


def picture(canvas):
    """A canvas as uint8[height, width, 3]."""
    return np.asarray(canvas).reshape(canvas.shape[0], -1, 3)


def letters(canvas):
    """A canvas as rows of PALETTE keys, '?' for a mixed color, '.' for the background."""
    keys = {rgb: "." if key == draw.BACKGROUND else key for key, rgb in draw.PALETTE.items()}
    return [
        "".join(keys.get(tuple(int(c) for c in pixel), "?") for pixel in row)
        for row in picture(canvas)
    ]


def test_a_board_puts_each_tile_in_its_cell_and_leaves_unknown_ids_alone():
    canvas = draw.blank(6, 8, color="s")
    ids = jnp.array([[0, 1, -1], [2, 99, 0]])
    assert letters(draw.board(canvas, ids, tiles=(("r",), ("g",), ("b",)))) == [
        "ssssssss",
        "srrggsss",
        "srrggsss",
        "sbbssrrs",
        "sbbssrrs",
        "ssssssss",
    ]


def test_a_boards_size_place_and_step_can_be_given_and_it_is_clipped_at_every_side():
    canvas, ids, tiles = draw.blank(4, 6, color="k"), jnp.array([[0, 1], [1, 0]]), (("r",), ("g",))
    assert letters(draw.board(canvas, ids, tiles=tiles, size=1, top=1, left=1, step=3)) == [
        "......",
        ".r..g.",
        ".g..r.",
        "......",
    ]
    assert letters(draw.board(canvas, ids, tiles=tiles, size=2, top=-1, left=-1)) == [
        "rgg...",
        "grr...",
        "grr...",
        "......",
    ]
    assert letters(draw.board(canvas, ids, tiles=tiles, size=3, top=2, left=2)) == [
        "......",
        "......",
        "..rrrg",
        "..rrrg",
    ]


@pytest.mark.parametrize(
    "place",
    [
        dict(top=4),
        dict(top=9),
        dict(top=-6),
        dict(left=6),
        dict(left=-6),
        dict(left=99),
        dict(top=-99),
    ],
)
def test_a_board_outside_the_canvas_leaves_it_as_it_is(place):
    canvas = draw.blank(4, 6, color="b")
    drawn = draw.board(
        canvas,
        jnp.zeros((2, 2), jnp.int32),
        tiles=(("r",),),
        size=3,
        **{"top": 0, "left": 0, **place},
    )
    assert np.array_equal(drawn, canvas)


def test_layers_of_a_tile_lie_over_one_another_and_art_has_no_size():
    texture = draw.tile_texture(("s", CORNERS), 6)
    keys = [[tuple(int(c) for c in pixel) for pixel in row] for row in texture]
    silver = draw.PALETTE["s"]
    assert keys[0] == [draw.PALETTE["r"]] * 2 + [silver] * 2 + [draw.PALETTE["g"]] * 2
    assert (
        keys[2] == [silver] * 6
        and keys[5][0] == draw.PALETTE["b"]
        and keys[5][5] == draw.PALETTE["y"]
    )
    mixed = draw.tile_texture(("wk",), 1)[0, 0]
    half = (np.array(draw.PALETTE["w"]) + np.array(draw.PALETTE["k"])) / 2
    np.testing.assert_array_equal(mixed, np.floor(half + 0.5))


def test_cells_have_one_color_each_and_leave_their_gap_free():
    canvas, ids = draw.blank(6, 8, color="s"), jnp.array([[0, 1], [2, 0]])
    assert letters(draw.cells(canvas, ids, colors="rgb", size=(2, 3), top=1, left=1)) == [
        "ssssssss",
        "srrrgggs",
        "srrrgggs",
        "sbbbrrrs",
        "sbbbrrrs",
        "ssssssss",
    ]
    assert letters(draw.cells(canvas, ids, colors="rgb", size=(2, 3), top=1, left=1, gap=1)) == [
        "ssssssss",
        "srrsggss",
        "ssssssss",
        "sbbsrrss",
        "ssssssss",
        "ssssssss",
    ]
    assert letters(draw.cells(canvas, ids, colors="rgb", size=(3, 3), top=-2, left=-1)) == [
        *["rrgggsss"],
        *["bbrrrsss"] * 3,
        *["ssssssss"] * 2,
    ]


CROSS, BLOCK = "#.# .#. #.#", "### ### ###"


def test_glyphs_ink_their_cells_and_leave_the_rest():
    canvas, ids = draw.blank(6, 9, color="s"), jnp.array([[0, 1], [-1, 0]])
    options = dict(glyphs=(CROSS, BLOCK), size=(3, 4), left=1)
    assert letters(draw.glyphs(canvas, ids, inks="rg", **options)) == [
        "srsrsgggs",
        "ssrssgggs",
        "srsrsgggs",
        "sssssrsrs",
        "ssssssrss",
        "sssssrsrs",
    ]
    inks = jnp.array([[2, 0], [0, 1]])
    assert letters(draw.glyphs(canvas, ids, inks="rgb", ink_ids=inks, **options))[::3] == [
        "sbsbsrrrs",
        "sssssgsgs",
    ]
    assert letters(draw.glyphs(canvas, ids, inks="y", **options))[::3] == ["sysysyyys", "sssssysys"]
    cut = letters(
        draw.glyphs(canvas, ids, inks="rg", glyphs=(CROSS, BLOCK), size=(3, 4), top=-2, left=-1)
    )
    assert cut == ["srsgggsss", "sssrsrsss", "ssssrssss", "sssrsrsss", "sssssssss", "sssssssss"]


def test_glyphs_are_drawn_as_large_as_whole_pixels_allow_in_the_middle_of_the_cell():
    canvas, ids = draw.blank(7, 8), jnp.array([[0]])
    assert letters(draw.glyphs(canvas, ids, glyphs=(CROSS,), inks="r", size=(7, 8))) == [
        *[".rr..rr."] * 2,
        *["...rr..."] * 2,
        *[".rr..rr."] * 2,
        "........",
    ]
    assert letters(draw.glyphs(draw.blank(2, 2), ids, glyphs=(BLOCK,), inks="r", size=(2, 2))) == [
        "rr",
        "rr",
    ]


@pytest.mark.parametrize(
    ("row", "column", "index"), [(0, 0, 0), (1, 2, 1), (2, 1, 0), (1, 1, -1), (1, 1, 7), (5, 0, 0)]
)
def test_a_moving_glyph_is_what_a_board_with_one_glyph_is(row, column, index):
    canvas = draw.blank(11, 14, color="b")
    ids = jnp.where((np.arange(3)[:, None] == row) & (np.arange(3) == column), index, -1)
    options = dict(glyphs=(CROSS, BLOCK), size=(3, 4), top=1, left=1)
    moving = draw.glyph(
        canvas,
        jnp.int32(index),
        row=jnp.int32(row),
        column=jnp.int32(column),
        columns=3,
        ink="o",
        **options,
    )
    assert np.array_equal(moving, draw.glyphs(canvas, ids, inks="o", **options))


@pytest.mark.parametrize("draws", [draw.glyphs, draw.cells], ids=["glyphs", "cells"])
@pytest.mark.parametrize("place", [dict(top=9), dict(top=-9), dict(left=30), dict(left=-30)])
def test_cells_and_glyphs_outside_the_canvas_leave_it_as_it_is(draws, place):
    canvas, ids = draw.blank(4, 6, color="b"), jnp.zeros((2, 2), jnp.int32)
    options = dict(colors="r") if draws is draw.cells else dict(glyphs=(BLOCK,), inks="r")
    assert np.array_equal(draws(canvas, ids, size=(3, 3), **options, **place), canvas)


@pytest.mark.parametrize(
    ("glyphs", "word"), [((CROSS, "#"), "one height"), (("# " * 9,), "at most 8 rows")]
)
def test_glyphs_that_cannot_be_drawn_are_refused(glyphs, word):
    with pytest.raises(ValueError, match=word):
        draw.glyphs(
            draw.blank(9, 9), jnp.zeros((1, 1), jnp.int32), glyphs=glyphs, inks="r", size=(9, 9)
        )


def test_a_rectangle_fills_what_it_is_told_and_is_clipped():
    canvas = draw.blank(3, 4)
    assert letters(draw.rectangle(canvas, top=1, bottom=2, left=1, right=3, color="r")) == [
        "....",
        ".rr.",
        "....",
    ]
    assert letters(draw.rectangle(canvas, left=2, color="g")) == ["..gg"] * 3
    assert letters(draw.rectangle(canvas, top=-5, bottom=1, left=-2, right=99, color="b")) == [
        "bbbb",
        "....",
        "....",
    ]
    assert np.array_equal(draw.rectangle(canvas, left=3, right=1, color="b"), canvas)


@pytest.mark.parametrize(("filled", "red"), [(0, 0), (1, 30), (2, 60), (4, 120)])
def test_a_bar_is_red_as_far_as_it_is_filled(filled, red):
    (row,) = letters(draw.bar(draw.blank(1, 128), filled=jnp.int32(filled), of=4))
    assert row == "." * 4 + "r" * red + "D" * (120 - red) + "." * 4


def test_cards_differ_in_shape_and_in_color():
    white = draw.tile_texture(("w",), 11).astype(int)
    textures = [draw.tile_texture(card, 11).astype(int) for card in draw.CARDS]
    shapes = [np.any(texture != white, axis=2) for texture in textures]
    colors = [texture[3:8, 3:8].min(axis=(0, 1)) for texture in textures]
    for i in range(4):
        for j in range(i):
            assert np.sum(shapes[i] != shapes[j]) >= 4 and np.abs(colors[i] - colors[j]).max() >= 50


@pytest.mark.parametrize(("art", "word"), [("rr\nr", "one length"), ("r!", "!"), ("rrQ", "Q")])
def test_faulty_art_is_refused_by_name(art, word):
    with pytest.raises(ValueError, match=word):
        draw.tile_texture((art,), 4)


def test_every_glyph_is_seven_by_five_and_no_two_are_alike():
    assert set(draw.FONT) == set(" 0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert all(glyph.shape == (7, 5) for glyph in draw.FONT.values())
    assert len({glyph.tobytes() for glyph in draw.FONT.values()}) == len(draw.FONT)
    differences = [
        np.sum(a != b)
        for i, a in enumerate(draw.FONT.values())
        for b in list(draw.FONT.values())[:i]
    ]
    assert min(differences) >= 2


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "000"), (7, "007"), (42, "042"), (999, "999"), (1000, "999"), (-3, "000")],
)
def test_digits_draw_the_number_that_text_would(number, shown, scale):
    blank = draw.blank(9 * scale, 20 * scale)
    place = dict(top=scale, left=scale, scale=scale)
    np.testing.assert_array_equal(
        draw.digits(blank, jnp.int32(number), **place), draw.text(blank, shown, **place)
    )


def test_text_is_centered_drawn_in_capitals_and_clipped():
    canvas = draw.blank(7, 9)
    rows = letters(draw.text(canvas, "i", top=0, color="g"))
    assert rows == ["..ggggg..", *["....g...."] * 5, "..ggggg.."]
    cut = letters(draw.text(canvas, "I", top=-6, left=-1, color="g"))
    assert cut[0] == "gggg....." and set("".join(cut[1:])) == {"."}
    out = letters(draw.text(canvas, "I", top=5, left=7, color="g"))
    assert out[5:] == [".......gg", "........."] and set("".join(out[:5])) == {"."}
    assert np.array_equal(draw.text(canvas, "I", top=20, left=3), canvas)


@pytest.mark.parametrize("left", [-9, -3, -2, 0, 2, 4, 5, 30])
@pytest.mark.parametrize("top", [-2, 0, 1, 3, 9])
def test_a_sprite_moves_keeps_what_is_behind_it_and_is_clipped(left, top):
    height, width = 4, 5
    expected = [["s"] * width for _ in range(height)]
    for row, line in enumerate(CORNERS.split()):
        for column, pixel in enumerate(line):
            if pixel != "." and 0 <= top + row < height and 0 <= left + column < width:
                expected[top + row][left + column] = pixel
    drawn = draw.sprite(
        draw.blank(height, width, color="s"), CORNERS, size=3, top=top, left=jnp.int32(left)
    )
    assert letters(drawn) == ["".join(row) for row in expected]


def test_spans_cover_pixels_in_proportion():
    canvas = draw.blank(3, 6)
    left, right = jnp.array([SUB, 40, 5 * SUB]), jnp.array([3 * SUB, 72, SUB])
    image = picture(draw.spans(canvas, left=left, right=right, colors="w")).astype(int)
    background, ink = (np.array(draw.PALETTE[key]) for key in "kw")
    coverage = np.zeros((3, 6))
    coverage[0, 1:3] = 1
    coverage[1, 1], coverage[1, 2] = 24 / 32, 8 / 32
    expected = background + np.floor((ink - background) * coverage[..., None])
    np.testing.assert_array_equal(image, expected)


def test_spans_clip_at_both_sides_and_may_have_a_color_for_each_scanline():
    canvas = draw.blank(2, 4)
    assert letters(draw.spans(canvas, left=-1000, right=2 * SUB, colors="rg")) == ["rr..", "gg.."]
    assert letters(draw.spans(canvas, left=3 * SUB, right=10**6, colors="b")) == ["...b"] * 2
    assert np.array_equal(draw.spans(canvas, left=-(10**6), right=-(10**5), colors="b"), canvas)


def test_every_sub_pixel_of_a_spans_edge_shows():
    canvas = draw.blank(1, 4)
    images = {
        np.asarray(draw.spans(canvas, left=0, right=SUB + part, colors="w")).tobytes()
        for part in range(SUB)
    }
    assert len(images) == SUB


def test_disc_half_widths_are_those_of_a_circle():
    half = draw.disc_half_widths(9, top=2, diameter=5)
    assert half.tolist()[:2] == [0, 0] and half.tolist()[7:] == [0, 0]
    heights = np.arange(5) - 2
    np.testing.assert_allclose(half[2:7], SUB * np.sqrt(2.5**2 - heights**2), atol=0.5)


@pytest.mark.parametrize("angle", [-0.2, -0.05, 0.0, 0.001, 0.1, 0.2094])
def test_a_beam_is_a_leaning_rectangle(angle):
    size, length, thickness = 64, 50, 4
    canvas = draw.blank(size, size)
    fixed = draw.fixed_point(jnp.float32(angle), scale=draw.ANGLE_UNIT)
    drawn = draw.beam(
        canvas,
        x=jnp.int32(32 * SUB),
        y=size,
        angle=fixed,
        length=length,
        thickness=thickness,
        color="w",
    )
    background, ink = (np.array(draw.PALETTE[key], float) for key in "kw")
    coverage = ((picture(drawn) - background) / (ink - background)).mean(axis=2)
    fine = (np.arange(size * 8) + 0.5) / 8  # the same by brute force, 8 x 8 samples a pixel
    x, up = fine[None, :] - 32, size - fine[:, None]
    across, along = x * np.cos(angle) - up * np.sin(angle), x * np.sin(angle) + up * np.cos(angle)
    inside = (np.abs(across) <= thickness / 2) & (along <= length)
    expected = inside.reshape(size, 8, size, 8).mean(axis=(1, 3))
    middle = slice(size - length + 4, size - 2)
    assert np.abs(coverage - expected)[middle].max() < 0.15
    assert abs(coverage.sum() - expected.sum()) < 0.02 * expected.sum() + 2


def test_fixed_point_rounds_to_the_nearest():
    values = draw.fixed_point(jnp.array([0.0, 0.26, -0.26, 0.124, 0.126]), scale=4)
    assert values.dtype == jnp.int32 and values.tolist() == [0, 1, -1, 0, 1]


@pytest.mark.parametrize("obs_size", [96, 128, 192, 256])
def test_the_bands_of_a_field_leave_no_gap(obs_size):
    edges = [0, 3, 10, 21, 83, 92, 98, 104]
    bands = [
        draw.field(obs_size, top=top, bottom=bottom).shape[0]
        for top, bottom in zip(edges, edges[1:])
    ]
    assert sum(bands) == draw.field(obs_size).shape[0] and min(bands) > 0


@pytest.mark.parametrize("obs_size", draw.OBS_SIZES)
def test_a_frame_has_the_score_on_top_the_name_below_and_corners(obs_size):
    tiles, ids = (("r",), ("g",)), jnp.array([1, -1])
    frame = draw.frame(
        draw.field(obs_size, color="b"),
        score=jnp.int32(12),
        name="Game",
        corner_ids=ids,
        corner_tiles=tiles,
    )
    assert frame.shape == (obs_size, obs_size, 3) and frame.dtype == jnp.uint8
    rows = letters(frame.reshape(obs_size, -1))
    scale = obs_size // 128
    field = [row for row in rows if set(row) == {"b"}]
    assert len(field) == 104 * scale and rows.index(field[0]) == 14 * scale
    top, bottom = rows[: 14 * scale], rows[118 * scale :]
    assert sum(row.count("w") for row in top) == scale**2 * sum(draw.FONT[c].sum() for c in "012")
    assert sum(row.count("s") for row in bottom) == scale**2 * sum(
        draw.FONT[c].sum() for c in "GAME"
    )
    for part, ink in ((top, "w"), (bottom, "s")):
        columns = [i for row in part for i, pixel in enumerate(row) if pixel == ink]
        # Centered, up to the blank columns of the glyphs.
        assert abs(min(columns) + max(columns) + 1 - obs_size) <= 4 * scale
        assert all(ink not in row for row in (part[0], part[-1]))
    assert top[4 * scale][: obs_size // 2].count("g") == 12 * scale and not any(
        "r" in row for row in top
    )


@pytest.mark.parametrize("obs_size", draw.OBS_SIZES)
def test_a_frames_counter_stands_between_the_score_and_the_right_corner(obs_size):
    field, scale = draw.field(obs_size), obs_size // 128
    frames = [
        draw.frame(field, score=jnp.int32(0), name="Game", counter=counter)
        for counter in (None, jnp.int32(12), jnp.int32(13))
    ]
    without, with_12, with_13 = (np.asarray(frame) for frame in frames)
    columns = np.flatnonzero(np.any(with_12 != without, axis=(0, 2)))
    assert columns.min() > (64 + 9) * scale and columns.max() < (128 - 14) * scale
    yellow = np.all(with_12 == draw.PALETTE["y"], axis=2).sum()
    assert yellow == scale**2 * sum(draw.FONT[c].sum() for c in "12") and not np.array_equal(
        with_12, with_13
    )


# --- the contract, by reflection -----------------------------------------------------------------


def functions_of_render():
    """Every function that render.py defines, compiled or not: {name: function}."""
    return {
        name: member
        for name, member in vars(draw).items()
        if inspect.isfunction(inspect.unwrap(member)) and member.__module__ == draw.__name__
    }


def is_compiled(function):
    """Whether a function went through jax.jit."""
    return hasattr(function, "lower") and hasattr(function, "trace")


def test_primitives_lists_every_compiled_function_that_draws_on_a_canvas_or_bands():
    drawing = {
        name
        for name, function in functions_of_render().items()
        if is_compiled(function)
        and next(iter(inspect.signature(function).parameters)) in ("canvas", "bands")
    }
    listed = [primitive.__name__ for primitive in draw.PRIMITIVES]
    assert sorted(listed) == sorted(drawing), (
        "render.PRIMITIVES must list every jit-compiled function of render.py whose first argument "
        "is a canvas or bands, once each"
    )
    assert all(getattr(draw, name) in draw.PRIMITIVES for name in listed)


@every_primitive
def test_primitives_keep_the_contract(primitive):
    first, *others = inspect.signature(primitive).parameters.values()
    documented = inspect.getdoc(primitive)
    if primitive is draw.frame:
        assert first.name == "bands" and "bands:" in documented
        others = [first, *others]  # all but the bands are options
    else:
        assert first.name == "canvas" and "canvas: uint8[height, 3 * width]" in documented
    assert all(option.kind is inspect.Parameter.KEYWORD_ONLY for option in others[1:])
    assert is_compiled(primitive)
    for parameter in (first, *others):
        assert re.search(rf"\b{parameter.name}\b", documented), parameter.name


def test_every_public_function_is_documented_and_annotated_and_in_all():
    for name, function in functions_of_render().items():
        assert name.startswith("_") or name in draw.__all__, name
        if name in draw.__all__:
            signature = inspect.signature(function)
            assert inspect.getdoc(function), name
            assert signature.return_annotation is not inspect.Signature.empty, name
            for parameter in signature.parameters.values():
                assert parameter.annotation is not inspect.Parameter.empty, (name, parameter.name)


def test_drawing_is_the_same_under_jit_vmap_and_eagerly():
    def scene(number, angle):
        canvas = draw.digits(draw.blank(40, 40), number, top=2, left=3)
        canvas = draw.beam(
            canvas, x=number * 4, y=38, angle=angle, length=30, thickness=3, color="o"
        )
        return draw.sprite(canvas, CORNERS, size=9, top=20, left=number)

    numbers, angles = jnp.array([1, 20, 345]), jnp.array([-3000, 0, 1234])
    batch = jax.jit(jax.vmap(scene))(numbers, angles)
    for i in range(3):
        np.testing.assert_array_equal(scene(numbers[i], angles[i]), batch[i])
        with jax.disable_jit():
            np.testing.assert_array_equal(scene(numbers[i], angles[i]), batch[i])
