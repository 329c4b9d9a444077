"""Test set-up: each worker takes all tests of an environment at a time, so that it is compiled once and not once a worker."""

import re

import pytest
from xdist.scheduler import LoadScopeScheduling

pytest.register_assert_rewrite("popgym_arcade.testing")  # so that its failed asserts show their values too


class ByEnvironment(LoadScopeScheduling):
    """Hand out the tests by the environment that is among their parameters, or else by their file.

    pytest-xdist's own ``--dist loadgroup`` does nothing, and says nothing, with pytest 9.2: pytest-dev/pytest-xdist#1386.
    """

    def _split_scope(self, nodeid):
        environment = re.search(r"\[.*?\b([A-Za-z]+(Easy|Medium|Hard))\b", nodeid)
        return environment.group(1) if environment else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config, log):
    """What pytest-xdist asks for its scheduler."""
    return ByEnvironment(config, log)
