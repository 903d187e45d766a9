"""What the board means, for people and for probes: /health, /status and /connections.

`judge` is pure: the board and a moment in, a verdict in plain words out.
"""

import importlib.metadata
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import attrs
import msgspec
import trio

from marketprism.board.board import Board
from marketprism.board.rows import QueueRow, SinkRow, SpoolRow
from marketprism.clock import SECOND, Timestamp
from marketprism.errors import SinkState
from marketprism.feeds.hosts import TRY
from marketprism.observe import stream_checks
from marketprism.observe.arrivals import voices
from marketprism.observe.checks import Check, Level, few, missing
from marketprism.observe.memory_report import high_words, size_text
from marketprism.observe.pages import Answer, Pages
from marketprism.observe.rates import Rates, resident_memory
from marketprism.observe.report import age, connections, status
from marketprism.redaction import redact
from marketprism.settings.nearest_names import unknown_words
from marketprism.supervise import BreakerState
from marketprism.wire import MAX_PAYLOAD_BYTES

STARTING_WITHIN = 60.0
"""Seconds after the start in which what is not there yet may still be coming."""
REMEMBERED = 600.0
"""Seconds for which a trouble counts that was not met again since."""
CLOCKS_APART = 1.0
"""Seconds by which an exchange's clock may differ from ours."""
NEARLY_FULL = 0.8
MORE_ROOM = "raise max_payload of the NATS server and max_msg_size of the stream, or lower depth"
"""What to do about messages that are too large."""


@attrs.frozen
class Verdict:
    """The answer of /health."""

    status_code: int
    body: dict[str, Any]


@cache
def version() -> str:
    """Our own; looked up on disk, which takes milliseconds, once."""
    try:
        return importlib.metadata.version("marketprism")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def judge(board: Board, now: Timestamp) -> Verdict:
    """How the collector is, by what the board says at a moment."""
    uptime = age(board.started, now) or 0.0
    young = uptime < STARTING_WITHIN
    found = voices(board)
    checks = {
        "sink": _sink(board, now, young),
        "embedded": _embedded(board),
        "venues": _venues(board, found, now, young),
        "connections": _connections(board, now, young),
        "streams": stream_checks.streams(board, found, now, young),
        "data": stream_checks.data(board, found, now, uptime),
        "hosts": _hosts(board, now),
        "clock": _clock(board),
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


def _sink(board: Board, now: Timestamp, young: bool) -> Check:
    row = board.sink
    troubled = row.state not in (SinkState.CONNECTING, SinkState.CONNECTED)
    words = [row.kind, *["not connected"] * (not row.connected)]
    words += [str(row.state).replace("_", " ")] * troubled
    if row.connected and not troubled:
        place = f"connected to {row.target or row.kind}"
        if oversize := list(_oversize(row, now)):
            return Check(Level.DEGRADED, f"{place}; {few(oversize)}; {MORE_ROOM}")
        return Check(Level.HEALTHY, place)
    if row.reason is None and row.connects == 0:
        return Check(missing(young, Level.UNHEALTHY), f"{row.kind}: not connected yet")
    return Check(Level.UNHEALTHY, ": ".join([*words, row.reason or "lost"]))


def _embedded(board: Board) -> Check:
    """Whether our own server is where others look for it."""
    row = board.sink
    if row.displaced is not None:
        return Check(Level.DEGRADED, row.displaced)
    return Check(Level.HEALTHY, f"listens on {row.embedded}" if row.embedded else "not used")


def _oversize(row: SinkRow, now: Timestamp) -> Iterator[str]:
    """What is too large for the server or its stream lately, so that it is not stored."""
    takes = min(row.most_bytes or MAX_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES)
    for data_type, each in row.too_large.items():
        if (ago := age(each.last, now) or 0.0) <= REMEMBERED:
            yield (
                f"{each.messages:,} messages of {data_type} were too large and are not stored, "
                f"the last {ago:.0f} s ago: up to {each.largest:,} bytes, and {takes:,} are taken"
            )


def _venues(board: Board, found: stream_checks.Voices, now: Timestamp, young: bool) -> Check:
    rows = board.venues.values()
    if not rows:
        return Check(missing(young, Level.UNHEALTHY), "no venue has begun")
    failed = [row for row in rows if row.state in ("failing", "refused")]
    words = [f"{row.name} is {row.state}: {row.reason or 'no reason known'}" for row in failed]
    level = Level.DEGRADED if failed else Level.HEALTHY
    if len(failed) == len(rows):
        level = Level.UNHEALTHY
    if waiting := [row.name for row in rows if row.state == "starting"]:
        level = max(level, missing(young, Level.DEGRADED))
        words += [f"{name} is starting" for name in waiting]
    for row in rows:
        if row.unmatched:
            level = max(level, Level.DEGRADED)
            words.append(f"{row.name} does not have {unknown_words(row.unmatched, row.nearest)}")
        if row.collisions:
            level = max(level, Level.DEGRADED)
            words.append(f"{row.name}: {few(row.collisions)}")
        if row.unknown:
            level = max(level, Level.DEGRADED)
            words.append(f"{row.name} could not say yet {few(row.unknown, ', ')}")
        if row.state == "running" and (silent := stream_checks.venue(row.name, board, found, now)):
            level = max(level, Level.DEGRADED)
            words.append(silent)
    return Check(level, few(words) or f"all {len(rows)} running")


def _connections(board: Board, now: Timestamp, young: bool) -> Check:
    # One that is about to take over from another is not missed while it is not there.
    rows = [row for row in board.connections.values() if row.state != "stopped" and not row.next]
    if not rows:
        return Check(missing(young, Level.HEALTHY), "none was opened")
    down = [row for row in rows if row.state != "connected"]
    if not down:
        return Check(Level.HEALTHY, f"all {len(rows)} connected")
    troubled = any(row.reason is not None for row in down)
    level = Level.DEGRADED if troubled else missing(young, Level.DEGRADED)
    words = []
    for row in down:
        since = age(row.down_since, now)
        words.append(f"{row.id} is {row.state}" + (f" for {since:.0f} s" if since else ""))
        words[-1] += f": {row.reason}" * bool(row.reason)
    return Check(level, f"{len(rows) - len(down)} of {len(rows)} connected; {few(words)}")


def _hosts(board: Board, now: Timestamp) -> Check:
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
        return Check(Level.DEGRADED, few(words))
    return Check(Level.HEALTHY, "all that were called can be reached")


def _clock(board: Board) -> Check:
    """Whether our clock is the exchanges', as their stamps show."""
    words = [
        f"the stamps of {exchange} are {abs(clock.offset) / SECOND:.1f} s "
        f"{'ahead of' if clock.offset > 0 else 'behind'} our clock: check that NTP sets it"
        for exchange, clock in board.clocks.items()
        if clock.offset is not None and abs(clock.offset) > CLOCKS_APART * SECOND
    ]
    if words:
        return Check(Level.DEGRADED, few(words))
    return Check(Level.HEALTHY, "no exchange's is more than a second from ours")


def _queues(board: Board, now: Timestamp) -> Check:
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
        return Check(Level.DEGRADED, few(words))
    return Check(Level.HEALTHY, "all have room")


def _memory(board: Board) -> Check:
    row = board.memory
    words = [high_words(row)] if row.high else []
    if row.shed:
        words.append(f"given up to save memory: {', '.join(row.shed)}")
    if words:
        return Check(Level.DEGRADED, few(words))
    if row.soft is None:
        return Check(Level.HEALTHY, f"{size_text(row.used)}; no limit is known or configured")
    again = f" and {size_text(row.slack)} to use again" if row.slack else ""
    needed = size_text(row.used - row.slack)
    return Check(Level.HEALTHY, f"{needed}{again}, below {size_text(row.soft)}")


def _spool(row: SpoolRow, now: Timestamp) -> Iterator[str]:
    if row.state in ("spooling", "full"):
        seconds = age(row.since, now) or 0.0
        yield f"spooling: {row.held:,} messages on disk, the sink behind for {seconds:.0f} s"
    if row.state == "full":
        yield f"the spool is full, and takes no more in: {row.reason}"
    if row.state == "failed":
        yield f"the spool cannot be used: {row.reason}"
    if row.set_aside is not None:
        yield f"a spool could not be used and was set aside: {row.set_aside}"


def _share(row: QueueRow) -> float:
    records = row.held / row.capacity if row.capacity else 0.0
    size = row.held_bytes / row.capacity_bytes if row.capacity_bytes else 0.0
    return max(records, size)


class Health(Pages):
    """The ASGI application. `memory` gives the bytes that this process holds; `rates` are sampled
    elsewhere, too.
    """

    def __init__(
        self,
        board: Board,
        now: Callable[[], Timestamp],
        memory: Callable[[], int] = resident_memory,
        rates: Rates | None = None,
    ) -> None:
        rates = Rates() if rates is None else rates

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
