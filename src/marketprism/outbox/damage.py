"""What a damaged disk costs, told in its place. Pure.

A block that cannot be read is a stretch of the log. For each stream that was in it a gap stands in
its place, an entry of the log as any other. A book's updates do not chain behind it: they go with
it until a snapshot comes, and the gap is told ahead of that, which names it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import attrs

from marketprism.board.board import Board
from marketprism.gaps.ids import Affected, GapStarts
from marketprism.gaps.pending import PendingGap
from marketprism.instruments import Instrument
from marketprism.outbox.block import Numbered
from marketprism.outbox.contents import Content, LostBlock
from marketprism.outbox.peek import affected, healing, peek
from marketprism.records import DataType, Gap, OrderBookRecord, Record
from marketprism.wire import Message, encode

WHY = "a part of the spool on disk could not be read"

Origin = tuple[str, str, str]


@attrs.define(eq=False)
class Damage:
    """What was lost, the gaps that say so, and the books that wait for a snapshot since."""

    starts: GapStarts
    dropped: list[Numbered] = attrs.field(factory=list)
    """Updates that went with a block that was lost."""
    _broken: dict[Affected, PendingGap] = attrs.field(factory=dict)
    """Books that no snapshot has come for."""
    _told: list[Gap] = attrs.field(factory=list)
    _lost: Counter[Origin] = attrs.field(factory=Counter)

    def __bool__(self) -> bool:
        """There is a book that waits for a snapshot."""
        return bool(self._broken)

    def lose(self, lost: LostBlock, handed_out: int = 0) -> list[Numbered]:
        """A block cannot be read any more: the gaps in its place, under numbers that it had, but
        for its books. Of what may have been delivered, up to `handed_out`, nobody knows how much is
        lost; nor where gaps are among it.
        """
        by_stream: dict[Affected, list[Content]] = {}
        for content in lost.contents:
            by_stream.setdefault(content.stream, []).append(content)
            self._lost[_origin(content.stream[0], content.data_type)] += content.count or 0
        gaps = []
        for stream, parts in by_stream.items():
            pending = self._pending(stream, parts, known=lost.first > handed_out)
            if pending.affected is DataType.ORDERBOOK:
                self._break(stream, pending)
            else:
                gaps.append(self._tell(pending, max(part.ended for part in parts)))
        return list(enumerate(gaps, lost.first))

    def admit(self, batch: Iterable[Numbered]) -> list[Numbered]:
        """What of these follows in the log: without the updates of broken books, and with the gap
        of each such book ahead of its snapshot, under the number before that.
        """
        passed: list[Numbered] = []
        for number, message in batch:
            record = peek(message) if self._concerns(message) else None
            pending = None if record is None else self._broken.get(_stream(message, record))
            if pending is None or record is None:
                passed.append((number, message))
            elif isinstance(record, OrderBookRecord) and record.update_type == "snapshot":
                del self._broken[_stream(message, record)]
                pending.last_id = max(pending.last_id or 0, record.last_update_id)
                passed.append((number - 1, self._tell(pending, record.collected_at)))
                passed.append((number, healing(message, record, pending.started_at)))
            else:
                pending.add(record)
                self.dropped.append((number, message))
                self._lost[_origin(message.instrument, message.data_type)] += 1
        return passed

    def rest(self, first: int, wall: int) -> list[Numbered]:
        """The gaps of books that no snapshot will come for, under numbers from `first` on."""
        told = [self._tell(pending, wall) for pending in self._broken.values()]
        self._broken.clear()
        return list(enumerate(told, first))

    def join(self, other: "Damage") -> None:
        """What the other found is this one's, too."""
        for stream, pending in other._broken.items():
            self._break(stream, pending)
        self.dropped += other.dropped
        self._told += other._told
        self._lost += other._lost

    def put_on(self, board: Board) -> None:
        """Count and log what was not yet."""
        for gap in self._told:
            board.tell_gap(gap)
        board.lost.update(self._lost)
        board.spool.dropped += self._lost.total()
        self._told.clear()
        self._lost.clear()
        self.dropped.clear()

    def _concerns(self, message: Message) -> bool:
        """Whether it may be of a broken book: nothing else need be looked at."""
        return message.data_type in (DataType.ORDERBOOK, Gap.data_type) and any(
            instrument == message.instrument for instrument, _ in self._broken
        )

    def _pending(self, stream: Affected, parts: Sequence[Content], *, known: bool) -> PendingGap:
        counts = [None if part.is_gap else part.count for part in parts]
        pending = PendingGap(
            *stream,
            self.starts.earlier(stream, min(part.began for part in parts)),
            "outbox",
            WHY,
            count=sum(count or 0 for count in counts),
            countable=known and None not in counts,
        )
        if pending.countable:
            pending.first_id, pending.last_id = parts[0].first_id, parts[0].last_id
        return pending

    def _break(self, stream: Affected, pending: PendingGap) -> None:
        before = self._broken.setdefault(stream, pending)
        if before is not pending:
            before.count += pending.count
            before.countable = before.countable and pending.countable
            before.last_id = pending.last_id or before.last_id

    def _tell(self, pending: PendingGap, ended: int) -> Message:
        gap = pending.gap(ended)
        self._told.append(gap)
        return encode(gap)


def _stream(message: Message, record: Record) -> Affected:
    return message.instrument, affected(message, record)


def _origin(instrument: Instrument, data_type: str) -> Origin:
    return instrument.exchange, instrument.market_type, str(data_type)
