"""A window to play in, on pygame-ce: shows a Session and passes it the keys.

``popgym_arcade.play`` opens it. From top to bottom it shows the environment and the view, the frame
scaled up by a whole number or the rules, the session's status, and a message or the keys.
"""

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple, NoReturn

import numpy as np

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

import pygame

from popgym_arcade.play import record, rules
from popgym_arcade.play.session import Session
from popgym_arcade.registry import Action
from popgym_arcade.render import PALETTE

__all__ = ["ACTION_KEYS", "Layout", "display", "layout", "run"]

ACTION_KEYS: dict[int, Action] = {
    pygame.K_UP: Action.UP,
    pygame.K_DOWN: Action.DOWN,
    pygame.K_LEFT: Action.LEFT,
    pygame.K_RIGHT: Action.RIGHT,
    pygame.K_SPACE: Action.FIRE,
}
_KEY_HINTS = "R: new episode   P: swap view   H: rules   Esc: quit"
_REPEAT_DELAY, _REPEAT_INTERVAL = 350, 90  # milliseconds, of keys that are held
_LISTEN_INTERVAL = 250  # milliseconds: Python notices Ctrl-C only between pygame's waits
_WIDTH_SHARE, _HEIGHT_SHARE = 0.9, 0.75  # the most of the desktop that the picture takes
_BACKGROUND, _PANEL, _TEXT, _FAINT, _ACCENT = (PALETTE[key] for key in "kdwsy")
_HIDDEN_DRIVERS = ("dummy", "offscreen")  # SDL's video drivers that show nothing


class Layout(NamedTuple):
    """The window's measures in screen pixels. Its rows are title, picture, status and message."""

    scale: int  # screen pixels per frame pixel
    picture: tuple[int, int]  # width and height of the scaled picture
    row: int  # the height of a row of text

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the window."""
        return self.picture[0], self.picture[1] + 3 * self.row


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


def layout(picture: np.ndarray, scale: int | None = None) -> Layout:
    """The window's measures.

    picture: what is shown, uint8[height, width, 3]. scale: by default what fits the desktop.
    """
    height, width = picture.shape[:2]
    if scale is None:
        desktop = pygame.display.get_desktop_sizes()[0]
        fits = min(desktop[0] * _WIDTH_SHARE / width, desktop[1] * _HEIGHT_SHARE / height)
        scale = max(1, int(fits))
    return Layout(scale, (width * scale, height * scale), row=max(16, min(36, width * scale // 18)))


def run(
    session: Session, *, scale: int | None = None, gif_path: str | os.PathLike[str] | None = None
) -> None:
    """Play a session until the player quits.

    scale: screen pixels per frame pixel; by default what fits the desktop. gif_path: write all
    frames shown to this file.
    """
    place = layout(session.picture(), scale)
    screen = pygame.display.set_mode(place.size)
    pygame.display.set_caption(f"{session.machine.name} - POPGym Arcade")
    pygame.key.set_repeat(_REPEAT_DELAY, _REPEAT_INTERVAL)
    try:
        _loop(session, screen, place)
    except KeyboardInterrupt:
        pass
    finally:
        if gif_path:
            rate = session.recording_rate()
            record.write_gif(gif_path, session.pictures, frames_per_second=rate)
            print(f"wrote {gif_path}")


# --- events --------------------------------------------------------------------------------------


def _loop(session: Session, screen: pygame.Surface, place: Layout) -> None:
    """Show the session and handle events until the player quits; sleep while there are none."""
    first_line: int | None = None  # of the rules on show; None while the game is
    down: set[int] = set()  # keys
    announced, changed = -1, True
    while True:
        if changed:
            announced = _announce(session, announced)
            _draw(screen, place, session, first_line)
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
            first_line = _key_down(event.key, repeated, now, session, place, first_line)
        changed = session.tick(now) or event.type != pygame.NOEVENT


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


def _draw(screen: pygame.Surface, place: Layout, session: Session, first_line: int | None) -> None:
    """Show the session, or its rules from a line on."""
    status, (width, height), row = session.status(), place.picture, place.row
    left, right = row // 2, width - row // 2
    screen.fill(_PANEL)
    view_width = _write(screen, status["view"], _ACCENT, 0, row, right=right)
    title = f"{status['game']} {status['level']}"
    _write(screen, title, _TEXT, 0, row, left=left, beside=view_width)
    if first_line is None:
        picture = session.picture()
        surface = pygame.image.frombuffer(picture.tobytes(), picture.shape[1::-1], "RGB")
        screen.blit(pygame.transform.scale(surface, place.picture), (0, row))
        message = status["message"]
    else:
        _draw_rules(screen, place, session, first_line)
        message = "Arrows: scroll   Space: next page   H: back to the game"
    figures = f"return {status['return']}    step {status['step']}"
    seed_width = _write(screen, f"seed {status['seed']}", _FAINT, row + height, row, right=right)
    _write(screen, figures, _TEXT, row + height, row, left=left, beside=seed_width)
    color = _ACCENT if message else _FAINT
    _write(screen, message or _KEY_HINTS, color, 2 * row + height, row, left=left)
    pygame.display.flip()


def _write(
    screen: pygame.Surface,
    text: str,
    color: tuple[int, int, int],
    top: int,
    row: int,
    *,
    left: int | None = None,
    right: int | None = None,
    beside: int = 0,
) -> int:
    """Write a line of text into a row of the window, smaller if it would not fit.

    top, row: of the row, its place and height. left, right: where the text begins or ends. beside:
    the width of what else is in the row. Returns the text's width.
    """
    room = screen.get_width() - row - (beside + row // 2 if beside else 0)
    sizes = range(max(8, int(row * 0.72)), 7, -1)
    size = next((size for size in sizes if _font(size).size(text)[0] <= room), 8)
    image = _font(size).render(text, True, color)
    x = (right or 0) - image.get_width() if left is None else left
    screen.blit(image, (x, top + (row - image.get_height()) // 2))
    return image.get_width()


def _draw_rules(screen: pygame.Surface, place: Layout, session: Session, first: int) -> None:
    """Draw the rules in place of the picture, from a line on."""
    area = pygame.Rect(0, place.row, *place.picture)
    screen.fill(_BACKGROUND, area)
    size, width = _rules_size(place), area.width - place.row
    lines = _rule_lines(session.machine.name, size, width)
    for number, (kind, line) in enumerate(lines[first : first + _lines_shown(place)]):
        spot = (place.row // 2, area.top + size // 2 + number * _line_height(size))
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


@cache
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
    lines = _rule_lines(session.machine.name, _rules_size(place), place.picture[0] - place.row)
    return max(0, min(first + step, len(lines) - page))


def _lines_shown(place: Layout) -> int:
    """How many lines of the rules fit the window."""
    return (place.picture[1] - _rules_size(place)) // _line_height(_rules_size(place))


def _rules_size(place: Layout) -> int:
    """The text size of the rules."""
    return max(12, min(20, place.picture[0] // 34))


def _line_height(size: int) -> int:
    """Screen pixels from one line of this text size to the next."""
    return size * 13 // 10


@cache
def _font(size: int) -> pygame.font.Font:
    """Pygame's own typeface in a text size."""
    return pygame.font.Font(None, size * 5 // 4)
