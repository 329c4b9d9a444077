"""What every algorithm can be told. Each algorithm adds its own to it.

Times are counted in steps: frames that the agent looks at, of all environments together. The last
frame of an episode, before the next one begins, is one too, so an episode of n actions counts n +
1.
"""

import dataclasses

import popgym_arcade
from popgym_arcade.baselines.model.memory import canonical_memory_name

# Games that are learned in fewer steps, and the steps of a run.
SHORT_GAMES = ("CartPole", "NoisyCartPole", "AutoEncode")
SHORT_STEPS, LONG_STEPS = 10_000_000, 20_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The environment, the network, and how much of what."""

    env: str
    """The environment, e.g. NavigatorEasy."""
    partial: bool = False
    """Train on the POMDP instead of the MDP."""
    obs_size: int = 128
    """Pixels a side of an observation: 128 or 256."""
    memory: str = "lru"
    """The memory, in any case: lru, gru, mingru, ... or none."""
    hidden_size: int = 256
    """Features of the encoder and of the memory."""
    num_layers: int = 2
    """Layers of the memory."""
    total_steps: int | None = None
    """Steps of the whole run. By default 20,000,000, or 10,000,000 with PPO and for CartPole,
    NoisyCartPole and AutoEncode."""
    num_envs: int = 16
    """Environments that are played side by side."""
    num_steps: int = 128
    """Steps of each environment between two updates."""
    discount: float = 0.99
    """What a reward is worth one step earlier."""
    max_gradient_norm: float = 0.5
    """Gradients are scaled down to this norm."""


def with_defaults(config, always_short=False):
    """A config with the memory in lower case and its total_steps filled in. always_short: by
    default 10,000,000 for all games."""
    steps = config.total_steps
    if steps is None:
        steps = SHORT_STEPS if always_short or config.env.startswith(SHORT_GAMES) else LONG_STEPS
    return dataclasses.replace(
        config, memory=canonical_memory_name(config.memory), total_steps=steps
    )


def check(config, environment=None):
    """Raise a ValueError that names the value, what is allowed and the nearest valid choice, if a
    config makes no sense.

    environment: what is trained on instead of config.env, if anything.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.type is float:
            _check_float(field.name, value)
        elif (
            isinstance(value, int)
            and not isinstance(value, bool)
            and value < LOWEST.get(field.name, 1)
        ):
            low = LOWEST.get(field.name, 1)
            raise ValueError(
                f"{field.name} must be at least {low}, but it is {value}; the nearest is {low}"
            )
    minibatches = getattr(config, "num_minibatches", 1)
    if config.num_envs % minibatches:
        nearest = max(1, round(config.num_envs / minibatches)) * minibatches
        raise ValueError(
            f"num_envs must be a multiple of num_minibatches, {minibatches}, but it is {config.num_envs}; the nearest is {nearest}"
        )
    if config.total_steps is not None and config.total_steps < config.num_envs * config.num_steps:
        least = config.num_envs * config.num_steps
        raise ValueError(
            f"total_steps must be at least num_envs * num_steps, {least}, but it is {config.total_steps}; the nearest is {least}"
        )
    canonical_memory_name(config.memory)
    if environment is None:
        popgym_arcade.make(config.env, config.partial, config.obs_size)


LOWEST = {"seed": 0, "burn_in": 0}
"""The least value of a whole number, where it is not 1."""

HIGHEST = {
    "learning_rate": 1.0,
    "final_learning_rate": 1.0,
    "max_gradient_norm": 1e6,
    "entropy_coefficient": 1e3,
}
"""The greatest value of a number that is not whole, where it is not 1."""


def _check_float(name, value):
    """Raise ValueError for a number out of range, NaN among them."""
    high = HIGHEST.get(name, 1.0)
    if not 0 <= value <= high:
        nearest = high if value > high else 0
        raise ValueError(
            f"{name} must lie in 0 ... {high:g}, but it is {value}; the nearest is {nearest:g}"
        )
