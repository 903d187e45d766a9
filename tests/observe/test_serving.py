"""One odd client costs its own connection, and nothing else: over real sockets."""

import random
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import h2.config
import h2.connection
import loopback
import pytest
import structlog
import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from patience import PATIENCE

from marketprism.board.board import Board
from marketprism.errors import StartFailed
from marketprism.observe import guard, serving
from marketprism.observe.admission import Admission
from marketprism.observe.guard import Guard
from marketprism.observe.host_header import OwnNames
from marketprism.observe.pages import Answer, App, Pages, Receive, Scope, Send
from marketprism.observe.serving import serve

BIG = b"x" * (16 * 2**20)
WEBSOCKET = (
    b"GET /page HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
POST = b"POST /page HTTP/1.1\r\nHost: localhost\r\n"
PLAIN = b"GET /page HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"


def _broken() -> Answer:
    raise ZeroDivisionError


PAGES = Pages(
    {"/page": lambda: Answer(b"{}"), "/big": lambda: Answer(BIG), "/broken": _broken},
)


class Server:
    """One that runs, and what it has survived."""

    def __init__(self, board: Board, port: int, shutdown: trio.Event) -> None:
        self.board, self.port, self.shutdown = board, port, shutdown
        self.ended = trio.Event()

    async def dial(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def say(self, request: bytes) -> bytes:
        """What comes back to raw bytes, until it is whole or the other side closes."""
        answer = b""
        async with await self.dial() as stream:
            with trio.move_on_after(PATIENCE), suppress(trio.BrokenResourceError):
                await stream.send_all(request)
                async for part in stream:
                    answer += part
                    head, _, body = answer.partition(b"\r\n\r\n")
                    length = re.search(rb"content-length: (\d+)", head)
                    if length and len(body) >= int(length[1]):
                        break
        return answer

    async def works(self) -> bool:
        """Whether an honest client is served."""
        return (await self.say(PLAIN)).startswith(b"HTTP/1.1 200")


@asynccontextmanager
async def running(app: App = PAGES) -> AsyncIterator[Server]:
    """A server beside a sibling that must not notice anything."""
    board, shutdown = Board(), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)

        async def run(task_status: trio.TaskStatus[int]) -> None:
            await serve(
                app, "127.0.0.1", 0, board=board, shutdown=shutdown, task_status=task_status
            )
            server.ended.set()

        port = await nursery.start(run)
        server = Server(board, port, shutdown)
        yield server
        nursery.cancel_scope.cancel()


async def test_pages_are_served_over_a_kept_alive_connection() -> None:
    """Several requests go over one connection, with the head of our own making."""
    async with running() as server, loopback.client() as client:
        for _ in range(3):
            answer = await client.get(f"http://127.0.0.1:{server.port}/page?x=1")
            assert (answer.status_code, answer.content) == (200, b"{}")
        assert "server" not in answer.headers
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/other", 404), ("POST", "/page", 405), ("DELETE", "/page", 405)],
)
async def test_other_paths_and_methods_are_errors_in_json(
    method: str, path: str, status: int
) -> None:
    """Whatever was asked, the answer is JSON; 405 says what is allowed."""
    async with running() as server, loopback.client() as client:
        url = f"http://127.0.0.1:{server.port}{path}"
        answer = await client.request(method, url, content=b"y" * 100_000)
        assert answer.status_code == status
        assert set(answer.json()) == {"error"}
        assert answer.headers.get("allow") == ("GET, HEAD" if status == 405 else None)


async def test_head_is_the_answer_without_its_body() -> None:
    """HEAD tells the length that GET would send, and sends nothing."""
    async with running() as server, loopback.client() as client:
        answer = await client.head(f"http://127.0.0.1:{server.port}/page")
        assert (answer.status_code, answer.headers["content-length"]) == (200, "2")
        assert answer.content == b""


async def test_an_error_in_a_page_is_a_500_and_counted() -> None:
    """A bug in a page costs one answer; it is logged once, however often it comes."""
    with structlog.testing.capture_logs() as logs:
        async with running() as server:
            for _ in range(3):
                assert (await server.say(b"GET /broken HTTP/1.1\r\nHost: localhost\r\n\r\n"))[
                    9:12
                ] == b"500"
            assert server.board.faults == {"http: ZeroDivisionError": 3}
            assert await server.works()
    assert len(logs) == 1


async def test_a_websocket_is_refused_with_words() -> None:
    """There is none here: the upgrade is answered with an error in JSON."""
    async with running() as server:
        answer = await server.say(WEBSOCKET)
        assert answer.startswith(b"HTTP/1.1 403")
        assert answer.endswith(b'{"error":"Forbidden"}')


async def test_an_application_is_told_of_its_life_in_order() -> None:
    """The pages answer ASGI's lifespan, for servers that ask."""
    said: list[str] = []
    heard = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> dict[str, str]:
        return {"type": next(heard)}

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        said.append(message["type"])

    await PAGES({"type": "lifespan"}, receive, send)
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_websocket_upgrade_with_a_trailing_byte_ends_only_itself() -> None:
    """The first killer of hypercorn: it is survived and counted."""
    async with running() as server:
        for _ in range(5):
            await server.say(WEBSOCKET + b"x")
        assert await server.works()
        assert server.board.faults.total() > 0


async def test_http2_is_not_spoken() -> None:
    """The second and third: an upgrade, bad base64 or good, is answered as HTTP/1.1, and HTTP/2
    spoken at once is an error, so that its rapid resets cost nothing.
    """
    async with running() as server:
        for settings in (b"!!!", b"AAMAAABkAARAAAAAAAIAAAAA"):
            upgrade = (
                b"GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n"
                b"Upgrade: h2c\r\nHTTP2-Settings: " + settings + b"\r\n\r\n"
            )
            assert (await server.say(upgrade)).startswith(b"HTTP/1.1 200")
        connection = h2.connection.H2Connection(h2.config.H2Configuration())
        connection.initiate_connection()
        for stream in range(1, 400, 2):
            head = {
                ":method": "GET",
                ":path": "/page",
                ":scheme": "http",
                ":authority": "localhost",
            }
            connection.send_headers(stream, list(head.items()), end_stream=True)
            connection.reset_stream(stream)
        answer = await server.say(connection.data_to_send())
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
        assert await server.works()


def _mutated(chance: random.Random) -> bytes:
    request = bytearray(
        chance.choice(
            [
                PLAIN,
                PLAIN * 3,
                WEBSOCKET,
                WEBSOCKET + b"\x81\x85abcdhello",
                POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                POST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
            ]
        )
    )
    for _ in range(chance.randrange(6)):
        place = chance.randrange(len(request))
        match chance.randrange(3):
            case 0:
                request[place] = chance.randrange(256)
            case 1:
                del request[place : place + chance.randrange(1, 9)]
            case 2:
                request[place:place] = chance.choice([b"\r\n", b"\x00", b":", b"%ff", b"x" * 9000])
        if not request:
            break
    return bytes(request)


async def test_mutated_requests_leave_the_server_standing() -> None:
    """Hundreds of requests with random damage, several at once: all is served after them."""
    chance = random.Random(8086)
    async with running() as server:
        requests = [_mutated(chance) for _ in range(400)]

        async def client(mine: list[bytes]) -> None:
            for request in mine:
                try:
                    async with await server.dial() as stream:
                        await stream.send_all(request)
                        with trio.move_on_after(0.05):
                            await stream.receive_some()
                except trio.BrokenResourceError:
                    pass

        async with trio.open_nursery() as clients:
            for number in range(8):
                clients.start_soon(client, requests[number::8])
        assert await server.works()


async def test_slow_clients_are_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slowloris: a byte now and then does not keep a connection without a request alive."""
    monkeypatch.setattr(serving, "HEAD_WITHIN", 0.6)
    monkeypatch.setattr(guard, "HEAD_WITHIN", 0.6)
    async with running() as server:

        async def drip() -> int:
            async with await server.dial() as stream:
                for number, byte in enumerate(PLAIN):
                    try:
                        await stream.send_all(bytes([byte]))
                    except trio.BrokenResourceError:
                        return number
                    await trio.sleep(0.1)
            return len(PLAIN)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(drip)
            assert await drip() < len(PLAIN) / 2
            assert await server.works()


async def test_a_client_that_never_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is not taken ends with its connection; others are served meanwhile."""
    monkeypatch.setattr(guard, "REQUEST_WITHIN", 0.5)
    async with running() as server, await server.dial() as stream:
        await stream.send_all(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await trio.sleep(0.1)
        assert await server.works()
        with trio.fail_after(PATIENCE):
            while not server.board.faults:  # noqa: ASYNC110 (the board has no events)
                await trio.sleep(0.05)
        assert server.board.faults == {"http: request took too long": 1}


async def test_a_body_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends for ever and reads nothing keeps no task alive."""
    monkeypatch.setattr(guard, "REQUEST_WITHIN", 0.5)
    async with running() as server, await server.dial() as stream:
        await stream.send_all(POST + b"Content-Length: 999999999\r\n\r\n")

        async def blast() -> None:
            while True:
                await stream.send_all(b"z" * 65536)

        with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError):
            await blast()
        assert await server.works()


async def _idle(server: Server) -> trio.SocketStream:
    return await server.dial()


async def _half_asked(server: Server) -> trio.SocketStream:
    stream = await server.dial()
    await stream.send_all(PLAIN[:20])
    return stream


async def _not_reading(server: Server) -> trio.SocketStream:
    stream = await server.dial()
    await stream.send_all(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return stream


@pytest.mark.parametrize("how", ["told", "cancelled"])
async def test_it_ends_promptly_whatever_is_connected(how: str) -> None:
    """Two seconds after it is told to stop it is gone, though clients idle, dawdle or do not read;
    at once where it is cancelled.
    """
    kinds: list[Callable[[Server], object]] = [_idle, _half_asked, _not_reading]
    async with running() as server:
        streams = [await kind(server) for kind in (_idle, _half_asked, _not_reading) for _ in "ab"]
        assert len(streams) == 2 * len(kinds)
        await trio.sleep(0.1)
        began = trio.current_time()
        if how == "told":
            server.shutdown.set()
            with trio.fail_after(PATIENCE):
                await server.ended.wait()
            with pytest.raises(OSError, match="all attempts to connect"):
                await server.dial()
    assert how == "told" or trio.current_time() - began < 2
    for stream in streams:
        await stream.aclose()


async def test_a_request_under_way_is_finished_when_told_to_stop() -> None:
    """The grace is for those who were already asking."""
    asked = trio.Event()

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        asked.set()
        await trio.sleep(0.3)
        await PAGES({"type": "http", "method": "GET", "path": "/page"}, receive, send)

    async with running(app) as server, trio.open_nursery() as nursery:

        async def ask() -> None:
            assert (await server.say(PLAIN)).startswith(b"HTTP/1.1 200")

        nursery.start_soon(ask)
        await asked.wait()
        server.shutdown.set()


async def test_a_taken_port_is_told_before_it_starts() -> None:
    """The words name the port, and the variable that chooses another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with trio.open_nursery() as nursery:
            with pytest.raises(StartFailed) as failure:
                await nursery.start(_serve_on, "127.0.0.1", port, "METRICS")
    assert str(failure.value) == f"port {port} is taken (METRICS_PORT chooses another)"


@pytest.mark.parametrize("host", ["192.0.2.1", "not an address", "no-such.invalid"])
async def test_an_address_that_is_not_ours_is_told_before_it_starts(host: str) -> None:
    """The words name the address, and the variable that chooses another."""
    async with trio.open_nursery() as nursery:
        with pytest.raises(StartFailed) as failure:
            await nursery.start(_serve_on, host, 0, "HEALTH_CHECK")
    assert host in str(failure.value)
    assert "HEALTH_CHECK_HOST" in str(failure.value)


async def _serve_on(
    host: str, port: int, variables: str, *, task_status: trio.TaskStatus[int]
) -> None:
    await serve(PAGES, host, port, board=Board(), variables=variables, task_status=task_status)


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (ValueError(), {"http: ValueError": 1}),
        (ExceptionGroup("", [OSError(), OSError()]), {"http: OSError": 2}),
        (BaseExceptionGroup("", [ValueError(), KeyboardInterrupt()]), {"http: ValueError": 1}),
        (KeyboardInterrupt(), {}),
    ],
)
async def test_only_exceptions_are_survived(
    error: BaseException, counted: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone or in groups: errors are counted, and what is to end the process goes through."""

    async def failing(_self: TCPServer) -> None:
        raise error

    monkeypatch.setattr(TCPServer, "run", failing)
    board = Board()
    names = OwnNames("localhost", "127.0.0.1")
    room: Admission[Guard] = Admission(1024)
    shared = guard.Server(PAGES, Config(), WorkerContext(None), board, names, room)
    ours, theirs = _socket_pair()
    async with ours, theirs:
        one = Guard(shared, ours)
        await theirs.send_all(b"G")
        if isinstance(error, Exception):
            await one.run()
        else:
            with pytest.RaisesGroup(KeyboardInterrupt, allow_unwrapped=True):
                await one.run()
    assert board.faults == counted
    assert shared.admission.there == 0


def _socket_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    ours, theirs = trio.socket.socketpair()
    return trio.SocketStream(ours), trio.SocketStream(theirs)


async def test_a_stop_is_no_fault() -> None:
    """Idle clients are let go at once, told or cancelled, and nothing of it is counted."""
    async with running() as server, await server.dial():
        await trio.sleep(0.05)
        server.shutdown.set()
        with trio.fail_after(PATIENCE):
            await server.ended.wait()
    async with running() as cancelled:
        stream = await cancelled.dial()
        await trio.sleep(0.05)
    await stream.aclose()
    assert server.board.faults == cancelled.board.faults == {}
