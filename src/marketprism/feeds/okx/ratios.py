"""OKX's long/short ratios, polled over REST every five minutes. Pure.

OKX tells one number, long ÷ short, whatever its size; the shares follow from it. Its rows come
newest first, one for each five minutes.
"""

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import ClassVar, Final
from urllib.parse import quote

import attrs
import msgspec

from marketprism.clock import SECOND, Timestamp
from marketprism.decimals import unsigned
from marketprism.feeds import continuity
from marketprism.feeds.actions import Fetch, Fetched, FetchFailed, Output, Priority, Reject
from marketprism.feeds.continuity import apart
from marketprism.feeds.okx.messages import (
    UNREADABLE,
    nanoseconds,
    read_data,
    read_ratio,
)
from marketprism.feeds.rows import RowPoll
from marketprism.feeds.venue import SAMPLE_BYTES
from marketprism.instruments import Instrument
from marketprism.records import AllAccountRatio, DataType, GapReason, TopPositionRatio
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Stream, Subscription

PERIOD: Final = "5m"
PERIOD_SECONDS: Final = 300.0
ROWS: Final = 24
"""In one answer: two hours of outage are filled."""
RATIO_WEIGHT: Final = 8
FIRST_OFFSET: Final = 5.0
"""Seconds from a row's time to its first request."""
APART: Final = 0.5
"""Seconds between two polls: on the average four in the two seconds in which OKX allows five."""
AGAIN: Final = 20.0
"""Seconds until a row that was not there yet is asked for again, at least."""
SPREAD: Final = 560
"""So many polls have offsets of their own within a period; the next share them again."""
PATHS: Final[Mapping[DataType, str]] = {
    DataType.LSR_TOP_POSITION: "long-short-position-ratio-contract-top-trader",
    DataType.LSR_ALL_ACCOUNT: "long-short-account-ratio-contract",
}

_wide: Final = Context(prec=200, rounding=ROUND_HALF_EVEN)
_SHARE: Final = Decimal("0.0001")


def shares(ratio: str) -> tuple[str, str]:
    """The long and the short share of a ratio: four digits half-even, together one."""
    value = Decimal(ratio)
    share = _wide.divide(value, _wide.add(value, 1)).quantize(_SHARE, context=_wide)
    return format(share, "f"), format(1 - share, "f")


@attrs.frozen
class RatioPoll(RowPoll[str]):
    """One ratio of one instrument."""

    step: ClassVar[int] = round(PERIOD_SECONDS * SECOND)
    reason: ClassVar[GapReason] = "sequence"

    subscription: Subscription
    request: Fetch
    offset: float
    connection: str
    again: float
    period: float = PERIOD_SECONDS

    def read(
        self, answer: Fetched | FetchFailed, cursors: Mapping[Stream, Cursor], now: Timestamp
    ) -> Output:
        """The rows past the cursor, oldest first; without one the newest alone."""
        output = Output()
        if isinstance(answer, FetchFailed):
            return output
        try:
            data = read_data(answer.body)
        except (*UNREADABLE, ValueError) as error:
            sample = answer.body[:SAMPLE_BYTES]
            output.actions.append(Reject("unreadable answer", str(error), sample))
            return output
        cursor = cursors[self.subscription.stream]
        last = continuity.believed(cursor, now)
        rows, early = apart(self._rows(data, last, output), cursor, now)
        self._tell(rows, last, cursor, now, output)
        output.records += [self._record(happened, ratio, now) for happened, ratio in early]
        return output

    def _rows(
        self, data: Sequence[msgspec.Raw], last: int | None, output: Output
    ) -> list[tuple[int, str]]:
        """By their time; of those past `last`, what cannot be read is rejected."""
        rows: dict[int, str] = {}
        for raw in data:
            try:
                time, ratio = read_ratio(raw)
                happened = nanoseconds(time)
                known = last is not None and happened <= last
                rows.setdefault(happened, ratio if known else unsigned(ratio))
            except (*UNREADABLE, ValueError) as error:
                output.actions.append(Reject("unfit event", str(error), bytes(raw)[:SAMPLE_BYTES]))
        return sorted(rows.items())

    def _record(
        self, happened: int, ratio: str, now: Timestamp
    ) -> TopPositionRatio | AllAccountRatio:
        instrument, data_type = self.subscription.instrument, self.subscription.data_type
        kind = TopPositionRatio if data_type is DataType.LSR_TOP_POSITION else AllAccountRatio
        return kind(instrument, happened, now.wall, ratio, *shares(ratio), PERIOD)


def ratio_polls(
    base_url: str, venue: str, subscriptions: Sequence[Subscription]
) -> list[RatioPoll]:
    """A poll for each ratio that is wanted, spread over the period."""
    chosen = [subscription for subscription in subscriptions if subscription.data_type in PATHS]
    rounds = max(1, PERIOD_SECONDS // (APART * max(1, len(chosen))))
    return [
        RatioPoll(
            subscription,
            Fetch(
                _url(base_url, subscription.data_type, subscription.instrument),
                tag=subscription.stream,
                weight=RATIO_WEIGHT,
                priority=Priority.POLL,
            ),
            FIRST_OFFSET + number % SPREAD * APART,
            f"{venue}/{subscription.data_type}",
            max(AGAIN, PERIOD_SECONDS / rounds),
        )
        for number, subscription in enumerate(chosen)
    ]


def _url(base_url: str, data_type: DataType, instrument: Instrument) -> str:
    return (
        f"{base_url}/api/v5/rubik/stat/contracts/{PATHS[data_type]}"
        f"?instId={quote(instrument.native_id, safe='')}&period={PERIOD}&limit={ROWS}"
    )
