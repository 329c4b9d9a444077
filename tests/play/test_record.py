"""Tests of recordings: files hold the observations themselves, and bad input is refused at once."""

import weakref
from functools import cache

import jax
import numpy as np
import pytest
from PIL import Image, ImageSequence

from popgym_arcade import experts, make
from popgym_arcade.play import cabinet, record
from tests.mishaps import fill_disk

FRAME_COUNT, SIDE = 7, 128


@cache
def recording(name="NavigatorEasy", policy="expert", **options):
    """A rollout, kept for other tests."""
    return record.rollout(name, policy, **options)


def noise(count=FRAME_COUNT, colors=200):
    """Frames of random colors, all different: uint8[count, 40, 50, 3]."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (colors, 3), dtype=np.uint8)[
        rng.integers(0, colors, (count, 40, 50))
    ]


def animation(path):
    """A GIF's frames, uint8[count, height, width, 3], and their durations in milliseconds."""
    with Image.open(path) as image:
        shown = [
            (np.asarray(frame.convert("RGB")), frame.info["duration"])
            for frame in ImageSequence.Iterator(image)
        ]
        assert image.info["loop"] == 0
    return np.stack([frame for frame, _ in shown]), [duration for _, duration in shown]


# --- rollouts ------------------------------------------------------------------------------------


def test_a_rollout_holds_the_observations_of_the_environment():
    env, params = make("NavigatorEasy", partial_obs=True)
    played = recording(partial_obs=True, seed=4)
    episode_key, _ = jax.random.split(jax.random.key(4))
    episode = cabinet.begin(cabinet.build("NavigatorEasy"), episode_key)
    state, total = episode.state, 0.0
    for action, reward, frame in zip(played.actions, played.rewards, played.frames):
        assert (frame == env.render(state, params)).all()
        assert action == experts.expert(state, params)
        _, state, expected_reward, _, info = env.step_env(jax.random.key(0), state, action, params)
        assert reward == expected_reward
        total += float(reward)
    assert (played.frames[-1] == env.render(state, params)).all()
    assert played.terminated and info["terminated"] and not played.truncated
    assert total == pytest.approx(1 - 0.5 / 64 * (len(played.actions) - 1))


def test_the_same_seed_plays_the_same_and_another_seed_does_not():
    again = record.rollout("BattleShipEasy", "random", seed=1, max_steps=20)
    first = recording("BattleShipEasy", "random", seed=1, max_steps=20)
    other = recording("BattleShipEasy", "random", seed=2, max_steps=20)
    assert (again.frames == first.frames).all() and (again.actions == first.actions).all()
    assert (other.frames[0] != first.frames[0]).any() and (other.actions != first.actions).any()


def test_each_named_policy_plays_its_part():
    assert recording(policy="expert").rewards.sum() > 0.5
    assert recording(policy="worst").rewards.sum() < -0.9
    assert set(recording("BattleShipEasy", "random", max_steps=50).actions.tolist()) == set(
        range(5)
    )


def test_a_users_policy_sees_each_observation_of_its_twin_once_in_order():
    seen = []

    def policy(observation):
        seen.append(observation)
        return len(seen) % 5

    played = record.rollout("BattleShipEasy", policy, partial_obs=True, both=True, max_steps=12)
    assert played.actions.tolist() == [count % 5 for count in range(1, 13)]
    assert (np.stack(seen) == played.frames[:12, :, -SIDE:]).all()  # the POMDP is on the right


def test_both_twins_stand_side_by_side_with_the_mdp_first():
    played = recording(both=True)
    assert (played.frames[:, :, :SIDE] == recording(partial_obs=False).frames).all()
    assert (played.frames[:, :, -SIDE:] == recording(partial_obs=True).frames).all()


def test_an_episode_ends_with_the_game_or_after_so_many_steps():
    cut = recording("BattleShipEasy", "random", seed=1, max_steps=20)
    assert len(cut.actions) == len(cut.rewards) == len(cut.frames) - 1 == 20
    assert not cut.terminated and not cut.truncated
    over = recording("SkittlesEasy", "expert", max_steps_in_episode=9)
    assert len(over.actions) == 9 and over.truncated


@pytest.mark.parametrize("action", [5, -1, 1.0, None, np.array([1]), "up", True])
def test_an_action_that_does_not_exist_is_refused(action):
    message = (
        r"must return an int, but it returned|action must be in \[0, 4\], but it is (5|-1); the"
    )
    with pytest.raises(ValueError, match=message):
        record.rollout("NavigatorEasy", lambda observation: action)


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["CartPoleEasy", "TetrisEasy"])
def test_a_gif_holds_the_observations_to_the_byte(name, tmp_path):
    played = record.record(tmp_path / "a.gif", name, both=True, max_steps=40)
    frames, durations = animation(tmp_path / "a.gif")
    repeated = np.repeat(
        frames, np.diff(np.cumsum([0, *durations]) // 100), axis=0
    )  # a tenth of a second each
    assert (repeated[: len(played.frames)] == played.frames).all()
    assert (repeated[len(played.frames) :] == played.frames[-1]).all()


@pytest.mark.parametrize("frames_per_second", [50, 30, 7, 0.5])
def test_a_gif_takes_its_time_and_rests_on_the_last_frame(frames_per_second, tmp_path):
    record.write_gif(tmp_path / "a.gif", noise(), frames_per_second=frames_per_second)
    _, durations = animation(tmp_path / "a.gif")
    assert len(durations) == FRAME_COUNT
    assert sum(durations) == pytest.approx(
        1000 * (FRAME_COUNT / frames_per_second + record.LAST_FRAME_SECONDS), abs=10
    )
    assert max(durations[:-1]) - min(durations[:-1]) <= 10


def test_a_gif_with_more_colors_than_one_palette_holds_has_one_for_each_frame(tmp_path):
    frames = np.concatenate([noise(3, 250), 255 - noise(3, 250)])
    record.write_gif(tmp_path / "a.gif", frames)
    assert (animation(tmp_path / "a.gif")[0] == frames).all()


def test_a_frame_with_too_many_colors_for_a_gif_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"at most 256 colors, but one has \d+; write a .png"):
        record.write_gif(tmp_path / "a.gif", noise(colors=2000))
    assert list(tmp_path.iterdir()) == []


def test_a_scale_makes_each_pixel_a_square(tmp_path):
    record.write_gif(tmp_path / "a.gif", noise(), scale=3)
    frames, _ = animation(tmp_path / "a.gif")
    assert frames.shape == (FRAME_COUNT, 120, 150, 3)
    assert all((frames[:, i::3, j::3] == noise()).all() for i in range(3) for j in range(3))


def test_a_contact_sheet_has_all_frames_in_reading_order(tmp_path):
    record.write_sheet(tmp_path / "a.png", noise(), columns=3)
    sheet = np.asarray(Image.open(tmp_path / "a.png"))
    gap = 1
    assert sheet.shape == (3 * 40 + 2 * gap, 3 * 50 + 2 * gap, 3)
    for place, frame in enumerate(noise()):
        row, column = divmod(place, 3)
        assert (sheet[row * 41 :, column * 51 :][:40, :50] == frame).all()


def test_a_contact_sheet_can_be_enlarged(tmp_path):
    record.write_sheet(tmp_path / "a.png", noise(2), scale=2)
    sheet = np.asarray(Image.open(tmp_path / "a.png"))
    assert all((sheet[i:80:2, j:100:2] == noise(2)[0]).all() for i in range(2) for j in range(2))


def test_a_contact_sheet_of_many_frames_keeps_the_first_and_the_last(tmp_path):
    frames = noise(3 * record.SHEET_FRAMES)
    record.write_sheet(tmp_path / "a.png", frames)
    sheet = np.asarray(Image.open(tmp_path / "a.png"))
    assert sheet.shape[:2] == (8 * 41 - 1, 8 * 51 - 1)
    assert (sheet[:40, :50] == frames[0]).all() and (sheet[-40:, -50:] == frames[-1]).all()


def test_packed_frames_come_back_as_they_were():
    packed = record.PackedFrames()
    for frame in noise():
        packed.append(frame)
    assert len(packed) == FRAME_COUNT
    assert all((a == b).all() for a, b in zip(packed, noise()))


def test_a_gif_is_written_frame_by_frame(tmp_path, monkeypatch):
    images, paletted = [], record._paletted

    def counted(*args):
        assert sum(image() is not None for image in images) <= 1
        image = paletted(*args)
        images.append(weakref.ref(image))
        return image

    monkeypatch.setattr(record, "_paletted", counted)
    record.write_gif(tmp_path / "a.gif", noise())
    assert (animation(tmp_path / "a.gif")[0] == noise()).all()


def test_a_gif_holds_only_what_changed_from_frame_to_frame(tmp_path):
    frames = noise(3)
    frames[1:] = frames[0]
    frames[1, 7:9, 20:30] = 255 - frames[1, 7:9, 20:30]
    record.write_gif(tmp_path / "a.gif", frames, scale=2)
    assert (animation(tmp_path / "a.gif")[0][:, ::2, ::2] == frames).all()
    with Image.open(tmp_path / "a.gif") as image:
        image.seek(1)
        assert image.tile[0][1] == (40, 14, 60, 18)  # left, top, right, bottom


def test_the_frames_are_returned_unless_they_are_not_to_be_kept(tmp_path):
    options = {"name": "NavigatorEasy", "both": True, "max_steps": 3}
    kept = record.record(tmp_path / "a.gif", **options)
    assert (kept.frames == recording(**options).frames).all()
    dropped = record.record(tmp_path / "b.gif", keep_frames=False, **options)
    assert len(dropped.frames) == 0 and (dropped.actions == kept.actions).all()
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.gif"
    path.write_bytes(b"old")

    class Broken(record.PackedFrames):
        def __getitem__(self, index):
            raise OSError("disk full")

    frames = Broken()
    frames.append(noise()[0])
    with pytest.raises(OSError, match="disk full"):
        record.write_gif(path, frames)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


BAD_FILES = {
    "a.webp": (ValueError, "must end with .gif or .png"),
    "gif": (ValueError, "must end with .gif or .png"),
    "no/a.gif": (FileNotFoundError, "there is no folder .*no"),
}
BAD_OPTIONS = [
    (dict(scale=0), r"scale must be in \[1, 64\], but it is 0; the nearest is 1"),
    (
        dict(frames_per_second=1000),
        r"frames_per_second must be in \[0.1, 50\], but it is 1000; the nearest is 50",
    ),
    (dict(seed=2**32), r"seed must be in \[0, 2147483647\], but it is 4294967296"),
    (dict(seed=10**23), r"seed must be in \[0, 2147483647\], but it is 10{23}; the nearest"),
    (dict(max_steps=-5), "max_steps must be at least 1, but it is -5; the nearest is 1"),
    (dict(max_steps=0), "max_steps must be at least 1, but it is 0"),
    (dict(policy="expret"), "no policy 'expret'; the nearest are: expert"),
    (dict(name="NavigatorEsay"), "the nearest are: NavigatorEasy"),
]


@pytest.mark.parametrize("path", BAD_FILES)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_played(
    path, tmp_path, monkeypatch
):
    monkeypatch.setattr(record, "rollout", None)
    error, message = BAD_FILES[path]
    with pytest.raises(error, match=message):
        record.record(tmp_path / path, "NavigatorEasy")


@pytest.mark.parametrize("options, message", BAD_OPTIONS)
def test_bad_options_are_refused_with_what_is_allowed_before_anything_is_compiled(
    options, message, tmp_path, monkeypatch
):
    monkeypatch.setattr(record.cabinet, "build", None)
    with pytest.raises(ValueError, match=message):
        record.record(tmp_path / "a.gif", **{"name": "NavigatorEasy", **options})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", [1.0, "1", None, True])
def test_a_seed_is_an_integer(seed):
    with pytest.raises(TypeError, match=r"seed must be an int in \[0, 2147483647\], but it is"):
        record.rollout("NavigatorEasy", seed=seed)


@pytest.mark.parametrize("write", [record.write_gif, record.write_sheet])
def test_no_frames_are_no_recording(write, tmp_path):
    with pytest.raises(ValueError, match="at least one frame"):
        write(tmp_path / "a.gif", [])


# --- the command ---------------------------------------------------------------------------------


def test_the_command_writes_a_recording_and_says_what_it_played(tmp_path, capsys):
    path = str(tmp_path / "a.gif")
    record.main(
        [
            "NavigatorEasy",
            path,
            "--policy",
            "worst",
            "--both",
            "--seed",
            "3",
            "--max-steps",
            "5",
            "--scale",
            "2",
        ]
    )
    said = capsys.readouterr()
    assert said.out == f"wrote {path}: NavigatorEasy, 5 steps, return {-0.5 / 64 * 5:.3f}\n"
    assert said.err == f"compiling NavigatorEasy ...\nplaying ...\nwriting {path} ...\n"
    assert animation(path)[0].shape[1:] == (256, 2 * (2 * 128 + 4), 3)


def test_the_command_finds_an_environment_in_any_case(tmp_path, capsys):
    path = str(tmp_path / "a.png")
    record.main(["navigatoreasy", path, "--max-steps", "1"])
    assert capsys.readouterr().out.startswith(f"wrote {path}: NavigatorEasy, 1 step,")


def test_the_command_takes_a_users_policy(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_policy.py").write_text(
        "def always_left(observation):\n    return 2\n\nnot_a_function = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    record.main(["CartPoleEasy", "a.png", "--policy", "my_policy:always_left"])
    assert Image.open("a.png").size[0] > 128
    for wrong in ("my_policy:nothing", "no_such_module:policy", "my_policy:not_a_function"):
        with pytest.raises(SystemExit) as caught:
            record.main(["CartPoleEasy", "b.png", "--policy", wrong])
        assert caught.value.code == 2 and wrong in capsys.readouterr().err


@pytest.mark.parametrize("file", ["a.gif", "a.png"])
def test_a_full_disk_ends_the_command_with_one_line_and_leaves_nothing(
    file, tmp_path, monkeypatch, capsys
):
    fill_disk(monkeypatch, file)
    with pytest.raises(SystemExit) as caught:
        record.main(["NavigatorEasy", str(tmp_path / file), "--max-steps", "2"])
    assert caught.value.code == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"popgym-arcade-record: error: {tmp_path / file}: No space left on device"
    assert list(tmp_path.iterdir()) == []


def test_on_a_terminal_the_command_draws_a_bar(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    record.main(["NavigatorEasy", str(tmp_path / "a.png"), "--max-steps", "2"])
    bars = capsys.readouterr().err.split("playing ...\n")[1].split("\r")
    assert [bar.partition("] ")[2].split() for bar in bars[1:]] == [
        [f"{steps}/2", "playing"] for steps in range(3)
    ]


@pytest.mark.parametrize(
    "words, message",
    [
        (["Navigator", "a.gif"], "NavigatorEasy"),
        (["NavigatorEasy", "a.txt"], ".gif or .png"),
        (["NavigatorEasy", "a.gif", "--seed", str(10**23)], "--seed: must be in [0, 2147483647]"),
        (["NavigatorEasy", "a.gif", "--max-steps", "-5"], "--max-steps: must be at least 1"),
        (["NavigatorEasy", "a.gif", "--scale", "0"], "--scale: must be in [1, 64]"),
        (["NavigatorEasy", "a.gif", "--fps", "nan"], "--fps: must be in [0.1, 50]"),
    ],
)
def test_bad_input_to_the_command_exits_with_2(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        record.main(words)
    assert caught.value.code == 2 and message in capsys.readouterr().err
