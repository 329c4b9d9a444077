"""Test set-up: tests of one environment share a worker, so that each is compiled once and not once a worker."""

import pytest

pytest.register_assert_rewrite("popgym_arcade.testing")  # so that its failed asserts show their values too


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    """Group the tests by the environment, or else the file, that they are about (for pytest-xdist's loadgroup)."""
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        item.add_marker(pytest.mark.xdist_group(str(parameters.get("name", item.path.name))))
