"""How much came and is stored a second, and what memory it takes."""

from collections import deque
from typing import Any

import attrs
import psutil

from marketprism.board.board import Board
from marketprism.clock import SECOND

RATES_OVER = 10 * SECOND
"""How far the recent rates look back, once there are samples from so long ago."""


_process = psutil.Process()


def resident_memory() -> int:
    """Bytes of memory that this process holds."""
    return int(_process.memory_info().rss)


@attrs.define(eq=False)
class Rates:
    """How fast totals grow, from samples that were taken, one a second at most."""

    samples: deque[tuple[int, dict[str, int]]] = attrs.field(factory=deque)

    def sample(self, monotonic: int, totals: dict[str, int]) -> dict[str, Any]:
        """Take one; what was added a second since an earlier one: the youngest that is `RATES_OVER`
        ago, else the first. `over_seconds` says how long that is; None of the very first.
        """
        while len(self.samples) > 1 and self.samples[1][0] <= monotonic - RATES_OVER:
            self.samples.popleft()
        rates: dict[str, Any] = {"over_seconds": None} | dict.fromkeys(totals)
        if self.samples and (elapsed := (monotonic - self.samples[0][0]) / SECOND) > 0:
            before = self.samples[0][1]
            rates = {"over_seconds": round(elapsed, 3)} | {
                name: round((total - before.get(name, 0)) / elapsed, 3)
                for name, total in totals.items()
            }
        # One a second is enough, however often the page is asked for.
        if not self.samples or monotonic - self.samples[-1][0] >= SECOND:
            self.samples.append((monotonic, totals))
        return rates


def counted(board: Board) -> dict[str, int]:
    """The totals of which there are rates."""
    return {
        "received": board.received.total(),
        "published": board.published.total(),
        "lost": board.lost.total(),
    }
