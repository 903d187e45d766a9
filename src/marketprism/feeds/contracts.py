"""From contracts to the base asset. Pure, exact, and always in plain notation.

The contract's rules: linear is contracts × contract size, exactly; inverse is contracts × contract
value ÷ price, rounded half-even to 12 significant digits.
"""

from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache
from typing import Final

from marketprism.decimals import NotANumber
from marketprism.instruments import Instrument

SIGNIFICANT_DIGITS: Final = 12
_CACHED: Final = 4096
"""Sizes repeat: most levels of a book hold one of a few thousand."""

_exact: Final = Context(prec=400)
_rounded: Final = Context(prec=SIGNIFICANT_DIGITS, rounding=ROUND_HALF_EVEN)


def base_quantity(instrument: Instrument, contracts: str, price: str) -> str:
    """What so many contracts are in the base asset; where nothing counts contracts, as it came.

    `contracts` and `price` are checked decimals. Raises NotANumber where an inverse contract has
    a price of zero.
    """
    size = instrument.contract_size
    if size is None or not contracts.strip("0."):
        return contracts
    return _inverse(size, contracts, price) if instrument.inverse else _linear(size, contracts)


def contract_size(value: str, multiplier: str) -> str:
    """The value of one contract, times how many of them one is; an empty multiplier is one."""
    return _linear(value, multiplier) if multiplier else value


@lru_cache(_CACHED)
def _linear(size: str, contracts: str) -> str:
    return format(_exact.multiply(Decimal(contracts), Decimal(size)), "f")


@lru_cache(_CACHED)
def _inverse(size: str, contracts: str, price: str) -> str:
    if not price.strip("0."):
        raise NotANumber("an inverse contract at a price of zero")
    value = _exact.multiply(Decimal(contracts), Decimal(size))
    return format(_rounded.divide(value, Decimal(price)), "f")
