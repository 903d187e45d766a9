"""Rows that keep a place in a list of markets."""

import json

import pytest

from marketprism.simulator.placeholders import with_placeholders


@pytest.mark.parametrize(
    ("path", "answer", "waits"),
    [
        (
            "/api/v3/exchangeInfo",
            {"symbols": [{"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC"}]},
            {"symbol": "LISTING-BTCUSDT", "status": "PRE_TRADING", "baseAsset": "BTC"},
        ),
        (
            "/fapi/v1/exchangeInfo",
            {"symbols": [{"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC"}]},
            {"symbol": "LISTING-BTCUSDT", "status": "PENDING_TRADING", "baseAsset": "BTC"},
        ),
        (
            "/api/v5/public/instruments",
            {"data": [{"instId": "BTC-USDT", "state": "live", "baseCcy": "BTC"}]},
            {"instId": "LISTING-BTC-USDT", "state": "preopen", "baseCcy": "BTC"},
        ),
    ],
)
def test_each_market_has_one_before_it(
    path: str, answer: dict[str, list[dict[str, str]]], waits: dict[str, str]
) -> None:
    """Of the same base and quote, which does not trade; the market itself is as it was."""
    said = json.loads(with_placeholders(path, json.dumps(answer)))
    ((name, rows),) = answer.items()
    assert said == {name: [waits, *rows]}


def test_what_is_no_list_of_markets_stays_as_it_is() -> None:
    """To the byte."""
    assert with_placeholders("/api/v3/depth", '{"bids": []}') == '{"bids": []}'
