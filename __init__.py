"""POPGym Arcade: pixel arcade games as pure JAX functions, each as an MDP and as a POMDP."""

from popgym_arcade.registry import (
    GAMES,
    REGISTERED_ENVIRONMENTS,
    REGISTRY,
    Action,
    Entry,
    Environment,
    make,
)

__all__ = [
    "GAMES",
    "REGISTERED_ENVIRONMENTS",
    "REGISTRY",
    "Action",
    "Entry",
    "Environment",
    "make",
]
__version__ = "0.1.0"
