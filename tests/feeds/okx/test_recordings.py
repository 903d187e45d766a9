"""What OKX really sent, read as it would be today.

The recordings of 2021 and 2022 have checksums and no numbers: those are put in here, one an update,
so that every book is checked by the exchange's own checksum after every update.
"""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs
import pytest
from okx_line import BTC, SPOT_CONFIG, SWAP, SWAP_CONFIG, moment

from marketprism.feeds.actions import Fetched, Reject
from marketprism.feeds.contracts import base_quantity
from marketprism.feeds.okx import OkxDerivatives, OkxSpot
from marketprism.feeds.okx.instruments import read_instruments
from marketprism.feeds.okx.session import OkxSession
from marketprism.instruments import Instrument
from marketprism.records import DataType, Liquidation, OpenInterest, OrderBookRecord, Record, Trade
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import Phase
from marketprism.streams.subscription import Stream, Subscription
from marketprism.wire import encode

CAPTURES = (
    "capture_2021-07-22_books-l2-tbt_10inst.jsonl",
    "capture_2022-05-13_books_trades_tickers_BTC-USDT_UNI-USD-SWAP_BTC-USD-220527.jsonl",
)


def lines(path: Path) -> Iterator[Any]:
    """A JSON value a line."""
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def by_hand(native_id: str) -> Instrument:
    """An instrument as its name has it; contracts are worth 0.01 of the base, or 100 dollars."""
    base, quote, *rest = native_id.split("-")
    derived = bool(rest)
    option = len(rest) > 1
    inverse = derived and quote == "USD" and not option
    return Instrument(
        "okx",
        "perpetual" if derived else "spot",
        native_id,
        native_id,
        base,
        quote,
        contract_size=("100" if inverse else "0.01") if derived else None,
        inverse=inverse,
    )


def confirmed(session: OkxSession, subscriptions: list[Subscription]) -> None:
    """Every subscription of a session stands."""
    session.opening(moment(0))
    channels = {
        DataType.ORDERBOOK: "books",
        DataType.TRADE: "trades",
        DataType.FUNDING_RATE: "funding-rate",
        DataType.OPEN_INTEREST: "open-interest",
    }
    for subscription in subscriptions:
        if subscription.data_type is DataType.LIQUIDATION:
            arg = {"channel": "liquidation-orders", "instType": "SWAP"}
        else:
            arg = {
                "channel": channels[subscription.data_type],
                "instId": subscription.instrument.native_id,
            }
        session.receive([json.dumps({"event": "subscribe", "arg": arg}).encode()], moment(0))


def session_of(
    subscriptions: list[Subscription], cursors: dict[Stream, Cursor] | None = None
) -> OkxSession:
    """A session for these, whatever market they are of."""
    session = OkxSession(SWAP_CONFIG, "okx/0", subscriptions, cursors or {})
    confirmed(session, subscriptions)
    return session


def heard(subscription: Subscription, message: dict[str, Any]) -> list[Record]:
    """The records of one message."""
    session = session_of([subscription])
    if subscription.data_type is DataType.ORDERBOOK:
        last: dict[str, int] = {}
        if message["action"] == "update":
            empty = {"bids": [], "asks": [], "ts": "1"}
            first = {**message, "action": "snapshot", "data": [empty]}
            session.receive([json.dumps(numbered(first, last)).encode()], moment(1))
        message = numbered(message, last)
    turn = session.receive([json.dumps(message).encode()], moment(1))
    assert turn.actions == []
    return turn.records


def numbered(message: dict[str, Any], last: dict[str, int]) -> dict[str, Any]:
    """A book's message of back then, as it would be today."""
    native_id = message["arg"]["instId"]
    (element,) = message["data"]
    before = last.get(native_id, 1000)
    if "seqId" not in element:
        last[native_id] = before + 3
        fresh = message["action"] == "snapshot"
        element = {**element, "seqId": before + 3, "prevSeqId": -1 if fresh else before}
    return {**message, "arg": {"channel": "books", "instId": native_id}, "data": [element]}


@pytest.mark.parametrize("name", CAPTURES)
def test_a_capture_rebuilds_every_book_with_every_checksum(name: str, captures: Path) -> None:
    """Spot, swaps, dated futures and options: not one update is out of step."""
    expected = json.loads((captures / "expected_final_books.json").read_text(encoding="utf-8"))
    expected = expected[f"okx/{name}"]
    frames = [
        json.loads(line["raw"])
        for line in lines(captures / "okx" / name)
        if line["kind"] == "recv" and line["raw"].startswith('{"arg"')
    ]
    frames = [frame for frame in frames if frame["arg"]["channel"] != "tickers"]
    ids = sorted({frame["arg"]["instId"] for frame in frames})
    data_types = DataType.ORDERBOOK, DataType.TRADE
    subscriptions = [
        Subscription(data_type, by_hand(native_id)) for native_id in ids for data_type in data_types
    ]
    session = session_of(subscriptions)
    last: dict[str, int] = {}
    records: list[Record] = []
    counts: Counter[str] = Counter()
    for number, frame in enumerate(frames):
        if frame["arg"]["channel"].startswith("books"):
            frame = numbered(frame, last)
            assert frame["data"][0]["checksum"] != 0
        counts[frame["arg"]["channel"]] += 1
        turn = session.receive([json.dumps(frame).encode()], moment(1 + number / 100))
        assert turn.actions == []
        records += turn.records
    told = Counter(type(record) for record in records)
    assert told == {OrderBookRecord: counts["books"], Trade: counts["trades"]}
    assert counts["books"] == expected["summary"]["book_msgs"]
    for native_id, final in expected["final_books"].items():
        snapshot = session.send_snapshot((DataType.ORDERBOOK, native_id), 1, moment(99)).records[0]
        assert isinstance(snapshot, OrderBookRecord)
        instrument = snapshot.instrument
        assert (len(snapshot.bids), len(snapshot.asks)) == (final["n_bids"], final["n_asks"])
        assert snapshot.timestamp == int(final["ts"]) * 1_000_000
        for (price, quantity), best in zip(
            (snapshot.bids[0], snapshot.asks[0]),
            (final["best_bid"], final["best_ask"]),
            strict=True,
        ):
            assert (price, quantity) == (best[0], base_quantity(instrument, best[1], best[0]))
        assert session.streams[DataType.ORDERBOOK, native_id].resyncs == 0


@pytest.mark.parametrize("name", CAPTURES)
def test_one_changed_size_of_a_capture_is_noticed(name: str, captures: Path) -> None:
    """The checksums are really looked at."""
    frames = [
        json.loads(line["raw"])
        for line in lines(captures / "okx" / name)
        if line["kind"] == "recv" and '"action"' in line["raw"]
    ]
    native_id = frames[0]["arg"]["instId"]
    session = session_of([Subscription(DataType.ORDERBOOK, by_hand(native_id))])
    frame = numbered(frames[0], {})
    frame["data"][0]["bids"][0][1] += "1"
    assert session.receive([json.dumps(frame).encode()], moment(1)).records == []


@pytest.mark.parametrize("name", CAPTURES)
def test_a_message_without_numbers_is_rejected(name: str, captures: Path) -> None:
    """As it stands in these recordings: neither chain nor gap could be told."""
    line = next(
        line
        for line in lines(captures / "okx" / name)
        if line["kind"] == "recv" and '"snapshot"' in line["raw"]
    )
    frame = json.loads(line["raw"])
    frame["arg"]["channel"] = "books"
    session = session_of([Subscription(DataType.ORDERBOOK, by_hand(frame["arg"]["instId"]))])
    (reject,) = session.receive([json.dumps(frame).encode()], moment(1)).actions
    assert isinstance(reject, Reject)


CHANNELS = {
    "trades": DataType.TRADE,
    "books-l2-tbt": DataType.ORDERBOOK,
    "open-interest": DataType.OPEN_INTEREST,
    "liquidation-orders": DataType.LIQUIDATION,
    "funding-rate": DataType.FUNDING_RATE,
}


def test_tardis_reads_the_same_in_the_same_messages(captures: Path) -> None:
    """Price, quantity, side, id and time of trades, books, liquidations, interest and funding."""
    pairs = json.loads((captures / "okx" / "tardis_pairs.json").read_text(encoding="utf-8"))
    compared: Counter[str] = Counter()
    for pair in pairs:
        if (data_type := CHANNELS.get(pair["channel"])) is None:
            continue
        for message in pair["raw"]:
            if data_type is DataType.LIQUIDATION:
                native_id = message["data"][0]["instId"]
                message["arg"]["instType"] = "SWAP"
            else:
                native_id = message["arg"]["instId"]
            for element in message["data"]:
                # Some levels are cut, so the checksum is not theirs.
                element.pop("checksum", None)
            records = heard(Subscription(data_type, by_hand(native_id)), message)
            for record, theirs in zip(records, pair["expected"], strict=True):
                compared[pair["channel"]] += agree(record, theirs)
    assert compared.keys() == CHANNELS.keys()


def agree(record: Record, theirs: dict[str, Any]) -> bool:
    """Ours and theirs say the same; theirs counts contracts, in floats."""
    fields = json.loads(encode(record).payload)
    assert fields["instrument_id"] == theirs["symbol"]
    match theirs["type"]:
        case "trade" | "liquidation":
            assert isinstance(record, Trade | Liquidation)
            amount = record.contracts or record.quantity
            assert record.price is not None
            assert amount is not None
            assert (float(record.price), record.side) == (theirs["price"], theirs["side"])
            assert float(amount) == theirs["amount"]
            assert time(fields) == time(theirs)
            if isinstance(record, Trade):
                assert record.trade_id == theirs["id"]
        case "book_change":
            for side in ("bids", "asks"):
                size = record.instrument.contract_size
                assert [(float(price), float(quantity)) for price, quantity in fields[side]] == [
                    (
                        level["price"],
                        float(
                            base_quantity(
                                record.instrument, plain(level["amount"]), plain(level["price"])
                            )
                            if size
                            else level["amount"]
                        ),
                    )
                    for level in theirs[side]
                ]
            assert time(fields) == time(theirs)
        case "derivative_ticker" if fields["data_type"] == "open_interest":
            assert isinstance(record, OpenInterest)
            assert float(record.open_interest_contracts or 0) == theirs["openInterest"]
        case _:
            assert float(fields["current_funding_rate"]) == theirs["fundingRate"]
            assert float(fields["estimated_funding_rate"]) == theirs["predictedFundingRate"]
            said = datetime.fromisoformat(fields["funding_time"])
            assert said == datetime.fromisoformat(theirs["fundingTimestamp"])
    return True


def plain(number: float) -> str:
    """Without an exponent."""
    return format(Decimal(repr(number)), "f")


def time(fields: dict[str, Any]) -> datetime:
    """Of either."""
    return datetime.fromisoformat(fields["timestamp"])


def test_crypto_msg_parser_reads_the_same_in_the_same_messages(captures: Path) -> None:
    """What its tests assert of our channels."""
    kinds = {
        "trade": DataType.TRADE,
        "l2_event": DataType.ORDERBOOK,
        "funding_rate": DataType.FUNDING_RATE,
    }
    compared: Counter[str] = Counter()
    for case in lines(captures / "okx" / "crypto_msg_parser.jsonl"):
        if (data_type := kinds.get(case["module"])) is None:
            continue
        message = json.loads(case["raw"])
        # Its authors cut the levels, so the checksum is not theirs.
        for element in message["data"]:
            element.pop("checksum", None)
        subscription = Subscription(data_type, by_hand(message["arg"]["instId"]))
        (record,) = heard(subscription, message)
        fields = json.loads(encode(record).payload)
        for expression, value in case["asserts"]:
            said = asserted(expression, fields)
            if said is None:
                continue
            theirs = value if value.startswith(("Some", "Trade")) else float(value)
            assert said == theirs, expression
            compared[case["module"]] += 1
    assert compared.keys() == kinds.keys()


def asserted(expression: str, fields: dict[str, Any]) -> object:
    """What our record says to an expression of its tests; None where it is of something else."""
    match expression:
        case "trade.timestamp" | "orderbook.timestamp":
            return milliseconds(fields["timestamp"])
        case "trade.price":
            return float(fields["price"])
        case "trade.quantity_base":
            return float(fields["quantity"])
        case "trade.quantity_contract":
            return f"Some({float(fields['contracts'])})"
        case "trade.side":
            return f"TradeSide::{fields['side'].title()}"
        case "orderbook.asks.len()" | "orderbook.bids.len()":
            return len(fields[expression[10:14]])
        case "orderbook.bids[0].price" | "orderbook.asks[0].price":
            return float(fields[expression[10:14]][0][0])
        case "funding_rates[0].funding_rate":
            return float(fields["current_funding_rate"])
        case "funding_rates[0].estimated_rate":
            return f"Some({float(fields['estimated_funding_rate'])})"
        case "funding_rates[0].funding_time":
            return milliseconds(fields["funding_time"])
        case _:
            return None


def milliseconds(text: str) -> int:
    """Since the epoch."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def test_later_messages_are_read_too(captures: Path) -> None:
    """Of 2025 and 2026, with the keys that have been added; an acknowledgement, too."""
    frames = [*lines(captures / "okx" / "trades_gct.jsonl")]
    trades = [
        record for frame in frames for record in heard(Subscription(DataType.TRADE, BTC), frame)
    ]
    assert [t.trade_id for t in trades if isinstance(t, Trade)] == ["674510826", "674510827"]
    session = OkxSession(SWAP_CONFIG, "okx/0", [Subscription(DataType.TRADE, SWAP)], {})
    session.opening(moment(0))
    records: list[Record] = []
    for line in lines(captures / "okx" / "ws_2026-08_ccxt.jsonl"):
        if line["raw"]["arg"]["channel"] == "trades":
            turn = session.receive([json.dumps(line["raw"]).encode()], moment(1))
            assert turn.actions == []
            records += turn.records
    assert [(r.trade_id, r.contracts) for r in records if isinstance(r, Trade)] == [
        ("2832749635", "1"),
        ("2832749645", "34.95"),
    ]
    assert session.streams[DataType.TRADE, SWAP.native_id].phase is Phase.LIVE
    (line,) = lines(captures / "okx" / "liquidation_orders_ccxt_pr23350.jsonl")
    (record,) = heard(Subscription(DataType.LIQUIDATION, SWAP), line["raw"])
    assert isinstance(record, Liquidation)
    assert record.liquidation_id == "1723038122631:sell:long:57102.9:10000:1"
    assert record.quantity == "100.00"


def test_the_documented_messages_are_read(captures: Path) -> None:
    """Of our channels and endpoints, as far as the documentation's own examples are whole."""
    examples = {
        line["name"]: line["body"] for line in lines(captures / "okx" / "documented_nautilus.jsonl")
    }
    subscription = Subscription(DataType.ORDERBOOK, BTC)
    session = session_of([subscription])
    for name in ("ws_books_snapshot.json", "ws_books_update.json"):
        # The example's checksum is not that of the levels shown.
        examples[name]["data"][0]["checksum"] = 0
        turn = session.receive([json.dumps(examples[name]).encode()], moment(1))
        assert turn.actions == []
        assert [type(record) for record in turn.records] == [OrderBookRecord]
    dollars = attrs.evolve(BTC, native_id="BTC-USD")
    (trade,) = heard(Subscription(DataType.TRADE, dollars), examples["ws_trades.json"])
    assert isinstance(trade, Trade)
    assert (trade.trade_id, trade.first_trade_id) == ("130639474", None)

    rest = {
        line["name"]: line["body"]
        for line in lines(captures / "okx" / "documented_rest_jkorf.jsonl")
    }
    (poll,) = OkxDerivatives(SWAP_CONFIG).polls([Subscription(DataType.LSR_ALL_ACCOUNT, SWAP)])
    body = Fetched(json.dumps(rest["GetRubikLongShortRatio"]).encode(), 0)
    (ratio,) = poll.read(body, {poll.subscription.stream: Cursor()}, moment(1)).records
    assert json.loads(encode(ratio).payload)["long_account_ratio"] == "0.5556"
    for name, data_type, channel in (
        ("GetOpenInterests", DataType.OPEN_INTEREST, "open-interest"),
        ("GetFundingRates", DataType.FUNDING_RATE, "funding-rate"),
    ):
        message = {
            "arg": {"channel": channel, "instId": SWAP.native_id},
            "data": rest[name]["data"],
        }
        assert len(heard(Subscription(data_type, SWAP), message)) == 1


def test_the_recorded_instruments_are_read(captures: Path) -> None:
    """Each of every type; sizes and sides of the contract as their rows have them."""
    found: dict[str, Instrument] = {}
    rows: dict[str, dict[str, str]] = {}
    for line in lines(captures / "okx" / "instruments_2022-02-27.jsonl"):
        body = line["raw"].encode()
        instruments = read_instruments(body, "perpetual")
        found |= {instrument.native_id: instrument for instrument in instruments}
        rows |= {row["instId"]: row for row in json.loads(body)["data"]}
    assert found.keys() == rows.keys()
    for native_id, row in rows.items():
        instrument = found[native_id]
        assert instrument.trading == (row["state"] == "live")
        if row["instType"] == "SPOT":
            assert instrument.symbol == f"{row['baseCcy']}-{row['quoteCcy']}"
            assert instrument.contract_size is None
            continue
        assert instrument.symbol == row["uly"]
        size = Fraction(row["ctVal"]) * Fraction(row["ctMult"])
        assert Fraction(instrument.contract_size or 0) == size
        if row["ctType"]:
            assert instrument.inverse == (row["ctType"] == "inverse")
    assert found["BTC-USD-SWAP"].symbol == "BTC-USD"
    assert len({i.symbol for i in found.values() if i.native_id.endswith("-SWAP")}) == 162


INSTRUMENTS = {
    "code": "0",
    "data": [
        {
            "instId": "ABC-USDT-SWAP",
            "instType": "SWAP",
            "instFamily": "ABC-USDT",
            "uly": "",
            "ctVal": "10",
            "ctMult": "10",
            "ctValCcy": "ABC",
            "state": "preopen",
        },
        {"instId": "NO-FAMILY-SWAP", "instType": "SWAP", "ctVal": "1", "ctValCcy": "NO"},
        {"instId": 7},
    ],
}


def test_instruments_that_cannot_be_used_are_left_out() -> None:
    """The others stand; one that is not live yet is known, and not trading."""
    venue = OkxDerivatives(SWAP_CONFIG)
    (instrument,) = venue.instruments([json.dumps(INSTRUMENTS).encode()])
    assert (instrument.symbol, instrument.contract_size) == ("ABC-USDT", "100")
    assert not instrument.trading


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"[" * 9999, b'{"code":"50011","data":[]}', b'{"code":"0","data":[{}]}']
)
def test_metadata_that_cannot_be_read_says_so(body: bytes) -> None:
    """In a ValueError, as the venue's interface has it."""
    with pytest.raises(ValueError, match="instruments"):
        OkxSpot(SPOT_CONFIG).instruments([body])
