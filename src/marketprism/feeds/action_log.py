"""What a session answers with that is only to be told: in the log, and counted."""

import structlog

from marketprism.board.rows import ConnectionRow
from marketprism.feeds.actions import Diverged, Park, Reject
from marketprism.feeds.services import Services

log = structlog.get_logger()


class ActionLog:
    """Of one connection."""

    def __init__(self, row: ConnectionRow, services: Services) -> None:
        self._row = row
        self._services = services
        self._samples: dict[str, int] = {}
        """How often each reason of a reject was met."""

    def tell(self, step: Reject | Park | Diverged) -> None:
        """It happened."""
        match step:
            case Reject():
                self._services.reject(self._row.venue, self._row.id, step, self._samples)
            case Park(stream=(data_type, native_id), reason=reason):
                log.warning(
                    "stream.parked",
                    connection=self._row.name,
                    data_type=str(data_type),
                    instrument=native_id,
                    reason=reason,
                )
            case Diverged(stream=(_, native_id), levels=levels, sample=sample):
                log.warning(
                    "book.diverged",
                    connection=self._row.name,
                    instrument=native_id,
                    levels=levels,
                    sample=sample,
                )
