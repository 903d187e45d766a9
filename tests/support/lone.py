"""The real process where there is neither an exchange nor NATS: what it says it does not lack."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import loopback
import trio
from ports import free_port

HANGS = 30.0
"""Seconds after which a process that should have ended or begun hangs."""


class Lone:
    """A collector with a directory of its own."""

    def __init__(self, directory: Path, **content: Any) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port = free_port()
        api = {"base_url": "http://127.0.0.1:9", "ws_url": "ws://127.0.0.1:9"}
        known = {
            "exchanges": {"binance_spot": {"api": api, "symbols": ["BTC-USDT"]}},
            "nats": {"servers": ["nats://127.0.0.1:9"]},
            "http": {"port": self.port},
            "metrics": {"port": free_port()},
        }
        (directory / "collector.yaml").write_text(json.dumps(known | content))

    @property
    def command(self) -> list[str]:
        """What is typed, in its directory."""
        return [sys.executable, "-m", "marketprism", "--config", "collector.yaml", "run"]

    async def start(self, *command: str, **streams: Any) -> trio.Process:
        """Begin; what is not said of its streams goes nowhere."""
        nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        return await trio.lowlevel.open_process(
            list(command) or self.command, cwd=self.directory, **(nowhere | streams)
        )

    async def page(self, path: str = "/health") -> httpx.Response:
        """That page, once somebody answers."""
        async with loopback.client(timeout=HANGS) as client:
            with trio.fail_after(HANGS):
                while True:
                    try:
                        return await client.get(f"http://127.0.0.1:{self.port}{path}")
                    except httpx.TransportError:
                        await trio.sleep(0.05)

    def log(self) -> list[str]:
        """The events in its log file."""
        path = self.directory / "logs/collector.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line)["event"] for line in lines]

    async def logged(self, event: str) -> None:
        """Wait until it is in the log file."""
        with trio.fail_after(HANGS):
            while event not in self.log():  # noqa: ASYNC110 (a file has no events)
                await trio.sleep(0.05)


async def ended(process: trio.Process) -> int:
    """Its exit code, once there is one."""
    try:
        with trio.fail_after(HANGS):
            return await process.wait()
    finally:
        process.kill()


def full_pipe() -> tuple[int, int]:
    """The ends of a pipe that takes nothing more."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, bytes(4096))
    except BlockingIOError:
        os.set_blocking(writing, True)
    return reading, writing
