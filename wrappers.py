"""Wrappers: functions from an environment to an environment.

A wrapper takes a ``registry.Environment`` and returns one whose functions have the same signatures, so wrappers compose, and the
result works under jit, vmap and scan like any other environment. What a wrapper has to remember, it keeps in a state of its own
around the environment's. Wrap first and vmap after: a wrapper expects the functions of a single environment.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from popgym_arcade import spaces

NOTHING = -1  # an action that does nothing but let time pass
COLORS = 3  # channels of a frame
VIEWS = ("partial", "full")


# --- episodes ---------------------------------------------------------------------------------------------------------------


class LogState(NamedTuple):
    """What ``log_episodes`` keeps: the environment's state, and the sums over the running and the last finished episode."""

    env_state: Any  # the state of the environment inside; its time and score are env_state.time and env_state.score
    episode_returns: jax.Array  # float32[]: rewards of the running episode so far, added up
    episode_lengths: jax.Array  # int32[]: steps of the running episode so far
    returned_episode_returns: jax.Array  # float32[]: the return of the last finished episode, 0 before there is one
    returned_episode_lengths: jax.Array  # int32[]: its length in steps, 0 before there is one


def log_episodes(env):
    """Report the return and the length of every finished episode in ``info``.

    env: an Environment. Returns an Environment with the same functions over a LogState. The info of ``step`` and of ``step_env``
    gets, besides what it held:

    * ``returned_episode``, bool[]: whether this step ended an episode; it equals done.
    * ``returned_episode_returns``, float32[]: the undiscounted return of the last finished episode, this one included.
    * ``returned_episode_lengths``, int32[]: its length in steps.

    Both numbers are 0 until the first episode after ``reset`` is over, and then keep their values until the next is, so take
    means over the steps where ``returned_episode`` is true.

    ``step`` begins to count anew when done, as it begins a new episode. ``step_env`` does not: the state it returns is the last
    of the finished episode, and so are the sums in it. Steps taken on from there belong to the same episode, each of them done
    again with a larger sum. To end one by hand, call ``reset``, which sets all four numbers to 0.

    The names in ``info`` are those of the LogWrapper of purejaxrl and gymnax.
    """

    def reset(key, params=None):
        observation, env_state = env.reset(key, params)
        return observation, LogState(env_state, jnp.float32(0), jnp.int32(0), jnp.float32(0), jnp.int32(0))

    def step_env(key, state, action, params=None):
        return _count(state, *env.step_env(key, state.env_state, action, params))

    def step(key, state, action, params=None):
        observation, state, reward, done, info = _count(state, *env.step(key, state.env_state, action, params))
        return observation, _count_anew(state, done), reward, done, info

    def render(state, params=None):
        return env.render(state.env_state, params)

    return env._replace(reset=reset, step=step, step_env=step_env, render=render)


def _count(state, observation, env_state, reward, done, info):
    """Add one transition of the environment inside to the sums: (observation, LogState, reward, done, info)."""
    returns, lengths = state.episode_returns + reward, state.episode_lengths + 1
    last_returns = jnp.where(done, returns, state.returned_episode_returns)
    last_lengths = jnp.where(done, lengths, state.returned_episode_lengths)
    info = {
        **info,
        "returned_episode": done,
        "returned_episode_returns": last_returns,
        "returned_episode_lengths": last_lengths,
    }
    return observation, LogState(env_state, returns, lengths, last_returns, last_lengths), reward, done, info


def _count_anew(state, done):
    """Set the sums of the running episode to 0 if done: LogState."""
    return state._replace(
        episode_returns=jnp.where(done, 0, state.episode_returns),
        episode_lengths=jnp.where(done, 0, state.episode_lengths),
    )


# --- actions ----------------------------------------------------------------------------------------------------------------


class StickyState(NamedTuple):
    """What ``sticky_actions`` keeps."""

    env_state: Any  # the state of the environment inside
    last_action: jax.Array  # int32[]: the action played last, -1 before the first of an episode


def sticky_actions(env, probability=0.25):
    """Play, with a probability, the last action once more instead of the one asked for, so that no fixed sequence of actions works.

    env: an Environment. probability: 0 ... 1. Before the first action of an episode the last one counts as -1, which does nothing.
    Returns an Environment over a StickyState. Source: Machado et al. (2018), "Revisiting the Arcade Learning Environment",
    section 5. Raises ValueError for a probability out of range.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must be in 0 ... 1, but it is {probability}; the nearest is {float(probability > 1)}")

    def played(key, state, action):
        return jnp.where(jax.random.bernoulli(key, probability), state.last_action, jnp.asarray(action, jnp.int32))

    def reset(key, params=None):
        observation, env_state = env.reset(key, params)
        return observation, StickyState(env_state, jnp.int32(NOTHING))

    def step_env(key, state, action, params=None):
        sticky_key, step_key = jax.random.split(key)
        action = played(sticky_key, state, action)
        observation, env_state, reward, done, info = env.step_env(step_key, state.env_state, action, params)
        return observation, StickyState(env_state, action), reward, done, info

    def step(key, state, action, params=None):
        sticky_key, step_key = jax.random.split(key)
        action = played(sticky_key, state, action)
        observation, env_state, reward, done, info = env.step(step_key, state.env_state, action, params)
        return observation, StickyState(env_state, jnp.where(done, NOTHING, action)), reward, done, info

    def render(state, params=None):
        return env.render(state.env_state, params)

    return env._replace(reset=reset, step=step, step_env=step_env, render=render)


# --- observations -----------------------------------------------------------------------------------------------------------


def grayscale(env):
    """Show brightness instead of colour: observations [height, width, 3 n] become [height, width, n], uint8.

    env: an Environment whose observations are colours. Returns an Environment. The brightness is 0.299 red + 0.587 green + 0.114
    blue (ITU-R BT.601), in integers, so it is the same on every device. Raises ValueError where an observation has no colours.
    """

    def gray(frame):
        _check_frame("grayscale", frame)
        weights = jnp.array([77, 150, 29], jnp.uint16)  # in 256ths
        colors = frame.reshape(*frame.shape[:2], -1, COLORS).astype(jnp.uint16)
        return ((colors * weights).sum(axis=-1, dtype=jnp.uint16) >> 8).astype(jnp.uint8)

    def space(box):
        _check_frame("grayscale", box)
        return box._replace(shape=(*box.shape[:2], box.shape[2] // COLORS))

    return _with_observations(env, gray, space)


def resize(env, height=84, width=84):
    """Show smaller or larger frames: observations [.., .., channels] become [height, width, channels] of the same dtype.

    env: an Environment. height, width: pixels, at least 1. Returns an Environment. Interpolation is linear and antialiased, that of
    ``jax.image.resize``; uint8 is rounded to the nearest. Raises ValueError for a size below 1.
    """
    for name, value in (("height", height), ("width", width)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, but it is {value}")

    def resized(frame):
        image = jax.image.resize(frame.astype(jnp.float32), (height, width, frame.shape[2]), "linear")
        if frame.dtype == jnp.uint8:
            image = jnp.clip(jnp.round(image), 0, 255)
        return image.astype(frame.dtype)

    return _with_observations(env, resized, lambda box: box._replace(shape=(height, width, box.shape[2])))


def normalise(env):
    """Show numbers from 0 to 1: observations of uint8 become float32, divided by 255.

    env: an Environment. Returns an Environment. Raises ValueError where an observation is not uint8.
    """

    def scaled(frame):
        _check_bytes("normalise", frame)
        return frame.astype(jnp.float32) / 255

    def space(box):
        _check_bytes("normalise", box)
        return box._replace(low=0.0, high=1.0, dtype=jnp.float32)

    return _with_observations(env, scaled, space)


def _with_observations(env, change, change_space):
    """An environment whose observations are changed, and with them its space. Those of ``both_views`` are changed one by one."""

    def changed(observation):
        return jax.tree.map(change, observation)

    def reset(key, params=None):
        observation, state = env.reset(key, params)
        return changed(observation), state

    def stepper(step):
        def changed_step(key, state, action, params=None):
            observation, state, reward, done, info = step(key, state, action, params)
            return changed(observation), state, reward, done, _with_final(info, changed)

        return changed_step

    def render(state, params=None):
        return changed(env.render(state, params))

    def observation_space(params=None):
        return _change_space(env.observation_space(params), change_space)

    return env._replace(
        reset=reset,
        step=stepper(env.step),
        step_env=stepper(env.step_env),
        render=render,
        observation_space=observation_space,
    )


def _with_final(info, change):
    """The info of a step with its final observation changed, if it has one."""
    if "final_observation" not in info:
        return info
    return {**info, "final_observation": change(info["final_observation"])}


def _change_space(space, change):
    """A Box changed, or every Box of a Dict."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({name: change(box) for name, box in space.spaces.items()})
    return change(space)


def _check_bytes(wrapper, frame):
    """Raise ValueError unless a frame, or the Box of one, is of uint8."""
    if frame.dtype != jnp.uint8:
        raise ValueError(f"{wrapper} needs observations of uint8, but they are {jnp.dtype(frame.dtype)}; put normalise outside it")


def _check_frame(wrapper, frame):
    """Raise ValueError unless a frame, or the Box of one, has colours of uint8."""
    _check_bytes(wrapper, frame)
    if frame.shape[2] % COLORS:
        raise ValueError(f"{wrapper} needs red, green and blue, but an observation has {frame.shape[2]} channels")


class StackState(NamedTuple):
    """What ``frame_stack`` keeps."""

    env_state: Any  # the state of the environment inside
    frames: Any  # the observation: [height, width, num_frames * channels], the newest frame in the last channels


def frame_stack(env, num_frames=4):
    """Show the last frames at once: observations [height, width, channels] become [height, width, num_frames * channels].

    env: an Environment. num_frames: at least 1; the oldest comes first. An episode begins with its first frame so many times, and
    no frame of the episode before. Returns an Environment over a StackState. Raises ValueError for a num_frames below 1.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, but it is {num_frames}")

    def filled(observation):
        return jax.tree.map(lambda frame: jnp.tile(frame, (1, 1, num_frames)), observation)

    def pushed(frames, observation):
        return jax.tree.map(lambda old, new: jnp.concatenate([old[..., new.shape[-1] :], new], axis=-1), frames, observation)

    def reset(key, params=None):
        observation, env_state = env.reset(key, params)
        frames = filled(observation)
        return frames, StackState(env_state, frames)

    def step_env(key, state, action, params=None):
        observation, env_state, reward, done, info = env.step_env(key, state.env_state, action, params)
        frames = pushed(state.frames, observation)
        return frames, StackState(env_state, frames), reward, done, _with_final(info, lambda frame: pushed(state.frames, frame))

    def step(key, state, action, params=None):
        observation, env_state, reward, done, info = env.step(key, state.env_state, action, params)
        frames = jax.tree.map(
            lambda begun, gone_on: jnp.where(done, begun, gone_on), filled(observation), pushed(state.frames, observation)
        )
        return frames, StackState(env_state, frames), reward, done, _with_final(info, lambda frame: pushed(state.frames, frame))

    def render(state, params=None):
        """The stack, its newest frame drawn anew, with other params perhaps."""
        frame = env.render(state.env_state, params)
        return jax.tree.map(lambda old, new: jnp.concatenate([old[..., : -new.shape[-1]], new], axis=-1), state.frames, frame)

    def observation_space(params=None):
        stacked = lambda box: box._replace(shape=(*box.shape[:2], num_frames * box.shape[2]))  # noqa: E731
        return _change_space(env.observation_space(params), stacked)

    return env._replace(reset=reset, step=step, step_env=step_env, render=render, observation_space=observation_space)


def both_views(env):
    """Show both twins at once: what the agent may see, and beside it all that matters, for a critic that is told more.

    env: an Environment. Observations become ``{"partial": ..., "full": ...}``, what env shows with partial_obs=True and with
    partial_obs=False, also in ``info["final_observation"]``; the observation space becomes a ``spaces.Dict``. The partial_obs of
    params counts no more. Wrappers outside this one change both observations alike. Returns an Environment. Raises ValueError, when
    called, for a ``frame_stack`` inside, whose state holds frames of one twin only: put it outside.

    Each function of env is called for both twins. They differ in nothing but the drawing, so under jit the compiler does what they
    have in common once.
    """

    def of_both(function, params):
        params = env.default_params if params is None else params
        return {view: function(dataclasses.replace(params, partial_obs=view == "partial")) for view in VIEWS}

    def reset(key, params=None):
        both = of_both(lambda twin: env.reset(key, twin), params)
        _check_no_stack(both["full"][1])
        return {view: observation for view, (observation, _) in both.items()}, both["full"][1]

    def stepper(step):
        def step_both(key, state, action, params=None):
            both = of_both(lambda twin: step(key, state, action, twin), params)
            observations = {view: transition[0] for view, transition in both.items()}
            _, next_state, reward, done, info = both["full"]
            last = {view: transition[4].get("final_observation") for view, transition in both.items()}
            return observations, next_state, reward, done, _with_final(info, lambda _: last)

        return step_both

    def render(state, params=None):
        return of_both(lambda twin: env.render(state, twin), params)

    def observation_space(params=None):
        return spaces.Dict(of_both(env.observation_space, params))

    return env._replace(
        reset=reset,
        step=stepper(env.step),
        step_env=stepper(env.step_env),
        render=render,
        observation_space=observation_space,
    )


def _check_no_stack(state):
    """Raise ValueError if a state is one of ``frame_stack`` or holds one."""
    while hasattr(state, "env_state"):
        if isinstance(state, StackState):
            raise ValueError("both_views cannot be outside frame_stack, which keeps frames of one twin; put frame_stack outside it")
        state = state.env_state
