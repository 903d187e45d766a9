"""The line that the log has once a minute: how much came, how much is stored, and what is down.

Pure: from the board, and what it was the time before. What is down is what /health says, so the
line is also the reminder of whatever stays down.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import attrs

from marketprism.board.board import Board, Origin
from marketprism.clock import SECOND, Timestamp
from marketprism.observe.health import judge


@attrs.frozen
class _Totals:
    """All that was counted until a moment."""

    at: int
    """Monotonic nanoseconds."""
    received: Counter[Origin]
    stored: int
    gaps: int
    lost: int

    @classmethod
    def of(cls, board: Board, at: int) -> "_Totals":
        stored, gaps, lost = (each.total() for each in (board.published, board.gaps, board.lost))
        return cls(at, Counter(board.received), stored, gaps, lost)


class Summary:
    """What the log is told of each stretch of time."""

    def __init__(self, board: Board, now: Timestamp) -> None:
        self._board = board
        self._before = _Totals.of(board, now.monotonic)

    def due_in(self, interval: float, now: Timestamp) -> float:
        """Seconds until a stretch of so many seconds is over."""
        return interval - (now.monotonic - self._before.at) / SECOND

    def take(self, now: Timestamp) -> tuple[bool, dict[str, Any]]:
        """Whether all is well, and what there is to say of the time since the last one."""
        board, before = self._board, self._before
        self._before = current = _Totals.of(board, now.monotonic)
        seconds = max(1, now.monotonic - before.at) / SECOND
        verdict = judge(board, now).body
        down = [
            f"{name}: {check['detail']}"
            for name, check in verdict["checks"].items()
            if check["status"] in ("degraded", "unhealthy")
        ]
        return not down, {
            "seconds": round(seconds, 3),
            "received_per_second": round(
                (current.received.total() - before.received.total()) / seconds, 3
            ),
            "stored_per_second": round((current.stored - before.stored) / seconds, 3),
            "markets": _by_market(current.received, before.received, seconds),
            "gaps": current.gaps - before.gaps,
            "lost": current.lost - before.lost,
            "held": board.channel.held + board.outbox.held,
            "memory_bytes": board.memory.used,
            "health": verdict["status"],
            "down": down,
        }


def _by_market(
    received: Mapping[Origin, int], before: Mapping[Origin, int], seconds: float
) -> dict[str, float]:
    """Records a second of each market of which there ever were any: one that is silent is 0."""
    counts: Counter[str] = Counter()
    for origin, total in received.items():
        counts[f"{origin[0]}.{origin[1]}"] += total - before.get(origin, 0)
    return {market: round(count / seconds, 3) for market, count in sorted(counts.items())}


def totals(board: Board) -> dict[str, int]:
    """What became of all that was read, for the last line of the log."""
    return {
        "received": sum(board.received.values()),
        "gaps": sum(board.gaps.values()),
        "stored": sum(board.published.values()),
        "duplicates": board.sink.duplicates,
        "lost": sum(board.lost.values()),
        "conflated": sum(board.conflated.values()),
    }
