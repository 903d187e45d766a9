"""What the disk lost of each stream, and the gap that says so.

A block that cannot be read is a stretch of the log. It is told where it ends: before the next
message of each stream that was in it. The updates of a book do not chain after it, so they are part
of it until a snapshot comes.
"""

import bisect
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import attrs
import msgspec
import structlog

from marketprism.board.board import Board
from marketprism.clock import Timestamp
from marketprism.gaps.ids import Affected, GapStarts, identifying
from marketprism.gaps.pending import PendingGap
from marketprism.instruments import Instrument
from marketprism.outbox.blocks import Numbered
from marketprism.outbox.contents import Content, LostBlock
from marketprism.outbox.peek import affected, healing, peek
from marketprism.records import DataType, Gap, OrderBookRecord, Record
from marketprism.wire import Message, encode, subject

log = structlog.get_logger()

BEFORE = "memory and disk were full"
"""Why something is lost that the version before let go."""
DAMAGED = "a part of the spool on disk could not be read"


@attrs.define(eq=False)
class LostStretch(PendingGap):
    """What was dropped of one stream: all its messages from number `since` up to `upto`."""

    since: int = 0
    upto: int = 0
    end: int = 0
    """The number of the message that ended it; 0 while it is open."""
    stored: bool = False
    """Its gap is in the stream already: a former process told it."""

    @classmethod
    def read(cls, saved: bytes) -> "LostStretch":
        """One as it was saved. Raises MsgspecError, LookupError, ValueError or TypeError."""
        fields = msgspec.json.decode(saved)
        instrument = Instrument(*fields.pop("instrument"))
        fields.setdefault("why", BEFORE)
        fields.pop("unplaced", None)
        return cls(instrument, DataType(fields.pop("affected")), **fields)

    def known_as(self, named: str, msg_id: str) -> bool:
        """This is the subject and the id of its gap."""
        gap = encode(self.gap(self.started_at))
        return (gap.subject, gap.msg_id) == (named, msg_id)

    def holds(self, number: int, message: Message) -> bool:
        """This message is one of them."""
        if not self.since <= number <= self.upto or message.instrument != self.instrument:
            return False
        record = peek(message) if message.data_type == Gap.data_type else None
        return affected(message, record) is self.affected

    def follow(self, before: "LostStretch") -> None:
        """Nothing lay between that one and this: they are one loss."""
        self.since, self.started_at = before.since, before.started_at
        self.count += before.count
        self.countable = self.countable and before.countable
        self.stored = before.stored
        if self.first_id is None or before.first_id is not None:
            self.first_id = before.first_id
        if self.last_id is None:
            self.last_id = before.last_id


class LostStretches:
    """All of them: those that are open, and those that ended not long ago."""

    def __init__(self, board: Board, now: Callable[[], Timestamp]) -> None:
        self.starts = GapStarts()
        self.changed = False
        """Something is different from what was saved last."""
        self._board = board
        self._now = now
        self._open: dict[Affected, list[LostStretch]] = {}
        """More than one where there is between them what may have been delivered already."""
        self._told: dict[int, LostStretch] = {}
        """By the number of what ended them, as long as a part of them may be on disk."""

    def __bool__(self) -> bool:
        """Something is open."""
        return bool(self._open)

    def drop_block(self, lost: LostBlock, *, after: int = 0, handed: int = 0) -> None:
        """Messages that lay together cannot be read any more; all up to `after` are held all the
        same. Of what may have been delivered, up to `handed`, nobody knows how much is lost; nor
        where gaps are among it.
        """
        since = max(lost.first, after + 1)
        by_stream: dict[Affected, list[Content]] = {}
        for content in lost.contents:
            by_stream.setdefault(content.stream, []).append(content)
        for stream, parts in by_stream.items():
            counts = [None if part.is_gap else part.count for part in parts]
            loss = self._begun(stream, since, min(part.began for part in parts), DAMAGED)
            loss.upto = lost.last
            loss.count = sum(count or 0 for count in counts)
            loss.countable = since > handed and None not in counts
            if loss.countable:
                loss.first_id, loss.last_id = parts[0].first_id, parts[0].last_id
            bisect.insort(self._open.setdefault(stream, []), loss, key=lambda each: each.since)
        for content in lost.contents:
            self._board.lost[_origin(content.stream[0], content.data_type)] += content.count or 0
            self._board.spool.dropped += content.count or 0

    def _begun(self, stream: Affected, number: int, began: int, why: str) -> LostStretch:
        self.changed = True
        started = self.starts.earlier(stream, began)
        return LostStretch(*stream, started, "outbox", why, since=number)

    def _add(self, loss: LostStretch, number: int, message: Message, record: Record) -> None:
        loss.add(record)
        loss.upto = number
        self.changed = True
        self._board.lost[_origin(message.instrument, message.data_type)] += 1
        self._board.spool.dropped += 1

    def gated(self, batch: Sequence[Numbered]) -> list[Numbered]:
        """What of a batch may go, in order: without what is part of an open loss, and with the
        gap of each loss that ends in it, under the number before that of what ends it.
        """
        passed: list[Numbered] = []
        for number, message in batch:
            gap = message.data_type == Gap.data_type
            record = peek(message) if gap else None
            stream = (message.instrument, affected(message, record))
            loss = self._current(stream, number)
            if loss is None:
                passed.append((number, message))
            elif number > loss.upto:
                record = record or peek(message)
                if gap or _is_update(record):
                    self._add(loss, number, message, record)
                    continue
                if not loss.stored:
                    passed.append((number - 1, self._tell(loss, record.collected_at, record)))
                self._end(stream, number)
                passed.append((number, healing(message, record, loss.started_at)))
        return passed

    def rest(self, number: Callable[[], int], *, closed: bool) -> list[Numbered]:
        """The gaps of losses that nothing waits behind; of books only when nothing will come."""
        told = []
        for stream in list(self._open):
            loss = self._current(stream, 1 << 62)
            assert loss is not None
            if loss.stored:
                self._end(stream, number())
            elif closed or stream[1] is not DataType.ORDERBOOK:
                given = number()
                told.append((given, self._tell(loss, self._now().wall, None)))
                self._end(stream, given)
        return told

    def tellable(self, *, closed: bool) -> bool:
        """Whether `rest` has something to say."""
        return any(
            closed or losses[0].stored or stream[1] is not DataType.ORDERBOOK
            for stream, losses in self._open.items()
        )

    def forget(self, below: int) -> None:
        """Nothing below this number is on disk any more."""
        for number in [each for each in self._told if each < below]:
            del self._told[number]
            self.changed = True

    def stored_upto(self, named: str, msg_id: str, waiting: Iterable[Numbered]) -> int:
        """The last of this subject that is stored: perhaps the gap of a loss that stands open.
        Then it is told; the number under which it was, 0 where it is none of ours.
        """
        for losses in self._open.values():
            for place, loss in enumerate(losses):
                if loss.known_as(named, msg_id):
                    for earlier in losses[: place + 1]:
                        earlier.stored = True
                    ends = (n - 1 for n, each in waiting if _ends(loss, losses, n, each))
                    return next(ends, loss.upto)
        told = (loss.end - 1 for loss in self._told.values() if loss.known_as(named, msg_id))
        return max(told, default=0)

    @property
    def subjects(self) -> set[str]:
        """Of the gaps of those that are open."""
        return {subject(Gap.data_type, instrument) for instrument, _ in self._open}

    def passed(self, number: int, message: Message) -> LostStretch | None:
        """This one was stored, and so was the gap of the loss that it ended; or it was a part of
        that loss, as all that lay between.
        """
        if message.data_type == Gap.data_type:
            return None
        stream = (message.instrument, DataType(message.data_type))
        loss = self._current(stream, number)
        if loss is None or number <= loss.upto or _is_update(peek(message)):
            return None
        loss.upto = number - 1
        self._end(stream, number)
        return loss

    def healing(self, named: str, waiting: Iterable[Numbered]) -> dict[int, set[str]]:
        """The snapshots of a subject that end a loss, by number, and the ids that they get or got
        by that.
        """
        ids: dict[int, set[str]] = {}
        for (instrument, affects), losses in self._open.items():
            if affects is DataType.ORDERBOOK and subject(affects, instrument) == named:
                for loss in losses:
                    for number, message in waiting:
                        if _ends(loss, losses, number, message):
                            healed = healing(message, peek(message), loss.started_at)
                            ids.setdefault(number, set()).add(healed.msg_id)
                            break
        return ids

    def _current(self, stream: Affected, number: int) -> LostStretch | None:
        """The loss that a message with this number lies in, or may end."""
        losses = self._open.get(stream, ())
        while len(losses) > 1 and losses[1].since <= number:
            losses[1].follow(losses.pop(0))
        return losses[0] if losses and losses[0].since <= number else None

    def _end(self, stream: Affected, number: int) -> None:
        self.changed = True
        loss = self._told[number] = self._open[stream].pop(0)
        loss.end = number
        if not self._open[stream]:
            del self._open[stream]

    def _tell(self, loss: LostStretch, ended: int, last: Record | None) -> Message:
        if isinstance(last, OrderBookRecord):
            loss.last_id = max(loss.last_id or 0, last.last_update_id)
        gap = loss.gap(ended)
        self._board.tell_gap(gap)
        return encode(gap)

    def saved(self) -> list[tuple[str, bytes]]:
        """All of them as they are kept in the spool. Those that ended are needed after a crash, as
        long as something of them is there: their gap may have to be told again, under the same id.
        """
        entries = [(_STARTS, self.starts.saved())]
        for loss in chain(*self._open.values(), self._told.values()):
            fields = attrs.asdict(loss, recurse=False)
            names = fields["instrument"] = identifying(fields["instrument"])
            key = "\n".join([*names, str(loss.affected), str(loss.since)])
            entries.append((key, msgspec.json.encode(fields)))
        return entries

    def restore(self, saved: Sequence[tuple[str, bytes]], lowest: float) -> int:
        """Take over what a former process left, of whose messages `lowest` is the first; the
        highest number that it dropped.
        """
        found = []
        for key, body in saved:
            try:
                if key == _STARTS:
                    self.starts.restore(body)
                else:
                    found.append(LostStretch.read(body))
            except (msgspec.MsgspecError, LookupError, ValueError, TypeError) as error:
                # It is what was written: by a version that words it differently.
                log.error("spool.loss_unreadable", stream=key, reason=str(error))
        for loss in sorted(found, key=lambda loss: loss.since):
            if 0 < loss.end < lowest:
                continue
            loss.end = 0
            self._open.setdefault((loss.instrument, loss.affected), []).append(loss)
        return max((loss.upto for loss in found), default=0)


_STARTS = "starts"


def _is_update(record: Record) -> bool:
    return isinstance(record, OrderBookRecord) and record.update_type == "update"


def _ends(loss: LostStretch, losses: Sequence[LostStretch], number: int, message: Message) -> bool:
    """Whether this message of any stream is the one that ends one of a stream's losses."""
    if number <= loss.upto or message.data_type != loss.affected:
        return False
    if message.instrument != loss.instrument or any(each.holds(number, message) for each in losses):
        return False
    return not _is_update(peek(message))


def _origin(instrument: Instrument, data_type: str) -> tuple[str, str, str]:
    return instrument.exchange, instrument.market_type, str(data_type)
