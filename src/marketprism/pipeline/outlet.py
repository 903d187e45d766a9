"""The channel between the feeds and the outbox: near side and far side.

The near side never waits: a reader that waited would stop answering the exchange's pings. What
does not fit is lost, counted, and confessed as a gap as soon as there is room again. After a loss
a book's updates no longer chain, so they are held back until a snapshot heals it.

Books give way first. While the channel is pressed, or memory is short, they are conflated: their
updates are withheld, so that the rest keeps the room, and a snapshot stands for them later.
"""

from collections.abc import Callable, Iterator

import attrs
import structlog
import trio

from marketprism.board.board import Board
from marketprism.gaps.pending import PendingGap
from marketprism.pipeline.pressure import Pressure
from marketprism.records import DataType, Gap, OrderBookRecord, Record
from marketprism.streams.subscription import Stream

log = structlog.get_logger()


@attrs.frozen
class Batch:
    """Records that were read together."""

    records: list[Record]
    read_at: int
    """Monotonic nanoseconds: when their frames were read."""


class Outlet:
    """The near side: called by whoever reads from an exchange, between two reads."""

    def __init__(self, capacity: int, board: Board, conflate_at: float | None = None) -> None:
        """Books are conflated above the share `conflate_at` of the capacity; None: never."""
        self._pressure = Pressure.over(capacity, conflate_at)
        self._sparing = False
        self._send, receive = trio.open_memory_channel[Batch](float("inf"))
        self._board = board
        self._losses: dict[tuple[str, Stream], PendingGap] = {}
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
        if self._conflating(len(records)) or self._losses:
            records = self._sifted(records, connection)
        room = self._board.channel.capacity - self._board.channel.held
        if len(records) > room:
            for record in records[room:]:
                self._lose(record, connection)
            records = records[:room]
        if records:
            self._pass(records, read_at)

    def conflate(self, sparing: bool) -> None:
        """Conflate books though there is room, since memory is short; or no longer.

        Meanwhile each snapshot that a session publishes by itself still passes, after a gap: a book
        is then told as in mode `snapshot`.
        """
        self._sparing = sparing
        self._conflating(0)

    def tell_gaps(
        self,
        connection: str,
        wall: int,
        read_at: int,
        send_snapshot: Callable[[Stream, int], list[Record]],
    ) -> None:
        """Where there is room again, end the losses of a connection.

        `send_snapshot(stream, heals_gap)` gives a book's snapshot, or nothing while it has none:
        then the stream stays withheld, and the snapshot that the session publishes by itself heals
        it.
        """
        for key, loss in list(self._losses.items()):
            if loss.connection != connection or self._full():
                continue
            if loss.affected is not DataType.ORDERBOOK:
                del self._losses[key]
                self._pass([self._gap(loss, wall)], read_at)
            elif self._conflating(0):
                continue
            elif snapshot := send_snapshot(
                key[1], loss.started_at if loss.hole else loss.heals_gap
            ):
                last = snapshot[-1]
                assert isinstance(last, OrderBookRecord)
                del self._losses[key]
                self._pass([*self._healed(loss, last, wall), *snapshot], read_at)

    def leave(self, connection: str, stream: Stream, wall: int, read_at: int) -> None:
        """A connection has left a stream: confess its loss, room or not; nothing will heal it."""
        loss = self._losses.pop((connection, stream), None)
        if loss is not None and loss.hole:
            self._pass([self._gap(loss, wall)], read_at)

    def close(self, wall: int, read_at: int) -> None:
        """Confess every loss that is left, healed or not, room or not: the last thing put."""
        left = [self._gap(loss, wall) for loss in self._losses.values() if loss.hole]
        self._losses.clear()
        if left:
            self._pass(list(left), read_at)

    def _conflating(self, more: int) -> bool:
        """Whether books give way now, when so many records are to come."""
        channel, pressure = self._board.channel, self._pressure
        was = pressure.on
        if pressure.at(channel.held + more) is not was:
            event = "channel.eased" if was else "channel.pressed"
            (log.info if was else log.warning)(event, held=channel.held, capacity=channel.capacity)
        channel.conflating = pressure.on or self._sparing
        return channel.conflating

    def _sifted(self, records: list[Record], connection: str) -> list[Record]:
        """What is left of records when those that fall into a loss are part of it."""
        kept: list[Record] = []
        for record in records:
            if self._stands_for_all(record):
                assert isinstance(record, OrderBookRecord)
                if loss := self._losses.pop((connection, _stream(record)), None):
                    record.heals_gap = (
                        loss.started_at if loss.hole else record.heals_gap or loss.heals_gap
                    )
                    kept += self._healed(loss, record, record.collected_at)
                kept.append(record)
            elif not self._withheld(record, connection):
                if self._board.channel.conflating and _is_update(record):
                    self._lose(record, connection)
                else:
                    kept.append(record)
        return kept

    def _stands_for_all(self, record: Record) -> bool:
        """Whether a session's own snapshot ends the loss of its book, though memory is short."""
        return (
            self._sparing
            and not self._full()
            and isinstance(record, OrderBookRecord)
            and record.update_type == "snapshot"
        )

    def _healed(self, loss: PendingGap, snapshot: OrderBookRecord, wall: int) -> list[Gap]:
        """The gap before a snapshot; none where only snapshots were lost."""
        if not loss.hole:
            return []
        loss.last_id = max(loss.last_id or 0, snapshot.last_update_id)
        return [self._gap(loss, wall)]

    def _gap(self, loss: PendingGap, wall: int) -> Gap:
        gap = loss.gap(wall)
        # Books that are told as snapshots only have a gap each few seconds: that is said once.
        gap.quiet = self._sparing and loss.conflated
        return gap

    def _full(self) -> bool:
        # Half: a channel that is just below its edge would lose again with the next batch.
        return self._board.channel.held > self._board.channel.capacity // 2

    def _withheld(self, record: Record, connection: str) -> bool:
        """Whether a record falls into a loss that is not healed yet; then it is part of it."""
        loss = self._losses.get((connection, _stream(record)))
        if loss is None or isinstance(record, Gap):
            return False
        self._add(record, loss)
        return True

    def _lose(self, record: Record, connection: str) -> None:
        stream = _stream(record)
        key = (connection, stream)
        loss = self._losses.get(key)
        if loss is None:
            began = record.started_at if isinstance(record, Gap) else record.collected_at
            gives_way = self._board.channel.conflating and isinstance(record, OrderBookRecord)
            why = (
                "books gave way, so that the rest had room" if gives_way else "the channel was full"
            )
            loss = PendingGap(record.instrument, stream[0], began, connection, why, gives_way)
            self._losses[key] = loss
        self._add(record, loss)

    def _add(self, record: Record, loss: PendingGap) -> None:
        loss.add(record)
        instrument, board = record.instrument, self._board
        origin = (instrument.exchange, instrument.market_type, str(record.data_type))
        gave_way = loss.conflated and isinstance(record, OrderBookRecord)
        (board.conflated if gave_way else board.lost)[origin] += 1

    def _pass(self, records: list[Record], read_at: int) -> None:
        self._board.channel.held += len(records)
        self._send.send_nowait(Batch(records, read_at))

    def _taken(self, batch: Batch) -> None:
        self._board.channel.held -= len(batch.records)
        if self._pressure.on:
            self._conflating(0)


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

    def left(self) -> Iterator[Batch]:
        """What is still in it, where nobody takes it any more; nothing is waited for."""
        while True:
            try:
                batch = self._receive.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                return
            self._taken(batch)
            yield batch


def _stream(record: Record) -> Stream:
    affected = record.affected if isinstance(record, Gap) else DataType(record.data_type)
    return affected, record.instrument.native_id


def _is_update(record: Record) -> bool:
    return isinstance(record, OrderBookRecord) and record.update_type == "update"
