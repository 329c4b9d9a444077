"""The games in a browser: ``popgym-arcade-play --web`` serves the page web.html.

It is built on aiohttp, a single package that serves HTTP and WebSockets on one port and needs no
ASGI server.

A page talks to the server over one WebSocket, ``/play``, in JSON texts such as {"do": "press",
"action": 4, "repeated": false}; REQUESTS lists them. The server answers with texts, each a dict
with one of these keys:

* "status": what the page shows outside the frame. The frame follows as a binary message, a PNG with
  the observation's exact values.
* "compiling": the name of the environment that is being compiled.
* "gif": a file name. The file, an animation of the episode, follows as a binary message.
* "error": what is wrong with a request, which then has no effect.

The rules and the clock of a game run here; the page only shows frames and reports keys.
"""

import argparse
import asyncio
import collections
import copy
import errno
import functools
import io
import ipaddress
import json
import logging
import random
import re
import socket
import sys
import tempfile
import time
import urllib.parse
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import WSCloseCode, WSMsgType, web
from aiohttp.typedefs import Handler
from PIL import Image

from popgym_arcade import spaces
from popgym_arcade.play import cabinet, record, rules
from popgym_arcade.play.session import CLOCKS, MAX_FPS, OBS_SIZE, Session
from popgym_arcade.registry import GAMES, NUM_ACTIONS, registered_name
from popgym_arcade.render import FONT, OBS_SIZES

__all__ = [
    "CABINETS",
    "MAX_REQUEST",
    "MAX_WAITING",
    "PAGE",
    "REQUESTS",
    "Cabinets",
    "PageConnection",
    "application",
    "close_connections",
    "gif",
    "greeting",
    "listen",
    "own_hosts",
    "png",
    "run",
]

PAGE: Path = Path(__file__).with_name("web.html")
MAX_REQUEST: int = 4096  # bytes of a request; a longer one ends the connection
MAX_WAITING: int = 64  # messages that a page has not read, besides frames; more end the connection
_SECONDS_TO_CLOSE = 2  # how long the server waits for pages to close when it stops
_HEARTBEAT = 20  # seconds between checks that a page is still connected

# The page is a single file, so it needs nothing but its own WebSocket.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; connect-src 'self'; img-src 'self' blob: data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

_log = logging.getLogger(__name__)


# --- requests ------------------------------------------------------------------------------------

# Checks take a field's name and value, and return the value or raise ValueError.
_Check = Callable[[str, Any], Any]


def _check_flag(field: str, value: Any) -> bool:
    """Check a bool."""
    if not isinstance(value, bool):
        raise ValueError(f"{field} must be true or false, but it is {json.dumps(value)}")
    return value


def _integer(field: str, value: Any) -> int:
    """Check an integer. JSON's true and 1.0 are none."""
    if type(value) is not int:
        raise ValueError(f"{field} must be an integer, but it is {json.dumps(value)}")
    return value


def _check_size(field: str, value: Any) -> int:
    """Check one of OBS_SIZES."""
    spaces.check_choice(field, _integer(field, value), OBS_SIZES)
    return value


def _check_environment(field: str, value: Any) -> str:
    """Check an environment's name, in upper or lower case; returns the registered one."""
    if not isinstance(value, str):
        raise ValueError(f"{field} must be the name of an environment, not {json.dumps(value)}")
    return registered_name(value)


def _check_seed(field: str, value: Any) -> int | None:
    """Check a seed, or None for a random one."""
    if value is not None:
        spaces.check_range(field, _integer(field, value), 0, spaces.MAX_SEED, " or null")
    return value


def _check_fps(field: str, value: Any) -> float | None:
    """Check steps per second: 0 to step when a key is pressed, None for the game's own."""
    if value is None:
        return None
    if type(value) not in (int, float):
        raise ValueError(f"{field} must be a number or null, but it is {json.dumps(value)}")
    spaces.check_range(field, value, 0, MAX_FPS, " or null")
    return value


def _check_action(field: str, value: Any) -> int:
    """Check one of the five actions."""
    spaces.check_range(field, _integer(field, value), 0, NUM_ACTIONS - 1)
    return value


_REQUIRED = object()  # marks a field without a default

REQUESTS: dict[str, dict[str, tuple[_Check, Any]]] = {
    "open": {
        "name": (_check_environment, _REQUIRED),
        "partial_obs": (_check_flag, False),
        "both": (_check_flag, False),
        "obs_size": (_check_size, OBS_SIZE),
        "seed": (_check_seed, None),
        "fps": (_check_fps, None),
    },
    "press": {"action": (_check_action, _REQUIRED), "repeated": (_check_flag, False)},
    "release": {"action": (_check_action, _REQUIRED)},
    "restart": {},
    "swap": {},
    "pause": {},
    "leave": {},
    "gif": {},
}
"""A page's requests, to their fields, each with its check and its default. Every request is a
method of PageConnection."""


def _parsed(text: Any) -> tuple[str, dict[str, Any]]:
    """A request's name and checked fields. Raises ValueError, saying what is wrong."""
    try:
        request = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a request must be JSON, but this is not: {error}") from error
    if not isinstance(request, dict):
        raise ValueError('a request must be an object such as {"do": "restart"}')
    do = request.pop("do", None)
    spaces.check_name("request", do if isinstance(do, str) else json.dumps(do), REQUESTS)
    unknown = set(request) - set(REQUESTS[do])
    if unknown:
        raise ValueError(
            f"{do} has no field {min(unknown)!r}; it has: {', '.join(REQUESTS[do]) or 'none'}"
        )
    return do, {field: _checked_field(request, do, field) for field in REQUESTS[do]}


def _checked_field(request: dict[str, Any], do: str, field: str) -> Any:
    """A field's value, or its default. Raises ValueError if it is wrong or missing."""
    check, default = REQUESTS[do][field]
    value = request.get(field, default)
    if value is _REQUIRED:
        raise ValueError(f"{do} needs the field {field!r}")
    return value if value is default else check(field, value)


# --- players -------------------------------------------------------------------------------------


class PageConnection:
    """A page's connection: its session, and what is still to be sent to it."""

    def __init__(
        self, cabinets: "Cabinets", wire: web.WebSocketResponse, abort: Callable[[], None]
    ) -> None:
        """Begin in the menu.

        wire: a prepared WebSocketResponse. abort: ends it without sending what waits to be sent.
        """
        self._cabinets, self._wire, self._abort = cabinets, wire, abort
        self._session: Session | None = None
        self._opening: asyncio.Task[None] | None = None  # waits for a cabinet
        self._making: asyncio.Task[None] | None = None  # makes a GIF
        self._shown: dict[str, Any] | None = None  # the last status sent
        self._outbox: collections.deque[str | bytes] = collections.deque()  # before the next frame
        self._news = asyncio.Event()  # there may be something to send, or a clock may have started

    async def serve(self) -> None:
        """Handle the page's requests until it disconnects, or does not read the answers."""
        sender = asyncio.create_task(self._keep_up())
        try:
            async for message in self._wire:
                if message.type is WSMsgType.ERROR:  # e.g. too long a request; aiohttp has hung up
                    break
                self._receive(message.data)
                await asyncio.sleep(0)  # so that answers are sent between requests
                if len(self._outbox) > MAX_WAITING:
                    await self._hang_up()
                    break
        finally:
            self.leave()
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _hang_up(self) -> None:
        """End the connection of a page that sends requests and does not read the answers."""
        reason = b"too many answers were not read"
        try:
            closing = self._wire.close(code=WSCloseCode.POLICY_VIOLATION, message=reason)
            await asyncio.wait_for(closing, _SECONDS_TO_CLOSE)
        except asyncio.TimeoutError:  # there is no room for the reason, either
            pass
        self._abort()

    def _receive(self, text: Any) -> None:
        """Handle a request, or say what is wrong with it."""
        try:
            do, fields = _parsed(text)
            getattr(self, do)(**fields)
        except ValueError as error:
            self._tell(error=str(error))
        self._news.set()

    def _tell(self, **message: Any) -> None:
        """Send a dict before the next frame."""
        self._outbox.append(json.dumps(message))
        self._news.set()

    async def _keep_up(self) -> None:
        """Run the clock and send what is new.

        A slow reader gets fewer frames or a slower clock, not a longer queue.
        """
        try:
            while True:
                await self._wait()
                if self._session is not None:
                    self._session.tick(time.monotonic())
                await self._send_outbox()
                await self._send_frame()
        except ConnectionError:
            pass  # the page is gone, and serve() will notice
        except Exception:
            _log.exception("a game crashed")
            await self._wire.close(code=WSCloseCode.INTERNAL_ERROR)

    async def _wait(self) -> None:
        """Sleep until there is news or the clock's next step is due."""
        due, alarm = None if self._session is None else self._session.due, None
        if due is not None:  # not asyncio.wait_for, which may swallow a cancellation before 3.12
            delay = max(0, due - time.monotonic())
            alarm = asyncio.get_running_loop().call_later(delay, self._news.set)
        await self._news.wait()
        self._news.clear()
        if alarm:
            alarm.cancel()

    async def _send_outbox(self) -> None:
        """Send all waiting messages."""
        while self._outbox:
            message = self._outbox.popleft()
            if isinstance(message, str):
                await self._wire.send_str(message)
            else:
                await self._wire.send_bytes(message)

    async def _send_frame(self) -> None:
        """Send status and frame unless the page has them.

        A new frame always comes with a new status: a new step, view or episode.
        """
        session = self._session
        if session is None or (status := _status(session)) == self._shown:
            return
        # Both are taken before the first await, during which keys may come.
        self._shown, picture = status, session.picture()
        await self._wire.send_str(json.dumps({"status": status}))
        await self._wire.send_bytes(png(picture))

    @property
    def _game(self) -> Session:
        """The session. Raises ValueError in the menu."""
        if self._session is None:
            raise ValueError("no game is open; open one first")
        return self._session

    # The requests.

    def open(self, name: str, obs_size: int, seed: int | None, **options: Any) -> None:
        """Begin a session, in place of the current one, once its environment is compiled."""
        self.leave()
        self._opening = asyncio.create_task(self._begin(name, obs_size, seed, options))

    async def _begin(
        self, name: str, obs_size: int, seed: int | None, options: dict[str, Any]
    ) -> None:
        """Begin a session."""
        if not self._cabinets.ready(name, obs_size):
            self._tell(compiling=name)
        try:
            machine = await self._cabinets.get(name, obs_size)
        except Exception as error:
            _log.exception("could not compile %s", name)
            self._tell(error=f"could not compile {name}: {error}")
            return
        seed = random.randrange(spaces.MAX_SEED + 1) if seed is None else seed
        self._session, self._shown = Session(machine, seed=seed, **options), None
        self._news.set()

    def press(self, action: int, repeated: bool) -> None:
        """An action's key goes down."""
        self._game.press(action, time.monotonic(), repeated)

    def release(self, action: int) -> None:
        """An action's key goes up."""
        self._game.release(action)

    def restart(self) -> None:
        """Begin the next episode."""
        self._game.restart()

    def swap(self) -> None:
        """Switch to the twin's view."""
        self._game.swap()

    def pause(self) -> None:
        """Stop the clock until the next key."""
        self._game.pause()

    def leave(self) -> None:
        """Return to the menu."""
        if self._opening is not None:
            self._opening.cancel()
        self._opening = self._session = None

    def gif(self) -> None:
        """Make an animation of the episode so far and send it when it is done."""
        if self._making is not None and not self._making.done():
            raise ValueError("a GIF is already being made")
        if any(isinstance(message, bytes) for message in self._outbox):
            raise ValueError("the last GIF is still being sent")
        session = self._game
        frames = copy.copy(session.pictures)  # because the game goes on meanwhile
        file = f"{session.machine.name}-seed{session.seed}-episode{session.number + 1}.gif"
        self._making = asyncio.create_task(self._make_gif(file, frames, session.recording_rate()))

    async def _make_gif(self, file: str, frames: record.PackedFrames, rate: float) -> None:
        """Make an animation in a thread and send it. rate: frames per second."""
        try:
            data = await asyncio.to_thread(gif, frames, rate)
        except Exception as error:
            _log.exception("could not make a GIF")
            self._tell(error=f"could not make the GIF: {error}")
            return
        self._tell(gif=file)
        self._outbox.append(data)


def _status(session: Session) -> dict[str, Any]:
    """What the page shows outside the frame and what its script needs, for JSON."""
    return {
        **session.status(),
        "name": session.machine.name,
        "partial_obs": session.partial_obs,
        "both": session.both,
        "fps": session.fps,
        "done": session.episode.done,
    }


class Cabinets:
    """The server's compiled environments. All players share them; a cabinet holds no state."""

    def __init__(self) -> None:
        """Begin without any."""
        self._tasks: dict[tuple[str, int], asyncio.Task[cabinet.Cabinet]] = {}

    def ready(self, name: str, obs_size: int) -> bool:
        """Whether an environment is compiled."""
        task = self._tasks.get((name, obs_size))
        return task is not None and task.done()

    async def get(self, name: str, obs_size: int) -> cabinet.Cabinet:
        """A cabinet, compiled once, in a thread so that the other players' clocks go on.

        Raises what the compiler raises.
        """
        key = name, obs_size
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(asyncio.to_thread(cabinet.build, *key))
            self._tasks[key].add_done_callback(functools.partial(self._forget_failure, key))
        task = self._tasks[key]
        await asyncio.wait([task])  # whoever asked may leave while others wait for it
        return task.result()

    def _forget_failure(self, key: tuple[str, int], task: asyncio.Task[cabinet.Cabinet]) -> None:
        """Forget an environment that could not be compiled, so that the next request tries again.

        What went wrong is told to those who wait, if there are any.
        """
        if task.cancelled() or task.exception() is not None:
            self._tasks.pop(key, None)


def png(picture: np.ndarray) -> bytes:
    """A picture, uint8[height, width, 3], as a PNG, which is lossless."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    return file.getvalue()


def gif(frames: Sequence[np.ndarray], rate: float) -> bytes:
    """Frames as a GIF. rate: frames per second."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "episode.gif"
        record.write_gif(path, frames, frames_per_second=rate)
        return path.read_bytes()


# --- the server ----------------------------------------------------------------------------------

_OPTIONS = web.AppKey("_OPTIONS", argparse.Namespace)
_CONNECTIONS = web.AppKey("_CONNECTIONS", weakref.WeakSet)
_HOSTS = web.AppKey("_HOSTS", frozenset)
CABINETS: web.AppKey[Cabinets] = web.AppKey("CABINETS", Cabinets)


def application(options: argparse.Namespace) -> web.Application:
    """The server, without a port. options: parsed by ``popgym-arcade-play``'s parser."""
    app = web.Application(middlewares=[_check_host])
    app[_OPTIONS], app[CABINETS], app[_CONNECTIONS] = options, Cabinets(), weakref.WeakSet()
    app[_HOSTS] = own_hosts(options.host)
    app.add_routes(
        [
            web.get("/", _serve_page),
            web.get("/games", _serve_games),
            web.get("/play", _serve_connection),
        ]
    )
    app.on_response_prepare.append(_add_headers)
    app.on_shutdown.append(close_connections)
    return app


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add _HEADERS to a response."""
    response.headers.update(_HEADERS)


@web.middleware
async def _check_host(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 403 to a request for another host.

    Otherwise any page could play: its owner can let its name point to 127.0.0.1, and the browser
    then takes this server for the page's own (DNS rebinding).
    """
    own, host = request.app[_HOSTS], request.headers.get("Host", "")
    if own and re.sub(r":\d+$", "", host.lower()) not in own:
        raise web.HTTPForbidden(
            text=f"This server is for this machine only and does not answer to the name {host!r}. "
            "Open it as localhost, 127.0.0.1 or [::1], or start it with --host to let others play."
        )
    return await handler(request)


def own_hosts(host: str) -> frozenset[str]:
    """The names that a browser may call the server by, or none if it may be any.

    host: the address to listen on. If that is this machine's own (loopback), only pages of this
    machine have business with it.
    """
    if not _is_loopback(host):
        return frozenset()
    return frozenset({"localhost", "127.0.0.1", "[::1]", _in_url(host.lower())})


def _is_loopback(host: str) -> bool:
    """Whether an address to listen on cannot be reached from other machines."""
    _, address = _resolved(host, 0)
    return ipaddress.ip_address(address[0]).is_loopback


async def close_connections(app: web.Application) -> None:
    """Tell all pages that the server stops."""
    await asyncio.gather(
        *(wire.close(code=WSCloseCode.GOING_AWAY) for wire in set(app[_CONNECTIONS]))
    )


async def _serve_page(request: web.Request) -> web.Response:
    """GET /: the page."""
    return web.Response(text=PAGE.read_text(encoding="utf-8"), content_type="text/html")


async def _serve_games(request: web.Request) -> web.Response:
    """GET /games: what the page's menu shows, as JSON."""
    options = request.app[_OPTIONS]
    start = {
        "name": options.name,
        "partial_obs": options.partial,
        "both": options.both,
        "obs_size": options.obs_size,
        "seed": options.seed,
        "fps": options.fps,
    }
    limits = {
        "sizes": OBS_SIZES,
        "default_size": OBS_SIZE,
        "max_seed": spaces.MAX_SEED,
        "max_fps": MAX_FPS,
    }
    return web.json_response({"games": _games(), "start": start, "font": _glyphs(), **limits})


@functools.cache
def _games() -> list[dict[str, Any]]:
    """What the menu says of each game, and its rules, for JSON.

    "levels" are the levels' rules. "fps" is steps per second, 0 to step when a key is pressed.
    """
    described = []
    for game, (_, levels) in GAMES.items():
        aim, *more = (" ".join(paragraph.split()) for paragraph in rules.introduction(game))
        described.append(
            {
                "name": game,
                "levels": {level: _rules(game + level) for level in levels},
                "aim": aim,
                "more": " ".join(more),
                "fps": CLOCKS.get(game, 0),
            }
        )
    return described


def _rules(name: str) -> list[dict[str, Any]]:
    """An environment's rules, for JSON."""
    return [section._asdict() for section in rules.player_rules(name)]


@functools.cache
def _glyphs() -> dict[str, list[str]]:
    """The frames' own letters, for the page's titles: rows such as ".###."."""
    return {
        character: ["".join(".#"[int(ink)] for ink in row) for row in rows]
        for character, rows in FONT.items()
    }


async def _serve_connection(request: web.Request) -> web.StreamResponse:
    """GET /play: a page's WebSocket. A page of another server gets 403."""
    if not _from_this_server(request):
        raise web.HTTPForbidden(
            text=f"a page of {request.headers['Origin']} may not play here; "
            f"open http://{request.host}/"
        )
    # Frames are already compressed.
    wire = web.WebSocketResponse(
        max_msg_size=MAX_REQUEST, heartbeat=_HEARTBEAT, timeout=_SECONDS_TO_CLOSE, compress=False
    )
    try:
        await wire.prepare(request)
    except ConnectionError:  # the page is gone already, e.g. because it is reloaded
        return web.Response()
    request.app[_CONNECTIONS].add(wire)
    await PageConnection(request.app[CABINETS], wire, functools.partial(_abort, request)).serve()
    return wire


def _abort(request: web.Request) -> None:
    """End a request's connection at once."""
    if isinstance(request.transport, asyncio.WriteTransport):
        request.transport.abort()


def _from_this_server(request: web.Request) -> bool:
    """Whether a request comes from this server's page, or from no page at all.

    Browsers let any page open a WebSocket to any server, so the server has to check.
    """
    origin = request.headers.get("Origin")
    if origin is None:
        return True
    try:
        return urllib.parse.urlsplit(origin).netloc.lower() == request.host.lower()
    except ValueError:
        return False


def run(options: argparse.Namespace) -> None:
    """Serve until Ctrl-C. Exits with 1 if it cannot listen on the address.

    options: parsed by ``popgym-arcade-play``'s parser.
    """
    door = listen(options.host, options.port)
    app = application(options)

    async def print_greeting(app):
        print(greeting(options.host, door.getsockname()[1]), flush=True)

    app.on_startup.append(print_greeting)  # from then on Ctrl-C stops it cleanly
    web.run_app(app, sock=door, print=None, access_log=None, shutdown_timeout=_SECONDS_TO_CLOSE)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on the address.

    Exits with 1, saying what is wrong, if the address does not exist or is taken.
    """
    try:
        family, address = _resolved(host, port)
        return socket.create_server(address, family=family)
    except (socket.gaierror, UnicodeError) as error:
        sys.exit(f"there is no host {host!r} to listen on: {error}")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            sys.exit(f"port {port} is in use on {host}; --port 0 picks a free one")
        if error.errno in (errno.EACCES, errno.EPERM):
            sys.exit(f"port {port} is reserved for the system; --port 0 picks a free one")
        if error.errno == errno.EADDRNOTAVAIL:
            sys.exit(
                f"{host} is not an address of this machine; use 127.0.0.1 for this machine only, "
                "or 0.0.0.0 for all its addresses"
            )
        sys.exit(f"cannot listen on {host}, port {port}: {error}")


def _resolved(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """The family and the address to listen on. Raises OSError or UnicodeError if there is none."""
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    return family, (str(address[0]), int(address[1]))


def _in_url(host: str) -> str:
    """A host as it stands in a URL: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def greeting(host: str, port: int) -> str:
    """What is printed when the server runs: the address to open, and who else can open it.

    host: as it was given. port: the actual one.
    """
    machine, target = socket.gethostname(), _in_url(host)
    if host in ("0.0.0.0", "::"):
        lines = [
            f"Open http://localhost:{port}/ here, or http://{machine}:{port}/ on another machine. "
            "Ctrl-C stops the server."
        ]
    else:
        lines = [f"Open http://{target}:{port}/ in a browser. Ctrl-C stops the server."]
    if _is_loopback(host):
        lines += [
            "Only this machine can reach it. To play from another machine, run there",
            f"    ssh -L {port}:{target}:{port} {machine}",
            f"and open http://127.0.0.1:{port}/ there.",
        ]
    else:
        lines += [
            "Warning: everyone who can reach this address can play and see the games. There is no "
            "password.",
            "Without --host, only this machine can reach it.",
        ]
    return "\n".join(lines)
