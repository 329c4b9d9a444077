"""Tests of rollouts: streams, lambda-returns, minibatches, metrics and evaluation."""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade import make
from popgym_arcade.registry import NO_ACTION
from tests.testing import as_numpy, assert_same, client, one_of

eqx = client("equinox")
client("memax")

from popgym_arcade.baselines import rollout  # noqa: E402, because equinox may be missing
from popgym_arcade.baselines.model.builder import ActorCriticRNN, QNetworkRNN  # noqa: E402
from tests.baselines import probes  # noqa: E402

LIMIT, NUM_ENVS, NUM_STEPS = 5, 4, 40


class Diary(eqx.Module):
    """A stand-in for a network, which logs its inputs.

    Its carry is [frames seen, frames seen since the start].
    """

    def initialize_carry(self):
        """No frame seen yet."""
        return jnp.zeros(2, jnp.int32)

    def encode(self, observations):
        """The sum of each frame."""
        return observations.astype(jnp.float32).sum(axis=(-3, -2, -1))[..., None]

    def decide(self, carry, features, last_actions, starts):
        """Return (carry, outputs).

        The outputs are [sum of the frame, last action, start, frames seen, frames since the start].
        """

        def one_step(carry, step):
            features, last_action, start = step
            carry = jnp.stack([carry[0] + 1, jnp.where(start, 0, carry[1]) + 1])
            return carry, jnp.stack([features[0], last_action, start, *carry])

        return jax.lax.scan(one_step, carry, (features, last_actions, starts))


def any_action(outputs, key):
    """A random policy whose extras are the network's outputs."""
    return jax.random.randint(key, outputs.shape[:1], 0, 5), outputs


class Played(NamedTuple):
    """A rollout, as NumPy arrays."""

    env: Any
    params: Any
    begin: rollout.Stream
    transitions: rollout.Transition
    last: rollout.Stream


@cache
def played():
    """Play a small Navigator at random; its episodes are truncated or terminate before."""
    env, params = make("NavigatorEasy", board_size=4, max_steps_in_episode=LIMIT, partial_obs=True)

    def play(key):
        reset_key, half_key, other_key = jax.random.split(key, 3)
        begin = rollout.reset(env, params, Diary(), reset_key, NUM_ENVS)
        middle, first = rollout.collect(
            env, params, any_action, Diary(), begin, half_key, NUM_STEPS // 2
        )
        last, second = rollout.collect(
            env, params, any_action, Diary(), middle, other_key, NUM_STEPS // 2
        )
        return begin, jax.tree.map(lambda *halves: jnp.concatenate(halves), first, second), last

    return Played(env, params, *as_numpy(jax.jit(play)(jax.random.key(0))))


def frames_after(name):
    """A stream's field before each step and after the last: [NUM_STEPS + 1, NUM_ENVS, ...]."""
    return np.concatenate([getattr(played().transitions, name), getattr(played().last, name)[None]])


# --- streams -------------------------------------------------------------------------------------


class Game(NamedTuple):
    """One environment in the plain loop."""

    state: Any
    last_action: int = NO_ACTION
    start: bool = True
    ended: bool = False
    earned: float = 0.0
    actions: int = 0


def test_streams_are_what_a_plain_loop_over_the_games_gives():
    env, params, begin, transitions, _ = played()
    step_env = jax.jit(env.step_env)
    for i in range(NUM_ENVS):
        game = Game(one_of(begin.env_state, i))
        for t in range(NUM_STEPS):
            shown = one_of(transitions, (t, i))
            assert_same(shown.env_state, game.state)
            assert (shown.last_action, shown.start, shown.ended) == (
                game.last_action,
                game.start,
                game.ended,
            )
            if game.ended:
                expected = 0.0, False, False
                game = Game(one_of(every_state(), (t + 1, i)))  # resets are random
                assert game.state.time == 0 and game.state.score == 0
                total = shown.episode_return, shown.episode_length
            else:
                _, state, reward, done, info = as_numpy(
                    step_env(jax.random.key(t), game.state, shown.action, params)
                )
                expected = reward, info["terminated"], done
                total = game.earned + reward, game.actions + 1
                game = Game(state, shown.action, False, done, *total)
            assert (shown.reward, shown.terminated, shown.finished) == expected
            assert (shown.episode_return, shown.episode_length) == pytest.approx(total)


@cache
def every_state():
    """The states of all frames: a tree with leading axes [NUM_STEPS + 1, NUM_ENVS]."""
    after = lambda before, last: np.concatenate([before, last[None]])  # noqa: E731
    return jax.tree.map(after, played().transitions.env_state, played().last.env_state)


def test_both_ends_of_an_episode_occur_in_these_tests_and_are_told_apart():
    transitions = played().transitions
    truncated = transitions.finished & ~transitions.terminated
    assert transitions.terminated.sum() > 5 and truncated.sum() > 5
    assert not (transitions.terminated & ~transitions.finished).any()
    assert (transitions.episode_length[truncated] == LIMIT).all()
    assert (transitions.episode_length[transitions.terminated] < LIMIT).any()


def test_the_first_frames_are_starts_of_different_episodes():
    begin = played().begin
    assert begin.start.all() and not begin.ended.any() and (begin.last_action == NO_ACTION).all()
    assert (
        not begin.episode_return.any() and not begin.episode_length.any() and not begin.carry.any()
    )
    assert len({leaf.tobytes() for leaf in begin.observation}) > 1


def test_the_episodes_that_follow_one_another_are_different():
    first_frames = played().transitions.observation[played().transitions.start]
    assert len({frame.tobytes() for frame in first_frames}) > len(first_frames) / 2


def test_environments_that_begin_an_episode_at_the_same_time_begin_different_ones():
    together = [t for t, starts in enumerate(played().transitions.start) if t and starts.sum() > 1]
    frames = [played().transitions.observation[t][played().transitions.start[t]] for t in together]
    different = [len({frame.tobytes() for frame in some}) > 1 for some in frames]
    assert len(different) > 3 and np.mean(different) > 0.7


def test_every_frame_is_the_one_that_the_game_draws_of_its_state():
    env, params, *_ = played()
    drawn = jax.jit(jax.vmap(jax.vmap(lambda state: env.render(state, params))))(every_state())
    np.testing.assert_array_equal(frames_after("observation"), drawn)
    assert drawn.dtype == np.uint8


def test_the_last_frame_of_an_episode_is_shown_and_the_next_one_begins_after_it():
    finished, ended, start = (
        played().transitions.finished,
        frames_after("ended"),
        frames_after("start"),
    )
    np.testing.assert_array_equal(ended[1:], finished)
    np.testing.assert_array_equal(start[1:], ended[:-1])
    assert not played().transitions.reward[ended[:-1]].any()
    assert (frames_after("last_action")[start] == NO_ACTION).all()
    assert (frames_after("last_action")[1:] == played().transitions.action)[~start[1:]].all()


def test_the_action_on_the_last_frame_of_an_episode_is_ignored():
    env, params, _, transitions, _ = played()
    t, i = np.argwhere(transitions.ended)[0]
    stream = stream_before(t)
    advance = jax.jit(
        lambda action: rollout.step(env, params, jax.random.key(3), stream, stream.carry, action)[0]
    )
    one, other = advance(jnp.full(NUM_ENVS, 4)), advance(jnp.full(NUM_ENVS, 2))
    assert_same(one_of(one, i), one_of(other, i))
    playing = int(np.argmin(transitions.ended[t]))
    assert (one.last_action[playing], other.last_action[playing]) == (4, 2)


def stream_before(t):
    """The stream before a step, with an empty carry."""
    transitions = played().transitions
    names = set(rollout.Stream._fields) - {"carry"}
    fields = {name: getattr(transitions, name)[t] for name in names}
    fields["env_state"] = jax.tree.map(lambda leaf: leaf[t], transitions.env_state)
    return rollout.Stream(**fields, carry=np.zeros((NUM_ENVS, 2), np.int32))


def test_the_network_sees_every_frame_once_and_its_memory_is_handed_on():
    sums, last_action, start, seen, since_start = np.moveaxis(played().transitions.extras, -1, 0)
    np.testing.assert_array_equal(sums, played().transitions.observation.sum(axis=(-3, -2, -1)))
    np.testing.assert_array_equal(last_action, played().transitions.last_action)
    np.testing.assert_array_equal(start, played().transitions.start)
    np.testing.assert_array_equal(
        seen, np.arange(1, NUM_STEPS + 1)[:, None].repeat(NUM_ENVS, axis=1)
    )
    played_before = played().transitions.episode_length - ~played().transitions.ended
    np.testing.assert_array_equal(since_start, played_before + 1)
    np.testing.assert_array_equal(played().last.carry[:, 0], NUM_STEPS)


# --- networks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [QNetworkRNN, ActorCriticRNN])
def test_unrolling_a_batch_gives_the_outputs_from_when_it_was_collected(network):
    env, params = probes.make(probes.Params(probe=probes.CUE, delay=1))
    network = network(jax.random.key(0), "gru", 8, 8, 1)

    def act(outputs, key):
        return jax.random.randint(key, (NUM_ENVS,), 0, 5), outputs

    def collect_and_unroll(key):
        stream = rollout.reset(env, params, network, key, NUM_ENVS)
        stream, _ = rollout.collect(
            env, params, act, network, stream, key, 3
        )  # so that the memory is not empty
        last, transitions = rollout.collect(env, params, act, network, stream, key, 9)
        batch = rollout.Batch(stream.carry, transitions, last)
        return (
            transitions.extras,
            rollout.apply(network, last)[1],
            rollout.unroll(network, batch.carry, rollout.network_inputs(batch)),
        )

    collected, at_last, unrolled = jax.jit(collect_and_unroll)(jax.random.key(1))
    for during, last, all_of_them in zip(*map(jax.tree.leaves, (collected, at_last, unrolled))):
        np.testing.assert_allclose(all_of_them[:-1], during, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(all_of_them[-1], last, rtol=1e-4, atol=1e-5)


def test_a_partitioned_network_recombines_to_the_network():
    make_network = lambda key: QNetworkRNN(key, "lru", 8, 8, 1)  # noqa: E731
    init, static = rollout.partition(make_network)
    weights = init(jax.random.PRNGKey(3))
    assert all(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in jax.tree.leaves(weights))
    assert not any(eqx.is_array(leaf) for leaf in jax.tree.leaves(static))
    assert_same(weights, eqx.filter(make_network(jax.random.PRNGKey(3)), eqx.is_array))
    assert eqx.tree_equal(eqx.combine(weights, static), make_network(jax.random.PRNGKey(3)))


# --- lambda-returns ------------------------------------------------------------------------------


def returns_by_recursion(reward, value, terminated, ended, discount, trace_decay):
    """The recursion of ``lambda_returns`` in plain Python, for one environment."""
    after = value[-1]
    result = []
    for t in reversed(range(len(reward))):
        ahead = (1 - trace_decay) * value[t + 1] + trace_decay * after
        after = value[t] if ended[t] else reward[t] + discount * (1 - terminated[t]) * ahead
        result.append(after)
    return np.array(result[::-1])


def random_steps(steps=30, envs=4, seed=0):
    """(reward, value, terminated, ended) as streams have them."""
    rng = np.random.default_rng(seed)
    finished = rng.random((steps, envs)) < 0.25
    for t in range(1, steps):
        finished[t] &= ~finished[t - 1]
    ended = np.concatenate([np.zeros((1, envs), bool), finished[:-1]])
    terminated = finished & (rng.random((steps, envs)) < 0.5)
    reward, value = rng.normal(size=(steps, envs)), rng.normal(size=(steps + 1, envs))
    return (
        np.where(ended, 0, reward).astype(np.float32),
        value.astype(np.float32),
        terminated,
        ended,
    ), finished


@pytest.mark.parametrize(
    ("discount", "trace_decay"), [(0.99, 0.95), (0.9, 0.0), (0.9, 1.0), (1.0, 0.5), (0.0, 0.7)]
)
def test_lambda_returns_follow_the_recursion_of_their_docstring(discount, trace_decay):
    steps, _ = random_steps()
    found = rollout.lambda_returns(*steps, discount, trace_decay)
    for i in range(4):
        expected = returns_by_recursion(*(leaf[:, i] for leaf in steps), discount, trace_decay)
        np.testing.assert_allclose(found[:, i], expected, rtol=1e-4, atol=1e-5)


def one_env(*leaves):
    """Lists as arrays of one environment."""
    return [
        np.array(leaf, bool if isinstance(leaf[0], bool) else np.float32)[:, None]
        for leaf in leaves
    ]


def test_a_terminated_episode_does_not_bootstrap():
    reward, value, terminated, ended = one_env(
        [1, 2, 0], [7, 8, 100, 9], [False, True, False], [False, False, True]
    )
    found = rollout.lambda_returns(reward, value, terminated, ended, 0.5, 1.0)[:, 0]
    np.testing.assert_allclose(found, [1 + 0.5 * 2, 2, 100])


@pytest.mark.parametrize("trace_decay", [0.0, 0.3, 1.0])
def test_a_truncated_episode_bootstraps_from_its_own_last_frame_and_not_from_the_next_episode(
    trace_decay,
):
    reward, value, terminated, ended = one_env(
        [2, 0, 1], [7, 40, 1000, 9], [False, False, False], [False, True, False]
    )
    found = rollout.lambda_returns(reward, value, terminated, ended, 0.5, trace_decay)[:, 0]
    np.testing.assert_allclose(found, [2 + 0.5 * 40, 40, 1 + 0.5 * 9])


def test_lambda_0_looks_one_step_ahead_and_lambda_1_to_the_end():
    reward, value, terminated, ended = one_env(
        [1, 2, 4], [10, 20, 30, 40], [False] * 3, [False] * 3
    )
    found = {
        decay: rollout.lambda_returns(reward, value, terminated, ended, 0.5, decay)[:, 0]
        for decay in (0.0, 1.0)
    }
    np.testing.assert_allclose(found[0.0], [1 + 10, 2 + 15, 4 + 20])
    np.testing.assert_allclose(found[1.0], [1 + (2 + (4 + 20) / 2) / 2, 2 + (4 + 20) / 2, 4 + 20])


def test_returns_minus_values_are_generalized_advantage_estimates():
    (reward, value, terminated, ended), finished = random_steps(seed=1)
    discount, trace_decay = 0.97, 0.9
    advantage = (
        rollout.lambda_returns(reward, value, terminated, ended, discount, trace_decay) - value[:-1]
    )
    delta = reward + discount * np.where(terminated, 0, value[1:]) - value[:-1]
    for t, i in np.argwhere(~ended):
        expected, weight = 0.0, 1.0
        for later in range(t, len(reward)):
            expected += weight * delta[later, i]
            weight *= discount * trace_decay
            if finished[later, i]:
                break
        np.testing.assert_allclose(advantage[t, i], expected, rtol=1e-3, atol=1e-4)


# --- minibatches ---------------------------------------------------------------------------------


def numbered_batch(num_envs, num_steps):
    """A batch whose every element is the number of its environment."""
    number = jnp.arange(num_envs)
    steps = jnp.broadcast_to(number, (num_steps, num_envs))
    transitions = rollout.Transition(**dict.fromkeys(rollout.Transition._fields, steps))
    last = rollout.Stream(**dict.fromkeys(rollout.Stream._fields, number))
    return rollout.Batch((number, -number), transitions, last)


def learned_from(num_epochs, num_minibatches, num_envs=12, seed=0):
    """The environments of each minibatch, [num_epochs * num_minibatches, ...], and mean metrics."""

    def learn(learner, batch):
        log, count = learner
        (number, negative), steps, last = (
            batch.carry,
            batch.transitions.action,
            batch.last.observation,
        )
        agree = (number == -negative).all() & (steps == number).all() & (last == number).all()
        return (log.at[count].set(jnp.where(agree, number, -1)), count + 1), {"count": count}

    log = jnp.full((num_epochs * num_minibatches, num_envs // num_minibatches), -2), jnp.int32(0)
    key = jax.random.key(seed)
    (log, count), metrics = rollout.train_on_minibatches(
        learn, log, numbered_batch(num_envs, 3), key, num_epochs, num_minibatches
    )
    assert count == num_epochs * num_minibatches
    return np.asarray(log), metrics


def test_every_epoch_learns_from_each_environment_exactly_once_with_all_of_its_steps():
    log, _ = learned_from(num_epochs=5, num_minibatches=3)
    for epoch in log.reshape(5, 12):
        assert sorted(epoch) == list(range(12))


def test_the_order_of_the_environments_is_another_one_in_every_epoch_and_for_every_key():
    log, _ = learned_from(num_epochs=5, num_minibatches=3)
    other, _ = learned_from(num_epochs=5, num_minibatches=3, seed=1)
    orders = {tuple(epoch) for epoch in (*log.reshape(5, 12), *other.reshape(5, 12))}
    assert len(orders) == 10 and tuple(range(12)) not in orders


def test_the_metrics_of_all_minibatches_are_averaged():
    assert learned_from(num_epochs=2, num_minibatches=4)[1]["count"] == np.mean(range(8))


# --- metrics -------------------------------------------------------------------------------------


def finished_transitions(finished, returns, lengths):
    """Transitions with only what ``episode_metrics`` reads."""
    nothing = dict.fromkeys(rollout.Transition._fields)
    return rollout.Transition(
        **{
            **nothing,
            "finished": np.array(finished),
            "episode_return": np.float32(returns),
            "episode_length": np.int32(lengths),
        }
    )


def test_episode_metrics_are_means_over_the_episodes_that_finished():
    metrics = rollout.episode_metrics(
        finished_transitions(
            [[True, False], [False, True]], [[0.5, 9.0], [9.0, -1.0]], [[3, 99], [99, 6]]
        )
    )
    assert {name: float(value) for name, value in metrics.items()} == {
        "episodes": 2,
        "return_mean": -0.25,
        "length_mean": 4.5,
    }


def test_without_a_finished_episode_the_metrics_are_nan():
    metrics = rollout.episode_metrics(
        finished_transitions([[False, False]], [[0.5, 9.0]], [[3, 99]])
    )
    assert (
        metrics["episodes"] == 0
        and np.isnan(metrics["return_mean"])
        and np.isnan(metrics["length_mean"])
    )


def test_a_mean_is_taken_where_the_mask_is_true_and_is_0_where_it_is_nowhere():
    values = np.float32([[1, 2], [3, 100]])
    assert rollout.masked_mean(values, np.array([[True, False], [True, False]])) == 2
    assert rollout.masked_mean(values, np.ones((2, 2), bool)) == 26.5
    assert rollout.masked_mean(values, np.zeros((2, 2), bool)) == 0


# --- evaluation ----------------------------------------------------------------------------------


class Countdown(NamedTuple):
    """The state of a game whose episodes have a random length."""

    left: jax.Array  # int32[]


def countdown_game():
    """Make an environment: action 1 has reward 1, others -100; episodes take 1 to 9 actions."""
    render = lambda state, params=None: jnp.zeros((8, 8, 3), jnp.uint8)  # noqa: E731

    def reset(key, params=None):
        state = Countdown(jax.random.randint(key, (), 1, 10))
        return render(state), state

    def step_env(key, state, action, params=None):
        state = Countdown(state.left - 1)
        done = state.left == 0
        info = {"terminated": done, "truncated": ~done & False, "discount": 1.0 - done}
        return render(state), state, jnp.where(action == 1, 1.0, -100.0), done, info

    env, params = probes.make()
    return env._replace(reset=reset, step_env=step_env, render=render, step=None), params


class EpisodeCounter(eqx.Module):
    """A stand-in for a network, whose output is the number of the episode."""

    def initialize_carry(self):
        """No episode yet."""
        return jnp.int32(0)

    def encode(self, observations):
        """Ignore the frames."""
        return jnp.zeros((*observations.shape[:-3], 1))

    def decide(self, carry, features, last_actions, starts):
        """Return (episodes so far, the same at each step)."""
        episodes = carry + jnp.cumsum(starts)
        return episodes[-1], episodes


def test_evaluation_gives_the_return_and_the_length_of_the_first_episode_of_each_environment():
    env, params = countdown_game()
    the_episode = lambda outputs, key: (outputs, None)  # noqa: E731, the action is the number of the episode
    play = jax.jit(
        lambda key: rollout.play_episodes(env, params, the_episode, EpisodeCounter(), key, 64)
    )
    returns, lengths = map(np.asarray, play(jax.random.key(0)))
    np.testing.assert_array_equal(returns, lengths)  # each step of the first episode has reward 1
    assert (returns.dtype, lengths.dtype) == (np.float32, np.int32)
    assert set(lengths) == set(range(1, 10))


def test_evaluation_is_a_function_of_its_key():
    env, params = countdown_game()
    act = lambda outputs, key: (jax.random.randint(key, outputs.shape, 0, 2), None)  # noqa: E731
    play = jax.jit(lambda key: rollout.play_episodes(env, params, act, EpisodeCounter(), key, 16))
    assert_same(play(jax.random.key(0)), play(jax.random.key(0)))
    assert (play(jax.random.key(0))[0] != play(jax.random.key(1))[0]).any()
