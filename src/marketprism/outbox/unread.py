"""What is on disk alone, by kind: enough to say what was lost, were it never to be read."""

from collections.abc import Iterable, Mapping

import attrs
import msgspec

from marketprism.outbox.block import Numbered
from marketprism.outbox.contents import Content, Kind, contents, joined


@attrs.define(eq=False)
class Unread:
    """Counts, and since when, at the latest, there are messages of each kind."""

    _contents: dict[Kind, Content] = attrs.field(factory=dict)

    def add(self, batch: Iterable[Numbered]) -> None:
        """These are on disk, and not in memory."""
        more = contents(message for _, message in batch)
        self._contents |= joined(
            part for each in more for part in (self._contents.get(each.kind), each) if part
        )

    def remove(self, batch: Iterable[Numbered]) -> None:
        """These are in memory again."""
        for gone in contents(message for _, message in batch):
            there = self._contents[gone.kind]
            left = (there.count or 0) - (gone.count or 0)
            if left:
                self._contents[gone.kind] = msgspec.structs.replace(there, count=left)
            else:
                del self._contents[gone.kind]

    def replace(self, found: Mapping[Kind, Content]) -> None:
        """That is what is on disk, and not in memory."""
        self._contents = dict(found)

    def lose(self) -> list[Content]:
        """All of it is lost: what it was."""
        lost = list(self._contents.values())
        self._contents.clear()
        return lost
