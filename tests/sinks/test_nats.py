"""The NATS sink against real servers."""

import itertools
import json
import signal
import time
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio
from patience import PATIENCE
from structlog.testing import capture_logs

from marketprism.board.rows import SinkRow
from marketprism.errors import Refused, SinkLost, SinkRefused, SinkState
from marketprism.instruments import Instrument
from marketprism.records import OrderBookRecord
from marketprism.settings.nats import NatsConfig, StreamConfig
from marketprism.sinks import stream_age
from marketprism.sinks.nats import NatsSink
from marketprism.wire import SUBJECTS, Message, encode

INSTRUMENT = Instrument("binance", "spot", "BTC-USDT", "BTCUSDT")


def numbers(payloads: list[bytes]) -> list[int]:
    """What the payloads begin with."""
    return [int(payload.split()[0]) for payload in payloads]


async def run_once(delivery: Any, *servers: str) -> None:
    """One attempt that has to end by itself."""
    with trio.fail_after(PATIENCE):
        await NatsSink(delivery.config, servers, delivery.board).run(delivery.outbox)


async def test_messages_are_stored_in_order_and_acknowledged(
    server: Any, delivery: Any, make_message: Callable[..., Message]
) -> None:
    """Everything is in the stream once; the board says so."""
    delivery.outbox.append([make_message(n, data_type="gap") for n in range(1000)])
    delivery.outbox.close()
    await run_once(delivery, server.url)
    assert numbers(await server.stored()) == list(range(1000))
    row = delivery.board.sink
    assert (row.acknowledged, row.in_flight, row.connects, row.target) == (1000, 0, 1, server.url)
    assert delivery.board.published == {("binance", "spot", "gap"): 1000}
    assert delivery.board.acknowledgement.count == 1000
    assert delivery.outbox.drained
    assert not row.connected
    assert row.reason is None


async def test_an_attempt_goes_on_until_the_outbox_is_closed(
    server: Any, delivery: Any, make_message: Callable[..., Message]
) -> None:
    """What is appended later is delivered too; a small window only slows it down."""
    delivery.config = NatsConfig(window=3, batch=2)
    sink = NatsSink(delivery.config, [server.url], delivery.board)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sink.run, delivery.outbox)
        for n in range(20):
            delivery.outbox.append([make_message(n)])
            await trio.sleep(0.01)
        with trio.fail_after(PATIENCE):
            while delivery.board.sink.acknowledged < 20:
                assert delivery.board.sink.in_flight <= 3
                await trio.sleep(0.01)
        assert delivery.board.sink.connected
        delivery.outbox.close()
    assert numbers(await server.stored()) == list(range(20))


async def test_a_server_that_comes_later_gets_everything(
    absent_server: Any, delivery: Any, make_message: Callable[..., Message], until: Any
) -> None:
    """Absence is a state with words, not a failure to start."""
    sink = NatsSink(delivery.config, [absent_server.url], delivery.board)
    delivery.outbox.append([make_message(n) for n in range(100)])
    with trio.fail_after(PATIENCE), capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(delivery.keep_running, sink)
            await until(lambda: len(delivery.failures) >= 2)
            assert delivery.board.sink.reason == f"{absent_server.url} refused the connection"
            await trio.to_thread.run_sync(absent_server.start)
            delivery.outbox.close()
    assert numbers(await absent_server.stored()) == list(range(100))
    (connected,) = (line for line in logs if line["event"] == "sink.connected")
    assert connected["after"] > 0, "it is told how long it was away"


async def test_the_age_of_the_oldest_message_is_known_once_there_is_one(
    server: Any,
    delivery: Any,
    make_message: Callable[..., Message],
    until: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Asked now and then; where the stream is emptied it is not known any more."""
    monkeypatch.setattr(stream_age, "SOON", 0.1)
    monkeypatch.setattr(stream_age, "EVERY", 0.05)
    sink, row = NatsSink(delivery.config, [server.url], delivery.board), delivery.board.sink
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sink.run, delivery.outbox)
        await until(lambda: row.connected and row.oldest_message is None)
        before = time.time_ns()
        delivery.outbox.append([make_message(n) for n in range(3)])
        await until(lambda: row.oldest_message is not None)
        oldest = row.oldest_message
        assert oldest is not None
        assert before - 10**9 < oldest < time.time_ns() + 10**9
        await server.manage("STREAM.PURGE.MARKET_DATA", {})
        await until(lambda: row.oldest_message is None)
        delivery.outbox.close()


async def test_the_next_server_is_tried_in_turn(
    server: Any, delivery: Any, make_message: Callable[..., Message], unused_port: Any
) -> None:
    """One dead server of several costs a moment, not an attempt."""
    delivery.outbox.append([make_message(0)])
    delivery.outbox.close()
    await run_once(delivery, f"nats://127.0.0.1:{unused_port()}", server.url)
    assert delivery.board.sink.target == server.url


async def test_a_name_that_resolves_to_two_addresses_is_tried_at_both(
    server: Any, delivery: Any, make_message: Callable[..., Message]
) -> None:
    """`localhost` may come as ::1 first, where nobody listens."""
    delivery.outbox.append([make_message(0)])
    delivery.outbox.close()
    await run_once(delivery, f"nats://localhost:{server.port}")
    assert delivery.board.sink.acknowledged == 1


async def test_messages_sent_again_are_stored_once(
    server: Any, delivery: Any, make_message: Callable[..., Message]
) -> None:
    """The message id decides; duplicates are acknowledged, and counted."""
    delivery.outbox.append([make_message(n) for n in (1, 2, 1, 3, 2)])
    delivery.outbox.close()
    await run_once(delivery, server.url)
    assert numbers(await server.stored()) == [1, 2, 3]
    assert delivery.board.sink.duplicates == 2
    assert delivery.board.sink.acknowledged == 5


async def test_a_new_stream_is_made_as_configured(server: Any, delivery: Any) -> None:
    """Limits, storage, window and all subjects."""
    stream = StreamConfig("OURS", 1000, 2**20, max_age=3600.0, duplicate_window=60.0)
    delivery.config = NatsConfig(stream=stream)
    delivery.outbox.close()
    await run_once(delivery, server.url)
    made = (await server.manage("STREAM.INFO.OURS"))["config"]
    expected = {
        "subjects": list(SUBJECTS),
        "storage": "file",
        "discard": "old",
        "max_msgs": 1000,
        "max_bytes": 2**20,
        "max_age": 3600 * 10**9,
        "duplicate_window": 60 * 10**9,
    }
    assert {key: made[key] for key in expected} == expected


async def test_an_existing_stream_is_widened_and_keeps_the_rest(server: Any, delivery: Any) -> None:
    """Subjects are added; its own subjects and limits stay."""
    before = {
        "name": "MARKET_DATA",
        "subjects": ["trade-data.binance.>", "theirs.*", "data-gap.>"],
        "storage": "memory",
        "max_msgs": 77,
        "max_age": 10**12,
        "duplicate_window": 10**9,
        "description": "not ours",
        "allow_direct": True,
    }
    await server.manage("STREAM.CREATE.MARKET_DATA", before)
    delivery.outbox.close()
    await run_once(delivery, server.url)
    after = (await server.manage("STREAM.INFO.MARKET_DATA"))["config"]
    assert set(after["subjects"]) == {"theirs.*", *SUBJECTS}
    rest = before.keys() - {"subjects"}
    assert {key: after[key] for key in rest} == {key: before[key] for key in rest}


async def test_a_stream_that_takes_all_of_ours_is_left_alone(server: Any, delivery: Any) -> None:
    """Whatever else it takes, and however it is limited."""
    config = {"name": "MARKET_DATA", "subjects": ["theirs.>", *SUBJECTS], "max_msgs": 5}
    before = (await server.manage("STREAM.CREATE.MARKET_DATA", config))["config"]
    delivery.outbox.close()
    await run_once(delivery, server.url)
    assert (await server.manage("STREAM.INFO.MARKET_DATA"))["config"] == before


async def test_subjects_that_another_stream_takes_are_refused(server: Any, delivery: Any) -> None:
    """The words name the other stream and the subject."""
    await server.manage("STREAM.CREATE.OLD", {"name": "OLD", "subjects": ["trade-data.okx.>"]})
    with pytest.raises(Refused, match=r"another does: OLD takes trade-data\.>"):
        await run_once(delivery, server.url)
    assert "OLD" in delivery.board.sink.reason


async def test_a_stream_that_never_acknowledges_is_refused(server: Any, delivery: Any) -> None:
    """Waiting for it would be waiting for ever."""
    config = {"name": "MARKET_DATA", "subjects": [">"], "no_ack": True}
    await server.manage("STREAM.CREATE.MARKET_DATA", config)
    with pytest.raises(Refused, match="never to acknowledge"):
        await run_once(delivery, server.url)


async def test_a_server_without_jetstream_is_refused(absent_server: Any, delivery: Any) -> None:
    """It is a state of its own."""
    absent_server.start(jetstream=False)
    with pytest.raises(Refused, match="has no JetStream enabled"):
        await run_once(delivery, absent_server.url)


async def test_wrong_credentials_are_refused_and_never_shown(
    absent_server: Any, delivery: Any, make_message: Callable[..., Message]
) -> None:
    """Refused with the server named and the user hidden; the right ones work."""
    absent_server.start("--user", "collector", "--pass", "right")
    host = f"127.0.0.1:{absent_server.port}"
    with pytest.raises(Refused, match="authorisation refused") as refusal:
        await run_once(delivery, f"nats://collector:wrong-canary@{host}")
    row = delivery.board.sink
    assert "canary" not in f"{refusal.value} {row}"
    assert row.target == f"nats://***@{host}"
    delivery.outbox.append([make_message(0)])
    delivery.outbox.close()
    await run_once(delivery, f"nats://collector:right@{host}")
    assert row.acknowledged == 1


async def test_missing_permissions_are_refused(
    absent_server: Any, delivery: Any, make_message: Callable[..., Message], tmp_path: Any
) -> None:
    """A user who may not publish our subjects hears it, not a time-out."""
    absent_server.start()
    delivery.outbox.close()
    await run_once(delivery, absent_server.url)
    absent_server.kill()
    rules = tmp_path / "rules.conf"
    rules.write_text(
        "authorization { users = [ { user: u, password: p, "
        'permissions: { publish: "$JS.API.>", subscribe: "_INBOX.>" } } ] }'
    )
    absent_server.start("-c", str(rules))
    fresh = attrs.evolve(delivery)
    fresh.outbox.append([make_message(0)])
    with pytest.raises(Refused, match="permissions violation for publish"):
        await run_once(fresh, f"nats://u:p@127.0.0.1:{absent_server.port}")


async def test_credentials_are_not_given_to_a_server_without_tls(
    absent_server: Any, delivery: Any
) -> None:
    """A `tls://` address is never served in the clear."""
    absent_server.start("--user", "collector", "--pass", "right", "-DV")
    with pytest.raises(Refused, match="does not require TLS"):
        await run_once(delivery, f"tls://collector:right@127.0.0.1:{absent_server.port}")
    assert "CONNECT" not in absent_server.log.read_text()


async def test_a_full_stream_that_discards_new_is_waited_for(
    server: Any, delivery: Any, make_message: Callable[..., Message], until: Any
) -> None:
    """Over the same connection, one message a second; then all the rest, in order."""
    config = {"name": "MARKET_DATA", "subjects": SUBJECTS, "max_msgs": 3, "discard": "new"}
    await server.manage("STREAM.CREATE.MARKET_DATA", config)
    sink, row = NatsSink(delivery.config, [server.url], delivery.board), delivery.board.sink
    delivery.outbox.append([make_message(n) for n in range(5000)])
    with capture_logs() as logs:
        await _waited_for_a_full_stream(sink, row, server, delivery, until, config)
    assert numbers(await server.stored()) == list(range(5000))
    assert (row.connects, row.duplicates) == (1, 0)
    (resumed,) = (line for line in logs if line["event"] == "sink.resumed")
    assert resumed["state"] == "stream_full"
    assert resumed["after"] > 3


async def _waited_for_a_full_stream(
    sink: NatsSink, row: SinkRow, server: Any, delivery: Any, until: Any, config: dict[str, Any]
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sink.run, delivery.outbox)
        await until(lambda: row.state is SinkState.STREAM_FULL)
        assert row.reason == "stream MARKET_DATA does not store: maximum messages exceeded"
        assert (row.connected, row.acknowledged, delivery.board.outbox.held) == (True, 3, 4997)
        # What was in flight is answered, which on a busy machine takes a while.
        await until(lambda: not row.in_flight)
        before = (await trio.to_thread.run_sync(server.traffic))["in_msgs"]
        await trio.sleep(3)
        # What the question itself says is among them.
        assert (await trio.to_thread.run_sync(server.traffic))["in_msgs"] - before <= 4
        await server.manage("STREAM.UPDATE.MARKET_DATA", config | {"max_msgs": -1})
        delivery.outbox.close()
        await until(lambda: row.acknowledged == 5000)


async def test_a_stream_that_is_full_now_and_then_gets_everything_once(
    server: Any, delivery: Any, make_message: Callable[..., Message]
) -> None:
    """A reader makes room while we publish; what is stored out of order is counted."""
    config = {"name": "MARKET_DATA", "subjects": SUBJECTS, "max_msgs": 700, "discard": "new"}
    await server.manage("STREAM.CREATE.MARKET_DATA", config)
    sink, row = NatsSink(delivery.config, [server.url], delivery.board), delivery.board.sink
    delivery.outbox.append([make_message(n) for n in range(3000)])
    delivery.outbox.close()
    read: list[int] = []
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.run, delivery.outbox)
            while len(read) < 3000:
                await trio.sleep(0.3)
                found = await server.stored()
                read += numbers(found)
                answer = await server.manage("STREAM.INFO.MARKET_DATA")
                last = answer["state"]["first_seq"] + len(found)
                await server.manage("STREAM.PURGE.MARKET_DATA", {"seq": last})
    assert sorted(read) == list(range(3000))
    assert row.connects == 1
    overtaken = sum(later < earlier for earlier, later in itertools.pairwise(read))
    assert bool(overtaken) == bool(delivery.board.faults["sink_overtaken"])


async def test_an_idle_server_that_dies_is_noticed_within_three_seconds(
    server: Any, delivery: Any, until: Any
) -> None:
    """Nothing is in flight whose acknowledgement would be missing."""
    sink, row = NatsSink(delivery.config, [server.url], delivery.board), delivery.board.sink
    async with trio.open_nursery() as nursery:
        nursery.start_soon(delivery.keep_running, sink)
        await until(lambda: row.connected)
        await trio.sleep(1.5)
        server.signal(signal.SIGSTOP)
        stopped = trio.current_time()
        await until(lambda: delivery.failures)
        # Three seconds are promised (R4); the rest is a busy machine's.
        assert delivery.failed_at[0] - stopped < 6
        assert str(delivery.failures[0]) == f"{server.url} does not answer pings"
        assert delivery.failures[0].state is SinkState.STALLED
        nursery.cancel_scope.cancel()


async def test_a_deleted_stream_is_made_again(
    server: Any,
    delivery: Any,
    make_message: Callable[..., Message],
    until: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nobody answers for it: the attempt ends, and the next one creates it, loudly."""
    sink = NatsSink(delivery.config, [server.url], delivery.board)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(delivery.keep_running, sink)
            await until(lambda: delivery.board.sink.connected)
            await server.manage("STREAM.DELETE.MARKET_DATA")
            delivery.outbox.append([make_message(n) for n in range(10)])
            delivery.outbox.close()
    assert [str(failure) for failure in delivery.failures] == ["stream MARKET_DATA is gone"]
    assert delivery.failures[0].state is SinkState.STREAM_MISSING
    assert "sink.stream_recreated" in capsys.readouterr().out
    assert numbers(await server.stored()) == list(range(10))


def update(number: int, levels: int) -> Message:
    """A book update with so many levels."""
    bids = [["1.5", "2"]] * levels
    ids = (number, number, number - 1)
    return encode(OrderBookRecord(INSTRUMENT, 10**18, 10**18, "update", bids, [], *ids))


async def told(server: Any) -> list[Any]:
    """What a reader sees: the id of an update, or the ids that a gap says are missing."""
    found = [json.loads(payload) for payload in await server.stored()]
    return [
        (fields["affected"], fields["first_missing_id"], fields["last_missing_id"], fields["lost"])
        if fields["data_type"] == "gap"
        else fields["last_update_id"]
        for fields in found
    ]


LIMITS = {
    "server": ("max_payload: 5000", {}),
    "stream": ("", {"max_msg_size": 5000}),
}


@pytest.mark.parametrize("limit", LIMITS)
async def test_in_the_place_of_a_message_too_large_is_a_gap(
    absent_server: Any, delivery: Any, tmp_path: Any, limit: str
) -> None:
    """Too large for the server or for the stream, by a few bytes or by far; the rest arrives."""
    limits = tmp_path / "limits.conf"
    limits.write_text(LIMITS[limit][0])
    absent_server.start("-c", str(limits))
    config = {"name": "MARKET_DATA", "subjects": SUBJECTS, **LIMITS[limit][1]}
    await absent_server.manage("STREAM.CREATE.MARKET_DATA", config)
    levels = [1, 5000, 1, 1, 380, 1, 330, 1]
    delivery.outbox.append([update(n, count) for n, count in enumerate(levels)])
    delivery.outbox.close()
    await run_once(delivery, absent_server.url)
    missing = [("orderbook", str(n), str(n), 1) for n in (1, 4)]
    assert await told(absent_server) == [0, missing[0], 2, 3, missing[1], 5, 6, 7]
    row, board = delivery.board.sink, delivery.board
    assert (row.oversize, row.connects, row.acknowledged) == (2, 1, 8)
    assert board.lost == {("binance", "spot", "orderbook"): 2}
    assert board.gaps == {("binance", "spot", "orderbook", "overflow"): 2}


async def test_the_last_byte_that_the_server_takes_is_used(
    absent_server: Any, delivery: Any, tmp_path: Any
) -> None:
    """Headers count: around the limit, each is stored or replaced, and no connection is lost."""
    sizes = [len(update(1, levels).payload) for levels in range(300, 400)]
    limits = tmp_path / "limits.conf"
    limits.write_text(f"max_payload: {sizes[50]}")
    absent_server.start("-c", str(limits))
    delivery.outbox.append([update(n, n) for n in range(300, 400)])
    delivery.outbox.close()
    await run_once(delivery, absent_server.url)
    found = await told(absent_server)
    whole = [n for n in found if isinstance(n, int)]
    assert whole == list(range(300, 300 + len(whole)))
    assert 40 < len(whole) < 50
    assert [int(gap[1]) for gap in found[len(whole) :]] == [*range(300 + len(whole), 400)]
    assert delivery.board.sink.connects == 1


async def test_a_limit_that_comes_while_we_publish_is_found_out(
    server: Any, delivery: Any, until: Any
) -> None:
    """The stream says so itself; the gap comes after what was on its way already."""
    sink, row = NatsSink(delivery.config, [server.url], delivery.board), delivery.board.sink
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sink.run, delivery.outbox)
        await until(lambda: row.connected)
        made = (await server.manage("STREAM.INFO.MARKET_DATA"))["config"]
        await server.manage("STREAM.UPDATE.MARKET_DATA", made | {"max_msg_size": 5000})
        delivery.outbox.append([update(0, 1), update(1, 1000), update(2, 1)])
        await until(lambda: row.acknowledged == 3)
        delivery.outbox.append([update(3, 1)])
        delivery.outbox.close()
    assert await told(server) == [0, 2, ("orderbook", "1", "1", 1), 3]
    assert (row.oversize, row.connects) == (1, 1)


async def test_a_snapshot_too_large_is_left_out_without_a_gap(server: Any, delivery: Any) -> None:
    """Those who have the book go on; a gap would take it from them."""
    config = {"name": "MARKET_DATA", "subjects": SUBJECTS, "max_msg_size": 5000}
    await server.manage("STREAM.CREATE.MARKET_DATA", config)
    levels: list[list[str]] = [["1", "1"]] * 1000
    snapshot = OrderBookRecord(INSTRUMENT, 10**18, 10**18, "snapshot", levels, [], None, 1, None)
    delivery.outbox.append([update(1, 1), encode(snapshot), update(2, 1)])
    delivery.outbox.close()
    await run_once(delivery, server.url)
    assert await told(server) == [1, 2]
    assert (delivery.board.sink.oversize, delivery.board.lost) == (1, {})


async def test_a_stream_too_small_for_gaps_is_refused(server: Any, delivery: Any) -> None:
    """What would be lost could not even be said."""
    config = {"name": "MARKET_DATA", "subjects": SUBJECTS, "max_msg_size": 500}
    await server.manage("STREAM.CREATE.MARKET_DATA", config)
    with pytest.raises(SinkRefused, match="500 bytes at most"):
        await run_once(delivery, server.url)
    assert delivery.board.sink.state is SinkState.STREAM_UNUSABLE


async def test_a_server_too_small_for_gaps_is_refused_and_nothing_is_lost(
    absent_server: Any, delivery: Any, tmp_path: Any
) -> None:
    """The same, where the server's limit says so only with the first that is too large."""
    absent_server.start()
    config = {"name": "MARKET_DATA", "subjects": SUBJECTS}
    await absent_server.manage("STREAM.CREATE.MARKET_DATA", config)
    absent_server.kill()
    limits = tmp_path / "limits.conf"
    limits.write_text("max_payload: 300")
    absent_server.start("-c", str(limits))
    delivery.outbox.append([update(1, 100)])
    with pytest.raises(SinkRefused, match="does not even take"):
        await run_once(delivery, absent_server.url)
    assert delivery.board.outbox.held == 1


async def test_a_peer_that_accepts_and_says_nothing_ends_within_the_limit(delivery: Any) -> None:
    """A black hole costs `connect_timeout`."""
    delivery.config = NatsConfig(connect_timeout=0.5)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        started = trio.current_time()
        with pytest.raises(SinkLost, match=r"no answer from .* within 0\.5 s"):
            await run_once(delivery, f"nats://127.0.0.1:{port}")
        assert trio.current_time() - started < 5
        await listeners[0].aclose()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"x" * 100_000, b""])
async def test_a_peer_that_is_no_nats_server_loses_the_sink(delivery: Any, greeting: bytes) -> None:
    """Whatever it says, or when it hangs up at once."""

    async def greet(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(greeting)
            if greeting:
                await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, greet, 0)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(SinkLost):
            await run_once(delivery, f"nats://127.0.0.1:{port}")
        nursery.cancel_scope.cancel()


async def test_cancelling_drops_the_connection_at_once(
    server: Any, delivery: Any, make_message: Callable[..., Message], until: Any
) -> None:
    """Even while a stopped server does not take what is in flight."""
    delivery.config = NatsConfig(ack_timeout=30.0)
    sink = NatsSink(delivery.config, [server.url], delivery.board)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sink.run, delivery.outbox)
        await until(lambda: delivery.board.sink.connected)
        server.signal(signal.SIGSTOP)
        delivery.outbox.append([make_message(n, size=50_000) for n in range(1000)])
        await trio.sleep(0.3)
        assert delivery.board.sink.in_flight > 0
        cancelled = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - cancelled < 5
    assert delivery.board.outbox.held == 1000
    assert not delivery.board.sink.connected


async def test_a_name_that_does_not_resolve_has_words(delivery: Any) -> None:
    """The host is named."""
    with pytest.raises(SinkLost, match="no-such-host"):
        await run_once(delivery, "nats://no-such-host.invalid:4222")
