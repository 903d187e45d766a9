"""How far back the stream reaches: the time of its oldest message, asked for now and then."""

import datetime

import structlog
import trio

from marketprism.board.rows import SinkRow
from marketprism.errors import SinkLost, SinkRefused
from marketprism.sinks.jetstream import Ask, first_message

EVERY, SOON = 60.0, 5.0
"""Seconds between two questions; the second while the stream is empty, or nobody can say."""

log = structlog.get_logger()


async def watch(ask: Ask, stream: str, row: SinkRow) -> None:
    """Keep the row's `oldest_message` up to date until cancelled; None while nobody can say.

    Whether the connection is of any use is judged by what is published over it, not here.
    """
    while True:
        try:
            text = first_message(await ask(f"STREAM.INFO.{stream}", {}))
        except (SinkLost, SinkRefused) as failure:
            log.debug("sink.age_unknown", stream=stream, reason=str(failure))
            text = None
        row.oldest_message = None if text is None else nanoseconds(text)
        await trio.sleep(SOON if row.oldest_message is None else EVERY)


def nanoseconds(text: str) -> int | None:
    """A time of the server since the epoch, to the microsecond; None where it is none."""
    try:
        since = datetime.datetime.fromisoformat(text) - _EPOCH
    except (ValueError, TypeError, OverflowError):
        return None
    return since // datetime.timedelta(microseconds=1) * 1_000


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
