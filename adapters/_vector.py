"""The vector of Gymnasium environments, one compiled program: ArcadeVectorEnv."""

import operator
from collections.abc import Sequence
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Space
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from popgym_arcade.adapters import _frames, _programs, _shared
from popgym_arcade.adapters._window import MAX_ENVS, Window, grid
from popgym_arcade.registry import Environment
from popgym_arcade.spaces import check_range


class ArcadeVectorEnv(_shared.Resumable, gymnasium.vector.VectorEnv[Any, Any, Any]):  # pyright: ignore[reportIncompatibleVariableOverride]
    """Many copies of one environment in one compiled program.

    Results have a leading axis [num_envs]: observations uint8[num_envs, obs_size, obs_size, 3], or
    as ``wrap`` makes them, rewards, bool terminations and truncations, and ``discount`` in infos.
    Their type depends on ``output``: NumPy arrays, with float64 rewards and discounts as in
    Gymnasium's SyncVectorEnv; jax arrays, on their device; or torch tensors that share jax's
    memory, on its device. Rewards and discounts of the latter two are float32. NumPy arrays and
    tensors are writable; no later step changes a result.

    The autoreset modes are Gymnasium's. With NEXT_STEP, the step after the end of an episode
    ignores the action, starts the next episode and returns a reward of 0. With SAME_STEP, the step
    that ends an episode returns the first observation of the next one, and infos hold
    ``final_obs``, an object array with the last frame of each episode that ended and None
    elsewhere, and ``final_info``; each has a mask, named with a leading underscore. With DISABLED,
    the user resets: ``reset(options={"reset_mask": mask})``. Everything returned equals what a
    SyncVectorEnv of ArcadeEnvs returns with the same seeds.

    A pickle or a copy goes on from the same state, and shares nothing with the original.
    """

    metadata: dict[str, Any] = {**_shared.METADATA, "autoreset_mode": AutoresetMode.NEXT_STEP}
    # Class attributes too, because older Gymnasium closes an environment whose __init__ failed.
    _REBUILT = ("_program", "_params", "_window", "_convert", "_frames")
    _carry: _programs.Carry | None = None
    _window: Window | None = None

    def __init__(
        self,
        name: str,
        num_envs: int = 1,
        partial_obs: bool = False,
        obs_size: int = 128,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        output: str = "numpy",
        final_observation: bool = True,
        render_mode: str | None = None,
        wrap: _programs.Wrap | None = None,
        max_episode_steps: int | None = None,
        **overrides: Any,
    ) -> None:
        """Make the environments; name and what is not named below is for ``popgym_arcade.make``.

        num_envs: at least 1. autoreset_mode: an AutoresetMode or its value, e.g. "SameStep".
        output: "numpy", "jax" or "torch". final_observation: False leaves ``final_obs`` and
        ``final_info`` out of SAME_STEP's infos; otherwise ``step`` has to wait for the device to
        learn which episodes ended, and to draw their last frames. render_mode: None; "rgb_array",
        so that ``render`` returns the frames of all environments; or "human", to show up to 16 of
        them in one window after every reset and step. wrap: a function from an Environment to an
        Environment, as in ArcadeEnv. max_episode_steps: Gymnasium's name for max_steps_in_episode.
        Raises ValueError or TypeError for anything else, as ``make`` does, DependencyNotInstalled
        if torch or pygame is needed but missing, and RuntimeError in a process that was forked
        after JAX had started.
        """
        _shared.check_process()
        if max_episode_steps is not None:
            overrides.setdefault("max_steps_in_episode", max_episode_steps)
        _shared.check_choice("output", output, _frames.OUTPUTS)
        _shared.check_render_mode(render_mode)
        check_range("num_envs", operator.index(num_envs), 1)
        self.num_envs: int = operator.index(num_envs)
        self.render_mode: str | None = render_mode
        self.autoreset_mode: AutoresetMode = _shared.to_autoreset_mode(autoreset_mode)
        self.metadata = {**_shared.METADATA, "autoreset_mode": self.autoreset_mode}
        overrides["final_observation"] = final_observation
        self._arguments = (name, partial_obs, obs_size, wrap), overrides
        self._output = output
        self._has_final = final_observation and self.autoreset_mode == AutoresetMode.SAME_STEP
        self._seeds: list[int | None] = [None] * self.num_envs  # the last seed of each environment
        actions, observations = _shared.spaces_of(self._build(), self._params)
        self.single_action_space: Space[Any] = actions
        self.single_observation_space: Space[Any] = observations
        self.action_space: Space[Any] = batch_space(actions, self.num_envs)
        self.observation_space: Space[Any] = batch_space(observations, self.num_envs)

    def _build(self) -> Environment:
        """Set what a pickle leaves out, from the arguments; return the wrapped environment."""
        positional, overrides = self._arguments
        setting, self._params = _programs.Setting.make(*positional, **overrides)
        self._program = _programs.vector_program(setting, self.autoreset_mode)
        self._convert = _frames.converter(self._output)
        self._frames = _frames.FrameDelivery(self._output)
        if self.render_mode == "human":
            title = f"{setting.env.name} x {self.num_envs}"
            self._window = Window(title, _shared.METADATA["render_fps"])
        return setting.env

    @property
    def np_random_seed(self) -> tuple[int | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The last seed of each environment, given or drawn; None before the first reset."""
        return tuple(self._seeds)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode in every environment: (observations, infos).

        seed: an int s, to seed environment i with s + i; a sequence with one int or None for each;
        or None. An environment without a seed continues its random stream. options:
        ``{"reset_mask": mask}``, with a NumPy bool[num_envs], resets only where the mask is True;
        infos omit the others. Raises ValueError for seeds or a mask of the wrong length or type and
        for a mask that is False everywhere, ResetNeeded for a mask before the first reset.
        """
        _shared.check_process()
        seeds = _shared.to_seeds(seed, self.num_envs)
        mask = (options or {}).get("reset_mask")
        if mask is None:
            self._carry, observation = self._program.reset(self._params, self._next_key_data(seeds))
            self._frames.prepare(observation)
            mask = np.ones(self.num_envs, bool)
        else:
            _shared.check_mask(mask, self.num_envs)
            if self._carry is None:
                raise ResetNeeded(
                    "there are no episodes yet; call reset without a reset_mask first"
                )
            mask = mask.copy()  # jax may read it after this call, when the caller has changed it
            seeds = [seed if is_reset else None for seed, is_reset in zip(seeds, mask)]
            key_data = self._next_key_data(seeds)
            self._carry, observation = self._program.reset_masked(
                self._params, self._carry, key_data, mask
            )
        self._show()
        info = self._info(jnp.array(mask, jnp.float32), jnp.array(mask))
        return self._frames.deliver(observation), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step every environment: (observations, rewards, terminations, truncations, infos).

        actions: integers [num_envs] in [0, 4], as a sequence, a NumPy or jax array or a torch
        tensor. Raises ValueError for any other, except on an accelerator: there actions are not
        read, because that would wait for the device, and any other integer does nothing. Raises
        ResetNeeded before the first reset and, with DISABLED, until every episode that ended has
        been reset.
        """
        if self._carry is None:
            raise ResetNeeded("there are no episodes yet; call reset before step")
        if self.autoreset_mode == AutoresetMode.DISABLED:
            _shared.check_none_done(self._carry)
        array = _shared.to_action_array(actions, self.num_envs)
        memory = self._frames.take_free()
        self._carry, outcome, final = self._program.step(self._params, self._carry, array, memory)
        info = self._final_info(final) if self._has_final else {}
        info.update(self._info(outcome.discount, outcome.has_discount))
        self._show()
        observation = self._frames.deliver(outcome.observation)
        reward, terminated, truncated = map(self._convert, outcome[1:4])
        return observation, reward, terminated, truncated, info

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Return a NumPy uint8[obs_size, obs_size, 3] for each; None unless "rgb_array"."""
        _shared.warn_without_mode(self.render_mode)
        if self.render_mode is None:
            return None
        if self._carry is None:
            raise ResetNeeded("there is nothing to show yet; call reset before render")
        if self.render_mode == "human":
            return None
        return tuple(self._draw(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Close the window, if there is one, and release device memory. ``close`` calls this."""
        if self._carry is not None:
            self._carry = None
            self._frames.take_free()  # and drop it
        if self._window:
            self._window.close()

    def _next_key_data(self, seeds: list[int | None]) -> np.ndarray:
        """The key of each environment's next reset, uint32[num_envs, 2].

        It comes from the environment's seed or, without one, from its random stream.
        """
        if self._carry is None:
            key_data = np.zeros((self.num_envs, 2), np.uint32)
        else:
            key_data = np.array(self._carry.key_data)
        for i, seed in enumerate(seeds):
            if seed is not None or self._seeds[i] is None:
                generator, self._seeds[i] = seeding.np_random(seed)
                key_data[i] = _programs.draw_key_data(generator)
        return key_data

    def _info(self, discount: jax.Array, mask: jax.Array) -> dict[str, Any]:
        """The infos' discounts, with the mask of the environments that have one."""
        return {"discount": self._convert(discount), "_discount": self._convert(mask)}

    def _final_info(self, final: _programs.Final) -> dict[str, Any]:
        """The infos about the episodes that this step ended; {} if there are none."""
        done = np.asarray(final.done)
        if not done.any():
            return {}
        frames = np.full(self.num_envs, None, object)
        indices = np.flatnonzero(done)
        for i, observation in _programs.observe_at(
            self._program, self._params, final.state, indices, self.num_envs
        ):
            frames[i] = self._frames.convert(observation)
        return {
            "final_obs": frames,
            "_final_obs": self._convert(final.done),
            "final_info": self._info(final.discount, final.done),
            "_final_info": self._convert(final.done),
        }

    def _show(self) -> None:
        """Show the first environments in the window, in a grid."""
        if self._window and self._carry is not None:
            self._window.show(grid(self._draw(min(self.num_envs, MAX_ENVS))))

    def _draw(self, count: int) -> np.ndarray:
        """Draw the first environments: uint8[count, obs_size, obs_size, 3]."""
        assert self._carry is not None
        return np.array(self._program.draw_first(self._params, self._carry.state, count))
