"""Gaps in the log: each with its times, its ids and its cause, and one line for those of one cut.

A connection that is cut takes all its streams with it, and each of them has a gap of its own, told
when that stream goes on. Those of one connection and reason are put together until all of them are
told, or for a while; alone it is logged as it is. The records are published one by one, always.
Pure: whoever has a clock calls `log_complete` once a second.
"""

from collections.abc import Callable
from typing import Final

import attrs
import structlog

from marketprism.records import Gap
from marketprism.times import time_text

TOGETHER: Final = frozenset({"disconnect", "restart", "stale", "overflow"})
"""Reasons that streams share; what ids show is of one stream, and logged at once."""
_LASTING: Final = ("disconnect", "restart", "stale")
"""Of those, the reasons whose gaps stay open until each stream goes on by itself."""
PATIENCE: Final = 30
"""Looks after which the gaps of a connection are told, though some of its streams are still
without sight: those are told later, together again.
"""

log = structlog.get_logger()


@attrs.define
class _Group:
    """Gaps of one connection and reason."""

    gap: Gap
    """The first of them."""
    started_at: int
    ended_at: int
    number: int = 0
    lost: int = 0
    uncounted: int = 0
    """Those of which nobody knows how much they lost."""
    looks: int = 0
    grew: bool = True
    """Since the last look."""

    def add(self, gap: Gap) -> None:
        self.started_at = min(self.started_at, gap.started_at)
        self.ended_at = max(self.ended_at, gap.ended_at)
        self.number += 1
        self.lost += gap.lost or 0
        self.uncounted += gap.lost is None
        self.grew = True


@attrs.define(eq=False)
class GapLog:
    """What of the gaps is not in the log yet."""

    _groups: dict[tuple[str, str], _Group] = attrs.field(factory=dict)

    def tell(self, gap: Gap) -> None:
        """Log a gap now, or with those of its cut; a quiet one at DEBUG alone."""
        if gap.quiet:
            log.debug("stream.gap", **described(gap))
        elif gap.reason not in TOGETHER:
            log.warning("stream.gap", **described(gap))
        else:
            key = gap.connection, gap.reason
            group = self._groups.get(key)
            if group is None:
                group = self._groups[key] = _Group(gap, gap.started_at, gap.ended_at)
            else:
                if group.number == 1:
                    log.debug("stream.gap", **described(group.gap))
                log.debug("stream.gap", **described(gap))
            group.add(gap)

    def log_complete(self, open_gaps: Callable[[str], int]) -> None:
        """Log the groups that are complete: `open_gaps` says of how many streams of a connection
        sight is still lost.
        """
        for key, group in list(self._groups.items()):
            group.looks += 1
            waits = group.grew or (key[1] in _LASTING and open_gaps(key[0]) > 0)
            group.grew = False
            if not waits or group.looks >= PATIENCE:
                self._log(self._groups.pop(key))

    def close(self) -> None:
        """Log all that is left."""
        for group in self._groups.values():
            self._log(group)
        self._groups.clear()

    def _log(self, group: _Group) -> None:
        if group.number == 1:
            log.warning("stream.gap", **described(group.gap))
            return
        log.warning(
            "stream.gaps",
            connection=group.gap.connection,
            streams=group.number,
            reason=group.gap.reason,
            detail=group.gap.detail,
            started_at=time_text(group.started_at),
            ended_at=time_text(group.ended_at),
            seconds=_seconds(group.started_at, group.ended_at),
            lost=group.lost if group.uncounted < group.number else None,
            uncounted=group.uncounted,
        )


def _seconds(started_at: int, ended_at: int) -> float:
    return round((ended_at - started_at) / 1e9, 3)


def described(gap: Gap) -> dict[str, object]:
    """What the log says of one gap."""
    return {
        "connection": gap.connection,
        "symbol": gap.instrument.symbol,
        "data_type": str(gap.affected),
        "reason": gap.reason,
        "detail": gap.detail,
        "started_at": time_text(gap.started_at),
        "ended_at": time_text(gap.ended_at),
        "seconds": _seconds(gap.started_at, gap.ended_at),
        "first_missing_id": gap.first_missing_id,
        "last_missing_id": gap.last_missing_id,
        "lost": gap.lost,
    }
