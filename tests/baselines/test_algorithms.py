"""Tests of PQN, PPO and DQN: losses against NumPy, rollouts, updates, and configs."""

import dataclasses
import functools
import math
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade import make
from popgym_arcade.registry import NO_ACTION
from tests.testing import assert_same, chi_square_p, client

eqx = client("equinox")
for library in ("memax", "optax", "flashbax"):
    client(library)

from popgym_arcade.baselines import config, dqn, ppo, pqn, rollout  # noqa: E402, because they may be missing
from popgym_arcade.baselines.algorithms import ALGORITHMS  # noqa: E402
from tests.baselines import probes  # noqa: E402
from tests.baselines.configs import tiny  # noqa: E402

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


def probe():
    """Make the environment of these tests.

    Its episodes have 5 frames and rollouts 4 steps, so that they do not end together.
    """
    return probes.make(probes.Params(probe=probes.CUE, delay=2))


class Programs(NamedTuple):
    """An algorithm on a probe, with compiled functions."""

    trainer: Any
    init: Any
    update: Any


@cache
def programs(algorithm, **changes):
    """Compile the Programs of a tiny config, with random numbers that compile fast."""
    trainer = ALGORITHMS[algorithm].make_train(tiny(algorithm, **changes), probe())
    init = jax.jit(lambda seed: trainer.init(jax.random.key(seed, impl="unsafe_rbg")))
    return Programs(trainer, init, jax.jit(trainer.update))


def distance(one, other):
    """The Euclidean distance between two trees of weights."""
    return math.sqrt(
        sum(
            float(jnp.square(a - b).sum())
            for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
        )
    )


# --- a stand-in for a network --------------------------------------------------------------------

SHADES = 7


class Table(eqx.Module):
    """A stand-in for a network, which looks its outputs up by the shade of the frame."""

    rows: jax.Array  # float32[SHADES, 5]: values of actions, or logits
    values: Any = None  # float32[SHADES], for an actor-critic

    def initialize_carry(self):
        """Return an empty memory."""
        return jnp.zeros(())

    def encode(self, observations):
        """Return the shades."""
        return observations[..., 0, 0, :1].astype(jnp.float32)

    def decide(self, carry, features, last_actions, starts):
        """Return (carry, outputs)."""
        shades = features[:, 0].astype(int)
        return carry, self.rows[shades] if self.values is None else (
            self.rows[shades],
            self.values[shades],
        )


def table(seed=0, critic=False):
    """Make a partitioned table of random numbers: (weights, static)."""
    rng = np.random.default_rng(seed)
    rows, values = rng.normal(size=(SHADES, 5)), rng.normal(size=SHADES)
    return eqx.partition(
        Table(jnp.float32(rows), jnp.float32(values) if critic else None), eqx.is_array
    )


class Steps(NamedTuple):
    """Random steps as NumPy arrays, [T, N]; shades [T + 1, N]."""

    shades: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    ended: np.ndarray


def random_steps(steps=12, envs=3, seed=0):
    """Make steps with the episode structure of streams."""
    rng = np.random.default_rng(seed)
    finished = rng.random((steps, envs)) < 0.3
    for t in range(1, steps):
        finished[t] &= ~finished[t - 1]
    ended = np.concatenate([np.zeros((1, envs), bool), finished[:-1]])
    terminated = finished & (rng.random((steps, envs)) < 0.5)
    reward = np.where(ended, 0, rng.normal(size=(steps, envs))).astype(np.float32)
    shades, action = rng.integers(0, SHADES, (steps + 1, envs)), rng.integers(0, 5, (steps, envs))
    return Steps(shades, action, reward, terminated, ended)


def frames(shades):
    """Make frames of one pixel with these shades."""
    return np.broadcast_to(shades[..., None, None, None], (*shades.shape, 1, 1, 3)).astype(np.uint8)


def batch_of(steps, extras=None):
    """Convert steps to a Batch."""
    nothing = np.zeros(steps.action.shape, np.int32)
    transitions = rollout.Transition(
        **{**dict.fromkeys(rollout.Transition._fields, nothing), "extras": extras}
    )
    transitions = transitions._replace(
        observation=frames(steps.shades[:-1]),
        action=steps.action,
        reward=steps.reward,
        terminated=steps.terminated,
        ended=steps.ended,
        start=nothing.astype(bool),
    )
    last = rollout.Stream(**dict.fromkeys(rollout.Stream._fields, nothing[0]))
    last = last._replace(observation=frames(steps.shades[-1]), start=nothing[0].astype(bool))
    return rollout.Batch(np.zeros(steps.action.shape[1]), transitions, last)


def returns_by_hand(steps, value, discount, trace_decay):
    """Compute lambda-returns by their recursion: float64[T, N]. value: [T + 1, N]."""
    after, result = value[-1], []
    for t in reversed(range(len(steps.reward))):
        ahead = (1 - trace_decay) * value[t + 1] + trace_decay * after
        after = np.where(
            steps.ended[t],
            value[t],
            steps.reward[t] + discount * np.where(steps.terminated[t], 0, ahead),
        )
        result.append(after)
    return np.array(result[::-1])


def chosen_of(values, action):
    """The values of the taken actions."""
    return np.take_along_axis(np.asarray(values), action[..., None], axis=-1)[..., 0]


# --- PQN -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_actions_are_random_with_probability_epsilon_and_otherwise_greedy(epsilon):
    count, best = 20_000, 3
    values = jnp.zeros((count, 5)).at[:, best].set(1)
    actions, _ = pqn.epsilon_greedy(values, jax.random.key(0), epsilon)
    expected = np.full(5, epsilon / 5) + (np.arange(5) == best) * (1 - epsilon)
    counts = np.bincount(actions, minlength=5)
    assert counts[expected == 0].sum() == 0
    assert epsilon == 0 or chi_square_p(counts, count * expected) > 1e-3


def test_environments_explore_independently_and_each_takes_its_own_best_action():
    values = jnp.eye(5)[jnp.arange(10) % 5]
    np.testing.assert_array_equal(
        pqn.epsilon_greedy(values, jax.random.key(0), 0.0)[0], np.arange(10) % 5
    )
    np.testing.assert_array_equal(pqn.greedy(values, jax.random.key(0))[0], np.arange(10) % 5)
    explored = (
        pqn.epsilon_greedy(jnp.zeros((1000, 5)).at[:, 0].set(1), jax.random.key(0), 0.5)[0] != 0
    )
    assert 0 < explored.sum() < 1000


def test_the_loss_of_pqn_is_what_numpy_computes():
    steps, settings, (weights, static) = (
        random_steps(),
        tiny("pqn", discount=0.9, trace_decay=0.7),
        table(),
    )
    values = np.asarray(weights.rows)[steps.shades]
    error = np.where(
        steps.ended,
        0,
        chosen_of(values[:-1], steps.action)
        - returns_by_hand(steps, values.max(axis=-1), 0.9, 0.7),
    )
    (found, metrics), gradient = jax.value_and_grad(pqn.loss, has_aux=True)(
        weights, static, batch_of(steps), settings
    )
    count = (~steps.ended).sum()
    np.testing.assert_allclose(found, np.square(error).sum() / 2 / count, rtol=1e-4)
    np.testing.assert_allclose(
        metrics["value_mean"], chosen_of(values[:-1], steps.action)[~steps.ended].mean(), rtol=1e-4
    )
    by_hand = np.zeros((SHADES, 5))  # of the values of the chosen actions only, not of the targets
    np.add.at(by_hand, (steps.shades[:-1], steps.action), error / count)
    np.testing.assert_allclose(gradient.rows, by_hand, rtol=1e-3, atol=1e-6)


def losses_of_pqn(steps):
    """The loss of PQN on steps, and its gradient."""
    weights, static = table()
    return jax.value_and_grad(
        lambda weights: pqn.loss(weights, static, batch_of(steps), tiny("pqn"))[0]
    )(weights)


def test_pqn_masks_out_action_and_reward_on_the_last_frame_of_an_episode():
    steps = random_steps()
    others = steps._replace(
        action=np.where(steps.ended, (steps.action + 1) % 5, steps.action),
        reward=np.where(steps.ended, 9.0, steps.reward),
    )
    assert_same(losses_of_pqn(others), losses_of_pqn(steps), exact=False)


# --- PPO -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "slope"),
    [
        (1.5, 1, 1.2, 0),
        (0.5, 1, 0.5, 1),
        (0.5, -1, -0.8, 0),
        (1.5, -1, -1.5, -1),
        (1.1, 2, 2.2, 2),
        (0.9, -2, -1.8, -2),
    ],
)
def test_the_objective_is_clipped_where_the_policy_has_moved_far_enough_and_only_there(
    ratio, advantage, objective, slope
):
    assert ppo.clipped_objective(ratio, float(advantage), 0.2) == pytest.approx(objective)
    assert jax.grad(ppo.clipped_objective)(ratio, float(advantage), 0.2) == pytest.approx(slope)


def test_normalized_values_have_mean_0_and_deviation_1_where_the_mask_is_true():
    mask = np.array([[True, True, False], [True, False, True]])
    found = np.asarray(ppo.normalize(jnp.float32([[1, 2, 1000], [5, -1000, 8]]), mask))[mask]
    np.testing.assert_allclose(
        found, (np.array([1, 2, 5, 8]) - 4) / np.std([1, 2, 5, 8]), rtol=1e-5
    )
    assert np.isfinite(ppo.normalize(jnp.ones((2, 3)), mask)).all()


def test_ppo_samples_actions_by_their_probabilities_and_stores_these():
    logits = jnp.float32([0.5, -1, 0, 2, 1])
    outputs = jnp.broadcast_to(logits, (20_000, 5)), jnp.arange(20_000.0)
    actions, behavior = ppo.sample(outputs, jax.random.key(0))
    probabilities = np.exp(logits) / np.exp(logits).sum()
    assert (
        chi_square_p(
            np.bincount(actions, minlength=5),
            20_000 * probabilities.astype(float) / probabilities.sum(dtype=float),
        )
        > 1e-3
    )
    np.testing.assert_allclose(behavior.log_probability, np.log(probabilities)[actions], rtol=1e-4)
    np.testing.assert_array_equal(behavior.value, outputs[1])
    np.testing.assert_array_equal(ppo.act(outputs, jax.random.key(0))[0], actions)


def behavior_and_targets(steps, discount=0.9, trace_decay=0.7):
    """Compute (BehaviorOutput, Targets, last values) by hand, for a policy unlike ``table()``."""
    weights, _ = table(seed=5, critic=True)
    logits, values = (
        np.asarray(weights.rows)[steps.shades],
        np.asarray(weights.values)[steps.shades],
    )
    log_probability = chosen_of(
        logits[:-1] - np.log(np.exp(logits[:-1]).sum(axis=-1, keepdims=True)), steps.action
    )
    returns = returns_by_hand(steps, values, discount, trace_decay)
    return (
        ppo.BehaviorOutput(log_probability, values[:-1]),
        ppo.Targets(returns - values[:-1], returns),
        values[-1],
    )


def test_advantages_are_lambda_returns_minus_the_values_of_the_behavior_policy():
    steps = random_steps()
    behavior, targets, last_value = behavior_and_targets(steps)
    transitions = batch_of(steps, extras=behavior).transitions
    found = ppo.compute_targets(
        transitions, (None, jnp.float32(last_value)), tiny("ppo", discount=0.9, trace_decay=0.7)
    )
    np.testing.assert_allclose(found.returns, targets.returns, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.advantage, targets.advantage, rtol=1e-4, atol=1e-5)


def test_the_loss_of_ppo_is_what_numpy_computes():
    steps = random_steps()
    settings = tiny("ppo", clip=0.3, entropy_coefficient=0.05, value_coefficient=0.7)
    (behavior, targets, _), (weights, static) = behavior_and_targets(steps), table(critic=True)
    found, metrics = ppo.loss(
        weights, static, batch_of(steps, extras=(behavior, targets)), settings
    )

    logits, values = (
        np.asarray(weights.rows)[steps.shades[:-1]],
        np.asarray(weights.values)[steps.shades[:-1]],
    )
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    mean = lambda numbers: numbers[~steps.ended].mean()  # noqa: E731
    ratio = np.exp(chosen_of(log_probabilities, steps.action) - behavior.log_probability)
    advantage = (targets.advantage - mean(targets.advantage)) / np.std(
        targets.advantage[~steps.ended]
    )
    expected = {
        "policy_loss": -mean(np.minimum(ratio * advantage, np.clip(ratio, 0.7, 1.3) * advantage)),
        "value_loss": mean(np.square(values - targets.returns)) / 2,
        "entropy": mean(-(np.exp(log_probabilities) * log_probabilities).sum(axis=-1)),
        "divergence": mean(ratio - 1 - np.log(ratio)),
    }
    assert {name: float(value) for name, value in metrics.items()} == pytest.approx(
        expected, rel=1e-3
    )
    total = expected["policy_loss"] + 0.7 * expected["value_loss"] - 0.05 * expected["entropy"]
    assert float(found) == pytest.approx(total, rel=1e-3)


def gradient_of_ppo(advantage, **settings):
    """The gradient of the logits on frames of different shades, and the logits: float[number, 5].

    Action 2 was taken on each.
    """
    number, (weights, static) = len(advantage), table(critic=True)
    steps = random_steps(number, 1)
    steps = steps._replace(
        shades=np.minimum(np.arange(number + 1), SHADES - 1)[:, None],
        action=np.full((number, 1), 2),
        ended=np.zeros((number, 1), bool),
    )
    before = ppo.action_log_probability(weights.rows[steps.shades[:-1]], steps.action)
    targets = ppo.Targets(np.float32(advantage)[:, None], np.zeros((number, 1), np.float32))
    batch, settings = (
        batch_of(steps, extras=(ppo.BehaviorOutput(before, None), targets)),
        tiny("ppo", value_coefficient=0.0, **settings),
    )
    gradient = jax.grad(lambda weights: ppo.loss(weights, static, batch, settings)[0])(weights)
    return np.asarray(gradient.rows)[:number], np.asarray(weights.rows)[:number]


def test_a_gradient_step_makes_better_actions_than_expected_likelier_and_worse_ones_less_likely():
    gradient, _ = gradient_of_ppo([1.0, -1.0, 3.0, -3.0], entropy_coefficient=0.0)
    np.testing.assert_array_equal(np.sign(-gradient[:, 2]), [1, -1, 1, -1])
    others = np.delete(gradient, 2, axis=1)
    assert (np.sign(-others) == np.array([-1, 1, -1, 1])[:, None]).all()


def test_a_gradient_step_raises_the_entropy():
    gradient, logits = gradient_of_ppo([0.0, 0.0, 0.0], entropy_coefficient=0.1)
    entropy = lambda logits: -(jax.nn.softmax(logits) * jax.nn.log_softmax(logits)).sum(axis=-1)  # noqa: E731
    assert (entropy(logits - gradient) > entropy(logits)).all()


# --- DQN -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "partial"), [("NavigatorEasy", True), ("NoisyCartPoleEasy", False)]
)
def test_rerendered_frames_are_those_that_were_observed(name, partial):
    env, params = make(name, partial)
    weights, static = table()

    def play(key):
        begin_key, key = jax.random.split(key)
        network = Table(jnp.zeros((256, 5)))
        stream = rollout.reset(env, params, network, begin_key, 2)
        _, transitions = rollout.collect(env, params, explore, network, stream, key, 20)
        return transitions, dqn.render_inputs(env, params, dqn.replay_steps(transitions))

    explore = lambda outputs, key: pqn.epsilon_greedy(outputs, key, 1.0)  # noqa: E731
    transitions, inputs = jax.jit(play)(jax.random.key(0))
    assert (
        transitions.observation.dtype == jnp.uint8 and len(np.unique(transitions.observation)) > 1
    )
    np.testing.assert_array_equal(inputs.observation, transitions.observation)
    np.testing.assert_array_equal(inputs.last_action, transitions.last_action)
    np.testing.assert_array_equal(inputs.start, transitions.start)


def test_the_loss_of_dqn_is_what_numpy_computes_from_the_steps_after_the_burn_in():
    steps, burn_in, (weights, static), (target, _) = random_steps(12, 3), 4, table(), table(seed=1)
    settings = tiny(
        "dqn", discount=0.9, burn_in=burn_in, sequence_length=7, batch_size=3, warmup_steps=24
    )
    sequences = dqn.ReplayStep(
        None,
        *(np.zeros(steps.action.shape, np.int32),) * 2,
        *(steps.ended, steps.action),
        steps.reward,
        steps.terminated,
    )
    shown = rollout.Inputs(
        frames(steps.shades[:-1]), np.zeros_like(steps.action), np.zeros(steps.action.shape, bool)
    )
    (found, metrics), gradient = jax.value_and_grad(dqn.loss, has_aux=True)(
        weights, target, static, shown, sequences, settings
    )

    values, best = (
        np.asarray(weights.rows)[steps.shades[:-1]],
        np.asarray(target.rows)[steps.shades[:-1]].max(axis=-1),
    )
    mask = ~steps.ended[:-1]
    mask[:burn_in] = False
    chosen = chosen_of(values[:-1], steps.action[:-1])
    error = np.where(
        mask, chosen - steps.reward[:-1] - 0.9 * np.where(steps.terminated[:-1], 0, best[1:]), 0
    )
    np.testing.assert_allclose(found, np.square(error).sum() / 2 / mask.sum(), rtol=1e-4)
    np.testing.assert_allclose(metrics["value_mean"], chosen[mask].mean(), rtol=1e-4)
    by_hand = np.zeros((SHADES, 5))
    np.add.at(by_hand, (steps.shades[:-2], steps.action[:-1]), error / mask.sum())
    np.testing.assert_allclose(gradient.rows, by_hand, rtol=1e-3, atol=1e-6)


def test_the_target_network_is_updated_once_per_period_and_at_no_other_time():
    _, init, update = programs("dqn")
    states = [init(0)]
    for _ in range(7):
        states.append(update(states[-1])[0])
    for number, state in enumerate(states):
        assert state.learner.gradient_steps == number
        assert_same(state.learner.target, states[number - number % 3].weights)
        assert number % 3 == 0 or distance(state.learner.target, state.weights) > 0


def played_on(updates):
    """The state of DQN after some updates; 9 fill the buffer several times."""
    _, init, update = programs("dqn")
    state = init(1)
    for _ in range(updates):
        state, _ = update(state)
    return state


@pytest.mark.parametrize("updates", [1, 2, 9])
def test_replayed_sequences_are_unbroken_pieces_of_what_was_played(updates):
    trainer, (env, params) = programs("dqn").trainer, probe()
    buffer = dqn.make_buffer(dataclasses.replace(trainer.config, batch_size=64))
    sequences = jax.tree.map(
        np.asarray, buffer.sample(played_on(updates).buffer, jax.random.key(0)).experience
    )
    assert sequences.action.shape == (64, dqn.sequence_steps(trainer.config))
    before, after = (
        jax.tree.map(lambda leaf, part=part: leaf[:, part], sequences)
        for part in (slice(-1), slice(1, None))
    )
    _, state, reward, done, info = jax.vmap(
        jax.vmap(env.step_env, (None, 0, 0, None)), (None, 0, 0, None)
    )(jax.random.key(0), before.env_state, before.action, params)
    goes_on = ~before.ended
    np.testing.assert_array_equal(after.start, before.ended)
    np.testing.assert_array_equal(after.ended[goes_on], np.asarray(done)[goes_on])
    np.testing.assert_array_equal(after.last_action, np.where(goes_on, before.action, NO_ACTION))
    np.testing.assert_array_equal(before.reward, np.where(goes_on, reward, 0))
    np.testing.assert_array_equal(before.terminated, np.asarray(info["terminated"]) & goes_on)
    for found, expected in zip(after.env_state, state):
        np.testing.assert_array_equal(found[goes_on], np.asarray(expected)[goes_on])
    assert not after.env_state.time[~goes_on].any()


def test_the_buffer_holds_the_steps_of_the_last_updates_and_no_frames():
    trainer = programs("dqn").trainer
    state = played_on(9)
    for leaf in jax.tree.leaves(state.buffer.experience):
        assert leaf.shape == (2, trainer.config.buffer_steps // 2)
    assert state.buffer.is_full


def test_dqn_warms_up_with_random_actions():
    epsilons = {"first_epsilon": 0.0, "final_epsilon": 0.0}
    steps = {"warmup_steps": 64 * 5, "buffer_steps": 64 * 9, "steps_per_gradient": 64 * 4}
    state = programs("dqn", num_envs=64, **epsilons, **steps).init(0)
    assert state.steps == 64 * 5
    actions = np.asarray(state.buffer.experience.action)[:, :5]
    assert chi_square_p(np.bincount(actions.ravel(), minlength=5)) > 1e-3


# --- rollouts ------------------------------------------------------------------------------------


@cache
def batch_learned_from(algorithm, **changes):
    """The states before and after an update of PQN or PPO, its network, and its Batch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            rollout,
            "train_on_minibatches",
            lambda learn, learner, batch, *rest: (learner, {"batch": batch}),
        )
        # After 6 steps the episodes are in their middle, so that bootstrapping matters.
        _, init, update = programs.__wrapped__(
            algorithm, memory="gru", num_envs=16, num_steps=6, **changes
        )
        state = init(0)
        after, metrics = update(state)
    network = eqx.combine(
        state.weights, programs(algorithm, memory="gru", num_envs=16).trainer.static
    )
    return state, after, network, metrics["batch"]


@pytest.mark.parametrize("algorithm", ["pqn", "ppo"])
def test_a_batch_begins_with_the_memory_before_it_and_has_all_that_was_played(
    algorithm,
):
    state, after, _, batch = batch_learned_from(algorithm)
    assert_same(batch.carry, state.stream.carry)
    assert_same(batch.last, after.stream)
    np.testing.assert_array_equal(batch.transitions.observation[0], state.stream.observation)
    assert batch.transitions.action.shape == (6, 16)
    assert batch.transitions.observation.dtype == jnp.uint8


def test_pqn_plays_epsilon_greedily():
    for epsilon, least, most in ((0.0, 1.0, 1.0), (1.0, 0.0, 0.5)):
        _, _, network, batch = batch_learned_from(
            "pqn", first_epsilon=epsilon, final_epsilon=epsilon
        )
        unroll = jax.jit(functools.partial(rollout.unroll, network))
        values = unroll(batch.carry, rollout.network_inputs(batch))
        assert least <= (values[:-1].argmax(axis=-1) == batch.transitions.action).mean() <= most


def test_ppo_stores_the_outputs_of_the_behavior_policy_and_learns_from_its_advantages():
    _, _, network, batch = batch_learned_from("ppo")
    logits, values = jax.jit(
        lambda batch: rollout.unroll(network, batch.carry, rollout.network_inputs(batch))
    )(batch)
    behavior, targets = batch.transitions.extras
    expected = ppo.action_log_probability(logits[:-1], batch.transitions.action)
    np.testing.assert_allclose(behavior.log_probability, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(behavior.value, values[:-1], rtol=1e-4, atol=1e-5)
    own = batch.transitions._replace(extras=behavior)
    assert_same(ppo.compute_targets(own, (None, values[-1]), tiny("ppo")), targets, exact=False)


# --- one update ----------------------------------------------------------------------------------


@every_algorithm
def test_an_update_takes_the_steps_that_it_says_and_splits_its_key(algorithm):
    trainer, init, update = programs(algorithm)
    before = init(0)
    after, _ = update(before)
    assert after.steps - before.steps == trainer.steps_per_update == 8
    assert (jax.random.key_data(before.key) != jax.random.key_data(after.key)).any()
    assert_same(jax.tree.map(jnp.shape, before), jax.tree.map(jnp.shape, after))


@every_algorithm
def test_an_update_is_a_function_of_its_state_and_seeds_differ(algorithm):
    _, init, update = programs(algorithm)

    def data(state):
        return jax.tree.map(np.asarray, state._replace(key=jax.random.key_data(state.key)))

    assert_same(data(update(init(0))[0]), data(update(init(0))[0]))
    assert distance(init(0).weights, init(1).weights) > 0.1


@pytest.mark.parametrize(("algorithm", "last"), [("pqn", 0.25), ("ppo", 0.0)])
def test_the_learning_rate_is_annealed_linearly_and_scales_the_updates(algorithm, last):
    final = {"final_learning_rate": last} if algorithm == "pqn" else {}
    settings = {"learning_rate": 1.0, "total_steps": 1000, "max_gradient_norm": 1e-4}
    trainer, init, update = programs(algorithm, **settings, **final)
    state = init(0)
    moved = {}
    for steps, rate in ((0, 1.0), (500, (1 + last) / 2), (1000, last), (2000, last)):
        after, metrics = update(state._replace(steps=jnp.int32(steps)))
        assert metrics["learning_rate"] == pytest.approx(rate)
        moved[steps] = distance(after.weights, state.weights)
    assert moved[500] == pytest.approx(moved[0] * (1 + last) / 2, rel=0.05)
    assert moved[1000] == pytest.approx(moved[0] * last, rel=0.05)


def test_pqn_takes_steps_of_radam_with_a_clipped_gradient_norm():
    _, init, update = programs(
        "pqn", learning_rate=1.0, final_learning_rate=0.25, total_steps=1000, max_gradient_norm=1e-4
    )
    state = init(0)  # the first step of RAdam is the gradient, whose norm is greater than 1e-4
    assert distance(update(state)[0].weights, state.weights) == pytest.approx(1e-4, rel=0.02)


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_ppo_and_dqn_take_steps_of_adam(algorithm):
    trainer, init, update = programs(algorithm)
    state = init(0)  # the first step of Adam is the sign of the gradient, except for tiny gradients
    after, rate = update(state)[0], trainer.config.learning_rate
    steps = np.concatenate(
        [
            np.abs(a - b).ravel()
            for a, b in zip(*(jax.tree.leaves(s.weights) for s in (state, after)))
        ]
    )
    assert steps.max() == pytest.approx(rate, rel=0.02)
    assert np.quantile(steps[steps > 0], 0.5) > 0.5 * rate


@pytest.mark.parametrize("algorithm", ["pqn", "dqn"])
def test_epsilon_is_annealed_linearly_to_its_final_value(algorithm):
    settings = {"first_epsilon": 1.0, "final_epsilon": 0.1, "epsilon_steps": 1000}
    _, init, update = programs(algorithm, **settings)
    state = init(0)
    later = 8 if algorithm == "dqn" else 0  # DQN reports epsilon after the update's steps
    for steps, epsilon in ((0, 1.0), (500, 0.55), (1000, 0.1), (5000, 0.1)):
        metrics = update(state._replace(steps=jnp.int32(steps - later)))[1]
        assert metrics["epsilon"] == pytest.approx(epsilon)


def test_dqn_plays_greedily_when_epsilon_is_0():
    epsilons = {"first_epsilon": 1.0, "final_epsilon": 0.0, "epsilon_steps": 1}
    steps = {"steps_per_gradient": 64, "warmup_steps": 64, "buffer_steps": 160}
    trainer, init, update = programs("dqn", num_envs=16, **epsilons, **steps)
    env, params = probe()
    before = init(0)
    after, _ = update(before)
    played = jax.tree.map(lambda leaf: jnp.swapaxes(leaf[:, 4:8], 0, 1), after.buffer.experience)
    network, shown = (
        eqx.combine(before.weights, trainer.static),
        dqn.render_inputs(env, params, played),
    )
    values = jax.jit(
        lambda shown: rollout.unroll(network, rollout.initial_carry(network, 16), shown)
    )(shown)
    np.testing.assert_array_equal(values.argmax(axis=-1), played.action)


# --- the program ---------------------------------------------------------------------------------


def arrays_in(jaxpr):
    """Yield (primitive, output shape and dtype) of each equation, including loops and branches."""
    for equation in jaxpr.eqns:
        yield from ((equation.primitive.name, variable.aval) for variable in equation.outvars)
        for parameter in equation.params.values():
            for inner in parameter if isinstance(parameter, tuple | list) else (parameter,):
                if hasattr(inner, "jaxpr") or hasattr(inner, "eqns"):
                    yield from arrays_in(getattr(inner, "jaxpr", inner))


@every_algorithm
def test_an_update_is_one_program_that_keeps_rollouts_as_uint8(algorithm):
    """No float array has the size of a rollout's frames; a minibatch has a quarter of them."""
    own = (
        {"num_minibatches": 4}
        if algorithm != "dqn"
        else {"batch_size": 2, "steps_per_gradient": 128, "warmup_steps": 128}
    )
    own |= {"buffer_steps": 512} if algorithm == "dqn" else {}
    trainer = ALGORITHMS[algorithm].make_train(
        tiny(algorithm, num_envs=8, num_steps=16, **own), probes.make()
    )
    state = jax.eval_shape(trainer.init, jax.ShapeDtypeStruct((2,), jnp.uint32))
    computed = list(arrays_in(jax.make_jaxpr(trainer.update)(state).jaxpr))
    all_frames = 8 * 16 * 8 * 8 * 3
    floats = [
        aval.shape
        for _, aval in computed
        if jnp.issubdtype(getattr(aval, "dtype", jnp.int32), jnp.inexact)
    ]
    assert max(map(math.prod, floats)) < all_frames
    assert not {name for name, _ in computed if "callback" in name}
    if algorithm != "dqn":
        assert any(
            aval.shape == (16, 8, 8, 8, 3) and aval.dtype == jnp.uint8 for _, aval in computed
        )


# --- configs -------------------------------------------------------------------------------------

SHARED = {
    "partial": False,
    "obs_size": 128,
    "memory": "lru",
    "num_envs": 16,
    "num_steps": 128,
    "discount": 0.99,
    "max_gradient_norm": 0.5,
}
DEFAULTS = {
    "pqn": {
        "num_epochs": 4,
        "num_minibatches": 16,
        "learning_rate": 5e-5,
        "final_learning_rate": 5e-7,
        "trace_decay": 0.95,
        "first_epsilon": 1.0,
        "final_epsilon": 0.05,
        "epsilon_steps": 2_000_000 // 4,
        "total_steps": 20_000_000,
    },
    "ppo": {
        "learning_rate": 1e-4,
        "clip": 0.2,
        "entropy_coefficient": 0.01,
        "value_coefficient": 0.5,
        "trace_decay": 0.95,
        "total_steps": 10_000_000,
    },
    "dqn": {"total_steps": 20_000_000},
}


@every_algorithm
def test_the_defaults_are_the_specified_ones(algorithm):
    trainer = ALGORITHMS[algorithm].make_train(ALGORITHMS[algorithm].config(env="NavigatorEasy"))
    found = dataclasses.asdict(trainer.config)
    expected = {**SHARED, **DEFAULTS[algorithm]}
    assert {name: found[name] for name in expected} == expected
    assert trainer.algorithm == algorithm


@pytest.mark.parametrize(
    "env", ["CartPoleHard", "NoisyCartPoleEasy", "AutoEncodeMedium", "TetrisEasy"]
)
def test_the_short_games_train_for_half_the_steps(env):
    half = 10_000_000 if env != "TetrisEasy" else 20_000_000
    assert config.with_defaults(pqn.PQNConfig(env=env)).total_steps == half
    assert config.with_defaults(ppo.PPOConfig(env=env), always_short=True).total_steps == 10_000_000
    assert config.with_defaults(pqn.PQNConfig(env=env, total_steps=77)).total_steps == 77


@every_algorithm
def test_the_preset_for_a_gpu_is_valid_and_has_thousands_of_environments(algorithm):
    known = ALGORITHMS[algorithm]
    trainer = known.make_train(known.config(env="NavigatorEasy", **known.fast))
    assert trainer.config.num_envs >= 1000


def test_the_memory_is_resolved_to_lower_case():
    assert config.with_defaults(pqn.PQNConfig(env="TetrisEasy", memory="LRU")).memory == "lru"


WRONG = [
    ("pqn", {"num_envs": 0}, "num_envs must be at least 1, but it is 0; the nearest is 1"),
    ("ppo", {"hidden_size": -3}, "hidden_size must be at least 1, but it is -3; the nearest is 1"),
    ("dqn", {"burn_in": -1}, "burn_in must be at least 0, but it is -1; the nearest is 0"),
    ("pqn", {"discount": 1.5}, "discount must be in [0, 1], but it is 1.5; the nearest is 1"),
    ("pqn", {"discount": -1}, "discount must be in [0, 1], but it is -1; the nearest is 0"),
    (
        "ppo",
        {"trace_decay": math.nan},
        "trace_decay must be in [0, 1], but it is nan; the nearest is 0",
    ),
    (
        "ppo",
        {"entropy_coefficient": 1e4},
        "entropy_coefficient must be in [0, 1000], but it is 10000.0; the nearest is 1000",
    ),
    (
        "pqn",
        {"learning_rate": 2.0},
        "learning_rate must be in [0, 1], but it is 2.0; the nearest is 1",
    ),
    (
        "dqn",
        {"patch_size": 129},
        "patch_size must be in [1, 128], but it is 129; the nearest is 128",
    ),
    (
        "pqn",
        {"num_envs": 21},
        "num_envs must be a multiple of num_minibatches, 16, but it is 21; the nearest is 16",
    ),
    (
        "ppo",
        {"num_envs": 3},
        "num_envs must be a multiple of num_minibatches, 16, but it is 3; the nearest is 16",
    ),
    (
        "pqn",
        {"total_steps": 99},
        "total_steps must be at least 2048, num_envs * num_steps, but it is 99; "
        "the nearest is 2048",
    ),
    ("dqn", {"memory": "gruu"}, "there is no memory 'gruu'; the nearest are: gru"),
    (
        "ppo",
        {"env": "NavigatorEsy"},
        "there is no environment 'NavigatorEsy'; the nearest are: NavigatorEasy",
    ),
    (
        "pqn",
        {"obs_size": 100},
        "obs_size must be one of 128, 256, but it is 100; the nearest is 128",
    ),
    (
        "dqn",
        {"num_envs": 48},
        "steps_per_gradient must be a multiple of num_envs, 48, but it is 128; the nearest is 144",
    ),
    (
        "dqn",
        {"num_steps": 13},
        "num_steps must be a multiple of steps_per_gradient / num_envs, 8, but it is 13; "
        "the nearest is 16",
    ),
    (
        "dqn",
        {"warmup_steps": 500},
        "warmup_steps must be at least 784, num_envs * (burn_in + sequence_length + 1), "
        "but it is 500; the nearest is 784",
    ),
    (
        "dqn",
        {"buffer_steps": 9000},
        "buffer_steps must be at least 10000, warmup_steps, but it is 9000; the nearest is 10000",
    ),
    (
        "dqn",
        {"buffer_steps": 10_000, "steps_per_gradient": 12_800, "num_steps": 800},
        "buffer_steps must be at least 12800, steps_per_gradient, but it is 10000; "
        "the nearest is 12800",
    ),
]


@pytest.mark.parametrize(("algorithm", "changes", "message"), WRONG)
def test_an_invalid_config_is_refused_with_the_value_and_the_nearest_valid_one(
    algorithm, changes, message
):
    with pytest.raises(ValueError) as refused:  # noqa: PT011, the message is compared below
        ALGORITHMS[algorithm].make_train(
            ALGORITHMS[algorithm].config(**{"env": "NavigatorEasy", **changes})
        )
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "changes", [{"final_epsilon": 0}, {"trace_decay": 0}, {"discount": 1}, {"trace_decay": 1.0}]
)
def test_floats_may_be_given_as_integers_and_bounds_are_allowed(changes):
    config.check(pqn.PQNConfig(env="NavigatorEasy", **changes))
