"""Levels of a book that have more columns than we know: rows grow at their end. Pure.

The readers of the hot path want exactly what there is today, which is fastest. What does not fit
them is cut to its first two columns, a price and a quantity, and read again.
"""

from collections.abc import Sequence
from typing import Final

import msgspec


class _Level(msgspec.Struct, array_like=True, gc=False):
    """Whatever follows is passed over."""

    price: str
    quantity: str


_read_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_read_rows: Final = msgspec.json.Decoder(list[list[msgspec.Raw]]).decode
_read_levels: Final = msgspec.json.Decoder(list[_Level]).decode


def cut(text: bytes | msgspec.Raw, sides: Sequence[str]) -> bytes | None:
    """A message, the levels under these keys cut to a price and a quantity; None where there was
    nothing to cut, or something else is wrong with it.
    """
    try:
        fields = _read_fields(text)
        longer = [side for side in sides if side in fields and _grown(fields[side])]
        for side in longer:
            levels = [(level.price, level.quantity) for level in _read_levels(fields[side])]
            fields[side] = msgspec.Raw(msgspec.json.encode(levels))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return msgspec.json.encode(fields) if longer else None


def _grown(side: msgspec.Raw) -> bool:
    return any(len(row) > 2 for row in _read_rows(side))
