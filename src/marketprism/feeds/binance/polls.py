"""What Binance has over REST only: open interest, and the long/short ratios."""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

import attrs

from marketprism.clock import MILLISECOND, SECOND, Moment
from marketprism.feeds import continuity
from marketprism.feeds.binance.messages import (
    UNREADABLE,
    RatioRow,
    read_open_interest,
    read_ratio,
    read_rows,
)
from marketprism.feeds.continuity import Place, apart
from marketprism.feeds.decimals import NotANumber, known, unsigned
from marketprism.feeds.venue import (
    SAMPLE_BYTES,
    Cursor,
    Fetch,
    Fetched,
    FetchFailed,
    Reject,
    Stream,
    Turn,
    Want,
)
from marketprism.records import (
    AllAccountRatio,
    DataType,
    LongShortRatio,
    OpenInterest,
    TopPositionRatio,
)

ROW_SECONDS: Final = 300
"""The ratios come in rows of five minutes, the shortest that is offered."""
_ROW: Final = ROW_SECONDS * SECOND
FEW_ROWS, MANY_ROWS = 30, 500
"""How many rows are asked for: as a rule, and while rows may have been missed. Binance gives no
more than 500, which is 41 hours."""

Answer = Fetched | FetchFailed
Cursors = Mapping[Stream, Cursor]


@attrs.define(eq=False)
class OpenInterestPoll:
    """`GET /fapi/v1/openInterest`: what is open now, weight 1."""

    want: Want
    base_url: str
    period: float
    offset: float
    connection: str

    @property
    def again(self) -> float:
        """It comes round often enough."""
        return self.period

    @property
    def request(self) -> Fetch:
        symbol = quote(self.want.instrument.native_id, safe="")
        return Fetch(f"{self.base_url}/fapi/v1/openInterest?symbol={symbol}", weight=1)

    def read(self, answer: Answer, cursors: Cursors, now: Moment) -> Turn:
        """A record when the exchange's time has moved on. A poll that failed is time out of
        contact: a gap, which ends with the next record.
        """
        instrument, cursor = self.want.instrument, cursors[self.want.stream]
        if isinstance(answer, FetchFailed):
            cursor.lose("disconnect", answer.words)
            return Turn()
        try:
            body = read_open_interest(answer.body)
            if body.symbol not in (None, instrument.native_id):
                raise NotANumber(f"it is of {body.symbol[:40]!r}")
            open_interest = unsigned(body.openInterest)
        except (*UNREADABLE, NotANumber) as error:
            cursor.lose("disconnect", f"its answer cannot be read: {error}")
            return _unreadable(answer, error)
        told_at = body.time * MILLISECOND
        place = continuity.placed(cursor, told_at, now)
        if place in (Place.LATEST, Place.PAST):
            return Turn()
        gap = cursor.close(instrument, self.want.data_type, now.wall, self.connection)
        cursor.event_time = told_at if place is Place.NEWS else cursor.event_time
        cursor.ahead.count += place is Place.AHEAD
        cursor.received = now.wall
        record = OpenInterest(instrument, told_at, now.wall, open_interest)
        return Turn([record] if gap is None else [gap, record])


@attrs.define(eq=False)
class RatioPoll:
    """One of the ratios under `GET /futures/data`, which tell the latest rows of five minutes.

    What an outage of ours left out is among the rows of the next answer. Only what they do not
    hold is a gap.
    """

    want: Want
    base_url: str
    period: float
    offset: float
    connection: str
    again: float = float(ROW_SECONDS)
    caught_up: bool = False
    """Nothing can have been missed since the last answer: a few rows are enough."""

    @property
    def request(self) -> Fetch:
        symbol = quote(self.want.instrument.native_id, safe="")
        rows = FEW_ROWS if self.caught_up else MANY_ROWS
        return Fetch(
            f"{self.base_url}/futures/data/{PATHS[self.want.data_type]}"
            f"?symbol={symbol}&period=5m&limit={rows}",
            # Not counted in weight, but in requests; the period keeps within those.
            weight=0,
        )

    def read(self, answer: Answer, cursors: Cursors, now: Moment) -> Turn:
        """The rows past the cursor, oldest first; at the very first, the newest one."""
        asked_few, self.caught_up = self.caught_up, False
        if isinstance(answer, FetchFailed):
            return Turn()
        turn = Turn()
        cursor = cursors[self.want.stream]
        last = continuity.believed(cursor, now)
        try:
            rows = self._rows(answer.body, last, turn)
        except (*UNREADABLE, NotANumber) as error:
            return _unreadable(answer, error)
        rows, early = apart(rows, cursor, now)
        beside = [self._record(told_at, row, now) for told_at, row in early]
        news = [row for row in rows if last is None or row[0] > last]
        if last is not None and asked_few and len(news) == len(rows) and self._hole(last, news):
            # The next answer holds more of them.
            turn.records += beside
            return turn
        self.caught_up = not turn.steps
        if rows and rows[-1][0] == last:
            cursor.gap = None  # the newest row is the last one published: nothing was missed
        before = None
        for told_at, row in news if last is not None else news[-1:]:
            if (told_at, None) not in cursor.ahead:
                self._publish(told_at, row, before, cursor, now, turn)
            cursor.event_time = before = told_at
        turn.records += beside
        return turn

    @staticmethod
    def _hole(last: int, news: Sequence[tuple[int, RatioRow]]) -> bool:
        return bool(news) and news[0][0] - last > _ROW

    def _rows(self, body: bytes, last: int | None, turn: Turn) -> list[tuple[int, RatioRow]]:
        """By their time, each time once; of those past `last`, what cannot be read is rejected.
        Raises msgspec.DecodeError, and NotANumber where they are another symbol's.
        """
        rows: dict[int, RatioRow] = {}
        for raw in read_rows(body):
            try:
                row = read_ratio(raw)
            except UNREADABLE as error:
                turn.steps.append(Reject("unfit event", str(error), bytes(raw)[:SAMPLE_BYTES]))
                continue
            if row.symbol not in (None, self.want.instrument.native_id):
                raise NotANumber(f"it is of {row.symbol[:40]!r}")
            told_at = row.timestamp * MILLISECOND
            if (last is None or told_at > last) and not _plain(row):
                detail = "it has no number"
                turn.steps.append(Reject("bad number", detail, bytes(raw)[:SAMPLE_BYTES]))
                continue
            rows[told_at] = row
        return sorted(rows.items(), key=lambda item: item[0])

    def _publish(
        self,
        told_at: int,
        row: RatioRow,
        before: int | None,
        cursor: Cursor,
        now: Moment,
        turn: Turn,
    ) -> None:
        """`before`: the time of the row before it, where that came in the same answer."""
        instrument, data_type = self.want.instrument, self.want.data_type
        last = cursor.event_time
        if last is not None and told_at - last > _ROW:
            cursor.lose("disconnect", "rows are missing in the answer", before)
        elif last is not None:
            # The row after the last one: nothing was missed, whatever happened between.
            cursor.gap = None
        gap = cursor.close(instrument, data_type, now.wall, self.connection, until=told_at)
        if gap is not None:
            turn.records.append(gap)
        cursor.event_time, cursor.received = told_at, now.wall
        turn.records.append(self._record(told_at, row, now))

    def _record(self, told_at: int, row: RatioRow, now: Moment) -> LongShortRatio:
        return RECORDS[self.want.data_type](
            self.want.instrument,
            told_at,
            now.wall,
            row.longShortRatio,
            row.longAccount,
            row.shortAccount,
            "5m",
        )


PATHS: Final[Mapping[DataType, str]] = {
    DataType.LSR_TOP_POSITION: "topLongShortPositionRatio",
    DataType.LSR_ALL_ACCOUNT: "globalLongShortAccountRatio",
}
RECORDS: Final[Mapping[DataType, type[TopPositionRatio] | type[AllAccountRatio]]] = {
    DataType.LSR_TOP_POSITION: TopPositionRatio,
    DataType.LSR_ALL_ACCOUNT: AllAccountRatio,
}


def _plain(row: RatioRow) -> bool:
    """Make its numbers plain, and null where they are none; whether one is left."""
    row.longShortRatio = known(row.longShortRatio, unsigned)
    row.longAccount = known(row.longAccount, unsigned)
    row.shortAccount = known(row.shortAccount, unsigned)
    return any((row.longShortRatio, row.longAccount, row.shortAccount))


def _unreadable(answer: Fetched, error: Exception) -> Turn:
    return Turn(steps=[Reject("unreadable answer", str(error), answer.body[:SAMPLE_BYTES])])
