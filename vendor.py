"""Copy a game into another code base: ``python -m popgym_arcade.vendor Navigator DEST``.

A game needs two files, its own module and ``render.py``, and of these one line has to change: the
game's import of render. What is copied imports jax and NumPy and nothing of this package.
"""

import argparse
import os
from pathlib import Path

from popgym_arcade import registry, render, spaces

IMPORT = b"from popgym_arcade import render as draw"
IMPORT_IN_PACKAGE = b"from . import render as draw"
IMPORT_IN_FOLDER = b"import render as draw"


def vendor(game, destination, force=False):
    """Copy a game's module and render.py into a folder, and change the game's import of render to
    the copy.

    game: a name in registry.GAMES or registry.REGISTRY, in upper or lower case, e.g. "Navigator" or
    "navigatoreasy". destination: a path; the folder is created if it is missing. If it is a
    package, that is, holds an __init__.py, the import is made relative, else absolute. force:
    replace files whose content differs from what is to be written.

    Returns the paths of the files it wrote, the game's first; files that were there already with
    the same content are left alone. All is checked before anything is written, and a file is
    replaced in one go or not at all.

    Raises ValueError for an unknown game or the package's own folder of games, NotADirectoryError
    if the destination is a file, IsADirectoryError if a folder has a file's name, and
    FileExistsError if a file has other content and force is not set.
    """
    source = module_file(game)
    destination = Path(destination)
    if destination.exists() and not destination.is_dir():
        raise NotADirectoryError(f"{destination} is a file; name a folder to copy into")
    if destination.resolve() == source.parent.resolve():
        raise ValueError(
            f"{destination} is where popgym_arcade keeps its own games; name a folder of your own"
        )
    contents = {
        destination / source.name: with_import(source, is_package(destination)),
        destination / "render.py": Path(render.__file__).read_bytes(),
    }
    contents = {path: content for path, content in contents.items() if not holds(path, content)}
    check_may_write(contents, force)
    destination.mkdir(parents=True, exist_ok=True)
    write_all(contents)
    return list(contents)


def module_file(game):
    """The file of a game's module: Path. Raises ValueError, with the nearest names, if there is no
    such game."""
    games = {name.lower(): name for name in registry.GAMES}
    games |= {
        (name + level).lower(): name
        for name, (_, levels) in registry.GAMES.items()
        for level in levels
    }
    if game.lower() not in games:
        raise ValueError(f"there is no game {game!r}; {spaces.nearest_names(game, registry.GAMES)}")
    module, _ = registry.GAMES[games[game.lower()]]
    return Path(module.__file__)


def is_package(folder):
    """Whether a folder is a package: a bool."""
    return (folder / "__init__.py").exists()


def with_import(source, in_package):
    """A game's source with its import of render changed: bytes. Raises RuntimeError unless it is
    imported in just one place."""
    content = source.read_bytes()
    if content.count(IMPORT) != 1:
        raise RuntimeError(
            f"{source} should have the line {IMPORT.decode()!r} once, but has it {content.count(IMPORT)} times"
        )
    return content.replace(IMPORT, IMPORT_IN_PACKAGE if in_package else IMPORT_IN_FOLDER)


def holds(path, content):
    """Whether there is a file with this very content: a bool."""
    return path.is_file() and path.read_bytes() == content


def check_may_write(paths, force):
    """Raise an error that says what to do, if something that may not be replaced is in the way of
    one of the files."""
    folders = [str(path) for path in paths if path.is_dir()]
    if folders:
        raise IsADirectoryError(
            f"a file is to be written where there is a folder: {', '.join(folders)}; name another destination"
        )
    differing = [str(path) for path in paths if os.path.lexists(path)]
    if differing and not force:
        raise FileExistsError(
            f"would overwrite {' and '.join(differing)} with other content; move what is there, name another destination, or "
            "use --force (in Python force=True) to replace it"
        )


def write_all(contents):
    """Write files, {path: bytes}. None is put in place before all are on the disk; then each
    replaces the old one at once."""
    drafts = {path: path.with_name(f".{path.name}.{os.getpid()}.draft") for path in contents}
    try:
        for path, draft in drafts.items():
            draft.write_bytes(contents[path])
        for path, draft in drafts.items():
            os.replace(draft, path)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)


def import_line(game, destination):
    """The line that imports a vendored game: a str.

    In a package it has the full name, e.g. ``from my_project.arcade import navigator``; in a folder
    it is ``import navigator`` and a comment that the folder has to be on sys.path.
    """
    name = module_file(game).stem
    folder, packages = Path(destination).resolve(), []
    while folder.name and is_package(folder):
        packages.insert(0, folder.name)
        folder = folder.parent
    return (
        f"from {'.'.join(packages)} import {name}"
        if packages
        else f"import {name}  # with {folder} on sys.path"
    )


def main(argv=None):
    """The command line. argv: a list of str, by default that of the process. Prints what was
    written; bad input exits with 2."""
    parser = argparse.ArgumentParser(
        prog="python -m popgym_arcade.vendor", description="Copy a game into another code base."
    )
    parser.add_argument(
        "game",
        metavar="{" + ",".join(registry.GAMES) + "}",
        help="the game, or one of its environments",
    )
    parser.add_argument(
        "destination", metavar="DEST", help="the folder to copy into; created if it is missing"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace files whose content differs from what is to be written",
    )
    arguments = parser.parse_args(argv)
    try:
        written = vendor(arguments.game, arguments.destination, arguments.force)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    for path in written:
        print(f"wrote {path}")
    if not written:
        print("nothing to write: the files are there already")
    print(f"to use it: {import_line(arguments.game, arguments.destination)}")


if __name__ == "__main__":
    main()
