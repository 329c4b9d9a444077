"""docs/introspection.md: its snippets run, its pictures and its table of contents are complete."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.testing import client

client("equinox")
client("memax")
client("matplotlib")

DOCUMENTS = Path(__file__).parent.parent.parent / "docs"
# an installed wheel has no docs
TEXT = (DOCUMENTS / "introspection.md").read_text() if DOCUMENTS.exists() else ""
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
WEIGHTS = """
import equinox, jax
from popgym_arcade.baselines.model.builder import QNetworkRNN
network = QNetworkRNN(jax.random.PRNGKey(5), "lru")
equinox.tree_serialise_leaves("PATH_TO_YOUR_MODEL_WEIGHTS.pkl", network)
"""
MADE = [
    {"line.png", "grid.pdf"},
    {"recall.png", "recall.pdf"},
    set(),
    {"differences.png", "differences.pdf"},
]

needs_documents = pytest.mark.skipif(not TEXT, reason="docs/ is not installed")


@needs_documents
@pytest.mark.parametrize("number", range(len(MADE)))
def test_the_snippet_runs_and_makes_its_files(number, tmp_path):
    assert len(SNIPPETS) == len(MADE)
    needs_weights = "PATH_TO" in SNIPPETS[number]
    code = (WEIGHTS if needs_weights else "") + SNIPPETS[number]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert {path.name for path in tmp_path.iterdir()} - {"PATH_TO_YOUR_MODEL_WEIGHTS.pkl"} == MADE[
        number
    ]


@needs_documents
def test_the_table_names_every_section_and_every_picture_is_there():
    headings = {
        heading.lower().replace(" ", "-")
        for heading in re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
    }
    assert set(re.findall(r"\(#([a-z0-9-]+)\)", TEXT)) == headings
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TEXT)
    assert len(shown) >= 6
    assert sorted(path.name for path in (DOCUMENTS / "introspection").iterdir()) == sorted(
        Path(path).name for path in shown
    )


@needs_documents
def test_the_commands_are_ones_that_the_parser_knows():
    from popgym_arcade.introspection import introspect

    lines = re.findall(r"^popgym-arcade-introspect (.*?)(?:  #.*)?$", TEXT, re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        introspect.parser().parse_args(line.split())
