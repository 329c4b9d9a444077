"""The algorithms by name.

To add one, write its file in the shape of ``pqn.py`` and add it here and to NETWORKS in
model/builder.py.
"""

from collections.abc import Callable
from typing import NamedTuple

from popgym_arcade.baselines import dqn, ppo, pqn


class Algorithm(NamedTuple):
    """What the commands need of an algorithm."""

    make_train: Callable  # (config) -> Trainer
    config: type
    fast: dict  # what is different in the preset for one modern GPU
    act: Callable  # (outputs of the network, key) -> (actions, None): how its agent is evaluated


ALGORITHMS = {
    "pqn": Algorithm(pqn.make_train, pqn.PQNConfig, pqn.FAST, pqn.greedy),
    "ppo": Algorithm(ppo.make_train, ppo.PPOConfig, ppo.FAST, ppo.act),
    "dqn": Algorithm(dqn.make_train, dqn.DQNConfig, dqn.FAST, dqn.greedy),
}
