"""Evaluate a trained agent: ``popgym-arcade-eval CHECKPOINT`` plays both twins, prints the returns
and records an episode.

In Python, ``evaluate_agent`` gives the returns, and ``policy`` is the agent as a function from a
frame to an action, which ``popgym_arcade.play.record`` takes.
"""

import argparse
import json
from pathlib import Path

import equinox as eqx
import jax
import numpy as np

import popgym_arcade
from popgym_arcade.baselines import rollout
from popgym_arcade.baselines.algorithms import ALGORITHMS
from popgym_arcade.baselines.checkpoint import check_rules, load_agent
from popgym_arcade.baselines.statistics import summary
from popgym_arcade.play import record
from popgym_arcade.registry import TWINS


def evaluate_agent(agent, twin=None, episodes=128, seed=0):
    """Play whole episodes: (returns float32[episodes], lengths int32[episodes]), NumPy arrays.

    agent: an Agent from ``checkpoint.load_agent``. twin: "MDP" or "POMDP"; by default the one it
    was trained on. seed: an int that decides the episodes, the same ones for both twins. Agents of
    PQN and DQN take the best action, those of PPO draw one.
    """
    partial = agent.config["partial"] if twin is None else TWINS[twin]
    env, params = popgym_arcade.make(agent.config["env"], partial, agent.config["obs_size"])
    arrays, static = eqx.partition(agent.network, eqx.is_array)
    act = ALGORITHMS[agent.algorithm].act
    play = jax.jit(
        lambda arrays, key: rollout.evaluate(
            env, params, act, eqx.combine(arrays, static), key, episodes
        )
    )
    return jax.device_get(play(arrays, jax.random.PRNGKey(seed)))


def policy(agent, seed=0):
    """The agent as a function of a frame, uint8[S, S, 3], to an action, an int, for one episode. It
    remembers what it saw.

    seed: an int that decides what is drawn by chance, which only agents of PPO do.
    """
    act = ALGORITHMS[agent.algorithm].act

    @eqx.filter_jit
    def one_step(network, carry, observation, last_action, start, key):
        carry, outputs = network(carry, observation[None], last_action[None], start[None])
        return carry, act(outputs, key)[0][0]

    carry, last_action, key = (
        agent.network.initialize_carry(),
        rollout.NO_ACTION,
        jax.random.PRNGKey(seed),
    )

    def play(observation):
        nonlocal carry, last_action, key
        key, act_key = jax.random.split(key)
        start = np.bool_(last_action == rollout.NO_ACTION)
        carry, action = one_step(
            agent.network, carry, np.asarray(observation), np.int32(last_action), start, act_key
        )
        last_action = int(action)
        return last_action

    return play


def table(results):
    """Returns as Markdown. results: a dict, twin -> (returns, lengths)."""
    lines = [
        "| twin | episodes | mean return | median | best | mean length |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for twin, (returns, lengths) in results.items():
        figures = summary(returns)
        mean, median = (
            f"{figures[name]:.3f} ({figures[name + '_interval'][0]:.3f} ... {figures[name + '_interval'][1]:.3f})"
            for name in ("mean", "median")
        )
        lines.append(
            f"| {twin} | {len(returns)} | {mean} | {median} | {max(returns):.3f} | {np.mean(lengths):.1f} |"
        )
    return "\n".join(lines)


def main(arguments=None):
    """Evaluate an agent from the command line. Bad input exits with 2."""
    parser = argparse.ArgumentParser(
        prog="popgym-arcade-eval", description="Play a trained agent, on both twins."
    )
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="a checkpoint's folder, or a run's for its last one",
    )
    parser.add_argument(
        "--episodes", type=int, default=128, help="episodes of each twin (default 128)"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides the episodes (default 0)")
    parser.add_argument(
        "--agent-seed",
        type=int,
        help="which of the seeds that were trained together (default: the first)",
    )
    parser.add_argument(
        "--twin",
        choices=("MDP", "POMDP", "both"),
        default="both",
        help="what to play (default both)",
    )
    parser.add_argument(
        "--gif",
        metavar="PATH",
        help="also record an episode of the twin it was trained on: a .gif or .png file",
    )
    parser.add_argument(
        "--json", metavar="PATH", help="also write all returns and lengths to this file"
    )
    options = parser.parse_args(arguments)
    try:
        if options.episodes < 1:
            raise ValueError(
                f"--episodes must be at least 1, but it is {options.episodes}; the nearest is 1"
            )
        agent = load_agent(options.checkpoint, options.agent_seed)
        check_rules(agent.path, agent.manifest)
        _report(agent, options)
    except (ValueError, OSError) as error:
        parser.error(str(error))


def _report(agent, options):
    """Play, print, and write what was asked for."""
    twins = TWINS if options.twin == "both" else [options.twin]
    results = {twin: evaluate_agent(agent, twin, options.episodes, options.seed) for twin in twins}
    trained_on = "POMDP" if agent.config["partial"] else "MDP"
    print(
        f"{agent.path}: {agent.algorithm}, memory {agent.config['memory']}, trained on the {trained_on} of {agent.config['env']}"
    )
    print(table(results))
    if options.json:
        content = {
            twin: {"returns": pair[0].tolist(), "lengths": pair[1].tolist()}
            for twin, pair in results.items()
        }
        Path(options.json).write_text(json.dumps(content))
    if options.gif:
        name, size = agent.config["env"], agent.config["obs_size"]
        played = record.record(
            options.gif,
            name,
            policy(agent, options.seed),
            seed=options.seed,
            partial_obs=agent.config["partial"],
            obs_size=size,
        )
        print(
            f"wrote {options.gif}: {len(played.actions)} steps, return {played.rewards.sum():.3f}"
        )


if __name__ == "__main__":
    main()
