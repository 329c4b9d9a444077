"""What the adapters cost: ``python -m popgym_arcade.adapters.cost`` compares them to native steps.

An adapter for compiled loops is compared to a compiled loop over the step of ``make``. An adapter
that is called from Python is compared to that step, jitted and called from Python with the same
actions. On a CPU such a call spends most of its time on fresh memory for its frames, unless it can
overwrite old ones, so an adapter that reuses memory is compared to a call that donates it.

Each row is timed in turn with its reference row, and its ratio is the median over the turns.
Adapters whose libraries are not installed are skipped.
"""

import argparse
import importlib.util
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import numpy as np

from popgym_arcade import bench, make
from popgym_arcade.registry import NUM_ACTIONS, Environment, registered_name
from popgym_arcade.spaces import number_argument

__all__ = ["cost"]

_LOOP = "native, compiled loop"
# Whether memory is reused: the row's name.
_CALLED = {False: "native, called", True: "native, called, old frames donated"}
_FINAL = ", with final frames"
# An output of the Gymnasium adapter: whether it reuses memory.
_OUTPUTS = {"numpy": True, "torch": True, "jax": False}
_MODES: dict[str, dict[str, Any]] = {  # options of the Gymnasium adapter
    "NextStep": {"autoreset_mode": "NextStep"},
    "SameStep": {"autoreset_mode": "SameStep"},
    "SameStep without final frames": {"autoreset_mode": "SameStep", "final_observation": False},
}
_WARM_UP = 3  # steps: the first compiles, and the last reuses the memory that earlier ones freed
_COLUMNS = ("what", "frames/s", "ratio", "to")


class _Row(NamedTuple):
    """A way to step the environments."""

    program: bench.Program
    reference: str  # the name of the row that it is compared to


def cost(arguments: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Run the benchmark with these command-line arguments and print a table in Markdown.

    Returns {row: (frames per second, ratio to the reference)}.
    """
    options = _parse(arguments)
    rows = _all_rows(options.environment, options.num_envs)
    setting = bench.machine(options.num_envs, 128)
    print(", ".join(f"{key} {value}" for key, value in setting.items()))
    print(f"| {' | '.join(_COLUMNS)} |\n|---|---:|---:|---|")
    figures = {}
    for name, (rounds, ratio) in _measure(rows, options.turns).items():
        figures[name] = rounds * options.num_envs, ratio
        print(f"| {name} | {figures[name][0]:,.0f} | {ratio:.2f} | {rows[name].reference} |")
    return figures


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m popgym_arcade.adapters.cost",
        description="Measure frames per second of the adapters, and the ratio to native steps.",
    )
    parser.add_argument(
        "--environment",
        default="NavigatorEasy",
        metavar="NAME",
        help="environment to measure (default NavigatorEasy)",
    )
    parser.add_argument(
        "--num-envs",
        type=number_argument(1),
        default=1024,
        metavar="N",
        help="parallel environments (default 1024)",
    )
    parser.add_argument(
        "--turns",
        type=number_argument(1),
        default=11,
        metavar="N",
        help="timed runs per row (default 11)",
    )
    options = parser.parse_args(arguments)
    try:
        options.environment = registered_name(options.environment)
    except ValueError as error:
        parser.error(str(error))
    return options


# --- the rows ------------------------------------------------------------------------------------


def _all_rows(name: str, num_envs: int) -> dict[str, _Row]:
    """Every row that can be measured here, by name; references come first."""
    env, params = make(name, partial_obs=True)
    with_final, _ = make(name, partial_obs=True, final_observation=True)
    states = bench.first_states(env, params, num_envs)
    rows = {_LOOP: _Row(_loop(env, params, states), _LOOP)}
    for reuse, called in _CALLED.items():
        for final, stepped in (("", env), (_FINAL, with_final)):
            program = _calls(*_native_step(stepped, params, num_envs, reuse))
            rows[called + final] = _Row(program, _CALLED[False] + final)
    if _installed("gymnax"):
        rows["gymnax, compiled loop"] = _Row(_gymnax_loop(env, params, states), _LOOP)
    if _installed("gymnasium"):
        rows.update(_gymnasium_rows(name, num_envs))
    if _installed("stable_baselines3"):
        program = _stable_baselines3_calls(name, num_envs)
        rows["Stable-Baselines3"] = _Row(program, _CALLED[True] + _FINAL)
    return rows


def _gymnasium_rows(name: str, num_envs: int) -> dict[str, _Row]:
    """The rows of the Gymnasium adapter."""
    rows = {}
    for mode, options in _MODES.items():
        for output, reuse in _OUTPUTS.items():
            if output != "torch" or _installed("torch"):
                program = _gymnasium_calls(name, num_envs, output=output, **options)
                reference = _CALLED[reuse] + _FINAL * (mode == "SameStep")
                rows[f"Gymnasium, {mode}, {output}"] = _Row(program, reference)
    return rows


def _installed(library: str) -> bool:
    """Whether a library can be imported."""
    return importlib.util.find_spec(library) is not None


def _native_step(
    env: Environment, params: Any, num_envs: int, reuse: bool
) -> tuple[Callable[[Any], Any], Any]:
    """The step of ``make``, jitted and called from Python: (carry -> carry, the first carry).

    A carry holds a key, the states, and the frames with the final frames or None. reuse: whether
    new frames, and final frames if env returns them, overwrite old ones.
    """

    @partial(jax.jit, donate_argnums=(1, 3), keep_unused=True)
    def step(key, state, action, memory):
        key, step_key = jax.random.split(key)
        step_keys = jax.random.split(step_key, num_envs)
        frames, state, reward, done, info = jax.vmap(env.step, in_axes=(0, 0, 0, None))(
            step_keys, state, action, params
        )
        return key, state, (frames, info.pop("final_observation", None)), (reward, done, info)

    actions = _random_actions(num_envs)

    def play(carry):
        key, state, frames = carry
        return step(key, state, actions(), frames if reuse else None)[:3]

    return play, play((jax.random.key(0), bench.first_states(env, params, num_envs), None))


def _random_actions(num_envs: int) -> Callable[[], np.ndarray]:
    """A function that draws the actions of a step, int64[num_envs], the same in every run."""
    generator = np.random.default_rng(0)
    return lambda: generator.integers(NUM_ACTIONS, size=num_envs)


def _calls(play: Callable[[Any], Any], carry: Any) -> bench.Program:
    """A warm Program whose rounds are calls from Python, each waited for, as a policy would.

    It hides its carry: whoever runs a program refers to the program's carry until the run ends, and
    memory that something refers to is not reused.
    """
    kept = [carry]
    del carry

    def loop(_, rounds):
        carry = kept.pop()
        for _ in range(rounds):
            carry = jax.block_until_ready(play(carry))
        kept.append(carry)

    loop(None, _WARM_UP)
    return bench.Program(loop, None, compile_seconds=0.0)


def _loop(env: Any, params: Any, states: Any) -> bench.Program:
    """A compiled loop over the step of an environment, which returns five values."""
    sharding = bench.over_devices(1)
    return bench.step_program(env, params, states, with_frames=True, sharding=sharding)


def _gymnax_loop(env: Environment, params: Any, states: Any) -> bench.Program:
    """A compiled loop over the step of the gymnax adapter."""
    from popgym_arcade.adapters.gymnax import to_gymnax

    adapted = to_gymnax(env, params)
    five_values = SimpleNamespace(
        step=lambda *arguments: (*adapted.step(*arguments)[:3], None, None),
        action_space=adapted.action_space,
        observation_space=adapted.observation_space,
    )
    return _loop(five_values, params, states)


def _gymnasium_calls(name: str, num_envs: int, **options: Any) -> bench.Program:
    """Steps of the Gymnasium adapter."""
    from popgym_arcade.adapters.gymnasium import ArcadeVectorEnv

    envs = ArcadeVectorEnv(name, num_envs, partial_obs=True, **options)
    actions = _random_actions(num_envs)
    return _calls(lambda _: envs.step(actions())[0], envs.reset(seed=0)[0])


def _stable_baselines3_calls(name: str, num_envs: int) -> bench.Program:
    """Steps of the Stable-Baselines3 adapter."""
    from popgym_arcade.adapters.stable_baselines3 import ArcadeVecEnv

    envs, actions = ArcadeVecEnv(name, num_envs, partial_obs=True), _random_actions(num_envs)
    return _calls(lambda _: envs.step(actions())[0], envs.reset())


# --- timing --------------------------------------------------------------------------------------


def _measure(rows: dict[str, _Row], turns: int) -> dict[str, tuple[float, float]]:
    """Time every row in turn with its reference: {name: (rounds per second, ratio)}, medians."""
    programs = {name: bench.calibrated(row.program) for name, row in rows.items()}
    rates, ratios = {name: [] for name in rows}, {name: [] for name in rows}

    def rate(name):
        program, rounds = programs[name]
        program, elapsed = bench.run(program, rounds)
        programs[name] = program, rounds
        return rounds / elapsed

    for _ in range(turns):
        for name, row in rows.items():
            reference = rate(row.reference)
            rates[name].append(rate(name))
            ratios[name].append(rates[name][-1] / reference)
    return {
        name: (statistics.median(rates[name]), statistics.median(ratios[name])) for name in rows
    }


if __name__ == "__main__":
    cost(sys.argv[1:])
