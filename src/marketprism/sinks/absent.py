"""What is on disk alone, by subject: enough to say what was lost, were it never to be read."""

from collections import Counter
from collections.abc import Iterable

import attrs

from marketprism.records import DataType, Gap
from marketprism.sinks.blocks import Numbered
from marketprism.sinks.identity import collected_at
from marketprism.sinks.losses import Losses
from marketprism.wire import Message


@attrs.define(eq=False)
class Absent:
    """Counts, and one message of each subject that is no younger than the others."""

    _counts: Counter[str] = attrs.field(factory=Counter)
    _eldest: dict[str, Message] = attrs.field(factory=dict)

    def add(self, batch: Iterable[Numbered]) -> None:
        """These are on disk, and not in memory."""
        for _, message in batch:
            self._counts[message.subject] += 1
            self._eldest.setdefault(message.subject, message)

    def remove(self, batch: Iterable[Numbered]) -> None:
        """These are in memory again."""
        self._counts.subtract(Counter(message.subject for _, message in batch))
        for subject in [each for each, count in self._counts.items() if not count]:
            del self._counts[subject], self._eldest[subject]

    def lose(self, losses: Losses, since: int, upto: int) -> None:
        """All of it is lost; the numbers it had lie between these."""
        # Gaps last: what is lost of the streams that they speak of must be there by then.
        for gaps in (False, True):
            self._lose(gaps, losses, since, upto)
        self._counts.clear()
        self._eldest.clear()

    def _lose(self, gaps: bool, losses: Losses, since: int, upto: int) -> None:
        for subject, count in self._counts.items():
            message = self._eldest[subject]
            if (message.data_type == Gap.data_type) != gaps:
                continue
            if gaps:
                losses.drop_gaps(message.instrument, count)
                continue
            stream = (message.instrument, DataType(message.data_type))
            losses.drop_unread(stream, count, since, upto, collected_at(message))
