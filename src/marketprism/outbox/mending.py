"""A damaged spool, written anew: what of it can be read, with gaps in the place of the rest.

Blocking, as the spool is.
"""

import sqlite3
from collections import deque
from collections.abc import Iterator

from marketprism.gaps.ids import GapStarts
from marketprism.outbox.block import Numbered
from marketprism.outbox.contents import LostBlock
from marketprism.outbox.damage import Damage
from marketprism.outbox.peek import gap_start
from marketprism.outbox.salvage import Found, readable_blocks
from marketprism.outbox.stored_blocks import StoredBlock, cut
from marketprism.records import Gap


def mended(
    damaged: sqlite3.Connection, found: Found, damage: Damage, handed_out: int
) -> Iterator[StoredBlock]:
    """The blocks that follow one another in its place. What may have been delivered ends at
    `handed_out`.
    """
    _note(damaged, found, damage.starts)
    lost = deque(sorted(found.lost, key=_first))
    for block in readable_blocks(damaged, found.keys):
        gaps: list[Numbered] = []
        while lost and lost[0].first <= block.last:
            gaps += damage.lose(lost.popleft(), handed_out)
        if gaps or damage:
            passed = damage.admit(block.messages())
            yield from cut(sorted([*gaps, *passed], key=_number))
        else:
            yield block
    for left in lost:
        yield from cut(damage.lose(left, handed_out))


def _note(damaged: sqlite3.Connection, found: Found, starts: GapStarts) -> None:
    """When the gaps began that are in it: no other of their streams may begin then."""
    for block in readable_blocks(damaged, found.keys):
        for _, message in block.messages():
            if message.data_type == Gap.data_type:
                starts.note(*gap_start(message))


def _first(lost: LostBlock) -> int:
    return lost.first


def _number(each: Numbered) -> int:
    return each[0]
