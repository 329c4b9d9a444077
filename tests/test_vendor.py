"""Tests of vendor.py: a copied game plays like the installed one, and no user's file is lost."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from popgym_arcade import GAMES, REGISTRY, __version__, render
from popgym_arcade.vendor import main, vendor
from tests.mishaps import fill_disk
from tests.testing import ROOT

FORMS = ("folder", "package")
PLAYED_BY_DEFAULT = ("Navigator", "Tetris")
GAME_IMPORT = "from popgym_arcade import render as draw"
VENDORED_IMPORT = {"folder": "import render as draw", "package": "from . import render as draw"}
SOURCE = Path(GAMES["Navigator"][0].__file__)
COPYRIGHT = (ROOT / "LICENSE").read_text().splitlines()[2]


def license_of(file):
    """The first lines of a copy. file: as the package names it."""
    return (
        f"# Copied from popgym_arcade {__version__}, {file}.\n"
        f"# {COPYRIGHT}. MIT License: https://opensource.org/license/mit\n"
    )


RENDER = license_of("render.py") + Path(render.__file__).read_text()


def frames_hash(module, params):
    """Play a game from a fixed key: the hash of all frames, rewards and dones."""
    import hashlib

    import jax
    import numpy as np

    @jax.jit
    def play(key):
        reset_key, steps_key, actions_key = jax.random.split(key, 3)
        _, state = module.reset(reset_key, params)

        def step(state, key_and_action):
            frame, state, reward, done, _ = module.step(
                key_and_action[0], state, key_and_action[1], params
            )
            return state, (frame, reward, done)

        actions = jax.random.randint(actions_key, (40,), 0, 5)
        return jax.lax.scan(step, state, (jax.random.split(steps_key, 40), actions))[1]

    played = [np.asarray(leaf) for leaf in play(jax.random.key(7))]
    assert played[0].std(axis=0).any()  # something moved
    return hashlib.sha256(b"".join(leaf.tobytes() for leaf in played)).hexdigest()


PLAY_WITHOUT_THE_PACKAGE = (
    inspect.getsource(frames_hash)
    + """
import importlib, json, sys

sys.modules["popgym_arcade"] = None  # makes importing it fail
try:
    import popgym_arcade.render
except ImportError:
    pass
else:
    raise SystemExit("popgym_arcade can be imported")
folder, prefix, games = json.loads(sys.argv[1])
sys.path.insert(0, folder)
results = {}
for game, (name, levels) in games.items():
    module = importlib.import_module(prefix + name)
    params = getattr(module, levels)["Medium"]
    results[game] = module.__file__, module.draw.__file__, frames_hash(module, params)
print(json.dumps(results))
"""
)


def module_and_levels(game):
    """The last part of the name of a game's module, and its levels' name there: two str."""
    module, levels = GAMES[game]
    return module.__name__.rpartition(".")[2], next(
        name for name, value in vars(module).items() if value is levels
    )


@pytest.fixture(scope="module", params=["folder", pytest.param("package", marks=pytest.mark.slow)])
def vendored(request, tmp_path_factory):
    """Vendor all games into one place: (form, place)."""
    place = tmp_path_factory.mktemp(request.param) / "outer" / "arcade"
    if request.param == "package":
        place.mkdir(parents=True)
        (place / "__init__.py").touch()
    for game in GAMES:
        vendor(game, place)
    return request.param, place


@pytest.fixture(scope="module")
def played(vendored, request):
    """Play the vendored games that the chosen tests ask for in a process without the package.

    Returns {game: [file of its module, file of its render, hash]}.
    """
    form, place = vendored
    folder, prefix = (place, "") if form == "folder" else (place.parent, "arcade.")
    asked = {
        item.callspec.params["game"]
        for item in request.session.items
        if "played" in item.fixturenames and "game" in item.callspec.params
    }
    task = str(folder), prefix, {game: module_and_levels(game) for game in sorted(asked)}
    command = [sys.executable, "-I", "-c", PLAY_WITHOUT_THE_PACKAGE, json.dumps(task)]
    done = subprocess.run(
        command, check=False, cwd=place.parent.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def installed_hashes():
    """The hashes of the installed games, filled in by the tests: {game: hash}."""
    return {}


# --- what is copied ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "game",
    [
        game if game in PLAYED_BY_DEFAULT else pytest.param(game, marks=pytest.mark.slow)
        for game in GAMES
    ],
)
def test_a_vendored_game_plays_like_the_installed_one_without_the_package(
    vendored, played, installed_hashes, game
):
    _, place = vendored
    module, levels = GAMES[game]
    if game not in installed_hashes:
        installed_hashes[game] = frames_hash(module, levels["Medium"])
    module_file, render_file, frames = played[game]
    assert Path(module_file) == place / Path(module.__file__).name
    assert Path(render_file) == place / "render.py"
    assert frames == installed_hashes[game]


@pytest.mark.parametrize("game", GAMES)
def test_only_the_license_and_the_import_of_render_differ_from_the_original(vendored, game):
    form, place = vendored
    original = Path(GAMES[game][0].__file__)
    expected = original.read_text().replace(GAME_IMPORT, VENDORED_IMPORT[form])
    assert (place / original.name).read_text() == license_of(f"games/{original.name}") + expected


def test_render_is_copied_below_its_license_and_nothing_else_is_left_behind(vendored):
    form, place = vendored
    assert (place / "render.py").read_text() == RENDER
    modules = {Path(module.__file__).name for module, _ in GAMES.values()}
    init = {"__init__.py"} if form == "package" else set()
    assert {path.name for path in place.iterdir() if path.is_file()} == modules | {
        "render.py"
    } | init


def test_the_hashes_of_the_games_differ(played):
    # Otherwise comparing them with the installed games' hashes would prove nothing.
    assert len({frames for _, _, frames in played.values()}) == len(played) > 1


# --- names and answers ---------------------------------------------------------------------------


def test_every_game_and_every_environment_is_found_in_any_case(tmp_path):
    for name in (*GAMES, *REGISTRY):
        file = Path(
            sys.modules[
                REGISTRY[name if name in REGISTRY else name + "Easy"].reset.__module__
            ].__file__
        ).name
        for spelling in (name, name.lower(), name.upper()):
            assert vendor(spelling, tmp_path / spelling)[0] == tmp_path / spelling / file


def test_it_returns_the_files_it_wrote_and_leaves_equal_ones_alone(tmp_path):
    place = tmp_path / "deep" / "arcade"
    assert vendor("Navigator", place) == [place / "navigator.py", place / "render.py"]
    os.utime(place / "render.py", (1, 1))
    assert vendor("CartPole", str(place)) == [place / "cartpole.py"]
    assert vendor("NoisyCartPole", place) == []
    assert vendor("NoisyCartPole", place, force=True) == []
    assert (place / "render.py").stat().st_mtime == 1


@pytest.mark.parametrize("form", FORMS)
def test_the_command_line_says_what_it_wrote_and_how_to_use_it(tmp_path, capsys, form):
    place = tmp_path / "project" / "arcade"
    place.mkdir(parents=True)
    if form == "package":
        (place / "__init__.py").touch()
        (place.parent / "__init__.py").touch()
    main(["navigator", str(place)])
    wrote = f"wrote {place / 'navigator.py'}\nwrote {place / 'render.py'}\nto use it: "
    use = {
        "folder": f"import navigator  # with {place} on sys.path\n",
        "package": "from project.arcade import navigator\n",
    }[form]
    assert capsys.readouterr().out == wrote + use
    main(["navigator", str(place)])
    assert (
        capsys.readouterr().out
        == "nothing to write: the files are already there\nto use it: " + use
    )


def test_without_arguments_the_usage_lists_the_games(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "popgym_arcade.vendor"],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "{" + ",".join(GAMES) + "}" in done.stderr and "DEST" in done.stderr


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong, nearest",
    [("Navigatr", "Navigator"), ("CartPoleEsy", "CartPole"), ("battleshp", "BattleShip")],
)
def test_an_unknown_game_is_answered_with_the_nearest_names(tmp_path, capsys, wrong, nearest):
    with pytest.raises(ValueError, match=f"no game '{wrong}'.*{nearest}"):
        vendor(wrong, tmp_path / "new")
    with pytest.raises(SystemExit) as stopped:
        main([wrong, str(tmp_path / "new")])
    assert stopped.value.code == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert wrong in message and nearest in message
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "edited, other", [("navigator.py", "render.py"), ("render.py", "navigator.py")]
)
def test_an_edited_file_is_left_as_it_is_and_nothing_is_written(tmp_path, capsys, edited, other):
    (tmp_path / edited).write_text("mine\n")
    with pytest.raises(FileExistsError, match=f"{edited}.*force"):
        vendor("Navigator", tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["Navigator", str(tmp_path)])
    assert stopped.value.code == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert str(tmp_path / edited) in message and other not in message and "--force" in message
    assert (tmp_path / edited).read_text() == "mine\n"
    assert os.listdir(tmp_path) == [edited]


def test_the_message_names_every_edited_file(tmp_path):
    for name in ("navigator.py", "render.py"):
        (tmp_path / name).write_text("mine\n")
    with pytest.raises(FileExistsError, match="navigator.py and .*render.py"):
        vendor("Navigator", tmp_path)


def test_a_copy_for_a_folder_becomes_one_for_a_package_only_by_force(tmp_path):
    vendor("Navigator", tmp_path)
    (tmp_path / "__init__.py").touch()
    with pytest.raises(FileExistsError, match="navigator.py"):
        vendor("Navigator", tmp_path)
    assert vendor("Navigator", tmp_path, force=True) == [tmp_path / "navigator.py"]
    assert VENDORED_IMPORT["package"] in (tmp_path / "navigator.py").read_text()


def test_force_replaces_an_edited_file(tmp_path, capsys):
    (tmp_path / "render.py").write_text("mine\n")
    main(["Navigator", str(tmp_path), "--force"])
    assert (tmp_path / "render.py").read_text() == RENDER
    assert f"wrote {tmp_path / 'render.py'}" in capsys.readouterr().out


def test_a_dangling_link_counts_as_a_file_with_other_content(tmp_path):
    (tmp_path / "render.py").symlink_to(tmp_path / "gone.py")
    with pytest.raises(FileExistsError, match="render.py"):
        vendor("Navigator", tmp_path)
    assert (tmp_path / "render.py").is_symlink() and not (tmp_path / "navigator.py").exists()


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_with_a_files_name_is_never_replaced(tmp_path, force):
    (tmp_path / "render.py").mkdir()
    with pytest.raises(IsADirectoryError, match="render.py"):
        vendor("Navigator", tmp_path, force=force)
    assert os.listdir(tmp_path) == ["render.py"]


def test_a_destination_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "arcade").write_text("mine\n")
    with pytest.raises(NotADirectoryError, match="arcade is a file"):
        vendor("Navigator", tmp_path / "arcade", force=True)
    assert (tmp_path / "arcade").read_text() == "mine\n"


@pytest.mark.parametrize("force", [False, True])
def test_the_packages_own_folder_of_games_is_refused(tmp_path, monkeypatch, force):
    own = tmp_path / "navigator.py"  # a stand-in: this test must not harm the real file
    own.write_bytes(SOURCE.read_bytes())
    monkeypatch.setattr(GAMES["Navigator"][0], "__file__", str(own))
    with pytest.raises(ValueError, match="own folder of games"):
        vendor("Navigator", tmp_path, force=force)
    assert own.read_bytes() == SOURCE.read_bytes() and os.listdir(tmp_path) == ["navigator.py"]


def test_a_failed_write_leaves_no_folder_and_ends_the_command_with_one_line(
    tmp_path, capsys, monkeypatch
):
    fill_disk(monkeypatch, "render.py")
    with pytest.raises(SystemExit) as stopped:
        main(["Navigator", str(tmp_path / "new" / "arcade")])
    assert stopped.value.code == 1
    assert capsys.readouterr().err == (
        "python -m popgym_arcade.vendor: error: "
        f"{tmp_path / 'new' / 'arcade' / 'render.py'}: No space left on device\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_game_without_the_import_is_refused(tmp_path, monkeypatch):
    changed = tmp_path / "navigator.py"
    changed.write_bytes(
        SOURCE.read_bytes().replace(GAME_IMPORT.encode(), b"import popgym_arcade.render as draw")
    )
    monkeypatch.setattr(GAMES["Navigator"][0], "__file__", str(changed))
    with pytest.raises(RuntimeError, match="exactly once, but it has it 0 times"):
        vendor("Navigator", tmp_path / "new")
    assert not (tmp_path / "new").exists()
