"""Tests of the web page: its server over a WebSocket, the command, and the page in Chromium."""

import asyncio
import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageSequence

from popgym_arcade import GAMES
from popgym_arcade.play import __main__ as play
from popgym_arcade.play import cabinet, rules
from popgym_arcade.play.session import CLOCKS, OBS_SIZE, Session
from popgym_arcade.registry import NO_ACTION
from popgym_arcade.spaces import MAX_SEED
from tests.testing import program

aiohttp = pytest.importorskip("aiohttp", reason="the web page needs the extra 'human'")

from aiohttp.web import AppRunner, TCPSite  # noqa: E402, because it needs aiohttp

from popgym_arcade.play import web  # noqa: E402, for the same reason

UP, DOWN, LEFT, RIGHT, FIRE = range(5)
KEYS = {"ArrowUp": UP, "ArrowDown": DOWN, "ArrowLeft": LEFT, "ArrowRight": RIGHT, "Space": FIRE}
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_OPTIONS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PATIENCE = 120  # seconds until a test gives up; on a busy machine compiling takes long
A_WHILE = 0.4  # seconds in which nothing must happen


# --- a server and its clients --------------------------------------------------------------------


class Server:
    """A server in a thread of its own."""

    def __init__(self, *arguments):
        """Start it. arguments: of the command line."""
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.app = web.application(play.parser().parse_args(["--web", *arguments]))
        self.cabinets = self.app[web.CABINETS]
        self.port = self.wait_for(self.start())

    async def start(self):
        """Open a free port: its number."""
        self.runner = AppRunner(self.app)
        await self.runner.setup()
        site = TCPSite(self.runner, play.HOST, 0)
        await site.start()
        return self.runner.addresses[0][1]

    def wait_for(self, coroutine):
        """What a coroutine of the server's loop returns."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE)

    def stop(self):
        """End it."""
        self.wait_for(self.runner.cleanup())
        self.loop.call_soon_threadsafe(self.loop.stop)

    @property
    def address(self):
        """Of the page."""
        return f"http://{play.HOST}:{self.port}/"

    def get(self, path="", **headers):
        """What the server answers to GET: (status, headers, text)."""

        async def request():
            async with (
                aiohttp.ClientSession() as client,
                client.get(self.address + path, headers=headers) as response,
            ):
                return response.status, response.headers, await response.text()

        return self.wait_for(request())

    def session(self, name, seed=1, **options):
        """A session of our own, on the cabinet that the server plays on too."""
        return Session(
            self.wait_for(self.cabinets.get(name, options.pop("obs_size", OBS_SIZE))),
            seed=seed,
            **options,
        )


class Wire:
    """A connection to a server, as the page has one."""

    def __init__(self, server, **headers):
        """Connect."""
        self.server, self.client = server, None
        server.wait_for(self.connect(headers))

    async def connect(self, headers):
        """Connect."""
        self.client = aiohttp.ClientSession()
        try:
            self.socket = await self.client.ws_connect(
                self.server.address + "play", headers=headers
            )
        except Exception:
            await self.client.close()
            raise

    def close(self):
        """Hang up."""
        self.server.wait_for(self.socket.close())
        self.server.wait_for(self.client.close())

    def send(self, text):
        """Send a text."""
        self.server.wait_for(self.socket.send_str(text))

    def ask(self, do, **fields):
        """Send a request."""
        self.send(json.dumps({"do": do, **fields}))

    def receive(self, seconds=PATIENCE):
        """The next message, a dict, or None if none comes in time.

        "file" holds the bytes that came with it.
        """
        try:
            message = json.loads(self.server.wait_for(self.socket.receive_str(timeout=seconds)))
        except asyncio.TimeoutError:
            return None
        if "status" in message or "gif" in message:
            message["file"] = self.server.wait_for(self.socket.receive_bytes(timeout=PATIENCE))
        return message

    def frame(self):
        """The next status, a dict, and its frame, uint8[height, width, 3]."""
        message = self.receive()
        while "compiling" in message:
            message = self.receive()
        assert "status" in message, message
        image = Image.open(io.BytesIO(message["file"]))
        assert (image.format, image.mode) == ("PNG", "RGB")
        return message["status"], np.asarray(image)

    def open(self, name, **options):
        """Open a game: its first status and frame."""
        self.ask("open", name=name, **options)
        return self.frame()


@pytest.fixture(scope="module")
def server():
    """One server for all tests, so that each environment is compiled once."""
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def connect(server):
    """A function that makes a Wire."""
    wires = []

    def connect(**headers):
        wires.append(Wire(server, **headers))
        return wires[-1]

    yield connect
    for wire in wires:
        wire.close()


def play_both(wire, session, actions):
    """Press keys over a wire and in a session of our own, and compare every frame and status."""
    for action in actions:
        wire.ask("press", action=action)
        session.press(action, 0)
        assert_shows(wire.frame(), session)


def assert_shows(status_and_frame, session):
    """What came over a wire is what a session shows."""
    status, frame = status_and_frame
    assert {field: status[field] for field in session.status()} == session.status()
    assert status["done"] == session.episode.done
    np.testing.assert_array_equal(frame, session.picture())


# --- the pages -----------------------------------------------------------------------------------


def test_the_menu_lists_all_games_with_their_rules(server):
    status, _, text = server.get("games")
    listed = json.loads(text)
    assert status == 200
    assert [(game["name"], list(game["levels"])) for game in listed["games"]] == [
        (name, list(GAMES[name][1])) for name in GAMES
    ]
    for game in listed["games"]:
        for level, shown in game["levels"].items():
            assert shown == [
                {"heading": heading, "parts": [list(part) for part in parts]}
                for heading, parts in rules.player_rules(game["name"] + level)
            ]
        aim, *more = rules.introduction(game["name"])
        assert (game["aim"], game["more"]) == (aim, " ".join(" ".join(more).split()))
        assert game["fps"] == CLOCKS.get(game["name"], 0)
    assert (listed["sizes"], listed["default_size"]) == ([128, 256], 256)


def test_the_games_name_what_the_command_line_asks_for():
    options = play.parser().parse_args(
        ["--web", "TetrisHard", "--partial", "--seed", "7", "--fps", "3", "--obs-size", "128"]
    )

    async def answer():
        request = SimpleNamespace(app=web.application(options))
        return json.loads((await web._serve_games(request)).text)["start"]

    expected = {
        "name": "TetrisHard",
        "partial_obs": True,
        "both": False,
        "obs_size": 128,
        "seed": 7,
        "fps": 3.0,
    }
    assert asyncio.run(answer()) == expected


def test_the_page_comes_with_headers_that_keep_it_to_itself(server):
    status, headers, text = server.get()
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert text == web.PAGE.read_text(encoding="utf-8")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "connect-src 'self'" in headers["Content-Security-Policy"]
    assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")


def test_the_page_needs_nothing_from_elsewhere():
    text = web.PAGE.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(r"https?:|wss?:|@import|<script src|<link rel=.stylesheet", text)
    assert not re.findall(r"(?:(?:src|href)\s*=|url\()\s*[\"']?//", text)


@pytest.mark.parametrize("path", ["web.py", "web.html", "../setup.cfg", "games/", "static/x"])
def test_no_other_file_is_served(server, path):
    assert server.get(path)[0] == 404


@pytest.mark.parametrize("origin", ["http://example.com", "http://127.0.0.1:1", "null", "http://["])
def test_a_page_from_elsewhere_is_refused(server, connect, origin):
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        connect(Origin=origin)
    assert refusal.value.status == 403


def test_the_servers_own_page_is_let_in(server, connect):
    wire = connect(Origin=server.address.rstrip("/"))
    assert wire.open("NavigatorEasy")[0]["name"] == "NavigatorEasy"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1.nip.io", "x@localhost", ""]
)
@pytest.mark.parametrize("path", ["", "games", "play"])
def test_a_name_that_was_pointed_to_this_machine_is_refused(server, path, host):
    host = host.format(port=server.port)  # a page of that name has the same origin
    status, headers, text = server.get(path, Host=host, Origin=f"http://{host}")
    assert status == 403 and "Content-Security-Policy" in headers
    assert f"does not answer to the name {host!r}. Open it as localhost, 127.0.0.1" in text


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1", "[::1]", "[::1]:{port}"]
)
def test_the_names_of_this_machine_are_answered_with_any_port(server, connect, host):
    host = host.format(port=server.port)  # a tunnel may have another
    assert server.get(Host=host)[0] == 200
    wire = connect(Host=host, Origin=f"http://{host}")
    assert wire.open("NavigatorEasy")[0]["name"] == "NavigatorEasy"


def test_an_address_that_others_can_reach_answers_to_any_name():
    assert web.own_hosts("0.0.0.0") == web.own_hosts("::") == web.own_hosts("192.0.2.1") == set()
    assert "[::1]" in web.own_hosts("::1") and "127.0.0.5" in web.own_hosts("127.0.0.5")


# --- requests ------------------------------------------------------------------------------------


def test_an_unknown_game_gets_the_nearest_names(connect):
    wire = connect()
    wire.ask("open", name="Navigatr")
    assert re.search("no environment 'Navigatr'.*NavigatorEasy", wire.receive()["error"])


BAD_REQUESTS = {
    "{": "must be JSON",
    "[" * 4000: "must be JSON",
    "": "must be JSON",
    '"open"': "must be an object",
    "{}": "no request 'null'",
    '{"do": "presss"}': "the nearest are: press",
    '{"do": ["press"]}': "no request '[\"press\"]'",
    '{"do": "press"}': "press needs the field 'action'",
    '{"do": "press", "action": 5}': "action must be in [0, 4], but it is 5; the nearest is 4",
    '{"do": "press", "action": -1}': "action must be in [0, 4], but it is -1; the nearest is 0",
    '{"do": "press", "action": true}': "action must be an integer, but it is true",
    '{"do": "press", "action": 1.0}': "action must be an integer, but it is 1.0",
    '{"do": "press", "action": 1, "repeated": 0}': "repeated must be true or false, but it is 0",
    '{"do": "press", "action": 1, "now": 0}': "press has no field 'now'; it has: action, repeated",
    '{"do": "restart", "seed": 1}': "restart has no field 'seed'; it has: none",
    '{"do": "open"}': "open needs the field 'name'",
    '{"do": "open", "name": 3}': "name must be the name of an environment, not 3",
    '{"do": "open", "name": "TetrisEasy", "obs_size": 100}': (
        "obs_size must be one of 128, 256, but it is 100; the nearest is 128"
    ),
    '{"do": "open", "name": "TetrisEasy", "seed": -1}': (
        "seed must be in [0, 2147483647] or null, but it is -1; the nearest is 0"
    ),
    '{"do": "open", "name": "TetrisEasy", "seed": "1"}': 'seed must be an integer, but it is "1"',
    '{"do": "open", "name": "TetrisEasy", "fps": 61}': (
        "fps must be in [0, 60] or null, but it is 61; the nearest is 60"
    ),
    '{"do": "open", "name": "TetrisEasy", "fps": "4"}': "fps must be a number or null, but it is",
    '{"do": "open", "name": "TetrisEasy", "fps": NaN}': "fps must be in [0, 60] or null, but",
}


def test_a_bad_request_gets_an_error_and_the_game_goes_on(server, connect):
    wire, session = connect(), server.session("NavigatorEasy", seed=5)
    assert_shows(wire.open("NavigatorEasy", seed=5), session)
    for text, error in BAD_REQUESTS.items():
        wire.send(text)
        assert error in wire.receive()["error"], text
        play_both(wire, session, [UP if session.episode.time % 2 else LEFT])
    assert session.episode.time == len(BAD_REQUESTS)


def test_a_binary_request_gets_an_error(server, connect):
    wire = connect()
    server.wait_for(wire.socket.send_bytes(b"\xff\x00"))
    assert "must be JSON" in wire.receive()["error"]


def test_a_key_without_a_game_gets_an_error(connect):
    wire = connect()
    wire.ask("press", action=0)
    assert wire.receive() == {"error": "no game is open; open one first"}


def test_a_request_that_is_too_long_ends_the_connection_and_nothing_else(server, connect, caplog):
    wire = connect()
    wire.send("x" * (web.MAX_REQUEST + 1))
    message = server.wait_for(wire.socket.receive(timeout=PATIENCE))
    assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
    # The reason may be lost, because the rest of the request is not read.
    assert wire.socket.close_code in (
        aiohttp.WSCloseCode.MESSAGE_TOO_BIG,
        aiohttp.WSCloseCode.ABNORMAL_CLOSURE,
    )
    assert connect().open("NavigatorEasy")[0]["step"] == "0 of 64"
    assert caplog.records == []


class DeafWire:
    """A connection that never reads what the server sends, which has little room on its way."""

    def __init__(self, server):
        """Connect."""
        self.server = server
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(PATIENCE)
        self.socket.connect((play.HOST, server.port))
        lines = (
            "GET /play HTTP/1.1",
            "Host: localhost",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}",
        )
        self.socket.sendall("".join(line + "\r\n" for line in (*lines, "")).encode())

    def ask(self, do, **fields):
        """Send a request as a WebSocket's text, masked with zeros."""
        text = json.dumps({"do": do, **fields}).encode()
        self.socket.sendall(b"\x81\xfe" + len(text).to_bytes(2, "big") + bytes(4) + text)


@pytest.fixture
def deaf_wire(server):
    """A DeafWire."""
    wire = DeafWire(server)
    yield wire
    wire.socket.close()


def test_a_page_that_asks_on_and_on_and_reads_nothing_is_cut_off(deaf_wire, monkeypatch, caplog):
    waiting, tell = [], web.PageConnection._tell

    def count(self, **message):
        tell(self, **message)
        waiting.append(len(self._outbox))

    monkeypatch.setattr(web.PageConnection, "_tell", count)
    with pytest.raises(ConnectionError):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            deaf_wire.ask("restart", **{"x" * 4000: 1})  # the answer repeats this
    assert max(waiting) == web.MAX_WAITING + 1
    assert caplog.records == []


def test_a_page_that_reads_gets_every_answer(connect):
    wire, count = connect(), 3 * web.MAX_WAITING
    for _ in range(count):
        wire.ask("restart")
    answers = [wire.receive() for _ in range(count)]
    assert answers == [{"error": "no game is open; open one first"}] * count


def test_frames_that_a_page_does_not_read_are_not_drawn(server, deaf_wire, monkeypatch):
    drawn, png = [], web.png
    monkeypatch.setattr(web, "png", lambda picture: drawn.append(picture) or png(picture))
    server.session("NavigatorEasy")  # compiled
    deaf_wire.ask("open", name="NavigatorEasy")
    for _ in range(1000):
        deaf_wire.ask("swap")
        time.sleep(0.001)
    assert 0 < len(drawn) < 500, len(drawn)
    (wire,) = (wire for wire in server.app[web._CONNECTIONS] if not wire.closed)
    assert wire._req.transport.get_write_buffer_size() < 200_000


# --- playing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"partial_obs": True}, {"both": True}], ids=["MDP", "POMDP", "both"]
)
def test_every_frame_is_the_environments(server, connect, options):
    wire, session = connect(), server.session("NavigatorEasy", seed=3, **options)
    assert_shows(wire.open("navigatoreasy", seed=3, **options), session)
    play_both(wire, session, [RIGHT, DOWN, RIGHT, UP, LEFT, FIRE])
    wire.ask("restart")
    session.restart()
    assert_shows(wire.frame(), session)


def test_swap_shows_the_twin_and_keeps_the_state(server, connect):
    wire, session = connect(), server.session("NavigatorEasy", seed=3)
    wire.open("NavigatorEasy", seed=3)
    play_both(wire, session, [RIGHT, DOWN])
    for partial_obs in (True, False):
        wire.ask("swap")
        status, frame = wire.frame()
        np.testing.assert_array_equal(
            frame, cabinet.observe(session.machine, session.episode, partial_obs)
        )
        assert (status["step"], status["partial_obs"]) == ("2 of 64", partial_obs)


def test_an_episode_ends_and_waits_for_a_restart(server, connect):
    wire, session = connect(), server.session("NavigatorEasy", seed=3)
    wire.open("NavigatorEasy", seed=3)
    while not session.episode.done:
        play_both(wire, session, [LEFT])
    wire.ask("press", action=LEFT)
    assert wire.receive(A_WHILE) is None
    wire.ask("restart")
    session.restart()
    assert_shows(wire.frame(), session)


def test_nothing_is_sent_when_nothing_has_changed(connect):
    wire = connect()
    wire.open("NavigatorEasy")
    wire.ask("release", action=UP)
    wire.ask("pause")
    wire.ask("press", action=FIRE, repeated=True)
    assert wire.receive(A_WHILE) is None


def test_the_seed_is_random_unless_it_is_given(connect):
    wire = connect()
    seeds = {wire.open("NavigatorEasy")[0]["seed"] for _ in range(3)}
    assert len(seeds) == 3
    assert all(0 <= int(seed) <= MAX_SEED for seed in seeds)


def test_nothing_of_a_player_who_hangs_up_stays_behind(server, caplog):
    async def players():
        await asyncio.sleep(0)
        return sum(
            task.get_coro().__qualname__ == "PageConnection._keep_up"
            for task in asyncio.all_tasks()
        )

    before = server.wait_for(players())
    for _ in range(5):
        wire = Wire(server)
        wire.open("SkittlesEasy", fps=60)
        wire.ask("press", action=LEFT)
        wire.ask("gif")
        wire.close()
    for opened in (False, False, True, True):
        wire = DeafWire(server)
        if opened:
            wire.socket.recv(1)  # the server is ready
            wire.ask("open", name="SkittlesEasy")
        # Reset the connection, as a page that is reloaded may.
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, *bytes(7)]))
        wire.socket.close()
    deadline = time.monotonic() + PATIENCE
    while server.wait_for(players()) > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.wait_for(players()) <= before
    assert caplog.records == []


def test_two_players_do_not_mix(server, connect):
    wires = [connect(), connect()]
    sessions = [
        server.session("NavigatorEasy", seed=3),
        server.session("NavigatorEasy", seed=4, partial_obs=True),
    ]
    assert_shows(wires[0].open("NavigatorEasy", seed=3), sessions[0])
    assert_shows(wires[1].open("NavigatorEasy", seed=4, partial_obs=True), sessions[1])
    for actions in ([RIGHT, DOWN], [LEFT, UP], [UP, RIGHT]):
        for wire, session, action in zip(wires, sessions, actions):
            play_both(wire, session, [action])


def test_a_clock_runs_by_itself_from_the_first_key_until_a_pause(connect):
    wire = connect()
    status, _ = wire.open("SkittlesEasy", seed=1, fps=10)
    assert status["message"] == "Press an arrow or space to start"
    assert wire.receive(A_WHILE) is None
    wire.ask("press", action=LEFT)
    assert wire.frame()[0]["step"] == "0 of 100"  # the message is gone
    start = time.monotonic()
    for step in range(1, 9):
        assert wire.frame()[0]["step"] == f"{step} of 100"
    assert 0.7 < time.monotonic() - start < 2.4  # a busy machine may be late, but no clock is early
    wire.ask("pause")
    status, _ = wire.frame()
    while status["message"] != "Paused. Press an arrow or space to resume":
        status, _ = wire.frame()
    assert wire.receive(A_WHILE) is None


def test_a_clock_stops_at_the_end_and_its_frames_are_the_environments(server, connect):
    wire, session = connect(), server.session("SkittlesEasy", seed=1)
    wire.open("SkittlesEasy", seed=1, fps=60)
    wire.ask("press", action=LEFT)
    wire.ask("release", action=LEFT)
    status, frame = wire.frame()
    while not status["done"]:
        status, frame = wire.frame()
        time_now = int(status["step"].split()[0])
        while session.episode.time < time_now:
            session.step(NO_ACTION if session.episode.time else LEFT)
        np.testing.assert_array_equal(frame, session.picture())
    assert session.episode.done
    assert wire.receive(A_WHILE) is None


def test_leaving_stops_the_clock_and_another_game_may_be_opened(connect):
    wire = connect()
    wire.open("SkittlesEasy", fps=20)
    wire.ask("press", action=LEFT)
    wire.ask("leave")
    while wire.receive(A_WHILE) is not None:
        pass
    assert wire.open("NavigatorEasy")[0]["name"] == "NavigatorEasy"


def test_a_gif_holds_the_frames_of_the_episode(server, connect):
    wire, session = connect(), server.session("NavigatorEasy", seed=3)
    wire.open("NavigatorEasy", seed=3)
    play_both(wire, session, [RIGHT, DOWN, RIGHT, UP])
    wire.ask("gif")
    message = wire.receive()
    assert message["gif"] == "NavigatorEasy-seed3-episode1.gif"
    with Image.open(io.BytesIO(message["file"])) as animation:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(animation)]
    different = [
        picture
        for i, picture in enumerate(session.pictures)
        if i == 0 or (picture != session.pictures[i - 1]).any()
    ]
    np.testing.assert_array_equal(np.stack(frames), np.stack(different))


@pytest.mark.parametrize("fps", [0, 0.01, 60])
def test_a_gif_can_be_made_at_any_speed(server, fps):
    session = server.session("NavigatorEasy", fps=fps)
    assert web.gif(session.pictures, session.recording_rate()).startswith(b"GIF89a")


# --- compiling -----------------------------------------------------------------------------------


@pytest.fixture
def slow_compiler(server, monkeypatch):
    """Make compiling take a second and give Navigator: the names that were compiled."""
    machine, compiled = server.session("NavigatorEasy").machine, []

    def build(name, obs_size):
        compiled.append(name)
        time.sleep(1)
        return machine

    monkeypatch.setattr(cabinet, "build", build)
    return compiled


def forget(server, name):
    """Make a server forget that it has compiled an environment."""
    server.cabinets._tasks.pop((name, OBS_SIZE), None)


def test_what_two_ask_for_at_the_same_time_is_compiled_once(server, connect, slow_compiler):
    wires = [connect(), connect()]
    for wire in wires:
        wire.ask("open", name="NavigatorHard")
    assert [wire.receive() for wire in wires] == [{"compiling": "NavigatorHard"}] * 2
    for wire in wires:
        wire.frame()
    forget(server, "NavigatorHard")
    assert slow_compiler == ["NavigatorHard"]


def test_the_clocks_of_others_go_on_while_something_is_compiled(server, connect, slow_compiler):
    player, newcomer = connect(), connect()
    player.open("SkittlesEasy", seed=1, fps=20)
    player.ask("press", action=LEFT)
    newcomer.ask("open", name="NavigatorHard")
    assert newcomer.receive() == {"compiling": "NavigatorHard"}
    for _ in range(5):
        player.frame()
    assert not server.cabinets.ready("NavigatorHard", OBS_SIZE)
    newcomer.frame()
    forget(server, "NavigatorHard")


def test_who_leaves_while_a_game_is_compiled_does_not_get_it(server, connect, slow_compiler):
    wire = connect()
    wire.ask("open", name="NavigatorHard")
    assert wire.receive() == {"compiling": "NavigatorHard"}
    wire.ask("leave")
    assert wire.receive(1.5) is None
    forget(server, "NavigatorHard")


def test_a_failed_compilation_is_told_and_tried_again(server, connect, monkeypatch):
    def fail(name, obs_size):
        raise RuntimeError("no memory")

    wire = connect()
    with monkeypatch.context() as patch:
        patch.setattr(cabinet, "build", fail)
        wire.ask("open", name="NavigatorHard")
        assert wire.receive() == {"compiling": "NavigatorHard"}
        assert wire.receive() == {"error": "could not compile NavigatorHard: no memory"}
    machine = server.session("NavigatorEasy").machine
    monkeypatch.setattr(cabinet, "build", lambda name, obs_size: machine)
    wire.open("NavigatorHard")
    forget(server, "NavigatorHard")


# --- the command ---------------------------------------------------------------------------------


def command(*arguments):
    """Start ``popgym-arcade-play --web``: a Popen."""
    line = [sys.executable, "-m", "popgym_arcade.play", "--web", *arguments]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_tells_its_address_and_a_signal_ends_it_with_0(signal_number):
    with command("--port", "0") as process:
        greeting = process.stdout.readline()
        port = re.fullmatch(
            r"Open http://127\.0\.0\.1:(\d+)/ in a browser\. Ctrl-C stops the server\.\n", greeting
        )[1]
        socket.create_connection((play.HOST, int(port)), timeout=PATIENCE).close()
        process.send_signal(signal_number)
        out, err = process.stdout.read(), process.stderr.read()
    assert f"ssh -L {port}:127.0.0.1:{port} " in out
    assert (process.wait(timeout=PATIENCE), err) == (0, "")


def test_a_signal_ends_the_server_though_a_page_is_open():
    async def stay_connected(port, process):
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(f"http://{play.HOST}:{port}/play") as wire,
        ):
            process.send_signal(signal.SIGINT)
            return (await wire.receive(timeout=PATIENCE)).data

    with command("--port", "0") as process:
        port = re.search(r":(\d+)/", process.stdout.readline())[1]
        assert asyncio.run(stay_connected(port, process)) == aiohttp.WSCloseCode.GOING_AWAY
        assert process.wait(timeout=PATIENCE) == 0


def test_a_port_in_use_exits_with_1_and_says_what_to_do(server):
    with command("--port", str(server.port)) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert err == f"port {server.port} is in use on 127.0.0.1; --port 0 picks a free one\n"
    assert out == ""


@pytest.mark.parametrize(
    "host, message",
    [("no.such.host.invalid", "there is no host"), ("192.0.2.1", "not an address of this machine")],
)
def test_a_host_that_cannot_be_had_exits_with_1(host, message):
    with pytest.raises(SystemExit, match=message) as end:
        web.listen(host, 0)
    assert isinstance(end.value.code, str)  # which sys.exit prints, and exits with 1


def test_the_default_address_is_this_machine_only():
    options = play.parser().parse_args(["--web"])
    with web.listen(options.host, 0) as door:
        assert door.getsockname()[0] == "127.0.0.1"


def test_the_address_to_open_is_one_that_can_be_opened():
    assert "http://[::1]:80/ " in web.greeting("::1", 80)
    assert "ssh -L 80:[::1]:80 " in web.greeting("::1", 80)
    assert "http://[2001:db8::1]:80/ " in web.greeting("2001:db8::1", 80)
    everywhere = web.greeting("0.0.0.0", 80)
    assert "http://localhost:80/ " in everywhere
    assert f"http://{socket.gethostname()}:80/ " in everywhere
    assert "ssh" not in everywhere + web.greeting("192.0.2.1", 80)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "127.0.0.1", "::1", "localhost"])
def test_whoever_lets_others_in_is_warned(host):
    warned = "Warning: everyone who can reach this address can play" in web.greeting(host, 80)
    assert warned == (host not in ("127.0.0.1", "::1", "localhost"))


# --- the page in a browser -----------------------------------------------------------------------


def playwright():
    """Playwright's module. Without it the test is skipped, or fails if REQUIRE_PROGRAMS is set."""
    try:
        from playwright import sync_api
    except ModuleNotFoundError:
        give_up = pytest.fail if os.environ.get("REQUIRE_PROGRAMS") else pytest.skip
        give_up("this test needs playwright, which is not installed")
    return sync_api


@pytest.fixture(scope="module")
def browser():
    """A Chromium."""
    path, api = program(*CHROMIUM), playwright()
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def new_page(server, browser):
    """A function that opens the page at an address's hash.

    Afterwards it checks that the page logged no errors and asked no other server.
    """
    own = ["data:", "blob:"]
    with contexts(browser) as (opened, complaints, asked):

        def new_page(fragment="", width=1280, height=800, at=server, **options):
            own.extend([at.address, at.address.replace("http", "ws")])
            context = browser.new_context(viewport={"width": width, "height": height}, **options)
            opened.append(context)
            page = context.new_page()
            page.set_default_timeout(PATIENCE * 1000)
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            page.on("websocket", lambda socket: asked.append(socket.url))
            page.goto(at.address + fragment)
            return page

        yield new_page
    complaints = [
        text for text in complaints if "willReadFrequently" not in text
    ]  # a hint to us who read the canvas
    assert complaints == []
    assert asked and all(url.startswith(tuple(own)) for url in asked)


@contextmanager
def contexts(browser):
    """Lists of browser contexts, which are closed at the end, of complaints and of requests."""
    opened = []
    yield opened, [], []
    for context in opened:
        context.close()


def wait_for_step(page, step, view="MDP", episode=1):
    """Wait until the page shows a step."""
    page.wait_for_selector(f'#frame[data-shown^="{episode}/{step} of "][data-shown$="/{view}"]')


def wait_until_after_step(page, step):
    """Wait until the page shows a later step of the first episode, any of which it may miss."""
    page.wait_for_selector(
        "#frame" + "".join(f':not([data-shown^="1/{early} of "])' for early in range(step + 1))
    )


def canvas(page):
    """The canvas's pixels, uint8[height, width, 3], as the page itself can read them."""
    width, height, pixels = page.evaluate(
        """() => {
            const canvas = document.getElementById("frame");
            const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            // As text, because a list of so many numbers takes Playwright half a second.
            let bytes = "";
            for (const value of data) bytes += String.fromCharCode(value);
            return [canvas.width, canvas.height, btoa(bytes)];
        }"""
    )
    pixels = np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(height, width, 4)
    assert (pixels[..., 3] == 255).all()
    return pixels[..., :3]


def test_a_frame_in_the_browser_is_the_environments(server, new_page):
    page, session = new_page(), server.session("NavigatorEasy", seed=3)
    page.fill("#seed-wanted", "3")
    page.click("a[aria-label='Navigator Easy, MDP']")
    wait_for_step(page, 0)
    np.testing.assert_array_equal(canvas(page), session.picture())
    for step, key in enumerate(["ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "Space"], 1):
        page.keyboard.press(key)
        session.press(KEYS[key], 0)
        wait_for_step(page, step)
        np.testing.assert_array_equal(canvas(page), session.picture())
    page.keyboard.press("p")
    session.swap()
    wait_for_step(page, 5, "POMDP")
    np.testing.assert_array_equal(canvas(page), session.picture())
    assert page.url.endswith("#NavigatorEasy/POMDP/seed=3")
    page.keyboard.press("r")
    session.restart()
    wait_for_step(page, 0, "POMDP", episode=2)
    np.testing.assert_array_equal(canvas(page), session.picture())
    shown = {
        field: page.inner_text(f"#{field}")
        for field in ("return", "step", "episode", "seed", "view", "level", "message")
    }
    assert shown == {field: session.status()[field] for field in shown}


def test_the_canvas_is_enlarged_by_a_whole_number(server, new_page):
    page, session = (
        new_page("#NavigatorEasy/both/size=128/seed=3"),
        server.session("NavigatorEasy", seed=3, both=True, obs_size=128),
    )
    wait_for_step(page, 0, "MDP and POMDP")
    np.testing.assert_array_equal(canvas(page), session.picture())
    for width, scale in ((1280, 3), (1000, 2)):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(200)
        box = page.locator("#frame").bounding_box()
        assert (box["width"], box["height"]) == (260 * scale, 128 * scale)


def test_a_clock_runs_in_the_browser_and_a_reload_begins_anew(server, new_page):
    page, session = (
        new_page("#SkittlesEasy/MDP/seed=1/fps=5"),
        server.session("SkittlesEasy", seed=1),
    )
    wait_for_step(page, 0)
    page.wait_for_timeout(1000 * A_WHILE)
    assert page.inner_text("#step") == "0 of 100"
    page.keyboard.press("ArrowLeft")
    wait_until_after_step(page, 2)
    page.evaluate("dispatchEvent(new Event('blur'))")  # as when the player turns to another window
    page.wait_for_selector("#message:text('Paused')")
    paused = page.inner_text("#step")
    page.wait_for_timeout(1000 * A_WHILE)
    assert page.inner_text("#step") == paused
    session.step(LEFT)
    while session.status()["step"] != paused:
        session.step(NO_ACTION)
    np.testing.assert_array_equal(canvas(page), session.picture())
    page.reload()
    wait_for_step(page, 0)


def test_keys_that_are_held_repeat_only_where_steps_wait_for_keys(new_page):
    page = new_page("#NavigatorEasy/MDP/seed=3")
    wait_for_step(page, 0)
    for _ in range(3):  # the second and the third as auto-repeat
        page.keyboard.down("ArrowLeft")
    wait_for_step(page, 3)
    page.keyboard.up("ArrowLeft")
    sent = []
    page.on(
        "websocket",
        lambda socket: socket.on("framesent", lambda text: sent.append(json.loads(text))),
    )
    page.goto(page.url.split("#")[0] + "?again#SkittlesEasy/MDP")
    wait_for_step(page, 0)
    for _ in range(3):
        page.keyboard.down("ArrowLeft")
    page.keyboard.up("ArrowLeft")
    wait_until_after_step(page, 0)
    assert [request["do"] for request in sent] == ["open", "press", "release"]


def test_the_end_of_an_episode_is_told_and_a_click_begins_another(server, new_page):
    page, session = new_page("#NavigatorEasy/MDP/seed=3"), server.session("NavigatorEasy", seed=3)
    wait_for_step(page, 0)
    while not session.episode.done:
        session.press(LEFT, 0)
        page.keyboard.press("ArrowLeft")
    wait_for_step(page, session.episode.time)
    assert page.inner_text("#message") == session.message()
    assert f"Return: {session.episode.episode_return:.3f}" in session.message()
    page.click("#frame")
    wait_for_step(page, 0, episode=2)


def test_the_rules_open_with_h_and_hold_their_lists_and_drawings(new_page):
    page = new_page("#NavigatorEasy/MDP")
    wait_for_step(page, 0)
    assert page.is_visible("#rules")  # there is room beside the game
    page.keyboard.press("h")
    assert not page.is_visible("#rules")
    page.keyboard.press("h")
    text = rules.player_rules("TetrisEasy")
    assert rules.introduction("Navigator")[0] in page.inner_text("#rules")
    page.evaluate("(sections) => writeRules(sections)", web._rules("TetrisEasy"))
    assert page.locator("#rules h3").all_text_contents() == [heading for heading, _ in text]
    assert page.locator("#rules ol > li").count() == 4
    drawings = page.locator("#rules pre").all_text_contents()
    assert drawings == [part.text for part in dict(text)["Pieces"] if part.kind == "drawing"]
    page.evaluate(
        "writeRules([{heading: '<b>x</b>', parts: "
        "[['item', '* <img src=x> and'], ['item', '* two']]}])"
    )
    assert page.locator("#rules li").all_text_contents() == ["<img src=x> and", "two"]


def test_escape_leads_to_the_menu_and_back_to_the_game(new_page):
    page = new_page("#NavigatorEasy/MDP")
    wait_for_step(page, 0)
    page.keyboard.press("Escape")
    assert page.locator(".choice:visible").count() == 9 * len(GAMES)
    assert "#" not in page.url
    page.go_back()
    wait_for_step(page, 0)
    assert page.url.endswith("#NavigatorEasy/MDP")


def test_a_wrong_address_leads_to_the_menu_and_says_why(new_page):
    page = new_page("#Navigatr/MDP")
    page.wait_for_selector("#notice:visible")
    assert re.search("the nearest are: .*NavigatorEasy", page.inner_text("#notice"))
    assert page.is_visible("#menu")


WRONG_NUMBERS = [
    (
        "#seed-wanted",
        "-5",
        "The seed must be a whole number from 0 to 2147483647, but it is -5; the nearest is 0.",
    ),
    ("#seed-wanted", "1.6", "but it is 1.6; the nearest is 2."),
    ("#seed-wanted", "e", "The seed must be a whole number from 0 to 2147483647."),
    (
        "#fps-wanted",
        "99",
        "Steps per second must be a number from 0 to 60, but it is 99; the nearest is 60.",
    ),
]


def test_a_wrong_number_in_the_menu_is_told_and_starts_no_game(new_page):
    page, link = new_page(), "a[aria-label='Navigator Easy, MDP']"
    for field, text, message in WRONG_NUMBERS:
        page.focus(field)
        page.keyboard.type(text)
        assert message in page.inner_text("#wrong")
        page.click(link)
        assert message in page.inner_text("#notice")
        assert page.is_visible("#menu") and "#" not in page.url
        page.fill(field, "")
        assert not page.is_visible("#wrong")
    page.set_viewport_size({"width": 320, "height": 568})
    page.reload()
    assert no_wider_than_the_screen(page)
    page.fill("#seed-wanted", "7")
    page.click(link)
    wait_for_step(page, 0)
    assert page.inner_text("#seed") == "7"


def test_the_button_saves_the_gif_of_the_episode(new_page, tmp_path):
    page = new_page("#NavigatorEasy/MDP/seed=3")
    wait_for_step(page, 0)
    page.keyboard.press("ArrowLeft")
    wait_for_step(page, 1)
    with page.expect_download() as download:
        page.click("#gif")
    assert download.value.suggested_filename == "NavigatorEasy-seed3-episode1.gif"
    download.value.save_as(tmp_path / "episode.gif")
    with Image.open(tmp_path / "episode.gif") as animation:
        assert (animation.format, animation.size, animation.n_frames) == ("GIF", (256, 256), 2)


def test_space_plays_though_a_button_was_clicked_last(new_page):
    page = new_page("#NavigatorEasy/MDP")
    wait_for_step(page, 0)
    page.click("#restart")
    wait_for_step(page, 0, episode=2)
    page.keyboard.press("Space")
    wait_for_step(page, 1, episode=2)


def test_the_page_opens_the_game_that_the_command_line_names(server, new_page, monkeypatch):
    session = server.session("NavigatorEasy", seed=3, partial_obs=True)
    monkeypatch.setattr(cabinet, "build", lambda name, obs_size: session.machine)
    other = Server("NavigatorEasy", "--partial", "--seed", "3")
    page = new_page(at=other)
    wait_for_step(page, 0, "POMDP")
    np.testing.assert_array_equal(canvas(page), session.picture())
    assert page.url.endswith("#NavigatorEasy/POMDP/seed=3")
    page.context.close()
    other.stop()


def test_a_lost_connection_is_told_and_can_be_made_again(server, new_page):
    page = new_page("#NavigatorEasy/MDP/seed=3")
    wait_for_step(page, 0)
    page.keyboard.press("ArrowLeft")
    wait_for_step(page, 1)
    server.wait_for(web.close_connections(server.app))
    page.wait_for_selector("#notice:has-text('the game starts over with episode 1')")
    page.click("#notice button:text('Connect again')")
    wait_for_step(page, 0)
    assert not page.is_visible("#notice")


def test_a_phone_has_touch_keys_and_nothing_sticks_out(server, new_page):
    page = new_page(width=390, height=844, has_touch=True, is_mobile=True, device_scale_factor=3)
    session = server.session("NavigatorEasy", seed=3)
    assert no_wider_than_the_screen(page)
    page.fill("#seed-wanted", "3")
    page.tap("a[aria-label='Navigator Easy, MDP']")
    wait_for_step(page, 0)
    for step, action in enumerate([UP, DOWN, LEFT, RIGHT, FIRE], 1):
        key = page.locator(f"[data-action='{action}']")
        box = key.bounding_box()
        assert box["x"] >= 0 and box["y"] + box["height"] <= 844 and box["width"] >= 44
        key.tap()
        session.press(action, 0)
        wait_for_step(page, step)
        np.testing.assert_array_equal(canvas(page), session.picture())
    assert no_wider_than_the_screen(page)
    width = page.locator("#frame").bounding_box()["width"]
    assert width == pytest.approx(256 * 4 / 3, abs=0.01)  # 4 of the screen's pixels for a frame's
    page.tap("#help")
    assert page.is_visible("#rules")
    assert no_wider_than_the_screen(page)
    page.tap("#back")
    assert not page.is_visible("#rules")


@pytest.mark.parametrize("width, height", [(568, 320), (667, 375), (320, 568)])
@pytest.mark.parametrize("view", ["POMDP", "both"])
def test_a_small_phone_shows_all_buttons(new_page, width, height, view):
    page = new_page(
        f"#NavigatorEasy/{view}", width=width, height=height, has_touch=True, is_mobile=True
    )
    wait_for_step(page, 0, "MDP and POMDP" if view == "both" else view)
    page.evaluate("document.getElementById('level').textContent = 'Medium'")  # the widest
    page.evaluate("document.getElementById('seed').textContent = '2147483647'")
    names = ["leave", "restart", "help", "gif", "message", *["swap"][: view != "both"]]
    for selector in [f"#{name}" for name in names] + [
        f"[data-action='{key}']" for key in KEYS.values()
    ]:
        assert inside_the_screen(page, selector), selector
    assert no_wider_than_the_screen(page)
    assert page.is_visible("#swap") == (view != "both")
    page.evaluate("makingGif(true)")
    assert inside_the_screen(page, "#gif")


def inside_the_screen(page, selector):
    """Whether an element is visible and no part of it sticks out."""
    box, screen = page.locator(selector).bounding_box(), page.viewport_size
    return (
        box is not None
        and min(box["x"], box["y"]) >= 0
        and box["x"] + box["width"] <= screen["width"]
        and box["y"] + box["height"] <= screen["height"]
    )


def test_a_dense_screen_is_not_left_half_empty(new_page):
    page = new_page(
        "#NavigatorEasy/MDP",
        width=568,
        height=320,
        has_touch=True,
        is_mobile=True,
        device_scale_factor=2,
    )
    wait_for_step(page, 0)
    assert page.locator("#frame").bounding_box()["height"] > 200


def no_wider_than_the_screen(page):
    """Whether the page has no horizontal scroll."""
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_desktop_has_no_touch_keys(new_page):
    page = new_page("#NavigatorEasy/MDP")
    wait_for_step(page, 0)
    assert not page.is_visible(".dpad")
