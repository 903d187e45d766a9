"""Which streams have fallen silent, and what to do about it. Pure: all times are monotonic.

A stream is judged by its own last accepted record: never by its socket, a ping or an
acknowledgement, and never by the exchange's stamps. The longer it stays silent, the more is done:
it is renewed, then its connection is replaced, and then it is called unhealthy and renewed from
time to time, less and less often.
"""

from collections.abc import Iterator, Mapping
from enum import IntEnum

import attrs

from marketprism.clock import SECOND
from marketprism.records import DataType
from marketprism.settings.supervision import FreshnessConfig
from marketprism.streams.state import Phase, StreamState
from marketprism.streams.subscription import Capability, Stream

LEARNED = (DataType.TRADE, DataType.ORDERBOOK)
"""Streams whose limit is learned from their own rhythm."""
ANSWERED = (DataType.ORDERBOOK, DataType.FUNDING_RATE, DataType.OPEN_INTEREST)
"""Streams of which a subscription may bring what stands: that is our own asking, not their voice.
"""
FORGET = 0.98
"""What is kept of the first limit and of the longest silence with each look that finds a record."""
FADES = 600 * SECOND
"""Time in which the longest silence counts for half, at the earliest: a burst of records does not
make a slow stream fast.
"""
MOST_DOUBLINGS, LONGEST_PAUSE = 5, 600.0
"""How much rarer renewals become, and up to how many seconds, of what did not answer to them."""


class Remedy(IntEnum):
    """What a silence calls for."""

    NONE = 0
    RENEW = 1
    RECONNECT = 2
    UNHEALTHY = 3


@attrs.define
class _Watch:
    """One stream, over all its connections."""

    last: int | None = None
    """Its last record."""
    since: int | None = None
    """From when on silence is counted: its last record, or what was last done about it."""
    first: float = 0.0
    """Nanoseconds: stands for a rhythm that is not known yet, and fades as it becomes so."""
    longest: float = 0.0
    """Nanoseconds: the longest silence of its recent rhythm."""
    vain: int = 0
    """Renewals that did not help, since it was called unhealthy."""
    step: Remedy = Remedy.NONE
    answer: bool = False
    """The next record may be the answer to a subscription of ours: it ends no alarm."""
    steady: bool = False
    """It has been live since its last record: what lies before the next is its own silence, not a
    time out of contact or out of step.
    """


class Freshness:
    """The silences of one feed's streams."""

    def __init__(self, offers: Mapping[DataType, Capability], settings: FreshnessConfig) -> None:
        self._offers = offers
        self._settings = settings
        self._watches: dict[Stream, _Watch] = {}

    def connected(self) -> None:
        """A new connection: all streams are given time again; what was learned is kept."""
        for (data_type, _), watch in self._watches.items():
            watch.since, watch.steady = None, False
            watch.answer = data_type in ANSWERED

    def step(self, stream: Stream) -> Remedy:
        """What was last done about a stream's silence; NONE while it speaks."""
        watch = self._watches.get(stream)
        return Remedy.NONE if watch is None else watch.step

    def limit(self, stream: Stream) -> float | None:
        """Seconds of silence that are borne of it, by its own rhythm once it has one; None: any."""
        watch = self._watches.get(stream)
        if watch is None or watch.last is None:
            return self._offers[stream[0]].quiet_limit
        return self._limit(stream[0], watch)

    def leave(self, stream: Stream) -> None:
        """It is not asked for any more; when it comes back, its rhythm is another."""
        self._watches.pop(stream, None)

    def judge(
        self, streams: Mapping[Stream, StreamState], now: int
    ) -> Iterator[tuple[Stream, Remedy, float]]:
        """The streams that have been silent for too long, what to do, and the limit in seconds."""
        for stream, state in streams.items():
            watch = self._watches.get(stream)
            if watch is None:
                first = self._first(stream[0]) * SECOND / self._settings.factor
                watch = self._watches[stream] = _Watch(first=first)
            if state.phase in (Phase.WANTED, Phase.PARKED) or state.waits:
                # Not asked for yet (it waits for the budget), or given up in words; or it waits
                # for a host that another subscription or connection would not hurry.
                watch.since, watch.steady = None, False
                continue
            watch.steady = watch.steady and state.phase is Phase.LIVE
            self._look(watch, state, now)
            limit = self._limit(stream[0], watch)
            if limit is None or watch.since is None:
                continue
            pause = limit * 2.0 ** min(watch.vain, MOST_DOUBLINGS)
            if now - watch.since <= min(pause, max(limit, LONGEST_PAUSE)) * SECOND:
                continue
            watch.vain += watch.step is Remedy.UNHEALTHY
            watch.step = Remedy(min(watch.step + 1, Remedy.UNHEALTHY))
            watch.since, watch.answer = now, stream[0] in ANSWERED
            yield stream, watch.step, limit

    def _look(self, watch: _Watch, state: StreamState, now: int) -> None:
        last = state.last_record
        if last is not None and last != watch.last:
            since = last - watch.last if watch.last is not None else 0
            # Silence is its own where it spoke after whatever was last done about it, be it in
            # answer: else a book that is slow would be asked anew for ever, and never known.
            own = watch.steady and watch.since == watch.last
            watch.first *= FORGET
            kept = max(FORGET, 0.5 ** (since / FADES))
            watch.longest = max(float(since) if own else 0.0, watch.longest * kept)
            watch.last = watch.since = last
            watch.steady = True
            if not watch.answer:
                watch.step, watch.vain = Remedy.NONE, 0
            watch.answer = False
        elif watch.since is None:
            watch.since = now

    def _first(self, data_type: DataType) -> float:
        """Seconds that a stream of unknown rhythm is given."""
        trade = data_type is DataType.TRADE
        return self._settings.first_trade if trade else self._settings.first_record

    def _limit(self, data_type: DataType, watch: _Watch) -> float | None:
        """Seconds of silence that are borne; None: any."""
        settings = self._settings
        if data_type not in LEARNED:
            return self._offers[data_type].quiet_limit
        learned = settings.factor * max(watch.first, watch.longest) / SECOND
        return min(max(learned, settings.floor), settings.ceiling)
