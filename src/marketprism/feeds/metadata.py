"""When a venue's list of markets is asked for again. Pure: all times are monotonic seconds.

Nothing that an exchange says of its markets is for ever: one that it does not list may be listed
later, one that is halted trades again, a list may come without half of its rows. So it is asked
for again for as long as something is missing, and when a stream gives reason to doubt it.
"""

import math
from collections.abc import Hashable, Iterable

import attrs

from marketprism.board.stream_row import StreamRow
from marketprism.streams.state import Phase
from marketprism.streams.subscription import Stream

FIRST = 30.0
"""Seconds until what is newly missing, or was not answered, is asked for again, at most."""
APART = 30.0
"""Seconds between two readings for which there is evidence, at least."""
JITTER = 0.1
"""The part of a long wait by which it is shortened at random, so that not all ask at once."""

Doubt = tuple[Stream, str]
"""A stream, and why its market may not be what the list says."""


def doubt(row: StreamRow) -> str | None:
    """Why a stream gives reason to ask how its market stands; None: it does not."""
    if row.live is None or row.standing is not None:
        return None
    if row.live.phase is Phase.PARKED:
        return "parked"
    if row.alarm is not None and (row.alarm != "renew" or row.quiet_limit is not None):
        # Of what may be silent, a first long silence is none: it is often its own.
        return row.alarm
    return None


@attrs.define
class Rereads:
    """The readings of one venue's metadata."""

    patience: float
    """Seconds between two readings while something stays missing: `refused_retry`."""
    due: float = math.inf
    """When it is to be read again, whatever the streams say."""
    _read_at: float = -math.inf
    _missing: frozenset[Hashable] = frozenset()
    _doubts: frozenset[Doubt] = frozenset()
    _evidence: bool = False

    def done(
        self, missing: Iterable[Hashable], now: float, jitter: float, *, soon: bool = False
    ) -> None:
        """It was read. What is `missing`: markets that are not listed or do not trade, answers
        that did not come; `soon`: of these one may come any time. `jitter` is uniform in [0, 1).
        """
        missing = frozenset(missing)
        news, self._missing = missing - self._missing, missing
        self._read_at, self._evidence = now, False
        self.due = math.inf
        if news or soon:
            self.due = now + min(FIRST, self.patience)
        elif missing or self._doubts:
            self.due = now + self._slow(jitter)

    def failed(self, now: float, jitter: float, *, passing: bool) -> None:
        """There was no answer. `passing`: the host may have one the next time."""
        self._read_at, self._evidence = now, False
        self.due = now + (min(FIRST, self.patience) if passing else self._slow(jitter))

    def look(self, doubts: Iterable[Doubt], now: float) -> bool:
        """Whether it is to be read now. A doubt counts once, until it is dispelled: a group that
        is halted is one reading, and so is what stays halted.
        """
        doubts = frozenset(doubts)
        self._evidence |= bool(doubts - self._doubts)
        self._doubts = doubts
        return now >= self.due or (self._evidence and now >= self._read_at + APART)

    def _slow(self, jitter: float) -> float:
        return self.patience * (1 - JITTER * jitter)
