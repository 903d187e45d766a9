"""One volatility index, without holes over a reconnect.

The first value of a new connection shows what is missing: everything between the last value that
was published and this one. It is asked of `public/get_volatility_index_data`; live values wait
meanwhile, and are published after it.

What REST has are candles, of a second or a minute. A candle is published as what it says for
certain: at its end, the index was at its close. So a minute and its last second say the same, and
no value is dated before it was known. Only ends between the two live values are taken: they never
precede what is published, nor follow what comes next, nor share a time with either.

A hole is filled when its candles are there at their step. Each stretch without them is a gap with
its bounds: what the exchange did not have, or not in time, or what could not be read.
"""

from typing import Final

import attrs

from marketprism import decimals
from marketprism.clock import MILLISECOND, SECOND, Timestamp
from marketprism.feeds import continuity
from marketprism.feeds.actions import Fetch, Fetched, FetchFailed, Output, Priority, Reject
from marketprism.feeds.continuity import Place
from marketprism.feeds.deribit.messages import UNREADABLE, read_candle, read_page
from marketprism.feeds.venue import SAMPLE_BYTES, Tag
from marketprism.records import GapReason, VolatilityIndex
from marketprism.streams.cursor import OpenGap
from marketprism.streams.state import StreamState

PATIENCE: Final = 30 * SECOND
"""How long live values wait for those before them."""
RETRY_AFTER: Final = 2 * SECOND
MAX_HELD: Final = 1_000
FINE, COARSE = 1, 60
"""Seconds of a candle. Deribit has these two, and some that are longer."""
FINE_UP_TO: Final = 1_000 * SECOND
"""The longest hole that is filled second by second: Deribit gives some 1000 candles a page."""
MAX_PAGES: Final = 5
RHYTHM: Final = SECOND
"""From one live value to the next, about: so much later than a candle, the first of them misses
nothing."""
RESET_AFTER: Final = 3
"""So many values in a row before the last one: that one's time was wrong."""
LAG: Final = 60
"""So many values that another connection told may be heard again, and are no such doubt."""


@attrs.define(eq=False)
class Filling:
    """A hole, and what is known of it so far."""

    after: int
    before: int
    """Nanoseconds: what is missing lies between, and is neither."""
    reason: GapReason
    why: str
    """Both of the loss that made it."""
    deadline: int
    resolution: int
    end: int
    """Milliseconds: the `end_timestamp` of the page that is asked for."""
    pages: int = 0
    values: dict[int, str] = attrs.field(factory=dict)
    """By their time."""
    retry_at: int | None = None

    def lacks(self, earlier: int, later: int) -> bool:
        """Whether a value is missing between the times of two neighbours."""
        return later - earlier >= self.resolution * SECOND + RHYTHM


@attrs.define(eq=False)
class Series:
    """One index on one connection."""

    state: StreamState
    base_url: str
    connection: str
    joined: bool = False
    """Its first value has come, so that the rest follows it."""
    filling: Filling | None = None
    held: list[VolatilityIndex] = attrs.field(factory=list)
    attempt: int = 0
    behind: int = 0

    def restart(self) -> None:
        """It is subscribed anew: the next value is a first one."""
        self.joined, self.filling, self.held = False, None, []
        self.attempt += 1

    def succeed(self, old: "Series", *, overlaps: bool) -> None:
        """Go on where another connection is, of which nothing is missing: this one `overlaps`
        what that one published, or there was nothing.
        """
        self.joined = overlaps or (old.joined and old.filling is None)
        self.behind = -LAG

    def on_event(self, told_at: int, value: str, now: Timestamp, output: Output) -> None:
        """A live value. One of a time to come is told at once, and nothing follows from it."""
        record, cursor = self._record(told_at, value, now), self.state.cursor
        if cursor.clock.is_ahead(told_at, now):
            if continuity.placed(cursor, told_at, now) is Place.AHEAD:
                continuity.lives(self.state, now)
                cursor.ahead.count += 1
                output.records.append(record)
            else:
                self.state.duplicates += 1
        elif self.filling is not None:
            self.held.append(record)
            if len(self.held) > MAX_HELD:
                self._finish(now, output)
        elif self.joined:
            self._publish(record, now, output)
        else:
            self._join(record, now, output)

    def answered(
        self, attempt: int, answer: Fetched | FetchFailed, now: Timestamp, output: Output
    ) -> None:
        """A page of what is missing, or why there is none."""
        filling = self.filling
        if filling is None or attempt != self.attempt:
            return
        if isinstance(answer, FetchFailed):
            self._failed(filling, answer, now, output)
            return
        try:
            page = read_page(answer.body).result
        except UNREADABLE as error:
            output.actions.append(
                Reject("unreadable answer", str(error), answer.body[:SAMPLE_BYTES])
            )
            filling.retry_at = now.monotonic + RETRY_AFTER
            return
        for row in page.data:
            try:
                begun_at, close = read_candle(row)
                told_at = begun_at * MILLISECOND + filling.resolution * SECOND
                if filling.after < told_at < filling.before and close != b"null":
                    filling.values[told_at] = decimals.from_json(close)
            except (*UNREADABLE, decimals.NotANumber) as error:
                # One that cannot be read leaves its place open, not that of its neighbours.
                output.actions.append(Reject("unfit event", str(error), bytes(row)[:SAMPLE_BYTES]))
        filling.pages += 1
        older = page.continuation
        if (
            older is not None
            and filling.after // MILLISECOND < older < filling.end
            and filling.pages < MAX_PAGES
        ):
            filling.end = older
            output.actions.append(self._ask(filling))
        else:
            self._finish(now, output)

    def tick(self, now: Timestamp, output: Output) -> None:
        """Ask again when it is time; give up when it is too late."""
        if (filling := self.filling) is None:
            return
        if now.monotonic >= filling.deadline:
            self._finish(now, output)
        elif filling.retry_at is not None and now.monotonic >= filling.retry_at:
            filling.retry_at = None
            output.actions.append(self._ask(filling))

    def _join(self, record: VolatilityIndex, now: Timestamp, output: Output) -> None:
        cursor, told_at = self.state.cursor, record.timestamp
        self.joined = True
        assert told_at is not None
        last = continuity.believed(cursor, now)
        if last is None or told_at <= last:
            self._publish(record, now, output)
            return
        cursor.lose("disconnect", "values are missing")
        lost = cursor.gap or OpenGap("disconnect", last, "values are missing")
        hole = told_at - last
        self.held = [record]
        self.filling = Filling(
            after=last,
            before=told_at,
            reason=lost.reason,
            why=lost.why,
            deadline=now.monotonic + PATIENCE,
            resolution=FINE if hole <= FINE_UP_TO else COARSE,
            end=told_at // MILLISECOND,
        )
        if hole < FINE * SECOND + RHYTHM:
            # No candle is missing between.
            self._finish(now, output)
            return
        self.state.detail = "waiting for what was missed"
        output.actions.append(self._ask(self.filling))

    def _ask(self, filling: Filling) -> Fetch:
        self.attempt += 1
        begin = filling.after // MILLISECOND - filling.resolution * 1_000
        return Fetch(
            f"{self.base_url}/api/v2/public/get_volatility_index_data"
            f"?currency={self.state.instrument.symbol}&start_timestamp={begin}"
            f"&end_timestamp={filling.end}&resolution={filling.resolution}",
            Tag(self.state.instrument.native_id, self.attempt),
            priority=Priority.RESYNC,
        )

    def _failed(
        self, filling: Filling, answer: FetchFailed, now: Timestamp, output: Output
    ) -> None:
        """Again soon, and by the minute where the exchange would not tell it by the second."""
        refused = answer.status == 400 and not answer.meaning.passes
        if refused and filling.resolution != FINE:
            self._finish(now, output)
            return
        if refused:
            filling.resolution = COARSE
        wait = max(RETRY_AFTER, round((answer.retry_after or 0.0) * SECOND))
        filling.retry_at = now.monotonic + wait
        if filling.retry_at >= filling.deadline:
            self._finish(now, output)

    def _finish(self, now: Timestamp, output: Output) -> None:
        """What was missed, then what has waited for it; and each stretch that was not filled as a
        gap before the value that ends it.
        """
        filling, held, self.filling, self.held = self.filling, self.held, None, []
        assert filling is not None
        self.attempt += 1
        earlier = filling.after
        rows = (self._record(*row, now) for row in sorted(filling.values.items()))
        for record in (*rows, held[0]):
            assert record.timestamp is not None
            if filling.lacks(earlier, record.timestamp):
                self._tell(earlier, record.timestamp, filling, now, output)
            self.state.cursor.gap = None
            self._publish(record, now, output)
            earlier = record.timestamp
        for record in held[1:]:
            self._publish(record, now, output)

    def _tell(
        self, earlier: int, later: int, filling: Filling, now: Timestamp, output: Output
    ) -> None:
        """A gap between the values of these times. The first one began when sight was lost."""
        state, cursor = self.state, self.state.cursor
        cursor.lose(filling.reason, filling.why, earlier)
        gap = cursor.close(
            state.instrument, state.data_type, now.wall, self.connection, until=later
        )
        if gap is not None:
            output.records.append(gap)

    def _publish(self, record: VolatilityIndex, now: Timestamp, output: Output) -> None:
        state, told_at = self.state, record.timestamp
        last = continuity.believed(state.cursor, now)
        assert told_at is not None
        if last is not None and told_at <= last:
            self.behind += told_at < last
            if told_at == last or self.behind < RESET_AFTER:
                # Told already; so nothing is missing up to it.
                state.cursor.gap = None if told_at == last else state.cursor.gap
                state.duplicates += 1
                return
            state.cursor.lose("sequence", "its times began anew")
        if (told_at, None) in state.cursor.ahead:
            state.duplicates += 1
            return
        self.behind = 0
        continuity.tell(state, record, now, self.connection, output)

    def _record(self, told_at: int, value: str, now: Timestamp) -> VolatilityIndex:
        instrument = self.state.instrument
        return VolatilityIndex(
            instrument,
            told_at,
            now.wall,
            volatility_index=value,
            currency=instrument.symbol,
            index_name=instrument.native_id,
        )
