"""The benchmark: how many frames a second each environment makes, and how far that is from what the
device could do.

``python bench.py`` measures every environment and both twins. What is timed is the step a user gets
from ``make``: it resets itself, with fresh keys and fresh random actions on every step, vmapped
over ``--num-envs`` environments in one jitted loop.

Columns:

* compile s: seconds to trace and compile that loop.
* frames/s: frames made a second. Every frame is written to memory, because the loop carries it.
* fill: the same for a loop that only writes one byte value over each frame. No step can be faster
  than this limit. It is measured in turn with the rows of the environment, so that a machine that
  changes its speed changes all of them.
* steps/s: steps a second when nobody looks at the frames, so that the compiler leaves the drawing
  out. What is left is the same for both twins, and is measured once.
* ratio: frames/s over fill, the median of the turns.
* state B: bytes of state per environment.
"""

import argparse
import json
import math
import operator
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from popgym_arcade import make
from popgym_arcade.registry import matching_names, twin_name
from popgym_arcade.render import OBS_SIZES
from popgym_arcade.spaces import number_argument

RUN_SECONDS = 0.1  # how long one timed run lasts
COLUMNS = ("environment", "twin", "compile s", "frames/s", "fill", "steps/s", "ratio", "state B")


class Program(NamedTuple):
    """A compiled loop and what it carries at the start."""

    loop: Callable  # (carry, rounds) -> carry
    carry: Any
    compile_seconds: float


def over_devices(count):
    """How a batch of environments is spread over the first devices, each of which holds an equal
    part: a NamedSharding."""
    return NamedSharding(
        Mesh(np.array(jax.devices()[:count]), ("environments",)), PartitionSpec("environments")
    )


def fill_program(num_envs, obs_size, sharding):
    """The limit: a loop that does nothing but write every byte of every frame in each round."""

    def round_(i, frames):
        values = (jnp.arange(num_envs) + i).astype(jnp.uint8)
        return jnp.broadcast_to(values[:, None, None, None], frames.shape)

    return compiled(round_, jnp.zeros((num_envs, obs_size, obs_size, 3), jnp.uint8), sharding)


def first_states(env, params, num_envs):
    """The states that a batch of environments begins with."""
    reset = jax.jit(lambda keys: jax.vmap(env.reset, in_axes=(0, None))(keys, params)[1])
    return reset(jax.random.split(jax.random.key(1), num_envs))


def step_program(env, params, states, with_frames, sharding):
    """A loop that steps all environments with fresh keys and random actions in each round.

    It carries the states, the sum of the rewards and, ``with_frames``, the frames. Over several
    devices it is still one program: each has a part of the batch, and nothing in a step looks at
    another environment.
    """
    num_envs = states.time.shape[0]
    step = jax.vmap(env.step, in_axes=(0, 0, 0, None))
    sample = jax.vmap(env.action_space(params).sample)

    def round_(i, carry):
        state, total, _ = carry
        step_key, action_key = jax.random.split(jax.random.fold_in(jax.random.key(0), i))
        actions = sample(jax.random.split(action_key, num_envs))
        frames, state, reward, _, _ = step(
            jax.random.split(step_key, num_envs), state, actions, params
        )
        return state, total + reward, frames if with_frames else None

    states = jax.tree.map(jnp.copy, states)  # the program takes what it carries for its own
    frames = jnp.zeros((num_envs, *env.observation_space(params).shape), jnp.uint8)
    return compiled(
        round_,
        (states, jnp.zeros(num_envs, jnp.float32), frames if with_frames else None),
        sharding,
    )


def compiled(round_, carry, sharding):
    """Compile a loop over a round, (index, carry) -> carry, for a carry that is spread over
    devices: a Program."""
    carry = jax.device_put(carry, sharding)

    def loop(carry, rounds):
        return jax.lax.fori_loop(0, rounds, round_, carry)

    start = time.perf_counter()
    shardings = jax.tree.map(lambda leaf: leaf.sharding, carry)
    loop = jax.jit(loop, donate_argnums=0, out_shardings=shardings).lower(carry, 0).compile()
    return Program(loop, carry, time.perf_counter() - start)


def run(program, rounds):
    """Go on for so many rounds: (the program as it stands then, seconds it took)."""
    start = time.perf_counter()
    carry = jax.block_until_ready(program.loop(program.carry, rounds))
    return program._replace(carry=carry), time.perf_counter() - start


def calibrated(program):
    """How many rounds last about RUN_SECONDS: (the program, warmed up, and an int)."""
    rounds, elapsed = 1, 0.0
    while elapsed < RUN_SECONDS / 2:
        rounds *= 2
        program, elapsed = run(program, rounds)
    return program, max(1, round(rounds * RUN_SECONDS / elapsed))


def measure(name, twins, options, fill):
    """Measure one environment and the limit: (a dict of the COLUMNS for each twin, the fill program
    as it stands then).

    twins: False for the MDP, True for the POMDP. fill: the limit's program and how many rounds it
    runs in a turn.
    """
    env, params = make(name, obs_size=options.obs_size)
    states, sharding = first_states(env, params, options.num_envs), over_devices(options.devices)
    programs = {
        "fill": fill,
        "steps/s": calibrated(
            step_program(env, params, states, with_frames=False, sharding=sharding)
        ),
    }
    for partial_obs in twins:
        env, params = make(name, partial_obs=partial_obs, obs_size=options.obs_size)
        programs[partial_obs] = calibrated(
            step_program(env, params, states, with_frames=True, sharding=sharding)
        )
    turns = {what: [] for what in programs}
    for _ in range(options.turns):
        for what, (program, rounds) in programs.items():
            program, elapsed = run(program, rounds)
            programs[what] = program, rounds
            turns[what].append(rounds * options.num_envs / elapsed)
    return [
        row(name, partial_obs, programs[partial_obs][0], turns) for partial_obs in twins
    ], programs["fill"]


def row(name, partial_obs, program, turns):
    """The COLUMNS of a twin, a dict. turns: what each program made a second in each turn, the
    twin's own under ``partial_obs``."""
    states, _, _ = program.carry
    return {
        "environment": name,
        "twin": twin_name(partial_obs),
        "compile s": program.compile_seconds,
        "frames/s": statistics.median(turns[partial_obs]),
        "fill": statistics.median(turns["fill"]),
        "steps/s": statistics.median(turns["steps/s"]),
        "ratio": statistics.median(map(operator.truediv, turns[partial_obs], turns["fill"])),
        "state B": sum(leaf.nbytes for leaf in jax.tree.leaves(states)) // states.time.size,
    }


def machine(num_envs, obs_size, devices=1):
    """What the figures were measured on: a dict."""
    device = jax.devices()[0]
    return {
        "device": f"{device.platform} ({device.device_kind})",
        "devices": devices,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "environments": num_envs,
        "obs_size": obs_size,
    }


def row_text(values):
    """A row of the table, aligned, as Markdown."""
    widths = (22, 5, 9, 11, 11, 12, 5, 7)
    cells = [
        value.ljust(width) if i < 2 else value.rjust(width)
        for i, (value, width) in enumerate(zip(values, widths))
    ]
    return "| " + " | ".join(cells) + " |"


def formatted(row):
    """The figures of a row as text."""
    formats = ("", "", ".2f", ",.0f", ",.0f", ",.0f", ".2f", "d")
    return [format(row[column], spec) for column, spec in zip(COLUMNS, formats)]


def progress(done, total, what):
    """Show how far the benchmark is on a terminal's error stream."""
    if sys.stderr.isatty():
        width = 30
        bar = "#" * (width * done // total)
        print(
            f"\r[{bar:<{width}}] {done}/{total} {what:<30}",
            end="" if done < total else "\n",
            file=sys.stderr,
            flush=True,
        )


def parse(arguments):
    """The command line as a namespace, with ``names`` and ``twins`` worked out."""
    parser = argparse.ArgumentParser(
        description="Measure frames per second of every environment, and the device's limit."
    )
    parser.add_argument(
        "--games",
        nargs="+",
        default=[],
        metavar="NAME",
        help="games or environments, e.g. Navigator BattleShipEasy",
    )
    parser.add_argument(
        "--num-envs",
        type=number_argument(1),
        default=1024,
        help="environments that step together (default 1024)",
    )
    parser.add_argument(
        "--devices",
        type=number_argument(1),
        default=1,
        help="devices that share the environments (default 1)",
    )
    parser.add_argument(
        "--obs-size",
        type=int,
        choices=OBS_SIZES,
        default=OBS_SIZES[0],
        help="pixels a side (default 128)",
    )
    parser.add_argument(
        "--partial",
        choices=("both", "yes", "no"),
        default="both",
        help="POMDPs only, MDPs only, or both (default)",
    )
    parser.add_argument(
        "--turns",
        type=number_argument(1),
        default=5,
        help="how often each program is timed (default 5)",
    )
    parser.add_argument("--json", metavar="PATH", help="also write the figures to this file")
    options = parser.parse_args(arguments)
    try:
        options.names = matching_names(options.games)
    except ValueError as error:
        parser.error(str(error))
    check_devices(parser, options)
    options.twins = {"both": (False, True), "yes": (True,), "no": (False,)}[options.partial]
    return options


def check_devices(parser, options):
    """End with an error unless there are so many devices and they can share the environments
    evenly."""
    available = jax.device_count()
    if options.devices > available:
        parser.error(
            f"--devices must be in 1 ... {available}, the devices that there are, but it is {options.devices}. A CPU can pretend "
            f"to be several: XLA_FLAGS=--xla_force_host_platform_device_count={options.devices}"
        )
    if options.num_envs % options.devices:
        nearest = max(1, round(options.num_envs / options.devices)) * options.devices
        parser.error(
            f"--num-envs must be a multiple of --devices, but {options.num_envs} is none of {options.devices}; try {nearest}"
        )


def main():
    """Run the benchmark from the command line."""
    benchmark(sys.argv[1:])


def benchmark(arguments):
    """Run the benchmark with these command-line arguments, print its table, and return the report
    that ``--json`` writes."""
    options = parse(arguments)
    report = {"machine": machine(options.num_envs, options.obs_size, options.devices), "rows": []}
    print(", ".join(f"{key} {value}" for key, value in report["machine"].items()), flush=True)
    print(row_text(COLUMNS), row_text(["---"] * len(COLUMNS)), sep="\n", flush=True)
    fill = calibrated(
        fill_program(options.num_envs, options.obs_size, over_devices(options.devices))
    )
    for done, name in enumerate(options.names):
        progress(done, len(options.names), name)
        rows, fill = measure(name, options.twins, options, fill)
        report["rows"].extend(rows)
        print(*(row_text(formatted(row)) for row in rows), sep="\n", flush=True)
    progress(len(options.names), len(options.names), "done")
    ratios = [row["ratio"] for row in report["rows"]]
    report["lowest ratio"], report["mean ratio"] = (
        min(ratios),
        math.exp(statistics.mean(map(math.log, ratios))),
    )
    print(
        f"ratio to the limit: lowest {report['lowest ratio']:.2f}, geometric mean {report['mean ratio']:.2f}"
    )
    if options.json:
        with open(options.json, "w") as file:
            json.dump(report, file, indent=2)
    return report


if __name__ == "__main__":
    main()
