"""What a session knows of one of its streams. Pure."""

from collections import Counter
from enum import StrEnum

import attrs

from marketprism.clock import SECOND
from marketprism.instruments import Instrument
from marketprism.records import DataType
from marketprism.streams.cursor import Cursor


class Phase(StrEnum):
    """Where a stream of a session stands."""

    WANTED = "wanted"
    ACKNOWLEDGED = "acknowledged"
    LIVE = "live"
    PARKED = "parked"


@attrs.define(eq=False)
class StreamState:
    """What a session knows of one of its streams, for whoever looks at it: the board, `Freshness`,
    the succession. The counts are this session's own.
    """

    instrument: Instrument
    data_type: DataType
    cursor: Cursor
    phase: Phase = Phase.WANTED
    detail: str | None = None
    """Why it is parked or not yet live, in words."""
    last_record: int | None = None
    """Monotonic nanoseconds of its last accepted record."""
    records: int = 0
    duplicates: int = 0
    resyncs: int = 0
    audits: Counter[str] = attrs.field(factory=Counter)
    """Of a book: its comparisons with a fresh snapshot, by what came of them."""
    waits: bool = False
    """For an answer over REST, without which it cannot speak: its silence is the host's."""
    heard_until: int | None = None
    """Monotonic nanoseconds: what its connection was told before then has come. A connection that
    stands may be dead: of one that says nothing, only an answered ping proves that it is not.
    """

    def silence(self, now: int) -> str:
        """Why it is asked for anew, in words: it has said nothing for so long, monotonic."""
        if self.last_record is None:
            return "it never spoke, and is asked for anew"
        seconds = (now - self.last_record) / SECOND
        return f"it was silent for {seconds:.0f} s, and is asked for anew"
