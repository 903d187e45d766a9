"""The board as plain data, for /status and /connections. Pure, but for what asks psutil.

Durations are seconds, times RFC 3339 in UTC; nobody's password is in it.
"""

from typing import Any

from marketprism.board.board import Board
from marketprism.board.rows import ConnectionRow, HostRow, MemoryRow, QueueRow, SpoolRow, VenueRow
from marketprism.board.stream_row import StreamRow
from marketprism.board.tally import Tally
from marketprism.clock import SECOND, Timestamp
from marketprism.feeds.hosts import host_of
from marketprism.observe import log
from marketprism.observe.rates import Rates, counted
from marketprism.redaction import HIDDEN, redact
from marketprism.times import time_text


def age(then: int | None, now: Timestamp) -> float | None:
    """Seconds since a monotonic time."""
    return None if then is None else max(0, now.monotonic - then) / SECOND


def wall_age(then: int | None, now: Timestamp) -> float | None:
    """Seconds since a time on a calendar; clocks permitting."""
    return None if then is None else max(0, now.wall - then) / SECOND


def wall_text(then: int | None, now: Timestamp) -> str | None:
    """A monotonic time as people write it, to the millisecond."""
    if then is None:
        return None
    nanoseconds = now.wall - (now.monotonic - then)
    return time_text(nanoseconds // 1_000_000 * 1_000_000)


def shown_url(url: str) -> str:
    """A URL without user and password."""
    return redact(url).replace(f"{HIDDEN}@", "")


def status(board: Board, now: Timestamp, rates: Rates, memory: int) -> dict[str, Any]:
    """The whole board but its connections; `memory` in bytes."""
    totals = counted(board)
    uptime = age(board.started, now) or 0.0
    average = {name: round(total / uptime, 3) if uptime else 0 for name, total in totals.items()}
    return {
        "started_at": wall_text(board.started, now),
        "memory": _memory(board.memory, memory),
        "totals": totals
        | {
            "conflated": board.conflated.total(),
            "gaps": board.gaps.total(),
            "rejected_frames": board.rejected.total(),
            "survived_faults": board.faults.total(),
        },
        "records_per_second": {
            "since_start": {"over_seconds": round(uptime, 3)} | average,
            "recent": rates.sample(now.monotonic, totals),
        },
        "latency_seconds": _latencies(board),
        "exchange_clocks": [
            {"exchange": exchange, "offset_seconds": _seconds(clock.offset)}
            for exchange, clock in sorted(board.clocks.items())
        ],
        "sink": _sink(board, now),
        "queues": {
            "channel": _queue(board.channel) | {"conflating": board.channel.conflating},
            "outbox": _queue(board.outbox),
            "spool": _spool(board.spool, now),
        },
        "venues": [_venue(row) for row in board.venues.values()],
        "streams": [_stream(row, now) for row in board.stream_rows()],
        "hosts": [_host(board, row, now) for row in board.hosts.values()],
        "rejected": [
            {"venue": venue, "reason": reason, "frames": count}
            for (venue, reason), count in board.rejected.items()
        ],
        "faults": dict(board.faults),
        "log_lines_lost": log.lost_lines(),
    }


def _latencies(board: Board) -> dict[str, Any]:
    return {
        "processing": _quantiles(board.processing),
        "acknowledgement": _quantiles(board.acknowledgement),
        "exchange_to_collector": {
            exchange: _quantiles(tally) for exchange, tally in sorted(board.transit.items())
        },
    }


def _venue(row: VenueRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "exchange": row.exchange,
        "market_type": row.market_type,
        "state": row.state,
        "reason": _clean(row.reason),
        "instruments": row.instruments,
        "unknown_symbols": row.unmatched,
        "collisions": row.collisions,
        "nearest_symbols": row.nearest,
        "unknown_metadata": row.unknown,
    }


def _host(board: Board, row: HostRow, now: Timestamp) -> dict[str, Any]:
    return {
        "host": row.host,
        "reachable": row.reachable,
        "reason": _clean(row.reason),
        "used_weight": row.used_weight,
        "weight_limit": row.weight_limit,
        "blocked_for_seconds": max(0, row.blocked_until - now.monotonic) / SECOND,
        "blocked_until": _blocked_until(board, row.host, now),
        "waiting": row.waiting,
    }


def connections(board: Board, now: Timestamp) -> list[dict[str, Any]]:
    """One row a connection."""
    return [_connection(board, row, now) for row in board.connections.values()]


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else round(nanoseconds / SECOND, 3)


def _until(then: int | None, now: Timestamp) -> float | None:
    return None if then is None else max(0, then - now.monotonic) / SECOND


def _blocked_until(board: Board, host: str, now: Timestamp) -> str | None:
    """Until when a host said to stop; None: it may be called."""
    row = board.hosts.get(host)
    if row is None or row.blocked_until <= now.monotonic:
        return None
    return wall_text(row.blocked_until, now)


def breaker_state(board: Board, kind: str, host: str, now: Timestamp) -> str:
    """`closed`, `open` or `half-open`."""
    breaker = board.breakers.get((kind, host))
    return "closed" if breaker is None else str(breaker.state(now.monotonic))


def _connection(board: Board, row: ConnectionRow, now: Timestamp) -> dict[str, Any]:
    connected, venue = row.state == "connected", board.venues.get(row.venue)
    return {
        "id": row.name,
        "venue": row.venue,
        "url": shown_url(row.url),
        "state": row.state,
        "reason": _clean(row.reason),
        "connected_since": wall_text(row.connected_since, now),
        "last_message_age_seconds": age(row.last_message, now),
        "reconnects": row.reconnects,
        "breaker": breaker_state(board, "websocket", host_of(row.url), now),
        "blocked_until": _blocked_until(board, host_of(row.url), now),
        "rest_blocked_until": _blocked_until(board, venue.rest_host if venue else "", now),
        "rotation_due_seconds": _until(row.rotation_due, now),
        "rotations": {outcome: row.rotations[outcome] for outcome in ("ok", "failed")},
        "streams": [
            {
                "data_type": data_type,
                "symbol": state.instrument.symbol,
                # The last session's states stay on the row when it has ended.
                "state": state.phase if connected else "disconnected",
            }
            for (data_type, _), state in row.streams.items()
        ],
    }


def _stream(row: StreamRow, now: Timestamp) -> dict[str, Any]:
    gap = row.cursor.gap if row.cursor is not None else None
    return {
        "venue": row.venue,
        "connection": row.connection,
        "exchange": row.instrument.exchange,
        "market_type": row.instrument.market_type,
        "data_type": row.data_type,
        "symbol": row.instrument.symbol,
        "instrument_id": row.instrument.native_id,
        "state": row.state,
        "detail": _clean(row.detail),
        "last_record_age_seconds": age(row.last_seen, now),
        "records": row.records,
        "duplicates": row.duplicates,
        "stamps_ahead": row.stamps_ahead,
        "gaps": row.gaps,
        "resyncs": row.resyncs,
        "audits": row.audits,
        "alarm": row.alarm,
        "open_gap": gap
        and {"since": time_text(gap.started_at), "reason": gap.reason, "detail": gap.why},
    }


def _sink(board: Board, now: Timestamp) -> dict[str, Any]:
    row = board.sink
    return {
        "kind": row.kind,
        "target": shown_url(row.target),
        "embedded": row.embedded,
        "displaced": row.displaced,
        "connected": row.connected,
        "state": row.state,
        "reason": _clean(row.reason),
        "reconnects": max(0, row.connects - 1),
        "in_flight": row.in_flight,
        "spooled": board.spool.held,
        "acknowledged": row.acknowledged,
        "duplicates": row.duplicates,
        "oversize": row.oversize,
        "oldest_message_age_seconds": wall_age(row.oldest_message, now),
        "oversize_by_data_type": {kind: each.messages for kind, each in row.too_large.items()},
        "most_bytes": row.most_bytes,
    }


def _memory(row: MemoryRow, resident: int) -> dict[str, Any]:
    return {
        "rss_bytes": resident,
        "limit_bytes": row.limit,
        "soft_bytes": row.soft,
        "hard_bytes": row.hard,
        "source": row.source,
        "shed": row.shed,
        "holders": row.holders,
    }


def _queue(row: QueueRow) -> dict[str, int]:
    return {
        "held": row.held,
        "capacity": row.capacity,
        "held_bytes": row.held_bytes,
        "capacity_bytes": row.capacity_bytes,
    }


def _spool(row: SpoolRow, now: Timestamp) -> dict[str, Any]:
    return {
        "state": row.state,
        "reason": _clean(row.reason),
        "path": row.path,
        "held": row.held,
        "held_bytes": row.held_bytes,
        "file_bytes": row.file_bytes,
        "capacity_bytes": row.capacity_bytes,
        "since_seconds": age(row.since, now),
        "dropped": row.dropped,
        "set_aside": _clean(row.set_aside),
    }


def _quantiles(tally: Tally) -> dict[str, float | int | None]:
    """Upper bounds of the buckets that hold them."""
    return {
        "count": tally.count,
        "p50": tally.quantile(0.5),
        "p90": tally.quantile(0.9),
        "p99": tally.quantile(0.99),
    }


def _clean(text: str | None) -> str | None:
    return None if text is None else redact(text)
