"""A study of a trained agent: its episodes, their saliency, and the measures of its memory."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from popgym_arcade import spaces
from popgym_arcade.baselines.checkpoint import Agent
from popgym_arcade.baselines.precision import in_32_bits
from popgym_arcade.introspection import measures
from popgym_arcade.introspection.episode import EnvironmentConfig, Trajectory, rollout
from popgym_arcade.introspection.measures import Contamination, RecallDensity, ReturnDifference
from popgym_arcade.introspection.report import map_side
from popgym_arcade.introspection.saliency import SaliencyMaps, Target, saliency_of
from popgym_arcade.spaces import evenly_spaced

__all__ = ["Study", "study"]

MAX_DECISIONS = 200  # with maps in the report
DECISIONS_PER_EPISODE = 16  # for the measures; more from one episode add little
FRAMES_PER_EPISODE = 8  # that get noise, one at a time


class Study(NamedTuple):
    """The results of studying an agent."""

    agent: Agent
    environment: EnvironmentConfig
    maps: SaliencyMaps  # of the first episode
    decisions: np.ndarray  # int[D]: those in the report
    pooled: np.ndarray  # float32[D, T, side, side]: their maps
    recall: RecallDensity  # over all episodes
    noise: list[Contamination]  # one per episode
    shuffled: list[Contamination]  # one per episode
    returns: np.ndarray  # float64[episodes]
    differences: Mapping[str, ReturnDifference]

    @property
    def trajectory(self) -> Trajectory:
        """The first episode."""
        assert self.maps.episode is not None
        return self.maps.episode


@in_32_bits
def study(
    agent: Agent,
    environment: EnvironmentConfig,
    *,
    seed: int = 0,
    max_steps: int = 200,
    episodes: int = 8,
    target: str | Target | None = None,
    sigma: float = 0.1,
    samples: int = 4,
    differences: Mapping[str, ReturnDifference] | None = None,
    log: Callable[[str], object] = print,
) -> Study:
    """Study an agent on an environment.

    seed: of the episodes. max_steps: the maximum decisions of an episode. episodes: for the
    measures; the report shows the first. target: as in ``saliency.target_function``; by default
    "log_probability" for an agent with a policy, else "chosen_value". sigma, samples: as in
    ``measures.contamination``. differences: stored in the Study. log: called with lines of
    progress. Raises ValueError for numbers out of range.
    """
    spaces.check_seed("seed", seed)
    spaces.check_range("episodes", episodes, 1)
    spaces.check_range("sigma", sigma, *measures.SIGMA_RANGE)
    spaces.check_range("samples", samples, 1)
    keys = jax.random.split(jax.random.PRNGKey(seed), (episodes, 3))

    def play(number):
        log(f"playing episode {number + 1} of {episodes}")
        played = rollout(keys[number, 0], agent.network, environment, max_steps)
        default = "chosen_value" if played.probabilities is None else "log_probability"
        returns.append(played.rewards.sum(dtype=np.float64))
        log(
            f"episode {number + 1} of {episodes}: {len(played.actions)} decisions, "
            f"return {played.rewards.sum():.3f}"
        )
        return saliency_of(agent.network, played, target or default)

    returns, noise, shuffled = [], [], []
    first = maps = play(0)
    decisions, pooled = _report_maps(first, log)
    recalls = [measures.decisions_of(pooled.sum((2, 3)), decisions)]
    for number, (_, noise_key, shuffle_key) in enumerate(keys):
        if number > 0:
            maps = play(number)
            recalls.append(_recall_norms(maps))
        log("measuring recall and contamination")
        frames = evenly_spaced(len(maps), FRAMES_PER_EPISODE)
        noise.append(measures.contamination(maps, noise_key, sigma, frames, samples))
        some = evenly_spaced(len(maps), DECISIONS_PER_EPISODE)
        shuffled.append(measures.shuffled_past(maps, shuffle_key, some, samples))
    recall, differences = measures.recall_density(recalls), differences or {}
    figures = recall, noise, shuffled, np.array(returns), differences
    return Study(agent, environment, first, decisions, pooled, *figures)


def _report_maps(maps: SaliencyMaps, log: Callable[[str], object]) -> tuple[np.ndarray, np.ndarray]:
    """The decisions in the report and their maps: (int[D], float32[D, T, side, side])."""
    decisions = evenly_spaced(len(maps), MAX_DECISIONS)
    side = map_side(decisions, maps.frames.shape[1])

    def log_progress(done, total):
        if done == total or done % 64 == 0:
            log(f"saliency of {done} of {total} decisions")

    return decisions, maps.pooled(side, decisions, log_progress)


def _recall_norms(maps: SaliencyMaps) -> list:
    """The norms of some decisions, as ``measures.recall_density`` takes them."""
    decisions = evenly_spaced(len(maps), DECISIONS_PER_EPISODE)
    return measures.decisions_of(maps.magnitudes(decisions), decisions)
