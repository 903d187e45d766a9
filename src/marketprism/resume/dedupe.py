"""What the stream holds already of what we would send again.

JetStream refuses what it stored a moment ago by its message id, but forgets the ids after its
duplicate window. Beyond it, the last message of a subject is the proof: what is published of a
subject over one connection is stored in order, so that all we hold up to that message is stored.

It proves nothing where order was broken: behind a message that the server refused, or whose
acknowledgement was left out while later ones came, others may be stored. Nor where the last
message is not ours: a second collector of the same market may have written it, or ours may have
been deleted. There all is sent again, and the duplicate window is what is left. A message that
the server refused, later ones that it took, and no word of all that reached us: this would pass
for stored. What is stored after the question was put (from the former connection, which the server
may not have read to its end) is within the window, as it happens in the same moment.
"""

from collections.abc import Collection

import structlog

from marketprism.board.board import Board
from marketprism.outbox.outbox import Outbox
from marketprism.resume.last_message import Last
from marketprism.wire import origin

log = structlog.get_logger()


async def dedupe(outbox: Outbox, last: Last, board: Board, out_of_order: Collection[str]) -> None:
    """Forget what the stream shows to hold already, before anything is sent again.

    `out_of_order` are the subjects whose last message proves nothing.

    Raises SinkLost or SinkRefused.
    """
    doubtful = [subject for subject in outbox.in_doubt() if subject not in out_of_order]
    if not doubtful:
        return
    stored = await last(doubtful)
    total = 0
    for subject in doubtful:
        message = stored.get(subject)
        total += await forget(outbox, board, subject, None if message is None else message.msg_id)
    log.info("sink.settled", subjects=len(doubtful), stored=total)


async def forget(outbox: Outbox, board: Board, subject: str, msg_id: str | None) -> int:
    """Forget what the outbox holds of a subject up to a message that is stored; how many that is.

    They count as published.
    """
    settled = await outbox.forget_stored(subject, msg_id)
    if settled:
        board.published[origin(subject)] += settled
        board.sink.acknowledged += settled
    return settled
