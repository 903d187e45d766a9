"""What Binance has over REST only: open interest, and the long/short ratios."""

from collections.abc import Mapping
from typing import ClassVar, Final
from urllib.parse import quote

import attrs

from marketprism.clock import MILLISECOND, SECOND, Timestamp
from marketprism.decimals import NotANumber, known, unsigned
from marketprism.feeds import continuity
from marketprism.feeds.actions import Fetch, Fetched, FetchFailed, Output, Reject
from marketprism.feeds.binance.messages import UNREADABLE
from marketprism.feeds.binance.rest_messages import (
    RatioRow,
    read_open_interest,
    read_ratio,
    read_rows,
)
from marketprism.feeds.continuity import Place, apart
from marketprism.feeds.rows import RowPoll
from marketprism.feeds.venue import SAMPLE_BYTES
from marketprism.records import (
    AllAccountRatio,
    DataType,
    GapReason,
    LongShortRatio,
    OpenInterest,
    TopPositionRatio,
)
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Stream, Subscription

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

    subscription: Subscription
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
        symbol = quote(self.subscription.instrument.native_id, safe="")
        return Fetch(f"{self.base_url}/fapi/v1/openInterest?symbol={symbol}", weight=1)

    def read(self, answer: Answer, cursors: Cursors, now: Timestamp) -> Output:
        """A record when the exchange's time has moved on. A poll that failed is time out of
        contact: a gap, which ends with the next record.
        """
        instrument, cursor = self.subscription.instrument, cursors[self.subscription.stream]
        if isinstance(answer, FetchFailed):
            cursor.lose("disconnect", answer.words)
            return Output()
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
            return Output()
        gap = cursor.close(instrument, self.subscription.data_type, now.wall, self.connection)
        cursor.event_time = told_at if place is Place.NEWS else cursor.event_time
        cursor.ahead.count += place is Place.AHEAD
        cursor.received = now.wall
        record = OpenInterest(instrument, told_at, now.wall, open_interest)
        return Output([record] if gap is None else [gap, record])


@attrs.define(eq=False)
class RatioPoll(RowPoll[RatioRow]):
    """One of the ratios under `GET /futures/data`, which tell the latest rows of five minutes."""

    step: ClassVar[int] = _ROW
    reason: ClassVar[GapReason] = "disconnect"
    subscription: Subscription
    base_url: str
    period: float
    offset: float
    connection: str
    again: float = float(ROW_SECONDS)
    caught_up: bool = False
    """Nothing can have been missed since the last answer: a few rows are enough."""

    @property
    def request(self) -> Fetch:
        symbol = quote(self.subscription.instrument.native_id, safe="")
        rows = FEW_ROWS if self.caught_up else MANY_ROWS
        return Fetch(
            f"{self.base_url}/futures/data/{PATHS[self.subscription.data_type]}"
            f"?symbol={symbol}&period=5m&limit={rows}",
            # Not counted in weight, but in requests; the period keeps within those.
            weight=0,
        )

    def read(self, answer: Answer, cursors: Cursors, now: Timestamp) -> Output:
        """The rows past the cursor, oldest first; at the very first, the newest one."""
        asked_few, self.caught_up = self.caught_up, False
        if isinstance(answer, FetchFailed):
            return Output()
        output = Output()
        cursor = cursors[self.subscription.stream]
        last = continuity.believed(cursor, now)
        try:
            rows = self._rows(answer.body, last, output)
        except (*UNREADABLE, NotANumber) as error:
            return _unreadable(answer, error)
        rows, early = apart(rows, cursor, now)
        beside = [self._record(told_at, row, now) for told_at, row in early]
        if last is not None and asked_few and rows and rows[0][0] - last > self.step:
            # The next answer holds more of them.
            output.records += beside
            return output
        self.caught_up = not output.actions
        self._tell(rows, last, cursor, now, output)
        output.records += beside
        return output

    def _rows(self, body: bytes, last: int | None, output: Output) -> list[tuple[int, RatioRow]]:
        """By their time, each time once; of those past `last`, what cannot be read is rejected.
        Raises msgspec.DecodeError, and NotANumber where they are another symbol's.
        """
        rows: dict[int, RatioRow] = {}
        for raw in read_rows(body):
            try:
                row = read_ratio(raw)
            except UNREADABLE as error:
                output.actions.append(Reject("unfit event", str(error), bytes(raw)[:SAMPLE_BYTES]))
                continue
            if row.symbol not in (None, self.subscription.instrument.native_id):
                raise NotANumber(f"it is of {row.symbol[:40]!r}")
            told_at = row.timestamp * MILLISECOND
            if (last is None or told_at > last) and not _plain(row):
                detail = "it has no number"
                output.actions.append(Reject("bad number", detail, bytes(raw)[:SAMPLE_BYTES]))
                continue
            rows[told_at] = row
        return sorted(rows.items(), key=lambda item: item[0])

    def _record(self, told_at: int, row: RatioRow, now: Timestamp) -> LongShortRatio:
        return RECORDS[self.subscription.data_type](
            self.subscription.instrument,
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


def _unreadable(answer: Fetched, error: Exception) -> Output:
    return Output(actions=[Reject("unreadable answer", str(error), answer.body[:SAMPLE_BYTES])])
