"""OKX's recordings, brought to what OKX sends today.

Those of 2021 and 2022 are of before `seqId`: a chain of numbers is made up for each instrument, and
appended to each message's own text. The channel `books-l2-tbt` is served as `books`, which had the
same messages. All else stays as recorded, level by level, the checksums among it.
"""

import re
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from .capture import Line
from .events import Level, Message, Snapshot, Update
from .okx_words import stream_name

MADE_UP = "seqId and prevSeqId are made up: they were recorded before there were any"

_OLD_CHANNEL = re.compile(r'"channel":"books-l2-tbt"')
_END = re.compile(r"\}\]\}$")
_FIRST_ID = 1_000_000
_KINDS = {
    "trades": "trade",
    "funding-rate": "funding_rate",
    "open-interest": "open_interest",
    "liquidation-orders": "liquidation",
}


class _Arg(msgspec.Struct):
    channel: str
    instId: str = ""  # noqa: N815
    instType: str = ""  # noqa: N815


class _Book(msgspec.Struct):
    asks: list[tuple[str, str, str, str]] = []
    bids: list[tuple[str, str, str, str]] = []
    ts: str = "0"
    seqId: int | None = None  # noqa: N815
    prevSeqId: int = -1  # noqa: N815


class _Push(msgspec.Struct):
    arg: _Arg
    data: msgspec.Raw
    action: str | None = None


def numbered(lines: Sequence[Line]) -> tuple[list[Line], str | None]:
    """The lines with a chain of ids in all books that have none; what was made up, in words."""
    last: defaultdict[str, int] = defaultdict(lambda: _FIRST_ID)
    made_up = None
    found: list[Line] = []
    for line in lines:
        push = _read(line.raw) if line.kind == "recv" else None
        if push is None or push.action is None:
            found.append(line)
            continue
        raw = _OLD_CHANNEL.sub('"channel":"books"', line.raw, count=1)
        if _book(push).seqId is None:
            made_up = MADE_UP
            before = last[push.arg.instId]
            # The numbers jump, as those of OKX do.
            last[push.arg.instId] = before + 7 + len(raw) % 5
            previous = -1 if push.action == "snapshot" else before
            chain = f',"seqId":{last[push.arg.instId]},"prevSeqId":{previous}}}]}}'
            raw = _END.sub(chain, raw)
        found.append(msgspec.structs.replace(line, raw=raw))
    return found, made_up


def recorded(raw: str) -> Message | None:
    """A push; None for acknowledgements and the like. A book must have its ids by now."""
    push = _read(raw)
    if push is None:
        return None
    channel, symbol = push.arg.channel, push.arg.instId
    stream = stream_name(channel, symbol or push.arg.instType)
    if push.action is None:
        return Message(stream, symbol or push.arg.instType, _KINDS.get(channel, "other"), raw)
    book = _book(push)
    if book.seqId is None:
        return None
    bids, asks, time = _levels(book.bids), _levels(book.asks), int(book.ts)
    if push.action == "snapshot":
        snapshot = Snapshot(symbol, book.seqId, bids, asks, None, time)
        return Message(stream, symbol, "snapshot", raw, None, snapshot)
    update = Update(symbol, book.prevSeqId + 1, book.seqId, bids, asks, time)
    return Message(stream, symbol, "orderbook", raw, update)


def _read(raw: str) -> _Push | None:
    try:
        return msgspec.json.decode(raw, type=_Push)
    except msgspec.ValidationError:
        return None


def _book(push: _Push) -> _Book:
    (book,) = msgspec.json.decode(push.data, type=list[_Book])
    return book


def _levels(levels: list[tuple[str, str, str, str]]) -> list[Level]:
    return [(price, size) for price, size, *_ in levels]
