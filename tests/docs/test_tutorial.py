"""docs/tutorial.md: its game keeps the contract of all games, and needs memory."""

import contextlib
import importlib
import io
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import test_games as contract
from popgym_arcade import make, registry
from tests.testing import code_blocks, run_script

PAGE = "docs/tutorial.md"
GAME, COMPARISON = (code for _, code in code_blocks(PAGE, "python"))
DOWN, RIGHT, FIRE = 1, 3, 4


@pytest.fixture(scope="module")
def tmaze(tmp_path_factory):
    """The game of the page, saved and imported as the page says."""
    folder = tmp_path_factory.mktemp("tutorial")
    (folder / "tmaze.py").write_text(GAME.lstrip("\n"))
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module("tmaze")
    finally:
        sys.path.remove(str(folder))
        del sys.modules["tmaze"]


@pytest.fixture
def registered(tmaze, monkeypatch):
    """The name of an environment of the game, registered for a test."""
    functions = tmaze.reset, tmaze.step, tmaze.render, tmaze.LEVELS["Easy"]
    entry = registry.Entry(*functions, tmaze.VERSION, "TMaze", "Easy", tmaze, tmaze.RETURN_RANGE)
    monkeypatch.setitem(registry.REGISTRY, "TMazeEasy", entry)
    return "TMazeEasy"


def test_the_game_has_a_hundred_lines():
    assert len([line for line in GAME.splitlines() if line]) <= 100


@pytest.mark.parametrize(
    "check",
    [
        contract.test_a_game_has_the_functions_and_arguments_of_the_contract,
        contract.test_a_games_params_keep_the_contract,
        contract.test_a_games_public_names_are_in_all_and_its_functions_are_annotated,
        contract.test_a_games_docstring_is_its_rulebook,
        contract.test_every_function_of_a_game_is_documented_and_says_shapes,
        contract.test_a_game_imports_one_thing_of_this_project_and_defines_only_params_and_state,
        contract.test_every_field_of_a_state_is_described_and_used,
    ],
)
def test_the_module_keeps_the_contract_of_every_game(check, tmaze):
    check(tmaze)


@pytest.mark.parametrize("partial_obs", [False, True])
def test_shapes_and_dtypes_are_those_of_every_game(registered, partial_obs):
    contract.test_shapes_and_dtypes_are_as_promised(registered, partial_obs, 128)


@pytest.mark.parametrize(
    "check",
    [
        contract.test_one_trace_per_static_configuration,
        contract.test_raw_keys_work,
        contract.test_params_may_be_left_out,
        contract.test_make_accepts_every_value_of_a_level,
    ],
)
def test_make_works_with_it_as_with_every_game(check, registered):
    check(registered)


@pytest.mark.parametrize("turn, reward", [(DOWN, 1), (0, 0)])
def test_the_turn_is_paid_if_it_is_the_signs(turn, reward, tmaze):
    params = tmaze.LEVELS["Easy"]
    _, state = tmaze.reset(jax.random.key(0), params)
    steps = [(turn, 0, {"col": 0}), (FIRE, 0, {"col": 0})]
    steps += [(RIGHT, 0, {"col": col}) for col in (1, 2, 3, 4, 5, 5)]
    steps += [(turn, reward, {"terminated": True, "score": reward})]
    run_script(tmaze, state._replace(down=jnp.bool_(True)), params, steps)


def test_the_pomdp_shows_the_sign_at_time_0_only(registered):
    for partial_obs in (False, True):
        env, params = make(registered, partial_obs=partial_obs)
        _, state = env.reset(jax.random.key(0), params)
        for time in (0, 1):
            up, down = (
                np.asarray(env.render(state._replace(down=jnp.bool_(sign), time=jnp.int32(time))))
                for sign in (False, True)
            )
            assert np.array_equal(up, down) == (partial_obs and time > 0)


def test_memory_is_worth_half_of_the_return(tmaze):
    space, printed = {"__name__": "snippet"}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(COMPARISON, PAGE, "exec"), space)
    assert space["returns"].mean() == 1
    assert 0.4 < space["guessed_returns"].mean() < 0.6
    assert printed.getvalue().endswith("at the fork are equal: True\n")
