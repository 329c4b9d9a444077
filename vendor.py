"""Copy a game into another project: ``python -m popgym_arcade.vendor Navigator DEST``.

A game needs two files, its own module and ``render.py``. Two lines on top say where a copy comes
from and what its license is, and the game's import of render changes. The copies depend on jax and
NumPy, not on this package.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import popgym_arcade
from popgym_arcade import registry, render
from popgym_arcade.commands.files import (
    check_folder,
    end_command,
    new_folder,
    output_may_be_cut,
    unwritten,
    write_files,
)

__all__ = ["import_line", "main", "vendor"]

_IMPORT = b"from popgym_arcade import render as draw"
_IMPORT_IN_PACKAGE = b"from . import render as draw"
_IMPORT_IN_FOLDER = b"import render as draw"
_LICENSE = """\
# Copied from popgym_arcade {version}, {file}.
# Copyright (c) 2026 The POPGym Arcade developers. MIT License: https://opensource.org/license/mit
"""


def vendor(game: str, destination: str | os.PathLike[str], force: bool = False) -> list[Path]:
    """Copy a game's module and render.py into a folder, with a line about their license.

    The game's import of render is adapted.

    game: a game or one of its environments in any case, e.g. "Navigator" or "navigatoreasy".
    destination: a folder, created if it is missing. If it is a package, i.e. has an __init__.py,
    the import becomes relative, otherwise absolute. force: whether to overwrite files with other
    content.

    Returns the paths of the files it wrote, the game's first; existing files with the right content
    are left alone. Everything is checked before the first write, and every file is replaced
    atomically.

    Raises ValueError for an unknown game or if destination is this package's own folder of games,
    NotADirectoryError if destination is a file, IsADirectoryError if a folder has the name of a
    file to write, FileExistsError if a file has other content and force is False, and OSError with
    the path if a file cannot be written.
    """
    source = _module_file(game)
    destination = Path(destination)
    check_folder(destination)
    if destination.resolve() == source.parent.resolve():
        raise ValueError(
            f"{destination} is popgym_arcade's own folder of games; name a folder of your own"
        )
    contents = {
        destination / source.name: _with_import(source, _is_package(destination)),
        destination / "render.py": _licensed(Path(render.__file__)),
    }
    contents = unwritten(contents, force)
    with new_folder(destination):
        write_files(contents)
    return list(contents)


def _module_file(game: str) -> Path:
    """The file of a game's module. Raises ValueError with the nearest names for an unknown game."""
    module, _ = registry.GAMES[registry.registered_game(game)]
    return Path(str(module.__file__))


def _is_package(folder: Path) -> bool:
    """Whether a folder is a package."""
    return (folder / "__init__.py").exists()


def _with_import(source: Path, in_package: bool) -> bytes:
    """A game's source with an adapted import of render.

    Raises RuntimeError unless the source has exactly one import of render.
    """
    content = _licensed(source)
    if content.count(_IMPORT) != 1:
        raise RuntimeError(
            f"{source} must have the line {_IMPORT.decode()!r} exactly once, "
            f"but it has it {content.count(_IMPORT)} times"
        )
    return content.replace(_IMPORT, _IMPORT_IN_PACKAGE if in_package else _IMPORT_IN_FOLDER)


def _licensed(source: Path) -> bytes:
    """A module's source, below its origin and its license."""
    file = "render.py" if source.name == "render.py" else f"games/{source.name}"
    head = _LICENSE.format(version=popgym_arcade.__version__, file=file)
    return head.encode() + source.read_bytes()


def import_line(game: str, destination: str | os.PathLike[str]) -> str:
    """The line that imports a vendored game.

    In a package it is absolute, e.g. ``from my_project.arcade import navigator``; in a folder it is
    ``import navigator`` with a comment that the folder must be on sys.path.
    """
    name = _module_file(game).stem
    folder, packages = Path(destination).resolve(), []
    while folder.name and _is_package(folder):
        packages.insert(0, folder.name)
        folder = folder.parent
    if packages:
        return f"from {'.'.join(packages)} import {name}"
    return f"import {name}  # with {folder} on sys.path"


@output_may_be_cut()
def main(argv: Sequence[str] | None = None) -> None:
    """Vendor a game from the command line, by default the process's.

    Bad input exits with 2, and a file that cannot be written with 1.
    """
    parser = argparse.ArgumentParser(
        prog="python -m popgym_arcade.vendor",
        description="Copy a game and render.py into another project.",
    )
    parser.add_argument(
        "game",
        metavar="{" + ",".join(registry.GAMES) + "}",
        help="a game, or one of its environments; case is ignored",
    )
    parser.add_argument(
        "destination", metavar="DEST", help="folder to copy into, created if missing"
    )
    parser.add_argument("--force", action="store_true", help="overwrite files with other content")
    arguments = parser.parse_args(argv)
    try:
        written = vendor(arguments.game, arguments.destination, arguments.force)
    except (ValueError, OSError) as error:
        end_command(parser.prog, error)
    for path in written:
        print(f"wrote {path}")
    if not written:
        print("nothing to write: the files are already there")
    print(f"to use it: {import_line(arguments.game, arguments.destination)}")


if __name__ == "__main__":
    main()
