"""One simulated exchange: a skin, a source, whoever is connected, and its faults."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Collection

import trio

from .connection import Connection
from .events import Message, Snapshot
from .faults import Faults
from .skin import Client, Opening, Reply, Skin
from .source import Source
from .standings import Standings
from .wire import Wire

_PATIENT_CAPACITY = 100
_CAPACITY = 10_000


def wall_clock_ms() -> int:
    """The machine's clock, milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Exchange:
    """The state of an exchange, to be served by `serve` and driven by tests: what it is made of,
    and what tests ask it afterwards.
    """

    def __init__(
        self,
        skin: Skin,
        source: Source,
        *,
        ping_interval: float | None = None,
        pong_timeout: float = 60.0,
        clock_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        """Each connection is pinged every `ping_interval` seconds; None for the exchange's own."""
        self.skin = skin
        self.source = source
        self.ping_interval = skin.ping_seconds if ping_interval is None else ping_interval
        self.pong_timeout = pong_timeout
        self.standings = Standings(source.symbols)
        self.connections: dict[int, Connection] = {}
        self.faults = Faults(self)
        self.finished = trio.Event()
        """Set when a capture has been played to its end; connections stay open."""
        self.accepted = 0
        """Connections there have been."""
        self.requests = 0
        """REST requests there have been."""
        self.paths: Counter[str] = Counter()
        """How often each path was asked for."""
        self.last_subscription = float("-inf")
        """When somebody last subscribed to something, in Trio's time."""
        self.last_trades: dict[str, Message] = {}
        """By stream, the last trade there was, or the last value of an index."""
        self.clock_ms = clock_ms
        self._idents = itertools.count(1)
        self._wanted: set[str] = set()
        self._changed = trio.Event()
        self._spent: dict[str, tuple[int, int]] = {}
        """By budget, the window and what was spent in it."""

    async def run(self) -> None:
        """Play the source to its end."""
        await self.source.play(self)
        self.finished.set()

    def now_ms(self) -> int:
        """The exchange's clock, milliseconds since the epoch."""
        return self.clock_ms()

    @property
    def symbols(self) -> Collection[str]:
        """What can be asked for now."""
        return self.standings.known

    @property
    def listed(self) -> Collection[str]:
        """What its list of markets holds now."""
        return self.standings.listed

    @property
    def resting(self) -> Collection[str]:
        """The markets in which nothing happens now."""
        return self.standings.resting

    def status(self, symbol: str) -> str | None:
        """What the exchange calls the state of a market; None while it trades as usual."""
        return self.standings.status(symbol)

    # Streams

    @property
    def streams(self) -> set[str]:
        """The streams that some connection has."""
        return {stream for each in self.connections.values() for stream in each.streams}

    @property
    def interrupted(self) -> bool:
        """Whether some stream lost its last connection and has not been subscribed again."""
        return not self._wanted <= self.streams

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is looked at when connections or streams change."""
        while not condition():
            await self._changed.wait()

    async def publish(self, message: Message) -> None:
        """Send to whoever is subscribed, through the faults."""
        if message.kind in ("trade", "volatility_index"):
            self.last_trades[message.stream] = message
        await self._tell(
            [each for each in self.connections.values() if each.hears(message.stream)], message
        )

    async def _tell(self, audience: list[Connection], message: Message) -> None:
        if not audience:
            return
        copies = self.faults.waiting.copies(message)
        message = self.faults.waiting.printed(message) if copies else message
        for _ in range(copies):
            for each in audience:
                framed = each.frame(message.stream, message.text)
                if self.source.patient:
                    await each.put(framed)
                else:
                    each.offer(framed)

    def connect(self, path: str, wire: Wire, opening: Opening) -> Connection:
        """A new client."""
        capacity = _PATIENT_CAPACITY if self.source.patient else _CAPACITY
        connection = Connection(next(self._idents), path, wire, opening, capacity, self.skin)
        self.connections[connection.ident] = connection
        self.accepted += 1
        self._tell_change()
        return connection

    def disconnect(self, connection: Connection) -> None:
        """A client has gone."""
        self.connections.pop(connection.ident, None)
        self._tell_change()

    def client(self, connection: Connection) -> Client:
        """Who is behind a connection."""
        return Client(connection.streams, connection.ident, self.symbols, self.now_ms())

    def answered(self, text: str, reply: Reply, client: Client) -> Reply:
        """What a client is told to its command: the skin's reply, through the faults."""
        return self.faults.answers.given(text, reply, client, self.skin)

    async def subscribe(self, connection: Connection, streams: tuple[str, ...]) -> None:
        """The connection has these streams as well, and is told how they stand."""
        if streams:
            self._wanted.update(streams)
            self.last_subscription = trio.current_time()
        for stream in streams:
            connection.streams[stream] = None
            # Between the two nobody else has his turn: what is published next is heard next.
            for greeting in self.source.greetings(stream):
                await self._tell([connection] if connection.hears(stream) else [], greeting)
        if streams:
            self._tell_change()

    def unsubscribe(self, connection: Connection, streams: tuple[str, ...]) -> None:
        """The connection has these streams no more."""
        for stream in streams:
            connection.streams.pop(stream, None)
        self._wanted -= set(streams) - self.streams
        self._tell_change()

    def _tell_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # REST

    def spend(self, weight: int, budget: str = "weight", seconds: int = 60) -> int:
        """Book the weight of a request; what was spent of the budget in this window, with it."""
        window = self.now_ms() // (seconds * 1_000)
        before, spent = self._spent.get(budget, (window, 0))
        spent = weight + (spent if before == window else 0)
        self._spent[budget] = window, spent
        return spent

    async def depth(self, symbol: str, limit: int) -> Snapshot | None:
        """A book, late or stale when that was asked for."""
        late, stale = self.faults.waiting.depth(symbol)
        snapshot = await self.source.snapshot(symbol, limit, stale=stale)
        await trio.sleep(late)
        return snapshot

    def state(self) -> dict[str, object]:
        """Everything at a glance, for people."""
        return {
            "venue": self.skin.venue,
            "position": self.source.position(),
            "finished": self.finished.is_set(),
            "symbols": list(self.symbols),
            "accepted": self.accepted,
            "requests": self.requests,
            "spent": {budget: spent for budget, (_, spent) in self._spent.items()},
            "connections": [
                {
                    "connection": each.ident,
                    "path": each.path,
                    "streams": list(each.streams),
                    "sent": each.sending.sent,
                    "lost": each.sending.lost,
                }
                for each in self.connections.values()
            ],
            "faults_done": self.faults.done,
        }
