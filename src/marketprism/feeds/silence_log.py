"""Silences in the log: one line for those found in one look, as a halt makes them. Pure."""

from collections import defaultdict
from collections.abc import Sequence

from structlog.typing import FilteringBoundLogger

from marketprism.feeds.freshness import Remedy
from marketprism.streams.subscription import Stream


def tell_silences(
    log: FilteringBoundLogger, silent: Sequence[tuple[Stream, Remedy, float]]
) -> None:
    """Log streams that are silent, with what is done about each and for how many seconds each may
    be: one as it is; several that are answered alike in one line, and each at DEBUG.
    """
    alike: dict[Remedy, list[tuple[Stream, float]]] = defaultdict(list)
    for stream, answer, limit in silent:
        alike[answer].append((stream, limit))
    for answer, found in alike.items():
        word = answer.name.lower()
        say = log.warning if len(found) == 1 else log.debug
        for (data_type, native_id), limit in found:
            told = {"data_type": str(data_type), "instrument": native_id, "answer": word}
            say("stream.silent", seconds=round(limit), **told)
        if len(found) > 1:
            limits = [round(limit) for _, limit in found]
            log.warning("streams.silent", streams=len(found), answer=word, seconds=min(limits))
