"""Test set-up. What the tests spend their time on is compiling, so this is about compiling little,
and quickly."""

import os
import re
import subprocess
import sys

import pytest
from xdist.scheduler import LoadScopeScheduling

pytest.register_assert_rewrite("tests.testing")  # so that its failed asserts show their values too


# Most programs of the tests run for a moment only. With these flags XLA compiles them with a fifth
# of the work, and they run ten times as long. Those that run for longer, and those that are to be
# as a user has them, say so with options from testing.py.
QUICK_TO_COMPILE = "--xla_backend_optimization_level=0", "--xla_cpu_use_fusion_emitters=false"


def pytest_configure(config):
    """Have the workers compile quickly, unless COMPILE_AS_FOR_USERS is set or, with ``-n 0``, there
    are none."""
    has_workers = getattr(config.option, "numprocesses", None) and not hasattr(
        config, "workerinput"
    )
    if has_workers and not os.environ.get("COMPILE_AS_FOR_USERS"):
        set_by_user = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = " ".join(
            [*filter(xla_takes, QUICK_TO_COMPILE), set_by_user]
        )  # of two, XLA takes the last


def xla_takes(flag):
    """Whether this version of XLA has a flag. It ends a process that sets one that it does not
    have."""
    environment = {**os.environ, "XLA_FLAGS": flag, "JAX_PLATFORMS": "cpu"}
    return not subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"], env=environment, capture_output=True
    ).returncode


class ByEnvironment(LoadScopeScheduling):
    """Hand out the tests by the environment that is among their parameters: it is then compiled
    once. Or else by their file.

    The tests of a file that are of one algorithm go by themselves, since they take long and share
    little with the others. pytest-xdist's own ``--dist loadgroup`` does nothing, and says nothing,
    with pytest 9.2: pytest-dev/pytest-xdist#1386.
    """

    def _split_scope(self, nodeid):
        environment = re.search(r"\[.*?\b([A-Za-z]+(Easy|Medium|Hard))\b", nodeid)
        algorithm = re.search(r"\[.*?\b(pqn|ppo|dqn)\b", nodeid)
        file = nodeid.partition("::")[0]
        return (
            environment.group(1)
            if environment
            else f"{file} {algorithm.group(1)}"
            if algorithm
            else file
        )


def pytest_xdist_make_scheduler(config, log):
    """What pytest-xdist asks for its scheduler."""
    return ByEnvironment(config, log)
