"""Evaluate a trained agent: ``popgym-arcade-eval CHECKPOINT`` plays episodes on both twins.

It prints the returns and can record an episode. In Python, ``evaluate_agent`` returns them, and
``policy`` is the agent as a function from frames to actions, which ``popgym_arcade.play.record``
accepts.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence

import equinox as eqx
import jax
import numpy as np
from numpy.typing import ArrayLike

import popgym_arcade
from popgym_arcade import spaces
from popgym_arcade.baselines import rollout
from popgym_arcade.baselines.algorithms import ALGORITHMS
from popgym_arcade.baselines.checkpoint import Agent, check_rules, load_agent
from popgym_arcade.baselines.precision import in_32_bits
from popgym_arcade.baselines.table import with_interval
from popgym_arcade.commands import files
from popgym_arcade.play import record
from popgym_arcade.registry import NO_ACTION, TWINS, overrides_from, twin_name

__all__ = ["evaluate_agent", "main", "policy", "returns_table"]

_PARTS = 50  # of the longest possible episode; after each, the progress is shown

Results = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Twin -> (returns, lengths) of its episodes."""


def evaluate_agent(
    agent: Agent,
    twin: str | None = None,
    episodes: int = 128,
    seed: int = 0,
    progress: record.Progress = record.ignore_progress,
) -> tuple[np.ndarray, np.ndarray]:
    """Play whole episodes: (returns float32[episodes], lengths int32[episodes]).

    twin: "MDP" or "POMDP"; by default the one that the agent was trained on. seed: determines the
    episodes, which are the same on both twins. Agents of PQN and DQN act greedily, agents of PPO
    sample from their policy. progress: e.g. ``record.show_progress``.
    """
    spaces.check_seed("seed", seed)
    twin = twin_name(agent.config["partial"]) if twin is None else twin
    spaces.check_name("twin", twin, TWINS)
    env, params = popgym_arcade.make(
        agent.config["env"],
        TWINS[twin],
        agent.config["obs_size"],
        **overrides_from(agent.config["params"]),
    )
    act, limit = ALGORITHMS[agent.algorithm].act, params.max_steps_in_episode
    arrays, static = eqx.partition(agent.network, eqx.is_array)

    def start(arrays, key):
        return rollout.start_episodes(env, params, eqx.combine(arrays, static), key, episodes)

    def advance(arrays, played):
        network, part = eqx.combine(arrays, static), -(-limit // _PARTS)
        return rollout.advance_episodes(env, params, act, network, played, part)

    progress(0, 1, f"compiling the {twin}")
    played = jax.jit(start)(arrays, jax.random.PRNGKey(seed))
    advance = jax.jit(advance).lower(arrays, played).compile()
    progress(1, 1, f"compiling the {twin}")
    what = f"playing the {twin}"
    progress(0, _PARTS, what)
    for part in range(_PARTS):
        played = advance(arrays, played)
        progress(part + 1, _PARTS, what)
    return jax.device_get((played.returns, played.lengths))


def policy(agent: Agent, seed: int = 0) -> Callable[[ArrayLike], int]:
    """The agent as a stateful function for one episode: a frame, uint8[S, S, 3], to an action.

    seed: determines the actions that are sampled, which only agents of PPO do.
    """
    act = ALGORITHMS[agent.algorithm].act

    @eqx.filter_jit
    @in_32_bits
    def one_step(network, carry, observation, last_action, start, key):
        carry, outputs = network(carry, observation[None], last_action[None], start[None])
        return carry, act(outputs, key)[0][0]

    carry, last_action = in_32_bits(agent.network.initialize_carry)(), NO_ACTION
    key = jax.random.PRNGKey(seed)

    def play(observation: ArrayLike) -> int:
        nonlocal carry, last_action, key
        key, act_key = jax.random.split(key)
        start = np.bool_(last_action == NO_ACTION)
        carry, action = one_step(
            agent.network, carry, np.asarray(observation), np.int32(last_action), start, act_key
        )
        last_action = int(action)
        return last_action

    return play


def returns_table(results: Results) -> str:
    """A Markdown table of returns, with 95% confidence intervals of mean and median."""
    lines = [
        "| twin | episodes | mean return | median return | best return | mean length |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for twin, (returns, lengths) in results.items():
        mean, median = (with_interval(returns, of) for of in (np.mean, np.median))
        best, length = f"{max(returns):.3f}", f"{np.mean(lengths):.1f}"
        lines.append(f"| {twin} | {len(returns)} | {mean} | {median} | {best} | {length} |")
    return "\n".join(lines)


@files.output_may_be_cut()
def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate an agent from the command line.

    Invalid input exits with 2, and a file that cannot be read or written with 1.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.gif:
            record.check_path(options.gif)
        agent = load_agent(options.checkpoint, options.agent_seed)
        check_rules(agent.path, agent.manifest)
        _report(agent, options)
    except (ValueError, OSError) as error:
        files.end_command(parser.prog, error)


def _parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    parser = argparse.ArgumentParser(
        prog="popgym-arcade-eval", description="Evaluate a trained agent on both twins."
    )
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="folder of a checkpoint, or of a run")
    add(
        "--episodes",
        type=spaces.number_argument(1),
        default=128,
        help="episodes per twin (default: %(default)s)",
    )
    add(
        "--seed",
        type=spaces.number_argument(0, spaces.MAX_SEED),
        default=0,
        help="random seed of the episodes (default: %(default)s)",
    )
    add(
        "--agent-seed",
        type=int,
        help="seed of the agent, if the run trained several (default: the first)",
    )
    add(
        "--twin",
        choices=(*TWINS, "both"),
        default="both",
        help="twins to evaluate on (default: %(default)s)",
    )
    add(
        "--gif",
        metavar="PATH",
        help="record an episode on the training twin to a .gif or .png file",
    )
    add(
        "--json",
        type=files.file_argument,
        metavar="PATH",
        help="write the returns and lengths of all episodes to a file",
    )
    return parser


def _report(agent: Agent, options: argparse.Namespace) -> None:
    """Play, print the table, and write the requested files."""
    twins = TWINS if options.twin == "both" else [options.twin]
    results = {
        twin: evaluate_agent(agent, twin, options.episodes, options.seed, record.show_progress)
        for twin in twins
    }
    config = agent.config
    print(
        f"{agent.path}: {agent.algorithm}, memory {config['memory']}, "
        f"trained on the {twin_name(config['partial'])} of {config['env']}"
    )
    print(returns_table(results))
    if options.json:
        content = {
            twin: {"returns": returns.tolist(), "lengths": lengths.tolist()}
            for twin, (returns, lengths) in results.items()
        }
        files.write_files({options.json: json.dumps(content).encode()})
    if options.gif:
        played = record.record(
            options.gif,
            config["env"],
            policy(agent, options.seed),
            seed=options.seed,
            partial_obs=config["partial"],
            obs_size=config["obs_size"],
            keep_frames=False,
            progress=record.show_progress,
            **overrides_from(config["params"]),
        )
        steps, total = len(played.actions), played.rewards.sum()
        print(f"wrote {options.gif}: {steps} steps, return {total:.3f}")


if __name__ == "__main__":
    main()
