"""What setup.cfg installs: every module of the package, and nothing that only tests use."""

import configparser
import importlib.util
from pathlib import Path

import pytest

from tests.testing import ROOT

TEST_FILES = {"test_games", "conftest"}
ROOMS = sorted(path.parent for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests")
MODULES = sorted(
    path.relative_to(ROOT).with_suffix("")
    for path in [*ROOT.glob("*.py"), *(path for room in ROOMS for path in room.rglob("*.py"))]
    if path.stem not in TEST_FILES
)


def option(section: str, name: str) -> list[str]:
    """A list in setup.cfg."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config[section][name].split()


def test_setup_names_every_module_of_the_root_except_tests():
    named = {name.removeprefix("popgym_arcade.") for name in option("options", "py_modules")}
    assert named == {str(module) for module in MODULES if len(module.parts) == 1} - {"__init__"}


def test_setup_names_every_package():
    packages = {module.parent for module in MODULES if len(module.parts) > 1}
    names = {".".join(("popgym_arcade", *package.parts)) for package in packages}
    assert names == set(option("options", "packages"))


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_is_installed(module: Path):
    parts = [part for part in module.parts if part != "__init__"]
    name = ".".join(["popgym_arcade", *parts])
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:  # its package needs a library that is an extra
        pytest.skip(f"needs {error.name}")
    assert found, f"{name} is not installed: run `python -m pip install -e .` again"


@pytest.mark.parametrize("name", ["test_games", "conftest", "tests"])
def test_tests_are_not_installed(name: str):
    installed = importlib.util.find_spec("popgym_arcade")
    folder = Path(installed.submodule_search_locations[0])
    if folder.resolve() == ROOT:
        pytest.skip("the package is imported from the clone itself")
    assert importlib.util.find_spec(f"popgym_arcade.{name}") is None


def test_the_marker_of_typed_packages_is_installed():
    installed = importlib.util.find_spec("popgym_arcade")
    assert (Path(installed.submodule_search_locations[0]) / "py.typed").exists()
