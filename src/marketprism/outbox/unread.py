"""What is on disk alone, by kind: enough to say what was lost, were it never to be read."""

from collections.abc import Iterable, Mapping

import attrs
import msgspec

from marketprism.outbox.blocks import Numbered
from marketprism.outbox.contents import Content, Kind, LostBlock, contents, joined
from marketprism.outbox.lost_stretches import LostStretches


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

    def lose(self, losses: LostStretches, since: int, upto: int) -> None:
        """All of it is lost; the numbers it had lie between these."""
        losses.drop_block(LostBlock(since, upto, tuple(self._contents.values())))
        self._contents.clear()
