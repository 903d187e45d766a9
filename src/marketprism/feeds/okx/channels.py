"""From elements of OKX's channels to records; books have a file of their own. Pure."""

from collections import Counter

import msgspec

from marketprism.clock import HOUR, MILLISECOND, Timestamp
from marketprism.decimals import NotANumber, known, signed, unsigned
from marketprism.feeds import continuity
from marketprism.feeds.actions import Output
from marketprism.feeds.continuity import Place
from marketprism.feeds.contracts import base_quantity
from marketprism.feeds.market_trades import leave_out, left_out
from marketprism.feeds.okx.messages import (
    Funding,
    Interest,
    Liquidated,
    Liquidation,
    Trade,
    nanoseconds,
    number,
    read_liquidation,
)
from marketprism.feeds.sampling import FundingSampling
from marketprism.instruments import Instrument
from marketprism.records import FundingRate as FundingRecord
from marketprism.records import Liquidation as LiquidationRecord
from marketprism.records import OpenInterest as OpenInterestRecord
from marketprism.records import Trade as TradeRecord
from marketprism.streams.cursor import Cursor
from marketprism.streams.recent_ids import RecentIds
from marketprism.streams.state import Phase, StreamState

LONGEST_INTERVAL = 168
"""Hours: what is longer is no funding interval."""


def trade(state: StreamState, said: Trade, now: Timestamp, connection: str, output: Output) -> None:
    """Channel `trades`. `tradeId` is the last of the aggregate's, `count` how many it is of.

    Ids come in no order, so the latest of them tell what is new. Nor need they be without holes:
    one that jumps proves no loss; but an aggregate that reaches back to a known id leaves no room
    for one.
    """
    price, size = unsigned(said.px), unsigned(said.sz)
    last, traded_at = number(said.tradeId), nanoseconds(said.ts)
    count = known(said.count, number)
    instrument, cursor = state.instrument, state.cursor
    recent, at = recent_trades(cursor), min(traded_at, cursor.clock.time(now))
    if recent.knows(last, at):
        state.duplicates += 1
        return
    if count and cursor.gap is not None and recent.holds_one_of(last - count, last - 1):
        cursor.gap = None
    recent.add(last, at)
    gap = continuity.accept_uncounted(state, traded_at, now, connection)
    cursor.last_id = last
    if gap is not None:
        output.records.append(gap)
    if (why := left_out(price, size)) is not None:
        leave_out(state, said, why, output)
        return
    output.records.append(
        TradeRecord(
            instrument,
            traded_at,
            now.wall,
            trade_id=said.tradeId,
            price=price,
            quantity=base_quantity(instrument, size, price),
            side=said.side,
            trade_kind="aggregated",
            first_trade_id=said.tradeId if count == 1 else None,
            last_trade_id=said.tradeId,
            contracts=_contracts(instrument, size),
        )
    )


def recent_trades(cursor: Cursor) -> RecentIds:
    """The latest trades of a stream, as far as they are known."""
    if cursor.recent is None:
        stored = [] if cursor.last_id is None else [(cursor.last_id, cursor.event_time or 0)]
        cursor.recent = RecentIds.last(stored)
    return cursor.recent


def funding_rate(
    state: StreamState,
    sampling: FundingSampling,
    said: Funding,
    now: Timestamp,
    connection: str,
    output: Output,
) -> None:
    """Channel `funding-rate`. An element without a time (before 2024) is of when it was read."""
    rate, estimated = signed(said.fundingRate), known(said.nextFundingRate, signed)
    funding_time = known(said.fundingTime, nanoseconds)
    following = known(said.nextFundingTime, nanoseconds)
    happened = funding_told_at(said, now)
    cursor = state.cursor
    place = continuity.placed(cursor, happened, now)
    if place is Place.PAST:
        state.duplicates += 1
        return
    if place is Place.LATEST:
        # Told already, and still the latest: nothing was missed since.
        cursor.gap = None
        cursor.received, state.last_record = now.wall, now.monotonic
        state.phase, state.detail = Phase.LIVE, None
        state.duplicates += 1
        return
    due = place is Place.AHEAD or sampling.due(rate, funding_time, happened)
    if not due and cursor.gap is None and state.phase is Phase.LIVE:
        cursor.received, state.last_record = now.wall, now.monotonic
        return
    record = FundingRecord(
        state.instrument,
        happened,
        now.wall,
        current_funding_rate=rate,
        estimated_funding_rate=estimated,
        funding_time=funding_time,
        next_funding_time=following,
        funding_interval=_interval(funding_time, following),
    )
    continuity.tell(state, record, now, connection, output)


def funding_told_at(said: Funding, now: Timestamp) -> int:
    """Nanoseconds. Raises NotANumber."""
    told_at = nanoseconds(said.ts) if said.ts else 0
    return told_at or now.wall // MILLISECOND * MILLISECOND


def open_interest(
    state: StreamState, said: Interest, now: Timestamp, connection: str, output: Output
) -> None:
    """Channel `open-interest`, every 3 s: published when its time moves."""
    contracts, happened = known(said.oi, unsigned), nanoseconds(said.ts)
    base, value = known(said.oiCcy, unsigned), known(said.oiUsd, unsigned)
    instrument, cursor = state.instrument, state.cursor
    if base is None and contracts is None:
        raise NotANumber("neither oi nor oiCcy is a number")
    if base is None and contracts is not None and not instrument.inverse:
        # Of an inverse contract it would take a price.
        base = base_quantity(instrument, contracts, "1")
    if continuity.placed(cursor, happened, now) in (Place.LATEST, Place.PAST):
        state.duplicates += 1
        state.last_record = now.monotonic
        return
    record = OpenInterestRecord(instrument, happened, now.wall, base, contracts, value)
    continuity.tell(state, record, now, connection, output)


def liquidations(
    instrument: Instrument, said: Liquidated, equals: Counter[str], now: Timestamp
) -> tuple[list[LiquidationRecord], list[tuple[Exception, bytes]]]:
    """Channel `liquidation-orders`: every detail counts, in whatever order of time. Also those
    that cannot be read, and why.

    `equals` counts what one push tells several times.
    """
    records: list[LiquidationRecord] = []
    bad: list[tuple[Exception, bytes]] = []
    for raw in said.details:
        try:
            records.append(_liquidation(instrument, read_liquidation(raw), equals, now))
        except (msgspec.DecodeError, UnicodeDecodeError, NotANumber) as error:
            bad.append((error, bytes(raw)))
    return records, bad


def _liquidation(
    instrument: Instrument, said: Liquidation, equals: Counter[str], now: Timestamp
) -> LiquidationRecord:
    """One of them. What makes its id is what it says: nothing, where that cannot be read."""
    price, size = known(said.bkPx, unsigned), known(said.sz, unsigned)
    happened = nanoseconds(said.ts)
    told = f"{happened // MILLISECOND}:{said.side or ''}:{said.posSide}:{price or ''}:{size or ''}"
    key = f"{instrument.native_id}:{told}"
    equals[key] += 1
    return LiquidationRecord(
        instrument,
        happened,
        now.wall,
        liquidation_id=f"{told}:{equals[key]}",
        side=said.side,
        status=None,
        price=price,
        average_price=None,
        quantity=_liquidated(instrument, size, price),
        filled_quantity=None,
        notional_value=None,
        contracts=_contracts(instrument, size),
        sampled=True,
    )


def _liquidated(instrument: Instrument, size: str | None, price: str | None) -> str | None:
    """In the base asset; None where an inverse contract has no price that says how much it is."""
    if size is None:
        return None
    if instrument.inverse and (price is None or not price.strip("0.")):
        return None
    return base_quantity(instrument, size, price or "1")


def _contracts(instrument: Instrument, size: str | None) -> str | None:
    return None if instrument.contract_size is None else size


def _interval(funding_time: int | None, following: int | None) -> str | None:
    """`8h`; None where it is not a whole number of hours above zero."""
    if funding_time is None or following is None:
        return None
    hours, rest = divmod(following - funding_time, HOUR)
    return f"{hours}h" if 0 < hours <= LONGEST_INTERVAL and not rest else None
