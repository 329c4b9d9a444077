"""Compare play with and without memory in one environment: the figures of the certificate."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from popgym_arcade.memory import by_heart as heart
from popgym_arcade.memory import player as policies
from popgym_arcade.memory import search
from popgym_arcade.memory.delay import delays
from popgym_arcade.memory.episodes import Estimate, estimate, returns
from popgym_arcade.memory.player import Player, Policy
from popgym_arcade.memory.players import PLAYERS
from popgym_arcade.registry import REGISTRY, Entry

__all__ = [
    "REQUIRED_HEADROOM",
    "STANDARD",
    "Effort",
    "certify",
    "headroom",
    "memoryless_policies",
    "searched_policies",
]

REQUIRED_HEADROOM: float = 0.3
"""The least headroom that an environment must have."""

Show = Callable[[float, str], None]
"""Called with the share of the work that is done, in [0, 1], and what is done next."""


class Effort(NamedTuple):
    """How much work goes into the figures."""

    episodes: int = 1024  # for each mean return
    table: search.Settings = search.Settings(iterations=400)
    network: search.NetworkSettings = search.NetworkSettings(iterations=150)
    by_heart: heart.Settings = heart.Settings()
    steps: int = 1 << 17  # of an iteration, at most: long games get fewer episodes
    delays: int = 256  # actions whose delay is measured
    seed: int = 0


STANDARD: Effort = Effort()
"""That of the published figures."""


def headroom(random: float, memoryless: float, recall: float) -> float:
    """What memory adds to the best play without it, as a share of what recall adds to chance."""
    return (recall - memoryless) / (recall - random)


def certify(
    name: str, effort: Effort = STANDARD, show: Show = lambda share, what: None, **overrides: Any
) -> dict[str, Any]:
    """Play a POMDP with each kind of player: the figures of the certificate.

    name: a registered environment. overrides: fields of Params, e.g. ``cursor_hidden=False``.
    Returns, as JSON holds it:

    * random, memoryless, recall, expert: mean returns with 95 % confidence interval, [mean, low,
      high]. recall_on_mdp: the same of recall on the MDP, with its memory wiped before every frame.
    * memoryless_by: how the best memoryless policy was found.
    * headroom: (recall - memoryless) / (recall - random).
    * delay_share: the share of recall's actions for which the present frame is not enough.
      delay_median, delay_max: how many steps back the frame lies that such an action needs.
    * version: of the game's rules. episodes: played for each return. iterations: of the search with
      a table.
    """
    entry = REGISTRY[name]
    mdp = dataclasses.replace(entry.params, **overrides)
    params, player = dataclasses.replace(mdp, partial_obs=True), PLAYERS[entry.game]

    without_memory = memoryless_policies(entry, params, player, effort, show)
    show(0.8, "playing")

    def means(params: Any, played: dict[str, Policy]) -> dict[str, Estimate]:
        values = returns(entry, params, played, episodes=effort.episodes, seed=effort.seed)
        return {name: estimate(values[name]) for name in played}

    figures = means(
        params,
        {
            "random": policies.random_policy(),
            "recall": policies.recall_policy(player),
            "expert": policies.expert_policy(),
            **without_memory,
        },
    )
    figures |= means(mdp, {"recall_on_mdp": policies.forgetful_policy(player)})
    best = max(["random", *without_memory], key=lambda by: figures[by].mean)
    worth = headroom(*(figures[kind].mean for kind in ("random", best, "recall")))
    show(0.9, "delays")
    needed = delays(entry, params, player, samples=effort.delays, seed=effort.seed)
    return {
        **{
            kind: _rounded(figures[kind])
            for kind in ("random", "recall", "recall_on_mdp", "expert")
        },
        "memoryless": _rounded(figures[best]),
        "memoryless_by": best,
        "headroom": round(worth, 3),
        "delay_share": round(float(np.mean(needed > 0)), 3),
        "delay_median": int(np.median(needed[needed > 0])) if np.any(needed > 0) else 0,
        "delay_max": int(needed.max()),
        "version": entry.version,
        "episodes": effort.episodes,
        "iterations": effort.table.iterations,
    }


def memoryless_policies(
    entry: Entry, params: Any, player: Player, effort: Effort, show: Show = lambda share, what: None
) -> dict[str, Policy]:
    """All policies that know only the present frame: how each was found -> the Policy."""
    return {
        **{
            f"reflex: {reflex_name.replace('_', ' ')}": _reflex_policy(player, reflex)
            for reflex_name, reflex in player.reflexes.items()
        },
        **searched_policies(entry, params, player, effort, show),
    }


def searched_policies(
    entry: Entry, params: Any, player: Player, effort: Effort, show: Show = lambda share, what: None
) -> dict[str, Policy]:
    """The policies that the searches find: how each was found -> the Policy."""
    searches: dict[str, Callable[[heart.Progress], dict[str, Policy]]] = {}
    gradients: dict[str, Any] = {"table": (search.table, search.table_policy, effort.table)}
    if player.features:
        gradients["network"] = search.network, search.network_policy, effort.network
    for kind, (find, policy, settings) in gradients.items():
        searches[kind] = partial(
            _by_gradient, kind, find, policy, settings, entry, params, player, effort
        )
    if heart.distinct_starts(entry, params) is not None:
        searches["by heart"] = partial(_by_heart, entry, params, player, effort)
    found: dict[str, Policy] = {}
    for number, (kind, search_for) in enumerate(searches.items()):

        def progress(share, mean, number=number, kind=kind):
            show(0.8 * (number + share) / len(searches), f"{kind}: {mean:.3f}")

        found |= search_for(progress)
    return found


def _by_gradient(kind, find, policy, settings, entry, params, player, effort, progress):
    """Search with one of search.py's functions, with the episodes that effort.steps allows."""
    most = max(1, effort.steps // int(params.max_steps_in_episode))
    settings = settings._replace(episodes=min(settings.episodes, most))

    def by_iterations(iterations, mean):
        progress(iterations / settings.iterations, mean)

    result = find(entry, params, player, settings, effort.seed, by_iterations)
    return {
        f"{kind}, sampled": policy(player, result),
        f"{kind}, greedy": policy(player, result, greedy=True),
    }


def _by_heart(entry, params, player, effort, progress):
    actions = heart.by_heart(entry, params, player, effort.by_heart, effort.seed, progress)
    return {"by heart": heart.by_heart_policy(player, actions)}


def _reflex_policy(player: Player, reflex: Callable[..., Any]) -> Policy:
    return policies.memoryless_policy(player, lambda key, shown, params: reflex(shown, params))


def _rounded(figure: Estimate) -> list[float]:
    return [round(value, 4) for value in figure]
