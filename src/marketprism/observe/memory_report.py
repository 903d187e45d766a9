"""What holds the memory: counts that are exact, and sizes that are close. Pure.

The sizes beyond the payloads are estimates, measured on CPython 3.11: enough to tell who it is.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from marketprism.board.board import Board
from marketprism.board.rows import MemoryRow
from marketprism.feeds.venue import Holding

MESSAGE_BYTES: Final = 330
"""A message in the outbox, beside its payload."""
LEVEL_BYTES: Final = 150
"""A level of a book: two strings, and its place in a dict."""
HEARD_LEVEL_BYTES: Final = 220
"""A level of an update that waits for a snapshot: two strings in a list."""
LARGE_RECORD_BYTES: Final = 12_000
"""A record in the channel, at most: an update of 50 levels."""


def memory_report(board: Board, kept: Iterable[Holding], used: int) -> dict[str, dict[str, int]]:
    """Who holds what, the largest first; `kept` is what sessions say, `rest` what is left of the
    bytes used.
    """
    books = levels = updates = heard = 0
    for one in kept:
        books += one.books
        levels += one.levels
        updates += one.updates
        heard += one.heard_levels
    outbox = board.outbox
    found: dict[str, dict[str, int]] = {
        "outbox": {
            "bytes": outbox.held_bytes + outbox.held * MESSAGE_BYTES,
            "messages": outbox.held,
        },
        "books": {"bytes": levels * LEVEL_BYTES, "books": books, "levels": levels},
        "buffers": {"bytes": heard * HEARD_LEVEL_BYTES, "updates": updates},
    }
    # Records differ thirtyfold in size, and only counting is cheap.
    rest = max(0, used - held(found))
    found["rest"] = {"bytes": rest, "channel_records": board.channel.held}
    return dict(sorted(found.items(), key=lambda item: -item[1]["bytes"]))


def held(found: Mapping[str, Mapping[str, int]]) -> int:
    """Bytes that holders account for."""
    return sum(each["bytes"] for name, each in found.items() if name != "rest")


def split(found: Mapping[str, dict[str, int]], slack: int) -> dict[str, dict[str, int]]:
    """The same, with what is free to be used again apart from the rest."""
    apart = dict(found)
    rest = apart["rest"]
    apart["rest"] = rest | {"bytes": max(0, rest["bytes"] - slack)}
    apart["slack"] = {"bytes": slack}
    return dict(sorted(apart.items(), key=lambda item: -item[1]["bytes"]))


def in_words(found: Mapping[str, Mapping[str, int]]) -> str:
    """The same as one would say it: `the outbox about 300 MiB (250000 messages), …`."""
    said = []
    for name, holder in found.items():
        counts = [
            f"{count} {what.replace('_', ' ')}"
            for what, count in holder.items()
            if what != "bytes" and count
        ]
        if holder["bytes"]:
            aside = f" ({', '.join(counts)})" if counts else ""
            said.append(f"{_NAMES[name]} about {size_text(holder['bytes'])}{aside}")
    return ", ".join(said)


def high_words(row: MemoryRow) -> str:
    """What /health says of memory that is high."""
    assert row.soft is not None
    of = f" of {size_text(row.limit)}" if row.limit is not None else ""
    words = f"memory is high: {size_text(row.used)}{of}, above {size_text(row.soft)}"
    return f"{words}; {in_words(row.holders)}"


def size_text(size: int) -> str:
    """Bytes in MiB."""
    return f"{size / 2**20:.0f} MiB"


_NAMES: Final = {
    "outbox": "the outbox",
    "books": "order books",
    "buffers": "updates that wait for a snapshot",
    "rest": "the rest of the process",
    "slack": "what Python keeps to use again",
}
