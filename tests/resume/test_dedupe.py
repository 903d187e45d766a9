"""Exactly once beyond the duplicate window, against a real server."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
import trio
from forms import form
from nats.aio.msg import Msg
from patience import PATIENCE
from relay import Relay, relaying
from trio.testing import MockClock

from marketprism.board.board import Board
from marketprism.errors import SinkLost
from marketprism.instruments import Instrument
from marketprism.outbox.outbox import Numbered
from marketprism.resume.dedupe import dedupe
from marketprism.resume.last_message import Last
from marketprism.settings.nats import NatsConfig, StreamConfig
from marketprism.sinks import Outbox, publishing
from marketprism.sinks.nats import NatsSink
from marketprism.sinks.publishing import Publishing, Send
from marketprism.wire import Message

pytestmark = pytest.mark.once

OUTAGE, REMEMBERED = form(3.0, 40.0), form(1.0, 10.0)
"""Seconds without a server, and those for which the server remembers ids."""
SYMBOLS = 5


def message(number: int) -> Message:
    """A trade; its symbol, and its id there, follow from its number."""
    symbol, trade_id = f"S{number % SYMBOLS}-USDT", number // SYMBOLS
    instrument = Instrument("binance", "spot", symbol, symbol)
    subject = f"trade-data.binance.spot.{symbol}"
    identity = f"trade:binance:spot:{symbol}:raw:{trade_id}"
    return Message(subject, identity, b"%d" % number, instrument, "trade")


def numbers(messages: Iterable[Msg]) -> list[int]:
    """What the payloads say."""
    return [int(each.data) for each in messages]


async def flow(outbox: Outbox, begun: int, end: trio.Event) -> None:
    """A thousand messages a second, until the end is set; then the outbox is closed."""
    number = begun
    while not end.is_set():
        outbox.append([message(n) for n in range(number, number + 10)])
        number += 10
        await trio.sleep(0.01)
    outbox.close()


async def outage(server: Any, delivery: Any, relay: Relay, until: Any) -> list[int]:
    """Stored but never acknowledged; away for longer than ids are remembered; back. What is in
    the stream then.
    """
    window = StreamConfig(duplicate_window=REMEMBERED)
    delivery.config = NatsConfig(stream=window, ack_timeout=OUTAGE / 6, window=1000)
    row, over = delivery.board.sink, trio.Event()
    with trio.fail_after(OUTAGE + 30):
        async with trio.open_nursery() as nursery:
            sink = NatsSink(delivery.config, [relay.url], delivery.board)
            nursery.start_soon(delivery.keep_running, sink)
            nursery.start_soon(flow, delivery.outbox, 0, over)
            await until(lambda: row.acknowledged > 300)
            relay.swallowing = True
            await until(lambda: delivery.failures, OUTAGE)
            relay.cut()
            await trio.sleep(OUTAGE)
            relay.swallowing = relay.away = False
            connects = row.connects
            await until(lambda: row.connects > connects)
            await until(lambda: row.in_flight < 100)
            over.set()
    return numbers(await server.messages())


async def test_an_outage_longer_than_ids_are_remembered_stores_each_once(
    server: Any, delivery: Any, until: Any
) -> None:
    """Missing 0, duplicated 0, out of order 0; all is acknowledged, and counted once."""
    async with relaying(server.port) as relay:
        stored = await outage(server, delivery, relay, until)
    assert stored == list(range(len(stored)))
    assert len(stored) > 1000 * OUTAGE / 2
    row = delivery.board.sink
    assert row.acknowledged == len(stored)
    assert delivery.board.published == {("binance", "spot", "trade"): len(stored)}
    assert delivery.board.outbox.held == delivery.board.outbox.held_bytes == 0


async def test_without_asking_the_stream_they_would_be_stored_twice(
    server: Any, delivery: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outage is one that the server's memory of ids does not cover."""

    async def believe(outbox: Outbox, last: Last, board: Board, out_of_order: set[str]) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(publishing, "dedupe", believe)
    async with relaying(server.port) as relay:
        stored = await outage(server, delivery, relay, until)
    assert len(stored) > len(set(stored)) == max(stored) + 1


async def asked(config: NatsConfig, server: Any, outbox: Outbox) -> Board:
    """One attempt that ends by itself."""
    board = Board()
    with trio.fail_after(PATIENCE):
        await NatsSink(config, [server.url], board).run(outbox)
    return board


async def test_a_last_message_that_is_not_ours_proves_nothing(server: Any, delivery: Any) -> None:
    """All is sent again, and what the server remembers is what is left."""
    outbox = delivery.outbox
    outbox.append([message(0), message(5), message(10)])
    outbox.close()
    await asked(delivery.config, server, delivery.outbox)
    again = Outbox(100, 1 << 20, delivery.board.outbox)
    again.append([message(0), message(5)])
    again.take(2)
    again.close()
    board = await asked(delivery.config, server, again)
    assert board.sink.duplicates == board.sink.acknowledged == 2
    assert numbers(await server.messages()) == [0, 5, 10]


async def test_what_was_purged_is_stored_again(server: Any, delivery: Any) -> None:
    """Without a last message nothing is known to be stored."""
    config = NatsConfig(stream=StreamConfig(duplicate_window=0.1))
    delivery.outbox.append([message(0)])
    delivery.outbox.close()
    await asked(config, server, delivery.outbox)
    await server.manage("STREAM.PURGE.MARKET_DATA", {})
    await trio.sleep(0.3)
    again = Outbox(100, 1 << 20, delivery.board.outbox)
    again.append([message(0)])
    again.take(1)
    again.close()
    await asked(config, server, again)
    assert numbers(await server.messages()) == [0]


@pytest.mark.parametrize(
    "answers",
    [
        [(2, b'{"stream": "MARKET_DATA", "seq": 0, "error": {"err_code": 10077}}')],
        [(4, b'{"stream":"MARKET_DATA","seq":1}')],
    ],
    ids=["refused", "left out"],
)
async def test_order_is_broken_where_a_message_was_refused_or_passed_over(
    answers: list[tuple[int, bytes]], autojump_clock: MockClock
) -> None:
    """Its subject's last message proves nothing, until all is acknowledged again."""
    outbox, board = Outbox(100, 1 << 20, Board().outbox), Board()
    outbox.append([message(n) for n in range(3)])
    outbox.close()

    async def last(subjects: Sequence[str]) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        return {}

    def connection(answers: list[tuple[int, bytes]]) -> tuple[Publishing, Send]:
        one = Publishing(NatsConfig(), board, "nats://test", out_of_order=broken)

        async def send(_batch: Sequence[Numbered]) -> None:
            await trio.lowlevel.checkpoint()
            for number, words in answers:
                one.answer(number, words)

        return one, send

    broken: set[str] = set()
    one, send = connection(answers)
    with pytest.raises(SinkLost):
        await one.run(outbox, send, 1 << 20, last)
    assert broken == {message(0).subject}
    stored = b'{"stream":"MARKET_DATA","seq":1}'
    one, send = connection([(number, stored) for number in (2, 4, 6)])
    await one.run(outbox, send, 1 << 20, last)
    assert broken == set()


async def test_a_message_that_was_refused_is_not_taken_for_stored() -> None:
    """Where the order was broken, a later message proves nothing of the one before."""
    outbox = Outbox(100, 1 << 20, Board().outbox)
    outbox.append([message(0), message(1)])
    outbox.take(2)
    outbox.rewind()
    questions: list[str] = []

    async def last(subjects: Any) -> dict[str, Any]:
        questions.extend(subjects)
        await trio.lowlevel.checkpoint()
        return {}

    await dedupe(outbox, last, Board(), {message(0).subject})
    assert questions == [message(1).subject]
    assert outbox.in_doubt() == [message(0).subject]


async def test_a_thousand_subjects_are_asked_for_in_a_moment(server: Any, delivery: Any) -> None:
    """Each once, some hundred at a time."""
    trades = [
        Message(
            f"trade-data.binance.spot.S{n}", f"id {n}", b"%d" % n, message(0).instrument, "trade"
        )
        for n in range(1000)
    ]
    delivery.outbox.append(trades)
    delivery.outbox.close()
    await asked(delivery.config, server, delivery.outbox)
    again = Outbox(5000, 1 << 20, delivery.board.outbox)
    again.append(trades)
    again.take(1000)
    again.close()
    started = trio.current_time()
    board = await asked(delivery.config, server, again)
    assert trio.current_time() - started < 10
    assert (board.sink.acknowledged, board.sink.duplicates) == (1000, 0)
