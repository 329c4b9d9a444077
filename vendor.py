"""Copy a game into another project: ``python -m popgym_arcade.vendor Navigator DEST``.

A game needs two files, its own module and ``render.py``. Only one line changes, the game's import
of render; the copies depend on jax and NumPy, not on this package.
"""

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from popgym_arcade import registry, render

__all__ = ["import_line", "main", "vendor", "write_files"]

_IMPORT = b"from popgym_arcade import render as draw"
_IMPORT_IN_PACKAGE = b"from . import render as draw"
_IMPORT_IN_FOLDER = b"import render as draw"


def vendor(game: str, destination: str | os.PathLike[str], force: bool = False) -> list[Path]:
    """Copy a game's module and render.py into a folder, and adapt the game's import of render.

    game: a game or one of its environments in any case, e.g. "Navigator" or "navigatoreasy".
    destination: a folder, created if it is missing. If it is a package, i.e. has an __init__.py,
    the import becomes relative, otherwise absolute. force: whether to overwrite files with other
    content.

    Returns the paths of the files it wrote, the game's first; existing files with the right content
    are left alone. Everything is checked before the first write, and every file is replaced
    atomically.

    Raises ValueError for an unknown game or if destination is this package's own folder of games,
    NotADirectoryError if destination is a file, IsADirectoryError if a folder has the name of a
    file to write, and FileExistsError if a file has other content and force is False.
    """
    source = _module_file(game)
    destination = Path(destination)
    if destination.exists() and not destination.is_dir():
        raise NotADirectoryError(f"{destination} is a file; name a folder to copy into")
    if destination.resolve() == source.parent.resolve():
        raise ValueError(
            f"{destination} is popgym_arcade's own folder of games; name a folder of your own"
        )
    contents = {
        destination / source.name: _with_import(source, _is_package(destination)),
        destination / "render.py": Path(render.__file__).read_bytes(),
    }
    contents = {path: content for path, content in contents.items() if not _holds(path, content)}
    _check_may_write(contents, force)
    destination.mkdir(parents=True, exist_ok=True)
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
    content = source.read_bytes()
    if content.count(_IMPORT) != 1:
        raise RuntimeError(
            f"{source} must have the line {_IMPORT.decode()!r} exactly once, "
            f"but it has it {content.count(_IMPORT)} times"
        )
    return content.replace(_IMPORT, _IMPORT_IN_PACKAGE if in_package else _IMPORT_IN_FOLDER)


def _holds(path: Path, content: bytes) -> bool:
    """Whether a path is a file with exactly this content."""
    return path.is_file() and path.read_bytes() == content


def _check_may_write(paths: Iterable[Path], force: bool) -> None:
    """Raise an error if a path is a folder or, unless force, a file to overwrite."""
    paths = list(paths)
    folders = [str(path) for path in paths if path.is_dir()]
    if folders:
        raise IsADirectoryError(
            f"cannot write a file over the folder {' and '.join(folders)}; name another destination"
        )
    existing = [str(path) for path in paths if os.path.lexists(path)]
    if existing and not force:
        raise FileExistsError(
            f"would overwrite {' and '.join(existing)} with other content; move what is there, "
            "name another destination, or use --force (in Python: force=True)"
        )


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write files, each atomically. contents: path -> content.

    All contents are on disk before the first file is replaced, so if a write fails, no file is
    changed and no draft is left behind.
    """
    drafts = {path: path.with_name(f".{path.name}.{os.getpid()}.draft") for path in contents}
    try:
        for path, draft in drafts.items():
            draft.write_bytes(contents[path])
        for path, draft in drafts.items():
            os.replace(draft, path)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)


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


def main(argv: Sequence[str] | None = None) -> None:
    """Vendor a game from the command line, by default the process's; bad input exits with 2."""
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
        parser.error(str(error))
    for path in written:
        print(f"wrote {path}")
    if not written:
        print("nothing to write: the files are already there")
    print(f"to use it: {import_line(arguments.game, arguments.destination)}")


if __name__ == "__main__":
    main()
