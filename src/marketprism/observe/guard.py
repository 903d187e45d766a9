"""One connection to a page, that ends in its time and takes nothing with it.

hypercorn 0.18 on Trio lets whatever escapes one connection end the whole server and its siblings;
one odd request is enough. What escapes a `Guard` is counted on the board, and costs that connection
only.
"""

from http import HTTPStatus
from typing import Any

import attrs
import structlog
import trio
from h11 import Request
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from marketprism.board.board import Board
from marketprism.errors import leaves
from marketprism.observe.admission import Admission
from marketprism.observe.host_header import OwnNames
from marketprism.observe.pages import Answer, App, Scope, say

REQUEST_WITHIN = 10.0
"""Seconds that all requests of a connection may take together, each from its head to the end of its
answer, however slowly either is taken."""
HEAD_WITHIN = 5.0
"""Seconds a connection may be without a request: new, slow to ask, or kept alive."""
BODY_MESSAGES = 16
"""Parts of a request's body that are read and dropped before the answer."""
VITAL = "/health"
"""The page that has places of its own: a probe that is not answered has the process restarted."""


log = structlog.get_logger()


class _Http1(H11Protocol):
    """HTTP/1.1 and nothing else: an upgrade to HTTP/2 is ignored, as the standard allows."""

    outputs: trio.Lock

    async def _check_protocol(self, event: Request) -> None:
        if event.target.partition(b"?")[0] == VITAL.encode():
            return
        # One begins at a time, and what else there is to do in this process comes between: those
        # who ask without end make none of it wait for longer than for one of them.
        async with self.outputs:
            await trio.lowlevel.checkpoint()


@attrs.frozen
class Server:
    """What all connections of one server share."""

    app: App
    config: Config
    context: WorkerContext
    board: Board
    names: OwnNames
    admission: "Admission[Guard]"
    doors: trio.Lock = attrs.field(factory=trio.Lock)
    """Whose connection begins."""
    outputs: trio.Lock = attrs.field(factory=trio.Lock)
    """Whose request begins."""

    def give_way(self) -> bool:
        """End a connection that has no whole request; whether there is one."""
        guard = self.admission.evict()
        if guard is not None:
            guard.give_way()
        return guard is not None

    def dismiss(self) -> None:
        """End all connections that have no whole request."""
        while (guard := self.admission.evict()) is not None:
            guard.leave()

    def count(self, kind: str, error: BaseException | None = None) -> None:
        """One more fault that was survived."""
        kind = f"http: {kind}"
        self.board.faults[kind] += 1
        if self.board.faults[kind] == 1:  # whoever can cause one can cause a million
            log.warning("server.fault_survived", kind=kind, exc_info=error)


class Guard(TCPServer):
    """One connection. It ends in its time, and nothing but a cancellation leaves it."""

    def __init__(self, server: Server, stream: trio.SocketStream) -> None:
        # The annotation knows only TLS; run() tells the two apart itself.
        super().__init__(self._call, server.config, server.context, ConnectionState({}), stream)  # type: ignore[arg-type]
        self._server = server
        self._address = _address(stream)
        self._patience = trio.CancelScope()
        self._fault: str | None = "request took too long"
        """Why its patience ended; None: that was nobody's fault."""
        self._budget = REQUEST_WITHIN
        self._asking_since: float | None = None
        self._left = False

    async def run(self) -> None:
        try:
            self._wait()
            with self._patience:
                await self._enter()
                await super().run()
            if self._patience.cancelled_caught and self._fault is not None:
                self._server.count(self._fault)
        except BaseExceptionGroup as group:
            survived, rest = group.split(Exception)
            if survived is not None:
                self._survived(survived)
            if rest is not None:
                raise rest from None
        except Exception as error:
            self._survived(error)
        finally:
            self._server.admission.leave(self)

    def leave(self) -> None:
        """End at once: nothing is amiss."""
        self._end(None)

    async def _enter(self) -> None:
        """Wait for it to speak, and for its turn: until then it costs next to nothing."""
        with trio.move_on_after(HEAD_WITHIN) as silent:
            await trio.lowlevel.wait_readable(self.stream.socket)
            async with self._server.doors:
                await trio.lowlevel.checkpoint()
        if silent.cancelled_caught:
            self._end(None)

    def give_way(self) -> None:
        """End at once: others need the place."""
        self._end("gave way to others")

    def _end(self, fault: str | None) -> None:
        if not self._patience.cancel_called:
            self._fault = fault
        self._patience.cancel()

    def _wait(self) -> None:
        """It has no whole request, from now on."""
        if (other := self._server.admission.wait(self, self._address)) is not None:
            other.give_way()

    async def _call(self, scope: Any, receive: Any, send: Any, *_: object) -> None:
        """Run the application; hypercorn answers for it with 500 where it raised early."""
        try:
            if scope["type"] == "http":
                # An answer before the end of the body would be lost in the reset that follows.
                for _part in range(BODY_MESSAGES):
                    if not (await receive()).get("more_body"):
                        break
                if (refusal := self._refusal(scope)) is not None:
                    await say(send, refusal, scope["method"])
                    return
            await self._server.app(scope, receive, send)
        except Exception as error:
            self._survived(error)

    def _refusal(self, scope: Scope) -> Answer | None:
        """Why a request that is whole is not answered; None: it is, and has its place."""
        if not self._server.names.mean_us(scope["headers"]):
            return Answer.error(HTTPStatus.MISDIRECTED_REQUEST)
        admission = self._server.admission
        if scope["path"] == VITAL:
            if (other := admission.ask_vital(self)) is not None:
                other.give_way()
            return None
        if admission.ask(self):
            return None
        self._server.count("too many requests at once")
        again = (("retry-after", "1"), ("connection", "close"))
        return Answer.error(HTTPStatus.SERVICE_UNAVAILABLE, *again)

    async def _read_data(self) -> None:
        plain = self.protocol.protocol
        assert isinstance(plain, H11Protocol)
        self.protocol.protocol = protocol = _Http1(
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
        protocol.outputs = self._server.outputs
        await super()._read_data()
        # hypercorn would keep what the other side has left until the idle time is over.
        self._left = True
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        """Send, under a deadline. hypercorn shields its sends: a client that does not read would
        hold up the end of the process. It also goes on with what a client has asked that has gone.
        """
        if isinstance(event, RawData):
            async with self.send_lock:
                try:
                    await self.stream.send_all(event.data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self._end(None)
            return
        if isinstance(event, Updated):
            self._tell_time(idle=event.idle)
            if event.idle:
                self._wait()
                if self._left:
                    return
        await super().protocol_send(event)
        if isinstance(event, Closed):
            self._end(None)  # hypercorn would wait for the requests that it does not read any more

    def _tell_time(self, *, idle: bool) -> None:
        """A request begins, or is answered: what it took is gone for those after it."""
        now = trio.current_time()
        if self._asking_since is not None:
            self._budget -= now - self._asking_since
        self._asking_since = None if idle else now
        self._patience.deadline = float("inf") if idle else now + self._budget

    def _survived(self, error: BaseException) -> None:
        for leaf in leaves(error):
            self._server.count(type(leaf).__name__, leaf)


def _address(stream: trio.SocketStream) -> str:
    """Where the other side is; empty where it has gone already."""
    try:
        return str(stream.socket.getpeername()[0])
    except (OSError, IndexError):
        return ""
