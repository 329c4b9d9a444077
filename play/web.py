"""The games in a browser: ``popgym-arcade-play --web`` serves one page, web.html, and plays every
player's Session.

On aiohttp, because one well-kept package serves HTTP pages and WebSockets on one port and needs no
ASGI server beside it.

A page talks to the server over one WebSocket, ``/play``, in JSON texts: {"do": "press", "action":
4, "repeated": false}. REQUESTS has them all. The server answers with texts, each a dict with one of
these keys:

* "status": what stands outside the frame. The frame follows at once as a binary message, a PNG with
  the observation's very bytes.
* "compiling": the name of the environment that is being compiled.
* "gif": a file's name. The file, an animation of the episode, follows at once as a binary message.
* "error": what was wrong with a request. Nothing else happens then.

The rules and the clock of a game run here; the page only shows frames and reports keys.
"""

import asyncio
import collections
import copy
import errno
import functools
import io
import json
import logging
import random
import socket
import sys
import tempfile
import time
import urllib.parse
import weakref
from pathlib import Path

from aiohttp import WSCloseCode, WSMsgType, web
from PIL import Image

from popgym_arcade.play import cabinet, record, rules
from popgym_arcade.play.session import CLOCKS, MAX_FPS, MAX_SEED, Session
from popgym_arcade.registry import GAMES, NUM_ACTIONS, registered_name
from popgym_arcade.render import FONT, OBS_SIZES
from popgym_arcade.spaces import nearest_names

PAGE = Path(__file__).with_name("web.html")
MAX_REQUEST = 4096  # bytes of a request; a longer one ends the connection
SECONDS_TO_CLOSE = 2  # how long the server waits, in the end, for pages to say goodbye
HEARTBEAT = 20  # seconds from one question whether a page is still there to the next

# The page is all in one file, so nothing has to come from anywhere but its own socket.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

log = logging.getLogger(__name__)


# --- requests ------------------------------------------------------------------------------------


def checked_flag(value):
    """A bool. Raises ValueError for anything else, as all functions of this section do."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, but it is {json.dumps(value)}")
    return value


def checked_number(value, low, high, types=(int,), nothing=None):
    """A number in low ... high of one of the types. nothing: what may be given in its place, in
    words, for the message."""
    if type(value) not in types or not low <= value <= high:
        kind = "an integer" if types == (int,) else "a number"
        raise ValueError(
            f"must be {kind} in {low} ... {high}{nothing or ''}, but it is {json.dumps(value)}"
        )
    return value


def checked_size(value):
    """One of OBS_SIZES."""
    if type(value) is not int or value not in OBS_SIZES:
        raise ValueError(
            f"must be {' or '.join(map(str, OBS_SIZES))}, but it is {json.dumps(value)}"
        )
    return value


def checked_name(value):
    """The name of an environment, in upper or lower case."""
    if not isinstance(value, str):
        raise ValueError(f"must be the name of an environment, but it is {json.dumps(value)}")
    return registered_name(value)


def checked_seed(value):
    """A seed, or None for a random one."""
    return None if value is None else checked_number(value, 0, MAX_SEED, nothing=" or null")


def checked_fps(value):
    """Steps a second, 0 to step on a key, or None for the game's own."""
    return (
        None
        if value is None
        else checked_number(value, 0, MAX_FPS, (int, float), nothing=" or null")
    )


def checked_action(value):
    """An action that a key can have."""
    return checked_number(value, 0, NUM_ACTIONS - 1)


NEEDED = object()  # marks a field that has no default

REQUESTS = {
    "open": {
        "name": (checked_name, NEEDED),
        "partial_obs": (checked_flag, False),
        "both": (checked_flag, False),
        "obs_size": (checked_size, OBS_SIZES[0]),
        "seed": (checked_seed, None),
        "fps": (checked_fps, None),
    },
    "press": {"action": (checked_action, NEEDED), "repeated": (checked_flag, False)},
    "release": {"action": (checked_action, NEEDED)},
    "restart": {},
    "swap": {},
    "pause": {},
    "leave": {},
    "gif": {},
}
"""What a page may ask for, to its fields: how each is checked, and its default. Every request is a
method of Player."""


def parsed(text):
    """A request taken apart: its name and its checked fields, (str, dict). Raises ValueError,
    saying what is wrong."""
    try:
        request = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a request must be JSON, but this is not: {error}") from error
    if not isinstance(request, dict):
        raise ValueError('a request must be an object like {"do": "restart"}')
    do = request.pop("do", None)
    if not isinstance(do, str) or do not in REQUESTS:
        raise ValueError(f"there is no request {do!r}; {nearest_names(do, REQUESTS)}")
    unknown = set(request) - set(REQUESTS[do])
    if unknown:
        raise ValueError(
            f"{do} has no field {min(unknown)!r}; it has: {', '.join(REQUESTS[do]) or 'none'}"
        )
    return do, {field: checked_field(request, do, field) for field in REQUESTS[do]}


def checked_field(request, do, field):
    """A field's value, or its default. Raises ValueError, naming the field, for a wrong one and for
    one that is missing."""
    check, default = REQUESTS[do][field]
    value = request.get(field, default)
    if value is NEEDED:
        raise ValueError(f"{do} needs the field {field!r}")
    try:
        return check(value)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from error


# --- players -------------------------------------------------------------------------------------


class Player:
    """One connection: its session, and what is still to be sent over it."""

    def __init__(self, cabinets, connection):
        """A player in the menu. cabinets: a Cabinets. connection: a WebSocketResponse that is
        prepared."""
        self.cabinets, self.connection = cabinets, connection
        self.session = None
        self.opening = None  # the task that waits for a cabinet
        self.making = None  # the task that makes a GIF
        self.shown = None  # the status sent last
        self.outbox = (
            collections.deque()
        )  # texts and binary messages to be sent before the next frame
        self.news = (
            asyncio.Event()
        )  # there may be something to send, or the clock may have been set

    async def play(self):
        """Do what the page asks for until it goes away."""
        sender = asyncio.create_task(self.keep_up())
        try:
            async for message in self.connection:
                if (
                    message.type is WSMsgType.ERROR
                ):  # e.g. a request that is too long; aiohttp has hung up
                    break
                self.receive(message)
        finally:
            self.leave()
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    def receive(self, message):
        """Do what one message asks for, or say what is wrong with it."""
        try:
            do, fields = parsed(message.data)
            if self.session is None and do not in ("open", "leave"):
                raise ValueError(f"{do} needs a game; open one first")
            getattr(self, do)(**fields)
        except ValueError as error:
            self.tell(error=str(error))
        self.news.set()

    def tell(self, **message):
        """Send a dict before the next frame."""
        self.outbox.append(json.dumps(message))
        self.news.set()

    async def keep_up(self):
        """Run the clock and send what is new. Whoever reads slowly gets fewer frames or a slower
        clock, not a longer queue."""
        try:
            while True:
                await self.wait()
                if self.session is not None:
                    self.session.tick(time.monotonic())
                await self.send_outbox()
                await self.send_frame()
        except ConnectionError:
            pass  # the page is gone, and play() will notice
        except Exception:
            log.exception("a game broke off")
            await self.connection.close(code=WSCloseCode.INTERNAL_ERROR)

    async def wait(self):
        """Sleep until there is news or the clock's next step is due."""
        due = self.session and self.session.due
        # Not with asyncio.wait_for, which before Python 3.12 may swallow that the task is
        # cancelled.
        alarm = due and asyncio.get_running_loop().call_later(
            max(0, due - time.monotonic()), self.news.set
        )
        await self.news.wait()
        self.news.clear()
        if alarm:
            alarm.cancel()

    async def send_outbox(self):
        """Send all messages that wait."""
        while self.outbox:
            message = self.outbox.popleft()
            send = (
                self.connection.send_str if isinstance(message, str) else self.connection.send_bytes
            )
            await send(message)

    async def send_frame(self):
        """Send status and frame unless the page has them: a new frame never comes without a new
        step, view or episode."""
        if self.session is None:
            return
        status = self.status()
        if status != self.shown:
            self.shown, picture = (
                status,
                self.session.picture(),
            )  # both before the first wait, in which keys may come
            await self.connection.send_str(json.dumps({"status": status}))
            await self.connection.send_bytes(png(picture))

    def status(self):
        """What the page shows outside the frame: the session's status and what the page itself
        needs, a dict for JSON."""
        session = self.session
        return {
            **session.status(),
            "name": session.machine.name,
            "partial_obs": session.partial_obs,
            "both": session.both,
            "fps": session.fps,
            "done": session.episode.done,
        }

    # The requests.

    def open(self, name, obs_size, seed, **options):
        """Begin a session as soon as its environment is compiled, in place of the one there is."""
        self.leave()
        self.opening = asyncio.create_task(self.begin(name, obs_size, seed, options))

    async def begin(self, name, obs_size, seed, options):
        """Begin a session."""
        if not self.cabinets.ready(name, obs_size):
            self.tell(compiling=name)
        try:
            machine = await self.cabinets.get(name, obs_size)
        except Exception as error:
            log.exception("could not compile %s", name)
            self.tell(error=f"could not compile {name}: {error}")
            return
        seed = random.randrange(MAX_SEED + 1) if seed is None else seed
        self.session, self.shown = Session(machine, seed=seed, **options), None
        self.news.set()

    def press(self, action, repeated):
        """A key goes down."""
        self.session.press(action, time.monotonic(), repeated)

    def release(self, action):
        """A key goes up."""
        self.session.release(action)

    def restart(self):
        """Begin the next episode."""
        self.session.restart()

    def swap(self):
        """Show the twin's view."""
        self.session.swap()

    def pause(self):
        """Stop the clock until the next key."""
        self.session.pause()

    def leave(self):
        """Back to the menu."""
        if self.opening is not None:
            self.opening.cancel()
        self.opening = self.session = None

    def gif(self):
        """Send an animation of the episode so far, once it is made."""
        if self.making is not None and not self.making.done():
            raise ValueError("a GIF is being made already")
        session, frames = (
            self.session,
            copy.copy(self.session.pictures),
        )  # for the game goes on while the animation is made
        file = f"{session.machine.name}-seed{session.seed}-episode{session.number + 1}.gif"
        self.making = asyncio.create_task(self.make_gif(file, frames, session.recording_rate()))

    async def make_gif(self, file, frames, rate):
        """Make an animation in a thread and send it. rate: frames a second."""
        try:
            data = await asyncio.to_thread(gif, frames, rate)
        except Exception as error:
            log.exception("could not make a GIF")
            self.tell(error=f"could not make the GIF: {error}")
            return
        self.tell(gif=file)
        self.outbox.append(data)


class Cabinets:
    """The compiled environments of the server. All players share them; a cabinet holds no state."""

    def __init__(self):
        """None yet."""
        self.tasks = {}

    def ready(self, name, obs_size):
        """Whether an environment is compiled."""
        task = self.tasks.get((name, obs_size))
        return task is not None and task.done()

    async def get(self, name, obs_size):
        """A Cabinet. It is compiled once, and in a thread, so that the other players' clocks go on.

        Raises what the compiler raises.
        """
        if (name, obs_size) not in self.tasks:
            self.tasks[name, obs_size] = asyncio.create_task(
                asyncio.to_thread(cabinet.build, name, obs_size)
            )
        try:
            return await asyncio.shield(
                self.tasks[name, obs_size]
            )  # who asked may leave; others may wait for it
        except asyncio.CancelledError:
            raise
        except Exception:
            self.tasks.pop((name, obs_size), None)  # so that the next one who asks tries again
            raise


def png(picture):
    """A picture, uint8[height, width, 3], as the bytes of a PNG, which loses nothing."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    return file.getvalue()


def gif(frames, rate):
    """Frames as the bytes of a GIF. rate: frames a second."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "episode.gif"
        record.write_gif(path, frames, frames_per_second=rate)
        return path.read_bytes()


# --- the server ----------------------------------------------------------------------------------

OPTIONS, CABINETS = web.AppKey("options", object), web.AppKey("cabinets", Cabinets)
CONNECTIONS = web.AppKey("connections", weakref.WeakSet)


def application(options):
    """The server without its port: an aiohttp Application. options: what ``popgym-arcade-play``'s
    parser makes."""
    app = web.Application()
    app[OPTIONS], app[CABINETS], app[CONNECTIONS] = options, Cabinets(), weakref.WeakSet()
    app.add_routes(
        [web.get("/", serve_page), web.get("/games", serve_games), web.get("/play", serve_player)]
    )
    app.on_response_prepare.append(add_headers)
    app.on_shutdown.append(close_connections)
    return app


async def add_headers(request, response):
    """Add HEADERS to a response."""
    response.headers.update(HEADERS)


async def close_connections(app):
    """Tell all pages that the server ends."""
    await asyncio.gather(
        *(connection.close(code=WSCloseCode.GOING_AWAY) for connection in set(app[CONNECTIONS]))
    )


async def serve_page(request):
    """GET /: the page."""
    return web.Response(text=PAGE.read_text(encoding="utf-8"), content_type="text/html")


async def serve_games(request):
    """GET /games: all that the page's menu shows, as JSON."""
    options = request.app[OPTIONS]
    start = {
        "name": options.name,
        "partial_obs": options.partial,
        "both": options.both,
        "obs_size": options.obs_size,
        "seed": options.seed,
        "fps": options.fps,
    }
    limits = {"sizes": OBS_SIZES, "max_seed": MAX_SEED, "max_fps": MAX_FPS}
    return web.json_response({"games": games(), "start": start, "font": glyphs(), **limits})


@functools.cache
def games():
    """What the menu says of each game, and its rules: a list of dicts for JSON. "fps" is steps a
    second, 0 to step on a key."""
    described = []
    for game, (_, levels) in GAMES.items():
        text = rules.rules(game + next(iter(levels)))
        aim = " ".join(text[0][1][0].split())
        sections = [
            {
                "heading": heading,
                "parts": [
                    part for paragraph in paragraphs for part in rules.paragraph_parts(paragraph)
                ],
            }
            for heading, paragraphs in text
        ]
        described.append(
            {
                "name": game,
                "levels": list(levels),
                "aim": aim,
                "fps": CLOCKS.get(game, 0),
                "rules": sections,
            }
        )
    return described


@functools.cache
def glyphs():
    """The frames' own letters, for the page's titles: a dict of str to rows like ".###."."""
    return {
        character: ["".join(".#"[int(ink)] for ink in row) for row in rows]
        for character, rows in FONT.items()
    }


async def serve_player(request):
    """GET /play: a player's WebSocket. A page from elsewhere gets 403."""
    if not from_this_server(request):
        raise web.HTTPForbidden(
            text=f"a page of {request.headers['Origin']} may not play here; open http://{request.host}/"
        )
    # Frames are compressed already.
    connection = web.WebSocketResponse(
        max_msg_size=MAX_REQUEST, heartbeat=HEARTBEAT, timeout=SECONDS_TO_CLOSE, compress=False
    )
    await connection.prepare(request)
    request.app[CONNECTIONS].add(connection)
    await Player(request.app[CABINETS], connection).play()
    return connection


def from_this_server(request):
    """Whether a request comes from this server's page, or from no page at all.

    Browsers let any page open a WebSocket to any server, so the server has to look.
    """
    origin = request.headers.get("Origin")
    try:
        return (
            origin is None or urllib.parse.urlsplit(origin).netloc.lower() == request.host.lower()
        )
    except ValueError:
        return False


def run(options):
    """Serve until Ctrl-C. options: what ``popgym-arcade-play``'s parser makes. Exits with 1 if the
    address cannot be had."""
    door = listen(options.host, options.port)
    app = application(options)

    async def tell_address(app):
        print(greeting(options.host, door.getsockname()[1]), flush=True)

    app.on_startup.append(tell_address)  # from then on Ctrl-C ends it in peace
    web.run_app(app, sock=door, print=None, access_log=None, shutdown_timeout=SECONDS_TO_CLOSE)


def listen(host, port):
    """A socket that listens on the address. Exits with 1, saying what is wrong, if there is no such
    address or it is taken."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family)
    except (socket.gaierror, UnicodeError) as error:
        sys.exit(f"there is no host {host!r} to listen on: {error}")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            sys.exit(f"port {port} is in use on {host}; --port 0 picks a free one")
        if error.errno in (errno.EACCES, errno.EPERM):
            sys.exit(f"port {port} is for the system's own services; --port 0 picks a free one")
        if error.errno == errno.EADDRNOTAVAIL:
            sys.exit(
                f"{host} is no address of this machine; 127.0.0.1 is this machine only, 0.0.0.0 all its addresses"
            )
        sys.exit(f"cannot listen on {host}, port {port}: {error}")


def greeting(host, port):
    """What is printed when the server runs: where to open it. host: as it was given. port: the real
    one."""
    machine = socket.gethostname()
    if host in ("0.0.0.0", "::"):
        return f"Open http://localhost:{port}/ here, or http://{machine}:{port}/ on another machine. Ctrl-C ends it."
    lines = [
        f"Open http://{f'[{host}]' if ':' in host else host}:{port}/ in a browser. Ctrl-C ends it."
    ]
    if host in ("localhost", "::1") or host.startswith("127."):
        target = f"[{host}]" if ":" in host else host
        lines += [
            "Only this machine can reach it. To play from another one, run there",
            f"    ssh -L {port}:{target}:{port} {machine}",
            f"and open http://127.0.0.1:{port}/ there.",
        ]
    return "\n".join(lines)
