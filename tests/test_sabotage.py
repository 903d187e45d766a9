"""Recordings played with faults at twenty random places each: what comes out is exact, or a gap."""

import json
import random
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from captures import trades_of
from consumer import Consumer
from forms import form
from nats_server import Server
from rig import Rig, running

from marketprism.records import DataType
from marketprism.simulator import Exchange, player

pytestmark = pytest.mark.once

FAULTS = 20
PLAYED_IN = 8.0
"""Seconds: recordings are hurried to it, but not so that faults outpace every recovery."""


@attrs.frozen
class Played:
    """A recording, and what of it one venue has."""

    venue: str
    file: str
    symbols: dict[str, str]
    """Our symbols, by native id."""
    seconds: float
    """What it lasted."""


RECORDINGS = {
    "spot-04": Played(
        "binance_spot",
        "binance_spot/capture_2021-04-04_btcusdt_ethusdt_dotusdt.jsonl",
        {f"{base}USDT": f"{base}-USDT" for base in ("BTC", "ETH", "DOT")},
        92,
    ),
    "spot-10": Played(
        "binance_spot",
        "binance_spot/capture_2021-10-12_4sym_with_bookTicker.jsonl",
        {
            "NKNUSDT": "NKN-USDT",
            "BLZETH": "BLZ-ETH",
            "LRCBTC": "LRC-BTC",
            "RUNEEUR": "RUNE-EUR",
        },
        31,
    ),
    "usdm-04": Played(
        "binance_derivatives",
        "binance_usdm/capture_2021-04-17_4sym.jsonl",
        {f"{base}USDT": f"{base}-USDT" for base in ("KSM", "YFI", "DENT", "XMR")},
        31,
    ),
    "usdm-07": Played(
        "binance_derivatives",
        "binance_usdm/capture_2021-07-22_4sym.jsonl",
        {f"{base}USDT": f"{base}-USDT" for base in ("SUSHI", "AKRO", "KEEP", "CTK")},
        31,
    ),
    "okx-spot-21": Played(
        "okx_spot",
        "okx/capture_2021-07-22_books-l2-tbt_10inst.jsonl",
        {s: s for s in ("DHT-USDT", "FUN-BTC", "OKT-BTC", "ONT-USDT", "AUCTION-USDT", "PAY-BTC")},
        31,
    ),
    "okx-swap-21": Played(
        "okx_derivatives",
        "okx/capture_2021-07-22_books-l2-tbt_10inst.jsonl",
        {"XMR-USDT-SWAP": "XMR-USDT"},
        31,
    ),
    "okx-spot-22": Played(
        "okx_spot",
        "okx/capture_2022-05-13_books_trades_tickers_BTC-USDT_UNI-USD-SWAP_BTC-USD-220527.jsonl",
        {"BTC-USDT": "BTC-USDT"},
        12,
    ),
    "okx-swap-22": Played(
        "okx_derivatives",
        "okx/capture_2022-05-13_books_trades_tickers_BTC-USDT_UNI-USD-SWAP_BTC-USD-220527.jsonl",
        {"UNI-USD-SWAP": "UNI-USD"},
        12,
    ),
}


class Saboteur:
    """Does one fault after another, each at a place of the recording drawn beforehand."""

    def __init__(self, exchange: Exchange, venue: str, chance: random.Random) -> None:
        self._faults = exchange.faults
        self._source = exchange.source
        self._chance = chance
        self._kinds = ["cut", "cut", "close", "skip", "skip trade", "duplicate", "garbage", "stale"]
        self._kinds += ["late", "fail"]
        self._kinds += ["bad_checksum", "withhold"] if venue.startswith("okx") else []
        self.done: list[tuple[int, str]] = []

    async def work(self) -> None:
        """Until all is done: a fault that is due when the recording ends is done there."""
        lines = self._source.position()["lines"]
        assert isinstance(lines, int)
        # The first tenth is left to the start: before a book is known nothing of it can be lost.
        # The last is for what waits for its occasion.
        for place in sorted(self._chance.sample(range(lines // 10, lines * 9 // 10), FAULTS)):
            while self._line() < place:  # noqa: ASYNC110 (the player tells no event)
                await trio.sleep(0.002)
            kind = self._chance.choice(self._kinds)
            self._do(kind)
            self.done.append((place, kind))

    def _line(self) -> int:
        line = self._source.position()["line"]
        assert isinstance(line, int)
        return line

    def _do(self, kind: str) -> None:
        faults, chance = self._faults, self._chance
        match kind:
            case "cut":
                faults.cut()
            case "close":
                faults.cut(code=chance.choice([1001, 1006, 1009, 1011]))
            case "skip":
                faults.skip(chance.randint(1, 5), kind="orderbook")
            case "skip trade":
                faults.skip(chance.randint(1, 3), kind="trade")
            case "duplicate":
                faults.duplicate(chance.randint(1, 5))
            case "garbage":
                faults.garbage(chance.choice(["malformed", "truncated", "binary"]))
            case "stale":
                faults.stale()
                faults.cut()
            case "late":
                faults.late(chance.uniform(0.1, 0.6))
                faults.skip(1, kind="orderbook")
            case "fail":
                faults.fail(chance.choice([500, 503]))
                faults.cut()
            case "bad_checksum":
                faults.bad_checksum()
            case "withhold":
                faults.withhold()
                faults.cut()


def updates_of(path: Path, native: str) -> list[int]:
    """The last id of every book update of one instrument in a recording, in order."""
    numbers = []
    for line in map(json.loads, path.read_text().splitlines()):
        message = json.loads(line["raw"]) if line["kind"] == "recv" else {}
        data = message.get("data", {})
        if isinstance(data, dict) and data.get("e") == "depthUpdate" and data["s"] == native:
            numbers.append(data["u"])
    return numbers


def unexplained(
    published: Iterable[dict[str, Any]], ids: Iterable[int], key: str
) -> tuple[int, int, list[int]]:
    """How many of `ids` were published, how many lie in a gap, and those that neither is true of.

    `published` are one stream's records and gaps, in the stream's order. An id lies in a gap when a
    gap stands between its neighbours that were published, and its bounds, where it has any,
    enclose it.
    """
    place: dict[int, int] = {}
    gaps: list[tuple[int, dict[str, Any]]] = []
    for number, fields in enumerate(published):
        if fields["data_type"] == "gap":
            gaps.append((number, fields))
        else:
            place.setdefault(int(fields[key]), number)
    known = sorted(place)
    covered, missing = 0, []
    for each in ids:
        if each in place:
            continue
        before = max((place[k] for k in known if k < each), default=-1)
        after = min((place[k] for k in known if k > each), default=10**9)
        if any(
            before < number < after
            and (
                gap["first_missing_id"] is None
                or gap["first_missing_id"] <= each <= gap["last_missing_id"]
            )
            for number, gap in ((n, _numbered(g)) for n, g in gaps)
        ):
            covered += 1
        else:
            missing.append(each)
    return len(place.keys() & set(ids)), covered, missing


def _numbered(gap: dict[str, Any]) -> dict[str, Any]:
    first, last = gap["first_missing_id"], gap["last_missing_id"]
    return {
        "first_missing_id": None if first is None else int(first),
        "last_missing_id": None if last is None else int(last),
    }


async def played(rig: Rig) -> list[dict[str, Any]]:
    """All that is in the stream when the recording has ended and everything has healed."""
    await rig.exchange.finished.wait()
    await rig.settled()
    # What was left out of a stream that then fell silent, only another look can show.
    rig.exchange.faults.cut()
    await rig.until(lambda: not rig.exchange.connections)
    await rig.drained()
    await rig.settled()
    await rig.stop()
    return [json.loads(payload) for payload in await rig.server.stored()]


@pytest.mark.parametrize("name", list(RECORDINGS)[:: form(2, 1)])
async def test_a_sabotaged_recording_ends_in_true_books_and_tells_what_is_missing(
    name: str, captures: Path, server: Server
) -> None:
    """Final books are the exchange's; published and gap-covered together are all there was."""
    recording = RECORDINGS[name]
    path = captures / recording.file
    expected = json.loads((captures / "expected_final_books.json").read_text())[recording.file]
    exchange = player(
        path, venue=recording.venue, speed=recording.seconds / PLAYED_IN, start_delay=3
    )
    saboteur = Saboteur(exchange, recording.venue, random.Random(name))
    async with running(
        exchange,
        server,
        tuple(recording.symbols.values()),
        venue=recording.venue,
        depth=1000,  # more would cost the whole budget of REST: each cut fetches every book again
        data_types=(DataType.ORDERBOOK, DataType.TRADE),
    ) as rig:
        rig.nursery.start_soon(saboteur.work)
        stream = await played(rig)
    assert len(saboteur.done) == FAULTS
    consumer = Consumer()
    for fields in stream:
        consumer.take(json.dumps(fields).encode())
    assert consumer.faults == [], saboteur.done
    for native, symbol in recording.symbols.items():
        await _compare(exchange, consumer, native, symbol, expected["final_books"][native])
        own = [fields for fields in stream if fields["symbol"] == symbol]
        trades = [f for f in own if "trade" in (f["data_type"], f.get("affected"))]
        ids = trades_of(path, native)
        told, covered, missing = unexplained(trades, ids, "trade_id")
        assert missing == [], (symbol, saboteur.done)
        assert told + covered == len(ids)
        books = [f for f in own if "orderbook" in (f["data_type"], f.get("affected"))]
        first = next(f["last_update_id"] for f in books if f["data_type"] == "orderbook")
        numbers = [number for number in updates_of(path, native) if number > first]
        told, covered, missing = unexplained(books, numbers, "last_update_id")
        assert missing == [], (symbol, saboteur.done)
        assert told + covered == len(numbers)


async def _compare(
    exchange: Exchange, consumer: Consumer, native: str, symbol: str, truth: dict[str, Any]
) -> None:
    """The consumer's book against the recording's final one, level by level."""
    whole = await exchange.source.snapshot(native, 100_000)
    assert whole is not None
    book = consumer.books[symbol]
    assert book.last_id == whole.last_id == truth.get("applied_through_u", whole.last_id)
    for ours, theirs in ((book.bids, whole.bids), (book.asks, whole.asks)):
        # A snapshot on the way may have been cut at its limit; near the market all is there.
        best = [price for price, *_ in theirs[:400]]
        assert set(best) <= set(ours)
        assert {Decimal(price) for price in ours} <= {Decimal(price) for price, *_ in theirs}
