"""What of a damaged spool can still be had, block by block, and what is lost with the others.

A block that cannot be read costs what was in it and nothing else. What that was stands apart from
it (`contents`); where that is gone as well, it may have been of any stream that has messages
elsewhere in the file, but for those whose ids go on over the hole. Blocking, as the spool is.
"""

import bisect
import contextlib
import sqlite3
from collections.abc import Iterable, Iterator

import attrs

from marketprism.errors import SpoolDamaged
from marketprism.gaps.ids import Affected
from marketprism.outbox.contents import Content, LostBlock, contents, unknown
from marketprism.outbox.former_format import untold
from marketprism.outbox.spool_errors import BLOCKS, CONTENTS, concluded, told_apart
from marketprism.outbox.stored_blocks import MOST_MESSAGES, StoredBlock

_MOST_NUMBERS = 2 * MOST_MESSAGES
"""That a block may have; ours are even."""


@attrs.frozen
class Found:
    """All that can be said of a damaged file."""

    keys: list[int]
    """Of the blocks that can be read, in the order of what is in them."""
    lost: list[LostBlock]


@attrs.frozen
class _Span:
    """The numbers from one to another, and what they are of."""

    first: int
    last: int
    contents: tuple[Content, ...]


def look(damaged: sqlite3.Connection, floor: int) -> Found:
    """Look at all of it. What lies below `floor` is not held any more."""
    apart = {span.first: span for span in _apart(damaged) if span.last >= floor}
    good: dict[int, _Span] = {}
    unreadable: set[int] = set()
    # Where the way from one to the next is broken, each may still be found by its number.
    for key in {*_keys(damaged), *apart}:
        if (block := _block(damaged, key)) is None:
            unreadable.add(key)
        elif block.last >= floor:
            span = apart.get(block.first)
            if span is None or span.last != block.last:
                told = contents(message for _, message in block.messages())
                span = _Span(block.first, block.last, tuple(told))
            good[key] = span
    keys, spans = _in_order(good)
    bad = unreadable - {span.first for span in spans}
    lost = [apart[number] for number in sorted(bad & apart.keys())]
    lost = [span for span in lost if not _overlaps(span, spans)]
    unknown = [number for number in bad - apart.keys() if number >= floor]
    holes = _holes(unknown, sorted([*spans, *lost], key=_first), floor)
    known = [LostBlock(span.first, span.last, span.contents) for span in lost]
    return _with_room(Found(keys, [*untold(damaged), *known, *holes]), spans)


def _with_room(found: Found, spans: list[_Span]) -> Found:
    """The same, where each lost block had a number for the gap of each of its streams: one that
    nobody knows anything of may not, and then takes what lies behind it along, or before it.
    """
    near = dict(zip(found.keys, spans, strict=True))
    lost = []
    for block in found.lost:
        while len({each.stream for each in block.contents}) > block.last - block.first + 1 and near:
            key = min(near, key=lambda key: (near[key].first < block.first, near[key].first))
            span = near.pop(key)
            first, last = min(block.first, span.first), max(block.last, span.last)
            block = LostBlock(first, last, (*block.contents, *span.contents))
        lost.append(block)
    return Found([key for key in found.keys if key in near], lost)


def readable_blocks(damaged: sqlite3.Connection, keys: Iterable[int]) -> Iterator[StoredBlock]:
    """Those of these keys, under the numbers that are right."""
    for key in keys:
        if (block := _block(damaged, key)) is not None:
            yield block


def _block(damaged: sqlite3.Connection, key: int) -> StoredBlock | None:
    with contextlib.suppress(SpoolDamaged), concluded():
        row = damaged.execute(f"{BLOCKS} WHERE first = ?", (key,)).fetchone()
        if row is not None:
            return StoredBlock(*row).numbered()
    return None


def _keys(damaged: sqlite3.Connection) -> set[int]:
    """Of the blocks, as far as they can be found: from the beginning on, and from the end back."""
    found: set[int] = set()
    for order in ("ASC", "DESC"):
        with contextlib.suppress(SpoolDamaged), concluded():
            for (key,) in damaged.execute(f"SELECT first FROM blocks ORDER BY first {order}"):
                if isinstance(key, int):
                    found.add(key)
    return found


def _apart(damaged: sqlite3.Connection) -> Iterator[_Span]:
    """What is told apart from its block, as far as it is what was written."""
    for order in ("ASC", "DESC"):
        with contextlib.suppress(SpoolDamaged), concluded():
            for row in damaged.execute(f"{CONTENTS} ORDER BY first {order}"):
                with contextlib.suppress(SpoolDamaged):
                    yield _Span(*told_apart(*row))


def _in_order(good: dict[int, _Span]) -> tuple[list[int], list[_Span]]:
    """The keys and the spans in the order of their numbers, no two of them overlapping."""
    keys: list[int] = []
    spans: list[_Span] = []
    for key, span in sorted(good.items(), key=lambda item: item[1].first):
        if not spans or span.first > spans[-1].last:
            keys.append(key)
            spans.append(span)
    return keys, spans


def _overlaps(span: _Span, spans: list[_Span]) -> bool:
    """Whether it overlaps one of these, which are in order."""
    at = bisect.bisect_right(spans, span.last, key=_first)
    return at > 0 and spans[at - 1].last >= span.first


def _first(span: _Span) -> int:
    return span.first


def _holes(unknown: list[int], spans: list[_Span], floor: int) -> list[LostBlock]:
    """What may have been in blocks of which there is only a number: one for all between two
    neighbours.
    """
    places = sorted({bisect.bisect_right(spans, number, key=_first) for number in unknown})
    return [hole for at in places if (hole := _hole(spans[:at], spans[at:], floor)) is not None]


def _hole(before: list[_Span], after: list[_Span], floor: int) -> LostBlock | None:
    if not before and not after:
        return None
    first = before[-1].last + 1 if before else min(max(1, floor), after[0].first)
    last = after[0].first - 1 if after else first + _MOST_NUMBERS
    if last < first:
        return None  # its number was wrong, and is another's
    lately = max((content.ended for content in before[-1].contents), default=0) if before else 0
    told = []
    for stream, content in _joined([*after, *before]).items():
        head, tail = _nearest(reversed(before), stream), _nearest(after, stream)
        if _goes_on(head, tail):
            continue
        began = head.ended if head is not None else lately or content.began
        told.append(unknown(content, began, began if tail is None else tail.began))
    return LostBlock(first, last, tuple(told))


def _joined(spans: Iterable[_Span]) -> dict[Affected, Content]:
    """Something of each stream."""
    return {each.stream: each for span in spans for each in span.contents if not each.is_gap}


def _nearest(spans: Iterable[_Span], stream: Affected) -> Content | None:
    """What the first of these that has something of a stream has of it."""
    for span in spans:
        for content in span.contents:
            if content.stream == stream and not content.is_gap:
                return content
    return None


def _goes_on(head: Content | None, tail: Content | None) -> bool:
    """Whether the ids of both say that nothing lies between them."""
    if head is None or tail is None or head.last_id is None or tail.first_id is None:
        return False
    return tail.first_id == head.last_id + 1
