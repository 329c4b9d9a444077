"""Test set-up: compile little, compile fast, and share what is compiled.

XLA's compiler takes most of the tests' time. docs/performance.md has the figures.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

import pytest
from xdist.scheduler import LoadScopeScheduling

# So that failed asserts of the helpers show their values too.
pytest.register_assert_rewrite("tests.testing")

# Most programs of the tests run for a moment only. With these flags XLA compiles them with a fifth
# of the work, and they run ten times as long. A program that runs for longer, or that must be what
# a user gets, is compiled with options from tests/testing.py instead.
QUICK_TO_COMPILE = "--xla_backend_optimization_level=0", "--xla_cpu_use_fusion_emitters=false"

# JAX keeps what it compiled in a folder, for all workers and for the processes that tests start. It
# keeps the small programs, too: an operation outside of jit is compiled in 20 ms and read in 10.
CACHE = "JAX_COMPILATION_CACHE_DIR"
CACHE_SETTINGS = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def pytest_configure(config: pytest.Config) -> None:
    """Set how the tests compile, in the process that starts the workers.

    With COMPILE_AS_FOR_USERS set, or in a single process (``-n 0``), XLA's flags stay as they are.
    """
    if hasattr(config, "workerinput"):
        return
    if CACHE not in os.environ:
        os.environ[CACHE] = tempfile.mkdtemp(prefix="popgym-arcade-compiled-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(CACHE), ignore_errors=True))
    for name, value in CACHE_SETTINGS.items():
        os.environ.setdefault(name, value)
    has_workers = getattr(config.option, "numprocesses", None)
    if has_workers and not os.environ.get("COMPILE_AS_FOR_USERS"):
        accepted = QUICK_TO_COMPILE
        if not xla_accepts(*accepted):
            accepted = filter(xla_accepts, QUICK_TO_COMPILE)
        flags = [*accepted, os.environ.get("XLA_FLAGS", "")]
        os.environ["XLA_FLAGS"] = " ".join(flags)  # the last one of a kind counts: the user's


def xla_accepts(*flags: str) -> bool:
    """Whether this version of XLA has these flags. XLA aborts a process that sets unknown ones."""
    environment = {**os.environ, "XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    return not subprocess.run(command, env=environment, capture_output=True).returncode


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests of harder levels as slow: they run the code of the Easy ones on other sizes."""
    for item in items:
        if re.search(r"\[.*(Medium|Hard)\b", item.name):
            item.add_marker(pytest.mark.slow)


class ByEnvironment(LoadScopeScheduling):
    """Hand out tests by the environment among their parameters, which is then compiled once.

    Tests without an environment go by their file, and those of an algorithm by file and algorithm,
    since they take long and share little. pytest-xdist's own ``--dist loadgroup`` silently does
    nothing with pytest 9.2: pytest-dev/pytest-xdist#1386.
    """

    def _split_scope(self, nodeid: str) -> str:
        environment = re.search(r"\[.*?\b([A-Za-z]+(Easy|Medium|Hard))\b", nodeid)
        algorithm = re.search(r"\[.*?\b(pqn|ppo|dqn)\b", nodeid)
        file = nodeid.partition("::")[0]
        if environment:
            return environment.group(1)
        return f"{file} {algorithm.group(1)}" if algorithm else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Return the scheduler that pytest-xdist uses."""
    return ByEnvironment(config, log)
