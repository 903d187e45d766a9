"""From elements of OKX's channels to records; books have a file of their own. Pure."""

from collections import Counter

import msgspec

from marketprism.feeds import continuity
from marketprism.feeds.contracts import base_quantity
from marketprism.feeds.decimals import NotANumber, signed, unsigned
from marketprism.feeds.okx.messages import (
    Liquidation,
    nanoseconds,
    number,
    read_funding,
    read_interest,
    read_liquidated,
    read_liquidation,
    read_trade,
)
from marketprism.feeds.thinning import FundingThinning
from marketprism.feeds.venue import Moment, Phase, StreamState, Turn
from marketprism.instruments import Instrument
from marketprism.records import FundingRate as FundingRecord
from marketprism.records import Liquidation as LiquidationRecord
from marketprism.records import OpenInterest as OpenInterestRecord
from marketprism.records import Trade as TradeRecord

HOUR_SECONDS = 3600


def trade(
    state: StreamState, element: msgspec.Raw, now: Moment, connection: str, turn: Turn
) -> None:
    """Channel `trades`. `tradeId` is the last of the aggregate's, `count` how many it is of.

    Ids need not be without holes, so one that jumps proves no loss; but an aggregate that reaches
    back to the last known id leaves no room for one.
    """
    said = read_trade(element)
    price, size = unsigned(said.px), unsigned(said.sz)
    last, traded_at = number(said.tradeId), nanoseconds(said.ts)
    count = number(said.count) if said.count else None
    instrument, cursor = state.instrument, state.cursor
    quantity = base_quantity(instrument, size, price)
    if cursor.last_id is not None:
        later = cursor.event_time is not None and traded_at > cursor.event_time
        if last <= cursor.last_id and not later:
            state.duplicates += 1
            return
        if count and last - count <= cursor.last_id < last:
            cursor.gap = None
    gap = continuity.accept_uncounted(state, traded_at, now, connection)
    cursor.last_id = last
    if gap is not None:
        turn.records.append(gap)
    turn.records.append(
        TradeRecord(
            instrument,
            traded_at,
            now.wall,
            trade_id=said.tradeId,
            price=price,
            quantity=quantity,
            side=said.side,
            trade_kind="aggregated",
            first_trade_id=said.tradeId if count == 1 else None,
            last_trade_id=said.tradeId,
            contracts=_contracts(instrument, size),
        )
    )


def funding_rate(
    state: StreamState,
    thinning: FundingThinning,
    element: msgspec.Raw,
    now: Moment,
    connection: str,
    turn: Turn,
) -> None:
    """Channel `funding-rate`. An element without a time (before 2024) is of when it was read."""
    said = read_funding(element)
    rate = signed(said.fundingRate)
    estimated = signed(said.nextFundingRate) if said.nextFundingRate else None
    funding_time, following = _time(said.fundingTime), _time(said.nextFundingTime)
    happened = _time(said.ts) or now.wall // 1_000_000 * 1_000_000
    cursor = state.cursor
    if cursor.event_time is not None and happened < cursor.event_time:
        state.duplicates += 1
        return
    if happened == cursor.event_time:
        # Told already, and still the latest: nothing was missed since.
        cursor.gap = None
        cursor.received, state.last_record = now.wall, now.monotonic
        state.phase, state.detail = Phase.LIVE, None
        state.duplicates += 1
        return
    due = thinning.due(rate, funding_time, happened)
    if not due and cursor.gap is None and state.phase is Phase.LIVE:
        cursor.received, state.last_record = now.wall, now.monotonic
        return
    gap = continuity.accept_uncounted(state, happened, now, connection)
    if gap is not None:
        turn.records.append(gap)
    turn.records.append(
        FundingRecord(
            state.instrument,
            happened,
            now.wall,
            current_funding_rate=rate,
            estimated_funding_rate=estimated,
            funding_time=funding_time,
            next_funding_time=following,
            funding_interval=_interval(funding_time, following),
        )
    )


def open_interest(
    state: StreamState, element: msgspec.Raw, now: Moment, connection: str, turn: Turn
) -> None:
    """Channel `open-interest`, every 3 s: published when its time moves."""
    said = read_interest(element)
    contracts, happened = unsigned(said.oi), nanoseconds(said.ts)
    value = unsigned(said.oiUsd) if said.oiUsd else None
    instrument, cursor = state.instrument, state.cursor
    if said.oiCcy:
        base = unsigned(said.oiCcy)
    elif instrument.inverse:
        raise NotANumber("no oiCcy, and an inverse contract's base quantity needs a price")
    else:
        base = base_quantity(instrument, contracts, "1")
    if cursor.event_time is not None and happened <= cursor.event_time:
        state.duplicates += 1
        state.last_record = now.monotonic
        return
    gap = continuity.accept_uncounted(state, happened, now, connection)
    if gap is not None:
        turn.records.append(gap)
    turn.records.append(OpenInterestRecord(instrument, happened, now.wall, base, contracts, value))


class Liquidations:
    """Channel `liquidation-orders`: one subscription tells of all instruments of a type.

    Every detail counts, in whatever order of time. What is said of instruments that nobody wants
    is passed over.
    """

    def __init__(self, connection: str) -> None:
        self._connection = connection
        self.states: dict[str, StreamState] = {}

    def stand(self, state: StreamState, now: Moment, turn: Turn) -> None:
        """The subscription is acknowledged: from now on silence means that nothing happened."""
        gap = continuity.listening(state, now, self._connection)
        if gap is not None:
            turn.records.append(gap)

    def hear(
        self, element: msgspec.Raw, equals: Counter[str], now: Moment, turn: Turn
    ) -> list[tuple[Exception, bytes]]:
        """One instrument's liquidations; the answer is what of them could not be read.

        `equals` counts what one push tells several times.
        """
        said = read_liquidated(element)
        for other in self.states.values():
            other.cursor.received = now.wall
        state = self.states.get(said.instId)
        bad: list[tuple[Exception, bytes]] = []
        if state is None:
            return bad
        for raw in said.details:
            try:
                self._detail(state, read_liquidation(raw), equals, now, turn)
            except (msgspec.DecodeError, UnicodeDecodeError, NotANumber) as error:
                bad.append((error, bytes(raw)))
        return bad

    def _detail(
        self, state: StreamState, said: Liquidation, equals: Counter[str], now: Moment, turn: Turn
    ) -> None:
        price, size, happened = unsigned(said.bkPx), unsigned(said.sz), nanoseconds(said.ts)
        quantity = base_quantity(state.instrument, size, price)
        told = f"{happened // 1_000_000}:{said.side}:{said.posSide}:{price}:{size}"
        key = f"{state.instrument.native_id}:{told}"
        equals[key] += 1
        latest = max(happened, state.cursor.event_time or 0)
        gap = continuity.accept_uncounted(state, latest, now, self._connection)
        if gap is not None:
            turn.records.append(gap)
        turn.records.append(
            LiquidationRecord(
                state.instrument,
                happened,
                now.wall,
                liquidation_id=f"{told}:{equals[key]}",
                side=said.side,
                status=None,
                price=price,
                average_price=None,
                quantity=quantity,
                filled_quantity=None,
                notional_value=None,
                contracts=_contracts(state.instrument, size),
                sampled=True,
            )
        )


def _contracts(instrument: Instrument, size: str) -> str | None:
    return None if instrument.contract_size is None else size


def _time(text: str | None) -> int | None:
    return nanoseconds(text) if text else None


def _interval(funding_time: int | None, following: int | None) -> str | None:
    """`8h`; None where it is not a whole number of hours above zero."""
    if funding_time is None or following is None:
        return None
    hours, rest = divmod(following - funding_time, HOUR_SECONDS * 1_000_000_000)
    return f"{hours}h" if hours > 0 and not rest else None
