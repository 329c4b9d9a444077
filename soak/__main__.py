"""The soak: millions of steps under the rules' invariants, ``python -m popgym_arcade.soak``.

Every environment is stepped in one jitted loop by the step that a user gets from ``make``, which
resets itself. All checks are made in that loop, on the device; what comes back are counts and, for
each check, the first step that broke it. The batch is shared by the players in PLAYERS: random,
expert, worst and adversarial ones, with actions that are none, and with limits cut short.

What is checked on every step: the flags, the reward, the return so far, time and score, the reset,
and the game's own invariants (invariants.py): ranges, counts of pieces, what may change and what
may not. The twins share their rules, so a step is taken once, by the MDP's functions, and counted
once. On every ``--check-frames-every``-th step of an environment the POMDP's functions take the
same step from the same state and must come to the same, and both twins' frames are drawn and every
pixel must have one of the colours that the view can show (:func:`legal_colors`). The frames are of
states before a reset and after it, in turn.

A violation is printed with the command that repeats it, and makes the exit code 1.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from popgym_arcade import experts, make
from popgym_arcade import render as draw
from popgym_arcade.bench import machine, progress
from popgym_arcade.registry import NUM_ACTIONS, REGISTRY, matching_names
from popgym_arcade.soak.invariants import INVARIANTS, Transition
from popgym_arcade.spaces import number_argument

UP, DOWN, LEFT, RIGHT, FIRE = range(5)
ACTION_NAMES = ("up", "down", "left", "right", "fire", "none of these")
NO_ACTIONS = (-1, 5, 7, -5, 255, 256, 2**31 - 1, -(2**31))  # some integers that are no action
ROUNDS_PER_CALL = 256  # how many rounds run before the device is asked how it went
TOLERANCE = 1e-5  # of returns and of the floats of two states that should be the same
COLUMNS = (
    "environment",
    "steps",
    "episodes",
    "terminated",
    "truncated",
    "returns",
    "expert's",
    "frames",
    "compile s",
    "steps/s",
)


# --- players: (random bits uint32[2], index int[], round int[], state, params) -> action int[] ---


def at_random(bits, index, round_, state, params):
    """Any of the five actions."""
    return bits[0] % NUM_ACTIONS


def any_integer(bits, index, round_, state, params):
    """Half of the time a number of NO_ACTIONS, else any int32 at all or one of the five actions."""
    number = bits[1].astype(jnp.int32)
    actions = jnp.stack(
        [jnp.array(NO_ACTIONS)[number % len(NO_ACTIONS)], number, number % NUM_ACTIONS]
    )
    return actions[jnp.maximum(bits[0] % 4, 1) - 1]


def expert(bits, index, round_, state, params):
    """The best play."""
    return experts.expert(state, params)


def worst(bits, index, round_, state, params):
    """The worst play."""
    return experts.worst(state, params)


def changing(bits, index, round_, state, params):
    """Worst play for 16 steps, random play for 16, the best play for 32, and so on."""
    moves = (
        experts.worst(state, params),
        at_random(bits, index, round_, state, params),
        experts.expert(state, params),
    )
    return jnp.stack([move.astype(jnp.int32) for move in moves])[
        jnp.minimum((index + round_ // 16) % 4, 2)
    ]


def stuck(bits, index, round_, state, params):
    """One action for 997 steps, then the next one; some of them are no actions."""
    choices = jnp.array([*range(NUM_ACTIONS), *NO_ACTIONS])
    return choices[(index + round_ // 997) % len(choices)]


def alternating(bits, index, round_, state, params):
    """Two actions in turn, one to three steps each, for 101 steps; then another two."""
    spell = round_ // 101
    pair = jnp.stack([(index + spell) % 5, (index // 5 + spell // 5) % 5])
    return pair[round_ // (1 + spell % 3) % 2]


class Player(NamedTuple):
    """Who plays a part of the batch."""

    name: str
    share: int  # of the batch, in sixteenths
    choose: Callable
    hurried: bool = False  # whether the limit of steps is cut short


PLAYERS = (
    Player("random", 5, at_random),
    Player("any integer", 2, any_integer),
    Player("expert", 2, expert),
    Player("worst", 1, worst),
    Player("changing", 1, changing),
    Player("stuck", 2, stuck),
    Player("alternating", 2, alternating),
    Player("hurried", 1, at_random, hurried=True),
)
SHARES = sum(player.share for player in PLAYERS)
LONGEST_HURRY = 40  # hurried episodes have limits of 1 to so many steps


def blocks(num_envs):
    """Which environments of a batch each player has: [(Player, first, end)]."""
    edges = [
        num_envs * share // SHARES
        for share in itertools.accumulate((player.share for player in PLAYERS), initial=0)
    ]
    return list(zip(PLAYERS, edges, edges[1:]))


def player_of(env, num_envs):
    """The Player of an environment of a batch."""
    return next(player for player, first, end in blocks(num_envs) if first <= env < end)


# --- what is checked -----------------------------------------------------------------------------


def game_checks(name, step, params):
    """The game's own invariants, of one Transition: {sentence: bool[]}."""
    game = INVARIANTS[REGISTRY[name].game]
    before, after = game.state(step.before, params), game.state(step.after, params)
    fresh = step.before.time == 0
    return {
        **{sentence: after[sentence] & (before[sentence] | ~fresh) for sentence in after},
        **{sentence: kept | ~fresh for sentence, kept in game.start(step.before, params).items()},
        **game.step(step, params),
    }


def common_checks(step, end, returns, next_state, params):
    """What holds in every game: {sentence: bool[]}.

    step: Transition. end: (done, info). returns: (the range of returns, the return so far).
    next_state: the state after the reset, if there was one.
    """
    (done, info), ((low, high), total), limit = end, returns, params.max_steps_in_episode
    return {
        "the reward is finite": jnp.isfinite(step.reward),
        "the reward is at most 1 in size": jnp.abs(step.reward) <= 1 + TOLERANCE,
        f"the return so far lies in {low:g} ... {high:g}": (total >= low - TOLERANCE)
        & (total <= high + TOLERANCE),
        "done is terminated or truncated": done == (step.terminated | info["truncated"]),
        "truncated with the step that reaches the limit and no other": info["truncated"]
        == (step.before.time + 1 == limit),
        "no step is taken beyond the limit": step.before.time < limit,
        "discount is 0 if terminated and else 1": info["discount"] == 1 - step.terminated,
        "time counts the steps": step.after.time == step.before.time + 1,
        "time is 0 after a reset": ~done | (next_state.time == 0),
        "the score is 0 after a reset": ~done | (next_state.score == 0),
        "the state stays as it is where there is no reset": done | same(step.after, next_state),
    }


def same(one, other):
    """Whether two states, or any two trees of arrays, are the same but for rounding: bool[]."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other))
    return functools.reduce(
        jnp.logical_and,
        (jnp.all(jnp.abs(a * 1 - b * 1) <= TOLERANCE * (1 + jnp.abs(b * 1))) for a, b in pairs),
    )


# --- colours -------------------------------------------------------------------------------------


def code(rgb):
    """A colour as one number: (red, green, blue) -> red * 65536 + green * 256 + blue."""
    return (int(rgb[0]) << 16) | (int(rgb[1]) << 8) | int(rgb[2])


class Palette:
    """All colours that a drawing can give to a pixel, found by following the primitives of
    render.py as it is traced.

    A canvas is followed as a set of colours for each of its scanlines. A tile adds the colours of
    its texture, an ink its own, and soft edges add the mixtures of their ink with what is on the
    scanline, in all proportions that can come up.
    """

    def __init__(self):
        """Begin with nothing seen."""
        self.everything = set()
        self.lines = {}  # id of a canvas: (the canvas, so that no other gets its id; a frozenset of colours for each scanline)
        self.used = []  # for each primitive that is being traced: the colours it used so far

    def of(self, canvas):
        """The colours on each scanline of a canvas; of a canvas from elsewhere, whatever was
        seen."""
        known = self.lines.get(id(canvas))
        return known[1] if known else [frozenset(self.everything)] * canvas.shape[0]

    def learn(self, canvas, lines):
        """Remember what a canvas may show."""
        self.lines[id(canvas)] = canvas, lines
        self.everything.update(*set(lines))
        return canvas

    def color(self, function):
        """A function that returns pixels, followed: its colours count as used by the primitives
        around it."""

        def followed(*arguments, **options):
            pixels = function(*arguments, **options)
            colors = {code(rgb) for rgb in np.unique(np.asarray(pixels).reshape(-1, 3), axis=0)}
            self.everything |= colors
            for used in self.used:
                used |= colors
            return pixels

        return followed

    def primitive(self, function):
        """A primitive that paints on a canvas, followed."""

        def followed(*arguments, **options):
            self.used.append(set())
            painted = function(*arguments, **options)
            used = frozenset(self.used.pop())
            if id(painted) not in self.lines and painted.ndim == 2:
                below = (
                    self.of(arguments[0])
                    if hasattr(arguments[0], "ndim")
                    else [frozenset()] * painted.shape[0]
                )
                self.learn(painted, [line | used for line in below])
            return painted

        return followed

    def spans(self, function):
        """The primitive with soft edges, followed."""

        def followed(canvas, *, left, right, colors):
            painted = function(canvas, left=left, right=right, colors=colors)
            lines = self.of(canvas)
            inks = [
                tuple(draw.PALETTE[color])
                for color in (colors * len(lines) if len(colors) == 1 else colors)
            ]
            shares = possible_shares(left, right, len(lines))
            return self.learn(
                painted, [line | mixtures(line, *rest) for line, *rest in zip(lines, inks, shares)]
            )

        return followed


def possible_shares(left, right, height):
    """In which proportions spans may cover a pixel of each scanline, in SUBPIXEL-ths: a list of
    frozensets of int."""
    if not all(isinstance(edge, int | np.integer | np.ndarray) for edge in (left, right)):
        return [frozenset(range(draw.SUBPIXEL + 1))] * height
    edges = np.stack(
        np.broadcast_arrays(left, np.maximum(left, right), np.zeros(height, int)), axis=1
    )[:, :2].tolist()
    starts = np.arange(0, 1024 * draw.SUBPIXEL, draw.SUBPIXEL)

    @functools.cache
    def shares(begin, end):
        covered = np.clip(end - starts, 0, draw.SUBPIXEL) - np.clip(
            begin - starts, 0, draw.SUBPIXEL
        )
        return frozenset(covered.tolist())

    return list(itertools.starmap(shares, edges))


@functools.cache
def mixtures(colors, ink, shares):
    """An ink over each of some colours, in some proportions: a frozenset."""
    base = np.array([[color >> 16, color >> 8 & 255, color & 255] for color in colors]).reshape(
        -1, 1, 3
    )
    mixed = (
        base + ((np.array(ink) - base) * np.array(sorted(shares))[None, :, None]) // draw.SUBPIXEL
    )
    return frozenset((mixed @ [65536, 256, 1]).reshape(-1).tolist())


def legal_colors(env, params):
    """Every colour that an environment's frames can show, by following its drawing as it is traced:
    a set of code(rgb).

    The colours of a tile are those of the size it is drawn at, and soft edges mix only what meets
    on one scanline. Which pixel may have which of the colours is not told, and where soft edges
    could overlap, but never do, their mixtures are in the set too.
    """
    palette = Palette()
    compiled = {
        name: value
        for name, value in vars(draw).items()
        if hasattr(value, "lower") and hasattr(value, "__wrapped__")
    }
    followed = {name: palette.primitive(value.__wrapped__) for name, value in compiled.items()}
    followed |= {
        "blank": palette.primitive(draw.blank),
        "spans": palette.spans(draw.spans.__wrapped__),
    }
    followed |= {name: palette.color(getattr(draw, name)) for name in ("tile_texture", "_bytes")}
    with mock.patch.multiple(draw, **followed):
        _, state = jax.eval_shape(lambda key: env.reset(key, params), jax.random.key(0))
        jax.eval_shape(lambda state: env.render(state, params), state)
    return palette.everything


def color_table(colors):
    """A look-up table of colours: bool[2**24], true at the code of each."""
    table = np.zeros(1 << 24, bool)
    table[list(colors)] = True
    return jnp.asarray(table)


def all_legal(frame, table):
    """Whether every pixel of a frame is in the table: bool[]."""
    red, green, blue = (frame[..., channel].astype(jnp.int32) for channel in range(3))
    return jnp.all(table[(red << 16) | (green << 8) | blue])


# --- the loop ------------------------------------------------------------------------------------


class Played(NamedTuple):
    """One round: a step of every environment of a batch. The leaves have a leading axis,
    [num_envs]."""

    step: Transition
    next_states: Any  # the states after the resets
    done: jax.Array  # bool
    truncated: jax.Array  # bool
    returns: tuple  # of the running episodes, as ``add`` makes them: (float32, float32)
    checks: dict  # {sentence: bool}


class Tally(NamedTuple):
    """What the loop counts; C is the number of checks."""

    total: jax.Array  # float32[num_envs]: the running episode's return
    rest: jax.Array  # float32[num_envs]: what rounding has added to it (Kahan's sum)
    actions: (
        jax.Array
    )  # int32[num_envs, 6]: how often each action was taken; the last for all other integers
    terminated: jax.Array  # int32[num_envs]: episodes that ended so
    truncated: jax.Array  # int32[num_envs]
    both: (
        jax.Array
    )  # int32[num_envs]: episodes that ended in both ways, counted in each of the two above as well
    lowest: jax.Array  # float32[num_envs]: of the returns of finished episodes
    highest: jax.Array  # float32[num_envs]
    broken: jax.Array  # int32[C]: how many steps broke each check
    first: jax.Array  # int32[C, 4]: of the first of them the round, environment, action and time; -1 if there is none


class Ready(NamedTuple):
    """An environment made ready to be soaked."""

    name: str
    checks: list  # the C sentences
    loop: Callable  # (carry, first round, end, table of colours) -> carry; compiled
    carry: Any  # (states, Tally)
    table: jax.Array
    compile_seconds: float


def prepare(name, options):
    """Make and compile an environment's loop: Ready."""
    start, key = time.perf_counter(), first_key(name, options)
    twins = [
        make(name, partial_obs=partial_obs, obs_size=options.obs_size)
        for partial_obs in (False, True)
    ]
    table = color_table(set().union(*(legal_colors(*twin) for twin in twins)))
    play = jax.jit(round_function(name, twins, options))  # so that it is traced once
    env, params = twins[0]
    reset = jax.jit(lambda keys: jax.vmap(env.reset, in_axes=(0, None))(keys, params)[1])
    states = reset(jax.random.split(key, options.num_envs))
    first, none = jnp.int32(0), jnp.zeros(options.num_envs)
    checks = sorted(jax.eval_shape(play, first, states, (none, none), table).checks)

    def loop(carry, first, end, table):
        def one_round(i, carry):
            states, tally = carry
            played = play(i, states, (tally.total, tally.rest), table)
            return played.next_states, counted(tally, i, played, checks)

        return jax.lax.fori_loop(first, end, one_round, carry)

    carry = states, new_tally(options.num_envs, len(checks))
    compiled = jax.jit(loop).lower(carry, first, first, table).compile()
    return Ready(name, checks, compiled, carry, table, time.perf_counter() - start)


def round_function(name, twins, options):
    """The function that plays a round: (round, states, running returns, table of colours) ->
    Played."""
    (mdp, mdp_params), (pomdp, pomdp_params) = twins
    num_envs, every = options.num_envs, options.check_frames_every
    limits = cut_limits(mdp_params, num_envs)
    params = dataclasses.replace(mdp_params, max_steps_in_episode=limits)
    axes = dataclasses.replace(jax.tree.map(lambda _: None, mdp_params), max_steps_in_episode=0)
    pomdp_axes = dataclasses.replace(
        jax.tree.map(lambda _: None, pomdp_params), max_steps_in_episode=0
    )
    step, step_env = (
        jax.vmap(function, in_axes=(0, 0, 0, axes)) for function in (mdp.step, mdp.step_env)
    )
    twin_step = jax.vmap(pomdp.step_env, in_axes=(0, 0, 0, pomdp_axes))
    run_key = first_key(name, options)
    return_limits = REGISTRY[name].return_range

    def check(step, done, info, total, next_state, params):
        common = common_checks(step, (done, info), (return_limits, total), next_state, params)
        return {**common, **game_checks(name, step, params)}

    def play(i, states, returns, table):
        step_key, action_key = jax.random.split(jax.random.fold_in(run_key, i))
        keys, bits = (
            jax.random.split(step_key, num_envs),
            jax.random.bits(action_key, (num_envs, 2)),
        )
        actions = choose_actions(bits, i, states, params, axes)
        _, next_states, *outcome = step(keys, states, actions, params)
        bare_keys = jax.vmap(lambda key: jax.random.split(key)[0])(
            keys
        )  # what the step without a reset gets of a step's key
        _, after, *bare_outcome = step_env(bare_keys, states, actions, params)
        reward, done, info = outcome
        taken = Transition(states, actions, after, reward, info["terminated"])
        returns = add(*returns, reward)
        checks = jax.vmap(check, in_axes=(0, 0, 0, 0, 0, axes))(
            taken, done, info, returns[0], next_states, params
        )
        checks["step and step_env have the same outcome"] = jax.vmap(same)(outcome, bare_outcome)

        chosen = (i + every * np.arange(checked_a_round(options))) % num_envs

        def some(tree):
            return jax.tree.map(lambda leaf: leaf[chosen], tree)

        def of_chosen(kept):
            return jnp.ones(num_envs, bool).at[chosen].set(kept)

        chosen_params = dataclasses.replace(pomdp_params, max_steps_in_episode=limits[chosen])
        _, *twins_step = twin_step(*some((bare_keys, states, actions)), chosen_params)
        checks["the twins take the same step"] = of_chosen(
            jax.vmap(same)(twins_step, [some(after), *some(bare_outcome)])
        )
        shown = jax.tree.map(
            lambda *ends: jnp.where(i // every % 2, *ends), some(after), some(next_states)
        )
        for view, (env, view_params) in zip(("MDP", "POMDP"), twins):
            frames = jax.vmap(env.render, in_axes=(0, None))(shown, view_params)
            checks[f"{view} frames have colours of theirs only"] = of_chosen(
                jax.vmap(all_legal, in_axes=(0, None))(frames, table)
            )
        return Played(taken, next_states, done, info["truncated"], returns, checks)

    return play


def first_key(name, options):
    """The key that all of an environment's chance comes from; each environment has another."""
    return jax.random.fold_in(jax.random.key(options.seed), zlib.crc32(name.encode()))


def checked_a_round(options):
    """How many environments have their frames checked in a round: an int."""
    return max(1, options.num_envs // options.check_frames_every)


def cut_limits(params, num_envs):
    """Each environment's limit of steps: the level's own, and less for hurried players;
    int32[num_envs]."""
    limits = np.full(num_envs, params.max_steps_in_episode, np.int32)
    for player, first, end in blocks(num_envs):
        if player.hurried:
            limits[first:end] = np.minimum(
                limits[first:end], 1 + np.arange(end - first) % LONGEST_HURRY
            )
    return jnp.asarray(limits)


def choose_actions(bits, i, states, params, axes):
    """Every environment's action, by its player: int32[num_envs]."""
    actions = []
    for player, first, end in blocks(len(bits)):
        part = slice(first, end)
        their_states = jax.tree.map(lambda leaf, part=part: leaf[part], states)
        their_params = dataclasses.replace(
            params, max_steps_in_episode=params.max_steps_in_episode[part]
        )
        choose = jax.vmap(player.choose, in_axes=(0, 0, None, 0, axes))
        actions.append(
            choose(bits[part], jnp.arange(first, end), i, their_states, their_params).astype(
                jnp.int32
            )
        )
    return jnp.concatenate(actions)


def add(total, rest, reward):
    """Add a reward to a return by Kahan's sum: (the return, what rounding has added to it),
    float32[num_envs] each."""
    addend = reward - rest
    return total + addend, ((total + addend) - total) - addend


def new_tally(num_envs, num_checks):
    """Nothing counted yet: Tally."""
    zeros, counts = jnp.zeros(num_envs), jnp.zeros(num_envs, jnp.int32)
    return Tally(
        total=zeros,
        rest=zeros,
        actions=jnp.zeros((num_envs, NUM_ACTIONS + 1), jnp.int32),
        terminated=counts,
        truncated=counts,
        both=counts,
        lowest=jnp.full(num_envs, jnp.inf),
        highest=jnp.full(num_envs, -jnp.inf),
        broken=jnp.zeros(num_checks, jnp.int32),
        first=jnp.full((num_checks, 4), -1, jnp.int32),
    )


def counted(tally, i, played, checks):
    """The tally with one round added."""
    step, done, truncated = played.step, played.done, played.truncated
    total, rest = played.returns
    actions = jnp.where((step.action >= 0) & (step.action < NUM_ACTIONS), step.action, NUM_ACTIONS)
    bad = ~jnp.stack([played.checks[check] for check in checks])
    env = jnp.argmax(bad, axis=1)
    seen = jnp.stack(
        [jnp.full(len(checks), i), env, step.action[env], step.before.time[env]], axis=1
    )
    is_first = (tally.first[:, 0] < 0) & jnp.any(bad, axis=1)
    return Tally(
        total=jnp.where(done, 0, total),
        rest=jnp.where(done, 0, rest),
        actions=tally.actions + (actions[:, None] == np.arange(NUM_ACTIONS + 1)),
        terminated=tally.terminated + step.terminated,
        truncated=tally.truncated + truncated,
        both=tally.both + (step.terminated & truncated),
        lowest=jnp.where(done, jnp.minimum(tally.lowest, total), tally.lowest),
        highest=jnp.where(done, jnp.maximum(tally.highest, total), tally.highest),
        broken=tally.broken + jnp.sum(bad, axis=1, dtype=jnp.int32),
        first=jnp.where(is_first[:, None], seen, tally.first),
    )


# --- the report ----------------------------------------------------------------------------------


def run(name, options, show=lambda rounds: None):
    """Soak one environment until it is through or a check is broken: the report on it, a dict.

    show: called with the number of rounds played, from time to time.
    """
    ready = prepare(name, options)
    carry, played, start = ready.carry, 0, time.perf_counter()
    while played < options.rounds and not np.any(carry[1].broken):
        end = min(played + ROUNDS_PER_CALL, options.rounds)
        carry, played = ready.loop(carry, jnp.int32(played), jnp.int32(end), ready.table), end
        show(played)
    tally = jax.tree.map(np.asarray, carry[1])
    return report_on(ready, tally, played, time.perf_counter() - start, options)


def report_on(ready, tally, rounds, seconds, options):
    """What was covered of one environment, and what was broken: a dict."""
    terminated, truncated, both = (
        int(counts.sum()) for counts in (tally.terminated, tally.truncated, tally.both)
    )
    return {
        "environment": ready.name,
        "steps": rounds * options.num_envs,
        "episodes": terminated + truncated - both,
        "terminated": terminated,
        "truncated": truncated,
        "both": both,
        "returns": extremes(tally, slice(None)),
        "actions": dict(zip(ACTION_NAMES, tally.actions.sum(axis=0).tolist())),
        "players": {
            player.name: of_player(tally, slice(first, end))
            for player, first, end in blocks(options.num_envs)
        },
        "checks": ready.checks,
        "frames": 2 * rounds * checked_a_round(options),
        "legal colours": int(ready.table.sum()),
        "compile s": ready.compile_seconds,
        "seconds": seconds,
        "steps/s": rounds * options.num_envs / seconds,
        "violations": violations(ready, tally, options),
    }


def of_player(tally, part):
    """What one player covered: a dict."""
    episodes = tally.terminated[part].sum() + tally.truncated[part].sum() - tally.both[part].sum()
    return {
        "steps": int(tally.actions[part].sum()),
        "episodes": int(episodes),
        "returns": extremes(tally, part),
    }


def extremes(tally, part):
    """The least and the greatest return of finished episodes: [float, float], or None where none is
    finished."""
    low, high = float(tally.lowest[part].min()), float(tally.highest[part].max())
    return [low, high] if low <= high else None


def violations(ready, tally, options):
    """The first violation of every check that was broken, the earliest first: a list of dicts."""
    found = []
    for check, count, (step, env, action, state_time) in zip(
        ready.checks, tally.broken.tolist(), tally.first.tolist()
    ):
        if count:
            violation = {
                "environment": ready.name,
                "check": check,
                "seed": options.seed,
                "index": env,
                "step": step,
            }
            violation |= {
                "player": player_of(env, options.num_envs).name,
                "action": action,
                "time": state_time,
                "count": count,
            }
            found.append(violation | {"command": command(ready.name, step, options)})
    return sorted(found, key=lambda violation: violation["step"])


def command(name, step, options):
    """The command that repeats a run up to a step."""
    return (
        f"python -m popgym_arcade.soak --games {name} --seed {options.seed} --steps {(step + 1) * options.num_envs} "
        f"--num-envs {options.num_envs} --obs-size {options.obs_size} --check-frames-every {options.check_frames_every}"
    )


def violation_text(violation):
    """A violation in words."""
    return (
        "{environment}: '{check}' broke at seed {seed}, environment {index} (player: {player}), step {step}, with action {action} "
        "at time {time}; {count} steps broke it so far\n    {command}".format(**violation)
    )


def row_text(values):
    """A row of the table, aligned, as Markdown."""
    widths = (22, 10, 9, 10, 9, 16, 16, 9, 9, 9)
    cells = [
        value.rjust(width) if i else value.ljust(width)
        for i, (value, width) in enumerate(zip(values, widths))
    ]
    return "| " + " | ".join(cells) + " |"


def formatted(row):
    """The figures of a row as text."""
    returns, experts_returns = (
        "{:.3f} ... {:.3f}".format(*found) if found else "none"
        for found in (row["returns"], row["players"]["expert"]["returns"])
    )
    counts = (f"{row[column]:,}" for column in ("steps", "episodes", "terminated", "truncated"))
    return [
        row["environment"],
        *counts,
        returns,
        experts_returns,
        f"{row['frames']:,}",
        f"{row['compile s']:.1f}",
        f"{row['steps/s']:,.0f}",
    ]


def total_text(report):
    """What all environments covered together, in words."""
    rows = report["rows"]
    totals = {
        key: sum(row[key] for row in rows)
        for key in ("steps", "episodes", "terminated", "truncated", "both", "frames")
    }
    seconds, compiling = (sum(row[key] for row in rows) for key in ("seconds", "compile s"))
    actions = {action: sum(row["actions"][action] for row in rows) for action in rows[0]["actions"]}
    players = {
        player: sum(row["players"][player]["steps"] for row in rows)
        for player in rows[0]["players"]
    }
    return (
        f"{totals['steps']:,} steps in {len(rows)} environments, each counted once for both twins; "
        f"{totals['episodes']:,} episodes, {totals['terminated']:,} terminated, {totals['truncated']:,} truncated, "
        f"{totals['both']:,} both; {totals['frames']:,} frames, half of them of each twin; "
        f"{seconds:.0f} s and {compiling:.0f} s to compile\n"
        f"actions: {', '.join(f'{count:,} {action}' for action, count in actions.items())}\n"
        f"steps by player: {', '.join(f'{count:,} {player}' for player, count in players.items())}"
    )


# --- the command ---------------------------------------------------------------------------------


def parse(arguments):
    """The command line as a namespace, with ``names`` and ``rounds`` worked out."""
    parser = argparse.ArgumentParser(
        description="Step all environments millions of times and check what must always hold."
    )
    parser.add_argument(
        "--games",
        nargs="+",
        default=[],
        metavar="NAME",
        help="games or environments, e.g. Navigator BattleShipEasy",
    )
    parser.add_argument(
        "--steps",
        type=number_argument(1),
        default=700_000,
        help="steps of each environment (default 700000)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="what all keys are made from (default 0)"
    )
    parser.add_argument(
        "--num-envs",
        type=number_argument(1),
        default=256,
        help="environments that step together (default 256)",
    )
    parser.add_argument(
        "--obs-size",
        type=int,
        choices=draw.OBS_SIZES,
        default=draw.OBS_SIZES[0],
        help="pixels a side (default 128)",
    )
    parser.add_argument(
        "--check-frames-every",
        type=number_argument(1),
        default=17,
        metavar="N",
        help="look at the frames of every Nth step (default 17)",
    )
    parser.add_argument(
        "--json", metavar="PATH", type=Path, help="also write the figures to this file"
    )
    options = parser.parse_args(arguments)
    try:
        options.names = matching_names(options.games)
    except ValueError as error:
        parser.error(str(error))
    options.rounds = -(-options.steps // options.num_envs)
    if options.num_envs < SHARES:
        parser.error(
            f"--num-envs must be at least {SHARES}, so that each player has one, but it is {options.num_envs}"
        )
    if not -(2**31) <= options.seed < 2**31:
        parser.error(f"--seed must be in {-(2**31)} ... {2**31 - 1}, but it is {options.seed}")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json: there is no folder {options.json.parent}")
    return options


def show_progress(name, options, played):
    """Show how far the whole soak is, when this environment has played so many rounds."""
    progress(
        options.names.index(name) * options.rounds + played,
        len(options.names) * options.rounds,
        name,
    )


def soak(arguments):
    """Run the soak with these command-line arguments, print what it covered, and return the report
    that ``--json`` writes."""
    options = parse(arguments)
    report = {"machine": machine(options.num_envs, options.obs_size), "rows": []}
    print(
        ", ".join(f"{key} {value}" for key, value in report["machine"].items()),
        f"seed {options.seed}",
        sep=", ",
        flush=True,
    )
    print(row_text(COLUMNS), row_text(["---"] * len(COLUMNS)), sep="\n", flush=True)
    for name in options.names:
        row = run(name, options, functools.partial(show_progress, name, options))
        report["rows"].append(row)
        print(
            row_text(formatted(row)), *map(violation_text, row["violations"]), sep="\n", flush=True
        )
    report["violations"] = sum((row["violations"] for row in report["rows"]), [])
    print(total_text(report), f"violations: {len(report['violations'])}", sep="\n")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))
    return report


def main():
    """Run the soak from the command line."""
    sys.exit(1 if soak(sys.argv[1:])["violations"] else 0)


if __name__ == "__main__":
    main()
