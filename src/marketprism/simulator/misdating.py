"""What an exchange says with a time to come, and where asked for with numbers to come as well."""

from typing import Any

import msgspec

_STAMPS = frozenset({"E", "T", "ts", "time", "timestamp"})
_NUMBERS = frozenset({"t", "a", "U", "u", "pu", "tradeId", "seqId", "prevSeqId"})
_DIGITS = 13
"""Of milliseconds since the epoch."""


def misdated(text: str, seconds: float, jump: int = 0) -> str:
    """A payload with all its stamps so many seconds later, and its numbers so much higher."""
    said = _shifted(msgspec.json.decode(text), round(seconds * 1000), jump)
    return msgspec.json.encode(said).decode()


def _shifted(value: Any, later: int, jump: int) -> Any:
    if isinstance(value, list):
        # OKX tells rows without names: the time comes first.
        row = value and isinstance(value[0], str) and len(value[0]) == _DIGITS
        head = [_plus(value[0], later)] if row else []
        return head + [_shifted(each, later, jump) for each in value[len(head) :]]
    if not isinstance(value, dict):
        return value
    # A mark price says by `T` when funding is paid.
    stamps = _STAMPS - {"T"} if "r" in value else _STAMPS
    return {
        key: _plus(each, later)
        if key in stamps
        else _plus(each, jump)
        if key in _NUMBERS
        else _shifted(each, later, jump)
        for key, each in value.items()
    }


def _plus(value: Any, more: int) -> Any:
    """A number, or one in digits."""
    if isinstance(value, str):
        return str(int(value) + more) if value.isdigit() else value
    return value + more if isinstance(value, int) else value
