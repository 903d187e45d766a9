"""What is in a block, stream by stream, told apart from it: enough to say what was lost, were the
block never to be read. Pure.
"""

import zlib
from collections.abc import Iterable

import attrs
import msgspec

from marketprism.errors import SpoolDamaged
from marketprism.gaps.ids import Affected, identifying
from marketprism.instruments import Instrument
from marketprism.outbox.peek import affected, peek
from marketprism.records import DataType, Gap, OrderBookRecord, Record, Trade
from marketprism.wire import Message

Kind = tuple[str, str, tuple[str, str, str, str]]
"""Data type, that of the stream, and the names of the instrument."""


class Content(msgspec.Struct, array_like=True, frozen=True):
    """Messages that are stored together, of one stream: its own, or gaps that speak of it."""

    data_type: str
    """Their own."""
    affected: str
    """The stream's."""
    names: tuple[str, str, str, str]
    """What makes its instrument."""
    count: int | None
    """None: it is not known how many; perhaps there is none."""
    size: int
    """Bytes of payload."""
    began: int
    """When the first was collected, or the moment since when it is not known what was lost."""
    ended: int
    """When the last was collected."""
    first_id: int | None = None
    """Of trades and books: the exchange's own id, of the first and of the last."""
    last_id: int | None = None

    @property
    def stream(self) -> Affected:
        """What a gap in their place speaks of."""
        return Instrument(*self.names), DataType(self.affected)

    @property
    def is_gap(self) -> bool:
        """They are gaps: what these told as missing is not known without them."""
        return self.data_type == Gap.data_type

    @property
    def kind(self) -> Kind:
        """What is counted as one."""
        return self.data_type, self.affected, self.names


@attrs.frozen
class LostBlock:
    """What cannot be read: everything between two numbers, as far as that is known."""

    first: int
    last: int
    contents: tuple[Content, ...]


def contents(messages: Iterable[Message]) -> list[Content]:
    """Of these, by kind, in the order of the first of each."""
    found: dict[tuple[str, str], list[Message]] = {}
    for message in messages:
        record = _peeked(message) if message.data_type == Gap.data_type else None
        stream = str(affected(message, record))
        found.setdefault((message.subject, stream), []).append(message)
    return [_content(stream, each) for (_, stream), each in found.items()]


def joined(parts: Iterable[Content]) -> dict[Kind, Content]:
    """All of a kind as one; they are in order. Of ids nothing is said."""
    whole: dict[Kind, Content] = {}
    for part in parts:
        before = whole.get(part.kind)
        if before is not None:
            part = msgspec.structs.replace(
                part,
                count=(before.count or 0) + (part.count or 0),
                size=before.size + part.size,
                began=before.began,
            )
        whole[part.kind] = msgspec.structs.replace(part, first_id=None, last_id=None)
    return whole


def unknown(like: Content, began: int, ended: int) -> Content:
    """Of the same kind, it is not known how many, between two moments."""
    return Content(like.data_type, like.affected, like.names, None, 0, began, max(began, ended))


def pack(found: Iterable[Content]) -> bytes:
    """As they are stored."""
    return _encode(list(found))


def unpack(packed: bytes) -> tuple[Content, ...]:
    """Raises SpoolDamaged when they are not what was packed."""
    try:
        return tuple(_decode(packed))
    except (msgspec.MsgspecError, TypeError) as error:
        raise SpoolDamaged(f"what a block holds is not what was written: {error}") from error


def checksum(first: int, last: int, packed: bytes) -> int:
    """Of all that is stored of a block's contents."""
    return zlib.crc32(packed, zlib.crc32(f"{first} {last}".encode()))


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Content]).decode


def _content(stream: str, messages: list[Message]) -> Content:
    first, last = messages[0], messages[-1]
    head, tail = _peeked(first), _peeked(last)
    return Content(
        str(first.data_type),
        stream,
        identifying(first.instrument),
        len(messages),
        sum(len(message.payload) for message in messages),
        head.collected_at,
        tail.collected_at,
        _id(head, first=True),
        _id(tail, first=False),
    )


def _peeked(message: Message) -> Record:
    try:
        return peek(message)
    except (msgspec.MsgspecError, ValueError):  # whatever it is, it is kept
        return Record(message.instrument, None, 0)


def _id(record: Record, *, first: bool) -> int | None:
    match record:
        case Trade(trade_id=number):
            return int(number) if number.isdecimal() else None
        case OrderBookRecord(update_type="update", first_update_id=int(number)) if first:
            return number
        case OrderBookRecord(last_update_id=number):
            return number
    return None
