"""Checkpoints: all that a training run needs to go on, written so that a crash at any moment leaves
the last whole one.

A checkpoint is a folder ``RUN/checkpoints/step-000000102400`` with

* ``manifest.json``: the algorithm, its config, the steps taken, the rule version of the game,
  versions of the software, and the size and SHA-256 of each other file;
* ``network-SEED.eqx``: the weights of a seed's network, for ``equinox.tree_deserialise_leaves``;
* ``state.eqx``: the whole state of training, of all seeds.

It is written under another name, flushed to the disk and renamed, so a folder with the right name
is whole unless the disk lost something; that is found out by the sums.
"""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax

import popgym_arcade
from popgym_arcade.baselines.model.builder import network_of
from popgym_arcade.registry import REGISTRY

FORMAT = 1
KEPT = (
    3  # checkpoints of a run that are kept, so that there is a previous one if the last is damaged
)


class CheckpointError(ValueError):
    """A checkpoint that is not there, is damaged, or belongs to something else."""


class Agent(NamedTuple):
    """A trained network and what it was trained on."""

    network: Any  # QNetworkRNN or ActorCriticRNN
    algorithm: str  # "pqn", "ppo" or "dqn"
    config: dict  # the algorithm's config, by name
    manifest: dict
    path: Path  # of the checkpoint


# --- writing -------------------------------------------------------------------------------------


def save(run, algorithm, config, steps, state, networks, extra=None):
    """Write a checkpoint of a run and delete the oldest ones: its Path.

    run: the run's folder. algorithm: its name. config: a dict that JSON can hold. steps: taken so
    far. state: any tree of arrays. networks: a dict, seed -> its network. extra: a dict for the
    manifest that JSON can hold.
    """
    final = Path(run) / "checkpoints" / f"step-{steps:012}"
    draft = final.with_name(f".{final.name}")
    for unfinished in final.parent.glob(".step-*"):  # by a run that was killed
        shutil.rmtree(unfinished)
    draft.mkdir(parents=True)
    eqx.tree_serialise_leaves(draft / "state.eqx", state)
    for seed, network in networks.items():
        eqx.tree_serialise_leaves(draft / f"network-{seed}.eqx", network)
    manifest = {
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
        "files": {path.name: _sums(path) for path in sorted(draft.iterdir())},
        **(extra or {}),
    }
    (draft / "manifest.json").write_text(json.dumps(signed(manifest), indent=2))
    for path in (*draft.iterdir(), draft):
        _flush(path)
    shutil.rmtree(final, ignore_errors=True)
    draft.rename(final)
    _flush(final.parent)
    for old in checkpoints(run)[:-KEPT]:
        shutil.rmtree(old)
    return final


def rule_version(name):
    """The VERSION of an environment's rules, or None for one that is not registered."""
    return REGISTRY[name].version if name in REGISTRY else None


def signed(manifest):
    """A manifest with the SHA-256 of all else in it, so that damage to the manifest itself is found
    out.
    """
    return {**manifest, "sha256": hashlib.sha256(json.dumps(manifest).encode()).hexdigest()}


def _sums(path):
    """Size and hash of a file, as the manifest holds them."""
    with open(path, "rb") as file:
        digest = (
            hashlib.file_digest(file, "sha256")
            if hasattr(hashlib, "file_digest")
            else hashlib.sha256(file.read())
        )
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _flush(path):
    """Have the system write a file or a folder to the disk now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- reading -------------------------------------------------------------------------------------


def checkpoints(run):
    """The Paths of a run's checkpoints, the oldest first. Unfinished ones are not among them."""
    folders = (Path(run) / "checkpoints").glob("step-*")
    return sorted(folder for folder in folders if re.fullmatch(r"step-\d{12}", folder.name))


def manifest(checkpoint):
    """The manifest of a checkpoint, a dict, if its files are whole. Raises CheckpointError, which
    says what is not.
    """
    checkpoint = Path(checkpoint)
    try:
        content = dict(json.loads((checkpoint / "manifest.json").read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{checkpoint} is no checkpoint, or a damaged one: cannot read its manifest.json: {error}"
        ) from error
    if content.get("format") != FORMAT:
        raise CheckpointError(
            f"{checkpoint} has format {content.get('format')}, but this version reads format {FORMAT}"
        )
    if content != signed({name: value for name, value in content.items() if name != "sha256"}):
        raise CheckpointError(f"{checkpoint} is damaged: manifest.json is not as it was written")
    for name, expected in content["files"].items():
        path = checkpoint / name
        if not path.exists():
            raise CheckpointError(f"{checkpoint} is damaged: {name} is missing")
        found = _sums(path)
        if found["bytes"] != expected["bytes"]:
            raise CheckpointError(
                f"{checkpoint} is damaged: {name} has {found['bytes']} bytes instead of {expected['bytes']}"
            )
        if found != expected:
            raise CheckpointError(
                f"{checkpoint} is damaged: the bytes of {name} are not those that were written"
            )
    return content


def last_whole(run, warn=print):
    """The newest checkpoint of a run that is whole, or None if there is none. warn: is told what is
    wrong with newer ones.
    """
    for checkpoint in reversed(checkpoints(run)):
        try:
            manifest(checkpoint)
        except CheckpointError as error:
            warn(f"{error}; trying the one before")
        else:
            return checkpoint
    return None


def check_rules(checkpoint, content):
    """Raise CheckpointError if the rules of the game are not those of a checkpoint. content: its
    manifest.
    """
    name, trained = content["config"]["env"], content["rule_version"]
    if trained != rule_version(name):
        raise CheckpointError(
            f"{checkpoint} was trained on version {trained} of the rules of {name}, but these are version {rule_version(name)}"
        )


def load_state(checkpoint, like):
    """The state that was saved. like: a tree of arrays or shapes with its structure. Raises
    CheckpointError if it does not fit.
    """
    manifest(checkpoint)
    try:
        with open(Path(checkpoint) / "state.eqx", "rb") as file:
            state, rest = eqx.tree_deserialise_leaves(file, like), file.read(1)
    except (RuntimeError, TypeError, ValueError, EOFError) as error:
        raise CheckpointError(
            f"{checkpoint} does not hold the state of such a run: {error}"
        ) from error
    if rest:
        raise CheckpointError(
            f"{checkpoint} does not hold the state of such a run: it has more arrays"
        )
    return state


def load_agent(path, seed=None, warn=print):
    """The trained agent of a checkpoint: Agent.

    path: a checkpoint's folder, or a run's, whose last whole checkpoint is taken. seed: which one,
    if the run trained several; the first by default. Raises CheckpointError if there is none, if it
    is damaged, or if it has no such seed.
    """
    path = Path(path)
    checkpoint = (
        path
        if (path / "manifest.json").exists() or not checkpoints(path)
        else last_whole(path, warn)
    )
    if checkpoint is None:
        raise CheckpointError(f"all checkpoints of {path} are damaged")
    content = manifest(checkpoint)
    seed = content["seeds"][0] if seed is None else seed
    if seed not in content["seeds"]:
        raise CheckpointError(
            f"{checkpoint} has no seed {seed}; there are {', '.join(map(str, content['seeds']))}"
        )
    skeleton = eqx.filter_eval_shape(
        network_of(content["algorithm"], content["config"]), jax.random.key(0)
    )
    network = eqx.tree_deserialise_leaves(checkpoint / f"network-{seed}.eqx", skeleton)
    return Agent(network, content["algorithm"], content["config"], content, checkpoint)
