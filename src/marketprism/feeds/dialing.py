"""Reaching a host: DNS, TCP, a proxy, TLS — and what each failure means."""

import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import h11
import python_socks
import trio
import wsproto.utilities
from python_socks.async_.trio import Proxy
from trio_websocket import ConnectionClosed, ConnectionRejected

from marketprism.errors import Lost, MarketPrismError, RateLimited, Refused, leaves
from marketprism.feeds.http_answers import FORBIDDEN, HttpAnswer, Meaning, usual, worded

Dial = Callable[[str, str | None, ssl.SSLContext], Awaitable[trio.abc.Stream]]
"""From a URL, a proxy and whom to trust to a stream."""
Judge = Callable[[HttpAnswer], Meaning]
"""What an answer to a handshake means, that is none of a websocket."""


async def dial(url: str, proxy: str | None, context: ssl.SSLContext) -> trio.abc.Stream:
    """A stream to the host of a `ws`, `wss`, `http` or `https` URL, TLS verified.

    Raises what `translated` makes of it: Lost or Refused.
    """
    parts = urlsplit(url)
    secure = parts.scheme in ("wss", "https")
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    stream = await connect(host, port, proxy)
    if not secure:
        return stream
    secured = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    try:
        await secured.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(secured)
        raise
    return secured


async def connect(host: str, port: int, proxy: str | None) -> trio.SocketStream:
    """TCP to a host, through a proxy or directly. Raises as `dial` does."""
    if proxy is None:
        return await trio.open_tcp_stream(host, port)
    return trio.SocketStream(await Proxy.from_url(proxy).connect(host, port))


def by_status(answer: HttpAnswer) -> Meaning:
    """What HTTP itself says, at no known time."""
    return usual(answer, 0)


@contextmanager
def translated(host: str, judge: Judge = by_status) -> Iterator[None]:
    """The border: foreign errors of a connection, alone or in groups, leave it as ours.

    Of a group one is raised: ours where there is one (it was the conclusion, the rest its echo).
    What is neither foreign nor ours is a bug, and leaves it as it is.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        found = list(leaves(group))
        if not all(isinstance(leaf, (MarketPrismError, *FOREIGN)) for leaf in found):
            raise
        own = [leaf for leaf in found if isinstance(leaf, MarketPrismError)]
        raise (own[0] if own else _ours(found[0], host, judge)) from group
    except FOREIGN as error:
        raise _ours(error, host, judge) from error


def _ours(error: BaseException, host: str, judge: Judge) -> MarketPrismError:
    if isinstance(error, ConnectionRejected):
        answer = _answer(error)
        return rejected(host, answer.status, judge(answer))
    root = _root(error)
    text = f"{host}: {words(root)}"
    return Refused(text) if isinstance(root, ssl.SSLCertVerificationError) else Lost(text)


def words(error: BaseException) -> str:
    """What a foreign error of a connection means, in plain words."""
    root = _root(error)
    for kind, said in _WORDS.items():
        if isinstance(root, kind):
            return said.format(error=_text(root))
    return _text(root)


def _answer(error: ConnectionRejected) -> HttpAnswer:
    headers = {
        name.decode("latin-1").lower(): text.decode("latin-1") for name, text in error.headers or ()
    }
    return HttpAnswer(error.status_code, headers, error.body or b"")


def rejected(host: str, status: int, meaning: Meaning) -> MarketPrismError:
    """What a websocket handshake means that was answered with an HTTP status."""
    if meaning.stop is not None:
        words = f"{host}: too many connections, {worded(status, meaning)}"
        return RateLimited(words, retry_after=meaning.retry_after)
    if status in FORBIDDEN:
        return Refused(f"{host} refuses us with status {status}")
    return Lost(f"{host} answered the handshake with status {status}")


def _root(error: BaseException) -> BaseException:
    """Libraries wrap: what the operating system or TLS said first is what helps, unless it was
    about the proxy.
    """
    seen = error
    if isinstance(error, python_socks.ProxyConnectionError):
        return error
    while (inner := seen.__cause__ or seen.__context__) is not None:
        seen = next(leaves(inner))
        if isinstance(seen, OSError) and type(seen) is not OSError:
            return seen
    return error


def _text(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


_WORDS: dict[type[Exception], str] = {
    trio.TooSlowError: "no connection in time",
    socket.gaierror: "its name cannot be resolved ({error})",
    ssl.SSLCertVerificationError: "its certificate is not to be trusted ({error})",
    ConnectionRefusedError: "it refuses the connection",
    ConnectionResetError: "it reset the connection",
    python_socks.ProxyError: "the proxy failed ({error})",
    python_socks.ProxyConnectionError: "the proxy cannot be reached ({error})",
    python_socks.ProxyTimeoutError: "the proxy does not answer",
    ConnectionClosed: "the connection was closed ({error})",
    ConnectionRejected: "it rejected the handshake",
    wsproto.utilities.ProtocolError: "it broke the websocket protocol ({error})",
    h11.ProtocolError: "it broke the HTTP protocol ({error})",
    # A header of the handshake that is no ASCII: wsproto does not mind it.
    UnicodeDecodeError: "it broke the HTTP protocol ({error})",
    trio.BrokenResourceError: "the connection broke ({error})",
    trio.ClosedResourceError: "the connection was closed",
    OSError: "{error}",
}
"""The table of the border, special cases before general ones: foreign error → our words."""

FOREIGN = tuple(_WORDS)
"""The errors of others that a connection may end with."""
