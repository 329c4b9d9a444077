"""Record an episode: ``popgym-arcade-record NavigatorEasy navigator.gif --policy expert --both``.

In Python, ``rollout`` plays an episode and returns its frames, ``write_gif`` and ``write_sheet``
put frames into a file, and ``record`` does both. The frames are the observations themselves: a GIF
or PNG written with scale 1 holds their very bytes.

A policy is one of POLICIES by name, or a function (observation) -> action: observation is a NumPy
uint8[S, S, 3] and action an int. It is called once a step, in order, so it may remember what it
saw.
"""

import argparse
import importlib
import os
import sys
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image

from popgym_arcade import experts
from popgym_arcade.play import cabinet
from popgym_arcade.registry import NUM_ACTIONS, REGISTERED_ENVIRONMENTS
from popgym_arcade.render import OBS_SIZES
from popgym_arcade.spaces import nearest_names

POLICIES = ("expert", "worst", "random")
"""The policies that have a name: the best and the worst play of ``experts``, which see the whole
state, and uniform actions."""

FRAMES_PER_SECOND = 10
RATES = (0.1, 50)  # frames a second that a GIF may have
LAST_FRAME_SECONDS = 1.5  # how long a GIF rests on its last frame
SHEET_COLUMNS = 8
SHEET_FRAMES = 64
MAX_COLORS = 256  # of a frame of a GIF


class Recording(NamedTuple):
    """An episode of T steps, or its first T."""

    name: str  # the environment
    frames: np.ndarray  # uint8[T + 1, S, width, 3]: the observations; width is S, or more with both twins side by side
    actions: np.ndarray  # int32[T]
    rewards: np.ndarray  # float32[T]
    terminated: bool
    truncated: bool


class PackedFrames(Sequence):
    """A list of frames, uint8[height, width, 3] of one size, that takes little memory: a few
    kilobytes a frame."""

    def __init__(self):
        """An empty list."""
        self.packed, self.shape = [], None

    def __copy__(self):
        """A list of the same frames that does not change with this one."""
        other = PackedFrames()
        other.packed, other.shape = list(self.packed), self.shape
        return other

    def append(self, frame):
        """Add a frame at the end."""
        self.shape = frame.shape
        self.packed.append(zlib.compress(frame.tobytes(), level=1))

    def __len__(self):
        """How many frames there are."""
        return len(self.packed)

    def __getitem__(self, index):
        """A frame: uint8[height, width, 3]."""
        return np.frombuffer(zlib.decompress(self.packed[index]), np.uint8).reshape(self.shape)


def rollout(
    name,
    policy="expert",
    *,
    seed=0,
    partial_obs=False,
    both=False,
    obs_size=128,
    max_steps=None,
    **overrides,
):
    """Play one episode: Recording.

    name, partial_obs, obs_size and overrides are those of ``make``. policy: a name in POLICIES or a
    function (observation) -> action; the observation is that of the twin which partial_obs names,
    also when ``both`` twins are recorded. seed: an int, which with name and policy decides the
    episode. max_steps: stop after so many steps, if the episode is not over before.

    Raises what ``make`` raises, and ValueError for an unknown policy or an action that is not an
    int from 0 to 4.
    """
    machine = cabinet.build(name, obs_size, **overrides)
    episode_key, policy_key = jax.random.split(jax.random.key(seed))
    choose = _chooser(policy, machine, partial_obs, policy_key)
    views = (False, True) if both else (partial_obs,)
    episode = cabinet.begin(machine, episode_key)
    frames, actions, rewards = [_picture(machine, episode, views)], [], []
    while not episode.done and (max_steps is None or len(actions) < max_steps):
        action = _checked_action(choose(episode))
        episode = cabinet.advance(machine, episode, action)
        frames.append(_picture(machine, episode, views))
        actions.append(action)
        rewards.append(episode.reward)
    actions, rewards = np.array(actions, np.int32), np.array(rewards, np.float32)
    return Recording(
        name, np.stack(frames), actions, rewards, episode.terminated, episode.truncated
    )


def record(path, name, policy="expert", *, frames_per_second=FRAMES_PER_SECOND, scale=1, **options):
    """Play one episode and write it to a file: Recording.

    path: ends with .gif for an animation or .png for a contact sheet. frames_per_second: of an
    animation, 0.1 to 50. scale: pixels a side of each pixel of a frame. name, policy and options
    are those of ``rollout``. Raises what ``rollout``, ``write_gif`` and ``write_sheet`` raise; a
    wrong path or number is found before anything is played.
    """
    write = _writer(path, frames_per_second, scale)
    recording = rollout(name, policy, **options)
    write(recording.frames)
    return recording


def write_gif(path, frames, *, frames_per_second=FRAMES_PER_SECOND, scale=1):
    """Write an animation that loops and rests for a while on its last frame.

    frames: a sequence of T frames, uint8[height, width, 3], with at most 256 colours each. A GIF
    counts time in hundredths of a second; the frames' times are rounded so that no error adds up.
    Equal frames in a row become one that lasts longer. The file appears complete or not at all.
    Raises ValueError for no frames, for more colours, and for numbers out of range.
    """
    _check_range("frames_per_second", frames_per_second, *RATES)
    _check_range("scale", scale, 1, 64)
    if len(frames) == 0:
        raise ValueError("a GIF needs at least one frame, but there are none")
    starts, palette = _survey(frames)
    ends = np.round(np.array([*starts[1:], len(frames)]) * 100 / frames_per_second).astype(int)
    durations = np.diff(ends, prepend=0) * 10
    durations[-1] += round(LAST_FRAME_SECONDS * 1000)
    first, *rest = (_paletted(frames[start], palette, scale) for start in starts)
    options = dict(duration=durations.tolist(), loop=0, optimize=False, disposal=1)
    _write(
        path, lambda draft: first.save(draft, "GIF", save_all=True, append_images=rest, **options)
    )


def write_sheet(path, frames, *, columns=SHEET_COLUMNS, scale=1):
    """Write a contact sheet: a PNG with the frames in rows, in the order in which people read.

    frames: a sequence of T frames, uint8[height, width, 3]. columns: frames in a row. More than
    SHEET_FRAMES frames are thinned out evenly, and the first and the last are kept. The file
    appears complete or not at all. Raises ValueError as ``write_gif`` does.
    """
    _check_range("columns", columns, 1, SHEET_FRAMES)
    _check_range("scale", scale, 1, 64)
    if len(frames) == 0:
        raise ValueError("a contact sheet needs at least one frame, but there are none")
    shown = np.unique(
        np.linspace(0, len(frames) - 1, min(len(frames), SHEET_FRAMES)).round().astype(int)
    )
    columns = min(columns, len(shown))
    gap = max(1, frames[0].shape[0] // 32)
    height, width = (length + gap for length in frames[0].shape[:2])
    rows = -(-len(shown) // columns)
    sheet = np.full((rows * height - gap, columns * width - gap, 3), 255, np.uint8)
    for place, index in enumerate(shown):
        top, left = place // columns * height, place % columns * width
        sheet[top : top + height - gap, left : left + width - gap] = frames[index]
    _write(
        path,
        lambda draft: _enlarged(Image.fromarray(sheet), scale).save(draft, "PNG", optimize=True),
    )


def _chooser(policy, machine, partial_obs, key):
    """A policy as a function (episode) -> action. Raises ValueError for an unknown one."""
    if callable(policy):
        return lambda episode: policy(cabinet.observe(machine, episode, partial_obs))
    if policy == "random":
        generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        return lambda episode: int(generator.integers(NUM_ACTIONS))
    if policy not in POLICIES:
        raise ValueError(
            f"there is no policy {policy!r}; {nearest_names(policy, POLICIES)}; or give a function"
        )
    player = _player(policy, machine.params)
    return lambda episode: int(player(episode.state))


@lru_cache(maxsize=8)
def _player(policy, params):
    """The expert or the worst player of the environments with these Params, compiled: a function
    (state) -> action."""
    return jax.jit(lambda state: getattr(experts, policy)(state, params))


def _checked_action(action):
    """A policy's action as an int. Raises ValueError unless it is one of those that there are."""
    value = np.asarray(action)
    if value.shape != () or value.dtype.kind not in "iu" or not 0 <= value < NUM_ACTIONS:
        raise ValueError(
            f"the policy must return an int, 0 ... {NUM_ACTIONS - 1}, but it returned {action!r}"
        )
    return int(value)


def _picture(machine, episode, views):
    """The frame of a recording: the views of an episode's state side by side."""
    return cabinet.side_by_side(
        [cabinet.observe(machine, episode, partial_obs) for partial_obs in views]
    )


def _survey(frames):
    """Where frames differ from the one before, a list of ints, and all their colours, or None if
    they are too many for a GIF."""
    starts, colors, before = [], np.array([], np.uint32), None
    for index in range(len(frames)):
        frame = frames[index]
        if before is None or (frame != before).any():
            starts.append(index)
            colors = np.union1d(colors, _colors(frame))
        before = frame
    return starts, colors if len(colors) <= MAX_COLORS else None


def _colors(frame):
    """The colour of each pixel as one number: uint8[height, width, 3] -> uint32[height, width]."""
    return frame.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)


def _paletted(frame, palette, scale):
    """A frame as an image with this palette, uint32[colours], or with one of its own if that is
    None."""
    colors = _colors(frame)
    palette = np.unique(colors) if palette is None else palette
    if len(palette) > MAX_COLORS:
        raise ValueError(
            f"a frame of a GIF has at most {MAX_COLORS} colours, but one has {len(palette)}; write a .png"
        )
    image = Image.fromarray(np.searchsorted(palette, colors).astype(np.uint8))
    image.putpalette(
        np.stack([palette >> 16, palette >> 8 & 255, palette & 255], axis=1)
        .astype(np.uint8)
        .tobytes()
    )
    return _enlarged(image, scale)


def _enlarged(image, scale):
    """An image with each pixel drawn as scale x scale pixels."""
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def _check_range(name, value, low, high):
    """Raise ValueError unless a number is in range."""
    if not low <= value <= high:
        raise ValueError(
            f"{name} must be in {low} ... {high}, but it is {value}; the nearest is {low if value < low else high}"
        )


def check_path(path, suffixes=(".gif", ".png")):
    """Raise ValueError unless the path has one of the suffixes, and OSError unless its folder
    exists."""
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise ValueError(
            f"a recording's name must end with {' or '.join(suffixes)}, but it is {str(path)!r}"
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"there is no folder {str(path.parent)!r} to write {path.name!r} into"
        )
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; name a file")


def _writer(path, frames_per_second, scale):
    """The function that writes frames to a path of this name: (frames) -> None. Raises what is
    wrong with the arguments."""
    check_path(path)
    _check_range("frames_per_second", frames_per_second, *RATES)
    _check_range("scale", scale, 1, 64)
    if Path(path).suffix.lower() == ".png":
        return lambda frames: write_sheet(path, frames, scale=scale)
    return lambda frames: write_gif(path, frames, frames_per_second=frames_per_second, scale=scale)


def _write(path, save):
    """Write a file with ``save``, (path) -> None, so that it appears complete or not at all."""
    path = Path(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        save(draft)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


# --- the command ---------------------------------------------------------------------------------


def policy_from(text):
    """A policy from the command line: a name, or the function that ``module:function`` names, which
    is imported."""
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
    if not isinstance(policy, Callable):
        raise ValueError(
            f"the policy {text!r} must be a function (observation) -> action, but it is {policy!r}"
        )
    return policy


def main(arguments=None):
    """Record an episode from the command line. Bad input exits with 2."""
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
        "--policy", default="expert", help=f"{', '.join(POLICIES)}, or your own as module:function"
    )
    parser.add_argument("-p", "--partial", action="store_true", help="the POMDP's view")
    parser.add_argument("--both", action="store_true", help="both views side by side")
    parser.add_argument(
        "-o",
        "--obs-size",
        type=int,
        choices=OBS_SIZES,
        default=OBS_SIZES[0],
        help="pixels a side (default 128)",
    )
    parser.add_argument("--seed", type=int, default=0, help="decides the episode (default 0)")
    parser.add_argument("--max-steps", type=int, metavar="N", help="stop after so many steps")
    parser.add_argument(
        "--fps",
        type=float,
        default=FRAMES_PER_SECOND,
        help="frames a second of an animation (default 10)",
    )
    parser.add_argument(
        "--scale", type=int, default=1, help="pixels a side of each pixel of a frame (default 1)"
    )
    options = parser.parse_args(arguments)
    try:
        recording = record(
            options.path,
            options.name,
            policy_from(options.policy),
            frames_per_second=options.fps,
            scale=options.scale,
            seed=options.seed,
            partial_obs=options.partial,
            both=options.both,
            obs_size=options.obs_size,
            max_steps=options.max_steps,
        )
    except (ValueError, OSError) as error:
        parser.error(str(error))
    steps, total = len(recording.actions), recording.rewards.sum()
    print(f"wrote {options.path}: {options.name}, {steps} steps, return {total:.3f}")


if __name__ == "__main__":
    main()
