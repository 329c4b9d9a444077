"""Tests of Skittles: rules and randomness, and its Case for the tests of every game."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from popgym_arcade import REGISTRY, experts, make
from popgym_arcade.games import skittles
from tests.testing import (
    FIRE,
    LEFT,
    RIGHT,
    UP,
    Case,
    as_numpy,
    board_of,
    chi_square_p,
    compiled_rules,
    keys,
    many_starts,
    run_script,
)

LEVELS = [skittles.NAME + level for level in skittles.LEVELS]
SIZE = 10


def scramble(rng, state, params):
    """Draw other skittles, colors, players and visible cells."""
    count = len(state.time)
    enemies = rng.random(state.enemies.shape) < rng.random((count, 1, 1)) / 2
    return state._replace(
        enemies=enemies & (rng.random((count, SIZE, 1)) < 0.8),
        row_colors=rng.integers(0, 7, (count, SIZE)).astype(np.int32),
        col=rng.integers(params.first_lane, params.last_lane + 1, count).astype(np.int32),
        visible=rng.random(state.visible.shape) < rng.random((count, 1, 1)),
    )


CASES = [
    Case(
        game=skittles.NAME,
        levels={
            "first_lane": (1, 2, 2),
            "last_lane": (8, 8, 7),
            "max_steps_in_episode": (100, 100, 100),
        },
        best_return=None,
        worst_return=lambda start, params: np.full(start.time.shape, 9 / 100),
        lowest_return=0.09,  # the first skittle is down after ten steps
        scramble=scramble,
        moves_by_itself=True,
        different_first_frames=5,  # the columns of the lane
    )
]


# --- how long one can survive --------------------------------------------------------------------


def most_survivable(new_cols, start_col, params):
    """An upper bound on the steps survived, by a player who knows all skittles: int[count].

    new_cols: int[steps, count], the columns where skittles enter in each step. start_col:
    int[count]. Skittles do not depend on the actions. So the columns that a living player can be in
    after a step are those of the lane within one column of those before it, except for the skittle
    in the lowest row and the one that falls there. When no column is left, no player is alive.
    """
    cols = np.arange(SIZE)
    lane = (cols >= params.first_lane) & (cols <= params.last_lane)
    alive = cols == np.asarray(start_col)[:, None]
    survived = np.zeros(len(alive), int)
    for step in range(len(new_cols)):
        beside = np.pad(alive, ((0, 0), (1, 1)))
        alive = lane & (beside[:, :-2] | beside[:, 1:-1] | beside[:, 2:])
        for entered in (
            step - SIZE,
            step - SIZE + 1,
        ):  # it stands in the lowest row before this step, or falls there with it
            if entered >= 0:
                alive &= cols != new_cols[entered][:, None]
        survived += np.any(alive, axis=1)
    return survived


@pytest.mark.parametrize("name", LEVELS)
def test_the_expert_survives_what_can_be_survived(name):
    env, params = make(name)

    def episode(key):
        def one_step(carry, step_key):
            state, alive = carry
            _, state, reward, _, info = env.step_env(
                step_key, state, experts.expert(state, params), params
            )
            alive = alive & ~info["terminated"]
            return (state, alive), (alive, reward, jnp.argmax(state.enemies[0]))

        reset_key, *step_keys = jax.random.split(key, params.max_steps_in_episode + 1)
        _, state = env.reset(reset_key, params)
        return state.col, jax.lax.scan(one_step, (state, jnp.bool_(True)), jnp.stack(step_keys))[1]

    start_col, (alive, reward, new_cols) = as_numpy(jax.jit(jax.vmap(episode))(keys(5, 1000)))
    survived, bound = alive.sum(axis=1), most_survivable(new_cols.T, start_col, params)
    assert np.all(survived <= bound)
    np.testing.assert_allclose(reward.sum(axis=1, where=alive), survived / 100, atol=5e-6)
    # The bound proves that a few walls cannot be passed. The expert does not see skittles that have
    # not entered yet, so it is on the wrong side of a long wall in 0.05, 0.6 and 3 of 1000 episodes
    # on the three levels.
    assert np.mean(bound < 100) < 0.03 and np.mean(survived < bound) < 0.01


@pytest.mark.parametrize("start", [1, 4, 8])
def test_nobody_survives_a_wall_from_one_side_of_the_lane_to_the_other(start):
    params = skittles.LEVELS["Easy"]
    wall = np.array([*range(1, 9), *[8] * 20])[:, None]
    assert most_survivable(wall, np.array([start]), params) == 16
    gap = np.array([*range(1, 8), 1, *[8] * 20])[:, None]
    assert most_survivable(gap, np.array([start]), params) == 28


# --- randomness ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEVELS)
def test_the_player_starts_and_skittles_enter_uniformly_in_the_lane(name):
    start, params = many_starts(name), REGISTRY[name].params
    lane = range(params.first_lane, params.last_lane + 1)
    assert (
        np.all(np.isin(start.col, lane))
        and chi_square_p(np.bincount(start.col)[params.first_lane :]) > 1e-4
    )
    assert not start.enemies.any()
    entered = jax.jit(jax.vmap(lambda key, state: skittles.fall(key, state, params)))(
        keys(4, len(start.col)), start
    ).enemies
    assert np.all(entered.sum(axis=(1, 2)) == 1) and not entered[:, 1:].any()
    assert (
        chi_square_p(
            np.asarray(entered[:, 0].sum(axis=0))[params.first_lane : params.last_lane + 1]
        )
        > 1e-4
    )


@pytest.mark.parametrize("share", [0.5, 0.0, 1.0, 0.3])
def test_cells_are_visible_with_their_probability_independently_and_in_every_step(share):
    start = many_starts("SkittlesEasy", 4000)
    params = skittles.Params(visible_share=share)
    visible = np.asarray(
        jax.jit(jax.vmap(lambda key: skittles.draw_visible(key, params)))(keys(1, 4000))
    ).reshape(4000, -1)
    if share in (0, 1):
        assert np.all(visible == share)
        return
    each = np.abs(visible.mean(axis=0) - share)
    assert (
        np.all(each < 5 * np.sqrt(share * (1 - share) / 4000))
        and abs(visible.mean() - share) < 0.005
    )
    assert np.all(np.abs(np.corrcoef(visible.T) - np.eye(100)) < 0.1)
    assert len(np.unique(start.visible.reshape(4000, -1), axis=0)) == 4000


def test_what_is_visible_changes_with_every_step():
    state = jax.tree.map(lambda leaf: leaf[:16], many_starts("SkittlesEasy", 4000))
    moved = jax.vmap(compiled_rules(skittles), in_axes=(0, 0, None, None))(
        keys(2), state, FIRE, skittles.LEVELS["Easy"]
    )[0]
    assert not np.any(np.all(moved.visible == state.visible, axis=(1, 2)))


# --- scripted episodes ---------------------------------------------------------------------------

EASY = skittles.LEVELS["Easy"]


def field_of(drawing, col, time=20, score=20):
    """A state from a drawing of the lowest rows, E for a skittle, with the player in ``col``."""
    lowest = board_of(drawing, "E")
    enemies = np.zeros((SIZE, SIZE), bool)
    enemies[SIZE - len(lowest) :] = lowest
    colors, visible = jnp.arange(SIZE, dtype=jnp.int32) % 7, jnp.ones((SIZE, SIZE), bool)
    return skittles.State(
        jnp.asarray(enemies), colors, jnp.int32(col), visible, jnp.int32(time), jnp.int32(score)
    )


def test_skittles_fall_and_bring_the_next_color():
    state = field_of("...E...... .......... ..........", 5)
    state = run_script(skittles, state, EASY, [(UP, 0.01, dict(col=5, score=21, time=21))])
    assert (
        state.enemies[8, 3] and np.all(state.enemies[0:1].sum() == 1) and state.enemies.sum() == 2
    )
    assert state.row_colors.tolist() == [1, 0, 1, 2, 3, 4, 5, 6, 0, 1]
    state = run_script(
        skittles,
        state._replace(row_colors=state.row_colors.at[0].set(6)),
        EASY,
        [(UP, 0.01, dict(score=22))],
    )
    assert state.row_colors[0] == 0 and state.enemies[9, 3]


def test_a_skittle_hits_where_it_stands_and_where_it_falls():
    fatal = (0, dict(score=20, terminated=True, discount=0.0))
    for drawing, action, outcome in [
        (".....E.... ..........", FIRE, fatal),  # it falls on the player
        ("......E... ..........", RIGHT, fatal),  # the player moves under it
        ("...E...... ......E...", RIGHT, fatal),  # the player runs into the one in its row
        ("...E...... ......E...", FIRE, (0.01, dict(score=21, discount=1.0))),
        (".....E.... ......E...", LEFT, (0.01, dict(col=4, score=21))),
        (".....E.... ......E...", RIGHT, fatal),
    ]:
        run_script(skittles, field_of(drawing, 5), EASY, [(action, *outcome)])


def test_the_player_stops_at_the_edges_of_the_lane():
    script = [
        (LEFT, 0.01, dict(col=1)),
        (LEFT, 0.01, dict(col=1)),
        (RIGHT, 0.01, dict(col=2)),
        (9, 0.01, dict(col=2)),
    ]
    run_script(skittles, field_of("..........", 2), EASY, script)
    script = [(RIGHT, 0.01, dict(col=8)), (RIGHT, 0.01, dict(col=8))]
    run_script(skittles, field_of("..........", 7), EASY, script)


def test_skittles_pays_for_the_last_step_unless_it_is_fatal():
    limit = dict(truncated=True, time=100)
    survived = dict(limit, score=100, discount=1.0)
    run_script(skittles, field_of("..........", 2, time=99, score=99), EASY, [(UP, 0.01, survived)])
    hit = dict(limit, terminated=True, score=99, discount=0.0)
    run_script(
        skittles, field_of("..E....... ..........", 2, time=99, score=99), EASY, [(UP, 0, hit)]
    )


def test_a_lane_that_ends_before_it_begins_is_refused():
    with pytest.raises(
        ValueError,
        match=r"last_lane must be in \[5, 9\] where first_lane is 5, but it is 3; the nearest is 5",
    ):
        make("SkittlesEasy", first_lane=5, last_lane=3)
