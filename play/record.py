"""Record an episode: ``popgym-arcade-record NavigatorEasy navigator.gif --policy expert --both``.

In Python, ``rollout`` plays an episode and returns its frames, ``write_gif`` and ``write_sheet``
write frames to a file, and ``record`` does both. The frames are the observations themselves: a GIF
or PNG written with scale 1 holds them byte for byte. Until they are in the file, ``record`` keeps
them compressed, a few kilobytes each.

A policy is one of POLICIES by name, or a function (observation) -> action: observation is a NumPy
uint8[S, S, 3] and action an int. It is called once per step, in order, so it may keep a memory.
"""

import argparse
import importlib
import io
import os
import sys
import zlib
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax
import numpy as np
from PIL import GifImagePlugin, Image

from popgym_arcade import bench, experts, spaces
from popgym_arcade.commands.files import (
    check_file,
    draft,
    end_command,
    output_may_be_cut,
    write_files,
)
from popgym_arcade.play import cabinet
from popgym_arcade.registry import NUM_ACTIONS, REGISTERED_ENVIRONMENTS, make, registered_name
from popgym_arcade.render import OBS_SIZES

__all__ = [
    "FRAMES_PER_SECOND",
    "LAST_FRAME_SECONDS",
    "POLICIES",
    "RATES",
    "SHEET_COLUMNS",
    "SHEET_FRAMES",
    "PackedFrames",
    "Policy",
    "Progress",
    "Recording",
    "check_path",
    "ignore_progress",
    "main",
    "record",
    "rollout",
    "show_progress",
    "write_gif",
    "write_sheet",
]

Policy = Callable[[np.ndarray], Any]
"""(observation uint8[S, S, 3]) -> action, an int or an integer scalar."""

Progress = Callable[[int, int, str], object]
"""(done, total, what): called with what is being done, e.g. "playing", first with 0 done."""

POLICIES: tuple[str, ...] = ("expert", "worst", "random")
"""The policies that have a name: the best and the worst play of ``experts``, which see the whole
state, and uniformly random actions."""

FRAMES_PER_SECOND: float = 10
RATES: tuple[float, float] = (0.1, 50)  # lowest and highest frames per second of a GIF
LAST_FRAME_SECONDS: float = 1.5  # how long a GIF rests on its last frame
SHEET_COLUMNS: int = 8
SHEET_FRAMES: int = 64
_MAX_COLORS = 256  # in a frame of a GIF
_SCALES = (1, 64)
_GIF_END = b";"


class Recording(NamedTuple):
    """An episode's frames, actions and rewards: T steps, all or the first ones."""

    name: str  # the environment
    # uint8[T + 1, S, width, 3]: width is S, or more with both twins. uint8[0, 0, 0, 3] if they were
    # not to be kept.
    frames: np.ndarray
    actions: np.ndarray  # int32[T]
    rewards: np.ndarray  # float32[T]
    terminated: bool
    truncated: bool


class PackedFrames(Sequence[np.ndarray]):
    """A list of compressed frames, uint8[height, width, 3] of one size: a few kilobytes each."""

    def __init__(self) -> None:
        """Make an empty list."""
        self._packed: list[bytes] = []
        self._shape: tuple[int, ...] = ()

    def __copy__(self) -> "PackedFrames":
        """A list of the same frames, which does not change when this one does."""
        other = PackedFrames()
        other._packed, other._shape = list(self._packed), self._shape
        return other

    def append(self, frame: np.ndarray) -> None:
        """Add a frame at the end."""
        self._shape = frame.shape
        self._packed.append(zlib.compress(frame.tobytes(), level=1))

    def __len__(self) -> int:
        """The number of frames."""
        return len(self._packed)

    def __getitem__(self, index: Any) -> Any:
        """A frame, uint8[height, width, 3]. index: an int."""
        return np.frombuffer(zlib.decompress(self._packed[index]), np.uint8).reshape(self._shape)

    def unpacked(self) -> np.ndarray:
        """All frames: uint8[T, height, width, 3]."""
        frames = np.empty((len(self), *self._shape), np.uint8)
        for index in range(len(self)):
            frames[index] = self[index]
        return frames


Frames = Sequence[np.ndarray] | np.ndarray


def ignore_progress(done: int, total: int, what: str) -> None:
    """A Progress that tells nothing."""


def show_progress(done: int, total: int, what: str) -> None:
    """A Progress on stderr: a line for each thing that is done and, on a terminal, a bar."""
    if done == 0:
        print(f"{what} ...", file=sys.stderr, flush=True)
    bench.progress(done, total, what)


def rollout(
    name: str,
    policy: str | Policy = "expert",
    *,
    seed: int = 0,
    partial_obs: bool = False,
    both: bool = False,
    obs_size: int = 128,
    max_steps: int | None = None,
    into: PackedFrames | None = None,
    progress: Progress = ignore_progress,
    **overrides: Any,
) -> Recording:
    """Play one episode.

    name, partial_obs, obs_size and overrides are passed to ``make``. policy: a name in POLICIES or
    a function (observation) -> action; it sees the twin that partial_obs selects, even when
    ``both`` twins are recorded. seed: in [0, spaces.MAX_SEED]; determines the episode, given name
    and policy. max_steps: stop after this many steps, at least 1, if the episode is not over
    before. into: append the frames to this list, which takes much less memory; the Recording has
    none then. progress: e.g. ``show_progress``.

    Raises what ``make`` raises, TypeError for a seed that is not an integer, and ValueError for a
    number out of range, an unknown policy, or an action that is not an int in [0, 4].
    """
    _check(policy, seed, max_steps)
    make(name, obs_size=obs_size, **overrides)  # raises an error before anything is said
    progress(0, 1, f"compiling {name}")
    machine = cabinet.build(name, obs_size, **overrides)
    progress(1, 1, f"compiling {name}")
    episode_key, policy_key = jax.random.split(cabinet.key_of(seed))
    choose = _chooser(policy, machine, partial_obs, policy_key)
    views = (False, True) if both else (partial_obs,)
    episode = cabinet.begin(machine, episode_key)
    frames = PackedFrames() if into is None else into
    frames.append(_picture(machine, episode, views))
    actions, rewards = [], []
    limit = machine.params.max_steps_in_episode
    limit = limit if max_steps is None else min(limit, max_steps)
    progress(0, limit, "playing")
    while not episode.done and len(actions) < limit:
        action = _checked_action(choose(episode))
        episode = cabinet.advance(machine, episode, action)
        frames.append(_picture(machine, episode, views))
        actions.append(action)
        rewards.append(episode.reward)
        progress(len(actions), limit, "playing")
    if len(actions) < limit:
        progress(limit, limit, "playing")
    return Recording(
        name,
        np.zeros((0, 0, 0, 3), np.uint8) if into is not None else frames.unpacked(),
        np.array(actions, np.int32),
        np.array(rewards, np.float32),
        episode.terminated,
        episode.truncated,
    )


def _check(policy: str | Policy, seed: int, max_steps: int | None) -> None:
    """Raise ValueError or TypeError unless ``rollout`` can play with these."""
    spaces.check_seed("seed", seed)
    if max_steps is not None:
        spaces.check_range("max_steps", max_steps, 1)
    if isinstance(policy, str):
        spaces.check_name("policy", policy, POLICIES, "; or pass a function")


def record(
    path: str | os.PathLike[str],
    name: str,
    policy: str | Policy = "expert",
    *,
    frames_per_second: float = FRAMES_PER_SECOND,
    scale: int = 1,
    keep_frames: bool = True,
    progress: Progress = ignore_progress,
    **options: Any,
) -> Recording:
    """Play one episode and write it to a file.

    path: ends with .gif for an animation or .png for a contact sheet. frames_per_second: of an
    animation, in [0.1, 50]. scale: output pixels per frame pixel. keep_frames: whether the
    Recording has the frames, which take up to 1.6 GB. name, policy, progress and options are passed
    to ``rollout``. Raises what ``rollout``, ``write_gif`` and ``write_sheet`` raise; a bad path or
    number raises before anything is compiled.
    """
    check_path(path)
    spaces.check_range("frames_per_second", frames_per_second, *RATES)
    spaces.check_range("scale", scale, *_SCALES)
    frames = PackedFrames()
    recording = rollout(name, policy, into=frames, progress=progress, **options)
    if Path(path).suffix.lower() == ".png":
        write_sheet(path, frames, scale=scale)
    else:
        speed = {"frames_per_second": frames_per_second}
        write_gif(path, frames, scale=scale, progress=progress, **speed)
    return recording._replace(frames=frames.unpacked()) if keep_frames else recording


def write_gif(
    path: str | os.PathLike[str],
    frames: Frames,
    *,
    frames_per_second: float = FRAMES_PER_SECOND,
    scale: int = 1,
    progress: Progress = ignore_progress,
) -> None:
    """Write an animation that loops and rests on its last frame for a while.

    frames: a sequence of T frames, uint8[height, width, 3], with at most 256 colors each. GIF times
    are hundredths of a second; they are rounded without accumulating errors. Equal consecutive
    frames become one that lasts longer. The file is written atomically, frame by frame. progress:
    e.g. ``show_progress``. Raises ValueError if there are no frames, too many colors, or a number
    is out of range, and OSError with the path if it cannot be written.
    """
    spaces.check_range("frames_per_second", frames_per_second, *RATES)
    spaces.check_range("scale", scale, *_SCALES)
    if len(frames) == 0:
        raise ValueError("a GIF needs at least one frame, but there are none")
    starts, palette = _survey(frames)
    ends = np.round(np.array([*starts[1:], len(frames)]) * 100 / frames_per_second).astype(int)
    durations = np.diff(ends, prepend=0) * 10
    durations[-1] += round(LAST_FRAME_SECONDS * 1000)
    what, before = f"writing {path}", None
    with draft(Path(path)) as file:
        for number, (start, duration) in enumerate(zip(starts, durations.tolist())):
            progress(number, len(starts), what)
            _write_frame(file, frames[start], before, palette, scale, duration)
            before = frames[start]
        file.write(_GIF_END)
    progress(len(starts), len(starts), what)


def write_sheet(
    path: str | os.PathLike[str],
    frames: Frames,
    *,
    columns: int = SHEET_COLUMNS,
    scale: int = 1,
) -> None:
    """Write a contact sheet: a PNG with the frames row by row.

    frames: a sequence of T frames, uint8[height, width, 3]. columns: frames per row. More than
    SHEET_FRAMES frames are thinned out evenly, keeping the first and the last. The file is written
    atomically. Raises ValueError and OSError as ``write_gif`` does.
    """
    spaces.check_range("columns", columns, 1, SHEET_FRAMES)
    spaces.check_range("scale", scale, *_SCALES)
    if len(frames) == 0:
        raise ValueError("a contact sheet needs at least one frame, but there are none")
    shown = spaces.evenly_spaced(len(frames), SHEET_FRAMES)
    columns = min(columns, len(shown))
    gap = max(1, frames[0].shape[0] // 32)
    height, width = (length + gap for length in frames[0].shape[:2])
    rows = -(-len(shown) // columns)
    sheet = np.full((rows * height - gap, columns * width - gap, 3), 255, np.uint8)
    for place, index in enumerate(shown):
        top, left = place // columns * height, place % columns * width
        sheet[top : top + height - gap, left : left + width - gap] = frames[index]
    image = _enlarged(Image.fromarray(sheet), scale)
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    write_files({Path(path): content.getvalue()})


def _chooser(
    policy: str | Policy, machine: cabinet.Cabinet, partial_obs: bool, key: jax.Array
) -> Callable[[cabinet.Episode], Any]:
    """A policy as a function (episode) -> action. policy: one of POLICIES, or a function."""
    if not isinstance(policy, str):
        return lambda episode: policy(cabinet.observe(machine, episode, partial_obs))
    if policy == "random":
        generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        return lambda episode: int(generator.integers(NUM_ACTIONS))
    player = _compiled_player(policy, machine.params)
    return lambda episode: int(player(episode.state))


@lru_cache(maxsize=8)
def _compiled_player(policy: str, params: Any) -> Callable[[Any], jax.Array]:
    """The best or worst play of ``experts``, compiled: (state) -> action."""
    return jax.jit(lambda state: getattr(experts, policy)(state, params))


def _checked_action(action: Any) -> int:
    """A policy's action as an int. Raises ValueError unless it is an integer in [0, 4]."""
    value = np.asarray(action)
    if value.shape != () or value.dtype.kind not in "iu":
        raise ValueError(f"the policy must return an int, but it returned {action!r}")
    spaces.check_range("the policy's action", int(value), 0, NUM_ACTIONS - 1)
    return int(value)


def _picture(
    machine: cabinet.Cabinet, episode: cabinet.Episode, views: Sequence[bool]
) -> np.ndarray:
    """A frame of a recording: the views of an episode's state side by side."""
    return cabinet.side_by_side(
        [cabinet.observe(machine, episode, partial_obs) for partial_obs in views]
    )


def _write_frame(
    file: BinaryIO,
    frame: np.ndarray,
    before: np.ndarray | None,
    palette: np.ndarray | None,
    scale: int,
    duration: int,
) -> None:
    """Write a frame of a GIF: the first with the file's head, of others the part that changed.

    before: the frame before. palette, scale: as in ``_paletted``. duration: milliseconds.

    Pillow itself would keep all images until the last one, each with scale * scale * size bytes.
    """
    options: dict[str, Any] = {"duration": duration, "disposal": 1}
    if before is None:
        content = io.BytesIO()
        first = _paletted(frame, palette, scale)
        first.save(content, "GIF", loop=0, optimize=False, interlace=False, **options)
        file.write(content.getvalue().removesuffix(_GIF_END))
        return
    top, bottom, left, right = _changed_part(frame, before)
    image = _paletted(frame[top:bottom, left:right], palette, scale)
    place = left * scale, top * scale
    file.writelines(GifImagePlugin.getdata(image, place, include_color_table=True, **options))


def _changed_part(frame: np.ndarray, before: np.ndarray) -> tuple[int, int, int, int]:
    """The smallest rectangle with all pixels that differ: (top, bottom, left, right)."""
    changed = _changed(frame, before)
    rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _changed(frame: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Which pixels differ: bool[height, width]."""
    red, green, blue = np.moveaxis(frame != before, 2, 0)
    return red | green | blue  # several times as fast as any(axis=2)


def _survey(frames: Frames) -> tuple[list[int], np.ndarray | None]:
    """The indices of frames that differ from the one before, and all their colors.

    The colors are None if there are too many for one palette.
    """
    starts, colors, before = [], np.array([], np.uint32), None
    for index in range(len(frames)):
        frame = frames[index]
        new = frame if before is None else frame[_changed(frame, before)]
        if new.size:
            starts.append(index)
            colors = np.union1d(colors, _colors(new))
        before = frame
    return starts, colors if len(colors) <= _MAX_COLORS else None


def _colors(frame: np.ndarray) -> np.ndarray:
    """Each pixel's color as one number: uint8[..., 3] -> uint32[...]."""
    return frame.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)


def _paletted(frame: np.ndarray, palette: np.ndarray | None, scale: int) -> Image.Image:
    """A frame as an image with a palette, uint32[colors]; by default one of its own."""
    colors = _colors(frame)
    palette = np.unique(colors) if palette is None else palette
    if len(palette) > _MAX_COLORS:
        raise ValueError(
            f"a GIF frame has at most {_MAX_COLORS} colors, but one has {len(palette)}; "
            "write a .png"
        )
    image = Image.fromarray(np.searchsorted(palette, colors).astype(np.uint8))
    channels = np.stack([palette >> 16, palette >> 8 & 255, palette & 255], axis=1)
    image.putpalette(channels.astype(np.uint8).tobytes())
    return _enlarged(image, scale)


def _enlarged(image: Image.Image, scale: int) -> Image.Image:
    """An image with each pixel drawn as scale x scale pixels."""
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def check_path(path: str | os.PathLike[str], suffixes: Collection[str] = (".gif", ".png")) -> None:
    """Check a recording's path.

    Raises ValueError unless it has one of the suffixes, and OSError unless a file can be written
    there.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise ValueError(
            f"a recording must end with {' or '.join(suffixes)}, but it is {str(path)!r}"
        )
    check_file(path)


# --- the command ---------------------------------------------------------------------------------


def _policy_from(text: str) -> str | Policy:
    """A policy from the command line: a name, or the function to import for "module:function"."""
    if ":" not in text:
        return text
    module, _, function = text.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        policy = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot import the policy {text!r}: {error}") from error
    finally:
        sys.path.pop(0)
    if not callable(policy):
        raise ValueError(
            f"the policy {text!r} must be a function (observation) -> action, but it is {policy!r}"
        )
    return policy


def _parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    parser = argparse.ArgumentParser(
        prog="popgym-arcade-record", description="Play one episode and write it to a file."
    )
    parser.add_argument(
        "name", metavar="NAME", help=f"an environment, e.g. {REGISTERED_ENVIRONMENTS[0]}"
    )
    parser.add_argument(
        "path", metavar="OUT", help="the file: .gif for an animation, .png for a contact sheet"
    )
    parser.add_argument(
        "--policy",
        default="expert",
        help=f"{', '.join(POLICIES)}, or your own as module:function (default: expert)",
    )
    parser.add_argument("-p", "--partial", action="store_true", help="show the POMDP")
    parser.add_argument("--both", action="store_true", help="show both twins side by side")
    parser.add_argument(
        "-o",
        "--obs-size",
        type=int,
        choices=OBS_SIZES,
        default=OBS_SIZES[0],
        help="frame size in pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=spaces.number_argument(0, spaces.MAX_SEED),
        default=0,
        help="random seed (default: %(default)s)",
    )
    parser.add_argument(
        "--max-steps",
        type=spaces.number_argument(1),
        metavar="N",
        help="stop after this many steps",
    )
    parser.add_argument(
        "--fps",
        type=spaces.number_argument(*RATES, float),
        default=FRAMES_PER_SECOND,
        help="frames per second of an animation (default: %(default)s)",
    )
    parser.add_argument(
        "--scale",
        type=spaces.number_argument(*_SCALES),
        default=1,
        help="output pixels per frame pixel (default: %(default)s)",
    )
    return parser


@output_may_be_cut()
def main(arguments: Sequence[str] | None = None) -> None:
    """Record an episode from the command line.

    Bad input exits with 2, and a file that cannot be written with 1.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        name = registered_name(options.name)
        recording = record(
            options.path,
            name,
            _policy_from(options.policy),
            frames_per_second=options.fps,
            scale=options.scale,
            keep_frames=False,
            progress=show_progress,
            seed=options.seed,
            partial_obs=options.partial,
            both=options.both,
            obs_size=options.obs_size,
            max_steps=options.max_steps,
        )
    except (ValueError, OSError) as error:
        end_command(parser.prog, error)
    steps, total = len(recording.actions), recording.rewards.sum()
    counted = "1 step" if steps == 1 else f"{steps} steps"
    print(f"wrote {options.path}: {name}, {counted}, return {total:.3f}")


if __name__ == "__main__":
    main()
