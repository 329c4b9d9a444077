"""Made-up logs of runs, which the tests of curves, figures and tables read."""

import json

from popgym_arcade.baselines import curves
from popgym_arcade.baselines.runs import read_run


def evaluation(steps, returns, seed=0, twin="POMDP", **others):
    """A line of an evaluation, after one second per 10 steps."""
    line = {"kind": "evaluation", "seed": seed, "steps": steps, "seconds": steps / 10, "twin": twin}
    return {**line, "returns": returns, "lengths": [10 + i for i in range(len(returns))], **others}


def training(steps, return_mean, seed=0, episodes=1, **others):
    """A line of an update, after one second per 10 steps."""
    line = {
        "kind": "training",
        "seed": seed,
        "steps": steps,
        "seconds": steps / 10,
        "episodes": episodes,
    }
    return {**line, "return_mean": return_mean, "length_mean": None, "loss": 0.5, **others}


def write_run(path, lines, algorithm="pqn", **config):
    """Write a run's folder: its path. config: differences from a run on NavigatorEasy's POMDP."""
    path.mkdir(parents=True, exist_ok=True)
    config = {
        "env": "NavigatorEasy",
        "partial": True,
        "memory": "lru",
        "seed": 0,
        "seeds": 1,
        "total_steps": 1000,
        **config,
    }
    (path / "config.json").write_text(json.dumps({"algorithm": algorithm, "config": config}))
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def curves_of(*folders, metric="return", **options):
    """The curves of the runs in these folders. options: of ``collect``."""
    runs = [read_run(folder) for folder in folders]
    return curves.collect(runs, curves.find_metric(metric, runs), **options)


def both_twins(tmp_path):
    """An agent trained on the POMDP and one trained on the MDP, each evaluated on both."""
    runs = []
    for name, partial in (("POMDP", True), ("MDP", False)):
        lines = [
            evaluation(10, [0.5 if twin == name else 0.25], twin=twin) for twin in ("MDP", "POMDP")
        ]
        runs.append(write_run(tmp_path / name, lines, partial=partial))
    return runs
