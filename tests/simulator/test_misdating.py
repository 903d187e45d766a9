"""What an exchange says with a time to come."""

import json
from typing import Any

import pytest

from marketprism.simulator.misdating import misdated

AT = 1_700_000_000_123


@pytest.mark.parametrize(
    ("said", "becomes"),
    [
        (
            {"e": "depthUpdate", "E": AT, "U": 5, "u": 7, "b": [["1", "2"]], "a": [["2", "3"]]},
            {"E": AT + 60_000, "U": 15, "u": 17},
        ),
        (
            {"e": "markPriceUpdate", "E": AT, "r": "0.1", "T": AT},
            {"E": AT + 60_000},
        ),
        (
            {"e": "forceOrder", "E": AT, "o": {"T": AT, "q": "1"}},
            {"E": AT + 60_000, "o": {"T": AT + 60_000, "q": "1"}},
        ),
        (
            {"data": [{"ts": str(AT), "seqId": 5, "prevSeqId": 4, "asks": [["1", "2", "0", "1"]]}]},
            {
                "data": [
                    {
                        "ts": str(AT + 60_000),
                        "seqId": 15,
                        "prevSeqId": 14,
                        "asks": [["1", "2", "0", "1"]],
                    }
                ]
            },
        ),
        (
            {"data": [{"tradeId": "9", "ts": str(AT), "px": "1700000000123"}]},
            {"data": [{"tradeId": "19", "ts": str(AT + 60_000), "px": "1700000000123"}]},
        ),
        ({"code": "0", "data": [[str(AT), "1.5"]]}, {"data": [[str(AT + 60_000), "1.5"]]}),
        (
            {"params": {"data": {"timestamp": AT, "volatility": 47.55}}},
            {"params": {"data": {"timestamp": AT + 60_000, "volatility": 47.55}}},
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_its_stamps_and_numbers_are_moved_and_nothing_else(
    said: dict[str, Any], becomes: dict[str, Any]
) -> None:
    """In each exchange's own words."""
    assert json.loads(misdated(json.dumps(said), 60, jump=10)) == said | becomes
