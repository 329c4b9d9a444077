"""A window to play in, on pygame-ce: shows a Session and passes it the keys.

``popgym_arcade.play`` opens it. From top to bottom it shows the environment and the view, the frame
scaled up by a whole number or the rules, the session's status, and a message or the keys. All this
stands in the middle of the window, whose size the player may change.
"""

import concurrent.futures
import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import NamedTuple, NoReturn, TypeVar

import numpy as np

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

import pygame

from popgym_arcade.play import record, rules
from popgym_arcade.play.session import MAX_SCALE, Session
from popgym_arcade.registry import Action
from popgym_arcade.render import OBS_SIZES, PALETTE

__all__ = [
    "ACTION_KEYS",
    "Layout",
    "display",
    "layout",
    "open_window",
    "opening_size",
    "run",
    "wait_for",
]

ACTION_KEYS: dict[int, Action] = {
    pygame.K_UP: Action.UP,
    pygame.K_DOWN: Action.DOWN,
    pygame.K_LEFT: Action.LEFT,
    pygame.K_RIGHT: Action.RIGHT,
    pygame.K_SPACE: Action.FIRE,
}
_KEY_HINTS = (
    "R: new episode",
    "P: swap view",
    "H: rules",
    "F11: full screen",
    "Esc: quit",
)
_REPEAT_DELAY, _REPEAT_INTERVAL = 350, 90  # milliseconds, of keys that are held
_LISTEN_INTERVAL = 250  # milliseconds: Python notices Ctrl-C only between pygame's waits
_WIDTH_SHARE, _HEIGHT_SHARE = 0.95, 0.9  # the most of the desktop that a new window takes
_WORK_INTERVAL = 50  # milliseconds between looks at whether work is done
_BACKGROUND, _PANEL, _TEXT, _FAINT, _ACCENT = (PALETTE[key] for key in "kdwsy")
_HIDDEN_DRIVERS = ("dummy", "offscreen")  # SDL's video drivers that show nothing

_Result = TypeVar("_Result")


class Layout(NamedTuple):
    """Where things are in a window, in screen pixels.

    The picture stands between rows of text: the title above; the status and the message below.
    """

    scale: float  # screen pixels per frame pixel: a whole number, or less than 1
    picture: pygame.Rect
    row: int  # the height of a row of text

    def text_row(self, number: int) -> pygame.Rect:
        """A row of text: 0 for the title, 1 for the status and 2 for the message."""
        left, top, width, height = self.picture
        return pygame.Rect(
            left, top - self.row + number * self.row + (number > 0) * height, width, self.row
        )


@contextlib.contextmanager
def display() -> Iterator[None]:
    """Start the display, and stop it at the end.

    Exits with 1, saying what to do instead, if there is none.
    """
    try:
        pygame.display.init()
    except pygame.error as error:
        _exit_without_display(str(error))
    if pygame.display.get_driver() in _HIDDEN_DRIVERS and not os.environ.get("SDL_VIDEODRIVER"):
        _exit_without_display("none found")
    pygame.font.init()
    try:
        yield
    finally:
        _font.cache_clear()
        pygame.quit()


def _exit_without_display(reason: str) -> NoReturn:
    """End the program because nothing can be shown."""
    sys.exit(
        f"popgym-arcade-play cannot open a window, because there is no display ({reason}).\n"
        "Add --web to play in a browser, on this or another machine, or watch a policy play with\n"
        "    popgym-arcade-record NAME OUT.gif"
    )


def layout(picture: np.ndarray, size: tuple[int, int]) -> Layout:
    """Where things are in a window.

    picture: what is shown, uint8[height, width, 3]. It is scaled by the largest whole number that
    fits, and shrunk if none does. size: width and height of the window.
    """
    height, width = picture.shape[:2]
    row = _row_height(size[0])
    fits = min(size[0] / width, (size[1] - 3 * row) / height)
    scale = math.floor(fits) if fits >= 1 else max(fits, 1 / min(width, height))
    place = pygame.Rect(0, 0, round(width * scale), round(height * scale))
    place.center = size[0] // 2, (size[1] - row) // 2  # one row above, two below
    return Layout(scale, place, row)


def _row_height(width: int) -> int:
    """The height of a row of text in a window, in screen pixels."""
    return max(16, min(36, width // 18))


def opening_size(picture: np.ndarray, scale: int | None = None) -> tuple[int, int]:
    """Width and height of a new window, which has no border around the picture.

    picture: what is shown, uint8[height, width, 3]. scale: screen pixels per frame pixel; one that
    does not fit the desktop is reduced. By default, the largest frames get the largest scale that
    fits, and smaller ones a window of the same size.
    """
    desktop = pygame.display.get_desktop_sizes()[0]
    room = int(desktop[0] * _WIDTH_SHARE), int(desktop[1] * _HEIGHT_SHARE)
    sizes = {wanted: _size_at(picture, wanted) for wanted in range(MAX_SCALE, 0, -1)}
    most = next((k for k, size in sizes.items() if size[0] <= room[0] and size[1] <= room[1]), 1)
    unit = max(OBS_SIZES) // len(picture)  # a scale of the largest frames, in scales of this one
    usual = most - most % unit if most >= unit else most
    size = sizes[min(most, usual if scale is None else scale)]
    return min(size[0], room[0]), min(size[1], room[1])


def _size_at(picture: np.ndarray, scale: int) -> tuple[int, int]:
    """Width and height of a window that shows a picture scaled, without a border."""
    height, width = picture.shape[0] * scale, picture.shape[1] * scale
    return width, height + 3 * _row_height(width)


def open_window(name: str, picture: np.ndarray, scale: int | None = None) -> None:
    """Open the window. name: of the environment. picture and scale: as for ``opening_size``."""
    size = opening_size(picture, scale)
    pygame.display.set_mode(size, pygame.RESIZABLE)
    pygame.display.set_caption(f"{name} - POPGym Arcade")
    pygame.key.set_repeat(_REPEAT_DELAY, _REPEAT_INTERVAL)
    shown = layout(picture, size).scale
    if scale is not None and shown < scale:
        print(f"--scale {scale} does not fit the screen; it is {shown:g}")


def wait_for(work: Callable[[], _Result], text: str) -> _Result:
    """Do work in a thread, while the window shows a text and the seconds that have passed.

    Returns what the work returns and raises what it raises. Exits with 0 if the player quits
    before; the program then ends after the work.
    """
    future: concurrent.futures.Future[_Result] = concurrent.futures.Future()

    def do() -> None:
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)

    try:
        threading.Thread(target=do).start()
        _show_until_done(future, text)
    except KeyboardInterrupt:
        sys.exit(0)
    return future.result()


def _show_until_done(future: concurrent.futures.Future[_Result], text: str) -> None:
    """Show a text and the seconds that pass until work is done. Exits if the player quits."""
    start, shown = time.monotonic(), None
    while not future.done():
        seconds = int(time.monotonic() - start)
        if seconds != shown:
            _draw_text(f"{text} ... {seconds} s" if seconds else f"{text} ...")
            shown = seconds
        event = pygame.event.wait(_WORK_INTERVAL)
        if event.type in (pygame.WINDOWSIZECHANGED, pygame.WINDOWEXPOSED):
            shown = None
        escaped = event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE
        if event.type == pygame.QUIT or escaped:
            sys.exit(0)


def run(session: Session, *, gif_path: str | os.PathLike[str] | None = None) -> None:
    """Play a session in the open window until the player quits, and close it.

    gif_path: write all frames shown to this file. Exits with 1, saying why, if that fails.
    """
    try:
        _loop(session)
    except KeyboardInterrupt:
        pass
    finally:
        pygame.display.quit()
        if gif_path:
            _save(session, gif_path)


def _save(session: Session, gif_path: str | os.PathLike[str]) -> None:
    """Write all frames shown to a file, and say so. Exits with 1, saying why, if that fails."""
    with contextlib.suppress(BrokenPipeError):  # the recording is worth more than the line
        print(f"writing {len(session.pictures)} frames to {gif_path} ...", flush=True)
    try:
        rate = session.recording_rate()
        record.write_gif(gif_path, session.pictures, frames_per_second=rate)
    except OSError as error:
        sys.exit(f"could not write {gif_path}: {error.strerror or error}")
    print(f"wrote {gif_path}")


# --- events --------------------------------------------------------------------------------------


def _loop(session: Session) -> None:
    """Show the session and handle events until the player quits; sleep while there are none."""
    first_line: int | None = None  # of the rules on show; None while the game is
    down: set[int] = set()  # keys
    announced = _announce(session, -1)
    place = _draw(session, first_line)
    window_size = pygame.display.get_window_size()  # to return to from the full screen
    while True:
        event = _next_event(session)
        now = time.monotonic()
        if event.type == pygame.QUIT:
            return
        if event.type == pygame.WINDOWFOCUSLOST:
            session.pause()
            down.clear()
        if event.type == pygame.KEYUP:
            down.discard(event.key)
            session.release(ACTION_KEYS.get(event.key))
        if event.type == pygame.KEYDOWN:
            repeated = event.key in down
            down.add(event.key)
            if event.key == pygame.K_ESCAPE and not repeated:
                return
            if event.key == pygame.K_F11 and not repeated:
                window_size = _toggle_full_screen(window_size)
            first_line = _key_down(event.key, repeated, now, session, place, first_line)
        if session.tick(now) or event.type != pygame.NOEVENT:
            announced = _announce(session, announced)
            place = _draw(session, first_line)


def _next_event(session: Session) -> pygame.event.Event:
    """The next event; NOEVENT if the clock's next step is due or nothing happens for a while."""
    wait = _LISTEN_INTERVAL
    if session.due is not None:
        wait = min(wait, max(1, math.ceil(1000 * (session.due - time.monotonic()))))
    return pygame.event.wait(wait)


def _key_down(
    key: int, repeated: bool, now: float, session: Session, place: Layout, first_line: int | None
) -> int | None:
    """Handle a key going down. Returns the first line of the rules to show, None for the game."""
    if key in ACTION_KEYS:
        if first_line is not None:
            return _scrolled(first_line, key, session, place)
        session.press(ACTION_KEYS[key], now, repeated)
    elif repeated:
        return first_line
    elif key == pygame.K_r:
        session.restart()
        return None
    elif key == pygame.K_p:
        session.swap()
    elif key == pygame.K_h:
        session.pause()
        return 0 if first_line is None else None
    return first_line


def _toggle_full_screen(size: tuple[int, int]) -> tuple[int, int]:
    """Fill the screen, or return to a window. Returns the size of the window to return to.

    size: that window's. Pygame's own function for this keeps the window's size.
    """
    if pygame.display.is_fullscreen():
        pygame.display.set_mode(size, pygame.RESIZABLE)
        return size
    size = pygame.display.get_window_size()
    pygame.display.set_mode((0, 0), pygame.FULLSCREEN)
    return size


def _announce(session: Session, announced: int) -> int:
    """Print the return of an episode that has just ended.

    announced: the number of the last episode printed. Returns its new value.
    """
    episode = session.episode
    if not episode.done or session.number == announced:
        return announced
    result = f"return {episode.episode_return:.3f} after {episode.time} steps"
    print(f"episode {session.number + 1}: {result}")
    return session.number


# --- drawing -------------------------------------------------------------------------------------


def _draw(session: Session, first_line: int | None) -> Layout:
    """Show the session, or its rules from a line on. Returns where things are."""
    screen, status, picture = _screen(), session.status(), session.picture()
    place = layout(picture, screen.get_size())
    title, figures, message = map(place.text_row, range(3))
    screen.fill(_BACKGROUND)
    for row in (title, figures, message):
        screen.fill(_PANEL, row)
    view_width = _write(screen, status["view"], _ACCENT, title, to_the_right=True)
    _write(screen, f"{status['game']} {status['level']}", _TEXT, title, beside=view_width)
    if first_line is None:
        surface = pygame.image.frombuffer(picture.tobytes(), picture.shape[1::-1], "RGB")
        scaled = pygame.transform.scale if place.scale >= 1 else pygame.transform.smoothscale
        screen.blit(scaled(surface, place.picture.size), place.picture)
        text = status["message"]
    else:
        _draw_rules(screen, place, session, first_line)
        text = "Arrows: scroll   Space: next page   H: back to the game"
    numbers = f"return {status['return']}    step {status['step']}"
    seed_width = _write(screen, f"seed {status['seed']}", _FAINT, figures, to_the_right=True)
    _write(screen, numbers, _TEXT, figures, beside=seed_width)
    _write(screen, text or _key_hints(session), _ACCENT if text else _FAINT, message)
    pygame.display.flip()
    return place


def _screen() -> pygame.Surface:
    """What the open window shows."""
    surface = pygame.display.get_surface()
    if surface is None:
        raise RuntimeError("no window is open; open_window opens one")
    return surface


def _key_hints(session: Session) -> str:
    """What the keys do. There is nothing to swap where both views are shown."""
    return "   ".join(hint for hint in _KEY_HINTS if not (session.both and hint.startswith("P")))


def _draw_text(text: str) -> None:
    """Show nothing but a text, in the middle of the window."""
    screen = _screen()
    size = _row_height(screen.get_width())
    image = _font(size * 3 // 4).render(text, True, _TEXT)
    screen.fill(_BACKGROUND)
    screen.blit(image, image.get_rect(center=screen.get_rect().center))
    pygame.display.flip()


def _write(
    screen: pygame.Surface,
    text: str,
    color: tuple[int, int, int],
    row: pygame.Rect,
    *,
    to_the_right: bool = False,
    beside: int = 0,
) -> int:
    """Write a line of text into a row of the window, smaller if it would not fit.

    to_the_right: end at the row's right end instead of beginning at its left. beside: the width of
    what else is in the row. Returns the text's width.
    """
    margin = row.height // 2
    room = row.width - 2 * margin - (beside + margin if beside else 0)
    sizes = range(max(8, int(row.height * 0.72)), 7, -1)
    size = next((size for size in sizes if _font(size).size(text)[0] <= room), 8)
    image = _font(size).render(text, True, color)
    x = row.right - margin - image.get_width() if to_the_right else row.left + margin
    screen.blit(image, (x, row.top + (row.height - image.get_height()) // 2))
    return image.get_width()


def _draw_rules(screen: pygame.Surface, place: Layout, session: Session, first: int) -> None:
    """Draw the rules in place of the picture, from a line on."""
    area = place.picture
    screen.fill(_BACKGROUND, area)
    size, lines = _rules_size(place), _lines_of(session, place)
    first = min(first, max(0, len(lines) - _lines_shown(place)))  # the window may have grown
    for number, (kind, line) in enumerate(lines[first : first + _lines_shown(place)]):
        top = area.top + size // 2 + number * _line_height(size)
        spot = area.left + place.row // 2, top
        if kind == "drawing":
            _draw_in_columns(screen, line, size, spot)
        else:
            screen.blit(
                _font(size).render(line, True, _ACCENT if kind == "heading" else _TEXT), spot
            )


def _draw_in_columns(screen: pygame.Surface, line: str, size: int, spot: tuple[int, int]) -> None:
    """Draw a line in a fixed pitch."""
    pitch = _pitch(size)
    for column, character in enumerate(line):
        screen.blit(_font(size).render(character, True, _TEXT), (spot[0] + column * pitch, spot[1]))


def _pitch(size: int) -> int:
    """Screen pixels from a character of a drawing to the next."""
    return max(_font(size).size(character)[0] for character in "@#0")


def _lines_of(session: Session, place: Layout) -> tuple[tuple[str, str], ...]:
    """The lines of a session's rules, as they fit the place of the picture."""
    width = place.picture.width - place.row
    return _rule_lines(session.machine.name, _rules_size(place), width)


@lru_cache(maxsize=8)
def _rule_lines(name: str, size: int, width: int) -> tuple[tuple[str, str], ...]:
    """An environment's rules in lines of at most width screen pixels: (kind, line) each.

    kind is "heading", "drawing" or "text".
    """
    lines: list[tuple[str, str]] = []
    for section in rules.player_rules(name):
        lines.append(("heading", section.heading))
        for kind, text in section.parts:
            if kind == "drawing":
                columns = width // _pitch(size)
                lines += [("drawing", line) for line in [*_narrowed(text, columns), ""]]
            else:
                lines += [("text", line) for line in _wrapped(text, kind == "item", size, width)]
        if lines[-1][1]:
            lines.append(("text", ""))
    return tuple(lines[:-1])


def _narrowed(drawing: str, columns: int) -> list[str]:
    """The lines of a drawing, cut between its figures into parts that fit the columns.

    Figures stand side by side; each begins with a letter in the first line, after a column that is
    blank in all lines.
    """
    lines = drawing.split("\n")
    width = max(map(len, lines))
    lines = [line.ljust(width) for line in lines]
    starts = [
        column
        for column in range(width)
        if lines[0][column].isalpha()
        and (column == 0 or all(line[column - 1] == " " for line in lines))
    ] or [0]
    parts, begin = [], 0
    for start, end in zip(starts, [*starts[1:], width]):
        if end - begin > columns and start > begin:
            parts.append((begin, start))
            begin = start
    parts.append((begin, width))
    return [line[begin:end].rstrip() for begin, end in parts for line in [*lines, ""]][:-1]


def _wrapped(text: str, is_item: bool, size: int, width: int) -> list[str]:
    """Text in lines of at most width screen pixels, or of one word; items have a hanging indent."""
    indent = "    " if is_item else ""
    first, *words = text.split()
    lines = [first]
    for word in words:
        if _font(size).size(f"{lines[-1]} {word}")[0] <= width:
            lines[-1] += " " + word
        else:
            lines.append(indent + word)
    return lines


def _scrolled(first: int, key: int, session: Session, place: Layout) -> int:
    """The first line of the rules to show after a key.

    Arrow up and down move by a line, the others by a page.
    """
    page = _lines_shown(place)
    step = {pygame.K_UP: -1, pygame.K_DOWN: 1, pygame.K_LEFT: -page}.get(key, page)
    return max(0, min(first + step, len(_lines_of(session, place)) - page))


def _lines_shown(place: Layout) -> int:
    """How many lines of the rules fit the window."""
    return (place.picture.height - _rules_size(place)) // _line_height(_rules_size(place))


def _rules_size(place: Layout) -> int:
    """The text size of the rules."""
    return max(12, min(20, place.picture.width // 34))


def _line_height(size: int) -> int:
    """Screen pixels from one line of this text size to the next."""
    return size * 13 // 10


@cache
def _font(size: int) -> pygame.font.Font:
    """Pygame's own typeface in a text size."""
    return pygame.font.Font(None, size * 5 // 4)
