"""The options that all algorithms share. Each algorithm subclasses Config and adds its own.

Steps are environment steps, summed over all parallel environments. The last frame of an episode
takes a step too, in which the environment resets, so an episode of n actions counts n + 1 steps.
"""

import dataclasses
from typing import Any, TypeVar

import popgym_arcade
from popgym_arcade import spaces
from popgym_arcade.baselines.model.memory import canonical_memory_name
from popgym_arcade.registry import overrides_from
from popgym_arcade.wrappers import Environment

__all__ = ["Config", "check", "make_environment", "with_defaults"]

_SHORT_GAMES = ("CartPole", "NoisyCartPole", "AutoEncode")  # learned in fewer steps than the others
_SHORT_STEPS, _LONG_STEPS = 10_000_000, 20_000_000

_LOWEST = {"burn_in": 0}
"""Lower bounds of integers, where they are not 1."""

_HIGHEST = {
    "learning_rate": 1.0,
    "final_learning_rate": 1.0,
    "max_gradient_norm": 1e6,
    "entropy_coefficient": 1e3,
}
"""Upper bounds of floats, where they are not 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the environment, the network and the training loop."""

    env: str
    """Environment name, e.g. NavigatorEasy."""
    params: str = ""
    """Other parameters than the level's, e.g. board_size=4,max_steps_in_episode=50."""
    partial: bool = False
    """Train on the POMDP instead of the MDP."""
    obs_size: int = 128
    """Height and width of an observation in pixels: 128 or 256."""
    memory: str = "lru"
    """Memory model, in upper or lower case: lru, gru, mingru, ..., or none."""
    patch_size: int = 4
    """Side of the patches of pixels that the encoder starts from; 8 trains faster on a CPU."""
    normalize_convolutions: bool = False
    """Use LayerNorm in the encoder's convolutions, too."""
    hidden_size: int = 256
    """Number of features of the encoder and the memory."""
    num_layers: int = 2
    """Number of memory layers."""
    total_steps: int | None = None
    """Total environment steps; if omitted, 20M, or 10M for PPO, (Noisy)CartPole and AutoEncode."""
    num_envs: int = 16
    """Number of parallel environments."""
    num_steps: int = 128
    """Steps per environment between updates."""
    discount: float = 0.99
    """Discount factor (gamma)."""
    max_gradient_norm: float = 0.5
    """Clip gradients to this global norm."""


_ConfigT = TypeVar("_ConfigT", bound=Config)


def with_defaults(config: _ConfigT, always_short: bool = False) -> _ConfigT:
    """Fill in total_steps, and write the memory's name in lower case.

    always_short: use the short default, 10,000,000 steps, for every game.
    """
    steps = config.total_steps
    if steps is None:
        short = always_short or config.env.startswith(_SHORT_GAMES)
        steps = _SHORT_STEPS if short else _LONG_STEPS
    memory = canonical_memory_name(config.memory)
    return dataclasses.replace(config, memory=memory, total_steps=steps)


def make_environment(config: Config) -> tuple[Environment, Any]:
    """Make the environment that a config names: (env, params). Raises what ``make`` raises."""
    return popgym_arcade.make(
        config.env, config.partial, config.obs_size, **overrides_from(config.params)
    )


def check(config: Config, environment: tuple[Environment, Any] | None = None) -> None:
    """Raise ValueError for an option out of range, or for options that do not fit together.

    environment: (env, params) to train on instead of the one that config names, if given. The
    message names the value, what is allowed and the nearest valid choice.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.type is float:
            spaces.check_range(field.name, value, 0, _HIGHEST.get(field.name, 1))
        elif isinstance(value, int) and not isinstance(value, bool):
            spaces.check_range(field.name, value, _LOWEST.get(field.name, 1))
    spaces.check_range("patch_size", config.patch_size, 1, config.obs_size)
    num_minibatches = getattr(config, "num_minibatches", 1)
    spaces.check_multiple("num_envs", config.num_envs, "num_minibatches", num_minibatches)
    if config.total_steps is not None:
        update_steps = config.num_envs * config.num_steps
        spaces.check_range(
            "total_steps", config.total_steps, update_steps, hint=", num_envs * num_steps"
        )
    canonical_memory_name(config.memory)
    if environment is None:
        try:
            make_environment(config)
        except TypeError as error:
            raise ValueError(str(error)) from error
