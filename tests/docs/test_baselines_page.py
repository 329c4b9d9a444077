"""The training commands and snippets of docs/baselines.md, only shorter."""

import re
import shlex
from pathlib import Path

import pytest

from tests.testing import client

for library in ("memax", "flashbax", "tyro", "tqdm", "matplotlib"):
    client(library)

import jax  # noqa: E402

from popgym_arcade.baselines import checkpoint, evaluate, plot, train  # noqa: E402
from popgym_arcade.baselines.model.builder import network_of  # noqa: E402
from popgym_arcade.baselines.model.memory import memory_names  # noqa: E402

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = (ROOT / "docs" / "baselines.md").read_text()
MAINS = {
    "popgym-arcade-train": train.main,
    "popgym-arcade-eval": evaluate.main,
    "popgym-arcade-plot": plot.main,
}
# Appended to a document's options, which they override.
SHORTER = {
    "popgym-arcade-train": "--total-steps 64 --num-envs 4 --num-steps 8 --num-minibatches 2 "
    "--hidden-size 8 --evaluation-episodes 2",
    "popgym-arcade-eval": "--episodes 2",
    "popgym-arcade-plot": "",
}


def commands():
    """The words of each of our commands in the page's sh blocks, in order."""
    blocks = re.findall(
        r"^```sh\n(.*?)^```$", DOCUMENT.replace("\\\n", " "), re.MULTILINE | re.DOTALL
    )
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [words for words in lines if words and words[0] in MAINS]


def test_a_newcomer_trains_resumes_evaluates_records_and_plots(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    told = [words for words in commands() if words[1] not in ("pqn-fast", "ppo-fast", "dqn-fast")]
    assert {words[0] for words in told} == set(MAINS)
    for program, *words in told:
        MAINS[program](words + SHORTER[program].split())
        if program == "popgym-arcade-train":
            MAINS[program](words + SHORTER[program].split() + ["--resume"])
    printed = capsys.readouterr().out
    assert printed.count("the run is in runs/cartpole") == 2
    assert "| POMDP | 2 |" in printed
    for path in re.findall(r"--gif (\S+)", DOCUMENT):
        if (tmp_path / path).suffix:
            assert (tmp_path / path).stat().st_size > 0
    assert list(tmp_path.glob("*.png")) and list(tmp_path.glob("*.pdf"))


def test_the_commands_for_a_gpu_can_be_parsed(monkeypatch):
    asked = []
    monkeypatch.setattr(train, "train", lambda *given: asked.append(given))
    monkeypatch.setattr(train, "table_of", lambda folders: "")
    fast = [words for words in commands() if words[1].endswith("-fast")]
    for _, *words in fast:
        train.main(words)
    assert len(asked) == len(fast) > 0


SNIPPETS = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", SNIPPETS, ids=range(len(SNIPPETS)))
def test_the_snippet_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = {
        "env": "CartPoleEasy",
        "partial": True,
        "memory": "lru",
        "obs_size": 128,
        "hidden_size": 256,
        "patch_size": 4,
        "normalize_convolutions": False,
        "num_layers": 2,
    }
    network = network_of("pqn", config)(jax.random.PRNGKey(1))
    checkpoint.save("runs/cartpole", "pqn", config, 100, {}, {0: network})
    exec(compile(code, "docs/baselines.md", "exec"), {"__name__": "snippet"})


def test_the_document_names_every_memory_and_every_file():
    text = DOCUMENT
    assert [name for name in memory_names() if f"`{name}`" not in text] == []
    files = [
        path.name
        for path in (ROOT / "baselines").rglob("*.py")
        if not path.name.startswith(("test_", "__", "conftest"))
    ]
    assert [name for name in files if name not in text] == []


def test_the_options_of_the_document_exist():
    text = DOCUMENT
    section = text[text.index("## Train") : text.index("## The folder of a run")]
    named = set(re.findall(r"`--([a-z-]+)", section))
    known = {
        field.replace("_", "-")
        for kind in (train.RunOptions, train.ALGORITHMS["pqn"].config)
        for field in kind.__dataclass_fields__
    }
    assert named and named - known == set()
