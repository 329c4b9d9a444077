"""Tests of Tetris' player: the board that it believes in is the true one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade.games import tetris
from popgym_arcade.memory.player import HIDDEN
from popgym_arcade.memory.players.tetris import PLAYER
from popgym_arcade.registry import NO_ACTION
from tests.testing import DOWN, board_of

MDP = tetris.LEVELS["Hard"]
POMDP = dataclasses.replace(MDP, partial_obs=True)


@jax.jit
def _follow(key, state):
    """Drop pieces, with a random action at times: states and what recall believes, [80].

    Its memory knows the first state's board.
    """

    def one_step(carry, step_key):
        memory, last_action, state = carry
        memory = PLAYER.remember(memory, last_action, PLAYER.shown(state, POMDP), POMDP)
        action = jax.random.randint(step_key, (), 0, 8)
        action = jnp.where(action < 5, action, DOWN)
        following = tetris.step(step_key, state, action, POMDP)[1]
        return (memory, action, following), (state, memory)

    memory = PLAYER.begin(POMDP)._replace(board=state.board)
    carry = memory, jnp.int32(NO_ACTION), state
    return jax.lax.scan(one_step, carry, jax.random.split(key, 80))[1]


def start_on(drawing, **fields):
    """A first state, with a drawing of the board's lowest rows, # for a block."""
    state = jax.jit(lambda key: tetris.reset(key, POMDP)[1])(jax.random.key(2))
    board = board_of(drawing, "#")
    board = np.pad(board, ((tetris.ROWS - len(board), 0), (0, 0)))
    return state._replace(board=jnp.asarray(board, jnp.int8), **fields)


def test_the_believed_state_is_the_true_one():
    start = start_on("####..#### ####..####", piece=jnp.int32(1))
    true, believed = jax.tree.map(np.asarray, _follow(jax.random.key(1), start))
    assert np.array_equal(true.board > 0, believed.board > 0)
    for field in (
        "piece",
        "row",
        "col",
        "rotation",
        "next_pieces",
        "just_locked",
        "fresh",
        "score",
    ):
        assert np.array_equal(getattr(true, field), getattr(believed, field)), field
    assert true.just_locked.sum() > 4 and true.score[-1] > 0, "too little happened"


def test_a_frame_of_a_lock_hides_all_blocks_but_those_of_full_rows():
    locked = start_on("####..#### ##########", just_locked=jnp.bool_(True))
    rows = [HIDDEN] * 19 + [1 << 30]
    show = jax.jit(PLAYER.shown)
    assert show(locked, POMDP).rows.tolist() == rows
    assert show(locked, POMDP).piece == HIDDEN
    assert show(locked, MDP).rows.tolist() == [0] * 18 + [0o1111001111, 1 << 30]


def test_one_frame_of_the_mdp_tells_the_state():
    """A box may be in column -1, which must not be taken for hidden."""
    start = start_on("####..#### #.........", row=jnp.int32(3), col=jnp.int32(-1))
    see = jax.jit(
        lambda state: PLAYER.remember(PLAYER.begin(MDP), NO_ACTION, PLAYER.shown(state, MDP), MDP)
    )
    believed = see(start)
    assert believed.col == -1 and believed.row == 3
    assert np.array_equal(believed.board, start.board)


def test_keys_are_in_range_and_tell_places_apart():
    places = [
        (piece, row, col, turn)
        for piece in (0, 6)
        for row in (0, 18)
        for col in (-2, 8)
        for turn in (0, 3)
    ]
    state = start_on("..........", just_locked=jnp.bool_(False))
    count = len(places)
    piece, row, col, rotation = jnp.array(places, jnp.int32).T
    states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), state)
    states = states._replace(
        piece=piece, row=row, col=col, rotation=rotation, score=jnp.full(count, 9)
    )
    keys = jax.jit(jax.vmap(lambda state: PLAYER.key(PLAYER.shown(state, POMDP), POMDP)))(states)
    assert len(set(keys.tolist())) == count
    assert keys.min() >= 0 and keys.max() < PLAYER.num_keys(POMDP)
