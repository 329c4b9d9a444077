"""Compile small loops for a GPU, and print what a round of each costs and XLA's flags, as JSON.

XLA reads its flags once in a process, so this runs in one of its own.
"""

import json
import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp

from popgym_arcade import bench
from popgym_arcade.commands import gpu_budget, gpu_program

TARGET = gpu_program.TARGETS["h100"]


def fill(i, x):
    """Fill all bytes with one value."""
    return jnp.broadcast_to(i.astype(x.dtype), x.shape)


def two_reductions(i, x):
    """Reduce, and reduce the result."""
    return x + x.sum(1).max()


def seven_rounds(i, x):
    """Loop seven times."""
    return jax.lax.fori_loop(0, 7, lambda _, y: jnp.sin(y), x)


def either_branch(i, x):
    """Branch, with one way slower than the other."""
    return jax.lax.cond(i % 2 == 0, lambda y: jnp.cumsum(y)[::-1], lambda y: y + 1, x)


def long_columns(i, x):
    """Sum columns that are so long that the kernel loops."""
    return x + x.sum(0)


def unknown_rounds(i, x):
    """Loop as often as the data says."""
    return jax.lax.while_loop(lambda y: y.sum() < 1000, lambda y: y + 1, x)


def library(i, x):
    """Call a library."""
    return jnp.linalg.cholesky(x)


LOOPS = [
    (fill, (1024, 49152), jnp.uint8),
    (two_reductions, (4096, 64), jnp.float32),
    (seven_rounds, (4096,), jnp.float32),
    (either_branch, (4096,), jnp.float32),
    (long_columns, (4096, 65536), jnp.float32),
    (unknown_rounds, (64,), jnp.float32),
    (library, (8, 16, 16), jnp.float32),
]


def main() -> None:
    """Print {name: Cost, or the error}, and the flags."""
    costs: dict[str, object] = {}
    for round_, shape, dtype in LOOPS:
        carry = jax.ShapeDtypeStruct(shape, dtype)
        try:
            program = gpu_program.compile_loop(
                bench.looped(round_), carry, TARGET, Path(sys.argv[1])
            )
            costs[round_.__name__] = gpu_budget.program_cost(program, TARGET)._asdict()
        except RuntimeError as error:
            costs[round_.__name__] = str(error)
    print(json.dumps({**costs, "flags": os.environ["XLA_FLAGS"]}))


if __name__ == "__main__":
    main()
