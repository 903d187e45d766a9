"""What counts as a number from an exchange: plain decimals, nothing else.

Python is more generous than an exchange may be: `Decimal` and `float` take NaN, Infinity,
`1_000`, other scripts' digits and `1e999999`. Here a number is ASCII digits with at most one
point between them.
"""

import re
from collections.abc import Iterable
from decimal import Decimal
from itertools import chain

from marketprism.records import Level

_MAX_DIGITS = 64
_UNSIGNED = r"[0-9]{1,64}+(?:\.[0-9]{1,64}+)?+"
_unsigned = re.compile(_UNSIGNED).fullmatch
_signed = re.compile(f"-?{_UNSIGNED}").fullmatch
_exponential = re.compile(f"{_UNSIGNED}[eE][+-]?[0-9]{{1,2}}").fullmatch
_many = re.compile(f"(?:{_UNSIGNED},)*+").fullmatch


class NotANumber(ValueError):
    """The exchange's text is not a plain decimal."""


def unsigned(text: str) -> str:
    """`text`, when it is a plain decimal that is not negative. Raises NotANumber otherwise."""
    if _unsigned(text) is None:
        raise NotANumber(f"not a number: {text[:80]!r}")
    return text


def signed(text: str) -> str:
    """`text`, when it is a plain decimal. Raises NotANumber otherwise."""
    if _signed(text) is None:
        raise NotANumber(f"not a number: {text[:80]!r}")
    return text


def from_json(raw: bytes) -> str:
    """A JSON number that is not negative, exactly as it was written (a string of one, too); an
    exponent is written out. Raises NotANumber.
    """
    text = raw.decode("ascii", "replace").strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if len(text) <= _MAX_DIGITS and _exponential(text) is not None:
        text = format(Decimal(text), "f")
    return unsigned(text)


def levels(*sides: Iterable[Level]) -> None:
    """Check every price and quantity of an update, whatever follows them. Raises NotANumber."""
    _check([text for level in chain.from_iterable(sides) for text in level[:2]])


def pairs(*sides: Iterable[Level]) -> None:
    """The same for levels that are a price and a quantity and no more, in half the time."""
    _check(list(chain.from_iterable(chain.from_iterable(sides))))


def _check(texts: list[str]) -> None:
    """One match over all texts together costs half of one each. A comma within a text would pass
    for two numbers, so they are counted.
    """
    joined = ",".join([*texts, ""])
    if _many(joined) is None or joined.count(",") != len(texts):
        bad = next((text for text in texts if _unsigned(text) is None), "")
        raise NotANumber(f"not a level: {bad[:80]!r}")
