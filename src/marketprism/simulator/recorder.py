"""What a recorder would have written of a seeded market: a capture without an exchange."""

import msgspec

from .capture import Line
from .events import Message
from .market import Market
from .skin import Skin


def record(
    market: Market,
    seconds: float,
    skin: Skin,
    *,
    start_ms: int = 1_700_000_000_000,
    snapshot_after: float = 1.0,
    limit: int = 1_000,
) -> list[str]:
    """What a recorder connected to all streams of this market would have written.

    Pure, so the same seed gives the same lines. A symbol's book is fetched once, `snapshot_after`
    seconds in: as on the real exchange, it may contain changes not told on the stream yet.
    """
    # An odd step lets snapshots fall inside a batch of book changes.
    step = 30
    lines: list[Line] = []
    streams: dict[str, None] = {}
    fetched = False
    market.step(start_ms)
    for symbol in market.symbols:
        book = skin.book(market.told(symbol))
        if book is not None:
            lines.append(_received(start_ms, book, skin))
    for elapsed in range(step, int(seconds * 1_000) + 1, step):
        now = start_ms + elapsed
        for event in market.step(now):
            for message in skin.messages(event):
                streams[message.stream] = None
                lines.append(_received(event.time, message, skin))
        if not fetched and elapsed >= snapshot_after * 1_000:
            fetched = True
            for symbol in market.symbols:
                raw = skin.depth_text(market.snapshot(symbol, limit))
                lines.append(Line(_seconds(now), "http", skin.depth_url(symbol, limit), raw))
    connect = Line(_seconds(start_ms), "connect", skin.stream_url(streams))
    return [msgspec.json.encode(line).decode() for line in (connect, *lines)]


def _received(time: int, message: Message, skin: Skin) -> Line:
    return Line(_seconds(time), "recv", raw=skin.envelope(message.stream, message.text))


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds // 1_000}.{milliseconds % 1_000:03d}"
