"""Look into a trained agent's memory: ``popgym-arcade-introspect CHECKPOINT`` writes a folder.

* ``report.html``: the agent's episode as a film strip, and all figures, in one file;
* the figures by themselves, as PNG and PDF;
* ``episode.npz``: the episode and its saliency; ``measures.npz``: recall density and contamination;
* ``summary.json``: the numbers.

Names, shapes and units of the arrays are in docs/introspection.md.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from popgym_arcade.baselines import checkpoint, plot
from popgym_arcade.introspection import episode, figures, measures, report, saliency
from popgym_arcade.render import OBS_SIZES

MOST_DECISIONS = 200  # that have maps in the report
DECISIONS_PER_EPISODE = 16  # for the recall density; more of one episode tell little more
FINEST_SAVED = 32  # squares a side of the maps in episode.npz, at most
EFFECTS = ("values", "chosen", "actions")  # of a contamination
FRAMES_PER_EPISODE = 8  # that are spoilt, one after the other


class Study(NamedTuple):
    """What was found out about an agent."""

    agent: checkpoint.Agent
    setting: episode.Setting
    maps: saliency.SaliencyMaps  # of the first episode
    decisions: np.ndarray  # int[D]: those of the report
    pooled: np.ndarray  # float32[D, T, side, side]: their maps
    recall: measures.RecallDensity  # of all episodes
    noise: list  # of Contamination, one for each episode
    shuffled: list  # of Contamination, one for each episode
    returns: np.ndarray  # float64[episodes]
    differences: dict  # name -> Returns of Estimates


SIDES = {
    "mdp": "this memory on the MDP",
    "pomdp": "this memory on the POMDP",
    "memoryless": "no memory on the MDP",
}
"""What the returns of observability gap and memory bias come from."""


# --- which agent ---------------------------------------------------------------------------------


def setting_to_play(agent, name=None, obs_size=None, partial_obs=None, force=False, warn=print):
    """The Setting in which an agent is looked at, if it belongs there.

    agent: checkpoint.Agent. name, obs_size, partial_obs: what the user asks for; None is what the
    agent was trained on. Both twins are allowed. force: go on where the agent belongs to another
    game, to frames of another size, which it cannot read, so its own are kept, or to another
    version of the game's rules; ``warn`` is told then. Raises CheckpointError otherwise.
    """
    trained = episode.setting_of(agent.config)
    name, size = name or trained.name, obs_size or trained.obs_size
    found, expected = agent.manifest["rule_version"], checkpoint.rule_version(trained.name)
    complaints = []
    if name != trained.name:
        complaints.append(
            f"the agent was trained on {trained.name}, not on {name}; the nearest is {trained.name}"
        )
    if size != trained.obs_size:
        complaints.append(
            f"the agent reads frames of {trained.obs_size} pixels, not of {size}; the nearest is {trained.obs_size}"
        )
    if found != expected:
        complaints.append(
            f"the agent was trained on rule version {found} of {trained.name}, but this is version {expected}"
        )
    if complaints and not force:
        raise checkpoint.CheckpointError(
            f"{agent.path}: {'; '.join(complaints)}. --force goes on nevertheless"
        )
    for complaint in complaints:
        warn(f"going on, but {complaint}")
    return episode.Setting(
        name, trained.partial_obs if partial_obs is None else partial_obs, trained.obs_size
    )


# --- its study -----------------------------------------------------------------------------------


def study(
    agent,
    setting,
    *,
    seed=0,
    max_steps=200,
    episodes=8,
    target=None,
    sigma=0.1,
    samples=4,
    differences=None,
    tell=print,
):
    """Look at an agent: Study.

    setting: Setting. seed: of the episodes. max_steps: of each, at most. episodes: for the
    measures; the first is that of the report. target: as in ``saliency.target_function``; by
    default "log_probability" for an agent with a policy, else "chosen_value". sigma, samples: as in
    ``measures.contamination``. differences: for the Study. tell: is told what is being done. Raises
    ValueError for numbers out of range.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, but it is {episodes}; the nearest is 1")
    measures.check_noise(sigma)
    measures.check_samples(samples)
    keys = jax.random.split(jax.random.PRNGKey(seed), (episodes, 3))
    recalls, noise, shuffled, returns = [], [], [], []
    for number, (play_key, noise_key, shuffle_key) in enumerate(keys):
        played = episode.play(play_key, agent.network, setting, max_steps)
        target = target or ("chosen_value" if played.probabilities is None else "log_probability")
        tell(
            f"episode {number + 1} of {episodes}: {len(played.actions)} decisions, return {played.rewards.sum():.3f}"
        )
        maps = saliency.maps_of_episode(agent.network, played, target)
        if number == 0:
            first, decisions, pooled = maps, *_maps_of_report(maps, tell)
            norms, some = pooled.sum((2, 3)), decisions
        else:
            some = measures.spread(len(maps), DECISIONS_PER_EPISODE)
            norms = maps.magnitudes(some)
        recalls.append(measures.decisions_of(norms, some))
        frames = measures.spread(len(maps), FRAMES_PER_EPISODE)
        noise.append(measures.contamination(maps, noise_key, sigma, frames, samples))
        some = measures.spread(len(maps), DECISIONS_PER_EPISODE)
        shuffled.append(measures.shuffled_past(maps, shuffle_key, some, samples))
        returns.append(played.rewards.sum(dtype=np.float64))
    recall = measures.recall_density(recalls)
    return Study(
        agent,
        setting,
        first,
        decisions,
        pooled,
        recall,
        noise,
        shuffled,
        np.array(returns),
        differences or {},
    )


def _maps_of_report(maps, tell):
    """The decisions of the report and their maps: (int[D], float32[D, T, side, side])."""
    decisions = measures.spread(len(maps), MOST_DECISIONS)
    side = report.side_of_maps(decisions, maps.frames.shape[1])

    def progress(done, total):
        if done == total or done % 64 == 0:
            tell(f"saliency of {done} of {total} decisions")

    return decisions, maps.pooled(side, decisions, progress)


def differences_of_runs(
    mdp=(), pomdp=(), memoryless=(), name=None, obs_size=None, force=False, warn=print
):
    """Observability gap and memory bias from what runs have logged: a dict, name -> Returns of
    Estimates.

    mdp, pomdp: folders of runs of agents with one memory, trained on either twin, a seed or more
    each. memoryless: of agents without a memory, trained on the MDP. Returns are those of the
    evaluations on the twin trained on. name, obs_size: the environment that they must have. A
    difference is left out where a side of it is missing. Raises ValueError for runs of another
    environment, size, memory or twin, unless ``force`` is set; ``warn`` is told then.
    """
    sides = {"mdp": list(mdp), "pomdp": list(pomdp), "memoryless": list(memoryless)}
    runs = {side: [plot.read_run(path) for path in paths] for side, paths in sides.items()}
    complaints = _complaints(runs, name, obs_size)
    if complaints and not force:
        raise ValueError(f"{'; '.join(complaints)}. --force goes on nevertheless")
    for complaint in complaints:
        warn(f"going on, but {complaint}")
    returns = {side: _returns(of) for side, of in runs.items() if of}
    differences = {}
    if {"mdp", "pomdp"} <= set(returns):
        differences["observability gap"] = measures.observability_gap(
            returns["mdp"], returns["pomdp"]
        )
    if {"mdp", "memoryless"} <= set(returns):
        differences["memory bias"] = measures.memory_bias(returns["mdp"], returns["memoryless"])
    return differences


def _complaints(runs, name, obs_size):
    """What is wrong with runs that are to be compared: [str]. runs: a dict, side -> [Run]."""
    complaints = []
    memory = next(
        (run.config["memory"].lower() for side in ("mdp", "pomdp") for run in runs[side]), None
    )
    for side, of in runs.items():
        expected = {
            "env": name,
            "obs_size": obs_size,
            "partial": side == "pomdp",
            "memory": "none" if side == "memoryless" else memory,
        }
        for run in of:
            for field, value in expected.items():
                found = run.config.get(field)
                found = found.lower() if field == "memory" else found
                if value is not None and found is not None and found != value:
                    complaints.append(
                        f"{run.path}, given as {side}, has {field} {found!r}, but it must be {value!r}"
                    )
    return complaints


def _returns(runs):
    """The Returns of all seeds of runs, on the twin that each was trained on. Raises ValueError if
    there are no evaluations."""
    seeds = []
    for run in runs:
        twin = plot.TWINS[run.config["partial"]]
        by_seed = {}
        for line in run.lines:
            if line["kind"] == "evaluation" and line["twin"] == twin:
                by_seed.setdefault(line["seed"], {})[line["steps"]] = np.mean(line["returns"])
        if not by_seed:
            raise ValueError(f"{run.path} has no evaluations on the {twin} yet")
        seeds += [
            measures.returns_of([[curve[steps] for steps in sorted(curve)]])
            for curve in by_seed.values()
        ]
    return measures.Returns(*map(np.concatenate, zip(*seeds)))


# --- what is written -----------------------------------------------------------------------------


def write(folder, found, sigma):
    """Write all files of a Study into a folder, which is made if it is missing. sigma: of its
    noise."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = _figures(found, sigma)
    for name, (_, _, figure) in drawn.items():
        figures.save(figure, folder / name)
    played = found.maps.episode
    np.savez_compressed(folder / "episode.npz", **_arrays_of_episode(found))
    np.savez_compressed(folder / "measures.npz", **_arrays_of_measures(found))
    (folder / "summary.json").write_text(json.dumps(_summary(found), indent=2) + "\n")
    shown = [drawn[name] for name in drawn if name != "saliency_grid"]
    report.write(
        folder / "report.html",
        _title(found),
        _facts(found),
        played,
        found.decisions,
        found.pooled,
        shown,
    )


def _figures(found, sigma):
    """The figures: a dict, file name -> (title, explanation, Figure)."""
    played, config = found.maps.episode, {**found.agent.config, **_config(found.setting)}
    last = found.maps[-1]
    drawn = {
        "saliency_line": (
            "The last decision",
            "Frames that the agent saw, and below them how its last decision changes with each pixel.",
            figures.vis_fn(last, played.frames, config),
        ),
        "saliency_grid": (
            "The last decision",
            "More frames.",
            figures.vis_fn(last, played.frames, config, "grid"),
        ),
        "values": (
            "Values",
            "What the agent expects at each decision, and what it is paid.",
            figures.draw_values(played),
        ),
        "recall_density": (
            "Recall density",
            "How a decision's gradient is spread over its past, from the start of the episode to the decision. "
            "Dashed: what an agent would have that recalls all frames alike.",
            figures.draw_recall(found.recall),
        ),
        "contamination": (
            "Memory contamination",
            "Noise on one old frame: how much it changes later decisions. Dashed: all earlier frames in another order.",
            figures.draw_contamination(found.noise, found.shuffled, sigma),
        ),
    }
    if found.differences:
        drawn["differences"] = (
            "What memory is worth",
            "Observability gap: what is lost by not seeing everything. Memory bias: what the memory changes where none is needed.",
            figures.draw_differences(found.differences),
        )
    return drawn


def _config(setting):
    """A Setting as the config of ``vis_fn``."""
    return {"ENV_NAME": setting.name, "PARTIAL": setting.partial_obs, "OBS_SIZE": setting.obs_size}


def _title(found):
    """The report's title."""
    return (
        f"{found.setting.name}, {plot.TWINS[found.setting.partial_obs]}: what the agent remembers"
    )


def _facts(found):
    """What the report says of the agent: [(name, text)]."""
    agent, played = found.agent, found.maps.episode
    end = "terminated" if played.terminated else "at the limit" if played.truncated else "cut off"
    return [
        ("algorithm", agent.algorithm.upper()),
        ("memory", agent.config["memory"]),
        ("trained on", plot.TWINS[agent.config["partial"]]),
        ("steps of training", f"{agent.manifest['steps']:,}"),
        (
            "this episode",
            f"{len(played.actions)} decisions, {end}, return {played.rewards.sum():.3f}",
        ),
        ("return", f"{found.returns.mean():.3f} over {len(found.returns)} episodes"),
        ("differentiated", found.maps.target.__name__.replace("_", " ")),
        ("in the past", f"{100 * found.recall.past.value:.3g} % of the gradient"),
    ]


def _arrays_of_episode(found):
    """The arrays of episode.npz."""
    played, norms = found.maps.episode, found.pooled.sum((2, 3))
    pooled = _coarser(found.pooled, FINEST_SAVED)
    shares = np.divide(
        pooled, norms[..., None, None], out=np.zeros_like(pooled), where=norms[..., None, None] > 0
    )
    policy = {} if played.probabilities is None else {"probabilities": played.probabilities}
    return {
        **{
            name: getattr(played, name)
            for name in ("frames", "last_actions", "starts", "actions", "rewards", "values")
        },
        **policy,
        "decisions": found.decisions,
        "magnitudes": norms,
        "maps": shares.astype(np.float16),
        "sum": np.abs(found.maps.sum()).sum(-1),
    }


def _coarser(pooled, side):
    """Maps, float32[..., s, s], with their squares put together until there are at most ``side`` of
    them a side."""
    *before, height, width = pooled.shape
    factor = max(1, height // side)
    return pooled.reshape(*before, height // factor, factor, width // factor, factor).sum((-3, -1))


def _arrays_of_measures(found):
    """The arrays of measures.npz."""
    recall = {f"recall_{name}": np.asarray(value) for name, value in found.recall._asdict().items()}
    kinds = {"noise": found.noise, "shuffled": found.shuffled}
    contaminations = {
        f"{kind}{number}_{name}": value
        for kind, of in kinds.items()
        for number, one in enumerate(of)
        for name, value in one._asdict().items()
    }
    return {**recall, **contaminations, "returns": found.returns}


def _summary(found):
    """The numbers of summary.json."""
    return {
        "checkpoint": str(found.agent.path),
        "setting": found.setting._asdict(),
        "target": found.maps.target.__name__,
        "episodes": len(found.returns),
        "return": measures.estimate(found.returns)._asdict(),
        "recall_past": found.recall.past._asdict(),
        "noise_one_step_later": {name: _one_step_later(found.noise, name) for name in EFFECTS},
        "shuffled_past": {
            name: float(np.mean([getattr(one, name).mean() for one in found.shuffled]))
            for name in EFFECTS
        },
        **{
            name.replace(" ", "_"): {
                kind: one._asdict() for kind, one in difference._asdict().items()
            }
            for name, difference in found.differences.items()
        },
    }


def _one_step_later(noise, measure):
    """What noise on a frame does to the next decision, a mean over episodes; None if no episode has
    two decisions."""
    curves = [one.by_age(measure) for one in noise]
    values = [curve[1] for curve in curves if len(curve) > 1]
    return float(np.mean(values)) if values else None


# --- the command ---------------------------------------------------------------------------------


def parser():
    """What the command line takes."""
    result = argparse.ArgumentParser(
        prog="popgym-arcade-introspect",
        description="Look into a trained agent's memory, and write figures, arrays and a report.",
    )
    result.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="a checkpoint's folder, or a run's, whose last one is taken",
    )
    result.add_argument(
        "--out",
        metavar="FOLDER",
        help="where to write (default: introspection-ENVIRONMENT-TWIN-MEMORY)",
    )
    result.add_argument(
        "--network-seed",
        type=int,
        metavar="SEED",
        help="which network, if the run trained several (default: the first)",
    )
    result.add_argument(
        "--env", metavar="NAME", help="the environment (default: that of the checkpoint)"
    )
    result.add_argument(
        "-o",
        "--obs-size",
        type=int,
        choices=OBS_SIZES,
        help="pixels a side (default: those of the checkpoint)",
    )
    result.add_argument(
        "--twin",
        choices=("mdp", "pomdp"),
        help="the view that is played (default: the one trained on)",
    )
    result.add_argument(
        "--force",
        action="store_true",
        help="go on with a checkpoint of another game, size or rule version",
    )
    result.add_argument("--seed", type=int, default=0, help="decides the episodes (default 0)")
    result.add_argument(
        "--max-steps",
        type=int,
        default=200,
        metavar="N",
        help="decisions of an episode, at most (default 200)",
    )
    result.add_argument(
        "--episodes", type=int, default=8, metavar="N", help="episodes for the measures (default 8)"
    )
    result.add_argument(
        "--target",
        choices=tuple(saliency.TARGETS),
        help="what is differentiated (default: by the kind of agent)",
    )
    result.add_argument(
        "--sigma",
        type=float,
        default=0.1,
        help="noise, as a share of a pixel's range (default 0.1)",
    )
    result.add_argument(
        "--samples", type=int, default=4, metavar="N", help="of noise and of shuffles (default 4)"
    )
    for side, what in SIDES.items():
        result.add_argument(
            f"--{side}", nargs="+", default=[], metavar="RUN", help=f"runs that trained with {what}"
        )
    return result


def main(arguments=None):
    """Look into a checkpoint from the command line. Bad input exits with 2."""
    options_parser = parser()
    options = options_parser.parse_args(arguments)
    tell = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    try:
        agent = checkpoint.load_agent(options.checkpoint, options.network_seed, warn=tell)
        partial_obs = None if options.twin is None else options.twin == "pomdp"
        setting = setting_to_play(
            agent, options.env, options.obs_size, partial_obs, options.force, tell
        )
        sides = {side: getattr(options, side) for side in SIDES}
        differences = differences_of_runs(
            **sides, name=setting.name, obs_size=setting.obs_size, force=options.force, warn=tell
        )
        numbers = {
            name: getattr(options, name)
            for name in ("seed", "max_steps", "episodes", "target", "sigma", "samples")
        }
        found = study(agent, setting, **numbers, differences=differences, tell=tell)
        twin = plot.TWINS[setting.partial_obs]
        folder = Path(
            options.out or f"introspection-{setting.name}-{twin}-{agent.config['memory']}"
        )
        write(folder, found, options.sigma)
    except (ValueError, TypeError, OSError) as error:
        options_parser.error(str(error))
    past = found.recall.past
    print(
        f"{100 * past.value:.3g} % of the gradient is in the past ({100 * past.low:.3g} ... {100 * past.high:.3g} %)"
    )
    print(f"wrote {folder}: open {folder / 'report.html'} in a browser")


if __name__ == "__main__":
    main()
