"""Tests of docs/integrations.md: its snippets run, and the frames do not depend on the devices."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.testing import client

DOCUMENT = (Path(__file__).parent.parent.parent / "docs" / "integrations.md").read_text()
# A word in a snippet: the library that the snippet needs.
NEEDS = {
    **{
        name: name
        for name in ("gymnax", "rejax", "gymnasium", "torch", "stable_baselines3", "sb3_contrib")
    },
    "RecordVideo": "moviepy",
}


def snippets(heading):
    """The Python snippets of a section: a list of str."""
    section = re.search(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL
    )[1]
    return re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


SECTIONS = [
    heading for heading in re.findall(r"^## (.*)$", DOCUMENT, re.MULTILINE) if snippets(heading)
]
ALONE = [heading for heading in SECTIONS if heading != "Several hosts"]
# This one takes 4,096 steps, which take longer than compiling, so it is compiled as for users.
MANY_STEPS = ("Gymnasium", 1)


def run(code, folder, **environment):
    """Start a script in a folder as a process: Popen."""
    command = [sys.executable, "-c", code]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command, cwd=folder, env={**os.environ, **environment}, **pipes)


def printed(process):
    """Wait for a script and return what it printed. Fails if the script failed."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output


def test_the_table_names_every_section():
    linked = re.findall(r"\(#([a-z0-9-]+)\)", DOCUMENT[: DOCUMENT.index("## ")])
    assert linked and set(linked) == {
        h.lower().replace(" ", "-") for h in re.findall(r"^## (.*)$", DOCUMENT, re.MULTILINE)
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "heading, number", [(heading, i) for heading in ALONE for i in range(len(snippets(heading)))]
)
def test_the_snippet_runs(heading, number, tmp_path):
    code = snippets(heading)[number]
    for word, library in NEEDS.items():
        if word in code:
            client(library)
    flags = {"XLA_FLAGS": ""} if (heading, number) == MANY_STEPS else {}
    output = printed(run(code, tmp_path, **flags))
    assert output
    if output.startswith("see "):
        assert (tmp_path / output.split()[1]).stat().st_size > 1000


def test_a_game_is_vendored_as_shown(tmp_path):
    command = re.search(r"^python (-m popgym_arcade\.vendor .*)$", DOCUMENT, re.MULTILINE)[1]
    subprocess.run([sys.executable, *command.split()], cwd=tmp_path, check=True)
    assert [path.name for path in sorted((tmp_path / command.split()[-1]).glob("*"))] == [
        "navigator.py",
        "render.py",
    ]


# --- the same frames on any devices --------------------------------------------------------------

# How many devices there are is set below, all else about XLA as for the other tests: a batch is
# split before a program is optimized.
FLAGS = " ".join(
    flag
    for flag in os.environ.get("XLA_FLAGS", "").split()
    if "host_platform_device_count" not in flag
)
SAVE = """
import numpy as np
for shard in observations.addressable_shards:
    np.save(f"frames{shard.index[0].start or 0}.npy", np.asarray(shard.data))
    for number, leaf in enumerate(jax.tree.leaves(states)):
        here = next(part for part in leaf.addressable_shards if part.device == shard.device)
        np.save(f"leaf{number:02}-{shard.index[0].start or 0}.npy", np.asarray(here.data))
"""


def saved(folder):
    """Load what scripts with SAVE left in a folder: (whole arrays, their parts).

    Whole arrays are {"frames": array, "leaf00-": array, ...}; parts are {name: {start: array}}.
    """
    parts = {}
    for path in Path(folder).glob("*.npy"):
        name, start = re.fullmatch(r"(frames|leaf\d\d-)(\d+)", path.stem).groups()
        parts.setdefault(name, {})[int(start)] = np.load(path)
    return {
        name: np.concatenate([shards[start] for start in sorted(shards)])
        for name, shards in parts.items()
    }, parts


@pytest.fixture(scope="module")
def on_one_device(tmp_path_factory):
    """What the snippet for several devices computes on one device."""
    folder = tmp_path_factory.mktemp("one")
    assert "over 1 devices" in printed(
        run(snippets("Several devices")[0] + SAVE, folder, XLA_FLAGS=FLAGS)
    )
    return saved(folder)[0]


def assert_same_arrays(first, second):
    """Compare two dicts of arrays, bit for bit."""
    assert first.keys() == second.keys() and len(first["frames"]) == 64
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    assert len(np.unique(first["frames"].reshape(64, -1), axis=0)) > 10


@pytest.mark.slow
def test_eight_devices_compute_the_frames_of_one(on_one_device, tmp_path):
    flags = f"{FLAGS} --xla_force_host_platform_device_count=8"
    assert "over 8 devices" in printed(
        run(snippets("Several devices")[0] + SAVE, tmp_path, XLA_FLAGS=flags)
    )
    whole, parts = saved(tmp_path)
    assert len(parts["frames"]) == 8
    assert_same_arrays(whole, on_one_device)


@pytest.mark.slow
@pytest.mark.skipif(
    jax.__version_info__ < (0, 6), reason="jax 0.5.0 does not compute in several processes on a CPU"
)
def test_two_processes_compute_the_frames_of_one(on_one_device, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = snippets("Several hosts")[0] + snippets("Several devices")[0] + SAVE
    together = {"COORDINATOR": f"127.0.0.1:{port}", "NUM_PROCESSES": "2", "XLA_FLAGS": FLAGS}
    processes = [run(code, tmp_path, PROCESS_ID=str(number), **together) for number in range(2)]
    for process in processes:
        output = printed(process)
        assert "1 of 2 devices are here" in output and "over 2 devices" in output
    whole, parts = saved(tmp_path)
    assert len(parts["frames"]) == 2
    assert_same_arrays(whole, on_one_device)
