"""Environments as tuples of functions, and wrappers, which change an environment.

A wrapper takes an ``Environment`` and returns one whose functions have the same signatures, so
wrappers compose, and the result works under jit, vmap and scan like any other environment. A
wrapper that needs memory keeps it in a state of its own that holds the inner environment's state.
Wrap first, then vmap: a wrapper expects the functions of a single environment.
"""

import dataclasses
import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from popgym_arcade import spaces
from popgym_arcade.render import register_state

__all__ = [
    "NO_ACTION",
    "ActionSpace",
    "BareRender",
    "BareReset",
    "BareStep",
    "Environment",
    "LogState",
    "ObservationSpace",
    "Origin",
    "Params",
    "Render",
    "Reset",
    "StackState",
    "Step",
    "StickyState",
    "Transition",
    "auto_reset",
    "both_views",
    "channels_first",
    "frame_stack",
    "game_state",
    "grayscale",
    "holds_frames",
    "log_episodes",
    "made_by",
    "normalise",
    "normalize",
    "reproducible",
    "resize",
    "sticky_actions",
]

NO_ACTION: int = -1
"""Not one of the five actions: only time passes. Agents see it as the action before the first."""

_COLORS = 3  # channels of a frame: red, green, blue
_VIEWS = {"partial": True, "full": False}  # key of both_views' observations -> partial_obs


# --- environments --------------------------------------------------------------------------------


class Params(Protocol):
    """The fields that every game's Params has.

    A game's Params is a frozen dataclass, registered with JAX as a pytree, with more fields of its
    own. Static fields are part of the pytree's structure: changing one recompiles.
    """

    @property
    def partial_obs(self) -> bool:
        """Whether frames show the POMDP's partial view. Static."""
        ...

    @property
    def obs_size(self) -> int:
        """Height and width of a frame in pixels: 128 or 256. Static."""
        ...

    @property
    def max_steps_in_episode(self) -> Any:
        """Steps before truncation: an int, or int32[] under jit and vmap."""
        ...


Transition = tuple[jax.Array, Any, jax.Array, jax.Array, dict[str, Any]]
"""(observation uint8[S, S, 3], state, reward float32[], done bool[], info)."""


class BareReset(Protocol):
    """A game's own reset."""

    def __call__(self, key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        """Start an episode: (observation uint8[S, S, 3], state)."""
        ...


class BareStep(Protocol):
    """A game's own step, without auto-reset."""

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
        """Start an episode: (observation uint8[S, S, 3], state). key: a typed or raw PRNG key."""
        ...


class Step(Protocol):
    """An environment's ``step`` or ``step_env``."""

    def __call__(
        self, key: jax.Array, state: Any, action: ArrayLike, params: Any = None
    ) -> Transition:
        """Play one step. key: a typed or raw PRNG key. action: int[]; any integer is accepted."""
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
        """The space of observations: ``spaces.Box``, or ``spaces.Dict`` for ``both_views``."""
        ...


class Origin(NamedTuple):
    """What made an Environment: ``maker(*arguments)`` makes an equal one."""

    maker: Callable[..., Any]
    arguments: tuple[Any, ...]
    made: tuple[Any, ...]  # the environment's other fields; it may have been changed since


class Environment(NamedTuple):
    """An environment: pure functions, which use ``default_params`` if params is None.

    Two environments that were made in the same way are equal, e.g. by ``make`` with the same
    arguments or by the same wrappers, and they can be pickled and copied. An environment that you
    put together by hand equals only itself; decorate a wrapper of your own with ``reproducible``.
    """

    name: str
    default_params: Any  # the game's Params
    num_actions: int
    reset: Reset
    step: Step  # starts the next episode when one is done
    step_env: Step  # the same without auto-reset
    render: Render
    action_space: ActionSpace
    observation_space: ObservationSpace
    origin: Origin | None = None

    def __eq__(self, other: object) -> bool:
        """Whether both were made in the same way."""
        return isinstance(other, Environment) and self._identity() == other._identity()

    def __ne__(self, other: object) -> bool:
        """Whether they were made in different ways."""
        return not self == other

    def __hash__(self) -> int:
        """Hash what made it."""
        return hash(self._identity())

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """What to call to get a copy, for ``pickle`` and ``copy``."""
        return self._identity()

    def _identity(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """What made it or, if that is unknown, its fields."""
        *fields, origin = self
        if origin is None or any(now is not then for now, then in zip(fields, origin.made)):
            return Environment, tuple(fields)
        return origin.maker, origin.arguments


_Arguments = ParamSpec("_Arguments")


def made_by(env: Environment, maker: Callable[..., Environment], *arguments: Any) -> Environment:
    """Record that ``maker(*arguments)``, a function at the top of its module, made env."""
    return env._replace(origin=Origin(maker, arguments, tuple(env)[:-1]))


def reproducible(
    wrapper: Callable[Concatenate[Environment, _Arguments], Environment],
) -> Callable[Concatenate[Environment, _Arguments], Environment]:
    """Make the environments of a wrapper comparable and picklable, if those inside are.

    wrapper: a function at the top of its module; its arguments can be hashed and pickled.
    """
    signature = inspect.signature(wrapper)

    @functools.wraps(wrapper)
    def recorded(
        env: Environment, *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> Environment:
        bound = signature.bind(env, *args, **kwargs)
        bound.apply_defaults()
        wrapped = wrapper(env, *args, **kwargs)
        return made_by(wrapped, recorded, *bound.arguments.values())

    return recorded


def auto_reset(
    reset: Reset, step_env: Step, render: Render, final_observation: bool = False
) -> Step:
    """Build a ``step`` that starts a new episode when one is done.

    reset, step_env, render: as in Environment. final_observation: whether to put the last frame
    before a reset into ``info["final_observation"]``; at all other steps that is the step's own
    frame. Returns a function as described by Step.
    """

    def step(key, state, action, params=None):
        """Play one step and, if it ended the episode, reset.

        After a reset, the observation and the state belong to the new episode; reward, done and
        info belong to the finished one. The state is selected first and then drawn once: under jit
        the frames that ``step_env`` and ``reset`` return here are never computed.
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


@register_state
class LogState(NamedTuple):
    """The state of ``log_episodes``: sums over the running and the last finished episode."""

    env_state: Any  # the inner environment's state
    episode_returns: jax.Array  # float32[]: sum of rewards in the running episode
    episode_lengths: jax.Array  # int32[]: steps in the running episode
    returned_episode_returns: jax.Array  # float32[]: last finished episode's return, 0 before one
    returned_episode_lengths: jax.Array  # int32[]: its length in steps, 0 before one


@reproducible
def log_episodes(env: Environment) -> Environment:
    """Report the return and the length of every finished episode in ``info``.

    env: an Environment. Returns an Environment over a LogState. It adds to the ``info`` of
    ``step`` and ``step_env``:

    * ``returned_episode``, bool[]: whether this step ended an episode; equals done.
    * ``returned_episode_returns``, float32[]: undiscounted return of the last finished episode,
      including one that this step ended.
    * ``returned_episode_lengths``, int32[]: its length in steps.

    Both numbers are 0 until the first episode ends, and keep their values until the next one ends,
    so average over the steps where ``returned_episode`` is true.

    ``step`` restarts the running sums when done. ``step_env`` does not: its state after the last
    step still holds the finished episode's sums, and further steps add to them. To end an episode
    early, call ``reset``, which sets all four numbers to 0.

    The names in ``info`` are those of LogWrapper in purejaxrl and gymnax.
    """

    def reset(key, params=None):
        observation, env_state = env.reset(key, params)
        sums = (jnp.zeros_like(key, dtype, ()) for dtype in 2 * (jnp.float32, jnp.int32))
        return observation, LogState(env_state, *sums)

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


def _count(
    state: LogState,
    observation: Any,
    env_state: Any,
    reward: jax.Array,
    done: jax.Array,
    info: dict[str, Any],
) -> tuple[Any, LogState, jax.Array, jax.Array, dict[str, Any]]:
    """Add one transition of the inner environment to the sums: the wrapped transition."""
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


def _restart_sums(state: LogState, done: jax.Array) -> LogState:
    """Reset the sums of the running episode to 0 if done."""
    return state._replace(
        episode_returns=jnp.where(done, 0, state.episode_returns),
        episode_lengths=jnp.where(done, 0, state.episode_lengths),
    )


# --- actions -------------------------------------------------------------------------------------


@register_state
class StickyState(NamedTuple):
    """The state of ``sticky_actions``."""

    env_state: Any  # the inner environment's state
    last_action: jax.Array  # int32[]: the previous action, NO_ACTION at the start of an episode


@reproducible
def sticky_actions(env: Environment, probability: float = 0.25) -> Environment:
    """Repeat the previous action instead of the agent's with some probability (sticky actions).

    No fixed sequence of actions can then solve a game. env: an Environment. probability: of
    repeating, in [0, 1]. The previous action is NO_ACTION at the start of an episode. Returns an
    Environment over a StickyState. Raises ValueError if probability is out of range. Source:
    Machado et al. (2018), "Revisiting the Arcade Learning Environment", section 5.
    """
    spaces.check_range("probability", probability, 0, 1)

    def played(key, state, action):
        return jnp.where(
            jax.random.bernoulli(key, jnp.float32(probability)),  # float32 under x64 too
            state.last_action,
            jnp.asarray(action, jnp.int32),
        )

    def reset(key, params=None):
        observation, env_state = env.reset(key, params)
        return observation, StickyState(env_state, jnp.full_like(key, NO_ACTION, jnp.int32, ()))

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


@reproducible
def grayscale(env: Environment) -> Environment:
    """Convert observations to grayscale: uint8[height, width, 3 n] -> uint8[height, width, n].

    env: an Environment with color observations. Returns an Environment, whose functions raise
    ValueError if env's observations are not RGB of uint8. Gray is 0.299 red + 0.587 green + 0.114
    blue (ITU-R BT.601), in integer arithmetic, so it is the same on every device.
    """
    _check_channels_last("grayscale", env)

    def gray(frame):
        _check_frame("grayscale", frame)
        colors = frame.reshape(*frame.shape[:2], -1, _COLORS).astype(jnp.uint16)
        red, green, blue = (colors[..., color] for color in range(_COLORS))
        return ((77 * red + 150 * green + 29 * blue) >> 8).astype(jnp.uint8)

    def space(box):
        _check_frame("grayscale", box)
        return box._replace(shape=(*box.shape[:2], box.shape[2] // _COLORS))

    return _with_observations(env, gray, space)


@reproducible
def resize(env: Environment, height: int = 84, width: int = 84) -> Environment:
    """Resize observations to [height, width, channels]; the dtype stays the same.

    env: an Environment. height, width: in pixels, at least 1. Returns an Environment. Interpolation
    is linear with antialiasing, as by ``jax.image.resize``, but several times as fast; uint8 is
    rounded to the nearest integer. Raises ValueError if height or width is less than 1.
    """
    _check_channels_last("resize", env)
    for name, value in (("height", height), ("width", width)):
        spaces.check_range(name, value, 1)

    def resized(frame):
        image = _resize_axis(_resize_axis(frame, height, axis=0), width, axis=1)
        if frame.dtype == jnp.uint8:
            return jnp.clip(jnp.round(image), 0, 255).astype(jnp.uint8)
        return jnp.clip(image, 0, 1)  # rounding errors may exceed what was normalized to [0, 1]

    return _with_observations(
        env, resized, lambda box: box._replace(shape=(height, width, box.shape[2]))
    )


def _resize_axis(image: jax.Array, size: int, axis: int) -> jax.Array:
    """Resize one axis of an image to size pixels: float32.

    A new pixel is the mean of the old ones around its center, weighted by a triangle that reaches
    one pixel to either side, or one new pixel where the image shrinks. These are few, so it is
    faster to add them up than to multiply by a matrix of all weights.
    """
    old_size = image.shape[axis]
    scale = old_size / size
    reach = max(scale, 1.0)
    centers = (np.arange(size) + 0.5) * scale - 0.5
    sources = np.floor(centers - reach).astype(np.int32)[:, None] + np.arange(
        1, 2 * reach + 1, dtype=np.int32
    )
    weights = np.maximum(1 - np.abs(sources - centers[:, None]) / reach, 0)
    weights *= (sources >= 0) & (sources < old_size)
    weights /= weights.sum(axis=1, keepdims=True)
    columns = [1] * image.ndim
    columns[axis] = size
    parts = [
        jnp.take(image, source, axis=axis, mode="clip").astype(jnp.float32)
        * weight.reshape(columns).astype(np.float32)
        for source, weight in zip(sources.T, weights.T)
    ]
    return functools.reduce(jnp.add, parts)


@reproducible
def normalize(env: Environment) -> Environment:
    """Scale observations from uint8 in [0, 255] to float32 in [0, 1].

    env: an Environment. Returns an Environment, whose functions raise ValueError if env's
    observations are not uint8.
    """

    def scaled(frame):
        _check_uint8("normalize", frame)
        return frame.astype(jnp.float32) / 255

    def space(box):
        _check_uint8("normalize", box)
        return box._replace(low=0.0, high=1.0, dtype=jnp.float32)

    return _with_observations(env, scaled, space)


@reproducible
def channels_first(env: Environment) -> Environment:
    """Move the channels to the front: [height, width, channels] -> [channels, height, width].

    env: an Environment. Returns an Environment, for networks of PyTorch. Put it outside all other
    wrappers of observations: they expect the channels last, and raise ValueError outside it.
    """
    _check_channels_last("channels_first", env)

    def space(box):
        height, width, channels = box.shape
        return box._replace(shape=(channels, height, width))

    return _with_observations(env, lambda frame: jnp.moveaxis(frame, -1, 0), space)


def normalise(env: Environment) -> Environment:
    """Deprecated: use ``normalize``."""
    warnings.warn(
        "wrappers.normalise is deprecated; use wrappers.normalize",
        DeprecationWarning,
        stacklevel=2,
    )
    return normalize(env)


def _with_observations(
    env: Environment,
    change: Callable[[jax.Array], jax.Array],
    change_space: Callable[[spaces.Box], spaces.Box],
) -> Environment:
    """Build an environment with changed observations and observation space.

    change, change_space: functions of one frame and of its Box. With ``both_views`` inside, they
    are applied to each of the two frames.
    """

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


def _with_final(info: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Change the final observation in a step's info, if it has one."""
    if "final_observation" not in info:
        return info
    return {**info, "final_observation": change(info["final_observation"])}


def _change_space(space: Any, change: Callable[[spaces.Box], spaces.Box]) -> Any:
    """Change a Box, or every Box of a Dict."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({name: change(box) for name, box in space.spaces.items()})
    return change(space)


def _check_uint8(wrapper: str, frame: Any) -> None:
    """Raise ValueError unless a frame, or its Box, is of dtype uint8."""
    if frame.dtype != jnp.uint8:
        raise ValueError(
            f"{wrapper} needs observations of dtype uint8, but they are {jnp.dtype(frame.dtype)}; "
            "put normalize outside it"
        )


def _check_channels_last(wrapper: str, env: Environment) -> None:
    """Raise ValueError if ``channels_first`` is inside."""
    inner: Any = env
    while isinstance(inner, Environment) and inner.origin:
        if inner.origin.maker is channels_first:
            raise ValueError(f"{wrapper} expects the channels last; put channels_first outside it")
        inner = inner.origin.arguments[0]


def _check_frame(wrapper: str, frame: Any) -> None:
    """Raise ValueError unless a frame, or its Box, is RGB of dtype uint8."""
    _check_uint8(wrapper, frame)
    if frame.shape[2] % _COLORS:
        raise ValueError(
            f"{wrapper} needs RGB observations, but their shape is {tuple(frame.shape)}"
        )


@register_state
class StackState(NamedTuple):
    """The state of ``frame_stack``."""

    env_state: Any  # the inner environment's state
    frames: Any  # the observation: [height, width, num_frames * channels], newest frame last


@reproducible
def frame_stack(env: Environment, num_frames: int = 4) -> Environment:
    """Stack the last frames along the channels: [height, width, num_frames * channels].

    env: an Environment. num_frames: at least 1; the oldest frame comes first. An episode starts
    with num_frames copies of its first frame; a stack never holds frames of an earlier episode.
    Returns an Environment over a StackState. Raises ValueError if num_frames is less than 1.
    """
    _check_channels_last("frame_stack", env)
    spaces.check_range("num_frames", num_frames, 1)

    def filled(observation):
        return jax.tree.map(lambda frame: jnp.tile(frame, (1, 1, num_frames)), observation)

    def reset(key, params=None):
        observation, env_state = env.reset(key, params)
        frames = filled(observation)
        return frames, StackState(env_state, frames)

    def step_env(key, state, action, params=None):
        observation, env_state, *outcome, info = env.step_env(key, state.env_state, action, params)
        frames = _push(state.frames, observation)
        info = _with_final(info, lambda frame: _push(state.frames, frame))
        return frames, StackState(env_state, frames), *outcome, info

    def step(key, state, action, params=None):
        observation, env_state, reward, done, info = env.step(key, state.env_state, action, params)
        frames = jax.tree.map(
            lambda restarted, continued: jnp.where(done, restarted, continued),
            filled(observation),
            _push(state.frames, observation),
        )
        info = _with_final(info, lambda frame: _push(state.frames, frame))
        return frames, StackState(env_state, frames), reward, done, info

    def render(state, params=None):
        """Draw the newest frame of the stack again, e.g. with other params."""
        return _replace_newest(state.frames, env.render(state.env_state, params))

    def observation_space(params=None):
        def stacked(box):
            return box._replace(shape=(*box.shape[:2], num_frames * box.shape[2]))

        return _change_space(env.observation_space(params), stacked)

    changed = {"reset": reset, "step": step, "step_env": step_env, "render": render}
    return env._replace(**changed, observation_space=observation_space)


def _push(frames: Any, observation: Any) -> Any:
    """Drop a stack's oldest frame and append a new one, for arrays or dicts of arrays."""
    return jax.tree.map(
        lambda old, new: jnp.concatenate([old[..., new.shape[-1] :], new], axis=-1),
        frames,
        observation,
    )


def _replace_newest(frames: Any, observation: Any) -> Any:
    """Replace a stack's newest frame, for arrays or dicts of arrays."""
    return jax.tree.map(
        lambda old, new: jnp.concatenate([old[..., : -new.shape[-1]], new], axis=-1),
        frames,
        observation,
    )


@reproducible
def both_views(env: Environment) -> Environment:
    """Observe both twins at once, e.g. for an asymmetric critic that sees the full view.

    env: an Environment. Observations become ``{"partial": ..., "full": ...}``, env's observations
    with partial_obs=True and partial_obs=False, also in ``info["final_observation"]``; the
    observation space becomes a ``spaces.Dict``. params.partial_obs is ignored. Wrappers outside
    this one change both observations alike. Returns an Environment. Its functions raise ValueError
    if there is a ``frame_stack`` inside, whose state holds frames of one twin only: put it outside.

    Each function of env is called once per twin, with the same key, which is cloned so that
    ``jax_debug_key_reuse`` allows that. The twins differ only in drawing, so under jit the compiler
    merges everything else.
    """

    def of_both(function, params):
        params = env.default_params if params is None else params
        return {
            view: function(dataclasses.replace(params, partial_obs=partial))
            for view, partial in _VIEWS.items()
        }

    def reset(key, params=None):
        both = of_both(lambda twin: env.reset(jax.random.clone(key), twin), params)
        _check_no_stack(both["full"][1])
        return {view: observation for view, (observation, _) in both.items()}, both["full"][1]

    def stepper(step):
        def step_both(key, state, action, params=None):
            both = of_both(lambda twin: step(jax.random.clone(key), state, action, twin), params)
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


def _check_no_stack(state: Any) -> None:
    """Raise ValueError if a state is a StackState or holds one."""
    if holds_frames(state):
        raise ValueError(
            "both_views cannot be outside frame_stack, whose state holds frames of one twin; "
            "put frame_stack outside it"
        )


# --- states --------------------------------------------------------------------------------------


def game_state(state: Any) -> Any:
    """The game's own state inside the states of wrappers. state: of an Environment."""
    while hasattr(state, "env_state"):
        state = state.env_state
    return state


def holds_frames(state: Any) -> bool:
    """Whether the state of a wrapper keeps observations, as that of ``frame_stack`` does."""
    while hasattr(state, "env_state"):
        if hasattr(state, "frames"):
            return True
        state = state.env_state
    return False
