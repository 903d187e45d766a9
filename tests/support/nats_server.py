"""A real nats-server that tests can kill, stop and start again, and read back."""

import asyncio
import contextlib
import http.client
import json
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import nats
import trio
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig
from patience import PATIENCE
from ports import free_port

from marketprism.sinks.embedded import find_server

T = TypeVar("T")


class Server:
    """A nats-server that can be killed, stopped and started again over the same store."""

    def __init__(self, directory: Path) -> None:
        self.port, self.monitor = free_port(), free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.store = directory / "store"
        self.log = directory / "server.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.login: dict[str, Any] = {}
        """How the test's own client logs in."""

    def start(self, *options: str, jetstream: bool = True) -> None:
        command = [str(find_server()), "-a", "127.0.0.1", "-p", str(self.port)]
        command += ["-m", str(self.monitor), *options]
        if jetstream:
            command += ["-js", "-sd", str(self.store)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        # After a kill it reads its whole store again.
        deadline = time.monotonic() + 60
        while not self._healthy():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.monitor, timeout=1)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        return False

    def traffic(self) -> dict[str, Any]:
        """Its counts: `in_msgs`, `total_connections` and others."""
        connection = http.client.HTTPConnection("127.0.0.1", self.monitor, timeout=2)
        with contextlib.closing(connection):
            connection.request("GET", "/varz")
            counts: dict[str, Any] = json.loads(connection.getresponse().read())
            return counts

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    # Seen through a client of its own, in a thread of its own.

    async def ask(self, question: Callable[[Client], Awaitable[T]]) -> T:
        async def asking() -> T:
            client = await nats.connect(self.url, **self.login)
            try:
                return await question(client)
            finally:
                await client.close()

        return await trio.to_thread.run_sync(lambda: asyncio.run(asking()))

    async def manage(self, subject: str, content: object = None) -> dict[str, Any]:
        async def question(client: Client) -> dict[str, Any]:
            body = b"" if content is None else json.dumps(content).encode()
            answer = await client.request(f"$JS.API.{subject}", body, timeout=PATIENCE)
            decoded: dict[str, Any] = json.loads(answer.data)
            return decoded

        return await self.ask(question)

    async def stored(self, stream: str = "MARKET_DATA") -> list[bytes]:
        """The payloads in the stream, in its order."""
        return [message.data for message in await self.messages(stream)]

    async def messages(self, stream: str = "MARKET_DATA") -> list[Msg]:
        """The messages in the stream, in its order."""

        async def question(client: Client) -> list[Msg]:
            context = client.jetstream()
            total = (await context.stream_info(stream)).state.messages
            # On a busy machine the next fetch comes late: the server keeps the consumer till then.
            config = ConsumerConfig(ack_policy=AckPolicy.NONE, inactive_threshold=PATIENCE)
            reader = await context.pull_subscribe("", stream=stream, config=config)
            messages: list[Msg] = []
            while len(messages) < total:
                messages += await reader.fetch(min(1000, total - len(messages)), timeout=PATIENCE)
            return messages

        return await self.ask(question)
