"""Tests of wrappers.py: what wrappers change, and that nothing else changes."""

import copy
import dataclasses
import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade import Environment, make, spaces
from popgym_arcade.wrappers import (
    LogState,
    both_views,
    frame_stack,
    grayscale,
    log_episodes,
    normalise,
    normalize,
    resize,
    sticky_actions,
)
from tests import toy
from tests.testing import on_one_device, switched

LIMIT = 5
NUM_ENVS = 8
NUM_STEPS = 60
RIGHT = 3
LOG_NAMES = {"returned_episode", "returned_episode_returns", "returned_episode_lengths"}


@functools.cache
def short_game(times_wrapped):
    """The toy game in log_episodes, nested this many times."""
    env, params = toy.make(max_steps_in_episode=LIMIT)
    for _ in range(times_wrapped):
        env = log_episodes(env)
    return env, params


@functools.cache
def rollout(times_wrapped, form, *params):
    """Play the short game randomly with ``step`` or ``step_env``, once for the same arguments.

    Returns what the steps returned, as NumPy arrays [NUM_STEPS, NUM_ENVS, ...].
    """
    return jax.tree.map(
        np.asarray,
        compiled_rollout(times_wrapped, form)(
            jax.random.split(jax.random.key(3), NUM_ENVS), params
        ),
    )


@functools.cache
def compiled_rollout(times_wrapped, form):
    """Random play, compiled: a function of the environments' keys and () or (params,)."""
    env, _ = short_game(times_wrapped)
    step = getattr(env, form)

    def play(key, params):
        reset_key, actions_key, steps_key = jax.random.split(key, 3)
        _, state = env.reset(reset_key, *params)
        actions = jax.random.randint(actions_key, (NUM_STEPS,), 0, env.num_actions)

        def body(state, key_and_action):
            key, action = key_and_action
            transition = step(key, state, action, *params)
            return transition[1], transition

        return jax.lax.scan(body, state, (jax.random.split(steps_key, NUM_STEPS), actions))[1]

    return jax.jit(jax.vmap(play, in_axes=(0, None), out_axes=1))


def logged_by_hand(rewards, dones, restarts):
    """The log of one environment by a plain loop: a (return, length) after each step."""
    total, length, last, log = 0.0, 0, (0.0, 0), []
    for reward, done in zip(rewards.tolist(), dones.tolist()):
        total, length = total + reward, length + 1
        if done:
            last = total, length
            if restarts:
                total, length = 0.0, 0
        log.append(last)
    return log


def assert_log_is_that_of_a_plain_loop(info, rewards, dones, restarts):
    """Compare logs with those of a plain loop over the unwrapped environment's transitions."""
    np.testing.assert_array_equal(info["returned_episode"], dones)
    for i in range(dones.shape[1]):
        returns, lengths = zip(*logged_by_hand(rewards[:, i], dones[:, i], restarts))
        np.testing.assert_allclose(
            info["returned_episode_returns"][:, i], returns, rtol=1e-5, atol=1e-6
        )
        np.testing.assert_array_equal(info["returned_episode_lengths"][:, i], lengths)


def assert_same(first, second):
    """Assert that two pytrees have the same structure, and leaves of the same dtype and values."""
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second)):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def types(tree):
    """The shape, dtype and weak type of every leaf: what jit compiles for."""
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)


def test_the_log_over_many_episodes_equals_a_plain_loops():
    params = short_game(0)[1]
    _, _, rewards, dones, bare_info = rollout(0, "step", params)
    info = rollout(1, "step", params)[4]
    assert_log_is_that_of_a_plain_loop(info, rewards, dones, restarts=True)
    lengths = np.unique(info["returned_episode_lengths"][dones])
    assert dones.sum() > 50 and lengths.tolist() == list(range(1, LIMIT + 1))
    assert np.any(bare_info["terminated"]) and np.any(bare_info["truncated"])


def test_without_auto_reset_the_sums_continue_after_the_end():
    params = short_game(0)[1]
    _, _, rewards, dones, _ = rollout(0, "step_env", params)
    _, states, _, _, info = rollout(1, "step_env", params)
    assert_log_is_that_of_a_plain_loop(info, rewards, dones, restarts=False)
    np.testing.assert_array_equal(states.episode_lengths, states.env_state.time)
    np.testing.assert_array_equal(
        states.env_state.time, np.arange(1, NUM_STEPS + 1)[:, None].repeat(NUM_ENVS, axis=1)
    )
    np.testing.assert_array_equal(info["returned_episode_lengths"][-1], NUM_STEPS)


@pytest.mark.parametrize("form", ["step", "step_env"])
def test_the_inner_environment_runs_as_if_it_were_not_wrapped(form):
    params = short_game(0)[1]
    observation, state, reward, done, info = rollout(0, form, params)
    logged = rollout(1, form, params)
    assert_same(logged[0], observation)
    assert_same(logged[1].env_state, state)
    assert_same(logged[2:4], (reward, done))
    assert set(logged[4]) == set(info) | LOG_NAMES
    assert_same({name: logged[4][name] for name in info}, info)


def test_an_episode_starts_with_sums_of_0():
    (env, params), (wrapped, _) = short_game(0), short_game(1)
    observation, state = wrapped.reset(jax.random.key(0), params)
    assert_same((observation, state.env_state), env.reset(jax.random.key(0), params))
    assert isinstance(state, LogState)
    assert [leaf.item() for leaf in state[1:]] == [0, 0, 0, 0]
    # No two fields share a buffer, so the state can be donated to a compiled step.
    assert len({leaf.unsafe_buffer_pointer() for leaf in state[1:]}) == 4


def test_the_log_is_kept_in_the_state_until_the_next_episode_ends():
    _, states, _, dones, info = rollout(1, "step", short_game(1)[1])
    np.testing.assert_array_equal(states.returned_episode_returns, info["returned_episode_returns"])
    np.testing.assert_array_equal(states.returned_episode_lengths, info["returned_episode_lengths"])
    unchanged = ~dones[1:]
    for name in ("returned_episode_returns", "returned_episode_lengths"):
        np.testing.assert_array_equal(info[name][1:][unchanged], info[name][:-1][unchanged])
    np.testing.assert_array_equal(states.episode_lengths, states.env_state.time)
    assert not np.any(states.episode_lengths[dones]) and not np.any(states.episode_returns[dones])


def test_a_return_is_the_games_reward():
    # Without TNT, a step to the right is rewarded with -0.5 / 4^2; the limit is one step.
    env, params = make("NavigatorEasy", board_size=4, max_steps_in_episode=1)
    wrapped = log_episodes(env)
    _, state = wrapped.reset(jax.random.key(0), params)
    inside = state.env_state
    state = state._replace(env_state=inside._replace(tnt=jnp.zeros_like(inside.tnt)))
    _, state, _, _, info = wrapped.step(jax.random.key(1), state, jnp.int32(RIGHT), params)
    assert bool(info["returned_episode"])
    assert float(info["returned_episode_returns"]) == -0.5 / 16
    assert int(info["returned_episode_lengths"]) == 1
    assert int(state.episode_lengths) == int(state.env_state.time) == 0


def test_params_may_be_left_out_or_given():
    params = short_game(1)[1]
    assert_same(rollout(1, "step"), rollout(1, "step", params))
    larger = dataclasses.replace(params, obs_size=256)
    observation, _ = jax.eval_shape(
        lambda key: short_game(1)[0].reset(key, larger), jax.random.key(0)
    )
    assert observation.shape == (256, 256, 3)
    shorter = dataclasses.replace(params, max_steps_in_episode=2)
    assert rollout(1, "step", shorter)[4]["returned_episode_lengths"].max() == 2
    assert np.all(rollout(1, "step_env", shorter)[4]["returned_episode"][1:])


def test_the_wrapped_state_is_drawn_as_the_state_inside():
    (env, params), (wrapped, _) = short_game(0), short_game(1)
    _, state = wrapped.reset(jax.random.key(0))
    observation, state, _, _, _ = wrapped.step_env(jax.random.key(1), state, jnp.int32(RIGHT))
    assert_same(wrapped.render(state), observation)
    blind = dataclasses.replace(params, partial_obs=True)
    assert_same(wrapped.render(state, blind), env.render(state.env_state, blind))
    assert not jnp.array_equal(wrapped.render(state, blind), observation)


def test_all_other_fields_of_the_environment_are_unchanged():
    env, _ = make("NavigatorEasy")
    wrapped = log_episodes(env)
    assert isinstance(wrapped, Environment)
    changed = {
        name for name in Environment._fields if getattr(wrapped, name) is not getattr(env, name)
    }
    assert changed == {"reset", "step", "step_env", "render", "origin"}


@pytest.mark.parametrize("form", ["step", "step_env"])
def test_a_step_keeps_all_types_and_is_traced_once(form):
    wrapped, params = short_game(1)
    step = jax.jit(getattr(wrapped, form))
    _, state = wrapped.reset(jax.random.key(0), params)
    first_types = types(state)
    for i in range(2 * LIMIT):
        _, state, _, _, info = step(jax.random.key(i), state, jnp.int32(RIGHT), params)
        assert types(state) == first_types
    assert step._cache_size() == 1
    strong = {
        "returned_episode": bool,
        "returned_episode_returns": jnp.float32,
        "returned_episode_lengths": jnp.int32,
    }
    assert types({name: info[name] for name in strong}) == {
        name: ((), np.dtype(dtype), False) for name, dtype in strong.items()
    }
    assert first_types[1:] == 2 * (((), np.dtype("float32"), False), ((), np.dtype("int32"), False))


@pytest.mark.parametrize("form", ["step", pytest.param("step_env", marks=pytest.mark.slow)])
def test_two_nested_logs_agree(form):
    twice, params = short_game(2)
    _, states, _, _, info = rollout(1, form, params)
    observations, states_twice, _, _, info_twice = rollout(2, form, params)
    assert_same(info_twice, info)
    assert_same(states_twice.env_state, states)
    assert_same(states_twice[1:], states[1:])
    last = jax.tree.map(lambda leaf: jnp.asarray(leaf[-1, 0]), states_twice)
    assert_same(twice.render(last, params), observations[-1, 0])


# --- the other wrappers --------------------------------------------------------------------------

BLOCK = 20  # steps played in the short games below


@functools.cache
def game(**options):
    """The toy game without a wrapper, and its params. options: for ``make``."""
    return toy.make(**{"max_steps_in_episode": LIMIT, **options})


@functools.cache
def play(env, params, form="step", frames=True):
    """Play the same random actions in any env: (transitions [BLOCK, ...], reset's result).

    Without frames, observations are None and are not drawn.
    """

    @jax.jit
    def rolled(key):
        reset_key, actions_key, steps_key = jax.random.split(key, 3)
        observation, state = env.reset(reset_key, params)
        actions = jax.random.randint(actions_key, (BLOCK,), 0, 5)

        def body(state, key_and_action):
            key, action = key_and_action
            observation, state, *rest = getattr(env, form)(key, state, action, params)
            return state, (observation if frames else None, state, *rest)

        steps = jax.lax.scan(body, state, (jax.random.split(steps_key, BLOCK), actions))[1]
        return steps, (observation if frames else None, state)

    return jax.tree.map(np.asarray, rolled(jax.random.key(0)))


def by_hand(frames, dones, first, num_frames):
    """The stacks by a plain loop.

    frames: [T, ...], from step. dones: whether each ended an episode. first: the frame from reset.
    """
    stacks, recent = [], [first] * num_frames
    for frame, done in zip(frames, dones):
        recent = [frame] * num_frames if done else [*recent[1:], frame]
        stacks.append(np.concatenate(recent, axis=-1))
    return np.stack(stacks)


def test_a_stack_holds_the_last_frames_of_this_episode_only():
    env, params = game()
    (frames, _, _, dones, _), (first, _) = play(env, params)
    (stacks, states, _, _, _), (first_stack, _) = play(frame_stack(env, 3), params)
    np.testing.assert_array_equal(first_stack, np.tile(first, 3))
    np.testing.assert_array_equal(stacks, by_hand(frames, dones, first, 3))
    np.testing.assert_array_equal(stacks, states.frames)
    assert dones.sum() > 3


def test_a_stack_without_auto_reset_continues_after_the_end():
    env, params = game()
    (frames, *_), (first, _) = play(env, params, "step_env")
    (stacks, *_), _ = play(frame_stack(env, 3), params, "step_env")
    np.testing.assert_array_equal(stacks, by_hand(frames, [False] * BLOCK, first, 3))


def test_the_final_observation_is_a_stack_of_the_episode_that_ended():
    env, params = game(final_observation=True)
    (frames, _, _, dones, info), (first, _) = play(env, params)
    (stacks, _, _, _, stacked_info), (first_stack, _) = play(frame_stack(env, 2), params)
    before = np.concatenate([first_stack[None], stacks[:-1]])[..., -3:]
    np.testing.assert_array_equal(
        stacked_info["final_observation"],
        np.concatenate([before, info["final_observation"]], axis=-1),
    )
    assert (info["final_observation"][dones] != frames[dones]).any()


def test_the_final_observation_is_the_frame_before_the_reset():
    env, params = game(final_observation=True)
    step, step_env = jax.jit(env.step), jax.jit(env.step_env)
    _, state = env.reset(jax.random.key(0), params)
    ends = 0
    for key in jax.random.split(jax.random.key(1), 2 * LIMIT):
        last = step_env(jax.random.split(key)[0], state, jnp.int32(RIGHT), params)
        observation, state, reward, done, info = step(key, state, jnp.int32(RIGHT), params)
        assert_same(info.pop("final_observation"), last[0])
        assert_same((reward, done, info), last[2:])
        assert np.array_equal(observation, last[0]) != done
        ends += done
    assert ends > 1


def test_a_stack_can_be_rendered_again():
    env, params = game()
    stacked = frame_stack(env, 2)
    _, state = stacked.reset(jax.random.key(0), params)
    observation, state, *_ = stacked.step(jax.random.key(1), state, jnp.int32(RIGHT), params)
    np.testing.assert_array_equal(stacked.render(state, params), observation)


def test_sticky_actions_repeat_with_their_probability_but_not_across_episodes():
    env, params = game()
    for probability in (0.0, 0.25, 1.0):
        sticky = sticky_actions(env, probability)

        def repeats(key, sticky=sticky):
            _, state = sticky.reset(key, params)
            state = state._replace(last_action=jnp.int32(7))
            return sticky.step_env(key, state, jnp.int32(RIGHT), params)[1].last_action == 7

        share = jax.jit(jax.vmap(repeats))(jax.random.split(jax.random.key(0), 4000)).mean()
        assert abs(share - probability) < 0.03 and (share == probability or 0 < probability < 1)
    (_, states, _, dones, _), (_, first) = play(sticky_actions(env, 0.5), params, frames=False)
    assert first.last_action == -1 and dones.sum() > 3
    assert (states.last_action[dones] == -1).all() and (states.last_action[~dones] >= 0).any()


def test_probability_0_repeats_nothing_and_1_repeats_no_action():
    env, params = game(max_steps_in_episode=BLOCK + 1)
    (_, states, *_), (_, first) = play(sticky_actions(env, 1.0), params, frames=False)
    assert (states.env_state.position == first.env_state.position).all()
    assert (states.env_state.time == np.arange(1, BLOCK + 1)).all()
    actions = jax.random.randint(jax.random.split(jax.random.key(0), 3)[1], (BLOCK,), 0, 5)
    (_, states, *_), _ = play(sticky_actions(env, 0.0), params, "step_env", frames=False)
    np.testing.assert_array_equal(states.last_action, actions)


def test_grayscale_agrees_with_pillow():
    from PIL import Image

    env, params = make("NavigatorEasy")
    frame, _ = env.reset(jax.random.key(0), params)
    gray, _ = grayscale(env).reset(jax.random.key(0), params)
    expected = np.asarray(Image.fromarray(np.asarray(frame)).convert("L")).astype(int)
    assert gray.shape == (128, 128, 1) and np.abs(gray[..., 0] - expected).max() <= 1
    assert len(np.unique(gray)) > 10


def test_resize_agrees_with_pillow():
    from PIL import Image

    env, params = make("NavigatorEasy")
    frame, _ = env.reset(jax.random.key(0), params)
    for height, width in ((84, 84), (64, 32)):
        small, _ = resize(env, height, width).reset(jax.random.key(0), params)
        expected = Image.fromarray(np.asarray(frame)).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        assert small.shape == (height, width, 3) and small.dtype == np.uint8
        assert np.abs(np.asarray(small).astype(int) - np.asarray(expected)).max() <= 2
    same, _ = resize(env, 128, 128).reset(jax.random.key(0), params)
    np.testing.assert_array_equal(same, frame)


def test_normalize_divides_bytes_by_255():
    env, params = make("NavigatorEasy")
    frame, _ = env.reset(jax.random.key(0), params)
    scaled, _ = normalize(env).reset(jax.random.key(0), params)
    assert scaled.dtype == np.float32 and scaled.max() <= 1
    np.testing.assert_array_equal(np.round(scaled * 255), frame)


def test_normalise_is_a_deprecated_alias_of_normalize():
    env, params = make("NavigatorEasy")
    with pytest.warns(DeprecationWarning, match="use wrappers.normalize") as warned:
        alias = normalise(env)
    assert [warning.filename for warning in warned] == [__file__]
    key = jax.random.key(0)
    assert_same(alias.reset(key, params), normalize(env).reset(key, params))
    assert alias.observation_space(params) == normalize(env).observation_space(params)


def test_both_views_equal_the_twins():
    env, params = game(final_observation=True)
    blind = dataclasses.replace(params, partial_obs=True)
    (both, states, rewards, dones, info), (first, _) = play(both_views(env), params)
    for view, twin in (("full", params), ("partial", blind)):
        (frames, twin_states, twin_rewards, twin_dones, twin_info), (first_frame, _) = play(
            env, twin
        )
        np.testing.assert_array_equal(both[view], frames)
        np.testing.assert_array_equal(first[view], first_frame)
        np.testing.assert_array_equal(
            info["final_observation"][view], twin_info["final_observation"]
        )
        assert_same((states, rewards, dones), (twin_states, twin_rewards, twin_dones))
    assert (both["full"] != both["partial"]).any()


def test_both_views_cost_one_step_and_two_renders():
    env, params = make("NavigatorEasy")
    key, state = jax.random.key(0), env.reset(jax.random.key(0), params)[1]

    def size(wrapped):
        step = jax.jit(lambda key, state: wrapped.step(key, state, jnp.int32(0), params))
        return step.lower(key, state).compile().cost_analysis()["flops"]

    drawing = (
        jax.jit(lambda state: env.render(state, params))
        .lower(state)
        .compile()
        .cost_analysis()["flops"]
    )
    assert size(both_views(env)) < size(env) + 1.5 * drawing


def test_both_views_outside_a_stack_raise():
    env, params = game()
    with pytest.raises(ValueError, match="put frame_stack outside"):
        both_views(log_episodes(frame_stack(env))).reset(jax.random.key(0), params)


STACKS = {
    "84 x 84 x 4, as for Atari": (
        lambda env: frame_stack(resize(grayscale(sticky_actions(env)))),
        (84, 84, 4),
        np.uint8,
    ),
    "gray after stacking": (
        lambda env: grayscale(frame_stack(log_episodes(env), 2)),
        (128, 128, 2),
        np.uint8,
    ),
    "floats stacked": (
        lambda env: log_episodes(frame_stack(normalize(env), 2)),
        (128, 128, 6),
        np.float32,
    ),
    "floats resized": (lambda env: resize(normalize(env), 32, 48), (32, 48, 3), np.float32),
    "both views of all": (
        lambda env: normalize(
            frame_stack(resize(both_views(log_episodes(sticky_actions(env))), 40, 40), 2)
        ),
        (40, 40, 6),
        np.float32,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STACKS)
def test_wrappers_compose_under_jit_and_vmap_and_match_their_space(name):
    wrap, shape, dtype = STACKS[name]
    env, params = game(final_observation=True)
    env = wrap(env)
    space = env.observation_space(params)
    boxes = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    assert all((box.shape, box.dtype) == (shape, dtype) for box in boxes)
    reset = jax.jit(jax.vmap(env.reset, in_axes=(0, None)))
    step = jax.jit(jax.vmap(env.step, in_axes=(0, 0, 0, None)))
    keys = jax.random.split(jax.random.key(0), 3)
    actions = jnp.array([0, 3, 4])
    observations, states = reset(keys, params)
    for _ in range(2 * LIMIT):
        before = types(states)
        observations, states, _, _, info = step(keys, states, actions, params)
        for seen in jax.tree.map(np.asarray, (observations, info["final_observation"])):
            assert all(
                space.contains(jax.tree.map(lambda leaf, i=i: leaf[i], seen)) for i in range(3)
            )
        assert types(states) == before
    assert step._cache_size() == 1


@pytest.mark.parametrize(
    "wrap",
    [log_episodes, sticky_actions, grayscale, resize, normalize, both_views, frame_stack],
)
def test_no_shape_or_dtype_is_promoted_implicitly(wrap):
    env, _ = make("NavigatorEasy", final_observation=True)
    wrapped, key = wrap(env), jax.random.key(0)
    expected = transition_types(wrapped, key)
    strict = {"jax_numpy_rank_promotion": "raise", "jax_numpy_dtype_promotion": "strict"}
    with switched(**strict, jax_enable_x64=True):
        assert transition_types(wrapped, key) == expected


def transition_types(env, key):
    """The types of what ``step`` returns after ``reset``."""
    _, state = jax.eval_shape(env.reset, key)
    return jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), jax.eval_shape(env.step, key, state, jnp.int32(1))
    )


def in_all_wrappers(env):
    """An environment in every wrapper."""
    return log_episodes(
        sticky_actions(frame_stack(normalize(resize(grayscale(both_views(env)), 16, 16)), 2))
    )


def played_in_all_wrappers(key=None, **switches):
    """What 40 steps of the toy game in every wrapper return, under switches of JAX."""
    with switched(**switches):
        env, params = game(final_observation=True)
        env = in_all_wrappers(env)

        @jax.jit
        def play(key):
            def body(state, number):
                step_key = jax.random.fold_in(key, number)
                transition = env.step(step_key, state, number % 5, params)
                return transition[1], transition

            first = env.reset(key, params)
            return first, jax.lax.scan(body, first[1], jnp.arange(40, dtype=jnp.int32))[1]

        played = jax.tree.map(np.asarray, play(jax.random.key(0) if key is None else key))
    assert np.any(played[1][3]) and not np.all(played[1][3])
    return played


@pytest.mark.slow
@pytest.mark.parametrize(
    "switch",
    [
        "jax_enable_x64",
        "jax_debug_nans",
        "jax_check_tracer_leaks",
        "jax_disable_jit",
        "jax_debug_key_reuse",
    ],
)
def test_a_seed_plays_the_same_episode_in_all_wrappers_under_every_switch(switch):
    expected, found = played_in_all_wrappers(), played_in_all_wrappers(**{switch: True})
    for one, other in zip(*map(jax.tree.leaves, (expected, found))):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "switches",
    [
        {"jax_threefry_partitionable": False},
        {"jax_threefry_partitionable": True},
        {"jax_default_prng_impl": "rbg"},
    ],
    ids=str,
)
def test_all_wrappers_work_with_other_random_numbers(switches):
    expected = played_in_all_wrappers()
    with switched(**switches):
        keys = jax.random.key(0), jax.random.PRNGKey(0)
    for key in keys:
        found = played_in_all_wrappers(key, **switches)
        assert [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(found)] == [
            (leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(expected)
        ]


def test_all_wrappers_run_in_a_scan_under_shard_map():
    env, params = game(final_observation=True)
    env = in_all_wrappers(env)

    def play(key):
        def body(state, number):
            return env.step(key, state, number, params)[1], None

        return jax.lax.scan(body, env.reset(key, params)[1], jnp.arange(3, dtype=jnp.int32))[0]

    keys = jax.random.split(jax.random.key(0), 2)
    jax.eval_shape(on_one_device(jax.vmap(play)), keys)


# --- equality, pickles and copies ----------------------------------------------------------------


def wrapped_navigator(probability=0.25, **overrides):
    """NavigatorEasy in two wrappers."""
    env, _ = make("NavigatorEasy", **overrides)
    return frame_stack(sticky_actions(env, probability), num_frames=2)


def test_environments_that_were_made_in_the_same_way_are_equal():
    env, same = wrapped_navigator(), wrapped_navigator()
    assert env == same and not env != same and hash(env) == hash(same)
    assert env == frame_stack(sticky_actions(make("NavigatorEasy")[0]), 2)
    others = [
        wrapped_navigator(0.5),
        wrapped_navigator(partial_obs=True),
        wrapped_navigator(max_steps_in_episode=3),
        sticky_actions(make("NavigatorEasy")[0]),
        make("NavigatorEasy", final_observation=True)[0],
        env._replace(step=make("NavigatorEasy")[0].step),
        tuple(env),
    ]
    assert all(env != other and not env == other for other in others)


def test_equal_environments_share_a_compiled_program():
    reset = jax.jit(lambda env, key: env.reset(key)[1], static_argnums=0)
    for _ in range(2):
        reset(wrapped_navigator(), jax.random.key(0))
    assert reset._cache_size() == 1


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))]
)
def test_environments_can_be_copied_and_pickled(copied):
    env = wrapped_navigator(partial_obs=True, max_steps_in_episode=9)
    copy_of_env = copied(env)
    assert copy_of_env == env and copy_of_env.default_params == env.default_params
    key = jax.random.key(3)
    expected, found = (jax.eval_shape(each.reset, key) for each in (env, copy_of_env))
    assert expected == found


def test_what_was_changed_by_hand_equals_only_itself_and_says_so_when_pickled():
    env, _ = make("NavigatorEasy")
    changed = env._replace(reset=lambda key, params=None: env.reset(key, params))
    assert changed == changed and changed != env and copy.copy(changed) == changed
    assert sticky_actions(changed) == sticky_actions(changed) != sticky_actions(env)
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        pickle.dumps(changed)


@pytest.mark.parametrize(
    "wrap, message",
    [
        (
            lambda env: sticky_actions(env, 1.5),
            r"probability must be in \[0, 1\], but it is 1.5; the nearest is 1",
        ),
        (
            lambda env: frame_stack(env, 0),
            "num_frames must be at least 1, but it is 0; the nearest is 1",
        ),
        (lambda env: resize(env, 0, 84), "height must be at least 1, but it is 0"),
        (lambda env: resize(env, 84, -1), "width must be at least 1, but it is -1"),
        (
            lambda env: grayscale(grayscale(env)).observation_space(),
            r"needs RGB observations, but their shape is \(128, 128, 1\)",
        ),
        (
            lambda env: grayscale(grayscale(env)).reset(jax.random.key(0)),
            r"needs RGB observations, but their shape is \(128, 128, 1\)",
        ),
        (
            lambda env: grayscale(normalize(env)).reset(jax.random.key(0)),
            "uint8, but they are float32; put normalize outside",
        ),
        (
            lambda env: normalize(normalize(env)).observation_space(),
            "uint8, but they are float32; put normalize outside",
        ),
    ],
)
def test_invalid_use_of_a_wrapper_raises(wrap, message):
    with pytest.raises(ValueError, match=message):
        wrap(game()[0])
