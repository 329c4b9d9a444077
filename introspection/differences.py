"""Observability gap and memory bias computed from the logs of training runs."""

from collections.abc import Callable, Iterable
from os import PathLike
from typing import Any

import numpy as np

from popgym_arcade.baselines.model.memory import MEMORYLESS
from popgym_arcade.baselines.runs import read_run
from popgym_arcade.introspection import measures
from popgym_arcade.introspection.measures import ReturnDifference, Returns
from popgym_arcade.registry import TWINS, twin_name

__all__ = ["GROUPS", "differences_of_runs"]

GROUPS: dict[str, str] = {
    "mdp": "this memory on the MDP",
    "pomdp": "this memory on the POMDP",
    "memoryless": "no memory on the MDP",
}
"""The groups of runs that are compared: name to what the agents were trained with."""

_Paths = Iterable[str | PathLike[str]]


def differences_of_runs(
    mdp: _Paths = (),
    pomdp: _Paths = (),
    memoryless: _Paths = (),
    name: str | None = None,
    obs_size: int | None = None,
    params: str | None = None,
    force: bool = False,
    warn: Callable[[str], object] = print,
) -> dict[str, ReturnDifference]:
    """Observability gap and memory bias from the evaluations that runs have logged, by name.

    mdp, pomdp: folders of runs of agents with the same memory, trained on either twin, with one or
    more seeds each. memoryless: of agents without memory, trained on the MDP. Returns are those of
    the evaluations on the twin trained on. name, obs_size, params: the environment they must
    have. A difference is omitted if one of its sides is missing. Raises ValueError for runs of
    another environment, frame size, memory or twin; with ``force``, ``warn`` is called instead.
    """
    paths = {"mdp": mdp, "pomdp": pomdp, "memoryless": memoryless}
    runs = {group: [read_run(path) for path in of] for group, of in paths.items()}
    mismatches = _mismatches(runs, name, obs_size, params)
    if mismatches and not force:
        raise ValueError(f"{'; '.join(mismatches)}. Use --force to go on anyway")
    for mismatch in mismatches:
        warn(f"warning: {mismatch}")
    returns = {group: _returns(of) for group, of in runs.items() if of}
    differences = {}
    if {"mdp", "pomdp"} <= set(returns):
        differences["observability gap"] = measures.observability_gap(
            returns["mdp"], returns["pomdp"]
        )
    if {"mdp", "memoryless"} <= set(returns):
        differences["memory bias"] = measures.memory_bias(returns["mdp"], returns["memoryless"])
    return differences


def _mismatches(runs, name, obs_size, params) -> list[str]:
    """Describe the configs that do not fit the comparison. runs: a dict, group -> [Run]."""
    memory = next(
        (run.config["memory"].lower() for group in TWINS for run in runs[group.lower()]), None
    )
    mismatches = []
    for group, of in runs.items():
        expected = {
            "env": name,
            "obs_size": obs_size,
            "params": params,
            "partial": group == "pomdp",
            "memory": MEMORYLESS if group == "memoryless" else memory,
        }
        for run in of:
            mismatches += _mismatches_of_run(run, group, expected)
    return mismatches


def _mismatches_of_run(run, group, expected: dict[str, Any]) -> list[str]:
    """Describe the fields of a run's config that differ from the expected ones, None being any."""
    mismatches = []
    for field, value in expected.items():
        found = run.config.get(field)
        found = found.lower() if field == "memory" else found
        if value is not None and found is not None and found != value:
            mismatches.append(
                f"{run.path}, given as --{group}, has {field} {found!r}, but it must be {value!r}"
            )
    return mismatches


def _returns(runs) -> Returns:
    """The Returns of all seeds of some runs, on the twin each run was trained on.

    Raises ValueError for a run without evaluations.
    """
    seeds = []
    for run in runs:
        twin = twin_name(run.config["partial"])
        curves: dict[int, dict[int, float]] = {}
        for line in run.lines:
            if line["kind"] == "evaluation" and line["twin"] == twin:
                curve = curves.setdefault(line["seed"], {})
                curve[line["steps"]] = float(np.mean(line["returns"]))
        if not curves:
            raise ValueError(f"{run.path} has no evaluations on the {twin} yet")
        seeds += [
            measures.returns_of([[curve[steps] for steps in sorted(curve)]])
            for curve in curves.values()
        ]
    return Returns(*map(np.concatenate, zip(*seeds)))
