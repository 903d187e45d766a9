"""Reads the stream while it is written, for tests that last longer than the stream remembers."""

import asyncio
import json
from collections import Counter
from typing import Any

import nats
from consumer import Consumer
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

STREAM = "MARKET_DATA"


class Reader:
    """One consumer a market; everything is read once, in the stream's order. Runs in a thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.consumers: dict[tuple[str, str], Consumer] = {}
        self.read = 0
        self.gaps: Counter[str] = Counter()
        self.holes: list[str] = []
        """Where the stream's own numbers leave something out."""
        self._next = 1
        self.stop = False

    def run(self) -> None:
        """Until `stop` is set and nothing more comes."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        while True:
            if await self._attempt() and self.stop:
                return
            await asyncio.sleep(0.2)

    async def _attempt(self) -> bool:
        """Read until the server is gone (False), or there is nothing more to come (True)."""
        try:
            client = await nats.connect(self._url, allow_reconnect=False, connect_timeout=2)
        except (NatsError, OSError):
            return False
        try:
            config = ConsumerConfig(
                ack_policy=AckPolicy.NONE,
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=self._next,
                inactive_threshold=30,
            )
            reader = await client.jetstream().pull_subscribe("", stream=STREAM, config=config)
            while True:
                try:
                    batch = await reader.fetch(1000, timeout=2)
                except nats.errors.TimeoutError:
                    if self.stop:
                        return True
                    continue
                for message in batch:
                    self._take(message.metadata.sequence.stream, message.data)
        except (NatsError, OSError):
            return False
        finally:
            await client.close()

    def _take(self, sequence: int, payload: bytes) -> None:
        if sequence != self._next:
            self.holes.append(f"{sequence} after {self._next - 1}")
        self._next = sequence + 1
        self.read += 1
        fields: dict[str, Any] = json.loads(payload)
        market = fields["exchange"], fields["market_type"]
        self.consumers.setdefault(market, Consumer()).take(payload)
        if fields["data_type"] == "gap":
            self.gaps[f"{fields['affected']} {fields['reason']}"] += 1
