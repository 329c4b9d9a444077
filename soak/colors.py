"""Which colors a frame may show, found by following the drawing while it is traced.

``legal_colors`` replaces the functions of render.py, for one trace, by versions that report
what they draw to a ``ColorTracer``. The replaced functions are ``render.PRIMITIVES`` and the
helpers listed in ``_followed_functions``.
"""

import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import render
from popgym_arcade.wrappers import Environment

__all__ = ["all_legal", "color_code", "color_table", "legal_colors"]

Colors = frozenset[int]  # color codes


def color_code(rgb: Sequence[Any] | np.ndarray | jax.Array) -> int:
    """A color as one number: (red, green, blue) -> red * 65536 + green * 256 + blue."""
    return (int(rgb[0]) << 16) | (int(rgb[1]) << 8) | int(rgb[2])


def legal_colors(env: Environment, params: Any) -> set[int]:
    """Every color that an environment's frames can show, as color codes.

    Tiles contribute the colors of the size they are drawn at, and anti-aliased edges the mixtures
    of colors that meet on one scanline. The set does not say which pixel may have which color, and
    it includes mixtures of edges that could overlap but never do.
    """
    tracer = ColorTracer()
    with mock.patch.multiple(render, **_followed_functions(tracer)):
        _, state = jax.eval_shape(lambda key: env.reset(key, params), jax.random.key(0))
        jax.eval_shape(lambda state: env.render(state, params), state)
    return tracer.everything


def color_table(colors: Iterable[int]) -> jax.Array:
    """A look-up table of colors: bool[2**24], true at the code of each."""
    table = np.zeros(1 << 24, bool)
    table[list(colors)] = True
    return jnp.asarray(table)


def all_legal(frame: jax.Array, table: jax.Array) -> jax.Array:
    """Whether every pixel of a frame, uint8[height, width, 3], is in a color table: bool[]."""
    red, green, blue = (frame[..., channel].astype(jnp.int32) for channel in range(3))
    return jnp.all(table[(red << 16) | (green << 8) | blue])


# --- following the drawing -----------------------------------------------------------------------


def _followed_functions(tracer: "ColorTracer") -> dict[str, Any]:
    """The functions of render.py to replace, by name, with the versions that report to a tracer.

    The primitives are unwrapped: a jitted one would not run its Python code again for a shape that
    it has been traced for before.
    """
    primitives = {
        primitive.__name__: tracer.follow_painter(inspect.unwrap(primitive))
        for primitive in render.PRIMITIVES
    }
    return primitives | {
        "blank": tracer.follow_painter(render.blank),
        "spans": tracer.follow_spans(inspect.unwrap(render.spans)),
        "tile_texture": tracer.follow_pixels(render.tile_texture),
        "_bytes": tracer.follow_pixels(render._bytes),
    }


class ColorTracer:
    """Collects the colors that a drawing can give to its pixels.

    It follows a canvas as one set of colors for each scanline. A tile adds the colors of its
    texture, an ink its own color, and anti-aliased edges all possible mixtures of their ink with
    the colors on the scanline.
    """

    def __init__(self) -> None:
        """Start with no colors."""
        self.everything: set[int] = set()
        # id of a canvas -> (the canvas, kept alive so that its id stays its own; its scanlines)
        self._lines: dict[int, tuple[Any, list[Colors]]] = {}
        self._used: list[set[int]] = []  # by each primitive that is being traced, outermost first

    def follow_pixels(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function that returns pixels: the primitives that call it use their colors."""

        def followed(*arguments, **options):
            pixels = function(*arguments, **options)
            colors = set(map(color_code, np.unique(np.asarray(pixels).reshape(-1, 3), axis=0)))
            self.everything |= colors
            for used in self._used:
                used |= colors
            return pixels

        return followed

    def follow_painter(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a primitive, or ``blank``: each scanline may get any color that it used."""

        def followed(*arguments, **options):
            self._used.append(set())
            painted = function(*arguments, **options)
            used = frozenset(self._used.pop())
            is_canvas = painted.ndim == 2  # a frame is not
            if is_canvas and id(painted) not in self._lines:
                below = [frozenset()] * painted.shape[0]
                if hasattr(arguments[0], "ndim"):  # it painted on a canvas
                    below = self._of(arguments[0])
                self._learn(painted, [line | used for line in below])
            return painted

        return followed

    def follow_spans(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``spans``, the primitive with anti-aliased edges."""

        def followed(canvas, *, left, right, colors):
            painted = function(canvas, left=left, right=right, colors=colors)
            lines = self._of(canvas)
            each = colors * len(lines) if len(colors) == 1 else colors
            inks = [tuple(render.PALETTE[color]) for color in each]
            shares = _possible_shares(left, right, len(lines))
            mixed = map(_mixtures, lines, inks, shares)
            return self._learn(painted, [line | more for line, more in zip(lines, mixed)])

        return followed

    def _of(self, canvas):
        """The colors on each scanline of a canvas; for an unknown canvas, every color so far."""
        known = self._lines.get(id(canvas))
        return known[1] if known else [frozenset(self.everything)] * canvas.shape[0]

    def _learn(self, canvas, lines):
        """Remember which colors each scanline of a canvas may show, and return the canvas."""
        self._lines[id(canvas)] = canvas, lines
        self.everything.update(*set(lines))
        return canvas


def _possible_shares(left, right, height):
    """How much of a pixel spans may cover on each scanline: [frozenset of int], one per scanline.

    The shares are in units of 1 / render.SUBPIXEL. left, right: as in ``render.spans``; edges that
    are traced may be anywhere.
    """
    if not all(isinstance(edge, int | np.integer | np.ndarray) for edge in (left, right)):
        return [frozenset(range(render.SUBPIXEL + 1))] * height
    edges = np.broadcast_arrays(left, np.maximum(left, right), np.zeros(height, int))[:2]
    starts = np.arange(0, 1024 * render.SUBPIXEL, render.SUBPIXEL)

    @functools.cache
    def shares(begin, end):
        before_end = np.clip(end - starts, 0, render.SUBPIXEL)
        return frozenset((before_end - np.clip(begin - starts, 0, render.SUBPIXEL)).tolist())

    return list(itertools.starmap(shares, np.stack(edges, axis=1).tolist()))


@functools.cache
def _mixtures(colors, ink, shares):
    """An ink mixed with each of some colors in each of some shares: a frozenset of color codes.

    colors: frozenset of color codes. ink: (red, green, blue). shares: frozenset of int, in units of
    1 / render.SUBPIXEL.
    """
    channels = [[color >> 16, color >> 8 & 255, color & 255] for color in colors]
    base = np.array(channels).reshape(-1, 1, 3)
    parts = np.array(sorted(shares))[None, :, None]
    mixed = base + ((np.array(ink) - base) * parts) // render.SUBPIXEL
    return frozenset((mixed @ [65536, 256, 1]).reshape(-1).tolist())
