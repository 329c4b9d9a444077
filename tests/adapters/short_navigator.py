"""What the tests of the Gymnasium adapter share: a Navigator with short episodes."""

import numpy as np
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode

from popgym_arcade.adapters.gymnasium import ArcadeEnv, ArcadeVectorEnv
from tests.testing import client

LIMIT, NUM_ENVS, STEPS = 5, 4, 30
SHORT = {"board_size": 4, "max_steps_in_episode": LIMIT}
RESTLESS = 2  # a seed whose first step up moves the agent, and not onto TNT
OUTPUTS = ["numpy", "jax", "torch"]
RESETTING = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]


def short_env(**options):
    """A Navigator whose episodes last at most LIMIT steps, often fewer: it is full of TNT."""
    return ArcadeEnv("NavigatorEasy", **{**SHORT, **options})


def short_envs(**options):
    """NUM_ENVS short Navigators."""
    if options.get("output") == "torch":
        client("torch")
    return ArcadeVectorEnv("NavigatorEasy", NUM_ENVS, **{**SHORT, **options})


def some_actions(seed=0):
    """Random actions for every environment and step: int64[STEPS, NUM_ENVS]."""
    return np.random.default_rng(seed).integers(0, 5, (STEPS, NUM_ENVS))


def play(env, seed, actions, seeded_again=None):
    """Everything that one environment returns, as a list of tuples.

    It is reset after every episode, with the seed ``seeded_again``.
    """
    happened = [env.reset(seed=seed)]
    for action in actions:
        happened.append(env.step(action))
        if happened[-1][2] or happened[-1][3]:
            happened.append(env.reset(seed=seeded_again))
    return happened


def play_all(envs, seed, actions):
    """Everything that a vector of environments returns, as a list of tuples."""
    return [envs.reset(seed=seed), *map(envs.step, actions)]


def as_numpy(tree):
    """Convert the arrays in dicts, tuples, lists and object arrays to NumPy arrays."""
    if isinstance(tree, dict):
        return {name: as_numpy(value) for name, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        return type(tree)(map(as_numpy, tree))
    if isinstance(tree, np.ndarray) and tree.dtype == object:
        return [None if value is None else as_numpy(value) for value in tree]
    return np.asarray(tree).copy()


def same(one, other):
    """Whether two trees of arrays and numbers have equal values and types."""
    return data_equivalence(one, other, exact=True)
