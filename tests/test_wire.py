"""Records on the wire: subjects, message ids, payloads."""

import json
from decimal import Decimal
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketprism.instruments import Instrument
from marketprism.reading import decode
from marketprism.records import (
    AllAccountRatio,
    DataType,
    FundingRate,
    Gap,
    Liquidation,
    OpenInterest,
    OrderBookRecord,
    Record,
    TopPositionRatio,
    Trade,
    VolatilityIndex,
)
from marketprism.times import time_text, time_value
from marketprism.wire import encode, origin, token

MILLISECOND = 1_000_000
AT = 1_700_000_000_123 * MILLISECOND
READ = 1_700_000_000_200_456_789
SWAP = Instrument("okx", "perpetual", "BTC-USDT", "BTC-USDT-SWAP", contract_size="0.01")
SPOT = Instrument("binance", "spot", "BTC-USDT", "BTCUSDT")
DVOL = Instrument("deribit", "options", "BTC", "btc_usd")

COMMON = {"data_type", "exchange", "market_type", "symbol", "instrument_id", "timestamp"}
COMMON |= {"collected_at"}

CASES: list[tuple[Record, str, str, str]] = [
    (
        Trade(SPOT, AT, READ, "7", "1.50", "0.1", "buy"),
        "trade-data.binance.spot.BTC-USDT",
        "trade:binance:spot:BTC-USDT:raw:7",
        "trade_id price quantity side trade_kind first_trade_id last_trade_id is_maker contracts",
    ),
    (
        OrderBookRecord(
            SWAP,
            AT,
            READ,
            update_type="update",
            bids=[("1.5", "2")],
            asks=[],
            first_update_id=5,
            last_update_id=9,
            prev_update_id=4,
        ),
        "orderbook-data.okx.perpetual.BTC-USDT",
        "orderbook:okx:perpetual:BTC-USDT:update:9",
        "update_type bids asks first_update_id last_update_id prev_update_id depth_levels"
        " best_bid_price best_ask_price contract_size",
    ),
    (
        OrderBookRecord(
            SPOT,
            None,
            READ,
            update_type="snapshot",
            bids=[("1.5", "2")],
            asks=[("1.6", "1"), ("1.7", "1")],
            first_update_id=None,
            last_update_id=9,
            heals_gap=AT,
        ),
        "orderbook-data.binance.spot.BTC-USDT",
        "orderbook:binance:spot:BTC-USDT:snapshot:9:1700000000123",
        "update_type bids asks first_update_id last_update_id prev_update_id depth_levels"
        " best_bid_price best_ask_price contract_size",
    ),
    (
        Trade(
            SPOT, AT, READ, "5", "1.50", "0.1", "buy", "aggregated", "5", "5", numbered_apart=True
        ),
        "trade-data.binance.spot.BTC-USDT",
        "trade:binance:spot:BTC-USDT:aggregated:5:5-5",
        "trade_id price quantity side trade_kind first_trade_id last_trade_id is_maker contracts",
    ),
    (
        Trade(SWAP, AT, READ, "7", "1.50", "0.1", "buy", "aggregated", "7", "7", contracts="10"),
        "trade-data.okx.perpetual.BTC-USDT",
        "trade:okx:perpetual:BTC-USDT:aggregated:7",
        "trade_id price quantity side trade_kind first_trade_id last_trade_id is_maker contracts",
    ),
    (
        FundingRate(SWAP, AT, READ, "0.0001", None, AT, AT + MILLISECOND, "8h", "1.5", None),
        "funding-rate-data.okx.perpetual.BTC-USDT",
        "funding_rate:okx:perpetual:BTC-USDT:1700000000123",
        "current_funding_rate estimated_funding_rate funding_time next_funding_time"
        " funding_interval mark_price index_price",
    ),
    (
        OpenInterest(SWAP, AT, READ, "12.5", "1250", "625000"),
        "open-interest-data.okx.perpetual.BTC-USDT",
        "open_interest:okx:perpetual:BTC-USDT:1700000000123",
        "open_interest open_interest_contracts open_interest_value",
    ),
    (
        Liquidation(SWAP, AT, READ, "x:1", "sell", None, "1.5", None, "0.5", None, None, "50"),
        "liquidation-data.okx.perpetual.BTC-USDT",
        "liquidation:okx:perpetual:BTC-USDT:x:1",
        "liquidation_id side status price average_price quantity filled_quantity notional_value"
        " contracts sampled",
    ),
    (
        TopPositionRatio(SWAP, AT, READ, "0.97", "0.4924", "0.5076", "5m"),
        "lsr-data.okx.perpetual.top-position.BTC-USDT",
        "lsr_top_position:okx:perpetual:BTC-USDT:1700000000123",
        "long_short_ratio long_position_ratio short_position_ratio period",
    ),
    (
        AllAccountRatio(SWAP, AT, READ, "0.97", "0.4924", "0.5076", "5m"),
        "lsr-data.okx.perpetual.all-account.BTC-USDT",
        "lsr_all_account:okx:perpetual:BTC-USDT:1700000000123",
        "long_short_ratio long_account_ratio short_account_ratio period",
    ),
    (
        VolatilityIndex(DVOL, AT, READ, "47.55", "BTC", "btc_usd"),
        "volatility-index-data.deribit.options.BTC",
        "volatility_index:deribit:options:BTC:1700000000123",
        "volatility_index currency index_name",
    ),
    (
        Gap(SPOT, AT, READ, DataType.TRADE, "sequence", AT, AT, 5, 7, 3, "binance_spot/0"),
        "data-gap.binance.spot.BTC-USDT",
        "gap:binance:spot:BTC-USDT:trade:1700000000123",
        "affected reason started_at ended_at first_missing_id last_missing_id lost connection"
        " detail",
    ),
]


@pytest.mark.parametrize(
    ("record", "subject", "msg_id", "fields"), CASES, ids=lambda value: str(value)[:30]
)
def test_each_record_has_its_subject_its_id_and_every_field(
    record: Record, subject: str, msg_id: str, fields: str
) -> None:
    """As the contract's tables say, neither more nor less."""
    message = encode(record)
    assert message.subject == subject
    assert message.msg_id == msg_id
    instrument = record.instrument
    assert origin(subject) == (instrument.exchange, instrument.market_type, record.data_type)
    assert set(json.loads(message.payload)) == COMMON | set(fields.split())


@pytest.mark.parametrize("record", [case[0] for case in CASES], ids=lambda r: r.data_type)
def test_a_payload_gives_the_record_back(record: Record) -> None:
    """All but what is in the message id only; our own stamp to the microsecond."""
    record.collected_at = record.collected_at // 1000 * 1000
    told = decode(encode(record).payload)
    if isinstance(record, OrderBookRecord):
        record.heals_gap = 0
        record.bids, record.asks = list(map(list, record.bids)), list(map(list, record.asks))
    assert told == record


def test_a_snapshot_tells_its_best_prices_and_an_update_does_not() -> None:
    """Of an update they would be those of the change, not of the book."""
    snapshot: dict[str, Any] = json.loads(encode(CASES[2][0]).payload)
    update: dict[str, Any] = json.loads(encode(CASES[1][0]).payload)
    assert (snapshot["best_bid_price"], snapshot["best_ask_price"]) == ("1.5", "1.6")
    assert (update["best_bid_price"], update["best_ask_price"]) == (None, None)
    assert (snapshot["depth_levels"], update["depth_levels"]) == (2, 1)


@pytest.mark.parametrize("data_type", DataType)
def test_the_bounds_of_a_gap_are_text(data_type: DataType) -> None:
    """Whatever it affects, so that a column of them has one type; how many are lost is a number."""
    gap = CASES[-1][0]
    assert isinstance(gap, Gap)
    told = json.loads(encode(attrs.evolve(gap, affected=data_type)).payload)
    assert (told["first_missing_id"], told["last_missing_id"], told["lost"]) == ("5", "7", 3)
    none = attrs.evolve(gap, affected=data_type, first_missing_id=None, last_missing_id=None)
    assert json.loads(encode(none).payload)["first_missing_id"] is None


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (AT, "2023-11-14T22:13:20.123Z"),
        (AT + 4_000, "2023-11-14T22:13:20.123004Z"),
        (1_700_000_000_000_000_000, "2023-11-14T22:13:20.000Z"),
    ],
)
def test_times_keep_the_precision_they_came_with(nanoseconds: int, text: str) -> None:
    """Milliseconds, or microseconds where there are any; never fewer."""
    assert time_text(nanoseconds) == text
    assert time_value(text) == nanoseconds


@given(st.integers(0, 253_402_300_799_999_999))
def test_any_time_survives_its_text(microseconds: int) -> None:
    """To the microsecond, up to the year 9999."""
    assert time_value(time_text(microseconds * 1000)) == microseconds * 1000


@given(st.text(min_size=1))
def test_any_symbol_makes_one_token_and_no_two_the_same(text: str) -> None:
    """No separator, wildcard, space or non-ASCII character is left; the escape is reversible."""
    made = token(text)
    assert made.isascii()
    assert made
    assert not set(made) & set(".*> \t\r\n$")
    restored = bytearray()
    rest = made
    while rest:
        size = 3 if rest[0] == "%" else 1
        restored += bytes.fromhex(rest[1:3]) if size == 3 else rest[0].encode()
        rest = rest[size:]
    assert restored.decode(errors="surrogatepass") == text


@given(st.decimals("0", "1e9", places=8))
def test_numbers_stand_in_the_payload_as_they_were_given(number: Decimal) -> None:
    """To the letter: no float, no exponent."""
    text = f"{number:f}"
    message = encode(Trade(SPOT, AT, READ, "7", text, text, "buy"))
    assert f'"price":"{text}"'.encode() in message.payload
