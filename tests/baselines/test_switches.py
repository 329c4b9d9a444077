"""One training update under JAX's own switches.

Each game under each switch is tested in test_games.py. So only an agent that collects frames and
one that replays states play a game here; the others play a probe, which compiles in a third of
the time.
"""

from functools import partial

import jax
import numpy as np
import pytest

from tests.testing import client, switched

for library in ("memax", "flashbax", "tyro", "tqdm"):
    client(library)

from popgym_arcade.baselines import checkpoint, evaluate, train  # noqa: E402
from popgym_arcade.baselines.algorithms import ALGORITHMS  # noqa: E402
from tests.baselines import probes  # noqa: E402
from tests.baselines.configs import tiny  # noqa: E402

# The whole encoder is one convolution, so that it compiles quickly.
SMALL = {"env": "NavigatorEasy", "partial": True, "obs_size": 128, "patch_size": 32}
ONLY_CHECKS = {
    "jax_enable_x64": True,  # agents compute in 32 bits
    "jax_numpy_rank_promotion": "raise",
    "jax_debug_nans": True,
    "jax_check_tracer_leaks": True,
}
OTHER_DRAWS = {
    "threefry": {"jax_threefry_partitionable": False},
    "rbg": {"jax_default_prng_impl": "rbg"},
}


def update(algorithm, memory, in_game=False):
    """Train for one update, on a probe or in a game: (training state, metrics)."""
    sizes, environment = (SMALL, None) if in_game else ({}, probes.make())
    trainer = ALGORITHMS[algorithm].make_train(tiny(algorithm, memory=memory, **sizes), environment)
    return jax.jit(trainer.update)(jax.jit(trainer.init)(jax.random.PRNGKey(0)))


def types(tree):
    """The shapes and dtypes of a tree's leaves."""
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


def test_x64_and_strict_ranks_change_no_dtype():
    with switched(jax_enable_x64=True, jax_numpy_rank_promotion="raise"):
        found = jax.eval_shape(partial(update, "pqn", "none", in_game=True))
    assert types(found) == types(jax.eval_shape(partial(update, "pqn", "none", in_game=True)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "memory", "in_game"),
    [("pqn", "none", False), ("pqn", "lru", True), ("ppo", "lru", False), ("dqn", "lru", True)],
)
def test_an_update_learns_the_same_under_switches_that_only_check(algorithm, memory, in_game):
    state, metrics = update(algorithm, memory, in_game)
    with switched(**ONLY_CHECKS):
        found_state, found_metrics = update(algorithm, memory, in_game)
    assert types(found_state) == types(state)
    for name, value in metrics.items():
        np.testing.assert_allclose(found_metrics[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("switches", OTHER_DRAWS)
def test_an_update_works_with_other_random_bits(algorithm, switches):
    with switched(**OTHER_DRAWS[switches]):
        _, metrics = update(algorithm, "lru")
    assert np.isfinite(metrics["loss"])


@pytest.mark.slow
def test_a_run_is_trained_resumed_and_evaluated_under_switches(tmp_path):
    config = tiny("pqn", memory="lru", total_steps=16, **SMALL)
    options = train.RunOptions(folder=tmp_path, evaluation_episodes=1, seeds=2, resume=True)
    with switched(jax_enable_x64=True, jax_default_prng_impl="rbg"):
        for _ in range(2):
            train.train("pqn", config, options)
        agent = checkpoint.load_agent(tmp_path)
        arrays = [leaf for leaf in jax.tree.leaves(agent.network) if hasattr(leaf, "dtype")]
        assert {leaf.dtype.name for leaf in arrays} <= {"float32", "complex64", "int32"}
        returns, _ = evaluate.evaluate_agent(agent, episodes=2)
        assert returns.dtype == np.float32
        assert evaluate.policy(agent)(np.zeros((128, 128, 3), np.uint8)) in range(5)
