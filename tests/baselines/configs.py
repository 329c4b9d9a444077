"""Configs of algorithms that take a moment to compile and to train."""

from typing import Any

from popgym_arcade.baselines.algorithms import ALGORITHMS
from popgym_arcade.baselines.config import Config

_SHARED = {
    "env": "Probe",
    "obs_size": 8,
    "hidden_size": 8,
    "num_layers": 1,
    "num_envs": 2,
    "num_steps": 4,
    "memory": "none",
}
_OWN: dict[str, dict[str, Any]] = {
    "pqn": {"num_epochs": 1, "num_minibatches": 1},
    "ppo": {"num_epochs": 1, "num_minibatches": 1},
    "dqn": {
        "steps_per_gradient": 8,
        "batch_size": 2,
        "sequence_length": 2,
        "burn_in": 1,
        "warmup_steps": 8,
        "buffer_steps": 24,
        "target_period": 3,
    },
}


def tiny(algorithm: str, **changes: Any) -> Config:
    """Make the config of a tiny network, few environments and few steps."""
    return ALGORITHMS[algorithm].config(**{**_SHARED, **_OWN[algorithm], **changes})
