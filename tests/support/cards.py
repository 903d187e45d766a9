"""A card for each thing that a venue offers: what is asked, what comes, what is made of it.

The events are made up by hand from the exchanges' documentation; so are the records expected.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from marketprism.records import DataType

AT = 1_700_000_000_123
TIME = "2023-11-14T22:13:20.123Z"
FUNDING_AT, FUNDING_NEXT = 1_700_006_400_000, 1_700_035_200_000
PERPETUAL = {"symbol": "BTC-USDT", "exchange": "binance", "market_type": "perpetual"}
BINANCE_BOOK = {"lastUpdateId": 100, "bids": [["99.5", "1"]], "asks": [["100.5", "1"]]}
SWAP_ARG = {"instId": "BTC-USDT-SWAP"}

Path = tuple[str | int, ...]


@attrs.frozen
class Card:
    """One offer of one venue."""

    venue: str
    data_type: DataType
    asked: str
    """What the subscription, or the address of the poll, must contain."""
    event: Any
    """What the exchange then says; a REST body for what is polled."""
    expected: dict[str, Any]
    """The fields of the payload that the event determines, all of them."""
    numbers: Sequence[Path]
    """Where numbers stand as text in the event."""
    nullable: Mapping[Path, Sequence[str]] = attrs.field(factory=dict)
    """What the record can do without, and what of the payload is null where it cannot be read."""
    optional: Sequence[Path] = ()
    """Keys that may be missing, and are null then (or change nothing)."""
    before: Sequence[Any] = ()
    """Messages that come first: the snapshot of a book."""
    snapshot: Any = None
    """The REST body of the book, where the exchange has it there."""
    native_id: str = "BTCUSDT"
    metadata: Sequence[bytes] = ()
    """What the exchange said of its markets before, where the record depends on it."""

    @property
    def name(self) -> str:
        return f"{self.venue}-{self.data_type}"


def changed(event: Any, path: Path, change: Callable[[Any, str | int], None]) -> Any:
    """A copy of an event in which something was done at a path."""
    copy = json.loads(json.dumps(event))
    at = copy
    for key in path[:-1]:
        at = at[key]
    change(at, path[-1])
    return copy


def book_fields(**fields: Any) -> dict[str, Any]:
    """The payload of an update, with what is null in each."""
    nothing: dict[str, Any] = {
        "update_type": "update",
        "best_bid_price": None,
        "best_ask_price": None,
        "prev_update_id": None,
        "contract_size": None,
        "timestamp": TIME,
    }
    return nothing | fields


def trade_fields(**fields: Any) -> dict[str, Any]:
    """The payload of a trade, with what is null in most."""
    nothing: dict[str, Any] = {
        "first_trade_id": None,
        "last_trade_id": None,
        "is_maker": None,
        "contracts": None,
        "timestamp": TIME,
    }
    return nothing | fields


def _depth(**more: Any) -> dict[str, Any]:
    fields = {"e": "depthUpdate", "E": AT, "s": "BTCUSDT", "U": 101, "u": 103}
    return {**fields, "b": [["99.5", "0.00000001"]], "a": [["100.5", "0"]], **more}


def _okx(channel: str, *data: Any, subject: dict[str, str] | None = None, **more: Any) -> Any:
    return {"arg": {"channel": channel, **(subject or SWAP_ARG)}, "data": data, **more}


def _okx_book(seq: int, previous: int, bids: Any, asks: Any) -> dict[str, Any]:
    return {
        "bids": bids,
        "asks": asks,
        "ts": str(AT),
        "checksum": 0,
        "seqId": seq,
        "prevSeqId": previous,
    }


_BIDS, _ASKS = [["99.5", "3", "0", "1"]], [["100.5", "2", "0", "1"]]
_SPOT_ARG = {"instId": "BTC-USDT"}
_OKX_TRADE = {"tradeId": "77", "px": "100.50", "sz": "3", "side": "sell", "ts": str(AT)}
_RATIO_ROW = {"symbol": "BTCUSDT", "longShortRatio": "1.5", "longAccount": "0.6"}
_RATIO_ROW |= {"shortAccount": "0.4"}
_BOOK_PATHS: Sequence[Path] = (("b", 0, 0), ("b", 0, 1), ("a", 0, 0))
_OKX_BOOK_PATHS: Sequence[Path] = (("data", 0, "bids", 0, 0), ("data", 0, "bids", 0, 1))

CARDS = [
    Card(
        "binance_spot",
        DataType.ORDERBOOK,
        '"btcusdt@depth@100ms"',
        _depth(),
        book_fields(
            bids=[["99.5", "0.00000001"]],
            asks=[["100.5", "0"]],
            first_update_id=101,
            last_update_id=103,
            prev_update_id=100,
            depth_levels=1,
        ),
        _BOOK_PATHS,
        snapshot=BINANCE_BOOK,
    ),
    Card(
        "binance_spot",
        DataType.TRADE,
        '"btcusdt@trade"',
        {
            "e": "trade",
            "E": AT + 1,
            "s": "BTCUSDT",
            "t": 77,
            "T": AT,
            "p": "100.50",
            "q": "0.00000001",
            "m": True,
            "M": True,
        },
        trade_fields(
            trade_id="77",
            price="100.50",
            quantity="0.00000001",
            side="sell",
            trade_kind="raw",
            is_maker=True,
        ),
        (("p",), ("q",)),
        {("m",): ("side", "is_maker")},
    ),
    Card(
        "binance_derivatives",
        DataType.ORDERBOOK,
        '"btcusdt@depth@100ms"',
        _depth(T=AT, E=AT + 2, U=95, u=110, pu=90, ps="BTCUSDT", st=1),
        book_fields(
            bids=[["99.5", "0.00000001"]],
            asks=[["100.5", "0"]],
            first_update_id=95,
            last_update_id=110,
            prev_update_id=100,
            depth_levels=1,
        ),
        _BOOK_PATHS,
        optional=(("st",), ("ps",), ("pu",)),
        snapshot={**BINANCE_BOOK, "T": AT - 5, "E": AT - 5},
    ),
    Card(
        "binance_derivatives",
        DataType.TRADE,
        '"btcusdt@aggTrade"',
        {
            "e": "aggTrade",
            "E": AT + 1,
            "s": "BTCUSDT",
            "a": 77,
            "f": 5,
            "l": 6,
            "T": AT,
            "p": "100.50",
            "q": "0.001",
            "m": False,
            "nq": "0.001",
            "st": 1,
        },
        trade_fields(
            trade_id="77",
            price="100.50",
            quantity="0.001",
            side="buy",
            trade_kind="aggregated",
            first_trade_id="5",
            last_trade_id="6",
            is_maker=False,
        ),
        (("p",), ("q",)),
        {("m",): ("side", "is_maker")},
        optional=(("nq",), ("st",)),
    ),
    Card(
        "binance_derivatives",
        DataType.FUNDING_RATE,
        '"btcusdt@markPrice@1s"',
        {
            "e": "markPriceUpdate",
            "E": AT,
            "s": "BTCUSDT",
            "p": "100.5",
            "i": "100.4",
            "P": "100.6",
            "r": "-0.00000123",
            "T": FUNDING_AT,
            "st": 1,
        },
        {
            "current_funding_rate": "-0.00000123",
            "estimated_funding_rate": None,
            "funding_time": "2023-11-15T00:00:00.000Z",
            "next_funding_time": "2023-11-15T08:00:00.000Z",
            "funding_interval": "8h",
            "mark_price": "100.5",
            "index_price": "100.4",
            "timestamp": TIME,
        },
        (("p",), ("r",), ("i",)),
        {
            ("p",): ("mark_price",),
            ("i",): ("index_price",),
            ("T",): ("funding_time", "next_funding_time"),
        },
        optional=(("i",), ("P",), ("st",)),
        metadata=(b'{"symbols":[]}', b"[]"),
    ),
    Card(
        "binance_derivatives",
        DataType.LIQUIDATION,
        '"btcusdt@forceOrder"',
        {
            "e": "forceOrder",
            "E": AT + 1,
            "o": {
                "s": "BTCUSDT",
                "S": "SELL",
                "o": "LIMIT",
                "f": "IOC",
                "q": "0.014",
                "p": "99.10",
                "ap": "99.20",
                "X": "FILLED",
                "l": "0.014",
                "z": "0.014",
                "T": AT,
            },
        },
        {
            "liquidation_id": f"{AT}:sell::99.10:0.014:1",
            "side": "sell",
            "status": "FILLED",
            "price": "99.10",
            "average_price": "99.20",
            "quantity": "0.014",
            "filled_quantity": "0.014",
            "notional_value": None,
            "contracts": None,
            "sampled": True,
            "timestamp": TIME,
        },
        (("o", "p"), ("o", "q"), ("o", "ap"), ("o", "z")),
        {
            ("o", "S"): ("side",),
            ("o", "p"): ("price",),
            ("o", "q"): ("quantity",),
            ("o", "ap"): ("average_price",),
            ("o", "z"): ("filled_quantity",),
            ("o", "X"): ("status",),
        },
        optional=(("o", "ap"), ("o", "X"), ("o", "z"), ("o", "l")),
    ),
    Card(
        "binance_derivatives",
        DataType.OPEN_INTEREST,
        "http://rest.test/fapi/v1/openInterest?symbol=BTCUSDT",
        {"symbol": "BTCUSDT", "openInterest": "10659.509", "time": AT},
        {
            "open_interest": "10659.509",
            "open_interest_contracts": None,
            "open_interest_value": None,
            "timestamp": TIME,
        },
        (("openInterest",),),
    ),
    Card(
        "binance_derivatives",
        DataType.LSR_TOP_POSITION,
        "http://rest.test/futures/data/topLongShortPositionRatio?symbol=BTCUSDT&period=5m",
        [{**_RATIO_ROW, "timestamp": 1_700_000_100_000}],
        {
            "long_short_ratio": "1.5",
            "long_position_ratio": "0.6",
            "short_position_ratio": "0.4",
            "period": "5m",
            "timestamp": "2023-11-14T22:15:00.000Z",
        },
        ((0, "longShortRatio"), (0, "longAccount"), (0, "shortAccount")),
        {
            (0, "longShortRatio"): ("long_short_ratio",),
            (0, "longAccount"): ("long_position_ratio",),
            (0, "shortAccount"): ("short_position_ratio",),
        },
        optional=((0, "symbol"),),
    ),
    Card(
        "binance_derivatives",
        DataType.LSR_ALL_ACCOUNT,
        "http://rest.test/futures/data/globalLongShortAccountRatio?symbol=BTCUSDT&period=5m",
        [{**_RATIO_ROW, "timestamp": "1700000100000"}],
        {
            "long_short_ratio": "1.5",
            "long_account_ratio": "0.6",
            "short_account_ratio": "0.4",
            "period": "5m",
            "timestamp": "2023-11-14T22:15:00.000Z",
        },
        ((0, "longShortRatio"), (0, "longAccount"), (0, "shortAccount")),
        {
            (0, "longShortRatio"): ("long_short_ratio",),
            (0, "longAccount"): ("long_account_ratio",),
            (0, "shortAccount"): ("short_account_ratio",),
        },
        optional=((0, "symbol"),),
    ),
    Card(
        "okx_spot",
        DataType.ORDERBOOK,
        '{"channel":"books","instId":"BTC-USDT"}',
        _okx(
            "books",
            _okx_book(15, 10, [["99.5", "0.00000001", "0", "1"]], [["100.5", "0", "0", "0"]]),
            subject=_SPOT_ARG,
            action="update",
        ),
        book_fields(
            bids=[["99.5", "0.00000001"]],
            asks=[["100.5", "0"]],
            first_update_id=None,
            last_update_id=15,
            prev_update_id=10,
            depth_levels=1,
        ),
        _OKX_BOOK_PATHS,
        optional=(("data", 0, "checksum"),),
        before=[
            _okx("books", _okx_book(10, -1, _BIDS, _ASKS), subject=_SPOT_ARG, action="snapshot")
        ],
        native_id="BTC-USDT",
    ),
    Card(
        "okx_spot",
        DataType.TRADE,
        '{"channel":"trades","instId":"BTC-USDT"}',
        _okx("trades", {**_OKX_TRADE, "count": "3", "source": "0"}, subject=_SPOT_ARG),
        trade_fields(
            trade_id="77",
            price="100.50",
            quantity="3",
            side="sell",
            trade_kind="aggregated",
            last_trade_id="77",
        ),
        (("data", 0, "px"), ("data", 0, "sz"), ("data", 0, "tradeId")),
        {("data", 0, "side"): ("side",), ("data", 0, "count"): ()},
        optional=(("data", 0, "count"), ("data", 0, "source")),
        native_id="BTC-USDT",
    ),
    Card(
        "okx_derivatives",
        DataType.ORDERBOOK,
        '{"channel":"books","instId":"BTC-USDT-SWAP"}',
        _okx(
            "books",
            _okx_book(15, 10, [["99.5", "7", "0", "1"]], [["100.5", "0", "0", "0"]]),
            action="update",
        ),
        book_fields(
            bids=[["99.5", "0.07"]],
            asks=[["100.5", "0"]],
            first_update_id=None,
            last_update_id=15,
            prev_update_id=10,
            depth_levels=1,
            contract_size="0.01",
        ),
        _OKX_BOOK_PATHS,
        optional=(("data", 0, "checksum"),),
        before=[_okx("books", _okx_book(10, -1, _BIDS, _ASKS), action="snapshot")],
        native_id="BTC-USDT-SWAP",
    ),
    Card(
        "okx_derivatives",
        DataType.TRADE,
        '{"channel":"trades","instId":"BTC-USDT-SWAP"}',
        _okx("trades", {**_OKX_TRADE, "count": "1", "seqId": 5}),
        trade_fields(
            trade_id="77",
            price="100.50",
            quantity="0.03",
            side="sell",
            trade_kind="aggregated",
            first_trade_id="77",
            last_trade_id="77",
            contracts="3",
        ),
        (("data", 0, "px"), ("data", 0, "sz"), ("data", 0, "tradeId")),
        {("data", 0, "side"): ("side",), ("data", 0, "count"): ("first_trade_id",)},
        native_id="BTC-USDT-SWAP",
        optional=(("data", 0, "seqId"),),
    ),
    Card(
        "okx_derivatives",
        DataType.FUNDING_RATE,
        '{"channel":"funding-rate","instId":"BTC-USDT-SWAP"}',
        _okx(
            "funding-rate",
            {
                "fundingRate": "-0.00000123",
                "fundingTime": str(FUNDING_AT),
                "nextFundingRate": "0.0001",
                "nextFundingTime": str(FUNDING_NEXT),
                "ts": str(AT),
                "premium": "0.1",
                "instType": "SWAP",
            },
        ),
        {
            "current_funding_rate": "-0.00000123",
            "estimated_funding_rate": "0.0001",
            "funding_time": "2023-11-15T00:00:00.000Z",
            "next_funding_time": "2023-11-15T08:00:00.000Z",
            "funding_interval": "8h",
            "mark_price": None,
            "index_price": None,
            "timestamp": TIME,
        },
        (("data", 0, "fundingRate"), ("data", 0, "nextFundingRate")),
        {
            ("data", 0, "nextFundingRate"): ("estimated_funding_rate",),
            ("data", 0, "fundingTime"): ("funding_time", "funding_interval"),
            ("data", 0, "nextFundingTime"): ("next_funding_time", "funding_interval"),
        },
        optional=(
            ("data", 0, "nextFundingRate"),
            ("data", 0, "nextFundingTime"),
            ("data", 0, "premium"),
        ),
        native_id="BTC-USDT-SWAP",
    ),
    Card(
        "okx_derivatives",
        DataType.OPEN_INTEREST,
        '{"channel":"open-interest","instId":"BTC-USDT-SWAP"}',
        _okx("open-interest", {"oi": "1250", "oiCcy": "12.50", "oiUsd": "1250.5", "ts": str(AT)}),
        {
            "open_interest": "12.50",
            "open_interest_contracts": "1250",
            "open_interest_value": "1250.5",
            "timestamp": TIME,
        },
        (("data", 0, "oi"), ("data", 0, "oiCcy"), ("data", 0, "oiUsd")),
        {
            ("data", 0, "oi"): ("open_interest_contracts",),
            ("data", 0, "oiCcy"): (),
            ("data", 0, "oiUsd"): ("open_interest_value",),
        },
        optional=(("data", 0, "oiUsd"), ("data", 0, "oiCcy")),
        native_id="BTC-USDT-SWAP",
    ),
    Card(
        "okx_derivatives",
        DataType.LIQUIDATION,
        '{"channel":"liquidation-orders","instType":"SWAP"}',
        _okx(
            "liquidation-orders",
            {
                "instId": "BTC-USDT-SWAP",
                "details": [
                    {
                        "side": "sell",
                        "posSide": "long",
                        "bkPx": "99.10",
                        "sz": "13",
                        "bkLoss": "0",
                        "ts": str(AT),
                    }
                ],
            },
            subject={"instType": "SWAP"},
        ),
        {
            "liquidation_id": f"{AT}:sell:long:99.10:13:1",
            "side": "sell",
            "status": None,
            "price": "99.10",
            "average_price": None,
            "quantity": "0.13",
            "filled_quantity": None,
            "notional_value": None,
            "contracts": "13",
            "sampled": True,
            "timestamp": TIME,
        },
        (("data", 0, "details", 0, "bkPx"), ("data", 0, "details", 0, "sz")),
        {
            ("data", 0, "details", 0, "side"): ("side",),
            ("data", 0, "details", 0, "bkPx"): ("price",),
            ("data", 0, "details", 0, "sz"): ("quantity", "contracts"),
            ("data", 0, "details", 0, "posSide"): (),
        },
        optional=(("data", 0, "details", 0, "bkLoss"),),
        native_id="BTC-USDT-SWAP",
    ),
    *(
        Card(
            "okx_derivatives",
            data_type,
            f"http://rest.test/api/v5/rubik/stat/contracts/{path}?instId=BTC-USDT-SWAP&period=5m",
            {"code": "0", "msg": "", "data": [["1700000100000", "0.97"]]},
            {
                "long_short_ratio": "0.97",
                f"long_{noun}_ratio": "0.4924",
                f"short_{noun}_ratio": "0.5076",
                "period": "5m",
                "timestamp": "2023-11-14T22:15:00.000Z",
            },
            (("data", 0, 1),),
            optional=(("msg",),),
            native_id="BTC-USDT-SWAP",
        )
        for data_type, noun, path in (
            (
                DataType.LSR_TOP_POSITION,
                "position",
                "long-short-position-ratio-contract-top-trader",
            ),
            (DataType.LSR_ALL_ACCOUNT, "account", "long-short-account-ratio-contract"),
        )
    ),
    Card(
        "deribit_derivatives",
        DataType.VOLATILITY_INDEX,
        '"deribit_volatility_index.btc_usd"',
        {
            "jsonrpc": "2.0",
            "method": "subscription",
            "params": {
                "channel": "deribit_volatility_index.btc_usd",
                "data": {"volatility": 47.55, "timestamp": AT, "index_name": "btc_usd"},
            },
        },
        {
            "volatility_index": "47.55",
            "currency": "BTC",
            "index_name": "btc_usd",
            "timestamp": TIME,
        },
        (("params", "data", "volatility"),),
        {("params", "data", "index_name"): ()},
        optional=(("jsonrpc",),),
        native_id="btc_usd",
    ),
]
