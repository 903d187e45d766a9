"""What Binance tells of a perpetual beyond its trades and its book, as records. Pure."""

from collections import Counter
from collections.abc import Mapping
from typing import Final, Literal

from marketprism.bounds import believed
from marketprism.clock import HOUR, MILLISECOND, Timestamp
from marketprism.decimals import known, signed, unsigned
from marketprism.feeds.binance.messages import LiquidationOrder, MarkPriceUpdate
from marketprism.instruments import Instrument
from marketprism.records import FundingRate, Liquidation

_SIDES: Final[Mapping[str | None, Literal["buy", "sell"]]] = {"BUY": "buy", "SELL": "sell"}


def funding_rate(
    event: MarkPriceUpdate, instrument: Instrument, hours: int | None, now: Timestamp
) -> FundingRate | None:
    """The funding that a mark price update tells; None where there is none (dated futures). `hours`
    lie between two funding times; None where that is not known: then so is the next one.

    `r` is the rate that stands to be paid at `T`. What it will be after that Binance does not
    say: `P` is the estimated settlement **price**. A `T` that is no time leaves both times open.
    Raises NotANumber.
    """
    if not event.r or event.T == 0:
        return None
    paid_at = None if event.T is None else event.T * MILLISECOND
    return FundingRate(
        instrument,
        event.E * MILLISECOND,
        now.wall,
        current_funding_rate=signed(event.r),
        estimated_funding_rate=None,
        funding_time=paid_at,
        next_funding_time=(
            None if paid_at is None or hours is None else believed(paid_at + hours * HOUR)
        ),
        funding_interval=None if hours is None else f"{hours}h",
        mark_price=known(event.p, unsigned),
        index_price=known(event.i, unsigned),
    )


def liquidation(
    order: LiquidationOrder, instrument: Instrument, equals: Counter[str], now: Timestamp
) -> Liquidation:
    """A liquidation order as it was when it was told.

    Binance gives it no id, so one is made of what it says; `equals` counts those that say the
    same within one push. Its value is not told: null.
    """
    price, quantity = known(order.p, unsigned), known(order.q, unsigned)
    said = f"{order.T}:{(order.S or '').lower()}::{price or ''}:{quantity or ''}"
    equals[instrument.native_id + said] += 1
    return Liquidation(
        instrument,
        order.T * MILLISECOND,
        now.wall,
        liquidation_id=f"{said}:{equals[instrument.native_id + said]}",
        side=_SIDES.get(order.S),
        status=order.X,
        price=price,
        average_price=known(order.ap, unsigned),
        quantity=quantity,
        filled_quantity=known(order.z, unsigned),
        notional_value=None,
        sampled=True,
    )
