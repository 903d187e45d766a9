"""The NATS sink against real servers."""

import signal
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio

from marketprism.errors import Refused, SinkLost
from marketprism.settings import NatsConfig, StreamConfig
from marketprism.sinks.nats import NatsSink
from marketprism.wire import SUBJECTS, Message


def numbers(payloads: list[bytes]) -> list[int]:
    """What the payloads begin with."""
    return [int(payload.split()[0]) for payload in payloads]


async def run_once(delivery: Any, *servers: str) -> None:
    """One attempt that has to end by itself."""
    with trio.fail_after(12):
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
        with trio.fail_after(3):
            while delivery.board.sink.acknowledged < 20:
                assert delivery.board.sink.in_flight <= 3
                await trio.sleep(0.01)
        assert delivery.board.sink.connected
        delivery.outbox.close()
    assert numbers(await server.stored()) == list(range(20))


async def test_two_kills_of_the_server_lose_double_and_reorder_nothing(
    server: Any, delivery: Any, make_message: Callable[..., Message]
) -> None:
    """SIGKILL in mid-stream, twice: the stream holds every message once, in order."""
    total, kills = 5000, [1200, 3100]
    sink = NatsSink(delivery.config, [server.url], delivery.board)
    with trio.fail_after(25):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(delivery.keep_running, sink)
            for n in range(0, total, 50):
                delivery.outbox.append([make_message(i) for i in range(n, n + 50)])
                if kills and delivery.board.sink.acknowledged > kills[0]:
                    kills.pop(0)
                    server.kill()
                    await trio.sleep(0.3)
                    await trio.to_thread.run_sync(server.start)
                await trio.sleep(0.005)
            delivery.outbox.close()
    assert not kills
    assert numbers(await server.stored()) == list(range(total))
    row = delivery.board.sink
    assert row.acknowledged == total
    assert row.connects == 3
    assert not delivery.board.faults


async def test_a_stopped_server_is_noticed_and_nothing_is_lost(
    server: Any, delivery: Any, make_message: Callable[..., Message], until: Any
) -> None:
    """SIGSTOP: given up within three seconds; all is there once it goes on."""
    sink = NatsSink(delivery.config, [server.url], delivery.board)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(delivery.keep_running, sink)
            delivery.outbox.append([make_message(n) for n in range(500)])
            await until(lambda: delivery.board.sink.acknowledged == 500)
            server.signal(signal.SIGSTOP)
            stopped = trio.current_time()
            delivery.outbox.append([make_message(n) for n in range(500, 2000)])
            await until(lambda: delivery.failures)
            assert 1.9 < delivery.failed_at[0] - stopped < 3
            assert str(delivery.failures[0]) == f"{server.url} acknowledged nothing for 2 s"
            await trio.sleep(1)
            server.signal(signal.SIGCONT)
            delivery.outbox.close()
    assert numbers(await server.stored()) == list(range(2000))


async def test_a_server_that_comes_later_gets_everything(
    absent_server: Any, delivery: Any, make_message: Callable[..., Message], until: Any
) -> None:
    """Absence is a state with words, not a failure to start."""
    sink = NatsSink(delivery.config, [absent_server.url], delivery.board)
    delivery.outbox.append([make_message(n) for n in range(100)])
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(delivery.keep_running, sink)
            await until(lambda: len(delivery.failures) >= 2)
            assert delivery.board.sink.reason == f"{absent_server.url} refused the connection"
            await trio.to_thread.run_sync(absent_server.start)
            delivery.outbox.close()
    assert numbers(await absent_server.stored()) == list(range(100))


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


async def test_a_full_stream_that_discards_new_loses_the_sink_in_words(
    server: Any, delivery: Any, make_message: Callable[..., Message]
) -> None:
    """What it did not store is still ours."""
    config = {"name": "MARKET_DATA", "subjects": SUBJECTS, "max_msgs": 3, "discard": "new"}
    await server.manage("STREAM.CREATE.MARKET_DATA", config)
    delivery.outbox.append([make_message(n) for n in range(5)])
    with pytest.raises(SinkLost, match="does not store: maximum messages exceeded"):
        await run_once(delivery, server.url)
    assert delivery.board.sink.acknowledged == 3
    assert delivery.board.outbox.held == 2


async def test_a_deleted_stream_is_made_again(
    server: Any, delivery: Any, make_message: Callable[..., Message], until: Any
) -> None:
    """Nobody answers for it: the attempt ends, and the next one creates it."""
    sink = NatsSink(delivery.config, [server.url], delivery.board)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(delivery.keep_running, sink)
            await until(lambda: delivery.board.sink.connected)
            await server.manage("STREAM.DELETE.MARKET_DATA")
            delivery.outbox.append([make_message(n) for n in range(10)])
            delivery.outbox.close()
    assert [str(failure) for failure in delivery.failures] == ["stream MARKET_DATA is gone"]
    assert numbers(await server.stored()) == list(range(10))


async def test_a_message_the_server_will_not_take_is_counted_and_left_out(
    absent_server: Any, delivery: Any, make_message: Callable[..., Message], tmp_path: Any
) -> None:
    """Too large for the server, or for the stream: its neighbours arrive."""
    limits = tmp_path / "limits.conf"
    limits.write_text("max_payload: 10000")
    absent_server.start("-c", str(limits))
    config = {"name": "MARKET_DATA", "subjects": SUBJECTS, "max_msg_size": 5000}
    await absent_server.manage("STREAM.CREATE.MARKET_DATA", config)
    sizes = [10, 20_000, 10, 6_000, 10]
    delivery.outbox.append([make_message(n, size=size) for n, size in enumerate(sizes)])
    delivery.outbox.close()
    await run_once(delivery, absent_server.url)
    assert numbers(await absent_server.stored()) == [0, 2, 4]
    assert delivery.board.sink.oversize == 2
    assert delivery.board.sink.acknowledged == 3


async def test_a_peer_that_accepts_and_says_nothing_ends_within_the_limit(delivery: Any) -> None:
    """A black hole costs `connect_timeout`."""
    delivery.config = NatsConfig(connect_timeout=0.5)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        started = trio.current_time()
        with pytest.raises(SinkLost, match=r"no answer from .* within 0\.5 s"):
            await run_once(delivery, f"nats://127.0.0.1:{port}")
        assert trio.current_time() - started < 1.5
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
    assert trio.current_time() - cancelled < 0.5
    assert delivery.board.outbox.held == 1000
    assert not delivery.board.sink.connected


async def test_a_name_that_does_not_resolve_has_words(delivery: Any) -> None:
    """The host is named."""
    with pytest.raises(SinkLost, match="no-such-host"):
        await run_once(delivery, "nats://no-such-host.invalid:4222")
