"""Write a run's metrics: to ``metrics.jsonl`` and, on request, TensorBoard and Weights & Biases.

runs.py describes the lines of ``metrics.jsonl``.
"""

import errno
import importlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from popgym_arcade import spaces
from popgym_arcade.baselines import runs
from popgym_arcade.commands.files import naming, write_files

__all__ = ["TRACKERS", "MetricsWriter", "tag_of", "tracker_library"]

TRACKERS: dict[str, str] = {"tensorboard": "tensorboardX", "wandb": "wandb"}
"""The trackers that metrics can be sent to, each with the library it needs."""


class MetricsWriter:
    """Writes the metrics of a run to its file and its trackers."""

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any],
        trackers: Iterable[str] = (),
        steps: int = 0,
    ) -> None:
        """Open the file and the trackers.

        folder: the run's. config: shown by Weights & Biases. trackers: names in TRACKERS. steps:
        the run resumes after this many steps, so lines of later steps, written before it was
        killed, are dropped. Raises ModuleNotFoundError, saying what to install, if a tracker's
        library is missing.
        """
        libraries = {tracker: tracker_library(tracker) for tracker in trackers}
        lines = runs.read_metrics(folder) if steps else []
        kept = [line for line in lines if line["steps"] <= steps]
        self._path = folder / runs.METRICS
        write_files({self._path: "".join(map(runs.to_json_line, kept)).encode()})
        self._file = open(self._path, "ab", buffering=0)
        self._board = self._wandb = None
        if "tensorboard" in libraries:
            self._board = libraries["tensorboard"].SummaryWriter(
                str(folder / runs.TENSORBOARD), purge_step=steps + 1 if steps else None
            )
        if "wandb" in libraries:
            self._wandb = libraries["wandb"].init(
                project="popgym-arcade",
                dir=str(folder),
                name=folder.name,
                id=_wandb_id(folder),
                resume="allow",
                config=config,
            )

    def write(self, line: dict[str, Any]) -> None:
        """Write a line. line: as runs.py describes it; numbers may be NaN or infinite.

        Raises OSError, with the path, if the file is gone or cannot be written; the line is then
        left out.
        """
        with naming(self._path):
            self._append(runs.to_json_line(line).encode())
        scalars = {
            f"{tag_of(line)}/{name}": value
            for name, value in _scalars(line).items()
            if runs.finite_or_none(value) is not None
        }
        if self._board:
            for tag, value in scalars.items():
                self._board.add_scalar(tag, value, line["steps"])
            self._board.flush()
        if self._wandb:
            self._wandb.log({"steps": line["steps"], **scalars})

    def _append(self, text: bytes) -> None:
        """Write the whole text at the end of the file, or nothing."""
        status = os.fstat(self._file.fileno())
        if status.st_nlink == 0:  # the system would go on writing to a file that was deleted
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        try:
            while text:
                text = text[self._file.write(text) :]
        except OSError:
            self._file.truncate(status.st_size)
            raise

    def close(self) -> None:
        """Close the file and the trackers."""
        self._file.close()
        if self._board:
            self._board.close()
        if self._wandb:
            self._wandb.finish()


def tag_of(line: dict[str, Any]) -> str:
    """The prefix of a line's tags in the trackers, e.g. "seed0/evaluation-POMDP"."""
    return f"seed{line['seed']}/{line['kind']}" + (f"-{line['twin']}" if "twin" in line else "")


def _scalars(line: dict[str, Any]) -> dict[str, Any]:
    """The numbers in a line by name; lists are averaged."""
    return {
        name: sum(value) / len(value) if isinstance(value, list) else value
        for name, value in line.items()
        if name not in ("kind", "seed", "steps", "twin")
    }


def tracker_library(tracker: str) -> ModuleType:
    """Import a tracker's library.

    tracker: a name in TRACKERS. Raises ModuleNotFoundError, saying what to install, if it is
    missing, and ValueError for an unknown tracker.
    """
    spaces.check_name("tracker", tracker, TRACKERS)
    try:
        return importlib.import_module(TRACKERS[tracker])
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            f"--track {tracker} needs {missing.name}: python -m pip install {TRACKERS[tracker]}",
            name=missing.name,
        ) from missing


def _wandb_id(folder: Path) -> str:
    """The run's ID at Weights & Biases, which stays the same when the run resumes."""
    path = folder / runs.WANDB_ID
    if not path.exists():
        write_files({path: secrets.token_hex(8).encode()})
    return path.read_text()
