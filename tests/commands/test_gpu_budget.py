"""Tests of commands/gpu_budget.py: the model's sums, its budget, and loops compiled for a GPU."""

import json
import os
import subprocess
import sys

import pytest

from popgym_arcade.commands import gpu_budget
from popgym_arcade.commands.gpu_budget import LAUNCH_SECONDS, Cost, program_cost
from popgym_arcade.commands.gpu_program import TARGETS, Code, Instruction, Program, Thunk
from tests.testing import ROOT, gpu_compiler

H100 = TARGETS["h100"]
SMALL, LARGE = 1000, 60 * 2**20  # bytes of an array; the L2 cache holds 50 MiB
INSTRUCTIONS = {
    "small": Instruction([SMALL], [], None),
    "large": Instruction([LARGE, SMALL], [], None),
    "add": Instruction([SMALL], ["small"], None),
    "sum": Instruction([4], ["large", "small"], None),
    "seven": Instruction([SMALL], [], 7),
    "unknown": Instruction([SMALL], [], None),
}
KERNELS = {"short": Code(10, False), "long": Code(10_000, False), "looping": Code(10, True)}


def cost(*thunks, target=H100):
    """What a round of a loop costs whose body consists of (kind, instruction, kernel, threads).

    Instead of these four, a part may be (kind, instruction, {name: parts}).
    """
    names = {}

    def made(kind, name, kernel="", threads=0):
        number = len(names) + 1
        names[number] = name
        parts = {}
        if isinstance(kernel, dict):
            kernel, parts = "", {part: [made(*each) for each in of] for part, of in kernel.items()}
        return Thunk(number, kind, kernel, threads, parts)

    body = [made(*thunk) for thunk in thunks]
    loop = Thunk(0, "kWhile", "", 0, {"condition": [], "body": body})
    return program_cost(Program([loop], names, INSTRUCTIONS, KERNELS), target)


ADD = ("kCustomKernel", "add", "short", 128)
COPY = ("kCopy", "sum")


def test_a_small_kernel_costs_a_launch():
    assert cost(ADD) == pytest.approx(
        Cost(1, SMALL, 1280, 0, LAUNCH_SECONDS + SMALL / H100.bandwidth)
    )


@pytest.mark.parametrize("target", TARGETS.values())
def test_a_kernel_takes_as_long_as_its_bytes_or_its_instructions(target):
    large = LARGE + SMALL
    bytes_ = cost(("kCustomKernel", "large", "short", 128), target=target)
    assert bytes_.seconds == pytest.approx(LAUNCH_SECONDS + large / target.bandwidth)
    issued = cost(("kCustomKernel", "large", "long", 10**8), target=target)
    assert issued.instructions == 10**12
    assert issued.seconds == pytest.approx(LAUNCH_SECONDS + 10**12 / target.issue_rate)


def test_reads_count_if_the_l2_cache_cannot_hold_the_array():
    assert cost(COPY).bytes == 4 + LARGE
    assert cost(COPY, target=TARGETS["rtx4090"]).bytes == 4  # its cache holds 72 MiB
    assert cost(("kMemzero", "add")).bytes == SMALL


def test_a_copy_is_a_launch_without_instructions():
    copied = cost(COPY)
    assert (copied.launches, copied.instructions) == (1, 0)


def test_the_body_of_a_loop_counts_by_its_rounds():
    body = {"condition": [ADD], "body": [ADD, COPY]}
    once, looped = cost(ADD, COPY), cost(ADD, ("kWhile", "seven", body))
    assert looped.launches == 1 + 7 * 2
    assert looped.bytes == SMALL + 7 * once.bytes
    assert looped.seconds == pytest.approx(cost(ADD).seconds + 7 * once.seconds)
    nested = cost(("kWhile", "seven", {"condition": [], "body": [("kWhile", "seven", body)]}))
    assert nested.launches == 7 * 7 * 2


def test_of_branches_the_slowest_counts():
    fast, slow = [ADD, ADD], [("kCustomKernel", "add", "long", 10**8)]
    for branches in ({"a": fast, "b": slow}, {"a": slow, "b": fast}):
        assert cost(("kConditional", "add", branches)) == cost(*slow)


def test_all_within_other_blocks_counts():
    assert cost(("kCommandBuffer", "", {"": [ADD, COPY]}), ADD) == cost(ADD, COPY, ADD)


def test_only_loops_in_kernels_that_do_not_fit_the_gpu_are_told():
    resident = H100.processors * H100.threads
    assert cost(("kCustomKernel", "add", "looping", resident)).loops == 0
    assert cost(("kCustomKernel", "add", "looping", resident + 1)).loops == 1
    assert cost(("kCustomKernel", "add", "short", resident + 1)).loops == 0


@pytest.mark.parametrize(
    ("thunk", "words"),
    [
        (("kCustomKernel", "add", "absent", 1), "no machine code of the kernel absent"),
        (("kCopy", "absent"), "no HLO instruction 'absent'"),
        (("kCustomCall", "add"), "the cost of a kCustomCall is unknown: add"),
        (
            ("kWhile", "unknown", {"condition": [], "body": [ADD]}),
            "rounds of a loop within a step are unknown: unknown",
        ),
    ],
)
def test_what_cannot_be_counted_is_an_error(thunk, words):
    with pytest.raises(RuntimeError, match=words):
        cost(ADD, thunk)


def test_a_program_that_is_no_loop_is_an_error():
    with pytest.raises(RuntimeError, match="should be one loop, but XLA made 0"):
        program_cost(Program([], {}, {}, {}), H100)


# --- the budget ----------------------------------------------------------------------------------

ROW = {"environment": "NavigatorEasy", "twin": "MDP", "envs": 4096}
WITHIN = {**ROW, "kernels": 56, "moved": 1.1, "loops": 0, "ratio": 0.5}


def report(*rows):
    """A report with these rows, and its summary."""
    envs = dict.fromkeys(row["envs"] for row in rows)
    return {"rows": rows, "summary": [gpu_budget._summary(rows, each) for each in envs]}


def test_figures_at_the_bars_are_within_the_budget():
    lowest = {**WITHIN, "ratio": 0.2}
    assert gpu_budget.violations(report(WITHIN, {**WITHIN, "ratio": 0.9}, lowest)) == []


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ({"kernels": 57}, "kernels 57, not at most 56"),
        ({"moved": 1.11}, "moved 1.11, not at most 1.1"),
        ({"loops": 1}, "loops 1, not at most 0"),
        ({"ratio": 0.19}, "ratio 0.19, not at least 0.2"),
        ({"kernels": 60, "loops": 2}, "kernels 60, not at most 56; loops 2, not at most 0"),
    ],
)
def test_a_row_over_budget_is_named_with_its_figures(figures, message):
    broken = {**WITHIN, "environment": "TetrisHard", **figures}
    fast = {**WITHIN, "ratio": 1.0}
    assert gpu_budget.violations(report(WITHIN, broken, fast)) == [
        f"TetrisHard MDP at 4096 environments: {message}"
    ]


def test_the_mean_is_held_at_each_number_of_environments():
    rows = [{**WITHIN, "envs": 64, "ratio": ratio} for ratio in (0.2, 0.3)]
    assert gpu_budget.violations(report(WITHIN, *rows)) == [
        "geometric mean at 64 environments: 0.2449, not at least 0.29"
    ]


def test_the_summary_is_of_the_rows_with_a_number_of_environments():
    rows = [{**WITHIN, "ratio": 0.2}, {**WITHIN, "ratio": 0.8, "kernels": 9}, {**WITHIN, "envs": 1}]
    assert gpu_budget._summary(rows, 4096) == {
        "envs": 4096,
        "geometric mean": pytest.approx(0.4),
        "most kernels": 56,
        "lowest ratio": 0.2,
    }


# --- the command ---------------------------------------------------------------------------------


def run(monkeypatch, *arguments, rows=(WITHIN,)):
    """Run the command with these rows instead of compiled ones: (its jobs, its report)."""
    asked = []

    def answer(jobs, target, obs_size, processes):
        asked.extend(jobs)
        for row in rows:
            yield {"instr/B": 1.0, "frames/s": 1e6, "limit": 2e6, **row}

    monkeypatch.setattr(gpu_budget, "_rows", answer)
    monkeypatch.setattr(gpu_budget, "check_compiler", lambda: None)
    return asked, gpu_budget.budget(arguments)


def test_the_report_is_printed_and_written(monkeypatch, tmp_path, capsys):
    path = tmp_path / "budget.json"
    jobs, written = run(
        monkeypatch,
        *("--games", "navigatorE", "--num-envs", "4096", "--json", str(path)),
    )
    assert jobs == [("NavigatorEasy", False, 4096), ("NavigatorEasy", True, 4096)]
    assert json.loads(path.read_text()) == written
    assert set(written["rows"][0]) == set(gpu_budget.COLUMNS)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("a model, nothing is measured: target NVIDIA H100")
    assert printed[3].startswith("| NavigatorEasy          | MDP   |   4096 |      56 |  1.10 |")
    assert (
        printed[4] == "4096 environments: geometric mean 0.50, most kernels 56, lowest ratio 0.50"
    )


def test_each_number_of_environments_has_its_rows(monkeypatch):
    rows = [WITHIN, {**WITHIN, "envs": 64}]
    jobs, _ = run(
        monkeypatch,
        *("--games", "NavigatorEasy", "--num-envs", "4096", "64", "--partial", "yes"),
        rows=rows,
    )
    assert jobs == [("NavigatorEasy", True, 4096), ("NavigatorEasy", True, 64)]


def test_a_check_exits_with_1_only_over_budget(monkeypatch, capsys, tmp_path):
    run(monkeypatch, "--check")
    path = tmp_path / "budget.json"
    broken = {**WITHIN, "kernels": 57}
    run(monkeypatch, rows=[broken])
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--check", "--json", str(path), rows=[broken])
    assert ended.value.code == 1 and path.exists()
    assert "NavigatorEasy MDP at 4096 environments: kernels 57" in capsys.readouterr().err


def test_without_a_compiler_the_command_ends_with_a_way_to_install_it(monkeypatch, capsys):
    def missing():
        raise RuntimeError("ptxas is missing; install it")

    monkeypatch.setattr(gpu_budget, "check_compiler", missing)
    with pytest.raises(SystemExit) as ended:
        gpu_budget.budget([])
    assert ended.value.code == 2 and "ptxas is missing; install it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--games", "Navigater"], ["'Navigater'", "NavigatorEasy"]),
        (["--num-envs", "0"], ["must be at least 1, but it is 0"]),
        (["--target", "a100"], ["h100", "rtx4090"]),
        (["--obs-size", "100"], ["128", "256"]),
    ],
)
def test_bad_options_exit_with_what_is_allowed(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        gpu_budget.budget(arguments)
    printed = capsys.readouterr().err
    assert ended.value.code == 2 and all(word in printed for word in words), printed


# --- with XLA's compiler -------------------------------------------------------------------------


FLAG_OF_A_USER = "--xla_backend_optimization_level=0"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """What the loops of gpu_programs.py cost: {name: figures of a Cost, or an error}."""
    gpu_compiler()
    command = [sys.executable, ROOT / "tests" / "commands" / "gpu_programs.py"]
    cache = tmp_path_factory.mktemp("cache")
    environment = {
        **os.environ,
        "XLA_FLAGS": FLAG_OF_A_USER,
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    run = subprocess.run(
        [*command, tmp_path_factory.mktemp("dump")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    return {**json.loads(run.stdout), "cached": list(cache.iterdir())}


def test_what_a_user_sets_for_other_programs_does_not_matter(compiled):
    assert FLAG_OF_A_USER not in compiled["flags"] and not compiled["cached"]


def test_a_fill_is_one_kernel_that_moves_its_bytes(compiled):
    # The loop's counter is two more, of one thread each: its next value, and the byte.
    assert compiled["fill"]["launches"] == 1 + 2
    assert compiled["fill"]["bytes"] == 1024 * 49152 + 4 + 1


def test_reductions_that_depend_on_each_other_are_two_kernels(compiled):
    # And the sum with x, and the counter.
    assert compiled["two_reductions"]["launches"] == 2 + 2
    assert compiled["two_reductions"]["bytes"] == 4 * (4096 + 1 + 4096 * 64 + 1)


def test_a_compiled_loop_counts_by_its_rounds(compiled):
    # Each round has the sine and the inner counter, which is copied once from a constant.
    assert compiled["seven_rounds"]["launches"] == 7 * 2 + 2
    assert compiled["seven_rounds"]["bytes"] == 7 * 4 * (4096 + 1) + 4 * 2


def test_the_slow_one_of_compiled_branches_counts(compiled):
    # A sum of 4,096 numbers takes three kernels, the other branch one. The rest: the counter, the
    # predicate and a copy of the result.
    assert compiled["either_branch"]["launches"] == 3 + 3


def test_arrays_beyond_the_cache_are_read_from_memory_and_a_kernels_loop_is_found(compiled):
    # x is read twice and written once, and there are the sums and the counter.
    assert compiled["long_columns"]["bytes"] == 4 * (3 * 4096 * 65536 + 65536 + 1)
    assert compiled["long_columns"]["loops"] == 1


def test_compiled_programs_that_cannot_be_counted_are_errors(compiled):
    assert compiled["unknown_rounds"].startswith("the rounds of a loop within a step are unknown")
    assert compiled["library"].startswith("the cost of a kCustomCall is unknown: cholesky")


def test_an_environments_step_is_predicted(tmp_path):
    gpu_compiler()
    command = [sys.executable, "-m", "popgym_arcade.commands.gpu_budget", "--games", "NavigatorE"]
    path = tmp_path / "budget.json"
    for target in ("h100", "rtx4090"):
        run = subprocess.run(
            [*command, "--partial", "yes", "--target", target, "--json", str(path)],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert run.returncode == 0, run.stderr
        (row,) = json.loads(path.read_text())["rows"]
        assert (row["environment"], row["twin"], row["envs"]) == ("NavigatorEasy", "POMDP", 4096)
        assert row["limit"] == pytest.approx(TARGETS[target].bandwidth / (128 * 128 * 3))
        assert row["moved"] >= 1 and row["kernels"] >= 2 and row["loops"] == 0
        assert 0 < row["ratio"] < 1 / row["moved"]
        assert row["ratio"] == pytest.approx(row["frames/s"] / row["limit"])
