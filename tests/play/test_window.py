"""Tests of the window: with SDL's dummy driver and posted keys, and on a virtual X display."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from PIL import Image, ImageGrab, ImageSequence

from popgym_arcade import GAMES, experts
from popgym_arcade.play import cabinet
from popgym_arcade.play.session import Session
from popgym_arcade.spaces import MAX_SEED
from tests.testing import program

pygame = pytest.importorskip("pygame", reason="the window needs the extra 'human'")

from popgym_arcade.play import window  # noqa: E402, because it needs pygame

UP, DOWN, LEFT, RIGHT, FIRE = range(5)
KEY_OF_ACTION = {action: key for key, action in window.ACTION_KEYS.items()}


@pytest.fixture
def display(monkeypatch):
    """A display that shows nothing."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with window.display():
        yield


@pytest.fixture
def shots(monkeypatch):
    """All that a window showed, as a list of uint8[height, width, 3]."""
    taken = []
    original = pygame.display.flip

    def flip():
        original()
        taken.append(pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1))

    monkeypatch.setattr(pygame.display, "flip", flip)
    return taken


def session(name="NavigatorEasy", seed=1, **options):
    """A new session."""
    return Session(cabinet.build(name), seed=seed, **options)


def run(played, scale=None, **options):
    """Open a window and play a session in it until the posted events end that."""
    window.open_window(played.machine.name, played.picture(), scale)
    window.run(played, **options)


def post(*keys):
    """Post a tap on each of some keys."""
    for key in keys:
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))
        pygame.event.post(pygame.event.Event(pygame.KEYUP, key=key))


def leave():
    """Post the closing of the window."""
    pygame.event.post(pygame.event.Event(pygame.QUIT))


def frame_in(shot, picture, scale):
    """Whether a window shows a picture, each pixel as scale x scale pixels: a bool."""
    left, top, width, height = window.layout(picture, shot.shape[1::-1]).picture
    shown = shot[top : top + height, left : left + width]
    return np.array_equal(shown, picture.repeat(scale, 0).repeat(scale, 1))


def experts_keys(played):
    """The keys with which the expert finishes the session's episode, and the episode after each."""
    episode, keys, episodes = played.episode, [], []
    while not episode.done:
        action = int(experts.expert(episode.state, played.machine.params))
        episode = cabinet.advance(played.machine, episode, action)
        keys.append(KEY_OF_ACTION[action])
        episodes.append(episode)
    return keys, episodes


def test_a_whole_game_is_played_with_posted_keys(display, shots, capsys):
    played = session()
    keys, episodes = experts_keys(played)
    assert len(keys) > 4
    post(*keys)
    leave()
    run(played, scale=2)
    shown = [cabinet.observe(played.machine, episode, False) for episode in episodes]
    assert all(any(frame_in(shot, picture, 2) for shot in shots) for picture in shown)
    assert frame_in(shots[-1], shown[-1], 2)
    total = episodes[-1].episode_return
    assert (
        total > 0.5
        and capsys.readouterr().out == f"episode 1: return {total:.3f} after {len(keys)} steps\n"
    )


@pytest.mark.parametrize("name", [game + "Easy" for game in GAMES])
def test_every_game_can_be_shown_played_swapped_and_explained(name, display, shots):
    played = session(name, fps=0)
    post(pygame.K_RIGHT, pygame.K_p, pygame.K_h)
    leave()
    run(played)
    assert played.episode.time == 1 and played.partial_obs
    views = [
        cabinet.observe(played.machine, played.episode, partial_obs)
        for partial_obs in (False, True)
    ]
    scale = 4  # of the dummy driver's desktop, 1024 x 768
    for picture in views:
        assert any(frame_in(shot, picture, scale) for shot in shots)
    assert not frame_in(shots[-1], views[1], scale)
    colors = shots[-1][100:600].astype(int) @ [65536, 256, 1]
    assert len(np.unique(colors)) > 8  # text has soft edges


def test_a_key_that_steps_back_to_the_start_begins_a_new_episode(display, shots):
    played = session()
    first = played.picture()
    post(pygame.K_LEFT, pygame.K_UP, pygame.K_r)
    leave()
    run(played, scale=1)
    assert played.number == 1 and played.episode.time == 0
    assert (played.picture() != first).any() and frame_in(shots[-1], played.picture(), 1)


def test_while_the_rules_are_shown_keys_scroll_and_do_not_play(display, shots):
    played = session("TetrisEasy")
    post(pygame.K_h, pygame.K_DOWN, pygame.K_SPACE, pygame.K_UP, pygame.K_h, pygame.K_p)
    leave()
    run(played, scale=2)
    assert played.episode.time == 0 and played.due is None
    rules = [
        shot
        for shot in shots
        if not any(
            frame_in(shot, picture, 2) for picture in (shots_picture(played, p) for p in (0, 1))
        )
    ]
    scrolled = {shot.tobytes() for shot in rules}
    assert len(scrolled) == 4  # the top, a line down, a page further, a line back


def shots_picture(played, partial_obs):
    """A view of a session's state."""
    return cabinet.observe(played.machine, played.episode, partial_obs)


@pytest.mark.parametrize("size", [(256, 304), (1024, 768), (300, 900)])
def test_the_rules_can_be_read_to_the_last_line(size, display):
    played = session("TetrisEasy")
    place = window.layout(played.picture(), size)
    lines, first = window._lines_of(played, place), 0
    for _ in range(len(lines)):
        first = window._scrolled(first, pygame.K_DOWN, played, place)
    assert first + window._lines_shown(place) == len(lines)
    text_size, room = window._rules_size(place), place.picture.width - place.row
    for kind, line in lines:
        if kind == "drawing":  # a single figure may reach into the margin
            assert len(line) * window._pitch(text_size) <= room + place.row // 2
        else:
            assert window._font(text_size).size(line)[0] <= room


def test_a_drawing_that_is_too_wide_is_cut_between_its_figures():
    drawing = "I  ##  T  ###\n   #       #"
    assert window._narrowed(drawing, 13) == drawing.split("\n")
    assert window._narrowed(drawing, 12) == ["I  ##", "   #", "", "T  ###", "    #"]
    assert window._narrowed("###\n #", 2) == ["###", " #"]


def test_escape_leaves(display):
    post(pygame.K_LEFT, pygame.K_ESCAPE, pygame.K_LEFT)
    played = session()
    run(played)
    assert played.episode.time == 1


def test_a_key_that_repeats_restarts_once_and_fires_once_but_moves_on(display):
    played = session()
    for key in (
        pygame.K_r,
        pygame.K_r,
        pygame.K_SPACE,
        pygame.K_SPACE,
        pygame.K_LEFT,
        pygame.K_LEFT,
    ):
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))
    leave()
    run(played)
    assert played.number == 1 and played.episode.time == 3


def test_a_game_on_a_clock_goes_on_by_itself_at_its_rate(display):
    played = session("CartPoleEasy", fps=20, seed=2)
    post(pygame.K_SPACE)
    pygame.time.set_timer(pygame.QUIT, 1000, loops=1)
    run(played)
    assert 14 <= played.episode.time <= 20


def test_the_clock_stops_when_the_window_loses_the_focus(display):
    played = session("CartPoleEasy", fps=20, seed=2)
    post(pygame.K_SPACE)
    pygame.event.post(pygame.event.Event(pygame.WINDOWFOCUSLOST))
    pygame.time.set_timer(pygame.QUIT, 400, loops=1)
    run(played)
    assert played.episode.time <= 1 and played.message() == "Press an arrow or space to start"


def test_a_key_that_was_down_when_the_focus_went_counts_as_new_afterwards(display):
    played = session()
    for event in (pygame.KEYDOWN, pygame.WINDOWFOCUSLOST, pygame.KEYDOWN):
        pygame.event.post(pygame.event.Event(event, key=pygame.K_SPACE))
    leave()
    run(played)
    assert played.episode.time == 2


def test_waiting_for_a_key_takes_no_processor_time(display):
    played = session()
    pygame.time.set_timer(pygame.QUIT, 1500, loops=1)
    run(played)  # compiles nothing, but loads the typeface
    pygame.display.init()
    pygame.time.set_timer(pygame.QUIT, 1500, loops=1)
    start = time.process_time()
    run(played)
    assert time.process_time() - start < 0.3


def blank(obs_size=128, both=False):
    """A picture of the size of what a session shows."""
    frame = np.zeros((obs_size, obs_size, 3), np.uint8)
    return cabinet.side_by_side([frame] * (2 if both else 1))


@pytest.mark.parametrize(
    "desktop, both, scale",
    [
        ((1024, 800), False, 2),
        ((1024, 800), True, 1),
        ((1366, 768), False, 2),
        ((1366, 768), True, 2),
        ((1440, 900), False, 2),
        ((1920, 1080), False, 3),
        ((2560, 1440), False, 4),
        ((3840, 2160), False, 7),
        ((3840, 2160), True, 7),
        ((1080, 1920), False, 4),
    ],
)
def test_the_window_opens_with_a_whole_multiple_that_fits_the_desktop(
    desktop, both, scale, display, monkeypatch
):
    monkeypatch.setattr(pygame.display, "get_desktop_sizes", lambda: [desktop])
    size = window.opening_size(blank(256, both))
    place = window.layout(blank(256, both), size)
    assert place.scale == scale
    assert place.picture.size == (scale * blank(256, both).shape[1], scale * 256)
    assert size == (place.picture.width, place.picture.height + 3 * place.row)  # no border
    assert size[0] <= 0.95 * desktop[0] and size[1] <= 0.9 * desktop[1]
    assert max(size[0] / desktop[0], size[1] / desktop[1]) >= 0.5
    width, height = window.opening_size(blank(128, both))  # which has half the pixels
    assert height == size[1] and abs(width - size[0]) <= 2 * scale


def test_the_window_is_never_larger_than_the_screen(display, monkeypatch, capsys):
    monkeypatch.setattr(pygame.display, "get_desktop_sizes", lambda: [(800, 600)])
    for scale in (1, 3, 32):
        window.open_window("NavigatorEasy", blank(128), scale)
        assert window.layout(blank(128), pygame.display.get_window_size()).scale == min(scale, 3)
    assert capsys.readouterr().out == "--scale 32 does not fit the screen; it is 3\n"
    monkeypatch.setattr(pygame.display, "get_desktop_sizes", lambda: [(320, 200)])
    assert window.opening_size(blank(256, both=True)) == (304, 180)


@pytest.mark.parametrize(
    "size, scale",
    [((640, 748), 5), ((1920, 1080), 7), ((1000, 400), 2), ((200, 900), 1), ((70, 500), 70 / 128)],
)
def test_the_picture_stands_in_the_middle_of_a_window_of_any_size(size, scale, display):
    place = window.layout(blank(), size)
    assert place.scale == scale and place.picture.size == (round(128 * scale),) * 2
    rows = [place.text_row(number) for number in range(3)]
    assert rows[0].bottom == place.picture.top
    assert (rows[1].top, rows[2].top) == (place.picture.bottom, rows[1].bottom)
    whole = place.picture.unionall(rows)
    assert abs(whole.left - (size[0] - whole.right)) <= 1
    assert abs(whole.top - (size[1] - whole.bottom)) <= 1
    assert pygame.Rect(0, 0, *size).contains(whole)


def test_a_window_may_be_smaller_than_anything(display):
    for size in ((1, 1), (40, 20), (2000, 10)):
        assert min(window.layout(blank(), size).picture.size) >= 1


def test_the_picture_follows_the_windows_size(display, shots, monkeypatch):
    played = session()

    def resize(event):
        pygame.display.set_mode((700, 900), pygame.RESIZABLE)  # as the player would
        return event

    key_down = window._key_down
    monkeypatch.setattr(window, "_key_down", lambda *given: resize(key_down(*given)))
    post(pygame.K_LEFT)
    leave()
    run(played, scale=2)
    assert frame_in(shots[-1], played.picture(), 5) and shots[-1].shape == (900, 700, 3)


def test_f11_fills_the_screen_and_returns_to_the_window(display, shots):
    played = session()
    post(pygame.K_F11, pygame.K_LEFT, pygame.K_F11, pygame.K_UP)
    leave()
    run(played, scale=2)
    sizes = [shot.shape[1::-1] for shot in shots]
    small = (256, 256 + 3 * 16)
    assert [size for size, _ in itertools.groupby(sizes)] == [small, (1024, 768), small]
    assert played.episode.time == 2 and frame_in(shots[-1], played.picture(), 2)


def test_with_both_views_there_is_nothing_to_swap(display, shots):
    played = session(both=True)
    assert "P:" not in window._key_hints(played) and "P:" in window._key_hints(session())
    post(pygame.K_p)
    leave()
    run(played, scale=2)
    assert not played.partial_obs and frame_in(shots[-1], played.picture(), 2)


def test_while_it_waits_the_window_says_for_what_and_answers(display, shots):
    window.open_window("NavigatorEasy", blank(), 2)

    def work():
        time.sleep(1.2)
        return 7

    assert window.wait_for(work, "compiling NavigatorEasy") == 7
    assert len({shot.tobytes() for shot in shots}) == 2  # after a second it tells the time
    assert all((shot != shot[0, 0]).any() for shot in shots)


def test_what_fails_while_the_window_waits_is_raised(display):
    window.open_window("NavigatorEasy", blank(), 2)
    with pytest.raises(ZeroDivisionError):
        window.wait_for(lambda: 1 / 0, "dividing")


@pytest.mark.parametrize(
    "event",
    [pygame.event.Event(pygame.QUIT), pygame.event.Event(pygame.KEYDOWN, key=pygame.K_ESCAPE)],
)
def test_the_player_may_leave_while_the_window_waits(event, display):
    window.open_window("NavigatorEasy", blank(), 2)
    pygame.event.post(event)
    with pytest.raises(SystemExit) as end:
        window.wait_for(lambda: time.sleep(0.3), "sleeping")
    assert not end.value.code


def test_control_c_while_the_window_waits_leaves(display, monkeypatch):
    def interrupt(milliseconds):
        raise KeyboardInterrupt

    window.open_window("NavigatorEasy", blank(), 2)
    monkeypatch.setattr(pygame.event, "wait", interrupt)
    with pytest.raises(SystemExit):
        window.wait_for(lambda: time.sleep(0.2), "waiting")


def test_a_recording_is_kept_though_nobody_reads_the_output(display, tmp_path, monkeypatch):
    def fail(*words, **options):
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", fail)
    leave()
    with pytest.raises(BrokenPipeError):
        run(session(keep_all=True), gif_path=tmp_path / "a.gif")
    assert (tmp_path / "a.gif").stat().st_size > 0


def test_a_recording_that_cannot_be_written_ends_with_one_line(display, tmp_path):
    leave()
    with pytest.raises(SystemExit) as end:
        run(session(keep_all=True), gif_path=tmp_path / "gone" / "a.gif")
    assert end.value.code == f"could not write {tmp_path}/gone/a.gif: No such file or directory"


@pytest.mark.parametrize("fps", [0.01, 60])
def test_a_clock_that_is_too_slow_or_too_fast_for_a_gif_does_not_lose_the_recording(
    fps, display, tmp_path
):
    played = session(fps=fps, keep_all=True)
    leave()
    run(played, gif_path=tmp_path / "a.gif")
    assert (tmp_path / "a.gif").stat().st_size > 0


def test_a_recording_holds_all_that_was_played(display, tmp_path, capsys):
    played = session(keep_all=True)
    post(pygame.K_LEFT, pygame.K_UP, pygame.K_r, pygame.K_RIGHT)
    leave()
    run(played, gif_path=tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as image:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
    distinct = [
        picture
        for i, picture in enumerate(played.pictures)
        if i == 0 or (picture != played.pictures[i - 1]).any()
    ]
    assert len(frames) == len(distinct) >= 4 and all(
        (a == b).all() for a, b in zip(frames, distinct)
    )
    assert f"wrote {tmp_path / 'a.gif'}" in capsys.readouterr().out


# --- a real window -------------------------------------------------------------------------------


@pytest.fixture
def x_display():
    """A virtual X display's name, e.g. ":3"."""
    number, number_in = os.pipe()
    command = [
        program("Xvfb"),
        "-displayfd",
        str(number_in),
        "-screen",
        "0",
        "1280x1024x24",
        "-nolisten",
        "tcp",
    ]
    server = subprocess.Popen(command, pass_fds=[number_in], stderr=subprocess.DEVNULL)
    os.close(number_in)
    with os.fdopen(number) as line:
        yield f":{line.readline().strip()}"
    server.terminate()
    server.wait()


def wait_for(find, seconds=90):
    """Call a function until it returns something true, and return that."""
    end = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
    return found


def test_a_real_window_shows_the_frames_and_takes_keys(x_display, tmp_path):
    xdotool = program("xdotool")
    expected = Session(cabinet.build("NavigatorEasy"), seed=3, both=True)
    env = {**os.environ, "DISPLAY": x_display}
    env.pop("SDL_VIDEODRIVER", None)
    words = [
        "navigatoreasy",
        "--seed",
        "3",
        "--both",
        "-o",
        "128",
        "--scale",
        "3",
        "--record",
        str(tmp_path / "a.gif"),
    ]
    command = [sys.executable, "-m", "popgym_arcade.play", *words]
    game = subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )

    def shows(picture, scale=3):
        """Whether the picture is somewhere on the screen, enlarged."""
        screen = np.asarray(ImageGrab.grab(xdisplay=x_display).convert("RGB"))
        big = picture.repeat(scale, 0).repeat(scale, 1)
        row = np.argmax((big[:, 1:] != big[:, :-1]).any(-1).sum(1))  # which is found in one place
        for top, line in enumerate(screen[row : len(screen) - len(big) + row + 1]):
            left = line.tobytes().find(big[row].tobytes()) // 3
            if left >= 0 and np.array_equal(
                screen[top : top + len(big), left : left + big.shape[1]], big
            ):
                return True
        return False

    def press(key):
        subprocess.run([xdotool, "key", key], env=env, check=True)

    try:
        wait_for(lambda: shows(expected.picture()) or game.poll() is not None)
        subprocess.run([xdotool, "mousemove", "300", "300"], env=env, check=True)
        for key, action in [("Left", LEFT), ("Up", UP), ("Right", RIGHT), ("Down", DOWN)]:
            press(key)
            expected.press(action, 0.0)
            wait_for(lambda: shows(expected.picture()))
        resize = [xdotool, "getwindowfocus", "windowsize", "600", "600"]
        subprocess.run(resize, env=env, check=True)
        wait_for(lambda: shows(expected.picture(), scale=2))
        press("Escape")
        printed, _ = game.communicate(timeout=30)
    finally:
        game.kill()
    assert game.returncode == 0
    assert re.search(
        r"NavigatorEasy, rule version \d+, seed 3\ncompiling \.\.\. done in [\d.]+ s\n"
        r"writing 5 frames to .* \.\.\.\nwrote ",
        printed,
    )
    assert (tmp_path / "a.gif").stat().st_size > 0


def test_control_c_in_the_terminal_leaves_and_keeps_the_recording(x_display, tmp_path):
    env = {**os.environ, "DISPLAY": x_display, "PYTHONUNBUFFERED": "1"}
    env.pop("SDL_VIDEODRIVER", None)
    # A shell that starts the tests in the background makes them ignore Control-C, and the game
    # would inherit that. (A preexec_fn would fork a process in which JAX's threads run.)
    code = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "runpy.run_module('popgym_arcade.play', run_name='__main__', alter_sys=True)"
    )
    command = [sys.executable, "-c", code, "NavigatorEasy", "--record", str(tmp_path / "a.gif")]
    game = subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines = [game.stdout.readline(), game.stdout.readline()]
    assert "done in" in lines[1]
    time.sleep(1)
    game.send_signal(signal.SIGINT)
    printed, _ = game.communicate(timeout=30)
    assert game.returncode == 0 and "Traceback" not in printed
    assert (tmp_path / "a.gif").stat().st_size > 0


def test_a_seed_that_was_not_given_is_printed():
    env = {**os.environ, "SDL_VIDEODRIVER": "dummy"}
    code = (
        "import pygame; from popgym_arcade.play import __main__ as command, window; pygame.init();"
        "window._next_event = lambda session: pygame.event.Event(pygame.QUIT);"
        "[command.main(['NavigatorEasy']) for _ in range(2)]"
    )
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    seeds = set(re.findall(r"seed (\d+)", done.stdout))
    assert len(seeds) == 2 and all(0 <= int(seed) <= MAX_SEED for seed in seeds)
    assert jax.random.key(max(map(int, seeds))) is not None
