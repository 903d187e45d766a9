"""Rows that have grown at their end, on every exchange: the first columns are what they were."""

import json

import deribit_line
import usdm
from okx_line import OkxChain, OkxLine
from usdm import FuturesChain

from marketprism.feeds.actions import Output, Reject
from marketprism.records import OrderBookRecord

MORE = ["7", None, {"a": [1]}]
"""What may follow."""


def grown(text: bytes, *sides: str) -> bytes:
    """A message whose levels have more columns, also where they stand in its `data`."""
    fields = json.loads(text)
    for each in [fields, *fields.get("data", [])]:
        for side in sides:
            if side in each:
                each[side] = [[*level, *MORE] for level in each[side]]
    return json.dumps(fields).encode()


def rejects(*outputs: Output) -> list[Reject]:
    """What could not be used."""
    return [step for turn in outputs for step in turn.actions if isinstance(step, Reject)]


def test_a_binance_book_goes_on_when_its_levels_grow() -> None:
    """Updates and snapshots; the consumer's book is the exchange's."""
    chain = FuturesChain.made(3, 8)
    line = usdm.Line("public")
    line.hear(grown(chain.frame(0), "b", "a"))
    line.answer(grown(chain.snapshot(0), "bids", "asks"))
    line.hear(*(grown(chain.frame(n), "b", "a") for n in range(1, 8)))
    assert rejects(*line.outputs) == []
    assert line.live
    book, truth = line.consumer.books["BTC-USDT"], chain.truths[-1]
    assert line.consumer.faults == []
    assert (book.last_id, book.bids, book.asks) == (truth.last_id, truth.bids, truth.asks)


def test_an_okx_book_goes_on_when_its_levels_grow() -> None:
    """By whatever: text or none, on the wire and over REST."""
    chain = OkxChain.made(3, 8)
    line = OkxLine(snapshots=lambda _: grown(chain.snapshot(0), "bids", "asks"))
    line.hear(*(grown(chain.frame(n), "bids", "asks") for n in range(8)))
    other = OkxLine()
    other.wait(6)
    other.answer(grown(chain.body(0), "bids", "asks"))
    other.hear(*(grown(chain.frame(n), "bids", "asks") for n in range(8)))
    for each in (line, other):
        assert rejects(*each.outputs) == []
        book, truth = each.consumer.books["BTC-USDT"], chain.truths[-1]
        assert each.consumer.faults == []
        assert (book.last_id, book.bids, book.asks) == (truth.last_id, truth.bids, truth.asks)


def test_a_hole_of_an_index_is_filled_when_candles_grow() -> None:
    """The close stays the fifth."""
    line = deribit_line.Line()
    line.hear(deribit_line.told(1))
    line.reconnected(20.5)
    page = json.loads(deribit_line.candles(1, 20))
    page["result"]["data"] = [[*row, *MORE] for row in page["result"]["data"]]
    turn = line.answer(json.dumps(page).encode())
    assert rejects(turn) == []
    assert deribit_line.seconds(turn.records) == [*range(2, 21), 20.5]


def test_a_row_that_lacks_what_is_needed_is_no_longer_row() -> None:
    """It is rejected as ever. A number that is not text says what it says."""
    chain = FuturesChain.made(3, 8)
    line = usdm.Line("public")
    line.synchronise(chain)
    for levels in ([["1"]], [["1", None, "3"]], [["1", "2", "3"], []], "x"):
        update = json.loads(chain.frame(0)) | {"b": levels}
        (reject,) = rejects(line.hear(json.dumps(update).encode()))
        assert reject.reason == "unfit event"
        assert "`b`" in reject.detail


def test_the_record_is_that_of_the_shorter_rows() -> None:
    """Nothing of the new columns is published."""
    chain = FuturesChain.made(3, 8)
    records = []
    for sides in ((), ("b", "a")):
        line = usdm.Line("public")
        line.synchronise(chain)
        records.append(line.hear(grown(chain.frame(0), *sides)).records)
    assert records[0] == records[1]
    assert isinstance(records[0][0], OrderBookRecord)
