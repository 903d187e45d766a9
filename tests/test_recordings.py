"""Recordings of the perpetuals and of OKX, played over real sockets into a real stream."""

import json
from decimal import ROUND_HALF_EVEN, Context, Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
from captures import trades_of
from consumer import Consumer
from nats_server import Server
from rig import running

from marketprism.records import DataType
from marketprism.simulator import player

pytestmark = pytest.mark.once

BOOKS_AND_TRADES = (DataType.ORDERBOOK, DataType.TRADE)


@attrs.frozen
class Recording:
    """What of a recording belongs to one venue."""

    venue: str
    file: str
    symbols: dict[str, str]
    """Our symbols, by native id."""
    contracts: dict[str, tuple[str, bool]] = attrs.field(factory=dict)
    """What a contract is worth, and whether in the quote currency, by native id."""


RECORDINGS = [
    Recording(
        "binance_derivatives",
        "binance_usdm/capture_2021-04-17_4sym.jsonl",
        {f"{base}USDT": f"{base}-USDT" for base in ("KSM", "YFI", "DENT", "XMR")},
    ),
    Recording(
        "binance_derivatives",
        "binance_usdm/capture_2021-07-22_4sym.jsonl",
        {f"{base}USDT": f"{base}-USDT" for base in ("SUSHI", "AKRO", "KEEP", "CTK")},
    ),
    Recording(
        "okx_spot",
        "okx/capture_2021-07-22_books-l2-tbt_10inst.jsonl",
        {
            symbol: symbol
            for symbol in ("DHT-USDT", "FUN-BTC", "OKT-BTC", "ONT-USDT", "AUCTION-USDT", "PAY-BTC")
        },
    ),
    Recording(
        "okx_derivatives",
        "okx/capture_2021-07-22_books-l2-tbt_10inst.jsonl",
        {"XMR-USDT-SWAP": "XMR-USDT"},
        {"XMR-USDT-SWAP": ("0.1", False)},
    ),
    Recording(
        "okx_spot",
        "okx/capture_2022-05-13_books_trades_tickers_BTC-USDT_UNI-USD-SWAP_BTC-USD-220527.jsonl",
        {"BTC-USDT": "BTC-USDT"},
    ),
    Recording(
        "okx_derivatives",
        "okx/capture_2022-05-13_books_trades_tickers_BTC-USDT_UNI-USD-SWAP_BTC-USD-220527.jsonl",
        {"UNI-USD-SWAP": "UNI-USD"},
        {"UNI-USD-SWAP": ("10", True)},
    ),
]


def level(truth: dict[str, Any], side: str) -> tuple[str, str]:
    """The best level that is expected, as the exchange counts it."""
    if isinstance(truth[f"best_{side}"], list):
        price, quantity = truth[f"best_{side}"]
        return price, quantity
    return truth[f"best_{side}"], truth[f"best_{side}_qty"]


def base(recording: Recording, native: str, price: str, quantity: str) -> Decimal:
    """A native quantity in the base asset, by the contract's rule."""
    if native not in recording.contracts:
        return Decimal(quantity)
    size, inverse = recording.contracts[native]
    value = Decimal(quantity) * Decimal(size)
    twelve_digits = Context(prec=12, rounding=ROUND_HALF_EVEN)
    return twelve_digits.divide(value, Decimal(price)) if inverse else value


@pytest.mark.parametrize(
    "recording",
    RECORDINGS,
    ids=lambda each: f"{each.venue}-{each.file.split('_')[1 + ('usdm' in each.file)]}",
)
async def test_a_recording_rebuilds_its_books_and_has_every_trade_once(
    recording: Recording, captures: Path, server: Server
) -> None:
    """Best levels, level counts, ids; no gap, nothing that does not chain, nothing rejected."""
    expected = json.loads((captures / "expected_final_books.json").read_text())[recording.file]
    path = captures / recording.file
    exchange = player(path, venue=recording.venue, speed=12, start_delay=3)
    symbols = tuple(recording.symbols.values())
    async with running(
        exchange, server, symbols, venue=recording.venue, data_types=BOOKS_AND_TRADES
    ) as rig:
        await exchange.finished.wait()
        await rig.drained()
        await rig.settled()
        await rig.stop()
        consumer: Consumer = await rig.consumed()
        assert not rig.collector.board.rejected
    assert (consumer.faults, consumer.gaps) == ([], [])
    for native, symbol in recording.symbols.items():
        truth, book = expected["final_books"][native], consumer.books[symbol]
        assert (len(book.bids), len(book.asks)) == (truth["n_bids"], truth["n_asks"])
        assert book.last_id == truth.get("applied_through_u", book.last_id)
        for (price, quantity), side in zip(book.best(), ("bid", "ask"), strict=True):
            true_price, native_quantity = level(truth, side)
            assert price == true_price
            assert Decimal(quantity) == base(recording, native, price, native_quantity)
        assert consumer.trades.get(symbol, []) == trades_of(path, native)
