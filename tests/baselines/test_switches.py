"""One training update under JAX's own switches. The games' tests are in test_games.py."""

from functools import cache

import jax
import numpy as np
import pytest

from tests.testing import assert_same, client, switched

for library in ("memax", "flashbax", "tyro", "tqdm"):
    client(library)

from popgym_arcade.baselines import checkpoint, evaluate, train  # noqa: E402
from popgym_arcade.baselines.algorithms import ALGORITHMS  # noqa: E402
from tests.baselines.configs import tiny  # noqa: E402

# The whole encoder is one convolution, so that it compiles quickly.
SMALL = {"env": "NavigatorEasy", "partial": True, "obs_size": 128, "patch_size": 32}
WITHOUT_EFFECT = {
    "jax_enable_x64": True,
    "jax_numpy_rank_promotion": "raise",
    "jax_debug_nans": True,
    "jax_check_tracer_leaks": True,
}
WITH_OTHER_DRAWS = [{"jax_threefry_partitionable": False}, {"jax_default_prng_impl": "rbg"}]


def agents(default):
    """Algorithms with memories as parameters; all but one are slow."""
    return pytest.mark.parametrize(
        ("algorithm", "memory"),
        [
            pytest.param(*agent, marks=() if agent == default else pytest.mark.slow)
            for agent in ((algorithm, memory) for algorithm in ALGORITHMS for memory in MEMORIES)
        ],
    )


MEMORIES = ("none", "lru")


def updated(algorithm, memory):
    """The training state after an update, and its metrics."""
    trainer = ALGORITHMS[algorithm].make_train(tiny(algorithm, memory=memory, **SMALL))
    return jax.device_get(jax.jit(trainer.update)(jax.jit(trainer.init)(jax.random.PRNGKey(0))))


@cache
def updated_by_default(algorithm, memory):
    """``updated`` without switches."""
    return updated(algorithm, memory)


@agents(("pqn", "lru"))
def test_switches_that_only_check_change_nothing(algorithm, memory):
    expected = updated_by_default(algorithm, memory)
    with switched(**WITHOUT_EFFECT):
        assert_same(updated(algorithm, memory), expected)


@pytest.mark.parametrize("switches", WITH_OTHER_DRAWS, ids=lambda switches: next(iter(switches)))
@agents(None)
def test_an_update_works_with_other_random_bits(algorithm, memory, switches):
    with switched(**switches):
        _, metrics = updated(algorithm, memory)
    _, by_default = updated_by_default(algorithm, memory)
    assert np.isfinite(metrics["loss"]) and metrics["loss"] != by_default["loss"]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
def test_a_run_is_trained_resumed_and_evaluated_under_switches(algorithm, implementation, tmp_path):
    config = tiny(algorithm, memory="lru", total_steps=40, **SMALL)
    options = train.RunOptions(folder=tmp_path, evaluation_episodes=1, seeds=2, resume=True)
    with switched(**WITHOUT_EFFECT, jax_default_prng_impl=implementation):
        for _ in range(2):
            train.train(algorithm, config, options)
        agent = checkpoint.load_agent(tmp_path)
        assert agent.manifest["steps"] == 40
        assert {leaf.dtype.name for leaf in jax.tree.leaves(agent.network)} <= {
            "float32",
            "complex64",
        }
        returns, _ = evaluate.evaluate_agent(agent, episodes=2)
        frame = np.zeros((128, 128, 3), np.uint8)
        assert evaluate.policy(agent)(frame) in range(5)
    if implementation == "threefry2x32":
        assert_same(evaluate.evaluate_agent(agent, episodes=2)[0], returns)
