"""What every venue must do with everything that it offers: one card each."""

import json
import re
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
import trio
from cards import CARDS, Card, Path, changed
from desk import Desk
from loopback import untrusting
from nats_server import Server
from rig import Rig, configured

from marketprism import simulator
from marketprism.app import Collector
from marketprism.feeds import OFFERS
from marketprism.feeds.actions import Output, Reject
from marketprism.records import DataType, Record
from marketprism.wire import encode

pytestmark = pytest.mark.once

EVERY = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
COMMON = {"data_type", "exchange", "market_type", "symbol", "instrument_id", "collected_at"}
PLAIN = re.compile(r"-?[0-9]+(\.[0-9]+)?")
TIMES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(\d{3})?Z")


def told(card: Card, event: Any) -> tuple[list[Record], Output]:
    """The records of the card's data type that an event makes, after what comes before it."""
    desk = Desk(card)
    desk.hear(*card.before)
    turn = desk.hear(event)
    return [r for r in turn.records if r.data_type == card.data_type], turn


def payload(record: Record) -> dict[str, Any]:
    """What is published of a record."""
    fields: dict[str, Any] = json.loads(encode(record).payload)
    return fields


def test_there_is_a_card_for_every_offer() -> None:
    """Five venues, and all that each of them has."""
    offered = {(venue, data_type) for venue, types in OFFERS.items() for data_type in types}
    assert sorted((card.venue, card.data_type) for card in CARDS) == sorted(offered)


@EVERY
def test_it_is_asked_for_as_documented(card: Card) -> None:
    """The very words of the exchange's documentation."""
    assert any(card.asked in text for text in Desk(card).asked)


@EVERY
def test_it_gives_the_record_exactly(card: Card) -> None:
    """Every field of the payload, those that are null too."""
    (record,), _ = told(card, card.event)
    fields = payload(record)
    assert {key: value for key, value in fields.items() if key not in COMMON} == card.expected


@EVERY
def test_unknown_keys_change_nothing(card: Card) -> None:
    """Payloads grow every few months."""
    (plain,), _ = told(card, card.event)
    grown = card.event
    for path in ((), *card.numbers[:1]):
        if not isinstance(at(grown, path[:-1]), dict):
            continue
        grown = changed(grown, (*path[:-1], "unheardOf"), partial(set_key, value={"a": [1]}))
    (record,), turn = told(card, grown)
    assert payload(record) | {"collected_at": ""} == payload(plain) | {"collected_at": ""}
    assert not [step for step in turn.actions if isinstance(step, Reject)]


@EVERY
def test_missing_optional_keys_are_null(card: Card) -> None:
    """Or change nothing, where they are not published."""
    for path in card.optional:
        less = changed(card.event, path, remove_key)
        (record,), _ = told(card, less)
        fields = payload(record)
        for key, value in card.expected.items():
            assert fields[key] in (value, None) or key in DERIVED, (path, key)


DERIVED = {"next_funding_time", "funding_interval", "open_interest"}
"""What is computed from an optional key where it is there, and otherwise from others."""


BAD_NUMBERS = [
    *("NaN", "Infinity", "-Infinity", "1_000", "١٢", "1e999999", "1E-8-", "", "abc", "0x10", "1,5"),
    *("00", "007.50", "-007.50", ".5", "5.", "+1", " 1", "1 "),
]


@EVERY
@pytest.mark.parametrize("bad", [*BAD_NUMBERS, None, {}, []])
def test_a_bad_number_costs_what_it_is_needed_for(card: Card, bad: object) -> None:
    """Of one that a record cannot do without no record, no exception: a reject, which is counted.
    Any other is null, and all else stands.
    """
    for path in card.numbers:
        if bad == "" and path[-1] == "r":
            continue  # there is no funding
        records, turn = told(card, changed(card.event, path, partial(set_key, value=bad)))
        if path in card.nullable:
            assert_null(card, path, records)
        else:
            assert records == [], path
            assert any(isinstance(step, Reject) for step in turn.actions), path


@EVERY
def test_what_cannot_be_read_and_is_not_needed_is_null(card: Card) -> None:
    """A word that was never heard of, a null, another type: and all else stands."""
    for path in card.nullable:
        for bad in (None, {}, [1], [[]], *(("", "both") if path[-1] in SIDES else ())):
            event = changed(card.event, path, partial(set_key, value=bad))
            assert_null(card, path, told(card, event)[0])
        assert_null(card, path, told(card, changed(card.event, path, remove_key))[0])


SIDES = {"S", "side", "posSide"}


def assert_null(card: Card, path: Path, records: list[Record]) -> None:
    """One record, as ever but for what stands at that path."""
    (record,) = records
    without = ("liquidation_id", *COMMON - {"timestamp"})
    fields = {key: value for key, value in payload(record).items() if key not in without}
    null = dict.fromkeys(card.nullable[path])
    expected = card.expected | null
    assert fields == {key: value for key, value in expected.items() if key not in without}, path


@EVERY
@pytest.mark.parametrize("digits", ["2E-8", "25e-1", "2.50E+1", "2e0", 2e-8, 25, 2.5])
def test_an_exponent_is_written_out(card: Card, digits: str | float) -> None:
    """It is exact, and stands nowhere in what is published; so is a number that is no text."""
    for path in card.numbers:
        if path[-1] == "tradeId":
            continue
        event = changed(card.event, path, partial(set_key, value=digits))
        (record,), turn = told(card, event)
        text = json.dumps(payload(record))
        size = record.instrument.contract_size
        number = Decimal(str(digits))
        plain = {number, number * Decimal(size or 1)}
        numbers = {Decimal(word[0]) for word in re.finditer(PLAIN, text)}
        assert plain & numbers, path
        assert not re.search("[0-9][eE]", text.replace(record.instrument.symbol, ""))
        assert not turn.actions


@EVERY
def test_the_message_id_is_unique_and_stable(card: Card) -> None:
    """The same event twice, by whomever, has one id; it names its stream."""
    (one,), _ = told(card, card.event)
    (other,), _ = told(card, card.event)
    message = encode(one)
    assert message.msg_id == encode(other).msg_id
    instrument = one.instrument
    assert message.msg_id.startswith(
        f"{card.data_type}:{instrument.exchange}:{instrument.market_type}:{instrument.symbol}:"
    )


@EVERY
def test_the_subject_is_the_contracts(card: Card) -> None:
    """As the table of subjects says."""
    (record,), _ = told(card, card.event)
    prefix = {
        "orderbook": "orderbook-data.{}",
        "trade": "trade-data.{}",
        "funding_rate": "funding-rate-data.{}",
        "open_interest": "open-interest-data.{}",
        "liquidation": "liquidation-data.{}",
        "lsr_top_position": "lsr-data.{}.top-position",
        "lsr_all_account": "lsr-data.{}.all-account",
        "volatility_index": "volatility-index-data.{}",
    }[card.data_type]
    market = {
        "binance_spot": "binance.spot",
        "binance_derivatives": "binance.perpetual",
        "okx_spot": "okx.spot",
        "okx_derivatives": "okx.perpetual",
        "deribit_derivatives": "deribit.options",
    }[card.venue]
    assert encode(record).subject == f"{prefix.format(market)}.{record.instrument.symbol}"


@EVERY
def test_numbers_are_plain_and_times_are_precise(card: Card) -> None:
    """Strings without an exponent; RFC 3339 in UTC to the millisecond or finer."""
    (record,), _ = told(card, card.event)
    fields = payload(record)
    for key, value in fields.items():
        if key == "timestamp" or key.endswith(("_at", "_time")):
            assert value is None or TIMES.fullmatch(value), key
        if key in NUMBERS and value is not None:
            assert PLAIN.fullmatch(value), key
    for level in fields.get("bids", []) + fields.get("asks", []):
        assert all(PLAIN.fullmatch(text) for text in level)


NUMBERS = {
    *("price", "quantity", "contracts", "current_funding_rate", "estimated_funding_rate"),
    *("mark_price", "index_price", "open_interest", "open_interest_contracts"),
    *("open_interest_value", "average_price", "filled_quantity", "long_short_ratio"),
    *("long_position_ratio", "short_position_ratio", "long_account_ratio"),
    *("short_account_ratio", "volatility_index"),
}


def at(event: Any, path: Any) -> Any:
    """What stands at a path."""
    for key in path:
        event = event[key]
    return event


def remove_key(to: Any, key: Any) -> None:
    """Take a key away."""
    del to[key]


def set_key(to: Any, key: Any, value: object) -> None:
    """Put a value where a key is."""
    to[key] = value


@pytest.mark.parametrize("venue", OFFERS)
async def test_everything_on_offer_appears_in_the_simulator(venue: str, server: Server) -> None:
    """Over real sockets into a real stream: each data type has messages, with every field."""
    exchange = simulator.market(venue, seed=5)
    symbols = ("BTC", "ETH") if venue.startswith("deribit") else ("BTC-USDT", "ETH-USDT")
    async with trio.open_nursery() as nursery:
        address = await nursery.start(simulator.serve, exchange)
        config = configured(address, server, symbols, venue=venue, depth=400, snapshot_interval=5)
        collector = Collector(config, tls=untrusting)
        nursery.start_soon(collector.run)
        stored = collector.board.published
        rig = Rig(exchange, collector, server, nursery)
        wanted = set(map(str, OFFERS[venue]))
        await rig.until(lambda: wanted <= {data_type for _, _, data_type in stored})
        await rig.stop()
        nursery.cancel_scope.cancel()
    fields = {card.data_type: set(card.expected) for card in CARDS if card.venue == venue}
    found: set[DataType] = set()
    for message in map(json.loads, await server.stored()):
        if message["data_type"] == "gap":
            continue
        data_type = DataType(message["data_type"])
        found.add(data_type)
        assert set(message) == COMMON | fields[data_type]
        assert message["symbol"] in symbols
    assert found == set(OFFERS[venue])
    assert not [name for _, name in collector.board.rejected]
