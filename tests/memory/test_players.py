"""Tests of what every player must keep; what is special to one is in players/test_<game>.py."""

import dataclasses
import inspect
import typing
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade import REGISTRY
from popgym_arcade.memory import episodes
from popgym_arcade.memory.player import Player, forgetful_policy, recall_policy
from popgym_arcade.memory.players import PLAYERS
from popgym_arcade.registry import NO_ACTION, NUM_ACTIONS
from tests.testing import as_numpy, case_of, keys, one_of, rendered, shown_by

EPISODES = 16
STEPS = 128  # of an episode, at most: enough for a good share of the return
SEEN_STEPS = 32  # of an episode, at most: those whose frames are changed where nobody sees it
MOST_FEATURE = 8  # in absolute value; nearly all are at most 1
# Angles are shown in units that are finer than some pixels: up to so many look alike.
LOOK_ALIKE = 16


def with_players():
    """The names of the environments whose game has a Player."""
    return [name for name, entry in REGISTRY.items() if entry.game in PLAYERS]


def player_of(name):
    """The Player of an environment's game."""
    return PLAYERS[REGISTRY[name].game]


every_environment = pytest.mark.parametrize("name", with_players())
every_game = pytest.mark.parametrize("name", [n for n in with_players() if n.endswith("Easy")])
# test_games.py tests the frames of all others.
every_continuous_game = pytest.mark.parametrize(
    "name", [n for n in with_players() if n.endswith("Easy") and not case_of(n).is_discrete]
)
every_player = pytest.mark.parametrize("player", PLAYERS.values(), ids=PLAYERS)
both_twins = pytest.mark.parametrize(
    "partial_obs", [pytest.param(False, id="MDP"), pytest.param(True, id="POMDP")]
)


def params_of(name, partial_obs):
    """A twin's Params, with a limit that the tests can afford."""
    params = REGISTRY[name].params
    limit = min(params.max_steps_in_episode, STEPS)
    return dataclasses.replace(params, partial_obs=partial_obs, max_steps_in_episode=limit)


# --- what is played ------------------------------------------------------------------------------


class Played(NamedTuple):
    """First episodes, with NumPy leaves [steps, EPISODES]."""

    states: NamedTuple  # State: before the action
    action: np.ndarray
    reward: np.ndarray
    valid: np.ndarray  # whether the episode has not ended yet

    def returns(self):
        """What the episodes earned: float64[EPISODES]."""
        return np.sum(self.reward, axis=0, where=self.valid, dtype=np.float64)


@cache
def played(name, partial_obs):
    """Recall plays the POMDP, or forgetful recall the MDP, from the same first states: Played."""
    act, (reset, step) = acting(name, partial_obs), dynamics(name)
    state, memory, action = reset(keys(0, EPISODES)), *before_acting(name, partial_obs)
    over, steps = np.zeros(EPISODES, bool), []
    for step_keys in keys(1, (params_of(name, partial_obs).max_steps_in_episode, EPISODES)):
        memory, action = act(memory, action, state)
        next_state, reward, done = step(step_keys, state, action)
        steps.append(Played(state, action, reward, ~over))
        state, over = next_state, over | np.asarray(done)
        if np.all(over):
            break
    return jax.tree.map(lambda *leaves: np.stack(list(map(np.asarray, leaves))), *steps)


@cache
def dynamics(name):
    """Compiled (keys) -> states and (keys, states, actions) -> (states, rewards, dones)."""
    entry, params = REGISTRY[name], params_of(name, False)

    def reset(*arguments):
        return entry.reset(*arguments)[1]

    def step(*arguments):
        _, state, reward, done, _ = entry.step(*arguments)
        return state, reward, done

    return compiled_for_each(reset, params), compiled_for_each(step, params)


def compiled_for_each(function, params):
    """Compile (*arguments, params) -> result for batches of arguments."""
    return jax.jit(jax.vmap(lambda *arguments: function(*arguments, params)))


def policy_of(name, partial_obs):
    """Recall for the POMDP, forgetful recall for the MDP."""
    return (recall_policy if partial_obs else forgetful_policy)(player_of(name))


@cache
def acting(name, partial_obs):
    """A compiled function (memory, last action, state) -> (memory, action), of EPISODES each."""
    act, key = policy_of(name, partial_obs).act, jax.random.key(0)
    return compiled_for_each(partial(act, key), params_of(name, partial_obs))


def before_acting(name, partial_obs):
    """The memory and the last action before the first frames, EPISODES of each."""
    before = policy_of(name, partial_obs).begin(params_of(name, partial_obs)), NO_ACTION
    return jax.tree.map(lambda leaf: np.resize(leaf, (EPISODES, *np.shape(leaf))), before)


def some_states(name, count=512):
    """States before the ends of recall's episodes of the POMDP: State [count]."""
    play = played(name, True)
    every_state = jax.tree.map(lambda leaf: leaf[play.valid], play.states)
    chosen = np.random.default_rng(0).choice(len(every_state.time), count)
    return jax.tree.map(lambda leaf: leaf[chosen], every_state)


def scramble(name, rng, states):
    """Other states [count], by the game's Case; without that, fields of other states among them."""
    case, params = case_of(name), REGISTRY[name].params
    if case.scramble is not None:
        return case.scramble(rng, states, params)
    return type(states)(*(rng.permutation(field) for field in states))


# --- what a frame shows --------------------------------------------------------------------------


@every_continuous_game
@both_twins
def test_two_frames_are_equal_if_what_they_show_is_and_only_if_it_is_alike(name, partial_obs):
    states = some_states(name)
    scrambled = [scramble(name, np.random.default_rng(seed), states) for seed in (1, 2)]
    frame_of, shown_of = {}, {}
    for batch in (states, states._replace(score=states.score + 1), *scrambled):
        frames = rendered(name, partial_obs, batch)
        shown = shown_by(name, partial_obs)(batch)
        for numbers_shown, frame in zip(shown, map(np.ndarray.tobytes, frames)):
            assert frame_of.setdefault(numbers_shown.tobytes(), frame) == frame, (
                f"the frame shows more than {numbers_shown}"
            )
            difference = np.abs(shown_of.setdefault(frame, numbers_shown) - numbers_shown)
            assert np.max(difference) <= LOOK_ALIKE, (
                f"the frame does not tell {numbers_shown} from {shown_of[frame]}"
            )


@every_environment
def test_shapes_and_dtypes_are_as_promised(name):
    player, params = player_of(name), REGISTRY[name].params
    state = jax.eval_shape(lambda key: REGISTRY[name].reset(key, params)[1], jax.random.key(0))
    shown, other = (
        jax.eval_shape(player.shown, state, dataclasses.replace(params, partial_obs=partial_obs))
        for partial_obs in (True, False)
    )
    assert shown == other  # so recall and reflexes take both twins' frames
    assert {leaf.dtype for leaf in jax.tree.leaves(shown)} == {np.dtype(np.int32)}
    memory = jax.eval_shape(player.begin, params)
    remembered = jax.eval_shape(player.remember, memory, jnp.int32(NO_ACTION), shown, params)
    assert remembered == memory  # so a loop can carry it
    key = jax.eval_shape(player.key, shown, params)
    assert (key.shape, key.dtype) == ((), np.int32)
    assert type(player.num_keys(params)) is int
    actions = [reflex(shown, params) for reflex in map(_shape_of, player.reflexes.values())]
    for action in (*actions, jax.eval_shape(player.act, memory, params)):
        assert action.shape == () and jnp.issubdtype(action.dtype, jnp.integer)
    if player.features is not None:
        features = jax.eval_shape(player.features, shown, params)
        assert features.ndim == 1 and features.dtype == np.float32


def _shape_of(function):
    return partial(jax.eval_shape, function)


@pytest.mark.slow
@every_game
@both_twins
def test_keys_features_and_reflexes_actions_are_in_range(name, partial_obs):
    player, params = player_of(name), params_of(name, partial_obs)
    judge = compiled_for_each(partial(judged, player), params)
    states = some_states(name, 256)
    for batch in (states, scramble(name, np.random.default_rng(0), states)):
        key, features, actions = as_numpy(judge(batch))
        assert np.all((key >= 0) & (key < player.num_keys(params)))
        for feature in jax.tree.leaves(features):
            assert np.all(np.isfinite(feature)) and np.max(np.abs(feature)) <= MOST_FEATURE
        for reflex, action in actions.items():
            assert np.all((action >= 0) & (action < NUM_ACTIONS)), reflex


def judged(player, state, params):
    """The key and the features of a state's frame, and the reflexes' actions."""
    shown = player.shown(state, params)
    features = player.features(shown, params) if player.features else ()
    actions = {name: reflex(shown, params) for name, reflex in player.reflexes.items()}
    return player.key(shown, params), features, actions


# --- recall --------------------------------------------------------------------------------------


@pytest.mark.slow
@every_game
def test_recall_acts_on_nothing_but_what_the_pomdps_frames_show(name):
    steps = jax.tree.map(lambda leaf: leaf[:SEEN_STEPS], played(name, True))
    shape = steps.valid.shape
    states = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), steps.states)
    changed = with_unseen_changes(name, states)
    assert any(map(np.any, jax.tree.map(np.not_equal, changed, states))), "the frames hide nothing"
    changed = jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), changed)
    memory, action = before_acting(name, True)
    for number, expected in enumerate(steps.action):
        memory, action = acting(name, True)(memory, action, one_of(changed, number))
        valid = steps.valid[number]
        np.testing.assert_array_equal(action[valid], expected[valid])


def with_unseen_changes(name, states):
    """States [count] that differ from these as much as the POMDP's frames leave it unseen."""
    rng, look = np.random.default_rng(0), shown_by(name, True)
    shown = look(states)
    for share in (1.0, 0.25, 0.05):  # of a field's numbers, changed at once
        other = scramble(name, rng, states)
        for field in states._fields:
            old, new = getattr(states, field), getattr(other, field)
            new = np.where(rng.random(old.shape) < share, new, old)
            same = np.all(look(states._replace(**{field: new})) == shown, axis=1)
            new = np.where(same.reshape(-1, *(1 for _ in old.shape[1:])), new, old)
            states = states._replace(**{field: new})
    return states


@pytest.mark.slow
@every_game
def test_forgetful_recall_earns_on_the_mdp_what_recall_earns_on_the_pomdp(name):
    forgetful, recall = (played(name, partial_obs).returns() for partial_obs in (False, True))
    assert episodes.estimate(forgetful - recall).high >= -1e-6


# --- form ----------------------------------------------------------------------------------------


@every_player
def test_every_function_is_documented_and_annotated(player: Player):
    module = inspect.getmodule(player.shown)
    functions = [part for part in player if inspect.isfunction(part)]
    assert module.__doc__ and len(functions) >= len(player) - 2  # the others: features, reflexes
    for function in (*functions, *player.reflexes.values()):
        assert inspect.getmodule(function) is module and inspect.getdoc(function), function
        hints = typing.get_type_hints(function)
        missing = {*inspect.signature(function).parameters, "return"} - set(hints)
        assert not missing, f"{function.__name__} lacks annotations of {sorted(missing)}"
