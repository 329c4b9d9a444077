"""The environments for Gymnasium: one at a time as ArcadeEnv, many in one compiled program as
ArcadeVectorEnv.

Importing this module registers them, so this is all that is needed::

    import gymnasium
    import popgym_arcade.adapters.gymnasium

    env = gymnasium.make("popgym_arcade/NavigatorEasy-v1", partial_obs=True)
    envs = gymnasium.make_vec("popgym_arcade/NavigatorEasy-v1", num_envs=1024, output="torch")

Or Gymnasium imports it, for an id that begins with this module's name and a colon. From its version
1.0 on Gymnasium finds no environments by itself, whatever is installed; the entry point in the
group ``gymnasium.envs`` served the versions before.

The version in an id is that of the game's rules: VERSION in its module.

Random numbers: a seed makes a NumPy generator in Gymnasium's own way, the generator gives one jax
key, and everything that follows comes from that key, on the device. So sub-environment i of
``envs.reset(seed=s)`` plays exactly what ``env.reset(seed=s + i)`` plays, through all the episodes
that follow, and a reset without a seed goes on with the same stream.
"""

import functools
import math
import operator
import os
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

try:
    import gymnasium
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f'popgym_arcade.adapters.gymnasium needs {missing.name}: pip install "popgym-arcade[gymnasium]"',
        name=missing.name,
    ) from missing

from gymnasium.error import DependencyNotInstalled, ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from popgym_arcade.registry import NUM_ACTIONS, REGISTRY, make
from popgym_arcade.spaces import nearest_names

NAMESPACE = "popgym_arcade"
METADATA = {"render_modes": ["human", "rgb_array"], "render_fps": 10}
OUTPUTS = ("numpy", "jax", "torch")
FINAL_FRAMES = 32  # final frames that are drawn at a time: one program for any number of them
SHOWN = 16  # environments of a vector that its window shows at most
PICTURE_SIDE = 640  # screen pixels that a frame is enlarged to at most, unless it is larger itself
KEY_TYPE = (
    "threefry2x32"  # named, so that a seed plays the same whatever jax_default_prng_impl says
)
CPU = 1  # DLPack's number of the device


def register():
    """Register every environment with Gymnasium as "popgym_arcade/NAME-vVERSION". Those that are
    there already stay.

    There is no limit of steps in the registration: the games truncate by themselves, at
    max_steps_in_episode.
    """
    for name, entry in REGISTRY.items():
        identifier = f"{NAMESPACE}/{name}-v{entry.version}"
        if identifier not in gymnasium.registry:
            gymnasium.register(
                identifier,
                entry_point="popgym_arcade.adapters.gymnasium:ArcadeEnv",
                vector_entry_point="popgym_arcade.adapters.gymnasium:ArcadeVectorEnv",
                kwargs={"name": name},
            )


# --- one environment -----------------------------------------------------------------------------


class ArcadeEnv(gymnasium.Env):
    """One environment. Observations are NumPy uint8[obs_size, obs_size, 3] that belong to the
    caller, actions 0 ... 4."""

    metadata = METADATA

    def __init__(self, name, partial_obs=False, obs_size=128, render_mode=None, **overrides):
        """name, partial_obs, obs_size and overrides are those of ``popgym_arcade.make``, and so are
        the errors.

        render_mode: None; "rgb_array", with which ``render`` returns the frame that the view shows;
        or "human", which shows it in a window after every reset and step. Raises ValueError for
        another, DependencyNotInstalled for "human" without pygame.
        """
        if "final_observation" in overrides:
            raise ValueError(
                "ArcadeEnv takes no final_observation: its step returns the last frame of an episode anyway"
            )
        _, params = make(name, partial_obs, obs_size, **overrides)
        _check_choice("render_mode", render_mode, (None, *METADATA["render_modes"]))
        self.render_mode = render_mode
        self.action_space, self.observation_space = _spaces(params)
        self._program = _one_program(name, partial_obs, obs_size, _hashable(overrides))
        self._window = _Window(name) if render_mode == "human" else None
        self._generator = None  # the one that the key was drawn from
        self._words = self._carry = self._frame = None
        self._ended = False

    def reset(self, *, seed=None, options=None):
        """Begin an episode: (observation, info).

        seed: decides everything until the next one is given; without it the stream of random
        numbers goes on, or begins anywhere if there is none yet. options: none are known. info: as
        in ``step``, with a discount of 1.
        """
        super().reset(seed=seed)
        if (
            self._generator is not self.np_random
        ):  # a new seed, or a generator that the user put there
            self._generator, self._words = self.np_random, _draw_words(self.np_random)
        elif self._carry is not None:
            self._words = self._carry.words
        self._carry, observation = self._program.begin(self._words)
        self._ended = False
        observation = _to_numpy(observation)
        self._show(observation)
        return observation, {"discount": 1.0}

    def step(self, action):
        """One transition: (observation, reward float, terminated bool, truncated bool, info).

        action: an integer 0 ... 4. info: ``discount``, a float, 0 if the game came to its own end,
        else 1. Raises ValueError for another action, ResetNeeded before the first reset and after
        the end of an episode.
        """
        if self._carry is None:
            raise ResetNeeded("there is no episode yet; call reset before step")
        if self._ended:
            raise ResetNeeded("the episode is over; call reset before the next step")
        if not self.action_space.contains(action):
            raise ValueError(_wrong_action("the action", action))
        self._carry, outcome = self._program.play(self._carry, np.int32(action))
        outcome = jax.device_get(outcome._replace(observation=_to_numpy(outcome.observation)))
        self._ended = bool(outcome.terminated | outcome.truncated)
        self._show(outcome.observation)
        flags = bool(outcome.terminated), bool(outcome.truncated)
        return (
            outcome.observation,
            float(outcome.reward),
            *flags,
            {"discount": float(outcome.discount)},
        )

    def render(self):
        """The frame that the view shows, uint8[obs_size, obs_size, 3], or None unless render_mode
        is "rgb_array"."""
        _warn_without_mode(self.render_mode)
        if self.render_mode and self._frame is None:
            raise ResetNeeded("there is nothing to show yet; call reset before render")
        return self._frame.copy() if self.render_mode == "rgb_array" else None

    def close(self):
        """Close the window, if there is one."""
        if self._window:
            self._window.close()

    def _show(self, observation):
        """Keep the frame for ``render``, and put it into the window."""
        if self.render_mode:
            self._frame = observation.copy()  # the caller may write into the observation
        if self._window:
            self._window.show(self._frame)


# --- many environments ---------------------------------------------------------------------------


class ArcadeVectorEnv(gymnasium.vector.VectorEnv):
    """Many environments of one kind in one compiled program.

    Results have a leading axis [num_envs]: observations uint8[num_envs, obs_size, obs_size, 3],
    rewards, bool terminations and truncations, and in infos ``discount``. They are of the type that
    ``output`` names: NumPy arrays, with rewards and discounts of float64 as from Gymnasium's own
    SyncVectorEnv; jax arrays, where jax has computed them; or torch tensors that share jax's
    memory, on its device; with float32 in both. All but the jax arrays may be written to; no later
    step changes any of them.

    The autoreset modes are Gymnasium's. With NEXT_STEP the step after the end of an episode ignores
    the action, begins the next episode and pays 0. With SAME_STEP the step that ends an episode
    returns the first observation of the next one, and infos hold ``final_obs``, an object array
    with the last frame of each episode that ended and None elsewhere, and ``final_info``, each
    beside a mask with an underscore before its name. With DISABLED the user resets:
    ``reset(options={"reset_mask": mask})``. Everything returned equals what a SyncVectorEnv of
    ArcadeEnvs with the same seeds returns.
    """

    metadata = {**METADATA, "autoreset_mode": AutoresetMode.NEXT_STEP}
    _carry = _window = (
        None  # here too, because older Gymnasiums close what __init__ refused to make
    )

    def __init__(
        self,
        name,
        num_envs=1,
        partial_obs=False,
        obs_size=128,
        autoreset_mode=AutoresetMode.NEXT_STEP,
        output="numpy",
        final_observation=True,
        render_mode=None,
        **overrides,
    ):
        """name, partial_obs, obs_size and overrides are those of ``popgym_arcade.make``, and so are
        the errors.

        num_envs: at least 1. autoreset_mode: an AutoresetMode or its value, e.g. "SameStep".
        output: "numpy", "jax" or "torch". final_observation: False leaves ``final_obs`` and
        ``final_info`` out of the infos of SAME_STEP. With them, ``step`` has to wait for the device
        to tell which episodes ended, and to draw their last frames. render_mode: None; "rgb_array",
        with which ``render`` returns the frames of all environments; or "human", which shows up to
        16 of them in one window after every reset and step. Raises ValueError or TypeError for
        anything else, DependencyNotInstalled without torch or pygame where needed.
        """
        _, params = make(name, partial_obs, obs_size, final_observation, **overrides)
        _check_choice("output", output, OUTPUTS)
        _check_choice("render_mode", render_mode, (None, *METADATA["render_modes"]))
        self.num_envs = _checked_count(num_envs)
        self.render_mode = render_mode
        self.autoreset_mode = _checked_mode(autoreset_mode)
        self.metadata = {**METADATA, "autoreset_mode": self.autoreset_mode}
        self.single_action_space, self.single_observation_space = _spaces(params)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._program = _many_program(
            name, partial_obs, obs_size, _hashable(overrides), self.autoreset_mode
        )
        self._deliver = _deliverer(output)
        self._frames = _Frames(output)
        self._tells_final = final_observation and self.autoreset_mode == AutoresetMode.SAME_STEP
        self._window = _Window(f"{name} x {self.num_envs}") if render_mode == "human" else None
        self._seeds = [None] * self.num_envs  # of each environment, once it has one
        self._carry = None

    @property
    def np_random_seed(self):
        """The seed that each environment was given last, or drew for itself: a tuple of ints; None
        before the first reset."""
        return tuple(self._seeds)

    def reset(self, *, seed=None, options=None):
        """Begin an episode in every environment: (observations, infos).

        seed: an int s, which seeds environment i with s + i; a sequence of one int or None for
        each; or None. An environment without a seed goes on with its stream of random numbers.
        options: ``{"reset_mask": mask}``, with a NumPy bool[num_envs], begins episodes only where
        the mask is true; infos say nothing about the others. Raises ValueError for a sequence or a
        mask of another length or type or for a mask that is False everywhere, ResetNeeded for a
        mask before the first reset.
        """
        seeds = self._one_each(seed)
        mask = (options or {}).get("reset_mask")
        if mask is None:
            self._carry, observation = self._program.begin(self._new_words(seeds))
            self._frames.prepare(observation)
            mask = np.ones(self.num_envs, bool)
        else:
            self._check_mask(mask)
            mask = mask.copy()  # jax may go on to read the caller's own after this call
            seeds = [seed if begins else None for seed, begins in zip(seeds, mask)]
            self._carry, observation = self._program.begin_some(
                self._carry, self._new_words(seeds), mask
            )
        self._show()
        return self._frames.deliver(observation), self._info(
            jnp.array(mask, jnp.float32), jnp.array(mask)
        )

    def step(self, actions):
        """One step of every environment: (observations, rewards, terminations, truncations, infos).

        actions: integers [num_envs], 0 ... 4, as a sequence, NumPy or jax array or torch tensor.
        Raises ValueError for others, but those that lie on an accelerator are not read, as that
        would mean to wait for it; there any other integer does nothing. Raises ResetNeeded before
        the first reset, and with DISABLED while an episode that is over has not been reset.
        """
        if self._carry is None:
            raise ResetNeeded("there are no episodes yet; call reset before step")
        if self.autoreset_mode == AutoresetMode.DISABLED:
            self._check_none_ended()
        actions = self._checked_actions(actions)
        self._carry, outcome, final = self._program.play(self._carry, actions, self._frames.spare())
        info = self._final_info(final) if self._tells_final else {}
        info.update(self._info(outcome.discount, outcome.has_discount))
        self._show()
        return (self._frames.deliver(outcome.observation), *map(self._deliver, outcome[1:4]), info)

    def render(self):
        """A tuple of num_envs frames, NumPy uint8[obs_size, obs_size, 3], or None unless
        render_mode is "rgb_array"."""
        _warn_without_mode(self.render_mode)
        if self.render_mode and self._carry is None:
            raise ResetNeeded("there is nothing to show yet; call reset before render")
        if self.render_mode == "rgb_array":
            return tuple(_to_numpy(self._program.draw(self._carry.state, self.num_envs)))
        return None

    def close_extras(self, **kwargs):
        """Close the window, if there is one, and let go of what is on the device. ``close`` calls
        this."""
        if self._carry is not None:
            self._carry = None
            self._frames.spare()  # dropped here
        if self._window:
            self._window.close()

    def _one_each(self, seed):
        """A list of a seed, or None, for each environment."""
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int):
            return [seed + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(
                f"seed must have one for each of the {self.num_envs} environments, but it has {len(seed)}"
            )
        return list(seed)

    def _new_words(self, seeds):
        """What the environments' streams of random numbers go on from: uint32[num_envs, 2], anew
        where a seed is given."""
        words = (
            np.zeros((self.num_envs, 2), np.uint32)
            if self._carry is None
            else np.array(self._carry.words)
        )
        for i, seed in enumerate(seeds):
            if seed is not None or self._seeds[i] is None:
                generator, self._seeds[i] = seeding.np_random(seed)
                words[i] = _draw_words(generator)
        return words

    def _check_mask(self, mask):
        """Raise an error unless episodes can begin where the mask says so."""
        if not isinstance(mask, np.ndarray) or mask.shape != (self.num_envs,) or mask.dtype != bool:
            raise ValueError(
                f"reset_mask must be a NumPy array bool[{self.num_envs}], but it is {mask!r}"
            )
        if not mask.any():
            raise ValueError(
                "reset_mask must be True somewhere, but it is False everywhere; leave the reset out"
            )
        if self._carry is None:
            raise ResetNeeded("there are no episodes yet; call reset without a reset_mask first")

    def _check_none_ended(self):
        """Raise ResetNeeded if an episode is over."""
        ended = np.flatnonzero(np.asarray(self._carry.ended))
        if ended.size:
            raise ResetNeeded(
                f"the episodes of {ended.tolist()} are over; reset them before the next step"
            )

    def _checked_actions(self, actions):
        """The actions as an array [num_envs] that the program takes, or a ValueError."""
        if getattr(actions, "__dlpack_device__", lambda: (CPU, 0))()[0] != CPU:
            on_device = (
                actions if isinstance(actions, jax.Array) else jax.dlpack.from_dlpack(actions.int())
            )
            self._check_kind(on_device)
            return on_device
        actions = np.asarray(actions)
        self._check_kind(actions)
        wrong = np.flatnonzero((actions < 0) | (actions >= NUM_ACTIONS))
        if wrong.size:
            raise ValueError(
                _wrong_action(f"the action of environment {wrong[0]}", actions[wrong[0]].item())
            )
        return actions.astype(np.int32)

    def _check_kind(self, actions):
        """Raise a ValueError unless there is one integer for each environment."""
        if actions.shape != (self.num_envs,) or not jnp.issubdtype(actions.dtype, jnp.integer):
            kind = f"{actions.dtype}{list(actions.shape)}"
            raise ValueError(
                f"actions must be integers [{self.num_envs}], one for each environment, but they are {kind}"
            )

    def _info(self, discount, mask):
        """Infos with the discounts of those environments where the mask is true."""
        return {"discount": self._deliver(discount), "_discount": self._deliver(mask)}

    def _final_info(self, final):
        """Infos about the episodes that ended with this step, {} if none did."""
        ended = np.asarray(final.ended)
        if not ended.any():
            return {}
        return {
            "final_obs": self._final_frames(final.state, np.flatnonzero(ended)),
            "_final_obs": self._deliver(final.ended),
            "final_info": self._info(final.discount, final.ended),
            "_final_info": self._deliver(final.ended),
        }

    def _final_frames(self, states, ended):
        """The frames of some of the states: an object array [num_envs] with None for all others.
        ended: which, int[count]."""
        frames = np.full(self.num_envs, None, object)
        size = min(self.num_envs, FINAL_FRAMES)
        for some in np.split(ended, range(size, ended.size, size)):
            padded = np.pad(some, (0, size - some.size), mode="edge")
            for i, frame in zip(some, self._program.draw_chosen(states, padded)):
                frames[i] = self._deliver(frame)
        return frames

    def _show(self):
        """Put the first environments into the window, in rows."""
        if self._window:
            frames = np.asarray(self._program.draw(self._carry.state, min(self.num_envs, SHOWN)))
            self._window.show(_in_rows(frames))


# --- what is compiled ----------------------------------------------------------------------------


class Carry(NamedTuple):
    """What an environment needs for its next step."""

    words: jax.Array  # uint32[2]: the key that all random numbers still to come are made of
    state: Any  # the game's State
    ended: jax.Array  # bool[]: the last step ended the episode, and none has begun since


class Outcome(NamedTuple):
    """What a step shows and pays."""

    observation: jax.Array  # uint8[S, S, 3]
    reward: jax.Array  # float32[]
    terminated: jax.Array  # bool[]
    truncated: jax.Array  # bool[]
    discount: jax.Array  # float32[]
    has_discount: (
        jax.Array
    )  # bool[], True: what Gymnasium wants beside an info of many environments


class Final(NamedTuple):
    """The end of an episode, where this step was one."""

    ended: jax.Array  # bool[]
    state: Any  # the game's State after the step, before the reset
    discount: jax.Array  # float32[]: of the step; 0 where no episode ended


class OneProgram(NamedTuple):
    """An environment's functions, compiled when they are first called."""

    begin: Callable  # (words) -> (carry, observation)
    play: Callable  # (carry, action) -> (carry, outcome); the carry is used up


class ManyProgram(NamedTuple):
    """The functions of many environments, compiled when they are first called. All arrays have a
    leading axis [num_envs]."""

    begin: Callable  # (words) -> (carry, observation)
    begin_some: Callable  # (carry, words, mask bool) -> (carry, observation); the carry is used up
    play: Callable  # (carry, action, memory) -> (carry, outcome, Final with SAME_STEP, else None); the carry is used up, and so is
    # memory: observations that nobody needs, which the new ones are written over, or None
    draw: Callable  # (state, count) -> observations of the first environments [count, S, S, 3]
    draw_chosen: (
        Callable  # (state, numbers of environments int[count]) -> their observations, a tuple
    )


@functools.cache
def _one_program(name, partial_obs, obs_size, overrides):
    """The OneProgram of an environment; the arguments are make's. Environments with the same
    arguments share it."""
    env, _ = make(name, partial_obs, obs_size, **dict(overrides))
    begin, play = _begin_and_play(env)
    return OneProgram(jax.jit(begin), jax.jit(play, donate_argnums=0))


@functools.cache
def _many_program(name, partial_obs, obs_size, overrides, autoreset_mode):
    """The ManyProgram of an environment; the first arguments are make's. Environments with the same
    arguments share it."""
    env, _ = make(name, partial_obs, obs_size, **dict(overrides))
    begin, play = _begin_and_play(env)

    def begin_some(carry, words, mask):
        begun, _ = begin(words)
        carry = _choose(mask, begun, carry)
        return carry, env.render(carry.state)

    def play_and_stay(carry, action):
        return *play(carry, action), None

    def play_or_begin(carry, action):
        """NEXT_STEP. Only the state that is chosen is drawn, for the compiler leaves out the frames
        that nothing uses."""
        begun, _ = begin(carry.words)
        gone_on, outcome = play(carry, action)
        idle = Outcome(
            outcome.observation,
            reward=0.0,
            terminated=False,
            truncated=False,
            discount=1.0,
            has_discount=True,
        )
        outcome = _choose(carry.ended, idle, outcome)
        carry = _choose(carry.ended, begun, gone_on)
        return carry, outcome._replace(observation=env.render(carry.state)), None

    def play_and_begin(carry, action):
        """SAME_STEP. The last frames are not drawn here but, of the few that ended, by
        draw_chosen."""
        gone_on, outcome = play(carry, action)
        begun, _ = begin(gone_on.words)
        final = Final(gone_on.ended, gone_on.state, jnp.where(gone_on.ended, outcome.discount, 0.0))
        carry = _choose(gone_on.ended, begun, gone_on)
        discount = jnp.where(gone_on.ended, 1.0, outcome.discount)
        return (
            carry,
            outcome._replace(observation=env.render(carry.state), discount=discount),
            final,
        )

    def draw(state, count):
        return jax.vmap(env.render)(jax.tree.map(lambda leaf: leaf[:count], state))

    def draw_chosen(state, chosen):
        return tuple(jax.vmap(env.render)(jax.tree.map(lambda leaf: leaf[chosen], state)))

    plays = {
        AutoresetMode.NEXT_STEP: play_or_begin,
        AutoresetMode.SAME_STEP: play_and_begin,
        AutoresetMode.DISABLED: play_and_stay,
    }
    play_all = jax.vmap(plays[autoreset_mode])
    return ManyProgram(
        jax.jit(jax.vmap(begin)),
        jax.jit(jax.vmap(begin_some), donate_argnums=0),
        jax.jit(
            lambda carry, action, memory: play_all(carry, action),
            donate_argnums=(0, 2),
            keep_unused=True,
        ),
        jax.jit(draw, static_argnums=1),
        jax.jit(draw_chosen),
    )


def _begin_and_play(env):
    """The two functions of OneProgram, not compiled yet. Each takes one key of the stream."""

    def begin(words):
        words, key = _next_key(words)
        observation, state = env.reset(key)
        return Carry(words, state, jnp.bool_(False)), observation

    def play(carry, action):
        words, key = _next_key(carry.words)
        observation, state, reward, done, info = env.step_env(key, carry.state, action)
        outcome = Outcome(
            observation,
            reward,
            info["terminated"],
            info["truncated"],
            info["discount"],
            jnp.bool_(True),
        )
        return Carry(words, state, done), outcome

    return begin, play


def _next_key(words):
    """The words that the stream goes on from, and a key for now."""
    rest, now = jax.random.split(jax.random.wrap_key_data(words, impl=KEY_TYPE))
    return jax.random.key_data(rest), now


def _choose(flag, if_true, if_false):
    """One of two trees. flag: bool[]."""
    return jax.tree.map(lambda one, other: jnp.where(flag, one, other), if_true, if_false)


# --- arguments -----------------------------------------------------------------------------------


def _hashable(overrides):
    """Overrides as a tuple, in an order of their own."""
    return tuple(sorted(overrides.items()))


def _spaces(params):
    """The spaces of one environment: (action space, observation space)."""
    frame = gymnasium.spaces.Box(0, 255, (params.obs_size, params.obs_size, 3), np.uint8)
    return gymnasium.spaces.Discrete(NUM_ACTIONS), frame


def _check_choice(what, value, choices):
    """Raise a ValueError unless an argument's value is one of the choices."""
    if value not in choices:
        known = ", ".join(map(repr, choices))
        nearest = nearest_names(value, [choice for choice in choices if choice])
        raise ValueError(f"{what} must be one of {known}, but it is {value!r}; {nearest}")


def _checked_count(num_envs):
    """num_envs as an int, or a ValueError below 1. Raises TypeError for what is no integer."""
    if operator.index(num_envs) < 1:
        raise ValueError(f"num_envs must be at least 1, but it is {num_envs}; the nearest is 1")
    return operator.index(num_envs)


def _checked_mode(mode):
    """An AutoresetMode or its value as an AutoresetMode, or a ValueError."""
    _check_choice(
        "autoreset_mode", getattr(mode, "value", mode), [known.value for known in AutoresetMode]
    )
    return AutoresetMode(mode)


def _wrong_action(which, action):
    """What is wrong with an action."""
    return f"{which} must be an integer in 0 ... {NUM_ACTIONS - 1}, but it is {action!r}"


def _draw_words(generator):
    """A key's words, uint32[2], drawn from a NumPy generator."""
    return generator.integers(2**32, size=2, dtype=np.uint32)


def _warn_without_mode(render_mode):
    """Warn, as Gymnasium's environments do, that there is nothing to render."""
    if render_mode is None:
        gymnasium.logger.warn(
            'render was called without a render_mode; choose one for the environment, e.g. "rgb_array"'
        )


# --- output --------------------------------------------------------------------------------------


class _Memory:
    """A jax array on the CPU for NumPy to share: np.asarray of this is an array that may be written
    to, without a copy.

    jax itself gives a read-only view or a copy, which for 1,024 frames takes a quarter of the time
    of the step that drew them. To write is safe as nothing else reads this memory: a program wrote
    it, none reads it, and jax's array is ours alone.
    """

    def __init__(self, array):
        self.array = array.block_until_ready()  # kept, for it owns the memory
        self.__array_interface__ = {
            "version": 3,
            "data": (array.unsafe_buffer_pointer(), False),  # False: not read-only
            "shape": array.shape,
            "typestr": array.dtype.str,
        }


def _to_numpy(array):
    """A jax array as a NumPy array that may be written to. It shares frames on the CPU; floating
    types become float64."""
    if jnp.issubdtype(array.dtype, jnp.floating):
        return np.asarray(array).astype(np.float64)
    if array.dtype == np.uint8 and array.device.platform == "cpu":
        return np.asarray(_Memory(array))
    return np.array(array)


def _deliverer(output):
    """The function from a jax array to what an output is made of."""
    if output == "jax":
        return lambda array: array
    return _to_numpy if output == "numpy" else _torch().from_dlpack


def _torch():
    """PyTorch, which is imported only here, since only who asks for tensors needs it."""
    try:
        import torch
    except ModuleNotFoundError as missing:
        raise DependencyNotInstalled('output="torch" needs PyTorch: pip install torch') from missing
    return torch


class _Frames:
    """Delivers the frames of every step, and keeps the memory of those that the user has let go of
    for the next step's.

    This is for a CPU. There the system maps and clears new memory of that size page by page, which
    for 1,024 frames takes longer than to step and draw them. With output="jax" there is no telling
    when the user lets go of an array.
    """

    def __init__(self, output):
        """output: "numpy", "jax" or "torch"."""
        self._deliver_anew = _deliverer(output)
        self._convert = {
            "numpy": lambda array: array,
            "torch": lambda array: _torch().from_numpy(array),
        }.get(output)
        self._spare = deque(maxlen=1)

    def deliver(self, frames):
        """A jax array as what the output is made of. Its memory is spare as soon as nothing refers
        to that any more."""
        if not self._reuses(frames):
            return self._deliver_anew(frames)
        memory = _Memory(frames)
        weakref.finalize(memory, self._spare.append, frames)
        return self._convert(np.asarray(memory))

    def prepare(self, frames):
        """Have memory for such frames: the user still looks at the first ones when the second are
        drawn."""
        if self._reuses(frames):
            self._spare.append(jnp.zeros_like(frames))

    def spare(self):
        """A jax array of frames that nobody needs, or None."""
        return self._spare.pop() if self._spare else None

    def _reuses(self, frames):
        """Whether the memory of such frames can come back."""
        return self._convert is not None and frames.device.platform == "cpu"


# --- the window ----------------------------------------------------------------------------------


class _Window:
    """A window that shows frames, on pygame-ce, which is imported only here, since only who wants a
    window needs it."""

    def __init__(self, title):
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        try:
            import pygame
        except ModuleNotFoundError as missing:
            raise DependencyNotInstalled(
                'render_mode="human" needs pygame-ce: pip install "popgym-arcade[human]"'
            ) from missing
        self._pygame, self._title, self._screen = pygame, title, None

    def show(self, frame):
        """Show a frame, uint8[height, width, 3], each pixel as a square, and wait until it is the
        next one's turn."""
        height, width = frame.shape[:2]
        scale = max(1, PICTURE_SIDE // height)
        size = (width * scale, height * scale)
        if self._screen is None:
            self._pygame.display.init()
            self._pygame.display.set_caption(f"{self._title} - POPGym Arcade")
            self._screen = self._pygame.display.set_mode(size)
            self._clock = self._pygame.time.Clock()
        surface = self._pygame.image.frombuffer(frame.tobytes(), (width, height), "RGB")
        self._screen.blit(self._pygame.transform.scale(surface, size), (0, 0))
        self._pygame.event.pump()  # or the desktop takes the program for hung
        self._pygame.display.flip()
        self._clock.tick(METADATA["render_fps"])

    def close(self):
        """Close the window; another frame would open it again."""
        if self._screen is not None:
            self._pygame.display.quit()
            self._screen = None


def _in_rows(frames):
    """Frames side by side, in about as many rows as columns, with a dark line around each: [count,
    S, S, 3] to [h, w, 3]."""
    count, size = frames.shape[:2]
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    line = size // 32
    frames = np.pad(frames, ((0, rows * columns - count), (line, line), (line, line), (0, 0)))
    grid = frames.reshape(rows, columns, *frames.shape[1:]).swapaxes(1, 2)
    return grid.reshape(rows * frames.shape[1], columns * frames.shape[2], 3)


register()
