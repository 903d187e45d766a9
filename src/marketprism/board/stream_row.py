"""The row of a stream: over all its connections."""

from collections import Counter
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

import attrs

from marketprism.instruments import Instrument
from marketprism.records import DataType

if TYPE_CHECKING:
    from marketprism.streams.cursor import Cursor
    from marketprism.streams.state import StreamState
    from marketprism.streams.subscription import Stream


class Judge(Protocol):
    """Who judges silences: see `feeds.freshness`."""

    def step(self, stream: "Stream") -> IntEnum | None:
        """What was last done about the silence of a stream; None: it speaks."""

    def limit(self, stream: "Stream") -> float | None:
        """Seconds of silence after which something is amiss; None: it may be silent."""


@attrs.define(eq=False)
class StreamRow:
    """One stream over all its connections: counts of ended sessions, and the live one. What it is,
    how it goes and how its market stands are one line for whoever looks after it.
    """

    venue: str
    instrument: Instrument
    data_type: DataType
    connection: str
    live: "StreamState | None" = None
    cursor: "Cursor | None" = None
    """The last session's, which outlives it: whether a gap stands open."""
    last_record: int | None = None
    records_before: int = 0
    duplicates_before: int = 0
    gaps: int = 0
    """Told of it, whoever told them."""
    resyncs_before: int = 0
    audits_before: Counter[str] = attrs.field(factory=Counter)
    freshness: "Judge | None" = None
    """Who judges its silences; None for what is polled."""
    quiet_limit: float | None = None
    """Seconds without a record after which it is suspect; None: it may be silent."""
    begun: int | None = None
    """Monotonic nanoseconds: when it was asked for first, or again after its market had paused."""
    standing: str | None = None
    """`paused` or `ended`, as its exchange says of its market: it is not asked for. None: it is."""
    market_status: str = ""
    """The exchange's own word for that."""

    def attach(self, state: "StreamState") -> None:
        """A new session has the stream: count on from here."""
        self.detach()
        self.live = state
        self.cursor = state.cursor

    def detach(self) -> None:
        """The session ended: keep its counts."""
        if (state := self.live) is None:
            return
        self.records_before += state.records
        self.duplicates_before += state.duplicates
        self.resyncs_before += state.resyncs
        self.audits_before.update(state.audits)
        self.last_record = state.last_record or self.last_record
        self.live = None

    @property
    def alarm(self) -> str | None:
        """What was last done about its silence: `renew`, `reconnect`, `unhealthy`; None: it
        speaks.
        """
        if self.freshness is None or self.live is None:
            return None
        stream = (self.data_type, self.instrument.native_id)
        step = self.freshness.step(stream)
        return step.name.lower() if step else None

    @property
    def limit(self) -> float | None:
        """Seconds of silence after which something is amiss, by its own rhythm where that is
        known; None: it may be silent.
        """
        if self.freshness is None:
            return self.quiet_limit
        return self.freshness.limit((self.data_type, self.instrument.native_id))

    @property
    def state(self) -> str:
        """How its market stands where it is not asked for; `disconnected`, or the phase its
        session has it in.
        """
        if self.standing is not None:
            return self.standing
        return "disconnected" if self.live is None else str(self.live.phase)

    @property
    def detail(self) -> str | None:
        """Why it is in that state, in words."""
        if self.standing is not None:
            return self.market_status or None
        return self.live.detail if self.live is not None else None

    @property
    def records(self) -> int:
        return self.records_before + (self.live.records if self.live else 0)

    @property
    def duplicates(self) -> int:
        return self.duplicates_before + (self.live.duplicates if self.live else 0)

    @property
    def resyncs(self) -> int:
        return self.resyncs_before + (self.live.resyncs if self.live else 0)

    @property
    def audits(self) -> Counter[str]:
        """A book's comparisons with fresh snapshots, by what came of them."""
        return self.audits_before + (self.live.audits if self.live else Counter())

    @property
    def stamps_ahead(self) -> int:
        """How often it told a time to come."""
        return 0 if self.cursor is None else self.cursor.ahead.count

    @property
    def last_seen(self) -> int | None:
        """Monotonic nanoseconds of the last accepted record of any session."""
        return (self.live.last_record if self.live else None) or self.last_record

    @property
    def heard(self) -> int | None:
        """Monotonic nanoseconds: since when it is silent, its last record or its beginning."""
        last, begun = self.last_seen, self.begun
        return last if begun is None or (last is not None and last > begun) else begun
