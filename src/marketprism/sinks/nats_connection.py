"""One connection to NATS: what it is asked and told, and what its errors mean."""

import asyncio
import math
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

import attrs
import msgspec
import nats.errors
import structlog
import trio
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.transport import TcpTransport
from trio_asyncio import aio_as_trio

from marketprism.board.board import Board
from marketprism.errors import SinkLost, SinkRefused, SinkState
from marketprism.outbox.outbox import Numbered, Outbox
from marketprism.redaction import redact
from marketprism.resume import last_message
from marketprism.resume.positions import Positions
from marketprism.settings import credentials
from marketprism.settings.nats import NatsConfig
from marketprism.sinks import stream_age
from marketprism.sinks.jetstream import Ensured, ensure_stream
from marketprism.sinks.nats_errors import conclude
from marketprism.sinks.nats_questions import Questions
from marketprism.sinks.oversize import Oversize
from marketprism.sinks.publishing import Conclusion, Publishing

log = structlog.get_logger()

T = TypeVar("T")

_PORT = 4222
_SECOND_THOUGHT = 1.0
_HUNG_UP = (
    ssl.SSLError,
    ConnectionError,
    nats.errors.UnexpectedEOF,
    nats.errors.ConnectionClosedError,
)


class _Client(Client):
    """Hands no credentials to a server that has no TLS where there must be."""

    secure = False

    def _connect_command(self) -> bytes:
        if self.secure and not self._server_info.get("tls_required"):
            raise nats.errors.SecureConnRequiredError
        return super()._connect_command()


@attrs.define(eq=False)
class NatsConnection:
    """One connection to one server, from dial to death."""

    url: str = attrs.field(repr=redact)
    config: NatsConfig
    board: Board
    publishing: Publishing
    client: _Client = attrs.field(factory=_Client)
    stream: Ensured | None = None
    last_error: BaseException | None = None
    """What the client told about last, before it gave up."""

    @classmethod
    def to(
        cls,
        url: str,
        config: NatsConfig,
        board: Board,
        oversize: Oversize,
        out_of_order: set[str],
    ) -> "NatsConnection":
        """One that is not dialled yet; what it shares with those before it comes along."""
        publishing = Publishing(config, board, redact(url), oversize, out_of_order=out_of_order)
        return cls(url, config, board, publishing)

    @property
    def target(self) -> str:
        return self.publishing.target

    # The client's callbacks. They run in asyncio; one that raised would leave the client deaf.

    async def _on_error(self, error: Exception) -> None:
        self.last_error = error
        if isinstance(conclusion := self._concluded(error), SinkRefused):
            self.publishing.fail(conclusion)

    async def _on_closed(self) -> None:
        self.publishing.fail(self._concluded(self.client.last_error or self.last_error))

    async def _on_answer(self, answer: Msg) -> None:
        self.publishing.answer(int(answer.subject.rpartition(".")[2]), answer.data)

    # From here on it is Trio's side.

    async def open(self) -> Ensured:
        """Connect and see to the stream. Raises SinkLost or SinkRefused."""
        row = self.board.sink
        row.target = self.target
        for step, state in (
            (self._connect, SinkState.UNREACHABLE),
            (self._see_to_stream, SinkState.STALLED),
        ):
            # The client has limits of its own, but a few in a row.
            with trio.move_on_after(self.config.connect_timeout) as patience:
                await step()
            if patience.cancelled_caught:
                limit = f"{self.config.connect_timeout:g} s"
                raise self._end(SinkLost(f"no answer from {self.target} within {limit}", state))
        row.connected = True
        row.connects += 1
        after = row.after(trio.current_time())
        log.info("sink.connected", target=self.target, stream=self.config.stream.name, **after)
        assert self.stream is not None
        return self.stream

    def _concluded(self, error: BaseException | None) -> Conclusion:
        """What an error means, told by a server that checks certificates too: it hangs up on one it
        does not accept, and we may be talking when it says why.
        """
        checks = self.stream is None and self.client._server_info.get("tls_verify")
        theirs = isinstance(error, ssl.SSLCertVerificationError)
        if not checks or theirs or not (error is None or isinstance(error, _HUNG_UP)):
            return conclude(error, self.target)
        ours = "does not accept our certificate" if self.config.tls.cert_file else "wants one of us"
        words = f"{self.target} checks certificates and {ours} (nats.tls.cert_file)"
        return SinkRefused(words, SinkState.UNAUTHORISED)

    def _end(self, conclusion: Conclusion) -> Conclusion:
        """What a callback recorded says more than what failed because of it."""
        return self.publishing.failure or conclusion

    async def _connect(self) -> None:
        parts = urlsplit(self.url)
        host, port = parts.hostname or "localhost", parts.port or _PORT
        try:
            login = credentials.login(self.config, self.url)
            tls = credentials.tls_context(self.config.tls)
        except credentials.Unusable as error:
            raise SinkRefused(str(error), SinkState.UNAUTHORISED) from error
        self.client.secure = tls is not None or parts.scheme == "tls"
        options: dict[str, Any] = {**login.options}
        if tls is not None:
            options["tls"] = tls
        try:
            # Here and not in asyncio, where a slow resolver could not be cancelled.
            found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            await aio_as_trio(self.client.connect)(
                [_at(parts, str(address[0]), port) for *_, address in found],
                name="marketprism",
                tls_hostname=host,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=math.ceil(self.config.connect_timeout),
                ping_interval=5,
                max_outstanding_pings=2,
                dont_randomize=True,
                skip_subject_validation=True,
                error_cb=self._on_error,
                closed_cb=self._on_closed,
                **options,
            )
        except nats.errors.NoServersError as error:
            raise self._concluded(self.last_error or error) from error
        except (nats.errors.Error, OSError, TimeoutError, ValueError) as error:
            raise self._concluded(self._unread() or error) from error

    def _unread(self) -> nats.errors.Error | None:
        """What the server said before it hung up on what we were saying."""
        transport = self.client._transport
        if isinstance(transport, TcpTransport) and transport._io_reader is not None:
            buffered = bytes(getattr(transport._io_reader, "_buffer", b""))
            if found := re.search(rb"-ERR '([^'\r\n]*)'", buffered):
                return nats.errors.Error(f"nats: {found[1].decode(errors='replace')}")
        return None

    async def _see_to_stream(self) -> None:
        try:
            self.stream = await ensure_stream(self.config.stream, self._ask)
        except msgspec.MsgspecError as error:
            raise SinkLost(f"{self.target} does not answer as JetStream does") from error

    async def _ask(self, question: str, content: object) -> bytes:
        request = aio_as_trio(self.client.request)
        subject, body = f"$JS.API.{question}", msgspec.json.encode(content)
        limit = self.config.connect_timeout
        try:
            try:
                answer = await request(subject, body, timeout=limit)
            except nats.errors.NoRespondersError:
                # A server that is going down says so too; one that stays means it.
                await trio.sleep(_SECOND_THOUGHT)
                answer = await request(subject, body, timeout=limit)
        except nats.errors.NoRespondersError as error:
            words = f"{self.target} has no JetStream enabled"
            raise self._end(SinkRefused(words, SinkState.NO_JETSTREAM)) from error
        except (nats.errors.Error, OSError) as error:
            raise self._end(self._concluded(error)) from error
        return bytes(answer.data)

    async def deliver(self, outbox: Outbox, positions: Positions | None) -> None:
        """Publish until the outbox is drained. Raises SinkLost or SinkRefused."""
        inbox = self.client.new_inbox()

        async def listen() -> None:
            await self.client.subscribe(f"{inbox}.*", cb=self._on_answer)

        async def hand_over(batch: Sequence[Numbered]) -> None:
            publish, task = self.client.publish, asyncio.current_task()
            assert task is not None
            for sequence, message in batch:
                headers = {"Nats-Msg-Id": message.msg_id}
                await publish(message.subject, message.payload, f"{inbox}.{sequence}", headers)
                if task.cancelling():  # the client swallows it while a slow server keeps it waiting
                    raise asyncio.CancelledError

        async def send(batch: Sequence[Numbered]) -> None:
            await self._crossing(hand_over, batch)

        async def pulse() -> None:
            await self._crossing(self.client.flush, math.ceil(2 * self.config.ack_timeout))

        await self._crossing(listen)
        largest = self.client.max_payload
        if self.stream is not None and self.stream.max_msg_size is not None:
            largest = min(largest, self.stream.max_msg_size)
        failure: Conclusion | None = None
        async with trio.open_nursery() as nursery:
            row = self.board.sink
            nursery.start_soon(stream_age.watch, self._ask, self.config.stream.name, row)
            try:
                await self.publishing.run(
                    outbox, send, largest, self._last, positions, pulse, self._earlier
                )
            except (SinkLost, SinkRefused) as conclusion:
                failure = conclusion
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _last(self, subjects: Sequence[str]) -> dict[str, last_message.Stored]:
        """See `last_message.Last`."""
        return self._told(await aio_as_trio(self._questions.last)(subjects))

    async def _earlier(
        self, messages: Sequence[last_message.Stored]
    ) -> dict[str, list[last_message.Stored]]:
        """See `last_message.Earlier`."""
        return self._told(await aio_as_trio(self._questions.earlier)(messages))

    @property
    def _questions(self) -> Questions:
        return Questions(self.client, self.config.stream.name, self.config.connect_timeout)

    def _told(self, answers: Mapping[str, T | BaseException]) -> dict[str, T]:
        """The answers. Raises what an error among them means: SinkLost or SinkRefused."""
        found: dict[str, T] = {}
        for subject, answer in answers.items():
            if isinstance(answer, BaseException):
                lost = answer if isinstance(answer, SinkLost) else self._concluded(answer)
                raise self._end(lost) from answer
            found[subject] = answer
        return found

    async def _crossing(self, function: Callable[..., Awaitable[None]], *arguments: object) -> None:
        try:
            await aio_as_trio(function)(*arguments)
        except (nats.errors.Error, OSError) as error:
            raise self._end(self._concluded(error)) from error

    def drop(self) -> None:
        """Give the connection up at once: closing it in order would wait for a stopped server.

        The client has no way to say so, hence its transport's writer; leaving the loop ends its
        tasks.
        """
        transport = self.client._transport
        if isinstance(transport, TcpTransport) and transport._bare_io_writer is not None:
            transport._bare_io_writer.transport.abort()


def _at(parts: SplitResult, address: str, port: int) -> str:
    """The URL with its host resolved; who we are is told apart from it."""
    host = f"[{address}]" if ":" in address else address
    return f"{parts.scheme}://{host}:{port}"
