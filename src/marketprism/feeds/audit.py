"""Whether a book is still the exchange's: now and then it is compared with a fresh snapshot. Pure.

An audit neither stops a book nor delays it. How the two are compared stands in `comparison.py`.
What both know must agree; and where the snapshot reaches further, so does the book from then on.
"""

from collections.abc import Iterable, Set
from enum import StrEnum
from itertools import islice
from typing import Final, Protocol

import attrs

from marketprism.clock import SECOND, Timestamp
from marketprism.feeds import venue
from marketprism.feeds.actions import Diverged, Fetch, FetchFailed, Output, Priority
from marketprism.feeds.audit_schedule import Schedule
from marketprism.feeds.comparison import Change, Proof, Trail, Verdict
from marketprism.orderbook import OrderBook
from marketprism.streams.state import StreamState

LEAD: Final = SECOND // 2
"""Updates are remembered for so long before the request: the host that answers it may lag behind
the one that streams."""
PATIENCE: Final = 10 * SECOND
"""How long a snapshot may wait for the book to come to where it is."""
SAMPLE_LEVELS: Final = 5
MOST_WAITING: Final = 2
"""Requests of one book that may be waiting for room, the urgent one among them."""


class Outcome(StrEnum):
    """What came of an audit."""

    AGREED = "agreed"
    DIVERGED = "diverged"
    STALE = "skipped_stale"
    """The snapshot is older than what is remembered, or the market has left it already."""
    AHEAD = "skipped_ahead"
    """The book did not come to where the snapshot is."""
    DOUBTFUL = "skipped_doubtful"
    """They differ, and the snapshot lay inside an update of which not everything may be told."""
    FAILED = "skipped_failed"
    """No answer, or none that can be read."""
    INTERRUPTED = "skipped_interrupted"
    """The book fell out of step meanwhile, its ids began anew, or it could not wait any longer."""


class Tag(venue.Tag):
    """The same, of an audit."""


@attrs.define(eq=False)
class Auditor:
    """The audits of one book."""

    state: StreamState
    url: str
    """Where a snapshot can be fetched."""
    weight: int
    schedule: Schedule
    window: int | None
    """Only so many best levels are told, so that one that comes and goes within an update may not
    be: a snapshot from inside one is believed when the next says the same of a level. None: an
    update tells of every level that changed in it.
    """
    trail: Trail | None = None
    proof: Proof | None = None
    """When the book was last known to be right."""
    waiting: int = 0
    """Requests without an answer; more than one where the first was no longer wanted."""
    suspects: Set[str] = frozenset()
    """The levels that were in doubt at the last audit."""
    _attempt: int = 0

    def proved(self, last_id: int, wall: int, now: Timestamp) -> None:
        """The book is a fresh snapshot."""
        self.interrupt()
        self.proof, self.suspects = Proof(last_id, wall), frozenset()
        self.schedule.proved(self.state.instrument.native_id, now)

    def succeed(self, old: "Auditor") -> None:
        """Go on with the audits of a book that came from another connection; what was under way
        there is not finished.
        """
        self.proof = old.proof
        self.schedule.go_on_from(old.schedule)

    def interrupt(self) -> None:
        """The book is not what it was: whatever is under way means nothing any more."""
        if self.trail is not None:
            self.trail = None
            self.state.audits[Outcome.INTERRUPTED] += 1

    def hurry(self, now: Timestamp, *, exhausted: bool) -> None:
        """Too little of the book is known: have a look soon, and no more often than is fair."""
        self.schedule.hurry(now, exhausted=exhausted)
        trail = self.trail
        if exhausted and trail is not None and not trail.urgent and trail.fresh is None:
            # Its request waits behind all others. The next one does not.
            self.interrupt()

    def begin(self, book: OrderBook, now: Timestamp) -> None:
        """From now on remember what the book takes."""
        self._attempt += 1
        self.schedule.begin(now)
        start = Proof(book.last_id, now.wall)
        self.trail = Trail(self._attempt, start, now.monotonic + LEAD, self.schedule.exhausted)

    def took(self, change: Change, book: OrderBook) -> Verdict | None:
        """The book has taken an update, while an audit is under way."""
        trail = self.trail
        assert trail is not None
        trail.remember(change)
        if trail.fresh is None or book.last_id < trail.fresh.last_id:
            return None
        return self._compare(trail, trail.fresh, book, change.read_at)

    def answered(
        self, attempt: int, fresh: OrderBook, book: OrderBook, now: Timestamp
    ) -> Verdict | None:
        """The snapshot, which may be behind the book, or ahead of it. None: nothing follows yet."""
        trail = self.trail
        if trail is None or attempt != trail.attempt:
            return None
        if fresh.last_id < trail.start.last_id:
            self._skip(Outcome.STALE, now)
            return None
        if fresh.last_id > book.last_id:
            trail.fresh, trail.give_up_at = fresh, now.monotonic + PATIENCE
            return None
        return self._compare(trail, fresh, book, now)

    def failed(self, attempt: int, answer: FetchFailed | None, now: Timestamp) -> None:
        """There is no snapshot; with None there is one that cannot be read."""
        if self.trail is not None and attempt == self.trail.attempt:
            retry_after = 0.0 if answer is None else answer.retry_after or 0.0
            self._skip(Outcome.FAILED, now, least=round(retry_after * SECOND))

    def tick(self, now: Timestamp, output: Output) -> None:
        """Ask when it is time; do not wait for ever."""
        trail = self.trail
        assert trail is not None
        if trail.ask_at is not None and now.monotonic >= trail.ask_at:
            trail.ask_at = None
            self.waiting += 1
            tag = Tag(self.state.instrument.native_id, trail.attempt)
            priority = Priority.RESYNC if trail.urgent else Priority.AUDIT
            output.actions.append(Fetch(self.url, tag, self.weight, priority))
        elif trail.fresh is not None and now.monotonic >= trail.give_up_at:
            self._skip(Outcome.AHEAD, now)

    def conclude(self, verdict: Verdict, connection: str, now: Timestamp, output: Output) -> int:
        """Count it. Of a wrong book publish the gap, from when it was last known to be right on;
        that gap's start, else 0.
        """
        state, cursor, known = self.state, self.state.cursor, self.proof
        self.trail = None
        self.schedule.settle()
        again = bool(self.suspects & verdict.wrong.keys())
        certain = self.window is None or not verdict.inside or again
        if verdict.wrong and not certain:
            state.audits[Outcome.DOUBTFUL] += 1
            self.schedule.retry(now)
            if not self.suspects:
                # A first doubt is looked into at once.
                self.schedule.due = now.monotonic
            self.suspects = verdict.wrong.keys()
            return 0
        self.proof, self.suspects = verdict.proof, frozenset()
        if not verdict.wrong:
            state.audits[Outcome.AGREED] += 1
            self.schedule.agreed(now)
            return 0
        state.audits[Outcome.DIVERGED] += 1
        # The other one may be the wrong one: then the next audit finds it out.
        self.schedule.retry(now)
        stream = (state.data_type, state.instrument.native_id)
        shown = islice(verdict.wrong.items(), SAMPLE_LEVELS)
        sample = "; ".join(f"{level}: {how}" for level, how in shown)
        output.actions.append(Diverged(stream, len(verdict.wrong), sample))
        last_id, missing = verdict.fresh.last_id, None
        if known is not None:
            missing = (min(known.last_id + 1, last_id), last_id)
        why = f"an audit found {len(verdict.wrong)} levels that differ: {sample}"
        cursor.lose("sequence", why, None if known is None else known.wall)
        gap = cursor.close(state.instrument, state.data_type, now.wall, connection, missing)
        assert gap is not None
        output.records.append(gap)
        return gap.started_at

    def _compare(
        self, trail: Trail, fresh: OrderBook, book: OrderBook, now: Timestamp
    ) -> Verdict | None:
        verdict = trail.lead(fresh, book, self.window)
        if verdict is None:
            self._skip(Outcome.STALE, now)
        return verdict

    def _skip(self, outcome: Outcome, now: Timestamp, least: int = 0) -> None:
        self.trail = None
        self.state.audits[outcome] += 1
        self.schedule.retry(now, least)


class Audited(Protocol):
    """A book that can be audited."""

    auditor: Auditor
    book: OrderBook | None

    @property
    def in_step(self) -> bool:
        """It is the exchange's, as far as we know."""


def tick(books: Iterable[Audited], now: Timestamp, output: Output) -> None:
    """Audit the books of a connection, one at a time; but one of which nothing can be published
    waits for no other.
    """
    chosen: tuple[Auditor, OrderBook] | None = None
    first, busy = (True, now.monotonic + 1), False
    for each in books:
        auditor, book = each.auditor, each.book
        if auditor.trail is not None:
            auditor.tick(now, output)
        busy = busy or auditor.trail is not None or auditor.waiting > 0
        if book is None or auditor.trail is not None or not each.in_step:
            continue
        if auditor.proof is None:
            # It came from another connection, in step.
            auditor.proved(book.last_id, now.wall, now)
        if auditor.schedule.due is not None and auditor.schedule.due <= now.monotonic:
            rank = (not auditor.schedule.exhausted, auditor.schedule.due)
            if rank < first:
                chosen, first = (auditor, book), rank
    if chosen is None:
        return
    auditor, book = chosen
    if not busy or (auditor.schedule.exhausted and auditor.waiting < MOST_WAITING):
        auditor.begin(book, now)
