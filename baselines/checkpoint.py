"""Checkpoints: all that a run needs to resume.

A checkpoint is a folder (runs.py shows where) with

* ``manifest.json``: the algorithm, its config, the steps taken, the version of the game's rules,
  versions of the software, and the size and SHA-256 of each other file;
* ``network-SEED.eqx``: the weights of a seed's network, for ``equinox.tree_deserialise_leaves``;
* ``state.eqx``: the whole training state of all seeds.

It is written to another folder, flushed to disk and renamed, so a crash at any moment leaves the
previous checkpoint, and a folder with a final name is complete. Damage by the disk is detected by
the hashes.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax

import popgym_arcade
from popgym_arcade.baselines import runs
from popgym_arcade.baselines.model.builder import network_of
from popgym_arcade.baselines.runs import checkpoints
from popgym_arcade.commands import files
from popgym_arcade.registry import REGISTRY

__all__ = [
    "FORMAT",
    "KEPT",
    "Agent",
    "CheckpointError",
    "check_rules",
    "checkpoints",
    "last_whole",
    "load_agent",
    "load_state",
    "manifest",
    "network_of",
    "rule_version",
    "save",
]

FORMAT: int = 1
"""The version of the checkpoint format, which manifest.json holds."""

KEPT: int = 3
"""Checkpoints that are kept per run, so that others are left if the newest is damaged."""

_Path = str | PathLike[str]


class CheckpointError(ValueError):
    """A checkpoint is missing, is damaged, or does not fit the run."""


class Agent(NamedTuple):
    """A trained network and what it was trained on."""

    network: Any  # QNetworkRNN or ActorCriticRNN
    algorithm: str  # "pqn", "ppo" or "dqn"
    config: dict[str, Any]  # of the algorithm
    manifest: dict[str, Any]
    path: Path  # of the checkpoint


# --- writing -------------------------------------------------------------------------------------


def save(
    run: _Path,
    algorithm: str,
    config: dict[str, Any],
    steps: int,
    state: Any,
    networks: Mapping[int, Any],
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint and delete all but the newest KEPT ones: its folder.

    run: the run's folder. config: the algorithm's, as JSON. steps: taken so far. state: a pytree of
    arrays. networks: seed -> network. extra: further JSON fields for the manifest. Raises OSError,
    with the path, if a file cannot be written; no draft stays.
    """
    final = runs.checkpoint_path(run, steps)
    draft = runs.unfinished_path(final)
    for unfinished in runs.unfinished_checkpoints(run):
        shutil.rmtree(unfinished)
    try:
        draft.mkdir(parents=True)
        _write(draft, algorithm, config, steps, state, networks, extra or {})
        shutil.rmtree(final, ignore_errors=True)
        draft.rename(final)
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    _flush(final.parent)
    for old in checkpoints(run)[:-KEPT]:
        shutil.rmtree(old)
    return final


def _write(
    folder: Path,
    algorithm: str,
    config: dict[str, Any],
    steps: int,
    state: Any,
    networks: Mapping[int, Any],
    extra: Mapping[str, Any],
) -> None:
    """Write the files of a checkpoint and flush them to disk. Arguments as in ``save``."""
    trees = {runs.network_file(seed): network for seed, network in networks.items()}
    for name, tree in {runs.STATE: state, **trees}.items():
        with files.draft(folder / name) as file:
            # as equinox.tree_serialise_leaves does, whose errors hide their cause
            for leaf in jax.tree.leaves(tree):
                eqx.default_serialise_filter_spec(file, leaf)
    content = {
        "format": FORMAT,
        "algorithm": algorithm,
        "config": config,
        "steps": steps,
        "seeds": list(networks),
        "rule_version": rule_version(config["env"]),
        "versions": {
            "popgym_arcade": popgym_arcade.__version__,
            "jax": jax.__version__,
            "equinox": eqx.__version__,
        },
        "files": {path.name: _digest(path) for path in sorted(folder.iterdir())},
        **extra,
    }
    files.write_files({folder / runs.MANIFEST: json.dumps(_signed(content), indent=2).encode()})
    for path in (*folder.iterdir(), folder):
        _flush(path)


def rule_version(name: str) -> int | None:
    """The VERSION of an environment's rules; None if it is not registered."""
    return REGISTRY[name].version if name in REGISTRY else None


def _signed(content: dict[str, Any]) -> dict[str, Any]:
    """A manifest with the SHA-256 of its other fields, so that damage to it is detected."""
    return {**content, "sha256": hashlib.sha256(json.dumps(content).encode()).hexdigest()}


def _digest(path: Path) -> dict[str, Any]:
    """The size and the SHA-256 of a file."""
    with open(path, "rb") as file:
        if hasattr(hashlib, "file_digest"):  # Python 3.11 and newer
            digest = hashlib.file_digest(file, "sha256")
        else:
            digest = hashlib.sha256(file.read())
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _flush(path: Path) -> None:
    """Flush a file or a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- reading -------------------------------------------------------------------------------------


def manifest(checkpoint: _Path) -> dict[str, Any]:
    """Read the manifest of a checkpoint, whose files must be undamaged.

    Raises CheckpointError that says what is wrong otherwise.
    """
    checkpoint = Path(checkpoint)
    try:
        content = dict(json.loads((checkpoint / runs.MANIFEST).read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{checkpoint} is not a checkpoint or is damaged: cannot read {runs.MANIFEST}: {error}"
        ) from error
    if content.get("format") != FORMAT:
        raise CheckpointError(
            f"{checkpoint} has format {content.get('format')}, but this version reads "
            f"format {FORMAT}"
        )
    if content != _signed({name: value for name, value in content.items() if name != "sha256"}):
        raise CheckpointError(f"{checkpoint} is damaged: {runs.MANIFEST} has changed")
    for name, expected in content["files"].items():
        _check_file(checkpoint, name, expected)
    return {**content, "config": {**runs.ADDED_OPTIONS, **content["config"]}}


def _check_file(checkpoint: Path, name: str, expected: dict[str, Any]) -> None:
    """Raise CheckpointError unless a file has the size and the SHA-256 in the manifest."""
    path = checkpoint / name
    if not path.exists():
        raise CheckpointError(f"{checkpoint} is damaged: {name} is missing")
    found = _digest(path)
    if found["bytes"] != expected["bytes"]:
        raise CheckpointError(
            f"{checkpoint} is damaged: {name} has {found['bytes']} bytes instead of "
            f"{expected['bytes']}"
        )
    if found != expected:
        raise CheckpointError(f"{checkpoint} is damaged: the contents of {name} have changed")


def last_whole(run: _Path, warn: Callable[[str], object] = print) -> Path | None:
    """The newest undamaged checkpoint of a run, or None.

    warn: is called with what is wrong with newer ones.
    """
    for checkpoint in reversed(checkpoints(run)):
        try:
            manifest(checkpoint)
        except CheckpointError as error:
            warn(f"{error}; trying the previous one")
        else:
            return checkpoint
    return None


def check_rules(checkpoint: _Path, content: Mapping[str, Any]) -> None:
    """Raise CheckpointError unless the game's rules have the version of a checkpoint.

    content: the checkpoint's manifest.
    """
    name, trained = content["config"]["env"], content["rule_version"]
    installed = rule_version(name)
    if trained != installed:
        raise CheckpointError(
            f"{checkpoint} was trained on version {trained} of the rules of {name}, "
            f"but the installed version is {installed}"
        )


def load_state(checkpoint: _Path, like: Any) -> Any:
    """Load the training state of a checkpoint.

    like: a pytree of arrays or shapes with the state's structure. Raises CheckpointError if the
    checkpoint is damaged or its state has another structure.
    """
    manifest(checkpoint)
    misfit = f"{checkpoint} does not hold the state of such a run"
    try:
        with open(Path(checkpoint) / runs.STATE, "rb") as file:
            state, rest = eqx.tree_deserialise_leaves(file, like), file.read(1)
    except (RuntimeError, TypeError, ValueError, EOFError) as error:
        raise CheckpointError(f"{misfit}: {error}") from error
    if rest:
        raise CheckpointError(f"{misfit}: it has more arrays")
    return state


def load_agent(
    path: _Path, seed: int | None = None, warn: Callable[[str], object] = print
) -> Agent:
    """Load the trained agent of a checkpoint.

    path: the folder of a checkpoint, or of a run, whose newest undamaged checkpoint is loaded.
    seed: one of the run's seeds, by default the first. warn: as in ``last_whole``. Raises
    CheckpointError if there is no undamaged checkpoint or it has no such seed.
    """
    path = Path(path)
    is_run = bool(checkpoints(path)) and not (path / runs.MANIFEST).exists()
    checkpoint = last_whole(path, warn) if is_run else path
    if checkpoint is None:
        raise CheckpointError(f"all checkpoints of {path} are damaged")
    content = manifest(checkpoint)
    chosen: int = content["seeds"][0] if seed is None else seed
    if chosen not in content["seeds"]:
        raise CheckpointError(
            f"{checkpoint} has no seed {chosen}; it has {', '.join(map(str, content['seeds']))}"
        )
    skeleton = eqx.filter_eval_shape(
        network_of(content["algorithm"], content["config"]), jax.random.key(0)
    )
    network = eqx.tree_deserialise_leaves(checkpoint / runs.network_file(chosen), skeleton)
    return Agent(network, content["algorithm"], content["config"], content, checkpoint)
