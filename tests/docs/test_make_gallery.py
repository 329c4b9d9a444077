"""Tests of docs/make_gallery.py and of the gallery, which shows the games as they are drawn."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageSequence

from popgym_arcade import GAMES
from tests.testing import ROOT, script

GALLERY = ROOT / "docs" / "gallery"
make_gallery = script("docs/make_gallery.py")


def animation(path):
    """A GIF's frames, uint8[count, height, width, 3], and their durations in milliseconds."""
    with Image.open(path) as image:
        shown = [
            (np.asarray(frame.convert("RGB")), frame.info["duration"])
            for frame in ImageSequence.Iterator(image)
        ]
    return np.stack([frame for frame, _ in shown]), [duration for _, duration in shown]


def test_outside_a_clone_the_gallery_wants_to_know_where_to_go(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(make_gallery, "FOLDER", tmp_path / "docs" / "gallery")
    monkeypatch.setattr(make_gallery, "make_gallery", None)
    with pytest.raises(SystemExit) as caught:
        make_gallery.main([])
    assert caught.value.code == 2 and "name another" in capsys.readouterr().err


def test_an_unknown_game_is_answered_with_the_nearest(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        make_gallery.main([str(tmp_path / "gallery"), "--games", "Navigatr"])
    assert caught.value.code == 2 and "Navigator" in capsys.readouterr().err
    assert not (tmp_path / "gallery").exists()


def test_the_gallery_shows_every_game_in_at_most_four_megabytes():
    paths = [GALLERY / make_gallery.file_name(game) for game in GAMES]
    assert sorted(GALLERY.iterdir()) == sorted(paths)
    assert sum(path.stat().st_size for path in paths) < 4_000_000


AS_FOR_USERS = [game for game in GAMES if "CartPole" in game]


@pytest.fixture(scope="module")
def new_gallery(tmp_path_factory):
    """The folder of a new gallery.

    The last bits of CartPole's floats depend on how a process compiles. So a process that compiles
    as for users makes its animations. The others, which only depend on whole numbers, are made
    here.
    """
    folder = tmp_path_factory.mktemp("gallery")
    command = [sys.executable, str(ROOT / "docs" / "make_gallery.py"), str(folder), "--games"]
    subprocess.run([*command, *AS_FOR_USERS], env={**os.environ, "XLA_FLAGS": ""}, check=True)
    make_gallery.make_gallery(folder, [game for game in GAMES if game not in AS_FOR_USERS])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("game", GAMES)
def test_the_gallery_shows_the_games_as_they_are(new_gallery, game):
    name = make_gallery.file_name(game)
    for new, committed in zip(animation(new_gallery / name), animation(GALLERY / name)):
        assert np.array_equal(new, committed), "run python docs/make_gallery.py"
