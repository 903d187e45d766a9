"""Connections as they come in: where we listen, and what to do when there is no room for more."""

import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import structlog
import trio

from marketprism.errors import Lost, StartFailed, no_room

FIRST_WAIT, LONGEST_WAIT = 0.02, 1.0
"""Seconds until the next attempt where there was no room for a connection."""
CALM = 10.0
"""Seconds without a failure after which it is over."""

AT_ONCE = 32
"""Connections that are accepted together."""

_THEIRS = {errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.EHOSTUNREACH}
"""What befell the connection, and not us: accept(2)."""

log = structlog.get_logger()


@attrs.define
class Shortage:
    """That the process or the machine has no room for another connection: told once, and once when
    it is over. Times are in seconds.
    """

    began: float | None = None
    last: float = 0.0
    waits: int = 0

    def met(self, error: OSError, now: float) -> float:
        """It is so again; the seconds until the next attempt."""
        if self.began is None:
            self.began = now
            log.error("server.no_room", reason=error.strerror)
        self.last = now
        self.waits += 1
        return float(min(FIRST_WAIT * 2**self.waits, LONGEST_WAIT))

    def accepted(self, now: float) -> None:
        """A connection came in."""
        self.waits = 0
        if self.began is not None and now - self.last >= CALM:
            log.warning("server.room_again", after=round(now - self.began, 1))
            self.began = None


async def accept(
    handle: Callable[[trio.SocketStream], Awaitable[None]],
    listener: socket.socket,
    connections: trio.Nursery,
    give_way: Callable[[], bool],
) -> None:
    """Start `handle` for each connection, for ever. Where there is no room, `give_way` is asked to
    end one; whether it could.

    Raises Lost when nothing can be accepted any more.
    """
    shortage = Shortage()
    while True:
        await trio.lowlevel.wait_readable(listener)
        try:
            # Many at once: whoever comes last must not stand behind all who have gone since.
            for _ in range(AT_ONCE):
                accepted, _address = listener.accept()
                connections.start_soon(_handled, handle, accepted)
                shortage.accepted(trio.current_time())
        except BlockingIOError:
            pass
        except OSError as error:
            if no_room(error):
                wait = shortage.met(error, trio.current_time())
                await trio.sleep(FIRST_WAIT if give_way() else wait)
            elif error.errno not in _THEIRS:
                raise Lost(f"connections can no longer be accepted: {error}") from error


async def _handled(
    handle: Callable[[trio.SocketStream], Awaitable[None]], accepted: socket.socket
) -> None:
    with accepted:
        await handle(trio.SocketStream(trio.socket.from_stdlib_socket(accepted)))


async def listen(host: str, port: int, variables: str) -> socket.socket:
    """Who listens on the one address that `host` means: the first of IPv4, if there is any, so
    that `localhost` is the same everywhere. `variables`: see `serving.serve`.

    Raises StartFailed.
    """
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, *_, address = min(found, key=lambda item: item[0] is not socket.AF_INET)
        return _listening(family, address)
    except (OSError, UnicodeError) as error:
        number = error.errno if isinstance(error, OSError) else None
        if isinstance(error, socket.gaierror | UnicodeError):
            problem = f"{host} is not an address ({variables}_HOST chooses another): {error}"
        elif number == errno.EADDRINUSE:
            problem = f"port {port} is taken ({variables}_PORT chooses another)"
        elif number == errno.EACCES:
            problem = f"port {port} is not allowed to us ({variables}_PORT chooses another)"
        elif number == errno.EADDRNOTAVAIL:
            problem = f"{host} is not of this machine ({variables}_HOST chooses another)"
        else:
            problem = f"{host} port {port} cannot be bound: {error}"
        raise StartFailed(problem) from error


def _listening(family: int, address: tuple[Any, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        # What an old connection left behind is no reason not to start.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener
