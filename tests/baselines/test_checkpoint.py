"""Checkpoints: what is saved is read back, crashes leave a whole one, damaged ones are refused."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade import REGISTRY
from tests.mishaps import fill_disk, largest_file
from tests.testing import assert_same, client

eqx = client("equinox")
client("memax")

from popgym_arcade.baselines import checkpoint  # noqa: E402, because equinox may be missing
from popgym_arcade.baselines.checkpoint import CheckpointError  # noqa: E402
from popgym_arcade.baselines.model.builder import ActorCriticRNN, QNetworkRNN  # noqa: E402
from popgym_arcade.baselines.runs import ADDED_OPTIONS  # noqa: E402
from popgym_arcade.commands.files import error_text  # noqa: E402

CONFIG = {
    "env": "NavigatorEasy",
    "partial": True,
    "memory": "none",
    "obs_size": 8,
    "hidden_size": 8,
    "num_layers": 1,
    "params": "",
    "patch_size": 4,
    "normalize_convolutions": False,
}


def network(seed=0, kind=QNetworkRNN):
    """The network of CONFIG."""
    return kind(jax.random.key(seed), "none", 8, 8, 1)


def state_after(steps):
    """A state of training with leaves of all kinds, which depend on the steps."""
    return {
        "weights": jnp.float32([steps, np.nan, np.inf, -0.0]),
        "key": jnp.uint32([steps, 2**32 - 1]),
        "frames": np.full((2, 3), steps % 256, np.uint8),
        "flags": (jnp.array([True, False]), None),
        "carry": jnp.complex64(steps + 2j),
        "steps": jnp.int32([steps]),
    }


SHAPES = jax.eval_shape(lambda: state_after(0))


def save(run, steps, seeds=(0,), **others):
    """Write a checkpoint down."""
    networks = {seed: network(seed) for seed in seeds}
    return checkpoint.save(
        run,
        **{"algorithm": "pqn", "config": CONFIG, "steps": steps, **others},
        state=state_after(steps),
        networks=networks,
    )


def edit_manifest(path, **values):
    """Change what a manifest says, as another version or another game would have written it."""
    content = {**json.loads((path / "manifest.json").read_text()), **values}
    content.pop("sha256", None)
    (path / "manifest.json").write_text(json.dumps(checkpoint._signed(content)))


def flip(path, place):
    """Turn over one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << (place % 8)
    path.write_bytes(content)


# --- saving and loading --------------------------------------------------------------------------


def test_a_state_is_read_back_bit_for_bit(tmp_path):
    path = save(tmp_path, 100)
    assert path == tmp_path / "checkpoints" / "step-000000000100"
    assert_same(checkpoint.load_state(path, SHAPES), state_after(100))


def test_a_loaded_agent_is_the_network_that_was_saved(tmp_path):
    path = save(tmp_path, 100, seeds=(4, 7))
    for where in (tmp_path, path, str(path)):
        agent = checkpoint.load_agent(where)
        assert_same(eqx.filter(agent.network, eqx.is_array), eqx.filter(network(4), eqx.is_array))
        assert (agent.algorithm, agent.config, agent.path, agent.manifest["steps"]) == (
            "pqn",
            CONFIG,
            path,
            100,
        )
    assert_same(
        eqx.filter(checkpoint.load_agent(path, seed=7).network, eqx.is_array),
        eqx.filter(network(7), eqx.is_array),
    )


def test_the_file_of_a_network_is_what_equinox_reads(tmp_path):
    path = save(tmp_path, 100, seeds=(4,))
    loaded = eqx.tree_deserialise_leaves(path / "network-4.eqx", network(9))
    assert_same(eqx.filter(loaded, eqx.is_array), eqx.filter(network(4), eqx.is_array))


def test_options_that_an_older_config_lacks_are_as_they_were_then(tmp_path):
    older = {name: CONFIG[name] for name in CONFIG if name not in ADDED_OPTIONS}
    normalized = QNetworkRNN(jax.random.key(1), "none", 8, 8, 1, normalize_convolutions=True)
    path = checkpoint.save(tmp_path, "pqn", older, 100, state_after(100), {0: normalized})
    agent = checkpoint.load_agent(path)
    assert agent.config == {**older, **ADDED_OPTIONS} != CONFIG
    assert_same(agent.network, normalized)


def test_an_agent_of_ppo_is_loaded_with_policy_and_value(tmp_path):
    path = checkpoint.save(tmp_path, "ppo", CONFIG, 1, {}, {0: network(3, ActorCriticRNN)})
    loaded = checkpoint.load_agent(path).network
    assert_same(
        eqx.filter(loaded, eqx.is_array), eqx.filter(network(3, ActorCriticRNN), eqx.is_array)
    )


def test_a_manifest_tells_what_the_checkpoint_is_and_what_it_was_written_with(tmp_path):
    content = checkpoint.manifest(save(tmp_path, 100, seeds=(4, 7), extra={"seconds": 1.5}))
    assert (
        content["algorithm"] == "pqn" and content["config"] == CONFIG and content["seconds"] == 1.5
    )
    assert content["steps"] == 100 and content["seeds"] == [4, 7]
    assert content["rule_version"] == REGISTRY["NavigatorEasy"].version
    assert (
        content["versions"]["jax"] == jax.__version__
        and content["versions"]["equinox"] == eqx.__version__
    )
    assert set(content["files"]) == {"state.eqx", "network-4.eqx", "network-7.eqx"}


def test_the_last_checkpoints_are_kept_and_nothing_else(tmp_path):
    paths = [save(tmp_path, steps) for steps in (5, 30, 200, 1000, 20000)]
    assert checkpoint.checkpoints(tmp_path) == paths[-checkpoint.KEPT :]
    assert sorted((tmp_path / "checkpoints").iterdir()) == paths[-checkpoint.KEPT :]
    assert checkpoint.KEPT >= 2  # so that there is a previous one
    assert checkpoint.last_whole(tmp_path) == paths[-1]


def test_saving_again_after_as_many_steps_replaces_the_checkpoint(tmp_path):
    save(tmp_path, 100)
    path = save(tmp_path, 100, extra={"seconds": 2.0})
    assert checkpoint.checkpoints(tmp_path) == [path]
    assert checkpoint.manifest(path)["seconds"] == 2.0


def test_there_is_no_last_checkpoint_of_a_run_without_one(tmp_path):
    assert checkpoint.last_whole(tmp_path) is None
    assert checkpoint.last_whole(tmp_path / "missing") is None


# --- crashes -------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process dies here."""


class Countdown:
    """An audit hook, which cannot be removed; dies before the n-th file operation in a folder."""

    def __init__(self):
        """At first it does nothing."""
        self.folder, self.left = None, 0
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        """Called by Python before the operation."""
        if self.folder is None or event not in (
            "open",
            "os.rename",
            "os.mkdir",
            "os.remove",
            "os.rmdir",
            "os.scandir",
        ):
            return
        if (
            str(self.folder) in str(arguments[0])
            or isinstance(arguments[0], str)
            and not os.path.isabs(arguments[0])
        ):
            self.left -= 1
            if self.left < 0:
                self.folder = None
                raise Killed


@pytest.fixture(scope="module")
def countdown():
    """The one hook of this process."""
    return Countdown()


def test_dying_before_any_operation_on_files_leaves_a_whole_checkpoint_to_go_on_from(
    tmp_path, countdown
):
    for died_before in range(1000):
        run = tmp_path / str(died_before)
        for steps in range(1, checkpoint.KEPT + 1):
            save(run, steps)
        countdown.folder, countdown.left = run, died_before
        try:
            save(run, checkpoint.KEPT + 1)
        except Killed:
            last = checkpoint.last_whole(run)
            steps = checkpoint.manifest(last)["steps"]
            assert steps in (checkpoint.KEPT, checkpoint.KEPT + 1)
            assert_same(checkpoint.load_state(last, SHAPES), state_after(steps))
            checkpoint.load_agent(run)
            path = save(run, checkpoint.KEPT + 2)
            assert checkpoint.last_whole(run) == path
            assert sorted((run / "checkpoints").iterdir()) == checkpoint.checkpoints(
                run
            )  # nothing is left lying about
        else:
            break
        finally:
            countdown.folder = None
        shutil.rmtree(run)
    assert died_before > 10


@pytest.mark.parametrize("file", ["state.eqx", "network-0.eqx", "manifest.json"])
def test_a_full_disk_leaves_the_checkpoint_before_and_no_draft(file, tmp_path, monkeypatch):
    before = save(tmp_path, 100)
    fill_disk(monkeypatch, file)
    with pytest.raises(OSError) as caught:
        save(tmp_path, 200)
    draft = tmp_path / "checkpoints" / ".step-000000000200"
    assert error_text(caught.value) == f"{draft / file}: No space left on device"
    assert list((tmp_path / "checkpoints").iterdir()) == [before]
    assert checkpoint.last_whole(tmp_path) == before


def test_an_array_that_does_not_fit_on_the_disk_is_told_with_the_cause(tmp_path):
    with largest_file(4096), pytest.raises(OSError) as caught:
        checkpoint.save(tmp_path, "pqn", CONFIG, 1, {"frames": np.zeros(10_000)}, {})
    assert error_text(caught.value).endswith("state.eqx: File too large")
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_all_is_on_the_disk_before_a_checkpoint_gets_its_name(tmp_path, monkeypatch):
    happened, flush, rename = [], checkpoint._flush, Path.rename
    monkeypatch.setattr(
        checkpoint, "_flush", lambda path: (happened.append(("flush", path.name)), flush(path))
    )
    monkeypatch.setattr(
        Path, "rename", lambda path, to: (happened.append(("rename", path.name)), rename(path, to))
    )
    save(tmp_path, 100)
    (named,) = [number for number, (what, _) in enumerate(happened) if what == "rename"]
    files = {"state.eqx", "network-0.eqx", "manifest.json"}
    assert {name for _, name in happened[:named]} == {*files, happened[named][1]}
    assert happened[named + 1 :] == [("flush", "checkpoints")]


KILL_ONE_AFTER_ANOTHER = """
import os, signal, sys, time
import numpy as np
from popgym_arcade.baselines import checkpoint

run = sys.argv[1]
like = {"steps": np.zeros(50_000)}


def save_for_ever(first, pipe):
    for steps in range(first, 10**6):
        state = {"steps": np.full(50_000, float(steps))}
        checkpoint.save(run, "pqn", {"env": "NavigatorEasy"}, steps, state, {})
        os.write(pipe, b"%012d" % steps)


first = 1
for delay in (0.6, 0.03, 0.11, 0.2, 0.07, 0.31, 0.15, 0.05, 0.4, 0.09):
    there, pipe = os.pipe()
    child = os.fork()
    if not child:
        save_for_ever(first, pipe)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(pipe)
    told = b""
    while part := os.read(there, 1 << 16):
        told += part
    os.close(there)
    saved = int(told[-12:] or first - 1)
    last = checkpoint.last_whole(run, warn=lambda text: None)
    steps = checkpoint.manifest(last)["steps"] if last else 0
    assert steps in (saved, saved + 1), (steps, saved)
    if last:
        assert (checkpoint.load_state(last, like)["steps"] == steps).all()
    first = steps + 1
print(first - 1)
"""


def test_kill_9_at_any_moment_leaves_the_last_whole_checkpoint(tmp_path):
    command = [sys.executable, "-c", KILL_ONE_AFTER_ANOTHER, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10  # so many were saved in all


# --- damage --------------------------------------------------------------------------------------

every_file = pytest.mark.parametrize("name", ["state.eqx", "network-0.eqx"])


def test_any_bit_that_is_turned_over_in_any_file_is_found_out(tmp_path):
    path = save(tmp_path, 100)
    for file in sorted(path.iterdir()):
        size = file.stat().st_size
        for place in np.unique(np.linspace(0, size - 1, 100).astype(int)):
            flip(file, place)
            with pytest.raises(CheckpointError, match=f"{file.name}|has format"):
                checkpoint.manifest(path)
            flip(file, place)
    checkpoint.manifest(path)


@every_file
@pytest.mark.parametrize(
    "load", [checkpoint.load_agent, lambda path: checkpoint.load_state(path, SHAPES)]
)
def test_a_damaged_checkpoint_is_refused_with_the_file_named(tmp_path, name, load):
    file = save(tmp_path, 100) / name
    flip(file, file.stat().st_size // 2)
    with pytest.raises(
        CheckpointError,
        match=f"{file.parent} is damaged: the contents of {name} have changed",
    ):
        load(file.parent)
    size = file.stat().st_size
    os.truncate(file, size - 1)
    with pytest.raises(
        CheckpointError,
        match=f"{file.parent} is damaged: {name} has {size - 1} bytes instead of {size}",
    ):
        load(file.parent)
    file.unlink()
    with pytest.raises(CheckpointError, match=f"{file.parent} is damaged: {name} is missing"):
        load(file.parent)


@pytest.mark.parametrize("content", ["", '{"format": 1, "files": {', "[]", "{}", "\0" * 400])
def test_a_manifest_that_was_cut_off_is_refused(tmp_path, content):
    path = save(tmp_path, 100)
    (path / "manifest.json").write_text(content)
    with pytest.raises(CheckpointError, match=f"{path}.* (manifest.json|format)"):
        checkpoint.manifest(path)


def test_without_a_manifest_a_folder_is_no_checkpoint(tmp_path):
    (save(tmp_path, 100) / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="manifest.json"):
        checkpoint.load_state(tmp_path / "checkpoints" / "step-000000000100", SHAPES)
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        checkpoint.load_agent(tmp_path / "missing")


@pytest.mark.parametrize("name", ["state.eqx", "network-0.eqx", "manifest.json"])
def test_the_checkpoint_before_a_damaged_one_is_taken_and_it_is_said_why(tmp_path, name):
    paths = [save(tmp_path, steps) for steps in (10, 20, 30)]
    os.truncate(paths[2] / name, 5)
    shutil.rmtree(paths[1])
    paths[1].mkdir()
    told = []
    assert checkpoint.last_whole(tmp_path, warn=told.append) == paths[0]
    assert [str(path) in text for path, text in zip((paths[2], paths[1]), told, strict=True)] == [
        True,
        True,
    ]
    assert name in told[0] and all("trying the previous one" in text for text in told)
    assert checkpoint.load_agent(tmp_path, warn=told.append).path == paths[0]


def test_if_all_checkpoints_are_damaged_there_is_no_last_one(tmp_path):
    for steps in (10, 20):
        os.truncate(save(tmp_path, steps) / "state.eqx", 5)
    assert checkpoint.last_whole(tmp_path, warn=lambda text: None) is None
    with pytest.raises(CheckpointError, match=f"all checkpoints of {tmp_path} are damaged"):
        checkpoint.load_agent(tmp_path, warn=lambda text: None)


# --- what does not belong ------------------------------------------------------------------------


def test_another_format_is_refused_with_both_named(tmp_path):
    path = save(tmp_path, 100)
    edit_manifest(path, format=checkpoint.FORMAT + 1)
    with pytest.raises(
        CheckpointError,
        match=f"has format {checkpoint.FORMAT + 1}, but this version reads format ",
    ):
        checkpoint.load_agent(path)


def test_a_seed_that_was_not_trained_is_refused_with_those_that_were(tmp_path):
    path = save(tmp_path, 100, seeds=(4, 7))
    with pytest.raises(CheckpointError, match=f"{path} has no seed 5; it has 4, 7"):
        checkpoint.load_agent(path, seed=5)


def test_a_state_of_another_shape_is_refused(tmp_path):
    path = save(tmp_path, 100)
    others = [
        {**SHAPES, "steps": jax.ShapeDtypeStruct((2,), jnp.int32)},
        {**SHAPES, "steps": jax.ShapeDtypeStruct((1,), jnp.float32)},
        {**SHAPES, "zoo": jax.ShapeDtypeStruct((1,), jnp.int32)},
        {name: shape for name, shape in SHAPES.items() if name != "weights"},
    ]
    for like in others:
        with pytest.raises(CheckpointError, match=f"{path} does not hold the state of such a run"):
            checkpoint.load_state(path, like)


def test_other_rules_than_those_of_the_training_are_refused(tmp_path):
    path, version = save(tmp_path, 100), REGISTRY["NavigatorEasy"].version
    checkpoint.check_rules(path, checkpoint.manifest(path))
    edit_manifest(path, rule_version=version - 1)
    message = (
        f"{path} was trained on version {version - 1} of the rules of NavigatorEasy, "
        f"but the installed version is {version}"
    )
    with pytest.raises(CheckpointError, match=message):
        checkpoint.check_rules(path, checkpoint.manifest(path))


def test_an_environment_that_is_not_registered_has_no_rule_version(tmp_path):
    path = save(tmp_path, 1, config={**CONFIG, "env": "Probe"})
    assert checkpoint.manifest(path)["rule_version"] is None
    checkpoint.check_rules(path, checkpoint.manifest(path))
