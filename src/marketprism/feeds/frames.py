"""The receive path of a websocket: payloads in batches, one list a receive.

`FrameCutter` lies between the TCP or TLS stream and trio-websocket. It cuts complete, unfragmented
text and binary frames straight out of what was received and delivers their payloads; every other
byte — the handshake, control frames, fragments, whatever is malformed — goes on to trio-websocket,
whole frames at a time, which treats it as ever. Frames keep their order.
"""

from collections.abc import Callable

import trio
from trio_websocket import WebSocketConnection
from wsproto import ConnectionType, WSConnection
from wsproto.events import BytesMessage, CloseConnection, TextMessage

RECEIVE_BYTES = 256 * 1024
HEADER_END = b"\r\n\r\n"

Deliver = Callable[[list[bytes]], None]


class FrameCutter(trio.abc.Stream):
    """A stream whose reader gets only what is not an ordinary data frame."""

    def __init__(self, stream: trio.abc.Stream, deliver: Deliver, max_message_bytes: int) -> None:
        self._stream = stream
        self._deliver = deliver
        self._max = max_message_bytes
        self._buffer = bytearray()
        self.whole: list[bytes] = []
        """Messages that trio-websocket put together from fragments, to be delivered at the next
        receive: what is raised within its handlers it may keep to itself.
        """
        self._shaken = False
        """The handshake is over: frames follow."""
        self._fragmented = False
        """A fragmented message is under way: a data frame now would be a violation."""
        self._surrendered = False
        """A frame came that cannot be followed: all that is left is trio-websocket's."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        self.stop()
        await self._stream.aclose()

    def stop(self) -> None:
        """Deliver no more. Behind a frame that could not be read, what comes is not to be taken as
        if that one had not been: the connection ends, and what it lost begins before it.
        """
        self._deliver = _nobody

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes that are not an ordinary data frame; b"" at the end of the stream.

        What `deliver` raises is raised here.
        """
        while True:
            if self.whole:
                messages, self.whole = self.whole, []
                self._deliver(messages)
            if self._surrendered:
                if not self._buffer:
                    return bytes(await self._stream.receive_some(RECEIVE_BYTES))
                rest, self._buffer = bytes(self._buffer), bytearray()
                return rest
            if self._shaken:
                payloads: list[bytes] = []
                rest = self._cut(payloads)
                if payloads:
                    self._deliver(payloads)
                if rest or self._surrendered:
                    if rest:
                        return rest
                    continue
            elif (end := self._buffer.find(HEADER_END)) >= 0:
                self._shaken = True
                head = bytes(self._buffer[: end + len(HEADER_END)])
                del self._buffer[: len(head)]
                # A refusal may have a body, which is no frame.
                self._surrendered = b" 101 " not in head.split(b"\r\n", 1)[0] + b" "
                return head
            elif len(self._buffer) > RECEIVE_BYTES:
                self._surrendered = True
                continue
            data = await self._stream.receive_some(RECEIVE_BYTES)
            if not data:
                return b""
            self._buffer += data

    def _cut(self, payloads: list[bytes]) -> bytes:
        """Move whole data frames from the buffer to `payloads`; the first other frame, when it is
        complete, is the answer.
        """
        buffer, position, size = self._buffer, 0, len(self._buffer)
        rest = b""
        with memoryview(buffer) as view:
            while size - position >= 2:
                head, length = view[position], view[position + 1]
                start = position + 2
                if length == 126:
                    start = position + 4
                    if size < start:
                        break
                    length = int.from_bytes(view[position + 2 : start])
                elif length == 127:
                    start = position + 10
                    if size < start:
                        break
                    length = int.from_bytes(view[position + 2 : start])
                elif length > 127:
                    # Masked, which a server must not do.
                    self._surrendered = True
                    break
                if length > self._max:
                    self._surrendered = True
                    break
                end = start + length
                if size < end:
                    break
                if head in (0x81, 0x82) and not self._fragmented:
                    payload = bytes(view[start:end])
                    if head == 0x82 or payload.isascii() or _is_utf8(payload):
                        payloads.append(payload)
                        position = end
                        continue
                rest = bytes(view[position:end])
                self._follow(head)
                position = end
                break
        del buffer[:position]
        return rest

    def _follow(self, head: int) -> None:
        opcode = head & 0x0F
        if opcode < 0x08:
            self._fragmented = not head & 0x80


def _nobody(_payloads: list[bytes]) -> None:
    """What is delivered to nobody is lost."""


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


class BatchingConnection(WebSocketConnection):
    """A client connection whose messages go to `deliver`, in the task that reads them."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        host: str,
        path: str,
        deliver: Deliver,
        max_message_bytes: int,
    ) -> None:
        self._cutter = FrameCutter(stream, deliver, max_message_bytes)
        super().__init__(
            self._cutter,
            WSConnection(ConnectionType.CLIENT),
            host=host,
            path=path,
            max_message_size=max_message_bytes,
        )

    async def run(self) -> None:
        """Shake hands, then read until the connection ends; `closed` says how it did.

        Raises what `deliver` raises, and `ConnectionRejected` when the handshake is refused.
        """
        await self._reader_task()

    async def opened(self) -> None:
        """Return when the handshake is done."""
        await self._open_handshake.wait()

    async def _handle_message_event(self, event: BytesMessage | TextMessage) -> None:
        """A message that the cutter left to us: in fragments, or over the limit."""
        data = event.data.encode() if isinstance(event.data, str) else bytes(event.data)
        self._message_size += len(data)
        self._message_parts.append(data)
        if self._message_size > self._max_message_size:
            await self._refuse_oversize()
        elif event.message_finished:
            whole = b"".join(part for part in self._message_parts if isinstance(part, bytes))
            self._message_size, self._message_parts = 0, []
            self._cutter.whole.append(whole)

    async def _close_web_socket(self, code: int, reason: str | None = None) -> None:
        """Closed, by whomever: the peer may go on talking until it hangs up."""
        self._cutter.stop()
        await super()._close_web_socket(code, reason)

    async def _refuse_oversize(self) -> None:
        self._message_parts = []
        await self._send(CloseConnection(code=1009, reason="message too big"))
        await self._close_web_socket(1009, f"a message above {self._max_message_size} bytes")
        self._reader_running = False
