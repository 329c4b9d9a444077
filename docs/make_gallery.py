"""Make docs/gallery, an animation of each game's twins played by its expert.

``python docs/make_gallery.py`` writes the same files every time. README.md shows them. ``--games``
makes only some of them.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from popgym_arcade import spaces
from popgym_arcade.play import record
from popgym_arcade.registry import GAMES

__all__ = ["file_name", "main", "make_gallery"]

FOLDER: Path = Path(__file__).parent / "gallery"
LEVEL = "Easy"
SEED = 1
MAX_STEPS = 200
FRAMES_PER_SECOND = 8


def file_name(game: str) -> str:
    """The file name of a game's animation."""
    return f"{game}.gif"


def make_gallery(folder: Path, games: Iterable[str] = tuple(GAMES)) -> list[Path]:
    """Write the animations of games, by default all, into a folder, and return their paths.

    The folder is created if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for game in games:
        paths.append(folder / file_name(game))
        record.record(
            paths[-1],
            game + LEVEL,
            "expert",
            both=True,
            seed=SEED,
            max_steps=MAX_STEPS,
            frames_per_second=FRAMES_PER_SECOND,
        )
    return paths


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the gallery from the command line."""
    parser = argparse.ArgumentParser(description="Make an animation of each game.")
    parser.add_argument(
        "folder", nargs="?", type=Path, help="the output folder (default: docs/gallery)"
    )
    parser.add_argument(
        "--games",
        nargs="+",
        default=list(GAMES),
        metavar="NAME",
        help="games to animate, e.g. Navigator (default: all)",
    )
    options = parser.parse_args(arguments)
    folder = options.folder or FOLDER
    if not folder.parent.is_dir():
        parser.error(f"there is no folder {folder.parent} to make the gallery in; name another")
    try:
        for game in options.games:
            spaces.check_name("game", game, GAMES)
    except ValueError as error:
        parser.error(str(error))
    for path in make_gallery(folder, options.games):
        print(f"wrote {path}, {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
