"""Messages read back into records: of this version, an earlier or a later one."""

from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, Final, get_args, get_type_hints

import attrs
import msgspec

from marketprism.instruments import Instrument
from marketprism.records import (
    AllAccountRatio,
    DataType,
    Gap,
    Record,
    TopPositionRatio,
)
from marketprism.times import time_value
from marketprism.wire import SHAPES

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def decode(payload: bytes) -> Record:
    """The record that `encode` made `payload` of, as far as a payload tells it; whichever version
    wrote it: what is not known here is left out, what is missing takes its default.

    Raises:
        msgspec.DecodeError: it is not a JSON object.
        KeyError, ValueError: it is not one of ours.
    """
    fields = _decode(payload)
    kind = _KINDS[fields.pop("data_type")]
    instrument = Instrument(
        fields.pop("exchange"),
        fields.pop("market_type"),
        fields.pop("symbol"),
        fields.pop("instrument_id"),
        contract_size=fields.pop("contract_size", None),
    )
    if (renamed := _RENAMED.get(kind)) is not None:
        renamed(fields)
    for name in _TIME_FIELDS & fields.keys():
        fields[name] = time_value(fields[name])
    read = _defaults(kind)
    read.update((name, fields[name]) for name in read.keys() & fields.keys())
    if lacking := [name for name, value in read.items() if value is _REQUIRED]:
        raise ValueError(f"a {kind.data_type} without {', '.join(lacking)}")
    return kind(instrument, **read)


_KINDS: Final[Mapping[str, type[Record]]] = {kind.data_type: kind for kind in SHAPES}
_REQUIRED: Final = object()
"""Stands where a record says nothing without a field."""


def _defaults(kind: type[Record]) -> dict[str, Any]:
    """What a payload may say of this kind, and what it means that it does not."""
    if (known := _known_defaults.get(kind)) is None:
        hints = get_type_hints(kind)
        known = _known_defaults[kind] = {
            each.name: each.default
            if each.default is not attrs.NOTHING
            else None
            if NoneType in get_args(hints[each.name])
            else _REQUIRED
            for each in attrs.fields(kind)
            if each.name != "instrument"
        }
    return dict(known)


_known_defaults: dict[type[Record], dict[str, Any]] = {}
_TIME_FIELDS = frozenset(
    {"timestamp", "collected_at", "funding_time", "next_funding_time", "started_at", "ended_at"}
)


def _name_shares(fields: dict[str, Any]) -> None:
    """`long_account_ratio` and its like; not `long_short_ratio`."""
    for share in ("long", "short"):
        for noun in ("position", "account"):
            if (name := f"{share}_{noun}_ratio") in fields:
                fields[f"{share}_share"] = fields[name]


def _read_gap(fields: dict[str, Any]) -> None:
    fields["affected"] = DataType(fields["affected"])
    for name in ("first_missing_id", "last_missing_id"):
        if fields.get(name) is not None:
            fields[name] = int(fields[name])


_RENAMED: Final[Mapping[type[Record], Callable[[dict[str, Any]], None]]] = {
    TopPositionRatio: _name_shares,
    AllAccountRatio: _name_shares,
    Gap: _read_gap,
}
"""Kinds whose fields are not told as they are."""
