"""Write a Study to a folder: the report, the figures, the arrays and the summary.

Names, shapes and units of the arrays are in docs/introspection.md.
"""

import io
import json
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from popgym_arcade.baselines.precision import in_32_bits
from popgym_arcade.commands.files import new_folder, write_files
from popgym_arcade.introspection import figures, measures
from popgym_arcade.introspection.report import report_page
from popgym_arcade.introspection.study import Study
from popgym_arcade.registry import twin_name

__all__ = ["EFFECTS", "write"]

EFFECTS: tuple[str, ...] = ("values", "chosen", "actions")
"""The measures of a Contamination that the summary holds."""

MAX_SAVED_SIDE = 32  # squares per side of the maps in episode.npz


@in_32_bits
def write(folder: str | PathLike[str], found: Study, sigma: float) -> None:
    """Write all files of a Study into a folder, which is created if needed. sigma: of its noise.

    All are written or, if OSError is raised, with the path, none.
    """
    folder, contents = Path(folder), {}
    drawn = _figures(found, sigma)
    for name, (_, _, figure) in drawn.items():
        contents |= figures.contents_of(figure, folder / name)
    contents[folder / "episode.npz"] = _compressed(_episode_arrays(found))
    contents[folder / "measures.npz"] = _compressed(_measure_arrays(found))
    contents[folder / "summary.json"] = (json.dumps(_summary(found), indent=2) + "\n").encode()
    contents[folder / "report.html"] = _report(found, drawn).encode()
    with new_folder(folder):
        write_files(contents)


def _compressed(arrays: dict[str, Any]) -> bytes:
    """The content of an .npz file."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def _report(found: Study, drawn: dict[str, tuple[str, str, Figure]]) -> str:
    """The report's HTML. drawn: from ``_figures``."""
    twin = twin_name(found.environment.partial_obs)
    return report_page(
        f"{found.environment.name}, {twin}: what the agent remembers",
        _facts(found),
        found.trajectory,
        found.decisions,
        found.pooled,
        [drawn[name] for name in drawn if name != "saliency_grid"],
    )


def _figures(found: Study, sigma: float) -> dict[str, tuple[str, str, Figure]]:
    """The figures: file name to (title, explanation, Figure)."""
    environment, frames, last = found.environment, found.trajectory.frames, found.maps[-1]
    config = {
        **found.agent.config,
        "ENV_NAME": environment.name,
        "PARTIAL": environment.partial_obs,
        "OBS_SIZE": environment.obs_size,
    }
    drawn = {
        "saliency_line": (
            "The last decision",
            "Frames the agent saw, each above its saliency for the last decision.",
            figures.vis_fn(last, frames, config),
        ),
        "saliency_grid": (
            "The last decision",
            "More frames.",
            figures.vis_fn(last, frames, config, "grid"),
        ),
        "values": (
            "Values",
            "Predicted returns and rewards at each decision.",
            figures.draw_values(found.trajectory),
        ),
        "recall_density": (
            "Recall density",
            "How a decision's gradient is distributed over its past, from the start of the episode "
            "to the decision. Dashed: all frames have equal weight.",
            figures.draw_recall(found.recall),
        ),
        "contamination": (
            "Memory contamination",
            "The effect of noise on one past frame on later decisions. "
            "Dashed: all earlier frames shuffled.",
            figures.draw_contamination(found.noise, found.shuffled, sigma),
        ),
    }
    if found.differences:
        drawn["differences"] = (
            "What memory is worth",
            "Observability gap: the return lost to partial observability. "
            "Memory bias: the effect of the memory where none is needed.",
            figures.draw_differences(found.differences),
        )
    return drawn


def _facts(found: Study) -> list[tuple[str, str]]:
    """What the report says about the agent: (name, text) pairs."""
    agent, played = found.agent, found.trajectory
    end = (
        "terminated"
        if played.terminated
        else "truncated"
        if played.truncated
        else "cut off at max_steps"
    )
    decisions, total = len(played.actions), played.rewards.sum()
    return [
        ("algorithm", agent.algorithm.upper()),
        ("memory", agent.config["memory"]),
        ("trained on", twin_name(agent.config["partial"])),
        ("training steps", f"{agent.manifest['steps']:,}"),
        ("this episode", f"{decisions} decisions, {end}, return {total:.3f}"),
        ("mean return", f"{found.returns.mean():.3f} over {len(found.returns)} episodes"),
        ("target", _target_name(found).replace("_", " ")),
        ("past frames", f"{100 * found.recall.past.value:.3g} % of the gradient"),
    ]


def _target_name(found: Study) -> str:
    """The name of the target function."""
    return getattr(found.maps.target, "__name__", repr(found.maps.target))


def _episode_arrays(found: Study) -> dict[str, Any]:
    """The arrays of episode.npz."""
    played, norms = found.trajectory, found.pooled.sum((2, 3))
    pooled = _coarser(found.pooled, MAX_SAVED_SIDE)
    shares = np.divide(
        pooled, norms[..., None, None], out=np.zeros_like(pooled), where=norms[..., None, None] > 0
    )
    probabilities = played.probabilities
    return {
        "frames": played.frames,
        "last_actions": played.last_actions,
        "starts": played.starts,
        "actions": played.actions,
        "rewards": played.rewards,
        "values": played.values,
        **({} if probabilities is None else {"probabilities": probabilities}),
        "decisions": found.decisions,
        "magnitudes": norms,
        "maps": shares.astype(np.float16),
        "sum": np.abs(found.maps.sum()).sum(-1),
    }


def _coarser(pooled: np.ndarray, side: int) -> np.ndarray:
    """Maps, float32[..., s, s], summed over squares until they have at most ``side`` per side."""
    *before, height, width = pooled.shape
    factor = max(1, height // side)
    return pooled.reshape(*before, height // factor, factor, width // factor, factor).sum((-3, -1))


def _measure_arrays(found: Study) -> dict[str, Any]:
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


def _summary(found: Study) -> dict[str, Any]:
    """The numbers of summary.json."""
    return {
        "checkpoint": str(found.agent.path),
        "setting": found.environment._asdict(),
        "target": _target_name(found),
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


def _one_step_later(noise: list[measures.Contamination], measure: str) -> float | None:
    """The mean effect of noise on the next decision; None if no episode has two decisions."""
    curves = [one.by_age(measure) for one in noise]
    values = [curve[1] for curve in curves if len(curve) > 1]
    return float(np.mean(values)) if values else None
