"""The channel between the feeds and the outbox: near side and far side.

The near side never waits: a reader that waited would stop answering the exchange's pings. What
does not fit is lost, counted, and confessed as a gap as soon as there is room again. After a loss
a book's updates no longer chain, so they are held back until a snapshot heals it.
"""

from collections.abc import Callable

import attrs
import structlog
import trio

from marketprism.feeds.venue import Stream
from marketprism.instruments import Instrument
from marketprism.records import DataType, Gap, OrderBookRecord, Record, Trade
from marketprism.status import Board

MILLISECOND = 1_000_000

log = structlog.get_logger()


@attrs.frozen
class Batch:
    """Records that were read together."""

    records: list[Record]
    read_at: int
    """Monotonic nanoseconds: when their frames were read."""


@attrs.define(eq=False)
class Loss:
    """What was lost of one stream since the channel overflowed."""

    instrument: Instrument
    affected: DataType
    started_at: int
    connection: str
    first_id: int | None = None
    last_id: int | None = None
    count: int = 0
    countable: bool = True
    """It is known how many; a gap that was lost with the rest may not have known."""
    retold: OrderBookRecord | None = None
    """The first snapshot that was lost."""
    broken: bool = False
    """What was lost is more than snapshots."""

    def add(self, record: Record) -> None:
        """One more is lost; a snapshot only tells again what is known, a gap what was missing."""
        if isinstance(record, OrderBookRecord) and record.update_type == "snapshot":
            self.retold = self.retold or record
            return
        self.broken = True
        if isinstance(record, Gap):
            self.countable = self.countable and record.lost is not None
            self.count += record.lost or 0
            self._enclose(record.first_missing_id, record.last_missing_id)
            return
        self.count += 1
        if isinstance(record, Trade):
            number = int(record.trade_id) if record.trade_id.isdecimal() else None
            self._widen(number, number)
        elif isinstance(record, OrderBookRecord):
            first = record.first_update_id
            self._widen(record.last_update_id if first is None else first, record.last_update_id)

    def retold_by(self, snapshot: OrderBookRecord) -> OrderBookRecord | None:
        """The snapshot that was lost, where it is all that was, and this one says the same."""
        lost = None if self.broken else self.retold
        same = lost is not None and lost.last_update_id == snapshot.last_update_id
        return lost if same else None

    def _widen(self, first: int | None, last: int | None) -> None:
        self.first_id = first if self.first_id is None else self.first_id
        self.last_id = self.last_id if last is None else last

    def _enclose(self, first: int | None, last: int | None) -> None:
        """A gap may be lost after what follows it: it is not withheld, as records are."""
        if first is not None and last is not None:
            self.first_id = first if self.first_id is None else min(self.first_id, first)
            self.last_id = last if self.last_id is None else max(self.last_id, last)

    def gap(self, wall: int) -> Gap:
        """The confession."""
        ended = max(wall, self.started_at)
        return Gap(
            self.instrument,
            ended,
            wall,
            affected=self.affected,
            reason="overflow",
            started_at=self.started_at,
            ended_at=ended,
            first_missing_id=self.first_id,
            last_missing_id=self.last_id,
            lost=self.count if self.countable else None,
            connection=self.connection,
        )


class Outlet:
    """The near side: called by whoever reads from an exchange, between two reads."""

    def __init__(self, capacity: int, board: Board) -> None:
        self._send, receive = trio.open_memory_channel[Batch](float("inf"))
        self._board = board
        self._losses: dict[tuple[str, Stream], Loss] = {}
        self._last_started: dict[tuple[Instrument, DataType], int] = {}
        self.intake = Intake(receive, self._taken)
        """The far side."""
        board.channel.capacity = capacity

    async def __aenter__(self) -> "Outlet":
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing more will come: what is lost and not confessed yet is, room or not."""
        await self._send.aclose()

    @property
    def lossy(self) -> bool:
        """Something was lost and is not healed yet."""
        return bool(self._losses)

    def loses(self, connection: str) -> bool:
        """Whether something of that connection's is lost and not confessed yet."""
        return any(loss.connection == connection for loss in self._losses.values())

    def put(self, records: list[Record], read_at: int, connection: str) -> None:
        """Hand records on, all of a batch in order, or lose what does not fit."""
        if self._losses:
            records = [r for r in records if not self._withheld(r, connection)]
        room = self._board.channel.capacity - self._board.channel.held
        if len(records) > room:
            for record in records[room:]:
                self._lose(record, connection)
            records = records[:room]
        if records:
            self._pass(records, read_at)

    def confess(
        self,
        connection: str,
        wall: int,
        read_at: int,
        restate: Callable[[Stream, int], list[Record]],
    ) -> None:
        """Where there is room again, end the losses of a connection.

        `restate(stream, heals)` gives a book's snapshot, or nothing while it has none: then the
        stream stays withheld, and the snapshot that the session publishes by itself heals it.
        """
        for key, loss in list(self._losses.items()):
            if loss.connection != connection or self._full():
                continue
            if loss.affected is not DataType.ORDERBOOK:
                del self._losses[key]
                self._pass([self._told(loss, wall)], read_at)
            elif snapshot := restate(key[1], loss.started_at):
                last = snapshot[-1]
                assert isinstance(last, OrderBookRecord)
                del self._losses[key]
                if (lost := loss.retold_by(last)) is not None:
                    # Nothing is missing.
                    last.heals = lost.heals
                    self._pass(list(snapshot), read_at)
                    continue
                loss.last_id = max(loss.last_id or 0, last.last_update_id)
                self._pass([self._told(loss, wall), *snapshot], read_at)

    def close(self, wall: int, read_at: int) -> None:
        """Confess every loss that is left, healed or not, room or not: the last thing put."""
        left = [self._told(loss, wall) for loss in self._losses.values()]
        self._losses.clear()
        if left:
            self._pass(list(left), read_at)

    def _told(self, loss: Loss, wall: int) -> Gap:
        """The confession, counted and in the log."""
        gap, instrument = loss.gap(wall), loss.instrument
        exchange, market_type = instrument.exchange, instrument.market_type
        self._board.gaps[exchange, market_type, str(gap.affected), gap.reason] += 1
        log.warning(
            "stream.gap",
            connection=loss.connection,
            symbol=instrument.symbol,
            data_type=str(gap.affected),
            reason=gap.reason,
            lost=gap.lost,
        )
        return gap

    def _distinguish(self, gap: Gap) -> None:
        """Gap ids are made of `started_at` in milliseconds: a feed's own gaps and overflows of
        one stream must not share one.
        """
        key = (gap.instrument, gap.affected)
        earliest = self._last_started.get(key, -MILLISECOND) // MILLISECOND + 1
        if gap.started_at // MILLISECOND < earliest:
            gap.started_at = earliest * MILLISECOND
            gap.ended_at = gap.timestamp = max(gap.ended_at, gap.started_at)
        self._last_started[key] = gap.started_at

    def _full(self) -> bool:
        # Half: a channel that is just below its edge would lose again with the next batch.
        return self._board.channel.held > self._board.channel.capacity // 2

    def _withheld(self, record: Record, connection: str) -> bool:
        """Whether a record falls into a loss that is not healed yet; then it is part of it."""
        loss = self._losses.get((connection, _stream(record)))
        if loss is None or isinstance(record, Gap):
            return False
        loss.add(record)
        self._count(record)
        return True

    def _lose(self, record: Record, connection: str) -> None:
        stream = _stream(record)
        key = (connection, stream)
        loss = self._losses.get(key)
        if loss is None:
            began = record.started_at if isinstance(record, Gap) else record.collected_at
            affected = stream[0]
            latest = self._last_started.get((record.instrument, affected), -MILLISECOND)
            started = max(began, latest + MILLISECOND)
            loss = self._losses[key] = Loss(record.instrument, affected, started, connection)
        loss.add(record)
        self._count(record)

    def _count(self, record: Record) -> None:
        instrument = record.instrument
        origin = (instrument.exchange, instrument.market_type, str(record.data_type))
        self._board.lost[origin] += 1

    def _pass(self, records: list[Record], read_at: int) -> None:
        for record in records:
            if isinstance(record, Gap):
                self._distinguish(record)
        self._board.channel.held += len(records)
        self._send.send_nowait(Batch(records, read_at))

    def _taken(self, batch: Batch) -> None:
        self._board.channel.held -= len(batch.records)


@attrs.frozen
class Intake:
    """The far side: an async iterator of batches, which ends when the near side is closed."""

    _receive: trio.MemoryReceiveChannel[Batch]
    _taken: Callable[[Batch], None]

    def __aiter__(self) -> "Intake":
        return self

    async def __anext__(self) -> Batch:
        try:
            batch = await self._receive.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None
        self._taken(batch)
        return batch


def _stream(record: Record) -> Stream:
    affected = record.affected if isinstance(record, Gap) else DataType(record.data_type)
    return affected, record.instrument.native_id
