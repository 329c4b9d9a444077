"""The budget: what a step should cost on an NVIDIA GPU, by a model; no GPU is needed.

``python -m popgym_arcade.commands.gpu_budget`` compiles the benchmark's loop of each environment
for a GPU (auto-reset, fresh keys and random actions, every frame kept), reads what would be
launched there, and predicts how long a step of the whole batch takes. Nothing is measured. By the
model a launch takes::

    LAUNCH_SECONDS + max(bytes moved / bandwidth, instructions / issue rate)

* The bytes moved are all that it writes, and the arrays it reads that the L2 cache cannot hold. An
  update in place counts as its whole array.
* The instructions are the threads times those in the kernel's machine code, as if each thread ran
  every branch.
* Loops around launches count by their rounds; of a branch around launches the slowest way counts.
* Latency, occupancy, other caches, and instructions that take more than one cycle are left out, so
  it is for comparing designs.

Columns:

* envs: environments in the batch.
* kernels: launches per step, copies included.
* moved: bytes moved over the bytes of the frames.
* instr/B: machine instructions over the bytes of the frames.
* loops: kernels with more threads than the GPU holds and a loop in their own machine code. How
  often it runs is unknown and it counts once, so the prediction is too good.
* frames/s: frames per second.
* limit: the same if only the bytes of the frames counted: bandwidth / bytes of a frame.
* ratio: frames/s divided by limit.
"""

import argparse
import functools
import json
import math
import multiprocessing
import operator
import os
import statistics
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax

from popgym_arcade import bench
from popgym_arcade.commands.files import end_command, file_argument, output_may_be_cut, write_files
from popgym_arcade.commands.gpu_program import (
    TARGETS,
    Instruction,
    Program,
    Target,
    Thunk,
    check_compiler,
    compile_loop,
)
from popgym_arcade.registry import add_games_option, make, matching_names, twin_name
from popgym_arcade.spaces import number_argument

__all__ = [
    "BARS",
    "COLUMNS",
    "LAUNCH_SECONDS",
    "LEAST_MEAN_RATIO",
    "LEAST_RATIO",
    "MOST_KERNELS",
    "MOST_LOOPS",
    "MOST_MOVED",
    "Cost",
    "budget",
    "main",
    "program_cost",
    "violations",
]

LAUNCH_SECONDS: float = 2e-6
"""Seconds from the end of a kernel to the start of the next, which depends on it."""

# What is reached. The aim is 0.3, 0.5, 20 and 1.15: lower no bar, and raise it with what is gained.
LEAST_RATIO: float = 0.2
LEAST_MEAN_RATIO: float = 0.29  # the geometric mean, at each number of environments
MOST_KERNELS: int = 56
MOST_MOVED: float = 1.1
MOST_LOOPS: int = 0

BARS: dict[str, tuple[str, float]] = {
    "ratio": ("at least", LEAST_RATIO),
    "kernels": ("at most", MOST_KERNELS),
    "moved": ("at most", MOST_MOVED),
    "loops": ("at most", MOST_LOOPS),
}
"""The budget of each row."""

COLUMNS: tuple[str, ...] = (
    "environment",
    "twin",
    "envs",
    "kernels",
    "moved",
    "instr/B",
    "loops",
    "frames/s",
    "limit",
    "ratio",
)
"""The keys of a row of the report."""

_WIDTHS = (22, 5, 6, 7, 5, 7, 5, 11, 11, 5)  # of the COLUMNS in the printed table
_FORMATS = ("", "", "d", "d", ".2f", ".1f", "d", ",.0f", ",.0f", ".2f")


# --- the model -----------------------------------------------------------------------------------


class Cost(NamedTuple):
    """What a piece of a program costs, for the whole batch."""

    launches: int = 0
    bytes: int = 0  # moved
    instructions: int = 0  # of all threads
    loops: int = 0  # launches of large kernels that loop in their own machine code
    seconds: float = 0.0


_KERNELS = {"kCustomKernel", "kKernel"}
_COPIES = {"kCopy", "kDeviceToDeviceCopy", "kMemset32BitValue", "kMemzero"}


def program_cost(program: Program, target: Target) -> Cost:
    """The cost of one round of a program that is a loop over any number of rounds.

    Raises RuntimeError if the program has something whose cost is unknown.
    """
    loops = [thunk for thunk in program.thunks if thunk.kind == "kWhile"]
    if len(loops) != 1:
        raise RuntimeError(f"a program should be one loop, but XLA made {len(loops)} of it")
    return _cost_of_all(loops[0].parts["body"], program, target)


def _cost_of_all(thunks: Iterable[Thunk], program: Program, target: Target) -> Cost:
    """The cost of thunks one after another."""
    return _total(_cost(thunk, program, target) for thunk in thunks)


def _total(costs: Iterable[Cost]) -> Cost:
    """The sum of costs."""
    return jax.tree.map(lambda *figures: sum(figures), Cost(), *costs)


def _cost(thunk: Thunk, program: Program, target: Target) -> Cost:
    """The cost of a thunk with its parts."""
    parts = {name: _cost_of_all(part, program, target) for name, part in thunk.parts.items()}
    if thunk.kind == "kWhile":
        name = program.names.get(thunk.number, "")
        rounds = _instruction(name, program).rounds
        if rounds is None:
            raise RuntimeError(f"the rounds of a loop within a step are unknown: {name}")
        # Where the rounds are known, no condition is computed.
        return jax.tree.map(lambda figure: rounds * figure, parts["body"])
    if thunk.kind == "kConditional":
        return max(parts.values(), key=operator.attrgetter("seconds"))
    return _total(parts.values()) if parts else _launch(thunk, program, target)


def _launch(thunk: Thunk, program: Program, target: Target) -> Cost:
    """The cost of a kernel or a copy."""
    name = program.names.get(thunk.number, "")
    instructions, has_loop = 0, False
    if thunk.kind in _KERNELS:
        if thunk.kernel not in program.kernels:
            raise RuntimeError(f"there is no machine code of the kernel {thunk.kernel}")
        instructions, has_loop = program.kernels[thunk.kernel]
    elif thunk.kind not in _COPIES:
        raise RuntimeError(f"the cost of a {thunk.kind} is unknown: {name}")
    moved, issued = _moved(name, program, target), thunk.threads * instructions
    return Cost(
        launches=1,
        bytes=moved,
        instructions=issued,
        loops=int(has_loop and thunk.threads > target.processors * target.threads),
        seconds=LAUNCH_SECONDS + max(moved / target.bandwidth, issued / target.issue_rate),
    )


def _moved(name: str, program: Program, target: Target) -> int:
    """The bytes that an HLO instruction writes, and those it reads past the L2 cache."""
    instruction = _instruction(name, program)
    operands = (_instruction(operand, program) for operand in instruction.operands)
    read = (size for operand in operands for size in operand.results if size > target.l2)
    return sum(instruction.results) + sum(read)


def _instruction(name: str, program: Program) -> Instruction:
    """An HLO instruction. Raises RuntimeError if XLA did not print it."""
    if name not in program.instructions:
        raise RuntimeError(f"there is no HLO instruction {name!r}")
    return program.instructions[name]


# --- the report ----------------------------------------------------------------------------------


def _row(target: Target, obs_size: int, dump: Path, job: tuple[str, bool, int]) -> dict[str, Any]:
    """The COLUMNS of a job, (environment, partial_obs, number of environments).

    dump: a folder, for the files of this and other processes.
    """
    name, partial_obs, num_envs = job
    env, params = make(name, partial_obs=partial_obs, obs_size=obs_size)
    carry = jax.eval_shape(
        lambda: bench.first_carry(env, params, bench.first_states(env, params, num_envs), True)
    )
    own = dump / str(os.getpid())
    own.mkdir(exist_ok=True)
    cost = program_cost(compile_loop(bench.step_loop(env, params), carry, target, own), target)
    frame = math.prod(env.observation_space(params).shape)
    predicted, limit = num_envs / cost.seconds, target.bandwidth / frame
    return {
        "environment": name,
        "twin": twin_name(partial_obs),
        "envs": num_envs,
        "kernels": cost.launches,
        "moved": cost.bytes / (num_envs * frame),
        "instr/B": cost.instructions / (num_envs * frame),
        "loops": cost.loops,
        "frames/s": predicted,
        "limit": limit,
        "ratio": predicted / limit,
    }


def _rows(
    jobs: Sequence[tuple[str, bool, int]], target: Target, obs_size: int, processes: int
) -> Iterable[dict[str, Any]]:
    """The rows of jobs in their order, computed by several processes."""
    with (
        tempfile.TemporaryDirectory(prefix="popgym-arcade-budget-") as dump,
        ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool,
    ):
        yield from pool.map(functools.partial(_row, target, obs_size, Path(dump)), jobs)


def _summary(rows: Sequence[Mapping[str, Any]], num_envs: int) -> dict[str, Any]:
    """The figures of all rows with a number of environments."""
    rows = [row for row in rows if row["envs"] == num_envs]
    return {
        "envs": num_envs,
        "geometric mean": math.exp(statistics.mean(math.log(row["ratio"]) for row in rows)),
        "most kernels": max(row["kernels"] for row in rows),
        "lowest ratio": min(row["ratio"] for row in rows),
    }


def violations(report: Mapping[str, Any]) -> list[str]:
    """Where a report breaks the budget: a line per row, and per number of environments."""
    lines = []
    for row in report["rows"]:
        broken = [
            f"{column} {row[column]:.4g}, not {which} {bar}"
            for column, (which, bar) in BARS.items()
            if (row[column] < bar if which == "at least" else row[column] > bar)
        ]
        if broken:
            where = f"{row['environment']} {row['twin']} at {row['envs']} environments"
            lines.append(f"{where}: {'; '.join(broken)}")
    lines.extend(
        f"geometric mean at {each['envs']} environments: {each['geometric mean']:.4g}, "
        f"not at least {LEAST_MEAN_RATIO}"
        for each in report["summary"]
        if each["geometric mean"] < LEAST_MEAN_RATIO
    )
    return lines


# --- the command ---------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m popgym_arcade.commands.gpu_budget",
        description="Predict what a step of every environment costs on a GPU, without a GPU: by a "
        "model, from the compiled program. Nothing is measured.",
    )
    add_games_option(parser)
    bench.add_frame_options(parser)
    parser.add_argument(
        "--num-envs",
        nargs="+",
        type=number_argument(1),
        default=[4096],
        metavar="N",
        help="numbers of parallel environments (default: 4096)",
    )
    parser.add_argument(
        "--target",
        choices=tuple(TARGETS),
        default="h100",
        help="GPU to compile for (default: %(default)s)",
    )
    parser.add_argument(
        "--jobs",
        type=number_argument(1),
        default=os.cpu_count() or 1,
        metavar="N",
        help="programs to compile at the same time (default: %(default)s, the CPU's cores)",
    )
    parser.add_argument(
        "--json",
        type=file_argument,
        metavar="PATH",
        help="also write the report to this JSON file",
    )
    bars = ", ".join(f"{column} {which} {bar}" for column, (which, bar) in BARS.items())
    parser.add_argument(
        "--check",
        action="store_true",
        help=f"exit with 1 if a row breaks the budget ({bars}), or if the geometric mean of the "
        f"ratios is less than {LEAST_MEAN_RATIO}",
    )
    return parser


@output_may_be_cut()
def main() -> None:
    """Run the command from the command line."""
    budget(sys.argv[1:])


def budget(arguments: Sequence[str]) -> dict[str, Any]:
    """Run the command and print its table: the report that ``--json`` writes.

    arguments: as on the command line. Bad ones exit with 2, and so does a compiler that is missing
    or does something unexpected.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        options.names = matching_names(options.games)
    except ValueError as error:
        parser.error(str(error))
    try:
        check_compiler()
        report = _print_report(options)
        if options.json:
            write_files({options.json: json.dumps(report, indent=2).encode()})
    except (RuntimeError, OSError) as error:
        end_command(parser.prog, error)
    broken = violations(report) if options.check else []
    if broken:
        print(f"{parser.prog}: over budget:", *broken, sep="\n  ", file=sys.stderr)
        sys.exit(1)
    return report


def _print_report(options: argparse.Namespace) -> dict[str, Any]:
    """Print the table, row by row: the report."""
    target, rows = TARGETS[options.target], []
    model = {"target": target.name, "jax": jax.__version__, "obs_size": options.obs_size}
    print("a model, nothing is measured:", ", ".join(f"{key} {model[key]}" for key in model))
    head = COLUMNS, ["---"] * len(COLUMNS)
    print(*(bench.table_row(values, _WIDTHS) for values in head), sep="\n", flush=True)
    jobs = [
        (name, partial_obs, num_envs)
        for num_envs in options.num_envs
        for name in options.names
        for partial_obs in bench.TWINS_OF[options.partial]
    ]
    for row in _rows(jobs, target, options.obs_size, min(options.jobs, len(jobs))):
        rows.append(row)
        cells = [format(row[column], spec) for column, spec in zip(COLUMNS, _FORMATS)]
        print(bench.table_row(cells, _WIDTHS), flush=True)
        bench.progress(len(rows), len(jobs), row["environment"])
    summary = [_summary(rows, num_envs) for num_envs in options.num_envs]
    for figures in summary:
        print(
            f"{figures['envs']} environments: geometric mean {figures['geometric mean']:.2f}, "
            f"most kernels {figures['most kernels']}, lowest ratio {figures['lowest ratio']:.2f}"
        )
    return {"model": model, "rows": rows, "summary": summary}


if __name__ == "__main__":
    main()
