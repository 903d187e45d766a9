"""OKX's instruments: what an id says, what a contract is worth.

Captures do not carry the exchange's metadata, so it is completed from here, or from a recording of
it; of what stands in neither, contract values are made up. Only a simulator may do that.
"""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from . import listings
from .capture import read_file
from .listings import SCALE, Listing

Row = Mapping[str, str]

_CONTRACT_VALUES = {
    "BTC-USDT": "0.01", "ETH-USDT": "0.1", "XMR-USDT": "0.1", "TRX-USDT": "1000",
    "BTC-USD": "100", "ETH-USD": "10", "UNI-USD": "10",
}  # fmt: skip
"""By family: of the base where the quote is a stablecoin, else US dollars."""
_GRIDS = {
    "BTC-USDT": (10_000_000, 1_000), "ETH-USDT": (1_000_000, 10_000),
    "BTC-USDT-SWAP": (10_000_000, 1_000_000), "ETH-USDT-SWAP": (1_000_000, 1_000_000),
    "BTC-USD-SWAP": (10_000_000, SCALE),
}  # fmt: skip
"""Tick and lot in units of 1e-8; lots of a swap are in contracts."""


def kind(instrument: str) -> str:
    """The instrument's type, as `BTC-USDT`, `BTC-USD-SWAP`, `BTC-USD-220527` and
    `BTC-USD-220527-42000-P` have it.
    """
    parts = instrument.split("-")
    if len(parts) == 3:
        return "SWAP" if parts[2] == "SWAP" else "FUTURES"
    return {2: "SPOT", 5: "OPTION"}[len(parts)]


def family(instrument: str) -> str:
    """Base and quote, `BTC-USD`."""
    return "-".join(instrument.split("-")[:2])


def listing(instrument: str) -> Listing:
    """A spot pair or a swap, whose quantities are contracts; numbers as short as can be."""
    base, quote = family(instrument).split("-")
    like = _like(instrument, base, "USDT" if quote == "USD" else quote)
    derivative = kind(instrument) != "SPOT"
    tick, lot = _GRIDS.get(instrument, (like.tick, SCALE if derivative else like.lot))
    return Listing(
        instrument,
        base,
        quote,
        tick,
        lot,
        like.price,
        decimals=(None, None),
        contract=Decimal(_contract(instrument)) if derivative else Decimal(1),
        inverse=derivative and quote == "USD",
        funding_hours=4 if base == "ETH" else 8,
    )


def row(instrument: str) -> dict[str, str]:
    """What `/api/v5/public/instruments` says of an instrument."""
    listed, of_kind = listing(instrument), kind(instrument)
    derivative = of_kind != "SPOT"
    parts = instrument.split("-")
    option = of_kind == "OPTION"
    contract_type = "inverse" if listed.inverse else "linear"
    return {
        "instType": of_kind,
        "instId": instrument,
        "uly": family(instrument) if derivative else "",
        "instFamily": family(instrument) if derivative else "",
        "baseCcy": "" if derivative else listed.base,
        "quoteCcy": "" if derivative else listed.quote,
        "settleCcy": (listed.base if listed.inverse else listed.quote) if derivative else "",
        "ctVal": ("1" if option else f"{listed.contract}") if derivative else "",
        "ctMult": ("0.01" if option else "1") if derivative else "",
        "ctValCcy": _value_currency(listed, option) if derivative else "",
        "ctType": contract_type if derivative and not option else "",
        "tickSz": listed.price_text(listed.tick),
        "lotSz": listed.quantity_text(listed.lot),
        "minSz": listed.quantity_text(listed.lot),
        "optType": parts[4] if option else "",
        "stk": parts[3] if option else "",
        "alias": "",
        "category": "1",
        "lever": "50",
        "listTime": "1611916828000",
        "expTime": "",
        "ruleType": "normal",
        "state": "live",
    }


def read_rows(path: Path) -> dict[str, Row]:
    """The instruments of a recording of that request, by instrument.

    Recordings of before 2023 lack `instFamily`; it is what they call `uly`.
    """
    found: dict[str, Row] = {}
    for line in read_file(path):
        if urlsplit(line.url).path.endswith("/public/instruments"):
            for each in msgspec.json.decode(line.raw)["data"]:
                found[each["instId"]] = {"instFamily": each["uly"], **each}
    return found


def _like(instrument: str, base: str, quote: str) -> Listing:
    try:
        return listings.listing(base + quote)
    except LookupError:
        # Here the id says what is the quote, so it may be one that nobody knows.
        return Listing(instrument, base, quote, 1_000_000, 100_000, 100 * SCALE)


def _contract(instrument: str) -> str:
    inverse = family(instrument).endswith("-USD")
    return _CONTRACT_VALUES.get(family(instrument), "10" if inverse else "1")


def _value_currency(listed: Listing, option: bool) -> str:
    return listed.quote if listed.inverse and not option else listed.base
