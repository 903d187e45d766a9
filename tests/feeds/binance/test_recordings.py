"""Binance's own messages: recordings, and what others read in them."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import attrs
import captures
import msgspec
import pytest
from consumer import Consumer
from usdm import CONFIG, START, moment

from marketprism.feeds.actions import Fetch, Fetched, Output, Reject, Send
from marketprism.feeds.binance import BinanceDerivatives
from marketprism.feeds.venue import Session
from marketprism.instruments import Instrument
from marketprism.records import (
    DataType,
    FundingRate,
    Liquidation,
    LongShortRatio,
    OpenInterest,
    OrderBookRecord,
    Record,
    Trade,
)
from marketprism.settings.exchanges import OrderbookOptions
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Stream, Subscription
from marketprism.times import time_text
from marketprism.wire import encode

CAPTURES = ("capture_2021-04-17_4sym.jsonl", "capture_2021-07-22_4sym.jsonl")
TYPES = (DataType.ORDERBOOK, DataType.TRADE, DataType.FUNDING_RATE, DataType.LIQUIDATION)
OURS = ("@depth@100ms", "@aggTrade")


def instrument(native_id: str) -> Instrument:
    """A market by its name in a recording."""
    return Instrument("binance", "perpetual", native_id, native_id)


@attrs.define
class Replay:
    """Both routes of a venue, fed with what was received."""

    symbols: list[str]
    seconds: float = 0.0
    consumer: Consumer = attrs.field(factory=Consumer)
    records: list[Record] = attrs.field(factory=list)
    rejects: list[Reject] = attrs.field(factory=list)
    asked: dict[str, Fetch] = attrs.field(factory=dict)
    sessions: dict[str, Session] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        options = OrderbookOptions(depth=1000, snapshot_interval=0)
        venue = BinanceDerivatives(attrs.evolve(CONFIG, orderbook=options))
        subscriptions = [
            Subscription(kind, instrument(symbol)) for symbol in self.symbols for kind in TYPES
        ]
        for shard in venue.plan(subscriptions):
            session = shard.open(
                {subscription.stream: Cursor() for subscription in shard.subscriptions}
            )
            self.sessions[shard.id.split("/")[1]] = session
            turn = session.opening(moment(0))
            said = [step for step in turn.actions if isinstance(step, Send)]
            for fetch in (step for step in turn.actions if isinstance(step, Fetch)):
                self.asked[str(getattr(fetch.tag, "native_id", ""))] = fetch
                said += [] if fetch.before is None else [fetch.before]
            numbers = [json.loads(send.payload)["id"] for send in said]
            session.receive([b'{"result":null,"id":%d}' % n for n in numbers], moment(0))

    def hear(self, frame: bytes) -> list[Record]:
        """An event, on the route that carries it."""
        self.seconds += 0.001
        route = "public" if b'"depthUpdate"' in frame[:40] else "market"
        return self.did(self.sessions[route].receive([frame], moment(self.seconds)))

    def answer(self, symbol: str, body: bytes) -> list[Record]:
        """The snapshot of a book."""
        now = moment(self.seconds)
        answer = Fetched(body, now.monotonic)
        return self.did(self.sessions["public"].reply(self.asked[symbol].tag, answer, now))

    def did(self, turn: Output) -> list[Record]:
        self.records += turn.records
        self.rejects += [step for step in turn.actions if isinstance(step, Reject)]
        for step in turn.actions:
            if isinstance(step, Fetch):
                self.asked[str(getattr(step.tag, "native_id", ""))] = step
        for record in turn.records:
            self.consumer.take(encode(record).payload)
        return turn.records


def heard(native_id: str, raw: Any) -> tuple[list[Record], list[Reject]]:
    """What follows from one message to a session that wants that market."""
    replay = Replay([native_id])
    replay.hear(msgspec.json.encode(raw))
    return replay.records, replay.rejects


def levels(book: Any, side: str) -> dict[Decimal, Decimal]:
    """As numbers: a price may be written in two ways."""
    return {Decimal(price): Decimal(quantity) for price, quantity in getattr(book, side).items()}


@pytest.mark.parametrize("name", CAPTURES)
def test_a_capture_rebuilds_the_books_and_gives_each_trade_once(name: str) -> None:
    """REST answers come when they came, and the books are at the end what others made of it."""
    name = f"binance_usdm/{name}"
    expected = captures.whole("expected_final_books.json")[name]["final_books"]
    replay = Replay(list(expected))
    traded: dict[str, list[int]] = {}
    for line in captures.capture(name):
        if line.kind == "http":
            symbol = line.url.partition("symbol=")[2].partition("&")[0]
            replay.answer(symbol, line.raw)
        elif line.kind == "recv":
            envelope = msgspec.json.decode(line.raw, type=captures.Envelope)
            if envelope.stream.endswith(OURS):
                event = json.loads(bytes(envelope.data))
                if event["e"] == "aggTrade":
                    traded.setdefault(event["s"], []).append(event["a"])
                replay.hear(bytes(envelope.data))
    assert replay.rejects == []
    assert replay.consumer.faults == []
    assert replay.consumer.gaps == []
    assert replay.consumer.trades == traded
    for symbol, truth in expected.items():
        book = replay.consumer.books[symbol]
        bids, asks = levels(book, "bids"), levels(book, "asks")
        best_bid, best_ask = max(bids), min(asks)
        assert book.last_id == truth["applied_through_u"]
        assert (best_bid, bids[best_bid]) == (
            Decimal(truth["best_bid"]),
            Decimal(truth["best_bid_qty"]),
        )
        assert (best_ask, asks[best_ask]) == (
            Decimal(truth["best_ask"]),
            Decimal(truth["best_ask_qty"]),
        )
        assert (len(bids), len(asks)) == (truth["n_bids"], truth["n_asks"])


def test_the_recorded_metadata_gives_the_perpetuals() -> None:
    """All of them, and nothing dated."""
    (line,) = captures.capture("binance_usdm/exchangeInfo_2021-12-05.jsonl")
    rows = json.loads(line.raw)["symbols"]
    found = BinanceDerivatives(CONFIG).instruments([line.raw, b""])
    assert len(found) == sum(row["contractType"] == "PERPETUAL" for row in rows) > 100
    btc = next(one for one in found if one.native_id == "BTCUSDT")
    assert (btc.symbol, btc.market_type, btc.trading) == ("BTC-USDT", "perpetual", True)
    assert len({one.symbol for one in found}) == len(found)
    assert not any("_" in one.native_id for one in found)


def rest(endpoint: str) -> Iterator[Any]:
    """The recorded REST answers of an endpoint."""
    found = 0
    for line in captures.lines("binance_usdm/rest_gocryptotrader.jsonl"):
        if line["endpoint"] == endpoint:
            found += 1
            yield line["body"]
    for line in captures.lines("binance_usdm/documented_nautilus.jsonl"):
        tail = {
            "/fapi/v1/openInterest": "open_interest",
            "/fapi/v1/depth": "depth",
            "/futures/data/topLongShortPositionRatio": "top_long_short_position_ratio",
            "/futures/data/globalLongShortAccountRatio": "global_long_short_account_ratio",
        }.get(endpoint, "?")
        if line["name"] in (f"http_futures_market_{tail}.json",):
            found += 1
            yield line["body"]
    assert found


def polled(data_type: DataType, body: Any, after: int) -> Output:
    """What a poll makes of an answer when its cursor stands there."""
    subscription = Subscription(data_type, instrument("BTCUSDT"))
    (poll,) = BinanceDerivatives(CONFIG).polls([subscription])
    answer = Fetched(msgspec.json.encode(body), 0)
    cursors: dict[Stream, Cursor] = {subscription.stream: Cursor(event_time=after, received=1)}
    return poll.read(answer, cursors, moment(0))


def test_recorded_answers_of_open_interest_are_read() -> None:
    """With their own numbers and times."""
    for body in rest("/fapi/v1/openInterest"):
        (record,) = polled(DataType.OPEN_INTEREST, body, 0).records
        assert isinstance(record, OpenInterest)
        assert record.open_interest == body["openInterest"]
        assert record.timestamp == body["time"] * 1_000_000


@pytest.mark.parametrize(
    ("data_type", "endpoint"),
    [
        (DataType.LSR_TOP_POSITION, "/futures/data/topLongShortPositionRatio"),
        (DataType.LSR_ALL_ACCOUNT, "/futures/data/globalLongShortAccountRatio"),
    ],
)
def test_recorded_ratios_are_read(data_type: DataType, endpoint: str) -> None:
    """Every row, in order; their times are numbers there, and strings in the documentation."""
    for body in rest(endpoint):
        if body[0]["symbol"] != "BTCUSDT":
            continue
        told = polled(data_type, body, 0).records
        records = [record for record in told if isinstance(record, LongShortRatio)]
        assert [
            (
                (record.timestamp or 0) // 1_000_000,
                record.long_short_ratio,
                record.long_share,
                record.short_share,
            )
            for record in records
        ] == [
            (int(row["timestamp"]), row["longShortRatio"], row["longAccount"], row["shortAccount"])
            for row in body
        ]


def test_recorded_snapshots_become_books() -> None:
    """As they are, when nothing was heard before them."""
    for body in rest("/fapi/v1/depth"):
        (record,) = Replay(["BTCUSDT"]).answer("BTCUSDT", msgspec.json.encode(body))
        assert isinstance(record, OrderBookRecord)
        assert record.last_update_id == body["lastUpdateId"]
        assert record.timestamp == body["T"] * 1_000_000
        assert [list(level) for level in record.bids] == body["bids"]
        assert [list(level) for level in record.asks] == body["asks"]


def test_the_recorded_funding_intervals_are_read() -> None:
    """For the symbols that deviate."""
    (body,) = rest("/fapi/v1/fundingInfo")
    row = next(row for row in body if row["fundingIntervalHours"] != 8)
    venue = BinanceDerivatives(CONFIG)
    venue.instruments([b'{"symbols":[]}', msgspec.json.encode(body)])
    (shard,) = venue.plan([Subscription(DataType.FUNDING_RATE, instrument(row["symbol"]))])
    event = {
        "e": "markPriceUpdate",
        "E": 1_700_000_000_000,
        "s": row["symbol"],
        "p": "1",
        "r": "0.0001",
        "T": 1_700_006_400_000,
    }
    frame = msgspec.json.encode(event)
    (record,) = shard.open({}).receive([frame], moment(0)).records
    assert isinstance(record, FundingRate)
    assert record.funding_interval == f"{row['fundingIntervalHours']}h"


def test_a_recorded_liquidation_is_read() -> None:
    """Hummingbot's."""
    (line,) = captures.lines("binance_usdm/forceOrder_hummingbot.jsonl")
    (record,), rejects = heard("GLMUSDT", line["data"])
    order = line["data"]["o"]
    assert rejects == []
    assert isinstance(record, Liquidation)
    assert (record.price, record.average_price) == (order["p"], order["ap"])
    assert (record.quantity, record.filled_quantity) == (order["q"], order["z"])
    assert (record.side, record.status) == ("buy", "FILLED")
    assert record.liquidation_id == "1714242617155:buy::0.5088718:9970:1"


def test_messages_of_august_2026_are_read() -> None:
    """An answer to our first command, and an update with the fields of the merged markets."""
    answer, line = captures.lines("binance_usdm/ws_depth_2026-08_ccxt.jsonl")
    replay = Replay(["BTCUSDT"], seconds=line["raw"]["E"] / 1000 - START / 10**9)
    replay.hear(msgspec.json.encode(answer["raw"]))
    assert replay.rejects == []
    body = {"lastUpdateId": line["raw"]["U"], "bids": [], "asks": [["70000.00", "1"]]}
    replay.hear(msgspec.json.encode(line["raw"]))
    (record,) = replay.answer("BTCUSDT", msgspec.json.encode(body))
    assert isinstance(record, OrderBookRecord)
    assert record.last_update_id == line["raw"]["u"]
    assert record.bids[0] == tuple(line["raw"]["b"][-1])
    assert record.timestamp == line["raw"]["T"] * 1_000_000


def test_the_documentation_s_examples_are_read() -> None:
    """Each kind of event that we have; `bookTicker` is none of them."""
    kinds: dict[str, list[str]] = {}
    for line in captures.lines("binance_usdm/documented_nautilus.jsonl"):
        body = line["body"]
        if isinstance(body, dict) and "e" in body:
            records, rejects = heard("BTCUSDT", body)
            kinds.setdefault(body["e"], []).extend(type(record).__name__ for record in records)
            kinds[body["e"]] += [reject.reason for reject in rejects]
    assert kinds == {
        "depthUpdate": [],
        "forceOrder": ["Liquidation"],
        "markPriceUpdate": ["FundingRate"],
        "aggTrade": ["Trade"],
        "bookTicker": ["unknown event"],
    }


def number(text: str | None) -> float | None:
    """As tardis writes it."""
    return None if text is None else float(text)


def test_what_tardis_reads_in_a_message_is_what_we_read() -> None:
    """Price, quantity, side, rate, time: of what we take from there."""
    compared = []
    for pair in captures.whole("binance_usdm/tardis_pairs.json"):
        raw, expected = pair["raw"][0]["data"], pair["expected"]
        if raw.get("e") not in ("forceOrder", "markPriceUpdate"):
            continue
        records, rejects = heard(raw.get("s") or raw["o"]["s"], raw)
        assert rejects == []
        compared.append(pair["channel"])
        if not expected[0].get("fundingRate") and raw["e"] == "markPriceUpdate":
            assert records == []  # a dated future: it has a mark price, and no funding
            continue
        (record,), (truth,) = records, expected
        assert time_text(record.timestamp) == truth["timestamp"]
        if isinstance(record, Liquidation):
            # Ours tells what was ordered; theirs, as the amount, what was filled.
            assert number(record.filled_quantity) == truth["amount"]
            assert (number(record.price), record.side) == (truth["price"], truth["side"])
        else:
            assert isinstance(record, FundingRate)
            assert number(record.current_funding_rate) == truth["fundingRate"]
            assert time_text(record.funding_time) == truth["fundingTimestamp"]
            assert number(record.mark_price) == truth["markPrice"]
    assert len(compared) == 3


def test_tardis_trades_are_not_ours_and_aggregates_without_an_id_are_no_trades() -> None:
    """We take `aggTrade`, which always has an id since 2019; `trade` is not documented here."""
    reasons = []
    for pair in captures.whole("binance_usdm/tardis_pairs.json"):
        raw = pair["raw"][0]["data"]
        if raw.get("e") in ("trade", "aggTrade"):
            records, rejects = heard(raw["s"], raw)
            assert records == []
            reasons += [reject.reason for reject in rejects]
    assert reasons == ["unfit event", "unknown event", "unknown event"]


def test_what_crypto_msg_parser_asserts_of_a_message_holds_of_ours() -> None:
    """Linear contracts: trades, funding, book updates, snapshots, open interest."""
    seen = []
    for line in captures.lines("binance_mixed/crypto_msg_parser.jsonl"):
        raw, asserts = json.loads(line["raw"]), dict(line["asserts"])
        case = f"{line['module']}/{line['case']}"
        if not line["case"].startswith("linear") or line["module"] in ("bbo", "ticker"):
            continue
        seen.append(case)
        event = raw.get("data", raw)
        if line["module"] == "open_interest":
            (record,) = polled(DataType.OPEN_INTEREST, event, 0).records
            assert isinstance(record, OpenInterest)
            assert record.open_interest == event["openInterest"]
        elif line["module"] == "l2_snapshot":
            (record,) = Replay(["BTCUSDT"]).answer("BTCUSDT", msgspec.json.encode(event))
            assert isinstance(record, OrderBookRecord)
            assert f"Some({record.last_update_id})" == asserts["orderbook.seq_id"]
            assert record.bids[2][1] == asserts["orderbook.bids[2].quantity_base"]
            # Theirs is when it was told, ours is when the book changed.
            assert record.timestamp == event["T"] * 1_000_000
        elif event["e"] == "depthUpdate":
            replay = Replay([event["s"]])
            body = {"lastUpdateId": event["pu"], "bids": [], "asks": []}
            replay.answer(event["s"], msgspec.json.encode(body))
            (record,) = replay.hear(msgspec.json.encode(event))
            assert isinstance(record, OrderBookRecord)
            assert f"Some({record.last_update_id})" == asserts["orderbook.seq_id"]
            if "orderbook.prev_seq_id" in asserts:
                assert f"Some({record.prev_update_id})" == asserts["orderbook.prev_seq_id"]
            assert Decimal(record.bids[0][0]) == Decimal(asserts["orderbook.bids[0].price"])
            assert Decimal(record.bids[0][1]) == Decimal(asserts["orderbook.bids[0].quantity_base"])
        else:
            (record,), _ = heard(event["s"], event)
            if isinstance(record, Trade):
                assert record.quantity == asserts["trade.quantity_base"]
                assert f"TradeSide::{str(record.side).title()}" == asserts["trade.side"]
            else:
                assert isinstance(record, FundingRate)
                rate, paid_at = record.current_funding_rate, record.funding_time or 0
                assert rate == asserts["funding_rates[0].funding_rate"]
                assert str(paid_at // 10**6) == asserts["funding_rates[0].funding_time"]
                told_at = str((record.timestamp or 0) // 10**6)
                assert told_at == asserts["funding_rates[0].timestamp"]
    assert len(seen) == 7
