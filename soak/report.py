"""The soak's report: what was covered and which checks were broken, as dicts and as text."""

from typing import Any

from popgym_arcade.registry import Action
from popgym_arcade.soak.loop import Loop, Options, Tally
from popgym_arcade.soak.players import blocks, player_of

__all__ = ["header_text", "report_on", "row_text", "total_text", "violation_text"]

ACTION_NAMES = (*(action.name.lower() for action in Action), "not an action")
COLUMNS = {  # to their widths
    "environment": 22,
    "steps": 10,
    "episodes": 9,
    "terminated": 10,
    "truncated": 9,
    "returns": 15,
    "expert returns": 15,
    "frames": 9,
    "compile s": 9,
    "steps/s": 9,
}


def report_on(
    loop: Loop, tally: Tally, rounds: int, seconds: float, options: Options
) -> dict[str, Any]:
    """What was covered of one environment, and what was broken.

    tally: as NumPy arrays. rounds: how many were played. seconds: how long they took.
    """
    terminated, truncated, both = (
        int(counts.sum()) for counts in (tally.terminated, tally.truncated, tally.both)
    )
    return {
        "environment": loop.name,
        "steps": rounds * options.num_envs,
        "episodes": terminated + truncated - both,
        "terminated": terminated,
        "truncated": truncated,
        "both": both,
        "returns": _return_range(tally, slice(None)),
        "actions": dict(zip(ACTION_NAMES, tally.actions.sum(axis=0).tolist())),
        "players": {
            player.name: _of_player(tally, slice(first, end))
            for player, first, end in blocks(options.num_envs)
        },
        "checks": loop.checks,
        "frames": 2 * rounds * options.checked_per_round,
        "legal colors": int(loop.table.sum()),
        "compile s": loop.compile_seconds,
        "seconds": seconds,
        "steps/s": rounds * options.num_envs / seconds,
        "violations": _violations(loop, tally, options),
    }


def _of_player(tally, part):
    """What one player covered, a dict. part: the slice of the batch that it has."""
    episodes = tally.terminated[part].sum() + tally.truncated[part].sum() - tally.both[part].sum()
    return {
        "steps": int(tally.actions[part].sum()),
        "episodes": int(episodes),
        "returns": _return_range(tally, part),
    }


def _return_range(tally, part):
    """The lowest and highest return of finished episodes, [float, float], or None without one."""
    low, high = float(tally.lowest[part].min()), float(tally.highest[part].max())
    return [low, high] if low <= high else None


def _violations(loop, tally, options):
    """The first violation of each broken check, as dicts, the earliest first."""
    found = []
    for check, count, (step, env, action, state_time) in zip(
        loop.checks, tally.broken.tolist(), tally.first.tolist()
    ):
        if count:
            found.append(
                {
                    "environment": loop.name,
                    "check": check,
                    "seed": options.seed,
                    "index": env,
                    "step": step,
                    "player": player_of(env, options.num_envs).name,
                    "action": action,
                    "time": state_time,
                    "count": count,
                    "command": _command(loop.name, step, options),
                }
            )
    return sorted(found, key=lambda violation: violation["step"])


def _command(name, step, options):
    """The command that repeats a run up to a step."""
    return (
        f"python -m popgym_arcade.soak --games {name} --seed {options.seed} "
        f"--steps {(step + 1) * options.num_envs} --num-envs {options.num_envs} "
        f"--obs-size {options.obs_size} --check-frames-every {options.check_frames_every}"
    )


# --- text ----------------------------------------------------------------------------------------


def violation_text(violation: dict[str, Any]) -> str:
    """A violation in words, with the command that repeats it."""
    return (
        "{environment}: '{check}' was first broken with seed {seed} in environment {index} "
        "(player: {player}) at step {step}, by action {action} at time {time}; {count} steps "
        "broke it\n    {command}".format(**violation)
    )


def header_text() -> str:
    """The head of the table, as Markdown."""
    return "\n".join([_aligned(COLUMNS), _aligned(["---"] * len(COLUMNS))])


def row_text(row: dict[str, Any]) -> str:
    """What was covered of one environment, as a row of the table."""
    returns, expert_returns = (
        "{:.3f} to {:.3f}".format(*found) if found else "none"
        for found in (row["returns"], row["players"]["expert"]["returns"])
    )
    counts = (f"{row[column]:,}" for column in ("steps", "episodes", "terminated", "truncated"))
    return _aligned(
        [
            row["environment"],
            *counts,
            returns,
            expert_returns,
            f"{row['frames']:,}",
            f"{row['compile s']:.1f}",
            f"{row['steps/s']:,.0f}",
        ]
    )


def _aligned(values):
    """A row of the table, aligned, as Markdown."""
    cells = [
        value.rjust(width) if i else value.ljust(width)
        for i, (value, width) in enumerate(zip(values, COLUMNS.values()))
    ]
    return "| " + " | ".join(cells) + " |"


def total_text(rows: list[dict[str, Any]]) -> str:
    """What all environments covered together, in words."""
    totals = {
        key: sum(row[key] for row in rows)
        for key in ("steps", "episodes", "terminated", "truncated", "both", "frames")
    }
    seconds, compiling = (sum(row[key] for row in rows) for key in ("seconds", "compile s"))
    actions = {action: sum(row["actions"][action] for row in rows) for action in ACTION_NAMES}
    players = {
        player: sum(row["players"][player]["steps"] for row in rows)
        for player in rows[0]["players"]
    }
    return (
        f"{totals['steps']:,} steps in {len(rows)} environments (a step counts once for both "
        f"twins); {totals['episodes']:,} episodes: {totals['terminated']:,} terminated, "
        f"{totals['truncated']:,} truncated, {totals['both']:,} of these both; "
        f"{totals['frames']:,} frames, half of them of each twin; "
        f"{seconds:.0f} s to run and {compiling:.0f} s to compile\n"
        f"actions: {_counts_text(actions)}\n"
        f"steps by player: {_counts_text(players)}"
    )


def _counts_text(counts):
    """Named counts in words."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
