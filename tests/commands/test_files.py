"""Tests of commands/files.py: files are whole or not written, errors say path and cause."""

import argparse
import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from popgym_arcade.commands import files
from tests.mishaps import fill_disk, largest_file


def contents(folder):
    """All files of a folder: name -> bytes."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", ["a.txt", "b.txt"])
def test_when_the_disk_is_full_no_file_is_changed_and_no_draft_stays(
    tmp_path, monkeypatch, failing
):
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    paths[0].write_bytes(b"old")
    fill_disk(monkeypatch, failing)
    with pytest.raises(OSError) as caught:
        files.write_files({path: b"new" for path in paths})
    assert files.error_text(caught.value) == f"{tmp_path / failing}: No space left on device"
    assert contents(tmp_path) == {"a.txt": b"old"}


def test_all_contents_are_written_before_the_first_file_is_replaced(tmp_path, monkeypatch):
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    replace = os.replace

    def replace_after_all(draft, path):
        drafts = [each for each in contents(tmp_path).items() if each[0].endswith(".draft")]
        assert path == paths[0] or [content for _, content in drafts] == [b"new", b"new"]
        replace(draft, path)

    monkeypatch.setattr(os, "replace", replace_after_all)
    files.write_files({path: b"new" for path in paths})
    assert contents(tmp_path) == {"a.txt": b"new", "b.txt": b"new"}


def test_an_error_of_the_one_who_writes_leaves_the_file_as_it_was(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), files.draft(tmp_path / "a.txt") as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert contents(tmp_path) == {"a.txt": b"old"}


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, files.draft(tmp_path / "a.txt"):
        (tmp_path / "other.txt").read_bytes()
    assert files.error_text(caught.value) == f"{tmp_path / 'other.txt'}: No such file or directory"


def test_a_folder_that_vanished_is_named_with_the_file(tmp_path):
    path = tmp_path / "gone" / "a.txt"
    with pytest.raises(FileNotFoundError) as caught:
        files.write_files({path: b"new"})
    assert files.error_text(caught.value) == f"{path}: No such file or directory"


def test_numpy_says_why_it_cannot_write_an_array(tmp_path):
    # To a file that it takes for one of the system, it says only how many bytes it has written.
    path = tmp_path / "a.npy"
    with largest_file(4096), pytest.raises(OSError) as caught, files.draft(path) as file:
        np.save(file, np.zeros(10_000))
    assert files.error_text(caught.value) == f"{path}: {os.strerror(errno.EFBIG)}"
    assert contents(tmp_path) == {}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is full")
def test_a_device_is_written_directly():
    with pytest.raises(OSError) as caught:
        files.write_files({Path("/dev/full"): b"new"})
    assert files.error_text(caught.value) == "/dev/full: No space left on device"
    files.write_files({Path(os.devnull): b"new"})
    assert not list(Path("/dev").glob(".null*"))


# --- folders -------------------------------------------------------------------------------------


def test_only_new_and_empty_folders_are_removed_after_an_error(tmp_path):
    (tmp_path / "old").mkdir()
    for path in (tmp_path / "old", tmp_path / "new" / "inner"):
        with pytest.raises(KeyboardInterrupt), files.new_folder(path):
            assert path.is_dir()
            raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    with pytest.raises(KeyboardInterrupt), files.new_folder(tmp_path / "new" / "inner"):
        (tmp_path / "new" / "theirs.txt").touch()
        raise KeyboardInterrupt
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["theirs.txt"]


# --- checks --------------------------------------------------------------------------------------


def test_a_path_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for path, words in {
        tmp_path / "no" / "a.txt": "there is no folder '.*no' for 'a.txt'",
        tmp_path / "file" / "a.txt": "there is no folder '.*file' for 'a.txt'",
        tmp_path: "is a folder; name a file",
    }.items():
        with pytest.raises(OSError, match=words):
            files.check_file(path)
    with pytest.raises(NotADirectoryError, match="file is a file; name a folder"):
        files.check_folder(tmp_path / "file" / "folder")
    files.check_file(tmp_path / "a.txt")
    files.check_folder(tmp_path / "new" / "folder")
    files.check_folder(Path("new"))


def test_an_argument_that_cannot_be_written_is_refused_with_its_option(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=files.file_argument)
    assert parser.parse_args(["--json", str(tmp_path / "a.json")]).json == tmp_path / "a.json"
    with pytest.raises(SystemExit):
        parser.parse_args(["--json", str(tmp_path / "no" / "a.json")])
    assert "argument --json: there is no folder" in capsys.readouterr().err


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)  # root may write to all
    for check in (files.check_file, files.check_folder):
        with pytest.raises(PermissionError) as caught:
            check(tmp_path / "new")
        assert files.error_text(caught.value) == f"{tmp_path}: Permission denied"


# --- the end of a command ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error, text, status",
    [
        (OSError(errno.ENOSPC, "No space left", "a.gif"), "a.gif: No space left", 1),
        (OSError(errno.EIO, "Input/output error"), "Input/output error", 1),
        (FileExistsError("a.gif exists"), "a.gif exists", 2),
        (ValueError("two\nlines"), "two lines", 2),
    ],
)
def test_a_command_ends_with_one_line(error, text, status, capsys):
    with pytest.raises(SystemExit) as caught:
        files.end_command("popgym-arcade-draw", error)
    assert capsys.readouterr().err == f"popgym-arcade-draw: error: {text}\n"
    assert caught.value.code == status


def test_output_that_nobody_reads_to_the_end_ends_without_a_traceback():
    reader, writer = os.pipe()
    os.close(reader)
    line = [sys.executable, "-m", "popgym_arcade.play"]
    with os.fdopen(writer, "wb") as output:
        run = subprocess.run(line, stdout=output, stderr=subprocess.PIPE, timeout=120)
    assert (run.returncode, run.stderr) == (141, b"")


def test_a_pipe_that_nobody_reads_is_no_error_to_report(capsys):
    with pytest.raises(BrokenPipeError):
        files.end_command("some-command", BrokenPipeError(errno.EPIPE, "Broken pipe"))
    assert capsys.readouterr().err == ""
