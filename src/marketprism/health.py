"""What the board means, for people and for probes: /health, /status and /connections.

`judge` is pure: the board and a moment in, a verdict in plain words out.
"""

import importlib.metadata
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from typing import Any

import attrs
import msgspec
import trio

from marketprism.errors import SinkState
from marketprism.feeds.hosts import TRY
from marketprism.feeds.venue import Moment, Phase
from marketprism.holdings import high_words, size_text
from marketprism.pages import Answer, Pages
from marketprism.records import DataType
from marketprism.redaction import redact
from marketprism.report import Rates, age, connections, resident_memory, status
from marketprism.status import Board, QueueRow, SpoolRow, StreamRow
from marketprism.supervise import BreakerState

SECOND = 1_000_000_000
STARTING_WITHIN = 60.0
"""Seconds after the start in which what is not there yet may still be coming."""
NOTHING_FOR = 60.0
"""Seconds without any data from anywhere, after which nothing is arriving."""
SLOW = 900.0
"""The same where nothing of what is collected comes often: three rows of five minutes."""
REMEMBERED = 600.0
"""Seconds for which a host is in trouble that nobody has called since."""
NEARLY_FULL = 0.8
NAMED = 5
"""Troubles of one kind that are named; the rest are counted."""

BUSY = {
    DataType.ORDERBOOK,
    DataType.TRADE,
    DataType.FUNDING_RATE,
    DataType.VOLATILITY_INDEX,
}
"""What is never silent for a minute in all streams together; the rest comes when it comes."""


class Level(IntEnum):
    """How it is; the worst check gives the answer."""

    HEALTHY = 0
    STARTING = 1
    DEGRADED = 2
    UNHEALTHY = 3


@attrs.frozen
class Check:
    """One thing that was looked at."""

    level: Level
    detail: str
    """In words."""


@attrs.frozen
class Verdict:
    """The answer of /health."""

    status_code: int
    body: dict[str, Any]


def version() -> str:
    """Our own."""
    try:
        return importlib.metadata.version("marketprism")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def judge(board: Board, now: Moment) -> Verdict:
    """How the collector is, by what the board says at a moment."""
    uptime = age(board.started, now) or 0.0
    young = uptime < STARTING_WITHIN
    checks = {
        "sink": _sink(board, young),
        "venues": _venues(board, young),
        "connections": _connections(board, young),
        "streams": _streams(board, now, young),
        "data": _data(board, now, uptime),
        "hosts": _hosts(board, now),
        "queues": _queues(board, now),
        "memory": _memory(board),
    }
    worst = max(check.level for check in checks.values())
    body = {
        "status": worst.name.lower(),
        "checks": {
            name: {"status": check.level.name.lower(), "detail": redact(check.detail)}
            for name, check in checks.items()
        },
        "uptime_seconds": round(uptime, 3),
        "version": version(),
    }
    return Verdict(503 if worst is Level.UNHEALTHY else 200, body)


def _missing(young: bool, otherwise: Level) -> Level:
    """What is not there yet: still coming, or amiss."""
    return Level.STARTING if young else otherwise


def _sink(board: Board, young: bool) -> Check:
    row = board.sink
    troubled = row.state not in (SinkState.CONNECTING, SinkState.CONNECTED)
    words = [row.kind, *["not connected"] * (not row.connected)]
    words += [str(row.state).replace("_", " ")] * troubled
    if row.connected and not troubled:
        return Check(Level.HEALTHY, f"connected to {row.target or row.kind}")
    if row.reason is None and row.connects == 0:
        return Check(_missing(young, Level.UNHEALTHY), f"{row.kind}: not connected yet")
    return Check(Level.UNHEALTHY, ": ".join([*words, row.reason or "lost"]))


def _venues(board: Board, young: bool) -> Check:
    rows = board.venues.values()
    if not rows:
        return Check(_missing(young, Level.UNHEALTHY), "no venue has begun")
    failed = [row for row in rows if row.state in ("failing", "refused")]
    words = [f"{row.name} is {row.state}: {row.reason or 'no reason known'}" for row in failed]
    level = Level.DEGRADED if failed else Level.HEALTHY
    if len(failed) == len(rows):
        level = Level.UNHEALTHY
    if waiting := [row.name for row in rows if row.state == "starting"]:
        level = max(level, _missing(young, Level.DEGRADED))
        words += [f"{name} is starting" for name in waiting]
    for row in rows:
        if row.unmatched:
            level = max(level, Level.DEGRADED)
            words.append(f"{row.name} does not have {_few(row.unmatched, ', ')}")
    return Check(level, _few(words) or f"all {len(rows)} running")


def _connections(board: Board, young: bool) -> Check:
    # One that is about to take over from another is not missed while it is not there.
    rows = [row for row in board.connections.values() if row.state != "stopped" and not row.next]
    if not rows:
        return Check(_missing(young, Level.HEALTHY), "none was opened")
    down = [row for row in rows if row.state != "connected"]
    if not down:
        return Check(Level.HEALTHY, f"all {len(rows)} connected")
    troubled = any(row.reason is not None for row in down)
    level = Level.DEGRADED if troubled else _missing(young, Level.DEGRADED)
    words = [f"{row.id} is {row.state}" + (f": {row.reason}" * bool(row.reason)) for row in down]
    return Check(level, f"{len(rows) - len(down)} of {len(rows)} connected; {_few(words)}")


def _streams(board: Board, now: Moment, young: bool) -> Check:
    late, parked = [], []
    for row in board.stream_rows():
        if row.state == Phase.PARKED:
            parked.append(f"{_name(row)} is given up: {_detail(row) or 'no reason known'}")
        elif row.state != Phase.LIVE:
            late.append(f"{_name(row)} is {_said(row.state)}{_because(row)}")
        elif row.alarm is not None:
            silent = age(row.last_seen or board.started, now) or 0.0
            late.append(f"{_name(row)} has been silent for {silent:.0f} s ({row.alarm})")
        elif row.quiet_limit is not None:
            # A stream that has never spoken is silent since its process began.
            silent = age(row.last_seen or board.started, now) or 0.0
            if silent > row.quiet_limit:
                late.append(f"{_name(row)} has been silent for {silent:.0f} s")
    total = len(board.streams)
    if not total:
        return Check(_missing(young, Level.HEALTHY), "none was begun")
    level = _missing(young, Level.DEGRADED) if late else Level.HEALTHY
    # Once there was data, to be without it is news, however young we are.
    if any(row.state == "disconnected" and row.last_seen for row in board.stream_rows()):
        level = Level.DEGRADED
    if parked:
        level = Level.DEGRADED
    trouble = parked + late
    if not trouble:
        return Check(level, f"all {total} live")
    return Check(level, f"{total - len(trouble)} of {total} live; {_few(trouble)}")


def _data(board: Board, now: Moment, uptime: float) -> Check:
    """Whether anything is arriving, from anywhere."""
    times = [row.last_message for row in board.connections.values()]
    times += [row.last_seen for row in board.stream_rows()]
    last = max((time for time in times if time is not None), default=None)
    words = "nothing yet" if last is None else f"the last came {age(last, now) or 0.0:.1f} s ago"
    busy = any(row.data_type in BUSY for row in board.stream_rows())
    rows = board.connections.values()
    if last is not None and (age(last, now) or 0.0) <= (NOTHING_FOR if busy else SLOW):
        return Check(Level.HEALTHY, words)
    if last is None and uptime <= NOTHING_FOR:
        hopeless = rows and all(row.state in ("waiting", "refused") for row in rows)
        return Check(Level.UNHEALTHY if hopeless else Level.STARTING, words)
    if not busy and any(row.state == "connected" for row in rows):
        return Check(Level.HEALTHY, f"{words}; what is collected may be silent for long")
    return Check(Level.UNHEALTHY, f"nothing is arriving: {words}")


def _hosts(board: Board, now: Moment) -> Check:
    words = [
        f"{host} ({kind}) failed {breaker.failures} times in a row and is left alone for now"
        for (kind, host), breaker in board.breakers.items()
        if breaker.state(now.monotonic) is BreakerState.OPEN
    ]
    for row in board.hosts.values():
        recent = now.monotonic - row.troubled_at <= REMEMBERED * SECOND
        if row.reachable is False and recent:
            words.append(f"{row.host} cannot be reached: {row.reason or 'no answer'}; {TRY}")
        elif row.blocked_until > now.monotonic:
            seconds = (row.blocked_until - now.monotonic) / SECOND
            words.append(f"{row.host} told us to stop for another {seconds:.0f} s: {row.reason}")
        elif row.reason and recent:
            words.append(f"{row.host}: {row.reason}")
    if words:
        return Check(Level.DEGRADED, _few(words))
    return Check(Level.HEALTHY, "all that were called can be reached")


def _queues(board: Board, now: Moment) -> Check:
    words = [
        f"the {name} is {share:.0%} full: {meaning}"
        for name, row, meaning in (
            ("channel", board.channel, "records are read faster than they are handled"),
            ("outbox", board.outbox, "messages wait for the sink"),
        )
        if (share := _share(row)) > NEARLY_FULL
    ]
    if board.channel.conflating:
        words.append("order books give way to the rest: their updates are withheld for now")
    words += _spool(board.spool, now)
    if words:
        return Check(Level.DEGRADED, _few(words))
    return Check(Level.HEALTHY, "all have room")


def _memory(board: Board) -> Check:
    row = board.memory
    words = [high_words(row)] if row.high else []
    if row.shed:
        words.append(f"given up to save memory: {', '.join(row.shed)}")
    if words:
        return Check(Level.DEGRADED, _few(words))
    if row.soft is None:
        return Check(Level.HEALTHY, f"{size_text(row.used)}; no limit is known or configured")
    again = f" and {size_text(row.slack)} to use again" if row.slack else ""
    needed = size_text(row.used - row.slack)
    return Check(Level.HEALTHY, f"{needed}{again}, below {size_text(row.soft)}")


def _spool(row: SpoolRow, now: Moment) -> Iterator[str]:
    if row.state in ("spooling", "full"):
        seconds = age(row.since, now) or 0.0
        yield f"spooling: {row.held:,} messages on disk, the sink behind for {seconds:.0f} s"
    if row.state == "full":
        yield f"the spool is full and the oldest are lost, {row.dropped:,} so far: {row.reason}"
    if row.state == "failed":
        yield f"the spool cannot be used: {row.reason}"
    if row.set_aside is not None:
        yield f"a spool could not be used and was set aside: {row.set_aside}"


def _share(row: QueueRow) -> float:
    records = row.held / row.capacity if row.capacity else 0.0
    size = row.held_bytes / row.capacity_bytes if row.capacity_bytes else 0.0
    return max(records, size)


def _few(words: Iterable[str], between: str = "; ") -> str:
    named = list(words)
    more = [f"and {len(named) - NAMED} more"] if len(named) > NAMED else []
    return between.join(named[:NAMED] + more)


def _name(row: StreamRow) -> str:
    return f"{row.venue} {row.data_type} {row.instrument.symbol}"


def _detail(row: StreamRow) -> str | None:
    return row.live.detail if row.live is not None else None


def _because(row: StreamRow) -> str:
    detail = _detail(row)
    return f": {detail}" if detail else ""


def _said(state: str) -> str:
    """A stream's state, as one would say it."""
    said = {Phase.WANTED: "not subscribed yet", Phase.ACKNOWLEDGED: "without data yet"}
    return said.get(Phase(state), state) if state in set(Phase) else state


class Health(Pages):
    """The ASGI application. `memory` gives the bytes that this process holds."""

    def __init__(
        self,
        board: Board,
        now: Callable[[], Moment],
        memory: Callable[[], int] = resident_memory,
    ) -> None:
        rates = Rates()

        def health() -> Answer:
            verdict = judge(board, now())
            return Answer(msgspec.json.encode(verdict.body), verdict.status_code)

        def whole() -> Answer:
            moment = now()
            head = judge(board, moment).body
            del head["checks"]
            tasks = {"tasks": trio.lowlevel.current_statistics().tasks_living}
            return Answer(
                msgspec.json.encode(head | tasks | status(board, moment, rates, memory()))
            )

        def links() -> Answer:
            return Answer(msgspec.json.encode({"connections": connections(board, now())}))

        super().__init__({"/health": health, "/status": whole, "/connections": links})
