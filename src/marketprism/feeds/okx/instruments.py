"""OKX's own list of what it trades (`/api/v5/public/instruments`). Pure."""

from typing import Final

from marketprism.decimals import unsigned
from marketprism.feeds import contracts
from marketprism.feeds.okx.messages import (
    UNREADABLE,
    AnswerError,
    InstrumentRow,
    read_data,
    read_instrument,
)
from marketprism.instruments import Instrument

ENDED: Final = "expired"
"""The one state of which nothing comes back."""


def read_instruments(body: bytes, market_type: str) -> list[Instrument]:
    """The instruments of one type. A row that cannot be used is left out: one of a market that is
    about to open may lack its name, its family or its contract's value.

    Raises ValueError when the whole cannot be read.
    """
    try:
        rows = read_data(body)
    except AnswerError as error:
        raise ValueError(f"the instruments are refused: {error}") from error
    except UNREADABLE as error:
        raise ValueError(f"the instruments cannot be read: {error}") from error
    found = []
    for raw in rows:
        try:
            row = read_instrument(raw)
            found.append(_spot(row) if row.instType == "SPOT" else _contract(row, market_type))
        except (*UNREADABLE, ValueError):
            continue
    if rows and not found:
        raise ValueError("none of the instruments can be read")
    return found


def _spot(row: InstrumentRow) -> Instrument:
    """A spot market is called by its base and its quote. Raises ValueError: what is called
    otherwise and does not trade keeps a place for one (`LISTING-SPOT-SLX-USDT`).
    """
    symbol = f"{row.baseCcy}-{row.quoteCcy}".upper()
    if not (row.instId and row.baseCcy and row.quoteCcy):
        raise ValueError(f"{row.instId!r} has no name, base or quote")
    if row.state != "live" and row.instId.upper() != symbol:
        raise ValueError(f"{row.instId} is a placeholder for {symbol}")
    return Instrument(
        "okx",
        "spot",
        symbol,
        row.instId,
        row.baseCcy,
        row.quoteCcy,
        trading=row.state == "live",
        ended=row.state == ENDED,
        native_status=row.state,
    )


def _contract(row: InstrumentRow, market_type: str) -> Instrument:
    """A derivative's base and quote stand in its family; its `baseCcy` is empty. A contract's
    value is in the base (linear) or in the quote (inverse). Raises ValueError.

    A family may be one of several of an underlying, which then names the quote: `BTC-USD_UM` of
    `BTC-USD` is margined in USD. Its symbol is its own, so that it is told from the other.
    """
    family = row.instFamily or row.uly
    base, dash, quote = family.partition("-")
    if not (row.instId and base and dash and quote):
        raise ValueError(f"{row.instId!r} has no name, or no base and quote")
    if row.uly and family.startswith(f"{row.uly}_"):
        quote = row.uly.removeprefix(f"{base}-")
    if row.ctValCcy not in (base, quote):
        raise ValueError(f"{row.instId} counts in {row.ctValCcy!r}")
    size = contracts.contract_size(unsigned(row.ctVal), unsigned(row.ctMult) if row.ctMult else "")
    if not size.strip("0."):
        raise ValueError(f"{row.instId} has contracts worth nothing")
    return Instrument(
        "okx",
        market_type,
        family.upper(),
        row.instId,
        base,
        quote,
        contract_size=size,
        inverse=row.ctValCcy == quote,
        trading=row.state == "live",
        ended=row.state == ENDED,
        native_status=row.state,
    )
