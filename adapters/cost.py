"""What the adapters cost: ``python -m popgym_arcade.adapters.cost``, each against the native step
in the same run.

An adapter for compiled loops is held against a compiled loop over the step of ``make``; an adapter
that is called from Python against that step, jitted and called from Python with the same actions.
On a CPU such a call spends most of its time on fresh memory for its frames, unless it may write
over old ones. So what reuses memory is held against a call that does so too, by donation.

Each row is timed in turn with the row that it is held against, and its ratio is the median of the
turns. Libraries that are not installed are left out.
"""

import argparse
import importlib.util
import statistics
import sys
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import jax
import numpy as np

from popgym_arcade import bench, make
from popgym_arcade.registry import NUM_ACTIONS

LOOP = "native, compiled loop"
CALLED = {
    False: "native, called",
    True: "native, called, old frames donated",
}  # whether memory is reused, to a name
FINAL = ", with final frames"
OUTPUTS = {
    "numpy": True,
    "torch": True,
    "jax": False,
}  # of the Gymnasium adapter, to whether it reuses memory
MODES = {  # of the Gymnasium adapter, to its options
    "NextStep": {"autoreset_mode": "NextStep"},
    "SameStep": {"autoreset_mode": "SameStep"},
    "SameStep without final frames": {"autoreset_mode": "SameStep", "final_observation": False},
}
WARM_UP = 3  # steps: one compiles, and the last finds the memory that the ones before let go of
COLUMNS = ("what", "frames/s", "ratio", "to")


class Row(NamedTuple):
    """A way to step the environments."""

    program: bench.Program
    reference: str  # the name of the row that it is held against


def native_play(env, params, num_envs, reuse):
    """The step of ``make``, jitted and called from Python: (carry -> carry, the first carry).

    A carry holds a key, states, and the frames with the final ones or None. reuse: whether new
    frames may take the memory of old ones; those are the final ones too, where env gives them.
    """

    @partial(jax.jit, donate_argnums=(1, 3), keep_unused=True)
    def step(key, state, action, memory):
        key, step_key = jax.random.split(key)
        step_keys = jax.random.split(step_key, num_envs)
        frames, state, reward, done, info = jax.vmap(env.step, in_axes=(0, 0, 0, None))(
            step_keys, state, action, params
        )
        return key, state, (frames, info.pop("final_observation", None)), (reward, done, info)

    actions = random_actions(num_envs)

    def play(carry):
        key, state, frames = carry
        return step(key, state, actions(), frames if reuse else None)[:3]

    return play, play((jax.random.key(0), bench.first_states(env, params, num_envs), None))


def random_actions(num_envs):
    """A function that draws the actions of a step, int64[num_envs]; what it draws is the same in
    every run."""
    return partial(np.random.default_rng(0).integers, NUM_ACTIONS, size=num_envs)


def calls(play, carry):
    """A Program whose rounds are calls from Python, each waited for, as by a policy that looks at
    the frames.

    It has been compiled and warmed up. It keeps its carry to itself, since whoever runs a program
    refers to the carry that it began with until the run is over, and memory that somebody refers to
    is not used again.
    """
    kept = [carry]
    del carry

    def loop(_, rounds):
        carry = kept.pop()
        for _ in range(rounds):
            carry = jax.block_until_ready(play(carry))
        kept.append(carry)

    loop(None, WARM_UP)
    return bench.Program(loop, None, compile_seconds=0.0)


def gymnax_loop(env, params, states):
    """A compiled loop over the step of the gymnax adapter: a Program."""
    from popgym_arcade.adapters.gymnax import to_gymnax

    adapted = to_gymnax(env, params)
    five_values = SimpleNamespace(
        step=lambda *arguments: (*adapted.step(*arguments)[:3], None, None),
        action_space=adapted.action_space,
        observation_space=adapted.observation_space,
    )
    return bench.step_program(
        five_values, params, states, with_frames=True, sharding=bench.over_devices(1)
    )


def gymnasium_calls(name, num_envs, **options):
    """Steps of the Gymnasium adapter: a Program."""
    from popgym_arcade.adapters.gymnasium import ArcadeVectorEnv

    envs, actions = (
        ArcadeVectorEnv(name, num_envs, partial_obs=True, **options),
        random_actions(num_envs),
    )
    return calls(lambda _: envs.step(actions())[0], envs.reset(seed=0)[0])


def stable_baselines3_calls(name, num_envs):
    """Steps of the adapter for Stable-Baselines3: a Program."""
    from popgym_arcade.adapters.stable_baselines3 import ArcadeVecEnv

    envs, actions = ArcadeVecEnv(name, num_envs, partial_obs=True), random_actions(num_envs)
    return calls(lambda _: envs.step(actions())[0], envs.reset())


def all_rows(name, num_envs):
    """Everything that can be measured here: {name: Row}, those that others are held against
    first."""
    env, params = make(name, partial_obs=True)
    with_final, _ = make(name, partial_obs=True, final_observation=True)
    states = bench.first_states(env, params, num_envs)
    rows = {
        LOOP: Row(
            bench.step_program(
                env, params, states, with_frames=True, sharding=bench.over_devices(1)
            ),
            LOOP,
        ),
    }
    for reuse, called in CALLED.items():
        for final, stepped in (("", env), (FINAL, with_final)):
            rows[called + final] = Row(
                calls(*native_play(stepped, params, num_envs, reuse)), CALLED[False] + final
            )
    if installed("gymnax"):
        rows["gymnax, compiled loop"] = Row(gymnax_loop(env, params, states), LOOP)
    for mode, options in MODES.items():
        for output, reuse in OUTPUTS.items():
            if installed("gymnasium") and (output != "torch" or installed("torch")):
                program = gymnasium_calls(name, num_envs, output=output, **options)
                rows[f"Gymnasium, {mode}, {output}"] = Row(
                    program, CALLED[reuse] + FINAL * (mode == "SameStep")
                )
    if installed("stable_baselines3"):
        rows["Stable-Baselines3"] = Row(
            stable_baselines3_calls(name, num_envs), CALLED[True] + FINAL
        )
    return rows


def installed(library):
    """Whether a library can be imported."""
    return importlib.util.find_spec(library) is not None


def measure(rows, turns):
    """Time every row beside the one that it is held against: {name: (frames a second, ratio)}, the
    medians of the turns."""
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


def cost(arguments):
    """Measure with these command-line arguments, print a table in Markdown, and return {name:
    (frames a second, ratio)}."""
    parser = argparse.ArgumentParser(
        description="Measure what the adapters cost, each as a ratio to the native step."
    )
    parser.add_argument(
        "--environment", default="NavigatorEasy", help="a registered name (default NavigatorEasy)"
    )
    parser.add_argument(
        "--num-envs",
        type=bench.positive,
        default=1024,
        help="environments that step together (default 1024)",
    )
    parser.add_argument(
        "--turns", type=bench.positive, default=11, help="how often each row is timed (default 11)"
    )
    options = parser.parse_args(arguments)
    rows = all_rows(options.environment, options.num_envs)
    print(
        ", ".join(f"{key} {value}" for key, value in bench.machine(options.num_envs, 128).items())
    )
    print(f"| {' | '.join(COLUMNS)} |\n|---|---:|---:|---|")
    figures = {}
    for name, (rounds, ratio) in measure(rows, options.turns).items():
        figures[name] = rounds * options.num_envs, ratio
        print(f"| {name} | {figures[name][0]:,.0f} | {ratio:.2f} | {rows[name].reference} |")
    return figures


if __name__ == "__main__":
    cost(sys.argv[1:])
