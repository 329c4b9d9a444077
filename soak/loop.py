"""The soak's loop: step a batch of one environment and check every step, on the device.

The players in players.py share the batch. The twins have the same rules, so the MDP's functions
take every step. For a few environments in each round the POMDP's functions take the same step from
the same state, which must have the same outcome, and both twins' frames are drawn and checked.
"""

import dataclasses
import functools
import time
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import make
from popgym_arcade.registry import NUM_ACTIONS, TWINS
from popgym_arcade.soak.checks import same, step_checks
from popgym_arcade.soak.colors import all_legal, color_table, legal_colors
from popgym_arcade.soak.invariants import Checks, PlayedStep
from popgym_arcade.soak.players import LONGEST_CUT, blocks

__all__ = ["Loop", "Options", "Round", "Tally", "cut_limits", "play", "prepare"]

ROUNDS_PER_CALL = 256  # how many rounds run before the host looks at the result


class Options(NamedTuple):
    """What a soak covers."""

    names: tuple[str, ...]  # of the environments
    steps: int = 700_000  # of each environment, rounded up to whole rounds
    seed: int = 0
    num_envs: int = 256  # that step together, at least players.SHARES
    obs_size: int = 128
    check_frames_every: int = 17  # the frames of every Nth step of an environment are checked

    @property
    def rounds(self) -> int:
        """Rounds of each environment; a round is one step of the whole batch."""
        return -(-self.steps // self.num_envs)

    @property
    def checked_per_round(self) -> int:
        """How many environments have their frames checked in a round."""
        return max(1, self.num_envs // self.check_frames_every)


class Round(NamedTuple):
    """One step of every environment of a batch; leaves have a leading axis [num_envs]."""

    step: PlayedStep
    next_states: Any  # after the auto-reset
    done: jax.Array  # bool
    truncated: jax.Array  # bool
    returns: tuple[jax.Array, jax.Array]  # of the running episodes: _kahan_add's result
    checks: Checks


class Tally(NamedTuple):
    """What the loop counts; C is the number of checks, and each environment counts for itself."""

    total: jax.Array  # float32[num_envs]: the running episode's return so far
    error: jax.Array  # float32[num_envs]: its rounding error, for Kahan summation
    actions: jax.Array  # int32[num_envs, 6]: steps with each action; last, with any other integer
    terminated: jax.Array  # int32[num_envs]: terminated episodes
    truncated: jax.Array  # int32[num_envs]: truncated episodes
    both: jax.Array  # int32[num_envs]: episodes counted in both of the above
    lowest: jax.Array  # float32[num_envs]: lowest return of a finished episode, inf without one
    highest: jax.Array  # float32[num_envs]: highest, -inf without one
    broken: jax.Array  # int32[C]: steps that broke each check
    first: jax.Array  # int32[C, 4]: the first such: round, environment, action, time; or -1


class Loop(NamedTuple):
    """An environment's compiled loop."""

    name: str  # of the environment
    checks: list[str]  # the C sentences
    run: Callable[..., Any]  # (carry, first round, end, color table) -> carry; compiled
    carry: tuple[Any, Tally]  # the states and the tally to start with
    table: jax.Array  # of legal colors
    compile_seconds: float


def prepare(name: str, options: Options) -> Loop:
    """Build and compile the loop of an environment."""
    start, key = time.perf_counter(), _run_key(name, options)
    twins = {
        view: make(name, partial_obs=partial_obs, obs_size=options.obs_size)
        for view, partial_obs in TWINS.items()
    }
    table = color_table(set().union(*(legal_colors(*twin) for twin in twins.values())))
    play_round = jax.jit(_round_function(name, twins, options))  # jitted, so it is traced only once
    env, params = twins["MDP"]
    reset = jax.jit(lambda keys: jax.vmap(env.reset, in_axes=(0, None))(keys, params)[1])
    states = reset(jax.random.split(key, options.num_envs))
    first, zeros = jnp.int32(0), jnp.zeros(options.num_envs)
    checks = sorted(jax.eval_shape(play_round, first, states, (zeros, zeros), table).checks)

    def run(carry, first, end, table):
        def one_round(i, carry):
            states, tally = carry
            played = play_round(i, states, (tally.total, tally.error), table)
            return played.next_states, _counted(tally, i, played, checks)

        return jax.lax.fori_loop(first, end, one_round, carry)

    carry = states, _new_tally(options.num_envs, len(checks))
    compiled = jax.jit(run).lower(carry, first, first, table).compile()
    return Loop(name, checks, compiled, carry, table, time.perf_counter() - start)


def play(
    loop: Loop, options: Options, show: Callable[[int], None] = lambda rounds: None
) -> tuple[Tally, int, float]:
    """Run a loop to its end, or until a check is broken.

    show: called with the number of rounds played, from time to time. Returns (the tally as NumPy
    arrays, rounds played, seconds taken).
    """
    carry, played, start = loop.carry, 0, time.perf_counter()
    while played < options.rounds and not np.any(carry[1].broken):
        end = min(played + ROUNDS_PER_CALL, options.rounds)
        carry, played = loop.run(carry, jnp.int32(played), jnp.int32(end), loop.table), end
        show(played)
    return jax.tree.map(np.asarray, carry[1]), played, time.perf_counter() - start


def cut_limits(params: Any, num_envs: int) -> jax.Array:
    """Each environment's step limit: the level's own, or less for players with cut limits.

    Returns int32[num_envs].
    """
    limits = np.full(num_envs, params.max_steps_in_episode, np.int32)
    for player, first, end in blocks(num_envs):
        if player.cut_limits:
            short = 1 + np.arange(end - first) % LONGEST_CUT
            limits[first:end] = np.minimum(limits[first:end], short)
    return jnp.asarray(limits)


# --- a round -------------------------------------------------------------------------------------


def _run_key(name, options):
    """The key of all random numbers of a run; every environment has its own."""
    return jax.random.fold_in(jax.random.key(options.seed), zlib.crc32(name.encode()))


def _limit_axes(params):
    """``in_axes`` for params whose step limits differ between environments."""
    return dataclasses.replace(jax.tree.map(lambda _: None, params), max_steps_in_episode=0)


def _round_function(name, twins, options):
    """Make the function that plays a round.

    Its arguments are the round, the states, the running returns and the color table; it returns a
    Round.
    """
    mdp, mdp_params = twins["MDP"]
    num_envs, run_key = options.num_envs, _run_key(name, options)
    limits, axes = cut_limits(mdp_params, num_envs), _limit_axes(mdp_params)
    params = dataclasses.replace(mdp_params, max_steps_in_episode=limits)
    step, step_env = (
        jax.vmap(function, in_axes=(0, 0, 0, axes)) for function in (mdp.step, mdp.step_env)
    )
    check = jax.vmap(functools.partial(step_checks, name), in_axes=(0, 0, 0, 0, 0, axes))
    check_twins = _twin_checks(twins, limits, options)

    def play_round(i, states, returns, table):
        step_key, action_key = jax.random.split(jax.random.fold_in(run_key, i))
        keys = jax.random.split(step_key, num_envs)
        bits = jax.random.bits(action_key, (num_envs, 2))
        actions = _choose_actions(bits, i, states, params, axes)
        _, next_states, *outcome = step(keys, states, actions, params)
        # ``step`` splits its key and hands the first half to ``step_env``.
        bare_keys = jax.vmap(lambda key: jax.random.split(key)[0])(keys)
        _, after, *bare_outcome = step_env(bare_keys, states, actions, params)
        reward, done, info = outcome
        played = PlayedStep(states, actions, after, reward, info["terminated"])
        returns = _kahan_add(*returns, reward)
        checks = check(played, done, info, returns[0], next_states, params)
        checks["step and step_env have the same outcome"] = jax.vmap(same)(outcome, bare_outcome)
        checks |= check_twins(i, bare_keys, played, bare_outcome, next_states, table)
        return Round(played, next_states, done, info["truncated"], returns, checks)

    return play_round


def _twin_checks(twins, limits, options):
    """Make the function that checks the twins' frames, and their steps against each other.

    It looks at options.checked_per_round environments, others in every round. Its arguments are the
    round, step_env's keys, the PlayedStep, step_env's (reward, done, info), the states after the
    auto-reset and the color table; it returns Checks.
    """
    (mdp, mdp_params), (pomdp, pomdp_params) = twins["MDP"], twins["POMDP"]
    num_envs, every = options.num_envs, options.check_frames_every
    step_env = jax.vmap(pomdp.step_env, in_axes=(0, 0, 0, _limit_axes(pomdp_params)))
    views = {"MDP": (mdp, mdp_params), "POMDP": (pomdp, pomdp_params)}

    def check(i, keys, played, outcome, next_states, table):
        chosen = (i + every * np.arange(options.checked_per_round)) % num_envs

        def some(tree):
            return jax.tree.map(lambda leaf: leaf[chosen], tree)

        def of_chosen(kept):
            return jnp.ones(num_envs, bool).at[chosen].set(kept)

        params = dataclasses.replace(pomdp_params, max_steps_in_episode=limits[chosen])
        _, *twin_step = step_env(*some((keys, played.before, played.action)), params)
        mdp_step = [some(played.after), *some(outcome)]
        checks = {"the twins take the same step": of_chosen(jax.vmap(same)(twin_step, mdp_step))}
        # Alternate between the states before and after the auto-reset.
        shown = jax.tree.map(
            lambda *ends: jnp.where(i // every % 2, *ends), some(played.after), some(next_states)
        )
        for view, (env, view_params) in views.items():
            frames = jax.vmap(env.render, in_axes=(0, None))(shown, view_params)
            legal = jax.vmap(all_legal, in_axes=(0, None))(frames, table)
            checks[f"{view} frames show only legal colors"] = of_chosen(legal)
        return checks

    return check


def _choose_actions(bits, i, states, params, axes):
    """Every environment's action, chosen by its player: int32[num_envs]."""
    actions = []
    for player, first, end in blocks(len(bits)):
        part = slice(first, end)
        their_states = jax.tree.map(lambda leaf, part=part: leaf[part], states)
        their_limits = params.max_steps_in_episode[part]
        their_params = dataclasses.replace(params, max_steps_in_episode=their_limits)
        choose = jax.vmap(player.policy, in_axes=(0, 0, None, 0, axes))
        chosen = choose(bits[part], jnp.arange(first, end), i, their_states, their_params)
        actions.append(chosen.astype(jnp.int32))
    return jnp.concatenate(actions)


# --- counting ------------------------------------------------------------------------------------


def _kahan_add(total, error, reward):
    """Add a reward to a return by Kahan summation: (the sum, its rounding error).

    All are float32[num_envs].
    """
    addend = reward - error
    return total + addend, ((total + addend) - total) - addend


def _new_tally(num_envs, num_checks):
    """A tally with nothing counted."""
    zeros, counts = jnp.zeros(num_envs), jnp.zeros(num_envs, jnp.int32)
    return Tally(
        total=zeros,
        error=zeros,
        actions=jnp.zeros((num_envs, NUM_ACTIONS + 1), jnp.int32),
        terminated=counts,
        truncated=counts,
        both=counts,
        lowest=jnp.full(num_envs, jnp.inf),
        highest=jnp.full(num_envs, -jnp.inf),
        broken=jnp.zeros(num_checks, jnp.int32),
        first=jnp.full((num_checks, 4), -1, jnp.int32),
    )


def _counted(tally, i, played, checks):
    """The tally with one Round added."""
    step, done, truncated = played.step, played.done, played.truncated
    total, error = played.returns
    actions = jnp.where((step.action >= 0) & (step.action < NUM_ACTIONS), step.action, NUM_ACTIONS)
    bad = ~jnp.stack([played.checks[check] for check in checks])
    env = jnp.argmax(bad, axis=1)
    seen = jnp.stack(
        [jnp.full(len(checks), i), env, step.action[env], step.before.time[env]], axis=1
    )
    is_first = (tally.first[:, 0] < 0) & jnp.any(bad, axis=1)
    return Tally(
        total=jnp.where(done, 0, total),
        error=jnp.where(done, 0, error),
        actions=tally.actions + (actions[:, None] == np.arange(NUM_ACTIONS + 1)),
        terminated=tally.terminated + step.terminated,
        truncated=tally.truncated + truncated,
        both=tally.both + (step.terminated & truncated),
        lowest=jnp.where(done, jnp.minimum(tally.lowest, total), tally.lowest),
        highest=jnp.where(done, jnp.maximum(tally.highest, total), tally.highest),
        broken=tally.broken + jnp.sum(bad, axis=1, dtype=jnp.int32),
        first=jnp.where(is_first[:, None], seen, tally.first),
    )
