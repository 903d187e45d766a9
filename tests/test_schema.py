"""What other versions wrote is read, for ever: a stream is older than the process that reads it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from marketprism.reading import decode
from marketprism.records import DataType, Gap
from marketprism.resume import cursors
from marketprism.streams.subscription import Capability, Subscription
from marketprism.wire import encode

ANY = Capability("stream", None)
SCHEMAS = Path(__file__).parent / "schema"
PAYLOADS = sorted(SCHEMAS.glob("*/*.json"))
"""By version: as it wrote each kind of record. Never changed, only added to."""
NEEDED = {
    "trade": {"trade_id", "price", "quantity"},
    "orderbook": {"update_type", "bids", "asks", "last_update_id"},
    "funding_rate": {"current_funding_rate"},
    "open_interest": set[str](),
    "liquidation": {"liquidation_id"},
    "lsr_top_position": {"period"},
    "lsr_all_account": {"period"},
    "volatility_index": {"volatility_index", "currency", "index_name"},
    "gap": {"affected", "reason", "started_at", "ended_at", "connection"},
}
"""Without which a record says nothing."""
IDENTITY = {
    *("data_type", "exchange", "market_type", "symbol", "instrument_id", "collected_at"),
}
payloads = pytest.mark.parametrize(
    "path", PAYLOADS, ids=lambda path: f"{path.parent.name}/{path.stem}"
)


def fields_of(path: Path) -> dict[str, Any]:
    """What a payload says."""
    fields: dict[str, Any] = json.loads(path.read_bytes())
    return fields


def position(fields: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Where a stream goes on whose last message it is: its id and time."""
    payload = json.dumps(fields).encode()
    record = decode(payload)
    if isinstance(record, Gap):
        gap = cursors.read_gap(payload, wall=2 * 10**18)
        return gap.first_missing_id, gap.started_at
    subscription = Subscription(DataType(record.data_type), record.instrument)
    record = cursors.read(payload, subscription, 2 * 10**18, ANY)
    cursor = cursors.cursor(record, None, None, ANY)
    return cursor.last_id, cursor.event_time


def test_there_is_one_of_every_kind() -> None:
    """In every version that is kept."""
    for version in SCHEMAS.iterdir():
        kept = {fields_of(path)["data_type"] for path in version.glob("*.json")}
        assert kept == set(NEEDED)


@payloads
def test_it_says_what_it_said(path: Path) -> None:
    """Written anew, every field has its value; numbers that are text now were numbers then."""
    said = fields_of(path)
    again = json.loads(encode(decode(path.read_bytes())).payload)
    for name, value in said.items():
        assert str(again[name]) == str(value), name


@payloads
def test_a_field_that_a_newer_version_adds_costs_nothing(path: Path) -> None:
    """It is left out, whatever it holds."""
    said = fields_of(path)
    assert position({**said, "added": {"later": [1]}, "venue": "x"}) == position(said)


@payloads
def test_a_field_that_an_older_version_lacks_takes_its_default(path: Path) -> None:
    """One by one, and all of them at once: but for what a record cannot do without."""
    said = fields_of(path)
    needed = IDENTITY | NEEDED[said["data_type"]]
    for name in said.keys() - needed:
        position({key: value for key, value in said.items() if key != name})
    decode(json.dumps({key: said[key] for key in needed}).encode())


@payloads
def test_without_what_it_cannot_do_without_it_is_foreign(path: Path) -> None:
    """Nothing follows from such a message."""
    said = fields_of(path)
    for name in NEEDED[said["data_type"]]:
        with pytest.raises(cursors.Foreign):
            cursors._decoded(
                json.dumps({key: each for key, each in said.items() if key != name}).encode(),
                wall=2 * 10**18,
            )


@pytest.mark.parametrize("bound", [5, "5"])
def test_bounds_of_gaps_are_read_as_numbers_and_as_text(bound: object) -> None:
    """Versions differ."""
    said = fields_of(SCHEMAS / "1/gap_orderbook.json") | {"first_missing_id": bound}
    assert position(said)[0] == 5
