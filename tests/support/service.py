"""The real process, `python -m marketprism`, as an operator sees it: pages, log, signals, exit."""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import loopback
import psutil
import trio
from nats_server import Server
from patience import PATIENCE
from ports import free_port

from marketprism.simulator import Address

ROOT = Path(__file__).parents[2]


def configuration(
    exchanges: Mapping[str, tuple[Address, tuple[str, ...]]], server: Server, **more: Any
) -> dict[str, Any]:
    """What the file says: venues with their addresses and symbols, and free ports."""
    return {
        "exchanges": {
            venue: {
                "api": {"base_url": address.base_url, "ws_url": address.ws_url},
                "symbols": list(symbols),
            }
            for venue, (address, symbols) in exchanges.items()
        },
        "nats": {"servers": [server.url]},
        "http": {"port": free_port()},
        "metrics": {"port": free_port()},
        "supervision": {"backoff": {"first": 0.2, "cap": 2}},
        **more,
    }


class Service:
    """A collector in a process of its own, with a directory of its own."""

    def __init__(self, directory: Path, content: dict[str, Any]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._content = content
        self.file = directory / "collector.yaml"
        self.file.write_text(json.dumps(content))
        self.command = [sys.executable, "-m", "marketprism", "--config", str(self.file)]
        self._errors = directory / "stderr.log"
        self.process: trio.Process

    async def start(self) -> None:
        """Begin; its log goes to a file, so that nothing waits for a reader."""
        with self._errors.open("ab") as errors:
            self.process = await trio.lowlevel.open_process(
                self.command,
                cwd=self._directory,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )

    async def ends(self, number: signal.Signals, within: float = PATIENCE) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        with trio.fail_after(within):
            return await self.process.wait()

    async def page(self, path: str) -> tuple[int, dict[str, Any]]:
        """A page of the health server; status 0 while nobody answers."""
        url = f"http://127.0.0.1:{self._content['http']['port']}{path}"
        try:
            async with loopback.client(timeout=PATIENCE) as client:
                answer = await client.get(url)
        except httpx.HTTPError:
            return 0, {}
        return answer.status_code, answer.json()

    async def healthy(self, within: float = PATIENCE) -> None:
        """Wait until it says so itself."""
        with trio.fail_after(within):
            while True:
                _, page = await self.page("/health")
                if page.get("status") == "healthy":
                    return
                await trio.sleep(0.1)

    def log(self, event: str) -> list[dict[str, Any]]:
        """The lines of its log that tell of an event; a traceback beside them tells of none."""
        lines = [line for line in self._errors.read_text().splitlines() if line.startswith("{")]
        return [line for line in map(json.loads, lines) if line["event"] == event]

    @property
    def told(self) -> str:
        """All that it said on standard error."""
        return self._errors.read_text()

    def usage(self) -> tuple[int, int, int]:
        """Resident bytes, open descriptors, threads."""
        process = psutil.Process(self.process.pid)
        return process.memory_info().rss, process.num_fds(), process.num_threads()
