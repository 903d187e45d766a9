"""Crowds that mean no good, against the real process: the probe is answered through all of it."""

import re
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import trio
from forms import form
from lone import Lone, ended

pytestmark = pytest.mark.once

PEERS = 140
PIPELINED = form(300_000, 3_300_000)
"""Bytes of requests that each peer sends at once."""
SLOW = form(160, 300)
ROUNDS = form(1, 3)
ONE = b"GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

Ask = Callable[[], Awaitable[None]]
Attack = Callable[[int, Ask], Awaitable[None]]


async def hang_up(port: int, ask: Ask) -> None:
    """Peers that ask without end, read nothing, and are gone."""

    async def peer() -> None:
        with suppress(OSError, trio.BrokenResourceError), trio.move_on_after(10):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(ONE * (PIPELINED // len(ONE)))

    for _ in range(ROUNDS):
        async with trio.open_nursery() as peers:
            for _ in range(PEERS):
                peers.start_soon(peer)
        await ask()


async def dawdle(port: int, ask: Ask) -> None:
    """Peers with half a request, who come anew as they are let go."""
    held: list[socket.socket] = []
    try:
        for _ in range(ROUNDS):
            for _ in range(SLOW):
                peer = socket.create_connection(("127.0.0.1", port))
                held.append(peer)
                with suppress(OSError):
                    peer.sendall(ONE[:20])
                await trio.lowlevel.checkpoint()
            await ask()
    finally:
        for peer in held:
            peer.close()


@pytest.mark.parametrize("attack", [hang_up, dawdle])
async def test_the_probe_is_answered_through_an_attack(attack: Attack, tmp_path: Path) -> None:
    """Each time that it asks, while the crowd is there and after it has gone; how long that took
    and what it cost is printed.
    """
    lone = Lone(tmp_path)
    process = await lone.start()
    await lone.page()
    watched = psutil.Process(process.pid)
    took: list[float] = []

    async def ask() -> None:
        for _ in range(3):
            began = trio.current_time()
            asked = await trio.run_process(
                [sys.executable, "-c", PROBE, str(lone.port)], capture_stdout=True
            )
            assert re.fullmatch(rb"(200|503)\n", asked.stdout)
            took.append(trio.current_time() - began)

    before = sum(watched.cpu_times()[:2])
    await attack(lone.port, ask)
    await ask()
    cost = sum(watched.cpu_times()[:2]) - before
    print(f"{attack.__name__}: {len(took)} probes, {max(took):.2f} s at most; {cost:.1f} CPU s")
    process.terminate()
    assert await ended(process) == 0
    assert "server.lost" not in lone.log()


PROBE = """
import http.client, sys
asked = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=30)
asked.request("GET", "/health")
print(asked.getresponse().status)
"""


async def test_a_crowd_does_not_take_the_descriptors_of_others(tmp_path: Path) -> None:
    """With few of them, the probe is answered, nothing fails, and nothing is told twice."""
    lone = Lone(tmp_path)
    shell = f"ulimit -n 64; exec {sys.executable} -m marketprism --config collector.yaml"
    process = await lone.start("sh", "-c", shell)
    await lone.page()
    held = [socket.create_connection(("127.0.0.1", lone.port)) for _ in range(100)]
    for peer in held:
        with suppress(OSError):
            peer.sendall(ONE[:20])
    for _ in range(5):
        await lone.page()
    for peer in held:
        peer.close()
    process.terminate()
    assert await ended(process) == 0
    assert "task.failed" not in lone.log()
    assert lone.log().count("server.no_room") <= 1
    assert "Traceback" not in (tmp_path / "logs/collector.log").read_text()
