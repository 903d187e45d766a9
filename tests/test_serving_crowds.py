"""More than can be served: who is let in, who is answered, and that the probe always is."""

import re
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from patience import PATIENCE

from marketprism.board.board import Board
from marketprism.observe import admission, guard, serving
from marketprism.observe.pages import Answer, App, Pages, Receive, Scope, Send
from marketprism.observe.serving import serve

ANSWERED = re.compile(rb"HTTP/1\.1 (\d+) ")


def asking(path: str, host: str = "localhost") -> bytes:
    """A request."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


class Place:
    """A server, and what became of it."""

    def __init__(self) -> None:
        self.board = Board()
        self.port = 0
        self.asked = 0
        """How often the large page was made."""

    def pages(self) -> Pages:
        """A probe, a page, and one that no socket takes at once."""

        def large() -> Answer:
            self.asked += 1
            return Answer(bytes(16 * 2**20))

        return Pages(
            {"/health": lambda: Answer(b"{}"), "/page": lambda: Answer(b"[]"), "/large": large}
        )

    async def dial(self, said: bytes = b"") -> trio.SocketStream:
        """A connection that has said something."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        with suppress(trio.BrokenResourceError):
            await stream.send_all(said)
        return stream

    async def status(self, path: str, host: str = "localhost") -> int:
        """Of an answer to an honest client."""
        with trio.fail_after(PATIENCE):
            async with await self.dial(asking(path, host)) as stream:
                found = ANSWERED.match(await stream.receive_some())
        assert found is not None
        return int(found[1])

    async def fault(self, kind: str) -> None:
        """Wait until one is counted."""
        with trio.fail_after(PATIENCE):
            while not self.board.faults[f"http: {kind}"]:  # noqa: ASYNC110 (the board has no events)
                await trio.sleep(0.01)


@asynccontextmanager
async def place(app: App | None = None, host: str = "127.0.0.1") -> AsyncIterator[Place]:
    """One that serves."""
    served = Place()
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[int]) -> None:
            pages = app or served.pages()
            await serve(pages, host, 0, board=served.board, task_status=task_status)

        served.port = await nursery.start(run)
        yield served
        nursery.cancel_scope.cancel()


async def until_closed(stream: trio.SocketStream) -> bytes:
    """What comes until the other side ends it."""
    said = b""
    with trio.fail_after(PATIENCE), suppress(trio.BrokenResourceError):
        async for part in stream:
            said += part
    return said


async def test_a_client_that_has_gone_is_answered_no_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It asked a thousand times and hung up: the first send that fails is the last."""
    monkeypatch.setattr(serving, "MOST_REQUESTS", 1_000_000)
    async with place() as served:
        stream = await served.dial(asking("/large") * 1000)
        with trio.fail_after(PATIENCE):
            await stream.receive_some()
        # Closed with a reset, as by a process that was killed.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()
        assert await served.status("/health") == 200
        for _ in range(20):
            assert await served.status("/page") == 200
        assert served.asked <= 2
        assert not served.board.faults


async def test_a_connection_may_ask_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last answer says that there will be no other, and the connection ends there."""
    monkeypatch.setattr(serving, "MOST_REQUESTS", 10)
    async with place() as served, await served.dial(asking("/page") * 10) as stream:
        answers = (await until_closed(stream)).split(b"HTTP/1.1 ")[1:]
        assert len(answers) == 10
        assert [b"connection: close" in answer for answer in answers] == [False] * 9 + [True]
        async with await served.dial(asking("/page") * 1000) as greedy:
            assert len(ANSWERED.findall(await until_closed(greedy))) <= 10
        assert await served.status("/page") == 200


async def test_the_patience_is_for_all_requests_of_a_connection_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the first took is gone for the second; whoever connects anew has all of it."""
    monkeypatch.setattr(guard, "REQUEST_WITHIN", 0.5)
    pages = Pages({"/slow": lambda: Answer(b"{}"), "/page": lambda: Answer(b"[]")})

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            await trio.sleep(0.3)
        await pages(scope, receive, send)

    async with place(app) as served, await served.dial(asking("/slow") * 5) as stream:
        assert len(ANSWERED.findall(await until_closed(stream))) <= 1
        await served.fault("request took too long")
        assert await served.status("/page") == 200


async def test_who_asks_slowly_gives_way_to_newcomers(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many hold half a request, everybody else is served, and the oldest are let go."""
    monkeypatch.setattr(admission, "WAITING", 8)
    monkeypatch.setattr(serving, "HEAD_WITHIN", PATIENCE)
    monkeypatch.setattr(guard, "HEAD_WITHIN", PATIENCE)
    async with place() as served:
        slow = [await served.dial(asking("/page")[:20]) for _ in range(30)]
        for path in ("/health", "/page"):
            assert await served.status(path) == 200
        assert await until_closed(slow[0]) == b""
        await served.fault("gave way to others")
        # So do bodies that never end.
        bodies = b"POST /page HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nx"
        slow += [await served.dial(bodies) for _ in range(30)]
        for path in ("/health", "/page"):
            assert await served.status(path) == 200
        for stream in slow:
            await stream.aclose()


async def test_the_probe_has_places_that_nobody_else_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Others are told to come again; the probe is answered, from the same address, too."""
    monkeypatch.setattr(admission, "ANSWERED", 6)
    async with place() as served:
        held = [await served.dial(asking("/large")) for _ in range(3)]
        for stream in held:
            await stream.receive_some(1)
        async with await served.dial(asking("/page") * 2) as stream:
            said = await until_closed(stream)
        assert ANSWERED.findall(said) == [b"503"]
        assert b"retry-after: 1\r\n" in said
        assert await served.status("/health?strict=1") == 200
        assert served.board.faults == {"http: too many requests at once": 1}
        await held[0].aclose()
        with trio.fail_after(PATIENCE):
            while await served.status("/page") != 200:  # noqa: ASYNC110 (nothing tells)
                await trio.sleep(0.01)
        for stream in held:
            await stream.aclose()


async def test_a_page_of_somebody_else_does_not_read_ours() -> None:
    """Where only this machine can reach us, a request must mean it: the name says whom (421)."""
    async with place() as served:
        for path in ("/page", "/health", "/none"):
            assert await served.status(path, "evil.example:8086") == 421
        assert await served.status("/page", "127.0.0.1:1") == 200
        async with await served.dial(b"GET /page HTTP/1.0\r\n\r\n") as stream:
            assert (await until_closed(stream)).startswith(b"HTTP/1.1 200")
    async with place(host="0.0.0.0") as everywhere:
        assert await everywhere.status("/page", "collector.example") == 200
