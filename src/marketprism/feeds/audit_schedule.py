"""When a book is compared with a fresh snapshot next. Pure."""

from typing import Final
from zlib import crc32

import attrs

from marketprism.clock import SECOND, Timestamp

AGAIN_AFTER: Final = 60 * SECOND
"""From an audit that came to nothing, or found the book wrong, to the next; and between two for
which a book has grown thin."""
EXHAUSTED_AGAIN_AFTER: Final = 10 * SECOND
"""The same, where a side of the book has run out, so that nothing can be published of it."""


@attrs.define(eq=False)
class Schedule:
    """Of the audits of one book."""

    interval: float
    """Seconds between two audits; 0: only when the book has grown thin."""
    due: int | None = None
    """Monotonic; None: never."""
    hurried: bool = False
    """The book has grown thin: fewer levels are known than should be shown."""
    exhausted: bool = False
    """Of a side no level is known any more."""
    began: int | None = None
    """Monotonic: when the last audit did."""

    def proved(self, native_id: str, now: Timestamp) -> None:
        """The book is a fresh snapshot. Its first audit comes at a time of its own, so that those
        of a whole market are spread out.
        """
        self.began = now.monotonic
        self.settle()
        share = crc32(native_id.encode()) / 2**32
        wait = round(self.interval * share * SECOND)
        self.due = now.monotonic + wait if self.interval else None

    def go_on_from(self, old: "Schedule") -> None:
        """The book came from another connection."""
        self.due, self.began = old.due, old.began
        self.hurried, self.exhausted = old.hurried, old.exhausted

    def hurry(self, now: Timestamp, *, exhausted: bool) -> None:
        """Too little of the book is known: soon, and no more often than is fair."""
        self.hurried, self.exhausted = True, exhausted
        pause = EXHAUSTED_AGAIN_AFTER if exhausted else AGAIN_AFTER
        soon = now.monotonic if self.began is None else max(now.monotonic, self.began + pause)
        self.due = soon if self.due is None else min(self.due, soon)

    def begin(self, now: Timestamp) -> None:
        """One begins. Should it be interrupted, another follows soon; else its end says when."""
        self.began = now.monotonic
        self.retry(now)

    def settle(self) -> None:
        """There is no hurry any more."""
        self.hurried = self.exhausted = False

    def retry(self, now: Timestamp, least: int = 0) -> None:
        """It came to nothing, or found something: another soon, in `least` nanoseconds or more."""
        soon = min(AGAIN_AFTER, round(self.interval * SECOND) or AGAIN_AFTER)
        self.due = now.monotonic + max(soon, least)

    def agreed(self, now: Timestamp) -> None:
        """The book is right: not before long."""
        self.due = now.monotonic + round(self.interval * SECOND) if self.interval else None
