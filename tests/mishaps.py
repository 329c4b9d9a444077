"""Mishaps that tests bring about: a full disk, and files that may not grow."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from popgym_arcade.commands import files


class _Full:
    """A file of which only the first half of each write reaches the disk, before it is full."""

    def __init__(self, file: Any) -> None:
        """Wrap a file that is open for writing bytes."""
        self._file = file

    def __enter__(self) -> "_Full":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def write(self, content: bytes) -> int:
        self._file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def flush(self) -> None:
        self._file.flush()


def fill_disk(patch: pytest.MonkeyPatch, name: str) -> None:
    """Let the disk be full for what ``commands.files`` opens, if its path has a text.

    The error names no file, as the system's does.
    """

    def open_(path, mode):
        file = open(path, mode)
        return _Full(file) if name in str(path) else file

    patch.setattr(files, "open", open_, raising=False)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A context in which the system refuses to let a file grow beyond a number of bytes."""
    resource = pytest.importorskip("resource", reason="only POSIX limits the size of files")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
