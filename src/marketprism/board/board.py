"""The board: what each task last said of itself. Pure; read by health, metrics and people.

Tasks write their own row and nobody else's. All durations here come from monotonic nanoseconds.
"""

import bisect
from collections import Counter
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

import attrs

from marketprism.board.gap_log import GapLog
from marketprism.errors import SinkState
from marketprism.instruments import Instrument
from marketprism.records import DataType, Gap

if TYPE_CHECKING:
    from marketprism.streams.cursor import Cursor
    from marketprism.streams.exchange_clock import ExchangeClock
    from marketprism.streams.state import StreamState
    from marketprism.streams.subscription import Stream, Subscription
    from marketprism.supervise import CircuitBreaker

Origin = tuple[str, str, str]
"""Exchange, market type, data type: the labels of the counters."""


class Judge(Protocol):
    """Who judges silences: see `feeds.freshness`."""

    def step(self, stream: "Stream") -> IntEnum | None:
        """What was last done about the silence of a stream; None: it speaks."""

    def limit(self, stream: "Stream") -> float | None:
        """Seconds of silence after which something is amiss; None: it may be silent."""


def lasted(since: int | None, now: int | None) -> float | None:
    """Seconds from one monotonic time to another, as the log says them; None where one is not
    known.
    """
    return None if since is None or now is None else round((now - since) / 1e9, 3)


@attrs.define(eq=False)
class VenueRow:
    """One venue: whether it has its metadata, and runs."""

    name: str
    exchange: str
    market_type: str
    state: str = "starting"
    """`starting`, `running`, `failing` (the world), `refused` (our configuration or place)."""
    reason: str | None = None
    rest_host: str = ""
    """Whom it asks over REST."""
    failing_since: int | None = None
    """Monotonic nanoseconds; None while it runs."""
    instruments: int = 0
    unmatched: list[str] = attrs.field(factory=list)
    """Configured symbols that the exchange does not have."""
    nearest: dict[str, list[str]] = attrs.field(factory=dict)
    """Of the first few of those: what may have been meant, of what the exchange has."""
    collisions: list[str] = attrs.field(factory=list)
    """What is not collected, in words: its symbol is another instrument's."""
    unknown: list[str] = attrs.field(factory=list)
    """What of its metadata could not be had yet, in words; it is asked for again."""


@attrs.define(eq=False)
class StreamRow:
    """One stream over all its connections: counts of ended sessions, and the live one."""

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


@attrs.define(eq=False)
class ConnectionRow:
    """One feed's connection."""

    id: str
    venue: str
    exchange: str
    market_type: str
    url: str
    state: str = "dialling"
    """`dialling`, `connected`, `waiting` (to dial again), `refused`, `stopped`."""
    reason: str | None = None
    """Why the last attempt ended, in words."""
    connected_since: int | None = None
    """Monotonic nanoseconds."""
    last_message: int | None = None
    """Monotonic nanoseconds of the last data frame."""
    down_since: int | None = None
    """Monotonic nanoseconds: since when there is none; None while it stands, or before the first
    attempt failed."""
    last_alive: int | None = None
    """Monotonic nanoseconds of the last data frame or pong: until then nothing was missed."""
    attempts: int = 0
    connects: int = 0
    frames: int = 0
    next: bool = False
    """It is about to take over from the connection of that id."""
    rotation_due: int | None = None
    """Monotonic nanoseconds: when another is to take over from it; None: never."""
    rotations: Counter[str] = attrs.field(factory=Counter)
    """How often another took over (`ok`), or could not (`failed`)."""
    streams: Mapping["Stream", "StreamState"] = attrs.field(factory=dict)

    @property
    def name(self) -> str:
        """Its id, told apart from that of the connection it takes over from."""
        return f"{self.id} (next)" if self.next else self.id

    @property
    def reconnects(self) -> int:
        """How often it came back."""
        return max(0, self.connects - 1)


@attrs.define(eq=False)
class HostRow:
    """One REST or websocket host, shared by all who call it."""

    host: str
    reachable: bool | None = None
    reason: str | None = None
    used_weight: int = 0
    weight_limit: int = 0
    blocked_until: int = 0
    """Monotonic nanoseconds: nobody may call it before."""
    unreachable_since: int | None = None
    """Monotonic nanoseconds; None while it can be reached."""
    troubled_at: int = 0
    """Monotonic nanoseconds: when what `reason` says was found out last."""
    waiting: int = 0
    """Fetches that wait for room in the budget."""


@attrs.define(eq=False)
class TooLarge:
    """The messages of one data type that were too large for the sink."""

    messages: int = 0
    largest: int = 0
    """Bytes."""
    last: int = 0
    """Monotonic nanoseconds: when the latest was given up."""


@attrs.define(eq=False)
class SinkRow:
    """Where messages go."""

    kind: str = "nats"
    connected: bool = False
    """A connection stands; whether anything is stored over it says the state."""
    state: SinkState = SinkState.CONNECTING
    reason: str | None = None
    """Why nothing is stored, in words."""
    target: str = ""
    embedded: str | None = None
    """Where our own server listens; None: there is none."""
    troubled_at: float | None = None
    """By Trio's clock: since when nothing is stored; None while it is."""
    displaced: str | None = None
    """Why that is not where it was asked to, and what to do, in words."""
    connects: int = 0
    in_flight: int = 0
    oldest_message: int | None = None
    """When the oldest message of the stream was stored, by the server's clock, wall nanoseconds, as
    it last said; None where there is none, or it does not say."""
    acknowledged: int = 0
    duplicates: int = 0
    """Messages that the stream had already: re-sent by us, or told by another collector."""
    oversize: int = 0
    """Messages too large to be stored; a gap is in the place of each but snapshots of books."""
    too_large: dict[str, TooLarge] = attrs.field(factory=dict)
    """Those, by data type."""
    most_bytes: int | None = None
    """What the server and the stream take in one message, headers and all; None: not known."""

    def give_up(self, data_type: str, size: int, monotonic: int) -> None:
        """A message of so many bytes is too large to be stored."""
        self.oversize += 1
        row = self.too_large.setdefault(data_type, TooLarge())
        row.messages += 1
        row.largest, row.last = max(row.largest, size), monotonic

    def troubled(self, now: float) -> None:
        """Nothing is stored, from `now` on unless that is so already; by Trio's clock."""
        if self.troubled_at is None:
            self.troubled_at = now

    def after(self, now: float) -> dict[str, float]:
        """What the log says of how long nothing was stored; nothing where there was no trouble."""
        return {} if self.troubled_at is None else {"after": round(now - self.troubled_at, 3)}


@attrs.define(eq=False)
class QueueRow:
    """A bounded queue: how full it is."""

    held: int = 0
    capacity: int = 0
    held_bytes: int = 0
    capacity_bytes: int = 0
    conflating: bool = False
    """For the channel: books give way to the rest."""


@attrs.define(eq=False)
class MemoryRow:
    """What the memory guard last saw. Sizes are bytes; None where nothing says how much is much."""

    used: int = 0
    """Resident."""
    slack: int = 0
    """The part of it that is free to be used again, about."""
    limit: int | None = None
    """Our control group's."""
    soft: int | None = None
    hard: int | None = None
    source: str = "none"
    """Where the bounds come from: `cgroup v2`, `cgroup v1`, `configured`, `none`."""
    shed: list[str] = attrs.field(factory=list)
    """What was shed to save memory, and is not taken up again."""
    holders: dict[str, dict[str, int]] = attrs.field(factory=dict)
    """Who holds it, the largest first: sizes, which are estimates, and counts."""

    @property
    def high(self) -> bool:
        return self.soft is not None and self.used - self.slack >= self.soft


@attrs.define(eq=False)
class SpoolRow:
    """What of the outbox is on disk."""

    state: str = "off"
    """`off`, `idle` (usable, and nothing on it), `spooling`, `full` (the oldest go), `failed`."""
    reason: str | None = None
    """Why it failed, or is full, in words."""
    path: str = ""
    held: int = 0
    """Messages that are on disk and not in memory."""
    held_bytes: int = 0
    """Of their payload."""
    file_bytes: int = 0
    """What its file uses, the log of changes beside it not counted."""
    capacity_bytes: int = 0
    since: int | None = None
    """Monotonic nanoseconds: since when messages go to disk."""
    dropped: int = 0
    """Messages that a damaged disk lost since the start; each lies inside a gap."""
    set_aside: str | None = None
    """A file that could not be used, and where it is now."""


class Tally:
    """A histogram that costs one bisection a batch, however many records are in it."""

    def __init__(self, *bounds: float) -> None:
        self.bounds = bounds
        """Upper bounds in seconds, ascending; the last bucket has none."""
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        self.counts[bisect.bisect_left(self.bounds, seconds)] += times
        self.sum += seconds * times

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile(self, fraction: float) -> float | None:
        """The upper bound of the bucket that holds it (the last bound beyond all), or None
        before the first observation.
        """
        if not (total := self.count):
            return None
        reached = 0
        for bound, count in zip((*self.bounds, self.bounds[-1]), self.counts, strict=True):
            reached += count
            if reached >= fraction * total:
                return bound
        return self.bounds[-1]


def _latency() -> Tally:
    return Tally(
        *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
        *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    )


@attrs.define(eq=False)
class Board:
    """All rows and counters of one process."""

    started: int = 0
    """Monotonic nanoseconds."""
    venues: dict[str, VenueRow] = attrs.field(factory=dict)
    connections: dict[str, ConnectionRow] = attrs.field(factory=dict)
    streams: dict[tuple[str, "Stream"], StreamRow] = attrs.field(factory=dict)
    hosts: dict[str, HostRow] = attrs.field(factory=dict)
    breakers: dict[tuple[str, str], "CircuitBreaker"] = attrs.field(factory=dict)
    """By `rest` or `websocket`, and host."""
    sink: SinkRow = attrs.field(factory=SinkRow)
    channel: QueueRow = attrs.field(factory=QueueRow)
    outbox: QueueRow = attrs.field(factory=QueueRow)
    memory: MemoryRow = attrs.field(factory=MemoryRow)
    spool: SpoolRow = attrs.field(factory=SpoolRow)
    received: Counter[Origin] = attrs.field(factory=Counter)
    """Records accepted from exchanges."""
    published: Counter[Origin] = attrs.field(factory=Counter)
    """Messages that the sink acknowledged."""
    lost: Counter[Origin] = attrs.field(factory=Counter)
    """Records that we read and could not keep: each lies inside a published gap."""
    conflated: Counter[Origin] = attrs.field(factory=Counter)
    """Records of books that gave way to others: a snapshot stands for them, after a gap."""
    gaps: Counter[tuple[str, str, str, str]] = attrs.field(factory=Counter)
    """Gap records by origin of what they affect, and reason."""
    rejected: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    """Frames that could not be used, by venue and reason."""
    processing: Tally = attrs.field(factory=_latency)
    """Frame read → message ready, a record."""
    acknowledgement: Tally = attrs.field(factory=_latency)
    """Message handed to the sink → acknowledged."""
    transit: dict[str, Tally] = attrs.field(factory=dict)
    """The exchange's own stamp → frame read, by exchange; clocks permitting."""
    clocks: dict[str, "ExchangeClock"] = attrs.field(factory=dict)
    """What each exchange's stamps are measured by."""
    silences: Counter[tuple[str, str, str]] = attrs.field(factory=Counter)
    """Silences that were answered, by venue, data type, and what was done."""
    faults: Counter[str] = attrs.field(factory=Counter)
    """Errors that were survived in servers and libraries, by kind."""
    gap_log: GapLog = attrs.field(factory=GapLog)
    """Gaps on their way into the log."""
    _rows: dict[tuple[str, str, str, str], StreamRow] = attrs.field(factory=dict)
    """`streams`, by what a record says: exchange, market, type and native id."""

    def tell_gap(self, gap: Gap) -> None:
        """Count a gap that is to be published, and have it logged."""
        instrument = gap.instrument
        origin = instrument.exchange, instrument.market_type, str(gap.affected)
        self.gaps[*origin, gap.reason] += 1
        if (row := self._rows.get((*origin, instrument.native_id))) is not None:
            row.gaps += 1
        self.gap_log.tell(gap)

    def open_gaps(self, connection: str) -> int:
        """Of how many streams of a connection sight is lost."""
        return sum(
            row.connection == connection and row.cursor is not None and row.cursor.gap is not None
            for row in self.streams.values()
        )

    def stream(
        self,
        venue: str,
        subscription: "Subscription",
        connection: str,
        quiet_limit: float | None,
        begun: int,
    ) -> StreamRow:
        """The row of a stream that is asked for from now on: its counts go on."""
        row = self.streams.get((venue, subscription.stream))
        if row is None:
            row = StreamRow(venue, subscription.instrument, subscription.data_type, connection)
            self.streams[venue, subscription.stream] = row
            market = subscription.instrument.exchange, subscription.instrument.market_type
            self._rows[*market, str(subscription.data_type), subscription.instrument.native_id] = (
                row
            )
        row.connection, row.quiet_limit, row.begun = connection, quiet_limit, begun
        row.standing = None
        return row

    def stream_rows(self) -> Iterator[StreamRow]:
        return iter(self.streams.values())

    def transit_of(self, exchange: str) -> Tally:
        """That exchange's tally, made when first asked for."""
        return self.transit.setdefault(exchange, _latency())
