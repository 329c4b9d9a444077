"""The environments for Stable-Baselines3: ``ArcadeVecEnv("NavigatorEasy", 64, partial_obs=True)``,
one compiled program.

A thin layer over ArcadeVectorEnv: what Gymnasium gives as arrays, Stable-Baselines3 takes as a list
of dicts.
"""

import numpy as np

try:
    from stable_baselines3.common.vec_env import VecEnv
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"popgym_arcade.adapters.stable_baselines3 needs {missing.name}: pip install stable-baselines3",
        name=missing.name,
    ) from missing

from popgym_arcade.adapters.gymnasium import ArcadeVectorEnv


class ArcadeVecEnv(VecEnv):
    """Many environments of one kind, as a VecEnv. Observations are uint8[num_envs, obs_size,
    obs_size, 3]."""

    def __init__(self, name, num_envs=1, render_mode=None, **options):
        """The arguments, and the errors, are those of ArcadeVectorEnv. options: partial_obs,
        obs_size, ..."""
        self.arcade = ArcadeVectorEnv(
            name, num_envs, autoreset_mode="SameStep", render_mode=render_mode, **options
        )
        self.actions = None
        super().__init__(
            num_envs, self.arcade.single_observation_space, self.arcade.single_action_space
        )

    def reset(self):
        """Begin an episode in every environment, with the seeds given to ``seed`` since the last
        time: the observations."""
        observations, infos = self.arcade.reset(seed=self._seeds)
        self.reset_infos = [{"discount": float(discount)} for discount in infos["discount"]]
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions):
        """Keep the actions, int[num_envs], for ``step_wait``."""
        self.actions = actions

    def step_wait(self):
        """One step of every environment: (observations, rewards float32[num_envs], dones
        bool[num_envs], a list of infos).

        Where an episode ended, the observation is the first of the next one, and the info holds its
        last as ``terminal_observation``. ``TimeLimit.truncated`` is whether the limit of steps
        alone ended it.
        """
        observations, rewards, terminated, truncated, infos = self.arcade.step(self.actions)
        dones = terminated | truncated
        listed = [{"TimeLimit.truncated": bool(cut)} for cut in truncated & ~terminated]
        for i in np.flatnonzero(dones):
            listed[i]["terminal_observation"] = infos["final_obs"][i]
        return observations, rewards.astype(np.float32), dones, listed

    def get_images(self):
        """The frames of all environments, each uint8[obs_size, obs_size, 3], with the render mode
        "rgb_array"; else None."""
        return self.arcade.render() or [None] * self.num_envs

    def get_attr(self, attr_name, indices=None):
        """An attribute of the program, once for each chosen environment."""
        return [getattr(self.arcade, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name, value, indices=None):
        """Set an attribute, of all environments at once: they are one program. Raises ValueError
        for only some of them."""
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise ValueError(
                f"{attr_name!r} can only be set for all {self.num_envs} environments at once"
            )
        setattr(self.arcade, attr_name, value)

    def env_method(self, method_name, *method_args, indices=None, **method_kwargs):
        """Raise AttributeError: the environments are no objects that have methods."""
        raise AttributeError(
            f"the environments are one program, so there is no {method_name!r} to call on each of them"
        )

    def env_is_wrapped(self, wrapper_class, indices=None):
        """False for each chosen environment."""
        return [False for _ in self._get_indices(indices)]

    def close(self):
        """Close the window, if there is one."""
        self.arcade.close()
