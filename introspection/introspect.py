"""The command ``popgym-arcade-introspect CHECKPOINT``, which writes what an agent remembers.

It writes a folder with

* ``report.html``: the agent's episode as a film strip, and all figures, in one file;
* the figures, as PNG and PDF;
* ``episode.npz``: the episode and its saliency; ``measures.npz``: recall density and contamination;
* ``summary.json``: the numbers.

Names, shapes and units of the arrays are in docs/introspection.md.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from popgym_arcade.baselines import checkpoint
from popgym_arcade.commands.files import check_folder, end_command, output_may_be_cut
from popgym_arcade.introspection import saliency
from popgym_arcade.introspection.differences import GROUPS, differences_of_runs
from popgym_arcade.introspection.episode import EnvironmentConfig, environment_config
from popgym_arcade.introspection.measures import SIGMA_RANGE
from popgym_arcade.introspection.output import write
from popgym_arcade.introspection.study import Study, study
from popgym_arcade.registry import TWINS, registered_name, twin_name
from popgym_arcade.render import OBS_SIZES
from popgym_arcade.spaces import MAX_SEED, number_argument

__all__ = [
    "Study",
    "differences_of_runs",
    "main",
    "parser",
    "setting_to_play",
    "study",
    "write",
]


def setting_to_play(
    agent: checkpoint.Agent,
    name: str | None = None,
    obs_size: int | None = None,
    partial_obs: bool | None = None,
    force: bool = False,
    warn: Callable[[str], object] = print,
) -> EnvironmentConfig:
    """Choose the environment for an agent, if the agent fits it.

    name, obs_size, partial_obs: what the user asks for; None is what the agent was trained on. Both
    twins are allowed. force: call ``warn`` instead of raising CheckpointError if the agent was
    trained on another game, on another version of the game's rules, or on another frame size, which
    it keeps because it accepts no other. Raises ValueError for an unknown name.
    """
    trained = environment_config(agent.config)
    name = trained.name if name is None else registered_name(name)
    size = obs_size or trained.obs_size
    found, expected = agent.manifest["rule_version"], checkpoint.rule_version(trained.name)
    mismatches = []
    if name != trained.name:
        mismatches.append(f"the agent was trained on {trained.name}, not on {name}")
    if size != trained.obs_size:
        mismatches.append(
            f"the agent was trained on frames of {trained.obs_size} pixels, not of {size}"
        )
    if found != expected:
        mismatches.append(
            f"the agent was trained on rule version {found} of {trained.name}, "
            f"but this is version {expected}"
        )
    if mismatches and not force:
        raise checkpoint.CheckpointError(
            f"{agent.path}: {'; '.join(mismatches)}. Use --force to go on anyway"
        )
    for mismatch in mismatches:
        warn(f"warning: {mismatch}")
    partial_obs = trained.partial_obs if partial_obs is None else partial_obs
    params = trained.params if name == trained.name else ""
    return EnvironmentConfig(name, partial_obs, trained.obs_size, params)


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    result = argparse.ArgumentParser(
        prog="popgym-arcade-introspect",
        description="Analyze a trained agent's memory: write figures, arrays and a report.",
    )
    result.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="folder of a checkpoint, or of a run, whose last checkpoint is used",
    )
    result.add_argument(
        "--out",
        metavar="FOLDER",
        help="output folder (default: introspection-ENVIRONMENT-TWIN-MEMORY)",
    )
    result.add_argument(
        "--network-seed",
        type=int,
        metavar="SEED",
        help="seed of the network, if the run trained several (default: the first)",
    )
    _add_environment_arguments(result)
    _add_study_arguments(result)
    for group, what in GROUPS.items():
        result.add_argument(
            f"--{group}", nargs="+", default=[], metavar="RUN", help=f"runs trained with {what}"
        )
    return result


def _add_environment_arguments(result: argparse.ArgumentParser) -> None:
    """Add the arguments of ``setting_to_play``."""
    result.add_argument("--env", metavar="NAME", help="environment (default: the one trained on)")
    result.add_argument(
        "-o",
        "--obs-size",
        type=int,
        choices=OBS_SIZES,
        help="pixels per side of a frame (default: as trained)",
    )
    result.add_argument(
        "--twin",
        choices=tuple(name.lower() for name in TWINS),
        help="twin to play (default: the one trained on)",
    )
    result.add_argument(
        "--force",
        action="store_true",
        help="go on with a checkpoint of another game, frame size or rule version",
    )


def _add_study_arguments(result: argparse.ArgumentParser) -> None:
    """Add the arguments of ``study``."""
    result.add_argument(
        "--seed",
        type=number_argument(0, MAX_SEED),
        default=0,
        help="seed of the episodes (default: 0)",
    )
    result.add_argument(
        "--max-steps",
        type=number_argument(1),
        default=200,
        metavar="N",
        help="maximum decisions per episode (default: 200)",
    )
    result.add_argument(
        "--episodes",
        type=number_argument(1),
        default=8,
        metavar="N",
        help="episodes for the measures (default: 8)",
    )
    result.add_argument(
        "--target",
        choices=tuple(saliency.TARGETS),
        help="what to differentiate (default: log_probability for PPO, else chosen_value)",
    )
    result.add_argument(
        "--sigma",
        type=number_argument(*SIGMA_RANGE, type_=float),
        default=0.1,
        help="standard deviation of the noise on pixels in [0, 1] (default: 0.1)",
    )
    result.add_argument(
        "--samples",
        type=number_argument(1),
        default=4,
        metavar="N",
        help="samples of the noise and of the shuffle (default: 4)",
    )


@output_may_be_cut()
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    Bad input exits with status 2, and a file that cannot be read or written with 1.
    """
    options_parser = parser()
    options = options_parser.parse_args(arguments)
    try:
        found, folder = _run(options)
    except (ValueError, TypeError, OSError) as error:
        end_command(options_parser.prog, error)
    past = found.recall.past
    print(
        f"{100 * past.value:.3g} % of the gradient is on past frames "
        f"(95 % interval: {100 * past.low:.3g} to {100 * past.high:.3g} %)"
    )
    print(f"wrote {folder}: open {folder / 'report.html'} in a browser")


def _run(options: argparse.Namespace) -> tuple[Study, Path]:
    """Study the agent and write the results: (Study, folder)."""
    log = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    agent = checkpoint.load_agent(options.checkpoint, options.network_seed, warn=log)
    partial_obs = None if options.twin is None else TWINS[options.twin.upper()]
    environment = setting_to_play(
        agent, options.env, options.obs_size, partial_obs, options.force, log
    )
    twin = twin_name(environment.partial_obs)
    folder = Path(
        options.out or f"introspection-{environment.name}-{twin}-{agent.config['memory']}"
    )
    check_folder(folder)
    differences = differences_of_runs(
        **{group: getattr(options, group) for group in GROUPS},
        name=environment.name,
        obs_size=environment.obs_size,
        params=environment.params,
        force=options.force,
        warn=log,
    )
    found = study(
        agent,
        environment,
        seed=options.seed,
        max_steps=options.max_steps,
        episodes=options.episodes,
        target=options.target,
        sigma=options.sigma,
        samples=options.samples,
        differences=differences,
        log=log,
    )
    log("drawing the figures and the report")
    write(folder, found, options.sigma)
    return found, folder


if __name__ == "__main__":
    main()
