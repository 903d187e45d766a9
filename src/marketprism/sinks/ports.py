"""Where the embedded server listens, and who is there already."""

import errno
import socket
from typing import Final

import trio

_ANOTHER: Final = "another NATS server"
_SOMETHING: Final = "something else"
_INFO: Final = b"INFO {"
_GREETING: Final = 1.0
"""Seconds in which a server says who it is to whoever connects."""


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there: the port is free. Raises OSError."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind)
    try:
        # As the server does it: an old connection's remains are no reason to move.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen()
    except OSError:
        bound.close()
        raise
    return bound


async def taken_by(host: str, port: int, error: OSError) -> str:
    """What listens there, in words, or why we cannot: a NATS server greets whoever connects with a
    line `INFO {…}` (https://docs.nats.io/reference/reference-protocols/nats-protocol#info).
    """
    if error.errno != errno.EADDRINUSE:
        return str(error.strerror)
    greeting = b""
    with trio.move_on_after(_GREETING):
        try:
            async with await trio.open_tcp_stream(host, port) as stream:
                while len(greeting) < len(_INFO) and (more := await stream.receive_some(4096)):
                    greeting += more
        except (OSError, trio.BrokenResourceError):
            pass  # it takes the port and no connections: something else, then
    return _ANOTHER if greeting.startswith(_INFO) else _SOMETHING


def displaced(port: int, by: str, free: int) -> str:
    """In words, that we are at another port than was asked for, and what to do about it."""
    words = {
        _ANOTHER: f"{port} is {by}: set NATS_URL to use it, or nats.embedded.port",
        _SOMETHING: f"port {port} is taken by {by}: set nats.embedded.port",
    }.get(by, f"port {port} cannot be had ({by}): set nats.embedded.port")
    return f"{words}; ours is on {free} meanwhile"


def bracketed(host: str) -> str:
    """As it stands in a URL."""
    return f"[{host}]" if ":" in host else host
