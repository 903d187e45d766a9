"""What Binance tells of a perpetual beyond its trades and its book, as records. Pure."""

from collections import Counter

from marketprism.feeds import decimals
from marketprism.feeds.binance.messages import LiquidationOrder, MarkPriceUpdate
from marketprism.feeds.venue import Moment
from marketprism.instruments import Instrument
from marketprism.records import FundingRate, Liquidation

HOUR = 3_600_000_000_000


def funding_rate(
    event: MarkPriceUpdate, instrument: Instrument, hours: int | None, now: Moment
) -> FundingRate | None:
    """The funding that a mark price update tells; None where there is none (dated futures). `hours`
    lie between two funding times; None where that is not known: then so is the next one.

    `r` is the rate that stands to be paid at `T`. What it will be after that Binance does not
    say: `P` is the estimated settlement **price**. Raises NotANumber.
    """
    if not event.r or not event.T:
        return None
    paid_at = event.T * 1_000_000
    return FundingRate(
        instrument,
        event.E * 1_000_000,
        now.wall,
        current_funding_rate=decimals.signed(event.r),
        estimated_funding_rate=None,
        funding_time=paid_at,
        next_funding_time=None if hours is None else paid_at + hours * HOUR,
        funding_interval=None if hours is None else f"{hours}h",
        mark_price=decimals.unsigned(event.p),
        index_price=_optional(event.i),
    )


def liquidation(
    order: LiquidationOrder, instrument: Instrument, equals: Counter[str], now: Moment
) -> Liquidation:
    """A liquidation order as it was when it was told.

    Binance gives it no id, so one is made of what it says; `equals` counts those that say the
    same within one push. Its value is not told: null. Raises NotANumber.
    """
    side: str = order.S.lower()
    price, quantity = decimals.unsigned(order.p), decimals.unsigned(order.q)
    said = f"{order.T}:{side}::{price}:{quantity}"
    equals[instrument.native_id + said] += 1
    return Liquidation(
        instrument,
        order.T * 1_000_000,
        now.wall,
        liquidation_id=f"{said}:{equals[instrument.native_id + said]}",
        side="buy" if order.S == "BUY" else "sell",
        status=order.X,
        price=price,
        average_price=_optional(order.ap),
        quantity=quantity,
        filled_quantity=_optional(order.z),
        notional_value=None,
        sampled=True,
    )


def _optional(text: str | None) -> str | None:
    return decimals.unsigned(text) if text else None
