"""The algorithms by name.

To add one, write a module like ``pqn.py``, and add it here and to NETWORKS in ``model/builder.py``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from popgym_arcade.baselines import dqn, ppo, pqn
from popgym_arcade.baselines.config import Config
from popgym_arcade.baselines.rollout import Act
from popgym_arcade.baselines.trainer import Trainer

__all__ = ["ALGORITHMS", "Algorithm"]


class Algorithm(NamedTuple):
    """What the commands need to know about an algorithm."""

    make_train: Callable[..., Trainer]  # (config, environment=None) -> Trainer
    config: type[Config]
    fast: dict[str, Any]  # the options that the preset for a modern GPU changes
    act: Act  # the policy to evaluate; its extras are None


ALGORITHMS: dict[str, Algorithm] = {
    "pqn": Algorithm(pqn.make_train, pqn.PQNConfig, pqn.FAST, pqn.greedy),
    "ppo": Algorithm(ppo.make_train, ppo.PPOConfig, ppo.FAST, ppo.act),
    "dqn": Algorithm(dqn.make_train, dqn.DQNConfig, dqn.FAST, pqn.greedy),
}
