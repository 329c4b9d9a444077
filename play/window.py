"""A window to play in, on pygame-ce: shows a Session and hands it the keys. ``popgym_arcade.play``
opens it.

From top to bottom: the environment and the view; the frame, each of its pixels as a square of whole
screen pixels, or the rules; what the session's status says; what the player should know or can
press.
"""

import contextlib
import math
import os
import sys
import time
from functools import cache
from typing import NamedTuple

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

import pygame

from popgym_arcade.play import record, rules
from popgym_arcade.render import PALETTE

ACTION_KEYS = {
    pygame.K_UP: 0,
    pygame.K_DOWN: 1,
    pygame.K_LEFT: 2,
    pygame.K_RIGHT: 3,
    pygame.K_SPACE: 4,
}
KEY_HINTS = "R: new episode   P: twin's view   H: rules   Esc: leave"
REPEAT_DELAY, REPEAT_INTERVAL = (
    350,
    90,
)  # milliseconds until a key that stays down repeats, and from one time to the next
LISTEN_INTERVAL = 250  # milliseconds after which Python is to look whether Ctrl-C was pressed: it cannot while pygame waits
PICTURE_SIDE = 640  # screen pixels that a frame is enlarged to at most, unless told otherwise
DESKTOP_SHARE = 0.85  # how much of the desktop the window takes at most
BACKGROUND, PANEL, TEXT, FAINT, ACCENT = (PALETTE[key] for key in "kdwsy")
HIDDEN_DRIVERS = ("dummy", "offscreen")  # SDL's video drivers that show nothing


class Layout(NamedTuple):
    """The window's measures in screen pixels. It is divided into rows: title, picture, status,
    message."""

    scale: int  # a side of a frame's pixel
    picture: tuple  # width and height of the enlarged picture
    row: int  # the height of a row of text

    @property
    def size(self):
        """Width and height of the window."""
        return self.picture[0], self.picture[1] + 3 * self.row


@contextlib.contextmanager
def display():
    """Start the display, and stop it in the end. Exits with 1, saying what to do instead, if
    nothing can be shown."""
    try:
        pygame.display.init()
    except pygame.error as error:
        no_display(str(error))
    if pygame.display.get_driver() in HIDDEN_DRIVERS and not os.environ.get("SDL_VIDEODRIVER"):
        no_display("there is none")
    pygame.font.init()
    try:
        yield
    finally:
        font.cache_clear()
        pygame.quit()


def no_display(reason):
    """End the program because nothing can be shown."""
    sys.exit(
        f"popgym-arcade-play has no display to open a window on ({reason}).\n"
        "Add --web to play in a browser, also from another machine, or see a policy play with\n"
        "    popgym-arcade-record NAME OUT.gif"
    )


def layout(picture, scale=None):
    """The window's Layout. picture: what is shown, uint8[height, width, 3]. scale: an int; by
    default what fits the desktop."""
    height, width = picture.shape[:2]
    if scale is None:
        desktop = pygame.display.get_desktop_sizes()[0]
        fits = min(
            desktop[0] * DESKTOP_SHARE / width,
            desktop[1] * DESKTOP_SHARE / height,
            PICTURE_SIDE / height,
        )
        scale = max(1, int(fits))
    return Layout(scale, (width * scale, height * scale), row=max(16, min(36, width * scale // 18)))


def run(session, *, scale=None, recording=None):
    """Play a session until the player leaves.

    scale: screen pixels a side of a frame's pixel; by default what fits. recording: a path; all
    frames are written to it as a GIF.
    """
    place = layout(session.picture(), scale)
    screen = pygame.display.set_mode(place.size)
    pygame.display.set_caption(f"{session.machine.name} - POPGym Arcade")
    pygame.key.set_repeat(REPEAT_DELAY, REPEAT_INTERVAL)
    try:
        loop(session, screen, place)
    except KeyboardInterrupt:
        pass
    finally:
        if recording:
            record.write_gif(
                recording, session.pictures, frames_per_second=session.recording_rate()
            )
            print(f"wrote {recording}")


def loop(session, screen, place):
    """Show the session and hand it what the player does, until the player leaves. Sleeps while
    there is nothing to do."""
    rules_page, down, announced = (
        None,
        set(),
        -1,
    )  # the first line of the rules on show; the keys that are down; last episode told
    changed = True
    while True:
        if changed:
            announced = announce(session, announced)
            draw(screen, place, session, rules_page)
        event = next_event(session)
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
            if event.key in ACTION_KEYS and rules_page is None:
                session.press(ACTION_KEYS[event.key], now, repeated)
            elif event.key in ACTION_KEYS:
                rules_page = scrolled(rules_page, event.key, session, place)
            elif not repeated:
                if event.key == pygame.K_ESCAPE:
                    return
                rules_page = command(event.key, session, rules_page)
        changed = session.tick(now) or event.type != pygame.NOEVENT


def next_event(session):
    """The next event, or one of type NOEVENT when the clock's next step is due or nothing has
    happened for a while."""
    wait = LISTEN_INTERVAL
    if session.due is not None:
        wait = min(wait, max(1, math.ceil(1000 * (session.due - time.monotonic()))))
    return pygame.event.wait(wait)


def command(key, session, rules_page):
    """Do what a key that is not an action says. Returns the first line of the rules that is to be
    shown, None for the game."""
    if key == pygame.K_r:
        session.restart()
        return None
    if key == pygame.K_p:
        session.swap()
    if key == pygame.K_h:
        session.pause()
        return 0 if rules_page is None else None
    return rules_page


def announce(session, announced):
    """Print the return of an episode that has ended, once. Returns the number of the last episode
    told of."""
    if session.episode.done and session.number != announced:
        print(
            f"episode {session.number + 1}: return {session.episode.episode_return:.3f} after {session.episode.time} steps"
        )
        return session.number
    return announced


# --- drawing -------------------------------------------------------------------------------------


def draw(screen, place, session, rules_page):
    """Show the session, or the rules from the line on that is given."""
    status, (width, height), row = session.status(), place.picture, place.row
    screen.fill(PANEL)
    write(screen, f"{status['game']} {status['level']}", TEXT, left=row // 2, row_top=0, row=row)
    write(screen, status["view"], ACCENT, right=width - row // 2, row_top=0, row=row)
    if rules_page is None:
        picture = session.picture()
        surface = pygame.image.frombuffer(picture.tobytes(), picture.shape[1::-1], "RGB")
        screen.blit(pygame.transform.scale(surface, place.picture), (0, row))
    else:
        draw_rules(screen, place, session, rules_page)
    figures = f"return {status['return']}    step {status['step']}"
    write(screen, figures, TEXT, left=row // 2, row_top=row + height, row=row)
    write(
        screen,
        f"seed {status['seed']}",
        FAINT,
        right=width - row // 2,
        row_top=row + height,
        row=row,
    )
    message = (
        "Up and down scroll. H: back to the game" if rules_page is not None else status["message"]
    )
    write(
        screen,
        message or KEY_HINTS,
        ACCENT if message else FAINT,
        left=row // 2,
        row_top=2 * row + height,
        row=row,
    )
    pygame.display.flip()


def write(screen, text, color, *, row_top, row, left=None, right=None):
    """Write a line into a row of the window, from its left or up to its right; smaller if it would
    not fit."""
    for size in range(int(row * 0.72), 7, -1):
        if font(size).size(text)[0] <= screen.get_width() - row:
            break
    image = font(size).render(text, True, color)
    left = right - image.get_width() if left is None else left
    screen.blit(image, (left, row_top + (row - image.get_height()) // 2))


def draw_rules(screen, place, session, first):
    """Write the rules over the place of the picture, from a line on."""
    area = pygame.Rect(0, place.row, *place.picture)
    screen.fill(BACKGROUND, area)
    size = rules_size(place)
    lines = rule_lines(session.machine.name, size, area.width - place.row)
    for number, (kind, line) in enumerate(lines[first : first + lines_shown(place)]):
        spot = (place.row // 2, area.top + size // 2 + number * line_height(size))
        if kind == "drawing":
            draw_in_columns(screen, line, size, spot)
        else:
            screen.blit(font(size).render(line, True, ACCENT if kind == "heading" else TEXT), spot)


def draw_in_columns(screen, line, size, spot):
    """Write a line with every character in a column of its own, as a typewriter does."""
    advance = font(size).size("0")[0]
    for column, character in enumerate(line):
        screen.blit(font(size).render(character, True, TEXT), (spot[0] + column * advance, spot[1]))


@cache
def rule_lines(name, size, width):
    """An environment's rules in lines of so many screen pixels: a tuple of ("heading", "drawing" or
    "text", line)."""
    lines = []
    for heading, paragraphs in rules.rules(name):
        lines.append(("heading", heading))
        for kind, text in (
            part for paragraph in paragraphs for part in rules.paragraph_parts(paragraph)
        ):
            shown = (
                text.split("\n") if kind == "drawing" else filled(text, kind == "item", size, width)
            )
            lines += [("drawing" if kind == "drawing" else "text", line) for line in shown]
        lines.append(("text", ""))
    return tuple(lines[:-1])


def filled(text, is_item, size, width):
    """Text in lines of at most so many screen pixels, or of one word; those of a list's item after
    its first are indented."""
    indent = "    " if is_item else ""
    first, *words = text.split()
    lines = [first]
    for word in words:
        if font(size).size(f"{lines[-1]} {word}")[0] <= width:
            lines[-1] += " " + word
        else:
            lines.append(indent + word)
    return lines


def scrolled(first, key, session, place):
    """The first line of the rules on show after a key: an arrow up or down moves by a line, the
    others by a page."""
    page = lines_shown(place)
    step = {pygame.K_UP: -1, pygame.K_DOWN: 1, pygame.K_LEFT: -page}.get(key, page)
    lines = rule_lines(session.machine.name, rules_size(place), place.picture[0] - place.row)
    return max(0, min(first + step, len(lines) - page))


def lines_shown(place):
    """How many lines of the rules fit the window."""
    return (place.picture[1] - rules_size(place)) // line_height(rules_size(place))


def rules_size(place):
    """The size of the rules' letters."""
    return max(12, min(20, place.picture[0] // 34))


def line_height(size):
    """Screen pixels from a line of this size to the next."""
    return size * 13 // 10


@cache
def font(size):
    """pygame's own typeface in a size."""
    return pygame.font.Font(None, size * 5 // 4)
