"""Blocks of messages as the spool writes, checks and reads them.

A block costs the database as much as one message would; the interpreter's lock changes hands once
for each, and not for each message, so that a busy event loop does not starve the writing thread.
"""

import contextlib
import zlib
from collections.abc import Iterator, Sequence

import attrs
import msgspec

from marketprism.errors import SpoolDamaged
from marketprism.instruments import Instrument
from marketprism.outbox.block import Numbered
from marketprism.outbox.contents import contents, pack
from marketprism.wire import Message

MOST_MESSAGES = 1000
MOST_BYTES = 1 << 20


class _Stream(msgspec.Struct, array_like=True, frozen=True):
    subject: str
    data_type: str
    exchange: str
    market_type: str
    symbol: str
    native_id: str


class _Body(msgspec.Struct, array_like=True):
    streams: list[_Stream]
    rows: list[tuple[int, int, str, bytes]]
    """Number, stream, message id, payload."""
    gap_pending: list[int]
    """The places of the rows that are."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Body).decode


@attrs.frozen
class StoredBlock:
    """Messages that follow one another, as they are stored."""

    first: int
    last: int
    checksum: int
    body: bytes
    contents: bytes | None = None
    """What is in it, as `contents.pack` has it, where it was just made."""

    @classmethod
    def of(cls, batch: Sequence[Numbered]) -> "StoredBlock":
        """The block of at least one message."""
        streams: dict[str, int] = {}
        told: list[_Stream] = []
        rows = []
        for number, message in batch:
            place = streams.get(message.subject)
            if place is None:
                place = streams[message.subject] = len(told)
                instrument = message.instrument
                told.append(
                    _Stream(
                        message.subject,
                        str(message.data_type),
                        instrument.exchange,
                        instrument.market_type,
                        instrument.symbol,
                        instrument.native_id,
                    )
                )
            rows.append((number, place, message.msg_id, message.payload))
        gap_pending = [at for at, (_, message) in enumerate(batch) if message.gap_pending]
        body = _encode(_Body(told, rows, gap_pending))
        told_apart = pack(contents(message for _, message in batch))
        return cls(batch[0][0], batch[-1][0], zlib.crc32(body), body, told_apart)

    def check(self) -> None:
        """Raises SpoolDamaged when it is not what was written."""
        self._read()

    def numbered(self) -> "StoredBlock":
        """The same under the numbers that its body says, which are right where the body is. Raises
        SpoolDamaged where that is not.
        """
        body = self._body()
        return attrs.evolve(self, first=body.rows[0][0], last=body.rows[-1][0])

    def _read(self) -> _Body:
        body = self._body()
        if (body.rows[0][0], body.rows[-1][0]) == (self.first, self.last):
            return body
        raise SpoolDamaged(f"block {self.first} is not what was written")

    def _body(self) -> _Body:
        # What type each of them has may be garbled as well.
        with contextlib.suppress(msgspec.MsgspecError, TypeError):
            if zlib.crc32(self.body) == self.checksum:
                return _decode(self.body)
        raise SpoolDamaged(f"block {self.first} is not what was written")

    def messages(self) -> list[Numbered]:
        """What it holds. Raises SpoolDamaged when it is not what was written."""
        body = self._read()
        streams = [
            (each, Instrument(each.exchange, each.market_type, each.symbol, each.native_id))
            for each in body.streams
        ]
        messages = []
        for number, place, msg_id, payload in body.rows:
            stream, instrument = streams[place]
            message = Message(stream.subject, msg_id, payload, instrument, stream.data_type)
            messages.append((number, message))
        for at in body.gap_pending:
            messages[at][1].gap_pending = True
        return messages


def cut(
    batch: Sequence[Numbered], most: int = MOST_MESSAGES, most_bytes: int = MOST_BYTES
) -> Iterator[StoredBlock]:
    """The same messages in blocks; a message larger than `most_bytes` has one of its own."""
    begin = size = 0
    for at, (_, message) in enumerate(batch):
        length = len(message.payload)
        if at > begin and (size + length > most_bytes or at - begin >= most):
            yield StoredBlock.of(batch[begin:at])
            begin, size = at, 0
        size += length
    if begin < len(batch):
        yield StoredBlock.of(batch[begin:])
