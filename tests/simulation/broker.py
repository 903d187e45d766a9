"""A JetStream server in memory, and the sink that publishes to it as the real one does."""

import math
import random
from collections import deque
from collections.abc import Sequence

import attrs
import msgspec
import trio
from trio.lowlevel import ParkingLot

from marketprism.board.board import Board
from marketprism.errors import Refused, SinkLost
from marketprism.outbox.outbox import Numbered, Outbox
from marketprism.resume import last_message
from marketprism.resume.positions import Positions
from marketprism.settings.nats import NatsConfig
from marketprism.sinks.publishing import Publishing
from marketprism.wire import Message

TARGET = "nats://memory"


@attrs.frozen
class Stored:
    """A message of the stream."""

    at: float
    subject: str
    msg_id: str
    payload: bytes


class Broker:
    """The stream, and what is wrong with its server."""

    def __init__(self, config: NatsConfig, chance: random.Random) -> None:
        self.config = config
        self.chance = chance
        self.stream: list[Stored] = []
        self.down_until = 0.0
        self.stalled_until = 0.0
        self.full_until = 0.0
        self.acks_lost_until = 0.0
        self.connections: list[BrokerConnection] = []
        self._seen: dict[str, tuple[float, int]] = {}
        self._last: dict[str, Stored] = {}

    def kill(self, seconds: float) -> None:
        """Dead for so long. What it stored stays; its answers on the way are lost."""
        self.down_until = trio.current_time() + seconds
        for connection in list(self.connections):
            connection.end("the server closed the connection")

    def take(
        self, msg_id: str, subject: str, payload: bytes, *, refusing: bool
    ) -> dict[str, object]:
        """Store one message, unless its id is remembered; the answer. `refusing` is a server that
        has refused one already: were it to take the next, nobody could keep the order.
        """
        now, name = trio.current_time(), self.config.stream.name
        if self.full_until > now or refusing:
            error = {"code": 503, "err_code": 10077, "description": "maximum bytes exceeded"}
            return {"error": error, "stream": name, "seq": 0}
        at, sequence = self._seen.get(msg_id, (float("-inf"), 0))
        if now - at <= self.config.stream.duplicate_window:
            return {"stream": name, "seq": sequence, "duplicate": True}
        self.stream.append(Stored(now, subject, msg_id, payload))
        self._last[subject] = self.stream[-1]
        self._seen[msg_id] = now, len(self.stream)
        return {"stream": name, "seq": len(self.stream)}

    def earlier(self, subject: str) -> list[last_message.Stored]:
        """The messages of a subject before its last one."""
        found = [message for message in self.stream if message.subject == subject]
        return [
            last_message.Stored(subject, 0, message.msg_id, message.payload)
            for message in found[-1 - last_message.EARLIER : -1]
        ]

    def last(self, subject: str) -> last_message.Stored | None:
        """The last message of a subject; its number is of no interest."""
        if (message := self._last.get(subject)) is None:
            return None
        return last_message.Stored(subject, 0, message.msg_id, message.payload)


class BrokerConnection:
    """One client of the broker: messages go in, answers come out, both late."""

    def __init__(self, broker: Broker, publishing: Publishing) -> None:
        self._broker = broker
        self._publishing = publishing
        self._way: deque[tuple[float, Numbered]] = deque()
        self._back: deque[tuple[float, int, bytes]] = deque()
        self._moved = ParkingLot()
        self._ended = False
        self._refused = math.inf

    async def send(self, batch: Sequence[Numbered]) -> None:
        """Hand messages to the client."""
        await trio.lowlevel.checkpoint()
        due = trio.current_time() + self._broker.chance.uniform(0.001, 0.02)
        if self._way:
            due = max(due, self._way[-1][0])
        self._way.extend((due, numbered) for numbered in batch)
        self._moved.unpark_all()

    async def earlier(
        self, messages: Sequence[last_message.Stored]
    ) -> dict[str, list[last_message.Stored]]:
        """Ask the stream for what is stored before those."""
        await trio.sleep(self._broker.chance.uniform(0.002, 0.04))
        await trio.sleep_until(max(self._broker.stalled_until, trio.current_time()))
        return {each.subject: self._broker.earlier(each.subject) for each in messages}

    async def last(self, subjects: Sequence[str]) -> dict[str, last_message.Stored]:
        """Ask the stream, and wait for the answer."""
        await trio.sleep(self._broker.chance.uniform(0.002, 0.04))
        await trio.sleep_until(max(self._broker.stalled_until, trio.current_time()))
        told = {subject: self._broker.last(subject) for subject in subjects}
        return {subject: message for subject, message in told.items() if message is not None}

    def end(self, why: str) -> None:
        """The connection is gone: what is on the way never arrives."""
        self._ended = True
        self._way.clear()
        self._back.clear()
        self._publishing.fail(SinkLost(why))

    async def serve(self) -> None:
        """Store what arrives, in order, and answer."""
        while not self._ended:
            now = trio.current_time()
            if self._broker.stalled_until > now:
                await trio.sleep_until(self._broker.stalled_until)
                continue
            while self._way and self._way[0][0] <= now:
                self._store(*self._way.popleft()[1])
            while self._back and self._back[0][0] <= now:
                _, sequence, answer = self._back.popleft()
                self._publishing.answer(sequence, answer)
            following = [queue[0][0] for queue in (self._way, self._back) if queue]
            with trio.move_on_at(min(following, default=float("inf"))):
                await self._moved.park()

    def _store(self, sequence: int, message: Message) -> None:
        broker = self._broker
        # Until the first that it refused comes again.
        refusing = sequence > self._refused
        answer = broker.take(message.msg_id, message.subject, message.payload, refusing=refusing)
        self._refused = min(self._refused, sequence) if "error" in answer else math.inf
        if broker.acks_lost_until > trio.current_time():
            return
        due = trio.current_time() + broker.chance.uniform(0.001, 0.02)
        due = max(due, self._back[-1][0]) if self._back else due
        self._back.append((due, sequence, msgspec.json.encode(answer)))


class BrokerSink:
    """The NATS sink without NATS: connecting is a matter of the broker's state, the publishing
    window is the real one.
    """

    def __init__(self, broker: Broker, board: Board, positions: Positions | None) -> None:
        self._broker = broker
        self._board = board
        self._positions = positions

    async def run(self, outbox: Outbox) -> None:
        broker, row = self._broker, self._board.sink
        await trio.sleep(broker.chance.uniform(0.005, 0.05))
        if broker.down_until > trio.current_time():
            raise SinkLost(f"{TARGET} refused the connection")
        if broker.stalled_until > trio.current_time():
            await trio.sleep(broker.config.connect_timeout)
            raise SinkLost(f"no answer from {TARGET}")
        publishing = Publishing(broker.config, self._board, TARGET)
        connection = BrokerConnection(broker, publishing)
        broker.connections.append(connection)
        row.connected, failure = True, None
        row.connects += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.serve)
                try:
                    await publishing.run(
                        outbox,
                        connection.send,
                        1 << 20,
                        connection.last,
                        self._positions,
                        earlier=connection.earlier,
                    )
                except (SinkLost, Refused) as conclusion:
                    failure = conclusion
                nursery.cancel_scope.cancel()
        finally:
            broker.connections.remove(connection)
            row.connected, row.in_flight = False, 0
        if failure is not None:
            raise failure
