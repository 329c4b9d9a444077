"""Tests of docs/memory.md: it is what its script generates from the figures."""

import json

import pytest

from popgym_arcade.registry import GAMES
from tests.testing import ROOT, script

make_memory = script("docs/make_memory.py")
FIGURES = json.loads((ROOT / "docs" / "memory.json").read_text())


def test_the_page_is_up_to_date():
    assert make_memory.PAGE.read_text() == make_memory.page(FIGURES)


@pytest.mark.parametrize("game", GAMES)
def test_the_page_says_what_must_be_remembered_and_shows_a_picture(game):
    section = make_memory.page(FIGURES).partition(f"### {game}: ")[2].partition("### ")[0]
    assert len(section.split("\n\n")[2]) > 100
    assert f"memory/{game}.png" in section
    assert (make_memory.PICTURES / f"{game}.png").stat().st_size > 5000
