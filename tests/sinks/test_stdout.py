"""The sink for people and pipes."""

import os
from typing import Any

import trio
from patience import PATIENCE

from marketprism.sinks.stdout import StdoutSink


async def test_each_message_is_a_line_and_acknowledged(delivery: Any, make_message: Any) -> None:
    """Its payload, JSON as it is, in order; and the outbox is drained."""
    reading, writing = os.pipe()
    delivery.outbox.append([make_message(n, size=3) for n in range(3)])
    delivery.outbox.close()
    await StdoutSink(delivery.board, writing).run(delivery.outbox)
    os.close(writing)
    with os.fdopen(reading, "rb") as written:
        lines = written.read().splitlines()
    assert lines == [b"%d xxx" % n for n in range(3)]
    assert delivery.outbox.drained
    assert delivery.board.sink.acknowledged == 3
    assert delivery.board.published == {("binance", "spot", "trade"): 3}


async def test_a_slow_reader_holds_up_nothing_but_the_outbox(
    delivery: Any, make_message: Any
) -> None:
    """A full pipe blocks a thread; the loop goes on, and a cancel ends it."""
    reading, writing = os.pipe()
    delivery.outbox.append([make_message(n, size=10_000) for n in range(100)])
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(StdoutSink(delivery.board, writing).run, delivery.outbox)
            await trio.sleep(0.1)
            assert delivery.board.sink.acknowledged == 0
            nursery.cancel_scope.cancel()
    os.close(reading)
    os.close(writing)


async def test_a_reader_that_has_gone_ends_the_run_as_asked(
    delivery: Any, make_message: Any, until: Any
) -> None:
    """It is told once; what is left is thrown away, and the attempt ends with the outbox."""
    reading, writing = os.pipe()
    os.close(reading)
    told: list[bool] = []
    sink = StdoutSink(delivery.board, writing, lambda: told.append(True))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.run, delivery.outbox)
            for n in range(3):
                delivery.outbox.append([make_message(n)])
                await until(lambda: delivery.board.outbox.held == 0)
            delivery.outbox.close()
    os.close(writing)
    assert told == [True]
    assert delivery.board.sink.acknowledged == 0
