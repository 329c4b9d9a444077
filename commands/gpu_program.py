"""What XLA makes of a loop for an NVIDIA GPU, compiled ahead of time, without a GPU.

XLA dumps a sequence of thunks (the launches, and the loops and branches around them), the HLO
instructions that they come from, and the kernels in PTX. NVIDIA's ptxas and nvdisasm turn these
into machine code. This module compiles a loop and reads all that; ``gpu_budget`` says what it
costs.

The figures of the targets are from NVIDIA's white papers and data sheets of the H100 (SXM) and the
GeForce RTX 4090 (Ada), and from the CUDA programming guide's table of compute capabilities. A fill
reaches nine tenths of the bandwidth on paper. Under load an H100 does not keep its highest clock,
so instructions issue at the boost clock of its PCIe card.
"""

import functools
import importlib.metadata
import importlib.util
import math
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = [
    "TARGETS",
    "Code",
    "Instruction",
    "Program",
    "Target",
    "Thunk",
    "check_compiler",
    "compile_loop",
    "read_code",
    "read_instructions",
    "read_names",
    "read_thunks",
]


class Target(NamedTuple):
    """A GPU that programs are compiled for."""

    name: str
    capability: tuple[int, int]  # compute capability: (major, minor)
    processors: int  # streaming multiprocessors, each of which issues for 4 warps per cycle
    threads: int  # that a multiprocessor holds
    highest_clock: float  # GHz
    clock: float  # GHz at which instructions issue
    memory: int  # bytes
    paper_bandwidth: float  # bytes/s
    bandwidth: float  # bytes/s that a fill reaches
    l2: int  # bytes of the L2 cache
    shared: int  # bytes of shared memory of a multiprocessor

    @property
    def issue_rate(self) -> float:
        """Instructions of single threads per second."""
        return self.processors * 4 * 32 * self.clock * 1e9


TARGETS: dict[str, Target] = {
    "h100": Target(
        name="NVIDIA H100 80GB HBM3",
        capability=(9, 0),
        processors=132,
        threads=2048,
        highest_clock=1.98,
        clock=1.755,
        memory=84_942_979_072,
        paper_bandwidth=3.35232e12,
        bandwidth=3.0e12,
        l2=50 * 2**20,
        shared=228 * 2**10,
    ),
    "rtx4090": Target(
        name="NVIDIA GeForce RTX 4090",
        capability=(8, 9),
        processors=128,
        threads=1536,
        highest_clock=2.52,
        clock=2.52,
        memory=24 * 2**30,
        paper_bandwidth=1.008e12,
        bandwidth=0.9 * 1.008e12,
        l2=72 * 2**20,
        shared=100 * 2**10,
    ),
}
"""The targets by their names on the command line."""

# What XLA's compiler asks of a GPU, as a protobuf in text form.
_DESCRIPTION = """
gpu_device_info {{
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  name: "{target.name}" device_vendor: "NVIDIA Corporation"
  core_count: {target.processors} fpus_per_core: 128 clock_rate_ghz: {target.highest_clock}
  device_memory_size: {target.memory} memory_bandwidth: {target.paper_bandwidth:.0f}
  l2_cache_size: {target.l2}
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: {target.threads}
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_block: 49152 shared_memory_per_core: {target.shared}
  shared_memory_per_block_optin: {optin}
  driver_version: "13.0.0" runtime_version: "12.8.0" compile_time_toolkit_version: "12.8.0"
  dnn_version: "9.10.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
runtime_version {{ major: 12 minor: 8 }}
device_description_str: "{target.name}"
"""


class Thunk(NamedTuple):
    """A step of a program: a launch, or a block of other thunks."""

    number: int
    kind: str  # e.g. kCustomKernel, kCopy, kWhile
    kernel: str  # its name in the machine code; "" if the thunk is no kernel
    threads: int
    parts: dict[str, list["Thunk"]]  # of a block: e.g. condition and body


class Instruction(NamedTuple):
    """An HLO instruction."""

    results: list[int]  # bytes of each array
    operands: list[str]
    rounds: int | None  # of a loop, if known


class Code(NamedTuple):
    """A kernel's machine code."""

    instructions: int
    has_loop: bool


class Program(NamedTuple):
    """A compiled program."""

    thunks: list[Thunk]
    names: dict[int, str]  # of the HLO instruction that a thunk comes from, by the thunk's number
    instructions: dict[str, Instruction]
    kernels: dict[str, Code]


# --- reading what XLA and nvdisasm print ---------------------------------------------------------

_THUNK = re.compile(r"( *)(\d+): (k\w+) +\[[^]]*\] *(.*)")
_KERNEL = re.compile(r"(\S+) grid: \[([\d, ]+)\] threads: \[([\d, ]+)\]")
_PART = re.compile(r"( *)(\w+):")


def read_thunks(text: str) -> list[Thunk]:
    """Read XLA's sequence of thunks, in which the parts of a block are indented."""
    root: dict[str, list[Thunk]] = {}
    blocks = [(-1, root)]  # those that may go on: (indentation, parts)
    for line in map(str.rstrip, text.split("\n")):
        if named := _PART.fullmatch(line):
            # A condition comes right after its loop, others further right than their block.
            while named[2] != "condition" and blocks[-1][0] > len(named[1]):
                blocks.pop()
            blocks[-1][1][named[2]] = []
        elif line:
            indent, thunk = _thunk(line)
            while blocks[-1][0] >= indent:
                blocks.pop()
            parts = blocks[-1][1]
            parts.setdefault(next(reversed(parts), ""), []).append(thunk)
            blocks.append((indent, thunk.parts))
    return root.get("", [])


def _thunk(line: str) -> tuple[int, Thunk]:
    """Read a line of the sequence of thunks: (its indentation, the thunk without its parts)."""
    parsed = _THUNK.fullmatch(line)
    if parsed is None:
        raise RuntimeError(f"cannot read a line of XLA's sequence of thunks: {line!r}")
    indent, number, kind, rest = parsed.groups()
    launch = _KERNEL.match(rest)
    kernel = launch[1] if launch else ""
    threads = math.prod(map(int, f"{launch[2]}, {launch[3]}".split(", "))) if launch else 0
    return len(indent), Thunk(int(number), kind, kernel, threads, {})


def read_names(metadata: str) -> dict[int, str]:
    """Read what thunks come from: {number: name of the HLO instruction}."""
    found = re.findall(r'profile_annotation: "([^"]*)"\s+thunk_id: (\d+)', metadata)
    return {int(number): name for name, number in found}


_HLO = re.compile(r"^ *(?:ROOT )?%(\S+) = (\(.*?\)|\S+) [\w-]+\(([^)]*)\)(.*)", re.MULTILINE)
_ROUNDS = re.compile(r'"known_trip_count":{"n":"(\d+)"}')
_ITEM_BYTES = {"pred": 1, "token": 0}


def read_instructions(hlo: str) -> dict[str, Instruction]:
    """Read an HLO module: {name: instruction}."""
    found = {}
    for name, shape, operands, rest in _HLO.findall(hlo):
        rounds = _ROUNDS.search(rest)
        found[name] = Instruction(
            _array_bytes(shape),
            re.findall(r"%([^\s,]+)", operands),
            int(rounds[1]) if rounds else None,
        )
    return found


def _array_bytes(shape: str) -> list[int]:
    """The bytes of each array in a shape: "(f32[8,2]{1,0}, pred[])" -> [64, 1]."""
    sizes = []
    for dtype, dimensions in re.findall(r"(\w+)\[([\d,]*)\]", shape):
        bits = re.match(r"[a-z]+(\d+)", dtype)
        item = math.ceil(int(bits[1]) / 8) if bits else _ITEM_BYTES[dtype]
        sizes.append(item * math.prod(int(size) for size in dimensions.split(",") if size))
    return sizes


_MACHINE_INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*)")


def read_code(listing: str) -> dict[str, Code]:
    """Read what nvdisasm prints: {kernel: its code}."""
    sections = re.split(r"^\.text\.(\S+):$", listing, flags=re.MULTILINE)[1:]
    return {name: _code(section) for name, section in zip(sections[::2], sections[1::2])}


def _code(section: str) -> Code:
    """Read the machine code of a kernel, without its padding.

    It has a loop if it branches back. The branch to itself, at the end, is none: it only keeps the
    processor from running on.
    """
    count, has_loop = 0, False
    labels: dict[str, int] = {}  # the number of the next instruction
    for line in section.split("\n"):
        if label := re.match(r"(\.L_\w+):", line):
            labels[label[1]] = count
        elif (code := _MACHINE_INSTRUCTION.match(line)) and not code[1].startswith("NOP"):
            branch = re.search(r"\bBRA\b.*`\((\.L_\w+)\)", code[1])
            has_loop |= branch is not None and labels.get(branch[1], count) < count
            count += 1
    return Code(count, has_loop)


# --- compiling -----------------------------------------------------------------------------------


def check_compiler() -> None:
    """Raise RuntimeError unless XLA's compiler for GPUs and NVIDIA's tools are installed."""
    jaxlib = importlib.metadata.version("jaxlib")
    plugins = "jax-cuda12-plugin", "jax-cuda12-pjrt"
    try:
        for plugin in plugins:
            _check_version(plugin, jaxlib)
        _tool("ptxas")
        _tool("nvdisasm")
    except RuntimeError as error:
        packages = [f"{plugin}=={jaxlib}" for plugin in plugins]
        packages += ["nvidia-cuda-nvcc-cu12", "nvidia-cuda-nvdisasm"]
        raise RuntimeError(
            f"{error}; install the compiler with: pip install --no-deps {' '.join(packages)}"
        ) from None


def _check_version(package: str, version: str) -> None:
    """Raise RuntimeError unless a package has a version. XLA dumps no PTX to an older jaxlib."""
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise RuntimeError(f"{package} is missing") from None
    if found != version:
        raise RuntimeError(f"{package} must be {version}, as jaxlib is, but it is {found}")


def _tool(name: str) -> str:
    """The path of a program in NVIDIA's wheels. Raises RuntimeError if it is missing."""
    spec = importlib.util.find_spec("nvidia")
    folders = map(Path, (spec and spec.submodule_search_locations) or ())
    found = [path for folder in folders for path in sorted(folder.glob(f"*/bin/{name}"))]
    if not found:
        raise RuntimeError(f"{name} is missing")
    return str(found[-1])


def compile_loop(
    loop: Callable[[Any, Any], Any], carry: Any, target: Target, dump: Path
) -> Program:
    """Compile a loop for a target.

    loop: (carry, rounds int32[]) -> carry. carry: arrays, or their shapes and dtypes. dump: a
    folder for what XLA dumps, always the same in a process; what is in it is deleted.

    Raises RuntimeError if XLA dumps not all that a Program needs.
    """
    sharding = jax.sharding.SingleDeviceSharding(_device(target, dump))
    arguments = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        (carry, jax.ShapeDtypeStruct((), jnp.int32)),
    )
    lowered = jax.jit(loop, donate_argnums=0).lower(*arguments)
    for path in dump.iterdir():
        path.unlink()
    hlo = lowered.compile().as_text() or ""
    return Program(
        read_thunks(_dumped(dump, "thunk_sequence.txt")),
        read_names(_dumped(dump, "thunk_metadata.txt")),
        read_instructions(hlo),
        _machine_code(dump),
    )


@functools.cache
def _device(target: Target, dump: Path) -> Any:
    """A device to compile for.

    XLA reads its flags once in a process; the user's own are meant for other programs. What jax
    finds in its cache of programs, XLA does not compile and so does not dump.
    """
    from jax.experimental import topologies

    flags = {
        "xla_dump_to": dump,
        "xla_gpu_autotune_level": 0,  # which would run kernels
        "xla_gpu_cuda_data_dir": Path(_tool("ptxas")).parents[1],
    }
    os.environ["XLA_FLAGS"] = " ".join(f"--{name}={value}" for name, value in flags.items())
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)
    major, minor = target.capability
    optin = target.shared - 2**10  # the rest is the system's
    description = _DESCRIPTION.format(target=target, major=major, minor=minor, optin=optin)
    topology = topologies.get_topology_desc(
        platform="cuda", topology="1x1x1", target_config=description
    )
    return topology.devices[0]


def _dumped(dump: Path, name: str) -> str:
    """The text of this name that XLA dumped about the program."""
    paths = list(dump.glob(f"*.{name}"))
    if len(paths) != 1:
        raise RuntimeError(f"XLA should dump one {name}, but it dumped {len(paths)}")
    return paths[0].read_text()


def _machine_code(dump: Path) -> dict[str, Code]:
    """Assemble and disassemble the kernels that XLA dumped: {kernel: its code}."""
    sources, architectures = {}, set()
    for path in sorted(dump.glob("*.ptx")):
        text = path.read_text()
        if kernels := re.findall(r"\.entry (\w+)\(", text):  # otherwise it holds constants
            sources |= dict.fromkeys(kernels, str(path))  # a kernel may be dumped twice
            architectures |= set(re.findall(r"^\.target (\w+)", text, re.MULTILINE))
    if len(architectures) != 1:
        raise RuntimeError(f"XLA should dump PTX for one target, but it did for {architectures}")
    cubin = str(dump / "kernels.cubin")
    paths = dict.fromkeys(sources.values())
    _output(_tool("ptxas"), "-arch", *architectures, *paths, "-o", cubin)
    return read_code(_output(_tool("nvdisasm"), "-c", cubin))


def _output(*command: str) -> str:
    """What a program prints. Raises RuntimeError with its message if it fails."""
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed: {run.stderr or run.stdout}")
    return run.stdout
