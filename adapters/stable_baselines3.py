"""The environments for Stable-Baselines3: ``ArcadeVecEnv("NavigatorEasy", 64, partial_obs=True)``.

A thin layer over ArcadeVectorEnv, so it is one compiled program. It turns Gymnasium's infos, arrays
in a dict, into Stable-Baselines3's list of dicts.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

try:
    from stable_baselines3.common.vec_env import VecEnv
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"popgym_arcade.adapters.stable_baselines3 needs {missing.name}: "
        "pip install stable-baselines3",
        name=missing.name,
    ) from missing

from popgym_arcade.adapters.gymnasium import ArcadeVectorEnv

__all__ = ["ArcadeVecEnv"]

_Indices = int | Iterable[int] | None  # of environments; None selects all


class ArcadeVecEnv(VecEnv):
    """Many copies of one environment, as a VecEnv.

    Observations are uint8[num_envs, obs_size, obs_size, 3].
    """

    def __init__(
        self, name: str, num_envs: int = 1, render_mode: str | None = None, **options: Any
    ) -> None:
        """Make the environments; arguments and errors are those of ArcadeVectorEnv.

        options: partial_obs, obs_size, and so on.
        """
        self.arcade: ArcadeVectorEnv = ArcadeVectorEnv(
            name, num_envs, autoreset_mode="SameStep", render_mode=render_mode, **options
        )
        self.actions: np.ndarray | None = None
        super().__init__(
            num_envs, self.arcade.single_observation_space, self.arcade.single_action_space
        )

    def reset(self) -> np.ndarray:
        """Start an episode in every environment and return the observations.

        Uses the seeds given to ``seed`` since the last reset.
        """
        observations, infos = self.arcade.reset(seed=self._seeds)
        self.reset_infos: list[dict[str, Any]] = [
            {"discount": float(discount)} for discount in infos["discount"]
        ]
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions, int[num_envs], for ``step_wait``."""
        self.actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Step every environment: (observations, rewards, dones, infos).

        rewards: float32[num_envs]. dones: bool[num_envs]. infos: a list of dicts. Where an episode
        ended, the observation is the first of the next one, and the info holds the last one as
        ``terminal_observation``. ``TimeLimit.truncated`` is whether only the time limit ended it.
        """
        observations, rewards, terminated, truncated, infos = self.arcade.step(self.actions)
        dones = terminated | truncated
        listed: list[dict[str, Any]] = [
            {"TimeLimit.truncated": bool(cut)} for cut in truncated & ~terminated
        ]
        for i in np.flatnonzero(dones):
            listed[i]["terminal_observation"] = infos["final_obs"][i]
        return observations, rewards.astype(np.float32), dones, listed

    def get_images(self) -> Sequence[np.ndarray | None]:
        """The frames of all environments, each uint8[obs_size, obs_size, 3].

        They are None unless render_mode is "rgb_array".
        """
        return self.arcade.render() or [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: _Indices = None) -> list[Any]:
        """An attribute of the program, once for each selected environment."""
        return [getattr(self.arcade, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: _Indices = None) -> None:
        """Set an attribute of all environments; they are one program.

        Raises ValueError if indices selects only some of them.
        """
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise ValueError(
                f"{attr_name!r} can only be set for all {self.num_envs} environments at once"
            )
        setattr(self.arcade, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: _Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Raise AttributeError: the environments are one program, not objects with methods."""
        raise AttributeError(
            f"the environments are one program, so {method_name!r} cannot be called on each of them"
        )

    def env_is_wrapped(self, wrapper_class: type, indices: _Indices = None) -> list[bool]:
        """Return False for each selected environment."""
        return [False for _ in self._get_indices(indices)]

    def close(self) -> None:
        """Close the window, if there is one."""
        self.arcade.close()
