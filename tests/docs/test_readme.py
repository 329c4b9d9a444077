"""README.md is for newcomers: CI runs its commands, and it tells how to cite this version."""

import configparser
import re
import subprocess

import popgym_arcade
from tests.testing import README, ROOT, code_blocks, page_text

CI_RUN = (ROOT / ".ci" / "run").read_text()
SETUP_COMMANDS = [
    code.strip()
    for heading, code in code_blocks(README, "sh")
    if heading == "Set up" and " -m venv " in code
]


def test_the_readme_is_short():
    lines = page_text(README).splitlines()
    assert len(lines) <= 150
    assert "(docs/memory.md)" in "\n".join(lines[:10])


def test_the_set_up_is_two_commands_of_one_line_near_the_top():
    benchmark, tests = SETUP_COMMANDS
    assert page_text(README).index(tests) < page_text(README).index("## The games")
    for command in (benchmark, tests):
        assert "\n" not in command
        assert command.startswith("python3 -m venv .venv && .venv/bin/python -m pip install -e ")
    assert benchmark.endswith(" && .venv/bin/python bench.py")
    assert tests.endswith(" && .venv/bin/python -m pytest")


def test_ci_takes_the_commands_from_the_readme_as_they_stand():
    printed = subprocess.run(
        [ROOT / ".ci" / "run", "--commands"], capture_output=True, text=True, check=True
    ).stdout
    assert printed.splitlines() == SETUP_COMMANDS
    assert 'bash -c "$test_command"' in CI_RUN


def test_ci_builds_the_site_and_stops_at_a_broken_link():
    assert ".venv-docs/bin/python -m mkdocs build --strict" in CI_RUN


def test_ci_installs_only_into_its_own_virtual_environments_except_browser_and_screen():
    lines = [line.strip() for line in CI_RUN.splitlines() if not line.strip().startswith("#")]
    installs = [
        line
        for line in lines
        if re.search(r"\b(install|wheel --)\b", line) and not line.startswith("echo")
    ]
    debian = [line for line in installs if line.startswith("apt-get ")]
    assert debian == [
        "apt-get install -q -y --no-install-recommends chromium fonts-liberation xvfb xdotool"
    ]
    installs = [line for line in installs if line not in debian]
    assert installs
    assert all(
        re.match(r'("\$name/|\.venv(-oldest|-docs|-budget)?/)bin/python"? -m pip ', line)
        for line in installs
    )
    assert not re.search(
        r"(?<![./])\b(apt|dnf|yum|apk|brew|conda|uv|sudo|curl|wget|git) ", "\n".join(lines)
    )


def test_the_citation_is_of_this_version_and_license():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {popgym_arcade.__version__}\n" in citation
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert f"\nlicense: {config['metadata']['license']}\n" in citation
    assert config["metadata"]["author"] in citation


def test_the_papers_title_is_the_same_everywhere():
    title = "Investigating Memory in Model-Free RL with POPGym Arcade"
    bibtex = code_blocks(README, "bibtex")[0][1].replace("{", "").replace("}", "")
    for text in (bibtex, page_text("CITATION.cff"), page_text("docs/paper.md")):
        assert title in text
        assert "2503.01450" in text


def test_the_oldest_versions_in_ci_are_the_lower_bounds_of_all_that_is_installed_there():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = config["options.extras_require"]
    brought = re.search(r"^popgym-arcade\[(.*)\]$", extras["test"], re.MULTILINE)[1].split(",")
    lines = "\n".join(
        [config["options"]["install_requires"], extras["test"], *(extras[name] for name in brought)]
    )
    bounds = dict(re.findall(r"^(\S+) >= (\S+)$", lines, re.MULTILINE))
    pins = dict(
        re.findall(r"^(\S+)==(\S+)$", (ROOT / ".ci" / "oldest.txt").read_text(), re.MULTILINE)
    )
    assert {"jax", "gymnasium", "aiohttp", "pytest"} <= bounds.keys() == pins.keys()
    for name, bound in bounds.items():
        assert (pins[name] + ".").startswith(bound + "."), name
