"""Connections that cannot be taken: told once, waited for, and never the end of the server."""

import errno
import os
import socket
from collections.abc import Iterator
from typing import cast

import pytest
import trio
import trio.lowlevel
from structlog.testing import capture_logs
from trio.testing import MockClock

from marketprism.errors import Lost
from marketprism.observe.accepting import CALM, LONGEST_WAIT, Shortage, accept, listen

NONE_LEFT = OSError(errno.EMFILE, os.strerror(errno.EMFILE))


class Door:
    """A listening socket that says what it is told to, then that nobody is there."""

    def __init__(self, *said: OSError | None) -> None:
        self.said: Iterator[OSError | None] = iter(said)
        self.asked = 0
        self.over = trio.Event()

    def accept(self) -> tuple[socket.socket, object]:
        self.asked += 1
        try:
            error = next(self.said)
        except StopIteration:
            self.over.set()
            raise BlockingIOError from None
        if error is not None:
            raise error
        ours, theirs = socket.socketpair()
        theirs.close()
        return ours, None


@pytest.fixture(autouse=True)
def _readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody is always at the door."""

    async def readable(_: object) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(trio.lowlevel, "wait_readable", readable)


async def accepted(door: Door, *, evict: int = 0) -> int:
    """How many came in until it had said all; `evict` connections can be ended for others."""
    came = 0
    left = evict

    async def handle(_: trio.SocketStream) -> None:
        nonlocal came
        came += 1
        await trio.lowlevel.checkpoint()

    def give_way() -> bool:
        nonlocal left
        left -= 1
        return left >= 0

    async with trio.open_nursery() as nursery:
        listener = cast(socket.socket, door)
        nursery.start_soon(accept, handle, listener, nursery, give_way)
        await door.over.wait()
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    return came


async def test_no_descriptors_are_told_once_and_once_when_there_are_some(
    autojump_clock: MockClock,
) -> None:
    """Not ten times a second, without a traceback, and asked less and less often."""
    with capture_logs() as logs:
        assert await accepted(Door(*[NONE_LEFT] * 30)) == 0
        assert trio.current_time() > 20 * LONGEST_WAIT
        assert [entry["event"] for entry in logs] == ["server.no_room"]
        assert logs[0]["reason"] == "Too many open files"
        assert "exc_info" not in logs[0]


def test_it_is_over_when_it_has_been_calm() -> None:
    """One that comes and goes is one, and told as one."""
    shortage = Shortage()
    with capture_logs() as logs:
        for second in range(0, 50, 5):
            shortage.met(NONE_LEFT, second)
            shortage.accepted(second + 1)
        assert [entry["event"] for entry in logs] == ["server.no_room"]
        shortage.accepted(45 + CALM)
        shortage.accepted(46 + CALM)
        assert [entry["event"] for entry in logs] == ["server.no_room", "server.room_again"]
        assert logs[1]["after"] == 45 + CALM
        shortage.met(NONE_LEFT, 100)
    assert [entry["event"] for entry in logs][2:] == ["server.no_room"]


async def test_where_somebody_can_give_way_it_is_tried_again_at_once(
    autojump_clock: MockClock,
) -> None:
    """Whoever has no whole request is asked to."""
    assert await accepted(Door(*[NONE_LEFT] * 10), evict=10) == 0
    assert trio.current_time() < LONGEST_WAIT


async def test_what_befell_a_connection_is_not_ours() -> None:
    """One that was gone before it was taken is nobody's failure."""
    gone = OSError(errno.ECONNABORTED, "gone")
    with capture_logs() as logs:
        assert await accepted(Door(gone, None, gone, None)) == 2
    assert logs == []


async def test_to_be_no_longer_able_to_accept_is_to_be_lost() -> None:
    """It never just returns: whoever supervises it starts it again."""
    with pytest.RaisesGroup(pytest.RaisesExc(Lost, match="can no longer be accepted")):
        await accepted(Door(OSError(errno.EBADF, "the listener is gone")))


async def test_a_name_that_has_an_address_of_ipv4_is_bound_there() -> None:
    """`localhost` is the same everywhere."""
    listener = await listen("localhost", 0, "HEALTH_CHECK")
    assert listener.getsockname()[0] == "127.0.0.1"
    listener.close()
