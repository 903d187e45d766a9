"""The rows of the board: what each task last said of itself."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from marketprism.errors import SinkState

if TYPE_CHECKING:
    from marketprism.streams.state import StreamState
    from marketprism.streams.subscription import Stream


def lasted(since: int | None, now: int | None) -> float | None:
    """Seconds from one monotonic time to another, as the log says them; None where one is not
    known.
    """
    return None if since is None or now is None else round((now - since) / 1e9, 3)


@attrs.define(eq=False)
class VenueRow:
    """One venue: whether it has its metadata, and runs. As flat as `/status` shows it."""

    name: str
    exchange: str
    market_type: str
    state: str = "starting"
    """`starting`, `running`, `failing` (the world), `refused` (our configuration or place)."""
    reason: str | None = None
    rest_host: str = ""
    """Whom it asks over REST."""
    failing_since: int | None = None
    """Monotonic nanoseconds; None while it runs."""
    instruments: int = 0
    unmatched: list[str] = attrs.field(factory=list)
    """Configured symbols that the exchange does not have."""
    nearest: dict[str, list[str]] = attrs.field(factory=dict)
    """Of the first few of those: what may have been meant, of what the exchange has."""
    collisions: list[str] = attrs.field(factory=list)
    """What is not collected, in words: its symbol is another instrument's."""
    unknown: list[str] = attrs.field(factory=list)
    """What of its metadata could not be had yet, in words; it is asked for again."""


@attrs.define(eq=False)
class ConnectionRow:
    """One feed's connection: all that its feed and it say of themselves, as flat as `/status` shows
    it.
    """

    id: str
    venue: str
    exchange: str
    market_type: str
    url: str
    state: str = "dialling"
    """`dialling`, `connected`, `waiting` (to dial again), `refused`, `stopped`."""
    reason: str | None = None
    """Why the last attempt ended, in words."""
    connected_since: int | None = None
    """Monotonic nanoseconds."""
    last_message: int | None = None
    """Monotonic nanoseconds of the last data frame."""
    down_since: int | None = None
    """Monotonic nanoseconds: since when there is none; None while it stands, or before the first
    attempt failed."""
    last_alive: int | None = None
    """Monotonic nanoseconds of the last data frame or pong: until then nothing was missed."""
    attempts: int = 0
    connects: int = 0
    frames: int = 0
    next: bool = False
    """It is about to take over from the connection of that id."""
    rotation_due: int | None = None
    """Monotonic nanoseconds: when another is to take over from it; None: never."""
    rotations: Counter[str] = attrs.field(factory=Counter)
    """How often another took over (`ok`), or could not (`failed`)."""
    streams: Mapping["Stream", "StreamState"] = attrs.field(factory=dict)

    @property
    def name(self) -> str:
        """Its id, told apart from that of the connection it takes over from."""
        return f"{self.id} (next)" if self.next else self.id

    @property
    def reconnects(self) -> int:
        """How often it came back."""
        return max(0, self.connects - 1)


@attrs.define(eq=False)
class HostRow:
    """One REST or websocket host, shared by all who call it."""

    host: str
    reachable: bool | None = None
    reason: str | None = None
    used_weight: int = 0
    weight_limit: int = 0
    blocked_until: int = 0
    """Monotonic nanoseconds: nobody may call it before."""
    unreachable_since: int | None = None
    """Monotonic nanoseconds; None while it can be reached."""
    troubled_at: int = 0
    """Monotonic nanoseconds: when what `reason` says was found out last."""
    waiting: int = 0
    """Fetches that wait for room in the budget."""


@attrs.define(eq=False)
class TooLarge:
    """The messages of one data type that were too large for the sink."""

    messages: int = 0
    largest: int = 0
    """Bytes."""
    last: int = 0
    """Monotonic nanoseconds: when the latest was given up."""


@attrs.define(eq=False)
class SinkRow:
    """Where messages go: all that the sink says of itself, as flat as `/status` shows it."""

    kind: str = "nats"
    connected: bool = False
    """A connection stands; whether anything is stored over it says the state."""
    state: SinkState = SinkState.CONNECTING
    reason: str | None = None
    """Why nothing is stored, in words."""
    target: str = ""
    embedded: str | None = None
    """Where our own server listens; None: there is none."""
    troubled_at: float | None = None
    """By Trio's clock: since when nothing is stored; None while it is."""
    displaced: str | None = None
    """Why that is not where it was asked to, and what to do, in words."""
    connects: int = 0
    in_flight: int = 0
    oldest_message: int | None = None
    """When the oldest message of the stream was stored, by the server's clock, wall nanoseconds, as
    it last said; None where there is none, or it does not say."""
    acknowledged: int = 0
    duplicates: int = 0
    """Messages that the stream had already: re-sent by us, or told by another collector."""
    oversize: int = 0
    """Messages too large to be stored; a gap is in the place of each but snapshots of books."""
    too_large: dict[str, TooLarge] = attrs.field(factory=dict)
    """Those, by data type."""
    most_bytes: int | None = None
    """What the server and the stream take in one message, headers and all; None: not known."""

    def give_up(self, data_type: str, size: int, monotonic: int) -> None:
        """A message of so many bytes is too large to be stored."""
        self.oversize += 1
        row = self.too_large.setdefault(data_type, TooLarge())
        row.messages += 1
        row.largest, row.last = max(row.largest, size), monotonic

    def troubled(self, now: float) -> None:
        """Nothing is stored, from `now` on unless that is so already; by Trio's clock."""
        if self.troubled_at is None:
            self.troubled_at = now

    def after(self, now: float) -> dict[str, float]:
        """What the log says of how long nothing was stored; nothing where there was no trouble."""
        return {} if self.troubled_at is None else {"after": round(now - self.troubled_at, 3)}


@attrs.define(eq=False)
class QueueRow:
    """A bounded queue: how full it is."""

    held: int = 0
    capacity: int = 0
    held_bytes: int = 0
    capacity_bytes: int = 0
    conflating: bool = False
    """For the channel: books give way to the rest."""


@attrs.define(eq=False)
class MemoryRow:
    """What the memory guard last saw. Sizes are bytes; None where nothing says how much is much."""

    used: int = 0
    """Resident."""
    slack: int = 0
    """The part of it that is free to be used again, about."""
    limit: int | None = None
    """Our control group's."""
    soft: int | None = None
    hard: int | None = None
    source: str = "none"
    """Where the bounds come from: `cgroup v2`, `cgroup v1`, `configured`, `none`."""
    shed: list[str] = attrs.field(factory=list)
    """What was shed to save memory, and is not taken up again."""
    holders: dict[str, dict[str, int]] = attrs.field(factory=dict)
    """Who holds it, the largest first: sizes, which are estimates, and counts."""

    @property
    def high(self) -> bool:
        return self.soft is not None and self.used - self.slack >= self.soft


@attrs.define(eq=False)
class SpoolRow:
    """What of the outbox is on disk."""

    state: str = "off"
    """`off`, `idle` (usable, and nothing on it), `spooling`, `full` (what comes waits in memory),
    `failed`.
    """
    reason: str | None = None
    """Why it failed, or is full, in words."""
    path: str = ""
    held: int = 0
    """Messages that are on disk and not in memory."""
    held_bytes: int = 0
    """Of their payload."""
    file_bytes: int = 0
    """What its file uses, the log of changes beside it not counted."""
    capacity_bytes: int = 0
    since: int | None = None
    """Monotonic nanoseconds: since when messages go to disk."""
    dropped: int = 0
    """Messages that a damaged disk lost since the start; each lies inside a gap."""
    set_aside: str | None = None
    """A file that could not be used, and where it is now."""
