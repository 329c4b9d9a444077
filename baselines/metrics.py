"""What a run writes down: ``metrics.jsonl`` always, TensorBoard and Weights & Biases if asked for.

A line is a JSON object with ``kind``, ``seed``, ``steps`` and ``seconds``: of kind "training" after
every update, of kind "evaluation" with a ``twin`` and lists of ``returns`` and ``lengths``. What is
not a finite number is null.
"""

import importlib
import json
import math
import secrets
from pathlib import Path

FILE = "metrics.jsonl"
TRACKERS = {"tensorboard": "tensorboardX", "wandb": "wandb"}
"""Where else the figures can go, and the library that this needs."""


class Metrics:
    """The files of a run that figures go into."""

    def __init__(self, folder, config, trackers=(), steps=0):
        """folder: the run's Path. config: a dict for Weights & Biases. trackers: names in TRACKERS.

        steps: the run goes on from so many; lines of later steps, which a crash left behind, are
        dropped. Raises ModuleNotFoundError that says what to install if a tracker's library is
        missing.
        """
        libraries = {tracker: tracker_library(tracker) for tracker in trackers}
        kept = (
            [line for line in read_lines(folder / FILE) if line["steps"] <= steps] if steps else []
        )
        draft = folder / f".{FILE}"
        draft.write_text("".join(json.dumps(line) + "\n" for line in kept))
        draft.replace(folder / FILE)  # a crash leaves all lines, or those that are kept
        self._file = open(folder / FILE, "a")
        self._board = self._wandb = None
        if "tensorboard" in libraries:
            self._board = libraries["tensorboard"].SummaryWriter(
                str(folder / "tensorboard"), purge_step=steps + 1 if steps else None
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

    def write(self, line):
        """Write a line down. line: a dict as described at the top of this file; its numbers may be
        NaN."""
        self._file.write(json.dumps({name: _finite(value) for name, value in line.items()}) + "\n")
        self._file.flush()
        figures = {
            f"{tag_of(line)}/{name}": value
            for name, value in _figures(line).items()
            if _finite(value) is not None
        }
        if self._board:
            for tag, value in figures.items():
                self._board.add_scalar(tag, value, line["steps"])
            self._board.flush()
        if self._wandb:
            self._wandb.log({"steps": line["steps"], **figures})

    def close(self):
        """Close all that is open."""
        self._file.close()
        if self._board:
            self._board.close()
        if self._wandb:
            self._wandb.finish()


def tag_of(line):
    """Where a line's figures stand in TensorBoard and Weights & Biases: e.g.
    "seed0/evaluation-POMDP"."""
    return f"seed{line['seed']}/{line['kind']}" + (f"-{line['twin']}" if "twin" in line else "")


def _figures(line):
    """The numbers of a line; of lists, their means."""
    named = {
        name: value for name, value in line.items() if name not in ("kind", "seed", "steps", "twin")
    }
    return {
        name: sum(value) / len(value) if isinstance(value, list) else value
        for name, value in named.items()
    }


def _finite(value):
    """A value, or None in place of NaN and infinity, which JSON does not have; in lists too."""
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def tracker_library(tracker):
    """Import the library of a tracker. Raises ModuleNotFoundError that says what to install."""
    try:
        return importlib.import_module(TRACKERS[tracker])
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            f"--track {tracker} needs {missing.name}: python -m pip install {TRACKERS[tracker]}",
            name=missing.name,
        ) from missing


def _wandb_id(folder):
    """The run's id at Weights & Biases, the same when it is resumed."""
    path = folder / "wandb-id.txt"
    if not path.exists():
        path.write_text(secrets.token_hex(8))
    return path.read_text()


def read_lines(path):
    """The lines of a metrics file, a list of dicts. A last line that was cut off is left out; a
    missing file has none."""
    if not Path(path).exists():
        return []
    lines = Path(path).read_text().split("\n")
    return [
        json.loads(line) for line in lines[:-1]
    ]  # what stands after the last line break was cut off
