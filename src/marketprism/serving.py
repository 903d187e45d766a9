"""Pages over HTTP/1.1, served by hypercorn's connections under a guard of our own.

hypercorn 0.18 on Trio lets whatever escapes one connection end the whole server and its siblings;
one odd request is enough. So the accept loop is ours, and each connection is a `Guard`: what
escapes it is counted on the board, and costs that connection only.
"""

import errno
import socket
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import partial
from http import HTTPStatus
from logging import getLogger
from typing import Any

import attrs
import msgspec
import structlog
import trio
from h11 import Request
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from marketprism.errors import Lost, StartFailed, leaves
from marketprism.status import Board

REQUEST_WITHIN = 10.0
"""Seconds from a request's head to the end of its answer, however slowly either is taken."""
HEAD_WITHIN = 5.0
"""Seconds a connection may be without a request: new, slow to ask, or kept alive."""
GRACE = 1.0
"""Seconds for requests under way when the server is told to stop."""
MAX_CONNECTIONS = 128
"""At once; one more is closed at sight. The exchanges' sockets need file descriptors too."""
MAX_HEAD_BYTES = 8 * 1024
BODY_MESSAGES = 16
"""Parts of a request's body that are read and dropped before the answer."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = structlog.get_logger()


@attrs.frozen
class Answer:
    """What a page says."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def error(cls, status: HTTPStatus, *headers: tuple[str, str]) -> "Answer":
        """That status, in words."""
        return cls(msgspec.json.encode({"error": status.phrase}), status, headers=headers)


class Pages:
    """An ASGI application of pages to be read: GET and HEAD, all else is an error in JSON."""

    def __init__(self, pages: Mapping[str, Callable[[], Answer]]) -> None:
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                # An answer before the end of the body would be lost in the reset that follows.
                for _ in range(BODY_MESSAGES):
                    if not (await receive()).get("more_body"):
                        break
                await _say(send, self._answer(scope["method"], scope["path"]), scope["method"])
            case "websocket":
                refusal = Answer.error(HTTPStatus.FORBIDDEN)
                if "websocket.http.response" in scope.get("extensions", {}):
                    await _say(send, refusal, "GET", "websocket.http.response")
                else:
                    await send({"type": "websocket.close"})
            case "lifespan":
                for _ in ("startup", "shutdown"):
                    await send({"type": f"{(await receive())['type']}.complete"})

    def _answer(self, method: str, path: str) -> Answer:
        if (page := self._pages.get(path)) is None:
            return Answer.error(HTTPStatus.NOT_FOUND)
        if method not in ("GET", "HEAD"):
            return Answer.error(HTTPStatus.METHOD_NOT_ALLOWED, ("allow", "GET, HEAD"))
        return page()


async def _say(send: Send, answer: Answer, method: str, kind: str = "http.response") -> None:
    headers = {
        "content-type": answer.content_type,
        "content-length": str(len(answer.body)),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        **dict(answer.headers),
    }
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": f"{kind}.start", "status": int(answer.status), "headers": encoded})
    await send({"type": f"{kind}.body", "body": b"" if method == "HEAD" else answer.body})


class _Http1(H11Protocol):
    """HTTP/1.1 and nothing else: an upgrade to HTTP/2 is ignored, as the standard allows."""

    async def _check_protocol(self, event: Request) -> None:
        pass


class Guard(TCPServer):
    """One connection. It ends in its time, and nothing but a cancellation leaves it."""

    def __init__(
        self,
        app: App,
        config: Config,
        context: WorkerContext,
        board: Board,
        places: trio.CapacityLimiter,
        stream: trio.SocketStream,
    ) -> None:
        # The annotation knows only TLS; run() tells the two apart itself.
        super().__init__(self._call, config, context, ConnectionState({}), stream)  # type: ignore[arg-type]
        self._app = app
        self._board = board
        self._places = places
        self._patience = trio.CancelScope()
        self._left = False

    async def run(self) -> None:
        try:
            self._places.acquire_on_behalf_of_nowait(self)
        except trio.WouldBlock:
            self._count("too many connections")
            return
        try:
            with self._patience:
                await super().run()
            if self._patience.cancelled_caught:
                self._count("request took too long")
        except BaseExceptionGroup as group:
            survived, rest = group.split(Exception)
            if survived is not None:
                self._survived(survived)
            if rest is not None:
                raise rest from None
        except Exception as error:
            self._survived(error)
        finally:
            self._places.release_on_behalf_of(self)

    async def _call(self, scope: Any, receive: Any, send: Any, *_: object) -> None:
        """Run the application; hypercorn answers for it with 500 where it raised early."""
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            self._survived(error)

    async def _read_data(self) -> None:
        plain = self.protocol.protocol
        assert isinstance(plain, H11Protocol)
        self.protocol.protocol = _Http1(
            plain.app,
            plain.config,
            plain.context,
            plain.task_group,
            plain.connection_state,
            plain.ssl,
            plain.client,
            plain.server,
            plain.send,
        )
        await super()._read_data()
        # hypercorn would keep what the other side has left until the idle time is over.
        self._left = True
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        """Send, under a deadline. hypercorn shields its sends: a client that does not read would
        hold up the end of the process.
        """
        if isinstance(event, RawData):
            async with self.send_lock:
                try:
                    await self.stream.send_all(event.data)
                    return
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
            await self.protocol.handle(Closed())
            return
        if isinstance(event, Updated):
            within = float("inf") if event.idle else REQUEST_WITHIN
            self._patience.deadline = trio.current_time() + within
            if event.idle and self._left:
                return
        await super().protocol_send(event)

    def _survived(self, error: BaseException) -> None:
        for leaf in leaves(error):
            self._count(type(leaf).__name__, leaf)

    def _count(self, kind: str, error: BaseException | None = None) -> None:
        kind = f"http: {kind}"
        self._board.faults[kind] += 1
        if self._board.faults[kind] == 1:  # whoever can cause one can cause a million
            log.warning("server.fault_survived", kind=kind, exc_info=error)


async def serve(
    app: App,
    host: str,
    port: int,
    *,
    board: Board,
    variables: str = "HEALTH_CHECK",
    shutdown: trio.Event | None = None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled, or until `shutdown`: then what is under way has `GRACE` seconds.

    Started with the port, once it is bound; port 0 asks for a free one. `variables` is what the
    environment variables that choose host and port begin with, for the words of an error.

    Raises:
        StartFailed: the address cannot be had.
        Lost: it can no longer be listened to.
    """
    context = WorkerContext(None)
    places = trio.CapacityLimiter(MAX_CONNECTIONS)
    handler = partial(Guard, app, _config(), context, board, places)
    listeners = await _listen(host, port, variables)
    async with trio.open_nursery() as connections:
        try:
            async with trio.open_nursery() as listening:
                listening.start_soon(_accept, handler, listeners, connections)
                task_status.started(listeners[0].socket.getsockname()[1])
                if shutdown is None:
                    await trio.sleep_forever()
                else:
                    await shutdown.wait()
                listening.cancel_scope.cancel()
        finally:
            for listener in listeners:
                listener.socket.close()
        await context.terminated.set()  # what is idle ends now
        connections.cancel_scope.deadline = trio.current_time() + GRACE


async def _accept(
    handler: Callable[[trio.SocketStream], Guard],
    listeners: list[trio.SocketListener],
    connections: trio.Nursery,
) -> None:
    try:
        await trio.serve_listeners(handler, listeners, handler_nursery=connections)
    except* (OSError, trio.ClosedResourceError) as group:
        reason = next(iter(leaves(group)))
        raise Lost(f"connections can no longer be accepted: {reason}") from group


async def _listen(host: str, port: int, variables: str) -> list[trio.SocketListener]:
    """Listeners on the one address that `host` means: the first of IPv4, if there is any, so
    that `localhost` is the same everywhere.
    """
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        address = min(found, key=lambda item: item[0] is not socket.AF_INET)[4][0]
        return await trio.open_tcp_listeners(port, host=str(address))
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


def _config() -> Config:
    config = Config()
    config.errorlog = getLogger("hypercorn")
    config.include_server_header = False
    config.h11_max_incomplete_size = MAX_HEAD_BYTES
    config.keep_alive_timeout = HEAD_WITHIN
    config.read_timeout = round(HEAD_WITHIN)
    return config
