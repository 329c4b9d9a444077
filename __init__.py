"""POPGym Arcade: arcade games drawn in pixels, as pure JAX functions, in fully and partially
observable twins."""

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
