"""Train an agent: ``popgym-arcade-train pqn --env NavigatorEasy --partial --memory lru``.

A run writes its config, its metrics and its checkpoints to a folder, which runs.py describes. It
may be stopped by Ctrl-C or SIGTERM, or killed: the same command with ``--resume`` continues from
the last checkpoint and computes, bit for bit, what an uninterrupted run computes.
"""

import contextlib
import dataclasses
import json
import math
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union

import equinox as eqx
import jax
import numpy as np
import tyro
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from popgym_arcade import spaces
from popgym_arcade.baselines import checkpoint, rollout, runs
from popgym_arcade.baselines.algorithms import ALGORITHMS
from popgym_arcade.baselines.config import Config
from popgym_arcade.baselines.evaluate import returns_table
from popgym_arcade.baselines.metrics import MetricsWriter
from popgym_arcade.baselines.table import table_of
from popgym_arcade.baselines.trainer import Trainer
from popgym_arcade.commands import files
from popgym_arcade.registry import TWINS

__all__ = ["Diverged", "RunOptions", "Stopped", "main", "train"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run the training; none of these options changes what is learned."""

    seed: int = 0
    """Random seed."""
    seeds: int = 1
    """Number of agents to train in parallel, in one program, with consecutive seeds."""
    devices: int = 1
    """Number of devices to shard the environments over."""
    folder: Path | None = None
    """Folder of the run; if omitted, runs/ENV-TWIN-ALGORITHM-MEMORY-seedSEED."""
    resume: bool = False
    """Resume the run in the folder; if there is none, say so and start one."""
    evaluate_every: int = 500_000
    """Environment steps between evaluations, each on both twins."""
    evaluation_episodes: int = 32
    """Episodes per evaluation and twin."""
    checkpoint_minutes: float = 10.0
    """Minutes between checkpoints: the most that a crash can lose."""
    track: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Trackers to log to besides metrics.jsonl. They need the library tensorboardX or wandb."""


class TrainingRun(NamedTuple):
    """A run in progress."""

    trainer: Trainer
    config: dict[str, Any]  # of the algorithm, as JSON
    options: RunOptions
    folder: Path
    seeds: tuple[int, ...]
    update: Callable  # compiled: (state) -> (state, metrics); donates the state
    evaluators: Mapping[str, Callable]  # twin -> compiled: (weights, keys) -> (returns, lengths)
    writer: MetricsWriter


class Stopped(Exception):
    """A signal stopped the run. Its argument is the signal's number."""


class Diverged(ArithmeticError):
    """The loss is not finite."""


# --- one run -------------------------------------------------------------------------------------


def train(algorithm: str, config: Config, options: RunOptions | None = None) -> Path:
    """Train an agent until config.total_steps: the run's folder.

    algorithm: "pqn", "ppo" or "dqn". config: the algorithm's.

    Raises ValueError for an invalid config or option, FileExistsError if the folder holds a run and
    options.resume is not set, CheckpointError if the run cannot be resumed, Diverged if the loss is
    infinite or NaN, Stopped, after writing a checkpoint, if a signal stops the run, and OSError,
    with the path, if a file cannot be written. A run that fails before its first update is complete
    leaves no folder behind.
    """
    options = options or RunOptions()
    spaces.check_name("algorithm", algorithm, ALGORITHMS)
    _check_options(config, options)
    trainer = ALGORITHMS[algorithm].make_train(config)
    json_config = json.loads(json.dumps(dataclasses.asdict(trainer.config)))
    folder = options.folder or runs.default_folder(algorithm, json_config, options.seed)
    content = {
        "algorithm": algorithm,
        "config": json_config,
        "seed": options.seed,
        "seeds": options.seeds,
    }
    start = _checkpoint_to_resume(folder, content, options.resume)
    with _run_folder(folder, content):
        _run(trainer, json_config, options, folder, start)
    return folder


def _run(
    trainer: Trainer,
    config: dict[str, Any],
    options: RunOptions,
    folder: Path,
    start: Path | None,
) -> None:
    """Train from a checkpoint, or from scratch if it is None. config: the algorithm's, as JSON."""
    seeds = tuple(range(options.seed, options.seed + options.seeds))
    keys = jax.vmap(jax.random.PRNGKey)(np.array(seeds, np.int32))
    shapes = jax.eval_shape(jax.vmap(trainer.init), keys)
    sharding = _state_sharding(shapes, options.devices)
    print("compiling; this takes up to a minute", file=sys.stderr, flush=True)
    if start is None:
        state, seconds = jax.jit(jax.vmap(trainer.init), out_shardings=sharding)(keys), 0.0
    else:
        state = jax.device_put(checkpoint.load_state(start, shapes), sharding)
        seconds = checkpoint.manifest(start)["seconds"]
    update = jax.jit(
        jax.vmap(trainer.update),
        donate_argnums=0,
        in_shardings=(sharding,),
        out_shardings=(sharding, None),
    )
    evaluators = _make_evaluators(trainer, options)
    writer = MetricsWriter(folder, config, options.track, _steps_of(state) if start else 0)
    run = TrainingRun(trainer, config, options, folder, seeds, update, evaluators, writer)
    try:
        with _StopSignals() as signals:
            if start is None:
                print("evaluating the agent before training", file=sys.stderr, flush=True)
                _evaluate_twins(run, state, _steps_of(state), seconds)
            _training_loop(run, state, seconds, signals)
    finally:
        writer.close()


def _training_loop(run: TrainingRun, state: Any, seconds: float, signals: Sequence[int]) -> None:
    """Update until the end; log, evaluate and write checkpoints. seconds: the run took so far."""
    began, saved = time.monotonic() - seconds, time.monotonic()
    steps, total = _steps_of(state), run.trainer.config.total_steps
    with tqdm(
        total=total, initial=steps, unit="frame", unit_scale=True, disable=None, smoothing=0.05
    ) as bar:
        while steps + run.trainer.steps_per_update <= total:
            before, then = steps, time.monotonic()
            state, metrics = run.update(state)
            metrics, steps = jax.device_get(metrics), _steps_of(state)
            now = time.monotonic()
            _check_finite(run, metrics["loss"], steps)
            rate = (steps - before) * len(run.seeds) / (now - then)
            _log_update(run, metrics, steps, now - began, rate)
            _advance_bar(bar, metrics, steps - before)
            last = steps + run.trainer.steps_per_update > total
            if last or steps // run.options.evaluate_every > before // run.options.evaluate_every:
                bar.set_postfix_str("evaluating")
                results = _evaluate_twins(run, state, steps, time.monotonic() - began)
                tqdm.write(f"after {steps:,} steps\n{returns_table(results)}", file=sys.stderr)
            if last or signals or time.monotonic() - saved >= 60 * run.options.checkpoint_minutes:
                _write_checkpoint(run, state, steps, time.monotonic() - began)
                saved = time.monotonic()
            if signals and not last:
                text = "wrote a checkpoint; run the same command with --resume to continue"
                tqdm.write(text, file=sys.stderr)
                raise Stopped(signals[0])


def _steps_of(state: Any) -> int:
    """The steps taken by a training state, which are the same for all seeds."""
    return int(state.steps[0])


def _check_finite(run: TrainingRun, losses: np.ndarray, steps: int) -> None:
    """Raise Diverged unless the loss of every seed is finite."""
    for seed, loss in zip(run.seeds, losses):
        if not math.isfinite(loss):
            last = checkpoint.last_whole(run.folder, warn=lambda text: None)
            rest = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
            raise Diverged(f"the loss of seed {seed} is {loss} after {steps} steps; {rest}")


def _log_update(
    run: TrainingRun, metrics: Mapping[str, np.ndarray], steps: int, seconds: float, rate: float
) -> None:
    """Write the metrics of an update, one line per seed. rate: frames per second."""
    for number, seed in enumerate(run.seeds):
        run.writer.write(
            {
                "kind": "training",
                "seed": seed,
                "steps": steps,
                "seconds": seconds,
                "frames_per_second": rate,
                **{name: values[number].item() for name, values in metrics.items()},
            }
        )


def _advance_bar(bar: tqdm, metrics: Mapping[str, np.ndarray], steps: int) -> None:
    """Advance the progress bar and show the means over all episodes that ended."""
    count = metrics["episodes"]
    if count.sum() > 0:
        means = {
            name: np.nansum(metrics[name] * count) / count.sum()
            for name in ("return_mean", "length_mean")
        }
        text = f"return {means['return_mean']:.3f}, length {means['length_mean']:.0f}"
        bar.set_postfix_str(text, refresh=False)
    bar.update(steps)


def _write_checkpoint(run: TrainingRun, state: Any, steps: int, seconds: float) -> Path:
    """Write a checkpoint: its folder."""
    state = jax.device_get(state)
    networks = {
        seed: eqx.combine(
            jax.tree.map(lambda leaf, number=number: leaf[number], state.weights),
            run.trainer.static,
        )
        for number, seed in enumerate(run.seeds)
    }
    extra = {"seconds": seconds}
    algorithm = run.trainer.algorithm
    return checkpoint.save(run.folder, algorithm, run.config, steps, state, networks, extra)


# --- evaluation ----------------------------------------------------------------------------------


def _make_evaluators(trainer: Trainer, options: RunOptions) -> dict[str, Callable]:
    """One compiled function per twin: (weights, keys) -> (returns, lengths), batched over seeds."""
    env, params = rollout.make_environment(trainer.config)

    def evaluator(partial_obs):
        twin_params = dataclasses.replace(params, partial_obs=partial_obs)

        def play(weights, key):
            network = eqx.combine(weights, trainer.static)
            return rollout.play_episodes(
                env, twin_params, trainer.act, network, key, options.evaluation_episodes
            )

        return jax.jit(jax.vmap(play))

    return {twin: evaluator(partial_obs) for twin, partial_obs in TWINS.items()}


def _evaluate_twins(
    run: TrainingRun, state: Any, steps: int, seconds: float
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Evaluate every seed on both twins and log it: twin -> (returns, lengths) of all seeds."""
    keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.PRNGKey(seed), steps))(
        np.array(run.seeds, np.int32)
    )
    results = {}
    for twin, evaluator in run.evaluators.items():
        returns, lengths = jax.device_get(evaluator(state.weights, keys))
        for number, seed in enumerate(run.seeds):
            run.writer.write(
                {
                    "kind": "evaluation",
                    "seed": seed,
                    "steps": steps,
                    "seconds": seconds,
                    "twin": twin,
                    "returns": returns[number].tolist(),
                    "lengths": lengths[number].tolist(),
                }
            )
        results[twin] = returns.ravel(), lengths.ravel()
    return results


# --- the folder ----------------------------------------------------------------------------------


def _checkpoint_to_resume(folder: Path, content: dict[str, Any], resume: bool) -> Path | None:
    """Find the checkpoint to resume from; None to train from scratch, which is said if it is new.

    content: of the run's config.json. Raises FileExistsError if the folder holds a run that is not
    to be resumed, CheckpointError if it holds another run, and OSError if it cannot be written.
    """
    files.check_folder(folder)
    if not runs.has_run(folder):
        if resume:
            print(f"{folder} holds no run to resume; starting a new one", file=sys.stderr)
        return None
    if not resume:
        raise FileExistsError(
            f"{folder} already holds a run; add --resume to continue it, or choose another --folder"
        )
    _check_same_run(folder, runs.read_config(folder), content)
    start = checkpoint.last_whole(folder, warn=runs.warn)
    if start:
        checkpoint.check_rules(start, checkpoint.manifest(start))
    else:
        print(f"{folder} holds no checkpoint yet; starting from scratch", file=sys.stderr)
    return start


@contextlib.contextmanager
def _run_folder(folder: Path, content: dict[str, Any]) -> Iterator[None]:
    """Make the folder of a run, unless it has one; content: of its config.json.

    A new run that fails before its first update is complete is removed again, so that the next
    start is not taken for another run.
    """
    if runs.has_run(folder):
        yield
        return
    was_there = folder.exists()
    with files.new_folder(folder):
        try:
            runs.write_config(folder, content)
            yield
        except BaseException:
            if not any(line["kind"] == "training" for line in runs.read_metrics(folder)):
                _remove_run(folder, was_there)
            raise


def _remove_run(folder: Path, keep_others: bool) -> None:
    """Remove a run. keep_others: leave everything but its config and its metrics."""
    if keep_others:
        for name in (runs.CONFIG, runs.METRICS):
            (folder / name).unlink(missing_ok=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _check_same_run(folder: Path, found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Raise CheckpointError unless two contents of config.json describe the same run."""
    found, expected = ({**content, **content["config"]} for content in (found, expected))
    for name, value in expected.items():
        if name != "config" and found.get(name) != value:
            raise checkpoint.CheckpointError(
                f"{folder} cannot be resumed with {name} {value}: its run has {found.get(name)}"
            )


# --- devices and signals -------------------------------------------------------------------------


def _check_options(config: Config, options: RunOptions) -> None:
    """Raise ValueError for invalid options."""
    spaces.check_seed("seed", options.seed)
    for name in ("seeds", "devices", "evaluate_every", "evaluation_episodes"):
        spaces.check_range(name, getattr(options, name), 1)
    spaces.check_seed("the last seed", options.seed + options.seeds - 1)
    spaces.check_range(
        "devices", options.devices, 1, jax.device_count(), ", the devices of this machine"
    )
    spaces.check_multiple("num_envs", config.num_envs, "devices", options.devices)


def _state_sharding(state: Any, devices: int) -> Any:
    """The sharding of a training state: environments are sharded, everything else is replicated.

    state: with a leading axis of seeds. Returns a pytree of NamedSharding with its structure.
    """
    mesh = Mesh(np.array(jax.devices()[:devices]), ("environments",))
    replicated = NamedSharding(mesh, PartitionSpec())
    sharded = NamedSharding(mesh, PartitionSpec(None, "environments"))
    stream = jax.tree.map(lambda leaf: sharded, state.stream)
    return jax.tree.map(lambda leaf: replicated, state)._replace(stream=stream)


class _StopSignals:
    """A context in which the first Ctrl-C or SIGTERM is only recorded; the next one acts as usual.

    Entering gives the list of the signals that were recorded.
    """

    def __enter__(self) -> list[int]:
        self._recorded, self._handlers = [], {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._record)
        except ValueError:  # only the main thread can handle signals
            pass
        return self._recorded

    def _record(self, number, frame) -> None:
        self._recorded.append(number)
        print(
            "\nstopping after this update and a checkpoint; press Ctrl-C again to stop now",
            file=sys.stderr,
            flush=True,
        )
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def __exit__(self, *exception: object) -> None:
        self._restore()


# --- the command ---------------------------------------------------------------------------------


def _subcommands() -> Iterable[Any]:
    """The subcommands as types for tyro: every algorithm, and its preset for a GPU."""
    for name, algorithm in ALGORITHMS.items():
        for command, preset in {name: {}, f"{name}-fast": algorithm.fast}.items():
            description = algorithm.config.__doc__ or ""
            if preset:
                description += " Preset for one modern GPU."
            default = algorithm.config(env=tyro.MISSING, **preset), RunOptions()
            kind = tuple[
                Annotated[algorithm.config, tyro.conf.arg(name="")],
                Annotated[RunOptions, tyro.conf.arg(name="")],
            ]
            yield Annotated[
                kind, tyro.conf.subcommand(command, default=default, description=description)
            ]


@files.output_may_be_cut()
def main(arguments: Sequence[str] | None = None) -> None:
    """Train from the command line.

    Invalid input exits with 2, a signal with 128 plus its number, a diverged loss or a file that
    cannot be written with 1.
    """
    kind: Any = Union[tuple(_subcommands())]  # noqa: UP007
    config, options = tyro.cli(
        kind,
        args=arguments,
        prog="popgym-arcade-train",
        description="Train an agent with memory.",
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
    except (ValueError, OSError, ModuleNotFoundError) as error:
        files.end_command("popgym-arcade-train", error)


if __name__ == "__main__":
    main()
