"""OKX's REST over real sockets."""

from decimal import Decimal
from pathlib import Path

import pytest

from marketprism.simulator import Exchange, market, player
from marketprism.simulator.okx_instruments import row

from .conftest import Serving, get

RUBIK = "/api/v5/rubik/stat/contracts"
TOP = f"{RUBIK}/long-short-position-ratio-contract-top-trader"
ALL = f"{RUBIK}/long-short-account-ratio-contract"


def frozen(venue: str) -> Exchange:
    """A market whose clock stands still."""
    exchange = market(venue, seed=4)
    exchange.clock_ms = lambda: 1_700_000_123_456
    return exchange


async def test_instruments_say_what_a_contract_is(serving: Serving) -> None:
    """Linear ones in the base, the inverse one in dollars; a swap's base is in its family."""
    base = (await serving(market("okx_derivatives"))).base_url
    body = (await get(base, "/api/v5/public/instruments?instType=SWAP")).json()
    assert body["code"] == "0"
    assert {
        row["instId"]: (row["ctVal"], row["ctMult"], row["ctValCcy"], row["ctType"])
        for row in body["data"]
    } == {
        "BTC-USDT-SWAP": ("0.01", "1", "BTC", "linear"),
        "ETH-USDT-SWAP": ("0.1", "1", "ETH", "linear"),
        "BTC-USD-SWAP": ("100", "1", "USD", "inverse"),
    }
    assert {(row["baseCcy"], row["state"], row["instType"]) for row in body["data"]} == {
        ("", "live", "SWAP")
    }
    assert {row["instFamily"] for row in body["data"]} == {"BTC-USDT", "ETH-USDT", "BTC-USD"}
    spot = (await get(base, "/api/v5/public/instruments?instType=SPOT")).json()
    assert spot == {"code": "0", "data": [], "msg": ""}


async def test_spot_instruments_have_a_base_and_a_quote(serving: Serving) -> None:
    """And no contract."""
    base = (await serving(market("okx_spot"))).base_url
    rows = (await get(base, "/api/v5/public/instruments?instType=SPOT")).json()["data"]
    assert [(row["instId"], row["baseCcy"], row["quoteCcy"], row["ctVal"]) for row in rows] == [
        ("BTC-USDT", "BTC", "USDT", ""), ("ETH-USDT", "ETH", "USDT", ""),
    ]  # fmt: skip


async def test_recorded_instruments_win_over_made_up_ones(captures: Path, serving: Serving) -> None:
    """Rows of the recording, with the family that it did not have yet; the others are made up."""
    capture = next((captures / "okx").glob("capture_2022-05-13*"))
    exchange = player(
        capture,
        venue="okx_derivatives",
        instruments=captures / "okx/instruments_2022-02-27.jsonl",
    )
    base = (await serving(exchange)).base_url
    (swap,) = (await get(base, "/api/v5/public/instruments?instType=SWAP")).json()["data"]
    assert (swap["instId"], swap["ctVal"], swap["listTime"]) == (
        "UNI-USD-SWAP", "10", "1611916828000",
    )  # fmt: skip
    assert (swap["instFamily"], swap["tickSz"]) == ("UNI-USD", "0.001")
    (future,) = (await get(base, "/api/v5/public/instruments?instType=FUTURES")).json()["data"]
    assert (future["instId"], future["ctVal"], future["ctValCcy"]) == (
        "BTC-USD-220527", "100", "USD",
    )  # fmt: skip


async def test_a_book_is_cut_to_its_size(serving: Serving) -> None:
    """Best levels first, as many as asked for, with the id of the book."""
    base = (await serving(market("okx_derivatives"))).base_url
    (book,) = (await get(base, "/api/v5/market/books?instId=BTC-USD-SWAP&sz=20")).json()["data"]
    assert set(book) == {"asks", "bids", "ts", "seqId"}
    assert len(book["bids"]) == len(book["asks"]) == 20
    assert Decimal(book["bids"][0][0]) < Decimal(book["asks"][0][0])
    assert all(Decimal(row[1]) % 1 == 0 and row[2:] == ["0", "1"] for row in book["bids"])
    (one,) = (await get(base, "/api/v5/market/books?instId=BTC-USD-SWAP")).json()["data"]
    assert len(one["bids"]) == 1


@pytest.mark.parametrize("path", [TOP, ALL])
async def test_ratios_come_newest_first(serving: Serving, path: str) -> None:
    """Rows of five minutes of the exchange's clock: time, and long over short."""
    base = (await serving(frozen("okx_derivatives"))).base_url
    body = (await get(base, f"{path}?instId=BTC-USDT-SWAP&period=5m&limit=3")).json()
    assert [row[0] for row in body["data"]] == [
        "1700000100000", "1699999800000", "1699999500000",
    ]  # fmt: skip
    assert all(Decimal("0.5") < Decimal(row[1]) < 2 for row in body["data"])
    again = (await get(base, f"{path}?instId=BTC-USDT-SWAP&limit=1")).json()
    assert again["data"] == body["data"][:1]


async def test_the_two_ratios_differ(serving: Serving) -> None:
    """They are statistics of their own."""
    base = (await serving(frozen("okx_derivatives"))).base_url
    answers = [(await get(base, f"{path}?instId=BTC-USDT-SWAP")).json() for path in (TOP, ALL)]
    assert answers[0] != answers[1]
    assert len(answers[0]["data"]) == 100


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/v5/market/books?instId=NO-SUCH", 200, "51001"),
        ("/api/v5/market/books", 400, "50014"),
        ("/api/v5/market/books?instId=BTC-USDT-SWAP&sz=401", 400, "51000"),
        ("/api/v5/public/instruments", 400, "51000"),
        (f"{TOP}?instId=NO-SUCH&period=5m", 200, "51001"),
        (f"{TOP}?instId=BTC-USDT-SWAP&period=7m", 400, "51000"),
        ("/api/v5/nothing", 404, "404"),
    ],
)
async def test_a_wrong_request_is_refused(
    serving: Serving, path: str, status: int, code: str
) -> None:
    """Errors have OKX' code, and no data."""
    answer = await get((await serving(market("okx_derivatives"))).base_url, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["data"] == []


async def test_too_many_requests_are_refused_by_path(serving: Serving) -> None:
    """Five ratios of a kind in two seconds; books have an allowance of their own."""
    base = (await serving(frozen("okx_derivatives"))).base_url
    statuses = [
        (await get(base, f"{TOP}?instId=BTC-USDT-SWAP&limit=1")).status_code for _ in range(6)
    ]
    assert statuses == [200] * 5 + [429]
    refused = await get(base, f"{TOP}?instId=BTC-USDT-SWAP&limit=1")
    assert refused.json()["code"] == "50011"
    book = await get(base, "/api/v5/market/books?instId=BTC-USDT-SWAP")
    assert book.status_code == 200


async def test_late_and_stale_books(serving: Serving) -> None:
    """The faults of depth are those of any exchange."""
    exchange = market("okx_spot", quotes_per_second=200)
    base = (await serving(exchange)).base_url
    path = "/api/v5/market/books?instId=BTC-USDT&sz=5"
    first = (await get(base, path)).json()["data"][0]["seqId"]
    exchange.faults.stale(symbol="BTC-USDT")
    assert (await get(base, path)).json()["data"][0]["seqId"] <= first
    exchange.faults.fail(503, path="/api/v5/market/books")
    failed = await get(base, path)
    assert (failed.status_code, failed.json()["code"]) == (503, "50001")


@pytest.mark.parametrize(
    ("instrument", "expected"),
    [
        ("LTC-OKB", ("SPOT", "", "", "LTC", "OKB")),
        ("TRX-USDT-210924", ("FUTURES", "1000", "TRX", "", "")),
        ("NEW-USD-SWAP", ("SWAP", "10", "USD", "", "")),
        ("BTC-USD-210924-66000-C", ("OPTION", "1", "BTC", "", "")),
    ],
)
def test_any_instrument_of_a_recording_can_be_described(
    instrument: str, expected: tuple[str, ...]
) -> None:
    """From its id alone: type, contract, base and quote."""
    found = row(instrument)
    names = ("instType", "ctVal", "ctValCcy", "baseCcy", "quoteCcy")
    assert tuple(found[name] for name in names) == expected
