"""Train an agent: ``popgym-arcade-train pqn --env NavigatorEasy --partial --memory lru``.

A run has a folder with ``config.json``, ``metrics.jsonl`` (see metrics.py) and ``checkpoints`` (see
checkpoint.py). It may be stopped by Ctrl-C or SIGTERM, or killed; the same command with
``--resume`` goes on from the last checkpoint and computes, bit for bit, what a run without a break
computes.
"""

import dataclasses
import json
import math
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union

import equinox as eqx
import jax
import numpy as np
import tyro
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from popgym_arcade.baselines import checkpoint, rollout
from popgym_arcade.baselines.algorithms import ALGORITHMS
from popgym_arcade.baselines.evaluate import table
from popgym_arcade.baselines.metrics import Metrics
from popgym_arcade.baselines.plot import table_of
from popgym_arcade.registry import TWINS


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How the run is done, which changes nothing of what is learned."""

    seed: int = 0
    """Decides all that is left to chance."""
    seeds: int = 1
    """Agents that are trained side by side in one program, with the seeds that follow."""
    devices: int = 1
    """Devices that share the environments."""
    folder: Path | None = None
    """The run's folder. By default runs/ENV-TWIN-ALGORITHM-MEMORY-seedSEED."""
    resume: bool = False
    """Go on with the run that the folder holds, if there is one."""
    evaluate_every: int = 500_000
    """Steps between two evaluations, on both twins."""
    evaluation_episodes: int = 32
    """Episodes of each evaluation and twin."""
    checkpoint_minutes: float = 10.0
    """Minutes between two checkpoints: what is lost at most when the machine fails."""
    track: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Where the figures go besides metrics.jsonl; it needs the library tensorboardX or wandb."""


class Run(NamedTuple):
    """A run that is under way."""

    trainer: Any
    config: dict  # the algorithm's, as JSON holds it
    options: RunOptions
    folder: Path
    seeds: tuple  # of int
    update: Any  # compiled: (state) -> (state, metrics); the state is used up
    evaluators: dict  # twin -> compiled: (weights, keys) -> (returns, lengths)
    metrics: Metrics


class Stopped(Exception):
    """A signal asked to stop. Its argument is the signal's number."""


class Diverged(ArithmeticError):
    """The loss is not finite."""


# --- one run -------------------------------------------------------------------------------------


def train(algorithm, config, options=None):
    """Train until config.total_steps: the run's folder, a Path.

    algorithm: "pqn", "ppo" or "dqn". config: its config. options: RunOptions. Raises ValueError for
    a config or options that make no sense, FileExistsError if the folder holds a run already and
    options.resume is not set, CheckpointError if it cannot be resumed, Diverged if the loss becomes
    infinite or NaN, and Stopped, after a checkpoint, if a signal asks to stop.
    """
    options = options or RunOptions()
    check_options(config, options)
    trainer = ALGORITHMS[algorithm].make_train(config)
    config = json.loads(json.dumps(dataclasses.asdict(trainer.config)))
    seeds = tuple(range(options.seed, options.seed + options.seeds))
    folder = options.folder or default_folder(algorithm, config, options)
    start = open_folder(folder, algorithm, config, options)
    shapes = jax.eval_shape(
        jax.vmap(trainer.init), jax.ShapeDtypeStruct((options.seeds, 2), np.uint32)
    )
    spread = sharding_of(shapes, options.devices)
    print("compiling; this takes up to a minute", file=sys.stderr, flush=True)
    if start is None:
        keys = jax.vmap(jax.random.PRNGKey)(np.array(seeds))
        state, seconds = jax.jit(jax.vmap(trainer.init), out_shardings=spread)(keys), 0.0
    else:
        state = jax.device_put(checkpoint.load_state(start, shapes), spread)
        seconds = checkpoint.manifest(start)["seconds"]
    update = jax.jit(
        jax.vmap(trainer.update),
        donate_argnums=0,
        in_shardings=(spread,),
        out_shardings=(spread, None),
    )
    metrics = Metrics(folder, config, options.track, steps_of(state) if start else 0)
    run = Run(
        trainer, config, options, folder, seeds, update, evaluators_of(trainer, options), metrics
    )
    try:
        with stopping_signals() as signals:
            if start is None:
                evaluate(run, state, steps_of(state), seconds)
            loop(run, state, seconds, signals)
    finally:
        metrics.close()
    return folder


def loop(run, state, seconds, signals):
    """Update until the end, write down, evaluate and save. seconds: that the run took so far."""
    began, saved = time.monotonic() - seconds, time.monotonic()
    steps, total = steps_of(state), run.trainer.config.total_steps
    with tqdm(
        total=total, initial=steps, unit="frame", unit_scale=True, disable=None, smoothing=0.05
    ) as bar:
        while steps + run.trainer.steps_per_update <= total:
            before, then = steps, time.monotonic()
            state, metrics = run.update(state)
            metrics, steps = jax.device_get(metrics), steps_of(state)
            now = time.monotonic()
            check_finite(run, metrics["loss"], steps)
            rate = (steps - before) * len(run.seeds) / (now - then)
            write_training(run, metrics, steps, now - began, rate)
            show(bar, metrics, steps - before)
            last = steps + run.trainer.steps_per_update > total
            if last or steps // run.options.evaluate_every > before // run.options.evaluate_every:
                results = evaluate(run, state, steps, time.monotonic() - began)
                tqdm.write(evaluation_text(steps, results), file=sys.stderr)
            if last or signals or time.monotonic() - saved >= 60 * run.options.checkpoint_minutes:
                path, saved = save(run, state, steps, time.monotonic() - began), time.monotonic()
            if signals and not last:
                tqdm.write(
                    f"saved {path}; the same command with --resume goes on from there",
                    file=sys.stderr,
                )
                raise Stopped(signals[0])


def steps_of(state):
    """The steps that a state has taken: int. They are the same for all seeds."""
    return int(state.steps[0])


def check_finite(run, losses, steps):
    """Raise Diverged unless each seed's loss is a finite number."""
    for seed, loss in zip(run.seeds, losses):
        if not math.isfinite(loss):
            last = checkpoint.last_whole(run.folder, warn=lambda text: None)
            rest = (
                f"the last good checkpoint is {last}"
                if last
                else "there is no checkpoint before it"
            )
            raise Diverged(f"the loss of seed {seed} is {loss} after {steps} steps; {rest}")


def write_training(run, metrics, steps, seconds, rate):
    """Write down what an update measured, a line a seed."""
    for number, seed in enumerate(run.seeds):
        figures = {name: values[number].item() for name, values in metrics.items()}
        run.metrics.write(
            {
                "kind": "training",
                "seed": seed,
                "steps": steps,
                "seconds": seconds,
                "frames_per_second": rate,
                **figures,
            }
        )


def show(bar, metrics, steps):
    """Move the progress bar on."""
    count = metrics["episodes"]
    if count.sum() > 0:
        mean = lambda name: float(np.nansum(metrics[name] * count) / count.sum())  # noqa: E731
        bar.set_postfix_str(
            f"return {mean('return_mean'):.3f}, length {mean('length_mean'):.0f}", refresh=False
        )
    bar.update(steps)


def save(run, state, steps, seconds):
    """Write a checkpoint: its Path."""
    state = jax.device_get(state)
    networks = {
        seed: eqx.combine(
            jax.tree.map(lambda leaf, number=number: leaf[number], state.weights),
            run.trainer.static,
        )
        for number, seed in enumerate(run.seeds)
    }
    return checkpoint.save(
        run.folder, run.trainer.algorithm, run.config, steps, state, networks, {"seconds": seconds}
    )


# --- evaluation ----------------------------------------------------------------------------------


def evaluators_of(trainer, options):
    """For each twin a compiled function (weights, keys) -> (returns, lengths), with a leading axis
    of seeds: a dict."""
    env, params = rollout.environment_of(trainer.config)

    def evaluator(partial):
        twin = dataclasses.replace(params, partial_obs=partial)

        def play(weights, key):
            network = eqx.combine(weights, trainer.static)
            return rollout.evaluate(
                env, twin, trainer.act, network, key, options.evaluation_episodes
            )

        return jax.jit(jax.vmap(play))

    return {twin: evaluator(partial) for twin, partial in TWINS.items()}


def evaluate(run, state, steps, seconds):
    """Evaluate every seed on both twins and write it down: a dict, twin -> (returns, lengths) of
    all seeds."""
    keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.PRNGKey(seed), steps))(
        np.array(run.seeds)
    )
    results = {}
    for twin, evaluator in run.evaluators.items():
        returns, lengths = jax.device_get(evaluator(state.weights, keys))
        for seed, some, their_lengths in zip(run.seeds, returns, lengths):
            figures = {"twin": twin, "returns": some.tolist(), "lengths": their_lengths.tolist()}
            run.metrics.write(
                {"kind": "evaluation", "seed": seed, "steps": steps, "seconds": seconds, **figures}
            )
        results[twin] = returns.ravel(), lengths.ravel()
    return results


def evaluation_text(steps, results):
    """An evaluation in words for the terminal."""
    return f"after {steps:,} steps\n{table(results)}"


# --- the folder ----------------------------------------------------------------------------------


def default_folder(algorithm, config, options):
    """The run's folder if none is given."""
    twin = "POMDP" if config["partial"] else "MDP"
    return (
        Path("runs") / f"{config['env']}-{twin}-{algorithm}-{config['memory']}-seed{options.seed}"
    )


def open_folder(folder, algorithm, config, options):
    """Make a run's folder, or find the checkpoint to go on from: a Path, or None to begin at the
    beginning.

    Raises FileExistsError if it holds a run that is not to be resumed, CheckpointError if it holds
    another run.
    """
    path = folder / "config.json"
    content = {
        "algorithm": algorithm,
        "config": config,
        "seed": options.seed,
        "seeds": options.seeds,
    }
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2))
        return None
    if not options.resume:
        raise FileExistsError(
            f"{folder} holds a run already; add --resume to go on with it, or name another --folder"
        )
    check_same(folder, json.loads(path.read_text()), content)
    start = checkpoint.last_whole(folder, warn=lambda text: print(text, file=sys.stderr))
    if start:
        checkpoint.check_rules(start, checkpoint.manifest(start))
    return start


def check_same(folder, there, here):
    """Raise CheckpointError unless two runs are the same: dicts as in ``config.json``."""
    there, here = ({**content, **content["config"]} for content in (there, here))
    for name in here:
        if name != "config" and there.get(name) != here[name]:
            raise checkpoint.CheckpointError(
                f"{folder} cannot be resumed: it has {name} {there.get(name)}, but asked for is {here[name]}"
            )


# --- devices and signals -------------------------------------------------------------------------


def check_options(config, options):
    """Raise a ValueError that names the value and the nearest valid choice for options that make no
    sense."""
    for name in ("seeds", "devices", "evaluate_every", "evaluation_episodes"):
        if getattr(options, name) < 1:
            raise ValueError(
                f"{name} must be at least 1, but it is {getattr(options, name)}; the nearest is 1"
            )
    if options.devices > jax.device_count():
        raise ValueError(
            f"devices must be in 1 ... {jax.device_count()}, the devices that there are, but it is {options.devices}"
        )
    if config.num_envs % options.devices:
        nearest = max(1, round(config.num_envs / options.devices)) * options.devices
        raise ValueError(
            f"num_envs must be a multiple of devices, {options.devices}, but it is {config.num_envs}; the nearest is {nearest}"
        )


def sharding_of(state, devices):
    """Where the leaves of a state belong: what is of the environments is spread over the devices,
    all else is on each of them.

    state: with a leading axis of seeds. Returns a tree of NamedSharding with its structure.
    """
    mesh = Mesh(np.array(jax.devices()[:devices]), ("environments",))
    everywhere, spread = (
        NamedSharding(mesh, PartitionSpec()),
        NamedSharding(mesh, PartitionSpec(None, "environments")),
    )
    stream = jax.tree.map(lambda leaf: spread, state.stream)
    return jax.tree.map(lambda leaf: everywhere, state)._replace(stream=stream)


class stopping_signals:
    """While it lasts, the first Ctrl-C or SIGTERM is only noted, in the list that it gives; the
    next does what it always does."""

    def __enter__(self):
        """Begin to note signals: a list of their numbers, empty at first."""
        self._noted, self._before = [], {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        except ValueError:  # not the main thread, where there is nothing to note
            pass
        return self._noted

    def _note(self, number, frame):
        self._noted.append(number)
        print(
            "\nstopping after this update and a checkpoint; once more stops at once",
            file=sys.stderr,
            flush=True,
        )
        self._restore()

    def _restore(self):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __exit__(self, *exception):
        """Let signals do what they did before."""
        self._restore()


# --- the command ---------------------------------------------------------------------------------


def commands():
    """The subcommands: a type for tyro. Each algorithm has one, and one with its preset for a
    GPU."""
    options = []
    for name, algorithm in ALGORITHMS.items():
        presets = {name: {}, f"{name}-fast": algorithm.fast}
        for command, preset in presets.items():
            default = (algorithm.config(env=tyro.MISSING, **preset), RunOptions())
            help_text = (algorithm.config.__doc__ or "") + (
                " The preset for one modern GPU." if preset else ""
            )
            kind = tuple[
                Annotated[algorithm.config, tyro.conf.arg(name="")],
                Annotated[RunOptions, tyro.conf.arg(name="")],
            ]
            options.append(
                Annotated[
                    kind, tyro.conf.subcommand(command, default=default, description=help_text)
                ]
            )
    return options


def main(arguments=None):
    """Train from the command line. Bad input exits with 2, a signal with 128 and its number, a loss
    that is not finite with 1."""
    config, options = tyro.cli(
        Union[tuple(commands())],  # noqa: UP007
        args=arguments,
        prog="popgym-arcade-train",
        description="Train an agent with a memory.",
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
    )
    algorithm = next(name for name, known in ALGORITHMS.items() if type(config) is known.config)
    try:
        folder = train(algorithm, config, options)
        print(f"{table_of([folder])}\n\nthe run is in {folder}")
    except Stopped as stopped:
        sys.exit(128 + stopped.args[0])
    except Diverged as error:
        sys.exit(f"popgym-arcade-train: {error}")
    except (ValueError, FileExistsError, ModuleNotFoundError) as error:
        print(f"popgym-arcade-train: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
