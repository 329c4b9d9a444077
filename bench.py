"""Benchmark: frames per second of every environment, next to the device's limit.

``python bench.py`` measures both twins of every environment. It times the ``step`` that ``make``
returns, with auto-reset and with fresh keys and random actions at every step, vmapped over
``--num-envs`` environments in one jitted loop.

Columns:

* compile s: seconds to trace and compile that loop.
* frames/s: frames per second. The loop carries every frame, so each is written to memory.
* fill: the same for a loop that only fills every frame with one byte value, the upper limit for any
  environment. It is timed in turn with the environment, so that changes of the machine's speed
  affect both.
* steps/s: steps per second without frames: the loop drops them, so the compiler removes the
  drawing. It is the same for both twins and measured once.
* ratio: frames/s divided by fill, the median over the turns.
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
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from popgym_arcade import spaces
from popgym_arcade.commands.files import end_command, file_argument, output_may_be_cut, write_files
from popgym_arcade.registry import (
    TWINS,
    Environment,
    add_games_option,
    make,
    matching_names,
    twin_name,
)
from popgym_arcade.render import OBS_SIZES, choose_way

__all__ = [
    "COLUMNS",
    "RUN_SECONDS",
    "TWINS_OF",
    "Program",
    "add_frame_options",
    "benchmark",
    "calibrated",
    "fill_program",
    "first_carry",
    "first_states",
    "looped",
    "machine",
    "main",
    "measure",
    "over_devices",
    "progress",
    "run",
    "step_loop",
    "step_program",
    "table_row",
]

RUN_SECONDS: float = 0.1
"""Approximate duration of a timed run."""

COLUMNS: tuple[str, ...] = (
    "environment",
    "twin",
    "compile s",
    "frames/s",
    "fill",
    "steps/s",
    "ratio",
    "state B",
)
"""The keys of a row of the report."""

TWINS_OF: dict[str, tuple[bool, ...]] = {
    "both": tuple(TWINS.values()),
    "yes": (True,),
    "no": (False,),
}
"""The twins that each choice of ``--partial`` measures: their ``partial_obs``."""

_WIDTHS = (22, 5, 9, 11, 11, 12, 5, 7)  # of the COLUMNS in the printed table
_FORMATS = ("", "", ".2f", ",.0f", ",.0f", ",.0f", ".2f", "d")


class Program(NamedTuple):
    """A compiled loop and the values it carries."""

    loop: Callable[[Any, int], Any]  # (carry, rounds) -> carry; donates the carry
    carry: Any
    compile_seconds: float


# --- programs ------------------------------------------------------------------------------------


def over_devices(count: int) -> NamedSharding:
    """A sharding of the batch of environments over the first devices, in equal parts."""
    return NamedSharding(
        Mesh(np.array(jax.devices()[:count]), ("environments",)), PartitionSpec("environments")
    )


def fill_program(num_envs: int, obs_size: int, sharding: NamedSharding) -> Program:
    """Compile the device's limit: a loop that only writes every byte of every frame.

    A GPU writes words of four bytes, three times as fast as bytes.
    """

    def single_bytes(values):
        return jnp.broadcast_to(values.astype(jnp.uint8)[:, None, None, None], shape)

    def words(values):
        filled = values.astype(jnp.uint32)[:, None, None] * np.uint32(0x01010101)
        filled = jnp.broadcast_to(filled, (num_envs, obs_size, obs_size * 3 // 4))
        return jax.lax.bitcast_convert_type(filled, jnp.uint8).reshape(shape)

    def round_(i, frames):
        return choose_way(single_bytes, words, (jnp.arange(num_envs) + i) & 255)

    shape = num_envs, obs_size, obs_size, 3
    frames = jnp.zeros(shape, jnp.uint8)
    return _compiled(looped(round_), frames, sharding)


def first_states(env: Environment, params: Any, num_envs: int) -> Any:
    """Reset a batch of environments: their states."""
    reset = jax.jit(lambda keys: jax.vmap(env.reset, in_axes=(0, None))(keys, params)[1])
    return reset(jax.random.split(jax.random.key(1), num_envs))


def step_program(
    env: Environment, params: Any, states: Any, with_frames: bool, sharding: NamedSharding
) -> Program:
    """Compile step_loop for states from first_states.

    Over several devices it is one program, sharded over the environments, which need no
    communication.
    """
    states = jax.tree.map(jnp.copy, states)  # the loop donates its carry
    return _compiled(
        step_loop(env, params), first_carry(env, params, states, with_frames), sharding
    )


def first_carry(env: Environment, params: Any, states: Any, with_frames: bool) -> Any:
    """What step_loop carries: (states, sums of rewards float32[num_envs], frames).

    states: batched, from first_states. The frames, uint8[num_envs, S, S, 3], are None unless
    ``with_frames``.
    """
    num_envs = states.time.shape[0]
    frames = jnp.zeros((num_envs, *env.observation_space(params).shape), jnp.uint8)
    return states, jnp.zeros(num_envs, jnp.float32), frames if with_frames else None


def step_loop(env: Environment, params: Any) -> Callable[[Any, Any], Any]:
    """A loop that steps all environments with fresh keys and random actions, not compiled.

    Returns a function (first_carry, rounds int32[]) -> the carry after as many steps. It drops the
    frames if they are None in the carry.
    """
    step = jax.vmap(env.step, in_axes=(0, 0, 0, None))
    sample = jax.vmap(env.action_space(params).sample)

    def round_(i, carry):
        state, total, frames = carry
        num_envs = total.shape[0]
        step_key, action_key = jax.random.split(jax.random.fold_in(jax.random.key(0), i))
        actions = sample(jax.random.split(action_key, num_envs))
        new_frames, state, reward, _, _ = step(
            jax.random.split(step_key, num_envs), state, actions, params
        )
        return state, total + reward, None if frames is None else new_frames

    return looped(round_)


def looped(round_: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A loop (carry, rounds) -> carry over ``round_``, (index, carry) -> carry."""
    return lambda carry, rounds: jax.lax.fori_loop(0, rounds, round_, carry)


def _compiled(loop: Callable[[Any, Any], Any], carry: Any, sharding: NamedSharding) -> Program:
    """Compile a loop, (carry, rounds) -> carry, with a sharded carry."""
    carry = jax.device_put(carry, sharding)
    start = time.perf_counter()
    shardings = jax.tree.map(lambda leaf: leaf.sharding, carry)
    jitted = jax.jit(loop, donate_argnums=0, out_shardings=shardings)
    compiled = jitted.lower(carry, 0).compile()
    return Program(compiled, carry, time.perf_counter() - start)


def run(program: Program, rounds: int) -> tuple[Program, float]:
    """Run a program for some rounds: (the program with its new carry, seconds)."""
    start = time.perf_counter()
    carry = jax.block_until_ready(program.loop(program.carry, rounds))
    return program._replace(carry=carry), time.perf_counter() - start


def calibrated(program: Program) -> tuple[Program, int]:
    """Warm a program up: (the program with its new carry, rounds that take RUN_SECONDS)."""
    rounds, elapsed = 1, 0.0
    while elapsed < RUN_SECONDS / 2:
        rounds *= 2
        program, elapsed = run(program, rounds)
    return program, max(1, round(rounds * RUN_SECONDS / elapsed))


# --- measurements --------------------------------------------------------------------------------


def measure(
    name: str, twins: Sequence[bool], options: argparse.Namespace, fill: tuple[Program, int]
) -> tuple[list[dict[str, Any]], tuple[Program, int]]:
    """Measure one environment next to the device's limit: (a row for each twin, fill).

    name: a registered environment. twins: their partial_obs. options: with num_envs, devices,
    obs_size and turns. fill: the calibrated fill_program; returned with its new carry.
    """
    env, params = make(name, obs_size=options.obs_size)
    states, sharding = first_states(env, params, options.num_envs), over_devices(options.devices)
    programs: dict[str | bool, tuple[Program, int]] = {
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
    turns: dict[str | bool, list[float]] = {what: [] for what in programs}
    for _ in range(options.turns):
        for what, (program, rounds) in programs.items():
            program, elapsed = run(program, rounds)
            programs[what] = program, rounds
            turns[what].append(rounds * options.num_envs / elapsed)
    rows = [_row(name, partial_obs, programs[partial_obs][0], turns) for partial_obs in twins]
    return rows, programs["fill"]


def _row(
    name: str, partial_obs: bool, program: Program, turns: Mapping[str | bool, Sequence[float]]
) -> dict[str, Any]:
    """The COLUMNS of one twin.

    turns: each program's frames or steps per second in every turn, the twin's under partial_obs.
    """
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


def machine(num_envs: int, obs_size: int, devices: int = 1) -> dict[str, Any]:
    """Describe the machine and the setting of a measurement."""
    device = jax.devices()[0]
    return {
        "device": f"{device.platform} ({device.device_kind})",
        "devices": devices,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "environments": num_envs,
        "obs_size": obs_size,
    }


# --- output --------------------------------------------------------------------------------------


def table_row(values: Sequence[str], widths: Sequence[int]) -> str:
    """A row of a Markdown table, aligned: the first two columns to the left, others right."""
    cells = [
        value.ljust(width) if i < 2 else value.rjust(width)
        for i, (value, width) in enumerate(zip(values, widths))
    ]
    return "| " + " | ".join(cells) + " |"


def _formatted(row: Mapping[str, Any]) -> list[str]:
    """The cells of a row as text."""
    return [format(row[column], spec) for column, spec in zip(COLUMNS, _FORMATS)]


def progress(done: int, total: int, what: str) -> None:
    """Draw a progress bar on stderr if it is a terminal. what: is being done."""
    if sys.stderr.isatty():
        width = 30
        bar = "#" * (width * done // total)
        print(
            f"\r[{bar:<{width}}] {done}/{total} {what:<30}",
            end="" if done < total else "\n",
            file=sys.stderr,
            flush=True,
        )


# --- the command ---------------------------------------------------------------------------------


def add_frame_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--obs-size`` and ``--partial``, one of TWINS_OF, to a command line."""
    parser.add_argument(
        "--obs-size",
        type=int,
        choices=OBS_SIZES,
        default=OBS_SIZES[0],
        help="frame size in pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--partial",
        choices=tuple(TWINS_OF),
        default="both",
        help="measure POMDPs (yes), MDPs (no) or both (default: %(default)s)",
    )


def _parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    parser = argparse.ArgumentParser(
        description="Measure frames per second of every environment, next to the device's limit."
    )
    add_games_option(parser)
    parser.add_argument(
        "--num-envs",
        type=spaces.number_argument(1),
        default=1024,
        metavar="N",
        help="parallel environments (default: %(default)s)",
    )
    parser.add_argument(
        "--devices",
        type=spaces.number_argument(1),
        default=1,
        metavar="N",
        help="devices to shard the environments over (default: %(default)s)",
    )
    add_frame_options(parser)
    parser.add_argument(
        "--turns",
        type=spaces.number_argument(1),
        default=5,
        metavar="N",
        help="timed runs of each program; figures are medians (default: %(default)s)",
    )
    parser.add_argument(
        "--json",
        type=file_argument,
        metavar="PATH",
        help="also write the report to this JSON file",
    )
    return parser


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; ``names`` and ``twins`` are derived. Bad input exits with 2."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        options.names = matching_names(options.games)
        _check_devices(options)
    except ValueError as error:
        parser.error(str(error))
    options.twins = TWINS_OF[options.partial]
    return options


def _check_devices(options: argparse.Namespace) -> None:
    """Raise ValueError unless the devices exist and get equal numbers of environments."""
    spaces.check_range(
        "--devices",
        options.devices,
        1,
        jax.device_count(),
        ", the devices of this machine (a CPU can simulate more: "
        f"XLA_FLAGS=--xla_force_host_platform_device_count={options.devices})",
    )
    spaces.check_multiple("--num-envs", options.num_envs, "--devices", options.devices)


@output_may_be_cut()
def main() -> None:
    """Run the benchmark from the command line."""
    benchmark(sys.argv[1:])


def benchmark(arguments: Sequence[str]) -> dict[str, Any]:
    """Run the benchmark and print its table: the report that ``--json`` writes.

    arguments: as on the command line.
    """
    options = _parse(arguments)
    report: dict[str, Any] = {
        "machine": machine(options.num_envs, options.obs_size, options.devices),
        "rows": [],
    }
    print(", ".join(f"{key} {value}" for key, value in report["machine"].items()), flush=True)
    head = COLUMNS, ["---"] * len(COLUMNS)
    print(*(table_row(values, _WIDTHS) for values in head), sep="\n", flush=True)
    sharding = over_devices(options.devices)
    fill = calibrated(fill_program(options.num_envs, options.obs_size, sharding))
    for done, name in enumerate(options.names):
        progress(done, len(options.names), name)
        rows, fill = measure(name, options.twins, options, fill)
        report["rows"].extend(rows)
        print(*(table_row(_formatted(row), _WIDTHS) for row in rows), sep="\n", flush=True)
    progress(len(options.names), len(options.names), "done")
    ratios = [row["ratio"] for row in report["rows"]]
    report["lowest ratio"] = min(ratios)
    report["mean ratio"] = math.exp(statistics.mean(map(math.log, ratios)))
    print(
        f"ratio to the limit: lowest {report['lowest ratio']:.2f}, "
        f"geometric mean {report['mean ratio']:.2f}"
    )
    if options.json:
        try:
            write_files({options.json: json.dumps(report, indent=2).encode()})
        except OSError as error:
            end_command("popgym-arcade-bench", error)
    return report


if __name__ == "__main__":
    main()
