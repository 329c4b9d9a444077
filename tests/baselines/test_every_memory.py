"""Tests of every algorithm with every memory, in a file of their own for one worker to run."""

import jax
import numpy as np
import pytest

from tests.testing import client

client("equinox")
for library in ("memax", "optax", "flashbax"):
    client(library)

from popgym_arcade.baselines.algorithms import ALGORITHMS  # noqa: E402
from popgym_arcade.baselines.model.memory import memory_names  # noqa: E402
from tests.baselines import probes  # noqa: E402
from tests.baselines.configs import tiny  # noqa: E402


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("memory", memory_names())
def test_an_update_with_every_memory_runs_and_changes_the_weights(algorithm, memory):
    trainer = ALGORITHMS[algorithm].make_train(
        tiny(algorithm, memory=memory), probes.make(probes.Params(probe=probes.CUE))
    )
    before = trainer.init(jax.random.key(0, impl="unsafe_rbg"))  # this generator compiles fast
    after, metrics = jax.jit(trainer.update)(before)
    assert all(
        np.isfinite(value)
        for name, value in metrics.items()
        if name not in ("return_mean", "length_mean")
    )
    old, new = jax.device_get((before.weights.trunk, after.weights.trunk))
    for part in ("encoder", "memory"):
        pairs = list(zip(*(jax.tree.leaves(getattr(trunk, part)) for trunk in (old, new))))
        assert all(np.isfinite(leaf).all() for _, leaf in pairs)
        assert np.mean([(one != other).any() for one, other in pairs]) > 0.5, part
