"""The legal colors are those that frames show, and hardly any others."""

import inspect

import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade import GAMES, render
from popgym_arcade.soak.colors import (
    ColorTracer,
    _followed_functions,
    _mixtures,
    _possible_shares,
    all_legal,
    color_code,
    color_table,
    legal_colors,
)
from tests.soak.steps import played
from tests.testing import compiled, rendered

every_game = pytest.mark.parametrize("name", [game + "Easy" for game in GAMES])


@every_game
@pytest.mark.parametrize("partial_obs", [False, True], ids=["MDP", "POMDP"])
def test_frames_have_the_colors_that_following_the_drawing_finds(name, partial_obs):
    functions = compiled(name, partial_obs)
    colors = legal_colors(functions.env, functions.params)
    assert 4 < len(colors) < 2500
    frames = rendered(name, partial_obs, played(name)[1].after)
    drawn = set((frames.astype(int) @ [65536, 256, 1]).ravel().tolist())
    assert drawn <= colors
    table = color_table(colors)
    assert all_legal(jnp.asarray(frames[0]), table)
    for garbage in ((1, 2, 3), (255, 0, 255), (246, 246, 241)):
        assert not all_legal(
            jnp.asarray(frames[0]).at[-1, -1].set(jnp.array(garbage, jnp.uint8)), table
        )


def test_the_mixtures_of_anti_aliased_edges_are_those_of_the_primitive():
    canvas = render.blank(1, 128)
    for coverage in range(render.SUBPIXEL + 1):
        pixel = render.spans(canvas, left=0, right=jnp.int32(coverage), colors="y")[0, :3]
        background, ink = (color_code(render.PALETTE[color]) for color in "ky")
        assert _mixtures(frozenset([background]), render.PALETTE["y"], frozenset([coverage])) == {
            color_code(pixel)
        }
        assert ink == color_code(pixel) or coverage < render.SUBPIXEL
    assert _possible_shares(np.array([16, 0]), np.array([48, 64]), 2) == [{0, 16}, {0, 32}]
    assert _possible_shares(jnp.int32(16), 48, 1) == [frozenset(range(33))]


def names_in(code):
    """The global names that a function's code uses, its inner functions' included."""
    inner = [names_in(constant) for constant in code.co_consts if inspect.iscode(constant)]
    return set(code.co_names).union(*inner)


def test_every_function_of_render_that_takes_colors_from_the_palette_is_followed():
    functions = {name: inspect.unwrap(value) for name, value in vars(render).items()}
    users = {
        name: names_in(function.__code__) & {"PALETTE", "parse_art", "_bytes"}
        for name, function in functions.items()
        if inspect.isfunction(function)
    }
    followed = _followed_functions(ColorTracer()).keys()
    assert {name for name, used in users.items() if used} - followed == {"parse_art"}
