"""Environments as functions, and wrappers: functions from an environment to an environment.

A wrapper takes an ``Environment`` and returns one whose functions have the same signatures, so
wrappers compose, and the result works under jit, vmap and scan like any other environment. What a
wrapper has to remember, it keeps in a state of its own around the environment's. Wrap first and
vmap after: a wrapper expects the functions of a single environment.
"""

import dataclasses
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from popgym_arcade import spaces

__all__ = [
    "NO_ACTION",
    "Environment",
    "LogState",
    "Params",
    "StackState",
    "StickyState",
    "auto_reset",
    "both_views",
    "frame_stack",
    "grayscale",
    "log_episodes",
    "normalise",
    "resize",
    "sticky_actions",
]

NO_ACTION: int = -1
"""An action that is none of the five: it does nothing but let time pass. Agents read it as the
action before the first."""

COLORS = 3  # channels of a frame
_VIEWS = {"partial": True, "full": False}  # of both_views, to their partial_obs


# --- environments --------------------------------------------------------------------------------


class Params(Protocol):
    """What every game's Params has. Each is a frozen dataclass, registered with JAX, with more
    fields of its own."""

    @property
    def partial_obs(self) -> bool:
        """Whether the POMDP's view is drawn. Static."""
        ...

    @property
    def obs_size(self) -> int:
        """Pixels a side of a frame: 128 or 256. Static."""
        ...

    @property
    def max_steps_in_episode(self) -> Any:
        """Steps before truncation: an int or an int32[]."""
        ...


Transition = tuple[jax.Array, Any, jax.Array, jax.Array, dict[str, Any]]
"""(observation uint8[S, S, 3], state, reward float32[], done bool[], info)."""


class BareReset(Protocol):
    """A game's own reset."""

    def __call__(self, key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        """Begin an episode: (observation uint8[S, S, 3], state)."""
        ...


class BareStep(Protocol):
    """A game's own step, which does not reset."""

    def __call__(self, key: jax.Array, state: Any, action: jax.Array, params: Any) -> Transition:
        """Play one step."""
        ...


class BareRender(Protocol):
    """A game's own render."""

    def __call__(self, state: Any, params: Any) -> jax.Array:
        """Draw a state: uint8[S, S, 3]."""
        ...


class Reset(Protocol):
    """An environment's ``reset``."""

    def __call__(self, key: jax.Array, params: Any = None) -> tuple[jax.Array, Any]:
        """Begin an episode: (observation uint8[S, S, 3], state). key: a typed or raw PRNG key."""
        ...


class Step(Protocol):
    """An environment's ``step`` or ``step_env``."""

    def __call__(
        self, key: jax.Array, state: Any, action: ArrayLike, params: Any = None
    ) -> Transition:
        """Play one step. key: a typed or raw PRNG key. action: int[]; any integer is taken."""
        ...


class Render(Protocol):
    """An environment's ``render``."""

    def __call__(self, state: Any, params: Any = None) -> jax.Array:
        """Draw a state: uint8[S, S, 3]."""
        ...


class ActionSpace(Protocol):
    """An environment's ``action_space``."""

    def __call__(self, params: Any = None) -> spaces.Discrete:
        """The space of actions."""
        ...


class ObservationSpace(Protocol):
    """An environment's ``observation_space``."""

    def __call__(self, params: Any = None) -> Any:
        """The space of observations: a ``spaces.Box``, or a ``spaces.Dict`` of ``both_views``."""
        ...


class Environment(NamedTuple):
    """An environment as functions. Where params is left out, ``default_params`` is used."""

    name: str
    default_params: Any  # the game's Params
    num_actions: int
    reset: Reset
    step: Step  # begins the next episode by itself when one is done
    step_env: Step  # the same without the reset
    render: Render
    action_space: ActionSpace
    observation_space: ObservationSpace


def auto_reset(
    reset: Reset, step_env: Step, render: Render, final_observation: bool = False
) -> Step:
    """A ``step`` that begins a new episode by itself, made of an environment's other functions.

    reset, step_env, render: as in Environment. final_observation: put the last frame before a reset
    into ``info["final_observation"]`` of every step. Returns the function that Environment
    describes.
    """

    def step(key, state, action, params=None):
        """One transition and, if it ended the episode, the first state of a new one.

        The observation and the state are the new episode's then; reward, done and info are the
        finished step's. The state is chosen first and drawn once: under jit the frames that
        ``step_env`` and ``reset`` return here are never computed.
        """
        step_key, reset_key = jax.random.split(key)
        last_observation, last_state, reward, done, info = step_env(step_key, state, action, params)
        _, first_state = reset(reset_key, params)
        state = jax.tree.map(
            lambda first, last: jnp.where(done, first, last), first_state, last_state
        )
        if final_observation:
            info = {**info, "final_observation": last_observation}
        return render(state, params), state, reward, done, info

    return step


# --- episodes ------------------------------------------------------------------------------------


class LogState(NamedTuple):
    """What ``log_episodes`` keeps: the environment's state, and the sums over the running and the
    last finished episode."""

    env_state: Any  # the state of the environment inside; its time and score are env_state.time and env_state.score
    episode_returns: jax.Array  # float32[]: rewards of the running episode so far, added up
    episode_lengths: jax.Array  # int32[]: steps of the running episode so far
    returned_episode_returns: (
        jax.Array
    )  # float32[]: the return of the last finished episode, 0 before there is one
    returned_episode_lengths: jax.Array  # int32[]: its length in steps, 0 before there is one


def log_episodes(env: Environment) -> Environment:
    """Report the return and the length of every finished episode in ``info``.

    env: an Environment. Returns an Environment with the same functions over a LogState. The info of
    ``step`` and of ``step_env`` gets, besides what it held:

    * ``returned_episode``, bool[]: whether this step ended an episode; it equals done.
    * ``returned_episode_returns``, float32[]: the undiscounted return of the last finished episode,
      this one included.
    * ``returned_episode_lengths``, int32[]: its length in steps.

    Both numbers are 0 until the first episode after ``reset`` is over, and then keep their values
    until the next is, so take means over the steps where ``returned_episode`` is true.

    ``step`` begins to count anew when done, as it begins a new episode. ``step_env`` does not: the
    state it returns is the last of the finished episode, and so are the sums in it. Steps taken on
    from there belong to the same episode, each of them done again with a larger sum. To end one by
    hand, call ``reset``, which sets all four numbers to 0.

    The names in ``info`` are those of the LogWrapper of purejaxrl and gymnax.
    """

    def reset(key, params=None):
        observation, env_state = env.reset(key, params)
        return observation, LogState(
            env_state, jnp.float32(0), jnp.int32(0), jnp.float32(0), jnp.int32(0)
        )

    def step_env(key, state, action, params=None):
        return _count(state, *env.step_env(key, state.env_state, action, params))

    def step(key, state, action, params=None):
        observation, state, reward, done, info = _count(
            state, *env.step(key, state.env_state, action, params)
        )
        return observation, _restart_sums(state, done), reward, done, info

    def render(state, params=None):
        return env.render(state.env_state, params)

    return env._replace(reset=reset, step=step, step_env=step_env, render=render)


def _count(state, observation, env_state, reward, done, info):
    """Add one transition of the environment inside to the sums: (observation, LogState, reward,
    done, info)."""
    returns, lengths = state.episode_returns + reward, state.episode_lengths + 1
    last_returns = jnp.where(done, returns, state.returned_episode_returns)
    last_lengths = jnp.where(done, lengths, state.returned_episode_lengths)
    info = {
        **info,
        "returned_episode": done,
        "returned_episode_returns": last_returns,
        "returned_episode_lengths": last_lengths,
    }
    return (
        observation,
        LogState(env_state, returns, lengths, last_returns, last_lengths),
        reward,
        done,
        info,
    )


def _restart_sums(state, done):
    """Set the sums of the running episode to 0 if done: LogState."""
    return state._replace(
        episode_returns=jnp.where(done, 0, state.episode_returns),
        episode_lengths=jnp.where(done, 0, state.episode_lengths),
    )


# --- actions -------------------------------------------------------------------------------------


class StickyState(NamedTuple):
    """What ``sticky_actions`` keeps."""

    env_state: Any  # the state of the environment inside
    last_action: jax.Array  # int32[]: the action played last, -1 before the first of an episode


def sticky_actions(env: Environment, probability: float = 0.25) -> Environment:
    """Play, with a probability, the last action once more instead of the one asked for, so that no
    fixed sequence of actions works.

    env: an Environment. probability: 0 ... 1. Before the first action of an episode the last one
    counts as -1, which does nothing. Returns an Environment over a StickyState. Source: Machado et
    al. (2018), "Revisiting the Arcade Learning Environment", section 5. Raises ValueError for a
    probability out of range.
    """
    spaces.check_range("probability", probability, 0, 1)

    def played(key, state, action):
        return jnp.where(
            jax.random.bernoulli(key, probability),
            state.last_action,
            jnp.asarray(action, jnp.int32),
        )

    def reset(key, params=None):
        observation, env_state = env.reset(key, params)
        return observation, StickyState(env_state, jnp.int32(NO_ACTION))

    def step_env(key, state, action, params=None):
        sticky_key, step_key = jax.random.split(key)
        action = played(sticky_key, state, action)
        observation, env_state, reward, done, info = env.step_env(
            step_key, state.env_state, action, params
        )
        return observation, StickyState(env_state, action), reward, done, info

    def step(key, state, action, params=None):
        sticky_key, step_key = jax.random.split(key)
        action = played(sticky_key, state, action)
        observation, env_state, reward, done, info = env.step(
            step_key, state.env_state, action, params
        )
        return (
            observation,
            StickyState(env_state, jnp.where(done, NO_ACTION, action)),
            reward,
            done,
            info,
        )

    def render(state, params=None):
        return env.render(state.env_state, params)

    return env._replace(reset=reset, step=step, step_env=step_env, render=render)


# --- observations --------------------------------------------------------------------------------


def grayscale(env: Environment) -> Environment:
    """Show brightness instead of colour: observations [height, width, 3 n] become [height, width,
    n], uint8.

    env: an Environment whose observations are colours. Returns an Environment. The brightness is
    0.299 red + 0.587 green + 0.114 blue (ITU-R BT.601), in integers, so it is the same on every
    device. Raises ValueError where an observation has no colours.
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


def resize(env: Environment, height: int = 84, width: int = 84) -> Environment:
    """Show smaller or larger frames: observations [.., .., channels] become [height, width,
    channels] of the same dtype.

    env: an Environment. height, width: pixels, at least 1. Returns an Environment. Interpolation is
    linear and antialiased, that of ``jax.image.resize``; uint8 is rounded to the nearest. Raises
    ValueError for a size below 1.
    """
    for name, value in (("height", height), ("width", width)):
        spaces.check_range(name, value, 1)

    def resized(frame):
        image = jax.image.resize(
            frame.astype(jnp.float32), (height, width, frame.shape[2]), "linear"
        )
        if frame.dtype == jnp.uint8:
            image = jnp.clip(jnp.round(image), 0, 255)
        return image.astype(frame.dtype)

    return _with_observations(
        env, resized, lambda box: box._replace(shape=(height, width, box.shape[2]))
    )


def normalise(env: Environment) -> Environment:
    """Show numbers from 0 to 1: observations of uint8 become float32, divided by 255.

    env: an Environment. Returns an Environment. Raises ValueError where an observation is not
    uint8.
    """

    def scaled(frame):
        _check_bytes("normalise", frame)
        return frame.astype(jnp.float32) / 255

    def space(box):
        _check_bytes("normalise", box)
        return box._replace(low=0.0, high=1.0, dtype=jnp.float32)

    return _with_observations(env, scaled, space)


def _with_observations(env, change, change_space):
    """An environment whose observations are changed, and with them its space. Those of
    ``both_views`` are changed one by one."""

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
        raise ValueError(
            f"{wrapper} needs observations of uint8, but they are {jnp.dtype(frame.dtype)}; put normalise outside it"
        )


def _check_frame(wrapper, frame):
    """Raise ValueError unless a frame, or the Box of one, has colours of uint8."""
    _check_bytes(wrapper, frame)
    if frame.shape[2] % COLORS:
        raise ValueError(
            f"{wrapper} needs red, green and blue, but an observation has {frame.shape[2]} channels"
        )


class StackState(NamedTuple):
    """What ``frame_stack`` keeps."""

    env_state: Any  # the state of the environment inside
    frames: Any  # the observation: [height, width, num_frames * channels], the newest frame in the last channels


def frame_stack(env: Environment, num_frames: int = 4) -> Environment:
    """Show the last frames at once: observations [height, width, channels] become [height, width,
    num_frames * channels].

    env: an Environment. num_frames: at least 1; the oldest comes first. An episode begins with its
    first frame so many times, and no frame of the episode before. Returns an Environment over a
    StackState. Raises ValueError for a num_frames below 1.
    """
    spaces.check_range("num_frames", num_frames, 1)

    def filled(observation):
        return jax.tree.map(lambda frame: jnp.tile(frame, (1, 1, num_frames)), observation)

    def pushed(frames, observation):
        return jax.tree.map(
            lambda old, new: jnp.concatenate([old[..., new.shape[-1] :], new], axis=-1),
            frames,
            observation,
        )

    def reset(key, params=None):
        observation, env_state = env.reset(key, params)
        frames = filled(observation)
        return frames, StackState(env_state, frames)

    def step_env(key, state, action, params=None):
        observation, env_state, reward, done, info = env.step_env(
            key, state.env_state, action, params
        )
        frames = pushed(state.frames, observation)
        return (
            frames,
            StackState(env_state, frames),
            reward,
            done,
            _with_final(info, lambda frame: pushed(state.frames, frame)),
        )

    def step(key, state, action, params=None):
        observation, env_state, reward, done, info = env.step(key, state.env_state, action, params)
        frames = jax.tree.map(
            lambda begun, gone_on: jnp.where(done, begun, gone_on),
            filled(observation),
            pushed(state.frames, observation),
        )
        return (
            frames,
            StackState(env_state, frames),
            reward,
            done,
            _with_final(info, lambda frame: pushed(state.frames, frame)),
        )

    def render(state, params=None):
        """The stack, its newest frame drawn anew, with other params perhaps."""
        frame = env.render(state.env_state, params)
        return jax.tree.map(
            lambda old, new: jnp.concatenate([old[..., : -new.shape[-1]], new], axis=-1),
            state.frames,
            frame,
        )

    def observation_space(params=None):
        stacked = lambda box: box._replace(shape=(*box.shape[:2], num_frames * box.shape[2]))  # noqa: E731
        return _change_space(env.observation_space(params), stacked)

    return env._replace(
        reset=reset,
        step=step,
        step_env=step_env,
        render=render,
        observation_space=observation_space,
    )


def both_views(env: Environment) -> Environment:
    """Show both twins at once: what the agent may see, and beside it all that matters, for a critic
    that is told more.

    env: an Environment. Observations become ``{"partial": ..., "full": ...}``, what env shows with
    partial_obs=True and with partial_obs=False, also in ``info["final_observation"]``; the
    observation space becomes a ``spaces.Dict``. The partial_obs of params counts no more. Wrappers
    outside this one change both observations alike. Returns an Environment. Raises ValueError, when
    called, for a ``frame_stack`` inside, whose state holds frames of one twin only: put it outside.

    Each function of env is called for both twins. They differ in nothing but the drawing, so under
    jit the compiler does what they have in common once.
    """

    def of_both(function, params):
        params = env.default_params if params is None else params
        return {
            view: function(dataclasses.replace(params, partial_obs=partial))
            for view, partial in _VIEWS.items()
        }

    def reset(key, params=None):
        both = of_both(lambda twin: env.reset(key, twin), params)
        _check_no_stack(both["full"][1])
        return {view: observation for view, (observation, _) in both.items()}, both["full"][1]

    def stepper(step):
        def step_both(key, state, action, params=None):
            both = of_both(lambda twin: step(key, state, action, twin), params)
            observations = {view: transition[0] for view, transition in both.items()}
            _, next_state, reward, done, info = both["full"]
            last = {
                view: transition[4].get("final_observation") for view, transition in both.items()
            }
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
            raise ValueError(
                "both_views cannot be outside frame_stack, which keeps frames of one twin; put frame_stack outside it"
            )
        state = state.env_state
