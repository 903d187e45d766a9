"""What counts as a number from an exchange: plain decimals, nothing else.

Python is more generous than an exchange may be: `Decimal` and `float` take NaN, Infinity,
`1_000`, `007`, other scripts' digits and `1e999999`. Here a number is ASCII digits with at most one
point between them, and no zero ahead of others. One with an exponent is written out, which is
exact; that way is taken only where the plain one is closed.
"""

import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from itertools import chain
from typing import TypeVar

_MAX_DIGITS = 64
_UNSIGNED = r"(?:[1-9][0-9]{0,63}+|0)(?:\.[0-9]{1,64}+)?+"
_unsigned = re.compile(_UNSIGNED).fullmatch
_signed = re.compile(f"-?{_UNSIGNED}").fullmatch
_exponential = re.compile(f"-?{_UNSIGNED}[eE][+-]?[0-9]{{1,2}}").fullmatch
_many = re.compile(f"(?:{_UNSIGNED},)*+{_UNSIGNED}").fullmatch

Level = TypeVar("Level", tuple[str, str], tuple[str, ...])
"""A price, a quantity, and what may follow them."""


Value = TypeVar("Value")


class NotANumber(ValueError):
    """The exchange's text is not a plain decimal."""


def unsigned(text: str) -> str:
    """`text`, when it is a decimal that is not negative; plain. Raises NotANumber otherwise."""
    return text if _unsigned(text) is not None else _written_out(text, _unsigned)


def signed(text: str) -> str:
    """`text`, when it is a decimal; plain. Raises NotANumber otherwise."""
    return text if _signed(text) is not None else _written_out(text, _signed)


def known(text: str | None, read: Callable[[str], Value]) -> Value | None:
    """What an exchange may leave out: None where it does, or where `read` finds no number."""
    try:
        return read(text) if text else None
    except NotANumber:
        return None


def from_json(raw: bytes) -> str:
    """A JSON number that is not negative, exactly as it was written (a string of one, too); an
    exponent is written out. Raises NotANumber.
    """
    text = raw.decode("ascii", "replace").strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    return unsigned(text)


def levels(bids: list[Level], asks: list[Level]) -> tuple[list[Level], list[Level]]:
    """Both sides as they are, where every price and quantity is a plain number, whatever follows
    them in a level; exponents are written out. Raises NotANumber.
    """
    if _plain([text for level in chain(bids, asks) for text in level[:2]]):
        return bids, asks
    return _rewritten(bids), _rewritten(asks)


def pairs(bids: list[Level], asks: list[Level]) -> tuple[list[Level], list[Level]]:
    """The same for levels that are a price and a quantity and no more, in half the time."""
    if _plain(list(chain.from_iterable(chain(bids, asks)))):
        return bids, asks
    return _rewritten(bids), _rewritten(asks)


def _plain(texts: list[str]) -> bool:
    """One match over all texts together costs half of one each. A comma within a text would pass
    for two numbers, so they are counted.
    """
    joined = ",".join(texts)
    return not texts or (_many(joined) is not None and joined.count(",") == len(texts) - 1)


def _rewritten(side: Iterable[Level]) -> list[Level]:
    return [(unsigned(price), unsigned(quantity)) for price, quantity, *_ in side]


def _written_out(text: str, plain: Callable[[str], object]) -> str:
    """A number with an exponent without it."""
    if len(text) <= _MAX_DIGITS and _exponential(text) is not None:
        written = format(Decimal(text), "f")
        if plain(written) is not None:
            return written
    raise NotANumber(f"not a number: {text[:80]!r}")
