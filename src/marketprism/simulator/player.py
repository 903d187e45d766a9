"""A recorded capture, played again.

There is one clock for all connections. Whatever faults and subscriptions do to the messages, the
player's own books follow the playback: they are the truth of what the exchange's books are.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal

import trio

from .book import Book
from .capture import Line
from .events import Message, Snapshot, Update
from .skin import Skin
from .source import Stage

DuringCut = Literal["run", "pause"]


class Player:
    """Publishes the messages of a capture with their recorded distances, divided by `speed`: what
    is asked of it, the script that follows, and how far that has been played.
    """

    def __init__(
        self,
        lines: Sequence[Line],
        skin: Skin,
        *,
        speed: float = 1.0,
        start_delay: float = 2.0,
        during_cut: DuringCut = "run",
    ) -> None:
        """Play at `speed` times the recorded pace, `math.inf` for as fast as readers read.

        Playback starts when there has been no new subscription for `start_delay` seconds. With
        `during_cut="pause"` it rests while a stream that was carried has lost its last connection.
        """
        if not speed > 0:
            raise ValueError(f"speed: {speed} is not above zero")
        self.patient = speed == math.inf
        self._speed = speed
        self._start_delay = start_delay
        self._during_cut = during_cut
        self._skin = skin
        prepared, self._made_up = skin.prepared(lines)
        self._script = _script(prepared, skin)
        self.symbols = tuple(dict.fromkeys(entry.symbol for _, entry in self._script))
        messages = [entry for _, entry in self._script if isinstance(entry, Message)]
        self.streams = frozenset(message.stream for message in messages)
        """Those that something is said on."""
        self.kinds = Counter(
            "orderbook" if message.kind == "snapshot" else message.kind for message in messages
        )
        """How many messages there are of each kind, data types among them."""
        self._done = 0
        self._books: dict[str, Book] = {}
        self._first: dict[str, Snapshot] = {}
        self._sent: defaultdict[str, list[Update]] = defaultdict(list)
        self._known = {symbol: trio.Event() for symbol in self.symbols}
        self._awaited: dict[tuple[str, int], Snapshot | None] = {}
        """By symbol and limit, the answers to requests that came before their recorded moment."""

    async def play(self, stage: Stage) -> None:
        """Publish the capture once."""
        await stage.until(lambda: stage.last_subscription > -math.inf)
        settled = -math.inf
        while settled != stage.last_subscription:
            settled = stage.last_subscription
            await trio.sleep_until(settled + self._start_delay)
        due = trio.current_time()
        previous = self._script[0][0] if self._script else 0.0
        for at, entry in self._script:
            due += (at - previous) / self._speed
            previous = at
            await trio.sleep_until(due)
            if self._during_cut == "pause" and stage.interrupted:
                await stage.until(lambda: not stage.interrupted)
                due = trio.current_time()
            self._done += 1
            if isinstance(entry, Snapshot):
                self._take_on(entry)
                continue
            if entry.snapshot is not None:
                self._replace(entry.snapshot)
            elif entry.update is not None:
                self._apply(entry.update)
            await stage.publish(entry)
        for known in self._known.values():
            known.set()

    async def snapshot(self, symbol: str, limit: int, *, stale: bool = False) -> Snapshot | None:
        """The book as of the playback's position; before its recorded moment the answer waits, and
        is then of that moment, however much is played until it is fetched.
        """
        waits = not self._known[symbol].is_set()
        if waits:
            self._awaited[symbol, limit] = None
        await self._known[symbol].wait()
        if stale and symbol in self._first:
            return self._first[symbol]
        if waits and (answer := self._awaited[symbol, limit]) is not None:
            return answer
        book = self._books.get(symbol)
        return None if book is None else book.snapshot(limit)

    def greetings(self, stream: str) -> Sequence[Message]:
        """The book as of the playback's position, where the exchange tells it and it is known."""
        symbol = self._skin.book_symbol(stream)
        known = self._books.get(symbol or "")
        book = self._skin.book(known.snapshot(None)) if known else None
        return () if book is None else (book,)

    def renumber(self, symbol: str) -> None:
        """Never: a capture is played as it is."""
        raise ValueError(f"{symbol}: the ids are those of the capture")

    def position(self) -> dict[str, object]:
        """Lines played, all there are, and what of them is not as it was recorded."""
        return {
            "source": "capture",
            "line": self._done,
            "lines": len(self._script),
            "made_up": self._made_up,
        }

    def _apply(self, update: Update) -> None:
        self._sent[update.symbol].append(update)
        book = self._books.get(update.symbol)
        if book is None:
            return
        book.apply(update)
        if not book.whole:
            # The recorder lost messages here: nobody can know the book before its next snapshot.
            del self._books[update.symbol]
            self._known[update.symbol] = trio.Event()

    def _replace(self, snapshot: Snapshot) -> None:
        """A book told whole on its stream: as of now it is this one, whatever was before."""
        self._books[snapshot.symbol] = Book(snapshot)
        self._first.setdefault(snapshot.symbol, snapshot)
        self._known[snapshot.symbol].set()

    def _take_on(self, snapshot: Snapshot) -> None:
        """Begin a book; while one is whole a later snapshot tells nothing new."""
        symbol = snapshot.symbol
        if symbol in self._books:
            return
        # The recorded answer may be ahead of the updates sent so far, or behind them: its content
        # belongs to its own id, and only what came after that id is put upon it.
        book = Book(snapshot, self._sent[symbol])
        if not book.whole:
            return
        self._books[symbol] = book
        self._first.setdefault(symbol, snapshot)
        for asked, limit in self._awaited:
            if asked == symbol:
                self._awaited[asked, limit] = book.snapshot(limit)
        self._known[symbol].set()


def _script(lines: Sequence[Line], skin: Skin) -> list[tuple[float, Message | Snapshot]]:
    """The lines that something is done with, each with its time."""
    script: list[tuple[float, Message | Snapshot]] = []
    for line in lines:
        entry: Message | Snapshot | None = None
        if line.kind == "recv":
            entry = skin.recorded(line.raw)
        elif line.kind == "http":
            entry = skin.recorded_snapshot(line.url, line.raw)
        if entry is not None:
            script.append((line.at, entry))
    return script
