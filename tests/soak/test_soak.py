"""The soak's tests: a short one that is clean, broken games that it must find, and what each check
is worth."""

import functools
import json
import shlex

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade import GAMES, registry
from popgym_arcade.soak import __main__ as soak
from tests.testing import BATCH, compiled, keys, rendered

EASY = [game + "Easy" for game in GAMES]
RANDOM_FIELDS = {"Skittles": {"visible"}}  # fields of which each value is as good as any other
every_game = pytest.mark.parametrize("name", EASY)


# --- a short soak --------------------------------------------------------------------------------


def test_a_short_soak_is_clean_and_says_what_it_covered(tmp_path, capsys):
    path = tmp_path / "report.json"
    report = soak.soak(
        ["--games", "NavigatorE", "--steps", "9599", "--num-envs", "32", "--json", str(path)]
    )
    assert json.loads(path.read_text()) == report and report["violations"] == []
    (row,) = report["rows"]
    low, high = row["returns"]
    assert (
        row["environment"] == "NavigatorEasy"
        and row["steps"] == 9600
        and row["frames"] == 2 * 300 * (32 // 17)
    )
    assert row["episodes"] == row["terminated"] + row["truncated"] - row["both"] > 0
    assert min(row["terminated"], row["truncated"], *row["actions"].values()) > 0
    assert (
        sum(row["actions"].values())
        == sum(player["steps"] for player in row["players"].values())
        == 9600
    )
    assert sum(player["episodes"] for player in row["players"].values()) == row["episodes"]
    assert -1 <= low < high == row["players"]["expert"]["returns"][1] <= 1
    printed = capsys.readouterr().out
    assert (
        "violations: 0" in printed
        and "9,600 steps in 1 environments" in printed
        and "| NavigatorEasy " in printed
    )


# --- a broken game -------------------------------------------------------------------------------


@pytest.fixture
def broken(monkeypatch):
    """BattleShip with faults in its reward, flags, fleet, frames and between its twins, each at
    another time of the episode."""
    entry = registry.REGISTRY["BattleShipEasy"]

    def step(key, state, action, params):
        frame, after, reward, done, info = entry.step(key, state, action, params)
        thirteenth = (
            after.ships.ravel().at[jnp.argmin(after.ships)].set(True).reshape(after.ships.shape)
        )
        after = after._replace(ships=jnp.where(after.time == 9, thirteenth, after.ships))
        info = {**info, "truncated": info["truncated"] | (after.time == 7)}
        reward = reward + 2.0 * (after.time == 5) + 0.5 * (params.partial_obs & (after.time > 12))
        return frame, after, reward, done, info

    def render(state, params):
        frame = entry.render(state, params)
        return jnp.where((state.time == 20) & params.partial_obs, frame.at[60, 70].add(128), frame)

    @functools.cache
    def prepared(name, *options):
        return prepare(name, soak.parse(list(options)))

    def prepare_once(name, options):
        return prepared(
            name, "--games", name, "--seed", str(options.seed), "--num-envs", str(options.num_envs)
        )

    prepare = soak.prepare
    monkeypatch.setattr(soak, "prepare", prepare_once)
    monkeypatch.setitem(
        registry.REGISTRY, "BattleShipEasy", entry._replace(step=step, render=render)
    )


def test_a_broken_game_is_found_and_the_printed_command_repeats_it(broken, capsys, monkeypatch):
    arguments = ["--games", "BattleShipEasy", "--seed", "3", "--num-envs", "32"]
    report = soak.soak([*arguments, "--steps", str(32 * 60)])
    found = {violation["check"]: violation for violation in report["violations"]}
    expected = {
        "the reward is at most 1 in size": 4,
        "the reward is what the rules pay for this step": 4,
        "done is terminated or truncated": 6,
        "truncated with the step that reaches the limit and no other": 6,
        "twelve ship cells": 8,
        "the twins take the same step": None,  # when its turn comes
        "POMDP frames have colours of theirs only": None,
    }
    assert {
        check: None if step is None else found[check]["step"] for check, step in expected.items()
    } == expected
    assert "MDP frames have colours of theirs only" not in found
    assert [violation["step"] for violation in report["violations"]] == sorted(
        v["step"] for v in report["violations"]
    )
    fleet = found["twelve ship cells"]
    assert (
        fleet["seed"] == 3
        and fleet["time"] == 8
        and soak.player_of(fleet["index"], 32).name == fleet["player"]
    )
    printed = capsys.readouterr().out
    assert (
        f"BattleShipEasy: 'twelve ship cells' broke at seed 3, environment {fleet['index']}"
        in printed
    )
    assert fleet["command"] in printed

    command = shlex.split(fleet["command"])
    assert command[:3] == ["python", "-m", "popgym_arcade.soak"] and command[
        command.index("--steps") + 1
    ] == str(32 * 9)
    again = {violation["check"]: violation for violation in soak.soak(command[3:])["violations"]}
    same = ("index", "step", "action", "time", "player")
    assert [again["twelve ship cells"][key] for key in same] == [fleet[key] for key in same]
    command[command.index("--steps") + 1] = str(32 * 8)
    before = soak.soak(command[3:])["violations"]
    assert before and "twelve ship cells" not in {violation["check"] for violation in before}

    monkeypatch.setattr("sys.argv", ["soak", *command[3:]])
    with pytest.raises(SystemExit) as ended:
        soak.main()
    assert ended.value.code == 1


# --- what the checks are worth -------------------------------------------------------------------


@functools.cache
def checker(name):
    """The game's own checks of a batch of Transitions, compiled: Transition -> {sentence:
    bool[BATCH]}."""
    params = compiled(name).params
    return jax.jit(jax.vmap(lambda step: soak.game_checks(name, step, params)))


@functools.cache
def played(name):
    """A batch of Transitions some way into an episode, and from its start."""
    functions = compiled(name)
    _, state = functions.reset(keys(0), functions.params)
    steps = []
    for i in range(6):
        actions = jnp.asarray((np.arange(BATCH) + i) % 6, jnp.int32)
        _, after, reward, _, info = functions.step_env(keys(i), state, actions, functions.params)
        steps.append(soak.Transition(state, actions, after, reward, info["terminated"]))
        _, state, *_ = functions.step(keys(i), state, actions, functions.params)
    return steps[0], steps[-1]


def broken_by(name, step):
    """The sentences that are true of no Transition of a batch."""
    return {sentence for sentence, kept in checker(name)(step).items() if not np.any(kept)}


@every_game
def test_every_game_has_invariants_and_they_hold(name):
    for step in played(name):
        checks = checker(name)(step)
        assert len(checks) > 8
        assert all(np.all(kept) for kept in checks.values()), {
            sentence for sentence, kept in checks.items() if not np.all(kept)
        }


def out_of_range(leaf):
    """Wrong values of a field: below, above, and with its first element changed if it is of truth
    values."""
    if leaf.dtype == bool:
        return [
            leaf.at[(slice(None), *[0] * (leaf.ndim - 1))].set(
                ~leaf[(slice(None), *[0] * (leaf.ndim - 1))]
            )
        ]
    return [leaf - np.asarray(100, leaf.dtype), leaf + np.asarray(100, leaf.dtype)]


@every_game
def test_every_field_of_a_state_is_held_to_something(name):
    step = played(name)[1]
    game = name.removesuffix("Easy")
    for field in step.after._fields:
        if field != "time" and field not in RANDOM_FIELDS.get(game, ()):
            for wrong in out_of_range(getattr(step.after, field)):
                checks = checker(name)(step._replace(after=step.after._replace(**{field: wrong})))
                assert not np.any(np.all(np.stack(list(checks.values())), axis=0)), (
                    f"{field} may have any value"
                )


@every_game
def test_a_wrong_reward_and_a_wrong_end_are_noticed(name):
    step = played(name)[1]
    assert "the reward is what the rules pay for this step" in broken_by(
        name, step._replace(reward=step.reward + 1e-4)
    )
    wrong_end = checker(name)(step._replace(terminated=~step.terminated))
    assert not np.any(np.all(np.stack(list(wrong_end.values())), axis=0))


@every_game
@pytest.mark.parametrize("partial_obs", [False, True], ids=["MDP", "POMDP"])
def test_frames_have_the_colours_that_were_found_by_following_the_drawing(name, partial_obs):
    functions = compiled(name, partial_obs)
    colors = soak.legal_colors(functions.env, functions.params)
    assert 4 < len(colors) < 2500
    frames = rendered(name, partial_obs, played(name)[1].after)
    drawn = set((frames.astype(int) @ [65536, 256, 1]).ravel().tolist())
    assert drawn <= colors
    table = soak.color_table(colors)
    assert soak.all_legal(jnp.asarray(frames[0]), table)
    for garbage in ((1, 2, 3), (255, 0, 255), (246, 246, 241)):
        assert not soak.all_legal(
            jnp.asarray(frames[0]).at[-1, -1].set(jnp.array(garbage, jnp.uint8)), table
        )


def test_mixtures_of_soft_edges_are_those_of_the_primitive():
    from popgym_arcade import render as draw

    canvas = draw.blank(1, 128)
    for coverage in range(draw.SUBPIXEL + 1):
        pixel = draw.spans(canvas, left=0, right=jnp.int32(coverage), colors="y")[0, :3]
        background, ink = (soak.code(draw.PALETTE[color]) for color in "ky")
        assert soak.mixtures(frozenset([background]), draw.PALETTE["y"], frozenset([coverage])) == {
            soak.code(pixel)
        }
        assert ink == soak.code(pixel) or coverage < draw.SUBPIXEL
    assert soak.possible_shares(np.array([16, 0]), np.array([48, 64]), 2) == [{0, 16}, {0, 32}]
    assert soak.possible_shares(jnp.int32(16), 48, 1) == [frozenset(range(33))]


# --- the parts -----------------------------------------------------------------------------------


def test_every_player_has_environments_and_every_environment_one_player():
    for num_envs in (soak.SHARES, 100, 256):
        parts = soak.blocks(num_envs)
        assert [first for _, first, _ in parts] + [num_envs] == [0] + [end for _, _, end in parts]
        assert all(first < end for _, first, end in parts)


def test_adversarial_players_take_all_actions_and_numbers_that_are_none():
    bits, index = jax.random.bits(jax.random.key(0), (500, 2)), jnp.arange(500)
    any_integer = jax.vmap(soak.any_integer, in_axes=(0, 0, None, None, None))(
        bits, index, 0, None, None
    )
    assert {*range(5), *soak.NO_ACTIONS} <= set(any_integer.tolist()) and len(
        set(any_integer.tolist())
    ) > 50
    rounds = jnp.arange(5000)
    stuck = jax.vmap(soak.stuck, in_axes=(None, None, 0, None, None))(None, 3, rounds, None, None)
    assert len(set(stuck[:997].tolist())) == 1 and len(set(stuck.tolist())) == 6
    alternating = jax.vmap(soak.alternating, in_axes=(None, None, 0, None, None))(
        None, 3, rounds, None, None
    )
    assert set(alternating.tolist()) == set(range(5)) and len(set(alternating[:101].tolist())) == 2


def test_hurried_players_have_short_limits_and_the_others_the_levels_own():
    params = compiled("NavigatorEasy").params
    limits = np.asarray(soak.cut_limits(params, 320))
    for player, first, end in soak.blocks(320):
        expected = np.arange(1, 21) if player.hurried else params.max_steps_in_episode
        assert np.all(limits[first:end] == expected)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--games", "Navigater"], ["'Navigater'", "NavigatorEasy"]),
        (["--steps", "0"], ["at least 1"]),
        (["--num-envs", "3"], ["at least 16", "3"]),
        (["--seed", str(2**31)], [str(2**31)]),
        (["--obs-size", "100"], ["100", "128", "256"]),
        (
            ["--json", "/there/is/no/such/folder/report.json"],
            ["no folder", "/there/is/no/such/folder"],
        ),
    ],
)
def test_bad_options_are_answered_with_what_is_allowed(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        soak.soak(arguments)
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert all(word in printed for word in words), printed
