"""The gallery: ``python docs/make_gallery.py`` makes docs/gallery, an animation of each game's
twins played by its expert.

The same files come out every time. README.md shows them.
"""

import argparse
from pathlib import Path

from popgym_arcade.play import record
from popgym_arcade.registry import GAMES

FOLDER = Path(__file__).parent / "gallery"
LEVEL = "Easy"
SEED = 1
MAX_STEPS = 200
FRAMES_PER_SECOND = 8


def file_name(game):
    """The name of a game's animation: a str."""
    return f"{game}.gif"


def make_gallery(folder, games=tuple(GAMES)):
    """Write the animations of games, all by default, into a folder, which is created if it is
    missing: their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    options = dict(both=True, seed=SEED, max_steps=MAX_STEPS, frames_per_second=FRAMES_PER_SECOND)
    for game in games:
        record.record(folder / file_name(game), game + LEVEL, "expert", **options)
    return [folder / file_name(game) for game in games]


def main(arguments=None):
    """Make the gallery from the command line."""
    parser = argparse.ArgumentParser(description="Make an animation of each game.")
    parser.add_argument(
        "folder", nargs="?", type=Path, help="where to (default: docs/gallery of the clone)"
    )
    folder = parser.parse_args(arguments).folder or FOLDER
    if not folder.parent.is_dir():
        parser.error(f"there is no folder {folder.parent} to make the gallery in; name one")
    for path in make_gallery(folder):
        print(f"wrote {path}, {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
