"""What an algorithm's ``make_train`` returns."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Trainer(NamedTuple):
    """An algorithm as functions. They are pure and not compiled yet: ``jit`` them, and ``vmap`` them over keys for several seeds."""

    algorithm: str  # "pqn", "ppo" or "dqn"
    config: Any  # with every default filled in
    init: Callable  # (key uint32[2]) -> TrainState, which has the fields weights, stream and steps
    update: Callable  # (TrainState) -> (TrainState, metrics): play for a while, then learn. metrics: a dict of scalars
    act: Callable  # (outputs of the network, key) -> (actions int32[num_envs], None): what is evaluated
    static: Any  # ``equinox.combine(state.weights, static)`` is the network
    steps_per_update: int  # frames, of all environments together
