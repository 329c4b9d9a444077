"""Files that are written whole or not at all, and the line with which a command ends if they fail.

Nothing here needs more than Python.
"""

import argparse
import errno
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

__all__ = [
    "check_file",
    "check_folder",
    "draft",
    "end_command",
    "error_text",
    "file_argument",
    "naming",
    "new_folder",
    "output_may_be_cut",
    "unwritten",
    "write_files",
]


_CUT_OFF = 128 + 13  # the exit status of a program which SIGPIPE ends


# --- writing -------------------------------------------------------------------------------------


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write files, each atomically. contents: path -> content.

    All contents are on disk before the first file is replaced, so if a write fails, no file is
    changed and no draft is left behind. Raises OSError with the path that could not be written.
    """
    with ExitStack() as drafts:
        for path, content in contents.items():
            file = drafts.enter_context(draft(path))
            with naming(path):
                file.write(content)
                file.flush()


@contextmanager
def draft(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that becomes the file at a path when the context ends.

    An error leaves the file at the path as it was, and no draft. A device, such as /dev/stdout, is
    written directly. Raises OSError with the path.
    """
    if path.exists() and not path.is_file():
        with naming(path), open(path, "wb") as file:
            yield file
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        # NumPy writes to a file that can also be read in pieces, whose errors say their cause.
        with naming(path, temporary), open(temporary, "w+b") as file:
            yield file
        with naming(path, temporary):
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def naming(path: Path, instead_of: Path | None = None) -> Iterator[None]:
    """A context in which an OSError that names no file, or another one instead, names a path."""
    try:
        yield
    except OSError as error:
        renamed = error.filename is None or str(error.filename) == str(instead_of)
        if error.errno is None or not renamed:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def new_folder(path: Path) -> Iterator[None]:
    """Make a folder and its parents where they are missing.

    If the context ends with an error, those that it made are removed again if they are empty.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
        raise


# --- checks before the first write ---------------------------------------------------------------


def unwritten(contents: Mapping[Path, bytes], force: bool) -> dict[Path, bytes]:
    """The files that are missing or have other content: path -> content.

    Raises IsADirectoryError if a folder has the name of one, and FileExistsError if one would
    overwrite a file and force is False.
    """
    changed = {path: content for path, content in contents.items() if not _holds(path, content)}
    folders = [str(path) for path in changed if path.is_dir()]
    if folders:
        raise IsADirectoryError(
            f"cannot write a file over the folder {' and '.join(folders)}; name another destination"
        )
    existing = [str(path) for path in changed if os.path.lexists(path)]
    if existing and not force:
        raise FileExistsError(
            f"would overwrite {' and '.join(existing)} with other content; move what is there, "
            "name another destination, or use --force (in Python: force=True)"
        )
    return changed


def _holds(path: Path, content: bytes) -> bool:
    """Whether a path is a file with exactly this content."""
    return path.is_file() and path.read_bytes() == content


def check_file(path: Path) -> None:
    """Raise OSError unless a file can be written at a path: its folder exists and is writable."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(path.parent)!r} for {path.name!r}")
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; name a file")
    _check_writable(path if path.exists() and not path.is_file() else path.parent)


def file_argument(text: str) -> Path:
    """A ``type`` for argparse: the path of a file that can be written."""
    try:
        check_file(Path(text))
    except OSError as error:
        raise argparse.ArgumentTypeError(error_text(error)) from None
    return Path(text)


def check_folder(path: Path) -> None:
    """Raise OSError unless files can be written into a folder, which may be missing."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not existing.is_dir():
        raise NotADirectoryError(f"{existing} is a file; name a folder")
    _check_writable(existing)


def _check_writable(path: Path) -> None:
    """Raise PermissionError unless the user may write to a file or a folder."""
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


# --- the end of a command ------------------------------------------------------------------------


def error_text(error: Exception) -> str:
    """An error in one line; if the system refused something, the path and the cause."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split("\n"))


def end_command(command: str, error: Exception) -> NoReturn:
    """End a command with an error in one line.

    The exit status is 1 if the system refused something, otherwise 2, for bad input. An output that
    nobody reads any more is not an error, so BrokenPipeError is raised again.
    """
    if isinstance(error, BrokenPipeError):
        raise error
    print(f"{command}: error: {error_text(error)}", file=sys.stderr)
    sys.exit(1 if isinstance(error, OSError) and error.errno is not None else 2)


@contextmanager
def output_may_be_cut() -> Iterator[None]:
    """Exit without a traceback if nobody reads the output any more, e.g. because of ``| head``.

    The exit status is that of a program which the signal SIGPIPE ends. Decorates a command's main.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it, too
        sys.exit(_CUT_OFF)
