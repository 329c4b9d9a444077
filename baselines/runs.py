"""The folder of a training run: its layout, its file formats, and their reader and writer.

::

    RUN/
        config.json                 {"algorithm": ..., "config": {...}, "seed": ..., "seeds": ...}
        metrics.jsonl               one JSON object per line
        checkpoints/
            step-000002048000/      one checkpoint; checkpoint.py says what its files hold
                manifest.json
                network-SEED.eqx
                state.eqx
        tensorboard/                with --track tensorboard
        wandb/  wandb-id.txt        with --track wandb

Every line of ``metrics.jsonl`` has ``kind``, ``seed``, ``steps`` and ``seconds``. A line of kind
"training" (one per update and seed) also holds the update's metrics, e.g. ``loss``. A line of kind
"evaluation" (one per evaluation, twin and seed) also holds ``twin`` and, for its episodes, the
lists ``returns`` and ``lengths``. NaN and infinities, which JSON lacks, are null.
"""

import json
import math
import re
import sys
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from popgym_arcade import spaces
from popgym_arcade.commands.files import write_files
from popgym_arcade.registry import TWINS, twin_name

__all__ = [
    "ADDED_OPTIONS",
    "CHECKPOINTS",
    "CONFIG",
    "MANIFEST",
    "METRICS",
    "REQUIRED",
    "STATE",
    "TENSORBOARD",
    "WANDB_ID",
    "LoggedRun",
    "checkpoint_path",
    "checkpoints",
    "default_folder",
    "finite_or_none",
    "has_run",
    "is_finite_number",
    "network_file",
    "read_config",
    "read_metrics",
    "read_run",
    "to_json_line",
    "unfinished_checkpoints",
    "unfinished_path",
    "warn",
    "write_config",
]

CONFIG = "config.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
MANIFEST = "manifest.json"  # of a checkpoint
STATE = "state.eqx"  # of a checkpoint
TENSORBOARD = "tensorboard"
WANDB_ID = "wandb-id.txt"

REQUIRED: dict[str, tuple[str, ...]] = {
    "training": ("seed", "steps", "seconds"),
    "evaluation": ("seed", "steps", "seconds", "twin", "returns", "lengths"),
}
"""The kinds of lines in metrics.jsonl, each with its required fields."""


ADDED_OPTIONS: dict[str, Any] = {
    "params": "",
    "patch_size": 4,
    "normalize_convolutions": True,
}
"""The options that the configs of older runs lack, with the values that were in effect then."""


class LoggedRun(NamedTuple):
    """The config and the metrics of a run, read from its folder."""

    path: Path
    algorithm: str  # in lower case
    config: dict[str, Any]  # of the algorithm, with env, partial, memory and others
    lines: list[dict[str, Any]]  # of metrics.jsonl


def default_folder(algorithm: str, config: dict[str, Any], seed: int) -> Path:
    """The folder of a run for which none is given. config: the algorithm's, as a dict."""
    twin = twin_name(config["partial"])
    name = "-".join(filter(None, [config["env"], config.get("params", "").replace(" ", "")]))
    return Path("runs") / f"{name}-{twin}-{algorithm}-{config['memory']}-seed{seed}"


def has_run(folder: Path) -> bool:
    """Whether a run was started in this folder."""
    return (folder / CONFIG).exists()


def warn(message: str) -> None:
    """Print a warning to stderr."""
    print(f"warning: {message}", file=sys.stderr)


# --- config.json ---------------------------------------------------------------------------------


def write_config(folder: Path, content: dict[str, Any]) -> None:
    """Write config.json. content: its JSON object."""
    write_files({folder / CONFIG: json.dumps(content, indent=2).encode()})


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json: its JSON object. Raises ValueError if a field is missing or invalid."""
    path = folder / CONFIG
    try:
        content = json.loads(path.read_text())
        content = {**content, "config": {**ADDED_OPTIONS, **content["config"]}}
        content["algorithm"].lower()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{path} must be {{"algorithm": "...", "config": {{...}}}}, but it is not: {error!r}'
        ) from error
    for name, expected in {"env": str, "partial": bool, "memory": str}.items():
        value = content["config"].get(name)
        if type(value) is not expected:
            raise ValueError(
                f"{path}: the config's {name} must be of type {expected.__name__}, "
                f"but it is {value!r}"
            )
    return content


# --- metrics.jsonl -------------------------------------------------------------------------------


def to_json_line(line: dict[str, Any]) -> str:
    """A line of metrics.jsonl as text, with its newline."""
    return json.dumps({name: finite_or_none(value) for name, value in line.items()}) + "\n"


def finite_or_none(value: Any) -> Any:
    """The value, with None instead of NaN and infinities; in lists too."""
    if isinstance(value, list):
        return [finite_or_none(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Read the lines of metrics.jsonl; none if the file does not exist.

    A last line that was cut off, because the run was killed while writing it, is skipped with a
    warning. Raises ValueError, with the file and the line, for other text that is not JSON.
    """
    path = folder / METRICS
    texts = path.read_bytes().split(b"\n") if path.exists() else []
    lines = []
    for number, text in enumerate(texts, 1):
        is_last = number == len(texts)
        if is_last and not text:
            break
        try:
            lines.append(json.loads(text.decode()))
        except ValueError as error:
            if not is_last:
                raise ValueError(f"{path}, line {number}: not JSON: {text[:60]!r}") from error
            warn(f"{path}, line {number}: skipped, because the run was killed while writing it")
    return lines


def read_run(path: str | PathLike[str]) -> LoggedRun:
    """Read the config and the metrics of a run's folder.

    A last line of metrics that was cut off is skipped with a warning. Raises FileNotFoundError,
    with the nearest runs, if the folder holds no run, and ValueError, with the file and the line,
    for invalid content.
    """
    path = Path(path)
    for name in (CONFIG, METRICS):
        if not (path / name).is_file():
            raise FileNotFoundError(
                f"{str(path)!r} is not a run: it has no {name}; {_runs_nearby(path)}"
            )
    content, lines = read_config(path), read_metrics(path)
    for number, line in enumerate(lines, 1):
        try:
            _check_line(line)
        except ValueError as error:
            raise ValueError(f"{path / METRICS}, line {number}: {error}") from None
    return LoggedRun(path, content["algorithm"].lower(), content["config"], lines)


def _runs_nearby(path: Path) -> str:
    """The end of a message: the runs in a folder, or those beside it with the nearest names."""
    inside, beside = (
        [str(file.parent) for file in sorted(folder.glob(f"*/{CONFIG}"))]
        for folder in (path, path.parent)
    )
    if inside:
        more = f" and {len(inside) - 3} more" if len(inside) > 3 else ""
        return f"runs in it: {', '.join(inside[:3])}{more}"
    if has_run(path.parent):
        return f"the nearest is {str(path.parent)!r}"
    beside = [run for run in beside if Path(run) != path]
    if beside:
        return spaces.nearest_names(str(path), beside)
    return f"there are no runs in {str(path.parent)!r} either"


def _check_line(line: Any) -> None:
    """Raise ValueError unless a line of metrics is a dict with the fields of its kind."""
    if not isinstance(line, dict):
        raise ValueError(f"it must be a JSON object, but it is {str(line)[:60]!r}")
    kind = line.get("kind")
    spaces.check_name("kind", kind, REQUIRED)
    missing = sorted(set(REQUIRED[str(kind)]) - set(line))
    if missing:
        raise ValueError(f"a line of kind {kind!r} must have {', '.join(missing)}")
    for name in ("seed", "steps", "seconds"):
        if not is_finite_number(line[name]):
            raise ValueError(f"{name} must be a finite number, but it is {line[name]!r}")
    if kind == "evaluation":
        _check_evaluation(line)


def _check_evaluation(line: dict[str, Any]) -> None:
    """Raise ValueError unless the twin and the episodes of an evaluation are valid."""
    spaces.check_name("twin", line["twin"], TWINS)
    for name in ("returns", "lengths"):
        values = line[name]
        if not isinstance(values, list) or not values or not all(map(is_finite_number, values)):
            raise ValueError(
                f"{name} must be a list of one or more finite numbers, but it is {str(values)[:60]}"
            )


def is_finite_number(value: Any) -> bool:
    """Whether a JSON value is a finite number; a bool is not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# --- checkpoints ---------------------------------------------------------------------------------


def checkpoint_path(run: str | PathLike[str], steps: int) -> Path:
    """The folder of a run's checkpoint after this many steps."""
    return Path(run) / CHECKPOINTS / f"step-{steps:012}"


def checkpoints(run: str | PathLike[str]) -> list[Path]:
    """The folders of a run's complete checkpoints, oldest first."""
    folders = (Path(run) / CHECKPOINTS).glob("step-*")
    return sorted(folder for folder in folders if re.fullmatch(r"step-\d{12}", folder.name))


def unfinished_path(checkpoint: Path) -> Path:
    """Where a checkpoint is written before it is renamed to its final path."""
    return checkpoint.with_name(f".{checkpoint.name}")


def unfinished_checkpoints(run: str | PathLike[str]) -> list[Path]:
    """The folders of checkpoints that a killed run did not finish writing."""
    return list((Path(run) / CHECKPOINTS).glob(".step-*"))


def network_file(seed: int) -> str:
    """The name of the file with a seed's network in a checkpoint."""
    return f"network-{seed}.eqx"
