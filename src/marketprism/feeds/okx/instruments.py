"""OKX's own list of what it trades (`/api/v5/public/instruments`). Pure."""

from marketprism.feeds import contracts
from marketprism.feeds.decimals import unsigned
from marketprism.feeds.okx.messages import (
    UNREADABLE,
    InstrumentRow,
    read_answer,
    read_instrument,
)
from marketprism.instruments import Instrument


def read_instruments(body: bytes, market_type: str) -> list[Instrument]:
    """The instruments of one type. A row that cannot be used is left out.

    Raises ValueError when the whole cannot be read.
    """
    try:
        answer = read_answer(body)
    except UNREADABLE as error:
        raise ValueError(f"the instruments cannot be read: {error}") from error
    if answer.code != "0":
        raise ValueError(f"the instruments are refused: {answer.code} {answer.msg}")
    found = []
    for raw in answer.data:
        try:
            row = read_instrument(raw)
            found.append(_spot(row) if row.instType == "SPOT" else _contract(row, market_type))
        except (*UNREADABLE, ValueError):
            continue
    if answer.data and not found:
        raise ValueError("none of the instruments can be read")
    return found


def _spot(row: InstrumentRow) -> Instrument:
    return Instrument(
        "okx",
        "spot",
        f"{row.baseCcy}-{row.quoteCcy}".upper(),
        row.instId,
        row.baseCcy,
        row.quoteCcy,
        trading=row.state == "live",
    )


def _contract(row: InstrumentRow, market_type: str) -> Instrument:
    """A derivative's base and quote stand in its family; its `baseCcy` is empty. A contract's
    value is in the base (linear) or in the quote (inverse). Raises ValueError.
    """
    family = row.instFamily or row.uly
    base, dash, quote = family.partition("-")
    if not (base and dash and quote):
        raise ValueError(f"{row.instId} has no base and quote")
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
    )
